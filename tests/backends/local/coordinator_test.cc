#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "backends/local/local_coordinator.h"
#include "backends/local/memory_coordinator.h"
#include "tests/backends/coordinator_contract.h"
#include "tests/backends/local/local_store.h"

namespace stm::local {
namespace {

using contract::Set;
using Outcome = engine::AppendResult::Outcome;

class InMemory : public CoordinatorUnderTest {
 public:
  engine::Coordinator& coordinator() override { return memory_; }
  engine::Writers& writers() override { return memory_; }
  engine::LogReader* reader() override { return &memory_; }
  bool TurnUntil(const std::function<bool()>& done) override {
    while (!done()) {
      if (!loop_.Step()) return false;
    }
    return true;
  }
  bool Reopen() override { return false; }

 private:
  InlineLoop loop_;
  MemoryCoordinator memory_{&loop_, MemoryOptions{}};
};

TEST_CASE("memory coordinator: the coordinators' contract") {
  TestCoordinator([] { return std::make_unique<InMemory>(); });
}

TEST_CASE("memory coordinator: its log is bounded, and says what it no longer keeps") {
  InlineLoop loop;
  Replica replica;
  MemoryCoordinator memory(&loop, MemoryOptions{2000});
  memory.Recover(&replica, [](absl::Status) {});
  for (int i = 0; i < 100; ++i) memory.Append({Set("/a", Value::Integer(i))}, [](engine::AppendResult) {});
  loop.Turn();
  CHECK(memory.FirstVersion() > 80);
  CHECK(memory.Open(1).status().code() == absl::StatusCode::kOutOfRange);
  auto kept = contract::ReadAll(memory, 0);
  CHECK(kept.front().commit->version == memory.FirstVersion());
  CHECK(kept.front().before[0] == Value::Integer(memory.FirstVersion() - 2));
}

class OnMemoryDisk : public CoordinatorUnderTest {
 public:
  explicit OnMemoryDisk(LocalOptions options) : options_(std::move(options)) { Make(); }
  engine::Coordinator& coordinator() override { return *local_; }
  engine::Writers& writers() override { return *local_; }
  engine::LogReader* reader() override { return local_.get(); }
  bool TurnUntil(const std::function<bool()>& done) override {
    while (!done()) {
      if (!loop_.Step()) return false;
    }
    return true;
  }
  bool Reopen() override {
    loop_.Forget();
    disk_.Crash();
    Make();
    return true;
  }

