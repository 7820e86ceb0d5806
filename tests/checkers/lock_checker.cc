#include "tests/checkers/lock_checker.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"

namespace stm::check {
namespace {

constexpr std::string_view kLocks = "/.locks";
constexpr std::string_view kQueues = "/.queues";
constexpr std::string_view kWaiters = "/.waiters";
constexpr std::string_view kConditions = "/.conditions";
constexpr std::string_view kAwaits = "/.awaits";
constexpr std::string_view kSessions = "/.sessions";

constexpr Version kNotYet = std::numeric_limits<Version>::max();

// What is behind `top` and begins with a "/"; nullopt: the name is of something else.
std::optional<std::string_view> Below(std::string_view top, std::string_view name) {
  if (name.size() <= top.size() || name.substr(0, top.size()) != top || name[top.size()] != '/')
    return std::nullopt;
  return name.substr(top.size());
}

// ---- Entries

struct Owner {
  std::string session;
  std::string owner;
  friend bool operator==(const Owner& a, const Owner& b) {
    return a.session == b.session && a.owner == b.owner;
  }
};

// A hold, or one who waits for one.
struct Claim {
  Owner by;
  LockMode mode = LockMode::kExclusive;
  int64_t permits = 0;
  int64_t holds = 1;
  int64_t token = 0;  // of a hold
  Uuid acquire;       // the call that it comes from
};

struct Lock {
  int64_t permits_max = 0;
  std::vector<Claim> holders;

  const Claim* Of(int64_t token) const {
    const auto found = std::find_if(holders.begin(), holders.end(),
                                    [token](const Claim& hold) { return hold.token == token; });
    return found == holders.end() ? nullptr : &*found;
  }
  int64_t permits() const {
    int64_t taken = 0;
    for (const Claim& hold : holders) taken += hold.permits;
    return taken;
  }
  bool IsFreeFor(const Claim& claim) const {
    if (claim.mode == LockMode::kExclusive) return holders.empty();
    if (claim.mode == LockMode::kPermits) return permits() + claim.permits <= permits_max;
    return std::none_of(holders.begin(), holders.end(),
                        [](const Claim& hold) { return hold.mode == LockMode::kExclusive; });
  }
};

const Value* Field(const Value& map, std::string_view key) {
  return map.is(Type::kMap) ? map.map().Find(Value::Keyword(key)) : nullptr;
}
int64_t Number(const Value& map, std::string_view key, int64_t otherwise = 0) {
  const Value* value = Field(map, key);
  return value != nullptr && value->is(Type::kInteger) ? value->integer() : otherwise;
}
std::string TextOf(const Value& map, std::string_view key) {
  const Value* value = Field(map, key);
  return value != nullptr && (value->is(Type::kString) || value->is(Type::kKeyword)) ? value->text() : "";
}

Claim ReadClaim(const Value& value) {
  Claim claim;
  claim.by = {TextOf(value, "session"), TextOf(value, "owner")};
  const std::string mode = TextOf(value, "mode");
  claim.mode = mode == "shared"    ? LockMode::kShared
               : mode == "permits" ? LockMode::kPermits
                                   : LockMode::kExclusive;
  claim.permits = Number(value, "permits");
  claim.holds = Number(value, "holds", 1);
  claim.token = Number(value, "token");
  const Value* acquire = Field(value, "acquire");
  if (acquire != nullptr && acquire->is(Type::kUuid)) claim.acquire = acquire->uuid();
  return claim;
}

Lock ReadLock(const std::optional<Value>& value) {
  Lock lock;
  if (!value) return lock;
  lock.permits_max = Number(*value, "permits-max");
  const Value* holders = Field(*value, "holders");
  if (holders == nullptr || !holders->is(Type::kVector)) return lock;
  for (const Value& hold : holders->items()) lock.holders.push_back(ReadClaim(hold));
  return lock;
}

// ---- The check

class LockChecking {
 public:
  LockChecking(const History& history, const Log& log) : history_(history), log_(log) {
    for (const LockCall& call : history.lock_calls) calls_[call.id] = &call;
    for (const Transaction& t : history.transactions) {
      if (!t.fences.empty()) fenced_[t.id] = &t;
    }
    // The commit moment of a version is not after any daemon installed it, or one behind it.
    Time first = kNever;
    for (auto installed = history.installed.rbegin(); installed != history.installed.rend(); ++installed) {
      for (const auto& [life, at] : installed->second) first = std::min(first, at);
      known_at_[installed->first] = first;
    }
  }

