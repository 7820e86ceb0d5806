#include "backends/local/seal.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "backends/local/line_reader.h"
#include "backends/local/log_cursor.h"
#include "backends/local/log_format.h"
#include "backends/local/recovery.h"
#include "backends/local/snapshot.h"
#include "engine/operation.h"
#include "engine/values/edn.h"

namespace stm::local {
namespace {

using engine::EntryChange;
using engine::Version;
using Kind = EntryChange::Kind;

constexpr size_t kNotesMax = 100;

// Versions of whole snapshots, ascending, and the log files' own first versions.
struct Directory {
  std::vector<Version> logs;
  std::vector<SnapshotSummary> snapshots;
};

absl::StatusOr<Directory> Look(Disk* disk) {
  absl::StatusOr<std::vector<std::string>> names = disk->List();
  if (!names.ok()) return names.status();
  Directory directory;
  for (const std::string& name : *names) {
    if (std::optional<Version> first = ParseLogName(name)) directory.logs.push_back(*first);
    if (!ParseSnapshotName(name)) continue;
    absl::StatusOr<SnapshotSummary> summary = CheckSnapshot(disk, name);
    if (summary.ok()) {
      directory.snapshots.push_back(*summary);
    } else if (!absl::IsDataLoss(summary.status())) {
      return summary.status();
    }
  }
  std::sort(directory.logs.begin(), directory.logs.end());
  std::sort(directory.snapshots.begin(), directory.snapshots.end(),
            [](const SnapshotSummary& a, const SnapshotSummary& b) { return a.version < b.version; });
  return directory;
}

// The newest commit in a log file; 0: none. Lines that can't be read are passed over.
absl::StatusOr<Version> LastVersion(Disk* disk, const std::string& name) {
  absl::StatusOr<std::unique_ptr<File>> file = disk->Open(name);
  if (!file.ok()) return file.status();
  LineReader lines(file->get());
  LineReader::Line line;
  LineParser parser;
  Version last = 0;
  for (;;) {
    absl::StatusOr<bool> got = lines.Next(&line);
    if (!got.ok()) return got.status();
    if (!*got) return last;
    std::optional<Trailer> trailer = ReadTrailer(line.text);
    if (!trailer) continue;
    std::string_view body = line.text.substr(0, trailer->body_size);
    if (std::optional<Version> version = VersionOf(body)) {
      last = std::max(last, *version);
    } else if (!KindOf(body)) {
      absl::StatusOr<LogLine> read = parser.Parse(body, trailer->hashes);
      if (read.ok() && read->kind == LogLine::Kind::kCommit) last = std::max(last, read->commit->version);
    }
  }
}

absl::StatusOr<std::unique_ptr<File>> CreateAnew(Disk* disk, const std::string& name) {
  absl::Status removed = disk->Remove(name);
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  return disk->Create(name);
}

// Reads one edited segment, line by line, into the text that replaces it.
class Sealing {
 public:
  Sealing(Disk* disk, const std::string& name) : disk_(disk), name_(name) {}

  absl::StatusOr<SealReport> Run();

 private:
  absl::Status Bad(int64_t line, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(disk_->Path(name_), ":", line, ": ", what,
                     ": mend the line (or delete it, if it is what a crash left)"));
  }
  absl::Status Header(int64_t number, const LogLine& line, const std::optional<Trailer>& old,
                      Version* durable);
  absl::Status Commit(int64_t number, const LogLine& line, bool edited, std::vector<uint32_t>* hashes);
  absl::Status ReadLines();
  absl::Status CheckLater();
  absl::Status SetAside();
  void NoteLater(Version version, absl::string_view where, const engine::CommitRecord& commit);
  void Changed(Version version) {
    if (report_.first_changed == 0 || version < report_.first_changed) report_.first_changed = version;
  }

