#include "tests/e2e/cluster/mixed.h"

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/values/vector.h"

namespace stm::e2e {
namespace {

using check::Transaction;
using Change = check::Write::Change;

constexpr int64_t kAccounts = 6;
constexpr int64_t kCounters = 3;
constexpr int64_t kGuards = 4;
constexpr int64_t kQueues = 2;
constexpr int64_t kFolders = 3;
constexpr int64_t kBegin = 1000;
constexpr size_t kQueuedMax = 24;
constexpr size_t kOwnMax = 4;
// Between two transactions: that a history of half an hour can be judged.
constexpr int64_t kThinkMsMax = 12;
// With all its runs: a transaction that takes longer has starved.
constexpr check::Time kTransactionNsMax = 60'000'000'000;

std::string Account(int64_t i) { return absl::StrCat("/account/", i); }
std::string Counter(int64_t i) { return absl::StrCat("/counter/", i); }
std::string GuardRef(int64_t i) { return absl::StrCat("/guard/", i); }
std::string Queue(int64_t i) { return absl::StrCat("/queue/", i); }
std::string Folder(int64_t i) { return absl::StrCat("/made/", i, "/"); }

}  // namespace

bool Mixed::Prepare() {
  if (!Connect()) return false;
  return Transact([&] {
    Transaction all;
    for (int64_t i = 0; i < kAccounts; ++i)
      all.writes.push_back({Account(i), Change::kCreate, Value::Integer(kBegin)});
    for (int64_t i = 0; i < kCounters; ++i)
      all.writes.push_back({Counter(i), Change::kCreate, Value::Integer(0)});
    for (int64_t i = 0; i < kGuards; ++i)
      all.writes.push_back({GuardRef(i), Change::kCreate, Value::Integer(1)});
    for (int64_t i = 0; i < kQueues; ++i)
      all.writes.push_back({Queue(i), Change::kCreate, Value::OfVector(std::vector<Value>())});
    return std::optional<Transaction>(std::move(all));
  });
}

bool Mixed::CommitOne() {
  return Connect() && Transact([&] { return SetOwn(); });
}

bool Mixed::Run(const std::atomic<bool>& stop) {
  if (!Connect()) return false;
  using Shape = std::optional<Transaction> (Mixed::*)();
  static const std::vector<Shape> kShapes = {
      &Mixed::Transfer, &Mixed::Transfer, &Mixed::Count, &Mixed::Count, &Mixed::SetOwn, &Mixed::Guard,
      &Mixed::Put,      &Mixed::Take,     &Mixed::Come,  &Mixed::Look,  &Mixed::SumAll, &Mixed::CountListed};
  while (!stop.load(std::memory_order_relaxed)) {
    const Shape shape = kShapes[static_cast<size_t>(Below(static_cast<int64_t>(kShapes.size())))];
    if (!Transact([&] { return (this->*shape)(); })) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(Below(kThinkMsMax)));
  }
  return true;
}

bool Mixed::Transact(const Body& body) {
  for (const check::Time until = Clock() + kTransactionNsMax; Clock() < until;) {
    lost_ = false;
    const std::optional<Transaction> transaction = body();
    if (lost_) return false;
    if (!transaction) return true;
    Sent sent = Commit(*transaction);
    // The same content under a new id.
    while (sent == Sent::kAgain) sent = Commit(*transaction);
    if (sent == Sent::kGone) return false;
    if (sent == Sent::kDone) return true;
  }
  return false;
}

// Moves money, and the sum stays. Sometimes the second account is read apart, at the snapshot of the first.
std::optional<Transaction> Mixed::Transfer() {
  const std::string from = Account(Below(kAccounts));
  const std::string to = Account(Below(kAccounts));
  if (from == to) return std::nullopt;
  const bool apart = Below(3) == 0;
  std::optional<Values> values =
      Get(apart ? std::vector<std::string>{from} : std::vector<std::string>{from, to});
  if (values && apart) {
    const std::optional<Values> second = Get({to}, At::kSnapshot);
    if (!second && snapshot() == 0) return std::nullopt;
    if (second) values->insert(second->begin(), second->end());
    if (!second) values = std::nullopt;
  }
  if (!values) {
    lost_ = true;
    return std::nullopt;
  }
  const int64_t amount = 1 + Below(9);
  Transaction transaction;
  transaction.snapshot = snapshot();
  transaction.reads = {from, to};
  transaction.writes = {{from, Change::kSet, Value::Integer(values->at(from)->integer() - amount)},
                        {to, Change::kSet, Value::Integer(values->at(to)->integer() + amount)}};
  return transaction;
}

