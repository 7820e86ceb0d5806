#include "engine/locks/calls.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/locks/session.h"
#include "engine/procedure.h"
#include "stm/v1/common.pb.h"

namespace stm::engine {
namespace {

absl::Status WithReason(absl::Status status, v1::ErrorReason reason) {
  v1::ErrorDetail detail;
  detail.set_reason(reason);
  return WithDetail(std::move(status), detail);
}

absl::StatusOr<std::optional<Value>> ResultOf(const Verdict& verdict, Version* version) {
  if (const auto* committed = std::get_if<Committed>(&verdict.outcome)) {
    *version = committed->version;
    if (committed->results.size() != 1) return std::optional<Value>();
    return committed->results[0];
  }
  if (const auto* unchanged = std::get_if<Unchanged>(&verdict.outcome)) {
    *version = unchanged->version;
    return std::optional<Value>(unchanged->result);
  }
  if (const auto* status = std::get_if<absl::Status>(&verdict.outcome)) return *status;
  if (std::holds_alternative<IdTooOld>(verdict.outcome)) {
    return WithReason(
        absl::AbortedError(
            "the id is not in the table any more: what became of it is unknown for good; a first "
            "send makes a new id"),
        v1::ERROR_REASON_ID_TOO_OLD);
  }
  return WithReason(absl::AbortedError("the id was not committed and never will be: send the same under a "
                                       "new id, with the header's writer"),
                    v1::ERROR_REASON_NOT_COMMITTED);
}

}  // namespace

LockCalls::LockCalls(Loop* loop, Engine* engine, LockBounds bounds)
    : loop_(loop), engine_(engine), bounds_(bounds) {}

void LockCalls::Commit(Engine* engine, CallContext context, std::shared_ptr<const Procedure> procedure,
                       absl::AnyInvocable<void(absl::StatusOr<std::optional<Value>>, Version)> done) {
  auto transaction = std::make_unique<Transaction>();
  transaction->id = context.id;
  transaction->meta = std::move(context.meta);
  transaction->deadline = context.deadline;
  transaction->procedure = std::move(procedure);
  engine->Commit(std::move(transaction),
                 [done = std::move(done)](std::shared_ptr<const Verdict> verdict, Version installed) mutable {
                   Version version = installed;
                   absl::StatusOr<std::optional<Value>> result = ResultOf(*verdict, &version);
                   done(std::move(result), version);
                 });
}

void LockCalls::Run(CallContext context, std::shared_ptr<const Procedure> procedure,
                    absl::AnyInvocable<void(absl::StatusOr<std::optional<LockAnswer>>, Version)> answered) {
  Commit(engine_, std::move(context), std::move(procedure),
         [loop = loop_, answered = std::move(answered)](absl::StatusOr<std::optional<Value>> result,
                                                        Version installed) mutable {
           absl::StatusOr<std::optional<LockAnswer>> answer = std::optional<LockAnswer>();
           if (!result.ok()) {
             answer = result.status();
           } else if (result->has_value()) {
             absl::StatusOr<LockAnswer> read = LockAnswer::FromValue(**result);
             if (read.ok()) {
               answer = std::optional<LockAnswer>(*std::move(read));
             } else {
               answer = read.status();
             }
           }
           loop->Post([answered = std::move(answered), answer = std::move(answer), installed]() mutable {
             answered(std::move(answer), installed);
           });
         });
}

void LockCalls::Step(absl::Duration deadline, std::shared_ptr<const Procedure> procedure,
                     absl::AnyInvocable<void(absl::StatusOr<std::optional<LockAnswer>>, Version)> answered) {
  CallContext context;
  context.deadline = deadline;
  Run(std::move(context), procedure,
      [this, deadline, procedure, answered = std::move(answered)](
          absl::StatusOr<std::optional<LockAnswer>> answer, Version installed) mutable {
        if (absl::IsUnknown(answer.status()))
          return Step(deadline, std::move(procedure), std::move(answered));
        answered(std::move(answer), installed);
      });
}

// ---- Calls that wait

uint64_t LockCalls::Acquire(CallContext context, AcquireLock request, absl::Duration wait, LockDone done) {
  // Sent once, by hand.
  if (!context.id.has_value()) request.acquire = {loop_->Random(), loop_->Random()};
  Wait waits;
  waits.lock = request.lock;
  waits.by = request.by;
  waits.mode = request.mode;
  waits.acquire = request.acquire;
  waits.until = loop_->Now() + wait;
  waits.deadline = context.deadline;
  waits.done = std::move(done);
  request.at_once = wait <= absl::ZeroDuration();
  return Begin(std::move(context), MakeAcquire(std::move(request), bounds_), std::move(waits));
}

uint64_t LockCalls::Await(CallContext context, AwaitCondition request, absl::Duration wait, LockDone done) {
  Wait waits;
  waits.lock = request.lock;
  waits.by = request.by;
  waits.condition = request.condition;
  waits.acquire =
      context.id.has_value() ? context.id->transaction_id : Uuid{loop_->Random(), loop_->Random()};
  waits.until = loop_->Now() + wait;
  waits.deadline = context.deadline;
  waits.done = std::move(done);
  auto procedure =
      MakeAwait(request.lock, request.by, request.token, request.condition, waits.acquire, bounds_);
  return Begin(std::move(context), std::move(procedure), std::move(waits));
}

uint64_t LockCalls::Begin(CallContext context, std::shared_ptr<const Procedure> procedure, Wait wait) {
  const uint64_t handle = next_handle_++;
  waits_.emplace(handle, std::move(wait));
  const bool resend = context.id.has_value() && context.id->resend;
  Run(std::move(context), std::move(procedure),
      [this, handle, resend](absl::StatusOr<std::optional<LockAnswer>> answer, Version installed) {
        Committed(handle, resend, std::move(answer), installed);
      });
  return handle;
}

bool LockCalls::Cancel(uint64_t handle) {
  auto it = waits_.find(handle);
  if (it == waits_.end()) return false;
  const uint64_t sleep = it->second.sleep;
  // What it holds may call back as it goes.
  const LockDone done = std::move(it->second.done);
  waits_.erase(it);
  if (sleep != 0) engine_->CancelAwait(sleep);
  return true;
}

void LockCalls::Finish(uint64_t handle, absl::StatusOr<LockResult> result) {
  auto it = waits_.find(handle);
  if (it == waits_.end()) return;
  LockDone done = std::move(it->second.done);
  waits_.erase(it);
  done(std::move(result));
}

std::string LockCalls::EntryOf(const Wait& wait) const {
  return wait.condition.empty() ? WaiterEntry(wait.lock, wait.place)
                                : AwaitEntry(wait.lock, wait.condition, wait.place);
}

void LockCalls::Committed(uint64_t handle, bool resend, absl::StatusOr<std::optional<LockAnswer>> answer,
                          Version installed) {
  if (!answer.ok()) return Finish(handle, answer.status());
  // What the first send came to may be over by now, or be known no more.
  const bool changed = !answer->has_value() || (*answer)->outcome == LockOutcome::kGranted ||
                       (*answer)->outcome == LockOutcome::kQueued;
  if (changed && (resend || !answer->has_value())) return Find(handle);
  Take(handle, **std::move(answer), installed);
}

void LockCalls::Find(uint64_t handle) {
  auto it = waits_.find(handle);
  if (it == waits_.end()) return;
  const Wait& wait = it->second;
  auto procedure = wait.condition.empty()
                       ? MakeFind(wait.lock, wait.by, wait.mode, wait.acquire, bounds_)
                       : MakeFindAwait(wait.lock, wait.by, wait.condition, wait.acquire, bounds_);
  Step(wait.deadline, std::move(procedure),
       [this, handle](absl::StatusOr<std::optional<LockAnswer>> answer, Version installed) {
         if (!answer.ok()) return Finish(handle, answer.status());
         Take(handle, answer->value_or(Only(LockOutcome::kNotHeld)), installed);
       });
}

// What the commit came to: it is over, or its place is waited for.
void LockCalls::Take(uint64_t handle, absl::StatusOr<LockAnswer> answer, Version installed) {
  auto it = waits_.find(handle);
  if (it == waits_.end()) return;
  if (!answer.ok()) return Finish(handle, answer.status());
  if (answer->outcome == LockOutcome::kQueued) {
    it->second.place = answer->place;
    return Sleep(handle, installed);
  }
  if (!it->second.condition.empty() && answer->outcome == LockOutcome::kGranted)
    return Look(handle, installed);
  Finish(handle, LockResult{*std::move(answer), false, installed});
}

// Until the place is gone, from `snapshot` on: the commit that made it, for a later one of the same batch may
// have ended it.
void LockCalls::Sleep(uint64_t handle, Version snapshot) {
  auto it = waits_.find(handle);
  if (it == waits_.end()) return;
  Wait& wait = it->second;
  AwaitRequest request;
  request.snapshot = snapshot;
  request.reads.push_back(EntryOf(wait));
  request.deadline = std::min(wait.until, wait.deadline);
  const uint64_t sleep = engine_->AwaitChange(std::move(request), [this, handle](
                                                                      absl::StatusOr<AwaitResult> result) {
    loop_->Post([this, handle, result = std::move(result)]() mutable { Woken(handle, std::move(result)); });
  });
  // The callback is a later task.
  wait.sleep = sleep;
}

void LockCalls::Woken(uint64_t handle, absl::StatusOr<AwaitResult> result) {
  auto it = waits_.find(handle);
  if (it == waits_.end()) return;
  Wait& wait = it->second;
  wait.sleep = 0;
  if (absl::IsDeadlineExceeded(result.status()) && loop_->Now() >= wait.until && wait.until <= wait.deadline)
    return TimeIsOver(handle);
  // Its snapshot is not kept any more, or it moved here from another daemon: where it is now is found out.
  if (absl::IsOutOfRange(result.status())) return Find(handle);
  if (!result.ok()) return Finish(handle, result.status());
  const bool there = !result->fresh.empty() && result->fresh[0].value.has_value();
  if (there) return Sleep(handle, result->snapshot);
  Look(handle, result->snapshot);
}

void LockCalls::TimeIsOver(uint64_t handle) {
  Wait& wait = waits_.find(handle)->second;
  wait.until = absl::InfiniteDuration();
  if (!wait.condition.empty()) {
    return Step(wait.deadline, MakeEndAwait(wait.lock, wait.condition, wait.place, bounds_),
                [this, handle](absl::StatusOr<std::optional<LockAnswer>> answer, Version) {
                  if (!answer.ok()) return Finish(handle, answer.status());
                  // It may have the lock by the same commit: then there is nothing to wake it.
                  Find(handle);
                });
  }
  wait.leaves = true;
  Step(wait.deadline, MakeLeave(wait.lock, wait.place, wait.acquire, /*give_back=*/false, bounds_),
       [this, handle](absl::StatusOr<std::optional<LockAnswer>> answer, Version installed) {
         if (!answer.ok()) return Finish(handle, answer.status());
         LockAnswer came_to = answer->value_or(Only(LockOutcome::kNotHeld));
         if (came_to.outcome == LockOutcome::kNotHeld) return Look(handle, installed);
         if (came_to.outcome == LockOutcome::kLeft) came_to.outcome = LockOutcome::kBusy;
         Finish(handle, LockResult{std::move(came_to), false, installed});
       });
}

// Its place is gone: it has the lock, or another took place or lock from it.
void LockCalls::Look(uint64_t handle, Version snapshot) {
  auto it = waits_.find(handle);
  if (it == waits_.end()) return;
  GetRequest request;
  request.names = {LockEntry(it->second.lock), SessionEntry(it->second.by.session)};
  request.at.at = ReadPoint::At::kStale;
  request.seen.version = snapshot;
  request.deadline = it->second.deadline;
  engine_->Get(std::move(request), [this, handle](absl::StatusOr<GetResult> result) {
    loop_->Post([this, handle, result = std::move(result)]() mutable {
      auto it = waits_.find(handle);
      if (it == waits_.end()) return;
      if (!result.ok()) return Finish(handle, result.status());
      absl::StatusOr<LockState> lock = ReadLock(it->second.lock, result->entries[0].value);
      if (!lock.ok()) return Finish(handle, lock.status());
      for (const LockHold& hold : lock->holders) {
        if (hold.acquire != it->second.acquire || !(hold.by == it->second.by)) continue;
        LockAnswer granted = Only(LockOutcome::kGranted);
        granted.token = hold.token;
        granted.holds = hold.holds;
        return Finish(handle, LockResult{std::move(granted), !hold.unsignalled, result->installed});
      }
      if (!result->entries[1].value.has_value()) return Finish(handle, SessionExpired(it->second.by.session));
      // Whoever took its place had to hurry: its time was over.
      const LockOutcome outcome = it->second.leaves ? LockOutcome::kBusy : LockOutcome::kNotHeld;
      Finish(handle, LockResult{Only(outcome), false, result->installed});
    });
  });
}

// ---- Calls that do not

void LockCalls::Release(CallContext context, std::string lock, LockOwner by, int64_t token, LockDone done) {
  const absl::Duration deadline = context.deadline;
  auto release = MakeRelease(lock, by, token, bounds_);
  Run(std::move(context), std::move(release),
      [this, deadline, lock = std::move(lock), by = std::move(by), token, done = std::move(done)](
          absl::StatusOr<std::optional<LockAnswer>> answer, Version installed) mutable {
        if (!answer.ok()) return done(answer.status());
        if (answer->has_value()) return done(LockResult{**std::move(answer), false, installed});
        // It was committed; what it left is looked at.
        Step(deadline, MakeHeld(std::move(lock), std::move(by), token, bounds_),
             [done = std::move(done)](absl::StatusOr<std::optional<LockAnswer>> answer,
                                      Version installed) mutable {
               if (!answer.ok()) return done(answer.status());
               done(LockResult{answer->value_or(Only(LockOutcome::kReleased)), false, installed});
             });
      });
}

void LockCalls::GiveUp(CallContext context, std::string lock, LockOwner by, CommitId acquire, LockDone done) {
  const Uuid id = acquire.transaction_id;
  engine_->GetOutcome(
      acquire, [this, context = std::move(context), lock = std::move(lock), by = std::move(by), id,
                done = std::move(done)](std::shared_ptr<const Verdict> verdict, Version installed) mutable {
        absl::StatusOr<std::optional<Value>> result = ResultOf(*verdict, &installed);
        const std::optional<v1::ErrorDetail> detail = DetailOf(result.status());
        if (detail.has_value() && detail->reason() == v1::ERROR_REASON_NOT_COMMITTED) {
          return done(LockResult{Only(LockOutcome::kNotHeld), false, installed});
        }
        if (!result.ok()) return done(result.status());
        std::optional<LockAnswer> came_to;
        if (result->has_value()) {
          absl::StatusOr<LockAnswer> read = LockAnswer::FromValue(**result);
          if (!read.ok()) return done(read.status());
          came_to = *std::move(read);
        }
        loop_->Post([this, context = std::move(context), lock = std::move(lock), by = std::move(by), id,
                     came_to = std::move(came_to), done = std::move(done)]() mutable {
          if (came_to.has_value())
            return EndCall(std::move(context), std::move(lock), std::move(by), id, *std::move(came_to),
                           std::move(done));
          FindToEnd(std::move(context), std::move(lock), std::move(by), id, std::move(done));
        });
      });
}

// It was committed, and what it came to is not kept: its hold or place is looked for by its id alone, as
// permits are. Another hold of its owner is none of its business.
void LockCalls::FindToEnd(CallContext context, std::string lock, LockOwner by, Uuid acquire, LockDone done) {
  const absl::Duration deadline = context.deadline;
  auto find = MakeFind(lock, by, LockMode::kPermits, acquire, bounds_);
  Step(deadline, std::move(find),
       [this, context = std::move(context), lock = std::move(lock), by = std::move(by), acquire,
        done = std::move(done)](absl::StatusOr<std::optional<LockAnswer>> answer, Version) mutable {
         if (!answer.ok()) return done(answer.status());
         EndCall(std::move(context), std::move(lock), std::move(by), acquire,
                 answer->value_or(Only(LockOutcome::kNotHeld)), std::move(done));
       });
}

void LockCalls::EndCall(CallContext context, std::string lock, LockOwner by, Uuid acquire, LockAnswer came_to,
                        LockDone done) {
  if (came_to.outcome == LockOutcome::kGranted) {
    return Release(std::move(context), std::move(lock), std::move(by), came_to.token, std::move(done));
  }
  const int64_t place = came_to.outcome == LockOutcome::kQueued ? came_to.place : -1;
  Run(std::move(context), MakeLeave(std::move(lock), place, acquire, /*give_back=*/true, bounds_),
      [done = std::move(done)](absl::StatusOr<std::optional<LockAnswer>> answer, Version installed) mutable {
        if (!answer.ok()) return done(answer.status());
        done(LockResult{answer->value_or(Only(LockOutcome::kLeft)), false, installed});
      });
}

void LockCalls::Signal(CallContext context, std::string lock, int64_t token, std::string condition, bool all,
                       LockDone done) {
  const absl::Duration deadline = context.deadline;
  auto signal = MakeSignal(lock, token, condition, all, bounds_);
  Run(std::move(context), std::move(signal),
      [this, deadline, lock = std::move(lock), token, condition = std::move(condition), all,
       done = std::move(done)](absl::StatusOr<std::optional<LockAnswer>> answer, Version installed) mutable {
        if (!answer.ok()) return done(answer.status());
        const bool dropped = !answer->has_value();
        LockAnswer came_to = answer->value_or(Only(LockOutcome::kSignalled));
        const bool more = all && (dropped || came_to.more);
        LockResult result{std::move(came_to), false, installed};
        if (!more) return done(std::move(result));
        SignalMore(deadline, std::move(lock), token, std::move(condition), std::move(result),
                   std::move(done));
      });
}

// Whoever signals all holds the lock meanwhile: nobody sees that it is several commits.
void LockCalls::SignalMore(absl::Duration deadline, std::string lock, int64_t token, std::string condition,
                           LockResult so_far, LockDone done) {
  auto signal = MakeSignal(lock, token, condition, /*all=*/true, bounds_);
  Step(deadline, std::move(signal),
       [this, deadline, lock = std::move(lock), token, condition = std::move(condition),
        so_far = std::move(so_far),
        done = std::move(done)](absl::StatusOr<std::optional<LockAnswer>> answer, Version installed) mutable {
         if (!answer.ok()) return done(answer.status());
         LockAnswer came_to = answer->value_or(Only(LockOutcome::kSignalled));
         so_far.answer.woken += came_to.woken;
         so_far.installed = installed;
         if (!came_to.more) return done(std::move(so_far));
         SignalMore(deadline, std::move(lock), token, std::move(condition), std::move(so_far),
                    std::move(done));
       });
}

void LockCalls::Break(CallContext context, std::string lock, LockDone done) {
  Run(std::move(context), MakeBreak(std::move(lock), bounds_),
      [done = std::move(done)](absl::StatusOr<std::optional<LockAnswer>> answer, Version installed) mutable {
        if (!answer.ok()) return done(answer.status());
        done(LockResult{answer->value_or(Only(LockOutcome::kReleased)), false, installed});
      });
}

// ---- Reads

void LockCalls::Get(std::string lock, Seen seen, absl::Duration deadline, Done<LockView> done) {
  GetRequest request;
  request.names = {LockEntry(lock)};
  request.seen = seen;
  request.deadline = deadline;
  engine_->Get(std::move(request), [this, deadline, lock = std::move(lock),
                                    done = std::move(done)](absl::StatusOr<GetResult> result) mutable {
    if (!result.ok()) return done(result.status());
    absl::StatusOr<LockState> state = ReadLock(lock, result->entries[0].value);
    if (!state.ok()) return done(state.status());
    LockView view{std::move(lock), *std::move(state), {}};
    loop_->Post([this, deadline, view = std::move(view), snapshot = result->snapshot,
                 done = std::move(done)]() mutable {
      ListRequest list;
      // Places, and below them those of locks below this one.
      list.prefix = WaiterEntry(view.lock, 0);
      list.prefix.erase(list.prefix.rfind('/') + 1);
      list.at = {ReadPoint::At::kVersion, snapshot, {}};
      list.page_size = kQueueShownMax;
      list.deadline = deadline;
      const size_t place_at = list.prefix.size();
      engine_->List(std::move(list), [place_at, view = std::move(view),
                                      done = std::move(done)](absl::StatusOr<ListResult> result) mutable {
        if (!result.ok()) return done(result.status());
        for (const EntryState& entry : result->entries) {
          if (entry.name.find('/', place_at) != std::string::npos || !entry.value.has_value()) continue;
          absl::StatusOr<LockWaiter> waiter = ReadWaiter(entry.name, *entry.value);
          if (!waiter.ok()) return done(waiter.status());
          view.queue.push_back(*std::move(waiter));
        }
        done(std::move(view));
      });
    });
  });
}

void LockCalls::List(std::string prefix, std::string after, int64_t page_size, Seen seen,
                     absl::Duration deadline, Done<LocksPage> done) {
  ListRequest request;
  request.prefix = LockEntry(prefix);
  if (!after.empty()) request.after_name = LockEntry(after);
  request.page_size = page_size;
  request.seen = seen;
  request.deadline = deadline;
  engine_->List(std::move(request), [done = std::move(done)](absl::StatusOr<ListResult> result) mutable {
    if (!result.ok()) return done(result.status());
    LocksPage page;
    page.more = result->more;
    page.installed = result->installed;
    for (const EntryState& entry : result->entries) {
      const std::optional<std::string_view> lock = LockOfEntry(entry.name);
      if (!lock.has_value()) continue;
      absl::StatusOr<LockState> state = ReadLock(*lock, entry.value);
      if (!state.ok()) return done(state.status());
      page.locks.push_back({std::string(*lock), *std::move(state), {}});
    }
    done(std::move(page));
  });
}

}  // namespace stm::engine
