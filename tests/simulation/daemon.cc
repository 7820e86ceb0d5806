#include "tests/simulation/daemon.h"

#include <utility>

#include "backends/local/backup.h"
#include "backends/local/log_format.h"
#include "engine/name.h"
#include "tests/simulation/log_files.h"

namespace stm::sim {

// Between the engine and its coordinator: notes when each version was installed, and what it did to memory
// entries, which no log holds.
class Daemon::Observer : public engine::Coordinator {
 public:
  Observer(World* world, engine::Coordinator* coordinator, check::History* history, check::Life life)
      : world_(world), coordinator_(coordinator), history_(history), life_(life) {}

  void Recover(engine::Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) override {
    coordinator_->Recover(sink, std::move(recovered));
  }
  void Append(engine::Batch batch, absl::AnyInvocable<void(engine::AppendResult)> done) override {
    engine::Batch given = batch;
    coordinator_->Append(std::move(given), [this, batch = std::move(batch),
                                            done = std::move(done)](engine::AppendResult result) mutable {
      const bool committed = result.outcome == engine::AppendResult::Outcome::kCommitted;
      done(std::move(result));
      for (size_t i = 0; committed && i < batch.size(); ++i) Installed(*batch[i]);
    });
  }
  void Barrier(absl::AnyInvocable<void(absl::StatusOr<engine::Version>)> done) override {
    coordinator_->Barrier(std::move(done));
  }
  void Trim(engine::Version id_floor) override { coordinator_->Trim(id_floor); }

 private:
  // Its changes are those of memory entries too by now.
  void Installed(const engine::CommitRecord& commit) {
    history_->installed[commit.version] = world_->nanos();
    check::MemoryCommit memory{life_, commit.version, {}};
    for (const engine::EntryChange& change : commit.changes) {
      if (engine::IsMemory(change.name)) memory.changes.push_back(ToLogChange(change));
    }
    if (!memory.changes.empty()) history_->memory.push_back(std::move(memory));
  }

  World* const world_;
  engine::Coordinator* const coordinator_;
  check::History* const history_;
  const check::Life life_;
};

Daemon::Daemon(World* world, SimDrive* drive, engine::Options options, engine::Canaries canaries,
               local::LocalOptions local_options, check::History* history)
    : world_(world),
      drive_(drive),
      options_(std::move(options)),
      canaries_(canaries),
      local_options_(std::move(local_options)),
      history_(history) {}

Daemon::~Daemon() { Teardown(); }

void Daemon::Start() {
  ++life_;
  disk_ = drive_->Plug();
  local::LocalOptions local_options = local_options_;
  local_options.fatal = [this](absl::Status status) { fatal_ = std::move(status); };
  coordinator_ =
      std::make_unique<local::LocalCoordinator>(world_, world_, disk_.get(), std::move(local_options));
  observer_ =
      std::make_unique<Observer>(world_, coordinator_.get(), history_, static_cast<check::Life>(life_));
  engine_ = std::make_unique<engine::Engine>(world_, world_, observer_.get(), coordinator_.get(), options_,
                                             canaries_);
  world_->Post([this] {
    engine_->Start([this, life = life_](absl::Status status) {
      if (life != life_ || engine_ == nullptr) return;
      if (!status.ok()) {
        start_failed_ = std::move(status);
        return;
      }
      history_->starts.push_back(check::Start{static_cast<check::Life>(life_), installed()});
      ready_ = true;
    });
  });
}

std::string Daemon::Doing() const {
  using Kind = SimDrive::Step::Kind;
  const SimDrive::Step& step = drive_->step();
  if (stopped_) return "stopped";
  if (drive_->sync_failed()) return "after a failed sync";
  if (!ready_) return drive_->dead() ? "in recovery, amid a change" : "in recovery";
  const bool log = step.name.substr(0, 4) == "log-";
  if (drive_->dead()) {
    if (step.name == local::kRestoreName) {
      return step.kind == Kind::kRename ? "before a restore's rename" : "in a restore";
    }
    if (!engine_->GetStatus().ready) return "in a restore's end";
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
  if (engine_->GetStatus().stats.in_flight > 0) {
    return log && step.kind == Kind::kSync ? "after sync, before install" : "before a log write";
  }
  return "between commits";
}

void Daemon::Crash(End end) {
  if (up()) ++totals_.crashes[Doing()];
  if (drive_->sync_failed()) ++totals_.sync_failures;
  Teardown();
  if (end == End::kKill) {
    ++totals_.kills;
    drive_->ProcessDies();
  } else {
    ++totals_.power_losses;
    drive_->PowerLoss();
  }
}

void Daemon::Stop() {
  ++totals_.stops;
  stopping_ = true;
  world_->Post([this] {
    engine_->Drain(
        [this] { world_->Post([this] { coordinator_->Stop([this](absl::Status) { stopped_ = true; }); }); });
  });
}

void Daemon::AddStats() {
  if (engine_ == nullptr) return;
  totals_.torn_tails += coordinator_->stats().torn_tails;
  totals_.snapshots += coordinator_->stats().snapshots;
  const engine::Stats stats = engine_->GetStatus().stats;
  engine::Stats& sum = totals_.engine;
  sum.commits += stats.commits;
  sum.conflicts += stats.conflicts;
  sum.rejections += stats.rejections;
  sum.batches += stats.batches;
  sum.no_space += stats.no_space;
  sum.resends_answered += stats.resends_answered;
  sum.ids_too_old += stats.ids_too_old;
  sum.not_committed += stats.not_committed;
  sum.reservations += stats.reservations;
  sum.gets += stats.gets;
  sum.watch_events += stats.watch_events;
  sum.watches_cut += stats.watches_cut;
  sum.expired += stats.expired;
}

Daemon::Totals Daemon::totals() const { return totals_; }

void Daemon::Teardown() {
  AddStats();
  ready_ = stopped_ = stopping_ = false;
  start_failed_ = std::nullopt;
  fatal_ = std::nullopt;
  world_->DropDaemon();
  // The coordinator may hold an image of the engine, which goes first.
  coordinator_.reset();
  engine_.reset();
  observer_.reset();
  world_->DropDaemon();
  disk_.reset();
}

absl::StatusOr<check::Log> Daemon::ReadLog() {
  absl::StatusOr<std::unique_ptr<engine::LogCursor>> cursor = coordinator_->Open(0);
  if (!cursor.ok()) return cursor.status();
  return ReadToEnd(cursor->get());
}

engine::Version Daemon::KeptFrom() const {
  for (const std::string& name : drive_->Names()) {
    if (std::optional<engine::Version> first = local::ParseLogName(name)) return *first;
  }
  return 0;
}

}  // namespace stm::sim
