#include "client/cpp/core/transport.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cpp/core/cancel.h"
#include "client/cpp/core/grpc_status.h"
#include "client/cpp/core/random.h"
#include "stm/v1/admin_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"

namespace stm::internal {
namespace {

constexpr absl::Duration kBackoffMin = absl::Milliseconds(10);
constexpr absl::Duration kBackoffMax = absl::Seconds(1);
constexpr absl::Duration kConnectAttemptMax = absl::Seconds(3);
constexpr absl::Duration kProbeAfter = absl::Seconds(5);
constexpr absl::Duration kProbeTimeout = absl::Seconds(5);
// The daemon refuses more calls in a message.
constexpr int kMessageCallsMax = 1024;
// Calls are gathered up to this; one that is larger goes alone.
constexpr size_t kMessageBytesMax = size_t{1} << 20;
// An answer is at most what one transaction may read: the daemon bounds it, and tells its own limits by name.
constexpr int kReceiveBytesMax = 256 << 20;

}  // namespace

// A call on its way: queued, sent, ended.
struct Pending {
  v1::PipelineCall call;  // until it is sent
  size_t bytes = 0;
  bool commit = false;

  absl::Mutex mutex;
  absl::CondVar changed;
  bool ended ABSL_GUARDED_BY(mutex) = false;
  bool cancelled ABSL_GUARDED_BY(mutex) = false;
  CallResult result ABSL_GUARDED_BY(mutex);

