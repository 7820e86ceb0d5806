(ns avout.core
  "Refs, atoms and transactions that all processes share, by Avout's names, kept by stmd. A transaction is dynamic:
  inside dosync!! a deref reads of its snapshot, and what is written is seen there alone until the commit. Handles do
  no I/O when they are made, but for an init that resets. Errors are ex-info with :stm/reason, :stm/name and
  :stm/retryable (avout.errors). Times are milliseconds. Any thread."
  (:require [avout.errors :as errors :refer [guard]]
            [avout.state :as state]
            [avout.values :as values]
            [clojure.set :as set]
            [clojure.string :as str])
  (:import (clojure.lang IBlockingDeref IFn ILookup IPending IRef LockingTransaction Seqable Sequential)
           (dev.stmd Atom Change ChangeKind Commit Committed CommuteResult ConnectOptions
                     Definition Entry Handle Held Isolation
                     JavaLock Meta Offer Op ReadOptions Recorded Records Ref Rerun Stm StmException TransactOptions Tx
                     TxFunction View Watch)
           (java.io Closeable)
           (java.time Duration Instant)
           (java.util Date Optional OptionalLong)
           (java.util.function Consumer LongConsumer Supplier UnaryOperator)
           (java.util.logging Level Logger)))

(set! *warn-on-reflection* true)

(def ^:private ^Logger logger (Logger/getLogger "dev.stmd"))

(def watch-wait-ms-max
  "How long a call that changed something waits, at most, for the watches of its change: only an outage lasts so long."
  10000)

(def ^:private watch-progress-ms 1000)
;; Before a watch that an outage ended is set again.
(def ^:private watch-again-ms 1000)

;; ---- Connecting

(deftype Client [^Stm stm ^String prefix watchings offers]
  Closeable
  (close [_]
    (.close stm))
  Object
  (toString [_] (str "#<stmd " (.address stm) ">")))

(defmethod print-method Client [client ^java.io.Writer out]
  (.write out (str client)))

(defn java-client
  "The Java client beneath, dev.stmd.Stm: for what has no name here."
  ^Stm [^Client client]
  (.stm client))

(defn- millis [ms]
  (when ms (Duration/ofMillis ms)))

(defn- consumer ^Consumer [f]
  (reify Consumer (accept [_ x] (f x))))

(defn- who [^Meta by]
  {:label (.label by) :client (.client by) :traceparent (.traceparent by) :principal (.principal by)})

