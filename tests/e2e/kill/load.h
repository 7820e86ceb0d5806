// Load is many writers and one watcher on one daemon, and the judgement of what they were told. One thread
// starts, stops and judges; in between the daemon may be killed, stopped, starved or cut off.
#ifndef STM_TESTS_E2E_KILL_LOAD_H_
#define STM_TESTS_E2E_KILL_LOAD_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/checkers/checker.h"
#include "tests/e2e/kill/watcher.h"
#include "tests/e2e/kill/writer.h"

namespace stm::e2e {

struct Outcome {
  std::vector<check::Violation> violations;
  int64_t committed = 0;
  int64_t refused = 0;  // answers that say "not committed, and not for a conflict"
  int64_t resends = 0;
  int64_t lost_adds = 0;   // acknowledged, not in the counters
  int64_t extra_adds = 0;  // in the counters, never acknowledged
  int64_t sum = 0;         // of all accounts
  std::string figures;     // of what is above, for people
};

class Load {
 public:
  struct Options {
    std::string address;
    int writers = 16;
    uint64_t seed = 20261122;
    std::chrono::milliseconds call_timeout{5000};
  };

  explicit Load(Options options);
  ~Load();

  // Makes the accounts; then all write. False: the daemon does not answer.
  bool Start();
  Answers& answers() { return answers_; }
  // Returns when every writer has learned all outcomes. False: one gave up.
  bool Stop();
  // After Stop: reads the state and the log, and compares. nullopt: they could not be read, or the watcher
  // did not see all.
  std::optional<Outcome> Judge();

 private:
  Caller::Options CallerOf(int64_t number, uint64_t seed);

  const Options options_;
  Answers answers_;
  Writer first_;
  std::unique_ptr<Watcher> watcher_;
  std::vector<std::unique_ptr<Writer>> writers_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> gave_up_{false};
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_KILL_LOAD_H_
