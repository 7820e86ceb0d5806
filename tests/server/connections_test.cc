// Connections that we accept and gRPC serves, and what corking does to them.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/create_channel.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "catch2/catch.hpp"
#include "server/connections.h"
#include "server/corks.h"
#include "stm/v1/ref_service.grpc.pb.h"

namespace stm::server {
namespace {

using Catch::Matchers::Contains;

constexpr absl::Duration kDeadline = absl::Seconds(60);
constexpr int kDeadlineMs = 60'000;
constexpr int kUnacknowledgedMs = 20'000;

// Keeps what it is handed, as gRPC would.
class Kept final : public grpc::experimental::ExternalConnectionAcceptor {
 public:
  ~Kept() override {
    for (const int descriptor : descriptors_) close(descriptor);
  }
  void HandleNewConnection(NewConnectionParameters* parameters) override {
    absl::MutexLock lock(&mutex_);
    descriptors_.push_back(parameters->fd);
  }
  int AwaitDescriptor(size_t index) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&] { return descriptors_.size() > index; };
    REQUIRE(mutex_.AwaitWithTimeout(absl::Condition(&there), kDeadline));
    return descriptors_[index];
  }

 private:
  absl::Mutex mutex_;
  std::vector<int> descriptors_;
};

// A client's end, connected to 127.0.0.1 or ::1.
class Client {
 public:
  Client(int family, int port) : socket_(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    REQUIRE(socket_ >= 0);
    sockaddr_storage address{};
    socklen_t length;
    if (family == AF_INET) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(address);
      v4.sin_family = AF_INET;
      v4.sin_port = htons(static_cast<uint16_t>(port));
      v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      length = sizeof(v4);
    } else {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(static_cast<uint16_t>(port));
      v6.sin6_addr = in6addr_loopback;
      length = sizeof(v6);
    }
    REQUIRE(connect(socket_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    length = sizeof(address);
    REQUIRE(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    port_ = ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
  }
  ~Client() { close(socket_); }

  int port() const { return port_; }
  // The next `bytes`, once they are there.
  std::string Read(size_t bytes) {
    std::string all(bytes, '\0');
    REQUIRE(recv(socket_, all.data(), bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes));
    return all;
  }
  bool HasMore() {
    pollfd one{socket_, POLLIN, 0};
    return poll(&one, 1, 0) == 1;
  }

 private:
  int socket_;
  int port_ = 0;
};

int PortOf(const std::string& address) { return std::stoi(address.substr(address.rfind(':') + 1)); }

void AwaitGone(const Connections& connections, const std::string& peer) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kDeadlineMs);
  while (connections.Find(peer) != nullptr) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    usleep(1000);
  }
}

TEST_CASE("connections: what connects is handed on once and found by its peer until it ends") {
  Connections connections;
  auto made = std::make_unique<Kept>();
  Kept* kept = made.get();
  const absl::StatusOr<std::string> address = connections.Listen("127.0.0.1:0");
  REQUIRE(address.ok());
  connections.Start(std::move(made), kUnacknowledgedMs);
  std::string peer;
  {
    Client client(AF_INET, PortOf(*address));
    peer = absl::StrCat("ipv4:127.0.0.1:", client.port());
    kept->AwaitDescriptor(0);
    REQUIRE(connections.Find(peer) != nullptr);
    REQUIRE(connections.Find("ipv4:127.0.0.1:1") == nullptr);
    Client second(AF_INET, PortOf(*address));
    kept->AwaitDescriptor(1);
    REQUIRE(connections.Find(peer) != nullptr);
  }
  AwaitGone(connections, peer);
}

