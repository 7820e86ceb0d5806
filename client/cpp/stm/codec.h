// Codec<T> turns a T into a Value and back: Encode(t), Decode<T>(value). Nothing is lost and no type becomes another
// by magnitude: what does not fit T exactly is BadValue, naming the place. Integers are EDN integers of 64 bits,
// double is double, std::vector a vector, stm::List a list, std::map a map, std::set a set, std::optional nil or T.
// STM_RECORD and STM_TAGGED make a program's own types tagged values. Pure; any thread.
#ifndef STM_CLIENT_CPP_STM_CODEC_H_
#define STM_CLIENT_CPP_STM_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "stm/error.h"
#include "stm/value.h"

namespace stm {

// Specialize for a type that is neither: static Value Encode(const T&); static absl::StatusOr<T> Decode(const Value&).
template <typename T, typename Enable = void>
struct Codec;

template <typename T>
Value Encode(const T& value) {
  return Codec<T>::Encode(value);
}
inline Value Encode(const char* text) { return Value::String(text); }
inline Value Encode(const Value& value) { return value; }

template <typename T>
absl::StatusOr<T> Decode(const Value& value) {
  return Codec<T>::Decode(value);
}

namespace internal {

// BadValue: "expected integer, found string "x": ...".
absl::Status Mismatch(std::string_view expected, const Value& found);
absl::Status OutOfRange(std::string_view expected, int64_t found);
absl::Status MissingField(std::string_view tag, const Value& key);
// The same with a step of the path in front: "at [2]".
absl::Status Within(const absl::Status& status, size_t index);
absl::Status Within(const absl::Status& status, const Value& key);

// A decode on this thread met fields that the type has no place for. The transaction that reads them keeps them.
void NoteLoss();
bool TakeLoss();

// startDate, StartDate, start_date, startDate_ -> start-date. Writes at most `size` characters; returns how many.
constexpr size_t KebabCase(std::string_view name, char* out, size_t size) {
  size_t n = 0;
  auto upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  auto lower = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  for (size_t i = 0; i < name.size(); ++i) {
    char c = name[i];
    if (c == '_') {
      if (n > 0 && out[n - 1] != '-' && n < size) out[n++] = '-';
      continue;
    }
    bool edge = i > 0 && upper(c) &&
                (lower(name[i - 1]) || (upper(name[i - 1]) && i + 1 < name.size() && name[i + 1] >= 'a' && name[i + 1] <= 'z'));
    if (edge && n > 0 && out[n - 1] != '-' && n < size) out[n++] = '-';
    if (n < size) out[n++] = upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
  }
  while (n > 0 && out[n - 1] == '-') --n;
  return n;
}

inline constexpr size_t kFieldNameMax = 128;

inline Value FieldKeyword(std::string_view name) {
  char kebab[kFieldNameMax] = {};
  return Value::Keyword(std::string_view(kebab, KebabCase(name, kebab, sizeof(kebab))));
}

// Of "name, email, start_date": no two spell the same keyword.
constexpr bool DistinctKeywords(std::string_view names) {
  auto next = [&](size_t& at, std::string_view& name) {
    while (at < names.size() && (names[at] == ' ' || names[at] == ',')) ++at;
    size_t begin = at;
    while (at < names.size() && names[at] != ' ' && names[at] != ',') ++at;
    name = names.substr(begin, at - begin);
    return !name.empty();
  };
  std::string_view a, b;
  for (size_t i = 0; next(i, a);) {
    char left[kFieldNameMax] = {};
    size_t left_size = KebabCase(a, left, sizeof(left));
    for (size_t j = i; next(j, b);) {
      char right[kFieldNameMax] = {};
      size_t right_size = KebabCase(b, right, sizeof(right));
      bool same = left_size == right_size;
      for (size_t k = 0; same && k < left_size; ++k) same = left[k] == right[k];
      if (same) return false;
    }
  }
  return true;
}

// How the hooks of STM_RECORD are found: by the namespaces of T, for T alone and not for what derives from it.
template <typename T>
struct Exactly {};

template <typename T, typename = void>
struct IsRecord : std::false_type {};
template <typename T>
struct IsRecord<T, std::void_t<decltype(StmRecordTag(Exactly<T>{}))>> : std::true_type {};

template <typename T, typename = void>
struct IsTagged : std::false_type {};
template <typename T>
struct IsTagged<T, std::void_t<decltype(StmTaggedTag(Exactly<T>{}))>> : std::true_type {};

template <typename T, typename = void>
struct HasCodec : std::false_type {};
template <typename T>
struct HasCodec<T, std::void_t<decltype(Codec<T>::Encode(std::declval<const T&>()))>> : std::true_type {};

template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};

// The tag of a record or tagged type.
template <typename T>
std::string_view TagOf() {
  static_assert(IsRecord<T>::value || IsTagged<T>::value, "name the type's tag by STM_RECORD or STM_TAGGED");
  if constexpr (IsRecord<T>::value) {
    return StmRecordTag(Exactly<T>{});
  } else {
    return StmTaggedTag(Exactly<T>{});
  }
}

template <typename T>
inline constexpr bool kIsInteger =
    std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char> && !std::is_same_v<T, wchar_t> &&
    !std::is_same_v<T, char16_t> && !std::is_same_v<T, char32_t>;

}  // namespace internal

