// What an author of a container implements: VersionedStateContainer keeps values of refs, StateContainer copies of atoms
// (Avout's names, five verbs and four). Methods block, are called by many threads at once, and give up after `within`. The
// daemon has threads for each container of its own, so one that hangs delays only those who use it.
// Errors reach the caller of the transaction: UNAVAILABLE: ask again; PERMISSION_DENIED; RESOURCE_EXHAUSTED: it is full;
// DATA_LOSS: what is kept can't be read; others as they are. After an error a write may have had its effect, or may have it later.
// contract.h says by name, and tries, what an implementation must hold to.
#ifndef STM_BACKENDS_CONTAINERS_CONTAINER_H_
#define STM_BACKENDS_CONTAINERS_CONTAINER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/values/value.h"

namespace stm::containers {

class VersionedStateContainer {
 public:
  virtual ~VersionedStateContainer() = default;
  // A ref of this name ("/accounts/7") is about to be kept here. May come again for one that is.
  virtual absl::Status Init(const std::string& name, absl::Duration within) = 0;
  // The ref was deleted, and all its stamps: what is kept for the name itself may go. What is kept under stamps, those of a ref
  // made anew among them, stays. May come late.
  virtual absl::Status Destroy(const std::string& name, absl::Duration within) = 0;
  // nullopt: there is no such stamp. A stamp is at most 64 of a-z, 0-9 and "-"; each name has its own.
  virtual absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name, const std::string& stamp,
                                                          absl::Duration within) = 0;
  // Durable once it is OK, and GetStateAt sees it from then on, from every daemon. The same stamp may come twice, with the same
  // value, also at once. ALREADY_EXISTS: another value is there under it, and stays.
  virtual absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value& value,
                                  absl::Duration within) = 0;
  // OK also when there is no such stamp.
  virtual absl::Status DeleteStateAt(const std::string& name, const std::string& stamp, absl::Duration within) = 0;
};

class StateContainer {
 public:
  virtual ~StateContainer() = default;
  virtual absl::Status Init(const std::string& name, absl::Duration within) = 0;
  // The atom was deleted by the commit `version`: a state of an older version goes, a newer one stays.
  virtual absl::Status Destroy(const std::string& name, int64_t version, absl::Duration within) = 0;
  // nullopt: it has none.
  virtual absl::StatusOr<std::optional<Value>> GetState(const std::string& name, absl::Duration within) = 0;
  // Durable once it is OK. `version` grows; one below what is there already changes nothing and is OK.
  virtual absl::Status SetState(const std::string& name, const Value& value, int64_t version, absl::Duration within) = 0;
};

// What one container of the configuration keeps; null: it does not keep such entries.
struct Container {
  std::unique_ptr<VersionedStateContainer> refs;
  std::unique_ptr<StateContainer> atoms;
};

}  // namespace stm::containers

#endif  // STM_BACKENDS_CONTAINERS_CONTAINER_H_
