#include "backends/local/log_cursor.h"

#include <string.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "backends/local/line_reader.h"
#include "backends/local/log_format.h"
#include "engine/error.h"
#include "engine/values/edn.h"

namespace stm::local {
namespace {

using engine::CommitRecord;
using engine::EntryChange;
using engine::LogCursor;
using engine::Version;
using Kind = EntryChange::Kind;

absl::Status AtByte(const std::string& path, uint64_t offset, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, " at byte ", offset, ": ", status.message()));
}

// The file's own absence means that it was dropped since the extent was asked.
absl::StatusOr<std::unique_ptr<File>> OpenSegment(Disk* disk, const Segment& segment) {
  absl::StatusOr<std::unique_ptr<File>> file = disk->Open(segment.name);
  if (absl::IsNotFound(file.status())) return engine::LogNotKept(segment.first, segment.first);
  return file;
}

// Was it dropped between a look at the extent and the opening? Then the extent says so now: look again.
// None are there for a moment while another log takes this one's place.
bool DroppedSince(const LogExtent& extent, const Segment& segment, const absl::Status& opened) {
  if (!absl::IsOutOfRange(opened)) return false;
  const std::vector<Segment> segments = extent.Get().segments;
  return segments.empty() || segments.front().first > segment.first;
}

class Cursor : public LogCursor {
 public:
  Cursor(Disk* disk, const LogExtent* extent, Version from, Segment segment, std::unique_ptr<File> file)
      : disk_(disk),
        extent_(extent),
        from_(from),
        segment_(std::move(segment)),
        file_(std::move(file)),
        last_(segment_.before),
        values_(segment_.before == 0) {}

  absl::StatusOr<std::vector<Item>> Next(size_t bytes_max) override {
    std::vector<Item> items;
    size_t bytes = 0;
    for (;;) {
      // What is durable now, and the segment behind this one if there is one.
      const LogExtent::State state = extent_->Get();
      std::optional<Segment> next;
      bool kept = false;
      for (const Segment& segment : state.segments) {
        if (segment.name == segment_.name) {
          segment_.end = segment.end;
          kept = true;
        }
        if (segment.first > segment_.first && !next) next = segment;
      }
      if (!kept) {
        // Dropped since, and so complete before that.
        absl::StatusOr<uint64_t> size = file_->Size();
        if (!size.ok()) return size.status();
        segment_.end = *size;
      }
      LineReader lines(file_.get(), offset_, segment_.end);
      LineReader::Line line;
      for (;;) {
        absl::StatusOr<bool> got = lines.Next(&line);
        if (!got.ok()) return got.status();
        if (!*got) break;
        absl::Status read = Read(line, &items);
        if (!read.ok()) return AtByte(disk_->Path(segment_.name), line.offset, read);
        offset_ = lines.offset();
        if (!items.empty()) bytes += line.text.size();
        if (bytes >= bytes_max) return items;
      }
      // A later segment begins only when this one has all it will ever have.
      if (!next) return items;
      if (last_ < next->before) return engine::LogNotKept(last_ + 1, next->first);
      absl::StatusOr<std::unique_ptr<File>> file = OpenSegment(disk_, *next);
      if (DroppedSince(*extent_, *next, file.status())) continue;
      if (!file.ok()) return file.status();
      file_ = *std::move(file);
      segment_ = *std::move(next);
      offset_ = 0;
      values_.Bound();
    }
  }

 private:
  absl::Status Read(const LineReader::Line& line, std::vector<Item>* items) {
    if (IsBlank(line.text)) return absl::OkStatus();
    std::optional<Trailer> trailer = ReadTrailer(line.text);
    if (!trailer)
      return absl::DataLossError("the line's sum is wrong: it was changed while the daemon ran: stop it");
    absl::StatusOr<LogLine> read = parser_.Parse(line.text.substr(0, trailer->body_size), trailer->hashes);
    if (!read.ok()) return read.status();
    if (read->kind != LogLine::Kind::kCommit) return absl::OkStatus();
    const Version version = read->commit->version;
    absl::StatusOr<Item> item = values_.Replay(std::move(read->commit));
    if (!item.ok()) return item.status();
    last_ = version;
    if (version >= from_) items->push_back(*std::move(item));
    return absl::OkStatus();
  }

  Disk* const disk_;
  const LogExtent* const extent_;
  const Version from_;
  Segment segment_;
  std::unique_ptr<File> file_;
  uint64_t offset_ = 0;  // in the segment
  Version last_;         // read; of a segment not begun: the last before it
  LineParser parser_;
  ReplayedValues values_;
};

}  // namespace

absl::StatusOr<LogCursor::Item> ReplayedValues::Replay(std::shared_ptr<CommitRecord> commit) {
  LogCursor::Item item;
  item.before.resize(commit->changes.size());
  item.before_known.resize(commit->changes.size());
  for (size_t i = 0; i < commit->changes.size(); ++i) {
    EntryChange& change = commit->changes[i];
    auto [at, added] = entries_.try_emplace(change.name);
    Known& known = at->second;
    if (added) bytes_ += change.name.size() + sizeof(*at);
    item.before_known[i] = known.value_known || complete_;
    if (known.value_known) item.before[i] = known.value;
    const bool told = change.kind == Kind::kCreate || change.kind == Kind::kDefine;
    if (told) known.kind = change.entry_kind;
    if (known.kind) change.entry_kind = *known.kind;
    if (change.kind == Kind::kDefine) continue;
    if (change.expected_hash) {
      if (!item.before_known[i]) {
        return absl::DataLossError(
            absl::StrCat("version ", commit->version, ": ", change.name,
                         ": no line before it in this file sets the value that :apply changes"));
      }
      auto applied = engine::Apply(*change.operation, item.before[i]);
      auto* done = std::get_if<engine::Applied>(&applied);
      if (done == nullptr || static_cast<uint32_t>(done->value.hash()) != *change.expected_hash) {
        return absl::DataLossError(absl::StrCat("version ", commit->version, ": ", change.name,
                                                ": the replay of :apply does not give the value it gave"));
      }
      change.value = std::move(done->value);
      change.expected_hash.reset();
    }
    bytes_ -= known.value ? known.value->edn_size() : 0;
    bytes_ += change.value ? change.value->edn_size() : 0;
    known.value = change.value;
    known.value_known = true;
  }
  item.commit = std::move(commit);
  return item;
}

