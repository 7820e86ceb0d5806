#include "client/cli/shell.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <istream>
#include <iterator>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cli/json.h"
#include "engine/name.h"
#include "engine/values/edn.h"
#include "engine/values/wire.h"
#include "stm/client.h"
#include "stm/v1/common.pb.h"

namespace stm::cli {
namespace {

constexpr size_t kTextBytesMax = size_t{1} << 30;

std::string By(const v1::Meta& meta) {
  if (!meta.label().empty()) return absl::StrCat(" by \"", meta.label(), "\"");
  if (!meta.client().empty()) return absl::StrCat(" by ", meta.client());
  return "";
}

absl::Status ConflictStatus(const v1::Conflict& conflict) {
  std::string text = "conflict";
  for (const v1::ConflictCause& cause : conflict.causes()) {
    absl::StrAppend(&text, &cause == &*conflict.causes().begin() ? ": " : ", ", cause.name(), " changed at version ",
                    cause.version(), By(cause.by()));
  }
  return absl::AbortedError(absl::StrCat(text, ": nothing was committed: read it again and retry"));
}

absl::Status RejectedStatus(const v1::Rejected& rejected) {
  // The daemon's message names entry, operation and what was found.
  std::string text = rejected.message();
  if (text.empty()) text = absl::StrCat(rejected.name(), ": found ", rejected.found());
  if (text.find(rejected.name()) == std::string::npos) text = absl::StrCat(rejected.name(), ": ", text);
  switch (rejected.cause()) {
    case v1::REJECT_CAUSE_COMPARE:
      return absl::AbortedError(absl::StrCat(text, ": nothing was committed: read it again"));
    case v1::REJECT_CAUSE_ABSENT:
      return absl::NotFoundError(absl::StrCat(text, ": stmctl set ", rejected.name(), " VALUE"));
    case v1::REJECT_CAUSE_VALIDATOR:
      return absl::FailedPreconditionError(
          absl::StrCat(text, ": rejected: give a value that satisfies it: stmctl validator get ", rejected.name()));
    case v1::REJECT_CAUSE_OVERFLOW:
      return absl::FailedPreconditionError(absl::StrCat(text, ": rejected: use a double, or a smaller sum"));
    case v1::REJECT_CAUSE_KIND:
      return absl::FailedPreconditionError(
          absl::StrCat(text, ": rejected: see which it is: stmctl get ", rejected.name(), " --meta"));
    case v1::REJECT_CAUSE_TYPE:
      return absl::FailedPreconditionError(
          absl::StrCat(text, ": rejected: see its value: stmctl get ", rejected.name()));
    default:
      return absl::FailedPreconditionError(
          absl::StrCat(text, ": rejected for a cause that this stmctl does not know: upgrade it"));
  }
}

const char* Remedy(const v1::ErrorDetail& detail) {
  switch (detail.reason()) {
    case v1::ERROR_REASON_SNAPSHOT_TOO_OLD: return "ask for a newer version or moment";
    case v1::ERROR_REASON_NO_SPACE: return "make room on the daemon's disk";
    case v1::ERROR_REASON_DENIED: return "ask for the right";
    case v1::ERROR_REASON_UNSUPPORTED: return "upgrade the daemon";
    case v1::ERROR_REASON_NOT_READY: return "try again soon, or see: stmctl status";
    case v1::ERROR_REASON_VALUE_LOST: return "set it anew";
    case v1::ERROR_REASON_SESSION_EXPIRED:
      return "begin again: what it held is others' now";
    case v1::ERROR_REASON_STORE_CHANGED: return "begin again: versions of the old store mean nothing here";
    default: return "";
  }
}

// The whole of `text` as an integer.
std::optional<int64_t> ReadInteger(std::string_view text) {
  int64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

}  // namespace

std::string ClientName() {
  const char* user = std::getenv("USER");
  char host[256] = "";
  if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  return absl::StrCat("stmctl", user && *user ? absl::StrCat(" ", user) : "", *host ? absl::StrCat("@", host) : "");
}

Exit ExitOf(const absl::Status& status) {
  const std::optional<v1::ErrorDetail> detail = DetailOf(status);
  if (detail && detail->reason() == v1::ERROR_REASON_SESSION_EXPIRED) return kLockLost;
  switch (ReasonOf(status)) {
    case Reason::kLockBusy:
      return kLockBusy;
    case Reason::kLockLost:
    case Reason::kSessionExpired:
      return kLockLost;
    default:
      break;
  }
  switch (status.code()) {
    case absl::StatusCode::kOk: return kOk;
    case absl::StatusCode::kInvalidArgument: return kUsage;
    case absl::StatusCode::kNotFound: return kAbsent;
    case absl::StatusCode::kAborted: return kConflict;
    case absl::StatusCode::kFailedPrecondition: return kRejected;
    case absl::StatusCode::kUnavailable: return kUnavailable;
    case absl::StatusCode::kDeadlineExceeded: return kTimedOut;
    default: return kError;
  }
}

std::string Explain(const absl::Status& status) {
  std::string text(status.message());
  if (text.empty()) text = absl::StatusCodeToString(status.code());
  if (std::optional<v1::ErrorDetail> detail = DetailOf(status)) {
    auto add = [&](absl::string_view before, const std::string& what) {
      if (!what.empty() && text.find(what) == std::string::npos) absl::StrAppend(&text, before, what);
    };
    add(": ", detail->name());
    if (!detail->limit().empty()) add(": ", absl::StrCat(detail->limit(), "=", detail->limit_value()));
    add(": ", Remedy(*detail));
  } else if (status.code() == absl::StatusCode::kDeadlineExceeded && text.find("--timeout") == std::string::npos) {
    text = "timed out: allow more with --timeout";
  }
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

absl::Status OutcomeStatus(const v1::CommitResponse& response) {
  switch (response.outcome_case()) {
    case v1::CommitResponse::kCommitted: return absl::OkStatus();
    case v1::CommitResponse::kConflict: return ConflictStatus(response.conflict());
    case v1::CommitResponse::kRejected: return RejectedStatus(response.rejected());
    case v1::CommitResponse::kFenceLost: {
      const v1::FenceLost& lost = response.fence_lost();
      std::string now = "nobody holds it now";
      if (lost.current_tokens_size() > 0)
        now = absl::StrCat("it is held under ", absl::StrJoin(lost.current_tokens(), ", "));
      ErrorInfo info;
      info.reason = Reason::kLockLost;
      info.name = lost.fence().lock();
      return MakeError(absl::StatusCode::kFailedPrecondition,
                       absl::StrCat("lock ", info.name, ": the grant with token ", lost.fence().token(),
                                    " is gone (", now, "): nothing was committed: take the lock again"),
                       info);
    }
    case v1::CommitResponse::kNotCommitted:
      return absl::AbortedError("not committed, and never will be: send it again");
    case v1::CommitResponse::kIdTooOld:
      return absl::UnknownError(absl::StrCat("the daemon knows outcomes after version ",
                                             response.id_too_old().floor(),
                                             " only: what came of this one can't be known any more"));
    case v1::CommitResponse::OUTCOME_NOT_SET: break;
  }
  return absl::UnknownError("an outcome that this stmctl does not know: upgrade it");
}

absl::Status ReadPointOf(const std::string& text, v1::ReadPoint* point) {
  if (text.empty()) return absl::OkStatus();
  // A year alone is a version: instants have at least a month.
  if (std::optional<int64_t> version = ReadInteger(text)) {
    if (*version <= 0) return absl::InvalidArgumentError(absl::StrCat("--at ", text, ": versions begin at 1"));
    point->set_version(*version);
    return absl::OkStatus();
  }
  absl::StatusOr<Instant> instant = ParseInstant(text);
  if (!instant.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--at ", text, ": expected a version or an instant as 2026-11-22T03:00:00Z"));
  }
  *point->mutable_instant() = ToProto(*instant);
  return absl::OkStatus();
}

absl::Status CheckNames(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    absl::Status status = engine::CheckName(name);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckPrefix(const std::string& prefix) { return engine::CheckPrefix(prefix); }

absl::StatusOr<absl::Duration> ReadDuration(const std::string& text, const char* what) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(what, " ", text, ": expected a time as 5s, 200ms or 1m30s"));
  }
  return duration;
}

Shell::Shell(Globals globals, Io& io)
    : globals_(std::move(globals)),
      io_(io),
      daemon_(std::make_unique<Connection>(globals_.addresses)),
      printer_(globals_.output, io.out_is_terminal ? io.width : 0, io.out) {}

Shell::~Shell() = default;

absl::StatusOr<Client> Shell::NewClient(absl::Duration session_ttl) {
  // It would wait for a daemon that is away; a command says so at once.
  absl::StatusOr<v1::Header> header = daemon_->Hello(CallDeadline());
  if (!header.ok()) return header.status();
  ConnectOptions options;
  options.address = absl::StrJoin(globals_.addresses, ",");
  options.client_name = ClientName();
  options.unavailable_timeout = globals_.timeout.value_or(kTimeoutDefault);
  options.session_ttl = session_ttl;
  return stm::Connect(options);
}

absl::Time Shell::CallDeadline() const { return absl::Now() + globals_.timeout.value_or(kTimeoutDefault); }

absl::Time Shell::StreamDeadline() const {
  return globals_.timeout ? absl::Now() + *globals_.timeout : absl::InfiniteFuture();
}

absl::StatusOr<std::string> Shell::ReadText(const std::string& path) {
  std::ifstream file;
  std::istream* in = &io_.in;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) return absl::UnknownError(absl::StrCat(path, ": ", std::strerror(errno), ": give a file that can be read"));
    in = &file;
  }
  std::string text;
  char block[1 << 16];
  while (in->read(block, sizeof block), in->gcount() > 0) {
    text.append(block, static_cast<size_t>(in->gcount()));
    if (text.size() > kTextBytesMax) {
      return absl::ResourceExhaustedError(
          absl::StrCat("text_bytes_max=", kTextBytesMax, ": ", path, " is longer: give it in parts"));
    }
  }
  if (in->bad()) return absl::UnknownError(absl::StrCat(path, ": read: ", std::strerror(errno)));
  return text;
}

