#include "client/cpp/core/wire.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "engine/name.h"
#include "engine/values/absl_view.h"
#include "engine/values/wire.h"
#include "stm/v1/common.pb.h"

namespace stm::internal {
namespace {

// Where the first segment ends: "/.once/k" -> 6.
size_t FirstSegmentEnd(const std::string& name) { return std::min(name.find('/', 1), name.size()); }

using engine::IsSystem;

// The daemon's words, with the entry's name as the client knows it.
std::string WithShortName(std::string message, const std::string& full, const std::string& name) {
  return full == name ? message : absl::StrReplaceAll(message, {{full, name}});
}

Reason ReasonOfDetail(v1::ErrorReason reason) {
  switch (reason) {
    case v1::ERROR_REASON_SNAPSHOT_TOO_OLD: return Reason::kSnapshotTooOld;
    case v1::ERROR_REASON_LIMIT: return Reason::kLimitExceeded;
    case v1::ERROR_REASON_WRONG_KIND: return Reason::kWrongKind;
    case v1::ERROR_REASON_SESSION_EXPIRED: return Reason::kSessionExpired;
    case v1::ERROR_REASON_CONTAINER_DOWN: return Reason::kUnavailable;
    case v1::ERROR_REASON_DENIED: return Reason::kDenied;
    case v1::ERROR_REASON_BAD_VALUE: return Reason::kBadValue;
    case v1::ERROR_REASON_NO_SPACE: return Reason::kNoSpace;
    case v1::ERROR_REASON_ABSENT: return Reason::kAbsent;
    case v1::ERROR_REASON_STORE_CHANGED: return Reason::kStoreChanged;
    case v1::ERROR_REASON_UNSUPPORTED: return Reason::kUnsupported;
    case v1::ERROR_REASON_SLOW_READER: return Reason::kLimitExceeded;
    case v1::ERROR_REASON_NOT_READY: return Reason::kUnavailable;
    case v1::ERROR_REASON_VALUE_LOST: return Reason::kValueLost;
    default: return Reason::kNone;
  }
}

Reason ReasonOfCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnavailable: return Reason::kUnavailable;
    case absl::StatusCode::kUnimplemented: return Reason::kUnsupported;
    case absl::StatusCode::kResourceExhausted: return Reason::kLimitExceeded;
    case absl::StatusCode::kInvalidArgument: return Reason::kBadValue;
    case absl::StatusCode::kNotFound: return Reason::kAbsent;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated: return Reason::kDenied;
    case absl::StatusCode::kDataLoss: return Reason::kValueLost;
    default: return Reason::kNone;
  }
}

}  // namespace

std::string Names::Full(const std::string& name) const {
  if (prefix_.empty()) return name;
  if (IsSystem(name)) {
    size_t end = FirstSegmentEnd(name);
    return absl::StrCat(name.substr(0, end), prefix_, name.substr(end));
  }
  return absl::StrCat(prefix_, name);
}

std::string Names::Short(const std::string& name) const {
  if (prefix_.empty()) return name;
  size_t from = IsSystem(name) ? FirstSegmentEnd(name) : 0;
  if (name.compare(from, prefix_.size(), prefix_) != 0) return name;
  return absl::StrCat(name.substr(0, from), name.substr(from + prefix_.size()));
}

namespace {

absl::Status Checked(const absl::Status& status, std::string_view name) {
  if (status.ok()) return status;
  ErrorInfo info;
  info.reason = Reason::kBadValue;
  info.name = std::string(name);
  return MakeError(status.code(), std::string(status.message()), info);
}

}  // namespace

absl::Status CheckName(std::string_view name) { return Checked(engine::CheckName(name), name); }

absl::Status CheckPrefix(std::string_view prefix) { return Checked(engine::CheckPrefix(prefix), prefix); }

absl::Status CheckSelector(std::string_view selector) {
  return !selector.empty() && selector.back() == '/' ? CheckPrefix(selector) : CheckName(selector);
}

absl::Status FromWire(int code, std::string message, const v1::ErrorDetail* detail, const Names& names) {
  absl::StatusCode status_code = static_cast<absl::StatusCode>(code);
  ErrorInfo info;
  info.reason = ReasonOfCode(status_code);
  if (detail != nullptr) {
    if (Reason reason = ReasonOfDetail(detail->reason()); reason != Reason::kNone) info.reason = reason;
    info.name = names.Short(detail->name());
    message = WithShortName(std::move(message), detail->name(), info.name);
    info.found = detail->found();
    info.expected = detail->expected();
    info.limit = detail->limit();
    info.limit_value = detail->limit_value();
    if (detail->has_retry_after()) info.retry_after = FromWire(detail->retry_after());
  }
  return MakeError(status_code, message, info);
}

