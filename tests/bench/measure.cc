#include "tests/bench/measure.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "absl/strings/str_format.h"
#include "tests/bench/process.h"

namespace stm::bench {

namespace {

std::vector<double> Pick(const std::vector<Round>& rounds, double Round::* field) {
  std::vector<double> values;
  for (const Round& round : rounds) values.push_back(round.*field);
  return values;
}

std::string Figure(double value) {
  if (std::fabs(value) >= 100) return absl::StrFormat("%.0f", value);
  return absl::StrFormat("%.2f", value);
}

std::string BarText(const Row& row) {
  return absl::StrFormat("%s %g", row.kind == Bar::kAtLeast ? ">=" : "<=", row.bar);
}

}  // namespace

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  const size_t rank = std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank), values.end());
  return values[rank];
}

std::vector<Round> Row::Kept() const {
  std::vector<Round> kept;
  for (const Round& round : rounds) {
    if (round.cores >= kCoresMin) kept.push_back(round);
  }
  return kept.empty() ? rounds : kept;
}

bool Row::Trusted() const {
  return std::any_of(rounds.begin(), rounds.end(), [](const Round& round) { return round.cores >= kCoresMin; });
}

double Row::Value() const { return Median(Pick(Kept(), &Round::value)); }
double Row::LimitValue() const { return Median(Pick(Kept(), &Round::limit_value)); }
double Row::Ratio() const { return Median(Pick(Kept(), &Round::ratio)); }
bool Row::Holds() const { return kind == Bar::kAtLeast ? Ratio() >= bar : Ratio() <= bar; }

std::string TableHead() {
  return absl::StrFormat("%-26s %10s %-9s %10s  %-40s %6s %13s %-8s %-5s %s\n", "what", "value", "unit", "limit",
                         "which is", "ratio", "(min .. max)", "bar", "holds", "rounds");
}

std::string TableLine(const Row& row) {
  const std::vector<Round> kept = row.Kept();
  const std::vector<double> ratios = Pick(kept, &Round::ratio);
  const std::string spread = absl::StrFormat("%.2f .. %.2f", Quantile(ratios, 0), Quantile(ratios, 1));
  std::string rounds = absl::StrFormat("%d", kept.size());
  if (!row.Trusted()) {
    rounds += absl::StrFormat(", none with %.1f cores", kCoresMin);
  } else if (kept.size() < row.rounds.size()) {
    rounds += absl::StrFormat(", %d dropped", row.rounds.size() - kept.size());
  }
  return absl::StrFormat("%-26s %10s %-9s %10s  %-40s %6.2f %13s %-8s %-5s %s\n", row.name, Figure(row.Value()), row.unit,
                         Figure(row.LimitValue()), row.limit, row.Ratio(), spread, BarText(row),
                         row.Holds() ? "yes" : "NO", rounds);
}

int Show(const std::vector<Row>& rows, const std::string& json) {
  std::fputs(TableHead().c_str(), stdout);
  for (const Row& row : rows) std::fputs(TableLine(row).c_str(), stdout);
  if (!json.empty()) {
    std::ofstream out(json);
    out << Json(rows);
    if (!out.flush()) Fail("can't write " + json);
  }
  return std::all_of(rows.begin(), rows.end(), [](const Row& row) { return row.Holds(); }) ? 0 : 2;
}

std::string Json(const std::vector<Row>& rows) {
  std::string out = "{\"rows\":[";
  const char* separator = "\n";
  for (const Row& row : rows) {
    const std::vector<Round> kept = row.Kept();
    const std::vector<double> ratios = Pick(kept, &Round::ratio);
    // Names, units and limits are the bench's own words: nothing in them needs escaping.
    absl::StrAppendFormat(&out,
                          "%s{\"name\":\"%s\",\"value\":%.6g,\"unit\":\"%s\",\"limit\":\"%s\",\"limit_value\":%.6g,"
                          "\"ratio\":%.4f,\"bar\":\"%s\",\"holds\":%s,\"ratio_min\":%.4f,\"ratio_max\":%.4f,"
                          "\"rounds\":%d,\"rounds_dropped\":%d,\"cores\":%.2f}",
                          separator, row.name, row.Value(), row.unit, row.limit, row.LimitValue(), row.Ratio(),
                          BarText(row), row.Holds() ? "true" : "false", Quantile(ratios, 0), Quantile(ratios, 1),
                          kept.size(), row.rounds.size() - kept.size(), Median(Pick(kept, &Round::cores)));
    separator = ",\n";
  }
  out += "\n]}\n";
  return out;
}

}  // namespace stm::bench
