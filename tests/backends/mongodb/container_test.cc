// Containers in MongoDB, on a real server: FerretDB, or what STMD_TEST_MONGODB_URI names
// (tests/mongodb/server.h).
#include "backends/mongodb/container.h"

#include <sys/mount.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "backends/mongodb/bson.h"
#include "engine/values/edn.h"
#include "tests/e2e/faults/process.h"
#include "tests/mongodb/server.h"
#include "tests/mongodb/shell.h"

namespace stm::mongodb {
namespace {

using containers::Container;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr absl::Duration kShort = absl::Milliseconds(300);
// Where libmongoc by itself would have a call wait 30 s for a server, or 5 minutes for an answer.
constexpr std::chrono::seconds kInTime(20);

// A database of its own on the server that is given, or on a server of its own.
class World {
 public:
  World() {
    if (GivenUri().empty()) {
      server_ = std::make_unique<Server>();
      uri_ = server_->uri("stmd_test");
    } else {
      std::random_device device;
      uri_ = WithDatabase(GivenUri(), absl::StrCat("stmd_test_", device()));
    }
  }
  ~World() {
    if (server_ == nullptr) Shell(uri_).DropDatabase();
  }
  const std::string& uri() const { return uri_; }
  Server& server() { return *server_; }

 private:
  std::unique_ptr<Server> server_;
  std::string uri_;
};

bool HasServer() {
  static const bool has = [] {
    if (!GivenUri().empty()) {
      std::printf("on the MongoDB that STMD_TEST_MONGODB_URI names\n");
      return true;
    }
    const std::string why = WhyNoServer();
    if (!why.empty()) std::printf("SKIPPED mongodb: there is no server here: %s", why.c_str());
    return why.empty();
  }();
  return has;
}

// A server of ours, which may be hurt.
bool HasOwnServer() {
  if (GivenUri().empty()) return HasServer();
  std::printf("SKIPPED mongodb: STMD_TEST_MONGODB_URI names a server that is not ours to hurt\n");
  return false;
}

Container Open(const std::string& uri) {
  absl::StatusOr<Container> container = OpenContainer(uri);
  INFO(container.status());
  REQUIRE(container.ok());
  return std::move(*container);
}

Value Edn(const std::string& text) {
  absl::StatusOr<Value> value = ReadEdn(text);
  REQUIRE(value.ok());
  return *value;
}

std::optional<Value> Got(const absl::StatusOr<std::optional<Value>>& got) {
  INFO(got.status());
  REQUIRE(got.ok());
  return *got;
}

void Done(const absl::Status& status) {
  INFO(status);
  REQUIRE(status.ok());
}

bool Has(absl::string_view text, const std::string& part) {
  const bool has = absl::StrContains(text, part);
  if (!has) UNSCOPED_INFO("\"" << part << "\" is not in: " << text);
  return has;
}

TEST_CASE("mongodb: a value is there under its stamp, whole, until it is deleted") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  const std::vector<std::string> values = {"nil",
                                           "{:name \"Bob\" :tags [\"a\" [1 [2]]]}",
                                           "#{1 2.5 -0.0 ##NaN ##Inf}",
                                           "(1 \\a :k sym 12N 1.50M)",
                                           "{\"a.b\" 1 \"$c\" 2 \"\" 3}",
                                           "#blog/User {:id #uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"}"};
  Done(container.refs->Init("/a", kLong));
  Done(container.refs->Init("/a", kLong));
  for (size_t i = 0; i < values.size(); ++i) {
    Done(container.refs->SetStateAt("/a", absl::StrCat("s-", i), Edn(values[i]), kLong));
  }
  CHECK(Got(container.refs->GetStateAt("/a", "s-99", kLong)) == std::nullopt);
  CHECK(Got(container.refs->GetStateAt("/b", "s-0", kLong)) == std::nullopt);
  Done(container.refs->Destroy("/a", kLong));
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string stamp = absl::StrCat("s-", i);
    const std::optional<Value> value = Got(container.refs->GetStateAt("/a", stamp, kLong));
    REQUIRE(value);
    CHECK(ToEdn(*value) == ToEdn(Edn(values[i])));
    // From every daemon.
    CHECK(Got(Open(world.uri()).refs->GetStateAt("/a", stamp, kLong)) == value);
    Done(container.refs->DeleteStateAt("/a", stamp, kLong));
    CHECK(Got(container.refs->GetStateAt("/a", stamp, kLong)) == std::nullopt);
    Done(container.refs->DeleteStateAt("/a", stamp, kLong));
  }
}

