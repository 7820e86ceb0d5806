#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/progress.h"
#include "engine/operation.h"
#include "engine/values/edn.h"
#include "engine/values/wire.h"

namespace stm::cli {
namespace {

struct Record {
  int line = 0;
  Value value;
};

// All of them, before anything is committed: a file with a fault at its end changes nothing.
absl::StatusOr<std::vector<Record>> ReadRecords(const std::string& file, const std::string& text) {
  std::vector<Record> records;
  EdnReader reader(text);
  int line = 1;
  size_t counted = 0;  // newlines of text[0, counted) are in `line`
  while (!reader.AtEnd()) {
    line += static_cast<int>(std::count(text.begin() + counted, text.begin() + reader.position(), '\n'));
    counted = reader.position();
    absl::StatusOr<Value> value = reader.Next();
    std::string where = absl::StrCat(file, ":", line, ": record ", records.size() + 1, ": ");
    if (!value.ok()) return absl::InvalidArgumentError(absl::StrCat(where, value.status().message()));
    if (!value->is(Type::kTagged)) {
      return absl::InvalidArgumentError(absl::StrCat(where, "found ", engine::Excerpt(*value),
                                                     ", expected a tagged value, as #blog.CreateUser{...}"));
    }
    records.push_back({line, *std::move(value)});
  }
  return records;
}

// Records into a vector, made if absent.
void AddWrites(const std::string& into, const std::vector<Record>& records, size_t first, size_t last,
               v1::CommitRequest* request) {
  v1::Write* create = request->add_writes();
  create->set_name(into);
  create->set_kind(v1::ENTRY_KIND_REF);
  ToProto(Value::OfVector(std::vector<Value>()), create->mutable_create());
  v1::Write* conj = request->add_writes();
  conj->set_name(into);
  conj->set_kind(v1::ENTRY_KIND_REF);
  for (size_t i = first; i < last; ++i) ToProto(records[i].value, conj->mutable_apply()->mutable_conj()->add_items());
}

}  // namespace

absl::Status LogImport(Shell& shell, const ImportOptions& options) {
  if (!options.into.empty()) {
    absl::Status status = CheckNames({options.into});
    if (!status.ok()) return status;
  }
  const std::string file = options.path == "-" ? "stdin" : options.path;
  absl::StatusOr<std::string> text = shell.ReadText(options.path);
  if (!text.ok()) return text.status();
  absl::StatusOr<std::vector<Record>> records = ReadRecords(file, *text);
  if (!records.ok()) return records.status();
  if (static_cast<size_t>(options.skip) > records->size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--skip ", options.skip, ": ", file, " has ", records->size(), " records"));
  }

  Progress progress(shell.io(), "log import", "records", static_cast<int64_t>(records->size()) - options.skip);
  int64_t version = 0;
  for (size_t first = options.skip; first < records->size();) {
    size_t last = std::min(first + static_cast<size_t>(options.batch), records->size());
    v1::CommitRequest request;
    request.mutable_meta()->set_label(absl::StrCat("import ", file));
    for (size_t i = first; i < last; ++i) ToProto((*records)[i].value, request.add_records());
    if (!options.into.empty()) AddWrites(options.into, *records, first, last, &request);
    absl::StatusOr<v1::Committed> committed = shell.Commit(std::move(request));
    if (!committed.ok()) {
      std::string what = absl::StrCat(file, ":", (*records)[first].line, ": record ", first + 1,
                                      last - first > 1 ? absl::StrCat(" to ", last) : "", ": ",
                                      Explain(committed.status()), "; the ", first, " before are committed: ");
      absl::StrAppend(&what, OutcomeWordOf(committed.status())
                                 ? absl::StrCat("go on with --skip ", last, " if that says committed, else with --skip ",
                                                first)
                                 : absl::StrCat("go on with --skip ", first));
      return absl::Status(committed.status().code(), what);
    }
    version = committed->version();
    first = last;
    progress.At(static_cast<int64_t>(first) - options.skip);
  }
  Fields row{{"imported", Value::Integer(static_cast<int64_t>(records->size()) - options.skip)}};
  if (version != 0) row.emplace_back("version", Value::Integer(version));
  shell.printer().Row(row);
  return absl::OkStatus();
}

}  // namespace stm::cli
