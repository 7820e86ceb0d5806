// Transactions over refs of every place at once, while daemons, the MongoDB server, the remote container and
// the web service that it keeps values in are killed: nothing torn, nothing lost, nothing left behind.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "backends/containers/files.h"
#include "backends/containers/serve.h"
#include "engine/stored.h"
#include "tests/checkers/checker.h"
#include "tests/e2e/cluster/log_reader.h"
#include "tests/e2e/containers/mover.h"
#include "tests/e2e/faults/process.h"
#include "tests/mongodb/server.h"
#include "tests/mongodb/shell.h"
#include "tests/setting.h"
#include "tests/zookeeper/ensemble.h"

namespace stm::e2e {
namespace {

constexpr int64_t kSeconds = 20;  // of faults; SECONDS
constexpr int kMovers = 6;
constexpr int64_t kFaultMsMax = 1800;  // above --container-timeout
constexpr int64_t kVerdictsMin = 20;   // between faults
constexpr int64_t kVerdictsMax = 120;
constexpr char kDatabase[] = "stmd_test_mixed";
constexpr char kRemote[] = "remote:files";
constexpr char kMongo[] = "mongo";

// A program that says where it serves, and serves there again when it is started again.
class Program {
 public:
  explicit Program(std::vector<std::string> command) : command_(std::move(command)) { Start(); }

  void Start() {
    static const std::string kWhere = ": serving on ";
    process_ = std::make_unique<Process>(command_);
    const bool serves = process_->AwaitSaid(kWhere) && process_->AwaitSaid("\n");
    INFO(process_->said());
    REQUIRE(serves);
    const std::string said = process_->said();
    address_ = said.substr(said.find(kWhere) + kWhere.size());
    address_.resize(address_.find('\n'));
    for (std::string& word : command_) {
      if (word == "127.0.0.1:0") word = address_;
    }
  }
  void Kill() {
    process_->Signal(SIGKILL);
    REQUIRE(process_->AwaitExit().has_value());
  }
  const std::string& address() const { return address_; }

 private:
  std::vector<std::string> command_;
  std::string address_;
  std::unique_ptr<Process> process_;
};

// The remote container: examples/containers/python and its web service, two processes; where they can't be
// had, files behind gRPC in this process, which is not killed but stopped in the midst of calls.
class Remote {
 public:
  explicit Remote(const Directory& directory) : directory_(directory.path()) {
    Process build({Runfile("examples/containers/python/build"), "--offline", path("python")});
    if (build.AwaitExit() != 0) {
      std::printf("SKIPPED mixed kills: kills of a container in Python: %s", build.said().c_str());
      Up();
      return;
    }
    states_.emplace(std::vector<std::string>{path("python/states"), "--listen", "127.0.0.1:0", "--file",
                                             path("states.sqlite")});
    container_.emplace(std::vector<std::string>{path("python/container"), "--listen", "127.0.0.1:0",
                                                "--states", "http://" + states_->address()});
  }

  bool has_states() const { return states_.has_value(); }
  Program& states() { return *states_; }
  std::string uri() const {
    return "grpc://" + (has_states() ? container_->address() : absl::StrCat("127.0.0.1:", port_));
  }
  void Down() {
    if (has_states()) return container_->Kill();
    server_->Stop(absl::ZeroDuration());
    server_.reset();
  }
  void Up() {
    if (has_states()) return container_->Start();
    auto files = containers::MakeFiles("file://" + path("files"));
    REQUIRE(files.ok());
    auto server = containers::ContainerServer::Start(*std::move(files), absl::StrCat("127.0.0.1:", port_));
    INFO(server.status());
    REQUIRE(server.ok());
    server_ = *std::move(server);
    port_ = server_->port();
  }
  // A line a value that is kept for a ref, with its stamp in it.
  std::vector<std::string> Kept() const {
    std::vector<std::string> kept;
    if (!has_states()) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(path("files/refs"))) {
        if (entry.is_regular_file()) kept.push_back(entry.path());
      }
      return kept;
    }
    Process query({path("python/python"), "-c",
                   "import sqlite3, sys\n"
                   "for row in sqlite3.connect(sys.argv[1]).execute('SELECT name, stamp FROM states'): "
                   "print(*row)",
                   path("states.sqlite")});
    CHECK(query.AwaitExit() == 0);
    return absl::StrSplit(query.said(), '\n', absl::SkipEmpty());
  }

