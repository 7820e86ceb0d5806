// The soak: one daemon under everything that clients do, at a fixed moderate rate, for an hour. Its memory must stay
// what it was: the median of its RSS in the last quarter is less than 1 % above that in the second. Each part of the
// load checks what it can; at the end nothing was lost or doubled, the daemon stops cleanly and every line of its log
// is good.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "stm/client.h"
#include "stm/recipes.h"
#include "stm/v1/admin_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "stm/v1/watch_service.grpc.pb.h"
#include "tests/bench/call.h"
#include "tests/bench/measure.h"
#include "tests/bench/process.h"
#include "tests/bench/usage.h"

namespace stm::bench {

struct Step {
  int64_t number = 0;
};
STM_RECORD(Step, "soak.Step", number);

namespace {

// What the daemon is told so that every table of its own is full, and every age reached, long before the second
// quarter: else the growth of the first ten minutes (ids) would be taken for a leak, or hide one.
const std::vector<std::string> kSettings = {
    "--history-age",   "20s",  "--history-bytes",  "64MiB", "--id-age",   "20s", "--id-table-bytes", "16MiB",
    "--segment-bytes", "4MiB", "--snapshot-bytes", "16MiB", "--log-keep", "60s"};

constexpr double kGrowthMax = 0.01;
constexpr int kQuarters = 4;
constexpr int kAccounts = 256;
constexpr int64_t kOpening = 1000;
constexpr int kBlindKeys = 4096;
constexpr int kPairs = 500;
constexpr int kTakers = 8;
constexpr int64_t kLastJob = -1;
// What the counter's last step is, so that who follows it knows.
constexpr int64_t kLastStep = 1000000;
constexpr int64_t kVersionsBack = 200;
const std::string kLargeText(16 << 10, 'l');

void CheckOk(const absl::Status& status, const char* what) {
  if (!status.ok()) Fail(absl::StrCat(what, ": ", status.ToString()));
}
template <typename T>
T ValueOf(absl::StatusOr<T> result, const char* what) {
  CheckOk(result.status(), what);
  return *std::move(result);
}

// How often each thing was done.
class Tally {
 public:
  void Add(const std::string& what, int64_t count = 1) {
    absl::MutexLock lock(&mutex_);
    counts_[what] += count;
  }
  int64_t Of(const std::string& what) {
    absl::MutexLock lock(&mutex_);
    return counts_[what];
  }
  std::map<std::string, int64_t> All() {
    absl::MutexLock lock(&mutex_);
    return counts_;
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, int64_t> counts_ ABSL_GUARDED_BY(mutex_);
};

// Everything that clients do, each part on a thread of its own.
class Everything {
 public:
  Everything(std::string address, int http_port)
      : address_(std::move(address)),
        http_port_(http_port),
        client_(Connect()),
        counter_(client_.Ref<int64_t>("/soak/counter")) {
    for (int i = 0; i < kAccounts; ++i) accounts_.push_back(client_.Ref<int64_t>(absl::StrCat("/soak/account/", i)));
    stm::Committed made;
    stm::TransactOptions options;
    options.committed = &made;
    CheckOk(client_.Transact(options,
                             [&](stm::Tx& tx) {
                               for (const auto& account : accounts_) tx.Set(account, kOpening);
                               tx.Set(counter_, 0);
                               tx.Set(Resent(), 0);
                             }),
            "make the entries");
    made_ = made.version;
  }

  void Start() {
    for (int i = 0; i < 2; ++i) Writer([this] { Transfer(); });
    Writer([this] { Commute(); });
    Writer([this] { Resend(); });
    Writer([this] { Pairs(); });
    Writer([this] { Expire(); });
    Writer([this] { Push(); });
    Writer([this] { Large(); });
    Writer([this] { Record(); });
    Writer([this] { Atoms(); });
    Writer([this] { ComeAndGo(); });
    Writer([this] { Refused(); });
    Writer([this] { Lists(); });
    Writer([this] { Past(); });
    Writer([this] { GiveUp(); });
    Writer([this] { BriefWatches(); });
    Writer([this] { StuckWatches(); });
    Writer([this] { Backups(); });
    for (int i = 0; i < kTakers; ++i) followers_.emplace_back([this] { Take(); });
    followers_.emplace_back([this] { FollowCounter(); });
    followers_.emplace_back([this] { FollowRecords(); });
  }

