// Sleepers are retry()'s AwaitChange calls: each sleeps on the names and prefixes its run read. A change wakes the 16
// that slept longest on it, less those who were woken before and are not back; the next 16 when all have committed or
// slept again, or when none did for 10 ms. Only those are woken who would see something else than they saw: when a job was
// put and taken again, the queue is empty as before, and of 1,000 takers 16 were woken, not all. On the Loop; no locks.
// Always: whoever would see something else is woken in the end.
#ifndef STM_ENGINE_SLEEPERS_H_
#define STM_ENGINE_SLEEPERS_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"

namespace stm::engine {

struct Sleeper {
  AwaitRequest request;
  Done<AwaitResult> done;
};

// What is there to see of a name, or of a prefix: its listing, of which the version is all.
struct Sight {
  Version version = 0;
  std::optional<Value> value;  // nullopt: absent, or a listing
};

class Sleepers {
 public:
  // Values whose EDN is longer than compared_bytes_max are not compared: one that was written is another.
  Sleepers(int64_t woken_at_once, int64_t compared_bytes_max)
      : woken_at_once_(woken_at_once), compared_bytes_max_(compared_bytes_max) {}

  // What is there now of a name or a prefix.
  using Look = absl::FunctionRef<Sight(std::string_view)>;

  // For Add: whoever has the lower one came first.
  uint64_t NextHandle() { return next_handle_++; }
  // Nothing that it read has changed since its snapshot.
  void Add(uint64_t handle, Sleeper sleeper, Look look);
  // nullopt: it woke already.
  std::optional<Sleeper> Remove(uint64_t handle);

  // True, of these three: more wait for their turn on `name`, and nobody was told so yet. Next is due in a while then.
  // `name` (or a prefix) was written: moves to `woken` those whose turn it is.
  bool Change(std::string_view name, Look look, std::vector<Sleeper>* woken);
  // One that may have been woken by `name` has come back: who commits and then sleeps comes back once. Wakes the next if it
  // was the last.
  enum class Back : uint8_t { kCommitted, kAsleep };
  bool CameBack(std::string_view name, Back how, std::vector<Sleeper>* woken);
  // It was due: wakes the next on `name`, unless some of those woken came back meanwhile and the rest may yet.
  bool Next(std::string_view name, std::vector<Sleeper>* woken);

  // The earliest deadline; InfiniteDuration: nobody has one.
  absl::Duration NextDeadline() const;
  // Those past theirs, in order.
  std::vector<Sleeper> TakeExpired(absl::Duration now);

  std::vector<Sleeper> TakeAll();
  bool SleptOn(std::string_view name) const { return beds_.contains(absl::string_view(name.data(), name.size())); }
  bool empty() const { return sleepers_.empty(); }
  int64_t size() const { return static_cast<int64_t>(sleepers_.size()); }

 private:
  // Those who saw the same.
  struct Group {
    Sight seen;
    bool stale = false;            // there is something else to see now
    std::deque<uint64_t> handles;  // in order of arrival; gone ones are skipped
  };
  struct Bed {
    Sight now;
    std::vector<Group> groups;  // few: stale ones empty out
    int64_t out = 0;            // woken and not yet back
    int64_t committed = 0;      // back, and perhaps about to sleep
    bool came_back = false;     // some did since Next was found to be due
    bool next_due = false;      // Next is to come, and who calls it was told
  };

  bool Same(std::string_view name, const Sight& a, const Sight& b) const;
  bool WakeSome(Bed& bed, std::vector<Sleeper>* woken);
  bool TellNextDue(Bed& bed);
  void Leave(const std::string& name, uint64_t handle);

  const int64_t woken_at_once_;
  const int64_t compared_bytes_max_;
  uint64_t next_handle_ = 1;
  absl::flat_hash_map<uint64_t, Sleeper> sleepers_;
  absl::flat_hash_map<std::string, Bed> beds_;
  absl::btree_set<std::pair<absl::Duration, uint64_t>> deadlines_;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_SLEEPERS_H_
