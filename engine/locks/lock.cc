#include "engine/locks/lock.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "engine/error.h"
#include "engine/locks/fields.h"
#include "engine/locks/session.h"
#include "engine/name.h"
#include "engine/transaction.h"
#include "stm/v1/common.pb.h"

namespace stm::engine {
namespace {

constexpr std::string_view kLocks = "/.locks";
constexpr std::string_view kQueues = "/.queues";
constexpr std::string_view kWaiters = "/.waiters";
constexpr std::string_view kConditions = "/.conditions";
constexpr std::string_view kAwaits = "/.awaits";

// As java.util.concurrent's locks count.
constexpr int64_t kHoldsMax = INT32_MAX;

constexpr std::array<std::string_view, 3> kModes = {"exclusive", "shared", "permits"};
constexpr std::array<std::string_view, 11> kOutcomes = {
    "granted",  "queued",    "busy", "upgrade-refused", "deadlock", "released", "still-held",
    "not-held", "not-yours", "left", "signalled"};

// The index of a keyword among `words`; nullopt: it is none of them.
template <size_t kSize>
std::optional<size_t> IndexOf(const std::array<std::string_view, kSize>& words, const Value* value) {
  for (size_t i = 0; value != nullptr && i < kSize; ++i) {
    if (value->text() == words[i]) return i;
  }
  return std::nullopt;
}

std::string PlaceText(int64_t place) { return absl::StrFormat("%016d", place); }

// ---- Text of entries

void AddOwner(const LockOwner& by, Fields* fields) {
  fields->Add("session", Value::String(by.session));
  if (!by.owner.empty()) fields->Add("owner", Value::String(by.owner));
}

LockOwner ReadOwner(FieldReader* fields) { return {fields->Text("session"), fields->Text("owner")}; }

void AddMode(LockMode mode, int64_t permits, Fields* fields) {
  fields->Add("mode", Value::Keyword(kModes[static_cast<size_t>(mode)]));
  if (mode == LockMode::kPermits) fields->Add("permits", Value::Integer(permits));
}

absl::Status ReadMode(FieldReader* fields, LockMode* mode, int64_t* permits) {
  const std::optional<size_t> index = IndexOf(kModes, fields->Find("mode", Type::kKeyword));
  if (!index.has_value()) return fields->Malformed("mode");
  *mode = static_cast<LockMode>(*index);
  *permits = fields->Integer("permits");
  return fields->status();
}

Value ToValue(const LockHold& hold) {
  Fields fields;
  AddOwner(hold.by, &fields);
  AddMode(hold.mode, hold.permits, &fields);
  fields.Add("token", Value::Integer(hold.token));
  if (hold.holds != 1) fields.Add("holds", Value::Integer(hold.holds));
  fields.Add("acquire", Value::OfUuid(hold.acquire));
  if (hold.again != Uuid()) fields.Add("again", Value::OfUuid(hold.again));
  fields.Add("since", Value::OfInstant(hold.since));
  if (hold.unsignalled) fields.Add("unsignalled", Value::Boolean(true));
  return fields.ToValue();
}

absl::StatusOr<LockHold> ReadHold(const std::string& entry, const Value& value) {
  FieldReader fields(entry, value);
  LockHold hold;
  hold.by = ReadOwner(&fields);
  hold.token = fields.Integer("token");
  hold.holds = fields.Find("holds", Type::kInteger) == nullptr ? 1 : fields.Integer("holds");
  hold.acquire = fields.Id("acquire");
  if (const Value* again = fields.Find("again", Type::kUuid)) hold.again = again->uuid();
  hold.since = fields.Moment("since");
  if (const Value* unsignalled = fields.Find("unsignalled", Type::kBoolean))
    hold.unsignalled = unsignalled->boolean();
  if (absl::Status status = ReadMode(&fields, &hold.mode, &hold.permits); !status.ok()) return status;
  return hold;
}

Value ToValue(const LockState& lock) {
  Fields fields;
  std::vector<Value> holders;
  for (const LockHold& hold : lock.holders) holders.push_back(ToValue(hold));
  fields.Add("holders", Value::OfVector(std::move(holders)));
  fields.Add("token", Value::Integer(lock.token));
  fields.Add("first", Value::Integer(lock.first));
  if (lock.permits_max > 0) fields.Add("permits-max", Value::Integer(lock.permits_max));
  return fields.ToValue();
}

Value ToValue(const LockWaiter& waiter) {
  Fields fields;
  AddOwner(waiter.by, &fields);
  AddMode(waiter.mode, waiter.permits, &fields);
  if (waiter.holds != 1) fields.Add("holds", Value::Integer(waiter.holds));
  fields.Add("acquire", Value::OfUuid(waiter.acquire));
  fields.Add("since", Value::OfInstant(waiter.since));
  if (!waiter.await.empty()) fields.Add("await", Value::String(waiter.await));
  if (waiter.unsignalled) fields.Add("unsignalled", Value::Boolean(true));
  return fields.ToValue();
}

// One who awaits a signal. Once it has a place in the lock's queue the entry stays, so that the call that
// awaits finds it.
struct Await {
  LockWaiter waiter;
  std::string lock;
  int64_t place = -1;  // in the lock's queue; -1: no signal came yet
  bool signalled = false;
};

Value ToValue(const Await& await) {
  Fields fields;
  AddOwner(await.waiter.by, &fields);
  fields.Add("lock", Value::String(await.lock));
  fields.Add("holds", Value::Integer(await.waiter.holds));
  fields.Add("acquire", Value::OfUuid(await.waiter.acquire));
  fields.Add("since", Value::OfInstant(await.waiter.since));
  if (await.place >= 0) {
    fields.Add("place", Value::Integer(await.place));
    fields.Add("signalled", Value::Boolean(await.signalled));
  }
  return fields.ToValue();
}

absl::StatusOr<Await> ReadAwait(std::string_view entry, const Value& value) {
  FieldReader fields(std::string(entry), value);
  Await await;
  await.waiter.by = ReadOwner(&fields);
  await.lock = fields.Text("lock");
  await.waiter.holds = fields.Integer("holds");
  await.waiter.acquire = fields.Id("acquire");
  await.waiter.since = fields.Moment("since");
  await.waiter.await = std::string(entry);
  if (const Value* place = fields.Find("place", Type::kInteger)) await.place = place->integer();
  if (const Value* signalled = fields.Find("signalled", Type::kBoolean))
    await.signalled = signalled->boolean();
  if (!fields.status().ok()) return fields.status();
  return await;
}

// A condition's own entry.
struct Condition {
  int64_t first = 0;
  int64_t next = 0;
};

absl::StatusOr<Condition> ReadCondition(const std::string& entry, const std::optional<Value>& value) {
  Condition condition;
  if (!value.has_value()) return condition;
  FieldReader fields(entry, *value);
  condition.first = fields.Integer("first");
  condition.next = fields.Integer("next");
  if (!fields.status().ok()) return fields.status();
  return condition;
}

Value ToValue(const Condition& condition) {
  Fields fields;
  fields.Add("first", Value::Integer(condition.first));
  fields.Add("next", Value::Integer(condition.next));
  return fields.ToValue();
}

// Of what is deleted when nobody used it for long.
std::shared_ptr<const Definition> Idle(const LockBounds& bounds) {
  auto definition = std::make_shared<Definition>();
  definition->ttl = bounds.lock_idle;
  return definition;
}

// ---- One lock, while a procedure runs

// A lock and its queue as a procedure has them in hand: read whole, changed, and written by Save.
class Desk {
 public:
  static absl::StatusOr<Desk> Open(EntryView* view, std::string_view lock, const LockBounds& bounds) {
    Desk desk(view, std::string(lock), bounds);
    absl::StatusOr<LockState> state = ReadLock(lock, view->Get(LockEntry(lock)));
    if (!state.ok()) return state.status();
    desk.state_ = *std::move(state);
    const std::string entry = QueueEntry(lock);
    if (const std::optional<Value> queue = view->Get(entry)) {
      FieldReader fields(entry, *queue);
      desk.next_ = fields.Integer("next");
      if (!fields.status().ok()) return fields.status();
    }
    // Either may have been deleted while nobody waited.
    desk.next_ = std::max(desk.next_, desk.state_.first);
    if (desk.state_.holders.empty()) desk.state_.first = desk.next_;
    desk.saved_next_ = desk.next_;
    return desk;
  }

