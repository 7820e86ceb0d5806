package dev.stmd;

import java.util.Objects;

/**
 * A tagged value whose tag this program has no type for; written back whole.
 *
 * @param tag without the '#'
 * @param value any value, null among them
 */
public record Tagged(String tag, Object value) {
  /**
   * The tag is not null.
   *
   * @param tag without the '#'
   * @param value any value, null among them
   */
  public Tagged {
    Objects.requireNonNull(tag, "tag");
  }

  @Override
  public String toString() {
    return "#" + tag + " " + value;
  }
}
