// MemoryDisk is a Disk whose faults a test plants: no room, failing syncs, crashes that keep only what was
// synced.
#ifndef STM_TESTS_BACKENDS_LOCAL_MEMORY_DISK_H_
#define STM_TESTS_BACKENDS_LOCAL_MEMORY_DISK_H_

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backends/local/disk.h"

namespace stm::local {

class MemoryDisk : public Disk {
 public:
  struct Content {
    std::string bytes;
    std::string synced;
  };

  std::string Path(std::string_view name) const override { return "/mem/" + std::string(name); }
  absl::Status Lock() override {
    return locked_elsewhere ? absl::FailedPreconditionError("lock /mem/lock: process 1 has it")
                            : absl::OkStatus();
  }
  absl::StatusOr<std::vector<std::string>> List() override {
    std::vector<std::string> names;
    for (const auto& [name, content] : files) names.push_back(name);
    return names;
  }
  absl::StatusOr<std::unique_ptr<File>> Create(std::string_view name) override {
    if (files.count(std::string(name)) != 0) return absl::AlreadyExistsError(Path(name));
    if (room == 0) return absl::ResourceExhaustedError("create " + Path(name) + ": no space");
    auto content = std::make_shared<Content>();
    files[std::string(name)] = content;
    Changed();
    return std::make_unique<MemoryFile>(this, content);
  }
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view name) override {
    auto found = files.find(std::string(name));
    if (found == files.end()) return absl::NotFoundError("open " + Path(name) + ": no such file");
    return std::make_unique<MemoryFile>(this, found->second);
  }
  absl::Status Rename(std::string_view from, std::string_view to) override {
    auto found = files.find(std::string(from));
    if (found == files.end()) return absl::NotFoundError("rename " + Path(from) + ": no such file");
    auto content = found->second;
    files.erase(found);
    files[std::string(to)] = content;
    Changed();
    return absl::OkStatus();
  }
  absl::Status Remove(std::string_view name) override {
    auto found = files.find(std::string(name));
    if (found == files.end()) return absl::NotFoundError("remove " + Path(name) + ": no such file");
    if (room >= 0) room += static_cast<int64_t>(found->second->bytes.size());
    files.erase(found);
    Changed();
    return absl::OkStatus();
  }
  absl::Status SyncDirectory() override {
    ++directory_syncs;
    return absl::OkStatus();
  }

  std::string& bytes(const std::string& name) { return files.at(name)->bytes; }
  bool has(const std::string& name) const { return files.count(name) != 0; }
  void Put(const std::string& name, std::string text) {
    files[name] = std::make_shared<Content>(Content{text, text});
  }
  // The names that begin so.
  std::vector<std::string> Names(const std::string& prefix) const {
    std::vector<std::string> names;
    for (const auto& [name, content] : files) {
      if (name.substr(0, prefix.size()) == prefix) names.push_back(name);
    }
    return names;
  }
  // What was not synced is gone.
  void Crash() {
    for (auto& [name, content] : files)
      content = std::make_shared<Content>(Content{content->synced, content->synced});
  }

  std::map<std::string, std::shared_ptr<Content>> files;
  int64_t room = -1;  // bytes that may still be added; -1: no bound
  bool fail_sync = false;
  bool fail_truncate = false;
  bool locked_elsewhere = false;
  int syncs = 0;
  int directory_syncs = 0;
  std::vector<size_t> write_sizes;
  std::function<void()> on_change;  // after each step that a crash may come behind

 private:
  void Changed() {
    if (on_change) on_change();
  }

  class MemoryFile : public File {
   public:
    MemoryFile(MemoryDisk* disk, std::shared_ptr<Content> content)
        : disk_(disk), content_(std::move(content)) {}
    absl::Status Write(uint64_t offset, std::string_view data) override {
      disk_->write_sizes.push_back(data.size());
      std::string& bytes = content_->bytes;
      size_t end = static_cast<size_t>(offset) + data.size();
      size_t grows = end > bytes.size() ? end - bytes.size() : 0;
      bool full = disk_->room >= 0 && grows > static_cast<size_t>(disk_->room);
      if (full) {
        // As much as fits.
        end -= grows - static_cast<size_t>(disk_->room);
        grows = static_cast<size_t>(disk_->room);
      }
      if (disk_->room >= 0) disk_->room -= static_cast<int64_t>(grows);
      if (end > bytes.size()) bytes.resize(end, '\0');
      if (end > offset)
        bytes.replace(static_cast<size_t>(offset), end - static_cast<size_t>(offset),
                      data.substr(0, end - static_cast<size_t>(offset)));
      disk_->Changed();
      return full ? absl::ResourceExhaustedError("write: no space") : absl::OkStatus();
    }
    absl::Status Sync() override {
      ++disk_->syncs;
      if (disk_->fail_sync) return absl::InternalError("fdatasync: input/output error");
      content_->synced = content_->bytes;
      disk_->Changed();
      return absl::OkStatus();
    }
    absl::Status Truncate(uint64_t size) override {
      if (disk_->fail_truncate) return absl::InternalError("truncate: input/output error");
      if (disk_->room >= 0)
        disk_->room += static_cast<int64_t>(content_->bytes.size()) - static_cast<int64_t>(size);
      content_->bytes.resize(static_cast<size_t>(size), '\0');
      return absl::OkStatus();
    }
    absl::StatusOr<std::string> Read(uint64_t offset, size_t size) override {
      if (offset >= content_->bytes.size()) return std::string();
      return content_->bytes.substr(static_cast<size_t>(offset), size);
    }
    absl::StatusOr<uint64_t> Size() override { return content_->bytes.size(); }

   private:
    MemoryDisk* disk_;
    std::shared_ptr<Content> content_;
  };
};

}  // namespace stm::local

#endif  // STM_TESTS_BACKENDS_LOCAL_MEMORY_DISK_H_
