// Debian's Abseil has a string_view of its own: what its functions take, of what the rest of the code has. Pure; any thread.
#ifndef STM_ENGINE_VALUES_ABSL_VIEW_H_
#define STM_ENGINE_VALUES_ABSL_VIEW_H_

#include <string_view>

#include "absl/strings/string_view.h"

namespace stm {

inline absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace stm

#endif  // STM_ENGINE_VALUES_ABSL_VIEW_H_
