// What the client does when connections break and daemons go: exactly once, and unseen where that can be. A proxy
// loses requests or answers; a daemon on a data directory is killed and started again.
#include <atomic>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/client/cpp/fixture.h"

namespace {

using stm::Client;
using stm::TransactOptions;
using stm::Tx;
using stm::testing::Connected;
using stm::testing::Contains;
using stm::testing::Daemon;
using stm::testing::DaemonOptions;
using stm::testing::Directory;
using stm::testing::Eventually;
using stm::testing::Must;
using stm::testing::Names;
using stm::testing::Proxy;
using stm::testing::Shared;
using stm::testing::SharedAddress;

}  // namespace

TEST_CASE("lost answer: the commit is resent and answered, not done again") {
  Proxy proxy(SharedAddress());
  Client client = Connected(proxy.address());
  Client direct = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  auto same = direct.Ref<int64_t>(name("r"), 0);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  for (int64_t i = 1; i <= 5; ++i) {
    int runs = 0;
    stm::Committed committed;
    TransactOptions options;
    options.committed = &committed;
    // Only the commit's answer is to be lost: it goes out blind, with nothing to read.
    proxy.LoseAnswers(true);
    auto done = client.TransactAsync(options, [&](Tx& tx) {
      runs = tx.run();
      tx.Commute(r, stm::Add(1));
    });
    REQUIRE(Eventually([&] { return Must(same.Get()) == i; }));
    proxy.LoseAnswers(false);
    proxy.Cut();
    OK(done.get());
    CHECK(runs == 1);
    CHECK(committed.resends == 1);
    OK(direct.Transact(options, [&](Tx& tx) { tx.Commute(same, stm::Add(0)); }));
    CHECK(committed.resends == 0);
    CHECK(Must(same.Get()) == i);
  }
}

TEST_CASE("lost request: the commit is sent again and done once") {
  Proxy proxy(SharedAddress());
  Client client = Connected(proxy.address());
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  for (int64_t i = 1; i <= 5; ++i) {
    proxy.LoseRequests(true);
    int64_t before = proxy.bytes_up();
    auto done = client.TransactAsync([&](Tx& tx) { tx.Commute(r, stm::Add(1)); });
    REQUIRE(Eventually([&] { return proxy.bytes_up() > before; }));
    proxy.LoseRequests(false);
    proxy.Cut();
    OK(done.get());
    CHECK(Must(r.Get()) == i);
  }
}

TEST_CASE("cut connections: under load nothing acknowledged is lost, nothing is done twice, nobody notices") {
  Proxy proxy(SharedAddress());
  Names name;
  Client direct = Shared();
  auto counter = direct.Ref<int64_t>(name("commuted"), 0);
  auto altered = direct.Ref<int64_t>(name("altered"), 0);
  auto log = direct.Ref<std::vector<int64_t>>(name("log"), {});
  OK(direct.Transact([&](Tx& tx) { tx.Get(counter), tx.Get(altered), tx.Get(log); }));
  std::atomic<int> acknowledged{0};
  std::atomic<int> failed{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t, client = Connected(proxy.address())] {
      auto c = client.Ref<int64_t>(name("commuted"), 0);
      auto a = client.Ref<int64_t>(name("altered"), 0);
      auto l = client.Ref<std::vector<int64_t>>(name("log"), {});
      for (int64_t i = 0; !stop; ++i) {
        absl::Status status = client.Transact([&](Tx& tx) {
          tx.Commute(c, stm::Add(1));
          tx.Commute(l, stm::Conj(t * 1000000 + i));
          tx.Alter(a, [](int64_t n) { return n + 1; });
        });
        if (status.ok()) {
          ++acknowledged;
        } else {
          ++failed;
        }
      }
    });
  }
  std::minstd_rand random(7);
  for (int cut = 0; cut < 40; ++cut) {
    int target = acknowledged + static_cast<int>(random() % 20);
    if (!Eventually([&] { return acknowledged >= target; })) break;
    proxy.Cut();
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  CHECK(failed == 0);
  CHECK(Must(counter.Get()) == acknowledged);
  CHECK(Must(altered.Get()) == acknowledged);
  std::vector<int64_t> all = Must(log.Get());
  CHECK(std::set<int64_t>(all.begin(), all.end()).size() == static_cast<size_t>(acknowledged));
}

