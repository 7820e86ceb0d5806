// Alter is one transaction over one ref, again and again: read, computed in the client, committed; conflicts are run
// again and retry() sleeps as every stub does it, rule by rule of its contract. Runs on gRPC's threads, one thing at a
// time.
#ifndef STM_TESTS_BENCH_ALTER_H_
#define STM_TESTS_BENCH_ALTER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "tests/bench/call.h"

namespace stm::bench {

// Runs things later, on one thread of its own.
class Timer {
 public:
  Timer();
  ~Timer();
  void After(double seconds, std::function<void()> task);

 private:
  void Work();

  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::multimap<double, std::function<void()>> due_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

class Alter {
 public:
  // All outlive it, and nothing is under way when it goes.
  Alter(wire::RefService::Stub* refs, wire::TransactionService::Stub* transactions, Known* known, Timer* timer,
        const std::string& name);
  virtual ~Alter() = default;

  // Ends the sleep, if there is one, and lets no other begin: Stopped() is called then.
  void Stop();
  // Sleeps that ended because something had changed.
  int64_t wakes() const { return wakes_.load(); }

 protected:
  // Begins a transaction.
  void Transact();
  // The new value. False: retry().
  virtual bool Compute(const wire::Value& value, wire::Value* to) = 0;
  virtual void Committed() = 0;
  virtual void Stopped() { Fail("a transaction was stopped in its sleep"); }

 private:
  void Read();
  void Body(int64_t snapshot, const wire::Value& value);
  void RunAgain();
  void Sleep(int64_t snapshot);
  // The body on what a conflict or a sleep's end brought along.
  template <typename Answer>
  void BodyOnFresh(const Answer& answer);

  wire::RefService::Stub* const refs_;
  wire::TransactionService::Stub* const transactions_;
  Known* const known_;
  Timer* const timer_;
  std::mt19937_64 random_;
  Ids ids_;
  std::optional<grpc::ClientContext> context_;
  wire::GetRefsRequest get_;
  wire::GetRefsResponse got_;
  wire::CommitRequest commit_;
  wire::CommitResponse committed_;
  wire::AwaitChangeRequest await_;
  wire::AwaitChangeResponse changed_;
  double began_ = 0;
  uint32_t runs_ = 0;
  uint64_t reservation_ = 0;
  std::atomic<int64_t> wakes_{0};

  absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<grpc::ClientContext> sleep_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_ALTER_H_
