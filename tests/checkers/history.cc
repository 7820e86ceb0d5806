#include "tests/checkers/history.h"

#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"

namespace stm::check {
namespace {

// Printing. A key whose value says nothing is left out.
class Line {
 public:
  explicit Line(std::string_view op) { Put("op", Value::Keyword(op)); }
  Line() = default;

  Line& Put(std::string_view key, Value value) {
    entries_.emplace_back(Value::Keyword(key), std::move(value));
    return *this;
  }
  Line& Number(std::string_view key, int64_t value) {
    return value == 0 ? *this : Put(key, Value::Integer(value));
  }
  Line& Text(std::string_view key, const std::string& value) {
    return value.empty() ? *this : Put(key, Value::String(value));
  }
  Line& Flag(std::string_view key, bool value) { return value ? Put(key, Value::Boolean(true)) : *this; }
  Line& Optional(std::string_view key, const std::optional<Value>& value) {
    return value ? Put(key, *value) : *this;
  }
  template <typename T, typename Print>
  Line& Each(std::string_view key, const std::vector<T>& items, Print print) {
    if (items.empty()) return *this;
    std::vector<Value> values;
    for (const T& item : items) values.push_back(print(item));
    return Put(key, Value::OfVector(std::move(values)));
  }
  Value Take() { return Value::OfMap(Map(std::move(entries_))); }

