#include "stm/codec.h"

#include "absl/strings/str_cat.h"

namespace stm::internal {
namespace {

thread_local bool loss = false;

// A value in an error: its beginning is enough.
std::string Shown(const Value& value) {
  constexpr size_t kShownBytesMax = 64;
  if (value.edn_size() > kShownBytesMax) {
    return value.is(Type::kTagged) ? absl::StrCat("a #", value.text()) : absl::StrCat("a large ", std::string(TypeName(value.type())));
  }
  return absl::StrCat(std::string(TypeName(value.type())), " ", ToEdn(value));
}

absl::Status BadValue(absl::string_view message, std::string expected, std::string found) {
  ErrorInfo info;
  info.reason = Reason::kBadValue;
  info.expected = std::move(expected);
  info.found = std::move(found);
  return MakeError(absl::StatusCode::kInvalidArgument, std::string(message), info);
}

absl::Status Prefixed(const absl::Status& status, absl::string_view step) {
  return MakeError(status.code(), absl::StrCat("at ", step, ": ", status.message()), InfoOf(status));
}

}  // namespace

absl::Status Mismatch(std::string_view expected, const Value& found) {
  std::string shown = Shown(found);
  return BadValue(absl::StrCat("expected ", std::string(expected), ", found ", shown,
                               ": read it as the type it has, or as stm::Value"),
                  std::string(expected), shown);
}

absl::Status OutOfRange(std::string_view expected, int64_t found) {
  return BadValue(absl::StrCat("expected ", std::string(expected), ", found ", found, ": read it as int64_t"),
                  std::string(expected), absl::StrCat(found));
}

absl::Status MissingField(std::string_view tag, const Value& key) {
  return BadValue(absl::StrCat("#", std::string(tag), " has no field ", ToEdn(key),
                               ": make the field std::optional if older records lack it"),
                  ToEdn(key), "nothing");
}

absl::Status Within(const absl::Status& status, size_t index) { return Prefixed(status, absl::StrCat("[", index, "]")); }

absl::Status Within(const absl::Status& status, const Value& key) {
  return Prefixed(status, key.edn_size() <= 64 ? ToEdn(key) : std::string("a long key"));
}

void NoteLoss() { loss = true; }

bool TakeLoss() { return std::exchange(loss, false); }

}  // namespace stm::internal
