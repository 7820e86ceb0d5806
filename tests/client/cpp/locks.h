// What tests of locks share: acquiring in a thread of its own, and looking at who holds and who waits.
#ifndef STM_TESTS_CLIENT_CPP_LOCKS_H_
#define STM_TESTS_CLIENT_CPP_LOCKS_H_

#include <chrono>
#include <future>
#include <string>

#include "stm/client.h"
#include "tests/client/cpp/fixture.h"

namespace stm::testing {

using Acquired = std::future<absl::StatusOr<Held>>;

inline AcquireOptions As(const std::string& owner, absl::Duration wait = absl::InfiniteDuration()) {
  AcquireOptions options;
  options.owner = owner;
  options.wait = wait;
  return options;
}

inline AcquireOptions AtOnce(AcquireOptions options = {}) {
  options.wait = absl::ZeroDuration();
  return options;
}

inline AcquireOptions SharedBy(const std::string& owner = "",
                               absl::Duration wait = absl::InfiniteDuration()) {
  AcquireOptions options = As(owner, wait);
  options.shared = true;
  return options;
}

inline Acquired Async(const Client& client, const std::string& name, const AcquireOptions& options = {}) {
  return std::async(std::launch::async, [client, name, options] { return client.Acquire(name, options); });
}

inline bool QueueIs(const Client& client, const std::string& name, size_t size) {
  return Eventually([&] { return Must(client.Lock(name)).queue.size() == size; });
}

inline bool IsFree(const Client& client, const std::string& name) {
  const LockInfo lock = Must(client.Lock(name));
  return lock.holders.empty() && lock.queue.empty();
}

// It waits, or it is answered: a future that is not ready says nothing by itself.
inline bool IsReady(Acquired& acquired) {
  return acquired.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

inline size_t SessionsOf(const Client& client, const std::string& program) {
  size_t count = 0;
  for (const stm::SessionInfo& session : Must(client.Sessions())) {
    count += session.client.find("/" + program + "/") != std::string::npos;
  }
  return count;
}

}  // namespace stm::testing

#endif  // STM_TESTS_CLIENT_CPP_LOCKS_H_
