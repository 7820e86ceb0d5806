// Values as JSON text, both ways, without loss: ReadJson(ToJson(v)) == v. Pure; any thread.
//   nil, booleans, integers, doubles, strings, vectors    as themselves; a double always has a point or an exponent
//   :k                            ":k"; a string that begins with ":" gets one more: "::k"
//   maps                          objects, when every key is a string or keyword; else {"#stm/map": [[k, v], ...]}
//   #inst "..." #uuid "..."       {"#inst": "..."} {"#uuid": "..."}
//   #blog.User {...}              {"#blog.User": {...}}
//   the rest                      {"#stm/list": [..]} {"#stm/set": [..]} {"#stm/bytes": "base64"} {"#stm/bigint": "1"}
//                                 {"#stm/decimal": "1.50"} {"#stm/symbol": "x"} {"#stm/char": "a"}
//                                 {"#stm/double": "NaN"} {"#stm/tagged": ["inst", 1]}
// An object of one key that begins with "#" is always one of these. Integers past 64 bits are read as bigints.
#ifndef STM_CLIENT_CLI_JSON_H_
#define STM_CLIENT_CLI_JSON_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/values/value.h"

namespace stm::cli {

// On one line.
std::string ToJson(const Value& value);
void AppendJson(const Value& value, std::string* out);

// One value, with nothing but white space around it. INVALID_ARGUMENT says where and what: bad JSON with line and
// column, a key twice, a "#..." object that is none of the above, deeper than kValueDepthMax.
absl::StatusOr<Value> ReadJson(std::string_view text);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_JSON_H_
