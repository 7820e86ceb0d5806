// Engines beside a store that has the entries which are not in their memory.
#include <catch2/catch.hpp>

#include <random>

#include "engine/entries.h"
#include "engine/error.h"
#include "stm/v1/common.pb.h"
#include "tests/engine/fake_store.h"

namespace stm::engine {
namespace {

constexpr absl::Duration kSettle = absl::Milliseconds(40);

Options SmallCache(int64_t bytes = 1) {
  Options options;
  options.entry_cache_bytes_max = bytes;
  options.history_age_max = absl::ZeroDuration();
  return options;
}

// Two daemons of one store.
struct Pair {
  explicit Pair(Options options = {}, Canaries canaries = {})
      : a(&store, &loop, 1, options), b(&store, &loop, 2, options, 0, canaries) {}
  ManualLoop loop;
  FakeStore store;
  Daemon a, b;
};

// One that starts late: what is in the store is not in its memory.
struct Late {
  explicit Late(Options options = {}) : options(options), first(&store, &loop, 1) {}
  Daemon& Start() {
    second = std::make_unique<Daemon>(&store, &loop, 2, options);
    return *second;
  }
  Options options;
  ManualLoop loop;
  FakeStore store;
  Daemon first;
  std::unique_ptr<Daemon> second;
};

absl::StatusOr<GetResult> GetAt(Daemon& daemon, std::vector<std::string> names, Version snapshot) {
  GetRequest request;
  request.names = std::move(names);
  request.at.at = ReadPoint::At::kVersion;
  request.at.version = snapshot;
  return daemon.Get(std::move(request));
}

absl::StatusOr<ListResult> List(ManualLoop& loop, Daemon& daemon, ListRequest request, absl::Duration takes = absl::Seconds(1)) {
  absl::StatusOr<ListResult> result = absl::UnknownError("no answer");
  daemon.engine.List(std::move(request), [&](absl::StatusOr<ListResult> r) { result = std::move(r); });
  loop.Advance(takes);
  return result;
}

std::vector<std::string> Names(const ListResult& result) {
  std::vector<std::string> names;
  for (const EntryState& entry : result.entries) names.push_back(entry.name);
  return names;
}

std::shared_ptr<Definition> Ttl(absl::Duration ttl) {
  auto definition = std::make_shared<Definition>();
  definition->ttl = ttl;
  return definition;
}

// ---- What is known

TEST_CASE("store: an entry is loaded when it is first read, and an absence is remembered too") {
  Late late;
  late.first.Must(Tx().Set("/a", 1));
  Daemon& d = late.Start();
  CHECK(d.Value("/a") == "1");
  CHECK(d.Value("/none") == "absent");
  CHECK(d.fake.loads == 2);
  CHECK(d.Value("/a") == "1");
  CHECK(d.Value("/none") == "absent");
  CHECK(d.fake.loads == 2);
  CHECK(d.stats().loads == 2);
  CHECK(d.stats().entries_loaded == 2);
}

TEST_CASE("store: those who want one entry at once share a load, and who comes during one shares the next") {
  Late late;
  late.first.Must(Tx().Set("/a", 1).Set("/b", 1));
  Daemon& d = late.Start();
  std::vector<std::shared_ptr<Outcome>> outcomes;
  for (int i = 0; i < 5; ++i) outcomes.push_back(d.Send(Tx().Apply("/a", "(add 1)")));
  late.loop.Turn();  // the load is under way
  CHECK(d.stats().loading == 5);
  for (int i = 0; i < 5; ++i) outcomes.push_back(d.Send(Tx().Apply("/b", "(add 1)").Apply("/a", "(add 1)")));
  late.loop.Advance(kSettle);
  for (auto& outcome : outcomes) CHECK(outcome->as<Committed>() != nullptr);
  CHECK(d.fake.asked == std::vector<std::string>{"/a", "/b"});
  CHECK(d.stats().loading == 0);
  CHECK(d.Value("/a") == "11");
}

TEST_CASE("store: memory entries are known, and the store hears nothing of them") {
  Late late;
  Daemon& d = late.Start();
  CHECK(d.Must(Tx().Read("/.memory/r").Ensure("/.memory/e").List("/.memory/").Set("/.memory/x", 1)) != 0);
  CHECK(d.Value("/.memory/x") == "1");
  CHECK(d.Value("/.memory/none") == "absent");
  CHECK(d.fake.loads == 0);
  CHECK(late.store.order.back().record->changes.empty());
  CHECK(late.store.order.back().record->checks.empty());
  CHECK(late.store.order.back().record->checked_lists.empty());
  ListRequest request;
  request.prefix = "/.memory/";
  CHECK(Names(*List(late.loop, d, request)) == std::vector<std::string>{"/.memory/x"});
}

TEST_CASE("store: reads with pending writes load what those write") {
  Late late;
  late.first.Must(Tx().Set("/a", 1));
  Daemon& d = late.Start();
  GetRequest request;
  request.names = {"/b", "/a"};
  Tx tx;
  tx.Apply("/a", "(add 4)");
  request.pending = tx.t->writes;
  auto result = d.Get(request);
  REQUIRE(result.ok());
  CHECK(ToEdn(*result->entries[1].value) == "5");
  request.names = {"/b"};
  CHECK(d.Get(request).ok());
}

TEST_CASE("store: what is installed while a load is under way is newer than what it brings") {
  Late late;
  late.first.Must(Tx().Set("/a", 1));
  Daemon& d = late.Start();
  late.store.load_takes = absl::Milliseconds(20);
  auto outcome = d.Send(Tx().Apply("/a", "(add 100)"));
  late.loop.Turn();
  late.first.Send(Tx().Set("/a", 7));
  late.loop.Advance(absl::Milliseconds(100));
  REQUIRE(outcome->as<Committed>() != nullptr);
  CHECK(ToEdn(*outcome->as<Committed>()->results[0]) == "107");
  CHECK(late.first.Value("/a") == "107");
}

TEST_CASE("store: a read of the newest is as of the end of its load") {
  Late late;
  late.first.Must(Tx().Set("/a", 1).Set("/b", 1));
  Daemon& d = late.Start();
  late.store.load_takes = absl::Milliseconds(20);
  absl::StatusOr<GetResult> result = absl::UnknownError("no answer");
  GetRequest request;
  request.names = {"/a", "/b"};
  d.engine.Get(request, [&](absl::StatusOr<GetResult> r) { result = std::move(r); });
  late.loop.Advance(absl::Milliseconds(5));  // its snapshot is chosen, the load is under way
  REQUIRE(d.fake.loads == 1);
  auto other = late.first.Send(Tx().Set("/a", 2));
  late.loop.Advance(absl::Milliseconds(60));
  REQUIRE(other->as<Committed>() != nullptr);
  REQUIRE(result.ok());
  CHECK(result->snapshot == other->as<Committed>()->version);
  CHECK(ToEdn(*result->entries[0].value) == "2");
  CHECK(ToEdn(*result->entries[1].value) == "1");
}

TEST_CASE("store: a snapshot from before an entry became known can't be read, unless it is told to have been absent") {
  Late late;
  late.first.Must(Tx().Set("/a", 1));
  Daemon& d = late.Start();
  const Version before = late.first.Must(Tx().Set("/other", 1));
  const Version after = late.first.Must(Tx().Set("/a", 2).Create("/new", 1));
  auto result = GetAt(d, {"/a"}, before);
  CHECK(absl::IsOutOfRange(result.status()));
  CHECK(DetailOf(result.status())->expected() == absl::StrCat(">= ", after));
  CHECK(absl::IsOutOfRange(GetAt(d, {"/new"}, before).status()));
  CHECK(d.Value("/a", after) == "2");
  CHECK(d.Value("/other", before) == "1");
  late.store.tells_before = true;
  late.first.Must(Tx().Create("/new2", 1));
  CHECK(d.Value("/new2", after) == "absent");
  CHECK(d.fake.loads == 0);
}

TEST_CASE("store: a store that can't be reached is told to who needs it, and nobody else") {
  Late late;
  late.first.Must(Tx().Set("/a", 1).Set("/b", 1));
  Daemon& d = late.Start();
  CHECK(d.Value("/b") == "1");
  late.store.unreachable = true;
  auto outcome = d.Do(Tx().Set("/a", 2));
  REQUIRE(outcome->as<absl::Status>() != nullptr);
  CHECK(absl::IsUnavailable(*outcome->as<absl::Status>()));
  GetRequest request;
  request.names = {"/a"};
  CHECK(absl::IsUnavailable(d.Get(request).status()));
  ListRequest list;
  list.prefix = "/";
  CHECK(absl::IsUnavailable(List(late.loop, d, list).status()));
  CHECK(d.Value("/b") == "1");
  late.store.unreachable = false;
  CHECK(d.Value("/a") == "1");
}

TEST_CASE("store: a transaction that waits for a load counts in the queue, and no longer than its deadline") {
  Options options;
  options.commit_queue_max = 1;
  Late late(options);
  Daemon& d = late.Start();
  late.store.load_takes = absl::Seconds(1);
  Tx tx;
  tx.Set("/a", 1);
  tx.t->deadline = late.loop.Now() + absl::Milliseconds(100);
  auto first = d.Send(tx);
  late.loop.Turn();
  auto second = d.Do(Tx().Set("/a", 2));
  REQUIRE(second->as<absl::Status>() != nullptr);
  CHECK(absl::IsResourceExhausted(*second->as<absl::Status>()));
  late.loop.Advance(absl::Milliseconds(100));
  REQUIRE(first->as<absl::Status>() != nullptr);
  CHECK(absl::IsDeadlineExceeded(*first->as<absl::Status>()));
  CHECK(d.stats().loading == 0);
  late.loop.Advance(absl::Seconds(2));
  CHECK(late.store.order.empty());
}

TEST_CASE("store: a drain answers who waits for a load") {
  Late late;
  Daemon& d = late.Start();
  auto outcome = d.Send(Tx().Set("/a", 1));
  late.loop.Turn();
  bool drained = false;
  d.engine.Drain([&] { drained = true; });
  late.loop.Turn();
  CHECK(drained);
  REQUIRE(outcome->as<absl::Status>() != nullptr);
  CHECK(absl::IsUnavailable(*outcome->as<absl::Status>()));
}

TEST_CASE("store: a drain does not wait for what was dropped while it queued") {
  Late late(SmallCache(3000));
  for (int i = 0; i < 40; ++i) late.first.Must(Tx().Set(absl::StrCat("/q/", i), 1));
  Daemon& d = late.Start();
  CHECK(d.Value("/q/0") == "1");
  d.fake.hold = true;
  auto before = d.Send(Tx().Set("/before", 1));
  d.Settle();
  auto queued = d.Send(Tx().Apply("/q/0", "(add 1)"));
  for (int i = 1; i < 40; ++i) CHECK(d.Value(absl::StrCat("/q/", i)) == "1");
  bool drained = false;
  d.engine.Drain([&] { drained = true; });
  late.loop.Turn();
  CHECK_FALSE(drained);
  d.fake.Decide();
  late.loop.Turn();
  CHECK(drained);
  CHECK(before->as<Committed>() != nullptr);
  REQUIRE(queued->as<absl::Status>() != nullptr);
  CHECK(absl::IsUnavailable(*queued->as<absl::Status>()));
  CHECK(queued->answers == 1);
}

TEST_CASE("store: what is not known yet is no reason to refuse a transaction while a batch is under way") {
  Late late;
  const Version v = late.first.Must(Tx().Set("/a", 1));
  late.first.Must(Tx().Set("/b", 1));
  Daemon& d = late.Start();  // ids below its start are not known: an absence at v would count as changed
  d.fake.hold = true;
  auto before = d.Send(Tx().Set("/before", 1));
  d.Settle();
  REQUIRE(d.fake.waiting.size() == 1);
  auto reads = d.Send(Tx().At(v).Read("/a").Set("/y", 1));
  d.Settle();
  CHECK_FALSE(reads->done());
  d.fake.hold = false;
  d.fake.Decide();
  d.Settle();
  CHECK(reads->as<Committed>() != nullptr);
  CHECK(d.Do(Tx().At(v).Read("/none").Set("/y", 1))->as<Conflict>() != nullptr);
}

TEST_CASE("store: another daemon's commit brings kind, definition and value of what was not known") {
  Late late;
  Daemon& d = late.Start();
  auto definition = std::make_shared<Definition>();
  definition->validator = *Validator::Parse(*ReadEdn("[:max 5]"));
  late.first.Must(Tx().Put(Write::Change::kCreate, "/atom", Value::Integer(3), EntryKind::kAtom).Define(definition));
  late.loop.Advance(kSettle);
  GetRequest request;
  request.names = {"/atom"};
  auto result = d.Get(request);
  REQUIRE(result.ok());
  CHECK(d.fake.loads == 0);
  CHECK(result->entries[0].kind == EntryKind::kAtom);
  CHECK(ToEdn(*result->entries[0].value) == "3");
  auto refused = d.Do(Tx().Apply("/atom", "(add 3)", EntryKind::kAtom));
  REQUIRE(refused->as<Rejected>() != nullptr);
  CHECK(refused->as<Rejected>()->rejection.cause == RejectCause::kValidator);
  auto as_ref = d.Do(Tx().Set("/atom", 1));
  REQUIRE(as_ref->as<Rejected>() != nullptr);
  CHECK(as_ref->as<Rejected>()->rejection.cause == RejectCause::kKind);
}

// ---- Commits

TEST_CASE("store: a commit tells the whole of what it changes, and what else it rests on") {
  Pair p;
  p.a.Must(Tx().Set("/n", 1).Set("/kept", 1).Set("/gone", 1).Set("/q/x", 1));
  const Version v = p.store.version;
  Tx tx;
  tx.At(v).Read("/n").Read("/r").Read("/r").Ensure("/e").List("/q/").List("/q/");
  tx.Apply("/n", "(add 2)").Create("/kept", 5).Delete("/gone").Delete("/none");
  tx.Put(Write::Change::kCreate, "/t", Value::Integer(3)).Define(Ttl(absl::Hours(1)));
  p.a.fake.hold = true;
  auto outcome = p.a.Do(tx);
  REQUIRE(p.a.fake.waiting.size() == 1);
  std::shared_ptr<CommitRecord> record = p.a.fake.waiting.front().records.front();
  CHECK(record->checks == std::vector<std::string>{"/e", "/kept", "/none", "/r"});
  CHECK(record->checked_lists == std::vector<std::string>{"/q/"});
  REQUIRE(record->changes.size() == 3);
  CHECK(record->changes[0].whole->value == Value::Integer(3));
  CHECK(record->changes[0].whole->name == "/n");
  REQUIRE(record->changes[0].before.has_value());
  CHECK(*record->changes[0].before == Value::Integer(1));
  REQUIRE(record->changes[2].before.has_value());
  CHECK_FALSE(record->changes[2].before->has_value());
  CHECK_FALSE(record->changes[1].whole->value.has_value());
  CHECK(record->changes[2].whole->definition->ttl == absl::Hours(1));
  p.a.fake.Decide();
  p.loop.Advance(kSettle);
  REQUIRE(outcome->as<Committed>() != nullptr);
  // History does not keep it.
  CHECK(record->checks.empty());
  CHECK(record->checked_lists.empty());
  for (const EntryChange& change : record->changes) CHECK(change.whole == nullptr);
  CHECK(p.b.Value("/n") == "3");
  CHECK(p.b.Value("/gone") == "absent");
}

TEST_CASE("store: snapshot isolation rests on what it ensures alone") {
  Pair p;
  p.a.fake.hold = true;
  p.a.Do(Tx().Snapshot().Read("/r").List("/q/").Ensure("/e").Set("/x", 1));
  REQUIRE(p.a.fake.waiting.size() == 1);
  CHECK(p.a.fake.waiting.front().records.front()->checks == std::vector<std::string>{"/e"});
  CHECK(p.a.fake.waiting.front().records.front()->checked_lists.empty());
}

TEST_CASE("store: a batch that another daemon overtook is lost, and who read what moved conflicts") {
  Pair p;
  const Version v = p.a.Must(Tx().Set("/a", 1).Set("/b", 1));
  p.b.fake.hold = true;
  auto stale = p.b.Send(Tx().At(v).Read("/a").Set("/x", 1));
  auto blind = p.b.Send(Tx().Apply("/a", "(add 10)"));
  auto other = p.b.Send(Tx().At(v).Read("/b").Set("/y", 1));
  p.loop.Advance(kSettle);
  p.a.Must(Tx().Set("/a", 2));
  // The other's commit is installed over what is tentative, which stays what it was.
  CHECK(p.b.Value("/a") == "2");
  CHECK_FALSE(blind->done());
  CHECK(p.b.Value("/x") == "absent");
  p.b.fake.hold = false;
  for (int i = 0; i < 4; ++i) {
    p.b.fake.Decide();
    p.loop.Advance(kSettle);
  }
  REQUIRE(stale->as<Conflict>() != nullptr);
  CHECK(ToEdn(*stale->as<Conflict>()->fresh[0].value) == "2");
  CHECK(blind->as<Committed>() != nullptr);
  CHECK(other->as<Committed>() != nullptr);
  CHECK(p.b.stats().batches_lost >= 1);
  CHECK(p.a.Value("/a") == "12");
  CHECK(p.a.Value("/x") == "absent");
}

// How many of each of two daemons' callers' commits on one entry went through in so long; the second daemon is farther away.
std::pair<int, int> FightOver(const std::string& name, Options options, Tx (*next)(const std::string& name, Daemon* daemon)) {
  Pair p(options);
  p.a.Must(Tx().Set(name, 0));
  p.b.fake.farther = absl::Milliseconds(3);
  struct Side {
    Daemon* daemon;
    std::vector<std::shared_ptr<Outcome>> callers;
    int committed = 0;
  };
  Side sides[] = {{&p.a, std::vector<std::shared_ptr<Outcome>>(4)}, {&p.b, std::vector<std::shared_ptr<Outcome>>(4)}};
  for (int i = 0; i < 3000; ++i) {
    for (Side& side : sides) {
      for (auto& outcome : side.callers) {
        if (outcome != nullptr && !outcome->done()) continue;
        if (outcome != nullptr && outcome->as<Committed>() != nullptr) ++side.committed;
        outcome = side.daemon->Send(next(name, side.daemon));
      }
    }
    p.loop.Advance(absl::Milliseconds(1));
  }
  // Nobody is left in line: those under way come to their end.
  p.loop.Advance(absl::Seconds(5));
  int64_t committed = sides[0].committed + sides[1].committed;
  for (Side& side : sides) {
    for (auto& outcome : side.callers) {
      REQUIRE(outcome->done());
      committed += outcome->as<Committed>() != nullptr ? 1 : 0;
    }
  }
  CHECK(p.a.Value(name) == absl::StrCat(committed));
  CHECK(p.b.Value(name) == absl::StrCat(committed));
  return {sides[0].committed, sides[1].committed};
}

Tx AddOne(const std::string& name, Daemon*) { return std::move(Tx().Apply(name, "(add 1)")); }

TEST_CASE("store: an entry that two daemons fight over is shared by turns, however far one is") {
  Options without;
  without.turn_after_losses = 1 << 30;
  const auto [near_alone, far_alone] = FightOver("/n", without, AddOne);
  const auto [near, far] = FightOver("/n", {}, AddOne);
  INFO("without turns " << near_alone << " and " << far_alone << ", with them " << near << " and " << far);
  // A quarter of its share, and more than what luck gives: this is also what shows that the check can fail.
  CHECK(far_alone < (near_alone + far_alone) / 8);
  CHECK(far > (near + far) / 4);
  CHECK(near + far > (near_alone + far_alone) / 4);
}

TEST_CASE("store: turns on several entries come together, and nobody waits for somebody who is gone") {
  Pair p;
  p.a.Must(Tx().Set("/x", 0).Set("/y", 0));
  p.b.Value("/x");
  // A daemon that asks and never commits holds the others up for as long as it asked for, and no longer.
  p.a.fake.AskTurn({"/x", "/y"}, absl::Milliseconds(200));
  p.loop.Advance(kSettle);
  auto kept = p.b.Send(Tx().Apply("/x", "(add 1)").Apply("/y", "(add 1)"));
  auto free = p.b.Do(Tx().Set("/z", 1));
  CHECK(free->as<Committed>() != nullptr);
  CHECK_FALSE(kept->done());
  CHECK(p.b.stats().in_line == 1);
  CHECK(p.b.fake.turns_asked == 1);
  p.loop.Advance(absl::Milliseconds(250));
  CHECK(kept->as<Committed>() != nullptr);
  // Its own turn ended with its commit: the other goes on at once, and asks as long as it is shared.
  CHECK(p.a.Do(Tx().Apply("/y", "(add 1)"))->as<Committed>() != nullptr);
  CHECK(p.a.fake.turns_asked == 2);
  // After a while nobody has to ask.
  p.loop.Advance(absl::Seconds(3));
  CHECK(p.a.Do(Tx().Apply("/y", "(add 1)"))->as<Committed>() != nullptr);
  CHECK(p.a.fake.turns_asked == 2);
  CHECK(p.a.Value("/y") == "3");
}

TEST_CASE("store: a drain waits for nobody's turn") {
  Pair p;
  p.a.Must(Tx().Set("/x", 0));
  p.b.Value("/x");
  p.a.fake.AskTurn({"/x"}, absl::Seconds(1));
  p.loop.Advance(kSettle);
  auto kept = p.b.Send(Tx().Apply("/x", "(add 1)"));
  p.loop.Advance(kSettle);
  REQUIRE_FALSE(kept->done());
  bool drained = false;
  p.b.engine.Drain([&] { drained = true; });
  p.loop.Advance(kSettle);
  CHECK(drained);
  REQUIRE(kept->as<absl::Status>() != nullptr);
}

TEST_CASE("store: no entry is left tentative, and no absence forgotten, when a batch is lost") {
  Pair p;
  p.b.fake.hold = true;
  auto create = p.b.Send(Tx().Create("/new", 1).Set("/mine", 1));
  p.loop.Advance(kSettle);
  p.a.Must(Tx().Create("/new", 5));
  p.b.fake.Decide();
  p.loop.Advance(kSettle);
  CHECK_FALSE(create->done());
  CHECK(p.b.Value("/mine") == "absent");
  CHECK(p.b.Value("/new") == "5");
  p.b.fake.Decide();
  p.loop.Advance(kSettle);
  REQUIRE(create->as<Committed>() != nullptr);
  CHECK(ToEdn(*create->as<Committed>()->results[0]) == "5");
  CHECK(p.a.Value("/mine") == "1");
}

TEST_CASE("store: a create that another daemon was first with had an effect, or is checked") {
  Pair p;
  p.a.Must(Tx().Set("/c", 1));
  p.b.Value("/c");
  p.b.fake.hold = true;
  auto create = p.b.Send(Tx().Create("/c", 2));
  p.loop.Advance(kSettle);
  p.a.Must(Tx().Delete("/c"));
  p.b.fake.hold = false;
  p.b.fake.Decide();
  p.loop.Advance(kSettle);
  REQUIRE(create->as<Committed>() != nullptr);
  CHECK(ToEdn(*create->as<Committed>()->results[0]) == "2");
  CHECK(p.a.Value("/c") == "2");
}

// One daemon commits what another, which knew the entry as absent, has not heard of.
struct Behind : Pair {
  explicit Behind(Canaries canaries = {}) : Pair({}, canaries) {
    CHECK(b.Value("/new") == "absent");
    store.feed_takes = absl::Seconds(1);
    auto create = a.Send(Tx().Create("/new", 1));
    loop.Advance(kSettle);
    REQUIRE(create->as<Committed>() != nullptr);
  }
};

TEST_CASE("store: a daemon that is behind refuses nothing by what was so before") {
  Behind p;
  auto add = p.b.Send(Tx().Apply("/new", "(add 1)"));
  auto append = p.b.Send(Tx().Apply("/new", "(append \"x\")"));
  p.loop.Advance(absl::Seconds(3));
  CHECK(add->as<Committed>() != nullptr);
  // Wrong by the newest, too.
  REQUIRE(append->as<Rejected>() != nullptr);
  CHECK(append->as<Rejected>()->rejection.cause != RejectCause::kAbsent);
  p.store.feed_takes = absl::Milliseconds(1);
  CHECK(p.b.Value("/new") == "2");
}

TEST_CASE("store: canary: a refusal that waits for nobody is seen") {
  Canaries canaries;
  canaries.refuse_behind = true;
  Behind p(canaries);
  auto add = p.b.Send(Tx().Apply("/new", "(add 1)"));
  p.loop.Advance(absl::Seconds(3));
  REQUIRE(add->as<Rejected>() != nullptr);
  CHECK(add->as<Rejected>()->rejection.cause == RejectCause::kAbsent);
}

TEST_CASE("store: who waits to be refused is told when the daemon drains, and the drain waits for it") {
  Behind p;
  auto add = p.b.Send(Tx().Apply("/new", "(append \"x\")"));
  p.loop.Advance(kSettle);
  CHECK(p.b.stats().parked == 1);
  CHECK_FALSE(add->done());
  bool drained = false;
  p.b.engine.Drain([&drained] { drained = true; });
  p.loop.Advance(kSettle);
  CHECK_FALSE(drained);
  p.loop.Advance(absl::Seconds(3));
  CHECK(drained);
  CHECK(add->as<Rejected>() != nullptr);
}

TEST_CASE("store: who waits to be refused is told when the store can't be reached") {
  Behind p;
  auto add = p.b.Send(Tx().Apply("/new", "(add 1)"));
  p.loop.Advance(kSettle);
  p.store.no_barrier = true;
  p.loop.Advance(absl::Seconds(3));
  REQUIRE(add->as<absl::Status>() != nullptr);
  CHECK(absl::IsUnavailable(*add->as<absl::Status>()));
}

TEST_CASE("store: a listing is checked against the others' creates and deletes") {
  Pair p;
  const Version v = p.a.Must(Tx().Set("/q/a", 1));
  p.b.Value("/q/a");
  p.b.fake.hold = true;
  auto lister = p.b.Send(Tx().At(v).List("/q/").Set("/x", 1));
  p.loop.Advance(kSettle);
  p.a.Must(Tx().Create("/q/b", 1));
  p.b.fake.hold = false;
  p.b.fake.Decide();
  p.loop.Advance(kSettle);
  CHECK(lister->as<Conflict>() != nullptr);
  // Another's change of a value alone is none, also of an entry that is not known.
  const Version w = p.store.version;
  p.a.Must(Tx().Set("/q/a", 2));
  CHECK(p.b.Must(Tx().At(w).List("/q/").Set("/x", 1)) != 0);
  const Version x = p.store.version;
  p.a.Must(Tx().Delete("/q/b"));
  CHECK(p.b.Do(Tx().At(x).List("/q/").Set("/x", 2))->as<Conflict>() != nullptr);
}

TEST_CASE("store: of an entry that is not known the change's kind tells whether its listing changed") {
  Late late;
  late.first.Must(Tx().Set("/q/a", 1).Set("/q/b", 1));
  Daemon& d = late.Start();
  Version v = late.store.version;
  late.first.Must(Tx().Set("/q/a", 2));
  CHECK(d.Must(Tx().At(v).List("/q/").Set("/x", 1)) != 0);
  v = late.store.version;
  late.first.Must(Tx().Delete("/q/b"));
  CHECK(d.Do(Tx().At(v).List("/q/").Set("/x", 1))->as<Conflict>() != nullptr);
  v = late.store.version;
  late.first.Must(Tx().Create("/q/c", 1));
  CHECK(d.Do(Tx().At(v).List("/q/").Set("/x", 1))->as<Conflict>() != nullptr);
}

TEST_CASE("store: what was listed before this daemon's start may have changed") {
  Late late;
  const Version v = late.first.Must(Tx().Set("/q/a", 1));
  const Version w = late.first.Must(Tx().Set("/x", 1));
  Daemon& d = late.Start();
  CHECK(d.Do(Tx().At(v).List("/q/").Set("/x", 2))->as<Conflict>() != nullptr);
  CHECK(d.Must(Tx().At(w).List("/q/").Set("/x", 2)) != 0);
}

TEST_CASE("store: a failed append refuses its own batch, and those behind it get their own answer") {
  Options options;
  options.batches_in_flight_max = 2;
  Pair p(options);
  p.a.Must(Tx().Set("/a", 1).Set("/b", 1));
  p.a.fake.hold = true;
  auto first = p.a.Do(Tx().Set("/a", 2));
  auto second = p.a.Do(Tx().Set("/b", 2));
  REQUIRE(p.a.fake.waiting.size() == 2);
  p.store.unreachable = true;
  p.a.fake.hold = false;
  p.a.fake.Decide();
  p.store.unreachable = false;
  p.loop.Advance(kSettle);
  REQUIRE(first->as<absl::Status>() != nullptr);
  CHECK(absl::IsUnavailable(*first->as<absl::Status>()));
  CHECK(first->as<absl::Status>()->message() == "fake: append: unreachable");
  CHECK(second->as<Committed>() != nullptr);
  CHECK(p.a.stats().batches_failed == 1);
  CHECK(p.b.Value("/a") == "1");
  CHECK(p.b.Value("/b") == "2");
}

TEST_CASE("store: what is too large together goes apart, and only what is too large alone is refused") {
  Pair p;
  p.a.Must(Tx().Set("/a", 1).Set("/b", 1).Set("/c", 1));
  p.store.batch_commits_max = 1;
  p.a.fake.hold = true;
  auto before = p.a.Send(Tx().Set("/c", 2));
  p.loop.Turn();
  std::vector<std::shared_ptr<Outcome>> together;
  for (int i = 0; i < 6; ++i) together.push_back(p.a.Send(Tx().Apply("/a", "(add 1)")));
  p.a.fake.hold = false;
  p.a.fake.Decide();
  p.loop.Advance(kSettle);
  CHECK(before->as<Committed>() != nullptr);
  for (const auto& outcome : together) CHECK(outcome->as<Committed>() != nullptr);
  CHECK(p.a.stats().batches_failed >= 1);
  CHECK(p.b.Value("/a") == "7");
  p.store.batch_commits_max = 0;
  auto alone = p.a.Do(Tx().Set("/b", 2));
  REQUIRE(alone->as<absl::Status>() != nullptr);
  CHECK(absl::IsResourceExhausted(*alone->as<absl::Status>()));
}

// ---- Writers

TEST_CASE("store: what was sent under a writer that another daemon closed is never executed") {
  Pair p;
  p.a.Must(Tx().Set("/a", 1));
  p.a.fake.hold = true;
  auto appended = p.a.Send(Tx().Id(1, 0, false, 1).Apply("/a", "(add 1)"));
  auto queued = p.a.Send(Tx().Id(2, 0, false, 1).Apply("/a", "(add 1)"));
  auto loading = p.a.Send(Tx().Id(3, 0, false, 1).Apply("/elsewhere", "(add 1)").Create("/new", 1));
  p.loop.Turn();
  REQUIRE(p.a.fake.waiting.size() == 1);
  p.a.fake.hold = false;
  p.a.fake.CloseWriter(FakeDaemon::UnderWay::kNot);
  p.loop.Advance(kSettle);
  CHECK(appended->as<NotCommitted>() != nullptr);
  CHECK(queued->as<NotCommitted>() != nullptr);
  CHECK(loading->as<NotCommitted>() != nullptr);
  CHECK(p.b.Value("/a") == "1");
  CHECK(p.a.Must(Tx().Id(4, 0, false, 101).Apply("/a", "(add 1)")) != 0);
}

TEST_CASE("store: who waits in line or off the Loop under a closed writer is not executed either") {
  Options options;
  options.heavy_value_bytes = 8;
  Pair p(options);
  p.a.Must(Tx().Set("/a", 1).Put(Write::Change::kSet, "/big", *ReadEdn("[1 2 3 4 5 6 7 8 9]")));
  const Version stale = p.store.version;
  p.a.Must(Tx().Set("/a", 2));
  auto holder = p.a.Do(Tx().At(stale).Run(3, absl::Milliseconds(900)).Read("/a").Set("/a", 3));
  REQUIRE(holder->as<Conflict>() != nullptr);
  auto in_line = p.a.Send(Tx().Id(1, 0, false, 1).Set("/a", 9));
  CHECK(p.a.stats().in_line == 1);
  auto parked = p.a.Send(Tx().Id(2, 0, false, 1).Apply("/big", "(append [10])"));
  CHECK(p.a.stats().parked == 1);
  p.a.fake.CloseWriter(FakeDaemon::UnderWay::kNot);
  p.loop.Advance(absl::Seconds(3));
  CHECK(in_line->as<NotCommitted>() != nullptr);
  CHECK(parked->as<NotCommitted>() != nullptr);
  CHECK(p.b.Value("/a") == "2");
}

TEST_CASE("store: what reached the order before the writer was closed is told as committed, and once") {
  Pair p;
  p.a.Must(Tx().Set("/a", 1));
  p.a.fake.hold = true;
  auto outcome = p.a.Send(Tx().Id(1, 0, false, 1).Apply("/a", "(add 1)"));
  auto by_hand = p.a.Send(Tx().Apply("/a", "(add 10)"));
  p.loop.Turn();
  REQUIRE(p.a.fake.waiting.size() == 1);
  p.a.fake.hold = false;
  p.a.fake.CloseWriter(FakeDaemon::UnderWay::kCommitted);
  p.loop.Advance(kSettle);
  REQUIRE(outcome->as<Committed>() != nullptr);
  CHECK(ToEdn(*outcome->as<Committed>()->results.at(0)) == "2");
  CHECK(outcome->answers == 1);
  CHECK(by_hand->done());
  auto again = p.a.Do(Tx().Id(1, 0, true, 1).Apply("/a", "(add 1)"));
  REQUIRE(again->as<Committed>() != nullptr);
  CHECK(again->as<Committed>()->version == outcome->as<Committed>()->version);
  const std::string now = p.a.Value("/a");
  CHECK(now == p.b.Value("/a"));
  CHECK(now == "12");
}

TEST_CASE("store: what a batch checks stays until the coordinator has told what became of it") {
  Pair p(SmallCache());
  p.a.Must(Tx().Set("/c", 1).Set("/d", 1));
  p.loop.Advance(absl::Seconds(5));
  p.a.fake.hold = true;
  auto outcome = p.a.Send(Tx().Id(1, p.store.version, false, 1).Create("/c", 2).Set("/d", 2));
  p.a.Settle();
  REQUIRE(p.a.fake.waiting.size() == 1);
  CHECK(p.a.Value("/none") == "absent");
  CHECK(p.a.stats().entries == 2);
  // The fake refuses to be told, while it has the batch, that something of it was dropped.
  p.a.fake.CloseWriter(FakeDaemon::UnderWay::kCommitted);
  p.loop.Advance(absl::Seconds(5));
  CHECK(outcome->as<Committed>() != nullptr);
  CHECK(p.a.stats().entries == 0);
}

TEST_CASE("store: without an id nobody can tell whether a closed writer's transaction was committed") {
  Pair p;
  p.a.Must(Tx().Set("/a", 1));
  p.a.fake.hold = true;
  auto by_hand = p.a.Send(Tx().Apply("/a", "(add 10)"));
  p.a.fake.hold = false;
  p.a.fake.CloseWriter(FakeDaemon::UnderWay::kCommitted);
  p.loop.Advance(kSettle);
  REQUIRE(by_hand->as<absl::Status>() != nullptr);
  CHECK(absl::IsUnknown(*by_hand->as<absl::Status>()));
  CHECK(p.b.Value("/a") == "11");
}

// ---- Lists

TEST_CASE("store: a list reads the store's names page by page, loads what it lacks, and counts") {
  Late late;
  std::vector<std::string> all;
  for (int i = 0; i < 300; ++i) {
    all.push_back(absl::StrCat("/q/", 1000 + i));
    late.first.Must(Tx().Set(all.back(), i));
  }
  late.first.Must(Tx().Set("/.once/x", 1).Set("/a", 1).Set("/z", 1));
  late.first.Must(Tx().Delete("/q/1005"));
  all.erase(all.begin() + 5);
  Daemon& d = late.Start();
  ListRequest request;
  request.prefix = "/q/";
  request.page_size = 200;
  auto first = List(late.loop, d, request);
  REQUIRE(first.ok());
  CHECK(first->more);
  CHECK(first->entries.size() == 200);
  CHECK(ToEdn(*first->entries[7].value) == "8");
  request.at.at = ReadPoint::At::kVersion;
  request.at.version = first->snapshot;
  request.after_name = first->entries.back().name;
  auto second = List(late.loop, d, request);
  REQUIRE(second.ok());
  CHECK_FALSE(second->more);
  std::vector<std::string> names = Names(*first);
  for (const std::string& name : Names(*second)) names.push_back(name);
  CHECK(names == all);

  ListRequest count;
  count.prefix = "/";
  count.count_only = true;
  auto counted = List(late.loop, d, count);
  REQUIRE(counted.ok());
  CHECK(counted->count == 301);
  CHECK(counted->entries.empty());
  ListRequest system;
  system.prefix = "/.once/";
  CHECK(Names(*List(late.loop, d, system)) == std::vector<std::string>{"/.once/x"});
}

TEST_CASE("store: a list at a snapshot tells that it can't be read when an entry's state then is not known") {
  Late late;
  late.first.Must(Tx().Set("/q/a", 1).Set("/q/b", 1));
  Daemon& d = late.Start();
  const Version v = late.first.Must(Tx().Set("/x", 1));
  late.first.Must(Tx().Set("/q/a", 2));
  late.loop.Advance(kSettle);
  ListRequest request;
  request.prefix = "/q/";
  request.at.at = ReadPoint::At::kVersion;
  request.at.version = v;
  CHECK(absl::IsOutOfRange(List(late.loop, d, request).status()));
  request.at.at = ReadPoint::At::kNewest;
  auto newest = List(late.loop, d, request);
  REQUIRE(newest.ok());
  CHECK(ToEdn(*newest->entries[0].value) == "2");
}

TEST_CASE("store: a list of the newest that another daemon writes into begins anew") {
  Late late;
  late.first.Must(Tx().Set("/q/a", 1));
  Daemon& d = late.Start();
  late.store.load_takes = absl::Milliseconds(20);
  absl::StatusOr<ListResult> result = absl::UnknownError("no answer");
  ListRequest request;
  request.prefix = "/q/";
  d.engine.List(request, [&](absl::StatusOr<ListResult> r) { result = std::move(r); });
  late.loop.Advance(absl::Milliseconds(5));  // its snapshot is chosen, names are being read
  auto outcome = late.first.Send(Tx().Set("/q/a", 2).Create("/q/b", 1));
  late.loop.Advance(absl::Milliseconds(300));
  REQUIRE(result.ok());
  CHECK(Names(*result) == std::vector<std::string>{"/q/a", "/q/b"});
  CHECK(ToEdn(*result->entries[0].value) == "2");
  CHECK(result->snapshot == late.store.version);
}

// ---- Dropping

TEST_CASE("store: entries past the cache's bytes are dropped, the store is told, and they are loaded again") {
  Late late(SmallCache(20000));
  for (int i = 0; i < 200; ++i) late.first.Must(Tx().Set(absl::StrCat("/q/", i), i));
  Daemon& d = late.Start();
  for (int i = 0; i < 200; ++i) CHECK(d.Value(absl::StrCat("/q/", i)) == absl::StrCat(i));
  for (int i = 0; i < 200; ++i) CHECK(d.Value(absl::StrCat("/none/", i)) == "absent");
  late.loop.Advance(absl::Seconds(5));
  CHECK(d.stats().entry_cache_bytes <= 20000);
  CHECK(d.stats().entry_cache_bytes > 10000);
  CHECK(d.stats().entries_evicted == d.fake.forgotten);
  CHECK(d.stats().entries_evicted > 350);
  CHECK(d.Value("/q/0") == "0");
  CHECK(d.stats().entries_loaded == 401);
}

TEST_CASE("store: the cache keeps what is used") {
  Late late(SmallCache(20000));
  for (int i = 0; i < 200; ++i) late.first.Must(Tx().Set(absl::StrCat("/q/", i), i));
  Daemon& d = late.Start();
  for (int i = 0; i < 200; ++i) {
    d.Value(absl::StrCat("/q/", i));
    d.Value("/q/0");
  }
  CHECK(std::count(d.fake.asked.begin(), d.fake.asked.end(), "/q/0") == 1);
}

TEST_CASE("store: a transaction goes on however small the cache is, also when it was emptied while it queued") {
  Late late(SmallCache());
  for (int i = 0; i < 20; ++i) late.first.Must(Tx().Set(absl::StrCat("/q/", i), 1));
  Daemon& d = late.Start();
  Tx all;
  for (int i = 0; i < 20; ++i) all.Read(absl::StrCat("/q/", i)).Apply(absl::StrCat("/q/", i), "(add 1)");
  all.At(late.store.version);
  CHECK(d.Must(all) != 0);
  CHECK(late.first.Value("/q/7") == "2");
  CHECK(d.stats().loads == 1);

  // It is known when it comes, and waits behind a batch; reads drop it meanwhile.
  late.loop.Advance(absl::Seconds(5));
  d.fake.hold = true;
  auto before = d.Send(Tx().Set("/before", 1));
  d.Settle();
  REQUIRE(d.fake.waiting.size() == 1);
  GetRequest get;
  get.names = {"/q/7"};
  std::shared_ptr<Outcome> queued;
  d.engine.Get(get, [&](absl::StatusOr<GetResult>) {});
  // The load that ends here makes it known; in the same task it is dropped, unless it is asked for first.
  auto loading = d.Send(Tx().Apply("/q/7", "(add 1)"));
  d.Settle();
  CHECK(d.stats().queued == 1);
  CHECK(d.Value("/q/3") == "2");
  d.fake.hold = false;
  d.fake.Decide();
  d.Settle();
  CHECK(before->as<Committed>() != nullptr);
  REQUIRE(loading->as<Committed>() != nullptr);
  CHECK(late.first.Value("/q/7") == "3");
}

TEST_CASE("store: what was known when it queued and dropped since is loaded before it is validated") {
  Late late(SmallCache(3000));
  for (int i = 0; i < 40; ++i) late.first.Must(Tx().Set(absl::StrCat("/q/", i), 1));
  Daemon& d = late.Start();
  CHECK(d.Value("/q/0") == "1");
  d.fake.hold = true;
  auto before = d.Send(Tx().Set("/before", 1));
  d.Settle();
  REQUIRE(d.fake.waiting.size() == 1);
  CHECK(d.Value("/q/0") == "1");
  auto queued = d.Send(Tx().Apply("/q/0", "(add 1)"));
  CHECK(d.stats().queued == 1);
  const int64_t evicted = d.stats().entries_evicted;
  for (int i = 1; i < 40; ++i) CHECK(d.Value(absl::StrCat("/q/", i)) == "1");
  CHECK(d.stats().entries_evicted > evicted + 30);
  d.fake.hold = false;
  d.fake.Decide();
  d.Settle();
  REQUIRE(queued->as<Committed>() != nullptr);
  CHECK(std::count(d.fake.asked.begin(), d.fake.asked.end(), "/q/0") == 2);
  CHECK(late.first.Value("/q/0") == "2");
}

TEST_CASE("store: what history, sleepers, watches by name and TTLs need is not dropped") {
  Options options = SmallCache();
  options.history_age_max = absl::Seconds(60);
  Late late(options);
  late.first.Must(Tx().Set("/slept", 1).Set("/watched", 1).Set("/plain", 1));
  late.first.Must(Tx().Create("/ttl", 1).Define(Ttl(absl::Hours(1))));
  Daemon& d = late.Start();
  AwaitRequest await;
  await.snapshot = late.store.version;
  await.reads = {"/slept"};
  absl::StatusOr<AwaitResult> woken = absl::UnknownError("asleep");
  d.engine.AwaitChange(await, [&](absl::StatusOr<AwaitResult> r) { woken = std::move(r); });
  auto sink = std::make_shared<Recorder>();
  WatchRequest watch;
  watch.selector.names = {"/watched"};
  watch.initial = true;
  REQUIRE(d.engine.Watch(watch, sink).ok());
  d.Settle();
  for (const char* name : {"/slept", "/watched", "/plain", "/ttl"}) d.Value(name);
  const Version v = d.Must(Tx().Set("/written", 1));
  d.Must(Tx().Set("/written", 2));
  late.loop.Advance(absl::Seconds(5));
  d.fake.asked.clear();
  for (const char* name : {"/slept", "/watched", "/ttl", "/written"}) d.Value(name);
  CHECK(d.fake.asked.empty());
  CHECK(d.Value("/written", v) == "1");
  d.Value("/plain");
  CHECK(d.fake.asked == std::vector<std::string>{"/plain"});
  late.first.Must(Tx().Set("/slept", 2).Set("/watched", 2));
  REQUIRE(woken.ok());
  CHECK(ToEdn(*woken->fresh[0].value) == "2");
  CHECK(sink->events.back() == absl::StrCat("commit ", late.store.version, " /watched:1->2"));
  // Past the history's age all but those may go.
  late.loop.Advance(absl::Seconds(120));
  CHECK(d.stats().entries == 2);  // /watched and /ttl
}

TEST_CASE("store: a listing's version outlives the entries that were dropped under it") {
  Pair p(SmallCache());
  const Version v = p.a.Must(Tx().Set("/x", 1));
  p.a.Must(Tx().Create("/q/a", 1));
  p.loop.Advance(absl::Seconds(5));
  CHECK(p.b.stats().entries == 0);
  CHECK(p.b.Do(Tx().At(v).List("/q/").Set("/y", 1))->as<Conflict>() != nullptr);
  CHECK(p.a.Do(Tx().At(v).List("/q/").Set("/y", 1))->as<Conflict>() != nullptr);
}

TEST_CASE("store: a directory without entries is forgotten once its listing is at the floor") {
  Entries entries(/*beside_store=*/true);
  const auto come_and_go = [&](const std::string& name, Version version) {
    Entry& entry = entries.FindOrAdd(name);
    entries.Install(&entry, {version, Value::Integer(1)}, /*was=*/false);
    entries.Drop(&entry);
  };
  come_and_go("/q/a", 5);
  CHECK(entries.cached_bytes() == 0);
  CHECK(entries.size() == 0);
  CHECK(entries.Listing("/q/") == 5);
  come_and_go("/q/b", 7);  // queued for 5, and changed since
  entries.SweepDirectories(4);
  CHECK(entries.Listing("/q/") == 7);
  entries.SweepDirectories(6);
  CHECK(entries.Listing("/q/") == 7);
  entries.SweepDirectories(7);
  CHECK(entries.FindDirectory("/q/") == nullptr);
  CHECK(entries.FindDirectory("/") == nullptr);
  // Below the listing floor nothing is asked for.
  entries.set_listing_floor(10);
  entries.AddLoaded("/q/a", Versioned{5, Value::Integer(1)}, 5);
  CHECK(entries.FindDirectory("/q/")->live == 1);
  entries.Drop(entries.Find("/q/a"));
  CHECK(entries.FindDirectory("/q/") == nullptr);
}

// ---- Watches, sleepers, TTLs, starts

TEST_CASE("store: a watch tells the value before if memory or the order does, and else that it is not known") {
  Late late;
  late.first.Must(Tx().Set("/a", 1).Set("/b", 1).Set("/c", 1).Set("/d", 1).Set("/e", 1));
  Daemon& d = late.Start();
  auto sink = std::make_shared<Recorder>();
  WatchRequest request;
  request.selector.prefixes = {"/"};
  REQUIRE(d.engine.Watch(request, sink).ok());
  d.Settle();
  sink->events.clear();
  d.Value("/b");
  late.first.Must(Tx().Set("/a", 2));
  late.first.Must(Tx().Set("/b", 2));
  late.store.tells_before = true;
  late.first.Must(Tx().Set("/c", 2));
  late.first.Must(Tx().Set("/new", 2));
  late.store.tells_before = false;
  late.first.Must(Tx().Delete("/d"));
  late.first.Must(Tx().Set("/a", 3));
  late.loop.Advance(kSettle);
  CHECK(sink->events == std::vector<std::string>{"commit 2 /a:unknown->2", "commit 3 /b:1->2", "commit 4 /c:1->2",
                                                 "commit 5 /new:absent->2", "commit 6 /d:unknown->absent",
                                                 "commit 7 /a:2->3"});
  // A definition alone leaves the value.
  sink->events.clear();
  late.first.Must(Tx().Put(Write::Change::kDefine, "/e").Define(Ttl(absl::Hours(1))));
  late.loop.Advance(kSettle);
  CHECK(sink->events == std::vector<std::string>{"commit 8 /e:1->absent"});  // as the recorder prints a change without a value
  CHECK(d.Value("/e") == "1");
}

TEST_CASE("store: a watch's initial entries come from the store, each once, at its reader's pace") {
  Late late;
  for (int i = 0; i < 300; ++i) late.first.Must(Tx().Set(absl::StrCat("/q/", 1000 + i), i));
  late.first.Must(Tx().Delete("/q/1001").Set("/n", 1).Set("/.once/x", 1));
  Daemon& d = late.Start();
  d.Must(Tx().Set("/.memory/m", 1));
  auto sink = std::make_shared<Recorder>();
  sink->room = 50;
  WatchRequest request;
  request.selector.names = {"/n", "/q/1000", "/none"};
  request.selector.prefixes = {"/q/", "/", "/.memory/"};
  request.initial = true;
  REQUIRE(d.engine.Watch(request, sink).ok());
  late.loop.Advance(absl::Seconds(5));
  const Version version = late.store.version;
  REQUIRE(sink->events.size() == 302);
  CHECK(std::set<std::string>(sink->events.begin(), sink->events.end()).size() == 302);
  CHECK(sink->events.front() == "initial /n=1");
  CHECK(sink->events.back() == absl::StrCat("synced ", version));
  CHECK(std::count(sink->events.begin(), sink->events.end(), "initial /.memory/m=1") == 1);
  late.first.Must(Tx().Set("/q/1002", 7));
  late.loop.Advance(kSettle);
  CHECK(sink->events.back() == absl::StrCat("commit ", version + 1, " /q/1002:2->7"));
}

TEST_CASE("store: initial entries that can't be had end the watch with a gap") {
  Late late;
  late.first.Must(Tx().Set("/q/a", 1));
  Daemon& d = late.Start();
  late.store.unreachable = true;
  auto sink = std::make_shared<Recorder>();
  WatchRequest request;
  request.selector.prefixes = {"/q/"};
  request.initial = true;
  REQUIRE(d.engine.Watch(request, sink).ok());
  late.loop.Advance(kSettle);
  CHECK(sink->events == std::vector<std::string>{absl::StrCat("gap ", late.store.version)});
}

// A watch of "/q/" whose version is chosen, while the store's names are being read.
std::shared_ptr<Recorder> WatchWhileListed(Late& late, Daemon& d) {
  late.store.load_takes = absl::Milliseconds(20);
  auto sink = std::make_shared<Recorder>();
  WatchRequest request;
  request.selector.prefixes = {"/q/"};
  request.initial = true;
  REQUIRE(d.engine.Watch(request, sink).ok());
  late.loop.Advance(absl::Milliseconds(5));
  return sink;
}

TEST_CASE("store: initial entries that another daemon changed before they were known end the watch with a gap") {
  Late late;
  late.first.Must(Tx().Set("/q/a", 1));
  Daemon& d = late.Start();
  const auto sink = WatchWhileListed(late, d);
  late.first.Send(Tx().Set("/q/a", 2));
  late.loop.Advance(absl::Milliseconds(100));
  CHECK(sink->events == std::vector<std::string>{"gap 2"});
}

TEST_CASE("store: initial entries that were swept before they were listed end the watch with a gap") {
  Late late;
  late.first.Must(Tx().Set("/q/a", 1).Set("/q/b", 1));
  Daemon& d = late.Start();
  const auto sink = WatchWhileListed(late, d);
  late.first.Send(Tx().Delete("/q/a"));
  late.loop.Advance(absl::Milliseconds(10));
  d.fake.Sweep();
  late.loop.Advance(absl::Milliseconds(100));
  CHECK(sink->events == std::vector<std::string>{"gap 2"});
}

TEST_CASE("store: AwaitChange knows what it sleeps on, wakes by the others' commits, and can be cancelled meanwhile") {
  Late late;
  const Version v = late.first.Must(Tx().Set("/a", 1));
  const Version w = late.first.Must(Tx().Set("/a", 2));
  Daemon& d = late.Start();
  const auto await = [&](Version snapshot, absl::StatusOr<AwaitResult>* result) {
    *result = absl::UnknownError("asleep");
    AwaitRequest request;
    request.snapshot = snapshot;
    request.reads = {"/a"};
    return d.engine.AwaitChange(request, [result](absl::StatusOr<AwaitResult> r) { *result = std::move(r); });
  };
  absl::StatusOr<AwaitResult> stale, cancelled, waits;
  await(v, &stale);
  const uint64_t handle = await(w, &cancelled);
  CHECK(handle != 0);
  d.engine.CancelAwait(handle);
  d.Settle();
  REQUIRE(stale.ok());
  CHECK(ToEdn(*stale->fresh[0].value) == "2");
  CHECK(absl::IsCancelled(cancelled.status()));
  await(w, &waits);
  d.Settle();
  CHECK(d.stats().sleepers == 1);
  CHECK(absl::IsUnknown(waits.status()));
  late.first.Must(Tx().Set("/a", 3));
  late.loop.Advance(kSettle);
  REQUIRE(waits.ok());
  CHECK(ToEdn(*waits->fresh[0].value) == "3");
}

TEST_CASE("store: a TTL runs from the load or the install, and one of the daemons expires the entry") {
  Late late;
  late.first.Must(Tx().Create("/t", 1).Define(Ttl(absl::Seconds(10))));
  late.loop.Advance(absl::Seconds(5));
  Daemon& d = late.Start();
  CHECK(d.Value("/t") == "1");
  late.loop.Advance(absl::Seconds(4));
  CHECK(d.Value("/t") == "1");
  late.loop.Advance(absl::Seconds(3));
  CHECK(d.Value("/t") == "absent");
  CHECK(late.first.Value("/t") == "absent");
  CHECK(late.store.order.back().record->changes.at(0).kind == EntryChange::Kind::kExpire);
  // The other's is not there any more when it would be due.
  late.loop.Advance(absl::Seconds(20));
  CHECK(late.store.version == 2);

  // Both know it from its install on, expire it at once, and one loses.
  late.first.Must(Tx().Create("/u", 1).Define(Ttl(absl::Seconds(10))));
  late.loop.Advance(absl::Seconds(30));
  CHECK(d.Value("/u") == "absent");
  int64_t expired = 0;
  for (const auto& ordered : late.store.order) {
    for (const EntryChange& change : ordered.record->changes) expired += static_cast<int64_t>(change.kind == EntryChange::Kind::kExpire);
  }
  CHECK(expired == 2);
  // A daemon that loads an entry expires it when its own time has passed.
  late.first.Must(Tx().Create("/v", 1).Define(Ttl(absl::Seconds(10))));
  Daemon third(&late.store, &late.loop, 3);
  CHECK(third.Value("/v") == "1");
}

TEST_CASE("store: a start is fed commits alone; what they touch is known, and their ids are") {
  Late late;
  late.first.Must(Tx().Set("/old", 1));
  late.first.Must(Tx().Id(9, 1, false, 1).Set("/a", 1));
  Version v = late.first.Must(Tx().Delete("/gone").Apply("/a", "(add 1)"));
  Daemon d(&late.store, &late.loop, 2, {}, 2);
  CHECK(d.Value("/a") == "2");
  CHECK(d.fake.loads == 0);
  auto again = d.Do(Tx().Id(9, 1, true, 1).Set("/a", 1));
  REQUIRE(again->as<Committed>() != nullptr);
  CHECK(again->as<Committed>()->version == 2);
  CHECK(d.Value("/old") == "1");
  CHECK(d.Must(Tx().At(v).Read("/old").Read("/gone").Set("/b", 1)) != 0);
  // Not all was fed, so what was listed before the start may have changed.
  CHECK(d.Do(Tx().At(1).List("/q/").Set("/b", 2))->as<Conflict>() != nullptr);
  CHECK(absl::IsFailedPrecondition(d.engine.TakeImageAt(0).status()));
}

// ---- All of it

// Two or three daemons move money between accounts, put names into a set and list, with caches too small for anything;
// sums, sets and results are those of the order, played one commit after the other.
void Play(uint32_t seed) {
  std::mt19937 random(seed);
  const auto draw = [&](uint32_t n) { return static_cast<int64_t>(random() % n); };
  ManualLoop loop;
  FakeStore store;
  constexpr int kAccounts = 8;
  Options options = SmallCache(draw(2) == 0 ? 1 : 4000);
  options.batches_in_flight_max = 1 + draw(3);
  if (draw(2) == 0) options.history_age_max = absl::Milliseconds(20);
  options.batch_transactions_max = 1 + draw(8);
  store.tells_before = draw(2) == 0;
  {
    Daemon bank(&store, &loop, 99, options);
    Tx open;
    for (int i = 0; i < kAccounts; ++i) open.Set(absl::StrCat("/bank/", i), 100);
    open.Put(Write::Change::kSet, "/set", *ReadEdn("#{}"));
    REQUIRE(bank.Must(open) != 0);
    loop.Advance(absl::Seconds(1));
    store.daemons.clear();
    // It lives to the end: timers point at it. What it holds is of no use to anybody.
    std::vector<std::unique_ptr<Daemon>> daemons;
    for (uint64_t i = 1; i <= 2 + seed % 2; ++i) daemons.push_back(std::make_unique<Daemon>(&store, &loop, i, options));

    struct Sent {
      std::shared_ptr<Outcome> outcome;
      int64_t added;  // to the set; -1: a transfer
    };
    std::vector<Sent> sent;
    int64_t lists = 0;
    int64_t next = 0;
    uint64_t next_id = 1;
    const auto send = [&](Daemon& d, Tx& tx, int64_t added) {
      tx.Id(next_id++, d.engine.GetStatus().installed, false, d.fake.self());
      sent.push_back({d.Send(tx), added});
    };
    for (int step = 0; step < 300; ++step) {
      Daemon& d = *daemons[static_cast<size_t>(draw(static_cast<uint32_t>(daemons.size())))];
      store.load_takes = absl::Milliseconds(draw(5));
      store.append_takes = absl::Milliseconds(draw(4));
      store.feed_takes = absl::Milliseconds(draw(6));
      const std::string from = absl::StrCat("/bank/", draw(kAccounts));
      const std::string to = absl::StrCat("/bank/", draw(kAccounts));
      switch (draw(7)) {
        case 0: {  // a transfer by what was read
          if (from == to) break;
          GetRequest get;
          get.names = {from, to};
          d.engine.Get(get, [&, from, to](absl::StatusOr<GetResult> result) {
            if (!result.ok()) return;
            const int64_t amount = 1 + draw(20);
            Tx tx;
            tx.At(result->snapshot).Read(from).Read(to);
            tx.Set(from, result->entries[0].value->integer() - amount).Set(to, result->entries[1].value->integer() + amount);
            send(d, tx, -1);
          });
          break;
        }
        case 1:
          if (from != to) send(d, Tx().Apply(from, "(add -3)").Apply(to, "(add 3)"), -1);
          break;
        case 2:
          send(d, Tx().Apply("/set", absl::StrCat("(conj ", next, ")")), next);
          ++next;
          break;
        case 3: {  // a name under a prefix, counted in the same commit: /count is what a listing finds
          ListRequest list;
          list.prefix = "/list/";
          list.count_only = true;
          d.engine.List(list, [&](absl::StatusOr<ListResult> result) {
            if (!result.ok()) return;
            ++lists;
            Tx tx;
            tx.At(result->snapshot).List("/list/").Set("/count", result->count + 1);
            tx.Set(absl::StrCat("/list/", result->count), 1);
            send(d, tx, -1);
          });
          break;
        }
        case 4:
          send(d, Tx().Create(absl::StrCat("/once/", draw(5)), step), -1);
          break;
        case 5:
          send(d, Tx().Delete(absl::StrCat("/once/", draw(5))), -1);
          break;
        case 6:
          store.unreachable = !store.unreachable && draw(6) == 0;
          if (draw(6) == 0) d.fake.CloseWriter(draw(2) == 0 ? FakeDaemon::UnderWay::kCommitted : FakeDaemon::UnderWay::kNot);
          break;
      }
      loop.Advance(absl::Milliseconds(draw(4)));
      if (draw(40) == 0) loop.Advance(absl::Seconds(1));
    }
    store.unreachable = false;
    loop.Advance(absl::Seconds(10));

    int64_t committed = 0;
    std::set<int64_t> added;
    for (const Sent& one : sent) {
      INFO("seed " << seed);
      REQUIRE(one.outcome->answers == 1);
      if (one.outcome->as<Committed>() == nullptr) continue;
      ++committed;
      if (one.added >= 0) added.insert(one.added);
    }
    CHECK(static_cast<int64_t>(store.order.size()) == committed + 1);
    // The reference: after each commit the sum holds and the count is what is listed.
    std::map<std::string, std::optional<Value>> model;
    for (const auto& ordered : store.order) {
      for (const EntryChange& change : ordered.record->changes) model[change.name] = change.whole->value;
      int64_t sum = 0;
      for (int i = 0; i < kAccounts; ++i) sum += model[absl::StrCat("/bank/", i)]->integer();
      REQUIRE(sum == 100 * kAccounts);
      int64_t listed = 0;
      for (const auto& [name, value] : model) listed += static_cast<int64_t>(UnderPrefix(name, "/list/") && value.has_value());
      REQUIRE(listed == (model.count("/count") == 0 ? 0 : model["/count"]->integer()));
    }
    std::string set = "#{";
    for (int64_t i : added) absl::StrAppend(&set, set.size() > 2 ? " " : "", i);
    CHECK(*model["/set"] == *ReadEdn(set + "}"));
    // Every daemon answers as the order does.
    int64_t evicted = 0;
    for (auto& daemon : daemons) {
      for (const auto& [name, value] : model) CHECK(daemon->Value(name) == (value.has_value() ? ToEdn(*value) : "absent"));
      evicted += daemon->stats().entries_evicted;
    }
    CHECK(evicted > 0);
    CHECK(committed > 40);
    CHECK(lists > 0);
  }
}

TEST_CASE("store: daemons that share it keep sums, sets and listings, while they forget everything all the time") {
  for (uint32_t seed = 1; seed <= 100; ++seed) Play(seed);
}

}  // namespace
}  // namespace stm::engine
