package dev.stmd;

/**
 * An EDN character past U+FFFF, for which a Java {@code char} has no room. Others are {@link Character}s.
 *
 * @param value a Unicode scalar value
 */
public record CodePoint(int value) {
  /**
   * A Unicode scalar value.
   *
   * @param value what it is
   * @throws IllegalArgumentException of half a surrogate pair, or past U+10FFFF
   */
  public CodePoint {
    if (!Character.isValidCodePoint(value) || (value >= 0xD800 && value <= 0xDFFF)) {
      throw new IllegalArgumentException("no Unicode scalar value: " + value);
    }
  }

  @Override
  public String toString() {
    return Character.toString(value);
  }
}
