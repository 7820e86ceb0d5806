// Snapshots: files that hold what was installed at a version, so that recovery begins there. SnapshotWriter
// makes one under a temporary name and renames it when all of it is durable; one whose last line does not sum
// up all before it never counts. Blocking, off the Loop, one thread at a time.
#ifndef STM_BACKENDS_LOCAL_SNAPSHOT_H_
#define STM_BACKENDS_LOCAL_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/disk.h"
#include "backends/local/line_reader.h"
#include "backends/local/log_format.h"
#include "engine/coordinator.h"

namespace stm::local {

inline constexpr char kTemporarySuffix[] = ".tmp";

class SnapshotWriter {
 public:
  // `temporary`: its name until it is whole, which ends in kTemporarySuffix. `make_room`: called when there is none;
  // true: try again. `skip_sync`: a canary.
  SnapshotWriter(Disk* disk, std::string temporary, uint64_t store, engine::Version version, Instant at,
                 absl::AnyInvocable<bool()> make_room, bool skip_sync = false);
  // Removes what was not finished.
  ~SnapshotWriter();

  // RESOURCE_EXHAUSTED: no room. After an error the snapshot is given up.
  absl::Status Add(const engine::ImagePart& part);
  // After the last part. When it returns OK the snapshot is durable under its name. sync_failed() tells an
  // error that leaves the disk's state unknown.
  absl::Status Finish(engine::Version id_floor);
  bool sync_failed() const { return sync_failed_; }

 private:
  absl::Status Flush();
  absl::Status Sync();

  Disk* const disk_;
  const std::string name_;
  const std::string temporary_;
  absl::AnyInvocable<bool()> make_room_;
  const bool skip_sync_;
  LinePrinter printer_;
  std::unique_ptr<File> file_;
  std::string buffer_;
  uint64_t offset_ = 0;
  uint64_t synced_ = 0;
  uint32_t crc_ = 0;
  int64_t entries_ = 0;
  int64_t ids_ = 0;
  bool sync_failed_ = false;
  bool finished_ = false;
};

// The last line of a snapshot, and its first, after a look at every byte: its sum, its store and version.
// DATA_LOSS: it is not whole. UNIMPLEMENTED: of a newer build.
struct SnapshotSummary {
  uint64_t store = 0;
  engine::Version version = 0;
  Instant at;
  engine::Version id_floor = 0;
  int64_t entries = 0;
  int64_t ids = 0;
};
absl::StatusOr<SnapshotSummary> CheckSnapshot(Disk* disk, const std::string& name);

// Reads a checked snapshot, in parts.
class SnapshotReader {
 public:
  static absl::StatusOr<std::unique_ptr<SnapshotReader>> Open(Disk* disk, const std::string& name);
  // About `items_max` entries and ids; both empty: there is no more.
  absl::StatusOr<engine::ImagePart> Next(size_t items_max);

 private:
  SnapshotReader(std::string path, std::unique_ptr<File> file)
      : path_(std::move(path)), file_(std::move(file)), lines_(file_.get()) {}

  const std::string path_;
  const std::unique_ptr<File> file_;
  LineReader lines_;
  LineParser parser_;
  int64_t line_ = 0;
  bool ended_ = false;
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_SNAPSHOT_H_
