#include "backends/local/recovery.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace stm::local {
namespace {

using engine::Version;

constexpr size_t kChunkBytes = 8 << 20;

bool EndsWith(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && std::string_view(text).substr(text.size() - end.size()) == end;
}

absl::Status At(const std::string& path, int64_t line, const absl::Status& status) {
  std::string message = absl::StrCat(path, ":", line, ": ", status.message());
  if (absl::IsDataLoss(status)) {
    absl::StrAppend(&message, ": mend the line and run `stmctl log seal ", path, "`, or restore a backup");
  }
  return absl::Status(status.code(), message);
}

// Canary accept_torn_lines: what can be read of a line counts, whatever became of its trailer.
std::optional<Trailer> BelieveTorn(std::string_view line) {
  Trailer trailer;
  trailer.body_size = std::min(line.size(), line.rfind(" ;"));
  if (!LineParser().Parse(line.substr(0, trailer.body_size), {}).ok()) return std::nullopt;
  return trailer;
}

}  // namespace

std::optional<Version> DurableProvedBy(std::string_view line) {
  for (size_t at = 0; at != std::string_view::npos; at = line.find("{:", at + 1)) {
    std::string_view rest = line.substr(at);
    std::optional<LogLine::Kind> kind = KindOf(rest);
    if (at > 0 && !kind) continue;
    if (std::optional<Trailer> trailer = ReadTrailer(rest)) {
      const bool ends = kind == LogLine::Kind::kStop || kind == LogLine::Kind::kStart;
      return ends ? std::numeric_limits<Version>::max() : trailer->durable;
    }
  }
  return std::nullopt;
}

absl::StatusOr<LogHeaderLine> ReadLogHeader(Disk* disk, const std::string& name, bool* torn) {
  const std::string path = disk->Path(name);
  *torn = false;
  absl::StatusOr<std::unique_ptr<File>> file = disk->Open(name);
  if (!file.ok()) return file.status();
  LineReader lines(file->get());
  LineReader::Line line;
  absl::StatusOr<bool> got = lines.Next(&line);
  if (!got.ok()) return got.status();
  std::optional<Trailer> trailer;
  if (*got) trailer = ReadTrailer(line.text);
  if (!trailer) {
    // A newer build may sum its lines another way: its format is looked at first.
    if (*got && KindOf(line.text) == LogLine::Kind::kHeader) {
      size_t end = line.text.rfind(';');
      absl::StatusOr<LogLine> header = LineParser().Parse(line.text.substr(0, end), {});
      if (absl::IsUnimplemented(header.status())) return At(path, 1, header.status());
    }
    *torn = true;
    return At(path, 1, absl::DataLossError("the file does not begin with a whole {:stm/log 1 ...} line"));
  }
  absl::StatusOr<LogLine> header =
      LineParser().Parse(line.text.substr(0, trailer->body_size), trailer->hashes);
  if (!header.ok()) return At(path, 1, header.status());
  if (header->kind != LogLine::Kind::kHeader) {
    return At(path, 1, absl::DataLossError("the file does not begin with {:stm/log 1 ...}"));
  }
  if (ParseLogName(name) != header->version) {
    return At(path, 1,
              absl::DataLossError(absl::StrCat(":first is ", header->version,
                                               ", which the file's name is not: name it ",
                                               LogName(header->version))));
  }
  return LogHeaderLine{header->store, header->version, trailer->durable};
}

absl::Status RemoveDurably(Disk* disk, const std::string& name) {
  absl::Status removed = disk->Remove(name);
  return removed.ok() ? disk->SyncDirectory() : removed;
}

absl::Status Recovery::Damaged(int64_t number, const std::string& what) const {
  return At(path(), number, absl::DataLossError(what));
}

