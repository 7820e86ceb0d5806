// Sleepers are retry()'s AwaitChange calls: each sleeps on the names and prefixes its run read. A change wakes the 16
// that slept longest on it; the next 16 when those have committed or slept again, or after 10 ms: a queue with 1,000
// takers is no herd, and all are woken in the end. Lives on the Loop; no locks.
#ifndef STM_ENGINE_SLEEPERS_H_
#define STM_ENGINE_SLEEPERS_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/engine.h"

namespace stm::engine {

struct Sleeper {
  AwaitRequest request;
  Done<AwaitResult> done;
};

class Sleepers {
 public:
  explicit Sleepers(int64_t woken_at_once) : woken_at_once_(woken_at_once) {}

  uint64_t Add(Sleeper sleeper);
  // nullopt: it woke already.
  std::optional<Sleeper> Remove(uint64_t handle);

  // `name` (or a prefix) changed in `version`: moves to `woken` those whose turn it is. True: more wait for theirs, so
  // Next is due in a while.
  bool Change(std::string_view name, Version version, std::vector<Sleeper>* woken);
  // One that may have been woken by `name` has come back. Wakes the next if it was the last.
  bool CameBack(std::string_view name, std::vector<Sleeper>* woken);
  // Wakes the next on `name`, come what may. True: more wait.
  bool Next(std::string_view name, std::vector<Sleeper>* woken);

  std::vector<Sleeper> TakeAll();
  bool empty() const { return sleepers_.empty(); }
  int64_t size() const { return static_cast<int64_t>(sleepers_.size()); }

 private:
  struct Bed {
    std::deque<uint64_t> handles;  // in order of arrival; gone ones are skipped
    Version changed = 0;
    int64_t out = 0;  // woken and not yet back
  };

  int64_t woken_at_once_;
  uint64_t next_handle_ = 1;
  absl::flat_hash_map<uint64_t, Sleeper> sleepers_;
  absl::flat_hash_map<std::string, Bed> beds_;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_SLEEPERS_H_
