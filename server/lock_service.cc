#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "engine/name.h"
#include "server/call.h"
#include "server/lock_convert.h"
#include "server/services.h"
#include "stm/v1/lock_service.grpc.pb.h"

namespace stm::server {
namespace {

constexpr int64_t kLocksPageMax = 1000;

// A unary call that may wait for long: when its caller goes, its wait here ends with it, and its place stays.
class WaitingCall : public grpc::ServerUnaryReactor {
 public:
  // Runs on the Loop; the result is a handle of LockCalls::Cancel.
  using Begin = absl::AnyInvocable<uint64_t(engine::LockCalls*, engine::LockDone)>;
  using Fill = std::function<void(const engine::LockResult&)>;

  // `connection`: where the answer goes, which may be one of many; null: it leaves at once.
  WaitingCall(Node* node, Method method, std::shared_ptr<Connection> connection)
      : node_(node),
        method_(method),
        connection_(std::move(connection)),
        began_(node->loop->Now()),
        self_(this) {}

  WaitingCall* Refuse(const absl::Status& status) {
    Answer(status);
    return this;
  }

  WaitingCall* Start(Begin begin, Fill fill) {
    auto ender = std::make_unique<Ender>(Ender{self_});
    node_->loop->Post([self = self_, begin = std::move(begin), fill = std::move(fill),
                       ender = std::move(ender)]() mutable {
      const uint64_t handle = begin(self->node_->locks, [fill = std::move(fill), ender = std::move(ender)](
                                                            absl::StatusOr<engine::LockResult> result) {
        const std::shared_ptr<WaitingCall> call = std::exchange(ender->call, nullptr);
        if (result.ok()) {
          call->node_->Saw(result->installed);
          fill(*result);
        }
        call->Answer(result.status());
      });
      bool cancelled = false;
      {
        absl::MutexLock lock(&self->mutex_);
        self->handle_ = handle;
        cancelled = self->cancelled_;
      }
      if (cancelled) self->TakeBack(handle);
    });
    return this;
  }

  void OnCancel() override {
    uint64_t handle = 0;
    {
      absl::MutexLock lock(&mutex_);
      cancelled_ = true;
      handle = handle_;
    }
    // Before it has begun there is nothing to take back yet.
    if (handle != 0) node_->loop->Post([self = self_, handle] { self->TakeBack(handle); });
  }

  void OnDone() override { std::exchange(self_, nullptr); }

 private:
  // A call that is dropped unanswered, as a stop does, is UNAVAILABLE.
  struct Ender {
    std::shared_ptr<WaitingCall> call;
    ~Ender() {
      if (call != nullptr) call->Answer(engine::NotReady("the daemon stops", kRetryAfter));
    }
    Ender(std::shared_ptr<WaitingCall> its) : call(std::move(its)) {}
    Ender(Ender&&) = default;
  };

  void TakeBack(uint64_t handle) {
    if (node_->locks->Cancel(handle))
      Answer(absl::CancelledError("the caller is gone; its place stays until its session ends"));
  }

  void Answer(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      if (std::exchange(answered_, true)) return;
    }
    node_->metrics.Called(method_, status.code(), node_->loop->Now() - began_);
    Corks::Answering(connection_);
    Finish(ToGrpc(status, *node_));
  }

  Node* const node_;
  const Method method_;
  const std::shared_ptr<Connection> connection_;
  const absl::Duration began_;
  std::shared_ptr<WaitingCall> self_;  // until OnDone
  absl::Mutex mutex_;
  uint64_t handle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;
};

class LockService final : public v1::LockService::CallbackService {
 public:
  explicit LockService(Node* node) : node_(node) {}

  grpc::ServerUnaryReactor* AcquireLock(grpc::CallbackServerContext* context,
                                        const v1::AcquireLockRequest* const_request,
                                        v1::AcquireLockResponse* response) override {
    auto* request = const_cast<v1::AcquireLockRequest*>(const_request);
    auto* waiting = new WaitingCall(node_, Method::kAcquireLock, node_->connections->Find(context->peer()));
    auto call = CallContextOf(request->id(), request->has_id(), request->mutable_meta(),
                              DeadlineOf(*context, node_->loop));
    auto acquire = call.ok() ? AcquireOf(request, *call) : call.status();
    if (!acquire.ok()) return waiting->Refuse(acquire.status());
    return waiting->Start(
        [call = *std::move(call), acquire = *std::move(acquire)](engine::LockCalls* locks,
                                                                 engine::LockDone done) {
          return locks->Acquire(call, acquire.request, acquire.wait, std::move(done));
        },
        [node = node_, response](const engine::LockResult& result) {
          FillHeader(node->identity(), result.installed, response->mutable_header());
          // It waited, and what it waited for is not its own any more.
          const bool left = result.answer.outcome == engine::LockOutcome::kNotHeld;
          response->set_outcome(left ? v1::LOCK_OUTCOME_LEFT : ToProto(result.answer.outcome));
          response->set_token(result.answer.token);
          response->set_holds(static_cast<uint32_t>(result.answer.holds));
          FillHolds(result.answer.in_the_way, response->mutable_in_the_way());
        });
  }

