#include "server/listener.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <utility>

#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/reflection_service.h"
#include "server/services.h"

namespace stm::server {
namespace {

// A peer that is gone without a word is noticed after these two.
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
// Clients may send pings of their own this often.
constexpr int kClientPingMs = 5'000;

// gRPC takes a Unix socket's path over even from a live daemon: refused here.
absl::Status CheckUnixSocket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("listen: unix:", path, ": longer than ", sizeof(address.sun_path) - 1, " bytes: shorten the path"));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return absl::UnavailableError(absl::StrCat("listen: unix:", path, ": ", strerror(errno)));
  const bool taken = connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(descriptor);
  if (taken) {
    return absl::UnavailableError(
        absl::StrCat("listen: unix:", path, ": another process serves it: stop that, or choose another path"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Start(Node* node) {
  std::unique_ptr<Listener> listener(new Listener);
  // Process-wide, and what every server of ours wants.
  grpc::EnableDefaultHealthCheckService(true);

  grpc::ServerBuilder builder;
  const int message_bytes = static_cast<int>(MessageBytesMax(node->config));
  builder.SetMaxReceiveMessageSize(message_bytes);
  builder.SetMaxSendMessageSize(message_bytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kClientPingMs);

  for (const std::string& address : node->config.listen) {
    if (absl::StartsWith(address, "unix:")) {
      absl::Status status = CheckUnixSocket(address.substr(5));
      if (!status.ok()) return status;
      builder.AddListeningPort(address, grpc::InsecureServerCredentials());
      listener->addresses_.push_back(address);
    } else {
      absl::StatusOr<std::string> bound = listener->connections_.Listen(address);
      if (!bound.ok()) return bound.status();
      listener->addresses_.push_back(*std::move(bound));
    }
  }
  using External = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor =
      builder.experimental().AddExternalConnectionAcceptor(External::FROM_FD, grpc::InsecureServerCredentials());
  node->connections = &listener->connections_;

  listener->services_.push_back(MakeRefService(node));
  listener->services_.push_back(MakeAtomService(node));
  listener->services_.push_back(MakeTransactionService(node));
  listener->services_.push_back(MakeWatchService(node));
  listener->services_.push_back(MakeLogService(node));
  listener->services_.push_back(MakeAdminService(node));
  listener->services_.push_back(MakeSessionService(node));
  listener->services_.push_back(MakeLockService(node));
  listener->services_.push_back(MakeOfferService(node));
  for (auto& service : MakeReflectionServices()) listener->services_.push_back(std::move(service));
  for (const std::unique_ptr<grpc::Service>& service : listener->services_) builder.RegisterService(service.get());

  listener->server_ = builder.BuildAndStart();
  if (listener->server_ == nullptr) {
    // Of what it is told to do, only binding a Unix socket can fail.
    return absl::UnavailableError(absl::StrCat("listen: ", absl::StrJoin(node->config.listen, ", "),
                                               ": can't be bound: is there such a directory, and may we write to it?"));
  }
  listener->connections_.Start(std::move(acceptor), kKeepaliveTimeoutMs);
  return listener;
}

Listener::~Listener() { Stop(absl::ZeroDuration()); }

void Listener::SetServing(bool serving) { server_->GetHealthCheckService()->SetServingStatus(serving); }

void Listener::Stop(absl::Duration grace) {
  if (server_ == nullptr) return;
  connections_.Stop();
  server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
  server_->Wait();
  server_.reset();
}

}  // namespace stm::server
