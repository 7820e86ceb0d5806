// top: one daemon as it is now, again and again.
#include <algorithm>
#include <cstdint>
#include <ostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"

namespace stm::cli {

absl::Status Top(Shell& shell, const TopOptions& options) {
  absl::Duration every = absl::Seconds(1);
  if (!options.every.empty()) {
    absl::StatusOr<absl::Duration> duration = ReadDuration(options.every, "--every");
    if (!duration.ok()) return duration.status();
    every = *duration;
  }
  const absl::Time deadline = shell.StreamDeadline();
  const bool screen = shell.io().out_is_terminal && shell.printer().output() == Output::kTable;
  v1::GetStatusResponse before;
  absl::Time asked = absl::Now();
  for (int64_t shown = 0;;) {
    absl::StatusOr<v1::GetStatusResponse> status = shell.daemon().GetStatus(shell.CallDeadline());
    if (!status.ok()) return status.status();
    const absl::Time now = absl::Now();
    // Of another store the versions have nothing in common.
    const bool known = before.header().store() == status->header().store();
    const double seconds = std::max(absl::ToDoubleSeconds(now - asked), 1e-3);
    const int64_t commits = known ? status->header().installed_version() - before.header().installed_version() : 0;
    Fields row{{"version", Value::Integer(status->header().installed_version())},
               {"commits/s", Value::Integer(static_cast<int64_t>(static_cast<double>(commits) / seconds))},
               {"ready", Value::Boolean(status->ready())},
               {"history-mark", Value::Integer(status->history_mark())},
               {"id-floor", Value::Integer(status->id_floor())},
               {"log-mark", Value::Integer(status->log_mark())}};
    if (screen) {
      shell.io().out << "\033[H\033[2J" << shell.daemon().address() << "\n\n";
      shell.printer().Row(row);
      shell.printer().Finish();
      shell.io().out << "\n";
      for (const v1::HotEntry& hot : status->hot()) {
        shell.printer().Row({{"hot", shell.printer().Plain(hot.name())},
                             {"commits/min", Value::Integer(hot.commits())},
                             {"conflicts/min", Value::Integer(hot.conflicts())}});
      }
      shell.printer().Finish();
    } else {
      shell.printer().Line({absl::StrCat(status->header().installed_version(), "  ", commits, " commits in ",
                                         absl::FormatDuration(now - asked))},
                           row);
    }
    absl::Status flushed = shell.Flush();
    if (!flushed.ok()) return flushed;
    before = *std::move(status);
    asked = now;
    if (++shown == options.count) return absl::OkStatus();
    if (now + every > deadline) return absl::DeadlineExceededError("--timeout: it has passed");
    absl::SleepFor(every);
  }
}

}  // namespace stm::cli
