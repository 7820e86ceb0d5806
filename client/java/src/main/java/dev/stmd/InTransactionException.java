package dev.stmd;

/** I/O inside a transaction's body, which may run several times. */
public final class InTransactionException extends StmException {
  private static final long serialVersionUID = 1L;

  InTransactionException(String message, Details details) {
    super(Reason.IN_TRANSACTION, message, details);
  }
}
