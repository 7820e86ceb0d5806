#include "backends/zookeeper/turn_text.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "backends/zookeeper/epoch.h"
#include "engine/values/edn.h"

namespace stm::zookeeper {
namespace {

constexpr std::string_view kTurn = "{:turn ";

}  // namespace

bool IsTurn(std::string_view data) { return data.substr(0, kTurn.size()) == kTurn; }

bool IsBatch(std::string_view data) { return !IsTurn(data) && !IsEpochMove(data); }

std::string PrintTurn(const TurnText& turn) {
  std::string out = absl::StrCat(absl::string_view(kTurn.data(), kTurn.size()), "[");
  for (const std::string& name : turn.names) {
    if (&name != &turn.names.front()) out.push_back(' ');
    AppendEdnString(name, &out);
  }
  absl::StrAppendFormat(&out, "] :writer \"%016x\" :ms %d}", turn.writer,
                        absl::ToInt64Milliseconds(turn.length));
  return out;
}

absl::StatusOr<TurnText> ParseTurn(const std::string& data) {
  const absl::Status malformed = absl::DataLossError(
      absl::StrCat("expected {:turn [names] :writer \"...\" :ms count}, found ", data.substr(0, 200)));
  const absl::StatusOr<Value> read = ReadEdn(data);
  if (!read.ok() || !read->is(Type::kMap)) return malformed;
  const auto find = [&read](std::string_view key, Type type) {
    const Value* value = read->map().Find(Value::Keyword(key));
    return value != nullptr && value->is(type) ? value : nullptr;
  };
  const Value* names = find("turn", Type::kVector);
  const Value* writer = find("writer", Type::kString);
  const Value* length = find("ms", Type::kInteger);
  TurnText turn;
  if (names == nullptr || writer == nullptr || length == nullptr || length->integer() < 0 ||
      !absl::SimpleHexAtoi(writer->text(), &turn.writer)) {
    return malformed;
  }
  for (const Value& name : names->items()) {
    if (!name.is(Type::kString)) return malformed;
    turn.names.push_back(name.text());
  }
  turn.length = absl::Milliseconds(length->integer());
  return turn;
}

}  // namespace stm::zookeeper
