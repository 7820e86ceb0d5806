// Bugs that the simulation found, each as the shortest scenario that shows it.
#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backends/local/backup.h"
#include "backends/local/log_format.h"
#include "engine/name.h"
#include "engine/reservations.h"
#include "tests/simulation/archivist.h"
#include "tests/simulation/local_daemon.h"
#include "tests/simulation/network.h"
#include "tests/simulation/sim_disk.h"
#include "tests/simulation/world.h"

namespace stm::sim {
namespace {

struct Machine {
  explicit Machine(uint64_t seed, local::LocalOptions local = {}, engine::Options options = {})
      : world(seed),
        drive(&world.chance()),
        daemon(&world, &drive, options, {}, std::move(local), &history) {}

  // False: the daemon died first.
  template <typename Done>
  bool Until(Done done) {
    while (!done()) {
      if (drive.dead() || daemon.failed() || daemon.start_failed() || !world.Step()) return false;
    }
    return true;
  }
  void Start() {
    daemon.Start();
    REQUIRE(Until([&] { return daemon.ready(); }));
  }
  // nullptr: the daemon died first.
  std::shared_ptr<const engine::Verdict> Commit(engine::Transaction transaction) {
    std::shared_ptr<const engine::Verdict> verdict;
    auto message = std::make_shared<engine::Transaction>(std::move(transaction));
    world.Post([&verdict, message, this] {
      daemon.engine().Commit(
          std::make_unique<engine::Transaction>(*message),
          [&verdict](std::shared_ptr<const engine::Verdict> v, engine::Version) { verdict = v; });
    });
    Until([&] { return verdict != nullptr; });
    return verdict;
  }
  // The version; nullopt: no answer.
  std::optional<engine::Version> Set(const std::string& name) {
    engine::Transaction transaction;
    transaction.writes.resize(1);
    transaction.writes[0].name = name;
    transaction.writes[0].value = Value::Integer(1);
    const auto verdict = Commit(std::move(transaction));
    if (verdict == nullptr || !std::holds_alternative<engine::Committed>(verdict->outcome))
      return std::nullopt;
    return std::get<engine::Committed>(verdict->outcome).version;
  }

  World world;
  SimDrive drive;
  check::History history;
  LocalDaemon daemon;
};

// A kill between a file's creation and the directory's sync left a file that the next start appended to:
// commits were answered, and a power loss took them with the file.
TEST_CASE("regression: killed at any change, started again, cut off: what was answered is there") {
  for (uint64_t change = 1; change <= 40; ++change) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      local::LocalOptions local;
      local.segment_bytes = 1;  // a file a batch
      local.prefill_bytes = 0;
      local.ballast_bytes = 0;
      Machine machine(seed, local);
      machine.Start();
      std::set<engine::Version> answered;
      machine.drive.DieAfter(change);
      while (auto version = machine.Set("/a")) answered.insert(*version);
      machine.daemon.Crash(End::kKill);
      machine.Start();
      const auto version = machine.Set("/a");
      REQUIRE(version);
      answered.insert(*version);
      machine.daemon.Crash(End::kPowerLoss);
      machine.Start();
      const auto log = machine.daemon.ReadLog();
      REQUIRE(log.ok());
      std::set<engine::Version> kept;
      for (const check::LogCommit& commit : *log) kept.insert(commit.version);
      for (engine::Version version : answered) {
        INFO("killed at change " << change << ", seed " << seed << ", version " << version);
        REQUIRE(kept.count(version) == 1);
      }
    }
  }
}

// Versions read from the page cache were told before the start had synced them; a failed sync and a power
// loss later clients waited for versions that never were.
TEST_CASE("regression: while a daemon recovers it tells no version") {
  local::LocalOptions local;
  local.recover_commits_per_task = 1;
  Machine machine(1, local);
  machine.Start();
  for (int i = 0; i < 20; ++i) REQUIRE(machine.Set("/a"));
  machine.daemon.Crash(End::kKill);
  machine.daemon.Start();
  std::vector<engine::Version> told;
  bool asked = false;
  while (!machine.daemon.ready()) {
    REQUIRE(machine.world.Step());
    if (!machine.daemon.engine().GetStatus().ready) REQUIRE(machine.daemon.installed() == 0);
    if (asked) continue;
    asked = true;
    machine.world.Post([&] {
      auto done = [&](std::shared_ptr<const engine::Verdict> verdict, engine::Version installed) {
        asked = false;
        const auto* status = std::get_if<absl::Status>(&verdict->outcome);
        if (status != nullptr && status->code() == absl::StatusCode::kUnavailable) told.push_back(installed);
      };
      machine.daemon.engine().Commit(std::make_unique<engine::Transaction>(), done);
    });
  }
  machine.daemon.Crash(End::kKill);
  REQUIRE(!told.empty());
  for (engine::Version version : told) REQUIRE(version == 0);
}

