// Recovery reads a data directory back: the newest whole snapshot, then every commit of the log above it, in
// chunks. What a crash tore off the log's end, and nobody was ever told of, is left out; what was durable and
// is damaged is DATA_LOSS with file, line and remedy. It changes nothing but leftovers of files that were
// never finished: the cut itself is the writer's (log_writer.h). Off the Loop, one thread at a time;
// blocking.
//
// A bad line is one whose sum is wrong, or a blank one with anything behind it. It is torn, and cut there,
// only if it is in the newest file and nothing proves that a line from it on was durable: no later good
// line's trailer names a version above the last good one, no :stop or :start line follows (both are written
// when all before is whole), no snapshot is newer. The lines of one batch all carry the trailer of before the
// batch, so a torn batch proves nothing for itself; and it was never answered.
#ifndef STM_BACKENDS_LOCAL_RECOVERY_H_
#define STM_BACKENDS_LOCAL_RECOVERY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/disk.h"
#include "backends/local/line_reader.h"
#include "backends/local/log_extent.h"
#include "backends/local/log_format.h"
#include "backends/local/options.h"
#include "backends/local/snapshot.h"
#include "engine/coordinator.h"

namespace stm::local {

// What a directory holds, once all of it is read: what the writer goes on from.
struct Recovered {
  uint64_t store = 0;             // 0: an empty directory, or one whose first file was never finished
  engine::Version last = 0;       // the newest commit
  engine::Version used = 0;       // no version at or below may be given again
  std::vector<Segment> segments;  // the last one is appended to
  // Files without a commit, of the store that a restore replaced: to be removed once there is a segment of
  // this one.
  std::vector<std::string> replaced;
  uint64_t tail_size = 0;       // bytes of the last file; those behind its segment's end are cut
  bool tail_terminated = true;  // false: the last line lacks its newline
  int64_t torn_line =
      0;  // 0: nothing was torn. Else the line of the last file that is cut, with all behind it
  std::vector<engine::Version> snapshots;  // whole ones, ascending
  int64_t commits = 0;                     // that were fed
  uint64_t bytes_since_snapshot = 0;       // of log
};

struct RecoveredCommit {
  std::shared_ptr<engine::CommitRecord> commit;
  int64_t line = 0;
};

struct RecoveryChunk {
  engine::ImagePart image;
  std::optional<SnapshotSummary> image_end;  // the image is whole with this
  std::string path;                          // of the file that the commits are in
  std::vector<RecoveredCommit> commits;
  bool end = false;
};

class Recovery {
 public:
  enum class Reads : uint8_t {
    kAll,         // what the store comes to
    kNewestFile,  // only where the log goes on: the headers of all files, the commits of the newest; no
                  // snapshot
  };
  // The disk is locked. Both outlive the Recovery.
  Recovery(Disk* disk, const LocalOptions* options, Reads reads = Reads::kAll)
      : disk_(disk), options_(options), reads_(reads) {}

  // The next chunk. DATA_LOSS, UNIMPLEMENTED: file, line, what, and what to do.
  absl::StatusOr<RecoveryChunk> Next();
  // After the chunk with `end`.
  Recovered Take() { return std::move(recovered_); }

 private:
  enum class Phase : uint8_t { kOpen, kImage, kLog, kEnd };

  absl::Status Open();
  absl::Status ReadHeaders(const std::vector<engine::Version>& firsts);
  absl::StatusOr<bool> HasCommits(const std::string& name);
  // Is there such a line in the file?
  absl::StatusOr<bool> AnyLine(const std::string& name, absl::FunctionRef<bool(std::string_view)> is);
  absl::Status OpenSegment();
  absl::Status ReadLog(RecoveryChunk* chunk);
  absl::Status FinishSegment();
  // The line at `number` is bad: what follows decides. OK: it is torn, and the log ends before it.
  absl::Status Judge(int64_t number, uint64_t offset, const std::string& what);
  absl::Status Damaged(int64_t number, const std::string& what) const;
  std::string path() const { return disk_->Path(recovered_.segments[segment_].name); }

  Disk* const disk_;
  const LocalOptions* const options_;
  const Reads reads_;
  Phase phase_ = Phase::kOpen;
  Recovered recovered_;
  std::optional<SnapshotSummary> snapshot_;
  std::unique_ptr<SnapshotReader> image_;
  bool later_file_unfinished_ =
      false;  // a file behind the last segment was begun: so all before it was durable

  // The segment being read.
  size_t segment_ = 0;
  std::unique_ptr<File> file_;
  std::unique_ptr<LineReader> lines_;
  LineParser parser_;
  int64_t line_ = 0;
  uint64_t good_end_ = 0;
  uint64_t commit_begin_ = 0;  // of the last good commit's line; 0: none
  bool terminated_ = true;
  int64_t blank_line_ = 0;  // the first blank one since the last good one; 0: none
  uint64_t blank_offset_ = 0;
};

// The first line of a log file. DATA_LOSS: it is no whole header (`torn`: a crash may have left it so).
// UNIMPLEMENTED.
struct LogHeaderLine {
  uint64_t store = 0;
  engine::Version first = 0;
  engine::Version before = 0;
};
absl::StatusOr<LogHeaderLine> ReadLogHeader(Disk* disk, const std::string& name, bool* torn);

// Removes a file; OK: no power loss brings it back.
absl::Status RemoveDurably(Disk* disk, const std::string& name);

// Does the line, or what follows a lost newline or zeros in it, carry a good trailer? Its version; of a :stop
// or :start: the highest there is.
std::optional<engine::Version> DurableProvedBy(std::string_view line);

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_RECOVERY_H_
