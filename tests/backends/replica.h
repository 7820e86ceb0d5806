// Replica is a Sink that keeps what it is fed, as plainly as can be: what a coordinator's recovery is
// compared by.
#ifndef STM_TESTS_BACKENDS_REPLICA_H_
#define STM_TESTS_BACKENDS_REPLICA_H_

#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/coordinator.h"
#include "engine/values/edn.h"

namespace stm {

class Replica : public engine::Sink {
 public:
  struct Entry {
    std::optional<Value> value;
    engine::EntryKind kind = engine::EntryKind::kRef;
    engine::Version version = 0;
    Instant at;
    absl::Duration ttl;
    std::string container;
    friend bool operator==(const Entry& a, const Entry& b) {
      return a.value == b.value && a.kind == b.kind && a.version == b.version && a.at == b.at &&
             a.ttl == b.ttl && a.container == b.container;
    }
    friend std::ostream& operator<<(std::ostream& out, const Entry& entry) {
      return out << entry.value << "@" << entry.version
                 << (entry.kind == engine::EntryKind::kAtom ? " atom" : "");
    }
  };

  void InstallImage(engine::ImagePart part) override {
    for (engine::ImageEntry& from : part.entries) {
      Entry& entry = entries[from.name];
      entry.value = std::move(from.value);
      entry.kind = from.kind;
      entry.version = from.version;
      entry.at = from.written_at;
      Define(&entry, from.definition.get());
    }
    for (const engine::ImageId& id : part.ids) ids[id.transaction_id] = id.version;
  }

  void EndImage(engine::Version v, Instant at, engine::Version floor) override {
    version = image_version = v;
    last_at = at;
    id_floor = floor;
  }

  void RaiseIdFloor(engine::Version floor) override { id_floor = std::max(id_floor, floor); }

  absl::Status Install(std::shared_ptr<engine::CommitRecord> commit) override {
    if (commit->version <= version) return absl::InternalError("versions go back");
    for (const engine::EntryChange& change : commit->changes) {
      Entry& entry = entries[change.name];
      std::optional<Value> value = change.value;
      if (change.expected_hash) {
        auto outcome = engine::Apply(*change.operation, entry.value);
        auto* applied = std::get_if<engine::Applied>(&outcome);
        if (applied == nullptr || static_cast<uint32_t>(applied->value.hash()) != *change.expected_hash) {
          return absl::DataLossError(absl::StrCat(change.name, ": another value came out"));
        }
        value = applied->value;
      }
      using Kind = engine::EntryChange::Kind;
      if (change.kind == Kind::kCreate) entry = Entry();
      if (change.kind == Kind::kCreate || change.kind == Kind::kDefine) entry.kind = change.entry_kind;
      if (change.kind == Kind::kCreate || change.definition != nullptr)
        Define(&entry, change.definition.get());
      if (change.kind != Kind::kDefine) entry.value = value;
      if (!entry.value) Define(&entry, nullptr);
      entry.version = commit->version;
      entry.at = commit->at;
    }
    if (commit->transaction_id) ids[*commit->transaction_id] = commit->version;
    version = commit->version;
    last_at = commit->at;
    ++installed;
    for (const Value& record : commit->records) records.push_back(record);
    return absl::OkStatus();
  }

  std::unique_ptr<engine::Image> TakeImage() override { return std::make_unique<Image>(this); }

  std::map<std::string, Entry> entries;
  std::map<Uuid, engine::Version> ids;
  std::vector<Value> records;
  engine::Version version = 0;
  engine::Version image_version = 0;
  engine::Version id_floor = 0;
  Instant last_at;
  int64_t installed = 0;

 private:
  class Image : public engine::Image {
   public:
    explicit Image(Replica* replica)
        : replica_(replica),
          version_(replica->version),
          at_(replica->last_at),
          entries_(replica->entries),
          ids_(replica->ids) {}
    engine::Version version() const override { return version_; }
    Instant at() const override { return at_; }
    engine::Version id_floor() const override { return replica_->id_floor; }
    engine::ImagePart Next(size_t items_max) override {
      engine::ImagePart part;
      while (!entries_.empty() && part.entries.size() < items_max) {
        auto& [name, entry] = *entries_.begin();
        engine::ImageEntry out;
        out.name = name;
        out.kind = entry.kind;
        out.value = entry.value;
        out.version = entry.version;
        out.written_at = entry.at;
        if (entry.ttl != absl::ZeroDuration() || !entry.container.empty()) {
          auto definition = std::make_shared<engine::Definition>();
          definition->ttl = entry.ttl;
          definition->container = entry.container;
          out.definition = definition;
        }
        part.entries.push_back(std::move(out));
        entries_.erase(entries_.begin());
      }
      while (!ids_.empty() && part.entries.size() + part.ids.size() < items_max) {
        part.ids.push_back(engine::ImageId{ids_.begin()->first, ids_.begin()->second, at_});
        ids_.erase(ids_.begin());
      }
      return part;
    }

   private:
    Replica* replica_;
    engine::Version version_;
    Instant at_;
    std::map<std::string, Entry> entries_;
    std::map<Uuid, engine::Version> ids_;
  };

  static void Define(Entry* entry, const engine::Definition* definition) {
    entry->ttl = definition == nullptr ? absl::ZeroDuration() : definition->ttl;
    entry->container = definition == nullptr ? "" : definition->container;
  }
};

}  // namespace stm

#endif  // STM_TESTS_BACKENDS_REPLICA_H_