TEST_CASE("connections: an address that is taken, strange or nobody's is refused by its name") {
  Connections first, second;
  const absl::StatusOr<std::string> address = first.Listen("127.0.0.1:0");
  REQUIRE(address.ok());
  const absl::StatusOr<std::string> taken = second.Listen(*address);
  REQUIRE(taken.status().code() == absl::StatusCode::kUnavailable);
  CHECK_THAT(std::string(taken.status().message()), Contains(*address) && Contains("another daemon"));
  CHECK(second.Listen("127.0.0.1").status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(second.Listen("127.0.0.1:70000").status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(second.Listen("192.0.2.1:0").status().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("corks: the first answer leaves at once, those after it when the corks are drawn") {
  Connections connections;
  auto made = std::make_unique<Kept>();
  Kept* kept = made.get();
  const absl::StatusOr<std::string> address = connections.Listen("127.0.0.1:0");
  REQUIRE(address.ok());
  connections.Start(std::move(made), kUnacknowledgedMs);
  Client client(AF_INET, PortOf(*address));
  const int answering = kept->AwaitDescriptor(0);
  const std::shared_ptr<Connection> connection = connections.Find(absl::StrCat("ipv4:127.0.0.1:", client.port()));
  REQUIRE(connection != nullptr);
  const auto answer = [&](const char* text) {
    Corks::Answering(connection);
    REQUIRE(send(answering, text, std::strlen(text), 0) == static_cast<ssize_t>(std::strlen(text)));
  };
  {
    Corks corks;
    answer("one");
    REQUIRE(client.Read(3) == "one");
    answer("two");
    answer("three");
    // Loopback delivers within send: what is not there now was held back. (The kernel draws a cork after 200 ms.)
    CHECK_FALSE(client.HasMore());
  }
  REQUIRE(client.Read(8) == "twothree");
  // Without corks, and beyond the bound within them, nothing is held back.
  answer("four");
  answer("five");
  REQUIRE(client.Read(8) == "fourfive");
  Corks corks;
  std::string many(Corks::kAnswersHeldMax, 'x');
  for (int i = 0; i <= Corks::kAnswersHeldMax; ++i) answer("x");
  REQUIRE(client.Read(many.size()) == many);
}

// Answers nothing, but looks up who asks.
class Asked final : public v1::RefService::CallbackService {
 public:
  explicit Asked(Connections* connections) : connections_(connections) {}
  grpc::ServerUnaryReactor* GetRefs(grpc::CallbackServerContext* context, const v1::GetRefsRequest* /*request*/,
                                    v1::GetRefsResponse* /*response*/) override {
    {
      absl::MutexLock lock(&mutex_);
      peers_.push_back(context->peer());
      found_.push_back(connections_->Find(context->peer()) != nullptr);
    }
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "asked"));
    return reactor;
  }
  std::vector<std::string> peers() {
    absl::MutexLock lock(&mutex_);
    return peers_;
  }
  std::vector<bool> found() {
    absl::MutexLock lock(&mutex_);
    return found_;
  }

 private:
  Connections* const connections_;
  absl::Mutex mutex_;
  std::vector<std::string> peers_;
  std::vector<bool> found_;
};

TEST_CASE("connections: gRPC serves them, and spells their peers as Find does") {
  // Of both families, and of IPv4 by a socket of IPv6.
  Connections connections;
  const absl::StatusOr<std::string> v4 = connections.Listen("127.0.0.1:0");
  const absl::StatusOr<std::string> any = connections.Listen("[::]:0");
  REQUIRE(v4.ok());
  Asked asked(&connections);
  grpc::ServerBuilder builder;
  builder.RegisterService(&asked);
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, grpc::InsecureServerCredentials());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  REQUIRE(server != nullptr);
  connections.Start(std::move(acceptor), kUnacknowledgedMs);

  std::vector<std::string> targets = {*v4};
  // A machine may have no IPv6.
  if (any.ok()) {
    targets.push_back(absl::StrCat("127.0.0.1:", PortOf(*any)));
    targets.push_back(absl::StrCat("[::1]:", PortOf(*any)));
  }
  for (const std::string& target : targets) {
    const auto stub = v1::RefService::NewStub(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(kDeadlineMs));
    v1::GetRefsResponse response;
    const grpc::Status status = stub->GetRefs(&context, v1::GetRefsRequest(), &response);
    INFO(target << ": " << status.error_message());
    REQUIRE(status.error_message() == "asked");
  }
  INFO(Catch::StringMaker<std::vector<std::string>>::convert(asked.peers()));
  REQUIRE(asked.found() == std::vector<bool>(targets.size(), true));
  connections.Stop();
  server->Shutdown(std::chrono::system_clock::now());
}

}  // namespace
}  // namespace stm::server
