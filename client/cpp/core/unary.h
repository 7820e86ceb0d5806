// Unary calls beside the Pipeline, on the link that is in use: each ends with its link, and is sent again on
// the next until it is answered. SendOnce sends what changes something, under one id until there is a
// verdict. Any thread; blocks.
#ifndef STM_CLIENT_CPP_CORE_UNARY_H_
#define STM_CLIENT_CPP_CORE_UNARY_H_

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/core/cancel.h"
#include "client/cpp/core/client_core.h"
#include "client/cpp/core/grpc_status.h"
#include "client/cpp/core/random.h"

namespace stm::internal {

// How often a call that waits looks whether its link is still there.
inline constexpr absl::Duration kLinkLookEvery = absl::Seconds(1);

template <typename Response>
struct UnaryEnd {
  CallResult::End end = CallResult::End::kBroken;
  grpc::Status status;  // kAnswered
  absl::Status cause;   // kBroken
  Response response;    // kAnswered, status OK
};

// One send. start(channel, context, response, callback) makes the call: stub->async()->GetLock(context,
// &request, response, callback). `over`, if set: what the call is for is over, and it ends as kBroken.
template <typename Response, typename Start>
UnaryEnd<Response> SendOn(Link& link, const CallOptions& options, const std::function<bool()>& over,
                          Start&& start) {
  struct Waiting {
    std::unique_ptr<grpc::ClientContext> context = std::make_unique<grpc::ClientContext>();
    Response response;
    absl::Mutex mutex;
    absl::CondVar changed;
    bool done ABSL_GUARDED_BY(mutex) = false;
    bool cancelled ABSL_GUARDED_BY(mutex) = false;
    grpc::Status status ABSL_GUARDED_BY(mutex);
  };
  auto waiting = std::make_shared<Waiting>();
  if (!options.deadline.never()) {
    waiting->context->set_deadline(std::chrono::system_clock::now() +
                                   absl::ToChronoMicroseconds(options.deadline.left()));
  }
  start(link.channel(), waiting->context.get(), &waiting->response, [waiting](grpc::Status status) {
    absl::MutexLock lock(&waiting->mutex);
    waiting->status = std::move(status);
    waiting->done = true;
    waiting->changed.Signal();
  });
  CancelHook hook(options.canceller, [waiting] {
    absl::MutexLock lock(&waiting->mutex);
    waiting->cancelled = true;
    waiting->changed.Signal();
  });

  UnaryEnd<Response> end;
  for (bool waits = true; waits;) {
    Deadline look = Deadline::Earlier(options.deadline, Deadline::In(kLinkLookEvery));
    {
      absl::MutexLock lock(&waiting->mutex);
      while (!waiting->done && !waiting->cancelled && !look.passed()) {
        waiting->changed.WaitWithTimeout(&waiting->mutex, look.left());
      }
      if (waiting->done) break;
      if (waiting->cancelled) {
        end.end = CallResult::End::kCancelled;
        break;
      }
    }
    waits = false;
    if (options.deadline.passed()) {
      end.end = CallResult::End::kTimeout;
    } else if (over && over()) {
      end.cause = absl::UnavailableError("its session is over");
    } else if (!link.alive()) {
      end.cause = absl::UnavailableError(absl::StrCat("the connection to ", link.address(), " is lost"));
    } else if (!link.Probe()) {
      end.cause = absl::UnavailableError(absl::StrCat(link.address(), " does not answer"));
      link.Break(end.cause);
    } else {
      waits = true;
    }
  }
  // It ends before we go: gRPC's own threads must not be the last to let go of the channel.
  waiting->context->TryCancel();
  {
    absl::MutexLock lock(&waiting->mutex);
    while (!waiting->done) waiting->changed.Wait(&waiting->mutex);
    // Its own end, or an answer that came after all.
    if (end.end == CallResult::End::kBroken && end.cause.ok()) end.end = CallResult::End::kAnswered;
    if (waiting->status.ok()) end.end = CallResult::End::kAnswered;
    end.status = waiting->status;
  }
  if (end.end == CallResult::End::kAnswered && end.status.ok()) end.response = std::move(waiting->response);
  waiting->context.reset();
  return end;
}

// Until it is answered: what may be repeated.
template <typename Response, typename Start>
absl::StatusOr<Response> Unary(ClientCore& core, const CallOptions& options, Start&& start) {
  Outage outage(core.options().unavailable_timeout);
  for (;;) {
    if (options.deadline.passed()) return DeadlineError(outage.cause());
    absl::StatusOr<std::shared_ptr<Link>> link =
        core.transport().Get(Deadline::Earlier(options.deadline, outage.until()), options.canceller);
    if (!link.ok()) {
      if (IsCancelled(options.canceller)) return CancelledError();
      return options.deadline.passed() ? DeadlineError(link.status()) : link.status();
    }
    outage.Begin();
    UnaryEnd<Response> sent = SendOn<Response>(**link, options, nullptr, start);
    absl::Status failure = std::move(sent.cause);
    switch (sent.end) {
      case CallResult::End::kAnswered: {
        if (sent.status.ok()) return std::move(sent.response);
        failure = FromGrpc(sent.status, core.names());
        if (absl::IsDeadlineExceeded(failure)) return DeadlineError(outage.cause());
        std::optional<v1::ErrorDetail> detail = DetailOf(sent.status);
        if (ReasonOf(failure) == Reason::kStoreChanged && detail.has_value())
          core.position().Adopt(detail->header());
        if (!IsTransient(failure)) return failure;
        break;
      }
      case CallResult::End::kBroken:
        break;
      case CallResult::End::kTimeout:
        return DeadlineError(outage.cause());
      case CallResult::End::kCancelled:
        return CancelledError();
    }
    outage.Fail(failure);
    if (outage.over()) return failure;
    absl::Duration pause =
        std::max(outage.Pause(), InfoOf(failure).retry_after.value_or(absl::ZeroDuration()));
    if (!Sleep(std::min({pause, options.deadline.left(), outage.until().left()}), options.canceller)) {
      return CancelledError();
    }
  }
}

// The id of a call, over all its sends.
struct CallId {
  v1::CommitId id;
  bool sent = false;  // it may have reached a daemon, and no verdict came
};

struct OnceOptions {
  CallOptions call;
  absl::Duration outage_max = absl::InfiniteDuration();
  std::function<bool()> over;  // what the call is for is over: it ends as UNAVAILABLE
};

// Until there is a verdict: what changes something. start(channel, context, id, response, callback) makes the
// call; `id` goes on where an earlier SendOnce left it. UNAVAILABLE, DEADLINE_EXCEEDED and CANCELLED leave
// id->sent as it is: the same call may be made again. Whatever else comes is a verdict on the last send.
template <typename Response, typename Start>
absl::StatusOr<Response> SendOnce(ClientCore& core, const OnceOptions& options, CallId* id, Start&& start) {
  const CallOptions& call = options.call;
  Outage outage(options.outage_max);
  for (;;) {
    if (call.deadline.passed()) return DeadlineError(outage.cause());
    absl::StatusOr<std::shared_ptr<Link>> link =
        core.transport().Get(Deadline::Earlier(call.deadline, outage.until()), call.canceller);
    if (!link.ok()) {
      if (IsCancelled(call.canceller)) return CancelledError();
      return call.deadline.passed() ? DeadlineError(link.status()) : link.status();
    }
    if (id->sent) {
      id->id.set_resend(true);
    } else {
      // Named by what is known now: the writer this id is first sent to alone may ever execute it.
      Position::Known known = core.position().Get();
      id->id.Clear();
      id->id.set_transaction_id(NewUuid());
      id->id.set_writer(known.writer);
      id->id.mutable_seen()->set_version(known.seen);
      id->id.mutable_seen()->set_store(known.store);
    }
    id->sent = true;
    outage.Begin();
    UnaryEnd<Response> sent = SendOn<Response>(
        **link, call, options.over,
        [&](const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext* context, Response* response,
            auto callback) { start(channel, context, id->id, response, std::move(callback)); });
    absl::Status failure = std::move(sent.cause);
    switch (sent.end) {
      case CallResult::End::kAnswered: {
        if (sent.status.ok()) {
          id->sent = false;
          core.position().Observe(sent.response.header());
          return std::move(sent.response);
        }
        failure = FromGrpc(sent.status, core.names());
        if (absl::IsDeadlineExceeded(failure)) return DeadlineError(outage.cause());
        std::optional<v1::ErrorDetail> detail = DetailOf(sent.status);
        const v1::ErrorReason reason = detail.has_value() ? detail->reason() : v1::ERROR_REASON_UNSPECIFIED;
        if (detail.has_value() && detail->has_header()) {
          if (reason == v1::ERROR_REASON_STORE_CHANGED) {
            core.position().Adopt(detail->header());
          } else {
            core.position().Observe(detail->header());
          }
        }
        if (reason == v1::ERROR_REASON_NOT_COMMITTED) {
          failure = absl::UnavailableError("the daemon that the call was sent to is gone");
          id->sent = false;
        } else if (reason == v1::ERROR_REASON_ID_TOO_OLD) {
          id->sent = false;
          if (id->id.resend())
            return CommitUnknownError(id->id, "it was sent too long ago for the daemon to tell");
          failure = absl::UnavailableError("the call's id was too old when it came");
        } else if (!IsTransient(failure)) {
          id->sent = false;
          return failure;
        }
        break;
      }
      case CallResult::End::kBroken:
        break;
      case CallResult::End::kTimeout:
        return DeadlineError(outage.cause());
      case CallResult::End::kCancelled:
        return CancelledError();
    }
    // UNAVAILABLE may be the network's word: whether the daemon did it is found out by the same id.
    if (options.over && options.over()) return failure;
    outage.Fail(failure);
    if (outage.over()) return IsTransient(failure) ? failure : absl::UnavailableError(failure.message());
    absl::Duration pause =
        std::max(outage.Pause(), InfoOf(failure).retry_after.value_or(absl::ZeroDuration()));
    if (!Sleep(std::min({pause, call.deadline.left(), outage.until().left()}), call.canceller))
      return CancelledError();
  }
}

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_UNARY_H_
