// Any calls to a live daemon, of every method of every service of stm.v1: messages that are well formed and mean
// anything, and bytes that are no message at all. The daemon neither crashes nor hangs, and commits afterwards as if
// nothing had been. An input is a list of calls; see Next().
#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/stubs/logging.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include "server/daemon.h"
#include "stm/v1/admin_service.grpc.pb.h"
#include "stm/v1/atom_service.grpc.pb.h"
#include "stm/v1/lock_service.grpc.pb.h"
#include "stm/v1/log_service.grpc.pb.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/session_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "stm/v1/watch_service.grpc.pb.h"

namespace {

namespace pb = google::protobuf;
using namespace stm;

const bool kQuiet = (spdlog::set_level(spdlog::level::off), pb::SetLogHandler(nullptr), true);

// A call that lasts is ended by its client after this.
constexpr std::chrono::milliseconds kCallMax(100);
// What the daemon may take for a commit between two inputs, on a busy machine; above, it hangs.
constexpr std::chrono::seconds kCommitMax(60);
constexpr int kCallsMax = 8;
constexpr int kMessagesMax = 4;  // of one call
constexpr int kAnswersMax = 8;   // that are read of one call
constexpr int kDepthMax = 6;     // of a random message
constexpr int kInputsPerDaemon = 2000;

const pb::ServiceDescriptor* const kServices[] = {
    v1::GetStatusRequest::descriptor()->file()->service(0), v1::ApplyAtomRequest::descriptor()->file()->service(0),
    v1::ReadLogRequest::descriptor()->file()->service(0),   v1::GetRefsRequest::descriptor()->file()->service(0),
    v1::CommitRequest::descriptor()->file()->service(0),    v1::WatchRequest::descriptor()->file()->service(0),
    v1::OpenSessionRequest::descriptor()->file()->service(0), v1::AcquireLockRequest::descriptor()->file()->service(0),
};

// The input, as choices. When it is used up all choices are 0.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint64_t Below(uint64_t n) { return Byte() % n; }
  uint64_t Number() {
    // Small ones and edges most of the time: those mean something.
    switch (Below(8)) {
      case 0:
        return 0;
      case 1:
        return ~uint64_t{0};
      case 2:
        return uint64_t{1} << 63;
      case 3: {
        uint64_t number = 0;
        for (int i = 0; i < 8; ++i) number = number << 8 | Byte();
        return number;
      }
      default:
        return Byte();
    }
  }
  std::string Bytes(size_t size) {
    size = std::min(size, size_);
    std::string bytes(reinterpret_cast<const char*>(data_), size);
    data_ += size;
    size_ -= size;
    return bytes;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

std::string Text(Choices* choices) {
  static const char* const kTexts[] = {
      "/a", "/a/b", "/a/", "/", "", "/.", "/.stm/x", "a", "/b", "[:and :int [:min 0]]", "[:re \"a+\"]", ":int",
      "8c9f1f2e-5a0e-4f6e-9a53-1c1c1c1c1c1c", "00000000-0000-0000-0000-000000000001", "\"\xff\"", "1e400",
  };
  const uint64_t which = choices->Below(24);
  if (which < sizeof(kTexts) / sizeof(*kTexts)) return kTexts[which];
  return choices->Bytes(choices->Byte());
}

void Fill(Choices* choices, pb::Message* message, int depth);

void FillField(Choices* choices, pb::Message* message, const pb::FieldDescriptor* field, int depth) {
  using F = pb::FieldDescriptor;
  const pb::Reflection* r = message->GetReflection();
  const bool many = field->is_repeated();
  switch (field->cpp_type()) {
    case F::CPPTYPE_INT32: {
      const int32_t n = static_cast<int32_t>(choices->Number());
      many ? r->AddInt32(message, field, n) : r->SetInt32(message, field, n);
      break;
    }
    case F::CPPTYPE_INT64: {
      const int64_t n = static_cast<int64_t>(choices->Number());
      many ? r->AddInt64(message, field, n) : r->SetInt64(message, field, n);
      break;
    }
    case F::CPPTYPE_UINT32: {
      const uint32_t n = static_cast<uint32_t>(choices->Number());
      many ? r->AddUInt32(message, field, n) : r->SetUInt32(message, field, n);
      break;
    }
    case F::CPPTYPE_UINT64: {
      const uint64_t n = choices->Number();
      many ? r->AddUInt64(message, field, n) : r->SetUInt64(message, field, n);
      break;
    }
    case F::CPPTYPE_DOUBLE: {
      const double n = static_cast<double>(static_cast<int64_t>(choices->Number())) / 3;
      many ? r->AddDouble(message, field, n) : r->SetDouble(message, field, n);
      break;
    }
    case F::CPPTYPE_FLOAT: {
      const float n = static_cast<float>(static_cast<int64_t>(choices->Number())) / 3;
      many ? r->AddFloat(message, field, n) : r->SetFloat(message, field, n);
      break;
    }
    case F::CPPTYPE_BOOL: {
      const bool b = choices->Below(2) == 1;
      many ? r->AddBool(message, field, b) : r->SetBool(message, field, b);
      break;
    }
    case F::CPPTYPE_ENUM: {
      // One above all that are known, too.
      const int n = static_cast<int>(choices->Below(static_cast<uint64_t>(field->enum_type()->value_count()) + 1));
      many ? r->AddEnumValue(message, field, n) : r->SetEnumValue(message, field, n);
      break;
    }
    case F::CPPTYPE_STRING: {
      std::string text = Text(choices);
      many ? r->AddString(message, field, std::move(text)) : r->SetString(message, field, std::move(text));
      break;
    }
    case F::CPPTYPE_MESSAGE:
      Fill(choices, many ? r->AddMessage(message, field) : r->MutableMessage(message, field), depth + 1);
      break;
  }
}

void Fill(Choices* choices, pb::Message* message, int depth) {
  const int fields = message->GetDescriptor()->field_count();
  if (depth > kDepthMax || fields == 0) return;
  for (uint64_t left = choices->Below(6); left > 0 && !choices->empty(); --left) {
    FillField(choices, message, message->GetDescriptor()->field(static_cast<int>(choices->Below(
                                    static_cast<uint64_t>(fields)))), depth);
  }
}

grpc::ByteBuffer Buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// A daemon in memory, and channels to it.
class Live {
 public:
  Live() {
    server::Config config;
    config.ephemeral = true;
    config.http = "off";
    config.listen = {"127.0.0.1:0"};
    config.engine.value_bytes_max = 4096;
    config.engine.transaction_bytes_max = 16384;
    config.server.drain_grace = absl::Milliseconds(100);
    auto started = server::Daemon::Start(config, {}, [](absl::Status) { abort(); });
    assert(started.ok());
    daemon_ = *std::move(started);
    channel_ = grpc::CreateChannel(daemon_->addresses()[0], grpc::InsecureChannelCredentials());
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
    transactions_ = v1::TransactionService::NewStub(channel_);
    admin_ = v1::AdminService::NewStub(channel_);
  }
  ~Live() {
    channel_.reset();
    const absl::Status stopped = daemon_->Stop(absl::Milliseconds(100));
    assert(stopped.ok());
  }

  // Sends `messages`, reads some answers, and ends it.
  void Call(const std::string& method, const std::vector<grpc::ByteBuffer>& messages) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCallMax);
    grpc::CompletionQueue queue;
    const auto call = stub_->PrepareCall(&context, method, &queue);
    const auto done = [&queue] {
      void* tag = nullptr;
      bool ok = false;
      const bool more = queue.Next(&tag, &ok);
      assert(more);
      return ok;
    };
    call->StartCall(nullptr);
    bool open = done();
    for (size_t i = 0; open && i < messages.size(); ++i) {
      call->Write(messages[i], nullptr);
      open = done();
    }
    if (open) {
      call->WritesDone(nullptr);
      open = done();
    }
    for (int i = 0; open && i < kAnswersMax; ++i) {
      grpc::ByteBuffer answer;
      call->Read(&answer, nullptr);
      open = done();
    }
    if (open) context.TryCancel();
    grpc::Status status;
    call->Finish(&status, nullptr);
    done();
    queue.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue.Next(&tag, &ok)) {
    }
  }

  // As any client would.
  void Commit() {
    const auto until = std::chrono::system_clock::now() + kCommitMax;
    v1::GetStatusResponse status;
    grpc::ClientContext asking;
    asking.set_deadline(until);
    grpc::Status answered = admin_->GetStatus(&asking, v1::GetStatusRequest(), &status);
    Must(answered.ok(), answered, "GetStatus");
    v1::CommitRequest request;
    char id[40];
    std::snprintf(id, sizeof(id), "fffffffe-0000-4000-8000-%012llx", static_cast<unsigned long long>(++commits_));
    request.mutable_id()->set_transaction_id(id);
    request.mutable_id()->set_writer(status.header().writer());
    request.mutable_id()->mutable_seen()->set_version(status.header().installed_version());
    request.mutable_id()->mutable_seen()->set_store(status.header().store());
    request.add_writes()->set_name("/sane/" + std::to_string(commits_));
    request.mutable_writes(0)->mutable_set()->set_integer(commits_);
    v1::CommitResponse response;
    grpc::ClientContext committing;
    committing.set_deadline(until);
    answered = transactions_->Commit(&committing, request, &response);
    Must(answered.ok() && response.has_committed(), answered, response.ShortDebugString());
  }

 private:
  static void Must(bool holds, const grpc::Status& status, const std::string& answer) {
    if (holds) return;
    std::fprintf(stderr, "a commit like any other failed: %d \"%s\" %s\n", status.error_code(),
                 status.error_message().c_str(), answer.c_str());
    abort();
  }

  std::unique_ptr<server::Daemon> daemon_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
  std::unique_ptr<v1::TransactionService::Stub> transactions_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  int64_t commits_ = 0;
};

