// What much of everything costs one daemon: memory for each ref, watch and connection; whether a watcher that never
// reads slows commits; whether a job wakes a herd of takers. One daemon holds all of it at once.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "google/rpc/status.pb.h"
#include "stm/v1/watch_service.grpc.pb.h"
#include "tests/bench/alter.h"
#include "tests/bench/call.h"
#include "tests/bench/echo.grpc.pb.h"
#include "tests/bench/echo_server.h"
#include "tests/bench/fill.h"
#include "tests/bench/load.h"
#include "tests/bench/measure.h"
#include "tests/bench/process.h"
#include "tests/bench/usage.h"

namespace stm::bench {

namespace echo = ::stm::bench::v1;

namespace {

// What the daemon is told. History and ids are bounded by bytes that the warm-up fills, so that they are in the
// baseline and not in the refs' bytes. A watch's bound is wide enough for a stuck watcher to stay for a whole
// measurement, with every commit queued for it: at the default it would be cut, and cost nothing, after a tenth of one.
constexpr int64_t kUnreadBytesMax = 64 << 20;
const std::vector<std::string> kSettings = {"--history-bytes",           "16MiB",   "--id-table-bytes",         "16MiB",
                                            "--snapshot-bytes",          "1TiB",    "--watch-unread-bytes-max", "64MiB",
                                            "--watch-unread-events-max", "10000000"};

constexpr double kSettleSecondsMax = 120;
constexpr int64_t kWarmRefs = 20000;
constexpr int kStreamsAConnection = 1000;
constexpr size_t kLargeBytes = 16 << 10;
constexpr int kFewTakers = 16;
// engine::Options::sleepers_woken_at_once.
constexpr double kWokenAtOnce = 16;
constexpr double kJobsASecond = 200;

struct Sizes {
  int64_t refs = 1000000;
  int watchers = 10000;
  int connections = 1000;
  int takers = 1000;
  int jobs = 1000;
  int rounds = 15;
  double seconds = 0.25;
};

// One open stream. Reads all that comes, or nothing until Drain.
template <typename Response>
class Stream : public grpc::ClientReadReactor<Response> {
 public:
  void Begin(bool reads) {
    if (reads) this->StartRead(&response_);
    // Reads may begin outside a reaction until Drain or Cancel.
    if (!reads) this->AddHold();
    held_ = !reads;
    this->StartCall();
  }
  // Reads what there is, to the end.
  void Drain() {
    this->StartRead(&response_);
    if (std::exchange(held_, false)) this->RemoveHold();
  }
  void Cancel() {
    context_.TryCancel();
    if (std::exchange(held_, false)) this->RemoveHold();
  }
  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // Once ended.
  const grpc::Status& status() const { return status_; }
  grpc::ClientContext* context() { return &context_; }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    Took(response_);
    this->StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    status_ = status;
    ended_.store(true, std::memory_order_release);
  }

 protected:
  virtual void Took(const Response& response) = 0;

 private:
  grpc::ClientContext context_;
  Response response_;
  bool held_ = false;
  grpc::Status status_;
  std::atomic<bool> ended_{false};
};

class Watch final : public Stream<wire::WatchResponse> {
 public:
  Watch(wire::WatchService::Stub* stub, const std::string& selected, bool reads) {
    wire::Selector* selector = request_.mutable_selector();
    selected.back() == '/' ? selector->add_prefixes(selected) : selector->add_names(selected);
    stub->async()->Watch(context(), &request_, this);
    Begin(reads);
  }
  bool open() const { return synced_.load(std::memory_order_acquire); }
  int commits() const { return commits_.load(std::memory_order_acquire); }
  // Of the last commit that came. Once ended.
  int64_t version() const { return version_; }

 private:
  void Took(const wire::WatchResponse& response) override {
    if (response.has_gap()) Fail("Watch: " + response.ShortDebugString());
    if (response.has_synced()) synced_.store(true, std::memory_order_release);
    if (!response.has_commit()) return;
    if (response.commit().version() <= version_) Fail("Watch: versions went back: " + response.ShortDebugString());
    version_ = response.commit().version();
    commits_.fetch_add(1, std::memory_order_release);
  }

