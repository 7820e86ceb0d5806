package dev.stmd;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;

/**
 * A handle of a lock, which does no I/O when it is made: first come, first served, held by this client's session. Made by
 * {@link Stm#lock}. Any thread.
 */
public final class Lock {
  private final Stm client;
  private final String name;

  Lock(Stm client, String name) {
    this.client = client;
    this.name = name;
  }

  /** {@return the lock's name} */
  public String name() {
    return name;
  }

  /** {@return the client it is of} */
  public Stm client() {
    return client;
  }

  /**
   * Waits its turn, alone.
   *
   * @return the hold
   * @throws DeadlockException if it would wait for itself
   * @throws CancelledException if the thread was interrupted; the place in the queue is given up
   */
  public Held acquire() {
    return acquire(AcquireOptions.DEFAULT);
  }

  /**
   * As {@link #acquire()}.
   *
   * @param options shared, permits, how long it waits
   * @return the hold
   * @throws LockBusyException if it was not granted within the wait
   * @throws UpgradeRefusedException if this owner reads, and others too
   */
  public Held acquire(AcquireOptions options) {
    return new Held(client.core(), Locks.acquire(client.core(), name, options, true));
  }

  /** {@return the hold, at once and past those who wait; empty: others have it} */
  public Optional<Held> tryAcquire() {
    return tryAcquire(Duration.ZERO);
  }

  /**
   * Waits its turn for so long.
   *
   * @param wait zero: at once, past those who wait
   * @return empty: not within the wait
   */
  public Optional<Held> tryAcquire(Duration wait) {
    try {
      return Optional.of(acquire(AcquireOptions.DEFAULT.waitAtMost(wait)));
    } catch (LockBusyException busy) {
      return Optional.empty();
    }
  }

  /** {@return {@link #acquire()} on the client's pool; cancelling it gives the place up} */
  public CompletableFuture<Held> acquireAsync() {
    return acquireAsync(AcquireOptions.DEFAULT);
  }

  /**
   * {@link #acquire(AcquireOptions)} on the client's pool.
   *
   * @param options shared, permits, how long it waits
   * @return the hold; cancelling it gives the place up
   */
  public CompletableFuture<Held> acquireAsync(AcquireOptions options) {
    return client.async(() -> acquire(options), Held::close);
  }

  /** {@return a {@link java.util.concurrent.locks.Lock} by this lock, with threads as its owners} */
  public JavaLock asJavaLock() {
    return new JavaLock(client, name, false);
  }

  /** {@return a {@link java.util.concurrent.locks.ReadWriteLock} by this lock, with threads as its owners} */
  public JavaReadWriteLock asJavaReadWriteLock() {
    return new JavaReadWriteLock(client, name);
  }

  /** {@return who holds it, and who waits} */
  public LockInfo info() {
    return Locks.info(client.core(), name);
  }

  /**
   * An operator's: takes it from all who hold it, by a commit that says who and why.
   *
   * @param label why
   * @return false: nobody had it
   */
  public boolean breakIt(String label) {
    return Locks.breakLock(client.core(), name, label);
  }

  @Override
  public String toString() {
    return "Lock " + name;
  }
}
