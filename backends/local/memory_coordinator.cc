#include "backends/local/memory_coordinator.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/backup.h"
#include "engine/error.h"

namespace stm::local {

using engine::CommitRecord;
using engine::EntryChange;
using engine::LogCursor;
using engine::Version;
using Kind = EntryChange::Kind;

namespace {

constexpr size_t kCommitBytes = 128;  // of a commit with no changes
constexpr size_t kChangeBytes = 64;

size_t BytesOf(const CommitRecord& commit) {
  size_t bytes = kCommitBytes;
  for (const EntryChange& change : commit.changes) {
    bytes += kChangeBytes + change.name.size() + (change.value ? change.value->edn_size() : 0);
  }
  for (const Value& record : commit.records) bytes += record.edn_size();
  return bytes;
}

}  // namespace

class MemoryCursor : public LogCursor {
 public:
  MemoryCursor(const MemoryCoordinator* log, Version from) : log_(log), next_(from) {}

  absl::StatusOr<std::vector<Item>> Next(size_t bytes_max) override {
    absl::MutexLock hold(&log_->mutex_);
    std::vector<Item> items;
    size_t bytes = 0;
    if (next_ == 0) next_ = log_->first_;
    absl::Status kept = log_->CheckKept(next_);
    if (!kept.ok()) return kept;
    while (next_ < log_->first_ + static_cast<Version>(log_->log_.size()) &&
           (items.empty() || bytes < bytes_max)) {
      const MemoryCoordinator::Kept& one = log_->log_[static_cast<size_t>(next_ - log_->first_)];
      items.push_back(one.item);
      bytes += one.bytes;
      ++next_;
    }
    return items;
  }

 private:
  const MemoryCoordinator* const log_;
  Version next_;
};

void MemoryCoordinator::Recover(engine::Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) {
  sink_ = sink;
  do store_ = loop_->Random();
  while (store_ == 0);
  do writer_ = loop_->Random();
  while (writer_ == 0);
  loop_->Post([recovered = std::move(recovered)]() mutable { recovered(absl::OkStatus()); });
}

void MemoryCoordinator::Keep(const std::shared_ptr<const CommitRecord>& commit) {
  Kept kept;
  kept.item.before.resize(commit->changes.size());
  kept.item.before_known.assign(commit->changes.size(), true);
  kept.bytes = BytesOf(*commit);
  for (size_t i = 0; i < commit->changes.size(); ++i) {
    const EntryChange& change = commit->changes[i];
    auto newest = newest_.find(change.name);
    if (newest != newest_.end()) kept.item.before[i] = newest->second;
    if (change.kind == Kind::kDefine) continue;
    if (change.value) {
      newest_.insert_or_assign(change.name, *change.value);
    } else if (newest != newest_.end()) {
      newest_.erase(newest);
    }
  }
  kept.item.commit = commit;
  bytes_ += kept.bytes;
  log_.push_back(std::move(kept));
  while (bytes_ > static_cast<size_t>(options_.log_bytes) && log_.size() > 1) {
    bytes_ -= log_.front().bytes;
    log_.pop_front();
    ++first_;
  }
}

void MemoryCoordinator::Append(engine::Batch batch, absl::AnyInvocable<void(engine::AppendResult)> done) {
  assert(!batch.empty());
  std::vector<std::shared_ptr<const CommitRecord>> copies;
  for (std::shared_ptr<CommitRecord>& commit : batch) {
    commit->version = next_++;
    // The engine goes on with its own; readers look at this one from other threads.
    copies.push_back(std::make_shared<const CommitRecord>(*commit));
  }
  loop_->Post([this, copies = std::move(copies), done = std::move(done)]() mutable {
    const Version last = copies.back()->version;
    {
      absl::MutexLock hold(&mutex_);
      for (const std::shared_ptr<const CommitRecord>& commit : copies) Keep(commit);
    }
    done(engine::AppendResult());
    answered_ = last;
  });
}

void MemoryCoordinator::Barrier(absl::AnyInvocable<void(absl::StatusOr<Version>)> done) { done(answered_); }

// The log's bound is its bytes alone.
void MemoryCoordinator::Trim(Version id_floor) {}

void MemoryCoordinator::Close(uint64_t writer, absl::AnyInvocable<void(absl::Status)> done) {
  absl::Status status;
  if (writer == writer_) {
    status = absl::FailedPreconditionError("memory: this is the daemon's own writer: its commits are known");
  }
  loop_->Post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
}

class MemoryCoordinator::Intake : public engine::Archive::Intake {
 public:
  explicit Intake(MemoryCoordinator* memory) : memory_(memory) {}
  ~Intake() override { memory_->taking_in_.store(false); }