  std::vector<Violation> Run() {
    for (const LogCommit& commit : log_) {
      const auto fenced = commit.id ? fenced_.find(*commit.id) : fenced_.end();
      if (fenced != fenced_.end()) FencesHold(*fenced->second, commit.version);
      Replay(commit);
    }
    for (const LockCall& call : history_.lock_calls) Answers(call);
    for (const Transaction& t : history_.transactions) FencesLost(t);
    for (const Belief& belief : history_.beliefs) Believed(belief);
    Overlaps();
    SessionsEnd();
    return std::move(violations_);
  }

 private:
  template <typename... Parts>
  void Report(Rule rule, const Parts&... parts) {
    const bool of_calls = rule == Rule::kLockChange || rule == Rule::kLockOrder || rule == Rule::kLockWaiter;
    if (of_calls && call_unknown_) return;
    violations_.push_back(Violation{rule, absl::StrCat(parts...)});
  }

  using Places = std::map<int64_t, Claim>;
  // What the log made of one grant.
  struct Grant {
    Claim hold;
    Version at = 0;
    Version ended = kNotYet;
    bool broken = false;  // an operator ended it
  };

  // No call of this id is known.
  const LockCall* CallOf(const std::optional<Uuid>& id) const {
    const auto found = id ? calls_.find(*id) : calls_.end();
    return found == calls_.end() ? nullptr : found->second;
  }

  // One commit: what it changes is taken over, and every lock that it touched is held against what it was.
  void Replay(const LogCommit& commit) {
    std::map<std::string, Lock> locks;  // as they were
    std::map<std::string, Places> queues;
    const std::map<std::string, Claim> awaits = awaits_;
    std::set<std::string> over;
    bool touches = false;
    const auto touch = [&](const std::string& lock) {
      locks.try_emplace(lock, locks_[lock]);
      queues.try_emplace(lock, queues_[lock]);
    };
    for (const LogChange& change : commit.changes) {
      touches = touches || IsOfLocks(change.name);
      if (const auto lock = Below(kLocks, change.name)) {
        touch(std::string(*lock));
        locks_[std::string(*lock)] = ReadLock(change.value);
      } else if (const auto place = Below(kWaiters, change.name)) {
        const size_t slash = place->rfind('/');
        const std::string lock(place->substr(0, slash));
        int64_t number = 0;
        if (!absl::SimpleAtoi(std::string(place->substr(slash + 1)), &number)) continue;
        touch(lock);
        if (change.value) {
          queues_[lock][number] = ReadClaim(*change.value);
        } else {
          queues_[lock].erase(number);
        }
      } else if (Below(kAwaits, change.name)) {
        if (change.value) {
          awaits_[change.name] = ReadClaim(*change.value);
          await_locks_[change.name] = TextOf(*change.value, "lock");
        } else {
          awaits_.erase(change.name);
        }
      } else if (const auto session = Below(kSessions, change.name)) {
        const std::string id(session->substr(1));
        const Value* ending = change.value ? Field(*change.value, "ending") : nullptr;
        if (!change.value || ending != nullptr) over.insert(id);
        if (change.value) {
          sessions_.insert(id);
        } else {
          sessions_.erase(id);
          ended_at_[id] = commit.version;
        }
      }
    }
    if (!touches) return;
    const LockCall* call = CallOf(commit.id);
    call_unknown_ = !history_.whole && call == nullptr;
    if (commit.id && call == nullptr && !call_unknown_) {
      Report(Rule::kLockChange, "version ", commit.version, " changes locks, and is no lock's call");
      return;
    }
    for (const auto& [name, was] : locks) {
      Holders(name, commit.version);
      Holds(name, was, queues.at(name), awaits, over, call, commit.version);
      Queue(name, queues.at(name), awaits, over, call, commit.version);
    }
    for (const auto& [entry, claim] : awaits) {
      if (awaits_.count(entry) > 0 || over.count(claim.by.session) > 0) continue;
      const std::string& lock = await_locks_[entry];
      if (HoldOf(lock, claim.acquire) != nullptr) continue;
      Report(Rule::kLockWaiter, "version ", commit.version, " drops who awaits a signal at ", entry);
    }
    if (!over.empty()) NothingLeft(over, commit.version);
    call_unknown_ = false;
  }

