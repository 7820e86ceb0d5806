// simulation --seed N | --seeds A..B [--planted NAME] [--operations N] [--history FILE]: runs seeds, prints a
// line each and the totals, ends with 1 when a checker found something. --history writes the last run's
// history and log as EDN lines.
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/simulation/planted.h"
#include "tests/simulation/simulation.h"

namespace {

int Usage() {
  std::fprintf(
      stderr,
      "usage: simulation --seed N | --seeds A..B [--planted NAME] [--operations N] [--history FILE] [--log]\n"
      "planted bugs:");
  for (const auto& [name, planted] : stm::sim::PlantedByName()) std::fprintf(stderr, " %s", name.c_str());
  std::fprintf(stderr, "\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t first = 1;
  uint64_t last = 200;
  int64_t operations = 300;
  std::string planted_name, history_file;
  bool log = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--log") {
      log = true;
      continue;
    }
    if (i + 1 >= argc) return Usage();
    const std::string value = argv[++i];
    if (flag == "--seed") {
      first = last = std::strtoull(value.c_str(), nullptr, 10);
    } else if (flag == "--seeds") {
      const size_t dots = value.find("..");
      if (dots == std::string::npos) return Usage();
      first = std::strtoull(value.c_str(), nullptr, 10);
      last = std::strtoull(value.c_str() + dots + 2, nullptr, 10);
    } else if (flag == "--operations") {
      operations = std::strtoll(value.c_str(), nullptr, 10);
    } else if (flag == "--planted") {
      planted_name = value;
    } else if (flag == "--history") {
      history_file = value;
    } else {
      return Usage();
    }
  }
  stm::sim::Planted planted;
  if (!planted_name.empty()) {
    const auto all = stm::sim::PlantedByName();
    const auto found = all.find(planted_name);
    if (found == all.end()) return Usage();
    planted = found->second;
  }
  spdlog::set_level(log ? spdlog::level::debug : spdlog::level::off);

  const auto begun = std::chrono::steady_clock::now();
  stm::sim::Result total;
  int64_t failed = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    const stm::sim::Result result = stm::sim::Simulate(seed, planted, operations);
    total.Add(result);
    if (first == last) {
      std::printf("seed %llu trace %016llx: %s\nsettings: %s\n", static_cast<unsigned long long>(seed),
                  static_cast<unsigned long long>(result.trace), result.Figures().c_str(),
                  result.settings.c_str());
    }
    if (!result.passed()) {
      ++failed;
      std::printf("seed %llu FAILED\n%s", static_cast<unsigned long long>(seed), result.Faults().c_str());
    }
    if (!history_file.empty())
      std::ofstream(history_file) << stm::check::ToEdnText(result.history, result.log);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  std::printf("%llu seeds, %lld failed, %.1f s: %s\n", static_cast<unsigned long long>(last - first + 1),
              static_cast<long long>(failed), seconds, total.Figures().c_str());
  return failed == 0 ? 0 : 1;
}
