#include "tests/simulation/simulation.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/log_format.h"
#include "tests/simulation/archivist.h"
#include "tests/simulation/cluster.h"
#include "tests/simulation/follower.h"
#include "tests/simulation/local_daemon.h"
#include "tests/simulation/log_files.h"
#include "tests/simulation/sim_disk.h"
#include "tests/simulation/stage.h"

namespace stm::sim {
namespace {

// Beside its TTL, what the end of a session that nobody keeps may take: its daemon may have begun all leases
// anew, and looks every second when a commit did not go through.
constexpr absl::Duration kLocksGrace = absl::Seconds(2);

struct Settings : StageSettings {
  local::LocalOptions local;
  absl::Duration write_delay_max;
  uint64_t power_loss = 500;  // in 1000 ends
  uint64_t full_disk = 0;     // in 1000 disasters
  uint64_t sync_failure = 0;
  uint64_t stop = 0;
  uint64_t wall_jump = 0;
  int64_t followers = 0;
  bool restores = false;

  std::string ToString() const {
    return absl::StrCat(
        StageSettings::ToString(), " segment=", local.segment_bytes, " snapshot=", local.snapshot_bytes,
        " prefill=", local.prefill_bytes, " ballast=", local.ballast_bytes, " full=", full_disk,
        " sync_failure=", sync_failure, " keep_ms=",
        local.log_keep_age == absl::InfiniteDuration() ? -1 : absl::ToInt64Milliseconds(local.log_keep_age),
        " followers=", followers, restores ? " restores" : "");
  }
};

Settings DrawSettings(Chance* chance, const Planted& planted) {
  Settings s;
  s.DrawPeople(chance);
  s.write_delay_max = absl::Microseconds(chance->OneOf<int64_t>({100, 1000, 5000}));
  s.DrawEngine(chance);

  s.local.segment_bytes = chance->OneOf<int64_t>({4 << 10, 32 << 10, 64 << 20});
  s.local.snapshot_bytes = chance->OneOf<int64_t>({0, 4 << 10, 32 << 10, 256 << 20});
  s.local.prefill_bytes = chance->OneOf<int64_t>({0, 8 << 10, 64 << 10});
  s.local.ballast_bytes = chance->OneOf<int64_t>({0, 16 << 10});
  s.local.image_items_per_task = static_cast<size_t>(chance->OneOf<int64_t>({2, 1000}));
  s.local.recover_commits_per_task = static_cast<size_t>(chance->OneOf<int64_t>({7, 10000}));
  s.local.canaries = planted.local;
  if (chance->In1000(300)) {
    // Old log files are dropped: they go below the ids' floor and the older snapshot only, so both move fast.
    s.local.log_keep_age = absl::Milliseconds(chance->OneOf<int64_t>({0, 0, 10, 100}));
    s.local.log_drop_every = absl::Milliseconds(chance->OneOf<int64_t>({0, 5, 50}));
    s.local.segment_bytes = chance->OneOf<int64_t>({1, 2 << 10, 4 << 10});
    s.local.snapshot_bytes = chance->OneOf<int64_t>({2 << 10, 4 << 10, 16 << 10});
    s.engine.id_table_bytes_max = chance->OneOf<int64_t>({4 << 10, 8 << 10, 16 << 10});
  }

  s.DrawWeather(chance);
  s.power_loss = chance->OneOf<uint64_t>({0, 500, 800, 1000});
  s.full_disk = chance->OneOf<uint64_t>({0, 0, 150});
  s.sync_failure = chance->OneOf<uint64_t>({0, 0, 100});
  s.stop = chance->OneOf<uint64_t>({0, 100});
  s.wall_jump = chance->OneOf<uint64_t>({0, 200});
  s.followers = chance->OneOf<int64_t>({0, 1, 1, 2});
  s.restores = chance->In1000(250);
  return s;
}

constexpr Simplification<Settings> kSimplifications[] = {
    {"followers", [](Settings* s) { s->followers = 0; }},
    {"restores", [](Settings* s) { s->restores = false; }},
    {"log_drops", [](Settings* s) { s->local.log_keep_age = absl::InfiniteDuration(); }},
    {"power_losses", [](Settings* s) { s->power_loss = 0; }},
    {"kills", [](Settings* s) { s->power_loss = 1000; }},
    {"full_disk", [](Settings* s) { s->full_disk = 0; }},
    {"sync_failures", [](Settings* s) { s->sync_failure = 0; }},
    {"stops", [](Settings* s) { s->stop = 0; }},
    {"wall_jumps", [](Settings* s) { s->wall_jump = 0; }},
    {"snapshots", [](Settings* s) { s->local.snapshot_bytes = 0; }},
    {"segments", [](Settings* s) { s->local.segment_bytes = 64 << 20; }},
    {"prefill", [](Settings* s) { s->local.prefill_bytes = 0; }},
    {"ballast", [](Settings* s) { s->local.ballast_bytes = 0; }},
};

Settings SettingsOf(Chance* chance, const Run& run) {
  Settings settings = DrawSettings(chance, run.planted);
  Chance apart = LockersChance(run.seed);
  settings.lockers.Draw(&apart);
  if (run.containers) settings.DrawContainers(run.seed);
  for (const auto& simplification : kSimplifications) {
    if (run.without.count(simplification.name) > 0) simplification.apply(&settings);
  }
  for (const auto& simplification : StageSimplifications()) {
    if (run.without.count(simplification.name) > 0) simplification.apply(&settings);
  }
  return settings;
}

bool Earlier(Instant a, Instant b) { return a < b; }

absl::Time TimeOf(Instant at) { return absl::FromUnixSeconds(at.seconds) + absl::Nanoseconds(at.nanos); }

class Simulation : public Stage {
 public:
  explicit Simulation(const Run& run)
      : Stage(run.seed),
        settings_(SettingsOf(&world_.chance(), run)),
        operations_(run.operations),
        drive_(&world_.chance()),
        daemon_(&world_, &drive_, settings_.engine, run.planted.engine, settings_.local, &result_.history,
                LocksOf(settings_, run.planted)) {
    result_.settings = settings_.ToString();
    world_.SetWriteDelayMax(settings_.write_delay_max);
    drive_.SetRemoved(
        [this](const std::string& name, const std::string& content) { Removed(name, content); });
    Cast(settings_, {&daemon_}, operations_);
    for (int64_t i = 0; i < settings_.followers; ++i) {
      followers_.push_back(std::make_unique<Follower>(2000 + i, scene_, &daemon_, &result_.followers));
    }
    archivist_ = std::make_unique<Archivist>(scene_, &daemon_);
  }

