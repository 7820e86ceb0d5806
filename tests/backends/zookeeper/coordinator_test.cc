#include "backends/zookeeper/coordinator.h"

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/zookeeper/init.h"
#include "backends/zookeeper/layout.h"
#include "tests/backends/coordinator_contract.h"
#include "tests/backends/replica.h"
#include "tests/simulation/daemon_loop.h"
#include "tests/simulation/sim_zookeeper.h"

namespace stm::zookeeper {
namespace {

using contract::Set;
using engine::Version;
using Outcome = engine::AppendResult::Outcome;

constexpr absl::Duration kLong = absl::Seconds(600);  // of simulated time

// A world with an ensemble and a store in it.
struct Sea {
  explicit Sea(uint64_t seed, int servers = 3) : world(seed), ensemble(&world, Options(servers)) {
    bool done = false;
    absl::Status status;
    sim::DaemonLoop loop(&world);
    sim::SimSessions sessions(&ensemble, &loop, "init");
    const Init init(&loop, &sessions, To(), absl::Seconds(60), [&](absl::Status s) {
      status = std::move(s);
      done = true;
    });
    REQUIRE(Run([&] { return done; }));
    INFO(status);
    REQUIRE(status.ok());
  }

  static sim::ZooOptions Options(int servers) {
    sim::ZooOptions options;
    options.servers = servers;
    return options;
  }

  SessionOptions To() {
    SessionOptions options;
    options.connect = ParseConnectString(absl::StrCat(ensemble.connect(), "/app")).value();
    options.timeout = absl::Seconds(1);
    return options;
  }

  bool Run(const std::function<bool()>& done) {
    const absl::Duration deadline = world.Now() + kLong;
    while (!done()) {
      if (world.Now() > deadline || !world.Step()) return false;
    }
    return true;
  }

  sim::World world;
  sim::SimEnsemble ensemble;
};

// One daemon's coordinator, as often as it is started.
struct Ship {
  Ship(Sea* sea, std::string name, Canaries canaries = {})
      : sea(sea), name(std::move(name)), canaries(canaries) {
    Make();
  }
  ~Ship() { Sink(); }

  void Make() {
    loop = std::make_unique<sim::DaemonLoop>(&sea->world);
    sessions = std::make_unique<sim::SimSessions>(&sea->ensemble, loop.get(), name);
    zookeeper::Options options;
    options.session = sea->To();
    options.program = name;
    coordinator = std::make_unique<ZooKeeperCoordinator>(loop.get(), sessions.get(), options, canaries);
  }
  // kill -9
  void Sink() {
    loop->Die();
    sea->ensemble.KillClient(name);
    coordinator.reset();
    sessions.reset();
  }

  Sea* const sea;
  const std::string name;
  const Canaries canaries;
  std::unique_ptr<sim::DaemonLoop> loop;
  std::unique_ptr<sim::SimSessions> sessions;
  std::unique_ptr<ZooKeeperCoordinator> coordinator;
};

class OnSimEnsemble : public CoordinatorUnderTest {
 public:
  explicit OnSimEnsemble(int servers) : sea_(1, servers), ship_(&sea_, "one") {}
  engine::Coordinator& coordinator() override { return *ship_.coordinator; }
  engine::Writers& writers() override { return *ship_.coordinator; }
  engine::LogReader* reader() override { return nullptr; }
  bool TurnUntil(const std::function<bool()>& done) override { return sea_.Run(done); }
  bool Reopen() override {
    ship_.Sink();
    ship_.Make();
    return true;
  }

