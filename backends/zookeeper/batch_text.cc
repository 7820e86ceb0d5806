#include "backends/zookeeper/batch_text.h"

#include <memory>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backends/local/log_format.h"
#include "engine/values/edn.h"

namespace stm::zookeeper {
namespace {

using engine::CommitRecord;
using engine::EntryChange;
using Kind = EntryChange::Kind;

// What a commit's second line holds deeper than a value may: a vector of vectors.
constexpr int kLineDepthMax = kValueDepthMax + 2;

// As a local log prints it, but that who reads it may hold nothing of what was before: values whole, and
// definitions that are not the default.
CommitRecord Whole(const CommitRecord& commit, int64_t place) {
  CommitRecord whole;
  whole.version = place + 1;
  whole.at = commit.at;
  whole.transaction_id = commit.transaction_id;
  whole.meta = commit.meta;
  whole.records = commit.records;
  whole.changes.reserve(commit.changes.size());
  for (const EntryChange& change : commit.changes) {
    EntryChange& copy = whole.changes.emplace_back();
    copy.name = change.name;
    copy.kind = change.kind;
    copy.entry_kind = change.entry_kind;
    copy.value = change.value;
    copy.definition = change.definition;
    if (change.whole == nullptr || change.kind != Kind::kSet || copy.definition != nullptr) continue;
    copy.definition = change.whole->definition;
    if (copy.definition == nullptr && change.entry_kind == engine::EntryKind::kAtom) {
      copy.definition = std::make_shared<const engine::Definition>();
    }
  }
  return whole;
}

void PrintChange(const EntryChange& change, const NodeVersions& entries, std::string* out) {
  out->push_back('[');
  AppendEdnString(change.name, out);
  absl::StrAppend(out, " ", entries.at(change.name));
  if (change.kind == Kind::kDefine && change.whole != nullptr && change.whole->value) {
    absl::StrAppend(out, " :is ");
    AppendEdn(*change.whole->value, out);
  } else if (change.before && !*change.before) {
    absl::StrAppend(out, " :absent");
  } else if (change.before && (*change.before)->edn_size() <= kBeforeBytesMax) {
    absl::StrAppend(out, " :was ");
    AppendEdn(**change.before, out);
  }
  out->push_back(']');
}

absl::Status Malformed(absl::string_view what, absl::string_view line) {
  return absl::DataLossError(absl::StrCat("expected ", what, ", found ", line.substr(0, 100)));
}

// The next line without its newline.
absl::string_view TakeLine(absl::string_view* text) {
  const size_t end = std::min(text->find('\n'), text->size());
  const absl::string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return line;
}

std::optional<int32_t> NodeVersionOf(const Value& value) {
  if (!value.is(Type::kInteger) || value.integer() < INT32_MIN || value.integer() > INT32_MAX)
    return std::nullopt;
  return static_cast<int32_t>(value.integer());
}

absl::Status ParseHeader(absl::string_view line, BatchText* batch) {
  const absl::StatusOr<Value> header = ReadEdn({line.data(), line.size()});
  if (!header.ok() || !header->is(Type::kMap)) return Malformed("a batch's header", line);
  const auto find = [&header](std::string_view key, Type type) {
    const Value* value = header->map().Find(Value::Keyword(key));
    return value != nullptr && value->is(type) ? value : nullptr;
  };
  const Value* writer = find("writer", Type::kString);
  const Value* number = find("batch", Type::kInteger);
  const Value* directories = find("dirs", Type::kMap);
  if (writer == nullptr || number == nullptr || directories == nullptr ||
      !absl::SimpleHexAtoi(writer->text(), &batch->writer)) {
    return Malformed("a batch's header", line);
  }
  batch->number = number->integer();
  for (const auto [name, version] : directories->map()) {
    const std::optional<int32_t> node = NodeVersionOf(version);
    if (!name.is(Type::kString) || !node) return Malformed("directories and their nodes' versions", line);
    batch->directories[name.text()] = *node;
  }
  return absl::OkStatus();
}

absl::Status ParseChanges(absl::string_view line, CommitRecord* commit, BatchText* batch) {
  EdnReader reader({line.data(), line.size()}, kLineDepthMax);
  const absl::StatusOr<Value> read = reader.Next();
  if (!read.ok() || !read->is(Type::kVector)) return Malformed("a commit's entries", line);
  struct Told {
    bool is = false;
    std::optional<std::optional<Value>> value;
  };
  absl::flat_hash_map<std::string, Told> told;
  for (const Value& item : read->items()) {
    const bool right = item.is(Type::kVector) && item.items().size() >= 2 && item.items().size() <= 4 &&
                       item.items().at(0).is(Type::kString) && NodeVersionOf(item.items().at(1));
    if (!right) return Malformed("[name version ...]", line);
    const Vector& parts = item.items();
    batch->entries[parts.at(0).text()] = *NodeVersionOf(parts.at(1));
    Told& one = told[parts.at(0).text()];
    if (parts.size() == 3) one.value.emplace();
    if (parts.size() == 4) one.value.emplace(parts.at(3));
    one.is = parts.size() == 4 && parts.at(2) == Value::Keyword("is");
  }
  for (EntryChange& change : commit->changes) {
    const auto one = told.find(change.name);
    if (one == told.end()) return Malformed(absl::StrCat("a version of ", change.name, "'s node"), line);
    auto whole = std::make_shared<engine::ImageEntry>(WholeOf(change));
    if (one->second.is) whole->value = *one->second.value;
    change.whole = std::move(whole);
    change.before = one->second.value;
  }
  return absl::OkStatus();
}

}  // namespace

std::string PrintBatch(uint64_t writer, int64_t number, const engine::Batch& commits,
                       const NodeVersions& entries, const NodeVersions& directories) {
  std::string out = absl::StrCat("{:writer \"", local::Hex(writer), "\" :batch ", number, " :dirs {");
  for (const auto& [name, version] : directories) {
    AppendEdnString(name, &out);
    absl::StrAppend(&out, " ", version, " ");
  }
  out += "}}\n";
  local::LinePrinter printer;
  for (size_t place = 0; place < commits.size(); ++place) {
    printer.Commit(Whole(*commits[place], static_cast<int64_t>(place)), 0, nullptr, &out);
    out.push_back('[');
    for (const EntryChange& change : commits[place]->changes) PrintChange(change, entries, &out);
    out += "]\n";
  }
  return out;
}

absl::StatusOr<BatchText> ParseBatch(std::string_view text) {
  BatchText batch;
  absl::string_view rest(text.data(), text.size());
  absl::Status status = ParseHeader(TakeLine(&rest), &batch);
  if (!status.ok()) return status;
  local::LineParser parser;
  while (!rest.empty()) {
    const absl::string_view line = TakeLine(&rest);
    const std::optional<local::Trailer> trailer = local::ReadTrailer({line.data(), line.size()});
    if (!trailer) return Malformed("a commit whose sum is right", line);
    absl::StatusOr<local::LogLine> parsed = parser.Parse({line.data(), trailer->body_size}, trailer->hashes);
    if (!parsed.ok()) return parsed.status();
    if (parsed->kind != local::LogLine::Kind::kCommit ||
        parsed->commit->version != static_cast<engine::Version>(batch.commits.size()) + 1 ||
        batch.commits.size() == kBatchCommitsMax) {
      return Malformed(absl::StrCat("the commit at place ", batch.commits.size()), line);
    }
    status = ParseChanges(TakeLine(&rest), parsed->commit.get(), &batch);
    if (!status.ok()) return status;
    --parsed->commit->version;
    batch.commits.push_back(std::move(parsed->commit));
  }
  return batch;
}

engine::ImageEntry WholeOf(const EntryChange& change) {
  if (change.whole != nullptr) return *change.whole;
  engine::ImageEntry whole;
  whole.name = change.name;
  whole.value = change.value;
  whole.kind = change.entry_kind;
  if (whole.value || change.kind == Kind::kDefine) whole.definition = change.definition;
  return whole;
}

std::string PrintNode(engine::ImageEntry whole, int64_t place, Instant at) {
  whole.version = place + 1;
  whole.written_at = at;
  std::string out;
  local::LinePrinter().Entry(whole, &out);
  out.pop_back();  // its newline
  return out;
}

absl::StatusOr<engine::ImageEntry> ParseNode(std::string_view data) {
  absl::StatusOr<local::SnapshotLine> line = local::LineParser().ParseSnapshot(data);
  if (!line.ok()) return line.status();
  if (line->kind != local::SnapshotLine::Kind::kEntry) return absl::DataLossError("not an entry");
  --line->entry.version;
  return std::move(line->entry);
}

}  // namespace stm::zookeeper
