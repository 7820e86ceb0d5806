package dev.stmd;

import java.time.Duration;

/** How a read outside transactions is done. Immutable: each method that sets something gives another. */
public final class ReadOptions {
  /** No timeout, linearizable. */
  public static final ReadOptions DEFAULT = new ReadOptions(null, false);

  private final Duration timeout;
  private final boolean staleOk;

  private ReadOptions(Duration timeout, boolean staleOk) {
    this.timeout = timeout;
    this.staleOk = staleOk;
  }

  /**
   * Then DeadlineException.
   *
   * @param timeout null: without an end
   * @return with it
   */
  public ReadOptions timeout(Duration timeout) {
    return new ReadOptions(timeout, staleOk);
  }

  /**
   * What the daemon has in memory, at once; never older than this client saw.
   *
   * @param staleOk false unless it is set
   * @return with it
   */
  public ReadOptions staleOk(boolean staleOk) {
    return new ReadOptions(timeout, staleOk);
  }

  Duration timeout() {
    return timeout;
  }

  boolean staleOk() {
    return staleOk;
  }
}
