package dev.stmd;

/** How a lock is held. */
public enum LockMode {
  /** Alone. */
  EXCLUSIVE,
  /** With others who read. */
  SHARED,
  /** Some permits of a semaphore. */
  PERMITS
}