TEST_CASE(
    "mongodb: a stamp is written once: the same value again is OK, another is refused and changes nothing") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  // Equal maps may differ in their order.
  Done(container.refs->SetStateAt("/a", "1", Edn("{:a 1 :b 2}"), kLong));
  Done(container.refs->SetStateAt("/a", "1", Edn("{:b 2 :a 1}"), kLong));
  const absl::Status other = container.refs->SetStateAt("/a", "1", Edn("{:a 2}"), kLong);
  CHECK(other.code() == absl::StatusCode::kAlreadyExists);
  CHECK(Has(other.message(), "another value is there under this stamp, and stays: a stamp is written once"));
  CHECK(Got(container.refs->GetStateAt("/a", "1", kLong)) == Edn("{:a 1 :b 2}"));
}

TEST_CASE("mongodb: the same stamp written by many at once is written once, and all are told so") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  const Value value = Edn("{:n [1 2 3]}");
  std::atomic<int> done = 0, refused = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int stamp = 0; stamp < 20; ++stamp) {
        done += container.refs->SetStateAt("/a", absl::StrCat(stamp), value, kLong).ok();
        // One of these is the first.
        refused += container.refs->SetStateAt("/b", absl::StrCat(stamp), Value::Integer(i), kLong).code() ==
                   absl::StatusCode::kAlreadyExists;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(done == 8 * 20);
  CHECK(refused == 7 * 20);
  CHECK(Shell(world.uri()).Find("refs").size() == 40);
}

TEST_CASE("mongodb: of writes that many send at once each is told of its own: large, refused, and deletes") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  constexpr int kCallers = 16, kStamps = 10;
  for (int stamp = 0; stamp < kStamps; ++stamp) {
    Done(container.refs->SetStateAt("/taken", absl::StrCat(stamp), Value::String("first"), kLong));
  }
  std::atomic<int> written = 0, refused = 0, deleted = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&, i] {
      const std::string name = absl::StrCat("/own/", i);
      const Value value = Value::String(std::string(i == 0 ? 2'000'000 : 100, static_cast<char>('a' + i)));
      for (int n = 0; n < kStamps; ++n) {
        const std::string stamp = absl::StrCat(n);
        written += container.refs->SetStateAt(name, stamp, value, kLong).ok();
        refused += absl::IsAlreadyExists(container.refs->SetStateAt("/taken", stamp, value, kLong));
        if (n % 2 == 0) deleted += container.refs->DeleteStateAt(name, stamp, kLong).ok();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(written == kCallers * kStamps);
  CHECK(refused == kCallers * kStamps);
  CHECK(deleted == kCallers * kStamps / 2);
  int wrong = 0;
  for (int i = 0; i < kCallers; ++i) {
    for (int n = 0; n < kStamps; ++n) {
      const std::optional<Value> value =
          Got(container.refs->GetStateAt(absl::StrCat("/own/", i), absl::StrCat(n), kLong));
      wrong += n % 2 == 0 ? value.has_value() : !value || value->text()[0] != static_cast<char>('a' + i);
    }
  }
  CHECK(wrong == 0);
  CHECK(Shell(world.uri()).Find("refs", R"({"name": "/taken", "value": "first"})").size() == kStamps);
}

TEST_CASE("mongodb: an atom's copy is of the newest version, whatever comes late") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  const std::unique_ptr<containers::StateContainer>& atoms = container.atoms;
  Done(atoms->Init("/a", kLong));
  CHECK(Got(atoms->GetState("/a", kLong)) == std::nullopt);
  Done(atoms->SetState("/a", Edn("[1]"), 10, kLong));
  Done(atoms->SetState("/a", Edn("[2]"), 12, kLong));
  Done(atoms->SetState("/a", Edn("[1]"), 11, kLong));
  Done(atoms->SetState("/a", Edn("[2]"), 12, kLong));
  CHECK(Got(atoms->GetState("/a", kLong)) == Edn("[2]"));
  Done(atoms->Destroy("/a", 12, kLong));
  CHECK(Got(atoms->GetState("/a", kLong)) == Edn("[2]"));
  Done(atoms->Destroy("/a", 13, kLong));
  CHECK(Got(atoms->GetState("/a", kLong)) == std::nullopt);
  Done(atoms->Destroy("/a", 13, kLong));
  Done(atoms->SetState("/a", Edn("nil"), 14, kLong));
  CHECK(Got(atoms->GetState("/a", kLong)) == Value());
}

