// Programs that take locks through three daemons over three servers of ZooKeeper, while they are killed and
// stand still themselves, and while daemons, servers and networks go: what they believed is judged against
// the log by tests/checkers.
//   bazel test //tests/e2e/cluster:lock_weather_test
//   SECONDS=1800 SEED=7 bazel run //tests/e2e/cluster:lock_weather_test
// HISTORY=FILE keeps what all saw, for tests/checkers:check.
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "stm/client.h"
#include "tests/checkers/checker.h"
#include "tests/checkers/lock_checker.h"
#include "tests/e2e/cluster/log_reader.h"
#include "tests/e2e/cluster/site.h"
#include "tests/e2e/cluster/weather.h"
#include "tests/e2e/kill/caller.h"
#include "tests/setting.h"

namespace stm::e2e {
namespace {

constexpr int64_t kSeconds = 45;
constexpr size_t kUsers = 6;
// Each of these, once all is well again: nobody waits for what nobody gives back.
constexpr size_t kTurnsAfterwards = 5;
constexpr std::string_view kBeliefLine = ":op :belief";

// Programs, each once: who is killed is replaced by another, under another number.
class Users {
 public:
  Users(std::vector<std::string> addresses, uint64_t seed) : addresses_(std::move(addresses)), random_(seed) {
    for (size_t i = 0; i < kUsers; ++i) live_.push_back(Start());
  }

  void KillOne() {
    const size_t which = random_() % live_.size();
    Process& user = *started_[live_[which]];
    user.Signal(SIGKILL);
    user.AwaitExit();
    live_[which] = Start();
  }
  void FreezeOne() {
    frozen_ = live_[random_() % live_.size()];
    started_[*frozen_]->Signal(SIGSTOP);
  }
  void Thaw() {
    if (frozen_) started_[*std::exchange(frozen_, std::nullopt)]->Signal(SIGCONT);
  }

  // Each takes locks so many times more.
  bool AwaitTurns(size_t turns) {
    std::map<size_t, size_t> before;
    for (const size_t user : live_) before[user] = Looks(user);
    return Eventually([&] {
      return std::all_of(live_.begin(), live_.end(),
                         [&](size_t user) { return Looks(user) >= before[user] + turns; });
    });
  }
  // In order: all close their sessions. False: one failed.
  bool Stop() {
    for (const size_t user : live_) started_[user]->Signal(SIGTERM);
    bool all = true;
    for (const size_t user : live_) all = started_[user]->AwaitExit() == 0 && all;
    return all;
  }

  absl::Status AddHistory(check::History* history) const {
    for (const auto& user : started_) {
      for (const absl::string_view line : absl::StrSplit(user->said(), '\n')) {
        if (line.empty() || line.front() == ';') continue;
        if (absl::Status status = check::AddEdnLine({line.data(), line.size()}, history, nullptr);
            !status.ok())
          return status;
      }
    }
    return absl::OkStatus();
  }
  size_t started() const { return started_.size(); }
  // What they were told beside, by how often.
  std::map<std::string, int64_t> Told() const {
    std::map<std::string, int64_t> told;
    for (const auto& user : started_) {
      for (const absl::string_view line : absl::StrSplit(user->said(), '\n')) {
        if (!line.empty() && line.front() == ';') ++told[std::string(line.substr(0, 60))];
      }
    }
    return told;
  }

 private:
  size_t Start() {
    const size_t number = started_.size();
    std::vector<std::string> turned = addresses_;
    std::rotate(turned.begin(), turned.begin() + static_cast<int64_t>(number % turned.size()), turned.end());
    started_.push_back(std::make_unique<Process>(
        std::vector<std::string>{Runfile("tests/e2e/cluster/lock_user"), absl::StrCat(number),
                                 absl::StrCat(random_()), absl::StrJoin(turned, ",")}));
    return number;
  }
  size_t Looks(size_t user) const {
    const std::string said = started_[user]->said();
    size_t count = 0;
    for (size_t at = said.find(kBeliefLine); at != std::string::npos; at = said.find(kBeliefLine, at + 1))
      ++count;
    return count;
  }

