// backup and restore: the store at one version, in a file.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <istream>
#include <memory>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/backup.h"
#include "backends/zookeeper/restore.h"
#include "client/cli/commands.h"
#include "client/cli/progress.h"
#include "client/cli/store.h"

namespace stm::cli {
namespace {

constexpr size_t kSendBytes = 256 << 10;

absl::Status FileError(const std::string& path, const char* what, const char* remedy) {
  return absl::UnknownError(absl::StrCat(path, ": ", what, ": ", std::strerror(errno), ": ", remedy));
}

// A file that is there under its name only when it is whole and durable.
class NewFile {
 public:
  explicit NewFile(const std::string& path) : path_(path), temporary_(path + ".tmp") {}
  ~NewFile() {
    if (file_ < 0) return;
    close(file_);
    if (!finished_) unlink(temporary_.c_str());
  }

  absl::Status Write(const std::string& text) {
    if (file_ < 0) {
      // Of the store's values: for its owner alone.
      file_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
      if (file_ < 0) return FileError(temporary_, "create", "name a file in a directory that can be written");
    }
    for (size_t at = 0; at < text.size();) {
      const ssize_t n = write(file_, text.data() + at, text.size() - at);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return FileError(temporary_, "write", "make room there, or name another place");
      at += static_cast<size_t>(n);
    }
    return absl::OkStatus();
  }

  absl::Status Finish() {
    if (fsync(file_) != 0) return FileError(temporary_, "fsync", "write it to another disk");
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return FileError(path_, "rename", "name a file");
    finished_ = true;
    const size_t slash = path_.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int in = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool synced = in >= 0 && fsync(in) == 0;
    absl::Status status = synced ? absl::OkStatus() : FileError(directory, "fsync", "write it to another disk");
    if (in >= 0) close(in);
    return status;
  }

 private:
  const std::string path_;
  const std::string temporary_;
  int file_ = -1;
  bool finished_ = false;
};

// A backup's text as it is read, which shows how far it is.
class BackupFile {
 public:
  // "-": the standard input.
  static absl::StatusOr<std::unique_ptr<BackupFile>> Open(Io& io, const std::string& path, const char* what) {
    std::unique_ptr<BackupFile> file(new BackupFile(io, path, what));
    if (!*file->in_) return FileError(path, "open", "give a file that `stmctl backup` made");
    return file;
  }

  // "": its end.
  absl::StatusOr<std::string> Next() {
    in_->read(block_.data(), static_cast<std::streamsize>(block_.size()));
    if (in_->bad()) return FileError(path_, "read", "nothing was restored");
    bytes_ += in_->gcount();
    progress_.At(bytes_);
    return block_.substr(0, static_cast<size_t>(in_->gcount()));
  }

 private:
  BackupFile(Io& io, const std::string& path, const char* what)
      : path_(path), progress_(io, what, "bytes", SizeOf(path)), block_(kSendBytes, '\0') {
    if (path == "-") {
      in_ = &io.in;
    } else {
      file_.open(path, std::ios::binary);
    }
  }

  // 0: nobody knows.
  static int64_t SizeOf(const std::string& path) {
    struct stat info;
    return path != "-" && stat(path.c_str(), &info) == 0 ? info.st_size : 0;
  }

  const std::string path_;
  std::ifstream file_;
  std::istream* in_ = &file_;
  Progress progress_;
  std::string block_;
  int64_t bytes_ = 0;
};

void PrintRestored(Shell& shell, const std::string& path, int64_t version, uint64_t store) {
  char id[17];
  std::snprintf(id, sizeof id, "%016llx", static_cast<unsigned long long>(store));
  shell.printer().Row({{"restored", Value::String(path)},
                       {"version", Value::Integer(version)},
                       {"store", Value::String(id)}});
}

// Into the daemon, which is empty.
absl::Status RestoreDaemon(Shell& shell, const RestoreOptions& options) {
  if (!options.into.credentials_file.empty() || options.into.acl != StoreOptions().acl) {
    return absl::InvalidArgumentError("--credentials-file and --acl are of a store in ZooKeeper: name it behind the file");
  }
  absl::StatusOr<std::unique_ptr<BackupFile>> file = BackupFile::Open(shell.io(), options.path, "restore");
  if (!file.ok()) return file.status();
  absl::StatusOr<v1::RestoreResponse> response =
      shell.daemon().Restore(shell.StreamDeadline(), [&file] { return (*file)->Next(); });
  file->reset();
  if (!response.ok()) return response.status();
  PrintRestored(shell, options.path, response->version(), response->header().store());
  return absl::OkStatus();
}

// Into ZooKeeper, with no daemon.
absl::Status RestoreStore(Shell& shell, const RestoreOptions& options) {
  if (options.path == "-") {
    return absl::InvalidArgumentError("-: a restore into ZooKeeper reads the backup twice: give a file");
  }
  absl::StatusOr<zookeeper::SessionOptions> session = SessionOf(shell, "restore", options.into);
  if (!session.ok()) return session.status();
  zookeeper::RestoreOptions how;
  how.session = *std::move(session);
  how.patience = PatienceOf(shell);
  const char* what = "check";
  how.open = [&]() -> absl::StatusOr<zookeeper::BackupText> {
    absl::StatusOr<std::unique_ptr<BackupFile>> file =
        BackupFile::Open(shell.io(), options.path, std::exchange(what, "restore"));
    if (!file.ok()) return file.status();
    return zookeeper::BackupText([file = *std::move(file)] { return file->Next(); });
  };
  using Outcome = absl::StatusOr<zookeeper::Restored>;
  const Outcome restored = AwaitWork<Outcome>(
      [&](engine::Loop* loop, zookeeper::Sessions* sessions, absl::AnyInvocable<void(Outcome)> done) {
        return std::make_unique<zookeeper::Restore>(loop, sessions, std::move(how), std::move(done));
      });
  if (!restored.ok()) return restored.status();
  PrintRestored(shell, options.path, restored->version, restored->store);
  return absl::OkStatus();
}

}  // namespace

absl::Status Backup(Shell& shell, const BackupOptions& options) {
  const bool to_stdout = options.path == "-";
  NewFile file(options.path);
  // What came is looked at as a restore will: a backup that is not good is no backup.
  local::BackupReader reader;
  int64_t version = 0;
  int64_t bytes = 0;
  {
    Progress progress(shell.io(), "backup", "bytes", 0);
    absl::Status status = shell.daemon().Backup(
        options.version, shell.StreamDeadline(), [&](const v1::BackupResponse& response) -> absl::Status {
          version = response.version();
          bytes += static_cast<int64_t>(response.chunk().size());
          progress.At(bytes);
          absl::Status good = reader.Add(response.chunk()).status();
          if (!good.ok()) return good;
          if (!to_stdout) return file.Write(response.chunk());
          shell.io().out << response.chunk();
          return shell.Flush();
        });
    if (status.ok()) status = reader.Check();
    if (status.ok() && !to_stdout) status = file.Finish();
    if (!status.ok()) return status;
  }
  if (to_stdout) return absl::OkStatus();
  shell.printer().Row({{"backup", Value::String(options.path)},
                       {"version", Value::Integer(version)},
                       {"entries", Value::Integer(reader.entries())},
                       {"bytes", Value::Integer(bytes)}});
  return absl::OkStatus();
}

absl::Status Restore(Shell& shell, const RestoreOptions& options) {
  return options.into.store.empty() ? RestoreDaemon(shell, options) : RestoreStore(shell, options);
}

}  // namespace stm::cli
