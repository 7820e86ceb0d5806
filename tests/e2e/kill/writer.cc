#include "tests/e2e/kill/writer.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace stm::e2e {
namespace {

using check::Write;

std::string Counter(int64_t i) { return absl::StrCat("/counter/", i); }
std::string Account(int64_t i) { return absl::StrCat("/account/", i); }

}  // namespace

bool Writer::Prepare() {
  if (!Connect()) return false;
  check::Transaction transaction;
  for (int i = 0; i < kAccounts; ++i) {
    transaction.writes.push_back({Account(i), Write::Change::kCreate, Value::Integer(kAccountBegin)});
  }
  for (int i = 0; i < kCounters; ++i) {
    transaction.writes.push_back({Counter(i), Write::Change::kCreate, Value::Integer(0)});
  }
  return Commit(std::move(transaction)) == Sent::kDone;
}

bool Writer::OneOperation() {
  const int64_t shape = Below(10);
  for (;;) {
    check::Transaction transaction;
    if (shape < 3) {
      // A transfer: the sum stays.
      const int64_t from = Below(kAccounts);
      const int64_t to = (from + 1 + Below(kAccounts - 1)) % kAccounts;
      const auto values = Get({Account(from), Account(to)});
      if (!values) return false;
      transaction.snapshot = snapshot();
      transaction.reads = {Account(from), Account(to)};
      const int64_t amount = 1 + Below(9);
      const auto moved = [&](int64_t account, int64_t by) {
        return Write{Account(account), Write::Change::kSet,
                     Value::Integer(values->at(Account(account))->integer() + by)};
      };
      transaction.writes = {moved(from, -amount), moved(to, amount)};
    } else if (shape < 7) {
      const int64_t counter = Below(kCounters);
      transaction.writes = {{Counter(counter), Write::Change::kAdd, Value::Integer(1 + Below(9))}};
      if (Below(3) == 0) {
        transaction.writes.push_back(
            {Counter((counter + 1) % kCounters), Write::Change::kAdd, Value::Integer(1)});
      }
    } else if (shape < 9) {
      transaction.writes = {
          {absl::StrCat("/own/", options_.number), Write::Change::kSet, Value::Integer(++made_)}};
    } else {
      transaction.writes = {
          {absl::StrCat("/made/", options_.number, "/", ++made_), Write::Change::kCreate, Value::Integer(1)}};
    }
    Sent sent = Commit(transaction);
    // The same content under a new id.
    while (sent == Sent::kAgain) sent = Commit(transaction);
    if (sent == Sent::kGone) return false;
    if (sent == Sent::kDone) return true;
  }
}

bool Writer::Run(const std::atomic<bool>& stop) {
  if (!Connect()) return false;
  while (!stop.load(std::memory_order_relaxed)) {
    if (!OneOperation()) return false;
  }
  return true;
}

}  // namespace stm::e2e
