// Connections listens on TCP addresses, accepts, and hands what it accepts to gRPC, which serves it as if it had
// listened itself. So the daemon has a descriptor of each connection, to cork it (corks.h).
#ifndef STM_SERVER_CONNECTIONS_H_
#define STM_SERVER_CONNECTIONS_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/server_builder.h>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/corks.h"

namespace stm::server {

class Connections {
 public:
  Connections();
  // Stops.
  ~Connections();
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  // Listens on every address that `address` (host:port; port 0: any free one) stands for. Clients may connect from now
  // on, and wait for Start. Returns the address with its port; INVALID_ARGUMENT and UNAVAILABLE name it.
  absl::StatusOr<std::string> Listen(const std::string& address);

  // Accepts, and gives each connection to `acceptor`; gRPC's server has started. A peer that takes nothing we send for
  // `unacknowledged_ms` is cut off by the kernel.
  void Start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor, int unacknowledged_ms);

  // Accepts no more; what is connected stays so. Before gRPC's server shuts down.
  void Stop();

  // The connection of a call, by ServerContext::peer(); null: not one of ours, or it has ended. Any thread.
  std::shared_ptr<Connection> Find(const std::string& peer) const;

 private:
  void Work();
  void Accept(int listening);
  void Ended(int descriptor);

  const int epoll_;
  const int stop_;  // an eventfd
  std::vector<int> listening_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  int unacknowledged_ms_ = 0;
  std::thread thread_;

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<Connection>> by_peer_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<int, std::string> peers_;  // by descriptor; the thread's own
};

}  // namespace stm::server

#endif  // STM_SERVER_CONNECTIONS_H_
