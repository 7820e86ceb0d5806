// Caller is one client of daemons that are killed, cut off and started again: it reads and commits over gRPC,
// sends again under the same id what it got no answer to, to the next of its daemons if it has several, and
// writes down all it was told. One thread a Caller.
#ifndef STM_TESTS_E2E_KILL_CALLER_H_
#define STM_TESTS_E2E_KILL_CALLER_H_

#include <grpcpp/grpcpp.h>

#include <array>
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

class Caller {
 public:
  struct Options {
    int64_t number = 0;
    std::vector<std::string> addresses;  // of daemons of one store; it begins with the first
    uint64_t seed = 0;
    Answers* answers = nullptr;  // outlives the caller
    std::chrono::milliseconds call_timeout{5000};
    // One commit in so many is waited for some milliseconds alone, and then sent to the next daemon while the
    // first still has it. 0: none.
    int64_t impatient_one_in = 0;
    // Where an entry that it makes is kept, "" inline. None: all are inline.
    std::function<std::string(const std::string& name)> container_of;
  };
  explicit Caller(const Options& options);

  // All entries, as one read at the newest; then the log.
  bool ReadAll();
  std::optional<check::Log> ReadLog();

  struct Figures {
    int64_t committed = 0;
    int64_t conflicts = 0;
    int64_t refused = 0;
    int64_t resends = 0;
    int64_t resends_committed = 0;
    int64_t resends_not_committed = 0;
    int64_t resends_refused = 0;           // any other verdict: a conflict, a rejection, too old
    std::map<std::string, int64_t> added;  // to each counter, acknowledged
  };
  // From the first call that failed, though it was waited for, to the next answer, of whichever daemon.
  struct Outage {
    size_t daemon = 0;  // which of the addresses failed first
    check::Time from = 0;
    check::Time to = 0;
  };
  const Figures& figures() const { return figures_; }
  const std::vector<Outage>& outages() const { return outages_; }
  check::History& history() { return history_; }

 protected:
  enum class Sent : uint8_t { kDone, kConflict, kAgain, kGone };
  enum class At : uint8_t {
    kNewest,    // linearizable
    kSnapshot,  // of the last read
    kStale,     // what the daemon has at hand
  };
  using Values = std::map<std::string, std::optional<Value>>;

  bool Connect();
  // nullopt: no daemon came back. At kSnapshot also, if snapshot() is 0 then: it is not kept any more.
  std::optional<Values> Get(const std::vector<std::string>& names, At at = At::kNewest);
  // All there is under a prefix, at the newest.
  std::optional<Values> List(const std::string& prefix);
  // Sends until there is a verdict.
  Sent Commit(check::Transaction transaction);
  check::Version snapshot() const { return snapshot_; }
  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  const Options options_;

 private:
  struct Daemon {
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<v1::AdminService::Stub> admin;
    std::unique_ptr<v1::RefService::Stub> refs;
    std::unique_ptr<v1::TransactionService::Stub> transactions;
    std::unique_ptr<v1::LogService::Stub> log;
  };
  Daemon& daemon() { return daemons_[current_]; }
  void Learn(const v1::Header& header);
  void Add(const check::Transaction& transaction);
  void Failed();
  void Served();
  // After a call that failed: to the next daemon that takes connections. False: none does.
  bool MoveOn();

  std::vector<Daemon> daemons_;
  size_t current_ = 0;
  int64_t failed_in_a_row_ = 0;
  std::optional<Outage> outage_;
  std::vector<Outage> outages_;
  std::mt19937_64 random_;
  uint64_t store_ = 0;
  uint64_t writer_ = 0;
  int64_t seen_ = 0;
  int64_t snapshot_ = 0;
  check::History history_;
  Figures figures_;
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_KILL_CALLER_H_
