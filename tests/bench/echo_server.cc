#include "tests/bench/echo_server.h"

#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <memory>

#include "tests/bench/echo.grpc.pb.h"

namespace stm::bench {

namespace {

class Held final : public grpc::ServerWriteReactor<v1::HoldResponse> {
 public:
  explicit Held(const std::string& payload) {
    response_.set_payload(payload);
    StartWrite(&response_);
  }
  void OnCancel() override { Finish(grpc::Status::CANCELLED); }
  void OnDone() override { delete this; }

 private:
  v1::HoldResponse response_;
};

class Bouncing final : public grpc::ServerBidiReactor<v1::EchoRequest, v1::EchoResponse> {
 public:
  Bouncing() { StartRead(&request_); }
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    response_.set_payload(request_.payload());
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (ok) return StartRead(&request_);
    Finish(grpc::Status::CANCELLED);
  }
  void OnDone() override { delete this; }

 private:
  v1::EchoRequest request_;
  v1::EchoResponse response_;
};

class EchoService final : public v1::EchoService::CallbackService {
  grpc::ServerUnaryReactor* Echo(grpc::CallbackServerContext* context, const v1::EchoRequest* request,
                                 v1::EchoResponse* response) override {
    response->set_payload(request->payload());
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerWriteReactor<v1::HoldResponse>* Hold(grpc::CallbackServerContext* /*context*/,
                                                   const v1::EchoRequest* request) override {
    return new Held(request->payload());
  }
  grpc::ServerBidiReactor<v1::EchoRequest, v1::EchoResponse>* Bounce(
      grpc::CallbackServerContext* /*context*/) override {
    return new Bouncing;
  }
};

}  // namespace

int ServeEcho(const std::string& address) {
  EchoService service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    std::fprintf(stderr, "bench: echo: can't listen on %s\n", address.c_str());
    return 1;
  }
  server->Wait();
  return 0;
}

}  // namespace stm::bench
