// Any bytes as a backup, and as the lines between a good backup's first and last: parts or an error, never
// more, and the same however the text is cut into pieces. The first byte says how.
#include <algorithm>
#include <cassert>
#include <cstdint>
#include <string>
#include <string_view>

#include "backends/local/backup.h"
#include "backends/local/crc32c.h"
#include "backends/local/log_format.h"

namespace {

using namespace stm;
using namespace stm::local;

struct Taken {
  absl::Status status;
  size_t entries = 0;
  size_t ids = 0;
  std::string last;  // entry's name
};

Taken Take(std::string_view text, size_t piece) {
  Taken taken;
  BackupReader reader;
  while (!text.empty() && taken.status.ok()) {
    const absl::StatusOr<engine::ImagePart> part = reader.Add(text.substr(0, piece));
    text.remove_prefix(std::min(piece, text.size()));
    taken.status = part.status();
    if (!part.ok()) break;
    taken.entries += part->entries.size();
    taken.ids += part->ids.size();
    if (!part->entries.empty()) taken.last = part->entries.back().name;
    for (const engine::ImageEntry& entry : part->entries) {
      assert(entry.version >= 1 && entry.version <= reader.version());
    }
  }
  if (taken.status.ok()) taken.status = reader.Check();
  return taken;
}

Taken TakeBothWays(std::string_view text, size_t piece) {
  const Taken whole = Take(text, text.size() + 1);
  const Taken pieces = Take(text, piece);
  // An error in a piece takes what came with it along: only what is whole is compared.
  assert(whole.status == pieces.status);
  if (whole.status.ok()) {
    assert(whole.entries == pieces.entries && whole.ids == pieces.ids && whole.last == pieces.last);
  } else {
    assert(absl::IsDataLoss(whole.status) || absl::IsUnimplemented(whole.status));
  }
  return whole;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece = 1 + data[0];
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  TakeBothWays(text, piece);

  // Under a header, and a sum that fits: what is inside is all that can be wrong.
  LinePrinter printer;
  std::string whole;
  printer.SnapshotHeader(1, 7, Instant{1795316400, 0}, &whole);
  whole += text;
  if (whole.back() != '\n') whole.push_back('\n');
  BackupReader reader;
  size_t entries = 0, ids = 0;
  const absl::StatusOr<engine::ImagePart> part = reader.Add(whole);
  if (part.ok()) {
    entries = part->entries.size();
    ids = part->ids.size();
  }
  printer.SnapshotEnd(3, static_cast<int64_t>(entries), static_cast<int64_t>(ids), Crc32c(whole), &whole);
  const Taken taken = TakeBothWays(whole, piece);
  const bool ended = reader.Check().ok();  // by an end of its own
  if (part.ok() && !ended) assert(taken.status.ok() && taken.entries == entries && taken.ids == ids);
  return 0;
}
