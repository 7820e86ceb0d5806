// Cleaner keeps the log and what is deleted from filling ZooKeeper. Past its bytes the log's oldest entries
// go, but first the nodes of what they deleted: a tombstone's node, once gone, may be made anew and count
// from 0 again, so the epoch moves on with it, and no check of before stands (a sweep). A segment that is
// full is followed by another. Writers whose daemons are long gone are closed. On the Loop. Always: no commit
// depends on any of it.
#ifndef STM_BACKENDS_ZOOKEEPER_CLEANER_H_
#define STM_BACKENDS_ZOOKEEPER_CLEANER_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "backends/zookeeper/epoch.h"
#include "backends/zookeeper/log_tail.h"
#include "backends/zookeeper/own_tasks.h"
#include "backends/zookeeper/session.h"
#include "engine/loop.h"

namespace stm::zookeeper {

struct CleanerOptions {
  // Of the log's entries. Up to twice as much is kept for daemons that are behind, and for resends.
  int64_t log_bytes_max = 256 << 20;
  // The newest batches stay, whatever they take.
  int64_t log_batches_min = 256;
  // Of one segment. ZooKeeper numbers 2^31.
  int64_t segment_entries_max = 1 << 28;
  absl::Duration every = absl::Seconds(1);
  // A writer whose daemon has not been seen for so long is closed.
  absl::Duration writer_keep = absl::Minutes(10);
};

class Cleaner {
 public:
  class Host {
   public:
    virtual ~Host() = default;
    // It is connected and started, and no other daemon does it; if two think so, one of them fails.
    virtual bool Cleans() = 0;
    // Of all daemons that run, as far as is known: the lowest floor of ids, and the first position that one
    // still has to read, or its archive needs.
    virtual engine::Version IdFloor() = 0;
    virtual int64_t Read() = 0;
    virtual void Multi(std::vector<Op> ops, absl::AnyInvocable<void(MultiResult)> done) = 0;
    virtual bool Alive(uint64_t writer) = 0;
    // `done`: nothing of `writer` can commit any more, by a quorum's word.
    virtual void CloseWriter(uint64_t writer, absl::AnyInvocable<void()> done) = 0;
  };

  // All outlive it.
  Cleaner(engine::Loop* loop, LogTail* tail, CleanerOptions options, Host* host);

  // Once the tail has started.
  void Begin();
  // An entry of the log is applied, the next.
  void Applied(int64_t position, size_t bytes, bool batch);
  // What the log takes, about.
  int64_t LogBytes() const;
  int64_t LogEntries() const;

  int64_t sweeps() const { return sweeps_; }
  int64_t swept() const { return swept_; }      // nodes
  int64_t trimmed() const { return trimmed_; }  // log entries
  int64_t segments() const { return segments_; }

 private:
  struct Sweeping;

  void Tick();
  int64_t UpTo() const;
  void Sweep(int64_t up_to);
  void ReadOn(std::shared_ptr<Sweeping> sweeping);
  void LookAtNodes(std::shared_ptr<Sweeping> sweeping);
  void Move(const Epoch& from, Epoch next, std::vector<Op> ops, EpochMove move,
            absl::AnyInvocable<void()> done);
  void Trim();
  void TrimSegment(int64_t number);
  void AskSegment(int64_t number, absl::AnyInvocable<void(SegmentText, Stat)> done);
  void NewSegment();
  void LookForWriters();
  void Idle() { busy_ = false; }

  engine::Loop* const loop_;
  LogTail* const tail_;
  const CleanerOptions options_;
  Host* const host_;

  bool busy_ = false;
  // Of what was applied since the start and is not trimmed: positions and what entries take.
  struct Known {
    int64_t position = 0;
    uint32_t bytes = 0;
    bool batch = false;
  };
  std::deque<Known> known_;
  int64_t known_bytes_ = 0;
  absl::flat_hash_map<uint64_t, absl::Duration> gone_since_;  // writers
  absl::Duration looked_for_writers_ = -absl::InfiniteDuration();
  int64_t sweeps_ = 0;
  int64_t swept_ = 0;
  int64_t trimmed_ = 0;
  int64_t segments_ = 0;
  OwnTasks tasks_{loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_CLEANER_H_
