package dev.stmd.recipes;

import dev.stmd.Recorded;
import dev.stmd.Records;
import dev.stmd.Stm;
import java.util.function.BiFunction;
import java.util.function.LongFunction;

/**
 * Records followed into a state of this process's own: an index, a read model, a triple store. One thread.
 *
 * @param <S> the state, immutable
 * @param <R> the records
 */
public final class Fold<S, R> {
  private final LongFunction<Records<R>> from;
  private final BiFunction<S, R, S> step;
  private S state;
  private long version;

  /**
   * Begins with nothing taken in.
   *
   * @param client whose
   * @param state to begin with
   * @param step the state after a record
   * @param types of the records
   */
  @SafeVarargs
  @SuppressWarnings("varargs") // handed on as they are
  public Fold(Stm client, S state, BiFunction<S, R, S> step, Class<? extends R>... types) {
    this.from = version -> client.<R>records(types).from(version);
    this.state = state;
    this.step = step;
  }

  /** Takes in what was recorded since. After an exception the state is as it was before the call. */
  public void update() {
    S next = state;
    long newest = version;
    try (Records<R> records = from.apply(version == 0 ? 0 : version + 1)) {
      for (Recorded<R> record : records) {
        next = step.apply(next, record.value());
        newest = record.version();
      }
    }
    state = next;
    version = newest;
  }

  /** {@return the state} */
  public S state() {
    return state;
  }

  /** {@return the version of the newest record taken in; 0: none} */
  public long version() {
    return version;
  }
}
