// Three stmd over three servers of ZooKeeper: what users and operators do with them, and what the world does
// to them.
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "stm/client.h"
#include "tests/e2e/faults/process.h"
#include "tests/zookeeper/ensemble.h"

namespace stm::e2e {
namespace {

using Catch::Matchers::Contains;

struct Made {
  int64_t number = 0;
};
STM_RECORD(Made, "test.Made", number);

// A session that ends, and that is asked for anew, while a test looks on.
constexpr char kSessionTimeout[] = "--zookeeper-session-timeout=2s";

zookeeper::EnsembleOptions Three() {
  zookeeper::EnsembleOptions options;
  options.servers = 3;
  options.settings = {"tickTime=500"};
  return options;
}

// False, after a line that says so: there can be no servers here.
bool HasZooKeeper() {
  const std::string why = zookeeper::WhyNoServers();
  if (!why.empty()) std::printf("SKIPPED cluster: there is no ZooKeeper here: %s", why.c_str());
  return why.empty();
}

class Cluster {
 public:
  Cluster() : ensemble(Three()) {
    INFO(ensemble.said());
    REQUIRE(ensemble.AwaitServing());
  }

  std::string Store(const std::string& chroot) const {
    return absl::StrCat("zk://", ensemble.connect(), chroot);
  }

  std::unique_ptr<Stmd> Start(const std::string& chroot, const std::vector<std::string>& more = {}) const {
    StmdOptions options;
    options.flags = {absl::StrCat("--coordinator=", Store(chroot)), kSessionTimeout};
    options.flags.insert(options.flags.end(), more.begin(), more.end());
    return std::make_unique<Stmd>(options);
  }

  // Three of one store, and where they are.
  void StartThree(const std::string& chroot) {
    for (int i = 0; i < 3; ++i) daemons.push_back(Start(chroot, {"--create"}));
    for (const auto& daemon : daemons) {
      addresses.push_back(daemon->AwaitAddress());
      INFO(daemon->said());
      REQUIRE(addresses.back() != "");
    }
  }