  wire::WatchRequest request_;
  int64_t version_ = 0;
  std::atomic<bool> synced_{false};
  std::atomic<int> commits_{0};
};

class Hold final : public Stream<echo::HoldResponse> {
 public:
  explicit Hold(echo::EchoService::Stub* stub) {
    stub->async()->Hold(context(), &request_, this);
    Begin(true);
  }
  bool open() const { return open_.load(std::memory_order_acquire); }

 private:
  void Took(const echo::HoldResponse& /*response*/) override { open_.store(true, std::memory_order_release); }

  echo::EchoRequest request_;
  std::atomic<bool> open_{false};
};

template <typename S>
bool AllOpen(const std::vector<std::unique_ptr<S>>& streams) {
  return std::all_of(streams.begin(), streams.end(), [](const auto& stream) { return stream->open(); });
}

template <typename S>
void CancelAll(const std::vector<std::unique_ptr<S>>& streams) {
  for (const auto& stream : streams) stream->Cancel();
  Until("all streams ended", [&] {
    return std::all_of(streams.begin(), streams.end(), [](const auto& stream) { return stream->ended(); });
  });
}

wire::ErrorDetail DetailOf(const grpc::Status& status) {
  google::rpc::Status message;
  wire::ErrorDetail detail;
  if (message.ParseFromString(status.error_details()) && message.details_size() == 1)
    message.details(0).UnpackTo(&detail);
  return detail;
}

// What all takers of one queue did.
struct Taken {
  explicit Taken(int jobs) : times(static_cast<size_t>(jobs)), at(static_cast<size_t>(jobs)) {}
  std::vector<std::atomic<int>> times;  // that each job was taken
  std::vector<double> at;               // when
  std::atomic<int> count{0};
  std::atomic<int> ended{0};
};

struct Herd {
  double wakes_a_job = 0;
  double seconds = 0;  // from the first push until all were taken
  double p50_us = 0;   // from a job's push until it was taken
};

// Takes the first of a vector of jobs; sleeps while there is none. stm::Queue's, by hand.
class Taker final : public Alter {
 public:
  Taker(wire::RefService::Stub* refs, wire::TransactionService::Stub* transactions, Known* known, Timer* timer,
        const std::string& queue, Taken* taken)
      : Alter(refs, transactions, known, timer, queue), taken_(taken) {
    Transact();
  }

 private:
  bool Compute(const wire::Value& value, wire::Value* to) override {
    const auto& jobs = value.vector().items();
    if (jobs.empty()) return false;
    job_ = jobs.Get(0).integer();
    *to = value;
    to->mutable_vector()->mutable_items()->DeleteSubrange(0, 1);
    return true;
  }
  void Committed() override {
    taken_->at[static_cast<size_t>(job_)] = Now();
    taken_->times[static_cast<size_t>(job_)].fetch_add(1);
    taken_->count.fetch_add(1, std::memory_order_release);
    Transact();
  }
  void Stopped() override { taken_->ended.fetch_add(1, std::memory_order_release); }

  Taken* const taken_;
  int64_t job_ = 0;
};

class Scale {
 public:
  Scale(const Servers& servers, int http_port, const Sizes& sizes)
      : servers_(servers),
        http_port_(http_port),
        sizes_(sizes),
        load_(servers),
        channel_(MakeChannel(servers.stmd_address)) {
    known_.Ask(channel_);
    transactions_ = wire::TransactionService::NewStub(channel_);
  }

  ~Scale() { CancelAll(watches_); }

  using Group = std::pair<const char*, std::vector<Row> (Scale::*)()>;
  // In the order in which they are measured: each in what the ones before it left.
  static const std::vector<Group>& Groups() {
    // Connections before watchers: in what many streams left the null service's would cost nothing.
    static const std::vector<Group> groups = {{"refs", &Scale::Refs},
                                              {"connections", &Scale::Connections},
                                              {"watches", &Scale::Watchers},
                                              {"stuck_watcher", &Scale::StuckWatcher},
                                              {"takers", &Scale::Takers}};
    return groups;
  }

