#include "backends/zookeeper/archiver.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/log_format.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/layout.h"
#include "engine/error.h"

namespace stm::zookeeper {
namespace {

using engine::Version;
using engine::Work;
using local::LogWriter;

// Of log entries that one write takes, about.
constexpr int64_t kWriteBytes = 4 << 20;
constexpr absl::Duration kRetryAfter = absl::Milliseconds(500);

std::string What(const absl::Status& status) { return std::string(status.message()); }

bool IsLog(const local::Recovered& found, const std::string& name) {
  return std::any_of(found.segments.begin(), found.segments.end(),
                     [&name](const local::Segment& segment) { return segment.name == name; });
}

// What the entries committed above `after`.
absl::StatusOr<std::vector<engine::Batch>> CommitsAbove(const std::vector<LogEntry>& entries, Version base,
                                                        Version after) {
  std::vector<engine::Batch> batches;
  for (const LogEntry& entry : entries) {
    absl::StatusOr<engine::Batch> commits = CommitsOf(entry, base);
    if (!commits.ok()) return commits.status();
    // A part of a batch may be all that a crash left.
    commits->erase(std::remove_if(commits->begin(), commits->end(),
                                  [after](const auto& commit) { return commit->version <= after; }),
                   commits->end());
    if (!commits->empty()) batches.push_back(*std::move(commits));
  }
  return batches;
}

}  // namespace

Archiver::Archiver(engine::Loop* loop, LogTail* tail, ArchiveOptions options)
    : loop_(loop),
      tail_(tail),
      options_(std::move(options)),
      reader_(options_.disk, &extent_),
      parts_(loop, tail) {
  local_options_.segment_bytes = options_.segment_bytes;
  // Nobody waits for its syncs.
  local_options_.prefill_bytes = 0;
}

Archiver::~Archiver() = default;

// ---- A start

void Archiver::Open(absl::AnyInvocable<void(absl::Status)> done) {
  options_.executor->Run(Work::kHeavy, [this, done = std::move(done)]() mutable {
    absl::Status status = options_.disk->Lock();
    local::Recovery recovery(options_.disk, &local_options_, local::Recovery::Reads::kNewestFile);
    for (bool end = false; status.ok() && !end;) {
      absl::StatusOr<local::RecoveryChunk> chunk = recovery.Next();
      status = chunk.status();
      if (status.ok()) end = chunk->end;
    }
    if (!status.ok()) status = absl::Status(status.code(), absl::StrCat("archive-dir: ", status.message()));
    loop_->Post(
        [this, status = std::move(status), found = recovery.Take(), done = std::move(done)]() mutable {
          found_ = std::move(found);
          done(std::move(status));
        });
  });
}

void Archiver::Find(absl::AnyInvocable<void(absl::Status)> done) {
  applied_ = tail_->next();
  const Epoch& epoch = tail_->epoch();
  if (found_.store != 0 && found_.store != epoch.store) {
    return done(absl::FailedPreconditionError(
        absl::StrCat("archive-dir: ", Where(), " holds the log of store ", local::Hex(found_.store),
                     ", the store in ZooKeeper is ", local::Hex(epoch.store),
                     ": name another directory, or move the files away")));
  }
  // A new one begins with the oldest entry that is kept.
  const int64_t zxid = found_.store == 0 ? 0 : std::max<int64_t>(found_.last - epoch.base, 0) >> kPlaceBits;
  parts_.Find(zxid, [this, done = std::move(done)](LogPlace place) mutable { done(Place(place)); });
}

// The archive goes on with the entry of its last commit, of which it may have a part only, or with the one
// behind it.
absl::Status Archiver::Place(const LogPlace& place) {
  const Version base = tail_->epoch().base;
  next_ = needs_ = place.position;
  last_ = found_.last;
  const int64_t zxid = std::max<Version>(last_ - base, 0) >> kPlaceBits;
  const bool behind = place.any && (place.zxid == zxid || place.zxid == zxid + 1);
  if (found_.store == 0) {
    // Of a restored store, too, there was something before.
    const bool of_all = place.position == 0 && base == 0;
    BeginAnew(of_all ? 0 : VersionOf(base, place.zxid, 0) - 1);
  } else if (behind || (zxid == 0 && place.position == 0)) {
    opening_.emplace().from = std::move(found_);
  } else if (place.any && place.oldest && place.position > 0) {
    lost_ = true;
  } else {
    return absl::DataLossError(absl::StrCat("archive-dir: ", Where(), " ends at version ", last_,
                                            ", which the log in ZooKeeper does not have at its place: one of "
                                            "them was put back to an older state: "
                                            "name another directory, or move the files away"));
  }
  found_place_ = true;
  return absl::OkStatus();
}

void Archiver::Begin(uint64_t writer) {
  self_ = writer;
  begun_ = true;
  Pump();
}

// In a file of its own.
void Archiver::BeginAnew(Version before) {
  opening_.emplace();
  opening_->from.last = opening_->from.used = last_ = before;
  opening_->set_aside = true;
}

// ---- Following the tail

void Archiver::Applied(LogEntry entry) {
  applied_ = entry.next;
  if (!pending_.empty() && pending_.back().next != entry.position) {
    pending_.clear();
    pending_bytes_ = 0;
  }
  pending_bytes_ += static_cast<int64_t>(entry.data.size());
  pending_.push_back(std::move(entry));
  while (pending_bytes_ > options_.pending_bytes_max) {
    pending_bytes_ -= static_cast<int64_t>(pending_.front().data.size());
    pending_.pop_front();
  }
  Pump();
}

void Archiver::Pump() {
  if (!begun_ || writing_ || resting_) return StopIfIdle();
  if (opening_) return OpenWriter();
  while (!pending_.empty() && pending_.front().position < next_) {
    pending_bytes_ -= static_cast<int64_t>(pending_.front().data.size());
    pending_.pop_front();
  }
  if (next_ >= applied_) return StopIfIdle();
  if (pending_.empty() || pending_.front().position != next_) return ReadOn();
  std::vector<LogEntry> entries;
  for (int64_t bytes = 0; !pending_.empty() && bytes < kWriteBytes; pending_.pop_front()) {
    bytes += static_cast<int64_t>(pending_.front().data.size());
    pending_bytes_ -= static_cast<int64_t>(pending_.front().data.size());
    entries.push_back(std::move(pending_.front()));
  }
  Write(std::move(entries));
}

// What is in memory no more, or was never.
void Archiver::ReadOn() {
  if (!stopped_because_.ok() || stopping_) return StopIfIdle();
  if (std::exchange(reading_, true)) return;
  const int64_t end = pending_.empty() ? applied_ : pending_.front().position;
  parts_.Read(next_, end, [this](LogPart part) {
    reading_ = false;
    if (stopping_) return;
    if (part.entries.empty()) {
      lost_ = lost_ || part.lost;
      next_ = needs_ = part.next;
      return Pump();
    }
    // A writer that is to begin anew comes first, and these are read again.
    if (writing_ || resting_ || opening_ || part.entries.front().position != next_) return Pump();
    Write(std::move(part.entries));
  });
}

void Archiver::Write(std::vector<LogEntry> entries) {
  const Version base = tail_->epoch().base;
  if (std::exchange(lost_, false)) {
    const Version before = VersionOf(base, entries.front().zxid, 0) - 1;
    spdlog::error(
        "archive_gap dir={} last={} goes_on_after={} why=\"what was committed between was trimmed from "
        "ZooKeeper's "
        "log before it was written here: raise --zookeeper-log-bytes, or keep the archive running; files "
        "before the "
        "gap are kept as *{}\"",
        Where(), last_, before, kBeforeGapSuffix);
    ++stats_.gaps;
    BeginAnew(before);
    return Pump();
  }
  writing_ = true;
  options_.executor->Run(Work::kHeavy, [this, base, after = last_, entries = std::move(entries)] {
    LogWriter::Result result;
    int64_t commits = 0;
    int64_t needs = entries.back().next;
    Version last = after;
    absl::StatusOr<std::vector<engine::Batch>> batches = CommitsAbove(entries, base, after);
    if (!batches.ok()) {
      result.outcome = LogWriter::Outcome::kBroken;
      result.status = batches.status();
    } else if (!batches->empty()) {
      std::vector<const engine::Batch*> all;
      for (const engine::Batch& batch : *batches) {
        all.push_back(&batch);
        commits += static_cast<int64_t>(batch.size());
      }
      last = batches->back().back()->version;
      result = writer_->Append(all);
    }
    // A restart finds its place by the entry of the last commit.
    for (const LogEntry& entry : entries) {
      if (!entry.data.empty()) needs = entry.position;
    }
    loop_->Post(
        [this, next = entries.back().next, needs, last, commits, result = std::move(result)]() mutable {
          Written(next, needs, last, commits, std::move(result));
        });
  });
}

void Archiver::Written(int64_t next, int64_t needs, Version last, int64_t commits, LogWriter::Result result) {
  writing_ = false;
  if (result.outcome != LogWriter::Outcome::kDurable) {
    if (result.outcome == LogWriter::Outcome::kBroken) {
      // What the write left is cut off, and the file opened anew, at what was durable before.
      const local::LogExtent::State durable = extent_.Get();
      opening_.emplace();
      opening_->from.segments = durable.segments;
      opening_->from.last = opening_->from.used = durable.last;
    }
    return Failed(std::move(result.status));
  }
  next_ = next;
  needs_ = needs;
  last_ = last;
  stats_.commits += commits;
  stats_.bytes += static_cast<int64_t>(result.bytes);
  GoesOn();
  TellWaiters();
  Pump();
}

// ---- The files

void Archiver::OpenWriter() {
  writing_ = true;
  options_.executor->Run(Work::kHeavy,
                         [this, opening = *opening_, store = tail_->epoch().store, writer = self_]() mutable {
                           absl::Status status = OpenWriterNow(std::move(opening), store, writer);
                           loop_->Post([this, status = std::move(status)]() mutable {
                             writing_ = false;
                             if (!status.ok()) return Failed(std::move(status));
                             opening_.reset();
                             GoesOn();
                             TellWaiters();
                             Pump();
                           });
                         });
}

absl::Status Archiver::OpenWriterNow(ArchiveOpening opening, uint64_t store, uint64_t writer) {
  local::Disk* const disk = options_.disk;
  absl::StatusOr<std::vector<std::string>> names = disk->List();
  if (!names.ok()) return names.status();
  std::sort(names->begin(), names->end());
  // What a try before this one could not finish has no commit in it.
  const std::string begun = local::LogName(opening.from.used + 1);
  for (const std::string& name : *names) {
    if (!local::ParseLogName(name) || IsLog(opening.from, name)) continue;
    const bool aside = opening.set_aside && name != begun;
    absl::Status status =
        aside ? disk->Rename(name, absl::StrCat(name, kBeforeGapSuffix)) : disk->Remove(name);
    if (status.ok()) status = disk->SyncDirectory();
    if (!status.ok()) return status;
  }
  if (!opening.from.segments.empty()) {
    absl::StatusOr<std::unique_ptr<local::File>> file = disk->Open(opening.from.segments.back().name);
    if (!file.ok()) return file.status();
    absl::StatusOr<uint64_t> size = (*file)->Size();
    if (!size.ok()) return size.status();
    opening.from.tail_size = *size;
  }
  writer_ = std::make_unique<LogWriter>(disk, &local_options_, loop_, &extent_);
  return writer_->Start(opening.from, store, writer);
}

void Archiver::Failed(absl::Status status) {
  ++stats_.failures;
  if (failed_.ok()) {
    spdlog::error(
        "archive_failed dir={} why=\"{}\" commits go on, and are written here later, while ZooKeeper's log "
        "has them; tried again every {}",
        Where(), What(status), absl::FormatDuration(options_.retry_every));
  }
  failed_ = std::move(status);
  TellWaiters();
  resting_ = true;
  tasks_.After(options_.retry_every, [this] {
    resting_ = false;
    Pump();
  });
  StopIfIdle();
}

void Archiver::GoesOn() {
  if (failed_.ok()) return;
  failed_ = absl::OkStatus();
  spdlog::info("archive_goes_on dir={} version={}", Where(), last_);
}

ArchiveStats Archiver::stats() const {
  ArchiveStats stats = stats_;
  stats.version = last_;
  stats.needs = needs_;
  return stats;
}

// ---- Readers

absl::Status Archiver::Behind() const {
  if (!stopped_because_.ok()) return engine::NotReady(What(stopped_because_), kRetryAfter);
  return engine::NotReady(
      absl::StrCat("the archive in ", Where(), " is behind at version ", last_,
                   failed_.ok() ? "" : absl::StrCat(", since it can't be written: ", failed_.message())),
      kRetryAfter);
}

void Archiver::CatchUp(absl::AnyInvocable<void(absl::Status)> done) {
  if (begun_ && !opening_ && next_ >= applied_) return done(absl::OkStatus());
  if (!stopped_because_.ok() || !failed_.ok()) return done(Behind());
  waiters_.push_back({applied_, loop_->Now(), std::move(done)});
  if (!std::exchange(expiring_, true)) tasks_.After(options_.patience, [this] { ExpireWaiters(); });
}

// Those whose commits are written; all, if none will be for a while.
void Archiver::TellWaiters() {
  const bool none = !stopped_because_.ok() || !failed_.ok();
  while (!waiters_.empty() && (none || (!opening_ && waiters_.front().until <= next_))) {
    const absl::Status status = waiters_.front().until <= next_ && !opening_ ? absl::OkStatus() : Behind();
    auto done = std::move(waiters_.front().done);
    waiters_.pop_front();
    done(status);
  }
}

void Archiver::ExpireWaiters() {
  const absl::Duration now = loop_->Now();
  while (!waiters_.empty() && now - waiters_.front().since >= options_.patience) {
    auto done = std::move(waiters_.front().done);
    waiters_.pop_front();
    done(Behind());
  }
  expiring_ = !waiters_.empty();
  if (expiring_) {
    tasks_.After(waiters_.front().since + options_.patience - now, [this] { ExpireWaiters(); });
  }
}

// ---- The end

void Archiver::TailStopped(const absl::Status& status) {
  stopped_because_ = status;
  TellWaiters();
}

void Archiver::Stop(absl::AnyInvocable<void()> done) {
  stopping_ = true;
  stopped_ = std::move(done);
  Pump();
}

// All is written, or can't be now: the next start reads it from ZooKeeper.
void Archiver::StopIfIdle() {
  if (!stopping_ || writing_ || stopped_ == nullptr) return;
  writing_ = true;
  options_.executor->Run(Work::kHeavy, [this, stopped = std::exchange(stopped_, nullptr)]() mutable {
    const absl::Status status = writer_ == nullptr ? absl::OkStatus() : writer_->Stop();
    if (!status.ok()) spdlog::warn("archive_not_stopped dir={} why=\"{}\"", Where(), What(status));
    loop_->Post(std::move(stopped));
  });
}

}  // namespace stm::zookeeper
