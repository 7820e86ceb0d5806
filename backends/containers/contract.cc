#include "backends/containers/contract.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"

namespace stm::containers {
namespace {

// A rule that is broken is broken often: the first few times say enough.
constexpr size_t kViolationsToldMax = 5;
constexpr int64_t kVersionMax = std::numeric_limits<int64_t>::max();
// What a name may have (engine/name.h).
constexpr size_t kNameBytes = 512;
constexpr size_t kNameSegments = 32;

std::string Shown(const std::optional<Value>& value) {
  if (!value.has_value()) return "absent";
  std::string text = ToEdn(*value);
  if (text.size() > 100) text = absl::StrCat(text.substr(0, 80), "... (", text.size(), " bytes)");
  return text;
}

// One that is often mistaken for another, or loses something on its way, of every type.
std::vector<Value> Samples() {
  std::vector<Value> samples;
  for (const char* text : {
           "true",
           "false",
           "0",
           "1",
           "-1",
           "255",
           "2147483648",
           "9007199254740993",
           "9223372036854775807",
           "-9223372036854775808",
           "0.0",
           "-0.0",
           "1.0",
           "0.1",
           "-1.5e300",
           "5e-324",
           "1.7976931348623157e308",
           "##Inf",
           "##-Inf",
           "##NaN",
           "1N",
           "-123456789012345678901234567890N",
           "1M",
           "1.50M",
           "-0.000000000000000000000001M",
           "12345678901234567890123456789012345678901234567890.5M",
           "1E+400M",
           "\"\"",
           "\"1\"",
           "\"nil\"",
           "\"tab\\t quote\\\" back\\\\ line\\n\"",
           "\"\xc3\xa9 \xe8\xaa\x9e \xf0\x9f\x98\x80\"",
           "\\a",
           "\\newline",
           "\\u00e9",
           ":a",
           ":ns/name",
           ":a.b$c",
           "a",
           "ns/name",
           "#inst \"1970-01-01T00:00:00Z\"",
           "#inst \"2026-11-22T03:00:00.123456789Z\"",
           "#inst \"1969-12-31T23:59:59.999Z\"",
           "#inst \"0001-01-01T00:00:00Z\"",
           "#inst \"9999-12-31T23:59:59.999999999Z\"",
           "#uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"",
           "()",
           "(1 2 3)",
           "[]",
           "[nil]",
           "[1 (2 [3 #{4}])]",
           "{}",
           "{:a 1, :b {:c [1.5 nil true]}}",
           "#{}",
           "#{1 1.0 1N 1M \"1\" :1a}",
           "#blog.CreateUser{:name \"ann\"}",
           "#x/y [1 2]",
           // Keys that are one where they are made text, or mean something to a store.
           "{1 :integer, \"1\" :text, 1.0 :double, :k1 :keyword, k1 :symbol, nil :nil, [1] :vector, (1) "
           ":list, {1 1} :map}",
           "{\"\" 1, \"$set\" 2, \"a.b\" 3, \".\" 4, \"_id\" 5, \"__proto__\" 6, \"#inst\" 7}",
           "{\"$date\" \"1970-01-01T00:00:00Z\"}",
           "{\"$numberLong\" \"5\"}",
           "{\"$oid\" \"507f1f77bcf86cd799439011\"}",
           "{\"edn\" \"1\"}",
           "{\"type\" \"integer\", \"value\" 1}",
       }) {
    samples.push_back(*ReadEdn(text));
  }
  std::string every_byte;
  for (int byte = 0; byte < 256; ++byte) every_byte += static_cast<char>(byte);
  samples.push_back(Value::Bytes(""));
  samples.push_back(Value::Bytes(every_byte));
  samples.push_back(Value::String(std::string("a\0b", 3)));
  samples.push_back(Value::OfMap(Map({{Value::String(std::string("k\0k", 3)), Value::Integer(1)}})));
  samples.push_back(Value::Character(U'\U0010FFFF'));
  samples.push_back(Value::Character(U'\0'));
  return samples;
}

std::vector<Value> LargeSamples(size_t bytes) {
  std::string blob;
  for (size_t i = 0; i < bytes; ++i) blob += static_cast<char>(i * 131 + (i >> 8));
  std::vector<Value> items;
  for (size_t i = 0; i < bytes / 8; ++i) items.push_back(Value::Integer(static_cast<int64_t>(i)));
  std::vector<std::pair<Value, Value>> entries;
  for (size_t i = 0; i < bytes / 64; ++i) {
    entries.emplace_back(Value::Keyword(absl::StrCat("key-", i)), Value::String(absl::StrCat("value ", i)));
  }
  // As deep as a value may be that goes through Protocol Buffers (engine/values/wire.h), of vectors and of
  // maps.
  Value vectors = Value::Integer(1);
  for (int depth = 1; depth < 45; ++depth) vectors = Value::OfVector(std::vector<Value>{vectors});
  Value maps = Value::Integer(1);
  for (int depth = 1; depth < 30; ++depth) maps = Value::OfMap(Map({{Value::Keyword("in"), maps}}));
  return {Value::String(std::string(bytes, 'x')), Value::Bytes(blob), Value::OfVector(std::move(items)),
          Value::OfMap(Map(std::move(entries))),  std::move(vectors), std::move(maps)};
}

// Names that are one where a name is cut, folded, escaped badly, decoded twice, or taken for a pattern or a
// path.
std::vector<std::string> LikeNames(const std::string& base) {
  std::vector<std::string> names;
  for (const char* end : {"a",
                          "a/b",
                          "a/b/c",
                          "a-b",
                          "a_b",
                          "a~b",
                          "a.b",
                          "a b",
                          "a+b",
                          "a%2fb",
                          "a%2Fb",
                          "a%252fb",
                          "ab",
                          "A",
                          "A/b",
                          "a%",
                          "a*",
                          "a?b=c",
                          "a#b",
                          "a:b",
                          "a;b",
                          "a|b",
                          "a&b",
                          "a,b",
                          "a@b",
                          "a'b",
                          "a\"b",
                          "a\\b",
                          "$a",
                          "a$",
                          "%61",
                          "a ",
                          "...",
                          "\xc3\xa9",
                          "e\xcc\x81",
                          "\xc3\x89",
                          "\xe8\xaa\x9e",
                          "\xf0\x9f\x98\x80"}) {
    names.push_back(absl::StrCat(base, "/", end));
  }
  return names;
}

std::vector<std::string> LongNames(const std::string& base) {
  const size_t room = kNameBytes - base.size() - 1;
  std::vector<std::string> names;
  // Two that differ in their last byte alone.
  for (const char last : {'y', 'z'})
    names.push_back(absl::StrCat(base, "/", std::string(room - 1, 'x'), std::string(1, last)));
  names.push_back(absl::StrCat(base, "/", std::string(room, '%')));
  std::string wide = base + "/";
  while (wide.size() + 3 <= kNameBytes) wide += "\xe8\xaa\x9e";
  names.push_back(wide);
  std::string segments = base;
  for (size_t count = static_cast<size_t>(std::count(base.begin(), base.end(), '/')); count < kNameSegments;
       ++count) {
    absl::StrAppend(&segments, "/", count);
  }
  names.push_back(segments);
  return names;
}

// Calls with a time limit, and what was found of the rule that is being tried. Any thread; rules one after
// another.
class Suite {
 public:
  Suite(const CheckOptions& options, const char* time_rule)
      : options_(options), time_rule_(time_rule), run_(options.run != 0 ? options.run : Chance()) {}

