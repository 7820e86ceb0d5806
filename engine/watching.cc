// Watches: from a version or from the entries as they are, then live. What was asked for is given from history at the
// reader's pace; a watch that history no longer reaches ends with a gap.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/name.h"
#include "engine/state.h"

namespace stm::engine {
namespace {

// At most this much in one task of the Loop.
constexpr size_t kFeedCommits = 256;
constexpr size_t kFeedEntries = 256;
// A reader without room is looked at again after this.
constexpr absl::Duration kFeedAgainAfter = absl::Milliseconds(5);

// Canary newest_before_on_resume.
std::shared_ptr<const InstalledCommit> WithNewestBefore(const InstalledCommit& commit) {
  auto wrong = std::make_shared<InstalledCommit>(commit);
  for (size_t i = 0; i < wrong->changes.size(); ++i) {
    const Versioned* newest = wrong->changes[i].entry->newest();
    wrong->before[i] = newest == nullptr ? std::nullopt : newest->value;
  }
  return wrong;
}

// Was it given by the selector's names (the first of `parts`) or a prefix before?
bool GivenBefore(const Selector& selector, std::string_view name, size_t parts) {
  if (parts > 0 && std::binary_search(selector.names.begin(), selector.names.end(), name)) return true;
  for (size_t i = 0; i + 1 < parts; ++i) {
    if (UnderPrefix(name, selector.prefixes[i])) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<uint64_t> Engine::State::Watch(WatchRequest request, std::shared_ptr<WatchSink> sink) {
  if (!ready_) return NotReady(not_ready_because_, absl::Milliseconds(100));
  if (draining_) return NotReady("draining", absl::Milliseconds(100));
  if (!request.own && watches_.size() >= options_.watches_max) {
    return LimitReached("watches_max", options_.watches_max, "the daemon", watches_.size(), "watch with fewer streams");
  }
  std::shared_ptr<ResolvingSink> resolving;
  if (containers_ != nullptr && !request.own) {
    resolving = std::make_shared<ResolvingSink>(loop_, &values_, std::move(sink), [this] { return installed_; });
    sink = resolving;
  }
  Watcher& watcher = watches_.Add(std::move(request), std::move(sink));
  watcher.resolving = std::move(resolving);
  uint64_t handle = watcher.handle;
  Version wanted = std::max(watcher.request.after, watcher.request.seen.version);
  bool other_store = watcher.request.seen.store != 0 && watcher.request.seen.store != writers_->store();
  if (!other_store && wanted > installed_ && watcher.request.after <= watcher.request.seen.version) {
    // Its client knows more than this daemon yet does.
    WhenInstalled(wanted, absl::InfiniteDuration(), [this, handle](absl::Status) {
      loop_->Post([this, handle] { Feed(handle); });
    });
  } else {
    loop_->Post([this, handle] { Feed(handle); });
  }
  ProgressLater(handle, watcher.request.progress_every);
  return handle;
}

void Engine::State::Unwatch(uint64_t handle) {
  Watcher* watcher = watches_.Find(handle);
  if (watcher == nullptr) return;
  if (watcher->resolving != nullptr) watcher->resolving->Stop();
  watches_.Remove(handle);
}

// Gives a watch what it lacks, until it is live, its reader has no room, or it has had its share of this task.
void Engine::State::Feed(uint64_t handle) {
  Watcher* watcher = watches_.Find(handle);
  if (watcher == nullptr || watcher->phase == Watcher::Phase::kLive || watcher->loading) return;
  auto gap = [&](std::string reason) {
    std::shared_ptr<WatchSink> sink = watcher->sink;
    watches_.Remove(handle);
    sink->OnGap(installed_, std::move(reason));
  };

  if (!watcher->begun) {
    watcher->begun = true;
    const WatchRequest& request = watcher->request;
    if (request.seen.store != 0 && request.seen.store != writers_->store()) {
      return gap("the store changed: its versions are others");
    }
    if (request.after > installed_) {
      return gap(absl::StrCat("version ", request.after, " is no more: the newest is ", installed_));
    }
    if (SelectsLostMemory(request)) {
      return gap("the daemon started anew: what was under \"/.memory/\" went with its last life");
    }
    if (request.initial) {
      watcher->phase = Watcher::Phase::kInitial;
      watcher->synced = installed_;
      watcher->names = watcher->request.selector.names;
      watcher->last_names = true;
    } else {
      watcher->delivered = request.after == 0 ? installed_ : request.after;
      if (watcher->delivered >= history_mark_) watcher->sink->OnSynced(watcher->delivered);
    }
  }

  if (watcher->phase == Watcher::Phase::kInitial) {
    if (watcher->synced < ListedFrom()) return gap("the history moved past the initial entries before they were read");
    absl::StatusOr<bool> all = store_ == nullptr ? FeedInitial(*watcher) : FeedInitialFromStore(*watcher);
    if (!all.ok()) return gap(std::string(all.status().message()));
    if (!*all) return watcher->loading ? void() : FeedLater(handle, watcher->sink->Room() > 0);
    watcher->sink->OnSynced(watcher->synced);
    watcher->delivered = watcher->synced;
    watcher->phase = Watcher::Phase::kCatchUp;
  }

  if (watcher->delivered < history_mark_) {
    return gap(absl::StrCat("version ", watcher->delivered, " is older than the history kept (from ", history_mark_, ")"));
  }
  size_t place = history_.PartitionPoint([&](const Remembered& r) { return r.commit->version <= watcher->delivered; });
  if (canaries_.lose_event_on_resume && place < history_.size()) ++place;
  for (size_t given = 0; place < history_.size(); ++place, ++given) {
    if (given == kFeedCommits || watcher->sink->Room() == 0) return FeedLater(handle, given == kFeedCommits);
    const auto& commit = history_[place].commit;
    watcher->delivered = commit->version;
    auto event = Watches::Select(watcher->request.selector,
                                 canaries_.newest_before_on_resume ? WithNewestBefore(*commit) : commit);
    if (event == nullptr) continue;
    watcher->told = true;
    ++stats_.watch_events;
    if (!watcher->sink->OnCommit(std::move(event))) {
      ++stats_.watches_cut;
      return watches_.Remove(handle);
    }
  }
  watcher->phase = Watcher::Phase::kLive;
}

// Would a watch that resumes be told nothing of memory entries that a start took?
bool Engine::State::SelectsLostMemory(const WatchRequest& request) {
  if (request.after == 0 || request.initial) return false;
  const auto lost = [&](const std::string& name) { return MemoryLost(name, request.after); };
  const Selector& selector = request.selector;
  const bool any = std::any_of(selector.names.begin(), selector.names.end(), lost) ||
                   std::any_of(selector.prefixes.begin(), selector.prefixes.end(), lost);
  if (any) CloseBatches();
  return any;
}

// The entries as they were at `synced`, some at a time: names first, then prefix by prefix, each entry once. True: all
// were given.
bool Engine::State::FeedInitial(Watcher& watcher) {
  const Selector& selector = watcher.request.selector;
  size_t room = std::min(kFeedEntries, watcher.sink->Room());
  std::vector<EntryState> entries;
  size_t parts = selector.names.size() + selector.prefixes.size();
  size_t looked = 0;
  while (watcher.selection < parts && entries.size() < room && looked < kFeedEntries) {
    if (watcher.selection < selector.names.size()) {
      EntryState state = StateAt(selector.names[watcher.selection++], watcher.synced);
      ++looked;
      if (state.value.has_value()) entries.push_back(std::move(state));
      continue;
    }
    size_t prefix = watcher.selection - selector.names.size();
    bool done = true;
    entries_.Walk(selector.prefixes[prefix], watcher.after_name, [&](const Entry& entry) {
      if (entries.size() == room || looked == kFeedEntries) return done = false;
      ++looked;
      watcher.after_name = entry.name;
      const Versioned* versioned = entry.At(watcher.synced);
      if (versioned == nullptr || !versioned->value.has_value() || GivenBefore(selector, entry.name, prefix + 1)) return true;
      entries.push_back(StateAt(entry.name, watcher.synced));
      return true;
    });
    if (!done) break;
    ++watcher.selection;
    watcher.after_name.clear();
  }
  if (!entries.empty()) {
    watcher.told = true;
    watcher.sink->OnInitial(std::move(entries));
  }
  return watcher.selection == parts;
}

// The same beside a store: the selector's names, then each prefix's as the store lists them, are loaded and given.
// OUT_OF_RANGE: one was changed by another daemon since `synced`, and was not known before.
absl::StatusOr<bool> Engine::State::FeedInitialFromStore(Watcher& watcher) {
  if (!watcher.failed.ok()) return watcher.failed;
  const uint64_t handle = watcher.handle;
  const Selector& selector = watcher.request.selector;
  const size_t room = watcher.sink->Room();
  // `selection` counts the names as one, then the prefixes.
  while (watcher.selection <= selector.prefixes.size()) {
    if (!watcher.names.empty()) {
      const bool known = std::all_of(watcher.names.begin(), watcher.names.end(), [this](const auto& name) { return Known(name); });
      if (!known) {
        watcher.loading = true;
        WhenKnown(watcher.names, {}, absl::InfiniteDuration(), [this, handle](absl::Status status) {
          Watcher* waiting = watches_.Find(handle);
          if (waiting == nullptr) return;
          waiting->loading = false;
          waiting->failed = std::move(status);
          // At once: they are known now.
          Feed(handle);
        });
        return false;
      }
      std::vector<EntryState> entries;
      size_t looked = 0;
      for (; looked < watcher.names.size() && entries.size() < room; ++looked) {
        const std::string& name = watcher.names[looked];
        const Entry* entry = entries_.Find(name);
        if (entry == nullptr) continue;  // a memory entry that is not there
        if (!entry->KnownAt(watcher.synced)) return SnapshotTooOld(watcher.synced, entry->cached->known_from);
        if (GivenBefore(selector, name, watcher.selection)) continue;
        EntryState state = StateAt(name, watcher.synced);
        if (state.value.has_value()) entries.push_back(std::move(state));
      }
      watcher.names.erase(watcher.names.begin(), watcher.names.begin() + static_cast<ptrdiff_t>(looked));
      if (!entries.empty()) {
        watcher.told = true;
        watcher.sink->OnInitial(std::move(entries));
      }
      // The rest in another task.
      return watcher.names.empty() && watcher.last_names && watcher.selection == selector.prefixes.size();
    }
    if (watcher.last_names) {
      ++watcher.selection;
      watcher.after_name.clear();
      watcher.last_names = false;
      continue;
    }
    const std::string& prefix = selector.prefixes[watcher.selection - 1];
    if (IsMemory(prefix)) {
      entries_.Walk(prefix, "", [&](const Entry& entry) {
        watcher.names.push_back(entry.name);
        return true;
      });
      watcher.last_names = true;
      continue;
    }
    watcher.loading = true;
    store_->List(prefix, watcher.after_name, kNamesAtOnce,
                 [this, handle, prefix](absl::StatusOr<std::vector<std::string>> names) {
                   Watcher* waiting = watches_.Find(handle);
                   if (waiting == nullptr) return;
                   waiting->loading = false;
                   waiting->failed = names.status();
                   if (names.ok()) {
                     waiting->last_names = names->size() < kNamesAtOnce;
                     if (!names->empty()) waiting->after_name = names->back();
                     for (std::string& name : *names) {
                       if (UnderPrefix(name, prefix)) waiting->names.push_back(std::move(name));
                     }
                   }
                   loop_->Post([this, handle] { Feed(handle); });
                 });
    return false;
  }
  return true;
}

void Engine::State::FeedLater(uint64_t handle, bool has_room) {
  auto feed = [this, handle] { Feed(handle); };
  if (has_room) {
    loop_->Post(feed);
  } else {
    loop_->At(loop_->Now() + kFeedAgainAfter, feed);
  }
}

void Engine::State::ProgressLater(uint64_t handle, absl::Duration every) {
  loop_->At(loop_->Now() + every, [this, handle, every] {
    Watcher* watcher = watches_.Find(handle);
    if (watcher == nullptr) return;
    if (watcher->phase == Watcher::Phase::kLive && !watcher->told) {
      watcher->delivered = installed_;
      watcher->sink->OnProgress(installed_);
    }
    watcher->told = false;
    ProgressLater(handle, every);
  });
}

}  // namespace stm::engine
