package dev.stmd;

/** Others have the lock, and had it for all of the wait. */
public final class LockBusyException extends StmException {
  private static final long serialVersionUID = 1L;

  LockBusyException(String message, Details details) {
    super(Reason.LOCK_BUSY, message, details);
  }
}
