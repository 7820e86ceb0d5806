#include "server/convert.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/containers/registry.h"
#include "engine/error.h"
#include "engine/locks/lock.h"
#include "engine/name.h"
#include "engine/values/absl_view.h"
#include "engine/values/wire.h"
#include "google/rpc/status.pb.h"
#include "server/options.h"
#include "stm/v1/common.pb.h"

namespace stm::server {
namespace {

using engine::BadField;
using engine::BadRequest;

// The path at the head of a parser's message ("value.map.entries[2].key: not UTF-8", "add: expected a number"): it is
// that of fields below the one that was parsed. Takes it off `message`.
std::string TakePath(absl::string_view* message) {
  std::string path;
  for (;;) {
    size_t end = 0;
    const auto word = [](char c) { return (c >= 'a' && c <= 'z') || c == '_' || (c >= '0' && c <= '9'); };
    while (end < message->size() && (word((*message)[end]) || (end > 0 && absl::StrContains(".[]", (*message)[end])))) {
      ++end;
    }
    if (end == 0 || end + 1 >= message->size() || (*message)[end] != ':' || (*message)[end + 1] != ' ') return path;
    absl::string_view head = message->substr(0, end);
    message->remove_prefix(end + 2);
    for (absl::string_view own : {"value", "operation"}) {
      if (head == own) {
        head = "";
      } else if (absl::StartsWith(head, own) && (head[own.size()] == '.' || head[own.size()] == '[')) {
        head.remove_prefix(own.size() + (head[own.size()] == '.' ? 1 : 0));
      }
    }
    if (head.empty()) continue;
    absl::StrAppend(&path, head[0] == '[' ? "" : ".", head);
  }
}

// A parser's refusal of `field` as the fault of the field within it.
absl::Status BadBelow(std::string field, const absl::Status& status) {
  absl::string_view message = status.message();
  field += TakePath(&message);
  return BadField(field, absl::Status(status.code(), message));
}

std::string Indexed(std::string_view list, int index) { return absl::StrCat(Absl(list), "[", index, "]"); }

bool HasUnknownFields(const google::protobuf::Message& message) {
  return !message.GetReflection()->GetUnknownFields(message).empty();
}

absl::Status Unset(const google::protobuf::Message& message, const std::string& field, std::string_view what) {
  if (HasUnknownFields(message)) {
    return BadField(field, absl::UnimplementedError("a kind that this daemon does not know: it is older than the client"));
  }
  return BadRequest(field, what);
}

absl::Status Denied(const std::string& field, const std::string& name) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_DENIED);
  detail.set_name(field);
  detail.set_found(name);
  return engine::WithDetail(
      absl::PermissionDeniedError(absl::StrCat(
          field, ": ", name, " is the system's: names under \"/.\" are not written, but for /.memory/ and /.once/")),
      detail);
}

// Counts a request's entries and bytes against the bounds.
class Tally {
 public:
  explicit Tally(const engine::Options& bounds) : bounds_(bounds) {}

  absl::Status Entries(int64_t count) {
    entries_ += count;
    if (entries_ <= bounds_.transaction_entries_max) return absl::OkStatus();
    return engine::LimitReached("transaction_entries_max", bounds_.transaction_entries_max, "the transaction", entries_,
                                "split it");
  }
  absl::Status Bytes(const Value& value, std::string_view name) {
    const int64_t size = static_cast<int64_t>(value.edn_size());
    if (size > bounds_.value_bytes_max) {
      return engine::LimitReached("value_bytes_max", bounds_.value_bytes_max, name, size, "split the value");
    }
    bytes_ += size;
    if (bytes_ <= bounds_.transaction_bytes_max) return absl::OkStatus();
    return engine::LimitReached("transaction_bytes_max", bounds_.transaction_bytes_max, "the transaction", bytes_,
                                "split it");
  }

 private:
  const engine::Options& bounds_;
  int64_t entries_ = 0;
  int64_t bytes_ = 0;
};

template <typename Field>
absl::Status ReadValue(const v1::Value& message, std::string_view name, Tally* tally, Value* value, Field field) {
  absl::StatusOr<Value> read = stm::FromProto(message);
  if (!read.ok()) return BadBelow(field(), read.status());
  *value = *std::move(read);
  return tally->Bytes(*value, name);
}

// Moves the names out. `check`: CheckName or CheckPrefix.
template <typename Names, typename Check>
absl::Status TakeNames(Names* messages, const char* list, Check check, std::vector<std::string>* names) {
  names->reserve(messages->size());
  for (int i = 0; i < messages->size(); ++i) {
    std::string& name = *messages->Mutable(i);
    if (const absl::Status status = check(name); !status.ok()) return BadField(Indexed(list, i), status);
    names->push_back(std::move(name));
  }
  return absl::OkStatus();
}

// Its form; whether there is one of this name is the engine's affair. "": inline.
absl::Status CheckContainer(std::string_view name) {
  if (name.empty()) return absl::OkStatus();
  const size_t colon = name.find(':');
  if (colon == std::string_view::npos) return containers::CheckContainerName(name);
  const std::string_view kind = name.substr(0, colon);
  if (kind != "remote" && kind != "offered") {
    return absl::InvalidArgumentError(absl::StrCat("found \"", Absl(name),
                                                   "\", expected inline, NAME, remote:NAME or offered:NAME"));
  }
  return containers::CheckContainerName(name.substr(colon + 1));
}

