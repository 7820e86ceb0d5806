#include "engine/stored.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "engine/values/absl_view.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"

namespace stm::engine {
namespace {

const Value* Field(const Value& map, std::string_view key, Type type) {
  static const Value kKeys[] = {Value::Keyword("container"), Value::Keyword("name"), Value::Keyword("bytes"),
                                Value::Keyword("writer"), Value::Keyword("last")};
  if (!map.is(Type::kMap)) return nullptr;
  for (const Value& known : kKeys) {
    if (known.text() != key) continue;
    const Value* value = map.map().Find(known);
    return value != nullptr && value->is(type) ? value : nullptr;
  }
  return nullptr;
}

Value Hex(uint64_t number) { return Value::String(absl::StrFormat("%x", number)); }

}  // namespace

Value ToValue(const Stored& stored) {
  return Value::Tagged(kStoredTag, Value::OfVector(std::vector<Value>{
                                       Value::String(stored.container), Value::String(stored.stamp),
                                       Value::Integer(stored.hash), Value::Integer(stored.bytes)}));
}

std::optional<Stored> StoredOf(const Value& value) {
  if (!IsStored(value) || !value.tagged_value().is(Type::kVector)) return std::nullopt;
  const Vector& parts = value.tagged_value().items();
  if (parts.size() != 4 || !parts.at(0).is(Type::kString) || !parts.at(1).is(Type::kString) ||
      !parts.at(2).is(Type::kInteger) || !parts.at(3).is(Type::kInteger)) {
    return std::nullopt;
  }
  return Stored{parts.at(0).text(), parts.at(1).text(), parts.at(2).integer(), parts.at(3).integer()};
}

std::string MakeStamp(uint64_t store, uint64_t writer, uint64_t attempt) {
  return absl::StrFormat("%016x-%x-%x", store, writer, attempt);
}

std::optional<StampOrigin> OriginOf(std::string_view stamp) {
  const std::vector<absl::string_view> parts = absl::StrSplit(Absl(stamp), '-');
  StampOrigin origin;
  uint64_t attempt = 0;
  if (parts.size() != 3 || !absl::SimpleHexAtoi(parts[0], &origin.store) ||
      !absl::SimpleHexAtoi(parts[1], &origin.writer) || !absl::SimpleHexAtoi(parts[2], &attempt)) {
    return std::nullopt;
  }
  return origin;
}

Value ToValue(const StampNote& note) {
  std::vector<std::pair<Value, Value>> fields;
  fields.emplace_back(Value::Keyword("container"), Value::String(note.container));
  fields.emplace_back(Value::Keyword("name"), Value::String(note.name));
  fields.emplace_back(Value::Keyword("bytes"), Value::Integer(note.bytes));
  fields.emplace_back(Value::Keyword("writer"), Hex(note.writer));
  if (note.last) fields.emplace_back(Value::Keyword("last"), Value::Boolean(true));
  return Value::OfMap(Map(std::move(fields)));
}

std::optional<StampNote> StampNoteOf(const Value& value) {
  const Value* container = Field(value, "container", Type::kString);
  const Value* name = Field(value, "name", Type::kString);
  const Value* bytes = Field(value, "bytes", Type::kInteger);
  const Value* writer = Field(value, "writer", Type::kString);
  StampNote note;
  if (container == nullptr || name == nullptr || bytes == nullptr || writer == nullptr ||
      !absl::SimpleHexAtoi(writer->text(), &note.writer)) {
    return std::nullopt;
  }
  note.container = container->text();
  note.name = name->text();
  note.bytes = bytes->integer();
  note.last = Field(value, "last", Type::kBoolean) != nullptr;
  return note;
}

Value ToValue(const CopyNote& note) {
  std::vector<std::pair<Value, Value>> fields;
  fields.emplace_back(Value::Keyword("container"), Value::String(note.container));
  fields.emplace_back(Value::Keyword("writer"), Hex(note.writer));
  return Value::OfMap(Map(std::move(fields)));
}

std::optional<CopyNote> CopyNoteOf(const Value& value) {
  const Value* container = Field(value, "container", Type::kString);
  const Value* writer = Field(value, "writer", Type::kString);
  CopyNote note;
  if (container == nullptr || writer == nullptr || !absl::SimpleHexAtoi(writer->text(), &note.writer))
    return std::nullopt;
  note.container = container->text();
  return note;
}

std::string StagedEntry(std::string_view stamp) { return absl::StrCat(Absl(kStagedPrefix), Absl(stamp)); }
std::string EraseEntry(std::string_view stamp) { return absl::StrCat(Absl(kErasePrefix), Absl(stamp)); }
std::string CopyEntry(std::string_view atom) { return absl::StrCat(Absl(kCopyPrefix), Absl(atom)); }

}  // namespace stm::engine
