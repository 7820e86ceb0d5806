#include "backends/containers/serve.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/values/wire.h"
#include "stm/v1/container_service.grpc.pb.h"

namespace stm::containers {
namespace {

// What a call without a deadline is given.
constexpr absl::Duration kWithin = absl::Minutes(1);
// Daemons ping no oftener.
constexpr int kPingMs = 5'000;

absl::Duration Within(const grpc::ServerContext* context) {
  return std::min(absl::FromChrono(context->deadline()) - absl::Now(), kWithin);
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

absl::StatusOr<Value> ValueOf(bool is_set, const v1::Value& message) {
  if (!is_set) return absl::InvalidArgumentError("value: is not set");
  return FromProto(message);
}

template <typename Response>
grpc::Status Answer(const absl::StatusOr<std::optional<Value>>& got, Response* response) {
  if (!got.ok()) return ToGrpc(got.status());
  if (got->has_value()) ToProto(**got, response->mutable_value());
  return grpc::Status::OK;
}

class RefService final : public v1::ContainerService::Service {
 public:
  explicit RefService(VersionedStateContainer* container) : container_(*container) {}

  grpc::Status Init(grpc::ServerContext* context, const v1::InitRequest* request,
                    v1::InitResponse*) override {
    return ToGrpc(container_.Init(request->name(), Within(context)));
  }
  grpc::Status Destroy(grpc::ServerContext* context, const v1::DestroyRequest* request,
                       v1::DestroyResponse*) override {
    return ToGrpc(container_.Destroy(request->name(), Within(context)));
  }
  grpc::Status GetStateAt(grpc::ServerContext* context, const v1::GetStateAtRequest* request,
                          v1::GetStateAtResponse* response) override {
    return Answer(container_.GetStateAt(request->name(), request->stamp(), Within(context)), response);
  }
  grpc::Status SetStateAt(grpc::ServerContext* context, const v1::SetStateAtRequest* request,
                          v1::SetStateAtResponse*) override {
    const absl::StatusOr<Value> value = ValueOf(request->has_value(), request->value());
    if (!value.ok()) return ToGrpc(value.status());
    return ToGrpc(container_.SetStateAt(request->name(), request->stamp(), *value, Within(context)));
  }
  grpc::Status DeleteStateAt(grpc::ServerContext* context, const v1::DeleteStateAtRequest* request,
                             v1::DeleteStateAtResponse*) override {
    return ToGrpc(container_.DeleteStateAt(request->name(), request->stamp(), Within(context)));
  }

 private:
  VersionedStateContainer& container_;
};

class AtomService final : public v1::AtomContainerService::Service {
 public:
  explicit AtomService(StateContainer* container) : container_(*container) {}

  grpc::Status InitAtom(grpc::ServerContext* context, const v1::InitAtomRequest* request,
                        v1::InitAtomResponse*) override {
    return ToGrpc(container_.Init(request->name(), Within(context)));
  }
  grpc::Status DestroyAtom(grpc::ServerContext* context, const v1::DestroyAtomRequest* request,
                           v1::DestroyAtomResponse*) override {
    return ToGrpc(container_.Destroy(request->name(), request->version(), Within(context)));
  }
  grpc::Status GetState(grpc::ServerContext* context, const v1::GetStateRequest* request,
                        v1::GetStateResponse* response) override {
    return Answer(container_.GetState(request->name(), Within(context)), response);
  }
  grpc::Status SetState(grpc::ServerContext* context, const v1::SetStateRequest* request,
                        v1::SetStateResponse*) override {
    const absl::StatusOr<Value> value = ValueOf(request->has_value(), request->value());
    if (!value.ok()) return ToGrpc(value.status());
    return ToGrpc(container_.SetState(request->name(), *value, request->version(), Within(context)));
  }

 private:
  StateContainer& container_;
};

absl::StatusOr<std::string> Contents(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file || text.str().empty())
    return absl::InvalidArgumentError(absl::StrCat(path, " can't be read, or is empty"));
  return text.str();
}

}  // namespace

class ContainerServer::Services {
 public:
  Container container;
  std::optional<RefService> refs;
  std::optional<AtomService> atoms;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

ContainerServer::ContainerServer() : services_(std::make_unique<Services>()) {}

ContainerServer::~ContainerServer() {
  if (services_->server != nullptr) services_->server->Shutdown();
}

absl::StatusOr<std::unique_ptr<ContainerServer>> ContainerServer::Start(Container container,
                                                                        const std::string& address,
                                                                        const ServeOptions& options) {
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!options.certificate_file.empty() || !options.key_file.empty()) {
    absl::StatusOr<std::string> certificate = Contents(options.certificate_file);
    if (!certificate.ok()) return certificate.status();
    absl::StatusOr<std::string> key = Contents(options.key_file);
    if (!key.ok()) return key.status();
    grpc::SslServerCredentialsOptions tls;
    tls.pem_key_cert_pairs.push_back({*std::move(key), *std::move(certificate)});
    credentials = grpc::SslServerCredentials(tls);
  }
  std::unique_ptr<ContainerServer> started(new ContainerServer);
  Services& services = *started->services_;
  services.container = std::move(container);

  grpc::ServerBuilder builder;
  const int bytes =
      static_cast<int>(std::min<int64_t>(options.message_bytes_max, std::numeric_limits<int>::max()));
  builder.SetMaxReceiveMessageSize(bytes);
  builder.SetMaxSendMessageSize(bytes);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kPingMs);
  builder.AddListeningPort(address, credentials, &services.port);
  if (services.container.refs != nullptr) {
    builder.RegisterService(&services.refs.emplace(services.container.refs.get()));
  }
  if (services.container.atoms != nullptr) {
    builder.RegisterService(&services.atoms.emplace(services.container.atoms.get()));
  }
  services.server = builder.BuildAndStart();
  if (services.server == nullptr || services.port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "can't listen on ", address, ": something else may, or it is no address of this machine's"));
  }
  return started;
}

int ContainerServer::port() const { return services_->port; }

void ContainerServer::Stop(absl::Duration grace) {
  services_->server->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(grace));
}

}  // namespace stm::containers
