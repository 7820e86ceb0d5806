// Value is one EDN value: immutable, shared by pointer, 16 bytes, cheap to copy from any thread.
// Collections are persistent (vector.h, map.h): conj or assoc on a large one shares all but a path.
// Every value knows its EDN size, its depth and its hash without walking it again.
// Equality is by value: maps and sets ignore order, integers and doubles differ, lists and vectors
// differ, NaN equals itself, 0.0 and -0.0 differ, decimals of other scale differ.
#ifndef STM_ENGINE_VALUES_VALUE_H_
#define STM_ENGINE_VALUES_VALUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stm {

class Value;
class Vector;  // vector.h; items of a vector or a list
class Map;     // map.h; insertion-ordered
class Set;     // map.h; insertion-ordered

// Nesting allowed: a scalar is 1 deep, [1] is 2 deep.
inline constexpr int kValueDepthMax = 64;

struct Nil {
  friend bool operator==(Nil, Nil) { return true; }
};

// A moment in UTC. Years 0001 to 9999; nanos in [0, 1e9).
struct Instant {
  int64_t seconds = 0;  // since 1970
  int32_t nanos = 0;
  friend bool operator==(Instant a, Instant b) { return a.seconds == b.seconds && a.nanos == b.nanos; }
  friend bool operator!=(Instant a, Instant b) { return !(a == b); }
  friend bool operator<(Instant a, Instant b) {
    return a.seconds != b.seconds ? a.seconds < b.seconds : a.nanos < b.nanos;
  }
  friend bool operator<=(Instant a, Instant b) { return !(b < a); }
};

struct Uuid {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(Uuid a, Uuid b) { return a.high == b.high && a.low == b.low; }
  friend bool operator!=(Uuid a, Uuid b) { return !(a == b); }
  friend bool operator<(Uuid a, Uuid b) { return a.high != b.high ? a.high < b.high : a.low < b.low; }
  template <typename H>
  friend H AbslHashValue(H h, Uuid u) {
    return H::combine(std::move(h), u.high, u.low);
  }
};

// 36 lower-case characters, or nullopt. Accepts upper case.
std::optional<Uuid> ParseUuid(std::string_view text);
std::string ToString(Uuid uuid);

// Hashes, and so logs, hold these numbers: new types go last.
enum class Type : uint8_t {
  kNil,
  kBoolean,
  kInteger,
  kBigInt,
  kDouble,
  kDecimal,
  kCharacter,
  kString,
  kBytes,
  kKeyword,
  kSymbol,
  kInstant,
  kUuid,
  kList,
  kVector,
  kMap,
  kSet,
  kTagged,
};

// "integer", "vector", ... as errors name them.
std::string_view TypeName(Type type);

class Value {
 public:
  Value() : type_(Type::kNil) {}
  Value(const Value& other) : type_(other.type_), nanos_(other.nanos_), bits_(other.bits_) {
    if (has_node()) node()->refs.fetch_add(1, std::memory_order_relaxed);
  }
  Value(Value&& other) noexcept : type_(other.type_), nanos_(other.nanos_), bits_(other.bits_) {
    other.Forget();
  }
  Value& operator=(const Value& other) {
    Value copy(other);
    Swap(copy);
    return *this;
  }
  Value& operator=(Value&& other) noexcept {
    Value taken(std::move(other));
    Swap(taken);
    return *this;
  }
  ~Value() {
    if (has_node()) Unref();
  }

  // Makers. They do not check what the reader and the wire check (UTF-8, digits, names, depth): see Check in
  // edn.h. A value deeper than kValueDepthMax may be made, asked for its depth, checked and dropped; nothing
  // else.
  static Value OfNil() { return Value(); }
  static Value Boolean(bool b);
  static Value Integer(int64_t i);
  static Value BigInt(std::string_view digits);  // "-123"; made canonical: no leading zeros, no plus
  static Value Double(double d);
  static Value Decimal(
      std::string_view digits);  // "1.50", "1E+3"; scale kept, spelled as Java's BigDecimal does
  static Value Character(char32_t c);
  static Value String(std::string_view utf8);
  static Value Bytes(std::string_view bytes);
  static Value Keyword(std::string_view name);  // without the colon
  static Value Symbol(std::string_view name);
  static Value OfInstant(Instant instant);
  static Value OfUuid(Uuid uuid);
  static Value List(Vector items);
  static Value List(std::vector<Value> items);
  static Value OfVector(Vector items);
  static Value OfVector(std::vector<Value> items);
  static Value OfMap(Map map);
  static Value OfSet(Set set);
  static Value Tagged(std::string_view tag, Value value);  // tag without '#'

