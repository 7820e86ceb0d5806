// The text of a log entry, which is a batch, and of an entry's node. A person can read both:
//   {:writer "00c0ffee00c0ffee" :batch 7 :dirs {"/accounts/" 3}}
//   {:version 1 :at #inst "..." :tx #uuid "..." :set {"/accounts/7" 90}} ;0 1a2b3c4d
//   [["/accounts/7" 5 :was 100]]
// and two such lines for each commit: what it did, as a local log says it (log_format.h), with the commit's
// place in the batch, from 1, for its version, and whole values alone; and, of each entry, its node's version
// after the batch and what was there before. Pure.
#ifndef STM_BACKENDS_ZOOKEEPER_BATCH_TEXT_H_
#define STM_BACKENDS_ZOOKEEPER_BATCH_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/coordinator.h"

namespace stm::zookeeper {

// A batch has so many commits at most: a version's low bits say which.
inline constexpr int kPlaceBits = 8;
inline constexpr size_t kBatchCommitsMax = 1 << kPlaceBits;
// Longer values before a change are not told.
inline constexpr size_t kBeforeBytesMax = 256;

// Of the commit at `place` of the batch that is ZooKeeper's transaction `zxid`.
inline engine::Version VersionOf(engine::Version base, int64_t zxid, int64_t place) {
  return base + (zxid << kPlaceBits | place);
}

// Names and the data versions of their nodes.
using NodeVersions = absl::flat_hash_map<std::string, int32_t>;

struct BatchText {
  uint64_t writer = 0;
  int64_t number = 0;  // of that writer's
  NodeVersions directories;
  NodeVersions entries;
  engine::Batch commits;  // version: the place, from 0; each change's `whole` and `before`
};

std::string PrintBatch(uint64_t writer, int64_t number, const engine::Batch& commits,
                       const NodeVersions& entries, const NodeVersions& directories);
// DATA_LOSS says what is wrong. UNIMPLEMENTED: of a newer format.
absl::StatusOr<BatchText> ParseBatch(std::string_view text);

// An entry as a change leaves it, also if nobody filled `whole` in.
engine::ImageEntry WholeOf(const engine::EntryChange& change);
// A node's data: as a line of a snapshot, with the place in the batch, there from 1, for its version.
std::string PrintNode(engine::ImageEntry whole, int64_t place, Instant at);
absl::StatusOr<engine::ImageEntry> ParseNode(std::string_view data);

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_BATCH_TEXT_H_
