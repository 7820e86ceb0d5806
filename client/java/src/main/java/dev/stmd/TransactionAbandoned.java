package dev.stmd;

/**
 * Leaves a body early: a read that failed, a conflict, a retry. An Error, so that a body's own {@code catch (Exception e)}
 * does not swallow it; a run that it was thrown in is abandoned all the same, whatever the body returns. One that catches
 * Throwable should throw it on.
 */
public final class TransactionAbandoned extends Error {
  private static final long serialVersionUID = 1L;

  TransactionAbandoned() {
    super("the run is abandoned", null, false, false);
  }
}
