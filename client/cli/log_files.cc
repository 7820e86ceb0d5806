#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "backends/local/log_format.h"
#include "backends/local/posix_disk.h"
#include "backends/local/seal.h"
#include "client/cli/commands.h"
#include "client/cli/progress.h"

namespace stm::cli {
namespace {

// A disk that shows how much was read of it. One thread.
class ReadDisk : public local::Disk {
 public:
  // Both outlive it.
  ReadDisk(local::Disk* disk, Progress* progress) : disk_(disk), progress_(progress) {}

  std::string Path(std::string_view name) const override { return disk_->Path(name); }
  absl::Status Lock() override { return disk_->Lock(); }
  absl::StatusOr<std::vector<std::string>> List() override { return disk_->List(); }
  absl::StatusOr<std::unique_ptr<local::File>> Create(std::string_view name) override { return disk_->Create(name); }
  absl::StatusOr<std::unique_ptr<local::File>> Open(std::string_view name) override {
    absl::StatusOr<std::unique_ptr<local::File>> file = disk_->Open(name);
    if (!file.ok()) return file.status();
    return std::make_unique<ReadFile>(*std::move(file), this);
  }
  absl::Status Rename(std::string_view from, std::string_view to) override { return disk_->Rename(from, to); }
  absl::Status Remove(std::string_view name) override { return disk_->Remove(name); }
  absl::Status SyncDirectory() override { return disk_->SyncDirectory(); }

 private:
  class ReadFile : public local::File {
   public:
    ReadFile(std::unique_ptr<local::File> file, ReadDisk* disk) : file_(std::move(file)), disk_(disk) {}
    absl::Status Write(uint64_t offset, std::string_view data) override { return file_->Write(offset, data); }
    absl::Status Sync() override { return file_->Sync(); }
    absl::Status Truncate(uint64_t size) override { return file_->Truncate(size); }
    absl::StatusOr<std::string> Read(uint64_t offset, size_t size) override {
      absl::StatusOr<std::string> read = file_->Read(offset, size);
      if (read.ok()) disk_->read_ += static_cast<int64_t>(read->size());
      disk_->progress_->At(disk_->read_);
      return read;
    }
    absl::StatusOr<uint64_t> Size() override { return file_->Size(); }

   private:
    const std::unique_ptr<local::File> file_;
    ReadDisk* const disk_;
  };

