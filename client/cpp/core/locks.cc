// Locks: calls that are commits of their own, each exactly once, and what operators ask of locks and
// sessions.
#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/core/client_core.h"
#include "client/cpp/core/session.h"
#include "client/cpp/core/unary.h"
#include "stm/client.h"
#include "stm/lock.h"
#include "stm/v1/lock_service.grpc.pb.h"
#include "stm/v1/session_service.grpc.pb.h"

namespace stm {
namespace internal {
namespace {

// Of giving back, in the background, what nobody waits for any more; then its session's end does it.
constexpr absl::Duration kGiveUpMax = absl::Seconds(10);
constexpr uint32_t kPageMax = 1000;

LockHold HoldOf(const v1::LockHold& message) {
  LockHold hold;
  hold.session_id = message.session_id();
  hold.owner = message.owner();
  switch (message.mode()) {
    case v1::LOCK_MODE_SHARED:
      hold.mode = LockMode::kShared;
      break;
    case v1::LOCK_MODE_PERMITS:
      hold.mode = LockMode::kPermits;
      break;
    default:
      hold.mode = LockMode::kExclusive;
      break;
  }
  hold.token = message.token();
  hold.holds = message.holds();
  hold.permits = message.permits();
  hold.since = Instant{message.since().seconds(), message.since().nanos()};
  return hold;
}

LockInfo LockOf(const v1::Lock& message, const Names& names) {
  LockInfo lock;
  lock.name = names.Short(message.name());
  for (const v1::LockHold& hold : message.holders()) lock.holders.push_back(HoldOf(hold));
  for (const v1::LockHold& hold : message.queue()) lock.queue.push_back(HoldOf(hold));
  lock.permits_max = message.permits_max();
  lock.last_token = message.last_token();
  return lock;
}

std::string Who(const v1::LockHold& hold) {
  if (hold.owner().empty()) return absl::StrCat("session ", hold.session_id());
  return absl::StrCat(hold.owner(), " (session ", hold.session_id(), ")");
}

template <typename Holds>
std::string Holders(const Holds& holds) {
  if (holds.empty()) return "others";
  std::string text = Who(holds.Get(0));
  if (holds.size() > 1) absl::StrAppend(&text, " and others");
  return text;
}

absl::Status LockError(Reason reason, absl::StatusCode code, const std::string& name, std::string found,
                       const std::string& message) {
  ErrorInfo info;
  info.reason = reason;
  info.name = name;
  info.found = std::move(found);
  return MakeError(code, message, info);
}

absl::Status BusyError(const std::string& name, const v1::AcquireLockResponse& answer) {
  const std::string holders = Holders(answer.in_the_way());
  return LockError(Reason::kLockBusy, absl::StatusCode::kAborted, name, holders,
                   absl::StrCat(name, " is held by ", holders, ": wait longer, or try again later"));
}

absl::Status UpgradeRefusedError(const std::string& name, const v1::AcquireLockResponse& answer) {
  const std::string holders = Holders(answer.in_the_way());
  return LockError(Reason::kUpgradeRefused, absl::StatusCode::kFailedPrecondition, name, holders,
                   absl::StrCat(name, " is held shared by this owner and not alone (", holders,
                                "), and cannot become exclusive: release the shared hold first"));
}

absl::Status DeadlockError(const Names& names, const std::string& name,
                           const v1::AcquireLockResponse& answer) {
  std::string cycle;
  for (const v1::LockHold& step : answer.in_the_way()) {
    absl::StrAppend(&cycle, cycle.empty() ? "" : ", ", Who(step), " holds ", names.Short(step.lock()),
                    " and waits for ", names.Short(step.waits_for()));
  }
  return LockError(Reason::kDeadlock, absl::StatusCode::kFailedPrecondition, name, cycle,
                   absl::StrCat("waiting for ", name, " would be a deadlock: ", cycle,
                                ": release what you hold, and acquire locks in one order everywhere"));
}

void FillMeta(const ClientCore& core, const std::string& label, v1::Meta* meta) {
  meta->set_label(label);
  meta->set_client(core.options().client_name);
}

using Channel = std::shared_ptr<grpc::Channel>;

// One hold less, or what `acquire` came to.
absl::StatusOr<v1::ReleaseLockResponse> SendRelease(ClientCore& core, const OnceOptions& options, CallId* id,
                                                    const v1::ReleaseLockRequest& what) {
  return SendOnce<v1::ReleaseLockResponse>(
      core, options, id,
      [&](const Channel& channel, grpc::ClientContext* context, const v1::CommitId& commit,
          v1::ReleaseLockResponse* answer, auto callback) {
        v1::ReleaseLockRequest request = what;
        *request.mutable_id() = commit;
        FillMeta(core, "", request.mutable_meta());
        v1::LockService::NewStub(channel)->async()->ReleaseLock(context, &request, answer,
                                                                std::move(callback));
      });
}

// Nobody waits for this acquire any more: it is to leave no place behind, and no hold.
void GiveUp(ClientCore* core, const std::shared_ptr<Lease>& lease, const std::string& lock,
            const std::string& owner, v1::CommitId acquire) {
  acquire.set_resend(true);
  v1::ReleaseLockRequest request;
  request.set_name(lock);
  request.set_session_id(lease->id());
  request.set_owner(owner);
  *request.mutable_acquire_id() = std::move(acquire);
  // The core outlives what its pool runs.
  core->background().Run([core, lease, request = std::move(request)] {
    CallId id;
    OnceOptions options;
    options.call = CallOptions{Deadline::In(kGiveUpMax), core->session().closing()};
    options.over = [lease] { return lease->over(); };
    (void)SendRelease(*core, options, &id, request);
  });
}

absl::Status Release(ClientCore& core, const std::shared_ptr<Grant>& grant, const CallOptions& call) {
  absl::MutexLock releasing(&grant->releasing);
  if (grant->released()) return LockLostError(grant->name(), "was released before");
  if (grant->over()) {
    core.session().Remove(grant);
    grant->Release();
    return LockLostError(grant->name(), "is gone");
  }
  v1::ReleaseLockRequest request;
  request.set_name(grant->lock());
  request.set_session_id(grant->lease().id());
  request.set_owner(grant->owner());
  request.set_token(grant->token());
  OnceOptions options;
  options.call = call;
  options.outage_max = core.options().unavailable_timeout;
  options.over = [&] { return grant->lease().over(); };
  absl::StatusOr<v1::ReleaseLockResponse> response = SendRelease(core, options, &grant->release, request);
  const bool over = grant->lease().over() || ReasonOf(response.status()) == Reason::kSessionExpired;
  // No verdict: it may be asked for again.
  if (!response.ok() && !over) return response.status();
  core.session().Remove(grant);
  grant->Release();
  if (!response.ok()) return LockLostError(grant->name(), "is gone");
  switch (response->outcome()) {
    case v1::LOCK_OUTCOME_RELEASED:
    case v1::LOCK_OUTCOME_STILL_HELD:
      return absl::OkStatus();
    default:
      return LockLostError(grant->name(), "is gone");
  }
}

// One try; GRANTED or an outcome that ends it. `call_id` tells whether there is something to give up.
absl::StatusOr<v1::AcquireLockResponse> SendAcquire(ClientCore& core, const std::shared_ptr<Lease>& lease,
                                                    const std::string& lock, const AcquireOptions& options,
                                                    const CallOptions& call, Deadline wait, CallId* call_id) {
  OnceOptions once;
  once.call = call;
  once.outage_max = core.options().unavailable_timeout;
  once.over = [lease] { return lease->over(); };
  return SendOnce<v1::AcquireLockResponse>(
      core, once, call_id,
      [&](const Channel& channel, grpc::ClientContext* context, const v1::CommitId& commit,
          v1::AcquireLockResponse* answer, auto callback) {
        v1::AcquireLockRequest request;
        *request.mutable_id() = commit;
        request.set_name(lock);
        request.set_session_id(lease->id());
        request.set_owner(options.owner);
        if (options.permits_max > 0) {
          request.set_mode(v1::LOCK_MODE_PERMITS);
          request.set_permits(options.permits);
          request.set_permits_max(options.permits_max);
        } else {
          request.set_mode(options.shared ? v1::LOCK_MODE_SHARED : v1::LOCK_MODE_EXCLUSIVE);
        }
        if (!wait.never()) ToWire(wait.left(), request.mutable_wait());
        FillMeta(core, options.label, request.mutable_meta());
        v1::LockService::NewStub(channel)->async()->AcquireLock(context, &request, answer,
                                                                std::move(callback));
      });
}

absl::Status CheckAcquire(const std::string& name, const AcquireOptions& options) {
  if (absl::Status status = CheckOutside(absl::StrCat("Acquire of ", name)); !status.ok()) return status;
  if (absl::Status status = CheckName(name); !status.ok()) return status;
  const bool both = options.shared && options.permits_max > 0;
  if (both || (options.permits > 0 && options.permits_max == 0)) {
    return LockError(Reason::kBadValue, absl::StatusCode::kInvalidArgument, name, "",
                     absl::StrCat(name, both ? ": a semaphore is not shared: leave out shared, or permits_max"
                                             : ": permits are a semaphore's: say its permits_max, too"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Held> AcquireHeld(const std::shared_ptr<ClientCore>& client, std::string_view name_view,
                                 const AcquireOptions& options) {
  const std::string name(name_view);
  if (absl::Status status = CheckAcquire(name, options); !status.ok()) return status;
  ClientCore& core = *client;
  const std::string lock = core.names().Full(name);
  const CallOptions call{Deadline::In(options.timeout), options.canceller};
  const Deadline wait = Deadline::In(options.wait);
  Outage sessions(core.options().unavailable_timeout);
  for (;;) {
    absl::StatusOr<std::shared_ptr<Lease>> lease = core.session().Get(call);
    if (!lease.ok()) return lease.status();
    CallId id;
    sessions.Begin();
    absl::StatusOr<v1::AcquireLockResponse> answer =
        SendAcquire(core, *lease, lock, options, call, wait, &id);
    if (answer.ok() && (*lease)->over()) answer = absl::UnavailableError("its session is over");
    if (!answer.ok()) {
      const bool expired = ReasonOf(answer.status()) == Reason::kSessionExpired;
      if (!expired && !(*lease)->over()) {
        if (id.sent) GiveUp(&core, *lease, lock, options.owner, id.id);
        return answer.status();
      }
      // Its place went with the session: it begins again, at the queue's end, with another.
      core.session().Drop(*lease, expired);
      if (IsCancelled(call.canceller) || call.deadline.passed()) return answer.status();
      sessions.Fail(answer.status());
      if (sessions.over()) return answer.status();
      if (!Sleep(std::min(sessions.Pause(), call.deadline.left()), call.canceller)) return CancelledError();
      continue;
    }
    switch (answer->outcome()) {
      case v1::LOCK_OUTCOME_GRANTED: {
        auto grant = std::make_shared<Grant>(*lease, lock, name, options.owner, answer->token());
        core.session().Add(grant);
        return Held(client, std::move(grant));
      }
      case v1::LOCK_OUTCOME_BUSY:
        return BusyError(name, *answer);
      case v1::LOCK_OUTCOME_UPGRADE_REFUSED:
        return UpgradeRefusedError(name, *answer);
      case v1::LOCK_OUTCOME_DEADLOCK:
        return DeadlockError(core.names(), name, *answer);
      case v1::LOCK_OUTCOME_LEFT:
        return LockLostError(name, "came and was taken, or its place in the queue was given up by another");
      default:
        return absl::InternalError(
            absl::StrCat(name,
                         ": the daemon answered with no outcome that is known here: use a "
                         "client as new as the daemon"));
    }
  }
}

}  // namespace internal

// ---- Held

Held& Held::operator=(Held&& other) noexcept {
  if (this == &other) return *this;
  End();
  core_ = std::move(other.core_);
  grant_ = std::move(other.grant_);
  return *this;
}

void Held::End() {
  if (grant_ == nullptr) return;
  std::shared_ptr<internal::ClientCore> core = std::move(core_);
  std::shared_ptr<internal::Grant> grant = std::move(grant_);
  grant_ = nullptr;
  const absl::Status status = internal::Release(
      *core, grant, internal::CallOptions{internal::Deadline::In(kReleaseInEndMax), std::nullopt});
  if (grant->released()) return;
  internal::ClientCore* const background = core.get();  // which outlives what its pool runs
  core->background().Run([background, grant] {
    (void)internal::Release(
        *background, grant,
        internal::CallOptions{internal::Deadline::In(internal::kGiveUpMax), background->session().closing()});
    background->session().Remove(grant);
  });
}

int64_t Held::token() const { return grant_->token(); }
const std::string& Held::name() const { return grant_->name(); }
bool Held::lost() const { return grant_->over(); }
bool Held::AwaitLost(absl::Duration timeout) const { return grant_->AwaitOver(timeout); }

void Held::OnLost(std::function<void()> callback) const {
  if (!grant_->OnLost(&callback)) core_->background().Run(std::move(callback));
}

absl::Status Held::Release() {
  if (absl::Status status = internal::CheckOutside(absl::StrCat("Release of ", name())); !status.ok())
    return status;
  return internal::Release(*core_, grant_, internal::CallOptions());
}

absl::StatusOr<bool> Held::Await(std::string_view condition, absl::Duration timeout) {
  namespace i = internal;
  if (absl::Status status = i::CheckOutside(absl::StrCat("Await of ", name())); !status.ok()) return status;
  if (lost()) return i::LockLostError(name(), "is gone");
  const i::Deadline wait = i::Deadline::In(timeout);
  // For as long as its session lives: whoever gave up would leave a place that nobody takes the lock from.
  i::CallId id;
  i::OnceOptions options;
  options.over = [this] { return grant_->lease().over(); };
  absl::StatusOr<v1::AwaitConditionResponse> answer = i::SendOnce<v1::AwaitConditionResponse>(
      *core_, options, &id,
      [&](const i::Channel& channel, grpc::ClientContext* context, const v1::CommitId& commit,
          v1::AwaitConditionResponse* response, auto callback) {
        v1::AwaitConditionRequest request;
        *request.mutable_id() = commit;
        request.mutable_lock()->set_lock(grant_->lock());
        request.mutable_lock()->set_token(grant_->token());
        request.set_condition(std::string(condition));
        request.set_session_id(grant_->lease().id());
        request.set_owner(grant_->owner());
        if (!wait.never()) i::ToWire(wait.left(), request.mutable_wait());
        i::FillMeta(*core_, "", request.mutable_meta());
        v1::LockService::NewStub(channel)->async()->AwaitCondition(context, &request, response,
                                                                   std::move(callback));
      });
  if (!answer.ok()) {
    if (!grant_->lease().over() && ReasonOf(answer.status()) != Reason::kSessionExpired)
      return answer.status();
    return i::LockLostError(name(), "is gone with its session");
  }
  if (answer->outcome() != v1::LOCK_OUTCOME_GRANTED) {
    core_->session().Lose(grant_->lock(), grant_->token());
    return i::LockLostError(name(), "is gone");
  }
  core_->session().Retoken(grant_->lock(), grant_->token(), answer->token());
  return answer->signalled();
}

absl::StatusOr<int64_t> Held::Wake(std::string_view condition, bool all) {
  namespace i = internal;
  if (absl::Status status = i::CheckOutside(absl::StrCat("Signal of ", name())); !status.ok()) return status;
  if (lost()) return i::LockLostError(name(), "is gone");
  i::CallId id;
  i::OnceOptions options;
  options.outage_max = core_->options().unavailable_timeout;
  options.over = [this] { return grant_->lease().over(); };
  absl::StatusOr<v1::SignalConditionResponse> answer = i::SendOnce<v1::SignalConditionResponse>(
      *core_, options, &id,
      [&](const i::Channel& channel, grpc::ClientContext* context, const v1::CommitId& commit,
          v1::SignalConditionResponse* response, auto callback) {
        v1::SignalConditionRequest request;
        *request.mutable_id() = commit;
        request.mutable_lock()->set_lock(grant_->lock());
        request.mutable_lock()->set_token(grant_->token());
        request.set_condition(std::string(condition));
        request.set_all(all);
        i::FillMeta(*core_, "", request.mutable_meta());
        v1::LockService::NewStub(channel)->async()->SignalCondition(context, &request, response,
                                                                    std::move(callback));
      });
  if (!answer.ok()) return answer.status();
  if (answer->outcome() != v1::LOCK_OUTCOME_SIGNALLED) return i::LockLostError(name(), "is gone");
  return static_cast<int64_t>(answer->woken());
}

// ---- Session

const std::string& Session::id() const { return lease_->id(); }
bool Session::lost() const { return lease_->over(); }
bool Session::AwaitLost(absl::Duration timeout) const { return lease_->AwaitOver(timeout); }

absl::StatusOr<Session> Client::OpenSession() const {
  if (absl::Status status = internal::CheckOutside("OpenSession"); !status.ok()) return status;
  absl::StatusOr<std::shared_ptr<internal::Lease>> lease = core_->session().Get(internal::CallOptions());
  if (!lease.ok()) return lease.status();
  return stm::Session(core_, *std::move(lease));
}

// ---- What operators ask

absl::StatusOr<bool> Client::BreakLock(std::string_view name_view, std::string_view label) const {
  namespace i = internal;
  const std::string name(name_view);
  if (absl::Status status = i::CheckOutside(absl::StrCat("BreakLock of ", name)); !status.ok()) return status;
  if (absl::Status status = i::CheckName(name); !status.ok()) return status;
  i::CallId id;
  i::OnceOptions options;
  options.outage_max = core_->options().unavailable_timeout;
  absl::StatusOr<v1::BreakLockResponse> answer = i::SendOnce<v1::BreakLockResponse>(
      *core_, options, &id,
      [&](const i::Channel& channel, grpc::ClientContext* context, const v1::CommitId& commit,
          v1::BreakLockResponse* response, auto callback) {
        v1::BreakLockRequest request;
        *request.mutable_id() = commit;
        request.set_name(core_->names().Full(name));
        i::FillMeta(*core_, std::string(label), request.mutable_meta());
        v1::LockService::NewStub(channel)->async()->BreakLock(context, &request, response,
                                                              std::move(callback));
      });
  if (!answer.ok()) return answer.status();
  return answer->outcome() == v1::LOCK_OUTCOME_RELEASED;
}

absl::StatusOr<LockInfo> Client::Lock(std::string_view name_view) const {
  namespace i = internal;
  const std::string name(name_view);
  if (absl::Status status = i::CheckOutside("Client::Lock"); !status.ok()) return status;
  if (absl::Status status = i::CheckName(name); !status.ok()) return status;
  absl::StatusOr<v1::GetLockResponse> answer = i::Unary<v1::GetLockResponse>(
      *core_, i::CallOptions(),
      [&](const i::Channel& channel, grpc::ClientContext* context, v1::GetLockResponse* response,
          auto callback) {
        v1::GetLockRequest request;
        request.set_name(core_->names().Full(name));
        core_->SetSeen(request.mutable_seen());
        v1::LockService::NewStub(channel)->async()->GetLock(context, &request, response, std::move(callback));
      });
  if (!answer.ok()) return answer.status();
  core_->position().Observe(answer->header());
  return i::LockOf(answer->lock(), core_->names());
}

absl::StatusOr<std::vector<LockInfo>> Client::Locks(std::string_view prefix_view) const {
  namespace i = internal;
  const std::string prefix(prefix_view);
  if (absl::Status status = i::CheckOutside("Client::Locks"); !status.ok()) return status;
  if (absl::Status status = i::CheckPrefix(prefix); !status.ok()) return status;
  std::vector<LockInfo> locks;
  std::string token;
  do {
    absl::StatusOr<v1::ListLocksResponse> page =
        i::Unary<v1::ListLocksResponse>(*core_, i::CallOptions(),
                                        [&](const i::Channel& channel, grpc::ClientContext* context,
                                            v1::ListLocksResponse* response, auto callback) {
                                          v1::ListLocksRequest request;
                                          request.set_prefix(core_->names().Full(prefix));
                                          request.set_page_size(i::kPageMax);
                                          request.set_page_token(token);
                                          core_->SetSeen(request.mutable_seen());
                                          v1::LockService::NewStub(channel)->async()->ListLocks(
                                              context, &request, response, std::move(callback));
                                        });
    if (!page.ok()) return page.status();
    core_->position().Observe(page->header());
    for (const v1::Lock& lock : page->locks()) locks.push_back(i::LockOf(lock, core_->names()));
    token = page->next_page_token();
  } while (!token.empty());
  return locks;
}

absl::StatusOr<std::vector<SessionInfo>> Client::Sessions() const {
  namespace i = internal;
  if (absl::Status status = i::CheckOutside("Client::Sessions"); !status.ok()) return status;
  std::vector<SessionInfo> sessions;
  std::string token;
  do {
    absl::StatusOr<v1::ListSessionsResponse> page =
        i::Unary<v1::ListSessionsResponse>(*core_, i::CallOptions(),
                                           [&](const i::Channel& channel, grpc::ClientContext* context,
                                               v1::ListSessionsResponse* response, auto callback) {
                                             v1::ListSessionsRequest request;
                                             request.set_page_size(i::kPageMax);
                                             request.set_page_token(token);
                                             core_->SetSeen(request.mutable_seen());
                                             v1::SessionService::NewStub(channel)->async()->ListSessions(
                                                 context, &request, response, std::move(callback));
                                           });
    if (!page.ok()) return page.status();
    core_->position().Observe(page->header());
    for (const v1::Session& message : page->sessions()) {
      SessionInfo session;
      session.session_id = message.session_id();
      session.client = message.client();
      session.ttl = i::FromWire(message.ttl());
      if (message.has_left()) session.left = i::FromWire(message.left());
      session.daemon = message.daemon();
      session.since = Instant{message.since().seconds(), message.since().nanos()};
      for (const std::string& lock : message.locks()) session.locks.push_back(core_->names().Short(lock));
      for (const std::string& entry : message.entries())
        session.entries.push_back(core_->names().Short(entry));
      sessions.push_back(std::move(session));
    }
    token = page->next_page_token();
  } while (!token.empty());
  return sessions;
}

absl::Status Client::ExpireSession(std::string_view session_id, std::string_view label) const {
  namespace i = internal;
  if (absl::Status status = i::CheckOutside("Client::ExpireSession"); !status.ok()) return status;
  i::CallId id;
  i::OnceOptions options;
  options.outage_max = core_->options().unavailable_timeout;
  return i::SendOnce<v1::ExpireSessionResponse>(
             *core_, options, &id,
             [&](const i::Channel& channel, grpc::ClientContext* context, const v1::CommitId& commit,
                 v1::ExpireSessionResponse* response, auto callback) {
               v1::ExpireSessionRequest request;
               *request.mutable_id() = commit;
               request.set_session_id(std::string(session_id));
               i::FillMeta(*core_, std::string(label), request.mutable_meta());
               v1::SessionService::NewStub(channel)->async()->ExpireSession(context, &request, response,
                                                                            std::move(callback));
             })
      .status();
}

}  // namespace stm
