// What every call of the bench to stmd needs: channels, ids, deadlines, and that no outcome goes unchecked: a call that
// fails ends the bench. Any thread, but Ids: one.
#ifndef STM_TESTS_BENCH_CALL_H_
#define STM_TESTS_BENCH_CALL_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "stm/v1/transaction_service.pb.h"
#include "tests/bench/process.h"

namespace stm::bench {

namespace wire = ::stm::v1;

inline constexpr double kWaitSecondsMax = 60;

// A connection of its own.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, grpc::ChannelArguments arguments = {});

// Of a context used again and again: fresh, with a deadline of a minute.
void Ready(std::optional<grpc::ClientContext>* context);

// Ends the bench when the call failed.
void CheckOk(const grpc::Status& status, const char* call);

// Version of a commit that must have been done.
int64_t VersionOf(const wire::CommitResponse& response, const char* what);

// Seconds until stmd at address says that it is ready, asking all the while. Ends the bench when it ended or is not
// ready by then.
double WaitReady(const std::string& address, Child* stmd, double deadline_s);

// The newest version that it has installed.
int64_t InstalledVersion(const std::string& address);

// What a stub knows of the store, of all answers: shared by all callers, as in one client.
struct Known {
  uint64_t store = 0;
  uint64_t writer = 0;
  std::atomic<int64_t> newest{0};

  // By GetStatus.
  void Ask(const std::shared_ptr<grpc::Channel>& channel);

  void Learn(int64_t version) {
    int64_t before = newest.load(std::memory_order_relaxed);
    while (before < version && !newest.compare_exchange_weak(before, version, std::memory_order_relaxed)) {
    }
  }
};

// Transaction ids: random UUIDs, one generator a caller. Two generators of one seed would send the same ids, and the
// second's commits would be taken for resends: with 32 bits of seed that was one run in 4,000.
class Ids {
 public:
  Ids();
  void Next(const Known& known, wire::CommitId* id);

 private:
  std::mt19937_64 random_;
};

// Waits for the condition, kWaitSecondsMax at most, then ends the bench.
template <typename Condition>
void Until(const char* what, const Condition& condition) {
  for (const double deadline = Now() + kWaitSecondsMax; !condition();) {
    if (Now() > deadline) Fail(std::string("after a minute, not yet: ") + what);
    SleepSeconds(0.0001);
  }
}

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_CALL_H_
