#include "client/cpp/core/session.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>

#include "absl/strings/str_cat.h"
#include "stm/v1/session_service.grpc.pb.h"

namespace stm::internal {
namespace {

constexpr absl::Duration kCloseMax = absl::Seconds(1);
// Of closing, in the background, a session that this client believes in no more.
constexpr absl::Duration kCloseDroppedMax = absl::Seconds(10);
// The client stops believing so much of the TTL before the daemon does: for clocks that do not run alike.
constexpr int kMarginPart = 10;
constexpr absl::Duration kMarginMax = absl::Seconds(1);
constexpr int kBeatsInTtl = 3;
// A beat that is not answered for so long, or for the time between beats if that is longer, broke its
// connection.
constexpr absl::Duration kAnswerMin = absl::Seconds(1);
// The longest sleep that a clock which stood still in suspend may prolong.
constexpr absl::Duration kSleepMax = absl::Seconds(1);
// Streams in a row that ended by the daemon's own word before another daemon is tried.
constexpr int kRefusalsMax = 2;
constexpr size_t kLostEarlyMax = 1024;
constexpr size_t kClientBytesMax = 256;  // the daemon's bound

std::string ClientText(const std::string& program) {
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat(host, "/", program, "/", getpid()).substr(0, kClientBytesMax);
}

// One stream of beats: one write is in the air, answers queue for its one reader.
class Beats : public grpc::ClientBidiReactor<v1::KeepAliveRequest, v1::KeepAliveResponse> {
 public:
  enum class Next : uint8_t { kMessage, kEnded, kTimeout, kCancelled };

  static std::shared_ptr<Beats> Start(const std::shared_ptr<grpc::Channel>& channel) {
    auto beats = std::make_shared<Beats>();
    beats->self_ = beats;
    v1::SessionService::NewStub(channel)->async()->KeepAlive(beats->context_.get(), beats.get());
    beats->StartRead(&beats->incoming_);
    beats->AddHold();  // writes start outside of reactions
    beats->StartCall();
    return beats;
  }

  // False: the one before is still on its way, or the stream is dead.
  bool Send(v1::KeepAliveRequest request) {
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || !held_) return false;
      writing_ = true;
      outgoing_ = std::move(request);
      AddHold();
    }
    StartWrite(&outgoing_);
    RemoveHold();
    return true;
  }

  Next Take(v1::KeepAliveResponse* message, absl::Duration timeout) {
    const Deadline deadline = Deadline::In(timeout);
    absl::MutexLock lock(&mutex_);
    while (!cancelled_ && queue_.empty() && !done_ && !deadline.passed()) {
      changed_.WaitWithTimeout(&mutex_, deadline.left());
    }
    if (cancelled_) return Next::kCancelled;
    if (!queue_.empty()) {
      *message = std::move(queue_.front());
      queue_.pop_front();
      return Next::kMessage;
    }
    return done_ ? Next::kEnded : Next::kTimeout;
  }

  void Cancel() {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    changed_.Signal();
  }

  // Waits for OnDone, and lets go of the channel: gRPC's own threads must not be the last to.
  grpc::Status End() {
    context_->TryCancel();
    ReleaseHold();
    grpc::Status status;
    {
      absl::MutexLock lock(&mutex_);
      while (!done_) changed_.Wait(&mutex_);
      status = status_;
    }
    context_.reset();
    return status;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return ReleaseHold();
    {
      absl::MutexLock lock(&mutex_);
      queue_.push_back(std::move(incoming_));
      changed_.Signal();
    }
    incoming_ = v1::KeepAliveResponse();
    StartRead(&incoming_);
  }
  void OnWriteDone(bool) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
  }
  void OnDone(const grpc::Status& status) override {
    std::shared_ptr<Beats> last = std::move(self_);
    absl::MutexLock lock(&mutex_);
    status_ = status;
    done_ = true;
    changed_.Signal();
  }

 private:
  void ReleaseHold() {
    {
      absl::MutexLock lock(&mutex_);
      if (!std::exchange(held_, false)) return;
    }
    RemoveHold();
  }

  std::unique_ptr<grpc::ClientContext> context_ = std::make_unique<grpc::ClientContext>();
  v1::KeepAliveResponse incoming_;  // of the read that is under way
  v1::KeepAliveRequest outgoing_;   // whoever sets writing_ owns it, until OnWriteDone
  std::shared_ptr<Beats> self_;     // until OnDone
  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::deque<v1::KeepAliveResponse> queue_ ABSL_GUARDED_BY(mutex_);
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = true;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::Status OverAtDaemon() { return absl::NotFoundError("the daemon says that the session is over"); }

}  // namespace

