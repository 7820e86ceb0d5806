#include "client/cpp/core/grpc_status.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include "stm/v1/common.pb.h"

namespace stm::internal {

std::optional<v1::ErrorDetail> DetailOf(const grpc::Status& status) {
  // A google.rpc.Status, of which only `repeated google.protobuf.Any details = 3` matters here.
  constexpr uint32_t kDetailsTag = (3 << 3) | 2;
  const std::string bytes = status.error_details();
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  while (uint32_t tag = in.ReadTag()) {
    if (tag != kDetailsTag) {
      if (!google::protobuf::internal::WireFormatLite::SkipField(&in, tag)) return std::nullopt;
      continue;
    }
    uint32_t size = 0;
    std::string part;
    google::protobuf::Any any;
    v1::ErrorDetail detail;
    if (!in.ReadVarint32(&size) || !in.ReadString(&part, static_cast<int>(size)) || !any.ParseFromString(part)) {
      return std::nullopt;
    }
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

absl::Status FromGrpc(const grpc::Status& status, const Names& names) {
  if (status.ok()) return absl::OkStatus();
  std::optional<v1::ErrorDetail> detail = DetailOf(status);
  std::string message = status.error_message();
  // gRPC's own answer for a call that the daemon does not have.
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && !detail.has_value()) {
    message = "the daemon is older than this client and lacks the call (" + message + "): run a newer stmd";
  }
  return FromWire(static_cast<int>(status.error_code()), message, detail.has_value() ? &*detail : nullptr, names);
}

}  // namespace stm::internal
