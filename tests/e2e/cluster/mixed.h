// Mixed is a Caller that does some of everything to refs that all of its kind share: values, counters, lists,
// queues, records, listings, transactions over several refs, ensures, reads at snapshots and stale ones. One
// thread a Mixed.
#ifndef STM_TESTS_E2E_CLUSTER_MIXED_H_
#define STM_TESTS_E2E_CLUSTER_MIXED_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "tests/e2e/kill/caller.h"

namespace stm::e2e {

class Mixed : public Caller {
 public:
  using Caller::Caller;

  // What all share; one of them makes it. False: no daemon answers, here and below.
  bool Prepare();
  // Until `stop`; then finds out what is unknown yet.
  bool Run(const std::atomic<bool>& stop);
  // One commit, to see that commits go through.
  bool CommitOne();

 private:
  // A body reads, and says what is to be committed; nullopt: nothing is, or snapshot() is 0 and it runs
  // again.
  using Body = std::function<std::optional<check::Transaction>()>;
  // Runs it until it commits, or commits nothing. False also: it starves.
  bool Transact(const Body& body);

  std::optional<check::Transaction> Transfer();
  std::optional<check::Transaction> Count();
  std::optional<check::Transaction> SetOwn();
  std::optional<check::Transaction> Guard();
  std::optional<check::Transaction> Put();
  std::optional<check::Transaction> Take();
  std::optional<check::Transaction> Come();
  std::optional<check::Transaction> CountListed();
  std::optional<check::Transaction> SumAll();
  std::optional<check::Transaction> Look();

  bool lost_ = false;  // a read had no answer from any daemon
  int64_t made_ = 0;
  std::deque<std::string> own_;  // entries that it made and did not delete
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_CLUSTER_MIXED_H_
