#include "server/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <limits>
#include <utility>
#include <vector>

#include "server/config.h"

namespace stm::server {
namespace {

// In the order of Method.
constexpr const char* kMethodNames[kMethods] = {
    "GetRefs",         "ListRefs",       "GetHistory", "ApplyAtom",    "Commit",
    "AwaitChange",     "GetOutcome",     "Pipeline",   "Pipeline.get", "Pipeline.list",
    "Pipeline.commit", "Pipeline.await", "Watch",      "ReadLog",      "GetStatus",
    "GetConfig",       "GetCluster",     "Backup",     "Restore",      "ListContainers",
    "OfferContainer",  "Drain",
    "AcquireLock",     "ReleaseLock",    "GetLock",    "ListLocks",    "BreakLock",
    "AwaitCondition",  "SignalCondition", "OpenSession", "KeepAlive",   "CloseSession",
    "ExpireSession",   "ListSessions"};

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Family(std::string name, std::string help, MetricType type) {
  MetricFamily family;
  family.name = std::move(name);
  family.help = std::move(help);
  family.type = type;
  return family;
}

MetricFamily Counter(std::string name, std::string help, int64_t value) {
  MetricFamily family = Family(std::move(name), std::move(help), MetricType::Counter);
  family.metric.emplace_back().counter.value = static_cast<double>(value);
  return family;
}

MetricFamily Gauge(std::string name, std::string help, int64_t value) {
  MetricFamily family = Family(std::move(name), std::move(help), MetricType::Gauge);
  family.metric.emplace_back().gauge.value = static_cast<double>(value);
  return family;
}

void Fill(const Histogram& histogram, ClientMetric* metric) {
  uint64_t below = 0;
  for (int i = 0; i < Histogram::kBuckets; ++i) {
    below += histogram.count(i);
    metric->histogram.bucket.push_back(
        {below, static_cast<double>(uint64_t{1} << (i + Histogram::kFirst)) / 1e6});
  }
  below += histogram.count(Histogram::kBuckets);
  metric->histogram.bucket.push_back({below, std::numeric_limits<double>::infinity()});
  metric->histogram.sample_count = below;
  metric->histogram.sample_sum = static_cast<double>(histogram.total_us()) / 1e6;
}

// One family of a number that each container has.
template <typename Number>
MetricFamily OfContainers(std::string name, std::string help, MetricType type,
                          const std::vector<ContainerState>& containers, Number number) {
  MetricFamily family = Family(std::move(name), std::move(help), type);
  for (const ContainerState& container : containers) {
    ClientMetric& metric = family.metric.emplace_back();
    metric.label = {{"container", container.stats.name}};
    const double value = static_cast<double>(number(container));
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  return family;
}

void AddContainers(const std::vector<ContainerState>& containers, const engine::Status& engine,
                   std::vector<MetricFamily>* families) {
  const auto add = [&](std::string name, std::string help, MetricType type, auto number) {
    families->push_back(OfContainers(std::move(name), std::move(help), type, containers, number));
  };
  using State = ContainerState;
  add("stmd_container_healthy", "1: the last call to the container that ended succeeded.", MetricType::Gauge,
      [](const State& c) { return c.stats.healthy ? 1 : 0; });
  add("stmd_container_calls_total", "Calls to the container that were answered or given up.", MetricType::Counter,
      [](const State& c) { return c.stats.calls; });
  add("stmd_container_calls_failed_total", "Of these, those that failed.", MetricType::Counter,
      [](const State& c) { return c.stats.calls_failed; });
  add("stmd_container_seconds_total", "Time of the calls that came back.", MetricType::Counter,
      [](const State& c) { return absl::ToDoubleSeconds(c.stats.calls_time); });
  add("stmd_container_seconds_p50", "Median time of the last 256 calls that came back.", MetricType::Gauge,
      [](const State& c) { return absl::ToDoubleSeconds(c.stats.latency_p50); });
  add("stmd_container_calls_under_way", "Calls in the container now.", MetricType::Gauge,
      [](const State& c) { return c.stats.calls_under_way; });
  add("stmd_container_calls_hanging", "Of these, those that were given up.", MetricType::Gauge,
      [](const State& c) { return c.stats.calls_hanging; });
  add("stmd_container_calls_queued", "Calls that wait for a thread.", MetricType::Gauge,
      [](const State& c) { return c.stats.calls_queued; });
  add("stmd_container_transactions_waiting", "Transactions that wait for the container.", MetricType::Gauge,
      [](const State& c) { return c.transactions; });
  add("stmd_container_staged", "Values in the container that no commit names yet.", MetricType::Gauge,
      [](const State& c) { return c.left.staged; });
  add("stmd_container_staged_bytes", "Their EDN bytes.", MetricType::Gauge,
      [](const State& c) { return c.left.staged_bytes; });
  add("stmd_container_to_erase", "Values in the container that nothing names any more.", MetricType::Gauge,
      [](const State& c) { return c.left.to_erase; });
  add("stmd_container_erase_bytes", "Their EDN bytes.", MetricType::Gauge,
      [](const State& c) { return c.left.erase_bytes; });
  add("stmd_container_to_copy", "Atoms that changed, and that the container has not been told of.",
      MetricType::Gauge, [](const State& c) { return c.left.to_copy; });
  const engine::Stats& stats = engine.stats;
  families->push_back(Gauge("stmd_transactions_staging",
                            "Transactions waiting for containers, or for others that write the same entries there.",
                            stats.staging));
  families->push_back(Counter("stmd_staged_total", "Values written into containers.", stats.staged));
  families->push_back(Counter("stmd_staged_anew_total",
                              "Of these, those written again, since what they were worked out from had changed.",
                              stats.staged_anew));
  families->push_back(
      Counter("stmd_stored_loads_total", "Values read from containers.", stats.stored_loads));
  families->push_back(Gauge("stmd_container_cache_bytes", "Memory of values that containers keep.",
                            stats.stored_cache_bytes));
}

}  // namespace

std::string Metrics::Print(const engine::Status& engine, const LockStats& locks, engine::Version log_mark,
                           const std::optional<OverZooKeeperStats>& over,
                           const std::vector<ContainerState>& containers) const {
  std::vector<MetricFamily> families;
  MetricFamily calls =
      Family("stmd_rpc_total", "Calls answered, by method and status code.", MetricType::Counter);
  MetricFamily times =
      Family("stmd_rpc_seconds", "From a call's arrival to its answer.", MetricType::Histogram);
  MetricFamily open = Family("stmd_streams_open", "Streams open now.", MetricType::Gauge);
  for (size_t i = 0; i < kMethods; ++i) {
    const PerMethod& method = methods_[i];
    bool called = false;
    for (size_t code = 0; code < method.by_code.size(); ++code) {
      const uint64_t count = method.by_code[code].load(std::memory_order_relaxed);
      if (count == 0) continue;
      called = true;
      ClientMetric& metric = calls.metric.emplace_back();
      metric.label = {{"method", kMethodNames[i]},
                      {"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}};
      metric.counter.value = static_cast<double>(count);
    }
    if (called) {
      ClientMetric& metric = times.metric.emplace_back();
      metric.label = {{"method", kMethodNames[i]}};
      Fill(method.times, &metric);
    }
    const Method name = static_cast<Method>(i);
    if (name == Method::kPipeline || name == Method::kWatch || name == Method::kReadLog ||
        name == Method::kOfferContainer) {
      ClientMetric& metric = open.metric.emplace_back();
      metric.label = {{"method", kMethodNames[i]}};
      metric.gauge.value = static_cast<double>(method.open.load(std::memory_order_relaxed));
    }
  }
  families.push_back(std::move(calls));
  families.push_back(std::move(times));
  families.push_back(std::move(open));
  families.push_back(Counter("stmd_pipelines_cut_total", "Pipelines cut because their reader was slow.",
                             static_cast<int64_t>(pipelines_cut_.load(std::memory_order_relaxed))));
  MetricFamily syncs =
      Family("stmd_log_sync_seconds", "The log's write and fdatasync of one batch.", MetricType::Histogram);
  Fill(syncs_, &syncs.metric.emplace_back());
  families.push_back(std::move(syncs));

  const engine::Stats& stats = engine.stats;
  families.push_back(Counter("stmd_commits_total", "Transactions committed.", stats.commits));
  families.push_back(
      Counter("stmd_conflicts_total", "Transactions refused because a read was stale.", stats.conflicts));
  families.push_back(Counter("stmd_rejections_total", "Transactions refused by a validator or an operation.",
                             stats.rejections));
  families.push_back(Counter("stmd_batches_total", "Batches appended to the log.", stats.batches));
  families.push_back(Counter("stmd_batches_lost_total", "Batches validated again.", stats.batches_lost));
  families.push_back(
      Counter("stmd_no_space_total", "Batches refused because the disk was full.", stats.no_space));
  families.push_back(Counter("stmd_batches_failed_total",
                             "Batches refused because the store could not be reached.",
                             stats.batches_failed));
  families.push_back(Counter("stmd_loads_total", "Loads of entries from the store.", stats.loads));
  families.push_back(
      Counter("stmd_entries_loaded_total", "Entries loaded, absent ones too.", stats.entries_loaded));
  families.push_back(Counter("stmd_entries_evicted_total", "Entries dropped from memory, to be loaded again.",
                             stats.entries_evicted));
  families.push_back(
      Counter("stmd_resends_answered_total", "Resends answered from the id table.", stats.resends_answered));
  families.push_back(Counter("stmd_ids_too_old_total", "Ids below the id table's floor.", stats.ids_too_old));
  families.push_back(
      Counter("stmd_not_committed_total", "Calls answered as not committed.", stats.not_committed));
  families.push_back(Counter("stmd_reservations_total", "Reservations given.", stats.reservations));
  families.push_back(Counter("stmd_turns_asked_total",
                             "Turns on entries that several daemons fight over, asked for by this one.", stats.turns_asked));
  families.push_back(
      Counter("stmd_turns_of_others_total", "Such turns of other daemons that this one was told of.", stats.turns_of_others));
  families.push_back(Counter("stmd_gets_total", "Reads answered.", stats.gets));
  families.push_back(Counter("stmd_watch_events_total", "Events given to watches.", stats.watch_events));
  families.push_back(
      Counter("stmd_watches_cut_total", "Watches cut because their reader was slow.", stats.watches_cut));
  families.push_back(Counter("stmd_expired_total", "Entries ended by their TTL.", stats.expired));
  families.push_back(Gauge("stmd_entries", "Entries that are there.", stats.entries));
  families.push_back(Gauge("stmd_tombstones", "Deleted entries still remembered.", stats.tombstones));
  families.push_back(Gauge("stmd_commit_queue", "Transactions waiting for a batch.", stats.queued));
  families.push_back(
      Gauge("stmd_reservation_line", "Transactions waiting for a reservation.", stats.in_line));
  families.push_back(Gauge("stmd_transactions_parked", "Transactions whose large values are being worked on.",
                           stats.parked));
  families.push_back(
      Gauge("stmd_transactions_loading", "Transactions waiting for entries from the store.", stats.loading));
  families.push_back(Gauge("stmd_batches_in_flight", "Batches being appended.", stats.in_flight));
  families.push_back(Gauge("stmd_sleepers", "AwaitChange calls waiting.", stats.sleepers));
  families.push_back(Gauge("stmd_watches", "Watches open.", stats.watches));
  families.push_back(
      Gauge("stmd_history_bytes", "Memory of versions below the newest.", stats.history_bytes));
  families.push_back(Gauge("stmd_entry_cache_bytes", "Memory of entries that can be loaded again.",
                           stats.entry_cache_bytes));
  families.push_back(Gauge("stmd_id_table_bytes", "Memory of the id table.", stats.id_table_bytes));
  families.push_back(Gauge("stmd_ids", "Ids in the id table.", stats.ids));
  families.push_back(Gauge("stmd_installed_version", "The newest version installed.", engine.installed));
  families.push_back(
      Gauge("stmd_history_mark", "The oldest snapshot that can be read.", engine.history_mark));
  families.push_back(
      Gauge("stmd_id_floor", "Ids with a version seen below it may be unknown.", engine.id_floor));
  families.push_back(Gauge("stmd_sessions", "Open sessions of the store.", locks.sessions));
  families.push_back(Counter("stmd_sessions_expired_total", "Sessions that this daemon ended, nothing being heard of their clients.",
                             locks.sessions_expired));
  families.push_back(Gauge("stmd_lock_calls_waiting", "Calls that wait here for a lock or a signal.", locks.calls_waiting));
  families.push_back(Gauge("stmd_log_mark", "The oldest version that the log keeps.", log_mark));
  families.push_back(Gauge("stmd_ready", "1: recovered and serving.", engine.ready ? 1 : 0));
  if (over) {
    families.push_back(Counter("stmd_zookeeper_holes_total",
                               "ZooKeeper's servers that were left because they had lost a batch.",
                               over->holes));
  }
  if (over && over->archive) {
    const zookeeper::ArchiveStats& archive = *over->archive;
    families.push_back(
        Counter("stmd_archive_commits_total", "Commits written to the archive.", archive.commits));
    families.push_back(Counter("stmd_archive_bytes_total", "Bytes written to the archive.", archive.bytes));
    families.push_back(
        Counter("stmd_archive_failures_total", "Writes to the archive that failed.", archive.failures));
    families.push_back(Counter("stmd_archive_gaps_total",
                               "Times that commits were trimmed in ZooKeeper before the archive had them.",
                               archive.gaps));
    families.push_back(Gauge("stmd_archive_version", "The newest version in the archive.", archive.version));
  }
  AddContainers(containers, engine, &families);
  MetricFamily build = Family("stmd_build_info", "The program's version.", MetricType::Gauge);
  build.metric.emplace_back().label = {{"version", kVersion}};
  build.metric.back().gauge.value = 1;
  families.push_back(std::move(build));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace stm::server
