#include "client/cli/demo_daemon.h"

#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "backends/local/posix_disk.h"
#include "backends/local/seal.h"

namespace stm::cli {
namespace {

constexpr int64_t kKillAfterMsMin = 300;
constexpr int64_t kKillAfterMsMax = 700;
constexpr absl::Duration kReadyMax = absl::Seconds(30);
constexpr absl::Duration kTryMax = absl::Milliseconds(200);

bool CanRun(const std::string& path) { return access(path.c_str(), X_OK) == 0 && !std::filesystem::is_directory(path); }

absl::StatusOr<std::string> FindStmd(const std::string& given) {
  if (!given.empty()) {
    if (CanRun(given)) return given;
    return absl::InvalidArgumentError(absl::StrCat("--stmd ", given, ": is no program that can be run"));
  }
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string beside = self.parent_path() / "stmd";
  if (!error && CanRun(beside)) return beside;
  const char* path = getenv("PATH");
  for (absl::string_view directory : absl::StrSplit(path == nullptr ? "" : path, ':', absl::SkipEmpty())) {
    const std::string stmd = absl::StrCat(directory, "/stmd");
    if (CanRun(stmd)) return stmd;
  }
  return absl::InvalidArgumentError(absl::StrCat("--kill: there is no stmd beside ", self.string(), " nor in PATH: give --stmd PATH"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DemoDaemon>> DemoDaemon::Start(const std::string& given) {
  absl::StatusOr<std::string> stmd = FindStmd(given);
  if (!stmd.ok()) return stmd.status();
  const char* root = getenv("TMPDIR");
  std::string directory = absl::StrCat(root == nullptr || *root == '\0' ? "/tmp" : root, "/stmctl-demo-XXXXXX");
  if (mkdtemp(directory.data()) == nullptr) {
    return absl::UnknownError(absl::StrCat(directory, ": mkdtemp: ", std::strerror(errno), ": set TMPDIR to a directory that can be written"));
  }
  testing::DaemonOptions options;
  options.binary = *stmd;
  options.data_dir = directory;
  options.flags = {"--log-level=error"};
  absl::StatusOr<testing::Daemon> daemon = testing::Daemon::Start(options);
  if (!daemon.ok()) {
    rmdir(directory.c_str());
    return daemon.status();
  }
  std::unique_ptr<DemoDaemon> started(new DemoDaemon(*std::move(stmd), std::move(directory), *std::move(daemon)));
  absl::Status ready = started->AwaitReady();
  if (!ready.ok()) return ready;
  return started;
}

DemoDaemon::DemoDaemon(std::string stmd, std::string directory, testing::Daemon daemon)
    : stmd_(std::move(stmd)), directory_(std::move(directory)), daemon_(std::move(daemon)), random_(std::random_device{}()) {
  SetNextKill();
}

DemoDaemon::~DemoDaemon() {
  daemon_.Kill();
  std::error_code error;
  if (!keep_) std::filesystem::remove_all(directory_, error);
}

absl::Status DemoDaemon::EndedByItself() {
  return absl::DataLossError(absl::StrCat(stmd_, ": ended by itself, exit code ", daemon_.Stop(), ", after ", kills_,
                                          " kills: its last words are on the standard error"));
}

void DemoDaemon::SetNextKill() {
  kill_at_ = absl::Now() +
             absl::Milliseconds(std::uniform_int_distribution<int64_t>(kKillAfterMsMin, kKillAfterMsMax)(random_));
}

absl::Status DemoDaemon::AwaitReady() {
  for (const absl::Time until = absl::Now() + kReadyMax;;) {
    absl::Status connected = DemoClient(address(), kTryMax).status();
    if (connected.ok()) return absl::OkStatus();
    if (!daemon_.Running()) return EndedByItself();
    if (absl::Now() > until) return connected;
  }
}

absl::Status DemoDaemon::Kill() {
  daemon_.Kill();
  ++kills_;
  SetNextKill();
  return daemon_.Restart();
}

absl::Status DemoDaemon::KillInTime(bool settled) {
  if (!daemon_.Running()) return EndedByItself();
  return settled && absl::Now() >= kill_at_ ? Kill() : absl::OkStatus();
}

absl::Status DemoDaemon::KillOnceMore() {
  absl::Status status = Kill();
  return status.ok() ? AwaitReady() : status;
}

absl::StatusOr<int64_t> DemoDaemon::StopAndVerify(Violations* violations) {
  const int exit = daemon_.Stop();
  if (exit != 0) violations->Add(absl::StrCat(stmd_, ": did not stop in order, exit code ", exit));
  absl::StatusOr<std::unique_ptr<local::PosixDisk>> disk = local::PosixDisk::OpenExisting(directory_);
  if (!disk.ok()) return disk.status();
  absl::StatusOr<local::VerifyReport> report = local::Verify(disk->get(), {});
  if (!report.ok()) return report.status();
  for (const local::VerifyReport::FileReport& file : report->files) {
    if (!file.problem.empty()) violations->Add(absl::StrCat((*disk)->Path(file.name), ": ", file.problem));
  }
  return static_cast<int64_t>(report->files.size());
}

}  // namespace stm::cli
