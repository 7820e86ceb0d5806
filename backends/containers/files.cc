// DIRECTORY/refs/NAME/STAMP.edn holds a value, DIRECTORY/atoms/NAME/state.edn a version and a value, NAME as
// FileName makes it. Each is written into DIRECTORY/new/ first and appears whole, by link or rename.
#include "backends/containers/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/values/edn.h"
#include "engine/values/hash.h"

namespace stm::containers {
namespace {

// Shorter than any file system's limit of 255.
constexpr size_t kFileNameBytes = 200;
constexpr int kAtomLocks = 64;
constexpr int kTries = 100;

absl::Status Failed(absl::string_view what, const std::string& path, int error) {
  const std::string message = absl::StrCat(what, " ", path, ": ", std::strerror(error));
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case EMFILE:
    case ENFILE:
      return absl::UnavailableError(message);
    case ENOENT:  // a directory that was there is gone
      return absl::NotFoundError(message);
    default:
      return absl::InternalError(message);
  }
}

struct Descriptor {
  explicit Descriptor(int descriptor) : number(descriptor) {}
  ~Descriptor() {
    if (number >= 0) close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int number;
};

// "/accounts/Élan" is "accounts~%c3%89lan", on a file system that folds case or composes letters too; what is
// longer than a file's name may be goes on in directories, "...+/...". Distinct names are distinct paths.
std::string FileName(std::string_view name) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string all;
  size_t begin = 0;
  for (const char c : name.substr(!name.empty() && name.front() == '/')) {
    std::string next(1, c == '/' ? '~' : c);
    if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '/') {
      const auto byte = static_cast<unsigned char>(c);
      next = {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
    if (all.size() - begin + next.size() > kFileNameBytes) {
      absl::StrAppend(&all, "+/");
      begin = all.size();
    }
    all += next;
  }
  return all;
}

// What both kinds do with files.
class Directory {
 public:
  static absl::StatusOr<std::shared_ptr<Directory>> Open(const std::string& root) {
    std::shared_ptr<Directory> directory(new Directory(root));
    for (const char* part : {"/refs", "/atoms", "/new", "/locks"}) {
      if (absl::Status made = directory->Make(root + part); !made.ok()) return made;
    }
    directory->Sweep();
    return directory;
  }

  std::string PathOf(absl::string_view kind, const std::string& name) const {
    return absl::StrCat(root_, "/", kind, "/", FileName(name));
  }

  // Makes a directory, and those above it, durably. Those that are there are made sure of too: who made them
  // may not have got so far.
  absl::Status Make(const std::string& path) {
    absl::Status status;
    // Destroy may take one above away meanwhile.
    for (int tries = 0; tries < kTries; ++tries) {
      status = MakeOnce(path);
      if (!absl::IsNotFound(status)) return status;
    }
    return absl::UnavailableError(status.message());
  }

  // nullopt: there is no such file.
  absl::StatusOr<std::optional<std::string>> Read(const std::string& path) {
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.number < 0 && errno == ENOENT) return std::nullopt;
    if (file.number < 0) return Failed("open", path, errno);
    std::string text;
    for (;;) {
      char part[1 << 14];
      const ssize_t got = read(file.number, part, sizeof part);
      if (got == 0) return text;
      if (got < 0 && errno != EINTR) return Failed("read", path, errno);
      if (got > 0) text.append(part, static_cast<size_t>(got));
    }
  }

  // Writes a file elsewhere, and has `put` move it into the directory: 0, or -1 with errno. Durable once it
  // is OK.
  absl::Status Write(const std::string& directory, std::string_view text,
                     const std::function<int(const char* from)>& put) {
    const std::string written = absl::StrCat(root_, "/new/", absl::Hex(token_), "-", number_.fetch_add(1));
    absl::Status status = WriteNew(written, text);
    if (status.ok()) {
      // Destroy may take the directory away before the file is in it.
      for (int tries = 0; tries < kTries; ++tries) {
        status = Make(directory);
        if (status.ok() && put(written.c_str()) != 0) status = Failed("put a file into", directory, errno);
        if (!absl::IsNotFound(status)) break;
      }
    }
    unlink(written.c_str());
    if (absl::IsNotFound(status)) return absl::UnavailableError(status.message());
    return status.ok() ? Sync(directory) : status;
  }

  absl::Status Remove(const std::string& directory, const std::string& file) {
    const std::string path = absl::StrCat(directory, "/", file);
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return Failed("unlink", path, errno);
    // Also when it was gone: who removed it may not have got so far.
    return Sync(directory);
  }

