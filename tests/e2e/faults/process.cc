#include "tests/e2e/faults/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cassert>
#include <chrono>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"

extern char** environ;

namespace stm::e2e {
namespace {

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> CommandOf(const StmdOptions& options) {
  std::vector<std::string> command = options.before;
  command.push_back(options.binary);
  if (!options.data_dir.empty()) command.push_back(absl::StrCat("--data-dir=", options.data_dir));
  command.push_back(absl::StrCat("--listen=", options.listen));
  command.push_back("--http=off");
  command.insert(command.end(), options.flags.begin(), options.flags.end());
  return command;
}

}  // namespace

bool Eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(kPatience);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

Directory::Directory() {
  // Not TEST_TMPDIR: nobody else can enter it.
  std::string name = "/tmp/stm_faults_XXXXXX";
  [[maybe_unused]] const bool made = mkdtemp(name.data()) != nullptr;
  assert(made);
  chmod(name.c_str(), 0755);
  path_ = name;
}

Directory::~Directory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Runfile(const std::string& path) {
  const char* root = getenv("TEST_SRCDIR");
  if (root == nullptr) root = getenv("RUNFILES_DIR");
  return root != nullptr ? absl::StrCat(root, "/stmd/", path) : path;
}

Process::Process(const std::vector<std::string>& command, const std::map<std::string, std::string>& environment) {
  std::vector<std::string> arguments = command;
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    if (environment.count(text.substr(0, text.find('='))) == 0) variables.push_back(text);
  }
  for (const auto& [name, value] : environment) variables.push_back(absl::StrCat(name, "=", value));
  std::vector<char*> argv = Pointers(arguments);
  std::vector<char*> envp = Pointers(variables);
  // In memory: a full disk must not swallow what is said about it.
  output_ = memfd_create("said", MFD_CLOEXEC);
  assert(output_ >= 0);
  fcntl(output_, F_SETFL, O_APPEND);
  pid_ = fork();
  assert(pid_ >= 0);
  if (pid_ == 0) {
    // Only what is safe between fork and exec in a process of many threads.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(output_, 1);
    dup2(output_, 2);
    execvpe(argv[0], argv.data(), envp.data());
    _exit(127);
  }
}

Process::~Process() {
  if (!Ended()) {
    kill(pid_, SIGKILL);
    AwaitExit();
  }
  close(output_);
}

std::string Process::said() const {
  std::string text;
  char bytes[4096];
  for (ssize_t got; (got = pread(output_, bytes, sizeof(bytes), static_cast<off_t>(text.size()))) > 0;) {
    text.append(bytes, static_cast<size_t>(got));
  }
  return text;
}

bool Process::Ended() {
  if (exit_) return true;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
  exit_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return true;
}

bool Process::AwaitSaid(const std::string& text) {
  bool ended = false;
  const auto has = [&] { return said().find(text) != std::string::npos; };
  const bool told = Eventually([&] {
    ended = Ended();  // before looking: what it said last counts
    return has() || ended;
  });
  return told && has();
}

void Process::Signal(int signal) {
  if (!Ended()) kill(pid_, signal);
}

std::optional<int> Process::AwaitExit() {
  Eventually([&] { return Ended(); });
  return exit_;
}

Stmd::Stmd(const StmdOptions& options) : Process(CommandOf(options), options.environment) {}

std::string Stmd::AwaitAddress() {
  static const std::string kWhere = " serving addresses=";
  if (!AwaitSaid(kWhere)) return "";
  std::string line;
  // The whole line may not be there yet.
  Eventually([&] {
    const std::string text = said();
    line = text.substr(text.find(kWhere) + kWhere.size());
    return line.find('\n') != std::string::npos;
  });
  return line.substr(0, line.find(' '));
}

}  // namespace stm::e2e
