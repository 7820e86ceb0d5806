// Each rule of locks is shown a history that breaks it, made from one that is sound.
#include "tests/checkers/lock_checker.h"

#include <catch2/catch.hpp>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/values/edn.h"

namespace stm::check {
namespace {

using Kind = LockCall::Kind;
using Outcome = LockAnswer::Outcome;

constexpr Time kMs = 1000000;
constexpr char kLock[] = "/.locks/l";
constexpr char kFirst[] = "/.waiters/l/0000000000000000";
constexpr char kSecond[] = "/.waiters/l/0000000000000001";

Uuid LockId(uint64_t n) { return Uuid{1, n}; }
std::string IdText(uint64_t n) { return absl::StrCat(":acquire #uuid \"", ToString(LockId(n)), "\""); }

LogChange Set(std::string name, const std::string& edn) {
  LogChange change;
  change.name = std::move(name);
  change.value = ReadEdn(edn).value();
  return change;
}
LogChange Cleared(std::string name) {
  LogChange change;
  change.name = std::move(name);
  change.kind = LogChange::Kind::kDelete;
  return change;
}
LogChange Holders(const std::string& holds, const std::string& more = "") {
  return Set(kLock, absl::StrCat("{:holders [", holds, "] ", more, "}"));
}
std::string Hold(const char* session, int64_t token, uint64_t acquire,
                 const char* more = ":mode :exclusive") {
  return absl::StrCat("{:session \"", session, "\" :token ", token, " ", IdText(acquire), " ", more, "}");
}
std::string Waiter(const char* session, uint64_t acquire, const char* more = ":mode :exclusive") {
  return absl::StrCat("{:session \"", session, "\" ", IdText(acquire), " ", more, "}");
}

// Version n is committed at n * 10 ms, by the call of this id or, 0, by the daemon. Two sessions; one holds
// the lock exclusively and commits under its fence, the other waits and has it next, until its session ends;
// a wait with an end; a shared hold taken twice, and broken, after which a commit under its fence is refused.
struct SoundLocks {
  History history;
  Log log;

  SoundLocks() {
    Commit(1, 1, {Set("/.sessions/a", "{}")});
    Commit(2, 2, {Set("/.sessions/b", "{}")});
    Commit(3, 3, {Holders(Hold("a", 3, 3))});
    Commit(4, 4, {Set(kFirst, Waiter("b", 4)), Set("/.queues/l", "{:next 1}")});
    Commit(5, 5, {Set("/guarded", "1")});
    Commit(6, 6, {Holders(Hold("b", 6, 4)), Cleared(kFirst)});
    Commit(7, 7, {Set(kSecond, Waiter("a", 7)), Set("/.queues/l", "{:next 2}")});
    Commit(8, 0, {Cleared(kSecond)});
    Commit(9, 0, {Cleared("/.sessions/b"), Holders("")});
    Commit(10, 10, {Holders(Hold("a", 10, 10, ":mode :shared"))});
    Commit(11, 11, {Holders(Hold("a", 10, 10, ":mode :shared :holds 2"))});
    Commit(12, 12, {Holders(Hold("a", 10, 10, ":mode :shared"))});
    Commit(13, 13, {Holders("")});
    Commit(14, 14, {Cleared("/.sessions/a")});

    Call(1, Kind::kOpen, "a", Outcome::kDone);
    Call(2, Kind::kOpen, "b", Outcome::kDone);
    Call(3, Kind::kAcquire, "a", Outcome::kGranted, 3);
    Call(4, Kind::kAcquire, "b", Outcome::kGranted, 6).answers[0].version = 6;
    Call(6, Kind::kRelease, "a", Outcome::kReleased);
    Call(7, Kind::kAcquire, "a", Outcome::kBusy).answers[0].version = 8;
    history.lock_calls.back().wait_ms = 10;
    Call(10, Kind::kAcquire, "a", Outcome::kGranted, 10).mode = LockMode::kShared;
    Call(11, Kind::kAcquire, "a", Outcome::kGranted, 10).mode = LockMode::kShared;
    Call(12, Kind::kRelease, "a", Outcome::kStillHeld);
    Call(13, Kind::kBreak, "", Outcome::kReleased);
    Call(14, Kind::kClose, "a", Outcome::kDone);
    call(4).wait_ms = -1;

    Believe("a", 3, 35, 55, LockMode::kExclusive);
    Believe("b", 6, 65, 85, LockMode::kExclusive);
    Believe("a", 10, 105, 135, LockMode::kShared);
    history.leases = {Lease{1, "a", 20, 120 * kMs}, Lease{2, "b", 20, 65 * kMs}};
    history.quiet = Quiet{0, 500 * kMs, 10};

    Fenced(5, 3, Answer::Verdict::kCommitted, 5);
    Fenced(15, 10, Answer::Verdict::kRefused, 0);
    history.transactions.back().answers[0].fence_lost = true;
    history.transactions.back().answers[0].snapshot = 13;
  }

