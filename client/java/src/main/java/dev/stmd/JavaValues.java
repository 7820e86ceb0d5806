package dev.stmd;

import com.google.protobuf.ByteString;
import java.lang.reflect.Array;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import stmd.v1.Items;
import stmd.v1.MapEntry;
import stmd.v1.Value;

/**
 * Java's own values. Integers are {@link Long} (any integral box is taken), doubles {@link Double}, {@link BigInteger},
 * {@link BigDecimal}, {@link String}, {@code byte[]} (a copy), {@link Character} or {@link CodePoint}, {@link Keyword},
 * {@link Symbol}, {@link Instant}, {@link UUID}; vectors are {@link List}, lists {@link Stm.List}, {@link Map},
 * {@link Set}, all immutable; tagged values are instances of registered types, else {@link Tagged}. Any thread.
 */
public final class JavaValues implements ValueMapper {
  private static final int SHOWN_MAX = 64;
  private static final Instant INSTANT_MIN = Instant.parse("0001-01-01T00:00:00Z");
  private static final Instant INSTANT_MAX = Instant.parse("9999-12-31T23:59:59.999999999Z");

  private final boolean keywordKeys;

  /** With string keys of maps as strings. */
  public JavaValues() {
    this(false);
  }

  private JavaValues(boolean keywordKeys) {
    this.keywordKeys = keywordKeys;
  }

  /**
   * With string keys of Java's maps as keywords on the wire, and keyword keys as strings here: for programs that share
   * entries with Clojure's. A map that has both kinds is BadValue.
   *
   * @return the mapper
   */
  public static JavaValues keywordKeys() {
    return new JavaValues(true);
  }

  // ---- To the wire

  @Override
  public Value encode(Object value) {
    if (value == null) return Wire.NIL;
    Value.Builder out = Value.newBuilder();
    if (value instanceof Value message) return message;
    if (value instanceof String s) return out.setText(checkText(s)).build();
    if (value instanceof Long n) return out.setInteger(n).build();
    if (value instanceof Integer || value instanceof Short || value instanceof Byte) {
      return out.setInteger(((Number) value).longValue()).build();
    }
    if (value instanceof Boolean b) return out.setBoolean(b).build();
    if (value instanceof Double || value instanceof Float) return out.setFloat64(((Number) value).doubleValue()).build();
    if (value instanceof Keyword k) return out.setKeyword(k.name()).build();
    if (value instanceof Stm.List<?> list) return out.setList(items(list)).build();
    if (value instanceof Map<?, ?> map) return out.setMap(map(map)).build();
    if (value instanceof Set<?> set) return out.setSet(items(set)).build();
    if (value instanceof List<?> list) return out.setVector(items(list)).build();
    if (value instanceof byte[] bytes) return out.setBlob(ByteString.copyFrom(bytes)).build();
    if (value instanceof Instant instant) return out.setInstant(Wire.instant(checkInstant(instant))).build();
    if (value instanceof Date date) return out.setInstant(Wire.instant(checkInstant(date.toInstant()))).build();
    if (value instanceof UUID uuid) return out.setUuid(uuid.toString()).build();
    if (value instanceof BigInteger n) return out.setBigint(n.toString()).build();
    if (value instanceof BigDecimal d) return out.setDecimal(d.toString()).build();
    if (value instanceof Character c) {
      if (Character.isSurrogate(c)) throw bad("half a surrogate pair is no character: use a CodePoint");
      return out.setCharacter(c).build();
    }
    if (value instanceof CodePoint c) return out.setCharacter(c.value()).build();
    if (value instanceof Symbol s) return out.setSymbol(s.name()).build();
    if (value instanceof Tagged tagged) return tagged(tagged.tag(), encode(tagged.value()));
    if (value instanceof Optional<?> optional) return encode(optional.orElse(null));
    if (value == Stm.ABSENT) throw bad("absent is no value: delete the entry");
    Types.Registered registered = Types.ofClass(value.getClass());
    if (registered != null) return encodeRegistered(registered, value);
    if (value instanceof Collection<?> collection) return out.setVector(items(collection)).build();
    if (value.getClass().isArray()) return out.setVector(arrayItems(value)).build();
    throw bad("a " + value.getClass().getName() + " is no EDN value: give its class a tag by @Tag and Stm.register, or "
        + "make it what EDN has");
  }

