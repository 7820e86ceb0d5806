#include "server/lock_convert.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/name.h"

namespace stm::server {
namespace {

constexpr size_t kOwnerBytesMax = 256;

// Unset: for ever.
absl::StatusOr<absl::Duration> WaitOf(bool has, const google::protobuf::Duration& message) {
  if (!has) return absl::InfiniteDuration();
  absl::StatusOr<absl::Duration> wait = DurationOf(message, "wait");
  if (wait.ok() && *wait < absl::ZeroDuration()) return engine::BadRequest("wait", "is below 0");
  return wait;
}

void FillHold(const engine::LockOwner& by, engine::LockMode mode, int64_t permits, int64_t holds,
              Instant since, v1::LockHold* message) {
  message->set_session_id(by.session);
  message->set_owner(by.owner);
  message->set_mode(static_cast<v1::LockMode>(static_cast<int>(mode) + 1));
  message->set_permits(static_cast<uint32_t>(permits));
  message->set_holds(static_cast<uint32_t>(holds));
  message->mutable_since()->set_seconds(since.seconds);
  message->mutable_since()->set_nanos(since.nanos);
}

void FillHold(const engine::LockHold& hold, v1::LockHold* message) {
  FillHold(hold.by, hold.mode, hold.permits, hold.holds, hold.since, message);
  message->set_token(hold.token);
}

}  // namespace

absl::StatusOr<engine::CallContext> CallContextOf(const v1::CommitId& id, bool has_id, v1::Meta* meta,
                                                  absl::Duration deadline) {
  engine::CallContext context;
  context.deadline = deadline;
  if (has_id) {
    absl::StatusOr<engine::CommitId> read = CommitIdOf(id, "id");
    if (!read.ok()) return read.status();
    context.id = *std::move(read);
  }
  if (meta != nullptr) {
    if (absl::Status status = ReadMeta(meta, &context.meta); !status.ok()) return status;
  }
  return context;
}

absl::StatusOr<engine::LockOwner> OwnerOf(std::string* session, std::string* owner) {
  if (!ParseUuid(*session).has_value()) {
    return engine::BadRequest(
        "session_id",
        absl::StrCat("found \"", *session, "\", expected the 36 characters that OpenSession gave"));
  }
  if (owner->size() > kOwnerBytesMax) {
    return engine::LimitReached("lock_owner_bytes_max", kOwnerBytesMax, "owner",
                                static_cast<int64_t>(owner->size()), "shorten it");
  }
  return engine::LockOwner{std::move(*session), std::move(*owner)};
}

absl::StatusOr<AcquireCall> AcquireOf(v1::AcquireLockRequest* request, const engine::CallContext& context) {
  AcquireCall call;
  if (absl::Status status = engine::CheckLockName("name", request->name()); !status.ok()) return status;
  absl::StatusOr<engine::LockOwner> by = OwnerOf(request->mutable_session_id(), request->mutable_owner());
  if (!by.ok()) return by.status();
  absl::StatusOr<absl::Duration> wait = WaitOf(request->has_wait(), request->wait());
  if (!wait.ok()) return wait.status();
  call.wait = *wait;
  call.request.lock = std::move(*request->mutable_name());
  call.request.by = *std::move(by);
  if (context.id.has_value()) call.request.acquire = context.id->transaction_id;
  switch (request->mode()) {
    case v1::LOCK_MODE_UNSPECIFIED:
    case v1::LOCK_MODE_EXCLUSIVE:
      call.request.mode = engine::LockMode::kExclusive;
      break;
    case v1::LOCK_MODE_SHARED:
      call.request.mode = engine::LockMode::kShared;
      break;
    case v1::LOCK_MODE_PERMITS:
      call.request.mode = engine::LockMode::kPermits;
      break;
    default:
      return engine::BadField(
          "mode", absl::UnimplementedError(absl::StrCat("this daemon knows no mode ", request->mode())));
  }
  const bool permits = call.request.mode == engine::LockMode::kPermits;
  if (!permits && (request->permits() != 0 || request->permits_max() != 0)) {
    return engine::BadRequest(request->permits() != 0 ? "permits" : "permits_max",
                              "is a semaphore's: set mode to LOCK_MODE_PERMITS, or leave it 0");
  }
  call.request.permits = std::max<int64_t>(1, request->permits());
  call.request.permits_max = request->permits_max();
  if (permits && call.request.permits_max == 0)
    return engine::BadRequest("permits_max", "is 0: say how many permits the semaphore has");
  if (permits && call.request.permits > call.request.permits_max) {
    return engine::BadRequest("permits",
                              absl::StrCat("found ", call.request.permits,
                                           ", expected at most permits_max=", call.request.permits_max));
  }
  return call;
}

absl::StatusOr<AwaitCall> AwaitOf(v1::AwaitConditionRequest* request) {
  AwaitCall call;
  if (absl::Status status = engine::CheckLockName("lock.lock", request->lock().lock()); !status.ok())
    return status;
  if (absl::Status status = engine::CheckConditionName("condition", request->condition()); !status.ok())
    return status;
  absl::StatusOr<engine::LockOwner> by = OwnerOf(request->mutable_session_id(), request->mutable_owner());
  if (!by.ok()) return by.status();
  absl::StatusOr<absl::Duration> wait = WaitOf(request->has_wait(), request->wait());
  if (!wait.ok()) return wait.status();
  call.wait = *wait;
  call.request = {std::move(*request->mutable_lock()->mutable_lock()), *std::move(by),
                  request->lock().token(), std::move(*request->mutable_condition())};
  return call;
}

v1::LockOutcome ToProto(engine::LockOutcome outcome) {
  switch (outcome) {
    case engine::LockOutcome::kGranted:
      return v1::LOCK_OUTCOME_GRANTED;
    case engine::LockOutcome::kBusy:
      return v1::LOCK_OUTCOME_BUSY;
    case engine::LockOutcome::kUpgradeRefused:
      return v1::LOCK_OUTCOME_UPGRADE_REFUSED;
    case engine::LockOutcome::kDeadlock:
      return v1::LOCK_OUTCOME_DEADLOCK;
    case engine::LockOutcome::kReleased:
      return v1::LOCK_OUTCOME_RELEASED;
    case engine::LockOutcome::kStillHeld:
      return v1::LOCK_OUTCOME_STILL_HELD;
    case engine::LockOutcome::kNotHeld:
      return v1::LOCK_OUTCOME_NOT_HELD;
    case engine::LockOutcome::kNotYours:
      return v1::LOCK_OUTCOME_NOT_YOURS;
    case engine::LockOutcome::kLeft:
      return v1::LOCK_OUTCOME_LEFT;
    case engine::LockOutcome::kSignalled:
      return v1::LOCK_OUTCOME_SIGNALLED;
    case engine::LockOutcome::kQueued:
      break;  // its call waits: no answer is that
  }
  return v1::LOCK_OUTCOME_UNSPECIFIED;
}

void FillHolds(const std::vector<engine::LockStep>& steps,
               google::protobuf::RepeatedPtrField<v1::LockHold>* message) {
  for (const engine::LockStep& step : steps) {
    v1::LockHold* hold = message->Add();
    FillHold(step.hold, hold);
    hold->set_lock(step.lock);
    hold->set_waits_for(step.waits_for);
  }
}

void FillLock(const engine::LockView& view, v1::Lock* message) {
  message->set_name(view.lock);
  for (const engine::LockHold& hold : view.state.holders) FillHold(hold, message->add_holders());
  for (const engine::LockWaiter& waiter : view.queue) {
    FillHold(waiter.by, waiter.mode, waiter.permits, waiter.holds, waiter.since, message->add_queue());
  }
  message->set_permits_max(static_cast<uint32_t>(view.state.permits_max));
  message->set_last_token(view.state.token);
}

void FillSession(const engine::SessionView& view, v1::Session* message) {
  message->set_session_id(view.session);
  message->set_client(view.state.client);
  SetDuration(view.state.ttl, message->mutable_ttl());
  if (view.left.has_value()) SetDuration(*view.left, message->mutable_left());
  message->set_daemon(view.state.holder);
  message->mutable_since()->set_seconds(view.state.since.seconds);
  message->mutable_since()->set_nanos(view.state.since.nanos);
  for (const auto& [lock, places] : view.state.locks) message->add_locks(lock);
  for (const std::string& entry : view.state.entries) message->add_entries(entry);
}

std::string PrintNameToken(std::string_view listing, const std::string& name) {
  return absl::WebSafeBase64Escape(
      absl::StrCat(absl::string_view(listing.data(), listing.size()), "\n", name));
}

absl::StatusOr<std::string> ReadNameToken(std::string_view listing, const std::string& token) {
  if (token.empty()) return "";
  std::string text;
  const size_t size = listing.size();
  if (!absl::WebSafeBase64Unescape(token, &text) || text.size() <= size + 1 ||
      text.compare(0, size, listing) != 0 || text[size] != '\n') {
    return engine::BadRequest(
        "page_token", "is none of this listing's: send next_page_token as it came, with the same prefix");
  }
  return text.substr(size + 1);
}

}  // namespace stm::server