  // Those named in `only`; all if it is empty.
  std::vector<Row> Run(const std::vector<std::string>& only) {
    std::vector<Row> rows;
    Say("warm-up");
    load_.Null(kGateCallers, 0.5);
    load_.Commit(kCallersMax, 4);
    Fill(servers_.stmd_address, "/warm", kWarmRefs, 1);
    for (const auto& [name, measure] : Groups()) {
      if (!only.empty() && std::find(only.begin(), only.end(), name) == only.end()) continue;
      for (Row& row : (this->*measure)()) rows.push_back(std::move(row));
    }
    load_.CheckSums();
    return rows;
  }

 private:
  static void Say(const std::string& what) { std::fprintf(stderr, "scale: %s\n", what.c_str()); }

  // Of memory: the machine's pace says nothing about it, so no round is dropped.
  static Row MemoryRow(const std::string& name, const std::string& unit, double value, const std::string& limit,
                       double limit_value, double bar) {
    return Row{name, unit, limit, Bar::kAtMost, bar, {{value, limit_value, value / limit_value, kCoresMin}}};
  }

  double Metric(const char* name) const { return MetricIn(MetricsOf(http_port_), name); }
  // Asked a hundred times a second: asking costs the daemon something too.
  template <typename Condition>
  void UntilMetric(const char* what, const char* name, const Condition& holds) const {
    Until(what, [&] {
      SleepSeconds(0.01);
      return holds(Metric(name));
    });
  }
  int64_t RssBytes() const { return SettledRssBytes(servers_.stmd_pid, kSettleSecondsMax); }

  int64_t Commit(wire::CommitRequest* request) {
    ids_.Next(known_, request->mutable_id());
    std::optional<grpc::ClientContext> context;
    Ready(&context);
    wire::CommitResponse response;
    CheckOk(transactions_->Commit(&*context, *request, &response), "Commit");
    const int64_t version = VersionOf(response, "scale");
    known_.Learn(version);
    return version;
  }
  void Set(const std::string& name, const std::string& text) {
    wire::CommitRequest request;
    wire::Write* write = request.add_writes();
    write->set_name(name);
    write->mutable_set()->set_text(text);
    Commit(&request);
  }

  // Of `count` that open(i) opens, each. The second half's: the first takes what the heap has free.
  template <typename Open>
  static double BytesEach(pid_t pid, int count, const Open& open) {
    const int half = count / 2;
    open(0, half);
    const int64_t before = SettledRssBytes(pid, kSettleSecondsMax);
    open(half, count);
    return static_cast<double>(SettledRssBytes(pid, kSettleSecondsMax) - before) / (count - half);
  }

  // Of a ref with such a value: an Entry (152 bytes) and its version (88) are an object each, name and value a string
  // each (48, and 64 + 112), and two indexes hold it (the hash table 52 when it has just doubled, as at a million; the
  // tree 28). That is 4.1 times 135 bytes; the bars leave a tenth for the allocator.
  std::vector<Row> Refs() {
    const int64_t before = RssBytes();
    Say(absl::StrCat(sizes_.refs, " refs; ", before >> 20, " MiB before"));
    const auto count = static_cast<double>(sizes_.refs);
    const double held = static_cast<double>(Fill(servers_.stmd_address, "", sizes_.refs, 1)) / count;
    const int64_t after = RssBytes();
    Say(absl::StrCat(after >> 20, " MiB after"));
    const double bytes = static_cast<double>(after - before) / count;
    return {MemoryRow("ref_memory", "B/ref", bytes, "its name and value", held, 4.5),
            MemoryRow("ref_memory_beside_value", "B/ref", bytes - held, "its name and value", held, 3.5)};
  }

