// Metrics counts calls and times them in a few relaxed atomics a method, and prints everything in Prometheus'
// text form when asked. Counting takes no lock and looks nothing up. Any thread.
#ifndef STM_SERVER_METRICS_H_
#define STM_SERVER_METRICS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backends/containers/threaded.h"
#include "backends/zookeeper/archive.h"
#include "engine/engine.h"
#include "engine/settler.h"

namespace stm::server {

enum class Method : uint8_t {
  kGetRefs,
  kListRefs,
  kGetHistory,
  kApplyAtom,
  kCommit,
  kAwaitChange,
  kGetOutcome,
  kPipeline,  // streams; their calls are the four below
  kPipelinedGet,
  kPipelinedList,
  kPipelinedCommit,
  kPipelinedAwait,
  kWatch,
  kReadLog,
  kGetStatus,
  kGetConfig,
  kGetCluster,
  kBackup,
  kRestore,
  kListContainers,
  kOfferContainer,
  kDrain,
  kAcquireLock,
  kReleaseLock,
  kGetLock,
  kListLocks,
  kBreakLock,
  kAwaitCondition,
  kSignalCondition,
  kOpenSession,
  kKeepAlive,
  kCloseSession,
  kExpireSession,
  kListSessions,
};
inline constexpr size_t kMethods = static_cast<size_t>(Method::kListSessions) + 1;

// Times in buckets of powers of two microseconds: 16 us to 16.8 s, and above.
class Histogram {
 public:
  static constexpr int kFirst = 4;
  static constexpr int kBuckets = 21;

  void Observe(absl::Duration time) {
    const int64_t ns = absl::ToInt64Nanoseconds(time);
    const uint64_t us = ns < 0 ? 0 : static_cast<uint64_t>(ns) / 1000;
    const int width = us == 0 ? 0 : 64 - __builtin_clzll(us);  // us < 2^width
    int bucket = width - kFirst;
    if (bucket < 0) bucket = 0;
    if (bucket > kBuckets) bucket = kBuckets;
    counts_[bucket].fetch_add(1, std::memory_order_relaxed);
    total_us_.fetch_add(us, std::memory_order_relaxed);
  }
  uint64_t count(int bucket) const { return counts_[bucket].load(std::memory_order_relaxed); }
  uint64_t total_us() const { return total_us_.load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, kBuckets + 1> counts_{};
  std::atomic<uint64_t> total_us_{0};
};

struct OverZooKeeperStats {
  int64_t holes = 0;  // servers that were left for a batch that they had lost
  std::optional<zookeeper::ArchiveStats> archive;
};

struct LockStats {
  int64_t sessions = 0;          // open in the store
  int64_t sessions_expired = 0;  // ended here because nothing was heard of their clients
  int64_t calls_waiting = 0;     // for a lock or a signal, here
};

// A container as operators see it: one of the configuration, one that a client offers, or one that is neither but in
// which something is left to be done.
struct ContainerState {
  containers::ContainerStats stats;
  engine::Settler::Left left;
  int64_t transactions = 0;  // that wait for it
  std::string uri;           // without its password; "": it has none
};

class Metrics {
 public:
  void Called(Method method, absl::StatusCode code, absl::Duration time) {
    PerMethod& of = methods_[static_cast<size_t>(method)];
    const size_t index = static_cast<size_t>(code);
    of.by_code[index < of.by_code.size() ? index : 2].fetch_add(1, std::memory_order_relaxed);
    of.times.Observe(time);
  }
  void Opened(Method stream) {
    methods_[static_cast<size_t>(stream)].open.fetch_add(1, std::memory_order_relaxed);
  }
  void Closed(Method stream) {
    methods_[static_cast<size_t>(stream)].open.fetch_sub(1, std::memory_order_relaxed);
  }
  void Synced(absl::Duration time) { syncs_.Observe(time); }
  void CutPipeline() { pipelines_cut_.fetch_add(1, std::memory_order_relaxed); }

  // Prometheus' text form, of these and of the engine's own.
  // `over`: of a daemon over ZooKeeper; nullopt: it is none.
  std::string Print(const engine::Status& engine, const LockStats& locks, engine::Version log_mark,
                    const std::optional<OverZooKeeperStats>& over,
                    const std::vector<ContainerState>& containers) const;

 private:
  // On cache lines of its own: two threads that count different methods do not wait for each other.
  struct alignas(64) PerMethod {
    std::array<std::atomic<uint64_t>, 17> by_code{};
    std::atomic<int64_t> open{0};
    Histogram times;
  };
  std::array<PerMethod, kMethods> methods_;
  Histogram syncs_;
  std::atomic<uint64_t> pipelines_cut_{0};
};

}  // namespace stm::server

#endif  // STM_SERVER_METRICS_H_
