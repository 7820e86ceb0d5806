// State is what an Engine keeps and does, in eight files by what a reader looks for: commit.cc (the commit path), staging.cc (values
// that containers keep),
// procedures.cc (fences, procedures, entries bound to sessions), sharing.cc (who goes first, here and between daemons), read.cc (reads, lists, sleepers), watching.cc (watches),
// recovery.cc (images, replay), loading.cc (what an EntryStore has and memory has not). Lives on the Loop; no locks.
#ifndef STM_ENGINE_STATE_H_
#define STM_ENGINE_STATE_H_

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "engine/alarm.h"
#include "engine/engine.h"
#include "engine/entries.h"
#include "engine/id_table.h"
#include "engine/pending.h"
#include "engine/reservations.h"
#include "engine/ring.h"
#include "engine/sleepers.h"
#include "engine/stored_values.h"
#include "engine/turns.h"
#include "engine/watches.h"
#include "engine/write_set.h"

namespace stm::engine {

// Names only the newest keep count of, for GetStatus.
inline constexpr size_t kHotNamesMax = 1000;
inline constexpr size_t kHotShown = 10;
// Of a prefix beside a store: names that are asked for, and loaded, at once.
inline constexpr size_t kNamesAtOnce = 128;

class Engine::State {
 public:
  State(Engine* engine, Loop* loop, Executor* executor, Coordinator* coordinator, Writers* writers, Options options,
        Canaries canaries, EntryStore* store, Containers* containers);

  void Start(absl::AnyInvocable<void(absl::Status)> done);
  void Drain(absl::AnyInvocable<void()> done);
  Status GetStatus() const;

  // commit.cc
  void Commit(std::unique_ptr<Transaction> transaction, CommitDone done);
  void Commit(std::vector<Submission> submissions);
  void GetOutcome(const CommitId& id, CommitDone done);
  void ReleaseReservation(uint64_t reservation);

  // read.cc
  void Get(GetRequest request, Done<GetResult> done);
  void List(ListRequest request, Done<ListResult> done);
  uint64_t AwaitChange(AwaitRequest request, Done<AwaitResult> done);
  void CancelAwait(uint64_t handle);
  void AwaitInstalled(Version version, absl::AnyInvocable<void(Version)> changed);

  // watching.cc
  absl::StatusOr<uint64_t> Watch(WatchRequest request, std::shared_ptr<WatchSink> sink);
  void Unwatch(uint64_t handle);

  // recovery.cc
  void InstallImage(ImagePart part);
  void EndImage(Version version, Instant at, Version id_floor);
  void RaiseIdFloor(Version id_floor);
  absl::Status Install(std::shared_ptr<CommitRecord> commit);
  std::unique_ptr<Image> TakeImage();

  // staging.cc
  void ResolvePart(ImagePart part, Version version, absl::AnyInvocable<void(absl::StatusOr<ImagePart>)> done);
  bool IsStaging(const std::string& stamp) const { return staging_stamps_.contains(stamp); }

  // sharing.cc
  void TurnAsked(uint64_t writer, const std::vector<std::string>& names, absl::Duration length);
  void BatchInstalled(uint64_t writer, absl::FunctionRef<bool(const std::string& name)> touches);
  absl::StatusOr<std::unique_ptr<Image>> TakeImageAt(Version version);
  absl::Status CheckEmpty() const;
  void Restore(absl::AnyInvocable<void(absl::AnyInvocable<void(absl::Status)>)> feed,
               absl::AnyInvocable<void(absl::Status)> done);

 private:
  friend class EngineImage;

  // A transaction that a batch took.
  struct Member {
    std::unique_ptr<Pending> pending;
    std::shared_ptr<InstalledCommit> commit;
    std::vector<EntryChange> memory_changes;  // of "/.memory/": installed with the rest, never appended
    std::vector<std::optional<Value>> results;
  };
  struct Appending {
    uint64_t number = 0;
    uint64_t writer = 0;  // this daemon's, when it was closed
    std::vector<Member> members;
    std::vector<Entry*> touched;
    std::vector<Directory*> touched_directories;
    int64_t bytes = 0;
    absl::Duration now;     // when it was closed
    Version installed = 0;  // then
    // Those whose refusal hangs on this batch: decided again when it is installed or lost.
    std::vector<std::unique_ptr<Pending>> dependents;
  };
  struct Answer {
    CommitDone done;
    std::shared_ptr<const Verdict> verdict;
  };
  // An installed commit, as long as snapshots before it can be read and watches can resume before it.
  struct Remembered {
    std::shared_ptr<const InstalledCommit> commit;
    absl::Duration installed_at;
    int64_t bytes = 0;
  };
  struct Ahead {
    absl::Duration deadline;
    absl::AnyInvocable<void(absl::Status)> done;
  };
  // A transaction or a read that waits for entries out of the store.
  struct Wanting {
    std::vector<std::string> names;
    std::vector<std::string> prefixes;
    absl::Duration deadline;
    absl::AnyInvocable<void(absl::Status)> done;
    bool under_way = false;  // in the load that is
  };
  // A List beside a store, page of names by page of names.
  struct Listing {
    ListRequest request;
    Done<ListResult> done;
    Version snapshot = 0;
    std::string after;  // names up to here were looked at
    ListResult result;
    int64_t bytes = 0;
    int begun_again = 0;
  };
  struct Expiry {
    absl::Duration when;
    std::string name;
    friend bool operator<(const Expiry& a, const Expiry& b) { return a.when > b.when; }  // earliest on top
  };

