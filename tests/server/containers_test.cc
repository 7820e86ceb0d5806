// Values that containers keep, as the daemon serves them: configured ones, and those that clients offer.
#include <grpcpp/grpcpp.h>

#include <deque>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "catch2/catch.hpp"
#include "stm/v1/offer_service.grpc.pb.h"
#include "tests/server/running.h"

namespace stm::server {
namespace {

using Catch::Matchers::Contains;
using Code = grpc::StatusCode;

v1::CommitRequest InContainer(const std::string& name, const std::string& container, int64_t value) {
  v1::CommitRequest request;
  v1::Write* write = request.add_writes();
  write->set_name(name);
  write->mutable_set()->set_integer(value);
  write->mutable_definition()->set_container(container);
  return request;
}

grpc::Status Create(Running& stmd, const std::string& name, const std::string& container, int64_t value = 1) {
  v1::CommitResponse response;
  const grpc::Status status =
      stmd.transactions->Commit(Context().get(), InContainer(name, container, value), &response);
  if (status.ok()) CHECK(response.has_committed());
  return status;
}

grpc::Status Read(Running& stmd, const std::string& name, v1::GetRefsResponse* response) {
  v1::GetRefsRequest request;
  request.add_names(name);
  request.set_with_definition(true);
  return stmd.refs->GetRefs(Context().get(), request, response);
}

std::map<std::string, v1::Container> Containers(Running& stmd) {
  v1::ListContainersResponse response;
  const grpc::Status status = stmd.admin->ListContainers(Context().get(), {}, &response);
  INFO(status.error_message());
  REQUIRE(status.ok());
  CHECK(response.header().store() != 0);
  std::map<std::string, v1::Container> containers;
  for (const v1::Container& container : response.containers()) containers[container.name()] = container;
  return containers;
}

Running::Change WithFiles(const std::string& directory, const std::string& data_dir = "") {
  return [=](Config* config) {
    config->containers.push_back({"files", "file://" + directory});
    config->ephemeral = data_dir.empty();
    config->data_dir = data_dir;
  };
}

// What is in the files below a directory.
std::string All(const std::string& directory) {
  std::stringstream text;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) text << std::ifstream(entry.path()).rdbuf();
  }
  return text.str();
}

TEST_CASE(
    "containers: a ref's value is where its container keeps it, and is read back with the container's name") {
  Directory directory;
  Running stmd(WithFiles(directory / "values"));
  REQUIRE(Create(stmd, "/a", "files", 123456789).ok());
  CHECK_THAT(All(directory / "values"), Contains("123456789"));
  v1::GetRefsResponse read;
  REQUIRE(Read(stmd, "/a", &read).ok());
  CHECK(read.entries(0).value().integer() == 123456789);
  CHECK(read.entries(0).definition().container() == "files");
  stmd.Set("/inline", 1);
  REQUIRE(Read(stmd, "/inline", &read).ok());
  CHECK(read.entries(0).definition().container().empty());
}

TEST_CASE("containers: one that is not configured is refused with those that are") {
  Directory directory;
  Running stmd(WithFiles(directory / "values"));
  const grpc::Status refused = Create(stmd, "/a", "mongo");
  CHECK(refused.error_code() == Code::FAILED_PRECONDITION);
  CHECK_THAT(refused.error_message(), Contains("mongo") && Contains("inline, files"));
  CHECK(DetailOf(refused).expected() == "inline, files");
  const grpc::Status bad = Create(stmd, "/a", "No such name");
  CHECK(bad.error_code() == Code::INVALID_ARGUMENT);
  CHECK(DetailOf(bad).name() == "writes[0].definition.container");
}

