// Containers keep values outside of the coordinator (DESIGN section 11), as the engine sees them: by name,
// never blocking. backends/containers makes this of what people write (container.h); tests/simulation of a
// simulated store. Every method is called on the Loop; `done` comes in a later task on the Loop, once, at
// `deadline` (Loop::Now()'s clock) at the latest. An error means that nothing is known: the call may have had
// its effect, or may have it later.
#ifndef STM_ENGINE_CONTAINERS_H_
#define STM_ENGINE_CONTAINERS_H_

#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/transaction.h"

namespace stm::engine {

class Containers {
 public:
  virtual ~Containers() = default;
  using Told = absl::AnyInvocable<void(absl::Status)>;
  using Got = absl::AnyInvocable<void(absl::StatusOr<std::optional<Value>>)>;

  // Is a container of this name configured, and does it keep entries of this kind? FAILED_PRECONDITION: which
  // are.
  virtual absl::Status Check(const std::string& container, EntryKind kind) = 0;

  // Of refs: a value under a stamp is written once, and is there until it is deleted. UNAVAILABLE: the
  // container can't be reached, or did not answer by the deadline. Others are the container's own words.
  virtual void Init(const std::string& container, const std::string& name, absl::Duration deadline,
                    Told done) = 0;
  virtual void Destroy(const std::string& container, const std::string& name, absl::Duration deadline,
                       Told done) = 0;
  // nullopt: it has no such stamp.
  virtual void GetStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                          absl::Duration deadline, Got done) = 0;
  virtual void SetStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                          Value value, absl::Duration deadline, Told done) = 0;
  virtual void DeleteStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                             absl::Duration deadline, Told done) = 0;

  // Of atoms: a copy, whose versions grow. A state or an end of an older version changes nothing.
  virtual void InitAtom(const std::string& container, const std::string& name, absl::Duration deadline,
                        Told done) = 0;
  virtual void DestroyAtom(const std::string& container, const std::string& name, Version version,
                           absl::Duration deadline, Told done) = 0;
  virtual void GetState(const std::string& container, const std::string& name, absl::Duration deadline,
                        Got done) = 0;
  virtual void SetState(const std::string& container, const std::string& name, Value value, Version version,
                        absl::Duration deadline, Told done) = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_CONTAINERS_H_
