// Containers that are asked by gRPC, through the engine's interface: down, slow, full, forbidding and lying
// ones.
#include "backends/containers/remote.h"

#include <grpcpp/grpcpp.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/containers/serve.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "stm/v1/container_service.grpc.pb.h"
#include "tests/backends/containers/asker.h"
#include "tests/backends/containers/memory_container.h"
#include "tests/backends/containers/own_directory.h"

namespace stm::containers {
namespace {

std::unique_ptr<ContainerServer> Serve(Container container, const std::string& address = "127.0.0.1:0",
                                       const ServeOptions& options = {}) {
  auto server = ContainerServer::Start(std::move(container), address, options);
  INFO(server.status());
  REQUIRE(server.ok());
  return *std::move(server);
}

Container Remote(int port, const std::string& scheme = "grpc", const std::string& settings = "") {
  auto container = MakeRemote(absl::StrCat(scheme, "://127.0.0.1:", port, settings));
  INFO(container.status());
  REQUIRE(container.ok());
  return *std::move(container);
}

TEST_CASE("remote: a container that is down is UNAVAILABLE at once, and is asked again when it has come up") {
  auto server = Serve(MemoryContainer());
  const int port = server->port();
  Asker asker;
  REQUIRE(asker.Add("remote:orders", Remote(port)).ok());
  CHECK(asker.Set("remote:orders", "/a", "s1", Value::Integer(1))->status().ok());
  server = nullptr;
  // The connection's end may be heard of by the call itself.
  asker.Set("remote:orders", "/a", "s2", Value())->status().IgnoreError();
  const absl::Status status = asker.Set("remote:orders", "/a", "s2", Value())->status();
  INFO(status);
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(DetailOf(status).reason() == v1::ERROR_REASON_CONTAINER_DOWN);
  CHECK(absl::StartsWith(
      MessageOf(status),
      absl::StrCat("container remote:orders can't be reached: SetStateAt /a: 127.0.0.1:", port, ": ")));
  CHECK(absl::EndsWith(MessageOf(status),
                       ": see that it runs and can be reached (stmctl containers), and ask again"));

  server = Serve(MemoryContainer(), absl::StrCat("127.0.0.1:", port));
  const absl::Time until = absl::Now() + kPatience;
  while (!asker.Set("remote:orders", "/a", "s3", Value())->status().ok()) {
    REQUIRE(absl::Now() < until);
    absl::SleepFor(absl::Milliseconds(10));
  }
}

TEST_CASE("remote: a container that is slow is UNAVAILABLE when its time is over, and delays no other") {
  const auto script = std::make_shared<Script>();
  const auto slow = Serve(Scripted(script)), quick = Serve(MemoryContainer());
  Asker asker;
  REQUIRE(asker.Add("remote:slow", Remote(slow->port())).ok());
  REQUIRE(asker.Add("remote:quick", Remote(quick->port())).ok());
  script->Hold("GetStateAt /a");
  // Whoever lets it hang first: the Loop's clock stands still here, so that gRPC is the one.
  const absl::Status status = asker.Get("remote:slow", "/a", "s1", absl::Milliseconds(300))->status();
  CHECK(MessageOf(status) ==
        absl::StrCat("container remote:slow can't be reached: GetStateAt /a: 127.0.0.1:", slow->port(),
                     " did not answer within 300ms: see that it runs and can be reached (stmctl containers), "
                     "and ask again"));
  CHECK(DetailOf(status).reason() == v1::ERROR_REASON_CONTAINER_DOWN);
  std::vector<Asker::Call> hanging;
  for (int i = 0; i < 80; ++i) hanging.push_back(asker.Get("remote:slow", "/a", absl::StrCat("t", i)));
  asker.Await("remote:slow", [](const ContainerStats& stats) { return stats.calls_under_way == 64; });
  for (int i = 0; i < 50; ++i) {
    CHECK(asker.Set("remote:quick", "/a", absl::StrCat("s", i), Value::Integer(i))->status().ok());
  }
  // And at the Loop's deadline though the server would have an hour.
  asker.loop.Advance(kLong);
  for (const auto& call : hanging) CHECK(call->status().code() == absl::StatusCode::kUnavailable);
  script->Open();
}

struct Said {
  absl::Status said;
  absl::StatusCode code;
  v1::ErrorReason reason;
  const char* begins;
  const char* ends;
};

TEST_CASE("remote: a container that is full, forbids or fails says so to the caller") {
  const Said row = GENERATE(values<Said>({
      {absl::ResourceExhaustedError("the disk is full"), absl::StatusCode::kResourceExhausted,
       v1::ERROR_REASON_NO_SPACE, "container remote:orders has no room: SetStateAt /a: 127.0.0.1:",
       ": the disk is full: make room there, or keep the entry elsewhere"},
      {absl::PermissionDeniedError("read only"), absl::StatusCode::kPermissionDenied, v1::ERROR_REASON_DENIED,
       "container remote:orders does not let the daemon: SetStateAt /a: 127.0.0.1:",
       ": read only: give the daemon's account there the right to it"},
      {absl::UnauthenticatedError("who are you?"), absl::StatusCode::kPermissionDenied,
       v1::ERROR_REASON_DENIED, "container remote:orders does not let the daemon: SetStateAt /a: 127.0.0.1:",
       ": who are you?: give the daemon's account there the right to it"},
      {absl::UnavailableError("starting"), absl::StatusCode::kUnavailable, v1::ERROR_REASON_CONTAINER_DOWN,
       "container remote:orders can't be reached: SetStateAt /a: 127.0.0.1:",
       ": starting: see that it runs and can be reached (stmctl containers), and ask again"},
      // A Python servicer that raised.
      {absl::UnknownError("Exception calling application: 'NoneType'"), absl::StatusCode::kUnknown,
       v1::ERROR_REASON_UNSPECIFIED, "container remote:orders failed: SetStateAt /a: 127.0.0.1:",
       ": Exception calling application: 'NoneType'"},
  }));
  const auto script = std::make_shared<Script>();
  const auto server = Serve(Scripted(script));
  Asker asker;
  REQUIRE(asker.Add("remote:orders", Remote(server->port())).ok());
  script->Say(row.said);
  const absl::Status status = asker.Set("remote:orders", "/a", "s1", Value())->status();
  INFO(status);
  CHECK(status.code() == row.code);
  CHECK(DetailOf(status).reason() == row.reason);
  CHECK(absl::StartsWith(MessageOf(status), row.begins));
  CHECK(absl::EndsWith(MessageOf(status), row.ends));
}

// Answers what no container of C++ can.
class Lies final : public v1::ContainerService::Service {
 public:
  grpc::Status GetStateAt(grpc::ServerContext*, const v1::GetStateAtRequest* request,
                          v1::GetStateAtResponse* response) override {
    if (request->stamp() == "unset") response->mutable_value();
    if (request->stamp() == "keyword") response->mutable_value()->set_keyword("a b");
    if (request->stamp() == "other") response->mutable_value()->set_integer(42);
    return grpc::Status::OK;
  }
};

TEST_CASE("remote: a container that answers with what is no value has lost it, and its caller is told") {
  Lies lies;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&lies);
  const auto server = builder.BuildAndStart();
  REQUIRE(server != nullptr);
  Asker asker;
  REQUIRE(asker.Add("remote:lies", Remote(port)).ok());
  for (const char* stamp : {"unset", "keyword"}) {
    const absl::Status status = asker.Get("remote:lies", "/a", stamp)->status();
    INFO(status);
    CHECK(status.code() == absl::StatusCode::kDataLoss);
    CHECK(DetailOf(status).reason() == v1::ERROR_REASON_VALUE_LOST);
    CHECK(absl::StartsWith(
        MessageOf(status),
        absl::StrCat("container remote:lies can't read what it keeps: GetStateAt /a: 127.0.0.1:", port,
                     " answered with what is no value: value")));
  }
  // One that is a value: whoever knows the hash of what was set finds that out.
  CHECK(*asker.Get("remote:lies", "/a", "other")->Wait() == Value::Integer(42));
  CHECK(*asker.Get("remote:lies", "/a", "absent")->Wait() == std::nullopt);
}

TEST_CASE("remote: a server without one of the services keeps none of that kind, and says so") {
  Container only_refs = MemoryContainer(), only_atoms = MemoryContainer();
  only_refs.atoms = nullptr;
  only_atoms.refs = nullptr;
  const auto refs = Serve(std::move(only_refs)), atoms = Serve(std::move(only_atoms));
  Asker asker;
  REQUIRE(asker.Add("remote:refs", Remote(refs->port())).ok());
  REQUIRE(asker.Add("remote:atoms", Remote(atoms->port())).ok());
  CHECK(asker.Init("remote:refs", "/a")->status().ok());
  CHECK(asker.InitAtom("remote:atoms", "/a")->status().ok());
  const absl::Status no_atoms = asker.InitAtom("remote:refs", "/a")->status();
  CHECK(no_atoms.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StartsWith(
      MessageOf(no_atoms),
      absl::StrCat("container remote:refs failed: Init /a: 127.0.0.1:", refs->port(),
                   " serves no stm.v1.AtomContainerService, so it keeps no atoms: serve it there, or keep "
                   "the atom elsewhere")));
  const absl::Status no_refs = asker.Init("remote:atoms", "/a")->status();
  CHECK(no_refs.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(MessageOf(no_refs), " serves no stm.v1.ContainerService, so it keeps no refs"));
}

TEST_CASE("remote: a value of many megabytes goes through, one past the limit of messages is refused") {
  const auto server = Serve(MemoryContainer());
  const Container container = Remote(server->port());
  const Value large = Value::Bytes(std::string(20 << 20, 'x'));
  CHECK(container.refs->SetStateAt("/a", "s1", large, kPatience).ok());
  const auto got = container.refs->GetStateAt("/a", "s1", kPatience);
  REQUIRE(got.ok());
  CHECK((*got == large));
  FactoryOptions options;
  options.message_bytes_max = 1 << 20;
  const auto small = MakeRemote(absl::StrCat("grpc://127.0.0.1:", server->port()), options);
  REQUIRE(small.ok());
  CHECK(small->refs->SetStateAt("/a", "s2", large, kPatience).code() == absl::StatusCode::kResourceExhausted);
  CHECK(small->refs->GetStateAt("/a", "s1", kPatience).status().code() ==
        absl::StatusCode::kResourceExhausted);
}

TEST_CASE("remote: a value that not every server can parse is refused before it is sent") {
  const auto server = Serve(MemoryContainer());
  const Container container = Remote(server->port());
  Value deep = Value::Integer(1);
  for (int i = 1; i < 40; ++i) deep = Value::OfMap(Map({{Value::Keyword("in"), deep}}));
  const absl::Status status = container.refs->SetStateAt("/a", "s1", deep, kPatience);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(absl::StrContains(MessageOf(status), "value_wire_nesting_max=90"));
  CHECK(container.atoms->SetState("/a", deep, 1, kPatience).code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("remote: by grpcs the server's certificate must be one that is trusted") {
  const OwnDirectory directory;
  const std::string key = directory.path() + "/key.pem", certificate = directory.path() + "/certificate.pem";
  REQUIRE(std::system(
              absl::StrCat("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "
                           "subjectAltName=IP:127.0.0.1 -keyout ",
                           key, " -out ", certificate, " 2>/dev/null")
                  .c_str()) == 0);
  ServeOptions options;
  options.certificate_file = certificate;
  options.key_file = key;
  const auto server = Serve(MemoryContainer(), "127.0.0.1:0", options);
  const Container trusts = Remote(server->port(), "grpcs", "?ca=" + certificate);
  CHECK(trusts.refs->Init("/a", kPatience).ok());
  const Container doubts = Remote(server->port(), "grpcs");
  CHECK(doubts.refs->Init("/a", kPatience).code() == absl::StatusCode::kUnavailable);
  const Container plain = Remote(server->port());
  CHECK(plain.refs->Init("/a", kPatience).code() == absl::StatusCode::kUnavailable);
  CHECK(MakeRemote("grpcs://127.0.0.1:1?ca=" + directory.path() + "/none").status().code() ==
        absl::StatusCode::kInvalidArgument);
  options.key_file = directory.path() + "/none";
  CHECK(ContainerServer::Start(MemoryContainer(), "127.0.0.1:0", options).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("remote: a URI that is no good says what one should be") {
  for (const char* uri : {"grpc://", "grpc://host", "grpc://:7450", "grpc://host:0", "grpc://host:65536",
                          "grpc://host:7450/path", "grpc://me@host:7450", "grpc://host:7450?ca=/file",
                          "grpcs://host:7450?ca=", "grpc://host:7450?connections=17",
                          "grpc://host:7450?connections=x", "grpc://host:7450?what=1"}) {
    INFO(uri);
    const absl::Status status = MakeRemote(uri).status();
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(absl::StartsWith(MessageOf(status), uri));
    CHECK(absl::EndsWith(
        MessageOf(status),
        ": write grpc://HOST:PORT, or grpcs://HOST:PORT for TLS, and behind it ?ca=FILE or ?connections=N"));
  }
  CHECK(MakeRemote("grpc://[::1]:7450?connections=16").ok());
}

TEST_CASE("serve: a port that is taken is UNAVAILABLE, and a call without a value is refused") {
  const auto server = Serve(MemoryContainer());
  CHECK(
      ContainerServer::Start(MemoryContainer(), absl::StrCat("127.0.0.1:", server->port())).status().code() ==
      absl::StatusCode::kUnavailable);
  const auto channel =
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", server->port()), grpc::InsecureChannelCredentials());
  grpc::ClientContext context;
  v1::SetStateAtRequest request;
  request.set_name("/a");
  request.set_stamp("s1");
  v1::SetStateAtResponse response;
  const grpc::Status status =
      v1::ContainerService::NewStub(channel)->SetStateAt(&context, request, &response);
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(status.error_message() == "value: is not set");
}

// How many calls a second go by so many connections. Tells, and asserts nothing of it:
//   bazel run //tests/backends/containers:remote_test -- '[speed]'
TEST_CASE("remote: calls a second by one connection, and by more", "[.][speed]") {
  const auto server = Serve(MemoryContainer());
  for (const size_t bytes : {100, 65'536}) {
    for (const int connections : {1, 2, 4, 8}) {
      for (const int threads : {1, 64}) {
        const Container container =
            Remote(server->port(), "grpc", absl::StrCat("?connections=", connections));
        const Value value = Value::String(std::string(bytes, 'x'));
        std::atomic<int64_t> calls{0};
        std::atomic<bool> over{false};
        std::vector<std::thread> running;
        for (int thread = 0; thread < threads; ++thread) {
          running.emplace_back([&, thread] {
            for (int64_t i = 0; !over; ++i) {
              const std::string stamp = absl::StrCat("s", thread, "-", i);
              const bool set = container.refs->SetStateAt("/a", stamp, value, kPatience).ok();
              const bool deleted = container.refs->DeleteStateAt("/a", stamp, kPatience).ok();
              calls += set + deleted;
            }
          });
        }
        absl::SleepFor(absl::Seconds(2));
        over = true;
        for (std::thread& thread : running) thread.join();
        WARN(bytes << " bytes, " << connections << " connections, " << threads << " threads: " << calls / 2
                   << " calls a second");
      }
    }
  }
}

}  // namespace
}  // namespace stm::containers
