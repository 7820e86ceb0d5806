// IdTable knows what became of every transaction id above its floor T: undecided, or a verdict (DESIGN section 3,
// "Exactly once"). A ring in order of arrival with open addressing over it, preallocated for its bound: under churn a
// hash map stalls while it rehashes. Lives on the Loop; no locks.
// Always: an id with seen >= floor() that is not found was never decided here and never recovered.
#ifndef STM_ENGINE_ID_TABLE_H_
#define STM_ENGINE_ID_TABLE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "engine/ring.h"
#include "engine/transaction.h"

namespace stm::engine {

struct Pending;  // engine.cc: a transaction that waits for its verdict

class IdTable {
 public:
  // Holds at most bytes_max, and beyond 1,024 ids nothing older than age_max.
  IdTable(int64_t bytes_max, absl::Duration age_max, int64_t result_bytes_max);
  ~IdTable();

  enum class State : uint8_t { kUnknown, kUndecided, kDecided };
  struct Found {
    State state = State::kUnknown;
    Pending* pending = nullptr;              // kUndecided
    std::shared_ptr<const Verdict> verdict;  // kDecided
  };
  Found Find(Uuid id) const;

  // `id` is unknown. `pending` lives until Decide.
  void AddUndecided(Uuid id, Pending* pending, absl::Duration now);
  // `id` is undecided. `installed` is the newest version when the verdict was made; of Committed its own version counts.
  void Decide(Uuid id, const Verdict& verdict, Version installed);
  // A commit recovered, or another daemon's. Nothing if the id is there already.
  void AddCommitted(Uuid id, Version version, Instant at, absl::Duration now);

  // Drops what is past the bounds, and raises the floor. Verdicts at the installed version itself stay (their ids' floor
  // would refuse every new id); true if that alone keeps the table above its bytes: a commit is due, to move on.
  bool Trim(absl::Duration now, Version installed);

  // T: every commit above it is in the table.
  Version floor() const { return floor_; }
  void RaiseFloor(Version floor);

  int64_t bytes() const { return bytes_; }
  int64_t size() const { return static_cast<int64_t>(end_ - begin_); }

  // For an image: committed ids at or below `version`, from place `*cursor` on (0 at first), at most `max`.
  struct CommittedId {
    Uuid id;
    Version version;
    Instant at;
  };
  std::vector<CommittedId> Committed(Version version, uint64_t* cursor, size_t max) const;

 private:
  struct Record;
  struct Chunk;
  const Record& At(uint64_t place) const;
  Record& At(uint64_t place);
  Record& Append(Uuid id);
  uint64_t PlaceIn(size_t slot) const;
  size_t Home(uint32_t hash) const { return hash & slot_mask_; }
  void MakeSlots(size_t records_max);
  // The slot that holds the place of `id`, or the empty one where it would go.
  size_t SlotOf(Uuid id) const;
  void EraseSlot(size_t slot);
  void DropFront();

  const int64_t bytes_max_;
  const absl::Duration age_max_;
  const int64_t result_bytes_max_;
  int64_t bytes_ = 0;
  Version floor_ = 0;
  uint64_t begin_ = 0;  // places [begin_, end_) are live
  uint64_t end_ = 0;
  Ring<std::unique_ptr<Chunk>> chunks_;  // the first holds begin_
  std::unique_ptr<Chunk> spare_;
  // With the id's hash, so that a probe that meets another id, or moves it, need not look at its record.
  struct Slot {
    uint32_t place;  // a live record's, modulo 2^32 - 1, plus one; 0: empty
    uint32_t hash;
  };
  // Calloc'ed: pages are touched as ids come.
  struct Free {
    void operator()(Slot* slots) const;
  };
  std::unique_ptr<Slot[], Free> slots_;
  size_t slot_mask_ = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_ID_TABLE_H_
