// SharedAddress over ZooKeeper: DAEMONS daemons (1 to 9; without it 3) over one server, started at the first
// call; they end with the thread of that call, the main one.
#include <stdio.h>
#include <stdlib.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/client/cpp/fixture.h"
#include "tests/e2e/faults/process.h"
#include "tests/zookeeper/ensemble.h"

namespace stm::testing {
namespace {

constexpr int kDaemons = 3;
constexpr int kDaemonsMax = 9;

[[noreturn]] void GiveUp(const std::string& why) {
  fprintf(stderr, "shared cluster: %s\n", why.c_str());
  abort();
}

class Cluster {
 public:
  Cluster() {
    int count = kDaemons;
    const char* text = getenv("DAEMONS");
    if (text != nullptr && (!absl::SimpleAtoi(text, &count) || count < 1 || count > kDaemonsMax))
      GiveUp(absl::StrCat("DAEMONS is \"", text, "\": a number from 1 to ", kDaemonsMax, " is wanted"));
    if (!server_.AwaitServing()) GiveUp(server_.said());
    for (int i = 0; i < count; ++i) {
      e2e::StmdOptions options;
      options.flags = {absl::StrCat("--coordinator=zk://", server_.connect(), "/locks"), "--create"};
      daemons_.push_back(std::make_unique<e2e::Stmd>(options));
    }
    for (const auto& daemon : daemons_) {
      addresses_.push_back(daemon->AwaitAddress());
      if (addresses_.back().empty()) GiveUp(daemon->said());
    }
  }
  std::string Next() { return addresses_[next_++ % addresses_.size()]; }

 private:
  zookeeper::Ensemble server_{zookeeper::EnsembleOptions()};
  std::vector<std::unique_ptr<e2e::Stmd>> daemons_;
  std::vector<std::string> addresses_;
  std::atomic<size_t> next_{0};
};

}  // namespace

std::string SharedAddress() {
  static Cluster cluster;
  return cluster.Next();
}

}  // namespace stm::testing