  private Value encodeRegistered(Types.Registered registered, Object value) {
    if (registered.shape() == null) return tagged(registered.tag(), encode(registered.encode().apply(value)));
    stmd.v1.Map.Builder map = stmd.v1.Map.newBuilder();
    for (Types.Field field : registered.shape().fields()) {
      Object part;
      try {
        part = (Object) field.read().invokeExact(value);
      } catch (RuntimeException | Error thrown) {
        throw thrown;
      } catch (Throwable thrown) {
        throw bad("#" + registered.tag() + " " + field.key() + " can't be read: " + thrown.getMessage());
      }
      // An empty Optional is a field that is not there.
      if (part instanceof Optional<?> optional && optional.isEmpty()) continue;
      try {
        map.addEntries(MapEntry.newBuilder().setKey(Value.newBuilder().setKeyword(field.key().name())).setValue(encode(part)));
      } catch (BadValueException bad) {
        throw within(bad, field.key().toString());
      }
    }
    return tagged(registered.tag(), Value.newBuilder().setMap(map).build());
  }

  private static Value tagged(String tag, Value value) {
    return Value.newBuilder().setTagged(stmd.v1.Tagged.newBuilder().setTag(tag).setValue(value)).build();
  }

  private Items items(Collection<?> collection) {
    Items.Builder items = Items.newBuilder();
    int at = 0;
    for (Object item : collection) {
      try {
        items.addItems(encode(item));
      } catch (BadValueException bad) {
        throw within(bad, "[" + at + "]");
      }
      ++at;
    }
    return items.build();
  }

  private Items arrayItems(Object array) {
    List<Object> list = new ArrayList<>();
    for (int i = 0; i < Array.getLength(array); ++i) list.add(Array.get(array, i));
    return items(list);
  }

  private stmd.v1.Map map(Map<?, ?> map) {
    stmd.v1.Map.Builder out = stmd.v1.Map.newBuilder();
    for (Map.Entry<?, ?> entry : map.entrySet()) {
      try {
        out.addEntries(MapEntry.newBuilder().setKey(encodeKey(entry.getKey())).setValue(encode(entry.getValue())));
      } catch (BadValueException bad) {
        throw within(bad, String.valueOf(entry.getKey()));
      }
    }
    return out.build();
  }

  private Value encodeKey(Object key) {
    if (!keywordKeys) return encode(key);
    if (key instanceof String s) return Value.newBuilder().setKeyword(s).build();
    if (key instanceof Keyword) {
      throw bad("with keyword keys, a key is written as a string: take the Keyword " + key + " as \"" + ((Keyword) key).name() + "\"");
    }
    return encode(key);
  }

