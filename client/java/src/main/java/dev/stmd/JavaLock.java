package dev.stmd;

import java.time.Duration;
import java.time.Instant;
import java.util.Date;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.Condition;

/**
 * A {@link java.util.concurrent.locks.Lock} between threads of all clients: fair, reentrant, with conditions. Each thread
 * is an owner of its own; a thread's further holds are counted here and cost no call. A lock that was lost (its session's
 * time was over, or an operator broke it) is found out by {@link #unlock}, which throws {@link LockLostException}, by
 * {@link #held}, and by what is fenced. {@link #held} is what {@link Tx#fence} takes. Any thread.
 */
public final class JavaLock implements java.util.concurrent.locks.Lock {
  private final Stm client;
  private final String name;
  private final boolean shared;
  private final Map<Thread, Hold> holds = new ConcurrentHashMap<>();
  private final AtomicInteger conditions = new AtomicInteger();

  /** A thread's; changed by it alone. */
  private static final class Hold {
    final Held held;
    volatile int count = 1;

    Hold(Held held) {
      this.held = held;
    }
  }

  JavaLock(Stm client, String name, boolean shared) {
    this.client = client;
    this.name = name;
    this.shared = shared;
  }

  /** As the daemon shows this thread as an owner. */
  @SuppressWarnings("deprecation") // threadId() is of Java 19
  private static String owner() {
    return "thread-" + Thread.currentThread().getId();
  }

  private AcquireOptions options() {
    return AcquireOptions.DEFAULT.owner(owner()).shared(shared);
  }

  /** True: this thread had it, and has it once more. */
  private boolean again() {
    Hold hold = holds.get(Thread.currentThread());
    if (hold == null) return false;
    if (hold.held.isLost()) throw Errors.lockLost(name, "is gone");
    if (hold.count == Integer.MAX_VALUE) throw new Error("more holds of " + name + " than an int counts");
    hold.count++;
    return true;
  }

  private void acquire(AcquireOptions options, boolean interruptible) {
    holds.put(Thread.currentThread(), new Hold(new Held(client.core(), Locks.acquire(client.core(), name, options, interruptible))));
  }

  @Override
  public void lock() {
    if (!again()) acquire(options(), false);
  }

  @Override
  public void lockInterruptibly() throws InterruptedException {
    if (Thread.interrupted()) throw new InterruptedException();
    if (again()) return;
    try {
      acquire(options(), true);
    } catch (CancelledException cancelled) {
      if (Thread.interrupted()) throw new InterruptedException();
      throw cancelled;
    }
  }

  /** At once, past those who wait, or not at all. */
  @Override
  public boolean tryLock() {
    if (again()) return true;
    try {
      acquire(options().waitAtMost(Duration.ZERO), false);
      return true;
    } catch (LockBusyException busy) {
      return false;
    }
  }

  @Override
  public boolean tryLock(long time, TimeUnit unit) throws InterruptedException {
    if (Thread.interrupted()) throw new InterruptedException();
    if (again()) return true;
    try {
      acquire(options().waitAtMost(Duration.ofNanos(Math.max(0, unit.toNanos(time)))), true);
      return true;
    } catch (LockBusyException busy) {
      return false;
    } catch (CancelledException cancelled) {
      if (Thread.interrupted()) throw new InterruptedException();
      throw cancelled;
    }
  }

  /**
   * Gives one hold back.
   *
   * @throws IllegalMonitorStateException if this thread has none
   * @throws LockLostException if the grant was lost meanwhile; this thread has it no more
   */
  @Override
  public void unlock() {
    Hold hold = mine();
    if (hold.count > 1) {
      hold.count--;
      return;
    }
    try {
      hold.held.release();
    } finally {
      if (hold.held.grant().released()) holds.remove(Thread.currentThread());
    }
  }

  private Hold mine() {
    Hold hold = holds.get(Thread.currentThread());
    if (hold == null) throw new IllegalMonitorStateException(name + " is not held by this thread: lock it first");
    return hold;
  }

