// What values in a MongoDB container cost one daemon, beside MongoDB's own library alone and beside the same
// daemon's inline entries. Rounds as in bench.cc, on the server that tests have (tests/mongodb/server.h); one
// that hangs for everybody is always our own.
#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "tests/bench/call.h"
#include "tests/bench/caller.h"
#include "tests/bench/echo_server.h"
#include "tests/bench/group.h"
#include "tests/bench/load.h"
#include "tests/bench/measure.h"
#include "tests/bench/measured_daemon.h"
#include "tests/bench/process.h"
#include "tests/bench/raw_mongodb.h"
#include "tests/mongodb/server.h"
#include "tests/mongodb/shell.h"

namespace stm::bench {
namespace {

constexpr int kCallers = 64;
constexpr double kWarmUpSeconds = 2;
// Erasing what was superseded is no part of a commit: it comes later, at a pace of its own.
constexpr char kEraseAfter[] = "1h";
constexpr char kRawName[] = "/bench/raw/0";

std::string TextOf(uint64_t turn) {
  std::string text = std::to_string(turn);
  text.resize(kValueBytes, '.');
  return text;
}

struct Stubs {
  explicit Stubs(const std::string& address) {
    const std::shared_ptr<grpc::Channel> channel = MakeChannel(address);
    known.Ask(channel);
    refs = wire::RefService::NewStub(channel);
    transactions = wire::TransactionService::NewStub(channel);
  }
  Known known;
  std::unique_ptr<wire::RefService::Stub> refs;
  std::unique_ptr<wire::TransactionService::Stub> transactions;
};

// Sets one ref, which nobody else does, without having read it.
class SetCaller final : public Caller {
 public:
  // `may_fail`: it is asked of a container that hangs.
  SetCaller(Stubs* stubs, const std::string& name, const std::string& container, bool may_fail = false)
      : stubs_(stubs), may_fail_(may_fail) {
    wire::Write* write = request_.add_writes();
    write->set_name(name);
    write->set_kind(wire::ENTRY_KIND_REF);
    if (!container.empty()) write->mutable_definition()->set_container(container);
    Fill();
    Ready(&context_);
    CheckOk(stubs_->transactions->Commit(&*context_, request_, &response_), "Commit");
    VersionOf(response_, "setting up");
    write->clear_definition();
  }

  void Begin() override {
    Ready(&context_);
    Fill();
    began_ = Now();
    stubs_->transactions->async()->Commit(
        &*context_, &request_, &response_, [this](const grpc::Status& status) {
          if (!may_fail_ || status.error_code() != grpc::StatusCode::UNAVAILABLE) {
            CheckOk(status, "Commit");
            stubs_->known.Learn(VersionOf(response_, "set"));
          }
          Ended(began_);
        });
  }

 private:
  void Fill() {
    ids_.Next(stubs_->known, request_.mutable_id());
    request_.mutable_writes(0)->mutable_set()->set_text(TextOf(++turn_));
  }

  Stubs* const stubs_;
  const bool may_fail_;
  Ids ids_;
  std::optional<grpc::ClientContext> context_;
  wire::CommitRequest request_;
  wire::CommitResponse response_;
  uint64_t turn_ = 0;
  double began_ = 0;
};

// Reads one ref, as it is now.
class ReadCaller final : public Caller {
 public:
  ReadCaller(Stubs* stubs, const std::string& name) : stubs_(stubs) { request_.add_names(name); }

  void Begin() override {
    Ready(&context_);
    wire::Seen* seen = request_.mutable_at()->mutable_seen();
    seen->set_store(stubs_->known.store);
    seen->set_version(stubs_->known.newest.load(std::memory_order_relaxed));
    began_ = Now();
    stubs_->refs->async()->GetRefs(&*context_, &request_, &response_, [this](const grpc::Status& status) {
      CheckOk(status, "GetRefs");
      if (response_.entries_size() != 1 || response_.entries(0).value().text().size() != kValueBytes)
        Fail("GetRefs: not the value: " + response_.ShortDebugString());
      stubs_->known.Learn(response_.snapshot());
      Ended(began_);
    });
  }

