#include "engine/error.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "engine/values/absl_view.h"
#include "stm/v1/common.pb.h"

namespace stm::engine {
namespace {

constexpr char kDetailUrl[] = "type.googleapis.com/stm.v1.ErrorDetail";

void SetDuration(absl::Duration duration, google::protobuf::Duration* message) {
  int64_t seconds = absl::IDivDuration(duration, absl::Seconds(1), &duration);
  message->set_seconds(seconds);
  message->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

}  // namespace

absl::Status WithDetail(absl::Status status, const v1::ErrorDetail& detail) {
  status.SetPayload(kDetailUrl, absl::Cord(detail.SerializeAsString()));
  return status;
}

std::optional<v1::ErrorDetail> DetailOf(const absl::Status& status) {
  auto payload = status.GetPayload(kDetailUrl);
  if (!payload.has_value()) return std::nullopt;
  v1::ErrorDetail detail;
  if (!detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

absl::Status BadRequest(std::string_view field, std::string_view what) {
  return BadField(field, absl::InvalidArgumentError(Absl(what)));
}

absl::Status BadField(std::string_view field, const absl::Status& status) {
  v1::ErrorDetail detail;
  detail.set_reason(absl::IsUnimplemented(status) ? v1::ERROR_REASON_UNSUPPORTED : v1::ERROR_REASON_BAD_VALUE);
  detail.set_name(std::string(field));
  detail.set_found(std::string(status.message()));
  return WithDetail(absl::Status(status.code(), absl::StrCat(Absl(field), ": ", status.message())), detail);
}

absl::Status LimitReached(std::string_view limit, int64_t limit_value, std::string_view name, int64_t found,
                          std::string_view remedy) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_LIMIT);
  detail.set_limit(std::string(limit));
  detail.set_limit_value(limit_value);
  detail.set_name(std::string(name));
  detail.set_found(absl::StrCat(found));
  return WithDetail(absl::ResourceExhaustedError(absl::StrCat("limit ", Absl(limit), "=", limit_value, ": ", Absl(name),
                                                              " has ", found, ": ", Absl(remedy))),
                    detail);
}

absl::Status SnapshotTooOld(int64_t snapshot, int64_t history_mark) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_SNAPSHOT_TOO_OLD);
  detail.set_found(absl::StrCat(snapshot));
  detail.set_expected(absl::StrCat(">= ", history_mark));
  return WithDetail(absl::OutOfRangeError(absl::StrCat("snapshot ", snapshot, " is older than the history kept (from ",
                                                       history_mark, "): begin again at a new snapshot")),
                    detail);
}

absl::Status LogNotKept(int64_t from, int64_t first, std::string_view why) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_SNAPSHOT_TOO_OLD);
  detail.set_found(absl::StrCat(from));
  detail.set_expected(absl::StrCat(first));
  detail.set_limit("first_version");
  detail.set_limit_value(first);
  return WithDetail(absl::OutOfRangeError(absl::StrCat("log: version ", from, " is no longer kept: the oldest is ", first,
                                                       ": read from there", Absl(why))),
                    detail);
}

absl::Status StoreChanged(uint64_t asked, uint64_t present) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_STORE_CHANGED);
  detail.set_found(absl::StrCat(absl::Hex(asked, absl::kZeroPad16)));
  detail.set_expected(absl::StrCat(absl::Hex(present, absl::kZeroPad16)));
  return WithDetail(
      absl::OutOfRangeError(absl::StrCat("versions of store ", absl::Hex(asked, absl::kZeroPad16),
                                         " mean nothing here: this store is ", absl::Hex(present, absl::kZeroPad16),
                                         " (wiped, restored, or another address): begin again")),
      detail);
}

absl::Status NotReady(std::string_view why, absl::Duration retry_after) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_NOT_READY);
  SetDuration(retry_after, detail.mutable_retry_after());
  return WithDetail(absl::UnavailableError(absl::StrCat("not ready: ", Absl(why), ": try again")), detail);
}

}  // namespace stm::engine
