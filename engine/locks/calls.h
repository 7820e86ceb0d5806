// LockCalls are locks as callers meet them: each call is a commit with its id, and one that waits then sleeps
// until its place in the queue is gone and looks whether it has the lock. Nothing is kept here that entries
// do not hold: a call that is broken can be sent again, to another daemon too, and finds its place. On the
// Loop; callbacks come off it, once.
#ifndef STM_ENGINE_LOCKS_CALLS_H_
#define STM_ENGINE_LOCKS_CALLS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/locks/lock.h"
#include "engine/loop.h"

namespace stm::engine {

// What a call's commit has beside its change.
struct CallContext {
  std::optional<CommitId> id;
  std::shared_ptr<const Meta> meta;                    // null: all empty
  absl::Duration deadline = absl::InfiniteDuration();  // on Loop::Now()'s clock
};

struct LockResult {
  LockAnswer answer;
  bool signalled = false;  // of an await that is kGranted
  Version installed = 0;
};
using LockDone = absl::AnyInvocable<void(absl::StatusOr<LockResult>)>;

struct AwaitCondition {
  std::string lock;
  LockOwner by;
  int64_t token = 0;
  std::string condition;
};

// One lock as an operator sees it.
struct LockView {
  std::string lock;
  LockState state;
  std::vector<LockWaiter> queue;
};
struct LocksPage {
  std::vector<LockView> locks;
  bool more = false;  // another page follows, after the last lock's name
  Version installed = 0;
};

// Places of a queue that LockView shows.
inline constexpr int64_t kQueueShownMax = 1000;

class LockCalls {
 public:
  // Both outlive the calls: engine's callbacks may come as long as it lives.
  LockCalls(Loop* loop, Engine* engine, LockBounds bounds);

  // kGranted, kBusy (not within `wait`; zero: at once, infinite: until the deadline), kUpgradeRefused,
  // kDeadlock, and kNotHeld when another call or an operator took the place or the grant. The result is a
  // handle for Cancel. Errors: those of MakeAcquire, NOT_COMMITTED and ID_TOO_OLD of the id,
  // DEADLINE_EXCEEDED (the place stays).
  uint64_t Acquire(CallContext context, AcquireLock request, absl::Duration wait, LockDone done);
  // kGranted, with signalled; kNotHeld. After `wait` it waits for the lock alone. `request` resent with a
  // shorter wait ends sooner.
  uint64_t Await(CallContext context, AwaitCondition request, absl::Duration wait, LockDone done);
  // The caller is gone: `done` is not called any more, and its place stays. False: it was called, or is about
  // to be.
  bool Cancel(uint64_t handle);

  void Release(CallContext context, std::string lock, LockOwner by, int64_t token, LockDone done);
  // What the call `acquire` came to ends: its place (kLeft), or one hold (kReleased, kStillHeld); it had
  // none: kNotHeld. It comes to nothing later.
  void GiveUp(CallContext context, std::string lock, LockOwner by, CommitId acquire, LockDone done);
  void Signal(CallContext context, std::string lock, int64_t token, std::string condition, bool all,
              LockDone done);
  void Break(CallContext context, std::string lock, LockDone done);

  void Get(std::string lock, Seen seen, absl::Duration deadline, Done<LockView> done);
  // `prefix`: of locks' names. Without queues.
  void List(std::string prefix, std::string after, int64_t page_size, Seen seen, absl::Duration deadline,
            Done<LocksPage> done);

  // Calls that wait here.
  int64_t waiting() const { return static_cast<int64_t>(waits_.size()); }

  // Commits a procedure: OK with its result and the version of the commit, or of what it was worked out over
  // if it changed nothing; nullopt: it was committed before, and what it came to is not kept. Off the Loop.
  static void Commit(Engine* engine, CallContext context, std::shared_ptr<const Procedure> procedure,
                     absl::AnyInvocable<void(absl::StatusOr<std::optional<Value>>, Version)> done);

 private:
  // A call that waits: for its place in a queue or in a condition to be gone.
  struct Wait {
    std::string lock;
    LockOwner by;
    LockMode mode = LockMode::kExclusive;
    std::string condition;  // "": it waits for the lock
    Uuid acquire;
    absl::Duration until = absl::InfiniteDuration();  // of `wait`
    absl::Duration deadline = absl::InfiniteDuration();
    LockDone done;
    int64_t place = 0;
    uint64_t sleep = 0;   // the AwaitChange under way
    bool leaves = false;  // its time is over, and it gives up its place
  };
  using Answered = absl::AnyInvocable<void(absl::StatusOr<LockAnswer>, Version)>;

  std::string EntryOf(const Wait& wait) const;
  // The same of one that answers as locks do; `answered` on the Loop.
  void Run(CallContext context, std::shared_ptr<const Procedure> procedure,
           absl::AnyInvocable<void(absl::StatusOr<std::optional<LockAnswer>>, Version)> answered);
  // The same of a further step of a call, which has no id: it comes to the same when it is taken twice, and
  // is for as long as nobody knows what became of it (another daemon closed this one's writer meanwhile).
  void Step(absl::Duration deadline, std::shared_ptr<const Procedure> procedure,
            absl::AnyInvocable<void(absl::StatusOr<std::optional<LockAnswer>>, Version)> answered);
  uint64_t Begin(CallContext context, std::shared_ptr<const Procedure> procedure, Wait wait);
  void Committed(uint64_t handle, bool resend, absl::StatusOr<std::optional<LockAnswer>> answer,
                 Version installed);
  void Find(uint64_t handle);
  void Take(uint64_t handle, absl::StatusOr<LockAnswer> answer, Version installed);
  void Sleep(uint64_t handle, Version snapshot);
  void Woken(uint64_t handle, absl::StatusOr<AwaitResult> result);
  void TimeIsOver(uint64_t handle);
  void Look(uint64_t handle, Version snapshot);
  void Finish(uint64_t handle, absl::StatusOr<LockResult> result);
  void SignalMore(absl::Duration deadline, std::string lock, int64_t token, std::string condition,
                  LockResult so_far, LockDone done);
  void EndCall(CallContext context, std::string lock, LockOwner by, Uuid acquire, LockAnswer came_to,
               LockDone done);
  void FindToEnd(CallContext context, std::string lock, LockOwner by, Uuid acquire, LockDone done);

  Loop* const loop_;
  Engine* const engine_;
  const LockBounds bounds_;
  uint64_t next_handle_ = 1;
  std::map<uint64_t, Wait> waits_;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_LOCKS_CALLS_H_
