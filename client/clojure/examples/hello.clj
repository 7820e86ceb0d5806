(use 'avout.core)
(def client (connect (or (System/getenv "STM_ADDRESS") "127.0.0.1:7440")))

(def r0 (zk-ref client "/r0" 0))             ; set to 0, as Avout does; stm-ref only creates
(def r1 (zk-ref client "/r1" []))

(dosync!! client
  (alter!! r0 inc)
  (alter!! r1 conj @r0))
(prn [@r0 @r1])                              ; [1 [1]]