  void Commit(Version version, uint64_t id, std::vector<LogChange> changes) {
    LogCommit commit;
    commit.version = version;
    if (id != 0) commit.id = LockId(id);
    commit.changes = std::move(changes);
    log.push_back(std::move(commit));
    history.installed[version][1] = version * 10 * kMs;
  }
  LockCall& Call(uint64_t id, Kind kind, const char* session, Outcome outcome, int64_t token = 0) {
    LockCall call;
    call.kind = kind;
    call.id = LockId(id);
    call.session = session;
    call.lock = "/l";
    call.invoked = static_cast<Time>(id) * 10 * kMs - 5 * kMs;
    LockAnswer answer;
    answer.outcome = outcome;
    answer.version = static_cast<Version>(id);
    answer.token = token;
    call.answers.push_back(answer);
    history.lock_calls.push_back(std::move(call));
    return history.lock_calls.back();
  }
  LockCall& call(uint64_t id) {
    for (LockCall& call : history.lock_calls) {
      if (call.id == LockId(id)) return call;
    }
    FAIL("no call " << id);
    return history.lock_calls[0];
  }
  void Believe(const char* session, int64_t token, Time from_ms, Time until_ms, LockMode mode) {
    Belief belief;
    belief.session = session;
    belief.lock = "/l";
    belief.mode = mode;
    belief.token = token;
    belief.from = from_ms * kMs;
    belief.until = until_ms * kMs;
    history.beliefs.push_back(std::move(belief));
  }
  void Fenced(uint64_t id, int64_t token, Answer::Verdict verdict, Version version) {
    Transaction t;
    t.id = LockId(id);
    t.invoked = static_cast<Time>(id) * 10 * kMs - 5 * kMs;
    t.writes = {Write{"/guarded", Write::Change::kSet, Value::Integer(1)}};
    t.fences = {Fence{"/l", token}};
    Answer answer;
    answer.verdict = verdict;
    answer.at = t.invoked + 10 * kMs;
    answer.version = version;
    if (version != 0) answer.results = {Value::Integer(1)};
    t.answers.push_back(std::move(answer));
    history.transactions.push_back(std::move(t));
  }
  LogCommit& at(Version version) { return log[static_cast<size_t>(version) - 1]; }
};

// All that is said of the sound history, changed so.
std::string Said(const std::function<void(SoundLocks*)>& change) {
  SoundLocks sound;
  change(&sound);
  return ToString(Check(sound.history, sound.log));
}
bool Says(const std::string& said, const char* rule) {
  return said.compare(0, std::string(rule).size() + 2, absl::StrCat(rule, ": ")) == 0 ||
         said.find(absl::StrCat("\n", rule, ": ")) != std::string::npos;
}

#define CHECK_SAYS(rule, ...)                   \
  do {                                          \
    const std::string said = Said(__VA_ARGS__); \
    INFO(said);                                 \
    CHECK(Says(said, rule));                    \
  } while (false)

TEST_CASE("locks: a sound history passes, as written and as read again") {
  SoundLocks sound;
  CHECK(ToString(Check(sound.history, sound.log)).empty());
  History read;
  Log log;
  const std::string text = ToEdnText(sound.history, sound.log);
  REQUIRE(AddEdnText(text, &read, &log).ok());
  CHECK(ToEdnText(read, log) == text);
  CHECK(ToString(Check(read, log)).empty());
}

TEST_CASE("locks: two exclusive holders, and one beside a reader, are seen") {
  CHECK_SAYS("lock-holders",
             [](SoundLocks* s) { s->at(4).changes = {Holders(absl::StrCat(Hold("a", 3, 3), Hold("b", 4, 4)))}; });
  CHECK_SAYS("lock-holders", [](SoundLocks* s) {
    s->at(4).changes = {Holders(absl::StrCat(Hold("a", 3, 3), Hold("b", 4, 4, ":mode :shared")))};
  });
}

TEST_CASE("locks: a writer's own shared hold beside its exclusive one is no fault") {
  SoundLocks sound;
  sound.at(11).changes = {
      Holders(absl::StrCat(Hold("a", 10, 10, ":mode :shared"), Hold("a", 11, 11, ":mode :exclusive")))};
  sound.call(11).mode = LockMode::kExclusive;
  sound.call(11).answers[0].token = 11;
  sound.call(12).token = 11;
  CHECK(ToString(Check(sound.history, sound.log)).empty());
}

TEST_CASE("locks: more permits than there are, are seen") {
  const auto permits = [](int64_t max) {
    return [max](SoundLocks* s) {
      s->at(10).changes = {
          Holders(Hold("a", 10, 10, ":mode :permits :permits 2"), absl::StrCat(":permits-max ", max))};
      s->log.resize(10);
      s->history.lock_calls.resize(7);
      s->call(10).mode = LockMode::kPermits;
      s->history.beliefs.pop_back();
      s->history.quiet = Quiet();
      s->history.transactions.pop_back();
    };
  };
  CHECK(Said(permits(2)).empty());
  CHECK_SAYS("lock-holders", permits(1));
}

// Planted: token_reused.
TEST_CASE("locks: a token that was given before is seen, also of a lock that was forgotten") {
  const auto token = [](SoundLocks* s, int64_t token) {
    for (Version version : {10, 11, 12}) {
      LogChange& change = s->at(version).changes[0];
      change.value =
          ReadEdn(absl::StrReplaceAll(ToEdn(*change.value), {{":token 10", absl::StrCat(":token ", token)}}))
              .value();
    }
  };
  CHECK_SAYS("lock-token", [&](SoundLocks* s) { token(s, 6); });
  CHECK_SAYS("lock-token", [&](SoundLocks* s) {
    s->at(9).changes.back() = Cleared(kLock);
    token(s, 1);
  });
}

TEST_CASE("locks: who came later is not granted first") {
  // Behind the first who waits.
  CHECK_SAYS("lock-order", [](SoundLocks* s) {
    s->at(5) = s->at(7);
    s->at(5).version = 5;
    s->at(6).changes = {Holders(Hold("a", 6, 7)), Cleared(kSecond)};
  });
  // Past it, though it was ready to wait.
  CHECK_SAYS("lock-order", [](SoundLocks* s) {
    s->at(6).changes = {Holders("")};
    s->at(7).changes = {Holders(Hold("a", 7, 7))};
  });
}

TEST_CASE("locks: who asks at once may pass those who wait") {
  SoundLocks sound;
  sound.at(7).changes = {
      Holders(absl::StrCat(Hold("b", 6, 4, ":mode :shared"), Hold("a", 7, 7, ":mode :shared")))};
  sound.at(6).changes[0] = Holders(Hold("b", 6, 4, ":mode :shared"));
  sound.at(5).changes.push_back(Set(kSecond, Waiter("a", 99)));
  sound.call(7).wait_ms = 0;
  const std::string said = ToString(Check(sound.history, sound.log));
  INFO(said);
  CHECK_FALSE(Says(said, "lock-order"));
}

TEST_CASE("locks: a hold that is doubled, comes from nowhere or goes by itself is seen") {
  CHECK_SAYS("lock-change",
             [](SoundLocks* s) { s->at(11).changes = {Holders(Hold("a", 10, 10, ":mode :shared :holds 3"))}; });
  // One call, granted twice.
  CHECK_SAYS("lock-change", [](SoundLocks* s) {
    s->at(11).changes = {
        Holders(absl::StrCat(Hold("a", 10, 10, ":mode :shared"), Hold("a", 11, 10, ":mode :shared")))};
  });
  CHECK_SAYS("lock-change", [](SoundLocks* s) { s->at(8).changes.push_back(Holders("")); });
  // It outlives its session.
  CHECK_SAYS("lock-change", [](SoundLocks* s) { s->at(9).changes.pop_back(); });
  CHECK_SAYS("lock-change", [](SoundLocks* s) { s->at(10).changes = {Holders(Hold("a", 10, 77))}; });
}

// Planted: waiter_dropped.
TEST_CASE("locks: a waiter that is dropped, or left waiting for what is free, is seen") {
  CHECK_SAYS("lock-waiter", [](SoundLocks* s) { s->call(7).wait_ms = -1; });
  CHECK_SAYS("lock-waiter", [](SoundLocks* s) { s->at(6).changes = {Holders("")}; });
  CHECK_SAYS("lock-waiter", [](SoundLocks* s) {
    s->at(6).changes = {Holders("")};
    s->at(7).changes = {Cleared(kFirst)};
  });
}

TEST_CASE("locks: what a call was told is what the log made of it") {
  CHECK_SAYS("lock-answer", [](SoundLocks* s) { s->call(4).answers[0].token = 3; });
  CHECK_SAYS("lock-answer", [](SoundLocks* s) { s->call(4).answers[0].version = 5; });
  CHECK_SAYS("lock-answer", [](SoundLocks* s) {
    LockAnswer other = s->call(11).answers[0];
    other.token = 3;
    s->call(11).answers.push_back(other);
  });
  CHECK_SAYS("lock-answer", [](SoundLocks* s) { s->call(3).answers[0].outcome = Outcome::kBusy; });
  CHECK_SAYS("lock-answer", [](SoundLocks* s) { s->call(6).answers[0].outcome = Outcome::kNotCommitted; });
}

TEST_CASE("locks: a session that nobody keeps and that stays is seen") {
  CHECK_SAYS("lock-stuck", [](SoundLocks* s) { s->history.quiet.grace_ms = 1; });
  CHECK_SAYS("lock-stuck", [](SoundLocks* s) { s->log.pop_back(); });
  // While daemons die, nothing is claimed.
  SoundLocks sound;
  sound.history.quiet.from = 200 * kMs;
  sound.history.quiet.grace_ms = 1;
  CHECK(ToString(Check(sound.history, sound.log)).empty());
}

// Planted: expire_early, answer_unsure.
TEST_CASE("locks: a lock that goes to another while its holder believes in it is seen") {
  CHECK_SAYS("belief", [](SoundLocks* s) { s->history.beliefs[1].until = 91 * kMs; });
  CHECK_SAYS("belief", [](SoundLocks* s) { s->history.beliefs[0].token = 6; });
  // Also where no log is at hand.
  SoundLocks sound;
  sound.history.beliefs[1].from = 50 * kMs;
  CHECK(Says(ToString(CheckLocks(sound.history, {})), "belief"));
}

// Planted: skip_fences.
TEST_CASE("locks: a commit goes through while its fence's grant stands, and only then") {
  CHECK_SAYS("fence", [](SoundLocks* s) { s->history.transactions[0].fences[0].token = 6; });
  CHECK_SAYS("fence", [](SoundLocks* s) { s->history.transactions[1].answers[0].snapshot = 12; });
}

}  // namespace
}  // namespace stm::check
