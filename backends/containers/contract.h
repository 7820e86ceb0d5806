// The contract of containers (container.h) as rules, each with a name, and a suite that tries them: an author
// runs it on his own container, `stmctl container check` on one that is asked by gRPC. It uses names under
// "/.check/" and a number of its own, so that it may be run on a container that holds values, and takes what
// it wrote away again. Calls are made by threads of the suite, many at once for some rules. One that does not
// return in time ends the suite and leaves its thread in the container: the program should end too.
#ifndef STM_BACKENDS_CONTAINERS_CONTRACT_H_
#define STM_BACKENDS_CONTAINERS_CONTRACT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "backends/containers/container.h"

namespace stm::containers {

// A rule's id is for ever: "refs-3" is the same rule in every release.
struct Rule {
  const char* id;     // "refs-3"
  const char* claim;  // "a value that was set is read back equal, of every type"
};
const std::vector<Rule>& RefRules();
const std::vector<Rule>& AtomRules();
// Of a container that keeps both.
const std::vector<Rule>& BothRules();

struct Violation {
  std::string rule;  // its id
  std::string what;  // what was asked, what came, what should have
};

struct Tried {
  const Rule* rule;
  // False: an earlier call did not come back, nothing reaches the container, or the rule is for two
  // connections.
  bool tried = true;
  std::vector<Violation> violations;
};

struct CheckOptions {
  // What each call is given, and how much longer it may take: a thread may have to wait for a processor.
  absl::Duration within = absl::Seconds(10);
  absl::Duration grace = absl::Seconds(5);
  // Of the rules for many at once.
  int threads = 8;
  int rounds = 20;
  size_t large_bytes = 256 << 10;
  // Of the names: another for every run on one container. 0: by chance.
  uint64_t run = 0;
  // The same store by another connection, as another daemon has it; null: the rule for that is not tried.
  VersionedStateContainer* other_refs = nullptr;
  StateContainer* other_atoms = nullptr;
  // Told of each rule as it was tried, in order.
  std::function<void(const Tried&)> report;
};

// What it breaks; empty: it holds to the contract, as far as the suite can see. That values outlive a crash
// it can't.
std::vector<Violation> CheckRefs(VersionedStateContainer* container, const CheckOptions& options = {});
std::vector<Violation> CheckAtoms(StateContainer* container, const CheckOptions& options = {});
// Of what it keeps, and that a ref and an atom of one name are apart.
std::vector<Violation> CheckContainer(const Container& container, const CheckOptions& options = {});

}  // namespace stm::containers

#endif  // STM_BACKENDS_CONTAINERS_CONTRACT_H_
