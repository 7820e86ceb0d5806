// Transactions, atoms, views, records and watches against a real daemon.
#include <algorithm>
#include <atomic>
#include <future>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "stm/recipes.h"
#include "tests/client/cpp/fixture.h"

namespace blog {
struct CreateUser {
  std::string name, email;
  stm::Instant start_date;
};
struct DeleteUser {
  std::string email;
  stm::Instant remove_date;
};
STM_RECORD(CreateUser, "blog.CreateUser", name, email, start_date);
STM_RECORD(DeleteUser, "blog.DeleteUser", email, remove_date);
}  // namespace blog

namespace {

using stm::Client;
using stm::Tx;
using stm::TransactOptions;
using stm::testing::Connected;
using stm::testing::Contains;
using stm::testing::Daemon;
using stm::testing::DaemonOptions;
using stm::testing::Eventually;
using stm::testing::Must;
using stm::testing::Names;
using stm::testing::Shared;

stm::Value Edn(const std::string& text) { return Must(stm::ReadEdn(text)); }

// A body's other side: another client changes things between a body's reads and its commit, in its first run alone.
struct Meanwhile {
  std::function<void()> change;
  bool done = false;
  void operator()() {
    if (!std::exchange(done, true)) std::thread(change).join();  // not in this body's thread
  }
};

}  // namespace

// ---- Bodies

TEST_CASE("transact: Hello World") {
  Client client = Shared();
  Names name;
  auto r0 = client.Ref<int64_t>(name("r0"), 0);
  auto r1 = client.Ref<std::vector<int64_t>>(name("r1"), {});
  for (int i = 0; i < 2; ++i) {
    OK(client.Transact([&](Tx& tx) {
      int64_t n = tx.Alter(r0, [](int64_t n) { return n + 1; });
      tx.Alter(r1, [&](std::vector<int64_t> v) {
        v.push_back(n);
        return v;
      });
    }));
  }
  CHECK(Must(r0.Get()) == 2);
  CHECK(Must(r1.Get()) == std::vector<int64_t>{1, 2});
}

TEST_CASE("transact: what a body returns decides the type, and an error changes nothing") {
  Client client = Shared();
  auto r = client.Ref<int64_t>(Names()("r"), 1);
  absl::StatusOr<std::string> text = client.Transact([&](Tx&) { return std::string("x"); });
  CHECK(Must(text) == "x");
  absl::StatusOr<int64_t> number = client.Transact([&](Tx& tx) -> absl::StatusOr<int64_t> { return tx.Get(r); });
  CHECK(Must(number) == 1);
  absl::Status status = client.Transact([&](Tx& tx) {
    tx.Set(r, 9);
    return absl::InternalError("mine");
  });
  CHECK(status == absl::InternalError("mine"));
  absl::StatusOr<int64_t> neither = client.Transact([&](Tx& tx) -> absl::StatusOr<int64_t> {
    tx.Set(r, 9);
    return absl::NotFoundError("mine too");
  });
  CHECK(neither.status() == absl::NotFoundError("mine too"));
  CHECK(Must(r.Get()) == 1);
}

TEST_CASE("transact: a body's exception comes out unchanged and changes nothing") {
  Client client = Shared();
  auto r = client.Ref<int64_t>(Names()("r"), 1);
  struct Mine {
    int code;
  };
  int caught = 0;
  try {
    (void)client.Transact([&](Tx& tx) {
      tx.Set(r, 9);
      throw Mine{7};
    });
  } catch (const Mine& mine) {
    caught = mine.code;
  }
  CHECK(caught == 7);
  CHECK(Must(r.Get()) == 1);
  CHECK_THROWS_AS(client.Transact([&](Tx&) { throw std::runtime_error("x"); }), std::runtime_error);
}

TEST_CASE("transact: a body reads what it wrote") {
  Client client = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"));
  OK(client.Transact([&](Tx& tx) {
    CHECK_FALSE(tx.Find(r).has_value());
    tx.Set(r, 1);
    CHECK(tx.Get(r) == 1);
    tx.Alter(r, [](int64_t n) { return n + 1; });
    CHECK(tx.Get(r) == 2);
    tx.Delete(r);
    CHECK_FALSE(tx.Find(r).has_value());
    tx.Set(r, 5);
  }));
  CHECK(Must(r.Get()) == 5);
}

TEST_CASE("init: creates if absent, and never overwrites") {
  Client client = Shared();
  Names name;
  auto first = client.Ref<int64_t>(name("r"), 1);
  CHECK(Must(first.Get()) == 1);
  CHECK_FALSE(Must(client.Ref<int64_t>(name("r")).Find()).has_value());  // reading outside creates nothing
  CHECK(Must(client.Transact([&](Tx& tx) { return tx.Get(first); })) == 1);
  CHECK(Must(client.Ref<int64_t>(name("r")).Get()) == 1);
  auto second = client.Ref<int64_t>(name("r"), 2);
  CHECK(Must(client.Transact([&](Tx& tx) { return tx.Get(second); })) == 1);
  OK(client.Transact([&](Tx& tx) { tx.Delete(first); }));
  CHECK(Must(client.Transact([&](Tx& tx) { return tx.Get(second); })) == 2);
}

TEST_CASE("absent: an error by Get, nothing by Find; absent is not nil") {
  Client client = Shared();
  Names name;
  auto r = client.Ref<std::optional<int64_t>>(name("r"));
  absl::Status status = r.Get().status();
  CHECK(stm::IsAbsent(status));
  CHECK(absl::IsNotFound(status));
  CHECK(Contains(status, name("r")));
  CHECK(stm::IsAbsent(client.Transact([&](Tx& tx) { (void)tx.Get(r); })));
  CHECK(stm::IsAbsent(client.Transact([&](Tx& tx) { tx.Alter(r, [](auto v) { return v; }); })));
  OK(client.Transact([&](Tx& tx) { tx.Set(r, std::nullopt); }));
  std::optional<std::optional<int64_t>> found = Must(r.Find());
  REQUIRE(found.has_value());
  CHECK_FALSE(found->has_value());
}

