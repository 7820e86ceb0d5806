package dev.stmd;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import stmd.v1.CompareAndSet;
import stmd.v1.Items;
import stmd.v1.MapEntry;
import stmd.v1.Operation;

/**
 * A change that the daemon applies at the commit point, so that it never conflicts: {@code tx.commute(r, Op.add(1))},
 * {@code atom.apply(Op.conj("x"))}; at a path into the value: {@code Op.add(1).at("visits", 0)}. Which types each takes
 * is the daemon's to say. Immutable.
 */
public final class Op {
  private enum Verb { SET, ADD, MIN, MAX, APPEND, CONJ, DISJ, POP, SHIFT, ASSOC, DISSOC, TOGGLE, COMPARE_AND_SET, ABSENT_SET }

  private final Verb verb;
  private final List<Object> arguments;
  private final int count;
  private final List<Object> path;

  private Op(Verb verb, List<Object> arguments, int count, List<Object> path) {
    this.verb = verb;
    this.arguments = arguments;
    this.count = count;
    this.path = path;
  }

  private static Op of(Verb verb, Object... arguments) {
    return new Op(verb, Collections.unmodifiableList(new ArrayList<>(Arrays.asList(arguments))), 1, List.of());
  }

  /**
   * At a place inside the value, as update-in.
   *
   * @param steps keys and indexes
   * @return the same operation there
   */
  public Op at(Object... steps) {
    List<Object> longer = new ArrayList<>(path);
    Collections.addAll(longer, steps);
    return new Op(verb, arguments, count, Collections.unmodifiableList(longer));
  }

  /**
   * Sets it.
   *
   * @param value null: nil
   * @return the operation
   */
  public static Op set(Object value) {
    return of(Verb.SET, value);
  }

  /**
   * Adds; a sum past 64 bits is rejected.
   *
   * @param amount an integer or a double
   * @return the operation
   */
  public static Op add(Object amount) {
    return of(Verb.ADD, amount);
  }

  /**
   * The lesser of the two.
   *
   * @param value a number
   * @return the operation
   */
  public static Op min(Object value) {
    return of(Verb.MIN, value);
  }

  /**
   * The greater of the two.
   *
   * @param value a number
   * @return the operation
   */
  public static Op max(Object value) {
    return of(Verb.MAX, value);
  }

  /**
   * All items, characters or bytes of another at the end.
   *
   * @param more a list, vector, string or bytes
   * @return the operation
   */
  public static Op append(Object more) {
    return of(Verb.APPEND, more);
  }

  /**
   * To a vector at the end, to a list at the front, to a set; to a map, each item a pair.
   *
   * @param items what is added, one after the other
   * @return the operation
   */
  public static Op conj(Object... items) {
    return of(Verb.CONJ, items);
  }

  /**
   * From a set.
   *
   * @param items what is removed
   * @return the operation
   */
  public static Op disj(Object... items) {
    return of(Verb.DISJ, items);
  }

  /**
   * Into a set: all items of another.
   *
   * @param items what is added
   * @return the operation
   */
  public static Op union(Collection<?> items) {
    return of(Verb.CONJ, items.toArray());
  }

  /**
   * Removes from the end of a vector or the front of a list; its result is what was removed.
   *
   * @return the operation
   */
  public static Op pop() {
    return pop(1);
  }

  /**
   * As {@link #pop()}.
   *
   * @param count how many, at least 1
   * @return the operation
   */
  public static Op pop(int count) {
    return new Op(Verb.POP, List.of(), count, List.of());
  }

  /**
   * Removes the first of a vector or list; its result is what was removed.
   *
   * @return the operation
   */
  public static Op shift() {
    return shift(1);
  }

  /**
   * As {@link #shift()}.
   *
   * @param count how many, at least 1
   * @return the operation
   */
  public static Op shift(int count) {
    return new Op(Verb.SHIFT, List.of(), count, List.of());
  }

  /**
   * Into a map, or at indexes of a vector.
   *
   * @param keysAndValues in turn
   * @return the operation
   */
  public static Op assoc(Object... keysAndValues) {
    if (keysAndValues.length == 0 || keysAndValues.length % 2 != 0) {
      throw Errors.badValue("assoc", "assoc takes keys and values in turn: " + keysAndValues.length + " were given");
    }
    return of(Verb.ASSOC, keysAndValues);
  }

  /**
   * Entries of another map into the map.
   *
   * @param map what is put in
   * @return the operation
   */
  public static Op merge(Map<?, ?> map) {
    List<Object> both = new ArrayList<>();
    map.forEach((key, value) -> {
      both.add(key);
      both.add(value);
    });
    return of(Verb.ASSOC, both.toArray());
  }

  /**
   * From a map.
   *
   * @param keys what is removed
   * @return the operation
   */
  public static Op dissoc(Object... keys) {
    return of(Verb.DISSOC, keys);
  }

  /**
   * Not, of a boolean.
   *
   * @return the operation
   */
  public static Op toggle() {
    return of(Verb.TOGGLE);
  }

  /**
   * Sets it if it is as expected; else the transaction is rejected, by "compare".
   *
   * @param expected null: nil
   * @param value null: nil
   * @return the operation
   */
  public static Op compareAndSet(Object expected, Object value) {
    return expected == Stm.ABSENT ? setIfAbsent(value) : of(Verb.COMPARE_AND_SET, expected, value);
  }

  /**
   * Sets it if it is absent; else the transaction is rejected, by "compare".
   *
   * @param value null: nil
   * @return the operation
   */
  public static Op setIfAbsent(Object value) {
    return of(Verb.ABSENT_SET, value);
  }

  Operation message(ValueMapper mapper, String name) {
    Operation.Builder out = Operation.newBuilder();
    for (Object step : path) out.addPath(Wire.encode(mapper, step, name));
    List<stmd.v1.Value> values = new ArrayList<>(arguments.size());
    for (Object argument : arguments) values.add(Wire.encode(mapper, argument, name));
    switch (verb) {
      case SET -> out.setSet(values.get(0));
      case ADD -> out.setAdd(values.get(0));
      case MIN -> out.setMin(values.get(0));
      case MAX -> out.setMax(values.get(0));
      case APPEND -> out.setAppend(values.get(0));
      case CONJ -> out.setConj(Items.newBuilder().addAllItems(values));
      case DISJ -> out.setDisj(Items.newBuilder().addAllItems(values));
      case POP -> out.setPop(count);
      case SHIFT -> out.setShift(count);
      case ASSOC -> {
        stmd.v1.Map.Builder map = stmd.v1.Map.newBuilder();
        for (int i = 0; i < values.size(); i += 2) {
          map.addEntries(MapEntry.newBuilder().setKey(values.get(i)).setValue(values.get(i + 1)));
        }
        out.setAssoc(map);
      }
      case DISSOC -> out.setDissoc(Items.newBuilder().addAllItems(values));
      case TOGGLE -> out.setToggle(true);
      case COMPARE_AND_SET ->
          out.setCompareAndSet(CompareAndSet.newBuilder().setExpected(values.get(0)).setValue(values.get(1)));
      case ABSENT_SET -> out.setCompareAndSet(CompareAndSet.newBuilder().setValue(values.get(0)));
    }
    return out.build();
  }
}
