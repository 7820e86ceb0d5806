#include "engine/watches.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "engine/name.h"
#include "engine/values/absl_view.h"

namespace stm::engine {

bool Selector::Selects(std::string_view name) const {
  if (names.empty() && prefixes.empty()) return UnderPrefix(name, "/");
  for (const std::string& selected : names) {
    if (selected == name) return true;
  }
  for (const std::string& prefix : prefixes) {
    if (UnderPrefix(name, prefix)) return true;
  }
  return false;
}

Watcher& Watches::Add(WatchRequest request, std::shared_ptr<WatchSink> sink) {
  auto watcher = std::make_unique<Watcher>();
  watcher->handle = next_handle_++;
  if (request.selector.names.empty() && request.selector.prefixes.empty())
    request.selector.prefixes.push_back("/");
  for (auto* list : {&request.selector.names, &request.selector.prefixes}) {
    std::sort(list->begin(), list->end());
    list->erase(std::unique(list->begin(), list->end()), list->end());
  }
  own_ += request.own;
  watcher->request = std::move(request);
  watcher->sink = std::move(sink);
  Watcher& added = *watcher;
  Index(&added, true);
  watchers_.emplace(added.handle, std::move(watcher));
  return added;
}

void Watches::Index(Watcher* watcher, bool add) {
  auto change = [&](absl::flat_hash_map<std::string, std::vector<Watcher*>>& index, const std::string& key) {
    if (add) {
      index[key].push_back(watcher);
      return;
    }
    auto it = index.find(key);
    auto place = std::find(it->second.begin(), it->second.end(), watcher);
    // Order among watchers means nothing.
    *place = it->second.back();
    it->second.pop_back();
    if (it->second.empty()) index.erase(it);
  };
  for (const std::string& name : watcher->request.selector.names) change(by_name_, name);
  for (const std::string& prefix : watcher->request.selector.prefixes) change(by_prefix_, prefix);
}

void Watches::Remove(uint64_t handle) {
  auto it = watchers_.find(handle);
  if (it == watchers_.end()) return;
  Index(it->second.get(), false);
  own_ -= it->second->request.own;
  watchers_.erase(it);
}

Watcher* Watches::Find(uint64_t handle) {
  auto it = watchers_.find(handle);
  return it == watchers_.end() ? nullptr : it->second.get();
}

std::shared_ptr<const WatchEvent> Watches::Select(const Selector& selector,
                                                  const std::shared_ptr<const InstalledCommit>& commit) {
  std::vector<uint32_t> selected;
  for (size_t i = 0; i < commit->changes.size(); ++i) {
    if (selector.Selects(commit->changes[i].name)) selected.push_back(static_cast<uint32_t>(i));
  }
  if (selected.empty()) return nullptr;
  auto event = std::make_shared<WatchEvent>();
  event->commit = commit;
  event->selected = std::move(selected);
  return event;
}

int64_t Watches::Publish(const std::shared_ptr<const InstalledCommit>& commit, int64_t* cut) {
  if (watchers_.empty()) return 0;
  // Which changes each watcher sees, in order.
  absl::flat_hash_map<Watcher*, std::vector<uint32_t>> seen;
  const bool own_alone = size() == 0;
  for (size_t i = 0; i < commit->changes.size(); ++i) {
    // The daemon's own watch the system's names: with no others most commits are nobody's.
    if (own_alone && !IsSystem(commit->changes[i].name)) continue;
    uint32_t index = static_cast<uint32_t>(i);
    auto add = [&](const std::vector<Watcher*>& watchers) {
      for (Watcher* watcher : watchers) {
        if (watcher->phase != Watcher::Phase::kLive) continue;
        auto& indexes = seen[watcher];
        if (indexes.empty() || indexes.back() != index) indexes.push_back(index);
      }
    };
    const std::string& name = commit->changes[i].name;
    if (!by_name_.empty()) {
      auto it = by_name_.find(name);
      if (it != by_name_.end()) add(it->second);
    }
    if (!by_prefix_.empty()) {
      for (std::string_view prefix : DirectoriesOf(name)) {
        auto it = by_prefix_.find(Absl(prefix));
        if (it != by_prefix_.end()) add(it->second);
      }
    }
  }
  // In order of handles: a hash map's order would not be the same in two runs of one simulation.
  std::vector<std::pair<Watcher*, std::vector<uint32_t>>> in_order;
  in_order.reserve(seen.size());
  for (auto& [watcher, indexes] : seen) in_order.emplace_back(watcher, std::move(indexes));
  std::sort(in_order.begin(), in_order.end(),
            [](const auto& a, const auto& b) { return a.first->handle < b.first->handle; });
  // Watchers that see the same share one event, and so its encoding.
  std::vector<std::shared_ptr<const WatchEvent>> events;
  std::vector<uint64_t> behind;
  int64_t given = 0;
  for (auto& [watcher, indexes] : in_order) {
    given += !watcher->request.own;
    std::shared_ptr<const WatchEvent> event;
    for (const auto& made : events) {
      if (made->selected == indexes) event = made;
    }
    if (event == nullptr) {
      auto made = std::make_shared<WatchEvent>();
      made->commit = commit;
      made->selected = indexes;
      event = made;
      events.push_back(std::move(made));
    }
    watcher->delivered = commit->version;
    watcher->told = true;
    if (!watcher->sink->OnCommit(event)) behind.push_back(watcher->handle);
  }
  for (uint64_t handle : behind) Remove(handle);
  *cut += static_cast<int64_t>(behind.size());
  return given;
}

std::vector<std::shared_ptr<WatchSink>> Watches::TakeAll() {
  std::vector<std::shared_ptr<WatchSink>> sinks;
  for (auto& [handle, watcher] : watchers_) sinks.push_back(watcher->sink);
  watchers_.clear();
  own_ = 0;
  by_name_.clear();
  by_prefix_.clear();
  return sinks;
}

}  // namespace stm::engine
