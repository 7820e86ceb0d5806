// Sessions of the C client on real servers: what each call and code means, and what is told when connections,
// servers and sessions end.
#include "backends/zookeeper/session.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "tests/backends/zookeeper/client.h"
#include "tests/backends/zookeeper/real_shore.h"
#include "tests/backends/zookeeper/session_contract.h"
#include "tests/client/cpp/proxy.h"
#include "tests/zookeeper/ensemble.h"

namespace stm::zookeeper {
namespace {

using contract::kSome;
using contract::MustMake;
using contract::To;
using Kind = Event::Kind;
using Mode = Op::Mode;
using stm::testing::Proxy;

// Serving from here on; what it is asked to break the test mends.
std::unique_ptr<Ensemble> Started(EnsembleOptions options) {
  auto ensemble = std::make_unique<Ensemble>(options);
  const bool serving = ensemble->AwaitServing();
  INFO(ensemble->said());
  REQUIRE(serving);
  return ensemble;
}

// A server that stays as it is, for all tests that break none.
Ensemble& One() {
  static const std::unique_ptr<Ensemble> one = Started({});
  return *one;
}

// Three, and they serve again when a test is over.
Ensemble& Three() {
  EnsembleOptions options;
  options.servers = 3;
  options.settings = {"tickTime=500", "initLimit=60", "syncLimit=20"};
  static const std::unique_ptr<Ensemble> three = Started(options);
  return *three;
}

class OnOne final : public SessionsUnderTest {
 public:
  Shore& near() override { return shore_; }
  std::string connect() override { return One().connect(); }
  Shore& far() override { return shore_; }
  std::string far_connect() override { return proxy_.address(); }
  void Part() override {
    proxy_.Refuse(true);
    proxy_.Cut();
  }
  void Mend() override { proxy_.Refuse(false); }

 private:
  RealShore shore_;
  Proxy proxy_{One().connect()};
};

TEST_CASE("session: the C client's on a server do what sessions do") {
  OnOne under_test;
  TestSessions(&under_test);
}

TEST_CASE(
    "packets: the largest goes through a quorum, one byte more never goes out, and others notice nothing") {
  RealShore shore;
  TestPackets(&shore, Three().connect());
}

TEST_CASE("session: connects, and says under which id and timeout") {
  RealShore shore;
  SessionOptions options = To(One().connect());
  options.timeout = absl::Seconds(100);
  Client client(&shore, options);
  REQUIRE(client.Await(Kind::kConnected));
  CHECK(client.Connected().id != 0);
  CHECK(client.Connected().timeout == absl::Seconds(100));
  options.timeout = absl::Hours(10);
  Client another(&shore, options);
  REQUIRE(another.Await(Kind::kConnected));
  CHECK(another.Connected().id != client.Connected().id);
  CHECK(another.Connected().timeout == absl::Seconds(600));  // what the server grants
}

// What became of 100 multis that were given at once. Each makes a pair of nodes, both or neither.
class Hundred {
 public:
  static constexpr int kCount = 100;

  Hundred(Client* client, Shore* shore, std::string directory) : directory_(std::move(directory)) {
    shore->Run([&] {
      for (int i = 0; i < kCount; ++i) {
        const std::string path = absl::StrCat(directory_, "/", i);
        client->session()->Multi({Op::Create(path + "a", ""), Op::Create(path + "b", "")},
                                 [answers = answers_, i](MultiResult result) {
                                   absl::MutexLock lock(&answers->mutex);
                                   answers->codes[i].push_back(result.code);
                                   answers->order.push_back(i);
                                 });
      }
    });
  }

