// ZooKeeperCoordinator orders the commits of many daemons over one ZooKeeper ensemble: a batch is one multi,
// THE commit point, which checks that nothing it rests on has moved (the protocol and what breaks simpler
// ones: DESIGN.md here). What others commit comes through the log, and own commits are installed in the log's
// order too. On the Loop. Always: a batch that was told lost never commits; versions rise in the log's order,
// and are the same for every daemon.
#ifndef STM_BACKENDS_ZOOKEEPER_COORDINATOR_H_
#define STM_BACKENDS_ZOOKEEPER_COORDINATOR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backends/zookeeper/archive.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/cleaner.h"
#include "backends/zookeeper/log_tail.h"
#include "backends/zookeeper/nodes.h"
#include "backends/zookeeper/own_tasks.h"
#include "backends/zookeeper/session.h"
#include "engine/coordinator.h"
#include "engine/loop.h"

namespace stm::zookeeper {

class Archiver;
class KeptLog;

struct Options {
  SessionOptions session;
  TailOptions tail;
  CleanerOptions cleaner;
  ArchiveOptions archive;
  std::string program;  // this daemon's version, for others to see
  // Told each writer that this daemon takes. On the Loop.
  std::function<void(uint64_t)> writer_observed;
  // Told what stopped it after it had recovered: DATA_LOSS and the like, and the remedy. On the Loop, once.
  std::function<void(absl::Status)> fatal;
  // Of names whose listings are kept, in how many directories' subtrees at most.
  size_t listings_max = 8;
};

struct Canaries {
  TailCanaries tail;
  bool skip_chain_check = false;   // a batch goes through though one before it was lost
  bool skip_epoch_check = false;   // or though the epoch has moved
  bool resolve_once = false;       // a chain is ended by one step, not beyond all that is under way
  bool keep_writers_open = false;  // another's resend is answered while its writer may still commit it
  bool lost_before_caught_up = false;
  bool share_places = false;       // commits of one batch have one version
  bool rest_at_minus_one = false;  // a node's version becomes what no node has
  bool trim_unarchived = false;    // the log goes though an archive still needs it
};

// A daemon that runs, as it last said itself, which is about once a second.
struct Daemon {
  uint64_t writer = 0;
  uint64_t holder = 0;  // of leases: another one each time its node was made anew
  std::string address;  // "": it does not serve yet
  std::string program;
  int64_t format = 0;                    // the newest of a store that it reads
  int64_t applied = 0;                   // the log's entries below this position
  std::optional<int64_t> archive_needs;  // its archive, if it has one: those at and above
  engine::Version installed = 0;
  engine::Version id_floor = 0;
};

// The daemons of a store and its log, of which the entries at `first` to below `head` are kept.
struct Cluster {
  int64_t epoch = 0;  // the version of its node
  int64_t segment = 0;
  int64_t first = 0;
  int64_t head = 0;
  int64_t log_entries = 0;      // about
  int64_t log_bytes = 0;        // about
  std::vector<Daemon> daemons;  // by their writers
};

class ZooKeeperCoordinator final : public engine::Coordinator,
                                   public engine::Writers,
                                   public engine::EntryStore,
                                   private LogTail::Listener,
                                   private Cleaner::Host {
 public:
  // All outlive it.
  ZooKeeperCoordinator(engine::Loop* loop, Sessions* sessions, Options options, Canaries canaries = {});
  ~ZooKeeperCoordinator() override;

  void Recover(engine::Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) override;
  // Of at most kBatchCommitsMax commits, whose multi fits into a packet: else kFailed with
  // RESOURCE_EXHAUSTED.
  void Append(engine::Batch batch, absl::AnyInvocable<void(engine::AppendResult)> done) override;
  void Barrier(absl::AnyInvocable<void(absl::StatusOr<engine::Version>)> done) override;
  void Trim(engine::Version id_floor) override;

  uint64_t store() const override { return tail_.epoch().store; }
  uint64_t self() const override { return writer_; }
  void Close(uint64_t writer, absl::AnyInvocable<void(absl::Status)> done) override;
  bool Alive(uint64_t writer) override;
  uint64_t holder() const override { return holder_; }
  bool HolderAlive(uint64_t holder) override;
  absl::Duration SureUntil() override { return sure_until_; }
  void BeSure() override;
  absl::Duration LookedAt() override { return looked_at_; }
  void AskTurn(std::vector<std::string> names, absl::Duration length) override;

  void Load(std::vector<std::string> names, std::vector<std::string> prefixes,
            absl::AnyInvocable<void(absl::StatusOr<std::vector<engine::ImageEntry>>)> done) override;
  void List(std::string prefix, std::string after, size_t limit,
            absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>)> done) override;
  void Forget(const std::string& name) override;

