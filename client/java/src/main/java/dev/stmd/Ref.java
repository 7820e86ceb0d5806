package dev.stmd;

import java.lang.reflect.Type;

/**
 * A ref: changes only inside transactions, by {@link Tx}. Made by {@link Stm#ref}.
 *
 * @param <T> what its values are here
 */
public final class Ref<T> extends Handle<T> {
  Ref(Stm client, String name, Type type, boolean hasInit, T init, Definition definition) {
    super(client, name, false, type, hasInit, init, definition);
  }
}
