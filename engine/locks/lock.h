// A lock is entries, changed by procedures (procedure.h) in ordinary commits, so it is durable, replicated,
// watchable and in the log, and a resent call is known by its id. FIFO, as java.util.concurrent's fair locks.
// Pure; any thread.
//
//   /.locks/NAME                   who holds it, the last token, and the first place that waits
//   /.queues/NAME                  the next place: a newcomer does not change the lock's own entry, which
//   fences check
//   /.waiters/NAME/PLACE           one who waits
//   /.conditions/NAME/COND         the condition's first and next place
//   /.awaits/NAME/COND/PLACE       one who awaits a signal, until it has the lock again
//
// NAME has its "/" in front. Always: a lock's first place, if it is not the next one, is somebody's; whoever
// waits has a session, which ends its place and its holds in the commit that ends it (session.h). Tokens:
// max(last token + 1, newest version), so they grow, also after the lock's entry was deleted: it is only when
// the newest version is above its last token.
#ifndef STM_ENGINE_LOCKS_LOCK_H_
#define STM_ENGINE_LOCKS_LOCK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/lock_bounds.h"
#include "engine/procedure.h"
#include "engine/values/value.h"

namespace stm::engine {

enum class LockMode : uint8_t { kExclusive, kShared, kPermits };

// Whose a hold is: reentrant for the same two. owner "": the session itself.
struct LockOwner {
  std::string session;
  std::string owner;
  friend bool operator==(const LockOwner& a, const LockOwner& b) {
    return a.session == b.session && a.owner == b.owner;
  }
};

// One grant: what one token stands for.
struct LockHold {
  LockOwner by;
  LockMode mode = LockMode::kExclusive;
  int64_t token = 0;
  int64_t holds = 1;    // of exclusive and shared: how often it was taken
  int64_t permits = 0;  // of kPermits
  Uuid acquire;         // the id of the call that was granted
  Uuid again;           // of the last that took it once more, until one of its holds is released; zero: none
  Instant since;
  bool unsignalled = false;  // it is of one who awaited a condition until its time was over
};

struct LockState {
  int64_t token = 0;        // the last that was given
  int64_t first = 0;        // place
  int64_t permits_max = 0;  // 0: no semaphore
  std::vector<LockHold> holders;

  const LockHold* Find(int64_t token) const;
  // Of this owner, mode and, unless it is 0, token. kPermits: with token 0 the oldest.
  const LockHold* Find(const LockOwner& by, LockMode mode, int64_t token = 0) const;
  std::vector<int64_t> Tokens() const;
};

struct LockWaiter {
  LockOwner by;
  LockMode mode = LockMode::kExclusive;
  int64_t permits = 0;
  int64_t holds = 1;  // to be given: more than 1 after a condition
  Uuid acquire;
  Instant since;
  std::string await;  // its entry under /.awaits/, which goes with the grant; "": it comes from no condition
  bool unsignalled = false;  // as in LockHold
};

// So that names of entries are legal.
inline constexpr size_t kLockNameBytesMax = 400;
inline constexpr size_t kLockNameSegmentsMax = 28;
inline constexpr size_t kConditionNameBytesMax = 64;

// Names of entries.
std::string LockEntry(std::string_view lock);
std::string QueueEntry(std::string_view lock);
std::string WaiterEntry(std::string_view lock, int64_t place);
std::string ConditionEntry(std::string_view lock, std::string_view condition);
std::string AwaitEntry(std::string_view lock, std::string_view condition, int64_t place);
// The lock's name of a LockEntry; nullopt: it is none.
std::optional<std::string_view> LockOfEntry(std::string_view entry);
// Is the entry one whose end by its TTL SweepLocks alone decides?
bool IsSweptLock(std::string_view entry);

// What entries hold. DATA_LOSS: no such thing is written by this daemon; names the entry.
absl::StatusOr<LockState> ReadLock(std::string_view lock, const std::optional<Value>& value);
absl::StatusOr<LockWaiter> ReadWaiter(std::string_view entry, const Value& value);

// INVALID_ARGUMENT. A condition's name is one segment.
absl::Status CheckLockName(std::string_view field, std::string_view lock);
absl::Status CheckConditionName(std::string_view field, std::string_view condition);

enum class LockOutcome : uint8_t {
  kGranted,         // token, holds
  kQueued,          // place
  kBusy,            // in_the_way
  kUpgradeRefused,  // in_the_way: others read
  kDeadlock,        // cycle
  kReleased,
  kStillHeld,  // holds
  kNotHeld,
  kNotYours,   // in_the_way
  kLeft,       // the place was given up; in_the_way
  kSignalled,  // woken, or of an await: it has its place in the lock's queue, or the lock
};

// One who is in the way, or one step of a cycle: `by` holds `lock` and waits for `waits_for` ("": does not).
struct LockStep {
  std::string lock;
  LockHold hold;
  std::string waits_for;
};

// What a procedure below came to. As a Value it is the result of the commit.
struct LockAnswer {
  LockOutcome outcome = LockOutcome::kReleased;
  int64_t token = 0;
  int64_t holds = 0;
  int64_t place = 0;
  int64_t woken = 0;
  bool more = false;                 // of a signal to all: some are left to be woken
  std::vector<LockStep> in_the_way;  // at most kInTheWayMax

