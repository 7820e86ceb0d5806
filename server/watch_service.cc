#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <grpcpp/support/byte_buffer.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/call.h"
#include "server/services.h"
#include "stm/v1/watch_service.grpc.pb.h"

namespace stm::server {
namespace {

// Streams that were given something in one task of the Loop are flushed together; past this many the pool does it, so
// that the commit's own answer does not wait for its watchers.
constexpr size_t kFlushHere = 8;
constexpr size_t kFlushTogether = 64;

grpc::ByteBuffer Encode(const v1::WatchResponse& response) {
  std::string bytes;
  response.SerializeToString(&bytes);
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::vector<grpc::ByteBuffer> EncodeCommit(const CommitView& commit) {
  std::vector<grpc::ByteBuffer> parts;
  ForEachPart(commit, kEventBytesMax, [&](v1::CommitEvent&& event) {
    v1::WatchResponse response;
    *response.mutable_commit() = std::move(event);
    parts.push_back(Encode(response));
  });
  return parts;
}

// One commit's messages, encoded once for all watchers that see the same of it, off the Loop by whoever sends first.
class EncodedCommit final : public engine::EventEncoding {
 public:
  explicit EncodedCommit(const engine::WatchEvent& event) : bytes_(BytesOf(ViewOf(event))) {}
  int64_t bytes() const { return bytes_; }
  const std::vector<grpc::ByteBuffer>& Parts(const engine::WatchEvent& event) {
    std::call_once(once_, [&] { parts_ = EncodeCommit(ViewOf(event)); });
    return parts_;
  }

 private:
  const int64_t bytes_;
  std::once_flag once_;
  std::vector<grpc::ByteBuffer> parts_;
};

class Flusher;

// One watch: takes events on the Loop, sends them one write at a time. The engine and the reactor share it; it ends with
// Finish, once, when no write is in the air.
class WatchStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                          public engine::WatchSink,
                          public std::enable_shared_from_this<WatchStream> {
 public:
  WatchStream(Node* node, Flusher* flusher, bool conflate)
      : node_(node), flusher_(flusher), conflate_(conflate), began_(node->loop->Now()) {
    node_->metrics.Opened(Method::kWatch);
  }

  // In the thread of the call.
  void Start(engine::WatchRequest request) {
    self_ = shared_from_this();
    node_->loop->Post([self = self_, request = std::move(request)]() mutable { self->Subscribe(std::move(request)); });
  }
  void Refuse(absl::Status status) {
    self_ = shared_from_this();
    {
      absl::MutexLock lock(&mutex_);
      Close(std::move(status));
    }
    Flush();
  }

  // WatchSink, on the Loop.
  void OnInitial(std::vector<engine::EntryState> entries) override {
    absl::MutexLock lock(&mutex_);
    for (engine::EntryState& entry : entries) {
      const int64_t bytes = static_cast<int64_t>(entry.name.size() + (entry.value ? entry.value->edn_size() : 0));
      Queue(Item{std::move(entry), bytes});
    }
    FlushLater();
  }
  void OnSynced(engine::Version version) override {
    absl::MutexLock lock(&mutex_);
    Queue(Item{Synced{version}, 0});
    FlushLater();
  }
  bool OnCommit(std::shared_ptr<const engine::WatchEvent> event) override {
    // The first watcher to be given the event; all are, on the Loop, before any sends it.
    if (event->encoding == nullptr) event->encoding = std::make_shared<EncodedCommit>(*event);
    const int64_t bytes = static_cast<EncodedCommit*>(event->encoding.get())->bytes();
    absl::MutexLock lock(&mutex_);
    if (closing_) return true;  // OnDone unwatches
    if (conflate_ && !queue_.empty() && Merge(*event)) return true;
    const ServerOptions& options = node_->config.server;
    const int64_t events = static_cast<int64_t>(queue_.size());
    if (!conflate_ && (events >= options.watch_unread_events_max ||
                       (events > 0 && unread_bytes_ + bytes > options.watch_unread_bytes_max))) {
      const bool by_count = events >= options.watch_unread_events_max;
      v1::ErrorDetail detail;
      detail.set_reason(v1::ERROR_REASON_SLOW_READER);
      detail.set_limit(by_count ? "watch_unread_events_max" : "watch_unread_bytes_max");
      detail.set_limit_value(by_count ? options.watch_unread_events_max : options.watch_unread_bytes_max);
      detail.set_found(absl::StrCat(by_count ? events + 1 : unread_bytes_ + bytes));
      handle_ = 0;
      Close(engine::WithDetail(absl::ResourceExhaustedError(absl::StrCat(
                                   "limit ", detail.limit(), "=", detail.limit_value(),
                                   ": the watcher reads too slowly: resume after the last version, or conflate")),
                               detail));
      FlushLater();
      return false;
    }
    Queue(Item{std::move(event), bytes});
    FlushLater();
    return true;
  }
  size_t Room() const override {
    absl::MutexLock lock(&mutex_);
    const ServerOptions& options = node_->config.server;
    // Half: what is live keeps the other half.
    const int64_t events = options.watch_unread_events_max / 2 + 1 - static_cast<int64_t>(queue_.size());
    return unread_bytes_ >= options.watch_unread_bytes_max / 2 || events < 0 ? 0 : static_cast<size_t>(events);
  }
  void OnProgress(engine::Version version) override {
    absl::MutexLock lock(&mutex_);
    // Behind something unsent it would say nothing new.
    if (!queue_.empty() || closing_) return;
    Queue(Item{Progress{version}, 0});
    FlushLater();
  }
  void OnGap(engine::Version resume_version, std::string reason) override {
    absl::MutexLock lock(&mutex_);
    handle_ = 0;
    Queue(Item{Gap{resume_version, std::move(reason)}, 0});
    // Sent first: nothing is dropped by this close.
    if (!closing_) {
      closing_ = true;
      send_rest_ = true;
    }
    FlushLater();
  }
  void OnDrain() override {
    absl::MutexLock lock(&mutex_);
    handle_ = 0;
    Close(engine::NotReady("draining", kRetryAfter));
    FlushLater();
  }

  // Reactor.
  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      write_in_air_ = false;
      if (!ok) {
        Close(absl::CancelledError("the client ended the watch"));
      } else if (item_sent_) {
        if (sent_version_ > 0) resume_version_ = sent_version_;
      }
    }
    Flush();
  }
  void OnCancel() override {
    {
      absl::MutexLock lock(&mutex_);
      Close(absl::CancelledError("the client ended the watch"));
    }
    Flush();
  }
  void OnDone() override {
    node_->metrics.Closed(Method::kWatch);
    node_->metrics.Called(Method::kWatch, status_.code(), node_->loop->Now() - began_);
    node_->loop->Post([self = std::move(self_)] {
      if (self->handle_ != 0) self->node_->engine->Unwatch(std::exchange(self->handle_, 0));
    });
  }

