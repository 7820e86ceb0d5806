// The log as the checkers know it, out of what the engine and the log's files hold. Pure; any thread.
#ifndef STM_TESTS_SIMULATION_LOG_FILES_H_
#define STM_TESTS_SIMULATION_LOG_FILES_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "engine/coordinator.h"
#include "tests/checkers/history.h"

namespace stm::sim {

check::LogChange ToLogChange(const engine::EntryChange& from);
check::LogCommit ToLogCommit(const engine::LogCursor::Item& from);

// All that is left, read on to its end.
absl::StatusOr<check::Log> ReadToEnd(engine::LogCursor* cursor);

// The commits in log files, by name, through the reader that serves clients. A file that was never finished
// holds none. OUT_OF_RANGE: there is a hole between two of them.
absl::StatusOr<check::Log> ReadLogFiles(const std::map<std::string, std::string>& contents);

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_LOG_FILES_H_
