(ns avout.values
  "Clojure's values on stmd's wire, and back. Read and written back a value is the same, and no type turns into another:
  integers are longs, 1N is a bigint, 1.5M a decimal; lists and all other seqs are lists, vectors vectors; instants are
  Dates, or Timestamps (Dates too) when they are not of a whole ms; tagged values are records that were registered, else
  tagged-literals. A set or map that Clojure would merge, as #{1 1N}, is read as the wire's own message, stmd.v1.Value,
  and is written back as it was. Any thread."
  (:import (clojure.lang BigInt IPersistentMap Keyword Ratio Symbol TaggedLiteral)
           (dev.stmd BadValueException CodePoint JavaValues ValueMapper)
           (java.lang.reflect InvocationTargetException Method Type)
           (java.math BigDecimal BigInteger)
           (java.sql Timestamp)
           (java.time Instant)
           (java.util Date List Map Set UUID)
           (stmd.v1 Items Map$Builder MapEntry Tagged Value)))

(set! *warn-on-reflection* true)

;; ---- Records, by tag and by class: one registry a process.

(defonce ^:private registry (atom {:tags {} :classes {}}))

(defn- kebab [^String field]
  (-> field
      (.replaceAll "([a-z0-9])([A-Z])" "$1-$2")
      (.replaceAll "([A-Z])([A-Z][a-z])" "$1-$2")
      (.replace \_ \-)
      (.toLowerCase java.util.Locale/ROOT)))

(defn- bad [& message]
  (BadValueException. (apply str message)))

(defn- shape [^Class class ^String tag]
  (when-not (.isAssignableFrom clojure.lang.IRecord class)
    (throw (bad (.getName class) " is no record: make it one by defrecord")))
  (let [fields (map str (.invoke (.getMethod class "getBasis" (make-array Class 0)) nil (object-array 0)))
        keys (into {} (map (juxt keyword (comp keyword kebab))) fields)
        renamed (into {} (remove (fn [[field key]] (= field key))) keys)]
    (when-not (or (empty? fields) (apply distinct? (vals keys)))
      (throw (bad "two fields of " (.getName class) " are the same keyword in kebab case: rename one")))
    {:class class
     :tag tag
     :create (.getMethod class "create" (into-array Class [IPersistentMap]))
     :to-wire (not-empty renamed)
     :from-wire (not-empty (into {} (map (fn [[field key]] [key field])) renamed))}))

