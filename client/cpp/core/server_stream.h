// ServerStream pulls the answers of one server-streaming call, a few of them ahead of its reader; flow control does the
// rest. One reader; its end cancels the call.
#ifndef STM_CLIENT_CPP_CORE_SERVER_STREAM_H_
#define STM_CLIENT_CPP_CORE_SERVER_STREAM_H_

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/core/time.h"

namespace stm::internal {

template <typename Response>
class ServerStream {
 public:
  enum class Next : uint8_t { kMessage, kEnded, kTimeout, kCancelled };

  // start(context, reactor) makes the call: stub->async()->Watch(context, &request, reactor). What it refers to must
  // live until it returns.
  template <typename Start>
  explicit ServerStream(Start&& start) : reader_(std::make_shared<Reader>()) {
    reader_->self = reader_;
    start(reader_->context.get(), reader_.get());
    reader_->StartRead(&reader_->incoming);
    reader_->AddHold();  // reads are started from outside of reactions, too
    reader_->StartCall();
  }
  ~ServerStream() {
    reader_->context->TryCancel();
    reader_->End();
  }
  ServerStream(const ServerStream&) = delete;
  ServerStream& operator=(const ServerStream&) = delete;

  Next Take(Response* message, Deadline deadline) { return reader_->Take(message, deadline); }
  // After kEnded.
  grpc::Status status() const {
    absl::MutexLock lock(&reader_->mutex);
    return reader_->status;
  }
  // Any thread: Take returns kCancelled.
  std::function<void()> Waker() {
    return [reader = reader_] {
      absl::MutexLock lock(&reader->mutex);
      reader->cancelled = true;
      reader->changed.Signal();
    };
  }

 private:
  static constexpr size_t kAhead = 64;

  struct Reader : grpc::ClientReadReactor<Response> {
    void OnReadDone(bool ok) override {
      {
        absl::MutexLock lock(&mutex);
        if (!ok) {
          reading = false;
          ended_reading = true;
          ReleaseHold();
          return;
        }
        queue.push_back(std::move(incoming));
        incoming = Response();
        changed.Signal();
        if (queue.size() >= kAhead || let_go) {
          reading = false;
          if (let_go) ReleaseHold();
          return;
        }
      }
      this->StartRead(&incoming);
    }
    void OnDone(const grpc::Status& s) override {
      std::shared_ptr<Reader> last = std::move(self);
      absl::MutexLock lock(&mutex);
      status = s;
      done = true;
      changed.Signal();
    }
    Next Take(Response* message, Deadline deadline) {
      absl::MutexLock lock(&mutex);
      for (;;) {
        if (cancelled) return Next::kCancelled;
        if (!queue.empty()) break;
        if (done) return Next::kEnded;
        if (deadline.passed()) return Next::kTimeout;
        changed.WaitWithTimeout(&mutex, deadline.left());
      }
      *message = std::move(queue.front());
      queue.pop_front();
      if (!reading && !ended_reading && queue.size() < kAhead / 2) {
        reading = true;
        this->StartRead(&incoming);  // the hold keeps the call
      }
      return Next::kMessage;
    }
    // Waits for OnDone, and lets go of the channel: gRPC's own threads must not be the last to.
    void End() {
      {
        absl::MutexLock lock(&mutex);
        let_go = true;
        if (!reading) ReleaseHold();
        while (!done) changed.Wait(&mutex);
      }
      context.reset();
    }
    void ReleaseHold() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
      ended_reading = true;
      if (std::exchange(held, false)) this->RemoveHold();
    }

    std::unique_ptr<grpc::ClientContext> context = std::make_unique<grpc::ClientContext>();
    Response incoming;  // of the read that is under way
    std::shared_ptr<Reader> self;
    absl::Mutex mutex;
    absl::CondVar changed;
    std::deque<Response> queue ABSL_GUARDED_BY(mutex);
    grpc::Status status ABSL_GUARDED_BY(mutex);
    bool reading ABSL_GUARDED_BY(mutex) = true;
    bool held ABSL_GUARDED_BY(mutex) = true;
    bool ended_reading ABSL_GUARDED_BY(mutex) = false;
    bool done ABSL_GUARDED_BY(mutex) = false;
    bool cancelled ABSL_GUARDED_BY(mutex) = false;
    bool let_go ABSL_GUARDED_BY(mutex) = false;
  };

  std::shared_ptr<Reader> reader_;
};

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_SERVER_STREAM_H_