 private:
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  const std::string directory_;
  std::optional<Program> states_, container_;
  int port_ = 0;
  std::unique_ptr<containers::ContainerServer> server_;
};

// Daemons with all containers, alone or over ZooKeeper, and what may be killed.
class World {
 public:
  // `store`: "" one daemon, which has a log of its own.
  World(int daemons, const std::string& store) : remote_(directory_) {
    places_ = {{"/inline/", ""}, {"/remote/", kRemote}};
    containers_ = {{kRemote, remote_.uri()}};
    if (const std::string why = mongodb::WhyNoServer(); why.empty()) {
      mongodb_.emplace();
      places_.push_back({"/mongo/", kMongo});
      containers_.emplace_back(kMongo, mongodb_->uri(kDatabase));
    } else {
      std::printf("SKIPPED mixed kills: MongoDB: there is no server here: %s", why.c_str());
    }
    for (int i = 0; i < daemons; ++i) {
      StmdOptions& options = options_.emplace_back();
      if (store.empty()) {
        options.data_dir = directory_ / "data";
      } else {
        options.flags = {"--coordinator=" + store, "--create", "--zookeeper-session-timeout=2s"};
      }
      for (const char* flag : {"--history-age=2s", "--erase-after=1s", "--container-timeout=1s"})
        options.flags.push_back(flag);
      for (const auto& [name, uri] : containers_)
        options.flags.push_back(absl::StrCat("--container=", name, "=", uri));
      daemons_.emplace_back();
      Start(i);
    }
    for (int i = 0; i < daemons; ++i)
      parts_.push_back(Part{"daemon", [this, i] { Kill(i); }, [this, i] { Start(i); }});
    parts_.push_back({"remote container", [this] { remote_.Down(); }, [this] { remote_.Up(); }});
    if (remote_.has_states()) {
      parts_.push_back(
          {"web service", [this] { remote_.states().Kill(); }, [this] { remote_.states().Start(); }});
    }
    if (mongodb_.has_value())
      parts_.push_back({"MongoDB", [this] { mongodb_->Kill(); }, [this] { mongodb_->Start(); }});
  }

  struct Part {
    std::string name;
    std::function<void()> kill;
    std::function<void()> start;
  };
  const std::vector<Part>& parts() const { return parts_; }
  const std::vector<Place>& places() const { return places_; }
  std::string address(int daemon) const { return options_[static_cast<size_t>(daemon)].listen; }
  int daemons() const { return static_cast<int>(daemons_.size()); }
  std::string said(int daemon) const { return daemons_[static_cast<size_t>(daemon)]->said(); }

  // So that what is read next comes from disks and containers.
  void RestartDaemons() {
    for (int i = 0; i < daemons(); ++i) Kill(i);
    for (int i = 0; i < daemons(); ++i) Start(i);
  }

  // A line a value that is kept there.
  std::vector<std::string> Kept(const std::string& container) {
    if (container == kRemote) return remote_.Kept();
    if (!shell_.has_value()) shell_.emplace(mongodb_->uri(kDatabase));
    return shell_->Find("refs");
  }
  // What `stmctl containers` printed, if it does not say of each container that nothing is left to be done.
  std::string NotSettled(int daemon) const {
    Process stmctl({Runfile("client/cli/stmctl"), "containers"}, {{"STM_ADDRESS", address(daemon)}});
    if (stmctl.AwaitExit() != 0) return stmctl.said();
    const std::vector<std::string> lines = absl::StrSplit(stmctl.said(), '\n', absl::SkipEmpty());
    const auto settled = [](const std::string& line) {
      return absl::StrContains(line, ":staged 0,") && absl::StrContains(line, ":to-erase 0,");
    };
    const bool all = lines.size() == containers_.size() && std::all_of(lines.begin(), lines.end(), settled);
    return all ? "" : stmctl.said();
  }

