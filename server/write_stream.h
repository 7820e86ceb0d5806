// WriteStream is one call's stream of answers that goes at its reader's pace: Fill is asked for more only
// when all it gave is sent. So what it fills from (a log's cursor, an image) is one thread's at a time, and
// no more is held than one filling. Off the Loop but where it says so.
#ifndef STM_SERVER_WRITE_STREAM_H_
#define STM_SERVER_WRITE_STREAM_H_

#include <deque>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/call.h"
#include "server/services.h"

namespace stm::server {

// `Stream` is the class that derives from it.
template <typename Stream, typename Response>
class WriteStream : public grpc::ServerWriteReactor<Response>, public std::enable_shared_from_this<Stream> {
 public:
  WriteStream(Node* node, Method method) : node_(node), method_(method), began_(node->loop->Now()) {
    node_->metrics.Opened(method_);
  }

  void OnWriteDone(bool ok) final {
    {
      absl::MutexLock lock(&mutex_);
      sending_ = false;
      queue_.pop_front();
    }
    if (!ok) return End(absl::CancelledError("the client ended the stream"));
    Step();
  }
  void OnCancel() final { End(absl::CancelledError("the client ended the stream")); }
  void OnDone() final {
    node_->metrics.Closed(method_);
    node_->metrics.Called(method_, status_.code(), node_->loop->Now() - began_);
    Release(std::move(self_));
  }

 protected:
  // Gives more, by Filled, or ends the stream; in whatever thread, now or later.
  virtual void Fill() = 0;
  // gRPC is done with the stream: `self` goes where its parts may go.
  virtual void Release(std::shared_ptr<Stream> self) {}

  Node* node() const { return node_; }
  // First of all: lives until Release. It counts as filling.
  void Begin() { self_ = Self(); }
  std::shared_ptr<Stream> Self() { return this->shared_from_this(); }

  // Sends these, one after the other, then fills on; empty: fills on at once.
  void Filled(std::deque<Response> messages) {
    {
      absl::MutexLock lock(&mutex_);
      queue_ = std::move(messages);
      filling_ = false;
    }
    Step();
  }

  // What is queued and not in the air is dropped. The first one's status counts.
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

  // Whoever ended it finishes it; what fills it may stop.
  bool ending() const {
    absl::MutexLock lock(&mutex_);
    return ending_;
  }

 private:
  // The next thing to do: end, send, or fill. The caller holds the stream, or is a reaction.
  void Step() {
    const Response* message = nullptr;
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
    if (message != nullptr) return this->StartWrite(message);
    if (fill) return Fill();
    this->Finish(ToGrpc(status_, *node_));
  }

  Node* const node_;
  const Method method_;
  const absl::Duration began_;
  std::shared_ptr<Stream> self_;  // until OnDone

  mutable absl::Mutex mutex_;
  std::deque<Response> queue_ ABSL_GUARDED_BY(mutex_);  // the front is in the air while sending_
  bool sending_ ABSL_GUARDED_BY(mutex_) = false;
  bool filling_ ABSL_GUARDED_BY(mutex_) = true;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_;  // written under mutex_ before finished_, read after
};

}  // namespace stm::server

#endif  // STM_SERVER_WRITE_STREAM_H_