TEST_CASE("types: a value that does not fit is BadValue naming the ref; the other kind is WrongKind") {
  Client client = Shared();
  Names name;
  OK(client.Transact([&](Tx& tx) { tx.Set(client.Ref<std::string>(name("r")), "x"); }));
  absl::Status status = client.Ref<int64_t>(name("r")).Get().status();
  CHECK(stm::IsBadValue(status));
  CHECK(Contains(status, name("r")));
  CHECK(stm::IsBadValue(client.Transact([&](Tx& tx) { return tx.Get(client.Ref<int64_t>(name("r"))); }).status()));
  auto atom = client.Atom<std::string>(name("r"));
  CHECK(stm::IsWrongKind(atom.Get().status()));
  CHECK(stm::IsWrongKind(atom.Reset("y")));
  CHECK(stm::IsWrongKind(client.Transact([&](Tx& tx) { (void)tx.Get(atom); })));
  CHECK(stm::IsBadValue(client.Ref<int64_t>("no-slash").Get().status()));
  CHECK(stm::IsBadValue(client.Transact([&](Tx& tx) { tx.Set(client.Ref<int64_t>("/a//b"), 1); })));
}

TEST_CASE("transact: fields of a newer program survive an old one") {
  Client client = Shared();
  Names name;
  auto raw = client.Ref<stm::Value>(name("users"));
  OK(client.Transact([&](Tx& tx) {
    tx.Set(raw, Edn("[#blog.CreateUser{:name \"A\" :email \"a\" :start-date #inst \"2026-01-01T00:00:00Z\" :phone \"1\"}"
                    " #blog.CreateUser{:name \"B\" :email \"b\" :start-date #inst \"2026-01-01T00:00:00Z\" :phone \"2\"}]"));
  }));
  auto users = client.Ref<std::vector<blog::CreateUser>>(name("users"));
  OK(client.Transact([&](Tx& tx) {
    tx.Alter(users, [](std::vector<blog::CreateUser> us) {
      us.erase(us.begin());
      us.push_back({"C", "c", {}});
      return us;
    });
  }));
  CHECK(Must(raw.Get()) ==
        Edn("[#blog.CreateUser{:name \"B\" :email \"b\" :start-date #inst \"2026-01-01T00:00:00Z\" :phone \"2\"}"
            " #blog.CreateUser{:name \"C\" :email \"c\" :start-date #inst \"1970-01-01T00:00:00Z\"}]"));
}

// ---- Conflicts

TEST_CASE("conflict: the body runs again on what is there now, and hears who changed it") {
  Client client = Shared();
  Client other = Shared("other");
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 1);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  std::vector<stm::Rerun> reruns;
  stm::Committed committed;
  TransactOptions options;
  options.on_rerun = [&](const stm::Rerun& rerun) { reruns.push_back(rerun); };
  options.committed = &committed;
  TransactOptions theirs;
  theirs.label = "meddling";
  Meanwhile meanwhile{[&] { OK(other.Transact(theirs, [&](Tx& tx) { tx.Set(r, 10); })); }};
  std::vector<int> runs;
  OK(client.Transact(options, [&](Tx& tx) {
    runs.push_back(tx.run());
    tx.Alter(r, [](int64_t n) { return n + 1; });
    meanwhile();
  }));
  CHECK(Must(r.Get()) == 11);
  CHECK(runs == std::vector<int>{1, 2});
  REQUIRE(reruns.size() == 1);
  REQUIRE(reruns[0].causes.size() == 1);
  CHECK(reruns[0].causes[0].name == name("r"));
  CHECK(reruns[0].causes[0].by.label == "meddling");
  CHECK(reruns[0].causes[0].by.client == "other");
  CHECK(committed.version > reruns[0].causes[0].version);
}

