#include "engine/locks/fields.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"

namespace stm::engine {

std::string Joined(std::initializer_list<std::string_view> parts) {
  size_t size = 0;
  for (std::string_view part : parts) size += part.size();
  std::string text;
  text.reserve(size);
  for (std::string_view part : parts) text.append(part);
  return text;
}

Value HexValue(uint64_t number) { return Value::String(absl::StrFormat("%016x", number)); }

FieldReader::FieldReader(std::string entry, const Value& value) : entry_(std::move(entry)) {
  if (value.is(Type::kMap)) {
    map_ = &value.map();
  } else {
    status_ = Malformed("");
  }
}

const Value* FieldReader::Find(std::string_view key, Type type) {
  if (map_ == nullptr) return nullptr;
  // They are few, and read by each call: to look makes no keyword.
  const Value* value = nullptr;
  for (const auto [field, its] : *map_) {
    if (!field.is(Type::kKeyword) || field.text() != key) continue;
    value = &its;
    break;
  }
  if (value == nullptr) return nullptr;
  if (value->is(type)) return value;
  if (status_.ok()) status_ = Malformed(key);
  return nullptr;
}

std::string FieldReader::Text(std::string_view key) {
  const Value* value = Find(key, Type::kString);
  return value == nullptr ? "" : value->text();
}

int64_t FieldReader::Integer(std::string_view key) {
  const Value* value = Find(key, Type::kInteger);
  return value == nullptr ? 0 : value->integer();
}

uint64_t FieldReader::Hex(std::string_view key) {
  uint64_t number = 0;
  const Value* value = Find(key, Type::kString);
  if (value != nullptr && !absl::SimpleHexAtoi(value->text(), &number) && status_.ok())
    status_ = Malformed(key);
  return number;
}

Uuid FieldReader::Id(std::string_view key) {
  const Value* value = Find(key, Type::kUuid);
  return value == nullptr ? Uuid() : value->uuid();
}

Instant FieldReader::Moment(std::string_view key) {
  const Value* value = Find(key, Type::kInstant);
  return value == nullptr ? Instant() : value->instant();
}

absl::Status FieldReader::Malformed(std::string_view key) const {
  return absl::DataLossError(
      Joined({entry_, key.empty() ? " is no map" : " has a field that can't be read: ", key,
              "; entries under \"/.\" are the daemon's own: was it written by a later release?"}));
}

}  // namespace stm::engine