  const Claim* HoldOf(const std::string& lock, Uuid acquire) {
    for (const Claim& hold : locks_[lock].holders) {
      if (hold.acquire == acquire) return &hold;
    }
    return nullptr;
  }

  void Holders(const std::string& name, Version version) {
    const Lock& lock = locks_[name];
    if (lock.permits() > lock.permits_max) {
      Report(Rule::kLockHolders, name, " at ", version, " has given ", lock.permits(), " permits of ",
             lock.permits_max);
    }
    for (const Claim& hold : lock.holders) {
      for (const Claim& other : lock.holders) {
        const bool together = hold.mode != LockMode::kExclusive || &hold == &other ||
                              (hold.by == other.by && other.mode == LockMode::kShared);
        if (together) continue;
        Report(Rule::kLockHolders, name, " at ", version, " is held exclusively under token ", hold.token,
               " beside token ", other.token);
      }
      if (sessions_.count(hold.by.session) > 0) continue;
      Report(Rule::kLockChange, name, " at ", version, " is held by session ", hold.by.session,
             ", which is over");
    }
  }

  // How holds came and went.
  void Holds(const std::string& name, const Lock& was, const Places& queue,
             const std::map<std::string, Claim>& awaits, const std::set<std::string>& over,
             const LockCall* call, Version version) {
    using Kind = LockCall::Kind;
    const auto is = [call](Kind kind) { return call != nullptr && call->kind == kind; };
    const auto by_caller = [call](const Claim& hold) {
      return call != nullptr && hold.by == Owner{call->session, call->owner};
    };
    const auto wrong = [&](const Claim& hold, std::string_view what) {
      Report(Rule::kLockChange, name, " at ", version, ": the hold under token ", hold.token, " ",
             std::string(what));
    };
    int64_t& token_max = token_max_[name];
    for (const Claim& hold : locks_[name].holders) {
      const Claim* before = was.Of(hold.token);
      if (before == nullptr) {
        if (hold.token <= token_max) {
          Report(Rule::kLockToken, name, " at ", version, " is granted under token ", hold.token, " after ",
                 token_max);
        }
        token_max = std::max(token_max, hold.token);
        grants_[{name, hold.token}] = Grant{hold, version};
        if (!granted_.insert(hold.acquire).second) wrong(hold, "comes from a call that was granted before");
        Came(name, was, queue, awaits, hold, call, version);
        continue;
      }
      const int64_t more = hold.holds - before->holds;
      const bool taken = more == 1 && is(Kind::kAcquire) && by_caller(hold) && call->mode == hold.mode;
      const bool given = more == -1 && (is(Kind::kRelease) || is(Kind::kGiveUp)) && by_caller(hold);
      if (more != 0 && !taken && !given)
        wrong(hold, absl::StrCat("is held ", more, " times more, by no call"));
      if (!(before->by == hold.by) || before->mode != hold.mode || before->permits != hold.permits)
        wrong(hold, "is another's now");
    }
    for (const Claim& hold : was.holders) {
      if (locks_[name].Of(hold.token) != nullptr) continue;
      Grant& grant = grants_[{name, hold.token}];
      grant.ended = version;
      grant.broken = is(Kind::kBreak);
      const bool own = (is(Kind::kRelease) || is(Kind::kGiveUp)) && by_caller(hold) && hold.holds == 1;
      const bool awaits_now = is(Kind::kAwait) && by_caller(hold) && call->token == hold.token;
      if (own || awaits_now || grant.broken || over.count(hold.by.session) > 0) continue;
      wrong(hold, "is gone, and nobody released it");
    }
  }

