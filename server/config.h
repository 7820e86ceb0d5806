// Config is what the daemon is told: by flags, by the environment (STMD_DATA_DIR for --data-dir), by one TOML
// file, in this order of precedence. One table (config.cc) has every setting with its type, unit, bounds and
// help. What is not in the table is an error that names the nearest setting.
#ifndef STM_SERVER_CONFIG_H_
#define STM_SERVER_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backends/containers/registry.h"
#include "backends/containers/threaded.h"
#include "backends/zookeeper/session.h"
#include "engine/engine.h"
#include "server/options.h"

namespace stm::server {

inline constexpr char kVersion[] = "0.1.0";

struct LocalSettings {
  int64_t segment_bytes = 64 << 20;
  int64_t snapshot_bytes = 256 << 20;
  int64_t prefill_bytes = 1 << 20;
  int64_t ballast_bytes = 16 << 20;
  absl::Duration log_keep = absl::InfiniteDuration();  // infinite: all
  int64_t memory_log_bytes = 64 << 20;                 // of --ephemeral
};

// Of --coordinator zk://...
struct ZooKeeperSettings {
  std::string credentials_file;  // "": none
  std::string acl = "open";
  std::string advertise;  // "": the first that it listens on
  bool create = false;
  int64_t log_bytes = 256 << 20;
  std::string archive_dir;            // "": this daemon keeps no archive
  zookeeper::SessionOptions session;  // of all of these; its credentials are shown nowhere
};

// A commit's values stand twice in a packet of ZooKeeper's servers, which takes 1 MiB: in its log, and in
// their nodes.
inline constexpr int64_t kZooKeeperBytesMax = 192 << 10;
// A place in a batch is a byte of a version.
inline constexpr int64_t kZooKeeperBatchTransactionsMax = 256;
inline constexpr int64_t kZooKeeperBatchesInFlight = 4;

struct Config {
  std::vector<std::string> listen = {"127.0.0.1:7440"};  // host:port, or unix:/path
  std::string http = "127.0.0.1:7441";                   // "off": none
  std::string data_dir;
  bool ephemeral = false;
  std::string log_level = "info";
  int64_t threads = 4;
  engine::Options engine;
  ServerOptions server;
  LocalSettings local;
  std::string coordinator = "local";  // or zk://host:port,host:port/chroot
  ZooKeeperSettings zookeeper;
  std::vector<containers::ContainerSetting> containers;  // that values may be kept in; their URIs may hold passwords
  containers::ThreadedOptions container_threads;
  engine::LeaseOptions leases;
  engine::Canaries canaries;  // tests only
  engine::LeaseCanaries lease_canaries;
  bool canary_skip_sync = false;
};

// A setting in force, as --print-config and GetConfig show it: with no password.
struct EffectiveSetting {
  std::string name;
  std::string value;
  std::string origin;  // "flag", "environment", "file" or "default"
};

struct Loaded {
  enum class Action : uint8_t { kServe, kCheckConfig, kPrintConfig, kVersion, kHelp };
  Action action = Action::kServe;
  Config config;
  std::vector<EffectiveSetting> settings;  // in the table's order
  std::vector<std::string> warnings;
  std::string help;  // of kHelp
};

// `arguments` without the program's name; `environment` as NAME=value. INVALID_ARGUMENT says which setting,
// where it came from, what was found and what is allowed; NOT_FOUND: the file given by --config.
absl::StatusOr<Loaded> LoadConfig(const std::vector<std::string>& arguments,
                                  const std::vector<std::string>& environment);

// name = "value"  # origin, a line a setting: a file that --config takes.
std::string PrintConfig(const std::vector<EffectiveSetting>& settings);

// Every bound in force, by the name that errors give it.
std::vector<std::pair<std::string, int64_t>> LimitsOf(const Config& config);

// Are the commits ordered by ZooKeeper, for many daemons?
bool OverZooKeeper(const Config& config);

// What both sides set gRPC's message limits to: twice a transaction and 1 MiB.
int64_t MessageBytesMax(const Config& config);

// "1048576", "256MiB"; "60s", "10m". INVALID_ARGUMENT says what is allowed.
absl::StatusOr<int64_t> ParseBytes(std::string_view text);
std::string PrintBytes(int64_t bytes);

// "localhost:7440", "[::1]:0". Nullopt: not host:port.
struct Address {
  std::string host;          // without brackets
  std::string written_host;  // with them, where it has them
  int port = 0;              // 0: any free one
};
std::optional<Address> ParseAddress(const std::string& text);

// The name of `names` that `name` was most likely meant to be; "": none is near.
std::string Nearest(std::string_view name, const std::vector<std::string>& names);

}  // namespace stm::server

#endif  // STM_SERVER_CONFIG_H_