  zookeeper::Ensemble ensemble;
  std::vector<std::unique_ptr<Stmd>> daemons;
  std::vector<std::string> addresses;
};

struct Ran {
  std::optional<int> code;
  std::string said;
};

Ran Run(const std::string& address, std::vector<std::string> command) {
  command[0] = Runfile(command[0]);
  Process process(command, {{"STM_ADDRESS", address}});
  Ran ran;
  ran.code = process.AwaitExit();
  ran.said = process.said();
  return ran;
}

// What it says, when it succeeds.
std::string Said(const std::string& address, const std::vector<std::string>& command) {
  const Ran ran = Run(address, command);
  INFO(absl::StrJoin(command, " ") << ": " << ran.said);
  CHECK(ran.code == 0);
  return ran.said;
}

Ran Stmctl(const std::string& address, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "client/cli/stmctl");
  return Run(address, arguments);
}

TEST_CASE("cluster: three daemons are one store") {
  if (!HasZooKeeper()) return;
  Cluster cluster;
  Process before({Runfile("server/stmd"), "--coordinator=" + cluster.Store("/app"), "--listen=127.0.0.1:0",
                  "--http=off"});
  CHECK(before.AwaitExit() == 1);
  CHECK_THAT(before.said(), Contains("stmctl init") && Contains("--create"));
  CHECK(Stmctl("", {"init", cluster.Store("/app")}).said == ":made\n");
  const Ran again = Stmctl("", {"init", cluster.Store("/app")});
  CHECK(again.code == 1);
  CHECK_THAT(again.said, Contains("already"));
  CHECK(Stmctl("", {"init", "--if-absent", cluster.Store("/app")}).said == ":found\n");

  cluster.StartThree("/app");
  const std::vector<std::string>& at = cluster.addresses;

  // The first programs, each transaction through another daemon.
  for (int i = 0; i < 6; ++i) {
    CHECK_THAT(Said(at[i % 3], {"client/cpp/examples/hello_world"}), Contains(absl::StrCat("/r0 ", i + 1)));
  }
  const std::string users = "client/cpp/examples/user_database";
  Said(at[0], {users, "create", "Bob", "bob@example.com"});
  Said(at[1], {users, "create", "Alice", "alice@example.com"});
  Said(at[2], {users, "create", "Carol", "carol@example.com"});
  Said(at[0], {users, "delete", "bob@example.com"});
  const std::string listed = Said(at[1], {users, "list"});
  CHECK_THAT(listed, Contains("Alice") && Contains("Carol") && !Contains("Bob"));
  CHECK(Said(at[0], {users, "list"}) == listed);
  CHECK(Said(at[2], {users, "list"}) == listed);

  // A commit of one is seen by a read at another as soon as it is answered, and by a watcher at the third.
  Process watcher({Runfile("client/cli/stmctl"), "watch", "/seen", "--initial", "--count", "8"},
                  {{"STM_ADDRESS", at[2]}});
  REQUIRE(watcher.AwaitSaid("synced"));
  for (int i = 0; i < 8; ++i) {
    CHECK(Stmctl(at[0], {"set", "/seen", absl::StrCat(i)}).code == 0);
    CHECK(Stmctl(at[1], {"get", "/seen"}).said == absl::StrCat(i, "\n"));
  }
  CHECK(watcher.AwaitExit() == 0);
  for (int i = 1; i < 8; ++i)
    CHECK_THAT(watcher.said(), Contains(absl::StrCat(":before ", i - 1, ", :after ", i)));

  // Who runs, where, and how far: what each says of itself arrives within about a second.
  std::string shown;
  const bool all = Eventually([&] {
    shown = Stmctl(at[0], {"cluster"}).said;
    size_t level = 0;
    for (size_t from = 0; (from = shown.find(":lag 0", from)) != std::string::npos; ++from) ++level;
    return level == 3 && absl::StrContains(shown, at[0]) && absl::StrContains(shown, at[1]) &&
           absl::StrContains(shown, at[2]);
  });
  INFO(shown);
  CHECK(all);
  CHECK_THAT(Stmctl(at[0], {"status"}).said, Contains(":coordinator \"zookeeper\""));

  // What reads the log reads what ZooKeeper keeps of it, over any of them: the second program's records too.
  for (const std::string& address : at) {
    CHECK(Said(address, {users, "replay"}) == listed);
    const std::string history = Stmctl(address, {"history", "/seen"}).said;
    for (int i = 1; i < 8; ++i)
      CHECK_THAT(history, Contains(absl::StrCat(":before ", i - 1, ", :after ", i)));
  }
  // What needs a log of the daemon's own says so, and what to do.
  const Ran refused = Stmctl(at[0], {"backup", "-"});
  INFO(refused.said);
  CHECK(refused.code == 5);
  CHECK_THAT(refused.said, Contains("keeps no log"));

  // kill -9 under load: clients go on through another, and each of their increments is there once.
  constexpr int kWriters = 4, kEach = 50;
  std::atomic<int> counted{0}, failed{0};
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      ConnectOptions options;
      // Each begins with another.
      options.address = absl::StrCat(at[w % 3], ",", at[(w + 1) % 3], ",", at[(w + 2) % 3]);
      options.unavailable_timeout = kPatience;
      absl::StatusOr<Client> client = Connect(options);
      if (!client.ok()) {
        failed += kEach;
        return;
      }
      const Ref<int64_t> mine = client->Ref<int64_t>(absl::StrCat("/count/", w), 0);
      const Ref<int64_t> all = client->Ref<int64_t>("/count/all", 0);
      for (int i = 0; i < kEach; ++i) {
        const absl::Status status = client->Transact([&](Tx& tx) {
          tx.Alter(mine, [](int64_t n) { return n + 1; });
          tx.Alter(all, [](int64_t n) { return n + 1; });
        });
        status.ok() ? ++counted : ++failed;
      }
    });
  }
  CHECK(Eventually([&] { return counted + failed > kWriters * kEach / 4; }));
  cluster.daemons[0]->Signal(SIGKILL);
  CHECK(cluster.daemons[0]->AwaitExit() == 128 + SIGKILL);
  for (std::thread& writer : writers) writer.join();
  CHECK(failed == 0);
  CHECK(Stmctl(at[1], {"get", "/count/all"}).said == absl::StrCat(kWriters * kEach, "\n"));
  for (int w = 0; w < kWriters; ++w) {
    CHECK(Stmctl(at[2], {"get", absl::StrCat("/count/", w)}).said == absl::StrCat(kEach, "\n"));
  }

  // One that is told to stop leaves at once; the one that was killed is gone with its session.
  cluster.daemons[1]->Signal(SIGTERM);
  CHECK(cluster.daemons[1]->AwaitExit() == 0);
  INFO(cluster.daemons[1]->said());
  CHECK(Eventually([&] {
    const std::string left = Stmctl(at[2], {"cluster"}).said;
    return !absl::StrContains(left, at[0]) && !absl::StrContains(left, at[1]) &&
           absl::StrContains(left, at[2]);
  }));
}

