// Values as stm.v1.Value messages, both ways, without loss. Pure; any thread.
#ifndef STM_ENGINE_VALUES_WIRE_H_
#define STM_ENGINE_VALUES_WIRE_H_

#include "absl/status/statusor.h"
#include "engine/values/value.h"

namespace google::protobuf {
class Timestamp;
}
namespace stm::v1 {
class Value;
}

namespace stm {

// INVALID_ARGUMENT with the path to the offending part: unset kind, not UTF-8, bad digits, equal keys, too
// deep, a bad `edn` text (its line and column). `edn` is read wherever it stands.
absl::StatusOr<Value> FromProto(const v1::Value& message);
void ToProto(const Value& value, v1::Value* message);

// Protocol Buffers' parsers, in every language but Go, give up at 100 messages inside each other. A value that is one
// message nests 1, its items 2 more, its map's keys and values 3 more; the rest is left for what carries it.
inline constexpr int kWireNestingMax = 90;
// Can every client parse it? A value up to 30 deep always fits; up to kValueDepthMax when few of its levels are maps.
bool FitsWire(const Value& value);

google::protobuf::Timestamp ToProto(Instant instant);
absl::StatusOr<Instant> FromProto(const google::protobuf::Timestamp& message);

}  // namespace stm

#endif  // STM_ENGINE_VALUES_WIRE_H_
