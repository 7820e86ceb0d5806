// What java.util.concurrent says of fair locks, rule by rule, of procedures alone: no daemon, no clock.
#include "engine/locks/lock.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "stm/v1/common.pb.h"
#include "tests/engine/locks/book.h"
#include "tests/setting.h"

namespace stm::engine {
namespace {

constexpr char kLock[] = "/l";

struct Scene {
  Scene() {
    for (const char* session : {"a", "b", "c", "d"}) {
      REQUIRE(book.Run(MakeOpenSession(session, "test", absl::Seconds(15), 1)).ok());
    }
  }

  AcquireLock Request(const std::string& session, LockMode mode = LockMode::kExclusive,
                      const std::string& lock = kLock) {
    AcquireLock request;
    request.lock = lock;
    request.by = {session, ""};
    request.mode = mode;
    request.acquire = {1, ++last_id};
    if (mode == LockMode::kPermits) request.permits_max = 3;
    return request;
  }
  LockAnswer Acquire(AcquireLock request) {
    absl::StatusOr<LockAnswer> answer = book.Answer(MakeAcquire(std::move(request), bounds));
    INFO(answer.status());
    REQUIRE(answer.ok());
    return *answer;
  }
  LockAnswer Acquire(const std::string& session, LockMode mode = LockMode::kExclusive,
                     const std::string& lock = kLock) {
    return Acquire(Request(session, mode, lock));
  }
  LockAnswer AtOnce(const std::string& session, LockMode mode = LockMode::kExclusive) {
    AcquireLock request = Request(session, mode);
    request.at_once = true;
    return Acquire(request);
  }
  LockAnswer Release(const std::string& session, int64_t token = 0, const std::string& lock = kLock) {
    absl::StatusOr<LockAnswer> answer = book.Answer(MakeRelease(lock, {session, ""}, token, bounds));
    REQUIRE(answer.ok());
    return *answer;
  }
  std::vector<std::string> Holders(const std::string& lock = kLock) {
    std::vector<std::string> sessions;
    for (const LockHold& hold : book.Lock(lock).holders) sessions.push_back(hold.by.session);
    return sessions;
  }
  std::string End(const std::string& session) {
    absl::StatusOr<Value> end = book.Run(MakeEndSession(session, std::nullopt, bounds));
    REQUIRE(end.ok());
    return end->text();
  }

  Book book;
  LockBounds bounds;
  uint64_t last_id = 0;
};

using Names = std::vector<std::string>;

TEST_CASE("lock: one holds it, who comes later waits, and is granted it in order of coming") {
  Scene s;
  const LockAnswer first = s.Acquire("a");
  CHECK(first.outcome == LockOutcome::kGranted);
  CHECK(first.holds == 1);
  CHECK(s.Acquire("b").outcome == LockOutcome::kQueued);
  CHECK(s.Acquire("c").outcome == LockOutcome::kQueued);
  CHECK(s.Holders() == Names{"a"});
  CHECK(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"b"});
  CHECK(s.Release("b").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"c"});
  CHECK(s.Release("c").outcome == LockOutcome::kReleased);
  CHECK(s.Holders().empty());
}

TEST_CASE("lock: each grant's token is above all before, also after the lock's entry was swept") {
  Scene s;
  int64_t last = 0;
  for (int round = 0; round < 4; ++round) {
    const LockAnswer answer = s.Acquire("a");
    CHECK(answer.token > last);
    last = answer.token;
    CHECK(s.Release("a", last).outcome == LockOutcome::kReleased);
    absl::StatusOr<Value> swept = s.book.Run(MakeSweep({LockEntry(kLock), QueueEntry(kLock)}, s.bounds));
    REQUIRE(swept.ok());
    CHECK(swept->integer() == 1);
    CHECK_FALSE(s.book.Get(LockEntry(kLock)).has_value());
  }
}

TEST_CASE(
    "lock: an entry whose last token is not below the newest version is not swept, nor one that is held") {
  Scene s;
  const LockAnswer held = s.Acquire("a");
  CHECK(s.book.Run(MakeSweep({LockEntry(kLock)}, s.bounds))->integer() == 0);
  REQUIRE(s.Release("a").outcome == LockOutcome::kReleased);
  s.book.version = held.token;  // as in one batch
  CHECK(s.book.Run(MakeSweep({LockEntry(kLock)}, s.bounds))->integer() == 0);
}