TEST_CASE("cut connections: a watch goes on after what it told last, each commit once") {
  Proxy proxy(SharedAddress());
  Client client = Connected(proxy.address());
  Client direct = Shared();
  Names name;
  auto r = direct.Ref<int64_t>(name("r"), 0);
  std::atomic<bool> synced{false};
  stm::WatchOptions options;
  options.on_synced = [&](int64_t) { synced = true; };
  options.timeout = stm::testing::kPatience;
  constexpr int64_t kCommits = 300;
  std::vector<int64_t> values;
  std::atomic<int64_t> told{0};
  absl::Status watched;
  std::thread watching([&] {
    watched = client.Watch(name("r"), options, [&](const stm::Commit& commit) {
      if (commit.initial) values.push_back(-1);  // a gap: not with the history there is
      for (const stm::Change& change : commit.changes) values.push_back(change.after->integer());
      ++told;
      return values.back() != kCommits;
    });
  });
  bool ready = Eventually([&] { return synced.load(); });
  for (int64_t i = 1; ready && i <= kCommits; ++i) {
    OK(direct.Transact([&](Tx& tx) { tx.Set(r, i); }));
    if (i % 30 == 0) proxy.Cut();
  }
  watching.join();
  OK(watched);
  REQUIRE(values.size() == kCommits);
  for (int64_t i = 1; i <= kCommits; ++i) CHECK(values[static_cast<size_t>(i) - 1] == i);
}

TEST_CASE("cut connections: records are read to their end, each once") {
  Daemon daemon = Must(Daemon::Start());
  Proxy proxy(daemon.address());
  Client direct = Connected(daemon.address());
  Client client = Connected(proxy.address());
  constexpr int64_t kRecords = 2000;
  for (int64_t i = 1; i <= kRecords;) {
    OK(direct.Transact([&](Tx& tx) {
      for (int64_t j = i; j < i + 100; ++j) tx.Record(stm::Tagged{"n", stm::Value::Integer(j)});
    }));
    i += 100;
  }
  int64_t next = 1;
  for (auto& r : client.Records()) {
    REQUIRE(r.value.tagged_value().integer() == next);
    if (next++ % 300 == 0) proxy.Cut();
  }
  CHECK(next == kRecords + 1);
}