// Integers. Of fewer than 64 bits: a value that does not fit is BadValue.
template <typename T>
struct Codec<T, std::enable_if_t<internal::kIsInteger<T>>> {
  static_assert(std::is_signed_v<T> || sizeof(T) < 8, "EDN integers are signed, of 64 bits: use int64_t or stm::BigInt");
  static Value Encode(T value) { return Value::Integer(static_cast<int64_t>(value)); }
  static absl::StatusOr<T> Decode(const Value& value) {
    if (!value.is(Type::kInteger)) return internal::Mismatch("integer", value);
    int64_t i = value.integer();
    if constexpr (sizeof(T) < 8) {
      if (i < static_cast<int64_t>(std::numeric_limits<T>::min()) ||
          i > static_cast<int64_t>(std::numeric_limits<T>::max())) {
        return internal::OutOfRange(std::is_signed_v<T> ? "a smaller signed integer" : "a smaller unsigned integer", i);
      }
    }
    return static_cast<T>(i);
  }
};

#define STM_SCALAR_CODEC(T, TYPE, NAME, MAKE, GET)                            \
  template <>                                                                 \
  struct Codec<T> {                                                           \
    static Value Encode(const T& value) { return MAKE; }                      \
    static absl::StatusOr<T> Decode(const Value& value) {                     \
      if (!value.is(Type::TYPE)) return internal::Mismatch(NAME, value);      \
      return T(GET);                                                          \
    }                                                                         \
  }

STM_SCALAR_CODEC(bool, kBoolean, "boolean", Value::Boolean(value), value.boolean());
STM_SCALAR_CODEC(double, kDouble, "double", Value::Double(value), value.float64());
STM_SCALAR_CODEC(char32_t, kCharacter, "character", Value::Character(value), value.character());
STM_SCALAR_CODEC(std::string, kString, "string", Value::String(value), value.text());
STM_SCALAR_CODEC(Bytes, kBytes, "bytes", Value::Bytes(value.data), Bytes{value.text()});
STM_SCALAR_CODEC(Keyword, kKeyword, "keyword", Value::Keyword(value.name), Keyword{value.text()});
STM_SCALAR_CODEC(Symbol, kSymbol, "symbol", Value::Symbol(value.name), Symbol{value.text()});
STM_SCALAR_CODEC(BigInt, kBigInt, "bigint", Value::BigInt(value.digits), BigInt{value.text()});
STM_SCALAR_CODEC(Decimal, kDecimal, "decimal", Value::Decimal(value.digits), Decimal{value.text()});
STM_SCALAR_CODEC(Instant, kInstant, "instant", Value::OfInstant(value), value.instant());
STM_SCALAR_CODEC(Uuid, kUuid, "uuid", Value::OfUuid(value), value.uuid());
STM_SCALAR_CODEC(Map, kMap, "map", Value::OfMap(value), value.map());
STM_SCALAR_CODEC(Set, kSet, "set", Value::OfSet(value), value.set());
STM_SCALAR_CODEC(Vector, kVector, "vector", Value::OfVector(value), value.items());
STM_SCALAR_CODEC(Tagged, kTagged, "tagged value", Value::Tagged(value.tag, value.value),
                 (Tagged{value.text(), value.tagged_value()}));