 private:
  Sea sea_;
  Ship ship_;
};

TEST_CASE("zookeeper coordinator: the coordinators' contract on one server and on three") {
  const int servers = GENERATE(1, 3);
  TestCoordinator([servers] { return std::make_unique<OnSimEnsemble>(servers); });
}

TEST_CASE("zookeeper layout: every name has a path that ZooKeeper takes, and comes back from it") {
  for (const std::string name :
       {"/a", "/a/b/c", "/100%", "/.once/k", "/\xf0\x9f\x8e\xb2/\xee\x80\x80", "/\xc2\x85"}) {
    const std::string path = NodePath(name);
    INFO(path);
    REQUIRE(IsPath(path));
    const std::string parent(ParentOf(name));
    CHECK(ChildOf(parent, path.substr(path.rfind('/') + 1)) == name);
    CHECK(DirectoryOf(NodePath(parent)) == parent);
    CHECK(NodesAbove(name).size() == (parent == "/" ? 1 : NodesAbove(parent).size() + 2));
  }
  CHECK(NodePath("/") == kEntriesPath);
  CHECK_FALSE(DirectoryOf("/stm/r/b00"));
}

TEST_CASE("zookeeper coordinator: daemons see where the others are, and how far") {
  Sea sea(1);
  Ship one(&sea, "one"), two(&sea, "two");
  Replica first, second;
  int recovered = 0;
  one.coordinator->Recover(&first, [&](absl::Status status) { recovered += status.ok(); });
  two.coordinator->Recover(&second, [&](absl::Status status) { recovered += status.ok(); });
  REQUIRE(sea.Run([&] { return recovered == 2; }));
  one.coordinator->Advertise("one:7440");
  bool committed = false;
  one.coordinator->Append({Set("/a", Value::Integer(1))}, [&](engine::AppendResult result) {
    committed = result.outcome == Outcome::kCommitted;
  });
  REQUIRE(sea.Run([&] { return committed; }));

  // As `of` sees it, once that is so.
  const auto sees = [&](Ship* of, const std::function<bool(const Cluster&)>& condition) {
    bool seen = false;
    std::function<void()> look = [&] {
      of->coordinator->Look([&](absl::StatusOr<Cluster> cluster) {
        seen = cluster.ok() && condition(*cluster);
        if (!seen) sea.world.At(sea.world.Now() + absl::Milliseconds(100), look);
      });
    };
    look();
    return sea.Run([&] { return seen; });
  };
  REQUIRE(sees(&two, [&](const Cluster& cluster) {
    if (cluster.daemons.size() != 2 || cluster.head != 1 || cluster.mark != 0) return false;
    for (const Daemon& daemon : cluster.daemons) {
      const bool is_one = daemon.writer == one.coordinator->self();
      if (daemon.program != (is_one ? "one" : "two") || daemon.address != (is_one ? "one:7440" : ""))
        return false;
      if (daemon.applied != 1 || daemon.installed != second.version || daemon.format != 1) return false;
    }
    return true;
  }));
  two.coordinator->Leave();
  REQUIRE(sees(&one, [](const Cluster& cluster) { return cluster.daemons.size() == 1; }));
}

TEST_CASE("zookeeper coordinator: without a connection all is UNAVAILABLE in time, and goes on with one") {
  Sea sea(1);
  Ship ship(&sea, "one");
  Replica replica;
  bool recovered = false;
  ship.coordinator->Recover(&replica, [&](absl::Status status) { recovered = status.ok(); });
  CHECK(ship.coordinator->waits_for() != "");
  REQUIRE(sea.Run([&] { return recovered; }));
  CHECK(ship.coordinator->waits_for() == "");

  const auto ask = [&] {
    std::vector<absl::Status> answers;
    ship.coordinator->Load({"/a"}, {"/b/"}, [&](auto loaded) { answers.push_back(loaded.status()); });
    for (int i = 0; i < 2; ++i) {
      ship.coordinator->List("/c/", "", 10, [&](auto listed) { answers.push_back(listed.status()); });
    }
    ship.coordinator->Barrier([&](auto version) { answers.push_back(version.status()); });
    const absl::Duration began = sea.world.Now();
    REQUIRE(sea.Run([&] { return answers.size() == 4; }));
    CHECK(sea.world.Now() - began <= 2 * TailOptions().barrier_patience);
    return answers;
  };
  sea.ensemble.KillAll();
  // It has noticed.
  REQUIRE(sea.Run([&, at = sea.world.Now() + absl::Seconds(1)] { return sea.world.Now() > at; }));
  for (const absl::Status& status : ask()) CHECK(absl::IsUnavailable(status));
  sea.ensemble.StartAll();
  bool again = false;
  std::function<void()> barrier = [&] {
    ship.coordinator->Barrier([&](absl::StatusOr<Version> version) {
      again = version.ok();
      if (!again) barrier();
    });
  };
  barrier();
  REQUIRE(sea.Run([&] { return again; }));
  for (const absl::Status& status : ask()) CHECK(status == absl::OkStatus());
}

// A daemon that increments counters, several at a time, on top of what it has under way: what an engine does.
class Counting {
 public:
  struct Sent {
    Uuid id;
    std::vector<std::string> names;
  };
  struct Totals {
    std::set<Uuid> acknowledged, lost;
    int64_t failed = 0;
  };

