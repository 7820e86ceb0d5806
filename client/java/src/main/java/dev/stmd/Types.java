package dev.stmd;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Function;

/** The program's own types, by tag and by class: one registry a process. Any thread. */
final class Types {
  private static final Map<String, Registered> BY_TAG = new ConcurrentHashMap<>();
  private static final Map<Class<?>, Registered> BY_CLASS = new ConcurrentHashMap<>();

  private Types() {}

  /** A type with a tag: a record, or one with functions of its own. */
  record Registered(String tag, Class<?> type, RecordShape shape, Function<Object, Object> encode,
      Function<Object, Object> decode) {}

  record Field(Keyword key, Type type, MethodHandle read) {}

  record RecordShape(Field[] fields, Map<Keyword, Integer> places, MethodHandle make) {}

  static void registerRecord(Class<?> type, String tag) {
    if (!type.isRecord()) {
      throw Errors.badValue(type.getName(), type.getName() + " is no record class: make it one, or register it with the "
          + "functions that encode and decode it");
    }
    put(new Registered(tag, type, shapeOf(type), null, null));
  }

  static void register(String tag, Class<?> type, Function<Object, Object> encode, Function<Object, Object> decode) {
    put(new Registered(tag, type, null, encode, decode));
  }

  private static synchronized void put(Registered registered) {
    Registered before = BY_TAG.get(registered.tag());
    if (before != null && before.type() != registered.type()) {
      throw Errors.badValue(registered.tag(), "tag #" + registered.tag() + " is registered for "
          + before.type().getName() + ": give " + registered.type().getName() + " another");
    }
    BY_TAG.put(registered.tag(), registered);
    BY_CLASS.put(registered.type(), registered);
  }

  static Registered ofTag(String tag) {
    return BY_TAG.get(tag);
  }

  /** Also of a subclass of one that was registered with functions; null: none. */
  static Registered ofClass(Class<?> type) {
    for (Class<?> c = type; c != null && c != Object.class; c = c.getSuperclass()) {
      Registered found = BY_CLASS.get(c);
      if (found != null) return found;
    }
    Tag tag = type.isRecord() ? type.getAnnotation(Tag.class) : null;
    if (tag == null) return null;
    // Known by its class alone: its tag is read as this type where it is asked for, or once it is registered.
    return BY_CLASS.computeIfAbsent(type, any -> new Registered(tag.value(), type, shapeOf(type), null, null));
  }

  static String tagOf(Class<?> type) {
    Registered registered = ofClass(type);
    if (registered == null) {
      throw Errors.badValue(type.getName(), type.getName() + " has no tag: write @Tag on it and Stm.register it");
    }
    return registered.tag();
  }

  private static RecordShape shapeOf(Class<?> type) {
    RecordComponent[] components = type.getRecordComponents();
    Field[] fields = new Field[components.length];
    Class<?>[] parameters = new Class<?>[components.length];
    Map<Keyword, Integer> places = new HashMap<>();
    Set<String> names = new HashSet<>();
    try {
      MethodHandles.Lookup lookup = MethodHandles.privateLookupIn(type, MethodHandles.lookup());
      for (int i = 0; i < components.length; ++i) {
        Keyword key = Keyword.of(kebab(components[i].getName()));
        if (!names.add(key.name())) {
          throw Errors.badValue(type.getName(), "two fields of " + type.getName() + " are both " + key + ": rename one");
        }
        parameters[i] = components[i].getType();
        fields[i] = new Field(key, components[i].getGenericType(), lookup.unreflect(components[i].getAccessor())
            .asType(java.lang.invoke.MethodType.methodType(Object.class, Object.class)));
        places.put(key, i);
      }
      MethodHandle make = lookup.findConstructor(type, java.lang.invoke.MethodType.methodType(void.class, parameters))
          .asSpreader(Object[].class, parameters.length)
          .asType(java.lang.invoke.MethodType.methodType(Object.class, Object[].class));
      return new RecordShape(fields, Map.copyOf(places), make);
    } catch (ReflectiveOperationException closed) {
      throw Errors.badValue(type.getName(), type.getName() + " can't be read: " + closed.getMessage()
          + ": open its package to dev.stmd.client");
    }
  }

  /** startDate, StartDate, start_date -> start-date. */
  static String kebab(String name) {
    StringBuilder out = new StringBuilder();
    for (int i = 0; i < name.length(); ++i) {
      char c = name.charAt(i);
      if (c == '_' || c == '$') {
        if (out.length() > 0 && out.charAt(out.length() - 1) != '-') out.append('-');
        continue;
      }
      boolean edge = i > 0 && Character.isUpperCase(c)
          && (Character.isLowerCase(name.charAt(i - 1)) || Character.isDigit(name.charAt(i - 1))
              || (Character.isUpperCase(name.charAt(i - 1)) && i + 1 < name.length() && Character.isLowerCase(name.charAt(i + 1))));
      if (edge && out.length() > 0 && out.charAt(out.length() - 1) != '-') out.append('-');
      out.append(Character.toString(c).toLowerCase(Locale.ROOT));
    }
    while (out.length() > 0 && out.charAt(out.length() - 1) == '-') out.setLength(out.length() - 1);
    return out.toString();
  }
}
