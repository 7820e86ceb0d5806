// Values that containers keep. A transaction that writes such entries is taken out of the queue (Claim) until
// its values are in their containers, each under a stamp that is used once; then it is validated like any
// other, and its commit has the stamps. In order: it claims its entries, so that one transaction at a time
// works on each (GrantClaims); what its writes are worked out from is asked for (Gather); they are worked out
// (WorkOut); the stamps are made durable, so that a crash leaves nothing behind that nobody knows (Stage);
// the values are written (StageValues); it queues again, and counts if the entries are as they were
// (CheckStaged). Whatever a commit puts in the place of a stamp is noted beside, to be erased (NoteStored).
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

using Change = Write::Change;

// Notes of dropped stamps that could not be committed.
constexpr absl::Duration kNoteAgainAfter = absl::Milliseconds(200);
using Holder = std::shared_ptr<std::unique_ptr<Pending>>;

const std::string& ContainerIn(const std::shared_ptr<const Definition>& definition) {
  static const std::string none;
  return definition == nullptr ? none : definition->container;
}

template <typename T>
void SortOnce(std::vector<T>* values) {
  std::sort(values->begin(), values->end());
  values->erase(std::unique(values->begin(), values->end()), values->end());
}

bool Contains(const std::vector<std::string>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name, std::less<>());
}

// Is what the entry has before the writes looked at by them, beyond whether it is there?
bool AsksForValue(const std::vector<Write>& writes, const std::string& name) {
  for (const Write& write : writes) {
    if (write.name != name) continue;
    switch (write.change) {
      case Change::kSet:
      case Change::kDelete:
      case Change::kExpire:
        return false;
      case Change::kApply:
      case Change::kCreate:
        return true;
      case Change::kDefine:
        if (write.definition != nullptr && write.definition->validator != nullptr) return true;
        break;
    }
  }
  return false;
}

absl::Status NotStaged(const Verdict& verdict) {
  if (const auto* status = std::get_if<absl::Status>(&verdict.outcome)) return *status;
  return absl::UnavailableError(
      "the stamps of its values could not be made durable: not committed; send it again");
}

}  // namespace

// ---- Claims

void Engine::State::Claim(std::unique_ptr<Pending> pending) {
  const Transaction& t = *pending->transaction;
  if (pending->staging == nullptr) {
    auto staging = std::make_unique<Staging>();
    for (const Write& write : t.writes) {
      std::string container = ContainerIn(write.definition);
      uint64_t depends = 0;
      const WriteSet::Base base = BaseOf(write.name, loop_->Now(), &depends);
      if (base.value.has_value() && !ContainerIn(base.definition).empty())
        container = ContainerIn(base.definition);
      if (container.empty()) continue;
      absl::Status known =
          containers_ == nullptr ? NoContainers(container) : containers_->Check(container, write.kind);
      if (known.ok() && staging_in_[container] >= options_.container_transactions_max) {
        known =
            LimitReached("container_transactions_max", options_.container_transactions_max,
                         absl::StrCat("container ", container), staging_in_[container],
                         "transactions wait for it already: look whether it answers, or send less at once");
      }
      if (!known.ok()) return Refuse(std::move(pending), {std::move(known)});
      staging->claims.push_back(write.name);
      staging->containers.push_back(std::move(container));
    }
    SortOnce(&staging->claims);
    SortOnce(&staging->containers);
    for (const std::string& container : staging->containers) ++staging_in_[container];
    ++staging_;
    pending->staging = std::move(staging);
    pending->staging->waits_until = CallUntil(t);
  }
  ++parked_;
  Staging& staging = *pending->staging;
  if (staging.claimed) {
    auto holder = std::make_shared<std::unique_ptr<Pending>>(std::move(pending));
    return loop_->Post([this, holder] { Gather(std::move(*holder)); });
  }
  claims_alarm_.Set(staging.waits_until);
  claiming_.push_back(std::move(pending));
  if (!std::exchange(grant_posted_, true)) loop_->Post([this] { GrantClaims(); });
}

