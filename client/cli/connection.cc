#include "client/cli/connection.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include <google/protobuf/any.pb.h>
#include <google/protobuf/empty.pb.h>
#include <google/protobuf/unknown_field_set.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "stm/v1/admin_service.grpc.pb.h"
#include "stm/v1/log_service.grpc.pb.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "stm/v1/watch_service.grpc.pb.h"

namespace stm::cli {
namespace {

// With several addresses, a silent one is not waited for longer than this.
constexpr absl::Duration kConnectWait = absl::Seconds(2);
// A stream may last for ever; finding its daemon may not.
constexpr absl::Duration kStreamConnectWait = absl::Seconds(10);

// grpc-status-details-bin holds a google.rpc.Status, of which only field 3, repeated Any details, is read here.
std::optional<v1::ErrorDetail> DetailIn(const std::string& details) {
  google::protobuf::Empty status;
  if (details.empty() || !status.ParseFromString(details)) return std::nullopt;
  const google::protobuf::UnknownFieldSet& fields = status.GetReflection()->GetUnknownFields(status);
  for (int i = 0; i < fields.field_count(); ++i) {
    const google::protobuf::UnknownField& field = fields.field(i);
    if (field.number() != 3 || field.type() != google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED) continue;
    google::protobuf::Any any;
    v1::ErrorDetail detail;
    if (any.ParseFromString(field.length_delimited()) && any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

absl::Status FromGrpc(const grpc::Status& status) {
  absl::Status out(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (auto detail = DetailIn(status.error_details())) SetDetail(*detail, &out);
  return out;
}

void SetDeadline(absl::Time deadline, grpc::ClientContext* context) {
  if (deadline != absl::InfiniteFuture()) context->set_deadline(absl::ToChronoTime(deadline));
}

bool IsAway(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable && !DetailOf(status).has_value();
}

// gRPC wraps the system's own words: "failed to connect to all addresses; last error: UNKNOWN: ...: Connection refused".
std::string Reason(const absl::Status& status) {
  if (status.code() == absl::StatusCode::kDeadlineExceeded) return "no answer";
  std::string text(status.message());
  size_t colon = text.rfind(": ");
  return colon == std::string::npos ? text : text.substr(colon + 2);
}

}  // namespace

struct Connection::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : admin(v1::AdminService::NewStub(channel)),
        refs(v1::RefService::NewStub(channel)),
        transactions(v1::TransactionService::NewStub(channel)),
        watches(v1::WatchService::NewStub(channel)),
        log(v1::LogService::NewStub(channel)),
        generic(channel) {}

  std::unique_ptr<v1::AdminService::Stub> admin;
  std::unique_ptr<v1::RefService::Stub> refs;
  std::unique_ptr<v1::TransactionService::Stub> transactions;
  std::unique_ptr<v1::WatchService::Stub> watches;
  std::unique_ptr<v1::LogService::Stub> log;
  grpc::GenericStub generic;
};

namespace {

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // A coordination daemon is next door: a proxy of the environment is never the way to it.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

Connection::Connection(std::vector<std::string> addresses) : addresses_(std::move(addresses)) {}
Connection::~Connection() = default;

void Connection::Learn(const v1::Header& header) {
  if (header.store() == 0) return;
  // Within a store versions only grow; of another, everything is new.
  if (header.store() == header_.store() && header.installed_version() < header_.installed_version()) {
    header_.set_writer(header.writer());
  } else {
    header_ = header;
  }
}

absl::Status Connection::Failed(absl::Status status) {
  if (auto detail = DetailOf(status); detail && detail->has_header()) Learn(detail->header());
  // A broken connection may hide behind a daemon that is starting again: look around before the next call.
  if (IsAway(status)) stubs_.reset();
  return status;
}

absl::Status Connection::Connect(absl::Time deadline) {
  if (stubs_) return absl::OkStatus();
  std::string tried;
  bool silent = true;  // all of them
  for (size_t i = 0; i < addresses_.size(); ++i) {
    size_t at = (at_ + i) % addresses_.size();
    auto stubs = std::make_unique<Stubs>(ChannelTo(addresses_[at]));
    grpc::ClientContext context;
    SetDeadline(addresses_.size() == 1 ? deadline : std::min(deadline, absl::Now() + kConnectWait), &context);
    v1::GetStatusResponse response;
    absl::Status status = FromGrpc(stubs->admin->GetStatus(&context, v1::GetStatusRequest(), &response));
    if (status.ok() || DetailOf(status).has_value()) {
      if (status.ok()) Learn(response.header());
      at_ = at;
      stubs_ = std::move(stubs);
      return absl::OkStatus();
    }
    if (status.code() == absl::StatusCode::kUnimplemented) {
      return absl::UnimplementedError(absl::StrCat(addresses_[at], " is no stmd (", std::string(status.message()),
                                                   "): give stmd's address with --address or STM_ADDRESS"));
    }
    silent = silent && status.code() == absl::StatusCode::kDeadlineExceeded;
    absl::StrAppend(&tried, tried.empty() ? "" : ", ", addresses_[at], ": ", Reason(status));
  }
  if (silent) {
    return absl::DeadlineExceededError(
        absl::StrCat(tried, " in time: see whether stmd hangs there, or allow more with --timeout"));
  }
  return absl::UnavailableError(
      absl::StrCat("no daemon answers (", tried, "): start stmd, or give its address with --address or STM_ADDRESS"));
}

template <typename Response, typename = void>
struct HasHeader : std::false_type {};
template <typename Response>
struct HasHeader<Response, std::void_t<decltype(std::declval<Response>().header())>> : std::true_type {};

template <typename Response, typename Call>
absl::StatusOr<Response> Connection::Ask(absl::Time deadline, const Call& call) {
  for (;;) {
    absl::Status connected = Connect(deadline);
    if (!connected.ok()) return connected;
    grpc::ClientContext context;
    SetDeadline(deadline, &context);
    Response response;
    absl::Status status = FromGrpc(call(*stubs_, &context, &response));
    if (status.ok()) {
      if constexpr (HasHeader<Response>::value) Learn(response.header());
      return response;
    }
    status = Failed(std::move(status));
    if (IsAway(status) && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(20));
      continue;
    }
    std::optional<absl::Duration> after = RetryAfter(status);
    bool passes = status.code() == absl::StatusCode::kUnavailable ||
                  status.code() == absl::StatusCode::kResourceExhausted;
    if (!passes || !after || absl::Now() + *after >= deadline) return status;
    absl::SleepFor(*after);
  }
}

absl::StatusOr<v1::GetStatusResponse> Connection::GetStatus(absl::Time deadline) {
  return Ask<v1::GetStatusResponse>(deadline, [](Stubs& stubs, auto* context, auto* response) {
    return stubs.admin->GetStatus(context, v1::GetStatusRequest(), response);
  });
}

absl::StatusOr<v1::GetConfigResponse> Connection::GetConfig(absl::Time deadline) {
  return Ask<v1::GetConfigResponse>(deadline, [](Stubs& stubs, auto* context, auto* response) {
    return stubs.admin->GetConfig(context, v1::GetConfigRequest(), response);
  });
}

absl::StatusOr<v1::GetClusterResponse> Connection::GetCluster(absl::Time deadline) {
  return Ask<v1::GetClusterResponse>(deadline, [](Stubs& stubs, auto* context, auto* response) {
    return stubs.admin->GetCluster(context, v1::GetClusterRequest(), response);
  });
}

absl::StatusOr<v1::ListContainersResponse> Connection::ListContainers(absl::Time deadline) {
  return Ask<v1::ListContainersResponse>(deadline, [](Stubs& stubs, auto* context, auto* response) {
    return stubs.admin->ListContainers(context, v1::ListContainersRequest(), response);
  });
}

absl::Status Connection::Drain(const v1::DrainRequest& request, absl::Time deadline) {
  absl::Status connected = Connect(deadline);
  if (!connected.ok()) return connected;
  grpc::ClientContext context;
  SetDeadline(deadline, &context);
  v1::DrainResponse response;
  absl::Status status = FromGrpc(stubs_->admin->Drain(&context, request, &response));
  if (!status.ok()) return Failed(std::move(status));
  stubs_.reset();
  return absl::OkStatus();
}

absl::Status Connection::Backup(int64_t version, absl::Time deadline,
                                const std::function<absl::Status(const v1::BackupResponse&)>& take) {
  absl::Status connected = Connect(std::min(deadline, absl::Now() + kStreamConnectWait));
  if (!connected.ok()) return connected;
  grpc::ClientContext context;
  SetDeadline(deadline, &context);
  v1::BackupRequest request;
  request.set_version(version);
  auto stream = stubs_->admin->Backup(&context, request);
  v1::BackupResponse response;
  while (stream->Read(&response)) {
    absl::Status taken = take(response);
    if (taken.ok()) continue;
    context.TryCancel();
    stream->Finish();
    return taken;
  }
  absl::Status status = FromGrpc(stream->Finish());
  return status.ok() ? status : Failed(std::move(status));
}

absl::StatusOr<v1::RestoreResponse> Connection::Restore(absl::Time deadline,
                                                        const std::function<absl::StatusOr<std::string>()>& next) {
  absl::Status connected = Connect(std::min(deadline, absl::Now() + kStreamConnectWait));
  if (!connected.ok()) return connected;
  grpc::ClientContext context;
  SetDeadline(deadline, &context);
  v1::RestoreResponse response;
  auto stream = stubs_->admin->Restore(&context, &response);
  v1::RestoreRequest request;
  for (;;) {
    absl::StatusOr<std::string> chunk = next();
    if (!chunk.ok()) {
      context.TryCancel();
      stream->Finish();
      return chunk.status();
    }
    if (chunk->empty()) {
      stream->WritesDone();
      break;
    }
    request.set_chunk(*std::move(chunk));
    if (!stream->Write(request)) break;  // the daemon has ended it, and says why
  }
  absl::Status status = FromGrpc(stream->Finish());
  if (!status.ok()) return Failed(std::move(status));
  header_.Clear();
  Learn(response.header());
  return response;
}

absl::StatusOr<v1::GetRefsResponse> Connection::GetRefs(v1::GetRefsRequest request, absl::Time deadline) {
  return Ask<v1::GetRefsResponse>(deadline, [&](Stubs& stubs, auto* context, auto* response) {
    return stubs.refs->GetRefs(context, request, response);
  });
}

absl::StatusOr<v1::ListRefsResponse> Connection::ListRefs(v1::ListRefsRequest request, absl::Time deadline) {
  return Ask<v1::ListRefsResponse>(deadline, [&](Stubs& stubs, auto* context, auto* response) {
    return stubs.refs->ListRefs(context, request, response);
  });
}

absl::StatusOr<v1::GetHistoryResponse> Connection::GetHistory(v1::GetHistoryRequest request, absl::Time deadline) {
  return Ask<v1::GetHistoryResponse>(deadline, [&](Stubs& stubs, auto* context, auto* response) {
    return stubs.refs->GetHistory(context, request, response);
  });
}

absl::StatusOr<bool> Connection::IsServing(absl::Time deadline) {
  absl::Status connected = Connect(deadline);
  if (!connected.ok()) return connected;
  grpc::ClientContext context;
  SetDeadline(deadline, &context);
  grpc::CompletionQueue queue;
  grpc::ByteBuffer request;  // an empty HealthCheckRequest: the whole server
  grpc::Slice nothing;
  request = grpc::ByteBuffer(&nothing, 1);
  auto call = stubs_->generic.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  grpc::ByteBuffer response;
  grpc::Status status;
  call->StartCall();
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return Failed(FromGrpc(status));
  grpc::Slice slice;
  if (!response.DumpToSingleSlice(&slice).ok()) return absl::InternalError("health: the answer cannot be read");
  // HealthCheckResponse: field 1, a varint; 1 is SERVING.
  return slice.size() == 2 && slice.begin()[0] == 0x08 && slice.begin()[1] == 1;
}

absl::StatusOr<v1::Header> Connection::Hello(absl::Time deadline) {
  absl::Status connected = Connect(deadline);
  if (!connected.ok()) return connected;
  if (header_.store() != 0) return header_;
  absl::StatusOr<v1::GetStatusResponse> status = GetStatus(deadline);
  if (!status.ok()) return status.status();
  return status->header();
}

absl::StatusOr<v1::CommitResponse> Connection::Commit(const v1::CommitRequest& request, absl::Time deadline) {
  absl::Status connected = Connect(deadline);
  if (!connected.ok()) return connected;
  grpc::ClientContext context;
  SetDeadline(deadline, &context);
  v1::CommitResponse response;
  absl::Status status = FromGrpc(stubs_->transactions->Commit(&context, request, &response));
  if (!status.ok()) return Failed(std::move(status));
  Learn(response.header());
  return response;
}

absl::StatusOr<v1::CommitResponse> Connection::Outcome(const v1::CommitId& id, absl::Time deadline) {
  absl::Status connected = Connect(deadline);
  if (!connected.ok()) return connected;
  grpc::ClientContext context;
  SetDeadline(deadline, &context);
  v1::GetOutcomeRequest request;
  *request.mutable_id() = id;
  v1::GetOutcomeResponse response;
  absl::Status status = FromGrpc(stubs_->transactions->GetOutcome(&context, request, &response));
  if (!status.ok()) return Failed(std::move(status));
  Learn(response.outcome().header());
  return std::move(*response.mutable_outcome());
}

absl::Status Connection::Watch(const v1::WatchRequest& request, absl::Time deadline,
                               const std::function<bool(const v1::WatchResponse&)>& take) {
  absl::Status connected = Connect(std::min(deadline, absl::Now() + kStreamConnectWait));
  if (!connected.ok()) return connected;
  grpc::ClientContext context;
  SetDeadline(deadline, &context);
  auto reader = stubs_->watches->Watch(&context, request);
  v1::WatchResponse response;
  while (reader->Read(&response)) {
    if (response.has_opened()) Learn(response.opened());
    if (!take(response)) {
      context.TryCancel();
      reader->Finish();
      return absl::OkStatus();
    }
  }
  return Failed(FromGrpc(reader->Finish()));
}

absl::Status Connection::ReadLog(const v1::ReadLogRequest& request, absl::Time deadline,
                                 const std::function<bool(const v1::ReadLogResponse&)>& take) {
  absl::Status connected = Connect(std::min(deadline, absl::Now() + kStreamConnectWait));
  if (!connected.ok()) return connected;
  grpc::ClientContext context;
  SetDeadline(deadline, &context);
  auto reader = stubs_->log->ReadLog(&context, request);
  v1::ReadLogResponse response;
  while (reader->Read(&response)) {
    if (response.has_opened()) Learn(response.opened().header());
    if (!take(response)) {
      context.TryCancel();
      reader->Finish();
      return absl::OkStatus();
    }
  }
  return Failed(FromGrpc(reader->Finish()));
}

}  // namespace stm::cli
