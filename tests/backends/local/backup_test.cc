#include "backends/local/backup.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "backends/local/memory_coordinator.h"
#include "tests/backends/local/local_store.h"

namespace stm::local {
namespace {

using Catch::Contains;
using contract::Set;

// What `stmctl backup` makes of the store: its replica is what is installed.
std::string BackupOf(LocalStore* store) {
  std::unique_ptr<engine::Image> image = store->replica->TakeImage();
  std::unique_ptr<engine::Archive::Printer> printer = store->local->Print(image->version(), image->at());
  std::string text;
  for (;;) {
    engine::ImagePart part = image->Next(3);
    if (part.entries.empty() && part.ids.empty()) break;
    text += printer->Add(part);
  }
  return text + printer->End(image->id_floor());
}

// OK: taken in and installed.
template <typename Store>
absl::Status Restore(Store* store, InlineLoop* loop, const std::string& text, size_t piece) {
  auto intake = store->TakeIn();
  if (!intake.ok()) return intake.status();
  for (size_t at = 0; at < text.size(); at += piece) {
    absl::Status added = (*intake)->Add(std::string_view(text).substr(at, piece));
    if (!added.ok()) return added;
  }
  absl::StatusOr<engine::Version> version = (*intake)->Check();
  if (!version.ok()) return version.status();
  absl::Status installed = absl::UnknownError("never answered");
  store->Install(*std::move(intake), [&installed](absl::Status status) { installed = status; });
  loop->Turn();
  return installed;
}

void Fill(LocalStore* store) {
  store->Reopen();
  for (int i = 0; i < 10; ++i) store->Put("/n" + std::to_string(i), Value::Integer(i), i + 1);
  store->Put("/text", Value::String("a \"quoted\"\nline"), 11);
  auto created = Set("/ttl", Edn("{:a [1 2 #{3}]}"));
  auto definition = std::make_shared<engine::Definition>();
  definition->ttl = absl::Hours(1);
  created->changes[0].kind = engine::EntryChange::Kind::kCreate;
  created->changes[0].definition = definition;
  REQUIRE(store->Append({created}).outcome == engine::AppendResult::Outcome::kCommitted);
}

TEST_CASE("restore: in pieces of any size, every entry, time, definition and id is there, under a new store id") {
  LocalStore from;
  Fill(&from);
  const std::string text = BackupOf(&from);
  CHECK_THAT(text, Contains("\"/text\""));
  for (size_t piece : {size_t{1}, size_t{7}, size_t{100}, text.size()}) {
    LocalStore to;
    to.Reopen();
    const uint64_t before = to.local->store();
    const absl::Status status = Restore(to.local.get(), &to.loop, text, piece);
    INFO(status);
    REQUIRE(status.ok());
    CHECK(to.local->store() != before);
    CHECK(to.local->store() != from.local->store());
    CHECK(to.replica->entries == from.replica->entries);
    CHECK(to.replica->ids == from.replica->ids);
    CHECK(to.replica->version == 12);
    CHECK(to.local->FirstVersion() == 0);
    // It goes on above, and a restart finds all of it.
    const uint64_t store = to.local->store();
    to.Put("/more", Value::Integer(1));
    CHECK(to.replica->version == 13);
    auto entries = to.replica->entries;
    if (piece == 7) {
      to.Crash();
    }
    to.Reopen();
    CHECK(to.local->store() == store);
    CHECK(to.replica->entries == entries);
    CHECK(to.replica->version == 13);
    CHECK(BackupOf(&to).size() > text.size());
  }
}

TEST_CASE("restore: in memory too") {
  LocalStore from;
  Fill(&from);
  InlineLoop loop;
  Replica replica;
  MemoryCoordinator memory(&loop, {});
  memory.Recover(&replica, [](absl::Status) {});
  loop.Turn();
  const uint64_t before = memory.store();
  REQUIRE(Restore(&memory, &loop, BackupOf(&from), 50).ok());
  CHECK(memory.store() != before);
  CHECK(replica.entries == from.replica->entries);
  engine::Batch batch = {Set("/n1", Value::Integer(7))};
  memory.Append(batch, [](engine::AppendResult) {});
  loop.Turn();
  CHECK(batch[0]->version == 13);
  auto history = memory.History("/n1", 0, 10);
  REQUIRE(history.ok());
  CHECK(history->front().before[0] == Value::Integer(1));
}

TEST_CASE("restore: whatever is damaged, cut off or added is refused, with the line, and the store stays empty") {
  LocalStore from;
  Fill(&from);
  const std::string text = BackupOf(&from);
  LocalStore to;
  to.Reopen();
  std::mt19937_64 random(20260202);
  for (int round = 0; round < 300; ++round) {
    std::string bad = text;
    const size_t at = random() % bad.size();
    switch (round % 4) {
      case 0: bad[at] = static_cast<char>(bad[at] ^ (1 << (random() % 7))); break;
      case 1: bad.resize(at); break;
      case 2: bad.insert(at, 1, bad[random() % bad.size()]); break;
      case 3: bad.erase(at, 1 + random() % 100); break;
    }
    if (bad == text) continue;
    const absl::Status status = Restore(to.local.get(), &to.loop, bad, 64);
    INFO(round << ": " << status);
    REQUIRE_FALSE(status.ok());
    CHECK_THAT(std::string(status.message()), Contains("backup"));
    REQUIRE(to.replica->entries.empty());
    REQUIRE(to.disk.Names("restore").empty());
  }
  // Two lines in the other order, under a sum that fits.
  std::string lines;
  LinePrinter printer;
  printer.SnapshotHeader(1, 5, Instant{}, &lines);
  printer.Entry(engine::ImageEntry{"/b", engine::EntryKind::kRef, nullptr, Value::Integer(1), 1, Instant{}}, &lines);
  printer.Entry(engine::ImageEntry{"/a", engine::EntryKind::kRef, nullptr, Value::Integer(1), 1, Instant{}}, &lines);
  CHECK_THAT(Restore(to.local.get(), &to.loop, lines, 10).ToString(), Contains("line 3: /a is out of order"));
  CHECK(Restore(to.local.get(), &to.loop, text, 64).ok());
  CHECK(to.replica->entries == from.replica->entries);
}

TEST_CASE("restore: one at a time, and one given up leaves nothing") {
  LocalStore store;
  store.Reopen();
  {
    auto first = store.local->TakeIn();
    REQUIRE(first.ok());
    REQUIRE((*first)->Add(std::string("{:stm/log 1 :store \"0000000000000001\" :snapshot 5 :at #inst \"2026-01-01T00:00:00Z\"}\n")).ok());
    CHECK(absl::IsResourceExhausted(store.local->TakeIn().status()));
  }
  CHECK(store.local->TakeIn().ok());
  CHECK(store.disk.Names("restore").empty());
}

TEST_CASE("restore: without room the store is as it was, and takes commits") {
  LocalStore from;
  Fill(&from);
  LocalStore to;
  to.Reopen();
  to.disk.room = 100;
  CHECK(absl::IsResourceExhausted(Restore(to.local.get(), &to.loop, BackupOf(&from), 64)));
  to.disk.room = -1;
  to.Put("/a", Value::Integer(1));
  CHECK(to.replica->version == 1);
}

TEST_CASE("restore: a crash behind any step leaves an empty store, which can be restored into, or the whole one") {
  LocalStore from;
  Fill(&from);
  const std::string text = BackupOf(&from);
  using Files = std::map<std::string, std::string>;
  std::vector<Files> states;  // as a killed process leaves the files; and as a power loss does
  LocalStore to;
  to.Reopen();
  to.disk.on_change = [&] {
    Files written, synced;
    for (const auto& [name, content] : to.disk.files) {
      written[name] = content->bytes;
      synced[name] = content->synced;
    }
    states.push_back(std::move(written));
    states.push_back(std::move(synced));
  };
  REQUIRE(Restore(to.local.get(), &to.loop, text, 1000).ok());
  to.disk.on_change = nullptr;
  int empty = 0, whole = 0;
  for (const Files& files : states) {
    std::string names;
    for (const auto& [name, bytes] : files) names += " " + name + ":" + std::to_string(bytes.size());
    INFO(names);
    LocalStore after;
    for (const auto& [name, bytes] : files) after.disk.Put(name, bytes);
    after.Reopen();
    if (after.replica->version == 0) {
      CHECK(whole == 0);
      ++empty;
      CHECK(after.replica->entries.empty());
      REQUIRE(Restore(after.local.get(), &after.loop, text, 1000).ok());
    } else {
      ++whole;
    }
    CHECK(after.replica->entries == from.replica->entries);
    CHECK(after.disk.Names("log-").size() == 1);
    after.Put("/more", Value::Integer(1));
    after.Reopen();
    CHECK(after.replica->version == 13);
  }
  CHECK(empty > 0);
  CHECK(whole > 4);
}

TEST_CASE("recovery: a log of another store with a commit in it is no leftover of a restore") {
  LocalStore from;
  from.Reopen();
  from.Crash();
  from.disk.files.clear();  // the next one is another store than `other`
  Fill(&from);
  from.Snapshot();
  const std::string snapshot = from.disk.Names("snapshot-").front();
  LocalStore other;
  other.Reopen();
  other.Put("/mine", Value::Integer(1));
  other.Crash();
  other.disk.Put(snapshot, from.disk.bytes(snapshot));
  CHECK_THAT(other.OpenFailure(), Contains("is of store"));
  CHECK(other.disk.has(kFirstLog));
}

}  // namespace
}  // namespace stm::local
