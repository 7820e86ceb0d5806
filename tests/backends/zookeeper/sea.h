// What tests of the ZooKeeper coordinator sail on: a Sea is a world with a simulated ensemble and a store in
// it; a Ship one daemon's coordinator there, with a drive for its archive where one is given.
#ifndef STM_TESTS_BACKENDS_ZOOKEEPER_SEA_H_
#define STM_TESTS_BACKENDS_ZOOKEEPER_SEA_H_

#include <spdlog/spdlog.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/disk.h"
#include "backends/zookeeper/coordinator.h"
#include "backends/zookeeper/init.h"
#include "backends/zookeeper/layout.h"
#include "tests/simulation/daemon_loop.h"
#include "tests/simulation/sim_disk.h"
#include "tests/simulation/sim_zookeeper.h"

namespace stm::zookeeper {

// What a test makes happen is no news.
inline const bool kQuiet = (spdlog::set_level(spdlog::level::off), true);

inline constexpr absl::Duration kLong = absl::Seconds(600);  // of simulated time

// A world with an ensemble and a store in it.
struct Sea {
  enum class Store : uint8_t { kMade, kNone };

  explicit Sea(uint64_t seed, int servers = 3, bool skips_version_minus_one = false,
               Store store = Store::kMade)
      : world(seed), ensemble(&world, Options(servers, skips_version_minus_one)) {
    if (store == Store::kNone) return;
    const absl::Status status = MakeStore();
    INFO(status);
    REQUIRE(status.ok());
  }

  absl::Status MakeStore() {
    std::optional<absl::Status> made;
    sim::DaemonLoop loop(&world);
    sim::SimSessions sessions(&ensemble, &loop, "init");
    const Init init(&loop, &sessions, To(), absl::Seconds(60),
                    [&made](absl::Status status) { made = std::move(status); });
    REQUIRE(Run([&] { return made.has_value(); }));
    return *made;
  }

  static sim::ZooOptions Options(int servers, bool skips_version_minus_one) {
    sim::ZooOptions options;
    options.skips_version_minus_one = skips_version_minus_one;
    options.failures_take_zxids = 1000;  // as those of real servers do: a quorum answers
    options.servers = servers;
    // A hole that goes with its log entry can't be seen any more (backends/zookeeper/DESIGN.md).
    options.mends_at = [](std::string_view path) { return LogPositionOf(path).has_value(); };
    return options;
  }

  SessionOptions To() {
    SessionOptions options;
    options.connect = ParseConnectString(absl::StrCat(ensemble.connect(), "/app")).value();
    options.timeout = absl::Seconds(1);
    return options;
  }

  bool Run(const std::function<bool()>& done) {
    const absl::Duration deadline = world.Now() + kLong;
    while (!done()) {
      if (world.Now() > deadline || !world.Step()) return false;
    }
    return true;
  }

  sim::World world;
  sim::SimEnsemble ensemble;
};

// One daemon's coordinator, as often as it is started.
struct Ship {
  Ship(Sea* sea, std::string name, Canaries canaries = {}, CleanerOptions cleaner = {}, TailOptions tail = {},
       sim::SimDrive* drive = nullptr)
      : sea(sea), name(std::move(name)), canaries(canaries), cleaner(cleaner), tail(tail), drive(drive) {
    Make();
  }
  ~Ship() { Sink(); }

  void Make() {
    loop = std::make_unique<sim::DaemonLoop>(&sea->world);
    sessions = std::make_unique<sim::SimSessions>(&sea->ensemble, loop.get(), name);
    zookeeper::Options options;
    options.session = sea->To();
    options.program = name;
    options.cleaner = cleaner;
    options.tail = tail;
    if (drive != nullptr) {
      disk = drive->Plug();
      options.archive.disk = disk.get();
      options.archive.executor = loop.get();
      options.archive.segment_bytes = 4 << 10;
    }
    coordinator = std::make_unique<ZooKeeperCoordinator>(loop.get(), sessions.get(), options, canaries);
  }
  // kill -9
  void Sink() {
    loop->Die();
    sea->ensemble.KillClient(name);
    coordinator.reset();
    sessions.reset();
    if (drive != nullptr) drive->ProcessDies();
  }

  Sea* const sea;
  const std::string name;
  const Canaries canaries;
  const CleanerOptions cleaner;
  const TailOptions tail;
  sim::SimDrive* const drive;  // null: no archive
  std::unique_ptr<local::Disk> disk;
  std::unique_ptr<sim::DaemonLoop> loop;
  std::unique_ptr<sim::SimSessions> sessions;
  std::unique_ptr<ZooKeeperCoordinator> coordinator;
};

}  // namespace stm::zookeeper

#endif  // STM_TESTS_BACKENDS_ZOOKEEPER_SEA_H_
