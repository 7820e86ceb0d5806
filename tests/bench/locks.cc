// What locks and sessions cost on one daemon, beside one durable commit of the same daemon. Rounds as in
// bench.cc. What 10,000 sessions and 10,000 waiters cost is measured in fewer rounds, since each takes a
// while.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "stm/v1/lock_service.grpc.pb.h"
#include "stm/v1/session_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "tests/bench/call.h"
#include "tests/bench/caller.h"
#include "tests/bench/echo.grpc.pb.h"
#include "tests/bench/echo_server.h"
#include "tests/bench/group.h"
#include "tests/bench/load.h"
#include "tests/bench/measure.h"
#include "tests/bench/measured_daemon.h"
#include "tests/bench/process.h"

namespace stm::bench {
namespace {

constexpr int kCallers = 64;
constexpr int kMany = 10000;
constexpr int kFew = 100;
constexpr int kManyRounds = 3;
constexpr int kHandOvers = 40;
constexpr int kOpeners = 16;
// Of sessions that are not kept: the longest that a daemon grants.
constexpr int kUnkeptTtlSeconds = 600;
// The daemon's default, and how often a client beats in it.
constexpr int kKeptTtlSeconds = 15;
constexpr double kBeatSeconds = kKeptTtlSeconds / 3.0;
constexpr double kKeptSeconds = 2 * kBeatSeconds;
// What 10,000 sessions may take of a core, and the CPU of a grant with 10,000 waiters of one with 100.
constexpr double kKeptCoresMax = 0.05;
constexpr double kHerdMax = 1.5;
// A beat's CPU, of a null stream's message.
constexpr double kBeatMax = 1.5;
// About what a beat and its answer are on the wire.
constexpr size_t kBeatBytes = 48;

struct Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : locks(wire::LockService::NewStub(channel)),
        sessions(wire::SessionService::NewStub(channel)),
        transactions(wire::TransactionService::NewStub(channel)) {}

  std::unique_ptr<wire::LockService::Stub> locks;
  std::unique_ptr<wire::SessionService::Stub> sessions;
  std::unique_ptr<wire::TransactionService::Stub> transactions;
};

// One session's calls on one lock, one at a time. Any outcome but the expected one ends the bench.
class Locker {
 public:
  Locker(Stubs* stubs, Known* known, const std::string& lock, const std::string& session)
      : stubs_(*stubs), known_(*known) {
    acquire_.set_name(lock);
    acquire_.set_session_id(session);
    release_.set_name(lock);
    release_.set_session_id(session);
  }

  template <typename Then>
  void Acquire(Then then) {
    Ready(&context_);
    // It may be the last of 10,000.
    context_->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(kUnkeptTtlSeconds));
    ids_.Next(known_, acquire_.mutable_id());
    stubs_.locks->async()->AcquireLock(&*context_, &acquire_, &acquired_,
                                       [this, then](const grpc::Status& status) {
                                         CheckOk(status, "AcquireLock");
                                         if (acquired_.outcome() != wire::LOCK_OUTCOME_GRANTED)
                                           Fail("AcquireLock: " + acquired_.ShortDebugString());
                                         then();
                                       });
  }

  template <typename Then>
  void Release(Then then) {
    Ready(&context_);
    ids_.Next(known_, release_.mutable_id());
    release_.set_token(acquired_.token());
    stubs_.locks->async()->ReleaseLock(&*context_, &release_, &released_,
                                       [this, then](const grpc::Status& status) {
                                         CheckOk(status, "ReleaseLock");
                                         if (released_.outcome() != wire::LOCK_OUTCOME_RELEASED)
                                           Fail("ReleaseLock: " + released_.ShortDebugString());
                                         then();
                                       });
  }

  int64_t token() const { return acquired_.token(); }
  const std::string& session() const { return acquire_.session_id(); }

 private:
  Stubs& stubs_;
  Known& known_;
  Ids ids_;
  std::optional<grpc::ClientContext> context_;
  wire::AcquireLockRequest acquire_;
  wire::AcquireLockResponse acquired_;
  wire::ReleaseLockRequest release_;
  wire::ReleaseLockResponse released_;
};

