#include "engine/entries.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "engine/name.h"

namespace stm::engine {
namespace {

// What an entry takes beside its name and values, with its places in the indexes.
constexpr int64_t kEntryOverheadBytes = 512;

int64_t BytesOf(const Versioned& versioned) {
  return static_cast<int64_t>(sizeof(Versioned) + (versioned.value.has_value() ? versioned.value->edn_size() : 0));
}

}  // namespace

const Versioned* Entry::At(Version snapshot) const {
  size_t after = history.PartitionPoint([&](const Versioned& v) { return v.version <= snapshot; });
  return after == 0 ? nullptr : &history[after - 1];
}

Entry* Entries::Find(std::string_view name) const {
  auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : it->second.get();
}

Entry& Entries::FindOrAdd(std::string_view name) {
  if (Entry* entry = Find(name)) return *entry;
  auto entry = std::make_unique<Entry>();
  entry->name = std::string(name);
  Entry& added = *entry;
  entries_.emplace(added.name, std::move(entry));
  by_name_.emplace(added.name, &added);
  for (std::string_view directory : DirectoriesOf(name)) {
    auto it = directories_.find(directory);
    if (it == directories_.end()) it = directories_.emplace(std::string(directory), std::make_unique<Directory>()).first;
    ++it->second->entries;
  }
  if (beside_store_ && !IsMemory(name)) {
    added.cached = std::make_unique<Cached>();
    // Behind the hand: it gets there last.
    if (hand_ == nullptr) hand_ = &added;
    Entry* before = hand_ == &added ? &added : hand_->cached->previous;
    added.cached->next = hand_;
    added.cached->previous = before;
    before->cached->next = &added;
    hand_->cached->previous = &added;
    Count(&added, kEntryOverheadBytes + 2 * static_cast<int64_t>(name.size()));
  }
  return added;
}

void Entries::Remove(Entry* entry) {
  assert(!entry->live());
  assert(entry->tentative.batch == 0);
  assert(entry->cached == nullptr);
  Erase(entry);
}

void Entries::Drop(Entry* entry) {
  assert(entry->cached != nullptr);
  assert(entry->tentative.batch == 0);
  if (entry->live()) {
    --live_;
    for (std::string_view directory : DirectoriesOf(entry->name)) --FindDirectory(directory)->live;
  }
  Entry* next = entry->cached->next;
  if (hand_ == entry) hand_ = next == entry ? nullptr : next;
  next->cached->previous = entry->cached->previous;
  entry->cached->previous->cached->next = next;
  cached_bytes_ -= entry->cached->bytes;
  Erase(entry);
}

void Entries::Erase(Entry* entry) {
  for (std::string_view directory : DirectoriesOf(entry->name)) {
    auto it = directories_.find(directory);
    assert(it != directories_.end());
    Directory& above = *it->second;
    if (--above.entries > 0) continue;
    if (entry->cached != nullptr && above.listing > listing_floor_) {
      // What was created or deleted under it is still asked for.
      if (!std::exchange(above.empty_queued, true)) empty_directories_.push_back({above.listing, it->first});
      continue;
    }
    // A directory goes with its last tombstone, which is below the id floor: an older snapshot counts as changed.
    directories_.erase(it);
  }
  by_name_.erase(entry->name);
  // The key points into the entry, which must outlive the lookup.
  auto it = entries_.find(std::string_view(entry->name));
  std::unique_ptr<Entry> gone = std::move(it->second);
  entries_.erase(it);
}

void Entries::SweepDirectories(Version floor) {
  while (!empty_directories_.empty() && empty_directories_.front().first <= floor) {
    std::string name = std::move(empty_directories_.front().second);
    empty_directories_.pop_front();
    auto it = directories_.find(name);
    if (it == directories_.end()) continue;
    Directory& directory = *it->second;
    directory.empty_queued = false;
    if (directory.entries > 0) continue;
    if (directory.listing <= floor) {
      directories_.erase(it);
    } else {
      directory.empty_queued = true;
      empty_directories_.push_back({directory.listing, std::move(name)});
    }
  }
}

Directory* Entries::FindDirectory(std::string_view prefix) const {
  auto it = directories_.find(prefix);
  return it == directories_.end() ? nullptr : it->second.get();
}

Version Entries::Listing(std::string_view prefix) const {
  const Directory* directory = FindDirectory(prefix);
  return directory == nullptr ? listing_floor_ : std::max(directory->listing, listing_floor_);
}

void Entries::Install(Entry* entry, Versioned versioned, bool was) {
  assert(versioned.version > entry->version());
  const int is_more = static_cast<int>(versioned.value.has_value()) - static_cast<int>(entry->live());
  // Deleted and created in one commit counts as both.
  if (was != versioned.value.has_value() || is_more != 0) {
    live_ += is_more;
    for (std::string_view prefix : DirectoriesOf(entry->name)) {
      Directory* directory = FindDirectory(prefix);
      assert(directory != nullptr);
      if (was != versioned.value.has_value()) directory->listing = versioned.version;
      directory->live += is_more;
    }
  }
  if (entry->cached != nullptr) {
    entry->cached->used = true;
    Count(entry, BytesOf(versioned));
  }
  entry->history.push_back(std::move(versioned));
}

Entry* Entries::AddLoaded(std::string_view name, std::optional<Versioned> newest, Version known_from) {
  Entry& entry = FindOrAdd(name);
  assert(entry.cached != nullptr);
  assert(entry.history.empty());
  entry.cached->known_from = known_from;
  if (!newest.has_value()) return &entry;
  if (newest->value.has_value()) {
    ++live_;
    for (std::string_view prefix : DirectoriesOf(name)) ++FindDirectory(prefix)->live;
  }
  Count(&entry, BytesOf(*newest));
  entry.history.push_back(*std::move(newest));
  return &entry;
}

void Entries::TrimHistory(Entry* entry, Version version) {
  while (entry->history.size() > 1 && entry->history.front().version < version) {
    if (entry->cached != nullptr) Count(entry, -BytesOf(entry->history.front()));
    entry->history.pop_front();
  }
}

}  // namespace stm::engine
