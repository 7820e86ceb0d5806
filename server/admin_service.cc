#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/zookeeper/coordinator.h"
#include "engine/values/wire.h"
#include "server/call.h"
#include "server/services.h"
#include "server/write_stream.h"
#include "stm/v1/admin_service.grpc.pb.h"

namespace stm::server {
namespace {

// Grows by one with each RPC or field added to stm.v1.
constexpr uint32_t kApiMinor = 6;

// Of a backup's text, in one message, about: an entry is not cut.
constexpr size_t kChunkBytes = 256 << 10;
// Of an image, in one task of the Loop.
constexpr size_t kImageItems = 256;
constexpr absl::Duration kLookEvery = absl::Seconds(1);

struct StatusCall {
  UnaryCall call;
  v1::GetStatusResponse* response;
};

struct ClusterCall {
  UnaryCall call;
  v1::GetClusterResponse* response;
};

struct ContainersCall {
  UnaryCall call;
  v1::ListContainersResponse* response;
};

// One Backup: takes some of the image on the Loop, prints it on the Executor, takes more when that is sent.
// It holds up nobody; what it may hold in memory is bounded by backup_history_bytes_max.
class BackupStream final : public WriteStream<BackupStream, v1::BackupResponse> {
 public:
  explicit BackupStream(Node* node) : WriteStream(node, Method::kBackup) { node->backups.fetch_add(1); }
  ~BackupStream() override { node()->backups.fetch_sub(1); }

  void Start(engine::Version version) {
    Begin();
    if (version < 0) return End(engine::BadRequest("version", "is below 0"));
    if (node()->archive == nullptr) {
      return End(
          NeedsLog("Backup", "read what is to be kept with ListRefs at one snapshot, as stmctl export does"));
    }
    const int64_t backups = node()->backups.load();
    if (backups > node()->config.server.backups_max) {
      return End(engine::LimitReached("backups_max", node()->config.server.backups_max, "the daemon", backups,
                                      "wait until another backup has ended"));
    }
    node()->loop->Post([self = Self(), version] { self->Open(version); });
  }

 private:
  // An image goes where it was taken.
  void Release(std::shared_ptr<BackupStream> self) override {
    node()->loop->Post([this, self = std::move(self)] { image_.reset(); });
  }

  // On the Loop.
  void Open(engine::Version version) {
    absl::StatusOr<std::unique_ptr<engine::Image>> image = node()->engine->TakeImageAt(version);
    if (image.ok() && (*image)->version() == 0) {
      image = absl::FailedPreconditionError(
          "backup: nothing was ever committed to this store: there is nothing to keep");
    }
    if (!image.ok()) {
      return node()->executor->Run(engine::Work::kAnswer,
                                   [self = Self(), status = image.status()] { self->End(status); });
    }
    image_ = *std::move(image);
    version_ = image_->version();
    printer_ = node()->archive->Print(version_, image_->at());
    Look();
    Take();
  }

  // On the Loop: a reader too slow for what is committed meanwhile is told so.
  void Look() {
    if (image_ == nullptr) return;
    const int64_t held = node()->engine->GetStatus().stats.history_bytes;
    const int64_t limit =
        std::max(node()->config.server.backup_history_bytes_max, node()->config.engine.history_bytes_max);
    if (held > limit) {
      image_.reset();
      return node()->executor->Run(engine::Work::kAnswer, [self = Self(), held, limit] {
        self->End(engine::LimitReached("backup_history_bytes_max", limit,
                                       absl::StrCat("the backup of version ", self->version_), held,
                                       "take it again and read it faster, or when less is written"));
      });
    }
    node()->loop->At(node()->loop->Now() + kLookEvery, [self = Self()] { self->Look(); });
  }

  // On the Loop.
  void Take() {
    if (image_ == nullptr) return;
    // What containers keep is told whole: a store that it is restored to could ask for it when it is erased.
    node()->engine->ResolvePart(image_->Next(kImageItems), version_, [self = Self()](absl::StatusOr<engine::ImagePart> part) {
      if (self->image_ == nullptr) return;
      if (part.ok()) return self->Took(*std::move(part));
      self->image_.reset();
      self->node()->executor->Run(engine::Work::kAnswer, [self, status = part.status()] { self->End(status); });
    });
  }

  void Took(engine::ImagePart part) {
    part_ = std::move(part);
    at_ = 0;
    if (part_.entries.empty() && part_.ids.empty()) {
      id_floor_ = image_->id_floor();
      image_.reset();
      taken_ = true;
    }
    node()->executor->Run(engine::Work::kHeavy, [self = Self()] { self->Print(); });
  }

