// WriteSet is what a transaction's writes do, evaluated in order over a base state: net changes a name, results, or the
// first refusal. Pure: the commit path runs it over installed state and the batch so far, a read with pending
// writes over a snapshot.
#ifndef STM_ENGINE_WRITE_SET_H_
#define STM_ENGINE_WRITE_SET_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/transaction.h"

namespace stm::engine {

struct Entry;

class WriteSet {
 public:
  // An entry before the writes.
  struct Base {
    std::optional<Value> value;  // nullopt: absent
    EntryKind kind = EntryKind::kRef;
    std::shared_ptr<const Definition> definition;
    bool expiry_due = false;  // its TTL has run out: kExpire goes through
    Entry* entry = nullptr;   // passed on to the item
  };

  // One name's net effect.
  struct Item {
    std::string_view name;  // into the writes
    Base before;
    std::optional<Value> value;  // after
    EntryKind kind = EntryKind::kRef;
    std::shared_ptr<const Definition> definition;
    bool value_written = false;
    bool created = false;  // was absent at some moment before the last value
    bool defined = false;
    bool expired = false;
    // Not null: `value` is exactly this operation applied to before.value.
    std::shared_ptr<const Operation> operation;
    uint32_t last_write = 0;

    // Does anything differ from before?
    bool changes() const {
      return value_written ? value.has_value() || before.value.has_value() : defined;
    }
  };

  struct Bounds {
    int64_t value_bytes_max;
    int64_t transaction_bytes_max;
    // An operation on, or a rule over, a larger value is not begun: the result is Heavy. 0: whatever it takes.
    int64_t heavy_bytes;
    bool atoms_together = false;  // an atom may change beside others: what the engine itself writes
    // What is known of values that containers keep (stored.h): what they are, so that writes are worked out on them; or the
    // writes name them as they are to be committed, staged. kOutside: neither, and writes on them are Outside.
    enum class Kept : uint8_t { kOutside, kAtHand, kStaged } kept = Kept::kOutside;
    // Canaries.
    bool skip_validators = false;
    bool skip_kinds = false;
  };
  // The work is too long for the Loop.
  struct Heavy {};
  // A container keeps what is written, or what it is worked out from: it is to be asked first.
  struct Outside {};
  // A Status: a bound.
  using Result = std::variant<WriteSet, Rejected, absl::Status, Heavy, Outside>;

  // `writes` outlive the result.
  static Result Evaluate(const std::vector<Write>& writes, const Bounds& bounds,
                         absl::FunctionRef<Base(std::string_view)> base);

  // Adds what was evaluated over other names. A Status: together they are past transaction_bytes_max.
  absl::Status Append(WriteSet other, const Bounds& bounds);

  const std::vector<Item>& items() const { return items_; }
  std::vector<Item>& items() { return items_; }
  // One a write, or empty when no write has one.
  std::vector<std::optional<Value>>& results() { return results_; }
  int64_t bytes() const { return bytes_; }

 private:
  std::vector<Item> items_;
  std::vector<std::optional<Value>> results_;
  int64_t bytes_ = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_WRITE_SET_H_
