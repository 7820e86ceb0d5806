// ThreadedContainers on a real Loop, asked from a test's thread; and a container that does as a test says.
#ifndef STM_TESTS_BACKENDS_CONTAINERS_ASKER_H_
#define STM_TESTS_BACKENDS_CONTAINERS_ASKER_H_

#include <catch2/catch.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "backends/containers/container.h"
#include "backends/containers/threaded.h"
#include "engine/error.h"
#include "engine/loop.h"
#include "stm/v1/common.pb.h"

namespace stm::containers {

// For what must come: a test that waits so long has failed.
constexpr absl::Duration kPatience = absl::Seconds(60);
// What calls are given by the Loop's clock, unless a test says.
constexpr absl::Duration kLong = absl::Hours(1);

// What came of a call.
class Answered {
 public:
  using Answer = absl::StatusOr<std::optional<Value>>;

  void Set(Answer answer) {
    absl::MutexLock lock(&mutex_);
    answer_ = std::move(answer);
    ++times_;
  }
  bool has() const { return times() > 0; }
  int times() const {
    absl::MutexLock lock(&mutex_);
    return times_;
  }
  Answer Wait() const {
    absl::MutexLock lock(&mutex_);
    const bool came = mutex_.AwaitWithTimeout(
        absl::Condition(
            +[](const Answered* self) ABSL_SHARED_LOCKS_REQUIRED(self->mutex_) { return self->times_ > 0; },
            this),
        kPatience);
    REQUIRE(came);
    return answer_;
  }
  absl::Status status() const { return Wait().status(); }

