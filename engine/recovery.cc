// What a coordinator recovers, images for its snapshots, and what time takes away: history, ids, tombstones, TTLs.
#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/locks/lock.h"
#include "engine/name.h"
#include "engine/state.h"

namespace stm::engine {
namespace {

constexpr absl::Duration kHousekeepEvery = absl::Seconds(1);
// Entries that one commit expires at most.
constexpr size_t kExpireAtOnce = 256;
// When an expiry found no room on the disk.
constexpr absl::Duration kExpireAgainAfter = absl::Seconds(1);
// What one task trims of history at most, so that no commit waits for a long trim.
constexpr int kTrimAtOnce = 1024;
// What housekeeping looks at to drop it, likewise.
constexpr int64_t kLookedAtOnce = 4096;

}  // namespace

// ---- Replay

void Engine::State::InstallImage(ImagePart part) {
  assert(!ready_);
  for (ImageEntry& image : part.entries) {
    Entry& entry = entries_.FindOrAdd(image.name);
    if (!image.value.has_value() && entry.cached == nullptr) tombstones_.push_back({image.version, image.name});
    Versioned versioned;
    versioned.version = image.version;
    versioned.value = std::move(image.value);
    versioned.kind = image.kind;
    versioned.at = image.written_at;
    versioned.definition = std::move(image.definition);
    const bool was = entry.live();
    entries_.Install(&entry, std::move(versioned), was);
  }
  if (canaries_.forget_ids_on_recovery) return;
  for (const ImageId& id : part.ids) ids_.AddCommitted(id.transaction_id, id.version, id.at, loop_->Now());
}

void Engine::State::EndImage(Version version, Instant at, Version id_floor) {
  assert(!ready_ && version >= installed_);
  installed_ = version;
  last_at_ = at;
  ids_.RaiseFloor(id_floor);
  entries_.set_listing_floor(version);
}

void Engine::State::RaiseIdFloor(Version id_floor) {
  assert(id_floor <= installed_);
  ids_.RaiseFloor(id_floor);
}

absl::Status Engine::State::Install(std::shared_ptr<CommitRecord> record) {
  assert(record->version > installed_);
  for (EntryChange& change : record->changes) {
    Entry* entry = entries_.Find(change.name);
    change.entry = entry;
    if (change.whole != nullptr) {
      change.entry_kind = change.whole->kind;
      if (change.kind != EntryChange::Kind::kDefine) change.value = change.whole->value;
      continue;
    }
    // A log tells the kind of what it creates or defines; it is fixed from then on.
    const bool told = change.kind == EntryChange::Kind::kCreate || change.kind == EntryChange::Kind::kDefine;
    if (!told && entry != nullptr && entry->newest() != nullptr) change.entry_kind = entry->newest()->kind;
    if (!change.expected_hash.has_value()) continue;
    std::optional<Value> before;
    if (entry != nullptr && entry->newest() != nullptr) before = entry->newest()->value;
    auto applied = Apply(*change.operation, before);
    const Applied* outcome = std::get_if<Applied>(&applied);
    if (outcome == nullptr) {
      return absl::DataLossError(absl::StrCat(change.name, ": the operation of version ", record->version,
                                              " can't be replayed: ", std::get<Rejection>(applied).message));
    }
    if (static_cast<uint32_t>(outcome->value.hash()) != *change.expected_hash) {
      return absl::DataLossError(absl::StrCat(change.name, ": the operation of version ", record->version,
                                              " comes out as another value than it did when it was committed"));
    }
    change.value = outcome->value;
  }
  bool ours = false;
  if (record->transaction_id.has_value() && !(canaries_.forget_ids_on_recovery && !ready_)) {
    if (ready_) {
      IdTable::Found found = ids_.Find(*record->transaction_id);
      ours = found.state == IdTable::State::kUndecided;
      if (ours) CommittedElsewhere(*found.pending, record->version, record->at);
    }
    ids_.AddCommitted(*record->transaction_id, record->version, record->at, loop_->Now());
  }
  if (ready_) {
    auto commit = std::make_shared<InstalledCommit>();
    static_cast<CommitRecord&>(*commit) = std::move(*record);
    const int64_t changes = static_cast<int64_t>(commit->changes.size());
    InstallCommit(std::move(commit), /*by_other=*/true);
    ToldInstalled();
    TrimHistory();
    TrimIds();
    if (store_ != nullptr) EvictEntries(changes);
    if (ours) {
      CloseBatches();
      FlushAnswers();
    }
    return absl::OkStatus();
  }
  // A replay keeps the newest only: no snapshot of before the start can be read.
  installed_ = record->version;
  last_at_ = record->at;
  for (EntryChange& change : record->changes) {
    Entry& entry = entries_.FindOrAdd(change.name);
    const Versioned* newest = entry.newest();
    Versioned versioned;
    versioned.version = record->version;
    versioned.at = record->at;
    versioned.kind = change.entry_kind;
    versioned.by = record->meta;
    versioned.value = change.kind == EntryChange::Kind::kDefine && newest != nullptr ? newest->value : std::move(change.value);
    versioned.definition = change.definition;
    if (change.kind == EntryChange::Kind::kSet && change.definition == nullptr && newest != nullptr) {
      versioned.definition = newest->definition;
    }
    if (change.whole != nullptr) {
      versioned.value = change.whole->value;
      versioned.definition = change.whole->definition;
    }
    if (entry.cached != nullptr) {
      if (newest == nullptr) entry.cached->known_from = record->version;
    } else if (!versioned.value.has_value()) {
      tombstones_.push_back({record->version, change.name});
    }
    const bool was = entry.live();
    entries_.Install(&entry, std::move(versioned), was);
    entries_.TrimHistory(&entry, record->version);
  }
  ids_.Trim(loop_->Now(), installed_);
  return absl::OkStatus();
}

void Engine::State::Start(absl::AnyInvocable<void(absl::Status)> done) {
  next_reservation_ = loop_->Random() | 1;
  hot_since_ = loop_->Now();
  coordinator_->Recover(engine_, [this, done = std::move(done)](absl::Status status) mutable {
    if (!status.ok()) {
      not_ready_because_ = std::string(status.message());
      return done(std::move(status));
    }
    BecomeReady();
    Housekeep();
    done(absl::OkStatus());
  });
}

void Engine::State::BecomeReady() {
  recovered_ = history_mark_ = installed_;
  history_mark_at_ = last_at_;
  // Not every commit up to here was fed: what was listed before may have changed.
  if (store_ != nullptr) entries_.set_listing_floor(installed_);
  // A TTL is never early: it starts again in full, since nobody knows how long the daemon was down.
  absl::Duration now = loop_->Now();
  entries_.Walk("", "", [&](Entry& entry) {
    SetExpiry(&entry, now);
    return true;
  });
  ready_ = true;
  not_ready_because_.clear();
}

// ---- A restore

absl::Status Engine::State::CheckEmpty() const {
  if (!ready_) return NotReady(not_ready_because_, absl::Milliseconds(100));
  if (draining_) return NotReady("draining", absl::Milliseconds(100));
  if (installed_ != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("restore: this store is not empty, it is at version ", installed_,
                     ": restore into a daemon that was started on a new directory, before anything is committed to it"));
  }
  if (!queue_.empty() || !appending_.empty() || parked_ != 0 || loading_ != 0 || reservations_.in_line() != 0 || !pins_.empty()) {
    return absl::FailedPreconditionError(
        "restore: something is being committed to this store: keep its clients away, and restore into a new one");
  }
  return absl::OkStatus();
}

