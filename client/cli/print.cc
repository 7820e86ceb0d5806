#include "client/cli/print.h"

#include <algorithm>
#include <cstdio>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "client/cli/json.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"
#include "engine/values/wire.h"
#include "stm/v1/common.pb.h"

namespace stm::cli {
namespace {

constexpr std::string_view kCut = "...";

bool Continues(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

// Control characters would move a terminal's cursor, or worse.
std::string Visible(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (static_cast<uint8_t>(c) >= 0x20 && c != 0x7f) {
      out.push_back(c);
      continue;
    }
    char escaped[8];
    std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<uint8_t>(c));
    out += escaped;
  }
  return out;
}

// The first `width` characters.
std::string_view Cut(std::string_view text, size_t width) {
  size_t at = 0;
  for (size_t shown = 0; at < text.size() && shown < width; ++shown) {
    ++at;
    while (at < text.size() && Continues(text[at])) ++at;
  }
  return text.substr(0, at);
}

std::string Fit(std::string line, size_t width) {
  while (!line.empty() && line.back() == ' ') line.pop_back();
  if (width <= kCut.size() || WidthOf(line) <= width) return line;
  return absl::StrCat(std::string(Cut(line, width - kCut.size())), std::string(kCut));
}

std::string InstantText(Instant instant) {
  std::string edn;
  AppendEdnInstant(instant, &edn);
  size_t quote = edn.find('"');
  return edn.substr(quote + 1, edn.size() - quote - 2);
}

// What a table shows of a value: names, words and times without their marks.
std::string Cell(const Value& value) {
  if (value.is(Type::kInstant)) return InstantText(value.instant());
  return Visible(ToEdn(value));
}

const char* KindWord(v1::EntryKind kind) { return kind == v1::ENTRY_KIND_ATOM ? "atom" : "ref"; }

const char* ChangeWord(v1::ChangeKind kind) {
  switch (kind) {
    case v1::CHANGE_KIND_SET: return "set";
    case v1::CHANGE_KIND_DELETED: return "deleted";
    case v1::CHANGE_KIND_EXPIRED: return "expired";
    case v1::CHANGE_KIND_DEFINED: return "defined";
    default: return "unknown";
  }
}

Fields MetaFields(const v1::Meta& meta) {
  Fields fields;
  if (!meta.label().empty()) fields.emplace_back("label", Value::String(meta.label()));
  if (!meta.client().empty()) fields.emplace_back("client", Value::String(meta.client()));
  if (!meta.principal().empty()) fields.emplace_back("principal", Value::String(meta.principal()));
  if (!meta.traceparent().empty()) fields.emplace_back("traceparent", Value::String(meta.traceparent()));
  return fields;
}

absl::StatusOr<Value> InstantOf(const google::protobuf::Timestamp& message) {
  absl::StatusOr<Instant> instant = FromProto(message);
  if (!instant.ok()) return instant.status();
  return Value::OfInstant(*instant);
}

}  // namespace

size_t WidthOf(std::string_view utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return !Continues(c); }));
}

absl::StatusOr<Value> ValueOf(const v1::Value& message) {
  absl::StatusOr<Value> value = FromProto(message);
  if (value.ok()) return value;
  return absl::DataLossError(absl::StrCat("the daemon's answer holds no legal value: ", value.status().message(),
                                          ": compare the versions of stmctl and stmd (stmctl version, stmctl status)"));
}

Value Printer::Word(std::string_view word) const {
  if (output_ == Output::kTable) return Value::Symbol(word);
  return output_ == Output::kJson ? Value::String(word) : Value::Keyword(word);
}

// A symbol is printed bare, whatever is in it.
Value Printer::Plain(std::string_view text) const {
  return output_ == Output::kTable ? Value::Symbol(text) : Value::String(text);
}

Value Printer::MapOf(const Fields& fields) const {
  std::vector<std::pair<Value, Value>> entries;
  entries.reserve(fields.size());
  for (const auto& [name, value] : fields) entries.emplace_back(Word(name), value);
  return Value::OfMap(Map(std::move(entries)));
}

