// Deadlines on the steady clock: a changed wall clock neither ends nor prolongs a call. Plain values.
#ifndef STM_CLIENT_CPP_CORE_TIME_H_
#define STM_CLIENT_CPP_CORE_TIME_H_

#include <algorithm>
#include <chrono>

#include "absl/time/time.h"

namespace stm::internal {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  Deadline() = default;  // never
  static Deadline In(absl::Duration timeout) {
    Deadline deadline;
    if (timeout == absl::InfiniteDuration() || timeout > absl::Hours(24 * 365 * 100)) return deadline;
    deadline.at_ = Clock::now() + absl::ToChronoNanoseconds(std::max(timeout, absl::ZeroDuration()));
    return deadline;
  }
  static Deadline Earlier(Deadline a, Deadline b) { return a.at_ < b.at_ ? a : b; }

  bool never() const { return at_ == Clock::time_point::max(); }
  bool passed() const { return !never() && Clock::now() >= at_; }
  // Zero: passed.
  absl::Duration left() const {
    if (never()) return absl::InfiniteDuration();
    return std::max(absl::FromChrono(at_ - Clock::now()), absl::ZeroDuration());
  }
  friend bool operator<(Deadline a, Deadline b) { return a.at_ < b.at_; }

 private:
  Clock::time_point at_ = Clock::time_point::max();
};

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_TIME_H_
