#include "backends/local/snapshot.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/crc32c.h"

namespace stm::local {
namespace {

constexpr size_t kFlushBytes = 1 << 20;
// One sync of a large file at its end would hold up the log's own.
constexpr uint64_t kSyncEveryBytes = 8 << 20;
constexpr size_t kEndBytesMax = 4096;

absl::Status AtLine(const std::string& path, int64_t line, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ":", line, ": ", status.message()));
}

}  // namespace

SnapshotWriter::SnapshotWriter(Disk* disk, std::string temporary, uint64_t store, engine::Version version,
                               Instant at, absl::AnyInvocable<bool()> make_room, bool skip_sync)
    : disk_(disk),
      name_(SnapshotName(version)),
      temporary_(std::move(temporary)),
      make_room_(std::move(make_room)),
      skip_sync_(skip_sync) {
  printer_.SnapshotHeader(store, version, at, &buffer_);
}

SnapshotWriter::~SnapshotWriter() {
  if (file_ == nullptr || finished_) return;
  file_.reset();
  // What is left of it the next start removes.
  disk_->Remove(temporary_).IgnoreError();
}

absl::Status SnapshotWriter::Sync() {
  absl::Status status = file_->Sync();
  if (!status.ok()) sync_failed_ = true;
  synced_ = offset_;
  return status;
}

absl::Status SnapshotWriter::Flush() {
  crc_ = ExtendCrc32c(crc_, buffer_);
  if (file_ == nullptr) {
    absl::Status left_over = disk_->Remove(temporary_);
    if (!left_over.ok() && !absl::IsNotFound(left_over)) return left_over;
    absl::StatusOr<std::unique_ptr<File>> file = disk_->Create(temporary_);
    if (absl::IsResourceExhausted(file.status()) && make_room_()) file = disk_->Create(temporary_);
    if (!file.ok()) return file.status();
    file_ = *std::move(file);
  }
  absl::Status status = file_->Write(offset_, buffer_);
  if (absl::IsResourceExhausted(status) && make_room_()) status = file_->Write(offset_, buffer_);
  if (!status.ok()) return status;
  offset_ += buffer_.size();
  buffer_.clear();
  return offset_ - synced_ >= kSyncEveryBytes ? Sync() : absl::OkStatus();
}

absl::Status SnapshotWriter::Add(const engine::ImagePart& part) {
  for (const engine::ImageEntry& entry : part.entries) {
    printer_.Entry(entry, &buffer_);
    if (buffer_.size() >= kFlushBytes) {
      absl::Status status = Flush();
      if (!status.ok()) return status;
    }
  }
  for (const engine::ImageId& id : part.ids) printer_.Id(id, &buffer_);
  entries_ += static_cast<int64_t>(part.entries.size());
  ids_ += static_cast<int64_t>(part.ids.size());
  return buffer_.size() >= kFlushBytes ? Flush() : absl::OkStatus();
}

absl::Status SnapshotWriter::Finish(engine::Version id_floor) {
  absl::Status status = Flush();
  if (!status.ok()) return status;
  printer_.SnapshotEnd(id_floor, entries_, ids_, crc_, &buffer_);
  status = Flush();
  if (!status.ok()) return status;
  if (!skip_sync_) status = Sync();
  if (!status.ok()) return status;
  status = disk_->Rename(temporary_, name_);
  if (!status.ok()) return status;
  finished_ = true;
  status = disk_->SyncDirectory();
  if (!status.ok()) sync_failed_ = true;
  return status;
}