absl::Status Recovery::Open() {
  absl::StatusOr<std::vector<std::string>> names = disk_->List();
  if (!names.ok()) return names.status();
  std::vector<Version> firsts;
  std::vector<Version> snapshots;
  for (const std::string& name : *names) {
    if (std::optional<Version> first = ParseLogName(name)) {
      firsts.push_back(*first);
    } else if (std::optional<Version> version = ParseSnapshotName(name)) {
      if (reads_ == Reads::kAll) snapshots.push_back(*version);
    } else if (EndsWith(name, kTemporarySuffix)) {
      // A snapshot or a seal that a crash left unfinished.
      absl::Status removed = disk_->Remove(name);
      if (!removed.ok()) return removed;
    }
  }
  std::sort(firsts.begin(), firsts.end());
  std::sort(snapshots.begin(), snapshots.end());

  for (Version version : snapshots) {
    const std::string name = SnapshotName(version);
    absl::StatusOr<SnapshotSummary> summary = CheckSnapshot(disk_, name);
    if (absl::IsDataLoss(summary.status())) {
      spdlog::warn("snapshot_ignored file={} why=\"{}\"", name, std::string(summary.status().message()));
      continue;
    }
    if (!summary.ok()) return summary.status();
    recovered_.snapshots.push_back(version);
    snapshot_ = *summary;
  }
  if (firsts.empty() && snapshots.empty()) {
    phase_ = Phase::kEnd;
    return absl::OkStatus();
  }
  if (firsts.empty()) {
    return absl::DataLossError(
        absl::StrCat(disk_->Path(SnapshotName(snapshots.back())),
                     ": there is a snapshot but no log file beside it: put the log-*.edn files "
                     "back, or restore a backup"));
  }
  absl::Status headers = ReadHeaders(firsts);
  if (!headers.ok()) return headers;
  if (recovered_.segments.empty() && snapshot_) {
    // A restore was cut short after its commit point (ReadHeaders lets nothing else pass): the image is all
    // there is.
    absl::StatusOr<std::unique_ptr<SnapshotReader>> image =
        SnapshotReader::Open(disk_, SnapshotName(snapshot_->version));
    if (!image.ok()) return image.status();
    image_ = *std::move(image);
    recovered_.store = snapshot_->store;
    recovered_.last = recovered_.used = snapshot_->version;
    phase_ = Phase::kImage;
    return absl::OkStatus();
  }
  if (recovered_.segments.empty()) {
    // The only file was never finished: nothing was ever committed here.
    phase_ = Phase::kEnd;
    return absl::OkStatus();
  }

  if (reads_ == Reads::kNewestFile) {
    segment_ = recovered_.segments.size() - 1;
    phase_ = Phase::kLog;
    return OpenSegment();
  }
  const Version from = snapshot_ ? snapshot_->version : 0;
  if (snapshot_ && snapshot_->store != recovered_.store) {
    return absl::DataLossError(absl::StrCat(disk_->Path(SnapshotName(from)), ":1: is of store ",
                                            Hex(snapshot_->store), ", the log of ", Hex(recovered_.store),
                                            ": remove what does not belong here"));
  }
  // The last segment that may hold from + 1.
  segment_ = 0;
  while (segment_ + 1 < recovered_.segments.size() && recovered_.segments[segment_ + 1].first <= from + 1)
    ++segment_;
  if (recovered_.segments[segment_].before > from) {
    return absl::DataLossError(absl::StrCat(
        path(), ":1: the log begins after version ", recovered_.segments[segment_].before, ", ",
        snapshot_ ? absl::StrCat("the newest whole snapshot ends at ", from) : "there is no whole snapshot",
        ": put the files between back, or restore a backup"));
  }
  if (snapshot_) {
    absl::StatusOr<std::unique_ptr<SnapshotReader>> image = SnapshotReader::Open(disk_, SnapshotName(from));
    if (!image.ok()) return image.status();
    image_ = *std::move(image);
  }
  phase_ = snapshot_ ? Phase::kImage : Phase::kLog;
  return OpenSegment();
}

absl::Status Recovery::ReadHeaders(const std::vector<Version>& firsts) {
  for (size_t i = 0; i < firsts.size(); ++i) {
    Segment segment;
    segment.name = LogName(firsts[i]);
    bool torn = false;
    absl::StatusOr<LogHeaderLine> header = ReadLogHeader(disk_, segment.name, &torn);
    // A snapshot is only ever made where a whole file is: then this one is no first.
    const bool may_be_unfinished = i > 0 || !snapshot_;
    if (!header.ok() && torn && i + 1 == firsts.size() && may_be_unfinished) {
      // The newest file: a crash may have come between its creation and its first sync. Then no good line is
      // in it.
      absl::StatusOr<bool> durable =
          AnyLine(segment.name, [](std::string_view line) { return DurableProvedBy(line).has_value(); });
      if (!durable.ok()) return durable.status();
      if (*durable) return header.status();
      spdlog::warn("log_file_never_finished file={}", segment.name);
      later_file_unfinished_ = true;
      return RemoveDurably(disk_, segment.name);
    }
    if (!header.ok()) return header.status();
    segment.first = header->first;
    segment.before = header->before;
    if (snapshot_ && header->store != snapshot_->store && recovered_.segments.empty()) {
      absl::StatusOr<bool> has_commits = HasCommits(segment.name);
      if (!has_commits.ok()) return has_commits.status();
      if (!*has_commits) {
        recovered_.replaced.push_back(segment.name);
        continue;
      }
    }
    if (recovered_.store != 0 && recovered_.store != header->store) {
      return absl::DataLossError(absl::StrCat(disk_->Path(segment.name), ":1: is of store ",
                                              Hex(header->store), ", the files before it of ",
                                              Hex(recovered_.store), ": remove what does not belong here"));
    }
    recovered_.store = header->store;
    absl::StatusOr<std::unique_ptr<File>> file = disk_->Open(segment.name);
    if (!file.ok()) return file.status();
    absl::StatusOr<uint64_t> size = (*file)->Size();
    if (!size.ok()) return size.status();
    segment.end = *size;
    recovered_.segments.push_back(std::move(segment));
  }
  return absl::OkStatus();
}

