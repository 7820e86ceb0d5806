package dev.stmd;

import java.time.Duration;

/**
 * What a client holds locks and ephemeral entries by, as far as this client believes in it: one session, whose end is for
 * good; the next need opens another. Made by {@link Stm#session}. Any thread.
 */
public final class Session {
  private final Lease lease;

  Session(Lease lease) {
    this.lease = lease;
  }

  /** {@return as operators see it} */
  public String id() {
    return lease.id();
  }

  /** {@return whether it was expired, or not heard of for its TTL by this client's own clock; stays true} */
  public boolean isLost() {
    return lease.over();
  }

  /**
   * Waits for its end.
   *
   * @param timeout null: without an end
   * @return false after the timeout
   */
  public boolean awaitLost(Duration timeout) {
    Call call = Call.until(timeout);
    boolean over = lease.awaitOver(call);
    if (!over && call.cancelled()) throw Errors.cancelled();
    return over;
  }

  @Override
  public String toString() {
    return "Session " + id();
  }
}