 private:
  Stubs* const stubs_;
  std::optional<grpc::ClientContext> context_;
  wire::GetRefsRequest request_;
  wire::GetRefsResponse response_;
  double began_ = 0;
};

using SetCallers = std::vector<std::unique_ptr<SetCaller>>;

class Bench {
 public:
  // `hangs`: the server of container `hung`. null: there is none.
  Bench(const Servers& servers, const std::string& uri, mongodb::Server* hangs, double seconds)
      : load_(ForGate(servers)),
        servers_(servers),
        seconds_(seconds),
        raw_(uri, kCallers, TextOf(0)),
        hangs_(hangs) {
    for (int i = 0; i < servers.channels; ++i) {
      stubs_.push_back(std::make_unique<Stubs>(servers.stmd_address));
    }
    const auto make = [&](const std::string& container, SetCallers* callers) {
      for (int i = 0; i < kCallers; ++i) {
        callers->push_back(std::make_unique<SetCaller>(StubsOf(i), NameOf(container, i), container,
                                                       /*may_fail=*/container == "hung"));
      }
    };
    make("", &inline_);
    make("mongo", &mongo_);
    if (hangs_ != nullptr) make("hung", &hung_);
    // Of these nobody writes.
    for (int i = 0; i < kCallers; ++i) {
      for (const std::string container : {"", "mongo"}) {
        const std::string name = absl::StrCat(NameOf(container, i), "/read");
        const SetCaller made(StubsOf(i), name, container);
        (container.empty() ? inline_reads_ : mongo_reads_)
            .push_back(std::make_unique<ReadCaller>(StubsOf(i), name));
      }
    }
    // Pages are touched, connections and threads are made.
    load_.Null(kGateCallers, seconds_);
    Sets(inline_, kCallers);
    for (const double from = Now(); Now() - from < kWarmUpSeconds;) {
      Sets(mongo_, kCallers);
      Raw(kCallers);
    }
  }

  void CommitAlone(std::vector<Row>& rows) {
    double raw_us = 0, inline_us = 0;
    int measured = 0;
    rows[0].rounds.push_back(Against(
        load_, seconds_,
        [&] {
          const double raw = Raw(1).p50_us, two = 2 * Median(Sets(inline_, 1).latencies_us);
          raw_us += raw;
          inline_us += two;
          ++measured;
          return raw + two;
        },
        [&] {
          const std::vector<double> latencies = Sets(mongo_, 1).latencies_us;
          std::fprintf(stderr, "containers: alone: %zu commits, p10 %.0f us, p50 %.0f us, p90 %.0f us\n",
                       latencies.size(), Quantile(latencies, 0.1), Median(latencies),
                       Quantile(latencies, 0.9));
          return Median(latencies);
        }));
    std::fprintf(stderr, "containers: alone: insert %.0f us, two inline commits %.0f us, commit %.0f us\n",
                 raw_us / measured, inline_us / measured, rows[0].rounds.back().value);
  }

  void Commit64(std::vector<Row>& rows) {
    rows[0].rounds.push_back(Against(
        load_, seconds_, [&] { return Raw(kCallers).rate; }, [&] { return Sets(mongo_, kCallers).rate; }));
    Say("commits", rows[0]);
  }

  void Get64(std::vector<Row>& rows) {
    rows[0].rounds.push_back(Against(
        load_, seconds_, [&] { return Reads(inline_reads_); }, [&] { return Reads(mongo_reads_); }));
    Say("reads", rows[0]);
  }

  // One row of inline commits, one of commits in the other container.
  void Hang(std::vector<Row>& rows) {
    for (Row& row : rows) {
      SetCallers& others = &row == &rows[0] ? inline_ : mongo_;
      row.rounds.push_back(Against(
          load_, seconds_, [&] { return Sets(others, kCallers).rate; },
          [&] {
            hangs_->Freeze();
            Run run;
            run.left = kCallers;
            for (const auto& caller : hung_) caller->Start(&run);
            // All of them wait by then: each has its own ref.
            SleepSeconds(kRampSeconds);
            const double rate = Sets(others, kCallers).rate;
            run.stop.store(true, std::memory_order_relaxed);
            hangs_->Thaw();
            Until("the container answers again",
                  [&] { return run.left.load(std::memory_order_acquire) == 0; });
            return rate;
          }));
      Say(row.name.c_str(), row);
    }
  }

 private:
  // Its own entries are not used.
  static Servers ForGate(Servers servers) {
    servers.callers = kGateCallers;
    return servers;
  }
  static std::string NameOf(const std::string& container, int i) {
    return absl::StrCat("/bench/", container.empty() ? "inline" : container, "/", i);
  }
  static void Say(const char* what, const Row& row) {
    const Round& round = row.rounds.back();
    std::fprintf(stderr, "containers: %s: %.0f/s, limit %.0f/s, ratio %.3f\n", what, round.value,
                 round.limit_value, round.ratio);
  }
  Stubs* StubsOf(int i) { return stubs_[static_cast<size_t>(i) % stubs_.size()].get(); }

  Measured Sets(const SetCallers& callers, int count) {
    return ClosedLoop(callers, count, servers_.stmd_pid, seconds_);
  }
  double Reads(const std::vector<std::unique_ptr<ReadCaller>>& callers) {
    return ClosedLoop(callers, kCallers, servers_.stmd_pid, seconds_).rate;
  }
  Inserted Raw(int threads) {
    return ByThreads(threads, seconds_, [&](int64_t i) { raw_.Insert(kRawName, std::to_string(i)); });
  }

