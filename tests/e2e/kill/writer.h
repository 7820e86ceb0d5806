// Writer is a Caller that moves money, counts and makes entries until it is told to stop. One thread a
// Writer.
#ifndef STM_TESTS_E2E_KILL_WRITER_H_
#define STM_TESTS_E2E_KILL_WRITER_H_

#include <atomic>
#include <cstdint>

#include "tests/e2e/kill/caller.h"

namespace stm::e2e {

inline constexpr int kAccounts = 8;
inline constexpr int kCounters = 4;
inline constexpr int64_t kAccountBegin = 1000;

class Writer : public Caller {
 public:
  using Caller::Caller;

  // Writes until `stop`; then finds out what is unknown yet, and returns. False: the daemon did not come
  // back.
  bool Run(const std::atomic<bool>& stop);
  // Makes the accounts.
  bool Prepare();

 private:
  bool OneOperation();

  int64_t made_ = 0;
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_KILL_WRITER_H_
