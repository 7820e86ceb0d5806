#include "backends/local/recovery.h"

#include <catch2/catch.hpp>
#include <random>
#include <string>

#include "tests/backends/local/local_store.h"

namespace stm::local {
namespace {

using Catch::Contains;
using contract::Set;

// Ten commits, one a batch, then a crash with the prefill there.
void TenCommits(LocalStore* store) {
  store->Reopen();
  for (int i = 1; i <= 10; ++i) store->Put("/n" + std::to_string(i), Value::Integer(i));
  store->Crash();
}
size_t LinesEnd(LocalStore* store) { return store->disk.bytes(kFirstLog).find("\n\n") + 1; }

TEST_CASE("recovery: twenty random torn tails lose nothing that was answered") {
  std::mt19937_64 random(20260101);
  for (int round = 0; round < 20; ++round) {
    LocalOptions options = SmallOptions();
    if (round % 2 == 1) options.prefill_bytes = 0;
    if (round % 5 == 0) options.segment_bytes = 700;
    LocalStore store(options);
    store.Reopen();
    for (int i = 0; i < 5; ++i) store.Put("/n" + std::to_string(i), Value::Integer(i));
    const std::string last = store.disk.Names("log-").back();
    const std::string durable = store.disk.bytes(last);
    auto entries = store.replica->entries;
    // A batch of three that is never answered: any of its 64-byte sectors may be old, zeros or new.
    engine::Batch batch;
    for (int i = 0; i < 3; ++i)
      batch.push_back(Set("/t" + std::to_string(i), Value::String(std::string(150, 't'))));
    store.local->Append(batch, [](engine::AppendResult) {});
    store.loop.Turn();
    const std::string now_last = store.disk.Names("log-").back();
    store.Crash();
    if (now_last != last) continue;  // it went into a file of its own
    std::string torn = store.disk.bytes(last);
    std::string old = durable;
    old.resize(torn.size(), '\0');
    const size_t lines_end = durable.find_last_not_of('\n') + 2;
    bool all_new = true;
    for (size_t at = 0; at < torn.size(); at += 64) {
      for (size_t i = std::max(at, lines_end); i < std::min(at + 64, torn.size()); ++i) {
        uint64_t fate = random() % 3;
        i = std::max(at, lines_end);
        for (; i < std::min(at + 64, torn.size()); ++i) {
          if (fate == 0) torn[i] = old[i];
          if (fate == 1) torn[i] = '\0';
          if (fate != 2 && torn[i] != store.disk.bytes(last)[i]) all_new = false;
        }
      }
    }
    store.disk.Put(last, torn);
    INFO("round " << round);
    store.Reopen();
    for (const auto& [name, entry] : entries) CHECK(store.replica->entries[name] == entry);
    // Of the torn batch a beginning may have survived whole.
    CHECK(store.replica->version >= 5);
    CHECK(store.replica->version <= 8);
    if (all_new) CHECK(store.replica->version == 8);
    // And it goes on, and comes back once more.
    store.Put("/after", Value::Integer(1));
    auto after = store.replica->entries;
    store.Crash();
    store.Reopen();
    CHECK(store.replica->entries == after);
    CHECK(Verify(&store.disk, {}).value().good());
  }
}

TEST_CASE("recovery: a torn tail is cut and kept beside the log, with a line to say so") {
  LocalStore store;
  TenCommits(&store);
  size_t end = LinesEnd(&store);
  store.disk.bytes(kFirstLog).replace(end, 30, std::string("{:version 11 :at #inst \"2026-11"));
  store.Reopen();
  CHECK(store.replica->version == 10);
  CHECK(store.local->stats().torn_tails == 1);
  CHECK(store.disk.bytes(kFirstLog + ".torn") == "{:version 11 :at #inst \"2026-11");
  // A second one does not overwrite the first.
  store.Crash();
  store.disk.bytes(kFirstLog).replace(LinesEnd(&store), 3, "abc");
  store.Reopen();
  CHECK(store.disk.bytes(kFirstLog + ".torn.2") == "abc");
}

TEST_CASE("recovery: zeros before lines of a torn batch are cut with it") {
  LocalStore store;
  TenCommits(&store);
  std::string line;
  LinePrinter().Commit(*Set("/x", Value::Integer(1)), 10, nullptr, &line);
  line.replace(line.find(":version 0"), 10, ":version 12");
  std::string sealed = line.substr(0, line.find(" ;"));
  AppendTrailer(0, 10, {}, &sealed);
  size_t end = LinesEnd(&store);
  store.disk.bytes(kFirstLog).replace(end, 64 + sealed.size(), std::string(63, '\0') + "\n" + sealed);
  store.Reopen();
  CHECK(store.replica->version == 10);
  CHECK(store.local->stats().torn_tails == 1);
}

TEST_CASE("recovery: zeros where a line stood that a later line proves durable are refused") {
  LocalStore store;
  TenCommits(&store);
  std::string& text = store.disk.bytes(kFirstLog);
  size_t begin = text.find("{:version 5 ");
  size_t end = text.find("{:version 6 ");
  // The newline went, too: the proof then stands right behind the zeros.
  for (size_t i = begin; i < end; ++i) text[i] = '\0';
  const std::string failure = store.OpenFailure();
  CHECK_THAT(failure,
             Contains("DATA_LOSS") && Contains("/mem/" + kFirstLog + ":7") && Contains("stmctl log seal"));
}

TEST_CASE("recovery: a changed line below an acknowledged one is refused by file and line") {
  LocalStore store;
  TenCommits(&store);
  store.Edit(kFirstLog, "{\"/n4\" 4}", "{\"/n4\" 5}");
  const std::string failure = store.OpenFailure();
  CHECK_THAT(failure, Contains("DATA_LOSS") && Contains("/mem/" + kFirstLog + ":6") &&
                          Contains("version 4") && Contains("stmctl log seal"));
}

TEST_CASE("recovery: the last batch alone can't be told from a torn one, and is kept aside") {
  LocalStore store;
  TenCommits(&store);
  store.Edit(kFirstLog, "{\"/n10\" 10}", "{\"/n10\" 11}");
  store.Reopen();
  CHECK(store.replica->version == 9);
  CHECK_THAT(store.disk.bytes(kFirstLog + ".torn"), Contains("{\"/n10\" 11}"));
}

TEST_CASE("recovery: after a clean stop any bad line is an edit by hand, the last one too") {
  LocalStore store;
  TenCommits(&store);
  store.Reopen();
  store.Stop();
  store.Edit(kFirstLog, "{\"/n10\" 10}", "{\"/n10\" 11}");
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains(":12:"));
}

TEST_CASE("recovery: a line that was taken out is missed") {
  LocalStore store;
  TenCommits(&store);
  std::string& text = store.disk.bytes(kFirstLog);
  size_t begin = text.find("{:version 5 ");
  text.erase(begin, text.find("{:version 6 ") - begin);
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains("lines are missing"));
}