absl::Duration BootTime() {
  timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return absl::DurationFromTimespec(now);
}

// ---- Lease

Lease::Lease(std::string id, absl::Duration ttl, absl::Duration sent)
    : id_(std::move(id)),
      ttl_(ttl),
      margin_(std::min(ttl / kMarginPart, kMarginMax)),
      until_(sent + ttl_ - margin_) {}

bool Lease::over() const {
  absl::MutexLock lock(&mutex_);
  over_ = over_ || BootTime() >= until_;
  return over_;
}

absl::Duration Lease::until() const {
  absl::MutexLock lock(&mutex_);
  return until_;
}

absl::Duration Lease::left() const {
  if (over()) return absl::ZeroDuration();
  return std::max(until() - BootTime(), absl::ZeroDuration());
}

void Lease::Answered(absl::Duration sent) {
  absl::MutexLock lock(&mutex_);
  // Whoever asked may have been told that it is over.
  over_ = over_ || BootTime() >= until_;
  if (!over_) until_ = std::max(until_, sent + ttl_ - margin_);
}

void Lease::End() {
  absl::MutexLock lock(&mutex_);
  over_ = true;
  ended_.SignalAll();
}

bool Lease::AwaitOver(absl::Duration timeout) const {
  const Deadline deadline = Deadline::In(timeout);
  while (!over()) {
    if (deadline.passed()) return false;
    const absl::Duration wait = std::min({deadline.left(), left(), kSleepMax});
    absl::MutexLock lock(&mutex_);
    if (!over_) ended_.WaitWithTimeout(&mutex_, wait);
  }
  return true;
}

// ---- Grant

int64_t Grant::token() const {
  absl::MutexLock lock(&mutex_);
  return token_;
}

void Grant::SetToken(int64_t token) {
  absl::MutexLock lock(&mutex_);
  token_ = token;
}

bool Grant::over() const {
  if (lease_->over()) return true;
  absl::MutexLock lock(&mutex_);
  return lost_ || released_;
}

bool Grant::released() const {
  absl::MutexLock lock(&mutex_);
  return released_;
}

bool Grant::AwaitOver(absl::Duration timeout) {
  const Deadline deadline = Deadline::In(timeout);
  while (!over()) {
    if (deadline.passed()) return false;
    const absl::Duration wait = std::min({deadline.left(), lease_->left(), kSleepMax});
    absl::MutexLock lock(&mutex_);
    if (!lost_ && !released_) changed_.WaitWithTimeout(&mutex_, wait);
  }
  return true;
}

std::vector<std::function<void()>> Grant::Lose() {
  absl::MutexLock lock(&mutex_);
  if (std::exchange(lost_, true) || released_) return {};
  changed_.SignalAll();
  return std::move(on_lost_);
}

void Grant::Release() {
  absl::MutexLock lock(&mutex_);
  released_ = true;
  on_lost_.clear();
  changed_.SignalAll();
}

bool Grant::OnLost(std::function<void()>* callback) {
  absl::MutexLock lock(&mutex_);
  if (released_) return true;
  if (lost_) return false;
  on_lost_.push_back(std::move(*callback));
  return true;
}

// ---- Session

Session::Session(ClientCore* client) : client_(client) {}

Session::~Session() {
  absl::MutexLock lock(&mutex_);
  assert(closed_ && !thread_.joinable());
}

absl::StatusOr<std::shared_ptr<Lease>> Session::Get(const CallOptions& options) {
  CancelHook hook(options.canceller, [this] {
    absl::MutexLock lock(&mutex_);
    changed_.SignalAll();
  });
  std::shared_ptr<Lease> dead;
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      if (closed_) return absl::CancelledError("the client is closed");
      if (!opening_) {
        if (lease_ == nullptr) {
          opening_ = true;
          break;
        }
        if (!lease_->over()) return lease_;
        dead = lease_;
      } else {
        changed_.WaitWithTimeout(&mutex_, std::min(options.deadline.left(), kSleepMax));
      }
    }
    // Not under our mutex: its hooks take that.
    if (IsCancelled(options.canceller)) return CancelledError();
    if (options.deadline.passed()) return DeadlineError(absl::OkStatus());
    if (dead != nullptr) Drop(std::exchange(dead, nullptr), /*known=*/false);
  }
  absl::StatusOr<std::shared_ptr<Lease>> lease = Open(options);
  absl::MutexLock lock(&mutex_);
  opening_ = false;
  changed_.SignalAll();
  if (!lease.ok()) return lease;
  lease_ = *lease;
  if (!thread_.joinable()) thread_ = std::thread([this] { Keep(); });
  return lease;
}