// After a start listings are only known to be no newer than what was recovered; that floor was told as a
// conflict's cause.
TEST_CASE("regression: a conflict with a listing names the commit that changed it, or none") {
  Machine machine(1);
  machine.Start();
  for (const char* name : {"/list/a", "/other", "/other"}) REQUIRE(machine.Set(name));
  engine::Transaction transaction;
  transaction.snapshot = 1;
  transaction.lists = {"/list/"};
  transaction.writes.resize(1);
  transaction.writes[0].name = "/b";
  REQUIRE(std::holds_alternative<engine::Committed>(machine.Commit(transaction)->outcome));
  machine.daemon.Crash(End::kKill);
  machine.Start();
  const auto verdict = machine.Commit(transaction);
  if (const auto* conflict = std::get_if<engine::Conflict>(&verdict->outcome)) {
    REQUIRE(conflict->causes.size() == 1);
    REQUIRE(conflict->causes[0].version == 0);
  }
}

// Of two causes one was a write in the same batch, which might have been lost with it.
TEST_CASE("regression: a conflict names what is installed, and nothing that is still under way") {
  Machine machine(1);
  machine.Start();
  for (const char* name : {"/a", "/b", "/a"}) REQUIRE(machine.Set(name));
  std::vector<engine::Submission> submissions(2);
  std::shared_ptr<const engine::Verdict> verdict;
  for (engine::Submission& submission : submissions) {
    submission.transaction = std::make_unique<engine::Transaction>();
    submission.transaction->writes.resize(1);
    submission.transaction->writes[0].name = "/b";
    submission.transaction->writes[0].value = Value::Integer(2);
    submission.done = [&verdict](std::shared_ptr<const engine::Verdict> v, engine::Version) {
      if (std::holds_alternative<engine::Conflict>(v->outcome)) verdict = v;
    };
  }
  submissions[1].transaction->snapshot = 2;
  submissions[1].transaction->reads = {"/a", "/b"};
  auto message = std::make_shared<std::vector<engine::Submission>>(std::move(submissions));
  machine.world.Post([&machine, message] { machine.daemon.engine().Commit(std::move(*message)); });
  REQUIRE(machine.Until([&] { return verdict != nullptr; }));
  const auto& causes = std::get<engine::Conflict>(verdict->outcome).causes;
  REQUIRE(causes.size() == 1);
  REQUIRE(causes[0].name == "/a");
  REQUIRE(causes[0].version == 3);
}

// A restart takes memory entries and gives no version: what had read one before it, or listed them, committed
// after it at the version that both lives had installed.
TEST_CASE("regression: a read of a memory entry does not outlive the daemon that held it") {
  for (const bool lists : {false, true}) {
    Machine machine(1);
    machine.Start();
    const auto version = machine.Set("/.memory/a");
    REQUIRE(version);
    machine.daemon.Crash(End::kKill);
    machine.Start();
    engine::Transaction transaction;
    transaction.snapshot = *version;
    (lists ? transaction.lists : transaction.reads) = {lists ? "/.memory/" : "/.memory/a"};
    transaction.writes.resize(1);
    transaction.writes[0].name = "/b";
    const auto verdict = machine.Commit(transaction);
    REQUIRE(std::holds_alternative<engine::Conflict>(verdict->outcome));
    // A run that begins now commits soon: versions move past the start although nobody else writes.
    const auto moved = [&] { return machine.daemon.installed() > *version; };
    REQUIRE(machine.Until(moved));
    transaction.snapshot = machine.daemon.installed();
    REQUIRE(std::holds_alternative<engine::Committed>(machine.Commit(transaction)->outcome));
  }
}

// A snapshot that both lives had installed was read on in the second: one run saw memory entries there, and
// gone. (The simulation's seeds 176 and 193 of 300, by a name and by a listing.)
TEST_CASE("regression: a snapshot that held memory entries is not read on after the start that took them") {
  for (const bool lists : {false, true}) {
    Machine machine(1);
    machine.Start();
    const auto version = machine.Set("/.memory/a");
    REQUIRE(version);
    machine.daemon.Crash(End::kKill);
    machine.Start();
    absl::Status status = absl::UnknownError("no answer");
    const auto read = [&](engine::Version at) {
      status = absl::UnknownError("no answer");
      const engine::ReadPoint point{engine::ReadPoint::At::kVersion, at, {}};
      machine.world.Post([&machine, &status, lists, point] {
        const auto told = [&status](const auto& result) { status = result.status(); };
        engine::GetRequest get{{"/.memory/a"}, point};
        engine::ListRequest list{"/.memory/", point};
        if (lists) return machine.daemon.engine().List(std::move(list), told);
        machine.daemon.engine().Get(std::move(get), told);
      });
      REQUIRE(machine.Until([&] { return !absl::IsUnknown(status); }));
    };
    read(*version);
    REQUIRE(absl::IsOutOfRange(status));
    // Whoever begins again finds a snapshot of this life, although nobody else writes.
    REQUIRE(machine.Until([&] { return machine.daemon.installed() > *version; }));
    read(machine.daemon.installed());
    REQUIRE(status.ok());
  }
}