  /**
   * A condition, which all clients share by its name: the first that is made by this object is "c1", the next "c2".
   *
   * @return a condition of its own
   * @throws UnsupportedOperationException of a read lock
   */
  @Override
  public Condition newCondition() {
    if (shared) throw new UnsupportedOperationException("a read lock has no conditions: use the write lock's");
    return newCondition("c" + conditions.incrementAndGet());
  }

  /**
   * A condition by name.
   *
   * @param condition one segment of a name, the same for all who use it
   * @return the condition
   * @throws UnsupportedOperationException of a read lock
   */
  public Condition newCondition(String condition) {
    if (shared) throw new UnsupportedOperationException("a read lock has no conditions: use the write lock's");
    return new JavaCondition(condition);
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
   * The grant of this thread, for {@link Tx#fence}.
   *
   * @return it; also when it is lost
   * @throws IllegalMonitorStateException if this thread has none
   */
  public Held held() {
    return mine().held;
  }

  /** {@return how often this thread has it; 0: not at all} */
  public int getHoldCount() {
    Hold hold = holds.get(Thread.currentThread());
    return hold == null ? 0 : hold.count;
  }

  /** {@return whether this thread has it, and it is not lost} */
  public boolean isHeldByCurrentThread() {
    Hold hold = holds.get(Thread.currentThread());
    return hold != null && !hold.held.isLost();
  }

  /** {@return the thread of this program that has it by this object, one of them if it is shared; null: none} */
  public Thread getOwner() {
    for (Map.Entry<Thread, Hold> hold : holds.entrySet()) {
      if (!hold.getValue().held.isLost()) return hold.getKey();
    }
    return null;
  }

  /** {@return whether anybody has it, in any program: the daemon is asked} */
  public boolean isLocked() {
    return !info().holders().isEmpty();
  }

  /** {@return how many wait for it, in all programs: the daemon is asked} */
  public int getQueueLength() {
    return info().queue().size();
  }

  /** {@return true: first come, first served} */
  public boolean isFair() {
    return true;
  }

  /** {@return who has it and who waits: the daemon is asked} */
  public LockInfo info() {
    return Locks.info(client.core(), name);
  }

  @Override
  public String toString() {
    Thread owner = getOwner();
    return "JavaLock " + name + (owner == null ? "[Unlocked here]" : "[Locked by thread " + owner.getName() + "]");
  }

  private final class JavaCondition implements Condition {
    private final String condition;

    JavaCondition(String condition) {
      this.condition = condition;
    }

    private boolean awaits(Duration timeout) throws InterruptedException {
      Hold hold = mine();
      return Locks.await(client.core(), hold.held.grant(), condition, timeout, true);
    }

    @Override
    public void await() throws InterruptedException {
      awaits(null);
    }

    @Override
    public void awaitUninterruptibly() {
      mine().held.awaitUninterruptibly(condition, null);
    }

    @Override
    public long awaitNanos(long nanosTimeout) throws InterruptedException {
      long until = System.nanoTime() + nanosTimeout;
      boolean signalled = awaits(Duration.ofNanos(Math.max(0, nanosTimeout)));
      long left = until - System.nanoTime();
      return signalled ? Math.max(1, left) : Math.min(0, left);
    }

    @Override
    public boolean await(long time, TimeUnit unit) throws InterruptedException {
      return awaits(Duration.ofNanos(Math.max(0, unit.toNanos(time))));
    }

    @Override
    public boolean awaitUntil(Date deadline) throws InterruptedException {
      Duration left = Duration.between(Instant.now(), deadline.toInstant());
      return awaits(left.isNegative() ? Duration.ZERO : left);
    }

    @Override
    public void signal() {
      mine().held.signal(condition);
    }

    @Override
    public void signalAll() {
      mine().held.signalAll(condition);
    }

    @Override
    public String toString() {
      return "Condition " + condition + " of " + name;
    }
  }
}
