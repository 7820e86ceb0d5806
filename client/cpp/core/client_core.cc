#include "client/cpp/core/client_core.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cpp/core/cancel.h"
#include "client/cpp/core/random.h"
#include "client/cpp/core/session.h"
#include "stm/outcome_word.h"

namespace stm::internal {
namespace {

constexpr char kDefaultAddress[] = "127.0.0.1:7440";
// How long a commit whose caller's time is up is asked after.
constexpr absl::Duration kSettleMax = absl::Seconds(1);
constexpr int kBackgroundThreadsMax = 64;

absl::Status BadAddress(absl::string_view what) {
  ErrorInfo info;
  info.reason = Reason::kBadValue;
  info.name = "address";
  return MakeError(absl::StatusCode::kInvalidArgument, std::string(what), info);
}

}  // namespace

void Outage::Fail(const absl::Status& cause) {
  if (well_after_.passed()) End();
  well_after_ = Deadline();
  if (!until_.has_value()) until_ = Deadline::In(limit_);
  ++failures_;
  cause_ = cause;
}

absl::Duration Outage::Pause() const {
  if (failures_ <= 1) return absl::ZeroDuration();
  absl::Duration backoff = absl::Milliseconds(10) * (int64_t{1} << std::min(failures_ - 2, 7));
  backoff = std::min(backoff, absl::Seconds(1));
  return RandomBetween(backoff / 2, backoff);
}

absl::Status DeadlineError(const absl::Status& cause) {
  if (cause.ok()) return absl::DeadlineExceededError("the deadline passed; nothing was changed: allow more time");
  return absl::DeadlineExceededError(
      absl::StrCat("the deadline passed; nothing was changed: ", cause.message(), ": allow more time"));
}

absl::Status CancelledError() { return absl::CancelledError("cancelled by its Canceller; nothing was changed"); }

absl::Status StoreChangedError() {
  ErrorInfo info;
  info.reason = Reason::kStoreChanged;
  return MakeError(absl::StatusCode::kOutOfRange,
                   "the daemon has another store (wiped, restored, or another daemon): read again", info);
}

absl::Status LockLostError(const std::string& name, std::string_view what) {
  ErrorInfo info;
  info.reason = Reason::kLockLost;
  info.name = name;
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("the grant of ", name, " ", absl::string_view(what.data(), what.size()),
                                ": acquire the lock again"),
                   info);
}

absl::Status CommitUnknownError(const v1::CommitId& id, std::string_view why) {
  OutcomeWord word;
  word.transaction_id = id.transaction_id();
  word.writer = id.writer();
  word.seen_version = id.seen().version();
  word.store = id.seen().store();
  ErrorInfo info;
  info.reason = Reason::kCommitUnknown;
  info.outcome_word = PrintOutcomeWord(word);
  return MakeError(absl::StatusCode::kUnknown,
                   absl::StrCat("a commit was sent and its outcome is not known: ",
                                absl::string_view(why.data(), why.size()), ": ask by `stmctl outcome ",
                                info.outcome_word, "`, or Client::Outcome"),
                   info);
}

bool IsTransient(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return true;
  return absl::IsResourceExhausted(status) && InfoOf(status).retry_after.has_value();
}

ClientCore::ClientCore(ConnectOptions options)
    : options_(std::move(options)), names_(options_.prefix), position_(std::make_shared<Position>()) {}

ClientCore::~ClientCore() {
  // Nobody but the background calls in here any more.
  if (session_ != nullptr) session_->Close();
  pool_.reset();
  background_.reset();
  session_.reset();
  transport_.reset();
}

absl::StatusOr<std::shared_ptr<ClientCore>> ClientCore::Connect(ConnectOptions options) {
  if (options.address.empty()) {
    const char* variable = getenv("STM_ADDRESS");
    options.address = variable != nullptr && *variable != '\0' ? variable : kDefaultAddress;
  }
  if (options.client_name.empty()) options.client_name = program_invocation_short_name;
  while (!options.prefix.empty() && options.prefix.back() == '/') options.prefix.pop_back();
  if (!options.prefix.empty()) {
    if (absl::Status status = CheckName(options.prefix); !status.ok()) return status;
    if (options.prefix.find("/.") != std::string::npos) {
      return BadAddress(absl::StrCat("prefix ", options.prefix, " has a segment that begins with \".\": choose another"));
    }
  }
  std::vector<std::string> addresses;
  for (absl::string_view part : absl::StrSplit(options.address, ',')) {
    std::string address(absl::StripAsciiWhitespace(part));
    if (address.empty()) continue;
    if (address.compare(0, 5, "unix:") != 0 && address.find(':') == std::string::npos) {
      return BadAddress(absl::StrCat("address \"", address, "\" has no port: write host:port, as ", kDefaultAddress,
                                     ", or unix:/path"));
    }
    addresses.push_back(std::move(address));
  }
  if (addresses.empty()) return BadAddress("no address: write host:port, or several by comma");
  std::shared_ptr<ClientCore> core(new ClientCore(std::move(options)));
  core->transport_ = std::make_unique<Transport>(std::move(addresses), core->position_);
  core->background_ = std::make_unique<Pool>(kBackgroundThreadsMax);
  core->pool_ = std::make_unique<Pool>(core->options_.async_threads_max);
  core->session_ = std::make_unique<Session>(core.get());
  absl::StatusOr<std::shared_ptr<Link>> link =
      core->transport_->Get(Deadline::In(core->options_.unavailable_timeout), std::nullopt);
  if (!link.ok()) return link.status();
  return core;
}

