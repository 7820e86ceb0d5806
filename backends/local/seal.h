// What is done to a log by hand, with no daemon running: `stmctl log seal, verify, drop`. Blocking.
#ifndef STM_BACKENDS_LOCAL_SEAL_H_
#define STM_BACKENDS_LOCAL_SEAL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/disk.h"
#include "engine/transaction.h"

namespace stm::local {

struct SealReport {
  bool changed = false;        // false: every sum was right, and nothing was written
  int64_t lines_resealed = 0;  // that were edited, or stand next to what was
  int64_t blank_lines_dropped = 0;
  engine::Version first_changed = 0;  // versions from here on replay as the file now says
  engine::Version replay_from = 0;    // what the next start replays: to replay_to
  engine::Version replay_to = 0;
  std::vector<std::string> stale;  // snapshots set aside, by their new names
  std::vector<std::string> notes;  // what a person should know: an edited entry that a later line sets again
};

// Writes the sums of the log file `name` anew after it was edited. Takes the directory's lock.
// INVALID_ARGUMENT: a line is wrong: file, line and what to mend; nothing was changed. FAILED_PRECONDITION: a
// daemon runs, or the state could not be rebuilt without a snapshot that the edit makes stale.
absl::StatusOr<SealReport> Seal(Disk* disk, const std::string& name);

struct VerifyReport {
  struct FileReport {
    std::string name;
    int64_t lines = 0;
    int64_t commits = 0;
    engine::Version first = 0;  // commit; 0: none
    engine::Version last = 0;
    std::string problem;  // "": none. Else line and what
    std::string note;     // no problem: a torn tail that the next start cuts, a file that a start removes
  };
  std::vector<FileReport> files;
  bool good() const {
    for (const FileReport& file : files) {
      if (!file.problem.empty()) return false;
    }
    return true;
  }
};

// Reads files of the log and snapshots; none named: all. Changes nothing and takes no lock: of a running
// daemon the newest file may show an unfinished batch. NOT_FOUND: there is no such file.
absl::StatusOr<VerifyReport> Verify(Disk* disk, std::vector<std::string> names);

// Removes the oldest log files, which must be those that are named. Takes the lock. FAILED_PRECONDITION, and
// nothing is removed: a version in them is above the newest whole snapshot, or above its id floor, or an
// older file is not named.
absl::StatusOr<std::vector<std::string>> Drop(Disk* disk, std::vector<std::string> names);

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_SEAL_H_