absl::StatusOr<std::shared_ptr<const engine::Definition>> DefinitionOf(const v1::Definition& message,
                                                                       const std::string& field,
                                                                       const engine::Options& bounds, Tally* tally) {
  auto definition = std::make_shared<engine::Definition>();
  if (message.container() != "inline") {
    absl::Status good = CheckContainer(message.container());
    if (!good.ok()) return BadField(field + ".container", good);
    definition->container = message.container();
  }
  if (message.has_validator()) {
    Value form;
    absl::Status status =
        ReadValue(message.validator(), field, tally, &form, [&] { return field + ".validator"; });
    if (!status.ok()) return status;
    absl::StatusOr<std::shared_ptr<const engine::Validator>> validator = engine::Validator::Parse(form);
    if (!validator.ok()) return BadField(field + ".validator", validator.status());
    definition->validator = *std::move(validator);
  }
  if (!message.session_id().empty()) {
    if (!ParseUuid(message.session_id()).has_value()) {
      return BadRequest(field + ".session_id", absl::StrCat("found \"", message.session_id(),
                                                            "\", expected the 36 characters that OpenSession gave"));
    }
    definition->session_id = message.session_id();
  }
  if (message.has_ttl()) {
    absl::StatusOr<absl::Duration> ttl = DurationOf(message.ttl(), field + ".ttl");
    if (!ttl.ok()) return ttl.status();
    if (*ttl < absl::Milliseconds(bounds.ttl_ms_min)) {
      return BadRequest(field + ".ttl", absl::StrCat("found ", absl::FormatDuration(*ttl), ", expected at least ",
                                                     bounds.ttl_ms_min, " ms, or unset for ever"));
    }
    definition->ttl = *ttl;
  }
  const bool all_defaults = definition->container.empty() && definition->validator == nullptr &&
                            definition->ttl == absl::ZeroDuration() && definition->session_id.empty();
  if (all_defaults) return std::shared_ptr<const engine::Definition>();
  return std::shared_ptr<const engine::Definition>(std::move(definition));
}

// A session, and a container, outlive the daemon that keeps memory entries.
absl::Status CheckBinding(const engine::Write& write, const std::string& field) {
  if (write.definition == nullptr || !engine::IsMemory(write.name)) return absl::OkStatus();
  if (!write.definition->container.empty()) {
    return BadRequest(field + ".container",
                      absl::StrCat(write.name, " is of this daemon's memory, and no container keeps it: leave the "
                                               "container empty, or name the entry otherwise"));
  }
  if (write.definition->session_id.empty()) return absl::OkStatus();
  return BadRequest(field + ".session_id", absl::StrCat(write.name, " is of this daemon's memory and can't be bound to a session"));
}

absl::Status ReadOperation(const v1::Operation& message, const std::string& name, Tally* tally,
                           std::shared_ptr<const engine::Operation>* out, const std::function<std::string()>& field) {
  absl::StatusOr<engine::Operation> operation = engine::FromProto(message);
  if (!operation.ok()) return BadBelow(field(), operation.status());
  for (const Value& value : operation->path) {
    if (absl::Status status = tally->Bytes(value, name); !status.ok()) return status;
  }
  if (absl::Status status = tally->Bytes(operation->argument, name); !status.ok()) return status;
  for (const Value& value : operation->arguments) {
    if (absl::Status status = tally->Bytes(value, name); !status.ok()) return status;
  }
  for (const auto [key, value] : operation->entries) {
    if (absl::Status status = tally->Bytes(key, name); !status.ok()) return status;
    if (absl::Status status = tally->Bytes(value, name); !status.ok()) return status;
  }
  if (operation->expected) {
    if (absl::Status status = tally->Bytes(*operation->expected, name); !status.ok()) return status;
  }
  *out = std::make_shared<const engine::Operation>(*std::move(operation));
  return absl::OkStatus();
}

absl::Status CheckWriteName(const std::string& name, const std::string& field) {
  if (const absl::Status status = engine::CheckName(name); !status.ok()) return BadField(field, status);
  if (!engine::IsWritable(name)) return Denied(field, name);
  return absl::OkStatus();
}

absl::Status ReadKind(v1::EntryKind kind, const std::function<std::string()>& field, engine::EntryKind* out) {
  switch (kind) {
    case v1::ENTRY_KIND_UNSPECIFIED:
    case v1::ENTRY_KIND_REF:
      *out = engine::EntryKind::kRef;
      return absl::OkStatus();
    case v1::ENTRY_KIND_ATOM:
      *out = engine::EntryKind::kAtom;
      return absl::OkStatus();
    default:
      return BadField(field(), absl::UnimplementedError(absl::StrCat("no kind ", kind, " is known: expected ref or atom")));
  }
}

