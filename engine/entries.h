// Entries holds every entry with its history, and every directory with its listing version. Lives on the Loop; no locks.
// Always: an entry's versions only grow; the newest at or below the history mark and all above it are kept; a read at
// snapshot S sees the newest version <= S; a tombstone is kept until it is swept. Beside an EntryStore an entry that is not
// here is not known, and one without history is known to be absent; only those under "/.memory/" are as ever.
#ifndef STM_ENGINE_ENTRIES_H_
#define STM_ENGINE_ENTRIES_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "engine/ring.h"
#include "engine/transaction.h"

namespace stm::engine {

// One version of an entry.
struct Versioned {
  Version version = 0;
  std::optional<Value> value;  // nullopt: a tombstone
  EntryKind kind = EntryKind::kRef;
  Instant at;
  std::shared_ptr<const Definition> definition;  // null: defaults
  std::shared_ptr<const Meta> by;
};

// What an entry will be once the batches that are being appended are installed.
struct Tentative {
  uint64_t batch = 0;  // the newest that touches it; 0: none does
  std::optional<Value> value;
  EntryKind kind = EntryKind::kRef;
  std::shared_ptr<const Definition> definition;
};

struct Entry;

// What an entry that an EntryStore holds has more: it can be dropped here, and loaded again.
struct Cached {
  Version known_from = 0;  // what it was at an earlier snapshot is not known
  int64_t bytes = 0;       // of its history, its name and itself
  int64_t pins = 0;        // transactions that wait with it, or are being appended: it stays
  bool used = false;       // since it came, or the hand was here
  bool by_other = false;   // its newest version is another daemon's
  Entry* next = nullptr;   // the circle that the hand goes round
  Entry* previous = nullptr;
};

struct Entry {
  std::string name;
  Ring<Versioned> history;  // oldest first; empty: only tentative so far, or known to be absent
  Tentative tentative;
  std::unique_ptr<Cached> cached;  // null: no store holds it
  // Of an entry with a TTL, on Loop::Now()'s clock; and when it is to be looked at, which is not later.
  absl::Duration expires = absl::InfiniteDuration();
  absl::Duration expiry_queued = absl::InfiniteDuration();

  const Versioned* newest() const { return history.empty() ? nullptr : &history.back(); }
  Version version() const { return history.empty() ? 0 : history.back().version; }
  bool live() const { return !history.empty() && history.back().value.has_value(); }
  // Null: it had no version at or below `snapshot`, or none is kept.
  const Versioned* At(Version snapshot) const;
  // Is what At says what it was? Not if it came to be known by a later version.
  bool KnownAt(Version snapshot) const {
    return cached == nullptr || snapshot >= cached->known_from || At(snapshot) != nullptr;
  }
};

struct Directory {
  Version listing = 0;  // the newest create or delete under it
  uint64_t tentative_batch = 0;
  int64_t entries = 0;  // in `Entries`, tombstones included
  int64_t live = 0;
  bool empty_queued = false;
};

class Entries {
 public:
  // Beside a store entries can be dropped, and directories outlive their entries.
  explicit Entries(bool beside_store) : beside_store_(beside_store) {}

  // Null: never written, or swept; beside a store: not known.
  Entry* Find(std::string_view name) const;
  Entry& FindOrAdd(std::string_view name);
  // Forgets an entry that has no history or a tombstone alone.
  void Remove(Entry* entry);

  // A prefix's directory; null: nothing was ever under it, or all was swept.
  Directory* FindDirectory(std::string_view prefix) const;
  // The newest create or delete under `prefix`: at least listing_floor().
  Version Listing(std::string_view prefix) const;
  Version listing_floor() const { return listing_floor_; }
  void set_listing_floor(Version floor) { listing_floor_ = floor; }

  // Adds a version that is newer than all, and keeps listings and counts. `was`: there was something before; as live(), if
  // the entry was known.
  void Install(Entry* entry, Versioned versioned, bool was);

  // An entry that was not known, as a store has it: nullopt: absent. Nothing of it was listed anew.
  Entry* AddLoaded(std::string_view name, std::optional<Versioned> newest, Version known_from);
  // Drops an entry that a store holds and nobody points at.
  void Drop(Entry* entry);
  // The next entry that was not used since it was last looked at and `may` go; null: there was none in *steps, which is
  // counted down.
  template <typename May>
  Entry* NextToDrop(int64_t* steps, May may) {
    while (hand_ != nullptr && (*steps)-- > 0) {
      Entry* entry = hand_;
      hand_ = entry->cached->next;
      if (std::exchange(entry->cached->used, false)) continue;
      if (may(*entry)) return entry;
    }
    return nullptr;
  }
  // Of the entries that a store holds.
  int64_t cached_bytes() const { return cached_bytes_; }
  // Forgets directories without entries: a snapshot below `floor` counts as changed.
  void SweepDirectories(Version floor);

  // Drops versions that `version` of this entry superseded.
  void TrimHistory(Entry* entry, Version version);

  // In byte order of names, beginning after `after`; those under `prefix` alone. Stops when visit returns false.
  template <typename Visit>
  void Walk(std::string_view prefix, std::string_view after, Visit visit) const {
    auto it = after.empty() ? by_name_.lower_bound(prefix) : by_name_.upper_bound(std::max(after, prefix));
    for (; it != by_name_.end(); ++it) {
      if (prefix == "/" && it->first.compare(0, 2, "/.") == 0) {
        // "/" is not over the system's names, which all lie before "//".
        it = by_name_.lower_bound("//");
        if (it == by_name_.end()) return;
      }
      if (it->first.compare(0, prefix.size(), prefix) != 0) return;
      if (!visit(*it->second)) return;
    }
  }

  int64_t live() const { return live_; }
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }

 private:
  // std::string_view is hashed as absl's: Debian's Abseil keeps the two apart.
  struct Hash {
    size_t operator()(std::string_view s) const { return absl::Hash<absl::string_view>()({s.data(), s.size()}); }
  };

  void Count(Entry* entry, int64_t bytes) {
    entry->cached->bytes += bytes;
    cached_bytes_ += bytes;
  }
  void Erase(Entry* entry);

  const bool beside_store_;
  absl::flat_hash_map<std::string_view, std::unique_ptr<Entry>, Hash> entries_;  // keys point into the entries
  absl::btree_map<std::string_view, Entry*> by_name_;
  struct StringHash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return Hash()(s); }
  };
  struct StringEqual {
    using is_transparent = void;
    bool operator()(std::string_view a, std::string_view b) const { return a == b; }
  };
  // Their addresses stay: batches under way point at them.
  absl::flat_hash_map<std::string, std::unique_ptr<Directory>, StringHash, StringEqual> directories_;
  Version listing_floor_ = 0;
  int64_t live_ = 0;

  Entry* hand_ = nullptr;  // null: a store holds none of them
  int64_t cached_bytes_ = 0;
  // Directories whose last entry was dropped, each once, with their listing then.
  Ring<std::pair<Version, std::string>> empty_directories_;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_ENTRIES_H_
