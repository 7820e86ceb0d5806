package dev.stmd;

/** A commit was sent and its outcome is not known: ask by {@link #outcomeWord}. */
public final class CommitUnknownException extends StmException {
  private static final long serialVersionUID = 1L;

  CommitUnknownException(String message, Details details) {
    super(Reason.COMMIT_UNKNOWN, message, details);
  }
}