absl::Status ReadWrite(v1::Write* message, const char* list, int index, const engine::Options& bounds, Tally* tally,
                       engine::Write* write) {
  using Change = engine::Write::Change;
  const auto at = [&](const char* below) { return absl::StrCat(list, "[", index, "]", below); };
  if (!engine::CheckName(message->name()).ok() || !engine::IsWritable(message->name())) {
    return CheckWriteName(message->name(), at(".name"));
  }
  write->name = std::move(*message->mutable_name());
  absl::Status status = ReadKind(message->kind(), [&] { return at(".kind"); }, &write->kind);
  if (!status.ok()) return status;
  switch (message->change_case()) {
    case v1::Write::kSet:
      write->change = Change::kSet;
      status = ReadValue(message->set(), write->name, tally, &write->value, [&] { return at(".set"); });
      break;
    case v1::Write::kCreate:
      write->change = Change::kCreate;
      status = ReadValue(message->create(), write->name, tally, &write->value, [&] { return at(".create"); });
      break;
    case v1::Write::kApply:
      write->change = Change::kApply;
      status = ReadOperation(message->apply(), write->name, tally, &write->operation, [&] { return at(".apply"); });
      break;
    case v1::Write::kDeleteEntry:
      write->change = Change::kDelete;
      if (!message->delete_entry()) status = BadRequest(at(".delete_entry"), "is always true: leave the write out");
      break;
    case v1::Write::kDefine: {
      write->change = Change::kDefine;
      auto definition = DefinitionOf(message->define(), at(".define"), bounds, tally);
      if (!definition.ok()) return definition.status();
      write->definition = *std::move(definition);
      break;
    }
    case v1::Write::CHANGE_NOT_SET:
      status = Unset(*message, at(""), "has no change: one of set, apply, delete_entry, create, define");
      break;
  }
  if (!status.ok()) return status;
  if (message->has_definition()) {
    if (write->change == Change::kDefine) {
      return BadRequest(at(".definition"), "is of a new entry: with define, leave it out");
    }
    auto definition = DefinitionOf(message->definition(), at(".definition"), bounds, tally);
    if (!definition.ok()) return definition.status();
    write->definition = *std::move(definition);
  }
  return CheckBinding(*write, at("") + (write->change == Change::kDefine ? ".define" : ".definition"));
}

// An atom changes alone: a commit that writes one writes nothing else.
absl::Status CheckAtomAlone(const std::vector<engine::Write>& writes) {
  const auto atom = std::find_if(writes.begin(), writes.end(),
                                 [](const engine::Write& w) { return w.kind == engine::EntryKind::kAtom; });
  if (atom == writes.end()) return absl::OkStatus();
  for (size_t i = 0; i < writes.size(); ++i) {
    if (writes[i].name == atom->name && writes[i].kind == atom->kind) continue;
    v1::ErrorDetail detail;
    detail.set_reason(v1::ERROR_REASON_WRONG_KIND);
    detail.set_name(absl::StrCat("writes[", i, "].name"));
    detail.set_found(writes[i].name);
    detail.set_expected(atom->name);
    return engine::WithDetail(
        absl::FailedPreconditionError(absl::StrCat("writes[", i, "].name: ", writes[i].name,
                                                   " is written together with the atom ", atom->name,
                                                   ": atoms change alone; use refs, or a commit of its own")),
        detail);
  }
  return absl::OkStatus();
}

template <typename Fences>
absl::Status ReadFences(Fences* messages, std::vector<engine::Fence>* fences) {
  fences->reserve(messages->size());
  for (v1::Fence& fence : *messages) {
    const auto field = [&] { return absl::StrCat("fences[", fences->size(), "].lock"); };
    if (absl::Status status = engine::CheckLockName(field(), fence.lock()); !status.ok()) return status;
    fences->push_back(engine::Fence{std::move(*fence.mutable_lock()), fence.token()});
  }
  return absl::OkStatus();
}

