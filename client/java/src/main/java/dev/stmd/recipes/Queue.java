package dev.stmd.recipes;

import dev.stmd.Op;
import dev.stmd.Ref;
import dev.stmd.Stm;
import dev.stmd.TransactOptions;
import dev.stmd.Tx;
import java.util.List;
import java.util.Optional;

/**
 * One ref that holds a vector: first in, first out, whole within a transaction with whatever else it changes. A value is
 * bounded (value_bytes_max), and so is the queue: for work to be done, not for storage. Any thread.
 *
 * @param <T> items, not null
 */
public final class Queue<T> {
  private final Ref<List<T>> ref;

  /**
   * By name; does no I/O.
   *
   * @param client whose
   * @param name of the ref
   */
  public Queue(Stm client, String name) {
    ref = client.ref(name, List.of());
  }

  /**
   * Never conflicts with others that put.
   *
   * @param tx the transaction
   * @param item goes to the end
   */
  public void put(Tx tx, T item) {
    tx.commute(ref, Op.conj(item));
  }

  /**
   * As {@link #put(Tx, Object)}, in a transaction of its own.
   *
   * @param item goes to the end
   */
  public void put(T item) {
    ref.client().transact(tx -> put(tx, item));
  }

  /**
   * Sleeps until there is one.
   *
   * @param tx the transaction
   * @return the first
   */
  public T take(Tx tx) {
    List<T> items = tx.get(ref);
    if (items.isEmpty()) return tx.retry();
    tx.set(ref, items.subList(1, items.size()));
    return items.get(0);
  }

  /**
   * As {@link #take(Tx)}, in a transaction of its own.
   *
   * @param options timeout, once
   * @return the first
   */
  public T take(TransactOptions options) {
    return ref.client().transactResult(options, this::take);
  }

  /** {@return the first; empty: there is none now} */
  public Optional<T> tryTake() {
    return ref.client().transactResult(tx -> tx.orElse(() -> Optional.of(take(tx)), () -> Optional.empty()));
  }
}
