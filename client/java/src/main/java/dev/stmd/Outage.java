package dev.stmd;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/** How long calls have failed, and when it is enough. One thread. */
final class Outage {
  /** A call that was under way for so long before it broke was no part of an outage. */
  private static final Duration WAS_WELL_AFTER = Duration.ofSeconds(1);
  private static final long PAUSE_MIN_NANOS = 10_000_000;
  private static final long PAUSE_MAX_NANOS = 1_000_000_000;

  private final Duration limit;
  private Deadline until;
  private Deadline wellAfter = Deadline.NEVER;
  private int failures;
  private StmException cause;

  /** Null: without an end. */
  Outage(Duration limit) {
    this.limit = limit;
  }

  /** When to give up: so long after the first failure; without one, so long from now. */
  Deadline until() {
    return until != null ? until : Deadline.in(limit);
  }

  /** Of each call, as it begins. */
  void begin() {
    wellAfter = Deadline.in(WAS_WELL_AFTER);
  }

  void fail(StmException failure) {
    if (wellAfter.passed()) end();
    wellAfter = Deadline.NEVER;
    if (until == null) until = Deadline.in(limit);
    ++failures;
    cause = failure;
  }

  void end() {
    until = null;
    failures = 0;
  }

  boolean over() {
    return until != null && until.passed();
  }

  /** Before the next try: none after the first failure, then 10 ms to 1 s. Nanoseconds. */
  long pause() {
    if (failures <= 1) return 0;
    long most = Math.min(PAUSE_MIN_NANOS << Math.min(failures - 2, 7), PAUSE_MAX_NANOS);
    return ThreadLocalRandom.current().nextLong(most / 2, most + 1);
  }

  StmException cause() {
    return cause;
  }
}