// A lock of its own, taken and given back.
class LockCaller final : public Caller {
 public:
  LockCaller(Stubs* stubs, Known* known, int index, const std::string& session)
      : locker_(stubs, known, "/bench/locks/" + std::to_string(index), session) {}

  void Begin() override {
    began_ = Now();
    locker_.Acquire([this] { locker_.Release([this] { Ended(began_); }); });
  }

 private:
  Locker locker_;
  double began_ = 0;
};

// Two writes of 100 bytes to names of its own, with the fence of a lock that it holds or without.
class FencedCaller final : public Caller {
 public:
  FencedCaller(Stubs* stubs, Known* known, int index, const std::string& session, bool fenced)
      : stubs_(*stubs), known_(*known) {
    const std::string name = "/bench/fenced/" + std::to_string(index);
    for (const char* key : {"/a", "/b"}) {
      wire::Write* write = request_.add_writes();
      write->set_name(name + key);
      write->set_kind(wire::ENTRY_KIND_REF);
      write->mutable_set()->set_text(std::string(kValueBytes, 'f'));
    }
    if (!fenced) return;
    Locker locker(stubs, known, name + "/lock", session);
    std::atomic<bool> held{false};
    locker.Acquire([&] { held = true; });
    Until("a free lock held", [&] { return held.load(); });
    request_.add_fences()->set_lock(name + "/lock");
    request_.mutable_fences(0)->set_token(locker.token());
  }

  void Begin() override {
    Ready(&context_);
    ids_.Next(known_, request_.mutable_id());
    began_ = Now();
    stubs_.transactions->async()->Commit(&*context_, &request_, &response_,
                                         [this](const grpc::Status& status) {
                                           CheckOk(status, "Commit");
                                           known_.Learn(VersionOf(response_, "fenced"));
                                           Ended(began_);
                                         });
  }

 private:
  Stubs& stubs_;
  Known& known_;
  Ids ids_;
  std::optional<grpc::ClientContext> context_;
  wire::CommitRequest request_;
  wire::CommitResponse response_;
  double began_ = 0;
};

// A stream on which a message is sent when it is told to, each of which is answered. Lives until it ended.
template <typename Request, typename Response>
class Beater : public grpc::ClientBidiReactor<Request, Response> {
 public:
  // The one before has been answered.
  virtual void Beat() { this->StartWrite(&request_); }
  void End() { context_.TryCancel(); }
  bool ended() const { return ended_.load(std::memory_order_acquire); }

 protected:
  explicit Beater(std::atomic<int64_t>* answers) : answers_(answers) {}
  void Start() {
    this->StartRead(&response_);
    this->StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    answers_->fetch_add(1);
    this->StartRead(&response_);
  }
  void OnDone(const grpc::Status&) override { ended_.store(true, std::memory_order_release); }

  grpc::ClientContext context_;
  Request request_;
  Response response_;

 private:
  std::atomic<int64_t>* answers_;
  std::atomic<bool> ended_{false};
};

class SessionBeater final : public Beater<wire::KeepAliveRequest, wire::KeepAliveResponse> {
 public:
  SessionBeater(Stubs* stubs, const Known& known, const std::string& session, std::atomic<int64_t>* answers)
      : Beater(answers) {
    request_.set_session_id(session);
    request_.mutable_seen()->set_store(known.store);
    stubs->sessions->async()->KeepAlive(&context_, this);
    Start();
  }
  void Beat() override {
    request_.set_beat(request_.beat() + 1);
    Beater::Beat();
  }

 private:
  void OnReadDone(bool ok) override {
    if (ok && response_.expired()) Fail("a session that was kept expired: " + response_.ShortDebugString());
    Beater::OnReadDone(ok);
  }
};

// A stream of the null RPC's server, with messages of a beat's size.
class NullBeater final : public Beater<v1::EchoRequest, v1::EchoResponse> {
 public:
  NullBeater(v1::EchoService::Stub* echo, std::atomic<int64_t>* answers) : Beater(answers) {
    request_.set_payload(std::string(kBeatBytes, 'b'));
    echo->async()->Bounce(&context_, this);
    Start();
  }
};