  // Returns when all has been answered, and those who follow have seen the last of it.
  void Stop() {
    stop_.store(true);
    // When nothing is written any more, nothing ends them.
    stopping_.Cancel();
    for (std::thread& writer : writers_) writer.join();
    for (int i = 0; i < kTakers; ++i) CheckOk(queue().Put(kLastJob), "put");
    CheckOk(client_.Transact([&](stm::Tx& tx) {
      tx.Commute(counter_, stm::Add(kLastStep));
      tx.Record(Step{kLastStep});
    }),
            "last step");
    for (std::thread& follower : followers_) follower.join();
  }

  // Nothing was lost or doubled.
  void CheckSums() {
    ExpectEqual("the accounts' sum", SumOf(ValueOf(client_.List("/soak/account/"), "list")), kAccounts * kOpening);
    ExpectEqual("the counter", ValueOf(counter_.Get(), "get"), tally_.Of("commutes") + kLastStep);
    ExpectEqual("the counter that was followed", followed_, tally_.Of("commutes") + kLastStep);
    ExpectEqual("the counter of resent commits", ValueOf(Resent().Get(), "get"), tally_.Of("commits, unary"));
    ExpectEqual("the atom", ValueOf(client_.Atom<int64_t>("/soak/atom", 0).Get(), "get"), tally_.Of("swaps"));
    ExpectEqual("jobs taken", taken_.load(), tally_.Of("jobs"));
    ExpectEqual("their sum", taken_sum_.load(), pushed_sum_);
    ExpectEqual("records read", tally_.Of("records read"), tally_.Of("records") + 1);
    const auto expired = [&] { return ValueOf(client_.List("/soak/ttl/"), "list").empty(); };
    Until("all entries with a TTL gone", expired);
  }

  std::map<std::string, int64_t> Counts() { return tally_.All(); }

 private:
  stm::Client Connect() {
    stm::ConnectOptions options;
    options.address = address_;
    options.unavailable_timeout = absl::Seconds(kWaitSecondsMax);
    // Takers of one queue run again and again: that is counted, and nothing to warn of.
    options.warn = [this](std::string_view) { tally_.Add("warnings of many runs"); };
    return ValueOf(stm::Connect(options), "connect");
  }

  void Writer(std::function<void()> act) { writers_.emplace_back(std::move(act)); }

  // act(turn) at a fixed rate until the stop. What a slow machine makes late is left out, not made up for: a burst is
  // another load.
  template <typename Act>
  void Paced(double per_second, Act act) {
    double due = Now();
    for (int64_t turn = 0; !stop_.load(std::memory_order_relaxed); ++turn) {
      const double now = Now();
      due = std::max(due + 1 / per_second, now - 1);
      // Long waits in short pieces, for the stop.
      for (double left = due - now; left > 0 && !stop_.load(std::memory_order_relaxed); left = due - Now()) {
        SleepSeconds(std::min(left, 0.2));
      }
      act(turn);
    }
  }

  static int64_t IntegerOf(const std::optional<Value>& value, const char* what) {
    if (!value.has_value()) Fail(absl::StrCat(what, ": no value"));
    return ValueOf(stm::Decode<int64_t>(*value), what);
  }
  static int64_t SumOf(const std::vector<stm::Entry>& entries) {
    int64_t sum = 0;
    for (const stm::Entry& entry : entries) sum += IntegerOf(entry.value, "list");
    return sum;
  }
  static void ExpectEqual(const char* what, int64_t found, int64_t expected) {
    if (found != expected) Fail(absl::StrCat(what, ": found ", found, ", expected ", expected));
  }

  stm::Ref<int64_t> Resent() const { return client_.Ref<int64_t>("/soak/resent"); }
  stm::Queue<int64_t> queue() const { return stm::Queue<int64_t>(client_, "/soak/queue"); }

  void Transfer() {
    std::mt19937_64 random(std::random_device{}());
    Paced(75, [&](int64_t) {
      const size_t from = random() % kAccounts, to = (from + 1 + random() % (kAccounts - 1)) % kAccounts;
      CheckOk(client_.Transact([&](stm::Tx& tx) {
        tx.Alter(accounts_[from], [](int64_t n) { return n - 1; });
        tx.Alter(accounts_[to], [](int64_t n) { return n + 1; });
      }),
              "transfer");
      tally_.Add("alters");
    });
  }

  void Commute() {
    Paced(150, [&](int64_t) {
      CheckOk(client_.Transact([&](stm::Tx& tx) { tx.Commute(counter_, stm::Add(1)); }), "commute");
      tally_.Add("commutes");
    });
  }

