package dev.stmd;

import java.util.List;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;

/**
 * A running transaction, as its body sees it: all reads are of one snapshot, writes are seen by later reads of the same
 * body, and nothing is visible to others until the commit. The body may run several times: it is a function of what it
 * reads. A read that fails leaves the body by {@link TransactionAbandoned}, and the transaction throws why. Used by the
 * body's thread while the body runs; else {@link TransactionClosedException}.
 */
public final class Tx {
  private final TxCore core;

  Tx(TxCore core) {
    this.core = core;
  }

  TxCore core() {
    return core;
  }

  /** {@return the transaction whose body is running on this thread; null: none} */
  public static Tx current() {
    TxCore core = TxCore.current();
    return core == null ? null : core.tx();
  }

  /** {@return the client it is of} */
  public Stm client() {
    return core.stm();
  }

  /**
   * The value, in this snapshot and after this body's writes.
   *
   * @param <T> its type
   * @param handle a ref or an atom
   * @return null: nil. Of an absent ref its init, which this commit then creates; an absent atom is not created
   */
  public <T> T get(Handle<T> handle) {
    return core.get(handle);
  }

  /**
   * The value, or nothing.
   *
   * @param <T> its type
   * @param handle a ref or an atom
   * @return empty: absent. Of nil BadValueException: {@link #getOr} tells them apart
   */
  public <T> Optional<T> find(Handle<T> handle) {
    return core.find(handle);
  }

  /**
   * The value, or another.
   *
   * @param <T> its type
   * @param handle a ref or an atom
   * @param otherwise what is returned if it is absent; nothing is created
   * @return null: nil
   */
  public <T> T getOr(Handle<T> handle, T otherwise) {
    return core.getOr(handle, otherwise);
  }

  /**
   * Whether there is an entry.
   *
   * @param handle a ref or an atom
   * @return false: absent
   */
  public boolean exists(Handle<?> handle) {
    return core.read(handle) != null;
  }

  /**
   * Sets it. Nothing is sent before the commit.
   *
   * @param <T> its type
   * @param ref what is set
   * @param value null: nil
   */
  public <T> void set(Ref<T> ref, T value) {
    core.write(ref, value);
  }

  /**
   * Sets it to what a function makes of it.
   *
   * @param <T> its type
   * @param ref what is altered
   * @param f from the present value, or the init
   * @return the new value
   */
  public <T> T alter(Ref<T> ref, UnaryOperator<T> f) {
    core.checkAlter(ref);
    T after = f.apply(core.get(ref));
    core.write(ref, after);
    return after;
  }

  /**
   * Changes it by an operation that the daemon applies to the value of the commit: never a conflict. Set or alter of the
   * same ref after it is an error; get asks the daemon, and counts as a read.
   *
   * @param ref what is changed
   * @param op what to do
   * @return the result, known after the commit
   */
  public CommuteResult commute(Ref<?> ref, Op op) {
    return core.apply(ref, op);
  }

  /**
   * Under {@link Isolation#SNAPSHOT}: the commit fails if it has changed since.
   *
   * @param handle a ref or an atom
   */
  public void ensure(Handle<?> handle) {
    core.ensure(handle);
  }

  /**
   * Deletes it.
   *
   * @param ref what is deleted; absent is fine
   */
  public void delete(Ref<?> ref) {
    core.erase(ref);
  }

  /**
   * Entries under a prefix, by name; one that comes or goes there before the commit is a conflict.
   *
   * @param prefix ends in "/"
   * @return in byte order of names, without the system's
   */
  public List<Entry> list(String prefix) {
    return core.list(prefix);
  }

  /**
   * Names under a prefix; their values are not read.
   *
   * @param prefix ends in "/"
   * @return in byte order
   */
  public List<String> names(String prefix) {
    return core.listNames(prefix);
  }

  /**
   * A tagged value that says what this transaction is about; kept in the log with the commit.
   *
   * @param record of a registered type, or a {@link Tagged}
   */
  public void record(Object record) {
    core.record(record);
  }

  /**
   * Replaces validator, TTL and binding, whole, together with what else the body does: who sets a ref and defines it as
   * ephemeral has bound it to this client's session, whoever made it.
   *
   * @param ref which is there by then
   * @param definition what it is from the commit on
   */
  public void define(Ref<?> ref, Definition definition) {
    core.enter();
    core.define(ref, definition);
  }

  /**
   * Commits only while this grant stands, else LockLostException: also of a transaction that only reads. One that is
   * lost already ends the body at once.
   *
   * @param held the grant
   */
  public void fence(Held held) {
    core.fence(held.grant());
  }

  /**
   * A grant that another client holds and handed on, as {@code stmctl lock} does by STM_LOCK and STM_LOCK_TOKEN: the
   * daemon alone knows whether it stands.
   *
   * @param lock the lock's name
   * @param token above 0
   */
  public void fence(String lock, long token) {
    core.fence(lock, token);
  }

  /**
   * Abandons this run, sleeps until something read has changed, and runs the body again. Never returns.
   *
   * @param <T> so that it may stand where a value is wanted
   * @return nothing, ever
   */
  public <T> T retry() {
    throw core.retry();
  }

  /**
   * Runs one; where that retries, the other instead. What the first wrote is dropped, what it read still counts.
   *
   * @param <T> what both return
   * @param first tried first
   * @param second where the first retries
   * @return of the one that ran to its end
   */
  public <T> T orElse(Supplier<? extends T> first, Supplier<? extends T> second) {
    int mark = core.setMark();
    try {
      T result = first.get();
      core.checkSignal();
      core.dropMark(mark);
      return result;
    } catch (TransactionAbandoned abandoned) {
      if (!core.takeRetry(mark)) throw abandoned;
    }
    return second.get();
  }

  /**
   * As {@link #orElse(Supplier, Supplier)}, without results.
   *
   * @param first tried first
   * @param second where the first retries
   */
  public void orElse(Runnable first, Runnable second) {
    orElse(() -> {
      first.run();
      return null;
    }, () -> {
      second.run();
      return null;
    });
  }

  /**
   * Called once, when the commit is durable; never for a run that was abandoned. On the calling thread.
   *
   * @param f what is called
   */
  public void onCommit(Runnable f) {
    core.onCommit(committed -> f.run());
  }

  /**
   * As {@link #onCommit}, and told what was committed.
   *
   * @param f what is called
   */
  public void onCommitted(Consumer<Committed> f) {
    core.onCommit(f);
  }

  /** {@return this run's number, from 1} */
  public int run() {
    return core.run();
  }
}
