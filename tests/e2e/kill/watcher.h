// Watcher follows commits of daemons that are killed again and again, and resumes after the last it saw.
// One thread reads; Stop from another.
#ifndef STM_TESTS_E2E_KILL_WATCHER_H_
#define STM_TESTS_E2E_KILL_WATCHER_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "stm/v1/watch_service.grpc.pb.h"
#include "tests/checkers/history.h"

namespace stm::e2e {

class Watcher {
 public:
  struct Options {
    int64_t number = 0;
    std::vector<std::string> addresses;  // of daemons of one store: each stream is another's
    std::vector<std::string> prefixes;   // none: all there is
    // A stream ends then, and the next one resumes. 0: it ends when its daemon does.
    std::chrono::milliseconds stream_max{0};
  };
  explicit Watcher(const Options& options);
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
  void FollowOne(const std::shared_ptr<grpc::Channel>& channel);
  check::WatchStep Mark(check::WatchStep::Kind kind, check::Version version);

  const Options options_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
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