  // The archive, or what ZooKeeper's log still has.
  engine::LogReader* log();
  // Ends the archive, if there is one; before Leave.
  void StopArchive(absl::AnyInvocable<void(absl::Status)> done);
  // nullopt: there is none.
  std::optional<ArchiveStats> archive_stats() const;

  // Where this daemon serves, for others to see.
  void Advertise(std::string address);
  // UNAVAILABLE: there is no connection.
  void Look(absl::AnyInvocable<void(absl::StatusOr<Cluster>)> done);
  // What a start waits for, for people. "": it has recovered.
  std::string waits_for() const;
  // Ends its sessions: nothing is sent any more, and what is asked is answered UNAVAILABLE. Before its
  // Sessions go.
  void Leave();

  // For good: what stopped it. OK: nothing has.
  const absl::Status& stopped() const { return stopped_; }
  int64_t holes() const { return tail_.holes(); }
  const Cleaner& cleaner() const { return cleaner_; }

 private:
  // A batch from Append to its answer.
  struct Submitted {
    enum class State : uint8_t {
      kWaiting,  // not sent
      kSent,
      kDone,     // its place in the log is known
      kRefused,  // not committed, for certain
      kUnknown,
    };
    State state = State::kWaiting;
    int64_t number = 0;
    engine::Batch batch;
    absl::AnyInvocable<void(engine::AppendResult)> done;
    NodeChanges changes;
    bool loading = false;
    size_t bytes = 0;             // of its log entry
    std::string text;             // the entry, for the archive
    std::vector<size_t> guesses;  // ops that check what servers make of kSetTwice
    std::vector<size_t> expects;  // of each op sent: a hash of the node and the version that it expects
    std::optional<size_t> failed_op;
    int64_t position = -1;
    absl::Status failed;  // of kRefused: no conflict, and never will go through
  };
  using SubmittedPtr = std::shared_ptr<Submitted>;
  struct Listing;
  struct Loading;

  // LogTail::Listener
  void OnBegin(engine::Version version) override;
  absl::Status OnBatch(int64_t position, int64_t zxid, const std::string& data) override;
  void OnMove(int64_t position, int64_t zxid, const EpochMove& move, size_t bytes) override;
  void OnTurn(int64_t position, int64_t zxid, const TurnText& turn, size_t bytes) override;
  bool AwaitsOwn() const override;
  void OnStopped(const absl::Status& status) override;

  // Cleaner::Host
  bool Cleans() override;
  engine::Version IdFloor() override;
  int64_t Read() override;
  void Multi(std::vector<Op> ops, absl::AnyInvocable<void(MultiResult)> done) override;
  void CloseWriter(uint64_t writer, absl::AnyInvocable<void()> done) override;

  // Before what failed without a word, or whose outcome is unknown, is tried again.
  static constexpr absl::Duration kAgain = absl::Milliseconds(10);
  static absl::Status MayNotWrite();
  absl::Status Disconnected() const;

  void Archived(int64_t position, int64_t next, int64_t zxid, std::string text);

  void StartTail();
  void TakeWriter();
  void OpenSession();
  void OnEvent(uint64_t opened, const Event& event);
  void NewWriter(absl::AnyInvocable<void(absl::Status)> done);
  void ShowDaemon();
  void ForgetHolder();
  void HideDaemon(uint64_t writer);
  void LookForDaemons();

