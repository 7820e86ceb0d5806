// KeptLog reads commits out of ZooKeeper's log, as far back as that is kept: what a daemon without an archive
// serves. Off the Loop, any thread, and blocking, for kPatience at most a read; CatchUp on the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_KEPT_LOG_H_
#define STM_BACKENDS_ZOOKEEPER_KEPT_LOG_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backends/zookeeper/log_parts.h"
#include "backends/zookeeper/log_tail.h"
#include "engine/coordinator.h"
#include "engine/loop.h"

namespace stm::zookeeper {

class KeptLog final : public engine::LogReader {
 public:
  static constexpr absl::Duration kPatience = absl::Seconds(5);

  // Both outlive it.
  KeptLog(engine::Loop* loop, LogTail* tail) : loop_(loop), tail_(tail), parts_(loop, tail) {}

  // All that is installed came out of it.
  void CatchUp(absl::AnyInvocable<void(absl::Status)> done) override { done(absl::OkStatus()); }
  // As when it was last looked, which is soon after it was asked; 0: never. Does not wait.
  engine::Version FirstVersion() override;
  absl::StatusOr<std::unique_ptr<engine::LogCursor>> Open(engine::Version from) override;
  // Each commit is shown with the change of `name` alone. The log is read from its end on.
  absl::StatusOr<std::vector<engine::LogCursor::Item>> History(const std::string& name,
                                                               engine::Version before, size_t limit) override;

 private:
  class Cursor;
  struct Oldest {
    engine::Version version = 0;  // none is older; 0: there are none
    bool of_all = false;          // nothing came before it
  };

  // Has it asked on the Loop, and waits. UNAVAILABLE: there is no connection, or no answer in time.
  template <typename T>
  absl::StatusOr<T> Await(absl::AnyInvocable<void(absl::AnyInvocable<void(T)>)> ask);
  absl::StatusOr<Oldest> FindOldest();
  void Found(const LogPlace& oldest, int64_t trimmed);

  std::atomic<engine::Version> first_{0};
  engine::Loop* const loop_;
  LogTail* const tail_;
  LogParts parts_;
  // On the Loop: what of the log was trimmed when first_ was looked for.
  int64_t trimmed_ = -1;
  bool looking_ = false;
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_KEPT_LOG_H_
