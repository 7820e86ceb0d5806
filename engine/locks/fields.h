// Fields are the keyword keys of a map, as entries of locks and sessions have them: {:token 7 :first 0}.
// Readers of old and new releases skip what they do not know. Pure; any thread.
#ifndef STM_ENGINE_LOCKS_FIELDS_H_
#define STM_ENGINE_LOCKS_FIELDS_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/values/map.h"
#include "engine/values/value.h"

namespace stm::engine {

std::string Joined(std::initializer_list<std::string_view> parts);
// 16 digits, as writers are told everywhere.
Value HexValue(uint64_t number);

class Fields {
 public:
  void Add(std::string_view key, Value value) {
    entries_.emplace_back(Value::Keyword(key), std::move(value));
  }
  Value ToValue() { return Value::OfMap(Map(std::move(entries_))); }

 private:
  std::vector<std::pair<Value, Value>> entries_;
};

// Reads fields of `value`, which outlives the reader. What is absent is 0 or ""; what is of another type
// spoils status().
class FieldReader {
 public:
  FieldReader(std::string entry, const Value& value);

  // Null: absent, or of another type.
  const Value* Find(std::string_view key, Type type);
  std::string Text(std::string_view key);
  int64_t Integer(std::string_view key);
  uint64_t Hex(std::string_view key);
  Uuid Id(std::string_view key);
  Instant Moment(std::string_view key);

  // DATA_LOSS, naming the entry and the field.
  absl::Status Malformed(std::string_view key) const;
  const absl::Status& status() const { return status_; }

 private:
  const std::string entry_;
  const Map* map_ = nullptr;  // null: `value` is no map
  absl::Status status_;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_LOCKS_FIELDS_H_
