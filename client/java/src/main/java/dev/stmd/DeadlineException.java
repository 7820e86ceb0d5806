package dev.stmd;

/** The caller's own timeout was over; nothing was changed. */
public final class DeadlineException extends StmException {
  private static final long serialVersionUID = 1L;

  DeadlineException(String message, Details details) {
    super(Reason.DEADLINE, message, details);
  }
}
