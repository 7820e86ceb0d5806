// CommitOnce sends one transaction until its outcome is known, so that it is applied once however often it was sent:
// the same id in every resend, a new id only when the old one certainly did not commit. One thread; blocks.
#ifndef STM_CLIENT_CLI_EXACTLY_ONCE_H_
#define STM_CLIENT_CLI_EXACTLY_ONCE_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "stm/v1/common.pb.h"
#include "stm/v1/transaction_service.pb.h"

namespace stm::cli {

// What CommitOnce needs of a daemon. After UNAVAILABLE the next call may go to another address.
class Committer {
 public:
  virtual ~Committer() = default;
  // A header of the daemon that is talked to: the newest that came.
  virtual absl::StatusOr<v1::Header> Hello(absl::Time deadline) = 0;
  // One try, with no resend of its own.
  virtual absl::StatusOr<v1::CommitResponse> Commit(const v1::CommitRequest& request, absl::Time deadline) = 0;
  virtual absl::StatusOr<v1::CommitResponse> Outcome(const v1::CommitId& id, absl::Time deadline) = 0;
};

// The outcome: committed, conflict, rejected or fence_lost. A failed status means: not committed, for certain, unless
// OutcomeWordOf finds a word in it: then the commit was sent and nobody could say before `deadline` what came of it.
// `new_id` makes transaction ids.
absl::StatusOr<v1::CommitResponse> CommitOnce(Committer& daemon, v1::CommitRequest request, absl::Time deadline,
                                              const std::function<std::string()>& new_id);

// The word that `stmctl outcome` takes.
std::optional<std::string> OutcomeWordOf(const absl::Status& status);

// ErrorDetail of a failed call, as a payload of its status.
void SetDetail(const v1::ErrorDetail& detail, absl::Status* status);
std::optional<v1::ErrorDetail> DetailOf(const absl::Status& status);

// How long the daemon asks to wait before the same call; nullopt: it did not ask.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

// A version 4 UUID from the kernel's randomness.
std::string NewTransactionId();

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_EXACTLY_ONCE_H_
