(ns conf.player
  "Plays what tests/conformance/play.py says by the Clojure client: a command a line on standard input, answers and
  events a line each on standard output (README.md there has the words). Each command has a thread of its own."
  (:require [avout.core :as avout]
            [avout.errors :refer [guard]]
            [avout.values :as values]
            [conf.point :as point])
  (:import (com.google.gson JsonArray JsonElement JsonNull JsonObject JsonParser JsonPrimitive)
           (com.google.protobuf.util JsonFormat)
           (conf.point Point)
           (dev.stmd AcquireOptions Held Lock Op Stm Tx)
           (io.grpc Grpc InsecureChannelCredentials ManagedChannel)
           (io.grpc.health.v1 HealthCheckRequest HealthGrpc)
           (java.io BufferedReader Closeable FileDescriptor FileOutputStream InputStreamReader PrintStream)
           (java.nio.charset StandardCharsets)
           (java.time Duration)
           (java.util Arrays)
           (java.util.concurrent.atomic AtomicLong)
           (stmd.v1 Items Map$Builder MapEntry Value Value$Builder Value$KindCase))
  (:gen-class))

(set! *warn-on-reflection* true)

(avout/register-record! "conf.Point" Point)

(def ^PrintStream out (PrintStream. (FileOutputStream. FileDescriptor/out) false StandardCharsets/UTF_8))
(def clients (atom {}))   ; name -> Client
(def channels (atom {}))  ; name -> ManagedChannel
(def held (atom {}))      ; name -> [client-name Held]
(def running (atom {}))   ; id -> {:thread :gone}

;; ---- JSON

(defn- native [^JsonElement json]
  (cond
    (nil? json) nil
    (.isJsonNull json) nil
    (.isJsonObject json) json
    (.isJsonArray json) json
    :else (let [p (.getAsJsonPrimitive json)]
            (cond (.isBoolean p) (.getAsBoolean p)
                  (.isNumber p) (.getAsLong p)
                  :else (.getAsString p)))))

(defn- at [^JsonObject object ^String name]
  (native (.get object name)))

(defn- text ^String [object name]
  (str (or (at object name) "")))

(defn- given? [^JsonObject object ^String name]
  (.has object name))

(defn- steps-of [^JsonArray array]
  (mapv native array))

(defn- strings [object name]
  (steps-of (at object name)))

;; Protocol Buffers' own JSON, but that its reader takes the sign from -0.0.
(declare signed)

(defn- signed-items ^Items [^Items items ^JsonObject json]
  (let [all (.getAsJsonArray json "items")
        made (Items/newBuilder)]
    (dotimes [i (.getItemsCount items)]
      (.addItems made ^Value (signed (.getItems items i) (.getAsJsonObject (.get all i)))))
    (.build made)))

(defn- signed [^Value value ^JsonObject json]
  (let [^Value$Builder made (.toBuilder value)]
    (case (.name (.getKindCase value))
      "FLOAT64" (.setFloat64 made (Double/parseDouble (.getAsString (.get json "float64"))))
      "LIST" (.setList made (signed-items (.getList value) (.getAsJsonObject json "list")))
      "VECTOR" (.setVector made (signed-items (.getVector value) (.getAsJsonObject json "vector")))
      "SET" (.setSet made (signed-items (.getSet value) (.getAsJsonObject json "set")))
      "TAGGED" (.setValue (.getTaggedBuilder made)
                          ^Value (signed (.getValue (.getTagged value))
                                         (.getAsJsonObject (.getAsJsonObject json "tagged") "value")))
      "MAP" (let [all (.getAsJsonArray (.getAsJsonObject json "map") "entries")
                  ^Map$Builder map (.getMapBuilder made)]
              (dotimes [i (.getEntriesCount (.getMap value))]
                (let [entry (.getAsJsonObject (.get all i))
                      ^MapEntry there (.getEntries (.getMap value) i)]
                  (doto (.getEntriesBuilder map i)
                    (.setKey ^Value (signed (.getKey there) (.getAsJsonObject entry "key")))
                    (.setValue ^Value (signed (.getValue there) (.getAsJsonObject entry "value")))))))
      nil)
    (.build made)))