  // A hold that is new: its call's, or of one who waited and was the first.
  void Came(const std::string& name, const Lock& was, const Places& queue,
            const std::map<std::string, Claim>& awaits, const Claim& hold, const LockCall* call,
            Version version) {
    const auto is_its = [&hold](const auto& other) {
      return other.second.acquire == hold.acquire && other.second.by == hold.by;
    };
    const Places& left = queues_[name];
    const auto waited = std::find_if(queue.begin(), queue.end(), is_its);
    if (waited != queue.end()) {
      if (!left.empty() && left.begin()->first < waited->first) {
        Report(Rule::kLockOrder, name, " at ", version, " is granted to place ", waited->first, ", while ",
               left.begin()->first, " waits");
      }
      return;
    }
    const bool own = call != nullptr && call->kind == LockCall::Kind::kAcquire && call->id == hold.acquire;
    if (!own && std::none_of(awaits.begin(), awaits.end(), is_its)) {
      Report(Rule::kLockChange, name, " at ", version, " is granted under token ", hold.token,
             " to who neither asked nor waited");
    }
    const bool has_it = std::any_of(was.holders.begin(), was.holders.end(),
                                    [&hold](const Claim& other) { return other.by == hold.by; });
    if (left.empty() || has_it || (own && call->wait_ms == 0)) return;
    Report(Rule::kLockOrder, name, " at ", version, " is granted under token ", hold.token, " past place ",
           left.begin()->first);
  }

  // How places came and went, and whether the first may go on waiting.
  void Queue(const std::string& name, const Places& before, const std::map<std::string, Claim>& awaits,
             const std::set<std::string>& over, const LockCall* call, Version version) {
    const Places& queue = queues_[name];
    for (const auto& [place, claim] : queue) {
      if (before.count(place) > 0) continue;
      if (!before.empty() && place < before.rbegin()->first) {
        Report(Rule::kLockOrder, name, " at ", version, ": place ", place, " is new, before ",
               before.rbegin()->first);
      }
      const bool own = call != nullptr && call->kind == LockCall::Kind::kAcquire && call->id == claim.acquire;
      const bool awaited = std::any_of(awaits.begin(), awaits.end(), [&claim = claim](const auto& await) {
        return await.second.acquire == claim.acquire;
      });
      if (own || awaited) continue;
      Report(Rule::kLockChange, name, " at ", version, ": place ", place, " is given to who did not ask");
    }
    for (const auto& [place, claim] : before) {
      if (queue.count(place) > 0 || over.count(claim.by.session) > 0) continue;
      if (HoldOf(name, claim.acquire) != nullptr) continue;
      const bool given_up =
          call != nullptr && call->kind == LockCall::Kind::kGiveUp && call->acquire == claim.acquire;
      // Its daemon ends a call whose time is over.
      const LockCall* its = CallOf(claim.acquire);
      const bool timed = call == nullptr && its != nullptr && its->wait_ms > 0;
      if (given_up || timed) continue;
      Report(Rule::kLockWaiter, name, " at ", version, ": place ", place, " is dropped");
    }
    if (queue.empty()) return;
    const auto& [place, first] = *queue.begin();
    if (!locks_[name].IsFreeFor(first)) return;
    Report(Rule::kLockWaiter, name, " at ", version, " is free for place ", place, ", which waits on");
  }

  void NothingLeft(const std::set<std::string>& over, Version version) {
    for (const auto& [name, lock] : locks_) {
      for (const Claim& hold : lock.holders) {
        if (over.count(hold.by.session) == 0 || sessions_.count(hold.by.session) > 0) continue;
        Report(Rule::kLockChange, name, " at ", version, " outlives the session of token ", hold.token);
      }
    }
    for (const auto& [name, queue] : queues_) {
      for (const auto& [place, claim] : queue) {
        if (over.count(claim.by.session) == 0 || sessions_.count(claim.by.session) > 0) continue;
        Report(Rule::kLockChange, name, " at ", version, ": place ", place, " outlives its session");
      }
    }
  }

