// Shell is what every command of stmctl has: the global options, its streams, the daemon, the printer. One thread.
// Commands return a status; ExitOf turns it into the documented exit code, and its message is the one line on stderr.
#ifndef STM_CLIENT_CLI_SHELL_H_
#define STM_CLIENT_CLI_SHELL_H_

#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/connection.h"
#include "client/cli/print.h"
#include "engine/values/value.h"

namespace stm {
class Client;
}

namespace stm::cli {

enum Exit : int {
  kOk = 0,
  kError = 1,
  kUsage = 2,
  kAbsent = 3,
  kConflict = 4,  // or a compare failed
  kRejected = 5,
  kUnavailable = 6,
  kLockBusy = 7,
  kLockLost = 8,  // or a session, or the grant of a fence
  kTimedOut = 124,
};

// By what it says of locks; else NOT_FOUND absent, ABORTED conflict, FAILED_PRECONDITION rejected,
// INVALID_ARGUMENT usage, ...
Exit ExitOf(const absl::Status& status);
// The message with what ErrorDetail adds, on one line.
std::string Explain(const absl::Status& status);

// Who sends: it comes back in the log and in conflicts.
std::string ClientName();

struct Io {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool in_is_terminal = false;
  bool out_is_terminal = false;
  size_t width = 0;  // of the terminal; 0: none
  bool err_is_terminal = false;
  size_t err_width = 0;
};

struct Globals {
  std::vector<std::string> addresses;
  Output output = Output::kEdn;
  bool json = false;                        // values are given as JSON
  std::optional<absl::Duration> timeout;    // of a call; streams have none unless it is given
  std::string label;
};

inline constexpr absl::Duration kTimeoutDefault = absl::Seconds(10);

class Shell {
 public:
  Shell(Globals globals, Io& io);
  ~Shell();

  Connection& daemon() { return *daemon_; }
  Printer& printer() { return printer_; }
  Io& io() { return io_; }
  const Globals& globals() const { return globals_; }

  // The public client, as programs have it, for what is held: a session of its own, by whose end all of that
  // goes.
  absl::StatusOr<Client> NewClient(absl::Duration session_ttl = absl::ZeroDuration());

  // The exit code of what was run is this process's, whatever else is said.
  void PassOn(int exit) { passed_on_ = exit; }
  std::optional<int> passed_on() const { return passed_on_; }

  absl::Time CallDeadline() const;
  absl::Time StreamDeadline() const;

  // A value as EDN, or JSON with --json; "-": the standard input, all of it.
  absl::StatusOr<Value> ReadValue(const std::string& argument);
  absl::StatusOr<Value> Parse(const std::string& text) const;
  // As ReadValue, but always EDN: operations and rules.
  absl::StatusOr<Value> ReadForm(const std::string& argument);
  // A file's text; "-": the standard input.
  absl::StatusOr<std::string> ReadText(const std::string& path);

  // Newest when `at` is "", else a version or an instant.
  absl::StatusOr<v1::GetRefsResponse> Read(const std::vector<std::string>& names, const std::string& at,
                                           bool with_definition);

  // Commits, once, whatever breaks. The outcome as OutcomeStatus.
  absl::StatusOr<v1::Committed> Commit(v1::CommitRequest request);
  // Commits what `body` makes from a snapshot that it reads itself; after a conflict again, until the deadline.
  absl::StatusOr<v1::Committed> Transact(const std::function<absl::StatusOr<v1::CommitRequest>()>& body);
  // A commit of one write, of a ref or an atom, whichever the entry is.
  absl::StatusOr<v1::Committed> CommitEither(v1::Write write,
                                             const std::optional<v1::Fence>& fence = std::nullopt);

  // After a line that others wait for. UNKNOWN: the standard output takes no more.
  absl::Status Flush();

 private:
  absl::StatusOr<v1::CommitResponse> Send(v1::CommitRequest request, absl::Time deadline);

  const Globals globals_;
  Io& io_;
  std::unique_ptr<Connection> daemon_;
  Printer printer_;
  std::optional<int> passed_on_;
};

// ok: committed. ABORTED: conflict or a failed compare; NOT_FOUND: an operation on an absent entry; FAILED_PRECONDITION:
// rejected or a fence lost. Messages name the entry and what to do.
absl::Status OutcomeStatus(const v1::CommitResponse& response);

// A version, or an instant as RFC 3339 ("2026-11-22", "2026-11-22T03:00:00Z"); "" leaves `point` newest.
absl::Status ReadPointOf(const std::string& text, v1::ReadPoint* point);
// INVALID_ARGUMENT unless each is a legal name (prefix: ends in "/").
absl::Status CheckNames(const std::vector<std::string>& names);
absl::Status CheckPrefix(const std::string& prefix);
// "5s", "200ms", "1m30s": more than nothing.
absl::StatusOr<absl::Duration> ReadDuration(const std::string& text, const char* what);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_SHELL_H_