(defn- value [^JsonElement json]
  (if (nil? json)
    :stm/absent
    (let [made (Value/newBuilder)
          said (str json)]
      (.merge (JsonFormat/parser) said made)
      (let [message (.build made)
            ^Value message (if (.contains said "-0") (signed message (.getAsJsonObject json)) message)]
        (if (= (.getKindCase message) Value$KindCase/KIND_NOT_SET) :stm/absent (values/natural message))))))

(defn- value-of [^JsonObject object ^String name]
  (value (.get object name)))

(defn- json ^JsonElement [x]
  (if (= x :stm/absent)
    (JsonObject.)
    (JsonParser/parseString (.print (JsonFormat/printer) (values/encode x)))))

(defn- element ^JsonElement [x]
  (cond
    (instance? JsonElement x) x
    (nil? x) JsonNull/INSTANCE
    (string? x) (JsonPrimitive. ^String x)
    (boolean? x) (JsonPrimitive. ^Boolean x)
    (number? x) (JsonPrimitive. ^Number x)
    (map? x) (let [made (JsonObject.)]
               (doseq [[k v] x] (.add made (name k) (element v)))
               made)
    :else (let [made (JsonArray.)]
            (doseq [item x] (.add made (element item)))
            made)))

(defn- say [id & {:as more}]
  (let [line (str (element (assoc more :id id)))]
    (locking out
      (.println out line)
      (.flush out))))

(defn- error [data message]
  {:reason (name (:stm/reason data)) :message message :name (:stm/name data "") :limit (:stm/limit data "")
   :word (:stm/outcome-word data "") :cause (name (:stm/reject-cause data ""))
   :causes (mapv (juxt :name :label :client) (:stm/causes data))})

(defn- commit-json [{:keys [version initial? by changes records]}]
  {:version (str version) :initial initial? :label (:label by) :by (:client by)
   :changes (mapv (fn [{:keys [name before after]}] [name (json before) (json after)]) changes)
   :records (mapv json records)})

;; ---- Words

(defn- client-of [command]
  (or (get @clients (text command "client"))
      (throw (IllegalArgumentException. (str "no such client: " (text command "client"))))))

(defn- held-of [name]
  (or (second (get @held name)) (throw (IllegalArgumentException. (str "nothing is held as " name)))))

(defn- options-of [init definition]
  [(if (= init :stm/absent) Stm/ABSENT init) definition])

(defn- ref-of
  ([client name] (avout/stm-ref client name))
  ([client name init] (ref-of client name init nil))
  ([client name init definition]
   (let [[init definition] (options-of init definition)]
     (apply avout/stm-ref client name init (mapcat identity definition)))))

;; Scenarios name an atom's entry, which avout.core has at "/data" below the atom's name.
(defn- atom-of [client name init]
  (let [short (if (.endsWith ^String name "/data") (subs name 0 (- (count name) 5)) name)
        [init _] (options-of init nil)]
    (if (= short name)
      (avout/atom-at client name init)
      (avout/stm-atom client short init))))

(defn- absent [name]
  (ex-info (str name " is absent") {:stm/reason :absent :stm/name name :stm/retryable false}))

(defn- plus [name before by]
  (if (int? before)
    (+ (long before) (long by))
    (throw (ex-info (str name " is no integer") {:stm/reason :bad-value :stm/name name}))))

;; A verb and its arguments, as commute!! and swap!! take them.
(defn- op [verb args]
  (case verb
    "set" [(Op/set (first args))]
    "add" [+ (first args)]
    "min" [min (first args)]
    "max" [max (first args)]
    "append" [(Op/append (first args))]
    "conj" (into [conj] args)
    "disj" (into [disj] args)
    "pop" [(Op/pop)]
    "shift" [(Op/shift)]
    "assoc" (into [assoc] args)
    "dissoc" (into [dissoc] args)
    "toggle" [not]))

