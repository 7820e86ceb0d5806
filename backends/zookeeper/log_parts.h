// LogParts reads the log again by its positions: what is applied already, as far back as it is kept. On the
// Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_LOG_PARTS_H_
#define STM_BACKENDS_ZOOKEEPER_LOG_PARTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "backends/zookeeper/epoch.h"
#include "backends/zookeeper/log_tail.h"
#include "backends/zookeeper/own_tasks.h"
#include "engine/coordinator.h"
#include "engine/loop.h"

namespace stm::zookeeper {

struct LogEntry {
  int64_t position = 0;
  int64_t next = 0;  // the position of the entry behind it
  int64_t zxid = 0;
  std::string data;  // empty: the epoch moves
};

// The entry's commits with their versions, of a store whose versions begin at `base`; none if it moves the
// epoch.
absl::StatusOr<engine::Batch> CommitsOf(const LogEntry& entry, engine::Version base);

// Where the log goes on behind an entry that moves the epoch.
int64_t NextOf(int64_t position, const Epoch& moved_to);

// Entries in order, from the one that was asked for.
struct LogPart {
  std::vector<LogEntry> entries;
  bool lost = false;  // the one that was asked for is trimmed, and there are none
  int64_t next = 0;   // read on here
};

// Positions of a segment's entries that are kept and applied.
struct LogRange {
  int64_t first = 0;
  int64_t end = 0;
};

// The first entry that is not older than what is looked for.
struct LogPlace {
  bool any = false;
  int64_t position = 0;  // none: of the entry that comes next
  int64_t zxid = 0;
  bool oldest = false;  // nothing before it is kept
};

class LogParts {
 public:
  // Of one Read.
  static constexpr int64_t kEntriesMax = 32;

  // Both outlive it.
  LogParts(engine::Loop* loop, LogTail* tail) : loop_(loop), tail_(tail) {}

  // No `done` comes once the tail has stopped, or while there is no connection.
  // Entries at and behind `position` and below `end`, which are applied: some, unless it says where to read
  // on.
  void Read(int64_t position, int64_t end, absl::AnyInvocable<void(LogPart)> done);
  // Oldest first.
  void Look(absl::AnyInvocable<void(std::vector<LogRange>)> done);
  void Find(int64_t zxid, absl::AnyInvocable<void(LogPlace)> done);

 private:
  struct Finding;
  void FindOn(std::shared_ptr<Finding> finding);

  engine::Loop* const loop_;
  LogTail* const tail_;
  OwnTasks tasks_{loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_LOG_PARTS_H_
