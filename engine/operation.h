// Operations: pure changes of a value, applied at the commit point (DESIGN section 4). Immutable; any thread.
// EDN form, as the log and the shell show it: (set 1) (add 2) (min 3) (max 4) (append [1 2]) (conj 1 2)
// (disj 1) (pop) (pop 2) (shift) (shift 3) (assoc :k 1 :j 2) (dissoc :k) (toggle) (cas 1 2) (cas-absent 2);
// at a path: (at [:a 0] (add 1)).
// Apply is a function of its two arguments alone, down to the order of map entries: a replay gives the same
// bytes.
#ifndef STM_ENGINE_OPERATION_H_
#define STM_ENGINE_OPERATION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/values/map.h"
#include "engine/values/value.h"
#include "engine/values/vector.h"

namespace stm::v1 {
class Operation;
}

namespace stm::engine {

// Longer paths would end below kValueDepthMax.
inline constexpr size_t kPathItemsMax = kValueDepthMax - 1;
inline constexpr size_t kExcerptBytesMax = 64;

struct Operation {
  enum class Verb : uint8_t {
    kSet,     // argument
    kAdd,     // argument: integer or double. A double takes an integer, an integer no double
    kMin,     // argument: integer, double, string (by bytes) or instant, and the target of the same type;
    kMax,     //   as IEEE 754 minimum and maximum: NaN wins, -0.0 is below 0.0
    kAppend,  // argument: of the target's type (list and vector mix)
    kConj,    // arguments
    kDisj,    // arguments
    kPop,     // count >= 1
    kShift,   // count >= 1
    kAssoc,   // entries; into a vector: lowest index first, each at most the size
    kDissoc,  // arguments
    kToggle,
    kCompareAndSet,  // expected (nullopt: absent), argument
  };
  Verb verb = Verb::kSet;
  std::vector<Value> path;
  Value argument;
  std::vector<Value> arguments;
  Map entries;
  uint32_t count = 1;
  std::optional<Value> expected;
};

// INVALID_ARGUMENT: no operation, a bad value, an argument of a type that the operation never takes, a path
// longer than kPathItemsMax; the message names the field. UNIMPLEMENTED: from a newer client (a field this
// build does not know).
absl::StatusOr<Operation> FromProto(const v1::Operation& message);
void ToProto(const Operation& operation, v1::Operation* message);

// The EDN form, as a list value, and back. UNIMPLEMENTED: no such operation; INVALID_ARGUMENT: wrong
// arguments.
Value ToEdnForm(const Operation& operation);
absl::StatusOr<Operation> OperationFromEdnForm(const Value& form);

enum class RejectCause : uint8_t { kNone, kValidator, kType, kCompare, kOverflow, kAbsent, kKind };

// The value as EDN, cut at kExcerptBytesMax (with "..." then), on a character's border. Looks at no more than
// it shows.
std::string Excerpt(const Value& value);

// Why a write can't be: nothing changes. Messages name operation and type found; the engine adds the entry.
struct Rejection {
  RejectCause cause = RejectCause::kNone;
  std::optional<Value> rule;  // of a validator
  std::string found;          // the type or value found, values as Excerpt; or "absent"
  std::string message;
};

struct Applied {
  Value value;   // the entry's new value, all of it
  Value result;  // equal to value, but what was removed for pop and shift (one item alone when count is 1,
                 // else a vector)
};

// before nullopt: the entry is absent. Only set, and compare-and-set with no expected, go on an absent entry;
// the rest is kAbsent. A path's missing map keys are made as Clojure's assoc-in and update-in do, for set,
// assoc, and conj (a vector); so does compare-and-set with no expected. On a path, an index at or past the
// end of a vector is kAbsent, and nil is a value like any other, not a missing map. Integer overflow is
// kOverflow. Depth past kValueDepthMax is kType.
std::variant<Applied, Rejection> Apply(const Operation& operation, const std::optional<Value>& before);

}  // namespace stm::engine

#endif  // STM_ENGINE_OPERATION_H_
