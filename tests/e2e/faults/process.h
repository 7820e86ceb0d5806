// Stmd is a daemon as its operator meets it: a command line, an exit code, and lines on standard error. It is
// killed with its owner, and when the thread that started it ends. One thread.
#ifndef STM_TESTS_E2E_FAULTS_PROCESS_H_
#define STM_TESTS_E2E_FAULTS_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace stm::e2e {

// What a condition is given before a test gives up.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

// True as soon as `condition` is; false after kPatience.
bool Eventually(const std::function<bool()>& condition);

// A directory that goes with it. Anybody may enter it, whatever the umask.
class Directory {
 public:
  Directory();
  ~Directory();
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A program and what it said on standard output and standard error, together.
class Process {
 public:
  // The name is looked for in PATH. `environment` is added to this process's.
  Process(const std::vector<std::string>& command,
          const std::map<std::string, std::string>& environment = {});
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();

  pid_t pid() const { return pid_; }
  std::string said() const;
  // False: it ended before, or did not within kPatience.
  bool AwaitSaid(const std::string& text);
  void Signal(int signal);
  bool Runs() { return !Ended(); }
  // Its exit code, 128 + the signal that ended it, or nullopt: it did not end within kPatience.
  std::optional<int> AwaitExit();

 private:
  bool Ended();

  pid_t pid_ = -1;
  int output_ = -1;
  std::optional<int> exit_;
};

// The path of a program among Bazel's runfiles, e.g. "server/stmd".
std::string Runfile(const std::string& path);

struct StmdOptions {
  std::string binary = Runfile("server/stmd");
  std::string data_dir;  // "": it keeps none
  std::vector<std::string> flags;
  std::string listen = "127.0.0.1:0";
  std::vector<std::string> before;  // e.g. setpriv and its arguments
  std::map<std::string, std::string> environment;
};

class Stmd : public Process {
 public:
  explicit Stmd(const StmdOptions& options);
  // Waits until it serves, and says where. "": it does not; see said().
  std::string AwaitAddress();
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_FAULTS_PROCESS_H_
