#include "server/daemon.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <future>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/containers/files.h"
#include "backends/containers/remote.h"
#include "backends/containers/registry.h"
#include "backends/containers/threaded.h"
#include "backends/local/local_coordinator.h"
#include "backends/local/memory_coordinator.h"
#include "backends/local/posix_disk.h"
#include "backends/mongodb/container.h"
#include "backends/zookeeper/c_session.h"
#include "backends/zookeeper/coordinator.h"
#include "backends/zookeeper/init.h"
#include "engine/engine.h"
#include "engine/error.h"
#include "engine/settler.h"
#include "server/combining_loop.h"
#include "server/http.h"
#include "server/listener.h"
#include "server/node.h"

namespace stm::server {
namespace {

// Beside the grace: what cancelled calls and the log's last lines may take.
constexpr absl::Duration kCancelGrace = absl::Milliseconds(500);

local::LocalOptions LocalOptionsOf(const Config& config) {
  local::LocalOptions options;
  options.segment_bytes = config.local.segment_bytes;
  options.snapshot_bytes = config.local.snapshot_bytes;
  options.prefill_bytes = config.local.prefill_bytes;
  options.ballast_bytes = config.local.ballast_bytes;
  options.log_keep_age = config.local.log_keep;
  options.canaries.skip_sync = config.canary_skip_sync;
  return options;
}

// How often a start that waits for others says what for.
constexpr absl::Duration kSayEvery = absl::Seconds(5);
// One try to make a store.
constexpr absl::Duration kMakePatience = absl::Seconds(10);

// Runs `ask` on the Loop and waits for what it tells its callback. Meanwhile `waits` is run on the Loop,
// every kSayEvery.
template <typename Ask>
absl::Status Await(engine::Loop* loop, Ask ask, const std::function<void()>& waits = nullptr) {
  std::promise<absl::Status> promise;
  std::future<absl::Status> future = promise.get_future();
  loop->Post([&] { ask([&promise](absl::Status status) { promise.set_value(std::move(status)); }); });
  while (waits && future.wait_for(absl::ToChronoSeconds(kSayEvery)) != std::future_status::ready)
    loop->Post(waits);
  return future.get();
}

// Of every stmd; a program of one's own may have registered others before it starts a Daemon.
void RegisterSchemes() {
  static const bool registered = [] {
    containers::Schemes& schemes = containers::Schemes::OfProgram();
    const containers::Factory mongodb = [](const std::string& uri, const containers::FactoryOptions&) {
      return mongodb::OpenContainer(uri);
    };
    return schemes.Register("mongodb", mongodb) && schemes.Register("mongodb+srv", mongodb) &&
           schemes.Register("grpc", containers::MakeRemote) && schemes.Register("grpcs", containers::MakeRemote) &&
           schemes.Register("file", containers::MakeFiles);
  }();
  (void)registered;
}

// Who orders the daemon's commits and keeps them, in the roles that it plays.
struct Backing {
  engine::Coordinator* coordinator;
  engine::Writers* writers;
  engine::EntryStore* entries;  // null: all entries are in memory
};

}  // namespace

// In the order in which they are made; they go in the other.
struct Daemon::Parts {
  Node node;
  std::unique_ptr<local::PosixDisk> disk;
  std::unique_ptr<CombiningLoop> loop;
  std::unique_ptr<containers::ThreadedContainers> containers;
  // One of these three.
  std::unique_ptr<local::LocalCoordinator> local;
  std::unique_ptr<local::MemoryCoordinator> memory;
  std::unique_ptr<zookeeper::CSessions> sessions;
  std::unique_ptr<zookeeper::ZooKeeperCoordinator> zookeeper;
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<engine::LockCalls> locks;
  std::unique_ptr<engine::Leases> leases;
  std::unique_ptr<engine::Settler> settler;
  std::unique_ptr<Http> http;
  std::unique_ptr<Listener> listener;
  std::string no_http;

