// Real daemons over real servers of ZooKeeper in bad weather, under clients that resend through another
// daemon and go on at another when theirs is gone: what they were told is judged against the log by
// tests/checkers.
//   bazel test //tests/e2e/cluster:weather_test
//   SECONDS=1800 SEED=7 bazel run //tests/e2e/cluster:weather_test -- 'weather:*'
// HISTORY=FILE keeps what all were told, for tests/checkers:check.
#include "tests/e2e/cluster/weather.h"

#include <grpcpp/grpcpp.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "tests/checkers/checker.h"
#include "tests/e2e/cluster/log_reader.h"
#include "tests/e2e/cluster/mixed.h"
#include "tests/e2e/cluster/site.h"
#include "tests/e2e/kill/watcher.h"
#include "tests/setting.h"

namespace stm::e2e {
namespace {

constexpr int64_t kSeconds = 100;
constexpr int kClients = 12;
constexpr int64_t kImpatientOneIn = 60;
constexpr std::chrono::milliseconds kCallTimeout(1000);
constexpr std::chrono::milliseconds kStreamMax(3000);
constexpr int64_t kAnswersBetweenEpisodes = 30;
// A client that was of a daemon notices its end this late at most.
constexpr check::Time kNoticedNs = 1'000'000'000;

// False, after a line that says so: there can be no servers here.
bool HasZooKeeper() {
  const std::string why = zookeeper::WhyNoServers();
  if (!why.empty()) std::printf("SKIPPED weather: there is no ZooKeeper here: %s", why.c_str());
  return why.empty();
}

Caller::Options CallerOf(int64_t number, std::vector<std::string> addresses, uint64_t seed,
                         Answers* answers) {
  Caller::Options options;
  options.number = number;
  options.addresses = std::move(addresses);
  options.seed = seed;
  options.answers = answers;
  options.call_timeout = kCallTimeout;
  return options;
}

// All addresses, beginning with one of them.
std::vector<std::string> From(const std::vector<std::string>& addresses, int first) {
  std::vector<std::string> turned(addresses.begin() + first % kDaemons, addresses.end());
  turned.insert(turned.end(), addresses.begin(), addresses.begin() + first % kDaemons);
  return turned;
}

void MoveInto(check::History&& part, check::History* whole) {
  std::move(part.transactions.begin(), part.transactions.end(), std::back_inserter(whole->transactions));
  std::move(part.reads.begin(), part.reads.end(), std::back_inserter(whole->reads));
}

enum class At : uint8_t { kNewest, kStale };

double Seconds(check::Time from, check::Time to) { return static_cast<double>(to - from) / 1e9; }

// One answer and one step of a watch are changed, and one acknowledged commit is taken out of the log: each
// must be found.
void CheckThatChangesAreFound(check::History history, check::Log log) {
  std::vector<check::Transaction*> committed;
  for (check::Transaction& transaction : history.transactions) {
    if (!transaction.answers.empty() &&
        transaction.answers.back().verdict == check::Answer::Verdict::kCommitted) {
      committed.push_back(&transaction);
    }
  }
  REQUIRE(committed.size() > 10);
  check::Answer& told = committed[committed.size() / 3]->answers.back();
  told = check::Answer{check::Answer::Verdict::kNotCommitted, told.at};
  const check::Version lost = committed[committed.size() / 2]->answers.back().version;
  log.erase(std::find_if(log.begin(), log.end(), [&](const auto& commit) { return commit.version == lost; }));
  std::vector<check::WatchStep>& steps = history.watches.front().steps;
  const auto commit_step = [](const check::WatchStep& step) {
    return step.kind == check::WatchStep::Kind::kCommit;
  };
  steps.erase(std::find_if(steps.begin() + static_cast<int64_t>(steps.size() / 4), steps.end(), commit_step));
  const std::vector<check::Violation> violations = check::Check(history, log);
  for (const check::Rule rule : {check::Rule::kFalseRefusal, check::Rule::kLostCommit, check::Rule::kWatch}) {
    INFO(check::RuleName(rule));
    CHECK(
        std::any_of(violations.begin(), violations.end(), [&](const auto& one) { return one.rule == rule; }));
  }
}

// From a daemon's kill until each of its clients was served again, at the longest.
struct AfterKills {
  int64_t clients = 0;
  double longest = 0;
};

AfterKills Longest(const Weather& weather, bool alone,
                   const std::vector<std::vector<Caller::Outage>>& outages) {
  AfterKills after;
  for (const Weather::Kill& kill : weather.kills()) {
    if (kill.alone != alone) continue;
    for (int client = 0; client < kClients; ++client) {
      for (const Caller::Outage& outage : outages[static_cast<size_t>(client)]) {
        const size_t daemon = (outage.daemon + static_cast<size_t>(client)) % kDaemons;
        if (daemon != kill.daemon || outage.from < kill.at || outage.from > kill.at + kNoticedNs) continue;
        ++after.clients;
        after.longest = std::max(after.longest, Seconds(kill.at, outage.to));
        break;
      }
    }
  }
  return after;
}

TEST_CASE(
    "weather: no acknowledged commit is lost, none is applied twice, and no daemon needs a restart by hand") {
  if (!HasZooKeeper()) return;
  const int64_t seconds = Setting("SECONDS", kSeconds);
  const auto seed = static_cast<uint64_t>(Setting("SEED", static_cast<int64_t>(std::random_device()() | 1U)));
  std::printf("weather: SEED=%llu, %lld s\n", static_cast<unsigned long long>(seed),
              static_cast<long long>(seconds));
  std::fflush(stdout);
  const std::string no_network = Network::Enter();
  if (!no_network.empty()) {
    std::printf("SKIPPED weather: cuts of the network: this machine does not allow them: %s\n",
                no_network.c_str());
  }
  Site site;
  if (!site.Start()) FAIL(site.ensemble().said() << site.said());

  Answers answers;
  Mixed first(CallerOf(-1, site.addresses(), seed, &answers));
  REQUIRE(first.Prepare());
  LogReader log_reader(site.store());
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (const std::vector<std::string>& prefixes :
       std::vector<std::vector<std::string>>{{}, {"/counter/", "/queue/"}, {"/made/"}}) {
    const auto number = static_cast<int>(watchers.size());
    watchers.push_back(std::make_unique<Watcher>(
        Watcher::Options{1000 + number, From(site.addresses(), number), prefixes, kStreamMax}));
  }
  std::atomic<bool> stop{false};
  std::atomic<int> gave_up{0};
  std::vector<std::unique_ptr<Mixed>> clients;
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i) {
    Caller::Options options =
        CallerOf(i, From(site.addresses(), i), seed + 1 + static_cast<uint64_t>(i), &answers);
    options.impatient_one_in = kImpatientOneIn;
    clients.push_back(std::make_unique<Mixed>(options));
    threads.emplace_back([&, client = clients.back().get()] {
      if (client->Run(stop)) return;
      ++gave_up;
      answers.GiveUp();
    });
  }

