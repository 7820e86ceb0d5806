#include "tests/simulation/cluster_daemon.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace stm::sim {

ClusterDaemon::ClusterDaemon(World* world, SimEnsemble* ensemble, int64_t number, uint64_t* lives,
                             engine::Options options, engine::Canaries canaries,
                             std::optional<LockOptions> locks, zookeeper::Options zookeeper_options,
                             zookeeper::Canaries zookeeper_canaries, std::map<uint64_t, check::Life>* writers,
                             check::History* history)
    : Daemon(world, number, lives, std::move(options), canaries, std::move(locks), history),
      ensemble_(ensemble),
      name_(absl::StrCat("daemon ", number)),
      zookeeper_options_(std::move(zookeeper_options)),
      zookeeper_canaries_(zookeeper_canaries),
      writers_(writers) {}

ClusterDaemon::~ClusterDaemon() { EndLife(); }

Daemon::Parts ClusterDaemon::Make() {
  loop_ = std::make_unique<DaemonLoop>(world_);
  sessions_ = std::make_unique<SimSessions>(ensemble_, loop_.get(), name_);
  zookeeper::Options options = zookeeper_options_;
  options.program = name_;
  coordinator_ = std::make_unique<zookeeper::ZooKeeperCoordinator>(loop_.get(), sessions_.get(),
                                                                   std::move(options), zookeeper_canaries_);
  return {loop_.get(), loop_.get(), coordinator_.get(), coordinator_.get(), coordinator_.get()};
}

void ClusterDaemon::Unmake() {
  totals_.holes += coordinator_->holes();
  const zookeeper::Cleaner& cleaner = coordinator_->cleaner();
  totals_.sweeps += cleaner.sweeps();
  totals_.swept += cleaner.swept();
  totals_.trimmed += cleaner.trimmed();
  totals_.segments += cleaner.segments();
  loop_->Die();
  ensemble_->KillClient(name_, fate_, late_);
  coordinator_.reset();
  sessions_.reset();
}

void ClusterDaemon::Kill(SimEnsemble::Fate fate, absl::Duration late) {
  ++totals_.kills;
  fate_ = fate;
  late_ = late;
  EndLife();
}

}  // namespace stm::sim
