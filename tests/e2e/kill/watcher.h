// Watcher follows all commits of a daemon that is killed again and again, and resumes after the last it saw.
// One thread reads; Stop from another.
#ifndef STM_TESTS_E2E_KILL_WATCHER_H_
#define STM_TESTS_E2E_KILL_WATCHER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "stm/v1/watch_service.grpc.pb.h"
#include "tests/checkers/history.h"

namespace stm::e2e {

class Watcher {
 public:
  Watcher(int64_t number, const std::string& address);
  ~Watcher();

  // Waits until it has seen all up to `version`, or a minute passed.
  bool SawUpTo(check::Version version);
  void Stop();
  // After Stop.
  check::Watch& watch() { return watch_; }
  int64_t resumed() const { return resumed_; }

 private:
  void Follow();
  // Until the stream ends.
  void FollowOne();
  check::WatchStep Mark(check::WatchStep::Kind kind, check::Version version);

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::WatchService::Stub> stub_;
  check::Watch watch_;
  int64_t resumed_ = 0;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  check::Version last_ ABSL_GUARDED_BY(mutex_) = 0;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_KILL_WATCHER_H_
