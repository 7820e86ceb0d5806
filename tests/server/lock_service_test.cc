// Locks and sessions over gRPC: what only the wire and the daemon whole can show. The rules themselves are
// tests/engine/locks'.
#include <functional>
#include <future>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/server/running.h"

namespace stm::server {
namespace {

using Code = grpc::StatusCode;

struct Locking : Running {
  using Running::Running;

  std::string Open(int ttl_seconds = 15) {
    v1::OpenSessionRequest request;
    *request.mutable_id() = NewId();
    request.set_client("test");
    request.mutable_ttl()->set_seconds(ttl_seconds);
    v1::OpenSessionResponse response;
    const grpc::Status status = sessions->OpenSession(Context().get(), request, &response);
    INFO(status.error_message());
    REQUIRE(status.ok());
    CHECK(response.ttl().seconds() == ttl_seconds);
    return response.session_id();
  }

  v1::AcquireLockRequest AcquireOf(const std::string& session, const std::string& lock = "/l") {
    v1::AcquireLockRequest request;
    *request.mutable_id() = NewId();
    request.set_name(lock);
    request.set_session_id(session);
    return request;
  }
  v1::AcquireLockResponse Acquire(const v1::AcquireLockRequest& request) {
    v1::AcquireLockResponse response;
    const grpc::Status status = locks->AcquireLock(Context().get(), request, &response);
    INFO(status.error_message());
    REQUIRE(status.ok());
    return response;
  }
  // The same on a thread of its own, where nothing may be asserted: an error is the outcome UNSPECIFIED.
  std::future<v1::AcquireLockResponse> Acquiring(v1::AcquireLockRequest request) {
    return std::async(std::launch::async, [this, request = std::move(request)] {
      v1::AcquireLockResponse response;
      if (!locks->AcquireLock(Context().get(), request, &response).ok()) response.Clear();
      return response;
    });
  }
  v1::ReleaseLockResponse Release(const std::string& session, int64_t token = 0,
                                  const v1::CommitId* acquire = nullptr) {
    v1::ReleaseLockRequest request;
    *request.mutable_id() = NewId();
    request.set_name("/l");
    request.set_session_id(session);
    request.set_token(token);
    if (acquire != nullptr) *request.mutable_acquire_id() = *acquire;
    v1::ReleaseLockResponse response;
    const grpc::Status status = locks->ReleaseLock(Context().get(), request, &response);
    INFO(status.error_message());
    REQUIRE(status.ok());
    return response;
  }
  v1::Lock Lock(const std::string& name = "/l") {
    v1::GetLockRequest request;
    request.set_name(name);
    v1::GetLockResponse response;
    REQUIRE(locks->GetLock(Context().get(), request, &response).ok());
    return response.lock();
  }
};

TEST_CASE("locks: who waits is answered when its turn comes") {
  Locking stmd;
  const std::string a = stmd.Open(), b = stmd.Open();
  const v1::AcquireLockResponse first = stmd.Acquire(stmd.AcquireOf(a));
  REQUIRE(first.outcome() == v1::LOCK_OUTCOME_GRANTED);
  auto waits = stmd.Acquiring(stmd.AcquireOf(b));
  Await([&] { return stmd.Lock().queue_size() == 1; });
  const v1::Lock lock = stmd.Lock();
  CHECK(lock.holders(0).session_id() == a);
  CHECK(lock.holders(0).token() == first.token());
  CHECK(lock.queue(0).session_id() == b);
  CHECK(lock.queue(0).since().seconds() > 0);
  CHECK(stmd.Release(a).outcome() == v1::LOCK_OUTCOME_RELEASED);
  const v1::AcquireLockResponse second = waits.get();
  CHECK(second.outcome() == v1::LOCK_OUTCOME_GRANTED);
  CHECK(second.token() > first.token());
}

TEST_CASE("locks: a call that is cancelled keeps its place, a resend finds it, and giving it up leaves") {
  Locking stmd;
  const std::string a = stmd.Open(), b = stmd.Open();
  REQUIRE(stmd.Acquire(stmd.AcquireOf(a)).outcome() == v1::LOCK_OUTCOME_GRANTED);
  v1::AcquireLockRequest request = stmd.AcquireOf(b);
  {
    auto context = Context();
    v1::AcquireLockResponse response;
    auto waits = std::async(std::launch::async,
                            [&] { return stmd.locks->AcquireLock(context.get(), request, &response); });
    Await([&] { return stmd.Lock().queue_size() == 1; });
    context->TryCancel();
    CHECK(waits.get().error_code() == Code::CANCELLED);
  }
  CHECK(stmd.Lock().queue_size() == 1);
  SECTION("a resend") {
    request.mutable_id()->set_resend(true);
    auto waits = stmd.Acquiring(request);
    CHECK(stmd.Release(a).outcome() == v1::LOCK_OUTCOME_RELEASED);
    CHECK(waits.get().outcome() == v1::LOCK_OUTCOME_GRANTED);
    CHECK(stmd.Lock().queue_size() == 0);
  }
  SECTION("given up") {
    CHECK(stmd.Release(b, 0, &request.id()).outcome() == v1::LOCK_OUTCOME_LEFT);
    CHECK(stmd.Lock().queue_size() == 0);
  }
}

TEST_CASE("locks: a late commit with its fence is refused, without it it goes through") {
  Locking stmd;
  const std::string a = stmd.Open(), b = stmd.Open();
  const int64_t token = stmd.Acquire(stmd.AcquireOf(a)).token();
  v1::CommitRequest commit;
  commit.add_writes()->set_name("/report");
  commit.mutable_writes(0)->mutable_set()->set_integer(1);
  commit.add_fences()->set_lock("/l");
  commit.mutable_fences(0)->set_token(token);
  CHECK(stmd.Commit(commit).has_committed());
  v1::ExpireSessionRequest expire;
  *expire.mutable_id() = stmd.NewId();
  expire.set_session_id(a);
  v1::ExpireSessionResponse expired;
  REQUIRE(stmd.sessions->ExpireSession(Context().get(), expire, &expired).ok());
  const int64_t next = stmd.Acquire(stmd.AcquireOf(b)).token();
  const v1::CommitResponse late = stmd.Commit(commit);
  REQUIRE(late.has_fence_lost());
  CHECK(late.fence_lost().fence().token() == token);
  REQUIRE(late.fence_lost().current_tokens_size() == 1);
  CHECK(late.fence_lost().current_tokens(0) == next);
  commit.clear_fences();
  CHECK(stmd.Commit(commit).has_committed());
}

TEST_CASE("sessions: beats are answered, what is taken is pushed, and the end is told") {
  Locking stmd;
  const std::string session = stmd.Open();
  auto context = Context();
  auto stream = stmd.sessions->KeepAlive(context.get());
  v1::KeepAliveRequest beat;
  beat.set_session_id(session);
  beat.set_beat(7);
  REQUIRE(stream->Write(beat));
  v1::KeepAliveResponse answer;
  REQUIRE(stream->Read(&answer));
  CHECK(answer.beat() == 7);
  CHECK(answer.ttl().seconds() == 15);
  CHECK(answer.header().store() != 0);

  const int64_t token = stmd.Acquire(stmd.AcquireOf(session)).token();
  v1::BreakLockRequest broken;
  *broken.mutable_id() = stmd.NewId();
  broken.set_name("/l");
  v1::BreakLockResponse response;
  REQUIRE(stmd.locks->BreakLock(Context().get(), broken, &response).ok());
  CHECK(response.outcome() == v1::LOCK_OUTCOME_RELEASED);
  REQUIRE(stream->Read(&answer));
  CHECK(answer.beat() == 0);
  REQUIRE(answer.lost_size() == 1);
  CHECK(answer.lost(0).lock() == "/l");
  CHECK(answer.lost(0).token() == token);

  v1::CloseSessionRequest close;
  *close.mutable_id() = stmd.NewId();
  close.set_session_id(session);
  v1::CloseSessionResponse closed;
  REQUIRE(stmd.sessions->CloseSession(Context().get(), close, &closed).ok());
  REQUIRE(stream->Read(&answer));
  CHECK(answer.expired());
  REQUIRE(stream->Write(beat));
  REQUIRE(stream->Read(&answer));
  CHECK(answer.expired());
  CHECK(answer.beat() == 7);
  stream->WritesDone();
  CHECK(stream->Finish().ok());
}

TEST_CASE("sessions: one of which nothing is heard ends after its TTL, with its lock and its entries") {
  Locking stmd([](Config* config) { config->leases.ttl_min = absl::Milliseconds(100); });
  v1::OpenSessionRequest open;
  *open.mutable_id() = stmd.NewId();
  open.mutable_ttl()->set_nanos(300'000'000);
  v1::OpenSessionResponse opened;
  REQUIRE(stmd.sessions->OpenSession(Context().get(), open, &opened).ok());
  REQUIRE(stmd.Acquire(stmd.AcquireOf(opened.session_id())).outcome() == v1::LOCK_OUTCOME_GRANTED);
  v1::CommitRequest commit;
  commit.add_writes()->set_name("/services/a");
  commit.mutable_writes(0)->mutable_set()->set_integer(1);
  commit.mutable_writes(0)->mutable_definition()->set_session_id(opened.session_id());
  REQUIRE(stmd.Commit(commit).has_committed());
  const std::string other = stmd.Open();
  CHECK(stmd.Acquire(stmd.AcquireOf(other)).outcome() == v1::LOCK_OUTCOME_GRANTED);
  CHECK_FALSE(stmd.Get("/services/a").entries(0).has_value());
  v1::ListSessionsResponse list;
  REQUIRE(stmd.sessions->ListSessions(Context().get(), v1::ListSessionsRequest(), &list).ok());
  REQUIRE(list.sessions_size() == 1);
  CHECK(list.sessions(0).session_id() == other);
  CHECK(list.sessions(0).locks(0) == "/l");
  CHECK(list.sessions(0).left().seconds() <= 15);
}

TEST_CASE("locks and sessions are listed by pages") {
  Locking stmd;
  std::set<std::string> all;
  const std::string session = stmd.Open();
  for (int i = 0; i < 7; ++i) {
    stmd.Acquire(stmd.AcquireOf(session, absl::StrCat("/jobs/", i)));
    stmd.Open();
  }
  stmd.Acquire(stmd.AcquireOf(session, "/other"));
  v1::ListLocksRequest locks;
  locks.set_prefix("/jobs/");
  locks.set_page_size(3);
  int pages = 0;
  do {
    v1::ListLocksResponse page;
    REQUIRE(stmd.locks->ListLocks(Context().get(), locks, &page).ok());
    for (const v1::Lock& lock : page.locks()) {
      CHECK(lock.holders(0).session_id() == session);
      all.insert(lock.name());
    }
    locks.set_page_token(page.next_page_token());
    ++pages;
  } while (!locks.page_token().empty());
  CHECK(all.size() == 7);
  CHECK(pages == 3);
  v1::ListSessionsRequest sessions;
  sessions.set_page_size(5);
  std::set<std::string> ids;
  do {
    v1::ListSessionsResponse page;
    REQUIRE(stmd.sessions->ListSessions(Context().get(), sessions, &page).ok());
    for (const v1::Session& one : page.sessions()) ids.insert(one.session_id());
    sessions.set_page_token(page.next_page_token());
  } while (!sessions.page_token().empty());
  CHECK(ids.size() == 8);
}

TEST_CASE("locks: what can't be is refused by the name of its field") {
  Locking stmd;
  const std::string session = stmd.Open();
  const auto refused = [&](const std::function<void(v1::AcquireLockRequest*)>& spoil) {
    v1::AcquireLockRequest request = stmd.AcquireOf(session);
    spoil(&request);
    v1::AcquireLockResponse response;
    const grpc::Status status = stmd.locks->AcquireLock(Context().get(), request, &response);
    INFO(status.error_message());
    CHECK(status.error_code() == Code::INVALID_ARGUMENT);
    return DetailOf(status).name();
  };
  CHECK(refused([](auto* r) { r->set_name("l"); }) == "name");
  CHECK(refused([](auto* r) { r->set_name("/.locks/l"); }) == "name");
  CHECK(refused([](auto* r) { r->set_name("/" + std::string(400, 'x')); }) == "name");
  CHECK(refused([](auto* r) { r->set_session_id("mine"); }) == "session_id");
  CHECK(refused([](auto* r) { r->set_permits(2); }) == "permits");
  CHECK(refused([](auto* r) { r->set_mode(v1::LOCK_MODE_PERMITS); }) == "permits_max");
  CHECK(refused([](auto* r) {
          r->set_mode(v1::LOCK_MODE_PERMITS);
          r->set_permits(3);
          r->set_permits_max(2);
        }) == "permits");
  CHECK(refused([](auto* r) { r->mutable_wait()->set_seconds(-1); }) == "wait");

  v1::OpenSessionRequest open;
  *open.mutable_id() = stmd.NewId();
  open.mutable_ttl()->set_seconds(1);
  v1::OpenSessionResponse opened;
  const grpc::Status short_ttl = stmd.sessions->OpenSession(Context().get(), open, &opened);
  CHECK(DetailOf(short_ttl).name() == "ttl");
  CHECK(short_ttl.error_message() == "ttl: is 1s: from session_ttl_min=2s to session_ttl_max=10m");

  v1::SignalConditionRequest signal;
  *signal.mutable_id() = stmd.NewId();
  signal.mutable_lock()->set_lock("/l");
  signal.set_condition("a/b");
  v1::SignalConditionResponse signalled;
  CHECK(DetailOf(stmd.locks->SignalCondition(Context().get(), signal, &signalled)).name() == "condition");

  v1::CommitRequest commit;
  commit.add_fences()->set_lock("l");
  v1::CommitResponse response;
  CHECK(DetailOf(stmd.transactions->Commit(Context().get(), commit, &response)).name() == "fences[0].lock");
  commit.clear_fences();
  commit.add_writes()->set_name("/.memory/a");
  commit.mutable_writes(0)->mutable_set()->set_integer(1);
  commit.mutable_writes(0)->mutable_definition()->set_session_id(session);
  CHECK(DetailOf(stmd.transactions->Commit(Context().get(), commit, &response)).name() ==
        "writes[0].definition.session_id");
}

TEST_CASE("locks: an id that never was committed is told so, and a session that is not open by its name") {
  Locking stmd;
  const std::string session = stmd.Open();
  v1::AcquireLockRequest request = stmd.AcquireOf(session);
  CHECK(stmd.Release(session, 0, &request.id()).outcome() == v1::LOCK_OUTCOME_NOT_HELD);
  v1::AcquireLockResponse response;
  const grpc::Status never = stmd.locks->AcquireLock(Context().get(), request, &response);
  CHECK(never.error_code() == Code::ABORTED);
  CHECK(DetailOf(never).reason() == v1::ERROR_REASON_NOT_COMMITTED);
  const std::string gone = "00000000-0000-0000-0000-000000000001";
  const grpc::Status expired = stmd.locks->AcquireLock(Context().get(), stmd.AcquireOf(gone), &response);
  CHECK(expired.error_code() == Code::FAILED_PRECONDITION);
  CHECK(DetailOf(expired).reason() == v1::ERROR_REASON_SESSION_EXPIRED);
  CHECK(DetailOf(expired).name() == gone);
}

TEST_CASE("locks: a daemon that stops answers who waits, for another daemon to go on") {
  Locking stmd;
  const std::string a = stmd.Open(), b = stmd.Open();
  REQUIRE(stmd.Acquire(stmd.AcquireOf(a)).outcome() == v1::LOCK_OUTCOME_GRANTED);
  v1::AcquireLockResponse response;
  auto waits = std::async(std::launch::async, [&, request = stmd.AcquireOf(b)] {
    return stmd.locks->AcquireLock(Context().get(), request, &response);
  });
  Await([&] { return stmd.Lock().queue_size() == 1; });
  stmd.Stop();
  CHECK(waits.get().error_code() == Code::UNAVAILABLE);
}

}  // namespace
}  // namespace stm::server
