// Engine keeps entries with their history and decides every commit: refs and atoms, transactions, watches, validators,
// retry() sleepers, reservations, exactly-once ids. Every method runs on the Loop; every callback given to one comes
// off the Loop, through the Executor, once. WatchSinks are called on the Loop.
// Always: versions only grow; an answer never depends on a commit that is not installed; an id has one verdict.
#ifndef STM_ENGINE_ENGINE_H_
#define STM_ENGINE_ENGINE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/containers.h"
#include "engine/coordinator.h"
#include "engine/lock_bounds.h"
#include "engine/loop.h"
#include "engine/transaction.h"
#include "engine/watch.h"

namespace stm::engine {

// Bounds and times. Names are those of the settings and of errors.
struct Options {
  int64_t value_bytes_max = 1 << 20;             // EDN bytes of one value
  int64_t transaction_bytes_max = 8 << 20;       // EDN bytes of all values of one transaction
  int64_t transaction_entries_max = 10000;       // reads, lists, ensures and writes of one transaction
  int64_t heavy_value_bytes = 64 << 10;          // operations and rules on larger values run off the Loop
  int64_t batch_transactions_max = 256;
  int64_t batch_bytes_max = 4 << 20;
  int64_t batches_in_flight_max = 1;             // appends under way at once; 1 for a log of one's own
  int64_t commit_queue_max = 65536;              // transactions waiting for a batch, in a line or for entries
  int64_t history_bytes_max = 256 << 20;         // --history-bytes
  absl::Duration history_age_max = absl::Seconds(60);
  int64_t id_table_bytes_max = 256 << 20;        // --id-table-bytes
  absl::Duration id_age_max = absl::Minutes(10);
  int64_t id_result_bytes_max = 1024;            // results above are not kept for resends
  int64_t fresh_bytes_max = 64 << 10;            // of Conflict.fresh and AwaitChange's
  int64_t sleepers_max = 100000;                 // AwaitChange calls at once
  int64_t sleepers_woken_at_once = 16;
  absl::Duration sleepers_next_after = absl::Milliseconds(10);
  uint32_t reservation_from_run = 3;
  absl::Duration reservation_min = absl::Milliseconds(20);
  absl::Duration reservation_max = absl::Seconds(1);
  // Beside other daemons: batches lost in a row to their commits on an entry, after which its turns are asked for; how
  // long a turn is at least, and at most, after which time without another's asking the entry is free again.
  int turn_after_losses = 3;
  absl::Duration turn_min = absl::Milliseconds(50);
  absl::Duration turn_max = absl::Seconds(1);
  absl::Duration transaction_age_max = absl::Seconds(60);
  int64_t watches_max = 100000;
  int64_t list_page_max = 1000;
  int64_t list_page_bytes_max = 1 << 20;
  int64_t ttl_ms_min = 1;
  int64_t entry_cache_bytes_max = 1 << 30;       // --entry-cache-bytes: entries in memory beside an EntryStore
  LockBounds locks;
  // Of values that containers keep (containers.h).
  absl::Duration container_timeout = absl::Seconds(10);   // for one call; a transaction or read with a nearer deadline, until that
  int64_t container_transactions_max = 4096;              // that wait for one container
  int64_t container_cache_bytes_max = 256 << 20;          // of values in memory
  // What nothing names any more is erased once it was so for this long here, and past the history: until then slow readers may
  // ask for it, and a late write of it may come.
  absl::Duration erase_after = absl::Minutes(2);
  // Notes of what is left to be done in containers, of each kind, that one look takes; the rest the next ones do.
  size_t settle_notes_max = 20'000;
};

// Planted bugs: each proves that a checker can fail. All off in the program; tests/simulation sets them.
struct Canaries {
  // What is checked at the commit point.
  bool skip_read_check = false;        // a stale read commits
  bool skip_write_skew_check = false;  // a stale read of what is not written commits
  bool skip_list_check = false;        // phantoms
  bool ignore_ensures = false;         // what was ensured may change
  bool check_operations = false;       // operations conflict with each other
  // What a commit does.
  bool apply_to_installed = false;  // operations of one batch overwrite one another
  bool skip_validators = false;     // a value that an entry's rule refuses is written
  bool skip_kinds = false;          // an atom is written as a ref
  bool lose_records = false;        // records are not committed
  bool skip_fences = false;         // a commit goes through though its lock is lost
  // What is told, and when.
  bool answer_before_append = false;     // acknowledges what is not durable
  bool conflict_before_install = false;  // a conflict with what may never be
  bool refuse_behind = false;            // beside a store: a refusal by what was so before others' commits
  bool serve_trimmed_history = false;    // a read below the history mark shows what is left of its snapshot
  bool read_newest = false;              // a later read of a snapshot shows what is newest: two moments in one body
  // The id table.
  bool forget_ids = false;              // a resend executes again
  bool forget_queued_ids = false;       // a resend executes again while the first waits for its turn
  bool forget_ids_on_recovery = false;  // a resend after a restart executes again
  bool forget_id_floor = false;         // images say that no id was ever dropped: one that was is "not committed"
  bool too_old_is_conflict = false;     // "not committed" of what may have committed
  // Watches.
  bool lose_event_on_resume = false;     // the first commit after the version that a watch resumes from
  bool newest_before_on_resume = false;  // old values as they are now, of commits out of history
  bool expired_as_deleted = false;       // watchers are not told that it was the TTL
  // Memory entries.
  bool keep_lost_memory = false;  // nobody who saw them before a start is told that it took them
  // Values in containers.
  bool reuse_stamp = false;          // a transaction that is worked out anew writes under the stamps that it had
  bool commit_failed_write = false;  // a commit names a value whose write failed
  bool erase_early = false;          // superseded values are erased while snapshots still reach them
  bool read_newest_stored = false;   // a read gets what its entry has now, whatever its snapshot
  // Those who wait, and time.
  bool keep_reservations = false;  // whoever stands in line behind one waits for ever
  bool lose_wakes = false;         // sleepers sleep on
  bool early_ttl = false;          // a write does not start the TTL again
};

struct ReadPoint {
  enum class At : uint8_t { kNewest, kVersion, kInstant, kStale };
  At at = At::kNewest;
  Version version = 0;
  Instant instant;
};

// What a client knows; below it the engine waits.
struct Seen {
  Version version = 0;
  uint64_t store = 0;  // 0: not checked
};

struct GetRequest {
  std::vector<std::string> names;
  ReadPoint at;
  Seen seen;
  std::vector<Write> pending;  // the answer is as seen after these
  absl::Duration deadline = absl::InfiniteDuration();  // on Loop::Now()'s clock, for waiting on seen
};

struct GetResult {
  Version installed = 0;
  Version snapshot = 0;
  std::vector<EntryState> entries;  // in the order of names
};

struct ListRequest {
  std::string prefix;
  ReadPoint at;
  Seen seen;
  int64_t page_size = 0;    // 0: list_page_max
  std::string after_name;   // "": from the beginning; else the last name of the page before, with at = kVersion
  bool names_only = false;
  bool count_only = false;
  absl::Duration deadline = absl::InfiniteDuration();
};

struct ListResult {
  Version installed = 0;
  Version snapshot = 0;
  std::vector<EntryState> entries;
  bool more = false;  // another page follows, after the last entry's name
  int64_t count = 0;  // with count_only
};

struct AwaitRequest {
  Version snapshot = 0;
  std::vector<std::string> reads;
  std::vector<std::string> lists;
  Seen seen;
  absl::Duration deadline = absl::InfiniteDuration();
  uint64_t reservation = 0;  // of the run that sleeps, as the last Conflict gave it: it ends; 0: none
};

struct AwaitResult {
  Version installed = 0;
  Version snapshot = 0;
  std::vector<EntryState> fresh;
};

struct WatchRequest {
  Selector selector;
  Version after = 0;  // 0: from now
  bool initial = false;
  absl::Duration progress_every = absl::Seconds(10);
  Seen seen;
  bool own = false;  // the daemon's, beside those of clients: not counted, and not bounded
};

// Counters since the start, and gauges. Read on the Loop.
struct Stats {
  int64_t commits = 0;
  int64_t conflicts = 0;
  int64_t rejections = 0;
  int64_t batches = 0;
  int64_t batches_lost = 0;
  int64_t no_space = 0;
  int64_t batches_failed = 0;    // beside an EntryStore: it could not be reached
  int64_t resends_answered = 0;  // from the id table
  int64_t ids_too_old = 0;
  int64_t not_committed = 0;
  int64_t reservations = 0;
  int64_t turns_asked = 0;       // beside other daemons: by this one
  int64_t turns_of_others = 0;   // that this one waited for
  int64_t gets = 0;
  int64_t watch_events = 0;
  int64_t watches_cut = 0;
  int64_t expired = 0;
  int64_t loads = 0;             // from the EntryStore; of these:
  int64_t entries_loaded = 0;    // absent ones too
  int64_t entries_evicted = 0;
  int64_t entries = 0;       // live; beside an EntryStore of those in memory
  int64_t tombstones = 0;
  int64_t queued = 0;        // transactions waiting for a batch
  int64_t in_line = 0;       // transactions waiting for a reservation
  int64_t parked = 0;        // transactions whose large values are worked on off the Loop
  int64_t loading = 0;       // transactions waiting for entries out of the EntryStore
  int64_t staging = 0;       // transactions waiting for containers, or for others that write the same entries there
  int64_t staged = 0;        // values written into containers; of these, for commits that did not come to be
  int64_t staged_anew = 0;
  int64_t stored_loads = 0;  // values read from containers
  int64_t stored_cache_bytes = 0;
  int64_t in_flight = 0;     // batches being appended
  int64_t sleepers = 0;
  int64_t watches = 0;
  int64_t history_bytes = 0;
  int64_t entry_cache_bytes = 0;
  int64_t id_table_bytes = 0;
  int64_t ids = 0;
};

struct HotEntry {
  std::string name;
  int64_t commits = 0;
  int64_t conflicts = 0;
};

struct Status {
  bool ready = false;
  std::string not_ready_because;
  uint64_t store = 0;
  uint64_t writer = 0;
  Version installed = 0;
  Version history_mark = 0;
  Version id_floor = 0;
  Stats stats;
  std::map<std::string, int64_t> staging_in;  // of stats.staging, by container; one that is in two counts in both
  std::vector<HotEntry> hot;
};

using CommitDone = absl::AnyInvocable<void(std::shared_ptr<const Verdict>, Version installed)>;
struct Submission {
  std::unique_ptr<Transaction> transaction;
  CommitDone done;
};
template <typename T>
using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;

class Engine : public Sink {
 public:
  // All outlive the engine. `store`: where entries are that are not in memory; null: all are. `containers`: null: none are
  // configured.
  Engine(Loop* loop, Executor* executor, Coordinator* coordinator, Writers* writers, Options options,
         Canaries canaries = {}, EntryStore* store = nullptr, Containers* containers = nullptr);
  ~Engine() override;