  // By hand, on a channel of its own: some commits are sent again, and must be answered as they were.
  void Resend() {
    const auto channel = MakeChannel(address_);
    const auto stub = wire::TransactionService::NewStub(channel);
    Known known;
    known.Ask(channel);
    Ids ids;
    std::optional<grpc::ClientContext> context;
    wire::CommitRequest request;
    wire::Write* set = request.add_writes();
    wire::Write* add = request.add_writes();
    add->set_name("/soak/resent");
    add->mutable_apply()->mutable_add()->set_integer(1);
    Paced(100, [&](int64_t turn) {
      set->set_name(absl::StrCat("/soak/blind/", turn * 7 % kBlindKeys));
      set->mutable_set()->set_text(absl::StrFormat("%0100d", turn));
      ids.Next(known, request.mutable_id());
      const auto send = [&] {
        wire::CommitResponse response;
        Ready(&context);
        bench::CheckOk(stub->Commit(&*context, request, &response), "Commit");
        return VersionOf(response, "blind");
      };
      const int64_t version = send();
      known.Learn(version);
      tally_.Add("commits, unary");
      if (turn % 8 == 0) {
        request.mutable_id()->set_resend(true);
        ExpectEqual("a resend's version", send(), version);
        request.mutable_id()->set_resend(false);
        tally_.Add("resends");
      }
      if (turn % 16 == 1) {
        wire::GetOutcomeRequest ask;
        *ask.mutable_id() = request.id();
        wire::GetOutcomeResponse outcome;
        Ready(&context);
        bench::CheckOk(stub->GetOutcome(&*context, ask, &outcome), "GetOutcome");
        ExpectEqual("an outcome's version", VersionOf(outcome.outcome(), "outcome"), version);
        tally_.Add("outcomes");
      }
    });
  }

  // Directories that come and go: both of a pair, or none.
  void Pairs() {
    const auto refs = [&](int64_t pair) {
      return std::pair(client_.Ref<std::string>(absl::StrCat("/soak/pair/", pair, "/a")),
                       client_.Ref<std::string>(absl::StrCat("/soak/pair/", pair, "/b")));
    };
    Paced(25, [&](int64_t turn) {
      const auto made = refs(turn);
      CheckOk(client_.Transact([&](stm::Tx& tx) {
        tx.Set(made.first, "a");
        tx.Set(made.second, "b");
      }),
              "create");
      tally_.Add("creates", 2);
      if (turn < kPairs) return;
      const auto old = refs(turn - kPairs);
      CheckOk(client_.Transact([&](stm::Tx& tx) {
        tx.Delete(old.first);
        tx.Delete(old.second);
      }),
              "delete");
      tally_.Add("deletes", 2);
    });
  }

  void Expire() {
    Paced(40, [&](int64_t turn) {
      stm::Definition definition;
      definition.ttl = absl::Seconds(2);
      const auto brief = client_.Ref<int64_t>(absl::StrCat("/soak/ttl/", turn), std::nullopt, definition);
      CheckOk(client_.Transact([&](stm::Tx& tx) { tx.Set(brief, turn); }), "set with a TTL");
      tally_.Add("entries with a TTL");
    });
  }

  void Push() {
    Paced(40, [&](int64_t turn) {
      CheckOk(queue().Put(turn), "put");
      pushed_sum_ += turn;
      tally_.Add("jobs");
    });
  }

  void Take() {
    for (;;) {
      const int64_t job = ValueOf(queue().Take(), "take");
      if (job == kLastJob) return;
      taken_.fetch_add(1);
      taken_sum_.fetch_add(job);
    }
  }

  void Large() {
    const auto large = client_.Ref<std::string>("/soak/large");
    Paced(10, [&](int64_t turn) {
      CheckOk(client_.Transact([&](stm::Tx& tx) { tx.Set(large, kLargeText + std::to_string(turn)); }), "set large");
      tally_.Add("large values");
    });
  }

  void Record() {
    const auto at = client_.Ref<int64_t>("/soak/step");
    Paced(20, [&](int64_t turn) {
      CheckOk(client_.Transact([&](stm::Tx& tx) {
        tx.Set(at, turn);
        tx.Record(Step{turn});
      }),
              "record");
      tally_.Add("records");
    });
  }

