// Makes a store in ZooKeeper: stmctl init. On the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_INIT_H_
#define STM_BACKENDS_ZOOKEEPER_INIT_H_

#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "backends/zookeeper/own_tasks.h"
#include "backends/zookeeper/session.h"
#include "engine/loop.h"

namespace stm::zookeeper {

// Init makes an empty store below the chroot, whose own nodes are made too. All of it is one multi: there is
// a store, or there is none.
class Init {
 public:
  // All outlive it. `done` once, in a later task: ALREADY_EXISTS: there is one; PERMISSION_DENIED: the
  // credentials may not; UNAVAILABLE: no server answered in time, or the answer was lost: look again.
  Init(engine::Loop* loop, Sessions* sessions, SessionOptions options, absl::Duration patience,
       absl::AnyInvocable<void(absl::Status)> done);

 private:
  void MakeChroot(size_t parts);
  void MakeStore();
  void Done(absl::Status status);

  engine::Loop* const loop_;
  const std::string chroot_;
  absl::AnyInvocable<void(absl::Status)> done_;
  std::unique_ptr<Session> above_;  // the chroot
  std::unique_ptr<Session> session_;
  Sessions* const sessions_;
  SessionOptions options_;
  OwnTasks tasks_{loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_INIT_H_