  // Sends the next message, or finishes. Off the Loop. The caller holds the stream by a pointer, or is a reaction.
  void Flush() {
    bool write = false;
    {
      absl::MutexLock lock(&mutex_);
      flush_due_ = false;
      if (write_in_air_ || finished_) return;
      if (Next()) {
        write_in_air_ = true;
        write = true;
      } else if (closing_) {
        finished_ = true;
      } else {
        return;
      }
    }
    if (write) return StartWrite(&air_);
    Finish(FinalStatus());
  }

 private:
  struct Synced {
    engine::Version version;
  };
  struct Progress {
    engine::Version version;
  };
  struct Gap {
    engine::Version resume_version;
    std::string reason;
  };
  struct Opened {
    engine::Version installed;
  };
  // Commits merged for a slow reader: the newest value of each entry, `before` as the last one sent was.
  struct Merged {
    engine::Version version = 0;
    Instant at;
    struct Change {
      engine::EntryChange change;
      std::optional<Value> before;
      bool before_known;
    };
    std::map<std::string, Change> changes;
  };
  using Event = std::variant<Opened, engine::EntryState, Synced, std::shared_ptr<const engine::WatchEvent>,
                             std::unique_ptr<Merged>, Progress, Gap>;
  struct Item {
    Event event;
    int64_t bytes;
  };

  // On the Loop.
  void Subscribe(engine::WatchRequest request) {
    {
      absl::MutexLock lock(&mutex_);
      if (closing_) return;
      Queue(Item{Opened{node_->engine->GetStatus().installed}, 0});
      FlushLater();
    }
    absl::StatusOr<uint64_t> handle = node_->engine->Watch(std::move(request), self_);
    if (handle.ok()) {
      handle_ = *handle;
      return;
    }
    absl::MutexLock lock(&mutex_);
    Close(handle.status());
    FlushLater();
  }