  local::Disk* const disk_;
  Progress* const progress_;
  int64_t read_ = 0;
};

// Log files of one directory.
struct Files {
  std::unique_ptr<local::PosixDisk> disk;
  std::vector<std::string> names;  // empty: all
};

// What is wrong with files is never a matter of absent entries or rejected values: exit 1.
absl::Status FileError(const absl::Status& status) { return absl::UnknownError(status.message()); }

bool IsDirectory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

enum class Whole { kAllowed, kRefused };  // a directory, for all files in it

absl::StatusOr<Files> Open(const std::vector<std::string>& paths, Whole whole) {
  Files files;
  std::string directory;
  for (const std::string& path : paths) {
    std::string in;
    if (IsDirectory(path)) {
      if (whole == Whole::kRefused || paths.size() > 1) {
        return absl::InvalidArgumentError(absl::StrCat(path, ": is a directory: name the log files"));
      }
      in = path;
    } else {
      size_t slash = path.rfind('/');
      in = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
      files.names.push_back(slash == std::string::npos ? path : path.substr(slash + 1));
    }
    if (!directory.empty() && in != directory) {
      return absl::InvalidArgumentError(absl::StrCat(directory, " and ", in, ": name files of one directory at a time"));
    }
    directory = in;
  }
  absl::StatusOr<std::unique_ptr<local::PosixDisk>> disk = local::PosixDisk::OpenExisting(directory);
  if (!disk.ok()) return FileError(disk.status());
  files.disk = *std::move(disk);
  return files;
}

enum class Kind { kLog, kSnapshot };

// Of the files that will be read, about; 0: nobody knows.
int64_t BytesOf(local::Disk* disk, absl::FunctionRef<bool(const std::string& name, Kind kind)> is_read) {
  absl::StatusOr<std::vector<std::string>> names = disk->List();
  if (!names.ok()) return 0;
  int64_t bytes = 0;
  for (const std::string& name : *names) {
    const bool log = local::ParseLogName(name).has_value();
    if (!log && !local::ParseSnapshotName(name)) continue;
    if (!is_read(name, log ? Kind::kLog : Kind::kSnapshot)) continue;
    absl::StatusOr<std::unique_ptr<local::File>> file = disk->Open(name);
    absl::StatusOr<uint64_t> size = file.ok() ? (*file)->Size() : file.status();
    if (size.ok()) bytes += static_cast<int64_t>(*size);
  }
  return bytes;
}

absl::StatusOr<local::VerifyReport> VerifyFiles(Io& io, local::Disk* disk, const std::vector<std::string>& names) {
  Progress progress(io, "log verify", "bytes", BytesOf(disk, [&](const std::string& name, Kind) {
                      return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
                    }));
  ReadDisk read(disk, &progress);
  return local::Verify(&read, names);
}

absl::StatusOr<local::SealReport> SealFile(Io& io, local::Disk* disk, const std::string& name) {
  Progress progress(io, "log seal", "bytes", BytesOf(disk, [&](const std::string& other, Kind kind) {
                      return kind == Kind::kSnapshot || other >= name;
                    }));
  ReadDisk read(disk, &progress);
  return local::Seal(&read, name);
}

absl::StatusOr<std::vector<std::string>> DropFiles(Io& io, local::Disk* disk, const std::vector<std::string>& names) {
  Progress progress(io, "log drop", "bytes",
                    BytesOf(disk, [](const std::string&, Kind kind) { return kind == Kind::kSnapshot; }));
  ReadDisk read(disk, &progress);
  return local::Drop(&read, names);
}

Value Strings(const std::vector<std::string>& all) {
  std::vector<Value> items;
  for (const std::string& one : all) items.push_back(Value::String(one));
  return Value::OfVector(std::move(items));
}

}  // namespace

absl::Status LogVerify(Shell& shell, const std::vector<std::string>& paths) {
  absl::StatusOr<Files> files = Open(paths, Whole::kAllowed);
  if (!files.ok()) return files.status();
  absl::StatusOr<local::VerifyReport> report = VerifyFiles(shell.io(), files->disk.get(), files->names);
  if (!report.ok()) return FileError(report.status());
  std::string bad;
  for (const local::VerifyReport::FileReport& file : report->files) {
    Fields row{{"name", Value::String(file.name)},
               {"lines", Value::Integer(file.lines)},
               {"commits", Value::Integer(file.commits)}};
    if (file.first != 0) {
      row.emplace_back("first", Value::Integer(file.first));
      row.emplace_back("last", Value::Integer(file.last));
    }
    if (!file.problem.empty()) row.emplace_back("problem", shell.printer().Plain(file.problem));
    if (!file.note.empty()) row.emplace_back("note", shell.printer().Plain(file.note));
    if (!file.problem.empty() && bad.empty()) bad = absl::StrCat(files->disk->Path(file.name), ": ", file.problem);
    shell.printer().Row(row);
  }
  return bad.empty() ? absl::OkStatus() : absl::DataLossError(bad);
}

absl::Status LogSeal(Shell& shell, const std::vector<std::string>& paths) {
  absl::StatusOr<Files> files = Open(paths, Whole::kRefused);
  if (!files.ok()) return files.status();
  for (const std::string& name : files->names) {
    absl::StatusOr<local::SealReport> report = SealFile(shell.io(), files->disk.get(), name);
    if (!report.ok()) return FileError(report.status());
    Fields row{{"name", Value::String(name)}, {"changed", Value::Boolean(report->changed)}};
    if (report->changed) {
      row.emplace_back("lines-resealed", Value::Integer(report->lines_resealed));
      if (report->blank_lines_dropped != 0) {
        row.emplace_back("blank-lines-dropped", Value::Integer(report->blank_lines_dropped));
      }
      row.emplace_back("first-changed", Value::Integer(report->first_changed));
      row.emplace_back("replay-from", Value::Integer(report->replay_from));
      row.emplace_back("replay-to", Value::Integer(report->replay_to));
    }
    if (!report->stale.empty()) row.emplace_back("stale", Strings(report->stale));
    if (!report->notes.empty()) row.emplace_back("notes", Strings(report->notes));
    shell.printer().Row(row);
  }
  return absl::OkStatus();
}

absl::Status LogDrop(Shell& shell, const std::vector<std::string>& paths) {
  absl::StatusOr<Files> files = Open(paths, Whole::kRefused);
  if (!files.ok()) return files.status();
  absl::StatusOr<std::vector<std::string>> dropped = DropFiles(shell.io(), files->disk.get(), files->names);
  if (!dropped.ok()) return FileError(dropped.status());
  for (const std::string& name : *dropped) shell.printer().Row({{"dropped", shell.printer().Plain(name)}});
  return absl::OkStatus();
}

}  // namespace stm::cli
