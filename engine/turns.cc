#include "engine/turns.h"

#include <algorithm>

#include "absl/strings/string_view.h"
#include "engine/values/absl_view.h"

namespace stm::engine {

bool Turns::CountLoss(const std::string& name, absl::Duration now) {
  Losses& losses = losses_[name];
  losses.until = now + shared_for_;
  return ++losses.count >= losses_max_;
}

void Turns::Ask(const std::string& name, absl::Duration now) {
  losses_.erase(name);
  asked_[name] = now + shared_for_;
}

bool Turns::Asked(std::string_view name, absl::Duration now) const {
  const auto asked = asked_.find(Absl(name));
  if (asked != asked_.end() && now < asked->second) return true;
  const auto it = shared_.find(Absl(name));
  if (it == shared_.end()) return false;
  const std::deque<Turn>& turns = it->second.turns;
  const auto unused = turns.begin() + (it->second.first_used ? 1 : 0);
  return std::any_of(unused, turns.end(), [](const Turn& turn) { return turn.ours; });
}

void Turns::Add(uint64_t writer, bool ours, const std::string& name, absl::Duration length,
                absl::Duration now) {
  Line& line = shared_[name];
  if (ours) {
    asked_.erase(name);
  } else {
    line.until = now + shared_for_;
  }
  // It asks again, for more names together: behind the first a daemon has one turn at most.
  if (!line.turns.empty()) {
    const auto asked_before = [writer](const Turn& turn) { return turn.writer == writer; };
    line.turns.erase(std::remove_if(line.turns.begin() + 1, line.turns.end(), asked_before),
                     line.turns.end());
  }
  line.turns.push_back({writer, ours, std::min(length, shared_for_)});
  if (line.turns.size() == 1) Begin(&line, now);
}

void Turns::SetUsed(std::string_view name, bool used) {
  const auto it = shared_.find(Absl(name));
  if (it == shared_.end() || it->second.turns.empty()) return;
  if (it->second.turns.front().ours) it->second.first_used = used;
}

// The first of its turns is over, also if another's is before it: it has what it asked for.
void Turns::End(uint64_t writer, bool ours, const std::string& name, absl::Duration now) {
  if (ours) losses_.erase(name);
  const auto it = shared_.find(name);
  if (it == shared_.end()) return;
  std::deque<Turn>& turns = it->second.turns;
  const auto turn = std::find_if(turns.begin(), turns.end(), [&](const Turn& one) {
    return ours ? one.ours : !one.ours && one.writer == writer;
  });
  if (turn == turns.end()) return;
  const bool first = turn == turns.begin();
  turns.erase(turn);
  if (first) Begin(&it->second, now);
  if (turns.empty() && it->second.until <= now) shared_.erase(it);
}

void Turns::Begin(Line* line, absl::Duration now) {
  line->first_used = false;
  if (!line->turns.empty()) line->first_ends = now + line->turns.front().length;
}

std::vector<std::string> Turns::Expire(absl::Duration now) {
  std::vector<std::string> names;
  for (auto it = shared_.begin(); it != shared_.end();) {
    Line& line = it->second;
    const bool over = !line.turns.empty() && line.first_ends <= now;
    if (over) {
      line.turns.pop_front();
      Begin(&line, now);
    }
    const bool free = line.turns.empty() && line.until <= now;
    if (over || free) names.push_back(it->first);
    if (free) {
      shared_.erase(it++);
    } else {
      ++it;
    }
  }
  // What was asked for and did not come may be asked for again.
  for (auto it = asked_.begin(); it != asked_.end();) {
    if (it->second <= now) {
      names.push_back(it->first);
      asked_.erase(it++);
    } else {
      ++it;
    }
  }
  absl::erase_if(losses_, [now](const auto& one) { return one.second.until <= now; });
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

absl::Duration Turns::NextExpiry() const {
  absl::Duration next = absl::InfiniteDuration();
  for (const auto& [name, line] : shared_)
    next = std::min(next, line.turns.empty() ? line.until : line.first_ends);
  for (const auto& [name, until] : asked_) next = std::min(next, until);
  for (const auto& [name, losses] : losses_) next = std::min(next, losses.until);
  return next;
}

bool Turns::Blocks(std::string_view name) const {
  const auto it = shared_.find(Absl(name));
  if (it == shared_.end()) return false;
  const Line& line = it->second;
  return line.turns.empty() || !line.turns.front().ours || line.first_used;
}

std::vector<std::string> Turns::SharedNames() const {
  std::vector<std::string> names;
  for (const auto& [name, line] : shared_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace stm::engine
