#include "backends/local/seal.h"

#include <catch2/catch.hpp>
#include <string>

#include "tests/backends/local/local_store.h"

namespace stm::local {
namespace {

using Catch::Contains;
using contract::Set;

const char kLongerThanBefore[] = "[1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30]";

void FiveCommits(LocalStore* store) {
  store->Reopen();
  for (int i = 1; i <= 5; ++i) store->Put("/n" + std::to_string(i), Value::Integer(i));
  store->Stop();
}

TEST_CASE("seal: an edited log starts again, with what the person wrote") {
  LocalStore store;
  FiveCommits(&store);
  store.Edit(kFirstLog, "{\"/n3\" 3}", "{\"/n3\" 33, \"/new\" [:by \"hand\"]}");
  REQUIRE_THAT(store.OpenFailure(), Contains("DATA_LOSS"));
  CHECK_FALSE(Verify(&store.disk, {})->good());

  absl::StatusOr<SealReport> report = Seal(&store.disk, kFirstLog);
  INFO(report.status());
  REQUIRE(report.ok());
  CHECK(report->changed);
  CHECK(report->lines_resealed == 1);
  CHECK(report->first_changed == 3);
  CHECK(report->replay_from == 1);
  CHECK(report->replay_to == 5);
  CHECK(Verify(&store.disk, {})->good());
  store.Reopen();
  CHECK(store.replica->entries["/n3"].value == Value::Integer(33));
  CHECK(store.replica->entries["/new"].value == Edn("[:by \"hand\"]"));
  CHECK(store.replica->version == 5);
  store.Put("/a", Value::Integer(1));
  CHECK(store.replica->version == 6);
}

TEST_CASE("seal: with nothing edited it writes nothing") {
  LocalStore store;
  FiveCommits(&store);
  const std::string before = store.disk.bytes(kFirstLog);
  absl::StatusOr<SealReport> report = Seal(&store.disk, kFirstLog);
  REQUIRE(report.ok());
  CHECK_FALSE(report->changed);
  CHECK(store.disk.bytes(kFirstLog) == before);
}

TEST_CASE("seal: lines may be taken out and put in, and trailers left off") {
  LocalStore store;
  FiveCommits(&store);
  std::string text;
  for (const std::string& line : store.Lines(kFirstLog)) {
    if (line.find("{:version 2 ") == 0) continue;
    text += line + "\n";
    if (line.find("{:version 5 ") == 0) {
      text += "\n{:version 7, :at #inst \"2027-01-01\", :set {\"/seven\" 7}} ; mine\n";
    }
  }
  store.disk.Put(kFirstLog, text);
  absl::StatusOr<SealReport> report = Seal(&store.disk, kFirstLog);
  INFO(report.status());
  REQUIRE(report.ok());
  CHECK(report->first_changed == 2);
  CHECK(report->blank_lines_dropped == 1);
  store.Reopen();
  CHECK(store.replica->entries.count("/n2") == 0);
  CHECK(store.replica->entries["/seven"].value == Value::Integer(7));
  CHECK(store.replica->version == 7);
}

TEST_CASE("seal: a version that was given is not given again though its line is gone") {
  LocalStore store;
  FiveCommits(&store);
  std::string text;
  for (const std::string& line : store.Lines(kFirstLog)) {
    if (line.find("{:version 5 ") != 0) text += line + "\n";
  }
  store.disk.Put(kFirstLog, text);
  REQUIRE(Seal(&store.disk, kFirstLog).ok());
  store.Reopen();
  CHECK(store.replica->version == 4);
  store.Put("/a", Value::Integer(1));
  CHECK(store.replica->version == 6);
}

TEST_CASE("seal: operations behind an edit are replayed, and their sums made anew") {
  LocalStore store;
  store.Reopen();
  store.Put("/v", Edn(kLongerThanBefore));
  store.Apply("/v", "(conj 31)");
  store.Apply("/v", "(conj 32)");
  store.Apply("/v", "(conj 33)");
  store.Stop();
  store.Edit(kFirstLog, "(conj 32)", "(conj 99)");
  absl::StatusOr<SealReport> report = Seal(&store.disk, kFirstLog);
  INFO(report.status());
  REQUIRE(report.ok());
  CHECK(report->lines_resealed == 2);
  store.Reopen();
  CHECK(store.replica->entries["/v"].value->items().at(31) == Value::Integer(99));

  store.Stop();
  store.Edit(kFirstLog, "(conj 99)", "(add 1)");
  CHECK_THAT(Seal(&store.disk, kFirstLog).status().ToString(),
             Contains("INVALID_ARGUMENT") && Contains(":5: /v:"));
}

TEST_CASE("seal: mistakes are named by line, and nothing is changed") {
  LocalStore store;
  FiveCommits(&store);
  const std::string good = store.disk.bytes(kFirstLog);
  auto refusal = [&](const std::string& from, const std::string& to) {
    store.disk.Put(kFirstLog, good);
    store.Edit(kFirstLog, from, to);
    const std::string edited = store.disk.bytes(kFirstLog);
    std::string text = Seal(&store.disk, kFirstLog).status().ToString();
    CHECK(store.disk.bytes(kFirstLog) == edited);
    for (const std::string& name : store.disk.Names("")) CHECK(name.find(".tmp") == std::string::npos);
    return text;
  };
  CHECK_THAT(refusal("{\"/n3\" 3}", "{\"/n3\" }"), Contains("INVALID_ARGUMENT") && Contains(":5:"));
  CHECK_THAT(refusal("{:version 3 ", "{:version 2 "), Contains(":5:") && Contains("never go back"));
  CHECK_THAT(refusal("\"/n3\"", "\"n3\""), Contains(":5:"));
  CHECK_THAT(refusal("\"/n3\"", "\"/.memory/n3\""), Contains(":5:") && Contains("/.memory/"));
  CHECK_THAT(refusal("{:version 3 ", "{:version 3 :sett {} "), Contains(":5:") && Contains(":sett"));
  CHECK_THAT(refusal(":first 1", ":first 2"), Contains(":1:"));
  CHECK_THAT(refusal(":set {\"/n3\" 3}", ":set {\"/n3\" 3} :delete [\"/n3\"]"), Contains("twice"));
  CHECK_THAT(refusal(":set {\"/n3\" 3}", ":apply {\"/n9\" (add 1)}"), Contains("/n9") && Contains(":set"));
  CHECK_THAT(refusal("{:version 3 :at #inst \"2026", "{:version 3 :at #inst \"2025"),
             Contains("times never go back"));
  CHECK_THAT(Seal(&store.disk, "nonsense").status().ToString(), Contains("only log files"));
  CHECK_THAT(Seal(&store.disk, LogName(77)).status().ToString(), Contains("NOT_FOUND"));
  store.disk.locked_elsewhere = true;
  CHECK_THAT(refusal("{\"/n3\" 3}", "{\"/n3\" 4}"), Contains("FAILED_PRECONDITION"));
}

TEST_CASE("seal: snapshots that the edit makes stale are set aside, and older ones used") {
  LocalStore store;
  store.Reopen();
  for (int i = 1; i <= 3; ++i) store.Put("/n" + std::to_string(i), Value::Integer(i));
  store.Snapshot();
  for (int i = 4; i <= 6; ++i) store.Put("/n" + std::to_string(i), Value::Integer(i));
  store.Snapshot();
  store.Stop();
  store.Edit(kFirstLog, "{\"/n5\" 5}", "{\"/n5\" 55}");
  absl::StatusOr<SealReport> report = Seal(&store.disk, kFirstLog);
  INFO(report.status());
  REQUIRE(report.ok());
  CHECK(report->stale == std::vector<std::string>{SnapshotName(6) + ".stale"});
  CHECK(report->replay_from == 4);
  CHECK(report->replay_to == 6);
  store.Reopen();
  CHECK(store.replica->image_version == 3);
  CHECK(store.replica->entries["/n5"].value == Value::Integer(55));
}

TEST_CASE("seal: refused when the state could not be rebuilt without the snapshot") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 600;
  LocalStore store(options);
  store.Reopen();
  while (store.disk.Names("log-").size() < 3) store.Put("/a", Value::Integer(1));
  store.replica->id_floor = 1000;
  store.Snapshot();
  store.Stop();
  REQUIRE(Drop(&store.disk, {kFirstLog}).ok());
  std::string last = store.disk.Names("log-").back();
  std::string text = store.disk.bytes(last);
  size_t at = text.find("{\"/a\" 1}");
  REQUIRE(at != std::string::npos);
  store.Edit(last, "{\"/a\" 1}", "{\"/a\" 2}");
  CHECK_THAT(Seal(&store.disk, last).status().ToString(),
             Contains("FAILED_PRECONDITION") && Contains("snapshot-") && Contains("can't be rebuilt"));
  CHECK(store.disk.Names("snapshot-").size() == 1);
  for (const std::string& name : store.disk.Names("")) CHECK(name.find(".stale") == std::string::npos);
}

TEST_CASE("seal: says when a later line has the last word on what was edited") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 500;
  LocalStore store(options);
  store.Reopen();
  store.Put("/a", Value::Integer(1));
  store.Put("/b", Value::Integer(1));
  while (store.disk.Names("log-").size() < 2) store.Put("/c", Value::Integer(1));
  store.Put("/a", Value::Integer(2));
  store.Stop();
  store.Edit(kFirstLog, "{\"/a\" 1}", "{\"/a\" 9}");
  absl::StatusOr<SealReport> report = Seal(&store.disk, kFirstLog);
  REQUIRE(report.ok());
  REQUIRE(report->notes.size() == 1);
  CHECK_THAT(report->notes[0], Contains("/a") && Contains("log-"));
  CHECK(report->replay_to == store.replica->version);
  // The last line of a file that others follow has to stay.
  std::string text = store.disk.bytes(kFirstLog);
  text.pop_back();
  store.disk.Put(kFirstLog, text.substr(0, text.rfind('\n') + 1));
  CHECK_THAT(Seal(&store.disk, kFirstLog).status().ToString(), Contains("keep a line for it"));
}

