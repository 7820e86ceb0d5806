// LogReader reads a store's log from ZooKeeper itself, beside all daemons and as it grows: what is trimmed
// later it has. A thread of its own.
#ifndef STM_TESTS_E2E_CLUSTER_LOG_READER_H_
#define STM_TESTS_E2E_CLUSTER_LOG_READER_H_

#include <atomic>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/backends/zookeeper/client.h"
#include "tests/checkers/history.h"

namespace stm::e2e {

class LogReader {
 public:
  // "zk://host:port,host:port/chroot"; a daemon has made the store there.
  explicit LogReader(const std::string& store);
  ~LogReader();

  // Once: all that had been committed when it was called.
  absl::StatusOr<check::Log> Finish();

 private:
  void Follow();
  // Until there is no more, or the session is gone.
  void FollowOn(zookeeper::Client* client);
  bool TakeEpoch(zookeeper::Client* client);
  absl::Status Take(const std::string& data, int64_t zxid);

  const std::string store_;
  std::atomic<bool> finishing_{false};
  std::atomic<bool> leaving_{false};
  // The thread's, until it has ended.
  bool ended_ = false;
  bool begun_ = false;
  int64_t base_ = 0;
  int64_t next_ = 0;
  absl::Status status_;
  check::Log log_;
  std::thread thread_;
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_CLUSTER_LOG_READER_H_
