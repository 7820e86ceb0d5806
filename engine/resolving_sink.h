// A ResolvingSink stands before a watch's sink and gives it values where commits have stamps (stored.h): it
// asks for them in the order of events, and what comes behind waits. A value before a change that is not at
// hand is told as unknown. While a container does not answer, its watchers alone wait, until they are too far
// behind. Lives on the Loop; no locks.
#ifndef STM_ENGINE_RESOLVING_SINK_H_
#define STM_ENGINE_RESOLVING_SINK_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/loop.h"
#include "engine/stored_values.h"
#include "engine/watch.h"

namespace stm::engine {

class ResolvingSink : public WatchSink, public std::enable_shared_from_this<ResolvingSink> {
 public:
  // `installed`: the newest version, for a gap.
  ResolvingSink(Loop* loop, StoredValues* values, std::shared_ptr<WatchSink> sink,
                std::function<Version()> installed)
      : loop_(loop), values_(values), sink_(std::move(sink)), installed_(std::move(installed)) {}

  void OnInitial(std::vector<EntryState> entries) override;
  void OnSynced(Version version) override;
  bool OnCommit(std::shared_ptr<const WatchEvent> event) override;
  size_t Room() const override;
  void OnProgress(Version version) override;
  void OnGap(Version resume_version, std::string reason) override;
  void OnDrain() override;
  // The watch was taken back: nothing is called any more.
  void Stop() { over_ = true; }

 private:
  // One of these.
  struct Item {
    std::vector<EntryState> initial;
    std::optional<Version> synced;
    std::shared_ptr<const WatchEvent> event;
    std::shared_ptr<InstalledCommit>
        commit;  // of an event: its own, whose stamps give way to values; null: it has none
    size_t events() const { return event != nullptr ? 1 : initial.size(); }
  };
  struct Place {
    std::optional<Value>* value = nullptr;
    const std::string* name = nullptr;
  };

  void Take(Item item);
  void Go();
  // The first value that has to be asked for; value null: none has.
  Place FindStored(Item& item);
  void Got(const Stored& stored, absl::StatusOr<std::optional<Value>> value);
  bool Give(Item item);

  Loop* const loop_;
  StoredValues* const values_;
  const std::shared_ptr<WatchSink> sink_;
  const std::function<Version()> installed_;
  std::deque<Item> waiting_;
  size_t waiting_events_ = 0;
  bool asking_ = false;
  bool over_ = false;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_RESOLVING_SINK_H_
