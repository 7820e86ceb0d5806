// Entries and listings that are in ZooKeeper and not in memory: loaded on first use.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/zookeeper/coordinator.h"
#include "backends/zookeeper/layout.h"
#include "engine/values/absl_view.h"

namespace stm::zookeeper {
namespace {

// Calls to a server at once, for one loading: waves of them, so that a server has work while one is taken in.
constexpr size_t kAsksAtOnce = 512;
constexpr size_t kWavesAtOnce = 4;
// Servers in a row that show more than their logs.
constexpr int kDoubtsMax = 20;

}  // namespace

// ---- Loading

// The names under a prefix, once walked, and kept by what the log tells.
struct ZooKeeperCoordinator::Listing {
  std::string prefix;
  bool walked = false;
  absl::btree_set<std::string> names;
  std::vector<absl::AnyInvocable<void(const absl::Status&)>> waiting;  // for the walk
};

struct ZooKeeperCoordinator::Loading {
  std::vector<std::string> names;
  std::vector<std::string> prefixes;
  std::vector<Ask> asks;  // of the nodes of names, then of those above
  size_t asked = 0;       // of them, the first so many
  size_t waves = 0;       // under way
  int doubts = 0;
  std::vector<engine::ImageEntry> entries;
  bool ended = false;
  std::shared_ptr<Listing> walks;  // with it ends the walk that all who wait for this listing wait for
  absl::AnyInvocable<void(absl::StatusOr<std::vector<engine::ImageEntry>>)> done;
  absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>)> listed;
};

void ZooKeeperCoordinator::FailLoading(Loading* loading, const absl::Status& status) {
  if (std::exchange(loading->ended, true)) return;
  if (const std::shared_ptr<Listing> listing = std::move(loading->walks)) {
    listings_.erase(std::remove(listings_.begin(), listings_.end(), listing), listings_.end());
    for (auto& waiting : std::exchange(listing->waiting, {})) waiting(status);
  }
  if (loading->done) loading->done(status);
  if (loading->listed) loading->listed(status);
}

std::shared_ptr<ZooKeeperCoordinator::Loading> ZooKeeperCoordinator::NewLoading() {
  auto loading = std::make_shared<Loading>();
  loadings_.erase(
      std::remove_if(loadings_.begin(), loadings_.end(), [](const auto& weak) { return weak.expired(); }),
      loadings_.end());
  loadings_.push_back(loading);
  AwaitConnection(loading);
  return loading;
}

// A load takes as long as it takes; but without a connection nobody knows how long.
void ZooKeeperCoordinator::AwaitConnection(std::weak_ptr<Loading> loading) {
  tasks_.After(options_.tail.barrier_patience, [this, weak = std::move(loading)] {
    const std::shared_ptr<Loading> loading = weak.lock();
    if (loading == nullptr || loading->ended) return;
    if (!tail_.connected()) return FailLoading(loading.get(), Disconnected());
    AwaitConnection(loading);
  });
}

void ZooKeeperCoordinator::Load(
    std::vector<std::string> names, std::vector<std::string> prefixes,
    absl::AnyInvocable<void(absl::StatusOr<std::vector<engine::ImageEntry>>)> done) {
  const std::shared_ptr<Loading> loading = NewLoading();
  loading->done = std::move(done);
  if (!stopped_.ok()) {
    return loop_->Post([this, loading, status = stopped_] { FailLoading(loading.get(), status); });
  }
  absl::btree_set<std::string> above;
  const auto ask_above = [&](std::string_view name) {
    for (std::string& path : nodes_.Unmade(name)) above.insert(std::move(path));
    while (name != "/") {
      name = ParentOf(name);
      if (!nodes_.Directory(std::string(name))) above.insert(NodePath(name));
    }
  };
  absl::flat_hash_set<std::string> once;
  for (std::string& name : names) {
    if (!once.insert(name).second) continue;
    loading->asks.push_back({Ask::Kind::kGet, NodePath(name), Watch::kNo, 0});
    ask_above(name);
    loading->names.push_back(std::move(name));
  }
  for (const std::string& prefix : prefixes) ask_above(prefix);
  for (const std::string& path : above) loading->asks.push_back({Ask::Kind::kExists, path, Watch::kNo, 0});
  loading->prefixes = std::move(prefixes);
  AskNodes(loading);
}

