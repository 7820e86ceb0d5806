// The command line of stmctl: what is parsed, and which command runs. One thread.
#ifndef STM_CLIENT_CLI_APP_H_
#define STM_CLIENT_CLI_APP_H_

#include <string>
#include <vector>

#include "client/cli/shell.h"

namespace stm::cli {

// `arguments` without the program's name. Returns the exit code (shell.h); an error is one line on io.err.
int Run(std::vector<std::string> arguments, Io& io);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_APP_H_
