#include "tests/simulation/daemon.h"

#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/name.h"
#include "tests/simulation/log_files.h"

namespace stm::sim {

void AddStats(const engine::Stats& from, engine::Stats* to) {
  for (int64_t engine::Stats::*figure : {&engine::Stats::commits,         &engine::Stats::conflicts,
                                         &engine::Stats::rejections,      &engine::Stats::batches,
                                         &engine::Stats::batches_lost,    &engine::Stats::batches_failed,
                                         &engine::Stats::no_space,        &engine::Stats::resends_answered,
                                         &engine::Stats::ids_too_old,     &engine::Stats::not_committed,
                                         &engine::Stats::reservations,    &engine::Stats::turns_asked,
                                         &engine::Stats::turns_of_others, &engine::Stats::gets,
                                         &engine::Stats::watch_events,    &engine::Stats::watches_cut,
                                         &engine::Stats::expired,         &engine::Stats::loads,
                                         &engine::Stats::entries_loaded,  &engine::Stats::entries_evicted,
                                         &engine::Stats::staged,          &engine::Stats::staged_anew,
                                         &engine::Stats::stored_loads}) {
    to->*figure += from.*figure;
  }
}

// Between the engine and its coordinator: notes when each version was installed, and what it did to memory
// entries, which no log holds.
class Daemon::Observer : public engine::Coordinator, public engine::Sink {
 public:
  explicit Observer(Daemon* daemon) : daemon_(daemon), life_(static_cast<check::Life>(daemon->life_)) {}

  void Recover(engine::Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) override {
    sink_ = sink;
    daemon_->parts_.coordinator->Recover(this, std::move(recovered));
  }
  void Append(engine::Batch batch, absl::AnyInvocable<void(engine::AppendResult)> done) override {
    daemon_->Wrote(daemon_->writer());
    engine::Batch given = batch;
    daemon_->parts_.coordinator->Append(
        std::move(given),
        [this, batch = std::move(batch), done = std::move(done)](engine::AppendResult result) mutable {
          const bool committed = result.outcome == engine::AppendResult::Outcome::kCommitted;
          for (size_t i = 0; committed && i < batch.size(); ++i) {
            if (!Rises(batch[i]->version)) return;
          }
          done(std::move(result));
          for (size_t i = 0; committed && i < batch.size(); ++i) Committed(*batch[i]);
        });
  }
  void Barrier(absl::AnyInvocable<void(absl::StatusOr<engine::Version>)> done) override {
    daemon_->parts_.coordinator->Barrier(std::move(done));
  }
  void Trim(engine::Version id_floor) override { daemon_->parts_.coordinator->Trim(id_floor); }

  void InstallImage(engine::ImagePart part) override { sink_->InstallImage(std::move(part)); }
  void EndImage(engine::Version version, Instant at, engine::Version id_floor) override {
    sink_->EndImage(version, at, id_floor);
  }
  void RaiseIdFloor(engine::Version id_floor) override { sink_->RaiseIdFloor(id_floor); }
  absl::Status Install(std::shared_ptr<engine::CommitRecord> commit) override {
    const engine::Version version = commit->version;
    if (!Rises(version)) return absl::InternalError("versions do not rise");
    absl::Status status = sink_->Install(std::move(commit));
    // What a recovery read is known by the start.
    if (status.ok() && daemon_->ready_) Installed(version);
    return status;
  }
  std::unique_ptr<engine::Image> TakeImage() override { return sink_->TakeImage(); }
  void TurnAsked(uint64_t writer, const std::vector<std::string>& names, absl::Duration length) override {
    sink_->TurnAsked(writer, names, length);
  }
  void BatchInstalled(uint64_t writer, absl::FunctionRef<bool(const std::string& name)> touches) override {
    sink_->BatchInstalled(writer, touches);
  }

 private:
  // The engine would end the program.
  bool Rises(engine::Version version) {
    if (version <= last_) {
      daemon_->wrong_ = absl::StrCat("versions: ", version, " is told after ", last_);
      return false;
    }
    last_ = version;
    return true;
  }
  void Installed(engine::Version version) {
    daemon_->history_->installed[version][life_] = daemon_->world_->nanos();
  }
  // An own commit: its changes are those of memory entries too by now.
  void Committed(const engine::CommitRecord& commit) {
    Installed(commit.version);
    check::MemoryCommit memory{life_, commit.version, {}};
    for (const engine::EntryChange& change : commit.changes) {
      if (engine::IsMemory(change.name)) memory.changes.push_back(ToLogChange(change));
    }
    if (!memory.changes.empty()) daemon_->history_->memory.push_back(std::move(memory));
  }

  Daemon* const daemon_;
  const check::Life life_;
  engine::Sink* sink_ = nullptr;
  engine::Version last_ = 0;
};

Daemon::Daemon(World* world, int64_t number, uint64_t* lives, engine::Options options,
               engine::Canaries canaries, std::optional<LockOptions> locks, check::History* history)
    : world_(world),
      number_(number),
      lives_(lives),
      options_(std::move(options)),
      canaries_(canaries),
      lock_options_(std::move(locks)),
      history_(history) {}

// Its kind has ended it: what the engine stands on is no more.
Daemon::~Daemon() { assert(!up()); }

void Daemon::Start() {
  assert(!up());
  life_ = ++*lives_;
  parts_ = Make();
  observer_ = std::make_unique<Observer>(this);
  if (outside_ != nullptr) containers_ = std::make_unique<SimContainers>(outside_, parts_.loop);
  engine_ = std::make_unique<engine::Engine>(parts_.loop, parts_.executor, observer_.get(), parts_.writers,
                                             options_, canaries_, parts_.entries, containers_.get());
  if (outside_ != nullptr) {
    settler_ = std::make_unique<engine::Settler>(parts_.loop, engine_.get(), parts_.writers, containers_.get(), options_,
                                                 canaries_);
  }
  if (lock_options_.has_value()) {
    const LockOptions& options = *lock_options_;
    locks_ = std::make_unique<engine::LockCalls>(parts_.loop, engine_.get(), options.bounds);
    leases_ = std::make_unique<engine::Leases>(parts_.loop, engine_.get(), parts_.writers, options.bounds,
                                               options.leases, options.canaries);
  }
  parts_.loop->Post([this] {
    engine_->Start([this, life = life_](absl::Status status) {
      if (life != life_ || engine_ == nullptr) return;
      if (!status.ok()) {
        start_failed_ = std::move(status);
        return;
      }
      history_->starts.push_back(check::Start{static_cast<check::Life>(life_), installed(), number_});
      ready_ = true;
      if (leases_ != nullptr) leases_->Start();
      if (settler_ != nullptr) settler_->Start();
      Recovered();
    });
  });
}

void Daemon::EndLife() {
  ready_ = false;
  start_failed_ = std::nullopt;
  if (!up()) return;
  AddStats(engine_->GetStatus().stats, &stats_);
  if (leases_ != nullptr) sessions_expired_ += leases_->expired();
  Unmake();
  // What calls and leases still wait for goes with the engine.
  leases_.reset();
  settler_.reset();
  engine_.reset();
  containers_.reset();
  locks_.reset();
  observer_.reset();
  parts_ = Parts();
}

}  // namespace stm::sim