// The nodes, then what is below the prefixes.
void ZooKeeperCoordinator::AskNodes(std::shared_ptr<Loading> loading) {
  while (loading->waves < kWavesAtOnce && loading->asked < loading->asks.size()) {
    const size_t begin = loading->asked;
    loading->asked = std::min(begin + kAsksAtOnce, loading->asks.size());
    ++loading->waves;
    AskWave(loading, begin, loading->asked);
  }
  if (loading->waves > 0) return;
  std::vector<std::string> unknown;
  for (const std::string& prefix : loading->prefixes) {
    if (!nodes_.Walked(prefix)) unknown.push_back(prefix);
  }
  if (unknown.empty()) {
    loading->ended = true;
    // Always in a later task than Load.
    return loop_->Post([loading] { loading->done(std::move(loading->entries)); });
  }
  Walk(loading, unknown, [this, loading, unknown](std::vector<std::string>) {
    if (loading->ended) return;
    loading->ended = true;
    for (const std::string& prefix : unknown) nodes_.SetWalked(prefix);
    loading->done(std::move(loading->entries));
  });
}

void ZooKeeperCoordinator::AskWave(std::shared_ptr<Loading> loading, size_t begin, size_t end) {
  std::vector<Ask> asks(loading->asks.begin() + static_cast<int64_t>(begin),
                        loading->asks.begin() + static_cast<int64_t>(end));
  tail_.Read(asks, [this, loading, asks, begin, end](std::vector<Answer> answers) {
    if (loading->ended) return;
    if (ShowsMoreThanLog(answers)) {
      if (loading->doubts++ == kDoubtsMax) {
        return FailLoading(loading.get(),
                           absl::DataLossError(
                               "an entry's node in ZooKeeper is newer than all of the log: it was changed by "
                               "something that is no stmd of this store: restore a backup"));
      }
      tail_.LeaveServer();
      return tasks_.After(kAgain, [this, loading, begin, end] { AskWave(loading, begin, end); });
    }
    Learn(loading.get(), begin, asks, std::move(answers));
    if (loading->ended) return;
    --loading->waves;
    AskNodes(loading);
  });
}

// Then the server has lost a part of the log.
bool ZooKeeperCoordinator::ShowsMoreThanLog(const std::vector<Answer>& answers) const {
  return std::any_of(answers.begin(), answers.end(), [this](const Answer& answer) {
    return !answer.data.empty() && VersionOf(tail_.epoch().base, answer.stat.mzxid, 0) > installed_;
  });
}

// All that these answers could show is installed, and what was installed since they were asked is known
// better.
void ZooKeeperCoordinator::Learn(Loading* loading, size_t begin, const std::vector<Ask>& asks,
                                 std::vector<Answer> answers) {
  for (size_t i = 0; i < asks.size(); ++i) {
    const Answer& answer = answers[i];
    const bool there = answer.code == Code::kOk;
    if (!there && answer.code != Code::kNoNode) {
      return FailLoading(loading, absl::PermissionDeniedError(absl::StrCat(
                                      asks[i].path, " in ZooKeeper can't be read: ", NameOf(answer.code))));
    }
    if (asks[i].kind == Ask::Kind::kExists) {
      if (const std::optional<std::string> directory = DirectoryOf(asks[i].path)) {
        nodes_.LearnDirectory(*directory, there ? answer.stat.version : kNoNode);
      } else if (there) {
        nodes_.LearnMade(asks[i].path);
      }
      continue;
    }
    const std::string& name = loading->names[begin + i];
    nodes_.LearnEntry(name, there ? answer.stat.version : kNoNode);
    if (!there) continue;
    absl::StatusOr<engine::ImageEntry> entry = ParseNode(answer.data);
    if (!entry.ok() || entry->name != name) {
      return FailLoading(loading, absl::DataLossError(absl::StrCat(
                                      asks[i].path, " in ZooKeeper does not say what ", name,
                                      " is: ", entry.ok() ? Absl(entry->name) : entry.status().message())));
    }
    entry->version = VersionOf(tail_.epoch().base, answer.stat.mzxid, entry->version);
    loading->entries.push_back(*std::move(entry));
  }
}

// ---- Directories