// A watch that resumed after the version that a start recovered went on as if the memory entries were still
// there. (The simulation's seed 41 of 300.)
TEST_CASE("regression: a watch of memory entries that resumes after a start has a gap") {
  class Sink : public engine::WatchSink {
   public:
    void OnInitial(std::vector<engine::EntryState>) override {}
    void OnSynced(engine::Version) override { synced = true; }
    bool OnCommit(std::shared_ptr<const engine::WatchEvent>) override { return true; }
    size_t Room() const override { return 10; }
    void OnProgress(engine::Version) override {}
    void OnGap(engine::Version, std::string) override { gap = true; }
    void OnDrain() override {}
    bool synced = false;
    bool gap = false;
  };
  for (const char* name : {"/.memory/a", "/a"}) {
    Machine machine(1);
    machine.Start();
    const auto version = machine.Set(name);
    REQUIRE(version);
    machine.daemon.Crash(End::kKill);
    machine.Start();
    const auto watch = [&](engine::Version after) {
      auto sink = std::make_shared<Sink>();
      machine.world.Post([&machine, sink, name, after] {
        engine::WatchRequest request;
        request.selector.names = {name};
        request.after = after;
        REQUIRE(machine.daemon.engine().Watch(request, sink).ok());
      });
      REQUIRE(machine.Until([&] { return sink->synced || sink->gap; }));
      return sink->gap;
    };
    const bool memory = engine::IsMemory(name);
    REQUIRE(watch(*version) == memory);
    if (!memory) continue;
    REQUIRE(machine.Until([&] { return machine.daemon.installed() > *version; }));
    REQUIRE(!watch(machine.daemon.installed()));
  }
}

// What came back from off the Loop and was refused was the last under way; nobody looked whether the drain
// was over. (The simulation's seed 7,556 of 10,000, stuck in a stop.)
TEST_CASE("regression: a drain ends when the last transaction is worked on off the Loop, and is refused") {
  engine::Options options;
  options.heavy_value_bytes = 30;
  Machine machine(1, {}, options);
  machine.Start();
  engine::Transaction transaction;
  transaction.writes.resize(1);
  transaction.writes[0].name = "/a";
  transaction.writes[0].value = Value::String(std::string(100, 'x'));
  REQUIRE(machine.Commit(transaction) != nullptr);
  auto operation = std::make_shared<engine::Operation>();
  operation->verb = engine::Operation::Verb::kAdd;
  operation->argument = Value::Integer(1);
  transaction.writes[0].change = engine::Write::Change::kApply;
  transaction.writes[0].operation = operation;
  auto message = std::make_shared<engine::Transaction>(transaction);
  machine.world.Post([&machine, message] {
    machine.daemon.engine().Commit(std::make_unique<engine::Transaction>(*message),
                                   [](std::shared_ptr<const engine::Verdict>, engine::Version) {});
  });
  REQUIRE(machine.Until([&] { return machine.daemon.engine().GetStatus().stats.parked == 1; }));
  machine.daemon.Stop();
  const absl::Duration late = machine.world.Now() + absl::Seconds(5);
  REQUIRE(machine.Until([&] { return machine.daemon.stopped() || machine.world.Now() > late; }));
  REQUIRE(machine.daemon.stopped());
}

