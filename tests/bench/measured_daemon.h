// MeasuredDaemon is a stmd alone with its log on the disk that is measured, and the null RPC's server beside
// it. One thread.
#ifndef STM_TESTS_BENCH_MEASURED_DAEMON_H_
#define STM_TESTS_BENCH_MEASURED_DAEMON_H_

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/bench/call.h"
#include "tests/bench/load.h"
#include "tests/bench/process.h"

namespace stm::bench {

class MeasuredDaemon {
 public:
  // Both run, stmd is ready. Their directory is a new one under `parent`. The program itself serves the null
  // RPC, by --serve-echo.
  MeasuredDaemon(const std::string& stmd, const std::string& parent,
                 const std::vector<std::string>& arguments = {})
      : data_(MakeDirectory(parent)),
        echo_({OwnPath(), "--serve-echo", servers_.echo_address}, log_),
        daemon_(CommandOf(stmd, arguments), log_) {
    servers_.echo_pid = echo_.pid();
    servers_.stmd_pid = daemon_.pid();
    std::fprintf(stderr, "bench: stmd pid %d, its log %s\n", daemon_.pid(), log_.c_str());
    WaitReady(servers_.stmd_address, &daemon_, 60);
  }

  const std::string& data() const { return data_; }
  const Servers& servers() const { return servers_; }

  // Ends the bench if stmd does not stop cleanly; else nothing is left of it.
  void Stop() {
    daemon_.Stop(SIGTERM);
    if (daemon_.exit_reason() != "exit code 0") {
      Fail("stmd did not stop cleanly: " + daemon_.exit_reason() + "; see " + log_);
    }
    RemoveDirectory(data_);
  }

 private:
  static Servers NewServers() {
    Servers servers;
    servers.echo_address = "127.0.0.1:" + std::to_string(FreePort());
    servers.stmd_address = "127.0.0.1:" + std::to_string(FreePort());
    return servers;
  }
  std::vector<std::string> CommandOf(const std::string& stmd,
                                     const std::vector<std::string>& arguments) const {
    std::vector<std::string> command = {
        stmd, "--data-dir", data_ + "/store", "--listen", servers_.stmd_address, "--http", "off"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
  }

  const std::string data_;
  const std::string log_ = data_ + "/bench.log";
  Servers servers_ = NewServers();
  Child echo_;
  Child daemon_;
};

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_MEASURED_DAEMON_H_
