#include "client/cli/transaction_file.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "engine/name.h"
#include "engine/operation.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"
#include "engine/values/wire.h"

namespace stm::cli {
namespace {

absl::Status Wrong(absl::string_view key, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(":", key, ": ", what));
}

absl::StatusOr<std::string> NameOf(absl::string_view key, const Value& value) {
  if (!value.is(Type::kString)) {
    return Wrong(key, absl::StrCat("found ", ToEdn(value), ", expected an entry's name as a string, \"/a\""));
  }
  absl::Status status = engine::CheckName(value.text());
  if (!status.ok()) return Wrong(key, status.message());
  return value.text();
}

class Parser {
 public:
  absl::StatusOr<TransactionFile> Parse(const Value& value) {
    if (!value.is(Type::kMap)) {
      return absl::InvalidArgumentError("expected a map, as {:check {\"/a\" 1} :set {\"/a\" 2}}");
    }
    for (auto [key, part] : value.map()) {
      absl::Status status = Part(key, part);
      if (!status.ok()) return status;
    }
    if (file_.request.writes_size() == 0 && file_.request.records_size() == 0) {
      return absl::InvalidArgumentError("nothing to commit: give :set, :create, :apply, :delete or :records");
    }
    return std::move(file_);
  }

 private:
  absl::Status Part(const Value& key, const Value& part) {
    static const std::vector<std::string> kKeys = {"check",   "set",   "create",   "apply",
                                                   "delete", "records", "label", "isolation"};
    if (!key.is(Type::kKeyword) && !key.is(Type::kString)) {
      return absl::InvalidArgumentError(absl::StrCat("found key ", ToEdn(key), ", expected a keyword, as :set"));
    }
    const std::string& name = key.text();
    if (name == "check") {
      return Entries(name, part, [&](std::string entry, const Value& v) {
        file_.checks.push_back({std::move(entry), IsAbsentWord(v) ? std::nullopt : std::optional<Value>(v)});
        return absl::OkStatus();
      });
    }
    if (name == "set" || name == "create") {
      return Entries(name, part, [&](std::string entry, const Value& v) -> absl::Status {
        if (IsAbsentWord(v)) return Wrong(name, "found :stm/absent, expected a value; use :delete to remove an entry");
        v1::Write* write = file_.request.add_writes();
        write->set_name(std::move(entry));
        ToProto(v, name == "set" ? write->mutable_set() : write->mutable_create());
        return absl::OkStatus();
      });
    }
    if (name == "apply") {
      return Entries(name, part, [&](std::string entry, const Value& v) { return Apply(std::move(entry), v); });
    }
    if (name == "delete") {
      return Items(name, part, [&](const Value& item) {
        absl::StatusOr<std::string> entry = NameOf(name, item);
        if (!entry.ok()) return entry.status();
        v1::Write* write = file_.request.add_writes();
        write->set_name(*std::move(entry));
        write->set_delete_entry(true);
        return absl::OkStatus();
      });
    }
    if (name == "records") {
      return Items(name, part, [&](const Value& item) {
        if (!item.is(Type::kTagged)) {
          return Wrong(name, absl::StrCat("found ", ToEdn(item), ", expected a tagged value, as #blog.CreateUser{...}"));
        }
        ToProto(item, file_.request.add_records());
        return absl::OkStatus();
      });
    }
    if (name == "label") {
      if (!part.is(Type::kString)) return Wrong(name, "expected a string");
      file_.request.mutable_meta()->set_label(part.text());
      return absl::OkStatus();
    }
    if (name == "isolation") {
      bool word = part.is(Type::kKeyword) || part.is(Type::kString);
      if (word && part.text() == "snapshot") {
        file_.request.set_isolation(v1::ISOLATION_SNAPSHOT);
      } else if (word && part.text() == "serializable") {
        file_.request.set_isolation(v1::ISOLATION_SERIALIZABLE);
      } else {
        return Wrong(name, "expected :serializable or :snapshot");
      }
      return absl::OkStatus();
    }
    std::string nearest = Nearest(name, kKeys);
    return absl::InvalidArgumentError(
        absl::StrCat("no key :", name, nearest.empty() ? "" : absl::StrCat(", did you mean :", nearest, "?"),
                     " Known are :check :set :create :apply :delete :records :label :isolation"));
  }

  template <typename Visit>
  absl::Status Entries(const std::string& key, const Value& part, const Visit& visit) {
    if (!part.is(Type::kMap)) return Wrong(key, "expected a map from names, as {\"/a\" 1}");
    for (auto [entry, value] : part.map()) {
      absl::StatusOr<std::string> name = NameOf(key, entry);
      if (!name.ok()) return name.status();
      absl::Status status = visit(*std::move(name), value);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  template <typename Visit>
  absl::Status Items(const std::string& key, const Value& part, const Visit& visit) {
    if (!part.is(Type::kVector) && !part.is(Type::kList)) return Wrong(key, "expected a vector, as [...]");
    for (const Value& item : part.items()) {
      absl::Status status = visit(item);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Apply(std::string name, const Value& form) {
    bool several = form.is(Type::kVector) && !form.items().empty();
    TransactionFile::Applied applied{name, file_.request.writes_size(), 0, several};
    auto add = [&](Value one) -> absl::Status {
      if (one.is(Type::kString)) {  // JSON has no lists
        absl::StatusOr<Value> read = ReadEdn(one.text());
        if (!read.ok()) return Wrong("apply", absl::StrCat(name, ": ", read.status().message()));
        one = *std::move(read);
      }
      absl::StatusOr<engine::Operation> operation = engine::OperationFromEdnForm(one);
      if (!operation.ok()) return Wrong("apply", absl::StrCat(name, ": ", operation.status().message()));
      v1::Write* write = file_.request.add_writes();
      write->set_name(name);
      engine::ToProto(*operation, write->mutable_apply());
      ++applied.count;
      return absl::OkStatus();
    };
    if (several) {
      for (const Value& one : form.items()) {
        absl::Status status = add(one);
        if (!status.ok()) return status;
      }
    } else {
      absl::Status status = add(form);
      if (!status.ok()) return status;
    }
    file_.applied.push_back(std::move(applied));
    return absl::OkStatus();
  }

  TransactionFile file_;
};

// Levenshtein's distance.
size_t Edits(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

bool IsAbsentWord(const Value& value) { return value.is(Type::kKeyword) && value.text() == kAbsentWord; }

std::string Nearest(const std::string& given, const std::vector<std::string>& known) {
  std::string nearest;
  size_t best = std::max<size_t>(2, given.size() / 3) + 1;
  for (const std::string& one : known) {
    size_t edits = Edits(given, one);
    if (edits < best && edits < std::max(given.size(), one.size())) {
      best = edits;
      nearest = one;
    }
  }
  return nearest;
}

absl::StatusOr<TransactionFile> ParseTransaction(const Value& value) { return Parser().Parse(value); }

}  // namespace stm::cli
