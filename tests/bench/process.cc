#include "tests/bench/process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace stm::bench {

namespace {

double Seconds(clockid_t clock) {
  timespec t{};
  if (clock_gettime(clock, &t) != 0) return 0;
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::string HowItEnded(int status) {
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "status " + std::to_string(status);
}

}  // namespace

double Now() { return Seconds(CLOCK_MONOTONIC); }

void SleepSeconds(double seconds) {
  if (seconds <= 0) return;
  const double whole = std::floor(seconds);
  timespec t{static_cast<time_t>(whole), static_cast<long>((seconds - whole) * 1e9)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &t, nullptr);
}

double CpuSecondsOfSelf() { return Seconds(CLOCK_PROCESS_CPUTIME_ID); }

double CpuSeconds(pid_t pid) {
  clockid_t clock;
  if (clock_getcpuclockid(pid, &clock) != 0) return 0;
  return Seconds(clock);
}

void Fail(const std::string& message) {
  std::fprintf(stderr, "bench: %s\n", message.c_str());
  std::exit(1);
}

Child::Child(const std::vector<std::string>& argv, const std::string& log_path) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) Fail("fork: " + std::string(std::strerror(errno)));
  if (pid_ > 0) return;
  // The child dies with the bench, however that ends.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  const int nothing = open("/dev/null", O_RDWR);
  dup2(nothing, STDIN_FILENO);
  if (!log_path.empty()) {
    const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
  }
  execv(arguments[0], arguments.data());
  std::fprintf(stderr, "bench: exec %s: %s\n", arguments[0], std::strerror(errno));
  _exit(127);
}

Child::~Child() { Stop(SIGKILL, 5); }

bool Child::Running() {
  if (pid_ < 0) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return true;
  exit_reason_ = HowItEnded(status);
  pid_ = -1;
  return false;
}

void Child::Stop(int signal, double deadline_s) {
  if (!Running()) return;
  kill(pid_, signal);
  const double deadline = Now() + deadline_s;
  while (Running()) {
    if (Now() > deadline) kill(pid_, SIGKILL);
    usleep(1000);
  }
}

std::string OwnPath() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  return std::string(path, static_cast<size_t>(std::max<ssize_t>(length, 0)));
}

int FreePort() {
  const int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (socket_fd < 0 || bind(socket_fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    Fail("no free port on 127.0.0.1: " + std::string(std::strerror(errno)));
  }
  close(socket_fd);
  return ntohs(address.sin_port);
}

std::string MakeDirectory(const std::string& parent) {
  for (size_t slash = parent.find('/', 1); slash != std::string::npos; slash = parent.find('/', slash + 1)) {
    mkdir(parent.substr(0, slash).c_str(), 0755);
  }
  mkdir(parent.c_str(), 0755);
  std::string path = parent + "/bench-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    Fail("can't make a directory under " + parent + ": " + std::strerror(errno) + "; give another with --dir");
  }
  return path;
}

void RemoveDirectory(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) Fail("can't remove " + path + ": " + error.message());
}

}  // namespace stm::bench