TEST_CASE("mongodb: of versions of an atom that one daemon writes at once the newest stays") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  constexpr int kCallers = 8, kVersions = 20;
  std::atomic<int> written = 0, older = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&, i] {
      for (int64_t version = i; version < kCallers * kVersions; version += kCallers) {
        written += container.atoms->SetState("/a", Value::Integer(version), version, kLong).ok();
        const absl::StatusOr<std::optional<Value>> value = container.atoms->GetState("/a", kLong);
        older += !value.ok() || !*value || (*value)->integer() < version;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(written == kCallers * kVersions);
  CHECK(older == 0);
  CHECK(Got(container.atoms->GetState("/a", kLong)) == Value::Integer(kCallers * kVersions - 1));
}

TEST_CASE("mongodb: a plain client of MongoDB reads what is stored as people expect it") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  Done(container.refs->SetStateAt("/accounts/7", "0001-2f",
                                  Edn("{:owner \"Ada\" :balance 100 :rate 0.5 :open true :closed nil "
                                      ":since #inst \"2026-11-22T03:00:00Z\" :tags [\"a\" \"b\"] "
                                      ":address {:city \"London\"}}"),
                                  kLong));
  Done(container.refs->SetStateAt("/accounts/7", "0002-2f", Edn("{:status :closed}"), kLong));
  Done(container.refs->SetStateAt("/visits", "0003-2f", Edn("42"), kLong));
  Done(container.atoms->SetState("/config", Edn("{:port 80}"), 12, kLong));
  Shell shell(world.uri());
  CHECK(
      shell.Find("refs") ==
      std::vector<std::string>{
          R"({ "_id" : "/accounts/7@0001-2f", "name" : "/accounts/7", "stamp" : "0001-2f", "value" : { "owner" : "Ada", )"
          R"("balance" : 100, "rate" : 0.5, "open" : true, "closed" : null, "since" : { "$date" : "2026-11-22T03:00:00Z" }, )"
          R"("tags" : [ "a", "b" ], "address" : { "city" : "London" } } })",
          R"({ "_id" : "/accounts/7@0002-2f", "name" : "/accounts/7", "stamp" : "0002-2f", )"
          R"("value" : { "status" : { "#edn" : ":closed" } } })",
          R"({ "_id" : "/visits@0003-2f", "name" : "/visits", "stamp" : "0003-2f", "value" : 42 })"});
  CHECK(shell.Find("atoms") ==
        std::vector<std::string>{R"({ "_id" : "/config", "version" : 12, "value" : { "port" : 80 } })"});
  // And finds it.
  CHECK(shell.Find("refs", R"({"value.address.city": "London"})").size() == 1);
  CHECK(shell.Find("refs", R"({"value.balance": {"$gt": 99}})").size() == 1);
  CHECK(shell.Find("refs", R"({"value.status.#edn": ":closed"})").size() == 1);
  CHECK(shell.Find("refs", R"({"name": "/accounts/7"})").size() == 2);
}

TEST_CASE(
    "mongodb: an atom's first value may be one that a person wrote, and a newer version takes its place") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  Shell shell(world.uri());
  shell.Insert("atoms", R"({"_id": "/config", "value": {"port": 80, "hosts": ["a", "b"]}})");
  CHECK(Got(container.atoms->GetState("/config", kLong)) == Edn("{:port 80 :hosts [\"a\" \"b\"]}"));
  Done(container.atoms->SetState("/config", Edn("{:port 81}"), 3, kLong));
  CHECK(shell.Find("atoms") ==
        std::vector<std::string>{R"({ "_id" : "/config", "version" : 3, "value" : { "port" : 81 } })"});
  // Versions that a shell wrote as it writes numbers, and one that is none.
  shell.Set("atoms", "/config", R"({"version": 20.0})");
  Done(container.atoms->SetState("/config", Edn("{:port 82}"), 19, kLong));
  CHECK(Got(container.atoms->GetState("/config", kLong)) == Edn("{:port 81}"));
  shell.Set("atoms", "/config", R"({"version": "old"})");
  Done(container.atoms->SetState("/config", Edn("{:port 83}"), 20, kLong));
  CHECK(Got(container.atoms->GetState("/config", kLong)) == Edn("{:port 83}"));
  shell.Set("atoms", "/config", R"({"value": {"first name": 1}})");
  const absl::StatusOr<std::optional<Value>> bad = container.atoms->GetState("/config", kLong);
  CHECK(bad.status().code() == absl::StatusCode::kDataLoss);
  CHECK(Has(bad.status().message(), "the key \"first name\" names no keyword"));
}

TEST_CASE(
    "mongodb: values as large as MongoDB takes go in and come out, larger ones are refused by the bound's "
    "name") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  const Value large = Value::String(std::string(kDocumentBytesMax - 1000, 'x'));
  Done(container.refs->SetStateAt("/a", "1", large, kLong));
  CHECK(Got(container.refs->GetStateAt("/a", "1", kLong)) == large);
  const absl::Status status =
      container.refs->SetStateAt("/a", "2", Value::String(std::string(kDocumentBytesMax, 'x')), kLong);
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(Has(status.message(), "limit mongodb_document_bytes_max=16777216: /a has "));
}

