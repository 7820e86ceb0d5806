// Values as stm.v1.Value messages, both ways, without loss. Pure; any thread.
#ifndef STM_ENGINE_VALUES_WIRE_H_
#define STM_ENGINE_VALUES_WIRE_H_

#include "absl/status/statusor.h"
#include "engine/values/value.h"
#include "stm/v1/value.pb.h"

namespace stm {

// INVALID_ARGUMENT with the path to the offending part: unset kind, not UTF-8, bad digits, equal keys, too
// deep, a bad `edn` text (its line and column). `edn` is read wherever it stands.
absl::StatusOr<Value> FromProto(const v1::Value& message);
void ToProto(const Value& value, v1::Value* message);

google::protobuf::Timestamp ToProto(Instant instant);
absl::StatusOr<Instant> FromProto(const google::protobuf::Timestamp& message);

}  // namespace stm

#endif  // STM_ENGINE_VALUES_WIRE_H_
