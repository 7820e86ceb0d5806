#include "backends/zookeeper/restore.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/local/backup.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/layout.h"
#include "engine/validator.h"
#include "engine/values/edn.h"
#include "tests/backends/coordinator_contract.h"
#include "tests/backends/replica.h"
#include "tests/backends/zookeeper/sea.h"
#include "tests/setting.h"
#include "tests/simulation/sim_disk.h"

namespace stm::zookeeper {
namespace {

using contract::Set;
using engine::ImageEntry;
using engine::Version;
using Fate = sim::SimEnsemble::Fate;
using Outcome = engine::AppendResult::Outcome;

// Above all that zxids alone come to here.
constexpr Version kVersion = Version{1} << 50;

struct TestBackup {
  Version version = 0;
  std::vector<ImageEntry> entries;  // but for tombstones
  std::string text;
};

// `which`: of all backups with other values at the same names, and others.
TestBackup MakeBackup(int which) {
  TestBackup backup;
  backup.version = kVersion + which * 1000;
  const Instant at{1'795'316'400, 1000};
  std::vector<ImageEntry> all;
  const auto add = [&](const std::string& name, std::optional<Value> value) -> ImageEntry& {
    ImageEntry& entry = all.emplace_back();
    entry.name = name;
    entry.value = std::move(value);
    entry.version = backup.version - static_cast<Version>(all.size());
    entry.written_at = Instant{at.seconds - static_cast<int64_t>(all.size()), 0};
    return entry;
  };
  for (int i = 0; i < 60; ++i) {
    add(absl::StrCat("/n/", i), Value::String(absl::StrCat("value ", which, " of ", i)));
  }
  for (int i = 0; i < 12; ++i) {
    add(absl::StrCat("/d", i % 4, "/e", which, "/f/", i), Value::Integer(i * which));
  }
  add("/100%/\xf0\x9f\x8e\xb2 \xee\x80\x80", Value());
  add("/.once/k", Value::Boolean(true));
  add("/atom", Value::Integer(7)).kind = engine::EntryKind::kAtom;
  engine::Definition definition;
  definition.ttl = absl::Hours(1);
  definition.validator = *engine::Validator::Parse(*ReadEdn("[:and :int [:min 0]]"));
  add("/defined", Value::Integer(1)).definition = std::make_shared<const engine::Definition>(definition);
  definition.container = "mongo";
  add("/contained", Value::Integer(2)).definition = std::make_shared<const engine::Definition>(definition);
  add("/deleted", std::nullopt);
  add(absl::StrCat("/gone", which, "/deleted"), std::nullopt);
  std::sort(all.begin(), all.end(), [](const ImageEntry& a, const ImageEntry& b) { return a.name < b.name; });
  local::BackupPrinter printer(7, backup.version, at);
  backup.text = printer.Add({all, {{Uuid{1, 2}, backup.version - 1, at}}});
  backup.text += printer.End(backup.version - 500);
  for (ImageEntry& entry : all) {
    if (entry.value) backup.entries.push_back(std::move(entry));
  }
  return backup;
}

// stmctl restore, as a process.
struct Run {
  Run(Sea* sea, const std::string& name, const std::string& text, RestoreCanaries canaries = {},
      size_t multi_bytes = 2000)
      : sea(sea), name(name), loop(&sea->world), sessions(&sea->ensemble, &loop, name) {
    RestoreOptions options;
    options.session = sea->To();
    options.patience = absl::Seconds(60);
    options.open = [text]() -> absl::StatusOr<BackupText> {
      return BackupText([text, at = size_t{0}]() mutable -> absl::StatusOr<std::string> {
        const std::string some = text.substr(at, 700);
        at += some.size();
        return some;
      });
    };
    options.multi_bytes = multi_bytes;
    options.under_way_max = 3;
    options.canaries = canaries;
    restore = std::make_unique<Restore>(
        &loop, &sessions, std::move(options),
        [this](absl::StatusOr<Restored> restored) { result = std::move(restored); });
  }
  ~Run() {
    if (restore != nullptr) Kill(Fate::kLost, absl::ZeroDuration());
  }

  // kill -9
  void Kill(Fate fate, absl::Duration late) {
    loop.Die();
    sea->ensemble.KillClient(name, fate, late);
    restore.reset();
  }
  absl::Status Await() {
    if (!sea->Run([this] { return result.has_value(); }))
      return absl::DeadlineExceededError("it does not end");
    return result->status();
  }

  Sea* const sea;
  const std::string name;
  sim::DaemonLoop loop;
  sim::SimSessions sessions;
  std::unique_ptr<Restore> restore;
  std::optional<absl::StatusOr<Restored>> result;
};

Sea Empty(uint64_t seed) { return Sea(seed, 3, false, Sea::Store::kNone); }

size_t Multis(const Sea& sea) {
  return static_cast<size_t>(
      std::count_if(sea.ensemble.log().begin(), sea.ensemble.log().end(),
                    [](const sim::Transaction& one) { return one.kind == sim::Transaction::Kind::kMulti; }));
}

// Of a daemon that starts.
absl::Status Start(Sea* sea, Ship* ship, Replica* replica) {
  std::optional<absl::Status> recovered;
  ship->coordinator->Recover(replica, [&](absl::Status status) { recovered = std::move(status); });
  if (!sea->Run([&] { return recovered.has_value(); }))
    return absl::DeadlineExceededError("it does not start");
  return *recovered;
}

absl::StatusOr<std::vector<std::string>> List(Sea* sea, Ship* ship, const std::string& prefix) {
  std::optional<absl::StatusOr<std::vector<std::string>>> names;
  ship->coordinator->List(prefix, "", 10'000, [&](auto listed) { names = std::move(listed); });
  if (!sea->Run([&] { return names.has_value(); })) return absl::DeadlineExceededError("no listing");
  return *names;
}

absl::StatusOr<std::vector<ImageEntry>> Load(Sea* sea, Ship* ship, const std::vector<std::string>& names) {
  std::optional<absl::StatusOr<std::vector<ImageEntry>>> entries;
  ship->coordinator->Load(names, {}, [&](auto loaded) { entries = std::move(loaded); });
  if (!sea->Run([&] { return entries.has_value(); })) return absl::DeadlineExceededError("no entries");
  return *entries;
}

// An archive of the store, of which `newest` is the third commit.
std::string WrongInArchive(Sea* sea, const TestBackup& backup, Version newest) {
  sim::SimDrive drive(&sea->world.chance());
  Ship ship(sea, "archive", {}, {}, {}, &drive);
  // Also over a restart, which finds its place.
  for (int start = 0; start < 2; ++start) {
    if (start > 0) {
      ship.Sink();
      ship.Make();
    }
    Replica replica;
    const absl::Status started = Start(sea, &ship, &replica);
    if (!started.ok()) return absl::StrCat("with an archive a daemon does not start: ", started.ToString());
    bool caught_up = false;
    ship.coordinator->log()->CatchUp([&](absl::Status status) { caught_up = status.ok(); });
    if (!sea->Run([&] { return caught_up; })) return "the archive does not catch up";
    // What was restored has no history before it.
    if (!absl::IsOutOfRange(ship.coordinator->log()->Open(backup.version).status())) {
      return "the archive says that it goes back to before the restore";
    }
    auto cursor = ship.coordinator->log()->Open(0);
    if (!cursor.ok()) return cursor.status().ToString();
    const auto items = (*cursor)->Next(1 << 20);
    if (!items.ok() || items->size() != 3 || items->back().commit->version != newest) {
      return "the archive does not have the commits";
    }
  }
  return "";
}

// What is wrong with the store as one of the backup, and with daemons on it; "": nothing.
std::string Wrong(Sea* sea, const TestBackup& backup) {
  Ship one(sea, "one");
  Replica first;
  const absl::Status started = Start(sea, &one, &first);
  if (!started.ok()) return absl::StrCat("a daemon does not start: ", started.ToString());
  if (first.version <= backup.version) return "a daemon begins at a version of the backup's";
  if (first.id_floor != first.version) return "ids before the restore count as known";
  std::vector<std::string> names, listed;
  for (const ImageEntry& entry : backup.entries) names.push_back(entry.name);
  for (const char* prefix : {"/.once/", "/"}) {
    const auto some = List(sea, &one, prefix);
    if (!some.ok()) return some.status().ToString();
    listed.insert(listed.end(), some->begin(), some->end());
  }
  if (listed != names) {
    return absl::StrCat("a listing has ", listed.size(), " names, the backup ", names.size());
  }
  auto loaded = Load(sea, &one, names);
  if (!loaded.ok()) return loaded.status().ToString();
  if (loaded->size() != names.size()) return "an entry is not there";
  for (size_t i = 0; i < names.size(); ++i) {
    const ImageEntry& is = (*loaded)[i];
    if (is.version <= backup.version) return absl::StrCat(names[i], " has a version of the backup's");
    if (is.version > first.version) return absl::StrCat(names[i], " is newer than all");
    // With its kind and definition.
    if (PrintNode(is, 0, is.written_at) != PrintNode(backup.entries[i], 0, backup.entries[i].written_at)) {
      return absl::StrCat(names[i], " is ", PrintNode(is, 0, is.written_at));
    }
  }
  // An entry that was there, and a new one, in a directory that is there and in a new one.
  Version newest = first.version;
  for (const char* name : {"/n/1", "/n/new", "/new/x/y"}) {
    auto commit = Set(name, Value::Integer(5));
    if (commit->changes[0].name != "/n/1") commit->changes[0].kind = engine::EntryChange::Kind::kCreate;
    std::optional<engine::AppendResult> result;
    one.coordinator->Append({commit}, [&](engine::AppendResult told) { result = std::move(told); });
    if (!sea->Run([&] { return result.has_value(); })) return "a commit is not answered";
    if (result->outcome != Outcome::kCommitted) return absl::StrCat(name, " can't be committed");
    if (commit->version <= newest) return "a commit's version is not above those before";
    newest = commit->version;
  }
  Ship two(sea, "two");
  Replica second;
  const absl::Status again = Start(sea, &two, &second);
  if (!again.ok()) return absl::StrCat("a second daemon does not start: ", again.ToString());
  if (second.version != newest || second.installed != 3) return "a second daemon does not hold the commits";
  if (second.image_version <= backup.version) return "a second daemon begins at a version of the backup's";
  loaded = Load(sea, &two, {"/atom"});
  if (!loaded.ok() || loaded->size() != 1) return "a second daemon does not find what was restored";
  return WrongInArchive(sea, backup, newest);
}

const TestBackup& Backup(int which) {
  static const std::vector<TestBackup> all = {MakeBackup(0), MakeBackup(1), MakeBackup(2)};
  return all[static_cast<size_t>(which)];
}

// The backup that the store is of, by its epoch; null: of none.
const TestBackup* WhichIsThere(const Sea& sea) {
  const sim::Znode* const epoch = sea.ensemble.committed().Find(absl::StrCat("/app", kEpochPath));
  if (epoch == nullptr) return nullptr;
  for (int which = 0; which < 3; ++which) {
    if (ParseEpoch(epoch->data)->base == Backup(which).version) return &Backup(which);
  }
  return nullptr;
}

TEST_CASE("zookeeper restore: a store is what the backup says, daemons go on with versions above all of it") {
  const uint64_t seed = GENERATE(1, 2, 3);
  Sea sea = Empty(seed);
  Run run(&sea, "restore", Backup(1).text);
  REQUIRE(run.Await() == absl::OkStatus());
  CHECK((*run.result)->version == Backup(1).version);
  CHECK((*run.result)->entries == static_cast<int64_t>(Backup(1).entries.size()));
  // The packets' bound was none for it.
  CHECK(Multis(sea) > 10);
  CHECK(Wrong(&sea, Backup(1)) == "");
}

TEST_CASE("zookeeper restore: where there is a store nothing is changed") {
  Sea sea(1);
  const size_t before = Multis(sea);
  Run run(&sea, "restore", Backup(1).text);
  CHECK(absl::IsAlreadyExists(run.Await()));
  CHECK(Multis(sea) == before);
  Sea restored = Empty(1);
  Run first(&restored, "first", Backup(1).text);
  REQUIRE(first.Await() == absl::OkStatus());
  const size_t after = Multis(restored);
  Run second(&restored, "second", Backup(2).text);
  CHECK(absl::IsAlreadyExists(second.Await()));
  CHECK(absl::IsAlreadyExists(restored.MakeStore()));
  CHECK(Multis(restored) == after);
  CHECK(Wrong(&restored, Backup(1)) == "");
}

TEST_CASE("zookeeper restore: a damaged backup, and one that ZooKeeper can't hold, make nothing") {
  std::string damaged = Backup(1).text;
  SECTION("a value") { damaged.replace(damaged.find("value 1 of 7"), 12, "value 1 of 8"); }
  SECTION("the end") { damaged.resize(damaged.rfind("{:floor ")); }
  SECTION("all") { damaged.clear(); }
  SECTION("more") { damaged += "\n"; }
  Sea sea = Empty(1);
  if (damaged != Backup(1).text) {
    Run run(&sea, "restore", damaged);
    CHECK(absl::IsDataLoss(run.Await()));
  }
  SECTION("a value above a packet") {
    ImageEntry entry;
    entry.name = "/large";
    entry.value = Value::String(std::string(kPacketBytesMax, 'v'));
    entry.version = 1;
    local::BackupPrinter printer(7, 1, Instant{1, 0});
    std::string text = printer.Add({{entry}, {}});
    text += printer.End(0);
    Run run(&sea, "restore", text);
    const absl::Status status = run.Await();
    CHECK(absl::IsResourceExhausted(status));
    CHECK_THAT(std::string(status.message()), Catch::Matchers::Contains("/large"));
  }
  CHECK(Multis(sea) == 0);
}

// Killed once so many multis are done, of which those under way fare so; then another backup is restored.
// What is wrong; "": nothing.
std::string Interrupt(size_t multis, Fate fate, absl::Duration late, RestoreCanaries canaries = {},
                      size_t multi_bytes = 2000) {
  Sea sea = Empty(multis);
  Run killed(&sea, "killed", Backup(1).text, canaries, multi_bytes);
  if (!sea.Run([&] { return Multis(sea) >= multis; })) return "it does not get so far";
  killed.Kill(fate, late);
  const std::string restore = absl::StrCat("/app", kRestorePath);
  if (fate == Fate::kLost && sea.ensemble.committed().Find(restore) != nullptr) {
    // It is neither a store nor none.
    Ship ship(&sea, "daemon");
    Replica replica;
    for (const absl::Status& status : {Start(&sea, &ship, &replica), sea.MakeStore()}) {
      if (!absl::IsFailedPrecondition(status) ||
          !absl::StrContains(status.message(), "run stmctl restore again")) {
        return absl::StrCat("what is unfinished is not told: ", status.ToString());
      }
    }
  }
  Run again(&sea, "again", Backup(2).text, canaries, multi_bytes);
  const absl::Status status = again.Await();
  if (!sea.Run(
          [&, at = sea.world.Now() + 2 * late] { return sea.world.Now() >= at && sea.ensemble.settled(); }))
    return "it does not settle";
  const TestBackup* const is = WhichIsThere(sea);
  if (is == nullptr) return absl::StrCat("there is no store of a backup: ", status.ToString());
  if (absl::IsAlreadyExists(status) ? is != &Backup(1) : !status.ok() || is != &Backup(2)) {
    return absl::StrCat("it is told ", status.ToString(), ", and the store is of another backup");
  }
  return Wrong(&sea, *is);
}

// Of one that is not interrupted.
size_t MultisOfAll() {
  Sea sea = Empty(1);
  Run run(&sea, "restore", Backup(1).text);
  REQUIRE(run.Await() == absl::OkStatus());
  return Multis(sea);
}

TEST_CASE(
    "zookeeper restore: interrupted at every multi, it is no store, and one that is run again makes it one") {
  const size_t all = MultisOfAll();
  for (size_t multis = 1; multis <= all; ++multis) {
    for (const Fate fate : {Fate::kAny, Fate::kLost, Fate::kDone, Fate::kLate}) {
      INFO(multis << " of " << all << " multis, fate " << static_cast<int>(fate));
      CHECK(Interrupt(multis, fate, absl::Milliseconds(1 + multis % 7 * 10)) == "");
    }
  }
}

TEST_CASE("zookeeper restore: of two at once the later one makes the store, the other is told") {
  const size_t all = MultisOfAll();
  for (size_t multis = 2; multis + 3 < all; ++multis) {
    Sea sea = Empty(multis);
    Run first(&sea, "first", Backup(1).text);
    REQUIRE(sea.Run([&] { return Multis(sea) >= multis; }));
    Run second(&sea, "second", Backup(2).text);
    const absl::Status of_second = second.Await(), of_first = first.Await();
    INFO(multis << ": " << of_first << ", " << of_second);
    if (absl::IsAlreadyExists(of_second)) {
      // The first was done before the second looked.
      CHECK(of_first == absl::OkStatus());
      CHECK(Wrong(&sea, Backup(1)) == "");
      continue;
    }
    CHECK(of_second == absl::OkStatus());
    CHECK(absl::IsAborted(of_first));
    CHECK(Wrong(&sea, Backup(2)) == "");
  }
}

// So small that each multi has one entry.
constexpr size_t kEntryEach = 1;

// Restores that are killed by chance until one is told that there is a store.
std::string InWeather(uint64_t seed, sim::ZooTotals* totals, int64_t* killed) {
  Sea sea = Empty(seed);
  sim::Chance& chance = sea.world.chance();
  sea.ensemble.SetWeather(sim::ZooWeather::Draw(&chance));
  bool calm = false;
  sea.world.At(sea.world.Now() + absl::Seconds(20), [&] {
    calm = true;
    sea.ensemble.Calm();
  });
  std::optional<absl::Status> told;
  const TestBackup* of = nullptr;
  for (int run = 0; !told; ++run) {
    of = &Backup(run % 3);
    Run restore(&sea, absl::StrCat("restore ", run), of->text, {}, kEntryEach);
    const absl::Duration until =
        calm || chance.In1000(200)
            ? absl::InfiniteDuration()
            : sea.world.Now() + absl::Milliseconds(chance.OneOf<int64_t>({5, 20, 100, 1000}));
    if (!sea.Run([&] { return restore.result.has_value() || sea.world.Now() >= until; })) return "it hangs";
    if (restore.result) {
      const absl::Status status = restore.result->status();
      if (status.ok() || absl::IsAlreadyExists(status)) {
        told = status;
      } else if (!absl::IsUnavailable(status)) {
        return status.ToString();
      }
      continue;
    }
    ++*killed;
    restore.Kill(chance.OneOf<Fate>({Fate::kAny, Fate::kLost, Fate::kDone, Fate::kLate}),
                 absl::Milliseconds(chance.Between(1, 1000)));
  }
  if (!sea.Run([&] { return calm && sea.ensemble.settled(); })) return "no calm";
  totals->Add(sea.ensemble.totals());
  const TestBackup* const is = WhichIsThere(sea);
  if (is == nullptr) return "there is no store of a backup";
  if (told->ok() && is != of) return "the store is not of the backup whose restore was told done";
  return Wrong(&sea, *is);
}

TEST_CASE("zookeeper restore: in any weather, killed and run again, the store is of one backup, and whole") {
  constexpr uint64_t kSeeds = 60;
  const auto count = static_cast<uint64_t>(Setting("SEEDS", kSeeds));
  sim::ZooTotals totals;
  int64_t killed = 0;
  for (uint64_t seed = 1; seed <= count; ++seed) {
    INFO("seed " << seed);
    CHECK(InWeather(seed, &totals, &killed) == "");
  }
  if (count < kSeeds) return;
  // What the weather must have brought.
  CHECK(totals.unknown > 20);
  CHECK(totals.late_commits > 5);
  CHECK(totals.elections > 20);
  CHECK(totals.sessions_expired > 5);
  CHECK(killed > 10);
}

TEST_CASE("zookeeper restore: planted bugs are caught", "[planted]") {
  for (bool RestoreCanaries::*const bug : {&RestoreCanaries::base_stays, &RestoreCanaries::log_stays_empty}) {
    RestoreCanaries canaries;
    canaries.*bug = true;
    Sea sea = Empty(1);
    Run run(&sea, "restore", Backup(1).text, canaries);
    REQUIRE(run.Await() == absl::OkStatus());
    CHECK(Wrong(&sea, Backup(1)) != "");
  }
  RestoreCanaries canaries;
  canaries.skip_fence = true;
  int caught = 0;
  for (size_t multis = 2; multis < 60; ++multis) {
    CHECK(Interrupt(multis, Fate::kLate, absl::Milliseconds(5), {}, kEntryEach) == "");
    caught += Interrupt(multis, Fate::kLate, absl::Milliseconds(5), canaries, kEntryEach) != "";
  }
  CHECK(caught > 0);
}

// A run that has begun to delete what another one left loses its connection, of which what is under way comes
// so much later.
std::string LateDeletes(size_t multis, absl::Duration late) {
  Sea sea = Empty(multis);
  Run killed(&sea, "killed", Backup(1).text, {}, kEntryEach);
  const std::string path = absl::StrCat("/app", NodePath(Backup(1).entries.back().name));
  if (!sea.Run([&] { return sea.ensemble.committed().Find(path) != nullptr; }))
    return "it does not get so far";
  killed.Kill(Fate::kLost, absl::ZeroDuration());
  if (WhichIsThere(sea) != nullptr) return "";
  Run again(&sea, "again", Backup(1).text, {}, kEntryEach);
  const size_t before = Multis(sea);
  if (!sea.Run([&] { return Multis(sea) >= before + multis; })) return "it does not begin";
  sea.ensemble.Cut("again", Fate::kLate, late);
  const absl::Status status = again.Await();
  if (!status.ok()) return status.ToString();
  return Wrong(&sea, Backup(1));
}

TEST_CASE("zookeeper restore: a delete that comes late meets nothing that is made since") {
  for (const size_t multis : {2, 10, 40, 80}) {
    for (const int64_t late : {5, 20, 40, 60, 80, 100, 150, 200}) {
      INFO(multis << " multis, " << late << " ms");
      CHECK(LateDeletes(multis, absl::Milliseconds(late)) == "");
    }
  }
}

}  // namespace
}  // namespace stm::zookeeper
