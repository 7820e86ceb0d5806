// What a container makes of what MongoDB answers: errors that no server here gives, and what is asked of a
// replica set's primary. No server but the test's own.
#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "backends/mongodb/container.h"
#include "engine/values/map.h"
#include "tests/mongodb/scripted_server.h"

namespace stm::mongodb {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr absl::Duration kShort = absl::Milliseconds(300);
constexpr char kOk[] = R"({"ok": 1, "n": 1})";
constexpr char kDuplicate[] =
    R"({"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000 duplicate key error"}]})";
constexpr char kNothing[] =
    R"({"ok": 1, "cursor": {"id": {"$numberLong": "0"}, "ns": "stmd.refs", "firstBatch": []}})";

std::string Found(const std::string& document) {
  return absl::StrCat(
      R"({"ok": 1, "cursor": {"id": {"$numberLong": "0"}, "ns": "stmd.refs", "firstBatch": [)", document,
      "]}}");
}

std::string Error(int code, const std::string& message) {
  return absl::StrCat(R"({"ok": 0, "code": )", code, R"(, "errmsg": ")", message, R"("})");
}

containers::Container Open(const std::string& uri) {
  absl::StatusOr<containers::Container> container = OpenContainer(uri);
  INFO(container.status());
  REQUIRE(container.ok());
  return std::move(*container);
}

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

bool Has(const std::string& text, const std::string& part) {
  const bool has = absl::StrContains(text, part);
  if (!has) UNSCOPED_INFO("\"" << part << "\" is not in: " << text);
  return has;
}

TEST_CASE(
    "mongodb: every write waits for a majority's journals, every read is of a majority, each within its "
    "time") {
  ScriptedServer server(Role::kPrimary, [](const std::string& name, const std::string&) {
    return name == "find" ? Found(R"({"_id": "/a@1", "value": 1})") : std::string(kOk);
  });
  const containers::Container container = Open(server.uri());
  REQUIRE(container.refs->SetStateAt("/a", "1", Value::Integer(1), kLong).ok());
  REQUIRE(container.refs->DeleteStateAt("/a", "1", kLong).ok());
  REQUIRE(container.atoms->SetState("/b", Value::Integer(1), 5, kLong).ok());
  REQUIRE(container.atoms->Destroy("/b", 6, kLong).ok());
  REQUIRE(container.refs->GetStateAt("/a", "1", kLong).ok());
  REQUIRE(container.atoms->GetState("/b", kLong).ok());
  const std::vector<std::string> commands = server.commands();
  REQUIRE(commands.size() == 6);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(Has(commands[i], R"("w" : "majority")"));
    CHECK(Has(commands[i], R"("j" : true)"));
    CHECK(Has(commands[i], R"("wtimeout" : )"));
    CHECK_FALSE(absl::StrContains(commands[i], "txnNumber"));
  }
  for (size_t i = 4; i < 6; ++i) {
    CHECK(Has(commands[i], R"("level" : "majority")"));
    CHECK(Has(commands[i], R"("maxTimeMS" : )"));
  }
}

TEST_CASE(
    "mongodb: that a stamp is not there is believed of a primary that sees to it that it still leads, or of "
    "a server alone") {
  for (const Role role : {Role::kPrimary, Role::kStandalone}) {
    ScriptedServer server(role, [](const std::string&, const std::string&) { return std::string(kNothing); });
    const containers::Container container = Open(server.uri());
    const absl::StatusOr<std::optional<Value>> value = container.refs->GetStateAt("/a", "1", kLong);
    REQUIRE(value.ok());
    CHECK_FALSE(value->has_value());
    const std::vector<std::string> commands = server.commands();
    REQUIRE(commands.size() == (role == Role::kPrimary ? 2 : 1));
    CHECK(Has(commands.front(), R"("level" : "majority")"));
    if (role == Role::kPrimary) CHECK(Has(commands.back(), R"("level" : "linearizable")"));
  }
}

TEST_CASE(
    "mongodb: a primary that was replaced and does not know is not believed that a stamp is not there") {
  ScriptedServer server(Role::kPrimary, [](const std::string&, const std::string& command) {
    return absl::StrContains(command, "linearizable") ? Found(R"({"_id": "/a@1", "value": "kept"})")
                                                      : std::string(kNothing);
  });
  const containers::Container container = Open(server.uri());
  const absl::StatusOr<std::optional<Value>> value = container.refs->GetStateAt("/a", "1", kLong);
  REQUIRE(value.ok());
  CHECK(*value == Value::String("kept"));
}

TEST_CASE("mongodb: a write that broke off is sent again, and finds itself") {
  int sent = 0;
  ScriptedServer server(Role::kStandalone, [&](const std::string& name, const std::string&) {
    if (name == "find") return Found(R"({"_id": "/a@1", "value": {"n": 1}})");
    return ++sent == 1 ? std::string() : std::string(kDuplicate);
  });
  const containers::Container container = Open(server.uri());
  const Value value = Value::OfMap(Map({{Value::Keyword("n"), Value::Integer(1)}}));
  const absl::Status status = container.refs->SetStateAt("/a", "1", value, kLong);
  INFO(status);
  CHECK(status.ok());
  CHECK(sent == 2);
}

