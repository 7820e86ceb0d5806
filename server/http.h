// Http is a read-only listener for people and probes: /livez (the Loop ticks), /readyz (recovered, and a read goes
// through within 5 s; says why not), /metrics (Prometheus). Threads of its own.
#ifndef STM_SERVER_HTTP_H_
#define STM_SERVER_HTTP_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/node.h"

namespace stm::server {

class Http {
 public:
  // UNAVAILABLE names the address that can't be had.
  static absl::StatusOr<std::unique_ptr<Http>> Start(Node* node, const std::string& address);
  ~Http();

  const std::string& address() const { return address_; }
  // Returns when no request is under way any more. Once.
  void Stop();

 private:
  struct Server;
  Http();

  std::string address_;
  std::unique_ptr<Server> server_;
};

}  // namespace stm::server

#endif  // STM_SERVER_HTTP_H_