  grpc::ServerUnaryReactor* AwaitCondition(grpc::CallbackServerContext* context,
                                           const v1::AwaitConditionRequest* const_request,
                                           v1::AwaitConditionResponse* response) override {
    auto* request = const_cast<v1::AwaitConditionRequest*>(const_request);
    auto* waiting =
        new WaitingCall(node_, Method::kAwaitCondition, node_->connections->Find(context->peer()));
    auto call = CallContextOf(request->id(), request->has_id(), request->mutable_meta(),
                              DeadlineOf(*context, node_->loop));
    auto await = call.ok() ? AwaitOf(request) : call.status();
    if (!await.ok()) return waiting->Refuse(await.status());
    return waiting->Start(
        [call = *std::move(call), await = *std::move(await)](engine::LockCalls* locks,
                                                             engine::LockDone done) {
          return locks->Await(call, await.request, await.wait, std::move(done));
        },
        [node = node_, response](const engine::LockResult& result) {
          FillHeader(node->identity(), result.installed, response->mutable_header());
          response->set_outcome(ToProto(result.answer.outcome));
          response->set_signalled(result.signalled);
          response->set_token(result.answer.token);
          response->set_holds(static_cast<uint32_t>(result.answer.holds));
        });
  }

  grpc::ServerUnaryReactor* ReleaseLock(grpc::CallbackServerContext* context,
                                        const v1::ReleaseLockRequest* const_request,
                                        v1::ReleaseLockResponse* response) override {
    auto* request = const_cast<v1::ReleaseLockRequest*>(const_request);
    auto call = CallContextOf(request->id(), request->has_id(), request->mutable_meta(),
                              DeadlineOf(*context, node_->loop));
    absl::Status status = call.ok() ? engine::CheckLockName("name", request->name()) : call.status();
    absl::StatusOr<engine::LockOwner> by =
        status.ok() ? OwnerOf(request->mutable_session_id(), request->mutable_owner()) : status;
    status = by.status();
    std::optional<engine::CommitId> acquire;
    if (status.ok() && request->has_acquire_id()) {
      absl::StatusOr<engine::CommitId> id = CommitIdOf(request->acquire_id(), "acquire_id");
      status = id.status();
      if (id.ok()) acquire = *std::move(id);
    }
    if (!status.ok()) return Refuse(context, Method::kReleaseLock, status);
    return Change(
        context, Method::kReleaseLock, response,
        [call = *std::move(call), name = request->name(), by = *std::move(by), acquire = std::move(acquire),
         token = request->token()](engine::LockCalls* locks, engine::LockDone done) mutable {
          if (acquire.has_value()) {
            locks->GiveUp(std::move(call), std::move(name), std::move(by), *std::move(acquire),
                          std::move(done));
          } else {
            locks->Release(std::move(call), std::move(name), std::move(by), token, std::move(done));
          }
        },
        [](const engine::LockResult& result, v1::ReleaseLockResponse* response) {
          response->set_outcome(ToProto(result.answer.outcome));
          response->set_holds(static_cast<uint32_t>(result.answer.holds));
        });
  }

  grpc::ServerUnaryReactor* BreakLock(grpc::CallbackServerContext* context,
                                      const v1::BreakLockRequest* const_request,
                                      v1::BreakLockResponse* response) override {
    auto* request = const_cast<v1::BreakLockRequest*>(const_request);
    auto call = CallContextOf(request->id(), request->has_id(), request->mutable_meta(),
                              DeadlineOf(*context, node_->loop));
    const absl::Status status = call.ok() ? engine::CheckLockName("name", request->name()) : call.status();
    if (!status.ok()) return Refuse(context, Method::kBreakLock, status);
    return Change(
        context, Method::kBreakLock, response,
        [call = *std::move(call), name = request->name()](engine::LockCalls* locks,
                                                          engine::LockDone done) mutable {
          locks->Break(std::move(call), std::move(name), std::move(done));
        },
        [](const engine::LockResult& result, v1::BreakLockResponse* response) {
          response->set_outcome(ToProto(result.answer.outcome));
        });
  }

