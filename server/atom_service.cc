#include <memory>
#include <utility>

#include "server/commit_call.h"
#include "server/services.h"
#include "stm/v1/atom_service.grpc.pb.h"

namespace stm::server {
namespace {

class AtomService final : public v1::AtomService::CallbackService {
 public:
  explicit AtomService(Node* node) : node_(node) {}

  grpc::ServerUnaryReactor* ApplyAtom(grpc::CallbackServerContext* context, const v1::ApplyAtomRequest* request,
                                      v1::ApplyAtomResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kApplyAtom, reactor, node_->connections->Find(context->peer()));
    auto transaction = TransactionOf(const_cast<v1::ApplyAtomRequest*>(request), node_->config.engine);
    if (!transaction.ok()) {
      call.Finish(transaction.status());
      return reactor;
    }
    (*transaction)->deadline = DeadlineOf(*context, node_->loop);
    CommitCall::Start(std::unique_ptr<CommitCall>(
        new CommitCall{std::move(call), *std::move(transaction), response->mutable_outcome()}));
    return reactor;
  }

 private:
  Node* const node_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAtomService(Node* node) { return std::make_unique<AtomService>(node); }

}  // namespace stm::server
