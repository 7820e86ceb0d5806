// What an operator meets at a start: a directory that is another's, or that may not be written, and logs that were torn,
// damaged or edited. Each is put right, or refused with the file, the line and the remedy.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/e2e/faults/probe.h"
#include "tests/e2e/faults/under_load.h"

namespace stm::e2e {
namespace {

using Catch::Matchers::Contains;

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  REQUIRE(out.flush().good());
}

// The one file of the log.
std::string LogFile(const Directory& directory) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    const std::string name = entry.path().filename();
    if (name.substr(0, 4) == "log-" && name.size() > 4 && name.substr(name.size() - 4) == ".edn") {
      found.push_back(entry.path());
    }
  }
  REQUIRE(found.size() == 1);
  return found.front();
}

// A log as lines, to be damaged.
struct Lines {
  explicit Lines(const std::string& text) : all(absl::StrSplit(text, '\n')) {
    // What is written ahead.
    while (!all.empty() && all.back().empty()) all.pop_back();
  }
  std::string Text() const {
    std::string text;
    for (const std::string& line : all) absl::StrAppend(&text, line, "\n");
    return text;
  }
  bool IsCommit(size_t i) const { return all[i].substr(0, 10) == "{:version "; }
  // The version that a line says was durable before it.
  int64_t Durable(size_t i) const {
    int64_t durable = -1;
    const size_t mark = all[i].rfind(';');
    const std::vector<std::string> trailer = absl::StrSplit(all[i].substr(mark + 1), ' ');
    REQUIRE(absl::SimpleAtoi(trailer.front(), &durable));
    return durable;
  }

  std::vector<std::string> all;
};

StmdOptions On(const Directory& directory) {
  StmdOptions options;
  options.data_dir = directory.path();
  options.flags = {"--ballast-bytes=0"};
  return options;
}

enum class End { kKill, kStop };

// A log of commits of /a, 1 to `count`, each in a batch of its own.
std::string MakeLog(const Directory& directory, int count, End end) {
  Stmd daemon(On(directory));
  Probe probe(daemon.AwaitAddress());
  for (int i = 1; i <= count; ++i) REQUIRE(probe.Set("/a", i).ok());
  daemon.Signal(end == End::kKill ? SIGKILL : SIGTERM);
  REQUIRE(daemon.AwaitExit() == (end == End::kKill ? 128 + SIGKILL : 0));
  return LogFile(directory);
}

// Starts a daemon that refuses; what it said.
std::string Refused(const StmdOptions& options) {
  Stmd daemon(options);
  const std::optional<int> code = daemon.AwaitExit();
  INFO(daemon.said());
  REQUIRE(code == 1);
  CHECK_THAT(daemon.said(), !Contains(" serving "));
  return daemon.said();
}

std::optional<int64_t> ValueNow(const Directory& directory, std::string* said) {
  Stmd daemon(On(directory));
  const std::string address = daemon.AwaitAddress();
  *said = daemon.said();
  INFO(*said);
  REQUIRE(!address.empty());
  return Probe(address).Get("/a").value;
}

TEST_CASE("start: a torn tail with zeros before good lines is cut, kept beside the log, and told") {
  Directory directory;
  {
    Daemons daemons(On(directory));
    daemons.Next();
    Load load({daemons.address()});
    REQUIRE(load.Start());
    REQUIRE(load.answers().AwaitMore(2000));
    daemons.now().Signal(SIGKILL);
    REQUIRE(daemons.now().AwaitExit() == 128 + SIGKILL);
    // Its log is torn below, after which its writers would be right to complain.
    daemons.Next();
    REQUIRE(load.Stop());
    daemons.now().Signal(SIGKILL);
    REQUIRE(daemons.now().AwaitExit() == 128 + SIGKILL);
  }
  const std::string file = LogFile(directory);
  Lines lines(ReadFile(file));
  // The last batch of three lines or more was being written when the power went: its first line never reached the disk.
  size_t end = lines.all.size();
  size_t begin = end;
  while (end > 2) {
    begin = end - 1;
    while (begin > 1 && lines.IsCommit(begin) && lines.Durable(begin - 1) == lines.Durable(end - 1)) --begin;
    if (lines.IsCommit(begin) && end - begin >= 3) break;
    end = begin;
  }
  REQUIRE(end - begin >= 3);
  lines.all.resize(end);
  const size_t zeros = lines.all[begin].size() + 1;
  const std::string good = lines.Text();
  size_t offset = 0;
  for (size_t i = 0; i < begin; ++i) offset += lines.all[i].size() + 1;
  std::string torn = good;
  torn.replace(offset, zeros, std::string(zeros, '\0'));
  WriteFile(file, torn);

  std::string said;
  ValueNow(directory, &said);
  CHECK_THAT(said, Contains(absl::StrCat("warning log_torn_cut file=", std::filesystem::path(file).filename().string(),
                                         " line=", begin + 1)));
  CHECK_THAT(said, Contains(".torn"));
  CHECK(ReadFile(file).substr(0, offset) == good.substr(0, offset));
  const std::string kept = ReadFile(file + ".torn");
  CHECK(kept + "\n" == torn.substr(offset));
}

