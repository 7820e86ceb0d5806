(ns avout.errors
  "stmd's errors as Clojure's: ex-info whose data has :stm/reason, as :conflict or :fence-lost, :stm/name of the entry
  at fault, and :stm/retryable. One that a validator made is an IllegalStateException too, as Clojure's are."
  (:import (clojure.lang IExceptionInfo)
           (dev.stmd ConflictCause StmException)))

(set! *warn-on-reflection* true)

(defn rejection
  "An IllegalStateException with data."
  ^Throwable [^String message data cause]
  (proxy [IllegalStateException IExceptionInfo] [message cause]
    (getData [] data)))

(defn- data [^StmException e]
  (cond-> {:stm/reason (keyword (.word (.reason e)))
           :stm/name (.name e)
           :stm/retryable (.retryable e)}
    (seq (.limit e)) (assoc :stm/limit (.limit e) :stm/limit-value (.limitValue e))
    (seq (.found e)) (assoc :stm/found (.found e))
    (seq (.expected e)) (assoc :stm/expected (.expected e))
    (seq (.outcomeWord e)) (assoc :stm/outcome-word (.outcomeWord e))
    (seq (.rejectCause e)) (assoc :stm/reject-cause (keyword (.rejectCause e)) :stm/rule (.rule e))
    (.isPresent (.retryAfter e)) (assoc :stm/retry-after-ms (.toMillis ^java.time.Duration (.get (.retryAfter e))))
    (seq (.causes e)) (assoc :stm/causes (mapv (fn [^ConflictCause c]
                                                 {:name (.name c) :version (.version c)
                                                  :label (.label (.by c)) :client (.client (.by c))})
                                               (.causes e)))))

(defn translated
  "The exception that a program in Clojure gets."
  ^Throwable [^StmException e]
  (let [found (data e)]
    (if (= :rejected (:stm/reason found))
      (rejection (.getMessage e) found e)
      (ex-info (.getMessage e) found e))))

(defmacro guard
  "The body's value; its StmException as ex-info."
  [& body]
  `(try ~@body (catch StmException e# (throw (translated e#)))))
