// A container that forgets with its process, right or with one bug that breaks one rule of the contract.
#ifndef STM_TESTS_BACKENDS_CONTAINERS_MEMORY_CONTAINER_H_
#define STM_TESTS_BACKENDS_CONTAINERS_MEMORY_CONTAINER_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "backends/containers/container.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"

namespace stm::containers {

enum class Bug {
  kNone,
  // Of both kinds.
  kInitClears,     // what is there goes when its name is initialised again
  kInitOnceOnly,   // a second Init is refused
  kAbsentIsError,  // NOT_FOUND
  kNilIsAbsent,    // as Avout had it
  kIntegersAsDoubles,
  kKeysAsText,       // of maps
  kCutsLargeValues,  // at 64 KiB
  kCutsNames,        // at 255 bytes
  kFoldsCase,
  kSlashIsDash,
  kSlow,           // takes its time
  kHangs,          // never returns
  kUnguarded,      // two at once lose one
  kOneConnection,  // another connection does not see it
  kDestroyOnceOnly,
  // Of refs.
  kSecondSetRefused,
  kOverwrites,
  kLastStampOnly,
  kCutsStamps,     // at 63 characters
  kForgetsSet,     // says OK and keeps nothing
  kDeletesName,    // DeleteStateAt takes all of its name's stamps
  kDeletesPrefix,  // DeleteStateAt takes the stamps of names that begin alike
  kDeletesNothing,
  kDeleteOnceOnly,
  kDestroyTakesStamps,
  kPartsAreSeen,  // a value being set can be read in part
  kLies,          // now and then another stamp's value
  // Of atoms.
  kIgnoresVersions,
  kRefusesOlder,
  kVersionsAsText,
  kVersionsAsDoubles,
  kKeepsFirst,
  kDestroyIgnoresVersions,
  kDestroyKeeps,
  kOneNamespace,  // refs and atoms are one
};

// What is kept; connections share it.
class MemoryStore {
 public:
  explicit MemoryStore(Bug bug = Bug::kNone) : bug_(bug) {}

  struct Atom {
    Value value;
    int64_t version = 0;
  };

  const Bug bug_;
  absl::Mutex mutex_;
  std::map<std::pair<std::string, std::string>, Value> stamps_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Atom> atoms_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> inits_ ABSL_GUARDED_BY(mutex_);
};

// What the bugs of both kinds do.
class Buggy {
 public:
  Buggy(std::shared_ptr<MemoryStore> store, int connection)
      : store_(std::move(store)), connection_(connection) {}

 protected:
  bool has(Bug bug) const { return store_->bug_ == bug; }