  // Again and again from where it was: each record once, in order.
  void FollowRecords() {
    int64_t next = 0, version = made_;
    for (bool last = false; !last; SleepSeconds(1)) {
      stm::RecordOptions options;
      options.from_version = version + 1;
      try {
        for (auto& record : client_.Records<Step>(options)) {
          const int64_t number = std::get<Step>(record.value).number;
          last = number == kLastStep;
          if (!last) ExpectEqual("a record's number", number, next++);
          version = record.version;
          tally_.Add("records read");
        }
      } catch (const stm::StatusError& error) {
        CheckOk(error.status(), "records");
      }
      tally_.Add("reads of the log");
    }
  }

  // A watch that is ended and resumed again and again: each step once, in order.
  void FollowCounter() {
    int64_t version = made_;
    for (bool last = false; !last; SleepSeconds(0.5)) {
      stm::WatchOptions options;
      options.after = version;
      int left = 200;
      CheckOk(client_.Watch("/soak/counter", options,
                            [&](const stm::Commit& commit) {
                              if (commit.initial) Fail("the watch that was resumed has a gap");
                              const stm::Change& change = commit.changes.at(0);
                              if (!change.before_unknown) {
                                ExpectEqual("before a step", IntegerOf(change.before, "watch"), followed_);
                              }
                              const int64_t after = IntegerOf(change.after, "watch");
                              last = after - followed_ == kLastStep;
                              if (!last) ExpectEqual("after a step", after, followed_ + 1);
                              followed_ = after;
                              version = commit.version;
                              tally_.Add("steps followed");
                              return !last && --left > 0;
                            }),
              "watch");
      tally_.Add("watches resumed");
    }
  }

  // Watches that come, see all there is and some commits, and go.
  void BriefWatches() {
    Paced(2, [&](int64_t) {
      stm::WatchOptions options;
      options.initial = true;
      options.canceller = stopping_;
      int left = 20;
      const absl::Status status = client_.Watch("/soak/account/", options, [&](const stm::Commit& commit) {
        if (!commit.initial) return --left > 0;
        int64_t sum = 0;
        for (const stm::Change& change : commit.changes) sum += IntegerOf(change.after, "watch");
        ExpectEqual("the sum that a watch begins with", sum, kAccounts * kOpening);
        return true;
      });
      if (!stop_.load()) CheckOk(status, "watch");
      tally_.Add("brief watches");
    });
  }

  // Opened, never read, until the daemon cuts it.
  void StuckWatches() {
    Paced(0.05, [&](int64_t) {
      const auto stub = wire::WatchService::NewStub(MakeChannel(address_));
      const double cut = MetricIn(MetricsOf(http_port_), "stmd_watches_cut_total");
      grpc::ClientContext context;
      wire::WatchRequest request;
      request.mutable_selector()->add_prefixes("/soak/");
      const auto reader = stub->Watch(&context, request);
      Until("a stuck watch cut", [&] {
        SleepSeconds(0.1);
        return stop_.load() || MetricIn(MetricsOf(http_port_), "stmd_watches_cut_total") > cut;
      });
      if (stop_.load()) context.TryCancel();
      wire::WatchResponse response;
      while (reader->Read(&response)) {
      }
      const grpc::Status status = reader->Finish();
      if (stop_.load()) return;
      if (status.error_code() != grpc::StatusCode::RESOURCE_EXHAUSTED) {
        Fail(absl::StrCat("a stuck watch ended with ", status.error_code(), ": ", status.error_message()));
      }
      tally_.Add("stuck watches cut");
    });
  }

  void Atoms() {
    const auto atom = client_.Atom<int64_t>("/soak/atom", 0);
    Paced(20, [&](int64_t) {
      ValueOf(atom.Swap([](int64_t n) { return n + 1; }), "swap");
      tally_.Add("swaps");
    });
  }

  // Connections that come and go.
  void ComeAndGo() {
    Paced(4, [&](int64_t) {
      const stm::Client client = Connect();
      const auto counter = client.Ref<int64_t>("/soak/counter");
      if (ValueOf(counter.Get(), "get") < 0) Fail("the counter is below 0");
      CheckOk(client.Transact([&](stm::Tx& tx) { tx.Commute(counter, stm::Add(1)); }), "commute");
      tally_.Add("commutes");
      tally_.Add("connections");
    });
  }

