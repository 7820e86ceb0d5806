// DaemonLoop is one daemon's Loop where a World has many: its tasks and timers end with it.
#ifndef STM_TESTS_SIMULATION_DAEMON_LOOP_H_
#define STM_TESTS_SIMULATION_DAEMON_LOOP_H_

#include <memory>
#include <utility>

#include "engine/loop.h"
#include "tests/simulation/world.h"

namespace stm::sim {

class DaemonLoop final : public engine::Loop, public engine::Executor {
 public:
  explicit DaemonLoop(World* world) : world_(world) {}

  absl::Duration Now() override { return world_->Now(); }
  Instant WallNow() override { return world_->WallNow(); }
  void Post(engine::Task task) override { world_->Post(WhileUp(std::move(task))); }
  void At(absl::Duration when, engine::Task task) override { world_->At(when, WhileUp(std::move(task))); }
  uint64_t Random() override { return world_->Random(); }
  void Run(engine::Work work, engine::Task task) override { world_->Run(work, WhileUp(std::move(task))); }

  // kill -9: nothing that was posted runs any more.
  void Die() { up_ = std::make_shared<const bool>(true); }

 private:
  engine::Task WhileUp(engine::Task task) {
    return [up = std::weak_ptr<const bool>(up_), task = std::move(task)]() mutable {
      if (!up.expired()) task();
    };
  }

  World* const world_;
  std::shared_ptr<const bool> up_ = std::make_shared<const bool>(true);
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_DAEMON_LOOP_H_
