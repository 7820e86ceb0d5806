// A store that several daemons share, on one ManualLoop: an order of commits, and the newest of each entry. A daemon's
// FakeDaemon is its Coordinator, Writers and EntryStore; it hears of the others' commits late, and refuses what breaks the
// interface's rules.
#ifndef STM_TESTS_ENGINE_FAKE_STORE_H_
#define STM_TESTS_ENGINE_FAKE_STORE_H_

#include <algorithm>
#include <cassert>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/name.h"
#include "tests/engine/harness.h"

namespace stm::engine {

class FakeDaemon;

struct FakeStore {
  struct Ordered {
    std::shared_ptr<const CommitRecord> record;
    const FakeDaemon* by = nullptr;
    uint64_t batch = 0;
    std::vector<std::optional<Value>> before;  // one a change
    std::vector<bool> listed;                  // did the change create or delete?
  };

  // The next of the order. `by` null: no daemon of this test.
  void Put(std::shared_ptr<CommitRecord> record, const FakeDaemon* by) {
    record->version = ++version;
    Ordered commit;
    commit.by = by;
    commit.batch = batch;
    for (const EntryChange& change : record->changes) {
      assert(change.whole != nullptr && "each change tells the whole entry");
      ImageEntry& entry = newest[change.name];
      commit.before.push_back(entry.value);
      commit.listed.push_back(entry.value.has_value() != change.whole->value.has_value());
      entry = *change.whole;
      entry.version = record->version;
      entry.written_at = record->at;
    }
    auto kept = std::make_shared<CommitRecord>(*record);
    for (EntryChange& change : kept->changes) change.entry = nullptr;
    commit.record = std::move(kept);
    order.push_back(std::move(commit));
  }

  Version version = 0;
  uint64_t batch = 0;             // that is being put
  std::vector<Ordered> order;  // of version 1, 2, ...
  std::map<std::string, ImageEntry> newest;
  std::vector<FakeDaemon*> daemons;
  // How the next things go.
  bool unreachable = false;
  bool no_barrier = false;  // nor is what was committed last known
  size_t batch_commits_max = 1000;  // that fit into it
  bool tells_before = false;
  absl::Duration load_takes = absl::Milliseconds(3);
  absl::Duration append_takes = absl::Milliseconds(2);
  absl::Duration feed_takes = absl::Milliseconds(1);
};

class FakeDaemon : public Coordinator, public Writers, public EntryStore {
 public:
  FakeDaemon(FakeStore* store, ManualLoop* loop, uint64_t writer) : store_(store), loop_(loop), writer_(writer) {
    store_->daemons.push_back(this);
  }

  // The last `recovered_commits` are fed, what is before stays in the store.
  void Recover(Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) override {
    sink_ = sink;
    fed_ = store_->version - std::min(store_->version, recovered_commits);
    sink_->EndImage(fed_, {}, fed_);
    Feed();
    loop_->Post([recovered = std::move(recovered)]() mutable { recovered(absl::OkStatus()); });
  }
  void Append(Batch batch, absl::AnyInvocable<void(AppendResult)> done) override {
    for (const auto& record : batch) Check(*record);
    waiting.push_back({std::move(batch), std::move(done), fed_});
    if (!hold) DecideLater();
  }
  void Barrier(absl::AnyInvocable<void(absl::StatusOr<Version>)> done) override {
    loop_->At(loop_->Now() + store_->feed_takes, [this, done = std::move(done)]() mutable {
      if (store_->no_barrier) return done(absl::UnavailableError("fake: barrier: unreachable"));
      Feed();
      done(fed_);
    });
  }
  void Trim(Version) override {}

  uint64_t store() const override { return 77; }
  uint64_t self() const override { return writer_; }
  void Close(uint64_t, absl::AnyInvocable<void(absl::Status)> done) override { done(absl::OkStatus()); }
  bool Alive(uint64_t writer) override { return writer == writer_; }
  // Every daemon hears of it in the order, behind what was committed before.
  void AskTurn(std::vector<std::string> names, absl::Duration length) override {
    ++turns_asked;
    loop_->At(loop_->Now() + store_->append_takes, [this, names = std::move(names), length] {
      for (FakeDaemon* daemon : store_->daemons) {
        loop_->At(loop_->Now() + store_->feed_takes, [daemon, writer = writer_, names, length] {
          daemon->Feed();
          daemon->sink_->TurnAsked(writer, names, length);
        });
      }
    });
  }