#undef STM_SCALAR_CODEC

template <>
struct Codec<Nil> {
  static Value Encode(const Nil&) { return Value::OfNil(); }
  static absl::StatusOr<Nil> Decode(const Value& value) {
    if (!value.is_nil()) return internal::Mismatch("nil", value);
    return Nil();
  }
};

template <>
struct Codec<Value> {
  static Value Encode(const Value& value) { return value; }
  static absl::StatusOr<Value> Decode(const Value& value) { return value; }
};

namespace internal {

template <typename T>
std::vector<Value> EncodeItems(const std::vector<T>& items) {
  std::vector<Value> values;
  values.reserve(items.size());
  for (const auto& item : items) values.push_back(Codec<T>::Encode(item));
  return values;
}

template <typename T>
absl::Status DecodeItems(const Vector& values, std::vector<T>* items) {
  items->reserve(values.size());
  size_t index = 0;
  for (const Value& value : values) {
    absl::StatusOr<T> item = Codec<T>::Decode(value);
    if (!item.ok()) return Within(item.status(), index);
    items->push_back(*std::move(item));
    ++index;
  }
  return absl::OkStatus();
}

}  // namespace internal

template <typename T>
struct Codec<std::vector<T>> {
  static Value Encode(const std::vector<T>& items) { return Value::OfVector(internal::EncodeItems(items)); }
  static absl::StatusOr<std::vector<T>> Decode(const Value& value) {
    if (!value.is(Type::kVector)) return internal::Mismatch("vector", value);
    std::vector<T> items;
    if (absl::Status status = internal::DecodeItems(value.items(), &items); !status.ok()) return status;
    return items;
  }
};

template <typename T>
struct Codec<List<T>> {
  static Value Encode(const List<T>& list) { return Value::List(internal::EncodeItems(list.items)); }
  static absl::StatusOr<List<T>> Decode(const Value& value) {
    if (!value.is(Type::kList)) return internal::Mismatch("list", value);
    List<T> list;
    if (absl::Status status = internal::DecodeItems(value.items(), &list.items); !status.ok()) return status;
    return list;
  }
};

template <typename K, typename V>
struct Codec<std::map<K, V>> {
  static Value Encode(const std::map<K, V>& map) {
    std::vector<std::pair<Value, Value>> entries;
    entries.reserve(map.size());
    for (const auto& [key, value] : map) entries.emplace_back(Codec<K>::Encode(key), Codec<V>::Encode(value));
    return Value::OfMap(Map(std::move(entries)));
  }
  static absl::StatusOr<std::map<K, V>> Decode(const Value& value) {
    if (!value.is(Type::kMap)) return internal::Mismatch("map", value);
    std::map<K, V> map;
    for (auto [key, item] : value.map()) {
      absl::StatusOr<K> k = Codec<K>::Decode(key);
      if (!k.ok()) return internal::Within(k.status(), key);
      absl::StatusOr<V> v = Codec<V>::Decode(item);
      if (!v.ok()) return internal::Within(v.status(), key);
      map.emplace(*std::move(k), *std::move(v));
    }
    if (map.size() != value.map().size()) return internal::Mismatch("keys that operator< tells apart", value);
    return map;
  }
};

template <typename T>
struct Codec<std::set<T>> {
  static Value Encode(const std::set<T>& set) {
    std::vector<Value> items;
    items.reserve(set.size());
    for (const T& item : set) items.push_back(Codec<T>::Encode(item));
    return Value::OfSet(Set(items));
  }
  static absl::StatusOr<std::set<T>> Decode(const Value& value) {
    if (!value.is(Type::kSet)) return internal::Mismatch("set", value);
    std::set<T> set;
    for (const Value& item : value.set()) {
      absl::StatusOr<T> decoded = Codec<T>::Decode(item);
      if (!decoded.ok()) return internal::Within(decoded.status(), item);
      set.insert(*std::move(decoded));
    }
    if (set.size() != value.set().size()) return internal::Mismatch("items that operator< tells apart", value);
    return set;
  }
};