  Disk* const disk_;
  const std::string name_;
  Directory directory_;
  size_t place_ = 0;  // of this file in directory_.logs
  SealReport report_;
  std::string sealed_;
  LineParser parser_;
  Version first_ = 0;
  uint64_t store_ = 0;
  Version last_ = 0;
  Instant last_at_{INT64_MIN, 0};
  absl::flat_hash_map<std::string, std::optional<Value>> values_;
  absl::flat_hash_map<std::string, Version> edited_;  // names in edited lines that no later line set again
};

absl::Status Sealing::Header(int64_t number, const LogLine& line, const std::optional<Trailer>& old,
                             Version* durable) {
  if (number != 1) return Bad(number, "{:stm/log ...} is a file's first line");
  if (ParseLogName(name_) != line.version) {
    return Bad(number, absl::StrCat(":first is ", line.version, ", which the file's name is not"));
  }
  first_ = line.version;
  store_ = line.store;
  for (size_t i = 0; i < directory_.logs.size(); ++i) {
    if (i == place_) continue;
    bool torn = false;
    absl::StatusOr<LogHeaderLine> other = ReadLogHeader(disk_, LogName(directory_.logs[i]), &torn);
    if (other.ok() && other->store != store_) {
      return Bad(number, absl::StrCat(":store is ", Hex(store_), ", in ", LogName(directory_.logs[i]), " ",
                                      Hex(other->store)));
    }
  }
  for (const SnapshotSummary& snapshot : directory_.snapshots) {
    if (snapshot.store != store_) {
      return Bad(number, absl::StrCat(":store is ", Hex(store_), ", in ", SnapshotName(snapshot.version), " ",
                                      Hex(snapshot.store)));
    }
  }
  if (old) {
    *durable = old->durable;
  } else if (place_ > 0) {
    absl::StatusOr<Version> before = LastVersion(disk_, LogName(directory_.logs[place_ - 1]));
    if (!before.ok()) return before.status();
    *durable = *before;
  } else {
    *durable = first_ - 1;
  }
  last_ = *durable;
  return absl::OkStatus();
}

void Sealing::NoteLater(Version version, absl::string_view where, const engine::CommitRecord& commit) {
  if (edited_.empty()) return;
  for (const EntryChange& change : commit.changes) {
    if (change.kind == Kind::kDefine || change.operation != nullptr) continue;
    auto edited = edited_.find(change.name);
    if (edited == edited_.end()) continue;
    if (report_.notes.size() < kNotesMax) {
      report_.notes.push_back(absl::StrCat(change.name, ": edited in version ", edited->second,
                                           ", but version ", version, " (", where, ") writes it again"));
    }
    edited_.erase(edited);
  }
}

absl::Status Sealing::Commit(int64_t number, const LogLine& line, bool edited,
                             std::vector<uint32_t>* hashes) {
  engine::CommitRecord& commit = *line.commit;
  absl::Status checked = CheckCommit(commit);
  if (!checked.ok()) return Bad(number, checked.message());
  if (commit.version <= last_ || commit.version < first_) {
    return Bad(number, absl::StrCat("version ", commit.version, " stands behind ",
                                    std::max(last_, first_ - 1), ": versions never go back"));
  }
  if (place_ + 1 < directory_.logs.size() && commit.version >= directory_.logs[place_ + 1]) {
    return Bad(number, absl::StrCat("version ", commit.version, " belongs into ",
                                    LogName(directory_.logs[place_ + 1])));
  }
  if (commit.at < last_at_) {
    return Bad(number, absl::StrCat(":at is before that of version ", last_, ": times never go back"));
  }
  // A gap: lines may have been taken out here.
  if (commit.version != last_ + 1) Changed(last_ + 1);
  if (edited) Changed(commit.version);
  last_ = commit.version;
  last_at_ = commit.at;
  NoteLater(commit.version, "this file", commit);
  for (EntryChange& change : commit.changes) {
    if (edited) edited_[change.name] = commit.version;
    if (change.kind == Kind::kDefine) continue;
    if (change.operation != nullptr) {
      auto before = values_.find(change.name);
      if (before == values_.end()) {
        return Bad(
            number,
            absl::StrCat(change.name, ": ", ToEdn(ToEdnForm(*change.operation)),
                         " needs the value before it, which no earlier line of this file sets: write the "
                         "value that comes out under :set"));
      }
      auto outcome = engine::Apply(*change.operation, before->second);
      if (auto* rejection = std::get_if<engine::Rejection>(&outcome)) {
        return Bad(number, absl::StrCat(change.name, ": ", rejection->message));
      }
      change.value = std::move(std::get<engine::Applied>(outcome).value);
      hashes->push_back(static_cast<uint32_t>(change.value->hash()));
    }
    values_[change.name] = change.value;
  }
  return absl::OkStatus();
}

absl::Status Sealing::ReadLines() {
  absl::StatusOr<std::unique_ptr<File>> file = disk_->Open(name_);
  if (!file.ok()) return file.status();
  LineReader lines(file->get());
  LineReader::Line line;
  int64_t blank = 0;  // since the last line with anything on it
  for (int64_t number = 1;; ++number) {
    absl::StatusOr<bool> got = lines.Next(&line);
    if (!got.ok()) return got.status();
    if (!*got) break;
    if (IsBlank(line.text)) {
      ++blank;
      continue;
    }
    // Those at the end are prefill.
    report_.blank_lines_dropped += blank;
    blank = 0;

    std::optional<Trailer> old = ReadTrailer(line.text);
    std::string_view body;
    if (old) {
      body = line.text.substr(0, old->body_size);
    } else {
      EdnReader reader(line.text);
      absl::StatusOr<Value> value = reader.Next();
      if (!value.ok()) return Bad(number, value.status().message());
      body = line.text.substr(0, reader.position());
      if (!reader.AtEnd()) return Bad(number, "there is more behind the line's map than a comment");
    }
    absl::StatusOr<LogLine> read = parser_.Parse(body, {}, Hashes::kIgnored);
    if (!read.ok()) return Bad(number, read.status().message());
    if (number == 1 && read->kind != LogLine::Kind::kHeader)
      return Bad(1, "the file does not begin with {:stm/log 1 ...}");

    Version durable = old ? std::min(old->durable, last_) : last_;
    std::vector<uint32_t> hashes;
    absl::Status status;
    if (read->kind == LogLine::Kind::kHeader) status = Header(number, *read, old, &durable);
    if (read->kind == LogLine::Kind::kCommit) {
      if (old && old->durable > last_) Changed(last_ + 1);
      status = Commit(number, *read, !old.has_value(), &hashes);
    }
    if (!status.ok()) return status;
    const size_t begin = sealed_.size();
    // The first bytes of a line are kept as the person wrote them.
    sealed_.append(body.data(), body.size());
    AppendTrailer(begin, durable, hashes, &sealed_);
    std::string_view now = std::string_view(sealed_).substr(begin, sealed_.size() - begin - 1);
    if (now != line.text) ++report_.lines_resealed;
  }
  if (first_ == 0) return Bad(1, "the file is empty: restore a backup");
  return absl::OkStatus();
}

// What the files behind this one say about it.
absl::Status Sealing::CheckLater() {
  report_.replay_to = last_;
  if (place_ + 1 == directory_.logs.size()) {
    // Lines taken off the end leave no other trace.
    for (const SnapshotSummary& snapshot : directory_.snapshots) {
      if (snapshot.version > last_) Changed(last_ + 1);
    }
    return absl::OkStatus();
  }
  bool torn = false;
  const std::string next = LogName(directory_.logs[place_ + 1]);
  absl::StatusOr<LogHeaderLine> header = ReadLogHeader(disk_, next, &torn);
  if (header.ok() && header->before != last_) {
    return absl::InvalidArgumentError(absl::StrCat(
        disk_->Path(name_), ": ends at version ", last_, ", but ", next, " goes on from ", header->before,
        ": keep a line for it, {:version ", header->before, " :at #inst \"...\"} if it shall do nothing"));
  }
  for (size_t i = place_ + 1; i < directory_.logs.size(); ++i) {
    const std::string name = LogName(directory_.logs[i]);
    absl::StatusOr<std::unique_ptr<File>> file = disk_->Open(name);
    if (!file.ok()) return file.status();
    LineReader lines(file->get());
    LineReader::Line line;
    for (;;) {
      absl::StatusOr<bool> got = lines.Next(&line);
      if (!got.ok()) return got.status();
      if (!*got) break;
      std::optional<Trailer> trailer = ReadTrailer(line.text);
      if (!trailer) continue;  // a seal of its own finds it
      std::string_view body = line.text.substr(0, trailer->body_size);
      if (edited_.empty()) {
        if (std::optional<Version> version = VersionOf(body))
          report_.replay_to = std::max(report_.replay_to, *version);
        continue;
      }
      absl::StatusOr<LogLine> read = parser_.Parse(body, trailer->hashes);
      if (!read.ok() || read->kind != LogLine::Kind::kCommit) continue;
      report_.replay_to = std::max(report_.replay_to, read->commit->version);
      NoteLater(read->commit->version, name, *read->commit);
    }
  }
  return absl::OkStatus();
}

// Snapshots that hold what was edited go out of the way; the state must still be rebuilt from what stays.
absl::Status Sealing::SetAside() {
  std::vector<Version> stale;
  Version from = 0;
  for (const SnapshotSummary& snapshot : directory_.snapshots) {
    if (report_.first_changed != 0 && snapshot.version >= report_.first_changed) {
      stale.push_back(snapshot.version);
    } else {
      from = snapshot.version;
    }
  }
  report_.replay_from = from + 1;
  if (stale.empty()) return absl::OkStatus();
  bool torn = false;
  Version before = 0;
  if (place_ > 0) {
    absl::StatusOr<LogHeaderLine> oldest = ReadLogHeader(disk_, LogName(directory_.logs.front()), &torn);
    if (!oldest.ok()) return oldest.status();
    before = oldest->before;
  } else {
    std::optional<Trailer> header = ReadTrailer(std::string_view(sealed_).substr(0, sealed_.find('\n')));
    before = header->durable;
  }
  if (before > from) {
    return absl::FailedPreconditionError(absl::StrCat(
        disk_->Path(name_), ": the edit of version ", report_.first_changed, " makes ",
        SnapshotName(stale.front()),
        " stale, and without it the state can't be rebuilt: the log begins after version ", before,
        from == 0 ? " and there is no older snapshot"
                  : absl::StrCat(" and the older snapshot ends at ", from),
        ": put the older log files back, undo the edit, or make the change with stmctl on the running "
        "daemon"));
  }
  for (Version version : stale) {
    const std::string name = SnapshotName(version);
    absl::StatusOr<std::vector<std::string>> names = disk_->List();
    if (!names.ok()) return names.status();
    std::string aside = absl::StrCat(name, ".stale");
    for (int i = 2; std::find(names->begin(), names->end(), aside) != names->end(); ++i) {
      aside = absl::StrCat(name, ".stale.", i);
    }
    absl::Status renamed = disk_->Rename(name, aside);
    if (!renamed.ok()) return renamed;
    report_.stale.push_back(aside);
  }
  return disk_->SyncDirectory();
}

absl::StatusOr<SealReport> Sealing::Run() {
  absl::Status status = disk_->Lock();
  if (!status.ok()) return status;
  std::optional<Version> first = ParseLogName(name_);
  if (!first) {
    return absl::InvalidArgumentError(absl::StrCat(disk_->Path(name_), ": not a log file's name (",
                                                   LogName(1), "): only log files are sealed"));
  }
  absl::StatusOr<Directory> directory = Look(disk_);
  if (!directory.ok()) return directory.status();
  directory_ = *std::move(directory);
  auto place = std::find(directory_.logs.begin(), directory_.logs.end(), *first);
  if (place == directory_.logs.end()) {
    return absl::NotFoundError(absl::StrCat(disk_->Path(name_), ": there is no such file"));
  }
  place_ = static_cast<size_t>(place - directory_.logs.begin());

  status = ReadLines();
  if (status.ok()) status = CheckLater();
  if (!status.ok()) return status;
  report_.changed = report_.lines_resealed > 0 || report_.blank_lines_dropped > 0;

  // The new text is made first, and takes the file's name last: whatever comes between, no snapshot that is
  // stale and no sealed line are there together.
  const std::string temporary = name_ + kTemporarySuffix;
  if (report_.changed) {
    absl::StatusOr<std::unique_ptr<File>> file = CreateAnew(disk_, temporary);
    if (!file.ok()) return file.status();
    status = (*file)->Write(0, sealed_);
    if (status.ok()) status = (*file)->Sync();
  }
  if (status.ok()) status = SetAside();
  if (status.ok() && report_.changed) status = disk_->Rename(temporary, name_);
  if (status.ok() && report_.changed) status = disk_->SyncDirectory();
  if (!status.ok()) {
    if (report_.changed) disk_->Remove(temporary).IgnoreError();
    return status;
  }
  report_.changed = report_.changed || !report_.stale.empty();
  return report_;
}

// --- Verify ---

absl::Status VerifyLog(Disk* disk, bool newest, VerifyReport::FileReport* report) {
  absl::StatusOr<std::unique_ptr<File>> file = disk->Open(report->name);
  if (!file.ok()) return file.status();
  auto problem = [report](int64_t line, absl::string_view what) {
    report->problem = absl::StrCat("line ", line, ": ", what);
    return absl::OkStatus();
  };
  bool torn_header = false;
  absl::StatusOr<LogHeaderLine> header = ReadLogHeader(disk, report->name, &torn_header);
  if (!header.ok()) {
    report->problem = std::string(header.status().message());
    return absl::OkStatus();
  }
  LineReader lines(file->get());
  LineReader::Line line;
  LineParser parser;
  ReplayedValues values(header->before == 0);
  Version last = header->before;
  int64_t number = 0;
  int64_t bad = 0;  // the first bad line; what follows decides what it is
  std::string why;
  for (;;) {
    absl::StatusOr<bool> got = lines.Next(&line);
    if (!got.ok()) return got.status();
    if (!*got) break;
    ++number;
    if (bad != 0) {
      if (why.empty() && IsBlank(line.text)) continue;
      if (why.empty()) why = "the line is blank and others follow";
      std::optional<Version> durable = DurableProvedBy(line.text);
      if (!newest || (durable && *durable > last)) return problem(bad, why);
      continue;
    }
    if (IsBlank(line.text)) {
      bad = number;
      continue;
    }
    std::optional<Trailer> trailer = ReadTrailer(line.text);
    if (!trailer) {
      bad = number;
      why = "the line's sum is wrong or missing";
      if (!newest) return problem(bad, why);
      std::optional<Version> durable = DurableProvedBy(line.text);
      if (durable && *durable > last) return problem(bad, why);
      continue;
    }
    ++report->lines;
    if (trailer->durable > last) {
      return problem(number, absl::StrCat("version ", trailer->durable,
                                          " was durable before this line, but the lines "
                                          "before it end at ",
                                          last, ": lines are missing"));
    }
    absl::StatusOr<LogLine> read = parser.Parse(line.text.substr(0, trailer->body_size), trailer->hashes);
    if (!read.ok()) return problem(number, read.status().message());
    if (read->kind != LogLine::Kind::kCommit) continue;
    const Version version = read->commit->version;
    if (version <= last || version < header->first) {
      return problem(number,
                     absl::StrCat("version ", version, " stands behind ", last, ": versions never go back"));
    }
    absl::StatusOr<engine::LogCursor::Item> item = values.Replay(std::move(read->commit));
    if (!item.ok()) return problem(number, item.status().message());
    last = version;
    ++report->commits;
    if (report->first == 0) report->first = version;
    report->last = version;
  }
  if (!why.empty()) {
    report->note =
        absl::StrCat("line ", bad, ": ", why, ": the next start cuts it, with what follows, and keeps it in ",
                     report->name, ".torn");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SealReport> Seal(Disk* disk, const std::string& name) { return Sealing(disk, name).Run(); }

absl::StatusOr<VerifyReport> Verify(Disk* disk, std::vector<std::string> names) {
  absl::StatusOr<std::vector<std::string>> all = disk->List();
  if (!all.ok()) return all.status();
  std::string newest;
  for (const std::string& name : *all) {
    if (ParseLogName(name)) newest = std::max(newest, name);
  }
  if (names.empty()) {
    for (const std::string& name : *all) {
      if (ParseLogName(name) || ParseSnapshotName(name)) names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  VerifyReport report;
  Version last = 0;  // of the log file before, if it was verified too
  Version last_first = 0;
  for (const std::string& name : names) {
    VerifyReport::FileReport& file = report.files.emplace_back();
    file.name = name;
    if (ParseSnapshotName(name)) {
      absl::StatusOr<SnapshotSummary> summary = CheckSnapshot(disk, name);
      if (absl::IsNotFound(summary.status())) return summary.status();
      if (summary.ok()) {
        file.first = file.last = summary->version;
        file.lines = summary->entries + summary->ids + 2;
      } else {
        file.problem = std::string(summary.status().message());
      }
      continue;
    }
    if (!ParseLogName(name)) {
      file.problem =
          absl::StrCat("not the name of a log file (", LogName(1), ") or snapshot (", SnapshotName(1), ")");
      continue;
    }
    absl::Status status = VerifyLog(disk, name == newest, &file);
    if (!status.ok()) return status;
    bool torn = false;
    absl::StatusOr<LogHeaderLine> header = ReadLogHeader(disk, name, &torn);
    if (file.problem.empty() && header.ok() && last_first != 0 && header->before > last) {
      file.problem = absl::StrCat("line 1: goes on from version ", header->before,
                                  ", but the file before it ends at ", last);
    }
    last_first = *ParseLogName(name);
    last = file.last != 0 ? file.last : header.ok() ? header->before : 0;
  }
  return report;
}

absl::StatusOr<std::vector<std::string>> Drop(Disk* disk, std::vector<std::string> names) {
  absl::Status status = disk->Lock();
  if (!status.ok()) return status;
  absl::StatusOr<Directory> directory = Look(disk);
  if (!directory.ok()) return directory.status();
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (size_t i = 0; i < names.size(); ++i) {
    std::optional<Version> first = ParseLogName(names[i]);
    if (!first ||
        std::find(directory->logs.begin(), directory->logs.end(), *first) == directory->logs.end()) {
      return absl::NotFoundError(absl::StrCat(disk->Path(names[i]), ": there is no such log file"));
    }
    if (*first != directory->logs[i]) {
      return absl::FailedPreconditionError(
          absl::StrCat("drop ", names[i], ": ", LogName(directory->logs[i]),
                       " is older and is not named: a log has no holes: name it too"));
    }
  }
  if (names.empty()) return names;
  if (names.size() == directory->logs.size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "drop ", names.back(), ": it is the newest log file, which the daemon goes on with: leave it"));
  }
  if (directory->snapshots.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("drop ", names.back(),
                     ": there is no whole snapshot, so all of the log is needed: let the daemon write one"));
  }
  const SnapshotSummary& newest = directory->snapshots.back();
  bool torn = false;
  absl::StatusOr<LogHeaderLine> next = ReadLogHeader(disk, LogName(directory->logs[names.size()]), &torn);
  if (!next.ok()) return next.status();
  const Version kept_from = std::min(newest.version, newest.id_floor);
  if (next->before > kept_from) {
    return absl::FailedPreconditionError(absl::StrCat(
        "drop ", names.back(), ": it goes up to version ", next->before, "; needed is all above ", kept_from,
        next->before > newest.version ? ", the newest snapshot's version" : ", the floor of ids",
        ": name older files only, or wait for a newer snapshot"));
  }
  for (const std::string& name : names) {
    status = RemoveDurably(disk, name);
    if (!status.ok()) return status;
  }
  return names;
}

}  // namespace stm::local
