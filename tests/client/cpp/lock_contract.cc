// The contract of locks, sessions and what is bound to them, rule by rule: java.util.concurrent's Lock,
// ReadWriteLock and Condition, fences, elections and barriers, through the client against the daemons that
// SharedAddress gives, of whatever coordinator and however many.
#include <atomic>
#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "stm/recipes.h"
#include "tests/client/cpp/locks.h"

namespace stm::testing {
namespace {

// ---- Mutual exclusion

TEST_CASE("lock: one owner holds it as often as it acquired it, and others when all of that is released") {
  Client a = Shared("a");
  Client b = Shared("b");
  const std::string name = Names()("lock");
  Held first = Must(a.Acquire(name));
  Held second = Must(a.Acquire(name));
  CHECK(first.token() == second.token());
  CHECK(first.name() == name);
  LockInfo lock = Must(a.Lock(name));
  REQUIRE(lock.holders.size() == 1);
  CHECK(lock.holders[0].holds == 2);
  CHECK(lock.holders[0].token == first.token());
  absl::Status busy = b.Acquire(name, AtOnce()).status();
  CHECK(stm::IsLockBusy(busy));
  CHECK(absl::IsAborted(busy));
  CHECK(Contains(busy, name));
  CHECK(Contains(busy, lock.holders[0].session_id));
  OK(first.Release());
  CHECK(stm::IsLockBusy(b.Acquire(name, AtOnce()).status()));
  CHECK_FALSE(second.lost());
  OK(second.Release());
  Held third = Must(b.Acquire(name, AtOnce()));
  CHECK(third.token() > second.token());
}

TEST_CASE("lock: owners of one client exclude one another") {
  Client client = Shared();
  const std::string name = Names()("lock");
  Held one = Must(client.Acquire(name, As("one")));
  absl::Status busy = client.Acquire(name, AtOnce(As("two"))).status();
  CHECK(stm::IsLockBusy(busy));
  CHECK(Contains(busy, "one"));
  Held again = Must(client.Acquire(name, AtOnce(As("one"))));
  CHECK(again.token() == one.token());
}

TEST_CASE("lock: whoever waits has it in the order in which it came") {
  Client client = Shared();
  const std::string name = Names()("lock");
  std::optional<Held> held = Must(client.Acquire(name, As("holder")));
  std::vector<Acquired> waiting;
  for (int i = 0; i < 5; ++i) {
    waiting.push_back(Async(client, name, As("w" + std::to_string(i))));
    REQUIRE(QueueIs(client, name, waiting.size()));
  }
  LockInfo lock = Must(client.Lock(name));
  for (size_t i = 0; i < 5; ++i) CHECK(lock.queue[i].owner == "w" + std::to_string(i));
  int64_t token = held->token();
  held.reset();
  for (size_t i = 0; i < 5; ++i) {
    Held next = Must(waiting[i].get());
    CHECK(next.token() > token);
    token = next.token();
    for (size_t j = i + 1; j < 5; ++j) CHECK_FALSE(IsReady(waiting[j]));
  }
  CHECK(Eventually([&] { return IsFree(client, name); }));
}

TEST_CASE("try lock: at once it takes what is free past those who wait; within a time it waits behind them") {
  Client client = Shared();
  const std::string name = Names()("lock");
  std::optional<Held> reader = Must(client.Acquire(name, SharedBy("reader")));
  Acquired writer = Async(client, name, As("writer"));
  REQUIRE(QueueIs(client, name, 1));
  std::optional<Held> past = Must(client.Acquire(name, AtOnce(SharedBy("past"))));
  CHECK(stm::IsLockBusy(client.Acquire(name, SharedBy("behind", absl::Milliseconds(20))).status()));
  CHECK(stm::IsLockBusy(client.Acquire(name, AtOnce(As("other"))).status()));
  CHECK(Must(client.Lock(name)).queue.size() == 1);
  reader.reset();
  past.reset();
  Held written = Must(writer.get());
  CHECK_FALSE(written.lost());
}

TEST_CASE(
    "try lock: within a time it is granted if it is released in that time, else busy without a place left "
    "behind") {
  Client a = Shared("a");
  Client b = Shared("b");
  const std::string name = Names()("lock");
  std::optional<Held> held = Must(a.Acquire(name));
  absl::Status busy = b.Acquire(name, As("", absl::Milliseconds(20))).status();
  CHECK(stm::IsLockBusy(busy));
  const LockInfo lock = Must(a.Lock(name));
  CHECK(Contains(busy, lock.holders.at(0).session_id));  // who is in the way
  CHECK(lock.queue.empty());
  Acquired waiting = Async(b, name, As("", kPatience));
  REQUIRE(QueueIs(a, name, 1));
  held.reset();
  CHECK_FALSE(Must(waiting.get()).lost());
}

TEST_CASE("try lock: at the edge of its time it is granted or busy, never both and never neither") {
  Client a = Shared("a");
  Client b = Shared("b");
  const std::string name = Names()("lock");
  for (int i = 0; i < 40; ++i) {
    std::optional<Held> held = Must(a.Acquire(name));
    Acquired waiting = Async(b, name, As("", absl::Milliseconds(10)));
    std::this_thread::sleep_for(std::chrono::microseconds(8000 + i * 100));  // near the edge, on either side
    held.reset();
    absl::StatusOr<Held> granted = waiting.get();
    const LockInfo lock = Must(a.Lock(name));
    CHECK(lock.queue.empty());
    if (granted.ok()) {
      REQUIRE(lock.holders.size() == 1);
      CHECK(lock.holders[0].token == granted->token());
      OK(granted->Release());
    } else {
      CHECK(stm::IsLockBusy(granted.status()));
      CHECK(lock.holders.empty());
    }
  }
}

TEST_CASE("unlock: what was given back or lost is kLockLost, and takes nothing from who holds it now") {
  Client a = Shared("a");
  Client b = Shared("b");
  const std::string name = Names()("lock");
  Held held = Must(a.Acquire(name));
  OK(held.Release());
  CHECK(held.lost());
  CHECK(stm::IsLockLost(held.Release()));
  Held broken = Must(a.Acquire(name));
  CHECK(Must(b.BreakLock(name, "a test")));
  CHECK_FALSE(Must(b.BreakLock(name)));
  Held other = Must(b.Acquire(name));
  CHECK(stm::IsLockLost(broken.Release()));
  LockInfo lock = Must(a.Lock(name));
  REQUIRE(lock.holders.size() == 1);
  CHECK(lock.holders[0].token == other.token());
  CHECK_FALSE(other.lost());
}

// ---- Read-write locks, semaphores, conditions

TEST_CASE("read-write: readers read together, a writer waits for them, and later readers for the writer") {
  Client client = Shared();
  const std::string name = Names()("lock");
  std::optional<Held> one = Must(client.Acquire(name, SharedBy("one")));
  std::optional<Held> two = Must(client.Acquire(name, SharedBy("two")));
  CHECK(Must(client.Lock(name)).holders.size() == 2);
  Acquired writer = Async(client, name, As("writer"));
  REQUIRE(QueueIs(client, name, 1));
  Acquired later = Async(client, name, SharedBy("later"));
  REQUIRE(QueueIs(client, name, 2));
  one.reset();
  CHECK_FALSE(IsReady(writer));
  two.reset();
  std::optional<Held> written = Must(writer.get());
  CHECK_FALSE(IsReady(later));
  written.reset();
  CHECK_FALSE(Must(later.get()).lost());
}

TEST_CASE("read-write: whoever writes may read too, and then writes no more: others read with it") {
  Client a = Shared("a");
  Client b = Shared("b");
  const std::string name = Names()("lock");
  Held write = Must(a.Acquire(name));
  Held read = Must(a.Acquire(name, SharedBy()));
  CHECK(stm::IsLockBusy(b.Acquire(name, AtOnce(SharedBy())).status()));
  OK(write.Release());
  CHECK_FALSE(read.lost());
  Held other = Must(b.Acquire(name, AtOnce(SharedBy())));
  CHECK(stm::IsLockBusy(b.Acquire(name, AtOnce(As("writer"))).status()));
}

TEST_CASE("read-write: an upgrade is refused while others read, at once even if it would wait") {
  Client a = Shared("a");
  Client b = Shared("b");
  const std::string name = Names()("lock");
  Held read = Must(a.Acquire(name, SharedBy()));
  std::optional<Held> other = Must(b.Acquire(name, SharedBy()));
  absl::Status refused = a.Acquire(name).status();
  CHECK(stm::IsUpgradeRefused(refused));
  CHECK(absl::IsFailedPrecondition(refused));
  CHECK(Contains(refused, name));
  other.reset();
  Held write = Must(a.Acquire(name));
  CHECK_FALSE(read.lost());
  CHECK_FALSE(write.lost());
}

TEST_CASE("semaphore: its permits are given as long as there are any, each grant with a token of its own") {
  Client client = Shared();
  const std::string name = Names()("semaphore");
  AcquireOptions two;
  two.permits_max = 3;
  two.permits = 2;
  AcquireOptions one = two;
  one.permits = 1;
  std::optional<Held> first = Must(client.Acquire(name, two));
  CHECK(stm::IsLockBusy(client.Acquire(name, AtOnce(two)).status()));
  Held second = Must(client.Acquire(name, AtOnce(one)));
  CHECK(second.token() > first->token());
  CHECK(stm::IsLockBusy(client.Acquire(name, AtOnce(one)).status()));
  CHECK(Must(client.Lock(name)).permits_max == 3);
  Acquired waiting = Async(client, name, two);
  REQUIRE(QueueIs(client, name, 1));
  first.reset();
  Held third = Must(waiting.get());
  CHECK_FALSE(second.lost());
  CHECK(stm::IsWrongKind(client.Acquire(name).status()));
  AcquireOptions bad;
  bad.permits = 1;
  CHECK(stm::IsBadValue(client.Acquire(name, bad).status()));
}

TEST_CASE("condition: who awaits gives the lock up with all its holds and has them again after a signal") {
  Client a = Shared("a");
  Client b = Shared("b");
  const std::string name = Names()("lock");
  Held held = Must(a.Acquire(name));
  Held again = Must(a.Acquire(name));
  const int64_t before = held.token();
  auto awaiting = std::async(std::launch::async, [&] { return held.Await("ready"); });
  Held signaller = Must(b.Acquire(name));
  CHECK(signaller.token() > before);
  CHECK(Must(signaller.Signal("other")) == 0);
  CHECK(Must(signaller.Signal("ready")) == 1);
  CHECK(awaiting.wait_for(std::chrono::seconds(0)) !=
        std::future_status::ready);  // not before it is unlocked
  OK(signaller.Release());
  CHECK(Must(awaiting.get()));
  CHECK(held.token() > signaller.token());
  CHECK(again.token() == held.token());
  LockInfo lock = Must(a.Lock(name));
  REQUIRE(lock.holders.size() == 1);
  CHECK(lock.holders[0].holds == 2);
  CHECK(lock.holders[0].token == held.token());
  OK(held.Release());
  OK(again.Release());
  CHECK(IsFree(a, name));
  CHECK(stm::IsLockLost(signaller.Signal("ready").status()));
}

TEST_CASE("condition: its time over, who awaits has the lock again unsignalled, once it is free") {
  Client a = Shared("a");
  Client b = Shared("b");
  const std::string name = Names()("lock");
  Held held = Must(a.Acquire(name));
  CHECK_FALSE(Must(held.Await("ready", absl::Milliseconds(20))));
  CHECK_FALSE(held.lost());
  Acquired waiting = Async(b, name);
  REQUIRE(QueueIs(b, name, 1));
  auto awaiting = std::async(std::launch::async, [&] { return held.Await("ready", absl::Milliseconds(20)); });
  Held other = Must(waiting.get());
  REQUIRE(QueueIs(b, name, 1));  // its time is over, and the lock is not free
  CHECK(Must(other.Signal("ready")) == 0);
  OK(other.Release());
  CHECK_FALSE(Must(awaiting.get()));
  OK(held.Release());
}

TEST_CASE("condition: a signal wakes the first who awaits, one to all wakes all, in their order") {
  Client client = Shared();
  const std::string name = Names()("lock");
  std::atomic<int> order{0};
  std::vector<std::future<int>> awaiting;
  for (int i = 0; i < 3; ++i) {
    std::promise<void> awaits;
    std::future<void> about_to = awaits.get_future();
    awaiting.push_back(std::async(std::launch::async, [&, i, awaits = std::move(awaits)]() mutable {
      Held held = client.Acquire(name, As("w" + std::to_string(i))).value();
      awaits.set_value();
      return held.Await("ready").value() ? ++order : 0;
    }));
    about_to.wait();
    // Free again: it awaits.
    REQUIRE(Eventually([&] { return IsFree(client, name); }));
  }
  Held held = Must(client.Acquire(name, As("signaller")));
  CHECK(Must(held.Signal("ready")) == 1);
  CHECK(Must(held.SignalAll("ready")) == 2);
  CHECK(Must(held.SignalAll("ready")) == 0);
  OK(held.Release());
  for (int i = 0; i < 3; ++i) CHECK(awaiting[static_cast<size_t>(i)].get() == i + 1);
}

TEST_CASE("deadlock: who would wait for itself is told the whole cycle, and the others go on") {
  Client client = Shared();
  Names name;
  Held a1 = Must(client.Acquire(name("1"), As("a")));
  std::optional<Held> b2 = Must(client.Acquire(name("2"), As("b")));
  Acquired waiting = Async(client, name("2"), As("a"));
  REQUIRE(QueueIs(client, name("2"), 1));
  absl::Status status = client.Acquire(name("1"), As("b")).status();
  CHECK(stm::IsDeadlock(status));
  CHECK(absl::IsFailedPrecondition(status));
  INFO(status);
  CHECK(Contains(status, "holds " + name("1") + " and waits for " + name("2")));
  CHECK(Contains(status, "holds " + name("2") + " and waits for " + name("1")));
  b2.reset();
  CHECK_FALSE(Must(waiting.get()).lost());
}

// ---- Held

TEST_CASE("held: its end releases, a move passes it on, and what an assignment replaces is released") {
  Client client = Shared();
  Names name;
  {
    Held held = Must(client.Acquire(name("a")));
    Held moved = std::move(held);
    CHECK_FALSE(moved.lost());
    CHECK_FALSE(IsFree(client, name("a")));
    moved = Must(client.Acquire(name("b")));
    CHECK(IsFree(client, name("a")));
    CHECK(moved.name() == name("b"));
  }
  CHECK(IsFree(client, name("b")));
}

TEST_CASE("held: it keeps its client, whose end closes the session") {
  Client watcher = Shared();
  const std::string name = Names()("lock");
  {
    std::optional<Held> held = Must(Shared("short-lived").Acquire(name));
    CHECK_FALSE(held->lost());
    CHECK(SessionsOf(watcher, "short-lived") == 1);
    CHECK(Must(watcher.Lock(name)).holders.size() == 1);
  }
  CHECK(SessionsOf(watcher, "short-lived") == 0);
  CHECK(IsFree(watcher, name));
}

TEST_CASE("acquire: who cancels or runs out of time leaves no place and no hold") {
  Client a = Shared("a");
  Client b = Shared("b");
  const std::string name = Names()("lock");
  std::optional<Held> held = Must(a.Acquire(name));
  AcquireOptions options;
  options.canceller.emplace();
  Acquired waiting = Async(b, name, options);
  REQUIRE(QueueIs(a, name, 1));
  options.canceller->Cancel();
  CHECK(absl::IsCancelled(waiting.get().status()));
  CHECK(QueueIs(a, name, 0));
  options.canceller.reset();
  options.timeout = absl::Milliseconds(20);
  CHECK(absl::IsDeadlineExceeded(b.Acquire(name, options).status()));
  CHECK(QueueIs(a, name, 0));
  held.reset();
  CHECK(IsFree(a, name));
}

TEST_CASE("acquire: inside a body it is kInTransaction") {
  Client client = Shared();
  const std::string name = Names()("lock");
  absl::Status status = client.Transact([&](Tx&) { return client.Acquire(name).status(); });
  CHECK(stm::IsInTransaction(status));
}

// ---- Fences

TEST_CASE(
    "fence: a commit under a grant that stands goes through; under one that is gone it is kLockLost and "
    "changes nothing") {
  Client a = Shared("a");
  Client b = Shared("b");
  Names name;
  auto r = a.Ref<int64_t>(name("r"), 0);
  Held held = Must(a.Acquire(name("lock")));
  OK(a.Transact([&](Tx& tx) {
    tx.Fence(held);
    tx.Set(r, 1);
  }));
  // It is lost between the body's fence and its commit.
  bool broken = false;
  absl::Status status = a.Transact([&](Tx& tx) {
    tx.Fence(held);
    tx.Set(r, 2);
    if (!std::exchange(broken, true)) std::thread([&] { CHECK(Must(b.BreakLock(name("lock")))); }).join();
  });
  CHECK(stm::IsLockLost(status));
  CHECK(Contains(status, name("lock")));
  CHECK(Must(r.Get()) == 1);
  CHECK(held.lost());
  // Once it is known as lost nothing is sent.
  status = a.Transact([&](Tx& tx) {
    tx.Fence(held);
    tx.Set(r, 3);
  });
  CHECK(stm::IsLockLost(status));
  // Without the fence nothing keeps it from writing: that is what fences are for.
  OK(a.Transact([&](Tx& tx) { tx.Set(r, 4); }));
  CHECK(Must(r.Get()) == 4);
}

TEST_CASE("fence: a transaction that only reads is held to it, too") {
  Client a = Shared("a");
  Client b = Shared("b");
  Names name;
  auto r = a.Ref<int64_t>(name("r"), 0);
  Held held = Must(a.Acquire(name("lock")));
  bool broken = false;
  absl::Status status = a.Transact([&](Tx& tx) {
    tx.Fence(held);
    (void)tx.Find(r);
    if (!std::exchange(broken, true)) std::thread([&] { CHECK(Must(b.BreakLock(name("lock")))); }).join();
  });
  CHECK(stm::IsLockLost(status));
}

TEST_CASE(
    "fence: a grant that its holder handed on by its token is one for others' commits, until it is gone") {
  Client a = Shared("a");
  Client b = Shared("b");
  Names name;
  auto r = b.Ref<int64_t>(name("r"), 0);
  Held held = Must(a.Acquire(name("lock")));
  const auto set = [&](int64_t token, int64_t value) {
    return b.Transact([&](Tx& tx) {
      tx.Fence(name("lock"), token);
      tx.Set(r, value);
    });
  };
  OK(set(held.token(), 1));
  CHECK(stm::IsLockLost(set(held.token() + 1, 2)));
  CHECK(stm::IsBadValue(set(0, 2)));
  OK(held.Release());
  absl::Status status = set(held.token(), 2);
  CHECK(stm::IsLockLost(status));
  CHECK(Contains(status, name("lock")));
  CHECK(Must(r.Get()) == 1);
}

// ---- Losses

TEST_CASE("break: the loss is pushed to who holds it, and to that hold alone") {
  Client a = Shared("a");
  Client b = Shared("b");
  Names name;
  Held held = Must(a.Acquire(name("lock")));
  Held other = Must(a.Acquire(name("other")));
  std::promise<void> told;
  held.OnLost([&] { told.set_value(); });
  std::atomic<bool> other_told{false};
  other.OnLost([&] { other_told = true; });
  CHECK(Must(b.BreakLock(name("lock"), "a test")));
  CHECK(held.AwaitLost(kPatience));
  told.get_future().wait();
  CHECK(held.lost());
  CHECK_FALSE(other.lost());
  CHECK_FALSE(other.AwaitLost(absl::ZeroDuration()));
  std::promise<void> at_once;
  held.OnLost([&] { at_once.set_value(); });
  at_once.get_future().wait();
  OK(other.Release());
  CHECK(other.AwaitLost(kPatience));
  CHECK_FALSE(other_told);
}

TEST_CASE("session: expired by an operator it loses everything, and the next acquire opens another") {
  Client a = Shared("expired");
  Client b = Shared("b");
  Names name;
  Held one = Must(a.Acquire(name("1")));
  Held two = Must(a.Acquire(name("2"), SharedBy()));
  const std::string session = Must(b.Lock(name("1"))).holders.at(0).session_id;
  OK(b.ExpireSession(session, "a test"));
  OK(b.ExpireSession(session));
  CHECK(one.AwaitLost(kPatience));
  CHECK(two.AwaitLost(kPatience));
  CHECK(IsFree(b, name("1")));
  Held again = Must(a.Acquire(name("1")));
  CHECK_FALSE(again.lost());
  CHECK(Must(b.Lock(name("1"))).holders.at(0).session_id != session);
}

TEST_CASE("sessions and locks: an operator sees who has what") {
  Client client = Shared("seen");
  Names name;
  Held held = Must(client.Acquire(name("a"), As("me")));
  Held shared = Must(client.Acquire(name("b"), SharedBy()));
  std::vector<LockInfo> locks = Must(client.Locks(name.prefix()));
  REQUIRE(locks.size() == 2);
  CHECK(locks[0].name == name("a"));
  CHECK(locks[0].holders.at(0).owner == "me");
  CHECK(locks[0].holders.at(0).mode == stm::LockMode::kExclusive);
  CHECK(locks[0].last_token == held.token());
  CHECK(locks[1].holders.at(0).mode == stm::LockMode::kShared);
  bool found = false;
  for (const stm::SessionInfo& session : Must(client.Sessions())) {
    if (session.session_id != locks[0].holders.at(0).session_id) continue;
    found = true;
    CHECK(session.locks == std::vector<std::string>{name("a"), name("b")});
    CHECK(session.left.has_value());
    CHECK(session.ttl == absl::Seconds(15));
  }
  CHECK(found);
}

TEST_CASE("prefix: a client's locks are below its prefix, and it sees them without") {
  stm::ConnectOptions options;
  options.address = SharedAddress();
  options.prefix = "/team-a";
  Client below = Must(stm::Connect(options));
  const std::string name = Names()("lock");
  Held held = Must(below.Acquire(name));
  CHECK(held.name() == name);
  CHECK(Must(below.Lock(name)).name == name);
  CHECK(Must(Shared().Lock("/team-a" + name)).holders.size() == 1);
  OK(below.Transact([&](Tx& tx) {
    tx.Fence(held);
    tx.Set(below.Ref<int64_t>(name), 1);
  }));
  CHECK(Must(below.BreakLock(name)));
  CHECK(held.AwaitLost(kPatience));
}

// ---- Ephemeral entries

TEST_CASE("ephemeral: an entry lives as long as the session of the client that made it") {
  Client watcher = Shared();
  Names name;
  stm::Definition ephemeral;
  ephemeral.ephemeral = true;
  auto seen = watcher.Ref<int64_t>(name("r"));
  {
    Client client = Shared("mayfly");
    auto r = client.Ref<int64_t>(name("r"), std::nullopt, ephemeral);
    OK(client.Transact([&](Tx& tx) { tx.Set(r, 1); }));
    CHECK(SessionsOf(watcher, "mayfly") == 1);
    CHECK(Must(seen.Get()) == 1);
    CHECK(Must(seen.GetDefinition())->ephemeral);
    OK(watcher.Transact([&](Tx& tx) { tx.Set(seen, 2); }));
    CHECK(Must(r.Get()) == 2);
  }
  CHECK_FALSE(Must(seen.Find()).has_value());
  CHECK(SessionsOf(watcher, "mayfly") == 0);
}

TEST_CASE("ephemeral: after its session's end a write makes it again under another") {
  Client watcher = Shared();
  Client client = Shared("phoenix");
  Names name;
  stm::Definition ephemeral;
  ephemeral.ephemeral = true;
  auto r = client.Ref<int64_t>(name("r"), 1, ephemeral);
  CHECK(Must(client.Transact([&](Tx& tx) { return tx.Get(r); })) == 1);
  for (const stm::SessionInfo& session : Must(watcher.Sessions())) {
    if (session.entries == std::vector<std::string>{name("r")}) OK(watcher.ExpireSession(session.session_id));
  }
  CHECK_FALSE(Must(r.Find()).has_value());
  OK(client.Transact([&](Tx& tx) { tx.Set(r, 2); }));
  CHECK(Must(r.Get()) == 2);
  CHECK(Eventually([&] { return SessionsOf(watcher, "phoenix") == 1; }));
}

TEST_CASE("define: a body that sets a ref and defines it as ephemeral has bound it, whoever made it") {
  Client watcher = Shared();
  Names name;
  stm::Definition ephemeral;
  ephemeral.ephemeral = true;
  auto seen = watcher.Ref<int64_t>(name("r"));
  std::optional<Client> first = Shared("first");
  const auto bind = [&](const Client& client, int64_t value) {
    return client.Transact([&](Tx& tx) {
      auto r = client.Ref<int64_t>(name("r"));
      tx.Set(r, value);
      tx.Define(r, ephemeral);
    });
  };
  OK(bind(*first, 1));
  std::optional<Client> second = Shared("second");
  OK(bind(*second, 2));
  first.reset();
  CHECK(Must(seen.Get()) == 2);
  second.reset();
  CHECK_FALSE(Must(seen.Find()).has_value());
}

TEST_CASE("session: its handle has its id, and is lost when an operator ends it; the next is another") {
  Client client = Shared("handle");
  Client other = Shared();
  stm::Session session = Must(client.OpenSession());
  CHECK(Must(client.OpenSession()).id() == session.id());
  Held held = Must(client.Acquire(Names()("lock")));
  CHECK(Must(other.Lock(held.name())).holders.at(0).session_id == session.id());
  CHECK_FALSE(session.lost());
  CHECK_FALSE(session.AwaitLost(absl::ZeroDuration()));
  OK(other.ExpireSession(session.id()));
  CHECK(session.AwaitLost(kPatience));
  CHECK(session.lost());
  CHECK(held.lost());
  CHECK(Must(client.OpenSession()).id() != session.id());
}

// ---- Recipes

TEST_CASE("election: one leads, and who waits leads after it resigns, or is gone") {
  Client observer = Shared();
  Names name;
  std::optional<Client> a = Shared("a");
  Client b = Shared("b");
  Client c = Shared("c");
  const auto leader = [&] { return Must(observer.Ref<std::string>(name("e")).Find()); };
  CHECK_FALSE(leader().has_value());
  std::optional<Held> first = Must(stm::Election(*a, name("e")).Campaign("a"));
  CHECK(leader() == "a");
  Acquired second = std::async(std::launch::async, [&] { return stm::Election(b, name("e")).Campaign("b"); });
  REQUIRE(QueueIs(observer, name("e"), 1));
  Acquired third = std::async(std::launch::async, [&] { return stm::Election(c, name("e")).Campaign("c"); });
  REQUIRE(QueueIs(observer, name("e"), 2));
  CHECK(leader() == "a");
  OK(stm::Election(*a, name("e")).Proclaim(*first, "a, at work"));
  CHECK(leader() == "a, at work");
  OK(stm::Election(*a, name("e")).Resign(*std::exchange(first, std::nullopt)));
  Held held = Must(second.get());
  CHECK(leader() == "b");
  // Its session's end ends its leadership, and what it proclaimed.
  OK(observer.ExpireSession(Must(observer.Lock(name("e"))).holders.at(0).session_id));
  Held last = Must(third.get());
  CHECK(leader() == "c");
  CHECK(last.token() > held.token());
  OK(stm::Election(c, name("e")).Resign(std::move(last)));
  CHECK_FALSE(leader().has_value());
}

TEST_CASE("election: a stale leader's proclamation is refused, and changes nothing") {
  Client a = Shared("a");
  Client b = Shared("b");
  Names name;
  stm::Election of_a(a, name("e"));
  Held stale = Must(of_a.Campaign("a"));
  // It believes in it: its proclamation is on its way when the lock is taken from it and b leads.
  CHECK(Must(b.BreakLock(name("e"))));
  Held held = Must(stm::Election(b, name("e")).Campaign("b"));
  CHECK(stm::IsLockLost(of_a.Proclaim(stale, "a again")));
  CHECK(Must(b.Ref<std::string>(name("e")).Get()) == "b");
  // What a proclaimed is bound to b's session by now, so its end leaves it.
  CHECK(stm::IsLockLost(of_a.Resign(std::move(stale))));
  OK(b.ExpireSession(Must(a.OpenSession()).id()));
  CHECK(Must(b.Ref<std::string>(name("e")).Get()) == "b");
}

TEST_CASE("election: observers are told who leads, and that nobody does") {
  Client client = Shared();
  Names name;
  stm::Election election(client, name("e"));
  std::vector<std::string> told;
  std::atomic<size_t> count{0};
  auto observing = std::async(std::launch::async, [&] {
    return election.Observe([&](const std::optional<std::string>& leader) {
      told.push_back(leader.value_or("nobody"));
      count = told.size();
      return count == 1 || leader.has_value();
    });
  });
  REQUIRE(Eventually([&] { return count == 1; }));
  Held held = Must(election.Campaign("a"));
  REQUIRE(Eventually([&] { return count == 2; }));
  OK(election.Resign(std::move(held)));
  OK(observing.get());
  CHECK(told == std::vector<std::string>{"nobody", "a", "nobody"});
}

TEST_CASE("barrier: nobody leaves a round before all have come to it") {
  constexpr int kParties = 4;
  constexpr int kRounds = 3;
  const std::string name = Names()("barrier");
  std::atomic<int> come{0};
  std::atomic<int> early{0};
  std::atomic<int> failed{0};
  std::vector<std::thread> parties;
  for (int i = 0; i < kParties; ++i) {
    parties.emplace_back([&, client = Shared("party")] {
      stm::Barrier barrier(client, name, kParties);
      for (int round = 1; round <= kRounds; ++round) {
        ++come;
        failed += !barrier.Await().ok();
        early += come < round * kParties;
      }
    });
  }
  for (auto& party : parties) party.join();
  CHECK(failed == 0);
  CHECK(early == 0);
  CHECK(come == kParties * kRounds);
}

// ---- Connections that go, and time

TEST_CASE("lost answer: an acquire is resent and is one hold; a release is resent and is one release") {
  Proxy proxy(SharedAddress());
  Client client = Connected(proxy.address());
  Client direct = Shared();
  Names name;
  Held other = Must(client.Acquire(name("other")));  // the session is open
  for (int i = 0; i < 3; ++i) {
    proxy.LoseAnswers(true);
    Acquired acquiring = Async(client, name("lock"));
    REQUIRE(Eventually([&] { return Must(direct.Lock(name("lock"))).holders.size() == 1; }));
    proxy.LoseAnswers(false);
    proxy.Cut();
    Held held = Must(acquiring.get());
    Held twice = Must(client.Acquire(name("lock")));
    LockInfo lock = Must(direct.Lock(name("lock")));
    CHECK(lock.holders.at(0).holds == 2);
    CHECK(lock.holders.at(0).token == held.token());
    proxy.LoseAnswers(true);
    auto releasing = std::async(std::launch::async, [&] { return held.Release(); });
    REQUIRE(Eventually([&] { return Must(direct.Lock(name("lock"))).holders.at(0).holds == 1; }));
    proxy.LoseAnswers(false);
    proxy.Cut();
    OK(releasing.get());
    CHECK(Must(direct.Lock(name("lock"))).holders.at(0).holds == 1);
    CHECK_FALSE(twice.lost());
    OK(twice.Release());
  }
  CHECK_FALSE(other.lost());
}

TEST_CASE("lost request: an acquire is sent again and is one hold") {
  Proxy proxy(SharedAddress());
  Client client = Connected(proxy.address());
  Client direct = Shared();
  Names name;
  Held other = Must(client.Acquire(name("other")));
  for (int i = 0; i < 3; ++i) {
    proxy.LoseRequests(true);
    const int64_t before = proxy.bytes_up();
    Acquired acquiring = Async(client, name("lock"));
    REQUIRE(Eventually([&] { return proxy.bytes_up() > before; }));
    proxy.LoseRequests(false);
    proxy.Cut();
    Held held = Must(acquiring.get());
    CHECK(Must(direct.Lock(name("lock"))).holders.at(0).holds == 1);
    OK(held.Release());
    CHECK(IsFree(direct, name("lock")));
  }
}

TEST_CASE("several addresses: a session, its holds and its places go along to the daemon that answers") {
  Proxy first(SharedAddress());
  Proxy second(SharedAddress());
  Client client = Connected(first.address() + "," + second.address());
  Client direct = Shared();
  Names name;
  Held held = Must(client.Acquire(name("held")));
  std::optional<Held> others = Must(direct.Acquire(name("waits")));
  Acquired waiting = Async(client, name("waits"));
  REQUIRE(QueueIs(direct, name("waits"), 1));
  first.Refuse(true);
  first.Cut();
  CHECK(Must(client.Lock(name("waits"))).queue.size() == 1);
  CHECK(client.address() == second.address());
  others.reset();
  CHECK_FALSE(Must(waiting.get()).lost());
  CHECK(Must(direct.BreakLock(name("held"))));
  CHECK(held.AwaitLost(kPatience));  // by the stream of the new connection
}

TEST_CASE("cut connections: who waits keeps its place, who holds its hold, and who awaits its condition") {
  Proxy proxy(SharedAddress());
  Client client = Connected(proxy.address());
  Client direct = Shared();
  Names name;
  std::optional<Held> held = Must(direct.Acquire(name("lock")));
  Acquired waiting = Async(client, name("lock"), As("first"));
  REQUIRE(QueueIs(direct, name("lock"), 1));
  Acquired behind = Async(direct, name("lock"), As("second"));
  REQUIRE(QueueIs(direct, name("lock"), 2));
  Held mine = Must(client.Acquire(name("mine")));
  auto awaiting = std::async(std::launch::async, [&] { return mine.Await("ready"); });
  REQUIRE(Eventually([&] { return IsFree(direct, name("mine")); }));
  for (int i = 0; i < 3; ++i) {
    proxy.Cut();
    CHECK(Must(client.Lock(name("lock"))).queue.size() == 2);  // over the new connection
  }
  held.reset();
  std::optional<Held> got = Must(waiting.get());
  CHECK_FALSE(IsReady(behind));
  got.reset();
  CHECK_FALSE(Must(behind.get()).lost());
  Held signaller = Must(direct.Acquire(name("mine")));
  CHECK(Must(signaller.Signal("ready")) == 1);
  OK(signaller.Release());
  CHECK(Must(awaiting.get()));
  CHECK_FALSE(mine.lost());
}

TEST_CASE("cut connections: under load the lock is never two's, and every acquire is answered") {
  Proxy proxy(SharedAddress());
  Names name;
  std::atomic<int> inside{0};
  std::atomic<int> together{0};
  std::atomic<int> failed{0};
  std::atomic<int> done{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, client = Connected(proxy.address())] {
      auto r = client.Ref<int64_t>(name("r"), 0);
      while (!stop) {
        absl::StatusOr<Held> held = client.Acquire(name("lock"));
        if (!held.ok()) {
          ++failed;
          continue;
        }
        together += ++inside != 1;
        const absl::Status status = client.Transact([&](Tx& tx) {
          tx.Fence(*held);
          tx.Alter(r, [](int64_t n) { return n + 1; });
        });
        --inside;
        done += status.ok();
        failed += !status.ok();
        failed += !held->Release().ok();
      }
    });
  }
  for (int cut = 0; cut < 20; ++cut) {
    const int target = done + 3;
    if (!Eventually([&] { return done >= target; })) break;
    proxy.Cut();
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  CHECK(together == 0);
  CHECK(failed == 0);
  CHECK(Must(Shared().Ref<int64_t>(name("r")).Get()) == done);
}

TEST_CASE("time: a lock that is held for many TTLs stays held while its daemon answers") {
  stm::ConnectOptions connect;
  connect.address = SharedAddress();
  connect.session_ttl = absl::Seconds(2);
  Client client = Must(stm::Connect(connect));
  Held held = Must(client.Acquire(Names()("lock")));
  CHECK_FALSE(held.AwaitLost(3 * connect.session_ttl));
  OK(held.Release());
}

}  // namespace
}  // namespace stm::testing
