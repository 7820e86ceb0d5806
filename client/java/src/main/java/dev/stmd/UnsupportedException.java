package dev.stmd;

/** The daemon is older than this client and lacks the call. */
public final class UnsupportedException extends StmException {
  private static final long serialVersionUID = 1L;

  UnsupportedException(String message, Details details) {
    super(Reason.UNSUPPORTED, message, details);
  }
}
