package dev.stmd;

/** It would wait for itself; the message tells the cycle. */
public final class DeadlockException extends StmException {
  private static final long serialVersionUID = 1L;

  DeadlockException(String message, Details details) {
    super(Reason.DEADLOCK, message, details);
  }
}
