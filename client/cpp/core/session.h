// Session is what a client holds locks and ephemeral entries by: one lease at a time, opened when it is first
// needed and kept by beats on a stream of its own. Always: a lease is believed in until the sending of the
// newest answered beat, and the TTL less a margin; then it is over for good, with every grant of it, and the
// next need opens another. Clocks count suspend. What a commit may do is decided by fences, whatever is
// believed here. Any thread; one of its own beats.
#ifndef STM_CLIENT_CPP_CORE_SESSION_H_
#define STM_CLIENT_CPP_CORE_SESSION_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/core/client_core.h"
#include "client/cpp/core/unary.h"

namespace stm::internal {

// Since the machine's start, suspend included.
absl::Duration BootTime();

// One session of the daemon's, as this client believes in it.
class Lease {
 public:
  // `sent`: when the call that opened it was first sent.
  Lease(std::string id, absl::Duration ttl, absl::Duration sent);

  const std::string& id() const { return id_; }
  absl::Duration ttl() const { return ttl_; }
  // Once true it stays so, whatever is answered later.
  bool over() const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Duration until() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Zero: it is over.
  absl::Duration left() const ABSL_LOCKS_EXCLUDED(mutex_);
  // True as soon as it is over; false after `timeout`.
  bool AwaitOver(absl::Duration timeout) const ABSL_LOCKS_EXCLUDED(mutex_);
  // A beat that was sent then is answered.
  void Answered(absl::Duration sent) ABSL_LOCKS_EXCLUDED(mutex_);
  void End() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const std::string id_;
  const absl::Duration ttl_;
  const absl::Duration margin_;
  mutable absl::Mutex mutex_;
  mutable absl::CondVar ended_;
  absl::Duration until_ ABSL_GUARDED_BY(mutex_);
  mutable bool over_ ABSL_GUARDED_BY(mutex_) = false;
};

// What a Held shares with the session that may lose it.
class Grant {
 public:
  // `lock` as the daemon names it, `name` as the client does.
  Grant(std::shared_ptr<Lease> lease, std::string lock, std::string name, std::string owner, int64_t token)
      : lease_(std::move(lease)),
        lock_(std::move(lock)),
        name_(std::move(name)),
        owner_(std::move(owner)),
        token_(token) {}

  const Lease& lease() const { return *lease_; }
  const std::string& lock() const { return lock_; }
  const std::string& name() const { return name_; }
  const std::string& owner() const { return owner_; }
  int64_t token() const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetToken(int64_t token) ABSL_LOCKS_EXCLUDED(mutex_);
  // Lost or released.
  bool over() const ABSL_LOCKS_EXCLUDED(mutex_);
  bool AwaitOver(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);
  // The callbacks that wait for the loss; empty if it was over before.
  std::vector<std::function<void()>> Lose() ABSL_LOCKS_EXCLUDED(mutex_);
  // Nothing is called any more.
  void Release() ABSL_LOCKS_EXCLUDED(mutex_);
  bool released() const ABSL_LOCKS_EXCLUDED(mutex_);
  // False: it is lost already, and `callback` is not kept.
  bool OnLost(std::function<void()>* callback) ABSL_LOCKS_EXCLUDED(mutex_);

  // The one call that gives it back, over all who try.
  absl::Mutex releasing;
  CallId release ABSL_GUARDED_BY(releasing);

 private:
  const std::shared_ptr<Lease> lease_;
  const std::string lock_, name_, owner_;
  mutable absl::Mutex mutex_ ABSL_ACQUIRED_AFTER(releasing);
  absl::CondVar changed_;
  int64_t token_ ABSL_GUARDED_BY(mutex_);
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> on_lost_ ABSL_GUARDED_BY(mutex_);
};

class Session {
 public:
  explicit Session(ClientCore* client);
  // After Close.
  ~Session();

  // A lease that is believed in, opened if there is none.
  absl::StatusOr<std::shared_ptr<Lease>> Get(const CallOptions& options) ABSL_LOCKS_EXCLUDED(mutex_);
  // It is over, with all that it had. `known`: the daemon said so; else it is closed there too, in the
  // background.
  void Drop(const std::shared_ptr<Lease>& lease, bool known) ABSL_LOCKS_EXCLUDED(mutex_);

  // From now on the session may lose it, or has already.
  void Add(const std::shared_ptr<Grant>& grant) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(const std::shared_ptr<Grant>& grant) ABSL_LOCKS_EXCLUDED(mutex_);
  // After a condition: the grant has another token now, for all who have a hold of it.
  void Retoken(const std::string& lock, int64_t from, int64_t to) ABSL_LOCKS_EXCLUDED(mutex_);
  // Every grant of this lock and token that is here.
  void Lose(const std::string& lock, int64_t token) ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends the session at the daemon, kCloseMax at most. Nothing works afterwards.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);
  // Is raised by Close: for what goes on in the background.
  const Canceller& closing() const { return closing_; }

 private:
  using Token = std::pair<std::string, int64_t>;  // of a lock

  absl::StatusOr<std::shared_ptr<Lease>> Open(const CallOptions& options);
  void CloseAtDaemon(const std::string& id, const CallOptions& options);
  void Keep() ABSL_LOCKS_EXCLUDED(mutex_);
  void KeepLease(const std::shared_ptr<Lease>& lease);
  // Until the stream breaks or the lease is over. NOT_FOUND: the daemon says that the session is over.
  absl::Status BeatOn(Link* link, Lease* lease);
  void Tell(std::vector<std::function<void()>> callbacks);

  ClientCore* const client_;
  Canceller closing_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  bool opening_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<Lease> lease_ ABSL_GUARDED_BY(mutex_);
  std::multimap<Token, std::shared_ptr<Grant>> grants_ ABSL_GUARDED_BY(mutex_);
  // Losses that were told before the grant was known here: its answer may still be on its way.
  std::set<Token> lost_early_ ABSL_GUARDED_BY(mutex_);
  std::deque<Token> lost_early_order_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_SESSION_H_
