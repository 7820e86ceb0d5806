(ns avout.locks
  "Locks between threads of all processes, by Avout's names: java.util.concurrent.locks.Lock and ReadWriteLock, first
  come first served, reentrant, with conditions that all processes share by their order (the first that a lock object
  makes is \"c1\", the next \"c2\"). A lock can be lost (the session's time is over, or an operator broke it): unlock
  then throws :fence-lost, and so does a transaction with fence!!, which alone decides what a commit may do."
  (:require [avout.core :as core]
            [avout.errors :refer [guard]])
  (:import (dev.stmd JavaLock JavaReadWriteLock)
           (java.io Closeable)
           (java.util.concurrent TimeUnit)
           (java.util.concurrent.locks Condition Lock ReadWriteLock)))

(set! *warn-on-reflection* true)

(definterface IDistributedLock
  (^int getHoldCount [] "How often this thread has it; 0: not at all.")
  (^Thread getOwner [] "The thread of this process that has it by this object; null: none.")
  (^boolean isHeldByCurrentThread [])
  (^boolean isLocked [] "Whether anybody has it, in any process: the daemon is asked.")
  (^int getQueueLength [] "How many wait for it, in all processes: the daemon is asked."))

(defn- condition [^Condition of]
  (reify Condition
    (await [_] (guard (.await of)))
    (^boolean await [_ ^long time ^TimeUnit unit] (guard (.await of time unit)))
    (awaitNanos [_ nanos] (guard (.awaitNanos of nanos)))
    (awaitUntil [_ deadline] (guard (.awaitUntil of deadline)))
    (awaitUninterruptibly [_] (guard (.awaitUninterruptibly of)))
    (signal [_] (guard (.signal of)))
    (signalAll [_] (guard (.signalAll of)))
    (toString [_] (str of))))

(deftype DistributedLock [lock]
  Lock
  (lock [_] (guard (.lock ^JavaLock lock)))
  (lockInterruptibly [_] (guard (.lockInterruptibly ^JavaLock lock)))
  (tryLock [_] (guard (.tryLock ^JavaLock lock)))
  (tryLock [_ time unit] (guard (.tryLock ^JavaLock lock time unit)))
  (unlock [_] (guard (.unlock ^JavaLock lock)))
  (newCondition [_] (condition (.newCondition ^JavaLock lock)))
  IDistributedLock
  (getHoldCount [_] (.getHoldCount ^JavaLock lock))
  (getOwner [_] (.getOwner ^JavaLock lock))
  (isHeldByCurrentThread [_] (.isHeldByCurrentThread ^JavaLock lock))
  (isLocked [_] (guard (.isLocked ^JavaLock lock)))
  (getQueueLength [_] (guard (.getQueueLength ^JavaLock lock)))
  core/Fenced
  (held [_] (.held ^JavaLock lock))
  Closeable
  ;; Gives back what this thread has of it.
  (close [_]
    (while (pos? (.getHoldCount ^JavaLock lock))
      (guard (.unlock ^JavaLock lock))))
  Object
  (toString [_] (str lock)))

(definterface IDistributedReadWriteLock
  (^int getReadHoldCount [])
  (^int getWriteHoldCount [])
  (^Thread getOwner [] "The thread of this process that writes; null: none.")
  (^boolean isWriteLockedByCurrentThread []))

(deftype DistributedReadWriteLock [lock read write]
  ReadWriteLock
  (readLock [_] read)
  (writeLock [_] write)
  IDistributedReadWriteLock
  (getReadHoldCount [_] (.getReadHoldCount ^JavaReadWriteLock lock))
  (getWriteHoldCount [_] (.getWriteHoldCount ^JavaReadWriteLock lock))
  (getOwner [_] (.getOwner ^JavaReadWriteLock lock))
  (isWriteLockedByCurrentThread [_] (.isWriteLockedByCurrentThread ^JavaReadWriteLock lock))
  Closeable
  (close [_]
    (.close ^Closeable write)
    (.close ^Closeable read))
  Object
  (toString [_] (str lock)))

(defn distributed-lock
  "A lock, alone for one thread of all processes. :lock-node is its name (\"/lock\"). :request-id is Avout's, and of no
  account: each request has an id of its own here."
  [client & {:keys [lock-node request-id] :or {lock-node "/lock"}}]
  (let [_ request-id]
    (DistributedLock. (.asJavaLock (.lock (core/java-client client) lock-node)))))

(defn distributed-read-write-lock
  "Many read, or one writes: .readLock and .writeLock are locks. A thread that writes may read too, and then stop
  writing. One that reads and asks to write is refused while others read: :upgrade-refused. Options as of
  distributed-lock."
  [client & {:keys [lock-node request-id] :or {lock-node "/lock"}}]
  (let [_ request-id
        lock (.asJavaReadWriteLock (.lock (core/java-client client) lock-node))]
    (DistributedReadWriteLock. lock (DistributedLock. (.readLock lock)) (DistributedLock. (.writeLock lock)))))

(defn unlock-after
  "The body's value, with the lock given back: what with-lock and the others are made of. An error of the body is not
  hidden by one of the unlock."
  [^Lock lock body]
  (let [value (try (body)
                   (catch Throwable thrown
                     (try (.unlock lock) (catch Throwable lost (.addSuppressed thrown lost)))
                     (throw thrown)))]
    (.unlock lock)
    value))

(defn try-lock
  "Whether it is had within a duration, in a TimeUnit or a keyword (:nanoseconds :microseconds :milliseconds :seconds
  :minutes :hours :days)."
  [^Lock lock duration unit]
  (.tryLock lock (long duration)
            (if (keyword? unit) (TimeUnit/valueOf (.toUpperCase (name unit) java.util.Locale/ROOT)) ^TimeUnit unit)))

(defmacro with-lock
  "Waits its turn, runs the body, and unlocks."
  [lock & body]
  `(let [^Lock lock# ~lock]
     (.lock lock#)
     (unlock-after lock# (fn [] ~@body))))

(defmacro if-lock
  "The one if the lock is had at once, past those who wait; else the other."
  ([lock then] `(if-lock ~lock ~then nil))
  ([lock then else]
   `(let [^Lock lock# ~lock]
      (if (.tryLock lock#) (unlock-after lock# (fn [] ~then)) ~else))))

(defmacro when-lock
  "Runs the body if the lock is had at once, past those who wait; else nil."
  [lock & body]
  `(if-lock ~lock (do ~@body) nil))

(defmacro if-lock-with-timeout
  "The one if the lock is had within the duration; else the other."
  ([lock duration unit then] `(if-lock-with-timeout ~lock ~duration ~unit ~then nil))
  ([lock duration unit then else]
   `(let [^Lock lock# ~lock]
      (if (try-lock lock# ~duration ~unit) (unlock-after lock# (fn [] ~then)) ~else))))

(defmacro when-lock-with-timeout
  "Runs the body if the lock is had within the duration; else nil."
  [lock duration unit & body]
  `(if-lock-with-timeout ~lock ~duration ~unit (do ~@body) nil))

(defmacro with-lock-with-timeout
  "Runs the body with the lock; throws :lock-busy if it is not had within the duration."
  [lock duration unit & body]
  `(let [lock# ~lock]
     (if-lock-with-timeout lock# ~duration ~unit
       (do ~@body)
       (throw (ex-info (str lock# " is held by others, and was for all of the wait: allow more time")
                       {:stm/reason :lock-busy :stm/name "" :stm/retryable true})))))
