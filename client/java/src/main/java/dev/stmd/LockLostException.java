package dev.stmd;

/** A grant is gone, or a place in a lock's queue; what was fenced by it changed nothing. */
public final class LockLostException extends StmException {
  private static final long serialVersionUID = 1L;

  LockLostException(String message, Details details) {
    super(Reason.FENCE_LOST, message, details);
  }
}
