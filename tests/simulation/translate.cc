#include "tests/simulation/translate.h"

#include <memory>
#include <utility>

#include "engine/error.h"
#include "stm/v1/common.pb.h"

namespace stm::sim {
namespace {

using check::Write;

std::shared_ptr<const engine::Definition> DefinitionOf(const Write& write, const ContainerSettings& containers) {
  const bool kept = containers.Keeps(write.name);
  if (write.ttl_ms == 0 && !write.min && !kept) return nullptr;
  auto definition = std::make_shared<engine::Definition>();
  definition->ttl = absl::Milliseconds(write.ttl_ms);
  if (kept) definition->container = kContainer;
  if (write.min) {
    const Value min = Value::OfVector(std::vector<Value>{Value::Keyword("min"), Value::Integer(*write.min)});
    auto validator = engine::Validator::Parse(
        Value::OfVector(std::vector<Value>{Value::Keyword("and"), Value::Keyword("int"), min}));
    definition->validator = *validator;
  }
  return definition;
}

engine::Write ToEngine(const Write& from, const ContainerSettings& containers) {
  engine::Write write;
  write.name = from.name;
  write.kind = from.atom ? engine::EntryKind::kAtom : engine::EntryKind::kRef;
  auto operation = std::make_shared<engine::Operation>();
  switch (from.change) {
    case Write::Change::kSet:
      write.change = engine::Write::Change::kSet;
      write.value = from.value;
      write.definition = DefinitionOf(from, containers);
      break;
    case Write::Change::kAdd:
      write.change = engine::Write::Change::kApply;
      operation->verb = engine::Operation::Verb::kAdd;
      operation->argument = from.value;
      write.operation = std::move(operation);
      break;
    case Write::Change::kConj:
      write.change = engine::Write::Change::kApply;
      operation->verb = engine::Operation::Verb::kConj;
      operation->arguments = {from.value};
      write.operation = std::move(operation);
      break;
    case Write::Change::kDelete:
      write.change = engine::Write::Change::kDelete;
      break;
    case Write::Change::kCreate:
      write.change = engine::Write::Change::kCreate;
      write.value = from.value;
      write.definition = DefinitionOf(from, containers);
      break;
    case Write::Change::kDefine:
      write.change = engine::Write::Change::kDefine;
      write.definition = DefinitionOf(from, containers);
      break;
  }
  return write;
}

}  // namespace

std::vector<engine::Write> ToEngine(const std::vector<check::Write>& from, const ContainerSettings& containers) {
  std::vector<engine::Write> writes;
  for (const check::Write& write : from) writes.push_back(ToEngine(write, containers));
  return writes;
}

std::vector<check::Entry> ToEntries(const std::vector<engine::EntryState>& from) {
  std::vector<check::Entry> entries;
  for (const engine::EntryState& entry : from) {
    if (!entry.value_omitted) entries.push_back(check::Entry{entry.name, entry.value, entry.version});
  }
  return entries;
}

bool LostValue(const absl::Status& status) {
  return absl::IsDataLoss(status) && status.message().find(": container ") != absl::string_view::npos;
}

bool OtherStore(const absl::Status* status) {
  if (status == nullptr) return false;
  const auto detail = engine::DetailOf(*status);
  return detail.has_value() && detail->reason() == v1::ERROR_REASON_STORE_CHANGED;
}

check::Answer ToAnswer(const engine::Verdict& verdict, check::Time at, check::Life life,
                       check::Version installed) {
  check::Answer answer;
  answer.at = at;
  answer.life = life;
  using Verdict = check::Answer::Verdict;
  if (const auto* committed = std::get_if<engine::Committed>(&verdict.outcome)) {
    answer.verdict = Verdict::kCommitted;
    answer.version = committed->version;
    answer.results = committed->results;
    answer.results_dropped = committed->results_dropped;
  } else if (const auto* conflict = std::get_if<engine::Conflict>(&verdict.outcome)) {
    answer.verdict = Verdict::kConflict;
    for (const engine::ConflictCause& cause : conflict->causes) {
      answer.causes.push_back(check::Answer::Cause{cause.name, cause.version});
    }
    answer.snapshot = conflict->snapshot;
    answer.fresh = ToEntries(conflict->fresh);
  } else if (std::holds_alternative<engine::Rejected>(verdict.outcome)) {
    answer.verdict = Verdict::kRejected;
    answer.snapshot = installed;
  } else if (std::holds_alternative<engine::NotCommitted>(verdict.outcome)) {
    answer.verdict = Verdict::kNotCommitted;
  } else if (std::holds_alternative<engine::IdTooOld>(verdict.outcome)) {
    answer.verdict = Verdict::kUnknown;
  } else if (const auto* status = std::get_if<absl::Status>(&verdict.outcome)) {
    // A daemon that is not ready, or refuses to serve, or another store, has looked at nothing.
    const bool nothing = absl::IsUnavailable(*status) || absl::IsDataLoss(*status) || OtherStore(status);
    answer.verdict = nothing ? Verdict::kUnknown : Verdict::kRefused;
  } else {
    answer.verdict = Verdict::kRefused;
    answer.fence_lost = std::holds_alternative<engine::FenceLost>(verdict.outcome);
    if (answer.fence_lost) answer.snapshot = installed;
  }
  return answer;
}

}  // namespace stm::sim