  bool AwaitAnswers(size_t count) const {
    return e2e::Eventually([&] {
      absl::MutexLock lock(&answers_->mutex);
      return answers_->order.size() >= count;
    });
  }
  // Each is answered once, kOk or kUnknown, in order; those that are kOk are there; none is there by half.
  // Returns how many were kUnknown, and of those how many are there.
  std::pair<int, int> Judge(Client* reader) const {
    REQUIRE(AwaitAnswers(kCount));
    REQUIRE(reader->Sync("/") == Code::kOk);
    const Client::Read children = reader->Children(directory_);
    REQUIRE(children.code == Code::kOk);
    const std::set<std::string> there(children.names.begin(), children.names.end());
    absl::MutexLock lock(&answers_->mutex);
    CHECK(std::is_sorted(answers_->order.begin(), answers_->order.end()));
    int unknown = 0;
    int unknown_there = 0;
    for (int i = 0; i < kCount; ++i) {
      INFO(directory_ << "/" << i);
      REQUIRE(answers_->codes[i].size() == 1);
      const Code code = answers_->codes[i].front();
      const bool is_there = there.count(absl::StrCat(i, "a")) != 0;
      CHECK(is_there == (there.count(absl::StrCat(i, "b")) != 0));
      if (code == Code::kUnknown) {
        ++unknown;
        unknown_there += is_there;
      } else {
        CHECK(code == Code::kOk);
        CHECK(is_there);
      }
    }
    return {unknown, unknown_there};
  }

