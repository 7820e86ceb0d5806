#include "backends/containers/threaded.h"

#include <algorithm>
#include <cassert>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "engine/error.h"
#include "spdlog/spdlog.h"
#include "stm/v1/common.pb.h"

namespace stm::containers {
namespace {

using engine::EntryKind;

// Of a call of either kind; a write's has no value.
using Answer = absl::StatusOr<std::optional<Value>>;

constexpr size_t kLatencies = 256;
// What a caller is told to wait before it asks again.
constexpr absl::Duration kRetryAfter = absl::Milliseconds(100);
constexpr char kSeeThatItRuns[] = "see that it runs and can be reached (stmctl containers), and ask again";

constexpr char kStopping[] = "is not asked any more, since the daemon is stopping";
constexpr char kAskAgain[] = "ask again";

std::string Text(absl::Duration duration) {
  const absl::Duration unit = duration < absl::Seconds(1) ? absl::Milliseconds(1) : absl::Milliseconds(100);
  return absl::FormatDuration(absl::Trunc(duration + unit / 2, unit));
}

absl::Status Failed(absl::StatusCode code, v1::ErrorReason reason, const std::string& message,
                    const std::string& entry, absl::string_view found) {
  v1::ErrorDetail detail;
  detail.set_reason(reason);
  detail.set_name(entry);
  detail.set_found(std::string(found));
  if (code == absl::StatusCode::kUnavailable) {
    detail.mutable_retry_after()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(kRetryAfter)));
  }
  return engine::WithDetail(absl::Status(code, message), detail);
}

absl::Status Down(const std::string& container, absl::string_view what, absl::string_view verb,
                  const std::string& entry, absl::string_view remedy) {
  return Failed(absl::StatusCode::kUnavailable, v1::ERROR_REASON_CONTAINER_DOWN,
                absl::StrCat("container ", container, " ", what, ": ", verb, " ", entry, ": ", remedy), entry,
                what);
}

// What the container said, for the caller of the transaction. Codes by which the daemon itself tells a caller
// something else (ABORTED: run the body again; OUT_OF_RANGE: begin again; UNAUTHENTICATED: who are you?) are
// not the container's to use.
absl::Status Passed(const std::string& container, absl::string_view verb, const std::string& entry,
                    const absl::Status& status) {
  absl::StatusCode code = status.code();
  v1::ErrorReason reason = v1::ERROR_REASON_UNSPECIFIED;
  absl::string_view what = "failed";
  absl::string_view remedy;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
      code = absl::StatusCode::kUnavailable;
      reason = v1::ERROR_REASON_CONTAINER_DOWN;
      what = "can't be reached";
      remedy = kSeeThatItRuns;
      break;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      code = absl::StatusCode::kPermissionDenied;
      reason = v1::ERROR_REASON_DENIED;
      what = "does not let the daemon";
      remedy = "give the daemon's account there the right to it";
      break;
    case absl::StatusCode::kResourceExhausted:
      reason = v1::ERROR_REASON_NO_SPACE;
      what = "has no room";
      remedy = "make room there, or keep the entry elsewhere";
      break;
    case absl::StatusCode::kDataLoss:
      reason = v1::ERROR_REASON_VALUE_LOST;
      what = "can't read what it keeps";
      remedy = "mend the container, or set the entry anew";
      break;
    case absl::StatusCode::kInvalidArgument:
      reason = v1::ERROR_REASON_BAD_VALUE;
      what = "does not take it";
      break;
    case absl::StatusCode::kUnimplemented:
      code = absl::StatusCode::kFailedPrecondition;
      reason = v1::ERROR_REASON_UNSUPPORTED;
      break;
    case absl::StatusCode::kOutOfRange:
      code = absl::StatusCode::kInternal;
      break;
    default:
      break;
  }
  return Failed(code, reason,
                absl::StrCat("container ", container, " ", what, ": ", verb, " ", entry, ": ",
                             status.message(), remedy.empty() ? "" : ": ", remedy),
                entry, status.message());
}

// A call. What is asked never changes once it is queued.
struct Job {
  uint64_t number = 0;  // grows
  const char* verb = "";
  std::string entry;
  std::string turn;  // calls of equal turns go one after another; "": in any order
  absl::Duration asked;
  absl::Duration deadline;
  absl::AnyInvocable<Answer(Container&, absl::Duration within)> ask;

