#include <memory>
#include <utility>

#include "server/commit_call.h"
#include "server/pipeline.h"
#include "server/services.h"
#include "stm/v1/transaction_service.grpc.pb.h"

namespace stm::server {
namespace {

// AwaitChange waits long, so it ends when its caller goes.
class AwaitReactor final : public grpc::ServerUnaryReactor {
 public:
  AwaitReactor(Node* node, v1::AwaitChangeResponse* response)
      : node_(node), response_(response), handle_(std::make_shared<uint64_t>(0)) {}

  void Start(engine::AwaitRequest request) {
    // `this` lives until the answer.
    node_->loop->Post([this, handle = handle_, request = std::move(request),
                       call = UnaryCall(node_, Method::kAwaitChange, this)]() mutable {
      *handle = node_->engine->AwaitChange(
          std::move(request),
          [response = response_, call = std::move(call)](absl::StatusOr<engine::AwaitResult> result) mutable {
            if (!result.ok()) return call.Finish(result.status());
            Node* node = call.node();
            node->Saw(result->installed);
            FillAwait(*result, node->identity(), response);
            call.Finish(absl::OkStatus());
          });
    });
  }

  void Refuse(const absl::Status& status) { UnaryCall(node_, Method::kAwaitChange, this).Finish(status); }

  void OnCancel() override {
    // This may be gone when the Loop comes to it. The engine knows which handles have been answered.
    node_->loop->Post([engine = node_->engine, handle = handle_] {
      if (*handle != 0) engine->CancelAwait(*handle);
    });
  }
  void OnDone() override { delete this; }

 private:
  Node* const node_;
  v1::AwaitChangeResponse* const response_;
  const std::shared_ptr<uint64_t> handle_;  // what it points to is the Loop's
};

class TransactionService final : public v1::TransactionService::CallbackService {
 public:
  explicit TransactionService(Node* node) : node_(node) {}

  grpc::ServerUnaryReactor* Commit(grpc::CallbackServerContext* context, const v1::CommitRequest* request,
                                   v1::CommitResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kCommit, reactor, node_->connections->Find(context->peer()));
    auto transaction = TransactionOf(const_cast<v1::CommitRequest*>(request), node_->config.engine);
    if (!transaction.ok()) {
      call.Finish(transaction.status());
      return reactor;
    }
    (*transaction)->deadline = DeadlineOf(*context, node_->loop);
    CommitCall::Start(
        std::unique_ptr<CommitCall>(new CommitCall{std::move(call), *std::move(transaction), response}));
    return reactor;
  }

  grpc::ServerUnaryReactor* AwaitChange(grpc::CallbackServerContext* context, const v1::AwaitChangeRequest* request,
                                        v1::AwaitChangeResponse* response) override {
    auto* reactor = new AwaitReactor(node_, response);
    absl::StatusOr<engine::AwaitRequest> await =
        AwaitRequestOf(const_cast<v1::AwaitChangeRequest*>(request), node_->config.engine);
    if (!await.ok()) {
      reactor->Refuse(await.status());
      return reactor;
    }
    await->deadline = DeadlineOf(*context, node_->loop);
    reactor->Start(*std::move(await));
    return reactor;
  }

  grpc::ServerUnaryReactor* GetOutcome(grpc::CallbackServerContext* context, const v1::GetOutcomeRequest* request,
                                       v1::GetOutcomeResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kGetOutcome, reactor);
    absl::StatusOr<engine::CommitId> id = CommitIdOf(request->id(), "id");
    if (!id.ok()) {
      call.Finish(id.status());
      return reactor;
    }
    std::unique_ptr<CommitCall> work(new CommitCall{std::move(call), nullptr, response->mutable_outcome()});
    node_->loop->Post([work = std::move(work), id = *id]() mutable {
      engine::Engine* engine = work->call.node()->engine;
      engine->GetOutcome(id, [work = std::move(work)](std::shared_ptr<const engine::Verdict> verdict,
                                                      engine::Version installed) { work->Answer(*verdict, installed); });
    });
    return reactor;
  }

  grpc::ServerBidiReactor<v1::PipelineRequest, v1::PipelineResponse>* Pipeline(
      grpc::CallbackServerContext* context) override {
    return NewPipeline(node_, context);
  }

 private:
  Node* const node_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeTransactionService(Node* node) { return std::make_unique<TransactionService>(node); }

}  // namespace stm::server
