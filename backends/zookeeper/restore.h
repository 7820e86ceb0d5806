// Makes a store in ZooKeeper of a backup: stmctl restore. On the Loop.
//
// Entries' nodes go first, in many multis; while they do, /stm/restore stands for the store, and there is no
// epoch. THE commit point is the last multi, which puts the rest of a store in its place: before it there is
// no store, after it the whole. Every multi checks the version of /stm/restore, which each run raises before
// it deletes what another one left, and again behind that: so what a run sent that was given up changes
// nothing any more, however late it comes.
//
// Versions go on above the backup's: the epoch's base is the backup's version. The log begins with a move of
// the epoch, behind all entries' nodes, so that a daemon begins at a version above theirs.
#ifndef STM_BACKENDS_ZOOKEEPER_RESTORE_H_
#define STM_BACKENDS_ZOOKEEPER_RESTORE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backends/local/backup.h"
#include "backends/zookeeper/making.h"
#include "backends/zookeeper/nodes.h"
#include "backends/zookeeper/own_tasks.h"
#include "backends/zookeeper/session.h"
#include "engine/coordinator.h"
#include "engine/loop.h"

namespace stm::zookeeper {

// The next of a backup's text, cut anywhere; "", and again: its end.
using BackupText = absl::AnyInvocable<absl::StatusOr<std::string>()>;

// Planted bugs: each proves that a checker can fail.
struct RestoreCanaries {
  bool base_stays = false;       // versions begin at 0
  bool log_stays_empty = false;  // a daemon begins below what is restored
  bool skip_fence = false;       // a run that was given up goes on
};

struct RestoreOptions {
  SessionOptions session;
  absl::Duration patience = absl::Seconds(10);  // without any answer; then it is UNAVAILABLE
  // From its beginning: twice, first to see that the backup is whole.
  absl::AnyInvocable<absl::StatusOr<BackupText>()> open;
  size_t multi_bytes = 256 << 10;  // about; one entry may need more
  size_t under_way_max = 8;        // multis
  RestoreCanaries canaries;
};

struct Restored {
  uint64_t store = 0;
  engine::Version version = 0;  // the backup's: all that come are above
  int64_t entries = 0;          // tombstones are left out
};

// Puts entries into multis, each with the nodes above it that none before it makes.
class EntryMultis {
 public:
  // `first`: of each multi.
  EntryMultis(size_t multi_bytes, size_t chroot_bytes, std::vector<Op> first);

  // Names come in the backup's order. RESOURCE_EXHAUSTED: a packet of ZooKeeper does not hold it.
  absl::Status Add(engine::ImageEntry entry);
  void End();  // there are no more
  bool ready() const { return !ready_.empty(); }
  std::vector<Op> Take();
  int64_t entries() const { return entries_; }

 private:
  const size_t multi_bytes_;
  const size_t chroot_bytes_;
  const std::vector<Op> first_;
  Nodes nodes_;  // those that are made
  std::vector<Op> ops_;
  size_t bytes_ = 0;  // of ops_
  std::deque<std::vector<Op>> ready_;
  int64_t entries_ = 0;
};

class Restore {
 public:
  // All outlive it. `done` once, in a later task. ALREADY_EXISTS: there is a store; DATA_LOSS: the backup is
  // damaged; RESOURCE_EXHAUSTED: a packet of ZooKeeper does not hold an entry: nothing was made. ABORTED:
  // another run has taken over. PERMISSION_DENIED; UNAVAILABLE: no answer in time; RESOURCE_EXHAUSTED: a
  // quota: there is no store, and the next run begins anew.
  Restore(engine::Loop* loop, Sessions* sessions, RestoreOptions options,
          absl::AnyInvocable<void(absl::StatusOr<Restored>)> done);

 private:
  enum class Stage : uint8_t {
    kCheck,   // reads the backup
    kTake,    // makes /stm/restore, or takes it over, and lists what another run has left
    kClean,   // deletes that
    kWrite,   // makes entries' nodes
    kCommit,  // makes it a store
    kOver,
  };
  struct Sent {
    enum class State : uint8_t { kSent, kUnknown, kDone };
    std::vector<Op> ops;
    State state = State::kSent;
    bool again = false;  // it may have been done by an earlier try
  };
  struct Reading {
    BackupText text;
    local::BackupReader backup;
    EntryMultis multis;
  };

  // The backup, for the first time or again.
  absl::Status Open();
  absl::StatusOr<bool> ReadSome();  // false: it is whole, and over
  void CheckOn();

  void OnConnected(Chroot::Connected connected);
  void TakeAgain();
  void Take();
  void Look();
  void TakeOver(int32_t version);
  void List();
  void ListLevel(std::shared_ptr<std::vector<std::string>> paths, size_t from);
  void RaiseFence();

  void Begin(Stage stage);
  void Fill();
  absl::StatusOr<std::optional<std::vector<Op>>> NextMulti();
  std::vector<Op> NextDeletes();
  void StageOver();
  void Send(std::vector<Op> ops);
  void Issue(const std::shared_ptr<Sent>& sent);
  void Answered(const std::shared_ptr<Sent>& sent, const MultiResult& result);
  bool SomeUnknown() const;
  void SendAgain();
  void Commit();
  void LookForOwn();

  absl::Status Taken() const;
  absl::Status Refused(Code code, const std::string& path) const;
  void Done(absl::StatusOr<Restored> result);

  engine::Loop* const loop_;
  Sessions* const sessions_;
  RestoreOptions options_;
  absl::AnyInvocable<void(absl::StatusOr<Restored>)> done_;
  std::optional<Reading> reading_;
  std::unique_ptr<Chroot> chroot_;
  Stage stage_ = Stage::kCheck;
  int32_t fence_ = 0;              // the version of kRestorePath that this run has given it
  uint64_t take_ = 0;              // of kTake: answers to an earlier one count no more
  std::vector<std::string> left_;  // paths to be deleted, those below others behind them
  std::deque<std::shared_ptr<Sent>> under_way_;
  Restored restored_;
  OwnTasks tasks_{loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_RESTORE_H_
