// The first proof: seeds of the whole daemon through crashes, judged by the checkers; and planted bugs, which
// the same checkers must find, so that their silence means something.
#include "tests/simulation/simulation.h"

#include <spdlog/spdlog.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/simulation/planted.h"

namespace stm::sim {
namespace {

constexpr uint64_t kSeeds = 200;
// A planted bug shows in most seeds.
constexpr uint64_t kPlantedSeedsMax = 12;

// The daemons log each of their many starts.
struct Quiet {
  Quiet() { spdlog::set_level(spdlog::level::off); }
} quiet;

TEST_CASE("simulation: nothing acknowledged is lost, nothing applied twice, all is strictly serializable") {
  Result total;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Result result = Simulate(seed);
    INFO(absl::StrCat("run again: simulation --seed ", seed, "\n", result.settings, "\n", result.Faults()));
    CHECK(result.passed());
    total.Add(result);
  }
  std::printf("%llu seeds: %s\n", static_cast<unsigned long long>(kSeeds), total.Figures().c_str());
  // The seeds go where the bugs are.
  CHECK(total.clients.committed > 10000);
  CHECK(total.clients.conflicts > 1000);
  CHECK(total.clients.resends_committed > 1000);
  CHECK(total.clients.resends_not_committed > 1000);
  CHECK(total.clients.unknown > 0);
  CHECK(total.clients.snapshots_too_old > 100);
  CHECK(total.clients.woken > 1000);
  CHECK(total.daemon.kills > 1000);
  CHECK(total.daemon.power_losses > 1000);
  CHECK(total.daemon.sync_failures > 10);
  CHECK(total.daemon.stops > 10);
  CHECK(total.daemon.torn_tails > 100);
  CHECK(total.daemon.snapshots > 100);
  CHECK(total.daemon.engine.no_space > 10);
  CHECK(total.daemon.engine.expired > 500);
  CHECK(total.daemon.engine.reservations > 100);
  CHECK(total.watches_cut > 10);
  CHECK(total.watch_gaps > 100);
}

TEST_CASE("simulation: a seed's run is the same every time") {
  for (uint64_t seed : {1, 2, 3, 4, 5}) {
    const Result first = Simulate(seed);
    const Result second = Simulate(seed);
    REQUIRE(first.trace == second.trace);
    REQUIRE(first.steps == second.steps);
    REQUIRE(check::ToEdnText(first.history, first.log) == check::ToEdnText(second.history, second.log));
  }
  REQUIRE(Simulate(1).trace != Simulate(2).trace);
}

// The checkers find `name` in one of the first seeds, by one of `rules`; the seed passes without it.
void RequireFound(const std::string& name, const std::vector<check::Rule>& rules) {
  const Planted planted = PlantedByName().at(name);
  for (uint64_t seed = 1; seed <= kPlantedSeedsMax; ++seed) {
    const Result result = Simulate(seed, planted);
    for (const check::Violation& violation : result.violations) {
      for (check::Rule rule : rules) {
        if (violation.rule != rule) continue;
        const std::string by(check::RuleName(rule));
        std::printf("planted %s: found in seed %llu: %s: %s\n", name.c_str(),
                    static_cast<unsigned long long>(seed), by.c_str(), violation.what.c_str());
        REQUIRE(Simulate(seed).passed());
        return;
      }
    }
  }
  FAIL(name << " was not found in " << kPlantedSeedsMax << " seeds");
}

TEST_CASE("simulation: an engine that does not check reads is found") {
  RequireFound("skip_read_check", {check::Rule::kStaleRead, check::Rule::kLostUpdate});
}

TEST_CASE("simulation: an engine that does not check listings is found") {
  RequireFound("skip_list_check", {check::Rule::kPhantom});
}

TEST_CASE("simulation: an engine that answers before the append is found") {
  RequireFound("answer_before_append", {check::Rule::kLostCommit});
}

TEST_CASE("simulation: an id table that forgets is found") {
  RequireFound("forget_ids", {check::Rule::kIdTwice});
}

TEST_CASE("simulation: an id table that forgets at a restart is found") {
  RequireFound("forget_ids_on_recovery", {check::Rule::kFalseRefusal, check::Rule::kOneVerdict});
}

TEST_CASE("simulation: a log that does not sync is found") {
  RequireFound("skip_sync", {check::Rule::kLostCommit, check::Rule::kRealTime});
}

}  // namespace
}  // namespace stm::sim
