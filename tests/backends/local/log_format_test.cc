#include "backends/local/log_format.h"

#include <rapidcheck.h>

#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "backends/local/crc32c.h"
#include "tests/backends/local/local_store.h"
#include "tests/engine/values/generators.h"

namespace stm::local {
namespace {

using engine::CommitRecord;
using engine::Definition;
using engine::EntryChange;
using engine::EntryKind;
using Kind = EntryChange::Kind;

EntryChange Change(Kind kind, std::string name, std::optional<Value> value = std::nullopt) {
  EntryChange change;
  change.kind = kind;
  change.name = std::move(name);
  change.value = std::move(value);
  return change;
}

std::string Print(const CommitRecord& commit, engine::Version durable, RootedNames* rooted = nullptr) {
  std::string line;
  LinePrinter().Commit(commit, durable, rooted, &line);
  REQUIRE(line.back() == '\n');
  line.pop_back();
  REQUIRE(line.find('\n') == std::string::npos);
  return line;
}

absl::StatusOr<LogLine> Read(std::string_view line) {
  std::optional<Trailer> trailer = ReadTrailer(line);
  if (!trailer) return absl::NotFoundError("no trailer");
  return LineParser().Parse(line.substr(0, trailer->body_size), trailer->hashes);
}

CommitRecord Whole() {
  CommitRecord commit;
  commit.version = 42;
  commit.at = Instant{1795316400, 123456000};
  commit.transaction_id = ParseUuid("0f0e0d0c-0b0a-4908-8706-050403020100");
  auto meta = std::make_shared<engine::Meta>();
  meta->label = "signup";
  meta->client = "x\"y";
  commit.meta = meta;
  commit.changes.push_back(Change(Kind::kSet, "/r0", Value::Integer(1)));
  commit.changes.push_back(Change(Kind::kSet, "/r1", Edn("[1 2]")));
  commit.changes.push_back(Change(Kind::kCreate, "/a", Value::Integer(0)));
  commit.changes.back().entry_kind = EntryKind::kAtom;
  auto definition = std::make_shared<Definition>();
  definition->validator = engine::Validator::Parse(Edn("[:and :int [:min 0]]")).value();
  definition->ttl = absl::Seconds(5);
  commit.changes.back().definition = definition;
  commit.changes.push_back(Change(Kind::kCreate, "/plain", Value::OfNil()));
  commit.changes.push_back(Change(Kind::kDefine, "/d"));
  commit.changes.back().definition = std::make_shared<Definition>();
  commit.changes.push_back(Change(Kind::kDelete, "/b"));
  commit.changes.push_back(Change(Kind::kExpire, "/c"));
  commit.records.push_back(Edn("#blog.CreateUser{:name \"Bob\"}"));
  return commit;
}

TEST_CASE("log format: a commit's line is the one that people were promised") {
  CHECK(Print(Whole(), 41) ==
        "{:version 42 :at #inst \"2026-11-22T03:00:00.123456Z\" :tx #uuid "
        "\"0f0e0d0c-0b0a-4908-8706-050403020100\" "
        ":by {:label \"signup\", :client \"x\\\"y\"} :set {\"/r0\" 1, \"/r1\" [1 2]} :create {\"/a\" 0, "
        "\"/plain\" nil} "
        ":define {\"/a\" {:kind :atom, :validator [:and :int [:min 0]], :ttl-ms 5000}, \"/d\" {}} "
        ":delete [\"/b\"] :expire [\"/c\"] :records [#blog.CreateUser{:name \"Bob\"}]} ;41 026ad124");
}

TEST_CASE("log format: header, start and stop lines") {
  LinePrinter printer;
  std::string text;
  printer.LogHeader(0xabc, 1, 0, &text);
  printer.Start(7, Instant{1795316400, 0}, 0x1234567890abcdef, 7, &text);
  printer.Stop(9, Instant{1795316400, 500000000}, 9, &text);
  CHECK(text ==
        "{:stm/log 1 :store \"0000000000000abc\" :first 1} ;0 b0eec5fb\n"
        "{:start 7 :at #inst \"2026-11-22T03:00:00Z\" :writer \"1234567890abcdef\"} ;7 1f503e6a\n"
        "{:stop 9 :at #inst \"2026-11-22T03:00:00.500Z\"} ;9 759eb0d0\n");
  size_t end = text.find('\n');
  LogLine header = Read(std::string_view(text).substr(0, end)).value();
  CHECK(header.kind == LogLine::Kind::kHeader);
  CHECK(header.store == 0xabc);
  CHECK(header.version == 1);
}

void CheckSame(const CommitRecord& a, const CommitRecord& b) {
  CHECK(a.version == b.version);
  CHECK(a.at == b.at);
  CHECK(a.transaction_id == b.transaction_id);
  CHECK((a.meta ? a.meta->label : "") == (b.meta ? b.meta->label : ""));
  CHECK((a.meta ? a.meta->client : "") == (b.meta ? b.meta->client : ""));
  CHECK((a.meta ? a.meta->traceparent : "") == (b.meta ? b.meta->traceparent : ""));
  CHECK((a.meta ? a.meta->principal : "") == (b.meta ? b.meta->principal : ""));
  CHECK(a.records == b.records);
  std::map<std::string, const EntryChange*> changes;
  for (const EntryChange& change : b.changes) changes[change.name] = &change;
  REQUIRE(a.changes.size() == changes.size());
  for (const EntryChange& change : a.changes) {
    REQUIRE(changes.count(change.name) == 1);
    const EntryChange& other = *changes[change.name];
    CHECK(change.kind == other.kind);
    CHECK(change.value == other.value);
    if (change.kind == Kind::kCreate || change.kind == Kind::kDefine)
      CHECK(change.entry_kind == other.entry_kind);
    const Definition none;
    const Definition& mine = change.definition ? *change.definition : none;
    const Definition& its = other.definition ? *other.definition : none;
    CHECK(mine.ttl == its.ttl);
    CHECK(mine.container == its.container);
    CHECK(mine.session_id == its.session_id);
    CHECK((mine.validator == nullptr) == (its.validator == nullptr));
    if (mine.validator && its.validator) CHECK(mine.validator->form() == its.validator->form());
  }
}

TEST_CASE("log format: what is printed reads back as it was") {
  CheckSame(Whole(), *Read(Print(Whole(), 41)).value().commit);
}

TEST_CASE("log format: any commit reads back, the fast way and the slow one") {
  rc::check([] {
    CommitRecord commit;
    commit.version = *rc::gen::inRange<int64_t>(1, int64_t{1} << 60);
    commit.at = Instant{*rc::gen::inRange<int64_t>(-1000000, 4000000000),
                        *rc::gen::element<int32_t>(0, 5, 120000000, 123456000, 999999999)};
    if (*rc::gen::arbitrary<bool>())
      commit.transaction_id = Uuid{*rc::gen::arbitrary<uint64_t>(), *rc::gen::arbitrary<uint64_t>()};
    if (*rc::gen::arbitrary<bool>()) {
      auto meta = std::make_shared<engine::Meta>();
      meta->label = DrawText();
      meta->principal = DrawText();
      commit.meta = meta;
    }
    const int changes = *rc::gen::inRange(0, 6);
    for (int i = 0; i < changes; ++i) {
      Kind kind = *rc::gen::element(Kind::kSet, Kind::kCreate, Kind::kDelete, Kind::kExpire, Kind::kDefine);
      EntryChange change = Change(kind, absl::StrCat("/", i, DrawText()));
      if (kind == Kind::kSet || kind == Kind::kCreate) change.value = *rc::gen::arbitrary<Value>();
      bool defines = kind == Kind::kDefine ||
                     (kind != Kind::kDelete && kind != Kind::kExpire && *rc::gen::arbitrary<bool>());
      if (defines) {
        auto definition = std::make_shared<Definition>();
        definition->ttl = absl::Milliseconds(*rc::gen::inRange(0, 3));
        definition->container = *rc::gen::element<std::string>("", "mongo");
        definition->session_id = *rc::gen::element<std::string>("", "s1");
        change.definition = definition;
        change.entry_kind = *rc::gen::element(EntryKind::kRef, EntryKind::kAtom);
      }
      commit.changes.push_back(std::move(change));
    }
    const int records = *rc::gen::inRange(0, 3);
    for (int i = 0; i < records; ++i) commit.records.push_back(*rc::gen::arbitrary<Value>());
    std::string line = Print(commit, commit.version - 1);
    absl::StatusOr<LogLine> fast = Read(line);
    RC_ASSERT(fast.ok());
    CheckSame(commit, *fast->commit);
    // A space more, and it is no longer what this build prints.
    Trailer trailer = ReadTrailer(line).value();
    RC_ASSERT(trailer.durable == commit.version - 1);
    std::string spaced = "{ " + line.substr(1, trailer.body_size - 1);
    absl::StatusOr<LogLine> slow = LineParser().Parse(spaced, {});
    RC_ASSERT(slow.ok());
    CheckSame(commit, *slow->commit);
  });
}

TEST_CASE("log format: a line with any byte changed has no good trailer") {
  const std::string line = Print(Whole(), 41);
  for (size_t i = 0; i < line.size(); ++i) {
    std::string bad = line;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    CHECK_FALSE(ReadTrailer(bad).has_value());
    CHECK_FALSE(ReadTrailer(line.substr(0, i)).has_value());
  }
}

TEST_CASE("log format: an operation stands for a long value that the segment holds already") {
  RootedNames rooted;
  CommitRecord commit;
  commit.version = 2;
  std::vector<Value> items(40, Value::Integer(7));
  commit.changes.push_back(Change(Kind::kSet, "/v", Value::OfVector(items)));
  auto operation = std::make_shared<engine::Operation>(engine::OperationFromEdnForm(Edn("(conj 7)")).value());
  commit.changes[0].operation = operation;

  CHECK(Print(commit, 1, &rooted).find(":set {\"/v\" [7") != std::string::npos);
  std::string line = Print(commit, 1, &rooted);
  CHECK(line.find(":apply {\"/v\" (conj 7)}") != std::string::npos);
  LogLine read = Read(line).value();
  CHECK_FALSE(read.commit->changes[0].value.has_value());
  CHECK(read.commit->changes[0].expected_hash == static_cast<uint32_t>(commit.changes[0].value->hash()));
  CHECK(engine::ToEdnForm(*read.commit->changes[0].operation) == Edn("(conj 7)"));

  // Gone in between: the value again.
  CommitRecord gone;
  gone.version = 3;
  gone.changes.push_back(Change(Kind::kDelete, "/v"));
  Print(gone, 2, &rooted);
  CHECK(Print(commit, 1, &rooted).find(":set") != std::string::npos);
  // Short values: always themselves.
  commit.changes[0].value = Value::OfVector(std::vector<Value>(3, Value::Integer(7)));
  CHECK(Print(commit, 1, &rooted).find(":set") != std::string::npos);
  // An operation no shorter than its value.
  commit.changes[0].value = Value::String(std::string(100, 'x'));
  auto set = std::make_shared<engine::Operation>();
  set->argument = *commit.changes[0].value;
  commit.changes[0].operation = set;
  CHECK(Print(commit, 1, &rooted).find(":set") != std::string::npos);
}

TEST_CASE("log format: keys, formats and rules of a newer build are named, never passed over") {
  LineParser parser;
  auto refusal = [&](const std::string& body) {
    absl::StatusOr<LogLine> line = parser.Parse(body, {});
    REQUIRE_FALSE(line.ok());
    return line.status().ToString();
  };
  const std::string at = ":at #inst \"2026-11-22T03:00:00Z\"";
  using Catch::Contains;
  CHECK_THAT(refusal("{:version 1 " + at + " :stage [\"x\"]}"),
             Contains("UNIMPLEMENTED") && Contains(":stage"));
  CHECK_THAT(refusal("{:version 1 " + at + " :session {}}"),
             Contains("UNIMPLEMENTED") && Contains(":session"));
  CHECK_THAT(refusal("{:stm/log 2 :store \"0000000000000001\" :first 1}"),
             Contains("UNIMPLEMENTED") && Contains(":stm/log 2"));
  CHECK_THAT(refusal("{:version 1 " + at + " :define {\"/a\" {:validator [:later 1]}}}"),
             Contains("UNIMPLEMENTED") && Contains(":validator"));
  CHECK_THAT(refusal("{:version 1 " + at + " :apply {\"/a\" (frobnicate 1)}}"),
             Contains("UNIMPLEMENTED") && Contains("/a"));
  CHECK_THAT(refusal("{:version 1}"), Contains("DATA_LOSS") && Contains(":at"));
  CHECK_THAT(refusal("{:version \"1\" " + at + "}"), Contains("DATA_LOSS") && Contains(":version"));
  CHECK_THAT(refusal("{:version 1 " + at + " :set {\"/a\" }}"), Contains("DATA_LOSS"));
  CHECK_THAT(refusal("{:version 1 " + at + " :set [\"/a\"]}"),
             Contains(":set: found vector, expected a map"));
  CHECK_THAT(refusal("{:version 1 " + at + " :by {:who \"x\"}}"),
             Contains("UNIMPLEMENTED") && Contains(":who"));
  CHECK_THAT(refusal("[1]"), Contains("DATA_LOSS"));
}

TEST_CASE("log format: a line that a person wrote reads like one of ours") {
  absl::StatusOr<LogLine> line = LineParser().Parse(
      "{:set {\"/b\" 2,\"/a\" 1}, :at #inst \"2026-11-22T04:00:00+01:00\", :version 5 ; mine\n}", {});
  REQUIRE(line.ok());
  CHECK(line->commit->version == 5);
  CHECK(line->commit->at == Instant{1795316400, 0});
  CHECK(line->commit->changes.size() == 2);
}

TEST_CASE("log format: names of files") {
  CHECK(LogName(1) == kFirstLog);
  CHECK(ParseLogName(kFirstLog) == 1);
  CHECK(ParseLogName(LogName(INT64_MAX)) == INT64_MAX);
  CHECK_FALSE(ParseLogName("log-1.edn"));
  CHECK_FALSE(ParseLogName(kFirstLog + ".torn"));
  CHECK_FALSE(ParseLogName(SnapshotName(1)));
  CHECK(ParseSnapshotName("snapshot-0000000000000000042.edn") == 42);
}

TEST_CASE("crc32c: the published check values, by instruction and by tables") {
  CHECK(Crc32c("123456789") == 0xe3069283u);
  CHECK(Crc32c(std::string(32, '\0')) == 0x8a9136aau);
  CHECK(Crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
  rc::check([](const std::string& a, const std::string& b) {
    RC_ASSERT(ExtendCrc32cPortable(0, a + b) == Crc32c(a + b));
    RC_ASSERT(ExtendCrc32c(Crc32c(a), b) == Crc32c(a + b));
  });
}

}  // namespace
}  // namespace stm::local
