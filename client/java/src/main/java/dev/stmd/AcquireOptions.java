package dev.stmd;

import java.time.Duration;
import java.util.Objects;

/** How a lock is acquired. Immutable: each method that sets something gives another. */
public final class AcquireOptions {
  /** The defaults: alone, waiting its turn for as long as it takes. */
  public static final AcquireOptions DEFAULT = new AcquireOptions();

  private boolean shared;
  private int permitsMax;
  private int permits;
  private Duration wait;
  private String owner = "";
  private Duration timeout;
  private String label = "";

  /** The defaults. */
  public AcquireOptions() {}

  private AcquireOptions copy() {
    AcquireOptions o = new AcquireOptions();
    o.shared = shared;
    o.permitsMax = permitsMax;
    o.permits = permits;
    o.wait = wait;
    o.owner = owner;
    o.timeout = timeout;
    o.label = label;
    return o;
  }

  /**
   * With others who read; else alone. Whoever holds it alone may have it shared too, and then release the first
   * (downgrade); the other way round it is UpgradeRefusedException while others read.
   *
   * @param shared false unless it is set
   * @return with it
   */
  public AcquireOptions shared(boolean shared) {
    AcquireOptions o = copy();
    o.shared = shared;
    return o;
  }

  /**
   * A semaphore.
   *
   * @param permits how many are taken; 0: one
   * @param permitsMax how many there are, the same for all who use it; 0: no semaphore
   * @return with it
   */
  public AcquireOptions permits(int permits, int permitsMax) {
    AcquireOptions o = copy();
    o.permits = permits;
    o.permitsMax = permitsMax;
    return o;
  }

  /**
   * How long it waits its turn; then LockBusyException.
   *
   * @param wait null: until it is granted; zero: at once, past those who wait, or not at all
   * @return with it
   */
  public AcquireOptions waitAtMost(Duration wait) {
    AcquireOptions o = copy();
    o.wait = wait;
    return o;
  }

  /**
   * Reentrant for the same owner of this client: each acquire is a hold, each Held releases one.
   *
   * @param owner "": the client itself, so threads that are to exclude one another name themselves. At most 256 bytes
   * @return with it
   */
  public AcquireOptions owner(String owner) {
    AcquireOptions o = copy();
    o.owner = Objects.requireNonNull(owner);
    return o;
  }

  /**
   * Of the whole call; then DeadlineException, and the place in the queue is given up.
   *
   * @param timeout null: without an end
   * @return with it
   */
  public AcquireOptions timeout(Duration timeout) {
    AcquireOptions o = copy();
    o.timeout = timeout;
    return o;
  }

  /**
   * Why, kept with the commit.
   *
   * @param label "": nothing
   * @return with it
   */
  public AcquireOptions label(String label) {
    AcquireOptions o = copy();
    o.label = Objects.requireNonNull(label);
    return o;
  }

  boolean shared() {
    return shared;
  }

  int permitsMax() {
    return permitsMax;
  }

  int permits() {
    return permits;
  }

  Duration waitTime() {
    return wait;
  }

  String owner() {
    return owner;
  }

  Duration timeout() {
    return timeout;
  }

  String label() {
    return label;
  }
}