(defn register!
  "Makes record classes known, process-wide, so that #tag{...} is read as one. A tag is the class's name, as
  blog.CreateUser, unless a string stands before the class: (register! \"blog.CreateUser\" User). Fields are keywords
  in kebab case."
  [& classes]
  (loop [more classes]
    (when-let [[tag class] (seq more)]
      (if (string? tag)
        (do (when-not (class? class)
              (throw (bad "the tag \"" tag "\" is followed by no class: give the record's class after it")))
            (let [{:keys [tags]} @registry
                  there (get-in tags [tag :class])]
              ;; A namespace that is loaded again makes its records anew, of the same name.
              (when (and there (not= (.getName ^Class there) (.getName ^Class class)))
                (throw (bad "tag #" tag " is registered for " (.getName ^Class there) ": give "
                            (.getName ^Class class) " another"))))
            (let [made (shape class tag)]
              (swap! registry #(-> % (assoc-in [:tags tag] made) (assoc-in [:classes class] made))))
            (recur (nnext more)))
        (do (when-not (class? tag)
              (throw (bad (pr-str tag) " is no class: give a record's class, or a tag and a class")))
            (recur (cons (.getName ^Class tag) more)))))))

(defn tag-of
  "The tag of a registered class, or the tag that a string is."
  ^String [type]
  (or (when (string? type) type)
      (get-in @registry [:classes type :tag])
      (throw (bad (pr-str type) " has no tag: register-record! it"))))

;; ---- To the wire

(def ^:private ^JavaValues plain (JavaValues.))

(declare encode)

(defn- within [^BadValueException e step]
  (bad "at " step ": " (.getMessage e)))

(defn- encode-at ^Value [x step]
  (try (encode x) (catch BadValueException e (throw (within e (step))))))

(defn- items ^Items [coll]
  (let [out (Items/newBuilder)]
    (loop [more (seq coll) at 0]
      (when more
        (.addItems out (encode-at (first more) #(str "[" at "]")))
        (recur (next more) (inc at))))
    (.build out)))

(defn- entries [m renamed]
  (let [^Map$Builder out (stmd.v1.Map/newBuilder)]
    (doseq [[k v] m]
      (let [k (get renamed k k)]
        (.addEntries out (doto (MapEntry/newBuilder)
                           (.setKey ^Value (encode k))
                           (.setValue (encode-at v #(pr-str k)))))))
    (.build (doto (Value/newBuilder) (.setMap (.build out))))))

(defn- tagged [tag ^Value value]
  (.build (doto (Value/newBuilder) (.setTagged (doto (Tagged/newBuilder) (.setTag (str tag)) (.setValue value))))))

(defn encode
  "A value for the wire, whole: lazy seqs are realised. What EDN has not is BadValue."
  ^Value [x]
  (cond
    (or (nil? x) (instance? String x) (instance? Number x) (instance? Boolean x))
    (cond
      (instance? BigInt x) (.build (doto (Value/newBuilder) (.setBigint (str x))))
      (instance? Ratio x) (throw (bad "the ratio " x " is no EDN value: make it a double or a decimal"))
      (or (nil? x) (not (instance? Number x)) (instance? Long x) (instance? Double x) (instance? Integer x)
          (instance? Short x) (instance? Byte x) (instance? Float x) (instance? BigInteger x) (instance? BigDecimal x))
      (.encode plain x)
      :else (throw (bad "a " (.getName (class x)) " is no EDN value: make it a long, a double, a bigint or a decimal")))
    (instance? Keyword x) (.build (doto (Value/newBuilder) (.setKeyword (subs (str x) 1))))
    (instance? Symbol x) (.build (doto (Value/newBuilder) (.setSymbol (str x))))
    (record? x) (if-let [{:keys [tag to-wire]} (get-in @registry [:classes (class x)])]
                  (tagged tag (entries x to-wire))
                  (throw (bad "a " (.getName (class x)) " has no tag: (register-record! "
                              (.getSimpleName (class x)) ")")))
    (instance? Map x) (entries x nil)
    (vector? x) (.build (doto (Value/newBuilder) (.setVector (items x))))
    (instance? Set x) (.build (doto (Value/newBuilder) (.setSet (items x))))
    (sequential? x) (.build (doto (Value/newBuilder) (.setList (items x))))
    (instance? List x) (.build (doto (Value/newBuilder) (.setVector (items x))))
    (instance? TaggedLiteral x) (tagged (:tag x) (encode (:form x)))
    (and (.isArray (class x)) (not (bytes? x))) (.build (doto (Value/newBuilder) (.setVector (items x))))
    (or (instance? Value x) (bytes? x) (instance? Instant x) (instance? UUID x) (instance? Character x)
        (instance? CodePoint x) (and (instance? Date x) (not (instance? java.sql.Date x))
                                                        (not (instance? java.sql.Time x))))
    (.encode plain x)
    :else (throw (bad "a " (.getName (class x)) " is no EDN value: make it a record and register it by register-record!, "
                      "or make it what EDN has"))))

;; ---- From the wire

(declare natural)

(defn- read-record [{:keys [^Method create from-wire]} ^Value inside]
  (when (.hasMap inside)
    (let [found (natural inside)]
      (when (map? found)
        (try
          (.invoke create nil (object-array [(if from-wire
                                               (into {} (map (fn [[k v]] [(get from-wire k k) v])) found)
                                               found)]))
          ;; Not what its fields take, as text for a ^long: it stays a tagged-literal.
          (catch InvocationTargetException _ nil))))))

(defn- read-tagged [^Tagged value]
  (let [tag (.getTag value)]
    (or (when-let [found (get-in @registry [:tags tag])] (read-record found (.getValue value)))
        (tagged-literal (symbol tag) (natural (.getValue value))))))

(defn- read-instant [^Value value]
  (let [^Instant at (.decode plain value Object)]
    (if (zero? (rem (.getNano at) 1000000)) (Date/from at) (Timestamp/from at))))

(defn- read-map [^Value value]
  (let [all (.getEntriesList (.getMap value))
        found (persistent! (reduce (fn [m ^MapEntry e] (assoc! m (natural (.getKey e)) (natural (.getValue e))))
                                   (transient {}) all))]
    (if (= (count found) (count all)) found value)))

(defn- read-items [^Items items]
  (mapv natural (.getItemsList items)))

(defn natural
  "What a value of the wire is in Clojure."
  [^Value value]
  (case (.name (.getKindCase value))
    "KEYWORD" (keyword (.getKeyword value))
    "SYMBOL" (symbol (.getSymbol value))
    "INSTANT" (read-instant value)
    "BIGINT" (bigint (BigInteger. (.getBigint value)))
    "VECTOR" (read-items (.getVector value))
    "LIST" (apply list (read-items (.getList value)))
    "SET" (let [all (read-items (.getSet value))
                found (set all)]
            (if (= (count found) (count all)) found value))
    "MAP" (read-map value)
    "TAGGED" (read-tagged (.getTagged value))
    (.decode plain value Object)))

(defn- shown [^Value value]
  (let [kind (.toLowerCase (.name (.getKindCase value)) java.util.Locale/ROOT)
        text (pr-str (natural value))]
    (if (< (count text) 64) (str kind " " text) (str "a " kind))))

(def ^ValueMapper mapper
  "What connect gives the Java client."
  (reify ValueMapper
    (encode [_ value] (encode value))
    (^Object decode [_ ^Value value ^Type type]
      (if (= type Value)
        value
        (let [found (natural value)]
          (when-not (or (nil? found) (.isInstance ^Class type found))
            (throw (bad "expected " (.getSimpleName ^Class type) ", found " (shown value)
                        ": read it as the type it has, or without :type")))
          found)))))
