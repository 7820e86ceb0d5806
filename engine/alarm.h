// Alarm rings at the earliest of the times it was set to, then is unset until it is set again. The Loop's timers cannot be
// taken back: one that an earlier time has overtaken does nothing, so that timers never grow in number while there is
// always something to wait for. Lives on the Loop; no locks.
#ifndef STM_ENGINE_ALARM_H_
#define STM_ENGINE_ALARM_H_

#include <functional>
#include <utility>

#include "absl/time/time.h"
#include "engine/loop.h"

namespace stm::engine {

class Alarm {
 public:
  // Outlived by the loop, whose timers do not run after it.
  Alarm(Loop* loop, std::function<void()> ring) : loop_(loop), ring_(std::move(ring)) {}

  // InfiniteDuration: never.
  void Set(absl::Duration when) {
    if (when >= at_) return;
    at_ = when;
    loop_->At(when, [this, when] {
      if (at_ != when) return;
      at_ = absl::InfiniteDuration();
      ring_();
    });
  }

 private:
  Loop* const loop_;
  const std::function<void()> ring_;
  absl::Duration at_ = absl::InfiniteDuration();
};

}  // namespace stm::engine

#endif  // STM_ENGINE_ALARM_H_
