package dev.stmd;

/** A {@link Tx} was used after its body had ended, or by another thread. */
public final class TransactionClosedException extends StmException {
  private static final long serialVersionUID = 1L;

  TransactionClosedException(String message, Details details) {
    super(Reason.TRANSACTION_CLOSED, message, details);
  }
}