// nil or a T. A T that may itself be nil has no optional: nil would mean both.
template <typename T>
struct Codec<std::optional<T>> {
  static_assert(!internal::IsOptional<T>::value && !std::is_same_v<T, Nil>, "nil would mean two things");
  static Value Encode(const std::optional<T>& value) {
    return value.has_value() ? Codec<T>::Encode(*value) : Value::OfNil();
  }
  static absl::StatusOr<std::optional<T>> Decode(const Value& value) {
    if (value.is_nil()) return std::optional<T>();
    absl::StatusOr<T> decoded = Codec<T>::Decode(value);
    if (!decoded.ok()) return decoded.status();
    return std::optional<T>(*std::move(decoded));
  }
};

// The first alternative that takes the value: tagged types, or types that differ in EDN.
template <typename... Ts>
struct Codec<std::variant<Ts...>> {
  static Value Encode(const std::variant<Ts...>& value) {
    return std::visit([](const auto& v) { return stm::Encode(v); }, value);
  }
  static absl::StatusOr<std::variant<Ts...>> Decode(const Value& value) {
    std::optional<std::variant<Ts...>> decoded;
    absl::Status first;
    (Try<Ts>(value, &decoded, &first), ...);
    if (!decoded.has_value()) return first;
    return *std::move(decoded);
  }

 private:
  template <typename T>
  static void Try(const Value& value, std::optional<std::variant<Ts...>>* decoded, absl::Status* first) {
    if (decoded->has_value()) return;
    absl::StatusOr<T> one = Codec<T>::Decode(value);
    if (one.ok()) {
      decoded->emplace(std::in_place_type<T>, *std::move(one));
    } else if (first->ok()) {
      *first = one.status();
    }
  }
};

// #tag{:field value ...}. A field that the value lacks is BadValue, unless it is optional. A field that the struct
// lacks goes to its UnknownFields member; without one, the transaction that read the record writes it back.
template <typename T>
struct Codec<T, std::enable_if_t<internal::IsRecord<T>::value>> {
  static Value Encode(const T& record) {
    std::vector<std::pair<Value, Value>> entries;
    const std::vector<Value>& keys = Keys();
    size_t field = 0;
    const Map* unknown = nullptr;
    StmRecordFields(internal::Exactly<T>{}, [&](const char*, auto member) {
      const auto& value = record.*member;
      if constexpr (std::is_same_v<std::decay_t<decltype(value)>, UnknownFields>) {
        unknown = &value.fields;
      } else {
        entries.emplace_back(keys[field], stm::Encode(value));
      }
      ++field;
    });
    if (unknown != nullptr) {
      for (auto [key, value] : *unknown) entries.emplace_back(key, value);
    }
    return Value::Tagged(internal::TagOf<T>(), Value::OfMap(Map(std::move(entries))));
  }

  static absl::StatusOr<T> Decode(const Value& value) {
    std::string_view tag = internal::TagOf<T>();
    if (!value.is(Type::kTagged) || value.text() != tag || !value.tagged_value().is(Type::kMap)) {
      return internal::Mismatch("#" + std::string(tag) + " and a map", value);
    }
    const Map& map = value.tagged_value().map();
    T record{};
    const std::vector<Value>& keys = Keys();
    absl::Status status;
    size_t field = 0;
    size_t known = 0;
    Map* unknown = nullptr;
    StmRecordFields(internal::Exactly<T>{}, [&](const char*, auto member) {
      const Value& key = keys[field++];
      auto& place = record.*member;
      using Field = std::decay_t<decltype(place)>;
      if constexpr (std::is_same_v<Field, UnknownFields>) {
        unknown = &place.fields;
      } else {
        if (!status.ok()) return;
        const Value* item = map.Find(key);
        if (item == nullptr) {
          if (internal::IsOptional<Field>::value) {
            internal::NoteLoss();  // written back it would be nil, not missing
          } else {
            status = internal::MissingField(tag, key);
          }
          return;
        }
        ++known;
        absl::StatusOr<Field> decoded = stm::Decode<Field>(*item);
        if (decoded.ok()) {
          place = *std::move(decoded);
        } else {
          status = internal::Within(decoded.status(), key);
        }
      }
    });
    if (!status.ok()) return status;
    if (known < map.size()) {
      if (unknown != nullptr) {
        *unknown = map;
        for (const Value& key : keys) *unknown = unknown->Dissoc(key);
      } else {
        internal::NoteLoss();
      }
    }
    return record;
  }

