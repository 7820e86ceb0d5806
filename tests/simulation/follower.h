// Follower is a client that reads the log while it grows and its old files are dropped: piece by piece, from
// its beginning, from where it stopped, or from anywhere; and pages of an entry's history. It writes down
// what it is told. Outside the daemon, but for its cursor; one thread.
#ifndef STM_TESTS_SIMULATION_FOLLOWER_H_
#define STM_TESTS_SIMULATION_FOLLOWER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/coordinator.h"
#include "tests/checkers/history.h"
#include "tests/simulation/client.h"
#include "tests/simulation/local_daemon.h"

namespace stm::sim {

// Sums over all followers.
struct FollowerTotals {
  int64_t readings = 0;
  int64_t commits = 0;
  int64_t whole = 0;     // read to the end
  int64_t refused = 0;   // before the first commit
  int64_t fell_off = 0;  // refused later: what came next had been dropped
  int64_t pages = 0;     // of histories
};

class Follower {
 public:
  Follower(int64_t number, Scene scene, LocalDaemon* daemon, FollowerTotals* totals)
      : number_(number), scene_(scene), daemon_(daemon), totals_(totals) {}

  void Begin() { Later(); }
  // The daemon died: a reading under way breaks off.
  void DaemonDied() { End(); }
  // Another store takes the place of the one that was read: nothing is read until Begin.
  void StoreDies();

 private:
  // One reading under way. The daemon's end holds the cursor.
  struct Reading {
    check::LogRead read;
    size_t piece_bytes = 0;
    absl::Duration pause_max;  // between pieces
    uint64_t life = 0;         // of the cursor
    std::unique_ptr<engine::LogCursor> cursor;
  };
  struct Piece {
    absl::Status status;
    std::vector<engine::LogCursor::Item> items;
    check::Version committed = 0;  // when it was read
    check::Version kept_from = 0;
  };

  void Later();
  void Draw();
  // Asks for the next piece, or the page.
  void Ask();
  // At the daemon, off the Loop.
  Piece Serve(Reading* reading);
  void Answered(const Piece& piece);
  // Writes down what came of the reading, and thinks of another.
  void End();

  const int64_t number_;
  const Scene scene_;
  LocalDaemon* const daemon_;
  FollowerTotals* const totals_;
  std::shared_ptr<Reading> reading_;
  uint64_t attempt_ = 0;
  check::Version last_ = 0;  // read
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_FOLLOWER_H_