  Result Play() {
    Start();
    Enter();
    if (settings_.restores) archivist_->Begin();
    LiveAndJudge(absl::Seconds(4));
    if (ok() && settings_.restores) {
      Restore();
      if (ok()) LiveAndJudge(absl::Seconds(1));
    }
    daemon_.Crash(End::kKill);
    Count();
    return std::move(result_);
  }

 private:
  void Start() {
    Tell("the daemon starts");
    daemon_.Start();
  }

  std::string DescribeDaemons() override { return drive_.full() ? "; disk full" : ""; }

  // What a supervisor does: a daemon that died is started again.
  void Tend() override {
    if (drive_.dead() || daemon_.failed() || (daemon_.start_failed() && drive_.sync_failed())) {
      Crash();
    } else if (daemon_.stopped()) {
      // A clean stop loses nothing, whatever comes.
      stopping_ = false;
      Crash();
    } else if (daemon_.start_failed()) {
      const absl::Status status = *daemon_.start_failed();
      if (drive_.full()) {
        drive_.SetRoomy();
        Crash();
      } else {
        Fail(absl::StrCat("the daemon does not start: ", status.ToString()));
      }
    }
  }

  void Crash() {
    stopping_ = false;
    if (!daemon_.up()) return;
    const bool power = drive_.sync_failed() || world_.chance().In1000(settings_.power_loss);
    Tell(absl::StrCat(power ? "power loss " : "killed ", daemon_.Doing()));
    daemon_.Crash(power ? End::kPowerLoss : End::kKill);
    for (const auto& watcher : watchers_) watcher->DaemonDied(&daemon_);
    for (const auto& follower : followers_) follower->DaemonDied();
    world_.After(absl::Microseconds(world_.chance().Between(10, 10000)), [this] { Start(); });
  }

