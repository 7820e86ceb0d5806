package dev.stmd;

/** The daemon does not allow it. */
public final class DeniedException extends StmException {
  private static final long serialVersionUID = 1L;

  DeniedException(String message, Details details) {
    super(Reason.DENIED, message, details);
  }
}
