// Containers that block, as the engine sees them: deadlines, bounds, order, and what is told of those that
// fail.
#include "backends/containers/threaded.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/combining_loop.h"
#include "tests/backends/containers/asker.h"
#include "tests/backends/containers/memory_container.h"

namespace stm::containers {
namespace {

using engine::EntryKind;

constexpr absl::Duration kWithin = absl::Seconds(10);

TEST_CASE("threaded: what is asked reaches the container, and its answer comes back") {
  Asker asker;
  REQUIRE(asker.Add("memory", MemoryContainer()).ok());
  CHECK(asker.Init("memory", "/a")->status().ok());
  CHECK(asker.Set("memory", "/a", "s1", Value::Integer(1))->status().ok());
  CHECK(*asker.Get("memory", "/a", "s1")->Wait() == Value::Integer(1));
  CHECK(*asker.Get("memory", "/a", "s2")->Wait() == std::nullopt);
  CHECK(asker.Delete("memory", "/a", "s1")->status().ok());
  CHECK(*asker.Get("memory", "/a", "s1")->Wait() == std::nullopt);
  CHECK(asker.Destroy("memory", "/a")->status().ok());

  CHECK(asker.InitAtom("memory", "/b")->status().ok());
  CHECK(*asker.GetAtom("memory", "/b")->Wait() == std::nullopt);
  CHECK(asker.SetAtom("memory", "/b", Value::Integer(2), 7)->status().ok());
  CHECK(*asker.GetAtom("memory", "/b")->Wait() == Value::Integer(2));
  CHECK(asker.DestroyAtom("memory", "/b", 6)->status().ok());
  CHECK(*asker.GetAtom("memory", "/b")->Wait() == Value::Integer(2));
  CHECK(asker.DestroyAtom("memory", "/b", 8)->status().ok());
  CHECK(*asker.GetAtom("memory", "/b")->Wait() == std::nullopt);
}

TEST_CASE("threaded: a container whose every thread hangs delays no other") {
  const auto script = std::make_shared<Script>();
  ThreadedOptions options;
  options.container_threads_max = 4;
  Asker asker(options);
  REQUIRE(asker.Add("hangs", Scripted(script)).ok());
  REQUIRE(asker.Add("memory", MemoryContainer()).ok());
  script->Hold("SetStateAt /a");
  std::vector<Asker::Call> hanging;
  for (int i = 0; i < 20; ++i) hanging.push_back(asker.Set("hangs", "/a", absl::StrCat("s", i), Value()));
  script->AwaitCalls(4);
  for (int i = 0; i < 100; ++i) {
    CHECK(asker.Set("memory", "/a", absl::StrCat("s", i), Value::Integer(i))->status().ok());
  }
  const ContainerStats stats = asker.Stats("hangs");
  CHECK(stats.calls_under_way == 4);
  CHECK(stats.calls_queued == 16);
  for (const auto& call : hanging) CHECK(!call->has());
  script->Open();
  for (const auto& call : hanging) CHECK(call->status().ok());
}

TEST_CASE(
    "threaded: a call that hangs is told UNAVAILABLE at its deadline, once, and what it returns later is "
    "dropped") {
  const auto script = std::make_shared<Script>();
  Asker asker;
  REQUIRE(asker.Add("mongo", Scripted(script)).ok());
  CHECK(asker.Stats("mongo").healthy);
  script->Hold("GetStateAt /accounts/7");
  const auto call = asker.Get("mongo", "/accounts/7", "s1", kWithin);
  script->AwaitCalls(1);
  asker.loop.Advance(kWithin - absl::Nanoseconds(1));
  asker.OnLoop([] {});
  CHECK(!call->has());
  asker.loop.Advance(absl::Nanoseconds(1));
  const absl::Status status = call->status();
  CHECK(MessageOf(status) ==
        "container mongo did not answer within 10s: GetStateAt /accounts/7: see that it runs and can be "
        "reached (stmctl containers), and ask again");
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(DetailOf(status).reason() == v1::ERROR_REASON_CONTAINER_DOWN);
  CHECK(DetailOf(status).name() == "/accounts/7");
  CHECK(DetailOf(status).has_retry_after());
  ContainerStats stats = asker.Stats("mongo");
  CHECK(stats.calls_under_way == 1);
  CHECK(stats.calls_hanging == 1);
  CHECK(!stats.healthy);
  CHECK(stats.last_error == MessageOf(status));
  CHECK(stats.last_error_at == asker.loop.WallNow());
  asker.loop.Advance(absl::Seconds(2));
  script->Open();
  asker.Await("mongo", [](const ContainerStats& stats) { return stats.calls_under_way == 0; });
  CHECK(asker.Stats("mongo").latency_p50 == absl::Seconds(12));
  CHECK(asker.Get("mongo", "/accounts/7", "s2")->status().ok());
  CHECK(call->times() == 1);
  stats = asker.Stats("mongo");
  CHECK(stats.healthy);
  CHECK(stats.calls_hanging == 0);
  CHECK(stats.last_error == MessageOf(status));
}

TEST_CASE("threaded: a call whose time is over before it is asked never reaches the container") {
  const auto script = std::make_shared<Script>();
  Asker asker;
  REQUIRE(asker.Add("mongo", Scripted(script)).ok());
  const absl::Status status = asker.Get("mongo", "/a", "s1", absl::ZeroDuration())->status();
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(DetailOf(status).reason() == v1::ERROR_REASON_CONTAINER_DOWN);
  CHECK(asker.Get("mongo", "/b", "s1")->status().ok());
  CHECK(script->calls() == std::vector<std::string>{"GetStateAt /b s1"});
}

TEST_CASE(
    "threaded: a call that finds no thread is told so at its deadline, and never reaches the container") {
  const auto script = std::make_shared<Script>();
  ThreadedOptions options;
  options.container_threads_max = 1;
  Asker asker(options);
  REQUIRE(asker.Add("mongo", Scripted(script)).ok());
  script->Hold("SetStateAt /a");
  const auto first = asker.Set("mongo", "/a", "s1", Value(), kWithin);
  script->AwaitCalls(1);
  asker.loop.Advance(kWithin);
  CHECK(!first->status().ok());
  const auto second = asker.Set("mongo", "/b", "s2", Value(), absl::Milliseconds(1500));
  asker.loop.Advance(absl::Milliseconds(1500));
  const absl::Status status = second->status();
  CHECK(MessageOf(status) ==
        "container mongo had no thread for a call within 1.5s (calls in it: 1, of these hang: 1): "
        "SetStateAt /b: see that it runs and can be reached (stmctl containers), and ask again");
  CHECK(DetailOf(status).reason() == v1::ERROR_REASON_CONTAINER_DOWN);
  script->Open();
  CHECK(asker.Set("mongo", "/c", "s3", Value())->status().ok());
  CHECK(script->calls() == std::vector<std::string>{"SetStateAt /a s1", "SetStateAt /c s3"});
}

TEST_CASE(
    "threaded: calls that wait are bounded, the bound is named, and there is room again when they are given "
    "up") {
  const auto script = std::make_shared<Script>();
  ThreadedOptions options;
  options.container_threads_max = 1;
  options.container_queue_max = 2;
  Asker asker(options);
  REQUIRE(asker.Add("mongo", Scripted(script)).ok());
  script->Hold("GetStateAt /a");
  const auto hanging = asker.Get("mongo", "/a", "s1");
  script->AwaitCalls(1);
  const auto second = asker.Get("mongo", "/a", "s2", kWithin);
  const auto third = asker.Get("mongo", "/a", "s3");
  const absl::Status full = asker.Get("mongo", "/a", "s4")->status();
  CHECK(MessageOf(full) ==
        "limit container_queue_max=2: container mongo has 2: calls wait for it (in it hang: 0): see that it "
        "runs and is fast enough (stmctl containers), and ask again");
  CHECK(full.code() == absl::StatusCode::kResourceExhausted);
  CHECK(DetailOf(full).limit() == "container_queue_max");
  CHECK(DetailOf(full).has_retry_after());
  asker.loop.Advance(kWithin);
  CHECK(second->status().code() == absl::StatusCode::kUnavailable);
  const auto fifth = asker.Get("mongo", "/a", "s5");
  script->Open();
  CHECK(hanging->status().ok());
  CHECK(third->status().ok());
  CHECK(fifth->status().ok());
}

TEST_CASE(
    "threaded: the calls of one atom reach the container one at a time, in order, and hold up no other "
    "atom") {
  const auto script = std::make_shared<Script>();
  Asker asker;
  REQUIRE(asker.Add("mongo", Scripted(script)).ok());
  script->Hold("SetState /a");
  std::vector<Asker::Call> calls;
  std::vector<std::string> expected;
  for (int version = 1; version <= 50; ++version) {
    calls.push_back(asker.SetAtom("mongo", "/a", Value::Integer(version), version));
    expected.push_back(absl::StrCat("SetState /a ", version));
  }
  calls.push_back(asker.DestroyAtom("mongo", "/a", 51));
  expected.push_back("Destroy /a 51");
  calls.push_back(asker.InitAtom("mongo", "/a"));
  expected.push_back("Init /a");
  calls.push_back(asker.GetAtom("mongo", "/a"));
  expected.push_back("GetState /a");
  for (int i = 0; i < 10; ++i)
    CHECK(asker.SetAtom("mongo", absl::StrCat("/b", i), Value(), 1)->status().ok());
  std::vector<std::string> of_a;
  for (const std::string& call : script->calls()) {
    if (absl::StrContains(call, " /a")) of_a.push_back(call);
  }
  CHECK(of_a == std::vector<std::string>{"SetState /a 1"});
  script->Open();
  for (const auto& call : calls) CHECK(call->status().ok());
  of_a.clear();
  for (const std::string& call : script->calls()) {
    if (absl::StrContains(call, " /a")) of_a.push_back(call);
  }
  CHECK(of_a == expected);
}

TEST_CASE(
    "threaded: an atom's calls behind one that hangs are told at their deadlines, and the next comes when it "
    "has returned") {
  const auto script = std::make_shared<Script>();
  Asker asker;
  REQUIRE(asker.Add("mongo", Scripted(script)).ok());
  script->Hold("SetState /a");
  const auto first = asker.SetAtom("mongo", "/a", Value(), 1, kWithin);
  const auto second = asker.SetAtom("mongo", "/a", Value(), 2, kWithin);
  script->AwaitCalls(1);
  asker.loop.Advance(kWithin);
  CHECK(!first->status().ok());
  CHECK(!second->status().ok());
  const auto third = asker.SetAtom("mongo", "/a", Value(), 3);
  CHECK(asker.SetAtom("mongo", "/b", Value(), 1)->status().ok());
  CHECK(script->calls() == std::vector<std::string>{"SetState /a 1", "SetState /b 1"});
  script->Open();
  CHECK(third->status().ok());
  CHECK(script->calls() == std::vector<std::string>{"SetState /a 1", "SetState /b 1", "SetState /a 3"});
}

TEST_CASE("threaded: a stamp's erasing does not pass a write of it that was given up, and reads pass both") {
  const auto script = std::make_shared<Script>();
  Asker asker;
  REQUIRE(asker.Add("mongo", Scripted(script)).ok());
  script->Hold("SetStateAt /a");
  const auto set = asker.Set("mongo", "/a", "s1", Value(), kWithin);
  const auto erased = asker.Delete("mongo", "/a", "s1", kWithin);
  script->AwaitCalls(1);
  asker.loop.Advance(kWithin);
  CHECK(!set->status().ok());
  CHECK(!erased->status().ok());
  CHECK(asker.Get("mongo", "/a", "s1")->status().ok());
  CHECK(asker.Delete("mongo", "/a", "s2")->status().ok());
  CHECK(script->calls() ==
        std::vector<std::string>{"SetStateAt /a s1", "GetStateAt /a s1", "DeleteStateAt /a s2"});
  const auto again = asker.Delete("mongo", "/a", "s1");
  script->Open();
  CHECK(again->status().ok());
  CHECK(script->calls().back() == "DeleteStateAt /a s1");
}

TEST_CASE(
    "threaded: it stops in bounded time though a container hangs, which is destroyed once its call returns") {
  const auto hangs = std::make_shared<Script>(), quick = std::make_shared<Script>();
  std::shared_ptr<Answered> in_it, behind;
  {
    ThreadedOptions options;
    options.container_threads_max = 1;
    options.stop_grace = absl::Milliseconds(20);
    Asker asker(options);
    REQUIRE(asker.Add("hangs", Scripted(hangs)).ok());
    REQUIRE(asker.Add("quick", Scripted(quick)).ok());
    REQUIRE(asker.Get("quick", "/a", "s1")->status().ok());
    hangs->Hold("GetStateAt /a");
    in_it = asker.Get("hangs", "/a", "s1");
    hangs->AwaitCalls(1);
    behind = asker.Get("hangs", "/a", "s2");
    asker.containers.Stop();
    for (const auto& call : {in_it, behind}) {
      CHECK(MessageOf(call->status()) ==
            "container hangs is not asked any more, since the daemon is stopping: GetStateAt /a: ask again");
      CHECK(call->status().code() == absl::StatusCode::kUnavailable);
    }
    CHECK(quick->destroyed());
    CHECK(!hangs->destroyed());
    CHECK(asker.Get("quick", "/a", "s1")->status().code() == absl::StatusCode::kUnavailable);
    CHECK(asker.Add("late", Scripted(quick)).code() == absl::StatusCode::kUnavailable);
    asker.containers.Stop();
  }
  // The Loop is gone.
  hangs->Open();
  hangs->AwaitDestroyed();
  CHECK(in_it->times() == 1);
  CHECK(hangs->calls().size() == 1);
}

TEST_CASE("threaded: a container that was never asked is destroyed when it is stopped or removed") {
  const auto stopped = std::make_shared<Script>(), removed = std::make_shared<Script>();
  Asker asker;
  REQUIRE(asker.Add("stopped", Scripted(stopped)).ok());
  REQUIRE(asker.Add("removed", Scripted(removed)).ok());
  asker.Remove("removed");
  removed->AwaitDestroyed();
  CHECK(!stopped->destroyed());
  asker.containers.Stop();
  CHECK(stopped->destroyed());
}

TEST_CASE(
    "threaded: a container may come and go, and one that has gone is UNAVAILABLE to those who wait and those "
    "who ask") {
  const auto script = std::make_shared<Script>(), next = std::make_shared<Script>();
  Asker asker;
  CHECK(MessageOf(asker.Get("offered:orders", "/a", "s1")->status()) ==
        "container offered:orders is offered by no client of this daemon: GetStateAt /a: start the program "
        "that offers it, and "
        "ask again");
  CHECK(asker.Check("offered:orders", EntryKind::kRef).code() == absl::StatusCode::kUnavailable);
  REQUIRE(asker.Add("offered:orders", Scripted(script)).ok());
  CHECK(asker.Add("offered:orders", Scripted(next)).code() == absl::StatusCode::kAlreadyExists);
  CHECK(asker.Check("offered:orders", EntryKind::kRef).ok());
  script->Hold("GetStateAt /a");
  const auto waits = asker.Get("offered:orders", "/a", "s1");
  script->AwaitCalls(1);
  asker.Remove("offered:orders");
  CHECK(absl::StartsWith(MessageOf(waits->status()), "container offered:orders is gone: GetStateAt /a: "));
  CHECK(DetailOf(waits->status()).reason() == v1::ERROR_REASON_CONTAINER_DOWN);
  CHECK(asker.Get("offered:orders", "/a", "s1")->status().code() == absl::StatusCode::kUnavailable);
  const auto second = std::make_shared<Script>();
  REQUIRE(asker.Add("offered:orders", Scripted(second)).ok());
  CHECK(asker.Get("offered:orders", "/a", "s1")->status().ok());
  CHECK(!script->destroyed());
  script->Open();
  script->AwaitDestroyed();
  CHECK(waits->times() == 1);
}

TEST_CASE(
    "threaded: who chooses a container that is not there, or does not keep that kind, is told which are") {
  Asker asker;
  Container refs = MemoryContainer();
  refs.atoms = nullptr;
  REQUIRE(asker.Add("mongo", std::move(refs)).ok());
  REQUIRE(asker.Add("remote:orders", MemoryContainer()).ok());
  CHECK(asker.Check("mongo", EntryKind::kRef).ok());
  const absl::Status kind = asker.Check("mongo", EntryKind::kAtom);
  CHECK(kind.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(MessageOf(kind) ==
        "container mongo keeps no atoms: here atoms are kept by inline, remote:orders: choose one of these, "
        "or configure it");
  const absl::Status name = asker.Check("mngo", EntryKind::kRef);
  CHECK(name.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(MessageOf(name) ==
        "container mngo is not in this daemon's configuration: here refs are kept by inline, mongo, "
        "remote:orders: choose one of "
        "these, or configure it");
  CHECK(DetailOf(name).name() == "mngo");
  CHECK(DetailOf(name).expected() == "inline, mongo, remote:orders");
  // Of an entry that is there, kept by a container that was configured once: it may be again.
  const absl::Status gone = asker.Get("mngo", "/a", "s1")->status();
  CHECK(gone.code() == absl::StatusCode::kUnavailable);
  CHECK(MessageOf(gone) ==
        "container mngo is not in this daemon's configuration: GetStateAt /a: add it there and start the "
        "daemon again, or ask a "
        "daemon that has it");
  CHECK(asker.GetAtom("mongo", "/a")->status().code() == absl::StatusCode::kFailedPrecondition);
}

struct Said {
  absl::Status said;
  absl::StatusCode code;
  v1::ErrorReason reason;
  const char* message;
};

TEST_CASE("threaded: what a container says reaches the caller with its name, the entry's and what to do") {
  const Said row = GENERATE(values<Said>({
      {absl::UnavailableError("connection refused"), absl::StatusCode::kUnavailable,
       v1::ERROR_REASON_CONTAINER_DOWN,
       "container mongo can't be reached: SetStateAt /a: connection refused: see that it runs and can be "
       "reached (stmctl "
       "containers), and ask again"},
      {absl::DeadlineExceededError("too late"), absl::StatusCode::kUnavailable,
       v1::ERROR_REASON_CONTAINER_DOWN,
       "container mongo can't be reached: SetStateAt /a: too late: see that it runs and can be reached "
       "(stmctl containers), and "
       "ask again"},
      // A caller would run the transaction's body again, for no conflict.
      {absl::AbortedError("write conflict"), absl::StatusCode::kUnavailable, v1::ERROR_REASON_CONTAINER_DOWN,
       "container mongo can't be reached: SetStateAt /a: write conflict: see that it runs and can be reached "
       "(stmctl "
       "containers), and ask again"},
      {absl::PermissionDeniedError("not authorized on app"), absl::StatusCode::kPermissionDenied,
       v1::ERROR_REASON_DENIED,
       "container mongo does not let the daemon: SetStateAt /a: not authorized on app: give the daemon's "
       "account there the right "
       "to it"},
      {absl::UnauthenticatedError("bad password"), absl::StatusCode::kPermissionDenied,
       v1::ERROR_REASON_DENIED,
       "container mongo does not let the daemon: SetStateAt /a: bad password: give the daemon's account "
       "there the right to it"},
      {absl::ResourceExhaustedError("quota"), absl::StatusCode::kResourceExhausted, v1::ERROR_REASON_NO_SPACE,
       "container mongo has no room: SetStateAt /a: quota: make room there, or keep the entry elsewhere"},
      {absl::DataLossError("no BSON"), absl::StatusCode::kDataLoss, v1::ERROR_REASON_VALUE_LOST,
       "container mongo can't read what it keeps: SetStateAt /a: no BSON: mend the container, or set the "
       "entry anew"},
      {absl::InvalidArgumentError("16 MiB"), absl::StatusCode::kInvalidArgument, v1::ERROR_REASON_BAD_VALUE,
       "container mongo does not take it: SetStateAt /a: 16 MiB"},
      {absl::UnimplementedError("what?"), absl::StatusCode::kFailedPrecondition, v1::ERROR_REASON_UNSUPPORTED,
       "container mongo failed: SetStateAt /a: what?"},
      {absl::OutOfRangeError("cursor"), absl::StatusCode::kInternal, v1::ERROR_REASON_UNSPECIFIED,
       "container mongo failed: SetStateAt /a: cursor"},
      {absl::InternalError("oops"), absl::StatusCode::kInternal, v1::ERROR_REASON_UNSPECIFIED,
       "container mongo failed: SetStateAt /a: oops"},
  }));
  const auto script = std::make_shared<Script>();
  Asker asker;
  REQUIRE(asker.Add("mongo", Scripted(script)).ok());
  script->Say(row.said);
  const absl::Status status = asker.Set("mongo", "/a", "s1", Value())->status();
  CHECK(MessageOf(status) == row.message);
  CHECK(status.code() == row.code);
  CHECK(DetailOf(status).reason() == row.reason);
  CHECK(DetailOf(status).name() == "/a");
  CHECK(!asker.Stats("mongo").healthy);
  CHECK(asker.Stats("mongo").last_error == row.message);
}

TEST_CASE("threaded: a container that throws fails that call, and serves the next") {
  const auto script = std::make_shared<Script>();
  Asker asker;
  REQUIRE(asker.Add("mine", Scripted(script)).ok());
  script->Throw("vector::at");
  const absl::Status status = asker.Get("mine", "/a", "s1")->status();
  CHECK(status.code() == absl::StatusCode::kInternal);
  CHECK(MessageOf(status) == "container mine failed: GetStateAt /a: it threw vector::at");
  script->Throw("");
  CHECK(asker.Get("mine", "/a", "s1")->status().ok());
}

TEST_CASE(
    "threaded: under many calls with hardly any time, and a container that comes and goes, each is told "
    "once") {
  ThreadedOptions options;
  options.container_threads_max = 8;
  options.container_queue_max = 64;
  AskerOn<server::CombiningLoop> asker(options);
  const auto store = std::make_shared<MemoryStore>();
  REQUIRE(asker.Add("stays", MemoryContainer(store)).ok());
  std::atomic<int64_t> asked{0}, told{0};
  const auto ask_all = [&](int thread) {
    for (int i = 0; i < 300; ++i) {
      const std::string container = i % 3 == 0 ? "comes" : "stays";
      const std::string name = absl::StrCat("/", i % 7), stamp = absl::StrCat("s", thread, "-", i);
      const absl::Duration within = absl::Microseconds(i % 5 == 0 ? 50 : 5000);
      asker.loop.Post([&, container, name, stamp, within, i] {
        const absl::Duration deadline = asker.loop.Now() + within;
        const auto done = [&](auto) { ++told; };
        ++asked;
        switch (i % 4) {
          case 0:
            return asker.containers.SetStateAt(container, name, stamp, Value::String(stamp), deadline, done);
          case 1:
            return asker.containers.GetStateAt(container, name, stamp, deadline, done);
          case 2:
            return asker.containers.SetState(container, name, Value::Integer(i), i, deadline, done);
          default:
            return asker.containers.GetState(container, name, deadline, done);
        }
      });
      if (thread == 0 && i % 20 == 0) {
        asker.loop.Post([&, i] {
          if (i % 40 == 0) {
            CHECK(asker.containers.Add("comes", MemoryContainer(store)).ok());
          } else {
            asker.containers.Remove("comes");
          }
        });
      }
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) threads.emplace_back(ask_all, thread);
  for (std::thread& thread : threads) thread.join();
  // What is still under way is told so.
  asker.containers.Stop();
  CHECK(asked == 1200);
  asker.OnLoop([] {});
  CHECK(told == 1200);
}

// What the threads add to a container that takes no time. Tells, and asserts nothing of it:
//   bazel run //tests/backends/containers:threaded_test -- '[speed]'
TEST_CASE("threaded: calls a second, and what one takes", "[.][speed]") {
  for (const int callers : {1, 64}) {
    AskerOn<server::CombiningLoop> asker;
    REQUIRE(asker.Add("memory", MemoryContainer()).ok());
    std::atomic<bool> over{false};
    std::atomic<int64_t> calls{0}, callers_left{callers};
    std::function<void(int)> ask = [&](int caller) {
      const absl::Duration deadline = asker.loop.Now() + kWithin;
      asker.containers.GetStateAt("memory", "/a", absl::StrCat("s", caller), deadline, [&, caller](auto) {
        ++calls;
        if (!over) return ask(caller);
        --callers_left;
      });
    };
    const absl::Time began = absl::Now();
    for (int caller = 0; caller < callers; ++caller) {
      asker.loop.Post([&, caller] { ask(caller); });
    }
    absl::SleepFor(absl::Seconds(2));
    const double seconds = absl::ToDoubleSeconds(absl::Now() - began);
    const int64_t made = calls;
    over = true;
    while (callers_left > 0) absl::SleepFor(absl::Milliseconds(1));
    WARN(callers << " callers: " << static_cast<int64_t>(made / seconds) << " calls a second, "
                 << seconds * 1e6 * callers / made << " us each, in the container p50 "
                 << absl::FormatDuration(asker.Stats("memory").latency_p50));
  }
}

}  // namespace
}  // namespace stm::containers
