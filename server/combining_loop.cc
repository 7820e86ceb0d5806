#include "server/combining_loop.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cassert>
#include <random>
#include <utility>

#include "server/corks.h"

namespace stm::server {
namespace {

// The timer thread looks at the clock at least this often: its condition variable waits on a clock that may be set.
constexpr absl::Duration kTimerNap = absl::Seconds(1);

timespec Read(clockid_t clock) {
  timespec now;
  const int failed = clock_gettime(clock, &now);
  assert(failed == 0);
  static_cast<void>(failed);
  return now;
}

uint64_t RotateLeft(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

void Relax(int spins) {
  // A producer between its two stores was put off the processor: let it have this one.
  if (spins > 64) {
    sched_yield();
  } else {
    __builtin_ia32_pause();
  }
}

}  // namespace

thread_local CombiningLoop::Debt* CombiningLoop::debt_ = nullptr;

CombiningLoop::CombiningLoop() : CombiningLoop(Options()) {}

CombiningLoop::CombiningLoop(Options options)
    : options_(options), heavy_threads_max_(std::max(1, options.pool_threads / 2)), head_(new Node), tail_(head_.load()) {
  assert(options_.pool_threads >= 2);
  std::random_device device;
  for (uint64_t& word : random_) word = (uint64_t{device()} << 32) | device();
  random_[0] |= 1;  // xoshiro must not begin with all zeros
  for (int i = 0; i < options_.pool_threads; ++i) threads_.emplace_back([this] { PoolThread(); });
  timer_thread_ = std::thread([this] { TimerThread(); });
}

CombiningLoop::~CombiningLoop() {
  Stop();
  assert(unfinished_.load() == 0);
  delete tail_;
}

absl::Duration CombiningLoop::Now() { return absl::DurationFromTimespec(Read(CLOCK_BOOTTIME)); }

Instant CombiningLoop::WallNow() {
  const timespec now = Read(CLOCK_REALTIME);
  return Instant{now.tv_sec, static_cast<int32_t>(now.tv_nsec)};
}

uint64_t CombiningLoop::Random() {
  const uint64_t result = RotateLeft(random_[1] * 5, 7) * 9;
  const uint64_t shifted = random_[1] << 17;
  random_[2] ^= random_[0];
  random_[3] ^= random_[1];
  random_[1] ^= random_[2];
  random_[0] ^= random_[3];
  random_[2] ^= shifted;
  random_[3] = RotateLeft(random_[3], 45);
  return result;
}

bool CombiningLoop::Push(engine::Task task) {
  Node* node = new Node;
  node->task = std::move(task);
  Node* before = head_.exchange(node, std::memory_order_acq_rel);
  before->next.store(node, std::memory_order_release);
  // After the link, so that whoever sees the count finds that many nodes, or a producer about to link them.
  return unfinished_.fetch_add(1, std::memory_order_acq_rel) == 0;
}

engine::Task CombiningLoop::Pop() {
  Node* next;
  for (int spins = 0; (next = tail_->next.load(std::memory_order_acquire)) == nullptr; ++spins) Relax(spins);
  delete tail_;
  tail_ = next;
  return std::move(next->task);
}

void CombiningLoop::Post(engine::Task task) {
  if (!Push(std::move(task))) return;
  Lead();
}

void CombiningLoop::Lead() {
  // A thread that is paying its debt and posts runs the Loop inside Post but pays nothing there: the payment that is
  // under way goes on with what was added. So the stack does not grow.
  if (debt_ != nullptr && debt_->loop == this) {
    assert(!debt_->in_task);
    RunTasks(debt_);
    return;
  }
  Debt debt(this);
  debt.outer = debt_;
  debt_ = &debt;
  RunTasks(&debt);
  Pay(&debt);
  debt_ = debt.outer;
}

void CombiningLoop::RunTasks(Debt* debt) {
  size_t owing = 0;
  for (;;) {
    int64_t count = unfinished_.load(std::memory_order_acquire);
    if (owing > 0) count = std::min<int64_t>(count, kTasksOwing - owing);
    int64_t ran = 0;
    while (ran < count) {
      debt->in_task = true;
      {
        engine::Task task = Pop();
        std::move(task)();
      }
      debt->in_task = false;
      ++ran;
      if (debt->owes() && ++owing >= kTasksOwing) break;
    }
    if (unfinished_.fetch_sub(ran, std::memory_order_acq_rel) == ran) return;
    if (owing >= kTasksOwing) {
      GiveToPoolFirst([this] { Lead(); });
      return;
    }
  }
}

void CombiningLoop::Pay(Debt* debt) {
  // Answers first: that costs the least CPU a commit, for the same rate. No thread is woken, and batches are larger.
  while (debt->owes()) {
    PayAnswers(debt);
    if (debt->writes.empty()) continue;
    // Out of the list before it runs: it may add to the list.
    engine::Task write = std::move(debt->writes.front());
    debt->writes.erase(debt->writes.begin());
    std::move(write)();
  }
}

void CombiningLoop::PayAnswers(Debt* debt) {
  while (debt->answered < debt->answers.size()) {
    // Of one task, which sends a batch's answers: what comes after may take its time.
    Corks corks;
    engine::Task answer = std::move(debt->answers[debt->answered++]);
    std::move(answer)();
  }
  debt->answers.clear();
  debt->answered = 0;
}

void CombiningLoop::Run(engine::Work work, engine::Task task) {
  const bool mine = debt_ != nullptr && debt_->loop == this;
  const bool stopped = stopped_.load(std::memory_order_relaxed);
  if (mine && (stopped || work != engine::Work::kHeavy)) {
    if (work == engine::Work::kWrite) {
      debt_->writes.push_back(std::move(task));
    } else {
      debt_->answers.push_back(std::move(task));
    }
    return;
  }
  if (stopped) {
    std::move(task)();
    return;
  }
  absl::MutexLock lock(&pool_mutex_);
  (work == engine::Work::kHeavy ? heavy_ : light_).push_back(std::move(task));
}

void CombiningLoop::GiveToPoolFirst(engine::Task task) {
  if (stopped_.load(std::memory_order_relaxed)) {
    debt_->answers.push_back(std::move(task));
    return;
  }
  absl::MutexLock lock(&pool_mutex_);
  light_.push_front(std::move(task));
}

void CombiningLoop::PoolThread() {
  pool_mutex_.Lock();
  for (;;) {
    pool_mutex_.Await(absl::Condition(
        +[](CombiningLoop* loop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop->pool_mutex_) { return loop->PoolHasWork(); },
        this));
    const bool light = !light_.empty();
    const bool heavy = !light && !heavy_.empty() && heavy_running_ < heavy_threads_max_;
    // Stopping, and nothing to do for this thread; one that is still busy may bring more, and does that itself.
    if (!light && !heavy) break;
    std::deque<engine::Task>& from = light ? light_ : heavy_;
    engine::Task task = std::move(from.front());
    from.pop_front();
    heavy_running_ += heavy;
    pool_mutex_.Unlock();
    std::move(task)();
    task = nullptr;  // what it holds goes before the lock is taken
    pool_mutex_.Lock();
    heavy_running_ -= heavy;
  }
  pool_mutex_.Unlock();
}

void CombiningLoop::At(absl::Duration when, engine::Task task) {
  bool sooner;
  {
    absl::MutexLock lock(&timer_mutex_);
    if (timers_stopping_) return;
    timers_.push_back(Timer{when, timer_sequence_++, std::move(task)});
    std::push_heap(timers_.begin(), timers_.end(), Later);
    sooner = when < timer_wakes_;
  }
  if (sooner) timer_changed_.Signal();
}

void CombiningLoop::TimerThread() {
  std::vector<engine::Task> due;
  for (;;) {
    {
      absl::MutexLock lock(&timer_mutex_);
      while (!timers_stopping_) {
        const absl::Duration now = Now();
        while (!timers_.empty() && timers_.front().when <= now) {
          std::pop_heap(timers_.begin(), timers_.end(), Later);
          due.push_back(std::move(timers_.back().task));
          timers_.pop_back();
        }
        if (!due.empty()) break;
        timer_wakes_ = timers_.empty() ? absl::InfiniteDuration() : timers_.front().when;
        timer_changed_.WaitWithTimeout(&timer_mutex_, std::min(timer_wakes_ - now, kTimerNap));
        timer_wakes_ = -absl::InfiniteDuration();  // awake: no signal is needed
      }
      if (timers_stopping_) return;
    }
    for (engine::Task& task : due) {
      // Never the leader itself: a write would hold the other timers up.
      if (Push(std::move(task))) GiveToPoolFirst([this] { Lead(); });
    }
    due.clear();
  }
}

void CombiningLoop::Stop() {
  if (stopped_.load()) return;
  assert(debt_ == nullptr || debt_->loop != this);
  {
    absl::MutexLock lock(&timer_mutex_);
    timers_stopping_ = true;
  }
  timer_changed_.Signal();
  timer_thread_.join();
  {
    absl::MutexLock lock(&pool_mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
  stopped_.store(true);
  // Whatever a thread that was not ours gave to the pool while its threads were leaving.
  for (;;) {
    engine::Task task;
    {
      absl::MutexLock lock(&pool_mutex_);
      std::deque<engine::Task>& from = light_.empty() ? heavy_ : light_;
      if (from.empty()) break;
      task = std::move(from.front());
      from.pop_front();
    }
    std::move(task)();
  }
  std::vector<Timer> dropped;
  absl::MutexLock lock(&timer_mutex_);
  dropped.swap(timers_);
}

}  // namespace stm::server
