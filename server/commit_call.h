// A unary call that ends in a verdict: Commit, GetOutcome and ApplyAtom.
#ifndef STM_SERVER_COMMIT_CALL_H_
#define STM_SERVER_COMMIT_CALL_H_

#include <memory>
#include <utility>

#include "server/call.h"
#include "stm/v1/transaction_service.pb.h"

namespace stm::server {

struct CommitCall {
  UnaryCall call;
  std::unique_ptr<engine::Transaction> transaction;
  v1::CommitResponse* response;

  void Answer(const engine::Verdict& verdict, engine::Version installed) {
    Node* node = call.node();
    node->Saw(installed);
    call.Finish(FillCommit(verdict, installed, node->identity(), response));
  }

  // One allocation carries the call through the Loop and back.
  static void Start(std::unique_ptr<CommitCall> work) {
    engine::Loop* loop = work->call.node()->loop;
    loop->Post([work = std::move(work)]() mutable {
      engine::Engine* engine = work->call.node()->engine;
      std::unique_ptr<engine::Transaction> transaction = std::move(work->transaction);
      engine->Commit(std::move(transaction),
                     [work = std::move(work)](std::shared_ptr<const engine::Verdict> verdict, engine::Version installed) {
                       work->Answer(*verdict, installed);
                     });
    });
  }
};

}  // namespace stm::server

#endif  // STM_SERVER_COMMIT_CALL_H_
