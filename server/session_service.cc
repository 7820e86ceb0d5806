#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/error.h"
#include "server/call.h"
#include "server/lock_convert.h"
#include "server/services.h"
#include "stm/v1/session_service.grpc.pb.h"

namespace stm::server {
namespace {

constexpr size_t kSessionsPageMax = 1000;
constexpr size_t kClientBytesMax = 256;
constexpr absl::string_view kSessionsListing = "sessions";

// One client's stream of beats. Its sessions' losses are pushed to it; when it ends they live on for their
// TTL.
class KeepAliveStream : public grpc::ServerBidiReactor<v1::KeepAliveRequest, v1::KeepAliveResponse>,
                        public engine::SessionSink,
                        public std::enable_shared_from_this<KeepAliveStream> {
 public:
  static KeepAliveStream* New(Node* node) {
    auto* stream = new KeepAliveStream(node);
    stream->self_.reset(stream);
    node->metrics.Opened(Method::kKeepAlive);
    stream->StartRead(&stream->request_);
    return stream;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return End(absl::OkStatus());
    std::string session = std::move(*request_.mutable_session_id());
    const uint64_t beat = request_.beat();
    const engine::Seen seen = SeenOf(request_.seen());
    if (!ParseUuid(session).has_value()) {
      return End(engine::BadRequest(
          "session_id",
          absl::StrCat("found \"", session, "\", expected the 36 characters that OpenSession gave")));
    }
    node_->loop->Post([self = shared_from_this(), session = std::move(session), beat, seen] {
      self->Beat(session, beat, seen);
    });
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      queue_.pop_front();
    }
    if (!ok) return End(absl::CancelledError("the client ended the stream"));
    Step();
  }

  void OnCancel() override { End(absl::CancelledError("the client ended the stream")); }

  void OnDone() override {
    node_->metrics.Closed(Method::kKeepAlive);
    node_->loop->Post([self = std::move(self_)] {
      for (const std::string& session : self->sessions_) self->node_->leases->Detach(session, self.get());
    });
  }

  // On the Loop.
  void OnLost(const std::string& session, const std::map<std::string, std::vector<int64_t>>& lost) override {
    v1::KeepAliveResponse message;
    message.set_session_id(session);
    for (const auto& [lock, tokens] : lost) {
      for (int64_t token : tokens) {
        v1::Fence* fence = message.add_lost();
        fence->set_lock(lock);
        fence->set_token(token);
      }
    }
    Send(std::move(message));
  }
  void OnExpired(const std::string& session) override {
    sessions_.erase(session);
    v1::KeepAliveResponse message;
    message.set_session_id(session);
    message.set_expired(true);
    Send(std::move(message));
  }

 private:
  explicit KeepAliveStream(Node* node) : node_(node) {}

  // On the Loop. The next beat is read once this one is answered: a client that floods waits.
  void Beat(const std::string& session, uint64_t beat, const engine::Seen& seen) {
    // What was seen of another store says nothing of this one, which has no such session.
    const bool of_this = seen.store == 0 || seen.store == node_->identity().store;
    node_->leases->Beat(
        session, of_this ? seen.version : 0,
        [self = shared_from_this(), session, beat](absl::StatusOr<absl::Duration> ttl) {
          const std::optional<v1::ErrorDetail> detail = engine::DetailOf(ttl.status());
          v1::KeepAliveResponse message;
          message.set_session_id(session);
          message.set_beat(beat);
          if (ttl.ok()) {
            if (self->sessions_.insert(session).second) self->node_->leases->Attach(session, self);
            SetDuration(*ttl, message.mutable_ttl());
          } else if (detail.has_value() && detail->reason() == v1::ERROR_REASON_SESSION_EXPIRED) {
            message.set_expired(true);
          } else {
            // Whoever can't answer for the lease says so by ending: the client goes to another daemon.
            return self->End(ttl.status());
          }
          self->Send(std::move(message));
          self->ReadOn();
        });
  }

