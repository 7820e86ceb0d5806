package dev.stmd;

import java.util.Objects;

/**
 * An EDN symbol: {@code name} or {@code ns/name}.
 *
 * @param name as it is written
 */
public record Symbol(String name) implements Comparable<Symbol> {
  /**
   * Not null.
   *
   * @param name as it is written
   */
  public Symbol {
    Objects.requireNonNull(name, "name");
  }

  /**
   * As the constructor.
   *
   * @param name as it is written
   * @return the symbol
   */
  public static Symbol of(String name) {
    return new Symbol(name);
  }

  @Override
  public int compareTo(Symbol other) {
    return name.compareTo(other.name);
  }

  @Override
  public String toString() {
    return name;
  }
}