TEST_CASE("recovery: a blank line amid the lines is refused, at the end it is nothing") {
  LocalStore store;
  TenCommits(&store);
  std::string good = store.disk.bytes(kFirstLog);
  store.Edit(kFirstLog, "{:version 5 ", "\n{:version 5 ");
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains(":7:") && Contains("blank"));
  store.disk.Put(kFirstLog, good + "\n \n\r\n");
  store.Reopen();
  CHECK(store.replica->version == 10);
  CHECK(store.local->stats().torn_tails == 0);
}

TEST_CASE("recovery: a last line with a good sum and no newline is kept, and the next begins a line") {
  LocalOptions options = SmallOptions();
  options.prefill_bytes = 0;
  LocalStore store(options);
  TenCommits(&store);
  store.disk.bytes(kFirstLog).pop_back();
  store.Reopen();
  CHECK(store.replica->version == 10);
  store.Put("/a", Value::Integer(1));
  store.Crash();
  store.Reopen();
  CHECK(store.replica->version == 11);

  // The same with no room for the start line.
  store.Crash();
  store.disk.bytes(kFirstLog).pop_back();
  store.disk.room = 0;
  store.Reopen();
  store.disk.room = -1;
  store.Put("/b", Value::Integer(1));
  store.Crash();
  store.Reopen();
  CHECK(store.replica->version == 12);
}

