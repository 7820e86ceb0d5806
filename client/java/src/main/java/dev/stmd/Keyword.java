package dev.stmd;

import java.util.Objects;

/**
 * An EDN keyword: {@code :name} or {@code :ns/name}.
 *
 * @param name without the colon
 */
public record Keyword(String name) implements Comparable<Keyword> {
  /**
   * Not null.
   *
   * @param name without the colon
   */
  public Keyword {
    Objects.requireNonNull(name, "name");
  }

  /**
   * As the constructor.
   *
   * @param name without the colon
   * @return the keyword
   */
  public static Keyword of(String name) {
    return new Keyword(name);
  }

  @Override
  public int compareTo(Keyword other) {
    return name.compareTo(other.name);
  }

  @Override
  public String toString() {
    return ":" + name;
  }
}
