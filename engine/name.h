// Names of entries, as DESIGN section 2 fixes them: a path "/accounts/7". Pure; any thread.
#ifndef STM_ENGINE_NAME_H_
#define STM_ENGINE_NAME_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace stm::engine {

inline constexpr size_t kNameBytesMax = 512;
inline constexpr size_t kNameSegmentsMax = 32;

// A name: UTF-8 without control characters, begins with "/", no empty, "." or ".." segment, no trailing "/".
// INVALID_ARGUMENT says what is wrong and names the bound.
absl::Status CheckName(std::string_view name);
// A prefix: "/" or a name with "/" behind it.
absl::Status CheckPrefix(std::string_view prefix);

// "/.x": the system's.
bool IsSystem(std::string_view name);
// "/.memory/...": lives in this daemon's memory only.
bool IsMemory(std::string_view name);
// May a client write it: every name that is not the system's, and those under "/.memory/" and "/.once/".
bool IsWritable(std::string_view name);

// Is `name` in the subtree of `prefix`? A prefix holds names with a "/." segment at its root only if it
// itself begins with "/.": so "/" means all but the system's.
bool UnderPrefix(std::string_view name, std::string_view prefix);

// The prefixes above a name, shortest first: "/", "/a/", "/a/b/" for "/a/b/c". Views into `name`. A system
// name is not under "/".
std::vector<std::string_view> DirectoriesOf(std::string_view name);

}  // namespace stm::engine

#endif  // STM_ENGINE_NAME_H_
