#include "engine/values/map.h"

#include <algorithm>
#include <cassert>
#include <new>

#include "absl/hash/hash.h"
#include "engine/values/hash.h"
#include "engine/values/value_access.h"

namespace stm {
namespace {

// Up to so many entries are one array, searched from its front: no hashing, one allocation.
constexpr size_t kArrayMax = 16;
// Fewer than these, and a trie becomes an array again. Far from kArrayMax, so that a map does not swing.
constexpr size_t kArrayAgain = 8;

constexpr size_t kNowhere = static_cast<size_t>(-1);
constexpr int kBits = 5;
constexpr int kHashBits = 32;  // of a hash, in a slot and on the way down

// Of this process: a value's own hash is known to everyone, and 32 bits of it are soon matched.
uint32_t TrieHash(const Value& key) {
  const uint64_t hash = absl::Hash<uint64_t>()(key.hash());
  return static_cast<uint32_t>(hash ^ (hash >> 32));
}

// A slot of a key: its hash above, its entry's place below.
uint64_t Slot(uint32_t hash, size_t place) {
  assert(place <= 0xFFFFFFFFu);  // such a map would not fit into memory
  return uint64_t{hash} << 32 | place;
}
uint32_t SlotHash(uint64_t slot) { return static_cast<uint32_t>(slot >> 32); }
size_t SlotPlace(uint64_t slot) { return static_cast<uint32_t>(slot); }

// Keys' slots, then kids; two bitmaps say whose. (Steindorfer and Vinju, "Optimizing Hash-Array Mapped
// Tries".) Below the last bits of the hash: only slots, all of one hash.
struct Trie : Value::Node {
  uint32_t keys = 0;  // bitmap; at the bottom: the number of slots
  uint32_t kids = 0;  // bitmap
  uint32_t spare = 0;

  static constexpr size_t kHead = 16;
  uint64_t* slots() { return reinterpret_cast<uint64_t*>(reinterpret_cast<char*>(this) + kHead); }
  const uint64_t* slots() const { return const_cast<Trie*>(this)->slots(); }
  size_t key_count(int shift) const {
    return shift >= kHashBits ? keys : static_cast<size_t>(__builtin_popcount(keys));
  }
  size_t kid_count() const { return static_cast<size_t>(__builtin_popcount(kids)); }
  Trie* kid(size_t i) const { return reinterpret_cast<Trie*>(static_cast<uintptr_t>(slots()[i])); }

