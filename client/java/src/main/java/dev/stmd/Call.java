package dev.stmd;

/**
 * What a blocking call is bounded by: the caller's deadline, and the interruption of its thread. A call that is not
 * interruptible remembers an interruption and gives it back when it ends. One thread.
 */
final class Call {
  final Deadline deadline;
  private final boolean interruptible;
  private boolean interrupted;

  Call(Deadline deadline, boolean interruptible) {
    this.deadline = deadline;
    this.interruptible = interruptible;
  }

  static Call until(java.time.Duration timeout) {
    return new Call(Deadline.in(timeout), true);
  }

  /** Of what must be done whatever becomes of the thread. {@link #end} is due. */
  static Call uninterruptible(Deadline deadline) {
    return new Call(deadline, false);
  }

  /** Was the thread interrupted, and does this call end by it? */
  boolean cancelled() {
    if (interruptible) return Thread.currentThread().isInterrupted();
    interrupted |= Thread.interrupted();
    return false;
  }

  /** After an InterruptedException. */
  void caught() {
    Thread.currentThread().interrupt();
    cancelled();
  }

  void end() {
    if (interrupted) Thread.currentThread().interrupt();
    interrupted = false;
  }
}
