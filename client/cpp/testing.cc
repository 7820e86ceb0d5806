#include "stm/testing.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "stm/value.h"

namespace stm::testing {
namespace {

constexpr absl::Duration kStartMax = absl::Seconds(60);

std::string FindBinary() {
  if (const char* binary = getenv("STMD_BINARY"); binary != nullptr && *binary != '\0') return binary;
  for (const char* root : {"TEST_SRCDIR", "RUNFILES_DIR"}) {
    const char* dir = getenv(root);
    if (dir == nullptr) continue;
    std::string path = absl::StrCat(dir, "/stmd/server/stmd");
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return "stmd";
}

// A port nobody has now: taken by the kernel's choice, and given back.
absl::StatusOr<int> FreePort() {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  bool ok = fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
            getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  int error = errno;
  if (fd >= 0) close(fd);
  if (!ok) return absl::UnavailableError(absl::StrCat("no free port: ", strerror(error)));
  return ntohs(address.sin_port);
}

}  // namespace

absl::StatusOr<Daemon> Daemon::Start(const DaemonOptions& options) {
  Daemon daemon(options);
  if (daemon.options_.binary.empty()) daemon.options_.binary = FindBinary();
  if (absl::Status status = daemon.Launch(); !status.ok()) return status;
  return daemon;
}

Daemon::Daemon(Daemon&& other) noexcept { *this = std::move(other); }

Daemon& Daemon::operator=(Daemon&& other) noexcept {
  std::swap(options_, other.options_);
  std::swap(address_, other.address_);
  std::swap(pid_, other.pid_);
  std::swap(exit_, other.exit_);
  std::swap(stdin_, other.stdin_);
  return *this;
}

Daemon::~Daemon() { Stop(); }

absl::Status Daemon::Restart() {
  if (pid_ > 0) return absl::FailedPreconditionError("the daemon runs: Stop or Kill it first");
  return Launch();
}

absl::Status Daemon::Launch() {
  std::vector<std::string> arguments = {options_.binary};
  bool ephemeral = options_.data_dir.empty();
  if (ephemeral) {
    arguments.push_back("--ephemeral");
    if (!address_.empty()) arguments.push_back(absl::StrCat("--listen=", address_));
  } else {
    if (address_.empty()) {
      absl::StatusOr<int> port = FreePort();
      if (!port.ok()) return port.status();
      address_ = absl::StrCat("127.0.0.1:", *port);
    }
    arguments.push_back(absl::StrCat("--data-dir=", options_.data_dir));
    arguments.push_back(absl::StrCat("--listen=", address_));
    arguments.push_back("--http=off");
  }
  for (const std::string& flag : options_.flags) arguments.push_back(flag);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0) return absl::UnavailableError(absl::StrCat("pipe: ", strerror(errno)));
  if (pipe2(out, O_CLOEXEC) != 0) {
    close(in[0]), close(in[1]);
    return absl::UnavailableError(absl::StrCat("pipe: ", strerror(errno)));
  }
  pid_ = fork();
  if (pid_ == 0) {
    // Only what is safe between fork and exec in a process of many threads.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    dup2(in[0], 0);
    dup2(out[1], 1);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  stdin_ = in[1];
  if (pid_ < 0) {
    close(out[0]);
    return absl::UnavailableError(absl::StrCat("fork: ", strerror(errno)));
  }
  if (!ephemeral) {
    // It says nothing on standard output; connecting waits until it is ready.
    close(out[0]);
    return absl::OkStatus();
  }
  // {:stmd/address "127.0.0.1:PORT" :pid N}
  std::string line;
  absl::Time until = absl::Now() + kStartMax;
  while (line.find('\n') == std::string::npos && absl::Now() < until) {
    pollfd ready = {out[0], POLLIN, 0};
    if (poll(&ready, 1, 100) <= 0) continue;
    char bytes[512];
    ssize_t got = read(out[0], bytes, sizeof(bytes));
    if (got <= 0) break;
    line.append(bytes, static_cast<size_t>(got));
  }
  close(out[0]);
  absl::StatusOr<Value> said = ReadEdn(line);
  const Value* address = said.ok() && said->is(Type::kMap) ? said->map().Find(Value::Keyword("stmd/address")) : nullptr;
  if (address == nullptr || !address->is(Type::kString)) {
    Kill();
    return absl::UnavailableError(
        absl::StrCat(options_.binary, " did not say where it listens; it said \"", line, "\": see its standard error, and set STMD_BINARY to stmd's path"));
  }
  address_ = address->text();
  return absl::OkStatus();
}

bool Daemon::Wait(int options) {
  int status = 0;
  pid_t ended;
  while ((ended = waitpid(pid_, &status, options)) < 0 && errno == EINTR) {
  }
  if (ended == 0) return false;
  pid_ = -1;
  if (stdin_ >= 0) close(stdin_);
  stdin_ = -1;
  exit_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return true;
}

bool Daemon::Running() { return pid_ > 0 && !Wait(WNOHANG); }

int Daemon::Stop() {
  if (pid_ <= 0) return exit_;
  kill(pid_, SIGTERM);
  Wait(0);
  return exit_;
}

void Daemon::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  Wait(0);
}

}  // namespace stm::testing
