// Archiver keeps a cluster's commits in a directory of this daemon, as a log that people can read: the local
// log's files, without snapshots (log_format.h). It is no commit point: it follows what the tail has applied,
// from memory or from ZooKeeper's log, and while its disk fails commits go on. CatchUp and what is not
// LogReader's: on the Loop; the rest of LogReader: off it, any thread. Always: each commit is written once,
// in version order; a file goes on only behind the commit that was next to its last, else another begins and
// those before it are set aside (a gap).
#ifndef STM_BACKENDS_ZOOKEEPER_ARCHIVER_H_
#define STM_BACKENDS_ZOOKEEPER_ARCHIVER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backends/local/disk.h"
#include "backends/local/log_cursor.h"
#include "backends/local/log_extent.h"
#include "backends/local/log_writer.h"
#include "backends/local/options.h"
#include "backends/local/recovery.h"
#include "backends/zookeeper/archive.h"
#include "backends/zookeeper/log_parts.h"
#include "backends/zookeeper/log_tail.h"
#include "backends/zookeeper/own_tasks.h"
#include "engine/coordinator.h"
#include "engine/loop.h"

namespace stm::zookeeper {

// Behind the names of files that a gap has set aside.
inline constexpr char kBeforeGapSuffix[] = ".before-gap";

// What the next write begins with, instead of going on.
struct ArchiveOpening {
  local::Recovered from;
  bool set_aside = false;  // what other files there are
};

class Archiver final : public engine::LogReader {
 public:
  // All outlive it, those that the options name too.
  Archiver(engine::Loop* loop, LogTail* tail, ArchiveOptions options);
  ~Archiver() override;

  // Reads where the archive ends. FAILED_PRECONDITION: another process has the directory. DATA_LOSS.
  void Open(absl::AnyInvocable<void(absl::Status)> done);
  // The tail has started: finds where that is in its log. FAILED_PRECONDITION: the archive is another
  // store's. DATA_LOSS: or of another past.
  void Find(absl::AnyInvocable<void(absl::Status)> done);
  // Writes from now on. `writer`: this daemon's, for the file's word of the start.
  void Begin(uint64_t writer);
  // The next entry of the log is applied; "": it moves the epoch.
  void Applied(LogEntry entry);
  // Nothing is read from ZooKeeper any more.
  void TailStopped(const absl::Status& status);
  // Writes what is in memory, and the file's last line.
  void Stop(absl::AnyInvocable<void()> done);

  // Entries of ZooKeeper's log at and behind this position it needs, also to go on after a restart.
  int64_t needs() const { return needs_; }
  ArchiveStats stats() const;

  void CatchUp(absl::AnyInvocable<void(absl::Status)> done) override;
  engine::Version FirstVersion() override { return reader_.FirstVersion(); }
  absl::StatusOr<std::unique_ptr<engine::LogCursor>> Open(engine::Version from) override {
    return reader_.Open(from);
  }
  absl::StatusOr<std::vector<engine::LogCursor::Item>> History(const std::string& name,
                                                               engine::Version before,
                                                               size_t limit) override {
    return reader_.History(name, before, limit);
  }

 private:
  struct Waiter {
    int64_t until = 0;  // a position
    absl::Duration since;
    absl::AnyInvocable<void(absl::Status)> done;
  };

  std::string Where() const { return options_.disk->Path(""); }
  absl::Status Place(const LogPlace& place);
  void BeginAnew(engine::Version before);
  void Pump();
  void ReadOn();
  void Write(std::vector<LogEntry> entries);
  void Written(int64_t next, int64_t needs, engine::Version last, int64_t commits,
               local::LogWriter::Result result);
  void OpenWriter();
  absl::Status OpenWriterNow(ArchiveOpening opening, uint64_t store, uint64_t writer);
  void Failed(absl::Status status);
  void GoesOn();
  absl::Status Behind() const;
  void TellWaiters();
  void ExpireWaiters();
  void StopIfIdle();

  engine::Loop* const loop_;
  LogTail* const tail_;
  const ArchiveOptions options_;
  local::LocalOptions local_options_;
  local::LogExtent extent_;
  local::SegmentReader reader_;
  LogParts parts_;
  // One task off the Loop at a time.
  std::unique_ptr<local::LogWriter> writer_;

  local::Recovered found_;  // from Open to Find
  bool found_place_ = false;
  bool begun_ = false;
  uint64_t self_ = 0;
  std::optional<ArchiveOpening> opening_;
  engine::Version last_ = 0;  // all commits up to it are written
  int64_t next_ = 0;          // the entry to be written next
  int64_t needs_ = 0;
  int64_t applied_ = 0;  // entries below are
  // In order, each behind the one before it; those at the end are the newest applied.
  std::deque<LogEntry> pending_;
  int64_t pending_bytes_ = 0;
  bool writing_ = false;
  bool reading_ = false;
  bool resting_ = false;  // until it is tried again
  bool lost_ = false;     // entries before next_, which nobody has written
  absl::Status failed_;   // the last write
  absl::Status stopped_because_;
  std::deque<Waiter> waiters_;  // by `until`
  bool expiring_ = false;
  absl::AnyInvocable<void()> stopped_;
  bool stopping_ = false;
  ArchiveStats stats_;
  OwnTasks tasks_{loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_ARCHIVER_H_
