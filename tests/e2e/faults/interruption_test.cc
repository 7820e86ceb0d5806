// Daemons that stand still, clocks that are set back and networks that misbehave, under 16 writers: nothing is lost,
// nothing is applied twice.
#include <signal.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/client/cpp/proxy.h"
#include "tests/e2e/faults/probe.h"
#include "tests/e2e/faults/under_load.h"

namespace stm::e2e {
namespace {

using testing::Proxy;

StmdOptions On(const Directory& directory) {
  StmdOptions options;
  options.data_dir = directory.path();
  options.flags = {"--ballast-bytes=0", "--segment-bytes=1000000"};
  return options;
}

TEST_CASE("stop: a daemon that stands still and goes on loses nothing and applies nothing twice") {
  Directory directory;
  Daemons daemons(On(directory));
  daemons.Next();
  Load::Options options{daemons.address()};
  options.call_timeout = std::chrono::milliseconds(500);
  Load load(options);
  REQUIRE(load.Start());
  for (int i = 0; i < 4; ++i) {
    REQUIRE(load.answers().AwaitMore(300));
    daemons.now().Signal(SIGSTOP);
    // Every writer has sent again, and again.
    REQUIRE(load.answers().AwaitMore(2 * options.writers, Answers::Kind::kNone));
    daemons.now().Signal(SIGCONT);
  }
  REQUIRE(load.answers().AwaitMore(300));
  const Outcome outcome = JudgeAfterRestart(&load, &daemons, "SIGSTOP, SIGCONT");
  CHECK(outcome.resends >= 4 * 2 * options.writers / 2);
}

// The times of the commits of a log, as text that sorts as they do.
void CheckTimesRise(const Directory& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    if (entry.path().filename().string().substr(0, 4) != "log-") continue;
    std::ifstream file(entry.path());
    std::string before;
    for (std::string line; std::getline(file, line);) {
      if (line.substr(0, 10) != "{:version ") continue;
      const size_t at = line.find(":at #inst \"");
      REQUIRE(at != std::string::npos);
      const std::string time = line.substr(at + 11, 26);
      if (time < before) FAIL("the log's times go back: " << before << ", then " << line);
      before = time;
    }
  }
}

std::map<std::string, std::string> FakeTime() {
  const std::string library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
  INFO(library << " is missing: deploy/install --tests installs faketime");
  REQUIRE(access(library.c_str(), R_OK) == 0);
  // As when an administrator sets the clock: what counts the time that passes goes on.
  return {{"LD_PRELOAD", library}, {"FAKETIME_DONT_FAKE_MONOTONIC", "1"}, {"DONT_FAKE_MONOTONIC", "1"}};
}

TEST_CASE("clock: set back an hour across a restart is told, and commits go on in order, with times that never go back") {
  Directory directory;
  Daemons daemons(On(directory));
  daemons.Next();
  Load load({daemons.address()});
  REQUIRE(load.Start());
  REQUIRE(load.answers().AwaitMore(500));
  daemons.options().environment = FakeTime();
  daemons.options().environment["FAKETIME"] = "-1h";
  daemons.Next();
  REQUIRE(load.answers().AwaitMore(500));
  INFO(daemons.now().said());
  CHECK(daemons.now().AwaitSaid("warning clock_behind seconds=3"));
  CHECK(daemons.now().AwaitSaid("set the clock if it is wrong"));
  JudgeAfterRestart(&load, &daemons, "clock set back across a restart");
  CheckTimesRise(directory);
}

TEST_CASE("clock: set back an hour in a running daemon is told, entries expire all the same, and commits go on in order") {
  Directory directory;
  Directory clock;
  const auto set = [&](const char* offset) {
    // Whole at once: the daemon may be reading it.
    std::ofstream(clock / "new") << offset << "\n";
    std::filesystem::rename(clock / "new", clock / "offset");
  };
  set("+0");
  Daemons daemons(On(directory));
  daemons.options().environment = FakeTime();
  daemons.options().environment["FAKETIME_TIMESTAMP_FILE"] = clock / "offset";
  daemons.options().environment["FAKETIME_CACHE_DURATION"] = "1";
  daemons.Next();
  {
    Probe probe(daemons.address());
    Load load({daemons.address()});
    REQUIRE(load.Start());
    REQUIRE(load.answers().AwaitMore(500));
    set("-1h");
    REQUIRE(daemons.now().AwaitSaid("warning clock_behind seconds=3"));
    REQUIRE(load.answers().AwaitMore(500));
    set("+0");
    CHECK(daemons.now().AwaitSaid("info clock_caught_up"));
    REQUIRE(load.answers().AwaitMore(100));
    JudgeAfterRestart(&load, &daemons, "clock set back and forth while running");
    CheckTimesRise(directory);
    // Not before: all in the log so far is the writers'.
    const grpc::Status made = probe.Set("/short", 1, 1500);
    INFO(made.error_message());
    REQUIRE(made.ok());
    set("-1h");
    CHECK(Eventually([&] { return !probe.Get("/short").value.has_value(); }));
    // The clock was back by now, or nothing was shown: a commit tells.
    CHECK(Eventually([&] {
      return probe.Set("/tick", 1).ok() && daemons.now().said().find("clock_behind") != std::string::npos;
    }));
  }
}

TEST_CASE("network: a proxy that cuts, delays, loses and duplicates loses nothing and applies nothing twice") {
  Directory directory;
  Daemons daemons(On(directory));
  daemons.Next();
  Proxy proxy(daemons.address());
  Load::Options options{proxy.address()};
  options.call_timeout = std::chrono::milliseconds(1000);
  Load load(options);
  REQUIRE(load.Start());
  for (int i = 0; i < 5; ++i) {
    REQUIRE(load.answers().AwaitMore(200));
    proxy.Cut();
  }
  REQUIRE(load.answers().AwaitMore(200));
  for (int i = 0; i < 3; ++i) {
    proxy.LoseAnswers(true);
    // Not as many as there are writers: some wait for a read, or for a connection that hears nothing.
    REQUIRE(load.answers().AwaitMore(options.writers / 4, Answers::Kind::kNone));
    proxy.LoseAnswers(false);
    // Bytes are missing: these connections are of no use any more.
    proxy.Cut();
    REQUIRE(load.answers().AwaitMore(200));
  }
  proxy.Delay(20);
  REQUIRE(load.answers().AwaitMore(300));
  proxy.Delay(0);
  proxy.Duplicate(true);
  for (int i = 0; i < 4; ++i) {
    proxy.Cut();
    REQUIRE(load.answers().AwaitMore(1000));
  }
  CHECK(proxy.duplicated() >= 4 * options.writers / 2);
  proxy.Duplicate(false);
  proxy.Cut();
  REQUIRE(load.answers().AwaitMore(100));
  const Outcome outcome = JudgeAfterRestart(&load, &daemons, "proxy");
  CHECK(outcome.resends > 0);
}

}  // namespace
}  // namespace stm::e2e
