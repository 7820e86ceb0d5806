// What every implementation of Sessions must do, whatever its servers are. A test of one calls TestSessions
// and TestPackets inside TEST_CASEs.
#ifndef STM_TESTS_BACKENDS_ZOOKEEPER_SESSION_CONTRACT_H_
#define STM_TESTS_BACKENDS_ZOOKEEPER_SESSION_CONTRACT_H_

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/zookeeper/session.h"
#include "tests/backends/zookeeper/client.h"

namespace stm::zookeeper {

// Sessions on one server, which may serve other tests too.
class SessionsUnderTest {
 public:
  virtual ~SessionsUnderTest() = default;
  virtual Shore& near() = 0;
  virtual std::string connect() = 0;
  // From here the way to the servers can be cut, and mended.
  virtual Shore& far() = 0;
  virtual std::string far_connect() = 0;
  virtual void Part() = 0;
  virtual void Mend() = 0;
};

namespace contract {

using Kind = Event::Kind;
using Mode = Op::Mode;

constexpr int32_t kSome = 7;  // a version that nothing has

// Sessions live long unless a test is about their end, for this machine may be slow; no longer, for the
// library waits a sixtieth of it once it has tried all servers.
inline SessionOptions To(const std::string& connect) {
  SessionOptions options;
  options.connect = ParseConnectString(connect).value();
  options.timeout = absl::Seconds(30);
  return options;
}

inline void MustMake(Client* client, const std::string& path) {
  REQUIRE(client->Await(Kind::kConnected));
  REQUIRE(client->Try({Op::Create(path, "")}) == Code::kOk);
}

}  // namespace contract

inline void TestSessions(SessionsUnderTest* under_test) {
  using namespace contract;  // NOLINT
  Shore* const shore = &under_test->near();
  const std::string connect = under_test->connect();

  SECTION("session: each op does what it says, and what can't be done has its code and the op's place") {
    Client client(shore, To(connect));
    REQUIRE(client.Await(Kind::kConnected));

    // Create and Get.
    const std::string odd("\0 \xff EDN {:a 1}\n", 14);
    std::optional<MultiResult> made = client.Multi({Op::Create("/ops", odd), Op::Create("/ops/empty", "")});
    REQUIRE(made);
    REQUIRE(made->code == Code::kOk);
    REQUIRE(made->results.size() == 2);
    CHECK(made->results[0].path == "/ops");
    CHECK(made->results[1].path == "/ops/empty");
    Client::Read read = client.Get("/ops");
    CHECK(read.code == Code::kOk);
    CHECK(read.data == odd);
    CHECK(read.stat.data_length == static_cast<int32_t>(odd.size()));
    CHECK(read.stat.version == 0);
    CHECK(read.stat.num_children == 1);
    CHECK(read.stat.cversion == 1);
    CHECK(read.stat.ephemeral_owner == 0);
    CHECK(read.stat.czxid > 0);
    CHECK(read.stat.mzxid == read.stat.czxid);
    read = client.Get("/ops/empty");
    CHECK(read.code == Code::kOk);
    CHECK(read.data == "");
    CHECK(client.Get("/ops/none").code == Code::kNoNode);
    CHECK(client.Try({Op::Create("/ops", "")}) == Code::kNodeExists);
    CHECK(client.Try({Op::Create("/ops/none/child", "")}) == Code::kNoNode);

    // Exists and Children.
    CHECK(client.Exists("/ops").stat.czxid == client.Get("/ops").stat.czxid);
    CHECK(client.Exists("/ops/none").code == Code::kNoNode);
    CHECK(client.Try({Op::Create("/ops/another", "")}) == Code::kOk);
    read = client.Children("/ops");
    CHECK(read.code == Code::kOk);
    CHECK(read.names == std::vector<std::string>{"another", "empty"});
    CHECK(client.Children("/ops/empty").names.empty());
    CHECK(client.Children("/ops/none").code == Code::kNoNode);

    // Set, Check and Delete.
    std::optional<MultiResult> set =
        client.Multi({Op::Check("/ops/empty", 0), Op::Set("/ops/empty", "full", 0)});
    REQUIRE(set);
    REQUIRE(set->code == Code::kOk);
    CHECK(set->results[1].stat.version == 1);
    CHECK(set->results[1].stat.data_length == 4);
    CHECK(client.Get("/ops/empty").data == "full");
    CHECK(client.Get("/ops/empty").stat.mzxid == set->results[1].stat.mzxid);
    CHECK(client.Try({Op::Set("/ops/empty", "", 0)}) == Code::kBadVersion);
    CHECK(client.Try({Op::Set("/ops/none", "", 0)}) == Code::kNoNode);
    CHECK(client.Try({Op::Check("/ops/empty", 1)}) == Code::kOk);
    CHECK(client.Try({Op::Check("/ops/empty", kSome)}) == Code::kBadVersion);
    CHECK(client.Try({Op::Check("/ops/none", 0)}) == Code::kNoNode);
    CHECK(client.Try({Op::Delete("/ops/another", kSome)}) == Code::kBadVersion);
    CHECK(client.Try({Op::Delete("/ops/none", 0)}) == Code::kNoNode);
    CHECK(client.Try({Op::Delete("/ops", 0)}) == Code::kNotEmpty);
    CHECK(client.Try({Op::Delete("/ops/another", 0)}) == Code::kOk);
    CHECK(client.Exists("/ops/another").code == Code::kNoNode);

    // Ephemeral.
    CHECK(client.Try({Op::Create("/ops/here", "", Mode::kEphemeral)}) == Code::kOk);
    CHECK(client.Exists("/ops/here").stat.ephemeral_owner == client.Connected().id);
    CHECK(client.Try({Op::Create("/ops/here/child", "")}) == Code::kRefused);

    // Sequential: numbers are the parent's own.
    made = client.Multi({Op::Create("/ops/log", ""), Op::Create("/ops/log/e-", "a", Mode::kSequential),
                         Op::Create("/ops/log/e-", "b", Mode::kSequential)});
    REQUIRE(made);
    REQUIRE(made->code == Code::kOk);
    CHECK(made->results[1].path == "/ops/log/e-0000000000");
    CHECK(made->results[2].path == "/ops/log/e-0000000001");
    CHECK(client.Get("/ops/log/e-0000000001").data == "b");

    CHECK(client.Sync("/ops") == Code::kOk);
    // A name that ZooKeeper does not take, and would be one to the client: U+FFFE.
    CHECK(client.Try({Op::Create("/ops/\xef\xbf\xbe", "")}) == Code::kRefused);
    CHECK(client.Count(Kind::kConnecting) == 0);
  }

  SECTION("multi: all of it or nothing, and the first op that can't be done is named") {
    Client client(shore, To(connect));
    MustMake(&client, "/atomic");
    std::optional<MultiResult> result = client.Multi({
        Op::Create("/atomic/a", ""),
        Op::Set("/atomic", "never", 0),
        Op::Check("/atomic/none", 0),
        Op::Create("/atomic", ""),
    });
    REQUIRE(result);
    CHECK(result->code == Code::kNoNode);
    CHECK(result->failed == 2);
    CHECK(result->results.empty());
    CHECK(client.Exists("/atomic/a").code == Code::kNoNode);
    CHECK(client.Get("/atomic").data == "");
    result = client.Multi({Op::Create("/atomic", "")});
    REQUIRE(result);
    CHECK(result->code == Code::kNodeExists);
    CHECK(result->failed == 0);

    // Ops see what those before them did; create and delete together check that nothing is there.
    CHECK(client.Try({Op::Create("/atomic/b", ""), Op::Delete("/atomic/b", 0),
                      Op::Set("/atomic", "once", 0)}) == Code::kOk);
    CHECK(client.Exists("/atomic/b").code == Code::kNoNode);
    CHECK(client.Get("/atomic").data == "once");
  }

  SECTION("multi: a set's mzxid is the czxid of what was created with it, and a later one's is higher") {
    Client client(shore, To(connect));
    MustMake(&client, "/zxid");
    int64_t before = client.Get("/zxid").stat.czxid;
    for (int32_t version = 0; version < 3; ++version) {
      const std::optional<MultiResult> result = client.Multi({
          Op::Set("/zxid", "", version),
          Op::Create("/zxid/e-", "", Mode::kSequential),
      });
      REQUIRE(result);
      REQUIRE(result->code == Code::kOk);
      const int64_t zxid = result->results[0].stat.mzxid;
      CHECK(zxid > before);
      CHECK(client.Exists(result->results[1].path).stat.czxid == zxid);
      CHECK(client.Exists("/zxid").stat.mzxid == zxid);
      before = zxid;
    }
  }

  SECTION("chroot: is put before every path and taken off every path that comes back") {
    Client outside(shore, To(connect));
    Client inside(shore, To(connect + "/chroot/of/ours"));
    REQUIRE(inside.Await(Kind::kConnected));
    // Nobody has made it yet.
    CHECK(inside.Exists("/").code == Code::kNoNode);
    CHECK(inside.Try({Op::Create("/a", "")}) == Code::kNoNode);
    MustMake(&outside, "/chroot");
    MustMake(&outside, "/chroot/of");
    CHECK(inside.Try({Op::Create("/", "root")}) == Code::kOk);
    CHECK(outside.Get("/chroot/of/ours").data == "root");

    CHECK(inside.Exists("/a", Watch::kYes).code == Code::kNoNode);
    const std::optional<MultiResult> made = inside.Multi(
        {Op::Create("/a", ""), Op::Create("/a/e-", "", Mode::kSequential), Op::Set("/", "set", 0)});
    REQUIRE(made);
    REQUIRE(made->code == Code::kOk);
    CHECK(made->results[0].path == "/a");
    CHECK(made->results[1].path == "/a/e-0000000000");
    CHECK(outside.Exists("/chroot/of/ours/a/e-0000000000").code == Code::kOk);
    REQUIRE(inside.Await(Kind::kWatch));
    CHECK(inside.events().back().path == "/a");

    CHECK(inside.Get("/", Watch::kYes).data == "set");
    CHECK(outside.Try({Op::Set("/chroot/of/ours", "", 1)}) == Code::kOk);
    REQUIRE(inside.Await(Kind::kWatch, 2));
    CHECK(inside.events().back().path == "/");
    CHECK(inside.Children("/").names == std::vector<std::string>{"a"});
    CHECK(inside.Sync("/") == Code::kOk);
  }

  SECTION("watch: fires once for creation, change and deletion, and comes before an answer that shows why") {
    Client watcher(shore, To(connect));
    Client writer(shore, To(connect));
    MustMake(&writer, "/watch");
    REQUIRE(watcher.Await(Kind::kConnected));
    const auto fired = [&] { return watcher.Count(Kind::kWatch); };

    CHECK(watcher.Exists("/watch/a", Watch::kYes).code == Code::kNoNode);
    CHECK(watcher.Get("/watch/a", Watch::kYes).code == Code::kNoNode);  // sets none
    CHECK(writer.Try({Op::Create("/watch/a", "")}) == Code::kOk);
    REQUIRE(watcher.Await(Kind::kWatch));
    CHECK(watcher.events().back().path == "/watch/a");
    // Changes after it are told to nobody: an answer of its server that shows them would come after their
    // events.
    CHECK(writer.Try({Op::Set("/watch/a", "1", 0)}) == Code::kOk);
    CHECK(watcher.Get("/watch/a", Watch::kYes).data == "1");
    CHECK(fired() == 1);

    // Two watches of one node, one event.
    CHECK(watcher.Exists("/watch/a", Watch::kYes).code == Code::kOk);
    CHECK(writer.Try({Op::Set("/watch/a", "2", 1)}) == Code::kOk);
    CHECK(watcher.Get("/watch/a").data == "2");
    CHECK(fired() == 2);
    CHECK(watcher.Get("/watch/a", Watch::kYes).data == "2");
    CHECK(writer.Try({Op::Delete("/watch/a", 2)}) == Code::kOk);
    CHECK(watcher.Get("/watch/a").code == Code::kNoNode);
    CHECK(fired() == 3);

    // A session's own change fires its own watch, before the answer.
    CHECK(watcher.Exists("/watch/b", Watch::kYes).code == Code::kNoNode);
    CHECK(watcher.Try({Op::Create("/watch/b", "")}) == Code::kOk);
    CHECK(fired() == 4);
    // None was asked for.
    CHECK(watcher.Get("/watch/b").code == Code::kOk);
    CHECK(writer.Try({Op::Set("/watch/b", "", 0)}) == Code::kOk);
    CHECK(watcher.Get("/watch/b").stat.version == 1);
    CHECK(fired() == 4);
  }

  SECTION("watch: is told of what happened while there was no connection") {
    Client watcher(&under_test->far(), To(under_test->far_connect()));
    Client writer(shore, To(connect));
    MustMake(&writer, "/away");
    REQUIRE(watcher.Await(Kind::kConnected));
    CHECK(watcher.Get("/away", Watch::kYes).code == Code::kOk);
    CHECK(watcher.Exists("/away/made", Watch::kYes).code == Code::kNoNode);
    CHECK(watcher.Exists("/away/not", Watch::kYes).code == Code::kNoNode);
    const int64_t id = watcher.Connected().id;
    under_test->Part();
    REQUIRE(watcher.Await(Kind::kConnecting));
    CHECK(writer.Try({Op::Set("/away", "", 0), Op::Create("/away/made", "")}) == Code::kOk);
    under_test->Mend();
    REQUIRE(watcher.Await(Kind::kConnected, 2));
    CHECK(watcher.Connected().id == id);
    REQUIRE(watcher.Await(Kind::kWatch, 2));
    std::set<std::string> paths;
    for (const Event& event : watcher.events()) {
      if (event.kind == Kind::kWatch) paths.insert(event.path);
    }
    CHECK(paths == std::set<std::string>{"/away", "/away/made"});
    // The third still stands.
    CHECK(writer.Try({Op::Create("/away/not", "")}) == Code::kOk);
    CHECK(watcher.Await(Kind::kWatch, 3));
  }

  SECTION("end: a session may go in any of its callbacks") {
    std::atomic<int> gone{0};
    std::unique_ptr<Session> of_event;
    std::unique_ptr<Session> of_answer;
    shore->Run([&] {
      const auto kept = std::make_shared<std::string>("captured");
      of_event = shore->sessions().Open(To(connect), [&, kept](const Event& event) {
        of_event = nullptr;
        CHECK(*kept == "captured");
        ++gone;
      });
      of_answer = shore->sessions().Open(To(connect), [&](const Event& event) {
        of_answer->Get("/", Watch::kNo, [&](Code code, std::string, Stat) {
          of_answer = nullptr;
          ++gone;
        });
        of_answer->Sync("/", [&](Code) { gone = 100; });
      });
    });
    CHECK(shore->Eventually([&] { return gone >= 2; }));
    shore->Run([&] {
      CHECK(of_event == nullptr);
      CHECK(of_answer == nullptr);
    });
    CHECK(gone == 2);
  }
}

// The largest packet goes through a quorum, one byte more never goes out, and others notice nothing.
// `connect`: to three, for it must also fit into what servers send each other.
inline void TestPackets(Shore* shore, const std::string& connect) {
  using namespace contract;  // NOLINT
  Client client(shore, To(connect));
  MustMake(&client, "/large");
  const size_t around = MultiBytes({Op::Create("/large/e-", "", Mode::kSequential)}, 0);
  const std::string largest(kPacketBytesMax - around, 'x');
  std::vector<Op> fits = {Op::Create("/large/e-", largest, Mode::kSequential)};
  CHECK(MultiBytes(fits, 0) == kPacketBytesMax);
  CHECK(client.Try(fits) == Code::kOk);
  const Client::Read read = client.Get("/large/e-0000000000");
  CHECK(read.code == Code::kOk);
  CHECK(read.data == largest);
  // In many ops, whose headers count.
  const std::string some(300, 'x');
  std::vector<Op> many;
  while (MultiBytes(many, 0) + 400 <= kPacketBytesMax) {
    many.push_back(Op::Create(absl::StrCat("/m", many.size()), some));
  }
  CHECK(client.Try(many) == Code::kOk);

  // One that is too large, between others that are under way.
  std::atomic<int> fine{0};
  std::atomic<int> told{0};
  std::atomic<bool> too_large{false};
  shore->Run([&] {
    for (int i = 0; i < 20; ++i) {
      client.session()->Multi({Op::Create(absl::StrCat("/large/", i), "")}, [&](MultiResult result) {
        if (result.code == Code::kOk) ++fine;
        ++told;
      });
      if (i != 10) continue;
      client.session()->Multi({Op::Create("/large/e-", largest + "x", Mode::kSequential)},
                              [&](MultiResult result) {
                                too_large = result.code == Code::kTooLarge;
                                ++told;
                              });
    }
  });
  CHECK(shore->Eventually([&] { return told == 21; }));
  CHECK(fine == 20);
  CHECK(too_large);
  CHECK(client.Get("/" + std::string(kPacketBytesMax, 'p')).code == Code::kTooLarge);
  CHECK(client.Count(Kind::kConnecting) == 0);

  // The chroot is in every path.
  const std::string chroot = "/large";
  Client inside(shore, To(connect + chroot));
  REQUIRE(inside.Await(Kind::kConnected));
  CHECK(inside.Try({Op::Create("/e-", largest, Mode::kSequential)}) == Code::kOk);
  CHECK(inside.Try({Op::Create("/e-", largest + "x", Mode::kSequential)}) == Code::kTooLarge);
  CHECK(inside.Count(Kind::kConnecting) == 0);
}

}  // namespace stm::zookeeper

#endif  // STM_TESTS_BACKENDS_ZOOKEEPER_SESSION_CONTRACT_H_