 private:
  struct Answers {
    absl::Mutex mutex;
    std::map<int, std::vector<Code>> codes ABSL_GUARDED_BY(mutex);
    std::vector<int> order ABSL_GUARDED_BY(mutex);
  };
  const std::string directory_;
  const std::shared_ptr<Answers> answers_ = std::make_shared<Answers>();
};

TEST_CASE(
    "loss: of 100 multis under way each is answered once, and those that were answered with kOk are there") {
  RealShore shore;
  Proxy proxy(One().connect());
  Client client(&shore, To(proxy.address()));
  Client reader(&shore, To(One().connect()));
  REQUIRE(client.Await(Kind::kConnected));
  MustMake(&reader, "/loss");
  size_t connections = 1;
  // No connection is made whose first bytes are lost: that takes the client long to see.
  const auto cut = [&] {
    proxy.Refuse(true);
    proxy.Cut();
  };
  const auto again = [&] {
    proxy.LoseRequests(false);
    proxy.LoseAnswers(false);
    proxy.Refuse(false);
    return client.Await(Kind::kConnected, ++connections);
  };

  // Before the server has read any of them.
  REQUIRE(reader.Try({Op::Create("/loss/requests", "")}) == Code::kOk);
  proxy.LoseRequests(true);
  {
    const Hundred hundred(&client, &shore, "/loss/requests");
    cut();
    CHECK(hundred.Judge(&reader) == std::make_pair(Hundred::kCount, 0));
    CHECK(client.Count(Kind::kConnecting) == connections);
    REQUIRE(again());
  }

  // After it has done all of them.
  REQUIRE(reader.Try({Op::Create("/loss/answers", "")}) == Code::kOk);
  proxy.LoseAnswers(true);
  {
    const Hundred hundred(&client, &shore, "/loss/answers");
    REQUIRE(e2e::Eventually(
        [&] { return reader.Exists("/loss/answers").stat.num_children == 2 * Hundred::kCount; }));
    cut();
    CHECK(hundred.Judge(&reader) == std::make_pair(Hundred::kCount, Hundred::kCount));
    CHECK(client.Count(Kind::kConnecting) == connections);
    REQUIRE(again());
  }

  // In the midst of them.
  for (int round = 0; round < 8; ++round) {
    const std::string directory = absl::StrCat("/loss/", round);
    REQUIRE(reader.Try({Op::Create(directory, "")}) == Code::kOk);
    const Hundred hundred(&client, &shore, directory);
    REQUIRE(hundred.AwaitAnswers(round * 10));
    cut();
    hundred.Judge(&reader);
    REQUIRE(again());
  }
  CHECK(client.Count(Kind::kExpired) == 0);
}

TEST_CASE(
    "loss: a server that is killed has kept what was answered, and its sessions go on when it is back") {
  const std::unique_ptr<Ensemble> ensemble = Started({});
  RealShore shore;
  Client client(&shore, To(ensemble->connect()));
  MustMake(&client, "/kill");
  const int64_t id = client.Connected().id;
  for (size_t round = 1; round <= 2; ++round) {
    const std::string directory = absl::StrCat("/kill/", round);
    REQUIRE(client.Try({Op::Create(directory, "")}) == Code::kOk);
    const Hundred hundred(&client, &shore, directory);
    REQUIRE(hundred.AwaitAnswers(round * 20));
    ensemble->Kill(1);
    REQUIRE(hundred.AwaitAnswers(Hundred::kCount));
    REQUIRE(client.Await(Kind::kConnecting, round));
    ensemble->Start(1);
    REQUIRE(client.Await(Kind::kConnected, round + 1));
    hundred.Judge(&client);
    CHECK(client.Connected().id == id);
  }

  // One that stands still is given up, after the timeout that was negotiated for that.
  SessionOptions options = To(ensemble->connect());
  options.timeout = absl::Seconds(5);
  Client hasty(&shore, options);
  MustMake(&hasty, "/kill/still");
  ensemble->Freeze(1);
  const Hundred hundred(&hasty, &shore, "/kill/still");
  CHECK(hasty.Await(Kind::kConnecting));
  CHECK(hundred.AwaitAnswers(Hundred::kCount));
  ensemble->Thaw(1);
  CHECK(hundred.Judge(&client).first == Hundred::kCount);
}

TEST_CASE("expiry: is told once and for good, every call is answered, and a session beside it goes on") {
  RealShore shore;
  Proxy proxy(One().connect());
  SessionOptions options = To(proxy.address());
  options.timeout = absl::Seconds(3);
  Client client(&shore, options);
  Client witness(&shore, To(One().connect()));
  MustMake(&witness, "/expiry");
  REQUIRE(client.Await(Kind::kConnected));
  CHECK(client.Try({Op::Create("/expiry/here", "", Mode::kEphemeral)}) == Code::kOk);
  CHECK(witness.Exists("/expiry/here", Watch::kYes).code == Code::kOk);
  // The server hears nothing of the client, nor the client of the server, until the server has had enough.
  proxy.LoseRequests(true);
  proxy.LoseAnswers(true);
  const Hundred hundred(&client, &shore, "/expiry");
  REQUIRE(witness.Await(Kind::kWatch));
  CHECK(witness.Exists("/expiry/here").code == Code::kNoNode);
  CHECK(client.Count(Kind::kExpired) == 0);
  proxy.LoseRequests(false);
  proxy.LoseAnswers(false);
  proxy.Cut();
  REQUIRE(client.Await(Kind::kExpired));
  CHECK(hundred.Judge(&witness) == std::make_pair(Hundred::kCount, 0));
  CHECK(client.Count(Kind::kConnecting) == 1);
  CHECK(client.Count(Kind::kConnected) == 1);

  CHECK(client.Try({Op::Create("/expiry/late", "")}) == Code::kUnknown);
  CHECK(client.Get("/expiry").code == Code::kUnknown);
  CHECK(client.Exists("/expiry", Watch::kYes).code == Code::kUnknown);
  CHECK(client.Children("/expiry").code == Code::kUnknown);
  CHECK(client.Sync("/expiry") == Code::kUnknown);
  Client next(&shore, options);
  REQUIRE(next.Await(Kind::kConnected));
  CHECK(next.Connected().id != client.Connected().id);
  CHECK(next.Exists("/expiry/late").code == Code::kNoNode);
  CHECK(client.Count(Kind::kExpired) == 1);
  CHECK(client.events().back().kind == Kind::kExpired);
}

// Counts what is posted to a Loop.
class Counting final : public engine::Loop {
 public:
  explicit Counting(engine::Loop* loop) : loop_(*loop) {}
  absl::Duration Now() override { return loop_.Now(); }
  Instant WallNow() override { return loop_.WallNow(); }
  void Post(engine::Task task) override {
    ++posted;
    loop_.Post(std::move(task));
  }
  void At(absl::Duration when, engine::Task task) override { loop_.At(when, std::move(task)); }
  uint64_t Random() override { return loop_.Random(); }

  std::atomic<int> posted{0};