  std::vector<Row> Watchers() {
    const int connections = std::max(4, sizes_.watchers / kStreamsAConnection);
    std::vector<std::unique_ptr<wire::WatchService::Stub>> stubs;
    std::vector<std::unique_ptr<echo::EchoService::Stub>> nulls;
    for (int i = 0; i < connections; ++i) {
      const auto channel = MakeChannel(servers_.stmd_address);
      Known().Ask(channel);
      stubs.push_back(wire::WatchService::NewStub(channel));
      const auto null_channel = MakeChannel(servers_.echo_address);
      nulls.push_back(echo::EchoService::NewStub(null_channel));
      AskNull(nulls.back().get());
    }
    Say(absl::StrCat(sizes_.watchers, " watchers"));
    std::vector<std::unique_ptr<Hold>> holds;
    const double null_bytes = BytesEach(servers_.echo_pid, sizes_.watchers, [&](int begin, int end) {
      for (int i = begin; i < end; ++i) {
        holds.push_back(std::make_unique<Hold>(nulls[static_cast<size_t>(i % connections)].get()));
      }
      Until("all null streams opened", [&] { return AllOpen(holds); });
    });
    CancelAll(holds);
    const double bytes = BytesEach(servers_.stmd_pid, sizes_.watchers, [&](int begin, int end) {
      for (int i = begin; i < end; ++i) {
        watches_.push_back(
            std::make_unique<Watch>(stubs[static_cast<size_t>(i % connections)].get(), RefName(i), true));
      }
      Until("all watches opened", [&] { return AllOpen(watches_); });
    });
    CheckWatchers();
    return {MemoryRow("watch_memory", "B/watch", bytes, "an open stream of the null service", null_bytes, 1.5)};
  }

  // Each commit is seen by those who watch what it changed, and by nobody else.
  void CheckWatchers() {
    std::vector<int> expected(watches_.size());
    wire::CommitRequest request;
    const auto touch = [&](size_t i) {
      wire::Write* write = request.add_writes();
      write->set_name(RefName(static_cast<int64_t>(i)));
      write->mutable_set()->set_text("touched");
      ++expected[i];
    };
    for (size_t i = 0; i < watches_.size(); i += std::max<size_t>(1, watches_.size() / 20)) {
      touch(i);
      touch((i + 1) % watches_.size());
      Commit(&request);
      request.Clear();
    }
    // Behind it comes nothing: what a watcher got too much is there when this is.
    for (size_t i = 0; i < watches_.size(); ++i) touch(i);
    Commit(&request);
    Until("all watchers told", [&] {
      for (size_t i = 0; i < watches_.size(); ++i) {
        if (watches_[i]->commits() < expected[i]) return false;
      }
      return true;
    });
    for (size_t i = 0; i < watches_.size(); ++i) {
      if (watches_[i]->commits() == expected[i]) continue;
      Fail(absl::StrCat("the watch of ", RefName(static_cast<int64_t>(i)), " saw ", watches_[i]->commits(),
                        " commits, that changed it ", expected[i]));
    }
  }

  static void AskNull(echo::EchoService::Stub* stub) {
    std::optional<grpc::ClientContext> context;
    Ready(&context);
    echo::EchoResponse response;
    CheckOk(stub->Echo(&*context, {}, &response), "echo");
  }

  std::vector<Row> Connections() {
    Say(absl::StrCat(sizes_.connections, " connections"));
    std::vector<std::shared_ptr<grpc::Channel>> null_channels;
    const double null_bytes = BytesEach(servers_.echo_pid, sizes_.connections, [&](int begin, int end) {
      for (int i = begin; i < end; ++i) {
        null_channels.push_back(MakeChannel(servers_.echo_address));
        AskNull(echo::EchoService::NewStub(null_channels.back()).get());
      }
    });
    const double bytes = BytesEach(servers_.stmd_pid, sizes_.connections, [&](int begin, int end) {
      for (int i = begin; i < end; ++i) {
        idle_.push_back(MakeChannel(servers_.stmd_address));
        Known().Ask(idle_.back());
      }
    });
    return {MemoryRow("connection_memory", "B/conn", bytes, "a connection to the null service", null_bytes, 1.5)};
  }

  // On a connection of its own, whose window does not grow: its reader holds the daemon up after the first 64 KiB, not after
  // megabytes that gRPC took for it. Returns when the daemon has it.
  std::unique_ptr<Watch> StuckWatch(const std::string& selected) {
    const double watches = Metric("stmd_watches");
    grpc::ChannelArguments fixed;
    fixed.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    const auto stub = wire::WatchService::NewStub(MakeChannel(servers_.stmd_address, fixed));
    auto stuck = std::make_unique<Watch>(stub.get(), selected, false);
    UntilMetric("a stuck watch opened", "stmd_watches", [&](double now) { return now > watches; });
    return stuck;
  }