void ClientCore::SetSeen(v1::Seen* seen) const {
  Position::Known known = position_->Get();
  seen->set_version(known.seen);
  seen->set_store(known.store);
}

void ClientCore::Warn(const std::string& message) const {
  if (options_.warn) {
    options_.warn(message);
  } else {
    fprintf(stderr, "stm: %s\n", message.c_str());
  }
}

absl::StatusOr<v1::PipelineAnswer> ClientCore::Ask(const std::function<void(v1::PipelineCall*)>& fill,
                                                   const CallOptions& options) {
  Outage outage(options_.unavailable_timeout);
  for (;;) {
    if (options.deadline.passed()) return DeadlineError(outage.cause());
    absl::StatusOr<std::shared_ptr<Link>> link =
        transport_->Get(Deadline::Earlier(options.deadline, outage.until()), options.canceller);
    if (!link.ok()) {
      if (IsCancelled(options.canceller)) return CancelledError();
      return options.deadline.passed() ? DeadlineError(link.status()) : link.status();
    }
    outage.Begin();
    CallResult result = (*link)->Call(fill, options.deadline, options.canceller);
    absl::Status failure;
    switch (result.end) {
      case CallResult::End::kAnswered:
        if (result.answer.code() == 0) return std::move(result.answer);
        failure = FromWire(result.answer.code(), result.answer.message(),
                           result.answer.has_error() ? &result.answer.error() : nullptr, names_);
        if (ReasonOf(failure) == Reason::kStoreChanged && result.answer.error().has_header()) {
          position_->Adopt(result.answer.error().header());
        }
        if (!IsTransient(failure)) return failure;
        break;
      case CallResult::End::kBroken: failure = result.cause; break;
      case CallResult::End::kTimeout: return DeadlineError(outage.cause());
      case CallResult::End::kCancelled: return CancelledError();
    }
    outage.Fail(failure);
    if (outage.over()) return IsTransient(failure) ? failure : absl::UnavailableError(failure.message());
    absl::Duration pause = std::max(outage.Pause(), InfoOf(failure).retry_after.value_or(absl::ZeroDuration()));
    if (!Sleep(std::min({pause, options.deadline.left(), outage.until().left()}), options.canceller)) {
      return CancelledError();
    }
  }
}

