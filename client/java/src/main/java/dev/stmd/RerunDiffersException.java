package dev.stmd;

/** {@link TransactOptions#rerunCheck} found a body that is no function of what it reads. */
public final class RerunDiffersException extends StmException {
  private static final long serialVersionUID = 1L;

  RerunDiffersException(String message, Details details) {
    super(Reason.RERUN_DIFFERS, message, details);
  }
}
