// Daemon is stmd without its process: it recovers, serves, drains and stops. Made and stopped by one thread;
// signals and Drain calls only ask for the stop. Always: nothing is served before recovery has succeeded, and
// what was answered as committed is durable before Stop returns.
#ifndef STM_SERVER_DAEMON_H_
#define STM_SERVER_DAEMON_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/config.h"

namespace stm::server {

class Daemon {
 public:
  // Returns when it serves; over ZooKeeper it waits for servers that answer, and says so. DATA_LOSS and what
  // else recovery says: it refuses to serve. `fatal` is called at most once, after an error that leaves the
  // log's state unknown, or when ZooKeeper's store is another one: nothing is answered any more, and the
  // process ends.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(Config config, std::vector<EffectiveSetting> settings,
                                                       std::function<void(absl::Status)> fatal);
  ~Daemon();

  // Where gRPC is served, with the ports that were chosen.
  const std::vector<std::string>& addresses() const;
  // "": none.
  const std::string& http_address() const;

  // Until RequestStop, or a Drain call has been answered.
  void AwaitStop() ABSL_LOCKS_EXCLUDED(mutex_);
  // Any thread; not for signal handlers.
  void RequestStop() ABSL_LOCKS_EXCLUDED(mutex_);
  // Refuses new commits, finishes what is under way for `grace`, ends streams, closes the log. Once.
  absl::Status Stop(absl::Duration grace);

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);

  // The store in ZooKeeper, if there is none yet.
  absl::Status MakeStore();
  absl::Status Recover();
  // Then `drained`, once for every call of it.
  void Drain(std::function<void()> drained) ABSL_LOCKS_EXCLUDED(mutex_);
  void Drained() ABSL_LOCKS_EXCLUDED(mutex_);

  std::unique_ptr<Parts> parts_;
  absl::Mutex mutex_;
  bool stop_requested_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> when_drained_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace stm::server

#endif  // STM_SERVER_DAEMON_H_
