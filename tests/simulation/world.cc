#include "tests/simulation/world.h"

#include <algorithm>

namespace stm::sim {
namespace {

// 2026-11-22T03:00:00Z, at the world's beginning.
constexpr int64_t kWallBegin = 1795316400;

template <typename Map>
engine::Task TakeFirst(Map* agenda) {
  engine::Task task = std::move(agenda->begin()->second);
  agenda->erase(agenda->begin());
  return task;
}

}  // namespace

World::World(uint64_t seed) : chance_(seed) {}

World::~World() { DropDaemon(); }

Instant World::WallNow() {
  const int64_t nanos = absl::ToInt64Nanoseconds(now_ + wall_offset_);
  Instant instant;
  instant.seconds = kWallBegin + nanos / 1000000000;
  instant.nanos = static_cast<int32_t>(nanos % 1000000000);
  if (instant.nanos < 0) {
    instant.nanos += 1000000000;
    --instant.seconds;
  }
  return instant;
}

void World::At(absl::Duration when, engine::Task task) { timers_.emplace(when, std::move(task)); }

void World::Run(engine::Work work, engine::Task task) {
  int64_t micros = 0;
  switch (work) {
    case engine::Work::kAnswer:
      micros = chance_.Between(0, 50);
      break;
    case engine::Work::kWrite:
      micros = chance_.Between(20, std::max<int64_t>(20, absl::ToInt64Microseconds(write_delay_max_)));
      break;
    case engine::Work::kHeavy:
      micros = chance_.Between(0, 5000);
      break;
  }
  work_.push_back(Ready{now_ + absl::Microseconds(micros), std::move(task)});
}

void World::After(absl::Duration delay, engine::Task task) {
  outside_.emplace(now_ + delay, std::move(task));
}

void World::Trace(uint64_t what) {
  trace_ = (trace_ ^ what) * 0x9e3779b97f4a7c15;
  trace_ ^= trace_ >> 29;
}

bool World::Step() {
  for (;;) {
    while (!timers_.empty() && timers_.begin()->first <= now_) loop_.push_back(TakeFirst(&timers_));
    std::stable_partition(work_.begin(), work_.end(),
                          [this](const Ready& ready) { return ready.when > now_; });
    const bool work = !work_.empty() && work_.back().when <= now_;
    const bool outside = !outside_.empty() && outside_.begin()->first <= now_;
    const uint64_t kinds = (loop_.empty() ? 0 : 1) + (work ? 1 : 0) + (outside ? 1 : 0);
    if (kinds == 0) {
      absl::Duration next = absl::InfiniteDuration();
      if (!timers_.empty()) next = std::min(next, timers_.begin()->first);
      if (!outside_.empty()) next = std::min(next, outside_.begin()->first);
      for (const Ready& ready : work_) next = std::min(next, ready.when);
      if (next == absl::InfiniteDuration()) return false;
      now_ = next;
      continue;
    }
    ++steps_;
    uint64_t draw = kinds == 1 ? 0 : chance_.Below(kinds);
    Trace(static_cast<uint64_t>(nanos()) * 4 + draw);
    if (!loop_.empty() && draw-- == 0) {
      RunLoop();
    } else if (work && draw-- == 0) {
      RunWork();
    } else {
      RunOutside();
    }
    // Nothing takes no time.
    now_ += absl::Nanoseconds(chance_.Between(1, 3000));
    return true;
  }
}

void World::RunLoop() {
  engine::Task task = std::move(loop_.front());
  loop_.pop_front();
  task();
}

void World::RunWork() {
  const auto first =
      std::find_if(work_.begin(), work_.end(), [this](const Ready& ready) { return ready.when <= now_; });
  const size_t place =
      static_cast<size_t>(first - work_.begin()) + chance_.Below(static_cast<uint64_t>(work_.end() - first));
  engine::Task task = std::move(work_[place].task);
  work_.erase(work_.begin() + static_cast<std::ptrdiff_t>(place));
  task();
}

void World::RunOutside() {
  engine::Task task = TakeFirst(&outside_);
  task();
}

void World::DropDaemon() {
  // What a task holds may post again as it goes.
  while (!loop_.empty() || !timers_.empty() || !work_.empty()) {
    std::deque<engine::Task> loop = std::move(loop_);
    Agenda timers = std::move(timers_);
    std::vector<Ready> work = std::move(work_);
    loop_.clear();
    timers_.clear();
    work_.clear();
  }
}

}  // namespace stm::sim
