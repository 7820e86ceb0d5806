package dev.stmd;

/** What a commute will have resulted in, once its transaction is committed. */
public final class CommuteResult {
  private final ValueMapper mapper;
  private final String name;
  private volatile stmd.v1.Value value;

  CommuteResult(ValueMapper mapper, String name) {
    this.mapper = mapper;
    this.name = name;
  }

  void set(stmd.v1.Value result) {
    value = result;
  }

  stmd.v1.Value raw() {
    return value;
  }

  /** {@return whether it is known: false before the commit, and where the answer was lost with a broken connection} */
  public boolean known() {
    return value != null;
  }

  /**
   * The result.
   *
   * @return as {@link Op} says; null: nil
   * @throws IllegalStateException if it is not {@link #known}
   */
  public Object get() {
    stmd.v1.Value result = value;
    if (result == null) throw new IllegalStateException("a commute's result comes with the commit: ask after it");
    return Wire.decode(mapper, result, Object.class, name);
  }
}
