#include "engine/stored_values.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "stm/v1/common.pb.h"

namespace stm::engine {
namespace {

// What a value takes beside its text.
constexpr int64_t kOverheadBytes = 256;

}  // namespace

absl::Status OfContainer(const absl::Status& status, const std::string& container, const std::string& name) {
  if (status.ok()) return status;
  absl::Status told(status.code(), absl::StrCat(name, ": container ", container, ": ", status.message()));
  std::optional<v1::ErrorDetail> detail = DetailOf(status);
  if (!detail.has_value()) detail.emplace();
  if (absl::IsUnavailable(status)) detail->set_reason(v1::ERROR_REASON_CONTAINER_DOWN);
  detail->set_name(name);
  return WithDetail(told, *detail);
}

absl::Status NoContainers(const std::string& container) {
  return absl::FailedPreconditionError(
      absl::StrCat("no container named ", container, " is configured at this daemon: give it --container ",
                   container, "=URI, or leave the entry's container empty for inline"));
}

std::optional<Value> StoredValues::Find(const std::string& stamp) {
  auto it = kept_.find(stamp);
  if (it == kept_.end()) return std::nullopt;
  used_.splice(used_.begin(), used_, it->second.used);
  return it->second.value;
}

void StoredValues::Add(const std::string& stamp, Value value) {
  const int64_t bytes = static_cast<int64_t>(value.edn_size()) + kOverheadBytes;
  if (bytes > bytes_max_ || kept_.contains(stamp)) return;
  used_.push_front(stamp);
  kept_.emplace(stamp, Kept{std::move(value), bytes, used_.begin()});
  bytes_ += bytes;
  while (bytes_ > bytes_max_) {
    auto last = kept_.find(used_.back());
    bytes_ -= last->second.bytes;
    kept_.erase(last);
    used_.pop_back();
  }
}

void StoredValues::Load(const Stored& stored, const std::string& name, absl::Duration deadline, Loaded done) {
  if (std::optional<Value> value = Find(stored.stamp)) return done(std::move(value));
  absl::Status known = containers_ == nullptr ? NoContainers(stored.container)
                                              : containers_->Check(stored.container, EntryKind::kRef);
  if (!known.ok()) return done(OfContainer(known, stored.container, name));
  const absl::Duration until = loop_->Now() + timeout_;
  const uint64_t number = next_++;
  std::vector<Waiter>& waiters = waiting_[stored.stamp];
  const bool first = waiters.empty();
  waiters.push_back({number, std::move(done)});
  if (deadline < until) {
    loop_->At(deadline,
              [this, number, stored, name] { TooLate(stored.stamp, number, stored.container, name); });
  }
  if (!first) return;
  ++loads_;
  containers_->GetStateAt(
      stored.container, name, stored.stamp, until,
      [this, stored, name](absl::StatusOr<std::optional<Value>> got) { Got(stored, name, std::move(got)); });
}

void StoredValues::Got(const Stored& stored, const std::string& name,
                       absl::StatusOr<std::optional<Value>> got) {
  auto it = waiting_.find(stored.stamp);
  if (it == waiting_.end()) return;  // all gave up
  std::vector<Waiter> waiters = std::move(it->second);
  waiting_.erase(it);
  if (!got.ok()) {
    got = OfContainer(got.status(), stored.container, name);
  } else if (got->has_value()) {
    if (static_cast<int64_t>((*got)->hash()) != stored.hash) {
      got = OfContainer(absl::DataLossError(
                            absl::StrCat("what it has under stamp ", stored.stamp,
                                         " is not the value that was committed: it was changed "
                                         "there, or the container is at fault; set the entry to repair it")),
                        stored.container, name);
    } else {
      Add(stored.stamp, **got);
    }
  }
  for (Waiter& waiter : waiters) waiter.done(got);
}

void StoredValues::TooLate(const std::string& stamp, uint64_t number, const std::string& container,
                           const std::string& name) {
  auto it = waiting_.find(stamp);
  if (it == waiting_.end()) return;
  auto waiter =
      std::find_if(it->second.begin(), it->second.end(), [&](const Waiter& w) { return w.number == number; });
  if (waiter == it->second.end()) return;
  Loaded done = std::move(waiter->done);
  it->second.erase(waiter);
  // The call goes on: its answer goes to whoever asks for the stamp meanwhile.
  if (it->second.empty()) waiting_.erase(it);
  done(OfContainer(absl::UnavailableError("it did not answer before the deadline"), container, name));
}

}  // namespace stm::engine
