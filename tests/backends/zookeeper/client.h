// Client is a session that a test asks and waits for, from beside its Loop. What it waits for in vain has the
// code nullopt, which equals none. What happened on its session it keeps, in order.
#ifndef STM_TESTS_BACKENDS_ZOOKEEPER_CLIENT_H_
#define STM_TESTS_BACKENDS_ZOOKEEPER_CLIENT_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "backends/zookeeper/session.h"
#include "engine/loop.h"

namespace stm::zookeeper {

// A Loop, and where its sessions are opened; a test stands beside it.
class Shore {
 public:
  virtual ~Shore() = default;
  virtual Sessions& sessions() = 0;
  // Runs `task` on the Loop and waits for it.
  virtual void Run(engine::Task task) = 0;
  // False: it gave up.
  virtual bool Await(const absl::Notification& notification) = 0;
  virtual bool Eventually(const std::function<bool()>& condition) = 0;
};

class Client {
 public:
  Client(Shore* shore, SessionOptions options) : shore_(*shore) {
    shore_.Run([&] {
      session_ = shore_.sessions().Open(std::move(options), [seen = seen_](const Event& event) {
        absl::MutexLock lock(&seen->mutex);
        seen->events.push_back(event);
      });
    });
  }
  ~Client() {
    shore_.Run([&] { session_ = nullptr; });
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  struct Read {
    std::optional<Code> code;
    std::string data;
    Stat stat;
    std::vector<std::string> names;
  };

  std::optional<MultiResult> Multi(std::vector<Op> ops) {
    auto slot = std::make_shared<Slot<MultiResult>>();
    shore_.Run([&] {
      session_->Multi(std::move(ops), [slot](MultiResult result) { slot->Put(std::move(result)); });
    });
    return slot->Await(&shore_);
  }
  // The code alone.
  std::optional<Code> Try(std::vector<Op> ops) {
    const std::optional<MultiResult> result = Multi(std::move(ops));
    if (!result) return std::nullopt;
    return result->code;
  }
  Read Get(const std::string& path, Watch watch = Watch::kNo) {
    auto slot = std::make_shared<Slot<Read>>();
    shore_.Run([&] {
      session_->Get(path, watch, [slot](Code code, std::string data, Stat stat) {
        slot->Put({code, std::move(data), stat, {}});
      });
    });
    return slot->Await(&shore_).value_or(Read());
  }
  Read Exists(const std::string& path, Watch watch = Watch::kNo) {
    auto slot = std::make_shared<Slot<Read>>();
    shore_.Run([&] {
      session_->Exists(path, watch, [slot](Code code, Stat stat) { slot->Put({code, "", stat, {}}); });
    });
    return slot->Await(&shore_).value_or(Read());
  }
  // Sorted.
  Read Children(const std::string& path) {
    auto slot = std::make_shared<Slot<Read>>();
    shore_.Run([&] {
      session_->Children(path, [slot](Code code, std::vector<std::string> names) {
        slot->Put({code, "", Stat(), std::move(names)});
      });
    });
    Read read = slot->Await(&shore_).value_or(Read());
    std::sort(read.names.begin(), read.names.end());
    return read;
  }
  std::optional<Code> Sync(const std::string& path) {
    auto slot = std::make_shared<Slot<Code>>();
    shore_.Run([&] { session_->Sync(path, [slot](Code code) { slot->Put(code); }); });
    return slot->Await(&shore_);
  }

  std::vector<Event> events() const {
    absl::MutexLock lock(&seen_->mutex);
    return seen_->events;
  }
  size_t Count(Event::Kind kind) const {
    const std::vector<Event> all = events();
    return std::count_if(all.begin(), all.end(), [&](const Event& event) { return event.kind == kind; });
  }
  // True as soon as it happened `times` times.
  bool Await(Event::Kind kind, size_t times = 1) const {
    return shore_.Eventually([&] { return Count(kind) >= times; });
  }
  // Of the newest kConnected.
  Event Connected() const {
    Event last;
    for (const Event& event : events()) {
      if (event.kind == Event::Kind::kConnected) last = event;
    }
    return last;
  }

  // For what is not worth waiting for: on the Loop alone, by Shore::Run.
  std::unique_ptr<Session>& session() { return session_; }

 private:
  // Filled on the Loop, once.
  template <typename T>
  class Slot {
   public:
    void Put(T value) {
      value_ = std::move(value);
      filled_.Notify();
    }
    std::optional<T> Await(Shore* shore) {
      if (!shore->Await(filled_)) return std::nullopt;
      return std::move(value_);
    }

   private:
    absl::Notification filled_;
    std::optional<T> value_;
  };
  struct Seen {
    absl::Mutex mutex;
    std::vector<Event> events ABSL_GUARDED_BY(mutex);
  };

  Shore& shore_;
  const std::shared_ptr<Seen> seen_ = std::make_shared<Seen>();
  std::unique_ptr<Session> session_;
};

}  // namespace stm::zookeeper

#endif  // STM_TESTS_BACKENDS_ZOOKEEPER_CLIENT_H_
