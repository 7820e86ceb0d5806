// Mover is a Caller that moves money between refs of several places, a container each, and knows what each
// read must show of it: of one transaction all, or nothing. One thread a Mover.
#ifndef STM_TESTS_E2E_CONTAINERS_MOVER_H_
#define STM_TESTS_E2E_CONTAINERS_MOVER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "tests/e2e/kill/caller.h"

namespace stm::e2e {

// Entries of a place are under its folder, "/mongo/".
struct Place {
  std::string folder;
  std::string container;  // "": inline
};

class Mover : public Caller {
 public:
  Mover(Options options, std::vector<Place> places);

  // Makes the accounts, and the marks of `movers` movers. False: no daemon answers, here and below.
  bool Prepare(int movers);
  // Until `stop`; then finds out what is unknown yet.
  bool Run(const std::atomic<bool>& stop);

  // The sum of all accounts, for ever.
  int64_t Total() const;
  struct Seen {
    int64_t moves = 0;
    int64_t marks = 0;
    int64_t looks = 0;
    int64_t in_memory = 0;  // looks that found its mark in the daemon's memory
  };
  const Seen& seen() const { return seen_; }
  // What no read may show, and one did.
  const std::vector<std::string>& torn() const { return torn_; }

 private:
  // Until it commits, or can't.
  Sent Persist(const check::Transaction& transaction);
  bool OneOperation();
  bool Move(bool mark);
  bool Come();
  bool Look();
  // The accounts of two different places.
  void Choose(std::string* from, std::string* to);
  std::string Account(size_t place, int64_t i) const;
  std::string MarkIn(const std::string& folder) const;

  const std::vector<Place> places_;
  int64_t made_ = 0;
  int64_t marked_ = 0;                        // its last mark that was acknowledged
  std::deque<std::vector<std::string>> own_;  // entries that it made and did not delete, one of each place
  Seen seen_;
  std::vector<std::string> torn_;
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_CONTAINERS_MOVER_H_
