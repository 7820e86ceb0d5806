// Watches: committed changes, in commit order, each commit once (DESIGN section 8). Events are immutable and shared
// by every watcher, so that what one encodes all can send.
#ifndef STM_ENGINE_WATCH_H_
#define STM_ENGINE_WATCH_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/coordinator.h"
#include "engine/transaction.h"

namespace stm::engine {

// Names and subtrees. Both empty: all but the system's.
struct Selector {
  std::vector<std::string> names;
  std::vector<std::string> prefixes;  // each ends in "/"
  bool Selects(std::string_view name) const;
};

// One installed commit, as history keeps it and watchers see it. Once installed, `changes` holds those of memory
// entries ("/.memory/") too.
struct InstalledCommit : CommitRecord {
  std::vector<std::optional<Value>> before;  // one a change; nullopt: absent, if it is known
  std::vector<uint32_t> before_unknown;      // changes whose value before is not, in order: another daemon's, beside an EntryStore
  bool BeforeKnown(size_t change) const {
    return before_unknown.empty() ||
           !std::binary_search(before_unknown.begin(), before_unknown.end(), static_cast<uint32_t>(change));
  }
};

// Serializes its events once for all watchers that see the whole of a commit; owned by the server, opaque here.
class EventEncoding {
 public:
  virtual ~EventEncoding() = default;
};

// What a commit shows one watcher: the changes its selector picks.
struct WatchEvent {
  std::shared_ptr<const InstalledCommit> commit;
  std::vector<uint32_t> selected;  // indexes into commit->changes; never empty
  // Watchers with the same `selected` share one WatchEvent; the first to encode it leaves the bytes here. Guarded by the
  // server's own once-flag.
  mutable std::shared_ptr<EventEncoding> encoding;
  mutable std::atomic_flag encoding_claimed = ATOMIC_FLAG_INIT;
};

// WatchSink takes a watch's events on the Loop, in order; it queues and never blocks.
class WatchSink {
 public:
  virtual ~WatchSink() = default;
  // Of a watch with `initial`, any number of times: entries as they are at the version that OnSynced will name.
  virtual void OnInitial(std::vector<EntryState> entries) = 0;
  // Once, before all commits: every selected commit after `version` follows.
  virtual void OnSynced(Version version) = 0;
  // Returns false when the reader is too far behind: the engine then drops the watch and calls nothing any more.
  virtual bool OnCommit(std::shared_ptr<const WatchEvent> event) = 0;
  // How many more events the reader can be given now without falling behind. Old commits and initial entries, which
  // the engine holds anyway, are given at the reader's pace.
  virtual size_t Room() const = 0;
  // While idle: nothing selected changed up to this version. Only called when the watch asks for it.
  virtual void OnProgress(Version version) = 0;
  // The last call: what was asked for is lost (history trimmed past it, another store); begin again at resume_version.
  virtual void OnGap(Version resume_version, std::string reason) = 0;
  // The last call: the daemon stops.
  virtual void OnDrain() = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_WATCH_H_
