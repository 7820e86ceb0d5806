// Shrinks a failing run to a smaller one that fails in the same way, and tells a run's story in lines.
#ifndef STM_TESTS_SIMULATION_SHRINK_H_
#define STM_TESTS_SIMULATION_SHRINK_H_

#include <cstdint>
#include <set>
#include <string>

#include "tests/simulation/simulation.h"

namespace stm::sim {

// Kinds of fault: names of rules, and failures up to their first colon.
std::set<std::string> FaultKinds(const Result& result);

struct Shrunk {
  Run run;
  Result result;
  int64_t tried = 0;
};
// `run` fails. Takes away what it can, one thing after another, as long as some seed near still shows the
// first run's first kind of fault: what is left out changes all draws behind it, so the seed may move.
Shrunk Shrink(const Run& run);

// The flags that make `run` again, without the planted bug's.
std::string Flags(const Run& run);

// All that happened, in order of time: who asked what, what they were told, crashes and starts between; then
// the log. Transactions are t0, t1, ..., calls of locks l0, l1, ... in order of sending; so they are called
// in the faults at the end.
std::string Story(const Result& result);

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_SHRINK_H_
