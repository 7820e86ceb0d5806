// The bench: every figure that stmd promises, beside what limits it, in one run on loopback. A row is measured in
// rounds; a round measures the null RPC, the limit, our figure, the limit and the null RPC again, within a second or
// so, since cores and disks of a shared machine drift several-fold within minutes. Medians of the rounds' ratios.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/call.h"
#include "tests/bench/echo_server.h"
#include "tests/bench/group.h"
#include "tests/bench/load.h"
#include "tests/bench/measure.h"
#include "tests/bench/measured_daemon.h"
#include "tests/bench/process.h"

namespace stm::bench {
namespace {

constexpr int kWatchers = 1000;
constexpr int kSyncsARound = 40;
constexpr int kSyncBytes = 4096;

// The disk's own figure: append 4 KiB and fdatasync, in a file beside the log.
class Disk {
 public:
  explicit Disk(const std::string& directory) {
    const std::string path = directory + "/fdatasync";
    fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd_ < 0) Fail("can't make " + path);
  }
  ~Disk() { close(fd_); }

  double SyncMicrosP50() {
    const std::string block(kSyncBytes, 'x');
    std::vector<double> micros;
    for (int i = 0; i < kSyncsARound; ++i) {
      const double from = Now();
      if (write(fd_, block.data(), block.size()) != static_cast<ssize_t>(block.size()) || fdatasync(fd_) != 0) {
        Fail("append and fdatasync failed: is the disk full?");
      }
      micros.push_back((Now() - from) * 1e6);
    }
    return Median(micros);
  }

 private:
  int fd_ = -1;
};

// What the rows of a group measure in one round. `cores` is what the null RPC got before and after.
struct Bench {
  Load& load;
  Disk& disk;
  double seconds;

  void GetUnary(std::vector<Row>& rows) {
    const Measured before = load.Null(64, seconds);
    const Measured get = load.Get(64, seconds);
    const Measured after = load.Null(64, seconds);
    AgainstNull(rows[0], get, before, after);
  }

  void CommitUnary(std::vector<Row>& rows, int callers) {
    const Measured before = load.Null(callers, seconds);
    const Measured commit = load.Commit(callers, seconds);
    const Measured after = load.Null(callers, seconds);
    AgainstNull(rows[0], commit, before, after);
    if (rows.size() < 2) return;
    const double null_us = Mean(before.cpu_us, after.cpu_us);
    rows[1].rounds.push_back({commit.cpu_us, null_us, null_us / commit.cpu_us, Mean(before.cores, after.cores)});
  }

  void CommitPipelined(std::vector<Row>& rows, int in_flight) {
    Against(rows[0], [&] { return load.Commit(in_flight, seconds).rate; },
            [&] { return load.CommitPipelined(in_flight, seconds).rate; });
  }

  void CommuteCounter(std::vector<Row>& rows) {
    Against(rows[0], [&] { return load.Commit(64, seconds).rate; }, [&] { return load.Commute(64, seconds).rate; });
  }

  void AlterHot(std::vector<Row>& rows) {
    Measured hot;
    Against(rows[0], [&] { return 1e6 / SyncAndNullMicros(); },
            [&] {
              // Longer than the others: a fair share must be many commits.
              hot = load.AlterHot(64, 4 * seconds);
              return hot.rate;
            });
    rows[1].rounds.push_back({hot.least_share * hot.calls_a_caller, hot.calls_a_caller, hot.least_share,
                              rows[0].rounds.back().cores});
  }

  void CommitAlone(std::vector<Row>& rows) {
    Against(rows[0], [&] { return SyncAndNullMicros(); },
            [&] { return Median(load.Commit(1, seconds).latencies_us); });
  }

  void CommitHalfRate(std::vector<Row>& rows) {
    const Measured before = load.Null(kGateCallers, seconds / 2);
    const double top_before = load.Commit(64, seconds).rate;
    // Half of what the machine gave just now; were it twice as fast in the next second, that is an easier load.
    const Measured half = load.CommitAtRate(top_before / 2, 2 * seconds);
    const Measured after = load.Null(kGateCallers, seconds / 2);
    const double p50 = Median(half.latencies_us), p99 = Quantile(half.latencies_us, 0.99);
    rows[0].rounds.push_back({p99, p50, p99 / p50, Mean(before.cores, after.cores)});
  }

  void WatchFanout(std::vector<Row>& rows) {
    const Measured before = load.Null(64, seconds);
    const double fanout_ms = 1e3 * Median(load.Fanout(kWatchers, 10));
    const Measured after = load.Null(64, seconds);
    const double nulls_ms = 1e3 * kWatchers / Mean(before.rate, after.rate);
    rows[0].rounds.push_back({fanout_ms, nulls_ms, fanout_ms / nulls_ms, Mean(before.cores, after.cores)});
  }

 private:
  static void AgainstNull(Row& row, const Measured& ours, const Measured& before, const Measured& after) {
    const double null_rate = Mean(before.rate, after.rate);
    row.rounds.push_back({ours.rate, null_rate, ours.rate / null_rate, Mean(before.cores, after.cores)});
  }

  void Against(Row& row, const std::function<double()>& limit, const std::function<double()>& ours) {
    row.rounds.push_back(bench::Against(load, seconds, limit, ours));
  }

