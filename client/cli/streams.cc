#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/progress.h"
#include "client/cli/transaction_file.h"
#include "engine/operation.h"
#include "engine/validator.h"
#include "engine/values/edn.h"
#include "stm/v1/common.pb.h"

extern char** environ;

namespace stm::cli {
namespace {

// A stream that broke is opened again for so long, as every stub does.
constexpr absl::Duration kUnavailableWait = absl::Seconds(10);
constexpr absl::Duration kBackoffMin = absl::Milliseconds(20);
constexpr absl::Duration kBackoffMax = absl::Seconds(1);
constexpr int64_t kTailDefault = 10;

// Runs `command` by the shell with `text` on its standard input, to its end.
absl::Status RunCommand(const std::string& command, const std::string& text) {
  int file = memfd_create("stmctl-change", MFD_CLOEXEC);
  if (file < 0) return absl::UnknownError(absl::StrCat("--exec: memfd_create: ", std::strerror(errno)));
  size_t written = 0;
  while (written < text.size()) {
    ssize_t n = write(file, text.data() + written, text.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      int error = errno;
      close(file);
      return absl::UnknownError(absl::StrCat("--exec: write: ", std::strerror(error)));
    }
    written += static_cast<size_t>(n);
  }
  lseek(file, 0, SEEK_SET);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, file, STDIN_FILENO);
  const char* arguments[] = {"sh", "-c", command.c_str(), nullptr};
  pid_t child = 0;
  int error = posix_spawn(&child, "/bin/sh", &actions, nullptr, const_cast<char**>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(file);
  if (error != 0) return absl::UnknownError(absl::StrCat("--exec: /bin/sh: ", std::strerror(error)));
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return absl::UnknownError(absl::StrCat("--exec: waitpid: ", std::strerror(errno)));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  if (WIFEXITED(status)) return absl::UnknownError(absl::StrCat("--exec: the command exited ", WEXITSTATUS(status)));
  return absl::UnknownError(absl::StrCat("--exec: the command died by signal ", WTERMSIG(status)));
}

// Joins the parts of a commit that came in several messages.
class Parts {
 public:
  // True: `whole()` is a commit.
  bool Add(const v1::CommitEvent& part) {
    if (fresh_) {
      whole_ = part;
    } else {
      whole_.MergeFrom(part);  // lists grow; the rest is said again, the same
    }
    fresh_ = !part.more();
    whole_.clear_more();
    return fresh_;
  }
  void Drop() { fresh_ = true; }
  const v1::CommitEvent& whole() const { return whole_; }

 private:
  v1::CommitEvent whole_;
  bool fresh_ = true;
};

// What to do about a stream that ended: again, after a while, or give up.
class Reopen {
 public:
  void Alive() {
    since_ = absl::InfiniteFuture();
    backoff_ = kBackoffMin;
  }
  bool Again(const absl::Status& status, absl::Time deadline) {
    if (since_ == absl::InfiniteFuture()) since_ = absl::Now();
    bool passes = status.code() == absl::StatusCode::kUnavailable;
    if (auto detail = DetailOf(status)) {
      passes = passes || detail->reason() == v1::ERROR_REASON_SLOW_READER || detail->has_retry_after();
    } else {
      passes = passes || status.code() == absl::StatusCode::kInternal ||
               status.code() == absl::StatusCode::kCancelled || status.code() == absl::StatusCode::kUnknown;
    }
    absl::Duration wait = RetryAfter(status).value_or(backoff_);
    backoff_ = std::min(backoff_ * 2, kBackoffMax);
    if (!passes || absl::Now() + wait > std::min(deadline, since_ + kUnavailableWait)) return false;
    absl::SleepFor(wait);
    return true;
  }

 private:
  absl::Time since_ = absl::InfiniteFuture();
  absl::Duration backoff_ = kBackoffMin;
};

class Watcher {
 public:
  Watcher(Shell& shell, const WatchOptions& options) : shell_(shell), options_(options) {
    for (const std::string& one : options.selected) {
      if (one.back() == '/') {
        request_.mutable_selector()->add_prefixes(one);
      } else {
        request_.mutable_selector()->add_names(one);
      }
    }
    request_.set_after_version(options.from);
    request_.set_initial(options.initial);
    request_.set_conflate(options.conflate);
  }

