#include <catch2/catch.hpp>

#include "engine/alarm.h"
#include "engine/error.h"
#include "stm/v1/common.pb.h"
#include "tests/engine/harness.h"

namespace stm::engine {
namespace {

TEST_CASE("commit: a write under a newer version aborts, and the answer has the fresh value") {
  Harness h;
  Version v1 = h.Must(Tx().Set("/a", 1));
  Version v2 = h.Must(Tx().Set("/a", 2));
  auto outcome = h.Do(Tx().At(v1).Read("/a").Set("/a", 9));
  REQUIRE(outcome->as<Conflict>() != nullptr);
  CHECK(outcome->as<Conflict>()->causes[0].name == "/a");
  CHECK(outcome->as<Conflict>()->causes[0].version == v2);
  CHECK(ToEdn(*outcome->as<Conflict>()->fresh[0].value) == "2");
  CHECK(h.Value("/a") == "2");
  CHECK(h.Must(Tx().At(v2).Read("/a").Set("/a", 9)) != 0);
  CHECK(h.Value("/a") == "9");
  CHECK(h.Value("/a", v2) == "2");
}

TEST_CASE("commit: a blind set is not checked; an absent read that appeared is") {
  Harness h;
  Version v1 = h.Must(Tx().Set("/a", 1));
  CHECK(h.Must(Tx().Set("/b", 1)) != 0);
  CHECK(h.Must(Tx().At(v1).Set("/b", 2)) != 0);
  CHECK(h.Do(Tx().At(v1).Read("/b").Set("/c", 1))->as<Conflict>() != nullptr);
}

TEST_CASE("commit: serializable refuses write skew, snapshot isolation lets it through unless ensured") {
  Harness h;
  Version v = h.Must(Tx().Set("/a", 1).Set("/b", 1));
  CHECK(h.Must(Tx().Snapshot().At(v).Read("/a").Read("/b").Set("/a", 0)) != 0);
  CHECK(h.Must(Tx().Snapshot().At(v).Read("/a").Read("/b").Set("/b", 0)) != 0);
  v = h.Must(Tx().Set("/a", 1).Set("/b", 1));
  CHECK(h.Must(Tx().At(v).Read("/a").Read("/b").Set("/a", 0)) != 0);
  CHECK(h.Do(Tx().At(v).Read("/a").Read("/b").Set("/b", 0))->as<Conflict>() != nullptr);
  CHECK(h.Do(Tx().Snapshot().At(v).Ensure("/a").Set("/b", 0))->as<Conflict>() != nullptr);
  CHECK(h.Do(Tx().Snapshot().At(v).Set("/a", 5))->as<Conflict>() != nullptr);
}

TEST_CASE("lists: a create or delete under the prefix is a conflict, a changed value is not") {
  Harness h;
  Version v = h.Must(Tx().Set("/q/a", 1));
  CHECK(h.Must(Tx().Set("/q/a", 2)) != 0);
  CHECK(h.Must(Tx().At(v).List("/q/").Set("/x", 1)) != 0);
  CHECK(h.Must(Tx().Create("/q/deep/b", 1)) != 0);
  CHECK(h.Do(Tx().At(v).List("/q/").Set("/x", 2))->as<Conflict>() != nullptr);
  Version w = h.coordinator.version;
  CHECK(h.Must(Tx().At(w).List("/q/").Set("/x", 3)) != 0);
  w = h.coordinator.version;
  CHECK(h.Must(Tx().Delete("/q/a")) != 0);
  CHECK(h.Do(Tx().At(w).List("/").Set("/y", 2))->as<Conflict>() != nullptr);
}

TEST_CASE("writes: create keeps what is there, delete then create in one commit is a new entry") {
  Harness h;
  auto outcome = h.Do(Tx().Create("/a", 1));
  REQUIRE(outcome->as<Committed>() != nullptr);
  CHECK(ToEdn(*outcome->as<Committed>()->results[0]) == "1");
  outcome = h.Do(Tx().Create("/a", 2));
  CHECK(ToEdn(*outcome->as<Committed>()->results[0]) == "1");
  CHECK(h.coordinator.log.back()->changes.empty());
  CHECK(h.Must(Tx().Delete("/a").Put(Write::Change::kCreate, "/a", Value::Integer(3), EntryKind::kAtom)) != 0);
  CHECK(h.coordinator.log.back()->changes[0].kind == EntryChange::Kind::kCreate);
  CHECK(h.coordinator.log.back()->changes[0].entry_kind == EntryKind::kAtom);
  auto rejected = h.Do(Tx().Set("/a", 4));
  REQUIRE(rejected->as<Rejected>() != nullptr);
  CHECK(rejected->as<Rejected>()->rejection.cause == RejectCause::kKind);
}

TEST_CASE("operations: applied at the commit point, one after the other, rejected whole") {
  Harness h;
  Version v = h.Must(Tx().Set("/n", 1));
  CHECK(h.Must(Tx().Apply("/n", "(add 2)")) != 0);
  auto outcome = h.Do(Tx().At(v).Apply("/n", "(add 10)").Apply("/n", "(add 1)"));
  REQUIRE(outcome->as<Committed>() != nullptr);
  CHECK(ToEdn(*outcome->as<Committed>()->results[0]) == "13");
  CHECK(ToEdn(*outcome->as<Committed>()->results[1]) == "14");
  CHECK(h.coordinator.log.back()->changes[0].operation == nullptr);
  auto rejected = h.Do(Tx().Set("/other", 1).Apply("/n", "(append \"x\")"));
  REQUIRE(rejected->as<Rejected>() != nullptr);
  CHECK(rejected->as<Rejected>()->write_index == 1);
  CHECK(h.Value("/other") == "absent");
  rejected = h.Do(Tx().Apply("/none", "(add 1)"));
  CHECK(rejected->as<Rejected>()->rejection.cause == RejectCause::kAbsent);
}

TEST_CASE("atoms: an atom changes alone") {
  Harness h;
  CHECK(h.Must(Tx().Put(Write::Change::kSet, "/atom", Value::Integer(1), EntryKind::kAtom)) != 0);
  CHECK(h.Must(Tx().Apply("/atom", "(add 1)", EntryKind::kAtom)) != 0);
  auto both = h.Do(Tx().Apply("/atom", "(add 1)", EntryKind::kAtom).Set("/ref", 1));
  REQUIRE(both->as<Rejected>() != nullptr);
  CHECK(both->as<Rejected>()->rejection.cause == RejectCause::kKind);
  CHECK(h.Value("/atom") == "2");
}

TEST_CASE("validators: enforced at commit, also on operations; a new rule checks the present value") {
  Harness h;
  auto definition = std::make_shared<Definition>();
  definition->validator = *Validator::Parse(*ReadEdn("[:and :int [:min 0]]"));
  CHECK(h.Must(Tx().Create("/n", 1).Define(definition)) != 0);
  auto rejected = h.Do(Tx().Apply("/n", "(add -2)"));
  REQUIRE(rejected->as<Rejected>() != nullptr);
  CHECK(rejected->as<Rejected>()->rejection.cause == RejectCause::kValidator);
  CHECK(h.Value("/n") == "1");
  CHECK(h.Must(Tx().Set("/m", -5)) != 0);
  CHECK(h.Do(Tx().Put(Write::Change::kDefine, "/m").Define(definition))->as<Rejected>() != nullptr);
  CHECK(h.Must(Tx().Set("/m", 5)) != 0);
  CHECK(h.Must(Tx().Put(Write::Change::kDefine, "/m").Define(definition)) != 0);
  CHECK(h.Do(Tx().Set("/m", -1))->as<Rejected>() != nullptr);
}

TEST_CASE("ids: a resend has the first verdict, also while it is undecided; another writer's is not executed") {
  Harness h;
  h.coordinator.hold = true;
  auto first = h.Send(Tx().Set("/a", 0));
  auto one = h.Send(Tx().Id(1).Apply("/a", "(add 1)"));
  auto again = h.Send(Tx().Id(1, 0, true).Apply("/a", "(add 1)"));
  h.coordinator.Decide(AppendResult::Outcome::kCommitted);
  h.loop.Turn();
  CHECK(!one->done());
  h.coordinator.Decide(AppendResult::Outcome::kCommitted);
  h.loop.Turn();
  h.coordinator.hold = false;
  REQUIRE(one->as<Committed>() != nullptr);
  REQUIRE(again->as<Committed>() != nullptr);
  CHECK(again->as<Committed>()->version == one->as<Committed>()->version);
  CHECK(ToEdn(*again->as<Committed>()->results[0]) == "1");
  auto later = h.Do(Tx().Id(1, 0, true).Apply("/a", "(add 1)"));
  CHECK(later->as<Committed>()->version == one->as<Committed>()->version);
  CHECK(h.Value("/a") == "1");

  CHECK(h.Do(Tx().Id(2, 0, false, 4).Apply("/a", "(add 1)"))->as<NotCommitted>() != nullptr);
  CHECK(h.Do(Tx().Id(2, 0, true, 4).Apply("/a", "(add 1)"))->as<NotCommitted>() != nullptr);
  CHECK(h.Do(Tx().Id(1, 0, true, 4).Apply("/a", "(add 1)"))->as<Committed>() != nullptr);
  CHECK(h.Value("/a") == "1");
}

TEST_CASE("ids: refusals are kept, and a conflict stays a conflict on resend") {
  Harness h;
  Version v = h.Must(Tx().Set("/a", 1));
  h.Must(Tx().Set("/a", 2));
  CHECK(h.Do(Tx().Id(9).At(v).Read("/a").Set("/b", 1))->as<Conflict>() != nullptr);
  CHECK(h.Do(Tx().Id(9, 0, true).At(v).Set("/b", 1))->as<Conflict>() != nullptr);
  CHECK(h.Value("/b") == "absent");
}

TEST_CASE("ids: GetOutcome of one that never came makes it never come") {
  Harness h;
  auto outcome = std::make_shared<Outcome>();
  CommitId id;
  id.transaction_id = {1, 33};
  id.writer = 5;
  h.engine.GetOutcome(id, [outcome](std::shared_ptr<const Verdict> v, Version) { outcome->verdict = v; });
  h.loop.Turn();
  CHECK(outcome->as<NotCommitted>() != nullptr);
  CHECK(h.Do(Tx().Id(33).Set("/late", 1))->as<NotCommitted>() != nullptr);
  CHECK(h.Value("/late") == "absent");
}

TEST_CASE("ids: below the floor an unknown id is too old") {
  Options options;
  options.id_table_bytes_max = 200 * 1024;
  Harness h(options);
  h.Must(Tx().Id(1).Set("/a", 1));
  for (uint64_t i = 2; i < 8000; ++i) h.Must(Tx().Id(i, h.coordinator.version).Set("/a", static_cast<int64_t>(i)));
  auto old = h.Do(Tx().Id(1, 0, true).Set("/a", 1));
  REQUIRE(old->as<IdTooOld>() != nullptr);
  CHECK(old->as<IdTooOld>()->floor > 1);
  CHECK(h.engine.GetStatus().stats.id_table_bytes <= options.id_table_bytes_max);
  CHECK(h.Do(Tx().Id(7999, 7990, true).Set("/a", 1))->as<Committed>()->version == 7999);
}

TEST_CASE("ids: refusals alone can't fill the table, and new ids go on") {
  Options options;
  options.id_table_bytes_max = 100 * 1024;
  Harness h(options);
  h.Must(Tx().Set("/a", 1));
  for (uint64_t i = 2; i < 5000; ++i) {
    auto outcome = h.Do(Tx().Id(i, h.engine.GetStatus().installed).Apply("/a", "(append \"x\")"));
    REQUIRE(outcome->as<Rejected>() != nullptr);
  }
  CHECK(h.engine.GetStatus().stats.id_table_bytes <= 2 * options.id_table_bytes_max);
}

TEST_CASE("lost batch: only those whose own reads moved conflict, operations are applied again") {
  Options options;
  options.batches_in_flight_max = 3;
  Harness h(options);
  Version v = h.Must(Tx().Set("/a", 1).Set("/b", 1).Set("/n", 0));
  h.coordinator.hold = true;
  auto reads_a = h.Send(Tx().At(v).Read("/a").Set("/x", 1));
  auto reads_b = h.Send(Tx().At(v).Read("/b").Set("/b", 2));
  auto adds = h.Send(Tx().Apply("/n", "(add 1)"));
  auto stale_b = h.Send(Tx().At(v).Read("/b").Set("/y", 1));  // hangs on a batch that is not installed
  CHECK(h.coordinator.waiting.size() == 3);
  h.loop.Turn();
  CHECK(!stale_b->done());
  // Another daemon changes /a: the first batch is lost, and those behind it with it.
  h.coordinator.Others("/a", Value::Integer(7));
  h.coordinator.Others("/n", Value::Integer(10));
  h.coordinator.Decide(AppendResult::Outcome::kLost);
  h.coordinator.waiting.clear();
  h.coordinator.hold = false;
  h.loop.Turn();
  CHECK(reads_a->as<Conflict>() != nullptr);
  CHECK(reads_b->as<Committed>() != nullptr);
  CHECK(stale_b->as<Conflict>() != nullptr);
  REQUIRE(adds->as<Committed>() != nullptr);
  CHECK(ToEdn(*adds->as<Committed>()->results[0]) == "11");
  CHECK(h.Value("/b") == "2");
  CHECK(h.Value("/x") == "absent");
  CHECK(h.Value("/y") == "absent");
}

TEST_CASE("no space: the batch is refused, nothing of it stays, and later commits go through") {
  Harness h;
  h.coordinator.hold = true;
  auto refused = h.Send(Tx().Id(1).Create("/new", 1));
  auto behind = h.Send(Tx().Id(2).Set("/b", 1));
  h.coordinator.Decide(AppendResult::Outcome::kNoSpace);
  h.loop.Turn();
  REQUIRE(refused->as<absl::Status>() != nullptr);
  CHECK(absl::IsResourceExhausted(*refused->as<absl::Status>()));
  h.coordinator.Decide(AppendResult::Outcome::kCommitted);
  h.loop.Turn();
  h.coordinator.hold = false;
  CHECK(behind->as<Committed>() != nullptr);
  CHECK(h.Value("/new") == "absent");
  CHECK(h.Do(Tx().Id(1, 0, true).Create("/new", 1))->as<NotCommitted>() != nullptr);
}

TEST_CASE("history: a read below H is refused, at H it is served") {
  Options options;
  options.history_bytes_max = 2000;
  Harness h(options);
  Version first = h.Must(Tx().Set("/a", 1));
  for (int i = 2; i < 50; ++i) h.Must(Tx().Set("/a", i));
  auto old = h.Value("/a", first);
  CHECK(old.find("OUT_OF_RANGE") == 0);
  Version mark = h.engine.GetStatus().history_mark;
  CHECK(mark > first);
  CHECK(h.Value("/a", mark) == absl::StrCat(mark));
}

TEST_CASE("pending: a read after a commute shows it applied and changes nothing") {
  Harness h;
  h.Must(Tx().Set("/n", 1));
  GetRequest request;
  request.names = {"/n"};
  Tx tx;
  tx.Apply("/n", "(add 5)");
  request.pending = std::move(tx.t->writes);
  auto result = h.Get(std::move(request));
  REQUIRE(result.ok());
  CHECK(ToEdn(*result->entries[0].value) == "6");
  CHECK(h.Value("/n") == "1");
}

AwaitRequest Awaiting(Version snapshot, std::vector<std::string> reads) {
  AwaitRequest request;
  request.snapshot = snapshot;
  request.reads = std::move(reads);
  return request;
}

TEST_CASE("retry: a sleeper wakes on a change of what it read, sixteen at a time") {
  Harness h;
  Version v = h.Must(Tx().Set("/q", 0));
  int woken = 0;
  for (int i = 0; i < 40; ++i) {
    h.engine.AwaitChange(Awaiting(v, {"/q"}), [&](absl::StatusOr<AwaitResult> r) { woken += r.ok(); });
  }
  h.loop.Turn();
  CHECK(woken == 0);
  h.Must(Tx().Set("/other", 1));
  CHECK(woken == 0);
  h.Must(Tx().Set("/q", 1));
  CHECK(woken == 16);
  h.loop.Advance(absl::Milliseconds(10));
  CHECK(woken == 32);
  h.loop.Advance(absl::Milliseconds(10));
  CHECK(woken == 40);
}

TEST_CASE("retry: of 1,000 asleep on a queue a job wakes sixteen: when it is taken, the queue is as they saw it") {
  Harness h;
  Version v = h.Must(Tx().Set("/q", 0));
  int woken = 0;
  for (int i = 0; i < 1000; ++i) {
    h.engine.AwaitChange(Awaiting(v, {"/q"}), [&](absl::StatusOr<AwaitResult> r) { woken += r.ok(); });
  }
  for (int job = 1; job <= 3; ++job) {
    h.Must(Tx().Set("/q", job));
    CHECK(woken == 16 * job);
    // While they are out, another job wakes nobody else.
    h.Must(Tx().Set("/q", 10 + job));
    CHECK(woken == 16 * job);
    h.Must(Tx().Set("/q", 0));
    h.loop.Advance(absl::Seconds(1));
    CHECK(woken == 16 * job);
  }
  // A job that nobody takes wakes all in the end, a value that is no other nobody.
  h.Must(Tx().Set("/q", 0));
  h.loop.Advance(absl::Seconds(1));
  CHECK(woken == 48);
  h.Must(Tx().Set("/q", 4));
  h.loop.Advance(absl::Milliseconds(580));
  CHECK(woken == 992);
  h.loop.Advance(absl::Milliseconds(10));
  CHECK(woken == 1000);
}

TEST_CASE("retry: the next are woken when all that were have committed or sleep again, not when they conflict") {
  Harness h;
  Version v = h.Must(Tx().Set("/q", 0));
  int woken = 0;
  const auto sleep = [&](Version at) {
    h.engine.AwaitChange(Awaiting(at, {"/q"}), [&](absl::StatusOr<AwaitResult> r) { woken += r.ok(); });
    h.loop.Turn();
  };
  for (int i = 0; i < 40; ++i) sleep(v);
  Version one = h.Must(Tx().Set("/q", 1));
  CHECK(woken == 16);
  Version two = h.Must(Tx().At(one).Read("/q").Set("/q", 2));
  for (int i = 0; i < 15; ++i) {
    CHECK(h.Do(Tx().At(one).Read("/q").Set("/q", 3))->as<Conflict>() != nullptr);
    CHECK(woken == 16);
  }
  // The winner too: it came back once.
  for (int i = 0; i < 16; ++i) {
    CHECK(woken == 16);
    sleep(two);
    // Nobody else is woken while some come back now and then.
    if (i < 15) h.loop.Advance(absl::Milliseconds(10));
  }
  CHECK(woken == 32);
  // Of these nobody does.
  h.loop.Advance(absl::Milliseconds(20));
  CHECK(woken == 40);
}

TEST_CASE("retry: who slept on another value is woken, in order of arrival, whatever the others saw") {
  Harness h;
  std::vector<int> woken;
  const auto sleep = [&](int who, Version at) {
    AwaitRequest request = Awaiting(at, {"/q", "/q"});
    request.lists = {"/d/"};
    h.engine.AwaitChange(std::move(request), [&woken, who](absl::StatusOr<AwaitResult> r) {
      if (r.ok()) woken.push_back(who);
    });
  };
  Version absent = h.Must(Tx().Set("/other", 1));
  for (int i = 0; i < 17; ++i) sleep(i, absent);
  Version one = h.Must(Tx().Set("/q", 1));
  CHECK(woken.size() == 16);
  sleep(17, one);
  // Absent again: 16 saw that, 17 did not.
  h.Must(Tx().Delete("/q"));
  CHECK(woken.size() == 17);
  CHECK(woken.back() == 17);
  h.loop.Advance(absl::Seconds(1));
  CHECK(woken.size() == 17);
  // A listing is another whenever something under it came or went.
  h.Must(Tx().Set("/d/a", 1));
  h.loop.Turn();
  CHECK(woken.back() == 16);
}

TEST_CASE("retry: each sleeper's deadline is its own, also when others had earlier ones and woke") {
  Harness h;
  Version v = h.Must(Tx().Set("/a", 0).Set("/b", 0));
  std::vector<std::string> ends;
  const auto sleep = [&](const char* name, int64_t seconds) {
    AwaitRequest request = Awaiting(v, {name});
    request.deadline = h.loop.Now() + absl::Seconds(seconds);
    h.engine.AwaitChange(std::move(request), [&ends, name](absl::StatusOr<AwaitResult> r) {
      ends.push_back(absl::StrCat(name, " ", absl::StatusCodeToString(r.status().code())));
    });
  };
  sleep("/a", 30);
  sleep("/b", 10);
  sleep("/a", 20);
  h.Must(Tx().Set("/b", 1));
  h.loop.Advance(absl::Seconds(19));
  CHECK(ends == std::vector<std::string>{"/b OK"});
  h.loop.Advance(absl::Seconds(1));
  CHECK(ends.size() == 2);
  h.loop.Advance(absl::Seconds(10));
  CHECK(ends == std::vector<std::string>{"/b OK", "/a DEADLINE_EXCEEDED", "/a DEADLINE_EXCEEDED"});
}

TEST_CASE("retry: who goes to sleep gives its reservation up") {
  Harness h;
  Version v = h.Must(Tx().Set("/q", 0));
  h.Must(Tx().Set("/q", 1));
  auto stale = h.Do(Tx().At(v).Run(3, absl::Milliseconds(5)).Read("/q").Set("/q", 9));
  REQUIRE(stale->as<Conflict>() != nullptr);
  auto waits = h.Do(Tx().Apply("/q", "(add 1)"));
  CHECK(!waits->done());
  AwaitRequest request = Awaiting(stale->as<Conflict>()->snapshot, {"/q"});
  request.reservation = stale->as<Conflict>()->reservation;
  int woken = 0;
  h.engine.AwaitChange(std::move(request), [&](absl::StatusOr<AwaitResult> r) { woken += r.ok(); });
  h.loop.Turn();
  CHECK(waits->as<Committed>() != nullptr);
  CHECK(woken == 1);
}

TEST_CASE("alarm: it rings once for all that it was set to, and leaves no timer that rings again") {
  ManualLoop loop;
  int rings = 0;
  const absl::Duration from = loop.Now();
  std::vector<absl::Duration> due = {from + absl::Seconds(10), from + absl::Seconds(20)};
  std::unique_ptr<Alarm> alarm;
  alarm = std::make_unique<Alarm>(&loop, [&] {
    ++rings;
    while (!due.empty() && due.front() <= loop.Now()) due.erase(due.begin());
    alarm->Set(due.empty() ? absl::InfiniteDuration() : due.front());
  });
  alarm->Set(from + absl::Seconds(20));
  alarm->Set(from + absl::Seconds(10));
  alarm->Set(from + absl::Seconds(15));
  loop.Advance(absl::Seconds(10));
  CHECK(rings == 1);
  loop.Advance(absl::Seconds(9));
  CHECK(rings == 1);
  loop.Advance(absl::Seconds(100));
  CHECK(rings == 2);
  alarm->Set(loop.Now());
  loop.Advance(absl::ZeroDuration());
  CHECK(rings == 3);
}

TEST_CASE("retry: with nothing read it is an error; at its deadline it says so; a cancel answers") {
  Harness h;
  absl::Status status;
  AwaitRequest request;
  h.engine.AwaitChange(request, [&](absl::StatusOr<AwaitResult> r) { status = r.status(); });
  h.loop.Turn();
  CHECK(absl::IsInvalidArgument(status));
  request.reads = {"/a"};
  request.deadline = h.loop.Now() + absl::Seconds(1);
  h.engine.AwaitChange(request, [&](absl::StatusOr<AwaitResult> r) { status = r.status(); });
  h.loop.Advance(absl::Seconds(2));
  CHECK(absl::IsDeadlineExceeded(status));
  request.deadline = absl::InfiniteDuration();
  uint64_t handle = h.engine.AwaitChange(request, [&](absl::StatusOr<AwaitResult> r) { status = r.status(); });
  h.engine.CancelAwait(handle);
  h.loop.Turn();
  CHECK(absl::IsCancelled(status));
}

TEST_CASE("reservations: from the third run younger ones wait, and the next in line gets the fresh value") {
  Harness h;
  Version v = h.Must(Tx().Set("/hot", 0));
  h.Must(Tx().Set("/hot", 1));
  auto stale = h.Do(Tx().At(v).Run(3, absl::Milliseconds(5)).Read("/hot").Set("/hot", 9));
  REQUIRE(stale->as<Conflict>() != nullptr);
  uint64_t reservation = stale->as<Conflict>()->reservation;
  CHECK(reservation != 0);
  CHECK(stale->as<Conflict>()->reserved_for >= absl::Milliseconds(20));
  Version now = stale->as<Conflict>()->snapshot;
  // Younger ones wait: stale, fresh or blind.
  auto younger = h.Do(Tx().At(now).Read("/hot").Set("/hot", 5));
  auto second = h.Do(Tx().At(now).Read("/hot").Set("/hot", 6));
  CHECK(!younger->done());
  auto elsewhere = h.Do(Tx().Set("/cold", 1));
  CHECK(elsewhere->as<Committed>() != nullptr);
  auto holder = h.Do(Tx().At(now).Run(4, absl::Milliseconds(6), reservation).Read("/hot").Set("/hot", 9));
  REQUIRE(holder->as<Committed>() != nullptr);
  REQUIRE(younger->as<Conflict>() != nullptr);
  CHECK(ToEdn(*younger->as<Conflict>()->fresh[0].value) == "9");
  CHECK(younger->as<Conflict>()->reservation != 0);
  CHECK(!second->done());
  // Its holder never comes back: the line moves on after the time.
  h.loop.Advance(absl::Seconds(2));
  CHECK(second->as<Conflict>() != nullptr);
}

TEST_CASE("reservations: one whose run goes to sleep ends, and the next in line is told at once") {
  Harness h;
  Version v = h.Must(Tx().Set("/queue", 0));
  h.Must(Tx().Set("/queue", 1));
  auto stale = h.Do(Tx().At(v).Run(3, absl::Milliseconds(5)).Read("/queue").Set("/queue", 9));
  REQUIRE(stale->as<Conflict>() != nullptr);
  auto younger = h.Do(Tx().At(stale->as<Conflict>()->snapshot).Read("/queue").Set("/queue", 5));
  CHECK(!younger->done());
  AwaitRequest request;
  request.snapshot = stale->as<Conflict>()->snapshot;
  request.reads = {"/queue"};
  request.reservation = stale->as<Conflict>()->reservation;
  bool woken = false;
  h.engine.AwaitChange(std::move(request), [&](absl::StatusOr<AwaitResult> r) { woken = r.ok(); });
  h.loop.Turn();
  CHECK(younger->as<Committed>() != nullptr);
  CHECK(h.engine.GetStatus().stats.in_line == 0);
  // It slept, and its own snapshot tells that there is a change.
  CHECK(woken);
}

TEST_CASE("reservations: blind operations waiting for one all pass when it ends") {
  Harness h;
  Version v = h.Must(Tx().Set("/hot", 0));
  h.Must(Tx().Set("/hot", 1));
  auto stale = h.Do(Tx().At(v).Run(3, absl::ZeroDuration()).Read("/hot").Set("/hot", 9));
  uint64_t reservation = stale->as<Conflict>()->reservation;
  std::vector<std::shared_ptr<Outcome>> adds;
  for (int i = 0; i < 5; ++i) adds.push_back(h.Do(Tx().Apply("/hot", "(add 1)")));
  CHECK(!adds[0]->done());
  CHECK(h.engine.GetStatus().stats.in_line == 5);
  h.engine.ReleaseReservation(reservation);
  h.loop.Turn();
  for (auto& add : adds) CHECK(add->as<Committed>() != nullptr);
  CHECK(h.Value("/hot") == "6");
}

TEST_CASE("watch: initial entries, then each commit once, in order, with what was before") {
  Harness h;
  h.Must(Tx().Set("/c/a", 1).Set("/d", 1));
  auto sink = std::make_shared<Recorder>();
  WatchRequest request;
  request.selector.prefixes = {"/c/"};
  request.initial = true;
  REQUIRE(h.engine.Watch(request, sink).ok());
  h.loop.Turn();
  h.Must(Tx().Set("/c/a", 2).Set("/d", 2).Set("/c/b", 1));
  h.Must(Tx().Set("/d", 3));
  h.Must(Tx().Delete("/c/a"));
  CHECK(sink->events == std::vector<std::string>{"initial /c/a=1", "synced 1", "commit 2 /c/a:1->2 /c/b:absent->1",
                                                 "commit 4 /c/a:2->absent"});
  sink->events.clear();
  h.loop.Advance(absl::Seconds(21));
  REQUIRE(!sink->events.empty());
  CHECK(sink->events.back() == "progress 4");
}

TEST_CASE("watch: resumes after a version, at the reader's pace, and gaps when history is gone") {
  Options options;
  options.history_bytes_max = 100 * 1000;
  Harness h(options);
  for (int i = 1; i <= 20; ++i) h.Must(Tx().Set("/a", i));
  auto sink = std::make_shared<Recorder>();
  sink->room = 0;
  WatchRequest request;
  request.selector.names = {"/a"};
  request.after = 5;
  REQUIRE(h.engine.Watch(request, sink).ok());
  h.loop.Turn();
  CHECK(sink->events == std::vector<std::string>{"synced 5"});
  h.Must(Tx().Set("/a", 21));
  sink->room = 1000;
  h.loop.Advance(absl::Milliseconds(20));
  CHECK(sink->events.size() == 17);
  CHECK(sink->events[1] == "commit 6 /a:5->6");
  CHECK(sink->events.back() == "commit 21 /a:20->21");
  h.Must(Tx().Set("/a", 22));
  CHECK(sink->events.back() == "commit 22 /a:21->22");

  for (int i = 0; i < 1000; ++i) h.Must(Tx().Set("/a", i));
  auto late = std::make_shared<Recorder>();
  REQUIRE(h.engine.Watch(request, late).ok());
  h.loop.Turn();
  CHECK(late->events == std::vector<std::string>{absl::StrCat("gap ", h.coordinator.version)});
  auto never = std::make_shared<Recorder>();
  request.after = h.coordinator.version + 100;
  REQUIRE(h.engine.Watch(request, never).ok());
  h.loop.Turn();
  CHECK(never->events[0].find("gap") == 0);
}

TEST_CASE("watch: a reader that is too far behind is dropped") {
  Harness h;
  auto sink = std::make_shared<Recorder>();
  sink->keep = false;
  REQUIRE(h.engine.Watch({}, sink).ok());
  h.loop.Turn();
  h.Must(Tx().Set("/a", 1));
  h.Must(Tx().Set("/a", 2));
  CHECK(sink->events.size() == 2);
  CHECK(h.engine.GetStatus().stats.watches == 0);
  CHECK(h.engine.GetStatus().stats.watches_cut == 1);
}

TEST_CASE("ttl: expires by a commit, never early, and each write starts it again") {
  Harness h;
  auto definition = std::make_shared<Definition>();
  definition->ttl = absl::Seconds(10);
  h.Must(Tx().Create("/lease", 1).Define(definition));
  h.loop.Advance(absl::Seconds(9));
  h.Must(Tx().Set("/lease", 2));
  h.loop.Advance(absl::Seconds(9));
  CHECK(h.Value("/lease") == "2");
  auto sink = std::make_shared<Recorder>();
  REQUIRE(h.engine.Watch({}, sink).ok());
  h.loop.Advance(absl::Seconds(2));
  CHECK(h.Value("/lease") == "absent");
  CHECK(sink->events.back() == "commit 3 /lease:2->expired");
  CHECK(h.coordinator.log.back()->changes[0].kind == EntryChange::Kind::kExpire);
}

TEST_CASE("memory entries: take part in transactions, and never reach the log") {
  Harness h;
  Version v = h.Must(Tx().Set("/.memory/m", 1).Set("/a", 1));
  CHECK(h.coordinator.log.back()->changes.size() >= 1);
  for (auto& record : h.coordinator.log) {
    // The engine adds them to what is remembered only after the append; the harness shares the object, so look at the
    // order: durable ones first.
    CHECK(record->changes[0].name == "/a");
  }
  CHECK(h.Value("/.memory/m") == "1");
  CHECK(h.Must(Tx().At(v).Read("/.memory/m").Set("/.memory/m", 2)) != 0);
  CHECK(h.Do(Tx().At(v).Read("/.memory/m").Set("/a", 2))->as<Conflict>() != nullptr);
}

TEST_CASE("bounds: too many entries, too large a value, and a deadline that has passed change nothing") {
  Options options;
  options.transaction_entries_max = 3;
  options.value_bytes_max = 20;
  Harness h(options);
  auto many = h.Do(Tx().Set("/a", 1).Set("/b", 1).Set("/c", 1).Set("/d", 1));
  REQUIRE(many->as<absl::Status>() != nullptr);
  CHECK(DetailOf(*many->as<absl::Status>())->limit() == "transaction_entries_max");
  h.Must(Tx().Put(Write::Change::kSet, "/s", Value::String("0123456789")));
  auto large = h.Do(Tx().Apply("/s", "(append \"0123456789\")"));
  REQUIRE(large->as<absl::Status>() != nullptr);
  CHECK(DetailOf(*large->as<absl::Status>())->limit() == "value_bytes_max");
  Tx late;
  late.Set("/a", 1);
  late.t->deadline = h.loop.Now() - absl::Seconds(1);
  CHECK(absl::IsDeadlineExceeded(*h.Do(late)->as<absl::Status>()));
  CHECK(h.Value("/a") == "absent");
}

TEST_CASE("park: operations on large values are worked out off the Loop, and again when the value moved") {
  Options options;
  options.heavy_value_bytes = 50;
  Harness h(options);
  h.Must(Tx().Put(Write::Change::kSet, "/log", Value::String(std::string(100, 'x'))));
  auto first = h.Send(Tx().Id(1).Apply("/log", "(append \"a\")"));
  auto second = h.Send(Tx().Id(2).Apply("/log", "(append \"b\")"));
  CHECK(h.engine.GetStatus().stats.parked == 2);
  h.loop.Turn();
  REQUIRE(first->as<Committed>() != nullptr);
  REQUIRE(second->as<Committed>() != nullptr);
  CHECK(h.Value("/log") == absl::StrCat("\"", std::string(100, 'x'), "ab\""));
  CHECK(h.engine.GetStatus().stats.parked == 0);
  auto rejected = h.Do(Tx().Apply("/log", "(add 1)"));
  CHECK(rejected->as<Rejected>() != nullptr);
  auto created = h.Do(Tx().Apply("/new", absl::StrCat("(set \"", std::string(80, 'y'), "\")")));
  CHECK(created->as<Committed>() != nullptr);
  CHECK(h.Value("/new").size() == 82);
}

TEST_CASE("drain: what is under way finishes, what comes later is refused, watches end") {
  Harness h;
  h.coordinator.hold = true;
  auto under_way = h.Send(Tx().Set("/a", 1));
  auto sink = std::make_shared<Recorder>();
  REQUIRE(h.engine.Watch({}, sink).ok());
  bool drained = false;
  h.engine.Drain([&] { drained = true; });
  auto later = h.Do(Tx().Set("/b", 1));
  REQUIRE(later->as<absl::Status>() != nullptr);
  CHECK(absl::IsUnavailable(*later->as<absl::Status>()));
  CHECK(!drained);
  h.coordinator.Decide(AppendResult::Outcome::kCommitted);
  h.loop.Turn();
  CHECK(drained);
  CHECK(under_way->as<Committed>() != nullptr);
  CHECK(sink->events.back() == "drain");
}

}  // namespace
}  // namespace stm::engine