  // A message of what was taken, and the next ones when that is sent. Entry by entry: a part of large values
  // is never text all at once.
  void Print() {
    while (text_.size() < kChunkBytes && at_ < part_.entries.size()) {
      engine::ImagePart one;
      one.entries.push_back(std::move(part_.entries[at_++]));
      text_ += printer_->Add(one);
    }
    if (at_ == part_.entries.size() && !part_.ids.empty()) {
      engine::ImagePart ids;
      ids.ids.swap(part_.ids);
      text_ += printer_->Add(ids);
    }
    if (at_ == part_.entries.size() && taken_) {
      text_ += printer_->End(id_floor_);
      printed_ = true;
    }
    std::deque<v1::BackupResponse> messages;
    if (text_.size() >= kChunkBytes || printed_) {
      v1::BackupResponse& message = messages.emplace_back();
      message.set_version(version_);
      message.set_chunk(std::move(text_));
      text_.clear();
    }
    Filled(std::move(messages));
  }

  void Fill() override {
    if (printed_) return End(absl::OkStatus());
    if (at_ < part_.entries.size()) {
      return node()->executor->Run(engine::Work::kHeavy, [self = Self()] { self->Print(); });
    }
    node()->loop->Post([self = Self()] { self->Take(); });
  }

  std::unique_ptr<engine::Image> image_;  // the Loop's
  // Of whoever is filling.
  std::unique_ptr<engine::Archive::Printer> printer_;
  engine::Version version_ = 0;
  engine::Version id_floor_ = 0;
  engine::ImagePart part_;
  size_t at_ = 0;         // in part_.entries: printed
  bool taken_ = false;    // all of the image
  bool printed_ = false;  // and its end
  std::string text_;
};

// One Restore: reads a message, keeps it apart from the store, reads on; one thing after another. Only a
// whole backup is installed, and only if the store is still empty then.
class RestoreStream final : public grpc::ServerReadReactor<v1::RestoreRequest>,
                            public std::enable_shared_from_this<RestoreStream> {
 public:
  RestoreStream(Node* node, grpc::CallbackServerContext* context, v1::RestoreResponse* response)
      : node_(node), context_(context), response_(response), began_(node->loop->Now()) {
    node_->metrics.Opened(Method::kRestore);
  }

  void Start() {
    self_ = shared_from_this();
    if (node_->archive == nullptr) {
      return End(NeedsLog("Restore", "make a new store by `stmctl restore FILE zk://...`, with no daemon, or write what is "
                                     "to be there in commits, as stmctl import does"));
    }
    node_->loop->Post([self = self_] {
      absl::Status status = self->node_->engine->CheckEmpty();
      if (status.ok()) {
        absl::StatusOr<std::unique_ptr<engine::Archive::Intake>> intake = self->node_->archive->TakeIn();
        status = intake.status();
        if (status.ok()) self->intake_ = *std::move(intake);
      }
      engine::Executor* executor = self->node_->executor;
      executor->Run(engine::Work::kAnswer, [self, status] {
        if (!status.ok()) return self->End(status);
        self->StartRead(&self->message_);
      });
    });
  }

  void OnReadDone(bool ok) override {
    node_->executor->Run(engine::Work::kHeavy, [self = self_, ok] { ok ? self->Add() : self->Install(); });
  }
  void OnDone() override {
    node_->metrics.Closed(Method::kRestore);
    node_->metrics.Called(Method::kRestore, status_.code(), node_->loop->Now() - began_);
    self_.reset();
  }

 private:
  void Add() {
    absl::Status status = intake_->Add(message_.chunk());
    if (!status.ok()) return End(status);
    StartRead(&message_);
  }

  void Install() {
    if (context_->IsCancelled())
      return End(absl::CancelledError("the client ended the stream: nothing was restored"));
    absl::StatusOr<engine::Version> version = intake_->Check();
    if (!version.ok()) return End(version.status());
    response_->set_version(*version);
    node_->loop->Post([self = self_] {
      Node* node = self->node_;
      node->engine->Restore(
          [self](absl::AnyInvocable<void(absl::Status)> fed) {
            self->node_->archive->Install(std::move(self->intake_), std::move(fed));
          },
          [self](absl::Status status) {
            Node* node = self->node_;
            if (status.ok()) {
              const engine::Status now = node->engine->GetStatus();
              node->store.store(now.store);
              node->Saw(now.installed);
              FillHeader(node->identity(), now.installed, self->response_->mutable_header());
            }
            node->executor->Run(engine::Work::kHeavy, [self, status] { self->End(status); });
          });
    });
  }

  void End(const absl::Status& status) {
    intake_.reset();
    status_ = status;
    Finish(ToGrpc(status, *node_));
  }

  Node* const node_;
  grpc::CallbackServerContext* const context_;
  v1::RestoreResponse* const response_;
  const absl::Duration began_;
  std::shared_ptr<RestoreStream> self_;  // until OnDone
  std::unique_ptr<engine::Archive::Intake> intake_;
  v1::RestoreRequest message_;
  absl::Status status_;
};

class AdminService final : public v1::AdminService::CallbackService {
 public:
  explicit AdminService(Node* node) : node_(node) {}

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* /*request*/,
                                      v1::GetStatusResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    std::unique_ptr<StatusCall> work(new StatusCall{UnaryCall(node_, Method::kGetStatus, reactor), response});
    node_->loop->Post([work = std::move(work)]() mutable {
      Node* node = work->call.node();
      engine::Status status = node->GetStatus();
      node->executor->Run(engine::Work::kHeavy, [work = std::move(work), status = std::move(status)] {
        Fill(status, *work->call.node(), work->response);
        work->call.Finish(absl::OkStatus());
      });
    });
    return reactor;
  }

