package dev.stmd;

/** One entry's external value is lost. */
public final class ValueLostException extends StmException {
  private static final long serialVersionUID = 1L;

  ValueLostException(String message, Details details) {
    super(Reason.VALUE_LOST, message, details);
  }
}
