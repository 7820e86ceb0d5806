#include "backends/zookeeper/cleaner.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/layout.h"
#include "backends/zookeeper/turn_text.h"

namespace stm::zookeeper {
namespace {

// Of log entries that are read at once.
constexpr int64_t kReadAtOnce = 32;
// What one sweep takes of names; the multi has each twice, its path being longer.
constexpr size_t kSweptNamesMax = 2000;
constexpr size_t kSweptBytesMax = 128 << 10;
constexpr int64_t kTrimmedAtOnce = 500;
constexpr absl::Duration kLookForWriters = absl::Seconds(30);

}  // namespace

Cleaner::Cleaner(engine::Loop* loop, LogTail* tail, CleanerOptions options, Host* host)
    : loop_(loop), tail_(tail), options_(options), host_(host) {}

void Cleaner::Begin() {
  tasks_.After(options_.every, [this] { Tick(); });
}

void Cleaner::Applied(int64_t position, size_t bytes, bool batch) {
  known_.push_back({position, static_cast<uint32_t>(bytes), batch});
  known_bytes_ += static_cast<int64_t>(bytes);
  while (!known_.empty() && known_.front().position < tail_->trimmed()) {
    known_bytes_ -= known_.front().bytes;
    known_.pop_front();
  }
}

int64_t Cleaner::LogEntries() const {
  if (known_.empty()) return 0;
  const int64_t first = known_.front().position;
  // Those of a segment before are few, or counted when they were read.
  const int64_t before = SegmentOf(first) == SegmentOf(tail_->trimmed()) ? first - tail_->trimmed() : 0;
  return before + static_cast<int64_t>(known_.size());
}

// Of entries from before the start the average.
int64_t Cleaner::LogBytes() const {
  if (known_.empty()) return 0;
  const auto known = static_cast<int64_t>(known_.size());
  return known_bytes_ + (LogEntries() - known) * (known_bytes_ / known);
}

// ---- What there is to do

void Cleaner::Tick() {
  tasks_.After(options_.every, [this] { Tick(); });
  if (busy_ || !host_->Cleans()) return;
  const Epoch& epoch = tail_->epoch();
  if (tail_->trimmed() < epoch.swept) return Trim();
  const bool one = SegmentOf(tail_->trimmed()) == epoch.segment;
  if (one && tail_->next() - FirstOf(epoch.segment) >= options_.segment_entries_max) return NewSegment();
  if (LogBytes() > options_.log_bytes_max) {
    if (const int64_t up_to = UpTo(); up_to > epoch.swept) return Sweep(up_to);
  }
  if (loop_->Now() - looked_for_writers_ >= kLookForWriters) LookForWriters();
}

// The first entry that stays: a quarter more goes than must, and what others still have to read only beyond
// twice the bound.
int64_t Cleaner::UpTo() const {
  const int64_t bytes = LogBytes();
  const int64_t read = bytes > 2 * options_.log_bytes_max ? tail_->next() : host_->Read();
  int64_t left = known_bytes_ - options_.log_bytes_max * 3 / 4;  // to go, of what is known
  int64_t batches = std::count_if(known_.begin(), known_.end(), [](const Known& one) { return one.batch; });
  int64_t up_to = known_.front().position;
  for (const Known& one : known_) {
    if (one.batch && batches-- <= options_.log_batches_min) break;
    if (left <= 0) break;
    left -= one.bytes;
    up_to = one.position + 1;
  }
  return std::min(up_to, read);
}

// ---- A sweep

struct Cleaner::Sweeping {
  Epoch epoch;
  int64_t next = 0;  // entry to be read
  int64_t up_to = 0;
  engine::Version floor = 0;  // entries above wait
  engine::Version below = 0;  // the newest version of what was read
  absl::btree_set<std::string> deleted;
  size_t bytes = 0;  // of names
  std::vector<Op> ops;
};

void Cleaner::Sweep(int64_t up_to) {
  busy_ = true;
  auto sweeping = std::make_shared<Sweeping>();
  sweeping->epoch = tail_->epoch();
  sweeping->next = std::max(sweeping->epoch.swept, tail_->trimmed());
  sweeping->up_to = up_to;
  sweeping->floor = LogBytes() > 2 * options_.log_bytes_max ? std::numeric_limits<engine::Version>::max()
                                                            : host_->IdFloor();
  ReadOn(std::move(sweeping));
}

// What the log's entries from the last sweep on have deleted.
void Cleaner::ReadOn(std::shared_ptr<Sweeping> sweeping) {
  const bool full = sweeping->deleted.size() >= kSweptNamesMax || sweeping->bytes >= kSweptBytesMax;
  if (sweeping->next >= sweeping->up_to || full) return LookAtNodes(std::move(sweeping));
  const int64_t segment = SegmentOf(sweeping->next);
  std::vector<Ask> asks;
  for (int64_t position = sweeping->next; position < sweeping->up_to && asks.size() < kReadAtOnce;
       ++position) {
    asks.push_back({Ask::Kind::kGet, LogEntryPath(position), Watch::kNo, 0});
  }
  tail_->Read(std::move(asks), [this, segment, sweeping](std::vector<Answer> answers) {
    for (const Answer& answer : answers) {
      if (answer.code != Code::kOk) {
        // The segment's end, or another daemon was faster.
        if (segment == SegmentOf(sweeping->up_to)) return Idle();
        sweeping->next = FirstOf(segment + 1);
        break;
      }
      const engine::Version newest = VersionOf(sweeping->epoch.base, answer.stat.czxid, kBatchCommitsMax - 1);
      if (newest > sweeping->floor) {
        sweeping->up_to = sweeping->next;
        break;
      }
      sweeping->below = newest;
      ++sweeping->next;
      if (!IsBatch(answer.data)) continue;
      const absl::StatusOr<BatchText> batch = ParseBatch(answer.data);
      if (!batch.ok()) return Idle();  // the tail stops at it, or has read it with another stmd
      for (const auto& commit : batch->commits) {
        for (const engine::EntryChange& change : commit->changes) {
          const bool deletes = change.kind == engine::EntryChange::Kind::kDelete ||
                               change.kind == engine::EntryChange::Kind::kExpire;
          if (deletes && sweeping->deleted.insert(change.name).second) sweeping->bytes += change.name.size();
        }
      }
    }
    ReadOn(sweeping);
  });
}

// Those of them that are tombstones still go.
void Cleaner::LookAtNodes(std::shared_ptr<Sweeping> sweeping) {
  if (sweeping->next <= sweeping->epoch.swept) return Idle();
  std::vector<Ask> asks;
  for (const std::string& name : sweeping->deleted) {
    asks.push_back({Ask::Kind::kGet, NodePath(name), Watch::kNo, 0});
  }
  tail_->Read(asks, [this, asks, sweeping](std::vector<Answer> answers) {
    EpochMove move;
    move.below = sweeping->below;
    std::vector<Op> ops;
    size_t i = 0;
    for (const std::string& name : sweeping->deleted) {
      const Answer& answer = answers[i];
      const std::string& path = asks[i++].path;
      if (answer.code != Code::kOk) continue;
      const absl::StatusOr<engine::ImageEntry> entry = ParseNode(answer.data);
      if (!entry.ok() || entry->value) continue;
      if (VersionOf(sweeping->epoch.base, answer.stat.mzxid, entry->version) > sweeping->below) continue;
      ops.push_back(Op::Delete(path, answer.stat.version));
      move.swept.push_back(name);
    }
    Epoch next = sweeping->epoch;
    next.swept = sweeping->next;
    const auto count = static_cast<int64_t>(move.swept.size());
    Move(sweeping->epoch, next, std::move(ops), std::move(move), [this, count] {
      ++sweeps_;
      swept_ += count;
    });
  });
}

// One multi: the epoch, which everything under way checks, what goes or comes with its move, and the log's
// word of it.
void Cleaner::Move(const Epoch& from, Epoch next, std::vector<Op> ops, EpochMove move,
                   absl::AnyInvocable<void()> done) {
  ops.insert(ops.begin(), Op::Set(kEpochPath, PrintEpoch(next), from.version));
  next.version = from.version + 1;
  move.epoch = next;
  ops.push_back(
      Op::Create(absl::StrCat(LogPath(from.segment), "/e-"), PrintEpochMove(move), Op::Mode::kSequential));
  host_->Multi(std::move(ops), [this, done = std::move(done)](MultiResult result) mutable {
    // Otherwise something was changed meanwhile, or nobody knows: the next look tells.
    if (result.code == Code::kOk) done();
    Idle();
  });
}

// ---- Trimming

void Cleaner::Trim() {
  busy_ = true;
  const Epoch& epoch = tail_->epoch();
  TrimSegment(SegmentOf(std::max(tail_->trimmed(), FirstOf(std::max<int64_t>(epoch.segment - 1, 0)))));
}

// The mark and what is below it go together: the log's end is told from both.
void Cleaner::TrimSegment(int64_t number) {
  AskSegment(number, [this, number](SegmentText text, Stat stat) {
    const std::string path = LogPath(number);
    tail_->Trimmed(FirstOf(number) + text.trimmed);
    const int64_t made = ChildrenMade(stat);
    const int64_t to =
        std::min({tail_->epoch().swept - FirstOf(number), made, text.trimmed + kTrimmedAtOnce});
    const int64_t count = to - text.trimmed;
    std::vector<Op> ops;
    if (text.closed && text.trimmed == made) {
      ops.push_back(Op::Delete(path, stat.version));
    } else if (count <= 0) {
      return Idle();
    } else {
      ops.push_back(Op::Set(path, PrintSegment({to, text.closed}), stat.version));
      for (int64_t index = text.trimmed; index < to; ++index) {
        ops.push_back(Op::Delete(LogEntryPath(FirstOf(number) + index), 0));
      }
    }
    host_->Multi(std::move(ops), [this, number, to, count](MultiResult result) {
      if (result.code != Code::kOk || !host_->Cleans()) return Idle();
      trimmed_ += std::max<int64_t>(count, 0);
      tail_->Trimmed(count > 0 ? FirstOf(number) + to : FirstOf(number + 1));
      if (tail_->trimmed() >= tail_->epoch().swept) return Idle();
      TrimSegment(SegmentOf(tail_->trimmed()));
    });
  });
}

// Not if it is not there.
void Cleaner::AskSegment(int64_t number, absl::AnyInvocable<void(SegmentText, Stat)> done) {
  tail_->Read({{Ask::Kind::kGet, LogPath(number), Watch::kNo, 0}},
              [this, done = std::move(done)](std::vector<Answer> answers) mutable {
                const Answer& answer = answers[0];
                const absl::StatusOr<SegmentText> text = ParseSegment(answer.data);
                if (answer.code != Code::kOk || !text.ok()) return Idle();
                done(*text, answer.stat);
              });
}

void Cleaner::NewSegment() {
  busy_ = true;
  AskSegment(tail_->epoch().segment, [this, from = tail_->epoch()](SegmentText text, Stat stat) {
    Epoch next = from;
    ++next.segment;
    text.closed = true;
    std::vector<Op> ops;
    ops.push_back(Op::Set(LogPath(from.segment), PrintSegment(text), stat.version));
    ops.push_back(Op::Create(LogPath(next.segment), PrintSegment({})));
    Move(from, next, std::move(ops), EpochMove(), [this] { ++segments_; });
  });
}

// ---- Writers

// Those whose daemons ended without a word.
void Cleaner::LookForWriters() {
  busy_ = true;
  looked_for_writers_ = loop_->Now();
  tail_->Read({{Ask::Kind::kChildren, kWritersPath, Watch::kNo, 0}}, [this](std::vector<Answer> answers) {
    Idle();
    absl::flat_hash_map<uint64_t, absl::Duration> gone;
    for (const std::string& name : answers[0].names) {
      uint64_t writer = 0;
      if (!absl::SimpleHexAtoi(name, &writer) || host_->Alive(writer)) continue;
      const auto since = gone_since_.find(writer);
      gone[writer] = since == gone_since_.end() ? loop_->Now() : since->second;
    }
    gone_since_ = std::move(gone);
    for (const auto& [writer, since] : gone_since_) {
      if (loop_->Now() - since < options_.writer_keep) continue;
      busy_ = true;
      return host_->CloseWriter(writer, [this] { Idle(); });
    }
  });
}

}  // namespace stm::zookeeper
