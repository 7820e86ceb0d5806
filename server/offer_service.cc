// OfferService: a container that a client keeps in its own process. The daemon's questions go down the
// client's stream, and its answers come back on it, in any order.
#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "backends/containers/container.h"
#include "backends/containers/registry.h"
#include "backends/containers/threaded.h"
#include "engine/values/wire.h"
#include "server/call.h"
#include "server/services.h"
#include "stm/v1/offer_service.grpc.pb.h"

namespace stm::server {
namespace {

using Question = v1::OfferContainerResponse;
using Answer = v1::OfferContainerRequest;

absl::Status FailureOf(const Answer& answer) {
  const bool is_code =
      answer.code() > 0 && answer.code() <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return absl::Status(is_code ? static_cast<absl::StatusCode>(answer.code()) : absl::StatusCode::kUnknown,
                      answer.message());
}

// One offer, as long as its stream lasts. Ask is called by threads of the container, and waits; all else are
// reactions, and tasks of the Loop. Always: whoever asked is told by its deadline, and at once when the
// stream is over; what was not sent by then is not sent.
class OfferStream final : public grpc::ServerBidiReactor<Answer, Question>,
                          public std::enable_shared_from_this<OfferStream> {
 public:
  static OfferStream* New(Node* node) {
    std::shared_ptr<OfferStream> stream(new OfferStream(node));
    stream->self_ = stream;
    node->metrics.Opened(Method::kOfferContainer);
    stream->StartRead(&stream->request_);
    return stream.get();
  }

  // INTERNAL: an answer of another kind than `kind`.
  absl::StatusOr<Answer> Ask(Question question, Answer::AnswerCase kind, absl::Duration within) {
    Waiter waiter;
    uint64_t call = 0;
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) return Gone();
      call = ++calls_;
      question.set_call(call);
      waiting_.emplace(call, &waiter);
      queue_.push_back(std::move(question));
    }
    Step();
    {
      absl::MutexLock lock(&mutex_);
      if (!mutex_.AwaitWithTimeout(absl::Condition(&waiter.told), within)) {
        waiting_.erase(call);
        // The front may be in the air.
        const auto unsent = std::find_if(queue_.begin() + (writing_ ? 1 : 0), queue_.end(),
                                         [call](const Question& one) { return one.call() == call; });
        if (unsent != queue_.end()) queue_.erase(unsent);
        return absl::UnavailableError(
            absl::StrCat("the client that offers it did not answer within ", absl::FormatDuration(within)));
      }
    }
    if (!waiter.answer.has_value()) return Gone();
    if (waiter.answer->code() != 0) return FailureOf(*waiter.answer);
    if (waiter.answer->answer_case() != kind) {
      return absl::InternalError("the client that offers it gave an answer to another question");
    }
    return *std::move(waiter.answer);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return End(absl::OkStatus());
    const absl::Status taken = offered_ ? Take() : Offer();
    if (!taken.ok()) return End(taken);
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) return;
    }
    request_.Clear();
    StartRead(&request_);
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
    absl::StatusCode code;
    {
      absl::MutexLock lock(&mutex_);
      code = status_.code();
    }
    node_->metrics.Closed(Method::kOfferContainer);
    node_->metrics.Called(Method::kOfferContainer, code, node_->loop->Now() - began_);
    node_->loop->Post([self = std::move(self_)] {
      if (self->name_.empty()) return;
      self->node_->offers.erase(self->name_);
      self->node_->containers->Remove(self->name_);
    });
  }

 private:
  struct Waiter {
    bool told = false;
    std::optional<Answer> answer;  // nullopt: the stream is over
  };

  explicit OfferStream(Node* node) : node_(node), began_(node->loop->Now()) {}

  static absl::Status Gone() { return absl::UnavailableError("the client that offers it is gone"); }

  // The first message.
  absl::Status Offer() {
    offered_ = true;
    absl::Status good = containers::CheckContainerName(request_.offer());
    if (good.ok() && request_.call() != 0) {
      good = absl::InvalidArgumentError("the first message offers, and answers no call");
    }
    if (!good.ok()) return engine::BadField("offer", good);
    node_->loop->Post([self = shared_from_this(), name = absl::StrCat("offered:", request_.offer())] {
      self->Stand(name);
    });
    return absl::OkStatus();
  }

  // On the Loop.
  void Stand(const std::string& name);

  // Any other: an answer. To a call that was given up: nobody wants it.
  absl::Status Take() {
    if (!request_.offer().empty()) {
      return engine::BadRequest("offer", "was given by the first message: open another stream for another");
    }
    absl::MutexLock lock(&mutex_);
    const auto waiter = waiting_.find(request_.call());
    if (waiter == waiting_.end()) return absl::OkStatus();
    waiter->second->answer = std::move(request_);
    waiter->second->told = true;
    waiting_.erase(waiter);
    return absl::OkStatus();
  }

  void End(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      if (!std::exchange(ending_, true)) status_ = status;
      for (const auto& [call, waiter] : waiting_) waiter->told = true;
      waiting_.clear();
      if (!queue_.empty()) queue_.erase(queue_.begin() + (writing_ ? 1 : 0), queue_.end());
    }
    Step();
  }

  void Step() {
    const Question* message = nullptr;
    absl::Status status;
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || finished_) return;
      if (!queue_.empty()) {
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
  const absl::Duration began_;
  std::shared_ptr<OfferStream> self_;  // until OnDone
  std::string name_;                   // the Loop's: "offered:NAME", while it stands
  Answer request_;                     // the reader's
  bool offered_ = false;               // the reader's

  absl::Mutex mutex_;
  std::deque<Question> queue_ ABSL_GUARDED_BY(mutex_);  // the front is in the air while writing_
  std::map<uint64_t, Waiter*> waiting_ ABSL_GUARDED_BY(mutex_);
  uint64_t calls_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class OfferedRefs final : public containers::VersionedStateContainer {
 public:
  explicit OfferedRefs(std::shared_ptr<OfferStream> stream) : stream_(std::move(stream)) {}

  absl::Status Init(const std::string& name, absl::Duration within) override {
    Question question;
    question.mutable_init()->set_name(name);
    return stream_->Ask(std::move(question), Answer::kInit, within).status();
  }
  absl::Status Destroy(const std::string& name, absl::Duration within) override {
    Question question;
    question.mutable_destroy()->set_name(name);
    return stream_->Ask(std::move(question), Answer::kDestroy, within).status();
  }
  absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name, const std::string& stamp,
                                                  absl::Duration within) override {
    Question question;
    question.mutable_get_state_at()->set_name(name);
    question.mutable_get_state_at()->set_stamp(stamp);
    absl::StatusOr<Answer> answer = stream_->Ask(std::move(question), Answer::kGetStateAt, within);
    if (!answer.ok()) return answer.status();
    if (!answer->get_state_at().has_value()) return std::nullopt;
    return FromProto(answer->get_state_at().value());
  }
  absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value& value,
                          absl::Duration within) override {
    Question question;
    question.mutable_set_state_at()->set_name(name);
    question.mutable_set_state_at()->set_stamp(stamp);
    ToProto(value, question.mutable_set_state_at()->mutable_value());
    return stream_->Ask(std::move(question), Answer::kSetStateAt, within).status();
  }
  absl::Status DeleteStateAt(const std::string& name, const std::string& stamp,
                             absl::Duration within) override {
    Question question;
    question.mutable_delete_state_at()->set_name(name);
    question.mutable_delete_state_at()->set_stamp(stamp);
    return stream_->Ask(std::move(question), Answer::kDeleteStateAt, within).status();
  }

 private:
  const std::shared_ptr<OfferStream> stream_;
};