  absl::Status Run() {
    const absl::Time deadline = shell_.StreamDeadline();
    bool opened = false;
    Reopen reopen;
    for (;;) {
      parts_.Drop();
      bool gap = false;
      absl::Status status = shell_.daemon().Watch(request_, deadline, [&](const v1::WatchResponse& response) {
        opened = true;
        reopen.Alive();
        gap = response.has_gap();
        return Take(response);
      });
      if (done_ || !failed_.ok()) return failed_;
      if (gap) continue;
      if (status.ok()) status = absl::UnavailableError("the daemon ended the watch");
      if (!opened || !reopen.Again(status, deadline)) return WithResume(status);
    }
  }

 private:
  // False: the watch ends here.
  bool Take(const v1::WatchResponse& response) {
    switch (response.event_case()) {
      case v1::WatchResponse::kInitial: {
        absl::StatusOr<Fields> fields = EntryFields(shell_.printer(), response.initial(), false);
        if (!fields.ok()) return Fail(fields.status());
        fields->emplace_back("version", Value::Integer(response.initial().version()));
        fields->emplace_back("initial", Value::Boolean(true));
        std::string line = absl::StrCat(response.initial().version(), "  ", response.initial().name(), "  ",
                                        response.initial().has_value() ? ToEdn(*FromInitial(*fields)) : "absent");
        return Show({line}, *fields);
      }
      case v1::WatchResponse::kSynced:
        request_.set_after_version(response.synced());
        done_ = options_.count == 0;
        if (!request_.initial()) return !done_;
        request_.set_initial(false);
        if (!options_.exec.empty()) return !done_;
        return Show({absl::StrCat(response.synced(), "  (what follows is new)")},
                    {{"synced", Value::Integer(response.synced())}}) &&
               !done_;
      case v1::WatchResponse::kProgress:
        request_.set_after_version(std::max(request_.after_version(), response.progress()));
        return true;
      case v1::WatchResponse::kCommit: {
        if (!parts_.Add(response.commit())) return true;
        absl::StatusOr<Fields> fields = CommitFields(shell_.printer(), parts_.whole());
        if (!fields.ok()) return Fail(fields.status());
        absl::StatusOr<std::vector<std::string>> lines = CommitLines(parts_.whole());
        if (!lines.ok()) return Fail(lines.status());
        if (!Show(*lines, *fields)) return false;
        request_.set_after_version(parts_.whole().version());
        done_ = ++commits_ == options_.count;
        return !done_;
      }
      case v1::WatchResponse::kGap: {
        const v1::Gap& gap = response.gap();
        // Mended as every stub does: by what is there now, marked initial.
        request_.set_after_version(0);
        request_.set_initial(true);
        if (!options_.exec.empty()) return true;
        return Show({absl::StrCat(gap.resume_version(), "  (gap: ", gap.reason(), ")")},
                    {{"gap", Value::Integer(gap.resume_version())}, {"reason", Value::String(gap.reason())}});
      }
      default:
        return true;
    }
  }

  static const Value* FromInitial(const Fields& fields) {
    for (const auto& [name, value] : fields) {
      if (name == "value") return &value;
    }
    static const Value nil;
    return &nil;
  }

  bool Show(const std::vector<std::string>& lines, const Fields& fields) {
    if (options_.exec.empty()) {
      shell_.printer().Line(lines, fields);
      absl::Status status = shell_.Flush();
      return status.ok() || Fail(std::move(status));
    }
    Value row = shell_.printer().MapOf(fields);
    std::string text = shell_.globals().output == Output::kJson ? ToJson(row) : ToEdn(row);
    absl::Status status = RunCommand(options_.exec, text + "\n");
    return status.ok() || Fail(WithResume(status));
  }

  bool Fail(absl::Status status) {
    failed_ = std::move(status);
    return false;
  }

  absl::Status WithResume(const absl::Status& status) {
    if (request_.after_version() == 0) return status;
    return absl::Status(status.code(), absl::StrCat(Explain(status), ": resume with --from ", request_.after_version()));
  }

  Shell& shell_;
  const WatchOptions& options_;
  v1::WatchRequest request_;
  Parts parts_;
  int64_t commits_ = 0;
  bool done_ = false;
  absl::Status failed_;
};

class LogFollower {
 public:
  // `take` gets whole commits, in order; false: enough.
  using Take = std::function<bool(const v1::CommitEvent&)>;

  // `rows`: when what is taken is printed.
  LogFollower(Shell& shell, const LogOptions& options, bool records_only, Progress::Rows rows)
      : shell_(shell), rows_(rows) {
    for (const std::string& tag : options.tags) request_.add_tags(tag);
    request_.set_records_only(records_only);
  }