  Weather weather(&site, seed);
  const check::Time until = Clock() + seconds * 1'000'000'000;
  bool going = answers.AwaitMore(kAnswersBetweenEpisodes);
  int64_t episodes = 0;
  std::string ended;
  while (going && ended.empty() && Clock() < until) {
    weather.Episode();
    going = answers.AwaitMore(kAnswersBetweenEpisodes);
    ended = site.EndedByThemselves();
    weather.Calm();
    ++episodes;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  INFO("ended by itself: " << ended << "\nall said: " << site.said());
  CHECK(ended.empty());
  REQUIRE((going && gave_up == 0));

  // Through each daemon alone: commits go through again, and all show the same.
  check::History history;
  for (int daemon = 1; daemon <= kDaemons; ++daemon) history.starts.push_back({daemon, 0, daemon});
  std::vector<check::Read> last;
  for (int daemon = 0; daemon < kDaemons; ++daemon) {
    Mixed alone(CallerOf(kClients + daemon, {site.addresses()[daemon]},
                         seed + 100 + static_cast<uint64_t>(daemon), &answers));
    INFO("daemon " << daemon);
    REQUIRE(alone.CommitOne());
    MoveInto(std::move(alone.history()), &history);
  }
  for (int daemon = 0; daemon < kDaemons; ++daemon) {
    Mixed alone(CallerOf(kClients + kDaemons + daemon, {site.addresses()[daemon]}, seed, &answers));
    INFO("daemon " << daemon);
    REQUIRE(alone.ReadAll());
    last.push_back(alone.history().reads.back());
    MoveInto(std::move(alone.history()), &history);
  }
  for (const check::Read& read : last) {
    CHECK(read.snapshot == last.front().snapshot);
    CHECK(read.entries.size() == last.front().entries.size());
    CHECK(std::equal(read.entries.begin(), read.entries.end(), last.front().entries.begin(),
                     last.front().entries.end(), [](const check::Entry& a, const check::Entry& b) {
                       return a.name == b.name && a.version == b.version && a.value == b.value;
                     }));
  }
  int64_t resumed = 0;
  for (const auto& watcher : watchers) {
    const bool saw_all = watcher->SawUpTo(last.front().snapshot);
    watcher->Stop();
    CHECK(saw_all);
    watcher->watch().complete_to = last.front().snapshot;
    resumed += watcher->resumed();
    history.watches.push_back(std::move(watcher->watch()));
  }
  absl::StatusOr<check::Log> log = log_reader.Finish();
  INFO(log.status());
  REQUIRE(log.ok());

  Caller::Figures sum;
  std::vector<std::vector<Caller::Outage>> outages;
  double longest_outage = 0;
  for (const auto& client : clients) {
    const Caller::Figures& figures = client->figures();
    sum.committed += figures.committed;
    sum.conflicts += figures.conflicts;
    sum.refused += figures.refused;
    sum.resends += figures.resends;
    sum.resends_committed += figures.resends_committed;
    sum.resends_not_committed += figures.resends_not_committed;
    sum.resends_refused += figures.resends_refused;
    for (const Caller::Outage& outage : client->outages()) {
      longest_outage = std::max(longest_outage, Seconds(outage.from, outage.to));
    }
    outages.push_back(client->outages());
    MoveInto(std::move(client->history()), &history);
  }
  MoveInto(std::move(first.history()), &history);
  if (const char* file = getenv("HISTORY")) std::ofstream(file) << check::ToEdnText(history, *log);

  std::string faults;
  for (const auto& [kind, times] : weather.faults()) absl::StrAppend(&faults, "  ", times, " ", kind, "\n");
  std::printf(
      "weather: SEED=%llu: %lld episodes of faults:\n%s"
      "weather: %zu commits in the log, %lld acknowledged, %lld conflicts, %lld refused, %zu reads\n"
      "weather: %lld resends: %lld had committed, %lld had not, %lld told another verdict\n"
      "weather: %lld sessions with ZooKeeper expired, watches resumed %lld times\n"
      "weather: longest outage of a client %.2f s\n",
      static_cast<unsigned long long>(seed), static_cast<long long>(episodes), faults.c_str(), log->size(),
      static_cast<long long>(sum.committed), static_cast<long long>(sum.conflicts),
      static_cast<long long>(sum.refused), history.reads.size(), static_cast<long long>(sum.resends),
      static_cast<long long>(sum.resends_committed), static_cast<long long>(sum.resends_not_committed),
      static_cast<long long>(sum.resends_refused),
      static_cast<long long>(site.CountSaid("zookeeper_session_expired")), static_cast<long long>(resumed),
      longest_outage);
  for (const bool alone : {true, false}) {
    const AfterKills after = Longest(weather, alone, outages);
    std::printf("weather: after a daemon's kill%s %lld clients were served again within %.2f s\n",
                alone ? " alone" : " among other faults", static_cast<long long>(after.clients),
                after.longest);
  }
  std::fflush(stdout);

  const std::vector<check::Violation> violations = check::Check(history, *log);
  INFO(check::ToString(violations));
  CHECK(violations.empty());
  CHECK(sum.committed > 100);
  CheckThatChangesAreFound(std::move(history), *std::move(log));
}

// One call, sent once.
struct Asked {
  v1::GetRefsResponse response;
  grpc::Status status;
};

Asked Get(v1::RefService::Stub* refs, const std::string& name, At at) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
  v1::GetRefsRequest request;
  request.add_names(name);
  if (at == At::kStale) request.mutable_at()->set_stale(true);
  Asked asked;
  asked.status = refs->GetRefs(&context, request, &asked.response);
  return asked;
}

grpc::Status Set(v1::TransactionService::Stub* transactions, const std::string& name, int64_t value) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
  v1::CommitRequest request;
  v1::Write* write = request.add_writes();
  write->set_name(name);
  write->mutable_set()->set_integer(value);
  v1::CommitResponse response;
  const grpc::Status status = transactions->Commit(&context, request, &response);
  if (status.ok() && !response.has_committed())
    return {grpc::StatusCode::ABORTED, response.ShortDebugString()};
  return status;
}