TEST_CASE(
    "lock: its owner takes it again at once, and has it until it was released as often, under one token") {
  Scene s;
  const LockAnswer first = s.Acquire("a");
  REQUIRE(s.Acquire("b").outcome == LockOutcome::kQueued);
  const LockAnswer second = s.Acquire("a");
  CHECK(second.outcome == LockOutcome::kGranted);
  CHECK(second.holds == 2);
  CHECK(second.token == first.token);
  const LockAnswer one_less = s.Release("a");
  CHECK(one_less.outcome == LockOutcome::kStillHeld);
  CHECK(one_less.holds == 1);
  CHECK(s.Holders() == Names{"a"});
  CHECK(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"b"});
}

TEST_CASE("lock: another owner of the same session is another") {
  Scene s;
  REQUIRE(s.Acquire("a").outcome == LockOutcome::kGranted);
  AcquireLock other = s.Request("a");
  other.by.owner = "thread 2";
  CHECK(s.Acquire(other).outcome == LockOutcome::kQueued);
  REQUIRE(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.book.Lock(kLock).holders.front().by.owner == "thread 2");
}

TEST_CASE("lock: who does not hold it can't release it, and changes nothing") {
  Scene s;
  CHECK(s.Release("a").outcome == LockOutcome::kNotHeld);
  REQUIRE(s.Acquire("a").outcome == LockOutcome::kGranted);
  const int64_t version = s.book.version;
  const LockAnswer stranger = s.Release("b");
  CHECK(stranger.outcome == LockOutcome::kNotYours);
  REQUIRE(stranger.in_the_way.size() == 1);
  CHECK(stranger.in_the_way[0].hold.by.session == "a");
  CHECK(s.Release("a", 12345).outcome == LockOutcome::kNotHeld);
  CHECK(s.book.version == version);
  CHECK(s.Holders() == Names{"a"});
}

TEST_CASE("lock: at once takes what is free past those who wait, or is busy and leaves no place") {
  Scene s;
  REQUIRE(s.Acquire("a", LockMode::kShared).outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("b").outcome == LockOutcome::kQueued);
  CHECK(s.AtOnce("c", LockMode::kShared).outcome == LockOutcome::kGranted);
  const int64_t version = s.book.version;
  const LockAnswer busy = s.AtOnce("d");
  CHECK(busy.outcome == LockOutcome::kBusy);
  CHECK(busy.in_the_way.size() == 2);
  CHECK(s.book.version == version);
}

TEST_CASE("lock: many read, who writes waits for all of them, and who reads later waits for the writer") {
  Scene s;
  REQUIRE(s.Acquire("a", LockMode::kShared).outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("b", LockMode::kShared).outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("c").outcome == LockOutcome::kQueued);
  REQUIRE(s.Acquire("d", LockMode::kShared).outcome == LockOutcome::kQueued);
  REQUIRE(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"b"});
  REQUIRE(s.Release("b").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"c"});
  REQUIRE(s.Release("c").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"d"});
}

TEST_CASE(
    "lock: readers next to one another in the queue are granted it together, each with a token of its own") {
  Scene s;
  REQUIRE(s.Acquire("a").outcome == LockOutcome::kGranted);
  for (const char* reader : {"b", "c", "d"})
    REQUIRE(s.Acquire(reader, LockMode::kShared).outcome == LockOutcome::kQueued);
  REQUIRE(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"b", "c", "d"});
  const std::vector<int64_t> tokens = s.book.Lock(kLock).Tokens();
  CHECK(std::set<int64_t>(tokens.begin(), tokens.end()).size() == 3);
}

TEST_CASE("lock: a reader reads again though a writer waits") {
  Scene s;
  REQUIRE(s.Acquire("a", LockMode::kShared).outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("b").outcome == LockOutcome::kQueued);
  const LockAnswer again = s.Acquire("a", LockMode::kShared);
  CHECK(again.outcome == LockOutcome::kGranted);
  CHECK(again.holds == 2);
}

TEST_CASE("lock: a writer may read too, and keeps reading when it has ended to write") {
  Scene s;
  REQUIRE(s.Acquire("a").outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("b", LockMode::kShared).outcome == LockOutcome::kQueued);
  REQUIRE(s.Acquire("c").outcome == LockOutcome::kQueued);
  const LockAnswer reads = s.Acquire("a", LockMode::kShared);
  CHECK(reads.outcome == LockOutcome::kGranted);
  CHECK(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"a", "b"});
  CHECK(s.Release("a", reads.token).outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"b"});
}

