// ClusterDaemon is one of the daemons that share a store: on the real ZooKeeper coordinator, over a
// SimEnsemble, with a Loop of its own.
#ifndef STM_TESTS_SIMULATION_CLUSTER_DAEMON_H_
#define STM_TESTS_SIMULATION_CLUSTER_DAEMON_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "backends/zookeeper/coordinator.h"
#include "tests/simulation/daemon.h"
#include "tests/simulation/daemon_loop.h"
#include "tests/simulation/sim_zookeeper.h"

namespace stm::sim {

class ClusterDaemon final : public Daemon {
 public:
  // All outlive the daemon. Writers of its lives are noted in `writers`.
  ClusterDaemon(World* world, SimEnsemble* ensemble, int64_t number, uint64_t* lives, engine::Options options,
                engine::Canaries canaries, std::optional<LockOptions> locks,
                zookeeper::Options zookeeper_options, zookeeper::Canaries zookeeper_canaries,
                std::map<uint64_t, check::Life>* writers, check::History* history);
  ~ClusterDaemon() override;

  engine::Loop& loop() override { return *loop_; }
  // Of its sessions.
  const std::string& name() const { return name_; }
  // kill -9
  void Kill(SimEnsemble::Fate fate, absl::Duration late);
  // SIGSTOP and SIGCONT. While up.
  void StandStill() { loop_->StandStill(); }
  void GoOn() { loop_->GoOn(); }
  bool still() const { return up() && loop_->still(); }
  // While up: what its coordinator stopped for, for good. OK: nothing.
  const absl::Status& stopped() const { return coordinator_->stopped(); }
  // While up: what its coordinator waits for until it has recovered, "" after.
  std::string waits_for() const { return coordinator_->waits_for(); }

  struct Totals {
    int64_t kills = 0;
    int64_t holes = 0;  // servers that were left for one
    int64_t sweeps = 0;
    int64_t swept = 0;    // nodes of tombstones
    int64_t trimmed = 0;  // log entries
    int64_t segments = 0;
    void Add(const Totals& other) {
      kills += other.kills;
      holes += other.holes;
      sweeps += other.sweeps;
      swept += other.swept;
      trimmed += other.trimmed;
      segments += other.segments;
    }
  };
  const Totals& totals() const { return totals_; }

 private:
  Parts Make() override;
  void Unmake() override;
  void Wrote(uint64_t writer) override { (*writers_)[writer] = static_cast<check::Life>(life()); }

  SimEnsemble* const ensemble_;
  const std::string name_;
  const zookeeper::Options zookeeper_options_;
  const zookeeper::Canaries zookeeper_canaries_;
  std::map<uint64_t, check::Life>* const writers_;
  Totals totals_;
  SimEnsemble::Fate fate_ = SimEnsemble::Fate::kAny;  // of what is under way
  absl::Duration late_;
  std::unique_ptr<DaemonLoop> loop_;
  std::unique_ptr<SimSessions> sessions_;
  std::unique_ptr<zookeeper::ZooKeeperCoordinator> coordinator_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_CLUSTER_DAEMON_H_
