// A history is what clients saw of one store: every transaction with every answer it got, every read, watch
// and sleep, with times of one clock. Each is one line of EDN, so that processes in any language can write
// one. Plain data.
//
// Entries under "/.memory/" are in no log and go with the daemon's life. An observer inside each daemon notes
// its starts and what its commits did to them; then clients say of each version which life told it. Where no
// start is noted, nothing under "/.memory/" is judged. Daemons that share the store have a memory each.
#ifndef STM_TESTS_CHECKERS_HISTORY_H_
#define STM_TESTS_CHECKERS_HISTORY_H_

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "engine/values/value.h"

namespace stm::check {

using Version = int64_t;
// Nanoseconds on the one clock of everybody who wrote the history.
using Time = int64_t;
inline constexpr Time kNever = std::numeric_limits<Time>::max();
// Numbers the starts of all daemons, from 1; 0: not told.
using Life = int64_t;

struct Entry {
  std::string name;
  std::optional<Value> value;  // nullopt: absent
  Version version = 0;         // 0: never written, or a swept tombstone
};

// The changes that the checker knows how to carry out itself.
struct Write {
  enum class Change : uint8_t { kSet, kAdd, kConj, kDelete, kCreate, kDefine };
  std::string name;
  Change change = Change::kSet;
  Value value;         // of kAdd an integer; of kConj one item for a vector
  int64_t ttl_ms = 0;  // of kDefine, and of an entry that kCreate or kSet makes; 0: for ever
  bool atom = false;   // it is written as an atom, else as a ref
  // Of the same: the rule that every value is an integer of at least this; nullopt: any value.
  std::optional<int64_t> min;
};

// One answer to one read: entries by name, or all there is under a prefix.
struct Read {
  int64_t client = 0;
  Time invoked = 0;
  Time answered = 0;
  bool newest = false;   // asked for the newest, so linearizable; else at a snapshot, or stale
  Version at_least = 0;  // what the client said it had seen
  Version snapshot = 0;  // what the answer says
  Life life = 0;         // that told the snapshot: of a later read at it not the life that answered
  // Asked for the store as it was at this moment of the calendar.
  std::optional<Instant> instant;
  std::string prefix;          // "": by name
  std::vector<Write> pending;  // the answer is as seen after these
  std::vector<Entry> entries;
};

// What a client was told about a transaction id. A duplicate or a resend adds another.
struct Answer {
  enum class Verdict : uint8_t {
    kCommitted,
    kConflict,
    kRejected,
    kRefused,  // a failure that says "not committed": a bound, no room, a lost fence
    kNotCommitted,
    kUnknown,  // too old, or a failure that says nothing
  };
  struct Cause {
    std::string name;
    Version version = 0;
  };
  Verdict verdict = Verdict::kUnknown;
  Time at = 0;
  Life life = 0;
  Version version = 0;  // of kCommitted
  std::vector<std::optional<Value>> results;
  bool results_dropped = false;
  bool fence_lost = false;    // of kRefused: a lock that it names as a fence is not held so any more
  std::vector<Cause> causes;  // of kConflict
  // Of kConflict; of kRejected, and of fence_lost, at least the version that it was decided at, or 0.
  Version snapshot = 0;
  std::vector<Entry> fresh;
};

// It commits only while the grant with this token stands.
struct Fence {
  std::string lock;
  int64_t token = 0;
};

struct Transaction {
  int64_t client = 0;
  Uuid id;
  Time invoked = 0;  // first sent
  Version snapshot = 0;
  Life life = 0;  // that told the snapshot
  bool serializable = true;
  std::vector<std::string> reads;
  std::vector<std::string> lists;
  std::vector<std::string> ensures;
  std::vector<Write> writes;
  std::vector<Value> records;
  std::vector<Fence> fences;
  std::vector<Answer> answers;
};

struct WatchStep {
  enum class Kind : uint8_t { kOpened, kInitial, kSynced, kCommit, kProgress, kGap };
  struct Change {
    std::string name;
    std::optional<Value> before;
    bool before_known = true;
    std::optional<Value> after;
    bool expired = false;
  };
  Kind kind = Kind::kOpened;
  Time at = 0;
  Version version =
      0;          // kOpened: after this, 0 from now. kSynced, kCommit, kProgress. kGap: where to begin again
  Life life = 0;  // that told the version
  bool initial = false;         // of kOpened
  std::vector<Entry> entries;   // of kInitial
  std::optional<Uuid> id;       // of kCommit
  std::vector<Change> changes;  // of kCommit
  std::vector<Value> records;   // of kCommit
};

// One watcher, its reconnections included.
struct Watch {
  int64_t client = 0;
  std::vector<std::string> names;
  std::vector<std::string> prefixes;  // both empty: all but the system's
  std::vector<WatchStep> steps;
  // Every selected commit up to here must have come; 0: the watcher was cut off, nothing is claimed.
  Version complete_to = 0;
  Life complete_life = 0;
};

// One AwaitChange.
struct Sleep {
  int64_t client = 0;
  Time invoked = 0;
  Time answered = kNever;
  Version snapshot = 0;
  Life life = 0;       // that told the snapshot
  Life asleep_in = 0;  // the life that was asked to wake it
  std::vector<std::string> reads;
  std::vector<std::string> lists;
  Version woken_at = 0;  // the answer's snapshot
  std::vector<Entry> fresh;
  // Not answered although the daemon that held it had installed this version; 0: nothing is claimed.
  Version asleep_at = 0;
};

// What a client was told of a lock's or a session's call.
struct LockAnswer {
  enum class Outcome : uint8_t {
    kGranted,  // token, holds
    kBusy,
    kUpgradeRefused,
    kDeadlock,
    kReleased,
    kStillHeld,  // holds
    kNotHeld,    // of an acquire or an await: its place or its grant is another's by now
    kNotYours,
    kLeft,
    kSignalled,
    kDone,          // of a session's call
    kExpired,       // the session is over
    kNotCommitted,  // and never will be
    kUnknown,
  };
  Outcome outcome = Outcome::kUnknown;
  Time at = 0;
  Version version = 0;  // at least what it was decided at
  int64_t token = 0;
  int64_t holds = 0;
  bool signalled = false;  // of an await: else its time was over
};

enum class LockMode : uint8_t { kExclusive, kShared, kPermits };

// One call that changes a lock or a session, with every answer that the client went by.
struct LockCall {
  enum class Kind : uint8_t { kOpen, kClose, kAcquire, kRelease, kGiveUp, kAwait, kSignal, kBreak };
  Kind kind = Kind::kAcquire;
  int64_t client = 0;
  Uuid id;
  Time invoked = 0;     // first sent
  std::string session;  // of kOpen: the one that it makes
  std::string owner;    // holds are a session's and an owner's
  std::string lock;
  LockMode mode = LockMode::kExclusive;  // of kAcquire; and:
  int64_t permits = 0;
  int64_t permits_max = 0;
  int64_t wait_ms = 0;    // of kAcquire and kAwait; 0: at once, past those who wait; -1: for ever
  int64_t token = 0;      // of kRelease, kAwait and kSignal
  std::string condition;  // of kAwait and kSignal
  Uuid acquire;           // of kGiveUp: the call that it gives up
  std::vector<LockAnswer> answers;
};

// A client was sure that it had the lock, from when it was told until a moment of its own choice: it asked to
// release it, its session's time was over by its own clock, or it was told of the loss.
struct Belief {
  int64_t client = 0;
  std::string session;
  std::string owner;
  std::string lock;
  LockMode mode = LockMode::kExclusive;
  int64_t token = 0;
  Time from = 0;
  Time until = 0;
};

// A session, as its client kept it.
struct Lease {
  int64_t client = 0;
  std::string session;
  int64_t ttl_ms = 0;
  Time last_beat = 0;  // sent; the session's opening counts
};

// From `from` on nothing went wrong with daemons and what they stand on, and at `until` the history was
// taken: by then every session whose client stopped is over, `grace_ms` beside its TTL after its last beat or
// `from`.
struct Quiet {
  Time from = 0;
  Time until = 0;  // 0: nothing is claimed
  int64_t grace_ms = 0;
};

// The log as its reader serves it: the version order, known exactly.
struct LogChange {
  enum class Kind : uint8_t { kSet, kCreate, kDelete, kExpire, kDefine };
  std::string name;
  Kind kind = Kind::kSet;
  std::optional<Value> value;     // of kSet, kCreate
  std::optional<int64_t> ttl_ms;  // where the change tells the definition
  std::optional<int64_t> min;     // of the same
  bool atom = false;              // of kCreate
  // As the reader tells it; before_known false: not told.
  std::optional<Value> before;
  bool before_known = false;
};

struct LogCommit {
  Version version = 0;
  Life life = 0;  // that made it, where daemons share the store
  std::optional<Instant> at;
  std::optional<Uuid> id;
  std::vector<LogChange> changes;
  std::vector<Value> records;
};

using Log = std::vector<LogCommit>;

// One reading of the log, as far as it came; or one page of an entry's history.
struct LogRead {
  int64_t client = 0;
  Time invoked = 0;
  Time answered = 0;               // its last piece
  std::string name;                // "": the log; else the entry
  Version from = 0;                // from here on, 0: from the oldest kept. Of a history: below, 0: all
  int64_t limit = 0;               // of a history
  std::vector<LogCommit> commits;  // of a history: newest first, with the entry's change alone
  // The end was told, and everything up to here had been committed when it was asked for; 0: it broke off.
  Version complete_to = 0;
  // Refused, because where it would go on is no longer kept: the oldest version kept, as told; 0: not
  // refused.
  Version refused_below = 0;
  // The oldest version kept, by an observer beside the daemon: when it began; and when it was refused. 0: not
  // told.
  Version kept_from = 0;
  Version kept_when_refused = 0;
};

// A start of a daemon, noted by an observer inside it.
struct Start {
  Life life = 0;
  Version recovered = 0;  // installed when it was ready: what was under "/.memory/" is gone from here on
  int64_t daemon = 0;     // of those that share the store; 0: there is one
};

// What an installed commit did to entries under "/.memory/", noted by the same.
struct MemoryCommit {
  Life life = 0;
  Version version = 0;
  std::vector<LogChange> changes;
};

struct History {
  std::vector<Transaction> transactions;
  std::vector<Read> reads;
  std::vector<Watch> watches;
  std::vector<Sleep> sleeps;
  std::vector<LogRead> log_reads;
  std::vector<LockCall> lock_calls;
  std::vector<Belief> beliefs;
  std::vector<Lease> leases;
  Quiet quiet;
  // By an observer inside each daemon; may be empty. When a life, once it had recovered, installed a version.
  std::map<Version, std::map<Life, Time>> installed;
  std::vector<Start> starts;  // in order
  std::vector<MemoryCommit> memory;
  // Nobody else wrote to the store: every commit of the log is one of these transactions or an expiry.
  bool whole = true;
};

// One line each, without the newline.
std::string ToEdnLine(const Transaction& transaction);
std::string ToEdnLine(const Read& read);
std::string ToEdnLine(const Watch& watch);
std::string ToEdnLine(const Sleep& sleep);
std::string ToEdnLine(const LogRead& read);
std::string ToEdnLine(const LockCall& call);
std::string ToEdnLine(const Belief& belief);
std::string ToEdnLine(const Lease& lease);
std::string ToEdnLine(const LogCommit& commit);
std::string ToEdnLine(const Start& start);
std::string ToEdnLine(const MemoryCommit& commit);
std::string ToEdnText(const History& history, const Log& log);

// Adds a line to `history` or `log`. INVALID_ARGUMENT names the key that is wrong.
absl::Status AddEdnLine(std::string_view line, History* history, Log* log);
// All lines of a text; blank ones are skipped. Errors begin with the line's number. Those who wrote one
// history may each have written a text of their own.
absl::Status AddEdnText(std::string_view text, History* history, Log* log);

}  // namespace stm::check

#endif  // STM_TESTS_CHECKERS_HISTORY_H_