TEST_CASE(
    "lock: a reader becomes the writer if nobody else reads, under a new token; else it is refused at once") {
  Scene s;
  const LockAnswer reads = s.Acquire("a", LockMode::kShared);
  REQUIRE(s.Acquire("b", LockMode::kShared).outcome == LockOutcome::kGranted);
  CHECK(s.Acquire("a").outcome == LockOutcome::kUpgradeRefused);
  REQUIRE(s.Release("b").outcome == LockOutcome::kReleased);
  REQUIRE(s.Acquire("c").outcome == LockOutcome::kQueued);
  const LockAnswer writes = s.Acquire("a");
  CHECK(writes.outcome == LockOutcome::kGranted);
  CHECK(writes.token > reads.token);
  REQUIRE(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"a"});
  REQUIRE(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"c"});
}

TEST_CASE("lock: permits are given as long as there are enough, in order, and each grant goes back whole") {
  Scene s;
  AcquireLock two = s.Request("a", LockMode::kPermits);
  two.permits = 2;
  const LockAnswer first = s.Acquire(two);
  REQUIRE(first.outcome == LockOutcome::kGranted);
  AcquireLock another = s.Request("b", LockMode::kPermits);
  another.permits = 2;
  CHECK(s.Acquire(another).outcome == LockOutcome::kQueued);
  CHECK(s.Acquire("c", LockMode::kPermits).outcome == LockOutcome::kQueued);  // one is free, b is before
  CHECK(s.AtOnce("d", LockMode::kPermits).outcome == LockOutcome::kGranted);
  REQUIRE(s.Release("a", first.token).outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"d", "b"});
  REQUIRE(s.Release("d").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"b", "c"});
}

TEST_CASE("lock: in use it is a lock or a semaphore of one size, and says which") {
  Scene s;
  REQUIRE(s.Acquire("a", LockMode::kPermits).outcome == LockOutcome::kGranted);
  CHECK(DetailOf(s.book.Answer(MakeAcquire(s.Request("b"), s.bounds)).status())->reason() ==
        v1::ERROR_REASON_WRONG_KIND);
  AcquireLock other_size = s.Request("b", LockMode::kPermits);
  other_size.permits_max = 4;
  const absl::Status status = s.book.Answer(MakeAcquire(other_size, s.bounds)).status();
  CHECK(std::string(status.message()) ==
        "/l: is a semaphore in use, with permits_max=3: permits_max=4: all who use it must say the same");
  REQUIRE(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.Acquire("b").outcome == LockOutcome::kGranted);
  CHECK(
      DetailOf(s.book.Answer(MakeAcquire(s.Request("c", LockMode::kPermits), s.bounds)).status())->reason() ==
      v1::ERROR_REASON_WRONG_KIND);
}

TEST_CASE("lock: who leaves the queue is passed over, and those behind who can go, go") {
  Scene s;
  REQUIRE(s.Acquire("a", LockMode::kShared).outcome == LockOutcome::kGranted);
  AcquireLock writer = s.Request("b");
  const LockAnswer queued = s.Acquire(writer);
  REQUIRE(s.Acquire("c", LockMode::kShared).outcome == LockOutcome::kQueued);
  const auto leave = MakeLeave(kLock, queued.place, writer.acquire, /*give_back=*/true, s.bounds);
  const LockAnswer left = *s.book.Answer(leave);
  CHECK(left.outcome == LockOutcome::kLeft);
  CHECK(s.Holders() == Names{"a", "c"});
  CHECK(left.in_the_way.size() == 2);  // whose time is over is told who has it
  CHECK(s.book.Answer(leave)->outcome == LockOutcome::kNotHeld);
}

TEST_CASE("lock: who leaves as it is granted gives the grant back, or is told of it") {
  Scene s;
  REQUIRE(s.Acquire("a").outcome == LockOutcome::kGranted);
  AcquireLock waiter = s.Request("b");
  const LockAnswer queued = s.Acquire(waiter);
  REQUIRE(s.Release("a").outcome == LockOutcome::kReleased);
  const LockAnswer told =
      *s.book.Answer(MakeLeave(kLock, queued.place, waiter.acquire, /*give_back=*/false, s.bounds));
  CHECK(told.outcome == LockOutcome::kGranted);
  CHECK(told.token == s.book.Lock(kLock).holders.front().token);
  CHECK(
      s.book.Answer(MakeLeave(kLock, queued.place, waiter.acquire, /*give_back=*/true, s.bounds))->outcome ==
      LockOutcome::kReleased);
  CHECK(s.Holders().empty());
}