  LockState& state() { return state_; }
  const std::string& lock() const { return lock_; }
  bool anyone_waits() const { return state_.first < next_; }

  bool IsFree(LockMode mode, int64_t permits) const {
    if (static_cast<int64_t>(state_.holders.size()) >= bounds_.lock_holders_max) return false;
    if (mode == LockMode::kExclusive) return state_.holders.empty();
    if (mode == LockMode::kShared) {
      return std::none_of(state_.holders.begin(), state_.holders.end(),
                          [](const LockHold& hold) { return hold.mode == LockMode::kExclusive; });
    }
    int64_t taken = 0;
    for (const LockHold& hold : state_.holders) taken += hold.permits;
    return taken + permits <= state_.permits_max;
  }

  const LockHold& Grant(const LockWaiter& waiter) {
    LockHold hold;
    hold.by = waiter.by;
    hold.mode = waiter.mode;
    hold.permits = waiter.permits;
    hold.holds = waiter.holds;
    hold.acquire = waiter.acquire;
    hold.since = view_->now();
    hold.unsignalled = waiter.unsignalled;
    hold.token = state_.token =
        std::max(state_.token + 1, bounds_.canaries.token_reused ? 1 : view_->version());
    state_.holders.push_back(std::move(hold));
    changed_ = true;
    return state_.holders.back();
  }

  void Remove(const LockHold* hold) {
    state_.holders.erase(state_.holders.begin() + (hold - state_.holders.data()));
    changed_ = true;
  }

  // The place.
  absl::StatusOr<int64_t> Queue(const LockWaiter& waiter) {
    if (next_ - state_.first >= bounds_.lock_queue_max) {
      return LimitReached("lock_queue_max", bounds_.lock_queue_max, lock_, next_ - state_.first,
                          "who wait for the lock: try again later, or use more locks");
    }
    view_->Set(WaiterEntry(lock_, next_), ToValue(waiter));
    return next_++;
  }

  void Changed() { changed_ = true; }

  // Gives those who wait what is free, first come first served, and writes the lock.
  absl::Status Save() {
    bool drops = false;
    while (anyone_waits()) {
      const std::string entry = WaiterEntry(lock_, state_.first);
      const std::optional<Value> value = view_->Get(entry);
      if (value.has_value()) {
        absl::StatusOr<LockWaiter> waiter = ReadWaiter(entry, *value);
        if (!waiter.ok()) return waiter.status();
        if (!IsFree(waiter->mode, waiter->permits)) {
          if (!drops) break;
          drops = false;
          view_->Delete(entry);
          ++state_.first;
          continue;
        }
        Grant(*waiter);
        drops = bounds_.canaries.waiter_dropped;
        view_->Delete(entry);
        if (!waiter->await.empty()) view_->Delete(waiter->await);
      }
      ++state_.first;
      changed_ = true;
    }
    if (next_ != saved_next_) {
      Fields fields;
      fields.Add("next", Value::Integer(next_));
      view_->Set(QueueEntry(lock_), fields.ToValue(), Idle(bounds_));
    }
    if (changed_) view_->Set(LockEntry(lock_), ToValue(state_), Idle(bounds_));
    return absl::OkStatus();
  }

 private:
  Desk(EntryView* view, std::string lock, const LockBounds& bounds)
      : view_(view), lock_(std::move(lock)), bounds_(bounds) {}

  EntryView* view_;
  std::string lock_;
  LockBounds bounds_;
  LockState state_;
  int64_t next_ = 0;
  int64_t saved_next_ = 0;
  bool changed_ = false;
};

std::vector<LockStep> InTheWay(const std::string& lock, const LockState& state) {
  std::vector<LockStep> steps;
  for (const LockHold& hold : state.holders) {
    if (steps.size() == kInTheWayMax) break;
    steps.push_back({lock, hold, ""});
  }
  return steps;
}

LockAnswer Granted(const LockHold& hold) {
  LockAnswer answer;
  answer.outcome = LockOutcome::kGranted;
  answer.token = hold.token;
  answer.holds = hold.holds;
  return answer;
}

absl::Status WrongKind(const std::string& lock, std::string_view found, std::string_view remedy) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_WRONG_KIND);
  detail.set_name(lock);
  detail.set_found(std::string(found));
  return WithDetail(absl::FailedPreconditionError(Joined({lock, ": ", found, ": ", remedy})), detail);
}