std::string Printer::Text(const Value& value) const {
  if (output_ == Output::kJson) return ToJson(value);
  if (output_ == Output::kRaw && (value.is(Type::kString) || value.is(Type::kBytes))) return value.text();
  return ToEdn(value);
}

void Printer::Print(const Value& value) { out_ << Text(value) << '\n'; }

void Printer::Row(const Fields& fields) {
  switch (output_) {
    case Output::kTable:
      table_.push_back(fields);
      return;
    case Output::kRaw: {
      const char* before = "";
      for (const auto& [name, value] : fields) {
        out_ << before << Text(value);
        before = "\t";
      }
      out_ << '\n';
      return;
    }
    case Output::kEdn:
    case Output::kJson:
      Print(MapOf(fields));
      return;
  }
}

void Printer::Sheet(const Fields& fields) {
  if (output_ != Output::kTable) return Row(fields);
  for (const auto& [name, value] : fields) Row({{"name", Plain(name)}, {"value", value}});
}

void Printer::Line(const std::vector<std::string>& table_lines, const Fields& fields) {
  if (output_ == Output::kTable) {
    for (const std::string& line : table_lines) out_ << Fit(line, width_) << '\n';
  } else {
    Print(MapOf(fields));
  }
}

void Printer::Finish() {
  if (table_.empty()) return;
  std::vector<std::string> columns;
  for (const Fields& row : table_) {
    for (const auto& field : row) {
      if (std::find(columns.begin(), columns.end(), field.first) == columns.end()) columns.push_back(field.first);
    }
  }
  std::vector<std::vector<std::string>> lines(1);
  std::vector<size_t> widths;
  for (const std::string& column : columns) {
    std::string title = column;
    std::transform(title.begin(), title.end(), title.begin(), [](unsigned char c) { return std::toupper(c); });
    widths.push_back(title.size());
    lines[0].push_back(std::move(title));
  }
  for (const Fields& row : table_) {
    std::vector<std::string>& line = lines.emplace_back(columns.size());
    for (const auto& [name, value] : row) {
      size_t i = static_cast<size_t>(std::find(columns.begin(), columns.end(), name) - columns.begin());
      // A name is read as a name; quotes would only be noise.
      line[i] = name == "name" && value.is(Type::kString) ? Visible(value.text()) : Cell(value);
      widths[i] = std::max(widths[i], WidthOf(line[i]));
    }
  }
  for (const std::vector<std::string>& cells : lines) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
      line += cells[i];
      line.append(widths[i] - WidthOf(cells[i]) + 2, ' ');
    }
    out_ << Fit(std::move(line), width_) << '\n';
  }
  table_.clear();
}

absl::StatusOr<Fields> EntryFields(const Printer& printer, const v1::Entry& entry, bool meta) {
  Fields fields{{"name", Value::String(entry.name())}};
  if (entry.has_value()) {
    absl::StatusOr<Value> value = ValueOf(entry.value());
    if (!value.ok()) return value.status();
    fields.emplace_back("value", *std::move(value));
  }
  if (!meta) return fields;
  if (entry.version() != 0) fields.emplace_back("version", Value::Integer(entry.version()));
  if (!entry.has_value()) return fields;
  fields.emplace_back("kind", printer.Word(KindWord(entry.kind())));
  if (entry.has_written_at()) {
    absl::StatusOr<Value> at = InstantOf(entry.written_at());
    if (!at.ok()) return at.status();
    fields.emplace_back("written-at", *std::move(at));
  }
  const v1::Definition& definition = entry.definition();
  if (!definition.container().empty()) fields.emplace_back("container", Value::String(definition.container()));
  if (definition.has_validator()) {
    absl::StatusOr<Value> rule = ValueOf(definition.validator());
    if (!rule.ok()) return rule.status();
    fields.emplace_back("validator", *std::move(rule));
  }
  if (definition.has_ttl()) {
    fields.emplace_back("ttl-ms",
                        Value::Integer(definition.ttl().seconds() * 1000 + definition.ttl().nanos() / 1000000));
  }
  if (!definition.session_id().empty()) fields.emplace_back("session", Value::String(definition.session_id()));
  return fields;
}

