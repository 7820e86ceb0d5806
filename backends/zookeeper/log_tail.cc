#include "backends/zookeeper/log_tail.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/layout.h"
#include "backends/zookeeper/making.h"

namespace stm::zookeeper {
namespace {

// A server that is behind is asked again after this.
constexpr absl::Duration kLagging = absl::Milliseconds(5);
// An entry that appeared while own batches are under way is left to their answers for so long.
constexpr absl::Duration kOwnAnswer = absl::Milliseconds(20);
// While own batches are answered, one within so long of the one before, their positions tell what others do.
constexpr absl::Duration kOwnLull = absl::Milliseconds(2);
// Of so many entries one tells the size.
constexpr int64_t kSampled = 16;

absl::Status Restored(absl::string_view why) {
  return absl::DataLossError(absl::StrCat(
      "ZooKeeper was restored to an older state under running daemons (", why,
      "): stop them all, and put the newest data back, or begin anew below another chroot by stmctl init"));
}

// `epoch`: of its node.
bool IsSwept(const Answer& epoch, int64_t position) {
  const absl::StatusOr<Epoch> read = ParseEpoch(epoch.data);
  return read.ok() && position < read->swept;
}

}  // namespace

LogTail::LogTail(engine::Loop* loop, Sessions* sessions, SessionOptions session, TailOptions options,
                 TailCanaries canaries, Listener* listener)
    : loop_(loop),
      options_(options),
      recovered_entries_max_(options.recovered_entries_max),
      recovered_bytes_max_(options.recovered_bytes_max),
      canaries_(canaries),
      listener_(listener),
      reader_(loop, sessions, std::move(session), this) {}

// ---- Whose log it is, and from where

void LogTail::Start(absl::AnyInvocable<void(absl::Status)> done) {
  started_ = std::move(done);
  reader_.Open();
}

void LogTail::OnConnected(bool fresh) {
  if (stopped_) return;
  CheckApplied();
  // Of one session watches come back by themselves, and what was asked too.
  if (fresh) Identify();
}

// Is it still the store of before? One that was put in its place may have as long a log by now, or later.
// Each connection's first question, answered by a quorum: what is answered behind it is of the same store.
void LogTail::CheckApplied() {
  if (applied_zxid_ == 0) return;
  const std::string path = LogEntryPath(applied_);
  std::vector<Ask> asks = {{Ask::Kind::kCheck, path, Watch::kNo, 0},
                           {Ask::Kind::kGet, kEpochPath, Watch::kNo, 0},
                           {Ask::Kind::kExists, path, Watch::kNo, 0}};
  reader_.Send(std::move(asks), [this, path, applied = applied_,
                                 zxid = applied_zxid_](std::vector<Answer> answers) {
    if (stopped_) return;
    const absl::StatusOr<Epoch> epoch = ParseEpoch(answers[1].data);
    // That tells what is here instead.
    if (!epoch.ok() || epoch->store != newest_.store) return Identify();
    if (answers[2].code == Code::kOk && answers[2].stat.czxid != zxid) {
      return Stop(Restored(absl::StrFormat("its %s was made by transaction %x, and before by %x", path,
                                           answers[2].stat.czxid, zxid)));
    }
    if (answers[0].code == Code::kNoNode && applied >= epoch->swept) {
      DoubtApplied(path, answers[1].stat.version);
    }
  });
}

// `applied` is not there, though it is not trimmed as of this version of the epoch: is that the newest?
void LogTail::DoubtApplied(const std::string& applied, int32_t version) {
  reader_.Send({{Ask::Kind::kCheck, kEpochPath, Watch::kNo, version}},
               [this, applied](std::vector<Answer> answers) {
                 if (stopped_) return;
                 if (answers[0].code != Code::kOk) return LeaveServer();
                 Stop(Restored(absl::StrCat("its log lacks ", applied, ", which was read")));
               });
}

// Of /stm a quorum knows whether it is there; what this server shows behind that answer is no older.
void LogTail::Identify() {
  watching_ = false;
  AskEpoch([this](bool known) {
    const Epoch asked = newest_;
    std::vector<Ask> asks = {{Ask::Kind::kCheck, kEpochPath, Watch::kNo, asked.version},
                             AskSegment(asked.segment)};
    if (asked.segment > 0) {
      asks.push_back({Ask::Kind::kCheck, LogPath(asked.segment - 1), Watch::kNo, 0});
      asks.push_back(AskSegment(asked.segment - 1));
    }
    reader_.Send(std::move(asks), [this, known, asked, applied = next_](std::vector<Answer> answers) {
      if (stopped_) return;
      if (answers[0].code != Code::kOk) {
        // It moves; or the server has lost that it did.
        if (std::exchange(denied_, asked.version) == asked.version) return LeaveServer();
        return Identify();
      }
      Segment segment;
      if (!TakeSegment(asked.segment, answers[1], &segment)) return;
      if (!known) {
        Segment before;
        if (asked.segment > 0 && IsThere(answers[2].code)) {
          // This server has lost it, or it went just now.
          if (answers[3].code == Code::kNoNode) return LeaveServer();
          if (!TakeSegment(asked.segment - 1, answers[3], &before)) return;
        }
        return LookBack(segment, before);
      }
      if (segment.head < applied) return DoubtHead(segment.head, applied, [] {});
      RaiseHead(segment.head);
      Pump();
    });
  });
}

// The server's log ends before `next`, up to which it is applied: it has lost something, or all have. What
// was asked on a session that is gone is asked again, of another server.
void LogTail::DoubtHead(int64_t head, int64_t next, absl::AnyInvocable<void()> then) {
  const std::string applied = LogEntryPath(next - 1);
  std::vector<Ask> asks = {{Ask::Kind::kCheck, applied, Watch::kNo, 0},
                           {Ask::Kind::kGet, kEpochPath, Watch::kNo, 0},
                           {Ask::Kind::kExists, applied, Watch::kNo, 0}};
  reader_.Send(std::move(asks),
               [this, head, next, then = std::move(then)](std::vector<Answer> answers) mutable {
                 if (stopped_) return then();
                 if (answers[0].code == Code::kNoNode && !IsSwept(answers[1], next - 1)) {
                   Stop(Restored(absl::StrCat("its log ends at ", head, ", and was read to ", next)));
                 } else if (answers[2].code == Code::kNoNode) {
                   LeaveServer();
                 }
                 then();
               });
}

Ask LogTail::AskSegment(int64_t segment) { return {Ask::Kind::kGet, LogPath(segment), Watch::kNo, 0}; }

void LogTail::AskEpoch(absl::AnyInvocable<void(bool known)> done) {
  std::vector<Ask> asks = {{Ask::Kind::kCheck, kStorePath, Watch::kNo, 0},
                           {Ask::Kind::kGet, kEpochPath, Watch::kNo, 0}};
  reader_.Send(std::move(asks), [this, done = std::move(done)](std::vector<Answer> answers) mutable {
    const bool known = identified_;
    if (stopped_) return;
    if (answers[0].code == Code::kOk && answers[1].code == Code::kNoNode)
      return AskWhatStands(std::move(done));
    if (TakeEpoch(answers[0].code, answers[1])) return done(known);
    if (!stopped_) DoubtEpoch(answers[1].stat.version, std::move(done));
  });
}

// There is a store, and this server shows no epoch: a restore has not come to it yet, by a quorum's word and
// by what is shown behind that; else the server has lost it.
void LogTail::AskWhatStands(absl::AnyInvocable<void(bool known)> done) {
  std::vector<Ask> asks = {{Ask::Kind::kCheck, kRestorePath, Watch::kNo, 0},
                           {Ask::Kind::kExists, kEpochPath, Watch::kNo, 0}};
  reader_.Send(std::move(asks), [this, done = std::move(done)](std::vector<Answer> answers) mutable {
    if (stopped_) return;
    if (answers[1].code == Code::kNoNode) {
      if (IsThere(answers[0].code)) {
        return Stop(identified_ ? absl::DataLossError(absl::StrCat(
                                      "ZooKeeper holds the store no more that this daemon ran on: ",
                                      UnfinishedRestore().message(), ", and start the daemons then"))
                                : UnfinishedRestore());
      }
      LeaveServer();
    }
    AskEpoch(std::move(done));
  });
}

void LogTail::LeaveServer() {
  if (stopped_) return;
  ++holes_;
  reader_.Open();
}

bool LogTail::TakeEpoch(Code store, const Answer& answer) {
  if (stopped_) return false;
  if (store == Code::kNoAuth || answer.code == Code::kNoAuth) {
    Stop(absl::PermissionDeniedError(
        absl::StrCat("ZooKeeper does not let these credentials read ", kEpochPath,
                     ": give those that the store was made with by --zookeeper-credentials-file")));
    return false;
  }
  if (store != Code::kOk || answer.code != Code::kOk) {
    Stop(identified_
             ? absl::DataLossError(
                   "ZooKeeper holds no store any more: it was wiped, or is another one: stop all "
                   "daemons, and put its data back from a backup of it, or begin anew by stmctl init")
             : absl::FailedPreconditionError(absl::StrCat("ZooKeeper holds no store here (", kEpochPath, ": ",
                                                          NameOf(store != Code::kOk ? store : answer.code),
                                                          "): run stmctl init, or start with --create")));
    return false;
  }
  absl::StatusOr<Epoch> epoch = ParseEpoch(answer.data);
  if (epoch.ok() && identified_ && epoch->store != newest_.store) {
    epoch = absl::DataLossError(absl::StrFormat(
        "ZooKeeper holds another store now (%016x, before %016x): restart this daemon to go on with that",
        epoch->store, newest_.store));
  }
  if (!epoch.ok()) {
    Stop(absl::Status(epoch.status().code(), absl::StrCat(kEpochPath, ": ", epoch.status().message())));
    return false;
  }
  epoch->version = answer.stat.version;
  if (!identified_) epoch_ = *epoch;
  if (identified_ && epoch->version < newest_.version) return false;
  newest_ = *epoch;
  return true;
}

// A quorum's word came before this answer, which is older than what is known: the server has lost something,
// or all have.
void LogTail::DoubtEpoch(int32_t version, absl::AnyInvocable<void(bool known)> done) {
  std::vector<Ask> asks = {{Ask::Kind::kCheck, kEpochPath, Watch::kNo, version},
                           {Ask::Kind::kExists, kEpochPath, Watch::kNo, 0}};
  reader_.Send(std::move(asks), [this, version, done = std::move(done)](std::vector<Answer> answers) mutable {
    if (stopped_) return;
    if (answers[0].code == Code::kOk && version < newest_.version) {
      return Stop(Restored(absl::StrCat("its epoch is ", version, ", and was ", newest_.version)));
    }
    if (answers[1].code == Code::kOk && answers[1].stat.version < newest_.version) LeaveServer();
    AskEpoch(std::move(done));
  });
}

// How many entries before the head are to be known: few, if they are large.
void LogTail::LookBack(const Segment& segment, const Segment& before) {
  std::vector<Ask> asks;
  int64_t left = recovered_entries_max_;
  for (const Segment& one : {segment, before}) {
    for (int64_t head = one.head; head > one.first && left > 0; head -= kSampled, left -= kSampled) {
      asks.push_back({Ask::Kind::kExists, LogEntryPath(head - 1), Watch::kNo, 0});
    }
  }
  if (asks.size() < 2) return Begin(segment, before, recovered_entries_max_);
  reader_.Send(std::move(asks),
               [this, segment, before, epoch = newest_.version](std::vector<Answer> answers) {
                 // A later connection began to ask, too: it goes on.
                 if (stopped_ || epoch != newest_.version) return;
                 int64_t entries = 0, bytes = 0;
                 for (const Answer& answer : answers) {
                   bytes += kSampled * answer.stat.data_length;
                   // Or it is trimmed meanwhile.
                   if (entries > 0 && (bytes > recovered_bytes_max_ || answer.code != Code::kOk)) break;
                   entries += kSampled;
                 }
                 Begin(segment, before, std::min(entries, recovered_entries_max_));
               });
}

// At so many entries before the head, or the first that there is.
void LogTail::Begin(const Segment& segment, const Segment& before, int64_t entries) {
  if (std::exchange(identified_, true)) return;
  const bool two = before.head > before.first;
  const int64_t more = entries - (segment.head - segment.first);
  mark_ = two ? before.first : segment.first;
  if (more < 0) {
    next_ = segment.head - entries;
  } else if (two && more > 0) {
    next_ = std::max(before.first, before.head - more);
    head_ = before.head;
  } else {
    next_ = segment.first;
  }
  fetch_ = begun_at_ = next_;
  // What was restored is older than the log's first entry: then it begins with that, or behind it.
  if (next_ == 0 && epoch_.base == 0) {
    begun_ = true;
    listener_->OnBegin(0);
  } else if (next_ == segment.head) {
    return Stop(absl::DataLossError(
        absl::StrCat("ZooKeeper's log is trimmed to its end, ", LogEntryPath(next_),
                     ": put the newest data back, or begin anew below another chroot by stmctl init")));
  }
  RaiseHead(segment.head);
  WhenApplied(segment.head, [this] {
    if (started_) std::exchange(started_, nullptr)(absl::OkStatus());
  });
  Pump();
}

// What was read has no batch, which alone tells a commit's version: begins before it.
void LogTail::BeginFurther() {
  recovered_entries_max_ *= 2;
  recovered_bytes_max_ *= 2;
  identified_ = false;
  head_ = newer_head_ = moved_to_ = 0;
  fetched_.clear();
  when_applied_.clear();
  Identify();
}

// ---- Reading on

bool LogTail::TakeSegment(int64_t number, const Answer& answer, Segment* segment) {
  if (stopped_) return false;
  if (answer.code != Code::kOk) {
    if (number >= newest_.segment) LeaveServer();
    return false;
  }
  const absl::StatusOr<SegmentText> text = ParseSegment(answer.data);
  if (!text.ok()) {
    Stop(absl::Status(text.status().code(), absl::StrCat(LogPath(number), ": ", text.status().message())));
    return false;
  }
  const int64_t made = ChildrenMade(answer.stat);
  if (answer.stat.num_children != made - text->trimmed && !canaries_.read_past_holes) {
    // What else it lost with an entry nobody knows.
    LeaveServer();
    return false;
  }
  segment->closed = text->closed;
  segment->first = FirstOf(number) + text->trimmed;
  segment->head = FirstOf(number) + made;
  if (text->trimmed > 0) mark_ = std::max(mark_, segment->first);
  return true;
}

// Does the answer say that all of the segment is trimmed? One server's word.
bool LogTail::IsGone(int64_t number, const Answer& answer) const {
  return answer.code == Code::kNoNode && number < newest_.segment;
}

// By a quorum's word; else this server has lost it.
void LogTail::ConfirmGone(int64_t number, absl::AnyInvocable<void(bool gone)> done) {
  std::vector<Ask> asks = {{Ask::Kind::kCheck, LogPath(number), Watch::kNo, 0},
                           {Ask::Kind::kExists, LogPath(number), Watch::kNo, 0}};
  reader_.Send(std::move(asks), [this, number, done = std::move(done)](std::vector<Answer> answers) mutable {
    if (stopped_) return;
    const bool gone = answers[0].code == Code::kNoNode;
    if (gone) {
      Trimmed(FirstOf(number + 1));
    } else if (answers[1].code == Code::kNoNode) {
      LeaveServer();
    }
    done(gone);
  });
}

// Of the segment that is read, or of a later one: then what is left of this one has to be known.
void LogTail::RaiseHead(int64_t head) {
  if (SegmentOf(head) == SegmentOf(next_)) {
    head_ = std::max(head_, head);
  } else if (SegmentOf(head) > SegmentOf(next_) && head > newer_head_) {
    newer_head_ = head;
    LookForHead();
  }
}

void LogTail::LookForHead() {
  const int64_t number = SegmentOf(next_);
  reader_.Send({AskSegment(number)}, [this, number](std::vector<Answer> answers) {
    Segment segment;
    if (stopped_ || number != SegmentOf(next_)) return;
    if (IsGone(number, answers[0])) {
      return ConfirmGone(number, [this, number](bool gone) {
        if (number != SegmentOf(next_)) return;
        gone ? StopBehind(next_) : LookForHead();
      });
    }
    if (!TakeSegment(number, answers[0], &segment)) return tasks_.After(kLagging, [this] { LookForHead(); });
    RaiseHead(segment.head);
    Pump();
  });
}

void LogTail::Own(int64_t position, int64_t zxid) {
  if (stopped_ || position < next_) return;
  Fetched& fetched = fetched_[position];
  fetched.own = fetched.here = true;
  fetched.zxid = zxid;
  fetched.data.clear();
  own_at_ = loop_->Now();
  RaiseHead(position + 1);
  Pump();
}

void LogTail::Pump() {
  if (stopped_ || !identified_) return;
  ApplyFetched();
  if (stopped_) return;
  for (fetch_ = std::max(fetch_, next_); fetch_ < head_ && fetch_ < next_ + options_.fetches_under_way_max;
       ++fetch_) {
    if (fetched_.emplace(fetch_, Fetched()).second) Fetch(fetch_);
  }
  WatchNext();
}

void LogTail::Fetch(int64_t position) {
  reader_.Send({{Ask::Kind::kGet, LogEntryPath(position), Watch::kNo, 0}},
               [this, position](std::vector<Answer> answers) {
                 const auto fetched = fetched_.find(position);
                 if (stopped_ || fetched == fetched_.end() || fetched->second.here)
                   return;  // it was told by Own
                 if (answers[0].code != Code::kOk) return Missing(position);
                 fetched->second.here = true;
                 fetched->second.zxid = answers[0].stat.czxid;
                 fetched->second.data = std::move(answers[0].data);
                 Pump();
               });
}

// Below a head that some server told, and a quorum says what is true: this server has lost the entry, or it
// is trimmed, or the whole log went back.
void LogTail::Missing(int64_t position) {
  if (canaries_.read_past_holes) {
    Fetched& fetched = fetched_[position];
    fetched.here = true;
    return Pump();
  }
  const int64_t number = SegmentOf(position);
  std::vector<Ask> asks = {{Ask::Kind::kCheck, LogEntryPath(position), Watch::kNo, 0},
                           {Ask::Kind::kGet, kEpochPath, Watch::kNo, 0},
                           AskSegment(number),
                           {Ask::Kind::kExists, LogEntryPath(position), Watch::kNo, 0}};
  reader_.Send(std::move(asks), [this, position, number](std::vector<Answer> answers) {
    if (stopped_ || position < next_) return;
    Segment segment;
    if (IsGone(number, answers[2])) {
      if (answers[0].code == Code::kNoNode) return StopBehind(position);
      LeaveServer();
      return Fetch(position);
    }
    if (!TakeSegment(number, answers[2], &segment)) return Fetch(position);
    if (answers[3].code == Code::kOk) return Fetch(position);
    if (answers[0].code != Code::kNoNode) {
      // Never read past: its commits would be missing here for good.
      LeaveServer();
      return Fetch(position);
    }
    if (position < segment.first || IsSwept(answers[1], position)) return StopBehind(position);
    Stop(Restored(absl::StrCat("its log ends at ", segment.head, ", and was longer than ", position)));
  });
}

void LogTail::StopBehind(int64_t position) {
  Stop(absl::OutOfRangeError(
      absl::StrCat(LogEntryPath(position),
                   " was trimmed before this daemon read it, which was cut off or stood "
                   "still for too long: it begins anew")));
}

void LogTail::ApplyFetched() {
  for (auto it = fetched_.begin(); it != fetched_.end() && it->first == next_ && it->second.here;
       it = fetched_.begin()) {
    const Fetched fetched = std::move(it->second);
    fetched_.erase(it);
    // With the first batch, if there is one: a commit's version is told.
    const bool none_newer = newer_head_ == FirstOf(SegmentOf(newer_head_));
    const bool last = next_ + 1 == head_ && none_newer;
    if (!begun_ && last && !IsBatch(fetched.data) && begun_at_ > mark_) return BeginFurther();
    if (!begun_ && (IsBatch(fetched.data) || last)) {
      begun_ = true;
      listener_->OnBegin(VersionOf(epoch_.base, fetched.zxid, 0) - 1);
    }
    const absl::Status status = Apply(next_, fetched);
    if (!status.ok()) {
      return Stop(absl::Status(status.code(), absl::StrCat(LogEntryPath(next_), ": ", status.message())));
    }
    applied_ = next_++;
    applied_zxid_ = fetched.zxid;
    if (moved_to_ > SegmentOf(next_)) GoOnIn(moved_to_);
    while (!stopped_ && !when_applied_.empty() && when_applied_.begin()->first <= next_) {
      auto done = std::move(when_applied_.begin()->second);
      when_applied_.erase(when_applied_.begin());
      done();
    }
    if (stopped_) return;
  }
}

absl::Status LogTail::Apply(int64_t position, const Fetched& fetched) {
  if (canaries_.read_past_holes && !fetched.own && fetched.data.empty()) return absl::OkStatus();
  if (fetched.own || IsBatch(fetched.data)) return listener_->OnBatch(position, fetched.zxid, fetched.data);
  if (IsTurn(fetched.data)) {
    const absl::StatusOr<TurnText> turn = ParseTurn(fetched.data);
    if (!turn.ok()) return turn.status();
    if (begun_) listener_->OnTurn(position, fetched.zxid, *turn, fetched.data.size());
    return absl::OkStatus();
  }
  const absl::StatusOr<EpochMove> move = ParseEpochMove(fetched.data);
  if (!move.ok()) return move.status();
  if (move->epoch.version > newest_.version) newest_ = move->epoch;
  moved_to_ = move->epoch.segment;
  if (move->epoch.version > epoch_.version) epoch_ = move->epoch;
  if (begun_) listener_->OnMove(position, fetched.zxid, *move, fetched.data.size());
  return absl::OkStatus();
}

void LogTail::GoOnIn(int64_t segment) {
  next_ = fetch_ = head_ = FirstOf(segment);
  RaiseHead(std::exchange(newer_head_, 0));
  LookForHead();
}

void LogTail::WhenApplied(int64_t next, absl::AnyInvocable<void()> done) {
  if (next <= next_) return done();
  when_applied_.emplace(next, std::move(done));
}

// A watch only wakes; what there is to read the log's node says. It costs a server an event and a question
// for each entry, which a daemon that commits all the time does without.
void LogTail::WatchNext() {
  if (watching_ || awaits_lull_ || next_ < head_) return;
  const absl::Duration lull = own_at_ + kOwnLull - loop_->Now();
  if (lull > absl::ZeroDuration()) {
    awaits_lull_ = true;
    return tasks_.After(lull, [this] {
      awaits_lull_ = false;
      Pump();
    });
  }
  watching_ = true;
  watched_ = next_;
  watched_path_ = LogEntryPath(next_);
  reader_.Send({{Ask::Kind::kExists, watched_path_, Watch::kYes, 0}},
               [this, position = next_](std::vector<Answer> answers) {
                 if (answers[0].code != Code::kOk) return;  // it is set
                 watching_ = false;
                 Appeared(position);
               });
}

void LogTail::OnWatch(const std::string& path) {
  if (stopped_ || path != watched_path_) return;
  watching_ = false;
  Appeared(watched_);
}

// If it is this daemon's own, which is likely while one is under way, Own tells of it in a moment, and
// nothing is to be read. If it is another's, and Own tells of a later one, what is between is read then.
void LogTail::Appeared(int64_t position) {
  if (position < next_) return WatchNext();
  appeared_ = std::max(appeared_, position + 1);
  if (!listener_->AwaitsOwn()) return ReadAppeared();
  if (std::exchange(awaits_own_, true)) return;
  tasks_.After(kOwnAnswer, [this] {
    awaits_own_ = false;
    if (!stopped_ && next_ < appeared_) ReadAppeared();
  });
}

void LogTail::ReadAppeared() {
  RaiseHead(appeared_);
  Pump();
  if (!stopped_) LookForHead();
}

// ---- Reads that are not behind
//
// A check is a write: a quorum answers it, and what this session reads behind it is no older. That the entry
// to be applied next is not there is the shortest answer.

void LogTail::Barrier(absl::AnyInvocable<void(absl::Status)> done) {
  if (stopped_) {
    return loop_->Post(
        [done = std::move(done), status = stopped_because_]() mutable { done(std::move(status)); });
  }
  if (waiters_ == nullptr) {
    waiters_ = std::make_shared<Waiters>();
    tasks_.After(options_.barrier_patience, [this, waiters = waiters_] {
      if (waiters_ == waiters) waiters_ = nullptr;
      TellWaiters(waiters.get(),
                  absl::UnavailableError(absl::StrCat("no quorum of ZooKeeper's servers has answered for ",
                                                      absl::FormatDuration(options_.barrier_patience))));
    });
  }
  waiters_->done.push_back(std::move(done));
  if (!barrier_runs_) RunBarrier();
}

void LogTail::RunBarrier() {
  if (waiters_ == nullptr || stopped_) return;
  barrier_runs_ = true;
  Confirm(std::exchange(waiters_, nullptr));
}

void LogTail::Confirm(std::shared_ptr<Waiters> waiters) {
  const int64_t position = next_;
  std::vector<Ask> asks = {AskSegment(SegmentOf(position))};
  if (!canaries_.barrier_by_head) {
    asks.insert(asks.begin(), {Ask::Kind::kCheck, LogEntryPath(position), Watch::kNo, 0});
  }
  reader_.Send(std::move(asks), [this, position, connection = reader_.connection(),
                                 waiters = std::move(waiters)](std::vector<Answer> answers) {
    barrier_runs_ = false;
    if (stopped_) return TellWaiters(waiters.get(), stopped_because_);
    if (IsOfAnother(connection)) return AskBarrierAgain(waiters.get());
    Segment segment;
    if (IsGone(SegmentOf(position), answers.back())) {
      return ConfirmGone(SegmentOf(position), [this, position, waiters](bool gone) {
        if (gone && position == next_) StopBehind(position);
        AskBarrierAgain(waiters.get());
      });
    }
    if (!TakeSegment(SegmentOf(position), answers.back(), &segment)) return AskBarrierAgain(waiters.get());
    if (canaries_.barrier_by_head) {
      RaiseHead(segment.head);
      WhenApplied(segment.head, [this, waiters] { TellWaiters(waiters.get(), absl::OkStatus()); });
      Pump();
      return RunBarrier();
    }
    // Nothing is there, by a quorum's word, or nothing any more.
    const bool none = answers[0].code == Code::kNoNode;
    if (none && segment.head < position) {
      return DoubtHead(segment.head, position, [this, waiters] { AskBarrierAgain(waiters.get()); });
    }
    if (none && segment.first > position) {
      if (position == next_) StopBehind(position);
      return AskBarrierAgain(waiters.get());
    }
    const int64_t head = none ? segment.head : std::max(segment.head, position + 1);
    RaiseHead(head);
    if (none && head == position) {
      TellWaiters(waiters.get(), absl::OkStatus());
    } else {
      ConfirmHead(head, waiters);
    }
    Pump();
    RunBarrier();
  });
}

// An answer is of the store as it was behind what had been applied when it was asked for. On another
// connection that may be an older store, which ends where this daemon's did at that time.
bool LogTail::IsOfAnother(uint64_t connection) const {
  return connection != reader_.connection() && !canaries_.trust_any_connection;
}

// A server that has lost the newest entry of all ends its log before it.
void LogTail::ConfirmHead(int64_t head, std::shared_ptr<Waiters> waiters) {
  std::vector<Ask> asks = {{Ask::Kind::kCheck, LogEntryPath(head), Watch::kNo, 0},
                           {Ask::Kind::kExists, LogEntryPath(head), Watch::kNo, 0}};
  reader_.Send(std::move(asks), [this, head, connection = reader_.connection(),
                                 waiters = std::move(waiters)](std::vector<Answer> answers) {
    if (stopped_) return TellWaiters(waiters.get(), stopped_because_);
    if (IsOfAnother(connection)) return AskBarrierAgain(waiters.get());
    if (answers[0].code != Code::kNoNode && answers[1].code == Code::kNoNode) {
      LeaveServer();
      return AskBarrierAgain(waiters.get());
    }
    WhenApplied(head, [this, head, waiters] {
      // The segment ended meanwhile.
      if (SegmentOf(next_) != SegmentOf(head)) return AskBarrierAgain(waiters.get());
      TellWaiters(waiters.get(), absl::OkStatus());
    });
  });
}

// Once each, though their patience may end at the same time.
void LogTail::TellWaiters(Waiters* waiters, const absl::Status& status) {
  for (auto& done : std::exchange(waiters->done, {})) done(status);
}

void LogTail::AskBarrierAgain(Waiters* waiters) {
  for (auto& done : std::exchange(waiters->done, {})) Barrier(std::move(done));
}

void LogTail::Read(std::vector<Ask> asks, absl::AnyInvocable<void(std::vector<Answer>)> done) {
  if (stopped_) return;
  const int64_t number = newest_.segment;
  std::vector<Ask> all;
  all.reserve(asks.size() + 2);
  // The newest entry that is applied. A segment's node came with the last entry of the one before it.
  const int64_t applied = next_ - 1;
  const bool proves = applied >= FirstOf(number) && !canaries_.trust_any_server;
  if (proves) all.push_back({Ask::Kind::kExists, LogEntryPath(applied), Watch::kNo, 0});
  all.insert(all.end(), asks.begin(), asks.end());
  // Of what was lost with an entry of a segment that has ended its own node alone tells.
  const int64_t oldest = std::min(SegmentOf(mark_), number);
  for (int64_t segment = oldest; segment <= number; ++segment) all.push_back(AskSegment(segment));
  reader_.Send(std::move(all), [this, oldest, number, asks = std::move(asks), proves, applied,
                                connection = reader_.connection(),
                                done = std::move(done)](std::vector<Answer> answers) mutable {
    if (stopped_) return;
    if (IsOfAnother(connection)) return Read(std::move(asks), std::move(done));
    Segment segment;
    bool proven = TakeSegment(number, answers.back(), &segment);
    answers.pop_back();
    for (int64_t ended = number - 1; ended >= oldest; --ended, answers.pop_back()) {
      Segment one;
      if (IsGone(ended, answers.back())) {
        // Only then: what is behind it is trimmed, and while it is there no start reads past that.
        ConfirmGone(ended, [](bool) {});
        proven = false;
      } else {
        proven = proven && TakeSegment(ended, answers.back(), &one);
      }
    }
    // What it has trimmed it had.
    if (proven && proves && answers[0].code != Code::kOk) proven = segment.first > applied;
    if (!proven) {
      // This server does not have yet what is applied here, or has lost something.
      return tasks_.After(kLagging, [this, asks = std::move(asks), done = std::move(done)]() mutable {
        Read(std::move(asks), std::move(done));
      });
    }
    RaiseHead(segment.head);
    if (segment.closed) {
      // What it shows may be of the next segment.
      WhenApplied(FirstOf(number + 1), [this, asks = std::move(asks), done = std::move(done)]() mutable {
        Read(std::move(asks), std::move(done));
      });
      return Pump();
    }
    if (proves) answers.erase(answers.begin());
    WhenApplied(segment.head, [done = std::move(done), answers = std::move(answers)]() mutable {
      done(std::move(answers));
    });
    Pump();
  });
}

void LogTail::Leave(absl::Status why) {
  Stop(std::move(why));
  reader_.Close();
}

void LogTail::Stop(absl::Status status) {
  if (std::exchange(stopped_, true)) return;
  stopped_because_ = status;
  when_applied_.clear();
  if (waiters_ != nullptr) TellWaiters(std::exchange(waiters_, nullptr).get(), status);
  if (started_) std::exchange(started_, nullptr)(status);
  listener_->OnStopped(status);
}

}  // namespace stm::zookeeper
