package dev.stmd;

/** What of a transaction's reads is checked at its commit. */
public enum Isolation {
  /** All reads and lists: no write skew. */
  SERIALIZABLE,
  /** Clojure's: only what was set, deleted or ensured. */
  SNAPSHOT
}
