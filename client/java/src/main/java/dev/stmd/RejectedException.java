package dev.stmd;

/** A validator or an operation said no; the same write would be rejected again. */
public final class RejectedException extends StmException {
  private static final long serialVersionUID = 1L;

  RejectedException(String message, Details details) {
    super(Reason.REJECTED, message, details);
  }
}