  private static String checkText(String text) {
    for (int i = 0; i < text.length(); ++i) {
      char c = text.charAt(i);
      if (!Character.isSurrogate(c)) continue;
      if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
        ++i;
        continue;
      }
      throw bad("a string has half a surrogate pair at " + i + ", which is no UTF-8: use byte[]");
    }
    return text;
  }

  private static Instant checkInstant(Instant instant) {
    if (instant.isBefore(INSTANT_MIN) || instant.isAfter(INSTANT_MAX)) {
      throw bad("instant " + instant + " is not in the years 0001 to 9999");
    }
    return instant;
  }

  // ---- From the wire

  @Override
  public Object decode(Value value, Type type) {
    Type asked = resolved(type);
    if (asked == Object.class) return natural(value);
    Class<?> raw = rawOf(asked);
    if (raw == Value.class) return value;
    if (raw == Optional.class) {
      return value.hasNil() ? Optional.empty() : Optional.of(decode(value, argument(asked, 0)));
    }
    if (value.hasNil() && !raw.isPrimitive()) return null;
    switch (value.getKindCase()) {
      case INTEGER -> {
        long n = value.getInteger();
        if (raw == long.class || raw == Long.class || raw == Number.class) return n;
        if (raw == int.class || raw == Integer.class) return (int) inRange(n, Integer.MIN_VALUE, Integer.MAX_VALUE, "int");
        if (raw == short.class || raw == Short.class) return (short) inRange(n, Short.MIN_VALUE, Short.MAX_VALUE, "short");
        if (raw == byte.class || raw == Byte.class) return (byte) inRange(n, Byte.MIN_VALUE, Byte.MAX_VALUE, "byte");
      }
      case FLOAT64 -> {
        double d = value.getFloat64();
        if (raw == double.class || raw == Double.class || raw == Number.class) return d;
        if ((raw == float.class || raw == Float.class) && (Double.isNaN(d) || (float) d == d)) return (float) d;
      }
      case BOOLEAN -> {
        if (raw == boolean.class || raw == Boolean.class) return value.getBoolean();
      }
      case CHARACTER -> {
        int c = value.getCharacter();
        if (raw == CodePoint.class) return new CodePoint(c);
        if ((raw == char.class || raw == Character.class) && Character.isBmpCodePoint(c)) return (char) c;
      }
      case KEYWORD -> {
        if (raw.isEnum()) return enumOf(value, raw);
      }
      case LIST, VECTOR -> {
        Object composite = decodeItems(value, asked, raw);
        if (composite != null) return composite;
      }
      case SET -> {
        if (raw == Set.class || raw == Collection.class || raw == Iterable.class) {
          return set(value.getSet(), argument(asked, 0));
        }
      }
      case MAP -> {
        if (raw == Map.class) return map(value.getMap(), argument(asked, 0), argument(asked, 1));
      }
      case INSTANT -> {
        if (raw == Date.class) return Date.from(Wire.instant(value.getInstant()));
      }
      case TAGGED -> {
        Types.Registered asTyped = Types.ofClass(raw);
        if (asTyped != null && asTyped.tag().equals(value.getTagged().getTag())) return decodeTagged(value, asTyped);
      }
      default -> {}
    }
    Object found = natural(value);
    if (raw.isInstance(found)) return found;
    throw mismatch(typeName(asked), value);
  }

  private Object decodeItems(Value value, Type asked, Class<?> raw) {
    boolean isList = value.hasList();
    Items items = isList ? value.getList() : value.getVector();
    if (raw == Stm.List.class && isList) return Stm.List.of(values(items, argument(asked, 0)).toArray());
    if (raw == List.class || raw == Collection.class || raw == Iterable.class) {
      List<Object> values = values(items, argument(asked, 0));
      return isList ? Stm.List.of(values.toArray()) : Collections.unmodifiableList(values);
    }
    if (raw.isArray() && raw != byte[].class && !isList) {
      List<Object> values = values(items, raw.getComponentType());
      Object array = Array.newInstance(raw.getComponentType(), values.size());
      for (int i = 0; i < values.size(); ++i) Array.set(array, i, values.get(i));
      return array;
    }
    return null;
  }

  private Object natural(Value value) {
    return switch (value.getKindCase()) {
      case NIL -> null;
      case BOOLEAN -> value.getBoolean();
      case INTEGER -> value.getInteger();
      case FLOAT64 -> value.getFloat64();
      case TEXT -> value.getText();
      case BLOB -> value.getBlob().toByteArray();
      case CHARACTER -> Character.isBmpCodePoint(value.getCharacter())
          ? (Object) (char) value.getCharacter() : new CodePoint(value.getCharacter());
      case KEYWORD -> Keyword.of(value.getKeyword());
      case SYMBOL -> Symbol.of(value.getSymbol());
      case INSTANT -> Wire.instant(value.getInstant());
      case UUID -> UUID.fromString(value.getUuid());
      case LIST -> Stm.List.of(values(value.getList(), Object.class).toArray());
      case VECTOR -> Collections.unmodifiableList(values(value.getVector(), Object.class));
      case MAP -> map(value.getMap(), Object.class, Object.class);
      case SET -> set(value.getSet(), Object.class);
      case TAGGED -> decodeTagged(value, Types.ofTag(value.getTagged().getTag()));
      case BIGINT -> new BigInteger(value.getBigint());
      case DECIMAL -> new BigDecimal(value.getDecimal());
      case EDN, KIND_NOT_SET -> throw bad("the daemon sent a value of a kind that this client does not know: use a client "
          + "as new as the daemon");
    };
  }

  private Object decodeTagged(Value value, Types.Registered registered) {
    String tag = value.getTagged().getTag();
    Value inside = value.getTagged().getValue();
    if (registered == null) return new Tagged(tag, natural(inside));
    if (registered.shape() == null) return registered.decode().apply(natural(inside));
    if (!inside.hasMap()) throw mismatch("#" + tag + " of a map", value);
    Types.RecordShape shape = registered.shape();
    Object[] parts = new Object[shape.fields().length];
    boolean[] there = new boolean[parts.length];
    for (MapEntry entry : inside.getMap().getEntriesList()) {
      Integer place = entry.getKey().hasKeyword() ? shape.places().get(Keyword.of(entry.getKey().getKeyword())) : null;
      if (place == null) {
        UnknownFields.note();
        continue;
      }
      try {
        parts[place] = decode(entry.getValue(), shape.fields()[place].type());
      } catch (BadValueException bad) {
        throw within(bad, shape.fields()[place].key().toString());
      }
      there[place] = true;
    }
    for (int i = 0; i < parts.length; ++i) {
      if (there[i]) continue;
      if (rawOf(resolved(shape.fields()[i].type())) != Optional.class) {
        throw bad("#" + tag + " has no field " + shape.fields()[i].key()
            + ": make the component an Optional if older records lack it");
      }
      parts[i] = Optional.empty();
    }
    try {
      return (Object) shape.make().invokeExact(parts);
    } catch (RuntimeException refused) {
      throw bad("#" + tag + " is refused by its constructor: " + refused.getMessage());
    } catch (Error thrown) {
      throw thrown;
    } catch (Throwable thrown) {
      throw bad("#" + tag + " is refused by its constructor: " + thrown.getMessage());
    }
  }

  private List<Object> values(Items items, Type type) {
    List<Object> values = new ArrayList<>(items.getItemsCount());
    for (Value item : items.getItemsList()) {
      try {
        values.add(decode(item, type));
      } catch (BadValueException bad) {
        throw within(bad, "[" + values.size() + "]");
      }
    }
    return values;
  }

  private Set<Object> set(Items items, Type type) {
    Set<Object> set = new LinkedHashSet<>(values(items, type));
    if (set.size() != items.getItemsCount()) throw merged("set");
    return Collections.unmodifiableSet(set);
  }

  private Map<Object, Object> map(stmd.v1.Map message, Type keys, Type types) {
    Map<Object, Object> map = new LinkedHashMap<>();
    boolean strings = false;
    boolean keywords = false;
    for (MapEntry entry : message.getEntriesList()) {
      Value key = entry.getKey();
      if (keywordKeys) {
        strings |= key.hasText();
        keywords |= key.hasKeyword();
        if (strings && keywords) throw bad("a map has both keyword and string keys: connect without keyword keys");
        // A string key would come back as a keyword.
        if (key.hasText()) throw bad("a map has the string key \"" + key.getText() + "\": connect without keyword keys");
        if (key.hasKeyword()) key = Value.newBuilder().setText(key.getKeyword()).build();
      }
      try {
        map.put(decode(key, keys), decode(entry.getValue(), types));
      } catch (BadValueException bad) {
        throw within(bad, shown(entry.getKey()));
      }
    }
    if (map.size() != message.getEntriesCount()) throw merged("map");
    return Collections.unmodifiableMap(map);
  }

  private static BadValueException merged(String what) {
    return bad("a " + what + " has keys or items that are equal in Java and not in EDN: read it as stmd.v1.Value");
  }

  private static Object enumOf(Value value, Class<?> raw) {
    for (Object constant : raw.getEnumConstants()) {
      if (Types.kebab(((Enum<?>) constant).name().toLowerCase(java.util.Locale.ROOT)).equals(value.getKeyword())) return constant;
    }
    throw mismatch(raw.getSimpleName(), value);
  }

  // ---- Types and errors

  private static Type resolved(Type type) {
    if (type instanceof WildcardType wildcard) return resolved(wildcard.getUpperBounds()[0]);
    if (type instanceof TypeVariable<?> variable) return resolved(variable.getBounds()[0]);
    return type;
  }

  private static Class<?> rawOf(Type type) {
    if (type instanceof Class<?> c) return c;
    if (type instanceof ParameterizedType p) return (Class<?>) p.getRawType();
    if (type instanceof GenericArrayType a) return Array.newInstance(rawOf(resolved(a.getGenericComponentType())), 0).getClass();
    return Object.class;
  }

  private static Type argument(Type type, int at) {
    if (type instanceof ParameterizedType p && at < p.getActualTypeArguments().length) return p.getActualTypeArguments()[at];
    return Object.class;
  }

  private static String typeName(Type type) {
    return type instanceof Class<?> c ? c.getSimpleName() : type.getTypeName();
  }

  private static long inRange(long n, long min, long max, String type) {
    if (n < min || n > max) throw bad("expected " + type + ", found " + n + ": read it as Long");
    return n;
  }

  private static BadValueException mismatch(String expected, Value found) {
    StmException.Details details = new StmException.Details().code(io.grpc.Status.Code.INVALID_ARGUMENT);
    details.expected = expected;
    details.found = shown(found);
    return new BadValueException("expected " + expected + ", found " + details.found
        + ": read it as the type it has, or as Object", details);
  }

  private static String shown(Value value) {
    String text = switch (value.getKindCase()) {
      case INTEGER -> Long.toString(value.getInteger());
      case TEXT -> "\"" + value.getText() + "\"";
      case KEYWORD -> ":" + value.getKeyword();
      case TAGGED -> "#" + value.getTagged().getTag();
      case BOOLEAN -> Boolean.toString(value.getBoolean());
      case FLOAT64 -> Double.toString(value.getFloat64());
      default -> "";
    };
    String kind = value.getKindCase().name().toLowerCase(java.util.Locale.ROOT);
    return text.isEmpty() || text.length() > SHOWN_MAX ? "a " + kind : kind + " " + text;
  }

  private static BadValueException bad(String message) {
    return new BadValueException(message);
  }

  private static BadValueException within(BadValueException bad, String step) {
    return (BadValueException) bad.about(bad.name(), "at " + step + ": " + bad.getMessage());
  }
}