struct Chosen {
  std::string method;
  bool drains = false;
  std::vector<grpc::ByteBuffer> messages;
};

// Bytes of the input: the method; how many messages and whether they are well formed; the messages.
Chosen Next(Choices* choices) {
  static std::vector<const pb::MethodDescriptor*> methods;
  if (methods.empty()) {
    for (const pb::ServiceDescriptor* service : kServices) {
      for (int i = 0; i < service->method_count(); ++i) methods.push_back(service->method(i));
    }
  }
  const pb::MethodDescriptor* method = methods[choices->Below(methods.size())];
  const uint8_t how = choices->Byte();
  Chosen chosen;
  chosen.method = "/" + method->service()->full_name() + "/" + method->name();
  chosen.drains = method->name() == "Drain";
  const int messages = method->client_streaming() ? how % (kMessagesMax + 1) : 1;
  for (int i = 0; i < messages; ++i) {
    if (how >= 192) {
      chosen.messages.push_back(Buffer(choices->Bytes(choices->Byte())));
      continue;
    }
    std::unique_ptr<pb::Message> message(
        pb::MessageFactory::generated_factory()->GetPrototype(method->input_type())->New());
    Fill(choices, message.get(), 0);
    // A string that is no UTF-8 goes out as it is: only parsing minds.
    chosen.messages.push_back(Buffer(message->SerializePartialAsString()));
  }
  return chosen;
}

std::unique_ptr<Live> live;
int inputs = 0;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (live == nullptr || ++inputs % kInputsPerDaemon == 0) {
    live.reset();
    live = std::make_unique<Live>();
  }
  Choices choices(data, size);
  bool drained = false;
  for (int i = 0; i < kCallsMax && !choices.empty(); ++i) {
    const Chosen chosen = Next(&choices);
    live->Call(chosen.method, chosen.messages);
    drained = drained || chosen.drains;
  }
  // It may have said no to that too.
  if (drained) {
    live.reset();
    live = std::make_unique<Live>();
  }
  live->Commit();
  return 0;
}