// Anything but the lines of starts and stops counts as one, and but blanks that were written ahead: where
// there was no room for all of them they were not synced, and a power loss left zeros in their place.
absl::StatusOr<bool> Recovery::HasCommits(const std::string& name) {
  return AnyLine(name, [](std::string_view line) {
    if (IsBlank(line) || line.find_first_not_of('\0') == std::string_view::npos) return false;
    const std::optional<LogLine::Kind> kind = KindOf(line);
    return !kind || *kind == LogLine::Kind::kCommit;
  });
}

absl::StatusOr<bool> Recovery::AnyLine(const std::string& name,
                                       absl::FunctionRef<bool(std::string_view)> is) {
  absl::StatusOr<std::unique_ptr<File>> file = disk_->Open(name);
  if (!file.ok()) return file.status();
  LineReader lines(file->get());
  LineReader::Line line;
  for (;;) {
    absl::StatusOr<bool> got = lines.Next(&line);
    if (!got.ok()) return got.status();
    if (!*got) return false;
    if (is(line.text)) return true;
  }
}

absl::Status Recovery::OpenSegment() {
  const Segment& segment = recovered_.segments[segment_];
  absl::StatusOr<std::unique_ptr<File>> file = disk_->Open(segment.name);
  if (!file.ok()) return file.status();
  lines_.reset();
  file_ = *std::move(file);
  lines_ = std::make_unique<LineReader>(file_.get());
  line_ = 0;
  good_end_ = 0;
  commit_begin_ = 0;
  terminated_ = true;
  blank_line_ = 0;
  // What a dropped file before it held is known by this file's word.
  if (recovered_.last == 0) recovered_.last = segment.before;
  return absl::OkStatus();
}

absl::Status Recovery::Judge(int64_t number, uint64_t offset, const std::string& what) {
  if (segment_ + 1 < recovered_.segments.size() || later_file_unfinished_) {
    return Damaged(number, absl::StrCat(what, ", and a later file says that all before it was durable"));
  }
  if (snapshot_ && snapshot_->version > recovered_.last) {
    return Damaged(number, absl::StrCat(what, ", and a snapshot holds version ", snapshot_->version));
  }
  // The line itself is looked into too: what follows a newline that was lost is a good line.
  LineReader rest(file_.get(), offset);
  LineReader::Line line;
  for (int64_t at = number;; ++at) {
    absl::StatusOr<bool> got = rest.Next(&line);
    if (!got.ok()) return got.status();
    if (!*got) break;
    std::optional<Version> durable = DurableProvedBy(line.text);
    if (!durable || *durable <= recovered_.last) continue;
    if (*durable == std::numeric_limits<Version>::max()) {
      return Damaged(number,
                     absl::StrCat(what, ", though a daemon stopped or started behind it (line ", at, ")"));
    }
    return Damaged(number, absl::StrCat(what, ", and line ", at, " says that version ", *durable,
                                        " was durable, above ", recovered_.last, ", the last good one"));
  }
  recovered_.torn_line = number;
  if (options_->canaries.cut_acknowledged_line && commit_begin_ != 0) good_end_ = commit_begin_;
  return absl::OkStatus();
}

absl::Status Recovery::FinishSegment() {
  Segment& segment = recovered_.segments[segment_];
  segment.end = good_end_;
  if (snapshot_ && segment_ + 1 == recovered_.segments.size() && recovered_.last < snapshot_->version) {
    return absl::DataLossError(absl::StrCat(
        path(), ": ends at version ", recovered_.last, ", but snapshot ", SnapshotName(snapshot_->version),
        " is newer: put the lines back that are missing, or restore a backup"));
  }
  if (segment_ + 1 < recovered_.segments.size()) {
    ++segment_;
    return OpenSegment();
  }
  absl::StatusOr<uint64_t> size = file_->Size();
  if (!size.ok()) return size.status();
  recovered_.tail_size = *size;
  recovered_.tail_terminated = terminated_;
  recovered_.used = std::max(recovered_.used, recovered_.last);
  lines_.reset();
  file_.reset();
  phase_ = Phase::kEnd;
  return absl::OkStatus();
}

