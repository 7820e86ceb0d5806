// Loop runs all engine state's tasks one at a time, in order of posting; which thread runs one is the Loop's affair.
// Time and chance in engine/ come from here alone, so that a simulation owns them. Executor runs what must not
// hold the Loop up: writes, answers, heavy work.
#ifndef STM_ENGINE_LOOP_H_
#define STM_ENGINE_LOOP_H_

#include <cstdint>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "engine/values/value.h"

namespace stm::engine {

using Task = absl::AnyInvocable<void()>;

class Loop {
 public:
  virtual ~Loop() = default;
  // Time since some fixed moment; never goes back, counts suspend. Any thread.
  virtual absl::Duration Now() = 0;
  // What calendars say; may jump. Any thread.
  virtual Instant WallNow() = 0;
  // Runs `task` on the Loop, after every task posted before. Any thread.
  virtual void Post(Task task) = 0;
  // Runs `task` on the Loop once Now() >= when. On the Loop. A timer is not cancelled: its task checks whether it is
  // still wanted.
  virtual void At(absl::Duration when, Task task) = 0;
  // 64 random bits. On the Loop.
  virtual uint64_t Random() = 0;
};

enum class Work : uint8_t {
  kAnswer,  // short: fills in and sends answers
  kWrite,   // the log's write and fdatasync: the disk holds it up, not the processor
  kHeavy,   // long: large values, snapshots, reading the log
};

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `task` off the Loop, soon, on any thread, in any order with other tasks. Any thread.
  virtual void Run(Work work, Task task) = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_LOOP_H_
