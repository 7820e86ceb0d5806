package dev.stmd;

/** A version older than the history that is kept. */
public final class SnapshotTooOldException extends StmException {
  private static final long serialVersionUID = 1L;

  SnapshotTooOldException(String message, Details details) {
    super(Reason.SNAPSHOT_TOO_OLD, message, details);
  }
}