  void End(CallResult r) {
    absl::MutexLock lock(&mutex);
    if (ended) return;
    ended = true;
    result = std::move(r);
    changed.Signal();
  }
};

class Stream : public grpc::ClientBidiReactor<v1::PipelineRequest, v1::PipelineResponse>,
               public std::enable_shared_from_this<Stream> {
 public:
  explicit Stream(std::shared_ptr<Position> position) : position_(std::move(position)) {}

  void Start(v1::TransactionService::Stub* stub) {
    self_ = shared_from_this();
    stub->async()->Pipeline(context_.get(), this);
    StartRead(&response_);
    // Writes start outside of reactions: OnDone must wait for us.
    AddHold();
    StartCall();
  }

  bool alive() const {
    absl::MutexLock lock(&mutex_);
    return !dead_;
  }

  // False: the stream is dead, and nothing was sent.
  bool Send(const std::shared_ptr<Pending>& pending) {
    mutex_.Lock();
    if (dead_) {
      mutex_.Unlock();
      return false;
    }
    pending->call.set_call(next_call_++);
    queue_.push_back(pending);
    if (writing_) {
      mutex_.Unlock();
      return true;
    }
    Gather();
    AddHold();
    mutex_.Unlock();
    StartWrite(&request_);
    RemoveHold();
    return true;
  }

  // The caller waits no longer. False: it was never sent, and never will be.
  bool GiveUp(const std::shared_ptr<Pending>& pending) {
    std::shared_ptr<Pending> cancel;
    {
      absl::MutexLock lock(&mutex_);
      auto queued = std::find(queue_.begin(), queue_.end(), pending);
      if (queued != queue_.end()) {
        queue_.erase(queued);
        return false;
      }
      auto sent = sent_.begin();
      while (sent != sent_.end() && sent->second != pending) ++sent;
      if (sent == sent_.end()) return true;
      if (!pending->commit) {
        cancel = std::make_shared<Pending>();
        cancel->call.set_cancel(sent->first);
      }
      sent_.erase(sent);
    }
    if (cancel != nullptr) Send(cancel);
    return true;
  }

  void Break(const absl::Status& cause) {
    {
      absl::MutexLock lock(&mutex_);
      if (cause_.ok()) cause_ = cause;
    }
    Die();
    context_->TryCancel();
  }

  absl::Duration silence() const {
    return absl::Nanoseconds(Now() - heard_.load(std::memory_order_relaxed));
  }
  void Heard() { heard_.store(Now(), std::memory_order_relaxed); }

  // Waits for OnDone, and lets go of the channel. gRPC's own threads must not be the last to: they would wait for
  // themselves to end.
  void End() {
    {
      absl::MutexLock lock(&mutex_);
      while (!done_) done_changed_.Wait(&mutex_);
    }
    context_.reset();
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Die();
      return;
    }
    Heard();
    // One look at the position for the message: its newest header counts.
    const v1::Header* newest = nullptr;
    for (const v1::PipelineAnswer& answer : response_.answers()) {
      const v1::Header* header = HeaderOf(answer);
      if (header != nullptr &&
          (newest == nullptr || header->installed_version() >= newest->installed_version())) {
        newest = header;
      }
    }
    if (newest != nullptr) position_->Observe(*newest);

    std::vector<std::pair<std::shared_ptr<Pending>, v1::PipelineAnswer*>> answered;
    answered.reserve(static_cast<size_t>(response_.answers_size()));
    {
      absl::MutexLock lock(&mutex_);
      for (v1::PipelineAnswer& answer : *response_.mutable_answers()) {
        auto sent = sent_.find(answer.call());
        if (sent == sent_.end()) continue;  // given up
        answered.emplace_back(std::move(sent->second), &answer);
        sent_.erase(sent);
      }
    }
    for (auto& [pending, answer] : answered) {
      CallResult result;
      result.end = CallResult::End::kAnswered;
      result.sent = true;
      result.answer = std::move(*answer);
      pending->End(std::move(result));
    }
    response_.Clear();
    StartRead(&response_);
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      request_.Clear();
      if (!ok || dead_ || queue_.empty()) return;
      Gather();
    }
    StartWrite(&request_);
  }

  void OnDone(const grpc::Status& status) override {
    std::vector<std::pair<std::shared_ptr<Pending>, bool>> broken;
    absl::Status cause;
    {
      absl::MutexLock lock(&mutex_);
      if (cause_.ok()) {
        cause_ = status.ok() ? absl::UnavailableError("the daemon ended the stream") : FromGrpc(status);
      }
      cause = cause_;
      for (auto& pending : queue_) broken.emplace_back(std::move(pending), false);
      for (auto& [call, pending] : sent_) broken.emplace_back(std::move(pending), true);
      queue_.clear();
      sent_.clear();
    }
    for (auto& [pending, sent] : broken) {
      CallResult result;
      result.sent = sent;
      result.cause = cause;
      pending->End(std::move(result));
    }
    std::shared_ptr<Stream> last = std::move(self_);
    absl::MutexLock lock(&mutex_);
    done_ = true;
    done_changed_.SignalAll();
  }

 private:
  static int64_t Now() {
    return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  static const v1::Header* HeaderOf(const v1::PipelineAnswer& answer) {
    if (answer.has_error() && answer.error().has_header()) return &answer.error().header();
    switch (answer.response_case()) {
      case v1::PipelineAnswer::kGet: return &answer.get().header();
      case v1::PipelineAnswer::kList: return &answer.list().header();
      case v1::PipelineAnswer::kCommit: return &answer.commit().header();
      case v1::PipelineAnswer::kAwait: return &answer.await().header();
      case v1::PipelineAnswer::RESPONSE_NOT_SET: break;
    }
    return nullptr;
  }

  // Moves what is ready into request_.
  void Gather() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    size_t bytes = 0;
    while (!queue_.empty() && request_.calls_size() < kMessageCallsMax) {
      std::shared_ptr<Pending>& pending = queue_.front();
      if (request_.calls_size() > 0 && bytes + pending->bytes > kMessageBytesMax) break;
      bytes += pending->bytes;
      uint64_t call = pending->call.call();
      bool answered = pending->call.request_case() != v1::PipelineCall::kCancel;
      *request_.add_calls() = std::move(pending->call);
      if (answered) sent_.emplace(call, std::move(pending));
      queue_.pop_front();
    }
    writing_ = true;
  }

  // No write starts any more; what is under way ends in OnDone.
  void Die() {
    {
      absl::MutexLock lock(&mutex_);
      if (dead_) return;
      dead_ = true;
    }
    RemoveHold();
  }

  const std::shared_ptr<Position> position_;
  std::unique_ptr<grpc::ClientContext> context_ = std::make_unique<grpc::ClientContext>();
  v1::PipelineResponse response_;
  v1::PipelineRequest request_;      // whoever sets writing_ owns it, until OnWriteDone
  std::shared_ptr<Stream> self_;     // until OnDone
  std::atomic<int64_t> heard_{Now()};

  mutable absl::Mutex mutex_;
  absl::CondVar done_changed_;
  uint64_t next_call_ ABSL_GUARDED_BY(mutex_) = 1;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool dead_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status cause_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Pending>> queue_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::shared_ptr<Pending>> sent_ ABSL_GUARDED_BY(mutex_);
};