  void Disaster() {
    if (calm_) return;
    Chance& chance = world_.chance();
    const uint64_t draw = chance.Below(1000);
    uint64_t sum = 0;
    if (draw < (sum += settings_.full_disk)) {
      drive_.SetFull(chance.Below(20000));
      Tell("the disk is nearly full");
      world_.After(absl::Milliseconds(chance.Between(1, 40)), [this] { drive_.SetRoomy(); });
    } else if (draw < (sum += settings_.sync_failure)) {
      drive_.FailNextSync();
      Tell("the next sync will fail");
    } else if (draw < (sum += settings_.wall_jump)) {
      const int64_t by_ms = chance.Between(-5000, 5000);
      Tell(absl::StrCat("the wall clock jumps by ", by_ms, " ms"));
      newest_wall_ = std::max(newest_wall_, world_.WallNow(), Earlier);
      world_.JumpWall(absl::Milliseconds(by_ms));
      ++result_.wall_jumps;
    } else if (draw < (sum += settings_.stop)) {
      if (daemon_.ready() && !stopping_) {
        stopping_ = true;
        Tell("the daemon is told to stop");
        daemon_.Stop();
      }
    } else if (chance.In1000(600)) {
      // In the middle of a change of the disk.
      drive_.DieAfter(chance.Below(12) + 1);
    } else if (daemon_.up()) {
      Crash();
    }
    Brew();
  }

  void Brew() {
    if (settings_.calm_max == absl::InfiniteDuration()) return;
    world_.After(
        absl::Microseconds(world_.chance().Between(100, absl::ToInt64Microseconds(settings_.calm_max))),
        [this] { Disaster(); });
  }

  void LiveAndJudge(absl::Duration storm_max) {
    Storm(storm_max);
    if (ok()) Calm();
    if (ok()) LastPowerLoss();
    if (ok()) Judge();
  }

  void Storm(absl::Duration at_most) {
    calm_ = false;
    network_.SetWeather(settings_.weather);
    for (const auto& follower : followers_) follower->Begin();
    Brew();
    begun_ = world_.Now() + absl::Milliseconds(3);
    // The worst is over after a while, so that every client comes to an end.
    const absl::Duration end = world_.Now() + at_most;
    RunUntil([&] { return (ClientsIdle() && world_.Now() > begun_) || world_.Now() > end; },
             "the end of the storm");
  }

  void Calm() {
    calm_ = true;
    Tell("calm weather from here on");
    drive_.DieAfter(0);
    drive_.SetRoomy();
    Weather fair;
    network_.SetWeather(fair);
    for (const auto& client : clients_) client->BeSteady();
    BeQuiet(settings_, kLocksGrace);
    if (!RunUntil([&] { return AllIdle() && daemon_.ready() && !stopping_; }, "the last answer")) return;
    AwaitSessionsEnd();
    if (!ok()) return;
    for (const auto& watcher : watchers_) watcher->BeSteady();
    // All TTLs run out, all watchers catch up, all sleepers wake.
    const absl::Duration settled = world_.Now() + absl::Milliseconds(kTtlMsMax) + absl::Seconds(1);
    if (!RunUntil([&] { return world_.Now() > settled; }, "calm")) return;
    ReadAll(&daemon_, "/.memory/", Ttls::kOver);
    if (settings_.restores && archivist_->backups().empty()) {
      archivist_->Make();
      if (!RunUntil([&] { return !archivist_->backups().empty(); }, "a backup")) return;
    }
    for (const auto& watcher : watchers_) watcher->ClaimComplete();
    for (const auto& client : clients_) client->ClaimSleepers();
  }

