#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/name.h"
#include "server/call.h"
#include "server/services.h"
#include "stm/v1/ref_service.grpc.pb.h"

namespace stm::server {
namespace {

struct GetCall {
  UnaryCall call;
  engine::GetRequest request;
  bool with_definition;
  v1::GetRefsResponse* response;
};

struct ListCall {
  UnaryCall call;
  engine::ListRequest request;
  const v1::ListRefsRequest* message;
  v1::ListRefsResponse* response;
};

struct HistoryCall {
  UnaryCall call;
  const v1::GetHistoryRequest* message;
  v1::GetHistoryResponse* response;
};

// Off the Loop: reads the log.
absl::Status FillHistory(HistoryCall* history, engine::Version installed) {
  Node* node = history->call.node();
  const v1::GetHistoryRequest& message = *history->message;
  const size_t limit = message.limit() == 0 ? kHistoryPageDefault : message.limit();
  absl::StatusOr<std::vector<engine::LogCursor::Item>> items =
      node->log->History(message.name(), message.before_version(), limit);
  if (!items.ok()) return items.status();
  FillHeader(node->identity(), installed, history->response->mutable_header());
  history->response->set_first_version(node->log->FirstVersion());
  engine::Selector selector;
  selector.names = {message.name()};
  int64_t bytes = 0;
  for (const engine::LogCursor::Item& item : *items) {
    const CommitView commit = ViewOf(item, &selector);
    bytes += BytesOf(commit);
    // Fewer than asked for: the next page begins before the last of these.
    if (bytes > kHistoryBytesMax && history->response->commits_size() > 0) break;
    ForEachPart(commit, std::numeric_limits<int64_t>::max(),
                [&](v1::CommitEvent&& event) { *history->response->add_commits() = std::move(event); });
  }
  return absl::OkStatus();
}

class RefService final : public v1::RefService::CallbackService {
 public:
  explicit RefService(Node* node) : node_(node) {}

  grpc::ServerUnaryReactor* GetRefs(grpc::CallbackServerContext* context, const v1::GetRefsRequest* request,
                                    v1::GetRefsResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kGetRefs, reactor);
    // gRPC made the request for this call alone.
    absl::StatusOr<engine::GetRequest> get =
        GetRequestOf(const_cast<v1::GetRefsRequest*>(request), node_->config.engine);
    if (!get.ok()) {
      call.Finish(get.status());
      return reactor;
    }
    get->deadline = DeadlineOf(*context, node_->loop);
    std::unique_ptr<GetCall> work(
        new GetCall{std::move(call), *std::move(get), request->with_definition(), response});
    node_->loop->Post([work = std::move(work)]() mutable {
      Node* node = work->call.node();
      engine::GetRequest asked = std::move(work->request);
      node->engine->Get(std::move(asked), [work = std::move(work)](absl::StatusOr<engine::GetResult> result) {
        if (!result.ok()) return work->call.Finish(result.status());
        Node* node = work->call.node();
        node->Saw(result->installed);
        work->call.Finish(FillGet(*result, work->with_definition, node->identity(),
                                  node->config.engine.transaction_bytes_max, work->response));
      });
    });
    return reactor;
  }

  grpc::ServerUnaryReactor* ListRefs(grpc::CallbackServerContext* context, const v1::ListRefsRequest* request,
                                     v1::ListRefsResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kListRefs, reactor);
    absl::StatusOr<engine::ListRequest> list = ListRequestOf(const_cast<v1::ListRefsRequest*>(request),
                                                             node_->config.engine, node_->identity().store);
    if (!list.ok()) {
      call.Finish(list.status());
      return reactor;
    }
    list->deadline = DeadlineOf(*context, node_->loop);
    std::unique_ptr<ListCall> work(new ListCall{std::move(call), *std::move(list), request, response});
    node_->loop->Post([work = std::move(work)]() mutable {
      Node* node = work->call.node();
      engine::ListRequest asked = std::move(work->request);
      node->engine->List(std::move(asked),
                         [work = std::move(work)](absl::StatusOr<engine::ListResult> result) {
                           if (!result.ok()) return work->call.Finish(result.status());
                           Node* node = work->call.node();
                           node->Saw(result->installed);
                           FillList(*result, work->message->prefix(), work->message->names_only(),
                                    work->message->count_only(), node->identity(), work->response);
                           work->call.Finish(absl::OkStatus());
                         });
    });
    return reactor;
  }

  grpc::ServerUnaryReactor* GetHistory(grpc::CallbackServerContext* context,
                                       const v1::GetHistoryRequest* request,
                                       v1::GetHistoryResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    UnaryCall call(node_, Method::kGetHistory, reactor);
    absl::Status status = engine::CheckName(request->name());
    if (!status.ok()) {
      status = engine::BadField("name", status);
    } else if (request->before_version() < 0) {
      status = engine::BadRequest("before_version", "is below 0");
    } else if (request->limit() > kHistoryPageMax) {
      status = engine::LimitReached("history_page_max", kHistoryPageMax, "limit", request->limit(),
                                    "ask for pages by before_version");
    }
    if (!status.ok()) {
      call.Finish(status);
      return reactor;
    }
    // An empty Get waits for what the client has seen, and checks its store.
    engine::GetRequest seen;
    seen.seen = SeenOf(request->seen());
    seen.deadline = DeadlineOf(*context, node_->loop);
    std::unique_ptr<HistoryCall> work(new HistoryCall{std::move(call), request, response});
    node_->loop->Post([work = std::move(work), seen = std::move(seen)]() mutable {
      engine::Engine* engine = work->call.node()->engine;
      engine->Get(
          std::move(seen), [work = std::move(work)](absl::StatusOr<engine::GetResult> result) mutable {
            if (!result.ok()) return work->call.Finish(result.status());
            Node* node = work->call.node();
            const engine::Version installed = result->installed;
            node->log->CatchUp([work = std::move(work), node, installed](absl::Status status) mutable {
              if (!status.ok()) return work->call.Finish(status);
              node->executor->Run(engine::Work::kHeavy, [work = std::move(work), installed] {
                work->call.Finish(FillHistory(work.get(), installed));
              });
            });
          });
    });
    return reactor;
  }

 private:
  Node* const node_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeRefService(Node* node) { return std::make_unique<RefService>(node); }

}  // namespace stm::server