Link::~Link() {
  stream_->Break(absl::CancelledError("the client is closed"));
  stream_->End();
}

bool Link::alive() const { return stream_->alive(); }

void Link::Break(const absl::Status& cause) { stream_->Break(cause); }

void Link::Heard() const { stream_->Heard(); }

bool Link::Probe() const {
  // One asks for all who wait.
  if (stream_->silence() < kProbeAfter) return true;
  stream_->Heard();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kProbeTimeout));
  v1::GetStatusResponse response;
  return v1::AdminService::NewStub(channel_)->GetStatus(&context, v1::GetStatusRequest(), &response).ok();
}

CallResult Link::Call(const std::function<void(v1::PipelineCall*)>& fill, Deadline deadline,
                      const std::optional<Canceller>& canceller) {
  auto pending = std::make_shared<Pending>();
  fill(&pending->call);
  pending->bytes = pending->call.ByteSizeLong();
  pending->commit = pending->call.request_case() == v1::PipelineCall::kCommit;
  if (!stream_->Send(pending)) {
    CallResult result;
    result.cause = absl::UnavailableError("the connection is lost");
    return result;
  }
  // Nothing is held here while waiting: a cancel only wakes us.
  CancelHook hook(canceller, [pending] {
    absl::MutexLock lock(&pending->mutex);
    pending->cancelled = true;
    pending->changed.Signal();
  });
  Deadline probe = Deadline::In(kProbeAfter);
  for (;;) {
    bool cancelled = false;
    {
      absl::MutexLock lock(&pending->mutex);
      while (!pending->ended && !pending->cancelled && !deadline.passed() && !probe.passed()) {
        pending->changed.WaitWithTimeout(&pending->mutex, Deadline::Earlier(deadline, probe).left());
      }
      if (pending->ended) return std::move(pending->result);
      cancelled = pending->cancelled;
    }
    if (cancelled || deadline.passed()) {
      bool sent = stream_->GiveUp(pending);
      absl::MutexLock lock(&pending->mutex);
      if (pending->ended) return std::move(pending->result);  // it came after all
      CallResult result;
      result.end = cancelled ? CallResult::End::kCancelled : CallResult::End::kTimeout;
      result.sent = sent;
      return result;
    }
    if (!Probe()) {
      stream_->Break(absl::UnavailableError(
          absl::StrCat(address_, " did not answer for ", absl::FormatDuration(kProbeAfter + kProbeTimeout))));
    }
    probe = Deadline::In(kProbeAfter);
  }
}

Transport::Transport(std::vector<std::string> addresses, std::shared_ptr<Position> position)
    : addresses_(std::move(addresses)), position_(std::move(position)) {}

Transport::~Transport() = default;

std::string Transport::address() const {
  absl::MutexLock lock(&mutex_);
  return addresses_[pinned_];
}

void Transport::Leave(Link* link, const absl::Status& cause) {
  if (addresses_.size() == 1) return;
  {
    absl::MutexLock lock(&mutex_);
    if (link_.get() == link) pinned_ = (pinned_ + 1) % addresses_.size();
  }
  link->Break(cause);
}

absl::StatusOr<std::shared_ptr<Link>> Transport::Get(Deadline deadline, const std::optional<Canceller>& canceller) {
  CancelHook hook(canceller, [this] {
    absl::MutexLock lock(&mutex_);
    changed_.SignalAll();
  });
  std::shared_ptr<Link> old;  // its end is waited for outside the mutex
  {
    absl::MutexLock lock(&mutex_);
    for (;;) {
      if (link_ != nullptr && link_->alive()) return link_;
      if (!connecting_) break;
      if (deadline.passed()) {
        return last_error_.ok() ? absl::UnavailableError("connecting took too long: is stmd running?") : last_error_;
      }
      mutex_.Unlock();
      bool cancelled = IsCancelled(canceller);  // not under our mutex: its hooks take that
      mutex_.Lock();
      if (cancelled) return absl::CancelledError("cancelled");
      if (connecting_) changed_.WaitWithTimeout(&mutex_, std::min(deadline.left(), absl::Seconds(1)));
    }
    connecting_ = true;
    old = std::move(link_);
  }
  old.reset();
  absl::StatusOr<std::shared_ptr<Link>> link = Connect(deadline, canceller);
  absl::MutexLock lock(&mutex_);
  connecting_ = false;
  if (link.ok()) {
    link_ = *link;
  } else {
    last_error_ = link.status();
  }
  changed_.SignalAll();
  return link;
}

