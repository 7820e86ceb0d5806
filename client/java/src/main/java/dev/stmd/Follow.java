package dev.stmd;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.LongConsumer;
import stmd.v1.Selector;

/**
 * The newest values of one entry, beginning with the present one; values between may be left out. {@link #close} ends it,
 * from any thread; else one thread.
 *
 * @param <T> what its values are here
 */
public final class Follow<T> implements Iterable<Follow.Newest<T>>, AutoCloseable {
  /**
   * What is there now.
   *
   * @param <T> what values are here
   * @param exists false: the entry is absent, and value null
   * @param value null: nil, or absent
   * @param version of the commit that made it so, or at which it was seen
   */
  public record Newest<T>(boolean exists, T value, long version) {}

  private final Handle<T> handle;
  private final Watch watch;
  private final java.util.ArrayDeque<Newest<T>> ready = new java.util.ArrayDeque<>();

  Follow(Handle<T> handle) {
    this.handle = handle;
    Names.checkName(handle.name);
    this.watch = new Watch(handle.core, Selector.newBuilder().addNames(handle.core.names().full(handle.name)).build())
        .initial().conflate();
  }

  /**
   * Called once, when the present value is known.
   *
   * @param f on the reading thread
   * @return this
   */
  public Follow<T> onSynced(LongConsumer f) {
    watch.onSynced(f);
    return this;
  }

  /**
   * The next value; waits for it.
   *
   * @return null: it was closed
   */
  public Newest<T> next() {
    while (ready.isEmpty()) {
      Commit commit = watch.next();
      if (commit == null) return null;
      if (commit.initial() && commit.changes().isEmpty()) ready.add(new Newest<>(false, null, commit.version()));
      for (Change change : commit.changes()) {
        if (change.kind() == ChangeKind.DEFINED) continue;
        ready.add(newest(change, commit.version()));
      }
    }
    return ready.remove();
  }

  private Newest<T> newest(Change change, long version) {
    if (change.after() == Stm.ABSENT) return new Newest<>(false, null, version);
    if (handle.type == Object.class) {
      @SuppressWarnings("unchecked")
      T value = (T) change.after();
      return new Newest<>(true, value, version);
    }
    return new Newest<>(true, handle.decode(Wire.encode(handle.core.mapper(), change.after(), handle.name)), version);
  }

  @Override
  public Iterator<Newest<T>> iterator() {
    return new Iterator<>() {
      private Newest<T> next;

      @Override
      public boolean hasNext() {
        if (next == null) next = Follow.this.next();
        return next != null;
      }

      @Override
      public Newest<T> next() {
        if (!hasNext()) throw new NoSuchElementException("it is closed");
        Newest<T> newest = next;
        next = null;
        return newest;
      }
    };
  }

  @Override
  public void close() {
    watch.close();
  }
}
