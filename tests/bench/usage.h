// What a daemon holds: memory, threads and descriptors by /proc, tables by its own /metrics.
#ifndef STM_TESTS_BENCH_USAGE_H_
#define STM_TESTS_BENCH_USAGE_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace stm::bench {

struct Usage {
  // Of smaps_rollup, which counts pages: status has counters of its own that lag behind, by 64 pages a CPU.
  int64_t rss_bytes = 0;
  int64_t anonymous_bytes = 0;  // of them, no file's: heap and stacks
  int64_t threads = 0;
  int64_t descriptors = 0;
  int64_t files = 0;  // of them, regular ones
};

// Ends the bench when the process is gone.
Usage UsageOf(pid_t pid);

// Its RSS once that has stayed within 0.1 % for 3 s: what was freed has gone back by then, or stays. Ends the bench
// when it does not settle by the deadline.
int64_t SettledRssBytes(pid_t pid, double deadline_s);

// /metrics of the daemon whose --http is at 127.0.0.1:port: the text.
std::string MetricsOf(int port);
// The value of a metric without labels. Ends the bench when there is none.
double MetricIn(const std::string& metrics, const std::string& name);

// Of all files directly in the directory.
int64_t BytesIn(const std::string& directory);

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_USAGE_H_
