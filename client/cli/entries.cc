#include <istream>
#include <ostream>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/held.h"
#include "client/cli/progress.h"
#include "client/cli/transaction_file.h"
#include "engine/operation.h"
#include "engine/values/edn.h"
#include "engine/values/wire.h"
#include "stm/v1/common.pb.h"

namespace stm::cli {
namespace {

// Deletes of one commit: far below the daemon's transaction_entries_max, and quick to answer.
constexpr int kDeleteBatch = 1000;

absl::Status Absent(const std::vector<std::string>& names) {
  return absl::NotFoundError(absl::StrCat(absl::StrJoin(names, ", "), ": absent: see what is there with: stmctl list /"));
}

absl::Status PrintVersion(Shell& shell, const v1::Committed& committed) {
  shell.printer().Print(Value::Integer(committed.version()));
  return shell.Flush();
}

v1::CommitRequest After(int64_t snapshot, const std::vector<std::string>& reads) {
  v1::CommitRequest request;
  request.set_snapshot(snapshot);
  for (const std::string& name : reads) request.add_reads(name);
  return request;
}

void SetDuration(absl::Duration duration, google::protobuf::Duration* message) {
  int64_t ns = absl::ToInt64Nanoseconds(duration);
  message->set_seconds(ns / 1000000000);
  message->set_nanos(static_cast<int32_t>(ns % 1000000000));
}

// Changes the definition of an entry that is there.
absl::Status Define(Shell& shell, const std::string& name, const std::function<void(v1::Definition*)>& change) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<v1::Committed> committed = shell.Transact([&]() -> absl::StatusOr<v1::CommitRequest> {
    absl::StatusOr<v1::GetRefsResponse> read = shell.Read({name}, "", true);
    if (!read.ok()) return read.status();
    const v1::Entry& entry = read->entries(0);
    if (!entry.has_value()) return Absent({name});
    v1::CommitRequest request = After(read->snapshot(), {name});
    v1::Write* write = request.add_writes();
    write->set_name(name);
    write->set_kind(entry.kind());
    *write->mutable_define() = entry.definition();
    change(write->mutable_define());
    return request;
  });
  if (!committed.ok()) return committed.status();
  return PrintVersion(shell, *committed);
}

// What Set does beside its options' words.
struct SetParts {
  Value value;
  std::optional<absl::Duration> ttl;
  std::optional<v1::Fence> fence;
  std::string session_id;  // "": bound to none
  std::string container;   // "": not asked
};

void DefineBy(const SetParts& parts, v1::Definition* definition) {
  if (parts.ttl) SetDuration(*parts.ttl, definition->mutable_ttl());
  if (!parts.session_id.empty()) definition->set_session_id(parts.session_id);
  if (!parts.container.empty()) definition->set_container(parts.container);
}

// Which is fixed at creation.
absl::Status CheckContainer(const v1::Entry& entry, const std::string& asked) {
  const std::string& is = entry.definition().container();
  const std::string found = is.empty() ? "inline" : is;
  if (asked.empty() || found == asked) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(entry.name(), ": is kept in ", found, ", not in ", asked,
                   ": that is fixed at creation: set it without --container, or delete it and create it again"));
}