  // commit.cc
  void Pump();
  bool NeedsLoading(const Submitted& submitted, std::vector<std::string>* names,
                    std::vector<std::string>* prefixes) const;
  void Send(const SubmittedPtr& submitted);
  absl::StatusOr<std::vector<Op>> MultiOf(Submitted* submitted);
  void AddSet(const std::string& path, std::string data, int32_t version, Submitted* submitted,
              std::vector<Op>* ops);
  void Answered(const SubmittedPtr& submitted, MultiResult result);
  void Committed(const SubmittedPtr& submitted, int64_t zxid);
  absl::Status InstallOthers(BatchText batch, int64_t zxid);
  void LoseWaiting(const BatchText& batch);
  void Settle();
  void Resolve();
  void CatchUp();
  void TellLost();
  absl::Status WrittenByStranger(Submitted* submitted);

  // loading.cc
  std::shared_ptr<Loading> NewLoading();
  void AwaitConnection(std::weak_ptr<Loading> loading);
  void FailLoading(Loading* loading, const absl::Status& status);
  void AskNodes(std::shared_ptr<Loading> loading);
  // Of its asks, from `begin` to before `end`.
  void AskWave(std::shared_ptr<Loading> loading, size_t begin, size_t end);
  bool ShowsMoreThanLog(const std::vector<Answer>& answers) const;
  void Walk(std::shared_ptr<Loading> loading, std::vector<std::string> prefixes,
            absl::AnyInvocable<void(std::vector<std::string>)> done);
  void Learn(Loading* loading, size_t begin, const std::vector<Ask>& asks, std::vector<Answer> answers);
  void AddToListings(const engine::Batch& commits);
  void TakeOffListings(const std::vector<std::string>& names);

  void WhenConnected(absl::AnyInvocable<void()> task);

  engine::Loop* const loop_;
  Sessions* const sessions_;
  const Options options_;
  const Canaries canaries_;
  LogTail tail_;
  Cleaner cleaner_;
  std::unique_ptr<KeptLog> kept_log_;   // null: there is an archive
  std::unique_ptr<Archiver> archiver_;  // null: there is none
  engine::Version id_floor_ = 0;        // of this daemon
  engine::Sink* sink_ = nullptr;
  absl::AnyInvocable<void(absl::Status)> recovered_;
  absl::Status stopped_;
  engine::Version installed_ = 0;

  // Its commits go on one session: in order.
  std::unique_ptr<Session> session_;
  uint64_t opened_ = 0;
  bool connected_ = false;
  std::vector<absl::AnyInvocable<void()>> when_connected_;
  uint64_t writer_ = 0;
  int32_t chain_ = 0;  // version that this writer's node has once all that was sent is committed
  int64_t next_number_ = 1;
  std::deque<SubmittedPtr> submitted_;
  bool settling_ = false;  // one was not committed: none of those behind it is
  bool resolving_ = false;
  bool closed_ = false;  // by another daemon

  Nodes nodes_;
  std::vector<std::weak_ptr<Loading>> loadings_;
  std::deque<std::shared_ptr<Listing>> listings_;  // used last in front
  absl::flat_hash_map<uint64_t, Daemon> daemons_;  // seen running when last looked, by their writers
  absl::Duration looked_at_ = -absl::InfiniteDuration();
  absl::Duration sure_until_ = -absl::InfiniteDuration();
  absl::Duration timeout_;  // of session_, as the servers have it
  bool making_sure_ = false;
  // Changes under way by their numbers, to be told unknown when their session is gone, which answers nothing.
  std::map<uint64_t, absl::AnyInvocable<void(MultiResult)>> asked_;
  uint64_t ask_ = 0;
  // A batch failed, never sent, and the engine is about to be told.
  std::shared_ptr<bool> refusing_ = std::make_shared<bool>(false);
  uint64_t holder_ = 0;       // as its node says; 0: it has none now
  uint64_t nodes_shown_ = 0;  // of its own daemon
  std::set<uint64_t> hidden_;  // its writers of before, which are closed: their nodes go
  std::string address_;
  std::string shown_;  // what this daemon's node says
  bool showing_ = false;
  bool leaving_ = false;
  OwnTasks tasks_{loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_COORDINATOR_H_