  // Takes a name's directory away, unless there is something in it.
  void RemoveIfEmpty(std::string directory, absl::string_view kind) {
    const size_t stop = root_.size() + 1 + kind.size();
    while (directory.size() > stop && rmdir(directory.c_str()) == 0) directory.resize(directory.rfind('/'));
  }

  // Held as long as it lives: against other threads and other daemons.
  absl::StatusOr<std::unique_ptr<Descriptor>> Lock(const std::string& name) {
    const std::string path = absl::StrCat(root_, "/locks/", SipHash<1, 3>(0, 0, name) % kAtomLocks);
    auto lock = std::make_unique<Descriptor>(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
    if (lock->number < 0) return Failed("open", path, errno);
    while (flock(lock->number, LOCK_EX) != 0) {
      if (errno != EINTR) return Failed("lock", path, errno);
    }
    return lock;
  }

 private:
  explicit Directory(std::string root) : root_(std::move(root)), token_(std::random_device()()) {}

  // NOT_FOUND: what it is to stand in is gone.
  absl::Status MakeOnce(const std::string& path) {
    for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
      const std::string part = path.substr(0, slash);
      const bool made = mkdir(part.c_str(), 0750) == 0;
      if (!made && errno != EEXIST) return Failed("mkdir", part, errno);
      if (made || part.size() > root_.size()) {
        if (absl::Status synced = Sync(part.substr(0, part.rfind('/') + 1)); !synced.ok()) return synced;
      }
      if (slash == std::string::npos) return absl::OkStatus();
    }
  }

  absl::Status WriteNew(const std::string& path, std::string_view text) {
    const Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
    if (file.number < 0) return Failed("create", path, errno);
    while (!text.empty()) {
      const ssize_t wrote = write(file.number, text.data(), text.size());
      if (wrote < 0 && errno != EINTR) return Failed("write", path, errno);
      if (wrote > 0) text.remove_prefix(static_cast<size_t>(wrote));
    }
    return fsync(file.number) == 0 ? absl::OkStatus() : Failed("fsync", path, errno);
  }

  absl::Status Sync(const std::string& directory) {
    {
      absl::MutexLock lock(&mutex_);
      if (!broken_.ok()) return broken_;
    }
    const Descriptor opened(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (opened.number < 0 && errno == ENOENT) return absl::OkStatus();  // gone, and what was in it
    if (opened.number < 0) return Failed("open", directory, errno);
    if (fsync(opened.number) == 0) return absl::OkStatus();
    // What is on disk is unknown from here on: the next fsync's OK would mean nothing.
    const int error = errno;
    absl::MutexLock lock(&mutex_);
    broken_ = absl::InternalError(absl::StrCat("fsync ", directory, ": ", std::strerror(error),
                                               ": look at that disk, then start the daemon again"));
    return broken_;
  }

  // What writers that died have left in new/. Others may be writing there now.
  void Sweep() {
    DIR* const directory = opendir((root_ + "/new").c_str());
    if (directory == nullptr) return;
    const time_t old = time(nullptr) - 3600;
    while (const dirent* entry = readdir(directory)) {
      struct stat about;
      if (fstatat(dirfd(directory), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) == 0 &&
          S_ISREG(about.st_mode) && about.st_mtime < old) {
        unlinkat(dirfd(directory), entry->d_name, 0);
      }
    }
    closedir(directory);
  }

  const std::string root_;
  const uint32_t token_;  // of this process's files in new/
  std::atomic<uint64_t> number_{0};
  absl::Mutex mutex_;
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
};

absl::Status Unreadable(const std::string& path, const absl::Status& why) {
  return absl::DataLossError(absl::StrCat(path, ": ", why.message()));
}

class FileRefs final : public VersionedStateContainer {
 public:
  explicit FileRefs(std::shared_ptr<Directory> directory) : directory_(std::move(directory)) {}

  absl::Status Init(const std::string& name, absl::Duration) override {
    return directory_->Make(PathOf(name));
  }
  absl::Status Destroy(const std::string& name, absl::Duration) override {
    directory_->RemoveIfEmpty(PathOf(name), kRefs);
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name, const std::string& stamp,
                                                  absl::Duration) override {
    const std::string path = absl::StrCat(PathOf(name), "/", FileOf(stamp));
    const absl::StatusOr<std::optional<std::string>> text = directory_->Read(path);
    if (!text.ok()) return text.status();
    if (!text->has_value()) return std::nullopt;
    absl::StatusOr<Value> value = ReadEdn(**text);
    if (!value.ok()) return Unreadable(path, value.status());
    return *std::move(value);
  }
  absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value& value,
                          absl::Duration within) override {
    const std::string path = absl::StrCat(PathOf(name), "/", FileOf(stamp));
    bool was_there = false;
    absl::Status written = directory_->Write(PathOf(name), ToEdn(value) + "\n", [&](const char* from) {
      if (link(from, path.c_str()) == 0) return 0;
      was_there = errno == EEXIST;
      return was_there ? 0 : -1;
    });
    if (!written.ok() || !was_there) return written;
    const absl::StatusOr<std::optional<Value>> first = GetStateAt(name, stamp, within);
    if (!first.ok()) return first.status();
    if (!first->has_value() || **first == value) return absl::OkStatus();
    return absl::AlreadyExistsError(absl::StrCat(path, " has another value: a stamp is written once"));
  }
  absl::Status DeleteStateAt(const std::string& name, const std::string& stamp, absl::Duration) override {
    return directory_->Remove(PathOf(name), FileOf(stamp));
  }

