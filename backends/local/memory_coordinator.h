// MemoryCoordinator orders the commits of one daemon that keeps nothing: `stmd --ephemeral`. Its log is in
// memory, as much of it as its bound allows, and gone with it. Coordinator's and Writers' methods on the
// Loop; LogReader's from any thread.
#ifndef STM_BACKENDS_LOCAL_MEMORY_COORDINATOR_H_
#define STM_BACKENDS_LOCAL_MEMORY_COORDINATOR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/coordinator.h"
#include "engine/loop.h"

namespace stm::local {

struct MemoryOptions {
  int64_t log_bytes = 64 << 20;  // of EDN, about; the oldest commits go
};

class MemoryCoordinator : public engine::Coordinator,
                          public engine::Writers,
                          public engine::LogReader,
                          public engine::Archive {
 public:
  // The loop outlives the coordinator.
  MemoryCoordinator(engine::Loop* loop, MemoryOptions options) : loop_(loop), options_(options) {}

  void Recover(engine::Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) override;
  void Append(engine::Batch batch, absl::AnyInvocable<void(engine::AppendResult)> done) override;
  // Answers at once, before it returns.
  void Barrier(absl::AnyInvocable<void(absl::StatusOr<engine::Version>)> done) override;
  void Trim(engine::Version id_floor) override;

  uint64_t store() const override { return store_; }
  uint64_t self() const override { return writer_; }
  void Close(uint64_t writer, absl::AnyInvocable<void(absl::Status)> done) override;
  bool Alive(uint64_t writer) override { return writer == self(); }

  // LogReader.
  void CatchUp(absl::AnyInvocable<void(absl::Status)> done) override { done(absl::OkStatus()); }
  engine::Version FirstVersion() override;
  absl::StatusOr<std::unique_ptr<engine::LogCursor>> Open(engine::Version from) override;
  // Each commit is shown with the change of `name` alone.
  absl::StatusOr<std::vector<engine::LogCursor::Item>> History(const std::string& name,
                                                               engine::Version before, size_t limit) override;

  // Archive. What is taken in lies in memory, where it goes anyway.
  std::unique_ptr<engine::Archive::Printer> Print(engine::Version version, Instant at) override;
  absl::StatusOr<std::unique_ptr<engine::Archive::Intake>> TakeIn() override;
  void Install(std::unique_ptr<engine::Archive::Intake> intake,
               absl::AnyInvocable<void(absl::Status)> done) override;

 private:
  friend class MemoryCursor;
  class Intake;

  struct Kept {
    engine::LogCursor::Item item;
    size_t bytes = 0;
  };

  void Keep(const std::shared_ptr<const engine::CommitRecord>& commit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckKept(engine::Version from) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  engine::Loop* const loop_;
  const MemoryOptions options_;
  engine::Sink* sink_ = nullptr;
  std::atomic<bool> taking_in_{false};
  uint64_t store_ = 0;
  uint64_t writer_ = 0;
  engine::Version next_ = 1;
  engine::Version answered_ = 0;

  mutable absl::Mutex mutex_;
  // Versions follow one another without gaps: the item of v is at v - first_.
  std::deque<Kept> log_ ABSL_GUARDED_BY(mutex_);
  engine::Version first_ ABSL_GUARDED_BY(mutex_) = 1;
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // The newest value of every entry: what the next change finds before it.
  absl::flat_hash_map<std::string, Value> newest_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_MEMORY_COORDINATOR_H_
