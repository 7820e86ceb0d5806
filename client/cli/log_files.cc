#include <sys/stat.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "backends/local/posix_disk.h"
#include "backends/local/seal.h"
#include "client/cli/commands.h"

namespace stm::cli {
namespace {

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

Value Strings(const std::vector<std::string>& all) {
  std::vector<Value> items;
  for (const std::string& one : all) items.push_back(Value::String(one));
  return Value::OfVector(std::move(items));
}

}  // namespace

absl::Status LogVerify(Shell& shell, const std::vector<std::string>& paths) {
  absl::StatusOr<Files> files = Open(paths, Whole::kAllowed);
  if (!files.ok()) return files.status();
  absl::StatusOr<local::VerifyReport> report = local::Verify(files->disk.get(), files->names);
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
    absl::StatusOr<local::SealReport> report = local::Seal(files->disk.get(), name);
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
  absl::StatusOr<std::vector<std::string>> dropped = local::Drop(files->disk.get(), files->names);
  if (!dropped.ok()) return FileError(dropped.status());
  for (const std::string& name : *dropped) shell.printer().Row({{"dropped", shell.printer().Plain(name)}});
  return absl::OkStatus();
}

}  // namespace stm::cli
