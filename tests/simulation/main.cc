// simulation [--cluster] [--containers] --seed N | --seeds A..B [--planted NAME] [--operations N] [--without NAME,...]
// [--shrink]
// [--history FILE]: runs seeds, says what is wrong with each that fails, prints the totals; ends with 1 when
// a checker found something.
// --shrink makes the first that fails smaller and tells its story. --planted all looks for each planted bug
// in turn until one seed shows it: the table of simulation_test.cc. --history writes the last run's history
// and log as EDN. --cluster: of daemons that share a store.
// --containers: some of the entries are kept in a container.
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/simulation/planted.h"
#include "tests/simulation/shrink.h"
#include "tests/simulation/simulation.h"

namespace {

using Kind = stm::sim::Run::Kind;

int Usage(Kind kind) {
  std::fprintf(stderr,
               "usage: simulation [--cluster] [--containers] --seed N | --seeds A..B [--planted NAME|all] [--operations N] "
               "[--without NAME,...]"
               " [--shrink] [--history FILE] [--log]\nplanted bugs:");
  for (const auto& [name, planted] : stm::sim::PlantedByName(kind)) std::fprintf(stderr, " %s", name.c_str());
  std::fprintf(stderr, "\nwhat a run may do without: %s\n",
               absl::StrJoin(stm::sim::Simplifications(kind), " ").c_str());
  return 2;
}

// For each planted bug the first seed that shows it, and by which rules.
int FindAll(stm::sim::Run run, uint64_t last) {
  int missed = 0;
  const uint64_t first = run.seed;
  for (const auto& [name, planted] : stm::sim::PlantedByName(run.kind, run.containers)) {
    std::string found;
    run.planted = planted;
    for (uint64_t seed = first; found.empty() && seed <= last; ++seed) {
      run.seed = seed;
      const stm::sim::Result result = stm::sim::Simulate(run);
      if (result.passed()) continue;
      found = absl::StrCat("seed ", seed, ": ", absl::StrJoin(stm::sim::FaultKinds(result), ", "));
    }
    if (found.empty()) ++missed;
    std::printf("%-24s %s\n", name.c_str(), found.empty() ? "NOT FOUND" : found.c_str());
    std::fflush(stdout);
  }
  return missed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t last = 200;
  std::string planted_name, history_file;
  bool log = false, shrink = false;
  stm::sim::Run run;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--cluster") {
      run.kind = Kind::kCluster;
      continue;
    }
    if (flag == "--containers") {
      run.containers = true;
      continue;
    }
    if (flag == "--log" || flag == "--shrink") {
      (flag == "--log" ? log : shrink) = true;
      continue;
    }
    if (i + 1 >= argc) return Usage(run.kind);
    const std::string value = argv[++i];
    if (flag == "--seed") {
      run.seed = last = std::strtoull(value.c_str(), nullptr, 10);
    } else if (flag == "--seeds") {
      const size_t dots = value.find("..");
      if (dots == std::string::npos) return Usage(run.kind);
      run.seed = std::strtoull(value.c_str(), nullptr, 10);
      last = std::strtoull(value.c_str() + dots + 2, nullptr, 10);
    } else if (flag == "--operations") {
      run.operations = std::strtoll(value.c_str(), nullptr, 10);
    } else if (flag == "--without") {
      run.without = absl::StrSplit(value, ',');
      std::set<std::string> unknown = run.without;
      for (const std::string& name : stm::sim::Simplifications(run.kind)) unknown.erase(name);
      if (!unknown.empty()) return Usage(run.kind);
    } else if (flag == "--planted") {
      planted_name = value;
    } else if (flag == "--history") {
      history_file = value;
    } else {
      return Usage(run.kind);
    }
  }
  spdlog::set_level(log ? spdlog::level::debug : spdlog::level::off);
  if (planted_name == "all") return FindAll(run, last);
  if (!planted_name.empty()) {
    const auto all = stm::sim::PlantedByName(run.kind, run.containers);
    const auto found = all.find(planted_name);
    if (found == all.end()) return Usage(run.kind);
    run.planted = found->second;
  }

  const auto begun = std::chrono::steady_clock::now();
  const uint64_t first = run.seed;
  stm::sim::Result total;
  int64_t failed = 0;
  for (; run.seed <= last; ++run.seed) {
    const stm::sim::Result result = stm::sim::Simulate(run);
    total.Add(result);
    if (first == last) {
      std::printf("seed %llu trace %016llx: %s\nsettings: %s\n", static_cast<unsigned long long>(run.seed),
                  static_cast<unsigned long long>(result.trace), result.Figures().c_str(),
                  result.settings.c_str());
    }
    if (!history_file.empty())
      std::ofstream(history_file) << stm::check::ToEdnText(result.history, result.log);
    if (result.passed()) continue;
    ++failed;
    std::printf("FAILED: simulation %s\n%s", stm::sim::Flags(run).c_str(), result.Faults().c_str());
    if (shrink) {
      const stm::sim::Shrunk shrunk = stm::sim::Shrink(run);
      const std::string planted = planted_name.empty() ? "" : " --planted " + planted_name;
      std::printf("shrunk, %lld runs tried: simulation %s%s\n%s", static_cast<long long>(shrunk.tried),
                  stm::sim::Flags(shrunk.run).c_str(), planted.c_str(),
                  stm::sim::Story(shrunk.result).c_str());
      return 1;
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  std::printf("%llu seeds, %lld failed, %.1f s: %s\n", static_cast<unsigned long long>(last - first + 1),
              static_cast<long long>(failed), seconds, total.Figures().c_str());
  return failed == 0 ? 0 : 1;
}