absl::StatusOr<SnapshotSummary> CheckSnapshot(Disk* disk, const std::string& name) {
  const std::string path = disk->Path(name);
  absl::StatusOr<std::unique_ptr<File>> file = disk->Open(name);
  if (!file.ok()) return file.status();
  absl::StatusOr<uint64_t> size = (*file)->Size();
  if (!size.ok()) return size.status();

  LineParser parser;
  LineReader first(file->get());
  LineReader::Line line;
  absl::StatusOr<bool> got = first.Next(&line);
  if (!got.ok()) return got.status();
  if (!*got) return absl::DataLossError(absl::StrCat(path, ": is empty"));
  absl::StatusOr<SnapshotLine> header = parser.ParseSnapshot(line.text);
  if (!header.ok()) return AtLine(path, 1, header.status());
  if (header->kind != SnapshotLine::Kind::kHeader) {
    return absl::DataLossError(absl::StrCat(path, ":1: expected {:stm/log 1 ...}"));
  }
  if (ParseSnapshotName(name) != header->version) {
    return absl::DataLossError(
        absl::StrCat(path, ":1: holds version ", header->version, ", which its name is not"));
  }

  // The last line begins behind the last newline but one.
  absl::StatusOr<std::string> tail =
      (*file)->Read(*size > kEndBytesMax ? *size - kEndBytesMax : 0, kEndBytesMax);
  if (!tail.ok()) return tail.status();
  if (tail->empty() || tail->back() != '\n')
    return absl::DataLossError(absl::StrCat(path, ": its end is missing"));
  tail->pop_back();
  size_t newline = tail->rfind('\n');
  std::string_view end_text =
      newline == std::string::npos ? std::string_view() : std::string_view(*tail).substr(newline + 1);
  constexpr size_t kSumBytes = 10;  // " ;12345678"
  absl::StatusOr<SnapshotLine> end = absl::DataLossError("its end is missing");
  if (end_text.size() > kSumBytes)
    end = parser.ParseSnapshot(end_text.substr(0, end_text.size() - kSumBytes));
  if (!end.ok() || end->kind != SnapshotLine::Kind::kEnd) {
    return absl::DataLossError(absl::StrCat(path, ": its end is missing"));
  }
  const uint64_t summed = *size - end_text.size() - 1;
  uint32_t crc = 0;
  for (uint64_t at = 0; at < summed;) {
    absl::StatusOr<std::string> block =
        (*file)->Read(at, static_cast<size_t>(std::min<uint64_t>(kReadBlockBytes, summed - at)));
    if (!block.ok()) return block.status();
    if (block->empty()) return absl::DataLossError(absl::StrCat(path, ": ends at ", at));
    crc = ExtendCrc32c(crc, *block);
    at += block->size();
  }
  std::string expected;
  LinePrinter().SnapshotEnd(end->version, end->entries, end->ids, crc, &expected);
  expected.pop_back();
  if (expected != end_text) {
    return absl::DataLossError(
        absl::StrCat(path, ": its sum does not fit: it was changed after it was written"));
  }
  return SnapshotSummary{header->store, header->version, header->at, end->version, end->entries, end->ids};
}

absl::StatusOr<std::unique_ptr<SnapshotReader>> SnapshotReader::Open(Disk* disk, const std::string& name) {
  absl::StatusOr<std::unique_ptr<File>> file = disk->Open(name);
  if (!file.ok()) return file.status();
  return std::unique_ptr<SnapshotReader>(new SnapshotReader(disk->Path(name), *std::move(file)));
}

absl::StatusOr<engine::ImagePart> SnapshotReader::Next(size_t items_max) {
  engine::ImagePart part;
  while (!ended_ && part.entries.size() + part.ids.size() < items_max) {
    LineReader::Line line;
    absl::StatusOr<bool> got = lines_.Next(&line);
    if (!got.ok()) return got.status();
    if (!*got) return absl::DataLossError(absl::StrCat(path_, ": its end is missing"));
    ++line_;
    std::string_view body = line.text;
    // The last line's sum was checked before.
    if (body.substr(0, 8) == "{:floor ") {
      ended_ = true;
      break;
    }
    absl::StatusOr<SnapshotLine> read = parser_.ParseSnapshot(body);
    if (!read.ok()) return AtLine(path_, line_, read.status());
    if (read->kind == SnapshotLine::Kind::kEntry) part.entries.push_back(std::move(read->entry));
    if (read->kind == SnapshotLine::Kind::kId) part.ids.push_back(read->id);
  }
  return part;
}

}  // namespace stm::local