// Set with what must be read first: the version there, or the definition that changes.
absl::StatusOr<v1::Committed> SetAfterRead(Shell& shell, const SetOptions& options, const SetParts& parts) {
  return shell.Transact([&]() -> absl::StatusOr<v1::CommitRequest> {
    absl::StatusOr<v1::GetRefsResponse> read = shell.Read({options.name}, "", true);
    if (!read.ok()) return read.status();
    const v1::Entry& entry = read->entries(0);
    if (options.if_absent && entry.has_value()) {
      return absl::AbortedError(absl::StrCat(options.name, ": is there since version ", entry.version(),
                                             ", expected absent: nothing was committed"));
    }
    if (options.if_version != 0 && (!entry.has_value() || entry.version() != options.if_version)) {
      std::string found = entry.has_value() ? absl::StrCat("at version ", entry.version()) : "absent";
      return absl::AbortedError(absl::StrCat(options.name, ": is ", found, ", expected version ", options.if_version,
                                             ": nothing was committed: read it again"));
    }
    if (entry.has_value()) {
      absl::Status same = CheckContainer(entry, parts.container);
      if (!same.ok()) return same;
    }
    v1::CommitRequest request = After(read->snapshot(), {options.name});
    v1::Write* write = request.add_writes();
    write->set_name(options.name);
    write->set_kind(entry.has_value() ? entry.kind() : v1::ENTRY_KIND_REF);
    ToProto(parts.value, write->mutable_set());
    if (parts.fence) *request.add_fences() = *parts.fence;
    if (!entry.has_value()) {
      DefineBy(parts, write->mutable_definition());
      return request;
    }
    if (!parts.ttl && parts.session_id.empty()) return request;
    v1::Write* define = request.add_writes();
    define->set_name(options.name);
    define->set_kind(entry.kind());
    *define->mutable_define() = entry.definition();
    DefineBy(parts, define->mutable_define());
    return request;
  });
}

absl::StatusOr<v1::Committed> SetOnce(Shell& shell, const SetOptions& options, const SetParts& parts) {
  if (options.if_version != 0 || options.if_absent || parts.ttl || !parts.session_id.empty() ||
      !parts.container.empty()) {
    return SetAfterRead(shell, options, parts);
  }
  v1::Write write;
  write.set_name(options.name);
  ToProto(parts.value, write.mutable_set());
  return shell.CommitEither(std::move(write), parts.fence);
}

// "/nightly:42".
absl::StatusOr<v1::Fence> FenceOf(const std::string& text) {
  const size_t colon = text.rfind(':');
  v1::Fence fence;
  int64_t token = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(text.substr(colon + 1), &token) || token <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--fence ", text,
                     ": expected a lock and its token, as /nightly:42 or \"$STM_LOCK:$STM_LOCK_TOKEN\""));
  }
  fence.set_lock(text.substr(0, colon));
  fence.set_token(token);
  absl::Status status = CheckNames({fence.lock()});
  if (!status.ok()) return status;
  return fence;
}

absl::Status CheckEphemeral(const SetOptions& options) {
  if (options.ephemeral) return CheckRun(options.run);
  if (!options.run.command.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("one argument too many: ", options.run.command.front(),
                                                   ": a command is run with --ephemeral"));
  }
  return absl::OkStatus();
}

// The entry is there as long as this is: until the command ends, or without one a signal comes (`*signal`).
absl::Status SetPresent(Shell& shell, const SetOptions& options, SetParts parts, int* signal) {
  absl::Duration ttl;
  if (!options.session_ttl.empty()) {
    absl::StatusOr<absl::Duration> given = ReadDuration(options.session_ttl, "--session-ttl");
    if (!given.ok()) return given.status();
    ttl = *given;
  }
  absl::StatusOr<Client> client = shell.NewClient(ttl);
  if (!client.ok()) return client.status();
  absl::StatusOr<Session> session = client->OpenSession();
  if (!session.ok()) return session.status();
  Signals signals;
  parts.session_id = session->id();
  absl::StatusOr<v1::Committed> committed = SetOnce(shell, options, parts);
  if (!committed.ok()) return committed.status();
  absl::Status status = PrintVersion(shell, *committed);
  if (!status.ok()) return status;
  if (!options.run.command.empty()) {
    const Tenure tenure{options.name, [&] { return session->lost(); }, {}};
    absl::StatusOr<int> exit = RunFor(shell, signals, tenure, options.run);
    if (!exit.ok()) return exit.status();
    shell.PassOn(*exit);
    return absl::OkStatus();
  }
  constexpr absl::Duration kLookEvery = absl::Milliseconds(100);
  while (*signal == 0) {
    if (session->lost()) return TenureLost(options.name, "it is deleted, or will be: set it again");
    *signal = EndingSignal(signals, kLookEvery);
  }
  return absl::OkStatus();
}