  enum class State : uint8_t { kQueued, kUnderWay, kHanging, kOver };
  State state = State::kQueued;  // the pool's mutex guards it
};

// A container, its threads, and what waits for them. Threads hold it, so that it outlives the daemon's
// interest in it for as long as a call hangs.
class Pool : public std::enable_shared_from_this<Pool> {
 public:
  using Deliver = std::function<void(uint64_t number, Answer answer)>;

  // `deliver` is called by a thread of the pool, which holds no lock; never after Close and AwaitDelivered.
  Pool(engine::Loop* loop, const ThreadedOptions& options, std::string name, Container container,
       Deliver deliver)
      : loop_(loop),
        options_(options),
        name_(std::move(name)),
        keeps_refs_(container.refs != nullptr),
        keeps_atoms_(container.atoms != nullptr),
        container_(std::move(container)),
        deliver_(std::move(deliver)) {}

  const std::string& name() const { return name_; }
  bool Keeps(EntryKind kind) const { return kind == EntryKind::kRef ? keeps_refs_ : keeps_atoms_; }

  absl::Status Submit(const std::shared_ptr<Job>& job);
  // Its deadline has come, or it is not wanted any more. What it should be told.
  absl::Status GiveUp(const std::shared_ptr<Job>& job);
  ContainerStats Stats() const;

  // No call begins any more, and none is delivered but those that are being delivered.
  void Close();
  void AwaitDelivered();
  // False: a call hangs.
  bool AwaitEnded(absl::Time until);

 private:
  void Work();
  Answer Ask(Job* job, absl::Duration within);
  // Sees that a thread takes what is ready. UNAVAILABLE: there is none, and none can be started.
  absl::Status Wake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StartThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Ended(Job* job, const absl::Status& status, absl::Duration began)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Failed(absl::string_view message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The job of this turn is done with: the next may go.
  void NextTurn(const std::string& turn) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  engine::Loop* const
      loop_;  // asked the time with the lock held and the pool open: after that it may be gone
  const ThreadedOptions options_;
  const std::string name_;
  const bool keeps_refs_;
  const bool keeps_atoms_;
  // Methods of it are called by many threads at once; the last to leave a closed pool destroys it.
  Container container_;
  const Deliver deliver_;

  mutable absl::Mutex mutex_;
  absl::CondVar work_;
  std::map<uint64_t, std::shared_ptr<Job>> ready_
      ABSL_GUARDED_BY(mutex_);  // by number: the oldest goes first
  // Turns of which a job is ready or under way, and the jobs behind it.
  absl::flat_hash_map<std::string, std::deque<std::shared_ptr<Job>>> turns_ ABSL_GUARDED_BY(mutex_);
  int64_t queued_ ABSL_GUARDED_BY(mutex_) = 0;  // in ready_ and behind others
  int64_t threads_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t hanging_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t delivering_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;

  bool healthy_ ABSL_GUARDED_BY(mutex_) = true;
  std::string last_error_ ABSL_GUARDED_BY(mutex_);
  Instant last_error_at_ ABSL_GUARDED_BY(mutex_);
  int64_t calls_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t calls_failed_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration calls_time_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Duration> latencies_ ABSL_GUARDED_BY(mutex_);  // a ring once it is full
  size_t next_latency_ ABSL_GUARDED_BY(mutex_) = 0;
};

absl::Status Pool::Submit(const std::shared_ptr<Job>& job) {
  absl::MutexLock lock(&mutex_);
  if (queued_ >= options_.container_queue_max) {
    absl::Status full = engine::LimitReached(
        "container_queue_max", options_.container_queue_max, absl::StrCat("container ", name_), queued_,
        absl::StrCat("calls wait for it (in it hang: ", hanging_,
                     "): see that it runs and is fast enough (stmctl containers), and ask again"));
    v1::ErrorDetail detail = *engine::DetailOf(full);
    detail.mutable_retry_after()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(kRetryAfter)));
    return engine::WithDetail(full, detail);
  }
  if (!job->turn.empty()) {
    const auto [turn, first] = turns_.try_emplace(job->turn);
    if (!first) {
      turn->second.push_back(job);
      ++queued_;
      return absl::OkStatus();
    }
  }
  ready_.emplace(job->number, job);
  ++queued_;
  absl::Status woken = Wake();
  if (!woken.ok()) {
    ready_.erase(job->number);
    --queued_;
    if (!job->turn.empty()) turns_.erase(job->turn);
  }
  return woken;
}