// All of a transaction's entries at once, in order of arrival: who came later passes only those that it
// shares no entry with.
void Engine::State::GrantClaims() {
  grant_posted_ = false;
  absl::flat_hash_set<std::string> wanted;
  std::vector<std::unique_ptr<Pending>> granted;
  for (auto it = claiming_.begin(); it != claiming_.end();) {
    Staging& staging = *(*it)->staging;
    const bool free = std::none_of(
        staging.claims.begin(), staging.claims.end(),
        [&](const std::string& name) { return claimed_.contains(name) || wanted.contains(name); });
    if (!free) {
      wanted.insert(staging.claims.begin(), staging.claims.end());
      ++it;
      continue;
    }
    claimed_.insert(staging.claims.begin(), staging.claims.end());
    staging.claimed = true;
    granted.push_back(std::move(*it));
    it = claiming_.erase(it);
  }
  for (std::unique_ptr<Pending>& pending : granted) Gather(std::move(pending));
}

void Engine::State::ClaimedTooLate() {
  const absl::Duration now = loop_->Now();
  absl::Duration next = absl::InfiniteDuration();
  for (auto it = claiming_.begin(); it != claiming_.end();) {
    Staging& staging = *(*it)->staging;
    if (staging.waits_until > now) {
      next = std::min(next, staging.waits_until);
      ++it;
      continue;
    }
    std::unique_ptr<Pending> pending = std::move(*it);
    it = claiming_.erase(it);
    absl::Status late = OfContainer(
        absl::UnavailableError(
            "transactions before this one that write the entry still wait for the container: not committed"),
        staging.containers.front(), staging.claims.front());
    RefuseStaging(std::move(pending), std::move(late));
  }
  claims_alarm_.Set(next);
}

// Until when a container may take for what this transaction asks of it from now on.
absl::Duration Engine::State::CallUntil(const Transaction& transaction) const {
  return std::min(transaction.deadline, loop_->Now() + options_.container_timeout);
}

// ---- What the writes are worked out from

void Engine::State::Gather(std::unique_ptr<Pending> pending) {
  const Transaction& t = *pending->transaction;
  Staging& staging = *pending->staging;
  // What was known may have been dropped while it waited for its claims.
  const bool known = store_ == nullptr || KnowsAll(*pending);
  std::vector<ConflictCause> causes;
  bool certain = false;
  uint64_t depends = 0;
  if (known) CheckReads(t, /*installed_only=*/true, &causes, &certain, &depends);
  depends = 0;
  for (const std::string& name : staging.claims) {
    const Entry* entry = entries_.Find(name);
    if (entry != nullptr) depends = std::max(depends, entry->tentative.batch);
  }
  if (!known || certain || depends != 0) {
    --parked_;
    if (!known) {
      LoadFor(std::move(pending));
    } else if (certain) {
      Conflicted(std::move(pending), std::move(causes));
    } else {
      WaitFor(depends, std::move(pending), nullptr);
    }
    CloseBatches();
    FlushAnswers();
    return EndDrain();
  }

  staging.bases.clear();
  staging.status = absl::OkStatus();
  for (const std::string& name : staging.claims) {
    Staging::Base base;
    base.name = name;
    base.before = BaseOf(name, loop_->Now(), &depends);
    if (base.before.entry != nullptr) base.version = base.before.entry->version();
    base.before.entry = nullptr;
    staging.bases.push_back(std::move(base));
  }
  const absl::Duration until = CallUntil(t);
  auto holder = std::make_shared<std::unique_ptr<Pending>>(std::move(pending));
  staging.calls = 1;
  for (size_t i = 0; i < staging.bases.size(); ++i) {
    Staging::Base& base = staging.bases[i];
    if (!AsksForValue(t.writes, base.name)) continue;
    const auto got = [this, holder, i](absl::StatusOr<std::optional<Value>> value) {
      Staging& staging = *(*holder)->staging;
      Staging::Base& base = staging.bases[i];
      if (!value.ok()) {
        staging.status.Update(value.status());
      } else if (!base.before.value.has_value()) {
        base.found = *std::move(value);
      } else if (value->has_value()) {
        base.before.value = *std::move(value);
      } else {
        staging.status.Update(NoSuchStamp(base.name, *StoredOf(*base.before.value), installed_));
      }
      Gathered(holder);
    };
    if (base.before.value.has_value()) {
      std::optional<Stored> stored = StoredOf(*base.before.value);
      if (!stored.has_value()) continue;
      ++staging.calls;
      values_.Load(*stored, base.name, until, got);
    } else {
      // An atom that is made without a value begins with what its container has.
      const auto create = std::find_if(t.writes.begin(), t.writes.end(), [&](const Write& write) {
        return write.name == base.name && write.change == Change::kCreate && write.kind == EntryKind::kAtom &&
               write.value.is_nil();
      });
      if (create == t.writes.end() || ContainerIn(create->definition).empty()) continue;
      ++staging.calls;
      const std::string container = ContainerIn(create->definition);
      containers_->GetState(container, base.name, until,
                            [got, container, name = base.name](absl::StatusOr<std::optional<Value>> value) {
                              if (!value.ok()) value = OfContainer(value.status(), container, name);
                              got(std::move(value));
                            });
    }
  }
  Gathered(holder);
}

