package dev.stmd;

import java.lang.reflect.Type;
import java.util.concurrent.CompletableFuture;
import stmd.v1.Value;

/**
 * A name, and what is to be made there: what {@link Ref} and {@link Atom} have in common. Making one does no I/O. Any
 * thread.
 *
 * @param <T> what its values are here
 */
public abstract sealed class Handle<T> permits Ref, Atom {
  final Stm client;
  final ClientCore core;
  final String name;
  final boolean isAtom;
  final Type type;
  final boolean hasInit;
  final T initValue;
  final Value init; // null: none
  final StmException badInit; // why it can't be encoded: told when it is used, as handles do no more than name
  final Definition definition;
  volatile boolean exists; // a hint: its init need not be sent

  Handle(Stm client, String name, boolean isAtom, Type type, boolean hasInit, T initValue, Definition definition) {
    this.client = client;
    this.core = client.core();
    this.name = name;
    this.isAtom = isAtom;
    this.type = type;
    this.hasInit = hasInit;
    this.initValue = initValue;
    this.definition = definition == null ? null : definition.encoded(core.mapper(), name);
    Value encoded = null;
    StmException bad = null;
    if (hasInit) {
      try {
        encoded = Wire.encode(core.mapper(), initValue, name);
      } catch (StmException wrong) {
        bad = wrong;
      }
    }
    this.init = encoded;
    this.badInit = bad;
  }

  /** {@return the entry's name} */
  public final String name() {
    return name;
  }

  /** {@return the client it is of} */
  public final Stm client() {
    return client;
  }

  /**
   * The newest value: I/O, and not for bodies, which read by their Tx.
   *
   * @return null: nil. Of an absent entry the init, which creates nothing
   * @throws AbsentException if it is absent and the handle has no init
   * @throws InTransactionException inside a body
   */
  public final T get() {
    return get(ReadOptions.DEFAULT);
  }

  /**
   * As {@link #get()}.
   *
   * @param options timeout, staleness
   * @return the value
   */
  public final T get(ReadOptions options) {
    Value value = Outside.read(this, options);
    if (value != null) return decode(value);
    if (badInit != null) throw badInit;
    if (!hasInit) throw Errors.absent(name);
    return decode(init);
  }

  /**
   * The newest value, or nothing.
   *
   * @return empty: absent
   * @throws BadValueException if it is nil, which an Optional can't hold: {@link #getOr} tells them apart
   */
  public final java.util.Optional<T> find() {
    return find(ReadOptions.DEFAULT);
  }

  /**
   * As {@link #find()}.
   *
   * @param options timeout, staleness
   * @return empty: absent
   */
  public final java.util.Optional<T> find(ReadOptions options) {
    Value value = Outside.read(this, options);
    if (value == null) return java.util.Optional.empty();
    return java.util.Optional.of(notNil(decode(value)));
  }

  /**
   * The newest value, or another.
   *
   * @param otherwise what is returned if the entry is absent
   * @return null: nil
   */
  public final T getOr(T otherwise) {
    return getOr(otherwise, ReadOptions.DEFAULT);
  }

  /**
   * As {@link #getOr(Object)}.
   *
   * @param otherwise what is returned if the entry is absent
   * @param options timeout, staleness
   * @return null: nil
   */
  public final T getOr(T otherwise, ReadOptions options) {
    Value value = Outside.read(this, options);
    return value == null ? otherwise : decode(value);
  }

  /** {@return whether there is an entry now} */
  public final boolean exists() {
    return Outside.read(this, ReadOptions.DEFAULT) != null;
  }

  /** {@return {@link #get()} on the client's pool; cancelling it interrupts the read} */
  public final CompletableFuture<T> getAsync() {
    return client.async(this::get);
  }

  /**
   * Replaces validator, TTL and binding, whole, by a commit of its own.
   *
   * @param definition what it is from now on
   * @throws RejectedException if the present value breaks the new rule
   */
  public final void define(Definition definition) {
    define(definition, TransactOptions.DEFAULT);
  }

  /**
   * As {@link #define(Definition)}.
   *
   * @param definition what it is from now on
   * @param options of the transaction
   */
  public final void define(Definition definition, TransactOptions options) {
    Outside.run(this, "define of " + name, options, tx -> {
      tx.core().define(this, definition);
      return null;
    });
  }

  /** {@return what it is beside its value; empty: absent} */
  public final java.util.Optional<Definition> definition() {
    return Outside.definition(this);
  }

  /**
   * Who changed it, when and why, newest first, as far as the log goes: the newest 100.
   *
   * @return commits, of which only this entry's changes are told
   */
  public final java.util.List<Commit> history() {
    return history(0, 100);
  }

  /**
   * As {@link #history()}.
   *
   * @param beforeVersion only commits before it; 0: from the newest
   * @param limit at most 1000
   * @return commits
   */
  public final java.util.List<Commit> history(long beforeVersion, int limit) {
    return Outside.history(this, beforeVersion, limit);
  }

  /**
   * Its newest values, beginning with the present one; values between may be left out. To be closed.
   *
   * @return each time the value, or that there is none
   */
  public final Follow<T> follow() {
    return new Follow<>(this);
  }

  @SuppressWarnings("unchecked")
  final T decode(Value value) {
    T decoded = (T) Wire.decode(core.mapper(), value, type, name);
    UnknownFields.take();
    return decoded;
  }

  final T notNil(T value) {
    if (value == null) {
      throw Errors.badValue(name, name + " is nil, which an Optional can't hold: use get, or getOr");
    }
    return value;
  }

  @Override
  public String toString() {
    return (isAtom ? "Atom " : "Ref ") + name;
  }
}
