package dev.stmd;

import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;

/**
 * A type with its arguments, for handles whose values are to be checked: {@code new TypeRef<List<Long>>() {}}.
 *
 * @param <T> the type
 */
public abstract class TypeRef<T> {
  private final Type type;

  /** Of the type argument that the subclass names. */
  protected TypeRef() {
    if (!(getClass().getGenericSuperclass() instanceof ParameterizedType self)) {
      throw new IllegalStateException("write new TypeRef<T>() {} with the type in place of T");
    }
    type = self.getActualTypeArguments()[0];
  }

  /** {@return the type} */
  public final Type type() {
    return type;
  }
}