  // Commits from `from` (0: the oldest kept) to `to` (0: the newest), or for ever.
  absl::Status Run(int64_t from, int64_t to, bool follow, absl::Time deadline, const Take& take) {
    request_.set_from_version(from);
    request_.set_to_version(to);
    request_.set_follow(follow);
    bool opened = false;
    bool enough = false;
    Reopen reopen;
    // What is followed has no end to come near to.
    std::optional<Progress> progress;
    if (!follow) progress.emplace(shell_.io(), "log", "commits", 0, rows_);
    int64_t taken = 0;
    for (;;) {
      parts_.Drop();
      absl::Status status = shell_.daemon().ReadLog(request_, deadline, [&](const v1::ReadLogResponse& response) {
        opened = true;
        reopen.Alive();
        if (response.has_opened()) {
          if (from == 0) from = response.opened().first_version();
          if (to == 0) to = response.opened().header().installed_version();
        }
        if (!response.has_commit() || !parts_.Add(response.commit())) return true;
        enough = !take(parts_.whole());
        request_.set_from_version(parts_.whole().version() + 1);
        if (progress) progress->At(++taken, PartOf(parts_.whole().version(), from, to));
        return !enough;
      });
      if (enough) return absl::OkStatus();
      if (status.ok() && !follow) return status;
      if (status.ok()) status = absl::UnavailableError("the daemon ended the log's stream");
      if (!opened || !reopen.Again(status, deadline)) return status;
    }
  }

  int64_t next_version() const { return request_.from_version(); }

 private:
  static std::optional<double> PartOf(int64_t version, int64_t from, int64_t to) {
    if (to <= from) return std::nullopt;
    return static_cast<double>(version - from) / static_cast<double>(to - from);
  }

  Shell& shell_;
  const Progress::Rows rows_;
  v1::ReadLogRequest request_;
  Parts parts_;
};

absl::Status ShowCommit(Shell& shell, const v1::CommitEvent& commit) {
  absl::StatusOr<Fields> fields = CommitFields(shell.printer(), commit);
  if (!fields.ok()) return fields.status();
  absl::StatusOr<std::vector<std::string>> lines = CommitLines(commit);
  if (!lines.ok()) return lines.status();
  shell.printer().Line(*lines, *fields);
  return absl::OkStatus();
}

// The newest `count` commits that pass the tags: read backwards in windows that grow, since the log is read forwards.
absl::StatusOr<std::deque<v1::CommitEvent>> Newest(Shell& shell, const LogOptions& options, int64_t count,
                                                   int64_t* last) {
  absl::StatusOr<v1::GetStatusResponse> status = shell.daemon().GetStatus(shell.CallDeadline());
  if (!status.ok()) return status.status();
  *last = status->header().installed_version();
  const int64_t first = std::max<int64_t>(1, status->log_mark());
  std::deque<v1::CommitEvent> newest;
  if (*last < first) return newest;
  for (int64_t window = std::max<int64_t>(count, 64);; window *= 8) {
    newest.clear();
    int64_t from = window >= *last - first ? first : *last - window + 1;
    LogFollower log(shell, options, false, Progress::Rows::kAtTheEnd);
    absl::Status read = log.Run(from, *last, false, shell.StreamDeadline(), [&](const v1::CommitEvent& commit) {
      newest.push_back(commit);
      if (static_cast<int64_t>(newest.size()) > count) newest.pop_front();
      return true;
    });
    if (!read.ok()) return read;
    if (static_cast<int64_t>(newest.size()) == count || from == first) return newest;
  }
}

}  // namespace

absl::Status Watch(Shell& shell, const WatchOptions& options) {
  if (options.count == 0 && !options.initial) {
    return absl::InvalidArgumentError("watch: --count 0 ends after the entries as they are: give --initial too");
  }
  if (options.initial && options.from != 0) {
    return absl::InvalidArgumentError("watch: --initial begins now, --from at a version: give one of the two");
  }
  for (const std::string& one : options.selected) {
    absl::Status status = !one.empty() && one.back() == '/' ? CheckPrefix(one) : CheckNames({one});
    if (!status.ok()) return status;
  }
  return Watcher(shell, options).Run();
}

absl::Status Wait(Shell& shell, const std::string& name, const std::string& text) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<Value> form = shell.ReadForm(text);
  if (!form.ok()) return form.status();
  const bool absent = IsAbsentWord(*form);
  std::shared_ptr<const engine::Validator> rule;
  if (!absent) {
    absl::StatusOr<std::shared_ptr<const engine::Validator>> parsed = engine::Validator::Parse(*form);
    if (!parsed.ok()) return absl::InvalidArgumentError(absl::StrCat("--is: ", parsed.status().message()));
    rule = *std::move(parsed);
  }
  std::optional<Value> value;
  absl::Status failed;
  bool done = false;
  const auto look = [&](bool has, const v1::Value& message) {
    value.reset();
    if (has) {
      absl::StatusOr<Value> read = ValueOf(message);
      failed = read.status();
      if (!failed.ok()) return false;
      value = *std::move(read);
    }
    done = absent ? !value.has_value() : value.has_value() && !rule->Check(*value).has_value();
    return !done;
  };
  v1::WatchRequest request;
  request.mutable_selector()->add_names(name);
  request.set_initial(true);  // each time it is opened: nothing is missed between
  const absl::Time deadline = shell.StreamDeadline();
  bool opened = false;
  for (Reopen reopen;;) {
    bool initial = false;
    bool gap = false;
    status = shell.daemon().Watch(request, deadline, [&](const v1::WatchResponse& response) {
      opened = true;
      reopen.Alive();
      if (response.has_initial()) {
        initial = response.initial().has_value();
        return look(initial, response.initial().value());
      }
      if (response.event_case() == v1::WatchResponse::kSynced && !initial) return look(false, v1::Value());
      gap = response.has_gap();
      for (const v1::Change& change : response.commit().changes()) {
        if (change.name() == name && !look(change.has_after(), change.after())) return false;
      }
      return true;
    });
    if (!failed.ok()) return failed;
    if (done) {
      if (value) shell.printer().Print(*value);
      return absl::OkStatus();
    }
    if (gap) continue;
    if (status.ok()) status = absl::UnavailableError("the daemon ended the watch");
    if (status.code() == absl::StatusCode::kDeadlineExceeded) {
      return absl::DeadlineExceededError(absl::StrCat(name, ": --timeout has passed, it is ",
                                                      value ? engine::Excerpt(*value) : "absent"));
    }
    if (!opened || !reopen.Again(status, deadline)) return status;
  }
}

