// The bench of many daemons: what stmd does over one server of ZooKeeper and over three, beside what the same
// servers do for the C client alone, in rounds as bench.cc has them. All of it shares this machine: ratios
// are what to compare.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "stm/client.h"
#include "tests/bench/call.h"
#include "tests/bench/cluster.h"
#include "tests/bench/echo_server.h"
#include "tests/bench/group.h"
#include "tests/bench/load.h"
#include "tests/bench/measure.h"
#include "tests/bench/process.h"
#include "tests/bench/raw_zookeeper.h"

namespace stm::bench {
namespace {

constexpr char kHeap[] = "2g";
constexpr double kReadySecondsMax = 60;
constexpr int kCallers = 256;
constexpr int kDaemons = 3;
// Of a load that is one of several.
constexpr int kCallersOfEach = 128;
// The ensemble's limit: transactions a multi, and multis in flight.
constexpr int kCombined = 50;
constexpr int kCombinedInFlight = 4;
constexpr int kRawInFlight = 64;
constexpr int kSeenCommits = 40;
constexpr double kFailOverSecondsMax = 2;
constexpr std::chrono::milliseconds kBeforeKill(100);
constexpr double kWarmUpSeconds = 10;
constexpr double kWarmUpPartSeconds = 0.5;

// What the rows of a group measure in one round.
struct Bench {
  const Cluster& cluster;
  RawZooKeeper& raw;
  Load& load;  // of one daemon, the only one but in OfThree
  Servers servers;
  double seconds;

  double Combined() { return raw.Multis(kCombined, kCombinedInFlight, seconds).rate; }
  double RawAloneMicros() { return Median(raw.Multis(1, 1, seconds).latencies_us); }

  void CommitUnary(std::vector<Row>& rows) {
    AddAgainst(
        rows[0], [&] { return Combined(); }, [&] { return load.Commit(kCallers, seconds).rate; });
  }
  void CommitUnaryRaw(std::vector<Row>& rows) {
    AddAgainst(
        rows[0], [&] { return raw.Multis(1, kRawInFlight, seconds).rate; },
        [&] { return load.Commit(kCallers, seconds).rate; });
  }
  void CommitPipelined(std::vector<Row>& rows) {
    AddAgainst(
        rows[0], [&] { return Combined(); }, [&] { return load.CommitPipelined(kCallers, seconds).rate; });
  }
  void CommitAlone(std::vector<Row>& rows) {
    AddAgainst(
        rows[0], [&] { return RawAloneMicros() + Median(load.Null(1, seconds / 2).latencies_us); },
        [&] { return Median(load.Commit(1, seconds).latencies_us); });
  }
  void GetUnary(std::vector<Row>& rows) {
    AddAgainst(
        rows[0], [&] { return load.Null(kCallers, seconds).rate; },
        [&] { return load.Get(kCallers, seconds).rate; });
  }