absl::StatusOr<std::shared_ptr<Lease>> Session::Open(const CallOptions& options) {
  std::string id;
  absl::Duration sent;
  CallId call;
  OnceOptions once;
  once.call = options;
  once.outage_max = client_->options().unavailable_timeout;
  absl::StatusOr<v1::OpenSessionResponse> response = SendOnce<v1::OpenSessionResponse>(
      *client_, once, &call,
      [&](const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext* context,
          const v1::CommitId& commit, v1::OpenSessionResponse* answer, auto callback) {
        v1::OpenSessionRequest request;
        *request.mutable_id() = commit;
        request.set_client(ClientText(client_->options().client_name));
        if (client_->options().session_ttl != absl::ZeroDuration()) {
          ToWire(client_->options().session_ttl, request.mutable_ttl());
        }
        // Its lease began no earlier than the first send of its id.
        if (id != commit.transaction_id()) {
          id = commit.transaction_id();
          sent = BootTime();
        }
        v1::SessionService::NewStub(channel)->async()->OpenSession(context, &request, answer,
                                                                   std::move(callback));
      });
  if (!response.ok()) return response.status();
  return std::make_shared<Lease>(response->session_id(), FromWire(response->ttl()), sent);
}

void Session::Drop(const std::shared_ptr<Lease>& lease, bool known) {
  lease->End();
  std::vector<std::shared_ptr<Grant>> lost;
  {
    absl::MutexLock lock(&mutex_);
    for (auto it = grants_.begin(); it != grants_.end();) {
      if (&it->second->lease() != lease.get()) {
        ++it;
        continue;
      }
      lost.push_back(std::move(it->second));
      it = grants_.erase(it);
    }
    if (lease_ == lease) {
      lease_ = nullptr;
    } else {
      known = true;  // whoever dropped it first saw to that
    }
  }
  for (const auto& grant : lost) Tell(grant->Lose());
  if (known) return;
  client_->background().Run([this, id = lease->id()] {
    CloseAtDaemon(id, CallOptions{Deadline::In(kCloseDroppedMax), closing_});
  });
}

void Session::Tell(std::vector<std::function<void()>> callbacks) {
  for (auto& callback : callbacks) client_->background().Run(std::move(callback));
}

void Session::Add(const std::shared_ptr<Grant>& grant) {
  const Token token(grant->lock(), grant->token());
  {
    absl::MutexLock lock(&mutex_);
    // Its lease may have been dropped meanwhile.
    if (lost_early_.count(token) == 0 && lease_.get() == &grant->lease()) {
      grants_.emplace(token, grant);
      return;
    }
  }
  Tell(grant->Lose());
}

void Session::Remove(const std::shared_ptr<Grant>& grant) {
  const Token token(grant->lock(), grant->token());
  absl::MutexLock lock(&mutex_);
  auto [it, end] = grants_.equal_range(token);
  for (; it != end; ++it) {
    if (it->second != grant) continue;
    grants_.erase(it);
    return;
  }
}

void Session::Retoken(const std::string& lock_name, int64_t from, int64_t to) {
  std::vector<std::shared_ptr<Grant>> grants;
  {
    absl::MutexLock lock(&mutex_);
    auto [begin, end] = grants_.equal_range(Token(lock_name, from));
    for (auto it = begin; it != end; ++it) grants.push_back(it->second);
    grants_.erase(begin, end);
  }
  for (const auto& grant : grants) {
    grant->SetToken(to);
    Add(grant);
  }
}

void Session::Lose(const std::string& lock_name, int64_t token_value) {
  const Token token(lock_name, token_value);
  std::vector<std::shared_ptr<Grant>> lost;
  {
    absl::MutexLock lock(&mutex_);
    auto [begin, end] = grants_.equal_range(token);
    for (auto it = begin; it != end; ++it) lost.push_back(it->second);
    grants_.erase(begin, end);
    if (lost.empty() && lost_early_.insert(token).second) {
      lost_early_order_.push_back(token);
      if (lost_early_order_.size() > kLostEarlyMax) {
        lost_early_.erase(lost_early_order_.front());
        lost_early_order_.pop_front();
      }
    }
  }
  for (const auto& grant : lost) Tell(grant->Lose());
}

void Session::CloseAtDaemon(const std::string& id, const CallOptions& options) {
  CallId call;
  OnceOptions once;
  once.call = options;
  (void)SendOnce<v1::CloseSessionResponse>(
      *client_, once, &call,
      [&](const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext* context,
          const v1::CommitId& commit, v1::CloseSessionResponse* answer, auto callback) {
        v1::CloseSessionRequest request;
        *request.mutable_id() = commit;
        request.set_session_id(id);
        v1::SessionService::NewStub(channel)->async()->CloseSession(context, &request, answer,
                                                                    std::move(callback));
      });
}