  grpc::ServerUnaryReactor* GetConfig(grpc::CallbackServerContext* context,
                                      const v1::GetConfigRequest* /*request*/,
                                      v1::GetConfigResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kGetConfig, reactor);
    for (const EffectiveSetting& setting : node_->settings) {
      v1::Setting* message = response->add_settings();
      message->set_name(setting.name);
      message->set_value(setting.value);
      message->set_origin(setting.origin);
    }
    call.Finish(absl::OkStatus());
    return reactor;
  }

  grpc::ServerUnaryReactor* GetCluster(grpc::CallbackServerContext* context,
                                       const v1::GetClusterRequest* /*request*/,
                                       v1::GetClusterResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    std::unique_ptr<ClusterCall> work(
        new ClusterCall{UnaryCall(node_, Method::kGetCluster, reactor), response});
    if (node_->cluster == nullptr) {
      v1::ErrorDetail detail;
      detail.set_reason(v1::ERROR_REASON_UNSUPPORTED);
      detail.set_name("GetCluster");
      work->call.Finish(engine::WithDetail(
          absl::FailedPreconditionError(
              "GetCluster: this daemon is alone: a cluster is of those with --coordinator=zk://..."),
          detail));
      return reactor;
    }
    node_->loop->Post([work = std::move(work)]() mutable {
      Node* node = work->call.node();
      node->cluster->Look([work = std::move(work)](absl::StatusOr<zookeeper::Cluster> cluster) mutable {
        Node* node = work->call.node();
        const engine::Version installed = node->engine->GetStatus().installed;
        node->executor->Run(engine::Work::kAnswer,
                            [work = std::move(work), cluster = std::move(cluster), installed] {
                              if (!cluster.ok()) return work->call.Finish(cluster.status());
                              Fill(*cluster, installed, *work->call.node(), work->response);
                              work->call.Finish(absl::OkStatus());
                            });
      });
    });
    return reactor;
  }

  grpc::ServerUnaryReactor* ListContainers(grpc::CallbackServerContext* context,
                                           const v1::ListContainersRequest* /*request*/,
                                           v1::ListContainersResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    std::unique_ptr<ContainersCall> work(
        new ContainersCall{UnaryCall(node_, Method::kListContainers, reactor), response});
    node_->loop->Post([work = std::move(work)]() mutable {
      Node* node = work->call.node();
      const engine::Version installed = node->engine->GetStatus().installed;
      std::vector<ContainerState> containers = node->Containers();
      node->executor->Run(engine::Work::kAnswer,
                          [work = std::move(work), containers = std::move(containers), installed] {
                            FillHeader(work->call.node()->identity(), installed, work->response->mutable_header());
                            for (const ContainerState& container : containers)
                              Fill(container, work->response->add_containers());
                            work->call.Finish(absl::OkStatus());
                          });
    });
    return reactor;
  }

  grpc::ServerWriteReactor<v1::BackupResponse>* Backup(grpc::CallbackServerContext* /*context*/,
                                                       const v1::BackupRequest* request) override {
    auto stream = std::make_shared<BackupStream>(node_);
    stream->Start(request->version());
    return stream.get();
  }