absl::Status ReadAt(const v1::ReadPoint& message, engine::ReadPoint* at, engine::Seen* seen) {
  using At = engine::ReadPoint::At;
  if (message.has_seen()) *seen = SeenOf(message.seen());
  switch (message.at_case()) {
    case v1::ReadPoint::kVersion:
      // 0 is the snapshot of a store in which nothing was committed yet.
      if (message.version() < 0) {
        return BadRequest("at.version", absl::StrCat("found ", message.version(),
                                                     ", expected a snapshot as an answer gave it; unset: the newest"));
      }
      at->at = At::kVersion;
      at->version = message.version();
      return absl::OkStatus();
    case v1::ReadPoint::kInstant: {
      absl::StatusOr<Instant> instant = stm::FromProto(message.instant());
      if (!instant.ok()) return BadField("at.instant", instant.status());
      at->at = At::kInstant;
      at->instant = *instant;
      return absl::OkStatus();
    }
    case v1::ReadPoint::kStale:
      if (message.stale()) at->at = At::kStale;
      return absl::OkStatus();
    case v1::ReadPoint::AT_NOT_SET:
      if (HasUnknownFields(message)) {
        return BadField("at", absl::UnimplementedError("a kind that this daemon does not know: it is older than the client"));
      }
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

// --- Page tokens ---

// FNV-1a: tokens are checked against mistakes, not against forgers, who may read what they name anyway.
uint64_t Fnv(std::string_view text, uint64_t hash = 0xcbf29ce484222325u) {
  for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

void AppendWord(uint64_t word, std::string* out) {
  for (int shift = 0; shift < 64; shift += 8) out->push_back(static_cast<char>(word >> shift));
}

uint64_t WordAt(std::string_view bytes, size_t at) {
  uint64_t word = 0;
  for (int i = 7; i >= 0; --i) word = (word << 8) | static_cast<unsigned char>(bytes[at + i]);
  return word;
}

struct PageToken {
  uint64_t store = 0;
  engine::Version snapshot = 0;
  std::string after_name;
};

// Store, snapshot, check, last name.
std::string Print(const PageToken& token, std::string_view prefix) {
  std::string bytes;
  AppendWord(token.store, &bytes);
  AppendWord(static_cast<uint64_t>(token.snapshot), &bytes);
  AppendWord(Fnv(token.after_name, Fnv(prefix, Fnv(bytes))), &bytes);
  bytes += token.after_name;
  return absl::WebSafeBase64Escape(bytes);
}

std::optional<PageToken> ParsePageToken(const std::string& text, std::string_view prefix) {
  std::string bytes;
  if (!absl::WebSafeBase64Unescape(text, &bytes) || bytes.size() < 24) return std::nullopt;
  PageToken token{WordAt(bytes, 0), static_cast<engine::Version>(WordAt(bytes, 8)), bytes.substr(24)};
  const uint64_t check = Fnv(token.after_name, Fnv(prefix, Fnv(std::string_view(bytes).substr(0, 16))));
  if (WordAt(bytes, 16) != check) return std::nullopt;
  return token;
}

void FillDefinition(const engine::Definition& definition, v1::Definition* message) {
  message->set_container(definition.container);
  if (definition.validator != nullptr) ToProto(definition.validator->form(), message->mutable_validator());
  message->set_session_id(definition.session_id);
  if (definition.ttl != absl::ZeroDuration()) SetDuration(definition.ttl, message->mutable_ttl());
}

void FillMeta(const engine::Meta& meta, v1::Meta* message) {
  message->set_label(meta.label);
  message->set_client(meta.client);
  message->set_traceparent(meta.traceparent);
  message->set_principal(meta.principal);
}

v1::RejectCause CauseOf(engine::RejectCause cause) {
  switch (cause) {
    case engine::RejectCause::kNone:
      return v1::REJECT_CAUSE_UNSPECIFIED;
    case engine::RejectCause::kValidator:
      return v1::REJECT_CAUSE_VALIDATOR;
    case engine::RejectCause::kType:
      return v1::REJECT_CAUSE_TYPE;
    case engine::RejectCause::kCompare:
      return v1::REJECT_CAUSE_COMPARE;
    case engine::RejectCause::kOverflow:
      return v1::REJECT_CAUSE_OVERFLOW;
    case engine::RejectCause::kAbsent:
      return v1::REJECT_CAUSE_ABSENT;
    case engine::RejectCause::kKind:
      return v1::REJECT_CAUSE_KIND;
  }
  return v1::REJECT_CAUSE_UNSPECIFIED;
}

void FillFresh(const std::vector<engine::EntryState>& fresh, google::protobuf::RepeatedPtrField<v1::Entry>* messages) {
  for (const engine::EntryState& entry : fresh) {
    // Left out: an entry without its value would say that it is absent.
    if (!entry.value_omitted) FillEntry(entry, false, messages->Add());
  }
}

void FillChange(const ChangeView& view, v1::Change* message) {
  using Kind = engine::EntryChange::Kind;
  const engine::EntryChange& change = *view.change;
  message->set_name(change.name);
  message->set_entry_kind(change.entry_kind == engine::EntryKind::kAtom ? v1::ENTRY_KIND_ATOM : v1::ENTRY_KIND_REF);
  if (!view.before_known) {
    message->set_before_unknown(true);
  } else if (view.before->has_value()) {
    ToProto(**view.before, message->mutable_before());
  }
  switch (change.kind) {
    case Kind::kSet:
    case Kind::kCreate:
      message->set_kind(v1::CHANGE_KIND_SET);
      if (change.value) ToProto(*change.value, message->mutable_after());
      break;
    case Kind::kDelete:
      message->set_kind(v1::CHANGE_KIND_DELETED);
      break;
    case Kind::kExpire:
      message->set_kind(v1::CHANGE_KIND_EXPIRED);
      break;
    case Kind::kDefine:
      message->set_kind(v1::CHANGE_KIND_DEFINED);
      if (view.before_known && view.before->has_value()) *message->mutable_after() = message->before();
      break;
  }
}

int64_t BytesOf(const ChangeView& view) {
  const int64_t value = view.change->value ? static_cast<int64_t>(view.change->value->edn_size()) : 0;
  const int64_t before = view.before->has_value() ? static_cast<int64_t>((*view.before)->edn_size()) : 0;
  return static_cast<int64_t>(view.change->name.size()) + value + before + 16;
}

}  // namespace

absl::Status ReadMeta(v1::Meta* message, std::shared_ptr<const engine::Meta>* out) {
  const int64_t bytes = static_cast<int64_t>(message->label().size() + message->client().size() +
                                             message->traceparent().size());
  if (bytes > kMetaBytesMax) {
    return engine::LimitReached("meta_bytes_max", kMetaBytesMax, "meta", bytes, "shorten label, client and traceparent");
  }
  if (bytes == 0) return absl::OkStatus();
  auto meta = std::make_shared<engine::Meta>();
  meta->label = std::move(*message->mutable_label());
  meta->client = std::move(*message->mutable_client());
  meta->traceparent = std::move(*message->mutable_traceparent());
  *out = std::move(meta);
  return absl::OkStatus();
}

// --- Requests ---

engine::Seen SeenOf(const v1::Seen& message) { return engine::Seen{message.version(), message.store()}; }

absl::StatusOr<absl::Duration> DurationOf(const google::protobuf::Duration& message, std::string_view field) {
  constexpr int64_t kSecondsMax = 315576000000;  // as duration.proto has it: 10,000 years
  const bool signs_differ = (message.seconds() < 0 && message.nanos() > 0) || (message.seconds() > 0 && message.nanos() < 0);
  if (std::abs(message.seconds()) > kSecondsMax || std::abs(message.nanos()) > 999999999 || signs_differ) {
    return BadRequest(field, "no legal duration: at most 10,000 years, nanos below 1e9 and of the sign of seconds");
  }
  return absl::Seconds(message.seconds()) + absl::Nanoseconds(message.nanos());
}

absl::StatusOr<engine::CommitId> CommitIdOf(const v1::CommitId& message, std::string_view field) {
  engine::CommitId id;
  const std::optional<Uuid> uuid = ParseUuid(message.transaction_id());
  if (!uuid) {
    return BadRequest(absl::StrCat(Absl(field), ".transaction_id"),
                      "no UUID: expected 36 characters as 01234567-89ab-cdef-0123-456789abcdef");
  }
  if (message.writer() == 0) {
    return BadRequest(absl::StrCat(Absl(field), ".writer"), "is 0: take it from the header of any answer (GetStatus has one)");
  }
  if (message.seen().version() < 0) return BadRequest(absl::StrCat(Absl(field), ".seen.version"), "is below 0");
  id.transaction_id = *uuid;
  id.writer = message.writer();
  id.seen = message.seen().version();
  id.store = message.seen().store();
  id.resend = message.resend();
  return id;
}

absl::StatusOr<std::unique_ptr<engine::Transaction>> TransactionOf(v1::CommitRequest* request,
                                                                   const engine::Options& bounds) {
  auto transaction = std::make_unique<engine::Transaction>();
  Tally tally(bounds);
  absl::Status status = tally.Entries(int64_t{request->reads_size()} + request->lists_size() + request->ensures_size() +
                                      request->writes_size() + request->records_size() + request->fences_size());
  if (!status.ok()) return status;
  if (request->has_id()) {
    absl::StatusOr<engine::CommitId> id = CommitIdOf(request->id(), "id");
    if (!id.ok()) return id.status();
    transaction->id = *id;
  }
  if (request->snapshot() < 0) return BadRequest("snapshot", "is below 0");
  transaction->snapshot = request->snapshot();
  switch (request->isolation()) {
    case v1::ISOLATION_UNSPECIFIED:
    case v1::ISOLATION_SERIALIZABLE:
      transaction->isolation = engine::Isolation::kSerializable;
      break;
    case v1::ISOLATION_SNAPSHOT:
      transaction->isolation = engine::Isolation::kSnapshot;
      break;
    default:
      return BadField("isolation", absl::UnimplementedError(absl::StrCat("no isolation ", request->isolation(), " is known")));
  }
  status = TakeNames(request->mutable_reads(), "reads", engine::CheckName, &transaction->reads);
  if (!status.ok()) return status;
  status = TakeNames(request->mutable_lists(), "lists", engine::CheckPrefix, &transaction->lists);
  if (!status.ok()) return status;
  status = TakeNames(request->mutable_ensures(), "ensures", engine::CheckName, &transaction->ensures);
  if (!status.ok()) return status;
  transaction->writes.resize(request->writes_size());
  for (int i = 0; i < request->writes_size(); ++i) {
    status = ReadWrite(request->mutable_writes(i), "writes", i, bounds, &tally, &transaction->writes[i]);
    if (!status.ok()) return status;
  }
  status = CheckAtomAlone(transaction->writes);
  if (!status.ok()) return status;
  transaction->records.resize(request->records_size());
  for (int i = 0; i < request->records_size(); ++i) {
    const auto field = [&] { return Indexed("records", i); };
    status = ReadValue(request->records(i), "a record", &tally, &transaction->records[i], field);
    if (!status.ok()) return status;
    if (!transaction->records[i].is(Type::kTagged)) {
      return BadRequest(field(), absl::StrCat("found ", Absl(TypeName(transaction->records[i].type())),
                                              ", expected a tagged value as #blog.CreateUser{:name \"Bob\"}"));
    }
  }
  status = ReadFences(request->mutable_fences(), &transaction->fences);
  if (!status.ok()) return status;
  if (request->has_meta()) {
    status = ReadMeta(request->mutable_meta(), &transaction->meta);
    if (!status.ok()) return status;
  }
  if (request->has_age()) {
    const v1::Age& age = request->age();
    absl::StatusOr<absl::Duration> since = DurationOf(age.since_first_run(), "age.since_first_run");
    if (!since.ok()) return since.status();
    if (*since < absl::ZeroDuration()) return BadRequest("age.since_first_run", "is below 0");
    transaction->since_first_run = std::min(*since, bounds.transaction_age_max);
    transaction->runs = std::max<uint32_t>(age.runs(), 1);
    transaction->reservation = age.reservation();
  }
  return transaction;
}

absl::StatusOr<std::unique_ptr<engine::Transaction>> TransactionOf(v1::ApplyAtomRequest* request,
                                                                   const engine::Options& bounds) {
  auto transaction = std::make_unique<engine::Transaction>();
  Tally tally(bounds);
  absl::Status status = tally.Entries(1 + int64_t{request->fences_size()});
  if (!status.ok()) return status;
  status = CheckWriteName(request->name(), "name");
  if (!status.ok()) return status;
  if (request->has_id()) {
    absl::StatusOr<engine::CommitId> id = CommitIdOf(request->id(), "id");
    if (!id.ok()) return id.status();
    transaction->id = *id;
  }
  if (!request->has_operation()) return BadRequest("operation", "is missing: expected one, as set or add");
  engine::Write& write = transaction->writes.emplace_back();
  write.name = std::move(*request->mutable_name());
  write.kind = engine::EntryKind::kAtom;
  write.change = engine::Write::Change::kApply;
  status = ReadOperation(request->operation(), write.name, &tally, &write.operation, [] { return "operation"; });
  if (!status.ok()) return status;
  if (request->has_definition()) {
    auto definition = DefinitionOf(request->definition(), "definition", bounds, &tally);
    if (!definition.ok()) return definition.status();
    write.definition = *std::move(definition);
    status = CheckBinding(write, "definition");
    if (!status.ok()) return status;
  }
  status = ReadFences(request->mutable_fences(), &transaction->fences);
  if (!status.ok()) return status;
  if (request->has_meta()) {
    status = ReadMeta(request->mutable_meta(), &transaction->meta);
    if (!status.ok()) return status;
  }
  return transaction;
}

absl::StatusOr<engine::GetRequest> GetRequestOf(v1::GetRefsRequest* request, const engine::Options& bounds) {
  engine::GetRequest get;
  Tally tally(bounds);
  absl::Status status = tally.Entries(int64_t{request->names_size()} + request->pending_size());
  if (!status.ok()) return status;
  status = TakeNames(request->mutable_names(), "names", engine::CheckName, &get.names);
  if (!status.ok()) return status;
  if (request->has_at()) {
    status = ReadAt(request->at(), &get.at, &get.seen);
    if (!status.ok()) return status;
  }
  get.pending.resize(request->pending_size());
  for (int i = 0; i < request->pending_size(); ++i) {
    status = ReadWrite(request->mutable_pending(i), "pending", i, bounds, &tally, &get.pending[i]);
    if (!status.ok()) return status;
  }
  return get;
}

absl::StatusOr<engine::ListRequest> ListRequestOf(v1::ListRefsRequest* request, const engine::Options& bounds,
                                                  uint64_t store) {
  engine::ListRequest list;
  if (const absl::Status status = engine::CheckPrefix(request->prefix()); !status.ok()) {
    return BadField("prefix", status);
  }
  // Not moved: the answer's page token needs it.
  list.prefix = request->prefix();
  if (request->has_at()) {
    const absl::Status status = ReadAt(request->at(), &list.at, &list.seen);
    if (!status.ok()) return status;
  }
  list.page_size = std::min<int64_t>(request->page_size(), bounds.list_page_max);
  list.names_only = request->names_only();
  list.count_only = request->count_only();
  if (!request->page_token().empty()) {
    std::optional<PageToken> token = ParsePageToken(request->page_token(), request->prefix());
    if (!token) {
      return BadRequest("page_token", "is none of this listing's: send next_page_token as it came, with the same prefix");
    }
    if (token->store != store) return engine::StoreChanged(token->store, store);
    list.at = engine::ReadPoint{engine::ReadPoint::At::kVersion, token->snapshot, Instant{}};
    list.after_name = std::move(token->after_name);
  }
  return list;
}

absl::StatusOr<engine::AwaitRequest> AwaitRequestOf(v1::AwaitChangeRequest* request, const engine::Options& bounds) {
  engine::AwaitRequest await;
  Tally tally(bounds);
  absl::Status status = tally.Entries(int64_t{request->reads_size()} + request->lists_size());
  if (!status.ok()) return status;
  if (request->reads_size() + request->lists_size() == 0) {
    return BadRequest("reads", "none, and no lists: a transaction that has read nothing would wait for ever");
  }
  if (request->snapshot() < 0) return BadRequest("snapshot", "is below 0");
  await.snapshot = request->snapshot();
  status = TakeNames(request->mutable_reads(), "reads", engine::CheckName, &await.reads);
  if (!status.ok()) return status;
  status = TakeNames(request->mutable_lists(), "lists", engine::CheckPrefix, &await.lists);
  if (!status.ok()) return status;
  await.seen = SeenOf(request->seen());
  await.reservation = request->reservation();
  return await;
}

absl::StatusOr<engine::Selector> SelectorOf(v1::Selector* message, std::string_view field,
                                            const engine::Options& bounds) {
  engine::Selector selector;
  Tally tally(bounds);
  absl::Status status = tally.Entries(int64_t{message->names_size()} + message->prefixes_size());
  if (!status.ok()) return status;
  status = TakeNames(message->mutable_names(), absl::StrCat(Absl(field), ".names").c_str(), engine::CheckName,
                     &selector.names);
  if (!status.ok()) return status;
  status = TakeNames(message->mutable_prefixes(), absl::StrCat(Absl(field), ".prefixes").c_str(), engine::CheckPrefix,
                     &selector.prefixes);
  if (!status.ok()) return status;
  return selector;
}

absl::StatusOr<engine::WatchRequest> WatchRequestOf(v1::WatchRequest* request, const engine::Options& bounds) {
  engine::WatchRequest watch;
  absl::StatusOr<engine::Selector> selector = SelectorOf(request->mutable_selector(), "selector", bounds);
  if (!selector.ok()) return selector.status();
  watch.selector = *std::move(selector);
  if (request->after_version() < 0) return BadRequest("after_version", "is below 0");
  if (request->initial() && request->after_version() != 0) {
    return BadRequest("after_version", "must be 0 with initial: the entries as they are come first, then all after them");
  }
  watch.after = request->after_version();
  watch.initial = request->initial();
  if (request->has_progress_every()) {
    absl::StatusOr<absl::Duration> every = DurationOf(request->progress_every(), "progress_every");
    if (!every.ok()) return every.status();
    if (*every < kProgressMin) {
      return BadRequest("progress_every", absl::StrCat("found ", absl::FormatDuration(*every), ", expected at least ",
                                                       absl::FormatDuration(kProgressMin)));
    }
    watch.progress_every = *every;
  }
  watch.seen = SeenOf(request->seen());
  return watch;
}

// --- Answers ---

void SetDuration(absl::Duration duration, google::protobuf::Duration* message) {
  message->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  message->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

void FillHeader(Identity identity, engine::Version installed, v1::Header* header) {
  header->set_store(identity.store);
  header->set_writer(identity.writer);
  header->set_installed_version(installed);
}

void FillEntry(const engine::EntryState& entry, bool with_definition, v1::Entry* message) {
  message->set_name(entry.name);
  if (entry.value) ToProto(*entry.value, message->mutable_value());
  message->set_version(entry.version);
  message->set_kind(entry.kind == engine::EntryKind::kAtom ? v1::ENTRY_KIND_ATOM : v1::ENTRY_KIND_REF);
  if (with_definition && entry.definition != nullptr) FillDefinition(*entry.definition, message->mutable_definition());
  if (entry.version != 0 && (entry.written_at.seconds != 0 || entry.written_at.nanos != 0)) {
    *message->mutable_written_at() = ToProto(entry.written_at);
  }
}

absl::Status FillGet(const engine::GetResult& result, bool with_definition, Identity identity,
                     int64_t bytes_max, v1::GetRefsResponse* response) {
  int64_t bytes = 0;
  for (const engine::EntryState& entry : result.entries) {
    bytes += static_cast<int64_t>(entry.name.size()) + (entry.value ? static_cast<int64_t>(entry.value->edn_size()) : 0);
  }
  if (bytes > bytes_max) {
    return engine::LimitReached("transaction_bytes_max", bytes_max, "the answer", bytes,
                                "ask for fewer names, all at this snapshot");
  }
  FillHeader(identity, result.installed, response->mutable_header());
  response->set_snapshot(result.snapshot);
  response->mutable_entries()->Reserve(static_cast<int>(result.entries.size()));
  for (const engine::EntryState& entry : result.entries) FillEntry(entry, with_definition, response->add_entries());
  return absl::OkStatus();
}

void FillList(const engine::ListResult& result, const std::string& prefix, bool names_only, bool count_only,
              Identity identity, v1::ListRefsResponse* response) {
  FillHeader(identity, result.installed, response->mutable_header());
  response->set_snapshot(result.snapshot);
  if (count_only) {
    response->set_count(result.count);
    return;
  }
  for (const engine::EntryState& entry : result.entries) {
    if (names_only) {
      v1::Entry* message = response->add_entries();
      message->set_name(entry.name);
      message->set_version(entry.version);
      message->set_kind(entry.kind == engine::EntryKind::kAtom ? v1::ENTRY_KIND_ATOM : v1::ENTRY_KIND_REF);
    } else {
      FillEntry(entry, false, response->add_entries());
    }
  }
  if (result.more) {
    assert(!result.entries.empty());
    response->set_next_page_token(
        Print(PageToken{identity.store, result.snapshot, result.entries.back().name}, prefix));
  }
}

void FillAwait(const engine::AwaitResult& result, Identity identity, v1::AwaitChangeResponse* response) {
  FillHeader(identity, result.installed, response->mutable_header());
  response->set_snapshot(result.snapshot);
  FillFresh(result.fresh, response->mutable_fresh());
}

absl::Status FillCommit(const engine::Verdict& verdict, engine::Version installed, Identity identity,
                        v1::CommitResponse* response) {
  if (const auto* status = std::get_if<absl::Status>(&verdict.outcome)) return *status;
  FillHeader(identity, installed, response->mutable_header());
  if (const auto* committed = std::get_if<engine::Committed>(&verdict.outcome)) {
    v1::Committed* message = response->mutable_committed();
    message->set_version(committed->version);
    *message->mutable_at() = ToProto(committed->at);
    message->mutable_results()->Reserve(static_cast<int>(committed->results.size()));
    for (const std::optional<Value>& result : committed->results) {
      v1::Value* value = message->add_results();
      if (result) ToProto(*result, value);
    }
    message->set_results_dropped(committed->results_dropped);
  } else if (const auto* conflict = std::get_if<engine::Conflict>(&verdict.outcome)) {
    v1::Conflict* message = response->mutable_conflict();
    for (const engine::ConflictCause& cause : conflict->causes) {
      v1::ConflictCause* by = message->add_causes();
      by->set_name(cause.name);
      by->set_version(cause.version);
      if (cause.by != nullptr) FillMeta(*cause.by, by->mutable_by());
    }
    message->set_snapshot(conflict->snapshot);
    FillFresh(conflict->fresh, message->mutable_fresh());
    if (conflict->reserved_for > absl::ZeroDuration()) {
      SetDuration(conflict->reserved_for, message->mutable_reserved_for());
    }
    message->set_reservation(conflict->reservation);
  } else if (const auto* rejected = std::get_if<engine::Rejected>(&verdict.outcome)) {
    v1::Rejected* message = response->mutable_rejected();
    message->set_cause(CauseOf(rejected->rejection.cause));
    message->set_name(rejected->name);
    if (rejected->rejection.rule) ToProto(*rejected->rejection.rule, message->mutable_rule());
    message->set_found(rejected->rejection.found);
    message->set_message(rejected->rejection.message);
    message->set_write_index(rejected->write_index);
  } else if (const auto* lost = std::get_if<engine::FenceLost>(&verdict.outcome)) {
    v1::FenceLost* message = response->mutable_fence_lost();
    message->mutable_fence()->set_lock(lost->fence.lock);
    message->mutable_fence()->set_token(lost->fence.token);
    for (int64_t token : lost->current_tokens) message->add_current_tokens(token);
  } else if (const auto* old = std::get_if<engine::IdTooOld>(&verdict.outcome)) {
    response->mutable_id_too_old()->set_floor(old->floor);
  } else {
    response->mutable_not_committed();
  }
  return absl::OkStatus();
}

v1::ErrorDetail ErrorDetailOf(const absl::Status& status, Identity identity, engine::Version installed) {
  v1::ErrorDetail detail = engine::DetailOf(status).value_or(v1::ErrorDetail());
  FillHeader(identity, installed, detail.mutable_header());
  return detail;
}

std::string StatusDetailsOf(const absl::Status& status, Identity identity, engine::Version installed) {
  google::rpc::Status message;
  message.set_code(static_cast<int>(status.code()));
  message.set_message(std::string(status.message()));
  message.add_details()->PackFrom(ErrorDetailOf(status, identity, installed));
  return message.SerializeAsString();
}

// --- Commits ---

CommitView ViewOf(const engine::WatchEvent& event) {
  const engine::InstalledCommit& commit = *event.commit;
  CommitView view{commit.version, commit.at, &commit.transaction_id, commit.meta.get(), {}, &commit.records};
  view.changes.reserve(event.selected.size());
  for (uint32_t i : event.selected) view.changes.push_back(ChangeView{&commit.changes[i], &commit.before[i], commit.BeforeKnown(i)});
  return view;
}

CommitView ViewOf(const engine::LogCursor::Item& item, const engine::Selector* selector) {
  const engine::CommitRecord& commit = *item.commit;
  CommitView view{commit.version, commit.at, &commit.transaction_id, commit.meta.get(), {}, &commit.records};
  for (size_t i = 0; i < commit.changes.size(); ++i) {
    if (selector != nullptr && !selector->Selects(commit.changes[i].name)) continue;
    view.changes.push_back(ChangeView{&commit.changes[i], &item.before[i], item.before_known[i]});
  }
  return view;
}

bool HasRecordOf(const std::vector<Value>& records, const std::vector<std::string>& tags) {
  for (const Value& record : records) {
    if (!record.is(Type::kTagged)) continue;
    for (const std::string& tag : tags) {
      const bool prefix = !tag.empty() && tag.back() == '*';
      if (prefix ? absl::StartsWith(record.text(), absl::string_view(tag).substr(0, tag.size() - 1))
                 : record.text() == tag) {
        return true;
      }
    }
  }
  return false;
}

int64_t BytesOf(const CommitView& commit) {
  int64_t bytes = 64;
  for (const ChangeView& change : commit.changes) bytes += BytesOf(change);
  for (const Value& record : *commit.records) bytes += static_cast<int64_t>(record.edn_size());
  return bytes;
}

void ForEachPart(const CommitView& commit, int64_t bytes_max, const std::function<void(v1::CommitEvent&&)>& part) {
  const auto begin = [&] {
    v1::CommitEvent event;
    event.set_version(commit.version);
    *event.mutable_at() = ToProto(commit.at);
    if (commit.transaction_id->has_value()) event.set_transaction_id(ToString(**commit.transaction_id));
    if (commit.meta != nullptr) FillMeta(*commit.meta, event.mutable_meta());
    return event;
  };
  v1::CommitEvent event = begin();
  int64_t bytes = 0;
  const auto make_room = [&](int64_t next) {
    if (bytes > 0 && bytes + next > bytes_max) {
      event.set_more(true);
      part(std::move(event));
      event = begin();
      bytes = 0;
    }
    bytes += next;
  };
  for (const ChangeView& change : commit.changes) {
    make_room(BytesOf(change));
    FillChange(change, event.add_changes());
  }
  for (const Value& record : *commit.records) {
    make_room(static_cast<int64_t>(record.edn_size()));
    ToProto(record, event.add_records());
  }
  part(std::move(event));
}

}  // namespace stm::server
