// What a daemon knows of the nodes of entries and directories: the data versions that its next multi must
// find there. They count up by one with each batch, so a batch may be sent while those before it are under
// way. On the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_NODES_H_
#define STM_BACKENDS_ZOOKEEPER_NODES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/session.h"

namespace stm::zookeeper {

// A node that is not there. None rests at this version, ZooKeeper's wildcard: from the one before it is set
// twice.
inline constexpr int32_t kNoNode = -1;
inline constexpr int32_t kSetTwice = -2;

// What a batch makes of nodes.
struct NodeChanges {
  NodeVersions entries;
  NodeVersions directories;
  std::vector<std::string> made;  // paths of directories and buckets
};

class Nodes {
 public:
  // Of an entry or a directory, once all batches under way are committed; kNoNode: it is not there. nullopt:
  // unknown.
  std::optional<int32_t> Entry(const std::string& name) const;
  std::optional<int32_t> Directory(const std::string& prefix) const;
  // Directories known to be there, `prefix` first, then those below it.
  std::vector<std::string> Directories(const std::string& prefix) const;
  // Is it known what is below it? Then it stays known.
  bool Walked(std::string_view prefix) const;
  void SetWalked(const std::string& prefix) { walked_.insert(prefix); }
  // The buckets and directories above `name`: those not known to be there, highest first.
  std::vector<std::string> Unmade(std::string_view name) const;

  // Is what a creation of `name` changes known: its directory, and those above that are not there?
  bool KnowsAbove(std::string_view name) const;

  // As a server had it, if nothing is known: what the log told is newer.
  void LearnEntry(const std::string& name, int32_t version);
  void LearnDirectory(const std::string& prefix, int32_t version);
  void LearnMade(const std::string& path) { made_.insert(path); }
  void Forget(const std::string& name);

  // What a set makes of a version, of kSetTwice two sets: there servers differ (ZOOKEEPER-4743), and who was
  // wrong guesses the other.
  int32_t AfterSet(int32_t version) const;
  void GuessOther() { skips_minus_one_ = !skips_minus_one_; }

  // A batch of this daemon goes out; is committed; none of those under way is.
  void Expect(const NodeChanges& changes);
  void Commit(const NodeChanges& changes);
  void Abandon();
  // Another daemon's is committed.
  void Install(const BatchText& batch);
  // The nodes of these entries are gone; what is under way is of the epoch before, and lost.
  void Sweep(const std::vector<std::string>& names);

 private:
  struct Node {
    int32_t installed = kNoNode;
    int32_t expected = kNoNode;
    int64_t under_way = 0;  // batches that change it
  };

  bool skips_minus_one_ = true;  // as newer servers do
  absl::flat_hash_map<std::string, Node> entries_;
  absl::btree_map<std::string, Node, std::less<>> directories_;
  absl::flat_hash_set<std::string> made_;
  absl::flat_hash_set<std::string> made_under_way_;
  absl::btree_set<std::string, std::less<>> walked_;
  absl::flat_hash_set<std::string> expected_entries_;  // that batches under way change
  absl::flat_hash_set<std::string> expected_directories_;
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_NODES_H_