// The numbers of all that the log tells over `address`, in its order.
std::vector<int64_t> ReadMade(const std::string& address) {
  ConnectOptions options;
  options.address = address;
  options.unavailable_timeout = kPatience;
  std::vector<int64_t> numbers;
  const absl::StatusOr<Client> client = Connect(options);
  INFO(client.status());
  REQUIRE(client.ok());
  int64_t last = 0;
  for (const RecordOf<std::variant<Made>>& record : client->Records<Made>()) {
    CHECK(record.version > last);
    last = record.version;
    numbers.push_back(std::get<Made>(record.value).number);
  }
  return numbers;
}

TEST_CASE("cluster: an archive has every commit of all daemons once, in order, also of while it was killed") {
  if (!HasZooKeeper()) return;
  Cluster cluster;
  const Directory directory;
  const std::string archive = directory / "archive";
  const std::vector<std::string> archives = {"--create", "--archive-dir=" + archive};
  cluster.daemons.push_back(cluster.Start("/app", archives));
  for (int i = 1; i < 3; ++i) cluster.daemons.push_back(cluster.Start("/app", {"--create"}));
  std::vector<std::string> at;
  std::vector<Client> clients;
  for (const auto& daemon : cluster.daemons) {
    at.push_back(daemon->AwaitAddress());
    INFO(daemon->said());
    REQUIRE(at.back() != "");
    ConnectOptions options;
    options.address = at.back();
    options.unavailable_timeout = kPatience;
    clients.push_back(Connect(options).value());
  }
  // Each transaction, of one counter, through another daemon: the log's order is theirs.
  std::vector<int64_t> made;
  const auto make = [&](int count, size_t first) {
    for (int i = 0; i < count; ++i) {
      const Client& client = clients[first + static_cast<size_t>(i) % (clients.size() - first)];
      const Ref<int64_t> all = client.Ref<int64_t>("/made", 0);
      const absl::Status status = client.Transact([&](Tx& tx) {
        const int64_t number = tx.Get(all) + 1;
        tx.Set(all, number);
        tx.Record(Made{number});
      });
      INFO(status);
      REQUIRE(status.ok());
      made.push_back(static_cast<int64_t>(made.size()) + 1);
    }
  };
  make(60, 0);
  CHECK(ReadMade(at[0]) == made);
  // One that follows is told what comes, whoever commits it.
  Process follower({Runfile("client/cli/stmctl"), "log", "records", "--follow"}, {{"STM_ADDRESS", at[0]}});
  REQUIRE(follower.AwaitSaid(":number 60}"));
  make(30, 0);
  CHECK(follower.AwaitSaid(":number 90}"));
  CHECK_THAT(Stmctl(at[0], {"history", "/made", "--limit", "1"}).said, Contains(":before 89, :after 90"));

  cluster.daemons[0]->Signal(SIGKILL);
  CHECK(cluster.daemons[0]->AwaitExit() == 128 + SIGKILL);
  make(60, 1);
  const std::unique_ptr<Stmd> again = cluster.Start("/app", archives);
  at[0] = again->AwaitAddress();
  INFO(again->said());
  REQUIRE(at[0] != "");
  CHECK(ReadMade(at[0]) == made);
  make(10, 1);
  CHECK(ReadMade(at[0]) == made);

  // A person's tools read it, and it is nobody else's.
  CHECK(Stmctl("", {"log", "verify", archive}).code == 0);
  const std::unique_ptr<Stmd> second = cluster.Start("/app", archives);
  CHECK(second->AwaitExit() == 1);
  CHECK_THAT(second->said(), Contains("archive") && Contains("name another directory"));
  again->Signal(SIGTERM);
  CHECK(again->AwaitExit() == 0);
  const std::unique_ptr<Stmd> other = cluster.Start("/other", archives);
  CHECK(other->AwaitExit() == 1);
  CHECK_THAT(other->said(), Contains("archive-dir") && Contains("holds the log of store"));
}

// All entries with their kinds, times and definitions, a line each, but without their versions.
std::string Export(const std::string& address) {
  const std::string said = Said(address, {"client/cli/stmctl", "export", "/"});
  const std::string version = ", :version ";
  std::string lines;
  for (size_t from = 0; from < said.size();) {
    const size_t at = std::min(said.find(version, from), said.size());
    lines.append(said, from, at - from);
    from = said.find_first_not_of("0123456789", std::min(at + version.size(), said.size()));
  }
  return lines;
}

