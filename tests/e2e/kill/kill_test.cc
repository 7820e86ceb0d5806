// kill -9 under 16 writers, again and again: nothing acknowledged is lost, nothing is applied twice. What the
// writers were told is judged against the log by tests/checkers; sums are compared beside it, for people.
#include <stdlib.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backends/local/posix_disk.h"
#include "backends/local/seal.h"
#include "stm/testing.h"
#include "tests/checkers/checker.h"
#include "tests/e2e/kill/load.h"
#include "tests/setting.h"

namespace stm::e2e {
namespace {

constexpr int kKills = 20;
constexpr int kWriters = 16;
constexpr uint64_t kSeed = 20261122;

// A directory that goes with it.
struct Directory {
  Directory() {
    const char* root = getenv("TEST_TMPDIR");
    std::string name = absl::StrCat(root == nullptr ? "/tmp" : root, "/kill-XXXXXX");
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string path;
};

// As `stmctl log verify` reads it.
absl::StatusOr<local::VerifyReport> VerifyLog(const std::string& directory) {
  absl::StatusOr<std::unique_ptr<local::PosixDisk>> disk = local::PosixDisk::OpenExisting(directory);
  if (!disk.ok()) return disk.status();
  return local::Verify(disk->get(), {});
}

Outcome KillAgainAndAgain(int kills, const std::vector<std::string>& flags) {
  const auto begun = std::chrono::steady_clock::now();
  Directory directory;
  testing::DaemonOptions options;
  options.data_dir = directory.path;
  options.flags = flags;
  for (const char* flag : {"--log-level=error", "--segment-bytes=1000000", "--snapshot-bytes=3000000"}) {
    options.flags.push_back(flag);
  }
  absl::StatusOr<testing::Daemon> daemon = testing::Daemon::Start(options);
  REQUIRE(daemon.ok());

  Load::Options of;
  of.address = daemon->address();
  of.writers = kWriters;
  of.seed = kSeed;
  Load load(of);
  REQUIRE(load.Start());
  std::mt19937_64 random(kSeed);
  bool going = true;
  for (int kill = 0; kill < kills && going; ++kill) {
    going = load.answers().AwaitMore(100 + static_cast<int64_t>(random() % 2500));
    daemon->Kill();
    going = going && daemon->Restart().ok();
  }
  going = going && load.answers().AwaitMore(300);
  REQUIRE((load.Stop() && going));

  // All writers have learned all outcomes. Once more, so that what is read comes from the disk.
  daemon->Kill();
  REQUIRE(daemon->Restart().ok());
  std::optional<Outcome> outcome = load.Judge();
  REQUIRE(outcome.has_value());
  const absl::StatusOr<local::VerifyReport> verified = VerifyLog(directory.path);
  INFO(verified.status());
  REQUIRE(verified.ok());
  for (const local::VerifyReport::FileReport& file : verified->files) {
    INFO(file.name << ": " << file.problem);
    CHECK(file.problem.empty());
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  outcome->figures = absl::StrCat(kills + 1, " kills in ", static_cast<int>(seconds), " s, ",
                                  verified->files.size(), " files verified; ", outcome->figures);
  return *std::move(outcome);
}

TEST_CASE("kill: kill -9 under 16 writers loses nothing acknowledged and applies nothing twice") {
  const Outcome outcome = KillAgainAndAgain(static_cast<int>(Setting("KILLS", kKills)), {});
  std::printf("%s\n", outcome.figures.c_str());
  INFO(check::ToString(outcome.violations));
  CHECK(outcome.violations.empty());
  CHECK(outcome.lost_adds == 0);
  CHECK(outcome.extra_adds == 0);
  CHECK(outcome.sum == kAccounts * kAccountBegin);
  CHECK(outcome.committed > 1000);
}

TEST_CASE("kill: a daemon that forgets ids at a restart is found out") {
  REQUIRE(setenv("STMD_TEST_CANARIES", "1", 1) == 0);
  const Outcome outcome = KillAgainAndAgain(kKills, {"--test-canary=forget_ids_on_recovery"});
  std::printf("planted forget_ids_on_recovery: %s\n", outcome.figures.c_str());
  bool found = false;
  for (const check::Violation& violation : outcome.violations) {
    found = found || violation.rule == check::Rule::kFalseRefusal;
  }
  CHECK(found);
  CHECK(outcome.extra_adds > 0);
}

}  // namespace
}  // namespace stm::e2e