void Engine::State::Restore(absl::AnyInvocable<void(absl::AnyInvocable<void(absl::Status)>)> feed,
                            absl::AnyInvocable<void(absl::Status)> done) {
  absl::Status empty = CheckEmpty();
  if (!empty.ok()) return done(std::move(empty));
  ready_ = false;
  not_ready_because_ = "restoring";
  feed([this, done = std::move(done)](absl::Status status) mutable {
    BecomeReady();
    // The caller learns the store's new id before anybody is told anything of it.
    const bool restored = status.ok();
    done(std::move(status));
    if (!restored) return;
    for (auto& sink : watches_.TakeAll()) sink->OnGap(installed_, "the store was restored from a backup");
    for (Sleeper& sleeper : sleepers_.TakeAll()) {
      executor_->Run(Work::kAnswer, [done = std::move(sleeper.done)]() mutable {
        done(NotReady("the store was restored from a backup", absl::Milliseconds(100)));
      });
    }
    auto ahead = std::move(ahead_);
    ahead_.clear();
    for (auto& [version, waiting] : ahead) {
      waiting.done(NotReady("the store was restored from a backup", absl::Milliseconds(100)));
    }
  });
}

// ---- Images

class EngineImage : public Image {
 public:
  EngineImage(Engine::State* state, Version version, Instant at) : state_(state), version_(version), at_(at) {
    pin_ = state_->pins_.insert(version_);
  }
  ~EngineImage() override { state_->pins_.erase(pin_); }

  Version version() const override { return version_; }
  Instant at() const override { return at_; }
  Version id_floor() const override {
    if (state_->canaries_.forget_id_floor) return 0;
    return std::min(state_->ids_.floor(), version_);
  }

