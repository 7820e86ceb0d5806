#include "backends/local/backup.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "backends/local/crc32c.h"
#include "engine/error.h"
#include "engine/name.h"

namespace stm::local {
namespace {

using engine::ImagePart;
using engine::Version;

absl::Status Damaged(int64_t line, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("backup: line ", line, ": ", what,
                                          ": the file is damaged or was changed: restore another copy of it"));
}

}  // namespace

absl::Status OneRestoreAtOnce() {
  return engine::LimitReached("restores_max", 1, "the daemon", 2, "wait until the other restore has ended");
}

std::string BackupPrinter::Take() {
  std::string text = std::move(text_);
  text_.clear();
  crc_ = ExtendCrc32c(crc_, text);
  return text;
}

std::string BackupPrinter::Add(const ImagePart& part) {
  for (const engine::ImageEntry& entry : part.entries) printer_.Entry(entry, &text_);
  for (const engine::ImageId& id : part.ids) printer_.Id(id, &text_);
  entries_ += static_cast<int64_t>(part.entries.size());
  ids_ += static_cast<int64_t>(part.ids.size());
  return Take();
}

std::string BackupPrinter::End(Version id_floor) {
  std::string text = Take();
  printer_.SnapshotEnd(id_floor, entries_, ids_, crc_, &text);
  return text;
}

absl::StatusOr<ImagePart> BackupReader::Add(std::string_view text) {
  ImagePart part;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const size_t size = newline == std::string_view::npos ? text.size() : newline + 1;
    if (rest_.size() + size > kBackupLineBytesMax) {
      return engine::LimitReached("backup_line_bytes_max", kBackupLineBytesMax, absl::StrCat("backup: line ", line_ + 1),
                                  static_cast<int64_t>(rest_.size() + size), "give a file that `stmctl backup` made");
    }
    if (newline == std::string_view::npos) {
      rest_.append(text);
      break;
    }
    std::string_view line = text.substr(0, size);
    if (!rest_.empty()) {
      rest_.append(line);
      line = rest_;
    }
    absl::Status status = Line(line, &part);
    if (!status.ok()) return status;
    rest_.clear();
    text.remove_prefix(size);
  }
  return part;
}

// `line` with its newline.
absl::Status BackupReader::Line(std::string_view line, ImagePart* part) {
  const int64_t number = line_ + 1;
  const std::string_view body = line.substr(0, line.size() - 1);
  if (ended_) return Damaged(number, "there is more behind the end");
  if (line_ > 0 && body.substr(0, 8) == "{:floor ") {
    absl::Status status = End(body);
    if (!status.ok()) return status;
    ++line_;
    return absl::OkStatus();
  }
  absl::StatusOr<SnapshotLine> read = parser_.ParseSnapshot(body);
  if (absl::IsUnimplemented(read.status())) {
    return absl::Status(read.status().code(), absl::StrCat("backup: line ", number, ": ", read.status().message()));
  }
  if (!read.ok()) return Damaged(number, read.status().message());
  if (line_ == 0 && read->kind != SnapshotLine::Kind::kHeader) return Damaged(number, "expected {:stm/log 1 ...}");
  crc_ = ExtendCrc32c(crc_, line);
  switch (read->kind) {
    case SnapshotLine::Kind::kHeader:
      if (line_ != 0) return Damaged(number, "a first line amid the lines");
      if (read->version < 1) return Damaged(number, "it holds no version");
      summary_.store = read->store;
      summary_.version = read->version;
      summary_.at = read->at;
      break;
    case SnapshotLine::Kind::kEntry: {
      engine::ImageEntry& entry = read->entry;
      absl::Status name = engine::CheckName(entry.name);
      if (!name.ok()) return Damaged(number, name.message());
      if (engine::IsMemory(entry.name)) return Damaged(number, absl::StrCat(entry.name, " is kept in memory alone"));
      if (entry.name <= last_name_) return Damaged(number, absl::StrCat(entry.name, " is out of order"));
      if (entry.version < 1 || entry.version > summary_.version) {
        return Damaged(number, absl::StrCat("version ", entry.version, " is not within the backup's"));
      }
      last_name_ = entry.name;
      ++summary_.entries;
      part->entries.push_back(std::move(entry));
      break;
    }
    case SnapshotLine::Kind::kId:
      if (read->id.version < 1 || read->id.version > summary_.version) {
        return Damaged(number, absl::StrCat("version ", read->id.version, " is not within the backup's"));
      }
      ++summary_.ids;
      part->ids.push_back(read->id);
      break;
    case SnapshotLine::Kind::kEnd:
      return Damaged(number, "its end is not as it was written");
  }
  ++line_;
  return absl::OkStatus();
}

absl::Status BackupReader::End(std::string_view line) {
  constexpr size_t kSumBytes = 10;  // " ;12345678"
  absl::StatusOr<SnapshotLine> end = absl::DataLossError("its end is not as it was written");
  if (line.size() > kSumBytes) end = parser_.ParseSnapshot(line.substr(0, line.size() - kSumBytes));
  if (!end.ok() || end->kind != SnapshotLine::Kind::kEnd) return Damaged(line_ + 1, "its end is not as it was written");
  if (end->version > summary_.version) return Damaged(line_ + 1, "its floor is not within the backup's version");
  std::string expected;
  LinePrinter().SnapshotEnd(end->version, summary_.entries, summary_.ids, crc_, &expected);
  expected.pop_back();
  if (expected != line) return Damaged(line_ + 1, "the sum does not fit the lines before it");
  summary_.id_floor = end->version;
  ended_ = true;
  return absl::OkStatus();
}

absl::Status BackupReader::Check() const {
  if (ended_ && rest_.empty()) return absl::OkStatus();
  if (line_ == 0 && rest_.empty()) return absl::DataLossError("backup: is empty: give a file that `stmctl backup` made");
  return Damaged(line_ + 1, ended_ ? "there is more behind the end" : "its end is missing");
}

}  // namespace stm::local
