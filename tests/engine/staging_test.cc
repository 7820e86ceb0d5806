// Values that containers keep: staged before the commit, which names them by stamps that are used once.
#include <catch2/catch.hpp>

#include "engine/error.h"
#include "engine/settler.h"
#include "engine/stored.h"
#include "stm/v1/common.pb.h"
#include "tests/engine/fake_store.h"

namespace stm::engine {
namespace {

using Change = Write::Change;

std::shared_ptr<const Definition> In(const std::string& container) {
  auto definition = std::make_shared<Definition>();
  definition->container = container;
  return definition;
}

std::shared_ptr<const Definition> In(const std::string& container, const std::string& rule) {
  auto definition = std::make_shared<Definition>(*In(container));
  definition->validator = *Validator::Parse(*ReadEdn(rule));
  return definition;
}

std::string Text(const Outcome& outcome) {
  if (!outcome.done()) return "waits";
  if (outcome.as<Committed>() != nullptr) return "committed";
  if (outcome.as<Conflict>() != nullptr) return "conflict";
  if (const auto* rejected = outcome.as<Rejected>())
    return absl::StrCat("rejected ", rejected->rejection.message);
  if (const auto* status = outcome.as<absl::Status>()) return status->ToString();
  return "other";
}

// What the engine keeps of its own about containers: names without their stamps.
int Notes(Harness& h, std::string_view prefix) {
  ListRequest request;
  request.prefix = std::string(prefix);
  int64_t count = -1;
  h.engine.List(std::move(request), [&](absl::StatusOr<ListResult> result) {
    if (result.ok()) count = static_cast<int64_t>(result->entries.size());
  });
  h.loop.Turn();
  return static_cast<int>(count);
}

std::vector<std::string> StampsIn(const FakeContainers& containers) {
  std::vector<std::string> stamps;
  for (const auto& [key, value] : containers.values) stamps.push_back(std::get<2>(key));
  return stamps;
}

Tx CreateIn(const std::string& name, int64_t i, const std::string& container = "mongo") {
  Tx tx;
  tx.Create(name, i).Define(In(container));
  return tx;
}

TEST_CASE("staging: a value goes into its container, the commit has its stamp, readers see the value") {
  Harness h;
  REQUIRE(Text(*h.Do(CreateIn("/a", 7))) == "committed");
  CHECK(h.containers.Text() == "/a=7");
  CHECK(h.Value("/a") == "7");
  // The commit names the stamp, and the log has not the value.
  const CommitRecord& commit = *h.coordinator.log.back();
  const auto change = std::find_if(commit.changes.begin(), commit.changes.end(),
                                   [](const auto& c) { return c.name == "/a"; });
  REQUIRE(change != commit.changes.end());
  REQUIRE(StoredOf(*change->value).has_value());
  CHECK(StoredOf(*change->value)->stamp == StampsIn(h.containers)[0]);
  CHECK(Notes(h, kStagedPrefix) == 0);
  CHECK(Notes(h, kErasePrefix) == 0);
}

TEST_CASE("staging: a stamp is durable before its value is written") {
  Harness h;
  h.coordinator.hold = true;
  auto outcome = h.Send(CreateIn("/a", 7));
  h.loop.Turn();
  CHECK(h.containers.calls.empty());
  REQUIRE(h.coordinator.waiting.size() == 1);
  h.coordinator.Decide(AppendResult::Outcome::kCommitted);
  h.loop.Turn();
  CHECK(h.containers.calls == std::vector<std::string>{"init /a", "set /a"});
  CHECK(Text(*outcome) == "waits");
  h.coordinator.Decide(AppendResult::Outcome::kCommitted);
  h.loop.Turn();
  CHECK(Text(*outcome) == "committed");
}

TEST_CASE("staging: without room for the stamp nothing is written, and the transaction is told so") {
  Harness h;
  h.coordinator.hold = true;
  auto outcome = h.Send(CreateIn("/a", 7));
  h.loop.Turn();
  h.coordinator.Decide(AppendResult::Outcome::kNoSpace);
  h.loop.Turn();
  CHECK(Text(*outcome) == "RESOURCE_EXHAUSTED: full");
  CHECK(h.containers.calls.empty());
}

TEST_CASE("staging: operations work on the value that the container has, and tell results") {
  Harness h;
  h.Do(CreateIn("/a", 7));
  auto outcome = h.Do(Tx().Apply("/a", "(add 3)"));
  REQUIRE(outcome->as<Committed>() != nullptr);
  CHECK(ToEdn(*outcome->as<Committed>()->results[0]) == "10");
  CHECK(h.Value("/a") == "10");
  // Several in one transaction, with entries of all kinds.
  outcome =
      h.Do(Tx().Apply("/a", "(add 1)").Set("/inline", 5).Apply("/a", "(add 1)").Apply("/inline", "(add 1)"));
  REQUIRE(outcome->as<Committed>() != nullptr);
  const auto& results = outcome->as<Committed>()->results;
  REQUIRE(results.size() == 4);
  CHECK(ToEdn(*results[0]) == "11");
  CHECK(!results[1].has_value());
  CHECK(ToEdn(*results[2]) == "12");
  CHECK(ToEdn(*results[3]) == "6");
  CHECK(h.Value("/a") == "12");
  CHECK(h.Value("/inline") == "6");
  // What a create finds.
  outcome = h.Do(Tx().Create("/a", 99));
  CHECK(ToEdn(*outcome->as<Committed>()->results[0]) == "12");
}

TEST_CASE("staging: a value that was read is not asked for again") {
  Harness h;
  h.Do(CreateIn("/a", 7));
  h.containers.calls.clear();
  for (int i = 0; i < 10; ++i) CHECK(h.Value("/a") == "7");
  CHECK(h.containers.calls.empty());
}

TEST_CASE("staging: a value that memory has not comes from the container, once for all who ask at once") {
  Options options;
  options.container_cache_bytes_max = 0;
  Harness h(options);
  h.Do(CreateIn("/a", 7));
  h.containers.calls.clear();
  int answers = 0;
  for (int i = 0; i < 5; ++i) {
    GetRequest request;
    request.names = {"/a"};
    h.engine.Get(std::move(request), [&](absl::StatusOr<GetResult> result) {
      answers += result.ok() && result->entries[0].value == Value::Integer(7);
    });
  }
  h.loop.Turn();
  CHECK(answers == 5);
  CHECK(h.containers.calls == std::vector<std::string>{"get /a"});
}

TEST_CASE("staging: a snapshot is read as it was") {
  Options options;
  options.container_cache_bytes_max = 0;
  Harness h(options);
  const Version first = h.Must(CreateIn("/a", 1));
  const Version second = h.Must(Tx().Set("/a", 2));
  h.Must(Tx().Delete("/a"));
  CHECK(h.Value("/a", first) == "1");
  CHECK(h.Value("/a", second) == "2");
  CHECK(h.Value("/a") == "absent");
}

TEST_CASE("staging: a transaction over entries of all places commits or aborts as one") {
  Harness h;
  const Version at = h.Must(CreateIn("/m", 1).Set("/i", 1).Set("/.memory/l", 1));
  REQUIRE(at > 0);
  // One read moved: nothing of it is there.
  h.Do(Tx().Set("/i", 2));
  CHECK(Text(*h.Do(Tx().At(at).Read("/i").Set("/m", 9).Set("/i", 9).Set("/.memory/l", 9))) == "conflict");
  CHECK(h.Value("/m") == "1");
  CHECK(h.Value("/i") == "2");
  CHECK(h.Value("/.memory/l") == "1");
}

TEST_CASE("staging: one transaction at a time works on an entry, others pass") {
  Harness h;
  h.Do(CreateIn("/a", 0));
  h.Do(CreateIn("/b", 0));
  h.containers.hold = {"set"};
  auto first = h.Send(Tx().Apply("/a", "(add 1)"));
  auto second = h.Send(Tx().Apply("/a", "(add 1)"));
  auto other = h.Send(Tx().Apply("/b", "(add 1)"));
  auto plain = h.Send(Tx().Set("/inline", 1));
  h.loop.Turn();
  CHECK(Text(*plain) == "committed");
  REQUIRE(h.containers.held.size() == 2);
  h.containers.Release();
  h.loop.Turn();
  CHECK(Text(*first) == "committed");
  CHECK(Text(*second) == "waits");
  while (!h.containers.held.empty()) {
    h.containers.Release();
    h.loop.Turn();
  }
  CHECK(Text(*second) == "committed");
  CHECK(Text(*other) == "committed");
  CHECK(h.Value("/a") == "2");
}

TEST_CASE("staging: claims are taken all at once, in order of arrival, so nobody waits for ever") {
  Harness h;
  h.Do(CreateIn("/a", 0));
  h.Do(CreateIn("/b", 0));
  h.containers.hold = {"set"};
  auto a = h.Send(Tx().Set("/a", 1));
  h.loop.Turn();
  auto both = h.Send(Tx().Set("/a", 2).Set("/b", 2));
  auto b = h.Send(Tx().Set("/b", 3));
  h.loop.Turn();
  // "/b" is free, and whoever came first has it next.
  CHECK(h.containers.held.size() == 1);
  while (!h.containers.held.empty()) {
    h.containers.Release();
    h.loop.Turn();
  }
  CHECK(Text(*both) == "committed");
  CHECK(Text(*b) == "committed");
  CHECK(h.Value("/a") == "2");
  CHECK(h.Value("/b") == "3");
}

TEST_CASE("staging: a container that does not answer delays only those who touch it, until their deadlines") {
  Harness h;
  h.Do(CreateIn("/a", 0));
  h.containers.hold = {"set"};
  auto hangs = h.Send(Tx().Set("/a", 1));
  auto behind = h.Send(Tx().Set("/a", 2));
  Tx hasty;
  hasty.Set("/a", 3);
  hasty.t->deadline = h.loop.Now() + absl::Seconds(1);
  auto hurries = h.Send(hasty);
  h.loop.Turn();
  for (int i = 0; i < 100; ++i) REQUIRE(h.Must(Tx().Set("/inline", i)) > 0);
  CHECK(h.Value("/a") == "0");
  h.loop.Advance(absl::Seconds(2));
  CHECK(Text(*hurries).find("UNAVAILABLE: /a: container mongo: ") == 0);
  CHECK(Text(*hangs) == "waits");
  h.loop.Advance(absl::Seconds(9));
  CHECK(Text(*hangs).find("UNAVAILABLE: /a: container mongo: ") == 0);
  CHECK(DetailOf(*hangs->as<absl::Status>())->reason() == v1::ERROR_REASON_CONTAINER_DOWN);
  h.loop.Advance(absl::Seconds(11));
  CHECK(Text(*behind).find("UNAVAILABLE: /a: container mongo: ") == 0);
}

TEST_CASE("staging: more than container_transactions_max for one container are refused, for another not") {
  Options options;
  options.container_transactions_max = 2;
  Harness h(options);
  h.containers.known.insert("other");
  h.Do(CreateIn("/a", 0));
  h.containers.hold = {"set"};
  for (int i = 0; i < 2; ++i) h.Send(Tx().Set("/a", i));
  h.loop.Turn();
  auto third = h.Do(Tx().Set("/a", 9));
  CHECK(Text(*third).find("RESOURCE_EXHAUSTED: limit container_transactions_max=2: container mongo has 2") ==
        0);
  auto other = h.Send(CreateIn("/o", 1, "other"));
  h.loop.Turn();
  CHECK(Text(*other) == "waits");  // it was asked
}

TEST_CASE("staging: a write that failed is never named by a commit") {
  for (const bool planted : {false, true}) {
    Canaries canaries;
    canaries.commit_failed_write = planted;
    Options options;
    options.container_cache_bytes_max = 0;
    Harness h(options, canaries);
    h.Do(CreateIn("/a", 0));
    h.containers.fail["set"] = absl::ResourceExhaustedError("its disk is full: make room there");
    auto outcome = h.Do(Tx().Set("/a", 1));
    CHECK(
        (Text(*outcome).find("RESOURCE_EXHAUSTED: /a: container mongo: its disk is full: make room there") ==
         0) == !planted);
    h.containers.fail.clear();
    CHECK((h.Value("/a") == "0") == !planted);
  }
}

TEST_CASE("staging: a container that is not configured is named, and what to do") {
  Harness h;
  CHECK(Text(*h.Do(CreateIn("/a", 1, "nowhere"))) ==
        "FAILED_PRECONDITION: no container named nowhere is configured");
  CHECK(h.Value("/a") == "absent");
}

TEST_CASE("staging: validators see the value, not the stamp") {
  Harness h;
  Tx create;
  create.Create("/a", 1).Define(In("mongo", "[:max 10]"));
  REQUIRE(Text(*h.Do(create)) == "committed");
  CHECK(Text(*h.Do(Tx().Set("/a", 11))).find("rejected /a: ") == 0);
  CHECK(Text(*h.Do(Tx().Apply("/a", "(add 20)"))).find("rejected /a: ") == 0);
  CHECK(h.containers.Text() == "/a=1");
  Tx define;
  define.Put(Change::kDefine, "/a").Define(In("mongo", "[:min 5]"));
  Tx narrower;
  narrower.Put(Change::kDefine, "/a").Define(In("mongo", "[:max 5]"));
  CHECK(Text(*h.Do(define)).find("rejected /a: ") == 0);
  CHECK(Text(*h.Do(narrower)) == "committed");
  CHECK(Text(*h.Do(Tx().Set("/a", 6))).find("rejected /a: ") == 0);
  CHECK(h.Value("/a") == "1");
}

TEST_CASE("staging: the tag of stamps is no client's") {
  Harness h;
  const Value forged = ToValue(Stored{"mongo", "0-0-1", 1, 1});
  CHECK(Text(*h.Do(Tx().Put(Change::kSet, "/a", forged))).find("rejected /a: the tag stm/stored") == 0);
  h.Do(CreateIn("/m", 1));
  CHECK(Text(*h.Do(Tx().Put(Change::kSet, "/m", forged))).find("rejected /m: the tag stm/stored") == 0);
  CHECK(h.Value("/m") == "1");
}

TEST_CASE("staging: an entry moves between containers by being made anew") {
  Harness h;
  h.Do(CreateIn("/a", 1));
  // Into the commit itself.
  CHECK(Text(*h.Do(Tx().Delete("/a").Create("/a", 2))) == "committed");
  CHECK(h.Value("/a") == "2");
  CHECK(Notes(h, kErasePrefix) == 1);
  // And back.
  Tx back;
  back.Delete("/a").Create("/a", 3).Define(In("mongo"));
  CHECK(Text(*h.Do(back)) == "committed");
  CHECK(h.Value("/a") == "3");
  CHECK(h.containers.Text() == "/a=1 /a=3");
}

TEST_CASE("staging: another daemon's commit in between makes it be worked out anew, under another stamp") {
  for (const bool planted : {false, true}) {
    Canaries canaries;
    canaries.reuse_stamp = planted;
    Options options;
    options.container_cache_bytes_max = 0;
    Harness h(options, canaries);
    h.Do(CreateIn("/a", 1));
    h.containers.hold = {"set"};
    auto outcome = h.Send(Tx().Apply("/a", "(add 1)"));
    h.loop.Turn();
    REQUIRE(h.containers.held.size() == 1);
    const Value ten = Value::Integer(10);
    h.containers.values[{"mongo", "/a", "1-1-1"}] = ten;
    h.coordinator.Others("/a", ToValue(Stored{"mongo", "1-1-1", static_cast<int64_t>(ten.hash()), 2}));
    while (!h.containers.held.empty()) {
      h.containers.Release();
      h.loop.Turn();
    }
    CHECK(Text(*outcome) == "committed");
    CHECK((h.Value("/a") == "11") == !planted);
  }
}

TEST_CASE("staging: watchers are told values, in order, also where they have to be asked for") {
  Options options;
  options.container_cache_bytes_max = 0;
  Harness h(options);
  auto recorder = std::make_shared<Recorder>();
  WatchRequest request;
  request.selector.prefixes = {"/"};
  request.initial = true;
  h.Do(CreateIn("/a", 1));
  h.Do(Tx().Set("/b", 1));
  REQUIRE(h.engine.Watch(std::move(request), recorder).ok());
  h.loop.Turn();
  h.Do(Tx().Set("/a", 2));
  h.Do(Tx().Set("/b", 2));
  h.loop.Turn();
  REQUIRE(recorder->events.size() == 5);
  CHECK(recorder->events[0] + ";" + recorder->events[1] == "initial /a=1;initial /b=1");
  CHECK(recorder->events[3].find("/a:unknown->2") != std::string::npos);
  CHECK(recorder->events[4].find("/b:1->2") != std::string::npos);
  // A container that does not answer holds up what comes behind, and loses nothing.
  h.containers.hold = {"get"};
  h.Do(Tx().Set("/a", 3));
  h.Do(Tx().Set("/b", 3));
  CHECK(recorder->events.size() == 5);
  h.containers.hold.clear();
  h.loop.Advance(absl::Seconds(11));
  REQUIRE(recorder->events.size() == 7);
  CHECK(recorder->events[5].find("->3") != std::string::npos);
  CHECK(recorder->events[6].find("/b:2->3") != std::string::npos);
}

TEST_CASE("staging: a watch that is taken back is told nothing more") {
  Options options;
  options.container_cache_bytes_max = 0;
  Harness h(options);
  auto recorder = std::make_shared<Recorder>();
  WatchRequest request;
  request.selector.prefixes = {"/"};
  absl::StatusOr<uint64_t> handle = h.engine.Watch(std::move(request), recorder);
  h.loop.Turn();
  h.containers.hold = {"get"};
  h.Do(CreateIn("/a", 1));
  const size_t told = recorder->events.size();
  h.engine.Unwatch(*handle);
  h.containers.Release();
  h.loop.Turn();
  CHECK(recorder->events.size() == told);
}

TEST_CASE(
    "staging: a container that lies, or has lost a value, is an error of that entry alone, and a set repairs "
    "it") {
  Options options;
  options.container_cache_bytes_max = 0;
  Harness h(options);
  h.Do(CreateIn("/a", 1));
  h.Do(CreateIn("/b", 2));
  for (auto& [key, value] : h.containers.values) {
    if (std::get<1>(key) == "/a") value = Value::Integer(100);
  }
  CHECK(h.Value("/a").find("DATA_LOSS: /a: container mongo: what it has under stamp") == 0);
  CHECK(h.Value("/b") == "2");
  CHECK(Text(*h.Do(Tx().Apply("/a", "(add 1)"))).find("DATA_LOSS: /a: container mongo: ") == 0);
  CHECK(Text(*h.Do(Tx().Set("/a", 5))) == "committed");
  CHECK(h.Value("/a") == "5");
  h.containers.values.clear();
  CHECK(h.Value("/a").find("DATA_LOSS: /a: container mongo: it has nothing under stamp") == 0);
  CHECK(Text(*h.Do(Tx().Delete("/a"))) == "committed");
  CHECK(h.Value("/a") == "absent");
}

TEST_CASE("staging: a stop waits for values that are being written") {
  Harness h;
  h.containers.hold = {"set"};
  auto outcome = h.Send(CreateIn("/a", 1));
  h.loop.Turn();
  bool drained = false;
  h.engine.Drain([&] { drained = true; });
  h.loop.Turn();
  CHECK(!drained);
  h.containers.Release();
  h.loop.Turn();
  CHECK(Text(*outcome) == "committed");
  CHECK(drained);
}

// ---- What is left to be done

struct Settled : Harness {
  explicit Settled(Canaries canaries = {}) : Settled(MakeOptions(), canaries) {}
  Settled(Options options, Canaries canaries)
      : Harness(options, canaries), settler(&loop, &engine, &coordinator, &containers, options, canaries) {
    settler.Start();
  }
  static Options MakeOptions() {
    Options options;
    options.history_age_max = absl::Seconds(30);
    options.erase_after = absl::Seconds(60);
    options.container_cache_bytes_max = 0;
    return options;
  }
  Settler settler;
};

// Leaves 100 values in "mongo", and then one in "other", to be erased.
void SupersedeInBoth(Settled& h) {
  h.containers.known.insert("other");
  for (int i = 0; i < 100; ++i) {
    const std::string name = absl::StrCat("/m/", i);
    h.Must(CreateIn(name, 1));
    h.Must(Tx().Set(name, 2));
  }
  h.Must(CreateIn("/o", 1, "other"));
  h.Must(Tx().Set("/o", 2));
}

TEST_CASE("settling: what was superseded is erased, later than any snapshot that reaches it can be read") {
  for (const bool planted : {false, true}) {
    Canaries canaries;
    canaries.erase_early = planted;
    Settled h(canaries);
    const Version first = h.Must(CreateIn("/a", 1));
    h.Must(Tx().Set("/a", 2));
    h.loop.Advance(absl::Seconds(20));
    CHECK((h.Value("/a", first) == "1") == !planted);
    h.loop.Advance(absl::Seconds(100));
    CHECK(h.containers.Text() == "/a=2");
    CHECK(h.Value("/a", first).find("OUT_OF_RANGE") == 0);
    CHECK(Notes(h, kErasePrefix) == 0);
    CHECK(h.Value("/a") == "2");
  }
}

TEST_CASE("settling: an entry that is gone leaves nothing, and its container is told so") {
  Settled h;
  h.Must(CreateIn("/a", 1));
  h.Must(Tx().Delete("/a"));
  h.loop.Advance(absl::Seconds(120));
  CHECK(h.containers.Text().empty());
  CHECK(h.containers.calls.back() == "destroy /a");
  CHECK(Notes(h, kErasePrefix) == 0);
}

TEST_CASE("settling: what an aborted transaction wrote is erased, and a late write with it") {
  Settled h;
  h.Must(CreateIn("/a", 1));
  h.containers.hold = {"set"};
  auto outcome = h.Send(Tx().Set("/a", 2));
  h.loop.Advance(absl::Seconds(11));
  CHECK(Text(*outcome).find("UNAVAILABLE") == 0);
  CHECK(Notes(h, kStagedPrefix) == 0);
  CHECK(Notes(h, kErasePrefix) == 1);
  // It comes after all.
  h.containers.hold.clear();
  h.containers.Release();
  h.loop.Turn();
  CHECK(h.containers.Text() == "/a=1 /a=2");
  h.loop.Advance(absl::Seconds(120));
  CHECK(h.containers.Text() == "/a=1");
  CHECK(Notes(h, kErasePrefix) == 0);
  CHECK(h.Value("/a") == "1");
}

TEST_CASE("settling: a container that is down is asked again, and nothing is forgotten") {
  Settled h;
  h.Must(CreateIn("/a", 1));
  h.Must(Tx().Set("/a", 2));
  h.containers.fail["delete"] = absl::UnavailableError("down");
  h.loop.Advance(absl::Seconds(200));
  CHECK(Notes(h, kErasePrefix) == 1);
  CHECK(h.settler.left().at("mongo").to_erase == 1);
  h.containers.fail.clear();
  h.loop.Advance(absl::Seconds(20));
  CHECK(Notes(h, kErasePrefix) == 0);
  CHECK(h.containers.Text() == "/a=2");
}

TEST_CASE("settling: a container that does not answer holds up no other's erasing") {
  Settled h;
  h.containers.hold_in = "mongo";
  SupersedeInBoth(h);
  h.containers.hold = {"delete"};
  h.loop.Advance(absl::Seconds(80));
  CHECK(h.containers.Text().find("/o=1") == std::string::npos);
  CHECK(h.settler.left().at("mongo").to_erase == 100);
  CHECK(h.settler.left().count("other") == 0);
}

TEST_CASE("settling: however much is left to be erased of a container that is down, others' is come to") {
  Options options = Settled::MakeOptions();
  options.settle_notes_max = 10;
  Settled h(options, {});
  h.containers.fail_in = "mongo";
  SupersedeInBoth(h);
  h.containers.fail["delete"] = absl::UnavailableError("down");
  // Until each has been seen, and again when it is due.
  h.loop.Advance(absl::Seconds(300));
  CHECK(h.containers.Text().find("/o=1") == std::string::npos);
  CHECK(h.settler.left().at("mongo").to_erase == 100);
  CHECK(h.settler.left().count("other") == 0);
  h.containers.fail.clear();
  h.loop.Advance(absl::Seconds(1200));
  CHECK(Notes(h, kErasePrefix) == 0);
  CHECK(h.settler.left().empty());
}

TEST_CASE("settling: an atom's container has a copy of each value in the end, in order") {
  Settled h;
  Tx create;
  create.Put(Change::kCreate, "/t", Value::Integer(1), EntryKind::kAtom).Define(In("mongo"));
  REQUIRE(Text(*h.Do(create)) == "committed");
  h.loop.Turn();
  CHECK(h.containers.atoms.at({"mongo", "/t"}).second == Value::Integer(1));
  h.containers.hold = {"set-atom"};
  h.Do(Tx().Put(Change::kSet, "/t", Value::Integer(2), EntryKind::kAtom));
  h.Do(Tx().Put(Change::kSet, "/t", Value::Integer(3), EntryKind::kAtom));
  // The commit is the truth: nobody waits for the copy.
  CHECK(h.Value("/t") == "3");
  h.containers.hold.clear();
  while (!h.containers.held.empty()) {
    h.containers.Release();
    h.loop.Turn();
  }
  CHECK(h.containers.atoms.at({"mongo", "/t"}).second == Value::Integer(3));
  CHECK(Notes(h, "/.copy/") == 0);
  h.Do(Tx().Put(Change::kDelete, "/t", Value(), EntryKind::kAtom));
  h.loop.Turn();
  CHECK(h.containers.atoms.empty());
}

TEST_CASE(
    "settling: an atom that is created without a value begins with what its container has; with one, with "
    "that") {
  Settled h;
  h.containers.atoms[{"mongo", "/t"}] = {0, Value::Integer(42)};
  h.containers.atoms[{"mongo", "/u"}] = {0, Value::Integer(42)};
  Tx connect;
  connect.Put(Change::kCreate, "/t", Value(), EntryKind::kAtom).Define(In("mongo"));
  auto outcome = h.Do(connect);
  REQUIRE(outcome->as<Committed>() != nullptr);
  CHECK(ToEdn(*outcome->as<Committed>()->results[0]) == "42");
  CHECK(h.Value("/t") == "42");
  Tx create;
  create.Put(Change::kCreate, "/u", Value::Integer(1), EntryKind::kAtom).Define(In("mongo"));
  REQUIRE(Text(*h.Do(create)) == "committed");
  h.loop.Turn();
  CHECK(h.containers.atoms.at({"mongo", "/u"}).second == Value::Integer(1));
}

}  // namespace
}  // namespace stm::engine
