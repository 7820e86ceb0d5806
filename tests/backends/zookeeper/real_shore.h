// RealShore is one of the C client's sessions. What waits gives up after kPatience.
#ifndef STM_TESTS_BACKENDS_ZOOKEEPER_REAL_SHORE_H_
#define STM_TESTS_BACKENDS_ZOOKEEPER_REAL_SHORE_H_

#include <functional>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "backends/zookeeper/c_session.h"
#include "server/combining_loop.h"
#include "tests/backends/zookeeper/client.h"
#include "tests/e2e/faults/process.h"

namespace stm::zookeeper {

class RealShore final : public Shore {
 public:
  Sessions& sessions() override { return sessions_; }
  void Run(engine::Task task) override {
    absl::Notification ran;
    loop_.Post([&] {
      std::move(task)();
      ran.Notify();
    });
    ran.WaitForNotification();
  }
  bool Await(const absl::Notification& notification) override {
    return notification.WaitForNotificationWithTimeout(e2e::kPatience);
  }
  bool Eventually(const std::function<bool()>& condition) override { return e2e::Eventually(condition); }

  engine::Loop& loop() { return loop_; }

 private:
  server::CombiningLoop loop_;
  CSessions sessions_{&loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_TESTS_BACKENDS_ZOOKEEPER_REAL_SHORE_H_
