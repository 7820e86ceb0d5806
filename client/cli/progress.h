// Progress shows on the standard error how far long work is: a line that is drawn over, on a terminal; nothing in a pipe,
// and nothing of work that is soon done. One thread.
#ifndef STM_CLIENT_CLI_PROGRESS_H_
#define STM_CLIENT_CLI_PROGRESS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "client/cli/shell.h"

namespace stm::cli {

class Progress {
 public:
  // Rows that are printed meanwhile are progress enough where they can be seen: on a terminal nothing is drawn among them.
  enum class Rows { kAtTheEnd, kMeanwhile };

  // `of`: all there is to do, in `unit`; 0: nobody knows.
  Progress(Io& io, std::string what, std::string unit, int64_t of, Rows rows = Rows::kAtTheEnd);
  // Takes the line away.
  ~Progress();

  void At(int64_t done);
  // `part` of all, 0 to 1; nullopt: nobody knows. `more` is shown behind.
  void At(int64_t done, std::optional<double> part, const std::string& more = "");

 private:
  Io& io_;
  const std::string what_;
  const std::string unit_;
  const int64_t of_;
  const bool draws_;
  const absl::Time began_;
  absl::Time drawn_;
};

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_PROGRESS_H_
