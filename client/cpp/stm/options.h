// Options of calls, and what calls tell of commits. Plain data.
#ifndef STM_CLIENT_CPP_STM_OPTIONS_H_
#define STM_CLIENT_CPP_STM_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "stm/error.h"
#include "stm/value.h"

namespace stm {

namespace internal {
class CancelState;
}

// Ends calls from another thread: they return CANCELLED, or CommitUnknown when a commit was sent and its outcome
// cannot be found out within 1 s. Copies are one canceller; any thread.
class Canceller {
 public:
  Canceller();
  void Cancel();
  bool cancelled() const;
  const std::shared_ptr<internal::CancelState>& state() const { return state_; }

 private:
  std::shared_ptr<internal::CancelState> state_;
};

struct ConnectOptions {
  // Several by comma; "host:port" or "unix:/path". "": STM_ADDRESS, else 127.0.0.1:7440. The first that answers is
  // kept until it fails.
  std::string address;
  // "/team-a": every name is below it; the client sees names without it.
  std::string prefix;
  // Kept with each commit. "": the program's name.
  std::string client_name;
  // How long calls and Connect wait out an outage.
  absl::Duration unavailable_timeout = absl::Seconds(10);
  // Threads of the async forms, made as they are needed; a TransactAsync that sleeps in Retry holds one.
  int async_threads_max = 64;
  // Of the session that locks and ephemeral entries are held by: how long they outlive what the daemon heard of this
  // client last. Zero: the daemon's default.
  absl::Duration session_ttl;
  // Takes the client's own warnings (a transaction at its 10th run). Unset: standard error.
  std::function<void(std::string_view)> warn;
};

enum class Isolation : uint8_t {
  kSerializable,  // all reads and lists are checked: no write skew
  kSnapshot,      // Clojure's: only what was set, deleted or ensured is checked
};

// What a transaction was when it was durable.
struct Committed {
  int64_t version = 0;  // 0: it only read, and had nothing to commit
  Instant at;
  std::string transaction_id;
  bool repeated = false;  // a once key was spent already: version is the first call's
  int64_t resends = 0;    // all its runs together: sent again under the same id, since no answer had come
};

struct Rerun {
  int run = 0;  // that begins now; 2 is the first rerun
  std::vector<ConflictCause> causes;
  std::string why;  // when no entry is to blame: "snapshot too old", "store changed"
};

struct TransactOptions {
  absl::Duration timeout = absl::InfiniteDuration();
  std::optional<Canceller> canceller;
  Isolation isolation = Isolation::kSerializable;
  std::string label;        // comes back in the log, watches and conflict causes
  std::string traceparent;  // W3C trace context
  // A key: a second transaction of that key, from any process, within the TTL, runs nothing and returns the first
  // one's version and result. Kept as the entry /.once/KEY, in the same commit.
  std::string once;
  absl::Duration once_ttl = absl::Hours(24);
  int runs_max = 0;         // Conflict after this many runs; 0: no limit
  // The first read may be of what the daemon has in memory; then even a transaction that only reads is committed,
  // to check that.
  bool stale_ok = false;
  // For tests: each body runs twice on one snapshot and must read and write the same, else kRerunDiffers.
  bool rerun_check = false;
  std::function<void(const Rerun&)> on_rerun;
  Committed* committed = nullptr;  // filled in on success
};

struct ReadOptions {
  absl::Duration timeout = absl::InfiniteDuration();
  std::optional<Canceller> canceller;
  bool stale_ok = false;  // what the daemon has in memory, at once; never older than this client saw
};

// Of an entry, fixed at creation by the first to create it; Define changes it.
struct Definition {
  std::optional<Value> validator;  // EDN, as in [:and :int [:min 0]]
  absl::Duration ttl;              // zero: for ever. Each write starts it again
  bool ephemeral = false;          // bound to this client's session, whose end deletes it
  std::string container;           // that keeps the value, as "mongo"; "": inline. Define does not change it
};

struct Entry {
  std::string name;
  std::optional<Value> value;  // nullopt: absent, or names only were asked for
  int64_t version = 0;
  bool is_atom = false;
};

enum class ChangeKind : uint8_t { kSet, kDeleted, kExpired, kDefined };

struct Change {
  std::string name;
  ChangeKind kind = ChangeKind::kSet;
  std::optional<Value> before;  // nullopt: absent, unless before_unknown
  std::optional<Value> after;   // nullopt: absent
  bool before_unknown = false;
  bool is_atom = false;
};

// One commit, whole: as watches and histories show it.
struct Commit {
  int64_t version = 0;
  Instant at;
  std::string transaction_id;
  Meta meta;
  std::vector<Change> changes;  // those selected
  std::vector<Value> records;
  bool initial = false;  // no commit, but all that is there at `version`: what was known before is void
};

struct HistoryOptions {
  int64_t before_version = 0;  // 0: from the newest
  uint32_t limit = 100;        // at most 1000
  absl::Duration timeout = absl::InfiniteDuration();
};

struct WatchOptions {
  bool initial = false;  // first all as it is, as one Commit marked initial; then each commit once
  int64_t after = 0;     // commits after this version; 0: from now. Not with initial
  bool conflate = false;  // for a slow reader: commits not yet sent are merged
  absl::Duration progress_every = absl::Seconds(10);
  // While nothing selected changes: the version to resume after.
  std::function<void(int64_t version)> on_progress;
  // Called once the watch is set: every commit after `version` will be told.
  std::function<void(int64_t version)> on_synced;
  absl::Duration timeout = absl::InfiniteDuration();
  std::optional<Canceller> canceller;
};

struct RecordOptions {
  int64_t from_version = 0;  // at it, not after; 0: the oldest kept. Asked for less than is kept: OUT_OF_RANGE
  int64_t to_version = 0;    // 0: the newest
  bool follow = false;       // after the newest, go on as commits come
  std::vector<std::string> tags;  // of untyped Records: "blog.*" is every tag that begins with "blog."; empty: all
  absl::Duration timeout = absl::InfiniteDuration();
  std::optional<Canceller> canceller;
};

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_OPTIONS_H_