  Load load_;
  const Servers servers_;
  const double seconds_;
  RawMongoDb raw_;
  mongodb::Server* const hangs_;
  std::vector<std::unique_ptr<Stubs>> stubs_;
  SetCallers inline_, mongo_, hung_;
  std::vector<std::unique_ptr<ReadCaller>> inline_reads_, mongo_reads_;
};

std::vector<Group<Bench>> Groups() {
  const auto at_least = Bar::kAtLeast, at_most = Bar::kAtMost;
  std::vector<Group<Bench>> groups;
  groups.push_back(
      {{{"mongo_commit_alone_p50", "us", "raw insert p50 + 2 inline commits' p50", at_most, 1.3, {}}},
       [](Bench& b, auto& rows) { b.CommitAlone(rows); }});
  groups.push_back({{{"mongo_commit_64", "1/s", "raw inserts, 64 threads", at_least, 0.5, {}}},
                    [](Bench& b, auto& rows) { b.Commit64(rows); }});
  groups.push_back({{{"mongo_get_64", "1/s", "reads of inline refs", at_least, 0.9, {}}},
                    [](Bench& b, auto& rows) { b.Get64(rows); }});
  groups.push_back({{{"hang_inline_64", "1/s", "the same, none hangs", at_least, 0.9, {}},
                     {"hang_mongo_64", "1/s", "the same, none hangs", at_least, 0.9, {}}},
                    [](Bench& b, auto& rows) { b.Hang(rows); }});
  return groups;
}

void SayLoad(const char* when) {
  double averages[3] = {};
  getloadavg(averages, 3);
  std::fprintf(stderr, "containers: load of the machine %s: %.1f %.1f %.1f\n", when, averages[0], averages[1],
               averages[2]);
}

int Main(int argc, char** argv) {
  CLI::App app{"Measures values in a MongoDB container beside MongoDB's own library and inline entries."};
  std::string stmd, directory = ".stmd", json, echo_address;
  std::vector<std::string> only, stmd_arguments;
  int rounds = 11;
  double seconds = 0.5;
  bool quick = false, list = false;
  app.add_option("--stmd", stmd, "The stmd to measure");
  app.add_option("--stmd-arg", stmd_arguments, "One more argument for it; may be repeated");
  app.add_option("--dir", directory, "Where to make its data directory: the disk that is measured")
      ->capture_default_str();
  app.add_option("--json", json, "Writes the rows there as well");
  app.add_option("--only", only, "Only rows whose name begins so; may be repeated");
  app.add_option("--rounds", rounds, "Rounds of each row")->capture_default_str();
  app.add_option("--seconds", seconds, "Seconds of one measurement in a round")->capture_default_str();
  app.add_flag("--quick", quick, "1 round: does it run, not how fast");
  app.add_flag("--list", list, "Names the rows");
  app.add_option("--serve-echo", echo_address, "Serves the null RPC there (the bench starts itself so)")
      ->group("");
  CLI11_PARSE(app, argc, argv);
  if (!echo_address.empty()) return ServeEcho(echo_address);
  if (quick) rounds = 1;

  if (list) {
    PrintNames(RowsOf(Groups()));
    return 0;
  }
  std::vector<Group<Bench>> groups = Wanted(Groups(), only);
  if (stmd.empty()) Fail("--stmd says where the stmd to measure is; tests/bench/run builds one and gives it");
  if (const std::string why = mongodb::WhyNoServer(); !why.empty())
    Fail("no server of MongoDB's wire: " + why);

  std::unique_ptr<mongodb::Server> server;
  std::string uri = mongodb::GivenUri();
  if (uri.empty()) {
    server = std::make_unique<mongodb::Server>();
    uri = server->uri();
  }
  uri = mongodb::WithDatabase(uri, absl::StrCat("stmd_test_bench_", static_cast<int64_t>(Now() * 1e6)));
  mongodb::Server hangs;
  std::vector<std::string> arguments = {absl::StrCat("--container=mongo=", uri),
                                        absl::StrCat("--container=hung=", hangs.uri()),
                                        absl::StrCat("--erase-after=", kEraseAfter)};
  arguments.insert(arguments.end(), stmd_arguments.begin(), stmd_arguments.end());
  SayLoad("before");
  MeasuredDaemon daemon(stmd, directory, arguments);
  {
    Bench bench(daemon.servers(), uri, &hangs, seconds);
    for (int round = 0; round < rounds; ++round) {
      std::fprintf(stderr, "containers: round %d of %d\n", round + 1, rounds);
      for (Group<Bench>& group : groups) group.round(bench, group.rows);
    }
  }
  SayLoad("after");
  daemon.Stop();
  mongodb::Shell(uri).DropDatabase();
  return Show(RowsOf(groups), json);
}

}  // namespace
}  // namespace stm::bench

int main(int argc, char** argv) { return stm::bench::Main(argc, argv); }
