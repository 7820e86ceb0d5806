// What lock_user and the test that starts it agree on.
#ifndef STM_TESTS_E2E_CLUSTER_LOCK_USER_H_
#define STM_TESTS_E2E_CLUSTER_LOCK_USER_H_

#include "absl/time/time.h"

namespace stm::e2e {

// Of its session.
inline constexpr absl::Duration kLockUserTtl = absl::Seconds(2);

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_CLUSTER_LOCK_USER_H_
