// What a local coordinator is told: bounds by the names of their settings, and planted bugs.
#ifndef STM_BACKENDS_LOCAL_OPTIONS_H_
#define STM_BACKENDS_LOCAL_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace stm::local {

// Each proves that a checker can fail. All off in the program; tests/simulation sets them.
struct LocalCanaries {
  bool skip_sync = false;                // answers with no sync behind the write
  bool answer_before_write = false;      // answers, then writes
  bool snapshot_before_sync = false;     // a snapshot is under its name before the log is synced up to it
  bool accept_torn_lines = false;        // recovery believes what can be read, whatever its sum
  bool cut_acknowledged_line = false;    // what is cut with a torn tail begins a commit too early
  bool drop_uncovered_segments = false;  // old log files go before a snapshot covers them
  bool drop_above_floor = false;         // old log files go with ids that may still be resent
  bool restore_before_sync = false;      // a restore is under its name, and told, before it is synced
  bool shorten_log_reads = false;        // a reading from a dropped version begins at what is left
};

struct LocalOptions {
  int64_t segment_bytes = 64 << 20;    // a log file that reached this is followed by a new one
  int64_t snapshot_bytes = 256 << 20;  // of log between snapshots; 0: only on request
  // The active file is written ahead with newlines this far, since a sync into blocks that were written
  // before is about twice as fast; 0: not.
  int64_t prefill_bytes = 1 << 20;
  int64_t ballast_bytes = 16 << 20;  // kept on disk for snapshots when it is full; 0: none
  absl::Duration log_keep_age = absl::InfiniteDuration();  // --log-keep; infinite: all
  absl::Duration log_drop_every = absl::Seconds(10);       // at most so often files to drop are looked for
  size_t image_items_per_task = 1000;                      // of a snapshot, read on the Loop at once
  size_t recover_commits_per_task = 10000;                 // installed on the Loop at once
  // Called once, on the Loop, after a failed sync or an error that leaves the log's state unknown: nothing is
  // answered any more, and the process ends.
  std::function<void(absl::Status)> fatal;
  // What each sync of a batch took. Off the Loop, one at a time.
  std::function<void(absl::Duration)> sync_observed;
  LocalCanaries canaries;
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_OPTIONS_H_