TEST_CASE("mongodb: a deep value goes in and comes out") {
  if (!HasServer()) return;
  World world;
  const Container container = Open(world.uri());
  int stamp = 0;
  for (int depth : {kStructureDepthMax, kStructureDepthMax + 1, kValueDepthMax}) {
    for (const auto& [before, after] : std::vector<std::pair<std::string, std::string>>{
             {"[", "]"}, {"{:a ", "}"}, {"{[1] ", "}"}, {"#{", "}"}}) {
      std::string edn = "1";
      for (int i = before == "{[1] " ? 2 : 1; i < depth; ++i) edn = before + edn + after;
      const std::string key = absl::StrCat(++stamp);
      Done(container.refs->SetStateAt("/deep", key, Edn(edn), kLong));
      const std::optional<Value> value = Got(container.refs->GetStateAt("/deep", key, kLong));
      REQUIRE(value);
      CHECK(ToEdn(*value) == edn);
    }
  }
}

TEST_CASE(
    "mongodb: what was acknowledged outlives kill -9 of the server, and writes with time to spare outlast "
    "its absence") {
  if (!HasOwnServer()) return;
  World world;
  const Container container = Open(world.uri());
  constexpr int kWriters = 4, kKills = 3;
  std::atomic<bool> stop = false;
  std::atomic<int> written = 0;
  std::vector<std::vector<std::string>> acknowledged(kWriters);
  std::vector<std::thread> writers;
  std::vector<absl::Status> failed(kWriters);
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; !stop; ++i) {
        const std::string stamp = absl::StrCat(w, "-", i);
        const absl::Status status = container.refs->SetStateAt("/a", stamp, Value::String(stamp), kLong);
        if (!status.ok()) {
          failed[w] = status;
          return;
        }
        acknowledged[w].push_back(stamp);
        ++written;
      }
    });
  }
  for (int kill = 0; kill < kKills; ++kill) {
    const int before = written;
    CHECK(e2e::Eventually([&] { return written > before + 50; }));
    world.server().Kill();
    world.server().Start();
  }
  const int after = written;
  CHECK(e2e::Eventually([&] { return written > after; }));
  stop = true;
  for (std::thread& writer : writers) writer.join();
  world.server().Kill();
  world.server().Start();
  int lost = 0;
  for (int w = 0; w < kWriters; ++w) {
    INFO(failed[w]);
    CHECK(failed[w].ok());
    for (const std::string& stamp : acknowledged[w]) {
      lost += Got(container.refs->GetStateAt("/a", stamp, kLong)) != Value::String(stamp);
    }
  }
  CHECK(lost == 0);
  std::printf("acknowledged %d, lost %d, over %d kills\n", written.load(), lost, kKills + 1);
}

