// Backups: a snapshot's text, given out and taken in as a stream instead of a file. BackupPrinter makes it of an image;
// BackupReader takes it, in pieces cut anywhere, and gives back the image's parts, each line checked. What was read counts
// only once Check says that the last line sums up all before it. Pure; one thread at a time.
#ifndef STM_BACKENDS_LOCAL_BACKUP_H_
#define STM_BACKENDS_LOCAL_BACKUP_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/log_format.h"
#include "backends/local/snapshot.h"
#include "engine/coordinator.h"

namespace stm::local {

// A line holds one entry; no value comes near.
inline constexpr size_t kBackupLineBytesMax = 256 << 20;

// What a restore is written to until it is whole.
inline constexpr char kRestoreName[] = "restore.tmp";

// RESOURCE_EXHAUSTED.
absl::Status OneRestoreAtOnce();

class BackupPrinter : public engine::Archive::Printer {
 public:
  BackupPrinter(uint64_t store, engine::Version version, Instant at) {
    printer_.SnapshotHeader(store, version, at, &text_);
  }
  std::string Add(const engine::ImagePart& part) override;
  std::string End(engine::Version id_floor) override;

 private:
  std::string Take();

  LinePrinter printer_;
  std::string text_;
  uint32_t crc_ = 0;
  int64_t entries_ = 0;
  int64_t ids_ = 0;
};

class BackupReader {
 public:
  // What of the image the text completes. DATA_LOSS: the line at fault, and why; UNIMPLEMENTED: of a newer build;
  // RESOURCE_EXHAUSTED: backup_line_bytes_max.
  absl::StatusOr<engine::ImagePart> Add(std::string_view text);
  // DATA_LOSS: the end is missing.
  absl::Status Check() const;

  bool begun() const { return line_ > 0; }  // the first line was read: version and at are known
  engine::Version version() const { return summary_.version; }
  Instant at() const { return summary_.at; }
  engine::Version id_floor() const { return summary_.id_floor; }
  int64_t entries() const { return summary_.entries; }  // tombstones too

 private:
  absl::Status Line(std::string_view line, engine::ImagePart* part);
  absl::Status End(std::string_view line);

  LineParser parser_;
  std::string rest_;  // of a line whose end has not come
  SnapshotSummary summary_;
  std::string last_name_;
  uint32_t crc_ = 0;
  int64_t line_ = 0;
  bool ended_ = false;
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_BACKUP_H_