absl::Status LogTail(Shell& shell, const LogOptions& options) {
  int64_t shown = 0;
  absl::Status failed;
  auto show = [&](const v1::CommitEvent& commit) {
    failed = ShowCommit(shell, commit);
    if (failed.ok()) failed = shell.Flush();
    return failed.ok() && ++shown != options.limit;
  };
  int64_t from = options.from;
  if (from == 0) {
    int64_t last = 0;
    absl::StatusOr<std::deque<v1::CommitEvent>> newest =
        Newest(shell, options, options.limit == 0 || options.follow ? kTailDefault : options.limit, &last);
    if (!newest.ok()) return newest.status();
    for (const v1::CommitEvent& commit : *newest) {
      if (!show(commit)) return failed;
    }
    if (!options.follow) return absl::OkStatus();
    from = last + 1;
  }
  LogFollower log(shell, options, false, Progress::Rows::kMeanwhile);
  absl::Status status = log.Run(from, 0, options.follow, shell.StreamDeadline(), show);
  if (!failed.ok()) return failed;
  if (status.ok() || log.next_version() == 0) return status;
  return absl::Status(status.code(), absl::StrCat(Explain(status), ": resume with --from ", log.next_version()));
}

absl::Status LogRecords(Shell& shell, const LogOptions& options) {
  int64_t shown = 0;
  absl::Status failed;
  // A commit may have records of other tags beside those asked for.
  auto wanted = [&](const Value& record) {
    if (options.tags.empty() || !record.is(Type::kTagged)) return options.tags.empty();
    return std::any_of(options.tags.begin(), options.tags.end(), [&](const std::string& tag) {
      if (tag.size() > 1 && tag.substr(tag.size() - 2) == ".*") {
        return record.text().compare(0, tag.size() - 1, tag, 0, tag.size() - 1) == 0;
      }
      return record.text() == tag;
    });
  };
  LogFollower log(shell, options, true, Progress::Rows::kMeanwhile);
  absl::Status status =
      log.Run(options.from, 0, options.follow, shell.StreamDeadline(), [&](const v1::CommitEvent& commit) {
        for (const v1::Value& message : commit.records()) {
          absl::StatusOr<Value> record = ValueOf(message);
          if (!record.ok()) {
            failed = record.status();
            return false;
          }
          if (!wanted(*record)) continue;
          shell.printer().Print(*record);
          if (++shown == options.limit) return false;
        }
        if (options.follow) failed = shell.Flush();
        return failed.ok();
      });
  if (!failed.ok()) return failed;
  return status;
}

}  // namespace stm::cli