  // Recovers; until `done` says OK every call is answered NOT_READY.
  void Start(absl::AnyInvocable<void(absl::Status)> done);

  // Decides one transaction, exactly once for one id. The transaction's names are legal and its values within bounds of
  // depth; what only the engine can know it checks itself.
  void Commit(std::unique_ptr<Transaction> transaction, CommitDone done);
  // Several that came together: the first does not go into a batch of its own.
  void Commit(std::vector<Submission> submissions);
  // The verdict of an id; makes "not committed" certain where it is not known.
  void GetOutcome(const CommitId& id, CommitDone done);

  void Get(GetRequest request, Done<GetResult> done);
  void List(ListRequest request, Done<ListResult> done);

  // Answers once an entry or listing read has a version newer than the snapshot; one that came back to the value that was
  // read, while others were woken, has none. The result is a handle for CancelAwait, after which `done` is called with
  // CANCELLED unless it was called already. DEADLINE_EXCEEDED at the deadline.
  uint64_t AwaitChange(AwaitRequest request, Done<AwaitResult> done);
  void CancelAwait(uint64_t handle);

  // Reservations given to this client connection end: releases them. `reservation` as Conflict gave it.
  void ReleaseReservation(uint64_t reservation);

  // The sink is called until it is cut, gapped, drained, or Unwatch. The result is a handle for Unwatch, after which no
  // call comes any more.
  absl::StatusOr<uint64_t> Watch(WatchRequest request, std::shared_ptr<WatchSink> sink);
  void Unwatch(uint64_t handle);

