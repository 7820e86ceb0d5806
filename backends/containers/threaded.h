// ThreadedContainers lends containers that block (container.h) to the engine, which never does. Each
// container has threads and a queue of its own, so that one that hangs delays only those who use it. The
// engine's methods, Add, Remove and Stats are called on the Loop, or before it runs; containers are called by
// their threads, which hold no lock meanwhile. Always: `done` comes once, at its deadline at the latest, also
// when the container never returns; what it returns later is dropped. The calls of one atom reach it one at a
// time, in order, and so do the writes under one stamp: one that hangs holds up those behind it, which are
// told UNAVAILABLE at their deadlines.
#ifndef STM_BACKENDS_CONTAINERS_THREADED_H_
#define STM_BACKENDS_CONTAINERS_THREADED_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backends/containers/container.h"
#include "engine/containers.h"
#include "engine/loop.h"

namespace stm::containers {

struct ThreadedOptions {
  // Threads of one container, started as they are needed; and calls that wait for one of them, or for their
  // turn.
  int64_t container_threads_max = 64;
  int64_t container_queue_max = 1024;
  // How long Stop waits for calls that are in a container.
  absl::Duration stop_grace = absl::Seconds(1);
};

struct ContainerStats {
  std::string name;
  bool keeps_refs = false;
  bool keeps_atoms = false;
  bool healthy = true;         // the last call that ended was OK; none has ended: true
  std::string last_error;      // "": none yet
  Instant last_error_at;       // of last_error
  absl::Duration latency_p50;  // of the last 256 calls that came back; zero: none yet
  // Since it was added: calls that were answered, or given up; of these, those that failed; and the time of those that
  // came back.
  int64_t calls = 0;
  int64_t calls_failed = 0;
  absl::Duration calls_time;
  int64_t calls_under_way = 0;
  int64_t calls_hanging = 0;  // of those under way: past their deadline
  int64_t calls_queued = 0;
};

class ThreadedContainers final : public engine::Containers {
 public:
  explicit ThreadedContainers(engine::Loop* loop, ThreadedOptions options = {});
  // Stops.
  ~ThreadedContainers() override;
  ThreadedContainers(const ThreadedContainers&) = delete;
  ThreadedContainers& operator=(const ThreadedContainers&) = delete;

  // ALREADY_EXISTS: there is one of this name, and it stays.
  absl::Status Add(const std::string& name, Container container);
  // Who waits for it is told UNAVAILABLE, as are all who ask from now on. It is destroyed by a thread of its
  // own, once its calls have returned.
  void Remove(const std::string& name);
  // In order of their names.
  std::vector<ContainerStats> Stats() const;

  // Who waits is told UNAVAILABLE, and so are all who ask afterwards; then the containers are destroyed, but
  // for those with a call that does not return within stop_grace: they go when it does, if ever. None of
  // their threads posts to the Loop any more. Not on the Loop, which still runs.
  void Stop();

  absl::Status Check(const std::string& container, engine::EntryKind kind) override;
  void Init(const std::string& container, const std::string& name, absl::Duration deadline,
            Told done) override;
  void Destroy(const std::string& container, const std::string& name, absl::Duration deadline,
               Told done) override;
  void GetStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                  absl::Duration deadline, Got done) override;
  void SetStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                  Value value, absl::Duration deadline, Told done) override;
  void DeleteStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                     absl::Duration deadline, Told done) override;
  void InitAtom(const std::string& container, const std::string& name, absl::Duration deadline,
                Told done) override;
  void DestroyAtom(const std::string& container, const std::string& name, engine::Version version,
                   absl::Duration deadline, Told done) override;
  void GetState(const std::string& container, const std::string& name, absl::Duration deadline,
                Got done) override;
  void SetState(const std::string& container, const std::string& name, Value value, engine::Version version,
                absl::Duration deadline, Told done) override;

 private:
  class Core;
  const std::shared_ptr<Core> core_;
};

}  // namespace stm::containers

#endif  // STM_BACKENDS_CONTAINERS_THREADED_H_