 private:
  void Make() { local_ = std::make_unique<LocalCoordinator>(&loop_, &loop_, &disk_, options_); }
  LocalOptions options_;
  MemoryDisk disk_;
  InlineLoop loop_;
  std::unique_ptr<LocalCoordinator> local_;
};

TEST_CASE("local coordinator: the coordinators' contract") {
  TestCoordinator([] { return std::make_unique<OnMemoryDisk>(SmallOptions()); });
}

TEST_CASE("local coordinator: the coordinators' contract, with a file for every batch and many snapshots") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 1;
  options.snapshot_bytes = 500;
  options.image_items_per_task = 2;
  options.recover_commits_per_task = 3;
  options.prefill_bytes = 0;
  TestCoordinator([&] { return std::make_unique<OnMemoryDisk>(options); });
}

TEST_CASE("local coordinator: a batch is one task, one write and one sync") {
  LocalOptions options = SmallOptions();
  options.prefill_bytes = 0;
  LocalStore store(options);
  store.Reopen();
  store.loop.writes = 0;
  store.disk.write_sizes.clear();
  store.disk.syncs = 0;
  store.Append({Set("/a", Value::Integer(1)), Set("/b", Value::Integer(2)), Set("/c", Value::Integer(3))});
  CHECK(store.loop.writes == 1);
  CHECK(store.disk.write_sizes.size() == 1);
  CHECK(store.disk.syncs == 1);
}

TEST_CASE("local coordinator: nothing is answered before it is synced") {
  LocalStore store;
  store.Reopen();
  for (int i = 1; i <= 20; ++i) {
    store.Put("/a", Value::Integer(i));
    store.disk.Crash();
    std::string kept = store.disk.bytes(kFirstLog);
    CHECK(kept.find("{\"/a\" " + std::to_string(i) + "}") != std::string::npos);
    // The coordinator's file went with the crash.
    store.Crash();
    store.Reopen();
    CHECK(store.replica->entries["/a"].value == Value::Integer(i));
  }
}

TEST_CASE("local coordinator: the canary skip_sync loses what was answered") {
  LocalOptions options = SmallOptions();
  options.canaries.skip_sync = true;
  options.prefill_bytes = 0;
  LocalStore store(options);
  store.Reopen();
  store.Put("/a", Value::Integer(1));
  store.disk.Crash();
  store.Crash();
  store.Reopen();
  CHECK(store.replica->entries.empty());
}

TEST_CASE("local coordinator: the canary answer_before_write answers before it writes") {
  LocalOptions options = SmallOptions();
  options.canaries.answer_before_write = true;
  LocalStore store(options);
  store.Reopen();
  std::string before = store.disk.bytes(kFirstLog);
  bool answered = false;
  std::string then;
  store.local->Append({Set("/a", Value::Integer(1))}, [&](engine::AppendResult) {
    answered = true;
    then = store.disk.bytes(kFirstLog);
  });
  store.loop.Turn();
  CHECK(answered);
  CHECK(then.find("/a") == std::string::npos);
}

TEST_CASE("local coordinator: with no room a batch is refused whole, and commits resume when there is room") {
  LocalStore store;
  store.Reopen();
  store.Put("/a", Value::Integer(1));
  const std::string before =
      store.disk.bytes(kFirstLog).substr(0, store.disk.bytes(kFirstLog).find("\n\n") + 1);

  store.disk.room = 4000;
  engine::AppendResult refused =
      store.Append({Set("/b", Value::Integer(1)), Set("/big", Value::String(std::string(9000, 'x')))});
  CHECK(refused.outcome == Outcome::kNoSpace);
  CHECK(refused.status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(store.disk.bytes(kFirstLog) == before);
  CHECK(store.local->stats().no_room);
  CHECK(store.local->stats().no_space == 1);
  // What fits goes through, under the versions that were not used.
  store.Put("/c", Value::Integer(2));
  CHECK(store.replica->version == 2);
  CHECK_FALSE(store.local->stats().no_room);
  store.disk.room = -1;
  store.Put("/big", Value::String(std::string(9000, 'x')));
  auto before_entries = store.replica->entries;
  store.Reopen();
  CHECK(store.replica->entries == before_entries);
  CHECK(store.replica->entries.count("/b") == 0);
}

TEST_CASE("local coordinator: batches behind one that found no room are refused with it") {
  LocalOptions options = SmallOptions();
  options.prefill_bytes = 0;
  LocalStore store(options);
  store.Reopen();
  store.disk.room = 0;
  std::vector<Outcome> outcomes;
  for (int i = 0; i < 3; ++i) {
    store.local->Append({Set("/a", Value::Integer(i))}, [&](engine::AppendResult r) {
      outcomes.push_back(r.outcome);
      store.disk.room = -1;
    });
  }
  store.loop.Turn();
  CHECK(outcomes == std::vector<Outcome>(3, Outcome::kNoSpace));
  store.Put("/a", Value::Integer(9));
  CHECK(store.replica->version == 1);
}

TEST_CASE("local coordinator: with no room for a new file, commits are refused and nothing of it is left") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 800;
  options.prefill_bytes = 0;
  LocalStore store(options);
  store.Reopen();
  while (store.disk.bytes(kFirstLog).size() < 800) store.Put("/a", Value::Integer(1));
  store.disk.room = 10;
  CHECK(store.Append({Set("/a", Value::Integer(2))}).outcome == Outcome::kNoSpace);
  CHECK(store.disk.Names("log-").size() == 1);
  store.disk.room = -1;
  store.Put("/a", Value::Integer(3));
  CHECK(store.disk.Names("log-").size() == 2);
  store.Reopen();
  CHECK(store.replica->entries["/a"].value == Value::Integer(3));
}

TEST_CASE("local coordinator: a truncate that fails after no room stops it") {
  LocalOptions options = SmallOptions();
  options.prefill_bytes = 0;
  LocalStore store(options);
  store.Reopen();
  store.disk.room = 10;
  store.disk.fail_truncate = true;
  CHECK(store.Append({Set("/a", Value::Integer(2))}).outcome == Outcome::kLost);  // never answered
  CHECK_FALSE(store.fatal.ok());
}

TEST_CASE("local coordinator: after a failed sync nothing is answered any more") {
  LocalStore store;
  store.Reopen();
  store.disk.fail_sync = true;
  int answers = 0;
  for (int i = 0; i < 3; ++i) {
    store.local->Append({Set("/a", Value::Integer(i))}, [&](engine::AppendResult) { ++answers; });
  }
  store.loop.Turn();
  store.disk.fail_sync = false;
  store.local->Append({Set("/a", Value::Integer(9))}, [&](engine::AppendResult) { ++answers; });
  store.loop.Turn();
  CHECK(answers == 0);
  CHECK_THAT(store.fatal.ToString(), Catch::Contains("fdatasync"));
}

TEST_CASE("local coordinator: the tail is written ahead, and a clean stop leaves nothing of it") {
  LocalStore store;
  store.Reopen();
  store.Put("/a", Value::Integer(1));
  std::string text = store.disk.bytes(kFirstLog);
  size_t lines_end = text.find("\n\n") + 1;
  CHECK(text.size() - lines_end >= 2048);
  CHECK(text.find_first_not_of('\n', lines_end) == std::string::npos);
  for (int i = 0; i < 100; ++i) store.Put("/a", Value::Integer(i));
  store.Stop();
  text = store.disk.bytes(kFirstLog);
  CHECK(text.find("\n\n") == std::string::npos);
  CHECK_THAT(store.Lines(kFirstLog).back(), Catch::StartsWith("{:stop 101 "));
}

TEST_CASE("local coordinator: commits into prefilled room need no more room") {
  LocalStore store;
  store.Reopen();
  store.disk.room = 0;
  store.Put("/a", Value::Integer(1));
  CHECK(store.local->stats().no_space == 0);
}

TEST_CASE("local coordinator: segments follow one another, each readable alone") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 3000;
  LocalStore store(options);
  store.Reopen();
  store.Put("/v", Edn("[1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30]"));
  for (int i = 0; i < 200; ++i) store.Apply("/v", "(conj " + std::to_string(i) + ")");
  auto names = store.disk.Names("log-");
  REQUIRE(names.size() > 3);
  for (const std::string& name : names) {
    std::string text = store.disk.bytes(name);
    size_t set = text.find(":set {\"/v\"");
    size_t apply = text.find(":apply {\"/v\"");
    REQUIRE(set != std::string::npos);
    if (apply != std::string::npos) CHECK(set < apply);
    if (name != names.back()) CHECK(text.find("\n\n") == std::string::npos);
  }
  CHECK(Verify(&store.disk, {}).value().good());
  Value value = *store.replica->entries["/v"].value;
  store.Reopen();
  CHECK(store.replica->entries["/v"].value == value);
}

