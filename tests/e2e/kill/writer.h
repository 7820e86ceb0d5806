// Writer is one client of a daemon that is killed again and again: it commits over gRPC, resends what it got
// no answer to under the same id, and writes down all it was told. One thread a Writer.
#ifndef STM_TESTS_E2E_KILL_WRITER_H_
#define STM_TESTS_E2E_KILL_WRITER_H_

#include <grpcpp/grpcpp.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "stm/v1/admin_service.grpc.pb.h"
#include "stm/v1/log_service.grpc.pb.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "tests/checkers/history.h"

namespace stm::e2e {

inline constexpr int kAccounts = 8;
inline constexpr int kCounters = 4;
inline constexpr int64_t kAccountBegin = 1000;

// Nanoseconds of the one clock of all writers.
check::Time Clock();
// A connection of its own, that comes back soon after the daemon does.
std::shared_ptr<grpc::Channel> Dial(const std::string& address);

// What all writers were told, counted. Any thread.
class Answers {
 public:
  enum class Kind : uint8_t {
    kVerdict,
    kRefusal,  // "not committed", by a bound or for want of room
    kNone,     // a call ended without any
  };
  void Add(Kind kind) {
    absl::MutexLock hold(&mutex_);
    ++counts_[static_cast<size_t>(kind)];
  }
  // A writer gave up: nobody needs to wait any more.
  void GiveUp() {
    absl::MutexLock hold(&mutex_);
    given_up_ = true;
  }
  // Waits for `count` more. False: a writer gave up, or a minute passed.
  bool AwaitMore(int64_t count, Kind kind = Kind::kVerdict) {
    absl::MutexLock hold(&mutex_);
    const int64_t& counted = counts_[static_cast<size_t>(kind)];
    const int64_t goal = counted + count;
    const auto reached = [this, &counted, goal]()
                             ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return given_up_ || counted >= goal; };
    return mutex_.AwaitWithTimeout(absl::Condition(&reached), absl::Minutes(1)) && !given_up_;
  }

 private:
  absl::Mutex mutex_;
  std::array<int64_t, 3> counts_ ABSL_GUARDED_BY(mutex_) = {};
  bool given_up_ ABSL_GUARDED_BY(mutex_) = false;
};

class Writer {
 public:
  // `answers` outlives the writer.
  Writer(int64_t number, const std::string& address, uint64_t seed, Answers* answers,
         std::chrono::milliseconds call_timeout);

  // Writes until `stop`; then finds out what is unknown yet, and returns. False: the daemon did not come
  // back.
  bool Run(const std::atomic<bool>& stop);
  // Makes the accounts.
  bool Prepare();
  // All entries, as one read at the newest; then the log.
  bool ReadAll();
  std::optional<check::Log> ReadLog();

  // After Run.
  struct Figures {
    int64_t committed = 0;
    int64_t conflicts = 0;
    int64_t refused = 0;
    int64_t resends = 0;
    int64_t resends_committed = 0;
    int64_t resends_not_committed = 0;
    std::map<std::string, int64_t> added;  // to each counter, acknowledged
  };
  const Figures& figures() const { return figures_; }
  check::History& history() { return history_; }

 private:
  enum class Sent : uint8_t { kDone, kConflict, kAgain, kGone };

  bool Connect();
  std::optional<std::map<std::string, std::optional<Value>>> Get(const std::vector<std::string>& names);
  // Sends until there is a verdict.
  Sent Commit(check::Transaction transaction);
  void Learn(const v1::Header& header);
  void Add(const check::Transaction& transaction);
  bool OneOperation();
  bool WaitForDaemon();
  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  const int64_t number_;
  Answers* const answers_;
  const std::chrono::milliseconds call_timeout_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  std::unique_ptr<v1::RefService::Stub> refs_;
  std::unique_ptr<v1::TransactionService::Stub> transactions_;
  std::unique_ptr<v1::LogService::Stub> log_;
  std::mt19937_64 random_;
  uint64_t store_ = 0;
  uint64_t writer_ = 0;
  int64_t seen_ = 0;
  int64_t snapshot_ = 0;
  int64_t made_ = 0;
  check::History history_;
  Figures figures_;
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_KILL_WRITER_H_