  void Queue(Item item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (closing_) return;
    unread_bytes_ += item.bytes;
    queue_.push_back(std::move(item));
  }

  // Ends the stream with `status`; what is not sent is dropped.
  void Close(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_ || (closing_ && !send_rest_)) return;
    closing_ = true;
    send_rest_ = false;
    status_ = std::move(status);
    queue_.clear();
    parts_.clear();
    unread_bytes_ = 0;
  }

  void FlushLater() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Puts the event into those that wait, if a commit is the last of them. False: nothing to merge with.
  bool Merge(const engine::WatchEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Event& last = queue_.back().event;
    if (auto* waiting = std::get_if<std::shared_ptr<const engine::WatchEvent>>(&last)) {
      auto merged = std::make_unique<Merged>();
      Add(**waiting, merged.get());
      last = std::move(merged);
    }
    auto* merged = std::get_if<std::unique_ptr<Merged>>(&last);
    if (merged == nullptr) return false;
    Add(event, merged->get());
    return true;
  }

  static void Add(const engine::WatchEvent& event, Merged* merged) {
    using Kind = engine::EntryChange::Kind;
    merged->version = event.commit->version;
    merged->at = event.commit->at;
    for (uint32_t i : event.selected) {
      const engine::EntryChange& change = event.commit->changes[i];
      const auto [it, fresh] = merged->changes.try_emplace(
          change.name, Merged::Change{change, event.commit->before[i], event.commit->BeforeKnown(i)});
      if (fresh) continue;
      engine::EntryChange& kept = it->second.change;
      if (change.kind == Kind::kDefine && (kept.kind == Kind::kSet || kept.kind == Kind::kCreate)) continue;
      kept = change;
    }
    // What came and went between two messages was never there for this reader.
    for (auto it = merged->changes.begin(); it != merged->changes.end();) {
      const Merged::Change& merged_change = it->second;
      const Kind kind = merged_change.change.kind;
      const bool gone = kind == Kind::kDelete || kind == Kind::kExpire;
      const bool was_not = merged_change.before_known && !merged_change.before.has_value();
      it = gone && was_not ? merged->changes.erase(it) : std::next(it);
    }
  }

  static std::vector<grpc::ByteBuffer> EncodeMerged(const Merged& merged) {
    static const std::optional<Uuid> no_id;
    static const std::vector<Value> no_records;
    CommitView view{merged.version, merged.at, &no_id, nullptr, {}, &no_records};
    for (const auto& [name, change] : merged.changes) {
      view.changes.push_back(ChangeView{&change.change, &change.before, change.before_known});
    }
    return EncodeCommit(view);
  }