void Engine::State::Gathered(Holder holder) {
  Staging& staging = *(*holder)->staging;
  if (--staging.calls > 0) return;
  std::unique_ptr<Pending> pending = std::move(*holder);
  if (staging.status.ok()) return WorkOut(std::move(pending), options_.heavy_value_bytes);
  if (!absl::IsDataLoss(staging.status)) return RefuseStaging(std::move(pending), staging.status);
  // Another daemon may have written it anew, and what was there is erased.
  --parked_;
  RefuseBy(std::move(pending), {staging.status}, 0, nullptr);
  CloseBatches();
  FlushAnswers();
  EndDrain();
}

// ---- What they come to

void Engine::State::WorkOut(std::unique_ptr<Pending> pending, int64_t heavy_bytes) {
  Transaction& t = *pending->transaction;
  const Staging& staging = *pending->staging;
  WriteSet::Bounds bounds = WriteBounds(heavy_bytes);
  bounds.kept = WriteSet::Bounds::Kept::kAtHand;
  uint64_t depends = 0;
  const absl::Duration now = loop_->Now();
  std::vector<std::pair<std::string_view, WriteSet::Base>> bases;
  for (Write& write : t.writes) {
    const std::string_view name = write.name;
    if (std::any_of(bases.begin(), bases.end(), [&](const auto& base) { return base.first == name; }))
      continue;
    const auto claimed = std::find_if(staging.bases.begin(), staging.bases.end(),
                                      [name](const Staging::Base& base) { return base.name == name; });
    if (claimed == staging.bases.end()) {
      bases.emplace_back(name, BaseOf(name, now, &depends));
      continue;
    }
    bases.emplace_back(name, claimed->before);
    if (claimed->found.has_value() && write.change == Change::kCreate) write.value = *claimed->found;
  }
  const auto base_of = [](const auto& bases) {
    return [&bases](std::string_view name) {
      for (const auto& [known, base] : bases) {
        if (known == name) return base;
      }
      return WriteSet::Base();
    };
  };
  WriteSet::Result writes = WriteSet::Evaluate(t.writes, bounds, base_of(bases));
  if (!std::holds_alternative<WriteSet::Heavy>(writes))
    return WorkedOut(std::move(pending), std::move(writes), depends);
  bounds.heavy_bytes = 0;
  executor_->Run(Work::kHeavy, [this, bounds, depends, base_of, pending = std::move(pending),
                                bases = std::move(bases)]() mutable {
    WriteSet::Result writes = WriteSet::Evaluate(pending->transaction->writes, bounds, base_of(bases));
    loop_->Post([this, depends, pending = std::move(pending), writes = std::move(writes)]() mutable {
      // A batch under way may have been decided meanwhile: a refusal by it is looked at again.
      const bool there = std::any_of(appending_.begin(), appending_.end(),
                                     [depends](const Appending& batch) { return batch.number == depends; });
      if (depends != 0 && !there && !std::holds_alternative<WriteSet>(writes)) {
        return QueueStaged(std::move(pending));
      }
      WorkedOut(std::move(pending), std::move(writes), depends);
    });
  });
}

void Engine::State::WorkedOut(std::unique_ptr<Pending> pending, WriteSet::Result writes, uint64_t depends) {
  if (auto* set = std::get_if<WriteSet>(&writes)) {
    PrepareStaged(*pending, set);
    return Stage(std::move(pending));
  }
  --parked_;
  if (auto* rejected = std::get_if<Rejected>(&writes)) {
    RefuseBy(std::move(pending), {std::move(*rejected)}, depends, nullptr);
  } else {
    RefuseBy(std::move(pending), {std::get<absl::Status>(std::move(writes))}, depends, nullptr);
  }
  CloseBatches();
  FlushAnswers();
  EndDrain();
}

