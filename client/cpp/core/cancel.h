// CancelState is what copies of a Canceller share: a flag, and what to do once it is raised. Any thread.
#ifndef STM_CLIENT_CPP_CORE_CANCEL_H_
#define STM_CLIENT_CPP_CORE_CANCEL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "stm/options.h"

namespace stm::internal {

class CancelState {
 public:
  void Cancel() ABSL_LOCKS_EXCLUDED(mutex_);
  bool cancelled() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Calls `hook` when cancelled, at once if it is already; not any more after Remove returns. 0: was called at once.
  uint64_t Add(std::function<void()> hook) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(uint64_t hook) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, std::function<void()>> hooks_ ABSL_GUARDED_BY(mutex_);  // called under the mutex: they are short
};

// A hook for as long as it lives; nothing without a canceller.
class CancelHook {
 public:
  CancelHook(const std::optional<Canceller>& canceller, std::function<void()> hook) {
    if (!canceller.has_value()) return;
    state_ = canceller->state();
    id_ = state_->Add(std::move(hook));
  }
  CancelHook(const CancelHook&) = delete;
  CancelHook& operator=(const CancelHook&) = delete;
  ~CancelHook() {
    if (state_ != nullptr && id_ != 0) state_->Remove(id_);
  }

 private:
  std::shared_ptr<CancelState> state_;
  uint64_t id_ = 0;
};

inline bool IsCancelled(const std::optional<Canceller>& canceller) {
  return canceller.has_value() && canceller->cancelled();
}

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_CANCEL_H_
