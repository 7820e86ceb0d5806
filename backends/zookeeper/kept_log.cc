#include "backends/zookeeper/kept_log.h"

#include <string.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/layout.h"
#include "engine/error.h"
#include "engine/values/edn.h"

namespace stm::zookeeper {
namespace {

using engine::EntryChange;
using engine::LogCursor;
using engine::Version;

LogCursor::Item ItemOf(std::shared_ptr<engine::CommitRecord> commit) {
  LogCursor::Item item;
  for (const EntryChange& change : commit->changes) {
    // A definition leaves the value as it was.
    const bool defines = change.kind == EntryChange::Kind::kDefine && change.whole != nullptr;
    item.before_known.push_back(defines || change.before.has_value());
    item.before.push_back(defines ? change.whole->value : change.before.value_or(std::nullopt));
  }
  item.commit = std::move(commit);
  return item;
}

// Entries, and what they are to be understood by.
struct Read {
  LogPart part;
  Version base = 0;
};

}  // namespace

template <typename T>
absl::StatusOr<T> KeptLog::Await(absl::AnyInvocable<void(absl::AnyInvocable<void(T)>)> ask) {
  struct Slot {
    absl::Notification told;
    absl::StatusOr<T> value =
        engine::NotReady("there is no connection to ZooKeeper", absl::Milliseconds(100));
  };
  auto slot = std::make_shared<Slot>();
  loop_->Post([this, slot, ask = std::move(ask)]() mutable {
    if (!tail_->readable()) return slot->told.Notify();
    ask([slot](T value) {
      slot->value = std::move(value);
      slot->told.Notify();
    });
  });
  if (!slot->told.WaitForNotificationWithTimeout(kPatience)) {
    return engine::NotReady(absl::StrCat("ZooKeeper has not answered for ", absl::FormatDuration(kPatience)),
                            absl::Seconds(1));
  }
  return std::move(slot->value);
}

absl::StatusOr<KeptLog::Oldest> KeptLog::FindOldest() {
  return Await<Oldest>([this](absl::AnyInvocable<void(Oldest)> done) {
    parts_.Find(0, [this, trimmed = tail_->trimmed(), done = std::move(done)](LogPlace place) mutable {
      Found(place, trimmed);
      done({first_.load(), place.position == 0 && tail_->epoch().base == 0});
    });
  });
}

void KeptLog::Found(const LogPlace& oldest, int64_t trimmed) {
  first_.store(oldest.any ? VersionOf(tail_->epoch().base, oldest.zxid, 0) : 0);
  if (oldest.any) trimmed_ = trimmed;
}

Version KeptLog::FirstVersion() {
  loop_->Post([this] {
    if (looking_ || !tail_->readable() || trimmed_ == tail_->trimmed()) return;
    looking_ = true;
    parts_.Find(0, [this, trimmed = tail_->trimmed()](LogPlace place) {
      looking_ = false;
      Found(place, trimmed);
    });
  });
  return first_.load();
}

class KeptLog::Cursor final : public LogCursor {
 public:
  Cursor(KeptLog* log, Version from, int64_t position) : log_(log), from_(from), position_(position) {}

  absl::StatusOr<std::vector<Item>> Next(size_t bytes_max) override {
    std::vector<Item> items;
    for (size_t bytes = 0; bytes < bytes_max;) {
      absl::StatusOr<Read> read =
          log_->Await<Read>([log = log_, position = position_](absl::AnyInvocable<void(Read)> done) {
            LogTail* const tail = log->tail_;
            const int64_t end = tail->next();
            if (position >= end) return done({LogPart{{}, false, position}, tail->epoch().base});
            log->parts_.Read(position, end, [tail, done = std::move(done)](LogPart part) mutable {
              done({std::move(part), tail->epoch().base});
            });
          });
      if (!read.ok()) return read.status();
      if (read->part.lost) {
        const absl::StatusOr<Oldest> oldest = log_->FindOldest();
        if (!oldest.ok()) return oldest.status();
        return engine::LogNotKept(std::max(last_ + 1, from_), oldest->version,
                                  " (--archive-dir keeps all that comes)");
      }
      if (read->part.entries.empty() && read->part.next == position_) break;
      position_ = read->part.next;
      for (const LogEntry& entry : read->part.entries) {
        absl::StatusOr<engine::Batch> commits = CommitsOf(entry, read->base);
        if (!commits.ok()) return commits.status();
        for (std::shared_ptr<engine::CommitRecord>& commit : *commits) {
          last_ = commit->version;
          if (last_ >= from_) items.push_back(ItemOf(std::move(commit)));
        }
        if (!items.empty()) bytes += entry.data.size();
      }
    }
    return items;
  }

