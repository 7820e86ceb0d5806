// Reservations keep a transaction that lost again and again from starving (DESIGN section 3): from its third run the
// entries it wants wait for it, and younger transactions that touch them stand in line, oldest first. Clojure's barging
// without kills. A reservation is a hint about order: safety stays with the checks. Lives on the Loop; no locks.
// Always: a name has one holder at most; a transaction in line stands behind a reservation that ends.
#ifndef STM_ENGINE_RESERVATIONS_H_
#define STM_ENGINE_RESERVATIONS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "engine/pending.h"

namespace stm::engine {

class Reservations {
 public:
  // True if an older transaction's reservation stands in its way: then the line has taken it. `pending` is moved from
  // only then.
  bool StandInLine(std::unique_ptr<Pending>& pending);

  // Reserves all that `pending` wants until `expires`, under `number` or the reservation that it holds, which is
  // returned. Names that a younger one reserved are taken over; an older one keeps its own.
  uint64_t Reserve(Pending& pending, uint64_t number, absl::Duration expires);

  // Another daemon's turn on an entry: older than all, until `number` is released. Taken over from whoever had it.
  void HoldForOthers(const std::string& name, uint64_t number);

  // Ends a reservation. Those in line whose turn has come are moved to `ready`, in order: all that cannot conflict, up
  // to and with the first that can, which holds the names next, until `expires`.
  void Release(uint64_t number, absl::Duration expires, uint64_t* next_number,
               std::vector<std::unique_ptr<Pending>>* ready);

  // Reservations past their time, for Release.
  std::vector<uint64_t> Expired(absl::Duration now) const;
  // The earliest end of one; InfiniteDuration: there is none.
  absl::Duration NextExpiry() const;
  // The first in line of those who want a name; null: nobody does.
  const Pending* FirstInLine(const std::string& name) const;
  bool Holds(uint64_t number) const { return held_.contains(number); }

  // Everyone in line, taken out of it: for a drain.
  std::vector<std::unique_ptr<Pending>> TakeAll();

  bool empty() const { return held_.empty(); }
  int64_t in_line() const { return static_cast<int64_t>(line_.size()); }

 private:
  struct Held {
    std::vector<std::string> names;
    absl::Duration born;
    absl::Duration expires = -absl::InfiniteDuration();
  };
  using Turn = std::pair<absl::Duration, uint64_t>;  // born, sequence

  // What it reads, writes and lists (prefixes end in "/", so they are no entry's name); for a create or delete, the
  // directories above as well when `wants` is for looking up.
  static void ForEachName(const Transaction& transaction, bool with_directories,
                          const std::function<void(std::string_view)>& visit);
  bool Blocked(const Pending& pending) const;

  absl::flat_hash_map<uint64_t, Held> held_;
  absl::flat_hash_map<std::string, uint64_t> by_name_;
  std::map<Turn, std::unique_ptr<Pending>> line_;
  // Those in line by each name that they want.
  absl::flat_hash_map<std::string, std::set<Turn>> line_by_name_;
  int64_t prefixes_held_ = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_RESERVATIONS_H_
