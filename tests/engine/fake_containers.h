// Containers in memory that do as a test tells them: they answer in a later task of the Loop, or keep calls
// back, or fail.
#ifndef STM_TESTS_ENGINE_FAKE_CONTAINERS_H_
#define STM_TESTS_ENGINE_FAKE_CONTAINERS_H_

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/containers.h"
#include "engine/loop.h"
#include "engine/values/edn.h"

namespace stm::engine {

class FakeContainers : public Containers {
 public:
  explicit FakeContainers(Loop* loop) : loop_(loop) {}

  absl::Status Check(const std::string& container, EntryKind kind) override {
    if (known.count(container) != 0) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("no container named ", container, " is configured"));
  }
  void Init(const std::string& container, const std::string& name, absl::Duration until, Told done) override {
    Call("init", container, name, "", until, std::move(done), [] {});
  }
  void Destroy(const std::string& container, const std::string& name, absl::Duration until,
               Told done) override {
    Call("destroy", container, name, "", until, std::move(done), [] {});
  }
  void GetStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                  absl::Duration until, Got done) override {
    Call(
        "get", container, name, stamp, until,
        [this, key = std::tuple(container, name, stamp),
         done = std::move(done)](absl::Status status) mutable {
          if (!status.ok()) return done(std::move(status));
          const auto it = values.find(key);
          done(it == values.end() ? std::nullopt : std::optional<Value>(it->second));
        },
        [] {});
  }
  void SetStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                  Value value, absl::Duration until, Told done) override {
    Call("set", container, name, stamp, until, std::move(done),
         [this, key = std::tuple(container, name, stamp), value] {
           // Written once: another value under the same stamp is not taken.
           values.emplace(key, value);
         });
  }
  void DeleteStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                     absl::Duration until, Told done) override {
    Call("delete", container, name, stamp, until, std::move(done),
         [this, key = std::tuple(container, name, stamp)] { values.erase(key); });
  }
  void InitAtom(const std::string& container, const std::string& name, absl::Duration until,
                Told done) override {
    Call("init-atom", container, name, "", until, std::move(done), [] {});
  }
  void DestroyAtom(const std::string& container, const std::string& name, Version version,
                   absl::Duration until, Told done) override {
    Call("destroy-atom", container, name, "", until, std::move(done),
         [this, key = std::pair(container, name), version] {
           const auto it = atoms.find(key);
           if (it != atoms.end() && it->second.first < version) atoms.erase(it);
         });
  }
  void GetState(const std::string& container, const std::string& name, absl::Duration until,
                Got done) override {
    Call(
        "get-atom", container, name, "", until,
        [this, key = std::pair(container, name), done = std::move(done)](absl::Status status) mutable {
          if (!status.ok()) return done(std::move(status));
          const auto it = atoms.find(key);
          done(it == atoms.end() ? std::nullopt : std::optional<Value>(it->second.second));
        },
        [] {});
  }
  void SetState(const std::string& container, const std::string& name, Value value, Version version,
                absl::Duration until, Told done) override {
    Call("set-atom", container, name, "", until, std::move(done),
         [this, key = std::pair(container, name), value, version] {
           auto& atom = atoms[key];
           if (version >= atom.first) atom = {version, value};
         });
  }

  // Lets the oldest call that is held back go on.
  void Release() {
    auto call = std::move(held.front());
    held.pop_front();
    loop_->Post(std::move(call));
  }
  // "mongo /a=1 /b=[2]" in order of names, whatever the stamps.
  std::string Text() const {
    std::string text;
    for (const auto& [key, value] : values) {
      absl::StrAppend(&text, text.empty() ? "" : " ", std::get<1>(key), "=", ToEdn(value));
    }
    return text;
  }

  std::set<std::string> known = {"mongo"};
  std::map<std::tuple<std::string, std::string, std::string>, Value> values;  // container, name, stamp
  std::map<std::pair<std::string, std::string>, std::pair<Version, Value>> atoms;
  std::vector<std::string> calls;            // "set /a"
  std::set<std::string> hold;                // verbs whose calls wait for Release
  std::string hold_in;                       // of this container alone; "": of all
  std::map<std::string, absl::Status> fail;  // verbs whose calls fail, without effect
  std::string fail_in;                       // of this container alone; "": of all
  std::deque<Task> held;

 private:
  template <typename Done, typename Effect>
  void Call(const std::string& verb, const std::string& container, const std::string& name,
            const std::string&, absl::Duration until, Done done, Effect effect) {
    calls.push_back(absl::StrCat(verb, " ", name));
    auto answered = std::make_shared<bool>(false);
    auto tell = std::make_shared<Done>(std::move(done));
    auto run = [this, verb, container, answered, tell, effect = std::move(effect)]() mutable {
      const auto failing = fail_in.empty() || fail_in == container ? fail.find(verb) : fail.end();
      if (failing == fail.end()) effect();
      if (std::exchange(*answered, true)) return;
      (*tell)(failing == fail.end() ? absl::OkStatus() : failing->second);
    };
    if (hold.count(verb) != 0 && (hold_in.empty() || hold_in == container)) {
      held.push_back(std::move(run));
    } else {
      loop_->Post(std::move(run));
    }
    if (until == absl::InfiniteDuration()) return;
    loop_->At(until, [answered, tell] {
      if (!std::exchange(*answered, true)) (*tell)(absl::UnavailableError("no answer in time"));
    });
  }

  Loop* const loop_;
};

}  // namespace stm::engine

#endif  // STM_TESTS_ENGINE_FAKE_CONTAINERS_H_