  std::vector<Row> StuckWatcher() {
    std::vector<Row> rows = StuckWatcherRate();
    rows.push_back(StuckWatcherMemory());
    return rows;
  }

  std::vector<Row> StuckWatcherRate() {
    Say("a stuck watcher of what is written");
    Row rate{"stuck_watcher_rate", "1/s", "commit_unary_64 without it", Bar::kAtLeast, 0.9, {}};
    // Of client and daemon: a busy machine slows calls, but hardly makes them dearer.
    Row cpu{"stuck_watcher_cpu", "us/call", "commit_unary_64 without it", Bar::kAtMost, 1.1, {}};
    Row p99{"stuck_watcher_p99", "us", "commit_unary_64 without it", Bar::kAtMost, 1.5, {}};
    for (int round = 0; round < sizes_.rounds; ++round) {
      const double cut = Metric("stmd_watches_cut_total");
      const Measured null_before = load_.Null(kGateCallers, sizes_.seconds / 2);
      const Measured before = load_.Commit(kGateCallers, sizes_.seconds);
      const std::unique_ptr<Watch> stuck = StuckWatch("/bench/disjoint/");
      const Measured with = load_.Commit(kGateCallers, sizes_.seconds);
      if (Metric("stmd_watches_cut_total") > cut)
        Fail("the stuck watcher was cut within a round: give it a wider bound");
      stuck->Cancel();
      Until("the stuck watch ended", [&] { return stuck->ended(); });
      const Measured after = load_.Commit(kGateCallers, sizes_.seconds);
      const Measured null_after = load_.Null(kGateCallers, sizes_.seconds / 2);
      const double cores = (null_before.cores + null_after.cores) / 2;
      const double without = (before.rate + after.rate) / 2;
      rate.rounds.push_back({with.rate, without, with.rate / without, cores});
      const double without_cpu = (before.cpu_us + after.cpu_us) / 2;
      cpu.rounds.push_back({with.cpu_us, without_cpu, with.cpu_us / without_cpu, cores});
      const double with_p99 = Quantile(with.latencies_us, 0.99);
      const double without_p99 = (Quantile(before.latencies_us, 0.99) + Quantile(after.latencies_us, 0.99)) / 2;
      p99.rounds.push_back({with_p99, without_p99, with_p99 / without_p99, cores});
    }
    return {rate, cpu, p99};
  }

  // Until it is cut off: how much the daemon held for it, and what it was told.
  Row StuckWatcherMemory() {
    Say("a stuck watcher of large values");
    const std::string name = "/scale/large";
    const auto write = [&](int64_t turn) { Set(name, absl::StrFormat("%0*d", kLargeBytes, turn)); };
    // The history full of such first.
    for (int64_t turn = 0; turn < 4096; ++turn) write(turn);
    const int64_t before = RssBytes();
    int64_t most = before;
    const double cut = Metric("stmd_watches_cut_total");
    const std::unique_ptr<Watch> stuck = StuckWatch(name);
    int64_t written = 0;
    for (; Metric("stmd_watches_cut_total") == cut; most = std::max(most, UsageOf(servers_.stmd_pid).rss_bytes)) {
      for (int i = 0; i < 64; ++i) write(written++);
      if (written > 64 * kUnreadBytesMax / static_cast<int64_t>(kLargeBytes))
        Fail("a watcher that never reads is not cut off");
    }
    stuck->Drain();
    Until("the watcher that was cut off told so", [&] { return stuck->ended(); });
    // To be resumed after the last that came: nothing is lost then, and nothing comes twice.
    const wire::ErrorDetail detail = DetailOf(stuck->status());
    if (stuck->status().error_code() != grpc::StatusCode::RESOURCE_EXHAUSTED ||
        detail.reason() != wire::ERROR_REASON_SLOW_READER || detail.limit() != "watch_unread_bytes_max" ||
        detail.resume_version() != stuck->version()) {
      Fail(absl::StrCat("a stuck watcher was told ", stuck->status().error_code(), ", ",
                        stuck->status().error_message(), ", ", detail.ShortDebugString(), ", after version ",
                        stuck->version()));
    }
    return MemoryRow("stuck_watcher_memory", "B", static_cast<double>(most - before), "watch_unread_bytes_max",
                     static_cast<double>(kUnreadBytesMax), 1.25);
  }