  grpc::ServerReadReactor<v1::RestoreRequest>* Restore(grpc::CallbackServerContext* context,
                                                       v1::RestoreResponse* response) override {
    auto stream = std::make_shared<RestoreStream>(node_, context, response);
    stream->Start();
    return stream.get();
  }

  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context, const v1::DrainRequest* request,
                                  v1::DrainResponse* /*response*/) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    auto call = std::make_shared<UnaryCall>(node_, Method::kDrain, reactor);
    absl::Duration grace = node_->config.server.drain_grace;
    if (request->has_grace()) {
      const absl::StatusOr<absl::Duration> asked = DurationOf(request->grace(), "grace");
      if (!asked.ok() || *asked < absl::ZeroDuration()) {
        call->Finish(asked.ok() ? engine::BadRequest("grace", "is below 0") : asked.status());
        return reactor;
      }
      grace = *asked;
    }
    node_->drain(grace, [call = std::move(call)] { call->Finish(absl::OkStatus()); });
    return reactor;
  }

 private:
  // Off the Loop: the log's mark takes a look at the log.
  static void Fill(const engine::Status& status, const Node& node, v1::GetStatusResponse* response) {
    FillHeader(Identity{status.store, status.writer}, status.installed, response->mutable_header());
    response->set_version(kVersion);
    response->set_api_minor(kApiMinor);
    response->set_coordinator(node.cluster != nullptr ? "zookeeper"
                              : node.config.ephemeral ? "memory"
                                                      : "local");
    response->set_history_mark(status.history_mark);
    response->set_id_floor(status.id_floor);
    response->set_log_mark(node.LogMark());
    response->set_ready(status.ready);
    response->set_not_ready_because(status.ready ? "" : status.not_ready_because);
    for (const auto& [name, value] : LimitsOf(node.config)) (*response->mutable_limits())[name] = value;
    for (const engine::HotEntry& entry : status.hot) {
      v1::HotEntry* message = response->add_hot();
      message->set_name(entry.name);
      message->set_commits(entry.commits);
      message->set_conflicts(entry.conflicts);
    }
  }

  static void Fill(const ContainerState& container, v1::Container* message) {
    const containers::ContainerStats& stats = container.stats;
    message->set_name(stats.name);
    message->set_uri(container.uri);
    message->set_keeps_refs(stats.keeps_refs);
    message->set_keeps_atoms(stats.keeps_atoms);
    message->set_healthy(stats.healthy);
    message->set_error(stats.last_error);
    if (stats.last_error_at.seconds != 0) *message->mutable_error_at() = stm::ToProto(stats.last_error_at);
    if (stats.latency_p50 != absl::ZeroDuration()) SetDuration(stats.latency_p50, message->mutable_latency_p50());
    message->set_calls(stats.calls);
    message->set_calls_failed(stats.calls_failed);
    message->set_calls_under_way(stats.calls_under_way);
    message->set_calls_hanging(stats.calls_hanging);
    message->set_calls_queued(stats.calls_queued);
    message->set_transactions_waiting(container.transactions);
    message->set_staged(container.left.staged);
    message->set_staged_bytes(container.left.staged_bytes);
    message->set_to_erase(container.left.to_erase);
    message->set_erase_bytes(container.left.erase_bytes);
    message->set_to_copy(container.left.to_copy);
  }

  static void Fill(const zookeeper::Cluster& cluster, engine::Version installed, const Node& node,
                   v1::GetClusterResponse* response) {
    FillHeader(node.identity(), installed, response->mutable_header());
    response->set_epoch(cluster.epoch);
    response->set_log_segment(cluster.segment);
    response->set_log_first_position(cluster.first);
    response->set_log_next_position(cluster.head);
    response->set_log_entries(cluster.log_entries);
    response->set_log_bytes(cluster.log_bytes);
    for (const zookeeper::Daemon& daemon : cluster.daemons) {
      v1::Daemon* message = response->add_daemons();
      message->set_writer(daemon.writer);
      message->set_address(daemon.address);
      message->set_installed_version(daemon.installed);
      message->set_version(daemon.program);
      message->set_format_max(static_cast<uint32_t>(daemon.format));
      message->set_applied_position(daemon.applied);
    }
  }

  Node* const node_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(Node* node) { return std::make_unique<AdminService>(node); }

}  // namespace stm::server