// A session's record of what it has of the lock: places below the first are over.
absl::Status NoteInSession(EntryView* view, const std::string& session, Desk* desk, int64_t place,
                           const LockBounds& bounds) {
  absl::StatusOr<SessionState> state = OpenSessionIn(view, session);
  if (!state.ok()) return state.status();
  const auto [it, added] = state->locks.try_emplace(desk->lock());
  std::vector<int64_t>& places = it->second;
  const size_t before = places.size();
  places.erase(
      std::remove_if(places.begin(), places.end(), [&](int64_t p) { return p < desk->state().first; }),
      places.end());
  if (place >= 0) places.push_back(place);
  if (!added && places.size() == before && place < 0) return absl::OkStatus();
  if (absl::Status status = CheckThings(session, *state, bounds); !status.ok()) return status;
  SetSession(view, session, *state);
  return absl::OkStatus();
}

// The session has nothing of the lock any more, or has and knows what.
absl::Status DropFromSession(EntryView* view, const std::string& session, Desk* desk, int64_t left_place = -1,
                             const std::vector<int64_t>& lost = {}) {
  absl::StatusOr<SessionState> state = OpenSessionIn(view, session);
  if (!state.ok()) return absl::IsFailedPrecondition(state.status()) ? absl::OkStatus() : state.status();
  bool changed = !lost.empty();
  if (changed) state->lost = {{desk->lock(), lost}};
  bool awaits = false;
  const std::string below = Joined({kAwaits, desk->lock(), "/"});
  for (auto it = state->awaits.lower_bound(below);
       it != state->awaits.end() && it->compare(0, below.size(), below) == 0;) {
    // Those of this lock, and of locks below it: what is gone is gone.
    if (view->Get(*it).has_value()) {
      awaits = true;
      ++it;
    } else {
      it = state->awaits.erase(it);
      changed = true;
    }
  }
  auto found = state->locks.find(desk->lock());
  if (found != state->locks.end()) {
    std::vector<int64_t>& places = found->second;
    const auto over = [&](int64_t place) { return place < desk->state().first || place == left_place; };
    places.erase(std::remove_if(places.begin(), places.end(), over), places.end());
    const auto& holders = desk->state().holders;
    const bool holds = std::any_of(holders.begin(), holders.end(),
                                   [&](const LockHold& h) { return h.by.session == session; });
    if (holds && left_place < 0 && !changed) return absl::OkStatus();
    if (!holds && !awaits && places.empty()) state->locks.erase(found);
    changed = true;
  }
  if (changed) SetSession(view, session, *state);
  return absl::OkStatus();
}

// ---- Cycles

// Looks whether `by`, who is about to wait for `lock`, would wait for itself: who holds a lock waits for at
// most one other, as its owner. Not through semaphores: any holder's permits would do.
class CycleSearch {
 public:
  CycleSearch(EntryView* view, const LockOwner& by, const LockBounds& bounds)
      : view_(view), by_(by), steps_left_(bounds.deadlock_steps_max) {}

  // Empty: there is none, or it is longer than is looked for.
  absl::StatusOr<std::vector<LockStep>> Find(const std::string& lock, const LockState& state) {
    if (state.permits_max > 0 || !seen_.insert(lock).second) return std::vector<LockStep>();
    for (const LockHold& hold : state.holders) {
      if (hold.by == by_ && !path_.empty()) {
        path_.push_back({lock, hold, path_.front().lock});
        return path_;
      }
      if (--steps_left_ < 0) return std::vector<LockStep>();
      absl::StatusOr<std::vector<std::string>> waits = WaitsFor(hold.by);
      if (!waits.ok()) return waits.status();
      for (const std::string& next : *waits) {
        path_.push_back({lock, hold, next});
        absl::StatusOr<LockState> further = ReadLock(next, view_->Get(LockEntry(next)));
        if (!further.ok()) return further.status();
        absl::StatusOr<std::vector<LockStep>> found = Find(next, *further);
        if (!found.ok() || !found->empty()) return found;
        path_.pop_back();
      }
    }
    return std::vector<LockStep>();
  }

 private:
  absl::StatusOr<std::vector<std::string>> WaitsFor(const LockOwner& by) {
    std::vector<std::string> waits;
    absl::StatusOr<SessionState> session = OpenSessionIn(view_, by.session);
    if (!session.ok())
      return absl::IsFailedPrecondition(session.status())
                 ? waits
                 : absl::StatusOr<std::vector<std::string>>(session.status());
    for (const auto& [lock, places] : session->locks) {
      for (int64_t place : places) {
        const std::string entry = WaiterEntry(lock, place);
        const std::optional<Value> value = view_->Get(entry);
        if (!value.has_value()) continue;
        absl::StatusOr<LockWaiter> waiter = ReadWaiter(entry, *value);
        if (!waiter.ok()) return waiter.status();
        if (waiter->by == by) waits.push_back(lock);
      }
    }
    for (const std::string& entry : session->awaits) {
      const std::optional<Value> value = view_->Get(entry);
      if (!value.has_value()) continue;
      absl::StatusOr<Await> await = ReadAwait(entry, *value);
      if (!await.ok()) return await.status();
      if (await->place >= 0 && await->waiter.by == by) waits.push_back(await->lock);
    }
    return waits;
  }

  EntryView* const view_;
  const LockOwner& by_;
  int64_t steps_left_;
  std::set<std::string> seen_;
  std::vector<LockStep> path_;
};

// ---- Procedures

class LockProcedure : public Procedure {
 public:
  LockProcedure(std::string lock, std::string session, LockBounds bounds)
      : lock_(std::move(lock)), session_(std::move(session)), bounds_(bounds) {}

  std::vector<std::string> Names() const override {
    std::vector<std::string> names = {LockEntry(lock_), QueueEntry(lock_)};
    if (!session_.empty()) names.push_back(SessionEntry(session_));
    return names;
  }

  absl::StatusOr<Value> Run(EntryView* view) const override {
    absl::StatusOr<Desk> desk = Desk::Open(view, lock_, bounds_);
    if (!desk.ok()) return desk.status();
    absl::StatusOr<LockAnswer> answer = Change(view, &*desk);
    if (!answer.ok()) return answer.status();
    return answer->ToValue();
  }

 protected:
  virtual absl::StatusOr<LockAnswer> Change(EntryView* view, Desk* desk) const = 0;

