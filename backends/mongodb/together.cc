#include "backends/mongodb/together.h"

#include <algorithm>

namespace stm::mongodb {

absl::Status Together::Do(const std::string& what, const Deadline& deadline, const Send& send) {
  Write own{what, deadline, absl::OkStatus()};
  std::vector<Write*> writes;
  {
    absl::MutexLock lock(&mutex_);
    waiting_.push_back(&own);
    const auto may_go_on = [&] {
      mutex_.AssertHeld();
      return own.done || (!own.taken && sending_ < lanes_);
    };
    const bool may =
        mutex_.AwaitWithTimeout(absl::Condition(&may_go_on), std::max(deadline.Left(), absl::ZeroDuration()));
    if (own.taken) {
      // Who sends it ends by its deadline.
      mutex_.Await(absl::Condition(&own.done));
      return own.status;
    }
    if (!may) {
      waiting_.erase(std::find(waiting_.begin(), waiting_.end(), &own));
      return absl::UnavailableError("those before it are still being written: MongoDB is slow");
    }
    writes = Take(&own);
    ++sending_;
  }
  send(writes);
  absl::MutexLock lock(&mutex_);
  --sending_;
  for (Write* write : writes) write->done = true;
  return own.status;
}

std::vector<Together::Write*> Together::Take(Write* own) {
  waiting_.erase(std::find(waiting_.begin(), waiting_.end(), own));
  std::vector<Write*> taken = {own};
  size_t bytes = own->what.size();
  while (!waiting_.empty() && taken.size() < kWritesMax &&
         bytes + waiting_.front()->what.size() <= kBytesMax) {
    bytes += waiting_.front()->what.size();
    taken.push_back(waiting_.front());
    waiting_.pop_front();
  }
  for (Write* write : taken) write->taken = true;
  return taken;
}

}  // namespace stm::mongodb
