// Child is a program that the bench started: killed when it goes out of scope. One thread.
// Clocks here are the kernel's own: CPU time is to the nanosecond, of a whole process, all its threads, dead ones too.
#ifndef STM_TESTS_BENCH_PROCESS_H_
#define STM_TESTS_BENCH_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace stm::bench {

class Child {
 public:
  // argv[0] is a path. Its stderr goes to log_path ("": inherited). Exits the bench when it can't be started.
  Child(const std::vector<std::string>& argv, const std::string& log_path);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  pid_t pid() const { return pid_; }
  // False when it has ended; how is then in exit_reason().
  bool Running();
  const std::string& exit_reason() const { return exit_reason_; }
  // Sends the signal and waits until it ended; SIGKILL after deadline_s.
  void Stop(int signal, double deadline_s = 30);

 private:
  pid_t pid_ = -1;
  std::string exit_reason_;
};

// Steady seconds.
double Now();
void SleepSeconds(double seconds);
// CPU seconds that the process has used so far, user and system. 0 when it is gone.
double CpuSeconds(pid_t pid);
double CpuSecondsOfSelf();
// Of the program that runs this.
std::string OwnPath();
// A TCP port of 127.0.0.1 that was free a moment ago.
int FreePort();
// A new directory under parent (made if need be). Exits the bench on failure.
std::string MakeDirectory(const std::string& parent);
// With all that is in it. Exits the bench on failure.
void RemoveDirectory(const std::string& path);
// Says what went wrong and what to do on stderr, exits with 1.
[[noreturn]] void Fail(const std::string& message);

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_PROCESS_H_