TEST_CASE("conflict: no increment is lost between many") {
  Names name;
  Client client = Shared();
  auto r = client.Ref<int64_t>(name("r"), 0);
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, own = t % 2 == 0 ? client : Shared()] {
      for (int i = 0; i < 50; ++i) {
        if (!own.Transact([&](Tx& tx) { tx.Alter(r, [](int64_t n) { return n + 1; }); }).ok()) ++failed;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(failed == 0);
  CHECK(Must(r.Get()) == 400);
}

TEST_CASE("conflict: all reads of a body are of one snapshot, also of a body that will abort") {
  Client client = Shared();
  Names name;
  auto a = client.Ref<int64_t>(name("a"), 0);
  auto b = client.Ref<int64_t>(name("b"), 0);
  OK(client.Transact([&](Tx& tx) { tx.Get(a), tx.Get(b); }));
  Meanwhile meanwhile{[&] {
    OK(client.Transact([&](Tx& tx) {
      tx.Set(a, 1);
      tx.Set(b, 1);
    }));
  }};
  OK(client.Transact([&](Tx& tx) {
    int64_t x = tx.Get(a);
    meanwhile();
    CHECK(tx.Get(b) == x);
    tx.Set(b, x + 10);
  }));
  CHECK(Must(b.Get()) == 11);
}

TEST_CASE("isolation: serializable lets no write skew through; snapshot does, but for ensure") {
  Client client = Shared();
  Names name;
  auto a = client.Ref<int64_t>(name("a"), 1);
  auto b = client.Ref<int64_t>(name("b"), 1);
  auto skew = [&](stm::Isolation isolation, bool ensure) {
    OK(client.Transact([&](Tx& tx) {
      tx.Set(a, 1);
      tx.Set(b, 1);
    }));
    TransactOptions options;
    options.isolation = isolation;
    int runs = 0;
    Meanwhile meanwhile{[&] { OK(client.Transact([&](Tx& tx) { tx.Set(b, 0); })); }};
    OK(client.Transact(options, [&](Tx& tx) {
      runs = tx.run();
      if (ensure) tx.Ensure(b);
      if (tx.Get(a) + tx.Get(b) >= 2) tx.Set(a, 0);
      meanwhile();
    }));
    return runs;
  };
  CHECK(skew(stm::Isolation::kSerializable, false) == 2);
  CHECK(skew(stm::Isolation::kSnapshot, false) == 1);
  CHECK(skew(stm::Isolation::kSnapshot, true) == 2);
}

TEST_CASE("conflict: a blind set has none") {
  Client client = Shared();
  auto r = client.Ref<int64_t>(Names()("r"), 0);
  Meanwhile meanwhile{[&] { OK(client.Transact([&](Tx& tx) { tx.Set(r, 5); })); }};
  OK(client.Transact([&](Tx& tx) {
    CHECK(tx.run() == 1);
    tx.Set(r, 6);
    meanwhile();
  }));
  CHECK(Must(r.Get()) == 6);
}

TEST_CASE("conflict: spent runs and spent time are the error Conflict, and name the entry") {
  Client client = Shared();
  Client other = Shared("other");
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  auto contested = [&](const TransactOptions& options) {
    return client.Transact(options, [&](Tx& tx) {
      tx.Alter(r, [](int64_t n) { return n + 1; });
      std::thread([&] { OK(other.Transact([&](Tx& theirs) { theirs.Set(r, 0); })); }).join();
    });
  };
  TransactOptions few;
  few.runs_max = 2;
  absl::Status status = contested(few);
  CHECK(stm::IsConflict(status));
  CHECK(absl::IsAborted(status));
  CHECK(Contains(status, name("r")));
  REQUIRE(stm::InfoOf(status).causes.size() == 1);
  CHECK(stm::InfoOf(status).causes[0].by.client == "other");
}

TEST_CASE("list: an entry that comes or goes is a conflict, and own writes are listed") {
  Client client = Shared();
  Names name;
  auto a = client.Ref<int64_t>(name("a"), 0);
  auto b = client.Ref<int64_t>(name("b"), 0);
  auto sum = client.Ref<int64_t>("/sums" + name("sum"), 0);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(a); }));
  int runs = 0;
  Meanwhile meanwhile{[&] { OK(client.Transact([&](Tx& tx) { tx.Set(b, 5); })); }};
  OK(client.Transact([&](Tx& tx) {
    runs = tx.run();
    int64_t total = 0;
    for (auto& [entry, value] : tx.List<int64_t>(name.prefix())) total += value;
    tx.Set(sum, total);
    meanwhile();
  }));
  CHECK(runs == 2);
  CHECK(Must(sum.Get()) == 5);
  auto c = client.Ref<int64_t>(name("c"));
  OK(client.Transact([&](Tx& tx) {
    tx.Set(c, 7);
    tx.Delete(a);
    tx.Commute(b, stm::Add(1));
    std::map<std::string, int64_t> listed = tx.List<int64_t>(name.prefix());
    CHECK(listed == std::map<std::string, int64_t>{{name("b"), 6}, {name("c"), 7}});
    CHECK(tx.Names(name.prefix()) == std::vector<std::string>{name("b"), name("c")});
  }));
  std::vector<stm::Entry> entries = Must(client.List(name.prefix()));
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].name == name("b"));
  CHECK(*entries[0].value == stm::Value::Integer(6));
}

TEST_CASE("list: goes over many pages of one snapshot") {
  Client client = Shared();
  Names name;
  OK(client.Transact([&](Tx& tx) {
    for (int i = 0; i < 2500; ++i) tx.Set(client.Ref<int64_t>(name(std::to_string(10000 + i))), i);
  }));
  CHECK(Must(client.List(name.prefix())).size() == 2500);
  CHECK(Must(client.Transact([&](Tx& tx) { return static_cast<int64_t>(tx.List(name.prefix()).size()); })) == 2500);
  CHECK(Must(client.Transact([&](Tx& tx) { return static_cast<int64_t>(tx.Names(name.prefix()).size()); })) == 2500);
}

// ---- Commute

TEST_CASE("commute: never conflicts, its result comes with the commit, reading it asks the daemon") {
  Client client = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 10);
  std::optional<stm::CommuteResult> result;
  Meanwhile meanwhile{[&] { OK(client.Transact([&](Tx& tx) { tx.Commute(r, stm::Add(100)); })); }};
  OK(client.Transact([&](Tx& tx) {
    CHECK(tx.run() == 1);
    result = tx.Commute(r, stm::Add(1));
    CHECK_FALSE(result->value().has_value());
    meanwhile();
  }));
  CHECK(Must(result->As<int64_t>()) == 111);
  OK(client.Transact([&](Tx& tx) {
    tx.Commute(r, stm::Add(1));
    CHECK(tx.Get(r) == 112);
    tx.Commute(r, stm::Add(2));
    CHECK(tx.Get(r) == 114);
  }));
  CHECK(Must(r.Get()) == 114);
}

TEST_CASE("commute: set or alter after it is an error; after set and delete it lies on top") {
  Client client = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 10);
  CHECK(stm::IsBadValue(client.Transact([&](Tx& tx) {
    tx.Commute(r, stm::Add(1));
    tx.Set(r, 5);
  })));
  CHECK(stm::IsBadValue(client.Transact([&](Tx& tx) {
    tx.Commute(r, stm::Add(1));
    tx.Alter(r, [](int64_t n) { return n; });
  })));
  OK(client.Transact([&](Tx& tx) {
    tx.Set(r, 20);
    tx.Commute(r, stm::Add(1));
    CHECK(tx.Get(r) == 21);
  }));
  CHECK(Must(r.Get()) == 21);
}

TEST_CASE("commute: on an absent entry is Absent, or its init first, also where it was deleted meanwhile") {
  Client client = Shared();
  Client other = Shared();
  Names name;
  auto bare = client.Ref<int64_t>(name("r"));
  CHECK(stm::IsAbsent(client.Transact([&](Tx& tx) { tx.Commute(bare, stm::Add(1)); })));
  auto r = client.Ref<int64_t>(name("r"), 10);
  auto add = [&] { return client.Transact([&](Tx& tx) { tx.Commute(r, stm::Add(1)); }); };
  OK(add());
  OK(add());
  CHECK(Must(r.Get()) == 12);
  OK(other.Transact([&](Tx& tx) { tx.Delete(bare); }));
  OK(add());
  CHECK(Must(r.Get()) == 11);
}

