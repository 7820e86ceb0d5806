package dev.stmd;

import java.lang.reflect.Type;
import stmd.v1.Value;

/**
 * How values of the wire become a language's own, and back. {@link JavaValues} is Java's; another language on the JVM
 * gives its own by {@link ConnectOptions#mapper}. Any thread.
 */
public interface ValueMapper {
  /**
   * A value for the wire.
   *
   * @param value native; null is nil
   * @return with its kind set
   * @throws BadValueException if EDN has no place for it; say what and what to do, the client adds the entry's name
   */
  Value encode(Object value);

  /**
   * A native value, which is immutable or a copy.
   *
   * @param value with its kind set
   * @param type what the caller asked for; {@code Object.class}: whatever the value is by itself
   * @return null for nil
   * @throws BadValueException if it does not fit the type
   */
  Object decode(Value value, Type type);

  /**
   * To be called by {@link #decode} when it left something out that the type has no place for: the transaction that
   * reads it keeps it, and writes it back with what is written.
   */
  static void noteUnknownFields() {
    UnknownFields.note();
  }
}