class Bench {
 public:
  Bench(Load* load, const Servers& servers, double seconds)
      : load_(*load), servers_(servers), seconds_(seconds) {
    for (int i = 0; i < servers.channels; ++i) {
      channels_.push_back(MakeChannel(servers.stmd_address));
      stubs_.push_back(std::make_unique<Stubs>(channels_.back()));
      echoes_.push_back(v1::EchoService::NewStub(MakeChannel(servers.echo_address)));
    }
    known_.Ask(channels_[0]);
    const std::vector<std::string> sessions = Open(kCallers, kUnkeptTtlSeconds);
    for (int i = 0; i < kCallers; ++i) {
      Stubs* stubs = StubsOf(i);
      const std::string& session = sessions[static_cast<size_t>(i)];
      lockers_.push_back(std::make_unique<LockCaller>(stubs, &known_, i, session));
      fenced_.push_back(std::make_unique<FencedCaller>(stubs, &known_, i, session, true));
      unfenced_.push_back(std::make_unique<FencedCaller>(stubs, &known_, i, session, false));
    }
    for (int i = 0; i < 2; ++i) {
      contenders_.push_back(std::make_unique<Locker>(StubsOf(i), &known_, "/bench/contended",
                                                     sessions[static_cast<size_t>(i)]));
    }
  }

  void LockAlone(std::vector<Row>& rows) {
    rows[0].rounds.push_back(Against(
        load_, seconds_, [&] { return CommitMicros(); },
        [&] { return Median(ClosedLoop(lockers_, 1, servers_.stmd_pid, seconds_).latencies_us); }));
  }

  void Lock64(std::vector<Row>& rows) {
    rows[0].rounds.push_back(Against(
        load_, seconds_, [&] { return load_.Commit(kCallers, seconds_).rate; },
        [&] { return ClosedLoop(lockers_, kCallers, servers_.stmd_pid, seconds_).rate; }));
  }

  void HandOver(std::vector<Row>& rows) {
    rows[0].rounds.push_back(Against(
        load_, seconds_,
        [&] { return 2 * CommitMicros() + Median(load_.Null(1, seconds_ / 2).latencies_us); },
        [&] { return HandOverMicros(); }));
  }

  void Fenced(std::vector<Row>& rows) {
    rows[0].rounds.push_back(Against(
        load_, seconds_, [&] { return ClosedLoop(unfenced_, kCallers, servers_.stmd_pid, seconds_).rate; },
        [&] { return ClosedLoop(fenced_, kCallers, servers_.stmd_pid, seconds_).rate; }));
  }

  // rows: cores, cores against null streams, commits.
  void Sessions(std::vector<Row>& rows) {
    std::atomic<int64_t> null_answers{0}, answers{0};
    const Measured before = load_.Null(kGateCallers, seconds_);
    std::vector<std::unique_ptr<NullBeater>> nulls;
    for (int i = 0; i < kMany; ++i) {
      nulls.push_back(std::make_unique<NullBeater>(echoes_[static_cast<size_t>(i) % echoes_.size()].get(),
                                                   &null_answers));
    }
    const double null_cores = CoresOfBeats(nulls, servers_.echo_pid, null_answers);

    std::vector<std::unique_ptr<SessionBeater>> beaters;
    const std::vector<std::string> sessions = Open(kMany, kKeptTtlSeconds);
    for (const std::string& session : sessions) {
      beaters.push_back(std::make_unique<SessionBeater>(StubsOf(beaters.size()), known_, session, &answers));
    }
    const int64_t version = InstalledVersion(servers_.stmd_address);
    const double cores = CoresOfBeats(beaters, servers_.stmd_pid, answers);
    const auto commits = static_cast<double>(InstalledVersion(servers_.stmd_address) - version);
    const double gate = Mean(before.cores, load_.Null(kGateCallers, seconds_).cores);
    rows[0].rounds.push_back({cores, 1, cores, gate});
    rows[1].rounds.push_back({cores, null_cores, cores / null_cores, gate});
    rows[2].rounds.push_back({commits, kMany, commits / kMany, gate});
    // Else they expire while something else is measured.
    Close(sessions);
  }

