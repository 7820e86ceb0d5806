// Makes a store in ZooKeeper: stmctl init. On the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_INIT_H_
#define STM_BACKENDS_ZOOKEEPER_INIT_H_

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backends/zookeeper/making.h"
#include "backends/zookeeper/session.h"
#include "engine/loop.h"

namespace stm::zookeeper {

// Init makes an empty store below the chroot, whose own nodes are made too. All of it is one multi: there is
// a store, or there is none.
class Init {
 public:
  // All outlive it. `done` once, in a later task: ALREADY_EXISTS: there is one; FAILED_PRECONDITION: a
  // restore has begun to make one; PERMISSION_DENIED: the credentials may not; UNAVAILABLE: no server
  // answered in time, or the answer was lost: look again.
  Init(engine::Loop* loop, Sessions* sessions, SessionOptions options, absl::Duration patience,
       absl::AnyInvocable<void(absl::Status)> done);

 private:
  void MakeStore();
  void TellWhatIsThere();
  void Done(absl::Status status);

  engine::Loop* const loop_;
  absl::AnyInvocable<void(absl::Status)> done_;
  Chroot chroot_;
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_INIT_H_
