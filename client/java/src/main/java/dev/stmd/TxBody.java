package dev.stmd;

/**
 * A transaction's body without a result. It may run several times: a function of what it reads.
 *
 * @param <X> the checked exception it throws, which is {@link Stm#transact}'s too
 */
@FunctionalInterface
public interface TxBody<X extends Exception> {
  /**
   * One run.
   *
   * @param tx the transaction
   * @throws X to abandon it; nothing is changed
   */
  void run(Tx tx) throws X;
}
