// What the files of engine/values share and nobody else needs: nodes of scalar values, and the way into a
// value. Hashes are made when first asked for and kept; 0 means not made yet.
#ifndef STM_ENGINE_VALUES_VALUE_ACCESS_H_
#define STM_ENGINE_VALUES_VALUE_ACCESS_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "engine/values/map.h"
#include "engine/values/value.h"
#include "engine/values/vector.h"

namespace stm {

// A string, bytes, keyword, symbol, or the digits of a number.
struct TextNode : Value::Node {
  explicit TextNode(std::string t) : text(std::move(t)) {}
  TextNode(const char* data, size_t size) : text(data, size) {}
  const std::string text;
  size_t edn_size = 0;
  mutable std::atomic<uint64_t> hash{0};
};

struct UuidNode : Value::Node {
  explicit UuidNode(Uuid u) : uuid(u) {}
  const Uuid uuid;
};

struct TaggedNode : TextNode {  // text: the tag
  TaggedNode(std::string_view tag, Value v) : TextNode(tag.data(), tag.size()), value(std::move(v)) {}
  Value value;
  int depth = 0;
};

struct ValueAccess {
  // Where a map's sequence has lost an entry. Never leaves map.cc, and takes no room in print.
  static constexpr Type kHole = static_cast<Type>(31);
  static Value Hole() { return Value(kHole, uint64_t{0}); }
  static bool IsHole(const Value& value) { return value.type_ == kHole; }

  // Whether a tag may touch what it tags: #t{:a 1}, #t[1], #t(1). A set would make the tag longer (#t#{1} is
  // the symbol t# to Clojure).
  static bool TagTouches(Type type) {
    return type == Type::kList || type == Type::kVector || type == Type::kMap;
  }

  // A string that was just read, and whose printed size is known.
  static Value TextOf(Type type, std::string text, size_t edn_size);

  static void Free(const Vector::Rep* rep);  // vector.cc
  static void Free(const Map::Rep* rep);     // map.cc
  static const Value::Node* NodeOf(const Vector::Rep* rep);
  static const Value::Node* NodeOf(const Map::Rep* rep);
  // The handle that a node keeps of itself, uncounted: what items(), map() and set() lend.
  static const Vector& VectorOf(const Value::Node* node);
  static const Map& MapOf(const Value::Node* node);
  static const Set& SetOf(const Value::Node* node);
  static int DepthOfVector(const Value::Node* node);  // of its items
  static int DepthOfMap(const Value::Node* node);

  static const Vector::Rep* Release(Vector* vector) { return std::exchange(vector->rep_, nullptr); }
  static const Map::Rep* Release(Map* map) { return std::exchange(map->rep_, nullptr); }
  static const Map::Rep* Release(Set* set) { return std::exchange(set->map_.rep_, nullptr); }
  static void SetUncounted(Set* set, const Map::Rep* rep) { set->map_.rep_ = rep; }
  static const Map::Rep* RepOf(const Map& map) { return map.rep_; }
  static const Vector::Rep* RepOf(const Vector& vector) { return vector.rep_; }
};

}  // namespace stm

#endif  // STM_ENGINE_VALUES_VALUE_ACCESS_H_