  const CheckOptions& options() const { return options_; }

  // "/.check/RUN/refs-3"
  std::string Base() const { return absl::StrCat("/.check/", absl::Hex(run_, absl::kZeroPad16), "/", rule_); }
  std::string FreshName() { return absl::StrCat(Base(), "/", Number()); }
  std::string FreshStamp() { return absl::StrCat(absl::Hex(run_, absl::kZeroPad16), "-", Number()); }

  void Broken(std::string what) { Broken(rule_, std::move(what)); }

  // Nothing more is asked.
  bool over() const {
    absl::MutexLock lock(&mutex_);
    return over_;
  }

  // What `ask` returns, or CANCELLED when it is not asked, or does not return in time.
  template <typename R>
  R Timed(const std::string& call, absl::Duration within, std::function<R()> ask) {
    if (over()) return absl::CancelledError("not asked");
    struct Shared {
      absl::Mutex mutex;
      std::optional<R> result ABSL_GUARDED_BY(mutex);  // nullopt: it has not returned
    };
    auto shared = std::make_shared<Shared>();
    std::thread([shared, ask = std::move(ask)] {
      R result = ask();
      absl::MutexLock lock(&shared->mutex);
      shared->result = std::move(result);
    }).detach();
    std::optional<R> returned;
    {
      const auto has = [&]() ABSL_SHARED_LOCKS_REQUIRED(shared->mutex) { return shared->result.has_value(); };
      absl::MutexLock lock(&shared->mutex);
      shared->mutex.AwaitWithTimeout(absl::Condition(&has), within + options_.grace);
      returned = std::move(shared->result);
    }
    if (!returned.has_value()) {
      Broken(time_rule_,
             absl::StrCat(call, ": it was given ", absl::FormatDuration(within),
                          " and has not returned after ", absl::FormatDuration(within + options_.grace)));
      absl::MutexLock lock(&mutex_);
      over_ = true;
      return absl::CancelledError("it has not returned");
    }
    R result = *std::move(returned);
    absl::MutexLock lock(&mutex_);
    // None ever came back: nothing can be learnt.
    if (!reached_ && StatusOf(result).code() == absl::StatusCode::kUnavailable) over_ = true;
    if (StatusOf(result).ok()) reached_ = true;
    return result;
  }
  // As Timed, of a call that must be OK; else nullopt, and the rule is broken.
  template <typename R>
  std::optional<R> Must(const std::string& call, std::function<R()> ask) {
    R result = Timed<R>(call, options_.within, std::move(ask));
    if (StatusOf(result).ok()) return result;
    if (!absl::IsCancelled(StatusOf(result)) || !over()) {
      Broken(absl::StrCat(call, ": ", StatusOf(result).ToString(), ", and should be OK"));
    }
    return std::nullopt;
  }

  void Try(const Rule& rule, const std::function<void()>& body) {
    rule_ = rule.id;
    Tried tried{&rule, !over(), {}};
    if (tried.tried) body();
    {
      absl::MutexLock lock(&mutex_);
      tried.violations = std::move(found_);
      found_.clear();
    }
    for (const Violation& violation : tried.violations) all_.push_back(violation);
    if (options_.report != nullptr) options_.report(tried);
  }
  // `body` in many threads at once, each with its number.
  void AtOnce(int threads, const std::function<void(int)>& body) {
    absl::Mutex mutex;
    bool go = false;  // once all threads are there
    std::vector<std::thread> running;
    for (int i = 0; i < threads; ++i) {
      running.emplace_back([&, i] {
        mutex.LockWhen(absl::Condition(&go));
        mutex.Unlock();
        body(i);
      });
    }
    mutex.Lock();
    go = true;
    mutex.Unlock();
    for (std::thread& thread : running) thread.join();
  }
  std::vector<Violation> all() { return std::move(all_); }