TEST_CASE("cut connections: a sleeping retry is not woken by them, and wakes when it should") {
  Proxy proxy(SharedAddress());
  Client client = Connected(proxy.address());
  Client direct = Shared();
  Names name;
  auto r = direct.Ref<int64_t>(name("r"), 0);
  OK(direct.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  auto mine = client.Ref<int64_t>(name("r"), 0);
  std::atomic<int> runs{0};
  auto woken = client.TransactAsync([&](Tx& tx) {
    ++runs;
    int64_t n = tx.Get(mine);
    if (n == 0) tx.Retry();
    return n;
  });
  REQUIRE(Eventually([&] { return runs == 1; }));
  for (int i = 0; i < 3; ++i) {
    proxy.Cut();
    CHECK(Must(mine.Get()) == 0);  // over the new connection
  }
  CHECK(runs == 1);
  OK(direct.Transact([&](Tx& tx) { tx.Set(r, 5); }));
  CHECK(Must(woken.get()) == 5);
}

TEST_CASE("deadline: a commit whose answer does not come is CommitUnknown, and its word tells later") {
  Proxy proxy(SharedAddress());
  Client client = Connected(proxy.address());
  Client direct = Shared();
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  proxy.LoseAnswers(true);
  TransactOptions options;
  options.timeout = absl::Milliseconds(100);
  absl::Status status = client.Transact(options, [&](Tx& tx) { tx.Commute(r, stm::Add(1)); });
  CHECK(stm::IsCommitUnknown(status));
  std::string word = stm::InfoOf(status).outcome_word;
  REQUIRE_FALSE(word.empty());
  CHECK(Contains(status, "stmctl outcome " + word));
  std::optional<int64_t> version = Must(direct.Outcome(word));
  CHECK(version.has_value());
  CHECK(Must(direct.Ref<int64_t>(name("r")).Get()) == 1);
  // One that never came: it did not happen, and never will.
  proxy.LoseAnswers(false);
  proxy.Cut();
  CHECK(Must(r.Get()) == 1);
  proxy.LoseRequests(true);
  status = client.Transact(options, [&](Tx& tx) { tx.Commute(r, stm::Add(1)); });
  CHECK(stm::IsCommitUnknown(status));
  version = Must(direct.Outcome(stm::InfoOf(status).outcome_word));
  CHECK_FALSE(version.has_value());
  CHECK(Must(direct.Ref<int64_t>(name("r")).Get()) == 1);
}

TEST_CASE("deadline: a read that is not answered ends in time, and changed nothing") {
  Proxy proxy(SharedAddress());
  Client client = Connected(proxy.address());
  Names name;
  auto r = client.Ref<int64_t>(name("r"), 0);
  CHECK(Must(r.Get()) == 0);
  proxy.LoseAnswers(true);
  stm::ReadOptions read;
  read.timeout = absl::Milliseconds(50);
  CHECK(absl::IsDeadlineExceeded(r.Get(read).status()));
  TransactOptions options;
  options.timeout = absl::Milliseconds(50);
  CHECK(absl::IsDeadlineExceeded(client.Transact(options, [&](Tx& tx) { (void)tx.Get(r); })));
}

TEST_CASE("several addresses: one is kept, and left when it fails") {
  Proxy first(SharedAddress());
  Proxy second(SharedAddress());
  Names name;
  Client client = Connected("127.0.0.1:1," + first.address() + ", " + second.address());
  CHECK(client.address() == first.address());
  auto r = client.Ref<int64_t>(name("r"), 0);
  auto add = [&] { OK(client.Transact([&](Tx& tx) { tx.Alter(r, [](int64_t n) { return n + 1; }); })); };
  add();
  first.Cut();
  add();
  CHECK(client.address() == first.address());
  first.Refuse(true);
  first.Cut();
  add();
  CHECK(client.address() == second.address());
  first.Refuse(false);
  add();
  CHECK(client.address() == second.address());
  CHECK(Must(r.Get()) == 4);
}

TEST_CASE("unavailable: calls wait for a daemon that comes back, and say what was tried when none does") {
  Daemon daemon = Must(Daemon::Start());
  Proxy proxy(daemon.address());
  stm::ConnectOptions options;
  options.address = proxy.address();
  options.unavailable_timeout = absl::Seconds(1);
  Client client = Must(stm::Connect(options));
  auto r = client.Ref<int64_t>("/r", 0);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  proxy.Refuse(true);
  proxy.Cut();
  CHECK(stm::IsUnavailable(r.Get().status()));  // now the loss is known: a commit is not sent
  absl::Status status = client.Transact([&](Tx& tx) { tx.Set(r, 1); });
  CHECK(stm::IsUnavailable(status));
  CHECK(absl::IsUnavailable(status));
  CHECK(Contains(status, proxy.address()));
  CHECK(Contains(status, "STM_ADDRESS"));
  CHECK(stm::IsUnavailable(client.Watch("/r", [](const stm::Commit&) { return true; })));
  options.unavailable_timeout = stm::testing::kPatience;
  proxy.Refuse(false);
  Client patient = Must(stm::Connect(options));
  auto mine = patient.Ref<int64_t>("/r", 0);
  proxy.Refuse(true);
  proxy.Cut();
  auto waiting = patient.TransactAsync([&](Tx& tx) { tx.Set(mine, 7); });
  proxy.Refuse(false);
  OK(waiting.get());
  CHECK(Must(r.Get()) == 7);
  options.address = "127.0.0.1:1";
  options.unavailable_timeout = absl::Milliseconds(50);
  status = stm::Connect(options).status();
  CHECK(stm::IsUnavailable(status));
  CHECK(Contains(status, "127.0.0.1:1"));
}

TEST_CASE("restart: kill -9 under load loses nothing acknowledged and does nothing twice") {
  Directory directory;
  DaemonOptions durable;
  durable.data_dir = directory.path();
  Daemon daemon = Must(Daemon::Start(durable));
  stm::ConnectOptions connect;
  connect.address = daemon.address();
  connect.unavailable_timeout = stm::testing::kPatience;
  connect.warn = [](std::string_view) {};
  Client client = Must(stm::Connect(connect));
  auto sum = client.Ref<int64_t>("/sum", 0);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(sum); }));
  std::atomic<bool> stop{false};
  std::atomic<int> acknowledged{0};
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, own = Must(stm::Connect(connect))] {
      auto s = own.Ref<int64_t>("/sum", 0);
      while (!stop) {
        absl::Status status = own.Transact([&](Tx& tx) { tx.Commute(s, stm::Add(1)); });
        if (status.ok()) {
          ++acknowledged;
        } else {
          ++failed;
          fprintf(stderr, "%s\n", status.ToString().c_str());
        }
      }
    });
  }
  bool restarted = true;
  for (int kill = 0; kill < 5 && restarted; ++kill) {
    int target = acknowledged + 50;
    restarted = Eventually([&] { return acknowledged >= target; });
    daemon.Kill();
    restarted = restarted && daemon.Restart().ok();
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  CHECK(restarted);
  CHECK(failed == 0);
  CHECK(Must(sum.Get()) == acknowledged);
}

