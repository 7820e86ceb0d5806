// Reads: snapshots, gets, lists, and retry()'s sleepers.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/name.h"
#include "engine/state.h"
#include "stm/v1/common.pb.h"

namespace stm::engine {
namespace {

// What an entry costs in an answer beside its name and value.
constexpr int64_t kReadOverheadBytes = 64;

template <typename T>
void AnswerLater(Executor* executor, Done<T> done, absl::StatusOr<T> result) {
  executor->Run(Work::kAnswer,
                [done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

// Makes what was read look as it will after `pending`. `bases` are the entries that those write, in their order.
absl::Status ApplyPending(const std::vector<Write>& pending, const std::vector<EntryState>& bases,
                          const WriteSet::Bounds& bounds, GetResult* result) {
  WriteSet::Result writes = WriteSet::Evaluate(pending, bounds, [&](std::string_view name) {
    WriteSet::Base base;
    for (const EntryState& state : bases) {
      if (state.name != name) continue;
      base.value = state.value;
      base.kind = state.kind;
      base.definition = state.definition;
      break;
    }
    return base;
  });
  if (auto* status = std::get_if<absl::Status>(&writes)) return *status;
  if (auto* rejected = std::get_if<Rejected>(&writes)) {
    v1::ErrorDetail detail;
    detail.set_name(rejected->name);
    detail.set_found(rejected->rejection.found);
    detail.set_reason(rejected->rejection.cause == RejectCause::kAbsent ? v1::ERROR_REASON_ABSENT
                      : rejected->rejection.cause == RejectCause::kKind ? v1::ERROR_REASON_WRONG_KIND
                                                                        : v1::ERROR_REASON_BAD_VALUE);
    return WithDetail(absl::FailedPreconditionError(rejected->rejection.message), detail);
  }
  for (EntryState& state : result->entries) {
    for (const WriteSet::Item& item : std::get<WriteSet>(writes).items()) {
      if (item.name != state.name) continue;
      state.value = item.value;
      state.kind = item.kind;
      state.definition = item.definition;
    }
  }
  return absl::OkStatus();
}

bool AnyStored(const std::vector<EntryState>& states) {
  return std::any_of(states.begin(), states.end(),
                     [](const EntryState& state) { return state.value.has_value() && IsStored(*state.value); });
}

}  // namespace

absl::Status Engine::State::CheckStore(uint64_t store) const {
  if (!ready_) return NotReady(not_ready_because_, absl::Milliseconds(100));
  if (store != 0 && store != writers_->store()) return StoreChanged(store, writers_->store());
  return absl::OkStatus();
}

// ---- Waiting for a version

void Engine::State::WhenInstalled(Version version, absl::Duration deadline,
                                  absl::AnyInvocable<void(absl::Status)> done) {
  if (version <= installed_) return done(absl::OkStatus());
  ahead_.emplace(version, Ahead{deadline, std::move(done)});
  if (deadline == absl::InfiniteDuration()) return;
  loop_->At(deadline, [this] {
    absl::Duration now = loop_->Now();
    std::vector<absl::AnyInvocable<void(absl::Status)>> late;
    for (auto it = ahead_.begin(); it != ahead_.end();) {
      if (it->second.deadline > now) {
        ++it;
        continue;
      }
      late.push_back(std::move(it->second.done));
      it = ahead_.erase(it);
    }
    for (auto& tell : late) {
      tell(absl::DeadlineExceededError(absl::StrCat("the version the client has seen is newer than ", installed_,
                                                    ", the newest here, and did not come before the deadline")));
    }
  });
}

void Engine::State::ToldInstalled() {
  while (!ahead_.empty() && ahead_.begin()->first <= installed_) {
    auto done = std::move(ahead_.begin()->second.done);
    ahead_.erase(ahead_.begin());
    done(absl::OkStatus());
  }
}

void Engine::State::AwaitInstalled(Version version, absl::AnyInvocable<void(Version)> changed) {
  WhenInstalled(version + 1, absl::InfiniteDuration(), [this, changed = std::move(changed)](absl::Status) mutable {
    changed(installed_);
  });
}

// ---- Snapshots

void Engine::State::ResolveSnapshot(const ReadPoint& at, const Seen& seen, absl::Duration deadline,
                                    absl::AnyInvocable<void(absl::StatusOr<Version>)> done) {
  absl::Status store = CheckStore(seen.store);
  if (!store.ok()) return done(store);
  Version known = std::max(seen.version, at.at == ReadPoint::At::kVersion ? at.version : 0);
  if (known > installed_) {
    return WhenInstalled(known, deadline, [this, at, seen, deadline, done = std::move(done)](absl::Status status) mutable {
      if (!status.ok()) return done(std::move(status));
      ResolveSnapshot(at, seen, deadline, std::move(done));
    });
  }
  switch (at.at) {
    case ReadPoint::At::kStale:
      return done(installed_);
    case ReadPoint::At::kNewest:
      return coordinator_->Barrier([this, deadline, done = std::move(done)](absl::StatusOr<Version> version) mutable {
        if (!version.ok()) return done(version.status());
        if (*version <= installed_) return done(installed_);
        WhenInstalled(*version, deadline, [this, done = std::move(done)](absl::Status status) mutable {
          if (!status.ok()) return done(std::move(status));
          done(installed_);
        });
      });
    case ReadPoint::At::kVersion:
      if (at.version < history_mark_ && !canaries_.serve_trimmed_history) return done(SnapshotTooOld(at.version, history_mark_));
      return done(at.version);
    case ReadPoint::At::kInstant: {
      size_t after = history_.PartitionPoint([&](const Remembered& r) { return r.commit->at <= at.instant; });
      if (after > 0) return done(history_[after - 1].commit->version);
      if (at.instant < history_mark_at_) {
        return done(absl::OutOfRangeError(absl::StrCat(
            "that moment is before the history kept (from version ", history_mark_, "): read the log instead")));
      }
      return done(history_mark_);
    }
  }
}

// A snapshot that another life of this daemon may have given can't be read on where it held memory entries: one run
// would see them as they were and gone.
absl::Status Engine::State::CheckMemory(const ReadPoint& at, absl::Span<const std::string> names) {
  if (at.at != ReadPoint::At::kVersion) return absl::OkStatus();
  for (const std::string& name : names) {
    if (!MemoryLost(name, at.version)) continue;
    CloseBatches();
    return SnapshotTooOld(at.version, recovered_ + 1);
  }
  return absl::OkStatus();
}

EntryState Engine::State::StateAt(std::string_view name, Version snapshot) const {
  EntryState state;
  state.name = std::string(name);
  const Entry* entry = entries_.Find(name);
  const Versioned* versioned = entry == nullptr ? nullptr : entry->At(snapshot);
  if (versioned == nullptr) return state;
  state.value = versioned->value;
  state.version = versioned->version;
  state.kind = versioned->kind;
  state.definition = versioned->definition;
  state.written_at = versioned->at;
  return state;
}

// What was read, as it is now, up to fresh_bytes_max; of the rest the versions alone.
std::vector<EntryState> Engine::State::Fresh(const std::vector<std::string>& names) {
  std::vector<EntryState> fresh;
  fresh.reserve(names.size());
  int64_t bytes = 0;
  for (const std::string& name : names) {
    EntryState state = StateAt(name, installed_);
    bytes += kReadOverheadBytes + static_cast<int64_t>(name.size());
    const std::optional<Stored> stored = state.value.has_value() ? StoredOf(*state.value) : std::nullopt;
    bool omitted = false;
    if (stored.has_value()) {
      // Nobody waits for a container here.
      state.value = values_.Find(stored->stamp);
      omitted = !state.value.has_value();
    }
    if (state.value.has_value()) bytes += static_cast<int64_t>(state.value->edn_size());
    if (omitted || bytes > options_.fresh_bytes_max) {
      state.value = std::nullopt;
      state.value_omitted = true;
    }
    fresh.push_back(std::move(state));
  }
  return fresh;
}

// ---- Get and List

void Engine::State::Get(GetRequest request, Done<GetResult> done) {
  ++stats_.gets;
  ReadPoint at = request.at;
  Seen seen = request.seen;
  absl::Duration deadline = request.deadline;
  ResolveSnapshot(at, seen, deadline,
                  [this, request = std::move(request), done = std::move(done)](absl::StatusOr<Version> snapshot) mutable {
                    absl::Status status = snapshot.ok() ? CheckMemory(request.at, request.names) : snapshot.status();
                    if (!status.ok()) return AnswerLater<GetResult>(executor_, std::move(done), std::move(status));
                    if (store_ == nullptr) return GetAt(std::move(request), *snapshot, std::move(done));
                    std::vector<std::string> names = request.names;
                    for (const Write& write : request.pending) names.push_back(write.name);
                    absl::Duration deadline = request.deadline;
                    WhenKnown(names, {}, deadline, [this, names, request = std::move(request), snapshot = *snapshot,
                                                    done = std::move(done)](absl::Status status) mutable {
                      if (status.ok()) status = CheckKnown(request.at, names, &snapshot);
                      if (!status.ok()) return AnswerLater<GetResult>(executor_, std::move(done), std::move(status));
                      GetAt(std::move(request), snapshot, std::move(done));
                    });
                  });
}

void Engine::State::GetAt(GetRequest request, Version snapshot, Done<GetResult> done) {
  GetResult result = ReadAt(request.names, snapshot);
  std::vector<std::string> names;
  for (const Write& write : request.pending) names.push_back(write.name);
  std::vector<EntryState> bases = ReadAt(names, snapshot).entries;
  if (!AnyStored(result.entries) && !AnyStored(bases)) {
    return AnswerGet(std::move(request), std::move(result), std::move(bases), std::move(done));
  }
  // Both at once.
  const size_t read = result.entries.size();
  std::vector<EntryState> states = std::move(result.entries);
  std::move(bases.begin(), bases.end(), std::back_inserter(states));
  const absl::Duration deadline = request.deadline;
  Resolve(std::move(states), snapshot, deadline,
          [this, read, request = std::move(request), result = std::move(result),
           done = std::move(done)](absl::StatusOr<std::vector<EntryState>> states) mutable {
            if (!states.ok()) return AnswerLater<GetResult>(executor_, std::move(done), states.status());
            const auto middle = states->begin() + static_cast<ptrdiff_t>(read);
            result.entries.assign(std::make_move_iterator(states->begin()), std::make_move_iterator(middle));
            std::vector<EntryState> bases(std::make_move_iterator(middle), std::make_move_iterator(states->end()));
            AnswerGet(std::move(request), std::move(result), std::move(bases), std::move(done));
          });
}

// `bases`: the entries that request.pending writes, in their order.
void Engine::State::AnswerGet(GetRequest request, GetResult result, std::vector<EntryState> bases, Done<GetResult> done) {
  if (request.pending.empty()) return AnswerLater<GetResult>(executor_, std::move(done), std::move(result));
  WriteSet::Bounds bounds = WriteBounds(0);
  bounds.kept = WriteSet::Bounds::Kept::kAtHand;
  // Operations may be on large values: they are applied off the Loop.
  executor_->Run(Work::kAnswer, [request = std::move(request), result = std::move(result), bases = std::move(bases), bounds,
                                 done = std::move(done)]() mutable {
    absl::Status status = ApplyPending(request.pending, bases, bounds, &result);
    if (!status.ok()) return done(std::move(status));
    done(std::move(result));
  });
}

GetResult Engine::State::ReadAt(const std::vector<std::string>& names, Version snapshot) const {
  GetResult result;
  result.installed = installed_;
  result.snapshot = snapshot;
  result.entries.reserve(names.size());
  const Version shown = canaries_.read_newest ? installed_ : snapshot;
  for (const std::string& name : names) result.entries.push_back(StateAt(name, shown));
  return result;
}

void Engine::State::List(ListRequest request, Done<ListResult> done) {
  ReadPoint at = request.at;
  Seen seen = request.seen;
  absl::Duration deadline = request.deadline;
  ResolveSnapshot(at, seen, deadline,
                  [this, request = std::move(request), done = std::move(done)](absl::StatusOr<Version> snapshot) mutable {
                    absl::Status status = snapshot.ok() ? CheckMemory(request.at, {&request.prefix, 1}) : snapshot.status();
                    if (!status.ok()) return AnswerLater<ListResult>(executor_, std::move(done), std::move(status));
                    if (store_ == nullptr || IsMemory(request.prefix)) {
                      return AnswerListed(ListAt(request, *snapshot), request.deadline, std::move(done));
                    }
                    auto listing = std::make_unique<Listing>();
                    listing->after = request.after_name;
                    listing->request = std::move(request);
                    listing->done = std::move(done);
                    listing->snapshot = *snapshot;
                    ListMore(std::move(listing));
                  });
}

// Values that containers keep are asked for first.
void Engine::State::AnswerListed(absl::StatusOr<ListResult> result, absl::Duration deadline, Done<ListResult> done) {
  if (!result.ok() || !AnyStored(result->entries)) return AnswerLater<ListResult>(executor_, std::move(done), std::move(result));
  std::vector<EntryState> states = std::move(result->entries);
  const Version snapshot = result->snapshot;
  Resolve(std::move(states), snapshot, deadline,
          [this, result = *std::move(result), done = std::move(done)](absl::StatusOr<std::vector<EntryState>> states) mutable {
            if (!states.ok()) return AnswerLater<ListResult>(executor_, std::move(done), states.status());
            result.entries = *std::move(states);
            AnswerLater<ListResult>(executor_, std::move(done), std::move(result));
          });
}

absl::StatusOr<ListResult> Engine::State::ListAt(const ListRequest& request, Version snapshot) const {
  ListResult result;
  result.installed = installed_;
  result.snapshot = snapshot;
  if (request.count_only && snapshot == installed_) {
    const Directory* directory = entries_.FindDirectory(request.prefix);
    result.count = directory == nullptr ? 0 : directory->live;
    return result;
  }
  int64_t bytes = 0;
  entries_.Walk(request.prefix, request.after_name,
                [&](const Entry& entry) { return AddToPage(request, entry, snapshot, &result, &bytes); });
  return result;
}

// False: the page was full already.
bool Engine::State::AddToPage(const ListRequest& request, const Entry& entry, Version snapshot, ListResult* result,
                              int64_t* bytes) const {
  const Versioned* versioned = entry.At(snapshot);
  if (versioned == nullptr || !versioned->value.has_value()) return true;
  if (request.count_only) {
    ++result->count;
    return true;
  }
  int64_t page = request.page_size <= 0 ? options_.list_page_max : std::min(request.page_size, options_.list_page_max);
  int64_t size = kReadOverheadBytes + static_cast<int64_t>(entry.name.size());
  if (!request.names_only) {
    const std::optional<Stored> stored = StoredOf(*versioned->value);
    size += stored.has_value() ? stored->bytes : static_cast<int64_t>(versioned->value->edn_size());
  }
  bool full = static_cast<int64_t>(result->entries.size()) == page || *bytes + size > options_.list_page_bytes_max;
  if (full && !result->entries.empty()) {
    result->more = true;
    return false;
  }
  *bytes += size;
  EntryState state;
  state.name = entry.name;
  if (!request.names_only) state.value = versioned->value;
  state.value_omitted = request.names_only;
  state.version = versioned->version;
  state.kind = versioned->kind;
  state.definition = versioned->definition;
  state.written_at = versioned->at;
  result->entries.push_back(std::move(state));
  return true;
}

// ---- retry()

bool Engine::State::ChangedSince(Version snapshot, const std::vector<std::string>& reads,
                                 const std::vector<std::string>& lists) {
  for (const std::string& name : reads) {
    const Entry* entry = entries_.Find(name);
    if (entry == nullptr || entry->history.empty()) {
      if (snapshot < std::max(ids_.floor(), entries_.listing_floor()) || MemoryLost(name, snapshot)) return true;
    } else if (entry->version() > snapshot) {
      return true;
    }
  }
  for (const std::string& prefix : lists) {
    if (entries_.Listing(prefix) > snapshot || MemoryLost(prefix, snapshot)) return true;
    if (entries_.FindDirectory(prefix) == nullptr && snapshot < ids_.floor()) return true;
  }
  return false;
}

uint64_t Engine::State::AwaitChange(AwaitRequest request, Done<AwaitResult> done) {
  // Who sleeps does not come back in time: behind a queue's sleepers each put would wait out their reservations.
  if (request.reservation != 0) ReleaseReservation(request.reservation);
  absl::Status status = CheckStore(request.seen.store);
  if (status.ok() && draining_) status = NotReady("draining", absl::Milliseconds(100));
  if (status.ok() && request.reads.empty() && request.lists.empty()) {
    status = BadRequest("reads", "nothing was read: retry() would sleep for ever");
  }
  const int64_t asleep = sleepers_.size() + static_cast<int64_t>(awaits_.size());
  if (status.ok() && asleep >= options_.sleepers_max) {
    status = LimitReached("sleepers_max", options_.sleepers_max, "AwaitChange", asleep, "wait with fewer calls");
  }
  if (!status.ok()) {
    AnswerLater<AwaitResult>(executor_, std::move(done), std::move(status));
    return 0;
  }
  CameBack(request.reads, Sleepers::Back::kAsleep);
  CameBack(request.lists, Sleepers::Back::kAsleep);
  const uint64_t handle = sleepers_.NextHandle();
  if (store_ == nullptr) return Sleep(handle, std::move(request), std::move(done)) ? handle : 0;
  awaits_.emplace(handle, std::move(done));
  std::vector<std::string> names = request.reads;
  absl::Duration deadline = request.deadline;
  WhenKnown(std::move(names), {}, deadline, [this, handle, request = std::move(request)](absl::Status status) mutable {
    auto waiting = awaits_.extract(handle);
    if (waiting.empty()) return;
    if (status.ok()) {
      Sleep(handle, std::move(request), std::move(waiting.mapped()));
    } else {
      AnswerLater<AwaitResult>(executor_, std::move(waiting.mapped()), std::move(status));
    }
  });
  return handle;
}

// False: there is something else to see already, and it was told.
bool Engine::State::Sleep(uint64_t handle, AwaitRequest request, Done<AwaitResult> done) {
  if (ChangedSince(request.snapshot, request.reads, request.lists)) {
    std::vector<Sleeper> self;
    self.push_back({std::move(request), std::move(done)});
    Wake(std::move(self));
    // A memory entry that a restart took may have queued one.
    CloseBatches();
    return false;
  }
  sleepers_.Add(handle, {std::move(request), std::move(done)}, [this](std::string_view name) { return SightOf(name); });
  // One alarm for all: a timer of each would stay until its deadline, long after it woke.
  sleepers_alarm_.Set(sleepers_.NextDeadline());
  return true;
}

void Engine::State::SleptEnough() {
  for (Sleeper& sleeper : sleepers_.TakeExpired(loop_->Now())) {
    AnswerLater<AwaitResult>(executor_, std::move(sleeper.done),
                             absl::DeadlineExceededError("nothing that was read changed before the deadline"));
  }
  sleepers_alarm_.Set(sleepers_.NextDeadline());
}

Sight Engine::State::SightOf(std::string_view name) const {
  if (name.back() == '/') return {entries_.Listing(name), std::nullopt};
  const Entry* entry = entries_.Find(name);
  const Versioned* newest = entry == nullptr ? nullptr : entry->newest();
  if (newest == nullptr) return {};
  return {newest->version, newest->value};
}

// Who may have been woken by these has committed, or sleeps again.
void Engine::State::CameBack(const std::vector<std::string>& names, Sleepers::Back how) {
  std::vector<Sleeper> woken;
  for (const std::string& name : names) {
    if (sleepers_.CameBack(name, how, &woken)) WakeNextLater(name);
  }
  Wake(std::move(woken));
}

void Engine::State::CancelAwait(uint64_t handle) {
  if (auto waiting = awaits_.extract(handle); !waiting.empty()) {
    return AnswerLater<AwaitResult>(executor_, std::move(waiting.mapped()), absl::CancelledError("the wait was cancelled"));
  }
  std::optional<Sleeper> sleeper = sleepers_.Remove(handle);
  if (!sleeper.has_value()) return;
  AnswerLater<AwaitResult>(executor_, std::move(sleeper->done), absl::CancelledError("the wait was cancelled"));
}

void Engine::State::Wake(std::vector<Sleeper> sleepers) {
  for (Sleeper& sleeper : sleepers) {
    AwaitResult result;
    result.installed = installed_;
    result.snapshot = installed_;
    result.fresh = Fresh(sleeper.request.reads);
    AnswerLater<AwaitResult>(executor_, std::move(sleeper.done), std::move(result));
  }
}

void Engine::State::WakeNextLater(const std::string& name) {
  loop_->At(loop_->Now() + options_.sleepers_next_after, [this, name] {
    std::vector<Sleeper> woken;
    const bool more = sleepers_.Next(name, &woken);
    Wake(std::move(woken));
    if (more) WakeNextLater(name);
  });
}

}  // namespace stm::engine