TEST_CASE("verify: every file is told, with its first problem") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 600;
  LocalStore store(options);
  store.Reopen();
  while (store.disk.Names("log-").size() < 3) store.Put("/a", Value::Integer(1));
  store.Snapshot();
  store.Put("/b", Value::Integer(1));
  VerifyReport running = Verify(&store.disk, {}).value();
  CHECK(running.good());
  CHECK(running.files.size() == 4);
  CHECK(running.files[0].name == kFirstLog);
  CHECK(running.files[0].first == 1);
  CHECK(running.files[0].commits == running.files[0].last);
  store.Crash();
  std::string last = store.disk.Names("log-").back();
  std::string& text = store.disk.bytes(last);
  text.replace(text.find("\n\n") + 1, 4, "torn");
  VerifyReport torn = Verify(&store.disk, {last}).value();
  CHECK(torn.good());
  CHECK_THAT(torn.files[0].note, Contains(".torn"));
  store.Edit(kFirstLog, "{\"/a\" 1}", "{\"/a\" 2}");
  VerifyReport edited = Verify(&store.disk, {}).value();
  CHECK_FALSE(edited.good());
  CHECK_THAT(edited.files[0].problem, Contains("line 3"));
  CHECK(Verify(&store.disk, {LogName(999)}).status().code() == absl::StatusCode::kNotFound);
}