TEST_CASE("store changed: what was not sent runs again on the new store, what was is CommitUnknown") {
  Daemon old_daemon = Must(Daemon::Start());
  Daemon new_daemon = Must(Daemon::Start());
  Proxy to_old(old_daemon.address());
  Client client = Connected(to_old.address() + "," + new_daemon.address());
  auto r = client.Ref<int64_t>("/r", 5);
  OK(client.Transact([&](Tx& tx) { (void)tx.Get(r); }));
  // Nothing was sent: the body runs again where there is no /r.
  int runs = 0;
  absl::Status status = client.Transact([&](Tx& tx) {
    runs = tx.run();
    tx.Alter(r, [](int64_t n) { return n + 1; });
    if (runs == 1) {
      to_old.Refuse(true);
      to_old.Cut();
      // The connection is to be known as lost before the commit.
      std::thread([&] { (void)client.Ref<int64_t>("/other").Find(); }).join();
    }
  });
  OK(status);
  CHECK(runs == 2);
  CHECK(Must(r.Get()) == 6);
  CHECK(Must(Connected(new_daemon.address()).Ref<int64_t>("/r").Get()) == 6);

  // Sent, and no answer came.
  to_old.Refuse(false);
  Client again = Connected(to_old.address() + "," + new_daemon.address());
  auto s = again.Ref<int64_t>("/r", 5);
  CHECK(Must(s.Get()) == 5);
  to_old.LoseAnswers(true);
  auto unknown = again.TransactAsync([&](Tx& tx) { tx.Commute(s, stm::Add(1)); });
  Client direct = Connected(old_daemon.address());
  REQUIRE(Eventually([&] { return Must(direct.Ref<int64_t>("/r").Get()) == 6; }));
  to_old.Refuse(true);
  to_old.Cut();
  status = unknown.get();
  CHECK(stm::IsCommitUnknown(status));
  CHECK(Must(direct.Outcome(stm::InfoOf(status).outcome_word)).has_value());
  CHECK(stm::IsStoreChanged(Connected(new_daemon.address()).Outcome(stm::InfoOf(status).outcome_word).status()));
  CHECK(Must(s.Get()) == 6);  // of the new store, which it has taken
}

TEST_CASE("store changed: a watch tells the present state anew, marked initial") {
  Daemon old_daemon = Must(Daemon::Start());
  Daemon new_daemon = Must(Daemon::Start());
  OK(Connected(new_daemon.address()).Transact([](Tx&) {}));
  Client there = Connected(new_daemon.address());
  OK(there.Transact([&](Tx& tx) { tx.Set(there.Ref<int64_t>("/r"), 7); }));
  Proxy to_old(old_daemon.address());
  Client client = Connected(to_old.address() + "," + new_daemon.address());
  stm::WatchOptions options;
  options.timeout = stm::testing::kPatience;
  options.on_synced = [&](int64_t) {
    to_old.Refuse(true);
    to_old.Cut();
  };
  OK(client.Watch("/r", options, [&](const stm::Commit& commit) {
    CHECK(commit.initial);
    CHECK(*commit.changes.at(0).after == stm::Value::Integer(7));
    return false;
  }));
}
