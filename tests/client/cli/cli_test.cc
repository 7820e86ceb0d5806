#include <algorithm>
#include <deque>
#include <sstream>

#include <catch2/catch.hpp>
#include <rapidcheck.h>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "client/cli/app.h"
#include "client/cli/exactly_once.h"
#include "client/cli/json.h"
#include "client/cli/print.h"
#include "client/cli/progress.h"
#include "client/cli/shell.h"
#include "client/cli/transaction_file.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/wire.h"
#include "stm/error.h"
#include "stm/outcome_word.h"
#include "stm/v1/common.pb.h"
#include "tests/engine/values/generators.h"

namespace stm::cli {
namespace {

Value Edn(std::string_view text) {
  absl::StatusOr<Value> value = ReadEdn(text);
  REQUIRE(value.ok());
  return *value;
}

std::string JsonOf(std::string_view edn) { return ToJson(Edn(edn)); }

std::string EdnOf(std::string_view json) {
  absl::StatusOr<Value> value = ReadJson(json);
  INFO(value.status());
  REQUIRE(value.ok());
  return ToEdn(*value);
}

bool Has(absl::string_view text, absl::string_view part) { return absl::StrContains(text, part); }

}  // namespace

TEST_CASE("json: every value printed and read back is the same value") {
  REQUIRE(rc::check([](const Value& value) {
    absl::StatusOr<Value> read = ReadJson(ToJson(value));
    RC_ASSERT(read.ok());
    RC_ASSERT(*read == value);
  }));
}

TEST_CASE("json: each type has one documented form") {
  CHECK(JsonOf("nil") == "null");
  CHECK(JsonOf("[1 -2 true]") == "[1,-2,true]");
  CHECK(JsonOf("10.0") == "10.0");
  CHECK(JsonOf("1e300") == "1e+300");
  CHECK(JsonOf("##NaN") == R"({"#stm/double":"NaN"})");
  CHECK(JsonOf("##-Inf") == R"({"#stm/double":"-Infinity"})");
  CHECK(JsonOf(":a/b") == R"(":a/b")");
  CHECK(JsonOf("\":a\"") == R"("::a")");
  CHECK(JsonOf("{:a 1, \"b\" 2}") == R"({":a":1,"b":2})");
  CHECK(JsonOf("{1 2}") == R"({"#stm/map":[[1,2]]})");
  CHECK(JsonOf("{\"#x\" 2}") == R"({"#stm/map":[["#x",2]]})");
  CHECK(JsonOf("(1)") == R"({"#stm/list":[1]})");
  CHECK(JsonOf("#{1}") == R"({"#stm/set":[1]})");
  CHECK(JsonOf("12N") == R"({"#stm/bigint":"12"})");
  CHECK(JsonOf("1.50M") == R"({"#stm/decimal":"1.50"})");
  CHECK(JsonOf("\\a") == R"({"#stm/char":"a"})");
  CHECK(JsonOf("foo/bar") == R"({"#stm/symbol":"foo/bar"})");
  CHECK(JsonOf("#blog.User{:name \"Bob\"}") == R"({"#blog.User":{":name":"Bob"}})");
  CHECK(JsonOf("#inst \"2026-11-22T03:00:00Z\"") == R"({"#inst":"2026-11-22T03:00:00Z"})");
  CHECK(JsonOf("\"a\\n\\\"\"") == R"("a\n\"")");
}

TEST_CASE("json: integers past 64 bits become bigints, never doubles") {
  CHECK(EdnOf("9223372036854775807") == "9223372036854775807");
  CHECK(EdnOf("9223372036854775808") == "9223372036854775808N");
  CHECK(EdnOf("123456789012345678901234567890") == "123456789012345678901234567890N");
  CHECK(EdnOf("-123456789012345678901234567890") == "-123456789012345678901234567890N");
  CHECK(EdnOf("1.0") == "1.0");
}

TEST_CASE("json: what is wrong is named") {
  auto error = [](std::string_view text) {
    absl::StatusOr<Value> value = ReadJson(text);
    REQUIRE_FALSE(value.ok());
    CHECK(value.status().code() == absl::StatusCode::kInvalidArgument);
    return std::string(value.status().message());
  };
  CHECK(Has(error("[1,"), "line 1, column"));
  CHECK(Has(error("{\"a\":1,\"a\":2}"), "key twice"));
  CHECK(Has(error("{\"#stm/nope\":1}"), "no such form"));
  CHECK(Has(error("{\"#uuid\":\"x\"}"), "#uuid"));
  CHECK(Has(error("{\"#stm/set\":[1,1]}"), "equal"));
  CHECK(Has(error(std::string(100, '[') + std::string(100, ']')), "value_depth_max"));
  CHECK(Has(error(std::string(100000, '[')), "value_depth_max"));
  CHECK(Has(error("1 2"), "JSON"));
}

TEST_CASE("print: edn rows have keywords, json rows strings, raw strings are bare") {
  auto print = [](Output output) {
    std::ostringstream out;
    Printer printer(output, 0, out);
    printer.Row({{"name", Value::String("/a")}, {"kind", printer.Word("ref")}});
    printer.Print(Value::String("x y"));
    printer.Finish();
    return out.str();
  };
  CHECK(print(Output::kEdn) == "{:name \"/a\", :kind :ref}\n\"x y\"\n");
  CHECK(print(Output::kJson) == "{\"name\":\"/a\",\"kind\":\"ref\"}\n\"x y\"\n");
  CHECK(print(Output::kRaw) == "/a\t:ref\nx y\n");
}

TEST_CASE("print: a table aligns by characters and is cut to the terminal's width") {
  std::ostringstream out;
  Printer printer(Output::kTable, 24, out);
  printer.Row({{"name", Value::String("/ä")}, {"value", Value::Integer(1)}});
  printer.Row({{"name", Value::String("/bcd")}, {"value", Value::String("a long, long, long text")}});
  printer.Finish();
  CHECK(out.str() ==
        "NAME  VALUE\n"
        "/ä    1\n"
        "/bcd  \"a long, long, ...\n");
}

TEST_CASE("print: a commit tells what changed, absent and nil apart") {
  v1::CommitEvent commit;
  commit.set_version(7);
  commit.mutable_meta()->set_label("why");
  *commit.mutable_at() = ToProto(Instant{0, 5999999});
  v1::Change* change = commit.add_changes();
  change->set_name("/a");
  change->set_kind(v1::CHANGE_KIND_SET);
  ToProto(Value(), change->mutable_after());
  change = commit.add_changes();
  change->set_name("/b");
  change->set_kind(v1::CHANGE_KIND_DELETED);
  change->set_before_unknown(true);
  ToProto(Edn("#t.T{:x 1}"), commit.add_records());
  std::ostringstream out;
  Printer printer(Output::kEdn, 0, out);
  CHECK(ToEdn(printer.MapOf(*CommitFields(printer, commit))) ==
        ToEdn(Edn("{:version 7 :at #inst \"1970-01-01T00:00:00.005999999Z\" :by {:label \"why\"} :changes [{:name \"/a\" :kind :set :after nil}"
                  " {:name \"/b\" :kind :deleted :before-unknown true}] :records [#t.T{:x 1}]}")));
  std::vector<std::string> lines = *CommitLines(commit);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "7       1970-01-01T00:00:00.005Z  /a  absent -> nil  (why)");
  CHECK(lines[1] == "7       1970-01-01T00:00:00.005Z  /b  unknown -> absent  (why)");
  CHECK(lines[2] == "7       1970-01-01T00:00:00.005Z  " + ToEdn(Edn("#t.T{:x 1}")) + "  (why)");
}

TEST_CASE("tx: a map becomes checks, writes and records, in order") {
  TransactionFile file = *ParseTransaction(
      Edn("{:check {\"/a\" 1 \"/b\" :stm/absent \"/c\" nil} :set {\"/a\" 2} :create {\"/d\" []}"
          " :apply {\"/n\" (add 1) \"/q\" [(conj 1) (conj 2)]} :delete [\"/e\"]"
          " :records [#t.T{}] :label \"why\" :isolation :snapshot}"));
  REQUIRE(file.checks.size() == 3);
  CHECK(file.checks[0].expected == Value::Integer(1));
  CHECK_FALSE(file.checks[1].expected.has_value());
  CHECK(file.checks[2].expected == Value());
  REQUIRE(file.request.writes_size() == 6);
  CHECK(file.request.writes(0).has_set());
  CHECK(file.request.writes(1).has_create());
  CHECK(file.request.writes(2).apply().add().integer() == 1);
  CHECK(file.request.writes(4).apply().conj().items(0).integer() == 2);
  CHECK(file.request.writes(5).delete_entry());
  CHECK(file.request.records_size() == 1);
  CHECK(file.request.meta().label() == "why");
  CHECK(file.request.isolation() == v1::ISOLATION_SNAPSHOT);
  REQUIRE(file.applied.size() == 2);
  CHECK(file.applied[1].first == 3);
  CHECK(file.applied[1].count == 2);
  CHECK(file.applied[1].several);
}

TEST_CASE("tx: JSON reads as the same transaction") {
  TransactionFile file = *ParseTransaction(*ReadJson(R"j({"set": {"/a": 2}, "apply": {"/n": "(add 1)"}})j"));
  CHECK(file.request.writes(0).set().integer() == 2);
  CHECK(file.request.writes(1).apply().add().integer() == 1);
}

TEST_CASE("tx: what is wrong is named") {
  auto error = [](std::string_view text) {
    absl::StatusOr<TransactionFile> file = ParseTransaction(Edn(text));
    REQUIRE_FALSE(file.ok());
    CHECK(file.status().code() == absl::StatusCode::kInvalidArgument);
    return std::string(file.status().message());
  };
  CHECK(Has(error("{:st {\"/a\" 1}}"), "did you mean :set?"));
  CHECK(Has(error("{:set {\"a\" 1}}"), ":set"));
  CHECK(Has(error("{:apply {\"/a\" (ad 1)}}"), "/a"));
  CHECK(Has(error("{:records [1]}"), "tagged"));
  CHECK(Has(error("{:check {\"/a\" 1}}"), "nothing to commit"));
  CHECK(Has(error("{:set {\"/a\" :stm/absent}}"), ":delete"));
  CHECK(Has(error("[1]"), "expected a map"));
}

TEST_CASE("outcome word: printed and parsed it is the same") {
  OutcomeWord word{"0f8fad5b-d9cb-469f-a165-70867728950e", 0xc0ffee01, 42, 0x8badf00d8badf00d};
  std::string text = PrintOutcomeWord(word);
  CHECK(text.find_first_of(" \t\n") == std::string::npos);
  OutcomeWord read = *ParseOutcomeWord(" " + text + "\n");
  CHECK(read.transaction_id == word.transaction_id);
  CHECK(read.writer == word.writer);
  CHECK(read.seen_version == word.seen_version);
  CHECK(read.store == word.store);
}

TEST_CASE("outcome word: one wrong or missing character is refused") {
  std::string text = PrintOutcomeWord({"0f8fad5b-d9cb-469f-a165-70867728950e", 1, 42, 2});
  for (size_t i = 0; i < text.size(); ++i) {
    std::string cut = text;
    cut.erase(i, 1);
    CHECK_FALSE((ParseOutcomeWord(cut).ok() && cut != text));
    std::string other = text;
    other[i] = other[i] == '7' ? '8' : '7';
    CHECK_FALSE(ParseOutcomeWord(other).ok());
  }
  CHECK_FALSE(ParseOutcomeWord("").ok());
}

// A daemon that follows a script.
class Scripted : public Committer {
 public:
  absl::StatusOr<v1::Header> Hello(absl::Time) override { return header; }
  absl::StatusOr<v1::CommitResponse> Commit(const v1::CommitRequest& request, absl::Time) override {
    sent.push_back(request.id());
    REQUIRE(!answers.empty());
    auto answer = answers.front();
    if (answers.size() > 1) answers.pop_front();
    return answer;
  }
  absl::StatusOr<v1::CommitResponse> Outcome(const v1::CommitId& id, absl::Time) override {
    asked.push_back(id);
    return outcome;
  }

  v1::Header header = [] {
    v1::Header h;
    h.set_store(1);
    h.set_writer(2);
    h.set_installed_version(3);
    return h;
  }();
  std::deque<absl::StatusOr<v1::CommitResponse>> answers;
  absl::StatusOr<v1::CommitResponse> outcome = absl::UnavailableError("away");
  std::vector<v1::CommitId> sent;
  std::vector<v1::CommitId> asked;
};

v1::CommitResponse Committed(int64_t version) {
  v1::CommitResponse response;
  response.mutable_committed()->set_version(version);
  return response;
}

v1::CommitResponse NotCommitted() {
  v1::CommitResponse response;
  response.mutable_not_committed();
  return response;
}

v1::CommitResponse IdTooOld() {
  v1::CommitResponse response;
  response.mutable_id_too_old()->set_floor(9);
  return response;
}

absl::Status WithReason(absl::Status status, v1::ErrorReason reason, int retry_ms = 0) {
  v1::ErrorDetail detail;
  detail.set_reason(reason);
  if (retry_ms != 0) detail.mutable_retry_after()->set_nanos(retry_ms * 1000000);
  SetDetail(detail, &status);
  return status;
}

absl::StatusOr<v1::CommitResponse> Send(Scripted& daemon, absl::Duration timeout, int64_t snapshot = 0) {
  v1::CommitRequest request;
  request.set_snapshot(snapshot);
  return CommitOnce(daemon, request, absl::Now() + timeout, NewTransactionId);
}

TEST_CASE("exactly once: a resend has the same id and says that it is one") {
  Scripted daemon;
  daemon.answers = {absl::UnavailableError("broken"), absl::InternalError("RST_STREAM"), Committed(5)};
  CHECK(Send(daemon, absl::Seconds(60))->committed().version() == 5);
  REQUIRE(daemon.sent.size() == 3);
  CHECK_FALSE(daemon.sent[0].resend());
  CHECK(daemon.sent[0].writer() == 2);
  CHECK(daemon.sent[0].seen().version() == 3);
  CHECK(daemon.sent[0].seen().store() == 1);
  for (int i : {1, 2}) {
    CHECK(daemon.sent[i].resend());
    CHECK(daemon.sent[i].transaction_id() == daemon.sent[0].transaction_id());
    CHECK(daemon.sent[i].writer() == daemon.sent[0].writer());
  }
}

TEST_CASE("exactly once: not committed is sent again under a new id") {
  Scripted daemon;
  daemon.answers = {absl::UnavailableError("broken"), NotCommitted(), Committed(5)};
  CHECK(Send(daemon, absl::Seconds(60))->has_committed());
  REQUIRE(daemon.sent.size() == 3);
  CHECK(daemon.sent[2].transaction_id() != daemon.sent[0].transaction_id());
  CHECK_FALSE(daemon.sent[2].resend());
}

TEST_CASE("exactly once: an id too old is made anew on a first send and unknown on a resend") {
  Scripted first;
  first.answers = {IdTooOld(), Committed(5)};
  CHECK(Send(first, absl::Seconds(60))->has_committed());
  CHECK(first.sent[1].transaction_id() != first.sent[0].transaction_id());

  Scripted resent;
  resent.answers = {absl::UnavailableError("broken"), IdTooOld()};
  absl::StatusOr<v1::CommitResponse> outcome = Send(resent, absl::Seconds(60));
  REQUIRE_FALSE(outcome.ok());
  REQUIRE(OutcomeWordOf(outcome.status()));
  CHECK(ParseOutcomeWord(*OutcomeWordOf(outcome.status()))->transaction_id == resent.sent[0].transaction_id());
}

TEST_CASE("exactly once: no answer until the deadline is unknown, with the word") {
  Scripted daemon;
  daemon.answers = {absl::UnavailableError("broken")};
  absl::StatusOr<v1::CommitResponse> outcome = Send(daemon, absl::Milliseconds(100));
  REQUIRE_FALSE(outcome.ok());
  CHECK(OutcomeWordOf(outcome.status()));
  CHECK(ExitOf(outcome.status()) == kError);
  CHECK(Has(outcome.status().message(), "stmctl outcome "));
}

TEST_CASE("exactly once: a deadline in flight is settled by asking for the outcome") {
  Scripted daemon;
  daemon.answers = {absl::DeadlineExceededError("late")};
  daemon.outcome = Committed(8);
  CHECK(Send(daemon, absl::Seconds(60))->committed().version() == 8);
  REQUIRE(daemon.asked.size() == 1);
  CHECK(daemon.asked[0].transaction_id() == daemon.sent[0].transaction_id());

  daemon.outcome = NotCommitted();
  absl::StatusOr<v1::CommitResponse> none = Send(daemon, absl::Seconds(60));
  CHECK(none.status().code() == absl::StatusCode::kDeadlineExceeded);
  CHECK_FALSE(OutcomeWordOf(none.status()));

  daemon.outcome = absl::UnavailableError("away");
  CHECK(OutcomeWordOf(Send(daemon, absl::Seconds(60)).status()));
}

TEST_CASE("exactly once: another store is adopted before a send with nothing read, else it is an error or unknown") {
  absl::Status changed = WithReason(absl::OutOfRangeError("store"), v1::ERROR_REASON_STORE_CHANGED);
  Scripted blind;
  blind.answers = {changed, Committed(5)};
  CHECK(Send(blind, absl::Seconds(60))->has_committed());

  Scripted read;
  read.answers = {changed};
  absl::StatusOr<v1::CommitResponse> failed = Send(read, absl::Seconds(60), 7);
  CHECK(failed.status().code() == absl::StatusCode::kOutOfRange);
  CHECK_FALSE(OutcomeWordOf(failed.status()));

  Scripted resent;
  resent.answers = {absl::UnavailableError("broken"), changed};
  CHECK(OutcomeWordOf(Send(resent, absl::Seconds(60)).status()));
}

TEST_CASE("exactly once: a refusal is told, and one with a time to wait is tried again under a new id") {
  Scripted refused;
  refused.answers = {WithReason(absl::InvalidArgumentError("bad"), v1::ERROR_REASON_BAD_VALUE)};
  CHECK(Send(refused, absl::Seconds(60)).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(refused.sent.size() == 1);

  Scripted full;
  full.answers = {WithReason(absl::ResourceExhaustedError("full"), v1::ERROR_REASON_NO_SPACE, 1), Committed(5)};
  CHECK(Send(full, absl::Seconds(60))->has_committed());
  CHECK(full.sent[1].transaction_id() != full.sent[0].transaction_id());
}

TEST_CASE("exactly once: transaction ids are version 4 UUIDs, each another") {
  std::string one = NewTransactionId();
  CHECK(ParseUuid(one));
  CHECK(one[14] == '4');
  CHECK(std::string_view("89ab").find(one[19]) != std::string_view::npos);
  CHECK(NewTransactionId() != one);
}

TEST_CASE("errors: one line, with what the detail adds") {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_SNAPSHOT_TOO_OLD);
  detail.set_limit("history_bytes");
  detail.set_limit_value(7);
  absl::Status status = absl::OutOfRangeError("snapshot 3\nis trimmed");
  SetDetail(detail, &status);
  CHECK(Explain(status) == "snapshot 3 is trimmed: history_bytes=7: ask for a newer version or moment");
}

TEST_CASE("errors: outcomes map to the documented exit codes") {
  v1::CommitResponse response;
  response.mutable_conflict()->add_causes()->set_name("/a");
  CHECK(ExitOf(OutcomeStatus(response)) == kConflict);
  CHECK(Has(OutcomeStatus(response).message(), "/a"));
  for (auto [cause, exit] : {std::pair(v1::REJECT_CAUSE_COMPARE, kConflict),
                             std::pair(v1::REJECT_CAUSE_ABSENT, kAbsent),
                             std::pair(v1::REJECT_CAUSE_VALIDATOR, kRejected),
                             std::pair(v1::REJECT_CAUSE_TYPE, kRejected),
                             std::pair(v1::REJECT_CAUSE_OVERFLOW, kRejected),
                             std::pair(v1::REJECT_CAUSE_KIND, kRejected)}) {
    response.mutable_rejected()->set_cause(cause);
    response.mutable_rejected()->set_name("/a");
    CHECK(ExitOf(OutcomeStatus(response)) == exit);
    CHECK(Has(OutcomeStatus(response).message(), "/a"));
  }
  response.mutable_fence_lost()->mutable_fence()->set_lock("/a");
  response.mutable_fence_lost()->mutable_fence()->set_token(7);
  CHECK(ExitOf(OutcomeStatus(response)) == kLockLost);
  CHECK(Has(OutcomeStatus(response).message(), "/a: the grant with token 7 is gone (nobody holds it now)"));
  response.mutable_fence_lost()->add_current_tokens(9);
  CHECK(Has(OutcomeStatus(response).message(), "it is held under 9"));
  v1::ErrorDetail expired;
  expired.set_reason(v1::ERROR_REASON_SESSION_EXPIRED);
  absl::Status status = absl::FailedPreconditionError("");
  SetDetail(expired, &status);
  CHECK(ExitOf(status) == kLockLost);
  ErrorInfo info;
  info.reason = Reason::kLockBusy;
  CHECK(ExitOf(MakeError(absl::StatusCode::kAborted, "", info)) == kLockBusy);
  CHECK(ExitOf(absl::UnavailableError("")) == kUnavailable);
  CHECK(ExitOf(absl::DeadlineExceededError("")) == kTimedOut);
  CHECK(ExitOf(absl::OkStatus()) == kOk);
}

struct Ran {
  int code;
  std::string out;
  std::string err;
};

Ran RunLine(std::vector<std::string> arguments, const std::string& in = "") {
  std::istringstream input(in);
  std::ostringstream out;
  std::ostringstream err;
  Io io{input, out, err};
  // Nothing listens there: what gets so far has parsed.
  arguments.insert(arguments.begin(), {"--address", "unix:/nonexistent/stmd.sock", "--timeout", "5s"});
  int code = Run(arguments, io);
  return {code, out.str(), err.str()};
}

TEST_CASE("usage: unknown commands and options name the nearest") {
  CHECK(Has(RunLine({"gte", "/a"}).err, "did you mean get?"));
  CHECK(Has(RunLine({"get", "/a", "--mta"}).err, "did you mean --meta?"));
  CHECK(Has(RunLine({"get", "--mta"}).err, "did you mean --meta?"));
  CHECK(Has(RunLine({"set", "/a", "1", "--outptu=edn"}).err, "did you mean --output?"));
  CHECK(Has(RunLine({"log", "tial"}).err, "did you mean tail?"));
  CHECK(Has(RunLine({"validator"}).err, "get, set, clear"));
  CHECK(Has(RunLine({"set", "/a"}).err, "VALUE"));
  CHECK(Has(RunLine({"set", "/a", "1", "2"}).err, "too many: 2"));
  for (std::vector<std::string> line : std::vector<std::vector<std::string>>{
           {"gte"}, {"get"}, {"get", "/a", "--nope"}, {"set", "/a"}, {"log"}, {"set", "/a", "1", "2"},
           {"get", "a"}, {"get", "/a/"}, {"list", "/a"}, {"set", "/a", "(1"}, {"apply", "/a", "(nope 1)"},
           {"delete"}, {"delete", "/a", "--prefix", "/b/"}, {"delete", "--prefix", "/b/"}, {"outcome", "x"},
           {"watch", "/a", "--initial", "--from", "3"}, {"get", "/a", "--output", "xml"}, {"get", "/a", "--at", "soon"},
           {"get", "/a", "--timeout", "5"}, {"set", "/a", "1", "--if-version", "1", "--if-absent"},
           {"set", "/a", "{", "--json"}, {"help", "nope"}, {"init"}, {"init", "zk1:2181/a"}, {"init", "zk://zk1/a"},
           {"init", "zk://a:1/b", "--acl", "me"}, {"init", "zk://a:1/b", "--acl", "creator"},
           {"init", "zk://a:1/b", "--credentials-file", "/nonexistent"}, {"watch", "/a", "--count", "0"}}) {
    INFO(line[0]);
    Ran ran = RunLine(line);
    CHECK(ran.code == kUsage);
    CHECK(ran.out.empty());
    CHECK(std::count(ran.err.begin(), ran.err.end(), '\n') == 1);
    CHECK(Has(ran.err, "stmctl: "));
  }
}

TEST_CASE("usage: a daemon that is away is unavailable, and its address is named") {
  for (std::vector<std::string> line : std::vector<std::vector<std::string>>{
           {"get", "/a"}, {"set", "/a", "1"}, {"set", "/a", "-1"}, {"set", "/a", "version"}, {"set", "/a", "[1 2]"},
           {"set", "/a", "-1.5", "--json"}, {"status"}, {"watch", "/"}, {"log", "tail"}, {"log", "records"},
           {"health"}, {"set", "/a", "--", "->x"}, {"demo", "queue"}, {"demo", "transfer"}, {"demo", "lock"},
           {"lock", "/a", "--", "true"}, {"lock", "list"}, {"lock", "show", "/a"}, {"lock", "break", "/a"},
           {"elect", "/a", "--as", "me", "--", "true"}, {"elect", "show", "/a"}, {"session", "list"},
           {"set", "/a", "1", "--ephemeral"}}) {
    INFO(line[0] << " " << line.back());
    Ran ran = RunLine(line);
    CHECK(ran.code == kUnavailable);
    CHECK(Has(ran.err, "/nonexistent/stmd.sock"));
    CHECK(Has(ran.err, "--address"));
    CHECK(std::count(ran.err.begin(), ran.err.end(), '\n') == 1);
  }
}

TEST_CASE("usage: help of every command names its example") {
  CHECK(Has(RunLine({"help"}).out, "Exit codes"));
  for (std::vector<std::string> line : std::vector<std::vector<std::string>>{
           {"help", "get"}, {"help", "log", "tail"}, {"get", "--help"}, {"log", "import", "-h"}, {"help", "tx"}}) {
    Ran ran = RunLine(line);
    CHECK(ran.code == kOk);
    CHECK(Has(ran.out, "Example: "));
    CHECK(ran.err.empty());
  }
  CHECK(RunLine({"version"}).out == "\"0.1.0\"\n");
  CHECK(RunLine({"--version"}).out == "stmctl 0.1.0\n");
}

TEST_CASE("import: a fault anywhere in the file is told before anything is sent") {
  Ran ran = RunLine({"log", "import", "-"}, "#t.A{:x 1}\n; a comment\n#t.B{:x\n");
  CHECK(ran.code == kUsage);
  INFO(ran.err);
  CHECK(Has(ran.err, "record 2"));
  ran = RunLine({"log", "import", "-"}, "#t.A{:x 1}\n\n42\n");
  CHECK(ran.code == kUsage);
  CHECK(Has(ran.err, "stdin:3: record 2"));
  ran = RunLine({"log", "import", "-"}, "#t.A{:x 1}\n");
  CHECK(ran.code == kUnavailable);
  CHECK(Has(ran.err, "--skip 0"));
}

namespace {

// Streams that are terminals or not, and what came out on the standard error.
struct Screen {
  Screen(bool out_is_terminal, bool err_is_terminal, size_t err_width)
      : io{in, out, err, false, out_is_terminal, 0, err_is_terminal, err_width} {}
  std::istringstream in;
  std::ostringstream out, err;
  Io io;
};

// Work goes on until it was long enough to be shown; what is on the screen then, without the escapes.
std::string Shown(Screen& screen, Progress& progress, int64_t done, const std::function<void()>& beside) {
  const absl::Time until = absl::Now() + absl::Seconds(60);
  while (screen.err.str().empty() && absl::Now() < until) {
    progress.At(done);
    beside();
  }
  std::string text = screen.err.str();
  REQUIRE(text.size() > 4);
  CHECK(text.front() == '\r');
  CHECK(Has(text, "\033[K"));
  return text.substr(1, text.find('\033') - 1);
}

}  // namespace

TEST_CASE("progress: a terminal shows it, a pipe never, and nothing is drawn among rows that are printed") {
  Screen screen(false, true, 0), pipe(true, false, 0), rows(true, true, 0), rows_elsewhere(false, true, 0);
  {
    Progress drawn(screen.io, "sort", "sheep", 200);
    Progress silent(pipe.io, "sort", "sheep", 200);
    Progress printing(rows.io, "sort", "sheep", 200, Progress::Rows::kMeanwhile);
    Progress redirected(rows_elsewhere.io, "sort", "sheep", 200, Progress::Rows::kMeanwhile);
    const auto others = [&] {
      silent.At(50);
      printing.At(50);
      redirected.At(50);
    };
    const std::string line = Shown(screen, drawn, 50, others);
    CHECK(Has(line, "sort [#######.......................] 25% 50 sheep, "));
    CHECK(Has(Shown(rows_elsewhere, redirected, 50, others), "25% 50 sheep, "));
  }
  // The line is taken away again.
  CHECK(absl::EndsWith(screen.err.str(), "\r\033[K"));
  CHECK(pipe.err.str().empty());
  CHECK(rows.err.str().empty());
  CHECK(screen.out.str().empty());
}

TEST_CASE("progress: a bar is never longer than full, there is none when nobody knows the end, and a line fits the screen") {
  Screen over(false, true, 0), endless(false, true, 0), narrow(false, true, 12);
  Progress past_the_end(over.io, "sort", "sheep", 10);
  CHECK(Has(Shown(over, past_the_end, 11, [] {}), "[##############################] 100% 11 sheep"));
  Progress nobody_knows(endless.io, "sort", "sheep", 0);
  CHECK(absl::StartsWith(Shown(endless, nobody_knows, 11, [] {}), "sort 11 sheep, "));
  Progress cut(narrow.io, "sort", "sheep", 0);
  CHECK(Shown(narrow, cut, 11, [] {}) == "sort 11 she");
}

}  // namespace stm::cli
