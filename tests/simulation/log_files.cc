#include "tests/simulation/log_files.h"

#include <memory>
#include <utility>

#include "backends/local/log_cursor.h"
#include "backends/local/log_extent.h"
#include "backends/local/recovery.h"
#include "tests/simulation/sim_disk.h"

namespace stm::sim {
namespace {

constexpr size_t kLogBytesAtOnce = 1 << 20;

// Of a rule [:and :int [:min N]]: N.
std::optional<int64_t> MinOf(const engine::Definition& definition) {
  if (definition.validator == nullptr) return std::nullopt;
  return definition.validator->form().items().at(2).items().at(1).integer();
}

}  // namespace

check::LogChange ToLogChange(const engine::EntryChange& from) {
  check::LogChange change;
  change.name = from.name;
  switch (from.kind) {
    case engine::EntryChange::Kind::kSet:
      change.kind = check::LogChange::Kind::kSet;
      break;
    case engine::EntryChange::Kind::kCreate:
      change.kind = check::LogChange::Kind::kCreate;
      break;
    case engine::EntryChange::Kind::kDelete:
      change.kind = check::LogChange::Kind::kDelete;
      break;
    case engine::EntryChange::Kind::kExpire:
      change.kind = check::LogChange::Kind::kExpire;
      break;
    case engine::EntryChange::Kind::kDefine:
      change.kind = check::LogChange::Kind::kDefine;
      break;
  }
  change.value = from.value;
  change.atom = from.entry_kind == engine::EntryKind::kAtom;
  if (from.definition != nullptr) {
    change.ttl_ms = absl::ToInt64Milliseconds(from.definition->ttl);
    change.min = MinOf(*from.definition);
  }
  return change;
}

check::LogCommit ToLogCommit(const engine::LogCursor::Item& from) {
  check::LogCommit commit;
  commit.version = from.commit->version;
  commit.at = from.commit->at;
  commit.id = from.commit->transaction_id;
  commit.records = from.commit->records;
  for (size_t i = 0; i < from.commit->changes.size(); ++i) {
    check::LogChange change = ToLogChange(from.commit->changes[i]);
    change.before = from.before[i];
    change.before_known = from.before_known[i];
    commit.changes.push_back(std::move(change));
  }
  return commit;
}

absl::StatusOr<check::Log> ReadToEnd(engine::LogCursor* cursor) {
  check::Log log;
  for (;;) {
    absl::StatusOr<std::vector<engine::LogCursor::Item>> items = cursor->Next(kLogBytesAtOnce);
    if (!items.ok()) return items.status();
    if (items->empty()) return log;
    for (const engine::LogCursor::Item& item : *items) log.push_back(ToLogCommit(item));
  }
}

absl::StatusOr<check::Log> ReadLogFiles(const std::map<std::string, std::string>& contents) {
  Chance chance(0);
  SimDrive shelf(&chance);
  std::unique_ptr<local::Disk> disk = shelf.Plug();
  local::LogExtent extent;
  local::LogExtent::State state;
  for (const auto& [name, content] : contents) {
    absl::StatusOr<std::unique_ptr<local::File>> file = disk->Create(name);
    if (file.ok()) file->get()->Write(0, content).IgnoreError();
    bool torn = false;
    absl::StatusOr<local::LogHeaderLine> header = local::ReadLogHeader(disk.get(), name, &torn);
    if (torn) continue;
    if (!header.ok()) return header.status();
    state.segments.push_back(local::Segment{name, header->first, header->before, content.size()});
  }
  if (state.segments.empty()) return check::Log();
  extent.Set(std::move(state));
  absl::StatusOr<std::unique_ptr<engine::LogCursor>> cursor =
      local::SegmentReader(disk.get(), &extent).Open(0);
  if (!cursor.ok()) return cursor.status();
  return ReadToEnd(cursor->get());
}

}  // namespace stm::sim
