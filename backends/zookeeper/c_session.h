// CSessions opens sessions by Debian's ZooKeeper client library for C. Each has the library's two threads,
// and one of ours that opens and closes it: both look names up or wait for a server, and block. What the
// library's completion thread brings it posts to the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_C_SESSION_H_
#define STM_BACKENDS_ZOOKEEPER_C_SESSION_H_

#include <memory>
#include <thread>
#include <vector>

#include "backends/zookeeper/session.h"
#include "engine/loop.h"

namespace stm::zookeeper {

class Wire;  // what the Loop and the library's threads share of a session

class CSessions final : public Sessions {
 public:
  explicit CSessions(engine::Loop* loop);
  // Its sessions are gone. Waits until the servers have been told so, seconds at most. Not on the Loop, which
  // still runs.
  ~CSessions() override;
  CSessions(const CSessions&) = delete;
  CSessions& operator=(const CSessions&) = delete;

  std::unique_ptr<Session> Open(SessionOptions options,
                                absl::AnyInvocable<void(const Event&)> on_event) override;

 private:
  struct Keeper {
    std::shared_ptr<Wire> wire;
    std::thread thread;
  };
  // Joins the threads of sessions that are closed.
  void Reap();

  engine::Loop* const loop_;
  std::vector<Keeper> keepers_;  // on the Loop
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_C_SESSION_H_
