#include "engine/id_table.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <utility>

namespace stm::engine {
namespace {

constexpr uint64_t kChunkRecords = 4096;
constexpr int64_t kAgelessIds = 1024;
// Slots are touched this many records before they are needed: the table is larger than any cache.
constexpr uint64_t kFetchAhead = 8;
constexpr uint64_t kPlaces = 0xFFFFFFFF;  // a place is kept modulo this; far more than can be live at once

// Ids are random UUIDs, but a client may send others: mix (Steele, Lea, Flood: SplitMix64's finalizer).
uint32_t Hash(Uuid id) {
  uint64_t x = id.high * 0x9E3779B97F4A7C15u ^ id.low;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return static_cast<uint32_t>(x ^ (x >> 31));
}

}  // namespace

struct IdTable::Record {
  Uuid id;
  State state = State::kUnknown;
  bool results_dropped = false;
  Version version = 0;  // of the commit; of a refusal the newest installed when it was made
  Instant at;
  absl::Duration added;
  Pending* pending = nullptr;
  // Of a refusal, or of a commit that has results; null: committed without results.
  std::shared_ptr<const Verdict> verdict;
  int64_t bytes = 0;

  bool committed() const {
    return state == State::kDecided && (verdict == nullptr || std::holds_alternative<stm::engine::Committed>(verdict->outcome));
  }
};

struct IdTable::Chunk {
  Record records[kChunkRecords];
};

void IdTable::Free::operator()(Slot* slots) const { std::free(slots); }

IdTable::IdTable(int64_t bytes_max, absl::Duration age_max, int64_t result_bytes_max)
    : bytes_max_(bytes_max), age_max_(age_max), result_bytes_max_(result_bytes_max) {
  MakeSlots(static_cast<size_t>(bytes_max) / sizeof(Record) + kChunkRecords);
}

IdTable::~IdTable() = default;

void IdTable::MakeSlots(size_t records_max) {
  size_t slots = 1;
  while (slots < 2 * records_max) slots *= 2;  // half empty at most, so that probes stay short
  assert(slots <= kPlaces);
  slots_.reset(static_cast<Slot*>(std::calloc(slots, sizeof(Slot))));
  assert(slots_ != nullptr);
  slot_mask_ = slots - 1;
}

const IdTable::Record& IdTable::At(uint64_t place) const {
  return chunks_[place / kChunkRecords - begin_ / kChunkRecords]->records[place % kChunkRecords];
}

IdTable::Record& IdTable::At(uint64_t place) {
  return chunks_[place / kChunkRecords - begin_ / kChunkRecords]->records[place % kChunkRecords];
}

uint64_t IdTable::PlaceIn(size_t slot) const {
  uint64_t offset = (slots_[slot].place - 1 + kPlaces - begin_ % kPlaces) % kPlaces;
  return begin_ + offset;
}

size_t IdTable::SlotOf(Uuid id) const {
  const uint32_t hash = Hash(id);
  size_t slot = Home(hash);
  while (slots_[slot].place != 0 && (slots_[slot].hash != hash || At(PlaceIn(slot)).id != id)) {
    slot = (slot + 1) & slot_mask_;
  }
  return slot;
}

IdTable::Found IdTable::Find(Uuid id) const {
  Found found;
  size_t slot = SlotOf(id);
  if (slots_[slot].place == 0) return found;
  const Record& record = At(PlaceIn(slot));
  found.state = record.state;
  found.pending = record.pending;
  if (record.state == State::kDecided) {
    if (record.verdict != nullptr) {
      found.verdict = record.verdict;
    } else {
      stm::engine::Committed committed;
      committed.version = record.version;
      committed.at = record.at;
      committed.results_dropped = record.results_dropped;
      found.verdict = std::make_shared<Verdict>(Verdict{std::move(committed)});
    }
  }
  return found;
}

IdTable::Record& IdTable::Append(Uuid id) {
  if (static_cast<size_t>(end_ - begin_) * 2 > slot_mask_) {
    // Only when undecided ids hold up what the bytes would have let go.
    MakeSlots(2 * (end_ - begin_));
    for (uint64_t place = begin_; place < end_; ++place) {
      const Uuid known = At(place).id;
      slots_[SlotOf(known)] = {static_cast<uint32_t>(place % kPlaces + 1), Hash(known)};
    }
  }
  if (end_ % kChunkRecords == 0 || chunks_.empty()) {
    chunks_.push_back(spare_ != nullptr ? std::move(spare_) : std::make_unique<Chunk>());
  }
  size_t slot = SlotOf(id);
  assert(slots_[slot].place == 0);
  uint64_t place = end_++;
  slots_[slot] = {static_cast<uint32_t>(place % kPlaces + 1), Hash(id)};
  Record& record = At(place);
  record = Record();
  record.id = id;
  record.bytes = sizeof(Record) + 2 * sizeof(Slot);
  bytes_ += record.bytes;
  return record;
}

void IdTable::AddUndecided(Uuid id, Pending* pending, absl::Duration now) {
  Record& record = Append(id);
  record.state = State::kUndecided;
  record.pending = pending;
  record.added = now;
}

void IdTable::Decide(Uuid id, const Verdict& verdict, Version installed) {
  size_t slot = SlotOf(id);
  assert(slots_[slot].place != 0);
  Record& record = At(PlaceIn(slot));
  assert(record.state == State::kUndecided);
  record.state = State::kDecided;
  record.pending = nullptr;
  int64_t kept = 0;
  if (const auto* committed = std::get_if<stm::engine::Committed>(&verdict.outcome)) {
    record.version = committed->version;
    record.at = committed->at;
    if (!committed->results.empty()) {
      for (const auto& result : committed->results) kept += 16 + (result.has_value() ? result->edn_size() : 0);
      if (kept <= result_bytes_max_) {
        record.verdict = std::make_shared<Verdict>(verdict);
        kept += sizeof(Verdict);
      } else {
        record.results_dropped = true;
        kept = 0;
      }
    }
  } else {
    record.version = installed;
    if (const auto* conflict = std::get_if<Conflict>(&verdict.outcome)) {
      // The fresh values are for the run that was answered; a resend reads anew at the snapshot it is told.
      Conflict brief;
      brief.causes = conflict->causes;
      brief.snapshot = conflict->snapshot;
      record.verdict = std::make_shared<Verdict>(Verdict{std::move(brief)});
    } else if (std::holds_alternative<absl::Status>(verdict.outcome)) {
      // It failed and changed nothing, for certain: that is what a resend is told.
      record.verdict = std::make_shared<Verdict>(Verdict{NotCommitted{}});
    } else {
      record.verdict = std::make_shared<Verdict>(verdict);
    }
    kept = sizeof(Verdict) + 64;
  }
  record.bytes += kept;
  bytes_ += kept;
}

void IdTable::AddCommitted(Uuid id, Version version, Instant at, absl::Duration now) {
  if (slots_[SlotOf(id)].place != 0) return;
  Record& record = Append(id);
  record.state = State::kDecided;
  record.version = version;
  record.at = at;
  record.added = now;
  record.results_dropped = true;
}

void IdTable::EraseSlot(size_t slot) {
  // Backward shift (Knuth, 6.4, algorithm R): no tombstones, so probes stay short for ever.
  slots_[slot] = Slot();
  size_t next = slot;
  for (;;) {
    next = (next + 1) & slot_mask_;
    if (slots_[next].place == 0) return;
    size_t home = Home(slots_[next].hash);
    if (((next - home) & slot_mask_) >= ((next - slot) & slot_mask_)) {
      slots_[slot] = slots_[next];
      slots_[next] = Slot();
      slot = next;
    }
  }
}

void IdTable::DropFront() {
  assert(begin_ < end_);
  Record& record = At(begin_);
  assert(record.state == State::kDecided);
  // A refused id may come again with seen == version, and must not be taken for a new one.
  RaiseFloor(record.committed() ? record.version : record.version + 1);
  EraseSlot(SlotOf(record.id));
  if (begin_ + kFetchAhead < end_) __builtin_prefetch(&slots_[Home(Hash(At(begin_ + kFetchAhead).id))]);
  bytes_ -= record.bytes;
  record = Record();
  ++begin_;
  if (begin_ % kChunkRecords == 0) {
    spare_ = std::move(chunks_.front());
    chunks_.pop_front();
  }
}

bool IdTable::Trim(absl::Duration now, Version installed) {
  while (begin_ < end_) {
    const Record& record = At(begin_);
    bool over = bytes_ > bytes_max_;
    bool old = size() > kAgelessIds && now - record.added > age_max_;
    if (!over && !old) return false;
    if (record.state == State::kUndecided) return false;
    if (record.state == State::kDecided && !record.committed() && record.version >= installed) return over;
    DropFront();
  }
  return false;
}

void IdTable::RaiseFloor(Version floor) { floor_ = std::max(floor_, floor); }

std::vector<IdTable::CommittedId> IdTable::Committed(Version version, uint64_t* cursor, size_t max) const {
  std::vector<CommittedId> ids;
  *cursor = std::max(*cursor, begin_);
  for (; *cursor < end_ && ids.size() < max; ++*cursor) {
    const Record& record = At(*cursor);
    if (record.committed() && record.version <= version) ids.push_back({record.id, record.version, record.at});
  }
  return ids;
}

}  // namespace stm::engine
