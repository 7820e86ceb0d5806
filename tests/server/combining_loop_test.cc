#include "server/combining_loop.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "catch2/catch.hpp"

namespace stm::server {
namespace {

using engine::Work;

constexpr absl::Duration kDeadline = absl::Seconds(60);

TEST_CASE("loop: a task posted to an idle loop has run when Post returns") {
  CombiningLoop loop;
  bool ran = false;
  std::thread::id thread;
  loop.Post([&] {
    ran = true;
    thread = std::this_thread::get_id();
  });
  REQUIRE(ran);
  REQUIRE(thread == std::this_thread::get_id());
}

TEST_CASE("loop: a task posted by a task runs after it, and after all posted before") {
  CombiningLoop loop;
  std::vector<int> order;
  loop.Post([&] {
    loop.Post([&] {
      order.push_back(2);
      loop.Post([&] { order.push_back(4); });
    });
    loop.Post([&] { order.push_back(3); });
    order.push_back(1);
  });
  REQUIRE(order == std::vector<int>{1, 2, 3, 4});
}

TEST_CASE("loop: of many threads' tasks one runs at a time, each thread's in order") {
  constexpr int kThreads = 8;
  constexpr int kTasks = 2000;
  CombiningLoop loop;
  std::vector<int> last(kThreads, -1);  // the Loop's, unguarded: ThreadSanitizer watches
  int64_t total = 0;
  std::atomic<int> inside{0};
  std::atomic<int64_t> answers{0};
  std::atomic<int64_t> writes{0};
  bool in_order = true;
  bool alone = true;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTasks; ++i) {
        loop.Post([&, t, i] {
          alone = alone && inside.fetch_add(1) == 0;
          in_order = in_order && last[t] == i - 1;
          last[t] = i;
          ++total;
          if (i % 2 == 0) loop.Run(Work::kAnswer, [&] { answers.fetch_add(1); });
          if (i % 16 == 0) {
            loop.Run(Work::kWrite, [&] {
              writes.fetch_add(1);
              loop.Post([&] { loop.Run(Work::kAnswer, [&] { answers.fetch_add(1); }); });
            });
          }
          inside.fetch_sub(1);
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  loop.Stop();
  REQUIRE(alone);
  REQUIRE(in_order);
  REQUIRE(total == kThreads * kTasks);
  REQUIRE(writes.load() == kThreads * kTasks / 16);
  REQUIRE(answers.load() == kThreads * kTasks / 2 + kThreads * kTasks / 16);
}

TEST_CASE("loop: what a task gives to Run is done off the loop, by the same thread when it is alone") {
  CombiningLoop loop;
  bool in_task = false;
  std::vector<std::thread::id> threads;
  loop.Post([&] {
    in_task = true;
    loop.Run(Work::kWrite, [&] {
      REQUIRE_FALSE(in_task);
      threads.push_back(std::this_thread::get_id());
      // The loop is free: this runs at once.
      bool ran = false;
      loop.Post([&] { ran = true; });
      REQUIRE(ran);
    });
    in_task = false;
  });
  REQUIRE(threads == std::vector<std::thread::id>{std::this_thread::get_id()});
}

TEST_CASE("loop: work that posts tasks that make work does not nest without bound") {
  CombiningLoop loop;
  int left = 20000;
  int depth = 0;
  int deepest = 0;
  std::function<void()> again = [&] {
    deepest = std::max(deepest, ++depth);
    loop.Post([&] {
      if (--left > 0) loop.Run(left % 2 == 0 ? Work::kAnswer : Work::kWrite, [&] { again(); });
    });
    --depth;
  };
  again();
  REQUIRE(left == 0);
  REQUIRE(deepest <= 2);
}

TEST_CASE("loop: a thread that owes answers hands a busy loop over") {
  CombiningLoop loop;
  absl::Notification answered;
  std::atomic<bool> stop{false};
  std::function<void()> busy = [&] {
    if (!stop.load()) loop.Post([&] { busy(); });
  };
  loop.Post([&] {
    loop.Run(Work::kAnswer, [&] {
      stop.store(true);
      answered.Notify();
    });
    busy();
  });
  REQUIRE(answered.WaitForNotificationWithTimeout(kDeadline));
  loop.Stop();
}

TEST_CASE("loop: heavy work never holds up answers or the loop") {
  CombiningLoop loop;
  absl::Notification let_go;
  absl::Notification answered;
  for (int i = 0; i < 8; ++i) loop.Run(Work::kHeavy, [&] { let_go.WaitForNotification(); });
  loop.Run(Work::kAnswer, [&] { loop.Post([&] { answered.Notify(); }); });
  REQUIRE(answered.WaitForNotificationWithTimeout(kDeadline));
  let_go.Notify();
  loop.Stop();
}

TEST_CASE("loop: timers run on the loop, not before their time, in order of time and then of At") {
  CombiningLoop loop;
  std::vector<int> order;
  bool early = false;
  absl::Notification done;
  loop.Post([&] {
    const absl::Duration now = loop.Now();
    const auto at = [&](int ms, int name) {
      const absl::Duration when = now + absl::Milliseconds(ms);
      loop.At(when, [&, when, name] {
        early = early || loop.Now() < when;
        order.push_back(name);
        if (order.size() == 4) done.Notify();
      });
    };
    at(20, 3);
    at(5, 1);
    at(20, 4);
    at(10, 2);
  });
  REQUIRE(done.WaitForNotificationWithTimeout(kDeadline));
  loop.Stop();
  REQUIRE_FALSE(early);
  REQUIRE(order == std::vector<int>{1, 2, 3, 4});
}

TEST_CASE("loop: a stop drops timers that are not due and finishes what was posted") {
  auto held = std::make_shared<int>(0);
  std::atomic<int> ran{0};
  CombiningLoop loop;
  loop.Post([&] { loop.At(loop.Now() + absl::Hours(1), [held, &ran] { ran.fetch_add(100); }); });
  for (int i = 0; i < 100; ++i) loop.Run(Work::kHeavy, [&] { loop.Post([&] { ran.fetch_add(1); }); });
  loop.Stop();
  REQUIRE(ran.load() == 100);
  REQUIRE(held.use_count() == 1);
  // And the loop goes on working in the caller's thread.
  bool after = false;
  loop.Post([&] { loop.Run(Work::kHeavy, [&] { after = true; }); });
  REQUIRE(after);
}

TEST_CASE("loop: random numbers differ from each other and from another loop's") {
  CombiningLoop one;
  CombiningLoop other;
  uint64_t a = 0, b = 0, c = 0;
  one.Post([&] {
    a = one.Random();
    b = one.Random();
  });
  other.Post([&] { c = other.Random(); });
  REQUIRE(a != b);
  REQUIRE(a != c);
}

}  // namespace
}  // namespace stm::server