  // Whatever was acknowledged must be there after this.
  void LastPowerLoss() {
    Tell("power loss, the last");
    daemon_.Crash(End::kPowerLoss);
    Start();
    if (!RunUntil([&] { return daemon_.ready(); }, "the last start")) return;
    const absl::Duration settled = world_.Now() + absl::Milliseconds(2 * kTtlMsMax) + absl::Seconds(1);
    RunUntil([&] { return world_.Now() > settled; }, "calm after the last start");
    if (ok()) AwaitSettled();
  }

  void Judge() {
    for (const char* prefix : {"/", "/.memory/"}) ReadAll(&daemon_, prefix, Ttls::kOver);
    if (!ok()) return;

    std::map<std::string, std::string> files = dropped_;
    for (auto& [name, content] : drive_.Contents()) {
      if (local::ParseLogName(name)) files[name] = std::move(content);
    }
    absl::StatusOr<check::Log> log = ReadLogFiles(files);
    absl::StatusOr<check::Log> kept = daemon_.ReadLog();
    for (const absl::Status& status : {log.status(), kept.status()}) {
      if (!status.ok()) return Fail(absl::StrCat("the log can't be read: ", status.ToString()));
    }
    result_.log = inherited_;
    result_.log.insert(result_.log.end(), log->begin(), log->end());
    const check::Version newest = result_.log.empty() ? 0 : result_.log.back().version;
    check::LogRead reading;
    reading.client = -1;
    reading.commits = *std::move(kept);
    reading.complete_to = newest;
    reading.kept_from = daemon_.KeptFrom();
    result_.history.log_reads.push_back(std::move(reading));
    JudgeOutside(daemon_.store(), inherited_.empty() ? Restored::kNo : Restored::kYes);
    if (!ok()) return;
    result_.violations = check::Check(result_.history, result_.log);
  }

  // The store is lost, and a backup of it restored into an empty daemon, by an operator who tries until it is
  // told done or finds it done; crashes come at any step. Whatever comes, the daemon is empty or has all of
  // the backup. The history goes on with what the backup holds: clients know the rest from another store.
  void Restore() {
    const Backup backup = world_.chance().OneOf(archivist_->backups());
    Tell(absl::StrCat("the store is lost; a backup of ", backup.version, " is restored"));
    daemon_.Crash(End::kKill);
    drive_.Wipe();
    for (const auto& watcher : watchers_) watcher->DaemonDied(&daemon_);
    for (const auto& follower : followers_) follower->StoreDies();
    Inherit(backup.version);
    for (const auto& watcher : watchers_) watcher->MeetOtherStore();
    Start();
    int64_t tries = 0;
    bool told = false;
    for (;;) {
      if (!RunUntil([&] { return daemon_.ready(); }, "a start before a restore")) return;
      if (daemon_.installed() == backup.version) break;
      if (daemon_.installed() != 0) return Fail(absl::StrCat("restore: it is at ", daemon_.installed()));
      if (told) return Fail("restore: what was told done is lost");
      if (tries > 0) ++result_.restores.left_empty;
      if (!TryRestore(backup, ++tries, &told)) return;
    }
    if (!told) ++result_.restores.found_done;
    ++result_.restores.done;
    auto& starts = result_.history.starts;
    const auto life = static_cast<check::Life>(daemon_.life());
    starts = {check::Start{life, backup.version}};
    ReadAll(&daemon_, "/", Ttls::kRunning);
    for (const auto& client : clients_) client->MeetOtherStore(operations_ / 4 / settings_.clients + 1);
    for (const auto& locker : lockers_) locker->MeetOtherStore(operations_ / 100 + 1);
  }

