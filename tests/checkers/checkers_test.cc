// Each rule is shown a history that breaks it, and the sound history that this was made from.
#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/values/edn.h"
#include "engine/values/vector.h"
#include "tests/checkers/checker.h"
#include "tests/checkers/history.h"

namespace stm::check {
namespace {

Uuid Id(uint64_t n) { return Uuid{1, n}; }
Value Int(int64_t i) { return Value::Integer(i); }

LogChange Set(std::string name, int64_t value) {
  LogChange change;
  change.name = std::move(name);
  change.value = Int(value);
  return change;
}
LogChange Create(std::string name, int64_t value) {
  LogChange change = Set(std::move(name), value);
  change.kind = LogChange::Kind::kCreate;
  return change;
}
LogChange Gone(std::string name, LogChange::Kind kind = LogChange::Kind::kDelete) {
  LogChange change;
  change.name = std::move(name);
  change.kind = kind;
  return change;
}
LogCommit Commit(Version version, uint64_t id, std::vector<LogChange> changes) {
  LogCommit commit;
  commit.version = version;
  commit.id = Id(id);
  commit.changes = std::move(changes);
  return commit;
}

Write SetTo(std::string name, int64_t value) {
  return Write{std::move(name), Write::Change::kSet, Int(value)};
}
Write Add(std::string name, int64_t value) { return Write{std::move(name), Write::Change::kAdd, Int(value)}; }
Write CreateAs(std::string name, int64_t value) {
  return Write{std::move(name), Write::Change::kCreate, Int(value)};
}

Answer Told(Answer::Verdict verdict, Time at, Version version = 0) {
  Answer answer;
  answer.verdict = verdict;
  answer.at = at;
  answer.version = version;
  return answer;
}

Transaction Sent(uint64_t id, Time invoked, Version snapshot, std::vector<std::string> reads,
                 std::vector<Write> writes, Time answered, Version version) {
  Transaction t;
  t.id = Id(id);
  t.invoked = invoked;
  t.snapshot = snapshot;
  t.reads = std::move(reads);
  t.writes = std::move(writes);
  Answer answer = Told(Answer::Verdict::kCommitted, answered, version);
  t.answers.push_back(answer);
  return t;
}

// Two creations, an alter of /a at 3, a commute of /b at 4, a create under a list at 5, a delete at 6.
struct Sound {
  History history;
  Log log;

  Sound() {
    log = {
        Commit(1, 1, {Create("/a", 10)}), Commit(2, 2, {Create("/b", 20)}), Commit(3, 3, {Set("/a", 11)}),
        Commit(4, 4, {Set("/b", 25)}),    Commit(5, 5, {Create("/c", 1)}),  Commit(6, 6, {Gone("/a")}),
    };
    auto& t = history.transactions;
    t.push_back(Sent(1, 10, 0, {}, {CreateAs("/a", 10)}, 20, 1));
    t.back().answers[0].results = {Int(10)};
    t.push_back(Sent(2, 30, 0, {}, {SetTo("/b", 20)}, 40, 2));
    t.push_back(Sent(3, 50, 2, {"/a"}, {SetTo("/a", 11)}, 60, 3));
    t.push_back(Sent(4, 50, 2, {}, {Add("/b", 5)}, 70, 4));
    t.back().answers[0].results = {Int(25)};
    t.push_back(Sent(5, 80, 4, {"/b"}, {CreateAs("/c", 1)}, 90, 5));
    t.back().lists = {"/"};
    t.back().answers[0].results = {Int(1)};
    t.push_back(Sent(6, 100, 5, {}, {Write{"/a", Write::Change::kDelete, Value()}}, 110, 6));
    t.back().serializable = false;
    t.back().ensures = {"/b"};
    // A loser, told why.
    Transaction loser = Sent(7, 50, 2, {"/a"}, {SetTo("/a", 12)}, 0, 0);
    loser.answers = {Told(Answer::Verdict::kConflict, 65)};
    loser.answers[0].causes = {{"/a", 3}};
    loser.answers[0].snapshot = 3;
    loser.answers[0].fresh = {Entry{"/a", Int(11), 3}};
    t.push_back(loser);

    Read read;
    read.invoked = 75;
    read.answered = 78;
    read.newest = true;
    read.snapshot = 4;
    read.entries = {Entry{"/a", Int(11), 3}, Entry{"/b", Int(25), 4}, Entry{"/none", std::nullopt, 0}};
    history.reads.push_back(read);
    Read list;
    list.invoked = 120;
    list.answered = 121;
    list.newest = true;
    list.snapshot = 6;
    list.prefix = "/";
    list.entries = {Entry{"/b", Int(25), 4}, Entry{"/c", Int(1), 5}};
    history.reads.push_back(list);

    Watch watch;
    watch.prefixes = {"/"};
    watch.steps.resize(7);
    watch.steps[0].kind = WatchStep::Kind::kOpened;
    watch.steps[0].initial = true;
    watch.steps[1].kind = WatchStep::Kind::kInitial;
    watch.steps[1].entries = {Entry{"/a", Int(11), 3}, Entry{"/b", Int(20), 2}};
    watch.steps[2].kind = WatchStep::Kind::kSynced;
    watch.steps[2].version = 3;
    watch.steps[3] = Event(4, 4, {"/b", Int(20), true, Int(25), false});
    watch.steps[4].kind = WatchStep::Kind::kOpened;  // cut off and resumed
    watch.steps[4].version = 4;
    watch.steps[5] = Event(5, 5, {"/c", std::nullopt, true, Int(1), false});
    watch.steps[6] = Event(6, 6, {"/a", Int(11), true, std::nullopt, false});
    for (WatchStep& step : watch.steps) step.at = 1000;
    watch.complete_to = 6;
    history.watches.push_back(watch);

    Sleep sleep;
    sleep.invoked = 75;
    sleep.answered = 112;
    sleep.snapshot = 4;
    sleep.reads = {"/a"};
    sleep.woken_at = 6;
    history.sleeps.push_back(sleep);
    Sleep list_sleep = sleep;
    list_sleep.reads = {};
    list_sleep.lists = {"/"};
    list_sleep.woken_at = 5;
    history.sleeps.push_back(list_sleep);
  }

