#include "engine/values/value.h"

#include <cassert>
#include <cmath>
#include <cstring>
#include <ostream>

#include "engine/values/edn.h"
#include "engine/values/hash.h"
#include "engine/values/lexical.h"
#include "engine/values/value_access.h"

namespace stm {
namespace {

const TextNode* AsText(const Value::Node* node) { return static_cast<const TextNode*>(node); }
const TaggedNode* AsTagged(const Value::Node* node) { return static_cast<const TaggedNode*>(node); }

double DoubleOf(uint64_t bits) {
  double d;
  std::memcpy(&d, &bits, sizeof d);
  return d;
}

uint64_t NotZero(uint64_t hash) { return hash == 0 ? 1 : hash; }

// The log's format: neither the types' numbers nor anything below may change.
uint64_t HashOf(Type type, std::string_view bytes) {
  return SipHash<1, 3>(0x73746d642076616cu, 0x7565206861736800u + static_cast<uint64_t>(type), bytes);
}

uint64_t HashOf(Type type, uint64_t first, uint64_t second = 0) {
  char bytes[16];
  for (int i = 0; i < 8; ++i) {
    bytes[i] = static_cast<char>(first >> (8 * i));
    bytes[8 + i] = static_cast<char>(second >> (8 * i));
  }
  return HashOf(type, std::string_view(bytes, sizeof bytes));
}

size_t TextEdnSize(Type type, std::string_view text) {
  switch (type) {
    case Type::kString:
      return lexical::EscapedSize(text) + 2;
    case Type::kBytes:
      return sizeof("#stm/bytes \"\"") - 1 + lexical::Base64Size(text.size());
    case Type::kKeyword:
    case Type::kBigInt:
    case Type::kDecimal:
      return text.size() + 1;
    default:
      return text.size();
  }
}

}  // namespace

std::string_view TypeName(Type type) {
  switch (type) {
    case Type::kNil:
      return "nil";
    case Type::kBoolean:
      return "boolean";
    case Type::kInteger:
      return "integer";
    case Type::kBigInt:
      return "bigint";
    case Type::kDouble:
      return "double";
    case Type::kDecimal:
      return "decimal";
    case Type::kCharacter:
      return "character";
    case Type::kString:
      return "string";
    case Type::kBytes:
      return "bytes";
    case Type::kKeyword:
      return "keyword";
    case Type::kSymbol:
      return "symbol";
    case Type::kInstant:
      return "instant";
    case Type::kUuid:
      return "uuid";
    case Type::kList:
      return "list";
    case Type::kVector:
      return "vector";
    case Type::kMap:
      return "map";
    case Type::kSet:
      return "set";
    case Type::kTagged:
      return "tagged";
  }
  return "hole";  // a map's own; see ValueAccess
}

std::optional<Uuid> ParseUuid(std::string_view text) {
  if (text.size() != lexical::kUuidBytes) return std::nullopt;
  Uuid uuid;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return std::nullopt;
      continue;
    }
    unsigned digit;
    if (c >= '0' && c <= '9') {
      digit = static_cast<unsigned>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<unsigned>(c - 'a') + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<unsigned>(c - 'A') + 10;
    } else {
      return std::nullopt;
    }
    uint64_t& half = i < 18 ? uuid.high : uuid.low;
    half = half << 4 | digit;
  }
  return uuid;
}

std::string ToString(Uuid uuid) {
  std::string out(lexical::kUuidBytes, '\0');
  lexical::WriteUuid(uuid, out.data());
  return out;
}

// ---- makers

Value ValueAccess::TextOf(Type type, std::string text, size_t edn_size) {
  TextNode* node = new TextNode(std::move(text));
  node->edn_size = edn_size;
  return Value(type, node);
}

Value Value::Boolean(bool b) { return Value(Type::kBoolean, uint64_t{b}); }
Value Value::Integer(int64_t i) { return Value(Type::kInteger, static_cast<uint64_t>(i)); }
Value Value::Double(double d) {
  uint64_t bits;
  std::memcpy(&bits, &d, sizeof bits);
  return Value(Type::kDouble, bits);
}
Value Value::Character(char32_t c) { return Value(Type::kCharacter, uint64_t{c}); }

Value Value::BigInt(std::string_view digits) {
  std::string canonical;
  if (lexical::CanonicalBigInt(digits, &canonical) != nullptr) canonical = digits;
  const size_t size = TextEdnSize(Type::kBigInt, canonical);
  return ValueAccess::TextOf(Type::kBigInt, std::move(canonical), size);
}

Value Value::Decimal(std::string_view digits) {
  std::string canonical;
  if (lexical::CanonicalDecimal(digits, &canonical) != nullptr) canonical = digits;
  const size_t size = TextEdnSize(Type::kDecimal, canonical);
  return ValueAccess::TextOf(Type::kDecimal, std::move(canonical), size);
}

