#include "engine/sleepers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "engine/values/absl_view.h"

namespace stm::engine {
namespace {

// Handles that left from the middle are counted once in so many departures.
constexpr size_t kSweepFrom = 32;

}  // namespace

bool Sleepers::Same(std::string_view name, const Sight& a, const Sight& b) const {
  if (a.version == b.version) return true;
  if (name.back() == '/' || a.value.has_value() != b.value.has_value()) return false;
  if (!a.value.has_value()) return true;
  return static_cast<int64_t>(a.value->edn_size()) <= compared_bytes_max_ && *a.value == *b.value;
}

void Sleepers::Add(uint64_t handle, Sleeper sleeper, Look look) {
  const auto lie_down = [&](const std::string& name) {
    auto [it, added] = beds_.try_emplace(name);
    Bed& bed = it->second;
    if (added) bed.now = look(name);
    auto group = std::find_if(bed.groups.begin(), bed.groups.end(), [](const Group& g) { return !g.stale; });
    if (group == bed.groups.end()) group = bed.groups.insert(bed.groups.end(), Group{bed.now, false, {}});
    group->handles.push_back(handle);
  };
  for (const std::string& name : sleeper.request.reads) lie_down(name);
  for (const std::string& prefix : sleeper.request.lists) lie_down(prefix);
  if (sleeper.request.deadline != absl::InfiniteDuration()) deadlines_.emplace(sleeper.request.deadline, handle);
  sleepers_.emplace(handle, std::move(sleeper));
}

std::optional<Sleeper> Sleepers::Remove(uint64_t handle) {
  auto it = sleepers_.find(handle);
  if (it == sleepers_.end()) return std::nullopt;
  Sleeper sleeper = std::move(it->second);
  sleepers_.erase(it);
  deadlines_.erase({sleeper.request.deadline, handle});
  for (const std::string& name : sleeper.request.reads) Leave(name, handle);
  for (const std::string& prefix : sleeper.request.lists) Leave(prefix, handle);
  return sleeper;
}

void Sleepers::Leave(const std::string& name, uint64_t handle) {
  auto it = beds_.find(name);
  if (it == beds_.end()) return;
  std::vector<Group>& groups = it->second.groups;
  const auto gone = [this](uint64_t h) { return !sleepers_.contains(h); };
  for (Group& group : groups) {
    std::deque<uint64_t>& handles = group.handles;
    // Most leave from the front, in order.
    while (!handles.empty() && gone(handles.front())) handles.pop_front();
    // Those who time out in the middle must not pile up.
    if (handles.size() > kSweepFrom && handle % handles.size() == 0) {
      handles.erase(std::remove_if(handles.begin(), handles.end(), gone), handles.end());
    }
  }
  groups.erase(std::remove_if(groups.begin(), groups.end(), [](const Group& g) { return g.handles.empty(); }),
               groups.end());
  if (groups.empty()) beds_.erase(it);
}

bool Sleepers::Change(std::string_view name, Look look, std::vector<Sleeper>* woken) {
  auto it = beds_.find(Absl(name));
  if (it == beds_.end()) return false;
  Bed& bed = it->second;
  bed.now = look(name);
  for (Group& group : bed.groups) group.stale = !Same(name, group.seen, bed.now);
  return WakeSome(bed, woken);
}

bool Sleepers::CameBack(std::string_view name, Back how, std::vector<Sleeper>* woken) {
  auto it = beds_.find(Absl(name));
  if (it == beds_.end() || it->second.out == 0) return false;
  Bed& bed = it->second;
  bed.came_back = true;
  if (how == Back::kCommitted) {
    ++bed.committed;
  } else if (bed.committed > 0) {
    --bed.committed;
    return false;
  }
  if (--bed.out > 0) return false;
  bed.committed = 0;
  return WakeSome(bed, woken);
}

bool Sleepers::Next(std::string_view name, std::vector<Sleeper>* woken) {
  auto it = beds_.find(Absl(name));
  if (it == beds_.end()) return false;
  Bed& bed = it->second;
  bed.next_due = false;
  // A machine that is behind is not helped by more who want the same.
  if (bed.out > 0 && std::exchange(bed.came_back, false)) return TellNextDue(bed);
  // Those still out may never come back.
  bed.out = bed.committed = 0;
  return WakeSome(bed, woken);
}

bool Sleepers::WakeSome(Bed& bed, std::vector<Sleeper>* woken) {
  // Those still out learn of this change by their own commits' conflicts.
  const auto room = static_cast<size_t>(std::max<int64_t>(woken_at_once_ - bed.out, 0));
  std::vector<uint64_t> wake;
  for (const Group& group : bed.groups) {
    if (!group.stale) continue;
    // One more than may be woken, to know whether more wait.
    const size_t most = wake.size() + room + 1;
    for (auto handle = group.handles.begin(); handle != group.handles.end() && wake.size() < most; ++handle) {
      // A name that was read twice is slept on twice.
      if (sleepers_.contains(*handle) && (wake.empty() || wake.back() != *handle)) wake.push_back(*handle);
    }
  }
  std::sort(wake.begin(), wake.end());
  bool tell = false;
  if (wake.size() > room) {
    wake.resize(room);
    tell = TellNextDue(bed);
  }
  bed.out += static_cast<int64_t>(wake.size());
  // The bed goes with the last of them.
  for (uint64_t handle : wake) woken->push_back(*Remove(handle));
  return tell;
}

bool Sleepers::TellNextDue(Bed& bed) {
  if (bed.next_due) return false;
  bed.came_back = false;
  bed.next_due = std::any_of(bed.groups.begin(), bed.groups.end(), [](const Group& group) { return group.stale; });
  return bed.next_due;
}

absl::Duration Sleepers::NextDeadline() const {
  return deadlines_.empty() ? absl::InfiniteDuration() : deadlines_.begin()->first;
}

std::vector<Sleeper> Sleepers::TakeExpired(absl::Duration now) {
  std::vector<Sleeper> expired;
  while (NextDeadline() <= now) expired.push_back(*Remove(deadlines_.begin()->second));
  return expired;
}

std::vector<Sleeper> Sleepers::TakeAll() {
  std::vector<uint64_t> handles;
  for (const auto& [handle, sleeper] : sleepers_) handles.push_back(handle);
  std::sort(handles.begin(), handles.end());
  std::vector<Sleeper> all;
  for (uint64_t handle : handles) all.push_back(*Remove(handle));
  return all;
}

}  // namespace stm::engine