 private:
  mutable absl::Mutex mutex_;
  Answer answer_ ABSL_GUARDED_BY(mutex_);
  int times_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A Loop with a thread of its own and a clock that stands still but for the test.
class SteppedLoop final : public engine::Loop {
 public:
  SteppedLoop() : thread_([this] { Run(); }) {}
  ~SteppedLoop() override {
    Post([this] { over_ = true; });
    thread_.join();
  }
  absl::Duration Now() override {
    absl::MutexLock lock(&mutex_);
    return now_;
  }
  Instant WallNow() override { return {1'800'000'000 + absl::ToInt64Seconds(Now()), 0}; }
  void Post(engine::Task task) override {
    absl::MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  void At(absl::Duration when, engine::Task task) override {
    absl::MutexLock lock(&mutex_);
    if (when <= now_) {
      tasks_.push_back(std::move(task));
    } else {
      timers_.emplace(when, std::move(task));
    }
  }
  uint64_t Random() override { return 7; }

  void Advance(absl::Duration by) {
    absl::MutexLock lock(&mutex_);
    now_ += by;
    while (!timers_.empty() && timers_.begin()->first <= now_) {
      tasks_.push_back(std::move(timers_.begin()->second));
      timers_.erase(timers_.begin());
    }
  }

 private:
  void Run() {
    while (!over_) {
      engine::Task task;
      {
        const auto some = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !tasks_.empty(); };
        absl::MutexLock lock(&mutex_, absl::Condition(&some));
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  absl::Mutex mutex_;
  absl::Duration now_ ABSL_GUARDED_BY(mutex_) = absl::Seconds(1000);
  std::deque<engine::Task> tasks_ ABSL_GUARDED_BY(mutex_);
  std::multimap<absl::Duration, engine::Task> timers_ ABSL_GUARDED_BY(mutex_);
  bool over_ = false;  // the thread's
  std::thread thread_;
};

template <typename OfLoop>
class AskerOn {
 public:
  explicit AskerOn(ThreadedOptions options = {}) : containers(&loop, options) {}
  // The Loop outlives what posts to it.
  ~AskerOn() { containers.Stop(); }

  // Runs it on the Loop, to its end.
  void OnLoop(std::function<void()> task) {
    absl::Mutex mutex;
    bool ran = false;
    loop.Post([&] {
      task();
      absl::MutexLock lock(&mutex);
      ran = true;
    });
    absl::MutexLock lock(&mutex);
    // Not REQUIRE: the task has what is on this stack.
    if (!mutex.AwaitWithTimeout(absl::Condition(&ran), kPatience)) FAIL_CHECK("the Loop does not run");
    mutex.Await(absl::Condition(&ran));
  }
  absl::Status Add(const std::string& name, Container container) {
    absl::Status status;
    OnLoop([&] { status = containers.Add(name, std::move(container)); });
    return status;
  }
  void Remove(const std::string& name) {
    OnLoop([&] { containers.Remove(name); });
  }
  absl::Status Check(const std::string& name, engine::EntryKind kind) {
    absl::Status status;
    OnLoop([&] { status = containers.Check(name, kind); });
    return status;
  }
  ContainerStats Stats(const std::string& name) {
    ContainerStats found;
    OnLoop([&] {
      for (const ContainerStats& stats : containers.Stats()) {
        if (stats.name == name) found = stats;
      }
    });
    return found;
  }
  // Until what is told of a container is so.
  void Await(const std::string& name, const std::function<bool(const ContainerStats&)>& so) {
    const absl::Time until = absl::Now() + kPatience;
    while (!so(Stats(name))) {
      REQUIRE(absl::Now() < until);
      absl::SleepFor(absl::Milliseconds(1));
    }
  }

  using Call = std::shared_ptr<Answered>;
  Call Init(const std::string& container, const std::string& name, absl::Duration within = kLong) {
    return Ask(within, [=](absl::Duration deadline, Call call) {
      containers.Init(container, name, deadline, Told(call));
    });
  }
  Call Destroy(const std::string& container, const std::string& name, absl::Duration within = kLong) {
    return Ask(within, [=](absl::Duration deadline, Call call) {
      containers.Destroy(container, name, deadline, Told(call));
    });
  }
  Call Get(const std::string& container, const std::string& name, const std::string& stamp,
           absl::Duration within = kLong) {
    return Ask(within, [=](absl::Duration deadline, Call call) {
      containers.GetStateAt(container, name, stamp, deadline,
                            [call](auto answer) { call->Set(std::move(answer)); });
    });
  }
  Call Set(const std::string& container, const std::string& name, const std::string& stamp,
           const Value& value, absl::Duration within = kLong) {
    return Ask(within, [=](absl::Duration deadline, Call call) {
      containers.SetStateAt(container, name, stamp, value, deadline, Told(call));
    });
  }
  Call Delete(const std::string& container, const std::string& name, const std::string& stamp,
              absl::Duration within = kLong) {
    return Ask(within, [=](absl::Duration deadline, Call call) {
      containers.DeleteStateAt(container, name, stamp, deadline, Told(call));
    });
  }
  Call InitAtom(const std::string& container, const std::string& name, absl::Duration within = kLong) {
    return Ask(within, [=](absl::Duration deadline, Call call) {
      containers.InitAtom(container, name, deadline, Told(call));
    });
  }
  Call DestroyAtom(const std::string& container, const std::string& name, int64_t version,
                   absl::Duration within = kLong) {
    return Ask(within, [=](absl::Duration deadline, Call call) {
      containers.DestroyAtom(container, name, version, deadline, Told(call));
    });
  }
  Call GetAtom(const std::string& container, const std::string& name, absl::Duration within = kLong) {
    return Ask(within, [=](absl::Duration deadline, Call call) {
      containers.GetState(container, name, deadline, [call](auto answer) { call->Set(std::move(answer)); });
    });
  }
  Call SetAtom(const std::string& container, const std::string& name, const Value& value, int64_t version,
               absl::Duration within = kLong) {
    return Ask(within, [=](absl::Duration deadline, Call call) {
      containers.SetState(container, name, value, version, deadline, Told(call));
    });
  }

  OfLoop loop;
  ThreadedContainers containers;

 private:
  static engine::Containers::Told Told(const Call& call) {
    return [call](absl::Status status) {
      call->Set(status.ok() ? Answered::Answer(std::nullopt) : Answered::Answer(std::move(status)));
    };
  }
  Call Ask(absl::Duration within, std::function<void(absl::Duration, Call)> ask) {
    auto call = std::make_shared<Answered>();
    OnLoop([&] {
      ask(loop.Now() + within, call);
      // In a later task, always.
      if (call->has()) call->Set(absl::InternalError("told at once"));
    });
    return call;
  }
};

using Asker = AskerOn<SteppedLoop>;

inline v1::ErrorDetail DetailOf(const absl::Status& status) {
  return engine::DetailOf(status).value_or(v1::ErrorDetail());
}
inline std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

// What a test says of a container's calls, from outside of it. Outlives the container.
class Script {
 public:
  // Calls of "VERB NAME" wait until it is opened again.
  void Hold(const std::string& call) {
    absl::MutexLock lock(&mutex_);
    held_.push_back(call);
  }
  void Open() {
    absl::MutexLock lock(&mutex_);
    held_.clear();
  }
  // What calls are told from now on.
  void Say(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    says_ = std::move(status);
  }
  void Throw(std::string what) {
    absl::MutexLock lock(&mutex_);
    throws_ = std::move(what);
  }
  // The calls that have come so far, in order: "SetState /a 7".
  std::vector<std::string> calls() const {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }
  void AwaitCalls(size_t count) const {
    const auto enough = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return calls_.size() >= count; };
    absl::MutexLock lock(&mutex_);
    REQUIRE(mutex_.AwaitWithTimeout(absl::Condition(&enough), kPatience));
  }
  void AwaitDestroyed() const {
    absl::MutexLock lock(&mutex_);
    REQUIRE(mutex_.AwaitWithTimeout(absl::Condition(&destroyed_), kPatience));
  }
  bool destroyed() const {
    absl::MutexLock lock(&mutex_);
    return destroyed_;
  }

  absl::Status Came(const std::string& verb, const std::string& name, const std::string& more = "") {
    const std::string call = verb + " " + name;
    absl::MutexLock lock(&mutex_);
    calls_.push_back(more.empty() ? call : call + " " + more);
    const auto open = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      for (const std::string& held : held_) {
        if (held == call) return false;
      }
      return true;
    };
    mutex_.Await(absl::Condition(&open));
    if (!throws_.empty()) throw std::runtime_error(throws_);
    return says_;
  }
  void Destroyed() {
    absl::MutexLock lock(&mutex_);
    destroyed_ = true;
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::string> held_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mutex_);
  absl::Status says_ ABSL_GUARDED_BY(mutex_);
  std::string throws_ ABSL_GUARDED_BY(mutex_);
  bool destroyed_ ABSL_GUARDED_BY(mutex_) = false;
};

class ScriptedRefs final : public VersionedStateContainer {
 public:
  explicit ScriptedRefs(std::shared_ptr<Script> script) : script_(std::move(script)) {}
  ~ScriptedRefs() override { script_->Destroyed(); }
  absl::Status Init(const std::string& name, absl::Duration) override { return script_->Came("Init", name); }
  absl::Status Destroy(const std::string& name, absl::Duration) override {
    return script_->Came("Destroy", name);
  }
  absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name, const std::string& stamp,
                                                  absl::Duration) override {
    if (absl::Status status = script_->Came("GetStateAt", name, stamp); !status.ok()) return status;
    return Value::String(stamp);
  }
  absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value&,
                          absl::Duration) override {
    return script_->Came("SetStateAt", name, stamp);
  }
  absl::Status DeleteStateAt(const std::string& name, const std::string& stamp, absl::Duration) override {
    return script_->Came("DeleteStateAt", name, stamp);
  }

 private:
  const std::shared_ptr<Script> script_;
};

class ScriptedAtoms final : public StateContainer {
 public:
  explicit ScriptedAtoms(std::shared_ptr<Script> script) : script_(std::move(script)) {}
  absl::Status Init(const std::string& name, absl::Duration) override { return script_->Came("Init", name); }
  absl::Status Destroy(const std::string& name, int64_t version, absl::Duration) override {
    return script_->Came("Destroy", name, std::to_string(version));
  }
  absl::StatusOr<std::optional<Value>> GetState(const std::string& name, absl::Duration) override {
    if (absl::Status status = script_->Came("GetState", name); !status.ok()) return status;
    return std::nullopt;
  }
  absl::Status SetState(const std::string& name, const Value&, int64_t version, absl::Duration) override {
    return script_->Came("SetState", name, std::to_string(version));
  }

 private:
  const std::shared_ptr<Script> script_;
};

inline Container Scripted(const std::shared_ptr<Script>& script) {
  Container container;
  container.refs = std::make_unique<ScriptedRefs>(script);
  container.atoms = std::make_unique<ScriptedAtoms>(script);
  return container;
}

}  // namespace stm::containers

#endif  // STM_TESTS_BACKENDS_CONTAINERS_ASKER_H_
