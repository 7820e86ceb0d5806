// Node is one running daemon as its services see it: the engine and what is around it. Made by Daemon,
// outlives every call. Its pointers do not change; its atomics are any thread's.
#ifndef STM_SERVER_NODE_H_
#define STM_SERVER_NODE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/coordinator.h"
#include "engine/engine.h"
#include "engine/locks/calls.h"
#include "engine/locks/leases.h"
#include "engine/loop.h"
#include "server/config.h"
#include "server/convert.h"
#include "server/metrics.h"

namespace stm::containers {
class ThreadedContainers;
}
namespace stm::engine {
class Settler;
}
namespace stm::zookeeper {
class ZooKeeperCoordinator;
}

namespace stm::server {

class Connections;

struct Node {
  engine::Loop* loop = nullptr;
  engine::Executor* executor = nullptr;
  engine::Engine* engine = nullptr;
  engine::LockCalls* locks = nullptr;  // on the Loop
  engine::Leases* leases = nullptr;    // on the Loop
  containers::ThreadedContainers* containers = nullptr;  // on the Loop
  engine::Settler* settler = nullptr;                    // on the Loop
  // Of containers that clients offer, by "offered:NAME": ends the stream. On the Loop.
  std::map<std::string, std::function<void()>> offers;
  engine::LogReader* log = nullptr;
  // Of a daemon that keeps its log; else null, and `cluster` is not.
  engine::Archive* archive = nullptr;
  zookeeper::ZooKeeperCoordinator* cluster = nullptr;  // on the Loop
  Connections* connections = nullptr;                  // the listener's
  Config config;
  std::vector<EffectiveSetting> settings;
  Metrics metrics;
  // Refuses new commits, finishes those under way, then calls back, on any thread; the daemon stops
  // afterwards.
  std::function<void(absl::Duration grace, std::function<void()> drained)> drain;

  std::atomic<uint64_t> store{0};
  std::atomic<uint64_t> writer{0};
  // About the newest version installed: for the header of errors that come from no call of the engine.
  std::atomic<engine::Version> installed{0};
  std::atomic<int64_t> log_readers{0};
  std::atomic<int64_t> backups{0};
  std::atomic<bool> draining{false};
  std::atomic<bool> serving{false};

  // On the Loop.
  engine::Status GetStatus() const;
  // On the Loop. By their names.
  std::vector<ContainerState> Containers() const;
  // Off the Loop: it takes a look at the log. 0: there is nothing in it, or nobody knows now.
  engine::Version LogMark() const { return log->FirstVersion(); }

  Identity identity() const {
    return Identity{store.load(std::memory_order_relaxed), writer.load(std::memory_order_relaxed)};
  }
  void Saw(engine::Version version) {
    if (version > installed.load(std::memory_order_relaxed))
      installed.store(version, std::memory_order_relaxed);
  }
};

}  // namespace stm::server

#endif  // STM_SERVER_NODE_H_