 private:
  static uint64_t Chance() {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }
  static const absl::Status& StatusOf(const absl::Status& status) { return status; }
  template <typename T>
  static const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
    return result.status();
  }
  uint64_t Number() {
    absl::MutexLock lock(&mutex_);
    return ++number_;
  }
  void Broken(const std::string& rule, std::string what) {
    absl::MutexLock lock(&mutex_);
    if (found_.size() < kViolationsToldMax) found_.push_back({rule, std::move(what)});
  }

  const CheckOptions& options_;
  const char* const time_rule_;
  const uint64_t run_;
  std::string rule_;
  std::vector<Violation> all_;

  mutable absl::Mutex mutex_;
  uint64_t number_ ABSL_GUARDED_BY(mutex_) = 0;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  bool reached_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Violation> found_ ABSL_GUARDED_BY(mutex_);
};

using Got = absl::StatusOr<std::optional<Value>>;

// The five verbs, each of which must be OK, and what they left behind.
class Refs {
 public:
  Refs(Suite* suite, VersionedStateContainer* container) : suite_(*suite), container_(container) {}

  bool Init(const std::string& name) {
    Keep(name, "");
    return Ok(absl::StrCat("Init(", name, ")"),
              [=, in = container_](auto within) { return in->Init(name, within); });
  }
  bool Destroy(const std::string& name) {
    return Ok(absl::StrCat("Destroy(", name, ")"),
              [=, in = container_](auto within) { return in->Destroy(name, within); });
  }
  bool Set(const std::string& name, const std::string& stamp, const Value& value) {
    Keep(name, stamp);
    return Ok(absl::StrCat("SetStateAt(", name, ", ", stamp, ", ", Shown(value), ")"),
              [=, in = container_](auto within) { return in->SetStateAt(name, stamp, value, within); });
  }
  // May be refused.
  void TrySet(const std::string& name, const std::string& stamp, const Value& value) {
    Keep(name, stamp);
    const absl::Duration within = suite_.options().within;
    suite_
        .Timed<absl::Status>(absl::StrCat("SetStateAt(", name, ", ", stamp, ", ", Shown(value), ")"), within,
                             [=, in = container_] { return in->SetStateAt(name, stamp, value, within); })
        .IgnoreError();
  }
  bool Delete(const std::string& name, const std::string& stamp) {
    return Ok(absl::StrCat("DeleteStateAt(", name, ", ", stamp, ")"),
              [=, in = container_](auto within) { return in->DeleteStateAt(name, stamp, within); });
  }
  // nullopt: it failed.
  std::optional<Got> Get(const std::string& name, const std::string& stamp) {
    const absl::Duration within = suite_.options().within;
    return suite_.Must<Got>(absl::StrCat("GetStateAt(", name, ", ", stamp, ")"),
                            [=, in = container_] { return in->GetStateAt(name, stamp, within); });
  }
  bool Expect(const std::string& name, const std::string& stamp, const std::optional<Value>& expected,
              const std::string& after) {
    const std::optional<Got> got = Get(name, stamp);
    if (!got.has_value()) return false;
    if (**got == expected) return true;
    suite_.Broken(absl::StrCat("GetStateAt(", name, ", ", stamp, "): ", Shown(**got), ", expected ",
                               Shown(expected), ": ", after));
    return false;
  }
  // One call of each verb, with hardly any time: it may fail, and must return.
  void Hurry(const std::string& name, const std::string& stamp) {
    const absl::Duration within = absl::Milliseconds(20);
    Keep(name, stamp);
    const auto ask = [&](const char* verb, std::function<absl::Status(VersionedStateContainer*)> ask) {
      suite_
          .Timed<absl::Status>(absl::StrCat(verb, "(", name, ")"), within,
                               [=, in = container_] { return ask(in); })
          .IgnoreError();
    };
    ask("Init", [=](auto* in) { return in->Init(name, within); });
    ask("SetStateAt", [=](auto* in) { return in->SetStateAt(name, stamp, Value::Integer(1), within); });
    ask("GetStateAt", [=](auto* in) { return in->GetStateAt(name, stamp, within).status(); });
    ask("DeleteStateAt", [=](auto* in) { return in->DeleteStateAt(name, stamp, within); });
    ask("Destroy", [=](auto* in) { return in->Destroy(name, within); });
  }
  // Takes all away. What can't be is no rule's affair.
  void Clean() {
    std::map<std::string, std::set<std::string>> kept;
    {
      absl::MutexLock lock(&mutex_);
      kept.swap(kept_);
    }
    const absl::Duration within = suite_.options().within;
    for (const auto& [name, stamps] : kept) {
      for (const std::string& stamp : stamps) {
        suite_
            .Timed<absl::Status>(
                "DeleteStateAt", within,
                [=, in = container_, name = name] { return in->DeleteStateAt(name, stamp, within); })
            .IgnoreError();
      }
      suite_
          .Timed<absl::Status>("Destroy", within,
                               [=, in = container_, name = name] { return in->Destroy(name, within); })
          .IgnoreError();
    }
  }

 private:
  bool Ok(const std::string& call, std::function<absl::Status(absl::Duration)> ask) {
    const absl::Duration within = suite_.options().within;
    return suite_.Must<absl::Status>(call, [=] { return ask(within); }).has_value();
  }
  void Keep(const std::string& name, const std::string& stamp) {
    absl::MutexLock lock(&mutex_);
    auto& stamps = kept_[name];
    if (!stamp.empty()) stamps.insert(stamp);
  }

  Suite& suite_;
  VersionedStateContainer* const container_;
  absl::Mutex mutex_;
  std::map<std::string, std::set<std::string>> kept_ ABSL_GUARDED_BY(mutex_);
};

class Atoms {
 public:
  Atoms(Suite* suite, StateContainer* container) : suite_(*suite), container_(container) {}

