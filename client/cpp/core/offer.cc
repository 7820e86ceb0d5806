#include "stm/offer.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <memory>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/core/cancel.h"
#include "client/cpp/core/client_core.h"
#include "client/cpp/core/grpc_status.h"
#include "client/cpp/core/pool.h"
#include "engine/values/absl_view.h"
#include "engine/values/wire.h"
#include "stm/client.h"
#include "stm/v1/offer_service.grpc.pb.h"

namespace stm::internal {
namespace {

using Question = v1::OfferContainerResponse;
using Answer = v1::OfferContainerRequest;

// How often a stream on which nothing comes looks whether its link is still the client's.
constexpr absl::Duration kLookEvery = absl::Seconds(1);

// One stream: one write is in the air, questions queue for its one reader. Answers come from any thread.
class OfferCall : public grpc::ClientBidiReactor<Answer, Question> {
 public:
  enum class Next : uint8_t { kQuestion, kEnded, kTimeout, kCancelled };

  static std::shared_ptr<OfferCall> Start(const std::shared_ptr<grpc::Channel>& channel,
                                          const std::string& name) {
    auto call = std::make_shared<OfferCall>();
    call->self_ = call;
    v1::OfferService::NewStub(channel)->async()->OfferContainer(call->context_.get(), call.get());
    call->StartRead(&call->incoming_);
    call->AddHold();  // writes start outside of reactions
    call->StartCall();
    Answer first;
    first.set_offer(name);
    call->Send(std::move(first));
    return call;
  }

  void Send(Answer answer) {
    const Answer* write;
    {
      absl::MutexLock lock(&mutex_);
      if (!held_) return;
      outgoing_.push_back(std::move(answer));
      if (writing_) return;
      writing_ = true;
      write = &outgoing_.front();
      AddHold();
    }
    StartWrite(write);
    RemoveHold();
  }

  Next Take(Question* question, absl::Duration timeout) {
    const Deadline deadline = Deadline::In(timeout);
    absl::MutexLock lock(&mutex_);
    while (!cancelled_ && questions_.empty() && !done_ && !deadline.passed()) {
      changed_.WaitWithTimeout(&mutex_, deadline.left());
    }
    if (cancelled_) return Next::kCancelled;
    if (!questions_.empty()) {
      *question = std::move(questions_.front());
      questions_.pop_front();
      return Next::kQuestion;
    }
    return done_ ? Next::kEnded : Next::kTimeout;
  }

  void Cancel() {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    changed_.Signal();
  }

  // Waits for OnDone, and lets go of the channel: gRPC's own threads must not be the last to.
  grpc::Status End() {
    context_->TryCancel();
    ReleaseHold();
    grpc::Status status;
    {
      absl::MutexLock lock(&mutex_);
      while (!done_) changed_.Wait(&mutex_);
      status = status_;
    }
    context_.reset();
    return status;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return ReleaseHold();
    {
      absl::MutexLock lock(&mutex_);
      questions_.push_back(std::move(incoming_));
      changed_.Signal();
    }
    incoming_ = Question();
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override {
    const Answer* write = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      outgoing_.pop_front();
      writing_ = ok && !outgoing_.empty();
      if (writing_) write = &outgoing_.front();
    }
    if (write != nullptr) StartWrite(write);
  }
  void OnDone(const grpc::Status& status) override {
    std::shared_ptr<OfferCall> last = std::move(self_);
    absl::MutexLock lock(&mutex_);
    status_ = status;
    done_ = true;
    changed_.Signal();
  }

 private:
  void ReleaseHold() {
    {
      absl::MutexLock lock(&mutex_);
      if (!std::exchange(held_, false)) return;
    }
    RemoveHold();
  }

