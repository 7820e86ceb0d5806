// Listener serves the services of stm.v1, health and reflection by gRPC, on every address it is told.
#ifndef STM_SERVER_LISTENER_H_
#define STM_SERVER_LISTENER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/connections.h"
#include "server/node.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace stm::server {

class Listener {
 public:
  // Serves on node->config.listen. UNAVAILABLE names the address that can't be had.
  static absl::StatusOr<std::unique_ptr<Listener>> Start(Node* node);
  ~Listener();

  // As told, with the port that was chosen for port 0.
  const std::vector<std::string>& addresses() const { return addresses_; }
  // What health checks are answered.
  void SetServing(bool serving);
  // Takes no more calls, lets those under way end for `grace`, then cancels them; returns when all have ended. Once.
  void Stop(absl::Duration grace);

 private:
  Listener() = default;

  Connections connections_;
  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace stm::server

#endif  // STM_SERVER_LISTENER_H_
