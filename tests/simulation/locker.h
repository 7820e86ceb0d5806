// Locker is one program in a simulation that locks: it keeps a session by its beats, believes in it by its
// own clock, takes locks of every kind, awaits and signals conditions, commits under their fences, and writes
// down what it asked, what it was told and what it believed. It stands still for too long and commits late,
// dies, goes to other daemons and sends again. Its choices come from a Chance of its own. Outside the daemon,
// but for what a daemon tells its session; one thread.
#ifndef STM_TESTS_SIMULATION_LOCKER_H_
#define STM_TESTS_SIMULATION_LOCKER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/locks/calls.h"
#include "engine/locks/leases.h"
#include "tests/checkers/history.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/client.h"
#include "tests/simulation/daemon.h"
#include "tests/simulation/header.h"
#include "tests/simulation/world.h"

namespace stm::sim {

// Who locks in a run, and by what its daemons keep locks; drawn apart from all else.
struct LockerSettings {
  int64_t lockers = 0;  // none: daemons keep no leases
  int64_t locks = 1;    // of each sort
  absl::Duration ttl = absl::Milliseconds(150);
  absl::Duration tick = absl::Milliseconds(20);
  absl::Duration lock_idle = absl::Minutes(10);
  uint64_t held_long = 0;  // of a thousand times that it does something, it keeps what it has for long

  void Draw(Chance* chance);
  LockOptions ToOptions(engine::LockCanaries locks, engine::LeaseCanaries leases) const;
  std::string ToString() const;
};

// Sums over all lockers.
struct LockerTotals {
  int64_t turns = 0;
  int64_t sessions = 0;
  int64_t exclusive = 0;  // grants
  int64_t shared = 0;
  int64_t permits = 0;
  int64_t again = 0;   // of those: the owner had it
  int64_t places = 0;  // in queues, as the log has them
  int64_t busy = 0;
  int64_t deadlocks = 0;
  int64_t upgrades_refused = 0;
  int64_t given_up = 0;
  int64_t left = 0;  // told that its place or grant is another's
  int64_t released = 0;
  int64_t awaited = 0;  // and signalled
  int64_t awaits_timed_out = 0;
  int64_t signals = 0;  // whoever was there to be woken
  int64_t breaks = 0;
  int64_t losses = 0;        // told by its stream
  int64_t told_expired = 0;  // its session
  int64_t out_of_time = 0;   // by its own clock
  int64_t held_long = 0;
  int64_t stood_still = 0;
  int64_t died = 0;
  int64_t walked_away = 0;  // from a session, not knowing what it has
  int64_t fenced_committed = 0;
  int64_t fenced_refused = 0;
  int64_t unfenced_committed = 0;
  int64_t beats = 0;  // answered
  int64_t beats_refused = 0;
  int64_t resends = 0;
  int64_t resends_answered = 0;  // with what was committed
  int64_t moves = 0;             // to another daemon
  // Every figure, by its name.
  static const std::vector<std::pair<const char*, int64_t LockerTotals::*>>& All();
};

class Locker {
 public:
  // Takes `turns` of them from Begin on.
  Locker(int64_t number, Scene scene, const LockerSettings& settings, int64_t turns, uint64_t seed,
         LockerTotals* totals);
  ~Locker();

  void Begin();
  bool idle() const { return idle_; }
  // Waits no more without end, neither stands still nor dies, and comes to an end soon.
  void BeSteady();
  // Another store takes the place of the one it knows, while it is idle.
  void MeetOtherStore(int64_t turns);
  // For a report of a run that got stuck.
  std::string Describe() const;

 private:
  using Kind = check::LockCall::Kind;
  using Outcome = check::LockAnswer::Outcome;
  using Told = std::function<void(const check::LockAnswer&)>;
  class Stream;