Value Value::String(std::string_view utf8) {
  return ValueAccess::TextOf(Type::kString, std::string(utf8), TextEdnSize(Type::kString, utf8));
}
Value Value::Bytes(std::string_view bytes) {
  return ValueAccess::TextOf(Type::kBytes, std::string(bytes), TextEdnSize(Type::kBytes, bytes));
}
Value Value::Keyword(std::string_view name) {
  return ValueAccess::TextOf(Type::kKeyword, std::string(name), name.size() + 1);
}
Value Value::Symbol(std::string_view name) {
  return ValueAccess::TextOf(Type::kSymbol, std::string(name), name.size());
}

Value Value::OfInstant(Instant instant) {
  Value value(Type::kInstant, static_cast<uint64_t>(instant.seconds));
  value.nanos_ = instant.nanos;
  return value;
}

Value Value::OfUuid(Uuid uuid) { return Value(Type::kUuid, new UuidNode(uuid)); }

Value Value::List(Vector items) {
  return Value(Type::kList, ValueAccess::NodeOf(ValueAccess::Release(&items)));
}
Value Value::List(std::vector<Value> items) { return List(Vector(std::move(items))); }
Value Value::OfVector(Vector items) {
  return Value(Type::kVector, ValueAccess::NodeOf(ValueAccess::Release(&items)));
}
Value Value::OfVector(std::vector<Value> items) { return OfVector(Vector(std::move(items))); }
Value Value::OfMap(Map map) { return Value(Type::kMap, ValueAccess::NodeOf(ValueAccess::Release(&map))); }
Value Value::OfSet(Set set) { return Value(Type::kSet, ValueAccess::NodeOf(ValueAccess::Release(&set))); }

Value Value::Tagged(std::string_view tag, Value value) {
  TaggedNode* node = new TaggedNode(tag, std::move(value));
  node->edn_size =
      1 + tag.size() + (ValueAccess::TagTouches(node->value.type()) ? 0 : 1) + node->value.edn_size();
  node->depth = 1 + node->value.depth();
  return Value(Type::kTagged, node);
}

void Value::Free(Type type, const Node* node) {
  const auto free_now = [](Type t, const Node* n) {
    switch (t) {
      case Type::kUuid:
        delete static_cast<const UuidNode*>(n);
        break;
      case Type::kTagged:
        delete AsTagged(n);
        break;
      case Type::kList:
      case Type::kVector:
        ValueAccess::Free(ValueAccess::RepOf(ValueAccess::VectorOf(n)));
        break;
      case Type::kMap:
      case Type::kSet:
        ValueAccess::Free(ValueAccess::RepOf(ValueAccess::MapOf(n)));
        break;
      default:
        delete AsText(n);
    }
  };
  int depth = 1;
  if (type == Type::kTagged) depth = AsTagged(node)->depth;
  if (type == Type::kList || type == Type::kVector) depth = ValueAccess::DepthOfVector(node);
  if (type == Type::kMap || type == Type::kSet) depth = ValueAccess::DepthOfMap(node);
  if (depth <= kValueDepthMax) {
    free_now(type, node);
    return;
  }
  // Deeper than may be: someone built it by hand, perhaps far deeper than the stack. What such a node holds
  // waits in a list of the outermost one.
  thread_local std::vector<std::pair<Type, const Node*>>* waiting = nullptr;
  if (waiting != nullptr) {
    waiting->emplace_back(type, node);
    return;
  }
  std::vector<std::pair<Type, const Node*>> list{{type, node}};
  waiting = &list;
  while (!list.empty()) {
    const auto [t, n] = list.back();
    list.pop_back();
    free_now(t, n);
  }
  waiting = nullptr;
}

// ---- accessors

bool Value::boolean() const {
  assert(type_ == Type::kBoolean);
  return bits_ != 0;
}

int64_t Value::integer() const {
  assert(type_ == Type::kInteger);
  return static_cast<int64_t>(bits_);
}

double Value::float64() const {
  assert(type_ == Type::kDouble);
  return DoubleOf(bits_);
}

char32_t Value::character() const {
  assert(type_ == Type::kCharacter);
  return static_cast<char32_t>(bits_);
}

const std::string& Value::text() const {
  assert(type_ == Type::kString || type_ == Type::kBytes || type_ == Type::kKeyword ||
         type_ == Type::kSymbol || type_ == Type::kBigInt || type_ == Type::kDecimal ||
         type_ == Type::kTagged);
  return AsText(node())->text;
}

Instant Value::instant() const {
  assert(type_ == Type::kInstant);
  return Instant{static_cast<int64_t>(bits_), nanos_};
}

Uuid Value::uuid() const {
  assert(type_ == Type::kUuid);
  return static_cast<const UuidNode*>(node())->uuid;
}

const Vector& Value::items() const {
  assert(type_ == Type::kList || type_ == Type::kVector);
  static const Vector& empty = *new Vector();
  return bits_ == 0 ? empty : ValueAccess::VectorOf(node());
}

const Map& Value::map() const {
  assert(type_ == Type::kMap);
  static const Map& empty = *new Map();
  return bits_ == 0 ? empty : ValueAccess::MapOf(node());
}