  void Load(std::vector<std::string> names, std::vector<std::string> prefixes,
            absl::AnyInvocable<void(absl::StatusOr<std::vector<ImageEntry>>)> done) override {
    ++loads;
    std::vector<ImageEntry> entries;
    for (const std::string& name : names) {
      assert(!IsMemory(name));
      asked.push_back(name);
      auto it = store_->newest.find(name);
      if (it != store_->newest.end()) entries.push_back(it->second);
    }
    loop_->At(loop_->Now() + store_->load_takes, [this, names, prefixes, entries, done = std::move(done)]() mutable {
      if (store_->unreachable) return done(absl::UnavailableError("fake: load: unreachable"));
      Feed();
      known_.insert(names.begin(), names.end());
      known_.insert(prefixes.begin(), prefixes.end());
      done(std::move(entries));
    });
  }
  void List(std::string prefix, std::string after, size_t limit,
            absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>)> done) override {
    loop_->At(loop_->Now() + store_->load_takes, [this, prefix, after, limit, done = std::move(done)]() mutable {
      if (store_->unreachable) return done(absl::UnavailableError("fake: list: unreachable"));
      std::vector<std::string> names;
      for (auto it = store_->newest.upper_bound(std::max(after, prefix)); it != store_->newest.end(); ++it) {
        if (it->first.compare(0, prefix.size(), prefix) != 0 || names.size() == limit) break;
        names.push_back(it->first);
      }
      done(std::move(names));
    });
  }
  void Forget(const std::string& name) override {
    ++forgotten;
    for (const auto& batch : waiting) {
      for (const auto& record : batch.records) assert(!Touches(*record, name) && "forgotten while it is appended");
    }
    assert(known_.erase(name) == 1 && "forgotten, and never known");
  }

  // Decides the oldest batch, on the Loop.
  void Decide() {
    if (waiting.empty()) return;
    Waiting batch = std::move(waiting.front());
    if (store_->unreachable) {
      waiting.clear();
      return batch.done({AppendResult::Outcome::kFailed, absl::UnavailableError("fake: append: unreachable")});
    }
    if (batch.records.size() > store_->batch_commits_max) {
      waiting.clear();
      return batch.done({AppendResult::Outcome::kFailed, absl::ResourceExhaustedError("fake: append: too large")});
    }
    const bool lost = Overtaken(batch);
    Feed();
    if (lost) {
      waiting.clear();
      return batch.done({AppendResult::Outcome::kLost, absl::OkStatus()});
    }
    waiting.pop_front();
    CommitAll(batch.records);
    fed_ = store_->version;
    batch.done({AppendResult::Outcome::kCommitted, absl::OkStatus()});
  }

  // Another daemon closes this one's writer. kCommitted: the batches under way that are valid reached the order before.
  enum class UnderWay { kCommitted, kNot };
  void CloseWriter(UnderWay under_way) {
    Feed();
    for (const Waiting& batch : waiting) {
      if (under_way == UnderWay::kNot || Overtaken(batch)) break;
      CommitAll(Copies(batch.records));
    }
    writer_ += 100;
    Feed();
    std::deque<Waiting> lost = std::move(waiting);
    waiting.clear();
    for (Waiting& batch : lost) batch.done({AppendResult::Outcome::kLost, absl::OkStatus()});
  }

  // The store sweeps the tombstones up to what this daemon is told of now: their names are gone, and ids are not known.
  void Sweep() {
    Feed();
    for (auto it = store_->newest.begin(); it != store_->newest.end();) {
      it = it->second.value.has_value() ? std::next(it) : store_->newest.erase(it);
    }
    sink_->RaiseIdFloor(fed_);
  }

