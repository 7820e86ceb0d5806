#include "backends/local/ballast.h"

#include <algorithm>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace stm::local {
namespace {

constexpr char kName[] = "ballast";
constexpr size_t kBlockBytes = 1 << 20;

}  // namespace

absl::Status Ballast::Keep() {
  if (!wanted() || whole()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<File>> file = disk_->Open(kName);
  if (absl::IsNotFound(file.status())) file = disk_->Create(kName);
  if (!file.ok()) return file.status();
  absl::StatusOr<uint64_t> size = (*file)->Size();
  if (!size.ok()) return size.status();
  absl::Status status;
  const uint64_t whole_bytes = static_cast<uint64_t>(bytes_);
  if (*size < whole_bytes) {
    // Written, not merely sized: only written blocks are surely there. Not zeros: some file systems keep
    // those for free.
    const std::string block(kBlockBytes, '.');
    for (uint64_t at = *size; status.ok() && at < whole_bytes; at += block.size()) {
      status = (*file)->Write(
          at, std::string_view(block).substr(0, std::min<uint64_t>(block.size(), whole_bytes - at)));
    }
    if (status.ok()) status = (*file)->Sync();
    if (status.ok()) status = disk_->SyncDirectory();
  }
  if (!status.ok()) {
    file->reset();
    absl::Status removed = disk_->Remove(kName);
    return removed.ok() ? status : removed;
  }
  whole_.store(true, std::memory_order_relaxed);
  return absl::OkStatus();
}

bool Ballast::Spend() {
  whole_.store(false, std::memory_order_relaxed);
  return disk_->Remove(kName).ok();
}

}  // namespace stm::local