// Refs of one batch in one commit; an atom changes alone.
absl::Status DeleteBatch(Shell& shell, const v1::ListRefsResponse& page, Progress& progress, int64_t* deleted,
                         int64_t* version) {
  v1::CommitRequest refs;
  std::vector<v1::CommitRequest> requests;
  for (const v1::Entry& entry : page.entries()) {
    bool atom = entry.kind() == v1::ENTRY_KIND_ATOM;
    v1::Write* write = atom ? requests.emplace_back().add_writes() : refs.add_writes();
    write->set_name(entry.name());
    write->set_kind(entry.kind());
    write->set_delete_entry(true);
  }
  if (refs.writes_size() > 0) requests.push_back(std::move(refs));
  for (v1::CommitRequest& request : requests) {
    int count = request.writes_size();
    absl::StatusOr<v1::Committed> committed = shell.Commit(std::move(request));
    if (!committed.ok()) {
      absl::Status status = committed.status();
      absl::Status told(status.code(), absl::StrCat(Explain(status), " (", *deleted, " entries are deleted)"));
      return told;
    }
    *deleted += count;
    *version = committed->version();
    progress.At(*deleted);
  }
  return absl::OkStatus();
}

absl::Status DeletePrefix(Shell& shell, const DeleteOptions& options) {
  absl::Status status = CheckPrefix(options.prefix);
  if (!status.ok()) return status;
  v1::ListRefsRequest request;
  request.set_prefix(options.prefix);
  if (!options.yes && !shell.io().in_is_terminal) {
    return absl::InvalidArgumentError("delete --prefix: nobody is there to confirm: add --yes");
  }
  int64_t of = 0;
  if (!options.yes || shell.io().err_is_terminal) {
    request.set_count_only(true);
    absl::StatusOr<v1::ListRefsResponse> counted = shell.daemon().ListRefs(request, shell.CallDeadline());
    if (!counted.ok()) return counted.status();
    of = counted->count();
    request.set_count_only(false);
  }
  if (!options.yes) {
    shell.io().err << "delete " << of << " entries under " << options.prefix << "? [y/N] " << std::flush;
    std::string answer;
    std::getline(shell.io().in, answer);
    if (answer != "y" && answer != "Y" && answer != "yes") return absl::CancelledError("delete: not confirmed");
  }
  // One snapshot's entries: what others create meanwhile stays.
  request.set_names_only(true);
  request.set_page_size(kDeleteBatch);
  Progress progress(shell.io(), "delete", "entries", of);
  int64_t deleted = 0;
  int64_t version = 0;
  for (;;) {
    absl::StatusOr<v1::ListRefsResponse> page = shell.daemon().ListRefs(request, shell.CallDeadline());
    if (!page.ok()) return page.status();
    status = DeleteBatch(shell, *page, progress, &deleted, &version);
    if (!status.ok()) return status;
    if (page->next_page_token().empty()) break;
    request.set_page_token(page->next_page_token());
  }
  Fields row{{"deleted", Value::Integer(deleted)}};
  if (version != 0) row.emplace_back("version", Value::Integer(version));
  shell.printer().Row(row);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Value>> ResultOf(const v1::Committed& committed, int write) {
  if (write >= committed.results_size() || committed.results(write).kind_case() == v1::Value::KIND_NOT_SET) {
    return std::optional<Value>();
  }
  absl::StatusOr<Value> value = ValueOf(committed.results(write));
  if (!value.ok()) return value.status();
  return std::optional<Value>(*std::move(value));
}

absl::StatusOr<engine::Operation> OperationOf(Shell& shell, const std::string& text) {
  absl::StatusOr<Value> form = shell.ReadForm(text);
  if (!form.ok()) return form.status();
  absl::StatusOr<engine::Operation> operation = engine::OperationFromEdnForm(*form);
  if (operation.ok()) return operation;
  return absl::InvalidArgumentError(absl::StrCat("operation: ", operation.status().message()));
}

}  // namespace

