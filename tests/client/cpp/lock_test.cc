// Locks and sessions against a daemon that is killed, started again, or stands still. The contract is
// lock_contract.cc's.
#include <signal.h>

#include <future>
#include <string>
#include <utility>

#include "tests/client/cpp/locks.h"

namespace stm::testing {
namespace {

TEST_CASE("restart: a daemon that is killed and started again finds the hold, and who waits has its turn") {
  Directory directory;
  DaemonOptions options;
  options.data_dir = directory.path();
  Daemon daemon = Must(Daemon::Start(options));
  stm::ConnectOptions connect;
  connect.address = daemon.address();
  connect.unavailable_timeout = kPatience;
  connect.session_ttl = kPatience;
  Client a = Must(stm::Connect(connect));
  Client b = Must(stm::Connect(connect));
  Held held = Must(a.Acquire("/lock"));
  const int64_t token = held.token();
  Acquired waiting = Async(b, "/lock");
  REQUIRE(QueueIs(a, "/lock", 1));
  for (int i = 0; i < 2; ++i) {
    daemon.Kill();
    OK(daemon.Restart());
    LockInfo lock = Must(a.Lock("/lock"));
    REQUIRE(lock.holders.size() == 1);
    CHECK(lock.holders[0].token == token);
    CHECK(lock.queue.size() == 1);
    CHECK_FALSE(held.lost());
    OK(a.Transact([&](Tx& tx) {
      tx.Fence(held);
      tx.Set(a.Ref<int64_t>("/r"), i);
    }));
    CHECK_FALSE(IsReady(waiting));
  }
  OK(held.Release());
  Held next = Must(waiting.get());
  CHECK(next.token() > token);
  CHECK(Must(a.BreakLock("/lock")));
  CHECK(next.AwaitLost(kPatience));  // its stream of beats is there again
}

TEST_CASE("give up: a place is left though every async thread sleeps in a transaction") {
  Daemon daemon = Must(Daemon::Start());
  stm::ConnectOptions connect;
  connect.address = daemon.address();
  connect.async_threads_max = 1;
  Client a = Must(stm::Connect(daemon.address()));
  Client b = Must(stm::Connect(connect));
  const Ref<int64_t> go = a.Ref<int64_t>("/go");
  OK(a.Transact([&](Tx& tx) { tx.Set(go, 0); }));
  const Ref<int64_t> same = b.Ref<int64_t>("/go");
  auto asleep = b.TransactAsync([same](Tx& tx) {
    if (tx.Get(same) == 0) tx.Retry();
  });
  Held held = Must(a.Acquire("/lock"));
  AcquireOptions options;
  options.canceller = Canceller();
  Acquired waiting = Async(b, "/lock", options);
  REQUIRE(QueueIs(a, "/lock", 1));
  options.canceller->Cancel();
  CHECK(absl::IsCancelled(waiting.get().status()));
  CHECK(QueueIs(a, "/lock", 0));
  OK(a.Transact([&](Tx& tx) { tx.Set(go, 1); }));
  OK(asleep.get());
}

TEST_CASE(
    "time: a daemon that stands still for the TTL is believed in no longer than that by the client's own "
    "clock") {
  Daemon daemon = Must(Daemon::Start());
  stm::ConnectOptions connect;
  connect.address = daemon.address();
  connect.session_ttl = absl::Seconds(2);
  connect.unavailable_timeout = kPatience;
  Client client = Must(stm::Connect(connect));
  Held held = Must(client.Acquire("/lock"));
  std::promise<void> told;
  held.OnLost([&] { told.set_value(); });
  REQUIRE(kill(daemon.pid(), SIGSTOP) == 0);
  CHECK(held.AwaitLost(kPatience));
  told.get_future().wait();
  absl::Status fenced = client.Transact([&](Tx& tx) {
    tx.Fence(held);
    tx.Set(client.Ref<int64_t>("/r"), 1);
  });
  CHECK(stm::IsLockLost(fenced));
  REQUIRE(kill(daemon.pid(), SIGCONT) == 0);
  Held again = Must(client.Acquire("/lock"));
  CHECK_FALSE(again.lost());
  CHECK(again.token() > held.token());
  CHECK(held.lost());  // for good
  CHECK(stm::IsLockLost(held.Release()));
  CHECK_FALSE(again.lost());
  OK(again.Release());
  daemon.Kill();  // in order it would wait out its grace for what was cut while it stood still
}

}  // namespace
}  // namespace stm::testing