void ToWire(const Op& op, v1::Operation* message) {
  for (const Value& step : op.path) ToProto(step, message->add_path());
  auto items = [&](v1::Items* to) {
    for (const Value& argument : op.arguments) ToProto(argument, to->add_items());
  };
  switch (op.verb) {
    case Op::Verb::kSet: return ToProto(op.arguments[0], message->mutable_set());
    case Op::Verb::kAdd: return ToProto(op.arguments[0], message->mutable_add());
    case Op::Verb::kMin: return ToProto(op.arguments[0], message->mutable_min());
    case Op::Verb::kMax: return ToProto(op.arguments[0], message->mutable_max());
    case Op::Verb::kAppend: return ToProto(op.arguments[0], message->mutable_append());
    case Op::Verb::kConj: return items(message->mutable_conj());
    case Op::Verb::kDisj: return items(message->mutable_disj());
    case Op::Verb::kPop: return message->set_pop(op.count);
    case Op::Verb::kShift: return message->set_shift(op.count);
    case Op::Verb::kAssoc:
      message->mutable_assoc();
      for (size_t i = 0; i + 1 < op.arguments.size(); i += 2) {
        v1::MapEntry* entry = message->mutable_assoc()->add_entries();
        ToProto(op.arguments[i], entry->mutable_key());
        ToProto(op.arguments[i + 1], entry->mutable_value());
      }
      return;
    case Op::Verb::kDissoc: return items(message->mutable_dissoc());
    case Op::Verb::kToggle: return message->set_toggle(true);
    case Op::Verb::kCompareAndSet:
      if (op.expected.has_value()) ToProto(*op.expected, message->mutable_compare_and_set()->mutable_expected());
      return ToProto(op.arguments[0], message->mutable_compare_and_set()->mutable_value());
  }
}

void ToWire(const Definition& definition, const std::string& session, v1::Definition* message) {
  if (definition.validator.has_value()) ToProto(*definition.validator, message->mutable_validator());
  if (definition.ttl != absl::ZeroDuration()) ToWire(definition.ttl, message->mutable_ttl());
  if (definition.ephemeral) message->set_session_id(session);
  message->set_container(definition.container);
}

void ToWire(absl::Duration duration, google::protobuf::Duration* message) {
  message->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  message->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

absl::Duration FromWire(const google::protobuf::Duration& message) {
  return absl::Seconds(message.seconds()) + absl::Nanoseconds(message.nanos());
}

Meta FromWire(const v1::Meta& message) {
  return Meta{message.label(), message.client(), message.traceparent(), message.principal()};
}

absl::StatusOr<std::optional<Value>> ValueFromWire(bool set, const v1::Value& message, const std::string& name) {
  if (!set || message.kind_case() == v1::Value::KIND_NOT_SET) return std::optional<Value>();
  absl::StatusOr<Value> value = FromProto(message);
  if (value.ok()) return std::optional<Value>(*std::move(value));
  ErrorInfo info;
  info.reason = Reason::kBadValue;
  info.name = name;
  info.found = std::string(value.status().message());
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(name, ": the daemon sent a value that this client cannot read: ",
                                value.status().message(), ": use a client as new as the daemon"),
                   info);
}

absl::StatusOr<Entry> EntryFromWire(const v1::Entry& message, const Names& names) {
  Entry entry;
  entry.name = names.Short(message.name());
  absl::StatusOr<std::optional<Value>> value = ValueFromWire(message.has_value(), message.value(), entry.name);
  if (!value.ok()) return value.status();
  entry.value = *std::move(value);
  entry.version = message.version();
  entry.is_atom = message.kind() == v1::ENTRY_KIND_ATOM;
  return entry;
}

