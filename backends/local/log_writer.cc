#include "backends/local/log_writer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"

namespace stm::local {
namespace {

using engine::Version;

// What prefill writes while it keeps the writer out: some 20 us.
constexpr size_t kPrefillPieceBytes = 64 << 10;

Instant Microseconds(Instant at) {
  at.nanos -= at.nanos % 1000;
  return at;
}

std::string What(const absl::Status& status) { return std::string(status.message()); }

}  // namespace

LogWriter::Result LogWriter::Broken(absl::Status status) {
  Result result;
  result.outcome = Outcome::kBroken;
  result.status = std::move(status);
  return result;
}

void LogWriter::Reserve(uint64_t end) {
  absl::MutexLock hold(&mutex_);
  reserved_end_ = end;
}

void LogWriter::EndPrefill(std::string name, uint64_t end) {
  absl::MutexLock hold(&mutex_);
  prefill_name_ = std::move(name);
  reserved_end_ = prefill_end_ = end;
}

absl::Status LogWriter::CutTorn(const Recovered& recovered, const std::string& name) {
  const Segment& segment = recovered.segments.back();
  std::string kept = absl::StrCat(name, ".torn");
  absl::StatusOr<std::unique_ptr<File>> torn = disk_->Create(kept);
  for (int i = 2; absl::IsAlreadyExists(torn.status()); ++i) {
    kept = absl::StrCat(name, ".torn.", i);
    torn = disk_->Create(kept);
  }
  absl::Status status = torn.status();
  uint64_t end = 0;  // behind the last byte that is no newline
  for (uint64_t at = segment.end; status.ok() && at < recovered.tail_size;) {
    absl::StatusOr<std::string> block =
        file_->Read(at, static_cast<size_t>(std::min<uint64_t>(kReadBlockBytes, recovered.tail_size - at)));
    if (!block.ok()) return block.status();
    if (block->empty()) break;
    status = (*torn)->Write(at - segment.end, *block);
    size_t last = block->find_last_not_of('\n');
    if (last != std::string::npos) end = at - segment.end + last + 1;
    at += block->size();
  }
  if (status.ok()) status = (*torn)->Truncate(end);
  if (status.ok()) status = (*torn)->Sync();
  if (status.ok()) status = disk_->SyncDirectory();
  if (absl::IsResourceExhausted(status)) {
    // Nobody was told of what is in it: a full disk is no reason not to start.
    spdlog::warn("log_torn_not_kept file={} why=\"{}\"", kept, What(status));
    torn->reset();
    disk_->Remove(kept).IgnoreError();
  } else if (!status.ok()) {
    return status;
  } else {
    spdlog::warn("log_torn_cut file={} line={} bytes={} kept={}", name, recovered.torn_line, end, kept);
  }
  return absl::OkStatus();
}

absl::Status LogWriter::CreateSegment(Version first) {
  const std::string name = LogName(first);
  absl::StatusOr<std::unique_ptr<File>> file = disk_->Create(name);
  if (!file.ok()) return file.status();
  std::string header;
  printer_.LogHeader(store_, first, durable_, &header);
  absl::Status status = (*file)->Write(0, header);
  if (status.ok()) status = (*file)->Sync();
  if (absl::IsResourceExhausted(status)) {
    // Left there, it would say at the next start that all before it was whole.
    file->reset();
    absl::Status removed = RemoveDurably(disk_, name);
    return removed.ok() ? status : absl::InternalError(absl::StrCat(What(removed), ", after ", What(status)));
  }
  if (status.ok()) status = disk_->SyncDirectory();
  if (!status.ok()) return status;
  name_ = name;
  file_ = *std::move(file);
  end_ = header.size();
  has_commits_ = false;
  rooted_.clear();
  EndPrefill(options_->prefill_bytes > 0 ? name_ : "", end_);
  extent_->Add(Segment{name_, first, durable_, end_});
  return absl::OkStatus();
}

LogWriter::Result LogWriter::StartSegment(Version first) {
  EndPrefill("", end_);
  // Blank lines stand at a log's very end only.
  absl::Status status = file_->Truncate(end_);
  if (status.ok()) status = file_->Sync();
  if (!status.ok()) return Broken(std::move(status));
  status = CreateSegment(first);
  Result result;
  if (absl::IsResourceExhausted(status)) {
    result.outcome = Outcome::kNoSpace;
    result.status = std::move(status);
  } else if (!status.ok()) {
    return Broken(std::move(status));
  } else {
    result.segment_started = true;
  }
  return result;
}

absl::Status LogWriter::Start(const Recovered& recovered, uint64_t store, uint64_t writer) {
  store_ = store;
  newline_owed_ = false;
  durable_ = recovered.last;
  used_ = recovered.used;
  extent_->Set(LogExtent::State{recovered.segments, recovered.last});
  bool terminated = true;
  if (recovered.segments.empty()) {
    absl::Status created = CreateSegment(used_ + 1);
    if (!created.ok()) return created;
  } else {
    const Segment& segment = recovered.segments.back();
    name_ = segment.name;
    absl::StatusOr<std::unique_ptr<File>> file = disk_->Open(name_);
    if (!file.ok()) return file.status();
    file_ = *std::move(file);
    end_ = segment.end;
    has_commits_ = recovered.last >= segment.first;
    terminated = recovered.tail_terminated;
    if (recovered.torn_line != 0) {
      absl::Status cut = CutTorn(recovered, name_);
      if (!cut.ok()) return cut;
    }
    absl::Status status;
    if (recovered.tail_size > end_) status = file_->Truncate(end_);
    // The :start line says that all before it is durable: first it is made so, its place in the directory too
    // (a process killed between a file's creation and the directory's sync leaves a file that a power loss
    // would take).
    if (status.ok()) status = file_->Sync();
    if (status.ok()) status = disk_->SyncDirectory();
    if (!status.ok()) return status;
    EndPrefill(options_->prefill_bytes > 0 ? name_ : "", end_);
  }

  // The store has a file of its own now: those of the one before it can go.
  for (const std::string& name : recovered.replaced) {
    absl::Status removed = RemoveDurably(disk_, name);
    if (!removed.ok()) return removed;
  }

  buffer_.clear();
  if (!terminated) buffer_.push_back('\n');
  const size_t newline = buffer_.size();
  printer_.Start(used_, Microseconds(loop_->WallNow()), writer, durable_, &buffer_);
  absl::Status status = file_->Write(end_, buffer_);
  if (absl::IsResourceExhausted(status)) {
    // Reads can go on. A batch still begins on a line of its own: the newline is put before it.
    spdlog::warn("log_no_start_line file={} why=\"{}\"", name_, What(status));
    status = file_->Truncate(end_);
    if (status.ok()) status = file_->Sync();
    if (!status.ok()) return status;
    newline_owed_ = newline > 0;
    return absl::OkStatus();
  }
  if (status.ok()) status = file_->Sync();
  if (!status.ok()) return status;
  end_ += buffer_.size();
  Reserve(end_);
  extent_->Advance(end_, durable_);
  return absl::OkStatus();
}

LogWriter::Result LogWriter::Undo(const absl::Status& no_space) {
  // What operations lean on may be among the lines that go.
  rooted_.clear();
  EndPrefill("", end_);
  absl::Status status = file_->Truncate(end_);
  if (status.ok()) status = file_->Sync();
  if (!status.ok()) {
    return Broken(absl::Status(status.code(), absl::StrCat(What(status), ", after ", What(no_space))));
  }
  Result result;
  result.outcome = Outcome::kNoSpace;
  result.status = no_space;
  return result;
}

LogWriter::Result LogWriter::Append(const std::vector<const engine::Batch*>& batches) {
  Result result;
  if (end_ >= static_cast<uint64_t>(options_->segment_bytes) && has_commits_) {
    result = StartSegment(batches.front()->front()->version);
    if (result.outcome != Outcome::kDurable) return result;
  }
  buffer_.clear();
  if (newline_owed_) buffer_.push_back('\n');
  for (const engine::Batch* batch : batches) {
    for (const std::shared_ptr<engine::CommitRecord>& commit : *batch) {
      printer_.Commit(*commit, durable_, &rooted_, &buffer_);
    }
  }
  Reserve(end_ + buffer_.size());
  absl::Status status = file_->Write(end_, buffer_);
  if (absl::IsResourceExhausted(status)) return Undo(status);
  if (!status.ok()) return Broken(std::move(status));
  if (!options_->canaries.skip_sync) {
    const absl::Duration begin = options_->sync_observed ? loop_->Now() : absl::ZeroDuration();
    status = file_->Sync();
    if (!status.ok()) return Broken(std::move(status));
    if (options_->sync_observed) options_->sync_observed(loop_->Now() - begin);
  }
  newline_owed_ = false;
  end_ += buffer_.size();
  has_commits_ = true;
  durable_ = batches.back()->back()->version;
  used_ = std::max(used_, durable_);
  extent_->Advance(end_, durable_);
  result.bytes = buffer_.size();
  // One huge batch does not hold its memory for ever.
  constexpr size_t kBufferKeptBytesMax = 8 << 20;
  if (buffer_.capacity() > kBufferKeptBytesMax) std::string().swap(buffer_);

  absl::MutexLock hold(&mutex_);
  const uint64_t left = prefill_end_ > reserved_end_ ? prefill_end_ - reserved_end_ : 0;
  result.prefill_wanted = !prefill_name_.empty() && left < static_cast<uint64_t>(options_->prefill_bytes) / 2;
  return result;
}

absl::Status LogWriter::Prefill() {
  std::string name;
  uint64_t target = 0;
  {
    absl::MutexLock hold(&mutex_);
    if (prefill_name_.empty()) return absl::OkStatus();
    name = prefill_name_;
    target = std::max(prefill_end_, reserved_end_) + static_cast<uint64_t>(options_->prefill_bytes);
  }
  // A descriptor of its own: a sync that fails tells each descriptor once, and the writer's must not miss it.
  absl::StatusOr<std::unique_ptr<File>> file = disk_->Open(name);
  if (!file.ok()) {
    // The log is as good without it.
    spdlog::warn("log_not_prefilled file={} why=\"{}\"", name, What(file.status()));
    absl::MutexLock hold(&mutex_);
    if (prefill_name_ == name) prefill_name_.clear();
    return absl::OkStatus();
  }
  static const std::string newlines(kPrefillPieceBytes, '\n');
  for (;;) {
    absl::MutexLock hold(&mutex_);
    if (prefill_name_ != name) return absl::OkStatus();
    const uint64_t from = std::max(prefill_end_, reserved_end_);
    if (from >= target) break;
    std::string_view piece =
        std::string_view(newlines).substr(0, std::min<uint64_t>(newlines.size(), target - from));
    absl::Status status = (*file)->Write(from, piece);
    if (absl::IsResourceExhausted(status)) {
      // Commits need what room there is. Not tried again in this segment.
      prefill_name_.clear();
      return absl::OkStatus();
    }
    if (!status.ok()) return status;
    prefill_end_ = from + piece.size();
  }
  return (*file)->Sync();
}

absl::Status LogWriter::Stop() {
  EndPrefill("", end_);
  buffer_.clear();
  if (newline_owed_) buffer_.push_back('\n');
  printer_.Stop(used_, Microseconds(loop_->WallNow()), durable_, &buffer_);
  absl::Status status = file_->Write(end_, buffer_);
  if (absl::IsResourceExhausted(status)) {
    // The line only tells a stop from a crash: nothing is lost without it.
    spdlog::warn("log_no_stop_line file={} why=\"{}\"", name_, What(status));
    buffer_.clear();
    status = absl::OkStatus();
  }
  if (status.ok()) status = file_->Truncate(end_ + buffer_.size());
  if (status.ok()) status = file_->Sync();
  if (!status.ok()) return status;
  end_ += buffer_.size();
  extent_->Advance(end_, durable_);
  return absl::OkStatus();
}

}  // namespace stm::local
