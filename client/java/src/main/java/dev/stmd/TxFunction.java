package dev.stmd;

/**
 * A transaction's body with a result. It may run several times: a function of what it reads.
 *
 * @param <R> what it returns, null allowed
 * @param <X> the checked exception it throws, which is {@link Stm#transactResult}'s too
 */
@FunctionalInterface
public interface TxFunction<R, X extends Exception> {
  /**
   * One run.
   *
   * @param tx the transaction
   * @return the result
   * @throws X to abandon it; nothing is changed
   */
  R apply(Tx tx) throws X;
}