std::optional<Transaction> Mixed::Count() {
  const int64_t counter = Below(kCounters);
  Transaction transaction;
  transaction.writes = {{Counter(counter), Change::kAdd, Value::Integer(1 + Below(9))}};
  if (Below(3) == 0)
    transaction.writes.push_back({Counter((counter + 1) % kCounters), Change::kAdd, Value::Integer(1)});
  return transaction;
}

std::optional<Transaction> Mixed::SetOwn() {
  Transaction transaction;
  transaction.writes = {{absl::StrCat("/own/", options_.number), Change::kSet, Value::Integer(++made_)}};
  return transaction;
}

// Under snapshot isolation: one is written for what another says, which is ensured.
std::optional<Transaction> Mixed::Guard() {
  const std::string one = GuardRef(Below(kGuards));
  const std::string other = GuardRef(Below(kGuards));
  Transaction transaction;
  transaction.reads = {one};
  if (other != one) transaction.reads.push_back(other);
  const std::optional<Values> values = Get(transaction.reads);
  lost_ = !values;
  if (!values) return std::nullopt;
  transaction.serializable = false;
  transaction.snapshot = snapshot();
  transaction.ensures = {other};
  transaction.writes = {{one, Change::kSet, Value::Integer(values->at(other)->integer() + 1)}};
  return transaction;
}

std::optional<Transaction> Mixed::Put() {
  const Value item = Value::Integer(options_.number * 1'000'000 + ++made_);
  Transaction transaction;
  transaction.writes = {{Queue(Below(kQueues)), Change::kConj, item},
                        {Counter(Below(kCounters)), Change::kAdd, Value::Integer(1)}};
  transaction.records = {Value::Tagged("queue/put", item)};
  return transaction;
}

std::optional<Transaction> Mixed::Take() {
  const std::string queue = Queue(Below(kQueues));
  const std::optional<Values> values = Get({queue});
  lost_ = !values;
  if (!values) return std::nullopt;
  const Vector& items = values->at(queue)->items();
  if (items.empty()) return std::nullopt;
  // One; of many, half.
  const size_t taken = items.size() > kQueuedMax ? items.size() / 2 : 1;
  std::vector<Value> first, rest;
  for (size_t i = 0; i < items.size(); ++i) (i < taken ? first : rest).push_back(items.at(i));
  Transaction transaction;
  transaction.snapshot = snapshot();
  transaction.reads = {queue};
  transaction.writes = {{queue, Change::kSet, Value::OfVector(rest)},
                        {absl::StrCat("/taken/", options_.number), Change::kSet, Value::OfVector(first)}};
  transaction.records = {Value::Tagged("queue/take", Value::OfVector(first))};
  return transaction;
}

// Makes an entry, and deletes an older one of its own.
std::optional<Transaction> Mixed::Come() {
  const std::string name = absl::StrCat(Folder(Below(kFolders)), options_.number, "-", ++made_);
  Transaction transaction;
  transaction.writes = {{name, Change::kCreate, Value::Integer(made_)}};
  own_.push_back(name);
  if (own_.size() > kOwnMax) {
    transaction.writes.push_back({own_.front(), Change::kDelete, Value()});
    own_.pop_front();
  }
  return transaction;
}

std::optional<Transaction> Mixed::CountListed() {
  const std::string folder = Folder(Below(kFolders));
  const std::optional<Values> listed = List(folder);
  lost_ = !listed;
  if (!listed) return std::nullopt;
  Transaction transaction;
  transaction.snapshot = snapshot();
  transaction.lists = {folder};
  for (const auto& [name, value] : *listed) transaction.reads.push_back(name);
  transaction.writes = {{absl::StrCat("/listed/", options_.number), Change::kSet,
                         Value::Integer(static_cast<int64_t>(listed->size()))}};
  return transaction;
}

std::optional<Transaction> Mixed::SumAll() {
  Transaction transaction;
  for (int64_t i = 0; i < kAccounts; ++i) transaction.reads.push_back(Account(i));
  const std::optional<Values> values = Get(transaction.reads);
  lost_ = !values;
  if (!values) return std::nullopt;
  int64_t sum = 0;
  for (const auto& [name, value] : *values) sum += value->integer();
  transaction.snapshot = snapshot();
  transaction.writes = {{absl::StrCat("/sum/", options_.number), Change::kSet, Value::Integer(sum)}};
  return transaction;
}

std::optional<Transaction> Mixed::Look() {
  const At at = Below(2) == 0 ? At::kNewest : At::kStale;
  lost_ = !Get({Account(Below(kAccounts)), Counter(Below(kCounters)), Queue(Below(kQueues))}, at);
  return std::nullopt;
}

}  // namespace stm::e2e
