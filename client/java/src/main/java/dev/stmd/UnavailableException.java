package dev.stmd;

/** No daemon answered within the client's unavailable timeout, or it can't now. */
public final class UnavailableException extends StmException {
  private static final long serialVersionUID = 1L;

  UnavailableException(String message, Details details) {
    super(Reason.UNAVAILABLE, message, details);
  }
}
