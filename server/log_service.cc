#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/call.h"
#include "server/services.h"
#include "stm/v1/log_service.grpc.pb.h"

namespace stm::server {
namespace {

// Log text read at once.
constexpr size_t kReadBytes = 256 << 10;
// Reads of one turn that found nothing to send; others get the thread then.
constexpr int kReadsInTurn = 16;

// One ReadLog: reads some of the log on the Executor, sends it one message at a time, reads on when all is sent. So it
// goes at its reader's pace, and the cursor is one thread's at a time.
class LogStream final : public grpc::ServerWriteReactor<v1::ReadLogResponse>,
                        public std::enable_shared_from_this<LogStream> {
 public:
  explicit LogStream(Node* node) : node_(node), began_(node->loop->Now()) {
    node_->metrics.Opened(Method::kReadLog);
    node_->log_readers.fetch_add(1);
  }
  ~LogStream() override { node_->log_readers.fetch_sub(1); }

  void Start(const v1::ReadLogRequest& request, absl::Duration deadline) {
    self_ = shared_from_this();
    const absl::Status status = Read(request);
    if (!status.ok()) return End(status);
    // An empty Get waits for what the client has seen, and checks its store.
    engine::GetRequest seen;
    seen.seen = SeenOf(request.seen());
    seen.deadline = deadline;
    node_->loop->Post([self = self_, seen = std::move(seen)]() mutable {
      engine::Engine* engine = self->node_->engine;
      engine->Get(std::move(seen), [self = std::move(self)](absl::StatusOr<engine::GetResult> result) mutable {
        if (!result.ok()) return self->End(result.status());
        self->newest_ = result->installed;
        self->store_ = self->node_->identity().store;
        engine::Executor* executor = self->node_->executor;
        executor->Run(engine::Work::kHeavy, [self = std::move(self)] { self->Open(); });
      });
    });
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      sending_ = false;
      queue_.pop_front();
    }
    if (!ok) return End(absl::CancelledError("the client ended the stream"));
    Step();
  }
  void OnCancel() override { End(absl::CancelledError("the client ended the stream")); }
  void OnDone() override {
    node_->metrics.Closed(Method::kReadLog);
    node_->metrics.Called(Method::kReadLog, status_.code(), node_->loop->Now() - began_);
    self_.reset();
  }

 private:
  absl::Status Read(const v1::ReadLogRequest& message) {
    const int64_t readers = node_->log_readers.load();
    if (readers > node_->config.server.log_readers_max) {
      return engine::LimitReached("log_readers_max", node_->config.server.log_readers_max, "the daemon", readers,
                                  "read the log with fewer streams");
    }
    if (message.from_version() < 0) return engine::BadRequest("from_version", "is below 0");
    if (message.to_version() < 0 || (message.to_version() != 0 && message.to_version() < message.from_version())) {
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
      absl::StatusOr<engine::Selector> selector = SelectorOf(&copy, "selector", node_->config.engine);
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
    const engine::Version first = node_->log->FirstVersion();
    absl::StatusOr<std::unique_ptr<engine::LogCursor>> cursor = node_->log->Open(from_);
    if (!cursor.ok()) {
      absl::Status status = cursor.status();
      if (absl::IsOutOfRange(status)) {
        v1::ErrorDetail detail = engine::DetailOf(status).value_or(v1::ErrorDetail());
        detail.set_reason(v1::ERROR_REASON_SNAPSHOT_TOO_OLD);
        detail.set_name("from_version");
        detail.set_found(absl::StrCat(from_));
        detail.set_expected(absl::StrCat(first));
        detail.set_limit("first_version");
        detail.set_limit_value(first);
        status = engine::WithDetail(std::move(status), detail);
      }
      return End(status);
    }
    cursor_ = *std::move(cursor);
    std::deque<v1::ReadLogResponse> messages;
    v1::Opened* opened = messages.emplace_back().mutable_opened();
    FillHeader(node_->identity(), newest_, opened->mutable_header());
    opened->set_first_version(first);
    Filled(std::move(messages));
  }

  // The next thing to do: end, send, or read on. Off the Loop. The caller holds the stream, or is a reaction.
  void Step() {
    const v1::ReadLogResponse* message = nullptr;
    bool fill = false;
    {
      absl::MutexLock lock(&mutex_);
      if (sending_ || finished_) return;
      if (ending_) {
        finished_ = true;
      } else if (!queue_.empty()) {
        sending_ = true;
        message = &queue_.front();
      } else if (!filling_) {
        filling_ = true;
        fill = true;
      } else {
        return;
      }
    }
    if (message != nullptr) return StartWrite(message);
    if (fill) return Fill();
    Finish(ToGrpc(status_, *node_));
  }

  // What is queued and not in the air is dropped.
  void End(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      if (!ending_) {
        ending_ = true;
        status_ = status;
      }
    }
    Step();
  }

  // While filling_: reads on, on the Executor.
  void Fill() {
    node_->executor->Run(engine::Work::kHeavy, [self = shared_from_this()] { self->FillNow(); });
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
      absl::MutexLock lock(&mutex_);
      if (ending_) return;  // whoever ended it finishes it
    }
    Fill();
  }

  void Filled(std::deque<v1::ReadLogResponse> messages) {
    {
      absl::MutexLock lock(&mutex_);
      queue_ = std::move(messages);
      filling_ = false;
    }
    Step();
  }

  void Show(const engine::LogCursor::Item& item, std::deque<v1::ReadLogResponse>* messages) const {
    const engine::CommitRecord& commit = *item.commit;
    if (records_only_ && commit.records.empty()) return;
    if (!tags_.empty() && !HasRecordOf(commit.records, tags_)) return;
    CommitView view = ViewOf(item, selector_ ? &*selector_ : nullptr);
    if (selector_ && view.changes.empty()) return;
    if (records_only_) view.changes.clear();
    ForEachPart(view, kEventBytesMax,
                [&](v1::CommitEvent&& event) { *messages->emplace_back().mutable_commit() = std::move(event); });
  }

  // All that is durable has been sent: goes on with the next commit.
  void Await() {
    node_->loop->Post([self = shared_from_this()] {
      // A drain calls those who wait, once; whoever comes later would wait for ever.
      if (self->Over()) return;
      self->node_->engine->AwaitInstalled(self->newest_, [self](engine::Version installed) {
        if (self->Over()) return;
        // What the log does not hold, as commits of memory entries alone, is waited past.
        self->newest_ = std::max(self->newest_, installed);
        self->Fill();
      });
    });
  }

  // On the Loop. Ends a stream that has nothing more to wait for: a restore makes another log, of other versions.
  bool Over() {
    absl::Status status;
    if (node_->draining.load()) {
      status = engine::NotReady("draining", kRetryAfter);
    } else if (const uint64_t store = node_->identity().store; store != store_) {
      status = engine::StoreChanged(store_, store);
    } else {
      return false;
    }
    node_->executor->Run(engine::Work::kAnswer, [self = shared_from_this(), status] { self->End(status); });
    return true;
  }

  Node* const node_;
  const absl::Duration began_;
  std::shared_ptr<LogStream> self_;  // until OnDone
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

  absl::Mutex mutex_;
  std::deque<v1::ReadLogResponse> queue_ ABSL_GUARDED_BY(mutex_);  // the front is in the air while sending_
  bool sending_ ABSL_GUARDED_BY(mutex_) = false;
  bool filling_ ABSL_GUARDED_BY(mutex_) = true;  // the cursor is being opened or read, or a commit awaited
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_;  // written under mutex_ before finished_, read after
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
