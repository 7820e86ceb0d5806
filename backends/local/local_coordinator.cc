#include "backends/local/local_coordinator.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/line_reader.h"

namespace stm::local {
namespace {

using engine::Version;
using engine::Work;

constexpr size_t kSnapshotsKept = 2;

std::string What(const absl::Status& status) { return std::string(status.ToString()); }

absl::Time TimeOf(Instant at) { return absl::FromUnixSeconds(at.seconds) + absl::Nanoseconds(at.nanos); }

// When the first commit in the file was made; nullopt: it has none.
absl::StatusOr<std::optional<Instant>> FirstCommitAt(Disk* disk, const Segment& segment) {
  absl::StatusOr<std::unique_ptr<File>> file = disk->Open(segment.name);
  if (!file.ok()) return file.status();
  LineReader lines(file->get(), 0, segment.end);
  LineReader::Line line;
  LineParser parser;
  for (;;) {
    absl::StatusOr<bool> got = lines.Next(&line);
    if (!got.ok()) return got.status();
    if (!*got) return std::optional<Instant>();
    std::optional<Trailer> trailer = ReadTrailer(line.text);
    if (!trailer) continue;
    absl::StatusOr<LogLine> read = parser.Parse(line.text.substr(0, trailer->body_size), trailer->hashes);
    if (!read.ok()) return read.status();
    if (read->kind == LogLine::Kind::kCommit) return std::optional<Instant>(read->commit->at);
  }
}

}  // namespace

LocalCoordinator::LocalCoordinator(engine::Loop* loop, engine::Executor* executor, Disk* disk,
                                   LocalOptions options)
    : loop_(loop),
      executor_(executor),
      disk_(disk),
      options_(std::move(options)),
      writer_(disk, &options_, loop, &extent_),
      reader_(disk, &extent_, options_.canaries.shorten_log_reads),
      ballast_(disk, options_.ballast_bytes) {}

LocalCoordinator::~LocalCoordinator() = default;

// --- Recovery ---

void LocalCoordinator::Recover(engine::Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) {
  assert(sink_ == nullptr);
  sink_ = sink;
  recovered_ = std::move(recovered);
  recovery_began_ = loop_->Now();
  // Of a new store; and of this start. 0 means none on the wire.
  do store_ = loop_->Random();
  while (store_ == 0);
  do writer_id_ = loop_->Random();
  while (writer_id_ == 0);
  recovery_ = std::make_unique<Recovery>(disk_, &options_);
  executor_->Run(Work::kHeavy, [this] {
    absl::Status locked = disk_->Lock();
    if (locked.ok()) return ReadChunk();
    loop_->Post([this, locked = std::move(locked)]() mutable { FailRecovery(std::move(locked)); });
  });
}

void LocalCoordinator::ReadChunk() {
  absl::StatusOr<RecoveryChunk> chunk = recovery_->Next();
  loop_->Post([this, chunk = std::move(chunk)]() mutable { InstallChunk(std::move(chunk)); });
}

void LocalCoordinator::InstallChunk(absl::StatusOr<RecoveryChunk> chunk) {
  // What one before said stands; nothing is being read any more.
  if (!recovery_status_.ok()) return FailRecovery(std::move(recovery_status_));
  if (!chunk.ok()) return FailRecovery(chunk.status());
  if (chunk->end) return EndRecovery();
  executor_->Run(Work::kHeavy, [this] { ReadChunk(); });

  if (!chunk->image.entries.empty() || !chunk->image.ids.empty())
    sink_->InstallImage(std::move(chunk->image));
  if (chunk->image_end) {
    id_floor_ = chunk->image_end->id_floor;
    sink_->EndImage(chunk->image_end->version, chunk->image_end->at, chunk->image_end->id_floor);
  }
  for (RecoveredCommit& recovered : chunk->commits) {
    absl::Status installed = sink_->Install(std::move(recovered.commit));
    if (!installed.ok()) {
      recovery_status_ = absl::Status(
          installed.code(),
          absl::StrCat(chunk->path, ":", recovered.line, ": ", installed.message(),
                       ": mend the line and run `stmctl log seal ", chunk->path, "`, or restore a backup"));
      return;
    }
  }
}

void LocalCoordinator::FailRecovery(absl::Status status) {
  recovery_.reset();
  auto recovered = std::move(recovered_);
  recovered(std::move(status));
}

void LocalCoordinator::EndRecovery() {
  executor_->Run(Work::kHeavy, [this] {
    Recovered found = recovery_->Take();
    const bool fresh = found.segments.empty() && found.last == 0;
    // The Loop looks at neither store nor writer before it is told.
    const uint64_t store = found.store != 0 ? found.store : store_;
    absl::Status started = writer_.Start(found, store, writer_id_);
    loop_->Post([this, found = std::move(found), fresh, store, started = std::move(started)]() mutable {
      if (!started.ok()) return FailRecovery(std::move(started));
      recovery_.reset();
      store_ = store;
      durable_ = answered_ = found.last;
      used_ = found.used;
      next_ = used_ + 1;
      snapshots_ = found.snapshots;
      bytes_since_snapshot_ = found.bytes_since_snapshot;
      snapshot_after_bytes_ = static_cast<uint64_t>(options_.snapshot_bytes);
      stats_.commits_recovered = found.commits;
      stats_.torn_tails = found.torn_line != 0 ? 1 : 0;
      spdlog::info(
          "log_recovered store={} writer={} version={} commits={} snapshot={} fresh={} seconds={:.3f}",
          Hex(store_), Hex(writer_id_), found.last, found.commits, snapshots_.empty() ? 0 : snapshots_.back(),
          fresh, absl::ToDoubleSeconds(loop_->Now() - recovery_began_));
      auto recovered = std::move(recovered_);
      recovered(absl::OkStatus());
      KeepBallast();
      StartPrefill();
      if (options_.snapshot_bytes > 0 && bytes_since_snapshot_ >= snapshot_after_bytes_) StartSnapshot();
    });
  });
}

// --- Appends ---

void LocalCoordinator::Append(engine::Batch batch, absl::AnyInvocable<void(engine::AppendResult)> done) {
  assert(!stopping_);
  assert(!batch.empty());
  if (broken_) return;
  TellClock(batch.back()->at);
  for (std::shared_ptr<engine::CommitRecord>& commit : batch) commit->version = next_++;
  if (options_.canaries.answer_before_write) {
    loop_->Post([done = std::move(done)]() mutable { done(engine::AppendResult()); });
    done = [](engine::AppendResult) {};
  }
  queue_.push_back(Pending{std::move(batch), std::move(done)});
  if (!writing_) WriteNext();
}

void LocalCoordinator::TellClock(Instant newest) {
  // Less is a clock being steered.
  constexpr absl::Duration kTold = absl::Seconds(10);
  const absl::Duration behind = TimeOf(newest) - TimeOf(loop_->WallNow());
  if (!clock_behind_ && behind > kTold) {
    clock_behind_ = true;
    spdlog::warn(
        "clock_behind seconds={} why=\"the newest commit is of a later time: commits are given its time until the "
        "clock has passed it; set the clock if it is wrong\"",
        absl::ToInt64Seconds(behind));
  } else if (clock_behind_ && behind <= absl::ZeroDuration()) {
    clock_behind_ = false;
    spdlog::info("clock_caught_up");
  }
}

void LocalCoordinator::WriteNext() {
  writing_ = true;
  std::vector<Pending> now;
  now.reserve(queue_.size());
  for (Pending& pending : queue_) now.push_back(std::move(pending));
  queue_.clear();
  executor_->Run(Work::kWrite, [this, now = std::move(now)]() mutable {
    std::vector<const engine::Batch*> batches;
    batches.reserve(now.size());
    for (const Pending& pending : now) batches.push_back(&pending.batch);
    // Canary: the sync is left to a snapshot that will soon be due.
    if (options_.canaries.snapshot_before_sync) {
      const bool due = options_.snapshot_bytes > 0 && bytes_since_snapshot_ >= snapshot_after_bytes_ / 2;
      options_.canaries.skip_sync = due;
    }
    LogWriter::Result result = writer_.Append(batches);
    loop_->Post([this, now = std::move(now), result = std::move(result)]() mutable {
      Written(std::move(now), std::move(result));
    });
  });
}

void LocalCoordinator::Written(std::vector<Pending> written, LogWriter::Result result) {
  writing_ = false;
  if (broken_) return;
  switch (result.outcome) {
    case LogWriter::Outcome::kBroken:
      return Fatal(std::move(result.status));
    case LogWriter::Outcome::kNoSpace: {
      if (!stats_.no_room) spdlog::error("log_no_space why=\"{}\"", What(result.status));
      stats_.no_room = true;
      // What was queued behind was made for a state that will not be: it goes too.
      for (Pending& pending : queue_) written.push_back(std::move(pending));
      queue_.clear();
      next_ = std::max(durable_, used_) + 1;
      stats_.no_space += static_cast<int64_t>(written.size());
      for (Pending& pending : written) {
        pending.done(engine::AppendResult{engine::AppendResult::Outcome::kNoSpace, result.status});
      }
      break;
    }
    case LogWriter::Outcome::kDurable: {
      if (stats_.no_room) spdlog::info("log_room_again");
      stats_.no_room = false;
      durable_ = written.back().batch.back()->version;
      stats_.bytes += static_cast<int64_t>(result.bytes);
      bytes_since_snapshot_ += result.bytes;
      // The disk works on the next batch while this one is told.
      if (!queue_.empty()) WriteNext();
      for (Pending& pending : written) {
        const Version last = pending.batch.back()->version;
        ++stats_.batches;
        stats_.commits += static_cast<int64_t>(pending.batch.size());
        pending.done(engine::AppendResult());
        answered_ = last;
      }
      if (result.prefill_wanted) StartPrefill();
      if (result.segment_started) {
        spdlog::info("log_segment_started version={}", durable_);
        KeepBallast();
      }
      if (options_.snapshot_bytes > 0 && bytes_since_snapshot_ >= snapshot_after_bytes_) StartSnapshot();
      break;
    }
  }
  if (!writing_ && !queue_.empty()) WriteNext();
  StopIfIdle();
}

void LocalCoordinator::Fatal(absl::Status status) {
  if (broken_) return;
  broken_ = true;
  queue_.clear();
  if (options_.fatal) options_.fatal(std::move(status));
}

void LocalCoordinator::Barrier(absl::AnyInvocable<void(absl::StatusOr<Version>)> done) { done(answered_); }

void LocalCoordinator::Close(uint64_t writer, absl::AnyInvocable<void(absl::Status)> done) {
  absl::Status status;
  if (writer == writer_id_) {
    status = absl::FailedPreconditionError(absl::StrCat(
        "log: writer ", Hex(writer), " is this daemon's own: its commits are known without closing it"));
  }
  loop_->Post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
}

// --- Beside the appends ---

void LocalCoordinator::StartPrefill() {
  if (prefilling_ || stopping_ || broken_ || options_.prefill_bytes <= 0) return;
  prefilling_ = true;
  executor_->Run(Work::kHeavy, [this] {
    absl::Status status = writer_.Prefill();
    loop_->Post([this, status = std::move(status)]() mutable {
      prefilling_ = false;
      if (!status.ok()) return Fatal(std::move(status));
      StopIfIdle();
    });
  });
}

void LocalCoordinator::KeepBallast() {
  // A snapshot may be spending it.
  if (keeping_ballast_ || snapshot_ != nullptr || stopping_ || broken_ || !ballast_.wanted() ||
      ballast_.whole())
    return;
  keeping_ballast_ = true;
  executor_->Run(Work::kHeavy, [this] {
    absl::Status status = ballast_.Keep();
    loop_->Post([this, status = std::move(status)] {
      keeping_ballast_ = false;
      if (!status.ok()) spdlog::warn("ballast_not_kept why=\"{}\"", What(status));
      if (snapshot_ != nullptr && snapshot_->image == nullptr) ReadImage();
      StopIfIdle();
    });
  });
}

void LocalCoordinator::Snapshot(absl::AnyInvocable<void(absl::StatusOr<Version>)> done) {
  if (broken_) return;
  if (stopping_) {
    loop_->Post(
        [done = std::move(done)]() mutable { done(absl::UnavailableError("snapshot: the daemon stops")); });
    return;
  }
  StartSnapshot();
  snapshot_->done.push_back(std::move(done));
}

void LocalCoordinator::StartSnapshot() {
  if (snapshot_ != nullptr || stopping_ || broken_) return;
  snapshot_ = std::make_unique<SnapshotJob>();
  bytes_since_snapshot_ = 0;
  // On the Loop later: a snapshot that has nothing to do is not answered before Snapshot returns.
  if (!keeping_ballast_) loop_->Post([this] { ReadImage(); });
}

// Reads the next part of the image and has it written; then again. The first time it takes the image.
void LocalCoordinator::ReadImage() {
  if (broken_) return;
  SnapshotJob& job = *snapshot_;
  if (job.image == nullptr) {
    if (stopping_) return EndSnapshot(absl::UnavailableError("snapshot: the daemon stops"));
    job.image = sink_->TakeImage();
    const Version version = job.image->version();
    // What is installed was durable before: the log reaches this far whatever happens to the machine.
    assert(version <= durable_ || options_.canaries.answer_before_write);
    if (version == 0 || (!snapshots_.empty() && snapshots_.back() == version)) {
      return EndSnapshot(absl::OkStatus());
    }
    job.writer = std::make_unique<SnapshotWriter>(disk_, SnapshotName(version) + kTemporarySuffix, store_, version,
                                                  job.image->at(), [this] {
                                                    bool spent = ballast_.Spend();
                                                    if (spent) spdlog::warn("ballast_spent for=snapshot");
                                                    return spent;
                                                  });
  }
  if (stopping_) return EndSnapshot(absl::UnavailableError("snapshot: the daemon stops"));
  engine::ImagePart part = job.image->Next(options_.image_items_per_task);
  const bool last = part.entries.empty() && part.ids.empty();
  const Version id_floor = last ? job.image->id_floor() : 0;
  executor_->Run(Work::kHeavy, [this, &job, part = std::move(part), last, id_floor] {
    absl::Status status = last ? job.writer->Finish(id_floor) : job.writer->Add(part);
    const bool sync_failed = job.writer->sync_failed();
    loop_->Post([this, status = std::move(status), last, sync_failed]() mutable {
      if (broken_) return;
      if (sync_failed) return Fatal(std::move(status));
      if (!status.ok() || last) return EndSnapshot(std::move(status));
      ReadImage();
    });
  });
}

void LocalCoordinator::EndSnapshot(absl::Status status) {
  std::unique_ptr<SnapshotJob> job = std::move(snapshot_);
  const Version version = job->image != nullptr ? job->image->version() : 0;
  const bool written = status.ok() && job->writer != nullptr;
  job->image.reset();
  if (written) {
    snapshots_.push_back(version);
    ++stats_.snapshots;
    snapshot_after_bytes_ = static_cast<uint64_t>(options_.snapshot_bytes);
    spdlog::info("snapshot_written version={}", version);
    PruneSnapshots();
  } else if (!status.ok()) {
    // Again, but not with every batch.
    snapshot_after_bytes_ = std::max<uint64_t>(static_cast<uint64_t>(options_.snapshot_bytes) / 4, 1);
    if (!stopping_) spdlog::warn("snapshot_given_up version={} why=\"{}\"", version, What(status));
  }
  for (auto& done : job->done) {
    if (status.ok()) {
      done(version);
    } else {
      done(status);
    }
  }
  // Files are closed and removed off the Loop.
  if (job->writer != nullptr) {
    ++closing_;
    executor_->Run(Work::kHeavy, [this, writer = std::move(job->writer)]() mutable {
      writer.reset();
      loop_->Post([this] {
        --closing_;
        KeepBallast();
        DropSegments();
        StopIfIdle();
      });
    });
    return;
  }
  KeepBallast();
  StopIfIdle();
}

void LocalCoordinator::PruneSnapshots() {
  while (snapshots_.size() > kSnapshotsKept) {
    const std::string name = SnapshotName(snapshots_.front());
    snapshots_.erase(snapshots_.begin());
    ++closing_;
    executor_->Run(Work::kHeavy, [this, name] {
      absl::Status removed = disk_->Remove(name);
      if (!removed.ok()) spdlog::warn("snapshot_not_removed why=\"{}\"", What(removed));
      loop_->Post([this] {
        --closing_;
        StopIfIdle();
      });
    });
  }
}

void LocalCoordinator::Trim(Version id_floor) {
  id_floor_ = std::max(id_floor_, id_floor);
  DropSegments();
}

void LocalCoordinator::DropSegments() {
  if (options_.log_keep_age == absl::InfiniteDuration() || dropping_ || stopping_ || broken_) return;
  if (snapshots_.empty() || loop_->Now() < drop_after_) return;
  // Below the older snapshot, so that recovery can fall back on it.
  const Version covered = options_.canaries.drop_uncovered_segments ? durable_ : snapshots_.front();
  const Version floor = options_.canaries.drop_above_floor ? durable_ : id_floor_;
  const Version droppable = std::min(floor, covered);
  std::vector<Segment> segments = extent_.Get().segments;
  drop_after_ = loop_->Now() + options_.log_drop_every;
  if (segments.size() < 2 || segments[1].before > droppable) return;
  dropping_ = true;
  const absl::Time oldest = TimeOf(loop_->WallNow()) - options_.log_keep_age;
  executor_->Run(Work::kHeavy, [this, segments = std::move(segments), droppable, oldest] {
    absl::Status status;
    int64_t dropped = 0;
    for (size_t i = 0; status.ok() && i + 1 < segments.size() && segments[i + 1].before <= droppable; ++i) {
      // All in this file is older than the first commit of the next.
      absl::StatusOr<std::optional<Instant>> at = FirstCommitAt(disk_, segments[i + 1]);
      status = at.status();
      if (!status.ok() || !*at || TimeOf(**at) >= oldest) break;
      // Readers first: what they are told is there, is there. Each for good before the next goes: an older file that came
      // back alone would leave a hole in the log.
      extent_.DropFirst();
      status = RemoveDurably(disk_, segments[i].name);
      if (status.ok()) {
        ++dropped;
        spdlog::info("log_segment_dropped file={}", segments[i].name);
      }
    }
    if (!status.ok()) spdlog::warn("log_segment_not_dropped why=\"{}\"", What(status));
    loop_->Post([this, dropped] {
      dropping_ = false;
      stats_.segments_dropped += dropped;
      StopIfIdle();
    });
  });
}

// --- Backups ---

// A restore is a snapshot of another store that is put beside a log without a commit: its rename is the commit point, and
// a recovery from there on finds it, makes the log's first file, and removes the one it replaces (recovery.h).
class LocalCoordinator::Intake : public engine::Archive::Intake {
 public:
  Intake(LocalCoordinator* local, uint64_t store) : local_(local), store_(store) {}
  ~Intake() override {
    writer_.reset();
    local_->taking_in_.store(false);
  }

