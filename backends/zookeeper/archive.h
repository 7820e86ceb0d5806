// What an archive of a cluster's log is told, and what it counts.
#ifndef STM_BACKENDS_ZOOKEEPER_ARCHIVE_H_
#define STM_BACKENDS_ZOOKEEPER_ARCHIVE_H_

#include <cstdint>

#include "absl/time/time.h"
#include "backends/local/disk.h"
#include "engine/loop.h"
#include "engine/transaction.h"

namespace stm::zookeeper {

struct ArchiveOptions {
  local::Disk* disk = nullptr;  // null: no archive
  engine::Executor* executor = nullptr;
  int64_t segment_bytes = 64 << 20;  // a file that reached this is followed by a new one
  // Of entries that are applied and not written yet: more are read from ZooKeeper again.
  int64_t pending_bytes_max = 32 << 20;
  absl::Duration retry_every = absl::Seconds(5);  // after a write that failed
  absl::Duration patience = absl::Seconds(10);    // of a reader, with the archive's being behind
};

struct ArchiveStats {
  int64_t commits = 0;  // written since the start
  int64_t bytes = 0;
  int64_t gaps = 0;             // commits that were trimmed before they were written
  int64_t failures = 0;         // writes
  engine::Version version = 0;  // the newest written
  int64_t needs = 0;            // entries of ZooKeeper's log from here on
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_ARCHIVE_H_
