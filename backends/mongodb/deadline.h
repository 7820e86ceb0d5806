// Deadline is a moment of the steady clock: what a call's `within` is from its beginning on. Any thread.
#ifndef STM_BACKENDS_MONGODB_DEADLINE_H_
#define STM_BACKENDS_MONGODB_DEADLINE_H_

#include <algorithm>
#include <chrono>

#include "absl/time/time.h"

namespace stm::mongodb {

class Deadline {
 public:
  explicit Deadline(absl::Duration within)
      : at_(std::chrono::steady_clock::now() +
            absl::ToChronoNanoseconds(std::clamp(within, absl::ZeroDuration(), kWithinMax))) {}

  // Negative: it has passed.
  absl::Duration Left() const { return absl::FromChrono(at_ - std::chrono::steady_clock::now()); }
  bool Passed() const { return Left() <= absl::ZeroDuration(); }
  friend bool operator<(const Deadline& a, const Deadline& b) { return a.at_ < b.at_; }

 private:
  static constexpr absl::Duration kWithinMax = absl::Hours(24);

  std::chrono::steady_clock::time_point at_;
};

}  // namespace stm::mongodb

#endif  // STM_BACKENDS_MONGODB_DEADLINE_H_
