// Any bytes as what a person gives to stmctl: a transaction as EDN and as JSON, an operation, a validator's
// rule, an outcome's word. Each is taken or refused with a reason; what was taken means the same when it is
// printed and read again.
#include <cassert>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "client/cli/json.h"
#include "client/cli/transaction_file.h"
#include "client/cpp/stm/outcome_word.h"
#include "engine/operation.h"
#include "engine/validator.h"
#include "engine/values/edn.h"
#include "stm/v1/common.pb.h"

namespace {

using namespace stm;

void Refused(const absl::Status& status) {
  assert(absl::IsInvalidArgument(status) || absl::IsUnimplemented(status));
  assert(!status.message().empty());
}

void Transaction(const Value& form) {
  const absl::StatusOr<cli::TransactionFile> file = cli::ParseTransaction(form);
  if (!file.ok()) return Refused(file.status());
  const int writes = file->request.writes_size();
  for (const cli::TransactionFile::Applied& applied : file->applied) {
    assert(applied.count >= 1 && applied.first + applied.count <= writes);
    for (int i = applied.first; i < applied.first + applied.count; ++i) {
      assert(file->request.writes(i).name() == applied.name);
    }
  }
}

void Operation(const Value& form, const Value& target) {
  const absl::StatusOr<engine::Operation> operation = engine::OperationFromEdnForm(form);
  if (!operation.ok()) return Refused(operation.status());
  const Value printed = engine::ToEdnForm(*operation);
  const absl::StatusOr<engine::Operation> again = engine::OperationFromEdnForm(printed);
  assert(again.ok() && engine::ToEdnForm(*again) == printed);
  v1::Operation message;
  engine::ToProto(*operation, &message);
  const absl::StatusOr<engine::Operation> carried = engine::FromProto(message);
  if (carried.ok()) assert(engine::ToEdnForm(*carried) == printed);
  for (const std::optional<Value>& before : {std::optional<Value>(), std::optional<Value>(target)}) {
    const auto applied = engine::Apply(*operation, before);
    if (const auto* rejected = std::get_if<engine::Rejection>(&applied)) {
      assert(rejected->cause != engine::RejectCause::kNone && !rejected->message.empty());
    } else {
      // Pure: the same again.
      const auto twice = engine::Apply(*again, before);
      assert(std::get<engine::Applied>(twice).value == std::get<engine::Applied>(applied).value);
      assert(std::get<engine::Applied>(applied).value.depth() <= kValueDepthMax);
    }
  }
}

void Rule(const Value& form, const Value& target) {
  const auto rule = engine::Validator::Parse(form);
  if (!rule.ok()) return Refused(rule.status());
  const auto again = engine::Validator::Parse((*rule)->form());
  assert(again.ok());
  const auto rejected = (*rule)->Check(target);
  assert(rejected.has_value() == (*again)->Check(target).has_value());
  if (rejected) assert(rejected->cause == engine::RejectCause::kValidator);
}

}  // namespace

// The first form; a second one after it is what operations and rules meet.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<OutcomeWord> word = ParseOutcomeWord(text);
  if (word.ok()) {
    const absl::StatusOr<OutcomeWord> again = ParseOutcomeWord(PrintOutcomeWord(*word));
    assert(again.ok() && PrintOutcomeWord(*again) == PrintOutcomeWord(*word));
  } else {
    Refused(word.status());
  }
  const absl::StatusOr<Value> json = cli::ReadJson(text);
  if (json.ok()) Transaction(*json);
  EdnReader reader(text);
  if (reader.AtEnd()) return 0;
  const absl::StatusOr<Value> form = reader.Next();
  if (!form.ok()) return 0;
  Value target = Value::Integer(1);
  if (!reader.AtEnd()) {
    const absl::StatusOr<Value> second = reader.Next();
    if (second.ok()) target = *second;
  }
  Transaction(*form);
  Operation(*form, target);
  Rule(*form, target);
  return 0;
}
