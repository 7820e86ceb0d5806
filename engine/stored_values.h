// StoredValues has values that containers keep in memory, by stamp: what a stamp names never changes, so what
// is here is right. Those used longest ago go first. Lives on the Loop; no locks.
#ifndef STM_ENGINE_STORED_VALUES_H_
#define STM_ENGINE_STORED_VALUES_H_

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/containers.h"
#include "engine/loop.h"
#include "engine/stored.h"

namespace stm::engine {

// CONTAINER_DOWN for UNAVAILABLE, and every message says which container and which entry.
absl::Status OfContainer(const absl::Status& status, const std::string& container, const std::string& name);
// FAILED_PRECONDITION: no container is configured here at all.
absl::Status NoContainers(const std::string& container);

class StoredValues {
 public:
  // `containers`: null: none are configured.
  StoredValues(Loop* loop, Containers* containers, int64_t bytes_max, absl::Duration timeout)
      : loop_(loop), containers_(containers), bytes_max_(bytes_max), timeout_(timeout) {}

  // nullopt: it is not here.
  std::optional<Value> Find(const std::string& stamp);
  void Add(const std::string& stamp, Value value);

  // nullopt: the container has no such stamp. DATA_LOSS: what it has is not what was written. UNAVAILABLE, at
  // `deadline` at the latest. `done` comes on the Loop, maybe at once. Those who ask for one stamp at once
  // share a call.
  using Loaded = absl::AnyInvocable<void(absl::StatusOr<std::optional<Value>>)>;
  void Load(const Stored& stored, const std::string& name, absl::Duration deadline, Loaded done);

  int64_t loads() const { return loads_; }
  int64_t bytes() const { return bytes_; }

 private:
  struct Kept {
    Value value;
    int64_t bytes = 0;
    std::list<std::string>::iterator used;
  };
  struct Waiter {
    uint64_t number = 0;
    Loaded done;
  };
  void Got(const Stored& stored, const std::string& name, absl::StatusOr<std::optional<Value>> got);
  void TooLate(const std::string& stamp, uint64_t number, const std::string& container,
               const std::string& name);

  Loop* const loop_;
  Containers* const containers_;
  const int64_t bytes_max_;
  const absl::Duration timeout_;
  absl::flat_hash_map<std::string, Kept> kept_;
  std::list<std::string> used_;  // stamps, the newest use first
  int64_t bytes_ = 0;
  int64_t loads_ = 0;
  uint64_t next_ = 1;
  absl::flat_hash_map<std::string, std::vector<Waiter>> waiting_;  // by stamp
};

}  // namespace stm::engine

#endif  // STM_ENGINE_STORED_VALUES_H_
