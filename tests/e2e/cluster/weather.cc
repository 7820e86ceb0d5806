#include "tests/e2e/cluster/weather.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/e2e/kill/caller.h"

namespace stm::e2e {
namespace {

constexpr int64_t kFaultMsMin = 300;
constexpr int64_t kFaultMsMax = 5000;
constexpr int64_t kMajorityMsMax = 6000;
constexpr int64_t kCalmMsMin = 500;
constexpr int64_t kCalmMsMax = 3000;
// After servers were out, elections and sessions take so long at most to be over.
constexpr int64_t kSettledNs = 2'000'000'000;

}  // namespace

Weather::Weather(Site* site, uint64_t seed)
    : site_(site), random_(seed), began_(Clock()), calm_since_(began_) {}

int64_t Weather::Between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
}

int64_t Weather::Standstill() {
  return Between(0, 1) == 0 ? Between(kFaultMsMin, kSessionTimeoutMs / 2)
                            : Between(kSessionTimeoutMs * 3 / 2, kSessionTimeoutMs * 3);
}

// Here time itself is what a test is made of: how long a fault lasts.
void Weather::Pass(int64_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

void Weather::Calm() { Pass(Between(kCalmMsMin, kCalmMsMax)); }

void Weather::Episode() {
  std::vector<Fault> faults;
  const int64_t dice = Between(0, 19);
  if (dice == 0) {
    faults.push_back(OfMajority());
  } else if (dice < 8) {
    faults.push_back(OfDaemon());
  } else if (dice < 12) {
    faults.push_back(OfServer());
  } else if (dice < 16) {
    faults.push_back(OfNetwork());
  } else {
    faults.push_back(OfDaemon());
    faults.push_back(Between(0, 1) == 0 ? OfServer() : OfNetwork());
  }
  const bool alone = faults.size() == 1 && Clock() - calm_since_ > kSettledNs;
  const size_t kills_before = kills_.size();
  std::stable_sort(faults.begin(), faults.end(), [](const Fault& a, const Fault& b) { return a.ms < b.ms; });
  for (const Fault& fault : faults) {
    ++faults_[fault.kind];
    std::printf("weather: at %.1f s for %.1f s: %s\n", static_cast<double>(Clock() - began_) / 1e9,
                static_cast<double>(fault.ms) / 1e3, fault.kind.c_str());
    std::fflush(stdout);
    fault.begin();
  }
  for (size_t i = kills_before; i < kills_.size(); ++i) kills_[i].alone = alone;
  int64_t passed = 0;
  for (const Fault& fault : faults) {
    Pass(fault.ms - passed);
    passed = fault.ms;
    fault.end();
  }
  calm_since_ = Clock();
}

Weather::Fault Weather::OfDaemon() {
  const int daemon = static_cast<int>(Between(0, kDaemons - 1));
  if (Between(0, 1) == 0) {
    return {"daemon killed",
            [this, daemon] {
              kills_.push_back({static_cast<size_t>(daemon), Clock(), false});
              site_->KillDaemon(daemon);
            },
            [this, daemon] { site_->StartDaemon(daemon); }, Between(0, kFaultMsMax)};
  }
  const int64_t ms = Standstill();
  return {ms > kSessionTimeoutMs ? "daemon stood still beyond its session" : "daemon stood still",
          [this, daemon] { site_->FreezeDaemon(daemon); }, [this, daemon] { site_->ThawDaemon(daemon); }, ms};
}

Weather::Fault Weather::OfServer() {
  const bool leads = Between(0, 1) == 0;
  int server = static_cast<int>(Between(1, kServers));
  if (leads) server = site_->ensemble().AwaitLeader().value_or(server);
  const std::string who = leads ? "leading server " : "server ";
  if (Between(0, 1) == 0) {
    return {who + "killed", [this, server] { site_->ensemble().Kill(server); },
            [this, server] { site_->ensemble().Start(server); }, Between(kFaultMsMin, kFaultMsMax)};
  }
  return {who + "stood still", [this, server] { site_->ensemble().Freeze(server); },
          [this, server] { site_->ensemble().Thaw(server); }, Standstill()};
}

Weather::Fault Weather::Cut(const std::string& kind, std::vector<std::pair<int, int>> pairs, bool one_way) {
  return {one_way ? kind + " one way" : kind,
          [this, pairs, one_way] {
            for (const auto& [one, other] : pairs) {
              one_way ? site_->network().Lose(one, other) : site_->network().Cut(one, other);
            }
          },
          [this, pairs] {
            for (const auto& [one, other] : pairs) site_->network().Heal(one, other);
          },
          Standstill()};
}

Weather::Fault Weather::OfNetwork() {
  if (!site_->has_network()) return OfServer();
  const int daemon = Site::HostOfDaemon(static_cast<int>(Between(0, kDaemons - 1)));
  const int drawn = static_cast<int>(Between(1, kServers));
  const bool one_way = Between(0, 3) == 0;
  std::vector<std::pair<int, int>> pairs;
  switch (Between(0, 5)) {
    case 0:
      return Cut("daemon cut from a server", {{daemon, Site::HostOfServer(drawn)}}, one_way);
    case 1:
      for (int server = 1; server <= kServers; ++server)
        pairs.emplace_back(daemon, Site::HostOfServer(server));
      return Cut("daemon cut from all servers", std::move(pairs), one_way);
    case 2:
      return Cut("daemon cut from clients", {{daemon, 0}}, one_way);
    case 3:
      return Cut("two servers cut from each other",
                 {{Site::HostOfServer(drawn), Site::HostOfServer(drawn % kServers + 1)}}, one_way);
    default: {
      const bool leads = Between(0, 1) == 0;
      const int alone = leads ? site_->ensemble().AwaitLeader().value_or(drawn) : drawn;
      for (int server = 1; server <= kServers; ++server) {
        if (server != alone) pairs.emplace_back(Site::HostOfServer(alone), Site::HostOfServer(server));
      }
      return Cut(leads ? "leading server cut from the others" : "server cut from the others",
                 std::move(pairs), one_way);
    }
  }
}

Weather::Fault Weather::OfMajority() {
  const int64_t ms = Between(kFaultMsMin, kMajorityMsMax);
  const int spared = static_cast<int>(Between(0, kServers));  // 0: none
  if (Between(0, 1) == 0) {
    return {spared == 0 ? "all servers killed" : "two servers killed",
            [this, spared] {
              for (int server = 1; server <= kServers; ++server) {
                if (server != spared) site_->ensemble().Kill(server);
              }
            },
            [this] { site_->ensemble().StartAll(); }, ms};
  }
  return {spared == 0 ? "all servers stood still" : "two servers stood still",
          [this, spared] {
            for (int server = 1; server <= kServers; ++server) {
              if (server != spared) site_->ensemble().Freeze(server);
            }
          },
          [this, spared] {
            for (int server = 1; server <= kServers; ++server) {
              if (server != spared) site_->ensemble().Thaw(server);
            }
          },
          ms};
}

}  // namespace stm::e2e