// The writes as they are to be committed: of the claimed entries what they come to, with stamps for values;
// others as they are.
void Engine::State::PrepareStaged(Pending& pending, WriteSet* set) {
  const Transaction& t = *pending.transaction;
  Staging& staging = *pending.staging;
  staging.writes.clear();
  staging.origins.clear();
  std::vector<Staging::Write> before = std::move(staging.values);
  staging.values.clear();
  staging.results = std::move(set->results());
  std::vector<std::string_view> done;
  for (size_t i = 0; i < t.writes.size(); ++i) {
    const Write& write = t.writes[i];
    const auto add = [&](Change change, EntryKind kind, Value value,
                         std::shared_ptr<const Definition> definition) {
      Write made;
      made.name = write.name;
      made.kind = kind;
      made.change = change;
      made.value = std::move(value);
      made.definition = std::move(definition);
      staging.writes.push_back(std::move(made));
      staging.origins.push_back(static_cast<uint32_t>(i));
    };
    if (!Contains(staging.claims, write.name)) {
      staging.writes.push_back(write);
      staging.origins.push_back(static_cast<uint32_t>(i));
      continue;
    }
    if (std::find(done.begin(), done.end(), write.name) != done.end()) continue;
    done.push_back(write.name);
    const auto item = std::find_if(set->items().begin(), set->items().end(),
                                   [&](const WriteSet::Item& one) { return one.name == write.name; });
    assert(item != set->items().end());
    const bool was = item->before.value.has_value();
    if (!item->changes()) {
      // It rests on the entry as it is.
      add(was ? Change::kCreate : Change::kDelete, item->kind, Value(), nullptr);
      continue;
    }
    if (!item->value.has_value()) {
      add(Change::kDelete, item->before.kind, Value(), nullptr);
      continue;
    }
    if (item->created && was) add(Change::kDelete, item->before.kind, Value(), nullptr);
    if (item->value_written) {
      Value value = *item->value;
      const std::string& container = ContainerIn(item->definition);
      if (!container.empty() && item->kind == EntryKind::kRef) {
        Staging::Write staged;
        staged.name = write.name;
        staged.created = item->created;
        staged.stored.container = container;
        staged.stored.stamp = MakeStamp(writers_->store(), writers_->self(), next_stamp_++);
        if (canaries_.reuse_stamp) {
          for (const Staging::Write& old : before) {
            if (old.name == write.name) staged.stored.stamp = old.stored.stamp;
          }
        }
        staged.stored.hash = static_cast<int64_t>(value.hash());
        staged.stored.bytes = static_cast<int64_t>(value.edn_size());
        staged.value = std::move(value);
        value = ToValue(staged.stored);
        staging.values.push_back(std::move(staged));
      }
      add(Change::kSet, item->kind, std::move(value), item->definition);
    }
    if (item->defined) add(Change::kDefine, item->kind, Value(), item->definition);
  }
}

// ---- Into the containers

// Makes the stamps durable: whatever happens from here on, the values are found and erased unless a commit
// names them.
void Engine::State::Stage(std::unique_ptr<Pending> pending) {
  Staging& staging = *pending->staging;
  if (staging.values.empty()) {
    staging.staged = true;
    return QueueStaged(std::move(pending));
  }
  auto intents = std::make_unique<Transaction>();
  intents->deadline = pending->transaction->deadline;
  for (const Staging::Write& staged : staging.values) {
    staging_stamps_.insert(staged.stored.stamp);
    intents->writes.push_back(MakeWrite(Change::kCreate, StagedEntry(staged.stored.stamp),
                                        ToValue(StampNote{staged.stored.container, staged.name,
                                                          staged.stored.bytes, writers_->self(), false})));
  }
  auto holder = std::make_shared<std::unique_ptr<Pending>>(std::move(pending));
  QueueOwn(std::move(intents), [this, holder](std::shared_ptr<const Verdict> verdict, Version) {
    loop_->Post([this, holder, verdict = std::move(verdict)] {
      if (std::holds_alternative<Committed>(verdict->outcome)) return StageValues(holder);
      RefuseStaging(std::move(*holder), NotStaged(*verdict));
    });
  });
  CloseBatches();
  FlushAnswers();
}

