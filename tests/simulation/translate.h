// What clients write down, as the engine takes it, and what the engine answers, as the checkers read it.
// Pure; any thread.
#ifndef STM_TESTS_SIMULATION_TRANSLATE_H_
#define STM_TESTS_SIMULATION_TRANSLATE_H_

#include <vector>

#include "absl/status/status.h"
#include "engine/transaction.h"
#include "tests/checkers/history.h"
#include "tests/simulation/sim_containers.h"

namespace stm::sim {

// `containers`: which entries are made in one.
std::vector<engine::Write> ToEngine(const std::vector<check::Write>& from, const ContainerSettings& containers);
std::vector<check::Entry> ToEntries(const std::vector<engine::EntryState>& from);
// `installed`: as told with the verdict.
check::Answer ToAnswer(const engine::Verdict& verdict, check::Time at, check::Life life,
                       check::Version installed);
// It says that a container has lost, or changed, what was committed.
bool LostValue(const absl::Status& status);
// Is it another store than the client knows? Null: no.
bool OtherStore(const absl::Status* status);

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_TRANSLATE_H_
