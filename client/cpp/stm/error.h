// Errors are absl::Status; the reason says what happened, the message ends with what to do. Reasons come from the
// daemon's ErrorDetail or from the client itself, never from text. Any thread.
#ifndef STM_CLIENT_CPP_STM_ERROR_H_
#define STM_CLIENT_CPP_STM_ERROR_H_

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/values/value.h"

namespace stm {

// Why. A client's deadline and a Canceller have no reason: absl::IsDeadlineExceeded, absl::IsCancelled.
enum class Reason : uint8_t {
  kNone,               // OK, or not an error of stmd's
  kConflict,           // ABORTED: runs or time spent; ErrorInfo.causes says which entries, by whom
  kRejected,           // FAILED_PRECONDITION: a validator or an operation said no
  kLockLost,           // FAILED_PRECONDITION: the grant is gone, or the place in the queue
  kSessionExpired,     // FAILED_PRECONDITION
  kCommitUnknown,      // UNKNOWN: sent, and no answer came; `stmctl outcome WORD` asks later
  kSnapshotTooOld,     // OUT_OF_RANGE: older than the history kept
  kLimitExceeded,      // RESOURCE_EXHAUSTED: the bound is named
  kUnavailable,        // UNAVAILABLE: no daemon answered within unavailable_timeout
  kStoreChanged,       // OUT_OF_RANGE: wiped or restored
  kNoSpace,            // RESOURCE_EXHAUSTED: the daemon's disk is full
  kUnsupported,        // UNIMPLEMENTED: the daemon is older than this client
  kValueLost,          // DATA_LOSS: one entry's external value
  kAbsent,             // NOT_FOUND: no such entry
  kWrongKind,          // FAILED_PRECONDITION: a ref used as an atom, or the other way round
  kBadValue,           // INVALID_ARGUMENT: not what the C++ type, or the daemon, takes
  kDenied,             // PERMISSION_DENIED
  kTransactionClosed,  // FAILED_PRECONDITION: a Tx used outside its body
  kInTransaction,      // FAILED_PRECONDITION: I/O inside a body
  kRerunDiffers,       // FAILED_PRECONDITION: rerun_check found a body that is not a function of what it reads
  kLockBusy,           // ABORTED: others have the lock, and did for all of AcquireOptions::wait
  kUpgradeRefused,     // FAILED_PRECONDITION: others read; release the shared hold before the exclusive one is acquired
  kDeadlock,           // FAILED_PRECONDITION: it would wait for itself; the message tells the cycle
};

// "conflict", "commit-unknown", ...
std::string_view ReasonName(Reason reason);

// Who and why, as it is kept with a commit.
struct Meta {
  std::string label;
  std::string client;
  std::string traceparent;
  std::string principal;
};

struct ConflictCause {
  std::string name;  // an entry, or a prefix that was listed
  int64_t version = 0;
  Meta by;
};

struct ErrorInfo {
  Reason reason = Reason::kNone;
  std::string name;      // the entry or the field at fault
  std::string found;
  std::string expected;
  std::string limit;     // the bound reached, by its setting's name
  int64_t limit_value = 0;
  std::optional<absl::Duration> retry_after;
  std::vector<ConflictCause> causes;  // of kConflict
  std::string outcome_word;           // of kCommitUnknown: what Client::Outcome and `stmctl outcome` take
  std::string cause;                  // of a rejection: "validator", "type", "compare", "overflow", "absent", "kind"
  std::optional<Value> rule;          // of kRejected, by a validator
};

Reason ReasonOf(const absl::Status& status);
ErrorInfo InfoOf(const absl::Status& status);
absl::Status MakeError(absl::StatusCode code, std::string_view message, const ErrorInfo& info);

inline bool IsConflict(const absl::Status& s) { return ReasonOf(s) == Reason::kConflict; }
inline bool IsRejected(const absl::Status& s) { return ReasonOf(s) == Reason::kRejected; }
inline bool IsLockLost(const absl::Status& s) { return ReasonOf(s) == Reason::kLockLost; }
inline bool IsSessionExpired(const absl::Status& s) { return ReasonOf(s) == Reason::kSessionExpired; }
inline bool IsCommitUnknown(const absl::Status& s) { return ReasonOf(s) == Reason::kCommitUnknown; }
inline bool IsSnapshotTooOld(const absl::Status& s) { return ReasonOf(s) == Reason::kSnapshotTooOld; }
inline bool IsLimitExceeded(const absl::Status& s) { return ReasonOf(s) == Reason::kLimitExceeded; }
inline bool IsUnavailable(const absl::Status& s) { return ReasonOf(s) == Reason::kUnavailable; }
inline bool IsStoreChanged(const absl::Status& s) { return ReasonOf(s) == Reason::kStoreChanged; }
inline bool IsAbsent(const absl::Status& s) { return ReasonOf(s) == Reason::kAbsent; }
inline bool IsWrongKind(const absl::Status& s) { return ReasonOf(s) == Reason::kWrongKind; }
inline bool IsBadValue(const absl::Status& s) { return ReasonOf(s) == Reason::kBadValue; }
inline bool IsLockBusy(const absl::Status& s) { return ReasonOf(s) == Reason::kLockBusy; }
inline bool IsUpgradeRefused(const absl::Status& s) { return ReasonOf(s) == Reason::kUpgradeRefused; }
inline bool IsDeadlock(const absl::Status& s) { return ReasonOf(s) == Reason::kDeadlock; }
inline bool IsInTransaction(const absl::Status& s) { return ReasonOf(s) == Reason::kInTransaction; }

// Where C++ leaves no place for a Status: iterating records, and a Tx used outside its body.
class StatusError : public std::runtime_error {
 public:
  explicit StatusError(absl::Status status)
      : std::runtime_error(std::string(status.message())), status_(std::move(status)) {}
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

class TransactionClosed : public StatusError {
 public:
  using StatusError::StatusError;
};

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_ERROR_H_
