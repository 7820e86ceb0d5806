#include "tests/checkers/checker.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/values/edn.h"
#include "engine/values/vector.h"
#include "tests/checkers/lock_checker.h"

namespace stm::check {
namespace {

constexpr std::string_view kRuleNames[] = {
    "log-order",   "id-twice",       "unowned",         "lost-commit", "false-refusal", "one-verdict",
    "effects",     "results",        "read-state",      "real-time",   "stale-read",    "phantom",
    "lost-update", "false-conflict", "false-rejection", "watch",       "sleep",         "log-read",
    "expiry",      "lock-holders",   "lock-token",      "lock-order",  "lock-change",   "lock-waiter",
    "lock-answer", "lock-stuck",     "belief",          "fence",
};

// What the daemon notes of values that containers keep, beside anybody's writes.
bool IsNote(std::string_view name) {
  for (const std::string_view prefix : {"/.staged/", "/.erase/", "/.copy/"}) {
    if (name.substr(0, prefix.size()) == prefix) return true;
  }
  return false;
}

bool Under(std::string_view name, std::string_view prefix) {
  if (name.substr(0, prefix.size()) != prefix) return false;
  // "/" means all but the system's.
  return prefix.substr(0, 2) == "/." || name.substr(0, 2) != "/.";
}

std::string Show(const std::optional<Value>& value) {
  if (!value) return "absent";
  std::string text = ToEdn(*value);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

bool InMemory(std::string_view name) {
  constexpr std::string_view kMemory = "/.memory/";
  return name.substr(0, kMemory.size()) == kMemory;
}

constexpr Version kNoVersion = std::numeric_limits<Version>::max();

// A place in the order of all states. A start of a daemon takes what is under "/.memory/" and gives no
// version: of the version that it recovered, the life tells what was before it from what came after. Of
// daemons that share the store the life says also whose memory it is.
struct Place {
  Version version = 0;
  Life life = 0;
  friend bool operator<(const Place& a, const Place& b) {
    return std::tie(a.version, a.life) < std::tie(b.version, b.life);
  }
};

// What is written beside an atom, which changes alone; "": all is well.
std::string WithAtom(const std::vector<Write>& writes) {
  const auto changes = [](const Write& write) { return write.change != Write::Change::kCreate; };
  const auto atom = std::find_if(writes.begin(), writes.end(),
                                 [&](const Write& write) { return write.atom && changes(write); });
  if (atom == writes.end()) return "";
  const auto other = std::find_if(writes.begin(), writes.end(), [&](const Write& write) {
    return write.name != atom->name && changes(write);
  });
  return other == writes.end() ? "" : other->name;
}

// What the log, or a life's memory, makes of one entry, place by place.
struct Point : Content {
  Place place;
  bool listing = false;  // it came or went: the listings above it changed
  bool define = false;   // the definition alone
  int64_t ttl_ms = 0;
  const LogCommit* commit = nullptr;  // null: a start took it
};

// Every state that the log and the lives' memories passed through.
class States {
 public:
  States(const Log& log, const History& history) : starts_(history.starts) {
    for (const Start& start : starts_) daemon_of_[start.life] = start.daemon;
    for (const LogCommit& commit : log) {
      if (commit.life != 0) made_by_[commit.version] = commit.life;
    }
    std::map<Version, const MemoryCommit*> memory;
    for (const MemoryCommit& commit : history.memory) {
      if (commit.life == LifeOf(commit.version)) memory[commit.version] = &commit;
    }
    log_.reserve(log.size());
    std::vector<bool> begun(starts_.size());
    const auto begin_upto = [&](Life life) {
      for (size_t i = 0; i < starts_.size(); ++i) {
        const bool own = life == kLast || starts_[i].daemon == DaemonOf(life);
        if (begun[i] || !own || starts_[i].life > life) continue;
        Begin(starts_[i]);
        begun[i] = true;
      }
    };
    for (const LogCommit& in_log : log) {
      begin_upto(LifeOf(in_log.version));
      log_.push_back(in_log);
      LogCommit& commit = log_.back();
      by_version_[commit.version] = &commit;
      const auto noted = memory.find(commit.version);
      if (noted != memory.end()) {
        const std::vector<LogChange>& changes = noted->second->changes;
        commit.changes.insert(commit.changes.end(), changes.begin(), changes.end());
        noted_.insert(commit.version);
      }
      for (const LogChange& change : commit.changes) Add(commit, change);
    }
    begin_upto(kLast);
  }

  // The log, and in it what was noted of memory entries.
  const Log& log() const { return log_; }
  Version newest() const { return log_.empty() ? 0 : log_.back().version; }
  // Is anything known of the entry, or the listing?
  bool Judges(std::string_view name) const { return !InMemory(name) || !starts_.empty(); }

  // The life that made the commit of this version: as the log tells, or the last that had not recovered it.
  Life LifeOf(Version version) const {
    const auto made = made_by_.find(version);
    if (made != made_by_.end()) return made->second;
    for (auto start = starts_.rbegin(); start != starts_.rend(); ++start) {
      if (start->recovered < version) return start->life;
    }
    return 0;
  }
  int64_t DaemonOf(Life life) const {
    const auto found = daemon_of_.find(life);
    return found == daemon_of_.end() ? 0 : found->second;
  }
  // Do daemons share the store?
  bool Shared() const { return !starts_.empty() && starts_.front().daemon != 0; }
  // Had the life, which had recovered, installed this version by then, as it noted?
  bool InstalledBy(Life life, Version version, Time time, const History& history) const {
    if (version <= RecoveredBy(life)) return true;
    const auto lives = history.installed.find(version);
    if (lives == history.installed.end()) return false;
    const auto installed = lives->second.find(life);
    return installed != lives->second.end() && installed->second <= time;
  }
  // What the life began with; 0: the life was not noted.
  Version RecoveredBy(Life life) const {
    for (const Start& start : starts_) {
      if (start.life == life) return start.recovered;
    }
    return 0;
  }
  // Just before the commit of this version, and just after it.
  Place Before(Version version) const { return Place{version - 1, LifeOf(version)}; }
  Place After(Version version) const { return Place{version, LifeOf(version)}; }
  // Did it change a memory entry, as its life noted?
  bool Noted(Version version) const { return noted_.count(version) > 0; }

  const LogCommit* At(Version version) const {
    auto found = by_version_.find(version);
    return found == by_version_.end() ? nullptr : found->second;
  }
  // The newest point at or before `place`; null: never written by then.
  const Point* StateAt(const std::string& name, Place place) const {
    auto found = entries_.find(KeyOf(name, place.life));
    if (found == entries_.end()) return nullptr;
    auto next = Behind(found->second, place);
    while (next != found->second.begin()) {
      if (Sees(place.life, name, *--next)) return &*next;
    }
    return nullptr;
  }
  std::optional<Value> ValueAt(const std::string& name, Place place) const {
    const Point* point = StateAt(name, place);
    return point == nullptr ? std::nullopt : point->value;
  }
  Content ContentAt(const std::string& name, Place place) const {
    const Point* point = StateAt(name, place);
    return point == nullptr ? Content() : Content(*point);
  }
  // The oldest change in (after, upto]; null: none.
  const Point* ChangeIn(const std::string& name, Place after, Place upto) const {
    auto found = entries_.find(KeyOf(name, upto.life));
    if (found == entries_.end()) return nullptr;
    for (auto next = Behind(found->second, after); next != found->second.end() && !(upto < next->place); ++next) {
      if (Sees(upto.life, name, *next)) return &*next;
    }
    return nullptr;
  }
  // A name that came or went under `prefix` in (after, upto]; "": none.
  std::string ListingChangeIn(const std::string& prefix, Place after, Place upto) const {
    for (const auto& [key, points] : entries_) {
      const std::string& name = key.first;
      if (!Under(name, prefix) || KeyOf(name, upto.life) != key) continue;
      for (auto point = Behind(points, after); point != points.end() && !(upto < point->place); ++point) {
        if (point->listing && Sees(upto.life, name, *point)) return name;
      }
    }
    return "";
  }
  std::vector<std::string> ListAt(const std::string& prefix, Place place) const {
    std::vector<std::string> names;
    for (const std::string& name : NamesFor(place.life)) {
      if (Under(name, prefix) && ValueAt(name, place)) names.push_back(name);
    }
    return names;
  }
  // Of all entries that were there once, as the life sees them.
  std::vector<std::string> NamesFor(Life life) const {
    std::vector<std::string> names;
    for (const auto& [key, points] : entries_) {
      if (KeyOf(key.first, life) == key) names.push_back(key.first);
    }
    return names;
  }
  // An entry, and the daemon in whose memory it is; 0: in all.
  using Key = std::pair<std::string, int64_t>;
  const std::map<Key, std::vector<Point>>& entries() const { return entries_; }

 private:
  static constexpr Life kLast = std::numeric_limits<Life>::max();

  Key KeyOf(const std::string& name, Life life) const { return {name, InMemory(name) ? DaemonOf(life) : 0}; }

  // A commit may reach the order when its daemon has died and lives again: the memory that it read is that of
  // the life that made it, which knows nothing of later ones.
  static bool Sees(Life life, std::string_view name, const Point& point) {
    return !InMemory(name) || point.place.life <= life;
  }

  static std::vector<Point>::const_iterator Behind(const std::vector<Point>& points, Place place) {
    return std::upper_bound(points.begin(), points.end(), place,
                            [](Place place, const Point& point) { return place < point.place; });
  }

  void Add(const LogCommit& commit, const LogChange& change) {
    std::vector<Point>& points = entries_[KeyOf(change.name, LifeOf(commit.version))];
    const Point* last = points.empty() ? nullptr : &points.back();
    const bool was = last != nullptr && last->value.has_value();
    Point point;
    // What the log holds is the same in every life.
    point.place = InMemory(change.name) ? After(commit.version) : Place{commit.version, 0};
    point.commit = &commit;
    using Kind = LogChange::Kind;
    if (was && (change.kind == Kind::kSet || change.kind == Kind::kDefine)) {
      static_cast<Content&>(point) = *last;
      point.ttl_ms = last->ttl_ms;
    }
    if (change.kind == Kind::kCreate) point.atom = change.atom;
    if (change.kind == Kind::kCreate || change.kind == Kind::kSet) point.value = change.value;
    if (change.kind == Kind::kDefine) point.define = true;
    if (change.ttl_ms) {
      point.ttl_ms = *change.ttl_ms;
      point.min = change.min;
    }
    point.listing = was != point.value.has_value();
    points.push_back(std::move(point));
  }

  void Begin(const Start& start) {
    for (auto& [key, points] : entries_) {
      if (!InMemory(key.first) || key.second != start.daemon || !points.back().value) continue;
      Point gone;
      gone.place = Place{start.recovered, start.life};
      gone.listing = true;
      points.push_back(std::move(gone));
    }
  }

  const std::vector<Start> starts_;
  std::map<Life, int64_t> daemon_of_;
  std::map<Version, Life> made_by_;
  Log log_;
  std::set<Version> noted_;
  std::map<Version, const LogCommit*> by_version_;
  std::map<Key, std::vector<Point>> entries_;
};

class Checking {
 public:
  Checking(const History& history, const Log& log) : history_(history), states_(log, history) {
    for (const Transaction& t : history.transactions) by_id_[t.id] = &t;
    for (const LockCall& call : history.lock_calls) calls_.insert(call.id);
    for (const LogCommit& commit : log) {
      if (commit.id) in_log_[*commit.id].push_back(commit.version);
      for (const LogChange& change : commit.changes) {
        if (!InMemory(change.name)) continue;
        Report(Rule::kLogOrder, "version ", commit.version, " holds ", change.name,
               ", which is kept in memory");
      }
    }
  }

  std::vector<Violation> Run() {
    Learn();
    LogOrder();
    IdsAndOwners();
    for (const Transaction& t : history_.transactions) {
      Verdicts(t);
      const auto found = in_log_.find(t.id);
      if (found == in_log_.end() || found->second.size() != 1) continue;
      const LogCommit& commit = *states_.At(found->second[0]);
      Effects(t, commit);
      Isolation(t, commit);
    }
    for (const Read& read : history_.reads) ReadState(read);
    RealTime();
    for (const Watch& watch : history_.watches) WatchStream(watch);
    for (const Sleep& sleep : history_.sleeps) Sleeping(sleep);
    for (const LogRead& read : history_.log_reads) read.name.empty() ? LogReading(read) : HistoryPage(read);
    Expiries();
    for (Violation& violation : CheckLocks(history_, states_.log())) {
      if (++counts_[violation.rule] <= kViolationsMax) violations_.push_back(std::move(violation));
    }
    return std::move(violations_);
  }

 private:
  template <typename... Parts>
  void Report(Rule rule, const Parts&... parts) {
    if (++counts_[rule] > kViolationsMax) return;
    violations_.push_back(Violation{rule, absl::StrCat(parts...)});
  }
  static Place SnapshotOf(const Transaction& t) { return Place{t.snapshot, t.life}; }
  static std::string Name(const Transaction& t) {
    return absl::StrCat("transaction ", ToString(t.id), " of client ", t.client);
  }

  void LogOrder() {
    for (const MemoryCommit& noted : history_.memory) {
      if (states_.Noted(noted.version) && states_.LifeOf(noted.version) == noted.life) continue;
      Report(Rule::kLostCommit, "life ", noted.life, " installed ", noted.version,
             ", which it has not in the log");
    }
    Version last = 0;
    for (const LogCommit& commit : states_.log()) {
      if (commit.version <= last) Report(Rule::kLogOrder, "version ", commit.version, " after ", last);
      last = commit.version;
      std::set<std::string> names;
      for (const LogChange& change : commit.changes) {
        if (!names.insert(change.name).second) {
          Report(Rule::kLogOrder, "version ", commit.version, " changes ", change.name, " twice");
        }
        const std::optional<Value> before = states_.ValueAt(change.name, states_.Before(commit.version));
        if (change.before_known && change.before != before) {
          Report(Rule::kLogOrder, "version ", commit.version, " says that ", change.name, " was ",
                 Show(change.before), "; it was ", Show(before));
        }
        const bool needs = change.kind == LogChange::Kind::kDelete ||
                           change.kind == LogChange::Kind::kExpire || change.kind == LogChange::Kind::kDefine;
        if (needs && !before) {
          Report(Rule::kLogOrder, "version ", commit.version, " deletes or defines ", change.name,
                 ", which is absent");
        }
      }
    }
  }

  void IdsAndOwners() {
    for (const auto& [id, versions] : in_log_) {
      if (versions.size() > 1) {
        Report(Rule::kIdTwice, "id ", ToString(id), " is committed at ", versions[0], " and at ",
               versions[1]);
      }
    }
    if (!history_.whole) return;
    for (const LogCommit& commit : states_.log()) {
      if (commit.id) {
        if (by_id_.count(*commit.id) == 0 && calls_.count(*commit.id) == 0) {
          Report(Rule::kUnowned, "version ", commit.version, ": nobody sent id ", ToString(*commit.id));
        }
        continue;
      }
      for (const LogChange& change : commit.changes) {
        if (change.kind == LogChange::Kind::kExpire || IsOfLocks(change.name) || IsNote(change.name)) continue;
        Report(Rule::kUnowned, "version ", commit.version, " has no id and changes ", change.name);
      }
    }
  }

  void Verdicts(const Transaction& t) {
    const auto found = in_log_.find(t.id);
    const Answer* committed = nullptr;
    const Answer* refused = nullptr;
    for (const Answer& answer : t.answers) {
      switch (answer.verdict) {
        case Answer::Verdict::kCommitted:
          if (committed != nullptr && committed->version != answer.version) {
            Report(Rule::kOneVerdict, Name(t), " was told versions ", committed->version, " and ",
                   answer.version);
          }
          committed = &answer;
          Acknowledged(t, answer);
          break;
        case Answer::Verdict::kConflict:
          Conflict(t, answer);
          refused = &answer;
          break;
        case Answer::Verdict::kRejected:
          Rejection(t, answer);
          [[fallthrough]];
        case Answer::Verdict::kRefused:
        case Answer::Verdict::kNotCommitted:
          refused = &answer;
          break;
        case Answer::Verdict::kUnknown:
          break;
      }
    }
    if (committed != nullptr && refused != nullptr) {
      Report(Rule::kOneVerdict, Name(t), " was told committed at ", committed->version, " and refused");
    }
    if (refused != nullptr && found != in_log_.end()) {
      Report(Rule::kFalseRefusal, Name(t), " was told that it did not commit; it did, at ", found->second[0]);
    }
  }

  void Acknowledged(const Transaction& t, const Answer& answer) {
    const LogCommit* commit = states_.At(answer.version);
    if (commit == nullptr) {
      Report(Rule::kLostCommit, Name(t), " was told version ", answer.version, ", which is not in the log");
    } else if (commit->id != std::optional<Uuid>(t.id)) {
      Report(Rule::kLostCommit, Name(t), " was told version ", answer.version, ", which is another's");
    }
  }

  void Conflict(const Transaction& t, const Answer& answer) {
    for (const Answer::Cause& cause : answer.causes) {
      if (!Counts(t, cause.name)) {
        Report(Rule::kFalseConflict, Name(t), " was told of a conflict with ", cause.name,
               ", which its isolation does not check");
      }
      if (cause.version == 0) {
        MayHaveChanged(t, answer, cause.name);
        continue;
      }
      const LogCommit* commit = states_.At(cause.version);
      const Place before = states_.Before(cause.version);
      const Place after = states_.After(cause.version);
      bool real = cause.version > t.snapshot && commit != nullptr;
      if (!states_.Judges(cause.name)) {
        continue;
      } else if (real && cause.name.back() == '/') {
        real = !states_.ListingChangeIn(cause.name, before, after).empty();
      } else if (real) {
        real = states_.ChangeIn(cause.name, before, after) != nullptr;
      }
      if (!real) {
        Report(Rule::kFalseConflict, Name(t), " with snapshot ", t.snapshot, " was told of a conflict with ",
               cause.name, " at ", cause.version, ", which is not so");
      }
    }
    if (answer.causes.empty()) Report(Rule::kFalseConflict, Name(t), " was told of a conflict with nothing");
    const Place snapshot{answer.snapshot, answer.life};
    for (const Entry& entry : answer.fresh) EntryState(entry, snapshot, {}, Name(t) + ", fresh");
  }

  // Can a change of the entry, or of the listing, be a conflict?
  static bool Counts(const Transaction& t, const std::string& name) {
    const auto has = [&name](const std::vector<std::string>& names) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    if (has(t.ensures)) return true;
    if (t.serializable) return has(t.reads) || has(t.lists);
    return std::any_of(t.writes.begin(), t.writes.end(), [&name](const Write& write) {
      return write.name == name &&
             (write.change == Write::Change::kSet || write.change == Write::Change::kDelete);
    });
  }

  // Decided at a version between what was known before it was sent and what is told with the answer, in the
  // life that answered: at one of them it must be impossible.
  void Rejection(const Transaction& t, const Answer& answer) {
    if (answer.snapshot == 0 || !WithAtom(t.writes).empty()) return;
    std::set<std::string> names;
    for (const Write& write : t.writes) names.insert(write.name);
    Place at{std::max({t.snapshot, KnownBefore(t.invoked), states_.RecoveredBy(answer.life)}), answer.life};
    const Place last{answer.snapshot, answer.life};
    for (;;) {
      const Point* next = nullptr;
      for (const std::string& name : names) {
        if (!states_.Judges(name) || !Carry(t.writes, name, states_.ContentAt(name, at)).possible) return;
        const Point* change = states_.ChangeIn(name, at, last);
        if (change != nullptr && (next == nullptr || change->place < next->place)) next = change;
      }
      if (next == nullptr) break;
      at = Place{next->place.version, answer.life};
    }
    Report(Rule::kFalseRejection, Name(t), " was rejected by version ", answer.snapshot,
           "; nothing stood against it then, nor since it was sent");
  }

  // A cause without a version: a listing of which no more is known than that, or an entry that was deleted
  // and its tombstone swept. One that is there tells its version.
  void MayHaveChanged(const Transaction& t, const Answer& answer, const std::string& name) {
    const Place snapshot{answer.snapshot, answer.life};
    if (name.back() == '/' || !states_.ValueAt(name, snapshot)) return;
    if (states_.ChangeIn(name, SnapshotOf(t), snapshot) != nullptr) return;
    Report(Rule::kFalseConflict, Name(t), " with snapshot ", t.snapshot, " was told at ", answer.snapshot,
           " of a conflict with ", name, ", which had not changed by then");
  }

  void Effects(const Transaction& t, const LogCommit& commit) {
    if (commit.records != t.records) {
      Report(Rule::kEffects, Name(t), " at ", commit.version, ": ", commit.records.size(), " records, sent ",
             t.records.size());
    }
    const Place just_before = states_.Before(commit.version);
    const Place just_after = states_.After(commit.version);
    std::map<std::string, Outcome> outcomes;
    for (const Write& write : t.writes) {
      if (outcomes.count(write.name) > 0) continue;
      outcomes[write.name] = Carry(t.writes, write.name, states_.ContentAt(write.name, just_before));
    }
    const std::string together = WithAtom(t.writes);
    if (!together.empty()) {
      Report(Rule::kEffects, Name(t), " at ", commit.version, " writes ", together, " together with an atom");
    }
    for (const auto& [name, outcome] : outcomes) {
      if (InMemory(name) && !WasInstalled(t, commit)) continue;
      const std::optional<Value> before = states_.ValueAt(name, just_before);
      const std::optional<Value> after = states_.ValueAt(name, just_after);
      if (!outcome.possible) {
        Report(Rule::kEffects, Name(t), " at ", commit.version, " can't write ", name, ", which was ",
               Show(before), " and is ", Show(after));
      } else if (outcome.after.value != after) {
        Report(Rule::kEffects, Name(t), " at ", commit.version, ": ", name, " was ", Show(before),
               " and should be ", Show(outcome.after.value), ", is ", Show(after));
      }
      const bool in_log = states_.ChangeIn(name, just_before, just_after) != nullptr;
      if (outcome.possible && in_log && !outcome.changed) {
        Report(Rule::kEffects, Name(t), " at ", commit.version, " changes ", name,
               ", which it leaves as it is");
      }
      // An entry that came and went within one commit, or that was not there to delete, need not be told.
      if (outcome.possible && !in_log && outcome.changed && (before || outcome.after.value)) {
        Report(Rule::kEffects, Name(t), " at ", commit.version, ": the log does not say that it wrote ",
               name);
      }
    }
    for (const LogChange& change : commit.changes) {
      if (outcomes.count(change.name) == 0 && !IsNote(change.name)) {
        Report(Rule::kEffects, Name(t), " at ", commit.version, " changes ", change.name, " unasked");
      }
    }
    for (const Answer& answer : t.answers) {
      if (answer.verdict == Answer::Verdict::kCommitted && answer.version == commit.version) {
        Results(t, commit, answer, outcomes);
      }
    }
  }

  // Did the life that made the commit live to install it? Else its memory entries never changed.
  bool WasInstalled(const Transaction& t, const LogCommit& commit) const {
    const Life life = states_.LifeOf(commit.version);
    return states_.Noted(commit.version) ||
           std::any_of(t.answers.begin(), t.answers.end(), [life](const Answer& answer) {
             return life != 0 && answer.verdict == Answer::Verdict::kCommitted && answer.life == life;
           });
  }

  void Results(const Transaction& t, const LogCommit& commit, const Answer& answer,
               const std::map<std::string, Outcome>& outcomes) {
    if (answer.results_dropped) return;
    // None at all: no write has a result.
    if (!answer.results.empty() && answer.results.size() != t.writes.size()) {
      Report(Rule::kResults, Name(t), " at ", commit.version, ": ", answer.results.size(), " results for ",
             t.writes.size(), " writes");
      return;
    }
    for (size_t i = 0; i < t.writes.size(); ++i) {
      const Write& write = t.writes[i];
      const Outcome& outcome = outcomes.at(write.name);
      if (!outcome.possible || !states_.Judges(write.name)) continue;
      const std::optional<Value> result = answer.results.empty() ? std::nullopt : answer.results[i];
      if (result == outcome.results[i]) continue;
      // What a set gives its sender knows.
      if (write.change == Write::Change::kSet && !result) continue;
      Report(Rule::kResults, Name(t), " at ", commit.version, ", write ", i, " of ", write.name,
             " should give ", Show(outcome.results[i]), ", gave ", Show(result));
    }
  }

  void Isolation(const Transaction& t, const LogCommit& commit) {
    if (t.snapshot >= commit.version) {
      Report(Rule::kRealTime, Name(t), " committed at ", commit.version, ", below its snapshot ", t.snapshot);
    }
    if (t.serializable) {
      for (const std::string& name : t.reads) Unchanged(Rule::kStaleRead, t, commit, name);
      for (const std::string& prefix : t.lists) {
        const std::string name =
            states_.ListingChangeIn(prefix, SnapshotOf(t), states_.Before(commit.version));
        if (name.empty()) continue;
        Report(Rule::kPhantom, Name(t), " listed ", prefix, " at ", t.snapshot, " and committed at ",
               commit.version, "; ", name, " came or went between");
      }
      return;
    }
    // Nothing was read: there is nothing to be changed since.
    if (t.snapshot == 0) return;
    for (const std::string& name : t.ensures) Unchanged(Rule::kLostUpdate, t, commit, name);
    for (const Write& write : t.writes) {
      const bool checked = write.change == Write::Change::kSet || write.change == Write::Change::kDelete;
      if (checked) Unchanged(Rule::kLostUpdate, t, commit, write.name);
    }
  }

  void Unchanged(Rule rule, const Transaction& t, const LogCommit& commit, const std::string& name) {
    const Point* change = states_.ChangeIn(name, SnapshotOf(t), states_.Before(commit.version));
    if (change == nullptr) return;
    Report(rule, Name(t), " with snapshot ", t.snapshot, " committed at ", commit.version, "; ", name,
           change->commit == nullptr ? " went with a start at " : " changed at ", change->place.version);
  }

  void EntryState(const Entry& entry, Place snapshot, const std::vector<Write>& pending,
                  const std::string& who) {
    if (!states_.Judges(entry.name)) return;
    const Point* point = states_.StateAt(entry.name, snapshot);
    const Content content = point == nullptr ? Content() : Content(*point);
    // The tombstone of an absent entry may be swept.
    const bool swept = !content.value && entry.version == 0;
    const Version version = point == nullptr ? 0 : point->place.version;
    const Outcome outcome = Carry(pending, entry.name, content);
    if (outcome.possible && outcome.after.value != entry.value) {
      Report(Rule::kReadState, who, ": at ", snapshot.version, " ", entry.name, " is ",
             Show(outcome.after.value), ", read ", Show(entry.value));
    }
    if (!outcome.changed && version != entry.version && !swept) {
      Report(Rule::kReadState, who, ": at ", snapshot.version, " ", entry.name, " has version ", version,
             ", read ", entry.version);
    }
  }

  void ReadState(const Read& read) {
    const std::string who = absl::StrCat("client ", read.client, " reading at ", read.invoked);
    if (read.snapshot < read.at_least) {
      Report(Rule::kRealTime, who, " had seen ", read.at_least, " and was answered at ", read.snapshot);
    }
    if (read.snapshot > states_.newest()) {
      Report(Rule::kReadState, who, " was answered at ", read.snapshot, ", which is not in the log");
    }
    if (read.instant) AtInstant(read, who);
    const Place snapshot{read.snapshot, read.life};
    for (const Entry& entry : read.entries) EntryState(entry, snapshot, read.pending, who);
    if (read.prefix.empty() || !states_.Judges(read.prefix)) return;
    std::vector<std::string> names;
    for (const Entry& entry : read.entries) names.push_back(entry.name);
    const std::vector<std::string> expected = states_.ListAt(read.prefix, snapshot);
    if (names != expected) {
      Report(Rule::kReadState, who, ": listing ", read.prefix, " at ", read.snapshot, " has ", names.size(),
             " names, ", expected.size(), " expected, or others");
    }
  }

  // The newest version of that moment or before it, of those that the daemon which answered had installed
  // when it was asked for.
  void AtInstant(const Read& read, const std::string& who) {
    const LogCommit* commit = states_.At(read.snapshot);
    if (commit != nullptr && commit->at && *read.instant < *commit->at) {
      Report(Rule::kReadState, who, " asked for a moment before ", read.snapshot,
             ", at which it was answered");
    }
    const Log& log = states_.log();
    auto next = std::upper_bound(log.begin(), log.end(), read.snapshot,
                                 [](Version v, const LogCommit& later) { return v < later.version; });
    if (next == log.end() || !next->at || !(*next->at <= *read.instant)) return;
    if (!states_.InstalledBy(read.life, next->version, read.invoked, history_)) return;
    Report(Rule::kReadState, who, " asked for a moment that ", next->version,
           " was made by, and was answered at ", read.snapshot);
  }

  using Known = std::vector<std::pair<Time, Version>>;  // the newest by then, in order

  // What somebody knew, by the time that he knew it.
  void Learn() {
    Known& known = known_;
    const auto learn = [&](int64_t client, Time at, Version version) {
      known.emplace_back(at, version);
      known_by_[client].emplace_back(at, version);
    };
    for (const Transaction& t : history_.transactions) {
      for (const Answer& answer : t.answers) {
        if (answer.verdict == Answer::Verdict::kCommitted) learn(t.client, answer.at, answer.version);
        if (answer.verdict == Answer::Verdict::kConflict) learn(t.client, answer.at, answer.snapshot);
      }
    }
    for (const Read& read : history_.reads) learn(read.client, read.answered, read.snapshot);
    for (const Sleep& sleep : history_.sleeps) {
      if (sleep.answered != kNever) learn(sleep.client, sleep.answered, sleep.woken_at);
    }
    for (const Watch& watch : history_.watches) {
      for (const WatchStep& step : watch.steps) {
        const bool tells = step.kind == WatchStep::Kind::kCommit || step.kind == WatchStep::Kind::kSynced ||
                           step.kind == WatchStep::Kind::kProgress;
        if (tells) learn(watch.client, step.at, step.version);
      }
    }
    const auto order = [](Known* known) {
      std::sort(known->begin(), known->end());
      Version newest = 0;
      for (auto& [at, version] : *known) version = newest = std::max(newest, version);
    };
    order(&known);
    for (auto& [client, known] : known_by_) order(&known);
  }
  static Version Before(const Known& known, Time time) {
    auto next = std::lower_bound(known.begin(), known.end(), std::make_pair(time, Version{0}));
    return next == known.begin() ? Version{0} : (next - 1)->second;
  }
  Version KnownBefore(Time time) const { return Before(known_, time); }
  Version KnownBy(int64_t client, Time time) const {
    const auto found = known_by_.find(client);
    return found == known_by_.end() ? Version{0} : Before(found->second, time);
  }

  // What was known at some time must hold for everything asked later.
  void RealTime() {
    for (const Transaction& t : history_.transactions) {
      const Version floor = KnownBefore(t.invoked);
      const auto found = in_log_.find(t.id);
      if (found != in_log_.end() && found->second[0] <= floor) {
        Report(Rule::kRealTime, Name(t), " committed at ", found->second[0], "; ", floor,
               " was known before it was sent");
      }
      for (const Answer& answer : t.answers) {
        // Of daemons that share the store one may be behind the others, but not behind who asks it: a
        // conflict is so all the same, and the run that follows is checked when it commits.
        const Version known = states_.Shared() ? KnownBy(t.client, t.invoked) : floor;
        if (answer.verdict == Answer::Verdict::kConflict && answer.snapshot < known) {
          Report(Rule::kRealTime, Name(t), " was told of a conflict at ", answer.snapshot, "; ", known,
                 " was known before it was sent");
        }
      }
    }
    for (const Read& read : history_.reads) {
      if (!read.newest || read.snapshot >= KnownBefore(read.invoked)) continue;
      Report(Rule::kRealTime, "client ", read.client, " asked at ", read.invoked,
             " for the newest and was answered at ", read.snapshot, "; ", KnownBefore(read.invoked),
             " was known before");
    }
  }

  // Watches.
  bool Selects(const Watch& watch, const std::string& name) const {
    if (!states_.Judges(name)) return false;
    if (watch.names.empty() && watch.prefixes.empty()) return Under(name, "/");
    if (std::find(watch.names.begin(), watch.names.end(), name) != watch.names.end()) return true;
    return std::any_of(watch.prefixes.begin(), watch.prefixes.end(),
                       [&name](const std::string& prefix) { return Under(name, prefix); });
  }
  // As it is seen in the life.
  std::vector<const LogChange*> Selected(const Watch& watch, const LogCommit& commit, Life life) const {
    const bool sees_memory = states_.DaemonOf(states_.LifeOf(commit.version)) == states_.DaemonOf(life);
    std::vector<const LogChange*> changes;
    for (const LogChange& change : commit.changes) {
      if (InMemory(change.name) && !sees_memory) continue;
      if (Selects(watch, change.name)) changes.push_back(&change);
    }
    return changes;
  }
  // A commit in (after, upto] that the watch selects, or a start that took what it selects; "": none.
  std::string SelectedIn(const Watch& watch, Place after, Place upto) const {
    const Log& log = states_.log();
    auto next = std::upper_bound(log.begin(), log.end(), after.version,
                                 [](Version v, const LogCommit& commit) { return v < commit.version; });
    for (; next != log.end() && next->version <= upto.version; ++next) {
      if (!Selected(watch, *next, upto.life).empty()) return absl::StrCat(next->version);
    }
    for (const Start& start : history_.starts) {
      const Place place{start.recovered, start.life};
      if (!(after < place) || upto < place || start.daemon != states_.DaemonOf(upto.life)) continue;
      for (const std::string& name : states_.NamesFor(start.life)) {
        const Point* point = InMemory(name) && Selects(watch, name) ? states_.StateAt(name, place) : nullptr;
        if (point == nullptr || point->place < place || place < point->place) continue;
        return absl::StrCat("that a start at ", place.version, " took ", name);
      }
    }
    return "";
  }

  void WatchStream(const Watch& watch) {
    const std::string who = absl::StrCat("watch of client ", watch.client);
    std::optional<Place> at;  // told of everything up to here; nullopt: nothing is promised
    std::vector<Entry> initial;
    bool wants_initial = false;
    const auto complete = [&](Place upto, std::string_view by) {
      const std::string missed = at ? SelectedIn(watch, *at, upto) : "";
      if (missed.empty()) return;
      Report(Rule::kWatch, who, " missed ", missed, " between ", at->version, " and ", std::string(by), " ",
             upto.version);
    };
    for (const WatchStep& step : watch.steps) {
      const Place told{step.version, step.life};
      switch (step.kind) {
        case WatchStep::Kind::kOpened:
          wants_initial = step.initial;
          initial.clear();
          if (step.version != 0) complete(told, "resuming after");
          at = step.version == 0 ? std::nullopt : std::optional<Place>(told);
          break;
        case WatchStep::Kind::kInitial:
          if (!wants_initial) Report(Rule::kWatch, who, " was given initial entries unasked");
          initial.insert(initial.end(), step.entries.begin(), step.entries.end());
          break;
        case WatchStep::Kind::kSynced:
          complete(told, "synced");
          at = std::max(at.value_or(Place()), told);
          if (wants_initial) Initial(watch, initial, told, who);
          wants_initial = false;
          break;
        case WatchStep::Kind::kCommit:
          if (at && step.version <= at->version) {
            Report(Rule::kWatch, who, " saw ", step.version, " after ", at->version);
          }
          if (!at) Report(Rule::kWatch, who, " saw ", step.version, " before it was synced");
          complete(Place{step.version - 1, step.life}, "commit");
          Event(watch, step, who);
          at = told;
          break;
        case WatchStep::Kind::kProgress:
          complete(told, "progress");
          if (at) at = std::max(*at, told);
          break;
        case WatchStep::Kind::kGap:
          at = std::nullopt;
          break;
      }
    }
    if (watch.complete_to > 0) complete(Place{watch.complete_to, watch.complete_life}, "the end");
  }

  void Initial(const Watch& watch, const std::vector<Entry>& initial, Place synced, const std::string& who) {
    std::vector<std::string> names, expected;
    for (const Entry& entry : initial) {
      EntryState(entry, synced, {}, who + ", initial");
      if (entry.value && states_.Judges(entry.name)) names.push_back(entry.name);
    }
    std::sort(names.begin(), names.end());
    for (const std::string& name : states_.NamesFor(synced.life)) {
      if (Selects(watch, name) && states_.ValueAt(name, synced)) expected.push_back(name);
    }
    if (names != expected) {
      Report(Rule::kWatch, who, " began at ", synced.version, " with ", names.size(), " entries, ",
             expected.size(), " expected, or others");
    }
  }

  void Event(const Watch& watch, const WatchStep& step, const std::string& who) {
    const LogCommit* commit = states_.At(step.version);
    if (commit == nullptr) {
      Report(Rule::kWatch, who, " saw ", step.version, ", which is not in the log");
      return;
    }
    if (commit->id != step.id) Report(Rule::kWatch, who, " saw ", step.version, " under another id");
    if (commit->records != step.records)
      Report(Rule::kWatch, who, " saw ", step.version, " with other records");
    const std::vector<const LogChange*> expected = Selected(watch, *commit, step.life);
    std::vector<WatchStep::Change> changes = step.changes;
    changes.erase(std::remove_if(changes.begin(), changes.end(),
                                 [this](const auto& change) { return !states_.Judges(change.name); }),
                  changes.end());
    if (expected.size() != changes.size()) {
      Report(Rule::kWatch, who, " saw ", changes.size(), " changes at ", step.version, ", expected ",
             expected.size());
    }
    for (const WatchStep::Change& change : changes) {
      const auto found = std::find_if(expected.begin(), expected.end(),
                                      [&change](const LogChange* c) { return c->name == change.name; });
      if (found == expected.end()) {
        Report(Rule::kWatch, who, " saw ", change.name, " change at ", step.version, ", which it did not");
        continue;
      }
      const std::optional<Value> before = states_.ValueAt(change.name, states_.Before(step.version));
      const std::optional<Value> after = states_.ValueAt(change.name, states_.After(step.version));
      if (change.before_known && change.before != before) {
        Report(Rule::kWatch, who, " at ", step.version, ": ", change.name, " was ", Show(before), ", told ",
               Show(change.before));
      }
      // A definition's change need not bring the value.
      const bool define = (*found)->kind == LogChange::Kind::kDefine;
      if (change.after != after && !(define && !change.after)) {
        Report(Rule::kWatch, who, " at ", step.version, ": ", change.name, " is ", Show(after), ", told ",
               Show(change.after));
      }
      if (change.expired != ((*found)->kind == LogChange::Kind::kExpire)) {
        Report(Rule::kWatch, who, " at ", step.version, ": ", change.name,
               " deleted or expired, told the other");
      }
    }
  }

  void Sleeping(const Sleep& sleep) {
    const std::string who = absl::StrCat("sleep of client ", sleep.client, " from ", sleep.snapshot);
    const Place snapshot{sleep.snapshot, sleep.life};
    const auto changed_by = [&](Version upto, bool by_value) -> std::string {
      const Place place{upto, sleep.asleep_in};
      for (const std::string& name : sleep.reads) {
        if (by_value ? states_.ValueAt(name, snapshot) != states_.ValueAt(name, place)
                     : states_.ChangeIn(name, snapshot, place) != nullptr) {
          return name;
        }
      }
      for (const std::string& prefix : sleep.lists) {
        if (!states_.ListingChangeIn(prefix, snapshot, place).empty()) return prefix;
      }
      return "";
    };
    if (sleep.answered != kNever) {
      if (changed_by(sleep.woken_at, false).empty() && !MayHaveChanged(sleep)) {
        Report(Rule::kSleep, who, " was woken at ", sleep.woken_at,
               ", where nothing that it read had changed");
      }
      const Place woken{sleep.woken_at, sleep.asleep_in};
      for (const Entry& entry : sleep.fresh) EntryState(entry, woken, {}, who + ", fresh");
    } else if (sleep.asleep_at > 0) {
      // Who would see again what it saw may sleep on.
      const std::string name = changed_by(sleep.asleep_at, true);
      if (!name.empty()) {
        Report(Rule::kSleep, who, " sleeps on at ", sleep.asleep_at, ", although ", name, " has changed");
      }
    }
  }

  // As far as the daemon can tell. Below its floor of ids it has no tombstone of what is absent. Nothing but
  // the version tells it whether a memory entry was read in its own life; and its start read an image, in
  // which no listing has a version.
  bool MayHaveChanged(const Sleep& sleep) const {
    const Place woken{sleep.woken_at, sleep.asleep_in};
    const bool older = sleep.snapshot <= states_.RecoveredBy(sleep.asleep_in);
    return std::any_of(sleep.reads.begin(), sleep.reads.end(),
                       [&](const std::string& name) {
                         return (older && InMemory(name)) || !states_.ValueAt(name, woken);
                       }) ||
           std::any_of(sleep.lists.begin(), sleep.lists.end(), [&](const std::string& prefix) {
             return older || states_.ListAt(prefix, woken).empty();
           });
  }

  // Readings of the log.
  void LogReading(const LogRead& read) {
    const std::string who = absl::StrCat("reading of the log by client ", read.client, " from ", read.from);
    const Log& log = states_.log();
    Version begin = read.from != 0 ? read.from : read.kept_from;
    if (begin == 0 && !read.commits.empty()) begin = read.commits[0].version;
    auto next = std::find_if(log.begin(), log.end(),
                             [begin](const LogCommit& commit) { return commit.version >= begin; });
    for (const LogCommit& told : read.commits) {
      if (next == log.end() || next->version != told.version) {
        Report(Rule::kLogRead, who, " was told ", told.version, " where ",
               next == log.end() ? "the end" : absl::StrCat(next->version), " was due");
        return;
      }
      Told(*next++, told, who);
    }
    const Version due = next == log.end() ? kNoVersion : next->version;
    if (read.refused_below != 0) {
      if (read.kept_when_refused != 0 && read.kept_when_refused != read.refused_below) {
        Report(Rule::kLogRead, who, " was told that ", read.refused_below, " is the oldest kept; ",
               read.kept_when_refused, " is");
      }
      if (due >= read.refused_below) {
        Report(Rule::kLogRead, who, " was refused, although all from ", read.refused_below, " on is kept");
      }
    } else if (due <= read.complete_to) {
      Report(Rule::kLogRead, who, " ended before ", due, ", although ", read.complete_to, " was committed");
    }
  }

  void HistoryPage(const LogRead& read) {
    const std::string who =
        absl::StrCat("history of ", read.name, " by client ", read.client, " below ", read.from);
    if (static_cast<int64_t>(read.commits.size()) > read.limit) {
      Report(Rule::kLogRead, who, " has ", read.commits.size(), " commits, more than ", read.limit);
    }
    size_t told = 0;
    for (auto commit = states_.log().rbegin(); commit != states_.log().rend(); ++commit) {
      if (read.from != 0 && commit->version >= read.from) continue;
      LogCommit due = *commit;
      due.changes.erase(std::remove_if(due.changes.begin(), due.changes.end(),
                                       [&](const LogChange& change) { return change.name != read.name; }),
                        due.changes.end());
      if (due.changes.empty()) continue;
      if (told < read.commits.size() && read.commits[told].version == due.version) {
        Told(due, read.commits[told++], who);
        continue;
      }
      const bool later = told == 0 && due.version > read.complete_to;  // than it was asked for
      const bool dropped = read.kept_from == 0 || due.version < read.kept_from;
      const bool full = static_cast<int64_t>(told) == read.limit;
      if (later) continue;
      if (told < read.commits.size() || !(full || dropped))
        Report(Rule::kLogRead, who, " left out ", due.version);
      return;
    }
    if (told < read.commits.size()) {
      Report(Rule::kLogRead, who, " was told ", read.commits[told].version, ", which did not change it");
    }
  }

  // What was told of a commit is what the log holds of it.
  void Told(const LogCommit& commit, const LogCommit& told, const std::string& who) {
    std::vector<const LogChange*> changes;
    for (const LogChange& change : commit.changes) {
      if (!InMemory(change.name)) changes.push_back(&change);
    }
    bool same =
        commit.id == told.id && commit.records == told.records && changes.size() == told.changes.size();
    for (size_t i = 0; same && i < changes.size(); ++i) {
      const LogChange& a = *changes[i];
      const LogChange& b = told.changes[i];
      same = a.name == b.name && a.kind == b.kind && a.value == b.value && a.ttl_ms == b.ttl_ms &&
             (!b.before_known || b.before == states_.ValueAt(b.name, states_.Before(commit.version)));
    }
    if (!same) Report(Rule::kLogRead, who, " was told ", told.version, " otherwise than the log holds it");
  }

  void Expiries() {
    for (const auto& [key, points] : states_.entries()) {
      const std::string& name = key.first;
      for (size_t i = 1; i < points.size(); ++i) {
        const Point& end = points[i];
        const Point& last = points[i - 1];
        if (end.commit == nullptr || last.commit == nullptr) continue;
        const bool expired = std::any_of(
            end.commit->changes.begin(), end.commit->changes.end(), [&name](const LogChange& change) {
              return change.name == name && change.kind == LogChange::Kind::kExpire;
            });
        if (!expired) continue;
        if (last.ttl_ms == 0) {
          Report(Rule::kExpiry, name, " expired at ", end.place.version, " without a TTL");
          continue;
        }
        // Written no earlier than its transaction was sent; expired no later than the first daemon installed
        // that.
        const auto installed = history_.installed.find(end.place.version);
        const auto writer = last.commit->id ? by_id_.find(*last.commit->id) : by_id_.end();
        if (installed == history_.installed.end() || writer == by_id_.end()) continue;
        Time first = kNever;
        for (const auto& [life, at] : installed->second) first = std::min(first, at);
        const Time lived = first - writer->second->invoked;
        if (lived < last.ttl_ms * 1000000) {
          Report(Rule::kExpiry, name, " written at ", last.place.version, " expired at ", end.place.version,
                 " after ", lived / 1000000, " ms of ", last.ttl_ms);
        }
      }
    }
  }

  const History& history_;
  const States states_;
  Known known_;                        // by anybody
  std::map<int64_t, Known> known_by_;  // by each client
  std::map<Uuid, const Transaction*> by_id_;
  std::set<Uuid> calls_;  // of locks and sessions
  std::map<Uuid, std::vector<Version>> in_log_;
  std::map<Rule, size_t> counts_;
  std::vector<Violation> violations_;
};

}  // namespace

std::string_view RuleName(Rule rule) { return kRuleNames[static_cast<size_t>(rule)]; }

std::string ToString(const std::vector<Violation>& violations) {
  std::string text;
  for (const Violation& violation : violations) {
    absl::StrAppend(&text, std::string(RuleName(violation.rule)), ": ", violation.what, "\n");
  }
  return text;
}

std::vector<Violation> Check(const History& history, const Log& log) { return Checking(history, log).Run(); }

Outcome Carry(const std::vector<Write>& writes, std::string_view name, const Content& before) {
  Outcome outcome;
  outcome.after = before;
  Content& entry = outcome.after;
  const auto impossible = [&outcome] {
    outcome.possible = false;
    return outcome;
  };
  const auto create = [&entry](const Write& write) { entry = Content{write.value, write.atom, write.min}; };
  for (const Write& write : writes) {
    outcome.results.emplace_back();
    if (write.name != name) continue;
    if (entry.value && entry.atom != write.atom) return impossible();
    switch (write.change) {
      case Write::Change::kSet:
        if (!entry.value) {
          create(write);
        } else {
          entry.value = write.value;
        }
        break;
      case Write::Change::kAdd:
        if (!entry.value || !entry.value->is(Type::kInteger)) return impossible();
        entry.value = Value::Integer(entry.value->integer() + write.value.integer());
        break;
      case Write::Change::kConj:
        if (!entry.value || !entry.value->is(Type::kVector)) return impossible();
        entry.value = Value::OfVector(entry.value->items().Push(write.value));
        break;
      case Write::Change::kDelete:
        // Nothing to delete is nothing done.
        outcome.changed = outcome.changed || entry.value.has_value();
        entry = Content();
        continue;
      case Write::Change::kCreate:
        if (!entry.value) {
          create(write);
          outcome.changed = true;
        }
        outcome.results.back() = entry.value;
        continue;
      case Write::Change::kDefine:
        if (!entry.value) return impossible();
        entry.min = write.min;
        outcome.changed = true;
        continue;
    }
    outcome.changed = true;
    outcome.results.back() = entry.value;
  }
  const bool obeys =
      !entry.min || !entry.value || (entry.value->is(Type::kInteger) && entry.value->integer() >= *entry.min);
  outcome.possible = obeys || !outcome.changed;
  return outcome;
}

}  // namespace stm::check
