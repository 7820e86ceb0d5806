// What an EntryStore has and memory has not: who needs it waits (WhenKnown) for a load, and what was not used for a while is
// dropped again (EvictEntries). Lists read the store's names page by page.
#include <algorithm>
#include <cassert>
#include <utility>

#include "engine/error.h"
#include "engine/name.h"
#include "engine/state.h"

namespace stm::engine {
namespace {

// One load takes no more who wait once it has this many names.
constexpr size_t kLoadNamesMax = 4096;
// Prefixes that are remembered to be known; past it all are asked for again.
constexpr size_t kPrefixesKnownMax = 65536;
// What is looked at to drop it, for each entry that came and at least: the hand goes round faster than entries come.
constexpr int64_t kLookedForEach = 4;
constexpr int64_t kLookedAtLeast = 64;
// A list of what is newest that met an entry whose past is not known begins anew this often.
constexpr int kListAgainMax = 3;

// The names that must be known before the transaction is validated, one that is there twice twice.
template <typename Visit>
void ForEachName(const Pending& pending, Visit visit) {
  const Transaction& t = *pending.transaction;
  for (const std::string& name : pending.looks) visit(name);
  // A procedure's writes are of what it looks at.
  if (t.procedure != nullptr) return;
  for (const std::string& name : t.reads) visit(name);
  for (const std::string& name : t.ensures) visit(name);
  for (const Write& write : t.writes) visit(write.name);
}

bool ChecksLists(const Transaction& t) { return t.isolation == Isolation::kSerializable && !t.lists.empty(); }

bool AtNewest(const ReadPoint& at) { return at.at == ReadPoint::At::kNewest || at.at == ReadPoint::At::kStale; }

}  // namespace

// ---- What is known

bool Engine::State::Known(std::string_view name) {
  if (IsMemory(name)) return true;
  const Entry* entry = entries_.Find(name);
  if (entry == nullptr) return false;
  entry->cached->used = true;
  return true;
}

bool Engine::State::KnowsAll(const Pending& pending) {
  const Transaction& t = *pending.transaction;
  bool all = true;
  ForEachName(pending, [&](const std::string& name) { all = Known(name) && all; });
  if (!ChecksLists(t)) return all;
  return all && std::all_of(t.lists.begin(), t.lists.end(), [this](const std::string& prefix) {
           return IsMemory(prefix) || prefixes_known_.contains(prefix);
         });
}

// Is there an answer at the snapshot, now that the entries are known? What is newest may be read as it is now.
absl::Status Engine::State::CheckKnown(const ReadPoint& at, const std::vector<std::string>& names, Version* snapshot) {
  if (AtNewest(at)) *snapshot = installed_;
  if (*snapshot < history_mark_) return SnapshotTooOld(*snapshot, history_mark_);
  for (const std::string& name : names) {
    const Entry* entry = entries_.Find(name);
    if (entry != nullptr && !entry->KnownAt(*snapshot)) return SnapshotTooOld(*snapshot, entry->cached->known_from);
  }
  return absl::OkStatus();
}

// ---- Who waits

// The transaction waits outside of any order, then goes on where it was.
void Engine::State::LoadFor(std::unique_ptr<Pending> pending) {
  const Transaction& t = *pending->transaction;
  std::vector<std::string> names;
  ForEachName(*pending, [&](const std::string& name) { names.push_back(name); });
  std::vector<std::string> prefixes = ChecksLists(t) ? t.lists : std::vector<std::string>();
  ++loading_;
  WhenKnown(std::move(names), std::move(prefixes), t.deadline, [this, pending = std::move(pending)](absl::Status status) mutable {
    --loading_;
    if (absl::IsDeadlineExceeded(status)) {
      status = absl::DeadlineExceededError("the deadline passed before its entries came from the store: not committed");
    }
    if (!status.ok()) return Refuse(std::move(pending), {std::move(status)});
    // However small the cache is, it does not wait for them again.
    Pin(*pending);
    if (pending->admitted) {
      queue_.push_back(std::move(pending));
    } else {
      Admit(std::move(pending));
    }
  });
}

// More of it, as a run of its procedure found out.
void Engine::State::LoadMoreFor(std::unique_ptr<Pending> pending, std::vector<std::string> names) {
  if (pending->pinned) Unpin(*pending);
  for (std::string& name : names) pending->looks.push_back(std::move(name));
  LoadFor(std::move(pending));
}

void Engine::State::Pin(Pending& pending) {
  if (std::exchange(pending.pinned, true)) return;
  ForEachName(pending, [this](const std::string& name) {
    if (!IsMemory(name)) ++entries_.Find(name)->cached->pins;
  });
}

void Engine::State::Unpin(Pending& pending) {
  pending.pinned = false;
  ForEachName(pending, [this](const std::string& name) {
    if (IsMemory(name)) return;
    Entry* entry = entries_.Find(name);
    assert(entry != nullptr && entry->cached->pins > 0);
    --entry->cached->pins;
  });
}

// Calls `done` once all are known, at once if they are. They are known in `done`, not for longer.
void Engine::State::WhenKnown(std::vector<std::string> names, std::vector<std::string> prefixes, absl::Duration deadline,
                              absl::AnyInvocable<void(absl::Status)> done) {
  const auto in_memory = [](const std::string& name) { return IsMemory(name); };
  names.erase(std::remove_if(names.begin(), names.end(), in_memory), names.end());
  prefixes.erase(std::remove_if(prefixes.begin(), prefixes.end(), in_memory), prefixes.end());
  const bool known = std::all_of(names.begin(), names.end(), [this](const std::string& name) { return Known(name); }) &&
                     std::all_of(prefixes.begin(), prefixes.end(),
                                 [this](const std::string& prefix) { return prefixes_known_.contains(prefix); });
  if (known) return done(absl::OkStatus());
  if (draining_) return done(NotReady("draining", absl::Milliseconds(100)));
  wanting_.push_back({std::move(names), std::move(prefixes), deadline, std::move(done)});
  loads_alarm_.Set(deadline);
  LoadSoon();
}

void Engine::State::LoadSoon() {
  // In a task of its own: what arrives together is loaded together.
  if (load_under_way_ || std::exchange(load_posted_, true)) return;
  loop_->Post([this] { Load(); });
}

// Asks for what those who wait lack.
void Engine::State::Load() {
  load_posted_ = false;
  assert(!load_under_way_);
  std::vector<std::string> names;
  std::vector<std::string> prefixes;
  std::list<Wanting> known;
  for (auto it = wanting_.begin(); it != wanting_.end() && names.size() < kLoadNamesMax;) {
    Wanting& wanting = *it++;
    bool lacks = false;
    for (const std::string& name : wanting.names) {
      const bool first = load_names_.insert(name).second;
      if (Known(name)) continue;
      lacks = true;
      if (first) names.push_back(name);
    }
    for (const std::string& prefix : wanting.prefixes) {
      if (prefixes_known_.contains(prefix)) continue;
      lacks = true;
      if (std::find(prefixes.begin(), prefixes.end(), prefix) == prefixes.end()) prefixes.push_back(prefix);
    }
    if (lacks) {
      wanting.under_way = true;
    } else {
      known.splice(known.end(), wanting_, std::prev(it));
    }
  }
  load_under_way_ = !names.empty() || !prefixes.empty();
  if (load_under_way_) {
    ++stats_.loads;
    auto asked = std::make_shared<const std::pair<std::vector<std::string>, std::vector<std::string>>>(names, prefixes);
    store_->Load(std::move(names), std::move(prefixes), [this, asked](absl::StatusOr<std::vector<ImageEntry>> entries) {
      Loaded(asked->first, asked->second, std::move(entries));
    });
  } else {
    load_names_.clear();
  }
  TellWanting(std::move(known), absl::OkStatus());
}

void Engine::State::Loaded(const std::vector<std::string>& names, const std::vector<std::string>& prefixes,
                           absl::StatusOr<std::vector<ImageEntry>> entries) {
  load_under_way_ = false;
  if (entries.ok()) {
    AddLoaded(names, *std::move(entries));
    if (prefixes_known_.size() + prefixes.size() > kPrefixesKnownMax) prefixes_known_.clear();
    prefixes_known_.insert(prefixes.begin(), prefixes.end());
  }
  std::list<Wanting> told;
  for (auto it = wanting_.begin(); it != wanting_.end();) {
    auto wanting = it++;
    if (wanting->under_way) told.splice(told.end(), wanting_, wanting);
  }
  TellWanting(std::move(told), entries.status());
  load_names_.clear();
  if (!wanting_.empty()) LoadSoon();
  EvictEntries(static_cast<int64_t>(names.size()));
}

// What was installed while the store was asked is newer.
void Engine::State::AddLoaded(const std::vector<std::string>& names, std::vector<ImageEntry> entries) {
  absl::Duration now = loop_->Now();
  for (ImageEntry& from : entries) {
    if (entries_.Find(from.name) != nullptr) continue;
    assert(from.version <= installed_);
    Versioned versioned{from.version, std::move(from.value), from.kind, from.written_at, std::move(from.definition), nullptr};
    SetExpiry(entries_.AddLoaded(from.name, std::move(versioned), from.version), now);
    ++stats_.entries_loaded;
  }
  for (const std::string& name : names) {
    if (entries_.Find(name) != nullptr) continue;
    // A tombstone above the floor would have been there.
    entries_.AddLoaded(name, std::nullopt, ids_.floor());
    ++stats_.entries_loaded;
  }
}

void Engine::State::TellWanting(std::list<Wanting> told, const absl::Status& status) {
  if (told.empty()) return;
  for (Wanting& wanting : told) wanting.done(status);
  CloseBatches();
  FlushAnswers();
  EndDrain();
}

// Nobody waits any more; what a load brings is kept.
void Engine::State::EndLoads(absl::Status status) { TellWanting(std::exchange(wanting_, {}), status); }

void Engine::State::LoadedTooLate() {
  absl::Duration now = loop_->Now();
  absl::Duration next = absl::InfiniteDuration();
  std::list<Wanting> late;
  for (auto it = wanting_.begin(); it != wanting_.end();) {
    auto wanting = it++;
    if (wanting->deadline <= now) {
      late.splice(late.end(), wanting_, wanting);
    } else {
      next = std::min(next, wanting->deadline);
    }
  }
  loads_alarm_.Set(next);
  TellWanting(std::move(late), absl::DeadlineExceededError("the deadline passed before the entries came from the store"));
}

// ---- Lists

// The oldest snapshot that can be listed. Of entries that were deleted and swept from a store the names are gone too.
Version Engine::State::ListedFrom() const {
  return store_ == nullptr ? history_mark_ : std::max(history_mark_, ids_.floor());
}

void Engine::State::ListMore(std::unique_ptr<Listing> listing) {
  std::string prefix = listing->request.prefix;
  std::string after = listing->after;
  store_->List(std::move(prefix), std::move(after), kNamesAtOnce,
               [this, listing = std::move(listing)](absl::StatusOr<std::vector<std::string>> names) mutable {
                 if (!names.ok()) return AnswerList(std::move(listing), names.status());
                 const bool more = names->size() == kNamesAtOnce;
                 if (more) listing->after = names->back();
                 ListNames(std::move(listing), *std::move(names), more);
               });
}

void Engine::State::ListNames(std::unique_ptr<Listing> listing, std::vector<std::string> names, bool more) {
  // "/" is not over the system's names.
  const auto other = [&](const std::string& name) { return !UnderPrefix(name, listing->request.prefix); };
  names.erase(std::remove_if(names.begin(), names.end(), other), names.end());
  absl::Duration deadline = listing->request.deadline;
  WhenKnown(names, {}, deadline, [this, names, more, listing = std::move(listing)](absl::Status status) mutable {
    if (!status.ok()) return AnswerList(std::move(listing), std::move(status));
    if (listing->snapshot < ListedFrom()) status = SnapshotTooOld(listing->snapshot, ListedFrom());
    for (size_t i = 0; status.ok() && i < names.size(); ++i) {
      const Entry& entry = *entries_.Find(names[i]);
      if (!entry.KnownAt(listing->snapshot)) {
        status = SnapshotTooOld(listing->snapshot, entry.cached->known_from);
      } else if (!AddToPage(listing->request, entry, listing->snapshot, &listing->result, &listing->bytes)) {
        return AnswerList(std::move(listing), absl::OkStatus());
      }
    }
    if (!status.ok()) {
      if (!AtNewest(listing->request.at) || listing->begun_again++ == kListAgainMax) {
        return AnswerList(std::move(listing), std::move(status));
      }
      listing->snapshot = installed_;
      listing->after = listing->request.after_name;
      listing->result = ListResult();
      listing->bytes = 0;
    } else if (!more) {
      return AnswerList(std::move(listing), absl::OkStatus());
    }
    loop_->Post([this, listing = std::move(listing)]() mutable { ListMore(std::move(listing)); });
  });
}

void Engine::State::AnswerList(std::unique_ptr<Listing> listing, absl::Status status) {
  listing->result.installed = installed_;
  listing->result.snapshot = listing->snapshot;
  absl::StatusOr<ListResult> result = std::move(listing->result);
  if (!status.ok()) result = std::move(status);
  AnswerListed(std::move(result), listing->request.deadline, std::move(listing->done));
}

// ---- What goes

// Drops entries past the cache's bytes. Never one that history reaches: so all that is not known is older than any snapshot
// that can be read, and a load answers at each of them. `came`: entries that came since.
void Engine::State::EvictEntries(int64_t came) {
  const auto may = [this](const Entry& entry) {
    // What is tentative is pinned.
    return entry.version() <= history_mark_ && entry.cached->pins == 0 && entry.expires == absl::InfiniteDuration() &&
           !load_names_.contains(entry.name) && !sleepers_.SleptOn(entry.name) && !watches_.SelectsByName(entry.name);
  };
  int64_t steps = kLookedForEach * came + kLookedAtLeast;
  while (entries_.cached_bytes() > options_.entry_cache_bytes_max) {
    Entry* entry = entries_.NextToDrop(&steps, may);
    if (entry == nullptr) return;
    const std::string name = entry->name;
    entries_.Drop(entry);
    ++stats_.entries_evicted;
    store_->Forget(name);
  }
}

}  // namespace stm::engine