  // One hold less of *hold, which is in the desk's state.
  absl::StatusOr<LockAnswer> ReleaseOne(EntryView* view, Desk* desk, const LockHold* hold) const {
    LockAnswer answer;
    if (hold->holds > 1) {
      const_cast<LockHold*>(hold)->holds -= 1;
      const_cast<LockHold*>(hold)->again = Uuid();
      desk->Changed();
      answer.outcome = LockOutcome::kStillHeld;
      answer.holds = hold->holds;
      answer.token = hold->token;
    } else {
      answer.outcome = LockOutcome::kReleased;
      answer.token = hold->token;
      const std::string session = hold->by.session;
      desk->Remove(hold);
      if (absl::Status status = desk->Save(); !status.ok()) return status;
      if (absl::Status status = DropFromSession(view, session, desk); !status.ok()) return status;
      return answer;
    }
    if (absl::Status status = desk->Save(); !status.ok()) return status;
    return answer;
  }

  const std::string lock_;
  const std::string session_;
  const LockBounds bounds_;
};

class Acquire : public LockProcedure {
 public:
  Acquire(AcquireLock request, LockBounds bounds)
      : LockProcedure(request.lock, request.by.session, bounds), request_(std::move(request)) {}

 protected:
  absl::StatusOr<LockAnswer> Change(EntryView* view, Desk* desk) const override {
    absl::StatusOr<SessionState> session = OpenSessionIn(view, session_);
    if (!session.ok()) return session.status();
    LockState& lock = desk->state();
    if (absl::Status status = CheckKind(desk); !status.ok()) return status;

    LockWaiter me;
    me.by = request_.by;
    me.mode = request_.mode;
    me.permits = request_.mode == LockMode::kPermits ? request_.permits : 0;
    me.acquire = request_.acquire;
    me.since = view->now();

    bool mine = false;  // it holds the lock and has more of it, past those who wait
    if (request_.mode != LockMode::kPermits) {
      if (const LockHold* hold = lock.Find(request_.by, request_.mode)) {
        if (hold->holds >= kHoldsMax) {
          return LimitReached("lock_holds_max", kHoldsMax, lock_, hold->holds,
                              "holds of one owner: release some");
        }
        const_cast<LockHold*>(hold)->holds += 1;
        const_cast<LockHold*>(hold)->again = request_.acquire;
        desk->Changed();
        const LockAnswer answer = Granted(*hold);
        if (absl::Status status = desk->Save(); !status.ok()) return status;
        return answer;
      }
      if (request_.mode == LockMode::kExclusive && lock.Find(request_.by, LockMode::kShared) != nullptr) {
        mine = std::all_of(lock.holders.begin(), lock.holders.end(),
                           [&](const LockHold& h) { return h.by == request_.by; });
        if (!mine) return Refused(LockOutcome::kUpgradeRefused, lock);
      }
      mine = mine ||
             (request_.mode == LockMode::kShared && lock.Find(request_.by, LockMode::kExclusive) != nullptr);
    }

    if (mine || (desk->IsFree(request_.mode, me.permits) && (request_.at_once || !desk->anyone_waits()))) {
      const LockAnswer answer = Granted(desk->Grant(me));
      if (absl::Status status = desk->Save(); !status.ok()) return status;
      if (absl::Status status = NoteInSession(view, session_, desk, -1, bounds_); !status.ok()) return status;
      return answer;
    }
    if (request_.at_once) return Refused(LockOutcome::kBusy, lock);
    if (!session->locks.empty()) {
      absl::StatusOr<std::vector<LockStep>> cycle = CycleSearch(view, request_.by, bounds_).Find(lock_, lock);
      if (!cycle.ok()) return cycle.status();
      if (!cycle->empty()) {
        LockAnswer answer = Only(LockOutcome::kDeadlock);
        answer.in_the_way = *std::move(cycle);
        return answer;
      }
    }
    absl::StatusOr<int64_t> place = desk->Queue(me);
    if (!place.ok()) return place.status();
    if (absl::Status status = desk->Save(); !status.ok()) return status;
    if (absl::Status status = NoteInSession(view, session_, desk, *place, bounds_); !status.ok())
      return status;
    LockAnswer answer = Only(LockOutcome::kQueued);
    answer.place = *place;
    return answer;
  }

 private:
  LockAnswer Refused(LockOutcome outcome, const LockState& lock) const {
    LockAnswer answer = Only(outcome);
    answer.in_the_way = InTheWay(lock_, lock);
    return answer;
  }

  // A lock is a semaphore or it is not, and has its number of permits, as long as anyone holds it or waits.
  absl::Status CheckKind(Desk* desk) const {
    LockState& lock = desk->state();
    const int64_t wanted = request_.mode == LockMode::kPermits ? request_.permits_max : 0;
    if (request_.mode == LockMode::kPermits && request_.permits > request_.permits_max) {
      return BadRequest("permits", absl::StrFormat("%d are more than the semaphore's permits_max=%d",
                                                   request_.permits, wanted));
    }
    if (wanted == lock.permits_max) return absl::OkStatus();
    if (!lock.holders.empty() || desk->anyone_waits()) {
      if (lock.permits_max == 0) return WrongKind(lock_, "is a lock in use", "it has no permits");
      if (wanted == 0) return WrongKind(lock_, "is a semaphore in use", "acquire permits of it");
      return WrongKind(lock_, absl::StrFormat("is a semaphore in use, with permits_max=%d", lock.permits_max),
                       absl::StrFormat("permits_max=%d: all who use it must say the same", wanted));
    }
    lock.permits_max = wanted;
    desk->Changed();
    return absl::OkStatus();
  }

  const AcquireLock request_;
};

class Release : public LockProcedure {
 public:
  Release(std::string lock, LockOwner by, int64_t token, LockBounds bounds)
      : LockProcedure(std::move(lock), by.session, bounds), by_(std::move(by)), token_(token) {}

 protected:
  absl::StatusOr<LockAnswer> Change(EntryView* view, Desk* desk) const override {
    const LockState& lock = desk->state();
    const LockHold* hold = nullptr;
    for (LockMode mode : {LockMode::kExclusive, LockMode::kShared, LockMode::kPermits}) {
      if (hold == nullptr) hold = lock.Find(by_, mode, token_);
    }
    if (hold != nullptr) return ReleaseOne(view, desk, hold);
    const bool others = token_ == 0 ? !lock.holders.empty() : lock.Find(token_) != nullptr;
    LockAnswer answer = Only(others ? LockOutcome::kNotYours : LockOutcome::kNotHeld);
    if (others) answer.in_the_way = InTheWay(lock_, lock);
    return answer;
  }

 private:
  const LockOwner by_;
  const int64_t token_;
};

class Held : public LockProcedure {
 public:
  Held(std::string lock, LockOwner by, int64_t token, LockBounds bounds)
      : LockProcedure(std::move(lock), "", bounds), by_(std::move(by)), token_(token) {}

