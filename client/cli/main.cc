// stmctl: the shell of stmd.
#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>

#include "client/cli/app.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  stm::cli::Io io{std::cin, std::cout, std::cerr, isatty(STDIN_FILENO) == 1, isatty(STDOUT_FILENO) == 1, 0,
                  isatty(STDERR_FILENO) == 1};
  winsize size{};
  if (io.out_is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) io.width = size.ws_col;
  if (io.err_is_terminal && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0) io.err_width = size.ws_col;
  return stm::cli::Run(std::vector<std::string>(argv + 1, argv + argc), io);
}
