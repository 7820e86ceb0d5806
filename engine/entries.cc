#include "engine/entries.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "engine/name.h"

namespace stm::engine {

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
  return added;
}

void Entries::Remove(Entry* entry) {
  assert(!entry->live());
  assert(entry->tentative.batch == 0);
  for (std::string_view directory : DirectoriesOf(entry->name)) {
    auto it = directories_.find(directory);
    assert(it != directories_.end());
    // A directory goes with its last tombstone, which is below the id floor: an older snapshot counts as changed.
    if (--it->second->entries == 0) directories_.erase(it);
  }
  by_name_.erase(entry->name);
  // The key points into the entry, which must outlive the lookup.
  auto it = entries_.find(std::string_view(entry->name));
  std::unique_ptr<Entry> gone = std::move(it->second);
  entries_.erase(it);
}

Directory* Entries::FindDirectory(std::string_view prefix) const {
  auto it = directories_.find(prefix);
  return it == directories_.end() ? nullptr : it->second.get();
}

Version Entries::Listing(std::string_view prefix) const {
  const Directory* directory = FindDirectory(prefix);
  return directory == nullptr ? listing_floor_ : std::max(directory->listing, listing_floor_);
}

void Entries::Install(Entry* entry, Versioned versioned) {
  assert(versioned.version > entry->version());
  bool was = entry->live();
  bool is = versioned.value.has_value();
  // Deleted and created in one commit counts as both.
  if (was != is) {
    live_ += is - was;
    for (std::string_view prefix : DirectoriesOf(entry->name)) {
      Directory* directory = FindDirectory(prefix);
      assert(directory != nullptr);
      directory->listing = versioned.version;
      directory->live += is - was;
    }
  }
  entry->history.push_back(std::move(versioned));
}

void Entries::TrimHistory(Entry* entry, Version version) {
  while (entry->history.size() > 1 && entry->history.front().version < version) entry->history.pop_front();
}

}  // namespace stm::engine
