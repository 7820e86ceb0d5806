// Tells ThreadSanitizer what absl::Mutex orders. Debian's Abseil is not instrumented, so that TSan sees neither its
// atomics nor its futexes, and reports every field that an absl::Mutex guards (gRPC's own locks are absl::Mutexes too).
// Here the calls are taken over, in a build for TSan only, and passed on with what they acquire and release.
// A Condition may be evaluated by whichever thread holds the mutex: that is an acquire and a release of its own, and what
// it looks at (a closure on the waiting thread's stack) is released before the wait, also by LockWhen, which has no lock yet.
#if defined(__SANITIZE_THREAD__)

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdio>
#include <cstdlib>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace {

void* Next(const char* symbol) {
  void* found = dlsym(RTLD_NEXT, symbol);
  if (found == nullptr) {
    std::fprintf(stderr, "tsan_mutex: no %s: has Abseil's inline namespace changed?\n", symbol);
    std::abort();
  }
  return found;
}

// The mutex that this thread is inside a call of.
thread_local void* current = nullptr;

class Inside {
 public:
  explicit Inside(void* mutex) : outer_(current) { current = mutex; }
  ~Inside() { current = outer_; }

 private:
  void* outer_;
};

// Abseil's own search for deadlocks is on in Debian's build. It reads and writes a graph behind a spin lock that TSan
// can't see, at every lock; TSan looks for the same.
const bool no_deadlock_graph = [] {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return true;
}();

}  // namespace

// NEXT(return type, mangled name, argument types...): the library's own function. debian3 is the inline namespace that
// Debian 12 gives its Abseil.
#define NEXT(result, symbol, ...)           \
  using Function = result (*)(__VA_ARGS__); \
  static const Function next = reinterpret_cast<Function>(Next(symbol))

namespace absl {

void Mutex::Lock() {
  NEXT(void, "_ZN4absl7debian35Mutex4LockEv", Mutex*);
  next(this);
  __tsan_acquire(this);
}

void Mutex::Unlock() {
  NEXT(void, "_ZN4absl7debian35Mutex6UnlockEv", Mutex*);
  __tsan_release(this);
  Inside inside(this);
  next(this);
}

bool Mutex::TryLock() {
  NEXT(bool, "_ZN4absl7debian35Mutex7TryLockEv", Mutex*);
  const bool locked = next(this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::ReaderLock() {
  NEXT(void, "_ZN4absl7debian35Mutex10ReaderLockEv", Mutex*);
  next(this);
  __tsan_acquire(this);
}

void Mutex::ReaderUnlock() {
  NEXT(void, "_ZN4absl7debian35Mutex12ReaderUnlockEv", Mutex*);
  __tsan_release(this);
  Inside inside(this);
  next(this);
}

bool Mutex::ReaderTryLock() {
  NEXT(bool, "_ZN4absl7debian35Mutex13ReaderTryLockEv", Mutex*);
  const bool locked = next(this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::Await(const Condition& condition) {
  NEXT(void, "_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE", Mutex*, const Condition&);
  __tsan_release(this);
  Inside inside(this);
  next(this, condition);
  __tsan_acquire(this);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  NEXT(bool, "_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE", Mutex*, const Condition&,
       Duration);
  __tsan_release(this);
  Inside inside(this);
  const bool holds = next(this, condition, timeout);
  __tsan_acquire(this);
  return holds;
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  NEXT(bool, "_ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE", Mutex*, const Condition&,
       Time);
  __tsan_release(this);
  Inside inside(this);
  const bool holds = next(this, condition, deadline);
  __tsan_acquire(this);
  return holds;
}

void Mutex::LockWhen(const Condition& condition) {
  NEXT(void, "_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE", Mutex*, const Condition&);
  __tsan_release(this);
  Inside inside(this);
  next(this, condition);
  __tsan_acquire(this);
}

void Mutex::ReaderLockWhen(const Condition& condition) {
  NEXT(void, "_ZN4absl7debian35Mutex14ReaderLockWhenERKNS0_9ConditionE", Mutex*, const Condition&);
  __tsan_release(this);
  Inside inside(this);
  next(this, condition);
  __tsan_acquire(this);
}

bool Mutex::LockWhenWithTimeout(const Condition& condition, Duration timeout) {
  NEXT(bool, "_ZN4absl7debian35Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE", Mutex*, const Condition&,
       Duration);
  __tsan_release(this);
  Inside inside(this);
  const bool holds = next(this, condition, timeout);
  __tsan_acquire(this);
  return holds;
}

bool Mutex::LockWhenWithDeadline(const Condition& condition, Time deadline) {
  NEXT(bool, "_ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE", Mutex*, const Condition&,
       Time);
  __tsan_release(this);
  Inside inside(this);
  const bool holds = next(this, condition, deadline);
  __tsan_acquire(this);
  return holds;
}

void CondVar::Wait(Mutex* mutex) {
  NEXT(void, "_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE", CondVar*, Mutex*);
  __tsan_release(mutex);
  Inside inside(mutex);
  next(this, mutex);
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  NEXT(bool, "_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE", CondVar*, Mutex*, Duration);
  __tsan_release(mutex);
  Inside inside(mutex);
  const bool timed_out = next(this, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  NEXT(bool, "_ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE", CondVar*, Mutex*, Time);
  __tsan_release(mutex);
  Inside inside(mutex);
  const bool timed_out = next(this, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

bool Condition::Eval() const {
  NEXT(bool, "_ZNK4absl7debian39Condition4EvalEv", const Condition*);
  void* const mutex = current;
  if (mutex != nullptr) __tsan_acquire(mutex);
  const bool holds = next(this);
  if (mutex != nullptr) __tsan_release(mutex);
  return holds;
}

}  // namespace absl

#endif  // __SANITIZE_THREAD__
