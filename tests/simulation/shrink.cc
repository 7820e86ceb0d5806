#include "tests/simulation/shrink.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "engine/values/edn.h"

namespace stm::sim {
namespace {

// Seeds tried for one smaller run.
constexpr uint64_t kSeedsEach = 50;

std::string FirstKind(const Result& result) {
  if (!result.failures.empty()) return result.failures[0].substr(0, result.failures[0].find(':'));
  return std::string(check::RuleName(result.violations[0].rule));
}

std::string Show(const std::optional<Value>& value) {
  if (!value) return "absent";
  std::string text = ToEdn(*value);
  return text.size() > 40 ? text.substr(0, 37) + "..." : text;
}

std::string Show(const check::Write& write) {
  using Change = check::Write::Change;
  const std::string ttl = write.ttl_ms > 0 ? absl::StrCat(" for ", write.ttl_ms, " ms") : "";
  switch (write.change) {
    case Change::kSet:
      return absl::StrCat("set ", write.name, " ", Show(write.value), ttl);
    case Change::kAdd:
      return absl::StrCat("add ", write.name, " ", Show(write.value));
    case Change::kConj:
      return absl::StrCat("conj ", write.name, " ", Show(write.value));
    case Change::kDelete:
      return absl::StrCat("delete ", write.name);
    case Change::kCreate:
      return absl::StrCat("create ", write.name, " ", Show(write.value), ttl);
    case Change::kDefine:
      return absl::StrCat("define ", write.name, ttl);
  }
  return "";
}

std::string Show(const std::vector<check::Entry>& entries) {
  return absl::StrJoin(entries, ", ", [](std::string* out, const check::Entry& entry) {
    absl::StrAppend(out, entry.name, " ", Show(entry.value), "@", entry.version);
  });
}

std::string Show(const std::vector<check::LogChange>& changes) {
  std::string text;
  for (const check::LogChange& change : changes) {
    const bool defines = change.kind == check::LogChange::Kind::kDefine;
    const bool expires = change.kind == check::LogChange::Kind::kExpire;
    absl::StrAppend(&text, ", ", change.name, " ",
                    defines   ? "defined"
                    : expires ? "expired"
                              : Show(change.value));
  }
  return text;
}

std::string Names(std::vector<std::string> names, const std::vector<std::string>& more) {
  names.insert(names.end(), more.begin(), more.end());
  return absl::StrJoin(names, " ");
}

std::string Asked(const check::Transaction& t) {
  std::string text =
      absl::StrCat(t.serializable ? "commits" : "commits (snapshot isolation)", " at ", t.snapshot);
  if (!t.reads.empty() || !t.lists.empty()) absl::StrAppend(&text, ", read ", Names(t.reads, t.lists));
  if (!t.ensures.empty()) absl::StrAppend(&text, ", ensured ", absl::StrJoin(t.ensures, " "));
  std::vector<std::string> writes;
  for (const check::Write& write : t.writes) writes.push_back(Show(write));
  for (const check::Fence& fence : t.fences)
    absl::StrAppend(&text, ", under token ", fence.token, " of ", fence.lock);
  return absl::StrCat(text, ": ", absl::StrJoin(writes, ", "));
}

std::string Told(const check::Answer& answer) {
  using Verdict = check::Answer::Verdict;
  switch (answer.verdict) {
    case Verdict::kCommitted:
      return absl::StrCat("committed at ", answer.version);
    case Verdict::kConflict: {
      std::vector<std::string> causes;
      for (const auto& cause : answer.causes) causes.push_back(absl::StrCat(cause.name, "@", cause.version));
      return absl::StrCat("conflict with ", absl::StrJoin(causes, " "), ", now at ", answer.snapshot);
    }
    case Verdict::kRejected:
      return "rejected";
    case Verdict::kRefused:
      return "refused";
    case Verdict::kNotCommitted:
      return "not committed";
    case Verdict::kUnknown:
      return "unknown";
  }
  return "";
}

std::string Saw(const check::WatchStep& step) {
  using Kind = check::WatchStep::Kind;
  switch (step.kind) {
    case Kind::kOpened:
      return absl::StrCat("watches after ", step.version);
    case Kind::kInitial:
      return absl::StrCat("is given ", Show(step.entries));
    case Kind::kSynced:
      return absl::StrCat("is synced at ", step.version);
    case Kind::kProgress:
      return absl::StrCat("hears of no change up to ", step.version);
    case Kind::kGap:
      return absl::StrCat("has a gap, now ", step.version);
    case Kind::kCommit:
      break;
  }
  std::string text = absl::StrCat("sees ", step.version);
  for (const auto& change : step.changes) {
    absl::StrAppend(&text, ", ", change.name, " ", Show(change.before), " -> ", Show(change.after));
  }
  return text;
}

std::string Asked(const check::LockCall& c) {
  using Kind = check::LockCall::Kind;
  const char* const modes[] = {"exclusively", "shared", "permits of"};
  const std::string ends = c.wait_ms < 0    ? ", waits"
                           : c.wait_ms == 0 ? " at once"
                                            : absl::StrCat(", waits ", c.wait_ms, " ms");
  switch (c.kind) {
    case Kind::kOpen:
      return "opens session " + c.session;
    case Kind::kClose:
      return "closes session " + c.session;
    case Kind::kAcquire:
      return absl::StrCat("locks ", modes[static_cast<int>(c.mode)], " ", c.lock, ends);
    case Kind::kRelease:
      return absl::StrCat("releases ", c.lock, " token ", c.token);
    case Kind::kGiveUp:
      return absl::StrCat("gives up ", ToString(c.acquire), " for ", c.lock);
    case Kind::kAwait:
      return absl::StrCat("awaits a signal at ", c.lock, " token ", c.token, ends);
    case Kind::kSignal:
      return absl::StrCat("signals at ", c.lock, " token ", c.token);
    case Kind::kBreak:
      return "breaks " + c.lock;
  }
  return "";
}

std::string Told(const check::LockAnswer& answer) {
  static constexpr const char* kOutcomes[] = {
      "granted",   "busy", "upgrade refused", "deadlock", "released", "still held",    "not held",
      "not yours", "left", "signalled",       "done",     "expired",  "not committed", "unknown"};
  std::string text = kOutcomes[static_cast<int>(answer.outcome)];
  if (answer.token != 0) absl::StrAppend(&text, " token ", answer.token);
  if (answer.holds > 1) absl::StrAppend(&text, " holds ", answer.holds);
  return absl::StrCat(text, " at ", answer.version);
}

}  // namespace

std::set<std::string> FaultKinds(const Result& result) {
  std::set<std::string> kinds;
  for (const std::string& failure : result.failures) kinds.insert(failure.substr(0, failure.find(':')));
  for (const check::Violation& violation : result.violations) kinds.emplace(check::RuleName(violation.rule));
  return kinds;
}

// Operations first: with one client less a race needs many of them, and stays long.
Shrunk Shrink(const Run& run) {
  Shrunk best{run, Simulate(run), 1};
  const std::string kind = FirstKind(best.result);
  const auto fails = [&](Run candidate) {
    for (uint64_t i = 0; i < kSeedsEach; ++i) {
      candidate.seed = run.seed + i;
      Result result = Simulate(candidate);
      ++best.tried;
      if (FaultKinds(result).count(kind) == 0) continue;
      best.run = candidate;
      best.result = std::move(result);
      return true;
    }
    return false;
  };
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (int64_t parts : {2, 4, 16}) {
      for (;;) {
        Run candidate = best.run;
        candidate.operations -= std::max<int64_t>(candidate.operations / parts, 1);
        if (candidate.operations < 1 || !fails(candidate)) break;
        smaller = true;
      }
    }
    for (const std::string& name : Simplifications(run.kind)) {
      Run candidate = best.run;
      if (candidate.without.insert(name).second && fails(candidate)) smaller = true;
    }
  }
  return best;
}

