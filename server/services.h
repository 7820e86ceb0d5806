// The services of stm.v1, each in a file of its own. A service outlives the grpc::Server that serves it.
#ifndef STM_SERVER_SERVICES_H_
#define STM_SERVER_SERVICES_H_

#include <memory>

#include "server/node.h"

namespace grpc {
class Service;
}

namespace stm::server {

std::unique_ptr<grpc::Service> MakeRefService(Node* node);
std::unique_ptr<grpc::Service> MakeAtomService(Node* node);
std::unique_ptr<grpc::Service> MakeTransactionService(Node* node);
std::unique_ptr<grpc::Service> MakeWatchService(Node* node);
std::unique_ptr<grpc::Service> MakeLogService(Node* node);
std::unique_ptr<grpc::Service> MakeAdminService(Node* node);
std::unique_ptr<grpc::Service> MakeSessionService(Node* node);
std::unique_ptr<grpc::Service> MakeLockService(Node* node);
std::unique_ptr<grpc::Service> MakeOfferService(Node* node);

}  // namespace stm::server

#endif  // STM_SERVER_SERVICES_H_
