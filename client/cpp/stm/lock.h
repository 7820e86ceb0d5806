// Locks: java.util.concurrent's fair locks, read-write locks, semaphores and conditions, held by this
// client's session. client.Acquire(name) gives a Held; its end releases. A Held is this client's belief: what
// a commit may do under a lock is decided by tx.Fence(held) alone. Any thread; calls are I/O, and inside a
// transaction's body they are kInTransaction.
#ifndef STM_CLIENT_CPP_STM_LOCK_H_
#define STM_CLIENT_CPP_STM_LOCK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "stm/options.h"
#include "stm/value.h"

namespace stm {

class Held;
struct AcquireOptions;

namespace internal {
class ClientCore;
class Grant;
class Lease;
absl::StatusOr<Held> AcquireHeld(const std::shared_ptr<ClientCore>& client, std::string_view name,
                                 const AcquireOptions& options);
}  // namespace internal

struct AcquireOptions {
  // With others who read; else alone. Whoever holds it alone may have it shared too, and then release the
  // first (downgrade); the other way round it is kUpgradeRefused while others read.
  bool shared = false;
  // Not 0: a semaphore of so many permits, the same for all who use it, and how many of them (0: one).
  uint32_t permits_max = 0;
  uint32_t permits = 0;
  // Infinite: until it is granted. Zero: at once, past those who wait, or kLockBusy. Else kLockBusy after so
  // long.
  absl::Duration wait = absl::InfiniteDuration();
  // Reentrant for the same owner of this client: each Acquire is a hold, each Held releases one. "": the
  // client itself, so threads that are to exclude one another name themselves. At most 256 bytes.
  std::string owner;
  // Of the whole call; then DEADLINE_EXCEEDED, and the place in the queue is given up.
  absl::Duration timeout = absl::InfiniteDuration();
  std::optional<Canceller> canceller;
  std::string label;  // why, kept with the commit
};

// One hold. Move-only; its end releases it, and what could not be released within kReleaseInEndMax goes on in
// the background. Errors of that are dropped: then the session's end releases it.
class Held {
 public:
  static constexpr absl::Duration kReleaseInEndMax = absl::Seconds(1);

  Held(Held&&) noexcept = default;
  Held& operator=(Held&& other) noexcept;
  ~Held() { End(); }

  // What fences name; grows with each grant of the lock. Await changes it.
  int64_t token() const;
  const std::string& name() const;
  // The grant is gone, the session's time is over by this client's own clock, or Release was called. Stays
  // true.
  bool lost() const;
  // True as soon as it is lost; false after `timeout`.
  bool AwaitLost(absl::Duration timeout) const;
  // Called once, on the client's pool, when it is lost, at once if it is already; not for a Release.
  void OnLost(std::function<void()> callback) const;

  // kLockLost: it was lost before. UNAVAILABLE: no daemon answered, and it may be called again.
  absl::Status Release();

  // Of an exclusive hold. Gives the lock up with all its holds, awaits a signal, and has the lock again,
  // however long that takes. False: `timeout` was over before a signal came. kLockLost: it is not held any
  // more.
  absl::StatusOr<bool> Await(std::string_view condition, absl::Duration timeout = absl::InfiniteDuration());
  // Wakes the first who awaits, or all. How many were woken.
  absl::StatusOr<int64_t> Signal(std::string_view condition) { return Wake(condition, false); }
  absl::StatusOr<int64_t> SignalAll(std::string_view condition) { return Wake(condition, true); }

 private:
  friend class Tx;
  friend absl::StatusOr<Held> internal::AcquireHeld(const std::shared_ptr<internal::ClientCore>& client,
                                                    std::string_view name, const AcquireOptions& options);
  Held(std::shared_ptr<internal::ClientCore> core, std::shared_ptr<internal::Grant> grant)
      : core_(std::move(core)), grant_(std::move(grant)) {}
  void End();
  absl::StatusOr<int64_t> Wake(std::string_view condition, bool all);

  std::shared_ptr<internal::ClientCore> core_;
  std::shared_ptr<internal::Grant> grant_;  // null: moved from
};

// What a client holds locks and ephemeral entries by, as far as this client believes in it. A handle of one
// session: the next need of one after its end opens another. Keeps its client, whose end closes it.
class Session {
 public:
  // As operators see it (Client::Sessions), and as Definition.session_id of the wire names it.
  const std::string& id() const;
  // It was expired, or not heard of for its TTL by this client's own clock. Stays true.
  bool lost() const;
  // True as soon as it is lost; false after `timeout`.
  bool AwaitLost(absl::Duration timeout) const;

 private:
  friend class Client;
  Session(std::shared_ptr<internal::ClientCore> core, std::shared_ptr<internal::Lease> lease)
      : core_(std::move(core)), lease_(std::move(lease)) {}

  std::shared_ptr<internal::ClientCore> core_;
  std::shared_ptr<internal::Lease> lease_;
};

enum class LockMode : uint8_t { kExclusive, kShared, kPermits };

// One who holds a lock, or waits for it.
struct LockHold {
  std::string session_id;
  std::string owner;
  LockMode mode = LockMode::kExclusive;
  int64_t token = 0;  // 0: it waits
  int64_t holds = 0;
  int64_t permits = 0;
  Instant since;  // when it was granted, or began to wait
};

// A lock as an operator sees it.
struct LockInfo {
  std::string name;
  std::vector<LockHold> holders;
  std::vector<LockHold> queue;  // in order; the first 1000, and none in a listing
  int64_t permits_max = 0;      // 0: it is no semaphore
  int64_t last_token = 0;
};

struct SessionInfo {
  std::string session_id;
  std::string client;  // "host/program/pid"
  absl::Duration ttl;
  std::optional<absl::Duration> left;  // until it expires if nothing is heard; nullopt: another daemon knows
  uint64_t daemon = 0;                 // that has its lease
  Instant since;
  std::vector<std::string> locks;    // that it holds, waits for, or awaits a condition of
  std::vector<std::string> entries;  // bound to it
};

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_LOCK_H_
