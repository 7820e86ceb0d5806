#include "engine/values/vector.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "engine/values/hash.h"
#include "engine/values/value_access.h"

namespace stm {
namespace {

constexpr int kWidthBits = 5;
constexpr size_t kWidth = size_t{1} << kWidthBits;  // items of a leaf, kids of a branch
constexpr size_t kMask = kWidth - 1;
// Whole rebuilding is allowed once so many items were dropped in front, and more than are left.
constexpr size_t kOffsetMin = kWidth;

// A leaf holds kWidth values, a branch up to kWidth kids; its level tells which it is. A branch's first kids
// are null when all their items were dropped from the front.
struct Chunk : Value::Node {
  uint32_t count = 0;  // of a branch's kids

  static constexpr size_t kHead = 8;
  Value* items() { return reinterpret_cast<Value*>(reinterpret_cast<char*>(this) + kHead); }
  const Value* items() const { return const_cast<Chunk*>(this)->items(); }
  Chunk** kids() { return reinterpret_cast<Chunk**>(reinterpret_cast<char*>(this) + kHead); }
  Chunk* const* kids() const { return const_cast<Chunk*>(this)->kids(); }
};
static_assert(sizeof(Chunk) <= Chunk::kHead && Chunk::kHead % alignof(Value) == 0);

Chunk* NewLeaf() { return new (::operator new(Chunk::kHead + kWidth * sizeof(Value))) Chunk; }
Chunk* NewBranch() { return new (::operator new(Chunk::kHead + kWidth * sizeof(Chunk*))) Chunk; }

void DropNode(const Chunk* node, int shift) {
  if (node == nullptr || !node->Drop()) return;
  if (shift == 0) {
    for (size_t i = 0; i < kWidth; ++i) node->items()[i].~Value();
  } else {
    for (uint32_t i = 0; i < node->count; ++i) DropNode(node->kids()[i], shift - kWidthBits);
  }
  ::operator delete(const_cast<Chunk*>(node));
}

// A branch that only we hold: `node` itself (its reference goes over), or a copy.
Chunk* OwnBranch(Chunk* node, int shift) {
  if (node->sole()) return node;
  Chunk* copy = NewBranch();
  copy->count = node->count;
  for (uint32_t i = 0; i < node->count; ++i) {
    copy->kids()[i] = node->kids()[i];
    if (copy->kids()[i] != nullptr) copy->kids()[i]->Ref();
  }
  DropNode(node, shift);
  return copy;
}

Chunk* OwnLeaf(Chunk* node) {
  if (node->sole()) return node;
  Chunk* copy = NewLeaf();
  for (size_t i = 0; i < kWidth; ++i) new (copy->items() + i) Value(node->items()[i]);
  DropNode(node, 0);
  return copy;
}

// Puts a full leaf at the right end, where `index` is its first item's place. Takes `node` and `leaf` over.
Chunk* AppendLeaf(Chunk* node, int shift, size_t index, Chunk* leaf) {
  if (shift == 0) {
    assert(node == nullptr);
    return leaf;
  }
  const size_t slot = (index >> shift) & kMask;
  node = node == nullptr ? NewBranch() : OwnBranch(node, shift);
  Chunk* kid = nullptr;
  if (slot < node->count) {
    kid = node->kids()[slot];
  } else {
    assert(slot == node->count);
    ++node->count;
  }
  node->kids()[slot] = AppendLeaf(kid, shift - kWidthBits, index, leaf);
  return node;
}

// Lets go of what is left of `index`. Takes `node` over.
Chunk* PruneFront(Chunk* node, int shift, size_t index) {
  if (shift == 0 || node == nullptr) return node;
  const size_t slot = (index >> shift) & kMask;
  node = OwnBranch(node, shift);
  for (size_t i = 0; i < slot; ++i) DropNode(std::exchange(node->kids()[i], nullptr), shift - kWidthBits);
  node->kids()[slot] = PruneFront(node->kids()[slot], shift - kWidthBits, index);
  return node;
}

// Keeps the leaves before place `end` (> 0, a leaf's border). Takes `node` over.
Chunk* PruneBack(Chunk* node, int shift, size_t end) {
  if (shift == 0 || node == nullptr) return node;
  const size_t slot = ((end - 1) >> shift) & kMask;
  node = OwnBranch(node, shift);
  for (size_t i = slot + 1; i < node->count; ++i) DropNode(node->kids()[i], shift - kWidthBits);
  node->count = static_cast<uint32_t>(slot) + 1;
  node->kids()[slot] = PruneBack(node->kids()[slot], shift - kWidthBits, end);
  return node;
}

Chunk* AssocAt(Chunk* node, int shift, size_t index, Value value) {
  if (shift == 0) {
    node = OwnLeaf(node);
    node->items()[index & kMask] = std::move(value);
    return node;
  }
  node = OwnBranch(node, shift);
  Chunk*& kid = node->kids()[(index >> shift) & kMask];
  kid = AssocAt(kid, shift - kWidthBits, index, std::move(value));
  return node;
}

// The hash of items a, b, c is ((0 * K + a) * K + b) * K + c: K is odd, so every change can be made to it in
// place. (K as in Knuth's MMIX generator.) Part of the log's format.
constexpr uint64_t kHashFactor = 0x5851f42d4c957f2du;

uint64_t HashPower(size_t n) {
  uint64_t result = 1;
  for (uint64_t square = kHashFactor; n > 0; n >>= 1, square *= square) {
    if (n & 1) result *= square;
  }
  return result;
}

constexpr uint64_t HashFactorInverse() {
  uint64_t x = kHashFactor;  // Newton: each step doubles the bits that are right
  for (int i = 0; i < 6; ++i) x *= 2 - kHashFactor * x;
  return x;
}

}  // namespace

// Places are counted from the first item ever pushed since the last rebuilding: item i is at place offset +
// i. Full leaves hold the places before tail_start(), the tail the others: 1 to kWidth of them. Without a
// root the offset is 0.
struct Vector::Rep : Value::Node {
  uint32_t tail_count = 0;
  int shift = 0;  // of root; 0: root is a leaf
  int depth = 0;
  Chunk* root = nullptr;  // null: all is in the tail
  size_t offset = 0;
  size_t end = 0;
  size_t edn_size = 0;
  mutable std::atomic<uint64_t> hash{0};
  Vector self;  // uncounted