class OfferedAtoms final : public containers::StateContainer {
 public:
  explicit OfferedAtoms(std::shared_ptr<OfferStream> stream) : stream_(std::move(stream)) {}

  absl::Status Init(const std::string& name, absl::Duration within) override {
    Question question;
    question.mutable_init_atom()->set_name(name);
    return stream_->Ask(std::move(question), Answer::kInitAtom, within).status();
  }
  absl::Status Destroy(const std::string& name, int64_t version, absl::Duration within) override {
    Question question;
    question.mutable_destroy_atom()->set_name(name);
    question.mutable_destroy_atom()->set_version(version);
    return stream_->Ask(std::move(question), Answer::kDestroyAtom, within).status();
  }
  absl::StatusOr<std::optional<Value>> GetState(const std::string& name, absl::Duration within) override {
    Question question;
    question.mutable_get_state()->set_name(name);
    absl::StatusOr<Answer> answer = stream_->Ask(std::move(question), Answer::kGetState, within);
    if (!answer.ok()) return answer.status();
    if (!answer->get_state().has_value()) return std::nullopt;
    return FromProto(answer->get_state().value());
  }
  absl::Status SetState(const std::string& name, const Value& value, int64_t version,
                        absl::Duration within) override {
    Question question;
    question.mutable_set_state()->set_name(name);
    question.mutable_set_state()->set_version(version);
    ToProto(value, question.mutable_set_state()->mutable_value());
    return stream_->Ask(std::move(question), Answer::kSetState, within).status();
  }

 private:
  const std::shared_ptr<OfferStream> stream_;
};

void OfferStream::Stand(const std::string& name) {
  {
    absl::MutexLock lock(&mutex_);
    if (ending_) return;
  }
  const int64_t offers = static_cast<int64_t>(node_->offers.size());
  if (node_->draining.load()) return End(engine::NotReady("the daemon stops", kRetryAfter));
  if (offers >= node_->config.server.offers_max) {
    return End(engine::LimitReached("offers_max", node_->config.server.offers_max, "the daemon", offers,
                                    "offer it to another daemon, or raise the bound"));
  }
  containers::Container container;
  container.refs = std::make_unique<OfferedRefs>(shared_from_this());
  container.atoms = std::make_unique<OfferedAtoms>(shared_from_this());
  absl::Status added = node_->containers->Add(name, std::move(container));
  if (absl::IsAlreadyExists(added)) {
    v1::ErrorDetail detail;
    detail.set_reason(v1::ERROR_REASON_BAD_VALUE);
    detail.set_name(name);
    added = engine::WithDetail(
        absl::FailedPreconditionError(absl::StrCat(
            name, ": another stream offers it to this daemon: end that one first, or offer another name")),
        detail);
  }
  if (!added.ok()) return End(added);
  name_ = name;
  node_->offers[name] = [self = shared_from_this()] {
    self->End(engine::NotReady("the daemon stops", kRetryAfter));
  };
  {
    absl::MutexLock lock(&mutex_);
    if (ending_) return;
    // Before any question: whoever asks finds it standing.
    queue_.emplace_front();
  }
  Step();
}

class OfferService final : public v1::OfferService::CallbackService {
 public:
  explicit OfferService(Node* node) : node_(node) {}

  grpc::ServerBidiReactor<Answer, Question>* OfferContainer(grpc::CallbackServerContext*) override {
    return OfferStream::New(node_);
  }

 private:
  Node* const node_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeOfferService(Node* node) { return std::make_unique<OfferService>(node); }

}  // namespace stm::server