  Counting(Sea* sea, const std::string& name, Canaries canaries, int64_t count, Totals* totals)
      : sea_(sea), ship_(sea, name, canaries), left_(count), totals_(totals) {
    Start();
  }

  // kill -9, and another start.
  void Restart() {
    ++life_;
    ship_.Sink();
    under_way_ = 0;
    running_ = false;
    ship_.Make();
    Start();
  }
  bool done() const { return left_ <= 0 && under_way_ == 0; }
  bool stopped() const { return !ship_.coordinator->stopped().ok(); }
  const absl::Status& why() const { return ship_.coordinator->stopped(); }
  const Replica& replica() const { return replica_; }
  ZooKeeperCoordinator& coordinator() { return *ship_.coordinator; }

  void Start() {
    replica_ = Replica();
    Forget();
    ship_.coordinator->Recover(&replica_, [this](absl::Status status) {
      if (!status.ok()) return;
      running_ = true;
      Go();
    });
  }

  void Go() {
    while (running_ && left_ > 0 && under_way_ < 4) {
      --left_;
      ++under_way_;
      sim::Chance& chance = sea_->world.chance();
      std::set<std::string> names;
      for (uint64_t i = chance.Below(3) + 1; i > 0; --i) names.insert(absl::StrCat("/n/", chance.Below(6)));
      Increment({names.begin(), names.end()});
    }
  }

 private:
  void Forget() {
    expected_.clear();
    touching_.clear();
  }

  void Increment(std::vector<std::string> names) {
    // What is known needs no loading; the fake engine forgets all at once, sometimes.
    std::vector<std::string> unknown;
    for (const std::string& name : names) {
      if (known_.count(name) == 0 || known_life_ != life_) unknown.push_back(name);
    }
    if (known_life_ != life_) {
      known_.clear();
      known_life_ = life_;
    }
    if (unknown.empty()) return Append(std::move(names));
    ship_.coordinator->Load(
        unknown, {},
        [this, unknown, names, life = life_](absl::StatusOr<std::vector<engine::ImageEntry>> entries) {
          if (life != life_) return;
          if (!entries.ok()) {
            --under_way_;
            ++left_;
            return;
          }
          known_.insert(unknown.begin(), unknown.end());
          for (const engine::ImageEntry& entry : *entries) {
            Replica::Entry& mine = replica_.entries[entry.name];
            if (mine.version >= entry.version) continue;
            mine.value = entry.value;
            mine.version = entry.version;
          }
          Append(names);
        });
  }