  Rep() { self.rep_ = this; }
  ~Rep() {
    self.rep_ = nullptr;
    DropNode(root, shift);
  }

  static constexpr size_t Head() {
    return (sizeof(Rep) + alignof(Value) - 1) / alignof(Value) * alignof(Value);
  }
  Value* tail() { return reinterpret_cast<Value*>(reinterpret_cast<char*>(this) + Head()); }
  const Value* tail() const { return const_cast<Rep*>(this)->tail(); }
  size_t tail_start() const { return end - tail_count; }
  size_t size() const { return end - offset; }

  static Rep* New(size_t tail_count) {
    Rep* rep = new (::operator new(Head() + tail_count * sizeof(Value))) Rep;
    rep->tail_count = static_cast<uint32_t>(tail_count);
    return rep;
  }

  // All but the tail's items, which the caller makes, and tail_count.
  void CopyHead(const Rep& other) {
    shift = other.shift;
    depth = other.depth;
    root = other.root;
    if (root != nullptr) root->Ref();
    offset = other.offset;
    end = other.end;
    edn_size = other.edn_size;
  }

  const Value* Leaf(size_t place) const {
    const Chunk* node = root;
    for (int level = shift; level > 0; level -= kWidthBits) node = node->kids()[(place >> level) & kMask];
    return node->items();
  }

