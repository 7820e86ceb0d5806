// Any bytes as the message Value: a value or an error, never more; and a value that was taken keeps every
// promise.
#include <cassert>
#include <cstdint>
#include <limits>
#include <string>

#include "engine/values/edn.h"
#include "engine/values/wire.h"
#include "stm/v1/value.pb.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  stm::v1::Value message;
  if (size > std::numeric_limits<int>::max() || !message.ParseFromArray(data, static_cast<int>(size)))
    return 0;
  const absl::StatusOr<stm::Value> value = stm::FromProto(message);
  if (!value.ok()) {
    assert(value.status().code() == absl::StatusCode::kInvalidArgument);
    return 0;
  }
  assert(stm::Check(*value).ok());
  assert(value->depth() <= stm::kValueDepthMax);
  stm::v1::Value written;
  stm::ToProto(*value, &written);
  const absl::StatusOr<stm::Value> again = stm::FromProto(written);
  assert(again.ok());
  assert(*again == *value);
  assert(again->hash() == value->hash());
  const std::string printed = stm::ToEdn(*value);
  assert(printed.size() == value->edn_size());
  const absl::StatusOr<stm::Value> read = stm::ReadEdn(printed);
  assert(read.ok());
  assert(*read == *value);
  assert(stm::ToEdn(*again) == printed);
  return 0;
}
