// Any bytes as a document of MongoDB: a value, none, or an error, never more; and a value that was taken
// keeps every promise.
#include <cassert>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "backends/mongodb/bson.h"
#include "engine/values/edn.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view document(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<std::optional<stm::Value>> value = stm::mongodb::FieldOf(document, "value");
  if (!value.ok()) {
    assert(value.status().code() == absl::StatusCode::kDataLoss);
    return 0;
  }
  if (!value->has_value()) return 0;
  assert(stm::Check(**value).ok());
  const absl::StatusOr<std::string> written = stm::mongodb::ToBson({{"value", **value}}, "/a");
  assert(written.ok());
  const absl::StatusOr<std::optional<stm::Value>> again = stm::mongodb::FieldOf(*written, "value");
  assert(again.ok());
  assert(again->has_value());
  assert(**again == **value);
  assert((*again)->hash() == (*value)->hash());
  assert(stm::ToEdn(**again) == stm::ToEdn(**value));
  assert(*stm::mongodb::ToBson({{"value", **again}}, "/a") == *written);
  return 0;
}
