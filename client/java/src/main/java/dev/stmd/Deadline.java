package dev.stmd;

import java.time.Duration;

/** A moment of the machine's steady clock, or never. */
record Deadline(boolean never, long at) {
  static final Deadline NEVER = new Deadline(true, 0);
  private static final Duration FAR = Duration.ofDays(365L * 100);

  /** Null, or longer than a hundred years: never. */
  static Deadline in(Duration duration) {
    if (duration == null || duration.compareTo(FAR) > 0) return NEVER;
    return new Deadline(false, System.nanoTime() + Math.max(0, duration.toNanos()));
  }

  static Deadline inNanos(long nanos) {
    return new Deadline(false, System.nanoTime() + nanos);
  }

  static Deadline earlier(Deadline a, Deadline b) {
    if (a.never) return b;
    if (b.never) return a;
    return a.at - b.at < 0 ? a : b;
  }

  boolean passed() {
    return !never && System.nanoTime() - at >= 0;
  }

  /** Nanoseconds, not below 0; Long.MAX_VALUE: never. */
  long left() {
    return never ? Long.MAX_VALUE : Math.max(0, at - System.nanoTime());
  }
}
