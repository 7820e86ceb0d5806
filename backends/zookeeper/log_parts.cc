#include "backends/zookeeper/log_parts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/layout.h"
#include "backends/zookeeper/turn_text.h"

namespace stm::zookeeper {
namespace {

// A server that does not show what is there is asked again after this.
constexpr absl::Duration kAgain = absl::Milliseconds(5);

}  // namespace

absl::StatusOr<engine::Batch> CommitsOf(const LogEntry& entry, engine::Version base) {
  if (entry.data.empty()) return engine::Batch();
  absl::StatusOr<BatchText> batch = ParseBatch(entry.data);
  if (!batch.ok()) {
    return absl::Status(batch.status().code(),
                        absl::StrCat(LogEntryPath(entry.position), ": ", batch.status().message()));
  }
  for (const auto& commit : batch->commits) commit->version = VersionOf(base, entry.zxid, commit->version);
  return std::move(batch->commits);
}

int64_t NextOf(int64_t position, const Epoch& moved_to) {
  return moved_to.segment > SegmentOf(position) ? FirstOf(moved_to.segment) : position + 1;
}

void LogParts::Read(int64_t position, int64_t end, absl::AnyInvocable<void(LogPart)> done) {
  const int64_t number = SegmentOf(position);
  const int64_t last = std::min({end, FirstOf(number + 1), position + kEntriesMax});
  std::vector<Ask> asks;
  for (int64_t at = position; at < last; ++at) {
    asks.push_back({Ask::Kind::kGet, LogEntryPath(at), Watch::kNo, 0});
  }
  asks.push_back({Ask::Kind::kGet, LogPath(number), Watch::kNo, 0});
  tail_->Read(std::move(asks),
              [this, number, position, end, done = std::move(done)](std::vector<Answer> answers) mutable {
                const Answer segment = std::move(answers.back());
                answers.pop_back();
                LogPart part;
                part.next = position;
                for (Answer& answer : answers) {
                  if (answer.code != Code::kOk || SegmentOf(part.next) != number) break;
                  LogEntry& entry = part.entries.emplace_back();
                  entry.position = part.next;
                  entry.next = part.next + 1;
                  entry.zxid = answer.stat.czxid;
                  if (IsBatch(answer.data)) {
                    entry.data = std::move(answer.data);
                  } else if (const absl::StatusOr<EpochMove> move = ParseEpochMove(answer.data); move.ok()) {
                    entry.next = NextOf(entry.position, move->epoch);
                  }
                  part.next = entry.next;
                }
                if (!part.entries.empty() || position >= end) return done(std::move(part));
                const absl::StatusOr<SegmentText> text = ParseSegment(segment.data);
                if (segment.code == Code::kNoNode && number < tail_->epoch().segment) {
                  part.lost = true;
                  part.next = FirstOf(number + 1);
                  return done(std::move(part));
                }
                if (segment.code == Code::kOk && text.ok()) {
                  if (position < FirstOf(number) + text->trimmed) {
                    part.lost = true;
                    part.next = FirstOf(number) + text->trimmed;
                    return done(std::move(part));
                  }
                  if (text->closed && position >= FirstOf(number) + ChildrenMade(segment.stat)) {
                    part.next = FirstOf(number + 1);
                    return done(std::move(part));
                  }
                }
                // It is there, by a quorum's word, and this server has lost it.
                tail_->LeaveServer();
                tasks_.After(kAgain, [this, position, end, done = std::move(done)]() mutable {
                  Read(position, end, std::move(done));
                });
              });
}

void LogParts::Look(absl::AnyInvocable<void(std::vector<LogRange>)> done) {
  const int64_t newest = tail_->epoch().segment;
  std::vector<Ask> asks;
  for (int64_t number = std::max<int64_t>(newest - 1, 0); number <= newest; ++number) {
    asks.push_back({Ask::Kind::kGet, LogPath(number), Watch::kNo, 0});
  }
  tail_->Read(std::move(asks), [this, newest, done = std::move(done)](std::vector<Answer> answers) mutable {
    std::vector<LogRange> ranges;
    int64_t number = newest - static_cast<int64_t>(answers.size()) + 1;
    for (const Answer& answer : answers) {
      const int64_t first = FirstOf(number++);
      const absl::StatusOr<SegmentText> text = ParseSegment(answer.data);
      if (answer.code != Code::kOk || !text.ok()) continue;
      const int64_t made = first + ChildrenMade(answer.stat);
      ranges.push_back({first + text->trimmed, std::min(made, tail_->next())});
    }
    // The log has moved on meanwhile.
    if (newest != tail_->epoch().segment || ranges.empty() || SegmentOf(ranges.back().end) != newest) {
      return tasks_.After(kAgain, [this, done = std::move(done)]() mutable { Look(std::move(done)); });
    }
    done(std::move(ranges));
  });
}

// Entries by how many kept ones are before them.
struct LogParts::Finding {
  int64_t zxid = 0;
  absl::AnyInvocable<void(LogPlace)> done;
  std::vector<LogRange> ranges;
  int64_t low = 0;   // those below are older
  int64_t high = 0;  // this one is not, or there are no more
  int64_t kept = 0;  // those below were trimmed meanwhile
  LogPlace place;

  int64_t PositionOf(int64_t index) const {
    for (const LogRange& range : ranges) {
      if (index < range.end - range.first) return range.first + index;
      index -= range.end - range.first;
    }
    return ranges.back().end;
  }
};

void LogParts::Find(int64_t zxid, absl::AnyInvocable<void(LogPlace)> done) {
  auto finding = std::make_shared<Finding>();
  finding->zxid = zxid;
  finding->done = std::move(done);
  Look([this, finding](std::vector<LogRange> ranges) {
    finding->ranges = std::move(ranges);
    for (const LogRange& range : finding->ranges) finding->high += range.end - range.first;
    finding->place.position = finding->ranges.back().end;
    FindOn(finding);
  });
}

void LogParts::FindOn(std::shared_ptr<Finding> finding) {
  const int64_t left = finding->high - finding->low;
  if (left <= 0) {
    finding->place.oldest = finding->high <= finding->kept;
    return finding->done(finding->place);
  }
  // The oldest of all is the first.
  const int64_t count = finding->zxid <= 0 ? 1 : std::min(left, kEntriesMax);
  std::vector<int64_t> probes;
  std::vector<Ask> asks;
  for (int64_t i = 0; i < count; ++i) {
    probes.push_back(finding->low + left / count * i + left % count * i / count);
    asks.push_back({Ask::Kind::kExists, LogEntryPath(finding->PositionOf(probes.back())), Watch::kNo, 0});
  }
  tail_->Read(std::move(asks), [this, finding, probes = std::move(probes)](std::vector<Answer> answers) {
    for (size_t i = 0; i < probes.size(); ++i) {
      if (answers[i].code == Code::kOk && answers[i].stat.czxid >= finding->zxid) {
        finding->high = probes[i];
        finding->place.any = true;
        finding->place.position = finding->PositionOf(probes[i]);
        finding->place.zxid = answers[i].stat.czxid;
        break;
      }
      finding->low = probes[i] + 1;
      if (answers[i].code != Code::kOk) finding->kept = finding->low;
    }
    FindOn(finding);
  });
}

}  // namespace stm::zookeeper
