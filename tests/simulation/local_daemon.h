// LocalDaemon is a daemon alone: on the real local coordinator, over a SimDrive, with all of the World's
// Loop.
#ifndef STM_TESTS_SIMULATION_LOCAL_DAEMON_H_
#define STM_TESTS_SIMULATION_LOCAL_DAEMON_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/local_coordinator.h"
#include "tests/checkers/history.h"
#include "tests/simulation/daemon.h"
#include "tests/simulation/sim_disk.h"
#include "tests/simulation/world.h"

namespace stm::sim {

enum class End : uint8_t { kKill, kPowerLoss };

class LocalDaemon final : public Daemon {
 public:
  // All outlive the daemon.
  LocalDaemon(World* world, SimDrive* drive, engine::Options options, engine::Canaries canaries,
              local::LocalOptions local_options, check::History* history,
              std::optional<LockOptions> locks = std::nullopt);
  ~LocalDaemon() override;

  engine::Loop& loop() override { return *world_; }
  void Crash(End end);
  // What a crash would come amid.
  std::string Doing() const;
  // Drains and stops as SIGTERM does; stopped() some steps later.
  void Stop();
  bool stopped() const { return stopped_; }
  // It can't go on: a failed sync.
  bool failed() const { return fatal_.has_value(); }

  // While up. What its log holds, through the reader that serves clients.
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
  };
  const Totals& totals() const { return totals_; }

 private:
  Parts Make() override;
  void Unmake() override;

  SimDrive* const drive_;
  const local::LocalOptions local_options_;
  uint64_t lives_ = 0;
  bool stopped_ = false;
  bool stopping_ = false;
  std::optional<absl::Status> fatal_;
  Totals totals_;
  std::unique_ptr<local::Disk> disk_;
  std::unique_ptr<local::LocalCoordinator> coordinator_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_LOCAL_DAEMON_H_