bool IsAway(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
}

TEST_CASE(
    "weather: a daemon in a minority answers no linearizable read and no commit, and goes on once it is "
    "joined") {
  if (!HasZooKeeper()) return;
  if (const std::string why = Network::Enter(); !why.empty()) {
    std::printf("SKIPPED weather: a daemon in a minority: this machine does not allow cuts: %s\n",
                why.c_str());
    return;
  }
  constexpr int kRounds = 10;
  Site site;
  if (!site.Start()) FAIL(site.ensemble().said() << site.said());
  const std::string& lonely = site.addresses()[0];
  const std::shared_ptr<grpc::Channel> there = Dial(lonely);
  const std::shared_ptr<grpc::Channel> elsewhere = Dial(site.addresses()[1]);
  const auto refs = v1::RefService::NewStub(there);
  const auto transactions = v1::TransactionService::NewStub(there);
  const auto others_refs = v1::RefService::NewStub(elsewhere);
  const auto others = v1::TransactionService::NewStub(elsewhere);
  int64_t value = 0;
  for (const bool leads : {true, false}) {
    INFO((leads ? "with the server that led" : "with a server that followed"));
    const std::optional<int> leader = site.ensemble().AwaitLeader();
    REQUIRE(leader);
    const int server = leads ? *leader : *leader % kServers + 1;
    REQUIRE(Eventually([&] { return Set(others.get(), "/a", ++value).ok(); }));
    REQUIRE(Eventually([&] {
      const Asked got = Get(refs.get(), "/a", At::kNewest);
      return got.status.ok() && got.response.entries(0).value().integer() == value;
    }));
    // The daemon and one server here; the others and theirs there.
    for (int other = 1; other <= kServers; ++other) {
      if (other == server) continue;
      site.network().Cut(Site::HostOfServer(server), Site::HostOfServer(other));
      site.network().Cut(Site::HostOfDaemon(0), Site::HostOfServer(other));
    }
    for (int daemon = 1; daemon < kDaemons; ++daemon) {
      site.network().Cut(Site::HostOfServer(server), Site::HostOfDaemon(daemon));
    }
    const int64_t before = value;
    REQUIRE(Eventually([&] { return Set(others.get(), "/a", ++value).ok(); }));
    int64_t stale = 0;
    for (int round = 0; round < kRounds; ++round) {
      // It goes on there, and here nobody is told what was before.
      REQUIRE(Eventually([&] { return Set(others.get(), "/a", ++value).ok(); }));
      const Asked got = Get(refs.get(), "/a", At::kNewest);
      INFO("round " << round << ": " << got.status.error_message() << got.response.ShortDebugString());
      CHECK(IsAway(got.status));
      const grpc::Status set = Set(transactions.get(), "/lonely", value);
      INFO(set.error_message());
      CHECK(IsAway(set));
      if (round % 5 != 0) continue;
      const Asked by_name = Get(refs.get(), "/a", At::kStale);
      if (!by_name.status.ok()) continue;
      ++stale;
      CHECK(by_name.response.entries(0).value().integer() <= value);
      CHECK(by_name.response.entries(0).value().integer() >= 1);
    }
    std::printf(
        "weather: a daemon in a minority %s: %d reads and commits not answered, while %lld committed "
        "elsewhere; "
        "%lld of %d stale reads answered\n",
        leads ? "with the server that led" : "with one that followed", kRounds,
        static_cast<long long>(value - before), static_cast<long long>(stale), kRounds / 5);
    site.network().HealAll();
    REQUIRE(Eventually([&] { return Set(transactions.get(), "/a", value + 1).ok(); }));
    ++value;
    REQUIRE(Eventually([&] {
      const Asked got = Get(others_refs.get(), "/a", At::kNewest);
      return got.status.ok() && got.response.entries(0).value().integer() == value;
    }));
    const Asked here = Get(refs.get(), "/lonely", At::kNewest);
    const Asked elsewhere_too = Get(others_refs.get(), "/lonely", At::kNewest);
    REQUIRE((here.status.ok() && elsewhere_too.status.ok()));
    CHECK(here.response.entries(0).ShortDebugString() ==
          elsewhere_too.response.entries(0).ShortDebugString());
    CHECK(site.EndedByThemselves().empty());
  }
}

}  // namespace
}  // namespace stm::e2e