  // False: it failed where it must not.
  bool TryRestore(const Backup& backup, int64_t tries, bool* told) {
    Chance& chance = world_.chance();
    std::string text = backup.text;
    // The fifth is left in peace.
    const uint64_t fault = tries < 5 ? chance.Below(6) : 6;
    if (fault < 2) drive_.DieAfter(chance.Below(22) + 1);
    if (fault == 2) drive_.SetFull(chance.Below(text.size() + 500));
    if (fault == 3) drive_.FailNextSync();
    if (fault == 4) text.resize(chance.Below(text.size()));
    const auto end = std::make_shared<std::optional<absl::Status>>();
    const uint64_t life = daemon_.life();
    archivist_->Restore(text, [end](absl::Status status) { *end = std::move(status); });
    const bool ended =
        RunUntil([&] { return *end || daemon_.life() != life || !daemon_.up(); }, "a restore's end");
    if (!ended) return false;
    drive_.SetRoomy();
    if (!*end) {
      ++result_.restores.crashed;
      return true;
    }
    const absl::Status status = **end;
    Tell(absl::StrCat("the restore ends: ", status.ToString()));
    if (status.ok()) {
      *told = true;
      if (daemon_.installed() != backup.version) Fail("restore: it is told done, and is not");
      if (chance.In1000(700)) Crash();
    } else if ((fault == 2 && absl::IsResourceExhausted(status)) ||
               (fault == 4 && absl::IsDataLoss(status))) {
      ++result_.restores.refused;
    } else if (!drive_.dead() && !daemon_.failed()) {
      Fail(absl::StrCat("restore: ", status.ToString()));
    }
    return ok();
  }

  // From here on the history is that of the store that a backup of `version` makes.
  void Inherit(check::Version version) {
    inherited_ = std::move(result_.log);
    inherited_.erase(
        std::find_if(inherited_.begin(), inherited_.end(),
                     [version](const check::LogCommit& commit) { return commit.version > version; }),
        inherited_.end());
    check::History history;
    history.transactions = std::move(result_.history.transactions);
    for (check::Transaction& transaction : history.transactions) transaction.answers.clear();
    history.lock_calls = std::move(result_.history.lock_calls);
    for (check::LockCall& call : history.lock_calls) call.answers.clear();
    result_.history = std::move(history);
    dropped_.clear();
  }

  // A log file goes: no earlier than its age, and never above what must be kept.
  void Removed(const std::string& name, const std::string& content) {
    if (!local::ParseLogName(name)) return;
    const absl::StatusOr<check::Log> log = ReadLogFiles({{name, content}});
    // One that was never finished, or found no room.
    if (!log.ok() || log->empty()) return;
    const check::LogCommit& last = log->back();
    dropped_[name] = content;
    ++result_.segments_dropped;
    if (!daemon_.ready()) return Fail(absl::StrCat("dropped: ", name, " in a start"));
    const check::Version floor = daemon_.engine().GetStatus().id_floor;
    if (last.version > floor) {
      Fail(absl::StrCat("dropped: ", name, " up to ", last.version, ", above the floor of ids, ", floor));
    }
    // The newest snapshot and the one before it, which a recovery may fall back on.
    std::vector<check::Version> snapshots;
    for (const std::string& file : drive_.Names()) {
      if (auto version = local::ParseSnapshotName(file)) snapshots.push_back(*version);
    }
    const size_t kept = std::min<size_t>(snapshots.size(), 2);
    if (kept == 0 || *(snapshots.end() - static_cast<std::ptrdiff_t>(kept)) < last.version) {
      Fail(absl::StrCat("dropped: ", name, " up to ", last.version, ", which no snapshot covers"));
    }
    const Instant now = std::max(newest_wall_, world_.WallNow(), Earlier);
    if (TimeOf(*last.at) > TimeOf(now) - settings_.local.log_keep_age) {
      Fail(absl::StrCat("dropped: ", name, " up to ", last.version, ", which is not old enough"));
    }
  }

  void Count() {
    Stage::Count();
    result_.backups = static_cast<int64_t>(archivist_->backups().size());
    result_.engine = daemon_.stats();
    result_.sessions_expired = daemon_.sessions_expired();
    result_.daemon = daemon_.totals();
    result_.losses = drive_.losses();
    for (const auto& [name, content] : drive_.Contents()) {
      if (name.substr(0, 4) == "log-") ++result_.segments;
    }
  }

