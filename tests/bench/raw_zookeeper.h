// RawZooKeeper is what an ensemble does without us: multis of the shape of a daemon's batch, by the C client
// and nothing else, on one session. One thread; answers come on the library's.
#ifndef STM_TESTS_BENCH_RAW_ZOOKEEPER_H_
#define STM_TESTS_BENCH_RAW_ZOOKEEPER_H_

#include <memory>
#include <string>

#include "tests/bench/caller.h"

namespace stm::bench {

class RawZooKeeper {
 public:
  // Waits until it is connected. Its nodes are under /raw.
  explicit RawZooKeeper(const std::string& connect);
  ~RawZooKeeper();

  // Multis of so many transactions, so many of them in flight. A transaction is 1 check and 2 sets of 100
  // bytes, nodes of its own each; a multi creates one sequential node besides, which holds as many bytes a
  // transaction as a log entry of ours. The rate is of transactions, the latencies are of multis. Afterwards
  // the sequential nodes are deleted.
  Measured Multis(int transactions, int in_flight, double seconds);

  static std::string client_version();

 private:
  class Rep;
  std::unique_ptr<Rep> rep_;
};

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_RAW_ZOOKEEPER_H_
