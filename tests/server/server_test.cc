// The daemon in this process, spoken to over a Unix socket by gRPC.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/server/running.h"

namespace stm::server {
namespace {

using Catch::Matchers::Contains;
using Code = grpc::StatusCode;

// --- Unary ---

TEST_CASE("server: what was committed is read, with its version, kind and definition") {
  Running stmd;
  v1::CommitRequest commit;
  commit.mutable_meta()->set_label("signup");
  v1::Write* write = commit.add_writes();
  write->set_name("/a");
  write->mutable_create()->set_integer(1);
  write->mutable_definition()->mutable_validator()->set_edn("[:min 0]");
  write = commit.add_writes();
  write->set_name("/b");
  write->mutable_apply()->mutable_set()->set_edn("[1 2]");
  const v1::CommitResponse committed = stmd.Commit(commit);
  REQUIRE(committed.has_committed());
  CHECK(committed.header().installed_version() >= committed.committed().version());

  v1::GetRefsRequest get;
  get.add_names("/b");
  get.add_names("/a");
  get.add_names("/absent");
  get.set_with_definition(true);
  v1::GetRefsResponse got;
  REQUIRE(stmd.refs->GetRefs(Context().get(), get, &got).ok());
  REQUIRE(got.entries_size() == 3);
  CHECK(got.entries(0).value().vector().items_size() == 2);
  CHECK(got.entries(1).value().integer() == 1);
  CHECK(got.entries(1).version() == committed.committed().version());
  CHECK(got.entries(1).definition().has_validator());
  CHECK_FALSE(got.entries(2).has_value());
  CHECK(got.snapshot() == committed.committed().version());

  // As seen after a commute that is still to come.
  get.add_pending()->set_name("/a");
  get.mutable_pending(0)->mutable_apply()->mutable_add()->set_integer(5);
  REQUIRE(stmd.refs->GetRefs(Context().get(), get, &got).ok());
  CHECK(got.entries(1).value().integer() == 6);

  // And the validator says no, with its rule.
  v1::CommitRequest bad;
  bad.add_writes()->set_name("/a");
  bad.mutable_writes(0)->mutable_apply()->mutable_add()->set_integer(-2);
  const v1::CommitResponse rejected = stmd.Commit(bad);
  REQUIRE(rejected.has_rejected());
  CHECK(rejected.rejected().cause() == v1::REJECT_CAUSE_VALIDATOR);
  CHECK(rejected.rejected().name() == "/a");
}

TEST_CASE("server: a stale read conflicts, with the cause and the fresh value") {
  Running stmd;
  const int64_t first = stmd.Set("/a", 1);
  stmd.Set("/a", 2);
  v1::CommitRequest commit;
  commit.set_snapshot(first);
  commit.add_reads("/a");
  commit.add_writes()->set_name("/b");
  commit.mutable_writes(0)->mutable_set()->set_integer(1);
  const v1::CommitResponse response = stmd.Commit(commit);
  REQUIRE(response.has_conflict());
  CHECK(response.conflict().causes(0).name() == "/a");
  REQUIRE(response.conflict().fresh_size() == 1);
  CHECK(response.conflict().fresh(0).value().integer() == 2);
}

TEST_CASE("server: one id has one verdict, however often it is sent, and GetOutcome tells it") {
  Running stmd;
  v1::CommitRequest commit;
  *commit.mutable_id() = stmd.NewId();
  commit.add_writes()->set_name("/n");
  commit.mutable_writes(0)->mutable_create()->set_integer(0);
  commit.add_writes()->set_name("/n");
  commit.mutable_writes(1)->mutable_apply()->mutable_add()->set_integer(1);
  const v1::CommitResponse first = stmd.Commit(commit);
  REQUIRE(first.has_committed());
  commit.mutable_id()->set_resend(true);
  CHECK(stmd.Commit(commit).committed().version() == first.committed().version());
  CHECK(stmd.Get("/n").entries(0).value().integer() == 1);

  v1::GetOutcomeRequest ask;
  *ask.mutable_id() = commit.id();
  v1::GetOutcomeResponse outcome;
  REQUIRE(stmd.transactions->GetOutcome(Context().get(), ask, &outcome).ok());
  CHECK(outcome.outcome().committed().version() == first.committed().version());
  *ask.mutable_id() = stmd.NewId();
  REQUIRE(stmd.transactions->GetOutcome(Context().get(), ask, &outcome).ok());
  CHECK(outcome.outcome().has_not_committed());
}

TEST_CASE("server: an atom changes by operation, and is no ref") {
  Running stmd;
  v1::ApplyAtomRequest apply;
  apply.set_name("/atom");
  apply.mutable_operation()->mutable_set()->set_integer(4);
  v1::ApplyAtomResponse applied;
  REQUIRE(stmd.atoms->ApplyAtom(Context().get(), apply, &applied).ok());
  REQUIRE(applied.outcome().has_committed());
  CHECK(applied.outcome().committed().results(0).integer() == 4);
  CHECK(stmd.Get("/atom").entries(0).kind() == v1::ENTRY_KIND_ATOM);
  v1::CommitRequest as_ref;
  as_ref.add_writes()->set_name("/atom");
  as_ref.mutable_writes(0)->mutable_set()->set_integer(5);
  CHECK(stmd.Commit(as_ref).rejected().cause() == v1::REJECT_CAUSE_KIND);
}

TEST_CASE("server: a listing's pages are of one snapshot and hold each entry once") {
  Running stmd;
  for (int i = 0; i < 7; ++i) stmd.Set(absl::StrCat("/list/", i), i);
  v1::ListRefsRequest list;
  list.set_prefix("/list/");
  list.set_page_size(3);
  std::vector<std::string> names;
  int64_t snapshot = 0;
  for (int page = 0;; ++page) {
    v1::ListRefsResponse response;
    REQUIRE(stmd.refs->ListRefs(Context().get(), list, &response).ok());
    if (page == 0) {
      snapshot = response.snapshot();
      stmd.Set("/list/55", 1);  // later than the listing
    }
    CHECK(response.snapshot() == snapshot);
    for (const v1::Entry& entry : response.entries()) names.push_back(entry.name());
    if (response.next_page_token().empty()) break;
    list.set_page_token(response.next_page_token());
  }
  CHECK(names == std::vector<std::string>{"/list/0", "/list/1", "/list/2", "/list/3", "/list/4", "/list/5", "/list/6"});
  list.Clear();
  list.set_prefix("/");
  list.set_count_only(true);
  v1::ListRefsResponse count;
  REQUIRE(stmd.refs->ListRefs(Context().get(), list, &count).ok());
  CHECK(count.count() == 8);
}

TEST_CASE("server: an entry's history tells who, when and why, newest first") {
  Running stmd;
  for (int i = 0; i < 3; ++i) {
    v1::CommitRequest commit;
    commit.mutable_meta()->set_label(absl::StrCat("step ", i));
    commit.add_writes()->set_name("/h");
    commit.mutable_writes(0)->mutable_set()->set_integer(i);
    commit.add_writes()->set_name("/other");
    commit.mutable_writes(1)->mutable_set()->set_integer(i);
    stmd.Commit(commit);
  }
  v1::GetHistoryRequest history;
  history.set_name("/h");
  history.set_limit(2);
  v1::GetHistoryResponse response;
  REQUIRE(stmd.refs->GetHistory(Context().get(), history, &response).ok());
  REQUIRE(response.commits_size() == 2);
  CHECK(response.commits(0).meta().label() == "step 2");
  REQUIRE(response.commits(0).changes_size() == 1);
  CHECK(response.commits(0).changes(0).after().integer() == 2);
  CHECK(response.commits(0).changes(0).before().integer() == 1);
  history.set_before_version(response.commits(1).version());
  REQUIRE(stmd.refs->GetHistory(Context().get(), history, &response).ok());
  REQUIRE(response.commits_size() == 1);
  CHECK(response.commits(0).meta().label() == "step 0");
  CHECK_FALSE(response.commits(0).changes(0).has_before());
}

TEST_CASE("server: a bad request is answered by the name of the field, with a header") {
  Running stmd;
  v1::GetRefsRequest get;
  get.add_names("no");
  v1::GetRefsResponse response;
  const grpc::Status status = stmd.refs->GetRefs(Context().get(), get, &response);
  CHECK(status.error_code() == Code::INVALID_ARGUMENT);
  const v1::ErrorDetail detail = DetailOf(status);
  CHECK(detail.reason() == v1::ERROR_REASON_BAD_VALUE);
  CHECK(detail.name() == "names[0]");
}

TEST_CASE("server: versions of another store are STORE_CHANGED") {
  Running stmd;
  v1::GetRefsRequest get;
  get.add_names("/a");
  get.mutable_at()->mutable_seen()->set_store(12345);
  v1::GetRefsResponse response;
  const grpc::Status status = stmd.refs->GetRefs(Context().get(), get, &response);
  CHECK(status.error_code() == Code::OUT_OF_RANGE);
  CHECK(DetailOf(status).reason() == v1::ERROR_REASON_STORE_CHANGED);
}

TEST_CASE("server: AwaitChange answers when something read changes, and ends with its deadline or its caller") {
  Running stmd;
  const int64_t version = stmd.Set("/q", 1);
  v1::AwaitChangeRequest await;
  await.set_snapshot(version);
  await.add_reads("/q");
  v1::AwaitChangeResponse response;
  grpc::Status status;
  std::thread waiter([&] { status = stmd.transactions->AwaitChange(Context().get(), await, &response); });
  Await([&] { return stmd.Metric("stmd_sleepers") == 1; });
  stmd.Set("/q", 2);
  waiter.join();
  REQUIRE(status.ok());
  CHECK(response.snapshot() > version);
  REQUIRE(response.fresh_size() == 1);
  CHECK(response.fresh(0).value().integer() == 2);

  await.set_snapshot(response.snapshot());
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  CHECK(stmd.transactions->AwaitChange(context.get(), await, &response).error_code() == Code::DEADLINE_EXCEEDED);
  Await([&] { return stmd.Metric("stmd_sleepers") == 0; });

  auto cancelled = Context();
  std::thread sleeper([&] { status = stmd.transactions->AwaitChange(cancelled.get(), await, &response); });
  Await([&] { return stmd.Metric("stmd_sleepers") == 1; });
  cancelled->TryCancel();
  sleeper.join();
  CHECK(status.error_code() == Code::CANCELLED);
  Await([&] { return stmd.Metric("stmd_sleepers") == 0; });
}

TEST_CASE("server: status and config tell marks, bounds and origins") {
  Running stmd([](Config* config) { config->engine.value_bytes_max = 2048; });
  v1::GetStatusResponse status;
  REQUIRE(stmd.admin->GetStatus(Context().get(), {}, &status).ok());
  CHECK(status.ready());
  CHECK(status.version() == kVersion);
  CHECK(status.coordinator() == "memory");
  CHECK(status.limits().at("value_bytes_max") == 2048);
  CHECK(status.header().store() != 0);
  CHECK(status.header().writer() != 0);
  v1::GetConfigResponse config;
  REQUIRE(stmd.admin->GetConfig(Context().get(), {}, &config).ok());
  REQUIRE(config.settings_size() == 1);
  CHECK(config.settings(0).origin() == "flag");

  v1::GetClusterResponse cluster;
  const grpc::Status alone = stmd.admin->GetCluster(Context().get(), {}, &cluster);
  CHECK(alone.error_code() == Code::FAILED_PRECONDITION);
  CHECK(DetailOf(alone).reason() == v1::ERROR_REASON_UNSUPPORTED);

  v1::CommitRequest large;
  large.add_writes()->set_name("/a");
  large.mutable_writes(0)->mutable_set()->set_text(std::string(3000, 'x'));
  v1::CommitResponse response;
  const grpc::Status refused = stmd.transactions->Commit(Context().get(), large, &response);
  CHECK(refused.error_code() == Code::RESOURCE_EXHAUSTED);
  CHECK(DetailOf(refused).limit() == "value_bytes_max");
  CHECK(DetailOf(refused).limit_value() == 2048);
}

TEST_CASE("server: probes and metrics answer") {
  Running stmd;
  stmd.Set("/a", 1);
  CHECK_THAT(stmd.Http("/livez"), Contains("200 OK") && Contains("ok"));
  CHECK_THAT(stmd.Http("/readyz"), Contains("200 OK"));
  CHECK_THAT(stmd.Http("/metrics"), Contains("stmd_rpc_total{method=\"Commit\",code=\"OK\"} 1") &&
                                        Contains("stmd_commits_total 1"));
  CHECK_THAT(stmd.Http("/other"), Contains("404"));
}

TEST_CASE("server: a taken address is refused by its name") {
  Running stmd;
  Config config;
  config.ephemeral = true;
  config.http = "off";
  config.listen = {stmd.daemon->addresses()[0]};
  const auto second = Daemon::Start(config, {}, {});
  REQUIRE_FALSE(second.ok());
  CHECK_THAT(std::string(second.status().message()), Contains(config.listen[0]));
  config.listen = {"127.0.0.1:0"};
  config.http = stmd.daemon->http_address();
  const auto third = Daemon::Start(config, {}, {});
  REQUIRE_FALSE(third.ok());
  CHECK_THAT(std::string(third.status().message()), Contains(config.http));
}

// --- Pipeline ---

using PipelineStream = grpc::ClientReaderWriter<v1::PipelineRequest, v1::PipelineResponse>;

v1::PipelineCall* AddCommit(v1::PipelineRequest* request, uint64_t call, const std::string& name, int64_t value) {
  v1::PipelineCall* added = request->add_calls();
  added->set_call(call);
  v1::Write* write = added->mutable_commit()->add_writes();
  write->set_name(name);
  write->mutable_set()->set_integer(value);
  return added;
}

TEST_CASE("pipeline: every call is answered once, good ones and bad ones, and the stream ends well") {
  Running stmd;
  auto context = Context();
  const std::unique_ptr<PipelineStream> stream = stmd.transactions->Pipeline(context.get());
  constexpr uint64_t kMessages = 20;
  constexpr uint64_t kCalls = 50;
  std::thread writer([&] {
    for (uint64_t m = 0; m < kMessages; ++m) {
      v1::PipelineRequest request;
      for (uint64_t c = 0; c < kCalls; ++c) {
        const uint64_t call = m * kCalls + c + 1;
        switch (c % 5) {
          case 0:
          case 1:
            AddCommit(&request, call, absl::StrCat("/p/", call % 7), static_cast<int64_t>(call));
            break;
          case 2:
            request.add_calls()->set_call(call);
            request.mutable_calls()->rbegin()->mutable_get()->add_names("/p/1");
            break;
          case 3:
            request.add_calls()->set_call(call);
            request.mutable_calls()->rbegin()->mutable_list()->set_prefix("/p/");
            break;
          case 4:
            request.add_calls()->set_call(call);
            request.mutable_calls()->rbegin()->mutable_get()->add_names("bad");
            break;
        }
      }
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
  });
  std::set<uint64_t> answered;
  v1::PipelineResponse response;
  while (stream->Read(&response)) {
    for (const v1::PipelineAnswer& answer : response.answers()) {
      CHECK(answered.insert(answer.call()).second);
      switch ((answer.call() - 1) % kCalls % 5) {
        case 0:
        case 1:
          CHECK(answer.commit().has_committed());
          break;
        case 2:
          CHECK(answer.get().entries_size() == 1);
          break;
        case 3:
          CHECK(answer.has_list());
          break;
        case 4:
          CHECK(answer.code() == Code::INVALID_ARGUMENT);
          CHECK(answer.error().name() == "names[0]");
          CHECK(answer.error().header().store() != 0);
          break;
      }
    }
  }
  writer.join();
  CHECK(stream->Finish().ok());
  CHECK(answered.size() == kMessages * kCalls);
}

TEST_CASE("pipeline: an await is answered by a change, by its cancel, and refused under a number in use") {
  Running stmd;
  const int64_t version = stmd.Set("/w", 1);
  auto context = Context();
  const std::unique_ptr<PipelineStream> stream = stmd.transactions->Pipeline(context.get());
  v1::PipelineRequest request;
  for (uint64_t call : {1, 2, 2}) {
    v1::PipelineCall* await = request.add_calls();
    await->set_call(call);
    await->mutable_await()->set_snapshot(version);
    await->mutable_await()->add_reads(call == 1 ? "/w" : "/never");
  }
  REQUIRE(stream->Write(request));
  v1::PipelineResponse response;
  const auto next = [&] {
    REQUIRE(stream->Read(&response));
    REQUIRE(response.answers_size() == 1);
    return response.answers(0);
  };
  v1::PipelineAnswer answer = next();
  CHECK(answer.call() == 2);
  CHECK(answer.code() == Code::INVALID_ARGUMENT);
  stmd.Set("/w", 2);
  answer = next();
  CHECK(answer.call() == 1);
  CHECK(answer.await().fresh(0).value().integer() == 2);
  request.Clear();
  request.add_calls()->set_cancel(2);
  REQUIRE(stream->Write(request));
  answer = next();
  CHECK(answer.call() == 2);
  CHECK(answer.code() == Code::CANCELLED);
  stream->WritesDone();
  CHECK_FALSE(stream->Read(&response));
  CHECK(stream->Finish().ok());
}

TEST_CASE("pipeline: too many calls in a message end the stream by the bound's name") {
  Running stmd;
  auto context = Context();
  const std::unique_ptr<PipelineStream> stream = stmd.transactions->Pipeline(context.get());
  v1::PipelineRequest request;
  v1::PipelineCall* await = request.add_calls();
  await->set_call(1);
  await->mutable_await()->add_reads("/never");
  REQUIRE(stream->Write(request));
  for (int i = 0; i < 1025; ++i) AddCommit(&request, i + 2, "/a", i);
  stream->Write(request);
  v1::PipelineResponse response;
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  CHECK(status.error_code() == Code::RESOURCE_EXHAUSTED);
  CHECK(DetailOf(status).limit() == "pipeline_calls_max");
  Await([&] { return stmd.Metric("stmd_sleepers") == 0; });
}

TEST_CASE("pipeline: streams that break off at any moment leave nothing behind") {
  Running stmd;
  for (int round = 0; round < 120; ++round) {
    auto context = Context();
    const std::unique_ptr<PipelineStream> stream = stmd.transactions->Pipeline(context.get());
    v1::PipelineRequest request;
    for (int i = 0; i < 30; ++i) AddCommit(&request, i + 1, absl::StrCat("/x/", i), i);
    v1::PipelineCall* await = request.add_calls();
    await->set_call(99);
    await->mutable_await()->add_reads("/never");
    if (round % 4 != 0) stream->Write(request);
    v1::PipelineResponse response;
    if (round % 4 == 2) stream->Read(&response);
    if (round % 4 == 3) {
      std::thread canceller([&] { context->TryCancel(); });
      while (stream->Read(&response)) {
      }
      canceller.join();
    }
    context->TryCancel();
    CHECK(stream->Finish().error_code() == Code::CANCELLED);
  }
  Await([&] { return absl::StrContains(stmd.Http("/metrics"), "stmd_streams_open{method=\"Pipeline\"} 0"); });
  CHECK(stmd.Metric("stmd_sleepers") == 0);
  stmd.Set("/still", 1);
}

TEST_CASE("pipeline: answers larger than a message are spread over several") {
  Running stmd;
  v1::CommitRequest commit;
  commit.add_writes()->set_name("/large");
  commit.mutable_writes(0)->mutable_set()->set_text(std::string(900 << 10, 'x'));
  stmd.Commit(commit);
  auto context = Context();
  const std::unique_ptr<PipelineStream> stream = stmd.transactions->Pipeline(context.get());
  v1::PipelineRequest request;
  for (uint64_t i = 1; i <= 20; ++i) {
    request.add_calls()->set_call(i);
    request.mutable_calls()->rbegin()->mutable_get()->add_names("/large");
  }
  REQUIRE(stream->Write(request));
  stream->WritesDone();
  int answers = 0;
  v1::PipelineResponse response;
  while (stream->Read(&response)) {
    CHECK(response.ByteSizeLong() < 4 << 20);
    answers += response.answers_size();
  }
  CHECK(stream->Finish().ok());
  CHECK(answers == 20);
}

TEST_CASE("pipeline: a reader that takes nothing is cut off by name, and others go on") {
  Running stmd([](Config* config) {
    config->server.slow_reader_grace = absl::Milliseconds(50);
    config->server.pipeline_unread_bytes_max = 256 << 10;
  });
  v1::CommitRequest commit;
  commit.add_writes()->set_name("/large");
  commit.mutable_writes(0)->mutable_set()->set_text(std::string(100 << 10, 'x'));
  stmd.Commit(commit);
  auto context = Context();
  const std::unique_ptr<PipelineStream> stream = stmd.transactions->Pipeline(context.get());
  for (uint64_t m = 0; m < 10; ++m) {
    v1::PipelineRequest request;
    for (uint64_t c = 0; c < 64; ++c) {
      request.add_calls()->set_call(m * 64 + c + 1);
      request.mutable_calls()->rbegin()->mutable_get()->add_names("/large");
    }
    if (!stream->Write(request)) break;
  }
  Await([&] { return stmd.Metric("stmd_pipelines_cut_total") == 1; });
  stmd.Set("/other", 1);
  v1::PipelineResponse response;
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  CHECK(status.error_code() == Code::RESOURCE_EXHAUSTED);
  CHECK(DetailOf(status).reason() == v1::ERROR_REASON_SLOW_READER);
  CHECK(DetailOf(status).limit() == "pipeline_unread_bytes_max");
}

// --- Watch ---

using WatchReader = grpc::ClientReader<v1::WatchResponse>;

TEST_CASE("watch: initial entries, synced, then each commit once, in order, with before and after") {
  Running stmd;
  stmd.Set("/w/a", 1);
  const int64_t at = stmd.Set("/elsewhere", 1);
  v1::WatchRequest request;
  request.mutable_selector()->add_prefixes("/w/");
  request.set_initial(true);
  auto context = Context();
  const std::unique_ptr<WatchReader> reader = stmd.watches->Watch(context.get(), request);
  v1::WatchResponse response;
  REQUIRE(reader->Read(&response));
  CHECK(response.opened().store() != 0);
  REQUIRE(reader->Read(&response));
  CHECK(response.initial().name() == "/w/a");
  REQUIRE(reader->Read(&response));
  CHECK(response.synced() == at);

  v1::CommitRequest commit;
  commit.add_writes()->set_name("/w/a");
  commit.mutable_writes(0)->mutable_set()->set_integer(2);
  commit.add_writes()->set_name("/elsewhere");
  commit.mutable_writes(1)->mutable_set()->set_integer(2);
  commit.add_writes()->set_name("/w/b");
  commit.mutable_writes(2)->mutable_set()->set_integer(3);
  commit.add_records()->set_edn("#blog.Moved{}");
  commit.mutable_meta()->set_label("move");
  const int64_t version = stmd.Commit(commit).committed().version();
  stmd.Set("/elsewhere", 3);
  stmd.Set("/w/b", 4);
  REQUIRE(reader->Read(&response));
  CHECK(response.commit().version() == version);
  CHECK(response.commit().meta().label() == "move");
  CHECK(response.commit().records_size() == 1);
  REQUIRE(response.commit().changes_size() == 2);
  CHECK(response.commit().changes(0).before().integer() == 1);
  CHECK(response.commit().changes(0).after().integer() == 2);
  CHECK_FALSE(response.commit().changes(1).has_before());
  REQUIRE(reader->Read(&response));
  CHECK(response.commit().version() == version + 2);
  context->TryCancel();
  CHECK(reader->Finish().error_code() == Code::CANCELLED);
  Await([&] { return stmd.Metric("stmd_watches") == 0; });
}

TEST_CASE("watch: resumed after a version it misses nothing and repeats nothing") {
  Running stmd;
  const int64_t seen = stmd.Set("/r", 0);
  for (int i = 1; i <= 2000; ++i) stmd.Set("/r", i);
  v1::WatchRequest request;
  request.mutable_selector()->add_names("/r");
  request.set_after_version(seen);
  auto context = Context();
  const std::unique_ptr<WatchReader> reader = stmd.watches->Watch(context.get(), request);
  v1::WatchResponse response;
  REQUIRE(reader->Read(&response));
  REQUIRE(reader->Read(&response));
  CHECK(response.synced() == seen);
  for (int i = 1; i <= 2000; ++i) {
    REQUIRE(reader->Read(&response));
    REQUIRE(response.commit().changes(0).after().integer() == i);
  }
  context->TryCancel();
  reader->Finish();
}

TEST_CASE("watch: a version that is no more, or another store, is a gap with where to begin") {
  Running stmd;
  const int64_t newest = stmd.Set("/a", 1);
  for (const bool store : {false, true}) {
    v1::WatchRequest request;
    request.set_after_version(store ? newest : newest + 1000);
    if (store) request.mutable_seen()->set_store(4711);
    auto context = Context();
    const std::unique_ptr<WatchReader> reader = stmd.watches->Watch(context.get(), request);
    v1::WatchResponse response;
    REQUIRE(reader->Read(&response));
    REQUIRE(reader->Read(&response));
    REQUIRE(response.has_gap());
    CHECK(response.gap().resume_version() == newest);
    CHECK(response.gap().store() == stmd.Header().store());
    CHECK_FALSE(reader->Read(&response));
    CHECK(reader->Finish().ok());
  }
}

TEST_CASE("watch: an idle watch is told how far it is") {
  Running stmd;
  const int64_t newest = stmd.Set("/a", 1);
  v1::WatchRequest request;
  request.mutable_selector()->add_prefixes("/quiet/");
  request.mutable_progress_every()->set_nanos(100'000'000);
  auto context = Context();
  const std::unique_ptr<WatchReader> reader = stmd.watches->Watch(context.get(), request);
  v1::WatchResponse response;
  while (reader->Read(&response) && !response.has_progress()) {
  }
  CHECK(response.progress() == newest);
  context->TryCancel();
  reader->Finish();
}

TEST_CASE("watch: a slow reader is cut off with the version to resume from, and loses nothing") {
  Running stmd([](Config* config) {
    config->server.watch_unread_events_max = 64;
    config->server.watch_unread_bytes_max = 64 << 20;
  });
  v1::WatchRequest request;
  request.mutable_selector()->add_names("/s");
  auto context = Context();
  std::unique_ptr<WatchReader> reader = stmd.watches->Watch(context.get(), request);
  v1::WatchResponse response;
  REQUIRE(reader->Read(&response));
  REQUIRE(reader->Read(&response));
  REQUIRE(response.has_synced());
  int commits = 0;
  const auto commit_one = [&] {
    v1::CommitRequest commit;
    commit.add_writes()->set_name("/s");
    commit.mutable_writes(0)->mutable_set()->set_text(absl::StrCat(++commits, std::string(50'000, 'x')));
    stmd.Commit(commit);
  };
  while (stmd.Metric("stmd_watches_cut_total") == 0) {
    for (int i = 0; i < 50; ++i) commit_one();
    REQUIRE(commits < 100'000);
  }
  int64_t last = 0;
  int read = 0;
  while (reader->Read(&response)) {
    last = response.commit().version();
    ++read;
  }
  const grpc::Status status = reader->Finish();
  CHECK(status.error_code() == Code::RESOURCE_EXHAUSTED);
  const v1::ErrorDetail detail = DetailOf(status);
  CHECK(detail.reason() == v1::ERROR_REASON_SLOW_READER);
  CHECK(detail.limit() == "watch_unread_events_max");
  CHECK(detail.resume_version() == last);
  CHECK(read < commits);

  request.set_after_version(detail.resume_version());
  context = Context();
  reader = stmd.watches->Watch(context.get(), request);
  while (read < commits && reader->Read(&response)) {
    if (!response.has_commit()) continue;
    ++read;
    REQUIRE(absl::StartsWith(response.commit().changes(0).after().text(), absl::StrCat(read, "x")));
  }
  CHECK(read == commits);
  context->TryCancel();
  reader->Finish();
}

TEST_CASE("watch: a conflating watch is never cut and ends at the newest value") {
  Running stmd([](Config* config) { config->server.watch_unread_events_max = 16; });
  v1::WatchRequest request;
  request.mutable_selector()->add_prefixes("/c/");
  request.set_conflate(true);
  auto context = Context();
  const std::unique_ptr<WatchReader> reader = stmd.watches->Watch(context.get(), request);
  v1::WatchResponse response;
  REQUIRE(reader->Read(&response));
  REQUIRE(reader->Read(&response));
  constexpr int kCommits = 400;
  int64_t newest = 0;
  for (int i = 1; i <= kCommits; ++i) {
    v1::CommitRequest commit;
    commit.add_writes()->set_name("/c/text");
    commit.mutable_writes(0)->mutable_set()->set_text(std::string(20'000, 'x'));
    commit.add_writes()->set_name("/c/n");
    commit.mutable_writes(1)->mutable_set()->set_integer(i);
    newest = stmd.Commit(commit).committed().version();
  }
  int64_t value = 0;
  int events = 0;
  do {
    REQUIRE(reader->Read(&response));
    if (!response.has_commit()) continue;
    ++events;
    for (const v1::Change& change : response.commit().changes()) {
      if (change.name() != "/c/n") continue;
      // What came before is what was sent before.
      CHECK(change.before().integer() == value);
      CHECK(change.after().integer() > value);
      value = change.after().integer();
    }
  } while (response.commit().version() < newest);
  CHECK(value == kCommits);
  CHECK(events < kCommits);
  CHECK(stmd.Metric("stmd_watches_cut_total") == 0);
  context->TryCancel();
  reader->Finish();
}

TEST_CASE("watch: a large commit comes in parts that belong together") {
  Running stmd;
  v1::WatchRequest request;
  auto context = Context();
  const std::unique_ptr<WatchReader> reader = stmd.watches->Watch(context.get(), request);
  v1::WatchResponse response;
  REQUIRE(reader->Read(&response));
  REQUIRE(reader->Read(&response));
  v1::CommitRequest commit;
  for (int i = 0; i < 40; ++i) {
    v1::Write* write = commit.add_writes();
    write->set_name(absl::StrCat("/l/", i));
    write->mutable_set()->set_text(std::string(100'000, 'x'));
  }
  const int64_t version = stmd.Commit(commit).committed().version();
  int changes = 0;
  int parts = 0;
  do {
    REQUIRE(reader->Read(&response));
    CHECK(response.commit().version() == version);
    changes += response.commit().changes_size();
    ++parts;
  } while (response.commit().more());
  CHECK(changes == 40);
  CHECK(parts > 2);
  context->TryCancel();
  reader->Finish();
}

TEST_CASE("watch: many watchers are all told, and may leave at any moment") {
  Running stmd;
  constexpr int kWatchers = 100;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<WatchReader>> readers;
  v1::WatchRequest request;
  request.mutable_selector()->add_names("/m");
  v1::WatchResponse response;
  for (int i = 0; i < kWatchers; ++i) {
    contexts.push_back(Context());
    readers.push_back(stmd.watches->Watch(contexts.back().get(), request));
    REQUIRE(readers.back()->Read(&response));
    REQUIRE(readers.back()->Read(&response));
  }
  for (int value = 1; value <= 3; ++value) stmd.Set("/m", value);
  for (auto& reader : readers) {
    for (int value = 1; value <= 3; ++value) {
      REQUIRE(reader->Read(&response));
      CHECK(response.commit().changes(0).after().integer() == value);
    }
  }
  std::atomic<bool> stop{false};
  std::thread committer([&] {
    v1::CommitRequest commit;
    commit.add_writes()->set_name("/m");
    commit.mutable_writes(0)->mutable_set()->set_integer(9);
    v1::CommitResponse committed;
    while (!stop.load()) stmd.transactions->Commit(Context().get(), commit, &committed);
  });
  for (auto& context : contexts) context->TryCancel();
  for (auto& reader : readers) CHECK(reader->Finish().error_code() == Code::CANCELLED);
  stop.store(true);
  committer.join();
  Await([&] { return stmd.Metric("stmd_watches") == 0; });
}

// --- Log ---

using LogReader = grpc::ClientReader<v1::ReadLogResponse>;

TEST_CASE("log: commits come back in order from a version, by selector, tag and records alone") {
  Running stmd;
  const int64_t first = stmd.Record("#blog.CreateUser{:n 1}", "/u/1");
  stmd.Set("/other", 1);
  stmd.Record("#shop.Sale{}", "/u/2");
  const int64_t last = stmd.Record("#blog.DeleteUser{:n 1}");
  const auto read = [&](const v1::ReadLogRequest& request) {
    auto context = Context();
    const std::unique_ptr<LogReader> reader = stmd.logs->ReadLog(context.get(), request);
    v1::ReadLogResponse response;
    REQUIRE(reader->Read(&response));
    CHECK(response.opened().first_version() == first);
    std::vector<v1::CommitEvent> commits;
    while (reader->Read(&response)) commits.push_back(response.commit());
    CHECK(reader->Finish().ok());
    return commits;
  };
  v1::ReadLogRequest request;
  CHECK(read(request).size() == 4);
  request.set_from_version(first + 1);
  request.set_to_version(first + 2);
  CHECK(read(request).size() == 2);
  request.Clear();
  request.add_tags("blog.*");
  CHECK(read(request).size() == 2);
  request.add_tags("shop.Sale");
  request.set_records_only(true);
  const auto records = read(request);
  REQUIRE(records.size() == 3);
  CHECK(records[0].changes_size() == 0);
  CHECK(records[0].records(0).tagged().tag() == "blog.CreateUser");
  CHECK(records[2].version() == last);
  request.Clear();
  request.mutable_selector()->add_prefixes("/u/");
  const auto selected = read(request);
  REQUIRE(selected.size() == 2);
  CHECK(selected[1].changes(0).name() == "/u/2");
}

TEST_CASE("log: following it goes on as commits come, and asked for less than is kept it fails with the first version") {
  Running stmd([](Config* config) { config->local.memory_log_bytes = 4096; });
  const int64_t seen = stmd.Set("/f", 0);
  v1::ReadLogRequest request;
  request.set_from_version(seen + 1);
  request.set_follow(true);
  auto context = Context();
  const std::unique_ptr<LogReader> reader = stmd.logs->ReadLog(context.get(), request);
  v1::ReadLogResponse response;
  REQUIRE(reader->Read(&response));
  for (int i = 1; i <= 20; ++i) {
    stmd.Set("/f", i);
    REQUIRE(reader->Read(&response));
    CHECK(response.commit().changes(0).after().integer() == i);
    CHECK(response.commit().version() == seen + i);
  }
  context->TryCancel();
  CHECK(reader->Finish().error_code() == Code::CANCELLED);

  for (int i = 0; i < 200; ++i) stmd.Set("/f", i);
  request.set_from_version(seen);
  context = Context();
  const std::unique_ptr<LogReader> late = stmd.logs->ReadLog(context.get(), request);
  CHECK_FALSE(late->Read(&response));
  const grpc::Status status = late->Finish();
  CHECK(status.error_code() == Code::OUT_OF_RANGE);
  CHECK(DetailOf(status).limit() == "first_version");
  CHECK(DetailOf(status).limit_value() > seen);
}

// --- Stopping and starting ---

TEST_CASE("daemon: a drain refuses commits, ends watches and followers, answers, and asks for the stop") {
  Running stmd;
  stmd.Set("/a", 1);
  auto context = Context();
  const std::unique_ptr<WatchReader> reader = stmd.watches->Watch(context.get(), {});
  v1::WatchResponse response;
  REQUIRE(reader->Read(&response));
  REQUIRE(reader->Read(&response));
  v1::ReadLogRequest follow;
  follow.set_follow(true);
  follow.set_from_version(2);
  auto follow_context = Context();
  const std::unique_ptr<LogReader> follower = stmd.logs->ReadLog(follow_context.get(), follow);
  v1::ReadLogResponse opened;
  REQUIRE(follower->Read(&opened));

  v1::DrainResponse drained;
  REQUIRE(stmd.admin->Drain(Context().get(), {}, &drained).ok());
  stmd.daemon->AwaitStop();
  CHECK_FALSE(reader->Read(&response));
  const grpc::Status watch = reader->Finish();
  CHECK(watch.error_code() == Code::UNAVAILABLE);
  CHECK(DetailOf(watch).resume_version() > 0);
  v1::CommitRequest commit;
  commit.add_writes()->set_name("/a");
  commit.mutable_writes(0)->mutable_set()->set_integer(2);
  v1::CommitResponse refused;
  const grpc::Status status = stmd.transactions->Commit(Context().get(), commit, &refused);
  CHECK(status.error_code() == Code::UNAVAILABLE);
  CHECK(DetailOf(status).reason() == v1::ERROR_REASON_NOT_READY);
  CHECK(DetailOf(status).has_retry_after());
  CHECK_THAT(stmd.Http("/readyz"), Contains("503") && Contains("draining"));
  CHECK_FALSE(follower->Read(&opened));
  CHECK(follower->Finish().error_code() == Code::UNAVAILABLE);
  stmd.Stop();
}

TEST_CASE("daemon: what was committed is there after a restart, ids too") {
  Directory data;
  const auto durable = [&](Config* config) {
    config->ephemeral = false;
    config->data_dir = data / "d";
  };
  Running stmd(durable);
  v1::CommitRequest commit;
  *commit.mutable_id() = stmd.NewId();
  commit.add_writes()->set_name("/n");
  commit.mutable_writes(0)->mutable_set()->set_integer(7);
  commit.add_records()->set_edn("#blog.CreateUser{:name \"Bob\"}");
  const int64_t version = stmd.Commit(commit).committed().version();
  const v1::Header before = stmd.Header();
  stmd.Stop();

  stmd.Start(durable);
  CHECK(stmd.Header().store() == before.store());
  CHECK(stmd.Header().writer() != before.writer());
  CHECK(stmd.Get("/n").entries(0).value().integer() == 7);
  // The resend of an id that the daemon before committed is answered by its verdict.
  commit.mutable_id()->set_resend(true);
  CHECK(stmd.Commit(commit).committed().version() == version);
  // One that it never saw is not committed, for certain.
  commit.mutable_id()->set_transaction_id("ffffffff-0000-0000-0000-000000000000");
  CHECK(stmd.Commit(commit).has_not_committed());
}

TEST_CASE("daemon: a second one on a directory is refused") {
  Directory data;
  Running stmd([&](Config* config) {
    config->ephemeral = false;
    config->data_dir = data / "d";
  });
  Config config;
  config.data_dir = data / "d";
  config.http = "off";
  config.listen = {"127.0.0.1:0"};
  const auto second = Daemon::Start(config, {}, {});
  REQUIRE_FALSE(second.ok());
  CHECK(second.status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("daemon: a stop under load answers every commit that it made durable") {
  Directory data;
  const auto durable = [&](Config* config) {
    config->ephemeral = false;
    config->data_dir = data / "d";
  };
  Running stmd(durable);
  constexpr int kWriters = 8;
  std::vector<int64_t> acknowledged(kWriters, 0);
  std::atomic<int> busy{0};
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      for (int64_t i = 1;; ++i) {
        v1::CommitRequest commit;
        commit.add_writes()->set_name(absl::StrCat("/w/", w));
        commit.mutable_writes(0)->mutable_set()->set_integer(i);
        v1::CommitResponse response;
        if (!stmd.transactions->Commit(Context().get(), commit, &response).ok()) return;
        acknowledged[w] = i;
        if (i == 20) busy.fetch_add(1);
      }
    });
  }
  Await([&] { return busy.load() == kWriters; });
  stmd.Stop();
  for (std::thread& writer : writers) writer.join();
  stmd.Start(durable);
  for (int w = 0; w < kWriters; ++w) {
    CHECK(stmd.Get(absl::StrCat("/w/", w)).entries(0).value().integer() == acknowledged[w]);
  }
}

struct BackedUp {
  grpc::Status status;
  std::string text;
  int64_t version = 0;
};
BackedUp BackUp(Running& stmd, int64_t version = 0) {
  BackedUp backup;
  v1::BackupRequest request;
  request.set_version(version);
  auto context = Context();
  auto stream = stmd.admin->Backup(context.get(), request);
  v1::BackupResponse response;
  while (stream->Read(&response)) {
    CHECK((backup.version == 0 || backup.version == response.version()));
    backup.version = response.version();
    backup.text += response.chunk();
  }
  backup.status = stream->Finish();
  return backup;
}
grpc::Status RestoreInto(Running& stmd, const std::string& text, v1::RestoreResponse* response) {
  auto context = Context();
  auto stream = stmd.admin->Restore(context.get(), response);
  v1::RestoreRequest request;
  for (size_t at = 0; at < text.size(); at += 1000) {
    request.set_chunk(text.substr(at, 1000));
    if (!stream->Write(request)) break;
  }
  stream->WritesDone();
  return stream->Finish();
}
std::map<std::string, std::string> AllAt(Running& stmd, int64_t version) {
  std::map<std::string, std::string> all;
  v1::ListRefsRequest request;
  request.set_prefix("/");
  request.mutable_at()->set_version(version);
  for (;;) {
    v1::ListRefsResponse response;
    REQUIRE(stmd.refs->ListRefs(Context().get(), request, &response).ok());
    for (const v1::Entry& entry : response.entries()) all[entry.name()] = entry.SerializeAsString();
    if (response.next_page_token().empty()) return all;
    request.clear_at();
    request.set_page_token(response.next_page_token());
  }
}

TEST_CASE("backup: taken while commits go on, it restores every entry of its version, in memory and in a directory") {
  Running from;
  for (int i = 0; i < 3000; ++i) from.Set("/n/" + std::to_string(i), i);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; i = (i + 7) % 3500) {
      v1::CommitRequest request;
      request.add_writes()->set_name("/n/" + std::to_string(i));
      if (i % 5 == 0) {
        request.mutable_writes(0)->set_delete_entry(true);
      } else {
        request.mutable_writes(0)->mutable_set()->set_integer(-i);
      }
      v1::CommitResponse response;
      from.transactions->Commit(Context().get(), request, &response);
    }
  });
  Directory data;
  for (bool durable : {false, true}) {
    const BackedUp backup = BackUp(from);
    INFO(backup.status.error_message());
    REQUIRE(backup.status.ok());
    const std::map<std::string, std::string> entries = AllAt(from, backup.version);
    const auto change = [&](Config* config) {
      config->ephemeral = !durable;
      if (durable) config->data_dir = data / "d";
    };
    Running to(change);
    const v1::Header before = to.Header();
    v1::RestoreResponse restored;
    const grpc::Status status = RestoreInto(to, backup.text, &restored);
    INFO(status.error_message());
    REQUIRE(status.ok());
    CHECK(restored.version() == backup.version);
    CHECK(restored.header().store() != before.store());
    CHECK(restored.header().installed_version() == backup.version);
    CHECK(AllAt(to, backup.version) == entries);
    CHECK(to.Header().store() == restored.header().store());
    CHECK(to.Set("/more", 1) == backup.version + 1);
    if (!durable) continue;
    to.Stop();
    to.Start(change);
    CHECK(AllAt(to, backup.version + 1).size() == entries.size() + 1);
    CHECK(to.Header().store() == restored.header().store());
  }
  stop = true;
  writer.join();
}

TEST_CASE("backup: of a version within the history; of none in an empty store") {
  Running stmd;
  CHECK(BackUp(stmd).status.error_code() == Code::FAILED_PRECONDITION);
  const int64_t first = stmd.Set("/a", 1);
  stmd.Set("/a", 2);
  const BackedUp backup = BackUp(stmd, first);
  REQUIRE(backup.status.ok());
  CHECK(backup.version == first);
  CHECK_THAT(backup.text, Contains("\"/a\" :value 1 "));
  CHECK(BackUp(stmd, 99).status.error_code() == Code::OUT_OF_RANGE);
  CHECK(DetailOf(BackUp(stmd, -1).status).name() == "version");
}

TEST_CASE("backup: one that history can't be kept for is ended, by the name of its bound") {
  Running stmd([](Config* config) {
    config->server.backup_history_bytes_max = 1 << 20;
    config->engine.history_bytes_max = 1 << 20;
  });
  for (int i = 0; i < 300; ++i) stmd.Record("#t{:v \"" + std::string(20000, 'x') + "\"}", "/n" + std::to_string(i));
  v1::CommitRequest large;
  for (int i = 0; i < 100; ++i) {
    v1::Write* write = large.add_writes();
    write->set_name("/large/" + std::to_string(i));
    write->mutable_set()->set_text(std::string(60000, 'x'));
  }
  stmd.Commit(large);
  // A connection that takes 64 KiB ahead of its reader, and never more: else gRPC may take all of it.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto admin = v1::AdminService::NewStub(grpc::CreateCustomChannel(
      stmd.daemon->addresses()[0], grpc::InsecureChannelCredentials(), arguments));
  auto context = Context();
  auto stream = admin->Backup(context.get(), v1::BackupRequest());
  v1::BackupResponse response;
  REQUIRE(stream->Read(&response));
  // The reader stands still, and the writers do not, until the daemon has looked.
  const auto held = [&] { return stmd.Metric("stmd_history_bytes"); };
  for (int i = 0; i < 20; ++i) stmd.Commit(large);
  Await([&] {
    stmd.Set("/n", 1);
    return held() < 4 << 20;
  });
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  CHECK(status.error_code() == Code::RESOURCE_EXHAUSTED);
  CHECK(DetailOf(status).limit() == "backup_history_bytes_max");
}

TEST_CASE("restore: refused into a store that is not empty, damaged, or broken off, and the store is as it was") {
  Running from;
  for (int i = 0; i < 100; ++i) from.Set("/n/" + std::to_string(i), i);
  const BackedUp backup = BackUp(from);
  v1::RestoreResponse response;
  grpc::Status status = RestoreInto(from, backup.text, &response);
  CHECK(status.error_code() == Code::FAILED_PRECONDITION);
  CHECK_THAT(status.error_message(), Contains("not empty") && Contains("version 100"));

  Running to;
  const v1::Header before = to.Header();
  std::string damaged = backup.text;
  damaged[damaged.size() / 2] ^= 1;
  status = RestoreInto(to, damaged, &response);
  CHECK(status.error_code() == Code::DATA_LOSS);
  CHECK_THAT(status.error_message(), Contains("backup: line "));
  status = RestoreInto(to, backup.text.substr(0, backup.text.size() / 2), &response);
  CHECK(status.error_code() == Code::DATA_LOSS);
  CHECK(RestoreInto(to, "", &response).error_code() == Code::DATA_LOSS);
  {
    auto context = Context();
    auto stream = to.admin->Restore(context.get(), &response);
    v1::RestoreRequest request;
    request.set_chunk(backup.text);
    stream->Write(request);
    context->TryCancel();
    CHECK(stream->Finish().error_code() == Code::CANCELLED);
  }
  CHECK(to.Header().store() == before.store());
  CHECK(to.Header().installed_version() == 0);
  // The one that was broken off may take a moment to go.
  Await([&] { return RestoreInto(to, backup.text, &response).ok(); });
  CHECK(AllAt(to, backup.version) == AllAt(from, backup.version));
}

TEST_CASE("restore: watches of the store before end with a gap, followers of its log and sleepers are told") {
  Running from;
  from.Set("/a", 1);
  const BackedUp backup = BackUp(from);
  Running to;
  const v1::Header before = to.Header();
  auto watching = Context();
  v1::WatchRequest watch;
  watch.mutable_selector()->add_prefixes("/");
  auto watcher = to.watches->Watch(watching.get(), watch);
  v1::WatchResponse event;
  do {
    REQUIRE(watcher->Read(&event));
  } while (!event.has_synced());
  auto following = Context();
  v1::ReadLogRequest follow;
  follow.set_follow(true);
  auto follower = to.logs->ReadLog(following.get(), follow);
  v1::ReadLogResponse opened;
  REQUIRE(follower->Read(&opened));

  v1::RestoreResponse restored;
  REQUIRE(RestoreInto(to, backup.text, &restored).ok());
  do {
    REQUIRE(watcher->Read(&event));
  } while (!event.has_gap());
  CHECK(event.gap().resume_version() == backup.version);
  CHECK(event.gap().store() == restored.header().store());
  CHECK_FALSE(follower->Read(&opened));
  const grpc::Status ended = follower->Finish();
  CHECK(DetailOf(ended).reason() == v1::ERROR_REASON_STORE_CHANGED);
  // What speaks of the store before is told so.
  v1::GetRefsRequest get;
  get.add_names("/a");
  get.mutable_at()->mutable_seen()->set_store(before.store());
  v1::GetRefsResponse got;
  CHECK(DetailOf(to.refs->GetRefs(Context().get(), get, &got)).reason() == v1::ERROR_REASON_STORE_CHANGED);
}

}  // namespace
}  // namespace stm::server
