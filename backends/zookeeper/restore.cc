#include "backends/zookeeper/restore.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/epoch.h"
#include "backends/zookeeper/layout.h"
#include "engine/error.h"

namespace stm::zookeeper {
namespace {

// After an answer that was lost.
constexpr absl::Duration kSendAgain = absl::Milliseconds(10);
// Calls to a server at once, for a listing.
constexpr size_t kAsksAtOnce = 512;
// Above it a version that ZooKeeper's zxids are added to might not be an int64.
constexpr engine::Version kBaseMax = engine::Version{1} << 62;

// A bucket or a directory, that may have nodes below it; else it is an entry.
bool MayHaveChildren(const std::string& path) { return path[path.rfind('/') + 1] != 'f'; }

}  // namespace

// ---- Entries' nodes

EntryMultis::EntryMultis(size_t multi_bytes, size_t chroot_bytes, std::vector<Op> first)
    : multi_bytes_(multi_bytes), chroot_bytes_(chroot_bytes), first_(std::move(first)) {}

absl::Status EntryMultis::Add(engine::ImageEntry entry) {
  const std::string name = entry.name;
  std::vector<Op> ops = first_;
  for (std::string& path : nodes_.Unmade(name)) {
    ops.push_back(Op::Create(path, ""));
    nodes_.LearnMade(std::move(path));
  }
  const Instant written_at = entry.written_at;
  ops.push_back(Op::Create(NodePath(name), PrintNode(std::move(entry), 0, written_at)));
  const size_t bytes = MultiBytes(ops, chroot_bytes_);
  if (bytes > kPacketBytesMax) {
    return engine::LimitReached("zookeeper_packet_bytes_max", static_cast<int64_t>(kPacketBytesMax), name,
                                static_cast<int64_t>(bytes), "restore into a daemon with a log of its own");
  }
  const size_t own = bytes - MultiBytes(first_, chroot_bytes_);
  if (!ops_.empty() && bytes_ + own > multi_bytes_) End();
  if (ops_.empty()) {
    ops_ = std::move(ops);
  } else {
    std::move(ops.begin() + static_cast<int64_t>(first_.size()), ops.end(), std::back_inserter(ops_));
  }
  bytes_ += own;
  ++entries_;
  return absl::OkStatus();
}

void EntryMultis::End() {
  if (ops_.empty()) return;
  ready_.push_back(std::move(ops_));
  ops_.clear();
  bytes_ = 0;
}

std::vector<Op> EntryMultis::Take() {
  std::vector<Op> ops = std::move(ready_.front());
  ready_.pop_front();
  return ops;
}

// ---- The backup

Restore::Restore(engine::Loop* loop, Sessions* sessions, RestoreOptions options,
                 absl::AnyInvocable<void(absl::StatusOr<Restored>)> done)
    : loop_(loop), sessions_(sessions), options_(std::move(options)), done_(std::move(done)) {
  tasks_.Post([this] {
    absl::Status status = Open();
    if (!status.ok()) return Done(std::move(status));
    CheckOn();
  });
}

absl::Status Restore::Open() {
  absl::StatusOr<BackupText> text = options_.open();
  if (!text.ok()) return text.status();
  std::vector<Op> first;
  if (!options_.canaries.skip_fence) first.push_back(Op::Check(kRestorePath, fence_));
  reading_.emplace(Reading{*std::move(text),
                           {},
                           EntryMultis(options_.multi_bytes, options_.session.connect.chroot.size(), first)});
  return absl::OkStatus();
}

absl::StatusOr<bool> Restore::ReadSome() {
  const absl::StatusOr<std::string> text = reading_->text();
  if (!text.ok()) return text.status();
  if (text->empty()) {
    reading_->multis.End();
    absl::Status status = reading_->backup.Check();
    if (!status.ok()) return status;
    return false;
  }
  absl::StatusOr<engine::ImagePart> part = reading_->backup.Add(*text);
  if (!part.ok()) return part.status();
  for (engine::ImageEntry& entry : part->entries) {
    // A tombstone is for who has seen the store that it is of.
    if (!entry.value) continue;
    absl::Status status = reading_->multis.Add(std::move(entry));
    if (!status.ok()) return status;
  }
  return true;
}

// Whole, and all of it such as ZooKeeper takes, before anything is made.
void Restore::CheckOn() {
  const absl::StatusOr<bool> more = ReadSome();
  if (!more.ok()) return Done(more.status());
  while (reading_->multis.ready()) reading_->multis.Take();
  if (*more) return tasks_.Post([this] { CheckOn(); });
  restored_.version = reading_->backup.version();
  restored_.entries = reading_->multis.entries();
  reading_.reset();
  if (restored_.version > kBaseMax) {
    return Done(engine::LimitReached("restored_version_max", kBaseMax, "the backup's version",
                                     restored_.version, "restore into a daemon with a log of its own"));
  }
  stage_ = Stage::kTake;
  chroot_ = std::make_unique<Chroot>(
      loop_, sessions_, options_.session, options_.patience,
      [this](Chroot::Connected connected) { OnConnected(connected); },
      [this](const absl::Status& status) {
        const char* const hint = ": restore again: it tells if there is a store, else it begins anew";
        Done(absl::Status(status.code(),
                          absl::StrCat(status.message(), absl::IsUnavailable(status) ? hint : "")));
      });
}

// ---- Whose restore it is, and what was left

void Restore::OnConnected(Chroot::Connected connected) {
  if (connected == Chroot::Connected::kAgain) return;
  if (stage_ == Stage::kTake) return Take();
  for (const std::shared_ptr<Sent>& sent : under_way_) {
    if (sent->state == Sent::State::kSent) sent->state = Sent::State::kUnknown;
  }
  SendAgain();
}

void Restore::TakeAgain() {
  tasks_.After(kSendAgain, [this, take = take_] {
    if (stage_ == Stage::kTake && take == take_) Take();
  });
}

void Restore::Take() {
  ++take_;
  chroot_->session().Multi(
      {Op::Create(kStorePath, ""), Op::Create(kEntriesPath, ""), Op::Create(kRestorePath, "")},
      [this, take = take_](MultiResult result) {
        if (stage_ != Stage::kTake || take != take_) return;
        if (result.code == Code::kUnknown) return TakeAgain();
        chroot_->Answered();
        if (result.code == Code::kNodeExists) return Look();
        if (result.code != Code::kOk) return Done(Refused(result.code, kStorePath));
        fence_ = 0;
        Begin(Stage::kWrite);
      });
}

void Restore::Look() {
  chroot_->session().Get(kRestorePath, Watch::kNo, [this, take = take_](Code code, std::string, Stat stat) {
    if (stage_ != Stage::kTake || take != take_) return;
    if (code == Code::kUnknown) return TakeAgain();
    chroot_->Answered();
    if (code == Code::kNoNode) return Done(StoreExists(chroot_->path()));
    if (code != Code::kOk) return Done(Refused(code, kRestorePath));
    TakeOver(stat.version);
  });
}

// From now on nothing comes to pass that another run has sent.
void Restore::TakeOver(int32_t version) {
  chroot_->session().Multi({Op::Set(kRestorePath, "", version)}, [this, take = take_](MultiResult result) {
    if (stage_ != Stage::kTake || take != take_) return;
    if (result.code == Code::kUnknown) return TakeAgain();
    chroot_->Answered();
    if (result.code == Code::kBadVersion || result.code == Code::kNoNode) return Look();
    if (result.code != Code::kOk) return Done(Refused(result.code, kRestorePath));
    fence_ = result.results[0].stat.version;
    List();
  });
}

// What this session's server shows is no older than its own set.
void Restore::List() {
  auto paths = std::make_shared<std::vector<std::string>>();
  paths->push_back(kEntriesPath);
  ListLevel(std::move(paths), 0);
}

// Asks what is below the paths from that one on, some at a time: those found go behind.
void Restore::ListLevel(std::shared_ptr<std::vector<std::string>> paths, size_t from) {
  std::vector<std::string> asks;
  size_t to = from;
  for (; to < paths->size() && asks.size() < kAsksAtOnce; ++to) {
    if (MayHaveChildren((*paths)[to])) asks.push_back((*paths)[to]);
  }
  if (asks.empty()) {
    left_.assign(paths->begin() + 1, paths->end());
    return Begin(Stage::kClean);
  }
  struct Asked {
    size_t answers = 0;
    bool unknown = false;
  };
  auto asked = std::make_shared<Asked>();
  asked->answers = asks.size();
  for (const std::string& path : asks) {
    chroot_->session().Children(
        path, [this, take = take_, path, paths, to, asked](Code code, std::vector<std::string> names) {
          if (stage_ != Stage::kTake || take != take_) return;
          if (code == Code::kNoAuth) return Done(Refused(code, path));
          asked->unknown = asked->unknown || code == Code::kUnknown;
          for (const std::string& name : names) paths->push_back(absl::StrCat(path, "/", name));
          if (--asked->answers > 0) return;
          if (asked->unknown) return TakeAgain();
          chroot_->Answered();
          ListLevel(paths, to);
        });
  }
}

// Behind the deletes: one that comes late must not meet what is made now. Servers drop what was sent on a
// connection that its session has left; nothing leans on that here.
void Restore::RaiseFence() {
  stage_ = Stage::kTake;
  ++take_;
  chroot_->session().Multi({Op::Set(kRestorePath, "", fence_)}, [this, take = take_](MultiResult result) {
    if (stage_ != Stage::kTake || take != take_) return;
    if (result.code == Code::kUnknown) return TakeAgain();
    chroot_->Answered();
    if (result.code == Code::kBadVersion || result.code == Code::kNoNode) return Done(Taken());
    if (result.code != Code::kOk) return Done(Refused(result.code, kRestorePath));
    fence_ = result.results[0].stat.version;
    Begin(Stage::kWrite);
  });
}

// ---- Many multis

void Restore::Begin(Stage stage) {
  stage_ = stage;
  if (stage == Stage::kWrite) {
    absl::Status status = Open();
    if (!status.ok()) return Done(std::move(status));
  }
  Fill();
}

void Restore::Fill() {
  while (under_way_.size() < options_.under_way_max) {
    absl::StatusOr<std::optional<std::vector<Op>>> ops = NextMulti();
    if (!ops.ok()) return Done(ops.status());
    if (!*ops) {
      if (under_way_.empty()) StageOver();
      return;
    }
    Send(**std::move(ops));
  }
}

absl::StatusOr<std::optional<std::vector<Op>>> Restore::NextMulti() {
  if (stage_ == Stage::kCommit) return std::nullopt;
  if (stage_ == Stage::kClean) {
    if (left_.empty()) return std::nullopt;
    return NextDeletes();
  }
  while (reading_ && !reading_->multis.ready()) {
    const absl::StatusOr<bool> more = ReadSome();
    if (!more.ok()) return more.status();
    if (*more) continue;
    if (reading_->backup.version() != restored_.version || reading_->multis.entries() != restored_.entries) {
      return absl::DataLossError("backup: was changed while it was restored: restore it again");
    }
    if (!reading_->multis.ready()) return std::nullopt;
  }
  return reading_->multis.Take();
}

// From the last on: what is below others is behind them.
std::vector<Op> Restore::NextDeletes() {
  const size_t chroot_bytes = options_.session.connect.chroot.size();
  std::vector<Op> ops = {Op::Check(kRestorePath, fence_)};
  for (size_t bytes = 0; !left_.empty() && bytes < options_.multi_bytes; left_.pop_back()) {
    ops.push_back(Op::DeleteAny(left_.back()));
    bytes += MultiBytes({ops.back()}, chroot_bytes);
  }
  return ops;
}

void Restore::StageOver() {
  switch (stage_) {
    case Stage::kClean:
      return RaiseFence();
    case Stage::kWrite:
      return Commit();
    default:
      return Done(restored_);
  }
}

// One multi: what stood for the store goes, and the store is there.
void Restore::Commit() {
  stage_ = Stage::kCommit;
  Epoch epoch;
  while (epoch.store == 0) epoch.store = loop_->Random();
  if (!options_.canaries.base_stays) epoch.base = restored_.version;
  restored_.store = epoch.store;
  std::vector<Op> ops = {Op::Delete(kRestorePath, fence_)};
  for (Op& op : StoreOps(epoch)) ops.push_back(std::move(op));
  if (!options_.canaries.log_stays_empty) {
    ops.push_back(Op::Create(absl::StrCat(LogPath(epoch.segment), "/e-"),
                             PrintEpochMove({epoch, epoch.base, {}}), Op::Mode::kSequential));
  }
  Send(std::move(ops));
}

void Restore::Send(std::vector<Op> ops) {
  auto sent = std::make_shared<Sent>();
  sent->ops = std::move(ops);
  under_way_.push_back(sent);
  Issue(sent);
}

void Restore::Issue(const std::shared_ptr<Sent>& sent) {
  sent->state = Sent::State::kSent;
  chroot_->session().Multi(sent->ops, [this, sent](MultiResult result) { Answered(sent, result); });
}

void Restore::Answered(const std::shared_ptr<Sent>& sent, const MultiResult& result) {
  if (sent->state != Sent::State::kSent || stage_ == Stage::kOver) return;
  if (result.code == Code::kUnknown) {
    sent->state = Sent::State::kUnknown;
    return tasks_.After(kSendAgain, [this] { SendAgain(); });
  }
  chroot_->Answered();
  const bool gone = result.code == Code::kBadVersion || result.code == Code::kNoNode;
  if (gone && sent->ops[result.failed].path() == kRestorePath) {
    if (stage_ != Stage::kCommit || !sent->again) return Done(Taken());
    sent->state = Sent::State::kUnknown;
    return LookForOwn();
  }
  // What one multi makes or deletes no other one does: so the try before this one did.
  const Code done_before = stage_ == Stage::kClean ? Code::kNoNode : Code::kNodeExists;
  if (result.code != Code::kOk && !(sent->again && result.code == done_before)) {
    return Done(Refused(result.code, sent->ops[result.failed].path()));
  }
  sent->state = Sent::State::kDone;
  while (!under_way_.empty() && under_way_.front()->state == Sent::State::kDone) under_way_.pop_front();
  SomeUnknown() ? SendAgain() : Fill();
}

bool Restore::SomeUnknown() const {
  return std::any_of(under_way_.begin(), under_way_.end(),
                     [](const std::shared_ptr<Sent>& sent) { return sent->state == Sent::State::kUnknown; });
}

// Those whose answers were lost, in their order, once all are answered: a node goes before those below it.
void Restore::SendAgain() {
  if (stage_ == Stage::kOver) return;
  for (const std::shared_ptr<Sent>& sent : under_way_) {
    if (sent->state == Sent::State::kSent) return;
  }
  for (const std::shared_ptr<Sent>& sent : std::deque<std::shared_ptr<Sent>>(under_way_)) {
    if (sent->state != Sent::State::kUnknown) continue;
    sent->again = true;
    Issue(sent);
  }
}

// What stood for the store is gone: this run's last multi did that, or another run.
void Restore::LookForOwn() {
  chroot_->session().Get(kEpochPath, Watch::kNo, [this](Code code, const std::string& data, Stat) {
    if (stage_ == Stage::kOver) return;
    if (code == Code::kUnknown) return tasks_.After(kSendAgain, [this] { SendAgain(); });
    const absl::StatusOr<Epoch> epoch = ParseEpoch(data);
    const bool own = code == Code::kOk && epoch.ok() && epoch->store == restored_.store;
    Done(own ? absl::StatusOr<Restored>(restored_) : Taken());
  });
}

// ---- The end

absl::Status Restore::Taken() const {
  return absl::AbortedError(absl::StrCat("another stmctl restore has taken over what is below \"",
                                         chroot_->path(), "\" in ZooKeeper: this one has ended"));
}

absl::Status Restore::Refused(Code code, const std::string& path) const {
  if (code == Code::kNoAuth) return chroot_->MayNotMake(absl::StrCat(chroot_->path(), path));
  if (code == Code::kRefused || code == Code::kTooLarge) {
    return absl::ResourceExhaustedError(
        absl::StrCat("ZooKeeper does not take ", path, " (", NameOf(code), "): a quota, or jute.maxbuffer"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat(path, " in ZooKeeper (", NameOf(code), ") was changed by something that is no stmctl: ",
                   "see that nothing else writes below \"", chroot_->path(), "\", and restore again"));
}

void Restore::Done(absl::StatusOr<Restored> result) {
  stage_ = Stage::kOver;
  if (done_) std::exchange(done_, nullptr)(std::move(result));
}

}  // namespace stm::zookeeper
