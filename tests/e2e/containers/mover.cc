#include "tests/e2e/containers/mover.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/values/edn.h"

namespace stm::e2e {
namespace {

using check::Transaction;
using Change = check::Write::Change;

constexpr int64_t kAccountsOfPlace = 3;
constexpr int64_t kBegin = 1000;
constexpr size_t kOwnMax = 3;
// With all its runs: a transaction that takes longer has starved.
constexpr check::Time kTransactionNsMax = 60'000'000'000;
constexpr std::chrono::milliseconds kAgainAfter(100);
// A daemon's own, gone with it.
constexpr char kMemory[] = "/.memory/";

std::string Show(const std::optional<Value>& value) { return value.has_value() ? ToEdn(*value) : "absent"; }

Caller::Options With(Caller::Options options, const std::vector<Place>& places) {
  options.container_of = [places](const std::string& name) {
    for (const Place& place : places) {
      if (name.compare(0, place.folder.size(), place.folder) == 0) return place.container;
    }
    return std::string();
  };
  return options;
}

}  // namespace

Mover::Mover(Options options, std::vector<Place> places)
    : Caller(With(std::move(options), places)), places_(std::move(places)) {}

std::string Mover::Account(size_t place, int64_t i) const {
  return absl::StrCat(places_[place].folder, "account/", i);
}

std::string Mover::MarkIn(const std::string& folder) const {
  return absl::StrCat(folder, "mark/", options_.number);
}

int64_t Mover::Total() const { return static_cast<int64_t>(places_.size()) * kAccountsOfPlace * kBegin; }

bool Mover::Prepare(int movers) {
  if (!Connect()) return false;
  Transaction all;
  for (size_t place = 0; place < places_.size(); ++place) {
    for (int64_t i = 0; i < kAccountsOfPlace; ++i)
      all.writes.push_back({Account(place, i), Change::kCreate, Value::Integer(kBegin)});
    for (int mover = 0; mover < movers; ++mover) {
      all.writes.push_back(
          {absl::StrCat(places_[place].folder, "mark/", mover), Change::kCreate, Value::Integer(0)});
    }
  }
  return Persist(all) == Sent::kDone;
}

bool Mover::Run(const std::atomic<bool>& stop) {
  if (!Connect()) return false;
  while (!stop.load(std::memory_order_relaxed)) {
    if (!OneOperation()) return false;
  }
  return Look();
}

Caller::Sent Mover::Persist(const Transaction& transaction) {
  Sent sent = Commit(transaction);
  // The same content under a new id. Not at once: a container is away, and each try leaves what it wrote to
  // the others.
  while (sent == Sent::kAgain) {
    std::this_thread::sleep_for(kAgainAfter);
    sent = Commit(transaction);
  }
  return sent;
}

bool Mover::OneOperation() {
  const int64_t shape = Below(10);
  if (shape < 4) return Move(false);
  if (shape < 7) return Move(true);
  return shape < 8 ? Come() : Look();
}

void Mover::Choose(std::string* from, std::string* to) {
  const int64_t places = static_cast<int64_t>(places_.size());
  const int64_t place = Below(places);
  *from = Account(static_cast<size_t>(place), Below(kAccountsOfPlace));
  *to = Account(static_cast<size_t>((place + 1 + Below(places - 1)) % places), Below(kAccountsOfPlace));
}

// With a mark it writes a number that it never wrote before to all places, memory too: those who look find
// the same number in all. When it conflicts, none may have it.
bool Mover::Move(bool mark) {
  std::string from, to;
  Choose(&from, &to);
  const int64_t amount = 1 + Below(9);
  for (const check::Time until = Clock() + kTransactionNsMax; Clock() < until;) {
    const std::optional<Values> values = Get({from, to});
    if (!values) return false;
    Transaction transaction;
    transaction.snapshot = snapshot();
    transaction.reads = {from, to};
    transaction.writes = {{from, Change::kSet, Value::Integer(values->at(from)->integer() - amount)},
                          {to, Change::kSet, Value::Integer(values->at(to)->integer() + amount)}};
    transaction.records = {Value::Tagged("money/moved", Value::Integer(amount))};
    const int64_t number = ++made_;
    if (mark) {
      for (const Place& place : places_)
        transaction.writes.push_back({MarkIn(place.folder), Change::kSet, Value::Integer(number)});
      transaction.writes.push_back({MarkIn(kMemory), Change::kSet, Value::Integer(number)});
    }
    const Sent sent = Persist(transaction);
    if (sent == Sent::kGone) return false;
    if (sent != Sent::kDone) continue;
    if (mark) marked_ = number;
    ++(mark ? seen_.marks : seen_.moves);
    return true;
  }
  return false;
}

// Makes an entry in each place, and deletes those of an earlier time.
bool Mover::Come() {
  std::vector<std::string> names;
  ++made_;
  Transaction transaction;
  for (const Place& place : places_) {
    names.push_back(absl::StrCat(place.folder, "made/", options_.number, "-", made_));
    transaction.writes.push_back({names.back(), Change::kCreate, Value::Integer(made_)});
  }
  if (own_.size() == kOwnMax) {
    for (const std::string& name : own_.front())
      transaction.writes.push_back({name, Change::kDelete, Value()});
  }
  for (const check::Time until = Clock() + kTransactionNsMax; Clock() < until;) {
    const Sent sent = Persist(transaction);
    if (sent == Sent::kGone) return false;
    if (sent != Sent::kDone) continue;
    if (own_.size() == kOwnMax) own_.pop_front();
    own_.push_back(names);
    return true;
  }
  return false;
}

// All accounts, its own marks and what it made, at one snapshot.
bool Mover::Look() {
  std::vector<std::string> names;
  for (size_t place = 0; place < places_.size(); ++place) {
    for (int64_t i = 0; i < kAccountsOfPlace; ++i) names.push_back(Account(place, i));
  }
  const size_t accounts = names.size();
  for (const Place& place : places_) names.push_back(MarkIn(place.folder));
  names.push_back(MarkIn(kMemory));
  const std::optional<Values> values = Get(names);
  if (!values) return false;
  ++seen_.looks;
  int64_t sum = 0;
  for (size_t i = 0; i < accounts; ++i) sum += values->at(names[i])->integer();
  if (sum != Total())
    torn_.push_back(absl::StrCat("at ", snapshot(), " all accounts are ", sum, ", not ", Total()));
  for (size_t i = accounts; i < names.size(); ++i) {
    const std::optional<Value>& mark = values->at(names[i]);
    const bool in_memory = i + 1 == names.size();
    if (in_memory && !mark.has_value()) continue;  // the daemon was started since
    seen_.in_memory += in_memory;
    if (!mark.has_value() || mark->integer() != marked_) {
      torn_.push_back(absl::StrCat("at ", snapshot(), " ", names[i], " is ", Show(mark), ", not ", marked_));
    }
  }
  return true;
}

}  // namespace stm::e2e
