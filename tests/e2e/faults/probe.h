// Probe makes single calls, and shows what the daemon itself answers: nothing is sent again. One thread.
#ifndef STM_TESTS_E2E_FAULTS_PROBE_H_
#define STM_TESTS_E2E_FAULTS_PROBE_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "engine/values/wire.h"
#include "stm/v1/admin_service.grpc.pb.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "tests/e2e/kill/writer.h"

namespace stm::e2e {

class Probe {
 public:
  explicit Probe(const std::string& address)
      : channel_(Dial(address)),
        admin_(v1::AdminService::NewStub(channel_)),
        refs_(v1::RefService::NewStub(channel_)),
        transactions_(v1::TransactionService::NewStub(channel_)) {}

  // Sets an entry by a commit of its own. ttl_ms: of a new entry; 0: for ever.
  grpc::Status Set(const std::string& name, int64_t value, int64_t ttl_ms = 0) {
    v1::GetStatusResponse status;
    grpc::ClientContext asking;
    Within(&asking);
    asking.set_wait_for_ready(true);
    if (grpc::Status failed = admin_->GetStatus(&asking, v1::GetStatusRequest(), &status); !failed.ok()) return failed;
    v1::CommitRequest request;
    request.mutable_id()->set_transaction_id(stm::ToString(Uuid{random_(), random_()}));
    request.mutable_id()->set_writer(status.header().writer());
    request.mutable_id()->mutable_seen()->set_version(status.header().installed_version());
    request.mutable_id()->mutable_seen()->set_store(status.header().store());
    v1::Write* write = request.add_writes();
    write->set_name(name);
    if (ttl_ms > 0) {
      google::protobuf::Duration* ttl = write->mutable_definition()->mutable_ttl();
      ttl->set_seconds(ttl_ms / 1000);
      ttl->set_nanos(static_cast<int32_t>(ttl_ms % 1000 * 1000000));
    }
    stm::ToProto(Value::Integer(value), write->mutable_set());
    v1::CommitResponse response;
    grpc::ClientContext committing;
    Within(&committing);
    grpc::Status done = transactions_->Commit(&committing, request, &response);
    if (done.ok() && !response.has_committed()) {
      return grpc::Status(grpc::StatusCode::ABORTED, response.ShortDebugString());
    }
    return done;
  }

  struct Got {
    grpc::Status status;
    std::optional<int64_t> value;  // nullopt: absent
  };
  Got Get(const std::string& name) {
    v1::GetRefsRequest request;
    request.add_names(name);
    v1::GetRefsResponse response;
    grpc::ClientContext context;
    Within(&context);
    context.set_wait_for_ready(true);
    Got got;
    got.status = refs_->GetRefs(&context, request, &response);
    if (got.status.ok() && response.entries(0).has_value()) {
      got.value = stm::FromProto(response.entries(0).value())->integer();
    }
    return got;
  }

 private:
  static void Within(grpc::ClientContext* context) {
    context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  std::unique_ptr<v1::RefService::Stub> refs_;
  std::unique_ptr<v1::TransactionService::Stub> transactions_;
  std::mt19937_64 random_{std::random_device{}()};
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_FAULTS_PROBE_H_