 private:
  static constexpr char kRefs[] = "refs";
  std::string PathOf(const std::string& name) const { return directory_->PathOf(kRefs, name); }
  static std::string FileOf(const std::string& stamp) { return FileName(stamp) + ".edn"; }

  const std::shared_ptr<Directory> directory_;
};

class FileAtoms final : public StateContainer {
 public:
  explicit FileAtoms(std::shared_ptr<Directory> directory) : directory_(std::move(directory)) {}

  absl::Status Init(const std::string& name, absl::Duration) override {
    return directory_->Make(PathOf(name));
  }
  absl::Status Destroy(const std::string& name, int64_t version, absl::Duration) override {
    const auto lock = directory_->Lock(name);
    if (!lock.ok()) return lock.status();
    const absl::StatusOr<State> present = Read(name);
    if (!present.ok()) return present.status();
    if (present->value.has_value() && present->version > version) return absl::OkStatus();
    if (absl::Status removed = directory_->Remove(PathOf(name), kFile); !removed.ok()) return removed;
    directory_->RemoveIfEmpty(PathOf(name), kAtoms);
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<Value>> GetState(const std::string& name, absl::Duration) override {
    absl::StatusOr<State> state = Read(name);
    if (!state.ok()) return state.status();
    return std::move(state->value);
  }
  absl::Status SetState(const std::string& name, const Value& value, int64_t version,
                        absl::Duration) override {
    const auto lock = directory_->Lock(name);
    if (!lock.ok()) return lock.status();
    const absl::StatusOr<State> present = Read(name);
    if (!present.ok()) return present.status();
    if (present->value.has_value() && present->version > version) return absl::OkStatus();
    const std::string path = absl::StrCat(PathOf(name), "/", kFile);
    return directory_->Write(PathOf(name), absl::StrCat(version, "\n", ToEdn(value), "\n"),
                             [&](const char* from) { return rename(from, path.c_str()); });
  }

 private:
  static constexpr char kAtoms[] = "atoms";
  static constexpr char kFile[] = "state.edn";
  struct State {
    std::optional<Value> value;
    int64_t version = 0;
  };

  std::string PathOf(const std::string& name) const { return directory_->PathOf(kAtoms, name); }
  absl::StatusOr<State> Read(const std::string& name) {
    const std::string path = absl::StrCat(PathOf(name), "/", kFile);
    const absl::StatusOr<std::optional<std::string>> text = directory_->Read(path);
    if (!text.ok()) return text.status();
    if (!text->has_value()) return State();
    EdnReader reader(**text);
    const absl::StatusOr<Value> version = reader.Next();
    if (!version.ok()) return Unreadable(path, version.status());
    if (!version->is(Type::kInteger)) return absl::DataLossError(path + ": it does not begin with a version");
    absl::StatusOr<Value> value = reader.Next();
    if (!value.ok()) return Unreadable(path, value.status());
    return State{*std::move(value), version->integer()};
  }

  const std::shared_ptr<Directory> directory_;
};

}  // namespace

absl::StatusOr<Container> MakeFiles(const std::string& uri, const FactoryOptions& options) {
  constexpr std::string_view kScheme = "file://";
  std::string root = uri.compare(0, kScheme.size(), kScheme) == 0 ? uri.substr(kScheme.size()) : "";
  while (!root.empty() && root.back() == '/') root.pop_back();
  if (root.empty() || root.front() != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat(uri, " names no directory: write file:///DIRECTORY, from the root"));
  }
  absl::StatusOr<std::shared_ptr<Directory>> directory = Directory::Open(root);
  if (!directory.ok()) return directory.status();
  Container container;
  container.refs = std::make_unique<FileRefs>(*directory);
  container.atoms = std::make_unique<FileAtoms>(*std::move(directory));
  return container;
}

}  // namespace stm::containers
