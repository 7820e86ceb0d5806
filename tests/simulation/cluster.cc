#include "tests/simulation/cluster.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/zookeeper/init.h"
#include "backends/zookeeper/layout.h"
#include "backends/zookeeper/turn_text.h"
#include "tests/simulation/cluster_daemon.h"
#include "tests/simulation/log_files.h"
#include "tests/simulation/sim_zookeeper.h"
#include "tests/simulation/stage.h"

namespace stm::sim {
namespace {

constexpr char kChroot[] = "/app";
constexpr absl::Duration kStormMax = absl::Seconds(6);
// Of a thousand times that a lock is kept for long, its keeper's daemon is cut off from all servers, longer
// than the session with them lasts.
constexpr uint64_t kCutOff = 300;
constexpr absl::Duration kCutOffMax = absl::Seconds(1);

struct Settings : StageSettings {
  int servers = 3;
  int64_t daemons = 3;
  zookeeper::Options zookeeper;
  ZooWeather zoo;
  uint64_t still = 0;  // in 1000 disasters a daemon stands still; else it is killed
  absl::Duration still_max;
  absl::Duration down_max;  // of a killed daemon
  enum class Loss : uint8_t { kNone, kWipe, kRestore };
  Loss loss = Loss::kNone;  // of the store

  std::string ToString() const {
    return absl::StrCat(StageSettings::ToString(), " daemons=", daemons, " servers=", servers,
                        " cache_bytes=", engine.entry_cache_bytes_max,
                        " session_ms=", absl::ToInt64Milliseconds(zookeeper.session.timeout),
                        " recovered=", zookeeper.tail.recovered_entries_max, " still=", still,
                        " loss=", static_cast<int>(loss), " zookeeper: ", zoo.ToString());
  }
};

Settings DrawSettings(Chance* chance) {
  Settings s;
  s.DrawPeople(chance);
  s.DrawEngine(chance);
  s.DrawWeather(chance);
  s.servers = chance->OneOf<int>({1, 3, 3});
  s.daemons = chance->OneOf<int64_t>({2, 3, 3});
  s.engine.entry_cache_bytes_max = chance->OneOf<int64_t>({1 << 10, 4 << 10, 16 << 10, 1 << 30});
  s.zookeeper.session.timeout = absl::Milliseconds(chance->OneOf<int64_t>({300, 1000}));
  s.zookeeper.tail.recovered_entries_max = chance->OneOf<int64_t>({5, 50, 10000, 10000});
  s.zookeeper.tail.fetches_under_way_max = chance->OneOf<int64_t>({1, 4, 64});
  s.zookeeper.cleaner.every = absl::Milliseconds(chance->OneOf<int64_t>({20, 200, 1000}));
  s.zookeeper.cleaner.log_bytes_max = chance->OneOf<int64_t>({8 << 10, 64 << 10, 256 << 20});
  s.zookeeper.cleaner.log_batches_min = chance->OneOf<int64_t>({8, 64});
  s.zookeeper.cleaner.segment_entries_max = chance->OneOf<int64_t>({20, 100, 1 << 28});
  s.zookeeper.cleaner.writer_keep = absl::Milliseconds(chance->OneOf<int64_t>({100, 600'000}));
  s.zookeeper.listings_max = static_cast<size_t>(chance->OneOf<int64_t>({1, 8}));
  // Most seeds have weather; a good part of them none, so that what they find has one cause less.
  if (chance->In1000(800)) s.zoo = ZooWeather::Draw(chance);
  if (s.servers == 3) s.zoo.hole = chance->OneOf<uint64_t>({0, 0, 300});
  s.still = chance->OneOf<uint64_t>({0, 300, 700});
  s.still_max = absl::Milliseconds(chance->OneOf<int64_t>({20, 300, 2000}));
  s.down_max = absl::Milliseconds(chance->OneOf<int64_t>({10, 300}));
  if (chance->In1000(60)) {
    s.loss = chance->OneOf<Settings::Loss>({Settings::Loss::kWipe, Settings::Loss::kRestore});
  }
  return s;
}

constexpr Simplification<Settings> kSimplifications[] = {
    {"loss", [](Settings* s) { s->loss = Settings::Loss::kNone; }},
    {"third_daemon", [](Settings* s) { s->daemons = std::min<int64_t>(s->daemons, 2); }},
    {"second_daemon", [](Settings* s) { s->daemons = 1; }},
    {"second_server",
     [](Settings* s) {
       s->servers = 1;
       s->zoo.hole = 0;
     }},
    {"zookeeper_weather", [](Settings* s) { s->zoo = ZooWeather(); }},
    {"holes", [](Settings* s) { s->zoo.hole = 0; }},
    {"lag", [](Settings* s) { s->zoo.lag = 0; }},
    {"late_commits", [](Settings* s) { s->zoo.late = 0; }},
    {"cuts", [](Settings* s) { s->zoo.cut = 0; }},
    {"parted_clients", [](Settings* s) { s->zoo.part_client = 0; }},
    {"killed_servers", [](Settings* s) { s->zoo.kill = s->zoo.outage = 0; }},
    {"frozen_servers", [](Settings* s) { s->zoo.freeze = 0; }},
    {"parted_servers", [](Settings* s) { s->zoo.part = 0; }},
    {"slow_servers", [](Settings* s) { s->zoo.slow = 0; }},
    {"still_daemons", [](Settings* s) { s->still = 0; }},
    {"killed_daemons", [](Settings* s) { s->still = 1000; }},
    {"evictions", [](Settings* s) { s->engine.entry_cache_bytes_max = 1 << 30; }},
    {"trimming", [](Settings* s) { s->zookeeper.cleaner.log_bytes_max = 256 << 20; }},
    {"segments", [](Settings* s) { s->zookeeper.cleaner.segment_entries_max = 1 << 28; }},
    {"short_recoveries", [](Settings* s) { s->zookeeper.tail.recovered_entries_max = 10000; }},
};

Settings SettingsOf(Chance* chance, const Run& run) {
  Settings settings = DrawSettings(chance);
  Chance apart = LockersChance(run.seed);
  settings.lockers.Draw(&apart);
  // Each daemon looks at an idle lock, and its commit takes longer than alone.
  settings.lockers.lock_idle = std::max(settings.lockers.lock_idle, absl::Milliseconds(150));
  if (run.containers) settings.DrawContainers(run.seed);
  for (const auto& simplification : kSimplifications) {
    if (run.without.count(simplification.name) > 0) simplification.apply(&settings);
  }
  for (const auto& simplification : StageSimplifications()) {
    if (run.without.count(simplification.name) > 0) simplification.apply(&settings);
  }
  return settings;
}

ZooOptions ServersOf(const Settings& settings) {
  ZooOptions options;
  options.servers = settings.servers;
  // A hole that goes with its log entry before any daemon met it can't be seen
  // (backends/zookeeper/DESIGN.md).
  options.mends_at = [](std::string_view path) { return zookeeper::LogPositionOf(path).has_value(); };
  return options;
}

class Cluster : public Stage {
 public:
  explicit Cluster(const Run& run)
      : Stage(run.seed),
        settings_(SettingsOf(&world_.chance(), run)),
        ensemble_(&world_, ServersOf(settings_)) {
    steps_max_ = 5'000'000;
    stuck_after_ = absl::Seconds(120);
    result_.kind = Run::Kind::kCluster;
    result_.settings = settings_.ToString();
    zookeeper::Options zookeeper = settings_.zookeeper;
    zookeeper.session.connect =
        zookeeper::ParseConnectString(absl::StrCat(ensemble_.connect(), kChroot)).value();
    std::vector<Daemon*> daemons;
    for (int64_t number = 1; number <= settings_.daemons; ++number) {
      daemons_.push_back(std::make_unique<ClusterDaemon>(
          &world_, &ensemble_, number, &lives_, settings_.engine, run.planted.engine,
          LocksOf(settings_, run.planted), zookeeper, run.planted.zookeeper, &writers_, &result_.history));
      daemons.push_back(daemons_.back().get());
    }
    session_ = zookeeper.session;
    Cast(settings_, std::move(daemons), run.operations);
  }

  Result Play() {
    MakeStore();
    if (ok()) {
      for (const auto& daemon : daemons_) Start(daemon.get());
      Enter();
      Storm();
    }
    if (ok() && !lost_) Calm();
    if (ok() && !lost_) Judge();
    if (ok() && lost_) JudgeLost();
    for (const auto& daemon : daemons_) {
      if (daemon->up()) daemon->Kill(SimEnsemble::Fate::kLost, absl::ZeroDuration());
    }
    Count();
    return std::move(result_);
  }

 private:
  void MakeStore() {
    std::optional<absl::Status> made;
    DaemonLoop loop(&world_);
    SimSessions sessions(&ensemble_, &loop, "init");
    const zookeeper::Init init(&loop, &sessions, session_, absl::Seconds(60),
                               [&made](absl::Status status) { made = std::move(status); });
    if (RunUntil([&made] { return made.has_value(); }, "the store's making") && !made->ok()) {
      Fail(absl::StrCat("the store is not made: ", made->ToString()));
    }
  }

  void Start(ClusterDaemon* daemon) {
    Tell(absl::StrCat(daemon->name(), " starts"));
    daemon->Start();
  }

  void Kill(ClusterDaemon* daemon) {
    using Fate = SimEnsemble::Fate;
    Tell(absl::StrCat(daemon->name(), " is killed"));
    const Fate fate =
        world_.chance().OneOf<Fate>({Fate::kAny, Fate::kAny, Fate::kLost, Fate::kDone, Fate::kLate});
    daemon->Kill(fate, absl::Milliseconds(world_.chance().Between(1, 300)));
    for (const auto& watcher : watchers_) watcher->DaemonDied(daemon);
  }

  void Tend() override {
    for (const auto& daemon : daemons_) {
      if (!daemon->wrong().empty()) Fail(daemon->wrong());
      if (!daemon->up() || lost_) continue;
      if (daemon->start_failed()) {
        if (absl::IsOutOfRange(*daemon->start_failed())) return BeginAnew(daemon.get());
        Fail(absl::StrCat("the daemon does not start: ", daemon->start_failed()->ToString()));
      } else if (absl::IsOutOfRange(daemon->stopped())) {
        return BeginAnew(daemon.get());
      } else if (!daemon->stopped().ok()) {
        Fail(absl::StrCat("the daemon stopped: ", daemon->stopped().ToString()));
      }
    }
  }

  // The log was trimmed before it read it: its process begins anew by itself.
  void BeginAnew(ClusterDaemon* daemon) {
    ++result_.cluster.behind;
    daemon->Kill(SimEnsemble::Fate::kAny, absl::ZeroDuration());
    for (const auto& watcher : watchers_) watcher->DaemonDied(daemon);
    Start(daemon);
  }

  std::string DescribeDaemons() override {
    std::string text;
    for (const auto& daemon : daemons_) {
      absl::StrAppend(&text, "; ", daemon->name(), daemon->up() ? "" : " is down",
                      daemon->still() ? " stands still" : "");
      if (daemon->up() && !daemon->ready()) absl::StrAppend(&text, " waits: ", daemon->waits_for());
    }
    return absl::StrCat(text, "; leader ", ensemble_.leader().value_or(0),
                        ensemble_.settled() ? "" : ", servers not settled");
  }

  void Disaster() {
    if (calm_ || lost_ || losing_) return;
    Chance& chance = world_.chance();
    ClusterDaemon* const daemon = chance.OneOf(daemons_).get();
    // Whoever is cut off lives to see what becomes of that.
    if (!daemon->up() || daemon->still() || daemon == cut_off_) return Brew();
    if (chance.In1000(settings_.still)) {
      StandStill(daemon);
    } else {
      Kill(daemon);
      world_.After(absl::Microseconds(chance.Between(10, absl::ToInt64Microseconds(settings_.down_max))),
                   [this, daemon] {
                     if (!lost_) Start(daemon);
                   });
    }
    Brew();
  }

  // The daemon of one who keeps a lock for long: that is when it matters.
  void HoldsLong(Daemon* keeper) override {
    if (calm_ || lost_ || losing_ || cut_off_ != nullptr || !world_.chance().In1000(kCutOff)) return;
    for (const auto& daemon : daemons_) {
      if (daemon.get() == keeper && daemon->up() && !daemon->still()) return CutOff(daemon.get());
    }
  }

  // Its clients still reach it. Others see that it is gone, and then that its sessions' time is over.
  void CutOff(ClusterDaemon* daemon) {
    Tell(absl::StrCat(daemon->name(), " is cut off from ZooKeeper"));
    ++result_.cluster.cut_off;
    ensemble_.PartClient(daemon->name());
    cut_off_ = daemon;
    const absl::Duration cut =
        settings_.zookeeper.session.timeout +
        absl::Microseconds(world_.chance().Between(0, absl::ToInt64Microseconds(kCutOffMax)));
    world_.After(cut, [this, daemon] {
      Tell(absl::StrCat(daemon->name(), " reaches ZooKeeper again"));
      cut_off_ = nullptr;
      ensemble_.MendClient(daemon->name());
    });
  }

  // SIGSTOP. The kernel holds its connections for a while, or its host is frozen too.
  void StandStill(ClusterDaemon* daemon) {
    Tell(absl::StrCat(daemon->name(), " stands still"));
    ++result_.cluster.still;
    daemon->StandStill();
    const bool cut = world_.chance().In1000(500);
    if (cut) ensemble_.PartClient(daemon->name());
    world_.After(
        absl::Microseconds(world_.chance().Between(100, absl::ToInt64Microseconds(settings_.still_max))),
        [this, daemon, life = daemon->life(), cut] {
          if (cut) ensemble_.MendClient(daemon->name());
          if (daemon->life() != life || !daemon->still()) return;
          Tell(absl::StrCat(daemon->name(), " goes on"));
          daemon->GoOn();
        });
  }

  void Brew() {
    if (settings_.calm_max == absl::InfiniteDuration()) return;
    world_.After(
        absl::Microseconds(world_.chance().Between(100, absl::ToInt64Microseconds(settings_.calm_max))),
        [this] { Disaster(); });
  }

  void Storm() {
    ensemble_.SetWeather(settings_.zoo);
    Brew();
    if (settings_.loss != Settings::Loss::kNone) {
      world_.After(absl::Milliseconds(world_.chance().Between(5, 200)), [this] { LoseStore(); });
    }
    const absl::Duration begun = world_.Now() + absl::Milliseconds(3);
    // The worst is over after a while, so that every client comes to an end.
    const absl::Duration end = world_.Now() + kStormMax;
    RunUntil([&] { return lost_ || (ClientsIdle() && world_.Now() > begun) || world_.Now() > end; },
             "the end of the storm");
    if (!ok() || lost_ || settings_.loss == Settings::Loss::kNone) return;
    // Without more disasters all daemons are there in a while; unless nothing more was committed, that is the
    // moment.
    losing_ = true;
    const absl::Duration last = world_.Now() + absl::Seconds(5);
    RunUntil([&] { return lost_ || world_.Now() > last; }, "the store's loss");
  }

  bool AllReady() const {
    return std::all_of(daemons_.begin(), daemons_.end(), [](const auto& daemon) { return daemon->ready(); });
  }

  void Calm() {
    calm_ = true;
    Tell("calm weather from here on");
    ensemble_.Calm();
    network_.SetWeather(Weather());
    for (const auto& daemon : daemons_) {
      if (daemon->still()) daemon->GoOn();
    }
    for (const auto& client : clients_) client->BeSteady();
    // A daemon that died is missed once its session with the ensemble is over; and what ails servers ends by
    // itself.
    BeQuiet(settings_, settings_.zookeeper.session.timeout + settings_.zoo.trouble_max + absl::Seconds(2));
    if (!RunUntil([&] { return AllReady(); }, "the daemons' readiness")) return;
    // While none was ready nobody could end a session.
    result_.history.quiet.from = world_.nanos();
    if (!RunUntil([&] { return AllIdle() && AllReady(); }, "the last answer")) return;
    AwaitSessionsEnd();
    if (!ok()) return;
    for (const auto& watcher : watchers_) watcher->BeSteady();
    Settle();
    // A TTL runs from when a daemon knows the entry.
    ReadAllOf(Ttls::kRunning);
    if (ok()) Settle();
    ReadAllOf(Ttls::kOver);
    if (!ok()) return;
    for (const auto& watcher : watchers_) watcher->ClaimComplete();
    for (const auto& client : clients_) client->ClaimSleepers();
  }

  // All TTLs run out, all watchers catch up, all sleepers wake.
  void Settle() {
    const absl::Duration settled = world_.Now() + absl::Milliseconds(kTtlMsMax) + absl::Seconds(1);
    RunUntil([&] { return world_.Now() > settled; }, "calm");
  }

  void ReadAllOf(Ttls ttls) {
    for (const auto& daemon : daemons_) {
      for (const char* prefix : {"/", "/.memory/"}) {
        if (ok()) ReadAll(daemon.get(), prefix, ttls);
      }
    }
  }

  // What the ensemble holds is what was committed: daemons that begin anew find it.
  void Judge() {
    Tell("all daemons are killed, and start once more");
    for (const auto& daemon : daemons_) {
      daemon->Kill(SimEnsemble::Fate::kDone, absl::ZeroDuration());
      Start(daemon.get());
    }
    if (!RunUntil([&] { return AllReady(); }, "the last start")) return;
    ReadAllOf(Ttls::kRunning);
    if (ok()) Settle();
    ReadAllOf(Ttls::kOver);
    if (!ok()) return;
    AwaitSettled();
    if (!ok()) return;
    ReadLog(ensemble_.log(), ensemble_.committed());
    if (ok()) JudgeOutside(daemons_.front()->store(), Restored::kNo);
    if (ok()) result_.violations = check::Check(result_.history, result_.log);
  }

  // The store is gone, or an older one is there.
  void LoseStore() {
    if (calm_ || lost_) return;
    const bool restore = settings_.loss == Settings::Loss::kRestore;
    if (restore && saved_at_ == 0) {
      ensemble_.Save();
      ReadLog(ensemble_.log(), ensemble_.committed());
      saved_at_ = result_.log.empty() ? 1 : result_.log.back().version;
      return Later();
    }
    // A daemon that has seen nothing that is missing could go on, and should.
    for (const auto& daemon : daemons_) {
      if (!daemon->ready() || daemon->still() || (restore && daemon->installed() <= saved_at_))
        return Later();
    }
    Tell(restore ? "an older store is put in the place of this one" : "the store is wiped");
    lost_ = true;
    ensemble_.SetWeather(ZooWeather());
    ensemble_.Calm();
    ensemble_.KillAll();
    ReadLog(ensemble_.log(), ensemble_.committed());
    restore ? ensemble_.Restore() : ensemble_.Wipe();
    ensemble_.StartAll();
    ++(restore ? result_.cluster.restores : result_.cluster.wipes);
  }
  void Later() {
    world_.After(absl::Milliseconds(20), [this] { LoseStore(); });
  }
  // All stop, and whatever they say until then and afterwards is of the store that was.
  void JudgeLost() {
    const auto all_stopped = [&] {
      return std::all_of(daemons_.begin(), daemons_.end(),
                         [](const auto& daemon) { return !daemon->stopped().ok(); });
    };
    if (!RunUntil(all_stopped, "the daemons' stop")) return;
    for (const auto& daemon : daemons_) {
      if (absl::IsDataLoss(daemon->stopped())) continue;
      Fail(absl::StrCat("the daemon stopped: ", daemon->stopped().ToString()));
    }
    const absl::Duration end = world_.Now() + absl::Milliseconds(300);
    if (!RunUntil([&] { return world_.Now() > end; }, "the end")) return;
    ResolveLogs();
    result_.violations = check::Check(result_.history, result_.log);
  }

  // The log as the ensemble committed it, and which life made what.
  void ReadLog(const std::vector<Transaction>& transactions, const Znodes& nodes) {
    const Znode* node = nodes.Find(absl::StrCat(kChroot, zookeeper::kEpochPath));
    const absl::StatusOr<zookeeper::Epoch> epoch =
        node == nullptr ? absl::NotFoundError("no epoch") : zookeeper::ParseEpoch(node->data);
    if (!epoch.ok()) return Fail(absl::StrCat("the log can't be read: ", epoch.status().ToString()));
    result_.log.clear();
    for (const Transaction& transaction : transactions) {
      if (transaction.kind != Transaction::Kind::kMulti) continue;
      for (const zookeeper::Op& op : transaction.ops) {
        if (op.kind() == zookeeper::Op::Kind::kDelete && IsWriter(op.path()))
          ++result_.cluster.writers_closed;
        if (op.kind() != zookeeper::Op::Kind::kCreate || !zookeeper::LogPositionOf(op.path()) ||
            !zookeeper::IsBatch(op.data())) {
          continue;
        }
        const absl::StatusOr<zookeeper::BatchText> batch = zookeeper::ParseBatch(op.data());
        if (!batch.ok()) return Fail(absl::StrCat("the log can't be read: ", batch.status().ToString()));
        AddBatch(*batch, epoch->base, transaction.zxid);
      }
    }
  }
  static bool IsWriter(std::string_view path) {
    const std::string above = absl::StrCat(kChroot, zookeeper::kWritersPath, "/");
    return path.substr(0, above.size()) == above;
  }
  void AddBatch(const zookeeper::BatchText& batch, engine::Version base, int64_t zxid) {
    for (size_t place = 0; place < batch.commits.size(); ++place) {
      engine::LogCursor::Item item;
      item.commit = batch.commits[place];
      for (const engine::EntryChange& change : item.commit->changes) {
        item.before_known.push_back(change.before.has_value());
        item.before.push_back(change.before.value_or(std::nullopt));
      }
      check::LogCommit commit = ToLogCommit(item);
      commit.version = zookeeper::VersionOf(base, zxid, static_cast<int64_t>(place));
      commit.life = writers_[batch.writer];
      result_.log.push_back(std::move(commit));
    }
  }

  void Count() {
    Stage::Count();
    ClusterTotals& totals = result_.cluster;
    totals.zookeeper = ensemble_.totals();
    for (const auto& daemon : daemons_) {
      totals.commits[daemon->number()] += daemon->stats().commits;
      result_.sessions_expired += daemon->sessions_expired();
      totals.kills += daemon->totals().kills;
      totals.servers_left += daemon->totals().holes;
      totals.sweeps += daemon->totals().sweeps;
      totals.swept += daemon->totals().swept;
      totals.trimmed += daemon->totals().trimmed;
      totals.segments += daemon->totals().segments;
      AddStats(daemon->stats(), &result_.engine);
    }
  }

  const Settings settings_;
  SimEnsemble ensemble_;
  zookeeper::SessionOptions session_;
  uint64_t lives_ = 0;
  std::map<uint64_t, check::Life> writers_;
  std::vector<std::unique_ptr<ClusterDaemon>> daemons_;
  bool calm_ = false;
  ClusterDaemon* cut_off_ = nullptr;
  bool losing_ = false;  // the store is about to be lost
  bool lost_ = false;
  engine::Version saved_at_ = 0;  // the store was put aside
};

}  // namespace

Result SimulateCluster(const Run& run) { return Cluster(run).Play(); }

std::vector<std::string> ClusterSimplifications() {
  std::vector<std::string> names;
  for (const auto& simplification : kSimplifications) names.emplace_back(simplification.name);
  return names;
}

}  // namespace stm::sim
