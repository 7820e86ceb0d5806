// Statuses of gRPC calls as errors with a reason. Pure; any thread.
#ifndef STM_CLIENT_CPP_CORE_GRPC_STATUS_H_
#define STM_CLIENT_CPP_CORE_GRPC_STATUS_H_

#include <optional>

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "client/cpp/core/wire.h"
#include "stm/v1/common.pb.h"

namespace stm::internal {

// The ErrorDetail in grpc-status-details-bin; nullopt: none.
std::optional<v1::ErrorDetail> DetailOf(const grpc::Status& status);
// With the client's own names in it; left out: of a stream that names no entry.
absl::Status FromGrpc(const grpc::Status& status, const Names& names = Names(""));

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_GRPC_STATUS_H_
