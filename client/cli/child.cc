#include "client/cli/child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

extern char** environ;

namespace stm::cli {
namespace {

constexpr absl::Duration kChildLookEvery = absl::Milliseconds(50);
constexpr int kNotRunnable = 126;
constexpr int kNotFound = 127;

// What the command is given beside our own, which it replaces.
std::vector<std::string> EnvironmentOf(const ChildOptions& options) {
  std::vector<std::string> all;
  for (const auto& [name, value] : options.environment) all.push_back(absl::StrCat(name, "=", value));
  for (char** one = environ; *one != nullptr; ++one) {
    bool replaced = false;
    for (const auto& [name, value] : options.environment) {
      replaced = replaced || absl::StartsWith(*one, absl::StrCat(name, "="));
    }
    if (!replaced) all.push_back(*one);
  }
  return all;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& one : strings) pointers.push_back(one.data());
  pointers.push_back(nullptr);
  return pointers;
}

// The terminal that the command may have while this process's group is in its foreground, if all of the job
// is this process as far as can be seen. In a pipeline the others would lose it.
class Terminal {
 public:
  Terminal()
      : usable_(isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 &&
                tcgetattr(STDIN_FILENO, &modes_) == 0) {}

  bool usable() const { return usable_; }
  // Is it ours to give now?
  bool CanGive() const { return usable_ && tcgetpgrp(STDIN_FILENO) == getpgrp(); }
  void GiveTo(pid_t group) {
    given_ = true;
    Set(group);
  }
  void TakeBack() {
    if (std::exchange(given_, false)) Set(getpgrp());
  }
  // As it was before a command that could not tidy up.
  void Mend() const {
    if (CanGive()) tcsetattr(STDIN_FILENO, TCSADRAIN, &modes_);
  }
  // Who is in the background may do this only with SIGTTOU blocked. Safe between fork and exec.
  static void Set(pid_t group) {
    sigset_t mask, before;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTTOU);
    sigprocmask(SIG_BLOCK, &mask, &before);
    tcsetpgrp(STDIN_FILENO, group);
    sigprocmask(SIG_SETMASK, &before, nullptr);
  }

 private:
  termios modes_ = {};
  const bool usable_;
  bool given_ = false;
};

class Child {
 public:
  Child(Signals& signals, const ChildOptions& options) : signals_(signals), options_(options) {}

  ChildEnd Run() {
    // What the command leaves behind is ours to wait for: we know when there is none left.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    RunToEnd();
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    return end_;
  }

 private:
  void RunToEnd() {
    if (!Start()) return;
    while (!Look()) {
      CheckLoss();
      Pass(signals_.Await(kChildLookEvery));
    }
    if (end_.lost) EndGroup();
    terminal_.TakeBack();
    if (end_.exit > 128) terminal_.Mend();
  }

  bool Start() {
    std::vector<std::string> command = options_.command;
    std::vector<std::string> environment = EnvironmentOf(options_);
    std::vector<char*> argv = Pointers(command);
    std::vector<char*> envp = Pointers(environment);
    int failure[2];  // the child's errno, if it comes to that
    if (pipe2(failure, O_CLOEXEC) != 0) return Failed(errno);
    const pid_t parent = getpid();
    const bool give = terminal_.CanGive();
    pid_ = fork();
    if (pid_ < 0) {
      const int error = errno;
      close(failure[0]), close(failure[1]);
      return Failed(error);
    }
    if (pid_ == 0) {
      // Only what is safe between fork and exec in a process of many threads.
      signals_.Restore();
      setpgid(0, 0);
      if (give) Terminal::Set(getpid());
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (getppid() != parent) _exit(kNotRunnable);
      execvpe(argv[0], argv.data(), envp.data());
      const int error = errno;
      [[maybe_unused]] ssize_t written = write(failure[1], &error, sizeof error);
      _exit(kNotRunnable);
    }
    // As the child does: whoever is first.
    setpgid(pid_, pid_);
    if (give) terminal_.GiveTo(pid_);
    close(failure[1]);
    int error = 0;
    ssize_t got;
    while ((got = read(failure[0], &error, sizeof error)) < 0 && errno == EINTR) {
    }
    close(failure[0]);
    if (got == 0) return true;
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    terminal_.TakeBack();
    return Failed(error);
  }

  bool Failed(int error) {
    end_.exit = error == ENOENT ? kNotFound : kNotRunnable;
    end_.start_error = absl::StrCat(options_.command[0], ": ", std::strerror(error));
    return false;
  }

  void Kill(int signal) { kill(-pid_, signal); }

  // True: it has ended.
  bool Look() {
    int status = 0;
    const pid_t looked = waitpid(pid_, &status, WNOHANG | WUNTRACED);
    if (looked != pid_) return false;
    if (WIFSTOPPED(status)) {
      if (terminal_.usable()) Suspend();
      return false;
    }
    end_.exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
  }

  void CheckLoss() {
    if (!end_.lost && options_.lost()) {
      end_.lost = true;
      kill_at_ = absl::Now() + options_.grace;
      Kill(SIGTERM);
      Kill(SIGCONT);  // who is stopped would not hear it
    }
    if (end_.lost && !end_.killed && absl::Now() >= kill_at_) {
      end_.killed = true;
      Kill(SIGKILL);
    }
  }

  void Pass(int signal) {
    if (signal == SIGTSTP) {
      Kill(SIGTSTP);
      Suspend();
    } else if (signal != 0 && signal != SIGCHLD) {
      Kill(signal);
    }
  }

  // The command is stopped: so are we, until whoever stopped it goes on with us.
  void Suspend() {
    terminal_.TakeBack();
    // To this thread: what is sent to the process another thread may take, and this one would go on for a moment.
    raise(SIGSTOP);
    if (terminal_.CanGive()) terminal_.GiveTo(pid_);
    CheckLoss();
    Kill(SIGCONT);
  }

  // What it started and left behind, in the grace that is left.
  void EndGroup() {
    for (;;) {
      while (waitpid(-pid_, nullptr, WNOHANG) > 0) {
      }
      if (kill(-pid_, 0) != 0) return;
      if (absl::Now() >= kill_at_) break;
      signals_.Await(kChildLookEvery);
    }
    if (kill(-pid_, SIGKILL) == 0) end_.killed = true;
  }

  Signals& signals_;
  const ChildOptions& options_;
  Terminal terminal_;
  pid_t pid_ = -1;
  absl::Time kill_at_;
  ChildEnd end_;
};

}  // namespace

ChildEnd RunChild(Signals& signals, const ChildOptions& options) { return Child(signals, options).Run(); }

}  // namespace stm::cli