TEST_CASE("lock: a call is found by its id, with its place or its hold") {
  Scene s;
  AcquireLock first = s.Request("a");
  const LockAnswer granted = s.Acquire(first);
  AcquireLock second = s.Request("b");
  const LockAnswer queued = s.Acquire(second);
  const LockAnswer found = *s.book.Answer(MakeFind(kLock, first.by, first.mode, first.acquire, s.bounds));
  CHECK(found.outcome == LockOutcome::kGranted);
  CHECK(found.token == granted.token);
  const LockAnswer waits = *s.book.Answer(MakeFind(kLock, second.by, second.mode, second.acquire, s.bounds));
  CHECK(waits.outcome == LockOutcome::kQueued);
  CHECK(waits.place == queued.place);
  CHECK(s.book.Answer(MakeFind(kLock, {"c", ""}, LockMode::kExclusive, {9, 9}, s.bounds))->outcome ==
        LockOutcome::kNotHeld);
  // One that took it again is its owner's hold.
  AcquireLock again = s.Request("a");
  REQUIRE(s.Acquire(again).holds == 2);
  CHECK(s.book.Answer(MakeFind(kLock, again.by, again.mode, again.acquire, s.bounds))->holds == 2);
}

TEST_CASE("find: a call that took a hold once more is found by its id, beside another hold of its owner") {
  Scene s;
  s.Acquire("a");
  s.Acquire("a", LockMode::kShared);
  const AcquireLock again = s.Request("a", LockMode::kShared);
  const LockAnswer taken = s.Acquire(again);
  for (LockMode mode : {LockMode::kExclusive, LockMode::kShared, LockMode::kPermits}) {
    const LockAnswer found = *s.book.Answer(MakeFind(kLock, again.by, mode, again.acquire, s.bounds));
    CHECK(found.outcome == LockOutcome::kGranted);
    CHECK(found.token == taken.token);
  }
  // Released once: it may have been that one.
  s.Release("a", taken.token);
  CHECK(s.book.Answer(MakeFind(kLock, again.by, LockMode::kPermits, again.acquire, s.bounds))->outcome ==
        LockOutcome::kNotHeld);
}

TEST_CASE("lock: an operator takes it from all who hold it, whose sessions are told, and the next has it") {
  Scene s;
  const LockAnswer reads = s.Acquire("a", LockMode::kShared);
  REQUIRE(s.Acquire("b", LockMode::kShared).outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("c").outcome == LockOutcome::kQueued);
  CHECK(s.book.Answer(MakeBreak(kLock, s.bounds))->outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"c"});
  CHECK(s.Release("a", reads.token).outcome == LockOutcome::kNotHeld);
  const SessionState session = *ReadSession("a", *s.book.Get(SessionEntry("a")));
  CHECK(session.locks.empty());
  CHECK(session.lost == std::map<std::string, std::vector<int64_t>>{{kLock, {reads.token}}});
}

TEST_CASE("lock: a queue that is full says so") {
  Scene s;
  s.bounds.lock_queue_max = 1;
  REQUIRE(s.Acquire("a").outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("b").outcome == LockOutcome::kQueued);
  const absl::Status status = s.book.Answer(MakeAcquire(s.Request("c"), s.bounds)).status();
  CHECK(absl::IsResourceExhausted(status));
  CHECK(DetailOf(status)->limit() == "lock_queue_max");
}

TEST_CASE("lock: who would wait for itself is told the cycle, and does not wait") {
  Scene s;
  REQUIRE(s.Acquire("a", LockMode::kExclusive, "/1").outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("b", LockMode::kExclusive, "/2").outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("c", LockMode::kExclusive, "/3").outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("a", LockMode::kExclusive, "/2").outcome == LockOutcome::kQueued);
  REQUIRE(s.Acquire("b", LockMode::kExclusive, "/3").outcome == LockOutcome::kQueued);
  const int64_t version = s.book.version;
  const LockAnswer cycle = s.Acquire("c", LockMode::kExclusive, "/1");
  CHECK(cycle.outcome == LockOutcome::kDeadlock);
  Names told;
  for (const LockStep& step : cycle.in_the_way) {
    told.push_back(step.hold.by.session + " holds " + step.lock + " waits for " + step.waits_for);
  }
  CHECK(told == Names{"a holds /1 waits for /2", "b holds /2 waits for /3", "c holds /3 waits for /1"});
  CHECK(s.book.version == version);
  // Whoever goes back opens the way.
  REQUIRE(s.Release("c", 0, "/3").outcome == LockOutcome::kReleased);
  CHECK(s.Acquire("c", LockMode::kExclusive, "/1").outcome == LockOutcome::kQueued);
}

