#include "engine/resolving_sink.h"

#include <algorithm>
#include <utility>

namespace stm::engine {
namespace {

// A container that did not answer is asked again.
constexpr absl::Duration kAgainAfter = absl::Milliseconds(500);

bool HasStored(const std::optional<Value>& value) { return value.has_value() && IsStored(*value); }

bool HasStored(const WatchEvent& event) {
  return std::any_of(event.selected.begin(), event.selected.end(), [&](uint32_t i) {
    return HasStored(event.commit->changes[i].value) || HasStored(event.commit->before[i]);
  });
}

}  // namespace

void ResolvingSink::OnInitial(std::vector<EntryState> entries) {
  Item item;
  item.initial = std::move(entries);
  Take(std::move(item));
}

void ResolvingSink::OnSynced(Version version) {
  Item item;
  item.synced = version;
  Take(std::move(item));
}

bool ResolvingSink::OnCommit(std::shared_ptr<const WatchEvent> event) {
  if (over_) return false;
  const bool stored = HasStored(*event);
  if (waiting_.empty() && !stored) {
    over_ = !sink_->OnCommit(std::move(event));
    return !over_;
  }
  if (Room() == 0) {
    OnGap(installed_(), "its reader, or a container that has its values, is too slow");
    return false;
  }
  Item item;
  if (stored) item.commit = std::make_shared<InstalledCommit>(*event->commit);
  item.event = std::move(event);
  Take(std::move(item));
  return !over_;
}

size_t ResolvingSink::Room() const {
  const size_t room = sink_->Room();
  return room - std::min(room, waiting_events_);
}

void ResolvingSink::OnProgress(Version version) {
  if (waiting_.empty() && !over_) sink_->OnProgress(version);
}

// What waits is lost with the rest: the reader begins again.
void ResolvingSink::OnGap(Version resume_version, std::string reason) {
  if (!std::exchange(over_, true)) sink_->OnGap(resume_version, std::move(reason));
}

void ResolvingSink::OnDrain() {
  if (!std::exchange(over_, true)) sink_->OnDrain();
}

void ResolvingSink::Take(Item item) {
  if (over_) return;
  waiting_events_ += item.events();
  waiting_.push_back(std::move(item));
  if (!asking_) Go();
}

// Gives what waits, until something has to be asked for.
void ResolvingSink::Go() {
  while (!waiting_.empty() && !over_ && !asking_) {
    const Place place = FindStored(waiting_.front());
    if (place.value == nullptr) {
      Item item = std::move(waiting_.front());
      waiting_.pop_front();
      waiting_events_ -= item.events();
      if (!Give(std::move(item))) over_ = true;
      continue;
    }
    asking_ = true;
    const Stored stored = *StoredOf(**place.value);
    values_->Load(stored, *place.name, absl::InfiniteDuration(),
                  [self = shared_from_this(), stored](absl::StatusOr<std::optional<Value>> value) {
                    self->Got(stored, std::move(value));
                  });
  }
}

ResolvingSink::Place ResolvingSink::FindStored(Item& item) {
  const auto at_hand = [this](std::optional<Value>* value) {
    if (!HasStored(*value)) return true;
    std::optional<Value> found = values_->Find(StoredOf(**value)->stamp);
    if (found.has_value()) *value = std::move(found);
    return !HasStored(*value);
  };
  for (EntryState& entry : item.initial) {
    if (!at_hand(&entry.value)) return {&entry.value, &entry.name};
  }
  if (item.commit == nullptr) return {};
  for (uint32_t i : item.event->selected) {
    if (!at_hand(&item.commit->changes[i].value))
      return {&item.commit->changes[i].value, &item.commit->changes[i].name};
  }
  return {};
}

void ResolvingSink::Got(const Stored& stored, absl::StatusOr<std::optional<Value>> value) {
  if (over_) return;
  if (!value.ok() && !absl::IsDataLoss(value.status())) {
    return loop_->At(loop_->Now() + kAgainAfter, [self = shared_from_this()] {
      self->asking_ = false;
      self->Go();
    });
  }
  asking_ = false;
  if (!value.ok() || !value->has_value()) {
    return OnGap(installed_(), value.ok() ? "a value that it lacks was superseded, and is erased"
                                          : std::string(value.status().message()));
  }
  // It may be too large to be kept in memory.
  const Place place = FindStored(waiting_.front());
  if (place.value != nullptr && StoredOf(**place.value)->stamp == stored.stamp) *place.value = **value;
  Go();
}

bool ResolvingSink::Give(Item item) {
  if (item.synced.has_value()) {
    sink_->OnSynced(*item.synced);
    return true;
  }
  if (item.event == nullptr) {
    sink_->OnInitial(std::move(item.initial));
    return true;
  }
  if (item.commit == nullptr) return sink_->OnCommit(std::move(item.event));
  std::vector<uint32_t>& unknown = item.commit->before_unknown;
  for (uint32_t i : item.event->selected) {
    std::optional<Value>& before = item.commit->before[i];
    if (!HasStored(before)) continue;
    before = values_->Find(StoredOf(*before)->stamp);
    if (!before.has_value()) unknown.push_back(i);
  }
  std::sort(unknown.begin(), unknown.end());
  auto event = std::make_shared<WatchEvent>();
  event->commit = std::move(item.commit);
  event->selected = item.event->selected;
  return sink_->OnCommit(std::move(event));
}

}  // namespace stm::engine
