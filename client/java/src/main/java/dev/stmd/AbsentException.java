package dev.stmd;

/** There is no such entry. */
public final class AbsentException extends StmException {
  private static final long serialVersionUID = 1L;

  AbsentException(String message, Details details) {
    super(Reason.ABSENT, message, details);
  }
}