  void AddLeaf(size_t index, Chunk* leaf) {
    if (root == nullptr) {
      assert(index == 0);
      root = leaf;
      return;
    }
    while (index >> (shift + kWidthBits) != 0) {
      Chunk* branch = NewBranch();
      branch->count = 1;
      branch->kids()[0] = root;
      root = branch;
      shift += kWidthBits;
    }
    root = AppendLeaf(root, shift, index, leaf);
  }
};

namespace {

// The items of `old` (may be null; its offset is kept), then `count` values: moved from, or copied.
template <typename Source>
const Vector::Rep* Extend(const Vector::Rep* old, Source* values, size_t count) {
  using Rep = Vector::Rep;
  const size_t old_tail = old == nullptr ? 0 : old->tail_count;
  const size_t all = old_tail + count;  // of items that go to new leaves or the new tail
  const size_t new_tail = (all - 1) % kWidth + 1;
  Rep* rep = Rep::New(new_tail);
  if (old != nullptr) rep->CopyHead(*old);
  // Item i of the old tail and the values together, taken once.
  auto place_into = [&](Value* to, size_t i) {
    if (i < old_tail) {
      new (to) Value(old->tail()[i]);
    } else if constexpr (std::is_const_v<Source>) {
      new (to) Value(values[i - old_tail]);
    } else {
      new (to) Value(std::move(values[i - old_tail]));
    }
  };
  size_t edn_size = rep->edn_size;
  int depth = rep->depth;
  uint64_t hash = old == nullptr ? 0 : old->hash.load(std::memory_order_relaxed);
  const bool hashed = hash != 0;
  for (size_t i = 0; i < count; ++i) {
    edn_size += values[i].edn_size();
    depth = std::max(depth, values[i].depth());
    if (hashed) hash = hash * kHashFactor + values[i].hash();
  }
  size_t taken = 0;
  size_t index = rep->end - old_tail;
  while (all - taken > kWidth) {
    Chunk* leaf = NewLeaf();
    for (size_t i = 0; i < kWidth; ++i) place_into(leaf->items() + i, taken + i);
    taken += kWidth;
    rep->AddLeaf(index, leaf);
    index += kWidth;
  }
  for (size_t i = 0; i < new_tail; ++i) place_into(rep->tail() + i, taken + i);
  rep->end += count;
  rep->edn_size = edn_size;
  rep->depth = depth;
  rep->hash.store(hash, std::memory_order_relaxed);
  return rep;
}

}  // namespace

void ValueAccess::Free(const Vector::Rep* rep) {
  for (uint32_t i = 0; i < rep->tail_count; ++i) rep->tail()[i].~Value();
  rep->~Rep();
  ::operator delete(const_cast<Vector::Rep*>(rep));
}
const Value::Node* ValueAccess::NodeOf(const Vector::Rep* rep) { return rep; }
const Vector& ValueAccess::VectorOf(const Value::Node* node) {
  return static_cast<const Vector::Rep*>(node)->self;
}
int ValueAccess::DepthOfVector(const Value::Node* node) {
  return static_cast<const Vector::Rep*>(node)->depth;
}

Vector::Vector(std::vector<Value> items) : Vector(Take(items.data(), items.size())) {}

Vector::Vector(const Vector& other) : rep_(other.rep_) {
  if (rep_ != nullptr) rep_->Ref();
}
Vector& Vector::operator=(const Vector& other) {
  Vector copy(other);
  std::swap(rep_, copy.rep_);
  return *this;
}
Vector& Vector::operator=(Vector&& other) noexcept {
  Vector taken(std::move(other));
  std::swap(rep_, taken.rep_);
  return *this;
}
Vector::~Vector() {
  if (rep_ != nullptr && rep_->Drop()) ValueAccess::Free(rep_);
}

Vector Vector::Take(Value* items, size_t count) {
  if (count == 0) return Vector();
  return Vector(Extend(nullptr, items, count));
}

size_t Vector::size() const { return rep_ == nullptr ? 0 : rep_->size(); }

const Value& Vector::at(size_t i) const {
  assert(i < size());
  const size_t place = rep_->offset + i;
  if (place >= rep_->tail_start()) return rep_->tail()[place - rep_->tail_start()];
  return rep_->Leaf(place)[place & kMask];
}

const Value* Vector::Run(size_t i, size_t* length) const {
  *length = 0;
  if (i >= size()) return nullptr;
  const size_t place = rep_->offset + i;
  if (place >= rep_->tail_start()) {
    *length = rep_->end - place;
    return rep_->tail() + (place - rep_->tail_start());
  }
  *length = kWidth - (place & kMask);
  return rep_->Leaf(place) + (place & kMask);
}

Vector Vector::Push(Value value) const { return Vector(Extend(rep_, &value, 1)); }

Vector Vector::PushAll(const Value* values, size_t count) const {
  if (count == 0) return *this;
  return Vector(Extend(rep_, values, count));
}

Vector Vector::Assoc(size_t i, Value value) const {
  assert(i < size());
  const Value& before = at(i);
  Rep* rep = Rep::New(rep_->tail_count);
  rep->CopyHead(*rep_);
  rep->edn_size += value.edn_size() - before.edn_size();
  const uint64_t hash = rep_->hash.load(std::memory_order_relaxed);
  if (hash != 0) {
    rep->hash.store(hash + (value.hash() - before.hash()) * HashPower(size() - 1 - i),
                    std::memory_order_relaxed);
  }
  const bool was_deepest = before.depth() == rep->depth && rep->depth > 1;
  rep->depth = std::max(rep->depth, value.depth());
  const size_t place = rep_->offset + i;
  const size_t tail_start = rep_->tail_start();
  for (uint32_t j = 0; j < rep->tail_count; ++j) {
    const bool here = tail_start + j == place;
    new (rep->tail() + j) Value(here ? std::move(value) : rep_->tail()[j]);
  }
  if (place < tail_start) {
    rep->root = AssocAt(rep->root, rep->shift, place, std::move(value));
  } else if (was_deepest && rep->root == nullptr) {
    rep->depth = 0;
    for (uint32_t j = 0; j < rep->tail_count; ++j) rep->depth = std::max(rep->depth, rep->tail()[j].depth());
  }
  return Vector(rep);
}

Vector Vector::DropBack(size_t n) const {
  assert(n <= size());
  if (n == 0) return *this;
  const size_t left = size() - n;
  if (left == 0) return Vector();
  if (left <= kWidth) {  // small again: exact depth, nothing kept alive behind
    std::vector<Value> items;
    items.reserve(left);
    for (size_t i = 0; i < left; ++i) items.push_back(at(i));
    return Take(items.data(), left);
  }
  const size_t end = rep_->end - n;
  size_t dropped = 0;
  uint64_t hash = rep_->hash.load(std::memory_order_relaxed);
  const bool hashed = hash != 0;
  for (size_t i = size(); i > left;) {
    const Value& item = at(--i);
    dropped += item.edn_size();
    if (hashed) hash = (hash - item.hash()) * HashFactorInverse();
  }
  const size_t tail_start = (end - 1) & ~kMask;
  Rep* rep = Rep::New(end - tail_start);
  rep->CopyHead(*rep_);
  const Value* source = tail_start >= rep_->tail_start() ? rep_->tail() : rep_->Leaf(tail_start);
  for (uint32_t j = 0; j < rep->tail_count; ++j) new (rep->tail() + j) Value(source[j]);
  if (tail_start < rep_->tail_start()) {
    // More than kWidth items are left, and the tail has kWidth at most: the trie keeps some.
    rep->root = PruneBack(rep->root, rep->shift, tail_start);
    while (rep->shift > 0 && rep->root->count == 1) {
      Chunk* kid = rep->root->kids()[0];
      kid->Ref();
      DropNode(rep->root, rep->shift);
      rep->root = kid;
      rep->shift -= kWidthBits;
    }
  }
  rep->end = end;
  rep->edn_size -= dropped;
  rep->hash.store(hash, std::memory_order_relaxed);
  return Vector(rep);
}

Vector Vector::DropFront(size_t n) const {
  assert(n <= size());
  if (n == 0) return *this;
  const size_t left = size() - n;
  if (left == 0) return Vector();
  const size_t offset = rep_->offset + n;
  if (left <= kWidth || (offset >= kOffsetMin && offset > left)) {
    std::vector<Value> items;
    items.reserve(left);
    for (size_t i = n; i < n + left; ++i) items.push_back(at(i));
    return Take(items.data(), left);
  }
  size_t dropped = 0;
  uint64_t hash = rep_->hash.load(std::memory_order_relaxed);
  uint64_t power = hash == 0 ? 0 : HashPower(size() - 1);
  for (size_t i = 0; i < n; ++i) {
    const Value& item = at(i);
    dropped += item.edn_size();
    if (power != 0) {
      hash -= item.hash() * power;
      power *= HashFactorInverse();
    }
  }
  Rep* rep = Rep::New(rep_->tail_count);
  rep->CopyHead(*rep_);
  for (uint32_t j = 0; j < rep->tail_count; ++j) new (rep->tail() + j) Value(rep_->tail()[j]);
  // More than kWidth items are left and the tail has kWidth at most: offset is in the trie.
  if (rep_->offset / kWidth != offset / kWidth) rep->root = PruneFront(rep->root, rep->shift, offset);
  rep->offset = offset;
  rep->edn_size -= dropped;
  rep->hash.store(hash, std::memory_order_relaxed);
  return Vector(rep);
}

Vector Vector::PushFront(const std::vector<Value>& values) const {
  std::vector<Value> all;
  all.reserve(values.size() + size());
  all.insert(all.end(), values.begin(), values.end());
  for (const Value& item : *this) all.push_back(item);
  return Vector(std::move(all));
}

Vector Vector::Concat(const Vector& other) const {
  if (empty()) return other;
  if (other.empty()) return *this;
  std::vector<Value> added;
  added.reserve(other.size());
  for (const Value& item : other) added.push_back(item);
  return Vector(Extend(rep_, added.data(), added.size()));
}

size_t Vector::items_edn_size() const { return rep_ == nullptr ? 0 : rep_->edn_size; }
int Vector::items_depth() const { return rep_ == nullptr ? 0 : rep_->depth; }

uint64_t Vector::items_hash() const {
  if (rep_ == nullptr) return 0;
  uint64_t hash = rep_->hash.load(std::memory_order_relaxed);
  if (hash == 0) {
    for (const Value& item : *this) hash = hash * kHashFactor + item.hash();
    rep_->hash.store(hash, std::memory_order_relaxed);
  }
  return MixHash(hash, size());
}

bool operator==(const Vector& a, const Vector& b) {
  if (a.rep_ == b.rep_) return true;
  if (a.size() != b.size() || a.items_edn_size() != b.items_edn_size()) return false;
  const uint64_t hash_a = a.rep_->hash.load(std::memory_order_relaxed);
  const uint64_t hash_b = b.rep_->hash.load(std::memory_order_relaxed);
  if (hash_a != 0 && hash_b != 0 && hash_a != hash_b) return false;
  for (size_t i = 0; i < a.size();) {
    size_t length_a, length_b;
    const Value* run_a = a.Run(i, &length_a);
    const Value* run_b = b.Run(i, &length_b);
    const size_t length = std::min(length_a, length_b);
    if (run_a != run_b) {
      for (size_t j = 0; j < length; ++j) {
        if (run_a[j] != run_b[j]) return false;
      }
    }
    i += length;
  }
  return true;
}

}  // namespace stm