void Engine::State::StageValues(Holder holder) {
  Staging& staging = *(*holder)->staging;
  // If the answer took so long that others saw this daemon gone, they have given the stamps up: nothing is to
  // be written under them any more.
  const bool given_up =
      std::any_of(staging.values.begin(), staging.values.end(), [this](const Staging::Write& staged) {
        const Entry* note = entries_.Find(StagedEntry(staged.stored.stamp));
        return note != nullptr && !note->live();
      });
  if (given_up) {
    staging.staged = true;
    return QueueStaged(std::move(*holder));
  }
  const absl::Duration until = CallUntil(*(*holder)->transaction);
  staging.status = absl::OkStatus();
  staging.calls = static_cast<int>(staging.values.size());
  for (const Staging::Write& staged : staging.values) {
    const auto set = [this, holder, until, &staged] {
      containers_->SetStateAt(
          staged.stored.container, staged.name, staged.stored.stamp, staged.value, until,
          [this, holder, &staged](absl::Status status) {
            (*holder)->staging->status.Update(OfContainer(status, staged.stored.container, staged.name));
            Staged(holder);
          });
    };
    if (!staged.created) {
      set();
      continue;
    }
    containers_->Init(
        staged.stored.container, staged.name, until, [this, holder, set, &staged](absl::Status status) {
          if (status.ok()) return set();
          (*holder)->staging->status.Update(OfContainer(status, staged.stored.container, staged.name));
          Staged(holder);
        });
  }
}

void Engine::State::Staged(Holder holder) {
  Staging& staging = *(*holder)->staging;
  if (--staging.calls > 0) return;
  std::unique_ptr<Pending> pending = std::move(*holder);
  if (!staging.status.ok() && !canaries_.commit_failed_write)
    return RefuseStaging(std::move(pending), staging.status);
  stats_.staged += static_cast<int64_t>(staging.values.size());
  for (const Staging::Write& staged : staging.values) values_.Add(staged.stored.stamp, staged.value);
  staging.staged = true;
  QueueStaged(std::move(pending));
}

void Engine::State::QueueStaged(std::unique_ptr<Pending> pending) {
  --parked_;
  queue_.push_back(std::move(pending));
  CloseBatches();
  FlushAnswers();
  EndDrain();
}

void Engine::State::RefuseStaging(std::unique_ptr<Pending> pending, absl::Status status) {
  --parked_;
  Refuse(std::move(pending), {std::move(status)});
  CloseBatches();
  FlushAnswers();
  EndDrain();
}

// What the engine commits of its own, also while it drains: what waits for it is under way.
void Engine::State::QueueOwn(std::unique_ptr<Transaction> transaction, CommitDone done) {
  auto pending = std::make_unique<Pending>();
  pending->transaction = std::move(transaction);
  pending->arrived = pending->born = loop_->Now();
  pending->sequence = next_sequence_++;
  pending->admitted = true;
  pending->waiters.push_back(std::move(done));
  LookAhead(*pending);
  queue_.push_back(std::move(pending));
}

// ---- At the commit point

// Staged values count if the entries that they were worked out from are as they were, and nobody has given up
// the stamps. Else they are left to be erased, and the transaction is worked out anew.
Engine::State::Step Engine::State::CheckStaged(std::unique_ptr<Pending>& pending, Appending& batch) {
  Staging& staging = *pending->staging;
  if (!staging.staged) return Step::kGoesOn;
  std::vector<std::string> unknown;
  for (const Staging::Write& staged : staging.values) {
    std::string name = StagedEntry(staged.stored.stamp);
    if (store_ != nullptr && !Known(name)) unknown.push_back(std::move(name));
  }
  if (!unknown.empty()) {
    LoadMoreFor(std::move(pending), std::move(unknown));
    return Step::kTaken;
  }
  bool same = true;
  uint64_t depends = 0;
  for (const Staging::Base& base : staging.bases) {
    const Entry* entry = entries_.Find(base.name);
    if (entry != nullptr) depends = std::max(depends, entry->tentative.batch);
    same = same && base.version == (entry == nullptr ? 0 : entry->version());
  }
  for (const Staging::Write& staged : staging.values) {
    same = same && BaseOf(StagedEntry(staged.stored.stamp), batch.now, &depends).value.has_value();
  }
  if (depends != 0) {
    WaitFor(depends, std::move(pending), &batch);
    return Step::kTaken;
  }
  if (same) return Step::kGoesOn;
  // It was in no batch that may have committed.
  DropStamps(staging);
  return Step::kGoesOn;
}