TEST_CASE(
    "cluster: a backup of a daemon alone is restored into ZooKeeper by one command, also behind one that was "
    "killed") {
  if (!HasZooKeeper()) return;
  const Directory directory;
  const std::string backup = directory / "stm.backup";
  std::string exported;
  int64_t version = 0;
  {
    StmdOptions options;
    options.data_dir = directory / "data";
    Stmd alone(options);
    const std::string address = alone.AwaitAddress();
    INFO(alone.said());
    REQUIRE(address != "");
    const std::string lines = directory / "lines.edn";
    {
      std::ofstream out(lines);
      for (int i = 0; i < 20'000; ++i) {
        out << "{:name \"/many/" << i % 100 << "/" << i << "\" :value {:n " << i << " :text \"\u00e9 " << i
            << "\"}}\n";
      }
    }
    Said(address, {"client/cli/stmctl", "import", "/many/", lines});
    Said(address, {"client/cli/stmctl", "set", "/ttl", "true", "--ttl", "1h"});
    Said(address, {"client/cli/stmctl", "set", "/ruled", "1"});
    Said(address, {"client/cli/stmctl", "validator", "set", "/ruled", "[:and :int [:min 0]]"});
    Said(address, {"client/cli/stmctl", "atom", "reset", "/atom", "[1 2]"});
    Said(address, {"client/cli/stmctl", "delete", "/many/7/7"});
    Said(address, {"client/cli/stmctl", "backup", backup});
    exported = Export(address);
    version = std::stoll(Said(address, {"client/cli/stmctl", "set", "/after", "1"}));
  }
  Cluster cluster;
  const std::string store = cluster.Store("/restored");
  const std::string damaged = directory / "damaged";
  std::ofstream(damaged) << std::ifstream(backup).rdbuf() << "more\n";
  const Ran refused = Stmctl("", {"restore", damaged, store});
  CHECK(refused.code == 1);
  CHECK_THAT(refused.said, Contains("behind the end"));
  CHECK(Stmctl("", {"restore", "-", store}).code == 2);
  CHECK(Stmctl("", {"restore", backup, "--acl", "creator"}).code == 2);

  // Killed as soon as a daemon sees that it has begun: that does not start, unless it has ended already.
  Process killed({Runfile("client/cli/stmctl"), "restore", backup, store});
  const std::string unfinished = "a restore into the store in ZooKeeper has begun";
  CHECK(Eventually([&] {
    const std::unique_ptr<Stmd> early = cluster.Start("/restored");
    return early->AwaitAddress() != "" || absl::StrContains(early->said(), unfinished);
  }));
  killed.Signal(SIGKILL);
  (void)killed.AwaitExit();
  const Ran again = Stmctl("", {"restore", backup, store});
  INFO(again.said);
  REQUIRE((again.code == 0 || absl::StrContains(again.said, "already")));
  const Ran third = Stmctl("", {"restore", backup, store});
  CHECK(third.code == 1);
  CHECK_THAT(third.said, Contains("already"));

  const std::unique_ptr<Stmd> one = cluster.Start("/restored"), two = cluster.Start("/restored");
  const std::string at = one->AwaitAddress(), other = two->AwaitAddress();
  INFO(one->said() << two->said());
  REQUIRE((at != "" && other != ""));
  CHECK(Export(at) == exported);
  CHECK(Said(other, {"client/cli/stmctl", "list", "/", "--count"}) == "20002\n");
  CHECK(Said(other, {"client/cli/stmctl", "validator", "get", "/ruled"}) == "[:and :int [:min 0]]\n");
  CHECK(Stmctl(at, {"set", "/ruled", "-1"}).code == 5);
  CHECK_THAT(Said(other, {"client/cli/stmctl", "get", "/ttl", "--meta"}), Contains(":ttl"));
  CHECK(Said(at, {"client/cli/stmctl", "atom", "cas", "/atom", "[1 2]", "[3]"}) != "");
  // Versions only rise.
  CHECK(std::stoll(Said(at, {"client/cli/stmctl", "set", "/ruled", "2"})) > version);
  CHECK(Said(other, {"client/cli/stmctl", "get", "/ruled"}) == "2\n");
  CHECK_THAT(Stmctl(at, {"restore", backup}).said, Contains("stmctl restore FILE zk://"));
}