  std::unique_ptr<grpc::ClientContext> context_ = std::make_unique<grpc::ClientContext>();
  Question incoming_;                // of the read that is under way
  std::shared_ptr<OfferCall> self_;  // until OnDone
  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::deque<Question> questions_ ABSL_GUARDED_BY(mutex_);
  std::deque<Answer> outgoing_ ABSL_GUARDED_BY(mutex_);  // the front is in the air while writing_
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = true;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

// An offer and the thread that renews it, on one stream after another.
class Offering {
 public:
  Offering(std::shared_ptr<ClientCore> client, std::string name,
           std::shared_ptr<VersionedStateContainer> refs, std::shared_ptr<StateContainer> atoms,
           const OfferOptions& options)
      : client_(std::move(client)),
        name_(std::move(name)),
        container_(absl::StrCat("offered:", name_)),
        refs_(std::move(refs)),
        atoms_(std::move(atoms)),
        workers_(std::make_unique<Pool>(std::max(options.threads_max, 1))),
        keeper_([this] { Keep(); }) {}

  ~Offering() {
    ending_.Cancel();
    keeper_.join();
    workers_.reset();
  }

  const std::string& container() const { return container_; }
  bool standing() const {
    absl::MutexLock lock(&mutex_);
    return standing_;
  }
  absl::Status status() const {
    absl::MutexLock lock(&mutex_);
    return standing_ ? absl::OkStatus() : failure_;
  }
  bool AwaitStanding(absl::Duration timeout) const {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&standing_), timeout);
  }
  // The first time: what the daemon refuses for good is told at once.
  absl::Status AwaitFirst(absl::Duration timeout) const {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(
                                +[](const Offering* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) {
                                  return self->standing_ ||
                                         (!self->failure_.ok() && !IsTransient(self->failure_));
                                },
                                this),
                            timeout);
    if (standing_) return absl::OkStatus();
    return failure_.ok()
               ? DeadlineError(absl::UnavailableError(absl::StrCat(container_, ": no daemon took it")))
               : failure_;
  }

 private:
  void Keep() {
    Outage outage(absl::InfiniteDuration());
    while (!ending_.cancelled()) {
      absl::StatusOr<std::shared_ptr<Link>> link = client_->transport().Get(Deadline(), ending_);
      absl::Status failure = link.status();
      if (link.ok()) {
        failure = ServeOn(link->get());
        absl::MutexLock lock(&mutex_);
        if (standing_) outage.End();
        standing_ = false;
        failure_ = failure;
      }
      outage.Fail(failure);
      Sleep(outage.Pause(), ending_);
    }
  }

  absl::Status ServeOn(Link* link) {
    std::shared_ptr<OfferCall> call = OfferCall::Start(link->channel(), name_);
    CancelHook hook(ending_, [call] { call->Cancel(); });
    bool ended = false;
    absl::Status failure;
    while (failure.ok() && !ended) {
      Question question;
      switch (call->Take(&question, kLookEvery)) {
        case OfferCall::Next::kQuestion:
          link->Heard();
          if (question.question_case() == Question::QUESTION_NOT_SET) {
            absl::MutexLock lock(&mutex_);
            standing_ = true;
            break;
          }
          workers_->Run([this, call, question = std::move(question)] { call->Send(AnswerTo(question)); });
          break;
        case OfferCall::Next::kTimeout:
          // The client has another daemon by now.
          if (!link->alive())
            failure = absl::UnavailableError(absl::StrCat("the connection to ", link->address(), " is lost"));
          break;
        case OfferCall::Next::kEnded:
          ended = true;
          break;
        case OfferCall::Next::kCancelled:
          failure = absl::CancelledError("the offer was withdrawn");
          break;
      }
    }
    const grpc::Status status = call->End();
    if (!ended) return failure;
    return status.ok() ? absl::UnavailableError("the daemon ended the offer") : FromGrpc(status);
  }

  Answer AnswerTo(const Question& question) {
    Answer answer;
    absl::Status status;
    // Nothing here throws; what an author wrote may, and is no reason to end his program.
    try {
      status = Ask(question, &answer);
    } catch (const std::exception& thrown) {
      status = absl::InternalError(absl::StrCat("it threw ", thrown.what()));
    } catch (...) {
      status = absl::InternalError("it threw what is no std::exception");
    }
    answer.set_call(question.call());
    if (status.ok()) return answer;
    answer.clear_answer();
    answer.set_code(static_cast<int>(status.code()));
    answer.set_message(std::string(status.message()));
    return answer;
  }