// What each call says of a server that does not do what it should.
void CheckAll(const Container& container, absl::Duration within, absl::StatusCode code,
              const std::string& why) {
  const std::vector<std::pair<std::string, absl::Status>> said = {
      {"write /a@9", container.refs->SetStateAt("/a", "9", Value::Integer(1), within)},
      {"read /a@9", container.refs->GetStateAt("/a", "9", within).status()},
      {"delete /a@9", container.refs->DeleteStateAt("/a", "9", within)},
      {"write /b", container.atoms->SetState("/b", Value::Integer(1), 5, within)},
      {"read /b", container.atoms->GetState("/b", within).status()},
      {"delete /b", container.atoms->Destroy("/b", 6, within)},
  };
  for (const auto& [what, status] : said) {
    INFO(what << ": " << status);
    CHECK(status.code() == code);
    CHECK(Has(status.message(), absl::StrCat("mongodb: ", what, " in stmd_test.")));
    CHECK(Has(status.message(), why));
    CHECK_FALSE(absl::StrContains(status.message(), "s3cret"));
  }
  std::printf("%s\n", said.front().second.ToString().c_str());
}

TEST_CASE("mongodb: a server that is down is UNAVAILABLE in time, and serves again when it is up") {
  if (!HasOwnServer()) return;
  World world;
  const Container container = Open(world.uri());
  Done(container.refs->SetStateAt("/a", "1", Value::Integer(1), kLong));
  world.server().Kill();
  const auto began = std::chrono::steady_clock::now();
  CheckAll(container, kShort, absl::StatusCode::kUnavailable, "");
  const std::string why = ": is MongoDB up, and does the container's URI name its servers?";
  CheckAll(container, kShort, absl::StatusCode::kUnavailable, why);
  CheckAll(Open(world.uri()), kShort, absl::StatusCode::kUnavailable, why);
  CHECK(std::chrono::steady_clock::now() - began < kInTime);
  world.server().Start();
  CHECK(Got(container.refs->GetStateAt("/a", "1", kLong)) == Value::Integer(1));
}

