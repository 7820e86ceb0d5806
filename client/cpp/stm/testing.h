// Daemon is an stmd for tests: in memory on a port of its own, or on a data directory so that it can be killed and
// started again. It ends with the thread that started it, whatever becomes of that; a Ctrl-C at the terminal is not for
// it. One thread.
//   absl::StatusOr<stm::testing::Daemon> daemon = stm::testing::Daemon::Start();
//   absl::StatusOr<stm::Client> client = stm::Connect(daemon->address());
#ifndef STM_CLIENT_CPP_STM_TESTING_H_
#define STM_CLIENT_CPP_STM_TESTING_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace stm::testing {

struct DaemonOptions {
  // Of stmd; "": STMD_BINARY, else server/stmd among Bazel's runfiles, else stmd in PATH.
  std::string binary;
  // Beside --ephemeral, which stands for a memory store; e.g. --id-table-bytes=65536.
  std::vector<std::string> flags;
  // Not "": a durable store there instead of memory, and the same port after Restart.
  std::string data_dir;
};

class Daemon {
 public:
  // Waits until it says where it listens.
  static absl::StatusOr<Daemon> Start(const DaemonOptions& options = {});
  Daemon(Daemon&& other) noexcept;
  Daemon& operator=(Daemon&& other) noexcept;
  ~Daemon();

  const std::string& address() const { return address_; }
  pid_t pid() const { return pid_; }
  // False: it was stopped or killed, or has ended by itself; then Stop tells its exit status.
  bool Running();
  // Ends in order, and is waited for. Its exit status, or 128 and the signal.
  int Stop();
  // kill -9, and is waited for.
  void Kill();
  // After Stop or Kill: the same flags, data directory and address.
  absl::Status Restart();

 private:
  explicit Daemon(DaemonOptions options) : options_(std::move(options)) {}
  absl::Status Launch();
  // Waits for its end; with WNOHANG: false if it has not come.
  bool Wait(int options);

  DaemonOptions options_;
  std::string address_;
  pid_t pid_ = -1;
  int exit_ = 0;  // once it has ended
  int stdin_ = -1;  // its end is the daemon's
};

}  // namespace stm::testing

#endif  // STM_CLIENT_CPP_STM_TESTING_H_