  absl::Status Add(std::string_view text) override {
    absl::StatusOr<engine::ImagePart> part = reader_.Add(text);
    if (!part.ok()) return part.status();
    if (!reader_.begun()) return absl::OkStatus();
    if (writer_ == nullptr) {
      // The ballast is the log's: a restore into too little room has no use for it.
      writer_ = std::make_unique<SnapshotWriter>(local_->disk_, kRestoreName, store_, reader_.version(), reader_.at(),
                                                 [] { return false; },
                                                 local_->options_.canaries.restore_before_sync);
    }
    return Kept(writer_->Add(*part));
  }
  absl::StatusOr<Version> Check() override {
    absl::Status whole = reader_.Check();
    if (!whole.ok()) return whole;
    return reader_.version();
  }

  // THE commit point of a restore.
  absl::Status Finish() { return Kept(writer_->Finish(reader_.id_floor())); }
  uint64_t store() const { return store_; }
  Version version() const { return reader_.version(); }
  Instant at() const { return reader_.at(); }
  Version id_floor() const { return reader_.id_floor(); }

 private:
  absl::Status Kept(absl::Status status) {
    if (!status.ok() && writer_->sync_failed()) {
      local_->loop_->Post([local = local_, status]() mutable { local->Fatal(std::move(status)); });
    }
    return status;
  }

