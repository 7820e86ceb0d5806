// DemoDaemon is a stmd that a demonstration starts, on a port and a temporary directory of its own, and kills with -9 again
// and again. All that is left of it goes with it. The thread that made it; the daemon ends with that thread.
#ifndef STM_CLIENT_CLI_DEMO_DAEMON_H_
#define STM_CLIENT_CLI_DEMO_DAEMON_H_

#include <cstdint>
#include <memory>
#include <random>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/demo.h"
#include "stm/testing.h"

namespace stm::cli {

class DemoDaemon {
 public:
  // `stmd`: its path; "": beside this program, else in PATH. Serves when it returns.
  static absl::StatusOr<std::unique_ptr<DemoDaemon>> Start(const std::string& stmd);
  DemoDaemon(const DemoDaemon&) = delete;
  DemoDaemon& operator=(const DemoDaemon&) = delete;
  ~DemoDaemon();

  const std::string& address() const { return daemon_.address(); }
  const std::string& directory() const { return directory_; }
  int64_t kills() const { return kills_; }

  // Kills it and starts it anew when its time has come, and `settled` says that it has served since the last time.
  // DATA_LOSS: it ended by itself.
  absl::Status KillInTime(bool settled);
  // Kills it, and waits until it serves again: what is read afterwards comes from the disk.
  absl::Status KillOnceMore();
  // Stops it in order, and reads its files as `stmctl log verify` does. How many.
  absl::StatusOr<int64_t> StopAndVerify(Violations* violations);
  // The directory stays.
  void Keep() { keep_ = true; }

 private:
  DemoDaemon(std::string stmd, std::string directory, testing::Daemon daemon);
  absl::Status Kill();
  void SetNextKill();
  absl::Status AwaitReady();
  absl::Status EndedByItself();

  const std::string stmd_;
  const std::string directory_;
  testing::Daemon daemon_;
  std::mt19937_64 random_;
  absl::Time kill_at_;
  int64_t kills_ = 0;
  bool keep_ = false;
};

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_DEMO_DAEMON_H_