(defn- op-object ^Op [verb args]
  (let [all (object-array args)]
    (case verb
      "set" (Op/set (first args))
      "add" (Op/add (first args))
      "min" (Op/min (first args))
      "max" (Op/max (first args))
      "append" (Op/append (first args))
      "conj" (Op/conj all)
      "disj" (Op/disj all)
      "pop" (Op/pop)
      "shift" (Op/shift)
      "assoc" (Op/assoc all)
      "dissoc" (Op/dissoc all)
      "toggle" (Op/toggle))))

(defn- arguments [^JsonArray array]
  (mapv value array))

(defn- definition [command]
  (cond-> {}
    (given? command "validator") (assoc :validator (value-of command "validator"))
    (given? command "ttl_ms") (assoc :ttl-ms (at command "ttl_ms"))
    (at command "ephemeral") (assoc :ephemeral true)))

;; ---- Transactions

(declare run-body)

(defn- go-on [state times]
  (let [{:keys [gone monitor]} state]
    (loop [interrupted false]
      (let [again (try
                    (locking monitor
                      (while (< (long @gone) (long times)) (.wait ^Object monitor)))
                    false
                    (catch InterruptedException _ true))]
        (cond again (recur true)
              interrupted (.interrupt (Thread/currentThread)))))))

(defn- result! [body x]
  (swap! (:results body) conj x))

(defn- reason-of [e]
  (name (:stm/reason (ex-data e) :body)))

