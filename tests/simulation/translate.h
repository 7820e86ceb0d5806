// What clients write down, as the engine takes it, and what the engine answers, as the checkers read it.
// Pure; any thread.
#ifndef STM_TESTS_SIMULATION_TRANSLATE_H_
#define STM_TESTS_SIMULATION_TRANSLATE_H_

#include <vector>

#include "absl/status/status.h"
#include "engine/transaction.h"
#include "tests/checkers/history.h"

namespace stm::sim {

std::vector<engine::Write> ToEngine(const std::vector<check::Write>& from);
std::vector<check::Entry> ToEntries(const std::vector<engine::EntryState>& from);
// `installed`: as told with the verdict.
check::Answer ToAnswer(const engine::Verdict& verdict, check::Time at, check::Life life,
                       check::Version installed);
// Is it another store than the client knows? Null: no.
bool OtherStore(const absl::Status* status);

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_TRANSLATE_H_
