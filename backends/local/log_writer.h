// LogWriter appends batches to the newest segment: one write and one sync a batch, then they are durable and
// the extent says so. It starts new segments, and writes the active one ahead with newlines (prefill). Start,
// Append and Stop: off the Loop, one at a time, each seeing what the one before left. Prefill: off the Loop,
// beside them. Blocking. Always: a batch lies in one segment; what is behind end_ in the file is newlines or
// a batch that nobody was told of.
#ifndef STM_BACKENDS_LOCAL_LOG_WRITER_H_
#define STM_BACKENDS_LOCAL_LOG_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "backends/local/disk.h"
#include "backends/local/log_extent.h"
#include "backends/local/log_format.h"
#include "backends/local/options.h"
#include "backends/local/recovery.h"
#include "engine/coordinator.h"
#include "engine/loop.h"

namespace stm::local {

class LogWriter {
 public:
  enum class Outcome : uint8_t {
    kDurable,
    kNoSpace,  // nothing of it is in the log; later ones may go through
    kBroken,   // the log's state is unknown: stop
  };
  struct Result {
    Outcome outcome = Outcome::kDurable;
    absl::Status status;          // unless kDurable: file and error
    uint64_t bytes = 0;           // written
    bool prefill_wanted = false;  // run Prefill, once, beside the appends
    bool segment_started = false;
  };

  LogWriter(Disk* disk, const LocalOptions* options, engine::Loop* loop, LogExtent* extent)
      : disk_(disk), options_(options), loop_(loop), extent_(extent) {}

  // Cuts what recovery found torn, makes the first file of a new store, removes what a restore replaced, and writes
  // the :start line. `store` is the recovered one, or a new one's. Again after a restore.
  absl::Status Start(const Recovered& recovered, uint64_t store, uint64_t writer);
  // All batches with one write and one sync; their records have their versions.
  Result Append(const std::vector<const engine::Batch*>& batches);
  // The :stop line; no prefill behind it. No Prefill runs any more.
  absl::Status Stop();

  // OK: done for now, or not possible (then nothing is lost). Else kBroken's status.
  absl::Status Prefill();

 private:
  absl::Status CutTorn(const Recovered& recovered, const std::string& name);
  // A new file with its header, durable, becomes the active segment. RESOURCE_EXHAUSTED: no room, and nothing
  // of it is left.
  absl::Status CreateSegment(engine::Version first);
  Result StartSegment(engine::Version first);
  Result Undo(const absl::Status& no_space);
  static Result Broken(absl::Status status);
  // From now on the file at and behind `end` is the writer's own; prefill keeps out.
  void Reserve(uint64_t end) ABSL_LOCKS_EXCLUDED(mutex_);
  // Prefill stops, and what it wrote counts for nothing. From now on it may write ahead in the file `name`;
  // "": in none.
  void EndPrefill(std::string name, uint64_t end) ABSL_LOCKS_EXCLUDED(mutex_);

  Disk* const disk_;
  const LocalOptions* const options_;
  engine::Loop* const loop_;
  LogExtent* const extent_;

  uint64_t store_ = 0;
  std::string name_;  // of the active segment
  std::unique_ptr<File> file_;
  uint64_t end_ = 0;           // of what is durable
  bool has_commits_ = false;   // the active segment
  bool newline_owed_ = false;  // its last line lacks one
  engine::Version durable_ = 0;
  engine::Version used_ = 0;
  LinePrinter printer_;
  RootedNames rooted_;
  std::string buffer_;

  absl::Mutex mutex_;
  std::string prefill_name_ ABSL_GUARDED_BY(mutex_);   // the file that may be prefilled; "": none
  uint64_t reserved_end_ ABSL_GUARDED_BY(mutex_) = 0;  // of what the writer writes, or wrote
  uint64_t prefill_end_ ABSL_GUARDED_BY(mutex_) =
      0;  // newlines stand from reserved_end_ to here, if it is above
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_LOG_WRITER_H_