TEST_CASE("containers: operators see each with its calls, and what is left to be done in it") {
  Directory directory;
  Running stmd([&](Config* config) {
    WithFiles(directory / "values")(config);
    // Nobody listens there.
    config->containers.push_back({"remote:down", "grpc://127.0.0.1:1"});
    config->containers.push_back({"mongo", "mongodb://app:s3cret@127.0.0.1:1/app"});
    config->engine.erase_after = absl::Seconds(1);
    config->engine.container_timeout = absl::Milliseconds(500);
    config->engine.history_age_max = absl::Milliseconds(500);
  });
  REQUIRE(Create(stmd, "/a", "files").ok());
  stmd.Set("/a", 2);
  const grpc::Status down = Create(stmd, "/b", "remote:down");
  CHECK(down.error_code() == Code::UNAVAILABLE);
  CHECK(DetailOf(down).reason() == v1::ERROR_REASON_CONTAINER_DOWN);

  auto containers = Containers(stmd);
  REQUIRE(containers.size() == 3);
  CHECK(containers["files"].healthy());
  CHECK(containers["files"].keeps_refs());
  CHECK(containers["files"].keeps_atoms());
  CHECK(containers["files"].calls() >= 2);
  CHECK(containers["files"].calls_failed() == 0);
  CHECK(containers["files"].has_latency_p50());
  CHECK(containers["files"].error().empty());
  CHECK_FALSE(containers["remote:down"].healthy());
  CHECK_THAT(containers["remote:down"].error(), Contains("remote:down"));
  CHECK(containers["remote:down"].has_error_at());
  CHECK(containers["mongo"].uri() == "mongodb://app:***@127.0.0.1:1/app");
  CHECK_THAT(stmd.Http("/metrics"),
             Contains("stmd_container_healthy{container=\"files\"} 1") &&
                 Contains("stmd_container_healthy{container=\"remote:down\"} 0") &&
                 Contains("stmd_container_calls_failed_total{container=\"files\"} 0") &&
                 Contains("stmd_container_to_erase{container=\"files\"}") && !Contains("s3cret"));
  CHECK(stmd.Metric("stmd_staged_total") >= 2);
  // The first value goes.
  Await([&] {
    return absl::StrContains(stmd.Http("/metrics"), "stmd_container_to_erase{container=\"files\"} 1\n");
  });
  Await([&] { return Containers(stmd)["files"].to_erase() == 0; });
}

TEST_CASE(
    "containers: a daemon without the container knows all but its entries, and says what is left there") {
  Directory directory;
  Running stmd(WithFiles(directory / "values", directory / "data"));
  REQUIRE(Create(stmd, "/a", "files", 7).ok());
  stmd.Set("/a", 8);
  stmd.Set("/inline", 1);
  stmd.Stop();
  const auto without = [&](Config* config) {
    config->ephemeral = false;
    config->data_dir = directory / "data";
    config->engine.erase_after = absl::Seconds(1);
  };
  stmd.Start(without);
  CHECK(stmd.Get("/inline").entries(0).value().integer() == 1);
  v1::GetRefsResponse read;
  const grpc::Status away = Read(stmd, "/a", &read);
  CHECK(away.error_code() == Code::FAILED_PRECONDITION);
  CHECK_THAT(away.error_message(), Contains("container files is not in this daemon's configuration"));
  v1::CommitResponse response;
  v1::CommitRequest set = InContainer("/a", "", 9);
  const grpc::Status refused = stmd.transactions->Commit(Context().get(), set, &response);
  CHECK(refused.error_code() == Code::FAILED_PRECONDITION);
  stmd.Set("/inline", 2);
  Await([&] { return Containers(stmd)["files"].to_erase() == 1; });
  CHECK_FALSE(Containers(stmd)["files"].healthy());
  CHECK_THAT(Containers(stmd)["files"].error(), Contains("configuration"));
  stmd.Stop();

  stmd.Start(WithFiles(directory / "values", directory / "data"));
  REQUIRE(Read(stmd, "/a", &read).ok());
  CHECK(read.entries(0).value().integer() == 8);
}

