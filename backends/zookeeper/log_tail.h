// LogTail follows the log on a session of its own: reads it whole and in order, from some batch on, and
// applies it. It never reads past a batch that its server doesn't show: a server that lost one is left for
// another. On the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_LOG_TAIL_H_
#define STM_BACKENDS_ZOOKEEPER_LOG_TAIL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backends/zookeeper/session.h"
#include "backends/zookeeper/session_reader.h"
#include "engine/loop.h"
#include "engine/transaction.h"

namespace stm::zookeeper {

// What /stm/epoch says.
struct Epoch {
  int32_t version = 0;  // of its node: every commit checks it
  uint64_t store = 0;
  engine::Version base = 0;  // versions are above
  int64_t segment = 0;       // of the log, the present one
};
std::string PrintEpoch(const Epoch& epoch);
// UNIMPLEMENTED: of a newer format. DATA_LOSS: no such thing.
absl::StatusOr<Epoch> ParseEpoch(const std::string& data);

struct TailOptions {
  // Of the log, read at a start: whose transactions' ids are known then.
  int64_t recovered_batches_max = 10'000;
  int64_t fetches_under_way_max = 64;
  // A barrier that has no answer by then is UNAVAILABLE.
  absl::Duration barrier_patience = absl::Seconds(2);
};

// Planted bugs: each proves that a checker can fail.
struct TailCanaries {
  bool read_past_holes = false;   // a batch that a server doesn't show is left out
  bool trust_any_server = false;  // what is loaded may be older than what is applied
  bool barrier_by_head = false;   // the head of any server is taken for the newest
};

class LogTail final : private SessionReader::Listener {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // Before the first batch: commits up to `version` are not told.
    virtual void OnBegin(engine::Version version) = 0;
    // The next batch. `data`: of the log entry; empty: of one that was told by Own. Not OK: it stops.
    virtual absl::Status OnBatch(int64_t index, int64_t zxid, const std::string& data) = 0;
    // For good: DATA_LOSS and the like, and the remedy.
    virtual void OnStopped(const absl::Status& status) = 0;
  };

  // All outlive it.
  LogTail(engine::Loop* loop, Sessions* sessions, SessionOptions session, TailOptions options,
          TailCanaries canaries, Listener* listener);

  // `done`: all that was in the log then is applied; or what is wrong, FAILED_PRECONDITION: there is no store
  // here.
  void Start(absl::AnyInvocable<void(absl::Status)> done);
  // A batch whose text the listener has is at `index`.
  void Own(int64_t index, int64_t zxid);
  // `done`: all that was committed when this was called is applied, by a quorum's word. UNAVAILABLE: nobody
  // knows.
  void Barrier(absl::AnyInvocable<void(absl::Status)> done);
  // Asks a server that has all that is applied; `done` when all is applied that it had when it answered. Not
  // at all once it has stopped.
  void Read(std::vector<Ask> asks, absl::AnyInvocable<void(std::vector<Answer>)> done);
  // Another daemon may have moved it on: `done` when it is read again.
  void ReloadEpoch(absl::AnyInvocable<void()> done);

  const Epoch& epoch() const { return epoch_; }
  int64_t next() const { return next_; }  // the batch to be applied next
  // When the last barrier that was answered began.
  absl::Duration confirmed_at() const { return confirmed_at_; }
  int64_t holes() const { return holes_; }  // servers that were left for one

 private:
  struct Fetched {
    bool own = false;
    bool here = false;
    int64_t zxid = 0;
    std::string data;
  };
  struct Waiters {
    std::vector<absl::AnyInvocable<void(absl::Status)>> done;
  };

  void OnWatch(const std::string& path) override;
  void OnConnected(bool fresh) override;
  void OnRefused(absl::Status status) override { Stop(std::move(status)); }

  void Identify();
  void AskEpoch(absl::AnyInvocable<void(bool known)> done);  // not at all if that stops it
  bool TakeEpoch(Code store, const Answer& answer);
  void LeaveServer();
  void Begin(int64_t head);
  void LookForHead();
  // Of the log's node. False: this server does not show it, and is left.
  bool TakeHead(const Answer& log, int64_t* head);
  bool WentBack(int64_t head, int64_t applied);
  void RaiseHead(int64_t head);
  void Pump();
  void Fetch(int64_t index);
  void Missing(int64_t index);
  void Apply();
  void WatchNext();
  void RunBarrier();
  void Stop(absl::Status status);
  void WhenApplied(int64_t next, absl::AnyInvocable<void()> done);
  void After(absl::Duration time, absl::AnyInvocable<void()> task);
  std::string LogNode() const;

  engine::Loop* const loop_;
  const TailOptions options_;
  const TailCanaries canaries_;
  Listener* const listener_;
  SessionReader reader_;

  absl::AnyInvocable<void(absl::Status)> started_;
  bool identified_ = false;  // an epoch is known, and next_
  bool begun_ = false;
  bool stopped_ = false;
  absl::Status stopped_because_;
  Epoch epoch_;
  int64_t mark_ = 0;  // batches below are trimmed
  int64_t next_ = 0;
  int64_t fetch_ = 0;  // the next to be fetched
  int64_t head_ = 0;   // batches below are there
  std::map<int64_t, Fetched> fetched_;
  bool watching_ = false;
  int64_t watched_ = 0;
  std::shared_ptr<Waiters> waiters_;  // for the next barrier
  bool barrier_runs_ = false;
  absl::Duration confirmed_at_ = -absl::InfiniteDuration();
  std::multimap<int64_t, absl::AnyInvocable<void()>> when_applied_;
  int64_t holes_ = 0;
  const std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_LOG_TAIL_H_