TEST_CASE("lock: two owners of one session can be in a cycle, one owner's wait behind another's is none") {
  Scene s;
  AcquireLock one = s.Request("a", LockMode::kExclusive, "/1");
  one.by.owner = "x";
  REQUIRE(s.Acquire(one).outcome == LockOutcome::kGranted);
  AcquireLock two = s.Request("a", LockMode::kExclusive, "/2");
  two.by.owner = "y";
  REQUIRE(s.Acquire(two).outcome == LockOutcome::kGranted);
  AcquireLock x_waits = s.Request("a", LockMode::kExclusive, "/2");
  x_waits.by.owner = "x";
  REQUIRE(s.Acquire(x_waits).outcome == LockOutcome::kQueued);
  AcquireLock z_waits = s.Request("a", LockMode::kExclusive, "/1");
  z_waits.by.owner = "z";
  CHECK(s.Acquire(z_waits).outcome == LockOutcome::kQueued);
  AcquireLock y_waits = s.Request("a", LockMode::kExclusive, "/1");
  y_waits.by.owner = "y";
  CHECK(s.Acquire(y_waits).outcome == LockOutcome::kDeadlock);
}

// ---- Conditions

struct Conditions : Scene {
  LockAnswer Await(const std::string& session, int64_t token, Uuid id,
                   const std::string& condition = "full") {
    absl::StatusOr<LockAnswer> answer =
        book.Answer(MakeAwait(kLock, {session, ""}, token, condition, id, bounds));
    REQUIRE(answer.ok());
    return *answer;
  }
  LockAnswer Signal(int64_t token, bool all = false, const std::string& condition = "full") {
    absl::StatusOr<LockAnswer> answer = book.Answer(MakeSignal(kLock, token, condition, all, bounds));
    REQUIRE(answer.ok());
    return *answer;
  }
  // Of the condition "full", given last.
  int64_t LastPlace() {
    const std::optional<Value> condition = book.Get(ConditionEntry(kLock, "full"));
    REQUIRE(condition.has_value());
    return condition->map().Find(Value::Keyword("next"))->integer() - 1;
  }
};

TEST_CASE(
    "condition: who awaits gives the lock up whole, and has it again as often once it is signalled and its "
    "turn comes") {
  Conditions s;
  REQUIRE(s.Acquire("a").outcome == LockOutcome::kGranted);
  const LockAnswer held = s.Acquire("a");
  REQUIRE(held.holds == 2);
  CHECK(s.Await("a", held.token, {7, 1}).outcome == LockOutcome::kQueued);
  CHECK(s.Holders().empty());
  const LockAnswer other = s.Acquire("b");
  REQUIRE(other.outcome == LockOutcome::kGranted);
  REQUIRE(s.Acquire("c").outcome == LockOutcome::kQueued);
  const LockAnswer signal = s.Signal(other.token);
  CHECK(signal.outcome == LockOutcome::kSignalled);
  CHECK(signal.woken == 1);
  CHECK(s.Holders() == Names{"b"});
  REQUIRE(s.Release("b").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"c"});
  REQUIRE(s.Release("c").outcome == LockOutcome::kReleased);
  REQUIRE(s.Holders() == Names{"a"});
  const LockHold hold = s.book.Lock(kLock).holders.front();
  CHECK(hold.holds == 2);
  CHECK(hold.token > held.token);
  CHECK(hold.acquire == Uuid{7, 1});
  CHECK_FALSE(hold.unsignalled);
  CHECK_FALSE(s.book.Get(AwaitEntry(kLock, "full", s.LastPlace())).has_value());
}

// Found by `simulation --containers --seed 1287`: the next who awaited took the place of one who waits for the lock, and was
// dropped with the grant.
TEST_CASE("condition: one that is forgotten as idle gives no place away that is still somebody's") {
  Conditions s;
  const LockAnswer first = s.Acquire("a");
  REQUIRE(s.Await("a", first.token, {7, 1}).outcome == LockOutcome::kQueued);
  const LockAnswer second = s.Acquire("b");
  REQUIRE(s.Acquire("c").outcome == LockOutcome::kQueued);
  REQUIRE(s.Signal(second.token).woken == 1);  // "a" is behind "c" now
  const int64_t place = s.LastPlace();
  absl::StatusOr<Value> swept = s.book.Run(MakeSweep({ConditionEntry(kLock, "full")}, s.bounds));
  REQUIRE(swept.ok());
  REQUIRE(swept->integer() == 1);
  REQUIRE(s.Await("b", second.token, {7, 2}).outcome == LockOutcome::kQueued);
  CHECK(s.LastPlace() > place);
  REQUIRE(s.Release("c").outcome == LockOutcome::kReleased);
  REQUIRE(s.Holders() == Names{"a"});
  REQUIRE(s.Holders().size() == 1);
  CHECK(s.Signal(s.book.Lock(kLock).holders.front().token).woken == 1);
  REQUIRE(s.Release("a").outcome == LockOutcome::kReleased);
  CHECK(s.Holders() == Names{"b"});
}