 private:
  KeptLog* const log_;
  const Version from_;
  int64_t position_;
  Version last_ = 0;
};

absl::StatusOr<std::unique_ptr<LogCursor>> KeptLog::Open(Version from) {
  const absl::StatusOr<Oldest> oldest = FindOldest();
  if (!oldest.ok()) return oldest.status();
  if (from > 0 && !oldest->of_all && from < oldest->version) {
    return engine::LogNotKept(from, oldest->version, " (--archive-dir keeps all that comes)");
  }
  const absl::StatusOr<LogPlace> place =
      Await<LogPlace>([this, from](absl::AnyInvocable<void(LogPlace)> done) {
        parts_.Find(std::max<Version>(from - tail_->epoch().base, 0) >> kPlaceBits, std::move(done));
      });
  if (!place.ok()) return place.status();
  return std::make_unique<Cursor>(this, from, place->position);
}

absl::StatusOr<std::vector<LogCursor::Item>> KeptLog::History(const std::string& name, Version before,
                                                              size_t limit) {
  const absl::StatusOr<std::vector<LogRange>> ranges =
      Await<std::vector<LogRange>>([this](auto done) { parts_.Look(std::move(done)); });
  if (!ranges.ok()) return ranges.status();
  std::string quoted;
  AppendEdnString(name, &quoted);
  std::vector<LogCursor::Item> items;
  // One more than asked for: it tells the value before the last.
  for (auto range = ranges->rbegin(); range != ranges->rend() && items.size() <= limit; ++range) {
    for (int64_t end = range->end; end > range->first && items.size() <= limit;) {
      const int64_t begin = std::max(range->first, end - LogParts::kEntriesMax);
      absl::StatusOr<Read> read = Await<Read>([this, begin, end](absl::AnyInvocable<void(Read)> done) {
        parts_.Read(begin, end, [this, done = std::move(done)](LogPart part) mutable {
          done({std::move(part), tail_->epoch().base});
        });
      });
      if (!read.ok()) return read.status();
      // Trimmed meanwhile: the rest is what there is, but for what went with it.
      const std::vector<LogEntry>& entries = read->part.entries;
      for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
        if (memmem(entry->data.data(), entry->data.size(), quoted.data(), quoted.size()) == nullptr) continue;
        absl::StatusOr<engine::Batch> commits = CommitsOf(*entry, read->base);
        if (!commits.ok()) return commits.status();
        for (auto commit = commits->rbegin(); commit != commits->rend(); ++commit) {
          if (before > 0 && (*commit)->version >= before) continue;
          std::vector<EntryChange>& changes = (*commit)->changes;
          changes.erase(std::remove_if(changes.begin(), changes.end(),
                                       [&name](const EntryChange& change) { return change.name != name; }),
                        changes.end());
          if (changes.empty()) continue;
          LogCursor::Item item = ItemOf(std::move(*commit));
          if (!items.empty() && !items.back().before_known[0]) {
            const EntryChange& change = item.commit->changes[0];
            const bool defines = change.kind == EntryChange::Kind::kDefine;
            items.back().before_known[0] = !defines || item.before_known[0];
            items.back().before[0] = defines ? item.before[0] : change.value;
          }
          items.push_back(std::move(item));
        }
      }
      end = begin;
    }
  }
  if (items.size() > limit) items.resize(limit);
  return items;
}

}  // namespace stm::zookeeper
