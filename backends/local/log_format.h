// The text of log and snapshot files, one commit a line, as DESIGN section 6 shows it. A line of the log:
//   {:version 42 :at #inst "..." :tx #uuid "..." :by {..} :set {..} ...} ;41 9c2e11d0 1a2b3c4d
// Behind the ';': the newest version known durable when the line was written, eight hex digits of the hash of
// each value that :apply made, in order, and the crc32c of all before it in the line. What is printed here is
// read by the fast way; what a person wrote by hand (other order, spaces) by the slow one, to the same
// result. Pure; a LinePrinter or LineParser serves one thread at a time.
#ifndef STM_BACKENDS_LOCAL_LOG_FORMAT_H_
#define STM_BACKENDS_LOCAL_LOG_FORMAT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/coordinator.h"
#include "engine/values/value.h"

namespace stm::local {

// What this build writes, and all it reads.
inline constexpr int64_t kFormat = 1;
// An operation stands for a value only if the value is longer than this.
inline constexpr size_t kOperationValueBytesMin = 64;

// --- Names of files ---

std::string LogName(engine::Version first);         // log-0000000000000000042.edn
std::string SnapshotName(engine::Version version);  // snapshot-0000000000000000042.edn
std::optional<engine::Version> ParseLogName(std::string_view name);
std::optional<engine::Version> ParseSnapshotName(std::string_view name);
// 16 hex digits.
std::string Hex(uint64_t number);

// --- Writing ---

// Names whose whole value an earlier line of this segment holds as the newest but for operations, so that an
// operation may stand for the next. Only names that ever could be written as an operation are in it.
using RootedNames = absl::flat_hash_set<std::string>;

class LinePrinter {
 public:
  // Appends the line and its newline. `rooted`: null: no operations. Updated.
  void Commit(const engine::CommitRecord& commit, engine::Version durable, RootedNames* rooted,
              std::string* out);
  void LogHeader(uint64_t store, engine::Version first, engine::Version durable, std::string* out);
  void Start(engine::Version version, Instant at, uint64_t writer, engine::Version durable, std::string* out);
  void Stop(engine::Version version, Instant at, engine::Version durable, std::string* out);

  // Lines of a snapshot carry no sum of their own: its last line sums all before it.
  void SnapshotHeader(uint64_t store, engine::Version version, Instant at, std::string* out);
  void Entry(const engine::ImageEntry& entry, std::string* out);
  void Id(const engine::ImageId& id, std::string* out);
  // `crc`: of the file before this line.
  void SnapshotEnd(engine::Version id_floor, int64_t entries, int64_t ids, uint32_t crc, std::string* out);

 private:
  void AppendInst(Instant at, std::string* out);  // #inst "..."

  int64_t second_ = INT64_MIN;  // whose text this is
  std::string second_text_;     // "2026-11-22T03:00:00"
  // Of the commit being printed.
  std::vector<std::optional<Value>>
      forms_;  // one a change, or none at all: the operation that stands for the value
  std::vector<uint32_t> hashes_;
};

// Appends the trailer of a line that begins at `line_begin` in *out, and its newline: what a seal puts behind
// a line that a person wrote.
void AppendTrailer(size_t line_begin, engine::Version durable, const std::vector<uint32_t>& hashes,
                   std::string* out);

// --- Reading ---

struct Trailer {
  engine::Version durable = 0;
  std::vector<uint32_t> hashes;
  size_t body_size = 0;  // of the line before the trailer
};

// The line's trailer, if it has one and its sum is right. `line` without its newline.
std::optional<Trailer> ReadTrailer(std::string_view line);
// Nothing but spaces and carriage returns.
bool IsBlank(std::string_view line);

struct LogLine {
  enum class Kind : uint8_t { kHeader, kCommit, kStart, kStop };
  Kind kind = Kind::kCommit;
  std::shared_ptr<engine::CommitRecord>
      commit;  // of kCommit. Changes of :apply: operation and expected_hash, no value
  // Of the others.
  engine::Version version = 0;  // :first, :start, :stop
  uint64_t store = 0;
  uint64_t writer = 0;
  Instant at;
};

struct SnapshotLine {
  enum class Kind : uint8_t { kHeader, kEntry, kId, kEnd };
  Kind kind = Kind::kEntry;
  engine::ImageEntry entry;
  engine::ImageId id;
  // Of kHeader and kEnd.
  engine::Version version = 0;  // of the image; of kEnd: the id floor
  uint64_t store = 0;
  Instant at;
  int64_t entries = 0;
  int64_t ids = 0;
};

// The kind of a line by how it begins, as this build prints it; nullopt: it begins in no such way. Parses
// nothing.
std::optional<LogLine::Kind> KindOf(std::string_view line);
// Of a commit's line that begins as this build prints it: its version, without parsing the rest.
std::optional<engine::Version> VersionOf(std::string_view line);

enum class Hashes : uint8_t {
  kRequired,  // one for each :apply, else the line is malformed
  kIgnored,   // of a line edited by hand
};

class LineParser {
 public:
  // `body`: a line without its trailer. UNIMPLEMENTED: a format, key or rule that this build does not know.
  // DATA_LOSS: not a line of a log. The caller adds where.
  absl::StatusOr<LogLine> Parse(std::string_view body, const std::vector<uint32_t>& hashes,
                                Hashes mode = Hashes::kRequired);
  absl::StatusOr<SnapshotLine> ParseSnapshot(std::string_view body);

 private:
  class Scanner;
  bool ParseCommitFast(std::string_view body, const std::vector<uint32_t>& hashes, Hashes mode,
                       engine::CommitRecord* commit);
  absl::StatusOr<LogLine> ParseSlowly(std::string_view body, const std::vector<uint32_t>& hashes,
                                      Hashes mode);

  // What the next line most likely says again.
  std::string by_text_;
  std::shared_ptr<const engine::Meta> by_;
  std::string second_text_;
  int64_t second_ = 0;
};

// What a line that a person may have written must satisfy beside its syntax: legal names, each once, none of
// "/.memory/", :at within range. DATA_LOSS says what.
absl::Status CheckCommit(const engine::CommitRecord& commit);

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_LOG_FORMAT_H_
