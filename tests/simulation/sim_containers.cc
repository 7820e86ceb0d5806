#include "tests/simulation/sim_containers.h"

#include "absl/strings/str_cat.h"
#include "engine/stored.h"
#include "engine/values/edn.h"

namespace stm::sim {

void ContainerSettings::Draw(Chance* chance) {
  names = chance->OneOf<uint64_t>({300, 600, 1000});
  lost = chance->OneOf<uint64_t>({0, 10, 40});
  answer_lost = chance->OneOf<uint64_t>({0, 10, 40});
  late = chance->OneOf<uint64_t>({0, 20, 60});
  refused = chance->OneOf<uint64_t>({0, 10, 40});
  slow = chance->OneOf<uint64_t>({0, 50});
  away = chance->OneOf<uint64_t>({0, 2});
  cache_bytes = chance->OneOf<int64_t>({0, 3000, 1 << 20});
  settle_notes = chance->OneOf<size_t>({20, 20'000});
}

std::string ContainerSettings::ToString() const {
  if (names == 0) return "";
  return absl::StrCat(" contained=", names, " calls_lost=", lost, "/", answer_lost, " late=", late,
                      " refused=", refused, " slow=", slow, " away=", away, " cached=", cache_bytes,
                      " settled_at_once=", settle_notes);
}

bool ContainerSettings::Keeps(const std::string& name) const {
  if (names == 0 || name.compare(0, 2, "/.") == 0) return false;
  uint64_t hash = 14695981039346656037u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return (hash >> 20) % 1000 < names;
}

void ContainerTotals::Add(const ContainerTotals& other) {
  for (int64_t ContainerTotals::*figure :
       {&ContainerTotals::staged, &ContainerTotals::reads, &ContainerTotals::erased, &ContainerTotals::lost,
        &ContainerTotals::late, &ContainerTotals::refused, &ContainerTotals::aways,
        &ContainerTotals::copies}) {
    this->*figure += other.*figure;
  }
}

std::string SimStore::Resolve(check::Log* log) const {
  std::string wrong;
  const auto resolve = [&](std::optional<Value>* value, const std::string& name) {
    const std::optional<engine::Stored> stored =
        value->has_value() ? engine::StoredOf(**value) : std::nullopt;
    if (!stored.has_value()) return;
    const auto asked = asked_.find({stored->stamp, stored->hash});
    if (asked == asked_.end()) {
      wrong = absl::StrCat("stored: ", name, ": a commit names ", stored->stamp, ", which was never written");
    } else {
      *value = asked->second;
    }
  };
  for (check::LogCommit& commit : *log) {
    for (check::LogChange& change : commit.changes) {
      resolve(&change.value, change.name);
      resolve(&change.before, change.name);
    }
  }
  return wrong;
}

std::string SimStore::CheckKept(const check::Log& log, uint64_t store, bool atoms) const {
  std::map<std::string, Value> entries;
  for (const check::LogCommit& commit : log) {
    for (const check::LogChange& change : commit.changes) {
      if (change.value.has_value()) {
        entries.insert_or_assign(change.name, *change.value);
      } else if (change.kind == check::LogChange::Kind::kDelete ||
                 change.kind == check::LogChange::Kind::kExpire) {
        entries.erase(change.name);
      }
    }
  }
  std::map<Key, engine::Stored> named;
  for (const auto& [name, value] : entries) {
    for (const std::string_view prefix : {engine::kStagedPrefix, engine::kErasePrefix, engine::kCopyPrefix}) {
      if (std::string_view(name).substr(0, prefix.size()) == prefix)
        return absl::StrCat("stored: ", name, " is left");
    }
    if (const std::optional<engine::Stored> stored = engine::StoredOf(value))
      named[{name, stored->stamp}] = *stored;
  }
  for (const auto& [key, stored] : named) {
    const auto kept = values_.find(key);
    if (kept == values_.end())
      return absl::StrCat("stored: ", key.first, ": nothing is kept under ", key.second);
    if (static_cast<int64_t>(kept->second.hash()) != stored.hash) {
      return absl::StrCat("stored: ", key.first, ": ", ToEdn(kept->second), " is kept under ", key.second,
                          ", which was committed as another value");
    }
  }
  for (const auto& [key, value] : values_) {
    const std::optional<engine::StampOrigin> origin = engine::OriginOf(key.second);
    if (!origin.has_value() || origin->store != store) continue;
    if (named.count(key) == 0)
      return absl::StrCat("stored: ", key.first, ": ", key.second, " leaks ", ToEdn(value));
  }
  if (!atoms) return "";
  for (const auto& [name, atom] : atoms_) {
    const auto entry = entries.find(name);
    if (entry == entries.end()) return absl::StrCat("stored: the atom ", name, " is gone, its copy is not");
    if (atom.value != entry->second)
      return absl::StrCat("stored: the copy of ", name, " is ", ToEdn(atom.value));
  }
  return "";
}

engine::Containers::Got SimContainers::Without(Told done) {
  return [done = std::move(done)](absl::StatusOr<std::optional<Value>> answer) mutable {
    done(answer.status());
  };
}

absl::Status SimContainers::Check(const std::string& container, engine::EntryKind) {
  if (container == kContainer) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("no container named ", container, " is configured"));
}

void SimContainers::Call(absl::Duration deadline, Effect effect, Got done) {
  const uint64_t call = next_++;
  calls_.emplace(call, std::move(done));
  loop_->At(deadline, [this, call] { Tell(call, absl::UnavailableError("it did not answer in time")); });
  SimStore* const store = store_;
  const ContainerSettings& settings = store->settings_;
  Chance& chance = store->chance_;
  World* const world = store->world_;
  if (!store->calm_ && world->Now() >= store->away_until_ && chance.In1000(settings.away)) {
    ++store->totals_.aways;
    store->away_until_ = world->Now() + absl::Milliseconds(chance.Between(1, 200));
  }
  const bool away = !store->calm_ && world->Now() < store->away_until_;
  const auto drawn = [&](uint64_t in_1000) { return !store->calm_ && chance.In1000(in_1000); };
  absl::Duration there = absl::Microseconds(chance.Between(20, 1500));
  if (drawn(settings.slow)) there += absl::Milliseconds(chance.Between(5, 60));
  if (away || drawn(settings.lost)) {
    ++store->totals_.lost;
    return;
  }
  const bool late = drawn(settings.late);
  if (late) {
    ++store->totals_.late;
    there = settings.timeout +
            absl::Microseconds(chance.Between(0, absl::ToInt64Microseconds(settings.late_max)));
  }
  const bool refused = drawn(settings.refused);
  const bool answer_lost = late || drawn(settings.answer_lost);
  // One that was refused may have had its effect all the same.
  const bool effective = !refused || chance.In1000(300);
  if (refused) ++store->totals_.refused;
  const absl::Duration back = absl::Microseconds(chance.Between(20, 500));
  const std::weak_ptr<SimContainers*> self = self_;
  world->After(there,
               [store, world, self, call, effect = std::move(effect), effective, refused, answer_lost, back] {
                 absl::StatusOr<std::optional<Value>> answer = std::optional<Value>();
                 if (effective) answer = effect(store);
                 if (refused) answer = absl::ResourceExhaustedError("it is full: make room there");
                 if (answer_lost) return;
                 world->After(back, [self, call, answer = std::move(answer)] {
                   const std::shared_ptr<SimContainers*> containers = self.lock();
                   if (containers == nullptr) return;
                   SimContainers* const lives = *containers;
                   lives->loop_->Post([lives, call, answer] { lives->Tell(call, answer); });
                 });
               });
}

void SimContainers::Tell(uint64_t call, absl::StatusOr<std::optional<Value>> answer) {
  auto waiting = calls_.extract(call);
  if (!waiting.empty()) waiting.mapped()(std::move(answer));
}

void SimContainers::Init(const std::string&, const std::string&, absl::Duration deadline, Told done) {
  Call(
      deadline, [](SimStore*) { return std::nullopt; }, Without(std::move(done)));
}

void SimContainers::Destroy(const std::string&, const std::string&, absl::Duration deadline, Told done) {
  Call(
      deadline, [](SimStore*) { return std::nullopt; }, Without(std::move(done)));
}

void SimContainers::GetStateAt(const std::string&, const std::string& name, const std::string& stamp,
                               absl::Duration deadline, Got done) {
  Call(
      deadline,
      [key = SimStore::Key(name, stamp)](SimStore* store) {
        ++store->totals_.reads;
        const auto it = store->values_.find(key);
        return it == store->values_.end() ? std::nullopt : std::optional<Value>(it->second);
      },
      std::move(done));
}

void SimContainers::SetStateAt(const std::string&, const std::string& name, const std::string& stamp,
                               Value value, absl::Duration deadline, Told done) {
  store_->asked_[{stamp, static_cast<int64_t>(value.hash())}] = value;
  Call(
      deadline,
      [key = SimStore::Key(name, stamp), value](SimStore* store) {
        ++store->totals_.staged;
        store->values_.emplace(key, value);
        return std::nullopt;
      },
      Without(std::move(done)));
}

void SimContainers::DeleteStateAt(const std::string&, const std::string& name, const std::string& stamp,
                                  absl::Duration deadline, Told done) {
  Call(
      deadline,
      [key = SimStore::Key(name, stamp)](SimStore* store) {
        store->totals_.erased += static_cast<int64_t>(store->values_.erase(key));
        return std::nullopt;
      },
      Without(std::move(done)));
}

void SimContainers::InitAtom(const std::string&, const std::string&, absl::Duration deadline, Told done) {
  Call(
      deadline, [](SimStore*) { return std::nullopt; }, Without(std::move(done)));
}

void SimContainers::DestroyAtom(const std::string&, const std::string& name, engine::Version version,
                                absl::Duration deadline, Told done) {
  Call(
      deadline,
      [name, version](SimStore* store) {
        const auto it = store->atoms_.find(name);
        if (it != store->atoms_.end() && it->second.version < version) store->atoms_.erase(it);
        return std::nullopt;
      },
      Without(std::move(done)));
}

void SimContainers::GetState(const std::string&, const std::string& name, absl::Duration deadline, Got done) {
  Call(
      deadline,
      [name](SimStore* store) {
        const auto it = store->atoms_.find(name);
        return it == store->atoms_.end() ? std::nullopt : std::optional<Value>(it->second.value);
      },
      std::move(done));
}

void SimContainers::SetState(const std::string&, const std::string& name, Value value,
                             engine::Version version, absl::Duration deadline, Told done) {
  Call(
      deadline,
      [name, value, version](SimStore* store) {
        ++store->totals_.copies;
        auto& atom = store->atoms_[name];
        if (version >= atom.version) atom = {version, value};
        return std::nullopt;
      },
      Without(std::move(done)));
}

}  // namespace stm::sim