  // commit.cc, in the order in which a commit meets them.
  void Arrive(std::unique_ptr<Transaction> transaction, CommitDone done);
  void Arrived();
  bool AnswerKnown(const CommitId& id, CommitDone& done, bool poison);
  Verdict TooOld() const;
  void CommittedElsewhere(Pending& pending, Version version, Instant at);
  void AnswerFromOrder(const CommitId& id, CommitDone done);
  void Admit(std::unique_ptr<Pending> pending);
  void CloseBatches();
  void CloseBatch();
  void Validate(std::unique_ptr<Pending> pending, Appending& batch);
  WriteSet::Base BaseOf(std::string_view name, absl::Duration now, uint64_t* depends) const;
  WriteSet::Bounds WriteBounds(int64_t heavy_bytes) const;
  WriteSet::Result EvaluateWrites(Pending& pending, absl::Duration now, uint64_t* depends) const;
  void Park(std::unique_ptr<Pending> pending);
  void WaitFor(uint64_t depends, std::unique_ptr<Pending> pending, Appending* closing);
  void CatchUp(std::unique_ptr<Pending> pending);
  void CheckReads(const Transaction& transaction, bool installed_only, std::vector<ConflictCause>* causes, bool* certain,
                  uint64_t* depends);
  bool MemoryLost(std::string_view name, Version snapshot);
  void Accept(std::unique_ptr<Pending> pending, WriteSet writes, Appending& batch);
  void FillChecks(const Pending& pending, const WriteSet& writes, CommitRecord* commit) const;
  void Appended(uint64_t number, AppendResult result);
  void EndDrain();
  void InstallBatch(Appending batch);
  void Abandon(std::deque<Appending>& batches);
  void Requeue(std::vector<std::unique_ptr<Pending>> pendings);
  // Installs one commit whose changes are at `entries`, tells watchers and sleepers.
  void InstallCommit(std::shared_ptr<InstalledCommit> commit, bool by_other);
  void KnownByInstall(const EntryChange& change, const Versioned& versioned, InstalledCommit* commit);
  void Conflicted(std::unique_ptr<Pending> pending, std::vector<ConflictCause> causes);
  void Refuse(std::unique_ptr<Pending> pending, Verdict verdict);
  void Decided(Pending& pending, std::shared_ptr<const Verdict> verdict);
  void FlushAnswers();
  void CountConflict(const std::string& name);
  void CountCommit(const std::string& name);

  // procedures.cc
  class View;
  // What a step of a transaction came to: it goes on, or `pending` was taken and waits, or is refused.
  enum class Step : uint8_t { kGoesOn, kTaken };
  void LookAhead(Pending& pending) const;
  void LookedAt(Pending& pending, std::vector<std::string> names);
  Step CheckFences(std::unique_ptr<Pending>& pending, Appending& batch);
  Step RunProcedure(std::unique_ptr<Pending>& pending, Appending& batch);
  Step BindToSessions(std::unique_ptr<Pending>& pending, WriteSet* writes, Appending& batch);
  void RefuseBy(std::unique_ptr<Pending> pending, Verdict verdict, uint64_t depends, Appending* closing);
  Step WriteBeside(std::unique_ptr<Pending>& pending, std::vector<Write>* beside, WriteSet* writes, Appending& batch);