  // rows: CPU a grant, commits a grant. A grant is one answer to the one who waited, and one to its release.
  void Waiters(std::vector<Row>& rows) {
    if (waiting_.empty()) waiting_ = Open(kMany + 1, kUnkeptTtlSeconds);
    const Measured before = load_.Null(kGateCallers, seconds_);
    const Grants few_before = DrainQueue(kFew), many = DrainQueue(kMany), few_after = DrainQueue(kFew);
    const Measured after = load_.Null(kGateCallers, seconds_);
    const double gate = Mean(before.cores, after.cores);
    const double few_us = Mean(few_before.cpu_us, few_after.cpu_us);
    rows[0].rounds.push_back({many.cpu_us, few_us, many.cpu_us / few_us, gate});
    const double few_commits = Mean(few_before.commits, few_after.commits);
    rows[1].rounds.push_back({many.commits, few_commits, many.commits / few_commits, gate});
  }

 private:
  struct Grants {
    double cpu_us = 0;   // of the daemon, a grant
    double commits = 0;  // a grant
  };

  template <typename Index>
  Stubs* StubsOf(Index i) {
    return stubs_[static_cast<size_t>(i) % stubs_.size()].get();
  }

  // Of the server whose they are, while all beat evenly, each every kBeatSeconds. They end.
  template <typename Beaters>
  static double CoresOfBeats(Beaters& beaters, pid_t server, const std::atomic<int64_t>& answers) {
    int64_t beats = 0;
    const auto beat_all = [&](double seconds) {
      const double from = Now();
      const auto count = static_cast<int64_t>(seconds / kBeatSeconds * kMany);
      for (int64_t i = 0; i < count; ++i) {
        const double due = from + static_cast<double>(i) * kBeatSeconds / kMany;
        if (Now() < due) SleepSeconds(due - Now());
        if (beats >= kMany) Until("a beat answered", [&] { return answers.load() > beats - kMany; });
        beaters[static_cast<size_t>(beats++ % kMany)]->Beat();
      }
    };
    beat_all(kBeatSeconds);
    const double cpu = CpuSeconds(server), from = Now();
    beat_all(kKeptSeconds);
    const double cores = (CpuSeconds(server) - cpu) / (Now() - from);
    Until("all beats answered", [&] { return answers.load() == beats; });
    for (const auto& beater : beaters) beater->End();
    for (const auto& beater : beaters) {
      Until("a stream ended", [&] { return beater->ended(); });
    }
    return cores;
  }

  double CommitMicros() { return Median(load_.Commit(1, seconds_).latencies_us); }

