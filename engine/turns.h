// Turns share an entry out between daemons that fight over it. A commit on it goes through only on top of the
// one before, so of several daemons' in the air one does, and always the one of whoever is nearest to the
// leader. Whoever lost to others too often asks, in the order, for a turn; from then on every daemon keeps
// what touches the entry back until its own turn comes, and gives it as many commits as wait then, in one
// batch. Turns are taken as the order has the asking. A turn ends with a batch of its daemon that touches the
// entry, or its time. The entry is shared no more when nobody else has asked for a while. All this is about
// who goes first: safety stays with the checks, and a daemon that knows no turns is as safe. Lives on the
// Loop; no locks. Times are on Loop::Now()'s clock.
#ifndef STM_ENGINE_TURNS_H_
#define STM_ENGINE_TURNS_H_

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace stm::engine {

class Turns {
 public:
  // `losses_max`: in a row; then it is time to ask. `shared_for`: so long after another's asking the entry
  // stays shared, and so long an asking is waited for.
  Turns(int losses_max, absl::Duration shared_for) : losses_max_(losses_max), shared_for_(shared_for) {}

  // A batch of this daemon was lost to another's commit on `name`. True: it is time to ask for a turn.
  bool CountLoss(const std::string& name, absl::Duration now);

  // This daemon asks; not again while Asked().
  void Ask(const std::string& name, absl::Duration now);
  bool Asked(std::string_view name, absl::Duration now) const;
  // The order says that `writer` asks, for `length` from when its turn comes.
  void Add(uint64_t writer, bool ours, const std::string& name, absl::Duration length, absl::Duration now);
  // A batch of this daemon takes its turn: what comes later waits for the next. And gives it back: it was not
  // committed.
  void Use(std::string_view name) { SetUsed(name, true); }
  void GiveBack(std::string_view name) { SetUsed(name, false); }
  // A batch of `writer`, or of this daemon, that touches `name` is installed.
  void End(uint64_t writer, bool ours, const std::string& name, absl::Duration now);
  // Ends what is over; the names that may have become free, or another's.
  std::vector<std::string> Expire(absl::Duration now);
  // InfiniteDuration: nothing ends by time.
  absl::Duration NextExpiry() const;

  // Is it shared, and it is not this daemon's turn?
  bool Blocks(std::string_view name) const;
  bool Shared(std::string_view name) const {
    return shared_.contains(absl::string_view(name.data(), name.size()));
  }
  std::vector<std::string> SharedNames() const;
  bool empty() const { return shared_.empty(); }  // nothing is shared

 private:
  struct Turn {
    uint64_t writer = 0;
    bool ours = false;
    absl::Duration length;
  };
  struct Line {
    std::deque<Turn> turns;
    absl::Duration first_ends;  // the first's time
    bool first_used = false;    // it is ours, and a batch took it
    absl::Duration until;       // shared so long, if no turn is left
  };
  struct Losses {
    int count = 0;
    absl::Duration until;
  };
  void SetUsed(std::string_view name, bool used);
  static void Begin(Line* line, absl::Duration now);

  const int losses_max_;
  const absl::Duration shared_for_;
  absl::flat_hash_map<std::string, Line> shared_;
  absl::flat_hash_map<std::string, Losses> losses_;
  absl::flat_hash_map<std::string, absl::Duration> asked_;  // until when the order's word of it is waited for
};

}  // namespace stm::engine

#endif  // STM_ENGINE_TURNS_H_