TEST_CASE("containers: a daemon does not start on one that can't be") {
  const auto message = [](const std::string& name, const std::string& uri) {
    Config config;
    config.ephemeral = true;
    config.http = "off";
    config.listen = {"127.0.0.1:0"};
    config.containers.push_back({name, uri});
    const auto started = Daemon::Start(config, {}, {});
    REQUIRE_FALSE(started.ok());
    CHECK(started.status().code() == absl::StatusCode::kInvalidArgument);
    return std::string(started.status().message());
  };
  CHECK_THAT(message("a", "redis://h"),
             Contains("container a") && Contains("redis") && Contains("mongodb://"));
  CHECK_THAT(message("a", "mongodb://app:s3cret@h/app?w=1"), Contains("container a") && !Contains("s3cret"));
  CHECK_THAT(message("remote:b", "grpc://nowhere"), Contains("container remote:b"));
}

// ---- Offers

// A client's offer by hand: answers from a map, until it is told to be silent.
class OfferingClient {
 public:
  OfferingClient(Running& stmd, const std::string& name) : stub_(v1::OfferService::NewStub(stmd.channel)) {
    context_ = Context();
    stream_ = stub_->OfferContainer(context_.get());
    v1::OfferContainerRequest request;
    request.set_offer(name);
    stream_->Write(request);
    v1::OfferContainerResponse response;
    stands_ = stream_->Read(&response) && response.call() == 0 &&
              response.question_case() == v1::OfferContainerResponse::QUESTION_NOT_SET;
    if (stands_) thread_ = std::thread([this] { Answer(); });
  }
  ~OfferingClient() { End(); }

  bool stands() const { return stands_; }
  void Silence() { silent_.store(true); }
  int asked() const { return asked_.load(); }
  grpc::Status End() {
    context_->TryCancel();
    return AwaitEnd();
  }
  grpc::Status AwaitEnd() {
    if (thread_.joinable()) thread_.join();
    if (stream_ == nullptr) return status_;
    status_ = stream_->Finish();
    stream_.reset();
    return status_;
  }
  void Write(const v1::OfferContainerRequest& request) { stream_->Write(request); }

 private:
  void Answer() {
    v1::OfferContainerResponse question;
    while (stream_->Read(&question)) {
      asked_.fetch_add(1);
      if (silent_.load()) continue;
      v1::OfferContainerRequest answer;
      answer.set_call(question.call());
      switch (question.question_case()) {
        case v1::OfferContainerResponse::kInit:
          answer.mutable_init();
          break;
        case v1::OfferContainerResponse::kDestroy:
          answer.mutable_destroy();
          break;
        case v1::OfferContainerResponse::kGetStateAt: {
          answer.mutable_get_state_at();
          const auto found = values_.find(question.get_state_at().stamp());
          if (found != values_.end()) *answer.mutable_get_state_at()->mutable_value() = found->second;
          break;
        }
        case v1::OfferContainerResponse::kSetStateAt:
          values_[question.set_state_at().stamp()] = question.set_state_at().value();
          answer.mutable_set_state_at();
          break;
        case v1::OfferContainerResponse::kDeleteStateAt:
          values_.erase(question.delete_state_at().stamp());
          answer.mutable_delete_state_at();
          break;
        default:
          answer.set_code(Code::UNIMPLEMENTED);
          answer.set_message("it keeps no atoms");
          break;
      }
      stream_->Write(answer);
    }
  }

  std::unique_ptr<v1::OfferService::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::OfferContainerRequest, v1::OfferContainerResponse>> stream_;
  grpc::Status status_;
  bool stands_ = false;
  std::atomic<bool> silent_{false};
  std::atomic<int> asked_{0};
  std::map<std::string, v1::Value> values_;  // the thread's
  std::thread thread_;
};