absl::Status Pool::Wake() {
  work_.Signal();
  if (static_cast<int64_t>(ready_.size()) <= idle_ || threads_ >= options_.container_threads_max)
    return absl::OkStatus();
  absl::Status started = StartThread();
  return threads_ > 0 ? absl::OkStatus() : started;
}

absl::Status Pool::StartThread() {
  try {
    std::thread([self = shared_from_this()] { self->Work(); }).detach();
  } catch (const std::system_error& error) {
    return absl::UnavailableError(absl::StrCat("no thread can be started for container ", name_, ": ",
                                               error.what(),
                                               ": raise the limit of threads (ulimit -u), and ask again"));
  }
  ++threads_;
  return absl::OkStatus();
}

absl::Status Pool::GiveUp(const std::shared_ptr<Job>& job) {
  const absl::Duration waited = std::max(absl::ZeroDuration(), job->deadline - job->asked);
  absl::MutexLock lock(&mutex_);
  absl::Status status;
  if (job->state != Job::State::kOver) {
    ++calls_;
    ++calls_failed_;
  }
  switch (job->state) {
    case Job::State::kQueued: {
      const bool was_ready = ready_.erase(job->number) > 0;
      if (was_ready) {
        NextTurn(job->turn);
      } else {
        auto& behind = turns_[job->turn];
        behind.erase(std::find(behind.begin(), behind.end(), job));
      }
      --queued_;
      job->state = Job::State::kOver;
      status = Down(name_,
                    absl::StrCat("had no thread for a call within ", Text(waited),
                                 " (calls in it: ", under_way_, ", of these hang: ", hanging_, ")"),
                    job->verb, job->entry, kSeeThatItRuns);
      break;
    }
    case Job::State::kUnderWay:
      job->state = Job::State::kHanging;
      ++hanging_;
      [[fallthrough]];
    default:  // over: its answer is on its way to the Loop
      status = Down(name_, absl::StrCat("did not answer within ", Text(waited)), job->verb, job->entry,
                    kSeeThatItRuns);
      break;
  }
  if (!closed_) Failed(status.message());
  return status;
}

void Pool::NextTurn(const std::string& turn) {
  if (turn.empty()) return;
  const auto it = turns_.find(turn);
  assert(it != turns_.end());
  if (it->second.empty()) {
    turns_.erase(it);
    return;
  }
  std::shared_ptr<Job> next = std::move(it->second.front());
  it->second.pop_front();
  const uint64_t number = next->number;
  ready_.emplace(number, std::move(next));
  // Another thread than the caller, which may be held up on the Loop. There is one at least: it had the job
  // before.
  Wake().IgnoreError();
}

void Pool::Failed(absl::string_view message) {
  healthy_ = false;
  last_error_ = std::string(message);
  last_error_at_ = loop_->WallNow();
}

void Pool::Ended(Job* job, const absl::Status& status, absl::Duration began) {
  --under_way_;
  if (job->state == Job::State::kHanging) {
    --hanging_;  // and was counted when it was given up
  } else {
    ++calls_;
    calls_failed_ += !status.ok();
  }
  job->state = Job::State::kOver;
  if (closed_) return;  // the Loop may be gone
  const absl::Duration took = loop_->Now() - began;
  calls_time_ += took;
  if (status.ok()) {
    healthy_ = true;
  } else {
    Failed(status.message());
  }
  if (latencies_.size() < kLatencies) {
    latencies_.push_back(took);
  } else {
    latencies_[next_latency_] = took;
    next_latency_ = (next_latency_ + 1) % kLatencies;
  }
  NextTurn(job->turn);
}

