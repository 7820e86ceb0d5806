// Who goes first: reservations between this daemon's transactions, and turns between daemons. Both are about
// order alone; safety stays with the checks.
#include <algorithm>
#include <set>
#include <utility>

#include "engine/state.h"

namespace stm::engine {

// ---- Between transactions

// True: an older one's reservation, or another daemon's turn, is in its way, and it waits for that.
bool Engine::State::StandInLine(std::unique_ptr<Pending>& pending) {
  Pending& standing = *pending;
  if (!reservations_.StandInLine(pending)) return false;
  // Whoever it stands behind may need its entries.
  if (standing.staging != nullptr) EndStaging(standing, /*may_be_committed=*/false);
  reservations_alarm_.Set(reservations_.NextExpiry());
  if (!turns_.empty()) AskTurnFor(standing);
  return true;
}

absl::Duration Engine::State::HoldFor(const Pending& pending) const {
  if (canaries_.keep_reservations) return absl::InfiniteDuration();
  const Transaction& t = *pending.transaction;
  absl::Duration run = t.since_first_run / std::max<uint32_t>(t.runs, 1);
  return std::min(std::max(4 * run, options_.reservation_min), options_.reservation_max);
}

void Engine::State::EndReservation(uint64_t number) {
  if (canaries_.keep_reservations) return;
  std::vector<std::unique_ptr<Pending>> ready;
  reservations_.Release(number, loop_->Now() + options_.reservation_min, &next_reservation_, &ready);
  if (ready.empty()) return;
  Requeue(std::move(ready));
  reservations_alarm_.Set(reservations_.NextExpiry());
}

void Engine::State::ReleaseReservation(uint64_t reservation) {
  EndReservation(reservation);
  CloseBatches();
  FlushAnswers();
}

void Engine::State::EndReservations() {
  for (uint64_t number : reservations_.Expired(loop_->Now())) EndReservation(number);
  reservations_alarm_.Set(reservations_.NextExpiry());
  CloseBatches();
  FlushAnswers();
}

// ---- Between daemons

// Of batches that were lost: to others' commits on which entries?
void Engine::State::CountLosses(const std::deque<Appending>& batches) {
  std::set<std::string> lost, ask;
  for (const Appending& batch : batches) {
    for (const Entry* entry : batch.touched) {
      if (turns_.Shared(entry->name)) {
        turns_.GiveBack(entry->name);
        FollowTurn(entry->name);
      }
      if (entry->cached == nullptr || !entry->cached->by_other || entry->version() <= batch.installed)
        continue;
      if (lost.insert(entry->name).second && turns_.CountLoss(entry->name, loop_->Now()))
        ask.insert(entry->name);
    }
  }
  AskTurn({ask.begin(), ask.end()}, options_.turn_min);
}

// A transaction has lost often enough to reserve what it wants: of what others have changed it needs their
// word too.
void Engine::State::AskTurnOn(const std::vector<ConflictCause>& causes, absl::Duration length) {
  std::vector<std::string> names;
  for (const ConflictCause& cause : causes) {
    const Entry* entry = entries_.Find(cause.name);
    if (entry != nullptr && entry->cached != nullptr && entry->cached->by_other) names.push_back(cause.name);
  }
  AskTurn(std::move(names), length);
}

// Whoever waits for shared entries asks for all of them together: the order has one who asked first on all
// that it asked for, so there is always somebody who can go on.
void Engine::State::AskTurnFor(const Pending& pending) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (turns_.Shared(name)) names.push_back(name);
  };
  const Transaction& t = *pending.transaction;
  for (const std::string& name : t.reads) add(name);
  for (const std::string& name : t.ensures) add(name);
  for (const Write& write : t.writes) add(write.name);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  // It is here already: once the turn has come it goes at once, or begins again at once.
  AskTurn(std::move(names), options_.turn_min);
}

// Not if all were asked for.
void Engine::State::AskTurn(std::vector<std::string> names, absl::Duration length) {
  const absl::Duration now = loop_->Now();
  if (std::all_of(names.begin(), names.end(),
                  [&](const std::string& name) { return turns_.Asked(name, now); }))
    return;
  for (const std::string& name : names) turns_.Ask(name, now);
  turns_alarm_.Set(turns_.NextExpiry());
  ++stats_.turns_asked;
  writers_->AskTurn(std::move(names), std::max(length, options_.turn_min));
}

void Engine::State::TurnAsked(uint64_t writer, const std::vector<std::string>& names, absl::Duration length) {
  if (!ready_) return;
  const bool ours = writer == writers_->self();
  if (!ours) ++stats_.turns_of_others;
  for (const std::string& name : names) {
    turns_.Add(writer, ours, name, length, loop_->Now());
    FollowTurn(name);
  }
  turns_alarm_.Set(turns_.NextExpiry());
  CloseBatches();
  FlushAnswers();
}

// A batch is about to be appended, and takes the turns on what it changes.
void Engine::State::UseTurns(const Appending& batch) {
  for (const Entry* entry : batch.touched) {
    if (!turns_.Shared(entry->name)) continue;
    turns_.Use(entry->name);
    FollowTurn(entry->name);
  }
}

void Engine::State::EndTurns(const Appending& batch) {
  for (const Entry* entry : batch.touched) {
    if (!turns_.Shared(entry->name)) continue;
    turns_.End(0, /*ours=*/true, entry->name, loop_->Now());
    FollowTurn(entry->name);
  }
  turns_alarm_.Set(turns_.NextExpiry());
}

void Engine::State::BatchInstalled(uint64_t writer,
                                   absl::FunctionRef<bool(const std::string& name)> touches) {
  if (turns_.empty()) return;
  for (const std::string& name : turns_.SharedNames()) {
    if (!touches(name)) continue;
    turns_.End(writer, /*ours=*/false, name, loop_->Now());
    FollowTurn(name);
  }
  turns_alarm_.Set(turns_.NextExpiry());
  CloseBatches();
  FlushAnswers();
}

// This daemon's transactions on an entry wait, or don't, as its turns have it; who waits has asked.
void Engine::State::FollowTurn(const std::string& name) {
  const bool blocks = turns_.Blocks(name);
  const auto held = turn_holds_.find(name);
  if (blocks && held == turn_holds_.end()) {
    turn_holds_[name] = next_reservation_;
    reservations_.HoldForOthers(name, next_reservation_++);
  } else if (!blocks && held != turn_holds_.end()) {
    const uint64_t number = held->second;
    turn_holds_.erase(held);
    EndReservation(number);
  }
  if (!blocks) return;
  if (const Pending* first = reservations_.FirstInLine(name)) AskTurnFor(*first);
}

void Engine::State::TurnsAreOver() {
  for (const std::string& name : turns_.Expire(loop_->Now())) FollowTurn(name);
  turns_alarm_.Set(turns_.NextExpiry());
  CloseBatches();
  FlushAnswers();
}

}  // namespace stm::engine
