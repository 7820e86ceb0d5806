// Network is some hosts of one network, each a network namespace of its own, and ways to lose what one sends
// to another: nobody is told, as when a cable is pulled. Host 0 is where the test itself is; others count
// from 1. All of it ends with the Network, or with the thread that made it. One thread.
#ifndef STM_TESTS_E2E_CLUSTER_NETWORK_H_
#define STM_TESTS_E2E_CLUSTER_NETWORK_H_

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/e2e/faults/process.h"

namespace stm::e2e {

class Network {
 public:
  // Takes this thread, and those that it starts from now on, into a namespace of its own, once a process:
  // before any other thread. Why this machine does not allow it; "": it does.
  static std::string Enter();

  // Enter() was "". At most 200 hosts.
  explicit Network(int hosts);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  std::string address(int host) const;
  // What goes before the command of a program that is to run there.
  std::vector<std::string> On(int host) const;

  // What `from` sends to `to` is lost from now on.
  void Lose(int from, int to);
  // The same both ways.
  void Cut(int one, int other);
  // Both ways.
  void Heal(int one, int other);
  void HealAll();

 private:
  // Where `from` sends what is for `to`: to its link, or to one that nobody has.
  void Send(int from, int to, const std::string& link);

  std::vector<std::unique_ptr<Process>> holders_;  // of a namespace each
  std::set<std::pair<int, int>> lost_;
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_CLUSTER_NETWORK_H_
