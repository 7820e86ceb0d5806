// Stage is what simulations of any kind have: a world and a network, clients, lockers and watchers of
// daemons, and the history that the checkers judge. A kind of simulation derives from it, and tends the
// daemons. One thread.
#ifndef STM_TESTS_SIMULATION_STAGE_H_
#define STM_TESTS_SIMULATION_STAGE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "tests/simulation/client.h"
#include "tests/simulation/daemon.h"
#include "tests/simulation/locker.h"
#include "tests/simulation/network.h"
#include "tests/simulation/simulation.h"
#include "tests/simulation/watcher.h"
#include "tests/simulation/world.h"

namespace stm::sim {

inline constexpr int64_t kTtlMsMax = 100;

struct StageSettings {
  engine::Options engine;
  Weather weather;
  int64_t clients = 4;
  int64_t names = 3;
  int64_t value_bytes = 0;
  uint64_t in_memory = 0;     // in 1000 names
  uint64_t gives_up = 30;     // in 1000 waits for an outcome
  uint64_t comes_back = 250;  // to that, in 1000 operations
  int64_t watchers = 2;
  absl::Duration calm_max;  // between disasters; infinite: none
  LockerSettings lockers;   // drawn apart, by a Chance of their own
  ContainerSettings containers;  // likewise, in runs that have one

  void DrawPeople(Chance* chance);
  void DrawEngine(Chance* chance);
  void DrawWeather(Chance* chance);
  // Some of the entries are kept in a container.
  void DrawContainers(uint64_t seed);
  std::string ToString() const;
};

// What was drawn is overridden by name.
template <typename Settings>
struct Simplification {
  const char* name;
  void (*apply)(Settings*);
};
const std::vector<Simplification<StageSettings>>& StageSimplifications();

// What is drawn for lockers: apart, so that the rest of a run is as it was without them.
Chance LockersChance(uint64_t seed);

class Stage {
 protected:
  explicit Stage(uint64_t seed) : world_(seed), network_(&world_) { result_.seed = seed; }
  virtual ~Stage() = default;

  // What a supervisor does after every step.
  virtual void Tend() = 0;
  virtual std::string DescribeDaemons() = 0;
  // A locker begins to keep what it holds for long, and talks to this daemon.
  virtual void HoldsLong(Daemon*) {}

  // Makes clients that share `operations` out, watchers, and lockers.
  void Cast(const StageSettings& settings, std::vector<Daemon*> daemons, int64_t operations);
  // They come one after another.
  void Enter();

  bool ok() const { return result_.passed(); }
  void Fail(std::string what) { result_.failures.push_back(std::move(what)); }
  void Tell(std::string what) { result_.events.push_back(Event{world_.nanos(), std::move(what)}); }
  bool AllIdle() const;
  // The storm is over with the clients: lockers, who wait for many a session to end in it, end in calm
  // weather.
  bool ClientsIdle() const;
  // Of a daemon; null: nobody locks.
  static std::optional<LockOptions> LocksOf(const StageSettings& settings, const Planted& planted);
  // From now on nothing goes wrong any more.
  void BeQuiet(const StageSettings& settings, absl::Duration grace);
  // The sessions of all lockers, who are idle, end: those that were not closed, by their time.
  void AwaitSessionsEnd();
  // Steps until `done`, tending daemons meanwhile. False: something failed; a run that goes nowhere is stuck.
  bool RunUntil(const std::function<bool()>& done, std::string_view what);

  // The state in the daemon's memory or its store, all of it under `prefix`, as a read that the checkers
  // compare with the log.
  enum class Ttls : uint8_t { kRunning, kOver };
  void ReadAll(Daemon* daemon, std::string_view prefix, Ttls ttls);

  // All that containers have to do is done: what was superseded is erased, atoms are copied.
  void AwaitSettled();
  // Judges what the container has, by the log as it was written; then puts values there. `store`: the daemons'. `restored`:
  // it had another before.
  enum class Restored : uint8_t { kNo, kYes };
  void JudgeOutside(uint64_t store, Restored restored);
  // Of a log that is not the last.
  void ResolveLogs();

  void Count();

  Result result_;
  World world_;
  Network network_;
  Scene scene_;
  uint64_t steps_max_ = 1000000;  // runs take some tens of thousands
  absl::Duration stuck_after_ = absl::Seconds(30);
  std::unique_ptr<SimStore> outside_;  // null: no container is configured
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<Watcher>> watchers_;
  std::vector<std::unique_ptr<Locker>> lockers_;
  bool claims_quiet_ = false;  // that sessions end in time
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_STAGE_H_
