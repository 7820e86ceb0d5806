package dev.stmd;

/** The store was wiped or restored. */
public final class StoreChangedException extends StmException {
  private static final long serialVersionUID = 1L;

  StoreChangedException(String message, Details details) {
    super(Reason.STORE_CHANGED, message, details);
  }
}
