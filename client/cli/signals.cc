#include "client/cli/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstdint>

namespace stm::cli {
namespace {

constexpr int kCaught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCHLD};

std::atomic<uint64_t> g_pending{0};  // a bit a signal
std::atomic<int> g_event{-1};        // readable: something is pending, or Wake was called

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a handler uses them");

void Notify() {
  const uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(g_event, &one, sizeof one);  // full: it is readable
}

void Catch(int signal) {
  const int error = errno;
  g_pending |= uint64_t{1} << signal;
  Notify();
  errno = error;
}

}  // namespace

Signals::Signals() {
  assert(g_event < 0);
  g_pending = 0;
  g_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  assert(g_event >= 0);
  for (int signal : kCaught) {
    struct sigaction before = {};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler == SIG_IGN && signal != SIGCHLD) continue;
    struct sigaction action = {};
    action.sa_handler = Catch;
    action.sa_flags = SA_RESTART;
    sigaction(signal, &action, nullptr);
    before_.emplace_back(signal, before);
  }
}

Signals::~Signals() {
  Restore();
  close(g_event.exchange(-1));
}

void Signals::Restore() const {
  for (const auto& [signal, before] : before_) sigaction(signal, &before, nullptr);
}

void Signals::Wake() { Notify(); }

int Signals::Await(absl::Duration timeout) {
  if (g_pending == 0) {
    pollfd event = {g_event, POLLIN, 0};
    const int64_t ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(timeout), 0, 1000 * 3600);
    poll(&event, 1, timeout == absl::InfiniteDuration() ? -1 : static_cast<int>(ms));
    uint64_t count = 0;
    [[maybe_unused]] ssize_t taken = read(g_event, &count, sizeof count);
  }
  for (int signal : kCaught) {
    const uint64_t bit = uint64_t{1} << signal;
    if ((g_pending.fetch_and(~bit) & bit) != 0) return signal;
  }
  return 0;
}

void EndBy(int signal) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  raise(signal);
}

}  // namespace stm::cli
