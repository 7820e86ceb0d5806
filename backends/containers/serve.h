// Serves a container of C++ by gRPC, as stm.v1.ContainerService and stm.v1.AtomContainerService: in a program
// of the author's own, beside what it keeps, rather than in the daemon. A daemon asks it as grpc://HOST:PORT
// (remote.h).
#ifndef STM_BACKENDS_CONTAINERS_SERVE_H_
#define STM_BACKENDS_CONTAINERS_SERVE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backends/containers/container.h"

namespace stm::containers {

struct ServeOptions {
  // PEM files; both "": no TLS.
  std::string certificate_file;
  std::string key_file;
  int64_t message_bytes_max = 64 << 20;
};

class ContainerServer {
 public:
  // Serves at "host:port"; port 0: a free one. A kind that the container does not keep is not served.
  // UNAVAILABLE: it can't listen there; INVALID_ARGUMENT: a file can't be read.
  static absl::StatusOr<std::unique_ptr<ContainerServer>> Start(Container container,
                                                                const std::string& address,
                                                                const ServeOptions& options = {});
  // Stops; calls under way are waited for.
  ~ContainerServer();
  ContainerServer(const ContainerServer&) = delete;
  ContainerServer& operator=(const ContainerServer&) = delete;

  int port() const;
  // Takes no more calls, and cuts off those still under way after `grace`.
  void Stop(absl::Duration grace);

 private:
  class Services;
  ContainerServer();
  std::unique_ptr<Services> services_;
};

}  // namespace stm::containers

#endif  // STM_BACKENDS_CONTAINERS_SERVE_H_
