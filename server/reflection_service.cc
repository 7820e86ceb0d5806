#include "server/reflection_service.h"

#include <set>
#include <string>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/support/server_callback.h>

#include "absl/strings/str_cat.h"
#include "grpc/health/v1/health.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"

namespace stm::server {
namespace {

constexpr const char* kServices[] = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "stm.v1.AdminService",
    "stm.v1.AtomService",
    "stm.v1.LockService",
    "stm.v1.LogService",
    "stm.v1.OfferService",
    "stm.v1.RefService",
    "stm.v1.SessionService",
    "stm.v1.TransactionService",
    "stm.v1.WatchService",
};

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;

// The file and all it imports, each once.
template <typename Files>
void Add(const FileDescriptor* file, std::set<const FileDescriptor*>* added, Files* files) {
  if (!added->insert(file).second) return;
  google::protobuf::FileDescriptorProto message;
  file->CopyTo(&message);
  files->add_file_descriptor_proto(message.SerializeAsString());
  for (int i = 0; i < file->dependency_count(); ++i) Add(file->dependency(i), added, files);
}

template <typename Request, typename Response>
void Answer(const Request& request, Response* response) {
  // Of the files that are linked in; the health protocol's is, because it is named here.
  const DescriptorPool* pool = grpc::health::v1::HealthCheckRequest::descriptor()->file()->pool();
  response->set_valid_host(request.host());
  *response->mutable_original_request() = request;
  const auto refuse = [&](grpc::StatusCode code, std::string message) {
    response->mutable_error_response()->set_error_code(code);
    response->mutable_error_response()->set_error_message(std::move(message));
  };
  const auto answer_file = [&](const FileDescriptor* file, const std::string& name) {
    if (file == nullptr) return refuse(grpc::StatusCode::NOT_FOUND, absl::StrCat(name, " is not served here"));
    std::set<const FileDescriptor*> added;
    Add(file, &added, response->mutable_file_descriptor_response());
  };
  switch (request.message_request_case()) {
    case Request::kListServices:
      for (const char* service : kServices) response->mutable_list_services_response()->add_service()->set_name(service);
      return;
    case Request::kFileByFilename:
      return answer_file(pool->FindFileByName(request.file_by_filename()), request.file_by_filename());
    case Request::kFileContainingSymbol:
      return answer_file(pool->FindFileContainingSymbol(request.file_containing_symbol()),
                         request.file_containing_symbol());
    case Request::kFileContainingExtension:
      return refuse(grpc::StatusCode::NOT_FOUND, "stm.v1 has no extensions");
    case Request::kAllExtensionNumbersOfType:
      if (pool->FindMessageTypeByName(request.all_extension_numbers_of_type()) == nullptr) {
        return refuse(grpc::StatusCode::NOT_FOUND, "no such type");
      }
      response->mutable_all_extension_numbers_response()->set_base_type_name(request.all_extension_numbers_of_type());
      return;
    case Request::MESSAGE_REQUEST_NOT_SET:
      return refuse(grpc::StatusCode::INVALID_ARGUMENT, "no request is set");
  }
}

// One answer a request, in order.
template <typename Request, typename Response>
class Reactor final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  Reactor() { this->StartRead(&request_); }
  void OnReadDone(bool ok) override {
    if (!ok) return this->Finish(grpc::Status::OK);
    response_.Clear();
    Answer(request_, &response_);
    this->StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return this->Finish(grpc::Status::CANCELLED);
    this->StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  Request request_;
  Response response_;
};

template <typename Service, typename Request, typename Response>
class ReflectionService final : public Service {
 public:
  grpc::ServerBidiReactor<Request, Response>* ServerReflectionInfo(grpc::CallbackServerContext* /*context*/) override {
    return new Reactor<Request, Response>;
  }
};

}  // namespace

std::array<std::unique_ptr<grpc::Service>, 2> MakeReflectionServices() {
  namespace v1 = grpc::reflection::v1;
  namespace v1alpha = grpc::reflection::v1alpha;
  return {std::make_unique<ReflectionService<v1::ServerReflection::CallbackService, v1::ServerReflectionRequest,
                                             v1::ServerReflectionResponse>>(),
          std::make_unique<ReflectionService<v1alpha::ServerReflection::CallbackService,
                                             v1alpha::ServerReflectionRequest, v1alpha::ServerReflectionResponse>>()};
}

}  // namespace stm::server
