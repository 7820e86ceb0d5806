package dev.stmd;

/** The daemon's disk is full. */
public final class NoSpaceException extends StmException {
  private static final long serialVersionUID = 1L;

  NoSpaceException(String message, Details details) {
    super(Reason.NO_SPACE, message, details);
  }
}