absl::Status Get(Shell& shell, const GetOptions& options) {
  absl::Status status = CheckNames(options.names);
  if (!status.ok()) return status;
  absl::StatusOr<v1::GetRefsResponse> read = shell.Read(options.names, options.at, options.meta);
  if (!read.ok()) return read.status();
  std::vector<std::string> absent;
  const bool alone = options.names.size() == 1 && !options.meta;
  for (const v1::Entry& entry : read->entries()) {
    if (!entry.has_value()) {
      absent.push_back(entry.name());
      if (alone) continue;
    }
    if (alone) {
      absl::StatusOr<Value> value = ValueOf(entry.value());
      if (!value.ok()) return value.status();
      shell.printer().Print(*value);
      continue;
    }
    absl::StatusOr<Fields> fields = EntryFields(shell.printer(), entry, options.meta);
    if (!fields.ok()) return fields.status();
    // raw: a line a name, its value alone; absent ones leave theirs empty.
    if (shell.printer().output() == Output::kRaw && !options.meta) fields->erase(fields->begin());
    shell.printer().Row(*fields);
  }
  return absent.empty() ? absl::OkStatus() : Absent(absent);
}

absl::Status Set(Shell& shell, const SetOptions& options) {
  absl::Status status = CheckNames({options.name});
  if (status.ok()) status = CheckEphemeral(options);
  if (!status.ok()) return status;
  SetParts parts;
  parts.container = options.container;
  absl::StatusOr<Value> value = shell.ReadValue(options.value);
  if (!value.ok()) return value.status();
  parts.value = *std::move(value);
  if (!options.ttl.empty()) {
    absl::StatusOr<absl::Duration> duration = ReadDuration(options.ttl, "--ttl");
    if (!duration.ok()) return duration.status();
    parts.ttl = *duration;
  }
  if (!options.fence.empty()) {
    absl::StatusOr<v1::Fence> fence = FenceOf(options.fence);
    if (!fence.ok()) return fence.status();
    parts.fence = *std::move(fence);
  }
  if (options.ephemeral) {
    int signal = 0;
    status = SetPresent(shell, options, std::move(parts), &signal);
    if (signal != 0) EndBy(signal);  // the entry is gone by now
    return status;
  }
  absl::StatusOr<v1::Committed> committed = SetOnce(shell, options, parts);
  if (!committed.ok()) return committed.status();
  return PrintVersion(shell, *committed);
}

absl::Status ApplyOperation(Shell& shell, const std::string& name, const std::string& text) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<engine::Operation> operation = OperationOf(shell, text);
  if (!operation.ok()) return operation.status();
  v1::Write write;
  write.set_name(name);
  engine::ToProto(*operation, write.mutable_apply());
  absl::StatusOr<v1::Committed> committed = shell.CommitEither(std::move(write));
  if (!committed.ok()) return committed.status();
  absl::StatusOr<std::optional<Value>> result = ResultOf(*committed, 0);
  if (!result.ok()) return result.status();
  if (*result) {
    shell.printer().Print(**result);
  } else {
    shell.io().err << "stmctl: apply: committed at version " << committed->version()
                   << ", but its result was not kept while the commit was sent again\n";
  }
  return shell.Flush();
}

absl::Status Delete(Shell& shell, const DeleteOptions& options) {
  if (options.names.empty() == options.prefix.empty()) {
    return absl::InvalidArgumentError("delete: give names, or --prefix P/, one of the two");
  }
  if (!options.prefix.empty()) return DeletePrefix(shell, options);
  absl::Status status = CheckNames(options.names);
  if (!status.ok()) return status;
  std::set<std::string> once(options.names.begin(), options.names.end());
  const std::vector<std::string> names(once.begin(), once.end());
  absl::StatusOr<v1::Committed> committed = shell.Transact([&]() -> absl::StatusOr<v1::CommitRequest> {
    absl::StatusOr<v1::GetRefsResponse> read = shell.Read(names, "", false);
    if (!read.ok()) return read.status();
    v1::CommitRequest request = After(read->snapshot(), names);
    std::vector<std::string> absent;
    for (const v1::Entry& entry : read->entries()) {
      if (!entry.has_value()) absent.push_back(entry.name());
      v1::Write* write = request.add_writes();
      write->set_name(entry.name());
      write->set_kind(entry.kind());
      write->set_delete_entry(true);
    }
    if (!absent.empty()) return Absent(absent);
    return request;
  });
  if (!committed.ok()) return committed.status();
  return PrintVersion(shell, *committed);
}