TEST_CASE("drop: only the oldest files, below the newest snapshot and its floor of ids") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 600;
  LocalStore store(options);
  store.Reopen();
  while (store.disk.Names("log-").size() < 5) store.Put("/a", Value::Integer(1));
  store.Stop();
  auto names = store.disk.Names("log-");
  auto refusal = [&](std::vector<std::string> files) {
    auto kept = store.disk.files;
    std::string text = Drop(&store.disk, std::move(files)).status().ToString();
    CHECK(store.disk.files == kept);
    return text;
  };
  CHECK_THAT(refusal({names[0]}), Contains("FAILED_PRECONDITION") && Contains("no whole snapshot"));
  store.Reopen();
  store.replica->id_floor = *ParseLogName(names[2]) - 1;
  store.Snapshot();
  store.Stop();
  CHECK_THAT(refusal({names[1]}), Contains("a log has no holes"));
  CHECK_THAT(refusal(names), Contains("newest log file"));
  CHECK_THAT(refusal({names[0], names[1], names[2]}), Contains("the floor of ids"));
  CHECK_THAT(refusal({"log-1.edn"}), Contains("NOT_FOUND"));
  CHECK(Drop(&store.disk, {names[1], names[0]}).value() == std::vector<std::string>{names[0], names[1]});
  auto entries = store.replica->entries;
  store.Reopen();
  CHECK(store.replica->entries == entries);
  CHECK(store.local->FirstVersion() == *ParseLogName(names[2]));
}

}  // namespace
}  // namespace stm::local