  // Calls `changed` on the Loop, once, when a version above `version` is installed.
  void AwaitInstalled(Version version, absl::AnyInvocable<void(Version)> changed);

  // Refuses new commits, lets those under way finish, ends watches and sleepers, then `done`.
  void Drain(absl::AnyInvocable<void()> done);

  Status GetStatus() const;

  // Is a value being written under the stamp, for a transaction that is not decided yet?
  bool IsStaging(const std::string& stamp) const;

  // An image of `version`, 0: the newest. OUT_OF_RANGE: older than the history kept, or not there yet. FAILED_PRECONDITION:
  // beside an EntryStore, which has what is not in memory.
  absl::StatusOr<std::unique_ptr<Image>> TakeImageAt(Version version);
  // A part of an image of `version` with values where it has stamps, for whoever takes it elsewhere: what containers keep is
  // erased in time, and a store that names it still would have lost it. `done` comes on the Loop, maybe at once. UNAVAILABLE:
  // a container can't be reached.
  void ResolvePart(ImagePart part, Version version, absl::AnyInvocable<void(absl::StatusOr<ImagePart>)> done);

  // FAILED_PRECONDITION: something was committed, or is about to be.
  absl::Status CheckEmpty() const;
  // Becomes what `feed` gives through the Sink, as a recovery does; only while CheckEmpty, else that. Meanwhile every
  // call is answered NOT_READY; who waited for a commit is told so too, and watches end with a gap. `feed` tells its
  // argument OK in the task of EndImage, or an error when it has fed nothing. `done` is called on the Loop, before
  // anything is answered.
  void Restore(absl::AnyInvocable<void(absl::AnyInvocable<void(absl::Status)>)> feed,
               absl::AnyInvocable<void(absl::Status)> done);

  // Sink
  void InstallImage(ImagePart part) override;
  void EndImage(Version version, Instant at, Version id_floor) override;
  void RaiseIdFloor(Version id_floor) override;
  absl::Status Install(std::shared_ptr<CommitRecord> commit) override;
  std::unique_ptr<Image> TakeImage() override;
  void TurnAsked(uint64_t writer, const std::vector<std::string>& names, absl::Duration length) override;
  void BatchInstalled(uint64_t writer, absl::FunctionRef<bool(const std::string& name)> touches) override;

  class State;  // state.h

 private:
  std::unique_ptr<State> state_;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_ENGINE_H_
