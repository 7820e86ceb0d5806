// Vector is a persistent sequence of values: Clojure's 32-way trie with a tail (Bagwell; Hickey), plus an
// offset so that dropping from the front is cheap too (a queue is conj and shift).
// Immutable: every change returns a new Vector that shares what did not change. Any thread.
#ifndef STM_ENGINE_VALUES_VECTOR_H_
#define STM_ENGINE_VALUES_VECTOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/values/value.h"

namespace stm {

class Vector {
 public:
  Vector() = default;
  explicit Vector(std::vector<Value> items);
  Vector(const Vector& other);
  Vector(Vector&& other) noexcept : rep_(other.rep_) { other.rep_ = nullptr; }
  Vector& operator=(const Vector& other);
  Vector& operator=(Vector&& other) noexcept;
  ~Vector();

  // Moves `count` values out of `items`.
  static Vector Take(Value* items, size_t count);

  size_t size() const;
  bool empty() const { return rep_ == nullptr; }
  // i < size().
  const Value& at(size_t i) const;
  // The items from i on that stand side by side in memory: at least one when i < size(). Valid as at() is.
  const Value* Run(size_t i, size_t* length) const;

  // O(log32 n), amortized over the offset's compactions for DropFront.
  Vector Push(Value value) const;
  Vector Assoc(size_t i, Value value) const;  // i < size()
  Vector DropBack(size_t n) const;            // n <= size(); O(n log n) at most
  Vector DropFront(size_t n) const;           // n <= size()
  // O(n): the whole is built again.
  Vector PushFront(const std::vector<Value>& values) const;
  Vector Concat(const Vector& other) const;  // O(other)

  // Adds `count` values, in order: O(count), not count times Push.
  Vector PushAll(const Value* values, size_t count) const;

  // Sums and maxima over items, kept: bytes of the items printed, without separators or brackets.
  size_t items_edn_size() const;
  int items_depth() const;  // 0 when empty. An upper bound after items were dropped or replaced.

  // In order of items: equal vectors have equal hashes.
  uint64_t items_hash() const;
  friend bool operator==(const Vector& a, const Vector& b);
  friend bool operator!=(const Vector& a, const Vector& b) { return !(a == b); }

  class Iterator {
   public:
    Iterator(const Vector* vector, size_t i) : vector_(vector), i_(i) { Fetch(); }
    const Value& operator*() const { return *item_; }
    const Value* operator->() const { return item_; }
    Iterator& operator++() {
      ++i_;
      ++item_;
      if (--left_ == 0) Fetch();
      return *this;
    }
    bool operator!=(const Iterator& other) const { return i_ != other.i_; }
    bool operator==(const Iterator& other) const { return i_ == other.i_; }

   private:
    void Fetch() { item_ = vector_->Run(i_, &left_); }

    const Vector* vector_;
    size_t i_;
    const Value* item_ = nullptr;
    size_t left_ = 0;  // of the run that item_ is in
  };
  Iterator begin() const { return Iterator(this, 0); }
  Iterator end() const { return Iterator(this, size()); }

  struct Rep;

 private:
  friend struct ValueAccess;
  explicit Vector(const Rep* rep) : rep_(rep) {}  // takes one reference over
  const Rep* rep_ = nullptr;                      // null: empty
};

}  // namespace stm

#endif  // STM_ENGINE_VALUES_VECTOR_H_
