#include "engine/values/wire.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/values/check.h"
#include "engine/values/edn.h"
#include "engine/values/lexical.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"
#include "stm/v1/value.pb.h"

namespace stm {
namespace {

bool ReadValue(const v1::Value& message, int level, Value* out, Problem* problem);

bool ReadItems(const v1::Items& message, const char* part, int level, std::vector<Value>* items,
               Problem* problem) {
  items->resize(static_cast<size_t>(message.items_size()));
  for (int i = 0; i < message.items_size(); ++i) {
    const size_t at = static_cast<size_t>(i);
    if (!ReadValue(message.items(i), level + 1, &(*items)[at], problem)) return problem->In(part, at);
  }
  return true;
}

bool ReadValue(const v1::Value& message, int level, Value* out, Problem* problem) {
  if (!CheckLevel(level, problem)) return false;
  const auto wrong = [problem](const char* part, std::string what) {
    problem->Say(std::move(what));
    return problem->In(part);
  };
  switch (message.kind_case()) {
    case v1::Value::kNil:
      *out = Value();
      return true;
    case v1::Value::kBoolean:
      *out = Value::Boolean(message.boolean());
      return true;
    case v1::Value::kInteger:
      *out = Value::Integer(message.integer());
      return true;
    case v1::Value::kFloat64:
      *out = Value::Double(message.float64());
      return true;
    case v1::Value::kText:
      if (!lexical::IsUtf8(message.text())) return wrong("text", "not UTF-8 (bytes go into blob)");
      *out = Value::String(message.text());
      return true;
    case v1::Value::kBlob:
      *out = Value::Bytes(message.blob());
      return true;
    case v1::Value::kCharacter:
      if (!lexical::IsScalarValue(message.character()))
        return wrong("character", "not a Unicode scalar value");
      *out = Value::Character(static_cast<char32_t>(message.character()));
      return true;
    case v1::Value::kKeyword:
      if (const char* what = lexical::KeywordProblem(message.keyword())) return wrong("keyword", what);
      *out = Value::Keyword(message.keyword());
      return true;
    case v1::Value::kSymbol:
      if (const char* what = lexical::SymbolProblem(message.symbol())) return wrong("symbol", what);
      *out = Value::Symbol(message.symbol());
      return true;
    case v1::Value::kInstant: {
      const absl::StatusOr<Instant> instant = FromProto(message.instant());
      if (!instant.ok()) {
        const absl::string_view what = instant.status().message();
        return wrong("instant", std::string(what.data(), what.size()));
      }
      *out = Value::OfInstant(*instant);
      return true;
    }
    case v1::Value::kUuid: {
      const std::optional<Uuid> uuid = ParseUuid(message.uuid());
      if (!uuid) return wrong("uuid", "not 36 characters as f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
      *out = Value::OfUuid(*uuid);
      return true;
    }
    case v1::Value::kBigint: {
      std::string canonical;
      if (const char* what = lexical::CanonicalBigInt(message.bigint(), &canonical))
        return wrong("bigint", what);
      *out = Value::BigInt(canonical);
      return true;
    }
    case v1::Value::kDecimal: {
      std::string canonical;
      if (const char* what = lexical::CanonicalDecimal(message.decimal(), &canonical))
        return wrong("decimal", what);
      *out = Value::Decimal(canonical);
      return true;
    }
    case v1::Value::kList:
    case v1::Value::kVector: {
      const bool list = message.kind_case() == v1::Value::kList;
      std::vector<Value> items;
      if (!ReadItems(list ? message.list() : message.vector(), list ? "list.items" : "vector.items", level,
                     &items, problem)) {
        return false;
      }
      *out = list ? Value::List(std::move(items)) : Value::OfVector(std::move(items));
      return true;
    }
    case v1::Value::kMap: {
      const size_t count = static_cast<size_t>(message.map().entries_size());
      std::vector<Value> alternating(2 * count);
      for (size_t i = 0; i < count; ++i) {
        const v1::MapEntry& entry = message.map().entries(static_cast<int>(i));
        if (!ReadValue(entry.key(), level + 1, &alternating[2 * i], problem)) {
          return problem->In("map.entries", i, ".key");
        }
        if (!ReadValue(entry.value(), level + 1, &alternating[2 * i + 1], problem)) {
          return problem->In("map.entries", i, ".value");
        }
      }
      Map map;
      if (const size_t twice = Map::TakeDistinct(alternating.data(), count, &map); twice != Map::kDistinct) {
        problem->Say("equals an earlier key");
        return problem->In("map.entries", twice, ".key");
      }
      *out = Value::OfMap(std::move(map));
      return true;
    }
    case v1::Value::kSet: {
      std::vector<Value> items;
      if (!ReadItems(message.set(), "set.items", level, &items, problem)) return false;
      Set set;
      if (const size_t twice = Set::TakeDistinct(items.data(), items.size(), &set); twice != Map::kDistinct) {
        problem->Say("equals an earlier item");
        return problem->In("set.items", twice);
      }
      *out = Value::OfSet(std::move(set));
      return true;
    }
    case v1::Value::kTagged: {
      if (const char* what = lexical::TagProblem(message.tagged().tag())) return wrong("tagged.tag", what);
      Value value;
      if (!ReadValue(message.tagged().value(), level + 1, &value, problem))
        return problem->In("tagged.value");
      *out = Value::Tagged(message.tagged().tag(), std::move(value));
      return true;
    }
    case v1::Value::kEdn: {
      absl::StatusOr<Value> value = ReadEdn(message.edn());
      if (!value.ok()) {
        const absl::string_view what = value.status().message();
        return wrong("edn", std::string(what.data(), what.size()));
      }
      if (!CheckLevel(level - 1 + value->depth(), problem)) return problem->In("edn");
      *out = *std::move(value);
      return true;
    }
    case v1::Value::KIND_NOT_SET:
      return problem->Say("no kind is set (nil is `nil: true`; or this kind is newer than this program)");
  }
  return problem->Say("no kind is set");
}

void WriteItems(const Vector& items, v1::Items* message) {
  message->mutable_items()->Reserve(static_cast<int>(items.size()));
  for (const Value& item : items) ToProto(item, message->add_items());
}

bool FitsWithin(const Value& value, int nesting) {
  if (nesting < 1) return false;
  // No level takes more than three.
  if (3 * (value.depth() - 1) + 1 <= nesting) return true;
  switch (value.type()) {
    case Type::kList:
    case Type::kVector:
      for (const Value& item : value.items()) {
        if (!FitsWithin(item, nesting - 2)) return false;
      }
      return true;
    case Type::kMap:
      for (const auto [key, mapped] : value.map()) {
        if (!FitsWithin(key, nesting - 3) || !FitsWithin(mapped, nesting - 3)) return false;
      }
      return true;
    case Type::kSet:
      for (const Value& item : value.set()) {
        if (!FitsWithin(item, nesting - 2)) return false;
      }
      return true;
    case Type::kTagged:
      return FitsWithin(value.tagged_value(), nesting - 2);
    default:
      return true;
  }
}

}  // namespace

bool FitsWire(const Value& value) { return FitsWithin(value, kWireNestingMax); }

absl::StatusOr<Value> FromProto(const v1::Value& message) {
  Value value;
  Problem problem;
  if (ReadValue(message, 1, &value, &problem)) {
    if (FitsWire(value)) return value;
    return absl::InvalidArgumentError(
        absl::StrCat("value: nests too many maps for clients to parse (value_wire_nesting_max=", kWireNestingMax,
                     ", where a map's level counts 3 and another's 2): make it flatter"));
  }
  return absl::InvalidArgumentError(absl::StrCat("value", problem.path, ": ", problem.text));
}

void ToProto(const Value& value, v1::Value* message) {
  if (message->kind_case() != v1::Value::KIND_NOT_SET) message->Clear();
  switch (value.type()) {
    case Type::kNil:
      message->set_nil(true);
      return;
    case Type::kBoolean:
      message->set_boolean(value.boolean());
      return;
    case Type::kInteger:
      message->set_integer(value.integer());
      return;
    case Type::kBigInt:
      message->set_bigint(value.text());
      return;
    case Type::kDouble:
      message->set_float64(value.float64());
      return;
    case Type::kDecimal:
      message->set_decimal(value.text());
      return;
    case Type::kCharacter:
      message->set_character(value.character());
      return;
    case Type::kString:
      message->set_text(value.text());
      return;
    case Type::kBytes:
      message->set_blob(value.text());
      return;
    case Type::kKeyword:
      message->set_keyword(value.text());
      return;
    case Type::kSymbol:
      message->set_symbol(value.text());
      return;
    case Type::kInstant:
      *message->mutable_instant() = ToProto(value.instant());
      return;
    case Type::kUuid:
      message->set_uuid(ToString(value.uuid()));
      return;
    case Type::kList:
      WriteItems(value.items(), message->mutable_list());
      return;
    case Type::kVector:
      WriteItems(value.items(), message->mutable_vector());
      return;
    case Type::kMap: {
      v1::Map* map = message->mutable_map();
      map->mutable_entries()->Reserve(static_cast<int>(value.map().size()));
      for (const auto [key, mapped] : value.map()) {
        v1::MapEntry* entry = map->add_entries();
        ToProto(key, entry->mutable_key());
        ToProto(mapped, entry->mutable_value());
      }
      return;
    }
    case Type::kSet: {
      v1::Items* set = message->mutable_set();
      set->mutable_items()->Reserve(static_cast<int>(value.set().size()));
      for (const Value& item : value.set()) ToProto(item, set->add_items());
      return;
    }
    case Type::kTagged:
      message->mutable_tagged()->set_tag(value.text());
      ToProto(value.tagged_value(), message->mutable_tagged()->mutable_value());
      return;
  }
}

google::protobuf::Timestamp ToProto(Instant instant) {
  google::protobuf::Timestamp message;
  message.set_seconds(instant.seconds);
  message.set_nanos(instant.nanos);
  return message;
}

absl::StatusOr<Instant> FromProto(const google::protobuf::Timestamp& message) {
  const Instant instant{message.seconds(), message.nanos()};
  if (!lexical::IsInstant(instant)) {
    return absl::InvalidArgumentError(
        "an instant is within the years 0001 to 9999, with 0 to 999999999 nanoseconds");
  }
  return instant;
}

}  // namespace stm