 protected:
  absl::StatusOr<LockAnswer> Change(EntryView*, Desk* desk) const override {
    for (const LockHold& hold : desk->state().holders) {
      if (!(hold.by == by_) || (token_ != 0 && hold.token != token_)) continue;
      LockAnswer answer = Granted(hold);
      answer.outcome = LockOutcome::kStillHeld;
      return answer;
    }
    return Only(LockOutcome::kReleased);
  }

 private:
  const LockOwner by_;
  const int64_t token_;
};

class Leave : public LockProcedure {
 public:
  Leave(std::string lock, int64_t place, Uuid acquire, bool give_back, LockBounds bounds)
      : LockProcedure(std::move(lock), "", bounds), place_(place), acquire_(acquire), give_back_(give_back) {}

  std::vector<std::string> Names() const override {
    std::vector<std::string> names = LockProcedure::Names();
    names.push_back(WaiterEntry(lock_, place_));
    return names;
  }

 protected:
  absl::StatusOr<LockAnswer> Change(EntryView* view, Desk* desk) const override {
    const std::string entry = WaiterEntry(lock_, place_);
    const std::optional<Value> value = view->Get(entry);
    if (value.has_value()) {
      absl::StatusOr<LockWaiter> waiter = ReadWaiter(entry, *value);
      if (!waiter.ok()) return waiter.status();
      if (waiter->acquire != acquire_) return Only(LockOutcome::kNotHeld);
      view->Delete(entry);
      if (absl::Status status = desk->Save(); !status.ok()) return status;
      if (absl::Status status = DropFromSession(view, waiter->by.session, desk, place_); !status.ok())
        return status;
      LockAnswer left = Only(LockOutcome::kLeft);
      left.in_the_way = InTheWay(lock_, desk->state());  // of whose time is over it is busy
      return left;
    }
    for (const LockHold& hold : desk->state().holders) {
      if (hold.acquire != acquire_) continue;
      return give_back_ ? ReleaseOne(view, desk, &hold) : Granted(hold);
    }
    return Only(LockOutcome::kNotHeld);
  }

 private:
  const int64_t place_;
  const Uuid acquire_;
  const bool give_back_;
};

class Find : public LockProcedure {
 public:
  Find(std::string lock, LockOwner by, std::optional<LockMode> mode, std::string condition, Uuid acquire,
       LockBounds bounds)
      : LockProcedure(std::move(lock), by.session, bounds),
        by_(std::move(by)),
        mode_(mode),
        condition_(std::move(condition)),
        acquire_(acquire) {}

 protected:
  absl::StatusOr<LockAnswer> Change(EntryView* view, Desk* desk) const override {
    absl::StatusOr<SessionState> session = OpenSessionIn(view, session_);
    if (!session.ok()) return session.status();
    const LockState& lock = desk->state();
    for (const LockHold& hold : lock.holders) {
      if ((hold.acquire == acquire_ || hold.again == acquire_) && hold.by == by_) return Granted(hold);
    }
    LockAnswer queued = Only(LockOutcome::kQueued);
    if (!mode_.has_value()) {
      const std::string below = Joined({kAwaits, lock_, "/", condition_, "/"});
      for (auto it = session->awaits.lower_bound(below); it != session->awaits.end(); ++it) {
        if (it->compare(0, below.size(), below) != 0) break;
        const std::optional<Value> value = view->Get(*it);
        if (!value.has_value()) continue;
        absl::StatusOr<Await> await = ReadAwait(*it, *value);
        if (!await.ok()) return await.status();
        if (await->waiter.acquire != acquire_) continue;
        if (!absl::SimpleAtoi(it->substr(below.size()), &queued.place)) continue;
        return queued;
      }
      return Only(LockOutcome::kNotHeld);
    }
    if (const auto places = session->locks.find(lock_); places != session->locks.end()) {
      for (int64_t place : places->second) {
        const std::string entry = WaiterEntry(lock_, place);
        const std::optional<Value> value = view->Get(entry);
        if (!value.has_value()) continue;
        absl::StatusOr<LockWaiter> waiter = ReadWaiter(entry, *value);
        if (!waiter.ok()) return waiter.status();
        if (waiter->acquire != acquire_) continue;
        queued.place = place;
        return queued;
      }
    }
    // A hold that others were added to since has not its id. A semaphore's are each one's own.
    const LockHold* hold = *mode_ == LockMode::kPermits ? nullptr : lock.Find(by_, *mode_);
    return hold == nullptr ? Only(LockOutcome::kNotHeld) : Granted(*hold);
  }

 private:
  const LockOwner by_;
  const std::optional<LockMode> mode_;  // nullopt: one who awaits
  const std::string condition_;
  const Uuid acquire_;
};

class Break : public LockProcedure {
 public:
  Break(std::string lock, LockBounds bounds) : LockProcedure(std::move(lock), "", bounds) {}

 protected:
  absl::StatusOr<LockAnswer> Change(EntryView* view, Desk* desk) const override {
    std::vector<LockHold> holders = std::move(desk->state().holders);
    if (holders.empty()) return Only(LockOutcome::kNotHeld);
    desk->state().holders.clear();
    desk->Changed();
    if (absl::Status status = desk->Save(); !status.ok()) return status;
    std::map<std::string, std::vector<int64_t>> lost;
    for (const LockHold& hold : holders) lost[hold.by.session].push_back(hold.token);
    for (const auto& [session, tokens] : lost) {
      if (absl::Status status = DropFromSession(view, session, desk, -1, tokens); !status.ok()) return status;
    }
    return Only(LockOutcome::kReleased);
  }
};

class AwaitSignal : public LockProcedure {
 public:
  AwaitSignal(std::string lock, LockOwner by, int64_t token, std::string condition, Uuid acquire,
              LockBounds bounds)
      : LockProcedure(std::move(lock), by.session, bounds),
        by_(std::move(by)),
        token_(token),
        condition_(std::move(condition)),
        acquire_(acquire) {}

  std::vector<std::string> Names() const override {
    std::vector<std::string> names = LockProcedure::Names();
    names.push_back(ConditionEntry(lock_, condition_));
    return names;
  }