// What becomes of stamps, and of atoms that containers have copies of, is in the same commit.
Engine::State::Step Engine::State::NoteStored(std::unique_ptr<Pending>& pending, WriteSet* writes,
                                              Appending& batch) {
  std::vector<Write> notes;
  const auto note = [&notes](Change change, std::string name, Value value) {
    notes.push_back(MakeWrite(change, std::move(name), std::move(value)));
  };
  for (const WriteSet::Item& item : writes->items()) {
    if (!item.changes()) continue;
    const bool kept_before = item.before.value.has_value() && IsStored(*item.before.value);
    const bool kept = item.value.has_value() && IsStored(*item.value);
    const bool same = kept && kept_before && *item.value == *item.before.value;
    if (kept && !same) note(Change::kDelete, StagedEntry(StoredOf(*item.value)->stamp), Value());
    if (kept_before && !same) {
      const Stored stored = *StoredOf(*item.before.value);
      StampNote erase{stored.container, std::string(item.name), stored.bytes, batch.writer,
                      !item.value.has_value()};
      note(Change::kSet, EraseEntry(stored.stamp), ToValue(erase));
    }
    const bool is = item.value.has_value();
    const std::string& container = is ? ContainerIn(item.definition) : ContainerIn(item.before.definition);
    if (!container.empty() && (is ? item.kind : item.before.kind) == EntryKind::kAtom && item.value_written) {
      note(Change::kSet, CopyEntry(item.name), ToValue(CopyNote{container, batch.writer}));
    }
  }
  if (notes.empty()) return Step::kGoesOn;
  if (store_ != nullptr) {
    std::vector<std::string> unknown;
    for (const Write& write : notes) {
      if (!Known(write.name)) unknown.push_back(write.name);
    }
    if (!unknown.empty()) {
      LoadMoreFor(std::move(pending), std::move(unknown));
      return Step::kTaken;
    }
    std::vector<std::string> names;
    for (const Write& write : notes) names.push_back(write.name);
    LookedAt(*pending, std::move(names));
  }
  pending->notes = std::move(notes);
  return WriteBeside(pending, &pending->notes, writes, batch);
}

// No commit will name them, for certain. Another daemon may have given them up already, when it saw this one
// gone, and erased them before the last write came: so they are noted, again maybe, by who wrote them.
void Engine::State::DropStamps(Staging& staging) {
  for (const Staging::Write& staged : staging.values) staging_stamps_.erase(staged.stored.stamp);
  stats_.staged_anew += static_cast<int64_t>(staging.values.size());
  staging.staged = false;
  staging.writes.clear();
  staging.origins.clear();
  staging.results.clear();
  if (canaries_.reuse_stamp || staging.values.empty()) return;
  std::vector<Write> notes;
  for (const Staging::Write& staged : staging.values) {
    notes.push_back(MakeWrite(Change::kDelete, StagedEntry(staged.stored.stamp)));
    notes.push_back(MakeWrite(Change::kSet, EraseEntry(staged.stored.stamp),
                              ToValue(StampNote{staged.stored.container, staged.name, staged.stored.bytes,
                                                writers_->self(), false})));
  }
  staging.values.clear();
  NoteDropped(std::move(notes));
}

// Until it is committed: nobody else may know of them any more.
void Engine::State::NoteDropped(std::vector<Write> notes) {
  auto transaction = std::make_unique<Transaction>();
  transaction->writes = notes;
  QueueOwn(std::move(transaction),
           [this, notes = std::move(notes)](std::shared_ptr<const Verdict> verdict, Version) mutable {
             if (std::holds_alternative<Committed>(verdict->outcome)) return;
             loop_->Post([this, notes = std::move(notes)]() mutable {
               loop_->At(loop_->Now() + kNoteAgainAfter, [this, notes = std::move(notes)]() mutable {
                 if (draining_) return;
                 NoteDropped(std::move(notes));
                 CloseBatches();
                 FlushAnswers();
               });
             });
           });
}

// It is decided, or waits for something else: others may work on its entries. `may_be_committed`: under these
// stamps.
void Engine::State::EndStaging(Pending& pending, bool may_be_committed) {
  Staging& staging = *pending.staging;
  if (may_be_committed) {
    for (const Staging::Write& staged : staging.values) staging_stamps_.erase(staged.stored.stamp);
  } else {
    DropStamps(staging);
  }
  for (const std::string& container : staging.containers) {
    auto it = staging_in_.find(container);
    if (--it->second == 0) staging_in_.erase(it);
  }
  --staging_;
  if (staging.claimed) {
    for (const std::string& name : staging.claims) claimed_.erase(name);
    if (!claiming_.empty() && !std::exchange(grant_posted_, true)) loop_->Post([this] { GrantClaims(); });
  }
  pending.staging.reset();
}

