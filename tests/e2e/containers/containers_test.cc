// One daemon, and entries in each kind of place at once: inline, in its memory, in files, in MongoDB, behind
// gRPC.
#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backends/containers/files.h"
#include "backends/containers/serve.h"
#include "stm/client.h"
#include "tests/e2e/faults/process.h"
#include "tests/mongodb/server.h"
#include "tests/zookeeper/ensemble.h"

namespace stm::e2e {
namespace {

// A remote container that can be taken away: files behind gRPC, in this process.
class Remote {
 public:
  explicit Remote(std::string directory) : directory_(std::move(directory)) { Start(); }
  void Start() {
    auto files = containers::MakeFiles("file://" + directory_);
    REQUIRE(files.ok());
    auto server = containers::ContainerServer::Start(*std::move(files), "127.0.0.1:" + std::to_string(port_));
    INFO(server.status());
    REQUIRE(server.ok());
    server_ = *std::move(server);
    port_ = server_->port();
  }
  void Stop() {
    server_->Stop(absl::ZeroDuration());
    server_.reset();
  }
  std::string uri() const { return "grpc://127.0.0.1:" + std::to_string(port_); }

 private:
  const std::string directory_;
  int port_ = 0;
  std::unique_ptr<containers::ContainerServer> server_;
};

constexpr int64_t kSum = 600;

// All the places, and a daemon that has them all, or all but some.
class Site {
 public:
  Site() : remote_(directory_ / "remote") {
    if (mongodb::WhyNoServer().empty()) mongodb_.emplace();
    settings_ = {{"files", "file://" + directory_ / "files"}, {"remote:r", remote_.uri()}};
    if (mongodb_.has_value()) settings_["mongo"] = mongodb_->uri("stmd_test_e2e");
    Start();
  }

  void Start(const std::string& without = "") {
    StmdOptions options;
    options.data_dir = directory_ / "data";
    for (const auto& [name, uri] : settings_) {
      if (name != without) options.flags.push_back("--container=" + name + "=" + uri);
    }
    options.flags.push_back("--container-timeout=5s");
    stmd_.emplace(options);
    address_ = stmd_->AwaitAddress();
    INFO(stmd_->said());
    REQUIRE_FALSE(address_.empty());
  }
  void Kill() {
    stmd_->Signal(SIGKILL);
    REQUIRE(stmd_->AwaitExit().has_value());
    // libmongoc's counters.
    CHECK_FALSE(std::filesystem::exists("/dev/shm/mongoc-" + std::to_string(stmd_->pid())));
  }
  int Stop() {
    stmd_->Signal(SIGTERM);
    return stmd_->AwaitExit().value_or(-1);
  }

  // `patience`: how long what is unavailable is asked for again.
  Client Connected(absl::Duration patience = absl::Seconds(30)) const {
    ConnectOptions options;
    options.address = address_;
    options.unavailable_timeout = patience;
    absl::StatusOr<Client> client = Connect(options);
    INFO(client.status());
    REQUIRE(client.ok());
    return *client;
  }
  // Where it prints what `stmctl` printed.
  std::string Ctl(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), Runfile("client/cli/stmctl"));
    Process process(arguments, {{"STM_ADDRESS", address_}});
    CHECK(process.AwaitExit() == 0);
    return process.said();
  }

  // A name for each place: refs of one transaction.
  std::vector<std::pair<std::string, std::string>> Places() const {
    std::vector<std::pair<std::string, std::string>> places = {{"/inline", ""}, {"/.memory/m", ""}};
    for (const auto& [name, uri] : settings_)
      places.emplace_back("/in/" + std::to_string(places.size()), name);
    return places;
  }
  Ref<int64_t> RefAt(const Client& client, const std::pair<std::string, std::string>& place) const {
    Definition definition;
    definition.container = place.second;
    return client.Ref<int64_t>(place.first, std::nullopt, definition);
  }
  bool has_mongodb() const { return mongodb_.has_value(); }
  mongodb::Server& mongodb() { return *mongodb_; }
  Remote& remote() { return remote_; }