  // What a validator says no to, and how it was told.
  void Refused() {
    stm::Definition definition;
    definition.validator = ValueOf(stm::ReadEdn("[:and :int [:min 0]]"), "validator");
    const auto checked = client_.Ref<int64_t>("/soak/checked", 0, definition);
    Paced(10, [&](int64_t turn) {
      const absl::Status status = client_.Transact([&](stm::Tx& tx) { tx.Set(checked, turn % 2 == 0 ? turn : -turn); });
      if (turn % 2 == 0) CheckOk(status, "set checked");
      if (turn % 2 == 1 && !stm::IsRejected(status)) Fail("a validator let through what it forbids");
      tally_.Add(turn % 2 == 0 ? "accepted by a validator" : "rejected by a validator");
    });
  }

  void Lists() {
    Paced(2, [&](int64_t turn) {
      const std::vector<stm::Entry> entries = ValueOf(client_.List("/soak/pair/"), "list");
      if (entries.size() % 2 != 0) Fail("a listing shows half of a pair");
      tally_.Add("listings");
      if (turn % 4 != 0) return;
      const std::vector<stm::Commit> commits = ValueOf(counter_.History(), "history");
      for (size_t i = 1; i < commits.size(); ++i) {
        if (commits[i].version >= commits[i - 1].version) Fail("a history is not newest first");
      }
      tally_.Add("histories");
    });
  }

  void Past() {
    Paced(4, [&](int64_t) {
      const stm::View view = client_.At(std::max(made_, client_.seen_version() - kVersionsBack));
      ExpectEqual("the sum of a snapshot", SumOf(ValueOf(view.List("/soak/account/"), "list at")),
                  kAccounts * kOpening);
      tally_.Add("snapshots read");
    });
  }

  // retry() that nothing wakes.
  void GiveUp() {
    const auto never = client_.Ref<int64_t>("/soak/never");
    Paced(4, [&](int64_t) {
      stm::TransactOptions options;
      options.timeout = absl::Milliseconds(200);
      const absl::Status status = client_.Transact(options, [&](stm::Tx& tx) {
        if (!tx.Find(never).has_value()) tx.Retry();
      });
      if (!absl::IsDeadlineExceeded(status)) Fail("retry() of what never comes ended with " + status.ToString());
      tally_.Add("retries given up");
    });
  }

  void Backups() {
    const auto stub = wire::AdminService::NewStub(MakeChannel(address_));
    Paced(0.1, [&](int64_t) {
      grpc::ClientContext context;
      const auto reader = stub->Backup(&context, {});
      int64_t bytes = 0;
      for (wire::BackupResponse response; reader->Read(&response);)
        bytes += static_cast<int64_t>(response.chunk().size());
      bench::CheckOk(reader->Finish(), "Backup");
      tally_.Add("backups");
      tally_.Add("bytes of backups", bytes);
    });
  }