  // The others run for this alone: they read all that one commits, which costs a machine that all share.
  void OfThree(std::vector<Row>& rows) {
    Row& daemons = rows[0];
    Row& counter = rows[1];
    Row& slowest = rows[2];
    Row& seen = rows[3];
    Row& failover = rows[4];
    const Measured gate_before = load.Null(kGateCallers, seconds / 2);
    const double raw_before = RawAloneMicros();
    const double alone_before = load.Commit(kCallers, seconds).rate;

    std::vector<Daemon> others;
    for (int i = 1; i < kDaemons; ++i) others.push_back(cluster.Start());
    std::vector<std::unique_ptr<Load>> loads;
    for (int i = 0; i < kDaemons; ++i) {
      Servers of = servers;
      if (i > 0) {
        Daemon& daemon = others[static_cast<size_t>(i - 1)];
        WaitReady(daemon.address, daemon.process.get(), kReadySecondsMax);
        of.stmd_address = daemon.address;
        of.stmd_pid = daemon.process->pid();
      }
      of.echo_address.clear();
      of.callers = kCallersOfEach;
      of.first_caller = kCallersMax + i * kCallersOfEach;
      loads.push_back(std::make_unique<Load>(of));
    }
    const auto commit = [&](Load& one, int callers) { return one.Commit(callers, seconds).rate; };
    const auto commute = [&](Load& one, int callers) { return one.Commute(callers, seconds).rate; };
    Together(loads, commit);  // their caches fill
    const double disjoint_before = Sum(Together(loads, commit));
    const std::vector<double> counted = Together(loads, commute);
    const double disjoint_after = Sum(Together(loads, commit));
    const double seen_us = 1e6 * Median(loads[1]->Fanout(1, kSeenCommits, loads[0].get()));
    Load::CheckSums({loads[0].get(), loads[1].get(), loads[2].get()});
    loads.clear();
    const double gap = FailOver(&others);
    for (Daemon& daemon : others) cluster.Stop(&daemon);

    load.Get(1, 0.01);  // what the others committed is news to it
    const double alone_after = load.Commit(kCallers, seconds).rate;
    const double raw_us = Mean(raw_before, RawAloneMicros());
    const Measured gate_after = load.Null(kGateCallers, seconds / 2);
    const double cores = Mean(gate_before.cores, gate_after.cores);
    const double disjoint = Mean(disjoint_before, disjoint_after), alone = Mean(alone_before, alone_after);
    daemons.rounds.push_back({disjoint, alone, disjoint / alone, cores});
    counter.rounds.push_back({Sum(counted), disjoint, Sum(counted) / disjoint, cores});
    const double share = Sum(counted) / kDaemons, least = *std::min_element(counted.begin(), counted.end());
    slowest.rounds.push_back({least, share, least / share, cores});
    seen.rounds.push_back({seen_us, raw_us, seen_us / raw_us, cores});
    // A time, not a ratio to the machine: no round is dropped.
    failover.rounds.push_back({gap, kFailOverSecondsMax, gap / kFailOverSecondsMax, kCoresMin});
  }

 private:
  void AddAgainst(Row& row, const std::function<double()>& limit, const std::function<double()>& ours) {
    load.Get(1, 0.01);  // its newest version is no older than the history, whatever ran before
    row.rounds.push_back(Against(load, seconds, limit, ours));
  }

  static double Sum(const std::vector<double>& rates) {
    double sum = 0;
    for (const double rate : rates) sum += rate;
    return sum;
  }

  // The longest time between two commits of a client that commits all the time, while its daemon is killed,
  // which is of `daemons` no more then.
  static double FailOver(std::vector<Daemon>* daemons) {
    std::vector<std::string> addresses;
    for (const Daemon& daemon : *daemons) addresses.push_back(daemon.address);
    ConnectOptions options;
    options.address = absl::StrJoin(addresses, ",");
    absl::StatusOr<Client> client = Connect(options);
    if (!client.ok()) Fail("failover: " + client.status().ToString());
    const auto commit = [&] {
      const absl::Status status =
          client->Transact([&](Tx& tx) { tx.Set(client->Ref<int64_t>("/failover"), int64_t{1}); });
      if (!status.ok()) Fail("failover: " + status.ToString());
      return Now();
    };
    commit();
    const auto killed = std::find_if(daemons->begin(), daemons->end(), [&](const Daemon& daemon) {
      return daemon.address == client->address();
    });
    if (killed == daemons->end()) Fail("failover: the client is at no daemon: " + client->address());
    std::thread killer([&] {
      std::this_thread::sleep_for(kBeforeKill);
      killed->process->Stop(SIGKILL);
    });
    double last = commit(), longest = 0;
    while (client->address() == killed->address) {
      const double now = commit();
      longest = std::max(longest, now - last);
      last = now;
    }
    killer.join();
    daemons->erase(killed);
    return longest;
  }

