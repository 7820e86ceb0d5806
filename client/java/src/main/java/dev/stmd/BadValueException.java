package dev.stmd;

/** Not what the type that was asked for, the call, or the daemon takes. */
public final class BadValueException extends StmException {
  private static final long serialVersionUID = 1L;

  BadValueException(String message, Details details) {
    super(Reason.BAD_VALUE, message, details);
  }

  /**
   * For codecs of one's own: a value that does not fit.
   *
   * @param message what, and what to do
   */
  public BadValueException(String message) {
    this(message, new Details().code(io.grpc.Status.Code.INVALID_ARGUMENT));
  }
}
