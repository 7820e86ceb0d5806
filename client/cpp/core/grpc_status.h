// Statuses of gRPC calls as errors with a reason. Pure; any thread.
#ifndef STM_CLIENT_CPP_CORE_GRPC_STATUS_H_
#define STM_CLIENT_CPP_CORE_GRPC_STATUS_H_

#include <optional>

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "stm/v1/common.pb.h"

namespace stm::internal {

// The ErrorDetail in grpc-status-details-bin; nullopt: none.
std::optional<v1::ErrorDetail> DetailOf(const grpc::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_GRPC_STATUS_H_