  static Trie* New(size_t slots) { return new (::operator new(kHead + slots * sizeof(uint64_t))) Trie; }
};
static_assert(sizeof(Trie) == Trie::kHead);

uint64_t KidSlot(Trie* kid) { return reinterpret_cast<uintptr_t>(kid); }
uint32_t BitOf(uint32_t hash, int shift) { return 1u << ((hash >> shift) & 31); }
size_t IndexOf(uint32_t bitmap, uint32_t bit) {
  return static_cast<size_t>(__builtin_popcount(bitmap & (bit - 1)));
}

void DropNode(const Trie* node, int shift) {
  if (node == nullptr || !node->Drop()) return;
  const size_t keys = node->key_count(shift);
  for (size_t i = keys; i < keys + node->kid_count(); ++i) DropNode(node->kid(i), shift + kBits);
  ::operator delete(const_cast<Trie*>(node));
}

// Copies `node` without `removed` slots at `at` and with `added` free ones there; takes it over. Kids are
// shared; they move when only we hold the node.
Trie* Reshape(Trie* node, int shift, size_t at, size_t removed, size_t added) {
  const size_t keys = node->key_count(shift);
  const size_t slots = keys + node->kid_count();
  Trie* copy = Trie::New(slots - removed + added);
  copy->keys = node->keys;
  copy->kids = node->kids;
  std::copy(node->slots(), node->slots() + at, copy->slots());
  std::copy(node->slots() + at + removed, node->slots() + slots, copy->slots() + at + added);
  if (node->sole()) {
    // A removed kid must have been taken by the caller.
    ::operator delete(node);
    return copy;
  }
  for (size_t i = keys; i < slots; ++i) {
    if (i < at || i >= at + removed) node->kid(i)->Ref();
  }
  DropNode(node, shift);
  return copy;
}

Trie* Own(Trie* node, int shift) { return node->sole() ? node : Reshape(node, shift, 0, 0, 0); }

// A node of two keys whose slots are alike above `shift`.
Trie* Pair(uint64_t a, uint64_t b, int shift) {
  if (shift >= kHashBits) {
    Trie* node = Trie::New(2);
    node->keys = 2;
    node->slots()[0] = a;
    node->slots()[1] = b;
    return node;
  }
  const uint32_t bit_a = BitOf(SlotHash(a), shift);
  const uint32_t bit_b = BitOf(SlotHash(b), shift);
  if (bit_a == bit_b) {
    Trie* node = Trie::New(1);
    node->kids = bit_a;
    node->slots()[0] = KidSlot(Pair(a, b, shift + kBits));
    return node;
  }
  Trie* node = Trie::New(2);
  node->keys = bit_a | bit_b;
  node->slots()[0] = bit_a < bit_b ? a : b;
  node->slots()[1] = bit_a < bit_b ? b : a;
  return node;
}

// Adds a key that is not there. Takes `node` over.
Trie* Insert(Trie* node, uint64_t slot, int shift) {
  if (shift >= kHashBits) {
    node = Reshape(node, shift, node->keys, 0, 1);
    node->slots()[node->keys++] = slot;
    return node;
  }
  const uint32_t bit = BitOf(SlotHash(slot), shift);
  if (node->kids & bit) {
    node = Own(node, shift);
    const size_t i = node->key_count(shift) + IndexOf(node->kids, bit);
    node->slots()[i] = KidSlot(Insert(node->kid(i), slot, shift + kBits));
    return node;
  }
  if (node->keys & bit) {  // two keys here: both go one down
    const size_t from = IndexOf(node->keys, bit);
    const uint64_t other = node->slots()[from];
    node = Own(node, shift);
    const size_t keys = node->key_count(shift);
    const size_t to = keys - 1 + IndexOf(node->kids, bit);  // keys move one to the left up to it
    std::copy(node->slots() + from + 1, node->slots() + to + 1, node->slots() + from);
    node->slots()[to] = KidSlot(Pair(other, slot, shift + kBits));
    node->keys &= ~bit;
    node->kids |= bit;
    return node;
  }
  const size_t at = IndexOf(node->keys, bit);
  node = Reshape(node, shift, at, 0, 1);
  node->slots()[at] = slot;
  node->keys |= bit;
  return node;
}

// Removes the key of `place`, which is there. Takes `node` over; null: nothing is left of it.
Trie* Remove(Trie* node, uint32_t hash, size_t place, int shift) {
  if (shift >= kHashBits) {
    if (node->keys == 1) {
      DropNode(node, shift);
      return nullptr;
    }
    size_t at = 0;
    while (SlotPlace(node->slots()[at]) != place) ++at;
    node = Reshape(node, shift, at, 1, 0);
    --node->keys;
    return node;
  }
  const uint32_t bit = BitOf(hash, shift);
  if (node->keys & bit) {
    if (node->kids == 0 && node->keys == bit) {
      DropNode(node, shift);
      return nullptr;
    }
    node = Reshape(node, shift, IndexOf(node->keys, bit), 1, 0);
    node->keys &= ~bit;
    return node;
  }
  node = Own(node, shift);
  const size_t i = node->key_count(shift) + IndexOf(node->kids, bit);
  Trie* kid = Remove(node->kid(i), hash, place, shift + kBits);
  if (kid != nullptr) {
    node->slots()[i] = KidSlot(kid);
    return node;
  }
  if (node->keys == 0 && node->kids == bit) {
    node->kids = 0;  // its only kid is gone already
    DropNode(node, shift);
    return nullptr;
  }
  node = Reshape(node, shift, i, 1, 0);
  node->kids &= ~bit;
  return node;
}

// The place whose key equals `key`. key_at(place) gives the key there.
template <typename KeyAt>
size_t FindPlace(const Trie* node, const Value& key, uint32_t hash, const KeyAt& key_at) {
  for (int shift = 0; node != nullptr; shift += kBits) {
    if (shift >= kHashBits) {
      for (size_t i = 0; i < node->keys; ++i) {
        const size_t place = SlotPlace(node->slots()[i]);
        if (key_at(place) == key) return place;
      }
      return kNowhere;
    }
    const uint32_t bit = BitOf(hash, shift);
    if (node->keys & bit) {
      const uint64_t slot = node->slots()[IndexOf(node->keys, bit)];
      if (SlotHash(slot) != hash || !(key_at(SlotPlace(slot)) == key)) return kNowhere;
      return SlotPlace(slot);
    }
    if ((node->kids & bit) == 0) return kNowhere;
    node = node->kid(node->key_count(shift) + IndexOf(node->kids, bit));
  }
  return kNowhere;
}

uint64_t EntryHash(const Value& key, const Value& value) { return MixHash(key.hash(), value.hash()); }

}  // namespace

// An array of entries when there is no trie; else `sequence` holds key, value, key, value, with holes where
// entries were removed, and a place is an entry's index in it.
struct Map::Rep : Value::Node {
  int depth = 0;
  size_t count = 0;  // of entries, holes not counted
  size_t edn_size = 0;
  mutable std::atomic<uint64_t> hash{0};
  Trie* trie = nullptr;
  Vector sequence;
  size_t holes = 0;
  Map self;      // uncounted
  Set self_set;  // uncounted

