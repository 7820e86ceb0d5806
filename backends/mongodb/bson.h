// Values as BSON, as people who look with a MongoDB shell expect them, both ways, without loss. Pure; any
// thread. A string, integer, double, boolean, nil, bytes and uuid is BSON's own; so is an instant of whole
// milliseconds, a vector (an array), and a map of keywords (a document, of their names without the colon).
// What BSON has not is a document whose first key begins with "#", which says what it is:
//   {"#edn": "12N"}                               a bigint, decimal, character, keyword, symbol; an instant
//   finer than milliseconds
//   {"#list": [...]}, {"#set": [...]}             a list, a set
//   {"#vector": [...]}                            a vector right inside an array
//   {"#strings": {"a": 1}}                        a map of strings
//   {"#map": [{"key": 1, "value": 2}, ...]}       any other map, and one with a key that is "", has "." or
//   NUL, or begins with "$" or "#"
//   {"#tag": "blog/User", "value": ...}           a tagged value
// Not every server takes ##NaN, ##Inf, ##-Inf and -0.0, arrays right inside arrays, decimals, or such keys:
// no server gets them. A value deeper than kStructureDepthMax is one {"#edn": ...}: MongoDB nests 100 deep,
// of which a level of ours takes up to three. An order of insertion stays. What is written is the same for
// every server and every time.
#ifndef STM_BACKENDS_MONGODB_BSON_H_
#define STM_BACKENDS_MONGODB_BSON_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/values/value.h"

namespace stm::mongodb {

inline constexpr int kStructureDepthMax = 30;
// MongoDB's bound of a document, and so of a value, its name and its stamp together.
inline constexpr size_t kDocumentBytesMax = 16 * 1024 * 1024;

struct Field {
  std::string_view name;  // as bson.h would write a keyword of this name
  Value value;
};

// The document {name: value, ...} of values that pass Check. RESOURCE_EXHAUSTED: it would have more than
// kDocumentBytesMax; `what` is what the error says is too large.
absl::StatusOr<std::string> ToBson(const std::vector<Field>& fields, std::string_view what);

// The value of a document's field, which passes Check; nullopt: there is no such field. Takes int32 and
// Decimal128 too, and arrays inside arrays: people write those. DATA_LOSS with the path to what no value is
// written as.
absl::StatusOr<std::optional<Value>> FieldOf(std::string_view document, std::string_view name);

}  // namespace stm::mongodb

#endif  // STM_BACKENDS_MONGODB_BSON_H_
