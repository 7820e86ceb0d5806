// A Loop and an Executor in one, turned by hand: tasks run one at a time, in order of posting, on the
// caller's thread.
#ifndef STM_TESTS_BACKENDS_INLINE_LOOP_H_
#define STM_TESTS_BACKENDS_INLINE_LOOP_H_

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "engine/loop.h"

namespace stm {

class InlineLoop : public engine::Loop, public engine::Executor {
 public:
  absl::Duration Now() override { return now_; }
  Instant WallNow() override { return {1'795'316'400 + absl::ToInt64Seconds(now_), 123456000}; }
  void Post(engine::Task task) override { tasks_.push_back(std::move(task)); }
  void At(absl::Duration when, engine::Task task) override { timers_.emplace(when, std::move(task)); }
  uint64_t Random() override { return random_ = random_ * 6364136223846793005u + 1442695040888963407u; }
  void Run(engine::Work work, engine::Task task) override {
    if (work == engine::Work::kWrite) ++writes;
    tasks_.push_back(std::move(task));
  }

  // Runs all that is due, and what comes of it.
  void Turn() {
    while (Step()) {
    }
  }
  bool Step() {
    if (tasks_.empty()) return false;
    engine::Task task = std::move(tasks_.front());
    tasks_.pop_front();
    task();
    return true;
  }
  void Advance(absl::Duration by) {
    now_ += by;
    while (!timers_.empty() && timers_.begin()->first <= now_) {
      engine::Task task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      task();
      Turn();
    }
    Turn();
  }
  // As a crash does.
  void Forget() {
    tasks_.clear();
    timers_.clear();
  }
  void Seed(uint64_t seed) { random_ = seed; }

  int writes = 0;  // tasks of Work::kWrite

 private:
  absl::Duration now_ = absl::Seconds(1000);
  std::deque<engine::Task> tasks_;
  std::multimap<absl::Duration, engine::Task> timers_;
  uint64_t random_ = 7;
};

}  // namespace stm

#endif  // STM_TESTS_BACKENDS_INLINE_LOOP_H_