  const std::vector<std::string> addresses_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Process>> started_;
  std::vector<size_t> live_;
  std::optional<size_t> frozen_;
};

// No commit is before the moment that its daemon gave it, nor before one in front of it: by the clock of all.
void TakeTimes(const check::Log& log, check::History* history) {
  const check::Time ahead = Clock() - absl::GetCurrentTimeNanos();
  check::Time latest = 0;
  for (const check::LogCommit& commit : log) {
    if (commit.at) latest = std::max(latest, commit.at->seconds * 1'000'000'000 + commit.at->nanos + ahead);
    history->installed[commit.version][1] = latest;
  }
}

// Whoever holds alone, as the log has it, is said to have believed in it until another was granted it and for
// ever; and a commit to have named the token before the one it had: both must be found.
void CheckThatChangesAreFound(check::History history, const check::Log& log) {
  const auto alone = [](const check::Belief& belief) { return belief.mode == check::LockMode::kExclusive; };
  const auto belief = std::find_if(history.beliefs.begin(), history.beliefs.end(), alone);
  REQUIRE(belief != history.beliefs.end());
  belief->until = check::kNever;
  REQUIRE(history.transactions.size() > 10);
  --history.transactions[history.transactions.size() / 2].fences.front().token;
  const std::vector<check::Violation> violations = check::CheckLocks(history, log);
  for (const check::Rule rule : {check::Rule::kBelief, check::Rule::kFence}) {
    INFO(check::RuleName(rule));
    CHECK(
        std::any_of(violations.begin(), violations.end(), [&](const auto& one) { return one.rule == rule; }));
  }
}

TEST_CASE(
    "lock weather: no two believe in one lock, no commit goes through under a grant that is over, and nobody "
    "waits for "
    "ever") {
  if (const std::string why = zookeeper::WhyNoServers(); !why.empty()) {
    std::printf("SKIPPED lock weather: there is no ZooKeeper here: %s", why.c_str());
    return;
  }
  const int64_t seconds = Setting("SECONDS", kSeconds);
  const auto seed = static_cast<uint64_t>(Setting("SEED", static_cast<int64_t>(std::random_device()() | 1U)));
  std::printf("lock weather: SEED=%llu, %lld s\n", static_cast<unsigned long long>(seed),
              static_cast<long long>(seconds));
  std::fflush(stdout);
  Site site;
  if (!site.Start()) FAIL(site.ensemble().said() << site.said());
  LogReader log_reader(site.store());
  Users users(site.addresses(), seed);
  INFO("told: " << absl::StrJoin(users.Told(), "\n", absl::PairFormatter(": ")));
  REQUIRE(users.AwaitTurns(1));

  Weather weather(&site, seed);
  std::mt19937_64 random(seed);
  std::map<std::string, int64_t> faults;
  const check::Time until = Clock() + seconds * 1'000'000'000;
  while (Clock() < until) {
    switch (random() % 6) {
      case 0:
      case 1:
        ++faults["holder killed"];
        users.KillOne();
        break;
      case 2:
      case 3:
        ++faults["holder stood still"];
        users.FreezeOne();
        break;
      case 4:
        ++faults["all daemons killed and started again at once"];
        for (int daemon = 0; daemon < kDaemons; ++daemon) site.KillDaemon(daemon);
        for (int daemon = 0; daemon < kDaemons; ++daemon) site.StartDaemon(daemon);
        break;
      default:
        break;
    }
    weather.Episode();
    weather.Calm();
    users.Thaw();
    REQUIRE(site.EndedByThemselves().empty());
  }
  const bool all_had_turns = users.AwaitTurns(kTurnsAfterwards);
  const bool all_ended_well = users.Stop();
  INFO("told: " << absl::StrJoin(users.Told(), "\n", absl::PairFormatter(": ")));
  CHECK(all_had_turns);
  CHECK(all_ended_well);

  // Who was killed has no session and no lock any more.
  for (const std::string& address : site.addresses()) {
    ConnectOptions options;
    options.address = address;
    options.unavailable_timeout = kPatience;
    absl::StatusOr<Client> client = Connect(options);
    REQUIRE(client.ok());
    CHECK(Eventually([&] {
      const auto sessions = client->Sessions();
      return sessions.ok() && sessions->empty();
    }));
    CHECK(Eventually([&] {
      const auto locks = client->Locks("/");
      return locks.ok() && std::all_of(locks->begin(), locks->end(), [](const LockInfo& lock) {
               return lock.holders.empty() && lock.queue.empty();
             });
    }));
  }
  absl::StatusOr<check::Log> log = log_reader.Finish();
  INFO(log.status());
  REQUIRE(log.ok());
  check::History history;
  const absl::Status added = users.AddHistory(&history);
  INFO(added);
  REQUIRE(added.ok());
  history.whole = false;
  TakeTimes(*log, &history);
  if (const char* file = getenv("HISTORY")) std::ofstream(file) << check::ToEdnText(history, *log);

  for (const auto& [kind, times] : weather.faults()) faults[kind] += times;
  std::string figures;
  for (const auto& [kind, times] : faults) absl::StrAppend(&figures, "  ", times, " ", kind, "\n");
  for (const auto& [told, times] : users.Told()) absl::StrAppend(&figures, "  told ", times, " ", told, "\n");
  std::printf(
      "lock weather: SEED=%llu:\n%slock weather: %zu programs, %zu looks at what they believed, %zu commits "
      "under a fence, "
      "%zu commits in the log\n",
      static_cast<unsigned long long>(seed), figures.c_str(), users.started(), history.beliefs.size(),
      history.transactions.size(), log->size());
  std::fflush(stdout);
  const std::vector<check::Violation> violations = check::CheckLocks(history, *log);
  INFO(check::ToString(violations));
  CHECK(violations.empty());
  CHECK(history.transactions.size() > 100);
  CheckThatChangesAreFound(std::move(history), *log);
}

}  // namespace
}  // namespace stm::e2e