void Session::Close() {
  closing_.Cancel();
  std::thread thread;
  std::shared_ptr<Lease> lease;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    changed_.SignalAll();
    thread = std::move(thread_);
    lease = std::move(lease_);
  }
  if (thread.joinable()) thread.join();
  if (lease == nullptr) return;
  lease->End();
  CloseAtDaemon(lease->id(), CallOptions{Deadline::In(kCloseMax), std::nullopt});
}

// ---- Beats

void Session::Keep() {
  for (;;) {
    std::shared_ptr<Lease> lease;
    {
      absl::MutexLock lock(&mutex_);
      while (lease_ == nullptr && !closed_) changed_.Wait(&mutex_);
      if (closed_) return;
      lease = lease_;
    }
    KeepLease(lease);
  }
}

void Session::KeepLease(const std::shared_ptr<Lease>& lease) {
  Outage outage(absl::InfiniteDuration());
  int refusals = 0;
  while (!closing_.cancelled() && !lease->over()) {
    absl::StatusOr<std::shared_ptr<Link>> link =
        client_->transport().Get(Deadline::In(lease->left()), closing_);
    absl::Status failure = link.status();
    if (link.ok()) {
      const absl::Duration before = lease->until();
      failure = BeatOn(link->get(), lease.get());
      if (lease->until() > before) {
        outage.End();
        refusals = 0;
      }
      if (absl::IsNotFound(failure)) return Drop(lease, /*known=*/true);
      if (++refusals >= kRefusalsMax && (*link)->alive()) {
        client_->transport().Leave(link->get(), failure);
        refusals = 0;
      }
    }
    outage.Fail(failure);
    Sleep(std::min(outage.Pause(), lease->left()), closing_);
  }
  if (!closing_.cancelled()) Drop(lease, /*known=*/false);
}

absl::Status Session::BeatOn(Link* link, Lease* lease) {
  std::shared_ptr<Beats> beats = Beats::Start(link->channel());
  CancelHook hook(closing_, [beats] { beats->Cancel(); });
  const absl::Duration every = lease->ttl() / kBeatsInTtl;
  const absl::Duration patience = std::max(every, kAnswerMin);
  std::map<uint64_t, absl::Duration> sent;  // unanswered
  uint64_t beat = 0;
  absl::Duration next = BootTime();
  absl::Status failure;
  bool ended = false;
  while (failure.ok() && !ended) {
    const absl::Duration now = BootTime();
    if (lease->over()) {
      failure = absl::DeadlineExceededError("no beat was answered for the session's TTL");
      break;
    }
    if (!sent.empty() && now - sent.begin()->second >= patience) {
      failure = absl::UnavailableError(
          absl::StrCat(link->address(), " did not answer a beat for ", absl::FormatDuration(patience)));
      link->Break(failure);
      break;
    }
    if (now >= next) {
      v1::KeepAliveRequest request;
      request.set_session_id(lease->id());
      request.set_beat(++beat);
      client_->SetSeen(request.mutable_seen());
      sent.emplace(beat, now);
      beats->Send(std::move(request));  // one that could not be sent counts as one that is not answered
      next = now + every;
    }
    absl::Duration wait = std::min({next - now, lease->left(), kSleepMax});
    if (!sent.empty()) wait = std::min(wait, sent.begin()->second + patience - now);
    v1::KeepAliveResponse message;
    switch (beats->Take(&message, wait)) {
      case Beats::Next::kMessage:
        break;
      case Beats::Next::kTimeout:
        continue;
      case Beats::Next::kEnded:
        ended = true;
        continue;
      case Beats::Next::kCancelled:
        failure = absl::CancelledError("the client is closed");
        continue;
    }
    link->Heard();
    client_->position().Observe(message.header());
    if (message.session_id() != lease->id()) continue;
    if (message.expired()) {
      failure = OverAtDaemon();
      continue;
    }
    if (auto answered = sent.find(message.beat()); answered != sent.end()) {
      lease->Answered(answered->second);
      sent.erase(sent.begin(), std::next(answered));
    }
    for (const v1::Fence& fence : message.lost()) Lose(fence.lock(), fence.token());
  }
  const grpc::Status status = beats->End();
  if (!ended) return failure;
  failure = status.ok() ? absl::UnavailableError("the daemon ended the stream of beats") : FromGrpc(status);
  if (ReasonOf(failure) == Reason::kSessionExpired || ReasonOf(failure) == Reason::kStoreChanged)
    return OverAtDaemon();
  return absl::IsNotFound(failure) ? absl::UnavailableError(failure.message()) : failure;
}

}  // namespace stm::internal