  static WatchStep Event(Version version, uint64_t id, WatchStep::Change change) {
    WatchStep step;
    step.kind = WatchStep::Kind::kCommit;
    step.at = 1000;
    step.version = version;
    step.id = Id(id);
    step.changes = {std::move(change)};
    return step;
  }

  Transaction& transaction(uint64_t id) { return history.transactions[id - 1]; }
  std::vector<Violation> Check() const { return stm::check::Check(history, log); }
};

// The rule is broken, and no others but those named.
void RequireBroken(const Sound& broken, Rule rule, std::vector<Rule> also = {}) {
  const std::vector<Violation> found = broken.Check();
  INFO(ToString(found));
  bool seen = false;
  for (const Violation& violation : found) {
    seen = seen || violation.rule == rule;
    const bool allowed = violation.rule == rule || std::count(also.begin(), also.end(), violation.rule) > 0;
    CHECK(allowed);
  }
  REQUIRE(seen);
}

void RequireSound(const Sound& sound) {
  INFO(ToString(sound.Check()));
  REQUIRE(sound.Check().empty());
}

TEST_CASE("checker: a sound history has no violation") { RequireSound(Sound()); }

TEST_CASE("checker: a log whose versions go back is seen") {
  Sound h;
  std::swap(h.log[3], h.log[4]);
  const auto found = h.Check();
  REQUIRE(!found.empty());
  REQUIRE(found[0].rule == Rule::kLogOrder);
}

TEST_CASE("checker: a log that tells a wrong value before, or deletes what is absent, is seen") {
  Sound h;
  h.log[2].changes[0].before_known = true;
  h.log[2].changes[0].before = Int(9);
  RequireBroken(h, Rule::kLogOrder);
  Sound g;
  g.log.push_back(Commit(7, 8, {Gone("/a")}));
  g.history.transactions.push_back(
      Sent(8, 130, 6, {}, {Write{"/a", Write::Change::kDelete, Value()}}, 140, 7));
  RequireBroken(g, Rule::kLogOrder, {Rule::kEffects});
}

TEST_CASE("checker: an id that commits twice is seen") {
  Sound h;
  h.log.push_back(Commit(7, 4, {Set("/b", 30)}));
  RequireBroken(h, Rule::kIdTwice);
}

TEST_CASE("checker: a commit that nobody sent is seen, in a whole history only") {
  Sound h;
  h.log.push_back(Commit(7, 99, {Set("/b", 30)}));
  RequireBroken(h, Rule::kUnowned);
  h.history.whole = false;
  REQUIRE(h.Check().empty());
  Sound g;
  g.log.push_back(Commit(7, 0, {Set("/b", 30)}));
  g.log.back().id = std::nullopt;
  RequireBroken(g, Rule::kUnowned);
}

TEST_CASE("checker: an acknowledged commit that the log lost is seen") {
  Sound h;
  h.log.pop_back();
  h.history.reads.pop_back();
  h.history.watches.clear();
  h.history.sleeps.erase(h.history.sleeps.begin());
  RequireBroken(h, Rule::kLostCommit);
}

TEST_CASE("checker: an acknowledged version that is another's is seen") {
  Sound h;
  h.transaction(4).answers[0].version = 3;
  RequireBroken(h, Rule::kLostCommit);
}

TEST_CASE("checker: an id told not committed that committed is seen, whatever the words") {
  for (auto verdict :
       {Answer::Verdict::kNotCommitted, Answer::Verdict::kRejected, Answer::Verdict::kRefused}) {
    Sound h;
    h.transaction(4).answers[0] = Told(verdict, 70);
    RequireBroken(h, Rule::kFalseRefusal);
  }
}

TEST_CASE("checker: an unknown outcome may have committed, or not") {
  Sound h;
  h.transaction(4).answers.clear();
  REQUIRE(h.Check().empty());
  Transaction lost = Sent(9, 130, 6, {}, {SetTo("/b", 0)}, 0, 0);
  lost.answers = {Told(Answer::Verdict::kUnknown, 140)};
  h.history.transactions.push_back(lost);
  REQUIRE(h.Check().empty());
}

TEST_CASE("checker: two verdicts for one id are seen") {
  Sound h;
  h.transaction(4).answers.push_back(Told(Answer::Verdict::kCommitted, 71, 5));
  RequireBroken(h, Rule::kOneVerdict, {Rule::kLostCommit, Rule::kRealTime});
  Sound g;
  g.transaction(4).answers.push_back(Told(Answer::Verdict::kNotCommitted, 71));
  RequireBroken(g, Rule::kOneVerdict, {Rule::kFalseRefusal});
}

TEST_CASE("checker: a commit with the wrong effect is seen: a value, one too many, one missing, records") {
  Sound h;
  h.log[3].changes[0].value = Int(24);
  h.history.reads.clear();
  h.history.watches.clear();
  h.transaction(4).answers[0].results_dropped = true;
  RequireBroken(h, Rule::kEffects);
  Sound more;
  more.log[3].changes.push_back(Create("/d", 1));
  more.history.reads.clear();
  more.history.watches.clear();
  more.transaction(5).lists.clear();
  RequireBroken(more, Rule::kEffects, {Rule::kSleep});
  Sound less;
  less.transaction(4).writes.push_back(SetTo("/z", 1));
  less.transaction(4).answers[0].results_dropped = true;
  RequireBroken(less, Rule::kEffects);
  Sound records;
  records.transaction(4).records = {Int(1)};
  RequireBroken(records, Rule::kEffects);
  Sound kept;  // a create of what is there changes nothing
  kept.transaction(3).writes = {CreateAs("/a", 11)};
  RequireBroken(kept, Rule::kEffects, {Rule::kResults});
  Sound type;  // nothing can be added to what is absent
  type.transaction(5).writes = {Add("/c", 1)};
  RequireBroken(type, Rule::kEffects);
}

TEST_CASE("checker: a result that is not the commit point's is seen") {
  Sound h;
  h.transaction(4).answers[0].results = {Int(24)};
  RequireBroken(h, Rule::kResults);
  h.transaction(4).answers[0].results = {};
  RequireBroken(h, Rule::kResults);
  h.transaction(4).answers[0].results_dropped = true;
  REQUIRE(h.Check().empty());
}

TEST_CASE("checker: a read of a wrong value, a wrong version, or of two moments is seen") {
  Sound value;
  value.history.reads[0].entries[0].value = Int(10);
  RequireBroken(value, Rule::kReadState);
  Sound version;
  version.history.reads[0].entries[0].version = 2;
  RequireBroken(version, Rule::kReadState);
  Sound moments;  // /a as at 2, /b as at 4
  moments.history.reads[0].entries[0] = Entry{"/a", Int(10), 1};
  RequireBroken(moments, Rule::kReadState);
  Sound absent;
  absent.history.reads[0].entries[1] = Entry{"/b", std::nullopt, 0};
  RequireBroken(absent, Rule::kReadState);
  Sound ahead;  // of what the log keeps
  ahead.history.reads[1].snapshot = 7;
  RequireBroken(ahead, Rule::kReadState);
}

TEST_CASE("checker: a read as seen after pending writes is carried out") {
  Sound h;
  h.history.reads[0].pending = {Add("/b", 100)};
  RequireBroken(h, Rule::kReadState);
  h.history.reads[0].entries[1].value = Int(125);
  REQUIRE(h.Check().empty());
}

TEST_CASE("checker: a listing with a name missing is seen") {
  Sound h;
  h.history.reads[1].entries.pop_back();
  RequireBroken(h, Rule::kReadState);
}

TEST_CASE("checker: a stale read is seen: answered below what was known before it was asked") {
  Sound h;
  h.history.reads[0].snapshot = 3;
  h.history.reads[0].entries[1] = Entry{"/b", Int(20), 2};
  RequireBroken(h, Rule::kRealTime);
  h.history.reads[0].newest = false;
  REQUIRE(h.Check().empty());
  h.history.reads[0].at_least = 4;
  RequireBroken(h, Rule::kRealTime);
}

TEST_CASE("checker: a commit ordered before one that was answered before it was sent is seen") {
  Sound h;
  h.transaction(3).invoked = 75;
  h.transaction(3).answers[0].at = 79;
  RequireBroken(h, Rule::kRealTime);
}

TEST_CASE("checker: a conflict told at a version below what was known is seen") {
  Sound h;
  h.history.transactions[6].invoked = 75;
  RequireBroken(h, Rule::kRealTime);
}

TEST_CASE("checker: write skew under serializable is seen") {
  // Both read both at 2; one writes /a at 3, the other /b at 4.
  Sound h;
  h.transaction(4).reads = {"/a", "/b"};
  RequireBroken(h, Rule::kStaleRead);
}

TEST_CASE("checker: a phantom is seen") {
  Sound h;
  h.transaction(5).snapshot = 1;
  h.transaction(5).reads = {};
  RequireBroken(h, Rule::kPhantom);
}

TEST_CASE(
    "checker: under snapshot isolation a lost update and a stale ensure are seen, a stale read is not") {
  Sound update;
  update.transaction(6).snapshot = 2;
  update.transaction(6).ensures = {};
  RequireBroken(update, Rule::kLostUpdate);
  Sound ensure;
  ensure.transaction(6).snapshot = 3;
  RequireBroken(ensure, Rule::kLostUpdate);
  Sound read;
  read.transaction(6).snapshot = 3;
  read.transaction(6).ensures = {};
  read.transaction(6).reads = {"/b"};
  REQUIRE(read.Check().empty());
}

TEST_CASE("checker: a conflict whose cause is not so is seen") {
  Sound other;
  other.history.transactions[6].answers[0].causes = {{"/a", 4}};
  RequireBroken(other, Rule::kFalseConflict);
  Sound old;
  old.history.transactions[6].snapshot = 3;
  RequireBroken(old, Rule::kFalseConflict);
  Sound lost;  // a cause that never was
  lost.history.transactions[6].answers[0].causes = {{"/a", 77}};
  RequireBroken(lost, Rule::kFalseConflict);
  Sound none;
  none.history.transactions[6].answers[0].causes = {};
  RequireBroken(none, Rule::kFalseConflict);
  Sound unread;  // of what was written by an operation alone
  unread.history.transactions[6].writes.push_back(Add("/b", 1));
  unread.history.transactions[6].answers[0].causes.push_back({"/b", 4});
  unread.history.transactions[6].answers[0].snapshot = 4;
  RequireBroken(unread, Rule::kFalseConflict, {Rule::kReadState, Rule::kRealTime});
  Sound fresh;
  fresh.history.transactions[6].answers[0].fresh[0].value = Int(10);
  RequireBroken(fresh, Rule::kReadState);
}

TEST_CASE("checker: a commit as the wrong kind, beside an atom, or against a rule is seen") {
  Sound kind;
  kind.log[0].changes[0].atom = true;
  kind.history.transactions[0].writes[0].atom = true;
  RequireBroken(kind, Rule::kEffects);
  Sound rule;
  rule.log[1].changes[0].ttl_ms = 0;
  rule.log[1].changes[0].min = 26;
  rule.history.transactions[1].writes[0].min = 26;
  RequireBroken(rule, Rule::kEffects);
  Sound together;
  Write atom = Add("/b", 5);
  atom.atom = true;
  together.history.transactions[2].writes.push_back(atom);
  RequireBroken(together, Rule::kEffects);
}

TEST_CASE("checker: a rejection that nothing stood for is seen") {
  const auto rejected = [](Write write, Time invoked, Version snapshot) {
    Sound h;
    Transaction t = Sent(8, invoked, 0, {}, {std::move(write)}, 0, 0);
    t.answers = {Told(Answer::Verdict::kRejected, 115)};
    t.answers[0].snapshot = snapshot;
    h.history.transactions.push_back(t);
    return h;
  };
  // Absent before 2, and after 6.
  RequireSound(rejected(Add("/b", 1), 15, 6));
  RequireBroken(rejected(Add("/b", 1), 45, 6), Rule::kFalseRejection);
  RequireSound(rejected(Add("/a", 1), 95, 6));
  RequireBroken(rejected(Add("/a", 1), 95, 5), Rule::kFalseRejection);
  Write as_atom = SetTo("/b", 1);
  as_atom.atom = true;
  RequireSound(rejected(as_atom, 45, 6));
}

TEST_CASE("checker: a watch that misses, repeats, reorders or tells wrong is seen") {
  const auto broken = [](auto change) {
    Sound h;
    change(&h.history.watches[0]);
    RequireBroken(h, Rule::kWatch, {Rule::kReadState});
  };
  broken([](Watch* w) { w->steps.erase(w->steps.begin() + 5); });                // a gap
  broken([](Watch* w) { w->steps.erase(w->steps.begin() + 3); });                // lost at the resumption
  broken([](Watch* w) { w->steps.pop_back(); });                                 // not complete
  broken([](Watch* w) { w->steps.insert(w->steps.begin() + 5, w->steps[3]); });  // twice
  broken([](Watch* w) { std::swap(w->steps[5], w->steps[6]); });                 // out of order
  broken([](Watch* w) { w->steps[3].changes[0].before = Int(19); });
  broken([](Watch* w) { w->steps[3].changes[0].after = Int(26); });
  broken([](Watch* w) { w->steps[6].changes[0].expired = true; });
  broken([](Watch* w) { w->steps[3].changes.clear(); });
  broken([](Watch* w) { w->steps[3].changes.push_back({"/a", Int(11), true, Int(11), false}); });
  broken([](Watch* w) { w->steps[3].id = Id(3); });
  broken([](Watch* w) { w->steps[3].records = {Int(1)}; });
  broken([](Watch* w) { w->steps[1].entries.pop_back(); });  // an initial entry missing
  broken([](Watch* w) { w->steps[0].initial = false; });
  broken([](Watch* w) {  // progress past what was told
    w->steps[5].kind = WatchStep::Kind::kProgress;
  });
}

TEST_CASE("checker: a watch that begins with a wrong value is seen") {
  Sound h;
  h.history.watches[0].steps[1].entries[0].value = Int(10);
  RequireBroken(h, Rule::kReadState);
}

TEST_CASE("checker: a watch that shows what is not in the log is seen") {
  Sound h;
  h.history.watches[0].steps.push_back(Sound::Event(7, 7, {"/a", std::nullopt, true, Int(12), false}));
  RequireBroken(h, Rule::kWatch);
}

TEST_CASE("checker: after a gap a watch begins again") {
  Sound h;
  auto& steps = h.history.watches[0].steps;
  steps.erase(steps.begin() + 5, steps.end());
  WatchStep gap;
  gap.kind = WatchStep::Kind::kGap;
  gap.version = 6;
  steps[4] = gap;
  WatchStep opened;
  opened.initial = true;
  steps.push_back(opened);
  WatchStep initial;
  initial.kind = WatchStep::Kind::kInitial;
  initial.entries = {Entry{"/b", Int(25), 4}, Entry{"/c", Int(1), 5}};
  steps.push_back(initial);
  WatchStep synced;
  synced.kind = WatchStep::Kind::kSynced;
  synced.version = 6;
  synced.at = 1000;
  steps.push_back(synced);
  INFO(ToString(h.Check()));
  REQUIRE(h.Check().empty());
}

TEST_CASE("checker: a sleeper woken for nothing, or never, is seen") {
  Sound early;
  early.history.sleeps[0].woken_at = 5;
  RequireBroken(early, Rule::kSleep);
  Sound never;
  never.history.sleeps[1].answered = kNever;
  never.history.sleeps[1].asleep_at = 4;
  REQUIRE(never.Check().empty());
  never.history.sleeps[1].asleep_at = 5;
  RequireBroken(never, Rule::kSleep);
  // Absent when it went to sleep, and again at 6: it would see nothing new.
  Sound again;
  again.history.sleeps[0].answered = kNever;
  again.history.sleeps[0].snapshot = 0;
  again.history.sleeps[0].asleep_at = 6;
  REQUIRE(again.Check().empty());
  again.history.sleeps[0].asleep_at = 5;
  RequireBroken(again, Rule::kSleep);
}

TEST_CASE("checker: a sleeper may be woken for what is absent, and may have been swept") {
  Sound nothing;
  nothing.history.sleeps[0].reads = {"/c"};
  nothing.history.sleeps[0].snapshot = 5;
  RequireBroken(nothing, Rule::kSleep);
  nothing.history.sleeps[0].reads = {"/none"};
  REQUIRE(nothing.Check().empty());
  nothing.history.sleeps[0].reads = {};
  nothing.history.sleeps[0].lists = {"/none/"};
  REQUIRE(nothing.Check().empty());
  nothing.history.sleeps[0].lists = {"/"};
  nothing.history.sleeps[0].snapshot = 6;
  RequireBroken(nothing, Rule::kSleep);
  // The start that it slept through read no listing's version.
  nothing.history.starts = {Start{1, 0}, Start{2, 6}};
  nothing.history.sleeps[0].life = 1;
  nothing.history.sleeps[0].asleep_in = 2;
  REQUIRE(nothing.Check().empty());
}

TEST_CASE("checker: an expiry that comes early, or without a TTL, is seen") {
  Sound h;
  h.history.watches.clear();
  h.history.sleeps.clear();
  h.history.reads.clear();
  LogCommit expiry = Commit(7, 0, {Gone("/c", LogChange::Kind::kExpire)});
  expiry.id = std::nullopt;
  h.log.push_back(expiry);
  RequireBroken(h, Rule::kExpiry);
  h.log[4].changes[0].ttl_ms = 1;
  h.history.installed[7][0] = 80 + 1000000;
  REQUIRE(h.Check().empty());
  h.history.installed[7][0] = 80 + 999999;
  RequireBroken(h, Rule::kExpiry);
}

// Sound, and then: life 1 writes a memory entry at 7 and 8, life 2 recovers 8 and lacks it, and writes it
// anew at 9.
struct Memory : Sound {
  Memory() {
    log.push_back(Commit(7, 8, {}));
    log.push_back(Commit(8, 9, {Set("/b", 1)}));
    log.push_back(Commit(9, 10, {}));
    history.starts = {{1, 0}, {2, 8}};
    history.memory = {
        {1, 7, {Create("/.memory/m", 1)}}, {1, 8, {Set("/.memory/m", 2)}}, {2, 9, {Create("/.memory/m", 5)}}};
    auto& t = history.transactions;
    t.push_back(Sent(8, 200, 0, {}, {CreateAs("/.memory/m", 1)}, 210, 7));
    t.back().answers[0].results = {Int(1)};
    t.push_back(Sent(9, 220, 7, {"/.memory/m"}, {SetTo("/b", 1), SetTo("/.memory/m", 2)}, 230, 8));
    t.back().life = 1;
    t.push_back(Sent(10, 300, 8, {"/.memory/m"}, {SetTo("/.memory/m", 5)}, 310, 9));
    t.back().life = 2;
    for (size_t i = 7; i < t.size(); ++i) t[i].answers[0].life = i < 9 ? 1 : 2;

    Read read;
    read.invoked = 240;
    read.answered = 245;
    read.snapshot = 8;
    read.life = 1;
    read.entries = {Entry{"/.memory/m", Int(2), 8}};
    history.reads.push_back(read);
    read.invoked = 260;
    read.answered = 265;
    read.life = 2;
    read.entries = {Entry{"/.memory/m", std::nullopt, 0}};
    history.reads.push_back(read);
    read.prefix = "/.memory/";
    read.entries = {};
    history.reads.push_back(read);

    Watch watch;
    watch.names = {"/.memory/m"};
    watch.steps.resize(3);
    watch.steps[0].kind = WatchStep::Kind::kOpened;
    watch.steps[1].kind = WatchStep::Kind::kSynced;
    watch.steps[1].version = 7;
    watch.steps[2] = Event(8, 9, {"/.memory/m", Int(1), true, Int(2), false});
    for (WatchStep& step : watch.steps) {
      step.at = 1000;
      step.life = 1;
    }
    watch.complete_to = 8;
    watch.complete_life = 1;
    history.watches.push_back(watch);

    Sleep sleep;
    sleep.invoked = 250;
    sleep.answered = 270;
    sleep.snapshot = 8;
    sleep.life = 1;
    sleep.asleep_in = 2;
    sleep.reads = {"/.memory/m"};
    sleep.woken_at = 8;
    sleep.fresh = {Entry{"/.memory/m", std::nullopt, 0}};
    history.sleeps.push_back(sleep);
  }
};

TEST_CASE("checker: memory entries go with their daemon's life, and a sound history says so") {
  Memory sound;
  INFO(ToString(sound.Check()));
  REQUIRE(sound.Check().empty());
}

TEST_CASE("checker: a memory entry read as it was before a start, or after it as it was before, is seen") {
  Memory before;
  before.history.reads[2].entries[0] = Entry{"/.memory/m", Int(1), 7};
  RequireBroken(before, Rule::kReadState);
  Memory after;
  after.history.reads[3].entries[0] = Entry{"/.memory/m", Int(2), 8};
  RequireBroken(after, Rule::kReadState);
  Memory across;  // one snapshot, read on in the next life
  across.history.reads[3].life = 1;
  RequireBroken(across, Rule::kReadState);
  Memory listed;
  listed.history.reads[4].entries = {Entry{"/.memory/m", Int(2), 8}};
  RequireBroken(listed, Rule::kReadState);
}

TEST_CASE("checker: what read a memory entry before a start and committed after it is seen") {
  Memory read;
  read.transaction(10).life = 1;
  RequireBroken(read, Rule::kStaleRead);
  Memory listed;
  listed.transaction(10).life = 1;
  listed.transaction(10).reads = {};
  listed.transaction(10).lists = {"/.memory/"};
  RequireBroken(listed, Rule::kPhantom);
  Memory written;
  written.transaction(10).life = 1;
  written.transaction(10).serializable = false;
  RequireBroken(written, Rule::kLostUpdate);
}

TEST_CASE("checker: a commit that comes late read the memory of the life that made it, and none of a later one") {
  const auto late = [](Version snapshot) {
    Memory h;
    h.log.push_back(Commit(10, 11, {}));
    h.log.back().life = 1;
    auto& t = h.history.transactions;
    t.push_back(Sent(11, 250, snapshot, {"/.memory/m"}, {SetTo("/.memory/m", 4)}, 400, 10));
    t.back().life = 1;
    t.back().answers[0].life = 2;
    t.back().answers[0].results_dropped = true;
    return h;
  };
  const Memory sound = late(8);
  INFO(ToString(sound.Check()));
  REQUIRE(sound.Check().empty());
  RequireBroken(late(7), Rule::kStaleRead);
}

TEST_CASE("checker: a commit whose effect on memory entries is wrong, missing, or in the log is seen") {
  Memory wrong;
  wrong.history.memory[1].changes[0].value = Int(3);
  wrong.history.reads.erase(wrong.history.reads.begin() + 2);
  wrong.history.watches.pop_back();
  RequireBroken(wrong, Rule::kEffects);
  Memory missing;
  missing.history.memory.pop_back();
  RequireBroken(missing, Rule::kEffects);
  missing.transaction(10).answers.clear();  // its life may not have lived to install it
  REQUIRE(missing.Check().empty());
  Memory unasked;
  unasked.history.memory[2].changes.push_back(Create("/.memory/other", 1));
  RequireBroken(unasked, Rule::kEffects);
  Memory logged;
  logged.log[6].changes = {Create("/.memory/m", 1)};
  logged.history.memory.erase(logged.history.memory.begin());
  RequireBroken(logged, Rule::kLogOrder);
  Memory lost;  // an installed commit
  lost.history.memory.push_back({2, 11, {Set("/.memory/m", 6)}});
  RequireBroken(lost, Rule::kLostCommit);
}

TEST_CASE("checker: a watch that hears nothing of a start that took what it watches is seen") {
  Memory h;
  auto& steps = h.history.watches[1].steps;
  WatchStep opened;
  opened.at = 1000;
  opened.version = 8;
  opened.life = 1;
  steps.push_back(opened);
  WatchStep synced;
  synced.kind = WatchStep::Kind::kSynced;
  synced.at = 1000;
  synced.version = 8;
  synced.life = 2;
  steps.push_back(synced);
  h.history.watches[1].complete_to = 8;
  h.history.watches[1].complete_life = 2;
  RequireBroken(h, Rule::kWatch);
  h.history.watches[1].names = {"/b"};
  h.history.watches[1].steps.erase(steps.begin() + 2);
  RequireBroken(h, Rule::kWatch);  // of /b it missed 8
  h.history.watches[1].steps[1].version = 8;
  REQUIRE(h.Check().empty());
}

TEST_CASE("checker: a sleeper that a start took something from sleeps on, or is woken for nothing, is seen") {
  Memory on;
  on.history.sleeps[2].answered = kNever;
  on.history.sleeps[2].asleep_at = 8;
  RequireBroken(on, Rule::kSleep);
  // It may be woken by the start's version alone; by a later one only for a change.
  Memory nothing;
  nothing.history.sleeps[2].life = 2;
  REQUIRE(nothing.Check().empty());
  nothing.history.sleeps[2].snapshot = 9;
  nothing.history.sleeps[2].woken_at = 9;
  nothing.history.sleeps[2].answered = 400;
  nothing.history.sleeps[2].fresh = {Entry{"/.memory/m", Int(5), 9}};
  RequireBroken(nothing, Rule::kSleep);
}

TEST_CASE("checker: where no start is noted nothing in memory is judged") {
  Memory h;
  h.history.starts.clear();
  h.history.memory.clear();
  h.history.reads[3].entries[0].value = Int(77);
  h.history.reads[4].entries = {Entry{"/.memory/x", Int(1), 1}};
  h.history.watches[1].steps.pop_back();
  INFO(ToString(h.Check()));
  h.history.sleeps.pop_back();
  REQUIRE(h.Check().empty());
}

// Sound, read from 2 on to its end; and the history of /b.
struct Followed : Sound {
  Followed() {
    LogRead reading;
    reading.from = 2;
    reading.answered = 200;
    reading.commits = {log.begin() + 1, log.end()};
    reading.complete_to = 6;
    reading.kept_from = 1;
    history.log_reads.push_back(reading);
    LogRead page;
    page.name = "/b";
    page.limit = 3;
    page.answered = 200;
    page.commits = {log[3], log[1]};
    page.complete_to = 6;
    page.kept_from = 1;
    history.log_reads.push_back(page);
  }
};

TEST_CASE("checker: a reading of the log that leaves out, repeats, reorders or tells otherwise is seen") {
  Followed sound;
  INFO(ToString(sound.Check()));
  REQUIRE(sound.Check().empty());
  const auto broken = [](auto change) {
    Followed h;
    change(&h.history.log_reads[0]);
    RequireBroken(h, Rule::kLogRead);
  };
  broken([](LogRead* r) { r->commits.erase(r->commits.begin()); });
  broken([](LogRead* r) { r->commits.erase(r->commits.begin() + 2); });
  broken([](LogRead* r) { r->commits.pop_back(); });
  broken([](LogRead* r) { r->commits.insert(r->commits.begin() + 1, r->commits[0]); });
  broken([](LogRead* r) { std::swap(r->commits[1], r->commits[2]); });
  broken([](LogRead* r) { r->commits[0].changes[0].value = Int(21); });
  broken([](LogRead* r) { r->commits[0].changes.clear(); });
  broken([](LogRead* r) { r->commits[0].id = Id(77); });
  broken([](LogRead* r) { r->commits[0].records = {Int(1)}; });
  broken([](LogRead* r) {
    r->commits[0].changes[0].before_known = true;
    r->commits[0].changes[0].before = Int(1);
  });
  broken([](LogRead* r) { r->from = 0; });  // from the oldest kept, which is 1
  Followed more;                            // it went on as the log grew, or broke off
  more.history.log_reads[0].complete_to = 4;
  REQUIRE(more.Check().empty());
  more.history.log_reads[0].complete_to = 0;
  more.history.log_reads[0].commits.resize(2);
  REQUIRE(more.Check().empty());
}

TEST_CASE("checker: a reading of the log refused where it is kept, or told a wrong first version, is seen") {
  Followed h;
  LogRead& reading = h.history.log_reads[0];
  reading.commits.clear();
  reading.complete_to = 0;
  reading.kept_when_refused = reading.refused_below = 4;
  REQUIRE(h.Check().empty());
  reading.commits = {h.log[1], h.log[2]};  // it goes on at 4, which is kept
  RequireBroken(h, Rule::kLogRead);
  reading.commits.pop_back();
  REQUIRE(h.Check().empty());
  reading.kept_when_refused = 5;
  RequireBroken(h, Rule::kLogRead);
}

TEST_CASE("checker: a page of an entry's history that leaves out, adds or tells otherwise is seen") {
  const auto broken = [](auto change) {
    Followed h;
    change(&h.history.log_reads[1]);
    RequireBroken(h, Rule::kLogRead);
  };
  broken([](LogRead* r) { r->commits.erase(r->commits.begin()); });
  broken([](LogRead* r) { r->commits.pop_back(); });
  broken([](LogRead* r) { r->commits.push_back(r->commits[1]); });
  broken([](LogRead* r) { std::swap(r->commits[0], r->commits[1]); });
  broken([](LogRead* r) { r->commits[1].changes[0].value = Int(21); });
  broken([](LogRead* r) { r->limit = 1; });
  broken([](LogRead* r) { r->from = 4; });
  Followed h;
  LogRead& page = h.history.log_reads[1];
  page.commits.pop_back();
  page.kept_from = 3;  // the rest is kept no more
  REQUIRE(h.Check().empty());
  page.kept_from = 1;
  page.limit = 1;
  REQUIRE(h.Check().empty());
  page.commits = {h.log[1]};
  page.from = 4;
  REQUIRE(h.Check().empty());
  page.from = 0;
  page.complete_to = 3;  // 4 came after it was asked for
  REQUIRE(h.Check().empty());
}

TEST_CASE("checker: carrying writes out follows their order") {
  const std::vector<Write> writes = {CreateAs("/a", 1), Add("/a", 2), Add("/b", 1), SetTo("/a", 7),
                                     Add("/a", 1)};
  const Outcome outcome = Carry(writes, "/a", Content());
  REQUIRE(outcome.possible);
  REQUIRE(outcome.after.value == Int(8));
  REQUIRE(outcome.results[1] == Int(3));
  REQUIRE(!Carry(writes, "/b", Content()).possible);
  REQUIRE(Carry(writes, "/b", Content{Int(1)}).after.value == Int(2));
  REQUIRE(!Carry({CreateAs("/a", 1)}, "/a", Content{Int(5)}).changed);
  const Write conj{"/v", Write::Change::kConj, Int(3)};
  REQUIRE(Carry({conj}, "/v", Content{Value::OfVector(std::vector<Value>{Int(1)})}).after.value ==
          Value::OfVector(std::vector<Value>{Int(1), Int(3)}));
  REQUIRE(!Carry({conj}, "/v", Content{Int(1)}).possible);
}

TEST_CASE("checker: carrying writes out keeps to kinds and rules") {
  const Content ref{Int(5), false, 3}, atom{Int(5), true, std::nullopt};
  REQUIRE(Carry({Add("/a", -2)}, "/a", ref).possible);
  REQUIRE(!Carry({Add("/a", -3)}, "/a", ref).possible);
  REQUIRE(Carry({Add("/a", -3), Add("/a", 3)}, "/a", ref).possible);  // the rule is for what stays
  REQUIRE(!Carry({SetTo("/a", 2)}, "/a", ref).possible);
  REQUIRE(!Carry({Add("/a", 1)}, "/a", atom).possible);
  Write define{"/a", Write::Change::kDefine};
  define.min = 6;
  REQUIRE(!Carry({define}, "/a", ref).possible);
  REQUIRE(Carry({define, Add("/a", 1)}, "/a", ref).after.min == 6);
  Write again = SetTo("/a", 1);
  again.atom = true;
  // What is deleted takes its kind and its rule along.
  const Outcome anew = Carry({Write{"/a", Write::Change::kDelete}, again}, "/a", ref);
  REQUIRE((anew.possible && anew.after.atom && !anew.after.min));
}

TEST_CASE("history: lines read back give the same history") {
  Memory sound;
  sound.history.installed[3][0] = 5;
  sound.history.transactions[3].records = {*ReadEdn("#blog.CreateUser{:name \"Bob\"}")};
  sound.history.transactions[3].writes[0].ttl_ms = 5;
  sound.history.reads[0].pending = {Add("/b", 0)};
  sound.history.sleeps[0].answered = kNever;
  sound.history.sleeps[0].asleep_at = 4;
  sound.log[0].changes[0].ttl_ms = 0;
  sound.log[0].changes[0].min = 0;
  sound.log[0].changes[0].atom = true;
  sound.history.transactions[3].writes[0].atom = true;
  sound.history.transactions[3].writes[0].min = -3;
  sound.log[1].changes[0].before_known = true;
  sound.history.transactions[0].answers[0].results = {std::nullopt, Value(), Int(1)};
  const Followed followed;
  sound.history.log_reads = followed.history.log_reads;
  sound.history.log_reads[0].refused_below = 9;
  sound.history.log_reads[0].kept_when_refused = 8;
  const std::string text = ToEdnText(sound.history, sound.log);
  History history;
  Log log;
  REQUIRE(AddEdnText(text, &history, &log).ok());
  REQUIRE(ToEdnText(history, log) == text);
  REQUIRE(history.transactions[0].answers[0].results ==
          std::vector<std::optional<Value>>{std::nullopt, Value(), Int(1)});
}

TEST_CASE("history: a bad line is refused by line and key") {
  History history;
  Log log;
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"{:op :commit :id 7}", "line 1: :id: expected uuid"},
      {"\n{:op :read :snapshott 7}", "line 2: ::snapshott: expected no such key"},
      {"{:op :red}", "line 1: :op: expected one of :commit..."},
      {"[]", "line 1: :: expected a map"},
  };
  for (const auto& [text, message] : bad) {
    CHECK(AddEdnText(text, &history, &log).message() == message);
  }
}

}  // namespace
}  // namespace stm::check
