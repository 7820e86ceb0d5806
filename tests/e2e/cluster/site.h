// Site is three stmd over three servers of ZooKeeper, each on a host of its own where this machine allows
// that, else all on loopback; there nothing can be cut. A daemon that is started again has the address it
// had. Daemons count from 0, servers from 1 as their Ensemble does. The thread that makes it starts and kills
// all.
#ifndef STM_TESTS_E2E_CLUSTER_SITE_H_
#define STM_TESTS_E2E_CLUSTER_SITE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/e2e/cluster/network.h"
#include "tests/e2e/faults/process.h"
#include "tests/zookeeper/ensemble.h"

namespace stm::e2e {

inline constexpr int kDaemons = 3;
inline constexpr int kServers = 3;
// A session that ends while a test looks on.
inline constexpr int64_t kSessionTimeoutMs = 2000;

class Site {
 public:
  Site();

  // Waits until all serve. False: they don't; see said().
  [[nodiscard]] bool Start();

  bool has_network() const { return network_ != nullptr; }
  Network& network() { return *network_; }
  static int HostOfServer(int server) { return server; }
  static int HostOfDaemon(int daemon) { return kServers + 1 + daemon; }

  zookeeper::Ensemble& ensemble() { return *ensemble_; }
  std::string store() const;
  const std::vector<std::string>& addresses() const { return addresses_; }

  void StartDaemon(int daemon);
  void KillDaemon(int daemon);
  void FreezeDaemon(int daemon);
  void ThawDaemon(int daemon);
  // Neither killed nor frozen here.
  bool Running(int daemon) const;
  // Those that ended though nobody killed them: what they said.
  std::string EndedByThemselves();
  // How often a text stands in what all daemons said, those that are gone too.
  int64_t CountSaid(const std::string& text);
  std::string said();

 private:
  struct Daemon {
    std::unique_ptr<Stmd> process;  // null: it was killed
    bool frozen = false;
    std::string said_before;
  };

  std::unique_ptr<Network> network_;  // null: this machine allows none
  std::unique_ptr<zookeeper::Ensemble> ensemble_;
  std::vector<Daemon> daemons_;
  std::vector<std::string> addresses_;
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_CLUSTER_SITE_H_
