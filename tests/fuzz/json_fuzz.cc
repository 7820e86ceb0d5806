// Any bytes as JSON, as stmctl reads it, and as EDN that it prints as JSON: a value or an error that says
// what to do, and no value is lost or changed on the way through JSON.
#include <cassert>
#include <cstdint>
#include <string>
#include <string_view>

#include "client/cli/json.h"
#include "engine/values/edn.h"

namespace {

void ThereAndBack(const stm::Value& value) {
  const std::string json = stm::cli::ToJson(value);
  assert(json.find('\n') == std::string::npos);
  const absl::StatusOr<stm::Value> again = stm::cli::ReadJson(json);
  assert(again.ok());
  assert(*again == value);
  assert(stm::cli::ToJson(*again) == json);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<stm::Value> read = stm::cli::ReadJson(text);
  if (read.ok()) {
    assert(stm::Check(*read).ok());
    ThereAndBack(*read);
  } else {
    assert(read.status().code() == absl::StatusCode::kInvalidArgument && !read.status().message().empty());
  }
  const absl::StatusOr<stm::Value> edn = stm::ReadEdn(text);
  if (edn.ok()) ThereAndBack(*edn);
  return 0;
}
