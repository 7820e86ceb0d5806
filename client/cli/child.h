// RunChild runs a command for as long as something is held. The command has a process group of its own, so
// that a signal reaches all that it started; on a terminal that group is in the foreground meanwhile, as a
// shell's job would be, so that it can read, and Ctrl-C and Ctrl-Z are its own. One thread.
#ifndef STM_CLIENT_CLI_CHILD_H_
#define STM_CLIENT_CLI_CHILD_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/signals.h"

namespace stm::cli {

inline constexpr absl::Duration kKillGraceDefault = absl::Seconds(10);

struct ChildOptions {
  std::vector<std::string> command;
  std::vector<std::pair<std::string, std::string>> environment;  // over this process's own
  // What it is run for is gone: it gets SIGTERM, and SIGKILL `grace` later. Asked several times a second.
  std::function<bool()> lost;
  absl::Duration grace = kKillGraceDefault;
};

struct ChildEnd {
  int exit = 0;  // as shells tell it: 128 and the signal that killed it; 126 or 127: it could not be started
  std::string start_error;
  bool lost = false;
  bool killed = false;  // SIGTERM was not enough
};

// Until it ends. SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to its group. SIGTSTP, or its own stop on
// a terminal, stops this process with it: then nothing is kept alive, and what is lost by its waking is lost
// for the command, too. If this process is killed, the command (though not what it started) gets SIGTERM.
ChildEnd RunChild(Signals& signals, const ChildOptions& options);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_CHILD_H_