absl::StatusOr<std::shared_ptr<Link>> Transport::Connect(Deadline deadline, const std::optional<Canceller>& canceller) {
  absl::Duration backoff = kBackoffMin;
  size_t first;
  {
    absl::MutexLock lock(&mutex_);
    first = pinned_;
  }
  Deadline::Clock::time_point began = Deadline::Clock::now();
  absl::Status last = absl::DeadlineExceededError("no time left to connect");
  for (;;) {
    for (size_t i = 0; i < addresses_.size(); ++i) {
      if (IsCancelled(canceller)) return absl::CancelledError("cancelled");
      size_t at = (first + i) % addresses_.size();
      absl::StatusOr<std::shared_ptr<Link>> link = Try(addresses_[at], deadline);
      if (link.ok()) {
        absl::MutexLock lock(&mutex_);
        pinned_ = at;
        return link;
      }
      last = link.status();
      if (deadline.passed()) break;
    }
    absl::Duration pause = RandomBetween(backoff / 2, backoff);
    if (deadline.passed() || pause >= deadline.left()) {
      ErrorInfo info;
      info.reason = Reason::kUnavailable;
      info.name = absl::StrJoin(addresses_, ",");
      info.found = std::string(last.message());
      return MakeError(absl::StatusCode::kUnavailable,
                       absl::StrCat("no stmd at ", info.name, " for ",
                                    absl::FormatDuration(absl::Trunc(absl::FromChrono(Deadline::Clock::now() - began),
                                                                     absl::Milliseconds(1))),
                                    ": ", last.message(),
                                    ": start stmd there, or set STM_ADDRESS to where it runs"),
                       info);
    }
    if (!Sleep(pause, canceller)) return absl::CancelledError("cancelled");
    backoff = std::min(backoff * 2, kBackoffMax);
  }
}

absl::StatusOr<std::shared_ptr<Link>> Transport::Try(const std::string& address, Deadline deadline) {
  grpc::ChannelArguments arguments;
  // The backing off is ours: each try is a connection of its own.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(kReceiveBytesMax);
  arguments.SetMaxSendMessageSize(-1);  // the daemon names the bound that is passed
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);

  grpc::ClientContext context;
  absl::Duration attempt = std::min(deadline.left(), kConnectAttemptMax);
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(attempt));
  v1::GetStatusResponse response;
  grpc::Status status = v1::AdminService::NewStub(channel)->GetStatus(&context, v1::GetStatusRequest(), &response);
  if (!status.ok()) {
    return absl::UnavailableError(absl::StrCat(address, ": ", status.error_message()));
  }
  if (!response.ready()) {
    return absl::UnavailableError(absl::StrCat(address, " is not ready: ", response.not_ready_because()));
  }
  position_->Adopt(response.header());
  auto stream = std::make_shared<Stream>(position_);
  stream->Start(v1::TransactionService::NewStub(channel).get());
  return std::make_shared<Link>(address, std::move(channel), std::move(stream));
}

bool Sleep(absl::Duration duration, const std::optional<Canceller>& canceller) {
  struct Waker {
    absl::Mutex mutex;
    absl::CondVar changed;
    bool cancelled ABSL_GUARDED_BY(mutex) = false;
  };
  auto waker = std::make_shared<Waker>();
  CancelHook hook(canceller, [waker] {
    absl::MutexLock lock(&waker->mutex);
    waker->cancelled = true;
    waker->changed.Signal();
  });
  Deadline until = Deadline::In(duration);
  absl::MutexLock lock(&waker->mutex);
  while (!waker->cancelled && !until.passed()) waker->changed.WaitWithTimeout(&waker->mutex, until.left());
  return !waker->cancelled;
}

}  // namespace stm::internal