  ImagePart Next(size_t items_max) override {
    ImagePart part;
    // A part with nothing to keep in it must not look like the end.
    while (!entries_done_ && part.entries.empty()) {
      entries_done_ = true;
      size_t looked = 0;
      state_->entries_.Walk("", after_name_, [&](const Entry& entry) {
        if (looked++ == items_max) return entries_done_ = false;
        after_name_ = entry.name;
        const Versioned* versioned = entry.At(version_);
        if (versioned == nullptr || IsMemory(entry.name)) return true;
        ImageEntry image;
        image.name = entry.name;
        image.kind = versioned->kind;
        image.definition = versioned->definition;
        image.value = versioned->value;
        image.version = versioned->version;
        image.written_at = versioned->at;
        part.entries.push_back(std::move(image));
        return true;
      });
    }
    if (!part.entries.empty()) return part;
    for (const IdTable::CommittedId& id : state_->ids_.Committed(version_, &id_cursor_, items_max)) {
      part.ids.push_back({id.id, id.version, id.at});
    }
    return part;
  }

 private:
  Engine::State* state_;
  Version version_;
  Instant at_;
  std::multiset<Version>::iterator pin_;
  std::string after_name_;
  bool entries_done_ = false;
  uint64_t id_cursor_ = 0;
};

std::unique_ptr<Image> Engine::State::TakeImage() { return std::make_unique<EngineImage>(this, installed_, last_at_); }

absl::StatusOr<std::unique_ptr<Image>> Engine::State::TakeImageAt(Version version) {
  if (!ready_) return NotReady(not_ready_because_, absl::Milliseconds(100));
  if (store_ != nullptr) {
    return absl::FailedPreconditionError(
        "backup: the entries are in the coordinator's store and not all in this daemon: back up that store itself");
  }
  if (version == 0 || version == installed_) return TakeImage();
  if (version < history_mark_) return SnapshotTooOld(version, history_mark_);
  if (version > installed_) {
    return absl::OutOfRangeError(absl::StrCat("version ", version, " is not there yet: the newest is ", installed_));
  }
  Instant at = history_mark_at_;
  size_t after = history_.PartitionPoint([&](const Remembered& r) { return r.commit->version <= version; });
  if (after > 0) at = history_[after - 1].commit->at;
  return std::make_unique<EngineImage>(this, version, at);
}

// ---- TTLs

// Each write starts an entry's TTL again.
void Engine::State::SetExpiry(Entry* entry, absl::Duration now) {
  const Versioned* newest = entry->newest();
  if (newest == nullptr || newest->definition == nullptr || newest->definition->ttl <= absl::ZeroDuration()) {
    entry->expires = absl::InfiniteDuration();
    return;
  }
  if (canaries_.early_ttl && entry->expires != absl::InfiniteDuration()) return;
  entry->expires = now + newest->definition->ttl;
  QueueExpiry(entry, entry->expires);
}

// An entry is in the queue once: when its turn comes and it was written since, it is queued again.
void Engine::State::QueueExpiry(Entry* entry, absl::Duration when) {
  if (entry->expiry_queued <= when) return;
  entry->expiry_queued = when;
  expiries_.push({when, entry->name});
  expiries_alarm_.Set(when);
}

void Engine::State::ExpireDue() {
  absl::Duration now = loop_->Now();
  auto transaction = std::make_unique<Transaction>();
  std::vector<std::string> names, locks;
  while (!expiries_.empty() && expiries_.top().when <= now && names.size() + locks.size() < kExpireAtOnce) {
    Expiry expiry = expiries_.top();
    expiries_.pop();
    Entry* entry = entries_.Find(expiry.name);
    if (entry == nullptr || entry->expiry_queued != expiry.when) continue;
    entry->expiry_queued = absl::InfiniteDuration();
    if (!entry->live() || entry->expires == absl::InfiniteDuration()) continue;
    if (entry->expires > now) {
      QueueExpiry(entry, entry->expires);
      continue;
    }
    if (IsSweptLock(expiry.name)) {
      locks.push_back(std::move(expiry.name));
      continue;
    }
    Write write;
    write.name = expiry.name;
    write.change = Write::Change::kExpire;
    transaction->writes.push_back(std::move(write));
    names.push_back(std::move(expiry.name));
  }
  if (!expiries_.empty()) expiries_alarm_.Set(expiries_.top().when);
  if (draining_) return;
  if (!names.empty()) QueueExpiries(std::move(transaction), std::move(names));
  if (!locks.empty()) {
    auto sweep = std::make_unique<Transaction>();
    sweep->procedure = MakeSweep(locks, options_.locks);
    QueueExpiries(std::move(sweep), std::move(locks));
  }
  CloseBatches();
  FlushAnswers();
}

