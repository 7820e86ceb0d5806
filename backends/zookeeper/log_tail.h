// LogTail follows the log on a session of its own: reads it whole and in order, from some entry on, and
// applies it. It never reads past an entry that its server doesn't show: a server that lost one is left for
// another. Entries are told by their positions in the whole log. On the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_LOG_TAIL_H_
#define STM_BACKENDS_ZOOKEEPER_LOG_TAIL_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backends/zookeeper/epoch.h"
#include "backends/zookeeper/own_tasks.h"
#include "backends/zookeeper/session.h"
#include "backends/zookeeper/session_reader.h"
#include "backends/zookeeper/turn_text.h"
#include "engine/loop.h"
#include "engine/transaction.h"

namespace stm::zookeeper {

struct TailOptions {
  // Of the log, read at a start: whose transactions' ids are known then.
  int64_t recovered_entries_max = 10'000;
  // And about so many bytes of them.
  int64_t recovered_bytes_max = 16 << 20;
  int64_t fetches_under_way_max = 64;
  // A barrier that has no answer by then is UNAVAILABLE.
  absl::Duration barrier_patience = absl::Seconds(2);
};

// Planted bugs: each proves that a checker can fail.
struct TailCanaries {
  bool read_past_holes = false;   // a batch that a server doesn't show is left out
  bool trust_any_server = false;  // what is loaded may be older than what is applied
  bool barrier_by_head = false;   // the head of any server is taken for the newest
  bool trust_any_connection =
      false;  // what was asked for before a connection was lost is answered by the next
};

class LogTail final : private SessionReader::Listener {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // Before the first batch: commits up to `version` are not told.
    virtual void OnBegin(engine::Version version) = 0;
    // The next entry, a batch. `data`: of the log entry; empty: of one that was told by Own. Not OK: it
    // stops.
    virtual absl::Status OnBatch(int64_t position, int64_t zxid, const std::string& data) = 0;
    // The next entry: the epoch moves on, in which commits are sent from now on.
    virtual void OnMove(int64_t position, int64_t zxid, const EpochMove& move, size_t bytes) = 0;
    // The next entry: a daemon asks for a turn.
    virtual void OnTurn(int64_t position, int64_t zxid, const TurnText& turn, size_t bytes) = 0;
    // Are batches of this daemon under way, where Own will tell of those that commit?
    virtual bool AwaitsOwn() const = 0;
    // For good: DATA_LOSS and the like, and the remedy. OUT_OF_RANGE: what this daemon has not read is
    // trimmed: it begins anew.
    virtual void OnStopped(const absl::Status& status) = 0;
  };

  // All outlive it.
  LogTail(engine::Loop* loop, Sessions* sessions, SessionOptions session, TailOptions options,
          TailCanaries canaries, Listener* listener);

  // `done`: all that was in the log then is applied; or what is wrong, FAILED_PRECONDITION: there is no store
  // here, or one whose restore has not ended.
  void Start(absl::AnyInvocable<void(absl::Status)> done);
  // A batch whose text the listener has is at `position`.
  void Own(int64_t position, int64_t zxid);
  // `done`: all that was committed when this was called is applied, by a quorum's word. UNAVAILABLE: nobody
  // knows.
  void Barrier(absl::AnyInvocable<void(absl::Status)> done);
  // Asks a server that has all that is applied; `done` when all is applied that it had when it answered. Not
  // at all once it has stopped.
  void Read(std::vector<Ask> asks, absl::AnyInvocable<void(std::vector<Answer>)> done);
  // This server has lost something: goes on with another.
  void LeaveServer();
  // Stops, if it has not, and ends its session.
  void Leave(absl::Status why);

  bool connected() const { return reader_.connected(); }
  // Is it known whose log it is, and is a server asked at once?
  bool readable() const { return identified_ && !stopped_ && connected(); }
  // As of what is applied: what is known of nodes is of this epoch.
  const Epoch& epoch() const { return epoch_; }
  int64_t next() const { return next_; }                         // the entry to be applied next
  int64_t head() const { return std::max(head_, newer_head_); }  // entries below are there
  int64_t trimmed() const { return mark_; }                      // entries below are
  void Trimmed(int64_t below) { mark_ = std::max(mark_, below); }
  int64_t holes() const { return holes_; }  // servers that were left for one

