#include "backends/containers/remote.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/values/wire.h"
#include "stm/v1/container_service.grpc.pb.h"

namespace stm::containers {
namespace {

constexpr int kConnections = 2;
constexpr int kConnectionsMax = 16;
// A connection that leads nowhere any more is found out so, if calls are under way; servers allow a ping so
// often.
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;

struct Address {
  std::string target;  // host:port
  bool tls = false;
  std::string ca_file;  // "": the system's
  int connections = kConnections;
};

absl::StatusOr<Address> Parse(const std::string& uri) {
  constexpr char kForm[] =
      "write grpc://HOST:PORT, or grpcs://HOST:PORT for TLS, and behind it ?ca=FILE or ?connections=N";
  const auto bad = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(WithoutPassword(uri), ": ", what, ": ", kForm));
  };
  Address address;
  const size_t scheme = uri.find("://");
  if (scheme == std::string::npos) return bad("no \"://\" is in it");
  address.tls = uri.compare(0, scheme, "grpcs") == 0;
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(uri.substr(scheme + 3), absl::MaxSplits('?', 1));
  address.target = parts.first;
  const size_t colon = address.target.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(address.target.substr(colon + 1), &port) || port < 1 || port > 65535 ||
      address.target.find_first_of("@/") != std::string::npos) {
    return bad("it has no HOST:PORT, and nothing else");
  }
  for (absl::string_view setting : absl::StrSplit(parts.second, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, std::string> pair = absl::StrSplit(setting, absl::MaxSplits('=', 1));
    if (pair.first == "ca" && address.tls && !pair.second.empty()) {
      address.ca_file = pair.second;
    } else if (pair.first == "connections") {
      if (!absl::SimpleAtoi(pair.second, &address.connections) || address.connections < 1 ||
          address.connections > kConnectionsMax) {
        return bad(absl::StrCat("connections is from 1 to ", kConnectionsMax));
      }
    } else {
      return bad(absl::StrCat("\"", setting, "\" means nothing here"));
    }
  }
  return address;
}

// Connections to one server, by turns.
class Server {
 public:
  struct Stubs {
    std::unique_ptr<v1::ContainerService::Stub> refs;
    std::unique_ptr<v1::AtomContainerService::Stub> atoms;
  };

  Server(const Address& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
         int64_t message_bytes_max)
      : target_(address.target) {
    grpc::ChannelArguments arguments;
    const int bytes = static_cast<int>(std::min<int64_t>(message_bytes_max, std::numeric_limits<int>::max()));
    arguments.SetMaxReceiveMessageSize(bytes);
    arguments.SetMaxSendMessageSize(bytes);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    // Each a connection of its own.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    for (int i = 0; i < address.connections; ++i) {
      const auto channel = grpc::CreateCustomChannel(target_, credentials, arguments);
      stubs_.push_back({v1::ContainerService::NewStub(channel), v1::AtomContainerService::NewStub(channel)});
    }
  }

  const Stubs& next() { return stubs_[next_.fetch_add(1, std::memory_order_relaxed) % stubs_.size()]; }

  // One call. What it means that a server does not know it: `unserved`.
  template <typename Stub, typename Request, typename Response>
  absl::Status Ask(const std::unique_ptr<Stub>& stub,
                   grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                   const Request& request, Response* response, absl::Duration within, const char* unserved) {
    grpc::ClientContext context;
    if (within < absl::InfiniteDuration()) {
      context.set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                        gpr_time_from_nanos(absl::ToInt64Nanoseconds(within), GPR_TIMESPAN)));
    }
    const grpc::Status status = (stub.get()->*method)(&context, request, response);
    if (status.ok()) return absl::OkStatus();
    switch (status.error_code()) {
      case grpc::StatusCode::DEADLINE_EXCEEDED:
        return absl::UnavailableError(
            absl::StrCat(target_, " did not answer within ",
                         absl::FormatDuration(absl::Trunc(within, absl::Milliseconds(1)))));
      case grpc::StatusCode::UNIMPLEMENTED:
        return absl::FailedPreconditionError(
            absl::StrCat(target_, unserved, " (", status.error_message(), ")"));
      default:
        return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                            absl::StrCat(target_, ": ", status.error_message()));
    }
  }

  // nullopt: unset.
  template <typename Response>
  absl::StatusOr<std::optional<Value>> ValueOf(const Response& response) const {
    if (!response.has_value()) return std::nullopt;
    absl::StatusOr<Value> value = FromProto(response.value());
    if (value.ok()) return *std::move(value);
    return absl::DataLossError(
        absl::StrCat(target_, " answered with what is no value: ", value.status().message()));
  }

 private:
  const std::string target_;
  std::vector<Stubs> stubs_;
  std::atomic<uint32_t> next_{0};
};

// A value that not every server can parse (engine/values/wire.h) is not sent.
absl::Status ToMessage(const Value& value, v1::Value* message) {
  if (!FitsWire(value)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the value nests too deep for Protocol Buffers (value_wire_nesting_max=", kWireNestingMax,
        "): make it flatter"));
  }
  ToProto(value, message);
  return absl::OkStatus();
}