  // ---- What clients were told

  void Answers(const LockCall& call) {
    const std::string who =
        absl::StrCat("call ", ToString(call.id), " of client ", call.client, " for ", call.lock);
    using Outcome = LockAnswer::Outcome;
    const LockAnswer* granted = nullptr;
    for (const LockAnswer& answer : call.answers) {
      const bool waits = call.kind == LockCall::Kind::kAcquire || call.kind == LockCall::Kind::kAwait;
      if (answer.outcome == Outcome::kNotCommitted && InLog(call.id)) {
        Report(Rule::kLockAnswer, who, " was told that it was not committed; it was");
      }
      if (!waits) continue;
      if (answer.outcome == Outcome::kGranted) {
        if (granted != nullptr && granted->token != answer.token) {
          Report(Rule::kLockAnswer, who, " was told tokens ", granted->token, " and ", answer.token);
        }
        granted = &answer;
        const auto found = grants_.find({call.lock, answer.token});
        const bool its = found != grants_.end() && found->second.at <= answer.version &&
                         found->second.hold.by == Owner{call.session, call.owner};
        if (!its) {
          Report(Rule::kLockAnswer, who, " was told token ", answer.token,
                 ", which the log does not give it");
        }
      } else if (answer.outcome == Outcome::kBusy || answer.outcome == Outcome::kUpgradeRefused ||
                 answer.outcome == Outcome::kDeadlock || answer.outcome == Outcome::kNotHeld) {
        for (const auto& [key, grant] : grants_) {
          if (grant.hold.acquire != call.id || grant.at > answer.version) continue;
          if (grant.ended <= answer.version) continue;
          Report(Rule::kLockAnswer, who, " was told at ", answer.version,
                 " that it has not the lock; it has, under token ", grant.hold.token);
        }
      }
    }
  }

  bool InLog(Uuid id) {
    if (ids_.empty()) {
      for (const LogCommit& commit : log_) {
        if (commit.id) ids_.insert(*commit.id);
      }
    }
    return ids_.count(id) > 0;
  }

  // Just before `version`.
  void FencesHold(const Transaction& t, Version version) {
    for (const Fence& fence : t.fences) {
      if (locks_[fence.lock].Of(fence.token) != nullptr) continue;
      Report(Rule::kFence, "transaction ", ToString(t.id), " committed at ", version, " with token ",
             fence.token, " of ", fence.lock, ", which did not stand");
    }
  }

  void FencesLost(const Transaction& t) {
    for (const Answer& answer : t.answers) {
      if (!answer.fence_lost) continue;
      const bool lost = std::any_of(t.fences.begin(), t.fences.end(), [&](const Fence& fence) {
        const auto grant = grants_.find({fence.lock, fence.token});
        return grant == grants_.end() || grant->second.ended <= answer.snapshot;
      });
      if (lost) continue;
      Report(Rule::kFence, "transaction ", ToString(t.id), " was refused at ", answer.snapshot,
             " for a fence, and all stood");
    }
  }

  // ---- Time

  // Not before the commit of this version.
  Time KnownAt(Version version) const {
    const auto found = known_at_.lower_bound(version);
    return found == known_at_.end() ? kNever : found->second;
  }

  static std::string Name(const Belief& belief) {
    return absl::StrCat("client ", belief.client, " believed in token ", belief.token, " of ", belief.lock);
  }

  void Believed(const Belief& belief) {
    const auto found = grants_.find({belief.lock, belief.token});
    if (found == grants_.end() || !(found->second.hold.by == Owner{belief.session, belief.owner})) {
      // Without the log only beliefs are held against one another.
      if (!log_.empty()) Report(Rule::kBelief, Name(belief), ", which was not granted to it");
      return;
    }
    const Grant& grant = found->second;
    if (grant.ended == kNotYet || grant.broken || belief.until <= KnownAt(grant.ended)) return;
    Report(Rule::kBelief, Name(belief), " for ", (belief.until - KnownAt(grant.ended)) / 1000, " us after ",
           grant.ended, " had ended it");
  }