  std::vector<Row> Takers() {
    Say(absl::StrCat(sizes_.takers, " takers of one queue"));
    const std::string few = absl::StrCat("with ", kFewTakers, " takers");
    // A tenth more: a job that waits when the next comes, on a busy machine, may wake those who came back meanwhile.
    Row wakes{"takers_wakes", "1/job", "woken at once, at most", Bar::kAtMost, 1.1, {}};
    Row time{"takers_time", "s", few, Bar::kAtMost, 1.2, {}};
    Row p50{"takers_p50", "us", few, Bar::kAtMost, 2, {}};
    for (int round = 0; round < std::max(1, sizes_.rounds / 5); ++round) {
      const Measured null_before = load_.Null(kGateCallers, sizes_.seconds);
      const Herd little = TakeAll(kFewTakers);
      const Herd many = TakeAll(sizes_.takers);
      const Measured null_after = load_.Null(kGateCallers, sizes_.seconds);
      const double cores = (null_before.cores + null_after.cores) / 2;
      wakes.rounds.push_back({many.wakes_a_job, kWokenAtOnce, many.wakes_a_job / kWokenAtOnce, cores});
      time.rounds.push_back({many.seconds, little.seconds, many.seconds / little.seconds, cores});
      p50.rounds.push_back({many.p50_us, little.p50_us, many.p50_us / little.p50_us, cores});
    }
    return {wakes, time, p50};
  }

  // Jobs pushed one by one at a steady rate into a queue on which so many are asleep.
  Herd TakeAll(int takers) {
    // The load before has its own idea of what is newest: ids of before it may be too old.
    known_.Learn(InstalledVersion(servers_.stmd_address));
    const std::string queue = absl::StrCat("/scale/queue/", ++queues_);
    {
      wire::CommitRequest request;
      wire::Write* write = request.add_writes();
      write->set_name(queue);
      write->mutable_set()->mutable_vector();
      Commit(&request);
    }
    std::vector<std::unique_ptr<wire::RefService::Stub>> refs;
    std::vector<std::unique_ptr<wire::TransactionService::Stub>> transactions;
    for (int i = 0; i < servers_.channels; ++i) {
      const auto channel = MakeChannel(servers_.stmd_address);
      refs.push_back(wire::RefService::NewStub(channel));
      transactions.push_back(wire::TransactionService::NewStub(channel));
    }
    Timer timer;
    Taken taken(sizes_.jobs);
    std::vector<std::unique_ptr<Taker>> all;
    for (int i = 0; i < takers; ++i) {
      const auto channel = static_cast<size_t>(i % servers_.channels);
      all.push_back(
          std::make_unique<Taker>(refs[channel].get(), transactions[channel].get(), &known_, &timer, queue, &taken));
    }
    const auto all_asleep = [&](double sleepers) { return sleepers == takers; };
    UntilMetric("all takers asleep", "stmd_sleepers", all_asleep);

    std::vector<double> pushed;
    wire::CommitRequest push;
    wire::Write* write = push.add_writes();
    write->set_name(queue);
    wire::Value* job = write->mutable_apply()->mutable_conj()->add_items();
    const double from = Now();
    for (int i = 0; i < sizes_.jobs; ++i) {
      SleepSeconds(from + i / kJobsASecond - Now());
      job->set_integer(i);
      pushed.push_back(Now());
      Commit(&push);
    }
    Until("all jobs taken", [&] { return taken.count.load(std::memory_order_acquire) >= sizes_.jobs; });
    Herd herd;
    herd.seconds = Now() - from;
    // All that were woken have gone to sleep again: what they took is counted, what woke them too.
    UntilMetric("all takers asleep again", "stmd_sleepers", all_asleep);
    std::vector<double> waits;
    for (size_t i = 0; i < taken.times.size(); ++i) {
      if (taken.times[i].load() != 1) Fail(absl::StrCat("job ", i, " was taken ", taken.times[i].load(), " times"));
      waits.push_back((taken.at[i] - pushed[i]) * 1e6);
    }
    herd.p50_us = Median(waits);
    int64_t wakes = 0;
    for (const auto& taker : all) wakes += taker->wakes();
    herd.wakes_a_job = static_cast<double>(wakes) / sizes_.jobs;
    for (const auto& taker : all) taker->Stop();
    Until("all takers stopped", [&] { return taken.ended.load(std::memory_order_acquire) == takers; });
    return herd;
  }