 private:
  Directory directory_;
  Remote remote_;
  std::optional<mongodb::Server> mongodb_;
  std::map<std::string, std::string> settings_;
  std::optional<Stmd> stmd_;
  std::string address_;
};

TEST_CASE("containers: a transaction over every kind of place commits as one, or not at all") {
  Site site;
  Client client = site.Connected();
  const auto places = site.Places();
  // No skip in silence: what is tried is said.
  WARN("places: " << places.size() << (site.has_mongodb() ? "" : ", no MongoDB: " + mongodb::WhyNoServer()));
  const auto set_all = [&](const Client& by, int64_t value, bool fail) {
    return by.Transact([&](Tx& tx) -> absl::Status {
      for (const auto& place : places) tx.Set(site.RefAt(by, place), value);
      return fail ? absl::InternalError("the body gave up") : absl::OkStatus();
    });
  };
  const auto check_all = [&](int64_t value) {
    absl::StatusOr<std::vector<int64_t>> read = client.Transact([&](Tx& tx) {
      std::vector<int64_t> values;
      for (const auto& place : places) values.push_back(tx.Get(site.RefAt(client, place)));
      return values;
    });
    INFO(read.status());
    REQUIRE(read.ok());
    CHECK(*read == std::vector<int64_t>(places.size(), value));
  };
  absl::Status first = set_all(client, 1, false);
  INFO(first);
  REQUIRE(first.ok());
  check_all(1);
  CHECK(set_all(client, 2, true).code() == absl::StatusCode::kInternal);
  check_all(1);

  // One place is away: nothing of the rest is changed, and what does not touch it goes on.
  site.remote().Stop();
  Client impatient = site.Connected(absl::Milliseconds(500));
  const absl::Status away = set_all(impatient, 3, false);
  CHECK(absl::IsUnavailable(away));
  CHECK(std::string(away.message()).find("remote:r") != std::string::npos);
  for (const auto& place : places) {
    if (place.second == "remote:r") continue;
    absl::StatusOr<int64_t> value = site.RefAt(impatient, place).Get();
    INFO(place.first << " " << value.status());
    REQUIRE(value.ok());
    CHECK(*value == 1);
    absl::Status set = impatient.Transact([&](Tx& tx) { tx.Set(site.RefAt(impatient, place), 4); });
    INFO(set);
    CHECK(set.ok());
  }
  const std::string listed = site.Ctl({"containers"});
  for (const auto& place : places) {
    if (!place.second.empty()) CHECK(listed.find(":name \"" + place.second + "\"") != std::string::npos);
  }
  CHECK(listed.find(":name \"remote:r\", :healthy false") != std::string::npos);
  CHECK(listed.find(":name \"files\", :healthy true") != std::string::npos);

  site.remote().Start();
  REQUIRE(Eventually([&] { return set_all(client, 5, false).ok(); }));
  check_all(5);
  CHECK(site.Stop() == 0);
}

