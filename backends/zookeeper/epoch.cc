#include "backends/zookeeper/epoch.h"

#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "engine/values/edn.h"

namespace stm::zookeeper {
namespace {

constexpr std::string_view kMove = "{:epoch ";

const Value* Find(const Value& map, std::string_view key, Type type) {
  const Value* value = map.map().Find(Value::Keyword(key));
  return value != nullptr && value->is(type) ? value : nullptr;
}

absl::Status NoStore(const std::string& text) {
  return absl::DataLossError(absl::StrCat("this says no store: ", text.substr(0, 200)));
}

absl::StatusOr<Epoch> EpochOf(const Value& read, const std::string& text) {
  if (!read.is(Type::kMap)) return NoStore(text);
  const Value* format = Find(read, "format", Type::kInteger);
  if (format != nullptr && format->integer() != kFormat) {
    return absl::UnimplementedError(absl::StrCat("the store in ZooKeeper has format ", format->integer(),
                                                 ", this stmd reads ", kFormat, ": use a newer one"));
  }
  Epoch epoch;
  const Value* store = Find(read, "store", Type::kString);
  if (format == nullptr || store == nullptr || !absl::SimpleHexAtoi(store->text(), &epoch.store)) {
    return NoStore(text);
  }
  const std::pair<const char*, int64_t*> integers[] = {
      {"base", &epoch.base}, {"segment", &epoch.segment}, {"swept", &epoch.swept}};
  for (const auto& [key, to] : integers) {
    const Value* value = Find(read, key, Type::kInteger);
    if (value == nullptr || value->integer() < 0) return NoStore(text);
    *to = value->integer();
  }
  return epoch;
}

}  // namespace

std::string PrintEpoch(const Epoch& epoch) {
  return absl::StrFormat("{:format %d :store \"%016x\" :base %d :segment %d :swept %d}", kFormat, epoch.store,
                         epoch.base, epoch.segment, epoch.swept);
}

absl::StatusOr<Epoch> ParseEpoch(const std::string& data) {
  const absl::StatusOr<Value> read = ReadEdn(data);
  if (!read.ok()) return NoStore(data);
  return EpochOf(*read, data);
}

std::string PrintSegment(const SegmentText& segment) {
  return absl::StrCat(segment.trimmed, segment.closed ? " closed" : "");
}

absl::StatusOr<SegmentText> ParseSegment(const std::string& data) {
  SegmentText segment;
  absl::string_view text = data;
  segment.closed = absl::ConsumeSuffix(&text, " closed");
  if (!absl::SimpleAtoi(text, &segment.trimmed) || segment.trimmed < 0) {
    return absl::DataLossError(
        absl::StrCat("expected how many entries are trimmed, found ", data.substr(0, 100)));
  }
  return segment;
}

bool IsEpochMove(std::string_view data) { return data.substr(0, kMove.size()) == kMove; }

std::string PrintEpochMove(const EpochMove& move) {
  std::string out = absl::StrCat("{:epoch ", move.epoch.version, " :is ", PrintEpoch(move.epoch), " :below ",
                                 move.below, " :swept [");
  for (const std::string& name : move.swept) {
    AppendEdnString(name, &out);
    out.push_back(' ');
  }
  out += "]}";
  return out;
}

absl::StatusOr<EpochMove> ParseEpochMove(const std::string& data) {
  const absl::StatusOr<Value> read = ReadEdn(data);
  const absl::Status malformed = absl::DataLossError(absl::StrCat(
      "expected {:epoch version :is {...} :below version :swept [names]}, found ", data.substr(0, 200)));
  if (!read.ok() || !read->is(Type::kMap)) return malformed;
  const Value* version = Find(*read, "epoch", Type::kInteger);
  const Value* is = Find(*read, "is", Type::kMap);
  const Value* below = Find(*read, "below", Type::kInteger);
  const Value* swept = Find(*read, "swept", Type::kVector);
  if (version == nullptr || version->integer() != static_cast<int32_t>(version->integer()) || is == nullptr ||
      below == nullptr || swept == nullptr) {
    return malformed;
  }
  const absl::StatusOr<Epoch> epoch = EpochOf(*is, data);
  if (!epoch.ok()) return epoch.status();
  EpochMove move{*epoch, below->integer(), {}};
  move.epoch.version = static_cast<int32_t>(version->integer());
  for (const Value& name : swept->items()) {
    if (!name.is(Type::kString)) return malformed;
    move.swept.push_back(name.text());
  }
  return move;
}

}  // namespace stm::zookeeper