absl::Status Recovery::ReadLog(RecoveryChunk* chunk) {
  const size_t segment = segment_;
  const Version skip = snapshot_ ? snapshot_->version : 0;
  chunk->path = path();
  LineReader::Line line;
  const uint64_t chunk_begin = lines_->offset();
  while (chunk->commits.size() < options_->recover_commits_per_task &&
         lines_->offset() - chunk_begin < kChunkBytes) {
    absl::StatusOr<bool> got = lines_->Next(&line);
    if (!got.ok()) return got.status();
    if (!*got) return FinishSegment();
    ++line_;
    if (IsBlank(line.text)) {
      if (blank_line_ == 0) {
        blank_line_ = line_;
        blank_offset_ = line.offset;
      }
      continue;
    }
    if (blank_line_ != 0) {
      absl::Status status = Judge(blank_line_, blank_offset_, "the line is blank and others follow");
      return status.ok() ? FinishSegment() : status;
    }
    std::optional<Trailer> trailer = ReadTrailer(line.text);
    if (!trailer && options_->canaries.accept_torn_lines) trailer = BelieveTorn(line.text);
    if (!trailer) {
      absl::Status status = Judge(line_, line.offset, "the line's sum is wrong or missing");
      return status.ok() ? FinishSegment() : status;
    }

    // From here on the line is as it was written, by a daemon or a seal.
    if (trailer->durable > recovered_.last) {
      return Damaged(line_, absl::StrCat("the line says that version ", trailer->durable,
                                         " was durable before it, but the lines before it end at ",
                                         recovered_.last, ": lines are missing"));
    }
    std::string_view body = line.text.substr(0, trailer->body_size);
    recovered_.used = std::max(recovered_.used, trailer->durable);
    Version version = 0;
    std::optional<Version> printed = VersionOf(body);
    if (printed && *printed <= skip) {
      version = *printed;
    } else if (line_ > 1) {
      absl::StatusOr<LogLine> read = parser_.Parse(body, trailer->hashes);
      if (!read.ok()) return At(path(), line_, read.status());
      switch (read->kind) {
        case LogLine::Kind::kHeader:
          return Damaged(line_, "a file's first line amid its lines");
        case LogLine::Kind::kStart:
        case LogLine::Kind::kStop:
          recovered_.used = std::max(recovered_.used, read->version);
          break;
        case LogLine::Kind::kCommit:
          version = read->commit->version;
          if (version > skip) {
            chunk->commits.push_back(RecoveredCommit{std::move(read->commit), line_});
            ++recovered_.commits;
          }
          break;
      }
    }
    if (version != 0) {
      if (version <= recovered_.last || version < recovered_.segments[segment].first) {
        return Damaged(line_, absl::StrCat("version ", version, " stands behind ", recovered_.last,
                                           ": versions never go back"));
      }
      recovered_.last = version;
      commit_begin_ = line.offset;
      if (version > skip) recovered_.bytes_since_snapshot += line.text.size() + 1;
    }
    good_end_ = line.offset + line.text.size() + (line.terminated ? 1 : 0);
    terminated_ = line.terminated;
  }
  return absl::OkStatus();
}

absl::StatusOr<RecoveryChunk> Recovery::Next() {
  RecoveryChunk chunk;
  if (phase_ == Phase::kOpen) {
    absl::Status opened = Open();
    if (!opened.ok()) return opened;
  }
  switch (phase_) {
    case Phase::kOpen:
      break;
    case Phase::kImage: {
      absl::StatusOr<engine::ImagePart> part = image_->Next(options_->recover_commits_per_task);
      if (!part.ok()) return part.status();
      if (part->entries.empty() && part->ids.empty()) {
        image_.reset();
        chunk.image_end = snapshot_;
        phase_ = recovered_.segments.empty() ? Phase::kEnd : Phase::kLog;
      }
      chunk.image = *std::move(part);
      break;
    }
    case Phase::kLog: {
      absl::Status read = ReadLog(&chunk);
      if (!read.ok()) return read;
      break;
    }
    case Phase::kEnd:
      chunk.end = true;
      break;
  }
  return chunk;
}

}  // namespace stm::local