  Value ToValue() const;
  static absl::StatusOr<LockAnswer> FromValue(const Value& value);
};
inline constexpr size_t kInTheWayMax = 4;
// An answer that has no more to say.
LockAnswer Only(LockOutcome outcome);

struct AcquireLock {
  std::string lock;
  LockOwner by;
  LockMode mode = LockMode::kExclusive;
  int64_t permits = 1;
  int64_t permits_max = 0;  // of kPermits: how many there are, fixed while anyone holds or waits
  Uuid acquire;
  bool at_once = false;  // takes what is free past those who wait, and never waits: tryLock()
};

// Errors of all: SESSION_EXPIRED, LIMIT, WRONG_KIND (a semaphore is not locked, a lock has no permits),
// DATA_LOSS. kGranted, kQueued, kBusy, kUpgradeRefused, kDeadlock.
std::shared_ptr<const Procedure> MakeAcquire(AcquireLock request, LockBounds bounds);
// One hold of the owner's less. token 0: of its exclusive hold, else its shared one, else its oldest permits.
// kReleased, kStillHeld, kNotHeld, kNotYours.
std::shared_ptr<const Procedure> MakeRelease(std::string lock, LockOwner by, int64_t token,
                                             LockBounds bounds);
// What became of the call `acquire`, which was queued at `place`. Still waiting: its place is given up,
// kLeft. It has the lock: kGranted, or with `give_back` one hold less, as MakeRelease. Neither: kNotHeld.
std::shared_ptr<const Procedure> MakeLeave(std::string lock, int64_t place, Uuid acquire, bool give_back,
                                           LockBounds bounds);
// What became of a call whose answer is not known: kGranted, kQueued, kNotHeld. `mode`: of a hold that the
// call may have added to before others did; kPermits: it counts only under its id. Changes nothing.
std::shared_ptr<const Procedure> MakeFind(std::string lock, LockOwner by, LockMode mode, Uuid acquire,
                                          LockBounds bounds);
// The same of one that awaits: kQueued with its place in the condition, or kGranted, or kNotHeld.
std::shared_ptr<const Procedure> MakeFindAwait(std::string lock, LockOwner by, std::string condition,
                                               Uuid acquire, LockBounds bounds);
// What a release whose answer is not known left: kStillHeld with holds, or kReleased. Changes nothing.
std::shared_ptr<const Procedure> MakeHeld(std::string lock, LockOwner by, int64_t token, LockBounds bounds);
// Everybody's holds end, and those who wait have their turn. An operator's. kReleased or kNotHeld.
std::shared_ptr<const Procedure> MakeBreak(std::string lock, LockBounds bounds);
// The exclusive hold of (by, token) ends whole, and its owner awaits a signal: kQueued. Not held so:
// kNotHeld.
std::shared_ptr<const Procedure> MakeAwait(std::string lock, LockOwner by, int64_t token,
                                           std::string condition, Uuid acquire, LockBounds bounds);
// The time of one who awaits is over: if no signal came first it goes to the lock's queue unsignalled, kBusy;
// else kSignalled. Neither awaits nor waits any more: kNotHeld.
std::shared_ptr<const Procedure> MakeEndAwait(std::string lock, std::string condition, int64_t place,
                                              LockBounds bounds);
// Moves the first who awaits, or about kSignalledAtOnce of all, to the end of the lock's queue: kSignalled
// with woken. Of the one who has the exclusive hold `token` alone, else kNotHeld.
std::shared_ptr<const Procedure> MakeSignal(std::string lock, int64_t token, std::string condition, bool all,
                                            LockBounds bounds);
inline constexpr int64_t kSignalledAtOnce = 500;
// Deletes those of these entries (IsSweptLock) that nobody needs any more, and starts the TTL of the others
// again.
std::shared_ptr<const Procedure> MakeSweep(std::vector<std::string> entries, LockBounds bounds);

// For session.h: what the session has of this lock ends, and those who wait have their turn. `places` and
// `awaits`: its own, some of which may be over.
absl::Status EndOfSession(EntryView* view, std::string_view session, std::string_view lock,
                          const std::vector<int64_t>& places, const LockBounds& bounds);
absl::Status EndOfAwait(EntryView* view, std::string_view await_entry, const LockBounds& bounds);

}  // namespace stm::engine

#endif  // STM_ENGINE_LOCKS_LOCK_H_
