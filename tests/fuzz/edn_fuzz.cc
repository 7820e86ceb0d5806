// Any bytes as EDN: a value or an error, never more; and a value that was read keeps every promise.
#include <cassert>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/values/edn.h"
#include "engine/values/wire.h"
#include "stm/v1/value.pb.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<stm::Value> value = stm::ReadEdn(text);
  if (value.ok()) {
    assert(stm::Check(*value).ok());
    const std::string printed = stm::ToEdn(*value);
    assert(printed.size() == value->edn_size());
    assert(printed.find('\n') == std::string::npos);
    const absl::StatusOr<stm::Value> again = stm::ReadEdn(printed);
    assert(again.ok());
    assert(*again == *value);
    assert(again->hash() == value->hash());
    assert(stm::ToEdn(*again) == printed);
    stm::v1::Value message;
    stm::ToProto(*value, &message);
    const absl::StatusOr<stm::Value> carried = stm::FromProto(message);
    assert(carried.ok() == stm::FitsWire(*value));
    assert(!carried.ok() || stm::ToEdn(*carried) == printed);
  } else {
    assert(value.status().code() == absl::StatusCode::kInvalidArgument);
  }
  // One after the other: each step goes on or stops, and the first value is the same as alone.
  stm::EdnReader reader(text);
  bool first = true;
  while (!reader.AtEnd()) {
    const size_t before = reader.position();
    const absl::StatusOr<stm::Value> next = reader.Next();
    if (!next.ok()) {
      assert(!value.ok());
      assert(!reader.Next().ok());
      break;
    }
    assert(reader.position() > before);
    if (first && value.ok()) assert(*next == *value);
    first = false;
  }
  reader.LineAndColumn();
  const absl::StatusOr<stm::Instant> instant = stm::ParseInstant(text);
  if (instant.ok()) {
    std::string printed;
    stm::AppendEdnInstant(*instant, &printed);
    assert(stm::ReadEdn(printed)->instant() == *instant);
  }
  return 0;
}
