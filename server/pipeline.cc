#include "server/pipeline.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/call.h"
#include "stm/v1/common.pb.h"

namespace stm::server {
namespace {

absl::Status SlowReader(const char* limit, int64_t limit_value, int64_t found) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_SLOW_READER);
  detail.set_limit(limit);
  detail.set_limit_value(limit_value);
  detail.set_found(absl::StrCat(found));
  return engine::WithDetail(absl::ResourceExhaustedError(absl::StrCat("limit ", limit, "=", limit_value, ": ", found,
                                                                      " are unread: read answers as they come")),
                            detail);
}

// Holders of the stream: its reads, the write in the air, each call under way, a flush or task that is due. Whoever lets
// go last finishes it. After StartWrite outside a reaction nothing of the stream may be touched: the write may be done,
// and the stream with it.
class Pipeline final : public grpc::ServerBidiReactor<v1::PipelineRequest, v1::PipelineResponse> {
 public:
  Pipeline(Node* node, grpc::CallbackServerContext* context)
      : node_(node), began_(node->loop->Now()), deadline_(DeadlineOf(*context, node->loop)) {
    node_->metrics.Opened(Method::kPipeline);
    self_ = std::shared_ptr<Pipeline>(this);
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      bool finish;
      {
        absl::MutexLock lock(&mutex_);
        reads_ended_ = true;
        finish = TakeFinish();
      }
      if (finish) Finish(ToGrpc(status_, *node_));
      return;
    }
    std::vector<Asked> asked;
    const absl::Status refused = Parse(&asked);
    bool read_on;
    bool post = false;
    bool end_awaits = false;
    {
      absl::MutexLock lock(&mutex_);
      // Not twice: once it is cut it may be finished, and no hold keeps it any more.
      if (!refused.ok() && !cut_ && !finished_) {
        Cut(refused);
        ++holds_;
        end_awaits = true;
      }
      if (cut_) asked.clear();
      if (!asked.empty()) {
        in_flight_ += static_cast<int64_t>(asked.size());
        post = asked_.empty();
        asked_.insert(asked_.end(), std::make_move_iterator(asked.begin()), std::make_move_iterator(asked.end()));
        if (post) ++holds_;
      }
      read_on = MayRead();
      if (!read_on) read_paused_ = true;
    }
    // First the next read, so that another thread takes it while this one may be held up with the batch; the queue keeps
    // the order. This is a reaction: the stream lives until it returns.
    if (read_on) StartRead(&request_);
    if (post) node_->loop->Post([this] { Execute(); });
    if (end_awaits) node_->loop->Post([this] { EndAwaits(); });
    Flush(Held::kNo);
  }

  void OnWriteDone(bool ok) override {
    bool read_on = false;
    {
      absl::MutexLock lock(&mutex_);
      write_in_air_ = false;
      unread_answers_ -= air_.answers_size();
      unread_bytes_ -= air_bytes_;
      ++writes_done_;
      if (!ok) Break();
      if (read_paused_ && MayRead()) {
        read_paused_ = false;
        read_on = true;
      }
    }
    if (read_on) StartRead(&request_);
    Flush(Held::kNo);
  }

  void OnCancel() override {
    {
      absl::MutexLock lock(&mutex_);
      // Finished: no hold keeps it any more, and it has no awaits.
      if (finished_) return;
      Break();
      ++holds_;
    }
    node_->loop->Post([this] { EndAwaits(); });
  }

  void OnDone() override {
    node_->metrics.Closed(Method::kPipeline);
    node_->metrics.Called(Method::kPipeline, status_.code(), node_->loop->Now() - began_);
    std::vector<uint64_t> reservations;
    {
      absl::MutexLock lock(&mutex_);
      reservations.assign(reservations_.begin(), reservations_.end());
    }
    if (!reservations.empty()) {
      node_->loop->Post([engine = node_->engine, reservations = std::move(reservations)] {
        for (uint64_t reservation : reservations) engine->ReleaseReservation(reservation);
      });
    }
    self_.reset();
  }

 private:
  struct Cancel {};
  struct List {
    engine::ListRequest request;
    std::string prefix;
  };
  struct Get {
    engine::GetRequest request;
    bool with_definition;
  };
  struct Asked {
    uint64_t call;
    absl::Duration arrived;
    std::variant<std::unique_ptr<engine::Transaction>, Get, List, engine::AwaitRequest, Cancel, absl::Status> request;
  };
  enum class Held : bool { kNo, kYes };
  struct Await {
    uint64_t handle = 0;  // 0: not known yet
  };
  struct Out {
    v1::PipelineResponse response;
    int64_t bytes = 0;
  };
  // A message that reached this is followed by another.
  static constexpr int64_t kMessageBytes = 1 << 20;

  // In the thread that received the message. Not OK: the stream is cut.
  absl::Status Parse(std::vector<Asked>* asked) {
    if (request_.calls_size() > kPipelineCallsMax) {
      return engine::LimitReached("pipeline_calls_max", kPipelineCallsMax, "a message", request_.calls_size(),
                                  "send more messages");
    }
    asked->reserve(request_.calls_size());
    const absl::Duration now = node_->loop->Now();
    const engine::Options& bounds = node_->config.engine;
    for (v1::PipelineCall& call : *request_.mutable_calls()) {
      Asked& one = asked->emplace_back();
      one.call = call.call();
      one.arrived = now;
      switch (call.request_case()) {
        case v1::PipelineCall::kCommit: {
          auto transaction = TransactionOf(call.mutable_commit(), bounds);
          if (!transaction.ok()) {
            one.request = transaction.status();
            break;
          }
          (*transaction)->deadline = deadline_;
          one.request = *std::move(transaction);
          break;
        }
        case v1::PipelineCall::kGet: {
          absl::StatusOr<engine::GetRequest> get = GetRequestOf(call.mutable_get(), bounds);
          if (!get.ok()) {
            one.request = get.status();
            break;
          }
          get->deadline = deadline_;
          one.request = Get{*std::move(get), call.get().with_definition()};
          break;
        }
        case v1::PipelineCall::kList: {
          absl::StatusOr<engine::ListRequest> list = ListRequestOf(call.mutable_list(), bounds, node_->identity().store);
          if (!list.ok()) {
            one.request = list.status();
            break;
          }
          list->deadline = deadline_;
          one.request = List{*std::move(list), call.list().prefix()};
          break;
        }
        case v1::PipelineCall::kAwait: {
          absl::StatusOr<engine::AwaitRequest> await = AwaitRequestOf(call.mutable_await(), bounds);
          if (!await.ok()) {
            one.request = await.status();
            break;
          }
          await->deadline = deadline_;
          one.request = *std::move(await);
          break;
        }
        case v1::PipelineCall::kCancel:
          if (call.cancel() == 0) {
            one.request = engine::BadRequest("calls.cancel", "is 0: expected the number of an await under way");
            break;
          }
          one.call = call.cancel();
          one.request = Cancel{};
          break;
        case v1::PipelineCall::REQUEST_NOT_SET:
          one.request = call.GetReflection()->GetUnknownFields(call).empty()
                            ? engine::BadRequest("calls.request", "is none: expected get, list, commit, await or cancel")
                            : engine::BadField("calls.request",
                                               absl::UnimplementedError(
                                                   "a kind that this daemon does not know: it is older than the client"));
          break;
      }
    }
    return absl::OkStatus();
  }

  // On the Loop: all that has been asked for.
  void Execute() {
    std::vector<Asked> asked;
    {
      absl::MutexLock lock(&mutex_);
      asked.swap(asked_);
    }
    std::vector<engine::Submission> commits;
    for (Asked& one : asked) {
      const uint64_t call = one.call;
      const absl::Duration arrived = one.arrived;
      if (auto* transaction = std::get_if<std::unique_ptr<engine::Transaction>>(&one.request)) {
        commits.push_back({std::move(*transaction), [this, call, arrived](std::shared_ptr<const engine::Verdict> verdict,
                                                                          engine::Version installed) {
                             AnswerCommit(call, arrived, *verdict, installed);
                           }});
      } else if (auto* get = std::get_if<Get>(&one.request)) {
        node_->engine->Get(std::move(get->request), [this, call, arrived, with_definition = get->with_definition](
                                                        absl::StatusOr<engine::GetResult> result) {
          Answer(call, arrived, Method::kPipelinedGet, [&](v1::PipelineAnswer* answer) {
            if (!result.ok()) return result.status();
            node_->Saw(result->installed);
            return FillGet(*result, with_definition, node_->identity(), node_->config.engine.transaction_bytes_max,
                           answer->mutable_get());
          });
        });
      } else if (auto* list = std::get_if<List>(&one.request)) {
        const bool names_only = list->request.names_only;
        const bool count_only = list->request.count_only;
        node_->engine->List(std::move(list->request), [this, call, arrived, prefix = std::move(list->prefix), names_only,
                                                       count_only](absl::StatusOr<engine::ListResult> result) {
          Answer(call, arrived, Method::kPipelinedList, [&](v1::PipelineAnswer* answer) {
            if (!result.ok()) return result.status();
            node_->Saw(result->installed);
            FillList(*result, prefix, names_only, count_only, node_->identity(), answer->mutable_list());
            return absl::OkStatus();
          });
        });
      } else if (auto* await = std::get_if<engine::AwaitRequest>(&one.request)) {
        ExecuteAwait(call, arrived, std::move(*await));
      } else if (std::holds_alternative<Cancel>(one.request)) {
        uint64_t handle = 0;
        {
          absl::MutexLock lock(&mutex_);
          const auto it = awaits_.find(call);
          if (it != awaits_.end()) handle = it->second.handle;
          --in_flight_;
        }
        if (handle != 0) node_->engine->CancelAwait(handle);
      } else {
        const absl::Status status = std::get<absl::Status>(one.request);
        node_->executor->Run(engine::Work::kAnswer, [this, call, arrived, status] {
          Answer(call, arrived, Method::kPipelinedCommit, [&](v1::PipelineAnswer*) { return status; });
        });
      }
    }
    if (!commits.empty()) node_->engine->Commit(std::move(commits));
    node_->executor->Run(engine::Work::kAnswer, [this] { Flush(Held::kYes); });
  }

  // On the Loop.
  void ExecuteAwait(uint64_t call, absl::Duration arrived, engine::AwaitRequest request) {
    absl::Status refused;
    {
      absl::MutexLock lock(&mutex_);
      if (awaits_.count(call) > 0) {
        refused = engine::BadRequest("calls.call", absl::StrCat("an await is under way under the number ", call));
      } else if (static_cast<int64_t>(awaits_.size()) >= node_->config.server.pipeline_awaits_max) {
        refused = engine::LimitReached("pipeline_awaits_max", node_->config.server.pipeline_awaits_max, "the stream",
                                       static_cast<int64_t>(awaits_.size()) + 1, "cancel some, or open another stream");
      } else if (cut_ || broken_) {
        refused = absl::CancelledError("the stream ended");
      } else {
        awaits_.emplace(call, Await{});
        // It may wait long: it does not keep the stream from being read.
        --in_flight_;
      }
    }
    if (!refused.ok()) {
      node_->executor->Run(engine::Work::kAnswer, [this, call, arrived, refused] {
        Answer(call, arrived, Method::kPipelinedAwait, [&](v1::PipelineAnswer*) { return refused; });
      });
      return;
    }
    const uint64_t handle =
        node_->engine->AwaitChange(std::move(request), [this, call, arrived](absl::StatusOr<engine::AwaitResult> result) {
          {
            absl::MutexLock lock(&mutex_);
            awaits_.erase(call);
            ++in_flight_;
          }
          Answer(call, arrived, Method::kPipelinedAwait, [&](v1::PipelineAnswer* answer) {
            if (!result.ok()) return result.status();
            node_->Saw(result->installed);
            FillAwait(*result, node_->identity(), answer->mutable_await());
            return absl::OkStatus();
          });
        });
    absl::MutexLock lock(&mutex_);
    // Gone: it has been answered already.
    const auto it = awaits_.find(call);
    if (it != awaits_.end()) it->second.handle = handle;
  }

  // On the Loop, with a hold: the stream ends, and nobody waits for its awaits.
  void EndAwaits() {
    CancelAwaits();
    node_->executor->Run(engine::Work::kAnswer, [this] { Flush(Held::kYes); });
  }

  // On the Loop.
  void CancelAwaits() {
    std::vector<uint64_t> handles;
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [call, await] : awaits_) {
        if (await.handle != 0) handles.push_back(await.handle);
      }
    }
    for (uint64_t handle : handles) node_->engine->CancelAwait(handle);
  }

  void AnswerCommit(uint64_t call, absl::Duration arrived, const engine::Verdict& verdict, engine::Version installed) {
    node_->Saw(installed);
    uint64_t reserved = 0;
    if (const auto* conflict = std::get_if<engine::Conflict>(&verdict.outcome)) reserved = conflict->reservation;
    if (reserved != 0) {
      absl::MutexLock lock(&mutex_);
      // One that was used or ran out is released in vain. They last a second at most, so the newest are enough.
      reservations_.push_back(reserved);
      if (static_cast<int64_t>(reservations_.size()) > node_->config.server.pipeline_in_flight_max) {
        reservations_.pop_front();
      }
    }
    Answer(call, arrived, Method::kPipelinedCommit, [&](v1::PipelineAnswer* answer) {
      return FillCommit(verdict, installed, node_->identity(), answer->mutable_commit());
    });
  }

  // Off the Loop, for one call that was in flight. `fill` puts the response into the answer or returns why not.
  template <typename Fill>
  void Answer(uint64_t call, absl::Duration arrived, Method method, Fill fill) {
    absl::StatusCode code;
    bool flush = false;
    Node* const node = node_;  // once the call is no longer in flight, the stream may be gone
    {
      absl::MutexLock lock(&mutex_);
      --in_flight_;
      if (cut_ || broken_) {
        code = absl::StatusCode::kCancelled;
      } else {
        if (out_.empty() || out_.back().bytes >= kMessageBytes) {
          out_.emplace_back();
          out_.back().response.Swap(&spare_);
        }
        v1::PipelineAnswer* answer = out_.back().response.add_answers();
        answer->set_call(call);
        const absl::Status status = fill(answer);
        code = status.code();
        if (!status.ok()) {
          answer->Clear();
          answer->set_call(call);
          answer->set_code(static_cast<int32_t>(status.code()));
          answer->set_message(std::string(status.message()));
          *answer->mutable_error() =
              ErrorDetailOf(status, node_->identity(), node_->installed.load(std::memory_order_relaxed));
        }
        const int64_t bytes = static_cast<int64_t>(answer->ByteSizeLong());
        if (bytes >= kMessageBytes && out_.back().response.answers_size() > 1) {
          // A large one goes alone, so that no message passes gRPC's limit.
          v1::PipelineAnswer* large = out_.back().response.mutable_answers()->ReleaseLast();
          out_.emplace_back();
          out_.back().response.mutable_answers()->AddAllocated(large);
        }
        out_.back().bytes += bytes;
        unread_bytes_ += bytes;
        ++unread_answers_;
      }
      // Once for all answers that this thread has to give: they all go into one message.
      if (!flush_due_) {
        flush_due_ = true;
        ++holds_;
        flush = true;
      }
    }
    node->metrics.Called(method, code, node->loop->Now() - arrived);
    if (flush) node->executor->Run(engine::Work::kAnswer, [this] { Flush(Held::kYes); });
  }

  // Sends what is ready, or finishes. kYes: gives up one hold. The stream may be gone when this returns.
  void Flush(Held held) {
    bool write = false;
    bool finish = false;
    bool watch_stall = false;
    {
      absl::MutexLock lock(&mutex_);
      if (held == Held::kYes) {
        --holds_;
        flush_due_ = false;
      }
      if (!write_in_air_ && !out_.empty() && !finished_) {
        out_.front().response.Swap(&air_);
        air_bytes_ = out_.front().bytes;
        spare_.Swap(&out_.front().response);
        spare_.Clear();
        out_.pop_front();
        write_in_air_ = true;
        write = true;
      } else if (write_in_air_ && !stall_watched_ && AtBound()) {
        stall_watched_ = true;
        watch_stall = true;
        ++holds_;
      } else {
        finish = TakeFinish();
      }
    }
    if (write) return StartWrite(&air_);
    if (finish) return Finish(ToGrpc(status_, *node_));
    if (watch_stall) {
      node_->loop->Post([this] { WatchStall(); });
    }
  }

  // On the Loop, with a hold: cuts the stream if its reader takes no message within the grace.
  void WatchStall() {
    int64_t writes_done;
    {
      absl::MutexLock lock(&mutex_);
      writes_done = writes_done_;
    }
    std::weak_ptr<Pipeline> weak = self_;
    node_->loop->At(node_->loop->Now() + node_->config.server.slow_reader_grace, [weak, writes_done] {
      if (const std::shared_ptr<Pipeline> stream = weak.lock()) stream->CheckStall(writes_done);
    });
    // The timer holds nothing: a stream that ends meanwhile is not kept.
    Flush(Held::kYes);
  }

  // On the Loop. The stream may have finished, but is not gone.
  void CheckStall(int64_t writes_done) {
    bool cut = false;
    {
      absl::MutexLock lock(&mutex_);
      stall_watched_ = false;
      if (finished_) return;
      if (writes_done_ == writes_done && write_in_air_ && AtBound()) {
        const ServerOptions& options = node_->config.server;
        Cut(unread_answers_ >= options.pipeline_unread_answers_max
                ? SlowReader("pipeline_unread_answers_max", options.pipeline_unread_answers_max, unread_answers_)
                : SlowReader("pipeline_unread_bytes_max", options.pipeline_unread_bytes_max, unread_bytes_));
        cut = true;
      }
      ++holds_;
    }
    if (cut) {
      node_->metrics.CutPipeline();
      CancelAwaits();
    }
    // Off the Loop: a flush may write.
    node_->executor->Run(engine::Work::kAnswer, [this] { Flush(Held::kYes); });
  }

  bool AtBound() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const ServerOptions& options = node_->config.server;
    return unread_answers_ >= options.pipeline_unread_answers_max || unread_bytes_ >= options.pipeline_unread_bytes_max;
  }
  bool MayRead() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !cut_ && !reads_ended_ && in_flight_ + unread_answers_ < node_->config.server.pipeline_in_flight_max;
  }
  // No answer leaves any more; the stream ends with `status` once its calls are done.
  void Cut(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (cut_ || finished_) return;
    cut_ = true;
    status_ = std::move(status);
    DropUnsent();
  }
  // The client is gone.
  void Break() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (broken_ || finished_) return;
    broken_ = true;
    if (status_.ok()) status_ = absl::CancelledError("the client ended the stream");
    DropUnsent();
  }
  void DropUnsent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    out_.clear();
    unread_answers_ = write_in_air_ ? air_.answers_size() : 0;
    unread_bytes_ = write_in_air_ ? air_bytes_ : 0;
  }
  // True, once: the caller finishes the stream.
  bool TakeFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // A cut stream's client may go on sending: its read ends when the stream does. So it does when reads are paused and
    // the client has gone.
    const bool no_more_calls = reads_ended_ || cut_ || (broken_ && read_paused_);
    if (finished_ || !no_more_calls || write_in_air_ || in_flight_ > 0 || holds_ > 0 || !awaits_.empty() ||
        !asked_.empty() || !out_.empty()) {
      return false;
    }
    finished_ = true;
    return true;
  }

  Node* const node_;
  const absl::Duration began_;
  const absl::Duration deadline_;
  std::shared_ptr<Pipeline> self_;  // until OnDone
  v1::PipelineRequest request_;     // the reader's
  v1::PipelineResponse air_;        // the write's while it is in the air, else mutex_'s

  absl::Mutex mutex_;
  std::vector<Asked> asked_ ABSL_GUARDED_BY(mutex_);  // in order of arrival; not empty: a task of the Loop will take them
  std::deque<Out> out_ ABSL_GUARDED_BY(mutex_);       // the next messages; one, but for large answers
  v1::PipelineResponse spare_ ABSL_GUARDED_BY(mutex_);  // empty; keeps a sent message's memory for the next
  int64_t air_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t unread_answers_ ABSL_GUARDED_BY(mutex_) = 0;  // in out_ and in the air
  int64_t unread_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;  // calls not answered, but those in awaits_
  int64_t holds_ ABSL_GUARDED_BY(mutex_) = 0;      // tasks and flushes that are due
  int64_t writes_done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool write_in_air_ ABSL_GUARDED_BY(mutex_) = false;
  bool flush_due_ ABSL_GUARDED_BY(mutex_) = false;
  bool stall_watched_ ABSL_GUARDED_BY(mutex_) = false;
  bool reads_ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool read_paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<uint64_t, Await> awaits_ ABSL_GUARDED_BY(mutex_);  // by their call's number
  std::deque<uint64_t> reservations_ ABSL_GUARDED_BY(mutex_);            // given to this stream's client
  absl::Status status_;  // written under mutex_ before finished_, read after
};

}  // namespace

grpc::ServerBidiReactor<v1::PipelineRequest, v1::PipelineResponse>* NewPipeline(Node* node,
                                                                                grpc::CallbackServerContext* context) {
  return new Pipeline(node, context);
}

}  // namespace stm::server
