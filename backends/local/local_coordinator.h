// LocalCoordinator orders the commits of one daemon that runs alone and keeps them in a directory: a log that
// people can read, and snapshots of what it comes to (DESIGN section 6). Coordinator's and Writers' methods
// on the Loop; LogReader's off it, from any thread. Always: a batch is answered only when all of it is
// durable; batches are decided in the order they are given; one write task at most is under way. After an
// error that leaves the log's state unknown nothing is answered any more. It goes after Stop's `done`, or
// after its Loop and Executor have ended; and before its Sink, of which it may hold an image.
#ifndef STM_BACKENDS_LOCAL_LOCAL_COORDINATOR_H_
#define STM_BACKENDS_LOCAL_LOCAL_COORDINATOR_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/backup.h"
#include "backends/local/ballast.h"
#include "backends/local/disk.h"
#include "backends/local/log_cursor.h"
#include "backends/local/log_extent.h"
#include "backends/local/log_writer.h"
#include "backends/local/options.h"
#include "backends/local/recovery.h"
#include "backends/local/snapshot.h"
#include "engine/coordinator.h"
#include "engine/loop.h"

namespace stm::local {

// Counters since the start, and gauges.
struct LocalStats {
  int64_t batches = 0;  // durable
  int64_t commits = 0;
  int64_t bytes = 0;                     // of log written
  int64_t no_space = 0;                  // batches that found no room
  int64_t snapshots = 0;                 // written
  engine::Version snapshot_version = 0;  // of the newest; 0: none
  int64_t segments = 0;                  // kept
  int64_t log_bytes = 0;                 // of all of them
  int64_t segments_dropped = 0;
  int64_t commits_recovered = 0;
  int64_t torn_tails = 0;  // cut at this start
  bool ballast_whole = false;
  bool no_room = false;  // the last batch found none
};

class LocalCoordinator : public engine::Coordinator,
                         public engine::Writers,
                         public engine::LogReader,
                         public engine::Archive {
 public:
  // All outlive the coordinator.
  LocalCoordinator(engine::Loop* loop, engine::Executor* executor, Disk* disk, LocalOptions options);
  ~LocalCoordinator() override;

  // Coordinator. Recover takes the directory's lock. FAILED_PRECONDITION: another process has it. DATA_LOSS
  // and UNIMPLEMENTED name file and line. Barrier answers at once, before it returns: installed state is
  // never behind an answered commit.
  void Recover(engine::Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) override;
  void Append(engine::Batch batch, absl::AnyInvocable<void(engine::AppendResult)> done) override;
  void Barrier(absl::AnyInvocable<void(absl::StatusOr<engine::Version>)> done) override;
  void Trim(engine::Version id_floor) override;

  // Writers. The directory's lock proves that no other writer is alive.
  uint64_t store() const override { return store_; }
  uint64_t self() const override { return writer_id_; }
  void Close(uint64_t writer, absl::AnyInvocable<void(absl::Status)> done) override;
  bool Alive(uint64_t writer) override { return writer == self(); }

  // LogReader. What is installed was durable before.
  void CatchUp(absl::AnyInvocable<void(absl::Status)> done) override { done(absl::OkStatus()); }
  engine::Version FirstVersion() override { return reader_.FirstVersion(); }
  absl::StatusOr<std::unique_ptr<engine::LogCursor>> Open(engine::Version from) override {
    return reader_.Open(from);
  }
  absl::StatusOr<std::vector<engine::LogCursor::Item>> History(const std::string& name,
                                                               engine::Version before,
                                                               size_t limit) override {
    return reader_.History(name, before, limit);
  }

  // Archive. What is taken in lies in the directory, under a temporary name.
  std::unique_ptr<engine::Archive::Printer> Print(engine::Version version, Instant at) override;
  absl::StatusOr<std::unique_ptr<engine::Archive::Intake>> TakeIn() override;
  void Install(std::unique_ptr<engine::Archive::Intake> intake,
               absl::AnyInvocable<void(absl::Status)> done) override;

  // Writes a snapshot of what is installed now, or joins one that has begun; its version. RESOURCE_EXHAUSTED:
  // no room, not even with the ballast. On the Loop.
  void Snapshot(absl::AnyInvocable<void(absl::StatusOr<engine::Version>)> done);
  // Waits for what is under way, writes the :stop line; then the directory may be opened again. No Append
  // after it. On the Loop.
  void Stop(absl::AnyInvocable<void(absl::Status)> done);
  // On the Loop.
  LocalStats stats() const;

 private:
  class Intake;
  struct Restoring {
    std::unique_ptr<Intake> intake;
    std::unique_ptr<SnapshotReader> image;
    absl::AnyInvocable<void(absl::Status)> done;
  };
  struct Pending {
    engine::Batch batch;
    absl::AnyInvocable<void(engine::AppendResult)> done;
  };
  struct SnapshotJob {
    std::unique_ptr<engine::Image> image;
    std::unique_ptr<SnapshotWriter> writer;
    std::vector<absl::AnyInvocable<void(absl::StatusOr<engine::Version>)>> done;
  };

  // Recovery: chunks are read off the Loop and installed on it, one being read while another is installed.
  void ReadChunk();
  void InstallChunk(absl::StatusOr<RecoveryChunk> chunk);
  void EndRecovery();
  void FailRecovery(absl::Status status);

  // Says once that the clock stands before the newest commit, and once that it no longer does.
  void TellClock(Instant newest);
  void WriteNext();
  void Written(std::vector<Pending> written, LogWriter::Result result);
  void Fatal(absl::Status status);

  void StartPrefill();
  void KeepBallast();
  void StartSnapshot();
  void ReadImage();
  void EndSnapshot(absl::Status status);
  void PruneSnapshots();
  void DropSegments();
  void FeedRestored(engine::ImagePart part);
  void EndRestore();
  void StopIfIdle();

  engine::Loop* const loop_;
  engine::Executor* const executor_;
  Disk* const disk_;
  LocalOptions options_;
  LogExtent extent_;
  LogWriter writer_;
  SegmentReader reader_;
  Ballast ballast_;

  engine::Sink* sink_ = nullptr;
  absl::AnyInvocable<void(absl::Status)> recovered_;
  std::unique_ptr<Recovery> recovery_;
  absl::Status recovery_status_;
  absl::Duration recovery_began_;

  uint64_t store_ = 0;
  uint64_t writer_id_ = 0;
  engine::Version next_ = 1;      // the version to give next
  engine::Version used_ = 0;      // when recovered: not to be given again
  engine::Version durable_ = 0;   // the newest durable one, as the Loop knows
  engine::Version answered_ = 0;  // and told
  bool clock_behind_ = false;     // told
  bool writing_ = false;
  std::deque<Pending> queue_;
  uint64_t bytes_since_snapshot_ = 0;
  uint64_t snapshot_after_bytes_ = 0;  // of log since the last; put off after one that found no room

  bool prefilling_ = false;
  bool keeping_ballast_ = false;
  bool dropping_ = false;
  int closing_ = 0;  // files being closed or removed off the Loop
  std::unique_ptr<SnapshotJob> snapshot_;
  std::vector<engine::Version> snapshots_;  // whole ones, ascending
  engine::Version id_floor_ = 0;
  absl::Duration drop_after_;  // on the Loop's clock: not looked at again before

  std::atomic<bool> taking_in_{false};
  std::unique_ptr<Restoring> restoring_;  // ends taking_in_

  bool broken_ = false;
  bool stopping_ = false;
  absl::AnyInvocable<void(absl::Status)> stopped_;
  LocalStats stats_;
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_LOCAL_COORDINATOR_H_
