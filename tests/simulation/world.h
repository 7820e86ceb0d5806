// World is a simulation's time and order: the daemon's Loop and Executor, and what is outside the daemon (its
// clients and the network), in one thread. Loop tasks run in order of posting; executor tasks in any order;
// outside events at their time; which of these goes next is drawn from the seed. Time stands while a step
// runs and jumps to the next event when nothing is ready. Always: two worlds with one seed, given the same
// tasks, take the same steps.
#ifndef STM_TESTS_SIMULATION_WORLD_H_
#define STM_TESTS_SIMULATION_WORLD_H_

#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/loop.h"
#include "tests/simulation/chance.h"

namespace stm::sim {

class World final : public engine::Loop, public engine::Executor {
 public:
  explicit World(uint64_t seed);
  ~World() override;

  // Loop
  absl::Duration Now() override { return now_; }
  Instant WallNow() override;
  void Post(engine::Task task) override { loop_.push_back(std::move(task)); }
  void At(absl::Duration when, engine::Task task) override;
  uint64_t Random() override { return chance_.Bits(); }

  // Executor
  void Run(engine::Work work, engine::Task task) override;

  // Runs outside the daemon `delay` from now; a crash leaves it be.
  void After(absl::Duration delay, engine::Task task);
  // What calendars say moves by this from now on.
  void JumpWall(absl::Duration by) { wall_offset_ += by; }
  // How long the disk holds up a write, at most.
  void SetWriteDelayMax(absl::Duration delay) { write_delay_max_ = delay; }

  // Runs one task or event. False: nothing will ever happen any more.
  bool Step();
  // The daemon dies: its tasks, timers and work are gone.
  void DropDaemon();

  Chance& chance() { return chance_; }
  int64_t nanos() const { return absl::ToInt64Nanoseconds(now_); }
  uint64_t steps() const { return steps_; }
  // Mixed from every step and everything traced: equal for equal runs.
  uint64_t trace() const { return trace_; }
  void Trace(uint64_t what);

 private:
  struct Ready {
    absl::Duration when;
    engine::Task task;
  };
  using Agenda = std::multimap<absl::Duration, engine::Task>;  // equal times: in order of insertion

  void RunLoop();
  void RunWork();
  void RunOutside();

  Chance chance_;
  absl::Duration now_ = absl::Seconds(1000);
  absl::Duration wall_offset_ = absl::ZeroDuration();
  absl::Duration write_delay_max_ = absl::Milliseconds(1);
  std::deque<engine::Task> loop_;
  Agenda timers_;
  std::vector<Ready> work_;
  Agenda outside_;
  uint64_t steps_ = 0;
  uint64_t trace_ = 0;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_WORLD_H_