(defn- check-port [address]
  (doseq [one (str/split (or (not-empty address) (System/getenv "STM_ADDRESS") "") #",")]
    (when (re-find #":2181(/|$)" (str/trim one))
      (throw (ex-info (str one ": 2181 is ZooKeeper's port, and programs connect to stmd, which talks to "
                           "ZooKeeper itself: connect to stmd's address, as \"" (first (str/split (str/trim one) #":")) ":7440\"")
                      {:stm/reason :bad-value :stm/name one :stm/retryable false})))))

(defn connect
  "A client of stmd, once a daemon is ready. An address is \"host:port\" or \"unix:/path\", several by comma; \"\" or
  none: STM_ADDRESS, else 127.0.0.1:7440. Options: :prefix \"/team-a\" (every name is below it), :client-name (kept
  with each commit), :unavailable-timeout-ms (10000: how long calls wait out an outage; 0: one try), :session-ttl-ms
  (0: the daemon's 15 s), :warn (a function of a text, else the logger dev.stmd), :on-transaction (a function of
  {:label :runs :took-ms :error})."
  ([] (connect ""))
  ([address & {:keys [prefix client-name unavailable-timeout-ms session-ttl-ms warn on-transaction]}]
   (check-port address)
   (guard
    (let [options (cond-> (.mapper (.address (ConnectOptions.) (or address "")) values/mapper)
                    prefix (as-> ^ConnectOptions o (.prefix o prefix))
                    client-name (as-> ^ConnectOptions o (.clientName o client-name))
                    unavailable-timeout-ms (as-> ^ConnectOptions o
                                                (.unavailableTimeout o (millis unavailable-timeout-ms)))
                    session-ttl-ms (as-> ^ConnectOptions o (.sessionTtl o (millis session-ttl-ms)))
                    warn (as-> ^ConnectOptions o (.warn o (consumer warn)))
                    on-transaction
                    (as-> ^ConnectOptions o
                        (.onTransaction o (consumer (fn [^dev.stmd.Transacted t]
                                                      (on-transaction {:label (.label t) :runs (.runs t)
                                                                       :took-ms (/ (.toNanos (.took t)) 1e6)
                                                                       :error (.error t)}))))))]
      (Client. (Stm/connect ^ConnectOptions options) (or prefix "") (atom {}) (atom {}))))))

;; ---- What runs on this thread

;; The references that the running body wrote, in a volatile; nil: no body of dosync!! runs here.
(def ^:private ^ThreadLocal running (ThreadLocal.))
;; True while a function that was given to swap!! runs: what it calls is outside of the swap's own transaction.
(def ^:private ^ThreadLocal swapping (ThreadLocal.))
;; True on a thread that runs watches.
(def ^:private ^ThreadLocal watching (ThreadLocal.))

(defn- with-local [^ThreadLocal local value f]
  (let [before (.get local)]
    (.set local value)
    (try (f) (finally (.set local before)))))

(defn- outside* [f]
  (if (and (.get swapping) (Tx/current))
    (let [task (future-call f)]
      (try @task
           (catch java.util.concurrent.ExecutionException e (throw (or (.getCause e) e)))
           (catch InterruptedException e (future-cancel task) (throw e))))
    (f)))

(defmacro ^:private outside
  "The body, outside of the transaction of the swap!! whose function calls it."
  [& body]
  `(let [f# (fn [] ~@body)] (if (.get swapping) (outside* f#) (f#))))

(defn- transaction ^Tx [what]
  (or (when-not (.get swapping) (Tx/current))
      (throw (ex-info (str what " outside of a transaction: put it inside dosync!!")
                      {:stm/reason :transaction-closed :stm/name "" :stm/retryable false}))))

(defmacro io!!
  "Marks code that must not run in a transaction, because a re-run would repeat it: inside dosync!! the transaction
  ends by :in-transaction. Else the body's value."
  [& body]
  `(do (guard (Stm/io)) ~@body))

;; ---- Watches of references

(deftype ^:private Watching [^Handle handle watches monitor version over]
  Closeable
  (close [_]
    (vreset! over true)
    (locking monitor (.notifyAll ^Object monitor))))

(defn- advance [^Watching w version]
  (locking (.monitor w)
    (vreset! (.version w) version)
    (.notifyAll ^Object (.monitor w))))

(defn- await-version [^Watching w version]
  (let [until (+ (System/nanoTime) (* 1000000 (long watch-wait-ms-max)))]
    (locking (.monitor w)
      (loop []
        (let [left (quot (- until (System/nanoTime)) 1000000)]
          (when (and (< (long @(.version w)) (long version)) (not @(.over w)) (pos? left))
            (.wait ^Object (.monitor w) left)
            (recur)))))))

(defn- told [value]
  (if (identical? value Stm/ABSENT) :stm/absent value))

(defn- or-nil [value]
  (when-not (identical? value Stm/ABSENT) value))

(defn- deliver-change [^Watching w reference before after]
  (doseq [[key [_ f]] @(.watches w)]
    (try (f key reference (or-nil before) (or-nil after))
         (catch Throwable thrown
           (.log logger Level/WARNING (str "watch_failed key=" (pr-str key) " ref=" (.name ^Handle (.handle w)))
                thrown)))))

(defn- changed-to [^Commit commit]
  (if-let [^Change change (last (.changes commit))] (.after change) Stm/ABSENT))

(defn- read-stream
  "Until it is closed. What is known last is in the volatile `known`."
  [^Watching w reference ^Watch stream known]
  (loop []
    (when-let [^Commit commit (and (not @(.over w)) (.next stream))]
      (if (.initial commit)
        (let [before @known
              now (changed-to commit)]
          (vreset! known now)
          (when-not (or (= before ::nothing) (= before now)) (deliver-change w reference before now)))
        (doseq [^Change change (.changes commit)
                :when (not= ChangeKind/DEFINED (.kind change))]
          (let [before (if (.beforeUnknown change) @known (.before change))]
            (vreset! known (.after change))
            (deliver-change w reference before (.after change)))))
      (advance w (.version commit))
      (recur))))

(defn- run-watches [^Client client ^Watching w reference]
  (.set watching true)
  (let [known (volatile! ::nothing)]
    (try
      (loop []
        (let [again (try
                      (with-open [^Watch stream (.watch (java-client client)
                                                   (into-array String [(.name ^Handle (.handle w))]))]
                        (doto stream
                          (.initial)
                          (.progressEvery (millis watch-progress-ms))
                          (.onProgress (reify LongConsumer (accept [_ version] (advance w version)))))
                        (read-stream w reference stream known))
                      false
                      (catch StmException failed
                        (when (and (not @(.over w)) (.retryable failed))
                          (.log logger Level/WARNING (str "watch_broken ref=" (.name ^Handle (.handle w))) failed)
                          (locking (.monitor w) (.wait ^Object (.monitor w) (long watch-again-ms)))
                          (not @(.over w)))))]
          (when again (recur))))
      (finally (.close w)))))

(defn- await-watches
  "Until the watches of what this thread changed have run. Not on a thread that runs watches, which would wait for
  itself."
  [^Client client names version]
  (when-not (or (zero? (long version)) (.get watching))
    (when-let [all (not-empty @(.watchings client))]
      (doseq [name names
              w (get all name)]
        (await-version w version)))))

;; ---- References

(declare read-reference set-rule! rule-of add-watch* remove-watch* close-watches)

(deftype Reference [^Client client ^Handle handle has-init made validator watched]
  IRef
  (deref [this] (read-reference this))
  (setValidator [this f] (set-rule! this f))
  (getValidator [this] (or @validator (rule-of this)))
  (getWatches [_] (if-let [^Watching w @watched] (update-vals @(.watches w) first) {}))
  (addWatch [this key f] (add-watch* this key f))
  (removeWatch [this key] (remove-watch* this key))
  IBlockingDeref
  (deref [this ms otherwise]
    (try (read-reference this ms)
         (catch clojure.lang.ExceptionInfo e
           (if (= :deadline (:stm/reason (ex-data e))) otherwise (throw e)))))
  Closeable
  (close [this] (close-watches this))
  Object
  (toString [_] (str "#<" handle ">")))

(defmethod print-method Reference [reference ^java.io.Writer out]
  (.write out (str reference)))

(defn- handle-of ^Handle [^Reference reference]
  (.handle reference))

(defn java-handle
  "The Java client's handle beneath, dev.stmd.Ref or Atom: for what has no name here, as define."
  ^Handle [reference]
  (handle-of reference))

(defn- atom-of ^Atom [reference what]
  (let [handle (handle-of reference)]
    (when-not (instance? Atom handle)
      (throw (ex-info (str (.name handle) " is a ref, and " what " is for atoms: use ref-set!! or alter!!")
                      {:stm/reason :wrong-kind :stm/name (.name handle) :stm/retryable false})))
    handle))

(defn- ref-of ^Ref [reference what]
  (let [handle (handle-of reference)]
    (when-not (instance? Ref handle)
      (throw (ex-info (str (.name handle) " is an atom, and " what " is for refs: use swap!! or reset!!")
                      {:stm/reason :wrong-kind :stm/name (.name handle) :stm/retryable false})))
    handle))

(defn- read-in [^Tx tx ^Reference reference]
  (guard (if (.has-init reference)
           (.get tx (handle-of reference))
           (.getOr tx (handle-of reference) nil))))

(defn- read-reference
  ([^Reference reference] (read-reference reference nil))
  ([^Reference reference ms]
   (if-let [tx (when-not (.get swapping) (Tx/current))]
     (read-in tx reference)
     (let [options (.timeout ReadOptions/DEFAULT (millis ms))
           handle (handle-of reference)]
       (outside (guard (if (.has-init reference) (.get handle options) (.getOr handle nil options))))))))

(defn- rule-of [^Reference reference]
  (let [^Optional definition (outside (guard (.definition (handle-of reference))))]
    (when (.isPresent definition) (.validator ^Definition (.get definition)))))

(defn- check-value [^Reference reference value]
  (when-let [f @(.validator reference)]
    (when-not (f value)
      (let [name (.name (handle-of reference))]
        (throw (errors/rejection (str "Invalid reference state: " name " is not to be " (pr-str value) " by its validator")
                                 {:stm/reason :rejected :stm/name name :stm/retryable false :stm/reject-cause :validator}
                                 nil))))))

(defn exists!!
  "Whether there is an entry: @r is nil for absent and for nil."
  [^Reference reference]
  (if-let [tx (when-not (.get swapping) (Tx/current))]
    (guard (.exists tx (handle-of reference)))
    (outside (guard (.exists (handle-of reference))))))

(defn- read-options ^ReadOptions [{:keys [timeout-ms]}]
  (.timeout ReadOptions/DEFAULT (millis timeout-ms)))

(defn get!!
  "As @r, but that an absent entry of a reference without an init is the error :absent, where @r is nil. :timeout-ms,
  outside of transactions: then :deadline."
  [^Reference reference & {:as options}]
  (if-let [tx (when-not (.get swapping) (Tx/current))]
    (guard (.get tx (handle-of reference)))
    (outside (guard (.get (handle-of reference) (read-options options))))))

(defn find!!
  "The value, or :stm/absent where there is no entry, whatever the init. Options as of get!!."
  [^Reference reference & {:as options}]
  (told (if-let [tx (when-not (.get swapping) (Tx/current))]
          (guard (.getOr tx (handle-of reference) Stm/ABSENT))
          (outside (guard (.getOr (handle-of reference) Stm/ABSENT (read-options options)))))))

(defn- set-rule! [^Reference reference f]
  (let [rule? (or (vector? f) (keyword? f))]
    (if rule?
      (vreset! (.validator reference) nil)
      (do (when f
            (let [before @(.validator reference)]
              (vreset! (.validator reference) f)
              (when (exists!! reference)
                (try (check-value reference @reference)
                     (catch Throwable e (vreset! (.validator reference) before) (throw e))))))
          (vreset! (.validator reference) f)))
    (when (or rule? (and (nil? f) (rule-of reference)))
      (outside
       (guard
        (let [^Optional found (.definition (handle-of reference))
              ^Definition was (if (.isPresent found) (.get found) Definition/NONE)
              kept (-> Definition/NONE (.ttl (.ttl was)) (.ephemeral (.ephemeral was)))]
          (.define (handle-of reference) (if rule? (.validator kept f) kept))))))))

(defn- add-watch* [^Reference reference key f]
  (let [^Client client (.client reference)
        name (.name (handle-of reference))]
    (guard (Stm/io))
    (locking reference
      (let [^Watching there @(.watched reference)
            ^Watching w (if (and there (not @(.over there)))
                          there
                          (Watching. (handle-of reference) (atom (if there @(.watches there) {}))
                                     (Object.) (volatile! -1) (volatile! false)))]
        (swap! (.watches w) assoc key [f (bound-fn* f)])
        (when-not (identical? w there)
          (vreset! (.watched reference) w)
          (swap! (.watchings client) update name (fnil conj #{}) w)
          (doto (Thread. ^Runnable (fn []
                                     (try (run-watches client w reference)
                                          (finally (swap! (.watchings client) update name disj w))))
                         (str "stmd-watch " name))
            (.setDaemon true)
            (.start))
          ;; Whatever changes from now on is told.
          (await-version w 0))))
    reference))

(defn- close-watches [^Reference reference]
  (locking reference
    (when-let [^Watching w @(.watched reference)]
      (vreset! (.watched reference) nil)
      (.close w))))

(defn- remove-watch* [^Reference reference key]
  (locking reference
    (when-let [^Watching w @(.watched reference)]
      (when (empty? (swap! (.watches w) dissoc key)) (close-watches reference))))
  reference)

(defn- definition [{:keys [validator ttl-ms ephemeral container]}]
  (cond-> Definition/NONE
    (and validator (or (vector? validator) (keyword? validator))) (as-> ^Definition d (.validator d validator))
    ttl-ms (as-> ^Definition d (.ttl d (millis ttl-ms)))
    ephemeral (as-> ^Definition d (.ephemeral d true))
    container (as-> ^Definition d (.container d container))))

(defn- reference [^Client client kind name init {:keys [type validator] :as options}]
  (guard
   (let [stm (java-client client)
         type (or type Object)
         made (definition options)
         handle (if (= kind :atom) (.atomOf stm name type init made) (.refOf stm name type init made))
         function (when-not (or (vector? validator) (keyword? validator)) validator)]
     (Reference. client handle (not (identical? init Stm/ABSENT)) made (volatile! function) (volatile! nil)))))

(defn- atom-name [name]
  (str name "/data"))

(declare dosync* ref-set!! reset!!)

(defn- made-ref [^Client client name init options]
  (let [made (reference client :ref name Stm/ABSENT options)]
    (when-not (identical? init Stm/ABSENT)
      (dosync* client nil (fn [] (ref-set!! made init))))
    made))

(defn- made-atom [^Client client name init options]
  (let [made (reference client :atom (atom-name name) Stm/ABSENT options)]
    (when-not (identical? init Stm/ABSENT) (reset!! made init))
    made))

(defn stm-ref
  "A ref that is made with the init if it is absent, in the first transaction that touches it, and is never
  overwritten. Options: :validator (a function, checked in this client before the commit; a vector or keyword is a rule
  that the daemon keeps and checks for everybody), :ttl-ms (after its last write; none: for ever), :ephemeral true
  (until this client's session ends), :container (\"mongo\", \"offered:NAME\"; none: inline), :type (a record's class:
  other values are :bad-value)."
  ([client name] (reference client :ref name Stm/ABSENT nil))
  ([client name init & {:as options}] (reference client :ref name init options)))

(defn stm-atom
  "An atom that is made with the init if it is absent, by the first that changes it. Options as of stm-ref. An atom
  \"/a\" is the entry \"/a/data\"."
  ([client name] (reference client :atom (atom-name name) Stm/ABSENT nil))
  ([client name init & {:as options}] (reference client :atom (atom-name name) init options)))

(defn atom-at
  "As stm-atom, by the whole name of the entry: for atoms that programs in other languages made."
  ([client name] (reference client :atom name Stm/ABSENT nil))
  ([client name init & {:as options}] (reference client :atom name init options)))

(defn zk-ref
  "A ref. An init resets it, now; without one it connects to what is there. Options as of stm-ref."
  ([client name] (made-ref client name Stm/ABSENT nil))
  ([client name init & {:as options}] (made-ref client name init options)))

(defn zk-atom
  "An atom. An init resets it, now; without one it connects to what is there. Options as of stm-ref."
  ([client name] (made-atom client name Stm/ABSENT nil))
  ([client name init & {:as options}] (made-atom client name init options)))

(defn local-ref
  "A ref of this name in the daemon's memory, which ends with the daemon: \"/r\" is the entry \"/.memory/r\". As zk-ref
  else."
  ([client name] (made-ref client (str "/.memory" name) Stm/ABSENT nil))
  ([client name init & {:as options}] (made-ref client (str "/.memory" name) init options)))

(defn- mongo [make client args]
  ;; The daemon has the connection to MongoDB: one that is given, as in Avout, is of no account.
  (let [[name & more] (if (string? (first args)) args (rest args))
        [init & {:as options}] (if (seq more) more [Stm/ABSENT])]
    (make client name init (assoc options :container "mongo"))))

(defn mongo-ref
  "As zk-ref, with values kept in MongoDB by the daemon: (mongo-ref client name), (mongo-ref client name init), or with
  a connection before the name, as in Avout; the daemon uses its own."
  [client & args]
  (mongo made-ref client args))

(defn mongo-atom
  "As zk-atom, with values kept in MongoDB by the daemon. Arguments as of mongo-ref."
  [client & args]
  (mongo made-atom client args))

(defn- offered [^Client client offer]
  (locking client
    (or (get @(.offers client) offer)
        (let [router (state/router (.prefix client))
              made (guard (.offer (java-client client) ^String offer
                                 (state/versioned router) (state/unversioned router)))]
          (get (swap! (.offers client) assoc offer {:router router :offer made}) offer)))))

(defn- distributed [make kept-as client name container args]
  (let [[init & {:keys [offer] :as options}] (if (seq args) args [Stm/ABSENT])
        offer (or offer "avout")]
    (state/keep! (:router (offered client offer)) (kept-as name) container)
    (make client name init (assoc (dissoc options :offer) :container (str "offered:" offer)))))

(defn distributed-ref
  "A ref whose values are kept by a VersionedStateContainer (avout.state) in this process, offered to the daemon while
  the client is open: (distributed-ref client \"/r\" container), and an init that resets, and options as of stm-ref;
  :offer is the name that it is offered under (\"avout\"), which one process of a daemon has at a time."
  [client name container & args]
  (distributed made-ref identity client name container args))

(defn distributed-atom
  "An atom whose values are kept by a StateContainer (avout.state) in this process. Arguments as of distributed-ref."
  [client name container & args]
  (distributed made-atom atom-name client name container args))

;; ---- Transactions

(defn- touch! [^Reference reference]
  (when-let [touched (.get running)] (vswap! touched conj reference)))

(defn- check-touched [^Tx tx touched]
  (doseq [^Reference reference touched
          :when @(.validator reference)]
    (when (guard (.exists tx (handle-of reference))) (check-value reference (read-in tx reference)))))

(defn- rerun [^Rerun r]
  {:run (.run r) :why (.why r)
   :causes (mapv (fn [^dev.stmd.ConflictCause c] {:name (.name c) :version (.version c) :by (who (.by c))})
                 (.causes r))})

(defn- committed [^Committed c]
  {:version (.version c) :at (Date/from (.at c)) :transaction-id (.transactionId c)
   :repeated (.repeated c) :resends (.resends c)})

(defn- options-of ^TransactOptions
  [{:keys [timeout-ms label isolation once once-ttl-ms runs-max stale-ok rerun-check
           on-rerun on-committed traceparent]}]
  (cond-> TransactOptions/DEFAULT
    timeout-ms (as-> ^TransactOptions o (.timeout o (millis timeout-ms)))
    label (as-> ^TransactOptions o (.label o label))
    traceparent (as-> ^TransactOptions o (.traceparent o traceparent))
    (= isolation :snapshot) (as-> ^TransactOptions o (.isolation o Isolation/SNAPSHOT))
    once (as-> ^TransactOptions o (.once o once))
    once-ttl-ms (as-> ^TransactOptions o (.onceTtl o (millis once-ttl-ms)))
    runs-max (as-> ^TransactOptions o (.runsMax o (int runs-max)))
    stale-ok (as-> ^TransactOptions o (.staleOk o true))
    rerun-check (as-> ^TransactOptions o (.rerunCheck o true))
    on-rerun (as-> ^TransactOptions o (.onRerun o (consumer (comp on-rerun rerun))))
    on-committed (as-> ^TransactOptions o (.onCommitted o (consumer (comp on-committed committed))))))

(defn- noting
  "Options by which the volatile gets the commit's version."
  ^TransactOptions [version]
  (.onCommitted TransactOptions/DEFAULT (consumer (fn [^Committed c] (vreset! version (.version c))))))

(deftype ^:private Commuted [^CommuteResult result]
  IPending
  (isRealized [_] (.known result))
  clojure.lang.IDeref
  (deref [_]
    (if (.known result)
      (guard (.get result))
      (throw (IllegalStateException. "a commute's result comes with the commit: deref it after dosync!!")))))

(defn- settled [value]
  (if (instance? Commuted value)
    (when (realized? value) @value)
    value))

(defn- join [^Client client ^TransactOptions options f]
  (let [touched (.get running)
        mark (some-> touched deref)]
    (try (guard (.transactResult (java-client client) options (reify TxFunction (apply [_ _] (f)))))
         (catch Throwable e
           (when touched (vreset! touched mark))
           (throw e)))))

(defn- begin [^Client client ^TransactOptions options f]
  (let [last-run (volatile! nil)
        version (volatile! 0)
        result (guard
                (.transactResult
                 (java-client client) options
                 (reify TxFunction
                   (apply [_ tx]
                     (let [touched (volatile! #{})]
                       (vreset! last-run touched)
                       (.onCommitted ^Tx tx (consumer (fn [^Committed c] (vreset! version (.version c)))))
                       (with-local running touched
                         (fn []
                           (let [value (f)]
                             (check-touched tx @touched)
                             value))))))))]
    (when-let [touched @last-run]
      (await-watches client (into #{} (map #(.name (handle-of %))) @touched) @version))
    (settled result)))

(defn dosync*
  "What dosync!! is made of: a function without arguments in place of the body; options nil or a map."
  [^Client client options f]
  (when (LockingTransaction/isRunning)
    (throw (IllegalStateException. "dosync!! inside Clojure's own dosync, which may run it again: call it outside")))
  (let [options (options-of options)]
    (if (and (Tx/current) (not (.get swapping)))
      (join client options f)
      (outside (begin client options f)))))

(defmacro dosync!!
  "Runs the body in a transaction: all or nothing, and again as long as others commit first what it read. It is a
  function of what it reads. Inside another dosync!! it joins that. Its value is the body's; of a body that ends in
  commute!!, the operation's result. A map that is written before the body has options: :timeout-ms, :label, :runs-max
  (0: no limit), :isolation (:serializable, :snapshot), :once (a key: a second transaction of that key runs nothing and
  returns the first one's value), :once-ttl-ms (24 h), :stale-ok, :rerun-check, :on-rerun, :on-committed, :traceparent."
  [client & body]
  (let [options (when (and (map? (first body)) (next body)) (first body))]
    `(dosync* ~client ~options (fn [] ~@(if options (rest body) body)))))

(defn ref-set!!
  "Sets a ref, inside dosync!!. Lazy values are realised now. Returns the value."
  [reference value]
  (let [tx (transaction "ref-set!!")]
    (guard (.set tx (ref-of reference "ref-set!!") value))
    (touch! reference)
    value))

(defn alter!!
  "Sets a ref to (f value args...), inside dosync!!; of an absent ref the value is its init, or nil. Returns the new
  value."
  [reference f & args]
  (let [tx (transaction "alter!!")]
    (ref-of reference "alter!!")
    (ref-set!! reference (apply f (read-in tx reference) args))))

(defn- numbers? [args]
  (every? #(or (int? %) (double? %) (instance? java.math.BigDecimal %) (instance? clojure.lang.BigInt %)) args))

(defn- operation
  "The daemon's operation that does the same as (f value args...); nil: there is none."
  [f args]
  (let [n (count args)]
    (cond
      (instance? Op f) f
      (and (= f inc) (zero? n)) (Op/add 1)
      (and (= f dec) (zero? n)) (Op/add -1)
      (and (= f not) (zero? n)) (Op/toggle)
      (zero? n) nil
      (and (= f +) (= n 1) (numbers? args)) (Op/add (first args))
      (and (= f -) (= n 1) (numbers? args) (not= (first args) Long/MIN_VALUE)) (Op/add (- (first args)))
      (and (= f min) (= n 1) (numbers? args)) (Op/min (first args))
      (and (= f max) (= n 1) (numbers? args)) (Op/max (first args))
      (= f conj) (Op/conj (object-array args))
      (= f disj) (Op/disj (object-array args))
      (= f dissoc) (Op/dissoc (object-array args))
      (and (= f assoc) (even? n)) (Op/assoc (object-array args))
      (and (= f into) (= n 1) (coll? (first args)) (seq (first args))) (Op/conj (to-array (first args)))
      (and (= f set/union) (= n 1) (set? (first args))) (Op/union (first args))
      (and (= f merge) (= n 1) (map? (first args)) (seq (first args))) (Op/merge (first args)))))

(defn commute!!
  "Changes a ref inside dosync!! so that others who do the same are no conflict: inc, dec, +, -, min, max, conj, into,
  disj, set/union, assoc, dissoc, merge, not and a dev.stmd.Op become operations of the daemon's, which meet the value
  of the commit. What it returns is derefed after the commit. Any other function, or a ref with a validator that is a
  function, becomes alter!!. A ref is not to be set or altered after it in one transaction."
  [^Reference reference f & args]
  (let [tx (transaction "commute!!")
        handle (ref-of reference "commute!!")
        op (when (or (instance? Op f) (nil? @(.validator reference))) (operation f args))]
    (if op
      (let [result (guard (.commute tx handle op))]
        (touch! reference)
        (Commuted. result))
      (apply alter!! reference f args))))

(defn ensure!!
  "Inside dosync!! with :isolation :snapshot: the commit fails if it has changed since. Returns the value."
  [^Reference reference]
  (let [tx (transaction "ensure!!")]
    (guard (.ensure tx (handle-of reference)))
    (guard (.getOr tx (handle-of reference) nil))))

(defn delete!!
  "Deletes the entry; absent is fine. Of a ref inside dosync!!, or as a transaction of its own."
  [^Reference reference]
  (let [handle (handle-of reference)]
    (if (instance? Atom handle)
      (outside
       (let [version (volatile! 0)]
         (guard (.delete ^Atom handle (noting version)))
         (await-watches (.client reference) [(.name handle)] @version)))
      (dosync* (.client reference) nil
               (fn []
                 (guard (.delete (transaction "delete!!") ^Ref handle))
                 (touch! reference))))
    nil))

(defn record!!
  "Keeps a record with the commit, inside dosync!!: of a registered class, or a tagged-literal. Returns it."
  [value]
  (guard (.record (transaction "record!!") value))
  value)

(defn retry!!
  "Abandons this run, sleeps until something that it read has changed, and runs the transaction again. Never returns."
  []
  (guard (.retry (transaction "retry!!"))))

(defn or-else*
  "What or-else!! is made of."
  [first-try second-try]
  (let [tx (transaction "or-else!!")
        touched (.get running)
        mark (some-> touched deref)]
    (guard (.orElse tx
                    (reify Supplier (get [_] (first-try)))
                    (reify Supplier (get [_] (when touched (vreset! touched mark)) (second-try)))))))

(defmacro or-else!!
  "The first form; where that retries, the next instead. What one wrote is dropped, what it read still counts."
  ([form] form)
  ([form & more] `(or-else* (fn [] ~form) (fn [] (or-else!! ~@more)))))

(defmacro on-commit!!
  "Runs the body once, when the commit is durable; never for a run that was abandoned."
  [& body]
  `(on-commit* (fn [] ~@body)))

(defn on-commit*
  "What on-commit!! is made of."
  [f]
  (guard (.onCommit (transaction "on-commit!!") ^Runnable f))
  nil)

(defprotocol Fenced
  "What fence!! takes: a lock of avout.locks, or a Held of the Java client."
  (^Held held [lock] "The grant that this thread has; IllegalMonitorStateException if it has none."))

(extend-protocol Fenced
  Held (held [held] held)
  JavaLock (held [lock] (.held lock)))

(defn fence!!
  "The transaction commits only while this thread's grant of the lock stands; else it throws :fence-lost, and nothing
  is changed."
  [lock]
  (guard (.fence (transaction "fence!!") ^Held (held lock)))
  nil)

;; ---- Atoms

(defn- settle-atom [^Reference reference f]
  (let [version (volatile! 0)
        result (guard (f (noting version)))]
    (await-watches (.client reference) [(.name (handle-of reference))] @version)
    result))

(defn swap!!
  "Sets an atom to (f value args...), in a transaction of its own, and returns the new value; of an absent atom the
  value is its init, or nil. The function may run several times; other atoms that it swaps are swapped by themselves.
  An dev.stmd.Op as f is applied by the daemon, never a conflict; its result is returned."
  [^Reference reference f & args]
  (let [handle (atom-of reference "swap!!")]
    (outside
     (if (and (instance? Op f) (nil? @(.validator reference)))
       (settle-atom reference (fn [^TransactOptions o] (.apply ^Atom handle ^Op f o)))
       (let [^Client client (.client reference)
             ^Atom target (if (.has-init reference)
                            handle
                            (.atomOf (java-client client) (.name handle) Object nil (.made reference)))]
         (settle-atom reference
                      (fn [^TransactOptions o]
                        (.swap target
                               (reify UnaryOperator
                                 (apply [_ before]
                                   (with-local swapping true
                                     (fn []
                                       (let [after (apply f before args)]
                                         (check-value reference after)
                                         after)))))
                               o))))))))

(defn reset!!
  "Sets an atom, whatever it was. Returns the value."
  [reference value]
  (let [handle (atom-of reference "reset!!")]
    (check-value reference value)
    (outside (settle-atom reference (fn [^TransactOptions o] (.reset ^Atom handle value o))))
    value))

(defn compare-and-set!!
  "Sets an atom if it is as expected, compared as EDN by the daemon; whether it was. An absent atom is its init, or
  nil, as @a is; :stm/absent expects that there is none."
  [^Reference reference expected value]
  (let [^Atom handle (atom-of reference "compare-and-set!!")]
    (check-value reference value)
    (outside
     (let [if-absent (fn [] (settle-atom reference (fn [^TransactOptions o] (.setIfAbsent handle value o))))]
       (if (= expected :stm/absent)
         (if-absent)
         (try (settle-atom reference (fn [^TransactOptions o] (.compareAndSet handle expected value o)))
              (catch clojure.lang.ExceptionInfo e
                (when-not (= :absent (:stm/reason (ex-data e))) (throw e))
                (and (nil? expected) (if-absent)))))))))

;; ---- Reading

(defn- entry [^Entry e]
  {:name (.name e) :value (.value e) :version (.version e) :atom? (.isAtom e)})

(deftype Past [^Client client ^View view]
  IFn
  (invoke [this reference] (.valAt this reference nil))
  (invoke [this reference otherwise] (.valAt this reference otherwise))
  ILookup
  (valAt [this reference] (.valAt this reference nil))
  (valAt [_ reference otherwise] (guard (.getOr view (handle-of reference) otherwise)))
  Object
  (toString [_] (str "#<at " (.version view) ">")))

(defn at!!
  "The past at a version, or at the newest version at or before a Date or Instant: (get past ref), (get past ref
  :none), (past ref), (list!! past \"/p/\"). :snapshot-too-old past the history that is kept."
  [^Client client when]
  (let [stm (java-client client)]
    (Past. client (guard (cond
                           (instance? Instant when) (.at stm ^Instant when)
                           (instance? Date when) (.at stm (.toInstant ^Date when))
                           :else (.at stm (long when)))))))

(defn list!!
  "Entries under a prefix, which ends in \"/\", all of one snapshot, by name: {:name :value :version :atom?}. Inside
  dosync!! an entry that comes or goes there before the commit is a conflict. Of a client, or of the past by at!!."
  [client prefix]
  (mapv entry
        (if (instance? Past client)
          (guard (.list ^View (.view ^Past client) prefix))
          (if-let [tx (when-not (.get swapping) (Tx/current))]
            (guard (.list tx prefix))
            (outside (guard (.list ^Stm (java-client client) ^String prefix)))))))

(defn- change [^Change c]
  {:name (.name c)
   :kind (keyword (.toLowerCase (.name (.kind c)) java.util.Locale/ROOT))
   :before (told (.before c)) :after (told (.after c))
   :before-unknown? (.beforeUnknown c) :atom? (.isAtom c)})

(defn- commit [^Commit c]
  {:version (.version c) :at (Date/from (.at c)) :transaction-id (.transactionId c) :by (who (.by c))
   :changes (mapv change (.changes c)) :records (vec (.records c)) :initial? (.initial c)})

(defn- one-by-one [next convert]
  (lazy-seq (when-some [found (guard (next))] (cons (convert found) (one-by-one next convert)))))

(deftype ^:private Stream [next convert close]
  Sequential
  Seqable
  (seq [_] (seq (one-by-one next convert)))
  Closeable
  (close [_] (close)))

(defn watch!!
  "Commits that change what is selected (names, and prefixes that end in \"/\"; none: all), in order, each once:
  {:version :at :by :changes [{:name :kind :before :after}] :records :initial?}. What is returned is seqable, once:
  each item is waited for, and what was taken is gone. It begins when it is first asked. Close it, by with-open or from
  another thread, to end it. Options: :initial true (first all as it is, as one commit), :after version, :conflate
  true, :timeout-ms (then :deadline), :progress-ms (10000), :on-synced and :on-progress (functions of a version)."
  [^Client client & args]
  (guard (Stm/io))
  (let [[selectors options] (split-with string? args)
        {:keys [initial after conflate timeout-ms progress-ms on-synced on-progress]} (apply hash-map options)
        ^Watch watch (guard (.watch (java-client client) (into-array String selectors)))]
    (when initial (.initial watch))
    (when after (.after watch (long after)))
    (when conflate (.conflate watch))
    (when timeout-ms (.timeout watch (millis timeout-ms)))
    (when progress-ms (.progressEvery watch (millis progress-ms)))
    (when on-synced (.onSynced watch (reify LongConsumer (accept [_ version] (on-synced version)))))
    (when on-progress (.onProgress watch (reify LongConsumer (accept [_ version] (on-progress version)))))
    (Stream. #(.next watch) commit #(.close watch))))

(defn records!!
  "Records of these types, in commit order, from the oldest kept: a lazy seq of {:version :at :transaction-id :by
  :value}. Types are registered classes or tags (\"blog.*\" is every tag that begins with \"blog.\"); none: all.
  Options: :from version, :to version, :timeout-ms, :follow true (it goes on as commits come, and is as what watch!!
  returns)."
  [^Client client & args]
  (guard (Stm/io))
  (let [[types options] (split-with (complement keyword?) args)
        {:keys [from to follow timeout-ms]} (apply hash-map options)
        ^Records records (guard (.recordsTagged (java-client client) (into-array String (map values/tag-of types))))
        convert (fn [^Recorded r]
                  {:version (.version r) :at (Date/from (.at r)) :transaction-id (.transactionId r)
                   :by (who (.by r)) :value (.value r)})]
    (when from (.from records (long from)))
    (when to (.to records (long to)))
    (when timeout-ms (.timeout records (millis timeout-ms)))
    (if follow
      (do (.follow records) (Stream. #(.next records) convert #(.close records)))
      (one-by-one #(.next records) convert))))

(defn history!!
  "Who changed a reference, when and why: the newest commits first, at most 100, as far as the log goes."
  [reference]
  (outside (guard (mapv commit (.history (handle-of reference))))))

(defn outcome!!
  "What became of a commit whose outcome was unknown, by (:stm/outcome-word (ex-data e)): its version; nil: it never
  was committed and never will be."
  [client word]
  (let [^OptionalLong found (guard (.outcome (java-client client) word))]
    (when (.isPresent found) (.getAsLong found))))

(defn register-record!
  "Makes record classes known, process-wide, so that #blog.CreateUser{...} reads back as one. The tag is the class's
  name, unless a string stands before the class. Fields are keywords in kebab case; those that a record has beside its
  own are kept."
  [& classes]
  (guard (apply values/register! classes)))
