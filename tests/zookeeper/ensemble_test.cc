// What a test may do to an ensemble is done, and it comes back from all of it.
#include "tests/zookeeper/ensemble.h"

#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "tests/e2e/faults/process.h"

namespace stm::zookeeper {
namespace {

// A leader that does not answer is given up after 2 s.
EnsembleOptions Three() {
  EnsembleOptions options;
  options.servers = 3;
  options.settings = {"tickTime=500", "initLimit=60", "syncLimit=4"};
  return options;
}

// How many leaders this data has had: the upper half of the newest zxid.
int64_t EpochOf(const Ensemble& ensemble, int server) {
  const std::string answer = Ask(ensemble.connect(server), "srvr");
  const size_t at = answer.find("Zxid: ");
  INFO(answer);
  REQUIRE(at != std::string::npos);
  return std::stoll(answer.substr(at + 6), nullptr, 16) >> 32;
}

int64_t StartedEpoch(Ensemble* ensemble) {
  ensemble->StartAll();
  const std::optional<int> leader = ensemble->AwaitLeader();
  INFO(ensemble->said());
  REQUIRE(leader);
  return EpochOf(*ensemble, *leader);
}

TEST_CASE("ensemble: one server serves and leads") {
  Ensemble ensemble({});
  const bool serving = ensemble.AwaitServing();
  INFO(ensemble.said());
  REQUIRE(serving);
  CHECK(ensemble.size() == 1);
  CHECK(ensemble.AwaitLeader() == 1);
  CHECK(Ask(ensemble.connect(), "ruok") == "imok");
  CHECK(ensemble.connect() == ensemble.connect(1));
  ensemble.Freeze(1);
  CHECK_FALSE(ensemble.Running(1));
  CHECK(Ask(ensemble.connect(), "ruok") == "");
  ensemble.Thaw(1);
  CHECK(ensemble.AwaitServing());
  ensemble.Kill(1);
  CHECK_FALSE(ensemble.Running(1));
  CHECK(Ask(ensemble.connect(), "ruok") == "");
  ensemble.Start(1);
  CHECK(ensemble.AwaitServing());
  CHECK(Ask(ensemble.connect(), "ruok") == "imok");
}

TEST_CASE(
    "ensemble: of three, another leads when the leader is killed or stands still, and the old one comes back "
    "to follow") {
  Ensemble ensemble(Three());
  const bool serving = ensemble.AwaitServing();
  INFO(ensemble.said());
  REQUIRE(serving);
  const std::string all = ensemble.connect(1) + "," + ensemble.connect(2) + "," + ensemble.connect(3);
  CHECK(ensemble.connect() == all);
  const std::optional<int> first = ensemble.AwaitLeader();
  REQUIRE(first);

  ensemble.Kill(*first);
  const std::optional<int> second = ensemble.AwaitLeader();
  REQUIRE(second);
  CHECK(*second != *first);
  ensemble.Start(*first);
  REQUIRE(ensemble.AwaitServing());
  CHECK(ensemble.AwaitLeader() == second);

  ensemble.Freeze(*second);
  const std::optional<int> third = ensemble.AwaitLeader();
  REQUIRE(third);
  CHECK(*third != *second);
  ensemble.Thaw(*second);
  // It still says that it leads, until it hears better.
  CHECK(ensemble.AwaitLeader() == third);
  CHECK(ensemble.AwaitServing());
}

TEST_CASE("ensemble: data stays over kill -9, is put aside, put back, and wiped") {
  Ensemble ensemble(Three());
  const int64_t first = StartedEpoch(&ensemble);
  ensemble.KillAll();
  ensemble.Save("first");
  const int64_t second = StartedEpoch(&ensemble);
  CHECK(second > first);
  ensemble.KillAll();
  const int64_t third = StartedEpoch(&ensemble);
  CHECK(third > second);
  ensemble.KillAll();
  ensemble.Restore("first");
  const int64_t again = StartedEpoch(&ensemble);
  CHECK(again > first);
  CHECK(again < third);
  ensemble.KillAll();
  ensemble.Wipe();
  CHECK(StartedEpoch(&ensemble) == 1);
}

TEST_CASE("ensemble: servers end with the thread that made them, as when its process is killed") {
  std::unique_ptr<Ensemble> ensemble;
  bool served = false;
  std::thread([&] {
    ensemble = std::make_unique<Ensemble>(EnsembleOptions());
    served = ensemble->AwaitServing() && Ask(ensemble->connect(), "ruok") == "imok";
  }).join();
  REQUIRE(served);
  CHECK(e2e::Eventually([&] { return Ask(ensemble->connect(), "ruok").empty(); }));
}

}  // namespace
}  // namespace stm::zookeeper