// Learns all directories below `prefixes`, level by level, and gives `done` the names of the entries there.
void ZooKeeperCoordinator::Walk(std::shared_ptr<Loading> loading, std::vector<std::string> prefixes,
                                absl::AnyInvocable<void(std::vector<std::string>)> done) {
  struct Walking {
    std::deque<std::string> directories;
    std::deque<std::pair<std::string, std::string>> buckets;  // a path, and the directory that it is of
    std::vector<std::string> names;
    absl::AnyInvocable<void(std::vector<std::string>)> done;
  };
  auto walking = std::make_shared<Walking>();
  walking->directories.assign(prefixes.begin(), prefixes.end());
  walking->done = std::move(done);
  auto step = std::make_shared<std::function<void()>>();
  *step = [this, loading, walking, weak = std::weak_ptr<std::function<void()>>(step)] {
    const std::shared_ptr<std::function<void()>> self = weak.lock();
    std::vector<Ask> asks;
    std::vector<std::string> of;
    while (!walking->directories.empty() && asks.size() < kAsksAtOnce) {
      const std::string path = NodePath(walking->directories.front());
      asks.push_back({Ask::Kind::kExists, path, Watch::kNo, 0});
      asks.push_back({Ask::Kind::kChildren, path, Watch::kNo, 0});
      of.insert(of.end(), 2, walking->directories.front());
      walking->directories.pop_front();
    }
    while (!walking->buckets.empty() && asks.size() < kAsksAtOnce) {
      asks.push_back({Ask::Kind::kChildren, walking->buckets.front().first, Watch::kNo, 0});
      of.push_back(walking->buckets.front().second);
      walking->buckets.pop_front();
    }
    if (asks.empty()) return walking->done(std::move(walking->names));
    tail_.Read(asks, [this, loading, walking, self, asks, of](std::vector<Answer> answers) {
      if (loading->ended) return;
      for (size_t i = 0; i < asks.size(); ++i) {
        const Answer& answer = answers[i];
        if (asks[i].kind == Ask::Kind::kExists) {
          nodes_.LearnDirectory(of[i], answer.code == Code::kOk ? answer.stat.version : kNoNode);
          continue;
        }
        const bool directory =
            i > 0 && asks[i - 1].kind == Ask::Kind::kExists && asks[i - 1].path == asks[i].path;
        for (const std::string& child : answer.names) {
          if (directory) {
            walking->buckets.emplace_back(absl::StrCat(asks[i].path, "/", child), of[i]);
            nodes_.LearnMade(walking->buckets.back().first);
          } else if (const std::optional<std::string> name = ChildOf(of[i], child)) {
            if (name->back() == '/') {
              walking->directories.push_back(*name);
            } else {
              walking->names.push_back(*name);
            }
          }
        }
      }
      (*self)();
    });
  };
  (*step)();
}

// ---- Listings

void ZooKeeperCoordinator::AddToListings(const engine::Batch& commits) {
  if (listings_.empty()) return;
  for (const auto& commit : commits) {
    for (const engine::EntryChange& change : commit->changes) {
      if (change.kind != engine::EntryChange::Kind::kCreate) continue;
      for (const std::shared_ptr<Listing>& listing : listings_) {
        if (absl::StartsWith(change.name, listing->prefix)) listing->names.insert(change.name);
      }
    }
  }
}

void ZooKeeperCoordinator::TakeOffListings(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    for (const std::shared_ptr<Listing>& listing : listings_) listing->names.erase(name);
  }
}

void ZooKeeperCoordinator::List(std::string prefix, std::string after, size_t limit,
                                absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>)> done) {
  const std::shared_ptr<Loading> loading = NewLoading();
  loading->listed = std::move(done);
  if (!stopped_.ok()) {
    return loop_->Post([this, loading, status = stopped_] { FailLoading(loading.get(), status); });
  }
  auto found = std::find_if(listings_.begin(), listings_.end(),
                            [&](const std::shared_ptr<Listing>& one) { return one->prefix == prefix; });
  std::shared_ptr<Listing> listing;
  if (found != listings_.end()) {
    listing = *found;
    listings_.erase(found);
  } else {
    listing = std::make_shared<Listing>();
    listing->prefix = prefix;
    if (listings_.size() >= options_.listings_max) listings_.pop_back();
  }
  listings_.push_front(listing);
  const auto page = [this, loading, listing, after = std::move(after), limit](const absl::Status& status) {
    if (!status.ok()) return FailLoading(loading.get(), status);
    if (std::exchange(loading->ended, true)) return;
    std::vector<std::string> names;
    auto it = after.empty() ? listing->names.begin() : listing->names.upper_bound(after);
    for (; it != listing->names.end() && names.size() < limit; ++it) {
      // "/" is not over the system's.
      if (listing->prefix == "/" && absl::StartsWith(*it, "/.")) continue;
      names.push_back(*it);
    }
    loading->listed(std::move(names));
  };
  if (listing->walked) {
    // What the log has told so far is in it.
    return loop_->Post([page] { page(absl::OkStatus()); });
  }
  listing->waiting.push_back(page);
  if (listing->waiting.size() > 1) return;
  loading->walks = listing;
  Walk(loading, {prefix}, [this, loading, listing](std::vector<std::string> names) {
    loading->walks = nullptr;
    listing->names.insert(names.begin(), names.end());
    listing->walked = true;
    nodes_.SetWalked(listing->prefix);
    for (auto& waiting : std::exchange(listing->waiting, {})) waiting(absl::OkStatus());
  });
}

void ZooKeeperCoordinator::Forget(const std::string& name) { nodes_.Forget(name); }

}  // namespace stm::zookeeper
