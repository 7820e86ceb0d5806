// The checker says whether what clients saw can be, given the log: strict serializability, snapshot
// isolation, opacity, exactly once, watches, sleeps, expiries, locks. The log tells the order of versions, so
// that every check is exact: it compares with the state that replaying the log gives at a version, and never
// searches for an order. It shares no code with the engine but values. Pure; any thread.
#ifndef STM_TESTS_CHECKERS_CHECKER_H_
#define STM_TESTS_CHECKERS_CHECKER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/checkers/history.h"

namespace stm::check {

enum class Rule : uint8_t {
  kLogOrder,        // versions rise; what the log says stood before a change did
  kIdTwice,         // an id is in the log once at most
  kUnowned,         // every commit of the log is one that a client asked for, or an expiry
  kLostCommit,      // an acknowledged commit is in the log, under its version and id
  kFalseRefusal,    // an id that was answered "not committed" in any way is not in the log
  kOneVerdict,      // all answers to one id agree
  kEffects,         // a commit changed what its writes say, and nothing else
  kResults,         // the results told are those of the commit point
  kReadState,       // a read shows the state at its snapshot, all of it
  kRealTime,        // nothing is older than what was known before it was asked
  kStaleRead,       // serializable: what was read is unchanged at the commit
  kPhantom,         // serializable: what was listed is unchanged at the commit
  kLostUpdate,      // snapshot isolation: what was written or ensured is unchanged at the commit
  kFalseConflict,   // a conflict's cause is a commit that changed an entry which the isolation checks
  kFalseRejection,  // a rejected transaction could not be carried out at some version while it was decided
  kWatch,           // a watch shows every selected commit once, in order, with its values
  kSleep,           // a sleeper wakes when what it read changes, and only then
  kLogRead,  // the log is read in order, each commit once, none left out; what is no longer kept is refused
  kExpiry,   // an entry expires one TTL after its last write, never early
  // Of locks and sessions (lock_checker.cc).
  kLockHolders,  // an exclusive holder is alone, but for its own shared hold; no more permits than there are
  kLockToken,    // each grant's token is above all before it of that lock
  kLockOrder,    // who queued first is granted first, and nobody is granted past those who wait
  kLockChange,   // a hold comes by one call, once, and goes by a release, a break, or its session's end
  kLockWaiter,   // a place is granted or left, never dropped; no lock is free for the first who waits
  kLockAnswer,   // what a call was told is what the log made of it, and the same each time
  kLockStuck,    // a session that nobody keeps is over after its TTL and a grace
  kBelief,       // while a client believes that it has a lock, the lock is its own
  kFence,        // a commit goes through if all of its fences' grants stand, and only then
};
// "lost-commit".
std::string_view RuleName(Rule rule);

struct Violation {
  Rule rule = Rule::kLogOrder;
  std::string what;  // versions, names and ids
};

// All that is wrong, at most kViolationsMax a rule; empty: the history can be.
inline constexpr size_t kViolationsMax = 20;
std::vector<Violation> Check(const History& history, const Log& log);

// A line each.
std::string ToString(const std::vector<Violation>& violations);

// What is at a name.
struct Content {
  std::optional<Value> value;  // nullopt: absent
  bool atom = false;
  std::optional<int64_t> min;  // its rule: an integer of at least this
};

// What `writes` make of one entry, in order. Not `possible`: a write of the wrong type or as the wrong kind,
// one that needs an entry which is absent, or a value in the end that the rule refuses.
struct Outcome {
  bool possible = true;
  bool changed = false;  // something is written, even if an equal value
  Content after;
  std::vector<std::optional<Value>> results;  // one a write
};
Outcome Carry(const std::vector<Write>& writes, std::string_view name, const Content& before);

}  // namespace stm::check

#endif  // STM_TESTS_CHECKERS_CHECKER_H_
