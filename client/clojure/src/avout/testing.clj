(ns avout.testing
  "An stmd of a test's own, in memory, on a free port: (use-fixtures :once avout.testing/with-daemon). The program is
  that of the variable STMD, else stmd on the PATH; it ends with the tests."
  (:require [avout.core :as avout])
  (:import (dev.stmd.testing StmDaemon)
           (java.io Closeable)))

(set! *warn-on-reflection* true)

(def ^:dynamic *address* "The daemon's address, as connect takes it." nil)
(def ^:dynamic *client* "A client of it." nil)

(defn with-daemon
  "A fixture of clojure.test: the tests have *address* and *client*."
  [tests]
  (with-open [daemon (StmDaemon/start)
              ^Closeable client (avout/connect (.address daemon))]
    (binding [*address* (.address daemon)
              *client* client]
      (tests))))
