#include "server/config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "catch2/catch.hpp"

namespace stm::server {
namespace {

using Catch::Matchers::Contains;

// A TOML file that goes with the test.
class File {
 public:
  explicit File(const std::string& text) {
    char name[] = "/tmp/stmd_config_XXXXXX";
    const int descriptor = mkstemp(name);
    REQUIRE(descriptor >= 0);
    close(descriptor);
    path_ = name;
    std::ofstream(path_) << text;
  }
  ~File() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string Failure(const std::vector<std::string>& arguments,
                    const std::vector<std::string>& environment = {}) {
  const auto loaded = LoadConfig(arguments, environment);
  REQUIRE_FALSE(loaded.ok());
  return std::string(loaded.status().message());
}

const EffectiveSetting& Setting(const Loaded& loaded, const std::string& name) {
  for (const EffectiveSetting& setting : loaded.settings) {
    if (setting.name == name) return setting;
  }
  FAIL("no setting " << name);
  return loaded.settings[0];
}

TEST_CASE("config: a flag goes before the environment, that before the file, that before the default") {
  const File file("value-bytes-max = \"64KiB\"\nhistory-bytes = \"128MiB\"\nfresh-bytes-max = 1024\n");
  const auto loaded = LoadConfig({"--ephemeral", "--config", file.path(), "--value-bytes-max=16KiB"},
                                 {"STMD_VALUE_BYTES_MAX=32KiB", "STMD_HISTORY_BYTES=1GiB", "PATH=/bin"});
  REQUIRE(loaded.ok());
  CHECK(loaded->config.engine.value_bytes_max == 16 << 10);
  CHECK(loaded->config.engine.history_bytes_max == 1 << 30);
  CHECK(loaded->config.engine.fresh_bytes_max == 1024);
  CHECK(loaded->config.engine.sleepers_max == engine::Options().sleepers_max);
  CHECK(Setting(*loaded, "value-bytes-max").origin == "flag");
  CHECK(Setting(*loaded, "history-bytes").origin == "environment");
  CHECK(Setting(*loaded, "fresh-bytes-max").origin == "file");
  CHECK(Setting(*loaded, "sleepers-max").origin == "default");
  CHECK(loaded->warnings.empty());
}

TEST_CASE("config: an unknown flag is an error that names the nearest") {
  CHECK_THAT(Failure({"--ephemeral", "--histroy-bytes=1"}),
             Contains("--histroy-bytes") && Contains("--history-bytes"));
  CHECK_THAT(Failure({"--data-di", "x"}), Contains("--data-dir"));
  CHECK_THAT(Failure({"--ephemeral", "serve"}), Contains("unexpected argument serve"));
}

TEST_CASE("config: an unknown key of the file is an error with file, line and the nearest") {
  const File file("# settings\ndata_dir = \"/var/lib/stmd\"\n");
  CHECK_THAT(Failure({"--config=" + file.path()}),
             Contains(file.path() + ":2") && Contains("data_dir") && Contains("did you mean data-dir?"));
  const File table("[engine]\nx = 1\n");
  CHECK_THAT(Failure({"--config=" + table.path()}), Contains("unknown setting engine"));
  const File broken("listen = \n");
  CHECK_THAT(Failure({"--config=" + broken.path()}), Contains(broken.path() + ":"));
  CHECK_THAT(Failure({"--config=/nowhere/stmd.toml"}), Contains("/nowhere/stmd.toml"));
  CHECK_THAT(Failure({"--config=/"}), Contains("--config: /: can't be read"));
  for (const char* table :
       {"[=]\n", " [[ \x1c", "ephemeral = true\n[.", "[\n", "[", "[ ]", "[ \rx]", "listen = [}0"}) {
    const File nameless(table);
    CHECK_THAT(Failure({"--config=" + nameless.path()}), Contains(nameless.path() + ":"));
  }
  const File deep("listen = " + std::string(100000, '['));
  CHECK_THAT(Failure({"--config=" + deep.path()}), Contains(deep.path() + ":1") && Contains("more than 100"));
  const File large("# " + std::string(2 << 20, 'x'));
  CHECK_THAT(Failure({"--config=" + large.path()}), Contains(large.path()) && Contains("at most 1048576"));
  const File latin("ephemeral = true\n# \xe9\n");
  CHECK_THAT(Failure({"--config=" + latin.path()}), Contains(latin.path() + ":2") && Contains("UTF-8"));
  for (const char* wide :
       {"\xc3\xa9phemeral = true\n", "log-level = {\xc3\xa9 = 1}\n", "x = \"\\\"\" \xc3\xa9"}) {
    const File named(wide);
    CHECK_THAT(Failure({"--config=" + named.path()}), Contains(named.path() + ":1"));
  }
  const File quoted("data-dir = \"/\xc3\xa9\"  # \xc3\xa9\n");
  CHECK(LoadConfig({"--config=" + quoted.path()}, {}).ok());
  const File empty("");
  CHECK(LoadConfig({"--ephemeral", "--config=" + empty.path()}, {}).ok());
}

TEST_CASE("config: an unknown variable of the environment is a warning that names the nearest") {
  const auto loaded = LoadConfig({"--ephemeral"}, {"STMD_LISTN=x", "STMD_SERVICE_HOST=10.0.0.1"});
  REQUIRE(loaded.ok());
  REQUIRE(loaded->warnings.size() == 2);
  CHECK_THAT(loaded->warnings[0], Contains("STMD_LISTN") && Contains("STMD_LISTEN"));
}

TEST_CASE("config: a bad value says where it came from, what was found and what is allowed") {
  CHECK_THAT(Failure({"--ephemeral", "--value-bytes-max=12"}),
             Contains("--value-bytes-max") && Contains("12") && Contains("1KiB to 64MiB"));
  CHECK_THAT(Failure({"--ephemeral"}, {"STMD_HISTORY_AGE=1 parsec"}),
             Contains("STMD_HISTORY_AGE") && Contains("60s"));
  CHECK_THAT(Failure({"--ephemeral", "--log-level=loud"}), Contains("loud") && Contains("warn"));
  CHECK_THAT(Failure({"--ephemeral", "--batch-transactions-max=many"}), Contains("whole number"));
  const File file("transaction-bytes-max = \"2KiB\"\nephemeral = true\n");
  CHECK_THAT(Failure({"--config", file.path()}),
             Contains("value-bytes-max") && Contains("transaction-bytes-max"));
  CHECK_THAT(Failure({"--ephemeral", "--http=a", "--http=b"}), Contains("http"));
  CHECK_THAT(Failure({"--ephemeral", "--listen=127.0.0.1:7440,127.0.0.1"}),
             Contains("host:port") && Contains("unix:"));
  CHECK_THAT(Failure({"--ephemeral", "--listen=unix:"}), Contains("unix:/path"));
  CHECK_THAT(Failure({"--ephemeral", "--http=on"}), Contains("found on") && Contains("or off"));
  // What could not be printed as a file that loads again.
  CHECK_THAT(Failure({"--ephemeral"}, {"STMD_LISTEN=127.0.0.1:\xd3\xf5"}),
             Contains("STMD_LISTEN") && Contains("UTF-8"));
  CHECK_THAT(Failure({"--data-dir=/x\n/y"}), Contains("data-dir") && Contains("control"));
}

TEST_CASE("config: containers come by flags, the environment or the file, and a URI keeps its commas") {
  const std::string mongo = "mongo=mongodb://app:secret@db1:27017,db2:27017/app?replicaSet=rs0&w=majority";
  const auto check = [](const absl::StatusOr<Loaded>& loaded) {
    REQUIRE(loaded.ok());
    REQUIRE(loaded->config.containers.size() == 2);
    CHECK(loaded->config.containers[0].name == "mongo");
    CHECK(loaded->config.containers[0].uri ==
          "mongodb://app:secret@db1:27017,db2:27017/app?replicaSet=rs0&w=majority");
    CHECK(loaded->config.containers[1].name == "remote:orders");
    CHECK(loaded->config.containers[1].uri == "grpc://127.0.0.1:7450");
  };
  const std::string remote = "remote:orders=grpc://127.0.0.1:7450";
  check(LoadConfig({"--ephemeral", "--container=" + mongo, "--container", remote}, {}));
  check(LoadConfig({"--ephemeral", "--container=" + mongo + "," + remote}, {}));
  check(LoadConfig({"--ephemeral"}, {"STMD_CONTAINER=" + mongo + "," + remote}));
  const File file("ephemeral = true\ncontainer = [\"" + mongo + "\", \"" + remote + "\"]\n");
  check(LoadConfig({"--config", file.path()}, {}));
  CHECK(LoadConfig({"--ephemeral"}, {})->config.containers.empty());
}

TEST_CASE("config: a container's password is shown nowhere, and what is shown for it is none") {
  const auto loaded =
      LoadConfig({"--ephemeral", "--container=mongo=mongodb://app:s3cret@db/app", "--container=files=file:///x"}, {});
  REQUIRE(loaded.ok());
  CHECK(Setting(*loaded, "container").value == "mongo=mongodb://app:***@db/app,files=file:///x");
  const std::string printed = PrintConfig(loaded->settings);
  CHECK_THAT(printed, Contains("mongodb://app:***@db/app") && !Contains("s3cret"));
  const File file(printed);
  CHECK_THAT(Failure({"--config", file.path()}), Contains("mongo") && Contains("give the password"));
  // Nor in what is said of a bad one.
  for (const char* bad : {"mongodb://app:s3cret@db/app", "Mongo=mongodb://app:s3cret@db/app",
                          "remote:a=mongodb://app:s3cret@db/app", "inline=mongodb://app:s3cret@db/app"}) {
    CAPTURE(bad);
    CHECK_THAT(Failure({"--ephemeral", std::string("--container=") + bad}),
               Contains("--container") && !Contains("s3cret"));
  }
}

TEST_CASE("config: a container that can't be is an error that says what one is") {
  CHECK_THAT(Failure({"--ephemeral", "--container=mongo"}), Contains("NAME=URI"));
  CHECK_THAT(Failure({"--ephemeral"}, {"STMD_CONTAINER="}), Contains("NAME=URI"));
  CHECK_THAT(Failure({"--ephemeral", "--container=a=file:///x", "--container=a=file:///y"}), Contains("twice"));
  CHECK_THAT(Failure({"--ephemeral", "--container=offered:a=grpc://h:1"}), Contains("OfferService"));
  CHECK_THAT(Failure({"--ephemeral", "--container-timeout=0ms"}), Contains("1ms to 10m"));
  CHECK_THAT(Failure({"--ephemeral", "--container-timeout=11m"}), Contains("1ms to 10m"));
  CHECK_THAT(Failure({"--ephemeral", "--erase-after=10ms"}), Contains("at least 1s"));
  CHECK_THAT(Failure({"--ephemeral", "--container-threads-max=0"}), Contains("1 to 4096"));
  const auto loaded = LoadConfig({"--ephemeral", "--container-timeout=2s", "--container-transactions-max=7",
                                  "--container-cache-bytes=1MiB", "--container-threads-max=3",
                                  "--container-queue-max=5", "--erase-after=4s"},
                                 {});
  REQUIRE(loaded.ok());
  CHECK(loaded->config.engine.container_timeout == absl::Seconds(2));
  CHECK(loaded->config.engine.erase_after == absl::Seconds(4));
  std::map<std::string, int64_t> limits;
  for (const auto& [name, value] : LimitsOf(loaded->config)) limits[name] = value;
  // By the names that errors give them.
  CHECK(limits["container_transactions_max"] == 7);
  CHECK(limits["container_cache_bytes_max"] == 1 << 20);
  CHECK(limits["container_threads_max"] == 3);
  CHECK(limits["container_queue_max"] == 5);
}

TEST_CASE("config: a durable daemon is told where its log goes, an ephemeral one keeps none") {
  CHECK_THAT(Failure({}), Contains("--data-dir") && Contains("--ephemeral"));
  CHECK_THAT(Failure({"--ephemeral", "--data-dir=/x"}), Contains("not both"));
  const auto durable = LoadConfig({"--data-dir=/x"}, {});
  REQUIRE(durable.ok());
  CHECK(durable->config.listen == std::vector<std::string>{"127.0.0.1:7440"});
  CHECK(durable->config.http == "127.0.0.1:7441");
  const auto ephemeral = LoadConfig({"--ephemeral"}, {});
  REQUIRE(ephemeral.ok());
  CHECK(ephemeral->config.listen == std::vector<std::string>{"127.0.0.1:0"});
  CHECK(ephemeral->config.http == "off");
}

// A store in ZooKeeper, and what else is given.
std::vector<std::string> Over(std::vector<std::string> more) {
  more.push_back("--coordinator=zk://a:2181,b:2181/app");
  return more;
}

TEST_CASE("config: over ZooKeeper nothing is kept in a directory, and a packet bounds a commit") {
  const auto loaded = LoadConfig(Over({}), {});
  REQUIRE(loaded.ok());
  const Config& config = loaded->config;
  CHECK(OverZooKeeper(config));
  CHECK(config.zookeeper.session.connect.servers == "a:2181,b:2181");
  CHECK(config.zookeeper.session.connect.chroot == "/app");
  CHECK(config.engine.value_bytes_max == kZooKeeperBytesMax);
  CHECK(config.engine.transaction_bytes_max == kZooKeeperBytesMax);
  CHECK(config.engine.batch_bytes_max == kZooKeeperBytesMax);
  CHECK(config.engine.batch_transactions_max == 256);
  CHECK(config.engine.batches_in_flight_max == kZooKeeperBatchesInFlight);
  CHECK(Setting(*loaded, "transaction-bytes-max").value == "192KiB");
  CHECK(LoadConfig(Over({"--transaction-bytes-max=64KiB", "--value-bytes-max=64KiB"}), {})
            ->config.engine.transaction_bytes_max == 64 << 10);

  CHECK_THAT(Failure(Over({"--transaction-bytes-max=193KiB"})),
             Contains("transaction-bytes-max") && Contains("193KiB") && Contains("192KiB"));
  CHECK_THAT(Failure(Over({"--value-bytes-max=1MiB"})), Contains("value-bytes-max"));
  CHECK_THAT(Failure(Over({"--batch-bytes-max=1MiB"})), Contains("batch-bytes-max"));
  CHECK_THAT(Failure(Over({"--batch-transactions-max=257"})), Contains("batch-transactions-max"));
  CHECK_THAT(Failure(Over({"--data-dir=/x"})), Contains("not both"));
  CHECK_THAT(Failure(Over({"--ephemeral"})), Contains("not both"));
  CHECK_THAT(Failure({"--coordinator=zk://a/app"}), Contains("coordinator") && Contains("port"));
  CHECK_THAT(Failure({"--coordinator=etcd://a"}), Contains("zk://"));
  CHECK_THAT(Failure({"--ephemeral", "--create"}), Contains("create") && Contains("zk://"));
  CHECK(LoadConfig(Over({"--archive-dir=/x"}), {})->config.zookeeper.archive_dir == "/x");
  CHECK_THAT(Failure({"--data-dir=/x", "--archive-dir=/y"}), Contains("archive-dir") && Contains("zk://"));
  CHECK_THAT(Failure(Over({"--zookeeper-acl=me"})), Contains("open or creator"));
  CHECK_THAT(Failure(Over({"--zookeeper-acl=creator"})), Contains("--zookeeper-credentials-file"));
}

TEST_CASE("config: credentials are read from a file, and are shown nowhere") {
  const File file("stmd:s3cret\n");
  const std::string flag = "--zookeeper-credentials-file=" + file.path();
  const auto loaded = LoadConfig(Over({flag, "--zookeeper-acl=creator"}), {});
  REQUIRE(loaded.ok());
  CHECK(loaded->config.zookeeper.session.credentials == "stmd:s3cret");
  CHECK(loaded->config.zookeeper.session.acl == zookeeper::SessionOptions::Acl::kCreator);
  CHECK_THAT(PrintConfig(loaded->settings), !Contains("s3cret") && Contains(file.path()));
  CHECK(loaded->warnings.empty());
  REQUIRE(chmod(file.path().c_str(), 0644) == 0);
  const auto open = LoadConfig(Over({flag}), {});
  REQUIRE(open->warnings.size() == 1);
  CHECK_THAT(open->warnings[0], Contains("chmod 600"));

  const auto fails_with = [](const std::string& text) {
    const File bad(text);
    return Failure(Over({"--zookeeper-credentials-file=" + bad.path()}));
  };
  for (const char* text : {"", "s3cret", ":s3cret", "stmd:", "stmd:s3cret\nstmd:s3cret"}) {
    CHECK_THAT(fails_with(text),
               Contains("zookeeper-credentials-file") && Contains("user:password") && !Contains("s3cret"));
  }
  CHECK_THAT(fails_with(std::string(2000, 'x')), Contains("1024"));
  CHECK_THAT(Failure(Over({"--zookeeper-credentials-file=/no/such"})),
             Contains("/no/such") && Contains("No such file"));
  CHECK_THAT(Failure(Over({"--zookeeper-credentials-file=/"})), Contains("no file"));
}

TEST_CASE("config: who listens everywhere is told that others need its address") {
  CHECK(LoadConfig(Over({}), {})->warnings.empty());
  const auto loaded = LoadConfig(Over({"--listen=0.0.0.0:7440"}), {});
  REQUIRE(loaded->warnings.size() == 1);
  CHECK_THAT(loaded->warnings[0], Contains("--advertise"));
  CHECK(LoadConfig(Over({"--listen=0.0.0.0:7440", "--advertise=here:7440"}), {})->warnings.empty());
}

TEST_CASE("config: listen takes several addresses, by flags, commas or an array") {
  const std::vector<std::string> both = {"127.0.0.1:7440", "unix:/run/stmd.sock"};
  const auto flags = LoadConfig({"--ephemeral", "--listen=" + both[0], "--listen", both[1]}, {});
  REQUIRE(flags.ok());
  CHECK(flags->config.listen == both);
  const auto commas = LoadConfig({"--ephemeral"}, {"STMD_LISTEN=" + both[0] + "," + both[1]});
  REQUIRE(commas.ok());
  CHECK(commas->config.listen == both);
  const File file("listen = [\"" + both[0] + "\", \"" + both[1] + "\"]\n");
  const auto array = LoadConfig({"--ephemeral", "--config", file.path()}, {});
  REQUIRE(array.ok());
  CHECK(array->config.listen == both);
}

TEST_CASE("config: what is printed is a file that loads as the same") {
  const auto loaded = LoadConfig({"--data-dir=/srv/st\"md", "--history-bytes=3KiB00", "--print-config"}, {});
  CHECK_FALSE(loaded.ok());
  const auto good = LoadConfig({"--data-dir=/srv/st\"md", "--history-bytes=300KiB", "--log-keep=720h",
                                "--listen=127.0.0.1:1", "--listen=unix:/a", "--print-config"},
                               {});
  REQUIRE(good.ok());
  CHECK(good->action == Loaded::Action::kPrintConfig);
  const std::string text = PrintConfig(good->settings);
  CHECK_THAT(text, Contains("history-bytes = \"300KiB\"") && Contains("# flag") && Contains("# default"));
  const File file(text);
  const auto again = LoadConfig({"--config", file.path()}, {});
  REQUIRE(again.ok());
  for (const EffectiveSetting& setting : good->settings)
    CHECK(Setting(*again, setting.name).value == setting.value);
}

TEST_CASE("config: every bound is told by the name that errors give it") {
  const auto loaded = LoadConfig({"--ephemeral", "--id-table-bytes=1MiB"}, {});
  REQUIRE(loaded.ok());
  std::map<std::string, int64_t> limits;
  for (const auto& [name, value] : LimitsOf(loaded->config)) CHECK(limits.emplace(name, value).second);
  CHECK(limits.at("id_table_bytes_max") == 1 << 20);
  CHECK(limits.at("value_bytes_max") == 1 << 20);
  CHECK(limits.at("transaction_entries_max") == 10000);
  CHECK(limits.at("pipeline_calls_max") == 1024);
  CHECK(limits.at("watch_unread_events_max") == 1024);
  CHECK(limits.at("message_bytes_max") == (16 << 20) + (1 << 20));
}

TEST_CASE("config: planted bugs need the environment's leave") {
  CHECK_THAT(Failure({"--ephemeral", "--test-canary=forget_ids"}), Contains("STMD_TEST_CANARIES=1"));
  CHECK_THAT(Failure({"--ephemeral", "--test-canary=forget_idz"}, {"STMD_TEST_CANARIES=1"}),
             Contains("forget_ids"));
  const auto loaded = LoadConfig({"--ephemeral", "--test-canary=forget_ids", "--test-canary=skip_sync"},
                                 {"STMD_TEST_CANARIES=1"});
  REQUIRE(loaded.ok());
  CHECK(loaded->config.canaries.forget_ids);
  CHECK(loaded->config.canary_skip_sync);
  CHECK_FALSE(loaded->config.canaries.skip_read_check);
  const auto help = LoadConfig({"--help"}, {});
  REQUIRE(help.ok());
  CHECK_THAT(help->help, Contains("--data-dir") && !Contains("canary"));
}

TEST_CASE("config: bytes and nearest names") {
  CHECK(*ParseBytes("0") == 0);
  CHECK(*ParseBytes("64KiB") == 65536);
  CHECK(*ParseBytes("8191TiB") == 8191LL << 40);
  for (const char* bad :
       {"", "KiB", "1KB", "-1", "1.5MiB", "9223372036854775807KiB", "99999999999999999999"}) {
    CHECK_FALSE(ParseBytes(bad).ok());
  }
  CHECK(PrintBytes(0) == "0");
  CHECK(PrintBytes(1536) == "1536");
  CHECK(PrintBytes(1 << 20) == "1MiB");
  CHECK(Nearest("lisetn", {"http", "listen"}) == "listen");
  CHECK(Nearest("history", {"log-keep", "history-bytes"}) == "history-bytes");
  CHECK(Nearest("zzzzzzzz", {"http", "listen"}).empty());
}

}  // namespace
}  // namespace stm::server
