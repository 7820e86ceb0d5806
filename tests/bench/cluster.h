// Cluster is servers of ZooKeeper as deploy/zookeeper starts them, on this machine's disk, and daemons over
// one store in them. All of it ends with the Cluster, and with the thread that made it. One thread.
#ifndef STM_TESTS_BENCH_CLUSTER_H_
#define STM_TESTS_BENCH_CLUSTER_H_

#include <memory>
#include <string>
#include <vector>

#include "tests/bench/process.h"
#include "tests/zookeeper/ensemble.h"

namespace stm::bench {

struct Daemon {
  std::unique_ptr<Child> process;
  std::string address;
};

class Cluster {
 public:
  // Waits until all servers serve. `command`: a daemon's, without where it serves and what its store is; its
  // log goes to log_path.
  Cluster(int servers, const std::string& heap, std::vector<std::string> command, std::string log_path);

  std::string connect() const { return ensemble_.connect(); }
  // What all of it runs on.
  std::string versions() const;

  // Started, and not waited for: see WaitReady. The first makes the store.
  Daemon Start() const;
  // Ends the bench when it did not stop cleanly.
  void Stop(Daemon* daemon) const;

 private:
  zookeeper::Ensemble ensemble_;
  const std::vector<std::string> command_;
  const std::string log_path_;
};

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_CLUSTER_H_