 protected:
  absl::StatusOr<LockAnswer> Change(EntryView* view, Desk* desk) const override {
    absl::StatusOr<SessionState> session = OpenSessionIn(view, session_);
    if (!session.ok()) return session.status();
    const LockHold* hold = desk->state().Find(by_, LockMode::kExclusive, token_);
    if (hold == nullptr) return Only(LockOutcome::kNotHeld);
    // The token stands for this hold: with a shared one beside it others could not come in, and no signal
    // could.
    if (desk->state().Find(by_, LockMode::kShared) != nullptr) {
      return WrongKind(lock_, "is held shared beside exclusively",
                       "release the shared hold before a condition is awaited");
    }
    const std::string entry = ConditionEntry(lock_, condition_);
    const std::optional<Value> there = view->Get(entry);
    absl::StatusOr<Condition> condition = ReadCondition(entry, there);
    if (!condition.ok()) return condition.status();
    // One that was forgotten as idle does not begin its numbers anew: who was awaiting then, and waits for the lock since, still
    // has its entry. Each number took a commit, so all are below the newest version.
    if (!there.has_value()) condition->first = condition->next = view->version();
    if (condition->next - condition->first >= bounds_.lock_queue_max) {
      return LimitReached("lock_queue_max", bounds_.lock_queue_max, Joined({lock_, "/", condition_}),
                          condition->next - condition->first,
                          "who await the condition: signal it, or use more of them");
    }
    Await await;
    await.lock = lock_;
    await.waiter.by = by_;
    await.waiter.holds = hold->holds;
    await.waiter.acquire = acquire_;
    await.waiter.since = view->now();
    const int64_t place = condition->next++;
    view->Set(AwaitEntry(lock_, condition_, place), ToValue(await));
    view->Set(entry, ToValue(*condition), Idle(bounds_));
    desk->Remove(hold);
    if (absl::Status status = desk->Save(); !status.ok()) return status;
    // The lock stays among what the session has: it is going to have it again.
    session->awaits.insert(AwaitEntry(lock_, condition_, place));
    if (absl::Status status = CheckThings(session_, *session, bounds_); !status.ok()) return status;
    SetSession(view, session_, *session);
    LockAnswer answer = Only(LockOutcome::kQueued);
    answer.place = place;
    return answer;
  }

 private:
  const LockOwner by_;
  const int64_t token_;
  const std::string condition_;
  const Uuid acquire_;
};

// From the condition to the end of the lock's queue, or to the lock itself. The await's entry stays until the
// grant.
absl::Status MoveToQueue(EntryView* view, Desk* desk, const std::string& entry, Await await, bool signalled) {
  await.signalled = signalled;
  await.waiter.unsignalled = !signalled;
  absl::StatusOr<int64_t> place = desk->Queue(await.waiter);
  if (!place.ok()) return place.status();
  await.place = *place;
  view->Set(entry, ToValue(await));
  return absl::OkStatus();
}

class EndAwait : public LockProcedure {
 public:
  EndAwait(std::string lock, std::string condition, int64_t place, LockBounds bounds)
      : LockProcedure(std::move(lock), "", bounds), condition_(std::move(condition)), place_(place) {}

  std::vector<std::string> Names() const override {
    std::vector<std::string> names = LockProcedure::Names();
    names.push_back(AwaitEntry(lock_, condition_, place_));
    return names;
  }

 protected:
  absl::StatusOr<LockAnswer> Change(EntryView* view, Desk* desk) const override {
    const std::string entry = AwaitEntry(lock_, condition_, place_);
    const std::optional<Value> value = view->Get(entry);
    if (!value.has_value()) return Only(LockOutcome::kNotHeld);
    absl::StatusOr<Await> await = ReadAwait(entry, *value);
    if (!await.ok()) return await.status();
    if (await->place >= 0) return Only(await->signalled ? LockOutcome::kSignalled : LockOutcome::kBusy);
    if (absl::Status status = MoveToQueue(view, desk, entry, *std::move(await), /*signalled=*/false);
        !status.ok())
      return status;
    if (absl::Status status = desk->Save(); !status.ok()) return status;
    return Only(LockOutcome::kBusy);
  }

 private:
  const std::string condition_;
  const int64_t place_;
};

class Signal : public LockProcedure {
 public:
  Signal(std::string lock, int64_t token, std::string condition, bool all, LockBounds bounds)
      : LockProcedure(std::move(lock), "", bounds),
        token_(token),
        condition_(std::move(condition)),
        all_(all) {}

  std::vector<std::string> Names() const override {
    std::vector<std::string> names = LockProcedure::Names();
    names.push_back(ConditionEntry(lock_, condition_));
    return names;
  }

 protected:
  absl::StatusOr<LockAnswer> Change(EntryView* view, Desk* desk) const override {
    const LockHold* hold = desk->state().Find(token_);
    if (hold == nullptr || hold->mode != LockMode::kExclusive) return Only(LockOutcome::kNotHeld);
    const std::string entry = ConditionEntry(lock_, condition_);
    absl::StatusOr<Condition> condition = ReadCondition(entry, view->Get(entry));
    if (!condition.ok()) return condition.status();
    LockAnswer answer = Only(LockOutcome::kSignalled);
    const int64_t first = condition->first;
    for (int64_t looked = 0; condition->first < condition->next; ++looked) {
      if (answer.woken == (all_ ? kSignalledAtOnce : 1) || looked > 4 * kSignalledAtOnce) {
        answer.more = all_ || answer.woken == 0;
        break;
      }
      const std::string awaits = AwaitEntry(lock_, condition_, condition->first++);
      const std::optional<Value> value = view->Get(awaits);
      if (!value.has_value()) continue;
      absl::StatusOr<Await> await = ReadAwait(awaits, *value);
      if (!await.ok()) return await.status();
      if (await->place >= 0) continue;  // its time was over before
      if (absl::Status status = MoveToQueue(view, desk, awaits, *std::move(await), /*signalled=*/true);
          !status.ok())
        return status;
      ++answer.woken;
    }
    if (condition->first != first) {
      view->Set(entry, ToValue(*condition), Idle(bounds_));
    }
    if (absl::Status status = desk->Save(); !status.ok()) return status;
    return answer;
  }

 private:
  const int64_t token_;
  const std::string condition_;
  const bool all_;
};

class Sweep : public Procedure {
 public:
  Sweep(std::vector<std::string> entries, LockBounds bounds)
      : entries_(std::move(entries)), bounds_(bounds) {}

  std::vector<std::string> Names() const override { return entries_; }

