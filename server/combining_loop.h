// CombiningLoop is the program's Loop and Executor: a flat combiner. Whoever posts to an idle Loop runs it, in its own
// thread; what its tasks give to Run that same thread does once it has left the Loop, answers first, group commits
// included (the thread that closed a batch writes it). So a commit alone needs no second thread, and an uncontended Post
// costs a fraction of a microsecond. Never call Post or Run with a lock held: both may do any waiting work before they return.
// Always: at most one task at a time, in order of posting; a thread that owes work leaves the Loop when its queue is
// empty or after kTasksOwing further tasks, and a thread of the pool takes over what is left.
#ifndef STM_SERVER_COMBINING_LOOP_H_
#define STM_SERVER_COMBINING_LOOP_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/inlined_vector.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/loop.h"

namespace stm::server {

class CombiningLoop final : public engine::Loop, public engine::Executor {
 public:
  struct Options {
    int pool_threads = 4;  // at least 2; half of them at most do heavy work
  };

  // Tasks that a thread which owes answers or a write may still run before it hands the Loop over.
  static constexpr size_t kTasksOwing = 64;

  CombiningLoop();
  explicit CombiningLoop(Options options);
  // Stops.
  ~CombiningLoop() override;
  CombiningLoop(const CombiningLoop&) = delete;
  CombiningLoop& operator=(const CombiningLoop&) = delete;

  // Loop
  absl::Duration Now() override;
  Instant WallNow() override;
  void Post(engine::Task task) override;
  void At(absl::Duration when, engine::Task task) override;
  uint64_t Random() override;

  // Executor
  void Run(engine::Work work, engine::Task task) override;

  // Ends the timers (those not due are dropped), finishes all tasks and work, and joins the threads. Nobody else may
  // post meanwhile, but what is under way; afterwards the caller's own thread does all it posts. Not on the Loop.
  void Stop();

 private:
  struct Node {
    std::atomic<Node*> next{nullptr};
    engine::Task task;
  };
  // What one thread has to do once it has left this Loop.
  struct Debt {
    explicit Debt(CombiningLoop* of) : loop(of) {}
    CombiningLoop* const loop;
    Debt* outer = nullptr;  // of another Loop whose task posted to this one
    bool in_task = false;
    absl::InlinedVector<engine::Task, 16> answers;
    size_t answered = 0;
    absl::InlinedVector<engine::Task, 2> writes;
    bool owes() const { return answered < answers.size() || !writes.empty(); }
  };
  struct Timer {
    absl::Duration when;
    uint64_t sequence;  // equal times: in order of At
    engine::Task task;
  };
  static bool Later(const Timer& a, const Timer& b) {
    return a.when != b.when ? a.when > b.when : a.sequence > b.sequence;
  }

  // Queues; true: the Loop was idle, and the caller must see that it runs.
  bool Push(engine::Task task);
  engine::Task Pop();
  // Runs tasks until there are none, or until this thread should pay its debt first.
  void RunTasks(Debt* debt);
  void Pay(Debt* debt);
  void PayAnswers(Debt* debt);
  // Runs the Loop in this thread, which holds it, and pays.
  void Lead();

  void GiveToPoolFirst(engine::Task task);
  void PoolThread();
  void TimerThread();
  bool PoolHasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(pool_mutex_) {
    return stopping_ || !light_.empty() || (!heavy_.empty() && heavy_running_ < heavy_threads_max_);
  }

  static thread_local Debt* debt_;  // of this thread; null: it is not in a Loop's hands

  const Options options_;
  const int heavy_threads_max_;

  // Many producers, one consumer (Vyukov): producers swing head_, the Loop's present runner follows tail_.
  // Cache lines apart, by what stands between them: an over-aligned object on a stack is misaligned under gcc's ASan.
  std::atomic<Node*> head_;
  char apart_from_head_[64];
  Node* tail_;
  char apart_from_tail_[64];
  // Tasks posted and not yet finished. From 0 to 1: the Loop is taken; back to 0: it is free.
  std::atomic<int64_t> unfinished_{0};
  char apart_from_unfinished_[64];
  uint64_t random_[4];  // xoshiro256**

  absl::Mutex pool_mutex_;
  std::deque<engine::Task> light_ ABSL_GUARDED_BY(pool_mutex_);
  std::deque<engine::Task> heavy_ ABSL_GUARDED_BY(pool_mutex_);
  int heavy_running_ ABSL_GUARDED_BY(pool_mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(pool_mutex_) = false;

  absl::Mutex timer_mutex_;
  absl::CondVar timer_changed_;
  std::vector<Timer> timers_ ABSL_GUARDED_BY(timer_mutex_);  // a heap, soonest first
  uint64_t timer_sequence_ ABSL_GUARDED_BY(timer_mutex_) = 0;
  absl::Duration timer_wakes_ ABSL_GUARDED_BY(timer_mutex_) = absl::InfiniteDuration();
  bool timers_stopping_ ABSL_GUARDED_BY(timer_mutex_) = false;

  std::atomic<bool> stopped_{false};
  std::vector<std::thread> threads_;
  std::thread timer_thread_;
};

}  // namespace stm::server

#endif  // STM_SERVER_COMBINING_LOOP_H_