absl::StatusOr<Value> Shell::Parse(const std::string& text) const {
  if (globals_.json) return ReadJson(text);
  return ReadEdn(text);
}

absl::StatusOr<Value> Shell::ReadValue(const std::string& argument) {
  if (argument != "-") return Parse(argument);
  absl::StatusOr<std::string> text = ReadText("-");
  if (!text.ok()) return text.status();
  return Parse(*text);
}

absl::StatusOr<Value> Shell::ReadForm(const std::string& argument) {
  absl::StatusOr<std::string> text = argument == "-" ? ReadText("-") : argument;
  if (!text.ok()) return text.status();
  return ReadEdn(*text);
}

absl::StatusOr<v1::GetRefsResponse> Shell::Read(const std::vector<std::string>& names, const std::string& at,
                                                bool with_definition) {
  v1::GetRefsRequest request;
  for (const std::string& name : names) request.add_names(name);
  request.set_with_definition(with_definition);
  absl::Status status = ReadPointOf(at, request.mutable_at());
  if (!status.ok()) return status;
  absl::StatusOr<v1::GetRefsResponse> response = daemon_->GetRefs(std::move(request), CallDeadline());
  if (response.ok() && response->entries_size() != static_cast<int>(names.size())) {
    return absl::DataLossError(absl::StrCat("asked for ", names.size(), " entries, got ", response->entries_size(),
                                            ": compare the versions of stmctl and stmd"));
  }
  return response;
}