TEST_CASE("local coordinator: a store begun by a snapshot comes to what all of its log comes to") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 4000;
  LocalStore store(options);
  store.Reopen();
  uint64_t id = 0;
  for (int i = 0; i < 300; ++i) {
    auto commit = Set("/n" + std::to_string(i % 17), Value::Integer(i), ++id);
    if (i % 5 == 0) {
      commit->changes[0].kind = engine::EntryChange::Kind::kCreate;
      commit->changes[0].entry_kind = i % 2 == 0 ? engine::EntryKind::kAtom : engine::EntryKind::kRef;
      auto definition = std::make_shared<engine::Definition>();
      definition->ttl = absl::Milliseconds(i);
      definition->container = i % 3 == 0 ? "mongo" : "";
      commit->changes[0].definition = definition;
    }
    if (i % 11 == 0) {
      commit->changes[0].kind = engine::EntryChange::Kind::kDelete;
      commit->changes[0].value.reset();
      commit->changes[0].definition.reset();
    }
    store.Append({commit});
    if (i == 100 || i == 200 || i == 250) {
      CHECK(store.Snapshot() == i + 1);
    }
  }
  // The two newest are kept; one that is there already is not written again.
  CHECK(store.disk.Names("snapshot-").size() == 2);
  const Replica all = *store.replica;
  store.Reopen();
  CHECK(store.replica->image_version == 251);
  CHECK(store.replica->installed == 49);
  CHECK(store.replica->entries == all.entries);
  CHECK(store.replica->ids == all.ids);
  CHECK(store.replica->version == all.version);

  store.Stop();
  for (const std::string& name : store.disk.Names("snapshot-")) store.disk.files.erase(name);
  store.Reopen();
  CHECK(store.replica->image_version == 0);
  CHECK(store.replica->entries == all.entries);
  CHECK(store.replica->ids == all.ids);
}

TEST_CASE("local coordinator: snapshots come by themselves as the log grows, while commits go on") {
  LocalOptions options = SmallOptions();
  options.snapshot_bytes = 2000;
  options.image_items_per_task = 1;
  LocalStore store(options);
  store.Reopen();
  for (int i = 0; i < 100; ++i) store.Put("/n" + std::to_string(i % 9), Value::Integer(i));
  CHECK(store.local->stats().snapshots > 2);
  auto entries = store.replica->entries;
  store.Reopen();
  CHECK(store.replica->image_version > 50);
  CHECK(store.replica->entries == entries);
}