  std::string Key(std::string name, absl::string_view kind) const {
    if (has(Bug::kCutsNames) && name.size() > 255) name.resize(255);
    if (has(Bug::kFoldsCase)) absl::AsciiStrToLower(&name);
    if (has(Bug::kSlashIsDash)) name = absl::StrReplaceAll(name, {{"/", "-"}});
    if (has(Bug::kOneConnection)) absl::StrAppend(&name, " of ", connection_);
    return has(Bug::kOneNamespace) ? name : absl::StrCat(kind, " ", name);
  }
  Value Kept(const Value& value) const {
    if (has(Bug::kIntegersAsDoubles) && value.is(Type::kInteger))
      return Value::Double(static_cast<double>(value.integer()));
    if (has(Bug::kKeysAsText) && value.is(Type::kMap)) {
      Map map;
      for (const auto [key, mapped] : value.map()) {
        map = map.Assoc(
            Value::String(key.is(Type::kString) || key.is(Type::kKeyword) ? key.text() : ToEdn(key)), mapped);
      }
      return Value::OfMap(map);
    }
    if (has(Bug::kCutsLargeValues) && value.is(Type::kString) && value.text().size() > 65536) {
      return Value::String(value.text().substr(0, 65536));
    }
    return value;
  }
  void Pause() const {
    if (has(Bug::kSlow)) absl::SleepFor(absl::Milliseconds(300));
    if (has(Bug::kHangs)) absl::SleepFor(absl::InfiniteDuration());
  }
  absl::Status CountInit(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(store_->mutex_) {
    if (++store_->inits_[key] > 1 && has(Bug::kInitOnceOnly)) return absl::AlreadyExistsError("it is there");
    return absl::OkStatus();
  }
  absl::Status CountDestroy(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(store_->mutex_) {
    const bool was_there = store_->inits_.erase(key) > 0;
    return !was_there && has(Bug::kDestroyOnceOnly) ? absl::NotFoundError("it is not there")
                                                    : absl::OkStatus();
  }

  const std::shared_ptr<MemoryStore> store_;
  const int connection_;
};

class MemoryRefs final : public VersionedStateContainer, private Buggy {
 public:
  using Buggy::Buggy;

  absl::Status Init(const std::string& name, absl::Duration) override {
    Pause();
    const std::string key = Key(name, "ref");
    absl::MutexLock lock(&store_->mutex_);
    if (has(Bug::kInitClears)) EraseStamps(key);
    return CountInit(key);
  }
  absl::Status Destroy(const std::string& name, absl::Duration) override {
    const std::string key = Key(name, "ref");
    absl::MutexLock lock(&store_->mutex_);
    if (has(Bug::kDestroyTakesStamps)) EraseStamps(key);
    if (has(Bug::kOneNamespace)) store_->atoms_.erase(key);
    return CountDestroy(key);
  }
  absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name, const std::string& stamp,
                                                  absl::Duration) override {
    absl::MutexLock lock(&store_->mutex_);
    const auto it = store_->stamps_.find({Key(name, "ref"), Stamp(stamp)});
    if (it == store_->stamps_.end()) {
      if (has(Bug::kAbsentIsError)) return absl::NotFoundError("no such stamp");
      return std::nullopt;
    }
    if (has(Bug::kNilIsAbsent) && it->second.is_nil()) return std::nullopt;
    if (has(Bug::kLies) && ++gets_ % 3 == 0) return store_->stamps_.begin()->second;
    return it->second;
  }
  absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value& value,
                          absl::Duration) override {
    const std::string key = Key(name, "ref");
    const std::pair<std::string, std::string> place(key, Stamp(stamp));
    if (has(Bug::kPartsAreSeen) && value.is(Type::kString)) {
      {
        absl::MutexLock lock(&store_->mutex_);
        store_->stamps_[place] = Value::String(value.text().substr(0, value.text().size() / 2));
      }
      absl::SleepFor(absl::Milliseconds(2));
      absl::MutexLock lock(&store_->mutex_);
      store_->stamps_[place] = value;
      return absl::OkStatus();
    }
    if (has(Bug::kUnguarded)) {
      auto copy = [&] {
        absl::MutexLock lock(&store_->mutex_);
        return store_->stamps_;
      }();
      std::this_thread::yield();
      copy.emplace(place, value);
      absl::MutexLock lock(&store_->mutex_);
      store_->stamps_ = std::move(copy);
      return absl::OkStatus();
    }
    absl::MutexLock lock(&store_->mutex_);
    if (has(Bug::kForgetsSet)) return absl::OkStatus();
    if (has(Bug::kLastStampOnly)) EraseStamps(key);
    if (has(Bug::kOverwrites)) {
      store_->stamps_[place] = value;
      return absl::OkStatus();
    }
    const bool is_new = store_->stamps_.emplace(place, Kept(value)).second;
    return !is_new && has(Bug::kSecondSetRefused) ? absl::AlreadyExistsError("it is there")
                                                  : absl::OkStatus();
  }
  absl::Status DeleteStateAt(const std::string& name, const std::string& stamp, absl::Duration) override {
    const std::string key = Key(name, "ref");
    absl::MutexLock lock(&store_->mutex_);
    if (has(Bug::kDeletesNothing)) return absl::OkStatus();
    if (has(Bug::kDeletesName)) EraseStamps(key);
    if (has(Bug::kDeletesPrefix)) {
      for (auto it = store_->stamps_.begin(); it != store_->stamps_.end();) {
        const bool alike = it->first.first.compare(0, key.size(), key) == 0 && it->first.second == stamp;
        it = alike ? store_->stamps_.erase(it) : std::next(it);
      }
    }
    const bool was_there = store_->stamps_.erase({key, Stamp(stamp)}) > 0;
    return !was_there && has(Bug::kDeleteOnceOnly) ? absl::NotFoundError("no such stamp") : absl::OkStatus();
  }