  Rep() {
    self.rep_ = this;
    ValueAccess::SetUncounted(&self_set, this);
  }
  ~Rep() {
    self.rep_ = nullptr;
    ValueAccess::SetUncounted(&self_set, nullptr);
    DropNode(trie, 0);
  }

  static constexpr size_t Head() {
    return (sizeof(Rep) + alignof(Value) - 1) / alignof(Value) * alignof(Value);
  }
  Value* array() { return reinterpret_cast<Value*>(reinterpret_cast<char*>(this) + Head()); }
  const Value* array() const { return const_cast<Rep*>(this)->array(); }
  static Rep* New(size_t array_entries) {
    return new (::operator new(Head() + array_entries * 2 * sizeof(Value))) Rep;
  }

  size_t Find(const Value& key) const {
    if (trie == nullptr) {
      for (size_t i = 0; i < count; ++i) {
        if (array()[2 * i] == key) return i;
      }
      return kNowhere;
    }
    return FindPlace(trie, key, TrieHash(key),
                     [this](size_t place) -> const Value& { return sequence.at(2 * place); });
  }
  const Value& ValueAt(size_t place) const {
    return trie == nullptr ? array()[2 * place + 1] : sequence.at(2 * place + 1);
  }
  const Value& KeyAt(size_t place) const {
    return trie == nullptr ? array()[2 * place] : sequence.at(2 * place);
  }

