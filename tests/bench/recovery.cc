// How long a start over a long log takes: makes one of 1,000,000 commits by a Pipeline, then starts stmd over it after
// a kill -9 (the newest snapshot and the log's tail) and again with the snapshots gone (every commit is replayed).
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/call.h"
#include "tests/bench/load.h"
#include "tests/bench/measure.h"
#include "tests/bench/process.h"

namespace stm::bench {
namespace {

constexpr double kRecoverySecondsMax = 10;

struct Stored {
  int64_t log_bytes = 0;
  int64_t snapshot_bytes = 0;
};

// Sizes of the store's files; removes the snapshots if asked to.
Stored Look(const std::string& directory, bool remove_snapshots) {
  Stored stored;
  DIR* open = opendir(directory.c_str());
  if (open == nullptr) Fail("can't read " + directory);
  while (const dirent* entry = readdir(open)) {
    const std::string name = entry->d_name, path = directory + "/" + name;
    struct stat file {};
    if (stat(path.c_str(), &file) != 0) continue;
    if (name.compare(0, 4, "log-") == 0) stored.log_bytes += file.st_size;
    if (name.compare(0, 9, "snapshot-") != 0) continue;
    stored.snapshot_bytes += file.st_size;
    if (remove_snapshots && unlink(path.c_str()) != 0) Fail("can't remove " + path);
  }
  closedir(open);
  return stored;
}

int Main(int argc, char** argv) {
  CLI::App app{"Measures how long stmd takes from its start to ready, over a long log."};
  std::string stmd, directory = ".stmd", json;
  std::vector<std::string> stmd_arguments;
  int64_t commits = 1000000;
  int rounds = 3;
  app.add_option("--stmd", stmd, "The stmd to measure")->required();
  app.add_option("--stmd-arg", stmd_arguments, "One more argument for it; may be repeated");
  app.add_option("--dir", directory, "Where to make its data directory")->capture_default_str();
  app.add_option("--commits", commits, "Of the log")->capture_default_str();
  app.add_option("--rounds", rounds, "Starts of each kind")->capture_default_str();
  app.add_option("--json", json, "Writes the rows there as well");
  CLI11_PARSE(app, argc, argv);

  const std::string data = MakeDirectory(directory), store = data + "/store", log = data + "/bench.log";
  Servers servers;
  std::unique_ptr<Child> daemon;
  // The seconds from exec to ready.
  const auto start = [&] {
    servers.stmd_address = "127.0.0.1:" + std::to_string(FreePort());
    std::vector<std::string> command = {stmd, "--data-dir", store, "--listen", servers.stmd_address, "--http", "off"};
    command.insert(command.end(), stmd_arguments.begin(), stmd_arguments.end());
    const double from = Now();
    daemon = std::make_unique<Child>(command, log);
    servers.stmd_pid = daemon->pid();
    WaitReady(servers.stmd_address, daemon.get(), 600);
    return Now() - from;
  };

  start();
  int64_t newest = 0;
  {
    Load load(servers);
    const double from = Now();
    newest = load.CommitMany(commits, 256);
    std::fprintf(stderr, "recovery: %lld commits in %.1f s, newest version %lld, log of %s\n",
                 static_cast<long long>(commits), Now() - from, static_cast<long long>(newest), log.c_str());
  }

  Row tail{"recovery_after_kill", "s", "promised: 10 s", Bar::kAtMost, 1, {}};
  Row whole{"recovery_whole_log", "s", "promised: 10 s", Bar::kAtMost, 1, {}};
  for (int round = 0; round < rounds; ++round) {
    daemon->Stop(SIGKILL);
    const Stored with = Look(store, false);
    const double after_kill = start();
    daemon->Stop(SIGKILL);
    Look(store, true);
    const double replayed = start();
    std::fprintf(stderr, "recovery: log %.0f MiB, snapshots %.0f MiB: %.2f s; without snapshots: %.2f s\n",
                 static_cast<double>(with.log_bytes) / (1 << 20), static_cast<double>(with.snapshot_bytes) / (1 << 20),
                 after_kill, replayed);
    // The bar is a time, not a ratio to the machine: no round is dropped.
    tail.rounds.push_back({after_kill, kRecoverySecondsMax, after_kill / kRecoverySecondsMax, kCoresMin});
    whole.rounds.push_back({replayed, kRecoverySecondsMax, replayed / kRecoverySecondsMax, kCoresMin});
  }
  {
    // All of it is there.
    const int64_t recovered = InstalledVersion(servers.stmd_address);
    if (recovered < newest) {
      Fail("recovered up to version " + std::to_string(recovered) + ", committed were " + std::to_string(newest));
    }
  }
  daemon->Stop(SIGTERM);

  RemoveDirectory(data);
  return Show({tail, whole}, json);
}

}  // namespace
}  // namespace stm::bench

int main(int argc, char** argv) { return stm::bench::Main(argc, argv); }