  // Sets the answer, also if it has nothing to say.
  absl::Status Ask(const Question& question, Answer* answer) {
    const bool of_refs = question.question_case() <= Question::kDeleteStateAt;
    if (of_refs ? refs_ == nullptr : atoms_ == nullptr) {
      return absl::UnimplementedError(absl::StrCat(container_, " keeps no ", of_refs ? "refs" : "atoms"));
    }
    switch (question.question_case()) {
      case Question::kInit:
        answer->mutable_init();
        return refs_->Init(question.init().name());
      case Question::kDestroy:
        answer->mutable_destroy();
        return refs_->Destroy(question.destroy().name());
      case Question::kGetStateAt:
        return Read(refs_->GetStateAt(question.get_state_at().name(), question.get_state_at().stamp()),
                    answer->mutable_get_state_at());
      case Question::kSetStateAt: {
        const v1::SetStateAtRequest& set = question.set_state_at();
        absl::StatusOr<Value> value = FromProto(set.value());
        if (!value.ok()) return value.status();
        answer->mutable_set_state_at();
        return refs_->SetStateAt(set.name(), set.stamp(), *value);
      }
      case Question::kDeleteStateAt:
        answer->mutable_delete_state_at();
        return refs_->DeleteStateAt(question.delete_state_at().name(), question.delete_state_at().stamp());
      case Question::kInitAtom:
        answer->mutable_init_atom();
        return atoms_->Init(question.init_atom().name());
      case Question::kDestroyAtom:
        answer->mutable_destroy_atom();
        return atoms_->Destroy(question.destroy_atom().name(), question.destroy_atom().version());
      case Question::kGetState:
        return Read(atoms_->GetState(question.get_state().name()), answer->mutable_get_state());
      case Question::kSetState: {
        const v1::SetStateRequest& set = question.set_state();
        absl::StatusOr<Value> value = FromProto(set.value());
        if (!value.ok()) return value.status();
        answer->mutable_set_state();
        return atoms_->SetState(set.name(), *value, set.version());
      }
      case Question::QUESTION_NOT_SET:
        break;
    }
    return absl::UnimplementedError(
        "the daemon asks what this client does not know: use a client as new as the daemon");
  }

  template <typename Response>
  static absl::Status Read(const absl::StatusOr<std::optional<Value>>& got, Response* response) {
    if (got.ok() && got->has_value()) ToProto(**got, response->mutable_value());
    return got.status();
  }

  const std::shared_ptr<ClientCore> client_;
  const std::string name_;
  const std::string container_;
  const std::shared_ptr<VersionedStateContainer> refs_;
  const std::shared_ptr<StateContainer> atoms_;
  Canceller ending_;
  mutable absl::Mutex mutex_;
  bool standing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Pool> workers_;
  std::thread keeper_;
};

absl::StatusOr<Offer> OfferContainer(const std::shared_ptr<ClientCore>& client, std::string_view name,
                                     std::shared_ptr<VersionedStateContainer> refs,
                                     std::shared_ptr<StateContainer> atoms, const OfferOptions& options) {
  auto offering =
      std::make_shared<Offering>(client, std::string(name), std::move(refs), std::move(atoms), options);
  absl::Status first = offering->AwaitFirst(options.timeout);
  if (!first.ok()) return first;
  return Offer(std::move(offering));
}

}  // namespace stm::internal

namespace stm {

Offer::Offer(std::shared_ptr<internal::Offering> offering) : offering_(std::move(offering)) {}
Offer::Offer(Offer&&) noexcept = default;
Offer& Offer::operator=(Offer&&) noexcept = default;
Offer::~Offer() = default;

const std::string& Offer::container() const { return offering_->container(); }
bool Offer::standing() const { return offering_->standing(); }
bool Offer::AwaitStanding(absl::Duration timeout) const { return offering_->AwaitStanding(timeout); }
absl::Status Offer::status() const { return offering_->status(); }

}  // namespace stm
