#include "tests/simulation/locker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "stm/v1/common.pb.h"
#include "tests/simulation/network.h"
#include "tests/simulation/translate.h"

namespace stm::sim {
namespace {

using check::LockMode;
using check::Write;

// In 1000 times that one goes to another daemon: between turns; when an answer did not come.
constexpr uint64_t kLockerMovesAt = 150;
constexpr uint64_t kLockerMovesOn = 500;
constexpr uint64_t kGivesUp = 60;      // in 1000 waits for an answer to an acquire
constexpr uint64_t kTiresOf = 300;     // in 1000 resends of an await that would be for ever
constexpr int64_t kAcquireTries = 30;  // then it is given up
constexpr int64_t kCommitTries = 20;
// A call that waits ends then at its daemon: its client has sent it again, or is gone.
constexpr absl::Duration kWaitsAtMost = absl::Milliseconds(120);
constexpr absl::Duration kSoon = absl::Milliseconds(5);
constexpr int64_t kHoldsMax = 3;
constexpr int64_t kSteadyTurns = 2;

engine::LockMode ToEngine(LockMode mode) {
  return mode == LockMode::kExclusive ? engine::LockMode::kExclusive
         : mode == LockMode::kShared  ? engine::LockMode::kShared
                                      : engine::LockMode::kPermits;
}

check::LockAnswer::Outcome OutcomeOf(engine::LockOutcome outcome) {
  using Outcome = check::LockAnswer::Outcome;
  switch (outcome) {
    case engine::LockOutcome::kGranted:
      return Outcome::kGranted;
    case engine::LockOutcome::kBusy:
      return Outcome::kBusy;
    case engine::LockOutcome::kUpgradeRefused:
      return Outcome::kUpgradeRefused;
    case engine::LockOutcome::kDeadlock:
      return Outcome::kDeadlock;
    case engine::LockOutcome::kReleased:
      return Outcome::kReleased;
    case engine::LockOutcome::kStillHeld:
      return Outcome::kStillHeld;
    case engine::LockOutcome::kNotHeld:
      return Outcome::kNotHeld;
    case engine::LockOutcome::kNotYours:
      return Outcome::kNotYours;
    case engine::LockOutcome::kLeft:
      return Outcome::kLeft;
    case engine::LockOutcome::kSignalled:
      return Outcome::kSignalled;
    case engine::LockOutcome::kQueued:
      return Outcome::kUnknown;  // never told
  }
  return Outcome::kUnknown;
}

}  // namespace

// ---- Settings and figures

void LockerSettings::Draw(Chance* chance) {
  lockers = chance->OneOf<int64_t>({1, 2, 3, 3, 4});
  locks = chance->OneOf<int64_t>({1, 2});
  ttl = absl::Milliseconds(chance->OneOf<int64_t>({60, 150, 400}));
  tick = ttl / chance->OneOf<int64_t>({3, 8});
  lock_idle = absl::Milliseconds(chance->OneOf<int64_t>({30, 150, 600'000}));
  held_long = chance->OneOf<uint64_t>({0, 0, 40, 400});
}

LockOptions LockerSettings::ToOptions(engine::LockCanaries locks, engine::LeaseCanaries leases) const {
  LockOptions options;
  options.bounds.lock_idle = lock_idle;
  options.bounds.canaries = locks;
  options.leases.ttl_min = absl::Milliseconds(1);
  options.leases.tick = tick;
  options.canaries = leases;
  return options;
}

std::string LockerSettings::ToString() const {
  return absl::StrCat("lockers=", lockers, " locks=", locks,
                      " session_ttl_ms=", absl::ToInt64Milliseconds(ttl),
                      " tick_ms=", absl::ToInt64Milliseconds(tick),
                      " lock_idle_ms=", absl::ToInt64Milliseconds(lock_idle), " held_long=", held_long);
}

const std::vector<std::pair<const char*, int64_t LockerTotals::*>>& LockerTotals::All() {
  using T = LockerTotals;
  static const auto* const all = new std::vector<std::pair<const char*, int64_t T::*>>{
      {"turns", &T::turns},
      {"sessions", &T::sessions},
      {"exclusive", &T::exclusive},
      {"shared", &T::shared},
      {"permits", &T::permits},
      {"again", &T::again},
      {"places", &T::places},
      {"busy", &T::busy},
      {"deadlocks", &T::deadlocks},
      {"upgrades_refused", &T::upgrades_refused},
      {"given_up", &T::given_up},
      {"left", &T::left},
      {"released", &T::released},
      {"awaited", &T::awaited},
      {"awaits_timed_out", &T::awaits_timed_out},
      {"signals", &T::signals},
      {"breaks", &T::breaks},
      {"losses", &T::losses},
      {"told_expired", &T::told_expired},
      {"out_of_time", &T::out_of_time},
      {"held_long", &T::held_long},
      {"stood_still", &T::stood_still},
      {"died", &T::died},
      {"walked_away", &T::walked_away},
      {"fenced_committed", &T::fenced_committed},
      {"fenced_refused", &T::fenced_refused},
      {"unfenced_committed", &T::unfenced_committed},
      {"beats", &T::beats},
      {"beats_refused", &T::beats_refused},
      {"resends", &T::resends},
      {"resends_answered", &T::resends_answered},
      {"moves", &T::moves},
  };
  return *all;
}

// What a daemon tells a session's stream of beats.
class Locker::Stream : public engine::SessionSink {
 public:
  Stream(Locker* locker, std::weak_ptr<Session> session) : locker_(locker), session_(std::move(session)) {}

  void OnLost(const std::string&, const std::map<std::string, std::vector<int64_t>>& lost) override {
    locker_->scene_.network->Answer([locker = locker_, session = session_, lost] {
      locker->Deliver([locker, session, lost] { locker->Lost(session, lost); });
    });
  }
  void OnExpired(const std::string&) override {
    locker_->scene_.network->Answer([locker = locker_, session = session_] {
      locker->Deliver([locker, session] { locker->Expired(session.lock()); });
    });
  }

 private:
  Locker* const locker_;
  const std::weak_ptr<Session> session_;
};

Locker::Locker(int64_t number, Scene scene, const LockerSettings& settings, int64_t turns, uint64_t seed,
               LockerTotals* totals)
    : number_(number),
      scene_(std::move(scene)),
      settings_(settings),
      world_(*scene_.world),
      chance_(seed),
      totals_(totals),
      left_(turns),
      daemon_(scene_.daemons[static_cast<size_t>(number) % scene_.daemons.size()]) {}

Locker::~Locker() = default;

void Locker::Begin() {
  idle_ = false;
  NextTurn();
}

void Locker::BeSteady() {
  steady_ = true;
  left_ = std::min(left_, kSteadyTurns);
}

void Locker::MeetOtherStore(int64_t turns) {
  steady_ = false;
  known_ = Known();
  left_ = turns;
  if (idle_) Begin();
}

std::string Locker::Describe() const {
  std::string text = absl::StrCat("locker ", number_, " ", doing_, ", ", left_, " turns left");
  for (const Hold& hold : holds_) absl::StrAppend(&text, ", holds ", hold.lock, " token ", hold.token);
  return text;
}

// ---- Turns

void Locker::NextTurn() {
  ++wait_;
  if (left_ == 0) {
    if (session_ != nullptr) return CloseSession([this] { NextTurn(); });
    idle_ = true;
    doing_ = "idle";
    return;
  }
  --left_;
  ++totals_->turns;
  doing_ = "thinking";
  After(Micros(50, 4000), [this] {
    MayMove(kLockerMovesAt);
    if (session_ == nullptr) return OpenSession([this] { Turn(); });
    if (chance_.In1000(60)) return CloseSession([this] { OpenSession([this] { Turn(); }); });
    Turn();
  });
}

void Locker::Turn() {
  if (!steady_ && chance_.In1000(30)) {
    // An operator's.
    check::LockCall call = CallOf(Kind::kBreak, absl::StrCat("/lock/", chance_.Below(settings_.locks)));
    call.session = call.owner = "";
    return Send(std::move(call), [this](const check::LockAnswer& answer) {
      if (answer.outcome == Outcome::kReleased) ++totals_->breaks;
      NextTurn();
    });
  }
  AcquireSome([this] { GoOn(); });
}

void Locker::GoOn() {
  if (holds_.empty()) return NextTurn();
  doing_ = "working";
  ++wait_;
  After(Micros(10, 2500), [this] { Work(); });
}

// One thing while something is held.
void Locker::Work() {
  if (holds_.empty()) return NextTurn();
  const Hold hold = chance_.OneOf(holds_);
  const auto go_on = [this] { GoOn(); };
  if (!steady_ && chance_.In1000(settings_.held_long)) {
    // It is about something else, for longer than it takes until its daemon is missed and its session over.
    ++totals_->held_long;
    if (scene_.holds_long) scene_.holds_long(daemon_);
    return After(Micros(100'000, 2'500'000), go_on);
  }
  const uint64_t draw = steady_ ? 8 : chance_.Below(100);
  if (draw < 8) return Signal(hold, [this, hold] { Release(hold, [this] { GoOn(); }); });
  if (draw < 30) return Release(hold, go_on);
  if (draw < 46) return Commit(&hold, go_on);
  if (draw < 49) return Commit(nullptr, go_on);
  if (draw < 59 && hold.mode != LockMode::kPermits) {
    // Once more, or as the other: a writer may read too, a reader wants to write.
    check::LockCall call = CallOf(Kind::kAcquire, hold.lock);
    call.mode = hold.mode;
    if (draw >= 55) {
      call.mode = hold.mode == LockMode::kShared ? LockMode::kExclusive : LockMode::kShared;
    }
    call.wait_ms = chance_.OneOf<int64_t>({0, 10});
    return Acquire(std::move(call), go_on);
  }
  if (draw < 70 && static_cast<int64_t>(holds_.size()) < kHoldsMax) return AcquireSome(go_on);
  if (draw < 78) return AwaitSignal(hold);
  if (draw < 90) return Signal(hold, go_on);
  if (draw < 93) return StandStill(hold);
  if (draw < 95) {
    ++totals_->died;
    return LoseSession(OfTtl(0, 200));
  }
  After(OfTtl(0, 40), go_on);
}

void Locker::AcquireSome(std::function<void()> then) {
  const uint64_t sort = chance_.Below(100);
  const bool semaphore = sort >= 75;
  check::LockCall call = CallOf(
      Kind::kAcquire, absl::StrCat(semaphore ? "/semaphore/" : "/lock/", chance_.Below(settings_.locks)));
  call.mode = semaphore ? LockMode::kPermits : sort < 50 ? LockMode::kExclusive : LockMode::kShared;
  if (semaphore) {
    call.permits_max = 3;
    call.permits = chance_.Between(1, 2);
  }
  call.wait_ms = chance_.OneOf<int64_t>({0, 3, 20, -1, -1});
  // A cycle through a semaphore is not looked for: such a wait has an end.
  const bool cycles = std::any_of(holds_.begin(), holds_.end(),
                                  [](const Hold& hold) { return hold.mode == LockMode::kPermits; });
  // Whoever has one lock goes for others in any order: cycles are to be told.
  if (!holds_.empty() && !semaphore && chance_.In1000(500)) {
    call.mode = LockMode::kExclusive;
    call.wait_ms = -1;
  }
  if (call.wait_ms < 0 && (cycles || (semaphore && !holds_.empty()))) call.wait_ms = 20;
  Acquire(std::move(call), std::move(then));
}

void Locker::Acquire(check::LockCall call, std::function<void()> then) {
  doing_ = absl::StrCat("acquiring ", call.lock);
  Send(call, [this, call, then = std::move(then)](const check::LockAnswer& answer) {
    switch (answer.outcome) {
      case Outcome::kGranted:
        Granted(call, answer);
        break;
      case Outcome::kBusy:
        ++totals_->busy;
        break;
      case Outcome::kUpgradeRefused:
        ++totals_->upgrades_refused;
        break;
      case Outcome::kDeadlock:
        ++totals_->deadlocks;
        break;
      default:
        ++totals_->left;
    }
    then();
  });
}

void Locker::Granted(const check::LockCall& call, const check::LockAnswer& answer) {
  ++(call.mode == LockMode::kExclusive ? totals_->exclusive
     : call.mode == LockMode::kShared  ? totals_->shared
                                       : totals_->permits);
  for (Hold& hold : holds_) {
    if (hold.lock != call.lock || hold.token != answer.token) continue;
    ++totals_->again;
    hold.holds = answer.holds;
    return;
  }
  Hold hold;
  hold.lock = call.lock;
  hold.mode = call.mode;
  hold.token = answer.token;
  hold.holds = answer.holds;
  hold.belief = scene_.history->beliefs.size();
  check::Belief belief;
  belief.client = number_;
  belief.session = session_->id;
  belief.owner = session_->owner;
  belief.lock = call.lock;
  belief.mode = call.mode;
  belief.token = answer.token;
  belief.from = world_.nanos();
  belief.until = session_->until;
  scene_.history->beliefs.push_back(std::move(belief));
  holds_.push_back(std::move(hold));
}

void Locker::Drop(const std::string& lock, int64_t token) {
  holds_.erase(std::remove_if(holds_.begin(), holds_.end(),
                              [&](const Hold& hold) { return hold.lock == lock && hold.token == token; }),
               holds_.end());
}

void Locker::Release(const Hold& hold, std::function<void()> then) {
  doing_ = absl::StrCat("releasing ", hold.lock);
  if (hold.holds <= 1) EndBelief(hold);
  check::LockCall call = CallOf(Kind::kRelease, hold.lock);
  call.token = hold.token;
  Send(std::move(call),
       [this, lock = hold.lock, token = hold.token, then = std::move(then)](const check::LockAnswer& answer) {
         ++totals_->released;
         if (answer.outcome == Outcome::kStillHeld) {
           for (Hold& hold : holds_) {
             if (hold.lock == lock && hold.token == token) hold.holds = answer.holds;
           }
         } else {
           for (const Hold& hold : holds_) {
             if (hold.lock == lock && hold.token == token) EndBelief(hold);
           }
           Drop(lock, token);
         }
         then();
       });
}

void Locker::AwaitSignal(const Hold& hold) {
  const bool shared_too = std::any_of(holds_.begin(), holds_.end(), [&](const Hold& other) {
    return other.lock == hold.lock && other.mode == LockMode::kShared;
  });
  if (hold.mode != LockMode::kExclusive || shared_too) return GoOn();
  doing_ = absl::StrCat("awaiting a signal at ", hold.lock);
  EndBelief(hold);
  check::LockCall call = CallOf(Kind::kAwait, hold.lock);
  call.token = hold.token;
  call.condition = "c";
  call.wait_ms = holds_.size() > 1 ? 20 : chance_.OneOf<int64_t>({5, 60, -1});
  Drop(hold.lock, hold.token);
  Send(call, [this, call](const check::LockAnswer& answer) {
    if (answer.outcome == Outcome::kGranted) {
      ++(answer.signalled ? totals_->awaited : totals_->awaits_timed_out);
      Granted(call, answer);
    } else {
      ++totals_->left;
    }
    GoOn();
  });
}

void Locker::Signal(const Hold& hold, std::function<void()> then) {
  if (hold.mode != LockMode::kExclusive) return then();
  doing_ = absl::StrCat("signalling at ", hold.lock);
  check::LockCall call = CallOf(Kind::kSignal, hold.lock);
  call.token = hold.token;
  call.condition = "c";
  Send(std::move(call), [this, then = std::move(then)](const check::LockAnswer& answer) {
    if (answer.outcome == Outcome::kSignalled) ++totals_->signals;
    then();
  });
}

// SIGSTOP, for longer than its session lives: it wakes amid what it did, and commits before it looks at any
// clock.
void Locker::StandStill(const Hold& hold) {
  ++totals_->stood_still;
  doing_ = "standing still";
  const absl::Duration still = OfTtl(80, 250);
  world_.After(still, [this, hold, wait = ++wait_] {
    if (wait == wait_) Commit(&hold, [this] { GoOn(); });
  });
  still_until_ = world_.Now() + still;
}

void Locker::Commit(const Hold* fence, std::function<void()> then) {
  Connect([this, fence = fence == nullptr ? std::optional<Hold>() : std::optional<Hold>(*fence),
           then = std::move(then)] {
    doing_ = "committing";
    check::Transaction t;
    t.client = number_;
    t.id = Uuid{chance_.Bits(), chance_.Bits()};
    t.invoked = world_.nanos();
    if (fence) t.fences.push_back(check::Fence{fence->lock, fence->token});
    // An entry that others write too, or what the lock guards.
    const std::string name = !fence || chance_.In1000(500) ? absl::StrCat("/n/", chance_.Below(scene_.names))
                                                           : absl::StrCat("/locked", fence->lock);
    t.writes.push_back(Write{name, Write::Change::kCreate, Value::Integer(0)});
    t.writes.push_back(Write{name, Write::Change::kAdd, Value::Integer(chance_.Between(1, 9))});
    engine::CommitId id;
    id.transaction_id = t.id;
    id.writer = known_.WriterOf(*daemon_);
    id.seen = known_.version;
    id.store = known_.store;
    scene_.history->transactions.push_back(std::move(t));
    SendCommit(scene_.history->transactions.size() - 1, id, 0, then);
  });
}

void Locker::SendCommit(size_t transaction, engine::CommitId id, int64_t tries, std::function<void()> then) {
  const uint64_t wait = ++wait_;
  const auto again = [this, transaction, id, tries, then] {
    MayMove(kLockerMovesOn);
    if (tries >= kCommitTries) return then();
    engine::CommitId resent = id;
    resent.resend = true;
    SendCommit(transaction, resent, tries + 1, then);
  };
  After(Micros(3000, 40000), again);
  const check::Transaction& t = scene_.history->transactions[transaction];
  engine::Transaction message;
  message.id = id;
  message.writes = ToEngine(t.writes, scene_.containers);
  for (const check::Fence& fence : t.fences) message.fences.push_back(engine::Fence{fence.lock, fence.token});
  const bool fenced = !message.fences.empty();
  scene_.network->Request(daemon_, [this, daemon = daemon_, message, transaction, wait, fenced, again, then] {
    daemon->engine().Commit(
        std::make_unique<engine::Transaction>(message),
        [this, daemon, transaction, wait, fenced, again, then](std::shared_ptr<const engine::Verdict> verdict,
                                                               engine::Version installed) {
          Header header = HeaderOf(*daemon);
          header.installed = installed;
          scene_.network->Answer([this, transaction, wait, fenced, again, then, verdict, header] {
            Deliver([this, transaction, wait, fenced, again, then, verdict, header] {
              known_.Learn(header);
              const check::Answer answer = ToAnswer(*verdict, world_.nanos(), header.life, header.installed);
              scene_.history->transactions[transaction].answers.push_back(answer);
              if (answer.fence_lost) ++totals_->fenced_refused;
              using Verdict = check::Answer::Verdict;
              if (answer.verdict == Verdict::kCommitted)
                ++(fenced ? totals_->fenced_committed : totals_->unfenced_committed);
              if (wait != wait_) return;
              ++wait_;
              if (answer.verdict == Verdict::kUnknown) return After(Micros(500, 6000), again);
              then();
            });
          });
        });
  });
}

// ---- Sessions

void Locker::OpenSession(std::function<void()> then) {
  doing_ = "opening a session";
  check::LockCall call = CallOf(Kind::kOpen, "");
  call.owner = chance_.In1000(500) ? "" : "thread";
  Send(std::move(call), [this, then = std::move(then)](const check::LockAnswer&) {
    ++totals_->sessions;
    session_ = std::make_shared<Session>();
    session_->id = this->call().session;
    session_->owner = this->call().owner;
    session_->until = this->call().invoked + absl::ToInt64Nanoseconds(settings_.ttl);
    session_->lease = opening_;
    WatchClock(session_);
    Beat(session_);
    then();
  });
}

void Locker::CloseSession(std::function<void()> then) {
  doing_ = "closing its session";
  session_->closing = true;
  Send(CallOf(Kind::kClose, ""), [this, then = std::move(then)](const check::LockAnswer&) {
    session_ = nullptr;
    then();
  });
}

void Locker::Beat(const std::shared_ptr<Session>& session) {
  if (session != session_ || session->closing) return;
  const check::Time sent = world_.nanos();
  scene_.history->leases[session->lease].last_beat = sent;
  scene_.network->Request(daemon_, [this, daemon = daemon_, session, sent, seen = known_.version] {
    if (!daemon->ready()) return;
    daemon->leases().Beat(
        session->id, seen, [this, daemon, session, sent](absl::StatusOr<absl::Duration> ttl) {
          if (ttl.ok()) {
            std::shared_ptr<Stream>& stream = session->streams[daemon->life()];
            if (stream == nullptr) {
              stream = std::make_shared<Stream>(this, session);
              daemon->leases().Attach(session->id, stream);
            }
          }
          scene_.network->Answer([this, session, sent, status = ttl.status(), header = HeaderOf(*daemon)] {
            Deliver([this, session, sent, status, header] {
              known_.Learn(header);
              Heard(session, sent, status);
            });
          });
        });
  });
  world_.After(OfTtl(20, 35), [this, session] { Deliver([this, session] { Beat(session); }); });
}

void Locker::Heard(const std::shared_ptr<Session>& session, check::Time sent, const absl::Status& status) {
  if (session != session_) return;
  const auto detail = engine::DetailOf(status);
  if (detail.has_value() && detail->reason() == v1::ERROR_REASON_SESSION_EXPIRED) return Expired(session);
  if (!status.ok()) {
    ++totals_->beats_refused;
    return MayMove(kLockerMovesOn);
  }
  // What its own clock has ended no answer brings back.
  if (world_.nanos() >= session->until) return;
  ++totals_->beats;
  session->until = std::max(session->until, sent + absl::ToInt64Nanoseconds(settings_.ttl));
  for (const Hold& hold : holds_) {
    check::Belief& belief = scene_.history->beliefs[hold.belief];
    if (!hold.given_back) belief.until = session->until;
  }
}

void Locker::WatchClock(const std::shared_ptr<Session>& session) {
  const absl::Duration left = absl::Nanoseconds(std::max<int64_t>(session->until - world_.nanos(), 0));
  world_.After(left, [this, session] {
    Deliver([this, session] {
      if (session != session_) return;
      if (world_.nanos() < session->until) return WatchClock(session);
      ++totals_->out_of_time;
      LoseSession(absl::Milliseconds(3));
    });
  });
}

void Locker::EndBelief(const Hold& hold) {
  check::Belief& belief = scene_.history->beliefs[hold.belief];
  belief.until = std::min(belief.until, world_.nanos());
  for (Hold& other : holds_) {
    if (other.belief == hold.belief) other.given_back = true;
  }
}

void Locker::LoseSession(absl::Duration after) {
  for (const Hold& hold : holds_) EndBelief(hold);
  holds_.clear();
  session_ = nullptr;
  doing_ = "without a session";
  ++wait_;
  After(Micros(1, absl::ToInt64Microseconds(after) + 1), [this] { NextTurn(); });
}

void Locker::Expired(const std::shared_ptr<Session>& session) {
  if (session == nullptr || session != session_) return;
  ++totals_->told_expired;
  LoseSession(absl::Milliseconds(3));
}

void Locker::Lost(const std::weak_ptr<Session>& session,
                  const std::map<std::string, std::vector<int64_t>>& lost) {
  if (session_ == nullptr || session.lock() != session_) return;
  for (const auto& [lock, tokens] : lost) {
    for (int64_t token : tokens) {
      for (const Hold& hold : holds_) {
        if (hold.lock != lock || hold.token != token) continue;
        ++totals_->losses;
        EndBelief(hold);
      }
      Drop(lock, token);
    }
  }
}

// ---- Calls

check::LockCall Locker::CallOf(Kind kind, const std::string& lock) const {
  check::LockCall call;
  call.kind = kind;
  call.client = number_;
  call.lock = lock;
  if (session_ != nullptr) {
    call.session = session_->id;
    call.owner = session_->owner;
  }
  return call;
}

// Whose versions, which writer.
void Locker::Connect(std::function<void()> then) {
  if (known_.WriterOf(*daemon_) != 0) return then();
  const uint64_t wait = ++wait_;
  const auto again = [this, then] {
    MayMove(kLockerMovesOn);
    Connect(then);
  };
  After(absl::Milliseconds(5), again);
  scene_.network->Request(daemon_, [this, daemon = daemon_, wait, then] {
    if (!daemon->ready()) return;
    scene_.network->Answer([this, wait, then, header = HeaderOf(*daemon)] {
      Deliver([this, wait, then, header] {
        known_.Learn(header);
        if (wait == wait_) Connect(then);
      });
    });
  });
}

void Locker::Send(check::LockCall call, Told then) {
  Connect([this, call = std::move(call), then = std::move(then)] {
    check::LockCall sent = call;
    sent.id = Uuid{chance_.Bits(), chance_.Bits()};
    sent.invoked = world_.nanos();
    current_ = Current();
    current_.id.transaction_id = sent.id;
    current_.id.writer = known_.WriterOf(*daemon_);
    current_.id.seen = known_.version;
    current_.id.store = known_.store;
    current_.then = then;
    current_.call = scene_.history->lock_calls.size();
    if (sent.kind == Kind::kOpen) {
      sent.session = ToString(sent.id);
      opening_ = scene_.history->leases.size();
      scene_.history->leases.push_back(
          check::Lease{number_, sent.session, absl::ToInt64Milliseconds(settings_.ttl), sent.invoked});
    }
    scene_.history->lock_calls.push_back(std::move(sent));
    Ask(false);
  });
}

void Locker::Ask(bool resend) {
  const uint64_t wait = ++wait_;
  if (resend) ++totals_->resends;
  const check::LockCall asked = call();
  const bool waits = (asked.kind == Kind::kAcquire || asked.kind == Kind::kAwait) && asked.wait_ms != 0;
  if (asked.kind == Kind::kOpen) scene_.history->leases[opening_].last_beat = world_.nanos();
  absl::Duration at_most = asked.wait_ms < 0 ? absl::InfiniteDuration() : absl::Milliseconds(asked.wait_ms);
  // Who awaits for ever may think better of it.
  if (asked.kind == Kind::kAwait && resend && (steady_ || chance_.In1000(kTiresOf)))
    at_most = absl::ZeroDuration();
  const auto handle = std::make_shared<uint64_t>(0);
  const uint64_t life = daemon_->life();
  const bool hangs_up = waits && chance_.In1000(300);
  After(waits ? Micros(20'000, 90'000) : Micros(2000, 40'000),
        [this, hangs_up, handle, life, daemon = daemon_] {
          if (hangs_up && daemon->life() == life) {
            // Its connection is gone, and its daemon sees it.
            scene_.network->Request(
                daemon, [daemon, handle] { daemon->locks().Cancel(*handle); }, Network::Copies::kOne);
          }
          AskAgain();
        });
  engine::CommitId id = current_.id;
  id.resend = resend;
  scene_.network->Request(daemon_, [this, daemon = daemon_, asked, id, given_up = given_up_, wait, resend,
                                    waits, at_most, handle] {
    if (!daemon->ready()) return;
    engine::CallContext context;
    context.id = id;
    if (waits) context.deadline = daemon->loop().Now() + kWaitsAtMost;
    const uint64_t number = wait * 2 + (resend ? 1 : 0);
    *handle = Serve(daemon, asked, std::move(context), given_up, at_most, number);
  });
}

// No answer came, or one that says nothing.
void Locker::AskAgain() {
  MayMove(kLockerMovesOn);
  ++current_.tries;
  if (call().kind == Kind::kAcquire) {
    if (current_.tries > kAcquireTries || (!steady_ && chance_.In1000(kGivesUp))) return GiveUp();
  }
  Ask(true);
}

uint64_t Locker::Serve(Daemon* daemon, const check::LockCall& call, engine::CallContext context,
                       const engine::CommitId& given_up, absl::Duration wait, uint64_t number) {
  const auto reply = [this, daemon, number](Reply reply) {
    scene_.network->Answer([this, number, reply, header = HeaderOf(*daemon)] {
      Deliver([this, number, reply, header] { Answered(number / 2, number % 2 == 1, reply, header); });
    });
  };
  const auto failed = [](const absl::Status& status, Reply* reply) {
    const auto detail = engine::DetailOf(status);
    const v1::ErrorReason reason = detail.has_value() ? detail->reason() : v1::ERROR_REASON_UNSPECIFIED;
    if (reason == v1::ERROR_REASON_SESSION_EXPIRED) {
      reply->answer.outcome = Outcome::kExpired;
    } else if (reason == v1::ERROR_REASON_NOT_COMMITTED) {
      reply->answer.outcome = Outcome::kNotCommitted;
    } else if (reason == v1::ERROR_REASON_ID_TOO_OLD) {
      reply->too_old = true;
    } else if (absl::IsInvalidArgument(status) || reason == v1::ERROR_REASON_WRONG_KIND ||
               absl::IsInternal(status) || absl::IsUnknown(status)) {
      // UNKNOWN: it has an id, by which there is always a verdict.
      reply->wrong = status.ToString();
    }
  };
  engine::LockDone done = [reply, failed](absl::StatusOr<engine::LockResult> result) {
    Reply told;
    if (result.ok()) {
      told.answer.outcome = OutcomeOf(result->answer.outcome);
      told.answer.version = result->installed;
      told.answer.token = result->answer.token;
      told.answer.holds = result->answer.holds;
      told.answer.signalled = result->signalled;
    } else {
      failed(result.status(), &told);
    }
    reply(told);
  };
  const engine::LockOwner by{call.session, call.owner};
  engine::LockCalls& locks = daemon->locks();
  switch (call.kind) {
    case Kind::kOpen:
      daemon->leases().Open(
          std::move(context), call.session, absl::StrCat("locker ", number_), settings_.ttl,
          [reply, failed](absl::StatusOr<std::pair<absl::Duration, engine::Version>> opened) {
            Reply told;
            told.answer.outcome = Outcome::kDone;
            if (opened.ok()) {
              told.answer.version = opened->second;
            } else {
              told.answer.outcome = Outcome::kUnknown;
              failed(opened.status(), &told);
            }
            reply(told);
          });
      return 0;
    case Kind::kClose:
      daemon->leases().End(std::move(context), call.session,
                           [reply, failed](absl::StatusOr<engine::Version> ended) {
                             Reply told;
                             told.answer.outcome = Outcome::kDone;
                             if (ended.ok()) {
                               told.answer.version = *ended;
                             } else {
                               told.answer.outcome = Outcome::kUnknown;
                               failed(ended.status(), &told);
                             }
                             reply(told);
                           });
      return 0;
    case Kind::kAcquire: {
      engine::AcquireLock request;
      request.lock = call.lock;
      request.by = by;
      request.mode = ToEngine(call.mode);
      request.permits = call.permits;
      request.permits_max = call.permits_max;
      request.acquire = call.id;
      return locks.Acquire(std::move(context), std::move(request), wait, std::move(done));
    }
    case Kind::kAwait:
      return locks.Await(std::move(context),
                         engine::AwaitCondition{call.lock, by, call.token, call.condition}, wait,
                         std::move(done));
    case Kind::kRelease:
      locks.Release(std::move(context), call.lock, by, call.token, std::move(done));
      return 0;
    case Kind::kGiveUp:
      locks.GiveUp(std::move(context), call.lock, by, given_up, std::move(done));
      return 0;
    case Kind::kSignal:
      locks.Signal(std::move(context), call.lock, call.token, call.condition, /*all=*/call.id.low % 2 == 0,
                   std::move(done));
      return 0;
    case Kind::kBreak:
      locks.Break(std::move(context), call.lock, std::move(done));
      return 0;
  }
  return 0;
}

void Locker::Answered(uint64_t wait, bool resend, const Reply& reply, const Header& header) {
  known_.Learn(header);
  world_.Trace(static_cast<uint64_t>(reply.answer.outcome) * 1000003 +
               static_cast<uint64_t>(reply.answer.token));
  if (wait != wait_) return;
  ++wait_;
  if (!reply.wrong.empty()) {
    scene_.failures->push_back(absl::StrCat("locks: ", Describe(), ": ", reply.wrong));
    return;
  }
  if (reply.too_old && (resend || call().kind == Kind::kGiveUp)) {
    // What it has is not known any more, or what it gives up is not: its session's end tells.
    ++totals_->walked_away;
    return LoseSession(absl::Milliseconds(3));
  }
  if (reply.answer.outcome == Outcome::kUnknown && !reply.too_old)
    return After(Micros(500, 6000), [this] { AskAgain(); });
  check::LockAnswer answer = reply.answer;
  answer.at = world_.nanos();
  if (!reply.too_old) call().answers.push_back(answer);
  if (reply.too_old || answer.outcome == Outcome::kNotCommitted) {
    check::LockCall again = call();
    again.answers.clear();
    return Send(std::move(again), current_.then);
  }
  if (resend) ++totals_->resends_answered;
  if (answer.outcome == Outcome::kExpired) return Expired(session_);
  const Told then = current_.then;
  then(answer);
}

void Locker::GiveUp() {
  ++totals_->given_up;
  given_up_ = current_.id;
  given_up_.resend = true;
  check::LockCall call = CallOf(Kind::kGiveUp, this->call().lock);
  call.acquire = current_.id.transaction_id;
  Send(std::move(call), [then = current_.then](const check::LockAnswer&) {
    check::LockAnswer left;
    left.outcome = Outcome::kLeft;
    then(left);
  });
}

// ---- Time

void Locker::Deliver(std::function<void()> then) {
  if (world_.Now() >= still_until_) return then();
  world_.After(still_until_ - world_.Now(), [this, then = std::move(then)] { Deliver(then); });
}

void Locker::After(absl::Duration delay, std::function<void()> then) {
  world_.After(delay, [this, wait = wait_, then = std::move(then)] {
    Deliver([this, wait, then] {
      if (wait == wait_) then();
    });
  });
}

void Locker::MayMove(uint64_t in_1000) {
  if (scene_.daemons.size() == 1 || !chance_.In1000(in_1000)) return;
  Daemon* const other = chance_.OneOf(scene_.daemons);
  if (other != daemon_) ++totals_->moves;
  daemon_ = other;
}

}  // namespace stm::sim
