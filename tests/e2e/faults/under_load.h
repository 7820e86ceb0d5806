// A daemon under writers while something is done to it; then the judgement, over a daemon that read the log back.
#ifndef STM_TESTS_E2E_FAULTS_UNDER_LOAD_H_
#define STM_TESTS_E2E_FAULTS_UNDER_LOAD_H_

#include <signal.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include <catch2/catch.hpp>

#include "tests/e2e/faults/process.h"
#include "tests/e2e/kill/load.h"

namespace stm::e2e {

// One daemon at a time, always at the address of the first.
class Daemons {
 public:
  explicit Daemons(StmdOptions options) : options_(std::move(options)) {}

  StmdOptions& options() { return options_; }
  Stmd& now() { return *daemon_; }
  const std::string& address() const { return options_.listen; }
  // Ends the one before by kill -9, if it has not ended, and waits until the next one serves.
  void Next() {
    daemon_.reset();
    daemon_ = std::make_unique<Stmd>(options_);
    const std::string address = daemon_->AwaitAddress();
    INFO(daemon_->said());
    REQUIRE(!address.empty());
    options_.listen = address;
  }

 private:
  StmdOptions options_;
  std::unique_ptr<Stmd> daemon_;
};

// Ends the load, starts the daemon again, and requires that all is as its clients were told.
inline Outcome JudgeAfterRestart(Load* load, Daemons* daemons, const char* what) {
  const bool stopped = load->Stop();
  INFO(daemons->now().said());
  REQUIRE(stopped);
  daemons->Next();
  const std::optional<Outcome> outcome = load->Judge();
  REQUIRE(outcome.has_value());
  std::printf("%s: %s\n", what, outcome->figures.c_str());
  INFO(check::ToString(outcome->violations));
  CHECK(outcome->violations.empty());
  CHECK(outcome->lost_adds == 0);
  CHECK(outcome->extra_adds == 0);
  CHECK(outcome->sum == kAccounts * kAccountBegin);
  return *outcome;
}

// For what a machine does not let its user do; a missing program is no such thing.
inline void PrintSkip(const std::string& what, const std::string& why) {
  std::printf("SKIPPED %s: this machine does not allow it: %s\n", what.c_str(), why.c_str());
}

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_FAULTS_UNDER_LOAD_H_
