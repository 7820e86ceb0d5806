package dev.stmd;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * One session of the daemon's, as this client believes in it: until the sending of the newest answered beat, and the TTL
 * less a margin. Clocks count suspend. Any thread.
 */
final class Lease {
  /** The client stops believing so much of the TTL before the daemon does: for clocks that do not run alike. */
  private static final int MARGIN_PART = 10;
  private static final long MARGIN_MAX_NANOS = 1_000_000_000;
  /** The longest sleep that a clock which stood still in suspend may prolong. */
  static final long SLEEP_MAX_NANOS = 1_000_000_000;
  private static final Path UPTIME = Path.of("/proc/uptime");
  private static final boolean HAS_UPTIME = Files.isReadable(UPTIME);

  private final String id;
  private final long ttl;
  private final long margin;
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition ended = lock.newCondition();
  private long until;
  private boolean over;

  /** `sent`: when the call that opened it was first sent. Nanoseconds. */
  Lease(String id, long ttl, long sent) {
    this.id = id;
    this.ttl = ttl;
    this.margin = Math.min(ttl / MARGIN_PART, MARGIN_MAX_NANOS);
    this.until = sent + ttl - margin;
  }

  /** Since the machine's start, suspend included where the system tells it. Nanoseconds. */
  static long bootTime() {
    if (!HAS_UPTIME) return System.nanoTime();
    try {
      String text = Files.readString(UPTIME, StandardCharsets.US_ASCII);
      return (long) (Double.parseDouble(text.substring(0, text.indexOf(' '))) * 1e9);
    } catch (IOException unreadable) {
      throw new java.io.UncheckedIOException("reading " + UPTIME, unreadable);
    }
  }

  String id() {
    return id;
  }

  long ttl() {
    return ttl;
  }

  /** Once true it stays so, whatever is answered later. */
  boolean over() {
    lock.lock();
    try {
      over = over || bootTime() >= until;
      return over;
    } finally {
      lock.unlock();
    }
  }

  long until() {
    lock.lock();
    try {
      return until;
    } finally {
      lock.unlock();
    }
  }

  /** 0: it is over. */
  long left() {
    return over() ? 0 : Math.max(0, until() - bootTime());
  }

  /** A beat that was sent then is answered. */
  void answered(long sent) {
    lock.lock();
    try {
      // Whoever asked may have been told that it is over.
      over = over || bootTime() >= until;
      if (!over) until = Math.max(until, sent + ttl - margin);
    } finally {
      lock.unlock();
    }
  }

  void end() {
    lock.lock();
    try {
      over = true;
      ended.signalAll();
    } finally {
      lock.unlock();
    }
  }

  /** True as soon as it is over; false at the call's deadline or interruption. */
  boolean awaitOver(Call call) {
    while (!over()) {
      if (call.deadline.passed() || call.cancelled()) return false;
      lock.lock();
      try {
        if (!over) ended.await(Math.min(Math.min(call.deadline.left(), left()), SLEEP_MAX_NANOS), TimeUnit.NANOSECONDS);
      } catch (InterruptedException interrupted) {
        call.caught();
      } finally {
        lock.unlock();
      }
    }
    return true;
  }
}
