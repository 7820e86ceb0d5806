(ns avout.state
  "Containers of the program's own: they keep the values of refs (VersionedStateContainer) or of atoms (StateContainer)
  in this process, and take part in transactions like any other value. Avout's protocols: one container keeps one
  reference. avout.core/distributed-ref and distributed-atom offer them to the daemon. Methods block, may be called by
  several threads at once, and again with the same arguments; what they throw reaches the caller of the transaction. A
  container that is away makes its own references unavailable, and nothing else."
  (:require [avout.values :as values])
  (:import (dev.stmd ContainerException)
           (io.grpc Status$Code)
           (java.util Optional)))

(set! *warn-on-reflection* true)

(defprotocol StateContainer
  "Keeps copies of an atom."
  (initStateContainer [this] "It is about to be used; may come again.")
  (destroyStateContainer [this] "The atom was deleted.")
  (getState [this] "The value that was set last.")
  (setState [this value] "As durable as its owner wants values to be, once it returns."))

(defprotocol VersionedStateContainer
  "Keeps a ref's values, each under a version: a text of a-z, 0-9 and \"-\", at most 64 long, used once."
  (initVersionedStateContainer [this] "It is about to be used; may come again.")
  (destroyVersionedStateContainer [this] "The ref was deleted: nothing under a version may go.")
  (getStateAt [this version] "The value under a version; :stm/absent if there is none.")
  (setStateAt [this value version] "As durable as its owner wants committed values to be, once it returns.")
  (deleteStateAt [this version] "Fine also when there is none."))

(defn ^:no-doc router
  "What one offer keeps: containers by the entry's name, and the newest version that an atom's has."
  [prefix]
  {:prefix prefix :containers (atom {}) :versions (atom {}) :gates (atom {})})

(defn ^:no-doc keep!
  "This container keeps this entry from now on."
  [{:keys [containers prefix]} name container]
  (swap! containers assoc (str prefix name) container))

(defn- container [{:keys [containers]} ^String name]
  (or (get @containers name)
      (throw (ContainerException. Status$Code/UNAVAILABLE
                                  (str name " has no container in this process: make it by distributed-ref or distributed-atom")))))

(defn ^:no-doc versioned
  "For refs."
  ^dev.stmd.VersionedStateContainer [router]
  (reify dev.stmd.VersionedStateContainer
    (init [_ name] (initVersionedStateContainer (container router name)))
    (destroy [_ name] (destroyVersionedStateContainer (container router name)))
    (getStateAt [_ name stamp]
      (let [found (getStateAt (container router name) stamp)]
        (if (= found :stm/absent) (Optional/empty) (Optional/of (values/encode found)))))
    (setStateAt [_ name stamp value]
      (setStateAt (container router name) (values/natural value) stamp))
    (deleteStateAt [_ name stamp]
      (deleteStateAt (container router name) stamp))))

(defn- in-order
  "f, unless something newer has come before; one at a time for an entry."
  [{:keys [versions gates]} name version f]
  (locking (get (swap! gates update name #(or % (Object.))) name)
    (when (<= (:version (get @versions name) -1) version)
      (let [kept (f)]
        (swap! versions assoc name {:version version :kept kept})))
    nil))

(defn ^:no-doc unversioned
  "For atoms."
  ^dev.stmd.StateContainer [router]
  (reify dev.stmd.StateContainer
    (init [_ name] (initStateContainer (container router name)))
    (destroy [_ name version]
      (in-order router name version (fn [] (destroyStateContainer (container router name)) false)))
    (getState [_ name]
      (let [kept (container router name)]
        (if (false? (:kept (get @(:versions router) name)))
          (Optional/empty)
          (Optional/of (values/encode (getState kept))))))
    (setState [_ name value version]
      (in-order router name version (fn [] (setState (container router name) (values/natural value)) true)))))