  // staging.cc
  void Claim(std::unique_ptr<Pending> pending);
  void GrantClaims();
  void ClaimedTooLate();
  void Gather(std::unique_ptr<Pending> pending);
  void Gathered(std::shared_ptr<std::unique_ptr<Pending>> pending);
  void WorkOut(std::unique_ptr<Pending> pending, int64_t heavy_bytes);
  void WorkedOut(std::unique_ptr<Pending> pending, WriteSet::Result writes, uint64_t depends);
  void PrepareStaged(Pending& pending, WriteSet* set);
  void Stage(std::unique_ptr<Pending> pending);
  void StageValues(std::shared_ptr<std::unique_ptr<Pending>> pending);
  void Staged(std::shared_ptr<std::unique_ptr<Pending>> pending);
  void QueueStaged(std::unique_ptr<Pending> pending);
  void RefuseStaging(std::unique_ptr<Pending> pending, absl::Status status);
  Step CheckStaged(std::unique_ptr<Pending>& pending, Appending& batch);
  Step NoteStored(std::unique_ptr<Pending>& pending, WriteSet* writes, Appending& batch);
  void DropStamps(Staging& staging);
  void NoteDropped(std::vector<Write> notes);
  void EndStaging(Pending& pending, bool may_be_committed);
  absl::Duration CallUntil(const Transaction& transaction) const;
  void QueueOwn(std::unique_ptr<Transaction> transaction, CommitDone done);
  // Gives `states` back with the values themselves where containers keep them.
  void Resolve(std::vector<EntryState> states, Version snapshot, absl::Duration deadline, Done<std::vector<EntryState>> done);
  absl::Status NoSuchStamp(const std::string& name, const Stored& stored, Version snapshot) const;

  // sharing.cc
  bool StandInLine(std::unique_ptr<Pending>& pending);
  absl::Duration HoldFor(const Pending& pending) const;
  void EndReservation(uint64_t number);
  void EndReservations();
  void CountLosses(const std::deque<Appending>& batches);
  void AskTurnOn(const std::vector<ConflictCause>& causes, absl::Duration length);
  void AskTurnFor(const Pending& pending);
  void AskTurn(std::vector<std::string> names, absl::Duration length);
  void UseTurns(const Appending& batch);
  void EndTurns(const Appending& batch);
  void FollowTurn(const std::string& name);
  void TurnsAreOver();

  // read.cc
  void WhenInstalled(Version version, absl::Duration deadline, absl::AnyInvocable<void(absl::Status)> done);
  void ToldInstalled();
  void ResolveSnapshot(const ReadPoint& at, const Seen& seen, absl::Duration deadline,
                       absl::AnyInvocable<void(absl::StatusOr<Version>)> done);
  absl::Status CheckMemory(const ReadPoint& at, absl::Span<const std::string> names);
  EntryState StateAt(std::string_view name, Version snapshot) const;
  std::vector<EntryState> Fresh(const std::vector<std::string>& names);
  void GetAt(GetRequest request, Version snapshot, Done<GetResult> done);
  void AnswerGet(GetRequest request, GetResult result, std::vector<EntryState> bases, Done<GetResult> done);
  void AnswerListed(absl::StatusOr<ListResult> result, absl::Duration deadline, Done<ListResult> done);
  GetResult ReadAt(const std::vector<std::string>& names, Version snapshot) const;
  absl::StatusOr<ListResult> ListAt(const ListRequest& request, Version snapshot) const;
  bool AddToPage(const ListRequest& request, const Entry& entry, Version snapshot, ListResult* result, int64_t* bytes) const;
  bool ChangedSince(Version snapshot, const std::vector<std::string>& reads, const std::vector<std::string>& lists);
  bool Sleep(uint64_t handle, AwaitRequest request, Done<AwaitResult> done);
  void Wake(std::vector<Sleeper> sleepers);
  void WakeNextLater(const std::string& name);
  void CameBack(const std::vector<std::string>& names, Sleepers::Back how);
  void SleptEnough();
  Sight SightOf(std::string_view name) const;
  absl::Status CheckStore(uint64_t store) const;

  // watching.cc
  void Feed(uint64_t handle);
  bool SelectsLostMemory(const WatchRequest& request);
  bool FeedInitial(Watcher& watcher);
  absl::StatusOr<bool> FeedInitialFromStore(Watcher& watcher);
  void FeedLater(uint64_t handle, bool has_room);
  void ProgressLater(uint64_t handle, absl::Duration every);

  // loading.cc, all of it beside a store alone.
  bool Known(std::string_view name);
  bool KnowsAll(const Pending& pending);
  void LoadFor(std::unique_ptr<Pending> pending);
  void LoadMoreFor(std::unique_ptr<Pending> pending, std::vector<std::string> names);
  void Pin(Pending& pending);
  void Unpin(Pending& pending);
  void WhenKnown(std::vector<std::string> names, std::vector<std::string> prefixes, absl::Duration deadline,
                 absl::AnyInvocable<void(absl::Status)> done);
  void LoadSoon();
  void Load();
  void Loaded(const std::vector<std::string>& names, const std::vector<std::string>& prefixes,
              absl::StatusOr<std::vector<ImageEntry>> entries);
  void AddLoaded(const std::vector<std::string>& names, std::vector<ImageEntry> entries);
  void TellWanting(std::list<Wanting> told, const absl::Status& status);
  void EndLoads(absl::Status status);
  void LoadedTooLate();
  absl::Status CheckKnown(const ReadPoint& at, const std::vector<std::string>& names, Version* snapshot);
  Version ListedFrom() const;
  void ListMore(std::unique_ptr<Listing> listing);
  void ListNames(std::unique_ptr<Listing> listing, std::vector<std::string> names, bool more);
  void AnswerList(std::unique_ptr<Listing> listing, absl::Status status);
  void EvictEntries(int64_t came);