absl::Status AddToCommit(const v1::CommitEvent& event, const Names& names, Commit* commit) {
  commit->version = event.version();
  commit->at = Instant{event.at().seconds(), event.at().nanos()};
  commit->transaction_id = event.transaction_id();
  commit->meta = FromWire(event.meta());
  for (const v1::Change& message : event.changes()) {
    Change change;
    change.name = names.Short(message.name());
    switch (message.kind()) {
      case v1::CHANGE_KIND_DELETED: change.kind = ChangeKind::kDeleted; break;
      case v1::CHANGE_KIND_EXPIRED: change.kind = ChangeKind::kExpired; break;
      case v1::CHANGE_KIND_DEFINED: change.kind = ChangeKind::kDefined; break;
      default: change.kind = ChangeKind::kSet; break;
    }
    absl::StatusOr<std::optional<Value>> before = ValueFromWire(message.has_before(), message.before(), change.name);
    if (!before.ok()) return before.status();
    absl::StatusOr<std::optional<Value>> after = ValueFromWire(message.has_after(), message.after(), change.name);
    if (!after.ok()) return after.status();
    change.before = *std::move(before);
    change.after = *std::move(after);
    change.before_unknown = message.before_unknown();
    change.is_atom = message.entry_kind() == v1::ENTRY_KIND_ATOM;
    commit->changes.push_back(std::move(change));
  }
  for (const v1::Value& message : event.records()) {
    absl::StatusOr<std::optional<Value>> record =
        ValueFromWire(true, message, absl::StrCat("a record of version ", event.version()));
    if (!record.ok()) return record.status();
    if (record->has_value()) commit->records.push_back(**std::move(record));
  }
  return absl::OkStatus();
}

absl::Status RejectedError(const v1::Rejected& rejected, const Names& names) {
  ErrorInfo info;
  info.reason = Reason::kRejected;
  info.name = names.Short(rejected.name());
  info.found = rejected.found();
  absl::StatusCode code = absl::StatusCode::kFailedPrecondition;
  absl::string_view remedy = "nothing was changed; the same write would be rejected again";
  switch (rejected.cause()) {
    case v1::REJECT_CAUSE_VALIDATOR:
      info.cause = "validator";
      remedy = "nothing was changed; write a value that the rule takes, or change the rule";
      break;
    case v1::REJECT_CAUSE_TYPE:
      info.cause = "type";
      remedy = "nothing was changed; use an operation of the value's type";
      break;
    case v1::REJECT_CAUSE_COMPARE:
      info.cause = "compare";
      remedy = "nothing was changed; read it again and decide anew";
      break;
    case v1::REJECT_CAUSE_OVERFLOW:
      info.cause = "overflow";
      remedy = "nothing was changed; keep larger numbers as BigInt";
      break;
    case v1::REJECT_CAUSE_ABSENT:
      info.cause = "absent";
      info.reason = Reason::kAbsent;
      code = absl::StatusCode::kNotFound;
      remedy = "set it first, or give its handle an init";
      break;
    case v1::REJECT_CAUSE_KIND:
      info.cause = "kind";
      info.reason = Reason::kWrongKind;
      remedy = "use client.Ref for a ref and client.Atom for an atom";
      break;
    default: break;
  }
  absl::StatusOr<std::optional<Value>> rule = ValueFromWire(rejected.has_rule(), rejected.rule(), info.name);
  if (rule.ok()) info.rule = *rule;
  std::string what = WithShortName(rejected.message(), rejected.name(), info.name);
  if (what.empty()) what = absl::StrCat("found ", rejected.found());
  // Of some causes the daemon's words begin with the name.
  const std::string name = absl::StrCat(info.name, ": ");
  return MakeError(code, absl::StrCat("rejected: ", name, absl::StripPrefix(what, name), ": ", remedy), info);
}

std::vector<ConflictCause> CausesOf(const v1::Conflict& conflict, const Names& names) {
  std::vector<ConflictCause> causes;
  for (const v1::ConflictCause& cause : conflict.causes()) {
    causes.push_back(ConflictCause{names.Short(cause.name()), cause.version(), FromWire(cause.by())});
  }
  return causes;
}

std::string Describe(const std::vector<ConflictCause>& causes) {
  if (causes.empty()) return "what was read";
  const ConflictCause& first = causes.front();
  std::string text = first.name;
  if (!first.by.client.empty()) absl::StrAppend(&text, " by ", first.by.client);
  if (!first.by.label.empty()) absl::StrAppend(&text, " (", first.by.label, ")");
  absl::StrAppend(&text, " at version ", first.version);
  if (causes.size() > 1) absl::StrAppend(&text, ", and ", causes.size() - 1, " more");
  return text;
}

}  // namespace stm::internal
