// Position is what the client knows of the daemon's time: the store, the writer that new ids name, and the newest
// version in any answer (seen). Seen only grows within one store; another store is only taken by Adopt. Any thread.
#ifndef STM_CLIENT_CPP_CORE_POSITION_H_
#define STM_CLIENT_CPP_CORE_POSITION_H_

#include <algorithm>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "stm/v1/common.pb.h"

namespace stm::internal {

class Position {
 public:
  struct Known {
    uint64_t store = 0;
    uint64_t writer = 0;
    int64_t seen = 0;
  };

  Known Get() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return known_;
  }

  // Of an answer on the connection that is in use. Headers of another store are ignored.
  void Observe(const v1::Header& header) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (header.store() != known_.store) return;
    known_.seen = std::max<int64_t>(known_.seen, header.installed_version());
    if (header.writer() != 0) known_.writer = header.writer();
  }
  void ObserveVersion(uint64_t store, int64_t version) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (store == known_.store) known_.seen = std::max(known_.seen, version);
  }

  // Of a new connection, or of an answer STORE_CHANGED: versions of another store mean nothing any more.
  void Adopt(const v1::Header& header) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (header.store() != known_.store) known_ = Known{header.store(), 0, 0};
    known_.seen = std::max<int64_t>(known_.seen, header.installed_version());
    if (header.writer() != 0) known_.writer = header.writer();
  }

 private:
  mutable absl::Mutex mutex_;
  Known known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_POSITION_H_