TEST_CASE("containers: what is moved between places under kill -9 is neither lost nor made") {
  Site site;
  auto places = site.Places();
  // What is in memory goes with the daemon.
  places.erase(places.begin() + 1);
  const int64_t each = kSum / static_cast<int64_t>(places.size());
  {
    Client client = site.Connected();
    absl::Status made = client.Transact([&](Tx& tx) {
      for (const auto& place : places) tx.Set(site.RefAt(client, place), each);
    });
    INFO(made);
    REQUIRE(made.ok());
  }
  const auto sum = [&](const Client& client) {
    absl::StatusOr<int64_t> total = client.Transact([&](Tx& tx) {
      int64_t total = 0;
      for (const auto& place : places) total += tx.Get(site.RefAt(client, place));
      return total;
    });
    INFO(total.status());
    REQUIRE(total.ok());
    return *total;
  };
  for (int round = 0; round < 4; ++round) {
    {
      Client client = site.Connected(absl::Milliseconds(100));
      // Until the daemon is killed under it.
      const auto move = [&](int i) {
        const auto& from = places[static_cast<size_t>(i) % places.size()];
        const auto& to = places[static_cast<size_t>(i * 7 + round + 1) % places.size()];
        return client.Transact([&](Tx& tx) {
          tx.Alter(site.RefAt(client, from), [](int64_t n) { return n - 1; });
          tx.Alter(site.RefAt(client, to), [](int64_t n) { return n + 1; });
        });
      };
      for (int i = 0; i < 20; ++i) {
        absl::Status moved = move(i);
        INFO(moved);
        REQUIRE(moved.ok());
      }
      std::vector<std::future<absl::Status>> under_way;
      for (int i = 0; i < 8; ++i) {
        under_way.push_back(client.TransactAsync([&, i](Tx& tx) {
          tx.Alter(site.RefAt(client, places[static_cast<size_t>(i) % places.size()]),
                   [](int64_t n) { return n - 1; });
          tx.Alter(site.RefAt(client, places[static_cast<size_t>(i + 1) % places.size()]),
                   [](int64_t n) { return n + 1; });
        }));
      }
      site.Kill();
      for (auto& one : under_way) (void)one.get();  // done or not, each as a whole
    }
    site.Start();
    CHECK(sum(site.Connected()) == each * static_cast<int64_t>(places.size()));
  }
  CHECK(site.Stop() == 0);
}

TEST_CASE("containers: a container that is not configured any more costs its own entries, and says so") {
  Site site;
  const auto places = site.Places();
  {
    Client client = site.Connected();
    absl::Status made = client.Transact([&](Tx& tx) {
      for (const auto& place : places) tx.Set(site.RefAt(client, place), 1);
    });
    INFO(made);
    REQUIRE(made.ok());
  }
  site.Kill();
  site.Start("files");
  Client client = site.Connected(absl::Milliseconds(500));
  for (const auto& place : places) {
    if (place.first == "/.memory/m") continue;
    absl::StatusOr<int64_t> value = site.RefAt(client, place).Get();
    INFO(place.first << " " << value.status());
    if (place.second == "files") {
      CHECK(absl::IsFailedPrecondition(value.status()));
      CHECK(std::string(value.status().message())
                .find("container files is not in this daemon's configuration") != std::string::npos);
    } else {
      REQUIRE(value.ok());
      CHECK(*value == 1);
    }
  }
  CHECK(site.Stop() == 0);
  site.Start();
  Client again = site.Connected();
  for (const auto& place : places) {
    if (place.second != "files") continue;
    absl::StatusOr<int64_t> value = site.RefAt(again, place).Get();
    INFO(value.status());
    REQUIRE(value.ok());
    CHECK(*value == 1);
  }
}

