// Together sends writes of many callers in one command: a server that makes each command durable by itself
// does so once for all of them. A caller who finds a lane free sends at once, with whatever waits; the others
// wait for theirs. Nobody waits for company. Any thread.
#ifndef STM_BACKENDS_MONGODB_TOGETHER_H_
#define STM_BACKENDS_MONGODB_TOGETHER_H_

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "backends/mongodb/deadline.h"

namespace stm::mongodb {

class Together {
 public:
  // Of one command. What is larger goes alone.
  static constexpr size_t kWritesMax = 256;
  static constexpr size_t kBytesMax = 4 << 20;

  struct Write {
    const std::string& what;
    const Deadline& deadline;
    absl::Status status;

    // Together's.
    bool taken = false;
    bool done = false;
  };
  // Sends them all, and sets the status of each, by the earliest of their deadlines.
  using Send = std::function<void(const std::vector<Write*>& writes)>;

  // Commands at once.
  explicit Together(int lanes) : lanes_(lanes) {}

  // The status of the write, sent by this or by another caller's `send`. UNAVAILABLE: its turn did not come
  // by the deadline.
  absl::Status Do(const std::string& what, const Deadline& deadline, const Send& send);

 private:
  std::vector<Write*> Take(Write* own) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int lanes_;
  absl::Mutex mutex_;
  int sending_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Write*> waiting_ ABSL_GUARDED_BY(mutex_);  // none is taken
};

}  // namespace stm::mongodb

#endif  // STM_BACKENDS_MONGODB_TOGETHER_H_