TEST_CASE("mongodb: a write that failed in a command that others may have shared is sent again alone") {
  int sent = 0;
  ScriptedServer server(Role::kStandalone, [&](const std::string&, const std::string&) {
    return ++sent % 2 == 1 ? Error(2, "a document that is another's") : std::string(kOk);
  });
  const containers::Container container = Open(server.uri());
  CHECK(container.refs->SetStateAt("/a", "1", Value::Integer(1), kLong).ok());
  CHECK(sent == 2);
  CHECK(container.refs->DeleteStateAt("/a", "1", kLong).ok());
  CHECK(sent == 4);
}

TEST_CASE(
    "mongodb: a write that a majority does not have yet is not acknowledged, however often it finds itself") {
  const std::string kept_by_few =
      R"({"ok": 1, "n": 1, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}})";
  bool majority = false;
  int sent = 0;
  ScriptedServer server(Role::kPrimary, [&](const std::string& name, const std::string&) {
    if (name == "find")
      return majority ? Found(R"({"_id": "/a@1", "value": 1})") : Error(50, "operation exceeded time limit");
    return ++sent == 1 ? kept_by_few : std::string(kDuplicate);
  });
  const containers::Container container = Open(server.uri());
  const absl::Status few = container.refs->SetStateAt("/a", "1", Value::Integer(1), kShort);
  CHECK(few.code() == absl::StatusCode::kUnavailable);
  CHECK(sent > 1);
  majority = true;
  CHECK(container.refs->SetStateAt("/a", "1", Value::Integer(1), kLong).ok());
}

TEST_CASE("mongodb: another value under a stamp is an error, and no write") {
  ScriptedServer server(Role::kStandalone, [](const std::string& name, const std::string&) {
    return name == "find" ? Found(R"({"_id": "/a@1", "value": 2})") : std::string(kDuplicate);
  });
  const containers::Container container = Open(server.uri());
  const absl::Status status = container.refs->SetStateAt("/a", "1", Value::Integer(1), kLong);
  CHECK(status.code() == absl::StatusCode::kAlreadyExists);
  CHECK(Has(MessageOf(status), "mongodb: write /a@1 in stmd.refs at 127.0.0.1:"));
  CHECK(Has(MessageOf(status), "another value is there under this stamp, and stays"));
  for (const std::string& command : server.commands()) CHECK_FALSE(absl::StrContains(command, "update"));
}

TEST_CASE("mongodb: an atom's write that meets another's is sent again until what is there is not older") {
  int version = 3, sent = 0;
  ScriptedServer server(Role::kStandalone, [&](const std::string& name, const std::string&) {
    if (name == "find")
      return Found(absl::StrCat(R"({"_id": "/a", "version": )", version, R"(, "value": 2})"));
    if (++sent == 3) version = 7;
    return std::string(kDuplicate);
  });
  const containers::Container container = Open(server.uri());
  CHECK(container.atoms->SetState("/a", Value::Integer(1), 5, kLong).ok());
  CHECK(sent == 3);
}