  const std::string address_;
  const int http_port_;
  Tally tally_;
  const stm::Client client_;
  const stm::Ref<int64_t> counter_;
  std::vector<stm::Ref<int64_t>> accounts_;
  int64_t made_ = 0;
  std::atomic<bool> stop_{false};
  stm::Canceller stopping_;
  std::vector<std::thread> writers_;
  std::vector<std::thread> followers_;
  int64_t pushed_sum_ = 0;  // Push's
  std::atomic<int64_t> taken_{0};
  std::atomic<int64_t> taken_sum_{0};
  int64_t followed_ = 0;  // FollowCounter's
};

struct Quarter {
  std::vector<double> rss_bytes;
  Usage last;
};

int Main(int argc, char** argv) {
  CLI::App app{"Loads one stmd with everything for an hour and says whether its memory grew."};
  std::string stmd, stmctl, directory = ".stmd", csv = ".stmd/soak.csv";
  std::vector<std::string> stmd_arguments;
  double minutes = 60;
  app.add_option("MINUTES", minutes, "How long")->capture_default_str()->check(CLI::Range(0.5, 10000.0));
  app.add_option("--stmd", stmd, "The stmd to load")->required();
  app.add_option("--stmd-arg", stmd_arguments, "One more argument for it; may be repeated");
  app.add_option("--stmctl", stmctl, "Checks the log at the end; none: not checked");
  app.add_option("--dir", directory, "Where to make its data directory")->capture_default_str();
  app.add_option("--csv", csv, "Where the samples go")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const std::string data = MakeDirectory(directory), store = data + "/store", log = data + "/bench.log";
  const std::string address = "127.0.0.1:" + std::to_string(FreePort());
  const int http_port = FreePort();
  std::vector<std::string> command = {
      stmd, "--data-dir", store, "--listen", address, "--http", "127.0.0.1:" + std::to_string(http_port)};
  command.insert(command.end(), kSettings.begin(), kSettings.end());
  command.insert(command.end(), stmd_arguments.begin(), stmd_arguments.end());
  Child daemon(command, log);
  const pid_t pid = daemon.pid();
  WaitReady(address, &daemon, 60);
  std::ofstream samples(csv);
  samples << "seconds,rss_bytes,anonymous_bytes,threads,descriptors,files,cpu_seconds,store_bytes,commits,entries,"
             "tombstones,"
             "history_bytes,id_table_bytes,ids,sleepers,watches\n";
  std::fprintf(stderr, "soak: stmd pid %d, its log %s, samples in %s\n", pid, log.c_str(), csv.c_str());

  const double seconds = minutes * 60, every = std::clamp(seconds / 720, 1.0, 5.0);
  std::vector<Quarter> quarters(kQuarters);
  int64_t store_bytes_max = 0;
  double cores = 0;
  Everything everything(address, http_port);
  everything.Start();
  const double from = Now(), cpu_from = CpuSeconds(pid);
  for (double at = every; at < seconds; at += every) {
    SleepSeconds(from + at - Now());
    if (!daemon.Running()) Fail("stmd ended: " + daemon.exit_reason() + "; see " + log);
    const Usage usage = UsageOf(pid);
    const std::string metrics = MetricsOf(http_port);
    const int64_t store_bytes = BytesIn(store);
    store_bytes_max = std::max(store_bytes_max, store_bytes);
    samples << absl::StrFormat("%.1f,%d,%d,%d,%d,%d,%.2f,%d", Now() - from, usage.rss_bytes, usage.anonymous_bytes,
                               usage.threads, usage.descriptors, usage.files, CpuSeconds(pid) - cpu_from, store_bytes);
    for (const char* name :
         {"commits_total", "entries", "tombstones", "history_bytes", "id_table_bytes", "ids", "sleepers", "watches"}) {
      samples << absl::StrFormat(",%.0f", MetricIn(metrics, absl::StrCat("stmd_", name)));
    }
    samples << std::endl;
    const auto number = static_cast<size_t>(std::min(kQuarters * at / seconds, kQuarters - 1.0));
    quarters[number].rss_bytes.push_back(static_cast<double>(usage.rss_bytes));
    quarters[number].last = usage;
  }
  cores = (CpuSeconds(pid) - cpu_from) / (Now() - from);
  everything.Stop();
  everything.CheckSums();
  daemon.Stop(SIGTERM);
  if (daemon.exit_reason() != "exit code 0")
    Fail("stmd did not stop cleanly: " + daemon.exit_reason() + "; see " + log);
  if (!stmctl.empty()) {
    Child verify({stmctl, "log", "verify", store}, log);
    Until("the log verified", [&] { return !verify.Running(); });
    if (verify.exit_reason() != "exit code 0") Fail("the log is not whole: " + verify.exit_reason() + "; see " + log);
  }

  for (const auto& [what, count] : everything.Counts())
    std::printf("%-26s %12lld\n", what.c_str(), static_cast<long long>(count));
  std::printf("%-26s %12.2f\n%-26s %12.1f\n", "cores of the daemon", cores, "store's most, MiB",
              static_cast<double>(store_bytes_max) / (1 << 20));
  std::printf("\n| quarter | RSS, median, MiB | threads | descriptors | files |\n|---|---|---|---|---|\n");
  for (int i = 0; i < kQuarters; ++i) {
    const Quarter& quarter = quarters[static_cast<size_t>(i)];
    std::printf("| %d | %.2f | %lld | %lld | %lld |\n", i + 1, Median(quarter.rss_bytes) / (1 << 20),
                static_cast<long long>(quarter.last.threads), static_cast<long long>(quarter.last.descriptors),
                static_cast<long long>(quarter.last.files));
  }
  const double growth = Median(quarters[3].rss_bytes) / Median(quarters[1].rss_bytes) - 1;
  const bool holds = growth < kGrowthMax;
  std::printf("\nRSS grew by %.2f %% from the second quarter of %g minutes to the last (bar: < %g %%): %s\n",
              growth * 100, minutes, kGrowthMax * 100, holds ? "holds" : "DOES NOT HOLD");
  RemoveDirectory(data);
  return holds ? 0 : 2;
}

}  // namespace
}  // namespace stm::bench

int main(int argc, char** argv) { return stm::bench::Main(argc, argv); }