TEST_CASE("commute: operations of every verb do what they say") {
  Client client = Shared();
  Names name;
  auto apply = [&](const char* before, const stm::Op& op) {
    auto r = client.Ref<stm::Value>(name("r"));
    OK(client.Transact([&](Tx& tx) { tx.Set(r, Edn(before)); }));
    OK(client.Transact([&](Tx& tx) { tx.Commute(r, op); }));
    return stm::ToEdn(Must(r.Get()));
  };
  CHECK(apply("1", stm::SetTo("x")) == "\"x\"");
  CHECK(apply("1.5", stm::Add(1.0)) == "2.5");
  CHECK(apply("5", stm::Min(3)) == "3");
  CHECK(apply("5", stm::Max(7)) == "7");
  CHECK(apply("\"a\"", stm::Append("b")) == "\"ab\"");
  CHECK(apply("[1]", stm::Conj(2, 3)) == "[1 2 3]");
  CHECK(apply("#{1 2}", stm::Disj(2)) == "#{1}");
  CHECK(apply("[1 2 3]", stm::Pop()) == "[1 2]");
  CHECK(apply("[1 2 3]", stm::Shift(2)) == "[3]");
  CHECK(Edn(apply("{\"a\" 1}", stm::Assoc("b", 2))) == Edn("{\"a\" 1 \"b\" 2}"));
  CHECK(apply("{\"a\" 1 \"b\" 2}", stm::Dissoc("a")) == "{\"b\" 2}");
  CHECK(Edn(apply("{\"a\" 1}", stm::Merge(std::map<std::string, int64_t>{{"b", 2}}))) == Edn("{\"a\" 1 \"b\" 2}"));
  CHECK(Edn(apply("#{1}", stm::Union(std::set<int64_t>{1, 2}))) == Edn("#{1 2}"));
  CHECK(apply("true", stm::Toggle()) == "false");
  CHECK(apply("{\"a\" {:n 1}}", stm::Add(1).At("a", stm::Keyword{"n"})) == "{\"a\" {:n 2}}");
  CHECK(apply("1", stm::CompareAndSet<int64_t>(1, 2)) == "2");
  absl::Status status = client.Transact([&](Tx& tx) {
    tx.Commute(client.Ref<stm::Value>(name("r")), stm::CompareAndSet<int64_t>(1, 3));
  });
  CHECK(stm::IsRejected(status));
  CHECK(stm::InfoOf(status).cause == "compare");
}

// ---- Retry

TEST_CASE("retry: sleeps until what was read changes, and cannot be swallowed") {
  Client client = Shared();
  Client other = Shared();
  Names name;
  auto queue = client.Ref<std::vector<std::string>>(name("q"), {});
  auto taken = client.TransactAsync([&](Tx& tx) {
    std::vector<std::string> jobs = tx.Get(queue);
    try {
      if (jobs.empty()) tx.Retry();
    } catch (...) {
      // A body that catches all does not get away with it.
    }
    if (jobs.empty()) return std::string("swallowed");
    tx.Set(queue, {jobs.begin() + 1, jobs.end()});
    return jobs.front();
  });
  OK(other.Transact([&](Tx& tx) { tx.Set(queue, {"job"}); }));
  CHECK(Must(taken.get()) == "job");
  CHECK(Must(queue.Get()).empty());
}

TEST_CASE("retry: who sleeps holds nobody up: it gives back the reservation that its conflicts earned") {
  DaemonOptions held;
  // Kept, it would be for longer than anybody here waits.
  held.flags = {"--reservation-min=60s", "--reservation-max=60s"};
  Daemon daemon = Must(Daemon::Start(held));
  Client client = Connected(daemon.address());
  Client other = Connected(daemon.address());
  auto queue = client.Ref<int64_t>("/queue", 0);
  auto taken = client.Ref<int64_t>("/taken", 0);
  std::promise<void> asleep;
  absl::Status before;
  auto waiting = client.TransactAsync([&](Tx& tx) {
    const int64_t jobs = tx.Get(queue);
    if (jobs == 100) return jobs;
    if (tx.run() > 3) {
      if (tx.run() == 4) asleep.set_value();
      tx.Retry();
    }
    // Too late each time.
    std::thread([&] { before = other.Transact([&](Tx& t) { t.Set(queue, jobs + 1); }); }).join();
    tx.Set(taken, jobs);
    return jobs;
  });
  asleep.get_future().wait();
  OK(before);
  TransactOptions soon;
  soon.timeout = absl::Seconds(30);
  OK(other.Transact(soon, [&](Tx& tx) { tx.Set(queue, 100); }));
  CHECK(Must(waiting.get()) == 100);
}

TEST_CASE("retry: with nothing read is an error; with a timeout it ends in time") {
  Client client = Shared();
  auto r = client.Ref<int64_t>(Names()("r"), 0);
  absl::Status status = client.Transact([&](Tx& tx) { tx.Retry(); });
  CHECK(stm::IsBadValue(status));
  TransactOptions options;
  options.timeout = absl::Milliseconds(50);
  status = client.Transact(options, [&](Tx& tx) {
    if (tx.Get(r) == 0) tx.Retry();
  });
  CHECK(absl::IsDeadlineExceeded(status));
  stm::Canceller canceller;
  TransactOptions cancelled;
  cancelled.canceller = canceller;
  auto waiting = client.TransactAsync(cancelled, [&](Tx& tx) {
    if (tx.Get(r) == 0) tx.Retry();
  });
  canceller.Cancel();
  CHECK(absl::IsCancelled(waiting.get()));
}

TEST_CASE("retry: wakes for an entry that is created under a listed prefix") {
  Client client = Shared();
  Names name;
  auto found = client.TransactAsync([&](Tx& tx) {
    std::vector<std::string> names = tx.Names(name.prefix());
    if (names.empty()) tx.Retry();
    return names.front();
  });
  OK(client.Transact([&](Tx& tx) { tx.Set(client.Ref<int64_t>(name("x")), 1); }));
  CHECK(Must(found.get()) == name("x"));
}