 private:
  engine::Loop& loop_;
};

TEST_CASE(
    "expiry: a call that is begun when the library knows of the end, and the Loop does not, is answered "
    "too") {
  RealShore shore;
  Proxy proxy(One().connect());
  Counting loop(&shore.loop());
  CSessions sessions(&loop);
  SessionOptions options = To(proxy.address());
  options.timeout = absl::Seconds(3);
  std::unique_ptr<Session> session;
  std::atomic<int> connections{0};
  std::atomic<int> losses{0};
  std::atomic<int> ends{0};
  std::atomic<int> answers{0};
  std::atomic<int> unknown{0};
  shore.Run([&] {
    session = sessions.Open(options, [&](const Event& event) {
      ends += event.kind == Kind::kExpired;
      losses += event.kind == Kind::kConnecting;
      connections += event.kind == Kind::kConnected;
    });
  });
  REQUIRE(e2e::Eventually([&] { return connections == 1; }));
  Client witness(&shore, To(One().connect()));
  MustMake(&witness, "/between");
  REQUIRE(witness.Exists("/between/here", Watch::kYes).code == Code::kNoNode);
  shore.Run([&] { session->Multi({Op::Create("/between/here", "", Mode::kEphemeral)}, [](MultiResult) {}); });
  REQUIRE(witness.Await(Kind::kWatch));
  REQUIRE(witness.Exists("/between/here", Watch::kYes).code == Code::kOk);
  proxy.LoseRequests(true);
  proxy.LoseAnswers(true);
  REQUIRE(witness.Await(Kind::kWatch, 2));
  proxy.Refuse(true);
  proxy.Cut();
  // Nothing comes from the library any more, until it finds a server: that will be the end.
  REQUIRE(e2e::Eventually([&] { return losses == 1; }));
  bool ended = false;
  shore.Run([&] {
    const int before = loop.posted;
    proxy.LoseRequests(false);
    proxy.LoseAnswers(false);
    proxy.Refuse(false);
    ended = e2e::Eventually([&] { return loop.posted > before; });
    const auto answered = [&](Code code) {
      ++answers;
      unknown += code == Code::kUnknown;
    };
    const std::vector<Op> ops = {
        Op::Create("/between/late-in-the-day", ""),
        Op::Create("/between/later-in-the-day", ""),
        Op::Set("/between", "", 0),
        Op::Check("/between", 1),
        Op::Create("/between/last", ""),
        Op::Delete("/between/last", 0),
    };
    session->Multi(ops, [&, answered](MultiResult result) { answered(result.code); });
    session->Exists("/between", Watch::kNo, [&, answered](Code code, Stat) { answered(code); });
    session->Sync("/between", [&, answered](Code code) { answered(code); });
  });
  CHECK(ended);
  CHECK(e2e::Eventually([&] { return answers == 3; }));
  CHECK(unknown == 3);
  CHECK(ends == 1);
  CHECK(connections == 1);
  shore.Run([&] { session = nullptr; });
  CHECK(witness.Exists("/between/late-in-the-day").code == Code::kNoNode);
}

TEST_CASE("credentials: what their owner created others may not touch") {
  RealShore shore;
  SessionOptions options = To(One().connect());
  options.credentials = "alice:secret";
  options.acl = SessionOptions::Acl::kCreator;
  Proxy proxy(One().connect());
  SessionOptions through = options;
  through.connect = ParseConnectString(proxy.address()).value();
  Client alice(&shore, through);
  MustMake(&alice, "/auth");
  CHECK(alice.Try({Op::Set("/auth", "mine", 0), Op::Create("/auth/child", "")}) == Code::kOk);

  SessionOptions of_bob = options;
  of_bob.credentials = "bob:secret";
  Client bob(&shore, of_bob);
  Client nobody(&shore, To(One().connect()));
  for (Client* other : {&bob, &nobody}) {
    REQUIRE(other->Await(Kind::kConnected));
    CHECK(other->Get("/auth").code == Code::kNoAuth);
    CHECK(other->Children("/auth").code == Code::kNoAuth);
    CHECK(other->Try({Op::Create("/auth/other", "")}) == Code::kNoAuth);
    const std::optional<MultiResult> set = other->Multi({Op::Create("/unseen", ""), Op::Set("/auth", "", 1)});
    REQUIRE(set);
    CHECK(set->code == Code::kNoAuth);
    CHECK(set->failed == 1);
    CHECK(other->Try({Op::Delete("/auth/child", 0)}) == Code::kNoAuth);
  }
  CHECK(nobody.Try({Op::Create("/open", "")}) == Code::kOk);
  CHECK(bob.Try({Op::Set("/open", "anybody", 0)}) == Code::kOk);

  // Told again on every connection, before what waits for it; and by any session that has them.
  proxy.Cut();
  REQUIRE(alice.Await(Kind::kConnecting));
  REQUIRE(e2e::Eventually([&] { return alice.Get("/auth").code != Code::kUnknown; }));
  CHECK(alice.Get("/auth").data == "mine");
  Client again(&shore, options);
  REQUIRE(again.Await(Kind::kConnected));
  CHECK(again.Get("/auth").data == "mine");
}

TEST_CASE("credentials: servers that take none say so, for good") {
  EnsembleOptions refusing;
  refusing.settings = {"DigestAuthenticationProvider.enabled=false"};
  const std::unique_ptr<Ensemble> ensemble = Started(refusing);
  RealShore shore;
  SessionOptions options = To(ensemble->connect());
  options.credentials = "alice:secret";
  Client alice(&shore, options);
  REQUIRE(alice.Await(Kind::kAuthFailed));
  CHECK(alice.Get("/").code == Code::kUnknown);
  CHECK(alice.events().back().kind == Kind::kAuthFailed);
}

TEST_CASE("end: a session that goes takes its ephemerals along at once, and answers nothing any more") {
  RealShore shore;
  Proxy proxy(One().connect());
  Client witness(&shore, To(One().connect()));
  MustMake(&witness, "/end");
  {
    // With this timeout only a goodbye explains it.
    SessionOptions options = To(One().connect());
    options.timeout = absl::Seconds(600);
    Client client(&shore, options);
    REQUIRE(client.Await(Kind::kConnected));
    CHECK(client.Try({Op::Create("/end/here", "", Mode::kEphemeral)}) == Code::kOk);
    CHECK(witness.Exists("/end/here", Watch::kYes).code == Code::kOk);
  }
  CHECK(witness.Await(Kind::kWatch));
  CHECK(witness.Exists("/end/here").code == Code::kNoNode);

  // With calls under way: what they hold goes on the Loop, with the session.
  Client busy(&shore, To(proxy.address()));
  REQUIRE(busy.Await(Kind::kConnected));
  proxy.LoseAnswers(true);
  const auto held = std::make_shared<std::atomic<int>>(0);
  shore.Run([&] {
    for (int i = 0; i < 100; ++i) {
      busy.session()->Multi({Op::Create(absl::StrCat("/end/", i), "")}, [held](MultiResult) { ++*held; });
      busy.session()->Get("/end", Watch::kYes, [held](Code, std::string, Stat) { ++*held; });
    }
    busy.session()->Children("/end", [held](Code, std::vector<std::string>) { ++*held; });
    busy.session()->Exists("/end", Watch::kNo, [held](Code, Stat) { ++*held; });
    busy.session()->Sync("/end", [held](Code) { ++*held; });
    busy.session() = nullptr;
    CHECK(held.use_count() == 1);
  });
  // Now the library gives them up.
  proxy.Cut();
  CHECK(*held == 0);
}

TEST_CASE("session: before it has found a server every call is unknown, and it can go") {
  RealShore shore;
  // A name that can't be one, and a port where nobody listens.
  const std::unique_ptr<Ensemble> ensemble = Started({});
  const std::string nobody = ensemble->connect();
  ensemble->Kill(1);
  Client lost(&shore, To("no..name:2181"));
  Client alone(&shore, To(nobody));
  for (Client* client : {&lost, &alone}) {
    CHECK(client->Try({Op::Create("/a", "")}) == Code::kUnknown);
    CHECK(client->Get("/a").code == Code::kUnknown);
    CHECK(client->events().empty());
  }
  // It goes on looking.
  ensemble->Start(1);
  CHECK(alone.Await(Kind::kConnected));
}

TEST_CASE(
    "sequence: numbers are dense over failed multis, deletions and a killed leader, and tell the head") {
  Ensemble& ensemble = Three();
  RealShore shore;
  Client client(&shore, To(ensemble.connect()));
  MustMake(&client, "/sequence");
  constexpr int kUnderWay = 16;
  constexpr int kWanted = 300;

  // All on the Loop but the counts.
  struct Writer {
    Session* session;
    std::atomic<int> made{0};
    std::atomic<int> unknown{0};
    std::atomic<int> other{0};
    std::atomic<bool> stop{false};
    std::atomic<int> under_way{0};
    int given = 0;

    void Give() {
      if (stop) return;
      ++under_way;
      std::vector<Op> ops = {Op::Create("/sequence/e-", "", Op::Mode::kSequential)};
      const bool fails = ++given % 5 == 0;
      if (fails) ops.push_back(Op::Check("/sequence", kSome));
      session->Multi(std::move(ops), [this, fails](MultiResult result) {
        if (result.code == Code::kUnknown) {
          ++unknown;
        } else if (result.code == (fails ? Code::kBadVersion : Code::kOk)) {
          made += !fails;
        } else {
          ++other;
        }
        --under_way;
        Give();
      });
    }
  } writer;
  shore.Run([&] {
    writer.session = client.session().get();
    for (int i = 0; i < kUnderWay; ++i) writer.Give();
  });
  REQUIRE(e2e::Eventually([&] { return writer.made >= kWanted; }));
  const std::optional<int> leader = ensemble.AwaitLeader();
  REQUIRE(leader);
  ensemble.Kill(*leader);
  const int before = writer.made;
  CHECK(e2e::Eventually([&] { return writer.made >= before + kWanted; }));
  writer.stop = true;
  REQUIRE(e2e::Eventually([&] { return writer.under_way == 0; }));
  ensemble.Start(*leader);
  REQUIRE(ensemble.AwaitServing());
  CHECK(writer.other == 0);

  REQUIRE(client.Sync("/sequence") == Code::kOk);
  const std::vector<std::string> names = client.Children("/sequence").names;
  CHECK(static_cast<int>(names.size()) >= writer.made);
  CHECK(static_cast<int>(names.size()) <= writer.made + writer.unknown);
  for (size_t i = 0; i < names.size(); ++i) REQUIRE(names[i] == absl::StrFormat("e-%010d", i));
  const auto head = [&] {
    const Stat stat = client.Exists("/sequence").stat;
    return static_cast<size_t>(stat.cversion + stat.num_children) / 2;
  };
  CHECK(head() == names.size());
  CHECK(client.Try({Op::Delete("/sequence/e-0000000000", 0), Op::Delete("/sequence/e-0000000007", 0)}) ==
        Code::kOk);
  CHECK(head() == names.size());
  const std::optional<MultiResult> next = client.Multi({Op::Create("/sequence/e-", "", Mode::kSequential)});
  REQUIRE(next);
  REQUIRE(next->code == Code::kOk);
  CHECK(next->results[0].path == absl::StrFormat("/sequence/e-%010d", names.size()));
  CHECK(head() == names.size() + 1);
}

TEST_CASE("connect string: servers and chroot, and what is wrong with others is said") {
  const auto parse = [](const std::string& text) {
    const absl::StatusOr<ConnectString> parsed = ParseConnectString(text);
    return parsed.ok() ? parsed->servers + " " + parsed->chroot : "not";
  };
  CHECK(parse("a:1") == "a:1 ");
  CHECK(parse("a:1,b.c:65535,127.0.0.1:2181") == "a:1,b.c:65535,127.0.0.1:2181 ");
  CHECK(parse("a:1/x/y") == "a:1 /x/y");
  CHECK(parse("a:1/") == "a:1 ");
  CHECK(parse("[::1]:2181,b:2/x") == "::1:2181,b:2 /x");
  for (const std::string bad : {"", "a", "a:", "a:0", "a:65536", "a:b", ":1", "a:1,", "a:1,,b:2", "a b:1",
                                "/x", "a:1/x/", "a:1//x", "a:1/x/../y", "a:1/x,b:2/"}) {
    INFO(bad);
    const absl::StatusOr<ConnectString> parsed = ParseConnectString(bad);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(parsed.status().message().find("host:port,host:port/chroot") != absl::string_view::npos);
  }
}

TEST_CASE("path: what is one") {
  for (const std::string good : {"/", "/a", "/a/b.c", "/...", "/a/..b", "/\xc3\xa4", "/a b"}) {
    INFO(good);
    CHECK(IsPath(good));
  }
  const std::string with_end = std::string("/a\0b", 4);
  for (const std::string& bad :
       {std::string(), std::string("a"), std::string("/a/"), std::string("//"), std::string("//a"),
        std::string("/a//b"), std::string("/."), std::string("/a/.."), std::string("/../a"),
        std::string("/a\n"), std::string("/\x7f"), with_end}) {
    INFO(bad);
    CHECK_FALSE(IsPath(bad));
  }
}

}  // namespace
}  // namespace stm::zookeeper