Answer Pool::Ask(Job* job, absl::Duration within) {
  if (within <= absl::ZeroDuration()) {
    return Down(name_, absl::StrCat("had no thread for a call within ", Text(job->deadline - job->asked)),
                job->verb, job->entry, kSeeThatItRuns);
  }
  Answer answer;
  // Nothing here throws; what an author wrote may, and must not take the daemon with it.
  try {
    answer = job->ask(container_, within);
  } catch (const std::exception& thrown) {
    answer = absl::InternalError(absl::StrCat("it threw ", thrown.what()));
  } catch (...) {
    answer = absl::InternalError("it threw what is no std::exception");
  }
  if (!answer.ok()) return Passed(name_, job->verb, job->entry, answer.status());
  return answer;
}

void Pool::Work() {
  mutex_.Lock();
  for (;;) {
    ++idle_;
    while (!closed_ && ready_.empty()) work_.Wait(&mutex_);
    --idle_;
    if (closed_) break;
    std::shared_ptr<Job> job = std::move(ready_.begin()->second);
    ready_.erase(ready_.begin());
    job->state = Job::State::kUnderWay;
    --queued_;
    ++under_way_;
    const absl::Duration began = loop_->Now();
    mutex_.Unlock();

    Answer answer = Ask(job.get(), job->deadline - began);
    mutex_.Lock();
    Ended(job.get(), answer.status(), began);
    if (closed_) break;
    ++delivering_;
    mutex_.Unlock();
    const uint64_t number = job->number;
    job = nullptr;  // the value that it holds goes before anybody is told
    deliver_(number, std::move(answer));
    mutex_.Lock();
    --delivering_;
  }
  if (threads_ > 1) {
    --threads_;
    mutex_.Unlock();
    return;
  }
  // The last one.
  mutex_.Unlock();
  container_ = Container();
  mutex_.Lock();
  --threads_;
  mutex_.Unlock();
}

void Pool::Close() {
  absl::MutexLock lock(&mutex_);
  if (closed_) return;
  closed_ = true;
  ready_.clear();
  turns_.clear();
  queued_ = 0;
  // Destroying a container may take its time: not here, on the Loop.
  if (threads_ == 0) StartThread().IgnoreError();
  work_.SignalAll();
}

void Pool::AwaitDelivered() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](Pool* pool) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pool->mutex_) { return pool->delivering_ == 0; }, this));
}

bool Pool::AwaitEnded(absl::Time until) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithDeadline(
      absl::Condition(
          +[](Pool* pool) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pool->mutex_) { return pool->threads_ == 0; }, this),
      until);
}

ContainerStats Pool::Stats() const {
  ContainerStats stats;
  stats.name = name_;
  stats.keeps_refs = keeps_refs_;
  stats.keeps_atoms = keeps_atoms_;
  std::vector<absl::Duration> latencies;
  {
    absl::MutexLock lock(&mutex_);
    stats.healthy = healthy_;
    stats.last_error = last_error_;
    stats.last_error_at = last_error_at_;
    stats.calls = calls_;
    stats.calls_failed = calls_failed_;
    stats.calls_time = calls_time_;
    stats.calls_under_way = under_way_;
    stats.calls_hanging = hanging_;
    stats.calls_queued = queued_;
    latencies = latencies_;
  }
  if (!latencies.empty()) {
    const auto middle = latencies.begin() + static_cast<ptrdiff_t>(latencies.size() / 2);
    std::nth_element(latencies.begin(), middle, latencies.end());
    stats.latency_p50 = *middle;
  }
  return stats;
}

}  // namespace