TEST_CASE("cluster: whose credentials ZooKeeper does not take is told so, and how to give others") {
  if (!HasZooKeeper()) return;
  Cluster cluster;
  Directory directory;
  const auto file = [&](const std::string& name, const std::string& text) {
    std::ofstream(directory / name) << text << "\n";
    chmod((directory / name).c_str(), 0600);
    return directory / name;
  };
  const std::string good = file("good", "stmd:s3cret");
  const std::string bad = file("bad", "stmd:guessed");
  CHECK(Stmctl("", {"init", cluster.Store("/closed"), "--credentials-file", good, "--acl", "creator"}).code ==
        0);
  const auto start = [&](const std::string& credentials) {
    return cluster.Start("/closed",
                         {"--zookeeper-credentials-file=" + credentials, "--zookeeper-acl=creator"});
  };
  const std::unique_ptr<Stmd> taken = start(good);
  const std::string address = taken->AwaitAddress();
  INFO(taken->said());
  REQUIRE(address != "");
  CHECK(Stmctl(address, {"set", "/a", "1"}).code == 0);
  const Ran config = Stmctl(address, {"config"});
  CHECK_THAT(config.said, Contains("zookeeper-credentials-file") && !Contains("s3cret"));

  const std::unique_ptr<Stmd> wrong = start(bad);
  const std::unique_ptr<Stmd> none = cluster.Start("/closed");
  for (Stmd* daemon : {wrong.get(), none.get()}) {
    CHECK(daemon->AwaitExit() == 1);
    CHECK_THAT(daemon->said(), Contains("credentials") && Contains("--zookeeper-credentials-file") &&
                                   !Contains("guessed") && !Contains("stmctl init"));
  }
  CHECK_THAT(taken->said(), !Contains("s3cret"));
}

TEST_CASE(
    "cluster: while ZooKeeper is away calls are UNAVAILABLE, and without a restart they go through again") {
  if (!HasZooKeeper()) return;
  Cluster cluster;
  cluster.StartThree("/app");
  const std::vector<std::string>& at = cluster.addresses;
  CHECK(Stmctl(at[0], {"set", "/a", "1"}).code == 0);

  cluster.ensemble.KillAll();
  // It waits for servers, and says so.
  const std::unique_ptr<Stmd> late = cluster.Start("/app");
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"get", "/a"}, {"get", "/never"}, {"list", "/"}, {"cluster"}}) {
    const Ran away = Stmctl(at[1], [&] {
      std::vector<std::string> all = command;
      all.insert(all.begin(), {"--timeout", "4s"});
      return all;
    }());
    INFO(absl::StrJoin(command, " ") << ": " << away.said);
    CHECK(away.code == 6);
    CHECK_THAT(away.said, Contains("ZooKeeper"));
  }
  // stmctl sends a commit again while it may. Then it is not committed, or nobody knows, and who asks later
  // is told.
  const Ran set = Stmctl(at[1], {"--timeout", "1s", "set", "/b", "1"});
  INFO(set.said);
  CHECK(set.code != 0);
  const std::string ask = "stmctl outcome ";
  const size_t word = set.said.find(ask);
  CHECK((word != std::string::npos || absl::StrContains(set.said, "not committed, for certain")));
  CHECK(late->AwaitSaid("start_waits"));
  CHECK_THAT(late->said(), Contains("a server of ZooKeeper"));

  cluster.ensemble.StartAll();
  for (const std::string& address : at) {
    CHECK(Eventually([&] { return Stmctl(address, {"set", "/b", "2"}).code == 0; }));
    CHECK(Stmctl(address, {"get", "/a"}).said == "1\n");
  }
  if (word != std::string::npos) {
    std::string asked = set.said.substr(word + ask.size());
    asked.erase(asked.find_last_not_of('\n') + 1);
    const Ran outcome = Stmctl(at[2], {"outcome", asked});
    INFO(outcome.said);
    CHECK(outcome.code == 4);
  }
  CHECK(late->AwaitAddress() != "");

  // Wiped: what they hold is nowhere any more.
  cluster.ensemble.KillAll();
  cluster.ensemble.Wipe();
  cluster.ensemble.StartAll();
  for (const auto& daemon : cluster.daemons) {
    CHECK(daemon->AwaitExit() == 1);
    CHECK_THAT(daemon->said(), Contains("store_failed code=DATA_LOSS") && Contains("backup"));
  }
}

}  // namespace
}  // namespace stm::e2e
