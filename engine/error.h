// Failures as absl::Status that carry a stm.v1.ErrorDetail payload, so that clients build their exceptions from
// fields, never from text. Every message says what, where and what to do.
#ifndef STM_ENGINE_ERROR_H_
#define STM_ENGINE_ERROR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

// stm/v1/common.pb.h, for who makes or reads one: headers that all include do without.
namespace stm::v1 {
class ErrorDetail;
}

namespace stm::engine {

absl::Status WithDetail(absl::Status status, const v1::ErrorDetail& detail);
// The payload; nullopt: none.
std::optional<v1::ErrorDetail> DetailOf(const absl::Status& status);

// INVALID_ARGUMENT, BAD_VALUE: `field` by its path in the request ("writes[2].set").
absl::Status BadRequest(std::string_view field, std::string_view what);
// `status` (INVALID_ARGUMENT or UNIMPLEMENTED, from a parser) as the fault of a field.
absl::Status BadField(std::string_view field, const absl::Status& status);
// RESOURCE_EXHAUSTED, LIMIT: "value_bytes_max=1048576: /a has 2000000: split the value".
absl::Status LimitReached(std::string_view limit, int64_t limit_value, std::string_view name, int64_t found,
                          std::string_view remedy);
// OUT_OF_RANGE, SNAPSHOT_TOO_OLD: begin again.
absl::Status SnapshotTooOld(int64_t snapshot, int64_t history_mark);
// OUT_OF_RANGE, SNAPSHOT_TOO_OLD, of a reading of the log, with the oldest version kept as the limit first_version.
// `why`: behind the remedy, "" or " (...)".
absl::Status LogNotKept(int64_t from, int64_t first, std::string_view why = "");
// OUT_OF_RANGE, STORE_CHANGED.
absl::Status StoreChanged(uint64_t asked, uint64_t present);
// UNAVAILABLE, NOT_READY, with retry_after.
absl::Status NotReady(std::string_view why, absl::Duration retry_after);

}  // namespace stm::engine

#endif  // STM_ENGINE_ERROR_H_