absl::Status List(Shell& shell, const ListOptions& options) {
  absl::Status status = CheckPrefix(options.prefix);
  if (!status.ok()) return status;
  v1::ListRefsRequest request;
  request.set_prefix(options.prefix);
  status = ReadPointOf(options.at, request.mutable_at());
  if (!status.ok()) return status;
  request.set_count_only(options.count);
  request.set_names_only(!options.values);
  Progress progress(shell.io(), "list", "entries", 0,
                    shell.printer().output() == Output::kTable ? Progress::Rows::kAtTheEnd : Progress::Rows::kMeanwhile);
  int64_t listed = 0;
  for (;;) {
    absl::StatusOr<v1::ListRefsResponse> page = shell.daemon().ListRefs(request, shell.CallDeadline());
    if (!page.ok()) return page.status();
    if (options.count) {
      shell.printer().Print(Value::Integer(page->count()));
      return absl::OkStatus();
    }
    for (const v1::Entry& entry : page->entries()) {
      if (options.values) {
        absl::StatusOr<Fields> fields = EntryFields(shell.printer(), entry, false);
        if (!fields.ok()) return fields.status();
        shell.printer().Row(*fields);
      } else if (shell.printer().output() == Output::kTable) {
        shell.printer().Row({{"name", Value::String(entry.name())}});
      } else {
        shell.printer().Print(Value::String(entry.name()));
      }
    }
    listed += page->entries_size();
    progress.At(listed);
    if (page->next_page_token().empty()) return absl::OkStatus();
    request.set_page_token(page->next_page_token());  // it fixes the snapshot
    request.clear_at();
  }
}

absl::Status Tx(Shell& shell, const std::string& path) {
  absl::StatusOr<std::string> text = shell.ReadText(path);
  if (!text.ok()) return text.status();
  absl::StatusOr<Value> value = shell.Parse(*text);
  if (!value.ok()) {
    return absl::Status(value.status().code(), absl::StrCat(path == "-" ? "stdin" : path, ": ",
                                                            value.status().message()));
  }
  absl::StatusOr<TransactionFile> file = ParseTransaction(*value);
  if (!file.ok()) return file.status();

  std::vector<std::string> reads;
  for (const TransactionFile::Check& check : file->checks) reads.push_back(check.name);
  auto body = [&]() -> absl::StatusOr<v1::CommitRequest> {
    absl::StatusOr<v1::GetRefsResponse> read = shell.Read(reads, "", false);
    if (!read.ok()) return read.status();
    for (int i = 0; i < read->entries_size(); ++i) {
      const v1::Entry& entry = read->entries(i);
      const TransactionFile::Check& check = file->checks[i];
      std::optional<Value> found;
      if (entry.has_value()) {
        absl::StatusOr<Value> present = ValueOf(entry.value());
        if (!present.ok()) return present.status();
        found = *std::move(present);
      }
      if (found == check.expected) continue;
      auto show = [](const std::optional<Value>& v) { return v ? engine::Excerpt(*v) : std::string("absent"); };
      return absl::AbortedError(absl::StrCat("check ", check.name, ": found ", show(found), ", expected ",
                                             show(check.expected), ": nothing was committed"));
    }
    v1::CommitRequest request = file->request;
    request.set_snapshot(read->snapshot());
    for (const std::string& name : reads) {
      request.add_reads(name);
      if (request.isolation() == v1::ISOLATION_SNAPSHOT) request.add_ensures(name);
    }
    return request;
  };
  absl::StatusOr<v1::Committed> committed = reads.empty() ? shell.Commit(file->request) : shell.Transact(body);
  if (!committed.ok()) return committed.status();

  Fields row{{"version", Value::Integer(committed->version())}};
  std::vector<std::pair<Value, Value>> results;
  for (const TransactionFile::Applied& applied : file->applied) {
    std::vector<Value> of_one;
    for (int i = 0; i < applied.count; ++i) {
      absl::StatusOr<std::optional<Value>> result = ResultOf(*committed, applied.first + i);
      if (!result.ok()) return result.status();
      if (*result) of_one.push_back(**result);
    }
    if (of_one.empty()) continue;
    results.emplace_back(Value::String(applied.name), applied.several ? Value::OfVector(of_one) : of_one[0]);
  }
  if (!results.empty()) row.emplace_back("results", Value::OfMap(Map(std::move(results))));
  shell.printer().Row(row);
  return absl::OkStatus();
}

