// Any bytes as a line of the log, and as the lines of a log file: read, sealed, recovered. Never more than an
// error; what a seal took, a start takes; what one start took, the next takes again, to the same state.
#include <spdlog/spdlog.h>

#include <cassert>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "backends/local/local_coordinator.h"
#include "backends/local/log_format.h"
#include "backends/local/seal.h"
#include "tests/backends/inline_loop.h"
#include "tests/backends/local/memory_disk.h"
#include "tests/backends/replica.h"

namespace {

using namespace stm;
using namespace stm::local;

std::string Printed(const engine::CommitRecord& commit) {
  std::string line;
  LinePrinter().Commit(commit, 0, nullptr, &line);
  return line;
}

bool HasOperations(const engine::CommitRecord& commit) {
  for (const engine::EntryChange& change : commit.changes) {
    if (change.operation != nullptr) return true;
  }
  return false;
}

void OneLine(std::string_view text) {
  if (std::optional<Trailer> trailer = ReadTrailer(text)) assert(trailer->body_size < text.size());
  LineParser parser;
  absl::StatusOr<LogLine> slow = parser.Parse(text, {}, Hashes::kIgnored);
  absl::StatusOr<LogLine> fast = parser.Parse(text, {});
  if (!slow.ok() || slow->kind != LogLine::Kind::kCommit || HasOperations(*slow->commit)) return;
  assert(fast.ok());
  const std::string printed = Printed(*slow->commit);
  assert(Printed(*fast->commit) == printed);
  const std::string_view line = std::string_view(printed).substr(0, printed.size() - 1);
  assert(line.find('\n') == std::string_view::npos);
  std::optional<Trailer> trailer = ReadTrailer(line);
  assert(trailer.has_value());
  absl::StatusOr<LogLine> again = parser.Parse(line.substr(0, trailer->body_size), trailer->hashes);
  assert(again.ok());
  assert(Printed(*again->commit) == printed);
}

absl::Status Start(MemoryDisk* disk, Replica* replica) {
  InlineLoop loop;
  LocalOptions options;
  options.prefill_bytes = 0;
  options.ballast_bytes = 0;
  options.snapshot_bytes = 0;
  LocalCoordinator local(&loop, &loop, disk, options);
  absl::Status status = absl::InternalError("never answered");
  local.Recover(replica, [&status](absl::Status s) { status = s; });
  loop.Turn();
  return status;
}

void OneFile(std::string_view text) {
  const std::string name = LogName(1);
  std::string file;
  LinePrinter().LogHeader(1, 1, 0, &file);
  file.append(text);

  MemoryDisk started;
  started.Put(name, file);
  Replica first;
  if (Start(&started, &first).ok()) {
    Replica second;
    const absl::Status status = Start(&started, &second);
    assert(status.ok());
    assert(second.entries == first.entries && second.version == first.version);
  }

  MemoryDisk sealed;
  sealed.Put(name, file);
  if (Seal(&sealed, name).ok()) {
    assert(Verify(&sealed, {}).value().good());
    Replica replica;
    assert(Start(&sealed, &replica).ok());
    const absl::StatusOr<SealReport> again = Seal(&sealed, name);
    assert(again.ok());
  }
  assert(Verify(&started, {}).ok());
}

const bool kQuiet = (spdlog::set_level(spdlog::level::off), true);

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  assert(kQuiet);
  OneLine(text.substr(0, text.find('\n')));
  OneFile(text);
  return 0;
}
