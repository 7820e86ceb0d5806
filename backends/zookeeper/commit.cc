// The commit path, top to bottom: a batch comes (Append), waits for what it needs to be known (Pump), becomes
// one multi (MultiOf) and goes out, several at a time, each on top of the one before (Send: THE commit
// point). Committed, it is installed when the log's turn comes to it (OnBatch). Not committed, or nobody
// knows (Settle): this daemon's chain is ended, so that nothing of it can commit late (Resolve), what did
// commit is installed (CatchUp), and the rest is told lost (TellLost).
#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/zookeeper/archiver.h"
#include "backends/zookeeper/coordinator.h"
#include "backends/zookeeper/layout.h"
#include "backends/zookeeper/turn_text.h"

namespace stm::zookeeper {

using engine::AppendResult;
using engine::CommitRecord;
using engine::EntryChange;
using Outcome = AppendResult::Outcome;
using Kind = EntryChange::Kind;

namespace {

// In every multi.
constexpr size_t kChainOp = 1;
// Of an entry that asks for a turn: who wants more entries at once goes without.
constexpr size_t kTurnBytesMax = 64 << 10;

// Does a change add its entry to a listing, or take it off one?
bool ChangesListing(const EntryChange& change) {
  return change.kind == Kind::kCreate || change.kind == Kind::kDelete || change.kind == Kind::kExpire;
}

size_t Expects(const Op& op) { return absl::HashOf(op.path(), op.kind(), op.version()); }

}  // namespace

// ---- A batch comes

void ZooKeeperCoordinator::Append(engine::Batch batch, absl::AnyInvocable<void(AppendResult)> done) {
  assert(batch.size() <= kBatchCommitsMax);
  auto submitted = std::make_shared<Submitted>();
  submitted->batch = std::move(batch);
  submitted->done = std::move(done);
  if (*refusing_ || (submitted_.empty() && (!stopped_.ok() || !connected_))) {
    // Never sent. Nor is what comes before the engine is told, though the connection be there by then: the
    // engine takes all that is behind a failed batch for not committed, and sends it again.
    const bool first = !std::exchange(*refusing_, true);
    return loop_->Post(
        [submitted, first, refusing = refusing_, status = stopped_.ok() ? Disconnected() : stopped_] {
          if (first) *refusing = false;
          submitted->done({Outcome::kFailed, status});
        });
  }
  submitted_.push_back(std::move(submitted));
  if (!settling_) Pump();
}

// Sends what waits, in order, as far as the nodes that it needs are known.
void ZooKeeperCoordinator::Pump() {
  if (settling_ || !stopped_.ok()) return;
  for (size_t i = 0; i < submitted_.size(); ++i) {
    const SubmittedPtr submitted = submitted_[i];
    if (submitted->state != Submitted::State::kWaiting) continue;
    if (submitted->loading) return;
    std::vector<std::string> names, prefixes;
    if (!NeedsLoading(*submitted, &names, &prefixes)) {
      Send(submitted);
      if (settling_) return;
      continue;
    }
    // The engine loads what it decides on; this is what it decided on without.
    submitted->loading = true;
    Load(std::move(names), std::move(prefixes),
         [this, submitted](absl::StatusOr<std::vector<engine::ImageEntry>> loaded) {
           submitted->loading = false;
           if (submitted->state != Submitted::State::kWaiting) return;
           if (loaded.ok()) return Pump();
           submitted->state = Submitted::State::kRefused;
           submitted->failed = loaded.status();
           settling_ = true;
           Settle();
         });
    return;
  }
}

bool ZooKeeperCoordinator::NeedsLoading(const Submitted& submitted, std::vector<std::string>* names,
                                        std::vector<std::string>* prefixes) const {
  for (const auto& commit : submitted.batch) {
    for (const EntryChange& change : commit->changes) {
      const std::optional<int32_t> version = nodes_.Entry(change.name);
      const bool lists = version == kNoNode || ChangesListing(change);
      if (!version || (lists && !nodes_.KnowsAbove(change.name))) names->push_back(change.name);
    }
    for (const std::string& name : commit->checks) {
      const std::optional<int32_t> version = nodes_.Entry(name);
      if (!version || (version == kNoNode && !nodes_.KnowsAbove(name))) names->push_back(name);
    }
    for (const std::string& prefix : commit->checked_lists) {
      if (!nodes_.Walked(prefix)) prefixes->push_back(prefix);
    }
  }
  return !names->empty() || !prefixes->empty();
}

// ---- One multi

// In this order: the epoch, this daemon's chain, what was read, what is written, and the log entry last.
absl::StatusOr<std::vector<Op>> ZooKeeperCoordinator::MultiOf(Submitted* submitted) {
  NodeChanges& changes = submitted->changes;
  struct Last {
    const EntryChange* change = nullptr;
    int64_t place = 0;
  };
  absl::btree_map<std::string, Last> written;  // the newest of the batch, an entry each
  absl::btree_set<std::string> checks, lists, directories;
  for (size_t place = 0; place < submitted->batch.size(); ++place) {
    const CommitRecord& commit = *submitted->batch[place];
    for (const EntryChange& change : commit.changes) {
      written[change.name] = {&change, static_cast<int64_t>(place)};
      if (ChangesListing(change)) directories.emplace(ParentOf(change.name));
    }
    checks.insert(commit.checks.begin(), commit.checks.end());
    lists.insert(commit.checked_lists.begin(), commit.checked_lists.end());
  }

  std::vector<Op> ops, makes;
  // A directory is made with the nodes above it, and changes the listing of the one above.
  absl::flat_hash_set<std::string> made;
  for (const auto& [name, last] : written) {
    if (*nodes_.Entry(name) != kNoNode) continue;
    for (std::string& path : nodes_.Unmade(name)) {
      if (!made.insert(path).second) continue;
      makes.push_back(Op::Create(path, ""));
      if (std::optional<std::string> directory = DirectoryOf(path)) {
        changes.directories[*directory] = 0;
        directories.emplace(ParentOf(*directory));
      }
      changes.made.push_back(std::move(path));
    }
  }

  if (!canaries_.skip_epoch_check) {
    ops.push_back(Op::Check(kEpochPath, tail_.epoch().version));
  } else {
    ops.push_back(Op::Check(kEntriesPath, *nodes_.Directory("/")));
  }
  AddSet(WriterPath(writer_), absl::StrCat(submitted->number), chain_, submitted, &ops);

  // That something is not there: it, or the first node above it that is not there either, can be made.
  const auto absent = [&](std::string_view name) {
    const std::vector<std::string> unmade = nodes_.Unmade(name);
    const std::string path = unmade.empty() ? NodePath(name) : unmade.front();
    ops.push_back(Op::Create(path, ""));
    ops.push_back(Op::Delete(path, 0));
  };
  for (const std::string& name : checks) {
    if (written.count(name) != 0) continue;  // its own write checks more
    const int32_t version = *nodes_.Entry(name);
    if (version == kNoNode) {
      absent(name);
    } else {
      ops.push_back(Op::Check(NodePath(name), version));
    }
  }
  absl::btree_set<std::string> listed;
  for (const std::string& prefix : lists) {
    const std::vector<std::string> below = nodes_.Directories(prefix);
    listed.insert(below.begin(), below.end());
    if (below.empty() && made.count(NodePath(prefix)) == 0) absent(prefix);
  }
  for (const std::string& directory : listed) {
    if (directories.count(directory) != 0) continue;
    ops.push_back(Op::Check(NodePath(directory), *nodes_.Directory(directory)));
  }

  for (Op& make : makes) ops.push_back(std::move(make));
  for (const std::string& directory : directories) {
    if (changes.directories.contains(directory)) continue;  // made
    const int32_t version = *nodes_.Directory(directory);
    AddSet(NodePath(directory), "", version, submitted, &ops);
    changes.directories[directory] = nodes_.AfterSet(version);
  }
  for (const auto& [name, last] : written) {
    const int64_t place = canaries_.share_places ? 0 : last.place;
    std::string data =
        PrintNode(WholeOf(*last.change), place, submitted->batch[static_cast<size_t>(last.place)]->at);
    const int32_t version = *nodes_.Entry(name);
    changes.entries[name] = version == kNoNode ? 0 : nodes_.AfterSet(version);
    if (version == kNoNode) {
      ops.push_back(Op::Create(NodePath(name), std::move(data)));
    } else {
      AddSet(NodePath(name), std::move(data), version, submitted, &ops);
    }
  }
  std::string entry =
      PrintBatch(writer_, submitted->number, submitted->batch, changes.entries, changes.directories);
  submitted->bytes = entry.size();
  if (archiver_ != nullptr) submitted->text = entry;
  ops.push_back(Op::Create(absl::StrCat(LogPath(tail_.epoch().segment), "/e-"), std::move(entry),
                           Op::Mode::kSequential));
  const size_t bytes = MultiBytes(ops, options_.session.connect.chroot.size());
  if (bytes > kPacketBytesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the batch takes ", bytes, " bytes of a ZooKeeper packet, at most ", kPacketBytesMax,
                     " fit: use smaller values and transactions"));
  }
  return ops;
}

