// Map and Set are persistent and keep the order of insertion. Small ones are arrays; larger ones are a hash
// array mapped trie (Bagwell, "Ideal Hash Trees") from key to its place in a persistent sequence of entries.
// Replacing a value keeps the key's place. Immutable; any thread.
#ifndef STM_ENGINE_VALUES_MAP_H_
#define STM_ENGINE_VALUES_MAP_H_

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "engine/values/value.h"
#include "engine/values/vector.h"

namespace stm {

class Map {
 public:
  struct Entry {
    const Value& key;
    const Value& value;
  };

  Map() = default;
  // Later entries replace earlier ones of an equal key.
  explicit Map(std::vector<std::pair<Value, Value>> entries);
  Map(const Map& other);
  Map(Map&& other) noexcept : rep_(other.rep_) { other.rep_ = nullptr; }
  Map& operator=(const Map& other);
  Map& operator=(Map&& other) noexcept;
  ~Map();

  static constexpr size_t kDistinct = static_cast<size_t>(-1);
  // Moves `count` entries out of key, value, key, value. When a key equals an earlier one: its entry's index
  // is returned, `map` stays, and what was in the entries is unspecified. Else kDistinct.
  static size_t TakeDistinct(Value* alternating, size_t count, Map* map);

  size_t size() const;
  bool empty() const { return rep_ == nullptr; }
  // Null: no such key. Valid while this Map lives.
  const Value* Find(const Value& key) const;

  Map Assoc(Value key, Value value) const;
  Map Dissoc(const Value& key) const;

  // for (auto [key, value] : map), in order of insertion.
  class Iterator {
   public:
    Entry operator*() const { return Entry{place_[0], place_[1]}; }
    Iterator& operator++() {
      if (--left_ > 0) Advance();
      return *this;
    }
    bool operator!=(const Iterator& other) const { return left_ != other.left_; }
    bool operator==(const Iterator& other) const { return left_ == other.left_; }

   private:
    friend class Map;
    void Advance();

    const Vector* sequence_ = nullptr;  // null: the entries are one array
    size_t next_ = 0;                   // in sequence_: where the next run begins
    const Value* place_ = nullptr;
    size_t run_ = 0;   // values in the run from place_ on
    size_t left_ = 0;  // entries, this one included
  };
  Iterator begin() const;
  Iterator end() const { return Iterator(); }

  // In order of insertion; stops when `visit` returns false.
  void ForEach(const std::function<bool(const Value& key, const Value& value)>& visit) const;
  std::vector<std::pair<Value, Value>> Entries() const;

  size_t entries_edn_size() const;  // keys and values printed, without separators or braces
  int entries_depth() const;        // 0 when empty; an upper bound after removals
  uint64_t entries_hash() const;    // independent of order
  friend bool operator==(const Map& a, const Map& b);
  friend bool operator!=(const Map& a, const Map& b) { return !(a == b); }

  struct Rep;

 private:
  friend class Set;
  friend struct ValueAccess;
  explicit Map(const Rep* rep) : rep_(rep) {}  // takes one reference over
  const Rep* rep_ = nullptr;                   // null: empty
};

class Set {
 public:
  Set() = default;
  // Equal items are kept once.
  explicit Set(const std::vector<Value>& items);
  // As Map::TakeDistinct, of items.
  static size_t TakeDistinct(Value* items, size_t count, Set* set);

  size_t size() const { return map_.size(); }
  bool empty() const { return map_.empty(); }
  bool Contains(const Value& item) const { return map_.Find(item) != nullptr; }
  Set Conj(Value item) const;
  Set Disj(const Value& item) const;
  class Iterator {
   public:
    explicit Iterator(Map::Iterator at) : at_(at) {}
    const Value& operator*() const { return (*at_).key; }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at_ != other.at_; }
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    Map::Iterator at_;
  };
  Iterator begin() const { return Iterator(map_.begin()); }
  Iterator end() const { return Iterator(map_.end()); }
  void ForEach(const std::function<bool(const Value& item)>& visit) const;
  std::vector<Value> Items() const;

  size_t items_edn_size() const;
  int items_depth() const;
  uint64_t items_hash() const;
  friend bool operator==(const Set& a, const Set& b);
  friend bool operator!=(const Set& a, const Set& b) { return !(a == b); }

 private:
  friend struct ValueAccess;
  Map map_;  // item to nil
};

}  // namespace stm

#endif  // STM_ENGINE_VALUES_MAP_H_
