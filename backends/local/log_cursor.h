// SegmentReader serves the log's commits out of its files while the writer appends to them: never past what
// the extent says is durable. Thread-safe; blocking; off the Loop. A cursor serves one thread at a time. An
// operation's value needs the lines before it in the same segment, so a cursor reads each segment from its
// start.
#ifndef STM_BACKENDS_LOCAL_LOG_CURSOR_H_
#define STM_BACKENDS_LOCAL_LOG_CURSOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/disk.h"
#include "backends/local/log_extent.h"
#include "engine/coordinator.h"

namespace stm::local {

// Values known from one segment are kept for `before` in the next one up to this many bytes.
inline constexpr size_t kCursorValuesBytesMax = 64 << 20;

class SegmentReader {
 public:
  // Both outlive the reader and its cursors. `shorten`: a canary.
  SegmentReader(Disk* disk, const LogExtent* extent, bool shorten = false)
      : disk_(disk), extent_(extent), shorten_(shorten) {}

  // As engine::LogReader's, which are its coordinator's.
  engine::Version FirstVersion();
  absl::StatusOr<std::unique_ptr<engine::LogCursor>> Open(engine::Version from);
  // Each commit is shown with the change of `name` alone.
  absl::StatusOr<std::vector<engine::LogCursor::Item>> History(const std::string& name,
                                                               engine::Version before, size_t limit);

 private:
  // The commits of one segment that changed `name`, oldest first; the first one's `before` may be unknown.
  absl::StatusOr<std::vector<engine::LogCursor::Item>> HistoryOfSegment(const Segment& segment,
                                                                        const std::string& name,
                                                                        engine::Version before);

  Disk* const disk_;
  const LogExtent* const extent_;
  const bool shorten_;
};

// Values of entries as a reading of the log from some line on knows them.
class ReplayedValues {
 public:
  // `from_beginning`: no commit was before those that are replayed, so what is not known is absent.
  explicit ReplayedValues(bool from_beginning) : complete_(from_beginning) {}

  // Fills in the values of operations, and kinds where they are known; checks their hashes, and tells the
  // values before. DATA_LOSS names the entry.
  absl::StatusOr<engine::LogCursor::Item> Replay(std::shared_ptr<engine::CommitRecord> commit);
  // Between segments: forgets, if there is too much.
  void Bound();

 private:
  struct Known {
    bool value_known = false;
    std::optional<Value> value;
    std::optional<engine::EntryKind> kind;  // told where an entry is created or defined
  };

  absl::flat_hash_map<std::string, Known> entries_;
  size_t bytes_ = 0;
  bool complete_;
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_LOG_CURSOR_H_