// A node does not rest at the wildcard: from the version before it it goes on at once, to where the daemon
// thinks that servers go. If they don't, the batch is lost and goes out again.
void ZooKeeperCoordinator::AddSet(const std::string& path, std::string data, int32_t version,
                                  Submitted* submitted, std::vector<Op>* ops) {
  ops->push_back(Op::Set(path, data, version));
  if (version != kSetTwice || canaries_.rest_at_minus_one) return;
  ops->push_back(Op::SetAny(path, std::move(data)));
  submitted->guesses.push_back(ops->size());
  ops->push_back(Op::Check(path, nodes_.AfterSet(version)));
}

void ZooKeeperCoordinator::Send(const SubmittedPtr& submitted) {
  submitted->number = next_number_++;
  absl::StatusOr<std::vector<Op>> ops = MultiOf(submitted.get());
  if (!ops.ok()) {
    submitted->changes = NodeChanges();
    submitted->state = Submitted::State::kRefused;
    submitted->failed = ops.status();
    settling_ = true;
    return tasks_.Post([this] { Settle(); });
  }
  for (const Op& op : *ops) submitted->expects.push_back(Expects(op));
  if (canaries_.skip_chain_check) ops->erase(ops->begin() + kChainOp);
  nodes_.Expect(submitted->changes);
  chain_ = nodes_.AfterSet(chain_);
  submitted->state = Submitted::State::kSent;
  session_->Multi(*std::move(ops),
                  [this, submitted](MultiResult result) { Answered(submitted, std::move(result)); });
}