const Set& Value::set() const {
  assert(type_ == Type::kSet);
  static const Set& empty = *new Set();
  return bits_ == 0 ? empty : ValueAccess::SetOf(node());
}

const Value& Value::tagged_value() const {
  assert(type_ == Type::kTagged);
  return AsTagged(node())->value;
}

size_t Value::edn_size() const {
  char scratch[lexical::kDoubleBytesMax];
  switch (type_) {
    case Type::kNil:
      return 3;
    case Type::kBoolean:
      return bits_ != 0 ? 4 : 5;
    case Type::kInteger:
      return lexical::IntegerSize(static_cast<int64_t>(bits_));
    case Type::kDouble:
      return lexical::WriteDouble(DoubleOf(bits_), scratch);
    case Type::kCharacter:
      return 1 + lexical::WriteCharacter(static_cast<char32_t>(bits_), scratch);
    case Type::kBigInt:
    case Type::kDecimal:
    case Type::kString:
    case Type::kBytes:
    case Type::kKeyword:
    case Type::kSymbol:
    case Type::kTagged:
      return AsText(node())->edn_size;
    case Type::kInstant:
      return sizeof("#inst \"\"") - 1 + lexical::InstantSize(instant());
    case Type::kUuid:
      return sizeof("#uuid \"\"") - 1 + lexical::kUuidBytes;
    case Type::kList:
    case Type::kVector: {
      const Vector& v = items();
      return 2 + v.items_edn_size() + (v.empty() ? 0 : v.size() - 1);
    }
    case Type::kMap: {
      const Map& m = map();
      return 2 + m.entries_edn_size() + (m.empty() ? 0 : 3 * m.size() - 2);
    }
    case Type::kSet: {
      const Set& s = set();
      return 3 + s.items_edn_size() + (s.empty() ? 0 : s.size() - 1);
    }
  }
  return 0;  // a hole
}

int Value::depth() const {
  switch (type_) {
    case Type::kTagged:
      return AsTagged(node())->depth;
    case Type::kList:
    case Type::kVector:
      return bits_ == 0 ? 1 : 1 + ValueAccess::DepthOfVector(node());
    case Type::kMap:
    case Type::kSet:
      return bits_ == 0 ? 1 : 1 + ValueAccess::DepthOfMap(node());
    default:
      return 1;
  }
}

uint64_t Value::hash() const {
  switch (type_) {
    case Type::kNil:
    case Type::kBoolean:
    case Type::kInteger:
    case Type::kCharacter:
      return HashOf(type_, bits_);
    case Type::kDouble:
      return std::isnan(DoubleOf(bits_)) ? HashOf(type_, 0, 1) : HashOf(type_, bits_);
    case Type::kInstant:
      return HashOf(type_, bits_, static_cast<uint64_t>(nanos_));
    case Type::kUuid:
      return HashOf(type_, uuid().high, uuid().low);
    case Type::kList:
    case Type::kVector:
      return MixHash(HashOf(type_, 0), items().items_hash());
    case Type::kMap:
      return MixHash(HashOf(type_, 0), map().entries_hash());
    case Type::kSet:
      return MixHash(HashOf(type_, 0), set().items_hash());
    default: {
      const TextNode* text = AsText(node());
      uint64_t hash = text->hash.load(std::memory_order_relaxed);
      if (hash == 0) {
        hash = HashOf(type_, text->text);
        if (type_ == Type::kTagged) hash = MixHash(hash, tagged_value().hash());
        hash = NotZero(hash);
        text->hash.store(hash, std::memory_order_relaxed);
      }
      return hash;
    }
  }
}

bool Value::identical(const Value& other) const {
  return type_ == other.type_ && bits_ == other.bits_ && nanos_ == other.nanos_;
}

bool operator==(const Value& a, const Value& b) {
  if (a.identical(b)) return true;
  if (a.type_ != b.type_) return false;
  switch (a.type_) {
    case Type::kDouble:
      return std::isnan(DoubleOf(a.bits_)) && std::isnan(DoubleOf(b.bits_));
    case Type::kUuid:
      return a.uuid() == b.uuid();
    case Type::kBigInt:
    case Type::kDecimal:
    case Type::kString:
    case Type::kBytes:
    case Type::kKeyword:
    case Type::kSymbol:
      return AsText(a.node())->text == AsText(b.node())->text;
    case Type::kList:
    case Type::kVector:
      return a.items() == b.items();
    case Type::kMap:
      return a.map() == b.map();
    case Type::kSet:
      return a.set() == b.set();
    case Type::kTagged:
      return a.edn_size() == b.edn_size() && a.text() == b.text() && a.tagged_value() == b.tagged_value();
    default:
      return false;  // a scalar's bits are all of it
  }
}

std::ostream& operator<<(std::ostream& out, const Value& value) { return out << ToEdn(value); }

std::ostream& operator<<(std::ostream& out, const std::optional<Value>& value) {
  return value ? out << *value : out << "absent";
}

}  // namespace stm