absl::StatusOr<Fields> CommitFields(const Printer& printer, const v1::CommitEvent& commit) {
  Fields fields{{"version", Value::Integer(commit.version())}};
  if (commit.has_at()) {
    absl::StatusOr<Value> at = InstantOf(commit.at());
    if (!at.ok()) return at.status();
    fields.emplace_back("at", *std::move(at));
  }
  if (std::optional<Uuid> id = ParseUuid(commit.transaction_id())) fields.emplace_back("tx", Value::OfUuid(*id));
  Fields by = MetaFields(commit.meta());
  if (!by.empty()) fields.emplace_back("by", printer.MapOf(by));
  if (commit.changes_size() > 0) {
    std::vector<Value> changes;
    for (const v1::Change& change : commit.changes()) {
      Fields row{{"name", Value::String(change.name())}, {"kind", printer.Word(ChangeWord(change.kind()))}};
      if (change.entry_kind() == v1::ENTRY_KIND_ATOM) row.emplace_back("entry", printer.Word("atom"));
      if (change.before_unknown()) row.emplace_back("before-unknown", Value::Boolean(true));
      if (change.has_before()) {
        absl::StatusOr<Value> value = ValueOf(change.before());
        if (!value.ok()) return value.status();
        row.emplace_back("before", *std::move(value));
      }
      if (change.has_after()) {
        absl::StatusOr<Value> value = ValueOf(change.after());
        if (!value.ok()) return value.status();
        row.emplace_back("after", *std::move(value));
      }
      changes.push_back(printer.MapOf(row));
    }
    fields.emplace_back("changes", Value::OfVector(std::move(changes)));
  }
  if (commit.records_size() > 0) {
    std::vector<Value> records;
    for (const v1::Value& record : commit.records()) {
      absl::StatusOr<Value> value = ValueOf(record);
      if (!value.ok()) return value.status();
      records.push_back(*std::move(value));
    }
    fields.emplace_back("records", Value::OfVector(std::move(records)));
  }
  return fields;
}

absl::StatusOr<std::vector<std::string>> CommitLines(const v1::CommitEvent& commit) {
  std::string start = absl::StrCat(commit.version());
  if (start.size() < 6) start.append(6 - start.size(), ' ');
  if (commit.has_at()) {
    absl::StatusOr<Instant> at = FromProto(commit.at());
    if (!at.ok()) return at.status();
    // Milliseconds, always: for people, and all of one width.
    std::string text = InstantText(Instant{at->seconds, 999000000});
    char millis[8];
    std::snprintf(millis, sizeof millis, "%03d", at->nanos / 1000000);
    text.replace(text.size() - 4, 3, millis);
    absl::StrAppend(&start, "  ", text);
  }
  std::string by;
  const v1::Meta& meta = commit.meta();
  if (!meta.label().empty() || !meta.client().empty()) {
    by = absl::StrCat("  (", Visible(meta.label()), meta.label().empty() || meta.client().empty() ? "" : ", ",
                      Visible(meta.client()), ")");
  }
  std::vector<std::string> lines;
  for (const v1::Change& change : commit.changes()) {
    std::string before = change.before_unknown() ? "unknown" : "absent";
    std::string after = "absent";
    if (change.has_before()) {
      absl::StatusOr<Value> value = ValueOf(change.before());
      if (!value.ok()) return value.status();
      before = Cell(*value);
    }
    if (change.has_after()) {
      absl::StatusOr<Value> value = ValueOf(change.after());
      if (!value.ok()) return value.status();
      after = Cell(*value);
    }
    const char* note = change.kind() == v1::CHANGE_KIND_EXPIRED   ? " expired"
                       : change.kind() == v1::CHANGE_KIND_DEFINED ? " defined"
                                                                  : "";
    lines.push_back(absl::StrCat(start, "  ", Visible(change.name()), note, "  ", before, " -> ", after, by));
  }
  for (const v1::Value& record : commit.records()) {
    absl::StatusOr<Value> value = ValueOf(record);
    if (!value.ok()) return value.status();
    lines.push_back(absl::StrCat(start, "  ", Cell(*value), by));
  }
  if (lines.empty()) lines.push_back(absl::StrCat(start, by));
  return lines;
}

}  // namespace stm::cli