  struct Session {
    std::string id;
    std::string owner;
    check::Time until = 0;  // it believes in the session
    size_t lease = 0;       // in the history
    bool closing = false;
    std::map<uint64_t, std::shared_ptr<Stream>> streams;  // by lives of daemons
  };
  struct Hold {
    std::string lock;
    check::LockMode mode = check::LockMode::kExclusive;
    int64_t token = 0;
    int64_t holds = 1;
    size_t belief = 0;        // in the history
    bool given_back = false;  // it believes in it no more
  };
  // What a daemon said to a call.
  struct Reply {
    check::LockAnswer answer;
    bool too_old = false;  // its id: what became of it is unknown for good
    std::string wrong;     // it may not be said; "": all is well
  };
  // The call that is under way.
  struct Current {
    size_t call = 0;  // in the history
    engine::CommitId id;
    Told then;
    int64_t tries = 0;
  };

  // Turns, and what is done while something is held.
  void NextTurn();
  void Turn();
  void Work();
  void GoOn();
  void AcquireSome(std::function<void()> then);
  void Acquire(check::LockCall call, std::function<void()> then);
  void Granted(const check::LockCall& call, const check::LockAnswer& answer);
  void Release(const Hold& hold, std::function<void()> then);
  void AwaitSignal(const Hold& hold);
  void Signal(const Hold& hold, std::function<void()> then);
  void StandStill(const Hold& hold);
  void Commit(const Hold* fence, std::function<void()> then);
  void SendCommit(size_t transaction, engine::CommitId id, int64_t tries, std::function<void()> then);
  void Drop(const std::string& lock, int64_t token);

  // A session's life.
  void OpenSession(std::function<void()> then);
  void CloseSession(std::function<void()> then);
  void Beat(const std::shared_ptr<Session>& session);
  void Heard(const std::shared_ptr<Session>& session, check::Time sent, const absl::Status& status);
  void WatchClock(const std::shared_ptr<Session>& session);
  // It is not kept any more: what was believed in ends now, or has ended by the clock. Another turn begins
  // within `after`.
  void LoseSession(absl::Duration after);
  void EndBelief(const Hold& hold);
  void Lost(const std::weak_ptr<Session>& session, const std::map<std::string, std::vector<int64_t>>& lost);
  void Expired(const std::shared_ptr<Session>& session);

  // Calls: each is sent until its answer says enough.
  void Connect(std::function<void()> then);
  void Send(check::LockCall call, Told then);
  void Ask(bool resend);
  void AskAgain();
  void Answered(uint64_t wait, bool resend, const Reply& reply, const Header& header);
  void GiveUp();
  // On the daemon's Loop. The handle of a call that waits, or 0.
  uint64_t Serve(Daemon* daemon, const check::LockCall& call, engine::CallContext context,
                 const engine::CommitId& given_up, absl::Duration wait, uint64_t number);

  // Once it is awake.
  void Deliver(std::function<void()> then);
  // The same, unless something else came meanwhile.
  void After(absl::Duration delay, std::function<void()> then);
  void MayMove(uint64_t in_1000);
  check::LockCall CallOf(Kind kind, const std::string& lock) const;
  check::LockCall& call() { return scene_.history->lock_calls[current_.call]; }
  absl::Duration Micros(int64_t low, int64_t high) { return absl::Microseconds(chance_.Between(low, high)); }
  // Between these parts, in 100, of the run's TTL.
  absl::Duration OfTtl(int64_t low, int64_t high) { return settings_.ttl * chance_.Between(low, high) / 100; }

  const int64_t number_;
  const Scene scene_;
  const LockerSettings settings_;
  World& world_;
  Chance chance_;
  LockerTotals* const totals_;
  int64_t left_;
  bool idle_ = true;
  bool steady_ = false;
  Known known_;
  Daemon* daemon_;  // that it talks to
  std::string doing_ = "idle";
  absl::Duration still_until_;

  std::shared_ptr<Session> session_;  // null: none
  std::vector<Hold> holds_;
  Current current_;
  engine::CommitId given_up_;  // the acquire that the present call gives up
  size_t opening_ = 0;         // in the history: the lease that was asked for last
  uint64_t wait_ = 0;          // answers and times that are for an older one come too late
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_LOCKER_H_