  const Settings settings_;
  const int64_t operations_;
  SimDrive drive_;
  LocalDaemon daemon_;
  std::vector<std::unique_ptr<Follower>> followers_;
  std::unique_ptr<Archivist> archivist_;
  check::Log inherited_;                        // of the store that was restored
  std::map<std::string, std::string> dropped_;  // log files, as they were
  Instant newest_wall_;                         // before the clock's last jump
  absl::Duration begun_;
  bool calm_ = false;
  bool stopping_ = false;
};

}  // namespace

Result Simulate(const Run& run) {
  return run.kind == Run::Kind::kCluster ? SimulateCluster(run) : Simulation(run).Play();
}

std::vector<std::string> Simplifications(Run::Kind kind) {
  std::vector<std::string> names;
  if (kind == Run::Kind::kCluster) {
    names = ClusterSimplifications();
  } else {
    for (const auto& simplification : kSimplifications) names.emplace_back(simplification.name);
  }
  for (const auto& simplification : StageSimplifications()) names.emplace_back(simplification.name);
  return names;
}

void ClusterTotals::Add(const ClusterTotals& other) {
  for (const auto& [daemon, count] : other.commits) commits[daemon] += count;
  kills += other.kills;
  still += other.still;
  cut_off += other.cut_off;
  writers_closed += other.writers_closed;
  servers_left += other.servers_left;
  behind += other.behind;
  sweeps += other.sweeps;
  swept += other.swept;
  trimmed += other.trimmed;
  segments += other.segments;
  wipes += other.wipes;
  restores += other.restores;
  zookeeper.Add(other.zookeeper);
}

void Result::Add(const Result& other) {
  kind = other.kind;
  steps += other.steps;
  virtual_ms += other.virtual_ms;
  segments += other.segments;
  wall_jumps += other.wall_jumps;
  watch_events += other.watch_events;
  watches_resumed += other.watches_resumed;
  watches_cut += other.watches_cut;
  watch_gaps += other.watch_gaps;
  log_commits += other.log_commits;
  containers.Add(other.containers);
  segments_dropped += other.segments_dropped;
  backups += other.backups;
  restores.done += other.restores.done;
  restores.crashed += other.restores.crashed;
  restores.refused += other.restores.refused;
  restores.left_empty += other.restores.left_empty;
  restores.found_done += other.restores.found_done;
  followers.readings += other.followers.readings;
  followers.commits += other.followers.commits;
  followers.whole += other.followers.whole;
  followers.refused += other.followers.refused;
  followers.fell_off += other.followers.fell_off;
  followers.pages += other.followers.pages;
  clients.operations += other.clients.operations;
  clients.committed += other.clients.committed;
  clients.conflicts += other.clients.conflicts;
  clients.rejected += other.clients.rejected;
  clients.refused += other.clients.refused;
  clients.resends += other.clients.resends;
  clients.resends_committed += other.clients.resends_committed;
  clients.resends_not_committed += other.clients.resends_not_committed;
  clients.resends_conflict += other.clients.resends_conflict;
  clients.resends_rejected += other.clients.resends_rejected;
  clients.resends_refused += other.clients.resends_refused;
  clients.given_up += other.clients.given_up;
  clients.came_back += other.clients.came_back;
  clients.came_back_later += other.clients.came_back_later;
  clients.outcomes_asked += other.clients.outcomes_asked;
  clients.unknown += other.clients.unknown;
  clients.snapshots_too_old += other.clients.snapshots_too_old;
  clients.instants += other.clients.instants;
  clients.memory_reads += other.clients.memory_reads;
  clients.memory_committed += other.clients.memory_committed;
  clients.memory_mixed += other.clients.memory_mixed;
  clients.memory_conflicts += other.clients.memory_conflicts;
  clients.memory_outlived += other.clients.memory_outlived;
  clients.memory_woken += other.clients.memory_woken;
  clients.moves += other.clients.moves;
  clients.elsewhere_committed += other.clients.elsewhere_committed;
  clients.elsewhere_not_committed += other.clients.elsewhere_not_committed;
  clients.elsewhere_refused += other.clients.elsewhere_refused;
  clients.elsewhere_unknown += other.clients.elsewhere_unknown;
  clients.elsewhere_under_way += other.clients.elsewhere_under_way;
  clients.other_stores += other.clients.other_stores;
  clients.asked_there += other.clients.asked_there;
  clients.slept += other.clients.slept;
  clients.woken += other.clients.woken;
  for (const auto& [name, figure] : LockerTotals::All()) lockers.*figure += other.lockers.*figure;
  sessions_expired += other.sessions_expired;
  losses.prefixes += other.losses.prefixes;
  losses.mixtures += other.losses.mixtures;
  losses.zeros += other.losses.zeros;
  losses.names += other.losses.names;
  for (const auto& [doing, count] : other.daemon.crashes) daemon.crashes[doing] += count;
  daemon.kills += other.daemon.kills;
  daemon.power_losses += other.daemon.power_losses;
  daemon.stops += other.daemon.stops;
  daemon.sync_failures += other.daemon.sync_failures;
  daemon.torn_tails += other.daemon.torn_tails;
  daemon.snapshots += other.daemon.snapshots;
  AddStats(other.engine, &engine);
  cluster.Add(other.cluster);
}

std::string Result::ClusterFigures() const {
  std::string commits;
  for (const auto& [daemon, count] : cluster.commits) {
    absl::StrAppend(&commits, commits.empty() ? "" : ", ", count, " by daemon ", daemon);
  }
  std::string servers;
  for (const auto& [name, count] : cluster.zookeeper.All()) absl::StrAppend(&servers, " ", name, "=", count);
  return absl::StrCat(
      clients.operations, " operations, ", log_commits, " commits in the log: ", commits, "; ",
      clients.committed, " acknowledged, ", clients.conflicts, " conflicts, ", clients.rejected,
      " rejected, ", clients.refused, " refused, ", engine.expired, " expired, ", engine.reservations,
      " reservations, ", engine.turns_asked, " turns asked for, ", clients.snapshots_too_old,
      " snapshots too old\n  ", clients.moves, " moves; resends ", clients.resends, ", ",
      clients.elsewhere_under_way,
      " through another daemon while the first was up; answers there: ", clients.elsewhere_committed,
      " committed, ", clients.elsewhere_not_committed, " not committed, ", clients.elsewhere_refused,
      " refused, ", clients.elsewhere_unknown, " unknown; ", clients.outcomes_asked, " outcomes asked, ",
      clients.given_up, " given up, ", clients.came_back, " came back, ", clients.unknown,
      " too old\n  memory entries: ", clients.memory_reads, " reads, ", clients.memory_committed,
      " committed, ", clients.memory_conflicts, " conflicts\n  ", cluster.kills, " daemons killed, ",
      cluster.still, " stood still, ", cluster.cut_off, " cut off, ", cluster.writers_closed,
      " writers closed, ", engine.batches, " batches, ", engine.batches_lost, " lost, ",
      engine.batches_failed, " failed; ", engine.loads, " loads, ", engine.entries_loaded,
      " entries loaded, ", engine.entries_evicted, " evicted; ", cluster.servers_left,
      " servers left for a hole, ", cluster.trimmed, " log entries trimmed, ", cluster.sweeps, " sweeps of ",
      cluster.swept, " tombstones, ", cluster.segments, " new segments, ", cluster.behind,
      " daemons behind the log, ", cluster.wipes, " stores wiped, ", cluster.restores, " restored\n  ",
      watch_events, " watch events, ", watches_resumed, " resumed, ", watches_cut, " cut, ", watch_gaps,
      " gaps; ", clients.instants, " reads at a moment, ", clients.slept, " sleeps, ", clients.woken,
      " woken; ", steps, " steps, ", virtual_ms, " ms\n  zookeeper:", servers, "\n  ", LockFigures());
}

std::string Result::LockFigures() const {
  std::string text;
  if (containers.staged > 0) {
    text = absl::StrCat("container: ", engine.staged, " values staged, ", engine.staged_anew, " for nothing, ", containers.staged,
                        " written, ", containers.reads, " read, ", containers.erased, " erased, ", containers.copies,
                        " copies; calls: ", containers.lost, " lost, ", containers.late, " late, ", containers.refused,
                        " refused, ", containers.aways, " times away\n  ");
  }
  absl::StrAppend(&text, "locks: expired=", sessions_expired);
  for (const auto& [name, figure] : LockerTotals::All())
    absl::StrAppend(&text, " ", name, "=", lockers.*figure);
  return text;
}

std::string Result::Figures() const {
  if (kind == Run::Kind::kCluster) return ClusterFigures();
  std::string crashes;
  for (const auto& [doing, count] : daemon.crashes) {
    absl::StrAppend(&crashes, crashes.empty() ? "" : ", ", count, " ", doing);
  }
  return absl::StrCat(
      clients.operations, " operations, ", log_commits, " commits in the log, ", clients.committed,
      " acknowledged, ", clients.conflicts, " conflicts, ", clients.rejected, " rejected, ", clients.refused,
      " refused, ", engine.expired, " expired, ", engine.reservations, " reservations, ",
      clients.snapshots_too_old, " snapshots too old\n  resends ", clients.resends, ": ",
      clients.resends_committed, " committed, ", clients.resends_conflict, " conflict, ",
      clients.resends_rejected, " rejected, ", clients.resends_refused, " refused, ",
      clients.resends_not_committed, " not committed, ", clients.unknown, " too old; ",
      clients.outcomes_asked, " outcomes asked, ", clients.given_up, " given up, ", clients.came_back,
      " came back, ", clients.came_back_later, " to a later start\n  memory entries: ", clients.memory_reads,
      " reads, ", clients.memory_committed, " committed, ", clients.memory_mixed,
      " of them with shared refs, ", clients.memory_conflicts, " conflicts, ", clients.memory_outlived,
      " of them with a start, ", clients.memory_woken, " woken\n  crashes: ", crashes, "\n  ", daemon.kills,
      " kills, ", daemon.power_losses, " power losses, ", daemon.sync_failures, " failed syncs, ",
      daemon.stops, " stops, ", engine.no_space, " batches without room; left of files: ", losses.prefixes,
      " torn, ", losses.mixtures, " mixed, ", losses.zeros, " with zeros, ", losses.names, " names undone; ",
      daemon.torn_tails, " torn tails cut; ", wall_jumps, " jumps of the clock\n  ", segments, " segments, ",
      segments_dropped, " dropped, ", daemon.snapshots, " snapshots; ", followers.readings,
      " readings of the log, ", followers.commits, " commits, ", followers.whole, " to the end, ",
      followers.refused, " refused, ", followers.fell_off, " fallen off, ", followers.pages,
      " pages of histories\n  ", backups, " backups, ", restores.done, " restored, tries: ", restores.crashed,
      " crashed, ", restores.refused, " refused, ", restores.left_empty, " left it empty, ",
      restores.found_done, " found done by a start; ", clients.other_stores, " clients met another store, ",
      clients.asked_there, " old outcomes asked there\n  ", watch_events, " watch events, ", watches_resumed,
      " resumed, ", watches_cut, " cut, ", watch_gaps, " gaps; ", clients.instants, " reads at a moment, ",
      clients.slept, " sleeps, ", clients.woken, " woken; ", steps, " steps, ", virtual_ms, " ms\n  ",
      LockFigures());
}

std::string Result::Faults() const {
  std::string text;
  for (const std::string& failure : failures) absl::StrAppend(&text, failure, "\n");
  return absl::StrCat(text, check::ToString(violations));
}

}  // namespace stm::sim