  void Append(const std::vector<std::string>& names) {
    auto commit = std::make_shared<engine::CommitRecord>();
    commit->at = Instant{1'795'316'400, 1000};
    commit->transaction_id = Uuid{sea_->world.Random(), sea_->world.Random()};
    for (const std::string& name : names) {
      engine::EntryChange change;
      change.name = name;
      const Replica::Entry& entry = replica_.entries[name];
      const auto expected = expected_.find(name);
      std::optional<Value> before =
          expected != expected_.end() ? std::optional<Value>(expected->second) : entry.value;
      change.kind = before ? engine::EntryChange::Kind::kSet : engine::EntryChange::Kind::kCreate;
      change.value = Value::Integer(before ? before->integer() + 1 : 1);
      expected_.insert_or_assign(name, *change.value);
      ++touching_[name];
      commit->changes.push_back(std::move(change));
    }
    const engine::Batch batch = {commit};
    ship_.coordinator->Append(batch, [this, batch, life = life_](engine::AppendResult result) {
      if (life != life_) return;
      --under_way_;
      const Uuid id = *batch[0]->transaction_id;
      switch (result.outcome) {
        case Outcome::kCommitted:
          totals_->acknowledged.insert(id);
          (void)replica_.Install(std::make_shared<engine::CommitRecord>(*batch[0]));
          for (const engine::EntryChange& change : batch[0]->changes) {
            if (--touching_[change.name] == 0) expected_.erase(change.name);
          }
          break;
        case Outcome::kLost:
          totals_->lost.insert(id);
          Forget();
          ++left_;
          break;
        default:
          totals_->lost.insert(id);
          Forget();
          ++left_;
          ++totals_->failed;
      }
      sea_->world.At(sea_->world.Now() + absl::Microseconds(sea_->world.chance().Below(3000)), [this, life] {
        if (life == life_) Go();
      });
    });
  }

  Sea* const sea_;
  Ship ship_;
  Replica replica_;
  // Of what is under way.
  std::map<std::string, Value> expected_;
  std::map<std::string, int> touching_;
  std::set<std::string> known_;
  int known_life_ = 0;
  int life_ = 0;
  bool running_ = false;
  int64_t left_;
  int64_t under_way_ = 0;
  Totals* const totals_;
};

// What is wrong; "": nothing.
std::string CountTogether(uint64_t seed, Canaries canaries, sim::ZooTotals* zoo = nullptr) {
  Sea sea(seed);
  Counting::Totals totals;
  std::vector<std::unique_ptr<Counting>> daemons;
  for (const char* name : {"one", "two", "three"}) {
    daemons.push_back(std::make_unique<Counting>(&sea, name, canaries, 150, &totals));
  }
  sim::ZooWeather weather = sim::ZooWeather::Draw(&sea.world.chance());
  weather.hole = sea.world.chance().Below(300);
  sea.ensemble.SetWeather(weather);
  bool over = false;
  std::function<void()> restarts = [&] {
    if (over) return;
    if (sea.world.chance().In1000(200)) daemons[sea.world.chance().Below(3)]->Restart();
    sea.world.At(sea.world.Now() + absl::Milliseconds(200), restarts);
  };
  sea.world.At(sea.world.Now() + absl::Milliseconds(300), restarts);
  std::function<void()> nudges = [&] {
    for (auto& daemon : daemons) daemon->Go();
    if (!over) sea.world.At(sea.world.Now() + absl::Milliseconds(20), nudges);
  };
  nudges();
  bool calm = false;
  sea.world.At(sea.world.Now() + absl::Seconds(20), [&] {
    calm = true;
    sea.ensemble.Calm();
  });
  const auto stopped = [&] {
    for (const auto& daemon : daemons) {
      if (daemon->stopped()) return true;
    }
    return false;
  };
  const bool ended = sea.Run([&] {
    if (stopped()) return true;
    for (const auto& daemon : daemons) {
      if (!daemon->done()) return false;
    }
    return calm;
  });
  over = true;
  if (zoo != nullptr) zoo->Add(sea.ensemble.totals());
  for (const auto& daemon : daemons) {
    if (daemon->stopped()) return absl::StrCat("stopped: ", daemon->why().ToString());
  }
  if (!ended) return "not all is answered";
  // All of them hold all.
  int caught_up = 0;
  std::function<void(size_t)> catch_up = [&](size_t i) {
    daemons[i]->coordinator().Barrier([&, i](absl::StatusOr<Version> version) {
      if (version.ok()) {
        ++caught_up;
      } else {
        catch_up(i);
      }
    });
  };
  for (size_t i = 0; i < daemons.size(); ++i) catch_up(i);
  if (!sea.Run([&] { return caught_up == 3; })) return "no barrier";
  std::map<Uuid, int> in_log;
  std::map<std::string, int64_t> counts;
  for (const sim::Transaction& transaction : sea.ensemble.log()) {
    if (transaction.kind != sim::Transaction::Kind::kMulti) continue;
    for (const Op& op : transaction.ops) {
      if (op.kind() != Op::Kind::kCreate || !LogIndexOf(op.path())) continue;
      const absl::StatusOr<BatchText> batch = ParseBatch(op.data());
      if (!batch.ok()) return batch.status().ToString();
      for (const auto& commit : batch->commits) {
        ++in_log[*commit->transaction_id];
        for (const auto& one : commit->changes) {
          if (one.value->integer() != ++counts[one.name])
            return absl::StrCat(one.name, ": an increment is lost");
        }
      }
    }
  }
  for (const auto& [id, times] : in_log) {
    if (times != 1) return "a transaction committed twice";
    if (totals.lost.count(id) != 0) return "a transaction that was told lost committed";
  }
  for (const Uuid& id : totals.acknowledged) {
    if (in_log.count(id) == 0) return "an acknowledged transaction is not there";
  }
  for (const auto& daemon : daemons) {
    for (const auto& [name, entry] : daemon->replica().entries) {
      if (entry.value && entry.value->integer() != counts[name]) {
        return absl::StrCat(name, ": a daemon holds ", entry.value->integer(), ", it is ", counts[name]);
      }
    }
  }
  if (in_log.size() < 200) return absl::StrCat("only ", in_log.size(), " commits");
  return "";
}

TEST_CASE(
    "zookeeper coordinator: in any weather, nothing is lost, nothing is doubled, all daemons hold the same") {
  const char* seeds = std::getenv("SEEDS");
  const uint64_t count = seeds == nullptr ? 40 : std::stoull(seeds);
  sim::ZooTotals totals;
  for (uint64_t seed = 1; seed <= count; ++seed) {
    INFO("seed " << seed);
    CHECK(CountTogether(seed, {}, &totals) == "");
  }
  // What the weather must have brought.
  CHECK(totals.answers_lost > 10);
  CHECK(totals.late_commits > 10);
  CHECK(totals.unknown > 100);
  CHECK(totals.multis_failed > 1000);
  CHECK(totals.stale_reads > 1000);
  CHECK(totals.elections > 100);
  CHECK(totals.kills > 100);
  CHECK(totals.client_parts > 100);
  CHECK(totals.holes > 5);
}

// A planted bug, and a seed that shows it.
struct Planted {
  const char* name;
  uint64_t seed;
  void (*plant)(Canaries*);
};
constexpr Planted kPlanted[] = {
    {"skip_chain_check", 1, [](Canaries* c) { c->skip_chain_check = true; }},
    {"lost_before_caught_up", 3, [](Canaries* c) { c->lost_before_caught_up = true; }},
    {"read_past_holes", 60, [](Canaries* c) { c->tail.read_past_holes = true; }},
    {"barrier_by_head", 108, [](Canaries* c) { c->tail.barrier_by_head = true; }},
};

TEST_CASE("zookeeper coordinator: planted bugs are caught") {
  for (const Planted& planted : kPlanted) {
    INFO(planted.name);
    Canaries canaries;
    planted.plant(&canaries);
    CHECK(CountTogether(planted.seed, canaries) != "");
    CHECK(CountTogether(planted.seed, {}) == "");
  }
}

// Whatever changes what is drawn moves them: run by this name, it prints the first seed of each.
TEST_CASE("zookeeper coordinator: seeds that show planted bugs", "[.]") {
  for (const Planted& planted : kPlanted) {
    Canaries canaries;
    planted.plant(&canaries);
    for (uint64_t seed = 1; seed <= 1000; ++seed) {
      if (CountTogether(seed, canaries).empty()) continue;
      std::printf("%s %d\n", planted.name, static_cast<int>(seed));
      break;
    }
  }
}

}  // namespace
}  // namespace stm::zookeeper