absl::Status History(Shell& shell, const std::string& name, int64_t limit) {
  constexpr int64_t kPage = 1000;
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  int64_t left = limit;
  int64_t before = 0;
  bool any = false;
  while (left > 0) {
    v1::GetHistoryRequest request;
    request.set_name(name);
    request.set_before_version(before);
    request.set_limit(static_cast<uint32_t>(std::min(left, kPage)));
    absl::StatusOr<v1::GetHistoryResponse> page = shell.daemon().GetHistory(request, shell.CallDeadline());
    if (!page.ok()) return page.status();
    for (const v1::CommitEvent& commit : page->commits()) {
      any = true;
      before = commit.version();
      absl::StatusOr<Fields> fields = CommitFields(shell.printer(), commit);
      if (!fields.ok()) return fields.status();
      absl::StatusOr<std::vector<std::string>> lines = CommitLines(commit);
      if (!lines.ok()) return lines.status();
      shell.printer().Line(*lines, *fields);
    }
    left -= page->commits_size();
    if (page->commits_size() < static_cast<int>(request.limit())) break;
  }
  if (any || limit == 0) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(name, ": the log, as far as it is kept, holds no commit that changed it"));
}

absl::Status ValidatorGet(Shell& shell, const std::string& name) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<v1::GetRefsResponse> read = shell.Read({name}, "", true);
  if (!read.ok()) return read.status();
  const v1::Entry& entry = read->entries(0);
  if (!entry.has_value()) return Absent({name});
  Value rule;
  if (entry.definition().has_validator()) {
    absl::StatusOr<Value> value = ValueOf(entry.definition().validator());
    if (!value.ok()) return value.status();
    rule = *std::move(value);
  }
  shell.printer().Print(rule);
  return absl::OkStatus();
}

absl::Status ValidatorSet(Shell& shell, const std::string& name, const std::string& text) {
  absl::StatusOr<Value> rule = shell.ReadForm(text);
  if (!rule.ok()) return rule.status();
  return Define(shell, name, [&](v1::Definition* definition) { ToProto(*rule, definition->mutable_validator()); });
}

absl::Status ValidatorClear(Shell& shell, const std::string& name) {
  return Define(shell, name, [](v1::Definition* definition) { definition->clear_validator(); });
}

absl::Status AtomReset(Shell& shell, const std::string& name, const std::string& text) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<Value> value = shell.ReadValue(text);
  if (!value.ok()) return value.status();
  v1::CommitRequest request;
  v1::Write* write = request.add_writes();
  write->set_name(name);
  write->set_kind(v1::ENTRY_KIND_ATOM);
  ToProto(*value, write->mutable_set());
  absl::StatusOr<v1::Committed> committed = shell.Commit(std::move(request));
  if (!committed.ok()) return committed.status();
  return PrintVersion(shell, *committed);
}

absl::Status AtomCas(Shell& shell, const std::string& name, const std::string& expected_text,
                     const std::string& text) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<Value> expected = shell.ReadValue(expected_text);
  if (!expected.ok()) return expected.status();
  absl::StatusOr<Value> value = shell.ReadValue(text);
  if (!value.ok()) return value.status();
  v1::CommitRequest request;
  v1::Write* write = request.add_writes();
  write->set_name(name);
  write->set_kind(v1::ENTRY_KIND_ATOM);
  v1::CompareAndSet* cas = write->mutable_apply()->mutable_compare_and_set();
  if (!IsAbsentWord(*expected)) ToProto(*expected, cas->mutable_expected());
  ToProto(*value, cas->mutable_value());
  absl::StatusOr<v1::Committed> committed = shell.Commit(std::move(request));
  if (!committed.ok()) return committed.status();
  return PrintVersion(shell, *committed);
}

}  // namespace stm::cli
