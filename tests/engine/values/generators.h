// Random values for property tests: any type, text that needs escaping, names with and without a namespace,
// nested and repeated collections. All pass Check.
#ifndef STM_TESTS_ENGINE_VALUES_GENERATORS_H_
#define STM_TESTS_ENGINE_VALUES_GENERATORS_H_

#include <rapidcheck.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "engine/values/lexical.h"
#include "engine/values/map.h"
#include "engine/values/value.h"
#include "engine/values/vector.h"

namespace stm {

inline char32_t DrawCharacter() {
  switch (*rc::gen::inRange(0, 8)) {
    case 0:
      return static_cast<char32_t>(*rc::gen::inRange(0, 0x20));
    case 1:
      return *rc::gen::element<char32_t>(U'"', U'\\', U'\x7F', U',', U';', U'(', U' ', U'\n', U'\x85');
    case 2:
      return static_cast<char32_t>(*rc::gen::inRange(0x80, 0xD800));
    case 3:
      return static_cast<char32_t>(*rc::gen::inRange(0xE000, 0x110000));
    default:
      return static_cast<char32_t>(*rc::gen::inRange(0x20, 0x7F));
  }
}

inline std::string DrawText() {
  std::string text;
  const int length =
      *rc::gen::weightedOneOf<int>({{8, rc::gen::inRange(0, 12)}, {2, rc::gen::inRange(12, 40)}});
  for (int i = 0; i < length; ++i) {
    char bytes[4];
    text.append(bytes, lexical::EncodeUtf8(DrawCharacter(), bytes));
  }
  return text;
}

inline std::string DrawName() {
  static const std::vector<std::string> kMore = {"a", "B", "z", "0", "9", "-", "+", ".", "*",  "!",
                                                 "?", "_", "#", "'", ":", "=", "<", "é", "語", "😀"};
  const auto part = [] {
    std::string name =
        *rc::gen::elementOf(std::vector<std::string>{"a", "b", "name", "é", "-x", "+", ".y", "<", "nil"});
    for (int n = *rc::gen::inRange(0, 4); n > 0; --n) name += *rc::gen::elementOf(kMore);
    return name;
  };
  while (true) {
    const std::string name = *rc::gen::inRange(0, 4) == 0 ? part() + "/" + part() : part();
    if (lexical::SymbolProblem(name) == nullptr) return name;
  }
}

inline std::string DrawDigits(int length) {
  std::string digits(1, static_cast<char>('1' + *rc::gen::inRange(0, 9)));
  for (int i = 0; i < length; ++i) digits += static_cast<char>('0' + *rc::gen::inRange(0, 10));
  return digits;
}

inline int64_t DrawInteger() {
  switch (*rc::gen::inRange(0, 4)) {
    case 0:
      return *rc::gen::arbitrary<int64_t>();
    case 1:
      return *rc::gen::element<int64_t>(std::numeric_limits<int64_t>::min(),
                                        std::numeric_limits<int64_t>::max(), 999999999999999999,
                                        1000000000000000000, -1000000000000000000);
    default:
      return *rc::gen::inRange<int64_t>(-20, 20);
  }
}

inline double DrawDouble() {
  switch (*rc::gen::inRange(0, 5)) {
    case 0:
      return *rc::gen::element(
          0.0, -0.0, 1.0, 0.1, 1e7, 9999999.0, 1e-3, 0.00099, 5e-324, 1.7976931348623157e308,
          2.2250738585072014e-308, std::numeric_limits<double>::infinity(),
          -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN());
    case 1: {
      const uint64_t bits = static_cast<uint64_t>(*rc::gen::arbitrary<int64_t>()) * 0x9e3779b97f4a7c15u;
      double d;
      std::memcpy(&d, &bits, sizeof d);
      return d;
    }
    default:
      return *rc::gen::inRange(-1000000, 1000000) / 64.0;
  }
}

inline Instant DrawInstant() {
  const int32_t nanos = *rc::gen::weightedOneOf<int32_t>(
      {{1, rc::gen::just(0)},
       {1, rc::gen::map(rc::gen::inRange(0, 1000), [](int n) { return n * 1000000; })},
       {1, rc::gen::map(rc::gen::inRange(0, 1000000), [](int n) { return n * 1000; })},
       {1, rc::gen::inRange(0, 1000000000)}});
  return Instant{*rc::gen::inRange<int64_t>(lexical::kInstantSecondsMin, lexical::kInstantSecondsMax + 1),
                 nanos};
}

inline Value DrawScalar() {
  switch (*rc::gen::inRange(0, 14)) {
    case 0:
      return Value();
    case 1:
      return Value::Boolean(*rc::gen::arbitrary<bool>());
    case 2:
    case 3:
      return Value::Integer(DrawInteger());
    case 4:
      return Value::BigInt((*rc::gen::arbitrary<bool>() ? "-" : "") + DrawDigits(*rc::gen::inRange(0, 40)));
    case 5:
      return Value::Double(DrawDouble());
    case 6: {
      std::string digits = DrawDigits(*rc::gen::inRange(0, 5));
      if (*rc::gen::arbitrary<bool>()) digits = "-" + digits;
      if (*rc::gen::arbitrary<bool>()) digits += "." + DrawDigits(*rc::gen::inRange(0, 12));
      if (*rc::gen::arbitrary<bool>()) digits += "e" + std::to_string(*rc::gen::inRange(-30, 30));
      return Value::Decimal(digits);
    }
    case 7:
      return Value::Character(DrawCharacter());
    case 8:
      return Value::String(DrawText());
    case 9: {
      std::string bytes;
      for (int n = *rc::gen::inRange(0, 9); n > 0; --n) bytes += static_cast<char>(*rc::gen::inRange(0, 256));
      return Value::Bytes(bytes);
    }
    case 10:
      return Value::Keyword(*rc::gen::inRange(0, 8) == 0 ? DrawDigits(1) : DrawName());
    case 11:
      return Value::Symbol(DrawName());
    case 12:
      return Value::OfInstant(DrawInstant());
    default: {
      const auto half = [] {
        return static_cast<uint64_t>(*rc::gen::arbitrary<int64_t>()) * 0x9e3779b97f4a7c15u;
      };
      return Value::OfUuid(Uuid{half(), half()});
    }
  }
}

inline Value DrawValue(int depth) {
  if (depth <= 1 || *rc::gen::inRange(0, 3) == 0) return DrawScalar();
  // Mostly small; now and then larger than an array map, so that tries are met, too.
  const int count = *rc::gen::inRange(0, 30) == 0 ? *rc::gen::inRange(17, 70) : *rc::gen::inRange(0, 6);
  if (count > 6) depth = 2;
  std::vector<Value> items;
  for (int i = 0; i < count; ++i) items.push_back(DrawValue(depth - 1));
  switch (*rc::gen::inRange(0, 5)) {
    case 0:
      return Value::List(std::move(items));
    case 1:
      return Value::OfVector(std::move(items));
    case 2:
      return Value::OfSet(Set(items));
    case 3: {
      std::string tag = DrawName();
      if (lexical::TagProblem(tag) != nullptr) tag = "blog.CreateUser";
      return Value::Tagged(tag, DrawValue(depth - 1));
    }
    default: {
      std::vector<std::pair<Value, Value>> entries;
      for (Value& item : items) entries.emplace_back(std::move(item), DrawValue(depth - 1));
      return Value::OfMap(Map(std::move(entries)));
    }
  }
}

// An equal value whose maps and sets were built in another order, and that shares nothing with it.
inline Value Rebuilt(const Value& value) {
  switch (value.type()) {
    case Type::kList:
    case Type::kVector: {
      Vector items;
      for (const Value& item : value.items()) items = items.Push(Rebuilt(item));
      return value.is(Type::kList) ? Value::List(items) : Value::OfVector(items);
    }
    case Type::kMap: {
      auto entries = value.map().Entries();
      Map map;
      for (auto it = entries.rbegin(); it != entries.rend(); ++it)
        map = map.Assoc(Rebuilt(it->first), Rebuilt(it->second));
      return Value::OfMap(map);
    }
    case Type::kSet: {
      const auto items = value.set().Items();
      Set set;
      for (auto it = items.rbegin(); it != items.rend(); ++it) set = set.Conj(Rebuilt(*it));
      return Value::OfSet(set);
    }
    case Type::kTagged:
      return Value::Tagged(value.text(), Rebuilt(value.tagged_value()));
    case Type::kString:
      return Value::String(value.text());
    case Type::kKeyword:
      return Value::Keyword(value.text());
    default:
      return value;
  }
}

}  // namespace stm

namespace rc {

template <>
struct Arbitrary<stm::Value> {
  static Gen<stm::Value> arbitrary() {
    return gen::exec([] { return stm::DrawValue(5); });
  }
};

}  // namespace rc

#endif  // STM_TESTS_ENGINE_VALUES_GENERATORS_H_
