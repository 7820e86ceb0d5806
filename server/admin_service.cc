#include <memory>
#include <utility>

#include "server/call.h"
#include "server/services.h"
#include "stm/v1/admin_service.grpc.pb.h"

namespace stm::server {
namespace {

// Grows by one with each RPC or field added to stm.v1.
constexpr uint32_t kApiMinor = 1;

struct StatusCall {
  UnaryCall call;
  v1::GetStatusResponse* response;
};

class AdminService final : public v1::AdminService::CallbackService {
 public:
  explicit AdminService(Node* node) : node_(node) {}

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context, const v1::GetStatusRequest* /*request*/,
                                      v1::GetStatusResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    std::unique_ptr<StatusCall> work(new StatusCall{UnaryCall(node_, Method::kGetStatus, reactor), response});
    node_->loop->Post([work = std::move(work)]() mutable {
      Node* node = work->call.node();
      engine::Status status = node->engine->GetStatus();
      node->executor->Run(engine::Work::kHeavy, [work = std::move(work), status = std::move(status)] {
        Fill(status, *work->call.node(), work->response);
        work->call.Finish(absl::OkStatus());
      });
    });
    return reactor;
  }

  grpc::ServerUnaryReactor* GetConfig(grpc::CallbackServerContext* context, const v1::GetConfigRequest* /*request*/,
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
    response->set_coordinator(node.config.ephemeral ? "memory" : "local");
    response->set_history_mark(status.history_mark);
    response->set_id_floor(status.id_floor);
    response->set_log_mark(node.log->FirstVersion());
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

  Node* const node_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(Node* node) { return std::make_unique<AdminService>(node); }

}  // namespace stm::server