TEST_CASE("or_else: what the first side wrote is dropped, what it read still counts") {
  Client client = Shared();
  Names name;
  auto urgent = client.Ref<std::vector<std::string>>(name("urgent"), {});
  auto normal = client.Ref<std::vector<std::string>>(name("normal"), {});
  auto touched = client.Ref<int64_t>(name("touched"), 0);
  OK(client.Transact([&](Tx& tx) {
    tx.Set(normal, {"n"});
    tx.Get(urgent);
    tx.Get(touched);
  }));
  auto take = [](Tx& tx, const auto& queue) {
    std::vector<std::string> jobs = tx.Get(queue);
    if (jobs.empty()) tx.Retry();
    tx.Set(queue, {jobs.begin() + 1, jobs.end()});
    return jobs.front();
  };
  int runs = 0;
  Meanwhile meanwhile{[&] { OK(client.Transact([&](Tx& tx) { tx.Set(urgent, {"u"}); })); }};
  absl::StatusOr<std::string> job = client.Transact([&](Tx& tx) {
    runs = tx.run();
    return tx.OrElse(
        [&] {
          tx.Set(touched, 1);
          tx.Record(stm::Tagged{"never", stm::Value()});
          return take(tx, urgent);
        },
        [&] {
          CHECK(tx.Get(touched) == 0);
          std::string taken = take(tx, normal);
          meanwhile();  // the choice of this side hangs on urgent: it must not commit now
          return taken;
        });
  });
  CHECK(Must(job) == "u");
  CHECK(runs == 2);
  CHECK(Must(normal.Get()) == std::vector<std::string>{"n"});
  // Both empty: it sleeps, and either wakes it.
  OK(client.Transact([&](Tx& tx) { tx.Set(normal, {}); }));
  auto next = client.TransactAsync(
      [&](Tx& tx) { return tx.OrElse([&] { return take(tx, urgent); }, [&] { return take(tx, normal); }); });
  OK(client.Transact([&](Tx& tx) { tx.Set(normal, {"later"}); }));
  CHECK(Must(next.get()) == "later");
}

// ---- Once, nesting, misuse

