package dev.stmd;

/** Runs or time of a transaction are spent in conflicts: {@link #causes} names entries and by whom. */
public final class ConflictException extends StmException {
  private static final long serialVersionUID = 1L;

  ConflictException(String message, Details details) {
    super(Reason.CONFLICT, message, details);
  }
}
