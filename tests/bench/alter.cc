#include "tests/bench/alter.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"

namespace stm::bench {

namespace {

// A transaction's third run is the first that may have to wait.
constexpr uint32_t kRunsAtOnce = 3;

}  // namespace

Timer::Timer() : thread_([this] { Work(); }) {}

Timer::~Timer() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    changed_.Signal();
  }
  thread_.join();
}

void Timer::After(double seconds, std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  due_.emplace(Now() + seconds, std::move(task));
  changed_.Signal();
}

void Timer::Work() {
  absl::MutexLock lock(&mutex_);
  while (!stop_) {
    if (due_.empty()) {
      changed_.Wait(&mutex_);
      continue;
    }
    const double wait = due_.begin()->first - Now();
    if (wait > 0) {
      changed_.WaitWithTimeout(&mutex_, absl::Seconds(wait));
      continue;
    }
    const std::function<void()> task = std::move(due_.begin()->second);
    due_.erase(due_.begin());
    mutex_.Unlock();
    task();
    mutex_.Lock();
  }
}

Alter::Alter(wire::RefService::Stub* refs, wire::TransactionService::Stub* transactions, Known* known, Timer* timer,
             const std::string& name)
    : refs_(refs), transactions_(transactions), known_(known), timer_(timer), random_(std::random_device{}()) {
  get_.add_names(name);
  await_.add_reads(name);
  commit_.add_reads(name);
  wire::Write* write = commit_.add_writes();
  write->set_name(name);
  write->set_kind(wire::ENTRY_KIND_REF);
}

void Alter::Stop() {
  absl::MutexLock lock(&mutex_);
  stop_ = true;
  if (sleep_.has_value()) sleep_->TryCancel();
}

void Alter::Transact() {
  began_ = Now();
  runs_ = 1;
  reservation_ = 0;
  Read();
}

void Alter::Read() {
  Ready(&context_);
  get_.mutable_at()->mutable_seen()->set_version(known_->newest.load(std::memory_order_relaxed));
  get_.mutable_at()->mutable_seen()->set_store(known_->store);
  refs_->async()->GetRefs(&*context_, &get_, &got_, [this](const grpc::Status& status) {
    CheckOk(status, "GetRefs");
    known_->Learn(got_.snapshot());
    Body(got_.snapshot(), got_.entries(0).value());
  });
}

void Alter::Body(int64_t snapshot, const wire::Value& value) {
  if (!Compute(value, commit_.mutable_writes(0)->mutable_set())) return Sleep(snapshot);
  commit_.set_snapshot(snapshot);
  ids_.Next(*known_, commit_.mutable_id());
  if (runs_ > 1) {
    wire::Age* age = commit_.mutable_age();
    const double elapsed = Now() - began_;
    const auto seconds = static_cast<int64_t>(elapsed);
    age->mutable_since_first_run()->set_seconds(seconds);
    age->mutable_since_first_run()->set_nanos(static_cast<int32_t>((elapsed - static_cast<double>(seconds)) * 1e9));
    age->set_runs(runs_);
    age->set_reservation(reservation_);
  } else {
    commit_.clear_age();
  }
  Ready(&context_);
  transactions_->async()->Commit(&*context_, &commit_, &committed_, [this](const grpc::Status& status) {
    CheckOk(status, "Commit");
    if (committed_.has_conflict()) return RunAgain();
    known_->Learn(VersionOf(committed_, "alter"));
    Committed();
  });
}

void Alter::RunAgain() {
  const wire::Conflict& conflict = committed_.conflict();
  known_->Learn(conflict.snapshot());
  ++runs_;
  reservation_ = conflict.reservation();
  if (conflict.has_reserved_for() || runs_ <= kRunsAtOnce) return BodyOnFresh(conflict);
  const double backoff_max = std::min(0.1, 0.001 * static_cast<double>(1u << std::min(runs_ - kRunsAtOnce, 7u)));
  timer_->After(std::uniform_real_distribution<double>(0.001, backoff_max)(random_),
                [this] { BodyOnFresh(committed_.conflict()); });
}

template <typename Answer>
void Alter::BodyOnFresh(const Answer& answer) {
  if (answer.fresh_size() == 0) return Read();
  // A copy: the answer's message is overwritten by the next one.
  const wire::Value value = answer.fresh(0).value();
  Body(answer.snapshot(), value);
}

void Alter::Sleep(int64_t snapshot) {
  grpc::ClientContext* context = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    if (!stop_) context = &sleep_.emplace();
  }
  if (context == nullptr) return Stopped();
  await_.set_snapshot(snapshot);
  await_.mutable_seen()->set_version(known_->newest.load(std::memory_order_relaxed));
  await_.mutable_seen()->set_store(known_->store);
  await_.set_reservation(reservation_);
  // No deadline: it is the wait.
  transactions_->async()->AwaitChange(context, &await_, &changed_, [this](const grpc::Status& status) {
    bool stopped = false;
    {
      absl::MutexLock lock(&mutex_);
      stopped = stop_;
    }
    if (stopped) return Stopped();
    CheckOk(status, "AwaitChange");
    known_->Learn(changed_.snapshot());
    wakes_.fetch_add(1, std::memory_order_relaxed);
    // It waited for a change, not for its turn: its age begins anew.
    began_ = Now();
    runs_ = 1;
    reservation_ = 0;
    BodyOnFresh(changed_);
  });
}

}  // namespace stm::bench