TEST_CASE(
    "offers: what a client offers keeps values until its stream ends, and then its entries alone are away") {
  Running stmd([](Config* config) { config->engine.container_cache_bytes_max = 0; });
  const grpc::Status before = Create(stmd, "/a", "offered:mine");
  CHECK(before.error_code() == Code::UNAVAILABLE);
  CHECK(DetailOf(before).reason() == v1::ERROR_REASON_CONTAINER_DOWN);
  {
    OfferingClient client(stmd, "mine");
    REQUIRE(client.stands());
    REQUIRE(Create(stmd, "/a", "offered:mine", 42).ok());
    stmd.Set("/inline", 1);
    CHECK(stmd.Get("/a").entries(0).value().integer() == 42);
    CHECK(Containers(stmd)["offered:mine"].healthy());
    CHECK_THAT(stmd.Http("/metrics"), Contains("stmd_streams_open{method=\"OfferContainer\"} 1"));
    CHECK(client.End().error_code() == Code::CANCELLED);
  }
  Await([&] { return Containers(stmd).count("offered:mine") == 0; });
  v1::GetRefsResponse read;
  const grpc::Status away = Read(stmd, "/a", &read);
  CHECK(away.error_code() == Code::UNAVAILABLE);
  CHECK_THAT(away.error_message(), Contains("offered:mine") && Contains("start the program"));
  CHECK(stmd.Get("/inline").entries(0).value().integer() == 1);
}

TEST_CASE(
    "offers: a client that does not answer delays who asked until the timeout, and is not asked what is too "
    "late") {
  Running stmd([](Config* config) { config->engine.container_timeout = absl::Milliseconds(300); });
  OfferingClient client(stmd, "mine");
  REQUIRE(client.stands());
  client.Silence();
  const grpc::Status late = Create(stmd, "/a", "offered:mine");
  CHECK(late.error_code() == Code::UNAVAILABLE);
  CHECK(DetailOf(late).reason() == v1::ERROR_REASON_CONTAINER_DOWN);
  CHECK(client.asked() >= 1);
  // An answer to a call that was given up, or never made, is passed over.
  v1::OfferContainerRequest stray;
  stray.set_call(999);
  client.Write(stray);
  CHECK_FALSE(Containers(stmd)["offered:mine"].healthy());
}

TEST_CASE("offers: a bad offer, a taken name, too many, and a second offer on one stream are refused") {
  Running stmd([](Config* config) { config->server.offers_max = 2; });
  OfferingClient first(stmd, "mine");
  REQUIRE(first.stands());
  {
    OfferingClient bad(stmd, "No Name");
    CHECK_FALSE(bad.stands());
    const grpc::Status status = bad.AwaitEnd();
    CHECK(status.error_code() == Code::INVALID_ARGUMENT);
    CHECK(DetailOf(status).name() == "offer");
  }
  {
    OfferingClient taken(stmd, "mine");
    CHECK_FALSE(taken.stands());
    CHECK(taken.AwaitEnd().error_code() == Code::FAILED_PRECONDITION);
  }
  OfferingClient second(stmd, "other");
  REQUIRE(second.stands());
  {
    OfferingClient many(stmd, "third");
    CHECK_FALSE(many.stands());
    const grpc::Status status = many.AwaitEnd();
    CHECK(status.error_code() == Code::RESOURCE_EXHAUSTED);
    CHECK(DetailOf(status).limit() == "offers_max");
  }
  v1::OfferContainerRequest again;
  again.set_offer("third");
  second.Write(again);
  CHECK(second.AwaitEnd().error_code() == Code::INVALID_ARGUMENT);
  // The first stands still.
  CHECK(Create(stmd, "/a", "offered:mine").ok());
  Await([&] { return Containers(stmd).count("offered:other") == 0; });
  OfferingClient third(stmd, "other");
  CHECK(third.stands());
}

TEST_CASE("offers: a daemon that stops ends them, and does not wait for its grace") {
  Running stmd;
  OfferingClient client(stmd, "mine");
  REQUIRE(client.stands());
  REQUIRE(Create(stmd, "/a", "offered:mine").ok());
  REQUIRE(stmd.daemon->Stop(absl::Hours(1)).ok());
  stmd.daemon.reset();
  CHECK(client.AwaitEnd().error_code() == Code::UNAVAILABLE);
}

}  // namespace
}  // namespace stm::server