// ---- Reads

void Engine::State::Resolve(std::vector<EntryState> states, Version snapshot, absl::Duration deadline,
                            Done<std::vector<EntryState>> done) {
  struct Resolving {
    std::vector<EntryState> states;
    Done<std::vector<EntryState>> done;
    absl::Status status;
    size_t calls = 1;
    void Over() {
      if (--calls > 0) return;
      if (!status.ok()) return done(std::move(status));
      done(std::move(states));
    }
  };
  auto resolving = std::make_shared<Resolving>();
  resolving->states = std::move(states);
  resolving->done = std::move(done);
  for (size_t i = 0; i < resolving->states.size(); ++i) {
    const EntryState& state = resolving->states[i];
    if (!state.value.has_value() || !IsStored(*state.value)) continue;
    std::optional<Stored> stored = StoredOf(*state.value);
    if (canaries_.read_newest_stored) {
      const Entry* entry = entries_.Find(state.name);
      if (entry != nullptr && entry->live() && IsStored(*entry->newest()->value))
        stored = StoredOf(*entry->newest()->value);
    }
    assert(stored.has_value());
    ++resolving->calls;
    values_.Load(
        *stored, state.name, deadline,
        [this, resolving, i, stored = *stored, snapshot](absl::StatusOr<std::optional<Value>> value) {
          EntryState& state = resolving->states[i];
          if (value.ok() && value->has_value()) {
            state.value = *std::move(value);
            return resolving->Over();
          }
          if (!value.ok()) {
            resolving->status.Update(value.status());
            return resolving->Over();
          }
          // Beside others this daemon may be behind: what the stamp had may be superseded and erased.
          coordinator_->Barrier([this, resolving, name = state.name, stored,
                                 snapshot](absl::StatusOr<Version> version) {
            WhenInstalled(
                version.ok() ? *version : 0, absl::InfiniteDuration(),
                [this, resolving, name, stored, snapshot, barrier = version.status()](absl::Status status) {
                  if (status.ok()) status = barrier;
                  if (status.ok()) status = NoSuchStamp(name, stored, snapshot);
                  resolving->status.Update(status);
                  resolving->Over();
                });
          });
        });
  }
  resolving->Over();
}

void Engine::State::ResolvePart(ImagePart part, Version version,
                                absl::AnyInvocable<void(absl::StatusOr<ImagePart>)> done) {
  std::vector<EntryState> states;
  std::vector<size_t> places;
  for (size_t i = 0; i < part.entries.size(); ++i) {
    if (!part.entries[i].value.has_value() || !IsStored(*part.entries[i].value)) continue;
    states.push_back({part.entries[i].name, part.entries[i].value});
    places.push_back(i);
  }
  if (states.empty()) return done(std::move(part));
  Resolve(std::move(states), version, absl::InfiniteDuration(),
          [part = std::move(part), places = std::move(places),
           done = std::move(done)](absl::StatusOr<std::vector<EntryState>> states) mutable {
            if (!states.ok()) return done(states.status());
            for (size_t i = 0; i < places.size(); ++i)
              part.entries[places[i]].value = std::move((*states)[i].value);
            done(std::move(part));
          });
}

// The container has nothing under a stamp. OUT_OF_RANGE: the entry has another by now, a newer snapshot reads
// that.
absl::Status Engine::State::NoSuchStamp(const std::string& name, const Stored& stored,
                                        Version snapshot) const {
  const Entry* entry = entries_.Find(name);
  const Versioned* newest = entry == nullptr ? nullptr : entry->newest();
  if (newest != nullptr) {
    const std::optional<Stored> now = newest->value.has_value() ? StoredOf(*newest->value) : std::nullopt;
    if (!now.has_value() || now->stamp != stored.stamp) return SnapshotTooOld(snapshot, newest->version);
  }
  return OfContainer(absl::DataLossError(absl::StrCat(
                         "it has nothing under stamp ", stored.stamp,
                         ", which a commit names: it lost the value; set the entry to repair it")),
                     stored.container, name);
}

}  // namespace stm::engine
