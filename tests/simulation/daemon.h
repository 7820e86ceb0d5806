// Daemon is one stmd in a simulation: the real Engine on a real coordinator, and its locks and leases. It
// starts, dies and starts again; `life` numbers its starts, and those of all daemons of a run together; what
// was sent to one life never reaches another. What it is made on, a SimDrive or a SimEnsemble, is its kind's
// affair.
#ifndef STM_TESTS_SIMULATION_DAEMON_H_
#define STM_TESTS_SIMULATION_DAEMON_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/locks/calls.h"
#include "engine/locks/leases.h"
#include "engine/settler.h"
#include "tests/checkers/history.h"
#include "tests/simulation/sim_containers.h"
#include "tests/simulation/world.h"

namespace stm::sim {

// What is counted, no gauges.
void AddStats(const engine::Stats& from, engine::Stats* to);

// What a daemon keeps locks and sessions by.
struct LockOptions {
  engine::LockBounds bounds;
  engine::LeaseOptions leases;
  engine::LeaseCanaries canaries;
};

class Daemon {
 public:
  virtual ~Daemon();

  // Before the first start: where some of the entries' values are kept. It outlives the daemon.
  void UseStore(SimStore* outside) { outside_ = outside; }
  // Recovers. ready() or start_failed() some steps later.
  void Start();

  bool up() const { return engine_ != nullptr; }
  bool ready() const { return ready_; }
  const std::optional<absl::Status>& start_failed() const { return start_failed_; }
  int64_t number() const { return number_; }
  uint64_t life() const { return life_; }

  // While up.
  engine::Engine& engine() { return *engine_; }
  const engine::Engine& engine() const { return *engine_; }
  virtual engine::Loop& loop() = 0;
  // On its Loop, of a daemon that keeps leases.
  engine::LockCalls& locks() { return *locks_; }
  engine::Leases& leases() { return *leases_; }
  uint64_t store() const { return parts_.writers->store(); }
  uint64_t writer() const { return parts_.writers->self(); }
  engine::Version installed() const { return engine_->GetStatus().installed; }

  // What its coordinator must never do, and did: nothing of it reaches the engine. "": nothing.
  const std::string& wrong() const { return wrong_; }

  // Sums over all lives.
  const engine::Stats& stats() const { return stats_; }
  int64_t sessions_expired() const { return sessions_expired_; }

 protected:
  struct Parts {
    engine::Loop* loop = nullptr;
    engine::Executor* executor = nullptr;
    engine::Coordinator* coordinator = nullptr;
    engine::Writers* writers = nullptr;
    engine::EntryStore* entries = nullptr;  // null: all are in memory
  };

  // All outlive the daemon. Starts, installed versions and what they did to memory entries are noted in
  // `history`. `lives` counts the starts of all daemons of a run. Without `locks` it keeps no leases.
  Daemon(World* world, int64_t number, uint64_t* lives, engine::Options options, engine::Canaries canaries,
         std::optional<LockOptions> locks, check::History* history);

  // A life's beginning and end: what the engine stands on is made; and goes before the engine, with all its
  // tasks.
  virtual Parts Make() = 0;
  virtual void Unmake() = 0;
  // The engine commits as `writer`.
  virtual void Wrote(uint64_t writer) {}
  virtual void Recovered() {}
  // The life ends; nothing if there is none.
  void EndLife();

  World* const world_;

 private:
  class Observer;

  const int64_t number_;
  uint64_t* const lives_;
  const engine::Options options_;
  const engine::Canaries canaries_;
  const std::optional<LockOptions> lock_options_;
  check::History* const history_;

  uint64_t life_ = 0;
  bool ready_ = false;
  std::optional<absl::Status> start_failed_;
  std::string wrong_;
  engine::Stats stats_;
  int64_t sessions_expired_ = 0;
  Parts parts_;
  std::unique_ptr<Observer> observer_;
  SimStore* outside_ = nullptr;  // null: no container is configured
  std::unique_ptr<SimContainers> containers_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<engine::Settler> settler_;
  std::unique_ptr<engine::LockCalls> locks_;
  std::unique_ptr<engine::Leases> leases_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_DAEMON_H_
