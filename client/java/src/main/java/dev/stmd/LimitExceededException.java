package dev.stmd;

/** A bound was reached: {@link #limit} and {@link #limitValue} name it. */
public final class LimitExceededException extends StmException {
  private static final long serialVersionUID = 1L;

  LimitExceededException(String message, Details details) {
    super(Reason.LIMIT_EXCEEDED, message, details);
  }
}