absl::StatusOr<v1::CommitResponse> Shell::Send(v1::CommitRequest request, absl::Time deadline) {
  v1::Meta& meta = *request.mutable_meta();
  meta.set_client(ClientName());
  if (!globals_.label.empty()) meta.set_label(globals_.label);
  return CommitOnce(*daemon_, std::move(request), deadline, NewTransactionId);
}

absl::StatusOr<v1::Committed> Shell::Commit(v1::CommitRequest request) {
  absl::StatusOr<v1::CommitResponse> response = Send(std::move(request), CallDeadline());
  if (!response.ok()) return response.status();
  absl::Status outcome = OutcomeStatus(*response);
  if (!outcome.ok()) return outcome;
  return std::move(*response->mutable_committed());
}

absl::StatusOr<v1::Committed> Shell::Transact(const std::function<absl::StatusOr<v1::CommitRequest>()>& body) {
  const absl::Time start = absl::Now();
  const absl::Time deadline = CallDeadline();
  uint64_t reservation = 0;
  for (uint32_t run = 1;; ++run) {
    absl::StatusOr<v1::CommitRequest> request = body();
    if (!request.ok()) return request.status();
    v1::Age& age = *request->mutable_age();
    age.set_runs(run);
    age.set_reservation(reservation);
    int64_t elapsed_ns = absl::ToInt64Nanoseconds(absl::Now() - start);
    age.mutable_since_first_run()->set_seconds(elapsed_ns / 1000000000);
    age.mutable_since_first_run()->set_nanos(static_cast<int32_t>(elapsed_ns % 1000000000));
    absl::StatusOr<v1::CommitResponse> response = Send(*std::move(request), deadline);
    if (!response.ok()) return response.status();
    if (response->has_conflict() && absl::Now() < deadline) {
      reservation = response->conflict().reservation();
      continue;
    }
    absl::Status outcome = OutcomeStatus(*response);
    if (!outcome.ok()) return outcome;
    return std::move(*response->mutable_committed());
  }
}

absl::StatusOr<v1::Committed> Shell::CommitEither(v1::Write write, const std::optional<v1::Fence>& fence) {
  const absl::Time deadline = CallDeadline();
  // The other kind is tried only when the daemon says that the first was wrong; twice, since the entry may have been
  // deleted and made again between.
  for (v1::EntryKind kind : {v1::ENTRY_KIND_REF, v1::ENTRY_KIND_ATOM, v1::ENTRY_KIND_REF, v1::ENTRY_KIND_ATOM}) {
    v1::CommitRequest request;
    write.set_kind(kind);
    *request.add_writes() = write;
    if (fence) *request.add_fences() = *fence;
    absl::StatusOr<v1::CommitResponse> response = Send(std::move(request), deadline);
    if (!response.ok()) return response.status();
    if (response->has_rejected() && response->rejected().cause() == v1::REJECT_CAUSE_KIND) continue;
    absl::Status outcome = OutcomeStatus(*response);
    if (!outcome.ok()) return outcome;
    return std::move(*response->mutable_committed());
  }
  return absl::AbortedError(absl::StrCat(write.name(), ": its kind changes all the time: try again"));
}

absl::Status Shell::Flush() {
  io_.out.flush();
  if (io_.out.good()) return absl::OkStatus();
  return absl::UnknownError("the standard output takes no more: see that its file or pipe has room");
}

}  // namespace stm::cli
