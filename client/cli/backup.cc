// backup and restore: the store at one version, in a file.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <istream>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "backends/local/backup.h"
#include "client/cli/commands.h"
#include "client/cli/progress.h"

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

absl::Status Restore(Shell& shell, const std::string& path) {
  std::ifstream file;
  std::istream* in = &shell.io().in;
  int64_t of = 0;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) return FileError(path, "open", "give a file that `stmctl backup` made");
    in = &file;
    struct stat info;
    if (stat(path.c_str(), &info) == 0) of = info.st_size;
  }
  int64_t bytes = 0;
  absl::StatusOr<v1::RestoreResponse> response = absl::UnknownError("");
  {
    Progress progress(shell.io(), "restore", "bytes", of);
    std::string block(kSendBytes, '\0');
    response = shell.daemon().Restore(shell.StreamDeadline(), [&]() -> absl::StatusOr<std::string> {
      in->read(block.data(), static_cast<std::streamsize>(block.size()));
      if (in->bad()) return FileError(path, "read", "nothing was restored");
      bytes += in->gcount();
      progress.At(bytes);
      return block.substr(0, static_cast<size_t>(in->gcount()));
    });
  }
  if (!response.ok()) return response.status();
  char store[17];
  std::snprintf(store, sizeof store, "%016llx", static_cast<unsigned long long>(response->header().store()));
  shell.printer().Row({{"restored", Value::String(path)},
                       {"version", Value::Integer(response->version())},
                       {"store", Value::String(store)}});
  return absl::OkStatus();
}

}  // namespace stm::cli
