(use 'avout.core)
(def client (connect ""))

(use 'avout.locks)
(def lock (distributed-lock client :lock-node "/nightly"))   ; a java.util.concurrent.locks.Lock
(def last-report (stm-ref client "/nightly/last" ""))

(with-lock lock                              ; waits its turn
  (let [report (str "report")]
    (dosync!! client
      (fence!! lock)                         ; commits only while this thread's grant stands
      (ref-set!! last-report report))))      ; else throws: (:stm/reason (ex-data e)) is :fence-lost
(println @last-report)
(.close client)                              ; its session ends at once