// The Loop's side: who waits for what. Tasks and timers that are left on the Loop hold it.
class ThreadedContainers::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(engine::Loop* loop, ThreadedOptions options) : loop_(loop), options_(options) {}

  absl::Status Add(const std::string& name, Container container) {
    if (stopped_) return absl::UnavailableError("the daemon is stopping");
    const auto [it, added] = pools_.try_emplace(name);
    if (!added) return absl::AlreadyExistsError(absl::StrCat("there is a container ", name, " already"));
    it->second =
        std::make_shared<Pool>(loop_, options_, name, std::move(container),
                               [self = weak_from_this(), loop = loop_](uint64_t number, Answer answer) {
                                 loop->Post([self, number, answer = std::move(answer)]() mutable {
                                   if (const auto core = self.lock())
                                     core->Arrived(number, std::move(answer));
                                 });
                               });
    return absl::OkStatus();
  }
  void Remove(const std::string& name) {
    const auto it = pools_.find(name);
    if (it == pools_.end()) return;
    const std::shared_ptr<Pool> pool = std::move(it->second);
    pools_.erase(it);
    pool->Close();
    leaving_.erase(
        std::remove_if(leaving_.begin(), leaving_.end(), [](const auto& left) { return left.expired(); }),
        leaving_.end());
    leaving_.push_back(pool);
    TellDown([&](const Waiting& waiting) { return waiting.pool == pool; }, "is gone", kSeeThatItRuns);
  }
  std::vector<ContainerStats> Stats() const {
    std::vector<ContainerStats> stats;
    for (const auto& [name, pool] : pools_) stats.push_back(pool->Stats());
    return stats;
  }
  void Stop() {
    std::vector<std::shared_ptr<Pool>> pools;
    absl::Mutex mutex;
    bool closed = false;
    loop_->Post([&] {
      if (!stopped_) pools = Close();
      absl::MutexLock lock(&mutex);
      closed = true;
    });
    mutex.LockWhen(absl::Condition(&closed));
    mutex.Unlock();
    for (const auto& pool : pools) pool->AwaitDelivered();
    const absl::Time until = absl::Now() + options_.stop_grace;
    for (const auto& pool : pools) {
      if (!pool->AwaitEnded(until)) spdlog::warn("container_left_hanging container={}", pool->name());
    }
  }

  absl::Status Check(const std::string& container, EntryKind kind) const {
    const auto it = pools_.find(container);
    if (it != pools_.end()) return it->second->Keeps(kind) ? absl::OkStatus() : KeepsNone(container, kind);
    // Clients come and go with what they offer.
    if (stopped_ || absl::StartsWith(container, "offered:")) return Unreachable(container, "Check", "of it");
    return Refused(v1::ERROR_REASON_BAD_VALUE, container, "is not in this daemon's configuration", kind);
  }

  void Submit(const std::string& container, EntryKind kind, const char* verb, const std::string& entry,
              std::string turn, absl::Duration deadline,
              absl::AnyInvocable<Answer(Container&, absl::Duration)> ask, Got done) {
    const auto it = pools_.find(container);
    if (it == pools_.end()) return Later(std::move(done), Unreachable(container, verb, entry));
    if (!it->second->Keeps(kind)) return Later(std::move(done), KeepsNone(container, kind));
    auto job = std::make_shared<Job>();
    job->number = next_number_++;
    job->verb = verb;
    job->entry = entry;
    job->turn = std::move(turn);
    job->asked = loop_->Now();
    job->deadline = deadline;
    job->ask = std::move(ask);
    absl::Status submitted = it->second->Submit(job);
    if (!submitted.ok()) return Later(std::move(done), std::move(submitted));
    const uint64_t number = job->number;
    calls_.emplace(number, Waiting{it->second, std::move(job), std::move(done)});
    deadlines_.emplace(deadline, number);
    SetAlarm(deadline);
  }

 private:
  struct Waiting {
    std::shared_ptr<Pool> pool;
    std::shared_ptr<Job> job;
    Got done;
  };

  // The pools that there were, removed ones too.
  std::vector<std::shared_ptr<Pool>> Close() {
    stopped_ = true;
    std::vector<std::shared_ptr<Pool>> pools;
    for (const auto& [name, pool] : pools_) pools.push_back(pool);
    for (const auto& left : leaving_) {
      if (auto pool = left.lock()) pools.push_back(std::move(pool));
    }
    pools_.clear();
    leaving_.clear();
    for (const auto& pool : pools) pool->Close();
    TellDown([](const Waiting&) { return true; }, kStopping, kAskAgain);
    return pools;
  }

  absl::Status Unreachable(const std::string& container, absl::string_view verb,
                           const std::string& entry) const {
    if (stopped_) return Down(container, kStopping, verb, entry, kAskAgain);
    if (absl::StartsWith(container, "offered:")) {
      return Down(container, "is offered by no client of this daemon", verb, entry,
                  "start the program that offers it, and ask again");
    }
    return Down(container, "is not in this daemon's configuration", verb, entry,
                "add it there and start the daemon again, or ask a daemon that has it");
  }
  absl::Status Refused(v1::ErrorReason reason, const std::string& container, absl::string_view what,
                       EntryKind kind) const {
    std::vector<std::string> others;
    for (const auto& [name, pool] : pools_) {
      if (pool->Keeps(kind)) others.push_back(name);
    }
    const absl::string_view kinds = kind == EntryKind::kRef ? "refs" : "atoms";
    const std::string expected =
        others.empty() ? "inline" : absl::StrCat("inline, ", absl::StrJoin(others, ", "));
    v1::ErrorDetail detail;
    detail.set_reason(reason);
    detail.set_name(container);
    detail.set_expected(expected);
    return engine::WithDetail(absl::FailedPreconditionError(absl::StrCat(
                                  "container ", container, " ", what, ": here ", kinds, " are kept by ",
                                  expected, ": choose one of these, or configure it")),
                              detail);
  }
  absl::Status KeepsNone(const std::string& container, EntryKind kind) const {
    return Refused(v1::ERROR_REASON_UNSUPPORTED, container,
                   kind == EntryKind::kRef ? "keeps no refs" : "keeps no atoms", kind);
  }

  void Later(Got done, absl::Status status) {
    loop_->Post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
  }
  void Arrived(uint64_t number, Answer answer) {
    const auto it = calls_.find(number);
    if (it == calls_.end()) return;  // given up: too late
    Waiting waiting = Take(it);
    waiting.done(std::move(answer));
  }
  // Before it is told: that may ask again.
  Waiting Take(absl::flat_hash_map<uint64_t, Waiting>::iterator it) {
    Waiting waiting = std::move(it->second);
    deadlines_.erase({waiting.job->deadline, waiting.job->number});
    calls_.erase(it);
    return waiting;
  }
  template <typename Which>
  void TellDown(Which which, absl::string_view what, absl::string_view remedy) {
    std::vector<uint64_t> numbers;
    for (const auto& [number, waiting] : calls_) {
      if (which(waiting)) numbers.push_back(number);
    }
    std::sort(numbers.begin(), numbers.end());
    for (const uint64_t number : numbers) {
      Waiting waiting = Take(calls_.find(number));
      waiting.done(Down(waiting.pool->name(), what, waiting.job->verb, waiting.job->entry, remedy));
    }
  }
  void SetAlarm(absl::Duration when) {
    if (when >= alarm_) return;
    alarm_ = when;
    loop_->At(when, [self = shared_from_this(), when] {
      if (self->alarm_ != when) return;  // an earlier one has overtaken it
      self->alarm_ = absl::InfiniteDuration();
      self->GiveUpDue();
    });
  }
  void GiveUpDue() {
    const absl::Duration now = loop_->Now();
    while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
      Waiting waiting = Take(calls_.find(deadlines_.begin()->second));
      waiting.done(waiting.pool->GiveUp(waiting.job));
    }
    if (!deadlines_.empty()) SetAlarm(deadlines_.begin()->first);
  }

  engine::Loop* const loop_;
  const ThreadedOptions options_;
  std::map<std::string, std::shared_ptr<Pool>> pools_;
  std::vector<std::weak_ptr<Pool>> leaving_;  // removed, with calls that have not returned
  absl::flat_hash_map<uint64_t, Waiting> calls_;
  std::set<std::pair<absl::Duration, uint64_t>> deadlines_;
  absl::Duration alarm_ = absl::InfiniteDuration();
  uint64_t next_number_ = 1;
  bool stopped_ = false;
};