  LocalCoordinator* const local_;
  const uint64_t store_;
  BackupReader reader_;
  std::unique_ptr<SnapshotWriter> writer_;
};

std::unique_ptr<engine::Archive::Printer> LocalCoordinator::Print(Version version, Instant at) {
  return std::make_unique<BackupPrinter>(store_, version, at);
}

absl::StatusOr<std::unique_ptr<engine::Archive::Intake>> LocalCoordinator::TakeIn() {
  if (stopping_ || broken_) return absl::UnavailableError("restore: the daemon stops");
  if (taking_in_.exchange(true)) return OneRestoreAtOnce();
  uint64_t store = 0;
  while (store == 0 || store == store_) store = loop_->Random();
  return std::make_unique<Intake>(this, store);
}

void LocalCoordinator::Install(std::unique_ptr<engine::Archive::Intake> taken,
                               absl::AnyInvocable<void(absl::Status)> done) {
  assert(next_ == std::max(durable_, used_) + 1 && durable_ == 0 && !writing_ && queue_.empty());
  std::unique_ptr<Intake> intake(static_cast<Intake*>(taken.release()));
  if (broken_) return;
  if (stopping_) return done(absl::UnavailableError("restore: the daemon stops"));
  ++closing_;
  executor_->Run(Work::kHeavy, [this, intake = std::move(intake), done = std::move(done)]() mutable {
    absl::Status finished = intake->Finish();
    if (!finished.ok()) {
      intake.reset();
      loop_->Post([this, finished = std::move(finished), done = std::move(done)]() mutable {
        // A sync that failed was told to Fatal before.
        if (broken_) return;
        --closing_;
        done(std::move(finished));
        StopIfIdle();
      });
      return;
    }
    // The store is another from here on, whatever comes: what fails now is for the next start to finish.
    Recovered found;
    found.store = intake->store();
    found.last = found.used = intake->version();
    for (const Segment& segment : extent_.Get().segments) found.replaced.push_back(segment.name);
    absl::Status started = writer_.Start(found, found.store, writer_id_);
    absl::StatusOr<std::unique_ptr<SnapshotReader>> image = SnapshotReader::Open(disk_, SnapshotName(found.last));
    if (!started.ok()) image = std::move(started);
    loop_->Post([this, image = std::move(image), intake = std::move(intake), done = std::move(done)]() mutable {
      if (!image.ok()) return Fatal(image.status());
      store_ = intake->store();
      restoring_ = std::make_unique<Restoring>(Restoring{std::move(intake), *std::move(image), std::move(done)});
      FeedRestored(engine::ImagePart());
    });
  });
}

// Installs a part and has the next one read, until there is no more.
void LocalCoordinator::FeedRestored(engine::ImagePart part) {
  if (!part.entries.empty() || !part.ids.empty()) sink_->InstallImage(std::move(part));
  executor_->Run(Work::kHeavy, [this] {
    absl::StatusOr<engine::ImagePart> next = restoring_->image->Next(options_.recover_commits_per_task);
    const bool last = next.ok() && next->entries.empty() && next->ids.empty();
    if (last) restoring_->image.reset();
    loop_->Post([this, next = std::move(next), last]() mutable {
      if (broken_) return;
      if (!next.ok()) return Fatal(next.status());
      if (!last) return FeedRestored(*std::move(next));
      EndRestore();
    });
  });
}

void LocalCoordinator::EndRestore() {
  std::unique_ptr<Restoring> restored = std::move(restoring_);
  const Intake& intake = *restored->intake;
  durable_ = answered_ = used_ = intake.version();
  next_ = used_ + 1;
  id_floor_ = intake.id_floor();
  snapshots_ = {intake.version()};
  bytes_since_snapshot_ = 0;
  spdlog::info("store_restored store={} version={}", Hex(store_), used_);
  sink_->EndImage(intake.version(), intake.at(), intake.id_floor());
  restored->done(absl::OkStatus());
  // Its memory goes off the Loop.
  executor_->Run(Work::kHeavy, [this, restored = std::move(restored)]() mutable {
    restored.reset();
    loop_->Post([this] {
      --closing_;
      StartPrefill();
      StopIfIdle();
    });
  });
}

// --- Stop ---

void LocalCoordinator::Stop(absl::AnyInvocable<void(absl::Status)> done) {
  assert(!stopping_);
  stopping_ = true;
  stopped_ = std::move(done);
  loop_->Post([this] { StopIfIdle(); });
}

void LocalCoordinator::StopIfIdle() {
  if (!stopping_ || stopped_ == nullptr || broken_) return;
  if (writing_ || !queue_.empty() || prefilling_ || keeping_ballast_ || dropping_ || snapshot_ != nullptr ||
      closing_ > 0) {
    return;
  }
  executor_->Run(Work::kWrite, [this, stopped = std::exchange(stopped_, nullptr)]() mutable {
    absl::Status status = writer_.Stop();
    loop_->Post([stopped = std::move(stopped), status = std::move(status)]() mutable {
      if (status.ok()) spdlog::info("log_stopped");
      stopped(std::move(status));
    });
  });
}

LocalStats LocalCoordinator::stats() const {
  LocalStats stats = stats_;
  stats.snapshot_version = snapshots_.empty() ? 0 : snapshots_.back();
  stats.segments = static_cast<int64_t>(extent_.segments());
  stats.log_bytes = static_cast<int64_t>(extent_.bytes());
  stats.ballast_whole = ballast_.whole();
  return stats;
}

}  // namespace stm::local
