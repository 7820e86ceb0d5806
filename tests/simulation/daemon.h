// Daemon is one stmd in a simulation: the real Engine on the real local coordinator, over a SimDrive. It
// starts, crashes and starts again; `life` numbers its starts, and what was sent to one life never reaches
// another.
#ifndef STM_TESTS_SIMULATION_DAEMON_H_
#define STM_TESTS_SIMULATION_DAEMON_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/local_coordinator.h"
#include "engine/engine.h"
#include "tests/checkers/history.h"
#include "tests/simulation/sim_disk.h"
#include "tests/simulation/world.h"

namespace stm::sim {

enum class End : uint8_t { kKill, kPowerLoss };

class Daemon {
 public:
  // All outlive the daemon. Starts, installed versions and what they did to memory entries are noted in
  // `history`.
  Daemon(World* world, SimDrive* drive, engine::Options options, engine::Canaries canaries,
         local::LocalOptions local_options, check::History* history);
  ~Daemon();

  // Recovers. ready() or start_failed() some steps later.
  void Start();
  void Crash(End end);
  // What a crash would come amid.
  std::string Doing() const;
  // Drains and stops as SIGTERM does; stopped() some steps later.
  void Stop();

  bool up() const { return engine_ != nullptr; }
  bool ready() const { return ready_; }
  bool stopped() const { return stopped_; }
  // It can't go on: a failed sync.
  bool failed() const { return fatal_.has_value(); }
  const std::optional<absl::Status>& start_failed() const { return start_failed_; }
  uint64_t life() const { return life_; }

  // While up.
  engine::Engine& engine() { return *engine_; }
  uint64_t store() const { return coordinator_->store(); }
  uint64_t writer() const { return coordinator_->self(); }
  engine::Version installed() const { return engine_->GetStatus().installed; }
  // What its log holds, through the reader that serves clients.
  absl::StatusOr<check::Log> ReadLog();
  engine::LogReader& log() { return *coordinator_; }
  engine::Archive& archive() { return *coordinator_; }
  // The oldest version of which its directory still has the log.
  engine::Version KeptFrom() const;

  // Sums over all lives.
  struct Totals {
    int64_t kills = 0;
    int64_t power_losses = 0;
    int64_t stops = 0;
    int64_t sync_failures = 0;
    int64_t torn_tails = 0;
    int64_t snapshots = 0;                   // written
    std::map<std::string, int64_t> crashes;  // by what the daemon was doing
    engine::Stats engine;
  };
  Totals totals() const;

 private:
  class Observer;

  void AddStats();
  void Teardown();

  World* const world_;
  SimDrive* const drive_;
  const engine::Options options_;
  const engine::Canaries canaries_;
  const local::LocalOptions local_options_;
  check::History* const history_;

  uint64_t life_ = 0;
  bool ready_ = false;
  bool stopped_ = false;
  bool stopping_ = false;
  std::optional<absl::Status> start_failed_;
  std::optional<absl::Status> fatal_;
  Totals totals_;
  std::unique_ptr<local::Disk> disk_;
  std::unique_ptr<local::LocalCoordinator> coordinator_;
  std::unique_ptr<Observer> observer_;
  std::unique_ptr<engine::Engine> engine_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_DAEMON_H_