 private:
  void Start(int daemon) {
    std::unique_ptr<Stmd>& stmd = daemons_[static_cast<size_t>(daemon)];
    StmdOptions& options = options_[static_cast<size_t>(daemon)];
    stmd = std::make_unique<Stmd>(options);
    options.listen = stmd->AwaitAddress();  // the same from now on
    INFO(stmd->said());
    REQUIRE_FALSE(options.listen.empty());
  }
  void Kill(int daemon) {
    daemons_[static_cast<size_t>(daemon)]->Signal(SIGKILL);
    REQUIRE(daemons_[static_cast<size_t>(daemon)]->AwaitExit().has_value());
  }

  Directory directory_;
  Remote remote_;
  std::optional<mongodb::Server> mongodb_;
  std::optional<mongodb::Shell> shell_;
  std::vector<std::pair<std::string, std::string>> containers_;
  std::vector<Place> places_;
  std::vector<StmdOptions> options_;
  std::vector<std::unique_ptr<Stmd>> daemons_;
  std::vector<Part> parts_;
};

// What the log says of values that it does not have.
struct StoredInLog {
  std::map<std::string, std::map<std::string, std::string>> live;  // by container: entry, and its stamp
  std::map<std::string, int64_t> superseded;
  std::vector<std::string> wrong;
};

// Puts values where the log has stamps: those that the transactions wrote, which the log's hashes prove.
StoredInLog Resolve(const check::History& history, check::Log* log) {
  std::map<Uuid, const check::Transaction*> by_id;
  for (const check::Transaction& transaction : history.transactions) by_id[transaction.id] = &transaction;
  StoredInLog stored;
  std::map<std::string, Value> values;           // by stamp
  std::map<std::string, engine::Stored> newest;  // by entry
  for (check::LogCommit& commit : *log) {
    const auto by = commit.id.has_value() ? by_id.find(*commit.id) : by_id.end();
    for (check::LogChange& change : commit.changes) {
      if (change.before_known && change.before.has_value() && engine::IsStored(*change.before)) {
        const auto before = values.find(engine::StoredOf(*change.before)->stamp);
        if (before != values.end()) change.before = before->second;
        change.before_known = before != values.end();
      }
      const auto was = newest.find(change.name);
      if (was != newest.end()) {
        ++stored.superseded[was->second.container];
        newest.erase(was);
      }
      if (!change.value.has_value() || !engine::IsStored(*change.value)) continue;
      const engine::Stored is = *engine::StoredOf(*change.value);
      newest.emplace(change.name, is);
      const std::string what = absl::StrCat("version ", commit.version, ": ", change.name, ": ", is.stamp);
      if (by == by_id.end()) {
        stored.wrong.push_back(what + " was written by nobody");
        continue;
      }
      const auto& writes = by->second->writes;
      const auto write = std::find_if(writes.begin(), writes.end(),
                                      [&](const check::Write& one) { return one.name == change.name; });
      if (write == writes.end() || static_cast<int64_t>(write->value.hash()) != is.hash) {
        stored.wrong.push_back(what + " has the hash of another value");
        continue;
      }
      change.value = write->value;
      if (!values.emplace(is.stamp, write->value).second) stored.wrong.push_back(what + " is used twice");
    }
  }
  for (const auto& [name, is] : newest) stored.live[is.container][name] = is.stamp;
  return stored;
}

// The movers judge what is in memory, whose changes no log has.
void ForgetMemory(check::History* history) {
  const auto in_memory = [](const auto& one) { return absl::StartsWith(one.name, "/.memory/"); };
  for (check::Transaction& transaction : history->transactions) {
    auto& writes = transaction.writes;
    const auto first = std::find_if(writes.begin(), writes.end(), in_memory);
    const auto kept = static_cast<size_t>(first - writes.begin());  // those of memory are the last
    writes.erase(first, writes.end());
    for (check::Answer& answer : transaction.answers)
      answer.results.resize(std::min(answer.results.size(), kept));
  }
  for (check::Read& read : history->reads) {
    read.entries.erase(std::remove_if(read.entries.begin(), read.entries.end(), in_memory),
                       read.entries.end());
  }
}

