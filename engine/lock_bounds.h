// LockBounds are what locks and sessions may come to, LeaseOptions when sessions end (engine/locks). Names
// are those of the settings and of errors.
#ifndef STM_ENGINE_LOCK_BOUNDS_H_
#define STM_ENGINE_LOCK_BOUNDS_H_

#include <cstdint>

#include "absl/time/time.h"

namespace stm::engine {

// Planted bugs of what a lock's calls do.
struct LockCanaries {
  bool token_reused = false;    // a lock that was forgotten begins its tokens anew
  bool waiter_dropped = false;  // a grant to one who waits drops the next in line
};

struct LockBounds {
  int64_t lock_queue_max = 20000;     // places of one lock's queue, and of one condition's
  int64_t lock_holders_max = 500;     // of a shared lock, or a semaphore: who asks for more waits
  int64_t session_things_max = 1000;  // locks, places and entries of one session
  int64_t session_end_entries_max =
      4000;  // changed by one commit that ends a session; what is left goes in another
  int64_t session_end_bytes_max = 2 << 20;  // EDN bytes of the same
  int64_t deadlock_steps_max =
      1000;  // holders that are looked at for a cycle; one that is longer is not found
  absl::Duration lock_idle = absl::Minutes(10);  // a lock that nobody used for so long is deleted
  LockCanaries canaries;
};

struct LeaseOptions {
  absl::Duration ttl_default = absl::Seconds(15);
  absl::Duration ttl_min = absl::Seconds(2);
  absl::Duration ttl_max = absl::Minutes(10);
  int64_t sessions_max = 100000;
  // How often daemons that are gone are looked for, and the Loop is found to have stood still if it took this
  // much longer.
  absl::Duration tick = absl::Milliseconds(500);
};

// Planted bugs of leases.
struct LeaseCanaries {
  bool expire_early = false;   // at half the TTL
  bool answer_unsure = false;  // beats, though others may see the daemon gone
};

}  // namespace stm::engine

#endif  // STM_ENGINE_LOCK_BOUNDS_H_
