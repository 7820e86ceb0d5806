#include "client/cpp/core/cancel.h"

namespace stm {

Canceller::Canceller() : state_(std::make_shared<internal::CancelState>()) {}
void Canceller::Cancel() { state_->Cancel(); }
bool Canceller::cancelled() const { return state_->cancelled(); }

namespace internal {

void CancelState::Cancel() {
  absl::MutexLock lock(&mutex_);
  if (cancelled_) return;
  cancelled_ = true;
  for (auto& [id, hook] : hooks_) hook();
  hooks_.clear();
}

bool CancelState::cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

uint64_t CancelState::Add(std::function<void()> hook) {
  absl::MutexLock lock(&mutex_);
  if (cancelled_) {
    hook();
    return 0;
  }
  uint64_t id = next_++;
  hooks_.emplace(id, std::move(hook));
  return id;
}

void CancelState::Remove(uint64_t hook) {
  absl::MutexLock lock(&mutex_);
  hooks_.erase(hook);
}

}  // namespace internal
}  // namespace stm
