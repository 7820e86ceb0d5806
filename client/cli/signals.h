// Signals catches SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGTSTP, which then do nothing by themselves, and
// SIGCHLD, and hands them out one by one. What was ignored before (nohup) stays so. The same signal again
// before it was taken is one. One at a time; one thread, whichever thread the system gives a signal to.
#ifndef STM_CLIENT_CLI_SIGNALS_H_
#define STM_CLIENT_CLI_SIGNALS_H_

#include <signal.h>

#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace stm::cli {

class Signals {
 public:
  Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  ~Signals();

  // The next one; 0: none came within `timeout`, or Wake was called.
  int Await(absl::Duration timeout);
  // Await returns, now or as soon as it is called. Any thread.
  void Wake();
  // As the process was started: for a child between fork and exec.
  void Restore() const;

 private:
  std::vector<std::pair<int, struct sigaction>> before_;
};

// Ends this process as `signal` would have if it had not been caught. After all is tidied up.
void EndBy(int signal);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_SIGNALS_H_
