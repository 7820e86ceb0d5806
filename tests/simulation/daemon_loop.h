// DaemonLoop is one daemon's Loop where a World has many: its tasks and timers end with it, and it can stand
// still.
#ifndef STM_TESTS_SIMULATION_DAEMON_LOOP_H_
#define STM_TESTS_SIMULATION_DAEMON_LOOP_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/loop.h"
#include "tests/simulation/world.h"

namespace stm::sim {

class DaemonLoop final : public engine::Loop, public engine::Executor {
 public:
  explicit DaemonLoop(World* world) : world_(world) {}
  ~DaemonLoop() override { Die(); }

  absl::Duration Now() override { return world_->Now(); }
  Instant WallNow() override { return world_->WallNow(); }
  void Post(engine::Task task) override { world_->Post(Turn(std::move(task))); }
  void At(absl::Duration when, engine::Task task) override { world_->At(when, Turn(std::move(task))); }
  uint64_t Random() override { return world_->Random(); }
  void Run(engine::Work work, engine::Task task) override { world_->Run(work, Turn(std::move(task))); }

  // kill -9: nothing that was posted runs any more, all of it is gone.
  void Die() {
    const std::shared_ptr<Tasks> dead = std::exchange(tasks_, nullptr);
    // What a task holds may post as it goes: that is dropped.
    if (dead != nullptr) dead->waiting.clear();
  }
  // SIGSTOP: no turn comes; SIGCONT: those that would have come do, in their order.
  void StandStill() { tasks_->still = true; }
  void GoOn() {
    tasks_->still = false;
    for (const uint64_t number : std::exchange(tasks_->due, {})) world_->Post(TurnOf(number));
  }
  bool still() const { return tasks_ != nullptr && tasks_->still; }

 private:
  struct Tasks {
    std::map<uint64_t, engine::Task> waiting;
    uint64_t next = 1;
    bool still = false;
    std::vector<uint64_t> due;
  };

  engine::Task Turn(engine::Task task) {
    if (tasks_ == nullptr) return [] {};
    tasks_->waiting.emplace(tasks_->next, std::move(task));
    return TurnOf(tasks_->next++);
  }
  engine::Task TurnOf(uint64_t number) {
    return [weak = std::weak_ptr<Tasks>(tasks_), number] {
      const std::shared_ptr<Tasks> tasks = weak.lock();
      if (tasks == nullptr) return;
      if (tasks->still) return tasks->due.push_back(number);
      auto task = tasks->waiting.extract(number);
      task.mapped()();
    };
  }

  World* const world_;
  std::shared_ptr<Tasks> tasks_ = std::make_shared<Tasks>();
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_DAEMON_LOOP_H_
