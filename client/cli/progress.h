// Progress shows on the standard error how far long work is: a line that is drawn over, on a terminal; nothing in a pipe.
// One thread.
#ifndef STM_CLIENT_CLI_PROGRESS_H_
#define STM_CLIENT_CLI_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "client/cli/shell.h"

namespace stm::cli {

class Progress {
 public:
  // `of`: all there is to do, in `unit`; 0: nobody knows.
  Progress(Io& io, std::string what, std::string unit, int64_t of);
  // Takes the line away.
  ~Progress();

  void At(int64_t done);

 private:
  Io& io_;
  const std::string what_;
  const std::string unit_;
  const int64_t of_;
  const absl::Time began_;
  absl::Time drawn_;
};

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_PROGRESS_H_