// Two old log files went with one sync of the directory behind both; a power loss brought the older one back
// without the one behind it, and whoever read the log from its beginning was refused in the middle, start
// after start. (The simulation's seed 515 of 1,500.)
TEST_CASE("regression: cut off while old log files are dropped, the log that is left has no hole") {
  local::LocalOptions local;
  local.segment_bytes = 1;  // a file a batch
  local.snapshot_bytes = 8 << 10;
  local.log_keep_age = absl::ZeroDuration();
  local.prefill_bytes = 0;
  local.ballast_bytes = 0;
  engine::Options options;
  options.id_table_bytes_max = 4 << 10;
  int dropped = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Machine machine(seed, local, options);
    machine.Start();
    int left = 0;  // removals until the power goes
    machine.drive.SetRemoved([&](const std::string& name, const std::string&) {
      if (name.substr(0, 4) == "log-" && ++left == static_cast<int>(seed % 4) + 2) machine.drive.DieAfter(1);
    });
    for (uint64_t i = 1; !machine.drive.dead() && i < 1000; ++i) {
      engine::Transaction transaction;
      transaction.id = engine::CommitId{Uuid{seed, i}, machine.daemon.writer(), machine.daemon.installed()};
      transaction.writes.resize(1);
      transaction.writes[0].name = "/a";
      machine.Commit(std::move(transaction));
    }
    REQUIRE(machine.drive.dead());
    dropped += left;
    machine.daemon.Crash(End::kPowerLoss);
    machine.Start();
    INFO("seed " << seed);
    const auto log = machine.daemon.ReadLog();
    INFO(log.status().ToString());
    REQUIRE(log.ok());
    for (size_t i = 1; i < log->size(); ++i) REQUIRE((*log)[i].version == (*log)[i - 1].version + 1);
  }
  REQUIRE(dropped > 100);
}

// There was no room for all blanks that are written ahead in the empty store's log, so they were not synced:
// zeros after a power loss. Taken for a commit, they kept the restored store from starting.
TEST_CASE("regression: cut off at any change of a restore, the store starts, empty or whole") {
  constexpr engine::Version kVersion = 5;
  engine::ImagePart part;
  part.entries.resize(1);
  part.entries[0].name = "/a";
  part.entries[0].value = Value::Integer(1);
  part.entries[0].version = kVersion;
  local::BackupPrinter printer(7, kVersion, Instant{1795316400, 0});
  std::string text = printer.Add(part);
  text += printer.End(0);
  std::set<engine::Version> left;
  for (uint64_t change = 1; change <= 30; ++change) {
    for (uint64_t seed = 1; seed <= 60; ++seed) {
      local::LocalOptions local;
      local.prefill_bytes = 64 << 10;
      local.ballast_bytes = 0;
      Machine machine(seed, local);
      constexpr uint64_t kRoom = 1500;
      const std::string log = local::LogName(1);
      machine.drive.SetFull(kRoom);
      machine.Start();
      REQUIRE(machine.Until([&] { return machine.drive.Contents()[log].size() == kRoom; }));
      machine.drive.SetRoomy();
      Network network(&machine.world);
      Archivist archivist(Scene{&machine.world, {&machine.daemon}, &network}, &machine.daemon);
      const auto told = std::make_shared<std::optional<absl::Status>>();
      machine.drive.DieAfter(change);
      archivist.Restore(text, [told](absl::Status status) { *told = std::move(status); });
      machine.Until([&] { return told->has_value(); });
      INFO("cut off at change " << change << ", seed " << seed);
      const bool done = told->has_value() && (*told)->ok();
      INFO((*told ? (*told)->ToString() : ""));
      REQUIRE((done || machine.drive.dead()));
      machine.daemon.Crash(End::kPowerLoss);
      machine.Start();
      left.insert(machine.daemon.installed());
      REQUIRE((machine.daemon.installed() == kVersion || (machine.daemon.installed() == 0 && !done)));
    }
  }
  REQUIRE(left == std::set<engine::Version>{0, kVersion});
}

// One who waited on a prefix and was let go reserved only the names it writes; whoever stood behind it in the
// prefix's line was never looked at again.
TEST_CASE("regression: nobody waits in a line whose name nobody holds") {
  engine::Reservations reservations;
  const auto pending = [](uint64_t sequence, std::string name, std::string read) {
    auto pending = std::make_unique<engine::Pending>();
    pending->transaction = std::make_unique<engine::Transaction>();
    pending->transaction->writes.resize(1);
    pending->transaction->writes[0].name = std::move(name);
    if (!read.empty()) pending->transaction->reads = {std::move(read)};
    pending->sequence = sequence;
    pending->born = absl::Seconds(static_cast<int64_t>(sequence));
    return pending;
  };
  engine::Pending holder;
  holder.transaction = std::make_unique<engine::Transaction>();
  holder.transaction->lists = {"/set/"};
  const uint64_t number = reservations.Reserve(holder, 1, absl::Seconds(100));
  auto first = pending(2, "/set/1", "/else");
  auto second = pending(3, "/set/2", "");
  REQUIRE(reservations.StandInLine(first));
  REQUIRE(reservations.StandInLine(second));
  uint64_t next_number = 2;
  std::vector<std::unique_ptr<engine::Pending>> ready;
  reservations.Release(number, absl::Seconds(100), &next_number, &ready);
  REQUIRE(ready.size() == 2);
}

}  // namespace
}  // namespace stm::sim