  // Two that exclude each other, at one moment; but for what an operator broke.
  void Overlaps() {
    std::map<std::string, std::vector<const Belief*>> by_lock;
    for (const Belief& belief : history_.beliefs) by_lock[belief.lock].push_back(&belief);
    for (auto& [lock, beliefs] : by_lock) {
      std::sort(beliefs.begin(), beliefs.end(),
                [](const Belief* a, const Belief* b) { return a->from < b->from; });
      for (size_t i = 0; i < beliefs.size(); ++i) {
        const Belief& one = *beliefs[i];
        for (size_t j = i + 1; j < beliefs.size() && beliefs[j]->from < one.until; ++j) {
          const Belief& other = *beliefs[j];
          const bool excludes = one.mode == LockMode::kExclusive || other.mode == LockMode::kExclusive;
          const bool same = one.session == other.session && one.owner == other.owner;
          if (!excludes || same || Broken(lock, other.from)) continue;
          Report(Rule::kBelief, Name(one), " while ", Name(other));
        }
      }
    }
  }
  // By then. Whoever is told late of a grant that was broken meanwhile believes in it.
  bool Broken(const std::string& lock, Time by) const {
    return std::any_of(history_.lock_calls.begin(), history_.lock_calls.end(), [&](const LockCall& call) {
      return call.kind == LockCall::Kind::kBreak && call.lock == lock && call.invoked <= by;
    });
  }

  void SessionsEnd() {
    const Quiet& quiet = history_.quiet;
    if (quiet.until == 0) return;
    for (const Lease& lease : history_.leases) {
      const Time due = std::max(quiet.from, lease.last_beat) + (lease.ttl_ms + quiet.grace_ms) * 1000000;
      const bool open = sessions_.count(lease.session) > 0;
      const auto ended = ended_at_.find(lease.session);
      if (open && quiet.until > due) {
        Report(Rule::kLockStuck, "session ", lease.session, " of client ", lease.client, " is still open ",
               (quiet.until - due) / 1000000, " ms after it had to be over");
      } else if (!open && ended != ended_at_.end()) {
        const auto installed = history_.installed.find(ended->second);
        if (installed == history_.installed.end() || KnownAt(ended->second) <= due) continue;
        Report(Rule::kLockStuck, "session ", lease.session, " of client ", lease.client, " ended at ",
               ended->second, ", ", (KnownAt(ended->second) - due) / 1000000, " ms late");
      }
    }
  }

  const History& history_;
  const Log& log_;
  std::map<Uuid, const LockCall*> calls_;
  std::map<Uuid, const Transaction*> fenced_;
  std::map<Version, Time> known_at_;
  std::set<Uuid> ids_;  // of the log, once asked for

  // As the log has made them so far.
  std::map<std::string, Lock> locks_;
  std::map<std::string, Places> queues_;
  std::map<std::string, Claim> awaits_;
  std::map<std::string, std::string> await_locks_;
  std::set<std::string> sessions_;
  std::map<std::string, Version> ended_at_;
  std::map<std::string, int64_t> token_max_;
  // The commit at hand is a call's, or for a call's time, of somebody who wrote no history: what it may
  // change is not known.
  bool call_unknown_ = false;
  std::set<Uuid> granted_;  // calls
  std::map<std::pair<std::string, int64_t>, Grant> grants_;

  std::vector<Violation> violations_;
};

}  // namespace

bool IsOfLocks(std::string_view name) {
  for (std::string_view top : {kLocks, kQueues, kWaiters, kConditions, kAwaits, kSessions}) {
    if (Below(top, name)) return true;
  }
  return false;
}

std::vector<Violation> CheckLocks(const History& history, const Log& log) {
  return LockChecking(history, log).Run();
}

}  // namespace stm::check
