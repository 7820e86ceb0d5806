// Callers make one call after the other, each of them its own; a run starts some of them, observes what they
// do in a window, and lets them end. Callers run on whatever thread their answers come; a run is one
// thread's.
#ifndef STM_TESTS_BENCH_CALLER_H_
#define STM_TESTS_BENCH_CALLER_H_

#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/call.h"
#include "tests/bench/process.h"

namespace stm::bench {

inline constexpr double kRampSeconds = 0.05;

// What the callers did in the window, after a ramp and before the drain.
struct Measured {
  double rate = 0;            // calls a second
  double cpu_us = 0;          // of client and server, a call
  double cores = 0;           // that client and server got
  double least_share = 0;     // of the slowest caller, of the callers' mean
  double calls_a_caller = 0;  // mean
  std::vector<double> latencies_us;
};

// One run of a load: callers go on until it stops.
struct Run {
  std::atomic<bool> recording{false};
  std::atomic<bool> stop{false};
  std::atomic<int> left{0};
};

// Caller makes one call after the other. Begin is called once to start, and by Ended.
class Caller {
 public:
  virtual ~Caller() = default;
  virtual void Begin() = 0;

  void Start(Run* run) {
    run_ = run;
    latencies_us.clear();
    Begin();
  }

  std::atomic<uint64_t> calls{0};
  std::vector<float> latencies_us;

 protected:
  void Ended(double began) {
    calls.store(calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    if (run_->recording.load(std::memory_order_relaxed)) {
      latencies_us.push_back(static_cast<float>((Now() - began) * 1e6));
    }
    if (run_->stop.load(std::memory_order_relaxed)) {
      run_->left.fetch_sub(1, std::memory_order_release);
    } else {
      Begin();
    }
  }

 private:
  Run* run_ = nullptr;
};

// Runs callers for the window and says what they did in it. pid is the server's.
template <typename C>
Measured Observe(const std::vector<C*>& callers, Run* run, pid_t pid, double seconds,
                 const std::function<void()>& during) {
  std::vector<uint64_t> before(callers.size());
  SleepSeconds(kRampSeconds);
  const double cpu_before = CpuSecondsOfSelf() + CpuSeconds(pid);
  const double from = Now();
  for (size_t i = 0; i < callers.size(); ++i) before[i] = callers[i]->calls.load(std::memory_order_relaxed);
  run->recording.store(true, std::memory_order_relaxed);
  during();
  const double to = Now();
  const double cpu = CpuSecondsOfSelf() + CpuSeconds(pid) - cpu_before;
  Measured measured;
  uint64_t total = 0, least = UINT64_MAX;
  for (size_t i = 0; i < callers.size(); ++i) {
    const uint64_t calls = callers[i]->calls.load(std::memory_order_relaxed) - before[i];
    total += calls;
    least = std::min(least, calls);
  }
  run->recording.store(false, std::memory_order_relaxed);
  run->stop.store(true, std::memory_order_relaxed);
  for (const double deadline = Now() + kWaitSecondsMax; run->left.load(std::memory_order_acquire) > 0;) {
    if (Now() > deadline) Fail(std::to_string(run->left.load()) + " calls were not answered in a minute");
    SleepSeconds(0.0005);
  }
  const auto count = static_cast<double>(total);
  measured.rate = count / (to - from);
  measured.cpu_us = total == 0 ? 0 : cpu / count * 1e6;
  measured.cores = cpu / (to - from);
  measured.calls_a_caller = count / static_cast<double>(callers.size());
  measured.least_share = total == 0 ? 0 : static_cast<double>(least) / measured.calls_a_caller;
  for (const C* caller : callers) {
    measured.latencies_us.insert(measured.latencies_us.end(), caller->latencies_us.begin(),
                                 caller->latencies_us.end());
  }
  return measured;
}

template <typename C>
Measured ClosedLoop(const std::vector<std::unique_ptr<C>>& all, int count, pid_t pid, double seconds) {
  Run run;
  run.left = count;
  std::vector<C*> callers;
  for (int i = 0; i < count; ++i) callers.push_back(all[static_cast<size_t>(i)].get());
  for (C* caller : callers) caller->Start(&run);
  return Observe(callers, &run, pid, seconds, [&] { SleepSeconds(seconds); });
}

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_CALLER_H_
