// What calls of every service have in common: how they end, and their deadline on the Loop's clock.
#ifndef STM_SERVER_CALL_H_
#define STM_SERVER_CALL_H_

#include <grpc/support/time.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/error.h"
#include "server/connections.h"
#include "server/convert.h"
#include "server/node.h"
#include "stm/v1/common.pb.h"

namespace stm::server {

inline grpc::Status ToGrpc(const absl::Status& status, const Node& node) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
      StatusDetailsOf(status, node.identity(), node.installed.load(std::memory_order_relaxed)));
}

// Infinite: the call has none. Only a call that has one pays for reading clocks.
inline absl::Duration DeadlineOf(const grpc::CallbackServerContext& context, engine::Loop* loop) {
  const gpr_timespec deadline = context.raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return absl::InfiniteDuration();
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  return loop->Now() + absl::Seconds(left.tv_sec) + absl::Nanoseconds(left.tv_nsec);
}

// FAILED_PRECONDITION, UNSUPPORTED: what needs a log of the daemon's own has none here. `instead`: what
// works.
inline absl::Status NeedsLog(absl::string_view rpc, absl::string_view instead) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_UNSUPPORTED);
  detail.set_name(std::string(rpc));
  return engine::WithDetail(
      absl::FailedPreconditionError(absl::StrCat(
          rpc, ": this daemon keeps no log of its own, ZooKeeper orders its commits and keeps the newest: ",
          instead)),
      detail);
}

// A unary call until it is answered, once. One that is dropped unanswered, as a stop does, answers
// UNAVAILABLE.
class UnaryCall {
 public:
  // `connection`: where the answer goes, if it may be one of many; null: it leaves at once.
  UnaryCall(Node* node, Method method, grpc::ServerUnaryReactor* reactor,
            std::shared_ptr<Connection> connection = nullptr)
      : node_(node),
        reactor_(reactor),
        connection_(std::move(connection)),
        began_(node->loop->Now()),
        method_(method) {}
  UnaryCall(UnaryCall&& other) noexcept
      : node_(other.node_),
        reactor_(std::exchange(other.reactor_, nullptr)),
        connection_(std::move(other.connection_)),
        began_(other.began_),
        method_(other.method_) {}
  UnaryCall& operator=(UnaryCall&&) = delete;
  ~UnaryCall() {
    if (reactor_ != nullptr) Finish(engine::NotReady("the daemon stops", kRetryAfter));
  }

  Node* node() const { return node_; }

  // Nothing of the request or response may be touched afterwards.
  void Finish(const absl::Status& status) {
    node_->metrics.Called(method_, status.code(), node_->loop->Now() - began_);
    Corks::Answering(connection_);
    std::exchange(reactor_, nullptr)->Finish(ToGrpc(status, *node_));
  }

 private:
  Node* node_;
  grpc::ServerUnaryReactor* reactor_;
  std::shared_ptr<Connection> connection_;
  absl::Duration began_;
  Method method_;
};

}  // namespace stm::server

#endif  // STM_SERVER_CALL_H_