// ---- Committed

void ZooKeeperCoordinator::Answered(const SubmittedPtr& submitted, MultiResult result) {
  if (submitted->state != Submitted::State::kSent) return;  // the log told before
  if (result.code == Code::kOk) {
    // Any set's Stat says when, the last op's path where.
    int64_t zxid = 0;
    for (const OpResult& one : result.results) zxid = std::max(zxid, one.stat.mzxid);
    submitted->state = Submitted::State::kDone;
    submitted->position = LogPositionOf(result.results.back().path).value();
    tail_.Own(submitted->position, zxid);
    if (settling_) Settle();
    return;
  }
  submitted->state = result.code == Code::kUnknown ? Submitted::State::kUnknown : Submitted::State::kRefused;
  switch (result.code) {
    case Code::kBadVersion:
      for (const size_t guess : submitted->guesses) {
        if (guess == result.failed) nodes_.GuessOther();
      }
      break;
    case Code::kNoAuth:
      submitted->failed = MayNotWrite();
      break;
    case Code::kRefused:
    case Code::kTooLarge:
      submitted->failed = absl::ResourceExhaustedError(absl::StrCat(
          "ZooKeeper does not take the batch (", NameOf(result.code), "): a quota, or jute.maxbuffer"));
      break;
    default:
      break;
  }
  if (submitted->state == Submitted::State::kRefused) submitted->failed_op = result.failed;
  settling_ = true;
  Settle();
}

bool ZooKeeperCoordinator::AwaitsOwn() const {
  return std::any_of(submitted_.begin(), submitted_.end(), [](const SubmittedPtr& submitted) {
    return submitted->state == Submitted::State::kSent;
  });
}

absl::Status ZooKeeperCoordinator::OnBatch(int64_t position, int64_t zxid, const std::string& data) {
  if (data.empty()) {
    if (submitted_.empty() || submitted_.front()->position != position) {
      return absl::InternalError("this daemon's batches committed in another order than they were sent");
    }
    cleaner_.Applied(position, submitted_.front()->bytes, true);
    Archived(position, position + 1, zxid, std::move(submitted_.front()->text));
    Committed(submitted_.front(), zxid);
    return absl::OkStatus();
  }
  cleaner_.Applied(position, data.size(), true);
  absl::StatusOr<BatchText> batch = ParseBatch(data);
  if (!batch.ok()) return batch.status();
  if (archiver_ != nullptr) Archived(position, position + 1, zxid, data);
  // This daemon's own, whose answer was lost or is on its way.
  if (batch->writer == writer_ && !submitted_.empty() &&
      submitted_.front()->state != Submitted::State::kWaiting &&
      submitted_.front()->number == batch->number) {
    Committed(submitted_.front(), zxid);
    return absl::OkStatus();
  }
  return InstallOthers(*std::move(batch), zxid);
}

