#include "engine/sleepers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"

namespace stm::engine {
namespace {

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

}  // namespace

uint64_t Sleepers::Add(Sleeper sleeper) {
  uint64_t handle = next_handle_++;
  for (const std::string& name : sleeper.request.reads) beds_[name].handles.push_back(handle);
  for (const std::string& prefix : sleeper.request.lists) beds_[prefix].handles.push_back(handle);
  sleepers_.emplace(handle, std::move(sleeper));
  return handle;
}

std::optional<Sleeper> Sleepers::Remove(uint64_t handle) {
  auto it = sleepers_.find(handle);
  if (it == sleepers_.end()) return std::nullopt;
  Sleeper sleeper = std::move(it->second);
  sleepers_.erase(it);
  auto leave = [&](const std::string& name) {
    auto bed = beds_.find(name);
    if (bed == beds_.end()) return;
    auto& handles = bed->second.handles;
    // Most leave from the front, in order.
    while (!handles.empty() && !sleepers_.contains(handles.front())) handles.pop_front();
    if (handles.empty()) {
      beds_.erase(bed);
    } else if (handles.size() > 32) {
      // Sleepers that time out in the middle must not pile up: count what is gone once in a while.
      if (handle % handles.size() == 0) {
        handles.erase(std::remove_if(handles.begin(), handles.end(), [&](uint64_t h) { return !sleepers_.contains(h); }),
                      handles.end());
      }
    }
  };
  for (const std::string& name : sleeper.request.reads) leave(name);
  for (const std::string& prefix : sleeper.request.lists) leave(prefix);
  return sleeper;
}

bool Sleepers::Change(std::string_view name, Version version, std::vector<Sleeper>* woken) {
  auto bed = beds_.find(View(name));
  if (bed == beds_.end()) return false;
  bed->second.changed = version;
  // Those woken before this change are told by their own commits' conflicts; this change wakes its own.
  return Next(name, woken);
}

bool Sleepers::CameBack(std::string_view name, std::vector<Sleeper>* woken) {
  auto bed = beds_.find(View(name));
  if (bed == beds_.end() || bed->second.out == 0) return false;
  if (--bed->second.out > 0) return true;
  return Next(name, woken);
}

bool Sleepers::Next(std::string_view name, std::vector<Sleeper>* woken) {
  auto bed = beds_.find(View(name));
  if (bed == beds_.end()) return false;
  std::vector<uint64_t> wake;
  bool more = false;
  for (uint64_t handle : bed->second.handles) {
    auto sleeper = sleepers_.find(handle);
    if (sleeper == sleepers_.end()) continue;
    if (sleeper->second.request.snapshot >= bed->second.changed) continue;  // it went to sleep after the change
    if (static_cast<int64_t>(wake.size()) == woken_at_once_) {
      more = true;
      break;
    }
    wake.push_back(handle);
  }
  bed->second.out = static_cast<int64_t>(wake.size());
  for (uint64_t handle : wake) woken->push_back(*Remove(handle));
  return more;
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