void Engine::State::QueueExpiries(std::unique_ptr<Transaction> transaction, std::vector<std::string> names) {
  auto pending = std::make_unique<Pending>();
  pending->transaction = std::move(transaction);
  pending->arrived = pending->born = loop_->Now();
  pending->sequence = next_sequence_++;
  LookAhead(*pending);
  pending->waiters.push_back([this, names = std::move(names)](std::shared_ptr<const Verdict> verdict, Version) mutable {
    // The decision is in the state by now; whatever is still due (no room, written meanwhile) is tried again.
    loop_->Post([this, names = std::move(names)] {
      absl::Duration again = loop_->Now() + kExpireAgainAfter;
      for (const std::string& name : names) {
        Entry* entry = entries_.Find(name);
        if (entry != nullptr && entry->live() && entry->expires <= loop_->Now()) QueueExpiry(entry, again);
      }
    });
  });
  queue_.push_back(std::move(pending));
}

// ---- What time takes away

// What is trimmed next was last touched long ago and is in no cache: asks for it a few commits ahead, at each step for
// what the step before has brought.
void Engine::State::FetchHistory() {
  constexpr size_t kLine = 64;
  constexpr size_t kStep = 4;
  if (history_.size() <= 3 * kStep) return;
  const auto fetch = [](const void* from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += kLine) __builtin_prefetch(static_cast<const char*>(from) + at);
  };
  fetch(history_[3 * kStep].commit.get(), sizeof(InstalledCommit));
  const InstalledCommit& near = *history_[2 * kStep].commit;
  fetch(near.changes.data(), std::min<size_t>(near.changes.size(), kStep) * sizeof(EntryChange));
  fetch(near.before.data(), std::min<size_t>(near.before.size(), kStep) * sizeof(std::optional<Value>));
  const InstalledCommit& nearer = *history_[kStep].commit;
  for (size_t i = 0; i < std::min(nearer.changes.size(), kStep); ++i) {
    fetch(nearer.changes[i].entry, sizeof(Entry));
    fetch(nearer.changes[i].name.data(), 1);
    if (nearer.before[i].has_value()) nearer.before[i]->Fetch();
  }
}

// Moves H up: past history_bytes_max or history_age_max, and never past an image that is being read.
void Engine::State::TrimHistory() {
  absl::Duration oldest = loop_->Now() - options_.history_age_max;
  for (int i = 0; i < kTrimAtOnce && !history_.empty(); ++i) {
    const Remembered& front = history_.front();
    if (history_bytes_ <= options_.history_bytes_max && front.installed_at >= oldest) break;
    if (!pins_.empty() && front.commit->version > *pins_.begin()) break;
    history_mark_ = front.commit->version;
    history_mark_at_ = front.commit->at;
    history_bytes_ -= front.bytes;
    for (const EntryChange& change : front.commit->changes) entries_.TrimHistory(change.entry, history_mark_);
    history_.pop_front();
    FetchHistory();
  }
  SweepTombstones();
}

void Engine::State::TrimIds() {
  Version floor = ids_.floor();
  bool commit_due = ids_.Trim(loop_->Now(), installed_);
  if (ids_.floor() != floor) coordinator_->Trim(ids_.floor());
  // Refusals alone have filled the table: an empty commit lets its floor move past them.
  if (commit_due) QueueEmptyCommit();
}

// Moves the newest version on.
void Engine::State::QueueEmptyCommit() {
  if (empty_commit_queued_ || draining_) return;
  empty_commit_queued_ = true;
  auto pending = std::make_unique<Pending>();
  pending->transaction = std::make_unique<Transaction>();
  pending->arrived = pending->born = loop_->Now();
  pending->sequence = next_sequence_++;
  pending->waiters.push_back([this](std::shared_ptr<const Verdict>, Version) {
    loop_->Post([this] { empty_commit_queued_ = false; });
  });
  queue_.push_back(std::move(pending));
}

// A tombstone goes once no snapshot that can be read or checked needs it: one below T counts as changed.
void Engine::State::SweepTombstones() {
  Version mark = std::min(ids_.floor(), history_mark_);
  while (!tombstones_.empty() && tombstones_.front().first <= mark) {
    Entry* entry = entries_.Find(tombstones_.front().second);
    if (entry != nullptr && !entry->live() && entry->version() == tombstones_.front().first &&
        entry->tentative.batch == 0) {
      entries_.Remove(entry);
    }
    tombstones_.pop_front();
  }
}

void Engine::State::Housekeep() {
  if (ready_) {
    TrimHistory();
    TrimIds();
    if (store_ != nullptr) {
      entries_.SweepDirectories(ids_.floor());
      EvictEntries(kLookedAtOnce);
    }
    CloseBatches();
  }
  FlushAnswers();
  loop_->At(loop_->Now() + kHousekeepEvery, [this] { Housekeep(); });
}

}  // namespace stm::engine