TEST_CASE("local coordinator: a snapshot is whole or it does not count") {
  LocalStore store;
  store.Reopen();
  for (int i = 0; i < 20; ++i) store.Put("/n" + std::to_string(i), Value::Integer(i));
  engine::Version older = store.Snapshot();
  store.Put("/x", Value::Integer(1));
  engine::Version newer = store.Snapshot();
  auto entries = store.replica->entries;
  store.Stop();
  const std::string whole = store.disk.bytes(SnapshotName(newer));
  for (size_t cut : {size_t{0}, size_t{10}, whole.size() / 2, whole.size() - 12, whole.size() - 1}) {
    store.disk.Put(SnapshotName(newer), whole.substr(0, cut));
    store.Reopen();
    CHECK(store.replica->image_version == older);
    CHECK(store.replica->entries == entries);
    store.Crash();
  }
  std::string flipped = whole;
  flipped[flipped.find("/n7") + 1] = 'm';
  store.disk.Put(SnapshotName(newer), flipped);
  store.Reopen();
  CHECK(store.replica->image_version == older);
}

TEST_CASE("local coordinator: a snapshot that finds no room spends the ballast, which is made again") {
  LocalOptions options = SmallOptions();
  options.ballast_bytes = 20000;
  LocalStore store(options);
  store.Reopen();
  for (int i = 0; i < 20; ++i) store.Put("/n" + std::to_string(i), Value::String(std::string(100, 'v')));
  CHECK(store.disk.bytes("ballast").size() == 20000);
  store.disk.room = 0;
  store.Snapshot();
  CHECK_FALSE(store.local->stats().ballast_whole);
  CHECK_FALSE(store.disk.has("ballast"));
  store.disk.room = -1;
  store.Put("/x", Value::Integer(1));
  store.Snapshot();
  CHECK(store.local->stats().ballast_whole);

  // Not enough even so: given up, nothing left over, commits go on.
  store.Put("/huge", Value::String(std::string(50000, 'v')));
  store.disk.room = 0;
  absl::StatusOr<engine::Version> version = engine::Version{0};
  store.local->Snapshot([&](absl::StatusOr<engine::Version> v) { version = v; });
  store.loop.Turn();
  CHECK(version.status().code() == absl::StatusCode::kResourceExhausted);
  store.disk.room = -1;
  CHECK(store.disk.Names("snapshot-").size() == 2);
  for (const std::string& name : store.disk.Names("")) CHECK(name.find(".tmp") == std::string::npos);
  store.Put("/y", Value::Integer(1));
}

TEST_CASE(
    "local coordinator: old files are dropped by age, below the floor of ids and the older snapshot only") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 1000;
  options.log_keep_age = absl::Hours(1);
  LocalStore store(options);
  store.Reopen();
  for (int i = 0; i < 40; ++i) store.Put("/a", Value::Integer(i));
  store.Snapshot();
  for (int i = 0; i < 40; ++i) store.Put("/a", Value::Integer(i));
  store.Snapshot();
  size_t files = store.disk.Names("log-").size();
  store.local->Trim(80);
  store.loop.Turn();
  CHECK(store.disk.Names("log-").size() ==
        files);  // younger than an hour: contract::Set's moment is 2026, this loop's too

  store.loop.Advance(absl::Hours(2));
  store.local->Trim(10);
  store.loop.Advance(absl::Minutes(1));
  store.local->Trim(80);
  store.loop.Turn();
  size_t left = store.disk.Names("log-").size();
  CHECK(left < files);
  engine::Version first = store.local->FirstVersion();
  CHECK(first > 1);
  CHECK(first <= 41);  // the older snapshot's version is 40
  CHECK(store.local->Open(1).status().code() == absl::StatusCode::kOutOfRange);
  auto entries = store.replica->entries;
  store.Reopen();
  CHECK(store.replica->entries == entries);
  CHECK(store.local->FirstVersion() == first);
  // The older snapshot alone is enough.
  store.Stop();
  store.disk.files.erase(store.disk.Names("snapshot-").back());
  store.Reopen();
  CHECK(store.replica->entries == entries);
}

TEST_CASE("local coordinator: another process's directory is refused") {
  LocalStore store;
  store.disk.locked_elsewhere = true;
  CHECK_THAT(store.OpenFailure(), Catch::Contains("FAILED_PRECONDITION") && Catch::Contains("process 1"));
}

TEST_CASE("local coordinator: Stop waits for what is under way") {
  LocalOptions options = SmallOptions();
  options.ballast_bytes = 5000;
  LocalStore store(options);
  store.Reopen();
  bool answered = false;
  bool stopped = false;
  bool snapshot = false;
  store.local->Append({Set("/a", Value::Integer(1))}, [&](engine::AppendResult r) {
    answered = true;
    CHECK_FALSE(stopped);
    store.replica->version = 1;
  });
  store.local->Snapshot([&](absl::StatusOr<engine::Version>) { snapshot = true; });
  store.local->Stop([&](absl::Status s) { stopped = s.ok(); });
  store.loop.Turn();
  CHECK(answered);
  CHECK(snapshot);
  CHECK(stopped);
  CHECK_THAT(store.Lines(kFirstLog).back(), Catch::StartsWith("{:stop 1 "));
}

}  // namespace
}  // namespace stm::local
