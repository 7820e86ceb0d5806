// Any bytes as a snapshot, and as the lines between a good snapshot's first and last: parts or an error,
// never more.
#include <spdlog/spdlog.h>

#include <cassert>
#include <cstdint>
#include <string>
#include <string_view>

#include "backends/local/crc32c.h"
#include "backends/local/log_format.h"
#include "backends/local/snapshot.h"
#include "tests/backends/local/memory_disk.h"

namespace {

using namespace stm;
using namespace stm::local;

const std::string kName = SnapshotName(7);
const bool kQuiet = (spdlog::set_level(spdlog::level::off), true);

// What the reader takes, printed and read once more, is the same.
void Again(const engine::ImagePart& part) {
  LinePrinter printer;
  LineParser parser;
  for (const engine::ImageEntry& entry : part.entries) {
    std::string line;
    printer.Entry(entry, &line);
    assert(line.find('\n') == line.size() - 1);
    absl::StatusOr<SnapshotLine> read =
        parser.ParseSnapshot(std::string_view(line).substr(0, line.size() - 1));
    assert(read.ok());
    std::string printed;
    printer.Entry(read->entry, &printed);
    assert(printed == line);
  }
  for (const engine::ImageId& id : part.ids) {
    std::string line;
    printer.Id(id, &line);
    absl::StatusOr<SnapshotLine> read =
        parser.ParseSnapshot(std::string_view(line).substr(0, line.size() - 1));
    assert(read.ok());
    assert(read->id.transaction_id == id.transaction_id && read->id.version == id.version &&
           read->id.at == id.at);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  assert(kQuiet);
  const std::string text(reinterpret_cast<const char*>(data), size);
  MemoryDisk disk;
  disk.Put(kName, text);
  CheckSnapshot(&disk, kName).status().IgnoreError();

  LinePrinter printer;
  std::string whole;
  printer.SnapshotHeader(1, 7, Instant{1795316400, 0}, &whole);
  whole += text;
  if (whole.back() != '\n') whole.push_back('\n');
  const uint32_t crc = Crc32c(whole);
  printer.SnapshotEnd(3, 2, 1, crc, &whole);
  disk.Put(kName, whole);
  assert(CheckSnapshot(&disk, kName).ok());
  auto reader = SnapshotReader::Open(&disk, kName).value();
  for (;;) {
    absl::StatusOr<engine::ImagePart> part = reader->Next(3);
    if (!part.ok()) {
      assert(absl::IsDataLoss(part.status()) || absl::IsUnimplemented(part.status()));
      break;
    }
    if (part->entries.empty() && part->ids.empty()) break;
    Again(*part);
  }
  return 0;
}
