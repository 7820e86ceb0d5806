#include "engine/write_set.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/error.h"
#include "engine/stored.h"
#include "engine/values/wire.h"

namespace stm::engine {
namespace {

// Few names are found faster by looking at each.
constexpr size_t kLinearNamesMax = 16;

std::string_view KindName(EntryKind kind) { return kind == EntryKind::kAtom ? "an atom" : "a ref"; }

Rejected Reject(const Write& write, size_t index, RejectCause cause, std::string found, std::string message) {
  Rejected rejected;
  rejected.name = write.name;
  rejected.write_index = static_cast<uint32_t>(index);
  rejected.rejection.cause = cause;
  rejected.rejection.found = std::move(found);
  rejected.rejection.message = absl::StrCat(write.name, ": ", message);
  return rejected;
}

Rejected Reject(const Write& write, size_t index, Rejection rejection) {
  rejection.message = absl::StrCat(write.name, ": ", rejection.message);
  Rejected rejected;
  rejected.name = write.name;
  rejected.write_index = static_cast<uint32_t>(index);
  rejected.rejection = std::move(rejection);
  return rejected;
}

const Validator* ValidatorOf(const std::shared_ptr<const Definition>& definition) {
  return definition == nullptr ? nullptr : definition->validator.get();
}

int64_t Size(const std::optional<Value>& value) {
  return value.has_value() ? static_cast<int64_t>(value->edn_size()) : 0;
}

int64_t ArgumentBytes(const Operation& operation) {
  int64_t bytes = static_cast<int64_t>(operation.argument.edn_size() + operation.entries.entries_edn_size());
  for (const Value& argument : operation.arguments) bytes += static_cast<int64_t>(argument.edn_size());
  return bytes + Size(operation.expected);
}

// A `define` sets the definition whole, but for the container, which creation fixed.
std::shared_ptr<const Definition> Redefine(const std::shared_ptr<const Definition>& old,
                                           const std::shared_ptr<const Definition>& given) {
  std::string container = old == nullptr ? "" : old->container;
  if (given != nullptr && given->container == container) return given;
  auto definition = std::make_shared<Definition>(given == nullptr ? Definition() : *given);
  definition->container = std::move(container);
  return definition;
}

bool InContainer(const std::shared_ptr<const Definition>& definition) {
  return definition != nullptr && !definition->container.empty();
}

absl::Status CheckBytes(int64_t bytes, const WriteSet::Bounds& bounds) {
  if (bytes <= bounds.transaction_bytes_max) return absl::OkStatus();
  return LimitReached("transaction_bytes_max", bounds.transaction_bytes_max, "the transaction", bytes,
                      "write less at once");
}

}  // namespace

WriteSet::Result WriteSet::Evaluate(const std::vector<Write>& writes, const Bounds& bounds,
                                    absl::FunctionRef<Base(std::string_view)> base) {
  WriteSet set;
  set.items_.reserve(writes.size());
  absl::flat_hash_map<absl::string_view, size_t> places;  // only beyond kLinearNamesMax names
  auto item_of = [&](const std::string& name) -> Item& {
    if (set.items_.size() <= kLinearNamesMax) {
      for (Item& item : set.items_) {
        if (item.name == name) return item;
      }
    } else {
      if (places.empty()) {
        for (size_t i = 0; i < set.items_.size(); ++i) {
          places.emplace(absl::string_view(set.items_[i].name.data(), set.items_[i].name.size()), i);
        }
      }
      auto it = places.find(name);
      if (it != places.end()) return set.items_[it->second];
      places.emplace(name, set.items_.size());
    }
    Item item;
    item.name = name;
    item.before = base(name);
    item.value = item.before.value;
    item.kind = item.before.kind;
    item.definition = item.before.definition;
    set.items_.push_back(std::move(item));
    return set.items_.back();
  };

  bool any_result = false;
  const std::string* atom = nullptr;  // the one entry that an atom's change allows
  for (size_t i = 0; i < writes.size(); ++i) {
    const Write& write = writes[i];
    Item& item = item_of(write.name);
    std::optional<Value> result;
    bool present = item.value.has_value();

    if (present && item.kind != write.kind && write.change != Write::Change::kExpire && !bounds.skip_kinds) {
      return Reject(write, i, RejectCause::kKind, std::string(KindName(item.kind)),
                    absl::StrCat("is ", absl::string_view(KindName(item.kind).data(), KindName(item.kind).size()),
                                 " and can't be written as ",
                                 absl::string_view(KindName(write.kind).data(), KindName(write.kind).size()),
                                 ": kinds are fixed at creation"));
    }
    if (write.kind == EntryKind::kAtom && write.change != Write::Change::kCreate) atom = &write.name;

    const bool outside = bounds.kept == Bounds::Kept::kOutside && present && IsStored(*item.value);

    auto create = [&](Value value) {
      item.kind = write.kind;
      item.definition = write.definition;
      item.created = true;
      item.value_written = true;
      item.operation = nullptr;
      item.value = std::move(value);
    };

    switch (write.change) {
      case Write::Change::kSet:
        if (!present) {
          create(write.value);
        } else {
          item.value = write.value;
          item.value_written = true;
          item.operation = nullptr;
        }
        break;
      case Write::Change::kApply: {
        if (outside) return Outside{};
        if (bounds.heavy_bytes > 0 && (Size(item.value) > bounds.heavy_bytes || ArgumentBytes(*write.operation) > bounds.heavy_bytes)) {
          return Heavy{};
        }
        auto applied = Apply(*write.operation, item.value);
        if (auto* rejection = std::get_if<Rejection>(&applied)) return Reject(write, i, std::move(*rejection));
        Applied& outcome = std::get<Applied>(applied);
        result = std::move(outcome.result);
        if (!present) {
          create(std::move(outcome.value));
        } else {
          // Only an entry's first write in the transaction can be told as an operation on what was there.
          item.operation = item.value_written ? nullptr : write.operation;
          item.value = std::move(outcome.value);
          item.value_written = true;
        }
        break;
      }
      case Write::Change::kCreate:
        // An atom that is made without a value begins with what its container has.
        if (outside || (!present && bounds.kept == Bounds::Kept::kOutside && write.value.is_nil() && InContainer(write.definition))) {
          return Outside{};
        }
        if (!present) create(write.value);
        result = item.value;
        break;
      case Write::Change::kDelete:
        if (present) {
          item.value = std::nullopt;
          item.definition = nullptr;
          item.value_written = true;
          item.operation = nullptr;
          item.defined = false;
        }
        break;
      case Write::Change::kExpire:
        if (present && item.before.expiry_due && !item.value_written) {
          item.value = std::nullopt;
          item.definition = nullptr;
          item.value_written = true;
          item.expired = true;
        }
        break;
      case Write::Change::kDefine:
        if (!present) return Reject(write, i, RejectCause::kAbsent, "absent", "is absent and can't be defined: create it");
        if (write.definition != nullptr && !write.definition->container.empty() &&
            write.definition->container != (item.definition == nullptr ? "" : item.definition->container)) {
          return Reject(write, i, RejectCause::kKind, item.definition == nullptr ? "" : item.definition->container,
                        "containers are fixed at creation: delete the entry and create it again");
        }
        if (outside && ValidatorOf(write.definition) != nullptr) return Outside{};
        item.definition = Redefine(item.definition, write.definition);
        item.defined = true;
        break;
    }
    item.last_write = static_cast<uint32_t>(i);
    if (result.has_value()) {
      any_result = true;
      set.results_.resize(writes.size());
      set.results_[i] = std::move(result);
    }
  }

  if (atom != nullptr && !bounds.atoms_together) {
    for (const Write& write : writes) {
      if (write.name != *atom && write.change != Write::Change::kCreate) {
        return Reject(write, static_cast<size_t>(&write - writes.data()), RejectCause::kKind, *atom,
                      absl::StrCat("is written together with the atom ", *atom,
                                   ": an atom changes alone; use a ref, or two transactions"));
      }
    }
  }

  for (Item& item : set.items_) {
    if (!item.changes()) continue;
    const Write& write = writes[item.last_write];
    if (!item.value.has_value()) continue;
    if (bounds.kept != Bounds::Kept::kStaged && item.value_written) {
      if (IsStored(*item.value)) {
        return Reject(write, item.last_write, RejectCause::kType, std::string(kStoredTag),
                      "the tag stm/stored is the daemon's own: give the value another tag");
      }
      if (bounds.kept == Bounds::Kept::kOutside && item.kind == EntryKind::kRef && InContainer(item.definition)) return Outside{};
    }
    if (item.value_written) {
      int64_t size = static_cast<int64_t>(item.value->edn_size());
      if (size > bounds.value_bytes_max) {
        return LimitReached("value_bytes_max", bounds.value_bytes_max, item.name, size, "split the value");
      }
      set.bytes_ += size;
      if (!FitsWire(*item.value)) {
        return LimitReached("value_wire_nesting_max", kWireNestingMax, item.name, item.value->depth(),
                            "levels, too many of them maps for clients to parse: make it flatter");
      }
    }
    // One that a container keeps was looked at before it was staged.
    const Validator* validator = bounds.skip_validators || IsStored(*item.value) ? nullptr : ValidatorOf(item.definition);
    if (validator != nullptr) {
      if (bounds.heavy_bytes > 0 && Size(item.value) > bounds.heavy_bytes) return Heavy{};
      if (std::optional<Rejection> rejection = validator->Check(*item.value)) {
        return Reject(write, item.last_write, std::move(*rejection));
      }
    }
  }
  if (absl::Status status = CheckBytes(set.bytes_, bounds); !status.ok()) return status;
  if (!any_result) set.results_.clear();
  return set;
}

absl::Status WriteSet::Append(WriteSet other, const Bounds& bounds) {
  for (Item& item : other.items_) items_.push_back(std::move(item));
  bytes_ += other.bytes_;
  return CheckBytes(bytes_, bounds);
}

}  // namespace stm::engine
