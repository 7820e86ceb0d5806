// The commit path, top to bottom: a transaction arrives (Commit), is looked up, stands in line or queues (Admit), is
// validated into a batch (CloseBatch, Validate, Accept), is appended by the coordinator (THE commit point),
// installed and published (InstallBatch), and answered.
#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/name.h"
#include "engine/state.h"
#include "stm/v1/common.pb.h"

namespace stm::engine {
namespace {

// What history costs beside the values themselves, a commit and a change.
constexpr int64_t kCommitOverheadBytes = 256;
constexpr int64_t kChangeOverheadBytes = 384;
// A batch this small is never halved.
constexpr int64_t kHalvedFrom = 32;
// A transaction on large values that move is worked on off the Loop this often, then on it.
constexpr int kParkedMax = 3;

std::shared_ptr<const Verdict> Make(Verdict verdict) { return std::make_shared<const Verdict>(std::move(verdict)); }

absl::Status QueueFull(int64_t bound) {
  absl::Status status = LimitReached("commit_queue_max", bound, "the commit queue", bound, "send less at once, and again later");
  v1::ErrorDetail detail = *DetailOf(status);
  detail.mutable_retry_after()->set_nanos(100'000'000);
  return WithDetail(status, detail);
}

absl::Status TooLate() {
  return absl::DeadlineExceededError("the deadline passed before the transaction's turn came: not committed");
}

}  // namespace

// ---- Arrival

void Engine::State::Commit(std::unique_ptr<Transaction> transaction, CommitDone done) {
  Arrive(std::move(transaction), std::move(done));
  Arrived();
}

void Engine::State::Commit(std::vector<Submission> submissions) {
  for (Submission& submission : submissions) Arrive(std::move(submission.transaction), std::move(submission.done));
  Arrived();
}

void Engine::State::Arrived() {
  // Refusals fill the table without an install to trim it.
  if (ids_.bytes() > options_.id_table_bytes_max) TrimIds();
  CloseBatches();
  FlushAnswers();
}

void Engine::State::Arrive(std::unique_ptr<Transaction> transaction, CommitDone done) {
  if (!ready_) {
    answers_.push_back({std::move(done), Make({NotReady(not_ready_because_, absl::Milliseconds(100))})});
    return;
  }
  if (transaction->id.has_value() && AnswerKnown(*transaction->id, done, /*poison=*/false)) return;

  auto pending = std::make_unique<Pending>();
  pending->transaction = std::move(transaction);
  pending->waiters.push_back(std::move(done));
  pending->arrived = loop_->Now();
  const Transaction& t = *pending->transaction;
  pending->born = pending->arrived - std::min(std::max(t.since_first_run, absl::ZeroDuration()), options_.transaction_age_max);
  pending->sequence = next_sequence_++;
  LookAhead(*pending);
  const bool forgets = canaries_.forget_ids || canaries_.forget_queued_ids;
  if (t.id.has_value() && (!forgets || ids_.Find(t.id->transaction_id).state == IdTable::State::kUnknown)) {
    ids_.AddUndecided(t.id->transaction_id, pending.get(), pending->arrived);
    pending->in_id_table = true;
  }
  if (draining_) return Refuse(std::move(pending), {NotReady("draining", absl::Milliseconds(100))});
  int64_t names = static_cast<int64_t>(t.reads.size() + t.lists.size() + t.ensures.size() + t.writes.size() + t.fences.size());
  if (names > options_.transaction_entries_max) {
    return Refuse(std::move(pending), {LimitReached("transaction_entries_max", options_.transaction_entries_max,
                                                    "the transaction", names, "use smaller transactions")});
  }
  if (static_cast<int64_t>(queue_.size()) + reservations_.in_line() + parked_ + loading_ >= options_.commit_queue_max) {
    return Refuse(std::move(pending), {QueueFull(options_.commit_queue_max)});
  }

  Version known = std::max(t.snapshot, t.id.has_value() ? t.id->seen : 0);
  if (known <= installed_) return Admit(std::move(pending));
  absl::Duration deadline = t.deadline;
  WhenInstalled(known, deadline, [this, pending = std::move(pending)](absl::Status status) mutable {
    if (status.ok()) {
      Admit(std::move(pending));
    } else {
      Refuse(std::move(pending), {std::move(status)});
    }
    CloseBatches();
    FlushAnswers();
  });
}

// Answers a transaction whose fate is known, is being decided, or can't be decided here. `done` is taken only then.
// With `poison` an id that this writer never saw is refused from now on, so that "not committed" is certain.
bool Engine::State::AnswerKnown(const CommitId& id, CommitDone& done, bool poison) {
  if (id.store != 0 && id.store != writers_->store()) {
    answers_.push_back({std::move(done), Make({StoreChanged(id.store, writers_->store())})});
    return true;
  }
  IdTable::Found found = canaries_.forget_ids ? IdTable::Found() : ids_.Find(id.transaction_id);
  if (found.state == IdTable::State::kDecided) {
    ++stats_.resends_answered;
    answers_.push_back({std::move(done), std::move(found.verdict)});
    return true;
  }
  if (found.state == IdTable::State::kUndecided && !canaries_.forget_queued_ids) {
    ++stats_.resends_answered;
    found.pending->waiters.push_back(std::move(done));
    return true;
  }
  if (id.writer != writers_->self()) {
    if (!id.resend && !poison) {
      // Only its own writer may execute it, and it never was sent there: nobody has it.
      ++stats_.not_committed;
      answers_.push_back({std::move(done), Make({NotCommitted{}})});
      return true;
    }
    writers_->Close(id.writer, [this, id, done = std::move(done)](absl::Status status) mutable {
      if (status.ok()) {
        AnswerFromOrder(id, std::move(done));
      } else {
        answers_.push_back({std::move(done), Make({std::move(status)})});
      }
      FlushAnswers();
    });
    return true;
  }
  if (id.seen < ids_.floor()) {
    ++stats_.ids_too_old;
    answers_.push_back({std::move(done), Make(TooOld())});
    return true;
  }
  if (!poison) return false;
  ++stats_.not_committed;
  auto verdict = Make({NotCommitted{}});
  if (!canaries_.forget_ids && found.state == IdTable::State::kUnknown) {
    ids_.AddUndecided(id.transaction_id, nullptr, loop_->Now());
    ids_.Decide(id.transaction_id, *verdict, installed_);
  }
  answers_.push_back({std::move(done), std::move(verdict)});
  return true;
}

// The order told the commit of a transaction that is undecided here: its batch was appended under a writer that another
// daemon closed, and the batch is going to be told that it is lost.
void Engine::State::CommittedElsewhere(Pending& pending, Version version, Instant at) {
  Committed committed{version, at, {}, /*results_dropped=*/true};
  for (Appending& batch : appending_) {
    for (Member& member : batch.members) {
      if (member.pending.get() != &pending) continue;
      committed.results = std::move(member.results);
      committed.results_dropped = false;
    }
  }
  // Its entries stay as long as the batch is under way.
  const bool pinned = std::exchange(pending.pinned, false);
  Decided(pending, Make({std::move(committed)}));
  pending.pinned = pinned;
  pending.in_id_table = false;
  pending.decided = true;
  if (pending.reservation != 0) EndReservation(std::exchange(pending.reservation, 0));
}

// The id may have committed or not: nothing is known of it any more.
Verdict Engine::State::TooOld() const {
  if (canaries_.too_old_is_conflict) {
    Conflict conflict;
    conflict.snapshot = installed_;
    return {std::move(conflict)};
  }
  return {IdTooOld{ids_.floor()}};
}

// Its writer is closed and all that it committed is installed: what the table holds is the truth.
void Engine::State::AnswerFromOrder(const CommitId& id, CommitDone done) {
  IdTable::Found found = canaries_.forget_ids ? IdTable::Found() : ids_.Find(id.transaction_id);
  if (found.state == IdTable::State::kDecided) {
    ++stats_.resends_answered;
    answers_.push_back({std::move(done), std::move(found.verdict)});
  } else if (found.state == IdTable::State::kUndecided) {
    found.pending->waiters.push_back(std::move(done));
  } else if (id.seen < ids_.floor()) {
    ++stats_.ids_too_old;
    answers_.push_back({std::move(done), Make(TooOld())});
  } else {
    ++stats_.not_committed;
    answers_.push_back({std::move(done), Make({NotCommitted{}})});
  }
}

void Engine::State::GetOutcome(const CommitId& id, CommitDone done) {
  if (!ready_) {
    answers_.push_back({std::move(done), Make({NotReady(not_ready_because_, absl::Milliseconds(100))})});
  } else {
    AnswerKnown(id, done, /*poison=*/true);
  }
  FlushAnswers();
}

void Engine::State::Admit(std::unique_ptr<Pending> pending) {
  const Transaction& t = *pending->transaction;
  if (draining_) return Refuse(std::move(pending), {NotReady("draining", absl::Milliseconds(100))});
  if (store_ != nullptr && !KnowsAll(*pending)) return LoadFor(std::move(pending));
  if (t.reservation != 0 && reservations_.Holds(t.reservation)) pending->reservation = t.reservation;
  if (StandInLine(pending)) return;
  if (!appending_.empty() && pending->checks() && !canaries_.skip_read_check && !canaries_.skip_list_check) {
    // What is stale by what is installed is stale for certain: no need to wait for the batch under way.
    std::vector<ConflictCause> causes;
    bool certain = false;
    uint64_t depends = 0;
    CheckReads(t, /*installed_only=*/true, &causes, &certain, &depends);
    if (certain) return Conflicted(std::move(pending), std::move(causes));
  }
  pending->admitted = true;
  queue_.push_back(std::move(pending));
}

// ---- Batches

void Engine::State::CloseBatches() {
  while (!queue_.empty() && static_cast<int64_t>(appending_.size()) < options_.batches_in_flight_max) CloseBatch();
}

void Engine::State::CloseBatch() {
  Appending batch;
  batch.number = next_batch_++;
  batch.writer = writers_->self();
  batch.now = loop_->Now();
  batch.installed = installed_;
  // Callers who were just answered are about to come again: with them all in one batch nobody would have anything to do
  // while the disk syncs it. Half at most, so that one half is prepared while the other is made durable.
  const int64_t around = static_cast<int64_t>(queue_.size()) + last_batch_;
  // A turn on a shared entry takes all who wait for it.
  const int64_t half = turns_.empty() ? std::max(kHalvedFrom, around + 1) / 2 : options_.batch_transactions_max;
  const int64_t members_max = apart_ > 0 ? 1 : std::min(options_.batch_transactions_max, half);
  while (!queue_.empty() && static_cast<int64_t>(batch.members.size()) < members_max &&
         batch.bytes < options_.batch_bytes_max) {
    std::unique_ptr<Pending> pending = std::move(queue_.front());
    queue_.pop_front();
    Validate(std::move(pending), batch);
  }
  apart_ = std::max<int64_t>(apart_ - 1, 0);
  if (batch.members.empty()) {
    assert(batch.dependents.empty());
    return;
  }
  if (!turns_.empty()) UseTurns(batch);
  Instant at = std::max(last_at_, loop_->WallNow(), [](Instant a, Instant b) { return a < b; });
  Batch records;
  records.reserve(batch.members.size());
  for (Member& member : batch.members) {
    member.commit->at = at;
    records.push_back(member.commit);
  }
  if (canaries_.answer_before_append) {
    Version version = installed_;
    for (Member& member : batch.members) {
      auto verdict = Make({Committed{++version, at, member.results, false}});
      for (CommitDone& done : member.pending->waiters) answers_.push_back({std::move(done), verdict});
      member.pending->waiters.clear();
    }
  }
  ++stats_.batches;
  uint64_t number = batch.number;
  appending_.push_back(std::move(batch));
  coordinator_->Append(std::move(records), [this, number](AppendResult result) { Appended(number, std::move(result)); });
}

// Decides against installed state and the batches so far. What hangs on a batch that is not installed yet waits for it:
// told at once, a client would rerun on a value that never was.
void Engine::State::Validate(std::unique_ptr<Pending> pending, Appending& batch) {
  const Transaction& t = *pending->transaction;
  if (pending->decided) return pending->pinned ? Unpin(*pending) : void();
  if (t.id.has_value() && t.id->writer != batch.writer) {
    // Another daemon closed its writer and may have told its client so.
    ++stats_.not_committed;
    return Refuse(std::move(pending), {NotCommitted{}});
  }
  if (batch.now > t.deadline) return Refuse(std::move(pending), {TooLate()});
  // Its entries may have become another daemon's turn since it queued.
  if (!turns_.empty() && !draining_ && StandInLine(pending)) return;
  // What was known when it queued may have been dropped since.
  if (store_ != nullptr && !KnowsAll(*pending)) return LoadFor(std::move(pending));

  std::vector<ConflictCause> causes;
  bool certain = false;
  uint64_t depends = 0;
  CheckReads(t, /*installed_only=*/false, &causes, &certain, &depends);
  if (certain) return Conflicted(std::move(pending), std::move(causes));
  if (depends != 0) return WaitFor(depends, std::move(pending), &batch);
  if (!t.fences.empty() && CheckFences(pending, batch) == Step::kTaken) return;
  if (t.procedure != nullptr && RunProcedure(pending, batch) == Step::kTaken) return;

  if (pending->staging != nullptr && CheckStaged(pending, batch) == Step::kTaken) return;

  WriteSet::Result writes = EvaluateWrites(*pending, batch.now, &depends);
  if (std::holds_alternative<WriteSet::Heavy>(writes)) return Park(std::move(pending));
  if (std::holds_alternative<WriteSet::Outside>(writes)) return Claim(std::move(pending));
  if (auto* set = std::get_if<WriteSet>(&writes)) {
    if (t.procedure == nullptr && BindToSessions(pending, set, batch) == Step::kTaken) return;
    if (NoteStored(pending, set, batch) == Step::kTaken) return;
    return Accept(std::move(pending), std::move(*set), batch);
  }
  if (auto* rejected = std::get_if<Rejected>(&writes)) return RefuseBy(std::move(pending), {std::move(*rejected)}, depends, &batch);
  RefuseBy(std::move(pending), {std::get<absl::Status>(std::move(writes))}, depends, &batch);
}

// Batches are installed in order, so the newest that was seen decides. `closing`: the batch that is being closed; null: none is.
void Engine::State::WaitFor(uint64_t depends, std::unique_ptr<Pending> pending, Appending* closing) {
  if (closing != nullptr && depends == closing->number) return closing->dependents.push_back(std::move(pending));
  for (Appending& appending : appending_) {
    if (appending.number == depends) return appending.dependents.push_back(std::move(pending));
  }
  assert(false && "depends on a batch that is not under way");
}

// What entries hold refuses it: told once they hold it for certain.
void Engine::State::RefuseBy(std::unique_ptr<Pending> pending, Verdict verdict, uint64_t depends, Appending* closing) {
  if (depends != 0) return WaitFor(depends, std::move(pending), closing);
  if (store_ != nullptr && !pending->caught_up && !canaries_.refuse_behind) return CatchUp(std::move(pending));
  if (std::holds_alternative<Rejected>(verdict.outcome)) ++stats_.rejections;
  Refuse(std::move(pending), std::move(verdict));
}

// An entry as it is once the batches under way are installed.
WriteSet::Base Engine::State::BaseOf(std::string_view name, absl::Duration now, uint64_t* depends) const {
  WriteSet::Base base;
  Entry* entry = entries_.Find(name);
  if (entry == nullptr) return base;
  base.entry = entry;
  if (entry->tentative.batch != 0 && !canaries_.apply_to_installed) {
    *depends = std::max(*depends, entry->tentative.batch);
    base.value = entry->tentative.value;
    base.kind = entry->tentative.kind;
    base.definition = entry->tentative.definition;
  } else if (const Versioned* newest = entry->newest()) {
    base.value = newest->value;
    base.kind = newest->kind;
    base.definition = newest->definition;
    base.expiry_due = entry->expires <= now;
  }
  return base;
}

WriteSet::Bounds Engine::State::WriteBounds(int64_t heavy_bytes) const {
  WriteSet::Bounds bounds{options_.value_bytes_max, options_.transaction_bytes_max, heavy_bytes};
  bounds.skip_validators = canaries_.skip_validators;
  bounds.skip_kinds = canaries_.skip_kinds;
  return bounds;
}

WriteSet::Result Engine::State::EvaluateWrites(Pending& pending, absl::Duration now, uint64_t* depends) const {
  if (pending.prepared.has_value()) {
    // What was worked out off the Loop holds if the values that it began with are still there, the same objects.
    bool same = true;
    for (auto& [name, before] : pending.prepared->bases) {
      WriteSet::Base base = BaseOf(name, now, depends);
      same = same && base.kind == before.kind && base.definition == before.definition &&
             base.value.has_value() == before.value.has_value() &&
             (!base.value.has_value() || base.value->identical(*before.value));
      before.entry = base.entry;
    }
    if (same) {
      WriteSet::Result writes = std::move(pending.prepared->writes);
      if (auto* set = std::get_if<WriteSet>(&writes)) {
        for (WriteSet::Item& item : set->items()) {
          for (const auto& [name, before] : pending.prepared->bases) {
            if (item.name == name) item.before.entry = before.entry;
          }
        }
      }
      pending.prepared.reset();
      return writes;
    }
    pending.prepared.reset();
  }
  // Values that move faster than they can be worked on elsewhere are worked on here in the end.
  WriteSet::Bounds bounds = WriteBounds(pending.parked < kParkedMax ? options_.heavy_value_bytes : 0);
  bounds.atoms_together = pending.transaction->procedure != nullptr;
  const auto base = [&](std::string_view name) { return BaseOf(name, now, depends); };
  if (pending.staging == nullptr || !pending.staging->staged) {
    return WriteSet::Evaluate(pending.transaction->writes, bounds, base);
  }
  // What goes into containers is there, and was worked out with all the rest.
  const Staging& staging = *pending.staging;
  bounds = WriteBounds(0);
  bounds.atoms_together = true;
  bounds.kept = WriteSet::Bounds::Kept::kStaged;
  WriteSet::Result writes = WriteSet::Evaluate(staging.writes, bounds, base);
  if (auto* rejected = std::get_if<Rejected>(&writes)) rejected->write_index = staging.origins[rejected->write_index];
  if (auto* set = std::get_if<WriteSet>(&writes)) {
    std::vector<std::optional<Value>> results = staging.results;
    std::vector<std::optional<Value>>& inline_results = set->results();
    for (size_t i = 0; i < inline_results.size(); ++i) {
      if (!inline_results[i].has_value() || IsStored(*inline_results[i])) continue;
      results.resize(pending.transaction->writes.size());
      results[staging.origins[i]] = std::move(inline_results[i]);
    }
    inline_results = std::move(results);
  }
  return writes;
}

// Works the writes out off the Loop, outside any order, and queues the transaction again.
void Engine::State::Park(std::unique_ptr<Pending> pending) {
  ++parked_;
  ++pending->parked;
  Prepared prepared;
  uint64_t depends = 0;
  absl::Duration now = loop_->Now();
  for (const Write& write : pending->transaction->writes) {
    bool known = false;
    for (const auto& [name, base] : prepared.bases) known = known || name == write.name;
    if (!known) prepared.bases.emplace_back(write.name, BaseOf(write.name, now, &depends));
  }
  WriteSet::Bounds bounds = WriteBounds(0);
  executor_->Run(Work::kHeavy, [this, bounds, pending = std::move(pending), prepared = std::move(prepared)]() mutable {
    prepared.writes = WriteSet::Evaluate(pending->transaction->writes, bounds, [&](std::string_view name) {
      for (const auto& [known, base] : prepared.bases) {
        if (known == name) return base;
      }
      return WriteSet::Base();
    });
    pending->prepared = std::move(prepared);
    loop_->Post([this, pending = std::move(pending)]() mutable {
      --parked_;
      queue_.push_back(std::move(pending));
      CloseBatches();
      FlushAnswers();
      EndDrain();
    });
  });
}

// Of several daemons this one may be behind: what it would refuse may be right by what others have already answered. The
// transaction waits until all that was committed before now is installed, outside any order, and queues again.
void Engine::State::CatchUp(std::unique_ptr<Pending> pending) {
  ++parked_;
  auto caught_up = [this, pending = std::move(pending)](absl::Status status) mutable {
    --parked_;
    pending->caught_up = true;
    if (status.ok()) {
      queue_.push_back(std::move(pending));
      CloseBatches();
    } else {
      Refuse(std::move(pending), {std::move(status)});
    }
    FlushAnswers();
    EndDrain();
  };
  coordinator_->Barrier([this, caught_up = std::move(caught_up)](absl::StatusOr<Version> version) mutable {
    if (!version.ok()) return caught_up(version.status());
    WhenInstalled(*version, absl::InfiniteDuration(), std::move(caught_up));
  });
}

// What a transaction read and counts on is unchanged if its newest version is <= the snapshot. *certain: it is not, by
// what is installed, and `causes` say why. *depends: the newest batch under way that changes something of it; 0: none does.
void Engine::State::CheckReads(const Transaction& t, bool installed_only, std::vector<ConflictCause>* causes,
                               bool* certain, uint64_t* depends) {
  // Not a cause: it may never come to be.
  auto hangs_on = [&](const std::string& name, uint64_t batch) {
    *depends = std::max(*depends, batch);
    if (canaries_.conflict_before_install) {
      *certain = true;
      causes->push_back({name, 0, nullptr});
    }
  };
  auto check_entry = [&](const std::string& name) {
    if (canaries_.skip_read_check) return;
    const Entry* entry = entries_.Find(name);
    if (entry == nullptr || (entry->history.empty() && entry->tentative.batch == 0)) {
      // Its tombstone may have been swept; or a restart took it, which leaves none.
      if (t.snapshot < ids_.floor() || t.snapshot < entries_.listing_floor() || MemoryLost(name, t.snapshot)) {
        *certain = true;
        causes->push_back({name, 0, nullptr});
      }
    } else if (entry->version() > t.snapshot) {
      *certain = true;
      causes->push_back({name, entry->version(), entry->newest()->by});
    } else if (!installed_only && entry->tentative.batch != 0) {
      hangs_on(name, entry->tentative.batch);
    }
  };
  if (t.isolation == Isolation::kSerializable) {
    const auto written = [&t](const std::string& name) {
      return std::any_of(t.writes.begin(), t.writes.end(), [&name](const Write& write) { return write.name == name; });
    };
    for (const std::string& name : t.reads) {
      if (canaries_.skip_write_skew_check && !written(name)) continue;
      check_entry(name);
    }
    for (const std::string& prefix : t.lists) {
      if (canaries_.skip_list_check) break;
      const Directory* directory = entries_.FindDirectory(prefix);
      Version listing = entries_.Listing(prefix);
      if (listing > t.snapshot || (directory == nullptr && t.snapshot < ids_.floor()) || MemoryLost(prefix, t.snapshot)) {
        *certain = true;
        // A floor is not a commit that changed this listing: 0 says that it may have changed.
        causes->push_back({prefix, listing > entries_.listing_floor() ? listing : 0, nullptr});
      } else if (!installed_only && directory != nullptr && directory->tentative_batch != 0) {
        hangs_on(prefix, directory->tentative_batch);
      }
    }
  } else {
    for (const Write& write : t.writes) {
      if (t.snapshot == 0) break;  // it chose no moment to be checked against
      bool counts = write.change == Write::Change::kSet || write.change == Write::Change::kDelete;
      if (counts) check_entry(write.name);
    }
  }
  if (canaries_.check_operations && t.snapshot > 0) {
    for (const Write& write : t.writes) {
      if (write.change == Write::Change::kApply) check_entry(write.name);
    }
  }
  if (canaries_.ignore_ensures) return;
  for (const std::string& name : t.ensures) check_entry(name);
}

// Could another life of this daemon have held the memory entry, or listed it, at this snapshot? Then it changed with the
// start. Nothing but a version can tell who began before the start from who began after: one is made, or who reads
// memory entries on an idle daemon would begin again for ever.
bool Engine::State::MemoryLost(std::string_view name, Version snapshot) {
  if (recovered_ == 0 || snapshot > recovered_ || !IsMemory(name) || canaries_.keep_lost_memory) return false;
  if (installed_ == recovered_) QueueEmptyCommit();
  return true;
}

void Engine::State::Accept(std::unique_ptr<Pending> pending, WriteSet writes, Appending& batch) {
  const Transaction& t = *pending->transaction;
  Member member;
  member.commit = std::make_shared<InstalledCommit>();
  if (t.id.has_value()) member.commit->transaction_id = t.id->transaction_id;
  member.commit->meta = t.meta;
  if (!canaries_.lose_records) member.commit->records = t.records;
  member.commit->changes.reserve(writes.items().size());
  batch.bytes += writes.bytes() + kCommitOverheadBytes;
  for (const Value& record : t.records) batch.bytes += static_cast<int64_t>(record.edn_size());
  if (store_ != nullptr) {
    FillChecks(*pending, writes, member.commit.get());
    Pin(*pending);
  }

  for (WriteSet::Item& item : writes.items()) {
    if (!item.changes()) continue;
    EntryChange change;
    change.name = std::string(item.name);
    change.entry_kind = item.kind;
    bool was = item.before.value.has_value();
    bool is = item.value.has_value();
    if (!is) {
      change.kind = item.expired ? EntryChange::Kind::kExpire : EntryChange::Kind::kDelete;
    } else if (item.created) {
      change.kind = EntryChange::Kind::kCreate;
      change.definition = item.definition;
    } else if (item.value_written) {
      change.kind = EntryChange::Kind::kSet;
      change.operation = item.operation;
      if (item.defined) change.definition = item.definition;
    } else {
      change.kind = EntryChange::Kind::kDefine;
      change.definition = item.definition;
    }
    if (is && item.value_written) change.value = item.value;

    Entry* entry = item.before.entry != nullptr ? item.before.entry : &entries_.FindOrAdd(item.name);
    change.entry = entry;
    if (entry->tentative.batch != batch.number) batch.touched.push_back(entry);
    entry->tentative.batch = batch.number;
    if (entry->cached != nullptr) {
      change.whole = std::make_shared<ImageEntry>(ImageEntry{entry->name, item.kind, item.definition, item.value});
      change.before = item.before.value;
    }
    entry->tentative.value = std::move(item.value);
    entry->tentative.kind = item.kind;
    entry->tentative.definition = std::move(item.definition);
    if (was != is) {
      for (std::string_view prefix : DirectoriesOf(entry->name)) {
        Directory* directory = entries_.FindDirectory(prefix);
        if (directory->tentative_batch != batch.number) batch.touched_directories.push_back(directory);
        directory->tentative_batch = batch.number;
      }
    }
    (IsMemory(item.name) ? member.memory_changes : member.commit->changes).push_back(std::move(change));
  }
  member.results = std::move(writes.results());
  if (t.procedure != nullptr) member.results.assign(1, std::move(pending->outcome));
  member.pending = std::move(pending);
  batch.members.push_back(std::move(member));
}

// What the commit rests on beyond its changes: what was read or ensured, and what was written with no effect, for that it
// had none rests on the entry as it is.
void Engine::State::FillChecks(const Pending& pending, const WriteSet& writes, CommitRecord* commit) const {
  const Transaction& t = *pending.transaction;
  std::vector<std::string>& checks = commit->checks;
  if (t.isolation == Isolation::kSerializable) {
    checks = t.reads;
    for (const std::string& prefix : t.lists) {
      if (!IsMemory(prefix)) commit->checked_lists.push_back(prefix);
    }
  }
  checks.insert(checks.end(), t.ensures.begin(), t.ensures.end());
  checks.insert(checks.end(), pending.looks.begin(), pending.looks.end());
  std::vector<std::string_view> changed;
  for (const WriteSet::Item& item : writes.items()) {
    if (item.changes()) {
      changed.push_back(item.name);
    } else {
      checks.emplace_back(item.name);
    }
  }
  std::sort(changed.begin(), changed.end());
  const auto covered = [&changed](const std::string& name) {
    return IsMemory(name) || std::binary_search(changed.begin(), changed.end(), name);
  };
  checks.erase(std::remove_if(checks.begin(), checks.end(), covered), checks.end());
  for (std::vector<std::string>* list : {&checks, &commit->checked_lists}) {
    std::sort(list->begin(), list->end());
    list->erase(std::unique(list->begin(), list->end()), list->end());
  }
}

// ---- The coordinator has decided

void Engine::State::Appended(uint64_t number, AppendResult result) {
  if (appending_.empty() || appending_.front().number != number) return;  // abandoned with a batch before it
  if (result.outcome == AppendResult::Outcome::kCommitted) {
    Appending batch = std::move(appending_.front());
    appending_.pop_front();
    InstallBatch(std::move(batch));
  } else {
    // Nothing of this batch or of those behind it is committed. Lost: each transaction is validated again, so that only
    // those whose own reads moved conflict. No space, or failed: this batch's are refused, those behind it get their own
    // answer.
    std::deque<Appending> batches = std::move(appending_);
    appending_.clear();
    if (store_ != nullptr) CountLosses(batches);
    Abandon(batches);
    const bool lost = result.outcome == AppendResult::Outcome::kLost;
    const bool no_space = result.outcome == AppendResult::Outcome::kNoSpace;
    ++(lost ? stats_.batches_lost : no_space ? stats_.no_space : stats_.batches_failed);
    // What was too large together may go apart: only one that is too large alone is told so.
    const bool apart = result.outcome == AppendResult::Outcome::kFailed && absl::IsResourceExhausted(result.status) &&
                       batches.front().members.size() > 1;
    if (apart) apart_ = static_cast<int64_t>(batches.front().members.size());
    std::vector<std::unique_ptr<Pending>> again;
    for (size_t i = 0; i < batches.size(); ++i) {
      const bool closed = batches[i].writer != writers_->self();
      for (Member& member : batches[i].members) {
        if (!lost && !apart && i == 0) {
          Refuse(std::move(member.pending), {result.status});
        } else if (lost && closed && !member.pending->transaction->id.has_value()) {
          // The sink may hold it, and nothing tells it from another's.
          Refuse(std::move(member.pending),
                 {absl::UnknownError("another daemon closed this one's writer while the transaction was being appended, and "
                                     "it had no id: it may be committed; look before it is sent again")});
        } else {
          again.push_back(std::move(member.pending));
        }
      }
      for (auto& dependent : batches[i].dependents) again.push_back(std::move(dependent));
    }
    Requeue(std::move(again));
  }
  // The next append goes before the answers: the disk is what everybody waits for.
  CloseBatches();
  FlushAnswers();
  EndDrain();
}

// Called where the last that is under way may have ended: decided, or come back from off the Loop to be refused.
void Engine::State::EndDrain() {
  if (!drained_ || !queue_.empty() || !appending_.empty() || parked_ > 0) return;
  loop_->Post(std::exchange(drained_, nullptr));
}

// Forgets what entries would have become, and entries that would have been.
void Engine::State::Abandon(std::deque<Appending>& batches) {
  std::set<Entry*> never;
  for (Appending& batch : batches) {
    for (Directory* directory : batch.touched_directories) directory->tentative_batch = 0;
    for (Entry* entry : batch.touched) {
      entry->tentative = Tentative();
      // Beside a store it stays known to be absent.
      if (entry->history.empty() && entry->cached == nullptr) never.insert(entry);
    }
  }
  for (Entry* entry : never) entries_.Remove(entry);
}

void Engine::State::Requeue(std::vector<std::unique_ptr<Pending>> pendings) {
  for (auto it = pendings.rbegin(); it != pendings.rend(); ++it) queue_.push_front(std::move(*it));
}

void Engine::State::InstallBatch(Appending batch) {
  last_batch_ = static_cast<int64_t>(batch.members.size());
  for (Entry* entry : batch.touched) {
    if (entry->tentative.batch == batch.number) entry->tentative = Tentative();
  }
  for (Directory* directory : batch.touched_directories) {
    if (directory->tentative_batch == batch.number) directory->tentative_batch = 0;
  }
  int64_t changes = 0;
  for (Member& member : batch.members) {
    changes += static_cast<int64_t>(member.commit->changes.size());
    for (EntryChange& change : member.memory_changes) member.commit->changes.push_back(std::move(change));
    InstallCommit(member.commit, /*by_other=*/false);
    ++stats_.commits;
    Committed committed;
    committed.version = member.commit->version;
    committed.at = member.commit->at;
    committed.results = std::move(member.results);
    Decided(*member.pending, Make({std::move(committed)}));
    if (member.pending->reservation != 0) EndReservation(member.pending->reservation);
  }
  Requeue(std::move(batch.dependents));
  if (!turns_.empty()) EndTurns(batch);
  ToldInstalled();
  TrimHistory();
  TrimIds();
  if (store_ != nullptr) EvictEntries(changes);
}

// An entry becomes known by another daemon's commit, whose change `commit->before` has last.
void Engine::State::KnownByInstall(const EntryChange& change, const Versioned& versioned, InstalledCommit* commit) {
  std::optional<Value>& before = commit->before.back();
  // What is not known is older than the history: if it was absent, it was at all snapshots.
  const bool was_absent = change.before.has_value() && !change.before->has_value();
  change.entry->cached->known_from = was_absent ? history_mark_ : commit->version;
  if (change.kind == EntryChange::Kind::kDefine) {
    before = versioned.value;
  } else if (change.before.has_value()) {
    before = *change.before;
  } else {
    commit->before_unknown.push_back(static_cast<uint32_t>(commit->before.size() - 1));
  }
}

void Engine::State::InstallCommit(std::shared_ptr<InstalledCommit> commit, bool by_other) {
  assert(commit->version > installed_);
  installed_ = commit->version;
  last_at_ = commit->at;
  int64_t bytes = kCommitOverheadBytes;
  absl::Duration now = loop_->Now();
  bool sleepers = !sleepers_.empty() && !canaries_.lose_wakes;
  std::vector<Sleeper> woken;
  std::vector<std::string> wake_next;
  const auto look = [this](std::string_view name) { return SightOf(name); };
  commit->before.reserve(commit->changes.size());
  if (store_ != nullptr) {
    // History must not keep what the coordinator alone needed.
    commit->checks = {};
    commit->checked_lists = {};
  }
  for (EntryChange& change : commit->changes) {
    const bool known = store_ == nullptr || change.entry != nullptr || IsMemory(change.name);
    if (change.entry == nullptr) change.entry = &entries_.FindOrAdd(change.name);
    Entry& entry = *change.entry;
    const Versioned* newest = entry.newest();
    // Of an entry that was not known the change tells; its kind alone does not, for one may be deleted and created at once.
    const bool was = known                       ? entry.live()
                     : change.before.has_value() ? change.before->has_value()
                                                 : change.kind != EntryChange::Kind::kCreate;
    Versioned versioned;
    versioned.version = commit->version;
    versioned.at = commit->at;
    versioned.kind = change.entry_kind;
    versioned.by = commit->meta;
    versioned.value = change.kind == EntryChange::Kind::kDefine && newest != nullptr ? newest->value : change.value;
    if (change.whole != nullptr) {
      versioned.value = change.whole->value;
      versioned.definition = change.whole->definition;
    } else if (change.definition != nullptr || change.kind == EntryChange::Kind::kCreate || !versioned.value.has_value()) {
      versioned.definition = change.definition;
    } else if (newest != nullptr) {
      versioned.definition = newest->definition;
    }
    commit->before.push_back(newest == nullptr ? std::nullopt : newest->value);
    if (entry.cached != nullptr) entry.cached->by_other = by_other;
    if (store_ != nullptr) {
      if (!known) KnownByInstall(change, versioned, commit.get());
      change.whole = nullptr;
      change.before.reset();
    }
    bytes += kChangeOverheadBytes;
    if (commit->before.back().has_value()) bytes += static_cast<int64_t>(commit->before.back()->edn_size());
    if (change.kind == EntryChange::Kind::kExpire) {
      ++stats_.expired;
      if (canaries_.expired_as_deleted) change.kind = EntryChange::Kind::kDelete;
    }
    bool is = versioned.value.has_value();
    // One that a store holds is dropped as its other entries are.
    if (!is && entry.cached == nullptr) tombstones_.push_back({commit->version, change.name});
    entries_.Install(&entry, std::move(versioned), was);
    SetExpiry(&entry, now);
    if (!hot_.empty()) CountCommit(change.name);
    if (sleepers) {
      if (sleepers_.Change(change.name, look, &woken)) wake_next.push_back(change.name);
      if (was != is) {
        for (std::string_view prefix : DirectoriesOf(change.name)) {
          if (sleepers_.Change(prefix, look, &woken)) wake_next.emplace_back(prefix);
        }
      }
    }
  }
  history_bytes_ += bytes;
  std::shared_ptr<const InstalledCommit> installed = std::move(commit);
  stats_.watch_events += watches_.Publish(installed, &stats_.watches_cut);
  history_.push_back({std::move(installed), now, bytes});
  Wake(std::move(woken));
  for (const std::string& name : wake_next) WakeNextLater(name);
}

// ---- Verdicts

// The run was stale. From its third run on, and when it waited its turn, its next run is waited for.
void Engine::State::Conflicted(std::unique_ptr<Pending> pending, std::vector<ConflictCause> causes) {
  const Transaction& t = *pending->transaction;
  // Told now, one who waits for another's reservation would only rerun in vain: it is told when its turn comes.
  if (pending->reservation == 0 && StandInLine(pending)) return;
  ++stats_.conflicts;
  Conflict conflict;
  for (const ConflictCause& cause : causes) CountConflict(cause.name);
  conflict.causes = std::move(causes);
  conflict.snapshot = installed_;
  conflict.fresh = Fresh(t.reads);
  if (pending->reservation != 0 || pending->waited_in_line || t.runs >= options_.reservation_from_run) {
    conflict.reserved_for = HoldFor(*pending);
    if (pending->reservation == 0) ++stats_.reservations;
    uint64_t number = next_reservation_++;
    conflict.reservation = reservations_.Reserve(*pending, number, loop_->Now() + conflict.reserved_for);
    reservations_alarm_.Set(reservations_.NextExpiry());
    if (store_ != nullptr) AskTurnOn(conflict.causes, conflict.reserved_for);
  }
  Decided(*pending, Make({std::move(conflict)}));
}

void Engine::State::Refuse(std::unique_ptr<Pending> pending, Verdict verdict) {
  Decided(*pending, Make(std::move(verdict)));
  if (pending->reservation != 0) EndReservation(pending->reservation);
}

void Engine::State::Decided(Pending& pending, std::shared_ptr<const Verdict> verdict) {
  const Transaction& t = *pending.transaction;
  if (pending.pinned) Unpin(pending);
  if (pending.in_id_table) {
    ids_.Decide(t.id->transaction_id, *verdict, installed_);
  }
  if (pending.staging != nullptr) {
    const auto* status = std::get_if<absl::Status>(&verdict->outcome);
    EndStaging(pending, std::holds_alternative<Committed>(verdict->outcome) || (status != nullptr && absl::IsUnknown(*status)));
  }
  // A conflict is run again at once: that is not back yet.
  if (!sleepers_.empty() && !std::holds_alternative<Conflict>(verdict->outcome)) {
    CameBack(t.reads, Sleepers::Back::kCommitted);
  }
  for (CommitDone& done : pending.waiters) answers_.push_back({std::move(done), verdict});
  pending.waiters.clear();
}

// Hands all answers that are due to one task off the Loop.
void Engine::State::FlushAnswers() {
  if (answers_.empty()) return;
  // Versions that recovery has read may not be durable yet.
  executor_->Run(Work::kAnswer, [answers = std::move(answers_), installed = ready_ ? installed_ : 0]() mutable {
    for (Answer& answer : answers) answer.done(std::move(answer.verdict), installed);
  });
  answers_.clear();
}

// ---- Heat: which entries are fought over, for GetStatus

void Engine::State::CountConflict(const std::string& name) {
  absl::Duration now = loop_->Now();
  if (now - hot_since_ > absl::Minutes(1)) {
    hot_before_ = std::move(hot_);
    hot_.clear();
    hot_since_ = now;
  }
  if (hot_.size() < kHotNamesMax || hot_.count(name) != 0) ++hot_[name].conflicts;
}

void Engine::State::CountCommit(const std::string& name) {
  auto it = hot_.find(name);
  if (it != hot_.end()) ++it->second.commits;
}

}  // namespace stm::engine