  void ReadOn() {
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) return;
    }
    StartRead(&request_);
  }

  void Send(v1::KeepAliveResponse message) {
    FillHeader(node_->identity(), node_->installed.load(std::memory_order_relaxed), message.mutable_header());
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) return;
      queue_.push_back(std::move(message));
    }
    Step();
  }

  void End(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      if (!std::exchange(ending_, true)) status_ = status;
    }
    Step();
  }

  void Step() {
    const v1::KeepAliveResponse* message = nullptr;
    absl::Status status;
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || finished_) return;
      if (!queue_.empty() && !(ending_ && !status_.ok())) {
        writing_ = true;
        message = &queue_.front();
      } else if (ending_) {
        finished_ = true;
        status = status_;
      } else {
        return;
      }
    }
    if (message != nullptr) return StartWrite(message);
    Finish(ToGrpc(status, *node_));
  }

  Node* const node_;
  std::shared_ptr<KeepAliveStream> self_;  // until OnDone
  std::set<std::string> sessions_;         // the Loop's
  v1::KeepAliveRequest request_;           // the reader's

  absl::Mutex mutex_;
  std::deque<v1::KeepAliveResponse> queue_ ABSL_GUARDED_BY(mutex_);  // the front is in the air while writing_
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class SessionService final : public v1::SessionService::CallbackService {
 public:
  explicit SessionService(Node* node) : node_(node) {}

  grpc::ServerUnaryReactor* OpenSession(grpc::CallbackServerContext* context,
                                        const v1::OpenSessionRequest* request,
                                        v1::OpenSessionResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kOpenSession, reactor);
    auto change = CallContextOf(request->id(), request->has_id(), nullptr, DeadlineOf(*context, node_->loop));
    absl::Status status = change.status();
    absl::Duration ttl;
    if (status.ok() && request->client().size() > kClientBytesMax) {
      status = engine::LimitReached("session_client_bytes_max", kClientBytesMax, "client",
                                    static_cast<int64_t>(request->client().size()), "shorten it");
    }
    if (status.ok() && request->has_ttl()) {
      absl::StatusOr<absl::Duration> read = DurationOf(request->ttl(), "ttl");
      status = read.status();
      // Unset is the default; zero is none.
      if (read.ok()) ttl = std::max(*read, absl::Nanoseconds(1));
    }
    if (!status.ok()) {
      call.Finish(status);
      return reactor;
    }
    node_->loop->Post([node = node_, change = *std::move(change), client = request->client(), ttl, response,
                       call = std::move(call)]() mutable {
      const Uuid id = change.id.has_value() ? change.id->transaction_id
                                            : Uuid{node->loop->Random(), node->loop->Random()};
      const std::string session = ToString(id);
      node->leases->Open(std::move(change), session, std::move(client), ttl,
                         [node, session, response, call = std::move(call)](
                             absl::StatusOr<std::pair<absl::Duration, engine::Version>> opened) mutable {
                           if (opened.ok()) {
                             node->Saw(opened->second);
                             FillHeader(node->identity(), opened->second, response->mutable_header());
                             response->set_session_id(session);
                             SetDuration(opened->first, response->mutable_ttl());
                           }
                           call.Finish(opened.status());
                         });
    });
    return reactor;
  }

  grpc::ServerBidiReactor<v1::KeepAliveRequest, v1::KeepAliveResponse>* KeepAlive(
      grpc::CallbackServerContext*) override {
    return KeepAliveStream::New(node_);
  }

  grpc::ServerUnaryReactor* CloseSession(grpc::CallbackServerContext* context,
                                         const v1::CloseSessionRequest* request,
                                         v1::CloseSessionResponse* response) override {
    return End(context, Method::kCloseSession, *request, nullptr, response);
  }

  grpc::ServerUnaryReactor* ExpireSession(grpc::CallbackServerContext* context,
                                          const v1::ExpireSessionRequest* request,
                                          v1::ExpireSessionResponse* response) override {
    return End(context, Method::kExpireSession, *request,
               const_cast<v1::ExpireSessionRequest*>(request)->mutable_meta(), response);
  }

  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* context,
                                         const v1::ListSessionsRequest* request,
                                         v1::ListSessionsResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kListSessions, reactor);
    const std::string_view listing(kSessionsListing.data(), kSessionsListing.size());
    absl::StatusOr<std::string> after = ReadNameToken(listing, request->page_token());
    if (!after.ok()) {
      call.Finish(after.status());
      return reactor;
    }
    const size_t size = request->page_size() == 0 ? kSessionsPageMax
                                                  : std::min<size_t>(request->page_size(), kSessionsPageMax);
    // An empty Get waits for what the client has seen, and for what others have committed.
    engine::GetRequest seen;
    seen.seen = SeenOf(request->seen());
    seen.deadline = DeadlineOf(*context, node_->loop);
    node_->loop->Post([node = node_, seen = std::move(seen), after = *std::move(after), size, listing,
                       response, call = std::move(call)]() mutable {
      node->engine->Get(
          std::move(seen), [node, after = std::move(after), size, listing, response,
                            call = std::move(call)](absl::StatusOr<engine::GetResult> result) mutable {
            if (!result.ok()) return call.Finish(result.status());
            node->Saw(result->installed);
            FillHeader(node->identity(), result->installed, response->mutable_header());
            node->loop->Post(
                [node, after = std::move(after), size, listing, response, call = std::move(call)]() mutable {
                  const std::vector<engine::SessionView> views = node->leases->List(after, size);
                  for (const engine::SessionView& view : views) FillSession(view, response->add_sessions());
                  if (views.size() == size)
                    response->set_next_page_token(PrintNameToken(listing, views.back().session));
                  call.Finish(absl::OkStatus());
                });
          });
    });
    return reactor;
  }

 private:
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* End(grpc::CallbackServerContext* context, Method method, const Request& request,
                                v1::Meta* meta, Response* response) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, method, reactor);
    auto change = CallContextOf(request.id(), request.has_id(), meta, DeadlineOf(*context, node_->loop));
    absl::Status status = change.status();
    std::string session = request.session_id(), none;
    if (status.ok()) status = OwnerOf(&session, &none).status();
    if (!status.ok()) {
      call.Finish(status);
      return reactor;
    }
    node_->loop->Post([node = node_, change = *std::move(change), session = request.session_id(), response,
                       call = std::move(call)]() mutable {
      node->leases->End(
          std::move(change), session,
          [node, response, call = std::move(call)](absl::StatusOr<engine::Version> version) mutable {
            if (version.ok()) {
              node->Saw(*version);
              FillHeader(node->identity(), *version, response->mutable_header());
            }
            call.Finish(version.status());
          });
    });
    return reactor;
  }

  Node* const node_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeSessionService(Node* node) {
  return std::make_unique<SessionService>(node);
}

}  // namespace stm::server
