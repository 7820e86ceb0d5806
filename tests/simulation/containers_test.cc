// Simulations in which a container keeps some of the entries: the same checkers, and what is kept there at
// the end.
#include <spdlog/spdlog.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <map>
#include <set>

#include "tests/simulation/planted.h"
#include "tests/simulation/shrink.h"
#include "tests/simulation/simulation.h"

namespace stm::sim {
namespace {

const bool quiet = [] {
  spdlog::set_level(spdlog::level::off);
  return true;
}();

Run Contained(Run::Kind kind, uint64_t seed) {
  Run run;
  run.kind = kind;
  run.seed = seed;
  run.containers = true;
  return run;
}

void CheckSeeds(Run::Kind kind, uint64_t seeds) {
  Result total;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    const Result result = Simulate(Contained(kind, seed));
    INFO("simulation " << Flags(Contained(kind, seed)) << "\n" << result.Faults());
    CHECK(result.passed());
    total.Add(result);
  }
  std::printf("%s\n", total.Figures().c_str());
  // What the seeds must have brought.
  CHECK(total.engine.staged > 1000);
  CHECK(total.engine.staged_anew > 100);
  CHECK(total.engine.stored_loads > 1000);
  CHECK(total.containers.erased > 1000);
  CHECK(total.containers.lost > 50);
  CHECK(total.containers.late > 50);
  CHECK(total.containers.refused > 20);
  CHECK(total.containers.aways > 0);
  CHECK(total.containers.copies > 50);
  CHECK(total.clients.committed > 1000);
}

TEST_CASE(
    "containers: 60 seeds of a daemon alone: nothing is torn, nothing readable is lost, nothing leaks") {
  CheckSeeds(Run::Kind::kAlone, 60);
}

TEST_CASE(
    "containers: 20 seeds of daemons over one ZooKeeper: nothing is torn, nothing readable is lost, nothing "
    "leaks") {
  CheckSeeds(Run::Kind::kCluster, 20);
}

TEST_CASE("containers: seeds that failed once pass") {
  // What its container gave for an entry that was deleted meanwhile was written in its place. Who awaited a
  // condition lost its place to the next, since the condition was forgotten as idle.
  for (const uint64_t seed : {1402, 1287}) {
    INFO(seed);
    CHECK(Simulate(Contained(Run::Kind::kAlone, seed)).passed());
  }
  // A daemon that learned late that its stamp is durable wrote under it when another had given it up and erased it.
  INFO("cluster");
  CHECK(Simulate(Contained(Run::Kind::kCluster, 90)).passed());
}

// A planted bug, and a seed that shows it.
struct Caught {
  const char* planted;
  Run::Kind kind;
  uint64_t seed;
  const char* by;
};
// `simulation --containers [--cluster] --planted all --seeds 1..100` prints the first seed of each.
constexpr Caught kCaught[] = {
    {"reuse_stamp", Run::Kind::kCluster, 1, "stored"},
    {"commit_failed_write", Run::Kind::kAlone, 2, "stored"},
    {"erase_early", Run::Kind::kAlone, 3, "stored"},
    {"read_newest_stored", Run::Kind::kAlone, 1, "read-state"},
};

TEST_CASE("containers: every planted bug is caught, and its seed passes without it") {
  std::map<std::string, Planted> left = PlantedByName(Run::Kind::kAlone, /*containers=*/true);
  for (const Caught& caught : kCaught) {
    Run run = Contained(caught.kind, caught.seed);
    INFO("find another seed: simulation " << Flags(run) << " --planted " << caught.planted);
    CHECK(Simulate(run).passed());
    run.planted = left.at(caught.planted);
    left.erase(caught.planted);
    CHECK(FaultKinds(Simulate(run)).count(caught.by) == 1);
  }
  CHECK(left.empty());
}

}  // namespace
}  // namespace stm::sim
