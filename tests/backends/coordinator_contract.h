// What every coordinator must do, whatever it keeps commits in. A test of one calls TestCoordinator inside a
// TEST_CASE with a maker of fresh stores.
#ifndef STM_TESTS_BACKENDS_COORDINATOR_CONTRACT_H_
#define STM_TESTS_BACKENDS_COORDINATOR_CONTRACT_H_

#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/coordinator.h"
#include "tests/backends/replica.h"

namespace stm {

// A coordinator over a store of its own.
class CoordinatorUnderTest {
 public:
  virtual ~CoordinatorUnderTest() = default;
  virtual engine::Coordinator& coordinator() = 0;
  virtual engine::Writers& writers() = 0;
  // Null: it has none.
  virtual engine::LogReader* reader() = 0;
  // Runs tasks until `done` says so; false: nothing is left to run, or the deadline passed.
  virtual bool TurnUntil(const std::function<bool()>& done) = 0;
  // Ends this coordinator and makes another over the same store, not recovered yet. False: it keeps nothing.
  virtual bool Reopen() = 0;
};

using MakeCoordinator = std::function<std::unique_ptr<CoordinatorUnderTest>()>;

namespace contract {

inline std::shared_ptr<engine::CommitRecord> Set(const std::string& name, Value value, uint64_t id = 0) {
  auto commit = std::make_shared<engine::CommitRecord>();
  commit->at = Instant{1'795'316'400, 1000};
  if (id != 0) commit->transaction_id = Uuid{1, id};
  engine::EntryChange change;
  change.name = name;
  change.value = std::move(value);
  commit->changes.push_back(std::move(change));
  return commit;
}

// One store, recovered into a replica; commits that are answered go into the replica too, as an engine
// installs them.
struct Running {
  explicit Running(std::unique_ptr<CoordinatorUnderTest> made) : under_test(std::move(made)) { Recover(); }

  void Recover() {
    replica = std::make_unique<Replica>();
    bool recovered = false;
    absl::Status status;
    under_test->coordinator().Recover(replica.get(), [&](absl::Status s) {
      status = s;
      recovered = true;
    });
    REQUIRE(under_test->TurnUntil([&] { return recovered; }));
    INFO(status);
    REQUIRE(status.ok());
  }

  // Not waited for.
  void Append(engine::Batch batch) {
    size_t number = appended++;
    under_test->coordinator().Append(batch, [this, batch, number](engine::AppendResult result) {
      answers.push_back(number);
      outcomes.push_back(result.outcome);
      if (result.outcome != engine::AppendResult::Outcome::kCommitted) return;
      for (auto& commit : batch) {
        auto copy = std::make_shared<engine::CommitRecord>(*commit);
        installed_ok = installed_ok && replica->Install(copy).ok();
      }
    });
  }
  void Settle() {
    REQUIRE(under_test->TurnUntil([&] { return answers.size() == appended; }));
    REQUIRE(installed_ok);
  }

  std::unique_ptr<CoordinatorUnderTest> under_test;
  std::unique_ptr<Replica> replica;
  size_t appended = 0;
  std::vector<size_t> answers;
  std::vector<engine::AppendResult::Outcome> outcomes;
  bool installed_ok = true;
};

inline std::vector<engine::LogCursor::Item> ReadAll(engine::LogReader& reader, engine::Version from) {
  auto cursor = reader.Open(from);
  INFO(cursor.status());
  REQUIRE(cursor.ok());
  std::vector<engine::LogCursor::Item> all;
  for (;;) {
    auto items = (*cursor)->Next(256);
    INFO(items.status());
    REQUIRE(items.ok());
    if (items->empty()) return all;
    for (auto& item : *items) all.push_back(std::move(item));
  }
}

}  // namespace contract

inline void TestCoordinator(const MakeCoordinator& make) {
  using contract::ReadAll;
  using contract::Running;
  using contract::Set;
  Running run(make());
  auto barrier = [&run] {
    engine::Version version = -1;
    run.under_test->coordinator().Barrier([&](absl::StatusOr<engine::Version> v) { version = v.value(); });
    REQUIRE(run.under_test->TurnUntil([&] { return version >= 0; }));
    return version;
  };

  SECTION("an empty store has a store, a writer and no commits") {
    CHECK(run.under_test->writers().store() != 0);
    CHECK(run.under_test->writers().Alive(run.under_test->writers().self()));
    // Whoever has leases asks for it, again and again.
    CHECK(run.under_test->TurnUntil([&] {
      engine::Writers& writers = run.under_test->writers();
      writers.BeSure();
      return writers.holder() != 0 && writers.SureUntil() > absl::ZeroDuration();
    }));
    CHECK(run.under_test->writers().self() != 0);
    CHECK(run.replica->version == 0);
    if (run.under_test->reader() != nullptr) CHECK(run.under_test->reader()->FirstVersion() == 0);
    CHECK(barrier() == 0);
  }
  SECTION("versions rise by one within a batch, and from batch to batch") {
    engine::Batch batch;
    for (int i = 0; i < 5; ++i) batch.push_back(Set("/a", Value::Integer(i)));
    run.Append(batch);
    run.Settle();
    for (size_t i = 1; i < batch.size(); ++i) CHECK(batch[i]->version == batch[i - 1]->version + 1);
    engine::Batch next = {Set("/b", Value::Integer(1))};
    run.Append(next);
    run.Settle();
    CHECK(next[0]->version > batch.back()->version);
    CHECK(barrier() >= next[0]->version);
  }
  SECTION("batches given at once are answered in order") {
    for (int i = 0; i < 50; ++i) run.Append({Set("/a", Value::Integer(i)), Set("/b", Value::Integer(i))});
    run.Settle();
    for (size_t i = 0; i < run.answers.size(); ++i) CHECK(run.answers[i] == i);
    CHECK(run.replica->entries["/a"].value == Value::Integer(49));
  }
  SECTION("an answer never comes before Append returns") {
    run.Append({Set("/a", Value::Integer(1))});
    CHECK(run.answers.empty());
    run.Settle();
  }
  SECTION("a reader sees what was answered") {
    if (run.under_test->reader() == nullptr) return;
    for (int i = 0; i < 40; ++i) {
      run.Append({Set("/a", Value::Integer(i), static_cast<uint64_t>(i + 1))});
      run.Settle();
    }
    auto items = ReadAll(*run.under_test->reader(), 0);
    REQUIRE(items.size() == 40);
    for (size_t i = 0; i < items.size(); ++i) {
      CHECK(items[i].commit->changes[0].value == Value::Integer(static_cast<int64_t>(i)));
      CHECK(items[i].commit->transaction_id == Uuid{1, i + 1});
      if (i > 0) {
        CHECK(items[i].commit->version > items[i - 1].commit->version);
        CHECK(items[i].before_known[0]);
        CHECK(items[i].before[0] == Value::Integer(static_cast<int64_t>(i) - 1));
      }
    }
    engine::Version middle = items[20].commit->version;
    auto rest = ReadAll(*run.under_test->reader(), middle);
    REQUIRE(rest.size() == 20);
    CHECK(rest[0].commit->version == middle);
  }
  SECTION("a cursor at the end goes on with what comes") {
    if (run.under_test->reader() == nullptr) return;
    run.Append({Set("/a", Value::Integer(1))});
    run.Settle();
    auto cursor = run.under_test->reader()->Open(0);
    REQUIRE(cursor.ok());
    REQUIRE((*cursor)->Next(1 << 20)->size() == 1);
    REQUIRE((*cursor)->Next(1 << 20)->empty());
    run.Append({Set("/a", Value::Integer(2))});
    run.Settle();
    auto items = (*cursor)->Next(1 << 20);
    REQUIRE(items->size() == 1);
    CHECK((*items)[0].commit->changes[0].value == Value::Integer(2));
    CHECK((*items)[0].before[0] == Value::Integer(1));
  }
  SECTION("history is newest first, of one entry alone, and bounded") {
    if (run.under_test->reader() == nullptr) return;
    for (int i = 0; i < 10; ++i) {
      auto commit = Set("/a", Value::Integer(i));
      commit->changes.push_back(Set("/b", Value::Integer(-i))->changes[0]);
      run.Append({commit, Set("/c", Value::String("/a"))});
    }
    run.Settle();
    auto all = run.under_test->reader()->History("/a", 0, 100);
    REQUIRE(all.ok());
    REQUIRE(all->size() == 10);
    for (size_t i = 0; i < all->size(); ++i) {
      const auto& item = (*all)[i];
      REQUIRE(item.commit->changes.size() == 1);
      CHECK(item.commit->changes[0].name == "/a");
      CHECK(item.commit->changes[0].value == Value::Integer(9 - static_cast<int64_t>(i)));
      CHECK(item.before_known[0]);
    }
    auto some = run.under_test->reader()->History("/a", (*all)[2].commit->version, 3);
    REQUIRE(some.ok());
    REQUIRE(some->size() == 3);
    CHECK((*some)[0].commit->version == (*all)[3].commit->version);
    CHECK((*some)[2].before[0] == Value::Integer(3));
  }
  SECTION("a writer that is no more is closed at once; one's own is not") {
    bool closed = false;
    bool refused = false;
    run.under_test->writers().Close(run.under_test->writers().self() + 1,
                                    [&](absl::Status s) { closed = s.ok(); });
    run.under_test->writers().Close(run.under_test->writers().self(),
                                    [&](absl::Status s) { refused = !s.ok(); });
    REQUIRE(run.under_test->TurnUntil([&] { return closed && refused; }));
  }
  SECTION("recovery feeds all that was answered, under the same store and a new writer") {
    for (int i = 0; i < 30; ++i) {
      auto commit = Set(absl::StrCat("/n", i % 7), Value::Integer(i), static_cast<uint64_t>(i + 1));
      commit->records.push_back(Value::Tagged("t.Made", Value::Integer(i)));
      run.Append({commit});
    }
    run.Settle();
    Replica before = *run.replica;
    uint64_t store = run.under_test->writers().store();
    uint64_t writer = run.under_test->writers().self();
    if (!run.under_test->Reopen()) return;
    run.Recover();
    CHECK(run.under_test->writers().store() == store);
    CHECK(run.under_test->writers().self() != writer);
    CHECK(run.replica->version == before.version);
    CHECK(run.replica->entries == before.entries);
    CHECK(run.replica->ids == before.ids);
    CHECK(run.replica->records == before.records);
    CHECK(barrier() == before.version);
    run.Append({Set("/x", Value::Integer(1))});
    run.Settle();
    CHECK(run.replica->version > before.version);
  }
}

}  // namespace stm

#endif  // STM_TESTS_BACKENDS_COORDINATOR_CONTRACT_H_