 private:
  static const std::vector<Value>& Keys() {
    static const std::vector<Value>* const keys = [] {
      auto* made = new std::vector<Value>();
      StmRecordFields(internal::Exactly<T>{},
                      [&](const char* name, auto) { made->push_back(internal::FieldKeyword(name)); });
      return made;
    }();
    return *keys;
  }
};

template <typename T>
struct Codec<T, std::enable_if_t<internal::IsTagged<T>::value>> {
  static Value Encode(const T& value) {
    return Value::Tagged(internal::TagOf<T>(), StmTaggedEncode(value));
  }
  static absl::StatusOr<T> Decode(const Value& value) {
    std::string_view tag = internal::TagOf<T>();
    if (!value.is(Type::kTagged) || value.text() != tag) return internal::Mismatch("#" + std::string(tag), value);
    return StmTaggedDecode(internal::Exactly<T>{}, value.tagged_value());
  }
};

}  // namespace stm

// STM_RECORD(CreateUser, "blog.CreateUser", name, email, start_date); beside the struct, in its namespace, makes it
// #blog.CreateUser{:name ... :email ... :start-date ...}. At most 40 fields.
#define STM_RECORD(TYPE, TAG, ...)                                                                               \
  [[maybe_unused]] inline const char* StmRecordTag(::stm::internal::Exactly<TYPE>) { return TAG; }                                  \
  template <typename StmVisit>                                                                                   \
  void StmRecordFields(::stm::internal::Exactly<TYPE>, StmVisit&& visit) {                                                          \
    STM_INTERNAL_EACH(TYPE, __VA_ARGS__)                                                                         \
  }                                                                                                              \
  static_assert(::stm::internal::DistinctKeywords(#__VA_ARGS__),                                                 \
                "two fields of " #TYPE " spell the same keyword")

// STM_TAGGED(Money, "shop.Money", encode, decode): a type that is no record. encode: Value(const Money&);
// decode: absl::StatusOr<Money>(const Value&). The value under the tag may be any EDN.
#define STM_TAGGED(TYPE, TAG, ENCODE, DECODE)                                                                    \
  [[maybe_unused]] inline const char* StmTaggedTag(::stm::internal::Exactly<TYPE>) { return TAG; }                                  \
  inline ::stm::Value StmTaggedEncode(const TYPE& value) { return ENCODE(value); }                               \
  inline absl::StatusOr<TYPE> StmTaggedDecode(::stm::internal::Exactly<TYPE>, const ::stm::Value& value) { return DECODE(value); }  \
  static_assert(true, "")

#define STM_INTERNAL_FIELD(TYPE, NAME) visit(#NAME, &TYPE::NAME);
#define STM_INTERNAL_EACH_1(T, F) STM_INTERNAL_FIELD(T, F)
#define STM_INTERNAL_EACH_2(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_1(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_3(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_2(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_4(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_3(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_5(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_4(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_6(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_5(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_7(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_6(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_8(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_7(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_9(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_8(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_10(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_9(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_11(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_10(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_12(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_11(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_13(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_12(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_14(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_13(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_15(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_14(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_16(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_15(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_17(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_16(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_18(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_17(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_19(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_18(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_20(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_19(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_21(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_20(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_22(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_21(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_23(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_22(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_24(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_23(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_25(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_24(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_26(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_25(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_27(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_26(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_28(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_27(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_29(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_28(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_30(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_29(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_31(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_30(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_32(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_31(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_33(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_32(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_34(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_33(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_35(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_34(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_36(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_35(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_37(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_36(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_38(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_37(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_39(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_38(T, __VA_ARGS__)
#define STM_INTERNAL_EACH_40(T, F, ...) STM_INTERNAL_FIELD(T, F) STM_INTERNAL_EACH_39(T, __VA_ARGS__)
#define STM_INTERNAL_PICK( \
    _1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, _17, _18, _19, _20, _21, _22, \
    _23, _24, _25, _26, _27, _28, _29, _30, _31, _32, _33, _34, _35, _36, _37, _38, _39, _40, N, ...) \
  STM_INTERNAL_EACH_##N
#define STM_INTERNAL_EACH(T, ...) \
  STM_INTERNAL_PICK(__VA_ARGS__, 40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, \
    22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0) \
  (T, __VA_ARGS__)

#endif  // STM_CLIENT_CPP_STM_CODEC_H_
