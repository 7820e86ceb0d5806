#include "client/cpp/core/pool.h"

#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace stm::internal {

struct Pool::State {
  absl::Mutex mutex;
  absl::CondVar changed;
  std::deque<std::function<void()>> queue ABSL_GUARDED_BY(mutex);
  std::vector<std::thread> threads ABSL_GUARDED_BY(mutex);
  int idle ABSL_GUARDED_BY(mutex) = 0;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  int threads_max = 1;
};

Pool::Pool(int threads_max) : state_(std::make_shared<State>()) { state_->threads_max = std::max(threads_max, 1); }

Pool::~Pool() {
  std::vector<std::thread> threads;
  {
    absl::MutexLock lock(&state_->mutex);
    state_->stopping = true;
    state_->changed.SignalAll();
    threads = std::move(state_->threads);
  }
  for (std::thread& thread : threads) {
    if (thread.get_id() == std::this_thread::get_id()) {
      thread.detach();
    } else {
      thread.join();
    }
  }
}

void Pool::Run(std::function<void()> work) {
  absl::MutexLock lock(&state_->mutex);
  state_->queue.push_back(std::move(work));
  if (state_->idle >= static_cast<int>(state_->queue.size()) ||
      static_cast<int>(state_->threads.size()) >= state_->threads_max) {
    state_->changed.Signal();
    return;
  }
  // The thread owns the state, not the pool: the pool may end on it.
  state_->threads.emplace_back([state = state_] {
    for (;;) {
      std::function<void()> next;
      {
        absl::MutexLock lock(&state->mutex);
        ++state->idle;
        while (state->queue.empty() && !state->stopping) state->changed.Wait(&state->mutex);
        --state->idle;
        if (state->queue.empty()) return;
        next = std::move(state->queue.front());
        state->queue.pop_front();
      }
      next();
    }
  });
}

}  // namespace stm::internal
