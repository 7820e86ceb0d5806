package dev.stmd;

/** The thread was interrupted (and stays so) or the client closed; nothing was changed. */
public final class CancelledException extends StmException {
  private static final long serialVersionUID = 1L;

  CancelledException(String message, Details details) {
    super(Reason.CANCELLED, message, details);
  }
}