std::string Flags(const Run& run) {
  std::string flags = absl::StrCat(run.kind == Run::Kind::kCluster ? "--cluster " : "", run.containers ? "--containers " : "", "--seed ", run.seed,
                                   " --operations ", run.operations);
  if (!run.without.empty()) absl::StrAppend(&flags, " --without ", absl::StrJoin(run.without, ","));
  return flags;
}

std::string Story(const Result& result) {
  std::vector<std::pair<check::Time, std::string>> lines;
  std::map<Uuid, std::string> names;
  std::vector<std::pair<std::string, std::string>> replacements;
  const check::History& history = result.history;
  for (const Event& event : result.events) lines.emplace_back(event.at, absl::StrCat("--- ", event.what));
  std::map<check::Life, std::string> daemons;
  for (const check::Start& start : history.starts) {
    daemons[start.life] = start.daemon == 0 ? "daemon" : absl::StrCat("daemon ", start.daemon);
  }
  for (const auto& [version, lives] : history.installed) {
    for (const auto& [life, at] : lives) {
      lines.emplace_back(at, absl::StrCat(daemons[life], ": installed ", version));
    }
  }
  for (const check::MemoryCommit& commit : history.memory) {
    lines.emplace_back(history.installed.at(commit.version).at(commit.life),
                       absl::StrCat(daemons[commit.life], ": in memory", Show(commit.changes)));
  }
  for (size_t i = 0; i < history.transactions.size(); ++i) {
    const check::Transaction& t = history.transactions[i];
    const std::string name = absl::StrCat("t", i);
    names[t.id] = name;
    replacements.emplace_back(ToString(t.id), name);
    const std::string who = absl::StrCat("client ", t.client, ": ", name, " ");
    lines.emplace_back(t.invoked, who + Asked(t));
    for (const check::Answer& answer : t.answers)
      lines.emplace_back(answer.at, who + "is told " + Told(answer));
  }
  for (size_t i = 0; i < history.lock_calls.size(); ++i) {
    const check::LockCall& c = history.lock_calls[i];
    const std::string name = absl::StrCat("l", i);
    names[c.id] = name;
    replacements.emplace_back(ToString(c.id), name);
    const std::string who = absl::StrCat("locker ", c.client, ": ", name, " ");
    lines.emplace_back(c.invoked, who + Asked(c));
    for (const check::LockAnswer& answer : c.answers)
      lines.emplace_back(answer.at, who + "is told " + Told(answer));
  }
  for (const check::Belief& belief : history.beliefs) {
    lines.emplace_back(belief.until, absl::StrCat("locker ", belief.client, ": believes in token ",
                                                  belief.token, " of ", belief.lock, " no more"));
  }
  for (const check::Lease& lease : history.leases) {
    lines.emplace_back(lease.last_beat,
                       absl::StrCat("locker ", lease.client, ": the last beat of session ", lease.session));
  }
  for (const check::Read& read : history.reads) {
    const std::string what = read.prefix.empty() ? "reads" : absl::StrCat("lists ", read.prefix);
    lines.emplace_back(read.answered,
                       absl::StrCat("client ", read.client, ": ", what, read.newest ? ", the newest," : "",
                                    " at ", read.snapshot, ": ", Show(read.entries)));
  }
  for (const check::Watch& watch : history.watches) {
    for (const check::WatchStep& step : watch.steps) {
      lines.emplace_back(step.at, absl::StrCat("watcher ", watch.client, ": ", Saw(step)));
    }
  }
  for (const check::Sleep& sleep : history.sleeps) {
    const std::string who = absl::StrCat("client ", sleep.client, ": ");
    lines.emplace_back(sleep.invoked, absl::StrCat(who, "sleeps at ", sleep.snapshot, " on ",
                                                   Names(sleep.reads, sleep.lists)));
    if (sleep.answered != check::kNever)
      lines.emplace_back(sleep.answered, absl::StrCat(who, "woken at ", sleep.woken_at));
  }
  for (const check::LogRead& read : history.log_reads) {
    std::string told;
    for (const check::LogCommit& commit : read.commits) absl::StrAppend(&told, " ", commit.version);
    if (read.complete_to != 0) absl::StrAppend(&told, ", the end");
    if (read.refused_below != 0) absl::StrAppend(&told, ", refused below ", read.refused_below);
    lines.emplace_back(
        read.answered,
        absl::StrCat("follower ", read.client, ": reads ",
                     read.name.empty() ? "the log from " : read.name + " below ", read.from, ":", told));
  }
  for (auto& [at, line] : lines) line = absl::StrReplaceAll(line, replacements);
  std::stable_sort(lines.begin(), lines.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });

  std::string text;
  for (const auto& [at, line] : lines) {
    char time[32];
    std::snprintf(time, sizeof time, "%10.3f ms  ", static_cast<double>(at) / 1e6 - 1e6);
    absl::StrAppend(&text, time, line, "\n");
  }
  absl::StrAppend(&text, "the log:\n");
  for (const check::LogCommit& commit : result.log) {
    absl::StrAppend(&text, "  ", commit.version, commit.id ? " " + names[*commit.id] : "",
                    Show(commit.changes), "\n");
  }
  return text + "what is wrong:\n" + absl::StrReplaceAll(result.Faults(), replacements);
}

}  // namespace stm::sim
