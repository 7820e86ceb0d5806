// Statistics of rounds, and the table and JSON that show them. Pure but for Show; one thread.
#ifndef STM_TESTS_BENCH_MEASURE_H_
#define STM_TESTS_BENCH_MEASURE_H_

#include <string>
#include <vector>

namespace stm::bench {

// The q-quantile, 0 <= q <= 1, by nearest rank; 0 of nothing. Takes its own copy to sort.
double Quantile(std::vector<double> values, double q);
inline double Median(std::vector<double> values) { return Quantile(std::move(values), 0.5); }

// What one round of a row said: our figure, the limit's figure measured beside it, ours to the limit's as the bar
// means it, and how many cores the null RPC got around it.
struct Round {
  double value = 0;
  double limit_value = 0;
  double ratio = 0;
  double cores = 0;
};

enum class Bar { kAtLeast, kAtMost };

// A row of the table: a figure, its limit, and the bar that their ratio must reach.
struct Row {
  std::string name;
  std::string unit;
  std::string limit;
  Bar kind = Bar::kAtLeast;
  double bar = 0;
  std::vector<Round> rounds;

  // Rounds in which the machine gave at least kCoresMin; all of them when none did (and then Trusted() is false).
  std::vector<Round> Kept() const;
  bool Trusted() const;
  double Value() const;
  double LimitValue() const;
  double Ratio() const;
  bool Holds() const;
};

// The host takes CPU unseen: a round in which the null RPC got less than this says nothing about us.
inline constexpr double kCoresMin = 1.7;

std::string TableHead();
std::string TableLine(const Row& row);
// Prints the table, and writes the JSON to the file if json is not "". The program's exit code: 2 when a bar does not hold.
int Show(const std::vector<Row>& rows, const std::string& json);
// {"rows":[{"name":...,"value":...,"unit":...,"limit":...,"limit_value":...,"ratio":...,"bar":...}]}, bar as ">= 0.9".
std::string Json(const std::vector<Row>& rows);

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_MEASURE_H_