void ReplayedValues::Bound() {
  if (bytes_ <= kCursorValuesBytesMax) return;
  entries_.clear();
  bytes_ = 0;
  complete_ = false;
}

Version SegmentReader::FirstVersion() {
  const LogExtent::State state = extent_->Get();
  if (state.segments.empty() || state.last <= state.segments.front().before) return 0;
  return state.segments.front().first;
}

absl::StatusOr<std::unique_ptr<LogCursor>> SegmentReader::Open(Version from) {
  for (;;) {
    const LogExtent::State state = extent_->Get();
    if (state.segments.empty()) return engine::NotReady("the log is not open yet", absl::Milliseconds(100));
    if (from > 0 && from <= state.segments.front().before && !shorten_) {
      return engine::LogNotKept(from, state.segments.front().first);
    }
    const Segment* segment = &state.segments.front();
    for (const Segment& s : state.segments) {
      if (s.first <= from) segment = &s;
    }
    absl::StatusOr<std::unique_ptr<File>> file = OpenSegment(disk_, *segment);
    if (DroppedSince(*extent_, *segment, file.status())) continue;
    if (!file.ok()) return file.status();
    return std::make_unique<Cursor>(disk_, extent_, from, *segment, *std::move(file));
  }
}

absl::StatusOr<std::vector<LogCursor::Item>> SegmentReader::HistoryOfSegment(const Segment& segment,
                                                                             const std::string& name,
                                                                             Version before) {
  absl::StatusOr<std::unique_ptr<File>> file = OpenSegment(disk_, segment);
  if (!file.ok()) return file.status();
  std::string quoted;
  AppendEdnString(name, &quoted);
  std::vector<LogCursor::Item> items;
  LineParser parser;
  ReplayedValues values(segment.before == 0);
  LineReader lines(file->get(), 0, segment.end);
  LineReader::Line line;
  for (;;) {
    absl::StatusOr<bool> got = lines.Next(&line);
    if (!got.ok()) return got.status();
    if (!*got) return items;
    // A person may have spelled it another way, with a backslash.
    if (memmem(line.text.data(), line.text.size(), quoted.data(), quoted.size()) == nullptr &&
        memmem(line.text.data(), line.text.size(), "\\u", 2) == nullptr) {
      continue;
    }
    std::optional<Trailer> trailer = ReadTrailer(line.text);
    absl::StatusOr<LogLine> read =
        absl::DataLossError("the line's sum is wrong: it was changed while the daemon ran: stop it");
    if (trailer) read = parser.Parse(line.text.substr(0, trailer->body_size), trailer->hashes);
    if (!read.ok()) return AtByte(disk_->Path(segment.name), line.offset, read.status());
    if (read->kind != LogLine::Kind::kCommit) continue;
    if (before > 0 && read->commit->version >= before) return items;
    std::vector<EntryChange>& changes = read->commit->changes;
    changes.erase(std::remove_if(changes.begin(), changes.end(),
                                 [&name](const EntryChange& change) { return change.name != name; }),
                  changes.end());
    if (changes.empty()) continue;
    absl::StatusOr<LogCursor::Item> item = values.Replay(std::move(read->commit));
    if (!item.ok()) return AtByte(disk_->Path(segment.name), line.offset, item.status());
    items.push_back(*std::move(item));
  }
}

absl::StatusOr<std::vector<LogCursor::Item>> SegmentReader::History(const std::string& name, Version before,
                                                                    size_t limit) {
  const LogExtent::State state = extent_->Get();
  std::vector<LogCursor::Item> newest_first;
  // One more than asked for: it tells the value before the last.
  for (size_t i = state.segments.size(); i-- > 0 && newest_first.size() <= limit;) {
    const Segment& segment = state.segments[i];
    if (before > 0 && segment.first >= before) continue;
    absl::StatusOr<std::vector<LogCursor::Item>> found = HistoryOfSegment(segment, name, before);
    if (absl::IsOutOfRange(found.status())) break;  // dropped meanwhile: what is kept was read
    if (!found.ok()) return found.status();
    if (!found->empty() && !newest_first.empty() && !newest_first.back().before_known[0]) {
      // What a definition alone left as it was is as unknown as before.
      for (auto item = found->rbegin(); item != found->rend(); ++item) {
        const EntryChange& change = item->commit->changes[0];
        if (change.kind == Kind::kDefine && !item->before_known[0]) continue;
        newest_first.back().before[0] = change.kind == Kind::kDefine ? item->before[0] : change.value;
        newest_first.back().before_known[0] = true;
        break;
      }
    }
    for (auto item = found->rbegin(); item != found->rend(); ++item) newest_first.push_back(std::move(*item));
  }
  if (newest_first.size() > limit) newest_first.resize(limit);
  return newest_first;
}

}  // namespace stm::local
