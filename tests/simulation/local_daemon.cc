#include "tests/simulation/local_daemon.h"

#include <memory>
#include <utility>

#include "backends/local/backup.h"
#include "backends/local/log_format.h"
#include "tests/simulation/log_files.h"

namespace stm::sim {

LocalDaemon::LocalDaemon(World* world, SimDrive* drive, engine::Options options, engine::Canaries canaries,
                         local::LocalOptions local_options, check::History* history,
                         std::optional<LockOptions> locks)
    : Daemon(world, 0, &lives_, std::move(options), canaries, std::move(locks), history),
      drive_(drive),
      local_options_(std::move(local_options)) {}

LocalDaemon::~LocalDaemon() { EndLife(); }

Daemon::Parts LocalDaemon::Make() {
  disk_ = drive_->Plug();
  local::LocalOptions local_options = local_options_;
  local_options.fatal = [this](absl::Status status) { fatal_ = std::move(status); };
  coordinator_ =
      std::make_unique<local::LocalCoordinator>(world_, world_, disk_.get(), std::move(local_options));
  return {world_, world_, coordinator_.get(), coordinator_.get(), nullptr};
}

void LocalDaemon::Unmake() {
  totals_.torn_tails += coordinator_->stats().torn_tails;
  totals_.snapshots += coordinator_->stats().snapshots;
  world_->DropDaemon();
  // It may hold an image of the engine, and goes first.
  coordinator_.reset();
  disk_.reset();
}

std::string LocalDaemon::Doing() const {
  using Kind = SimDrive::Step::Kind;
  const SimDrive::Step& step = drive_->step();
  if (stopped_) return "stopped";
  if (drive_->sync_failed()) return "after a failed sync";
  if (!ready()) return drive_->dead() ? "in recovery, amid a change" : "in recovery";
  const engine::Status status = engine().GetStatus();
  const bool log = step.name.substr(0, 4) == "log-";
  if (drive_->dead()) {
    if (step.name == local::kRestoreName) {
      return step.kind == Kind::kRename ? "before a restore's rename" : "in a restore";
    }
    if (!status.ready) return "in a restore's end";
    if (step.name.substr(0, 9) == "snapshot-") {
      if (step.kind == Kind::kRename) return "before a snapshot's rename";
      return step.kind == Kind::kRemove ? "in an old snapshot's removal" : "in a snapshot";
    }
    if (log && (step.kind == Kind::kCreate || step.fresh)) return "in a segment's creation";
    if (log && step.kind == Kind::kTruncate) return "in a segment's end";
    if (log && step.kind == Kind::kRemove) return "in an old segment's removal";
    if (log && step.kind == Kind::kWrite) return step.blank ? "in a prefill" : "in a log write";
    if (log && step.kind == Kind::kSync) return "between write and sync";
    if (step.kind == Kind::kSyncDirectory) return "before the directory's sync";
    return "at the ballast";
  }
  if (stopping_) return "in a stop";
  if (status.stats.in_flight > 0) {
    return log && step.kind == Kind::kSync ? "after sync, before install" : "before a log write";
  }
  return "between commits";
}

void LocalDaemon::Crash(End end) {
  if (up()) ++totals_.crashes[Doing()];
  if (drive_->sync_failed()) ++totals_.sync_failures;
  stopped_ = stopping_ = false;
  fatal_ = std::nullopt;
  EndLife();
  world_->DropDaemon();
  if (end == End::kKill) {
    ++totals_.kills;
    drive_->ProcessDies();
  } else {
    ++totals_.power_losses;
    drive_->PowerLoss();
  }
}

void LocalDaemon::Stop() {
  ++totals_.stops;
  stopping_ = true;
  world_->Post([this] {
    engine().Drain(
        [this] { world_->Post([this] { coordinator_->Stop([this](absl::Status) { stopped_ = true; }); }); });
  });
}

absl::StatusOr<check::Log> LocalDaemon::ReadLog() {
  absl::StatusOr<std::unique_ptr<engine::LogCursor>> cursor = coordinator_->Open(0);
  if (!cursor.ok()) return cursor.status();
  return ReadToEnd(cursor->get());
}

engine::Version LocalDaemon::KeptFrom() const {
  for (const std::string& name : drive_->Names()) {
    if (std::optional<engine::Version> first = local::ParseLogName(name)) return *first;
  }
  return 0;
}

}  // namespace stm::sim
