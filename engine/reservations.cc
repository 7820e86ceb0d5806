#include "engine/reservations.h"

#include <algorithm>
#include <cassert>

#include "engine/name.h"

namespace stm::engine {

void Reservations::ForEachName(const Transaction& transaction, bool with_directories,
                               const std::function<void(std::string_view)>& visit) {
  for (const std::string& name : transaction.reads) visit(name);
  for (const std::string& name : transaction.ensures) visit(name);
  for (const std::string& prefix : transaction.lists) visit(prefix);
  for (const Write& write : transaction.writes) {
    visit(write.name);
    // Which writes create or delete is known at the commit point only: each may move the listings above it.
    if (with_directories) {
      for (std::string_view directory : DirectoriesOf(write.name)) visit(directory);
    }
  }
}

bool Reservations::Blocked(const Pending& pending) const {
  bool blocked = false;
  ForEachName(*pending.transaction, prefixes_held_ > 0, [&](std::string_view name) {
    if (blocked) return;
    auto it = by_name_.find(absl::string_view(name.data(), name.size()));
    if (it == by_name_.end() || it->second == pending.reservation) return;
    blocked = pending.born >= held_.find(it->second)->second.born;
  });
  return blocked;
}

bool Reservations::StandInLine(std::unique_ptr<Pending>& pending) {
  if (held_.empty() || !Blocked(*pending)) return false;
  pending->waited_in_line = true;
  Turn turn(pending->born, pending->sequence);
  ForEachName(*pending->transaction, /*with_directories=*/true,
              [&](std::string_view name) { line_by_name_[std::string(name)].insert(turn); });
  line_.emplace(turn, std::move(pending));
  return true;
}

uint64_t Reservations::Reserve(Pending& pending, uint64_t number, absl::Duration expires) {
  if (pending.reservation != 0 && held_.contains(pending.reservation)) number = pending.reservation;
  pending.reservation = number;
  {
    Held& held = held_.try_emplace(number).first->second;
    held.born = pending.born;
    held.expires = std::max(held.expires, expires);
  }
  ForEachName(*pending.transaction, /*with_directories=*/false, [&](std::string_view name) {
    auto [it, added] = by_name_.emplace(std::string(name), number);
    if (added) {
      if (name.back() == '/') ++prefixes_held_;
    } else {
      if (it->second == number) return;
      Held& other = held_.find(it->second)->second;
      if (other.born <= pending.born) return;  // an older one keeps its name
      other.names.erase(std::remove(other.names.begin(), other.names.end(), name), other.names.end());
      it->second = number;
    }
    held_.find(number)->second.names.emplace_back(name);
  });
  return number;
}

void Reservations::HoldForOthers(const std::string& name, uint64_t number) {
  held_[number] = {{name}, -absl::InfiniteDuration(), absl::InfiniteDuration()};
  auto [it, added] = by_name_.emplace(name, number);
  if (added) return;
  std::vector<std::string>& names = held_.find(it->second)->second.names;
  names.erase(std::remove(names.begin(), names.end(), name), names.end());
  it->second = number;
}

void Reservations::Release(uint64_t number, absl::Duration expires, uint64_t* next_number,
                           std::vector<std::unique_ptr<Pending>>* ready) {
  auto it = held_.find(number);
  if (it == held_.end()) return;
  std::vector<std::string> names = std::move(it->second.names);
  held_.erase(it);
  for (const std::string& name : names) {
    by_name_.erase(name);
    if (name.back() == '/') --prefixes_held_;
  }
  if (line_.empty()) return;

  // Those who wanted a released name, oldest first. Once somebody holds the name again the rest stay where they are, until
  // that one releases it: few turns are looked at. (One who waits on a prefix reserves only the names that it writes, so
  // whether the name is held must be asked, each time.)
  std::set<std::pair<Turn, std::string>> next;
  auto look_after = [&](const std::string& name, const Turn* last) {
    auto waiting = line_by_name_.find(name);
    if (waiting == line_by_name_.end()) return;
    auto turn = last == nullptr ? waiting->second.begin() : waiting->second.upper_bound(*last);
    if (turn != waiting->second.end()) next.emplace(*turn, name);
  };
  for (const std::string& name : names) look_after(name, nullptr);
  while (!next.empty()) {
    auto [turn, released] = *next.begin();
    next.erase(next.begin());
    auto in_line = line_.find(turn);
    if (in_line != line_.end() && !Blocked(*in_line->second)) {
      std::unique_ptr<Pending> pending = std::move(in_line->second);
      line_.erase(in_line);
      ForEachName(*pending->transaction, /*with_directories=*/true, [&, turn = turn](std::string_view name) {
        auto waiting = line_by_name_.find(absl::string_view(name.data(), name.size()));
        if (waiting == line_by_name_.end()) return;
        waiting->second.erase(turn);
        if (waiting->second.empty()) line_by_name_.erase(waiting);
      });
      if (pending->checks()) Reserve(*pending, (*next_number)++, expires);
      ready->push_back(std::move(pending));
    }
    if (!by_name_.contains(released)) look_after(released, &turn);
  }
}

const Pending* Reservations::FirstInLine(const std::string& name) const {
  const auto waiting = line_by_name_.find(name);
  if (waiting == line_by_name_.end() || waiting->second.empty()) return nullptr;
  return line_.find(*waiting->second.begin())->second.get();
}

std::vector<uint64_t> Reservations::Expired(absl::Duration now) const {
  std::vector<uint64_t> numbers;
  for (const auto& [number, held] : held_) {
    if (held.expires <= now) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

absl::Duration Reservations::NextExpiry() const {
  absl::Duration next = absl::InfiniteDuration();
  for (const auto& [number, held] : held_) next = std::min(next, held.expires);
  return next;
}

std::vector<std::unique_ptr<Pending>> Reservations::TakeAll() {
  std::vector<std::unique_ptr<Pending>> all;
  for (auto& [turn, pending] : line_) all.push_back(std::move(pending));
  line_.clear();
  line_by_name_.clear();
  return all;
}

}  // namespace stm::engine
