// What the making of a store takes, empty (Init) or of a backup (Restore): the chroot's own nodes, a session
// below them, and the ops that make it a store. On the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_MAKING_H_
#define STM_BACKENDS_ZOOKEEPER_MAKING_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backends/zookeeper/epoch.h"
#include "backends/zookeeper/own_tasks.h"
#include "backends/zookeeper/session.h"
#include "engine/loop.h"

namespace stm::zookeeper {

// All of a store but for /stm and /stm/r, which its entries are below: with these it is one.
std::vector<Op> StoreOps(const Epoch& epoch);

// ALREADY_EXISTS: there is a store below this chroot.
absl::Status StoreExists(const std::string& chroot);
// FAILED_PRECONDITION: a restore into this store has not ended.
absl::Status UnfinishedRestore();
// Of a check of kRestorePath, whatever the version: is there one?
inline bool IsThere(Code check) { return check != Code::kNoNode && check != Code::kUnknown; }

// Chroot makes the nodes that the chroot is, which may be there, and then keeps a session below it.
class Chroot {
 public:
  enum class Connected : uint8_t {
    kAgain,  // what was under way is answered, or will be
    kFresh,  // the first time, or what was under way on the session before is answered no more
  };

  // All outlive it. `failed`: PERMISSION_DENIED: the credentials may not; UNAVAILABLE: nothing was answered
  // for `patience`. Perhaps not the last that is told: whoever owns it ends it.
  Chroot(engine::Loop* loop, Sessions* sessions, SessionOptions options, absl::Duration patience,
         absl::AnyInvocable<void(Connected)> connected, absl::AnyInvocable<void(absl::Status)> failed);

  // Below the chroot, once it was connected.
  Session& session() { return *session_; }
  const std::string& path() const { return options_.connect.chroot; }
  // Patience begins anew.
  void Answered() { answered_at_ = loop_->Now(); }
  absl::Status MayNotMake(const std::string& path) const;

 private:
  void Patience(absl::Duration left);
  void OpenAbove();
  void Make(size_t parts);
  void Open();

  engine::Loop* const loop_;
  Sessions* const sessions_;
  const SessionOptions options_;
  const absl::Duration patience_;
  absl::AnyInvocable<void(Connected)> connected_;
  absl::AnyInvocable<void(absl::Status)> failed_;
  absl::Duration answered_at_;
  std::unique_ptr<Session> above_;  // the chroot
  bool making_ = false;
  std::unique_ptr<Session> session_;
  bool fresh_ = true;
  OwnTasks tasks_{loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_MAKING_H_
