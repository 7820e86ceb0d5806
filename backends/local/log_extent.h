// LogExtent is what of the log may be read now: its segments, oldest first, and how far the newest is
// durable. The writer moves it on after each sync; readers ask it and never look past it. Thread-safe.
// Always: segments ascend by `first`; only the last one grows; none is named before its header is durable.
#ifndef STM_BACKENDS_LOCAL_LOG_EXTENT_H_
#define STM_BACKENDS_LOCAL_LOG_EXTENT_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/transaction.h"

namespace stm::local {

struct Segment {
  std::string name;            // of the file
  engine::Version first = 0;   // every version in it is at or above
  engine::Version before = 0;  // the last version before this segment; 0: none
  uint64_t end = 0;            // bytes that may be read
};

class LogExtent {
 public:
  struct State {
    std::vector<Segment> segments;
    engine::Version last = 0;  // the newest durable version
  };

  void Set(State state) {
    absl::MutexLock hold(&mutex_);
    state_ = std::move(state);
  }
  void Advance(uint64_t end, engine::Version last) {
    absl::MutexLock hold(&mutex_);
    state_.segments.back().end = end;
    state_.last = last;
  }
  void Add(Segment segment) {
    absl::MutexLock hold(&mutex_);
    state_.segments.push_back(std::move(segment));
  }
  // The oldest goes; the newest never.
  void DropFirst() {
    absl::MutexLock hold(&mutex_);
    assert(state_.segments.size() > 1);
    state_.segments.erase(state_.segments.begin());
  }

  State Get() const {
    absl::MutexLock hold(&mutex_);
    return state_;
  }
  size_t segments() const {
    absl::MutexLock hold(&mutex_);
    return state_.segments.size();
  }
  // The bytes of all segments.
  uint64_t bytes() const {
    absl::MutexLock hold(&mutex_);
    uint64_t sum = 0;
    for (const Segment& segment : state_.segments) sum += segment.end;
    return sum;
  }

 private:
  mutable absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_LOG_EXTENT_H_
