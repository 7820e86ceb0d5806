#include "client/cli/held.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/child.h"

namespace stm::cli {
namespace {

absl::StatusOr<absl::Duration> GraceOf(const RunOptions& options) {
  if (options.grace.empty()) return kKillGraceDefault;
  return ReadDuration(options.grace, "--grace");
}

}  // namespace

int EndingSignal(Signals& signals, absl::Duration timeout) {
  const int signal = signals.Await(timeout);
  if (signal == SIGTSTP) raise(SIGSTOP);
  return signal == SIGTSTP || signal == SIGCHLD ? 0 : signal;
}

absl::StatusOr<Held> AwaitHeld(Signals& signals,
                               const std::function<absl::StatusOr<Held>(const Canceller&)>& acquire,
                               int* signal) {
  Canceller canceller;
  std::atomic<bool> done{false};
  absl::StatusOr<Held> held = absl::CancelledError("interrupted");
  std::thread waiting([&] {
    held = acquire(canceller);
    done = true;
    signals.Wake();
  });
  while (!done) {
    const int came = EndingSignal(signals, absl::InfiniteDuration());
    if (came == 0) continue;
    *signal = came;
    canceller.Cancel();
  }
  waiting.join();
  // It may have been granted just then: its end gives it back.
  if (*signal != 0) return absl::CancelledError("interrupted");
  return held;
}

absl::Status TenureLost(const std::string& what, const std::string& then) {
  ErrorInfo info;
  info.reason = Reason::kLockLost;
  info.name = what;
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat(
          what,
          ": lost (broken or expired by an operator, or no daemon answered for the session's TTL): ", then),
      info);
}

absl::StatusOr<int> RunFor(Shell& shell, Signals& signals, const Tenure& tenure, const RunOptions& options) {
  absl::StatusOr<absl::Duration> grace = GraceOf(options);
  if (!grace.ok()) return grace.status();
  ChildOptions child;
  child.command = options.command;
  child.environment = tenure.environment;
  child.environment.emplace_back("STM_ADDRESS", absl::StrJoin(shell.globals().addresses, ","));
  child.lost = tenure.lost;
  child.grace = *grace;
  const ChildEnd end = RunChild(signals, child);
  if (!end.start_error.empty()) {
    shell.PassOn(end.exit);
    return absl::UnknownError(absl::StrCat(end.start_error, ": give a command that can be run"));
  }
  if (!end.lost) return end.exit;
  return TenureLost(tenure.what,
                    absl::StrCat(options.command[0], " was ended by ",
                                 end.killed ? absl::StrCat("SIGKILL, --grace ", absl::FormatDuration(*grace),
                                                           " after SIGTERM")
                                            : "SIGTERM"));
}

absl::Status CheckRun(const RunOptions& options) {
  if (!options.grace.empty() && options.command.empty()) {
    return absl::InvalidArgumentError("--grace is a command's: give one behind --");
  }
  return GraceOf(options).status();
}

}  // namespace stm::cli