  // recovery.cc
  void BecomeReady();
  void SetExpiry(Entry* entry, absl::Duration now);
  void QueueExpiry(Entry* entry, absl::Duration when);
  void ExpireDue();
  void QueueExpiries(std::unique_ptr<Transaction> transaction, std::vector<std::string> names);
  void FetchHistory();
  void TrimHistory();
  void TrimIds();
  void QueueEmptyCommit();
  void SweepTombstones();
  void Housekeep();

  Engine* const engine_;
  Loop* const loop_;
  Executor* const executor_;
  Coordinator* const coordinator_;
  Writers* const writers_;
  EntryStore* const store_;  // null: all entries are in memory
  Containers* const containers_;  // null: none are configured
  const Options options_;
  const Canaries canaries_;

  bool ready_ = false;
  bool draining_ = false;
  absl::AnyInvocable<void()> drained_;
  std::string not_ready_because_ = "recovering";

  Entries entries_;
  IdTable ids_;
  Version installed_ = 0;
  Version recovered_ = 0;  // installed at the start
  Instant last_at_;  // of the newest commit

  // The commits above H, oldest first; H itself and its moment.
  Ring<Remembered> history_;
  int64_t history_bytes_ = 0;
  Version history_mark_ = 0;
  Instant history_mark_at_;
  std::multiset<Version> pins_;  // of images: H stays at or below
  Ring<std::pair<Version, std::string>> tombstones_;

  std::deque<std::unique_ptr<Pending>> queue_;
  std::deque<Appending> appending_;
  int64_t parked_ = 0;
  uint64_t next_batch_ = 1;
  int64_t last_batch_ = 0;  // transactions in the batch that was installed last
  int64_t apart_ = 0;  // batches that take one transaction each: together they were too large
  uint64_t next_sequence_ = 1;
  std::vector<Answer> answers_;
  bool empty_commit_queued_ = false;

  Reservations reservations_;
  uint64_t next_reservation_ = 1;
  Alarm reservations_alarm_{loop_, [this] { EndReservations(); }};
  Turns turns_;
  std::map<std::string, uint64_t> turn_holds_;  // reservations for others, by names: while another's turn is, or may be
  Alarm turns_alarm_{loop_, [this] { TurnsAreOver(); }};
  std::multimap<Version, Ahead> ahead_;

  // Beside a store: who waits for entries, in order of arrival; one load is under way at a time and takes those that came
  // during the one before.
  std::list<Wanting> wanting_;
  int64_t loading_ = 0;  // transactions among them
  bool load_posted_ = false;
  bool load_under_way_ = false;
  absl::flat_hash_set<std::string> load_names_;      // of the load under way: they are not dropped meanwhile
  absl::flat_hash_set<std::string> prefixes_known_;  // may be in checked_lists
  std::map<uint64_t, Done<AwaitResult>> awaits_;     // about to sleep, by handle
  Alarm loads_alarm_{loop_, [this] { LoadedTooLate(); }};

  // Values in containers. Who waits for claims, in order of arrival.
  StoredValues values_;
  std::list<std::unique_ptr<Pending>> claiming_;
  absl::flat_hash_set<std::string> claimed_;
  bool grant_posted_ = false;
  std::map<std::string, int64_t> staging_in_;  // transactions, by container
  int64_t staging_ = 0;
  uint64_t next_stamp_ = 1;
  absl::flat_hash_set<std::string> staging_stamps_;
  Alarm claims_alarm_{loop_, [this] { ClaimedTooLate(); }};

  Sleepers sleepers_;
  Alarm sleepers_alarm_{loop_, [this] { SleptEnough(); }};
  Watches watches_;
  std::priority_queue<Expiry> expiries_;
  Alarm expiries_alarm_{loop_, [this] { ExpireDue(); }};

  Stats stats_;
  struct Heat {
    int64_t commits = 0;
    int64_t conflicts = 0;
  };
  std::map<std::string, Heat> hot_, hot_before_;  // this minute's and the last's
  absl::Duration hot_since_;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_STATE_H_
