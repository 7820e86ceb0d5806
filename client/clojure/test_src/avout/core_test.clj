(ns avout.core-test
  (:require [avout.core :refer :all]
            [avout.locks :refer :all]
            [avout.state :as state]
            [avout.testing :as testing :refer [*client* *address* with-daemon]]
            [clojure.test :refer [deftest is testing use-fixtures]])
  (:import (avout.locks DistributedLock DistributedReadWriteLock)
           (java.util Date)
           (java.util.concurrent TimeUnit)
           (java.util.concurrent.locks Condition)))

(set! *warn-on-reflection* true)

(use-fixtures :once with-daemon)

(defrecord User [name start-date])
(defrecord Counted [^long n])
(defrecord Camel [startDate])
(defrecord Twice [startDate start-date])
(defrecord Unknown [x])

(register-record! User "test.Counted" Counted Camel)

(defmacro fails-with [reason & body]
  `(try ~@body
        (is false "it did not fail")
        (catch Exception e#
          (is (= ~reason (:stm/reason (ex-data e#))) (str e#))
          e#)))

(defmacro in-time [& body]
  `(let [found# (deref (future ~@body) 30000 ::late)]
     (is (not= ::late found#) "it took longer than 30 s")
     found#))

(defn back [value]
  (let [r (stm-ref *client* "/value")]
    (dosync!! *client* (ref-set!! r value))
    @r))

(deftest every-value-comes-back-as-it-was
  (doseq [value [nil true false 0 Long/MIN_VALUE 1.5 ##Inf 12345678901234567890N 1N 1.50M "text" \a :k :n/k 'sym 'n/sym
                 (Date. 0) #uuid "f81d4fae-7dec-11d0-a765-00a0c91e6bf6" [] [1 [2]] {} {:a nil "a" 1 1 2 [1] 3}
                 #{} #{1 1.0 nil}
                 (->User "Bob" (Date. 1)) (tagged-literal 'no.Type {:a 1}) [(->Counted 7) (->Camel 1)]]]
    (let [found (back value)]
      (is (= value found))
      (is (= (class value) (class found)) (pr-str value))))
  (is (list? (back '(1 2))))
  (is (list? (back ())))
  (is (= [0 -1] (vec ^bytes (back (byte-array [0 -1])))))
  (let [at (doto (java.sql.Timestamp. 1000) (.setNanos 1))]
    (is (= at (back at)))))

(deftest lazy-values-are-realised-before-they-are-sent
  (let [r (stm-ref *client* "/lazy")
        made (atom 0)]
    (dosync!! *client*
      (ref-set!! r (map (fn [n] (swap! made inc) n) (range 100)))
      (is (= 100 @made)))
    (is (= (range 100) @r))))

(deftest what-clojure-would-merge-is-kept-whole
  (let [r (stm-ref *client* "/merged")
        n (stm-ref *client* "/merged/n" [1N])]
    (dosync!! *client* (ref-set!! r #{1}) (commute!! r conj 1N))
    (is (instance? stmd.v1.Value @r))
    (dosync!! *client* (ref-set!! r @r))
    (dosync!! *client* (commute!! r disj 1N))
    (is (= #{1} @r))
    (is (= [1N] @n))))

(deftest what-edn-has-not-is-bad-value
  (doseq [value [1/2 inc (->Unknown 1) [{:a 1/3}] (Object.)]]
    (fails-with :bad-value (back value)))
  (is (re-find #"at \[0\]: at :a: the ratio" (ex-message (fails-with :bad-value (back [{:a 1/3}])))))
  (fails-with :bad-value (register-record! Twice)))

(deftest a-record-keeps-the-fields-that-its-class-does-not-know
  (let [r (stm-ref *client* "/user" (assoc (->User "Ann" (Date. 0)) :colour "red"))]
    (dosync!! *client* (alter!! r assoc :name "Bob"))
    (is (instance? User @r))
    (is (= "red" (:colour @r)))
    (is (= "Bob" (:name @r)))))

(deftest what-does-not-fit-its-class-is-read-as-a-tagged-literal
  (let [r (stm-ref *client* "/counted")]
    (dosync!! *client* (ref-set!! r (tagged-literal 'test.Counted {:n "one"})))
    (is (= (tagged-literal 'test.Counted {:n "one"}) @r))
    (is (= "/counted" (:stm/name (ex-data (fails-with :bad-value @(stm-ref *client* "/counted" 0 :type Counted))))))))

(deftest an-init-of-zk-ref-resets-and-one-of-stm-ref-creates
  (is (= 1 @(zk-ref *client* "/init" 1)))
  (is (= 2 @(zk-ref *client* "/init" 2)))
  (is (= 2 @(stm-ref *client* "/init" 3)))
  (is (= 2 @(zk-ref *client* "/init")))
  (is (= 5 @(local-ref *client* "/init" 5)))
  (is (= [{:name "/.memory/init" :value 5}] (map #(select-keys % [:name :value]) (list!! *client* "/.memory/")))))

(deftest an-atom-and-a-ref-share-a-name
  (let [r (zk-ref *client* "/both" 1)
        a (zk-atom *client* "/both" 2)]
    (is (= [1 2] [@r @a]))
    (is (exists!! (atom-at *client* "/both/data")))
    (fails-with :wrong-kind (swap!! r inc))
    (dosync!! *client* (fails-with :wrong-kind (alter!! a inc)))))

(deftest nil-and-false-are-values
  (let [r (stm-ref *client* "/nil")
        a (stm-atom *client* "/nil")]
    (is (nil? @r))
    (is (= :stm/absent (find!! r)))
    (fails-with :absent (get!! r))
    (doseq [value [nil false]]
      (dosync!! *client* (ref-set!! r value))
      (reset!! a value)
      (is (= value @r @a (get!! r) (find!! a)))
      (is (exists!! r))
      (is (exists!! a)))
    (is (= 1 (swap!! (stm-atom *client* "/nil-init") (fnil inc 0))))
    (delete!! r)
    (delete!! a)
    (is (not (or (exists!! r) (exists!! a))))))

(deftest compare-and-set-compares-what-deref-gives
  (let [a (stm-atom *client* "/cas")
        b (stm-atom *client* "/cas-init" 7)]
    (is (not (compare-and-set!! a 1 2)))
    (is (compare-and-set!! a nil 1))
    (is (not (compare-and-set!! a nil 2)))
    (is (not (compare-and-set!! a :stm/absent 2)))
    (is (compare-and-set!! a 1 2))
    (is (= 2 @a))
    (is (compare-and-set!! b 7 8))))

(deftest twenty-five-futures-on-one-atom
  (let [a (zk-atom *client* "/futures" 0)]
    (in-time (run! deref (doall (repeatedly 25 #(future (swap!! a inc))))))
    (is (= 25 @a))))

(deftest ten-futures-on-one-transaction
  (let [a (zk-ref *client* "/ten/a" 0)
        b (zk-ref *client* "/ten/b" [])]
    (in-time (run! deref (doall (repeatedly 10 #(future (dosync!! *client* (alter!! a inc) (alter!! b conj @a)))))))
    (is (= 10 @a))
    (is (= (range 1 11) @b))))

(deftest nested-swaps-swap-by-themselves
  (let [a (zk-atom *client* "/nested/a" 0)
        b (zk-atom *client* "/nested/b" 0)
        r (zk-ref *client* "/nested/r" 10)]
    (is (= 11 (swap!! a (fn [n] (+ n (swap!! b inc) (dosync!! *client* @r))))))
    (is (= 1 @b))
    (is (thrown-with-msg? ArithmeticException #"Divide" (swap!! a (fn [_] (swap!! b #(/ % 0))))))))

(deftest an-atom-is-not-written-in-a-transaction
  (let [a (zk-atom *client* "/io" 0)
        r (zk-ref *client* "/io" 0)]
    (fails-with :in-transaction (dosync!! *client* (swap!! a inc)))
    (fails-with :in-transaction (dosync!! *client* (alter!! r inc) (io!! :done)))
    (is (= [0 0] [@a @r]))
    (is (= 0 (dosync!! *client* @a)))
    (is (= :done (io!! :done)))))

(deftest dosync-in-clojures-dosync-throws
  (is (thrown? IllegalStateException (dosync (dosync!! *client* 1))))
  (is (thrown? IllegalStateException (dosync (io! (dosync!! *client* 1))))))

(deftest words-of-a-transaction-outside-of-one-say-so
  (doseq [f [#(ref-set!! (stm-ref *client* "/out") 1) #(alter!! (stm-ref *client* "/out") inc) retry!! #(record!! 1)]]
    (is (re-find #"dosync!!" (ex-message (fails-with :transaction-closed (f)))))))

(deftest an-error-of-the-body-changes-nothing-and-comes-back-unchanged
  (let [r (zk-ref *client* "/error" 1)
        e (ex-info "mine" {:a 1})]
    (is (identical? e (try (dosync!! *client* (ref-set!! r 2) (throw e)) (catch Exception thrown thrown))))
    (is (= 1 @r))))

(deftest commutes-are-operations-and-dosync-gives-their-result
  (let [n (zk-ref *client* "/op/n" 5)
        v (zk-ref *client* "/op/v" [1])
        s (zk-ref *client* "/op/s" #{1})
        m (zk-ref *client* "/op/m" {:a 1})
        runs (atom 0)]
    (is (= 6 (dosync!! *client* (commute!! n inc))))
    (dosync!! *client*
      (swap! runs inc)
      (commute!! n + 4) (commute!! n - 1) (commute!! n max 3) (commute!! n min 100)
      (commute!! v conj 2 3) (commute!! v into [4])
      (commute!! s conj 2) (commute!! s disj 1) (commute!! s clojure.set/union #{9})
      (commute!! m assoc :b 2) (commute!! m dissoc :a) (commute!! m merge {:c 3})
      (when (= 1 @runs) @(future (dosync!! *client* (commute!! n inc)))))
    (is (= 1 @runs))
    (is (= [10 [1 2 3 4] #{2 9} {:b 2 :c 3}] [@n @v @s @m]))
    (is (= 20 (dosync!! *client* (commute!! n * 2))))))

(deftest retry-sleeps-and-or-else-takes-the-other
  (let [urgent (zk-ref *client* "/jobs/urgent" [])
        normal (zk-ref *client* "/jobs/normal" [])
        take!! (fn [queue]
                 (when (empty? @queue) (retry!!))
                 (let [job (first @queue)]
                   (alter!! queue (comp vec rest))
                   job))
        next!! #(dosync!! *client* {:timeout-ms 30000} (or-else!! (do (ref-set!! urgent (conj @urgent :dropped)) (retry!!))
                                                                 (take!! urgent) (take!! normal)))
        job (future (next!!))]
    (dosync!! *client* (ref-set!! normal ["sweep"]))
    (is (= "sweep" (deref job 30000 ::late)))
    (is (= [[] []] [@urgent @normal]))
    (fails-with :deadline (dosync!! *client* {:timeout-ms 50} (take!! urgent)))))

(deftest functions-validate-before-the-commit
  (let [r (zk-ref *client* "/valid" 1 :validator pos?)
        a (zk-atom *client* "/valid" 1 :validator pos?)]
    (fails-with :rejected (dosync!! *client* (ref-set!! r -1)))
    (is (thrown? IllegalStateException (dosync!! *client* (alter!! r - 5))))
    (is (thrown? IllegalStateException (dosync!! *client* (commute!! r - 5))))
    (is (= 3 (dosync!! *client* (ref-set!! r -1) (ref-set!! r 3))))
    (fails-with :rejected (swap!! a -))
    (fails-with :rejected (reset!! a 0))
    (is (thrown? IllegalStateException (set-validator! r neg?)))
    (is (identical? pos? (get-validator r)))
    (set-validator! r nil)
    (is (nil? (get-validator r)))
    (dosync!! *client* (ref-set!! r -1))
    (is (= [-1 1] [@r @a]))))

(deftest a-rule-is-the-entrys-own
  (let [r (zk-ref *client* "/rule" 1)]
    (set-validator! r [:and :int [:min 0]])
    (is (= [:and :int [:min 0]] (get-validator (zk-ref *client* "/rule"))))
    (is (instance? IllegalStateException (fails-with :rejected (dosync!! *client* (ref-set!! (stm-ref *client* "/rule") -1)))))
    (set-validator! r nil)
    (dosync!! *client* (ref-set!! r -1))
    (is (= -1 @r))))

(deftest a-watch-of-a-change-made-here-has-run-once-when-the-call-returns
  (let [r (zk-ref *client* "/watched" 0)
        a (zk-atom *client* "/watched" 0)
        told (atom [])
        f (fn [k reference before after] (swap! told conj [k (identical? reference r) before after]))]
    (add-watch r :r f)
    (add-watch a :a f)
    (is (= {:r f} (.getWatches ^clojure.lang.IRef r)))
    (dosync!! *client* (alter!! r inc) (alter!! r inc))
    (is (= [[:r true 0 2]] @told))
    (dosync!! *client* (commute!! r inc))
    (swap!! a inc)
    (reset!! a nil)
    (compare-and-set!! a nil false)
    (is (= [[:r true 0 2] [:r true 2 3] [:a false 0 1] [:a false 1 nil] [:a false nil false]] @told))
    (dosync!! *client* (ref-set!! (stm-ref *client* "/watched") 9))
    (is (= [:r true 3 9] (last @told)))
    (remove-watch r :r)
    (is (= {} (.getWatches ^clojure.lang.IRef r)))
    (dosync!! *client* (alter!! r inc))
    (is (= [:r true 3 9] (last @told)))
    (.close ^java.io.Closeable a)))

(deftest a-watch-tells-of-others-changes
  (with-open [^java.io.Closeable other (connect *address*)]
    (let [r (zk-ref *client* "/others" 0)
          told (promise)]
      (add-watch r :k (fn [_ _ before after] (deliver told [before after])))
      (dosync!! other (ref-set!! (stm-ref other "/others") 1))
      (is (= [0 1] (deref told 30000 ::late)))
      (remove-watch r :k))))

(deftest watches-that-change-each-others-references-wait-for-nobody
  (let [a (zk-atom *client* "/cross/a" 0)
        b (zk-atom *client* "/cross/b" 0)
        done (promise)]
    (add-watch a :k (fn [_ _ _ after] (when (< after 5) (swap!! b inc))))
    (add-watch b :k (fn [_ _ _ after] (if (< after 4) (swap!! a inc) (deliver done after))))
    (in-time (swap!! a inc))
    (is (= 4 (deref done 30000 ::late)))
    (remove-watch a :k)
    (remove-watch b :k)))

(deftest watch-iterates-commits
  (let [synced (promise)
        r (stm-ref *client* "/config/a")]
    (with-open [^java.io.Closeable watch (watch!! *client* "/config/" :initial true :on-synced #(deliver synced %))]
      (let [found (future (doall (take 3 (seq watch))))]
        (is (not= ::late (deref synced 30000 ::late)))
        (dosync!! *client* {:label "paint"} (ref-set!! r "red"))
        (dosync!! *client* {:label "strip"} (delete!! r))
        (is (= [[true nil []]
                [false "paint" [["/config/a" :set :stm/absent "red"]]]
                [false "strip" [["/config/a" :deleted "red" :stm/absent]]]]
               (map (juxt :initial? (comp not-empty :label :by) #(mapv (juxt :name :kind :before :after) (:changes %)))
                    (deref found 30000 [])))))))
  (fails-with :deadline (doall (seq (watch!! *client* "/nothing/" :timeout-ms 50)))))

(deftest records-come-back-in-order
  (dosync!! *client* (record!! (->User "Ann" nil)) (record!! (tagged-literal 'other.Tag 1)))
  (dosync!! *client* (record!! (->User "Bob" nil)))
  (is (= ["Ann" "Bob"] (map (comp :name :value) (records!! *client* User))))
  (is (= [1] (map (comp :form :value) (records!! *client* "other.*"))))
  (fails-with :bad-value (dosync!! *client* (record!! 1))))

(deftest the-past-is-read-by-version
  (let [r (zk-ref *client* "/past" 1)
        version (:version (first (history!! r)))
        none (stm-ref *client* "/past/none")]
    (dosync!! *client* {:label "two"} (ref-set!! r 2))
    (is (= [1 2] [((at!! *client* version) r) @r]))
    (is (= :none (get (at!! *client* version) none :none)))
    (is (= "two" (:label (:by (first (history!! r))))))))

(deftest once-runs-once-and-on-commit-is-told
  (let [a (zk-ref *client* "/once" 0)
        told (atom 0)
        go #(dosync!! *client* {:once "order-1"} (on-commit!! (swap! told inc)) (alter!! a inc))]
    (is (= [1 1] [(go) (go)]))
    (is (= [1 1] [@told @a]))))

(deftest a-transaction-joins-the-outer-one
  (let [r (zk-ref *client* "/join" 0)]
    (dosync!! *client*
      (dosync!! *client* (alter!! r inc))
      (is (thrown? ArithmeticException (dosync!! *client* (alter!! r inc) (/ 1 0))))
      (is (= 1 @r)))
    (is (= 1 @r))
    (fails-with :bad-value (dosync!! *client* (dosync!! *client* {:label "inner"} 1)))))

(deftest a-port-of-zookeepers-names-the-remedy
  (is (re-find #"\"10.0.0.1:7440\"" (ex-message (fails-with :bad-value (connect "10.0.0.1:2181"))))))

(deftest deref-with-a-timeout-and-a-client-that-is-closed
  (is (= 3 (deref (zk-ref *client* "/timeout" 3) 30000 :late)))
  (let [^java.io.Closeable other (connect *address*)
        r (stm-ref other "/timeout")]
    (.close other)
    (is (keyword? (:stm/reason (ex-data (is (thrown? clojure.lang.ExceptionInfo @r))))))))

(deftest locks-exclude-threads-and-are-reentrant
  (let [^DistributedLock lock (distributed-lock *client* :lock-node "/lock/a" :request-id "me")
        elsewhere (fn [f] (in-time (f)))]
    (with-lock lock
      (with-lock lock (is (= 2 (.getHoldCount lock))))
      (is (identical? (Thread/currentThread) (.getOwner lock)))
      (is (nil? (elsewhere #(when-lock lock :had))))
      (is (= :not (elsewhere #(if-lock lock :had :not))))
      (is (= :not (elsewhere #(if-lock-with-timeout lock 10 TimeUnit/MILLISECONDS :had :not))))
      (is (nil? (elsewhere #(when-lock-with-timeout lock 10 :milliseconds :had))))
      (elsewhere #(fails-with :lock-busy (with-lock-with-timeout lock 10 :milliseconds :had))))
    (is (= 0 (.getHoldCount lock)))
    (is (nil? (.getOwner lock)))
    (is (= :had (when-lock lock :had) (if-lock lock :had :not) (if-lock-with-timeout lock 10 :seconds :had :not)
           (when-lock-with-timeout lock 10 :seconds :had) (with-lock-with-timeout lock 10 :seconds :had)))
    (is (thrown? IllegalMonitorStateException (.unlock lock)))
    (.lock lock)
    (.lock lock)
    (.close lock)
    (is (= :had (elsewhere #(when-lock lock :had))))))

(deftest a-fence-commits-only-while-the-grant-stands
  (let [^DistributedLock lock (distributed-lock *client* :lock-node "/lock/fence")
        r (zk-ref *client* "/fenced" 0)]
    (with-lock lock (dosync!! *client* (fence!! lock) (ref-set!! r 1)))
    (.lock lock)
    (.breakIt (.lock (java-client *client*) "/lock/fence") "test")
    (fails-with :fence-lost (dosync!! *client* (fence!! lock) (ref-set!! r 2)))
    (fails-with :fence-lost (.unlock lock))
    (is (= 1 @r))))

(deftest many-read-or-one-writes
  (let [^DistributedReadWriteLock lock (distributed-read-write-lock *client* :lock-node "/lock/rw")
        ^DistributedLock read (.readLock lock)
        ^DistributedLock write (.writeLock lock)]
    (with-lock read
      (is (= 1 (.getReadHoldCount lock)))
      (is (= :read (in-time (when-lock read :read))))
      (is (nil? (in-time (when-lock write :wrote)))))
    (with-lock write
      (is (.isWriteLockedByCurrentThread lock))
      (is (nil? (in-time (when-lock read :read))))
      (with-lock read (is (= 1 (.getWriteHoldCount lock)))))))

(deftest conditions-wake-who-awaits-by-every-await
  (let [^DistributedLock lock (distributed-lock *client* :lock-node "/lock/condition")
        ^Condition c (.newCondition lock)
        ready (zk-atom *client* "/lock/ready" 0)
        waits [#(.await c) #(.await c 30 TimeUnit/SECONDS) #(.awaitNanos c 30000000000)
               #(.awaitUntil c (Date. (+ 30000 (System/currentTimeMillis)))) #(.awaitUninterruptibly c)]
        all (doall (for [wait waits] (future (with-lock lock (swap!! ready inc) (wait) :woken))))]
    ;; Who awaits has given the lock up: it is had only when all five do.
    (in-time (while (not= 5 (with-lock lock @ready)) (Thread/yield)))
    (with-lock lock (.signal c) (.signalAll c))
    (is (= (repeat 5 :woken) (map #(deref % 30000 ::late) all)))
    (with-lock lock (is (false? (.await c 1 TimeUnit/MILLISECONDS))))))

(deftype Kept [states]
  state/VersionedStateContainer
  (initVersionedStateContainer [_])
  (destroyVersionedStateContainer [_])
  (getStateAt [_ version] (get @states version :stm/absent))
  (setStateAt [_ value version] (swap! states assoc version value))
  (deleteStateAt [_ version] (swap! states dissoc version))
  state/StateContainer
  (initStateContainer [_])
  (destroyStateContainer [_] (reset! states {}))
  (getState [_] (:value @states))
  (setState [_ value] (swap! states assoc :value value)))

(deftest containers-of-the-programs-own-join-transactions
  (let [of-ref (Kept. (atom {}))
        of-atom (Kept. (atom {}))
        r (distributed-ref *client* "/own" of-ref {:n 1})
        a (distributed-atom *client* "/own" of-atom [1])
        other (zk-ref *client* "/own/other" 0)]
    (is (= [{:n 1} [1]] [@r @a]))
    (dosync!! *client* (alter!! r update :n inc) (alter!! other inc))
    (is (thrown? ArithmeticException (dosync!! *client* (alter!! r assoc :n 100) (/ 1 0))))
    (swap!! a conj 2)
    (is (= [{:n 2} 1 [1 2]] [@r @other @a]))
    (is (some #{{:n 2}} (vals @(.states of-ref))))
    (in-time (while (not= [1 2] (:value @(.states of-atom))) (Thread/yield)))))
