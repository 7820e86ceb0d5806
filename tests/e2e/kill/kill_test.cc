// kill -9 under 16 writers, again and again: nothing acknowledged is lost, nothing is applied twice. What the
// writers were told is judged against the log by tests/checkers; sums are compared beside it, for people.
#include <stdlib.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "stm/testing.h"
#include "tests/checkers/checker.h"
#include "tests/e2e/kill/watcher.h"
#include "tests/e2e/kill/writer.h"

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

struct Outcome {
  std::vector<check::Violation> violations;
  int64_t committed = 0;
  int64_t lost_adds = 0;   // acknowledged, not in the counters
  int64_t extra_adds = 0;  // in the counters, never acknowledged
  int64_t sum = 0;         // of all accounts
  std::string figures;
};

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

  Answers answers;
  Writer first(-1, daemon->address(), kSeed, &answers);
  REQUIRE(first.Prepare());
  Watcher watcher(1000, daemon->address());
  std::vector<std::unique_ptr<Writer>> writers;
  std::vector<std::thread> threads;
  std::atomic<bool> stop{false};
  for (int i = 0; i < kWriters; ++i) {
    writers.push_back(std::make_unique<Writer>(i, daemon->address(), kSeed + 1 + i, &answers));
    threads.emplace_back([&stop, &answers, writer = writers.back().get()] {
      if (!writer->Run(stop)) answers.GiveUp();
    });
  }
  std::mt19937_64 random(kSeed);
  bool going = true;
  for (int kill = 0; kill < kills && going; ++kill) {
    going = answers.AwaitMore(100 + static_cast<int64_t>(random() % 2500));
    daemon->Kill();
    going = going && daemon->Restart().ok();
  }
  going = going && answers.AwaitMore(300);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  REQUIRE(going);

  // All writers have learned all outcomes. Once more, so that what is read comes from the disk.
  daemon->Kill();
  REQUIRE(daemon->Restart().ok());
  REQUIRE(first.ReadAll());
  const std::optional<check::Log> log = first.ReadLog();
  REQUIRE(log.has_value());
  const check::Read last = first.history().reads.back();
  REQUIRE(watcher.SawUpTo(last.snapshot));
  watcher.Stop();
  watcher.watch().complete_to = last.snapshot;

  Outcome outcome;
  check::History history = std::move(first.history());
  Writer::Figures sum;
  for (const auto& writer : writers) {
    check::History& part = writer->history();
    history.transactions.insert(history.transactions.end(), part.transactions.begin(),
                                part.transactions.end());
    history.reads.insert(history.reads.end(), part.reads.begin(), part.reads.end());
    const Writer::Figures& figures = writer->figures();
    sum.committed += figures.committed;
    sum.conflicts += figures.conflicts;
    sum.resends += figures.resends;
    sum.resends_committed += figures.resends_committed;
    sum.resends_not_committed += figures.resends_not_committed;
    for (const auto& [counter, added] : figures.added) sum.added[counter] += added;
  }
  history.watches.push_back(watcher.watch());
  outcome.committed = sum.committed;
  for (const check::Entry& entry : last.entries) {
    if (entry.name.substr(0, 9) == "/account/") outcome.sum += entry.value->integer();
    if (entry.name.substr(0, 9) != "/counter/") continue;
    const int64_t off = entry.value->integer() - sum.added[entry.name];
    (off < 0 ? outcome.lost_adds : outcome.extra_adds) += std::abs(off);
  }
  outcome.violations = check::Check(history, *log);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  outcome.figures = absl::StrCat(kills + 1, " kills under ", kWriters, " writers in ",
                                 static_cast<int>(seconds), " s: ", log->size(), " commits in the log, ",
                                 sum.committed, " acknowledged, ", sum.conflicts, " conflicts, ", sum.resends,
                                 " resends (", sum.resends_committed, " had committed, ",
                                 sum.resends_not_committed, " had not), watch resumed ", watcher.resumed(),
                                 " times; lost ", outcome.lost_adds, ", applied twice ", outcome.extra_adds);
  if (const char* file = getenv("KILL_HISTORY")) std::ofstream(file) << check::ToEdnText(history, *log);
  return outcome;
}

TEST_CASE("kill: kill -9 under 16 writers loses nothing acknowledged and applies nothing twice") {
  const Outcome outcome = KillAgainAndAgain(kKills, {});
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