  grpc::ServerUnaryReactor* SignalCondition(grpc::CallbackServerContext* context,
                                            const v1::SignalConditionRequest* const_request,
                                            v1::SignalConditionResponse* response) override {
    auto* request = const_cast<v1::SignalConditionRequest*>(const_request);
    auto call = CallContextOf(request->id(), request->has_id(), request->mutable_meta(),
                              DeadlineOf(*context, node_->loop));
    absl::Status status =
        call.ok() ? engine::CheckLockName("lock.lock", request->lock().lock()) : call.status();
    if (status.ok()) status = engine::CheckConditionName("condition", request->condition());
    if (!status.ok()) return Refuse(context, Method::kSignalCondition, status);
    return Change(
        context, Method::kSignalCondition, response,
        [call = *std::move(call), fence = request->lock(), condition = request->condition(),
         all = request->all()](engine::LockCalls* locks, engine::LockDone done) mutable {
          locks->Signal(std::move(call), fence.lock(), fence.token(), std::move(condition), all,
                        std::move(done));
        },
        [](const engine::LockResult& result, v1::SignalConditionResponse* response) {
          response->set_outcome(ToProto(result.answer.outcome));
          response->set_woken(static_cast<uint32_t>(result.answer.woken));
        });
  }

  grpc::ServerUnaryReactor* GetLock(grpc::CallbackServerContext* context, const v1::GetLockRequest* request,
                                    v1::GetLockResponse* response) override {
    if (absl::Status status = engine::CheckLockName("name", request->name()); !status.ok()) {
      return Refuse(context, Method::kGetLock, status);
    }
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kGetLock, reactor);
    auto work = std::make_shared<UnaryCall>(std::move(call));
    node_->loop->Post([node = node_, work, name = request->name(), seen = SeenOf(request->seen()),
                       deadline = DeadlineOf(*context, node_->loop), response] {
      node->locks->Get(name, seen, deadline, [node, work, response](absl::StatusOr<engine::LockView> view) {
        if (view.ok()) {
          FillHeader(node->identity(), node->installed.load(std::memory_order_relaxed),
                     response->mutable_header());
          FillLock(*view, response->mutable_lock());
        }
        work->Finish(view.status());
      });
    });
    return reactor;
  }

  grpc::ServerUnaryReactor* ListLocks(grpc::CallbackServerContext* context,
                                      const v1::ListLocksRequest* request,
                                      v1::ListLocksResponse* response) override {
    const std::string prefix = request->prefix().empty() ? "/" : request->prefix();
    absl::Status status = engine::CheckPrefix(prefix);
    if (!status.ok()) status = engine::BadField("prefix", status);
    absl::StatusOr<std::string> after = status.ok() ? ReadNameToken(prefix, request->page_token()) : status;
    if (!after.ok()) return Refuse(context, Method::kListLocks, after.status());
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kListLocks, reactor);
    const int64_t size =
        request->page_size() == 0 ? kLocksPageMax : std::min<int64_t>(request->page_size(), kLocksPageMax);
    auto work = std::make_shared<UnaryCall>(std::move(call));
    node_->loop->Post([node = node_, work, prefix, after = *std::move(after), size,
                       seen = SeenOf(request->seen()), deadline = DeadlineOf(*context, node_->loop),
                       response] {
      node->locks->List(prefix, after, size, seen, deadline,
                        [node, work, prefix, response](absl::StatusOr<engine::LocksPage> page) {
                          if (page.ok()) {
                            node->Saw(page->installed);
                            FillHeader(node->identity(), page->installed, response->mutable_header());
                            for (const engine::LockView& view : page->locks)
                              FillLock(view, response->add_locks());
                            if (page->more && !page->locks.empty())
                              response->set_next_page_token(PrintNameToken(prefix, page->locks.back().lock));
                          }
                          work->Finish(page.status());
                        });
    });
    return reactor;
  }

 private:
  grpc::ServerUnaryReactor* Refuse(grpc::CallbackServerContext* context, Method method,
                                   const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall(node_, method, reactor).Finish(status);
    return reactor;
  }

  // A change that does not wait: `begin` runs on the Loop.
  template <typename Response, typename Begin, typename Fill>
  grpc::ServerUnaryReactor* Change(grpc::CallbackServerContext* context, Method method, Response* response,
                                   Begin begin, Fill fill) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, method, reactor, node_->connections->Find(context->peer()));
    engine::LockDone done = [call = std::move(call), response,
                             fill](absl::StatusOr<engine::LockResult> result) mutable {
      Node* node = call.node();
      if (result.ok()) {
        node->Saw(result->installed);
        FillHeader(node->identity(), result->installed, response->mutable_header());
        fill(*result, response);
      }
      call.Finish(result.status());
    };
    node_->loop->Post([node = node_, begin = std::move(begin), done = std::move(done)]() mutable {
      begin(node->locks, std::move(done));
    });
    return reactor;
  }

  Node* const node_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeLockService(Node* node) { return std::make_unique<LockService>(node); }

}  // namespace stm::server
