// Transport is the connection to one daemon out of several: a channel, and on it the Pipeline stream that carries
// gets, lists, commits and awaits. Everything ready goes into the next message; one write is in the air.
// Any thread. Always: one Link is in use; a Link that broke never works again; a call is told whether it may have been
// sent, for on that hangs what its caller may do.
#ifndef STM_CLIENT_CPP_CORE_TRANSPORT_H_
#define STM_CLIENT_CPP_CORE_TRANSPORT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/core/position.h"
#include "client/cpp/core/time.h"
#include "stm/options.h"
#include "stm/v1/transaction_service.pb.h"

namespace grpc {
class Channel;
}

namespace stm::internal {

class Stream;

// How one call on the stream ended.
struct CallResult {
  enum class End : uint8_t { kAnswered, kBroken, kTimeout, kCancelled };
  End end = End::kBroken;
  bool sent = false;          // it may have reached the daemon
  v1::PipelineAnswer answer;  // kAnswered
  absl::Status cause;         // kBroken
};

// One connection, from its making to its break.
class Link {
 public:
  Link(std::string address, std::shared_ptr<grpc::Channel> channel, std::shared_ptr<Stream> stream)
      : address_(std::move(address)), channel_(std::move(channel)), stream_(std::move(stream)) {}
  ~Link();

  const std::string& address() const { return address_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  bool alive() const;
  // `fill` makes the request. Blocks. A daemon that is silent for long is asked for its status; no answer is a break.
  CallResult Call(const std::function<void(v1::PipelineCall*)>& fill, Deadline deadline,
                  const std::optional<Canceller>& canceller);
  // Calls under way end as kBroken.
  void Break(const absl::Status& cause);
  // False after kProbeTimeout without an answer.
  bool Probe() const;
  // The daemon answered something beside the stream: it need not be asked for a while.
  void Heard() const;

 private:
  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::shared_ptr<Stream> stream_;
};

class Transport {
 public:
  Transport(std::vector<std::string> addresses, std::shared_ptr<Position> position);
  ~Transport();

  // A link that works, connecting if need be; waits for a daemon that is ready. UNAVAILABLE at the deadline: names the
  // addresses and the last cause.
  absl::StatusOr<std::shared_ptr<Link>> Get(Deadline deadline, const std::optional<Canceller>& canceller)
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::string address() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Breaks `link`, if there is another daemon to go to: Get tries that one first.
  void Leave(Link* link, const absl::Status& cause) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::StatusOr<std::shared_ptr<Link>> Connect(Deadline deadline, const std::optional<Canceller>& canceller);
  absl::StatusOr<std::shared_ptr<Link>> Try(const std::string& address, Deadline deadline);

  const std::vector<std::string> addresses_;
  const std::shared_ptr<Position> position_;
  mutable absl::Mutex mutex_;
  absl::CondVar changed_;
  std::shared_ptr<Link> link_ ABSL_GUARDED_BY(mutex_);
  bool connecting_ ABSL_GUARDED_BY(mutex_) = false;
  size_t pinned_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
};

// Sleeps, or less if cancelled. False: cancelled.
bool Sleep(absl::Duration duration, const std::optional<Canceller>& canceller);

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_TRANSPORT_H_