(defn- run-step [body [verb name & more :as step]]
  (let [client (:client body)
        r #(ref-of client name)]
    (case verb
      "get" (let [r (if more (ref-of client name (value (first more))) (r))]
              (result! body (json (avout/get!! r))))
      "find" (result! body (json (avout/find!! (r))))
      "set" (avout/ref-set!! (r) (value (first more)))
      "alter-add" (let [r (r)]
                    (avout/get!! r)
                    (result! body (json (avout/alter!! r #(plus name % (first more))))))
      "commute" (apply avout/commute!! (r) (op (first more) (arguments (second more))))
      "delete" (avout/delete!! (r))
      "ensure" (avout/ensure!! (r))
      "list" (result! body (mapv (juxt :name (comp json :value)) (avout/list!! client name)))
      "record" (avout/record!! (value name))
      "fence" (avout/fence!! (held-of name))
      "retry" (avout/retry!!)
      "retry-if" (let [r (r)]
                   (when (= (values/encode (avout/get!! r)) (values/encode (value (first more)))) (avout/retry!!)))
      "or-else" (let [before @(:results body)]
                  (avout/or-else!! (run-body body (nth step 1))
                                   (do (reset! (:results body) before)
                                       (run-body body (nth step 2)))))
      "swallow" (try (run-body body (nth step 1))
                     (catch Throwable _ (result! body "swallowed")))
      "join" (let [^JsonObject given (nth step 1)
                   label (at given "label")]
               (try (avout/dosync!! client {:label label} (run-body body (nth step 2)))
                    (catch clojure.lang.ExceptionInfo e (result! body (reason-of e)))))
      "try-join" (try (avout/dosync!! client (run-body body (nth step 1)))
                      (catch clojure.lang.ExceptionInfo e
                        (when-not (:body (ex-data e)) (throw e))
                        (result! body "failed")))
      "fail" (throw (ex-info name {:body true}))
      "io" (try (.get (.ref (avout/java-client client) name))
                (result! body "none")
                (catch dev.stmd.StmException e (result! body (.word (.reason e)))))
      "on-commit" (avout/on-commit!! (swap! (:on-commits body) inc))
      "keep-tx" (reset! (:kept body) (Tx/current))
      "pause" (let [n (swap! (:pauses body) inc)]
                (say (:id body) :event "paused" :run @(:runs body))
                (go-on (:state body) n)))))

(defn- run-body [body steps]
  (doseq [step (steps-of steps)] (run-step body (steps-of step))))

(defn- use-kept [^Tx tx client]
  (try (.getOr tx (.ref (avout/java-client client) "/kept") nil)
       "used"
       (catch dev.stmd.TransactionClosedException _ "transaction-closed")))

(defn- transact [id state command]
  (let [client (client-of command)
        body {:id id :state state :client client :runs (atom 0) :pauses (atom 0) :results (atom [])
              :on-commits (atom 0) :kept (atom nil)}
        committed (atom nil)
        causes (atom [])]
    (try
      (avout/dosync!! client
        {:timeout-ms (at command "timeout_ms") :label (at command "label") :once (at command "once")
         :runs-max (at command "runs_max") :stale-ok (at command "stale_ok") :rerun-check (at command "rerun_check")
         :isolation (keyword (at command "isolation"))
         :on-committed #(reset! committed %)
         :on-rerun #(swap! causes into (map :name (:causes %)))}
        (swap! (:runs body) inc)
        (reset! (:results body) [])
        (run-body body (at command "body"))
        0)
      (finally
        (when-let [kept @(:kept body)] (result! body (use-kept kept client)))))
    {:results @(:results body) :version (str (:version @committed)) :runs @(:runs body) :on_commits @(:on-commits body)
     :repeated (:repeated @committed) :causes @causes}))

;; ---- What "repeat" repeats, with its command read once

(defn- null-call [command]
  (let [stub (HealthGrpc/newBlockingStub ^ManagedChannel (get @channels (text command "client")))]
    (fn [] (.check stub (HealthCheckRequest/getDefaultInstance)))))

(defn- step-call [client [verb name & more]]
  (let [r (ref-of client name)]
    (case verb
      "get" (fn [] (avout/get!! r))
      "set" (let [v (value (first more))] (fn [] (avout/ref-set!! r v)))
      "commute" (let [call (op (first more) (arguments (second more)))] (fn [] (apply avout/commute!! r call))))))

(defn- call-of [command]
  (let [verb (text command "do")
        name (text command "name")]
    (if (= verb "null")
      (null-call command)
      (let [client (client-of command)]
        (case verb
          "get" (let [r (ref-of client name (value-of command "init"))] (fn [] (avout/get!! r)))
          "set" (let [r (ref-of client name :stm/absent (definition command))
                      v (value-of command "value")]
                  (fn [] (avout/dosync!! client (avout/ref-set!! r v))))
          "apply" (let [a (atom-of client name (value-of command "init"))
                        [verb & args] (steps-of (at command "op"))
                        o (op-object verb (arguments (first args)))]
                    (fn [] (avout/swap!! a o)))
          "lock-unlock" (let [^Lock lock (.lock (avout/java-client client) name)]
                          (fn [] (.release (.acquire lock))))
          "watch" (let [names (strings command "names")]
                    (fn []
                      (let [stream (promise)
                            ^Closeable watch (apply avout/watch!! client
                                                    (concat names [:on-synced (fn [_] (.close ^Closeable @stream))]))]
                        (deliver stream watch)
                        (seq watch))))
          "transact" (let [steps (mapv #(step-call client (steps-of %)) (at command "body"))]
                       (fn [] (avout/dosync!! client (run! #(%) steps)))))))))

(defn- repeated [command]
  (let [^JsonObject inner (at command "command")
        _ (when-not (given? inner "client") (.addProperty inner "client" (text command "client")))
        call (call-of inner)
        times (max 1 (long (or (at command "times") 1)))
        callers (max 1 (long (or (at command "callers") 1)))
        begun (AtomicLong.)
        failed (AtomicLong.)
        first-error (atom nil)
        all (double-array times)
        from (System/nanoTime)
        work (fn []
               (loop []
                 (let [n (.getAndIncrement begun)]
                   (when (< n times)
                     (let [began (System/nanoTime)]
                       (try (call)
                            (catch Exception thrown
                              (when (zero? (.getAndIncrement failed))
                                (reset! first-error (if (:stm/reason (ex-data thrown))
                                                      (error (ex-data thrown) (ex-message thrown))
                                                      (str thrown))))))
                       (aset all (int n) (/ (- (System/nanoTime) began) 1e3)))
                     (recur)))))
        threads (mapv (fn [_] (doto (Thread. ^Runnable work) (.start))) (range callers))]
    (run! #(.join ^Thread %) threads)
    (let [seconds (/ (- (System/nanoTime) from) 1e9)]
      (Arrays/sort all)
      {:p50_us (aget all (int (* 0.5 (dec times)))) :p99_us (aget all (int (* 0.99 (dec times)))) :seconds seconds
       :failed (.get failed) :first_error @first-error})))

;; ---- Commands

(defn- connect [id command]
  (let [name (text command "client")
        address (text command "address")
        client (avout/connect address
                              :prefix (text command "prefix") :client-name (text command "client_name")
                              :unavailable-timeout-ms (at command "unavailable_ms")
                              :session-ttl-ms (at command "session_ttl_ms")
                              :warn #(say id :event "warning" :text %))]
    (swap! clients assoc name client)
    (swap! channels assoc name
           (.build (Grpc/newChannelBuilder ^String (first (.split address ",")) (InsecureChannelCredentials/create))))
    nil))

(defn- close [command]
  (let [name (text command "client")
        client (client-of command)]
    (swap! clients dissoc name)
    (some-> ^ManagedChannel (get @channels name) .shutdownNow)
    (swap! channels dissoc name)
    (swap! held (fn [all] (into {} (remove (fn [[_ [by _]]] (= by name))) all)))
    (.close ^Closeable client)
    nil))

(defn- millis ^Duration [ms]
  (when ms (Duration/ofMillis ms)))

(defn- acquire [client command]
  (let [^AcquireOptions options (-> AcquireOptions/DEFAULT
                                    (.shared (boolean (at command "shared")))
                                    (.owner (text command "owner"))
                                    (.permits (int (or (at command "permits") 0))
                                              (int (or (at command "permits_max") 0)))
                                    (.waitAtMost (millis (at command "wait_ms")))
                                    (.timeout (millis (at command "timeout_ms"))))
        ^Held got (guard (.acquire (.lock (avout/java-client client) (text command "name")) options))]
    (swap! held assoc (text command "held") [(text command "client") got])
    (str (.token got))))

(defn- stream [client selectors options f]
  (with-open [^Closeable watch (apply avout/watch!! client (concat selectors (mapcat identity options)))]
    (run! f (seq watch))))

(defn- watch [id client command]
  (stream client (strings command "names")
          (cond-> {:on-synced #(say id :event "synced" :version (str %))}
            (at command "initial") (assoc :initial true)
            (at command "after") (assoc :after (parse-long (text command "after")))
            (at command "timeout_ms") (assoc :timeout-ms (at command "timeout_ms"))
            (at command "progress_ms") (assoc :progress-ms (at command "progress_ms")))
          #(say id :event "commit" :commit (commit-json %))))

(defn- follow [id client name]
  (stream client [name] {:initial true :conflate true}
          (fn [{:keys [initial? changes]}]
            (when (and initial? (empty? changes)) (say id :event "value" :value (json :stm/absent)))
            (doseq [{:keys [kind after]} changes
                    :when (not= kind :defined)]
              (say id :event "value" :value (json after))))))

(defn- write-of
  "The options of a transaction of one entry."
  [command f client]
  (avout/dosync!! client {:timeout-ms (at command "timeout_ms") :label (at command "label")} (f)))

(defn- move-point [client command name by]
  (let [p (avout/stm-ref client name Stm/ABSENT :type Point)]
    (write-of command #(avout/alter!! p update :x + by) client)
    (json @(ref-of client name))))

(defn- define [client command name]
  (let [r (ref-of client name)
        made (reduce (fn [^dev.stmd.Definition d [k v]]
                       (case k :validator (.validator d v) :ttl-ms (.ttl d (millis v)) :ephemeral (.ephemeral d true)))
                     dev.stmd.Definition/NONE (definition command))]
    (guard (.define (avout/java-handle r) ^dev.stmd.Definition made))
    nil))

(defn- entries [id client command verb]
  (let [name (text command "name")
        init (value-of command "init")
        ms (at command "timeout_ms")
        by (or (at command "by") 0)]
    (case verb
      "get" (let [r (if (at command "atom") (atom-of client name init) (ref-of client name init))]
              (json (avout/get!! r :timeout-ms ms)))
      "find" (json (avout/find!! (ref-of client name init) :timeout-ms ms))
      "set" (let [r (ref-of client name :stm/absent (definition command))]
              (write-of command #(avout/ref-set!! r (value-of command "value")) client)
              nil)
      "delete" (do (write-of command #(avout/delete!! (ref-of client name)) client) nil)
      "define" (define client command name)
      "move-point" (move-point client command name by)
      "reset" (do (avout/reset!! (atom-of client name init) (value-of command "value")) nil)
      "swap-add" (let [a (atom-of client name init)]
                   (json (avout/swap!! a #(if (and (nil? %) (not (avout/exists!! a)))
                                            (throw (absent name))
                                            (plus name % by)))))
      "compare-and-set" (avout/compare-and-set!! (atom-of client name init)
                                                 (value-of command "expected") (value-of command "value"))
      "apply" (let [[verb args] (steps-of (at command "op"))]
                (json (avout/swap!! (atom-of client name init) (op-object verb (arguments args)))))
      "list" (mapv (juxt :name (comp json :value)) (avout/list!! client name))
      "history" (mapv commit-json (avout/history!! (ref-of client name)))
      "at" (json (get (avout/at!! client (parse-long (text command "version"))) (ref-of client name) :stm/absent))
      "records" (mapv (comp json :value) (apply avout/records!! client (strings command "tags")))
      "watch" (watch id client command)
      "follow" (follow id client name)
      "acquire" (acquire client command)
      "lock" (let [info (guard (.info (.lock (avout/java-client client) name)))]
               [(count (.holders info)) (count (.queue info))])
      "outcome" (if (avout/outcome!! client (text command "word")) "committed" "not-committed")
      (throw (IllegalArgumentException. (str "no such command: " verb))))))

(defn- run [id state command]
  (let [verb (text command "do")]
    (case verb
      "connect" (connect id command)
      "close" (close command)
      "transact" (transact id state command)
      "repeat" (repeated command)
      "null" (do ((null-call command)) nil)
      "release" (do (guard (.release ^Held (held-of (text command "held")))) nil)
      "lost" (guard (.awaitLost ^Held (held-of (text command "held")) (millis (or (at command "wait_ms") 0))))
      (entries id (client-of command) command verb))))

(defn- begin [command]
  (let [id (at command "id")
        known (promise)
        work (fn []
               (let [state {:thread (Thread/currentThread) :gone (atom 0) :monitor (Object.)}]
                 (swap! running assoc id state)
                 (deliver known true)
                 (try
                   (say id :ok (run id state command))
                   (catch Throwable thrown
                     (let [data (ex-data thrown)]
                       (cond
                         (:body data) (say id :error {:reason "body" :message (ex-message thrown)})
                         (:stm/reason data) (say id :error (error data (ex-message thrown)))
                         :else (do (when-not (instance? IllegalArgumentException thrown) (.printStackTrace thrown))
                                   (say id :broken (str thrown))))))
                   (finally (swap! running dissoc id)))))]
    (.start (Thread. ^Runnable work (str "command-" id)))
    ;; A "stop" that comes next finds it.
    @known))

(defn- steer [command verb]
  (when-let [{:keys [^Thread thread gone monitor]} (get @running (at command "of"))]
    (if (= verb "stop")
      (.interrupt thread)
      (locking monitor
        (swap! gone inc)
        (.notifyAll ^Object monitor)))))

(defn- end []
  (let [all (vals @running)]
    (doseq [{:keys [^Thread thread gone monitor]} all]
      (.interrupt thread)
      (locking monitor
        (swap! gone + 1000000)
        (.notifyAll ^Object monitor)))
    (doseq [{:keys [^Thread thread]} all] (.join thread))
    (run! #(.close ^Closeable %) (vals @clients))))

(defn -main
  "Until standard input ends."
  [& _]
  (let [in (BufferedReader. (InputStreamReader. System/in StandardCharsets/UTF_8))]
    (loop []
      (when-let [line (.readLine in)]
        (let [command (.getAsJsonObject (JsonParser/parseString line))
              verb (text command "do")]
          (if (#{"go" "stop"} verb) (steer command verb) (begin command)))
        (recur)))
    (end)
    (System/exit 0)))
