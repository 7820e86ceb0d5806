// What lock, elect and set --ephemeral share: waiting for a hold so that a signal ends it, and running a
// command for as long as the hold lasts. One thread.
#ifndef STM_CLIENT_CLI_HELD_H_
#define STM_CLIENT_CLI_HELD_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/commands.h"
#include "client/cli/shell.h"
#include "client/cli/signals.h"
#include "stm/client.h"

namespace stm::cli {

// The signals that end a process. SIGTSTP is done as it asks; anything else is of no interest here: 0.
int EndingSignal(Signals& signals, absl::Duration timeout);

// Calls `acquire` on a thread of its own. CANCELLED: a signal came, `*signal` says which, and nothing is
// held.
absl::StatusOr<Held> AwaitHeld(Signals& signals,
                               const std::function<absl::StatusOr<Held>(const Canceller&)>& acquire,
                               int* signal);

// What a command is run for.
struct Tenure {
  std::string what;  // "/nightly", for messages
  std::function<bool()> lost;
  std::vector<std::pair<std::string, std::string>> environment;  // beside STM_ADDRESS
};

// Runs the command to its end: its exit code. kLockLost: the tenure was over first, and the command was
// ended. A command that can't be started is an error whose exit code is passed on.
absl::StatusOr<int> RunFor(Shell& shell, Signals& signals, const Tenure& tenure, const RunOptions& options);
// `what` is lost; `then`: what became of whom.
absl::Status TenureLost(const std::string& what, const std::string& then);

// INVALID_ARGUMENT: no grace, or --grace without a command.
absl::Status CheckRun(const RunOptions& options);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_HELD_H_