TEST_CASE("recovery: versions may have gaps and never go back") {
  LocalStore store;
  TenCommits(&store);
  auto line = [](engine::Version version, engine::Version durable) {
    auto commit = Set("/g", Value::Integer(version));
    commit->version = version;
    std::string text;
    LinePrinter().Commit(*commit, durable, nullptr, &text);
    return text;
  };
  const std::string good = store.disk.bytes(kFirstLog).substr(0, LinesEnd(&store));
  store.disk.Put(kFirstLog, good + line(20, 10) + line(30, 20));
  store.Reopen();
  CHECK(store.replica->version == 30);
  store.Put("/a", Value::Integer(1));
  CHECK(store.replica->version == 31);
  store.Crash();
  store.disk.Put(kFirstLog, good + line(20, 10) + line(15, 10));
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains("versions never go back"));
}

TEST_CASE("recovery: a bad line in an older file is refused though nothing in it follows") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 800;
  LocalStore store(options);
  store.Reopen();
  while (store.disk.Names("log-").size() < 3) store.Put("/a", Value::Integer(1));
  store.Crash();
  std::string& text = store.disk.bytes(kFirstLog);
  text[text.size() - 20] ^= 1;
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains(kFirstLog) && Contains("a later file"));
}

TEST_CASE("recovery: a missing file between is missed") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 800;
  LocalStore store(options);
  store.Reopen();
  while (store.disk.Names("log-").size() < 4) store.Put("/a", Value::Integer(1));
  store.Crash();
  auto files = store.disk.files;
  store.disk.files.erase(store.disk.Names("log-")[1]);
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains("lines are missing"));
  store.disk.files = files;
  store.disk.files.erase(kFirstLog);
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains("put the files between back"));
}

TEST_CASE("recovery: a snapshot proves what the log must hold") {
  LocalStore store;
  TenCommits(&store);
  store.Reopen();
  store.Snapshot();
  store.Crash();
  auto files = store.disk.files;
  store.Edit(kFirstLog, "{\"/n10\" 10}", "{\"/n10\" 11}");
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS"));
  store.disk.files.erase(kFirstLog);
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains("no log file"));
}

TEST_CASE("recovery: a file that was begun and never finished is taken away") {
  LocalStore store;
  TenCommits(&store);
  store.disk.Put(LogName(11), "{:stm/log 1 :sto");
  store.Reopen();
  CHECK(store.replica->version == 10);
  CHECK_FALSE(store.disk.has(LogName(11)));
  // The very first one, too.
  LocalStore fresh;
  fresh.disk.Put(kFirstLog, std::string(100, '\0'));
  fresh.Reopen();
  fresh.Put("/a", Value::Integer(1));
  fresh.Reopen();
  CHECK(fresh.replica->version == 1);
  // But not when good lines are behind the bad header.
  fresh.Crash();
  fresh.disk.bytes(kFirstLog)[3] ^= 1;
  CHECK_THAT(fresh.OpenFailure(), Contains("DATA_LOSS") && Contains(":1:"));
}

TEST_CASE("recovery: a newer format is refused by name") {
  LocalStore store;
  TenCommits(&store);
  store.Edit(kFirstLog, "{:stm/log 1 ", "{:stm/log 2 ");
  CHECK_THAT(store.OpenFailure(),
             Contains("UNIMPLEMENTED") && Contains(kFirstLog + ":1") && Contains(":stm/log 2"));
}

