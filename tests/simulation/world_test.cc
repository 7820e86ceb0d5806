#include "tests/simulation/world.h"

#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <vector>

namespace stm::sim {
namespace {

TEST_CASE("world: loop tasks run in order of posting, whatever runs between") {
  World world(1);
  std::vector<int> order;
  for (int i = 0; i < 50; ++i) {
    world.Post([&order, i] { order.push_back(i); });
    world.Run(engine::Work::kAnswer, [] {});
    world.After(absl::Microseconds(i), [] {});
  }
  while (world.Step()) {
  }
  REQUIRE(order.size() == 50);
  REQUIRE(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("world: executor tasks run in any order") {
  std::set<std::string> orders;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    World world(seed);
    std::string order;
    for (char c : {'a', 'b', 'c'}) world.Run(engine::Work::kWrite, [&order, c] { order += c; });
    while (world.Step()) {
    }
    orders.insert(order);
  }
  REQUIRE(orders.size() == 6);
}

TEST_CASE("world: a timer does not fire before its time, and idle time is skipped") {
  World world(1);
  const absl::Duration begin = world.Now();
  absl::Duration fired;
  world.At(begin + absl::Hours(1), [&] { fired = world.Now(); });
  while (world.Step()) {
  }
  REQUIRE(fired >= begin + absl::Hours(1));
  REQUIRE(fired < begin + absl::Hours(1) + absl::Milliseconds(1));
  REQUIRE(world.steps() == 1);
}

TEST_CASE("world: the calendar's clock jumps, the Loop's does not") {
  World world(1);
  const Instant before = world.WallNow();
  const absl::Duration now = world.Now();
  world.JumpWall(-absl::Seconds(5));
  REQUIRE(world.WallNow().seconds == before.seconds - 5);
  REQUIRE(world.Now() == now);
}

TEST_CASE("world: a daemon's death takes its tasks, and leaves what is outside") {
  World world(1);
  bool daemon = false;
  bool outside = false;
  // What a dying task holds may post as it goes.
  struct Poster {
    World* world;
    bool* ran;
    ~Poster() {
      world->Post([ran = ran] { *ran = true; });
    }
  };
  auto poster = std::make_shared<Poster>(Poster{&world, &daemon});
  world.Post([&daemon, poster = std::move(poster)] { daemon = true; });
  world.At(world.Now(), [&daemon] { daemon = true; });
  world.Run(engine::Work::kWrite, [&daemon] { daemon = true; });
  world.After(absl::Milliseconds(1), [&outside] { outside = true; });
  world.DropDaemon();
  while (world.Step()) {
  }
  REQUIRE(!daemon);
  REQUIRE(outside);
}

TEST_CASE("world: equal seeds take equal steps, others do not") {
  const auto trace = [](uint64_t seed) {
    World world(seed);
    for (int i = 0; i < 20; ++i) {
      world.Post([&world] { world.Trace(world.Random()); });
      world.Run(engine::Work::kHeavy, [&world] { world.Trace(world.Random()); });
    }
    while (world.Step()) {
    }
    return world.trace();
  };
  REQUIRE(trace(7) == trace(7));
  REQUIRE(trace(7) != trace(8));
}

}  // namespace
}  // namespace stm::sim