  absl::Status Add(std::string_view text) override {
    absl::StatusOr<engine::ImagePart> part = reader_.Add(text);
    if (!part.ok()) return part.status();
    parts_.push_back(*std::move(part));
    return absl::OkStatus();
  }
  absl::StatusOr<Version> Check() override {
    absl::Status whole = reader_.Check();
    if (!whole.ok()) return whole;
    return reader_.version();
  }

  const BackupReader& reader() const { return reader_; }
  std::deque<engine::ImagePart>& parts() { return parts_; }

 private:
  MemoryCoordinator* const memory_;
  BackupReader reader_;
  std::deque<engine::ImagePart> parts_;
};

std::unique_ptr<engine::Archive::Printer> MemoryCoordinator::Print(Version version, Instant at) {
  return std::make_unique<BackupPrinter>(store_, version, at);
}

absl::StatusOr<std::unique_ptr<engine::Archive::Intake>> MemoryCoordinator::TakeIn() {
  if (taking_in_.exchange(true)) return OneRestoreAtOnce();
  return std::make_unique<Intake>(this);
}

// A part a task.
void MemoryCoordinator::Install(std::unique_ptr<engine::Archive::Intake> taken,
                                absl::AnyInvocable<void(absl::Status)> done) {
  assert(next_ == 1);
  std::unique_ptr<Intake> intake(static_cast<Intake*>(taken.release()));
  if (!intake->parts().empty()) {
    engine::ImagePart part = std::move(intake->parts().front());
    intake->parts().pop_front();
    {
      absl::MutexLock hold(&mutex_);
      for (const engine::ImageEntry& entry : part.entries) {
        if (entry.value) newest_.insert_or_assign(entry.name, *entry.value);
      }
    }
    sink_->InstallImage(std::move(part));
    return loop_->Post([this, intake = std::move(intake), done = std::move(done)]() mutable {
      Install(std::move(intake), std::move(done));
    });
  }
  const BackupReader& reader = intake->reader();
  const uint64_t old = store_;
  while (store_ == old || store_ == 0) store_ = loop_->Random();
  next_ = reader.version() + 1;
  answered_ = reader.version();
  {
    absl::MutexLock hold(&mutex_);
    first_ = next_;
  }
  sink_->EndImage(reader.version(), reader.at(), reader.id_floor());
  done(absl::OkStatus());
}

absl::Status MemoryCoordinator::CheckKept(Version from) const {
  if (from >= first_) return absl::OkStatus();
  return engine::LogNotKept(from, first_, absl::StrCat(" (--ephemeral keeps log_bytes=", options_.log_bytes, ")"));
}

Version MemoryCoordinator::FirstVersion() {
  absl::MutexLock hold(&mutex_);
  return log_.empty() ? 0 : first_;
}

absl::StatusOr<std::unique_ptr<LogCursor>> MemoryCoordinator::Open(Version from) {
  absl::MutexLock hold(&mutex_);
  absl::Status kept = from == 0 ? absl::OkStatus() : CheckKept(from);
  if (!kept.ok()) return kept;
  return std::make_unique<MemoryCursor>(this, from);
}

absl::StatusOr<std::vector<LogCursor::Item>> MemoryCoordinator::History(const std::string& name,
                                                                        Version before, size_t limit) {
  absl::MutexLock hold(&mutex_);
  std::vector<LogCursor::Item> items;
  for (auto kept = log_.rbegin(); kept != log_.rend() && items.size() < limit; ++kept) {
    const CommitRecord& commit = *kept->item.commit;
    if (before > 0 && commit.version >= before) continue;
    for (size_t i = 0; i < commit.changes.size(); ++i) {
      if (commit.changes[i].name != name) continue;
      auto shown = std::make_shared<CommitRecord>();
      shown->version = commit.version;
      shown->at = commit.at;
      shown->transaction_id = commit.transaction_id;
      shown->meta = commit.meta;
      shown->changes.push_back(commit.changes[i]);
      shown->records = commit.records;
      items.push_back(
          LogCursor::Item{std::move(shown), {kept->item.before[i]}, {kept->item.before_known[i]}});
    }
  }
  return items;
}

}  // namespace stm::local