absl::StatusOr<v1::CommitResponse> ClientCore::Commit(const std::function<void(v1::CommitRequest*)>& fill,
                                                      uint64_t store, const CallOptions& options,
                                                      Sent* told) {
  Outage outage(options_.unavailable_timeout);
  v1::CommitId id;
  bool sent = false;  // this id may have reached a daemon
  auto new_id = [&] {
    sent = false;
    id.set_transaction_id(NewUuid());
    id.clear_resend();
  };
  new_id();
  // Gives up on this id: a verdict that comes in time after all, else `otherwise` if it was never sent.
  auto settle = [&](CallResult::End end, const absl::Status& otherwise) -> absl::StatusOr<v1::CommitResponse> {
    if (!sent) return otherwise;
    return Settle(id, end);
  };
  for (;;) {
    if (options.deadline.passed()) return settle(CallResult::End::kTimeout, DeadlineError(outage.cause()));
    absl::StatusOr<std::shared_ptr<Link>> link =
        transport_->Get(Deadline::Earlier(options.deadline, outage.until()), options.canceller);
    if (!link.ok()) {
      if (IsCancelled(options.canceller)) return settle(CallResult::End::kCancelled, CancelledError());
      if (options.deadline.passed()) return settle(CallResult::End::kTimeout, DeadlineError(link.status()));
      if (sent) return CommitUnknownError(id, std::string(link.status().message()));
      return link.status();
    }
    if (!sent) {
      // Named by what is known now: the writer this id is first sent to alone may ever execute it.
      Position::Known known = position_->Get();
      if (store != 0 && known.store != store) return StoreChangedError();
      id.set_writer(known.writer);
      id.mutable_seen()->set_version(known.seen);
      id.mutable_seen()->set_store(known.store);
    }
    if (id.resend()) ++told->resends;
    outage.Begin();
    CallResult result = (*link)->Call(
        [&](v1::PipelineCall* call) {
          fill(call->mutable_commit());
          *call->mutable_commit()->mutable_id() = id;
        },
        options.deadline, options.canceller);
    sent = sent || result.sent;
    absl::Status failure;
    switch (result.end) {
      case CallResult::End::kAnswered: {
        if (result.answer.code() != 0) {
          failure = FromWire(result.answer.code(), result.answer.message(),
                             result.answer.has_error() ? &result.answer.error() : nullptr, names_);
          Reason reason = ReasonOf(failure);
          if (reason == Reason::kStoreChanged && result.answer.error().has_header()) {
            position_->Adopt(result.answer.error().header());
          }
          // A failure is a verdict on what was sent just now: nothing was changed. On what was sent before only if
          // the daemon got as far as looking the id up, or would have refused it then, too.
          bool certain = !id.resend() || absl::IsResourceExhausted(failure) || absl::IsInvalidArgument(failure);
          if (reason == Reason::kStoreChanged) {
            if (id.resend()) return CommitUnknownError(id, "the store was changed (wiped or restored) meanwhile");
            return failure;
          }
          if (!IsTransient(failure)) {
            if (!certain) return CommitUnknownError(id, std::string(failure.message()));
            return failure;
          }
          if (certain) new_id();
          break;
        }
        v1::CommitResponse& response = *result.answer.mutable_commit();
        switch (response.outcome_case()) {
          case v1::CommitResponse::kNotCommitted:
            failure = absl::UnavailableError("the daemon that the commit was sent to is gone");
            new_id();
            break;
          case v1::CommitResponse::kIdTooOld:
            if (id.resend()) {
              return CommitUnknownError(id, "it was sent too long ago for the daemon to tell");
            }
            failure = absl::UnavailableError("the commit's id was too old when it came");
            new_id();
            break;
          default:
            told->transaction_id = id.transaction_id();
            return std::move(response);
        }
        break;
      }
      case CallResult::End::kBroken: failure = result.cause; break;
      case CallResult::End::kTimeout: return settle(result.end, DeadlineError(outage.cause()));
      case CallResult::End::kCancelled: return settle(result.end, CancelledError());
    }
    if (sent) id.set_resend(true);
    outage.Fail(failure);
    if (outage.over()) {
      if (sent) return CommitUnknownError(id, std::string(failure.message()));
      return IsTransient(failure) ? failure : absl::UnavailableError(failure.message());
    }
    absl::Duration pause = std::max(outage.Pause(), InfoOf(failure).retry_after.value_or(absl::ZeroDuration()));
    if (!Sleep(std::min({pause, options.deadline.left(), outage.until().left()}), options.canceller)) {
      return settle(CallResult::End::kCancelled, CancelledError());
    }
  }
}

absl::StatusOr<v1::CommitResponse> ClientCore::Settle(const v1::CommitId& id, CallResult::End end) {
  Deadline deadline = Deadline::In(kSettleMax);
  v1::CommitId asked = id;
  asked.set_resend(true);
  absl::Status cause = absl::DeadlineExceededError("no answer in time");
  while (!deadline.passed()) {
    absl::StatusOr<v1::CommitResponse> outcome = GetOutcome(asked, deadline);
    if (outcome.ok()) {
      switch (outcome->outcome_case()) {
        case v1::CommitResponse::kCommitted:
        case v1::CommitResponse::kRejected:
        case v1::CommitResponse::kFenceLost: return outcome;
        case v1::CommitResponse::kConflict:
        case v1::CommitResponse::kNotCommitted:
          return end == CallResult::End::kCancelled
                     ? CancelledError()
                     : DeadlineError(absl::DeadlineExceededError("the commit came to nothing"));
        default: return CommitUnknownError(id, "the daemon cannot tell any more");
      }
    }
    cause = outcome.status();
    if (!IsTransient(cause)) break;
    Sleep(std::min(absl::Milliseconds(20), deadline.left()), std::nullopt);
  }
  return CommitUnknownError(id, std::string(cause.message()));
}

}  // namespace stm::internal
