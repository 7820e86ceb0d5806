// stmd: reads its configuration, serves until it is told to stop, and drains.
#include <linux/close_range.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "engine/values/edn.h"
#include "server/config.h"
#include "server/daemon.h"

extern char** environ;

namespace {

// A usage error's exit code, apart from a failure's.
constexpr int kUsage = 2;

void SetUpLogs(const std::string& level) {
  auto logger = spdlog::stderr_logger_mt("stmd");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  logger->set_level(spdlog::level::from_str(level == "warn" ? "warning" : level));
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

// Signals that stop, taken by one thread instead of a handler. Blocked before any thread is made: all inherit
// it.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// Each connection takes two descriptors, and 1,024, the usual soft limit, is for programs that call select.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Whoever started `stmd --ephemeral` holds the other end: when it goes, however it goes, so does the daemon.
void EndWithStandardInput() {
  std::thread([] {
    char unused[256];
    for (;;) {
      const ssize_t got = read(STDIN_FILENO, unused, sizeof(unused));
      if (got == 0 || (got < 0 && errno != EINTR)) break;
    }
    kill(getpid(), SIGTERM);
  }).detach();
}

// This process once more, with nothing of it left: what it had read of the log is of no use any more. Under
// the same number, so that no supervisor has to do anything.
[[noreturn]] void BeginAnew(const std::string& why, char** arguments) {
  spdlog::warn("begins_anew why=\"{}\"", why);
  spdlog::shutdown();
  close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  execv("/proc/self/exe", arguments);
  std::perror("stmd: /proc/self/exe");
  std::_Exit(1);
}

// libmongoc has made a file of its counters by now, before main, and takes it away only at an end in order: not after
// kill -9, when it would stay for ever, and be complained of by whoever has our number next.
void TakeCountersAway() { shm_unlink(absl::StrCat("/mongoc-", getpid()).c_str()); }

}  // namespace

int main(int argc, char** argv) {
  TakeCountersAway();
  // Its graph of who waits for whom cost a twentieth of the daemon's time under load.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const sigset_t signals = BlockStopSignals();

  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) environment.emplace_back(*variable);
  absl::StatusOr<stm::server::Loaded> loaded =
      stm::server::LoadConfig(std::vector<std::string>(argv + 1, argv + argc), environment);
  if (!loaded.ok()) {
    std::fprintf(stderr, "stmd: %s\n", std::string(loaded.status().message()).c_str());
    return kUsage;
  }
  using Action = stm::server::Loaded::Action;
  switch (loaded->action) {
    case Action::kHelp:
      std::printf("%s", loaded->help.c_str());
      return 0;
    case Action::kVersion:
      std::printf("stmd %s\n", stm::server::kVersion);
      return 0;
    case Action::kCheckConfig:
      std::printf("the configuration is good\n");
      return 0;
    case Action::kPrintConfig:
      std::printf("%s", stm::server::PrintConfig(loaded->settings).c_str());
      return 0;
    case Action::kServe:
      break;
  }

  SetUpLogs(loaded->config.log_level);
  RaiseDescriptorLimit();
  for (const std::string& warning : loaded->warnings) spdlog::warn("config_warning text=\"{}\"", warning);
  const stm::server::Config config = loaded->config;
  const auto fatal = [over_zookeeper = stm::server::OverZooKeeper(config),
                      arguments = argv](absl::Status status) {
    // The log's state is unknown, or it is another log. Nothing more may be answered: not even destructors
    // run.
    const std::string message(status.message());
    if (over_zookeeper && absl::IsOutOfRange(status)) BeginAnew(message, arguments);
    if (over_zookeeper) {
      // It says what to do.
      spdlog::critical("store_failed code={} status=\"{}\"", absl::StatusCodeToString(status.code()),
                       message);
    } else {
      spdlog::critical(
          "log_failed status=\"{}\" do=\"mend the disk, then start stmd again: what was acknowledged is in "
          "the log\"",
          message);
    }
    std::_Exit(1);
  };
  // A stop during recovery ends the process at once: nothing has been promised yet.
  std::atomic<stm::server::Daemon*> serving{nullptr};
  std::thread([signals, &serving] {
    for (;;) {
      int signal = 0;
      sigwait(&signals, &signal);
      stm::server::Daemon* daemon = serving.load();
      spdlog::info("signal_received signal={}", signal);
      if (daemon == nullptr) std::_Exit(0);
      daemon->RequestStop();
    }
  }).detach();

  absl::StatusOr<std::unique_ptr<stm::server::Daemon>> daemon =
      stm::server::Daemon::Start(config, std::move(loaded->settings), fatal);
  if (!daemon.ok()) {
    if (absl::IsOutOfRange(daemon.status())) fatal(daemon.status());
    spdlog::critical("start_failed status=\"{}\"", std::string(daemon.status().message()));
    // What it was told: as what LoadConfig refuses.
    return absl::IsInvalidArgument(daemon.status()) ? kUsage : 1;
  }
  serving.store(daemon->get());
  const std::string kept_in = stm::server::OverZooKeeper(config) ? config.coordinator
                              : config.ephemeral                 ? "none"
                                                                 : config.data_dir;
  spdlog::info(
      "serving addresses={} http={} kept_in={} version={}", absl::StrJoin((*daemon)->addresses(), ","),
      (*daemon)->http_address().empty() ? "off" : (*daemon)->http_address(), kept_in, stm::server::kVersion);
  if (config.ephemeral) {
    std::string line = "{:stmd/address ";
    stm::AppendEdnString((*daemon)->addresses().front(), &line);
    std::printf("%s, :pid %d}\n", line.c_str(), getpid());
    std::fflush(stdout);
    EndWithStandardInput();
  }

  (*daemon)->AwaitStop();
  spdlog::info("stopping grace={}", absl::FormatDuration(config.server.drain_grace));
  const absl::Status stopped = (*daemon)->Stop(config.server.drain_grace);
  if (!stopped.ok()) {
    spdlog::error("stop_failed status=\"{}\"", std::string(stopped.message()));
    return 1;
  }
  spdlog::info("stopped");
  // The threads above go with the process; nothing is left for destructors to do.
  std::_Exit(0);
}
