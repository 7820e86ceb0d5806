(use 'avout.core)
(def client (connect ""))
(def r0 (stm-ref client "/r0" 0))

(add-watch r0 :print (fn [k r before after] (println before "->" after)))   ; Clojure's own
(dosync!! client (alter!! r0 inc))
(dosync!! client (ref-set!! (stm-ref client "/config/a") "red"))

(doseq [{:keys [version changes]} (take 1 (watch!! client "/config/" :initial true))  ; each commit once, in order
        {:keys [name before after]} changes]                    ; one commit's changes together
  (println version name before "->" after))  ; :stm/absent where there was no entry