class RemoteRefs final : public VersionedStateContainer {
 public:
  explicit RemoteRefs(std::shared_ptr<Server> server) : server_(std::move(server)) {}

  absl::Status Init(const std::string& name, absl::Duration within) override {
    v1::InitRequest request;
    request.set_name(name);
    v1::InitResponse response;
    return Ask(&v1::ContainerService::Stub::Init, request, &response, within);
  }
  absl::Status Destroy(const std::string& name, absl::Duration within) override {
    v1::DestroyRequest request;
    request.set_name(name);
    v1::DestroyResponse response;
    return Ask(&v1::ContainerService::Stub::Destroy, request, &response, within);
  }
  absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name, const std::string& stamp,
                                                  absl::Duration within) override {
    v1::GetStateAtRequest request;
    request.set_name(name);
    request.set_stamp(stamp);
    v1::GetStateAtResponse response;
    absl::Status status = Ask(&v1::ContainerService::Stub::GetStateAt, request, &response, within);
    if (!status.ok()) return status;
    return server_->ValueOf(response);
  }
  absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value& value,
                          absl::Duration within) override {
    v1::SetStateAtRequest request;
    request.set_name(name);
    request.set_stamp(stamp);
    if (absl::Status fits = ToMessage(value, request.mutable_value()); !fits.ok()) return fits;
    v1::SetStateAtResponse response;
    return Ask(&v1::ContainerService::Stub::SetStateAt, request, &response, within);
  }
  absl::Status DeleteStateAt(const std::string& name, const std::string& stamp,
                             absl::Duration within) override {
    v1::DeleteStateAtRequest request;
    request.set_name(name);
    request.set_stamp(stamp);
    v1::DeleteStateAtResponse response;
    return Ask(&v1::ContainerService::Stub::DeleteStateAt, request, &response, within);
  }

 private:
  template <typename Method, typename Request, typename Response>
  absl::Status Ask(Method method, const Request& request, Response* response, absl::Duration within) {
    return server_->Ask(
        server_->next().refs, method, request, response, within,
        " serves no stm.v1.ContainerService, so it keeps no refs: serve it there, or keep the ref elsewhere");
  }

  const std::shared_ptr<Server> server_;
};

class RemoteAtoms final : public StateContainer {
 public:
  explicit RemoteAtoms(std::shared_ptr<Server> server) : server_(std::move(server)) {}

  absl::Status Init(const std::string& name, absl::Duration within) override {
    v1::InitAtomRequest request;
    request.set_name(name);
    v1::InitAtomResponse response;
    return Ask(&v1::AtomContainerService::Stub::InitAtom, request, &response, within);
  }
  absl::Status Destroy(const std::string& name, int64_t version, absl::Duration within) override {
    v1::DestroyAtomRequest request;
    request.set_name(name);
    request.set_version(version);
    v1::DestroyAtomResponse response;
    return Ask(&v1::AtomContainerService::Stub::DestroyAtom, request, &response, within);
  }
  absl::StatusOr<std::optional<Value>> GetState(const std::string& name, absl::Duration within) override {
    v1::GetStateRequest request;
    request.set_name(name);
    v1::GetStateResponse response;
    absl::Status status = Ask(&v1::AtomContainerService::Stub::GetState, request, &response, within);
    if (!status.ok()) return status;
    return server_->ValueOf(response);
  }
  absl::Status SetState(const std::string& name, const Value& value, int64_t version,
                        absl::Duration within) override {
    v1::SetStateRequest request;
    request.set_name(name);
    request.set_version(version);
    if (absl::Status fits = ToMessage(value, request.mutable_value()); !fits.ok()) return fits;
    v1::SetStateResponse response;
    return Ask(&v1::AtomContainerService::Stub::SetState, request, &response, within);
  }

 private:
  template <typename Method, typename Request, typename Response>
  absl::Status Ask(Method method, const Request& request, Response* response, absl::Duration within) {
    return server_->Ask(server_->next().atoms, method, request, response, within,
                        " serves no stm.v1.AtomContainerService, so it keeps no atoms: serve it there, or "
                        "keep the atom elsewhere");
  }

  const std::shared_ptr<Server> server_;
};

}  // namespace

absl::StatusOr<Container> MakeRemote(const std::string& uri, const FactoryOptions& options) {
  const absl::StatusOr<Address> address = Parse(uri);
  if (!address.ok()) return address.status();
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (address->tls) {
    grpc::SslCredentialsOptions tls;
    if (!address->ca_file.empty()) {
      std::ifstream file(address->ca_file);
      std::stringstream text;
      text << file.rdbuf();
      tls.pem_root_certs = text.str();
      if (!file || tls.pem_root_certs.empty()) {
        return absl::InvalidArgumentError(absl::StrCat(
            address->ca_file, " can't be read, or is empty: ?ca= names a file of PEM certificates"));
      }
    }
    credentials = grpc::SslCredentials(tls);
  }
  const auto server = std::make_shared<Server>(*address, credentials, options.message_bytes_max);
  Container container;
  container.refs = std::make_unique<RemoteRefs>(server);
  container.atoms = std::make_unique<RemoteAtoms>(server);
  return container;
}

}  // namespace stm::containers