TEST_CASE(
    "containers: over ZooKeeper daemons share what containers keep, and one that is killed leaves nothing "
    "behind") {
  if (const std::string why = zookeeper::WhyNoServers(); !why.empty()) FAIL(why);
  zookeeper::Ensemble ensemble((zookeeper::EnsembleOptions()));
  REQUIRE(ensemble.AwaitServing());
  Directory directory;
  Remote remote(directory / "remote");
  const auto options = [&] {
    StmdOptions options;
    options.flags = {"--coordinator=zk://" + ensemble.connect() + "/stmd",
                     "--create",
                     "--zookeeper-session-timeout=2s",
                     "--history-age=1s",
                     "--erase-after=1s",
                     "--container-timeout=1s",
                     "--container=files=file://" + directory / "files",
                     "--container=remote:r=" + remote.uri()};
    return options;
  };
  std::vector<std::unique_ptr<Stmd>> daemons;
  std::vector<Client> clients;
  for (int i = 0; i < 2; ++i) {
    daemons.push_back(std::make_unique<Stmd>(options()));
    ConnectOptions connect;
    connect.address = daemons.back()->AwaitAddress();
    INFO(daemons.back()->said());
    REQUIRE_FALSE(connect.address.empty());
    absl::StatusOr<Client> client = Connect(connect);
    INFO(client.status());
    REQUIRE(client.ok());
    clients.push_back(*client);
  }
  const std::vector<std::pair<std::string, std::string>> places = {
      {"/inline", ""}, {"/files", "files"}, {"/remote", "remote:r"}};
  const auto ref = [&](const Client& client, const std::pair<std::string, std::string>& place) {
    Definition definition;
    definition.container = place.second;
    return client.Ref<int64_t>(place.first, std::nullopt, definition);
  };
  absl::Status made = clients[0].Transact([&](Tx& tx) {
    for (const auto& place : places) tx.Set(ref(clients[0], place), 100);
  });
  INFO(made);
  REQUIRE(made.ok());
  // Both move at once; each move is over two places.
  std::vector<std::thread> threads;
  std::vector<absl::Status> ends(clients.size());
  for (size_t c = 0; c < clients.size(); ++c) {
    threads.emplace_back([&, c] {
      for (size_t i = 0; i < 15 && ends[c].ok(); ++i) {
        ends[c] = clients[c].Transact([&](Tx& tx) {
          tx.Alter(ref(clients[c], places[(i + c) % 3]), [](int64_t n) { return n - 1; });
          tx.Alter(ref(clients[c], places[(i + c + 1) % 3]), [](int64_t n) { return n + 1; });
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& end : ends) {
    INFO(end);
    CHECK(end.ok());
  }
  // Amid what this one does it is killed.
  std::vector<std::future<absl::Status>> under_way;
  for (size_t i = 0; i < 6; ++i) {
    under_way.push_back(clients[0].TransactAsync([&, i](Tx& tx) {
      tx.Alter(ref(clients[0], places[i % 3]), [](int64_t n) { return n - 1; });
      tx.Alter(ref(clients[0], places[(i + 1) % 3]), [](int64_t n) { return n + 1; });
    }));
  }
  daemons[0]->Signal(SIGKILL);
  REQUIRE(daemons[0]->AwaitExit().has_value());
  absl::StatusOr<int64_t> sum = clients[1].Transact([&](Tx& tx) {
    int64_t sum = 0;
    for (const auto& place : places) sum += tx.Get(ref(clients[1], place));
    return sum;
  });
  INFO(sum.status());
  REQUIRE(sum.ok());
  CHECK(*sum == 300);
  // What it had staged, and what was superseded, goes: one value of each ref is left.
  const auto values = [&](const std::string& place) {
    int64_t files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory / (place + "/refs"))) {
      files += entry.is_regular_file();
    }
    return files;
  };
  const bool erased = Eventually([&] { return values("files") == 1 && values("remote") == 1; });
  INFO("values in files: " << values("files") << ", remote: " << values("remote"));
  CHECK(erased);
  for (auto& one : under_way) (void)one.get();
}

TEST_CASE("containers: a URI that can't be ends the start, with what is wrong and no password") {
  StmdOptions options;
  options.flags = {"--ephemeral", "--container=mongo=mongodb://app:s3cret@127.0.0.1/app?w=1"};
  {
    Stmd stmd(options);
    CHECK(stmd.AwaitExit() == 2);
    CHECK(stmd.said().find("container mongo") != std::string::npos);
    CHECK(stmd.said().find("s3cret") == std::string::npos);
  }
  options.flags = {"--ephemeral", "--container=Mongo=mongodb://app:s3cret@127.0.0.1/app"};
  Stmd stmd(options);
  CHECK(stmd.AwaitExit() == 2);
  CHECK(stmd.said().find("--container") != std::string::npos);
  CHECK(stmd.said().find("s3cret") == std::string::npos);
}

}  // namespace
}  // namespace stm::e2e