  Type type() const { return type_; }
  bool is(Type type) const { return type_ == type; }
  bool is_nil() const { return type_ == Type::kNil; }

  // Accessors. Each asserts its type.
  bool boolean() const;
  int64_t integer() const;
  double float64() const;
  char32_t character() const;
  // string, bytes, keyword, symbol; digits of bigint and decimal; tag of tagged.
  const std::string& text() const;
  Instant instant() const;
  Uuid uuid() const;
  const Vector& items() const;  // list or vector
  const Map& map() const;
  const Set& set() const;
  const Value& tagged_value() const;

  // Exact bytes of the value printed by ToEdn.
  size_t edn_size() const;
  // 1 for a scalar.
  int depth() const;
  // Equal values have equal hashes, whatever the order of their maps and sets. Part of the log's format (an
  // operation's line carries the hash of the value that came out): the same in every process and build,
  // golden-tested, and kept by collections, so that conj or assoc on a large one does not walk it again.
  uint64_t hash() const;

  // Asks the processor for what this value points to: it will be read or let go soon.
  void Fetch() const {
    if (has_node()) __builtin_prefetch(node());
  }

  // Same object or same scalar: a quick yes; no means nothing.
  bool identical(const Value& other) const;
  friend bool operator==(const Value& a, const Value& b);
  friend bool operator!=(const Value& a, const Value& b) { return !(a == b); }
  template <typename H>
  friend H AbslHashValue(H h, const Value& v) {
    return H::combine(std::move(h), v.hash());
  }

  // What values share. Text, uuid and tagged nodes are value.cc's, collections' nodes their own.
  struct Node {
    mutable std::atomic<uint32_t> refs{1};
    // The only one that holds this node: it may be changed in place, or freed, with no further
    // synchronisation.
    bool sole() const { return refs.load(std::memory_order_acquire) == 1; }
    void Ref() const { refs.fetch_add(1, std::memory_order_relaxed); }
    // True: that was the last, free it.
    bool Drop() const { return sole() || refs.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  };

 private:
  friend struct ValueAccess;  // value_access.h

  // Types whose bits_ point to a node.
  static constexpr uint32_t kNodeTypes =
      1u << static_cast<int>(Type::kBigInt) | 1u << static_cast<int>(Type::kDecimal) |
      1u << static_cast<int>(Type::kString) | 1u << static_cast<int>(Type::kBytes) |
      1u << static_cast<int>(Type::kKeyword) | 1u << static_cast<int>(Type::kSymbol) |
      1u << static_cast<int>(Type::kUuid) | 1u << static_cast<int>(Type::kList) |
      1u << static_cast<int>(Type::kVector) | 1u << static_cast<int>(Type::kMap) |
      1u << static_cast<int>(Type::kSet) | 1u << static_cast<int>(Type::kTagged);

  Value(Type type, uint64_t bits) : type_(type), bits_(bits) {}
  // Takes one reference over; null: an empty collection.
  Value(Type type, const Node* node) : type_(type), bits_(reinterpret_cast<uintptr_t>(node)) {}

  bool has_node() const { return ((kNodeTypes >> static_cast<uint8_t>(type_)) & 1) != 0 && bits_ != 0; }
  const Node* node() const { return reinterpret_cast<const Node*>(static_cast<uintptr_t>(bits_)); }
  void Forget() {
    type_ = Type::kNil;
    nanos_ = 0;
    bits_ = 0;
  }
  void Swap(Value& other) {
    std::swap(type_, other.type_);
    std::swap(nanos_, other.nanos_);
    std::swap(bits_, other.bits_);
  }
  void Unref() {
    if (node()->Drop()) Free(type_, node());
  }
  static void Free(Type type, const Node* node);

  Type type_;
  int32_t nanos_ = 0;  // of an instant
  uint64_t bits_ = 0;  // the scalar (an instant's seconds, a double's bits), or the node
};
static_assert(sizeof(Value) == 16);

// EDN text, as ToEdn (edn.h) prints it.
std::ostream& operator<<(std::ostream& out, const Value& value);
// "absent" without a value.
std::ostream& operator<<(std::ostream& out, const std::optional<Value>& value);

}  // namespace stm

#endif  // STM_ENGINE_VALUES_VALUE_H_
