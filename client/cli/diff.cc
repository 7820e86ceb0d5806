// diff: what changed in an entry's value between two versions, by path.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"
#include "stm/v1/common.pb.h"

namespace stm::cli {
namespace {

// The value as of a version: out of memory, or else out of the log.
absl::StatusOr<std::optional<Value>> ValueAt(Shell& shell, const std::string& name, int64_t version) {
  absl::StatusOr<v1::GetRefsResponse> read = shell.Read({name}, absl::StrCat(version), false);
  if (read.ok()) {
    if (!read->entries(0).has_value()) return std::optional<Value>();
    return ValueOf(read->entries(0).value());
  }
  std::optional<v1::ErrorDetail> detail = DetailOf(read.status());
  if (!detail || detail->reason() != v1::ERROR_REASON_SNAPSHOT_TOO_OLD) return read.status();
  v1::GetHistoryRequest request;
  request.set_name(name);
  request.set_before_version(version + 1);
  request.set_limit(1);
  absl::StatusOr<v1::GetHistoryResponse> page = shell.daemon().GetHistory(request, shell.CallDeadline());
  if (!page.ok()) return page.status();
  if (page->commits_size() == 0) {
    // Of a log that is whole, none means absent.
    if (page->first_version() == 1) return std::optional<Value>();
    return absl::OutOfRangeError(absl::StrCat(name, ": version ", version, ": the log, as far as it is kept (from ",
                                              page->first_version(), "), does not tell: ask for a newer version"));
  }
  for (const v1::Change& change : page->commits(0).changes()) {
    if (change.name() != name) continue;
    if (!change.has_after()) return std::optional<Value>();
    return ValueOf(change.after());
  }
  return absl::DataLossError(absl::StrCat(name, ": its history holds a commit without it"));
}

class Differ {
 public:
  explicit Differ(Shell& shell) : shell_(shell) {}

  void Compare(const std::optional<Value>& before, const std::optional<Value>& after) {
    if (before == after) return;
    if (before && after && before->is(Type::kMap) && after->is(Type::kMap)) {
      for (const Map::Entry entry : before->map()) {
        const Value* now = after->map().Find(entry.key);
        At(entry.key, entry.value, now == nullptr ? std::nullopt : std::optional<Value>(*now));
      }
      for (const Map::Entry entry : after->map()) {
        if (before->map().Find(entry.key) == nullptr) At(entry.key, std::nullopt, entry.value);
      }
      return;
    }
    if (before && after && before->is(Type::kVector) && after->is(Type::kVector)) {
      const size_t sizes[] = {before->items().size(), after->items().size()};
      for (size_t i = 0; i < std::max(sizes[0], sizes[1]); ++i) {
        At(Value::Integer(static_cast<int64_t>(i)),
           i < sizes[0] ? std::optional<Value>(before->items().at(i)) : std::nullopt,
           i < sizes[1] ? std::optional<Value>(after->items().at(i)) : std::nullopt);
      }
      return;
    }
    Fields row{{"path", Value::OfVector(path_)}};
    if (before) row.emplace_back("before", *before);
    if (after) row.emplace_back("after", *after);
    shell_.printer().Row(row);
  }

 private:
  void At(const Value& key, const std::optional<Value>& before, const std::optional<Value>& after) {
    path_.push_back(key);
    Compare(before, after);
    path_.pop_back();
  }

  Shell& shell_;
  std::vector<Value> path_;
};

}  // namespace

absl::Status Diff(Shell& shell, const std::string& name, int64_t from, int64_t to) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<std::optional<Value>> before = ValueAt(shell, name, from);
  if (!before.ok()) return before.status();
  absl::StatusOr<std::optional<Value>> after = ValueAt(shell, name, to);
  if (!after.ok()) return after.status();
  if (!*before && !*after) {
    return absl::NotFoundError(absl::StrCat(name, ": absent at both: see its versions with: stmctl history ", name));
  }
  Differ(shell).Compare(*before, *after);
  return absl::OkStatus();
}

}  // namespace stm::cli
