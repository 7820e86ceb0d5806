// What the demonstrations share: a crew of threads that ends in order, and the comparison of what they were told with
// what the log holds. They are written against the public client (stm/client.h): what they show, programs can do.
#ifndef STM_CLIENT_CLI_DEMO_H_
#define STM_CLIENT_CLI_DEMO_H_

#include <signal.h>

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cli/progress.h"
#include "client/cli/shell.h"
#include "stm/client.h"

namespace stm::cli {

// Catches SIGINT, SIGTERM and SIGHUP while it lives; the second one ends the process as ever. When it goes it raises what
// it caught, so that the process ends by that signal once all is tidied up: declare it first. One at a time.
class Interrupt {
 public:
  Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  ~Interrupt();

  bool caught() const;
  // There is something to say first: the process goes on.
  void Forget();

 private:
  std::vector<std::pair<int, struct sigaction>> before_;
};

// What was found that must never be. Any thread.
class Violations {
 public:
  void Add(std::string what);
  bool none() const;
  // DATA_LOSS: the first of them, and how many there are.
  absl::Status ToStatus() const;

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::string> first_ ABSL_GUARDED_BY(mutex_);
  int64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Ledger holds what callers were told of numbered transactions, each of which says its number in a record, and compares
// it with the records in the log. While callers run, any thread; then one.
class Ledger {
 public:
  // `did`: "transfer 7 was made"; the numbers are below `numbers_max`.
  Ledger(std::string what, std::string did, int64_t numbers_max);

  // Of transaction `number`, which OK says was committed at `version`. CommitUnknown is kept for Settle. Any other error
  // comes back: that one was not committed.
  absl::Status Told(int64_t number, const absl::Status& status, int64_t version, Violations* violations);
  int64_t acknowledged() const;
  int64_t doubted() const;  // whose outcome was unknown at first

  // Asks what became of those.
  absl::Status Settle(const Client& client, Violations* violations);
  // A record of `number` is in the log, in the commit of `version`.
  void Found(int64_t number, int64_t version, Violations* violations);
  // There are no more.
  void Close(Violations* violations);

 private:
  static constexpr int64_t kUnheard = 0;   // not begun, or not committed
  static constexpr int64_t kUnknown = -1;  // too long ago for the daemon to tell: in the log, or not
  struct Line {
    int64_t told = kUnheard;  // the version
    bool found = false;       // in the log
  };
  void Acknowledge(int64_t number, int64_t version, Violations* violations) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string what_;
  const std::string did_;
  const int64_t numbers_max_;
  mutable absl::Mutex mutex_;
  std::vector<Line> lines_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<int64_t, std::string>> doubts_ ABSL_GUARDED_BY(mutex_);  // number, outcome word
  int64_t acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t doubted_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Crew is the threads of a demonstration. One thread owns it.
class Crew {
 public:
  enum class Step { kAgain, kDone };

  Crew() = default;
  ~Crew();

  // Calls `step` again and again on a thread of its own, until it is done, fails, or all are to stop.
  void Add(std::function<absl::StatusOr<Step>()> step);
  // Calls `look` several times a second until it returns true. CANCELLED: a signal came; DEADLINE_EXCEEDED; else the first
  // failure of a step.
  absl::Status Watch(const Interrupt& interrupt, absl::Time deadline, const std::function<bool()>& look);
  // Lets steps under way end, and joins. The first failure.
  absl::Status Stop();
  // As Stop, but ends the calls of steps that have canceller() in their options. That is no failure.
  absl::Status Cancel();
  const Canceller& canceller() const { return canceller_; }

 private:
  bool stopping() const {
    absl::MutexLock lock(&mutex_);
    return stopping_;
  }
  void Fail(const absl::Status& status);

  Canceller canceller_;
  std::vector<std::thread> threads_;
  mutable absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);
};

// For so long may no daemon answer before a demonstration gives up.
constexpr absl::Duration kOutageMax = absl::Seconds(10);

// A daemon that answers, or the error that every command gives. Its addresses as the client takes them.
absl::StatusOr<std::string> DemoAddress(Shell& shell);
absl::StatusOr<Client> DemoClient(const std::string& address, absl::Duration unavailable_timeout);
absl::StatusOr<std::vector<Client>> DemoClients(const std::string& address, absl::Duration unavailable_timeout,
                                                int64_t count);
// Of the callers of a demonstration.
TransactOptions DemoTransaction(Shell& shell, const Crew& crew, const char* label);

// Calls `take` with each record of these types from `from_version` on, in order.
template <typename... Ts, typename F>
absl::Status TakeRecords(const Client& client, int64_t from_version, const Interrupt& interrupt, F take) {
  RecordOptions options;
  options.from_version = from_version;
  try {
    for (auto& record : client.Records<Ts...>(options)) {
      if (interrupt.caught()) return absl::CancelledError("interrupted");
      std::visit([&](const auto& value) { take(record.version, value); }, record.value);
    }
  } catch (const StatusError& error) {
    return error.status();
  }
  return absl::OkStatus();
}

// Prints what was done, with the verdict, and returns what the command does. `ended`: OK, all was done and checked.
absl::Status Conclude(Shell& shell, Fields row, Interrupt& interrupt, const absl::Status& ended,
                      const Violations& violations);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_DEMO_H_