TEST_CASE("start: a byte that flipped in the middle is refused with file, line and remedy") {
  const auto damage = GENERATE(as<std::string>(), "a flipped bit", "zeros");
  INFO(damage);
  Directory directory;
  const std::string file = MakeLog(directory, 6, GENERATE(End::kKill, End::kStop));
  Lines lines(ReadFile(file));
  size_t at = 0;
  while (!lines.IsCommit(at)) ++at;
  at += 2;
  std::string& line = lines.all[at];
  if (damage == "zeros") {
    line.assign(line.size(), '\0');
  } else {
    line[line.size() / 2] = static_cast<char>(line[line.size() / 2] ^ 1);
  }
  WriteFile(file, lines.Text());
  const std::string said = Refused(On(directory));
  CHECK_THAT(said, Contains(absl::StrCat("critical start_failed status=\"", file, ":", at + 1, ": ")));
  CHECK_THAT(said, Contains(absl::StrCat("mend the line and run `stmctl log seal ", file, "`, or restore a backup")));
  // Nothing was cut.
  CHECK(ReadFile(file) == lines.Text());
}

TEST_CASE("start: a last line edited after a stop is refused, and after the remedy it is served") {
  Directory directory;
  const std::string file = MakeLog(directory, 3, End::kStop);
  std::string text = ReadFile(file);
  const std::string before = "{\"/a\" 3}";
  REQUIRE(text.find(before) != std::string::npos);
  text.replace(text.find(before), before.size(), "{\"/a\" 4}");
  WriteFile(file, text);
  std::string said = Refused(On(directory));
  CHECK_THAT(said, Contains("a daemon stopped or started behind it"));
  const std::string remedy = absl::StrCat("stmctl log seal ", file);
  CHECK_THAT(said, Contains(absl::StrCat("run `", remedy, "`")));

  Process seal({Runfile("client/cli/stmctl"), "log", "seal", file});
  const std::optional<int> code = seal.AwaitExit();
  INFO(seal.said());
  REQUIRE(code == 0);
  CHECK(ValueNow(directory, &said) == 4);
}

TEST_CASE("start: a last line edited after a crash is cut as torn, kept beside the log, and told") {
  Directory directory;
  const std::string file = MakeLog(directory, 3, End::kKill);
  Lines lines(ReadFile(file));
  std::string& last = lines.all.back();
  REQUIRE(last.find("{\"/a\" 3}") != std::string::npos);
  last.replace(last.find("{\"/a\" 3}"), 8, "{\"/a\" 4}");
  WriteFile(file, lines.Text());
  std::string said;
  CHECK(ValueNow(directory, &said) == 2);
  CHECK_THAT(said, Contains(absl::StrCat("warning log_torn_cut file=", std::filesystem::path(file).filename().string(),
                                         " line=", lines.all.size())));
  CHECK(ReadFile(file + ".torn") == last);
}

TEST_CASE("start: a second daemon on the directory is refused, told whose it is, and the first goes on") {
  Directory directory;
  Stmd first(On(directory));
  Probe probe(first.AwaitAddress());
  REQUIRE(probe.Set("/a", 1).ok());
  const std::string said = Refused(On(directory));
  CHECK_THAT(said, Contains(absl::StrCat("critical start_failed status=\"lock ", directory / "lock", ": process ",
                                         first.pid(), " has this directory: stop it, or name another directory")));
  CHECK(probe.Set("/a", 2).ok());
  CHECK(probe.Get("/a").value == 2);
  // Its lock goes with it, however it goes.
  first.Signal(SIGKILL);
  REQUIRE(first.AwaitExit() == 128 + SIGKILL);
  std::string again;
  CHECK(ValueNow(directory, &again) == 2);
}

TEST_CASE("start: as nobody, without the right to a directory or a file, it is refused by its path") {
  if (geteuid() != 0) return PrintSkip("wrong permissions", "becoming nobody takes root");
  Directory programs;
  const std::string binary = programs / "stmd";
  std::filesystem::copy_file(Runfile("server/stmd"), binary);
  chmod(binary.c_str(), 0755);
  constexpr uid_t kNobody = 65534;
  const auto as_nobody = [&](const Directory& directory) {
    StmdOptions options = On(directory);
    options.binary = binary;
    options.before = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig=KILL", "--"};
    return options;
  };
  const std::string remedy = ": the directory and what is in it must be this user's to read and to write";
  Directory directory;

  SECTION("a directory of root's") {
    CHECK_THAT(Refused(as_nobody(directory)),
               Contains(absl::StrCat("critical start_failed status=\"open ", directory / "lock",
                                     ": Permission denied", remedy)));
  }
  SECTION("a directory that it may not enter") {
    chmod(directory.path().c_str(), 0700);
    CHECK_THAT(Refused(as_nobody(directory)),
               Contains(absl::StrCat("open ", directory.path(), ": Permission denied", remedy)));
  }
  SECTION("a directory that it may not make") {
    StmdOptions options = as_nobody(directory);
    options.data_dir = directory / "data";
    CHECK_THAT(Refused(options), Contains(absl::StrCat("mkdir ", directory / "data", ": Permission denied", remedy)));
  }
  SECTION("a log of root's, in a directory of its own; put right, it is served") {
    const std::string file = MakeLog(directory, 2, End::kStop);
    REQUIRE(chown(directory.path().c_str(), kNobody, kNobody) == 0);
    REQUIRE(chown((directory / "lock").c_str(), kNobody, kNobody) == 0);
    REQUIRE(chmod(file.c_str(), 0600) == 0);
    CHECK_THAT(Refused(as_nobody(directory)),
               Contains(absl::StrCat("open ", file, ": Permission denied", remedy)));
    REQUIRE(chown(file.c_str(), kNobody, kNobody) == 0);
    Stmd daemon(as_nobody(directory));
    const std::string address = daemon.AwaitAddress();
    INFO(daemon.said());
    REQUIRE(!address.empty());
    CHECK(Probe(address).Get("/a").value == 2);
    CHECK(Probe(address).Set("/a", 3).ok());
  }
}

}  // namespace
}  // namespace stm::e2e