  // All at the same time, with the callers of one between them.
  static std::vector<double> Together(const std::vector<std::unique_ptr<Load>>& loads,
                                      const std::function<double(Load&, int callers)>& measure) {
    std::vector<double> rates(loads.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < loads.size(); ++i) {
      threads.emplace_back([&, i] { rates[i] = measure(*loads[i], kCallers / kDaemons); });
    }
    for (std::thread& thread : threads) thread.join();
    return rates;
  }
};

std::vector<Group<Bench>> Groups(int servers) {
  const auto at_least = Bar::kAtLeast, at_most = Bar::kAtMost;
  const auto name = [&](const char* row) { return absl::StrCat("zk", servers, "_", row); };
  const bool one = servers == 1;
  const std::string combined =
      absl::StrCat("raw multis of ", kCombined, ", ", kCombinedInFlight, " in flight");
  std::vector<Group<Bench>> groups;
  groups.push_back({{{name("commit_unary_256"), "1/s", combined, at_least, one ? 0.3 : 0.4, {}}},
                    [](Bench& b, auto& rows) { b.CommitUnary(rows); }});
  groups.push_back({{{name("commit_pipeline_256"), "1/s", combined, at_least, one ? 0.45 : 0.55, {}}},
                    [](Bench& b, auto& rows) { b.CommitPipelined(rows); }});
  if (one) {
    groups.push_back(
        {{{name("commit_unary_256_raw"), "1/s", "raw multis of 1, 64 in flight", at_least, 1.8, {}}},
         [](Bench& b, auto& rows) { b.CommitUnaryRaw(rows); }});
  }
  groups.push_back({{{name("commit_alone_p50"), "us", "raw multi p50 + null p50", at_most, 1.3, {}}},
                    [](Bench& b, auto& rows) { b.CommitAlone(rows); }});
  groups.push_back({{{name("get_unary_256"), "1/s", "null RPC, 256 callers", at_least, 0.6, {}}},
                    [](Bench& b, auto& rows) { b.GetUnary(rows); }});
  groups.push_back({{{name("daemons_3"), "1/s", "commit_unary_256 of one daemon", at_least, 0.7, {}},
                     {name("daemons_3_counter"), "1/s", "disjoint commits of the three", at_least, 0.3, {}},
                     {name("daemons_3_counter_slowest"), "1/s", "fair share of a daemon", at_least, 0.25, {}},
                     {name("daemons_3_seen_p50"), "us", "raw multi p50", at_most, 3, {}},
                     {name("daemons_3_failover"), "s", "promised: 2 s", at_most, 1, {}}},
                    [](Bench& b, auto& rows) { b.OfThree(rows); }});
  return groups;
}

void SayLoad(const char* when) {
  double averages[3] = {};
  getloadavg(averages, 3);
  std::fprintf(stderr, "over_zookeeper: load of the machine %s: %.1f %.1f %.1f\n", when, averages[0],
               averages[1], averages[2]);
}

int Main(int argc, char** argv) {
  CLI::App app{"Measures stmd over ZooKeeper against what ZooKeeper does for its C client alone."};
  std::string stmd, directory = ".stmd", json, echo_address, heap = kHeap;
  std::vector<std::string> only, stmd_arguments;
  int channels = 4, streams = 1;
  std::optional<int> rounds_given;
  std::optional<double> seconds_given;
  bool quick = false, list = false;
  app.add_option("--stmd", stmd, "The stmd to measure");
  app.add_option("--stmd-arg", stmd_arguments, "One more argument for it; may be repeated");
  app.add_option("--dir", directory, "Where to make the directory of its logs")->capture_default_str();
  app.add_option("--json", json, "Writes the rows there as well");
  app.add_option("--only", only, "Only rows whose name begins so; may be repeated");
  app.add_option("--rounds", rounds_given, "Rounds of each row (7)");
  app.add_option("--seconds", seconds_given, "Seconds of one measurement in a round (0.5)");
  app.add_option("--channels", channels, "Channels, the null RPC's and stmd's alike")->capture_default_str();
  app.add_option("--streams", streams, "Pipeline streams")->capture_default_str();
  app.add_option("--heap", heap, "Of each of ZooKeeper's servers")->capture_default_str();
  app.add_flag("--quick", quick, "3 rounds of 0.25 s: does it run, not how fast");
  app.add_flag("--list", list, "Names the rows");
  app.add_option("--serve-echo", echo_address, "Serves the null RPC there (the bench starts itself so)")
      ->group("");
  CLI11_PARSE(app, argc, argv);
  if (!echo_address.empty()) return ServeEcho(echo_address);
  const int rounds = rounds_given.value_or(quick ? 3 : 7);
  const double seconds = seconds_given.value_or(quick ? 0.25 : 0.5);

  std::vector<Row> all;
  for (const int servers : {1, 3}) {
    for (const Row& row : RowsOf(Groups(servers))) all.push_back(row);
  }
  if (list) {
    PrintNames(all);
    return 0;
  }
  if (!HasWanted(all, only)) Fail("no row has a name that begins so; --list names them");
  if (stmd.empty()) Fail("--stmd says where the stmd to measure is; tests/bench/run builds one and gives it");
  if (const std::string why = zookeeper::WhyNoServers(); !why.empty())
    Fail("no servers of ZooKeeper: " + why);

  const std::string data = MakeDirectory(directory);
  const std::string log = data + "/bench.log";
  std::vector<std::string> command = {stmd};
  command.insert(command.end(), stmd_arguments.begin(), stmd_arguments.end());
  Servers of;
  of.echo_address = absl::StrCat("127.0.0.1:", FreePort());
  Child echo({OwnPath(), "--serve-echo", of.echo_address}, log);
  of.echo_pid = echo.pid();
  of.channels = channels;
  of.streams = streams;
  SayLoad("before");

  std::vector<Row> rows;
  for (const int servers : {1, 3}) {
    if (!HasWanted(RowsOf(Groups(servers)), only)) continue;
    std::vector<Group<Bench>> groups = Wanted(Groups(servers), only);
    const Cluster cluster(servers, heap, command, log);
    std::fprintf(stderr, "over_zookeeper: %s\n", cluster.versions().c_str());
    Daemon daemon = cluster.Start();
    of.stmd_address = daemon.address;
    of.stmd_pid = daemon.process->pid();
    WaitReady(of.stmd_address, daemon.process.get(), kReadySecondsMax);
    std::fprintf(stderr, "over_zookeeper: stmd pid %d, its log %s\n", daemon.process->pid(), log.c_str());
    {
      RawZooKeeper raw(cluster.connect());
      Load load(of);
      Bench bench{cluster, raw, load, of, seconds};
      // Java translates what runs often, tables grow and pages are touched first.
      for (double from = Now(); Now() - from < kWarmUpSeconds;) {
        bench.raw.Multis(kCombined, kCombinedInFlight, kWarmUpPartSeconds);
        bench.raw.Multis(1, kRawInFlight, kWarmUpPartSeconds);
        load.Commit(kCallers, kWarmUpPartSeconds);
        load.CommitPipelined(kCallers, kWarmUpPartSeconds);
      }
      for (int round = 0; round < rounds; ++round) {
        // CPU is steadier than rates: what a busy machine takes from one it takes from the other.
        const Measured null = load.Null(kGateCallers, kWarmUpPartSeconds);
        const Measured commit = load.Commit(kCallers, kWarmUpPartSeconds);
        std::fprintf(stderr,
                     "over_zookeeper: round %d of %d; client and server, CPU of a null RPC %.0f us, of a "
                     "commit %.0f\n",
                     round + 1, rounds, null.cpu_us, commit.cpu_us);
        for (Group<Bench>& group : groups) group.round(bench, group.rows);
      }
      load.Get(1, 0.01);
    }
    cluster.Stop(&daemon);
    for (Row& row : RowsOf(groups)) rows.push_back(std::move(row));
  }
  SayLoad("after");
  RemoveDirectory(data);
  return Show(rows, json);
}

}  // namespace
}  // namespace stm::bench

int main(int argc, char** argv) { return stm::bench::Main(argc, argv); }