  bool Init(const std::string& name) {
    Keep(name, 0);
    return Ok(absl::StrCat("Init(", name, ")"),
              [=, in = container_](auto within) { return in->Init(name, within); });
  }
  bool Destroy(const std::string& name, int64_t version) {
    Keep(name, version);
    return Ok(absl::StrCat("Destroy(", name, ", ", version, ")"),
              [=, in = container_](auto within) { return in->Destroy(name, version, within); });
  }
  bool Set(const std::string& name, const Value& value, int64_t version) {
    Keep(name, version);
    return Ok(absl::StrCat("SetState(", name, ", ", Shown(value), ", ", version, ")"),
              [=, in = container_](auto within) { return in->SetState(name, value, version, within); });
  }
  std::optional<Got> Get(const std::string& name) {
    const absl::Duration within = suite_.options().within;
    return suite_.Must<Got>(absl::StrCat("GetState(", name, ")"),
                            [=, in = container_] { return in->GetState(name, within); });
  }
  bool Expect(const std::string& name, const std::optional<Value>& expected, const std::string& after) {
    const std::optional<Got> got = Get(name);
    if (!got.has_value()) return false;
    if (**got == expected) return true;
    suite_.Broken(
        absl::StrCat("GetState(", name, "): ", Shown(**got), ", expected ", Shown(expected), ": ", after));
    return false;
  }
  void Hurry(const std::string& name) {
    const absl::Duration within = absl::Milliseconds(20);
    Keep(name, 2);
    const auto ask = [&](const char* verb, std::function<absl::Status(StateContainer*)> ask) {
      suite_
          .Timed<absl::Status>(absl::StrCat(verb, "(", name, ")"), within,
                               [=, in = container_] { return ask(in); })
          .IgnoreError();
    };
    ask("Init", [=](auto* in) { return in->Init(name, within); });
    ask("SetState", [=](auto* in) { return in->SetState(name, Value::Integer(1), 1, within); });
    ask("GetState", [=](auto* in) { return in->GetState(name, within).status(); });
    ask("Destroy", [=](auto* in) { return in->Destroy(name, 2, within); });
  }
  void Clean() {
    std::map<std::string, int64_t> kept;
    {
      absl::MutexLock lock(&mutex_);
      kept.swap(kept_);
    }
    const absl::Duration within = suite_.options().within;
    for (const auto& [name, version] : kept) {
      const int64_t end = version == kVersionMax ? version : version + 1;
      suite_
          .Timed<absl::Status>("Destroy", within,
                               [=, in = container_, name = name] { return in->Destroy(name, end, within); })
          .IgnoreError();
    }
  }

 private:
  bool Ok(const std::string& call, std::function<absl::Status(absl::Duration)> ask) {
    const absl::Duration within = suite_.options().within;
    return suite_.Must<absl::Status>(call, [=] { return ask(within); }).has_value();
  }
  void Keep(const std::string& name, int64_t version) {
    absl::MutexLock lock(&mutex_);
    int64_t& newest = kept_[name];
    newest = std::max(newest, version);
  }

  Suite& suite_;
  StateContainer* const container_;
  absl::Mutex mutex_;
  std::map<std::string, int64_t> kept_ ABSL_GUARDED_BY(mutex_);  // to the newest version that was asked for
};

struct RefCheck {
  Suite& suite;
  Refs& refs;
  VersionedStateContainer* other;

