(ns blog
  (:use avout.core))
(def client (connect ""))

(defprotocol Transaction (update-db [_ db]))
(defrecord CreateUser [name email start-date] Transaction
  (update-db [_ db] (update-in db [:users] conj {:name name :email email :start-date start-date})))
(defrecord DeleteUser [email remove-date] Transaction
  (update-db [_ db] (update-in db [:users] (fn [us] (remove #(= (:email %) email) us)))))
(register-record! CreateUser DeleteUser)     ; so that #blog.CreateUser{...} reads back as one
(def db (stm-ref client "/blog/db" {}))
(defn record [tx]
  (dosync!! client (alter!! db #(update-db tx %)) (record!! tx)))

(record (CreateUser. "Bob" "bob@example.com" (java.util.Date.)))   ; durable when it returns
(record (DeleteUser. "bob@example.com" (java.util.Date.)))
(prn @db)                                    ; still there after a restart; or replay:
(prn (= @db (reduce #(update-db (:value %2) %1) {} (records!! client CreateUser DeleteUser))))
