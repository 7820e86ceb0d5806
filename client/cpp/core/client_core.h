// ClientCore is a client without types: the transport, the position, and the calls that outlive a broken connection.
// Commit is exactly-once: one id until there is a verdict, the same in every resend; a new one only when the daemon says
// that the old was not committed. Any thread.
#ifndef STM_CLIENT_CPP_CORE_CLIENT_CORE_H_
#define STM_CLIENT_CPP_CORE_CLIENT_CORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/core/pool.h"
#include "client/cpp/core/position.h"
#include "client/cpp/core/time.h"
#include "client/cpp/core/transport.h"
#include "client/cpp/core/wire.h"
#include "stm/options.h"
#include "stm/v1/transaction_service.pb.h"

namespace stm::internal {

// A call that was under way for so long before it broke was no part of an outage.
inline constexpr absl::Duration kWasWellAfter = absl::Seconds(1);

// Outage counts how long calls have failed, and when it is enough.
class Outage {
 public:
  explicit Outage(absl::Duration limit) : limit_(limit) {}
  // When to give up: `limit` after the first failure; without one, `limit` from now.
  Deadline until() const { return until_.has_value() ? *until_ : Deadline::In(limit_); }
  // Of each call, as it begins: one that fails after kWasWellAfter or more was in no outage.
  void Begin() { well_after_ = Deadline::In(kWasWellAfter); }
  void Fail(const absl::Status& cause);
  void End() { until_.reset(), failures_ = 0; }
  bool over() const { return until_.has_value() && until_->passed(); }
  // Before the next try: none after the first failure, then 10 ms to 1 s.
  absl::Duration Pause() const;
  const absl::Status& cause() const { return cause_; }

 private:
  const absl::Duration limit_;
  std::optional<Deadline> until_;
  Deadline well_after_;  // of the call under way; never: none was begun
  int failures_ = 0;
  absl::Status cause_;
};

struct CallOptions {
  Deadline deadline;
  std::optional<Canceller> canceller;
};

// What became known of a commit beside its verdict.
struct Sent {
  std::string transaction_id;  // that the verdict is of
  int64_t resends = 0;         // counted up, whatever came of it
};

class Session;

class ClientCore : public std::enable_shared_from_this<ClientCore> {
 public:
  static absl::StatusOr<std::shared_ptr<ClientCore>> Connect(ConnectOptions options);
  ~ClientCore();

  const ConnectOptions& options() const { return options_; }
  const Names& names() const { return names_; }
  Position& position() { return *position_; }
  Transport& transport() { return *transport_; }
  // For what the client itself has to do, and callbacks: never behind what users wait for.
  Pool& background() { return *background_; }
  // For the async forms.
  Pool& pool() { return *pool_; }
  Session& session() { return *session_; }

  // A call that may be repeated, until it is answered: gets, lists, awaits. `fill` is called for each try.
  absl::StatusOr<v1::PipelineAnswer> Ask(const std::function<void(v1::PipelineCall*)>& fill,
                                         const CallOptions& options);

  // `fill` sets all but the id; the same content each time. `store`: whose snapshot it names; 0: none. The answer is a
  // verdict: committed, conflict, rejected or fence_lost. CommitUnknown carries the outcome word.
  absl::StatusOr<v1::CommitResponse> Commit(const std::function<void(v1::CommitRequest*)>& fill, uint64_t store,
                                            const CallOptions& options, Sent* told);
  // Any outcome; id_too_old included.
  absl::StatusOr<v1::CommitResponse> GetOutcome(const v1::CommitId& id, Deadline deadline);

  void SetSeen(v1::Seen* seen) const;
  void Warn(const std::string& message) const;

 private:
  explicit ClientCore(ConnectOptions options);
  absl::StatusOr<v1::CommitResponse> Settle(const v1::CommitId& id, CallResult::End end);

  const ConnectOptions options_;
  const Names names_;
  const std::shared_ptr<Position> position_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Pool> background_;
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<Session> session_;
};

absl::Status DeadlineError(const absl::Status& cause);
absl::Status CancelledError();
absl::Status StoreChangedError();
// kLockLost. `what`: "is gone", of the grant of the lock that the client knows as `name`.
absl::Status LockLostError(const std::string& name, std::string_view what);
absl::Status CommitUnknownError(const v1::CommitId& id, std::string_view why);
// May the same call be sent again after this answer?
bool IsTransient(const absl::Status& status);

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_CLIENT_CORE_H_