  void InitAgain() {
    const std::string name = suite.FreshName(), stamp = suite.FreshStamp();
    if (!refs.Init(name) || !refs.Init(name) || !refs.Set(name, stamp, Value::Integer(7)) || !refs.Init(name))
      return;
    refs.Expect(name, stamp, Value::Integer(7), "it was set, and then its name came to Init again");
  }
  void UnknownIsAbsent() {
    const std::string name = suite.FreshName();
    if (!refs.Init(name)) return;
    refs.Expect(name, suite.FreshStamp(), std::nullopt, "its name has no stamps at all");
    if (!refs.Set(name, suite.FreshStamp(), Value::Integer(1))) return;
    refs.Expect(name, suite.FreshStamp(), std::nullopt, "its name has another stamp");
    refs.Expect(suite.FreshName(), suite.FreshStamp(), std::nullopt, "its name was never here");
  }
  void ReadBack(const std::vector<Value>& values) {
    const std::string name = suite.FreshName();
    if (!refs.Init(name)) return;
    for (const Value& value : values) {
      const std::string stamp = suite.FreshStamp();
      if (refs.Set(name, stamp, value)) {
        refs.Expect(name, stamp, value, absl::StrCat("that was set (", TypeName(value.type()).data(), ")"));
      }
    }
  }
  void SameAgain() {
    const std::string name = suite.FreshName(), stamp = suite.FreshStamp();
    const Value value = *ReadEdn("{:a 1, :b 2}");
    if (!refs.Init(name) || !refs.Set(name, stamp, value) || !refs.Set(name, stamp, value)) return;
    // Equal, and not the same text.
    if (!refs.Set(name, stamp, *ReadEdn("{:b 2, :a 1}"))) return;
    refs.Expect(name, stamp, value, "it was set three times");
  }
  void OtherChangesNothing() {
    const std::string name = suite.FreshName(), stamp = suite.FreshStamp();
    if (!refs.Init(name) || !refs.Set(name, stamp, Value::Integer(1))) return;
    refs.TrySet(name, stamp, Value::Integer(2));
    refs.Expect(name, stamp, Value::Integer(1), "2 came under the same stamp later");
  }
  void StampsApart() {
    const std::string name = suite.FreshName();
    if (!refs.Init(name)) return;
    std::vector<std::string> stamps;
    for (int i = 0; i < 20; ++i) stamps.push_back(suite.FreshStamp());
    // Two that differ in their last character alone, and short ones.
    const std::string fresh = suite.FreshStamp();
    for (const char last : {'y', 'z'}) stamps.push_back(fresh + std::string(63 - fresh.size(), '-') + last);
    for (const char* stamp : {"0", "00", "-", "a", "a-", "a-a", "aa", "null", "1e1", "10"})
      stamps.push_back(stamp);
    for (size_t i = 0; i < stamps.size(); ++i) {
      if (!refs.Set(name, stamps[i], Value::Integer(static_cast<int64_t>(i)))) return;
    }
    for (size_t i = 0; i < stamps.size(); ++i) {
      refs.Expect(name, stamps[i], Value::Integer(static_cast<int64_t>(i)),
                  absl::StrCat("its name has ", stamps.size(), " stamps"));
    }
  }
  void NamesApart(const std::vector<std::string>& names) {
    const std::string stamp = suite.FreshStamp();
    for (const std::string& name : names) {
      if (!refs.Init(name)) return;
    }
    for (const std::string& name : names) {
      refs.Expect(name, stamp, std::nullopt, "names like it have this stamp");
      if (!refs.Set(name, stamp, Value::String(name))) return;
    }
    for (const std::string& name : names) {
      refs.Expect(name, stamp, Value::String(name), "names like it have this stamp too");
    }
    // And away again, one by one.
    for (size_t i = 0; i < names.size(); ++i) {
      if (!refs.Delete(names[i], stamp)) return;
      refs.Expect(names[i], stamp, std::nullopt, "it was deleted");
      if (i + 1 < names.size()) {
        refs.Expect(names[i + 1], stamp, Value::String(names[i + 1]),
                    absl::StrCat("it was deleted of ", names[i], " only"));
      }
    }
  }
  void DeleteOne() {
    const std::string name = suite.FreshName();
    const std::string stamps[] = {suite.FreshStamp(), suite.FreshStamp(), suite.FreshStamp()};
    if (!refs.Init(name)) return;
    for (const std::string& stamp : stamps) {
      if (!refs.Set(name, stamp, Value::String(stamp))) return;
    }
    if (!refs.Delete(name, stamps[1])) return;
    refs.Expect(name, stamps[0], Value::String(stamps[0]), "a later stamp was deleted");
    refs.Expect(name, stamps[1], std::nullopt, "it was deleted");
    refs.Expect(name, stamps[2], Value::String(stamps[2]), "an earlier stamp was deleted");
  }
  void DeleteAgain() {
    const std::string name = suite.FreshName(), stamp = suite.FreshStamp();
    if (!refs.Init(name) || !refs.Set(name, stamp, Value::Integer(1))) return;
    refs.Delete(name, suite.FreshStamp());
    if (!refs.Delete(name, stamp)) return;
    refs.Delete(name, stamp);
    refs.Expect(name, stamp, std::nullopt, "it was deleted twice");
    refs.Delete(suite.FreshName(), suite.FreshStamp());
  }
  void DestroyKeeps() {
    const std::string name = suite.FreshName();
    const std::string first = suite.FreshStamp(), second = suite.FreshStamp();
    if (!refs.Init(name) || !refs.Set(name, first, Value::Integer(1)) || !refs.Destroy(name)) return;
    refs.Expect(name, first, Value::Integer(1), "its name was destroyed: what is under stamps stays");
    if (!refs.Init(name) || !refs.Set(name, second, Value::Integer(2))) return;
    refs.Expect(name, second, Value::Integer(2), "its name was destroyed before, and made again");
    // The first ref's, late.
    if (!refs.Destroy(name)) return;
    refs.Expect(name, second, Value::Integer(2), "a late Destroy of the name came");
    if (!refs.Delete(name, first) || !refs.Delete(name, second) || !refs.Destroy(name)) return;
    refs.Expect(name, first, std::nullopt, "it was deleted, and its name destroyed");
  }
  void DestroyAgain() {
    const std::string name = suite.FreshName();
    if (!refs.Init(name)) return;
    refs.Destroy(name);
    refs.Destroy(name);
    refs.Destroy(suite.FreshName());
  }
  void ManyThreads() {
    const std::string shared = suite.FreshName();
    if (!refs.Init(shared)) return;
    suite.AtOnce(suite.options().threads, [&](int thread) {
      const std::string own = suite.FreshName();
      if (!refs.Init(own)) return;
      for (int round = 0; round < suite.options().rounds; ++round) {
        const Value value = Value::String(absl::StrCat("thread ", thread, " round ", round));
        for (const std::string& name : {own, shared}) {
          const std::string stamp = suite.FreshStamp();
          if (!refs.Set(name, stamp, value)) return;
          if (!refs.Expect(name, stamp, value, "it was just set, by one of many threads")) return;
          if (!refs.Delete(name, stamp)) return;
          if (!refs.Expect(name, stamp, std::nullopt, "it was just deleted, by one of many threads")) return;
        }
      }
      refs.Destroy(own);
    });
  }
  void SameAtOnce() {
    const std::string name = suite.FreshName();
    if (!refs.Init(name)) return;
    for (int round = 0; round < suite.options().rounds && !suite.over(); ++round) {
      const std::string stamp = suite.FreshStamp();
      const Value value = Value::String(std::string(20'000, static_cast<char>('a' + round % 26)));
      suite.AtOnce(std::max(2, suite.options().threads), [&](int thread) {
        if (thread % 4 != 0) {
          if (refs.Set(name, stamp, value))
            refs.Expect(name, stamp, value, "it was just set, by many threads at once");
          return;
        }
        const std::optional<Got> got = refs.Get(name, stamp);
        if (got.has_value() && (*got)->has_value() && ***got != value) {
          suite.Broken(absl::StrCat("GetStateAt(", name, ", ", stamp, "): ", Shown(**got), ", expected ",
                                    Shown(value), " or absent: it is being set"));
        }
      });
      refs.Expect(name, stamp, value, "it was set by many threads at once");
    }
  }
  void InTime() { refs.Hurry(suite.FreshName(), suite.FreshStamp()); }
  void Elsewhere() {
    Refs there(&suite, other);
    const std::string name = suite.FreshName();
    const std::string here_first = suite.FreshStamp(), there_first = suite.FreshStamp();
    if (!refs.Init(name) || !refs.Set(name, here_first, Value::Integer(1))) return;
    there.Expect(name, here_first, Value::Integer(1), "it was set by another connection");
    if (!there.Set(name, there_first, Value::Integer(2))) return;
    refs.Expect(name, there_first, Value::Integer(2), "it was set by another connection");
    if (!there.Delete(name, here_first)) return;
    refs.Expect(name, here_first, std::nullopt, "it was deleted by another connection");
    there.Clean();
  }
};

struct AtomCheck {
  Suite& suite;
  Atoms& atoms;
  StateContainer* other;

  void InitAgain() {
    const std::string name = suite.FreshName();
    if (!atoms.Init(name) || !atoms.Init(name) || !atoms.Set(name, Value::Integer(7), 1) || !atoms.Init(name))
      return;
    atoms.Expect(name, Value::Integer(7), "it was set, and then its name came to Init again");
  }
  void AbsentAtFirst() {
    const std::string name = suite.FreshName();
    atoms.Expect(name, std::nullopt, "its name was never here");
    if (atoms.Init(name)) atoms.Expect(name, std::nullopt, "it was never set");
  }
  void ReadBack(const std::vector<Value>& values) {
    const std::string name = suite.FreshName();
    if (!atoms.Init(name)) return;
    int64_t version = 0;
    for (const Value& value : values) {
      if (atoms.Set(name, value, ++version)) {
        atoms.Expect(name, value, absl::StrCat("that was set (", TypeName(value.type()).data(), ")"));
      }
    }
  }
  void NewerReplaces() {
    const std::string name = suite.FreshName();
    if (!atoms.Init(name)) return;
    for (const int64_t version : {1, 2, 10, 11, 1000}) {
      if (!atoms.Set(name, Value::Integer(version), version)) return;
      atoms.Expect(name, Value::Integer(version), "it is the newest");
    }
  }
  void OlderChangesNothing() {
    const std::string name = suite.FreshName();
    if (!atoms.Init(name) || !atoms.Set(name, Value::String("newer"), 10)) return;
    // 9 is also what comes after 10 as text.
    for (const int64_t version : {9, 1}) {
      if (!atoms.Set(name, Value::String("older"), version)) return;
      atoms.Expect(name, Value::String("newer"),
                   absl::StrCat("it has version 10, and version ", version, " came later"));
    }
  }
  void SameAgain() {
    const std::string name = suite.FreshName();
    if (!atoms.Init(name) || !atoms.Set(name, Value::Integer(1), 5) || !atoms.Set(name, Value::Integer(1), 5))
      return;
    atoms.Expect(name, Value::Integer(1), "it was set twice");
  }
  void LargeVersions() {
    const std::string name = suite.FreshName();
    if (!atoms.Init(name)) return;
    // Each is the one before to who keeps fewer bits: 32, a double's 53.
    const int64_t versions[] = {(int64_t{1} << 32) - 1, int64_t{1} << 32, (int64_t{1} << 53),
                                (int64_t{1} << 53) + 1, kVersionMax - 1,  kVersionMax};
    for (size_t i = 0; i < std::size(versions); ++i) {
      if (!atoms.Set(name, Value::Integer(versions[i]), versions[i])) return;
      atoms.Expect(name, Value::Integer(versions[i]), "it is the newest");
      if (i == 0) continue;
      if (!atoms.Set(name, Value::String("older"), versions[i - 1])) return;
      atoms.Expect(
          name, Value::Integer(versions[i]),
          absl::StrCat("it has version ", versions[i], ", and version ", versions[i - 1], " came later"));
    }
  }
  void DestroyOlder() {
    const std::string name = suite.FreshName();
    if (!atoms.Init(name) || !atoms.Set(name, Value::Integer(1), 5) || !atoms.Destroy(name, 10)) return;
    atoms.Expect(name, std::nullopt, "it had version 5, and was destroyed at 10");
    if (!atoms.Init(name)) return;
    atoms.Expect(name, std::nullopt, "it was destroyed, and made again");
    if (atoms.Set(name, Value::Integer(2), 11))
      atoms.Expect(name, Value::Integer(2), "it was destroyed before, and made again");
  }
  void DestroyKeepsNewer() {
    const std::string name = suite.FreshName();
    if (!atoms.Init(name) || !atoms.Set(name, Value::Integer(1), 10) || !atoms.Destroy(name, 9)) return;
    atoms.Expect(name, Value::Integer(1), "it has version 10, and was destroyed at 9");
    if (!atoms.Set(name, Value::Integer(2), 11)) return;
    atoms.Expect(name, Value::Integer(2), "it has version 11, and was destroyed at 9");
  }
  void DestroyAgain() {
    const std::string name = suite.FreshName();
    if (!atoms.Init(name) || !atoms.Set(name, Value::Integer(1), 1)) return;
    atoms.Destroy(name, 2);
    atoms.Destroy(name, 2);
    atoms.Expect(name, std::nullopt, "it was destroyed twice");
    atoms.Destroy(suite.FreshName(), 1);
  }
  void NamesApart(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (!atoms.Init(name)) return;
      atoms.Expect(name, std::nullopt, "names like it were set");
      if (!atoms.Set(name, Value::String(name), 1)) return;
    }
    for (const std::string& name : names)
      atoms.Expect(name, Value::String(name), "names like it were set too");
    for (size_t i = 0; i < names.size(); ++i) {
      if (!atoms.Destroy(names[i], 2)) return;
      atoms.Expect(names[i], std::nullopt, "it was destroyed");
      if (i + 1 < names.size()) {
        atoms.Expect(names[i + 1], Value::String(names[i + 1]),
                     absl::StrCat("only ", names[i], " was destroyed"));
      }
    }
  }
  void ManyThreads() {
    const std::string shared = suite.FreshName();
    const int threads = suite.options().threads, rounds = suite.options().rounds;
    if (!atoms.Init(shared)) return;
    suite.AtOnce(threads, [&](int thread) {
      const std::string own = suite.FreshName();
      if (!atoms.Init(own)) return;
      int64_t seen = 0;
      for (int round = 0; round < rounds; ++round) {
        const int64_t version = 1 + int64_t{round} * threads + thread;
        if (!atoms.Set(own, Value::Integer(version), version)) return;
        if (!atoms.Expect(own, Value::Integer(version), "it was just set, by one of many threads")) return;
        if (!atoms.Set(shared, Value::Integer(version), version)) return;
        const std::optional<Got> got = atoms.Get(shared);
        if (!got.has_value()) return;
        const int64_t now = (*got)->has_value() && (**got)->is(Type::kInteger) ? (**got)->integer() : 0;
        if (now < std::max(seen, version)) {
          return suite.Broken(absl::StrCat("GetState(", shared, "): ", Shown(**got), ", expected ",
                                           std::max(seen, version),
                                           " or newer: that was set, or read, before"));
        }
        seen = now;
      }
    });
    if (!suite.over()) {
      atoms.Expect(shared, Value::Integer(int64_t{threads} * rounds),
                   "the newest of those that many threads set at once");
    }
  }
  void InTime() { atoms.Hurry(suite.FreshName()); }
  void Elsewhere() {
    Atoms there(&suite, other);
    const std::string name = suite.FreshName();
    if (!atoms.Init(name) || !atoms.Set(name, Value::Integer(1), 1)) return;
    there.Expect(name, Value::Integer(1), "it was set by another connection");
    if (!there.Set(name, Value::Integer(2), 2)) return;
    atoms.Expect(name, Value::Integer(2), "it was set by another connection");
    if (!there.Destroy(name, 3)) return;
    atoms.Expect(name, std::nullopt, "it was destroyed by another connection");
  }
};

template <typename Check>
struct Row {
  Rule rule;
  void (*run)(Check& check);
};

constexpr char kRefsInTime[] = "refs-17";
constexpr char kAtomsInTime[] = "atoms-16";

const Row<RefCheck> kRefRows[] = {
    {{"refs-1", "Init of a name may come again, and changes nothing"},
     [](auto& check) { check.InitAgain(); }},
    {{"refs-2", "a stamp that was never set is absent"}, [](auto& check) { check.UnknownIsAbsent(); }},
    {{"refs-3", "a value that was set is read back equal, of every type"},
     [](auto& check) { check.ReadBack(Samples()); }},
    {{"refs-4", "nil is a value, and not absent"}, [](auto& check) { check.ReadBack({Value()}); }},
    {{"refs-5", "large and deep values are read back equal"},
     [](auto& check) { check.ReadBack(LargeSamples(check.suite.options().large_bytes)); }},
    {{"refs-6", "the same value may come again under the same stamp"},
     [](auto& check) { check.SameAgain(); }},
    {{"refs-7", "another value under a stamp is refused or ignored: the first stays"},
     [](auto& check) { check.OtherChangesNothing(); }},
    {{"refs-8", "the stamps of a name are apart"}, [](auto& check) { check.StampsApart(); }},
    {{"refs-9", "names are apart, however like each other, under one stamp"},
     [](auto& check) { check.NamesApart(LikeNames(check.suite.Base())); }},
    {{"refs-10", "names of 512 bytes, and of 32 segments, are kept and apart"},
     [](auto& check) { check.NamesApart(LongNames(check.suite.Base())); }},
    {{"refs-11", "DeleteStateAt takes its stamp away, and no other"}, [](auto& check) { check.DeleteOne(); }},
    {{"refs-12", "DeleteStateAt of a stamp that is not there is OK"},
     [](auto& check) { check.DeleteAgain(); }},
    {{"refs-13", "Destroy keeps what is under stamps, and the name may be made again"},
     [](auto& check) { check.DestroyKeeps(); }},
    {{"refs-14", "Destroy may come twice, and for a name that is not there"},
     [](auto& check) { check.DestroyAgain(); }},
    {{"refs-15", "many threads at once get what each of them set"}, [](auto& check) { check.ManyThreads(); }},
    {{"refs-16", "the same set many times at once is OK, and is never read in part"},
     [](auto& check) { check.SameAtOnce(); }},
    {{kRefsInTime, "a call returns in its time"}, [](auto& check) { check.InTime(); }},
    {{"refs-18", "another connection to the store sees at once what is there"},
     [](auto& check) { check.Elsewhere(); }},
};

const Row<AtomCheck> kAtomRows[] = {
    {{"atoms-1", "Init of a name may come again, and changes nothing"},
     [](auto& check) { check.InitAgain(); }},
    {{"atoms-2", "an atom that was never set is absent"}, [](auto& check) { check.AbsentAtFirst(); }},
    {{"atoms-3", "a value that was set is read back equal, of every type"},
     [](auto& check) { check.ReadBack(Samples()); }},
    {{"atoms-4", "nil is a value, and not absent"}, [](auto& check) { check.ReadBack({Value()}); }},
    {{"atoms-5", "large and deep values are read back equal"},
     [](auto& check) { check.ReadBack(LargeSamples(check.suite.options().large_bytes)); }},
    {{"atoms-6", "a newer version takes the place of an older"}, [](auto& check) { check.NewerReplaces(); }},
    {{"atoms-7", "an older version is OK, and changes nothing"},
     [](auto& check) { check.OlderChangesNothing(); }},
    {{"atoms-8", "the same version may come again"}, [](auto& check) { check.SameAgain(); }},
    {{"atoms-9", "versions are told apart up to 9223372036854775807"},
     [](auto& check) { check.LargeVersions(); }},
    {{"atoms-10", "Destroy takes an older state away, and the name may be made again"},
     [](auto& check) { check.DestroyOlder(); }},
    {{"atoms-11", "Destroy keeps a state that is newer"}, [](auto& check) { check.DestroyKeepsNewer(); }},
    {{"atoms-12", "Destroy may come twice, and for a name that is not there"},
     [](auto& check) { check.DestroyAgain(); }},
    {{"atoms-13", "names are apart, however like each other"},
     [](auto& check) { check.NamesApart(LikeNames(check.suite.Base())); }},
    {{"atoms-14", "names of 512 bytes, and of 32 segments, are kept and apart"},
     [](auto& check) { check.NamesApart(LongNames(check.suite.Base())); }},
    {{"atoms-15", "of what many threads set at once the newest stays"},
     [](auto& check) { check.ManyThreads(); }},
    {{kAtomsInTime, "a call returns in its time"}, [](auto& check) { check.InTime(); }},
    {{"atoms-17", "another connection to the store sees at once what is there"},
     [](auto& check) { check.Elsewhere(); }},
};

const Rule kBothRule = {"both-1", "a ref and an atom of one name are apart"};

template <typename Check, size_t kSize>
std::vector<Rule> RulesOf(const Row<Check> (&rows)[kSize]) {
  std::vector<Rule> rules;
  for (const Row<Check>& row : rows) rules.push_back(row.rule);
  return rules;
}

template <typename Check, size_t kSize>
void TryAll(const Row<Check> (&rows)[kSize], Check check) {
  for (size_t i = 0; i < kSize; ++i) {
    // The last one is for two connections.
    if (i + 1 == kSize && check.other == nullptr) {
      if (check.suite.options().report != nullptr)
        check.suite.options().report(Tried{&rows[i].rule, false, {}});
      continue;
    }
    check.suite.Try(rows[i].rule, [&] { rows[i].run(check); });
  }
}

void Apart(Suite* suite, Refs* refs, Atoms* atoms) {
  const std::string name = suite->FreshName(), stamp = suite->FreshStamp();
  if (!refs->Init(name) || !refs->Set(name, stamp, Value::Integer(1))) return;
  atoms->Expect(name, std::nullopt, "a ref of this name was set");
  if (!atoms->Init(name) || !atoms->Set(name, Value::Integer(2), 1)) return;
  refs->Expect(name, stamp, Value::Integer(1), "an atom of this name was set");
  atoms->Expect(name, Value::Integer(2), "a ref of this name was set");
  if (!refs->Delete(name, stamp) || !refs->Destroy(name)) return;
  atoms->Expect(name, Value::Integer(2), "the ref of this name was deleted and destroyed");
  const std::string second = suite->FreshStamp();
  if (!refs->Init(name) || !refs->Set(name, second, Value::Integer(3)) || !atoms->Destroy(name, 2)) return;
  refs->Expect(name, second, Value::Integer(3), "the atom of this name was destroyed");
}

}  // namespace

const std::vector<Rule>& RefRules() {
  static const auto& rules = *new std::vector<Rule>(RulesOf(kRefRows));
  return rules;
}

const std::vector<Rule>& AtomRules() {
  static const auto& rules = *new std::vector<Rule>(RulesOf(kAtomRows));
  return rules;
}

const std::vector<Rule>& BothRules() {
  static const auto& rules = *new std::vector<Rule>{kBothRule};
  return rules;
}

std::vector<Violation> CheckRefs(VersionedStateContainer* container, const CheckOptions& options) {
  Suite suite(options, kRefsInTime);
  Refs refs(&suite, container);
  TryAll(kRefRows, RefCheck{suite, refs, options.other_refs});
  refs.Clean();
  return suite.all();
}

std::vector<Violation> CheckAtoms(StateContainer* container, const CheckOptions& options) {
  Suite suite(options, kAtomsInTime);
  Atoms atoms(&suite, container);
  TryAll(kAtomRows, AtomCheck{suite, atoms, options.other_atoms});
  atoms.Clean();
  return suite.all();
}

std::vector<Violation> CheckContainer(const Container& container, const CheckOptions& options) {
  std::vector<Violation> all;
  const auto add = [&](std::vector<Violation> more) {
    for (Violation& violation : more) all.push_back(std::move(violation));
  };
  if (container.refs != nullptr) add(CheckRefs(container.refs.get(), options));
  if (container.atoms != nullptr) add(CheckAtoms(container.atoms.get(), options));
  if (container.refs == nullptr || container.atoms == nullptr) return all;
  Suite suite(options, kRefsInTime);
  Refs refs(&suite, container.refs.get());
  Atoms atoms(&suite, container.atoms.get());
  suite.Try(kBothRule, [&] { Apart(&suite, &refs, &atoms); });
  refs.Clean();
  atoms.Clean();
  add(suite.all());
  return all;
}

}  // namespace stm::containers
