package dev.stmd;

import java.lang.reflect.Type;
import java.util.concurrent.CompletableFuture;
import java.util.function.UnaryOperator;

/**
 * An atom: changes alone, each change a transaction of one entry; not to be written inside bodies. Made by
 * {@link Stm#atom}.
 *
 * @param <T> what its values are here
 */
public final class Atom<T> extends Handle<T> {
  Atom(Stm client, String name, Type type, boolean hasInit, T init, Definition definition) {
    super(client, name, true, type, hasInit, init, definition);
  }

  /**
   * Sets it, whatever it was.
   *
   * @param value null: nil
   */
  public void reset(T value) {
    reset(value, TransactOptions.DEFAULT);
  }

  /**
   * As {@link #reset(Object)}.
   *
   * @param value null: nil
   * @param options of the transaction
   */
  public void reset(T value, TransactOptions options) {
    Outside.run(this, "reset of " + name, options, tx -> {
      tx.core().write(this, value);
      return null;
    });
  }

  /**
   * Sets it to what a function makes of it, which may be called several times.
   *
   * @param f from the present value, or the init
   * @return the new value
   */
  public T swap(UnaryOperator<T> f) {
    return swap(f, TransactOptions.DEFAULT);
  }

  /**
   * As {@link #swap(UnaryOperator)}.
   *
   * @param f from the present value, or the init
   * @param options of the transaction
   * @return the new value
   */
  public T swap(UnaryOperator<T> f, TransactOptions options) {
    return Outside.run(this, "swap of " + name, options, tx -> {
      T after = f.apply(tx.core().get(this));
      tx.core().write(this, after);
      return after;
    });
  }

  /**
   * Sets it, if it is as expected: compared as EDN, by the daemon.
   *
   * @param expected null: nil
   * @param value null: nil
   * @return whether it was
   */
  public boolean compareAndSet(T expected, T value) {
    return compareAndSet(expected, value, TransactOptions.DEFAULT);
  }

  /**
   * As {@link #compareAndSet(Object, Object)}.
   *
   * @param expected null: nil
   * @param value null: nil
   * @param options of the transaction
   * @return whether it was as expected
   */
  public boolean compareAndSet(T expected, T value, TransactOptions options) {
    return compared(Op.compareAndSet(expected, value), options);
  }

  /**
   * Sets it, if it is absent.
   *
   * @param value null: nil
   * @return whether it was
   */
  public boolean setIfAbsent(T value) {
    return setIfAbsent(value, TransactOptions.DEFAULT);
  }

  /**
   * As {@link #setIfAbsent(Object)}.
   *
   * @param value null: nil
   * @param options of the transaction
   * @return whether it was absent
   */
  public boolean setIfAbsent(T value, TransactOptions options) {
    return compared(Op.setIfAbsent(value), options);
  }

  private boolean compared(Op op, TransactOptions options) {
    try {
      Outside.apply(this, op, options, false);
      return true;
    } catch (RejectedException rejected) {
      if (rejected.rejectCause().equals("compare")) return false;
      throw rejected;
    }
  }

  /**
   * Changes it by an operation, at the daemon: never a conflict.
   *
   * @param op what to do
   * @return what the operation says: the new value, but what was removed for pop and shift
   */
  public Object apply(Op op) {
    return apply(op, TransactOptions.DEFAULT);
  }

  /**
   * As {@link #apply(Op)}.
   *
   * @param op what to do
   * @param options of the transaction
   * @return what the operation says
   */
  public Object apply(Op op, TransactOptions options) {
    return Outside.apply(this, op, options, true);
  }

  /** Deletes it. */
  public void delete() {
    delete(TransactOptions.DEFAULT);
  }

  /**
   * As {@link #delete()}.
   *
   * @param options of the transaction
   */
  public void delete(TransactOptions options) {
    Outside.run(this, "delete of " + name, options, tx -> {
      tx.core().erase(this);
      return null;
    });
  }

  /**
   * As {@link #reset(Object)}, on the client's pool.
   *
   * @param value null: nil
   * @return done when it is durable
   */
  public CompletableFuture<Void> resetAsync(T value) {
    return client.async(() -> {
      reset(value);
      return null;
    });
  }

  /**
   * As {@link #swap(UnaryOperator)}, on the client's pool.
   *
   * @param f from the present value, or the init
   * @return the new value
   */
  public CompletableFuture<T> swapAsync(UnaryOperator<T> f) {
    return client.async(() -> swap(f));
  }

  /**
   * As {@link #apply(Op)}, on the client's pool.
   *
   * @param op what to do
   * @return what the operation says
   */
  public CompletableFuture<Object> applyAsync(Op op) {
    return client.async(() -> apply(op));
  }
}
