package dev.stmd;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;

/**
 * One hold of a lock; closing it releases it. A Held is this client's belief: what a commit may do under a lock is
 * decided by {@link Tx#fence} alone. Any thread; calls are I/O, and inside a transaction's body they throw
 * InTransactionException.
 */
public final class Held implements AutoCloseable {
  /** How long {@link #close} waits; what it could not release goes on in the background. */
  public static final Duration RELEASE_IN_CLOSE_MAX = Duration.ofSeconds(1);

  private final ClientCore core;
  private final Grant grant;

  Held(ClientCore core, Grant grant) {
    this.core = core;
    this.grant = grant;
  }

  Grant grant() {
    return grant;
  }

  /** {@return the lock's name} */
  public String name() {
    return grant.name();
  }

  /** {@return what fences name; grows with each grant of the lock. {@link #await} changes it} */
  public long token() {
    return grant.token();
  }

  /** {@return whether it is lost or released, or the session's time is over by this client's own clock; stays true} */
  public boolean isLost() {
    return grant.over();
  }

  /** {@return done when the grant is lost, at once if it is already; never for a release} */
  public CompletableFuture<Void> lost() {
    return grant.lostFuture().copy();
  }

  /**
   * Waits for the loss.
   *
   * @param timeout null: without an end
   * @return whether it is lost or released; false after the timeout
   */
  public boolean awaitLost(Duration timeout) {
    Call call = Call.until(timeout);
    while (!grant.over()) {
      if (call.cancelled()) throw Errors.cancelled();
      if (call.deadline.passed()) return false;
      try {
        long most = Math.min(Math.min(call.deadline.left(), grant.lease().left()), Lease.SLEEP_MAX_NANOS);
        grant.lostFuture().get(most, java.util.concurrent.TimeUnit.NANOSECONDS);
      } catch (java.util.concurrent.TimeoutException again) {
        // It looks again: the loss may be by the clock alone, or a release.
      } catch (java.util.concurrent.ExecutionException impossible) {
        throw new IllegalStateException(impossible);
      } catch (InterruptedException interrupted) {
        call.caught();
      }
    }
    return true;
  }

  /**
   * Gives this hold back.
   *
   * @throws LockLostException if it was lost, or released before
   * @throws UnavailableException if no daemon answered: it may be called again
   */
  public void release() {
    Transaction.checkOutside("release of " + name());
    Locks.release(core, grant, Call.uninterruptible(Deadline.NEVER));
  }

  /**
   * Releases it, unless that is done: within {@link #RELEASE_IN_CLOSE_MAX}, then in the background. Errors are dropped: the
   * session's end releases it.
   */
  @Override
  public void close() {
    if (grant.released()) return;
    try {
      Locks.release(core, grant, Call.uninterruptible(Deadline.in(RELEASE_IN_CLOSE_MAX)));
    } catch (StmException failure) {
      if (grant.released() || core.closed()) return;
      core.inBackground(() -> {
        try {
          Locks.release(core, grant, Call.until(Locks.GIVE_UP_MAX));
        } catch (StmException unanswered) {
          core.session().remove(grant);
        }
      });
    }
  }

  /**
   * Of an exclusive hold: gives the lock up with all its holds, awaits a signal, and has the lock again, however long that
   * takes.
   *
   * @param condition one segment of a name, the same for all who use it
   * @param timeout of the wait for the signal; null: without an end
   * @return false: the timeout was over before a signal came
   * @throws InterruptedException if the thread was interrupted; the lock is had again by then
   * @throws LockLostException if it is not held any more
   */
  public boolean await(String condition, Duration timeout) throws InterruptedException {
    return Locks.await(core, grant, condition, timeout, true);
  }

  /**
   * As {@link #await}, whatever becomes of the thread.
   *
   * @param condition one segment of a name
   * @param timeout of the wait for the signal; null: without an end
   * @return false: the timeout was over before a signal came
   */
  public boolean awaitUninterruptibly(String condition, Duration timeout) {
    try {
      return Locks.await(core, grant, condition, timeout, false);
    } catch (InterruptedException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  /**
   * Wakes the first who awaits.
   *
   * @param condition one segment of a name
   * @return how many were woken
   */
  public int signal(String condition) {
    return Locks.signal(core, grant, condition, false);
  }

  /**
   * Wakes all who await.
   *
   * @param condition one segment of a name
   * @return how many were woken
   */
  public int signalAll(String condition) {
    return Locks.signal(core, grant, condition, true);
  }

  @Override
  public String toString() {
    return "Held " + name() + " " + token();
  }
}