  const Servers servers_;
  const int http_port_;
  const Sizes sizes_;
  Load load_;
  const std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<wire::TransactionService::Stub> transactions_;
  Known known_;
  Ids ids_;
  // Kept for all that comes after.
  std::vector<std::unique_ptr<Watch>> watches_;
  std::vector<std::shared_ptr<grpc::Channel>> idle_;
  int queues_ = 0;
};

// As many as this user may have: each connection is one here and one in each server, which inherit it.
void RaiseDescriptors(int64_t wanted) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < static_cast<rlim_t>(wanted)) {
    Fail(absl::StrCat("this needs ", wanted, " descriptors and may have ", limit.rlim_max, ": raise ulimit -Hn"));
  }
}

int Main(int argc, char** argv) {
  CLI::App app{"Measures what many refs, watchers, connections and takers cost one stmd."};
  std::string stmd, directory = ".stmd", json, echo_address;
  std::vector<std::string> stmd_arguments, only;
  bool quick = false;
  Sizes sizes;
  app.add_option("--stmd", stmd, "The stmd to measure");
  app.add_option("--stmd-arg", stmd_arguments, "One more argument for it; may be repeated");
  app.add_option("--dir", directory, "Where to make its data directory")->capture_default_str();
  app.add_option("--json", json, "Writes the rows there as well");
  std::vector<std::string> groups;
  for (const Scale::Group& group : Scale::Groups()) groups.push_back(group.first);
  app.add_option("--only", only, "Only this group of rows; may be repeated")->check(CLI::IsMember(groups));
  app.add_option("--rounds", sizes.rounds, "Rounds of each rate")->capture_default_str();
  app.add_option("--seconds", sizes.seconds, "Seconds of one measurement in a round")->capture_default_str();
  app.add_flag("--quick", quick,
               "20,000 refs, 500 watchers, 100 connections and takers: does it run, not how much it takes");
  app.add_option("--serve-echo", echo_address, "Serves the null RPC there (the bench starts itself so)")->group("");
  CLI11_PARSE(app, argc, argv);
  if (!echo_address.empty()) return ServeEcho(echo_address);
  if (stmd.empty()) Fail("--stmd says where the stmd to measure is; tests/bench/run builds one and gives it");
  if (quick) sizes = Sizes{20000, 500, 100, 100, 200, 5, 0.1};
  RaiseDescriptors(4 * (sizes.connections + 100));

  const std::string data = MakeDirectory(directory), log = data + "/bench.log";
  Servers servers;
  servers.echo_address = absl::StrCat("127.0.0.1:", FreePort());
  Child echo({OwnPath(), "--serve-echo", servers.echo_address}, log);
  servers.echo_pid = echo.pid();
  servers.stmd_address = absl::StrCat("127.0.0.1:", FreePort());
  const int http_port = FreePort();
  std::vector<std::string> command = {stmd,
                                      "--data-dir",
                                      data + "/store",
                                      "--listen",
                                      servers.stmd_address,
                                      "--http",
                                      absl::StrCat("127.0.0.1:", http_port)};
  command.insert(command.end(), kSettings.begin(), kSettings.end());
  command.insert(command.end(), stmd_arguments.begin(), stmd_arguments.end());
  Child daemon(command, log);
  servers.stmd_pid = daemon.pid();
  std::fprintf(stderr, "scale: stmd pid %d, its log %s\n", daemon.pid(), log.c_str());
  WaitReady(servers.stmd_address, &daemon, 60);
  const std::vector<Row> rows = Scale(servers, http_port, sizes).Run(only);
  daemon.Stop(SIGTERM);
  if (daemon.exit_reason() != "exit code 0")
    Fail("stmd did not stop cleanly: " + daemon.exit_reason() + "; see " + log);

  RemoveDirectory(data);
  return Show(rows, json);
}

}  // namespace
}  // namespace stm::bench

int main(int argc, char** argv) { return stm::bench::Main(argc, argv); }
