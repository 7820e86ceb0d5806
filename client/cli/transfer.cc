// export and import: the entries under a prefix as lines that people edit and other stores take.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/progress.h"
#include "engine/operation.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/wire.h"

namespace stm::cli {
namespace {

// Refs of one commit.
constexpr size_t kImportEntries = 500;

struct Line {
  int64_t number = 0;
  v1::Write write;
};

// A field of a row: by its keyword, or by its string in JSON.
const Value* FieldOf(const Map& map, const std::string& name) {
  const Value* found = map.Find(Value::Keyword(name));
  return found != nullptr ? found : map.Find(Value::String(name));
}

absl::StatusOr<v1::Write> WriteOf(const Value& row, const std::string& prefix) {
  if (!row.is(Type::kMap)) {
    return absl::InvalidArgumentError(absl::StrCat("found ", engine::Excerpt(row), ", expected {:name \"/a\" :value 1}"));
  }
  const Value* name = FieldOf(row.map(), "name");
  const Value* value = FieldOf(row.map(), "value");
  if (name == nullptr || !name->is(Type::kString) || value == nullptr) {
    return absl::InvalidArgumentError("expected :name, a string, and :value");
  }
  absl::Status good = CheckNames({name->text()});
  if (!good.ok()) return good;
  if (name->text().compare(0, prefix.size(), prefix) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(name->text(), ": is not under ", prefix));
  }
  v1::Write write;
  write.set_name(name->text());
  write.set_kind(v1::ENTRY_KIND_REF);
  ToProto(*value, write.mutable_set());
  if (const Value* kind = FieldOf(row.map(), "kind")) {
    const bool word = kind->is(Type::kKeyword) || kind->is(Type::kString);
    if (!word || (kind->text() != "ref" && kind->text() != "atom")) {
      return absl::InvalidArgumentError(absl::StrCat(":kind: found ", engine::Excerpt(*kind), ", expected :ref or :atom"));
    }
    if (kind->text() == "atom") write.set_kind(v1::ENTRY_KIND_ATOM);
  }
  if (const Value* rule = FieldOf(row.map(), "validator")) {
    ToProto(*rule, write.mutable_definition()->mutable_validator());
  }
  if (const Value* container = FieldOf(row.map(), "container")) {
    if (!container->is(Type::kString)) {
      return absl::InvalidArgumentError(
          absl::StrCat(":container: found ", engine::Excerpt(*container), ", expected the name of one, a string"));
    }
    write.mutable_definition()->set_container(container->text());
  }
  if (const Value* ttl = FieldOf(row.map(), "ttl-ms")) {
    if (!ttl->is(Type::kInteger) || ttl->integer() < 1) {
      return absl::InvalidArgumentError(absl::StrCat(":ttl-ms: found ", engine::Excerpt(*ttl), ", expected milliseconds"));
    }
    write.mutable_definition()->mutable_ttl()->set_seconds(ttl->integer() / 1000);
    write.mutable_definition()->mutable_ttl()->set_nanos(static_cast<int32_t>(ttl->integer() % 1000) * 1000000);
  }
  return write;
}

}  // namespace

absl::Status Export(Shell& shell, const std::string& prefix, const std::string& at) {
  absl::Status status = CheckPrefix(prefix);
  if (!status.ok()) return status;
  v1::ListRefsRequest request;
  request.set_prefix(prefix);
  request.set_names_only(true);
  status = ReadPointOf(at, request.mutable_at());
  if (!status.ok()) return status;
  // A line a row, on a terminal too.
  Printer printer(shell.globals().output == Output::kJson ? Output::kJson : Output::kEdn, 0, shell.io().out);
  Progress progress(shell.io(), "export", "entries", 0, Progress::Rows::kMeanwhile);
  int64_t exported = 0;
  for (;;) {
    absl::StatusOr<v1::ListRefsResponse> page = shell.daemon().ListRefs(request, shell.CallDeadline());
    if (!page.ok()) return page.status();
    std::vector<std::string> names;
    for (const v1::Entry& entry : page->entries()) names.push_back(entry.name());
    if (!names.empty()) {
      absl::StatusOr<v1::GetRefsResponse> read = shell.Read(names, absl::StrCat(page->snapshot()), true);
      if (!read.ok()) return read.status();
      for (const v1::Entry& entry : read->entries()) {
        absl::StatusOr<Fields> fields = EntryFields(printer, entry, true);
        if (!fields.ok()) return fields.status();
        printer.Row(*fields);
      }
    }
    exported += static_cast<int64_t>(names.size());
    progress.At(exported);
    status = shell.Flush();
    if (!status.ok() || page->next_page_token().empty()) return status;
    request.set_page_token(page->next_page_token());  // it fixes the snapshot
    request.clear_at();
  }
}

absl::Status Import(Shell& shell, const std::string& prefix, const std::string& path, int64_t skip) {
  absl::Status status = CheckPrefix(prefix);
  if (!status.ok()) return status;
  const std::string file = path == "-" ? "stdin" : path;
  absl::StatusOr<std::string> text = shell.ReadText(path);
  if (!text.ok()) return text.status();
  // All of it is read before anything is committed: a fault at the end changes nothing.
  std::vector<Line> lines;
  int64_t number = 0;
  for (size_t at = 0; at < text->size();) {
    const size_t end = std::min(text->find('\n', at), text->size());
    const std::string line = text->substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    absl::StatusOr<Value> row = shell.Parse(line);
    absl::StatusOr<v1::Write> write = row.ok() ? WriteOf(*row, prefix) : absl::StatusOr<v1::Write>(row.status());
    if (!write.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(file, ":", number, ": ", write.status().message(),
                                                     ": nothing was imported"));
    }
    lines.push_back({number, *std::move(write)});
  }
  if (static_cast<size_t>(skip) > lines.size()) {
    return absl::InvalidArgumentError(absl::StrCat("--skip ", skip, ": ", file, " has ", lines.size(), " entries"));
  }

  Progress progress(shell.io(), "import", "entries", static_cast<int64_t>(lines.size()) - skip);
  int64_t version = 0;
  for (size_t first = static_cast<size_t>(skip); first < lines.size();) {
    // Atoms change alone.
    const auto atom = [&](size_t i) { return lines[i].write.kind() == v1::ENTRY_KIND_ATOM; };
    size_t last = first + 1;
    while (!atom(first) && last < std::min(first + kImportEntries, lines.size()) && !atom(last)) ++last;
    v1::CommitRequest request;
    request.mutable_meta()->set_label(absl::StrCat("import ", file));
    for (size_t i = first; i < last; ++i) *request.add_writes() = lines[i].write;
    absl::StatusOr<v1::Committed> committed = shell.Commit(std::move(request));
    if (!committed.ok()) {
      return absl::Status(committed.status().code(),
                          absl::StrCat(file, ":", lines[first].number, " to ", lines[last - 1].number, ": ",
                                       Explain(committed.status()), "; the ", first,
                                       " entries before are committed: go on with --skip ", first));
    }
    version = committed->version();
    first = last;
    progress.At(static_cast<int64_t>(first) - skip);
  }
  Fields row{{"imported", Value::Integer(static_cast<int64_t>(lines.size()) - skip)}};
  if (version != 0) row.emplace_back("version", Value::Integer(version));
  shell.printer().Row(row);
  return absl::OkStatus();
}

}  // namespace stm::cli
