#include "backends/zookeeper/nodes.h"

#include <algorithm>
#include <limits>

#include "backends/zookeeper/layout.h"

namespace stm::zookeeper {

std::optional<int32_t> Nodes::Entry(const std::string& name) const {
  const auto node = entries_.find(name);
  if (node == entries_.end()) return std::nullopt;
  return node->second.expected;
}

std::optional<int32_t> Nodes::Directory(const std::string& prefix) const {
  const auto node = directories_.find(prefix);
  if (node == directories_.end()) return std::nullopt;
  return node->second.expected;
}

std::vector<std::string> Nodes::Directories(const std::string& prefix) const {
  std::vector<std::string> names;
  for (auto it = directories_.lower_bound(prefix); it != directories_.end(); ++it) {
    if (it->first.compare(0, prefix.size(), prefix) != 0) break;
    // "/" is not over the system's.
    if (prefix == "/" && it->first.compare(0, 2, "/.") == 0) continue;
    if (it->second.expected != kNoNode) names.push_back(it->first);
  }
  return names;
}

bool Nodes::Walked(std::string_view prefix) const {
  while (walked_.find(prefix) == walked_.end()) {
    if (prefix == "/") return false;
    prefix = ParentOf(prefix);
  }
  return true;
}

std::vector<std::string> Nodes::Unmade(std::string_view name) const {
  std::vector<std::string> above = NodesAbove(name);
  above.erase(std::remove_if(above.begin(), above.end(),
                             [this](const std::string& path) {
                               return made_.contains(path) || made_under_way_.contains(path);
                             }),
              above.end());
  return above;
}

bool Nodes::KnowsAbove(std::string_view name) const {
  while (name != "/") {
    name = ParentOf(name);
    const auto node = directories_.find(name);
    if (node == directories_.end()) return false;
    if (node->second.expected != kNoNode) return true;
  }
  return true;
}

void Nodes::LearnEntry(const std::string& name, int32_t version) {
  entries_.try_emplace(name, Node{version, version, 0});
}

void Nodes::LearnDirectory(const std::string& prefix, int32_t version) {
  directories_.try_emplace(prefix, Node{version, version, 0});
  if (version != kNoNode) made_.insert(NodePath(prefix));
}

void Nodes::Forget(const std::string& name) {
  if (!expected_entries_.contains(name)) entries_.erase(name);
}

int32_t Nodes::AfterSet(int32_t version) const {
  if (version == kSetTwice) return skips_minus_one_ ? 1 : 0;
  return version == std::numeric_limits<int32_t>::max() ? std::numeric_limits<int32_t>::min() : version + 1;
}

void Nodes::Expect(const NodeChanges& changes) {
  for (const auto& [name, version] : changes.entries) {
    Node& node = entries_[name];
    node.expected = version;
    ++node.under_way;
    expected_entries_.insert(name);
  }
  for (const auto& [name, version] : changes.directories) {
    Node& node = directories_[name];
    node.expected = version;
    ++node.under_way;
    expected_directories_.insert(name);
  }
  made_under_way_.insert(changes.made.begin(), changes.made.end());
}

void Nodes::Commit(const NodeChanges& changes) {
  for (const auto& [name, version] : changes.entries) {
    Node& node = entries_[name];
    node.installed = version;
    if (--node.under_way == 0) expected_entries_.erase(name);
  }
  for (const auto& [name, version] : changes.directories) {
    Node& node = directories_[name];
    node.installed = version;
    if (--node.under_way == 0) expected_directories_.erase(name);
  }
  for (const std::string& path : changes.made) {
    made_under_way_.erase(path);
    made_.insert(path);
  }
}

void Nodes::Abandon() {
  const auto abandon = [](Node* node) {
    node->expected = node->installed;
    node->under_way = 0;
  };
  for (const std::string& name : expected_entries_) abandon(&entries_[name]);
  for (const std::string& name : expected_directories_) abandon(&directories_.find(name)->second);
  expected_entries_.clear();
  expected_directories_.clear();
  made_under_way_.clear();
}

void Nodes::Install(const BatchText& batch) {
  // What is under way of the same nodes is lost, and will be told so.
  for (const auto& [name, version] : batch.entries) {
    Node& node = entries_[name];
    node.installed = version;
    if (node.under_way == 0) node.expected = version;
    // It is there now, so all above it is.
    if (version == 0) {
      for (std::string& path : NodesAbove(name)) made_.insert(std::move(path));
    }
  }
  for (const auto& [name, version] : batch.directories) {
    Node& node = directories_[name];
    node.installed = version;
    if (node.under_way == 0) node.expected = version;
    made_.insert(NodePath(name));
  }
}

void Nodes::Sweep(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto node = entries_.find(name);
    if (node == entries_.end()) continue;
    node->second.installed = kNoNode;
    if (node->second.under_way == 0) node->second.expected = kNoNode;
    // It was there, and what is above it stays: whoever makes it again must not make that again.
    for (std::string& path : NodesAbove(name)) made_.insert(std::move(path));
  }
}

}  // namespace stm::zookeeper
