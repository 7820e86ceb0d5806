// Watcher is a client that watches: it opens a stream, writes down what comes, is slow at times, loses its
// connection, and resumes after the last version that it saw. Outside the daemon, but for its sink; one
// thread.
#ifndef STM_TESTS_SIMULATION_WATCHER_H_
#define STM_TESTS_SIMULATION_WATCHER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/watch.h"
#include "tests/checkers/history.h"
#include "tests/simulation/client.h"

namespace stm::sim {

class Watcher {
 public:
  Watcher(int64_t number, Scene scene, engine::Selector selector);
  ~Watcher();

  void Begin() { Open(); }
  // It died: a stream from it ends after what is under way.
  void DaemonDied(const Daemon* daemon);
  // Says that all selected commits up to the installed version must have come.
  void ClaimComplete();
  // Stops breaking connections and reading slowly.
  void BeSteady();
  // The history begins anew, with another store; what was seen of the old one is asked to be resumed.
  void MeetOtherStore();
  int64_t events() const { return events_; }
  int64_t resumed() const { return resumed_; }
  int64_t cut() const { return cut_; }
  int64_t gaps() const { return gaps_; }

 private:
  class Stream;

  void AddWatch();
  check::Watch& watch();
  void Open();
  void Reopen(absl::Duration after);
  void Deliver(const std::shared_ptr<Stream>& stream, check::WatchStep step);

  const int64_t number_;
  const Scene scene_;
  const engine::Selector selector_;
  const bool stays_;  // at one daemon: it watches a daemon's memory
  Daemon* daemon_;    // that it talks to
  size_t watch_ = 0;  // in the history
  std::shared_ptr<Stream> stream_;
  uint64_t attempt_ = 0;
  engine::Version last_ = 0;   // resume after; 0: begin
  check::Life last_life_ = 0;  // that told it
  uint64_t last_store_ = 0;
  bool steady_ = false;
  int64_t events_ = 0;
  int64_t resumed_ = 0;
  int64_t cut_ = 0;
  int64_t gaps_ = 0;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_WATCHER_H_