  // What `fatal` is told, is told on the Loop.
  Backing BackByLog(std::function<void(absl::Status)> fatal);
  Backing BackByMemory();
  Backing BackByZooKeeper(std::function<void(absl::Status)> fatal);
  // INVALID_ARGUMENT: a URI is no good. They are asked by nobody yet.
  absl::Status MakeContainers();
  // Ends the sessions with ZooKeeper's servers, so that others see at once that this daemon is gone.
  void LeaveZooKeeper();
  // And what threads of its own post to it. Maybe again.
  void StopLoop();
};

Backing Daemon::Parts::BackByLog(std::function<void(absl::Status)> fatal) {
  local::LocalOptions options = LocalOptionsOf(node.config);
  options.fatal = std::move(fatal);
  options.sync_observed = [metrics = &node.metrics](absl::Duration time) { metrics->Synced(time); };
  local = std::make_unique<local::LocalCoordinator>(loop.get(), loop.get(), disk.get(), std::move(options));
  node.log = local.get();
  node.archive = local.get();
  return {local.get(), local.get(), nullptr};
}

Backing Daemon::Parts::BackByMemory() {
  local::MemoryOptions options;
  options.log_bytes = node.config.local.memory_log_bytes;
  memory = std::make_unique<local::MemoryCoordinator>(loop.get(), options);
  node.log = memory.get();
  node.archive = memory.get();
  return {memory.get(), memory.get(), nullptr};
}

Backing Daemon::Parts::BackByZooKeeper(std::function<void(absl::Status)> fatal) {
  zookeeper::Options options;
  options.session = node.config.zookeeper.session;
  options.program = kVersion;
  options.cleaner.log_bytes_max = node.config.zookeeper.log_bytes;
  options.archive.disk = disk.get();
  options.archive.executor = loop.get();
  options.archive.segment_bytes = node.config.local.segment_bytes;
  options.writer_observed = [this](uint64_t writer) { node.writer.store(writer); };
  options.fatal = std::move(fatal);
  sessions = std::make_unique<zookeeper::CSessions>(loop.get());
  zookeeper =
      std::make_unique<zookeeper::ZooKeeperCoordinator>(loop.get(), sessions.get(), std::move(options));
  node.log = zookeeper->log();
  node.cluster = zookeeper.get();
  return {zookeeper.get(), zookeeper.get(), zookeeper.get()};
}

absl::Status Daemon::Parts::MakeContainers() {
  RegisterSchemes();
  containers = std::make_unique<containers::ThreadedContainers>(loop.get(), node.config.container_threads);
  containers::FactoryOptions options;
  options.message_bytes_max = MessageBytesMax(node.config);
  for (const containers::ContainerSetting& setting : node.config.containers) {
    absl::StatusOr<containers::Container> made = containers::Schemes::OfProgram().Make(setting, options);
    if (!made.ok()) return made.status();
    absl::Status added = Await(loop.get(), [&](absl::AnyInvocable<void(absl::Status)> done) {
      done(containers->Add(setting.name, *std::move(made)));
    });
    if (!added.ok()) return added;
  }
  node.containers = containers.get();
  return absl::OkStatus();
}

void Daemon::Parts::LeaveZooKeeper() {
  if (sessions == nullptr) return;
  (void)Await(loop.get(), [this](absl::AnyInvocable<void(absl::Status)> done) {
    zookeeper->Leave();
    done(absl::OkStatus());
  });
  sessions.reset();
}

void Daemon::Parts::StopLoop() {
  containers->Stop();
  loop->Stop();
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Daemon::~Daemon() {
  if (parts_->listener != nullptr) parts_->listener->Stop(absl::ZeroDuration());
  if (parts_->http != nullptr) parts_->http->Stop();
  parts_->LeaveZooKeeper();
  parts_->StopLoop();
  // What these still wait for goes with the engine.
  parts_->settler.reset();
  parts_->leases.reset();
  parts_->engine.reset();
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(Config config, std::vector<EffectiveSetting> settings,
                                                      std::function<void(absl::Status)> fatal) {
  auto made = std::make_unique<Parts>();
  Parts& parts = *made;
  Node& node = parts.node;
  node.config = std::move(config);
  node.settings = std::move(settings);

  const std::string& directory =
      OverZooKeeper(node.config) ? node.config.zookeeper.archive_dir : node.config.data_dir;
  if (!node.config.ephemeral && !directory.empty()) {
    absl::StatusOr<std::unique_ptr<local::PosixDisk>> disk = local::PosixDisk::Make(directory);
    if (!disk.ok()) return disk.status();
    parts.disk = *std::move(disk);
  }
  CombiningLoop::Options loop_options;
  loop_options.pool_threads = static_cast<int>(node.config.threads);
  parts.loop = std::make_unique<CombiningLoop>(loop_options);
  absl::Status made_containers = parts.MakeContainers();
  if (!made_containers.ok()) return made_containers;

  const Backing backing = node.config.ephemeral        ? parts.BackByMemory()
                          : OverZooKeeper(node.config) ? parts.BackByZooKeeper(std::move(fatal))
                                                       : parts.BackByLog(std::move(fatal));
  parts.engine = std::make_unique<engine::Engine>(parts.loop.get(), parts.loop.get(), backing.coordinator,
                                                  backing.writers, node.config.engine, node.config.canaries,
                                                  backing.entries, parts.containers.get());
  node.loop = parts.loop.get();
  node.executor = parts.loop.get();
  node.engine = parts.engine.get();
  parts.locks = std::make_unique<engine::LockCalls>(parts.loop.get(), parts.engine.get(), node.config.engine.locks);
  parts.leases = std::make_unique<engine::Leases>(parts.loop.get(), parts.engine.get(), backing.writers, node.config.engine.locks,
                                                  node.config.leases, node.config.lease_canaries);
  parts.settler = std::make_unique<engine::Settler>(parts.loop.get(), parts.engine.get(), backing.writers,
                                                    parts.containers.get(), node.config.engine,
                                                    node.config.canaries);
  node.locks = parts.locks.get();
  node.leases = parts.leases.get();
  node.settler = parts.settler.get();
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(made)));
  node.drain = [daemon = daemon.get()](absl::Duration /*grace*/, std::function<void()> drained) {
    daemon->Drain(std::move(drained));
  };

  // Before recovery, which may take a while: probes see that it lives, and why it is not ready.
  if (node.config.http != "off") {
    absl::StatusOr<std::unique_ptr<Http>> http = Http::Start(&node, node.config.http);
    if (!http.ok()) return http.status();
    parts.http = *std::move(http);
  }
  absl::Status recovered = node.config.zookeeper.create ? daemon->MakeStore() : absl::OkStatus();
  if (recovered.ok()) recovered = daemon->Recover();
  if (!recovered.ok()) return recovered;

  absl::StatusOr<std::unique_ptr<Listener>> listener = Listener::Start(&node);
  if (!listener.ok()) return listener.status();
  parts.listener = *std::move(listener);
  parts.listener->SetServing(true);
  if (parts.zookeeper != nullptr) {
    const std::string& told = node.config.zookeeper.advertise;
    parts.loop->Post([&parts, address = told.empty() ? parts.listener->addresses().front() : told] {
      parts.zookeeper->Advertise(address);
    });
  }
  node.serving.store(true);
  return daemon;
}

absl::Status Daemon::MakeStore() {
  Parts& parts = *parts_;
  const zookeeper::SessionOptions& session = parts.node.config.zookeeper.session;
  for (;;) {
    std::unique_ptr<zookeeper::Init> init;
    const absl::Status status = Await(parts.loop.get(), [&](absl::AnyInvocable<void(absl::Status)> done) {
      init = std::make_unique<zookeeper::Init>(parts.loop.get(), parts.sessions.get(), session, kMakePatience,
                                               std::move(done));
    });
    (void)Await(parts.loop.get(), [&](absl::AnyInvocable<void(absl::Status)> done) {
      init.reset();
      done(absl::OkStatus());
    });
    if (status.ok()) spdlog::info("store_made chroot=\"{}\"", session.connect.chroot);
    if (status.ok() || absl::IsAlreadyExists(status)) return absl::OkStatus();
    if (!absl::IsUnavailable(status)) return status;
    spdlog::warn("start_waits for=\"{}\"", std::string(status.message()));
  }
}

absl::Status Daemon::Recover() {
  Node& node = parts_->node;
  std::function<void()> waits;
  if (node.cluster != nullptr) {
    waits = [&node] {
      if (const std::string what = node.cluster->waits_for(); !what.empty())
        spdlog::warn("start_waits for=\"{}\"", what);
    };
  }
  absl::Status status = Await(
      node.loop, [&](absl::AnyInvocable<void(absl::Status)> done) { node.engine->Start(std::move(done)); },
      waits);
  if (!status.ok()) return status;
  return Await(node.loop, [&](absl::AnyInvocable<void(absl::Status)> done) {
    const engine::Status now = node.engine->GetStatus();
    node.store.store(now.store);
    node.writer.store(now.writer);
    node.Saw(now.installed);
    node.leases->Start();
    node.settler->Start();
    done(absl::OkStatus());
  });
}

const std::vector<std::string>& Daemon::addresses() const { return parts_->listener->addresses(); }

const std::string& Daemon::http_address() const {
  return parts_->http == nullptr ? parts_->no_http : parts_->http->address();
}

void Daemon::AwaitStop() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&stop_requested_));
}