void ZooKeeperCoordinator::Committed(const SubmittedPtr& front, int64_t zxid) {
  const SubmittedPtr submitted = front;
  submitted_.pop_front();
  submitted->state = Submitted::State::kDone;
  nodes_.Commit(submitted->changes);
  AddToListings(submitted->batch);
  for (size_t place = 0; place < submitted->batch.size(); ++place) {
    CommitRecord& commit = *submitted->batch[place];
    commit.version =
        VersionOf(tail_.epoch().base, zxid, canaries_.share_places ? 0 : static_cast<int64_t>(place));
    installed_ = commit.version;
  }
  submitted->done({Outcome::kCommitted, absl::OkStatus()});
  if (settling_) Settle();
}

absl::Status ZooKeeperCoordinator::InstallOthers(BatchText batch, int64_t zxid) {
  nodes_.Install(batch);
  AddToListings(batch.commits);
  for (const std::shared_ptr<CommitRecord>& commit : batch.commits) {
    commit->version = VersionOf(tail_.epoch().base, zxid, commit->version);
    installed_ = commit->version;
    absl::Status status = sink_->Install(commit);
    if (!status.ok()) return status;
  }
  LoseWaiting(batch);
  sink_->BatchInstalled(batch.writer,
                        [&batch](const std::string& name) { return batch.entries.contains(name); });
  return absl::OkStatus();
}

// Of no weight for what commits: an entry of the log and nothing more, so it can't be lost to anybody's
// commit. If the epoch moves meanwhile, or nobody knows what became of it, whoever still wants the turn asks
// again.
void ZooKeeperCoordinator::AskTurn(std::vector<std::string> names, absl::Duration length) {
  if (!stopped_.ok() || !connected_) return;
  std::string text = PrintTurn({writer_, std::move(names), length});
  if (text.size() > kTurnBytesMax) return;
  session_->Multi({Op::Check(kEpochPath, tail_.epoch().version),
                   Op::Create(absl::StrCat(LogPath(tail_.epoch().segment), "/e-"), std::move(text),
                              Op::Mode::kSequential)},
                  [](MultiResult) {});
}

void ZooKeeperCoordinator::OnTurn(int64_t position, int64_t zxid, const TurnText& turn, size_t bytes) {
  cleaner_.Applied(position, bytes, false);
  Archived(position, position + 1, zxid, "");
  sink_->TurnAsked(turn.writer, turn.names, turn.length);
}

void ZooKeeperCoordinator::OnMove(int64_t position, int64_t zxid, const EpochMove& move, size_t bytes) {
  cleaner_.Applied(position, bytes, false);
  Archived(position, NextOf(position, move.epoch), zxid, "");
  nodes_.Sweep(move.swept);
  TakeOffListings(move.swept);
  const engine::Version floor = std::min(move.below, installed_);
  id_floor_ = std::max(id_floor_, floor);
  sink_->RaiseIdFloor(floor);
}

// A batch that was not sent yet was decided on what it rests on as it was: sent now, it would find the new
// versions of its nodes, and overwrite what it never saw.
void ZooKeeperCoordinator::LoseWaiting(const BatchText& batch) {
  const auto moved = [&batch](const CommitRecord& commit) {
    const auto changed = [&batch](const std::string& name) { return batch.entries.contains(name); };
    const auto relisted = [&batch](const std::string& prefix) {
      return std::any_of(
          batch.directories.begin(), batch.directories.end(),
          [&prefix](const auto& directory) { return absl::StartsWith(directory.first, prefix); });
    };
    return std::any_of(commit.changes.begin(), commit.changes.end(),
                       [&](const EntryChange& change) { return changed(change.name); }) ||
           std::any_of(commit.checks.begin(), commit.checks.end(), changed) ||
           std::any_of(commit.checked_lists.begin(), commit.checked_lists.end(), relisted);
  };
  for (const SubmittedPtr& submitted : submitted_) {
    if (submitted->state != Submitted::State::kWaiting) continue;
    if (std::none_of(submitted->batch.begin(), submitted->batch.end(),
                     [&](const auto& commit) { return moved(*commit); })) {
      continue;
    }
    submitted->state = Submitted::State::kRefused;
    settling_ = true;
  }
  if (settling_) Settle();
}