 private:
  std::string Stamp(const std::string& stamp) const {
    return has(Bug::kCutsStamps) ? stamp.substr(0, 63) : stamp;
  }
  void EraseStamps(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(store_->mutex_) {
    for (auto it = store_->stamps_.begin(); it != store_->stamps_.end();) {
      it = it->first.first == key ? store_->stamps_.erase(it) : std::next(it);
    }
  }

  int gets_ ABSL_GUARDED_BY(store_->mutex_) = 0;
};

class MemoryAtoms final : public StateContainer, private Buggy {
 public:
  using Buggy::Buggy;

  absl::Status Init(const std::string& name, absl::Duration) override {
    Pause();
    const std::string key = Key(name, "atom");
    absl::MutexLock lock(&store_->mutex_);
    if (has(Bug::kInitClears)) store_->atoms_.erase(key);
    return CountInit(key);
  }
  absl::Status Destroy(const std::string& name, int64_t version, absl::Duration) override {
    const std::string key = Key(name, "atom");
    absl::MutexLock lock(&store_->mutex_);
    const auto it = store_->atoms_.find(key);
    const bool older = it != store_->atoms_.end() && it->second.version <= version;
    if (it != store_->atoms_.end() && (older || has(Bug::kDestroyIgnoresVersions)) &&
        !has(Bug::kDestroyKeeps)) {
      store_->atoms_.erase(it);
    }
    return CountDestroy(key);
  }
  absl::StatusOr<std::optional<Value>> GetState(const std::string& name, absl::Duration) override {
    absl::MutexLock lock(&store_->mutex_);
    const auto it = store_->atoms_.find(Key(name, "atom"));
    if (it == store_->atoms_.end()) {
      if (has(Bug::kAbsentIsError)) return absl::NotFoundError("no such atom");
      return std::nullopt;
    }
    if (has(Bug::kNilIsAbsent) && it->second.value.is_nil()) return std::nullopt;
    return it->second.value;
  }
  absl::Status SetState(const std::string& name, const Value& value, int64_t version,
                        absl::Duration) override {
    const std::string key = Key(name, "atom");
    if (has(Bug::kUnguarded)) {
      auto copy = [&] {
        absl::MutexLock lock(&store_->mutex_);
        return store_->atoms_;
      }();
      std::this_thread::yield();
      MemoryStore::Atom& atom = copy[key];
      if (atom.version <= version) atom = {value, version};
      absl::MutexLock lock(&store_->mutex_);
      store_->atoms_ = std::move(copy);
      return absl::OkStatus();
    }
    absl::MutexLock lock(&store_->mutex_);
    const auto [it, is_new] = store_->atoms_.try_emplace(key, MemoryStore::Atom{Kept(value), version});
    MemoryStore::Atom& atom = it->second;
    if (is_new || has(Bug::kKeepsFirst)) return absl::OkStatus();
    bool older = version < atom.version;
    if (has(Bug::kIgnoresVersions)) older = false;
    if (has(Bug::kVersionsAsText)) older = absl::StrCat(version) < absl::StrCat(atom.version);
    if (has(Bug::kVersionsAsDoubles))
      older = static_cast<double>(version) < static_cast<double>(atom.version);
    if (older)
      return has(Bug::kRefusesOlder) ? absl::FailedPreconditionError("it is newer") : absl::OkStatus();
    atom = {Kept(value), version};
    return absl::OkStatus();
  }
};

inline Container MemoryContainer(const std::shared_ptr<MemoryStore>& store, int connection = 0) {
  Container container;
  container.refs = std::make_unique<MemoryRefs>(store, connection);
  container.atoms = std::make_unique<MemoryAtoms>(store, connection);
  return container;
}
inline Container MemoryContainer(Bug bug = Bug::kNone) {
  return MemoryContainer(std::make_shared<MemoryStore>(bug));
}

}  // namespace stm::containers

#endif  // STM_TESTS_BACKENDS_CONTAINERS_MEMORY_CONTAINER_H_