TEST_CASE("once: a key is spent by one commit; others get its version and result") {
  Client client = Shared();
  Client other = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  TransactOptions options;
  options.once = "order" + name("123").substr(1);
  stm::Committed first, second;
  auto pay = [&](Client& c, stm::Committed* committed) {
    options.committed = committed;
    return c.Transact(options, [&](Tx& tx) { return tx.Alter(r, [](int64_t n) { return n + 1; }); });
  };
  CHECK(Must(pay(client, &first)) == 1);
  CHECK(Must(pay(other, &second)) == 1);
  CHECK(Must(r.Get()) == 1);
  CHECK_FALSE(first.repeated);
  CHECK(second.repeated);
  CHECK(second.version == first.version);
  // From many at once it still happens once.
  options.once += "b";
  options.committed = nullptr;
  std::vector<std::thread> threads;
  std::atomic<int> twos{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      absl::StatusOr<int64_t> n =
          client.Transact(options, [&](Tx& tx) { return tx.Alter(r, [](int64_t v) { return v + 1; }); });
      if (n.ok() && *n == 2) ++twos;
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(twos == 8);
  CHECK(Must(r.Get()) == 2);
}

TEST_CASE("nesting: a transaction inside a transaction joins it") {
  Client client = Shared();
  Names name;
  auto a = client.Ref<int64_t>(name("a"), 0);
  auto b = client.Ref<int64_t>(name("b"), 0);
  absl::Status status = client.Transact([&](Tx& tx) {
    tx.Set(a, 1);
    OK(client.Transact([&](Tx& inner) {
      CHECK(inner.Get(a) == 1);
      inner.Set(b, 2);
    }));
    CHECK(tx.Get(b) == 2);
    // One that fails leaves nothing behind, and the outer may go on.
    CHECK(client.Transact([&](Tx& inner) {
      inner.Set(b, 9);
      return absl::InternalError("no");
    }) == absl::InternalError("no"));
    CHECK(tx.Get(b) == 2);
    TransactOptions other;
    other.isolation = stm::Isolation::kSnapshot;
    CHECK(stm::IsBadValue(client.Transact(other, [&](Tx&) {})));
    CHECK(stm::IsInTransaction(Shared().Transact([&](Tx&) {})));
  });
  OK(status);
  CHECK(Must(a.Get()) == 1);
  CHECK(Must(b.Get()) == 2);
  OK(client.Transact([&](Tx& tx) { tx.Set(a, 0); }));
  CHECK(client.Transact([&](Tx& tx) {
    tx.Set(a, 5);
    OK(client.Transact([&](Tx& inner) { inner.Set(b, 5); }));
    return absl::InternalError("outer");
  }) == absl::InternalError("outer"));
  CHECK(Must(b.Get()) == 2);
}

TEST_CASE("misuse: I/O inside a body is InTransaction, a Tx outside its body is TransactionClosed") {
  Client client = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  auto atom = client.Atom<int64_t>(name("atom"), 0);
  std::optional<Tx> leaked;
  OK(client.Transact([&](Tx& tx) {
    leaked = tx;
    CHECK(stm::IsInTransaction(r.Get().status()));
    CHECK(stm::IsInTransaction(atom.Get().status()));
    CHECK(stm::IsInTransaction(atom.Reset(1)));
    CHECK(stm::IsInTransaction(atom.Swap([](int64_t n) { return n; }).status()));
    CHECK(stm::IsInTransaction(client.List("/").status()));
    CHECK(stm::IsInTransaction(client.At(1).Get(r).status()));
    CHECK(stm::IsInTransaction(client.Watch("/", [](const stm::Commit&) { return true; })));
    CHECK(tx.Get(atom) == 0);  // reading one is no I/O of its own
  }));
  CHECK_THROWS_AS(leaked->Get(r), stm::TransactionClosed);
  CHECK_THROWS_AS(leaked->Set(r, 1), stm::TransactionClosed);
  absl::Status status = client.Transact([&](Tx& tx) {
    tx.Set(r, 5);
    stm::Io();
  });
  CHECK(stm::IsInTransaction(status));
  CHECK(Must(r.Get()) == 0);
  stm::Io();  // outside: nothing
  OK(client.Transact([&](Tx& tx) {
    bool closed = false;
    std::thread([&] {
      try {
        (void)tx.Get(r);
      } catch (const stm::TransactionClosed&) {
        closed = true;
      }
    }).join();
    CHECK(closed);
  }));
}

TEST_CASE("rerun_check: a body that depends on more than it reads is told what differs") {
  Client client = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  TransactOptions options;
  options.rerun_check = true;
  int calls = 0;
  OK(client.Transact(options, [&](Tx& tx) {
    ++calls;
    tx.Alter(r, [](int64_t n) { return n + 1; });
  }));
  CHECK(calls == 2);
  CHECK(Must(r.Get()) == 1);
  int64_t clock = 0;
  absl::Status status = client.Transact(options, [&](Tx& tx) { tx.Set(r, ++clock); });
  CHECK(stm::ReasonOf(status) == stm::Reason::kRerunDiffers);
  CHECK(Contains(status, name("r") + " 1"));
  CHECK(Contains(status, name("r") + " 2"));
  CHECK(Must(r.Get()) == 1);
}

TEST_CASE("on_commit: runs once, after the commit, for the run that counted") {
  Client client = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  std::vector<int> ran;
  int64_t version = 0;
  Meanwhile meanwhile{[&] { OK(client.Transact([&](Tx& tx) { tx.Set(r, 5); })); }};
  OK(client.Transact([&](Tx& tx) {
    tx.Alter(r, [](int64_t n) { return n + 1; });
    tx.OnCommit([&, run = tx.run()] { ran.push_back(run); });
    tx.OnCommit([&](const stm::Committed& committed) {
      version = committed.version;
      CHECK(Must(r.Get()) == 6);  // outside the body: I/O is allowed
    });
    meanwhile();
  }));
  CHECK(ran == std::vector<int>{2});
  CHECK(version > 0);
  CHECK(client.seen_version() >= version);
  CHECK_FALSE(client.Transact([&](Tx& tx) {
                      tx.OnCommit([&] { ran.push_back(99); });
                      return absl::InternalError("no");
                    }).ok());
  CHECK(ran.size() == 1);
}

TEST_CASE("stale_ok: a transaction that only read is checked by a commit") {
  Client client = Shared();
  auto r = client.Ref<int64_t>(Names()("r"), 0);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  TransactOptions options;
  options.stale_ok = true;
  stm::Committed committed;
  options.committed = &committed;
  Meanwhile meanwhile{[&] { OK(client.Transact([&](Tx& tx) { tx.Set(r, 5); })); }};
  CHECK(Must(client.Transact(options, [&](Tx& tx) {
          int64_t n = tx.Get(r);
          meanwhile();
          return n;
        })) == 5);
  CHECK(committed.version > 0);
}

// ---- Atoms, validators, definitions

TEST_CASE("atom: reset, swap, compare-and-set, apply") {
  Client client = Shared();
  Names name;
  auto atom = client.Atom<int64_t>(name("a"), 1);
  CHECK(Must(atom.Get()) == 1);
  CHECK(Must(atom.Swap([](int64_t n) { return n + 1; })) == 2);
  OK(atom.Reset(10));
  CHECK(Must(atom.CompareAndSet(10, 11)));
  CHECK_FALSE(Must(atom.CompareAndSet(10, 12)));
  CHECK(Must(atom.Apply(stm::Add(4))) == 15);
  CHECK(Must(client.Transact([&](Tx& tx) { return tx.Get(atom); })) == 15);
  auto list = client.Atom<std::vector<std::string>>(name("list"), {"x", "y"});
  CHECK(Must(list.Apply<std::string>(stm::Shift())) == "x");
  CHECK(Must(list.Get()) == std::vector<std::string>{"y"});
  auto fresh = client.Atom<int64_t>(name("fresh"));
  CHECK(stm::IsAbsent(fresh.Swap([](int64_t n) { return n; }).status()));
  CHECK(stm::IsAbsent(fresh.Apply(stm::Add(1)).status()));
  CHECK(Must(fresh.CompareAndSet(std::nullopt, 3)));
  CHECK_FALSE(Must(fresh.CompareAndSet(std::nullopt, 4)));
  OK(fresh.Delete());
  CHECK_FALSE(Must(fresh.Find()).has_value());
}

TEST_CASE("validator: a write that it refuses is Rejected, naming entry and rule") {
  Client client = Shared();
  Names name;
  stm::Definition definition;
  definition.validator = Edn("[:and :int [:min 0]]");
  auto r = client.Ref<int64_t>(name("r"), 5, definition);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  absl::Status status = client.Transact([&](Tx& tx) { tx.Set(r, -1); });
  CHECK(stm::IsRejected(status));
  CHECK(stm::InfoOf(status).name == name("r"));
  CHECK(stm::InfoOf(status).cause == "validator");
  CHECK(stm::InfoOf(status).rule.has_value());
  CHECK(stm::IsRejected(client.Transact([&](Tx& tx) { tx.Commute(r, stm::Add(-6)); })));
  OK(r.Define(stm::Definition()));
  OK(client.Transact([&](Tx& tx) { tx.Set(r, -1); }));
  CHECK(stm::IsRejected(r.Define(definition)));
  std::optional<stm::Definition> present = Must(r.GetDefinition());
  REQUIRE(present.has_value());
  CHECK_FALSE(present->validator.has_value());
}

TEST_CASE("ttl: an entry ends by a commit of its own, which watchers see as expired") {
  Client client = Shared();
  Names name;
  stm::Definition definition;
  definition.ttl = absl::Milliseconds(50);
  auto r = client.Ref<int64_t>(name("r"), 5, definition);
  // Made by another thread once the watch is set.
  std::thread making;
  absl::Status made;
  stm::WatchOptions options;
  options.on_synced = [&](int64_t) {
    making = std::thread([&] { made = client.Transact([&](Tx& tx) { (void)tx.Get(r); }); });
  };
  options.timeout = stm::testing::kPatience;
  std::vector<stm::ChangeKind> kinds;
  absl::Status watched = client.Watch(name("r"), options, [&](const stm::Commit& commit) {
    for (const stm::Change& change : commit.changes) kinds.push_back(change.kind);
    return kinds.size() < 2;
  });
  making.join();
  OK(made);
  OK(watched);
  CHECK(kinds == std::vector<stm::ChangeKind>{stm::ChangeKind::kSet, stm::ChangeKind::kExpired});
}

TEST_CASE("limit: a value that is too large is LimitExceeded, naming the bound") {
  Client client = Shared();
  auto r = client.Ref<std::string>(Names()("r"));
  absl::Status status = client.Transact([&](Tx& tx) { tx.Set(r, std::string(3 << 20, 'x')); });
  CHECK(stm::IsLimitExceeded(status));
  CHECK(stm::InfoOf(status).limit == "value_bytes_max");
  // The connection is none the worse.
  OK(client.Transact([&](Tx& tx) { tx.Set(r, "x"); }));
}

// ---- The past

TEST_CASE("view: reads of one version, whatever came after; history says who") {
  Client client = Shared("historian");
  Names name;
  auto a = client.Ref<int64_t>(name("a"));
  auto b = client.Ref<int64_t>(name("b"));
  stm::Committed first;
  TransactOptions options;
  options.label = "first";
  options.committed = &first;
  OK(client.Transact(options, [&](Tx& tx) { tx.Set(a, 1); }));
  options = TransactOptions();
  options.label = "second";
  OK(client.Transact(options, [&](Tx& tx) {
    tx.Set(a, 2);
    tx.Set(b, 2);
  }));
  stm::View then = client.At(first.version);
  CHECK(Must(then.Get(a)) == 1);
  CHECK_FALSE(Must(then.Find(b)).has_value());
  CHECK(Must(then.List(name.prefix())).size() == 1);
  CHECK(Must(then.Names(name.prefix())) == std::vector<std::string>{name("a")});
  stm::View moment = client.At(first.at);
  CHECK(Must(moment.Get(a)) >= 1);
  CHECK(moment.version() >= first.version);
  std::vector<stm::Commit> history = Must(a.History());
  REQUIRE(history.size() == 2);
  CHECK(history[0].meta.label == "second");
  CHECK(history[0].meta.client == "historian");
  CHECK(history[1].version == first.version);
  CHECK(history[1].transaction_id == first.transaction_id);
}

TEST_CASE("records: come back in order, typed, by tag, and followed") {
  stm::testing::Daemon daemon = Must(stm::testing::Daemon::Start());
  Client client = stm::testing::Connected(daemon.address());
  auto users = client.Ref<std::vector<blog::CreateUser>>("/blog/users", {});
  auto create = [&](const std::string& who) {
    blog::CreateUser event{who, who + "@x", {1, 2}};
    OK(client.Transact([&](Tx& tx) {
      tx.Alter(users, [&](std::vector<blog::CreateUser> us) {
        us.push_back(event);
        return us;
      });
      tx.Record(event);
      tx.Record(stm::Tagged{"other.Thing", stm::Value::Integer(1)});
    }));
  };
  create("a");
  create("b");
  OK(client.Transact([&](Tx& tx) { tx.Record(blog::DeleteUser{"a@x", {3, 4}}); }));
  std::string story;
  int64_t last = 0;
  for (auto& r : client.Records<blog::CreateUser, blog::DeleteUser>()) {
    CHECK(r.version >= last);
    last = r.version;
    std::visit([&](auto& e) { story += e.email + (std::is_same_v<std::decay_t<decltype(e)>, blog::DeleteUser> ? "-" : "+"); },
               r.value);
  }
  CHECK(story == "a@x+b@x+a@x-");
  int untyped = 0;
  for (auto& r : client.Records()) untyped += r.value.is(stm::Type::kTagged) ? 1 : 100;
  CHECK(untyped == 5);
  stm::RecordOptions other;
  other.tags = {"other.*"};
  int others = 0;
  for (auto& r : client.Records(other)) others += r.value.text() == "other.Thing" ? 1 : 100;
  CHECK(others == 2);
  stm::RecordOptions follow;
  follow.follow = true;
  follow.from_version = last + 1;
  auto range = client.Records<blog::CreateUser>(follow);
  create("c");
  auto at = range.begin();
  CHECK(std::get<blog::CreateUser>(at->value).name == "c");
  create("d");
  ++at;
  CHECK(std::get<blog::CreateUser>(at->value).name == "d");
  CHECK(stm::IsBadValue(client.Transact([&](Tx& tx) { tx.Record(int64_t{1}); })));
}

// ---- Watches

TEST_CASE("watch: first all as it is, then each commit once, its changes together") {
  Client client = Shared();
  Client writer = Shared("writer");
  Names name;
  auto a = client.Ref<int64_t>(name("a"));
  auto b = client.Ref<int64_t>(name("b"));
  OK(writer.Transact([&](Tx& tx) { tx.Set(a, 0); }));
  stm::WatchOptions options;
  options.initial = true;
  options.timeout = stm::testing::kPatience;
  std::vector<stm::Commit> commits;
  OK(client.Watch(name.prefix(), options, [&](const stm::Commit& commit) {
    commits.push_back(commit);
    if (commit.initial) {
      std::thread([&] {
        for (int64_t i = 1; i <= 3; ++i) {
          OK(writer.Transact([&](Tx& tx) {
            tx.Set(a, i);
            tx.Set(b, i);
          }));
        }
      }).join();
    }
    return commits.size() < 4;
  }));
  REQUIRE(commits.size() == 4);
  REQUIRE(commits[0].changes.size() == 1);
  CHECK(*commits[0].changes[0].after == stm::Value::Integer(0));
  for (size_t i = 1; i < 4; ++i) {
    CHECK_FALSE(commits[i].initial);
    CHECK(commits[i].version > commits[i - 1].version);
    CHECK(commits[i].meta.client == "writer");
    REQUIRE(commits[i].changes.size() == 2);
    CHECK(*commits[i].changes[0].before == stm::Value::Integer(static_cast<int64_t>(i) - 1));
    CHECK(*commits[i].changes[1].after == stm::Value::Integer(static_cast<int64_t>(i)));
  }
  CHECK_FALSE(commits[1].changes[1].before.has_value());
  // Resumed after the second: the third alone.
  stm::WatchOptions resume;
  resume.after = commits[2].version;
  resume.timeout = stm::testing::kPatience;
  OK(client.Watch(name("a"), resume, [&](const stm::Commit& commit) {
    CHECK(commit.version == commits[3].version);
    CHECK(commit.changes.size() == 1);
    return false;
  }));
}

TEST_CASE("watch: ends by its canceller and by its time") {
  Client client = Shared();
  stm::Canceller canceller;
  stm::WatchOptions options;
  options.canceller = canceller;
  options.on_synced = [&](int64_t) { canceller.Cancel(); };
  CHECK(absl::IsCancelled(client.Watch("/nothing/", options, [](const stm::Commit&) { return true; })));
  stm::WatchOptions timed;
  timed.timeout = absl::Milliseconds(20);
  CHECK(absl::IsDeadlineExceeded(client.Watch("/nothing/", timed, [](const stm::Commit&) { return true; })));
}

TEST_CASE("follow: the present value, then the newest") {
  Client client = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"));
  std::vector<std::optional<int64_t>> seen;
  OK(r.Follow([&](const std::optional<int64_t>& value) {
    seen.push_back(value);
    if (seen.size() == 1) std::thread([&] { OK(client.Transact([&](Tx& tx) { tx.Set(r, 7); })); }).join();
    return !value.has_value();
  }));
  CHECK(seen == std::vector<std::optional<int64_t>>{std::nullopt, 7});
}

// ---- The rest

TEST_CASE("prefix: a client sees its own subtree alone, by short names") {
  Names name;
  stm::ConnectOptions options;
  options.address = stm::testing::SharedAddress();
  options.prefix = name("team");
  Client team = Must(stm::Connect(options));
  Client all = Shared();
  auto r = team.Ref<int64_t>("/x");
  TransactOptions once;
  once.once = "k";
  OK(team.Transact(once, [&](Tx& tx) { tx.Set(r, 1); }));
  CHECK(Must(all.Ref<int64_t>(name("team/x")).Get()) == 1);
  CHECK(Must(team.List("/")).size() == 1);
  CHECK(Must(team.List("/"))[0].name == "/x");
  CHECK(Must(all.Ref<stm::Value>("/.once" + name("team/k")).Get()) == stm::Value());
  stm::WatchOptions watch;
  watch.initial = true;
  OK(team.Watch("/", watch, [&](const stm::Commit& commit) {
    CHECK(commit.changes.at(0).name == "/x");
    return false;
  }));
  options.prefix = "team";
  CHECK(stm::IsBadValue(stm::Connect(options).status()));
}

TEST_CASE("memory: a ref that lives in the daemon's memory takes part in transactions") {
  Client client = Shared();
  Names name;
  auto local = client.Ref<int64_t>("/.memory" + name("m"), 0);
  auto r = client.Ref<int64_t>(name("r"), 0);
  OK(client.Transact([&](Tx& tx) {
    tx.Alter(local, [](int64_t n) { return n + 1; });
    tx.Alter(r, [](int64_t n) { return n + 1; });
  }));
  CHECK(Must(local.Get()) == 1);
}

TEST_CASE("recipes: a queue, a barrier, a fold") {
  stm::testing::Daemon daemon = Must(stm::testing::Daemon::Start());
  Client client = stm::testing::Connected(daemon.address());
  stm::Queue<std::string> queue(client, "/queue");
  CHECK_FALSE(Must(queue.TryTake()).has_value());
  OK(queue.Put("a"));
  OK(queue.Put("b"));
  CHECK(Must(queue.Take()) == "a");
  CHECK(Must(queue.TryTake()) == "b");

  stm::Barrier barrier(client, "/barrier", 3);
  std::atomic<int> through{0};
  for (int round = 1; round <= 2; ++round) {
    std::vector<std::thread> parties;
    for (int i = 0; i < 2; ++i) {
      parties.emplace_back([&] {
        if (barrier.Await().ok()) ++through;
      });
    }
    CHECK(through == 2 * (round - 1));
    OK(barrier.Await());
    for (auto& party : parties) party.join();
    CHECK(through == 2 * round);
  }

  stm::Fold<int64_t, blog::CreateUser, blog::DeleteUser> users(client, 0, [](int64_t n, const auto& event) {
    return n + (std::holds_alternative<blog::CreateUser>(event) ? 1 : -1);
  });
  OK(users.Update());
  CHECK(users.state() == 0);
  OK(client.Transact([](Tx& tx) { tx.Record(blog::CreateUser{"a", "a", {}}); }));
  OK(client.Transact([](Tx& tx) { tx.Record(blog::CreateUser{"b", "b", {}}); }));
  OK(users.Update());
  CHECK(users.state() == 2);
  OK(users.Update());  // nothing new
  OK(client.Transact([](Tx& tx) { tx.Record(blog::DeleteUser{"b", {}}); }));
  OK(users.Update());
  CHECK(users.state() == 1);
}

TEST_CASE("async: many at once, more than there are threads") {
  Client client = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  std::vector<std::future<absl::Status>> futures;
  for (int i = 0; i < 200; ++i) {
    futures.push_back(client.TransactAsync([&](Tx& tx) { tx.Commute(r, stm::Add(1)); }));
  }
  for (auto& future : futures) OK(future.get());
  CHECK(Must(r.GetAsync().get()) == 200);
}

TEST_CASE("connect: an address without a port is refused, naming the remedy") {
  absl::Status status = stm::Connect("localhost").status();
  CHECK(stm::IsBadValue(status));
  CHECK(Contains(status, "host:port"));
}