// ---- Not committed, or nobody knows

// Once all that was sent is answered: what became of it, then what is to be told.
void ZooKeeperCoordinator::Settle() {
  if (resolving_ || !stopped_.ok()) return;
  for (const SubmittedPtr& submitted : submitted_) {
    if (submitted->state == Submitted::State::kSent) return;
  }
  resolving_ = true;
  Resolve();
}

// Moves this writer's node beyond all that may still be on its way: a multi of it that comes later finds
// another version than it must. One step would not do: behind a multi that failed the next would find just
// the version that it expects.
void ZooKeeperCoordinator::Resolve() {
  if (!stopped_.ok()) return;
  if (!connected_) return WhenConnected([this] { Resolve(); });
  const auto sent = std::count_if(submitted_.begin(), submitted_.end(), [](const SubmittedPtr& submitted) {
    return submitted->state != Submitted::State::kWaiting;
  });
  const int64_t steps = canaries_.resolve_once ? 1 : std::max<int64_t>(sent, 1);
  const std::vector<Op> ops(static_cast<size_t>(steps),
                            Op::SetAny(WriterPath(writer_), absl::StrCat(next_number_ - 1)));
  Multi(ops, [this](MultiResult result) {
    if (result.code == Code::kNoNode) {
      closed_ = true;  // by another daemon
      return CatchUp();
    }
    if (result.code == Code::kOk && result.results.back().stat.version != kNoNode) {
      chain_ = result.results.back().stat.version;
      return CatchUp();
    }
    // The outcome is unknown, or it must not rest there.
    tasks_.After(kAgain, [this] { Resolve(); });
  });
}

// The rest is told lost only when what made it so is installed: else it would go out again as it was.
void ZooKeeperCoordinator::CatchUp() {
  if (canaries_.lost_before_caught_up) return TellLost();
  tail_.Barrier([this](absl::Status status) {
    if (!stopped_.ok()) return;
    if (!status.ok()) return tasks_.After(kAgain, [this] { CatchUp(); });
    if (!closed_) return TellLost();
    // What was sent under the old writer is answered from the log by whoever asks; nothing of it runs under
    // the new one.
    NewWriter([this](absl::Status status) {
      if (status.ok()) return TellLost();
      tasks_.After(kAgain, [this] { CatchUp(); });
    });
  });
}

void ZooKeeperCoordinator::TellLost() {
  settling_ = resolving_ = closed_ = false;
  nodes_.Abandon();
  std::deque<SubmittedPtr> lost = std::move(submitted_);
  submitted_.clear();
  if (!lost.empty() && lost.front()->failed.ok())
    lost.front()->failed = WrittenByStranger(lost.front().get());
  for (const SubmittedPtr& submitted : lost) {
    const bool failed = !submitted->failed.ok() && submitted == lost.front();
    submitted->state = Submitted::State::kRefused;
    submitted->done({failed ? Outcome::kFailed : Outcome::kLost, submitted->failed});
  }
}

// All that this store's daemons did is known now. If the batch would go out and fail as it did, a node was
// changed by something else.
absl::Status ZooKeeperCoordinator::WrittenByStranger(Submitted* submitted) {
  std::vector<std::string> names, prefixes;
  if (!submitted->failed_op || *submitted->failed_op <= kChainOp ||
      NeedsLoading(*submitted, &names, &prefixes)) {
    return absl::OkStatus();
  }
  submitted->changes = NodeChanges();
  const absl::StatusOr<std::vector<Op>> ops = MultiOf(submitted);
  const size_t failed = *submitted->failed_op;
  if (!ops.ok() || failed >= ops->size() || failed >= submitted->expects.size() ||
      Expects((*ops)[failed]) != submitted->expects[failed]) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      (*ops)[failed].path(), " in ZooKeeper was changed by something that is no stmd of this store: ",
      "restart the daemons to go on with what is there, or restore a backup"));
}

}  // namespace stm::zookeeper
