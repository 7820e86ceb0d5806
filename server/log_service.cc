#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/call.h"
#include "server/services.h"
#include "server/write_stream.h"
#include "stm/v1/log_service.grpc.pb.h"

namespace stm::server {
namespace {

// Log text read at once.
constexpr size_t kReadBytes = 256 << 10;
// Reads of one turn that found nothing to send; others get the thread then.
constexpr int kReadsInTurn = 16;

// One ReadLog: reads some of the log on the Executor, and on when that is sent.
class LogStream final : public WriteStream<LogStream, v1::ReadLogResponse> {
 public:
  explicit LogStream(Node* node) : WriteStream(node, Method::kReadLog) { node->log_readers.fetch_add(1); }
  ~LogStream() override { node()->log_readers.fetch_sub(1); }

  void Start(const v1::ReadLogRequest& request, absl::Duration deadline) {
    Begin();
    absl::Status status = Read(request);
    if (!status.ok()) return End(status);
    // An empty Get waits for what the client has seen, and checks its store.
    engine::GetRequest seen;
    seen.seen = SeenOf(request.seen());
    seen.deadline = deadline;
    node()->loop->Post([self = Self(), seen = std::move(seen)]() mutable {
      engine::Engine* engine = self->node()->engine;
      engine->Get(std::move(seen),
                  [self = std::move(self)](absl::StatusOr<engine::GetResult> result) mutable {
                    if (!result.ok()) return self->End(result.status());
                    self->newest_ = result->installed;
                    self->store_ = self->node()->identity().store;
                    self->node()->log->CatchUp([self](absl::Status status) {
                      if (!status.ok()) return self->EndOffLoop(std::move(status));
                      self->node()->executor->Run(engine::Work::kHeavy, [self] { self->Open(); });
                    });
                  });
    });
  }

 private:
  absl::Status Read(const v1::ReadLogRequest& message) {
    const int64_t readers = node()->log_readers.load();
    if (readers > node()->config.server.log_readers_max) {
      return engine::LimitReached("log_readers_max", node()->config.server.log_readers_max, "the daemon",
                                  readers, "read the log with fewer streams");
    }
    if (message.from_version() < 0) return engine::BadRequest("from_version", "is below 0");
    if (message.to_version() < 0 ||
        (message.to_version() != 0 && message.to_version() < message.from_version())) {
      return engine::BadRequest("to_version", "is below from_version");
    }
    for (int i = 0; i < message.tags_size(); ++i) {
      const std::string& tag = message.tags(i);
      const size_t star = tag.find('*');
      if (tag.empty() || tag[0] == '#' || (star != std::string::npos && star + 1 != tag.size())) {
        return engine::BadRequest(absl::StrCat("tags[", i, "]"),
                                  "expected a tag as blog.CreateUser, or blog.* for all that begin so");
      }
    }
    if (message.has_selector()) {
      v1::Selector copy = message.selector();
      absl::StatusOr<engine::Selector> selector = SelectorOf(&copy, "selector", node()->config.engine);
      if (!selector.ok()) return selector.status();
      selector_ = *std::move(selector);
    }
    from_ = message.from_version();
    to_ = message.to_version();
    tags_.assign(message.tags().begin(), message.tags().end());
    follow_ = message.follow();
    records_only_ = message.records_only();
    return absl::OkStatus();
  }

  // On the Executor.
  void Open() {
    absl::StatusOr<std::unique_ptr<engine::LogCursor>> cursor = node()->log->Open(from_);
    // What is dropped from here on the cursor still reads.
    const engine::Version first = node()->log->FirstVersion();
    if (!cursor.ok()) {
      absl::Status status = cursor.status();
      if (std::optional<v1::ErrorDetail> detail = engine::DetailOf(status);
          absl::IsOutOfRange(status) && detail) {
        detail->set_name("from_version");
        status = engine::WithDetail(std::move(status), *detail);
      }
      return End(status);
    }
    cursor_ = *std::move(cursor);
    std::deque<v1::ReadLogResponse> messages;
    v1::Opened* opened = messages.emplace_back().mutable_opened();
    FillHeader(node()->identity(), newest_, opened->mutable_header());
    opened->set_first_version(first);
    Filled(std::move(messages));
  }