 private:
  struct Fetched {
    bool own = false;
    bool here = false;
    int64_t zxid = 0;
    std::string data;
  };
  // A segment of the log: the positions of its entries, but for those that are trimmed.
  struct Segment {
    int64_t first = 0;
    int64_t head = 0;
    bool closed = false;  // the log goes on in the next
  };
  struct Waiters {
    std::vector<absl::AnyInvocable<void(absl::Status)>> done;
  };

  void OnWatch(const std::string& path) override;
  void OnConnected(bool fresh) override;
  void OnRefused(absl::Status status) override { Stop(std::move(status)); }

  void CheckApplied();
  void DoubtApplied(const std::string& applied, int32_t version);
  void Identify();
  void AskEpoch(absl::AnyInvocable<void(bool known)> done);  // not at all if that stops it
  void AskWhatStands(absl::AnyInvocable<void(bool known)> done);
  // False: it has stopped, or the answer is older than what is known.
  bool TakeEpoch(Code store, const Answer& answer);
  void DoubtEpoch(int32_t version, absl::AnyInvocable<void(bool known)> done);
  void DoubtHead(int64_t head, int64_t next, absl::AnyInvocable<void()> then);
  static Ask AskSegment(int64_t number);
  void LookBack(const Segment& segment, const Segment& before);
  void Begin(const Segment& segment, const Segment& before, int64_t entries);
  void BeginFurther();
  void LookForHead();
  // Of its node. False: this server does not show it, and is left if it is the newest one's.
  bool TakeSegment(int64_t number, const Answer& answer, Segment* segment);
  bool IsGone(int64_t number, const Answer& answer) const;
  void ConfirmGone(int64_t number, absl::AnyInvocable<void(bool gone)> done);
  void RaiseHead(int64_t head);
  void Pump();
  void Fetch(int64_t position);
  void Missing(int64_t position);
  void StopBehind(int64_t position);
  absl::Status Apply(int64_t position, const Fetched& fetched);
  void ApplyFetched();
  void GoOnIn(int64_t segment);
  void WatchNext();
  void Appeared(int64_t position);
  void ReadAppeared();
  void RunBarrier();
  void Confirm(std::shared_ptr<Waiters> waiters);
  bool IsOfAnother(uint64_t connection) const;
  void ConfirmHead(int64_t head, std::shared_ptr<Waiters> waiters);
  static void TellWaiters(Waiters* waiters, const absl::Status& status);
  void AskBarrierAgain(Waiters* waiters);
  void Stop(absl::Status status);
  void WhenApplied(int64_t next, absl::AnyInvocable<void()> done);

  engine::Loop* const loop_;
  const TailOptions options_;
  int64_t recovered_entries_max_;  // of options_, or more, if no batch is among so many
  int64_t recovered_bytes_max_;
  const TailCanaries canaries_;
  Listener* const listener_;
  SessionReader reader_;

  absl::AnyInvocable<void(absl::Status)> started_;
  bool identified_ = false;  // an epoch is known, and next_
  bool begun_ = false;
  bool stopped_ = false;
  absl::Status stopped_because_;
  int32_t denied_ = -1;  // a version of the epoch that a server told and a quorum did not
  Epoch epoch_;          // as of what is applied
  Epoch newest_;         // as last read
  int64_t mark_ = 0;     // entries below are trimmed
  int64_t next_ = 0;
  int64_t applied_ = 0;       // the entry applied last
  int64_t applied_zxid_ = 0;  // that made it; 0: none was
  int64_t begun_at_ = 0;      // the first that was read
  int64_t fetch_ = 0;         // the next to be fetched
  int64_t head_ = 0;          // entries below are there, in the segment that is read
  int64_t newer_head_ = 0;    // in a later one
  int64_t moved_to_ = 0;      // the segment that the log goes on in, as applied
  std::map<int64_t, Fetched> fetched_;
  bool watching_ = false;
  int64_t watched_ = 0;
  std::string watched_path_;
  int64_t appeared_ = 0;              // entries below were seen to be there
  bool awaits_own_ = false;           // until kOwnAnswer is over
  absl::Duration own_at_ = -absl::InfiniteDuration();  // when Own told of the last one
  bool awaits_lull_ = false;          // until kOwnLull is over
  std::shared_ptr<Waiters> waiters_;  // for the next barrier
  bool barrier_runs_ = false;
  std::multimap<int64_t, absl::AnyInvocable<void()>> when_applied_;
  int64_t holes_ = 0;
  OwnTasks tasks_{loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_LOG_TAIL_H_
