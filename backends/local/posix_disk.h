// PosixDisk is a directory of a real file system. Thread-safe; blocking.
// The directory is this process's from Lock on, until the PosixDisk goes or the process ends, however it
// ends.
#ifndef STM_BACKENDS_LOCAL_POSIX_DISK_H_
#define STM_BACKENDS_LOCAL_POSIX_DISK_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "backends/local/disk.h"

namespace stm::local {

class PosixDisk : public Disk {
 public:
  // Makes the directory, and those above it, where they are not there.
  static absl::StatusOr<std::unique_ptr<PosixDisk>> Make(const std::string& directory);
  // NOT_FOUND: there is no such directory.
  static absl::StatusOr<std::unique_ptr<PosixDisk>> OpenExisting(const std::string& directory);
  ~PosixDisk() override;

  std::string Path(std::string_view name) const override;
  absl::Status Lock() override;
  absl::StatusOr<std::vector<std::string>> List() override;
  absl::StatusOr<std::unique_ptr<File>> Create(std::string_view name) override;
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view name) override;
  absl::Status Rename(std::string_view from, std::string_view to) override;
  absl::Status Remove(std::string_view name) override;
  absl::Status SyncDirectory() override;

 private:
  PosixDisk(std::string directory, int descriptor)
      : directory_(std::move(directory)), descriptor_(descriptor) {}

  const std::string directory_;
  const int descriptor_;
  absl::Mutex mutex_;
  int lock_ ABSL_GUARDED_BY(mutex_) = -1;
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_POSIX_DISK_H_
