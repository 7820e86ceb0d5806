// Running is the daemon in this process, spoken to over a Unix socket by gRPC. For the test's own thread.
#ifndef STM_TESTS_SERVER_RUNNING_H_
#define STM_TESTS_SERVER_RUNNING_H_

#include <arpa/inet.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "catch2/catch.hpp"
#include "google/rpc/status.pb.h"
#include "server/daemon.h"
#include "stm/v1/admin_service.grpc.pb.h"
#include "stm/v1/atom_service.grpc.pb.h"
#include "stm/v1/lock_service.grpc.pb.h"
#include "stm/v1/log_service.grpc.pb.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/session_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "stm/v1/watch_service.grpc.pb.h"

namespace stm::server {

inline constexpr std::chrono::seconds kDeadline(60);

// A directory that goes with the test.
class Directory {
 public:
  Directory() {
    char name[] = "/tmp/stmd_server_XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::unique_ptr<grpc::ClientContext> Context() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + kDeadline);
  return context;
}

// Until `holds`, or the deadline. Assertions, these too, are the test's own thread's.
inline void Await(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (!holds()) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::yield();
  }
}

inline v1::ErrorDetail DetailOf(const grpc::Status& status) {
  google::rpc::Status message;
  REQUIRE(message.ParseFromString(status.error_details()));
  CHECK(message.code() == status.error_code());
  REQUIRE(message.details_size() == 1);
  v1::ErrorDetail detail;
  REQUIRE(message.details(0).UnpackTo(&detail));
  CHECK(detail.header().store() != 0);
  return detail;
}

class Running {
 public:
  using Change = std::function<void(Config*)>;
  explicit Running(const Change& change = {}) { Start(change); }
  ~Running() { Stop(); }

  void Start(const Change& change = {}) {
    Config config;
    config.ephemeral = true;
    config.http = "127.0.0.1:0";
    config.listen = {"unix:" + directory / "s"};
    if (change) change(&config);
    auto started = Daemon::Start(config, {{"listen", config.listen[0], "flag"}},
                                 [](absl::Status status) { FAIL("the log failed: " << status); });
    INFO(started.status());
    REQUIRE(started.ok());
    daemon = *std::move(started);
    channel = grpc::CreateChannel(daemon->addresses()[0], grpc::InsecureChannelCredentials());
    refs = v1::RefService::NewStub(channel);
    atoms = v1::AtomService::NewStub(channel);
    transactions = v1::TransactionService::NewStub(channel);
    watches = v1::WatchService::NewStub(channel);
    logs = v1::LogService::NewStub(channel);
    admin = v1::AdminService::NewStub(channel);
    sessions = v1::SessionService::NewStub(channel);
    locks = v1::LockService::NewStub(channel);
  }
  void Stop() {
    if (daemon == nullptr) return;
    CHECK(daemon->Stop(absl::Seconds(10)).ok());
    daemon.reset();
  }

  v1::CommitResponse Commit(const v1::CommitRequest& request) {
    v1::CommitResponse response;
    const grpc::Status status = transactions->Commit(Context().get(), request, &response);
    INFO(status.error_message());
    REQUIRE(status.ok());
    return response;
  }
  int64_t Set(const std::string& name, int64_t value) {
    v1::CommitRequest request;
    v1::Write* write = request.add_writes();
    write->set_name(name);
    write->mutable_set()->set_integer(value);
    const v1::CommitResponse response = Commit(request);
    REQUIRE(response.has_committed());
    return response.committed().version();
  }
  int64_t Record(const std::string& edn, const std::string& name = "") {
    v1::CommitRequest request;
    request.add_records()->set_edn(edn);
    if (!name.empty()) {
      request.add_writes()->set_name(name);
      request.mutable_writes(0)->mutable_set()->set_nil(true);
    }
    const v1::CommitResponse response = Commit(request);
    REQUIRE(response.has_committed());
    return response.committed().version();
  }
  v1::GetRefsResponse Get(const std::string& name) {
    v1::GetRefsRequest request;
    request.add_names(name);
    v1::GetRefsResponse response;
    const grpc::Status status = refs->GetRefs(Context().get(), request, &response);
    INFO(status.error_message());
    REQUIRE(status.ok());
    return response;
  }
  v1::Header Header() { return Get("/any").header(); }
  v1::CommitId NewId() {
    static std::atomic<int> next{0};
    v1::CommitId id;
    char uuid[37];
    std::snprintf(uuid, sizeof(uuid), "01234567-89ab-cdef-0123-%012d", next.fetch_add(1));
    id.set_transaction_id(uuid);
    const v1::Header header = Header();
    id.set_writer(header.writer());
    id.mutable_seen()->set_version(header.installed_version());
    id.mutable_seen()->set_store(header.store());
    return id;
  }
  std::string Http(const std::string& path) {
    const std::string& address = daemon->http_address();
    int port = 0;
    REQUIRE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    const int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(connect(descriptor, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0);
    const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    REQUIRE(write(descriptor, request.data(), request.size()) == static_cast<ssize_t>(request.size()));
    std::string answer;
    char buffer[4096];
    for (ssize_t got; (got = read(descriptor, buffer, sizeof(buffer))) > 0;) answer.append(buffer, got);
    close(descriptor);
    return answer;
  }
  // Of /metrics, without labels.
  int64_t Metric(const std::string& name) {
    const std::string text = Http("/metrics");
    const size_t at = text.find("\n" + name + " ");
    REQUIRE(at != std::string::npos);
    return std::atoll(text.c_str() + at + name.size() + 2);
  }

  Directory directory;
  std::unique_ptr<Daemon> daemon;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::RefService::Stub> refs;
  std::unique_ptr<v1::AtomService::Stub> atoms;
  std::unique_ptr<v1::TransactionService::Stub> transactions;
  std::unique_ptr<v1::WatchService::Stub> watches;
  std::unique_ptr<v1::LogService::Stub> logs;
  std::unique_ptr<v1::AdminService::Stub> admin;
  std::unique_ptr<v1::SessionService::Stub> sessions;
  std::unique_ptr<v1::LockService::Stub> locks;
};

}  // namespace stm::server

#endif  // STM_TESTS_SERVER_RUNNING_H_
