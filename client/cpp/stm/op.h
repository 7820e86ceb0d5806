// Op is a change that the daemon applies at the commit point, so that it never conflicts: tx.Commute(r, stm::Add(1)),
// atom.Apply(stm::Conj("x")). At a path into the value: stm::Add(1).At("visits", 0). Values; any thread.
// What an operation does, and on which types, is the daemon's to say: see Operation in proto/stm/v1/common.proto.
#ifndef STM_CLIENT_CPP_STM_OP_H_
#define STM_CLIENT_CPP_STM_OP_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "stm/codec.h"
#include "stm/value.h"

namespace stm {

struct Op {
  enum class Verb : uint8_t {
    kSet, kAdd, kMin, kMax, kAppend, kConj, kDisj, kPop, kShift, kAssoc, kDissoc, kToggle, kCompareAndSet
  };
  Verb verb = Verb::kSet;
  std::vector<Value> path;       // keys and indexes; empty: the whole value
  std::vector<Value> arguments;  // kAssoc: key, value, key, value...
  uint32_t count = 1;            // kPop, kShift
  std::optional<Value> expected;  // kCompareAndSet; nullopt: absent

  template <typename... Steps>
  Op At(const Steps&... steps) && {
    (path.push_back(Encode(steps)), ...);
    return std::move(*this);
  }
};

namespace internal {
template <typename... Ts>
Op MakeOp(Op::Verb verb, const Ts&... arguments) {
  Op op;
  op.verb = verb;
  (op.arguments.push_back(Encode(arguments)), ...);
  return op;
}
}  // namespace internal

template <typename T>
Op SetTo(const T& value) { return internal::MakeOp(Op::Verb::kSet, value); }
// Integer or double; a sum past 64 bits is rejected.
template <typename T>
Op Add(const T& amount) { return internal::MakeOp(Op::Verb::kAdd, amount); }
template <typename T>
Op Min(const T& value) { return internal::MakeOp(Op::Verb::kMin, value); }
template <typename T>
Op Max(const T& value) { return internal::MakeOp(Op::Verb::kMax, value); }
// All items, characters or bytes of `more` at the end.
template <typename T>
Op Append(const T& more) { return internal::MakeOp(Op::Verb::kAppend, more); }
// To a vector at the end, to a list at the front, to a set; to a map, each item a pair vector.
template <typename... Ts>
Op Conj(const Ts&... items) { return internal::MakeOp(Op::Verb::kConj, items...); }
template <typename... Ts>
Op Disj(const Ts&... items) { return internal::MakeOp(Op::Verb::kDisj, items...); }
// Assoc(key, value, key, value...), into a map or at indexes of a vector.
template <typename... Ts>
Op Assoc(const Ts&... keys_and_values) {
  static_assert(sizeof...(Ts) > 0 && sizeof...(Ts) % 2 == 0, "Assoc takes keys and values in turn");
  return internal::MakeOp(Op::Verb::kAssoc, keys_and_values...);
}
template <typename... Ts>
Op Dissoc(const Ts&... keys) { return internal::MakeOp(Op::Verb::kDissoc, keys...); }
// Entries of `map` (a std::map, or stm::Map) into the map.
template <typename M>
Op Merge(const M& map) {
  Op op;
  op.verb = Op::Verb::kAssoc;
  Value entries = Encode(map);
  for (auto [key, value] : entries.map()) {
    op.arguments.push_back(key);
    op.arguments.push_back(value);
  }
  return op;
}
// Items of `set` (a std::set, or stm::Set) into the set.
template <typename S>
Op Union(const S& set) {
  Op op;
  op.verb = Op::Verb::kConj;
  Value items = Encode(set);
  for (const Value& item : items.set()) op.arguments.push_back(item);
  return op;
}
inline Op Toggle() { return internal::MakeOp(Op::Verb::kToggle); }
namespace internal {
inline Op Take(Op::Verb verb, uint32_t n) {
  Op op;
  op.verb = verb;
  op.count = n;
  return op;
}
}  // namespace internal
// From the end of a vector or the front of a list. The result is what was removed: one item when n is 1, else a vector.
inline Op Pop(uint32_t n = 1) { return internal::Take(Op::Verb::kPop, n); }
// From the front.
inline Op Shift(uint32_t n = 1) { return internal::Take(Op::Verb::kShift, n); }
// Rejects the whole transaction when the present value is another. nullopt: only if absent.
template <typename T>
Op CompareAndSet(const std::optional<T>& expected, const T& value) {
  Op op = internal::MakeOp(Op::Verb::kCompareAndSet, value);
  if (expected.has_value()) op.expected = Encode(*expected);
  return op;
}

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_OP_H_
