// check FILE...: reads one history, in as many files as there were who wrote it, and prints what cannot be
// and a line of figures. Ends with 0: nothing is wrong; 1: a rule is broken; 2: usage, or a file that cannot
// be read.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/checkers/checker.h"
#include "tests/checkers/history.h"

namespace {

absl::Status AddFile(const std::string& name, stm::check::History* history, stm::check::Log* log) {
  std::ifstream in(name, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(name, ": ", std::strerror(errno)));
  std::ostringstream text;
  text << in.rdbuf();
  // Nobody is to take it for a history in which all is well.
  if (!text) return absl::InvalidArgumentError(absl::StrCat(name, ": nothing is in it, or it is no file"));
  absl::Status status = stm::check::AddEdnText(text.str(), history, log);
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') {
    std::fprintf(stderr,
                 "usage: check FILE...\nOne history, of lines as tests/checkers/README.md has them.\n");
    return 2;
  }
  // As `bazel run` is called, not where it runs.
  if (const char* directory = std::getenv("BUILD_WORKING_DIRECTORY");
      directory != nullptr && chdir(directory) != 0) {
    std::fprintf(stderr, "check: %s: %s\n", directory, std::strerror(errno));
    return 2;
  }
  stm::check::History history;
  stm::check::Log log;
  for (int i = 1; i < argc; ++i) {
    const absl::Status status = AddFile(argv[i], &history, &log);
    if (status.ok()) continue;
    std::fprintf(stderr, "check: %s\n", std::string(status.message()).c_str());
    return 2;
  }
  size_t steps = 0;
  for (const stm::check::Watch& watch : history.watches) steps += watch.steps.size();
  const std::vector<stm::check::Violation> violations = stm::check::Check(history, log);
  std::printf("%s%zu transactions, %zu commits, %zu watch steps, %zu violations\n",
              stm::check::ToString(violations).c_str(), history.transactions.size(), log.size(), steps,
              violations.size());
  return violations.empty() ? 0 : 1;
}
