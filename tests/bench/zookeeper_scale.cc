// What a store of many refs in ZooKeeper costs a daemon that starts over it: how long until it has served its
// first transaction, and until it has listed all their names.
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "tests/bench/call.h"
#include "tests/bench/cluster.h"
#include "tests/bench/fill.h"
#include "tests/bench/measure.h"
#include "tests/bench/process.h"

namespace stm::bench {
namespace {

constexpr double kFirstCommitSecondsMax = 2;
constexpr double kListedSecondsMax = 60;
constexpr double kReadySecondsMax = 60;
constexpr int kCommitsInFlight = 4;

// One transaction of a ref that is there: read, and set.
void Transact(const std::string& address, int64_t number) {
  const auto channel = MakeChannel(address);
  Known known;
  known.Ask(channel);
  const std::string name = RefName(number);
  std::optional<grpc::ClientContext> context;
  Ready(&context);
  wire::GetRefsRequest get;
  get.add_names(name);
  wire::GetRefsResponse got;
  CheckOk(wire::RefService::NewStub(channel)->GetRefs(&*context, get, &got), "GetRefs");
  if (got.entries_size() != 1 || !got.entries(0).has_value())
    Fail(name + " is not there: " + got.ShortDebugString());
  wire::CommitRequest commit;
  Ids().Next(known, commit.mutable_id());
  commit.set_snapshot(got.snapshot());
  commit.add_reads(name);
  wire::Write* write = commit.add_writes();
  write->set_name(name);
  *write->mutable_set() = got.entries(0).value();
  Ready(&context);
  wire::CommitResponse committed;
  CheckOk(wire::TransactionService::NewStub(channel)->Commit(&*context, commit, &committed), "Commit");
  VersionOf(committed, "the first transaction");
}

// How many names there are, each after the one before.
int64_t ListNames(const std::string& address) {
  const auto stub = wire::RefService::NewStub(MakeChannel(address));
  wire::ListRefsRequest request;
  request.set_prefix(kFilledDirectory);
  request.set_names_only(true);
  request.set_page_size(10'000);
  std::string last;
  int64_t count = 0;
  do {
    std::optional<grpc::ClientContext> context;
    Ready(&context);
    wire::ListRefsResponse response;
    CheckOk(stub->ListRefs(&*context, request, &response), "ListRefs");
    for (const wire::Entry& entry : response.entries()) {
      if (entry.name() <= last) Fail("ListRefs: " + entry.name() + " came after " + last);
      last = entry.name();
      ++count;
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return count;
}

int Main(int argc, char** argv) {
  CLI::App app{"Measures how long a new stmd takes over a store of many refs in ZooKeeper."};
  std::string stmd, directory = ".stmd", json, heap = "4g";
  std::vector<std::string> stmd_arguments;
  int64_t refs = 1'000'000;
  int servers = 3, rounds = 3;
  app.add_option("--stmd", stmd, "The stmd to measure")->required();
  app.add_option("--stmd-arg", stmd_arguments, "One more argument for it; may be repeated");
  app.add_option("--dir", directory, "Where to make the directory of its logs")->capture_default_str();
  app.add_option("--refs", refs, "Of the store")->capture_default_str();
  app.add_option("--servers", servers, "Of ZooKeeper")->capture_default_str()->check(CLI::IsMember({1, 3}));
  app.add_option("--heap", heap, "Of each of them")->capture_default_str();
  app.add_option("--rounds", rounds, "Starts")->capture_default_str();
  app.add_option("--json", json, "Writes the rows there as well");
  CLI11_PARSE(app, argc, argv);
  if (const std::string why = zookeeper::WhyNoServers(); !why.empty())
    Fail("no servers of ZooKeeper: " + why);

  const std::string data = MakeDirectory(directory), log = data + "/bench.log";
  std::vector<std::string> command = {stmd};
  command.insert(command.end(), stmd_arguments.begin(), stmd_arguments.end());
  const Cluster cluster(servers, heap, command, log);
  std::fprintf(stderr, "zookeeper_scale: %s\nzookeeper_scale: stmd's log %s\n", cluster.versions().c_str(),
               log.c_str());
  {
    Daemon daemon = cluster.Start();
    WaitReady(daemon.address, daemon.process.get(), kReadySecondsMax);
    const double from = Now();
    Fill(daemon.address, "", refs, kCommitsInFlight);
    std::fprintf(stderr, "zookeeper_scale: %lld refs, %d a commit, %d commits in flight: filled in %.1f s\n",
                 static_cast<long long>(refs), kRefsACommit, kCommitsInFlight, Now() - from);
    cluster.Stop(&daemon);
  }

  Row first{"zk_refs_first_commit", "s", "promised: 2 s", Bar::kAtMost, 1, {}};
  Row listed{"zk_refs_names_listed", "s", "promised: 60 s", Bar::kAtMost, 1, {}};
  for (int round = 0; round < rounds; ++round) {
    const double from = Now();
    Daemon daemon = cluster.Start();
    WaitReady(daemon.address, daemon.process.get(), kReadySecondsMax);
    const double ready = Now() - from, cpu = CpuSeconds(daemon.process->pid());
    Transact(daemon.address, (2 * round + 1) * refs / (2 * rounds));
    const double committed = Now() - from;
    const double list_from = Now();
    const int64_t names = ListNames(daemon.address);
    const double listing = Now() - list_from;
    if (names != refs) Fail(absl::StrCat("listed were ", names, " names, created ", refs));
    std::fprintf(stderr,
                 "zookeeper_scale: ready after %.2f s (its CPU %.2f s), first commit after %.2f s, names "
                 "listed in %.2f s\n",
                 ready, cpu, committed, listing);
    // The bars are times, not ratios to the machine: no round is dropped.
    first.rounds.push_back(
        {committed, kFirstCommitSecondsMax, committed / kFirstCommitSecondsMax, kCoresMin});
    listed.rounds.push_back({listing, kListedSecondsMax, listing / kListedSecondsMax, kCoresMin});
    cluster.Stop(&daemon);
  }
  RemoveDirectory(data);
  return Show({first, listed}, json);
}

}  // namespace
}  // namespace stm::bench

int main(int argc, char** argv) { return stm::bench::Main(argc, argv); }