namespace {

Answer Done(absl::Status status) {
  if (!status.ok()) return status;
  return std::nullopt;
}

engine::Containers::Got Told(engine::Containers::Told done) {
  return [done = std::move(done)](Answer answer) mutable { done(answer.status()); };
}

// Writes under one stamp go in order: one that was given up and is late does not pass what erases it.
std::string TurnOf(const std::string& name, const std::string& stamp) {
  return absl::StrCat("ref ", stamp, " ", name);
}
std::string TurnOf(const std::string& name) { return absl::StrCat("atom ", name); }

}  // namespace

ThreadedContainers::ThreadedContainers(engine::Loop* loop, ThreadedOptions options)
    : core_(std::make_shared<Core>(loop, options)) {}

ThreadedContainers::~ThreadedContainers() { Stop(); }

absl::Status ThreadedContainers::Add(const std::string& name, Container container) {
  return core_->Add(name, std::move(container));
}

void ThreadedContainers::Remove(const std::string& name) { core_->Remove(name); }

std::vector<ContainerStats> ThreadedContainers::Stats() const { return core_->Stats(); }

void ThreadedContainers::Stop() { core_->Stop(); }

absl::Status ThreadedContainers::Check(const std::string& container, EntryKind kind) {
  return core_->Check(container, kind);
}

