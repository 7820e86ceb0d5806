// Watches gives each installed commit to those who watch what it changed, in commit order, each commit once. A watch
// begins by catching up (its initial entries, then commits since its version, out of the history at its reader's pace)
// and is live from then on. Lives on the Loop; no locks.
#ifndef STM_ENGINE_WATCHES_H_
#define STM_ENGINE_WATCHES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "engine/engine.h"
#include "engine/resolving_sink.h"
#include "engine/watch.h"

namespace stm::engine {

struct Watcher {
  uint64_t handle = 0;
  WatchRequest request;
  std::shared_ptr<WatchSink> sink;
  std::shared_ptr<ResolvingSink> resolving;  // that, if containers are configured; else null
  enum class Phase : uint8_t { kInitial, kCatchUp, kLive } phase = Phase::kCatchUp;
  bool begun = false;        // what it asked for was looked at
  Version synced = 0;        // of kInitial: the snapshot of the entries
  size_t selection = 0;      // of kInitial: which of the selector's names and prefixes is being read
  std::string after_name;    // of kInitial: the last name given of that prefix
  Version delivered = 0;     // every selected commit up to here was given
  bool told = false;         // something was given since the last progress mark
  // Of kInitial beside a store.
  bool loading = false;            // the store was asked
  absl::Status failed;             // what it said
  std::vector<std::string> names;  // of the prefix that is being read, loaded and not given yet
  bool last_names = false;         // no more follow
};

class Watches {
 public:
  Watcher& Add(WatchRequest request, std::shared_ptr<WatchSink> sink);
  void Remove(uint64_t handle);
  Watcher* Find(uint64_t handle);

  // Gives `commit` to the live watchers that select any of its changes. Returns the number given; watchers whose reader
  // is too far behind are removed and counted in *cut.
  int64_t Publish(const std::shared_ptr<const InstalledCommit>& commit, int64_t* cut);
  // What `commit` shows to one watcher; nullptr: nothing.
  static std::shared_ptr<const WatchEvent> Select(const Selector& selector,
                                                  const std::shared_ptr<const InstalledCommit>& commit);

  // Does a watch select it by its name?
  bool SelectsByName(const std::string& name) const { return by_name_.contains(name); }

  std::vector<std::shared_ptr<WatchSink>> TakeAll();
  bool empty() const { return watchers_.empty(); }
  int64_t size() const { return static_cast<int64_t>(watchers_.size()) - own_; }  // clients'

 private:
  void Index(Watcher* watcher, bool add);

  uint64_t next_handle_ = 1;
  int64_t own_ = 0;  // the daemon's
  absl::btree_map<uint64_t, std::unique_ptr<Watcher>> watchers_;
  // Watchers by each name and prefix that they select.
  absl::flat_hash_map<std::string, std::vector<Watcher*>> by_name_;
  absl::flat_hash_map<std::string, std::vector<Watcher*>> by_prefix_;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_WATCHES_H_
