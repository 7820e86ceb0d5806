// A simulation is one seed's run. Of a daemon alone: one daemon over a SimDrive, clients, lockers, watchers
// and readers of its log through bad weather, crashes, power losses, full disks, failing syncs and clocks
// that jump; then calm, a last power loss, and the checkers over all that was seen. In some the store is lost
// then, a backup of it restored elsewhere, and all goes on there. Of a cluster: cluster.h. Everything is
// drawn from the seed: the same seed gives the same run.
#ifndef STM_TESTS_SIMULATION_SIMULATION_H_
#define STM_TESTS_SIMULATION_SIMULATION_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "backends/local/options.h"
#include "backends/zookeeper/coordinator.h"
#include "engine/engine.h"
#include "tests/checkers/checker.h"
#include "tests/checkers/history.h"
#include "tests/simulation/client.h"
#include "tests/simulation/follower.h"
#include "tests/simulation/local_daemon.h"
#include "tests/simulation/locker.h"
#include "tests/simulation/sim_containers.h"
#include "tests/simulation/sim_disk.h"
#include "tests/simulation/sim_zookeeper.h"

namespace stm::sim {

// Bugs put in on purpose: the checkers must find each.
struct Planted {
  engine::Canaries engine;
  local::LocalCanaries local;
  zookeeper::Canaries zookeeper;
  engine::LockCanaries locks;
  engine::LeaseCanaries leases;
};

// What is simulated. Everything else is drawn from the seed.
struct Run {
  enum class Kind : uint8_t { kAlone, kCluster };
  Kind kind = Kind::kAlone;
  uint64_t seed = 1;
  Planted planted;
  int64_t operations = 300;       // in all, shared out between the clients
  std::set<std::string> without;  // names of Simplifications(): what was drawn is overridden
  bool containers = false;        // some of the entries are kept in one
};
// What a run may do without, by name.
std::vector<std::string> Simplifications(Run::Kind kind);

// What happened to the daemon and the machine.
struct Event {
  check::Time at = 0;
  std::string what;
};

// What happened to the daemons of a cluster and their ensemble.
struct ClusterTotals {
  std::map<int64_t, int64_t> commits;  // by daemon
  int64_t kills = 0;
  int64_t still = 0;  // a daemon stood still
  int64_t cut_off = 0;  // from ZooKeeper, and ran on
  int64_t writers_closed = 0;
  int64_t servers_left = 0;  // for a hole
  int64_t behind = 0;        // a daemon began anew, since the log was trimmed
  int64_t sweeps = 0;
  int64_t swept = 0;    // nodes of tombstones
  int64_t trimmed = 0;  // log entries
  int64_t segments = 0;
  int64_t wipes = 0;
  int64_t restores = 0;
  ZooTotals zookeeper;
  void Add(const ClusterTotals& other);
};

struct Result {
  Run::Kind kind = Run::Kind::kAlone;
  uint64_t seed = 0;
  uint64_t trace = 0;
  uint64_t steps = 0;
  int64_t virtual_ms = 0;
  ClientTotals clients;
  LockerTotals lockers;
  ContainerTotals containers;
  int64_t sessions_expired = 0;  // by daemons
  engine::Stats engine;          // of all daemons
  LocalDaemon::Totals daemon;
  ClusterTotals cluster;
  int64_t segments = 0;
  int64_t wall_jumps = 0;
  int64_t watch_events = 0;
  int64_t watches_resumed = 0;
  int64_t watches_cut = 0;
  int64_t watch_gaps = 0;
  int64_t log_commits = 0;
  int64_t segments_dropped = 0;
  FollowerTotals followers;
  int64_t backups = 0;
  struct Restores {
    int64_t done = 0;
    int64_t crashed = 0;     // tries
    int64_t refused = 0;     // tries: no room, or a text that was cut
    int64_t left_empty = 0;  // by those
    int64_t found_done = 0;  // by a start: it crashed behind its commit point
  };
  Restores restores;
  SimDrive::Losses losses;
  // What is wrong beyond what the checkers say: the daemon does not start, a client never gets an answer.
  std::vector<std::string> failures;
  std::vector<check::Violation> violations;
  // For a report.
  check::History history;
  check::Log log;
  std::string settings;
  std::vector<Event> events;

  bool passed() const { return failures.empty() && violations.empty(); }
  void Add(const Result& other);  // the figures
  std::string Figures() const;    // some lines
  std::string Faults() const;     // "": none

 private:
  std::string ClusterFigures() const;
  std::string LockFigures() const;
};

Result Simulate(const Run& run);
inline Result Simulate(uint64_t seed, const Planted& planted = {}) {
  return Simulate(Run{Run::Kind::kAlone, seed, planted, 300, {}, false});
}

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_SIMULATION_H_