TEST_CASE("mongodb: what MongoDB refuses comes with the caller's next move, what, where, and what to do") {
  struct Answer {
    std::string answer;
    absl::StatusCode code;
    std::string message;
  };
  const std::vector<Answer> answers = {
      {Error(13, "not authorized on stmd to execute command"), absl::StatusCode::kPermissionDenied,
       "MongoDB refuses the daemon's user: not authorized on stmd to execute command (code 13): give the "
       "user and password of the "
       "container's URI the role readWrite on this database (authSource names where it is)"},
      {Error(18, "Authentication failed."), absl::StatusCode::kPermissionDenied,
       "Authentication failed. (code 18)"},
      {Error(14031, "Can't take a write lock while out of disk space"), absl::StatusCode::kResourceExhausted,
       "MongoDB is full: Can't take a write lock while out of disk space (code 14031): give it room; what is "
       "there stays readable"},
      {Error(8000, "you are over your space quota, using 512 MB of 512 MB"),
       absl::StatusCode::kResourceExhausted,
       "MongoDB is full: you are over your space quota, using 512 MB of 512 MB (code 8000)"},
      {Error(1, "database or disk is full (13)"), absl::StatusCode::kResourceExhausted, "MongoDB is full"},
      {Error(10334, "BSONObj size is invalid"), absl::StatusCode::kResourceExhausted, "split the value"},
      {Error(10107, "not primary"), absl::StatusCode::kUnavailable,
       "no primary can be reached: not primary: is MongoDB up, and does the container's URI name its "
       "servers?"},
      {Error(11600, "interrupted at shutdown"), absl::StatusCode::kUnavailable, "interrupted at shutdown"},
      {Error(112, "WriteConflict"), absl::StatusCode::kUnavailable,
       "MongoDB can't do it just now: WriteConflict (code 112)"},
      {Error(50, "operation exceeded time limit"), absl::StatusCode::kUnavailable,
       "MongoDB did not get it done in time"},
      {R"({"ok": 1, "n": 1, "writeConcernError": {"code": 100, "errmsg": "Not enough data-bearing nodes"}})",
       absl::StatusCode::kUnavailable,
       "no majority of its members has the write yet: Not enough data-bearing nodes (code 100): are enough "
       "of them up?"},
      {R"({"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 121, "errmsg": "Document failed validation"}]})",
       absl::StatusCode::kInternal, "MongoDB answers: Document failed validation (code 121)"},
      {Error(59, "no such command: 'insert'"), absl::StatusCode::kInternal,
       "MongoDB answers: no such command: 'insert' (code 59)"},
      {"", absl::StatusCode::kUnavailable, "the connection broke"},
  };
  for (const Answer& wanted : answers) {
    ScriptedServer server(Role::kStandalone,
                          [&](const std::string&, const std::string&) { return wanted.answer; });
    const containers::Container container = Open(server.uri());
    const absl::Status status = container.refs->SetStateAt("/a", "s-1", Value::Integer(1), kShort);
    INFO(wanted.answer << ": " << status);
    CHECK(status.code() == wanted.code);
    CHECK(Has(MessageOf(status), "mongodb: write /a@s-1 in stmd.refs at 127.0.0.1:"));
    // A connection that broke is one that may not come back by the deadline.
    if (!wanted.answer.empty()) CHECK(Has(MessageOf(status), wanted.message));
  }
}

TEST_CASE("mongodb: a document that is no value's is DATA_LOSS, of that entry") {
  const std::vector<std::pair<std::string, std::string>> documents = {
      {R"({"_id": "/a@1"})", "the document has no field \"value\""},
      {R"({"_id": "/a@1", "value": {"#set": [1, 1]}})", "value.#set.items[1]: equals an earlier item"},
  };
  for (const auto& [document, message] : documents) {
    ScriptedServer server(Role::kStandalone, [&document = document](const std::string&, const std::string&) {
      return Found(document);
    });
    const containers::Container container = Open(server.uri());
    const absl::StatusOr<std::optional<Value>> value = container.refs->GetStateAt("/a", "1", kLong);
    CHECK(value.status().code() == absl::StatusCode::kDataLoss);
    CHECK(Has(MessageOf(value.status()), "mongodb: read /a@1 in stmd.refs at 127.0.0.1:"));
    CHECK(Has(MessageOf(value.status()), message));
  }
}

TEST_CASE(
    "mongodb: a URI that is none, or asks for less than a majority, is refused, and its password is in no "
    "message") {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {"mongodb://bob:s3cret@h/d?w=1", "the URI has w=1: stmd needs a majority: leave w out of it"},
      {"mongodb://bob:s3cret@h/d?w=0", "the URI has w=0"},
      {"mongodb://bob:s3cret@h/d?w=mine", "the URI has w=mine"},
      {"mongodb://bob:s3cret@h/d?journal=false", "the URI has journal=false"},
      {"mongodb://bob:s3cret@h/d?readConcernLevel=local", "the URI has readConcernLevel=local"},
      {"mongodb://bob:s3cret@h/d?readPreference=nearest", "the URI has readPreference=another than primary"},
      {"mongodb://bob:s3cret@h/d?maxPoolSize=-1", "the URI has maxPoolSize=-1"},
      {"http://bob:s3cret@h/", "no URI of MongoDB"},
      {"bob:s3cret@h", "no URI of MongoDB"},
      {"", "no URI of MongoDB"},
      {"mongodb://bob:s3cret@h:99999/", "no URI of MongoDB"},
      {"mongodb://bob:s3cret%zz@h/", "no URI of MongoDB"},
      {"mongodb://bob:s3cret:more@h/", "no URI of MongoDB"},
      {"mongodb://bob:s3cret@/d", "no URI of MongoDB"},
      {"mongodb://bob:s3cret@h/d?tls=true&ssl=false", "no URI of MongoDB"},
  };
  for (const auto& [uri, message] : refused) {
    const absl::StatusOr<containers::Container> container = OpenContainer(uri);
    INFO(uri << ": " << container.status());
    CHECK(container.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(Has(MessageOf(container.status()), message));
    CHECK_FALSE(absl::StrContains(MessageOf(container.status()), "s3cret"));
  }
  for (const char* uri :
       {"mongodb://bob:p@h1,h2:27018/d?replicaSet=rs0&w=majority&journal=true&readConcernLevel=majority",
        "mongodb://h/?retryWrites=true&w=majority&readPreference=primary&maxPoolSize=8", "mongodb://h"}) {
    CHECK(OpenContainer(uri).ok());
  }
}

}  // namespace
}  // namespace stm::mongodb