 private:
  std::vector<std::pair<Value, Value>> entries_;
};

Value Text(const std::string& text) { return Value::String(text); }
Value Same(const Value& value) { return value; }
std::optional<Value> OfInteger(std::optional<int64_t> integer) {
  return integer ? std::optional<Value>(Value::Integer(*integer)) : std::nullopt;
}

Value Print(const Entry& entry) {
  return Line()
      .Put("name", Text(entry.name))
      .Optional("value", entry.value)
      .Number("version", entry.version)
      .Take();
}

constexpr std::string_view kChanges[] = {"set", "add", "conj", "delete", "create", "define"};
constexpr std::string_view kVerdicts[] = {"committed", "conflict",      "rejected",
                                          "refused",   "not-committed", "unknown"};
constexpr std::string_view kSteps[] = {"opened", "initial", "synced", "commit", "progress", "gap"};
constexpr std::string_view kCalls[] = {"open",    "close", "acquire", "release",
                                       "give-up", "await", "signal",  "break"};
constexpr std::string_view kModes[] = {"exclusive", "shared", "permits"};
constexpr std::string_view kOutcomes[] = {
    "granted",   "busy", "upgrade-refused", "deadlock", "released", "still-held",    "not-held",
    "not-yours", "left", "signalled",       "done",     "expired",  "not-committed", "unknown"};
constexpr std::string_view kLogChanges[] = {"set", "create", "delete", "expire", "define"};

Value Print(const Write& write) {
  return Line()
      .Put("name", Text(write.name))
      .Put("change", Value::Keyword(kChanges[static_cast<int>(write.change)]))
      .Put("value", write.value)
      .Number("ttl-ms", write.ttl_ms)
      .Flag("atom", write.atom)
      .Optional("min", OfInteger(write.min))
      .Take();
}

// A result is [] or [value]: absent is not nil.
Value PrintResult(const std::optional<Value>& result) {
  return Value::OfVector(result ? std::vector<Value>{*result} : std::vector<Value>{});
}

Value Print(const Answer& answer) {
  return Line()
      .Put("verdict", Value::Keyword(kVerdicts[static_cast<int>(answer.verdict)]))
      .Number("at", answer.at)
      .Number("life", answer.life)
      .Number("version", answer.version)
      .Each("results", answer.results, PrintResult)
      .Flag("results-dropped", answer.results_dropped)
      .Flag("fence-lost", answer.fence_lost)
      .Each("causes", answer.causes,
            [](const Answer::Cause& cause) {
              return Line().Put("name", Text(cause.name)).Number("version", cause.version).Take();
            })
      .Number("snapshot", answer.snapshot)
      .Each("fresh", answer.fresh, [](const Entry& entry) { return Print(entry); })
      .Take();
}

Value Print(const WatchStep& step) {
  Line line;
  line.Put("step", Value::Keyword(kSteps[static_cast<int>(step.kind)]))
      .Number("at", step.at)
      .Number("version", step.version)
      .Number("life", step.life)
      .Flag("initial", step.initial)
      .Each("entries", step.entries, [](const Entry& entry) { return Print(entry); });
  if (step.id) line.Put("id", Value::OfUuid(*step.id));
  return line
      .Each("changes", step.changes,
            [](const WatchStep::Change& change) {
              return Line()
                  .Put("name", Text(change.name))
                  .Optional("before", change.before)
                  .Flag("before-unknown", !change.before_known)
                  .Optional("after", change.after)
                  .Flag("expired", change.expired)
                  .Take();
            })
      .Each("records", step.records, Same)
      .Take();
}

Value Print(const LogChange& change) {
  return Line()
      .Put("name", Text(change.name))
      .Put("change", Value::Keyword(kLogChanges[static_cast<int>(change.kind)]))
      .Optional("value", change.value)
      .Optional("ttl-ms", OfInteger(change.ttl_ms))
      .Optional("min", OfInteger(change.min))
      .Flag("atom", change.atom)
      .Optional("before", change.before)
      .Flag("before-known", change.before_known)
      .Take();
}

Value Print(const Fence& fence) {
  return Line().Put("lock", Text(fence.lock)).Put("token", Value::Integer(fence.token)).Take();
}

Value Print(const LockAnswer& answer) {
  return Line()
      .Put("outcome", Value::Keyword(kOutcomes[static_cast<int>(answer.outcome)]))
      .Number("at", answer.at)
      .Number("version", answer.version)
      .Number("token", answer.token)
      .Number("holds", answer.holds)
      .Flag("signalled", answer.signalled)
      .Take();
}

Value Print(Line line, const LogCommit& commit) {
  line.Number("version", commit.version).Number("life", commit.life);
  if (commit.at) line.Put("at", Value::OfInstant(*commit.at));
  if (commit.id) line.Put("id", Value::OfUuid(*commit.id));
  return line.Each("changes", commit.changes, [](const LogChange& change) { return Print(change); })
      .Each("records", commit.records, Same)
      .Take();
}

// Reading. The first fault is kept, and named by its key; what follows reads as empty.
class Fields {
 public:
  Fields(const Value& value, std::string where, absl::Status* status)
      : where_(std::move(where)), status_(status) {
    if (value.is(Type::kMap)) {
      map_ = value.map();
    } else {
      Fault("", "a map");
    }
  }
  ~Fields() {
    for (auto [key, value] : map_) {
      if (key.is(Type::kKeyword) && known_.count(key.text()) > 0) continue;
      Fault(ToEdn(key), "no such key");
    }
  }
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  const Value* Find(std::string_view key) {
    known_[std::string(key)] = true;
    return map_.Find(Value::Keyword(key));
  }
  const Value* Find(std::string_view key, Type type) {
    const Value* value = Find(key);
    if (value == nullptr || value->is(type)) return value;
    Fault(key, TypeName(type));
    return nullptr;
  }
  int64_t Number(std::string_view key, int64_t otherwise = 0) {
    const Value* value = Find(key, Type::kInteger);
    return value == nullptr ? otherwise : value->integer();
  }
  std::optional<int64_t> Integer(std::string_view key) {
    const Value* value = Find(key, Type::kInteger);
    return value == nullptr ? std::nullopt : std::optional<int64_t>(value->integer());
  }
  bool Flag(std::string_view key) {
    const Value* value = Find(key, Type::kBoolean);
    return value != nullptr && value->boolean();
  }
  std::string Text(std::string_view key) {
    const Value* value = Find(key, Type::kString);
    return value == nullptr ? "" : value->text();
  }
  std::optional<Value> Optional(std::string_view key) {
    const Value* value = Find(key);
    return value == nullptr ? std::nullopt : std::optional<Value>(*value);
  }
  std::optional<Uuid> Id(std::string_view key) {
    const Value* value = Find(key, Type::kUuid);
    return value == nullptr ? std::nullopt : std::optional<Uuid>(value->uuid());
  }
  std::optional<Instant> Moment(std::string_view key) {
    const Value* value = Find(key, Type::kInstant);
    return value == nullptr ? std::nullopt : std::optional<Instant>(value->instant());
  }
  template <typename Enum, size_t n>
  Enum OneOf(std::string_view key, const std::string_view (&names)[n]) {
    const Value* value = Find(key, Type::kKeyword);
    for (size_t i = 0; value != nullptr && i < n; ++i) {
      if (value->text() == names[i]) return static_cast<Enum>(i);
    }
    Fault(key, absl::StrCat("one of :", names[0].data(), "..."));
    return static_cast<Enum>(0);
  }
  template <typename T>
  std::vector<T> Each(std::string_view key, const std::function<T(const Value&, std::string where)>& read) {
    std::vector<T> items;
    const Value* value = Find(key, Type::kVector);
    if (value == nullptr) return items;
    for (const Value& item : value->items()) {
      items.push_back(read(item, absl::StrCat(where_, ":", std::string(key), "[", items.size(), "]")));
    }
    return items;
  }
  std::vector<std::string> Texts(std::string_view key) {
    return Each<std::string>(key, [this](const Value& value, std::string where) {
      if (value.is(Type::kString)) return value.text();
      Fault(where, "a string");
      return std::string();
    });
  }
  std::vector<Value> Values(std::string_view key) {
    return Each<Value>(key, [](const Value& value, std::string) { return value; });
  }
  absl::Status* status() { return status_; }