  absl::StatusOr<Value> Run(EntryView* view) const override {
    int64_t deleted = 0;
    for (const std::string& entry : entries_) {
      const std::optional<Value> value = view->Get(entry);
      if (!value.has_value()) continue;
      absl::StatusOr<bool> idles = Idles(view, entry, *value);
      if (!idles.ok()) return idles.status();
      if (*idles) {
        view->Delete(entry);
        ++deleted;
      } else {
        view->Set(entry, *value, Idle(bounds_));
      }
    }
    return Value::Integer(deleted);
  }

 private:
  static absl::StatusOr<bool> Idles(EntryView* view, const std::string& entry, const Value& value) {
    if (std::optional<std::string_view> lock = LockOfEntry(entry)) {
      absl::StatusOr<LockState> state = ReadLock(*lock, value);
      if (!state.ok()) return state.status();
      // A grant after this one's deletion must have a newer token.
      return state->holders.empty() && state->token < view->version();
    }
    if (entry.compare(0, kQueues.size(), kQueues) == 0) {
      const std::string_view name = std::string_view(entry).substr(kQueues.size());
      const std::optional<Value> lock = view->Get(LockEntry(name));
      if (!lock.has_value()) return true;
      absl::StatusOr<LockState> state = ReadLock(name, *lock);
      if (!state.ok()) return state.status();
      FieldReader fields(entry, value);
      return state->first >= fields.Integer("next");
    }
    absl::StatusOr<Condition> condition = ReadCondition(entry, value);
    if (!condition.ok()) return condition.status();
    // Places that were left without a signal are between them. One that has its place in the lock's queue is
    // still there.
    const std::string_view name = std::string_view(entry).substr(kConditions.size());
    const size_t slash = name.rfind('/');
    for (int64_t place = condition->first; place < condition->next; ++place) {
      if (view->Get(AwaitEntry(name.substr(0, slash), name.substr(slash + 1), place)).has_value())
        return false;
    }
    return true;
  }

  const std::vector<std::string> entries_;
  const LockBounds bounds_;
};

bool Under(std::string_view top, std::string_view entry) {
  return entry.substr(0, top.size()) == top && entry.size() > top.size() && entry[top.size()] == '/';
}

}  // namespace

// ---- Names

std::string LockEntry(std::string_view lock) { return Joined({kLocks, lock}); }
std::string QueueEntry(std::string_view lock) { return Joined({kQueues, lock}); }
std::string WaiterEntry(std::string_view lock, int64_t place) {
  return Joined({kWaiters, lock, "/", PlaceText(place)});
}
std::string ConditionEntry(std::string_view lock, std::string_view condition) {
  return Joined({kConditions, lock, "/", condition});
}
std::string AwaitEntry(std::string_view lock, std::string_view condition, int64_t place) {
  return Joined({kAwaits, lock, "/", condition, "/", PlaceText(place)});
}

std::optional<std::string_view> LockOfEntry(std::string_view entry) {
  if (!Under(kLocks, entry)) return std::nullopt;
  return entry.substr(kLocks.size());
}

bool IsSweptLock(std::string_view entry) {
  return Under(kLocks, entry) || Under(kQueues, entry) || Under(kConditions, entry);
}

absl::Status CheckLockName(std::string_view field, std::string_view lock) {
  if (absl::Status status = CheckName(lock); !status.ok()) return BadField(field, status);
  if (IsSystem(lock)) return BadRequest(field, "begins with \"/.\": those names are the system's");
  if (lock.size() > kLockNameBytesMax) {
    return BadRequest(
        field, absl::StrFormat("has %d bytes: a lock's name has at most %d", lock.size(), kLockNameBytesMax));
  }
  const auto segments = static_cast<size_t>(std::count(lock.begin(), lock.end(), '/'));
  if (segments > kLockNameSegmentsMax) {
    return BadRequest(field, absl::StrFormat("has %d segments: a lock's name has at most %d", segments,
                                             kLockNameSegmentsMax));
  }
  return absl::OkStatus();
}

absl::Status CheckConditionName(std::string_view field, std::string_view condition) {
  if (condition.find('/') != std::string_view::npos)
    return BadRequest(field, "has a \"/\": a condition's name is one segment");
  if (condition.size() > kConditionNameBytesMax) {
    return BadRequest(field, absl::StrFormat("has %d bytes: a condition's name has at most %d",
                                             condition.size(), kConditionNameBytesMax));
  }
  if (absl::Status status = CheckName(Joined({"/", condition})); !status.ok()) return BadField(field, status);
  return absl::OkStatus();
}

// ---- States

const LockHold* LockState::Find(int64_t wanted) const {
  for (const LockHold& hold : holders) {
    if (hold.token == wanted) return &hold;
  }
  return nullptr;
}

const LockHold* LockState::Find(const LockOwner& by, LockMode mode, int64_t wanted) const {
  for (const LockHold& hold : holders) {
    if (hold.by == by && hold.mode == mode && (wanted == 0 || hold.token == wanted)) return &hold;
  }
  return nullptr;
}

std::vector<int64_t> LockState::Tokens() const {
  std::vector<int64_t> tokens;
  for (const LockHold& hold : holders) tokens.push_back(hold.token);
  return tokens;
}

absl::StatusOr<LockState> ReadLock(std::string_view lock, const std::optional<Value>& value) {
  LockState state;
  if (!value.has_value()) return state;
  const std::string entry = LockEntry(lock);
  FieldReader fields(entry, *value);
  state.token = fields.Integer("token");
  state.first = fields.Integer("first");
  state.permits_max = fields.Integer("permits-max");
  if (const Value* holders = fields.Find("holders", Type::kVector)) {
    for (const Value& holder : holders->items()) {
      absl::StatusOr<LockHold> hold = ReadHold(entry, holder);
      if (!hold.ok()) return hold.status();
      state.holders.push_back(*std::move(hold));
    }
  }
  if (!fields.status().ok()) return fields.status();
  return state;
}

absl::StatusOr<LockWaiter> ReadWaiter(std::string_view entry, const Value& value) {
  FieldReader fields(std::string(entry), value);
  LockWaiter waiter;
  waiter.by = ReadOwner(&fields);
  waiter.holds = fields.Find("holds", Type::kInteger) == nullptr ? 1 : fields.Integer("holds");
  waiter.acquire = fields.Id("acquire");
  waiter.since = fields.Moment("since");
  waiter.await = fields.Text("await");
  if (const Value* unsignalled = fields.Find("unsignalled", Type::kBoolean))
    waiter.unsignalled = unsignalled->boolean();
  if (absl::Status status = ReadMode(&fields, &waiter.mode, &waiter.permits); !status.ok()) return status;
  return waiter;
}

