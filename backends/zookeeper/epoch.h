// Epoch is what /stm/epoch says: which store this is, and where its log stands. Its node's version fences
// every commit. It moves on in a multi whose log entry says so too, which a person can read:
//   {:epoch 5 :is {:format 1 :store "00c0ffee00c0ffee" ...} :below 1234 :swept ["/a" "/b"]}
// Pure.
#ifndef STM_BACKENDS_ZOOKEEPER_EPOCH_H_
#define STM_BACKENDS_ZOOKEEPER_EPOCH_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/transaction.h"

namespace stm::zookeeper {

// The newest format that is read, and what is made.
inline constexpr int64_t kFormat = 1;

struct Epoch {
  int32_t version = 0;  // of its node
  uint64_t store = 0;
  engine::Version base = 0;  // versions are above
  int64_t segment = 0;       // of the log: where it goes on. The one before may be there still, none else is
  int64_t swept = 0;         // what log entries below this position deleted is swept: they may be trimmed
};
std::string PrintEpoch(const Epoch& epoch);
// UNIMPLEMENTED: of a newer format. DATA_LOSS: no such thing.
absl::StatusOr<Epoch> ParseEpoch(const std::string& data);

// What a segment's node says: "42", or "42 closed".
struct SegmentText {
  int64_t trimmed = 0;  // entries, its first
  bool closed = false;  // another follows it
};
std::string PrintSegment(const SegmentText& segment);
// DATA_LOSS
absl::StatusOr<SegmentText> ParseSegment(const std::string& data);

// A log entry that is no batch.
struct EpochMove {
  Epoch epoch;
  // Tombstones that were swept: their nodes are gone. None of them is newer than `below`.
  engine::Version below = 0;
  std::vector<std::string> swept;
};
bool IsEpochMove(std::string_view data);
std::string PrintEpochMove(const EpochMove& move);
absl::StatusOr<EpochMove> ParseEpochMove(const std::string& data);

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_EPOCH_H_
