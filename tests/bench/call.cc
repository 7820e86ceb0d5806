#include "tests/bench/call.h"

#include <chrono>

#include "stm/v1/admin_service.grpc.pb.h"

namespace stm::bench {

namespace {

constexpr auto kCallDeadline = std::chrono::seconds(60);

char* Hex(uint64_t number, int digits, char* to) {
  for (int i = digits - 1; i >= 0; --i) *to++ = "0123456789abcdef"[(number >> (4 * i)) & 15];
  return to;
}

wire::GetStatusResponse StatusOf(const std::shared_ptr<grpc::Channel>& channel) {
  std::optional<grpc::ClientContext> context;
  Ready(&context);
  wire::GetStatusResponse response;
  CheckOk(wire::AdminService::NewStub(channel)->GetStatus(&*context, {}, &response), "GetStatus");
  return response;
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, grpc::ChannelArguments arguments) {
  // Channels of one address would share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

void Ready(std::optional<grpc::ClientContext>* context) {
  context->emplace();
  (*context)->set_deadline(std::chrono::system_clock::now() + kCallDeadline);
}

void CheckOk(const grpc::Status& status, const char* call) {
  if (status.ok()) return;
  Fail(std::string(call) + ": status " + std::to_string(status.error_code()) + ": " + status.error_message());
}

int64_t VersionOf(const wire::CommitResponse& response, const char* what) {
  if (!response.has_committed()) {
    Fail(std::string(what) + ": a commit that nothing stands against was answered: " + response.ShortDebugString());
  }
  return response.committed().version();
}

double WaitReady(const std::string& address, Child* stmd, double deadline_s) {
  const double from = Now();
  std::string last = "no answer";
  while (Now() - from < deadline_s) {
    if (!stmd->Running()) Fail("stmd ended before it was ready: " + stmd->exit_reason());
    // A new channel each time: one that failed backs off for a second.
    const auto stub = wire::AdminService::NewStub(MakeChannel(address));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    wire::GetStatusResponse response;
    const grpc::Status status = stub->GetStatus(&context, {}, &response);
    if (status.ok() && response.ready()) return Now() - from;
    last = status.ok() ? response.not_ready_because() : status.error_message();
    SleepSeconds(0.01);
  }
  Fail("stmd at " + address + " is not ready after " + std::to_string(deadline_s) + " s: " + last);
}

int64_t InstalledVersion(const std::string& address) {
  return StatusOf(MakeChannel(address)).header().installed_version();
}

void Known::Ask(const std::shared_ptr<grpc::Channel>& channel) {
  const wire::Header header = StatusOf(channel).header();
  store = header.store();
  writer = header.writer();
  Learn(header.installed_version());
}

Ids::Ids() {
  std::random_device device;
  std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
  random_.seed(seed);
}

void Ids::Next(const Known& known, wire::CommitId* id) {
  const uint64_t high = (random_() & ~0xf000ull) | 0x4000ull;
  const uint64_t low = (random_() & ~(3ull << 62)) | (2ull << 62);
  char text[37];
  char* at = Hex(high >> 32, 8, text);
  *at++ = '-';
  at = Hex(high >> 16, 4, at);
  *at++ = '-';
  at = Hex(high, 4, at);
  *at++ = '-';
  at = Hex(low >> 48, 4, at);
  *at++ = '-';
  at = Hex(low, 12, at);
  id->set_transaction_id(text, 36);
  id->set_writer(known.writer);
  id->mutable_seen()->set_version(known.newest.load(std::memory_order_relaxed));
  id->mutable_seen()->set_store(known.store);
}

}  // namespace stm::bench