  void Fill() override {
    node()->executor->Run(engine::Work::kHeavy, [self = Self()] { self->FillNow(); });
  }

  void FillNow() {
    for (int turn = 0; turn < kReadsInTurn; ++turn) {
      if (over_) return End(absl::OkStatus());
      absl::StatusOr<std::vector<engine::LogCursor::Item>> items = cursor_->Next(kReadBytes);
      if (!items.ok()) return End(items.status());
      if (items->empty()) return follow_ ? Await() : End(absl::OkStatus());
      std::deque<v1::ReadLogResponse> messages;
      for (const engine::LogCursor::Item& item : *items) {
        const engine::Version version = item.commit->version;
        over_ = to_ != 0 && version >= to_;
        if (to_ != 0 && version > to_) break;
        newest_ = std::max(newest_, version);
        Show(item, &messages);
        if (over_) break;
      }
      if (!messages.empty()) return Filled(std::move(messages));
      if (ending()) return;
    }
    Fill();
  }

  void Show(const engine::LogCursor::Item& item, std::deque<v1::ReadLogResponse>* messages) const {
    const engine::CommitRecord& commit = *item.commit;
    if (records_only_ && commit.records.empty()) return;
    if (!tags_.empty() && !HasRecordOf(commit.records, tags_)) return;
    CommitView view = ViewOf(item, selector_ ? &*selector_ : nullptr);
    if (selector_ && view.changes.empty()) return;
    if (records_only_) view.changes.clear();
    ForEachPart(view, kEventBytesMax, [&](v1::CommitEvent&& event) {
      *messages->emplace_back().mutable_commit() = std::move(event);
    });
  }

  // All that is durable has been sent: goes on with the next commit.
  void Await() {
    node()->loop->Post([self = Self()] {
      // A drain calls those who wait, once; whoever comes later would wait for ever.
      if (self->Over()) return;
      self->node()->engine->AwaitInstalled(self->newest_, [self](engine::Version installed) {
        if (self->Over()) return;
        self->node()->log->CatchUp([self, installed](absl::Status status) {
          if (self->Over()) return;
          if (!status.ok()) return self->EndOffLoop(std::move(status));
          // What the log does not hold, as commits of memory entries alone, is waited past.
          self->newest_ = std::max(self->newest_, installed);
          self->Fill();
        });
      });
    });
  }

  // On the Loop. Ends a stream that has nothing more to wait for: a restore makes another log, of other
  // versions.
  bool Over() {
    absl::Status status;
    if (node()->draining.load()) {
      status = engine::NotReady("draining", kRetryAfter);
    } else if (const uint64_t store = node()->identity().store; store != store_) {
      status = engine::StoreChanged(store_, store);
    } else {
      return false;
    }
    EndOffLoop(std::move(status));
    return true;
  }

  void EndOffLoop(absl::Status status) {
    node()->executor->Run(engine::Work::kAnswer,
                          [self = Self(), status = std::move(status)] { self->End(status); });
  }

  std::optional<engine::Selector> selector_;
  engine::Version from_ = 0;
  engine::Version to_ = 0;
  std::vector<std::string> tags_;
  bool follow_ = false;
  bool records_only_ = false;
  // Of whoever is filling.
  std::unique_ptr<engine::LogCursor> cursor_;
  engine::Version newest_ = 0;  // all up to here has been read
  uint64_t store_ = 0;          // whose log it is
  bool over_ = false;           // to_ was reached
};

class LogService final : public v1::LogService::CallbackService {
 public:
  explicit LogService(Node* node) : node_(node) {}

  grpc::ServerWriteReactor<v1::ReadLogResponse>* ReadLog(grpc::CallbackServerContext* context,
                                                         const v1::ReadLogRequest* request) override {
    auto stream = std::make_shared<LogStream>(node_);
    stream->Start(*request, DeadlineOf(*context, node_->loop));
    return stream.get();
  }

 private:
  Node* const node_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeLogService(Node* node) { return std::make_unique<LogService>(node); }

}  // namespace stm::server
