#include "backends/zookeeper/log_tail.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/layout.h"
#include "engine/values/edn.h"

namespace stm::zookeeper {
namespace {

constexpr int64_t kFormat = 1;
// A server that is behind is asked again after this.
constexpr absl::Duration kLagging = absl::Milliseconds(5);

}  // namespace

std::string PrintEpoch(const Epoch& epoch) {
  return absl::StrFormat("{:format %d :store \"%016x\" :base %d :segment %d}", kFormat, epoch.store,
                         epoch.base, epoch.segment);
}

absl::StatusOr<Epoch> ParseEpoch(const std::string& data) {
  const absl::StatusOr<Value> read = ReadEdn(data);
  const auto find = [&read](std::string_view key, Type type) {
    const Value* value = read.ok() && read->is(Type::kMap) ? read->map().Find(Value::Keyword(key)) : nullptr;
    return value != nullptr && value->is(type) ? value : nullptr;
  };
  const Value* format = find("format", Type::kInteger);
  if (format != nullptr && format->integer() != kFormat) {
    return absl::UnimplementedError(absl::StrCat("the store in ZooKeeper has format ", format->integer(),
                                                 ", this stmd reads ", kFormat, ": use a newer one"));
  }
  const Value* store = find("store", Type::kString);
  const Value* base = find("base", Type::kInteger);
  const Value* segment = find("segment", Type::kInteger);
  Epoch epoch;
  if (format == nullptr || store == nullptr || base == nullptr || segment == nullptr ||
      !absl::SimpleHexAtoi(store->text(), &epoch.store)) {
    return absl::DataLossError(
        absl::StrCat(kEpochPath, " in ZooKeeper says no store: ", data.substr(0, 200)));
  }
  epoch.base = base->integer();
  epoch.segment = segment->integer();
  return epoch;
}

LogTail::LogTail(engine::Loop* loop, Sessions* sessions, SessionOptions session, TailOptions options,
                 TailCanaries canaries, Listener* listener)
    : loop_(loop),
      options_(options),
      canaries_(canaries),
      listener_(listener),
      reader_(loop, sessions, std::move(session), this) {}

std::string LogTail::LogNode() const { return LogPath(epoch_.segment); }

void LogTail::After(absl::Duration time, absl::AnyInvocable<void()> task) {
  loop_->At(loop_->Now() + time,
            [alive = std::weak_ptr<const bool>(alive_), task = std::move(task)]() mutable {
              if (!alive.expired()) task();
            });
}

// ---- Whose log it is, and from where

void LogTail::Start(absl::AnyInvocable<void(absl::Status)> done) {
  started_ = std::move(done);
  reader_.Open();
}

void LogTail::OnConnected(bool fresh) {
  if (stopped_) return;
  // Of one session watches come back by themselves, and what was asked too.
  if (fresh) Identify();
}

// Of /stm a quorum knows whether it is there; what this server shows behind that answer is no older.
void LogTail::Identify() {
  watching_ = false;
  AskEpoch([this](bool known) {
    std::vector<Ask> asks = {{Ask::Kind::kCheck, kEpochPath, Watch::kNo, epoch_.version},
                             {Ask::Kind::kGet, LogNode(), Watch::kNo, 0}};
    reader_.Send(std::move(asks),
                 [this, known, applied = next_, began = loop_->Now()](std::vector<Answer> answers) {
                   if (stopped_) return;
                   if (answers[0].code != Code::kOk) return Identify();  // it moves
                   int64_t head = 0;
                   if (!TakeHead(answers[1], &head)) return;
                   confirmed_at_ = began;
                   if (!known) return Begin(head);
                   if (WentBack(head, applied)) return;
                   RaiseHead(head);
                   Pump();
                 });
  });
}

// By a quorum's word the log ends before what was applied when that was asked for. What is applied by the
// time of the answer does not count: an own batch may have been since.
bool LogTail::WentBack(int64_t head, int64_t applied) {
  if (head >= applied) return false;
  Stop(absl::DataLossError(
      absl::StrCat("ZooKeeper holds ", head, " batches of the log, ", applied,
                   " were there before: it was restored to an older "
                   "state under running daemons: stop them all, and bring a backup in by stmctl restore")));
  return true;
}

void LogTail::AskEpoch(absl::AnyInvocable<void(bool known)> done) {
  std::vector<Ask> asks = {{Ask::Kind::kCheck, kStorePath, Watch::kNo, 0},
                           {Ask::Kind::kGet, kEpochPath, Watch::kNo, 0}};
  reader_.Send(std::move(asks), [this, done = std::move(done)](std::vector<Answer> answers) mutable {
    const bool known = identified_;
    if (stopped_) return;
    if (answers[0].code == Code::kOk && answers[1].code == Code::kNoNode) {
      LeaveServer();
      return AskEpoch(std::move(done));
    }
    if (TakeEpoch(answers[0].code, answers[1])) done(known);
  });
}

// It does not show what a quorum says is there.
void LogTail::LeaveServer() {
  ++holes_;
  reader_.Open();
}

bool LogTail::TakeEpoch(Code store, const Answer& answer) {
  if (stopped_) return false;
  if (store != Code::kOk || answer.code != Code::kOk) {
    Stop(identified_ ? absl::DataLossError(
                           "ZooKeeper holds no store any more: it was wiped, or is another one; stop all "
                           "daemons, and bring a backup in by stmctl restore")
                     : absl::FailedPreconditionError(absl::StrCat(
                           "ZooKeeper holds no store here (", kEpochPath, ": ",
                           NameOf(store != Code::kOk ? store : answer.code), "): make one by stmctl init")));
    return false;
  }
  absl::StatusOr<Epoch> epoch = ParseEpoch(answer.data);
  if (epoch.ok() && identified_ && epoch->store != epoch_.store) {
    epoch = absl::DataLossError(absl::StrFormat(
        "ZooKeeper holds another store now (%016x, before %016x): restart this daemon to go on with that",
        epoch->store, epoch_.store));
  }
  if (!epoch.ok()) {
    Stop(epoch.status());
    return false;
  }
  epoch_ = *epoch;
  epoch_.version = answer.stat.version;
  return true;
}

void LogTail::ReloadEpoch(absl::AnyInvocable<void()> done) {
  AskEpoch([done = std::move(done)](bool) mutable { done(); });
}

void LogTail::Begin(int64_t head) {
  if (std::exchange(identified_, true)) return;
  next_ = fetch_ = std::max(mark_, head - options_.recovered_batches_max);
  head_ = head;
  if (next_ == 0) {
    begun_ = true;
    listener_->OnBegin(0);
  }
  WhenApplied(head, [this] {
    if (started_) std::exchange(started_, nullptr)(absl::OkStatus());
  });
  Pump();
}

// ---- Reading on

bool LogTail::TakeHead(const Answer& log, int64_t* head) {
  if (stopped_) return false;
  int64_t mark = 0;
  if (log.code != Code::kOk) {
    LeaveServer();
    return false;
  }
  if (!absl::SimpleAtoi(log.data, &mark)) {
    Stop(absl::DataLossError(absl::StrCat(LogNode(), " in ZooKeeper says no number of a batch: ", log.data)));
    return false;
  }
  mark_ = std::max(mark_, mark);
  // As many changes of its children as were created and deleted, and those are below the mark.
  *head = log.stat.cversion - mark;
  return true;
}

void LogTail::RaiseHead(int64_t head) { head_ = std::max(head_, head); }

void LogTail::LookForHead() {
  reader_.Send({{Ask::Kind::kGet, LogNode(), Watch::kNo, 0}}, [this](std::vector<Answer> answers) {
    int64_t head = 0;
    if (!TakeHead(answers[0], &head)) return;
    RaiseHead(head);
    Pump();
  });
}

void LogTail::Own(int64_t index, int64_t zxid) {
  if (stopped_ || index < next_) return;
  Fetched& fetched = fetched_[index];
  fetched.own = fetched.here = true;
  fetched.zxid = zxid;
  fetched.data.clear();
  RaiseHead(index + 1);
  Pump();
}

void LogTail::Pump() {
  if (stopped_ || !identified_) return;
  Apply();
  if (stopped_) return;
  for (fetch_ = std::max(fetch_, next_); fetch_ < head_ && fetch_ < next_ + options_.fetches_under_way_max;
       ++fetch_) {
    if (fetched_.emplace(fetch_, Fetched()).second) Fetch(fetch_);
  }
  WatchNext();
}

void LogTail::Fetch(int64_t index) {
  reader_.Send({{Ask::Kind::kGet, LogEntryPath(epoch_.segment, index), Watch::kNo, 0}},
               [this, index](std::vector<Answer> answers) {
                 const auto fetched = fetched_.find(index);
                 if (stopped_ || fetched == fetched_.end() || fetched->second.here)
                   return;  // it was told by Own
                 if (answers[0].code != Code::kOk) return Missing(index);
                 fetched->second.here = true;
                 fetched->second.zxid = answers[0].stat.czxid;
                 fetched->second.data = std::move(answers[0].data);
                 Pump();
               });
}

// Below a head that some server told: either this one is behind, or the batch is trimmed, or this one has
// lost it.
void LogTail::Missing(int64_t index) {
  if (canaries_.read_past_holes) {
    Fetched& fetched = fetched_[index];
    fetched.here = true;
    return Pump();
  }
  std::vector<Ask> asks = {{Ask::Kind::kGet, LogNode(), Watch::kNo, 0},
                           {Ask::Kind::kGet, LogEntryPath(epoch_.segment, index), Watch::kNo, 0}};
  reader_.Send(std::move(asks), [this, index](std::vector<Answer> answers) {
    if (stopped_ || index < next_) return;
    int64_t head = 0;
    if (!TakeHead(answers[0], &head)) return Fetch(index);
    if (answers[1].code == Code::kOk || head <= index)
      return After(kLagging, [this, index] { Fetch(index); });
    if (index < mark_) {
      return Stop(absl::DataLossError(absl::StrCat("batch ", index,
                                                   " of the log was trimmed before this daemon read it, "
                                                   "which was cut off for too long: restart it")));
    }
    // Never read past: its commits would be missing here for good.
    LeaveServer();
    Fetch(index);
  });
}

void LogTail::Apply() {
  for (auto it = fetched_.begin(); it != fetched_.end() && it->first == next_ && it->second.here;
       it = fetched_.begin()) {
    const Fetched fetched = std::move(it->second);
    fetched_.erase(it);
    if (!std::exchange(begun_, true)) listener_->OnBegin(VersionOf(epoch_.base, fetched.zxid, 0) - 1);
    const bool left_out = canaries_.read_past_holes && !fetched.own && fetched.data.empty();
    const absl::Status status =
        left_out ? absl::OkStatus() : listener_->OnBatch(next_, fetched.zxid, fetched.data);
    if (!status.ok()) {
      return Stop(absl::Status(status.code(),
                               absl::StrCat(LogEntryPath(epoch_.segment, next_), ": ", status.message())));
    }
    ++next_;
    while (!stopped_ && !when_applied_.empty() && when_applied_.begin()->first <= next_) {
      auto done = std::move(when_applied_.begin()->second);
      when_applied_.erase(when_applied_.begin());
      done();
    }
    if (stopped_) return;
  }
}

void LogTail::WhenApplied(int64_t next, absl::AnyInvocable<void()> done) {
  if (next <= next_) return done();
  when_applied_.emplace(next, std::move(done));
}

// A watch only wakes; what there is to read the log's node says.
void LogTail::WatchNext() {
  if (watching_ || next_ < head_) return;
  watching_ = true;
  watched_ = next_;
  reader_.Send({{Ask::Kind::kExists, LogEntryPath(epoch_.segment, next_), Watch::kYes, 0}},
               [this, index = next_](std::vector<Answer> answers) {
                 if (answers[0].code != Code::kOk) return;  // it is set
                 watching_ = false;
                 RaiseHead(index + 1);
                 Pump();
                 LookForHead();
               });
}

void LogTail::OnWatch(const std::string& path) {
  const std::optional<int64_t> index = LogIndexOf(path);
  if (stopped_ || !index || *index != watched_) return;
  watching_ = false;
  if (*index < next_) return Pump();
  RaiseHead(*index + 1);
  Pump();
  LookForHead();
}

// ---- Reads that are not behind

void LogTail::Barrier(absl::AnyInvocable<void(absl::Status)> done) {
  if (stopped_) {
    return loop_->Post(
        [done = std::move(done), status = stopped_because_]() mutable { done(std::move(status)); });
  }
  if (waiters_ == nullptr) {
    waiters_ = std::make_shared<Waiters>();
    After(options_.barrier_patience, [this, waiters = waiters_] {
      if (waiters_ == waiters) waiters_ = nullptr;
      for (auto& late : std::exchange(waiters->done, {})) {
        late(absl::UnavailableError(absl::StrCat("no quorum of ZooKeeper's servers has answered for ",
                                                 absl::FormatDuration(options_.barrier_patience))));
      }
    });
  }
  waiters_->done.push_back(std::move(done));
  if (!barrier_runs_) RunBarrier();
}

// A check of the epoch is a write: a quorum answers it, and what this session reads behind it is no older.
void LogTail::RunBarrier() {
  if (waiters_ == nullptr || stopped_) return;
  barrier_runs_ = true;
  std::vector<Ask> asks;
  if (!canaries_.barrier_by_head) asks.push_back({Ask::Kind::kCheck, kEpochPath, Watch::kNo, epoch_.version});
  asks.push_back({Ask::Kind::kGet, LogNode(), Watch::kNo, 0});
  reader_.Send(std::move(asks), [this, waiters = std::exchange(waiters_, nullptr), applied = next_,
                                 began = loop_->Now()](std::vector<Answer> answers) {
    barrier_runs_ = false;
    int64_t head = 0;
    if (stopped_) return;
    if (answers[0].code != Code::kOk) {
      return ReloadEpoch([this, waiters] {
        for (auto& done : std::exchange(waiters->done, {})) Barrier(std::move(done));
      });
    }
    if (!TakeHead(answers.back(), &head)) {
      for (auto& done : std::exchange(waiters->done, {})) Barrier(std::move(done));
      return;
    }
    // What was asked on a session that is gone is asked again on the next, which may be of an older state.
    if (!canaries_.barrier_by_head && WentBack(head, applied)) {
      for (auto& done : std::exchange(waiters->done, {})) done(stopped_because_);
      return;
    }
    confirmed_at_ = began;
    RaiseHead(head);
    WhenApplied(head, [waiters] {
      for (auto& done : std::exchange(waiters->done, {})) done(absl::OkStatus());
    });
    Pump();
    RunBarrier();
  });
}

void LogTail::Read(std::vector<Ask> asks, absl::AnyInvocable<void(std::vector<Answer>)> done) {
  if (stopped_) return;
  std::vector<Ask> all;
  all.reserve(asks.size() + 2);
  const bool proves = next_ > mark_ && !canaries_.trust_any_server;
  if (proves) all.push_back({Ask::Kind::kExists, LogEntryPath(epoch_.segment, next_ - 1), Watch::kNo, 0});
  all.insert(all.end(), asks.begin(), asks.end());
  all.push_back({Ask::Kind::kGet, LogNode(), Watch::kNo, 0});
  reader_.Send(std::move(all), [this, asks = std::move(asks), proves,
                                done = std::move(done)](std::vector<Answer> answers) mutable {
    if (stopped_) return;
    int64_t head = 0;
    // This server does not have yet what is applied here, or has lost something.
    if ((proves && answers[0].code != Code::kOk) || !TakeHead(answers.back(), &head)) {
      return After(kLagging, [this, asks = std::move(asks), done = std::move(done)]() mutable {
        Read(std::move(asks), std::move(done));
      });
    }
    answers.pop_back();
    if (proves) answers.erase(answers.begin());
    RaiseHead(head);
    WhenApplied(
        head, [done = std::move(done), answers = std::move(answers)]() mutable { done(std::move(answers)); });
    Pump();
  });
}

void LogTail::Stop(absl::Status status) {
  if (std::exchange(stopped_, true)) return;
  stopped_because_ = status;
  when_applied_.clear();
  if (waiters_ != nullptr) {
    // Their patience has not ended, and must not tell them again.
    for (auto& done : std::exchange(std::exchange(waiters_, nullptr)->done, {})) done(status);
  }
  if (started_) std::exchange(started_, nullptr)(status);
  listener_->OnStopped(status);
}

}  // namespace stm::zookeeper