TEST_CASE("recovery: a key that this build does not know is refused by file and line") {
  LocalStore store;
  TenCommits(&store);
  std::string line = "{:version 11 :at #inst \"2026-11-22T03:00:00Z\" :settle [1]}";
  AppendTrailer(0, 10, {}, &line);
  store.disk.bytes(kFirstLog).replace(LinesEnd(&store), line.size(), line);
  CHECK_THAT(store.OpenFailure(),
             Contains("UNIMPLEMENTED") && Contains(kFirstLog + ":13") && Contains(":settle"));
}

TEST_CASE("recovery: files of another store are refused") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 800;
  LocalStore store(options);
  store.Reopen();
  while (store.disk.Names("log-").size() < 2) store.Put("/a", Value::Integer(1));
  store.Stop();
  std::string last = store.disk.Names("log-").back();
  std::string text;
  LinePrinter().LogHeader(0x99, *ParseLogName(last), *ParseLogName(last) - 1, &text);
  store.disk.Put(last, text);
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains("0000000000000099"));
}

TEST_CASE("recovery: an operation whose value does not come out is refused by file, line and entry") {
  LocalStore store;
  store.Reopen();
  store.Put("/v", Edn("[1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30]"));
  store.Apply("/v", "(conj 31)");  // roots it
  store.Apply("/v", "(conj 32)");
  store.Stop();
  REQUIRE_THAT(store.disk.bytes(kFirstLog), Contains(":apply {\"/v\" (conj 32)}"));
  // As if it had been another operation: the line's own sum is right.
  std::string text;
  for (std::string line : store.Lines(kFirstLog)) {
    size_t at = line.find("(conj 32)");
    if (at != std::string::npos) {
      Trailer trailer = ReadTrailer(line).value();
      line = line.substr(0, trailer.body_size);
      line.replace(at, 9, "(conj 33)");
      size_t begin = text.size();
      text += line;
      AppendTrailer(begin, trailer.durable, trailer.hashes, &text);
    } else {
      text += line + "\n";
    }
  }
  store.disk.Put(kFirstLog, text);
  CHECK_THAT(store.OpenFailure(), Contains("DATA_LOSS") && Contains(kFirstLog + ":5") && Contains("/v"));
}

TEST_CASE("recovery: leftovers of unfinished files are removed") {
  LocalStore store;
  TenCommits(&store);
  store.disk.Put(SnapshotName(10) + ".tmp", "{:stm");
  store.disk.Put(kFirstLog + ".tmp", "{:stm");
  store.Reopen();
  for (const std::string& name : store.disk.Names("")) CHECK(name.find(".tmp") == std::string::npos);
}

TEST_CASE("recovery: the store stands through every restart, and versions go on") {
  LocalStore store;
  store.Reopen();
  uint64_t id = store.local->store();
  for (int i = 1; i <= 5; ++i) {
    store.Put("/a", Value::Integer(i));
    if (i % 2 == 0) store.Crash();
    store.Reopen();
    CHECK(store.local->store() == id);
    CHECK(store.replica->version == i);
  }
}

TEST_CASE("recovery: a snapshot's only log file with a damaged header is refused, not taken for one never finished") {
  LocalStore store;
  TenCommits(&store);
  store.Reopen();
  store.Snapshot();
  store.Crash();
  LocalStore left;
  const std::string snapshot = store.disk.Names("snapshot-").back();
  left.disk.Put(snapshot, store.disk.bytes(snapshot));
  // It has no commit yet: no line in it proves anything.
  const std::string log = LogName(11);
  left.disk.Put(log, "{:stm/log 1 :store \"damaged\"} ;10 00000000\n");
  CHECK_THAT(left.OpenFailure(), Contains("DATA_LOSS"));
  CHECK(left.disk.has(log));
}

}  // namespace
}  // namespace stm::local