TEST_CASE("condition: signals wake in order of awaiting, one each, or all; of this condition alone") {
  Conditions s;
  for (uint64_t i = 1; i <= 3; ++i) {
    const std::string session(1, static_cast<char>('a' + i - 1));
    const LockAnswer held = s.Acquire(session);
    REQUIRE(held.outcome == LockOutcome::kGranted);
    REQUIRE(s.Await(session, held.token, {7, i}, i == 3 ? "empty" : "full").outcome == LockOutcome::kQueued);
  }
  const LockAnswer held = s.Acquire("d");
  REQUIRE(held.outcome == LockOutcome::kGranted);
  CHECK(s.Signal(held.token, /*all=*/true).woken == 2);
  CHECK(s.Signal(held.token).woken == 0);
  CHECK(s.Signal(held.token, false, "empty").woken == 1);
  Names order;
  REQUIRE(s.Release("d").outcome == LockOutcome::kReleased);
  while (!s.Holders().empty()) {
    order.push_back(s.Holders().front());
    REQUIRE(s.Release(order.back()).outcome == LockOutcome::kReleased);
  }
  CHECK(order == Names{"a", "b", "c"});
}

TEST_CASE("condition: only who holds the lock alone may await or signal") {
  Conditions s;
  const LockAnswer reads = s.Acquire("a", LockMode::kShared);
  CHECK(s.Await("a", reads.token, {7, 1}).outcome == LockOutcome::kNotHeld);
  CHECK(s.Signal(reads.token).outcome == LockOutcome::kNotHeld);
  CHECK(s.Await("b", reads.token, {7, 2}).outcome == LockOutcome::kNotHeld);
  CHECK(s.Signal(0).outcome == LockOutcome::kNotHeld);
}

TEST_CASE(
    "condition: whose time is over has the lock again when its turn comes, unsignalled; a signal before is a "
    "signal") {
  Conditions s;
  const LockAnswer a = s.Acquire("a");
  const int64_t first = s.Await("a", a.token, {7, 1}).place;
  const LockAnswer b = s.Acquire("b");
  REQUIRE(b.outcome == LockOutcome::kGranted);
  CHECK(s.book.Answer(MakeEndAwait(kLock, "full", first, s.bounds))->outcome == LockOutcome::kBusy);
  CHECK(s.Holders() == Names{"b"});
  CHECK(s.Signal(b.token).woken == 0);
  CHECK(s.book.Answer(MakeEndAwait(kLock, "full", first, s.bounds))->outcome == LockOutcome::kBusy);
  REQUIRE(s.Release("b").outcome == LockOutcome::kReleased);
  REQUIRE(s.Holders() == Names{"a"});
  CHECK(s.book.Lock(kLock).holders.front().unsignalled);
  // Signalled first.
  REQUIRE(s.Await("a", s.book.Lock(kLock).holders.front().token, {7, 2}).place == first + 1);
  const LockAnswer c = s.Acquire("c");
  REQUIRE(s.Signal(c.token).woken == 1);
  CHECK(s.book.Answer(MakeEndAwait(kLock, "full", first + 1, s.bounds))->outcome == LockOutcome::kSignalled);
  REQUIRE(s.Release("c").outcome == LockOutcome::kReleased);
  CHECK_FALSE(s.book.Lock(kLock).holders.front().unsignalled);
  CHECK(s.book.Answer(MakeEndAwait(kLock, "full", first + 1, s.bounds))->outcome == LockOutcome::kNotHeld);
}

TEST_CASE("condition: the end of one's session ends what it awaits, and what it has again by then") {
  Conditions s;
  const LockAnswer a = s.Acquire("a");
  REQUIRE(s.Await("a", a.token, {7, 1}).outcome == LockOutcome::kQueued);
  SECTION("while it awaits") {
    CHECK(s.End("a") == "ended");
    const LockAnswer b = s.Acquire("b");
    CHECK(s.Signal(b.token).woken == 0);
  }
  SECTION("while it waits for the lock") {
    const LockAnswer b = s.Acquire("b");
    REQUIRE(s.Signal(b.token).woken == 1);
    CHECK(s.End("a") == "ended");
    REQUIRE(s.Release("b").outcome == LockOutcome::kReleased);
    CHECK(s.Holders().empty());
  }
  SECTION("while it has the lock again") {
    const LockAnswer b = s.Acquire("b");
    REQUIRE(s.Signal(b.token).woken == 1);
    REQUIRE(s.Release("b").outcome == LockOutcome::kReleased);
    REQUIRE(s.Holders() == Names{"a"});
    CHECK(s.End("a") == "ended");
    CHECK(s.Holders().empty());
  }
}