  // Gives the sink what it lacks.
  void Feed() {
    while (fed_ < store_->version) {
      const FakeStore::Ordered& commit = store_->order[fed_++];
      auto record = std::make_shared<CommitRecord>(*commit.record);
      record->checks.clear();
      record->checked_lists.clear();
      for (size_t i = 0; i < record->changes.size(); ++i) {
        EntryChange& change = record->changes[i];
        known_.insert(change.name);
        change.before.reset();
        if (store_->tells_before) change.before = commit.before[i];
        // The whole tells the rest.
        change.value = std::nullopt;
        change.operation = nullptr;
        change.definition = nullptr;
        change.entry_kind = EntryKind::kRef;
      }
      absl::Status status = sink_->Install(std::move(record));
      assert(status.ok());
      (void)status;
      const auto last = store_->order.begin() + fed_;
      if (last != store_->order.end() && last->batch == commit.batch) continue;
      sink_->BatchInstalled(commit.by == nullptr ? 0 : commit.by->writer_, [&](const std::string& name) {
        return std::any_of(store_->order.begin(), last, [&](const FakeStore::Ordered& one) {
          return one.batch == commit.batch && Touches(*one.record, name);
        });
      });
    }
  }

  struct Waiting {
    Batch records;
    absl::AnyInvocable<void(AppendResult)> done;
    Version seen;  // the newest that the sink held when it was given
  };
  std::deque<Waiting> waiting;
  bool hold = false;
  absl::Duration farther = absl::ZeroDuration();  // from the leader than others: its appends take so much longer
  int64_t turns_asked = 0;
  Version recovered_commits = 0;
  int64_t loads = 0;
  int64_t forgotten = 0;
  std::vector<std::string> asked;  // by loads

 private:
  static bool Touches(const CommitRecord& record, const std::string& name) {
    return std::any_of(record.changes.begin(), record.changes.end(), [&](const auto& c) { return c.name == name; }) ||
           std::find(record.checks.begin(), record.checks.end(), name) != record.checks.end();
  }
  static Batch Copies(const Batch& records) {
    Batch copies;
    for (const auto& record : records) copies.push_back(std::make_shared<CommitRecord>(*record));
    return copies;
  }
  void Check(const CommitRecord& record) const {
    std::set<std::string> names;
    const auto known = [&](const std::string& name) {
      assert(!IsMemory(name));
      assert(known_.count(name) == 1 && "appended without a load");
      const bool once = names.insert(name).second;
      assert(once && "named twice");
      (void)once;
    };
    for (const EntryChange& change : record.changes) known(change.name);
    for (const std::string& name : record.checks) known(name);
    for (const std::string& prefix : record.checked_lists) known(prefix);
  }
  bool Overtakes(const FakeStore::Ordered& commit, const Batch& records) const {
    if (commit.by == this) return false;
    for (size_t i = 0; i < commit.record->changes.size(); ++i) {
      const std::string& name = commit.record->changes[i].name;
      for (const auto& record : records) {
        if (Touches(*record, name)) return true;
        for (const std::string& prefix : record->checked_lists) {
          if (commit.listed[i] && UnderPrefix(name, prefix)) return true;
        }
      }
    }
    return false;
  }
  bool Overtaken(const Waiting& batch) const {
    return std::any_of(store_->order.begin() + batch.seen, store_->order.end(),
                       [&](const FakeStore::Ordered& commit) { return Overtakes(commit, batch.records); });
  }
  void CommitAll(const Batch& records) {
    ++store_->batch;
    for (const auto& record : records) store_->Put(record, this);
    for (FakeDaemon* daemon : store_->daemons) {
      if (daemon != this) loop_->At(loop_->Now() + store_->feed_takes, [daemon] { daemon->Feed(); });
    }
  }
  void DecideLater() {
    loop_->At(loop_->Now() + store_->append_takes + farther, [this] { Decide(); });
  }

  FakeStore* store_;
  ManualLoop* loop_;
  uint64_t writer_;
  Sink* sink_ = nullptr;
  Version fed_ = 0;
  // What the engine may touch: loaded or installed, and not forgotten since. Prefixes too.
  std::set<std::string> known_;
};

// A daemon's engine beside the store.
struct Daemon : Caller {
  Daemon(FakeStore* store, ManualLoop* loop, uint64_t writer, Options options = {}, Version recovered_commits = 0,
         Canaries canaries = {})
      : Caller(loop, &engine, absl::Milliseconds(40)), fake(store, loop, writer),
        engine(loop, loop, &fake, &fake, options, canaries, &fake) {
    fake.recovered_commits = recovered_commits;
    engine.Start([](absl::Status) {});
    loop->Turn();
  }
  Stats stats() const { return engine.GetStatus().stats; }

  FakeDaemon fake;
  Engine engine;
};

}  // namespace stm::engine

#endif  // STM_TESTS_ENGINE_FAKE_STORE_H_