void ThreadedContainers::Init(const std::string& container, const std::string& name, absl::Duration deadline,
                              Told done) {
  core_->Submit(
      container, EntryKind::kRef, "Init", name, "", deadline,
      [name](Container& in, absl::Duration within) { return Done(in.refs->Init(name, within)); },
      containers::Told(std::move(done)));
}

void ThreadedContainers::Destroy(const std::string& container, const std::string& name,
                                 absl::Duration deadline, Told done) {
  core_->Submit(
      container, EntryKind::kRef, "Destroy", name, "", deadline,
      [name](Container& in, absl::Duration within) { return Done(in.refs->Destroy(name, within)); },
      containers::Told(std::move(done)));
}

void ThreadedContainers::GetStateAt(const std::string& container, const std::string& name,
                                    const std::string& stamp, absl::Duration deadline, Got done) {
  core_->Submit(
      container, EntryKind::kRef, "GetStateAt", name, "", deadline,
      [name, stamp](Container& in, absl::Duration within) {
        return in.refs->GetStateAt(name, stamp, within);
      },
      std::move(done));
}

void ThreadedContainers::SetStateAt(const std::string& container, const std::string& name,
                                    const std::string& stamp, Value value, absl::Duration deadline,
                                    Told done) {
  core_->Submit(
      container, EntryKind::kRef, "SetStateAt", name, TurnOf(name, stamp), deadline,
      [name, stamp, value = std::move(value)](Container& in, absl::Duration within) {
        return Done(in.refs->SetStateAt(name, stamp, value, within));
      },
      containers::Told(std::move(done)));
}

void ThreadedContainers::DeleteStateAt(const std::string& container, const std::string& name,
                                       const std::string& stamp, absl::Duration deadline, Told done) {
  core_->Submit(
      container, EntryKind::kRef, "DeleteStateAt", name, TurnOf(name, stamp), deadline,
      [name, stamp](Container& in, absl::Duration within) {
        return Done(in.refs->DeleteStateAt(name, stamp, within));
      },
      containers::Told(std::move(done)));
}

void ThreadedContainers::InitAtom(const std::string& container, const std::string& name,
                                  absl::Duration deadline, Told done) {
  core_->Submit(
      container, EntryKind::kAtom, "Init", name, TurnOf(name), deadline,
      [name](Container& in, absl::Duration within) { return Done(in.atoms->Init(name, within)); },
      containers::Told(std::move(done)));
}

void ThreadedContainers::DestroyAtom(const std::string& container, const std::string& name,
                                     engine::Version version, absl::Duration deadline, Told done) {
  core_->Submit(
      container, EntryKind::kAtom, "Destroy", name, TurnOf(name), deadline,
      [name, version](Container& in, absl::Duration within) {
        return Done(in.atoms->Destroy(name, version, within));
      },
      containers::Told(std::move(done)));
}

void ThreadedContainers::GetState(const std::string& container, const std::string& name,
                                  absl::Duration deadline, Got done) {
  core_->Submit(
      container, EntryKind::kAtom, "GetState", name, TurnOf(name), deadline,
      [name](Container& in, absl::Duration within) { return in.atoms->GetState(name, within); },
      std::move(done));
}

void ThreadedContainers::SetState(const std::string& container, const std::string& name, Value value,
                                  engine::Version version, absl::Duration deadline, Told done) {
  core_->Submit(
      container, EntryKind::kAtom, "SetState", name, TurnOf(name), deadline,
      [name, value = std::move(value), version](Container& in, absl::Duration within) {
        return Done(in.atoms->SetState(name, value, version, within));
      },
      containers::Told(std::move(done)));
}

}  // namespace stm::containers
