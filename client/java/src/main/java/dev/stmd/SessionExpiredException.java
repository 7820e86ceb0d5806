package dev.stmd;

/** The session is over, with all that it held. */
public final class SessionExpiredException extends StmException {
  private static final long serialVersionUID = 1L;

  SessionExpiredException(String message, Details details) {
    super(Reason.SESSION_EXPIRED, message, details);
  }
}
