// An engine on a Loop that a test turns by hand, over a coordinator that commits, loses, or has no room as it is told.
#ifndef STM_TESTS_ENGINE_HARNESS_H_
#define STM_TESTS_ENGINE_HARNESS_H_

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/values/edn.h"
#include "tests/engine/fake_containers.h"

namespace stm::engine {

class ManualLoop : public Loop, public Executor {
 public:
  absl::Duration Now() override { return now_; }
  Instant WallNow() override { return {1'800'000'000 + absl::ToInt64Seconds(now_), 0}; }
  void Post(Task task) override { tasks_.push_back(std::move(task)); }
  void At(absl::Duration when, Task task) override { timers_.emplace(when, std::move(task)); }
  uint64_t Random() override { return random_ += 0x9E3779B97F4A7C15u; }
  void Run(Work, Task task) override { tasks_.push_back(std::move(task)); }

  // Runs all that is due now.
  void Turn() {
    while (!tasks_.empty()) {
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      task();
    }
  }
  void Advance(absl::Duration by) {
    absl::Duration until = now_ + by;
    Turn();
    while (!timers_.empty() && timers_.begin()->first <= until) {
      now_ = std::max(now_, timers_.begin()->first);
      Task task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      task();
      Turn();
    }
    now_ = until;
  }
  // As if the thread had stood still: all that was due meanwhile runs late.
  void Jump(absl::Duration by) { now_ += by; }

 private:
  absl::Duration now_ = absl::Seconds(1000);
  std::deque<Task> tasks_;
  std::multimap<absl::Duration, Task> timers_;
  uint64_t random_ = 7;
};

class FakeCoordinator : public Coordinator, public Writers {
 public:
  explicit FakeCoordinator(Loop* loop) : loop_(loop) {}
  void Recover(Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) override {
    sink_ = sink;
    loop_->Post([recovered = std::move(recovered)]() mutable { recovered(absl::OkStatus()); });
  }
  void Append(Batch batch, absl::AnyInvocable<void(AppendResult)> done) override {
    waiting.push_back({std::move(batch), std::move(done)});
    if (!hold) Decide(AppendResult::Outcome::kCommitted);
  }
  void Barrier(absl::AnyInvocable<void(absl::StatusOr<Version>)> done) override { done(version); }
  void Trim(Version) override {}
  uint64_t store() const override { return 77; }
  uint64_t self() const override { return 5; }
  void Close(uint64_t, absl::AnyInvocable<void(absl::Status)> done) override { done(absl::OkStatus()); }
  bool Alive(uint64_t writer) override { return writer == self(); }
  absl::Duration SureUntil() override { return sure_until; }
  void BeSure() override {
    if (sure_for > absl::ZeroDuration()) sure_until = loop_->Now() + sure_for;
  }

  // Decides the oldest batch.
  void Decide(AppendResult::Outcome outcome) {
    auto decided = std::move(waiting.front());
    waiting.pop_front();
    if (outcome == AppendResult::Outcome::kCommitted) {
      for (auto& commit : decided.first) {
        commit->version = ++version;
        log.push_back(commit);
      }
    }
    absl::Status status = outcome == AppendResult::Outcome::kNoSpace ? absl::ResourceExhaustedError("full") : absl::OkStatus();
    loop_->Post([done = std::move(decided.second), outcome, status]() mutable { done({outcome, status}); });
  }
  // Another daemon's commit.
  void Others(const std::string& name, Value value, std::optional<Uuid> id = std::nullopt) {
    auto commit = std::make_shared<CommitRecord>();
    commit->version = ++version;
    commit->transaction_id = id;
    EntryChange change;
    change.name = name;
    change.kind = EntryChange::Kind::kSet;
    change.value = std::move(value);
    commit->changes.push_back(std::move(change));
    (void)sink_->Install(commit);
  }

  bool hold = false;
  absl::Duration sure_until = absl::InfiniteDuration();
  absl::Duration sure_for;  // from when it is asked to be; zero: as it is
  Version version = 0;
  std::deque<std::pair<Batch, absl::AnyInvocable<void(AppendResult)>>> waiting;
  std::vector<std::shared_ptr<CommitRecord>> log;

 private:
  Loop* loop_;
  Sink* sink_ = nullptr;
};

// What became of one Commit.
struct Outcome {
  std::shared_ptr<const Verdict> verdict;
  int answers = 0;
  bool done() const { return verdict != nullptr; }
  template <typename T>
  const T* as() const {
    return verdict == nullptr ? nullptr : std::get_if<T>(&verdict->outcome);
  }
};

// Builds transactions.
struct Tx {
  std::unique_ptr<Transaction> t = std::make_unique<Transaction>();
  Tx& At(Version snapshot) { t->snapshot = snapshot; return *this; }
  Tx& Read(std::string name) { t->reads.push_back(std::move(name)); return *this; }
  Tx& List(std::string prefix) { t->lists.push_back(std::move(prefix)); return *this; }
  Tx& Ensure(std::string name) { t->ensures.push_back(std::move(name)); return *this; }
  Tx& Snapshot() { t->isolation = Isolation::kSnapshot; return *this; }
  Tx& Put(Write::Change change, std::string name, Value value = Value(), EntryKind kind = EntryKind::kRef) {
    Write write;
    write.change = change;
    write.name = std::move(name);
    write.value = std::move(value);
    write.kind = kind;
    t->writes.push_back(std::move(write));
    return *this;
  }
  Tx& Set(std::string name, int64_t i) { return Put(Write::Change::kSet, std::move(name), Value::Integer(i)); }
  Tx& Create(std::string name, int64_t i) { return Put(Write::Change::kCreate, std::move(name), Value::Integer(i)); }
  Tx& Delete(std::string name) { return Put(Write::Change::kDelete, std::move(name)); }
  Tx& Apply(std::string name, const std::string& operation, EntryKind kind = EntryKind::kRef) {
    Put(Write::Change::kApply, std::move(name), Value(), kind);
    t->writes.back().operation = std::make_shared<Operation>(*OperationFromEdnForm(*ReadEdn(operation)));
    return *this;
  }
  Tx& Define(std::shared_ptr<const Definition> definition) {
    t->writes.back().definition = std::move(definition);
    return *this;
  }
  Tx& Id(uint64_t low, Version seen = 0, bool resend = false, uint64_t writer = 5) {
    CommitId id;
    id.transaction_id = {1, low};
    id.writer = writer;
    id.seen = seen;
    id.resend = resend;
    t->id = id;
    return *this;
  }
  Tx& Run(uint32_t runs, absl::Duration since, uint64_t reservation = 0) {
    t->runs = runs;
    t->since_first_run = since;
    t->reservation = reservation;
    return *this;
  }
};

// What a watch was told.
struct Recorder : WatchSink {
  std::vector<std::string> events;
  size_t room = 1000;
  bool keep = true;
  void OnInitial(std::vector<EntryState> entries) override {
    for (auto& e : entries) events.push_back(absl::StrCat("initial ", e.name, "=", ToEdn(*e.value)));
  }
  void OnSynced(Version version) override { events.push_back(absl::StrCat("synced ", version)); }
  bool OnCommit(std::shared_ptr<const WatchEvent> event) override {
    std::string text = absl::StrCat("commit ", event->commit->version);
    for (uint32_t i : event->selected) {
      const EntryChange& change = event->commit->changes[i];
      const auto& before = event->commit->before[i];
      absl::StrAppend(&text, " ", change.name, ":", !event->commit->BeforeKnown(i) ? "unknown" : before ? ToEdn(*before) : "absent", "->",
                      change.kind == EntryChange::Kind::kExpire ? "expired" : change.value ? ToEdn(*change.value) : "absent");
    }
    events.push_back(text);
    return keep;
  }
  size_t Room() const override { return room; }
  void OnProgress(Version version) override { events.push_back(absl::StrCat("progress ", version)); }
  void OnGap(Version version, std::string) override { events.push_back(absl::StrCat("gap ", version)); }
  void OnDrain() override { events.push_back("drain"); }
};

// A client of one engine.
class Caller {
 public:
  // `settle`: how long what is asked may take; zero: what is due at once.
  Caller(ManualLoop* loop, Engine* engine, absl::Duration settle = absl::ZeroDuration())
      : loop_(loop), engine_(engine), settle_(settle) {}

  // Sends without waiting: the outcome fills in as the loop turns.
  std::shared_ptr<Outcome> Send(Tx& tx) {
    auto outcome = std::make_shared<Outcome>();
    engine_->Commit(std::move(tx.t), [outcome](std::shared_ptr<const Verdict> verdict, Version) {
      outcome->verdict = std::move(verdict);
      ++outcome->answers;
    });
    return outcome;
  }
  std::shared_ptr<Outcome> Send(Tx&& tx) { return Send(tx); }
  std::shared_ptr<Outcome> Do(Tx& tx) {
    auto outcome = Send(tx);
    Settle();
    return outcome;
  }
  std::shared_ptr<Outcome> Do(Tx&& tx) { return Do(tx); }
  // The version of a transaction that must commit; 0: it did not.
  Version Must(Tx& tx) {
    auto outcome = Do(tx);
    const Committed* committed = outcome->as<Committed>();
    return committed == nullptr ? 0 : committed->version;
  }
  Version Must(Tx&& tx) { return Must(tx); }

  absl::StatusOr<GetResult> Get(GetRequest request) {
    absl::StatusOr<GetResult> result = absl::UnknownError("no answer");
    engine_->Get(std::move(request), [&](absl::StatusOr<GetResult> r) { result = std::move(r); });
    Settle();
    return result;
  }
  // An entry's value as EDN, "absent" without one.
  std::string Value(const std::string& name, Version snapshot = 0) {
    GetRequest request;
    request.names = {name};
    if (snapshot != 0) {
      request.at.at = ReadPoint::At::kVersion;
      request.at.version = snapshot;
    }
    auto result = Get(std::move(request));
    if (!result.ok()) return result.status().ToString();
    const auto& value = result->entries[0].value;
    return value.has_value() ? ToEdn(*value) : "absent";
  }
  void Settle() {
    if (settle_ == absl::ZeroDuration()) return loop_->Turn();
    loop_->Advance(settle_);
  }

 private:
  ManualLoop* loop_;
  Engine* engine_;
  absl::Duration settle_;
};

class Harness : public Caller {
 public:
  explicit Harness(Options options = {}, Canaries canaries = {})
      : Caller(&loop, &engine),
        coordinator(&loop),
        containers(&loop),
        engine(&loop, &loop, &coordinator, &coordinator, options, canaries, nullptr, &containers) {
    engine.Start([](absl::Status) {});
    loop.Turn();
  }

  ManualLoop loop;
  FakeCoordinator coordinator;
  FakeContainers containers;
  Engine engine;
};

}  // namespace stm::engine

#endif  // STM_TESTS_ENGINE_HARNESS_H_
