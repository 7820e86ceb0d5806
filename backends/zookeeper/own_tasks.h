// OwnTasks are the Loop's tasks of one object, its last member: what is still to come when it goes does not
// run. On the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_OWN_TASKS_H_
#define STM_BACKENDS_ZOOKEEPER_OWN_TASKS_H_

#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "engine/loop.h"

namespace stm::zookeeper {

class OwnTasks {
 public:
  // The loop outlives it.
  explicit OwnTasks(engine::Loop* loop) : loop_(loop) {}

  void Post(engine::Task task) { loop_->Post(WhileAlive(std::move(task))); }
  void After(absl::Duration time, engine::Task task) {
    loop_->At(loop_->Now() + time, WhileAlive(std::move(task)));
  }

 private:
  engine::Task WhileAlive(engine::Task task) const {
    return [alive = std::weak_ptr<const bool>(alive_), task = std::move(task)]() mutable {
      if (!alive.expired()) task();
    };
  }

  engine::Loop* const loop_;
  const std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_OWN_TASKS_H_