LockAnswer Only(LockOutcome outcome) {
  LockAnswer answer;
  answer.outcome = outcome;
  return answer;
}

Value LockAnswer::ToValue() const {
  Fields fields;
  fields.Add("outcome", Value::Keyword(kOutcomes[static_cast<size_t>(outcome)]));
  for (auto [key, number] :
       {std::make_pair("token", token), std::make_pair("holds", holds), std::make_pair("place", place),
        std::make_pair("woken", woken), std::make_pair("more", int64_t{more})}) {
    if (number != 0) fields.Add(key, Value::Integer(number));
  }
  if (!in_the_way.empty()) {
    std::vector<Value> steps;
    for (const LockStep& step : in_the_way) {
      Fields one;
      one.Add("lock", Value::String(step.lock));
      one.Add("hold", engine::ToValue(step.hold));
      if (!step.waits_for.empty()) one.Add("waits-for", Value::String(step.waits_for));
      steps.push_back(one.ToValue());
    }
    fields.Add("in-the-way", Value::OfVector(std::move(steps)));
  }
  return fields.ToValue();
}

absl::StatusOr<LockAnswer> LockAnswer::FromValue(const Value& value) {
  const std::string where = "a lock's answer";
  FieldReader fields(where, value);
  LockAnswer answer;
  const std::optional<size_t> outcome = IndexOf(kOutcomes, fields.Find("outcome", Type::kKeyword));
  if (!outcome.has_value()) return fields.Malformed("outcome");
  answer.outcome = static_cast<LockOutcome>(*outcome);
  answer.token = fields.Integer("token");
  answer.holds = fields.Integer("holds");
  answer.place = fields.Integer("place");
  answer.woken = fields.Integer("woken");
  answer.more = fields.Integer("more") != 0;
  if (const Value* steps = fields.Find("in-the-way", Type::kVector)) {
    for (const Value& item : steps->items()) {
      FieldReader one(where, item);
      const Value* hold = one.Find("hold", Type::kMap);
      if (hold == nullptr) return one.Malformed("hold");
      absl::StatusOr<LockHold> read = ReadHold(where, *hold);
      if (!read.ok()) return read.status();
      answer.in_the_way.push_back({one.Text("lock"), *std::move(read), one.Text("waits-for")});
    }
  }
  if (!fields.status().ok()) return fields.status();
  return answer;
}

// ---- Makers

std::shared_ptr<const Procedure> MakeAcquire(AcquireLock request, LockBounds bounds) {
  return std::make_shared<Acquire>(std::move(request), bounds);
}

std::shared_ptr<const Procedure> MakeRelease(std::string lock, LockOwner by, int64_t token,
                                             LockBounds bounds) {
  return std::make_shared<Release>(std::move(lock), std::move(by), token, bounds);
}

std::shared_ptr<const Procedure> MakeHeld(std::string lock, LockOwner by, int64_t token, LockBounds bounds) {
  return std::make_shared<Held>(std::move(lock), std::move(by), token, bounds);
}

std::shared_ptr<const Procedure> MakeLeave(std::string lock, int64_t place, Uuid acquire, bool give_back,
                                           LockBounds bounds) {
  return std::make_shared<Leave>(std::move(lock), place, acquire, give_back, bounds);
}

std::shared_ptr<const Procedure> MakeFind(std::string lock, LockOwner by, LockMode mode, Uuid acquire,
                                          LockBounds bounds) {
  return std::make_shared<Find>(std::move(lock), std::move(by), mode, "", acquire, bounds);
}

std::shared_ptr<const Procedure> MakeFindAwait(std::string lock, LockOwner by, std::string condition,
                                               Uuid acquire, LockBounds bounds) {
  return std::make_shared<Find>(std::move(lock), std::move(by), std::nullopt, std::move(condition), acquire,
                                bounds);
}

std::shared_ptr<const Procedure> MakeBreak(std::string lock, LockBounds bounds) {
  return std::make_shared<Break>(std::move(lock), bounds);
}

std::shared_ptr<const Procedure> MakeAwait(std::string lock, LockOwner by, int64_t token,
                                           std::string condition, Uuid acquire, LockBounds bounds) {
  return std::make_shared<AwaitSignal>(std::move(lock), std::move(by), token, std::move(condition), acquire,
                                       bounds);
}

std::shared_ptr<const Procedure> MakeEndAwait(std::string lock, std::string condition, int64_t place,
                                              LockBounds bounds) {
  return std::make_shared<EndAwait>(std::move(lock), std::move(condition), place, bounds);
}

std::shared_ptr<const Procedure> MakeSignal(std::string lock, int64_t token, std::string condition, bool all,
                                            LockBounds bounds) {
  return std::make_shared<Signal>(std::move(lock), token, std::move(condition), all, bounds);
}

std::shared_ptr<const Procedure> MakeSweep(std::vector<std::string> entries, LockBounds bounds) {
  return std::make_shared<Sweep>(std::move(entries), bounds);
}

// ---- A session's end

absl::Status EndOfSession(EntryView* view, std::string_view session, std::string_view lock,
                          const std::vector<int64_t>& places, const LockBounds& bounds) {
  absl::StatusOr<Desk> desk = Desk::Open(view, lock, bounds);
  if (!desk.ok()) return desk.status();
  std::vector<LockHold>& holders = desk->state().holders;
  const auto ends = std::remove_if(holders.begin(), holders.end(),
                                   [&](const LockHold& h) { return h.by.session == session; });
  if (ends != holders.end()) {
    holders.erase(ends, holders.end());
    desk->Changed();
  }
  for (int64_t place : places) {
    const std::string entry = WaiterEntry(lock, place);
    const std::optional<Value> value = place < desk->state().first ? std::nullopt : view->Get(entry);
    if (!value.has_value()) continue;
    absl::StatusOr<LockWaiter> waiter = ReadWaiter(entry, *value);
    if (!waiter.ok()) return waiter.status();
    if (waiter->by.session == session) view->Delete(entry);
  }
  return desk->Save();
}

absl::Status EndOfAwait(EntryView* view, std::string_view await_entry, const LockBounds& bounds) {
  const std::optional<Value> value = view->Get(await_entry);
  if (!value.has_value()) return absl::OkStatus();
  absl::StatusOr<Await> await = ReadAwait(await_entry, *value);
  if (!await.ok()) return await.status();
  view->Delete(await_entry);
  if (await->place < 0) return absl::OkStatus();
  return EndOfSession(view, await->waiter.by.session, await->lock, {await->place}, bounds);
}

}  // namespace stm::engine
