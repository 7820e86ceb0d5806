// Chance: UUIDs from the kernel's generator, jitter from a thread's own. Any thread.
#ifndef STM_CLIENT_CPP_CORE_RANDOM_H_
#define STM_CLIENT_CPP_CORE_RANDOM_H_

#include <string>

#include "absl/time/time.h"

namespace stm::internal {

// Version 4, 36 characters. From the kernel each time: a fork must not repeat its parent's.
std::string NewUuid();
// Uniform in [low, high].
absl::Duration RandomBetween(absl::Duration low, absl::Duration high);

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_RANDOM_H_