TEST_CASE(
    "mongodb: a server that stands still is UNAVAILABLE in time, for as many as call, and serves when it "
    "goes on") {
  if (!HasOwnServer()) return;
  World world;
  const Container container = Open(world.uri() + "?maxPoolSize=3");
  Done(container.refs->SetStateAt("/a", "1", Value::Integer(1), kLong));
  world.server().Freeze();
  const auto began = std::chrono::steady_clock::now();
  CheckAll(container, kShort, absl::StatusCode::kUnavailable, "");
  // More at once than there are connections, and connections that are new.
  std::atomic<int> unavailable = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      unavailable +=
          container.refs->GetStateAt("/a", "1", kShort).status().code() == absl::StatusCode::kUnavailable;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(unavailable == 8);
  {
    const Container another = Open(world.uri());
    CheckAll(another, kShort, absl::StatusCode::kUnavailable, "");
  }
  CHECK(std::chrono::steady_clock::now() - began < kInTime);
  world.server().Thaw();
  CHECK(Got(container.refs->GetStateAt("/a", "1", kLong)) == Value::Integer(1));
}

TEST_CASE("mongodb: a server whose disk is full is RESOURCE_EXHAUSTED, and what is there is read") {
  if (!HasOwnServer()) return;
  const e2e::Directory directory;
  if (mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=4m") != 0) {
    std::printf("SKIPPED mongodb: a full disk: this machine does not allow mounts\n");
    return;
  }
  const absl::Cleanup unmount = [&] { umount2(directory.path().c_str(), MNT_DETACH); };
  ServerOptions options;
  options.data_directory = directory / "data";
  Server server(options);
  const Container container = Open(server.uri("stmd_test"));
  Done(container.refs->SetStateAt("/a", "first", Value::Integer(1), kLong));
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) {
    status =
        container.refs->SetStateAt("/a", absl::StrCat(i), Value::String(std::string(100'000, 'x')), kLong);
  }
  std::printf("%s\n", status.ToString().c_str());
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(Has(status.message(), "in stmd_test.refs at 127.0.0.1:"));
  CHECK(Has(status.message(), "MongoDB is full: "));
  CHECK(Has(status.message(), ": give it room; what is there stays readable"));
  CHECK(Got(container.refs->GetStateAt("/a", "first", kLong)) == Value::Integer(1));
}

TEST_CASE("mongodb: a user whom the server does not know is PERMISSION_DENIED, without the password") {
  if (!HasOwnServer()) return;
  World world;
  std::string uri = world.uri();
  uri.insert(uri.find("://") + 3, "bob:s3cret@");
  CheckAll(Open(uri), kLong, absl::StatusCode::kPermissionDenied, "MongoDB refuses the daemon's user: ");
}

TEST_CASE("mongodb: a URI may ask for TLS, and a server that is another is not believed") {
  if (!HasOwnServer()) return;
  const e2e::Directory directory;
  const auto make = [&](const std::string& name) {
    e2e::Process openssl({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                          "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                          "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", directory / (name + ".key"),
                          "-out", directory / (name + ".crt")});
    const std::optional<int> exit = openssl.AwaitExit();
    INFO(openssl.said());
    REQUIRE(exit == 0);
  };
  make("server");
  make("another");
  ServerOptions options;
  options.certificate = directory / "server.crt";
  options.key = directory / "server.key";
  Server server(options);
  const auto with = [&](const std::string& authority) {
    return absl::StrCat(server.uri("stmd_test"), "?tls=true&tlsCAFile=", directory / authority);
  };
  const Container container = Open(with("server.crt"));
  Done(container.refs->SetStateAt("/a", "1", Value::Integer(1), kLong));
  CHECK(Got(container.refs->GetStateAt("/a", "1", kLong)) == Value::Integer(1));
  CheckAll(Open(with("another.crt")), kShort, absl::StatusCode::kUnavailable, "no primary can be reached: ");
  CheckAll(Open(server.uri("stmd_test")), kShort, absl::StatusCode::kUnavailable, "");
  server.Freeze();
  const auto began = std::chrono::steady_clock::now();
  CheckAll(container, kShort, absl::StatusCode::kUnavailable, "");
  CHECK(std::chrono::steady_clock::now() - began < kInTime);
  server.Thaw();
}

}  // namespace
}  // namespace stm::mongodb