// "": they keep what is live, and nothing else.
std::string Leaked(World* world, const std::string& container,
                   const std::map<std::string, std::string>& live) {
  const std::vector<std::string> kept = world->Kept(container);
  const std::string all = absl::StrJoin(kept, "\n");
  std::string wrong;
  for (const auto& [name, stamp] : live) {
    if (!absl::StrContains(all, stamp)) absl::StrAppend(&wrong, "lost: ", name, " ", stamp, "\n");
  }
  if (kept.size() == live.size() && wrong.empty()) return "";
  for (const std::string& line : kept) {
    const bool is_live = std::any_of(live.begin(), live.end(),
                                     [&](const auto& one) { return absl::StrContains(line, one.second); });
    if (!is_live) absl::StrAppend(&wrong, "left: ", line, "\n");
  }
  return absl::StrCat(container, " keeps ", kept.size(), " values of ", live.size(), " entries:\n", wrong);
}

void KillAll(const std::string& what, World* world, LogReader* log_reader) {
  const int64_t seconds = Setting("SECONDS", kSeconds);
  const auto seed = static_cast<uint64_t>(Setting("SEED", static_cast<int64_t>(std::random_device()() | 1U)));
  std::printf("mixed kills, %s: SEED=%llu, %lld s\n", what.c_str(), static_cast<unsigned long long>(seed),
              static_cast<long long>(seconds));
  std::fflush(stdout);
  std::mt19937_64 random(seed);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  Answers answers;
  const auto caller = [&](int64_t number) {
    Caller::Options options;
    options.number = number;
    options.addresses = {world->address(static_cast<int>(std::max<int64_t>(number, 0)) % world->daemons())};
    options.seed = seed + static_cast<uint64_t>(number + 1);
    options.answers = &answers;
    return options;
  };
  Mover first(caller(-1), world->places());
  REQUIRE(first.Prepare(kMovers));
  std::atomic<bool> stop{false};
  std::atomic<int> gave_up{0};
  std::vector<std::unique_ptr<Mover>> movers;
  std::vector<std::thread> threads;
  for (int i = 0; i < kMovers; ++i) {
    movers.push_back(std::make_unique<Mover>(caller(i), world->places()));
    threads.emplace_back([&, mover = movers.back().get()] {
      if (mover->Run(stop)) return;
      ++gave_up;
      answers.GiveUp();
    });
  }

  // Each part in turn, in an order of chance; sometimes two at once.
  std::map<std::string, int> kills;
  const absl::Time until = absl::Now() + absl::Seconds(seconds);
  bool going = true;
  while (going && absl::Now() < until) {
    std::vector<const World::Part*> turn;
    for (const World::Part& part : world->parts()) turn.push_back(&part);
    std::shuffle(turn.begin(), turn.end(), random);
    for (size_t i = 0; i < turn.size() && going && absl::Now() < until; ++i) {
      going = answers.AwaitMore(kVerdictsMin + below(kVerdictsMax - kVerdictsMin));
      const size_t first_of = i;
      if (i + 1 < turn.size() && below(4) == 0) ++i;
      for (size_t part = first_of; part <= i; ++part) {
        turn[part]->kill();
        ++kills[turn[part]->name];
      }
      // Here time itself is what the test is made of: shorter and longer than a call may take.
      absl::SleepFor(absl::Milliseconds(below(kFaultMsMax)));
      for (size_t part = first_of; part <= i; ++part) turn[part]->start();
    }
  }
  going = going && answers.AwaitMore(kVerdictsMax);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < world->daemons(); ++i) UNSCOPED_INFO("daemon " << i << ": " << world->said(i));
  REQUIRE(gave_up == 0);
  REQUIRE(going);

  // All have learned all outcomes.
  const absl::Time quiet = absl::Now();
  world->RestartDaemons();
  REQUIRE(first.ReadAll());
  const check::Read last = first.history().reads.back();
  std::optional<check::Log> log;
  if (log_reader == nullptr) {
    log = first.ReadLog();
  } else {
    absl::StatusOr<check::Log> followed = log_reader->Finish();
    INFO(followed.status());
    REQUIRE(followed.ok());
    log = *std::move(followed);
  }
  REQUIRE(log.has_value());

  check::History history = std::move(first.history());
  Caller::Figures sum;
  Mover::Seen seen;
  std::vector<std::string> torn;
  for (const auto& mover : movers) {
    check::History& part = mover->history();
    std::move(part.transactions.begin(), part.transactions.end(), std::back_inserter(history.transactions));
    std::move(part.reads.begin(), part.reads.end(), std::back_inserter(history.reads));
    sum.committed += mover->figures().committed;
    sum.conflicts += mover->figures().conflicts;
    sum.refused += mover->figures().refused;
    sum.resends += mover->figures().resends;
    sum.resends_committed += mover->figures().resends_committed;
    sum.resends_not_committed += mover->figures().resends_not_committed;
    seen.moves += mover->seen().moves;
    seen.marks += mover->seen().marks;
    seen.looks += mover->seen().looks;
    seen.in_memory += mover->seen().in_memory;
    torn.insert(torn.end(), mover->torn().begin(), mover->torn().end());
  }
  ForgetMemory(&history);
  // Of daemons that share the store one may tell of a conflict before it has what another committed.
  if (log_reader != nullptr) {
    for (int daemon = 1; daemon <= world->daemons(); ++daemon) history.starts.push_back({daemon, 0, daemon});
  }
  const StoredInLog stored = Resolve(history, &*log);
  const std::vector<check::Violation> violations = check::Check(history, *log);
  int64_t total = 0;
  for (const check::Entry& entry : last.entries) {
    if (absl::StrContains(entry.name, "/account/")) total += entry.value->integer();
  }

  // What is not live goes.
  std::string leaked;
  const bool all_gone = Eventually([&] {
    leaked.clear();
    for (const auto& [container, live] : stored.live) leaked += Leaked(world, container, live);
    for (int i = 0; i < world->daemons() && leaked.empty(); ++i) leaked = world->NotSettled(i);
    if (!leaked.empty()) absl::SleepFor(absl::Milliseconds(100));  // each look starts programs
    return leaked.empty();
  });

  const auto pairs = [](const auto& map) { return absl::StrJoin(map, ", ", absl::PairFormatter(" ")); };
  std::string live;
  for (const auto& [container, of] : stored.live) absl::StrAppend(&live, " ", container, " ", of.size());
  std::printf(
      "mixed kills, %s: killed: %s; %d movers: %zu commits in the log, %lld acknowledged (%lld moves, %lld "
      "marks), %lld conflicts, %lld refused, %lld resends (%lld had committed, %lld had not), %lld looks "
      "(%lld "
      "saw memory too); erased: %s; live:%s; settled %.1f s after the last commit\n",
      what.c_str(), pairs(kills).c_str(), kMovers, log->size(), static_cast<long long>(sum.committed),
      static_cast<long long>(seen.moves), static_cast<long long>(seen.marks),
      static_cast<long long>(sum.conflicts), static_cast<long long>(sum.refused),
      static_cast<long long>(sum.resends), static_cast<long long>(sum.resends_committed),
      static_cast<long long>(sum.resends_not_committed), static_cast<long long>(seen.looks),
      static_cast<long long>(seen.in_memory), pairs(stored.superseded).c_str(), live.c_str(),
      absl::ToDoubleSeconds(absl::Now() - quiet));
  std::fflush(stdout);
  INFO(absl::StrJoin(torn, "\n"));
  CHECK(torn.empty());
  INFO(absl::StrJoin(stored.wrong, "\n"));
  CHECK(stored.wrong.empty());
  INFO(check::ToString(violations));
  CHECK(violations.empty());
  CHECK(total == first.Total());
  for (const World::Part& part : world->parts()) CHECK(kills[part.name] > 0);
  CHECK(seen.in_memory > 0);
  INFO(leaked);
  CHECK(all_gone);
}

TEST_CASE(
    "containers: kills of the daemon, of MongoDB and of a remote container tear nothing, lose nothing, leave "
    "nothing behind") {
  World world(1, "");
  KillAll("alone", &world, nullptr);
}

TEST_CASE(
    "containers: over ZooKeeper kills of daemons, of MongoDB and of a remote container tear nothing, lose "
    "nothing, leave nothing behind") {
  if (const std::string why = zookeeper::WhyNoServers(); !why.empty()) {
    std::printf("SKIPPED mixed kills: there is no ZooKeeper here: %s", why.c_str());
    return;
  }
  zookeeper::Ensemble ensemble((zookeeper::EnsembleOptions()));
  REQUIRE(ensemble.AwaitServing());
  const std::string store = "zk://" + ensemble.connect() + "/stmd";
  World world(2, store);
  LogReader log_reader(store);
  KillAll("ZooKeeper", &world, &log_reader);
}

}  // namespace
}  // namespace stm::e2e