  // Calls each(stubs, ids, i) for all i below count, some at a time.
  template <typename Each>
  void ForAll(size_t count, const Each& each) {
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kOpeners; ++i) {
      threads.emplace_back([&, stubs = StubsOf(i)] {
        Ids ids;
        for (size_t at = next++; at < count; at = next++) each(*stubs, ids, at);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  std::vector<std::string> Open(size_t count, int ttl_seconds) {
    std::vector<std::string> sessions(count);
    ForAll(count, [&](Stubs& stubs, Ids& ids, size_t i) {
      wire::OpenSessionRequest request;
      ids.Next(known_, request.mutable_id());
      request.set_client("bench");
      request.mutable_ttl()->set_seconds(ttl_seconds);
      wire::OpenSessionResponse response;
      std::optional<grpc::ClientContext> context;
      Ready(&context);
      CheckOk(stubs.sessions->OpenSession(&*context, request, &response), "OpenSession");
      if (response.ttl().seconds() != ttl_seconds) Fail("OpenSession: " + response.ShortDebugString());
      sessions[i] = response.session_id();
    });
    return sessions;
  }

  void Close(const std::vector<std::string>& sessions) {
    ForAll(sessions.size(), [&](Stubs& stubs, Ids& ids, size_t i) {
      wire::CloseSessionRequest request;
      ids.Next(known_, request.mutable_id());
      request.set_session_id(sessions[i]);
      wire::CloseSessionResponse response;
      std::optional<grpc::ClientContext> context;
      Ready(&context);
      CheckOk(stubs.sessions->CloseSession(&*context, request, &response), "CloseSession");
    });
  }

  wire::Lock Lock(const std::string& name) {
    wire::GetLockRequest request;
    request.set_name(name);
    wire::GetLockResponse response;
    std::optional<grpc::ClientContext> context;
    Ready(&context);
    CheckOk(stubs_[0]->locks->GetLock(&*context, request, &response), "GetLock");
    return response.lock();
  }

  // From sending the release to the one who waits having its grant.
  double HandOverMicros() {
    std::vector<double> micros;
    std::atomic<bool> held{false};
    contenders_[0]->Acquire([&] { held = true; });
    Until("a free lock held", [&] { return held.load(); });
    for (size_t i = 0; i < kHandOvers; ++i) {
      Locker& holder = *contenders_[i % 2];
      std::atomic<bool> granted{false}, released{false};
      double granted_at = 0;
      contenders_[(i + 1) % 2]->Acquire([&] {
        granted_at = Now();
        granted.store(true, std::memory_order_release);
      });
      Until("one waits", [&] { return Lock("/bench/contended").queue_size() == 1; });
      const double from = Now();
      holder.Release([&] { released.store(true, std::memory_order_release); });
      Until("handed over", [&] {
        return granted.load(std::memory_order_acquire) && released.load(std::memory_order_acquire);
      });
      micros.push_back((granted_at - from) * 1e6);
    }
    std::atomic<bool> released{false};
    contenders_[kHandOvers % 2]->Release([&] { released = true; });
    Until("released", [&] { return released.load(); });
    return Median(micros);
  }

  // All wait for one lock; then each gives it back as soon as it has it. Grants come in the queue's order.
  Grants DrainQueue(int count) {
    const std::string name = "/bench/queue";
    std::vector<std::unique_ptr<Locker>> lockers;
    lockers.push_back(std::make_unique<Locker>(StubsOf(0), &known_, name, waiting_[0]));
    std::atomic<bool> held{false};
    lockers[0]->Acquire([&] { held = true; });
    Until("a free lock held", [&] { return held.load(); });
    std::atomic<int> done{0};
    const int64_t free_at = InstalledVersion(servers_.stmd_address);
    for (int i = 1; i <= count; ++i) {
      lockers.push_back(
          std::make_unique<Locker>(StubsOf(i), &known_, name, waiting_[static_cast<size_t>(i)]));
      Locker* locker = lockers.back().get();
      locker->Acquire([locker, &done] { locker->Release([&done] { ++done; }); });
    }
    // Each takes its place by a commit.
    int64_t version = 0;
    Until("all wait", [&] { return (version = InstalledVersion(servers_.stmd_address)) >= free_at + count; });
    const wire::Lock queued = Lock(name);  // the first 1,000
    if (queued.queue_size() != std::min(count, 1000))
      Fail("not all wait: " + std::to_string(queued.queue_size()));
    const double cpu = CpuSeconds(servers_.stmd_pid);
    lockers[0]->Release([&] { ++done; });
    Until("all have had it", [&] { return done.load() == count + 1; });
    const double cpu_us = (CpuSeconds(servers_.stmd_pid) - cpu) * 1e6 / count;
    const auto commits = static_cast<double>(InstalledVersion(servers_.stmd_address) - version);
    std::map<std::string, int64_t> tokens;
    for (size_t i = 1; i < lockers.size(); ++i) tokens[lockers[i]->session()] = lockers[i]->token();
    int64_t last = 0;
    for (const wire::LockHold& place : queued.queue()) {
      const int64_t token = tokens.at(place.session_id());
      if (token <= last) Fail("a lock was not granted in the queue's order: " + place.ShortDebugString());
      last = token;
    }
    return {cpu_us, commits / count};
  }

  Load& load_;
  const Servers servers_;
  const double seconds_;
  Known known_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::vector<std::unique_ptr<Stubs>> stubs_;
  std::vector<std::unique_ptr<v1::EchoService::Stub>> echoes_;
  std::vector<std::unique_ptr<LockCaller>> lockers_;
  std::vector<std::unique_ptr<FencedCaller>> fenced_, unfenced_;
  std::vector<std::unique_ptr<Locker>> contenders_;
  std::vector<std::string> waiting_;
};

std::vector<Group<Bench>> Groups() {
  const auto at_least = Bar::kAtLeast, at_most = Bar::kAtMost;
  std::vector<Group<Bench>> groups;
  groups.push_back({{{"lock_alone_p50", "us", "one commit's p50", at_most, 2.5, {}}},
                    [](Bench& b, auto& rows) { b.LockAlone(rows); }});
  groups.push_back({{{"lock_64", "1/s", "commit_unary, 64 callers", at_least, 0.4, {}}},
                    [](Bench& b, auto& rows) { b.Lock64(rows); }});
  groups.push_back({{{"lock_hand_over_p50", "us", "2 commits' p50 + null p50", at_most, 1, {}}},
                    [](Bench& b, auto& rows) { b.HandOver(rows); }});
  groups.push_back({{{"commit_fenced_64", "1/s", "the same without fences", at_least, 0.9, {}}},
                    [](Bench& b, auto& rows) { b.Fenced(rows); }});
  return groups;
}

std::vector<Group<Bench>> ManyGroups() {
  const auto at_most = Bar::kAtMost;
  std::vector<Group<Bench>> groups;
  groups.push_back({{{"sessions_10000", "cores", "one core", at_most, kKeptCoresMax, {}},
                     {"sessions_10000_null", "cores", "null streams' messages", at_most, kBeatMax, {}},
                     {"sessions_10000_commits", "commits", "sessions", at_most, 0, {}}},
                    [](Bench& b, auto& rows) { b.Sessions(rows); }});
  groups.push_back({{{"waiters_10000", "us/grant", "with 100 waiters", at_most, kHerdMax, {}},
                     {"waiters_10000_commits", "commits/grant", "with 100 waiters", at_most, 1.01, {}}},
                    [](Bench& b, auto& rows) { b.Waiters(rows); }});
  return groups;
}

int Main(int argc, char** argv) {
  CLI::App app{"Measures locks and sessions beside commits."};
  std::string stmd, directory = ".stmd", json, echo_address;
  std::vector<std::string> only;
  int rounds = 11;
  double seconds = 0.25;
  bool quick = false, list = false;
  app.add_option("--stmd", stmd, "The stmd to measure");
  app.add_option("--dir", directory, "Where to make its data directory: the disk that is measured")
      ->capture_default_str();
  app.add_option("--json", json, "Writes the rows there as well");
  app.add_option("--only", only, "Only rows whose name begins so; may be repeated");
  app.add_option("--rounds", rounds, "Rounds of each row; of 10,000 sessions and waiters, 3 at most")
      ->capture_default_str();
  app.add_option("--seconds", seconds, "Seconds of one measurement in a round")->capture_default_str();
  app.add_flag("--quick", quick, "1 round: does it run, not how fast");
  app.add_flag("--list", list, "Names the rows");
  app.add_option("--serve-echo", echo_address, "Serves the null RPC there (the bench starts itself so)")
      ->group("");
  CLI11_PARSE(app, argc, argv);
  if (!echo_address.empty()) return ServeEcho(echo_address);
  if (quick) rounds = 1;

  std::vector<Group<Bench>> groups, many;
  if (HasWanted(RowsOf(Groups()), only)) groups = Wanted(Groups(), only);
  if (HasWanted(RowsOf(ManyGroups()), only)) many = Wanted(ManyGroups(), only);
  if (groups.empty() && many.empty()) Fail("no row has a name that begins so; --list names them");
  if (list) {
    PrintNames(RowsOf(groups));
    PrintNames(RowsOf(many));
    return 0;
  }
  if (stmd.empty()) Fail("--stmd says where the stmd to measure is; tests/bench/run builds one and gives it");

  MeasuredDaemon daemon(stmd, directory);
  Servers servers = daemon.servers();
  servers.callers = kCallers;
  {
    Load load(servers);
    Bench bench(&load, servers, seconds);
    load.Null(kGateCallers, seconds);
    load.Commit(kCallers, 2 * seconds);
    for (int round = 0; round < rounds; ++round) {
      std::fprintf(stderr, "locks: round %d of %d\n", round + 1, rounds);
      for (Group<Bench>& group : groups) group.round(bench, group.rows);
      if (round >= kManyRounds) continue;
      for (Group<Bench>& group : many) group.round(bench, group.rows);
    }
  }
  daemon.Stop();

  std::vector<Row> rows = RowsOf(groups);
  for (Row& row : RowsOf(many)) rows.push_back(std::move(row));
  return Show(rows, json);
}

}  // namespace
}  // namespace stm::bench

int main(int argc, char** argv) { return stm::bench::Main(argc, argv); }
