// Reflection tells gRPC tools what is served, in both versions of its protocol (v1 and v1alpha).
#ifndef STM_SERVER_REFLECTION_SERVICE_H_
#define STM_SERVER_REFLECTION_SERVICE_H_

#include <array>
#include <memory>

namespace grpc {
class Service;
}

namespace stm::server {

std::array<std::unique_ptr<grpc::Service>, 2> MakeReflectionServices();

}  // namespace stm::server

#endif  // STM_SERVER_REFLECTION_SERVICE_H_
