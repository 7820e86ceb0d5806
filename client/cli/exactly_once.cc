#include "client/cli/exactly_once.h"

#include <algorithm>
#include <cstdint>
#include <random>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/values/value.h"
#include "stm/outcome_word.h"
#include "stm/v1/common.pb.h"

namespace stm::cli {
namespace {

constexpr char kDetailUrl[] = "type.googleapis.com/stm.v1.ErrorDetail";
constexpr char kWordUrl[] = "stmctl/outcome-word";
constexpr absl::Duration kBackoffMin = absl::Milliseconds(20);
constexpr absl::Duration kBackoffMax = absl::Seconds(1);
// How long past its deadline a commit in flight is asked after.
constexpr absl::Duration kOutcomeWait = absl::Seconds(1);

// The connection broke, or the daemon is away: what was sent may have been executed.
bool IsBroken(const absl::Status& status) {
  if (status.code() == absl::StatusCode::kUnavailable) return true;
  bool daemon_said = DetailOf(status).has_value();
  return !daemon_said && (status.code() == absl::StatusCode::kCancelled ||
                          status.code() == absl::StatusCode::kInternal || status.code() == absl::StatusCode::kUnknown);
}

bool IsStoreChanged(const absl::Status& status) {
  std::optional<v1::ErrorDetail> detail = DetailOf(status);
  return detail && detail->reason() == v1::ERROR_REASON_STORE_CHANGED;
}

absl::Status Unknown(const v1::CommitId& id, absl::string_view why) {
  OutcomeWord word{id.transaction_id(), id.writer(), id.seen().version(), id.seen().store()};
  std::string text = PrintOutcomeWord(word);
  absl::Status status = absl::UnknownError(
      absl::StrCat("the commit was sent and its outcome is unknown (", why, "): ask with: stmctl outcome ", text));
  status.SetPayload(kWordUrl, absl::Cord(text));
  return status;
}

// Within the deadline: did the wait fit?
bool Wait(absl::Duration wait, absl::Time deadline) {
  if (absl::Now() + wait >= deadline) return false;
  absl::SleepFor(wait);
  return true;
}

}  // namespace

void SetDetail(const v1::ErrorDetail& detail, absl::Status* status) {
  status->SetPayload(kDetailUrl, absl::Cord(detail.SerializeAsString()));
}

std::optional<v1::ErrorDetail> DetailOf(const absl::Status& status) {
  auto payload = status.GetPayload(kDetailUrl);
  v1::ErrorDetail detail;
  if (!payload || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  std::optional<v1::ErrorDetail> detail = DetailOf(status);
  if (!detail || !detail->has_retry_after()) return std::nullopt;
  return std::max(kBackoffMin, absl::Seconds(detail->retry_after().seconds()) +
                                   absl::Nanoseconds(detail->retry_after().nanos()));
}

std::optional<std::string> OutcomeWordOf(const absl::Status& status) {
  auto payload = status.GetPayload(kWordUrl);
  if (!payload) return std::nullopt;
  return std::string(*payload);
}

std::string NewTransactionId() {
  std::random_device random;  // libstdc++'s reads the kernel's
  auto word = [&] { return (static_cast<uint64_t>(random()) << 32) | random(); };
  Uuid uuid{word(), word()};
  uuid.high = (uuid.high & ~uint64_t{0xF000}) | 0x4000;
  uuid.low = (uuid.low & ~(uint64_t{3} << 62)) | (uint64_t{1} << 63);
  return ToString(uuid);
}

absl::StatusOr<v1::CommitResponse> CommitOnce(Committer& daemon, v1::CommitRequest request, absl::Time deadline,
                                              const std::function<std::string()>& new_id) {
  v1::CommitId& id = *request.mutable_id();
  absl::Duration backoff = kBackoffMin;
  absl::Status last;
  for (;;) {
    // A new id: nothing of this transaction is anywhere.
    if (!last.ok() && !Wait(kBackoffMin, deadline)) return last;
    absl::StatusOr<v1::Header> header = daemon.Hello(deadline);
    if (!header.ok()) return header.status();
    id.set_transaction_id(new_id());
    id.set_writer(header->writer());
    id.mutable_seen()->set_version(header->installed_version());
    id.mutable_seen()->set_store(header->store());
    id.set_resend(false);
    for (;;) {
      absl::StatusOr<v1::CommitResponse> answer = daemon.Commit(request, deadline);
      if (answer.ok() && answer->has_not_committed()) {
        last = absl::UnavailableError("the daemon was replaced while the commit was sent: send it again");
        break;
      }
      if (answer.ok() && answer->has_id_too_old()) {
        if (id.resend()) return Unknown(id, "the daemon no longer knows such old ids");
        last = absl::UnavailableError("the id was too old before it was sent: send it again");
        break;
      }
      if (answer.ok() && answer->outcome_case() == v1::CommitResponse::OUTCOME_NOT_SET) {
        return Unknown(id, "the daemon answered with an outcome that this stmctl does not know: upgrade it");
      }
      if (answer.ok()) return answer;

      last = answer.status();
      if (last.code() == absl::StatusCode::kDeadlineExceeded) {
        id.set_resend(true);
        absl::StatusOr<v1::CommitResponse> outcome = daemon.Outcome(id, absl::Now() + kOutcomeWait);
        if (!outcome.ok() || outcome->has_id_too_old() ||
            outcome->outcome_case() == v1::CommitResponse::OUTCOME_NOT_SET) {
          return Unknown(id, "timed out");
        }
        if (outcome->has_not_committed()) {
          return absl::DeadlineExceededError("timed out; not committed, for certain: allow more with --timeout");
        }
        return outcome;
      }
      if (IsBroken(last)) {
        id.set_resend(true);
        if (!Wait(RetryAfter(last).value_or(backoff), deadline)) return Unknown(id, last.message());
        backoff = std::min(backoff * 2, kBackoffMax);
        continue;
      }
      if (id.resend() && (IsStoreChanged(last) || last.code() == absl::StatusCode::kResourceExhausted)) {
        // The refusal is of this sending and says nothing of the one before.
        if (IsStoreChanged(last) || !Wait(RetryAfter(last).value_or(backoff), deadline)) {
          return Unknown(id, last.message());
        }
        continue;
      }
      // Another store: its header came with the error, and what was read (if anything was) is of the old one.
      if (IsStoreChanged(last) && request.snapshot() == 0) break;
      std::optional<absl::Duration> after = RetryAfter(last);
      if (last.code() == absl::StatusCode::kResourceExhausted && after && Wait(*after, deadline)) break;
      return last;
    }
  }
}

}  // namespace stm::cli
