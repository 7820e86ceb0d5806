#include "backends/local/posix_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace stm::local {
namespace {

constexpr char kLockName[] = "lock";

absl::Status Failed(const char* what, const std::string& path, int error) {
  std::string message = absl::StrCat(what, " ", path, ": ", std::strerror(error));
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(absl::StrCat(message, ": make room on that file system"));
    case ENOENT:
      return absl::NotFoundError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(
          absl::StrCat(message, ": the directory and what is in it must be this user's to read and to write"));
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(
          absl::StrCat(message, ": raise the limit of open files (ulimit -n)"));
    default:
      return absl::InternalError(message);
  }
}

class PosixFile : public File {
 public:
  PosixFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  ~PosixFile() override { close(descriptor_); }

  absl::Status Write(uint64_t offset, std::string_view data) override {
    while (!data.empty()) {
      ssize_t written = pwrite(descriptor_, data.data(), data.size(), static_cast<off_t>(offset));
      if (written < 0) {
        if (errno == EINTR) continue;
        return Failed("write", path_, errno);
      }
      offset += static_cast<uint64_t>(written);
      data.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (fdatasync(descriptor_) == 0) return absl::OkStatus();
    // Whatever it was, ENOSPC too: what the file holds is unknown now. Never a bound that a caller may wait
    // out.
    return absl::InternalError(absl::StrCat("fdatasync ", path_, ": ", std::strerror(errno)));
  }

  absl::Status Truncate(uint64_t size) override {
    while (ftruncate(descriptor_, static_cast<off_t>(size)) != 0) {
      if (errno != EINTR) return Failed("truncate", path_, errno);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Read(uint64_t offset, size_t size) override {
    std::string data(size, '\0');
    size_t have = 0;
    while (have < size) {
      ssize_t got = pread(descriptor_, data.data() + have, size - have, static_cast<off_t>(offset + have));
      if (got < 0) {
        if (errno == EINTR) continue;
        return Failed("read", path_, errno);
      }
      if (got == 0) break;
      have += static_cast<size_t>(got);
    }
    data.resize(have);
    return data;
  }

  absl::StatusOr<uint64_t> Size() override {
    struct stat about;
    if (fstat(descriptor_, &about) != 0) return Failed("stat", path_, errno);
    return static_cast<uint64_t>(about.st_size);
  }

 private:
  const std::string path_;
  const int descriptor_;
};

absl::Status MakeDirectories(const std::string& directory) {
  for (size_t slash = directory.find('/', 1);; slash = directory.find('/', slash + 1)) {
    std::string part = directory.substr(0, slash);
    if (mkdir(part.c_str(), 0750) != 0 && errno != EEXIST) return Failed("mkdir", part, errno);
    if (slash == std::string::npos) return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<PosixDisk>> PosixDisk::Make(const std::string& directory) {
  if (directory.empty()) return absl::InvalidArgumentError("data directory: \"\" is no directory: name one");
  absl::Status made = MakeDirectories(directory);
  if (!made.ok()) return made;
  return OpenExisting(directory);
}

absl::StatusOr<std::unique_ptr<PosixDisk>> PosixDisk::OpenExisting(const std::string& directory) {
  int descriptor = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return Failed("open", directory, errno);
  return std::unique_ptr<PosixDisk>(new PosixDisk(directory, descriptor));
}

PosixDisk::~PosixDisk() {
  absl::MutexLock hold(&mutex_);
  if (lock_ >= 0) close(lock_);
  close(descriptor_);
}

std::string PosixDisk::Path(std::string_view name) const {
  return absl::StrCat(directory_, directory_.back() == '/' ? "" : "/",
                      absl::string_view(name.data(), name.size()));
}

absl::Status PosixDisk::Lock() {
  absl::MutexLock hold(&mutex_);
  if (lock_ >= 0) return absl::OkStatus();
  int descriptor = openat(descriptor_, kLockName, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (descriptor < 0) return Failed("open", Path(kLockName), errno);
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    int error = errno;
    char holder[32] = "";
    ssize_t got = pread(descriptor, holder, sizeof(holder) - 1, 0);
    close(descriptor);
    if (error != EWOULDBLOCK) return Failed("lock", Path(kLockName), error);
    std::string who(holder, got > 0 ? static_cast<size_t>(got) : 0);
    who = who.substr(0, who.find('\n'));
    return absl::FailedPreconditionError(
        absl::StrCat("lock ", Path(kLockName), ": process ", who.empty() ? "unknown" : who,
                     " has this directory: stop it, or name another directory"));
  }
  // Who, for the message above. Not knowing is no failure.
  std::string self = absl::StrCat(getpid(), "\n");
  if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, self.data(), self.size(), 0) < 0) {
  }
  lock_ = descriptor;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> PosixDisk::List() {
  // A descriptor of its own: the position in a directory belongs to the open file.
  int descriptor = openat(descriptor_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* directory = descriptor < 0 ? nullptr : fdopendir(descriptor);
  if (directory == nullptr) {
    int error = errno;
    if (descriptor >= 0) close(descriptor);
    return Failed("list", directory_, error);
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(directory)) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  int error = errno;
  closedir(directory);
  if (error != 0) return Failed("list", directory_, error);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::unique_ptr<File>> PosixDisk::Create(std::string_view name) {
  std::string file(name);
  int descriptor = openat(descriptor_, file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
  if (descriptor < 0) return Failed("create", Path(name), errno);
  return std::make_unique<PosixFile>(Path(name), descriptor);
}

absl::StatusOr<std::unique_ptr<File>> PosixDisk::Open(std::string_view name) {
  std::string file(name);
  int descriptor = openat(descriptor_, file.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return Failed("open", Path(name), errno);
  return std::make_unique<PosixFile>(Path(name), descriptor);
}

absl::Status PosixDisk::Rename(std::string_view from, std::string_view to) {
  if (renameat(descriptor_, std::string(from).c_str(), descriptor_, std::string(to).c_str()) == 0) {
    return absl::OkStatus();
  }
  return Failed("rename", absl::StrCat(Path(from), " to ", Path(to)), errno);
}

absl::Status PosixDisk::Remove(std::string_view name) {
  if (unlinkat(descriptor_, std::string(name).c_str(), 0) == 0) return absl::OkStatus();
  return Failed("remove", Path(name), errno);
}

absl::Status PosixDisk::SyncDirectory() {
  if (fsync(descriptor_) == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("fsync ", directory_, ": ", std::strerror(errno)));
}

}  // namespace stm::local