 private:
  void Fault(std::string_view key, std::string_view expected) {
    if (!status_->ok()) return;
    *status_ = absl::InvalidArgumentError(
        absl::StrCat(where_, ":", std::string(key), ": expected ", std::string(expected)));
  }

  Map map_;
  std::string where_;
  absl::Status* status_;
  std::map<std::string, bool> known_;
};

Entry ReadEntry(const Value& value, std::string where, absl::Status* status) {
  Fields f(value, std::move(where), status);
  return Entry{f.Text("name"), f.Optional("value"), f.Number("version")};
}

std::vector<Entry> Entries(Fields* f, std::string_view key) {
  absl::Status* status = f->status();
  return f->Each<Entry>(key, [status](const Value& value, std::string where) {
    return ReadEntry(value, std::move(where), status);
  });
}

std::vector<Write> Writes(Fields* f, std::string_view key) {
  absl::Status* status = f->status();
  return f->Each<Write>(key, [status](const Value& value, std::string where) {
    Fields f(value, std::move(where), status);
    Write write;
    write.name = f.Text("name");
    write.change = f.OneOf<Write::Change>("change", kChanges);
    write.value = f.Optional("value").value_or(Value());
    write.ttl_ms = f.Number("ttl-ms");
    write.atom = f.Flag("atom");
    write.min = f.Integer("min");
    return write;
  });
}

Answer ReadAnswer(const Value& value, std::string where, absl::Status* status) {
  Fields f(value, std::move(where), status);
  Answer answer;
  answer.verdict = f.OneOf<Answer::Verdict>("verdict", kVerdicts);
  answer.at = f.Number("at");
  answer.life = f.Number("life");
  answer.version = f.Number("version");
  answer.results = f.Each<std::optional<Value>>("results", [](const Value& value, std::string) {
    const bool some = value.is(Type::kVector) && !value.items().empty();
    return some ? std::optional<Value>(value.items().at(0)) : std::nullopt;
  });
  answer.results_dropped = f.Flag("results-dropped");
  answer.fence_lost = f.Flag("fence-lost");
  answer.causes = f.Each<Answer::Cause>("causes", [status](const Value& value, std::string where) {
    Fields f(value, std::move(where), status);
    return Answer::Cause{f.Text("name"), f.Number("version")};
  });
  answer.snapshot = f.Number("snapshot");
  answer.fresh = Entries(&f, "fresh");
  return answer;
}

WatchStep ReadStep(const Value& value, std::string where, absl::Status* status) {
  Fields f(value, std::move(where), status);
  WatchStep step;
  step.kind = f.OneOf<WatchStep::Kind>("step", kSteps);
  step.at = f.Number("at");
  step.version = f.Number("version");
  step.life = f.Number("life");
  step.initial = f.Flag("initial");
  step.entries = Entries(&f, "entries");
  step.id = f.Id("id");
  step.changes = f.Each<WatchStep::Change>("changes", [status](const Value& value, std::string where) {
    Fields f(value, std::move(where), status);
    WatchStep::Change change;
    change.name = f.Text("name");
    change.before = f.Optional("before");
    change.before_known = !f.Flag("before-unknown");
    change.after = f.Optional("after");
    change.expired = f.Flag("expired");
    return change;
  });
  step.records = f.Values("records");
  return step;
}

LogChange ReadLogChange(const Value& value, std::string where, absl::Status* status) {
  Fields f(value, std::move(where), status);
  LogChange change;
  change.name = f.Text("name");
  change.kind = f.OneOf<LogChange::Kind>("change", kLogChanges);
  change.value = f.Optional("value");
  change.ttl_ms = f.Integer("ttl-ms");
  change.min = f.Integer("min");
  change.atom = f.Flag("atom");
  change.before = f.Optional("before");
  change.before_known = f.Flag("before-known");
  return change;
}

std::vector<LogChange> LogChanges(Fields* f, std::string_view key) {
  absl::Status* status = f->status();
  return f->Each<LogChange>(key, [status](const Value& value, std::string where) {
    return ReadLogChange(value, std::move(where), status);
  });
}

void ReadTransaction(Fields* f, History* history) {
  absl::Status* status = f->status();
  Transaction t;
  t.client = f->Number("client");
  t.id = f->Id("id").value_or(Uuid());
  t.invoked = f->Number("invoked");
  t.snapshot = f->Number("snapshot");
  t.life = f->Number("life");
  t.serializable = !f->Flag("snapshot-isolation");
  t.reads = f->Texts("reads");
  t.lists = f->Texts("lists");
  t.ensures = f->Texts("ensures");
  t.writes = Writes(f, "writes");
  t.records = f->Values("records");
  t.fences = f->Each<Fence>("fences", [status](const Value& value, std::string where) {
    Fields f(value, std::move(where), status);
    return Fence{f.Text("lock"), f.Number("token")};
  });
  t.answers = f->Each<Answer>("answers", [status](const Value& value, std::string where) {
    return ReadAnswer(value, std::move(where), status);
  });
  history->transactions.push_back(std::move(t));
}

void ReadRead(Fields* f, History* history) {
  Read r;
  r.client = f->Number("client");
  r.invoked = f->Number("invoked");
  r.answered = f->Number("answered");
  r.newest = f->Flag("newest");
  r.at_least = f->Number("at-least");
  r.snapshot = f->Number("snapshot");
  r.life = f->Number("life");
  r.instant = f->Moment("instant");
  r.prefix = f->Text("prefix");
  r.pending = Writes(f, "pending");
  r.entries = Entries(f, "entries");
  history->reads.push_back(std::move(r));
}

void ReadWatch(Fields* f, History* history) {
  absl::Status* status = f->status();
  Watch w;
  w.client = f->Number("client");
  w.names = f->Texts("names");
  w.prefixes = f->Texts("prefixes");
  w.complete_to = f->Number("complete-to");
  w.complete_life = f->Number("complete-life");
  w.steps = f->Each<WatchStep>("steps", [status](const Value& value, std::string where) {
    return ReadStep(value, std::move(where), status);
  });
  history->watches.push_back(std::move(w));
}

void ReadSleep(Fields* f, History* history) {
  Sleep s;
  s.client = f->Number("client");
  s.invoked = f->Number("invoked");
  s.answered = f->Number("answered", kNever);
  s.snapshot = f->Number("snapshot");
  s.life = f->Number("life");
  s.asleep_in = f->Number("asleep-in");
  s.reads = f->Texts("reads");
  s.lists = f->Texts("lists");
  s.woken_at = f->Number("woken-at");
  s.fresh = Entries(f, "fresh");
  s.asleep_at = f->Number("asleep-at");
  history->sleeps.push_back(std::move(s));
}

LogCommit ReadLogCommit(Fields* f) {
  LogCommit c;
  c.version = f->Number("version");
  c.life = f->Number("life");
  c.at = f->Moment("at");
  c.id = f->Id("id");
  c.changes = LogChanges(f, "changes");
  c.records = f->Values("records");
  return c;
}

void ReadLogRead(Fields* f, History* history) {
  absl::Status* status = f->status();
  LogRead r;
  r.client = f->Number("client");
  r.invoked = f->Number("invoked");
  r.answered = f->Number("answered");
  r.name = f->Text("name");
  r.from = f->Number("from");
  r.limit = f->Number("limit");
  r.commits = f->Each<LogCommit>("commits", [status](const Value& value, std::string where) {
    Fields f(value, std::move(where), status);
    return ReadLogCommit(&f);
  });
  r.complete_to = f->Number("complete-to");
  r.refused_below = f->Number("refused-below");
  r.kept_from = f->Number("kept-from");
  r.kept_when_refused = f->Number("kept-when-refused");
  history->log_reads.push_back(std::move(r));
}

LockAnswer ReadLockAnswer(const Value& value, std::string where, absl::Status* status) {
  Fields f(value, std::move(where), status);
  LockAnswer answer;
  answer.outcome = f.OneOf<LockAnswer::Outcome>("outcome", kOutcomes);
  answer.at = f.Number("at");
  answer.version = f.Number("version");
  answer.token = f.Number("token");
  answer.holds = f.Number("holds");
  answer.signalled = f.Flag("signalled");
  return answer;
}

void ReadLockCall(Fields* f, History* history) {
  absl::Status* status = f->status();
  LockCall c;
  c.kind = f->OneOf<LockCall::Kind>("call", kCalls);
  c.client = f->Number("client");
  c.id = f->Id("id").value_or(Uuid());
  c.invoked = f->Number("invoked");
  c.session = f->Text("session");
  c.owner = f->Text("owner");
  c.lock = f->Text("lock");
  c.mode = f->OneOf<LockMode>("mode", kModes);
  c.permits = f->Number("permits");
  c.permits_max = f->Number("permits-max");
  c.wait_ms = f->Number("wait-ms");
  c.token = f->Number("token");
  c.condition = f->Text("condition");
  c.acquire = f->Id("acquire").value_or(Uuid());
  c.answers = f->Each<LockAnswer>("answers", [status](const Value& value, std::string where) {
    return ReadLockAnswer(value, std::move(where), status);
  });
  history->lock_calls.push_back(std::move(c));
}

void ReadBelief(Fields* f, History* history) {
  Belief b;
  b.client = f->Number("client");
  b.session = f->Text("session");
  b.owner = f->Text("owner");
  b.lock = f->Text("lock");
  b.mode = f->OneOf<LockMode>("mode", kModes);
  b.token = f->Number("token");
  b.from = f->Number("from");
  b.until = f->Number("until");
  history->beliefs.push_back(std::move(b));
}

enum class Op : uint8_t {
  kCommit,
  kRead,
  kWatch,
  kSleep,
  kLogRead,
  kLockCall,
  kBelief,
  kLease,
  kQuiet,
  kLog,
  kStart,
  kMemory,
  kInstalled,
  kHistory
};
constexpr std::string_view kOps[] = {"commit", "read",  "watch", "sleep", "log-read", "lock-call", "belief",
                                     "lease",  "quiet", "log",   "start", "memory",   "installed", "history"};

}  // namespace

std::string ToEdnLine(const Transaction& t) {
  return ToEdn(Line("commit")
                   .Number("client", t.client)
                   .Put("id", Value::OfUuid(t.id))
                   .Number("invoked", t.invoked)
                   .Number("snapshot", t.snapshot)
                   .Number("life", t.life)
                   .Flag("snapshot-isolation", !t.serializable)
                   .Each("reads", t.reads, Text)
                   .Each("lists", t.lists, Text)
                   .Each("ensures", t.ensures, Text)
                   .Each("writes", t.writes, [](const Write& write) { return Print(write); })
                   .Each("records", t.records, Same)
                   .Each("fences", t.fences, [](const Fence& fence) { return Print(fence); })
                   .Each("answers", t.answers, [](const Answer& answer) { return Print(answer); })
                   .Take());
}

std::string ToEdnLine(const Read& r) {
  Line line("read");
  line.Number("client", r.client)
      .Number("invoked", r.invoked)
      .Number("answered", r.answered)
      .Flag("newest", r.newest)
      .Number("at-least", r.at_least)
      .Number("snapshot", r.snapshot)
      .Number("life", r.life);
  if (r.instant) line.Put("instant", Value::OfInstant(*r.instant));
  line.Text("prefix", r.prefix);
  return ToEdn(line.Each("pending", r.pending, [](const Write& write) { return Print(write); })
                   .Each("entries", r.entries, [](const Entry& entry) { return Print(entry); })
                   .Take());
}

std::string ToEdnLine(const Watch& w) {
  return ToEdn(Line("watch")
                   .Number("client", w.client)
                   .Each("names", w.names, Text)
                   .Each("prefixes", w.prefixes, Text)
                   .Number("complete-to", w.complete_to)
                   .Number("complete-life", w.complete_life)
                   .Each("steps", w.steps, [](const WatchStep& step) { return Print(step); })
                   .Take());
}

std::string ToEdnLine(const Sleep& s) {
  Line line("sleep");
  line.Number("client", s.client).Number("invoked", s.invoked);
  if (s.answered != kNever) line.Number("answered", s.answered);
  return ToEdn(line.Number("snapshot", s.snapshot)
                   .Number("life", s.life)
                   .Number("asleep-in", s.asleep_in)
                   .Each("reads", s.reads, Text)
                   .Each("lists", s.lists, Text)
                   .Number("woken-at", s.woken_at)
                   .Each("fresh", s.fresh, [](const Entry& entry) { return Print(entry); })
                   .Number("asleep-at", s.asleep_at)
                   .Take());
}

std::string ToEdnLine(const LogCommit& c) { return ToEdn(Print(Line("log"), c)); }

std::string ToEdnLine(const LogRead& r) {
  return ToEdn(Line("log-read")
                   .Number("client", r.client)
                   .Number("invoked", r.invoked)
                   .Number("answered", r.answered)
                   .Text("name", r.name)
                   .Number("from", r.from)
                   .Number("limit", r.limit)
                   .Each("commits", r.commits, [](const LogCommit& commit) { return Print(Line(), commit); })
                   .Number("complete-to", r.complete_to)
                   .Number("refused-below", r.refused_below)
                   .Number("kept-from", r.kept_from)
                   .Number("kept-when-refused", r.kept_when_refused)
                   .Take());
}

std::string ToEdnLine(const LockCall& c) {
  Line line("lock-call");
  line.Put("call", Value::Keyword(kCalls[static_cast<int>(c.kind)]))
      .Number("client", c.client)
      .Put("id", Value::OfUuid(c.id))
      .Number("invoked", c.invoked)
      .Text("session", c.session)
      .Text("owner", c.owner)
      .Text("lock", c.lock)
      .Put("mode", Value::Keyword(kModes[static_cast<int>(c.mode)]))
      .Number("permits", c.permits)
      .Number("permits-max", c.permits_max)
      .Number("wait-ms", c.wait_ms)
      .Number("token", c.token)
      .Text("condition", c.condition);
  if (!(c.acquire == Uuid())) line.Put("acquire", Value::OfUuid(c.acquire));
  return ToEdn(
      line.Each("answers", c.answers, [](const LockAnswer& answer) { return Print(answer); }).Take());
}

std::string ToEdnLine(const Belief& b) {
  return ToEdn(Line("belief")
                   .Number("client", b.client)
                   .Text("session", b.session)
                   .Text("owner", b.owner)
                   .Text("lock", b.lock)
                   .Put("mode", Value::Keyword(kModes[static_cast<int>(b.mode)]))
                   .Number("token", b.token)
                   .Number("from", b.from)
                   .Number("until", b.until)
                   .Take());
}

std::string ToEdnLine(const Lease& l) {
  return ToEdn(Line("lease")
                   .Number("client", l.client)
                   .Text("session", l.session)
                   .Number("ttl-ms", l.ttl_ms)
                   .Number("last-beat", l.last_beat)
                   .Take());
}

std::string ToEdnLine(const Start& s) {
  return ToEdn(
      Line("start").Number("life", s.life).Number("version", s.recovered).Number("daemon", s.daemon).Take());
}

std::string ToEdnLine(const MemoryCommit& c) {
  return ToEdn(Line("memory")
                   .Number("life", c.life)
                   .Number("version", c.version)
                   .Each("changes", c.changes, [](const LogChange& change) { return Print(change); })
                   .Take());
}

std::string ToEdnText(const History& history, const Log& log) {
  std::string text;
  auto add = [&text](const std::string& line) { absl::StrAppend(&text, line, "\n"); };
  add(ToEdn(Line("history").Flag("whole", history.whole).Take()));
  for (const LogCommit& commit : log) add(ToEdnLine(commit));
  for (const Transaction& transaction : history.transactions) add(ToEdnLine(transaction));
  for (const Read& read : history.reads) add(ToEdnLine(read));
  for (const Watch& watch : history.watches) add(ToEdnLine(watch));
  for (const Sleep& sleep : history.sleeps) add(ToEdnLine(sleep));
  for (const LogRead& read : history.log_reads) add(ToEdnLine(read));
  for (const LockCall& call : history.lock_calls) add(ToEdnLine(call));
  for (const Belief& belief : history.beliefs) add(ToEdnLine(belief));
  for (const Lease& lease : history.leases) add(ToEdnLine(lease));
  if (history.quiet.until != 0) {
    add(ToEdn(Line("quiet")
                  .Number("from", history.quiet.from)
                  .Number("until", history.quiet.until)
                  .Number("grace-ms", history.quiet.grace_ms)
                  .Take()));
  }
  for (const Start& start : history.starts) add(ToEdnLine(start));
  for (const MemoryCommit& commit : history.memory) add(ToEdnLine(commit));
  for (const auto& [version, lives] : history.installed) {
    for (const auto& [life, at] : lives) {
      add(ToEdn(Line("installed").Number("version", version).Number("life", life).Number("at", at).Take()));
    }
  }
  return text;
}

absl::Status AddEdnLine(std::string_view line, History* history, Log* log) {
  absl::StatusOr<Value> value = ReadEdn(line);
  if (!value.ok()) return value.status();
  absl::Status status;
  {
    Fields f(*value, "", &status);
    switch (f.OneOf<Op>("op", kOps)) {
      case Op::kCommit:
        ReadTransaction(&f, history);
        break;
      case Op::kRead:
        ReadRead(&f, history);
        break;
      case Op::kWatch:
        ReadWatch(&f, history);
        break;
      case Op::kSleep:
        ReadSleep(&f, history);
        break;
      case Op::kLogRead:
        ReadLogRead(&f, history);
        break;
      case Op::kLockCall:
        ReadLockCall(&f, history);
        break;
      case Op::kBelief:
        ReadBelief(&f, history);
        break;
      case Op::kLease:
        history->leases.push_back(
            Lease{f.Number("client"), f.Text("session"), f.Number("ttl-ms"), f.Number("last-beat")});
        break;
      case Op::kQuiet:
        history->quiet = Quiet{f.Number("from"), f.Number("until"), f.Number("grace-ms")};
        break;
      case Op::kLog:
        log->push_back(ReadLogCommit(&f));
        break;
      case Op::kStart:
        history->starts.push_back(Start{f.Number("life"), f.Number("version"), f.Number("daemon")});
        break;
      case Op::kMemory:
        history->memory.push_back(
            MemoryCommit{f.Number("life"), f.Number("version"), LogChanges(&f, "changes")});
        break;
      case Op::kInstalled: {
        const Version version = f.Number("version");
        const Life life = f.Number("life");
        history->installed[version][life] = f.Number("at");
        break;
      }
      case Op::kHistory:
        history->whole = f.Flag("whole") && history->whole;
        break;
    }
  }
  return status;
}

absl::Status AddEdnText(std::string_view text, History* history, Log* log) {
  int number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    absl::Status status = AddEdnLine(line, history, log);
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("line ", number, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace stm::check
