(use 'avout.core)
(def client (connect ""))

(def urgent (stm-ref client "/jobs/urgent" []))
(def normal (stm-ref client "/jobs/normal" []))

(defn take!! [queue]
  (when (empty? @queue) (retry!!))           ; sleep until queue changes, then run again
  (let [job (first @queue)]
    (alter!! queue (comp vec rest))
    job))

(dosync!! client (ref-set!! normal ["sweep"]))
(println
  (dosync!! client
    (or-else!! (take!! urgent)
               (take!! normal))))
