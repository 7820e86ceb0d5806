// Writes of many callers in one command.
#include "backends/mongodb/together.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "tests/e2e/faults/process.h"

namespace stm::mongodb {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr absl::Duration kShort = absl::Milliseconds(50);

TEST_CASE("together: a write that finds a lane free is sent at once, by its caller") {
  Together together(1);
  const auto caller = std::this_thread::get_id();
  for (int i = 0; i < 3; ++i) {
    const absl::Status status =
        together.Do("a", Deadline(kLong), [&](const std::vector<Together::Write*>& writes) {
          REQUIRE(writes.size() == 1);
          CHECK(writes.front()->what == "a");
          CHECK(std::this_thread::get_id() == caller);
          writes.front()->status = absl::NotFoundError("its own");
        });
    CHECK(status == absl::NotFoundError("its own"));
  }
}

TEST_CASE(
    "together: those that wait go in one command, each is told of its own, and no more are sent at once than "
    "lanes") {
  constexpr int kCallers = 16, kLanes = 2;
  Together together(kLanes);
  std::atomic<int> sending = 0, most = 0, wrong = 0, sent = 0, together_max = 0, calls = 0;
  const auto send = [&](const std::vector<Together::Write*>& writes) {
    const int now = ++sending;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    const int size = static_cast<int>(writes.size());
    for (int seen = together_max; size > seen && !together_max.compare_exchange_weak(seen, size);) {
    }
    sent += size;
    for (Together::Write* write : writes) write->status = absl::NotFoundError(write->what);
    std::this_thread::yield();
    --sending;
  };
  // Until it was seen.
  CHECK(e2e::Eventually([&] {
    std::vector<std::thread> callers;
    for (int i = 0; i < kCallers; ++i) {
      callers.emplace_back([&, i] {
        for (int n = 0; n < 50; ++n) {
          const std::string what = absl::StrCat(i, "-", n);
          ++calls;
          wrong += together.Do(what, Deadline(kLong), send) != absl::NotFoundError(what);
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    return together_max > 1 && most == kLanes;
  }));
  CHECK(wrong == 0);
  CHECK(sent == calls);
  CHECK(most <= kLanes);
}

TEST_CASE(
    "together: a write whose turn does not come by its deadline was not sent, and those behind it are") {
  Together together(1);
  absl::Notification sending, go_on;
  std::atomic<int> sent = 0;
  std::thread first([&] {
    CHECK(together
              .Do("first", Deadline(kLong),
                  [&](const std::vector<Together::Write*>&) {
                    sending.Notify();
                    go_on.WaitForNotification();
                  })
              .ok());
  });
  sending.WaitForNotification();
  const auto send = [&](const std::vector<Together::Write*>& writes) {
    sent += static_cast<int>(writes.size());
  };
  for (const absl::Duration within : {kShort, absl::ZeroDuration()}) {
    const absl::Status late = together.Do("late", Deadline(within), send);
    CHECK(late == absl::UnavailableError("those before it are still being written: MongoDB is slow"));
  }
  std::thread last([&] { CHECK(together.Do("last", Deadline(kLong), send).ok()); });
  go_on.Notify();
  first.join();
  last.join();
  CHECK(sent == 1);
}

TEST_CASE("together: one command is no larger than its bounds, and what is larger goes alone") {
  Together together(1);
  const std::string large(Together::kBytesMax / 2, 'x'), huge(2 * Together::kBytesMax, 'x');
  std::atomic<int> beyond = 0, done = 0;
  const auto send = [&](const std::vector<Together::Write*>& writes) {
    size_t bytes = 0;
    for (const Together::Write* write : writes) bytes += write->what.size();
    if (writes.size() > 1 && (bytes > Together::kBytesMax || writes.size() > Together::kWritesMax)) ++beyond;
    std::this_thread::yield();
  };
  std::vector<std::thread> callers;
  for (int i = 0; i < 12; ++i) {
    callers.emplace_back([&, i] {
      for (int n = 0; n < 20; ++n) done += together.Do(i % 3 == 0 ? huge : large, Deadline(kLong), send).ok();
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(beyond == 0);
  CHECK(done == 12 * 20);
}

}  // namespace
}  // namespace stm::mongodb