// ---- Anything, in any order

// Of every entry that a lock has: who waits has a session that knows, tokens are one's own, exclusive is
// alone. `grants`: all that were ever seen, of each lock, by token.
void CheckBook(const Book& book, std::map<std::string, std::map<int64_t, Uuid>>* grants) {
  std::map<std::string, SessionState> sessions;
  for (const auto& [name, line] : book.lines) {
    if (auto id = SessionOfEntry(name)) sessions[std::string(*id)] = *ReadSession(*id, line.value);
  }
  std::map<std::string, std::map<int64_t, Uuid>> known = *grants;
  std::map<std::string, int64_t> before;
  for (const auto& [lock, tokens] : known) before[lock] = tokens.empty() ? 0 : tokens.rbegin()->first;
  for (const auto& [name, line] : book.lines) {
    if (auto lock = LockOfEntry(name)) {
      const LockState state = *ReadLock(*lock, line.value);
      int64_t exclusive = 0, permits = 0;
      std::set<std::string> owners;
      for (const LockHold& hold : state.holders) {
        INFO(name << " " << line.value);
        REQUIRE(sessions.count(hold.by.session) == 1);
        REQUIRE(sessions[hold.by.session].locks.count(std::string(*lock)) == 1);
        REQUIRE(hold.token <= state.token);
        std::map<int64_t, Uuid>& ever = (*grants)[std::string(*lock)];
        const bool newest = ever.empty() || hold.token > before[std::string(*lock)];
        REQUIRE(ever.emplace(hold.token, hold.acquire).first->second == hold.acquire);
        if (!newest) REQUIRE(known[std::string(*lock)].count(hold.token) == 1);
        exclusive += hold.mode == LockMode::kExclusive;
        permits += hold.permits;
        owners.insert(hold.by.session + " " + hold.by.owner);
      }
      if (exclusive > 0) REQUIRE(owners.size() == 1);
      REQUIRE(permits <= state.permits_max);
      const std::optional<Value> queue = book.Get(QueueEntry(*lock));
      const Value* next = queue.has_value() ? queue->map().Find(Value::Keyword("next")) : nullptr;
      if (next != nullptr && state.first < next->integer() && !state.holders.empty()) {
        INFO("the first place is somebody's: " << name);
        REQUIRE(book.Get(WaiterEntry(*lock, state.first)).has_value());
      }
      if (state.holders.empty() && next != nullptr) REQUIRE(state.first == next->integer());
    }
    if (name.rfind("/.waiters/", 0) == 0) {
      const LockWaiter waiter = *ReadWaiter(name, line.value);
      INFO(name << " " << line.value);
      REQUIRE(sessions.count(waiter.by.session) == 1);
      const SessionState& session = sessions[waiter.by.session];
      if (waiter.await.empty()) {
        const std::string lock = name.substr(9, name.rfind('/') - 9);
        const auto& places = session.locks.at(lock);
        REQUIRE(std::count(places.begin(), places.end(), std::stoll(name.substr(name.rfind('/') + 1))) == 1);
      } else {
        REQUIRE(session.awaits.count(waiter.await) == 1);
        REQUIRE(book.Get(waiter.await).has_value());
      }
    }
    if (name.rfind("/.awaits/", 0) == 0) {
      const std::string session = line.value.map().Find(Value::Keyword("session"))->text();
      INFO(name);
      REQUIRE(sessions.count(session) == 1);
      REQUIRE(sessions[session].awaits.count(name) == 1);
    }
  }
}

