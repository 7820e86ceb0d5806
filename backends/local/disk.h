// Disk is the directory that the local coordinator keeps its files in. Thread-safe; blocking; a simulation
// implements it too, and there an unsynced write may be lost, torn, or leave zeros, and an unsynced rename or
// create undone.
#ifndef STM_BACKENDS_LOCAL_DISK_H_
#define STM_BACKENDS_LOCAL_DISK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace stm::local {

class File {
 public:
  virtual ~File() = default;
  // All of `data` at `offset`. RESOURCE_EXHAUSTED: no room (ENOSPC, EDQUOT), some of it may be written.
  virtual absl::Status Write(uint64_t offset, std::string_view data) = 0;
  // fdatasync. After an error the file's state is unknown: stop.
  virtual absl::Status Sync() = 0;
  virtual absl::Status Truncate(uint64_t size) = 0;
  // Up to `size` bytes at `offset`; fewer at the end.
  virtual absl::StatusOr<std::string> Read(uint64_t offset, size_t size) = 0;
  virtual absl::StatusOr<uint64_t> Size() = 0;
};

class Disk {
 public:
  virtual ~Disk() = default;
  // For messages: where this is.
  virtual std::string Path(std::string_view name) const = 0;
  // Takes the directory for this process until the Disk goes. FAILED_PRECONDITION: another has it.
  virtual absl::Status Lock() = 0;
  virtual absl::StatusOr<std::vector<std::string>> List() = 0;
  // ALREADY_EXISTS if it is there.
  virtual absl::StatusOr<std::unique_ptr<File>> Create(std::string_view name) = 0;
  // To read and write. NOT_FOUND if it is not there.
  virtual absl::StatusOr<std::unique_ptr<File>> Open(std::string_view name) = 0;
  virtual absl::Status Rename(std::string_view from, std::string_view to) = 0;
  virtual absl::Status Remove(std::string_view name) = 0;
  // Makes creates, renames and removes durable.
  virtual absl::Status SyncDirectory() = 0;
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_DISK_H_
