#include "client/cpp/core/unknown_fields.h"

namespace stm::internal {
namespace {

bool IsTaggedMap(const Value& value) { return value.is(Type::kTagged) && value.tagged_value().is(Type::kMap); }

const Value* Child(const Value* parent, size_t index) {
  if (parent == nullptr || !(parent->is(Type::kVector) || parent->is(Type::kList))) return nullptr;
  return index < parent->items().size() ? &parent->items().at(index) : nullptr;
}

const Value* Child(const Value* parent, const Value& key) {
  if (parent == nullptr || !parent->is(Type::kMap)) return nullptr;
  return parent->map().Find(key);
}

const Value* Under(const Value* tagged, const Value& same) {
  if (tagged == nullptr || !tagged->is(Type::kTagged) || tagged->text() != same.text()) return nullptr;
  return &tagged->tagged_value();
}

}  // namespace

void UnknownFieldsKept::Keep(const std::string& name, const Value& raw, const Value& known) {
  if (raw == known) return;
  entries_[name] = {raw, known};
  Collect(raw, known);
}

void UnknownFieldsKept::Collect(const Value& raw, const Value& known) {
  if (raw.type() != known.type() || raw == known) return;
  switch (raw.type()) {
    case Type::kTagged:
      if (IsTaggedMap(known)) records_.insert_or_assign(known, raw);
      return Collect(raw.tagged_value(), known.tagged_value());
    case Type::kVector:
    case Type::kList:
      for (size_t i = 0; i < raw.items().size() && i < known.items().size(); ++i) {
        Collect(raw.items().at(i), known.items().at(i));
      }
      return;
    case Type::kMap:
      for (auto [key, value] : known.map()) {
        if (const Value* same = raw.map().Find(key)) Collect(*same, value);
      }
      return;
    default: return;
  }
}

void UnknownFieldsKept::FindMoved(const Value& written, absl::flat_hash_map<Value, bool>* moved) const {
  if (written.is(Type::kTagged)) {
    if (records_.contains(written)) {
      (*moved)[written] = true;
      return;
    }
    return FindMoved(written.tagged_value(), moved);
  }
  if (written.is(Type::kVector) || written.is(Type::kList)) {
    for (const Value& item : written.items()) FindMoved(item, moved);
  } else if (written.is(Type::kMap)) {
    for (auto [key, value] : written.map()) FindMoved(value, moved);
  } else if (written.is(Type::kSet)) {
    for (const Value& item : written.set()) FindMoved(item, moved);
  }
}

Value UnknownFieldsKept::Restore(const std::string& name, const Value& written) const {
  if (records_.empty()) return written;
  absl::flat_hash_map<Value, bool> moved;
  FindMoved(written, &moved);
  auto entry = entries_.find(name);
  if (entry == entries_.end()) return Restored(written, nullptr, nullptr, &moved);
  return Restored(written, &entry->second.first, &entry->second.second, &moved);
}

Value UnknownFieldsKept::Restored(const Value& written, const Value* raw, const Value* known,
                                  absl::flat_hash_map<Value, bool>* moved) const {
  switch (written.type()) {
    case Type::kTagged: {
      auto same = records_.find(written);
      if (same != records_.end()) return same->second;
      // Changed in its place, unless the record of that place is written elsewhere as it was.
      if (known != nullptr && moved->contains(*known)) raw = known = nullptr;
      const Value* raw_inside = Under(raw, written);
      const Value* known_inside = Under(known, written);
      Value inside = Restored(written.tagged_value(), raw_inside, known_inside, moved);
      if (raw_inside != nullptr && raw_inside->is(Type::kMap) && known_inside != nullptr &&
          known_inside->is(Type::kMap) && inside.is(Type::kMap)) {
        Map fields = inside.map();
        for (auto [key, value] : raw_inside->map()) {
          if (known_inside->map().Find(key) == nullptr && fields.Find(key) == nullptr) fields = fields.Assoc(key, value);
        }
        inside = Value::OfMap(fields);
      }
      return Value::Tagged(written.text(), inside);
    }
    case Type::kVector:
    case Type::kList: {
      std::vector<Value> items;
      items.reserve(written.items().size());
      for (const Value& item : written.items()) {
        items.push_back(Restored(item, Child(raw, items.size()), Child(known, items.size()), moved));
      }
      return written.is(Type::kVector) ? Value::OfVector(std::move(items)) : Value::List(std::move(items));
    }
    case Type::kMap: {
      std::vector<std::pair<Value, Value>> entries;
      for (auto [key, value] : written.map()) {
        entries.emplace_back(key, Restored(value, Child(raw, key), Child(known, key), moved));
      }
      return Value::OfMap(Map(std::move(entries)));
    }
    case Type::kSet: {
      std::vector<Value> items;
      for (const Value& item : written.set()) items.push_back(Restored(item, nullptr, nullptr, moved));
      return Value::OfSet(Set(items));
    }
    default: return written;
  }
}

}  // namespace stm::internal