TEST_CASE(
    "lock: whatever is called in any order, every hold and place is its session's, and the end of all leaves "
    "nothing") {
  constexpr int64_t kSeeds = 60;
  for (int64_t seed = 1; seed <= Setting("SEEDS", kSeeds); ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(static_cast<uint32_t>(seed));
    const auto roll = [&random](int sides) {
      return static_cast<int>(random() % static_cast<uint32_t>(sides));
    };
    Book book;
    LockBounds bounds;
    bounds.lock_holders_max = 4;
    const std::vector<std::string> locks = {"/x", "/x/y", "/z"};
    std::vector<std::string> open;
    int opened = 0;
    uint64_t id = 0;
    struct Called {
      std::string lock;
      LockOwner by;
      int64_t place;
      Uuid acquire;
    };
    std::vector<Called> queued, awaited;
    std::map<std::string, std::map<int64_t, Uuid>> grants;
    int64_t granted = 0, deadlocks = 0, signalled = 0, left = 0;
    for (int step = 0; step < 400; ++step) {
      if (open.size() < 4) {
        open.push_back(absl::StrCat("s", ++opened));
        REQUIRE(book.Run(MakeOpenSession(open.back(), "test", absl::Seconds(15), 1)).ok());
      }
      LockOwner by{open[static_cast<size_t>(roll(static_cast<int>(open.size())))], roll(2) == 0 ? "" : "t"};
      const std::string& lock = locks[static_cast<size_t>(roll(3))];
      const LockState state = book.Lock(lock);
      const int action = roll(20);
      if (action < 9) {
        AcquireLock request;
        request.lock = lock;
        request.by = by;
        request.mode = lock == "/z"   ? LockMode::kPermits
                       : roll(2) == 0 ? LockMode::kShared
                                      : LockMode::kExclusive;
        request.permits = 1 + roll(2);
        request.permits_max = request.mode == LockMode::kPermits ? 3 : 0;
        request.at_once = roll(5) == 0;
        request.acquire = {2, ++id};
        absl::StatusOr<LockAnswer> answer = book.Answer(MakeAcquire(request, bounds));
        REQUIRE(answer.ok());
        if (answer->outcome == LockOutcome::kQueued)
          queued.push_back({lock, by, answer->place, request.acquire});
        granted += answer->outcome == LockOutcome::kGranted;
        deadlocks += answer->outcome == LockOutcome::kDeadlock;
      } else if (action < 14) {
        REQUIRE(book.Answer(MakeRelease(lock, by, 0, bounds)).ok());
      } else if (action == 14 && !queued.empty()) {
        const Called& call = queued[static_cast<size_t>(roll(static_cast<int>(queued.size())))];
        absl::StatusOr<LockAnswer> answer =
            book.Answer(MakeLeave(call.lock, call.place, call.acquire, roll(2) == 0, bounds));
        REQUIRE(answer.ok());
        left += answer->outcome == LockOutcome::kLeft;
      } else if (action == 15) {
        const LockHold* hold = state.Find(by, LockMode::kExclusive);
        if (hold == nullptr || state.Find(by, LockMode::kShared) != nullptr) continue;
        absl::StatusOr<LockAnswer> answer =
            book.Answer(MakeAwait(lock, by, hold->token, "c", {3, ++id}, bounds));
        REQUIRE(answer.ok());
        awaited.push_back({lock, by, answer->place, {3, id}});
      } else if (action == 16 && !state.holders.empty()) {
        absl::StatusOr<LockAnswer> answer =
            book.Answer(MakeSignal(lock, state.holders[0].token, "c", roll(2) == 0, bounds));
        REQUIRE(answer.ok());
        signalled += answer->woken;
      } else if (action == 17 && !awaited.empty()) {
        const Called& call = awaited[static_cast<size_t>(roll(static_cast<int>(awaited.size())))];
        REQUIRE(book.Answer(MakeEndAwait(call.lock, "c", call.place, bounds)).ok());
      } else if (action == 18) {
        std::vector<std::string> swept;
        for (const auto& [name, line] : book.lines) {
          if (IsSweptLock(name)) swept.push_back(name);
        }
        REQUIRE(book.Run(MakeSweep(swept, bounds)).ok());
      } else if (action == 19 && roll(3) == 0) {
        const size_t which = static_cast<size_t>(roll(static_cast<int>(open.size())));
        REQUIRE(book.Run(MakeEndSession(open[which], std::nullopt, bounds))->text() == "ended");
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(which));
      } else if (roll(4) == 0) {
        REQUIRE(book.Answer(MakeBreak(lock, bounds)).ok());
      }
      CheckBook(book, &grants);
    }
    CHECK(granted > 10);
    CHECK(left + signalled + deadlocks >= 0);
    for (const std::string& session : open)
      REQUIRE(book.Run(MakeEndSession(session, std::nullopt, bounds))->text() == "ended");
    std::vector<std::string> swept;
    for (const auto& [name, line] : book.lines) {
      INFO(name << " " << line.value);
      REQUIRE(IsSweptLock(name));
      swept.push_back(name);
    }
    book.version += 1000;
    REQUIRE(book.Run(MakeSweep(swept, bounds)).ok());
    // Who has gone when it is looked at goes the next time.
    REQUIRE(book.Run(MakeSweep(swept, bounds)).ok());
    CHECK(book.lines.empty());
  }
}

}  // namespace
}  // namespace stm::engine