  // Puts the next message into air_. False: there is none.
  bool Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (closing_ && !send_rest_) return false;
    if (parts_.empty()) {
      if (queue_.empty()) return false;
      Item item = std::move(queue_.front());
      queue_.pop_front();
      unread_bytes_ -= item.bytes;
      v1::WatchResponse response;
      sent_version_ = 0;
      if (auto* commit = std::get_if<std::shared_ptr<const engine::WatchEvent>>(&item.event)) {
        const auto& parts = static_cast<EncodedCommit*>((*commit)->encoding.get())->Parts(**commit);
        parts_.assign(parts.begin(), parts.end());  // slices are shared, not copied
        sent_version_ = (*commit)->commit->version;
      } else if (auto* merged = std::get_if<std::unique_ptr<Merged>>(&item.event)) {
        for (grpc::ByteBuffer& part : EncodeMerged(**merged)) parts_.push_back(std::move(part));
        sent_version_ = (*merged)->version;
      } else if (auto* entry = std::get_if<engine::EntryState>(&item.event)) {
        FillEntry(*entry, false, response.mutable_initial());
      } else if (auto* synced = std::get_if<Synced>(&item.event)) {
        response.set_synced(synced->version);
        sent_version_ = synced->version;
      } else if (auto* progress = std::get_if<Progress>(&item.event)) {
        response.set_progress(progress->version);
        sent_version_ = progress->version;
      } else if (auto* gap = std::get_if<Gap>(&item.event)) {
        response.mutable_gap()->set_resume_version(gap->resume_version);
        response.mutable_gap()->set_reason(gap->reason);
        response.mutable_gap()->set_store(node_->identity().store);
      } else {
        FillHeader(node_->identity(), std::get<Opened>(item.event).installed, response.mutable_opened());
      }
      if (parts_.empty()) parts_.push_back(Encode(response));
    }
    air_ = std::move(parts_.front());
    parts_.pop_front();
    item_sent_ = parts_.empty();
    return true;
  }

  // After finished_.
  grpc::Status FinalStatus() {
    if (status_.ok()) return grpc::Status::OK;
    absl::MutexLock lock(&mutex_);
    if (v1::ErrorDetail detail = engine::DetailOf(status_).value_or(v1::ErrorDetail()); resume_version_ > 0) {
      detail.set_resume_version(resume_version_);
      status_ = engine::WithDetail(std::move(status_), detail);
    }
    return ToGrpc(status_, *node_);
  }

  Node* const node_;
  Flusher* const flusher_;
  const bool conflate_;
  const absl::Duration began_;
  std::shared_ptr<WatchStream> self_;  // until OnDone
  uint64_t handle_ = 0;                // the Loop's
  grpc::ByteBuffer air_;               // the write's

  mutable absl::Mutex mutex_;
  std::deque<Item> queue_ ABSL_GUARDED_BY(mutex_);
  std::deque<grpc::ByteBuffer> parts_ ABSL_GUARDED_BY(mutex_);  // of the item being sent
  int64_t unread_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  engine::Version sent_version_ ABSL_GUARDED_BY(mutex_) = 0;    // resume after it once the item being sent is sent
  engine::Version resume_version_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: nothing yet
  bool item_sent_ ABSL_GUARDED_BY(mutex_) = false;              // with the write in the air
  bool write_in_air_ ABSL_GUARDED_BY(mutex_) = false;
  bool flush_due_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool send_rest_ ABSL_GUARDED_BY(mutex_) = false;  // closing, after what is queued
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_;  // written under mutex_ before finished_, read after
};

// Collects, on the Loop, the streams that were given something, and flushes them off it.
class Flusher {
 public:
  explicit Flusher(Node* node) : node_(node) {}

  // On the Loop.
  void Add(std::shared_ptr<WatchStream> stream) {
    streams_.push_back(std::move(stream));
    if (streams_.size() == 1) node_->loop->Post([this] { Dispatch(); });
  }

 private:
  void Dispatch() {
    std::vector<std::shared_ptr<WatchStream>> streams = std::move(streams_);
    streams_.clear();
    const engine::Work work = streams.size() <= kFlushHere ? engine::Work::kAnswer : engine::Work::kHeavy;
    for (size_t begin = 0; begin < streams.size(); begin += kFlushTogether) {
      const size_t end = std::min(begin + kFlushTogether, streams.size());
      std::vector<std::shared_ptr<WatchStream>> some(std::make_move_iterator(streams.begin() + begin),
                                                     std::make_move_iterator(streams.begin() + end));
      node_->executor->Run(work, [some = std::move(some)] {
        for (const std::shared_ptr<WatchStream>& stream : some) stream->Flush();
      });
    }
  }

  Node* const node_;
  std::vector<std::shared_ptr<WatchStream>> streams_;
};

void WatchStream::FlushLater() {
  if (flush_due_ || write_in_air_ || finished_) return;
  flush_due_ = true;
  flusher_->Add(shared_from_this());
}

class WatchService final : public v1::WatchService::WithRawCallbackMethod_Watch<v1::WatchService::Service> {
 public:
  explicit WatchService(Node* node) : node_(node), flusher_(node) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Watch(grpc::CallbackServerContext* /*context*/,
                                                    const grpc::ByteBuffer* message) override {
    v1::WatchRequest request;
    grpc::ByteBuffer copy(*message);
    const grpc::Status parsed = grpc::SerializationTraits<v1::WatchRequest>::Deserialize(&copy, &request);
    auto stream = std::make_shared<WatchStream>(node_, &flusher_, request.conflate());
    if (!parsed.ok()) {
      stream->Refuse(engine::BadRequest("request", "is no WatchRequest message"));
      return stream.get();
    }
    absl::StatusOr<engine::WatchRequest> watch = WatchRequestOf(&request, node_->config.engine);
    if (!watch.ok()) {
      stream->Refuse(watch.status());
    } else {
      stream->Start(*std::move(watch));
    }
    return stream.get();
  }

 private:
  Node* const node_;
  Flusher flusher_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeWatchService(Node* node) { return std::make_unique<WatchService>(node); }

}  // namespace stm::server