void Daemon::RequestStop() {
  absl::MutexLock lock(&mutex_);
  stop_requested_ = true;
}

void Daemon::Drain(std::function<void()> drained) {
  bool begin = false;
  bool already = false;
  {
    absl::MutexLock lock(&mutex_);
    if (drained_) {
      already = true;
    } else {
      when_drained_.push_back(std::move(drained));
      begin = !std::exchange(draining_, true);
    }
  }
  if (already) return drained();
  if (!begin) return;
  spdlog::info("drain_begins");
  Node& node = parts_->node;
  node.draining.store(true);
  parts_->listener->SetServing(false);
  node.loop->Post([this, &node] {
    node.engine->Drain([this, &node] { node.executor->Run(engine::Work::kAnswer, [this] { Drained(); }); });
  });
}

void Daemon::Drained() {
  std::vector<std::function<void()>> tell;
  {
    absl::MutexLock lock(&mutex_);
    drained_ = true;
    tell.swap(when_drained_);
  }
  for (std::function<void()>& one : tell) one();
  // After the answers: the server waits for calls under way, and these are.
  RequestStop();
}

absl::Status Daemon::Stop(absl::Duration grace) {
  Parts& parts = *parts_;
  const absl::Duration deadline = parts.loop->Now() + grace;
  Drain([] {});
  {
    absl::MutexLock lock(&mutex_);
    if (!mutex_.AwaitWithTimeout(absl::Condition(&drained_), grace)) {
      spdlog::warn("drain_cut_short grace={}", absl::FormatDuration(grace));
    }
  }
  // Offers end when the daemon says so: what was under way needed them.
  (void)Await(parts.loop.get(), [&](absl::AnyInvocable<void(absl::Status)> done) {
    for (const auto& [name, end] : parts.node.offers) end();
    done(absl::OkStatus());
  });
  parts.listener->Stop(std::max(deadline - parts.loop->Now(), kCancelGrace));
  absl::Status status;
  if (parts.local != nullptr) {
    status = Await(parts.loop.get(),
                   [&](absl::AnyInvocable<void(absl::Status)> done) { parts.local->Stop(std::move(done)); });
  }
  if (parts.zookeeper != nullptr) {
    status = Await(parts.loop.get(), [&](absl::AnyInvocable<void(absl::Status)> done) {
      parts.zookeeper->StopArchive(std::move(done));
    });
  }
  if (parts.http != nullptr) parts.http->Stop();
  parts.LeaveZooKeeper();
  parts.StopLoop();
  return status;
}

}  // namespace stm::server
