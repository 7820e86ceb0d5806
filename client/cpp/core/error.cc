#include "stm/error.h"

#include <array>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "engine/values/absl_view.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"

namespace stm {
namespace {

// The payload is an EDN map, so that a status that is logged or sent on still says it all to a person.
constexpr char kPayloadUrl[] = "stmd/error.edn";

struct Named {
  Reason reason;
  std::string_view name;
};
constexpr std::array<Named, 23> kNames = {{{Reason::kNone, "none"},
                                           {Reason::kConflict, "conflict"},
                                           {Reason::kRejected, "rejected"},
                                           {Reason::kLockLost, "fence-lost"},
                                           {Reason::kSessionExpired, "session-expired"},
                                           {Reason::kCommitUnknown, "commit-unknown"},
                                           {Reason::kSnapshotTooOld, "snapshot-too-old"},
                                           {Reason::kLimitExceeded, "limit-exceeded"},
                                           {Reason::kUnavailable, "unavailable"},
                                           {Reason::kStoreChanged, "store-changed"},
                                           {Reason::kNoSpace, "no-space"},
                                           {Reason::kUnsupported, "unsupported"},
                                           {Reason::kValueLost, "value-lost"},
                                           {Reason::kAbsent, "absent"},
                                           {Reason::kWrongKind, "wrong-kind"},
                                           {Reason::kBadValue, "bad-value"},
                                           {Reason::kDenied, "denied"},
                                           {Reason::kTransactionClosed, "transaction-closed"},
                                           {Reason::kInTransaction, "in-transaction"},
                                           {Reason::kRerunDiffers, "rerun-differs"},
                                           {Reason::kLockBusy, "lock-busy"},
                                           {Reason::kUpgradeRefused, "upgrade-refused"},
                                           {Reason::kDeadlock, "deadlock"}}};

void Put(Map* map, std::string_view key, const std::string& text) {
  if (!text.empty()) *map = map->Assoc(Value::Keyword(key), Value::String(text));
}

std::string Text(const Map& map, std::string_view key) {
  const Value* value = map.Find(Value::Keyword(key));
  return value != nullptr && value->is(Type::kString) ? value->text() : std::string();
}

int64_t Integer(const Map& map, std::string_view key) {
  const Value* value = map.Find(Value::Keyword(key));
  return value != nullptr && value->is(Type::kInteger) ? value->integer() : 0;
}

Reason ReasonNamed(const Map& map) {
  const Value* value = map.Find(Value::Keyword("reason"));
  if (value != nullptr && value->is(Type::kKeyword)) {
    for (const Named& named : kNames) {
      if (named.name == value->text()) return named.reason;
    }
  }
  return Reason::kNone;
}

std::optional<Map> PayloadOf(const absl::Status& status) {
  absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return std::nullopt;
  absl::StatusOr<Value> value = ReadEdn(std::string(*payload));
  if (!value.ok() || !value->is(Type::kMap)) return std::nullopt;
  return value->map();
}

}  // namespace

std::string_view ReasonName(Reason reason) {
  for (const Named& named : kNames) {
    if (named.reason == reason) return named.name;
  }
  return "none";
}

Reason ReasonOf(const absl::Status& status) {
  if (status.ok()) return Reason::kNone;
  std::optional<Map> payload = PayloadOf(status);
  return payload.has_value() ? ReasonNamed(*payload) : Reason::kNone;
}

ErrorInfo InfoOf(const absl::Status& status) {
  ErrorInfo info;
  if (status.ok()) return info;
  std::optional<Map> payload = PayloadOf(status);
  if (!payload.has_value()) return info;
  info.reason = ReasonNamed(*payload);
  info.name = Text(*payload, "name");
  info.found = Text(*payload, "found");
  info.expected = Text(*payload, "expected");
  info.limit = Text(*payload, "limit");
  info.limit_value = Integer(*payload, "limit-value");
  info.outcome_word = Text(*payload, "outcome");
  info.cause = Text(*payload, "cause");
  if (payload->Find(Value::Keyword("retry-after-ns")) != nullptr) {
    info.retry_after = absl::Nanoseconds(Integer(*payload, "retry-after-ns"));
  }
  if (const Value* rule = payload->Find(Value::Keyword("rule"))) info.rule = *rule;
  if (const Value* causes = payload->Find(Value::Keyword("causes")); causes != nullptr && causes->is(Type::kVector)) {
    for (const Value& item : causes->items()) {
      if (!item.is(Type::kMap)) continue;
      ConflictCause cause;
      cause.name = Text(item.map(), "name");
      cause.version = Integer(item.map(), "version");
      cause.by.label = Text(item.map(), "label");
      cause.by.client = Text(item.map(), "client");
      cause.by.traceparent = Text(item.map(), "traceparent");
      cause.by.principal = Text(item.map(), "principal");
      info.causes.push_back(std::move(cause));
    }
  }
  return info;
}

absl::Status MakeError(absl::StatusCode code, std::string_view message, const ErrorInfo& info) {
  Map map;
  map = map.Assoc(Value::Keyword("reason"), Value::Keyword(ReasonName(info.reason)));
  Put(&map, "name", info.name);
  Put(&map, "found", info.found);
  Put(&map, "expected", info.expected);
  Put(&map, "limit", info.limit);
  if (info.limit_value != 0) map = map.Assoc(Value::Keyword("limit-value"), Value::Integer(info.limit_value));
  Put(&map, "outcome", info.outcome_word);
  Put(&map, "cause", info.cause);
  if (info.retry_after.has_value()) {
    map = map.Assoc(Value::Keyword("retry-after-ns"), Value::Integer(absl::ToInt64Nanoseconds(*info.retry_after)));
  }
  if (info.rule.has_value()) map = map.Assoc(Value::Keyword("rule"), *info.rule);
  if (!info.causes.empty()) {
    std::vector<Value> causes;
    for (const ConflictCause& cause : info.causes) {
      Map one;
      Put(&one, "name", cause.name);
      one = one.Assoc(Value::Keyword("version"), Value::Integer(cause.version));
      Put(&one, "label", cause.by.label);
      Put(&one, "client", cause.by.client);
      Put(&one, "traceparent", cause.by.traceparent);
      Put(&one, "principal", cause.by.principal);
      causes.push_back(Value::OfMap(one));
    }
    map = map.Assoc(Value::Keyword("causes"), Value::OfVector(std::move(causes)));
  }
  absl::Status status(code, Absl(message));
  status.SetPayload(kPayloadUrl, absl::Cord(ToEdn(Value::OfMap(map))));
  return status;
}

}  // namespace stm