  void Count(const Value* alternating) {
    for (size_t i = 0; i < 2 * count; ++i) {
      edn_size += alternating[i].edn_size();
      depth = std::max(depth, alternating[i].depth());
    }
  }
};

namespace {

using Rep = Map::Rep;

// `count` > 0 entries with distinct keys; moved. `trie` (null: none was made) is taken over.
const Rep* Build(Value* alternating, size_t count, Trie* trie) {
  assert((trie != nullptr) == (count > kArrayMax));
  Rep* rep = Rep::New(trie == nullptr ? count : 0);
  rep->count = count;
  rep->Count(alternating);
  if (trie == nullptr) {
    for (size_t i = 0; i < 2 * count; ++i) new (rep->array() + i) Value(std::move(alternating[i]));
  } else {
    rep->trie = trie;
    rep->sequence = Vector::Take(alternating, 2 * count);
  }
  return rep;
}

// Looks at entries one after the other; seen(place of the equal one) says what becomes of a second one.
// Returns false when `seen` does. Entries that stay are moved together; `count` and `trie` become theirs.
template <typename Seen>
bool Distinguish(Value* alternating, size_t* count, Trie** trie, const Seen& seen) {
  *trie = nullptr;
  size_t kept = 0;
  const bool small = *count <= kArrayMax;
  for (size_t i = 0; i < *count; ++i) {
    const Value& key = alternating[2 * i];
    size_t place = kNowhere;
    uint32_t hash = 0;
    if (small) {
      for (size_t j = 0; j < kept && place == kNowhere; ++j) {
        if (alternating[2 * j] == key) place = j;
      }
    } else {
      hash = TrieHash(key);
      place = FindPlace(*trie, key, hash,
                        [alternating](size_t at) -> const Value& { return alternating[2 * at]; });
    }
    if (place != kNowhere) {
      if (seen(place, i)) continue;
      DropNode(*trie, 0);
      return false;
    }
    if (!small) *trie = Insert(*trie == nullptr ? Trie::New(0) : *trie, Slot(hash, kept), 0);
    if (kept != i) {
      alternating[2 * kept] = std::move(alternating[2 * i]);
      alternating[2 * kept + 1] = std::move(alternating[2 * i + 1]);
    }
    ++kept;
  }
  if (kept <= kArrayMax && *trie != nullptr) {
    DropNode(*trie, 0);
    *trie = nullptr;
  }
  *count = kept;
  return true;
}

// The live entries in order, copied: for building anew.
std::vector<Value> Alternating(const Map& map, size_t spare) {
  std::vector<Value> all;
  all.reserve(2 * (map.size() + spare));
  for (const auto [key, value] : map) {
    all.push_back(key);
    all.push_back(value);
  }
  return all;
}

const Rep* Rebuild(std::vector<Value> alternating) {
  size_t count = alternating.size() / 2;
  Trie* trie = nullptr;
  Distinguish(alternating.data(), &count, &trie, [](size_t, size_t) { return true; });
  return Build(alternating.data(), count, trie);
}

}  // namespace

void ValueAccess::Free(const Map::Rep* rep) {
  if (rep->trie == nullptr) {
    for (size_t i = 0; i < 2 * rep->count; ++i) rep->array()[i].~Value();
  }
  rep->~Rep();
  ::operator delete(const_cast<Map::Rep*>(rep));
}
const Value::Node* ValueAccess::NodeOf(const Map::Rep* rep) { return rep; }
const Map& ValueAccess::MapOf(const Value::Node* node) { return static_cast<const Map::Rep*>(node)->self; }
const Set& ValueAccess::SetOf(const Value::Node* node) {
  return static_cast<const Map::Rep*>(node)->self_set;
}
int ValueAccess::DepthOfMap(const Value::Node* node) { return static_cast<const Map::Rep*>(node)->depth; }

Map::Map(std::vector<std::pair<Value, Value>> entries) {
  if (entries.empty()) return;
  std::vector<Value> alternating;
  alternating.reserve(2 * entries.size());
  for (auto& [key, value] : entries) {
    alternating.push_back(std::move(key));
    alternating.push_back(std::move(value));
  }
  size_t count = entries.size();
  Trie* trie = nullptr;
  Distinguish(alternating.data(), &count, &trie, [&](size_t place, size_t i) {
    alternating[2 * place + 1] = std::move(alternating[2 * i + 1]);
    return true;
  });
  rep_ = Build(alternating.data(), count, trie);
}

size_t Map::TakeDistinct(Value* alternating, size_t count, Map* map) {
  size_t bad = kDistinct;
  Trie* trie = nullptr;
  if (!Distinguish(alternating, &count, &trie, [&](size_t, size_t i) {
        bad = i;
        return false;
      })) {
    return bad;
  }
  *map = count == 0 ? Map() : Map(Build(alternating, count, trie));
  return kDistinct;
}

Map::Map(const Map& other) : rep_(other.rep_) {
  if (rep_ != nullptr) rep_->Ref();
}
Map& Map::operator=(const Map& other) {
  Map copy(other);
  std::swap(rep_, copy.rep_);
  return *this;
}
Map& Map::operator=(Map&& other) noexcept {
  Map taken(std::move(other));
  std::swap(rep_, taken.rep_);
  return *this;
}
Map::~Map() {
  if (rep_ != nullptr && rep_->Drop()) ValueAccess::Free(rep_);
}

size_t Map::size() const { return rep_ == nullptr ? 0 : rep_->count; }

const Value* Map::Find(const Value& key) const {
  if (rep_ == nullptr) return nullptr;
  const size_t place = rep_->Find(key);
  return place == kNowhere ? nullptr : &rep_->ValueAt(place);
}

Map Map::Assoc(Value key, Value value) const {
  if (rep_ == nullptr) {
    Value entry[2] = {std::move(key), std::move(value)};
    return Map(Build(entry, 1, nullptr));
  }
  const size_t place = rep_->Find(key);
  const bool added = place == kNowhere;
  if (added && rep_->trie == nullptr && rep_->count == kArrayMax) {
    std::vector<Value> all = Alternating(*this, 1);
    all.push_back(std::move(key));
    all.push_back(std::move(value));
    return Map(Rebuild(std::move(all)));
  }
  uint64_t hash = rep_->hash.load(std::memory_order_relaxed);
  if (hash != 0) {
    if (!added) hash -= EntryHash(rep_->KeyAt(place), rep_->ValueAt(place));
    hash += EntryHash(added ? key : rep_->KeyAt(place), value);
  }
  const size_t count = rep_->count + (added ? 1 : 0);
  Rep* rep = Rep::New(rep_->trie == nullptr ? count : 0);
  rep->count = count;
  rep->hash.store(hash, std::memory_order_relaxed);
  if (rep_->trie == nullptr) {
    for (size_t i = 0; i < rep_->count; ++i) {
      new (rep->array() + 2 * i) Value(rep_->array()[2 * i]);
      new (rep->array() + 2 * i + 1) Value(i == place ? std::move(value) : rep_->array()[2 * i + 1]);
    }
    if (added) {
      new (rep->array() + 2 * count - 2) Value(std::move(key));
      new (rep->array() + 2 * count - 1) Value(std::move(value));
    }
    rep->Count(rep->array());
    return Map(rep);
  }
  rep->edn_size = rep_->edn_size + value.edn_size();
  rep->depth = std::max(rep_->depth, value.depth());
  rep->holes = rep_->holes;
  rep->trie = rep_->trie;
  rep->trie->Ref();
  if (added) {
    rep->edn_size += key.edn_size();
    rep->depth = std::max(rep->depth, key.depth());
    rep->trie = Insert(rep->trie, Slot(TrieHash(key), rep_->sequence.size() / 2), 0);
    const Value entry[2] = {std::move(key), std::move(value)};
    rep->sequence = rep_->sequence.PushAll(entry, 2);
  } else {
    rep->edn_size -= rep_->ValueAt(place).edn_size();
    rep->sequence = rep_->sequence.Assoc(2 * place + 1, std::move(value));
  }
  return Map(rep);
}

Map Map::Dissoc(const Value& key) const {
  if (rep_ == nullptr) return *this;
  const size_t place = rep_->Find(key);
  if (place == kNowhere) return *this;
  if (rep_->count == 1) return Map();
  uint64_t hash = rep_->hash.load(std::memory_order_relaxed);
  if (hash != 0) hash -= EntryHash(rep_->KeyAt(place), rep_->ValueAt(place));
  const size_t count = rep_->count - 1;
  if (rep_->trie == nullptr) {
    Rep* rep = Rep::New(count);
    rep->count = count;
    rep->hash.store(hash, std::memory_order_relaxed);
    Value* to = rep->array();
    for (size_t i = 0; i < 2 * rep_->count; ++i) {
      if (i / 2 != place) new (to++) Value(rep_->array()[i]);
    }
    rep->Count(rep->array());
    return Map(rep);
  }
  // Few left, or more holes than entries: built anew. Either pays for itself by the removals before it.
  if (count <= kArrayAgain || rep_->holes >= count) {
    std::vector<Value> all;
    all.reserve(2 * count);
    for (const auto [k, v] : *this) {
      if (&k == &rep_->KeyAt(place)) continue;
      all.push_back(k);
      all.push_back(v);
    }
    return Map(Rebuild(std::move(all)));
  }
  Rep* rep = Rep::New(0);
  rep->count = count;
  rep->hash.store(hash, std::memory_order_relaxed);
  rep->edn_size = rep_->edn_size - rep_->KeyAt(place).edn_size() - rep_->ValueAt(place).edn_size();
  rep->depth = rep_->depth;
  rep->holes = rep_->holes + 1;
  rep_->trie->Ref();
  rep->trie = Remove(rep_->trie, TrieHash(key), place, 0);
  rep->sequence =
      rep_->sequence.Assoc(2 * place, ValueAccess::Hole()).Assoc(2 * place + 1, ValueAccess::Hole());
  return Map(rep);
}

void Map::Iterator::Advance() {
  do {
    if (run_ > 2) {
      place_ += 2;
      run_ -= 2;
    } else {
      place_ = sequence_->Run(next_, &run_);  // even: runs end where leaves do
      next_ += run_;
    }
  } while (ValueAccess::IsHole(*place_));
}

Map::Iterator Map::begin() const {
  Iterator it;
  if (rep_ == nullptr) return it;
  it.left_ = rep_->count;
  if (rep_->trie == nullptr) {
    it.place_ = rep_->array();
    it.run_ = 2 * rep_->count;
  } else {
    it.sequence_ = &rep_->sequence;
    it.Advance();
  }
  return it;
}

void Map::ForEach(const std::function<bool(const Value& key, const Value& value)>& visit) const {
  for (const auto [key, value] : *this) {
    if (!visit(key, value)) return;
  }
}

std::vector<std::pair<Value, Value>> Map::Entries() const {
  std::vector<std::pair<Value, Value>> entries;
  entries.reserve(size());
  for (const auto [key, value] : *this) entries.emplace_back(key, value);
  return entries;
}

size_t Map::entries_edn_size() const { return rep_ == nullptr ? 0 : rep_->edn_size; }
int Map::entries_depth() const { return rep_ == nullptr ? 0 : rep_->depth; }

uint64_t Map::entries_hash() const {
  if (rep_ == nullptr) return 0;
  uint64_t hash = rep_->hash.load(std::memory_order_relaxed);
  if (hash == 0) {
    for (const auto [key, value] : *this) hash += EntryHash(key, value);
    rep_->hash.store(hash, std::memory_order_relaxed);
  }
  return hash;
}

bool operator==(const Map& a, const Map& b) {
  if (a.rep_ == b.rep_) return true;
  if (a.size() != b.size() || a.entries_edn_size() != b.entries_edn_size()) return false;
  const uint64_t hash_a = a.rep_->hash.load(std::memory_order_relaxed);
  const uint64_t hash_b = b.rep_->hash.load(std::memory_order_relaxed);
  if (hash_a != 0 && hash_b != 0 && hash_a != hash_b) return false;
  for (const auto [key, value] : a) {
    const Value* other = b.Find(key);
    if (other == nullptr || !(*other == value)) return false;
  }
  return true;
}

// ---- Set

Set::Set(const std::vector<Value>& items) {
  std::vector<std::pair<Value, Value>> entries;
  entries.reserve(items.size());
  for (const Value& item : items) entries.emplace_back(item, Value());
  map_ = Map(std::move(entries));
}

size_t Set::TakeDistinct(Value* items, size_t count, Set* set) {
  std::vector<Value> alternating(2 * count);
  for (size_t i = 0; i < count; ++i) alternating[2 * i] = std::move(items[i]);
  return Map::TakeDistinct(alternating.data(), count, &set->map_);
}

Set Set::Conj(Value item) const {
  if (Contains(item)) return *this;
  Set set;
  set.map_ = map_.Assoc(std::move(item), Value());
  return set;
}

Set Set::Disj(const Value& item) const {
  Set set;
  set.map_ = map_.Dissoc(item);
  return set;
}

void Set::ForEach(const std::function<bool(const Value& item)>& visit) const {
  for (const Value& item : *this) {
    if (!visit(item)) return;
  }
}

std::vector<Value> Set::Items() const {
  std::vector<Value> items;
  items.reserve(size());
  for (const Value& item : *this) items.push_back(item);
  return items;
}

size_t Set::items_edn_size() const { return map_.entries_edn_size() - 3 * map_.size(); }  // without the nils
int Set::items_depth() const { return map_.entries_depth(); }
uint64_t Set::items_hash() const { return map_.entries_hash(); }
bool operator==(const Set& a, const Set& b) { return a.map_ == b.map_; }

}  // namespace stm
