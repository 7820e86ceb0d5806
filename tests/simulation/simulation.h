// A simulation is one seed's run: one daemon over a SimDrive, clients and watchers through bad weather,
// crashes, power losses, full disks, failing syncs and clocks that jump; then calm, a last power loss, and
// the checkers over all that was seen. Everything is drawn from the seed: the same seed gives the same run.
#ifndef STM_TESTS_SIMULATION_SIMULATION_H_
#define STM_TESTS_SIMULATION_SIMULATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "backends/local/options.h"
#include "engine/engine.h"
#include "tests/checkers/checker.h"
#include "tests/checkers/history.h"
#include "tests/simulation/client.h"
#include "tests/simulation/daemon.h"

namespace stm::sim {

// Bugs put in on purpose: the checkers must find each.
struct Planted {
  engine::Canaries engine;
  local::LocalCanaries local;
};

struct Result {
  uint64_t seed = 0;
  uint64_t trace = 0;
  uint64_t steps = 0;
  int64_t virtual_ms = 0;
  ClientTotals clients;
  Daemon::Totals daemon;
  int64_t segments = 0;
  int64_t watch_events = 0;
  int64_t watches_resumed = 0;
  int64_t watches_cut = 0;
  int64_t watch_gaps = 0;
  int64_t log_commits = 0;
  // What is wrong beyond what the checkers say: the daemon does not start, a client never gets an answer.
  std::vector<std::string> failures;
  std::vector<check::Violation> violations;
  // For a report.
  check::History history;
  check::Log log;
  std::string settings;

  bool passed() const { return failures.empty() && violations.empty(); }
  void Add(const Result& other);  // the figures
  std::string Figures() const;    // one line
  std::string Faults() const;     // "": none
};

// `operations` in all, shared out between the clients.
Result Simulate(uint64_t seed, const Planted& planted = {}, int64_t operations = 300);

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_SIMULATION_H_