  double SyncAndNullMicros() {
    return disk.SyncMicrosP50() + Median(load.Null(1, seconds / 2).latencies_us);
  }
};

std::vector<Group<Bench>> Groups() {
  const auto at_least = Bar::kAtLeast, at_most = Bar::kAtMost;
  std::vector<Group<Bench>> groups;
  groups.push_back({{{"get_unary_64", "1/s", "null RPC, 64 callers", at_least, 0.9, {}}},
                    [](Bench& b, auto& rows) { b.GetUnary(rows); }});
  groups.push_back({{{"commit_unary_64", "1/s", "null RPC, 64 callers", at_least, 0.5, {}},
                     {"commit_unary_64_cpu", "us/call", "CPU of a null RPC", at_least, 0.6, {}}},
                    [](Bench& b, auto& rows) { b.CommitUnary(rows, 64); }});
  groups.push_back({{{"commit_unary_256", "1/s", "null RPC, 256 callers", at_least, 0.6, {}}},
                    [](Bench& b, auto& rows) { b.CommitUnary(rows, 256); }});
  groups.push_back({{{"commit_pipeline_64", "1/s", "commit_unary, 64 callers", at_least, 2.5, {}}},
                    [](Bench& b, auto& rows) { b.CommitPipelined(rows, 64); }});
  groups.push_back({{{"commit_pipeline_256", "1/s", "commit_unary, 256 callers", at_least, 2.5, {}}},
                    [](Bench& b, auto& rows) { b.CommitPipelined(rows, 256); }});
  groups.push_back({{{"commute_counter_64", "1/s", "commit_unary, 64 callers", at_least, 0.9, {}}},
                    [](Bench& b, auto& rows) { b.CommuteCounter(rows); }});
  groups.push_back({{{"alter_hot_64", "1/s", "1 / (fdatasync p50 + null p50)", at_least, 0.5, {}},
                     {"alter_hot_64_slowest", "commits", "fair share of a caller", at_least, 0.25, {}}},
                    [](Bench& b, auto& rows) { b.AlterHot(rows); }});
  groups.push_back({{{"commit_alone_p50", "us", "fdatasync p50 + null p50", at_most, 1.3, {}}},
                    [](Bench& b, auto& rows) { b.CommitAlone(rows); }});
  groups.push_back({{{"commit_half_rate_p99", "us", "its p50", at_most, 10, {}}},
                    [](Bench& b, auto& rows) { b.CommitHalfRate(rows); }});
  groups.push_back({{{"watch_1000", "ms", "1,000 null RPCs, 64 callers", at_most, 1, {}}},
                    [](Bench& b, auto& rows) { b.WatchFanout(rows); }});
  return groups;
}

int Main(int argc, char** argv) {
  CLI::App app{"Measures stmd against its limits, side by side."};
  std::string stmd, directory = ".stmd", json, echo_address;
  std::vector<std::string> only, stmd_arguments;
  int channels = 4, streams = 1;
  std::optional<int> rounds_given;
  std::optional<double> seconds_given;
  bool quick = false, list = false;
  app.add_option("--stmd", stmd, "The stmd to measure");
  app.add_option("--stmd-arg", stmd_arguments, "One more argument for it; may be repeated");
  app.add_option("--dir", directory, "Where to make its data directory: the disk that is measured")->capture_default_str();
  app.add_option("--json", json, "Writes the rows there as well");
  app.add_option("--only", only, "Only rows whose name begins so; may be repeated");
  app.add_option("--rounds", rounds_given, "Rounds of each row (15)");
  app.add_option("--seconds", seconds_given, "Seconds of one measurement in a round (0.25)");
  app.add_option("--channels", channels, "Channels, the null RPC's and stmd's alike")->capture_default_str();
  app.add_option("--streams", streams, "Pipeline streams")->capture_default_str();
  app.add_flag("--quick", quick, "5 rounds of 0.1 s: does it run, not how fast");
  app.add_flag("--list", list, "Names the rows");
  app.add_option("--serve-echo", echo_address, "Serves the null RPC there (the bench starts itself so)")->group("");
  CLI11_PARSE(app, argc, argv);
  if (!echo_address.empty()) return ServeEcho(echo_address);
  const int rounds = rounds_given.value_or(quick ? 5 : 15);
  const double seconds = seconds_given.value_or(quick ? 0.1 : 0.25);

  std::vector<Group<Bench>> groups = Wanted(Groups(), only);
  if (list) {
    PrintNames(RowsOf(groups));
    return 0;
  }
  if (stmd.empty()) Fail("--stmd says where the stmd to measure is; tests/bench/run builds one and gives it");

  MeasuredDaemon daemon(stmd, directory, stmd_arguments);
  Servers servers = daemon.servers();
  servers.channels = channels;
  servers.streams = streams;
  {
    Load load(servers);
    Disk disk(daemon.data());
    Bench bench{load, disk, seconds};
    // Tables grow and pages are touched first; what that costs is not a commit's cost.
    load.Null(64, seconds);
    load.Commit(kCallersMax, 2 * seconds);
    load.CommitPipelined(256, 4 * seconds);
    for (int round = 0; round < rounds; ++round) {
      std::fprintf(stderr, "bench: round %d of %d\n", round + 1, rounds);
      for (Group<Bench>& group : groups) group.round(bench, group.rows);
    }
    load.CheckSums();
  }
  daemon.Stop();
  return Show(RowsOf(groups), json);
}

}  // namespace
}  // namespace stm::bench

int main(int argc, char** argv) { return stm::bench::Main(argc, argv); }
