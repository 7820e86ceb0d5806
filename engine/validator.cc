#include "engine/validator.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/values/edn.h"
#include "engine/values/lexical.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"

namespace stm::engine {

// One rule of the tree. Only the fields of its kind are used.
struct Validator::Rule {
  enum class Kind : uint8_t {
    kType,
    kMin,
    kMax,
    kSize,
    kRegex,
    kOneOf,
    kKeys,
    kEvery,
    kTag,
    kAnd,
    kOr,
    kNot
  };
  struct Key {
    Value key;
    bool optional = false;
  };

  Kind kind = Kind::kType;
  Value form;
  uint32_t types = 0;    // kType: a bit for each Type
  Value bound;           // kMin, kMax
  int64_t size_min = 0;  // kSize, inclusive
  int64_t size_max = 0;
  std::unique_ptr<const RE2> regex;
  Set choices;            // kOneOf
  std::string tag;        // kTag
  std::vector<Key> keys;  // kKeys: keys[i] has rules[i]
  std::vector<std::unique_ptr<const Rule>> rules;
};

namespace {

using Rule = Validator::Rule;
using Kind = Rule::Kind;

// What RE2 may spend on one pattern's programs and caches; past it, it matches more slowly, still in linear
// time.
constexpr int64_t kRegexBytesMax = 1 << 20;

constexpr uint32_t Bit(Type type) { return 1u << static_cast<int>(type); }
constexpr uint32_t kNumbers =
    Bit(Type::kInteger) | Bit(Type::kDouble) | Bit(Type::kBigInt) | Bit(Type::kDecimal);

struct TypeRule {
  std::string_view name;
  uint32_t types;
};
constexpr TypeRule kTypeRules[] = {
    {"any", ~0u},
    {"nil", Bit(Type::kNil)},
    {"boolean", Bit(Type::kBoolean)},
    {"int", Bit(Type::kInteger)},
    {"double", Bit(Type::kDouble)},
    {"number", kNumbers},
    {"bigint", Bit(Type::kBigInt)},
    {"decimal", Bit(Type::kDecimal)},
    {"string", Bit(Type::kString)},
    {"bytes", Bit(Type::kBytes)},
    {"keyword", Bit(Type::kKeyword)},
    {"symbol", Bit(Type::kSymbol)},
    {"instant", Bit(Type::kInstant)},
    {"uuid", Bit(Type::kUuid)},
    {"list", Bit(Type::kList)},
    {"vector", Bit(Type::kVector)},
    {"map", Bit(Type::kMap)},
    {"set", Bit(Type::kSet)},
    {"char", Bit(Type::kCharacter)},
};

// --- Comparing ---

// A bigint's or decimal's amount, as views into its digits: 0.d d d ... x 10^exponent with the first digit
// not 0.
class Amount {
 public:
  explicit Amount(std::string_view text) {
    lexical::Number number;
    const char* problem = lexical::ParseNumber(text, &number);
    assert(problem == nullptr && "digits that no reader lets in");
    (void)problem;
    whole_ = number.whole;
    fraction_ = number.fraction;
    exponent_ = number.exponent + static_cast<int64_t>(whole_.size());
    while (!whole_.empty() && whole_.front() == '0') DropFront(&whole_);
    while (whole_.empty() && !fraction_.empty() && fraction_.front() == '0') DropFront(&fraction_);
    while (!fraction_.empty() && fraction_.back() == '0') fraction_.remove_suffix(1);
    while (fraction_.empty() && !whole_.empty() && whole_.back() == '0') whole_.remove_suffix(1);
    sign_ = digits() == 0 ? 0 : number.negative ? -1 : 1;
  }

  // -1, 0 or 1. 1.5, 1.50 and 15E-1 are the same.
  static int Compare(const Amount& a, const Amount& b) {
    if (a.sign_ != b.sign_) return a.sign_ < b.sign_ ? -1 : 1;
    if (a.sign_ == 0) return 0;
    if (a.exponent_ != b.exponent_) return a.exponent_ < b.exponent_ ? -a.sign_ : a.sign_;
    size_t common = std::min(a.digits(), b.digits());
    for (size_t i = 0; i < common; ++i) {
      if (a.digit(i) != b.digit(i)) return a.digit(i) < b.digit(i) ? -a.sign_ : a.sign_;
    }
    if (a.digits() == b.digits()) return 0;
    return a.digits() < b.digits() ? -a.sign_ : a.sign_;
  }

 private:
  void DropFront(std::string_view* digits) {
    digits->remove_prefix(1);
    --exponent_;
  }
  size_t digits() const { return whole_.size() + fraction_.size(); }
  char digit(size_t i) const { return i < whole_.size() ? whole_[i] : fraction_[i - whole_.size()]; }

  int sign_ = 0;
  std::string_view whole_, fraction_;
  int64_t exponent_ = 0;
};

bool IsOrdered(Type type) { return ((kNumbers | Bit(Type::kString) | Bit(Type::kInstant)) & Bit(type)) != 0; }

// a <= b, both of one ordered type. NaN is neither.
bool AtMost(const Value& a, const Value& b) {
  switch (a.type()) {
    case Type::kInteger:
      return a.integer() <= b.integer();
    case Type::kDouble:
      return a.float64() <= b.float64();
    case Type::kString:
      return a.text() <= b.text();
    case Type::kInstant:
      return a.instant() <= b.instant();
    default:
      return Amount::Compare(Amount(a.text()), Amount(b.text())) <= 0;
  }
}

// Items, characters or bytes; nullopt: a type that has no size.
std::optional<int64_t> SizeOf(const Value& value) {
  switch (value.type()) {
    case Type::kList:
    case Type::kVector:
      return static_cast<int64_t>(value.items().size());
    case Type::kMap:
      return static_cast<int64_t>(value.map().size());
    case Type::kSet:
      return static_cast<int64_t>(value.set().size());
    case Type::kBytes:
      return static_cast<int64_t>(value.text().size());
    case Type::kString: {
      const std::string& text = value.text();
      return std::count_if(text.begin(), text.end(),
                           [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
    }
    default:
      return std::nullopt;
  }
}

// --- Checking ---

// Where a value failed. Plain pointers into rule and value, so that a branch of an :or that fails costs
// nothing.
struct Failure {
  struct Step {
    const Value* key;  // null: `index` of a list or vector
    size_t index;
  };
  const Rule* rule = nullptr;
  const Value* found = nullptr;
  const Value* missing_key = nullptr;  // of kKeys: found is a map without it
  size_t steps = 0;
  // Innermost first. A step takes one level of the rule's form, whose depth is at most kValueDepthMax.
  std::array<Step, kValueDepthMax> path;
};

bool Fail(const Rule& rule, const Value& found, Failure* failure) {
  failure->rule = &rule;
  failure->found = &found;
  failure->missing_key = nullptr;
  failure->steps = 0;
  return false;
}

bool FailWithin(const Value* key, size_t index, Failure* failure) {
  assert(failure->steps < failure->path.size());
  failure->path[failure->steps++] = {key, index};
  return false;
}

// Recursion is as deep as the rule's form, at most kValueDepthMax.
bool Satisfies(const Rule& rule, const Value& value, Failure* failure) {
  switch (rule.kind) {
    case Kind::kType:
      return (rule.types & Bit(value.type())) != 0 || Fail(rule, value, failure);
    case Kind::kMin:
      return (value.type() == rule.bound.type() && AtMost(rule.bound, value)) || Fail(rule, value, failure);
    case Kind::kMax:
      return (value.type() == rule.bound.type() && AtMost(value, rule.bound)) || Fail(rule, value, failure);
    case Kind::kSize: {
      std::optional<int64_t> size = SizeOf(value);
      return (size && *size >= rule.size_min && *size <= rule.size_max) || Fail(rule, value, failure);
    }
    case Kind::kRegex:
      return (value.is(Type::kString) && RE2::FullMatch(value.text(), *rule.regex)) ||
             Fail(rule, value, failure);
    case Kind::kOneOf:
      return rule.choices.Contains(value) || Fail(rule, value, failure);
    case Kind::kKeys:
      if (!value.is(Type::kMap)) return Fail(rule, value, failure);
      for (size_t i = 0; i < rule.keys.size(); ++i) {
        const Rule::Key& key = rule.keys[i];
        const Value* found = value.map().Find(key.key);
        if (found == nullptr) {
          if (key.optional) continue;
          Fail(rule, value, failure);
          failure->missing_key = &key.key;
          return false;
        }
        if (!Satisfies(*rule.rules[i], *found, failure)) return FailWithin(&key.key, 0, failure);
      }
      return true;
    case Kind::kEvery: {
      const Rule& each = *rule.rules[0];
      if (value.is(Type::kList) || value.is(Type::kVector)) {
        size_t i = 0;
        for (const Value& item : value.items()) {
          if (!Satisfies(each, item, failure)) return FailWithin(nullptr, i, failure);
          ++i;
        }
        return true;
      }
      // One reference to capture: what std::function holds without allocating.
      struct Walk {
        const Rule& each;
        Failure* failure;
        const Value* failed_at;
      } walk{each, failure, nullptr};
      if (value.is(Type::kMap)) {
        value.map().ForEach([&walk](const Value& key, const Value& item) {
          if (!Satisfies(walk.each, item, walk.failure)) walk.failed_at = &key;
          return walk.failed_at == nullptr;
        });
      } else if (value.is(Type::kSet)) {
        value.set().ForEach([&walk](const Value& item) {
          if (!Satisfies(walk.each, item, walk.failure)) walk.failed_at = &item;
          return walk.failed_at == nullptr;
        });
      } else {
        return Fail(rule, value, failure);
      }
      return walk.failed_at == nullptr || FailWithin(walk.failed_at, 0, failure);
    }
    case Kind::kTag:
      if (!value.is(Type::kTagged) || value.text() != rule.tag) return Fail(rule, value, failure);
      return Satisfies(*rule.rules[0], value.tagged_value(), failure);
    case Kind::kAnd:
      for (const auto& each : rule.rules) {
        if (!Satisfies(*each, value, failure)) return false;
      }
      return true;
    case Kind::kOr:
      for (const auto& each : rule.rules) {
        if (Satisfies(*each, value, failure)) return true;
      }
      return Fail(rule, value, failure);
    case Kind::kNot:
      return !Satisfies(*rule.rules[0], value, failure) || Fail(rule, value, failure);
  }
  assert(false && "a kind without a check");
  return false;
}

// --- Parsing ---

absl::Status Bad(const Value& form, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("validator ", Excerpt(form), ": ", what));
}

absl::StatusOr<std::unique_ptr<Rule>> ParseRule(const Value& form, int* rules);

absl::Status ParseRules(const Vector& forms, size_t first, int* rules, Rule* rule) {
  rule->rules.reserve(forms.size() - first);
  for (size_t i = first; i < forms.size(); ++i) {
    absl::StatusOr<std::unique_ptr<Rule>> each = ParseRule(forms.at(i), rules);
    if (!each.ok()) return each.status();
    rule->rules.push_back(*std::move(each));
  }
  return absl::OkStatus();
}

absl::Status ParseBound(const Value& form, Rule* rule) {
  const Vector& items = form.items();
  if (items.size() != 2)
    return Bad(form, absl::StrCat("found ", items.size() - 1, " arguments, expected one bound"));
  rule->bound = items.at(1);
  if (!IsOrdered(rule->bound.type())) return Bad(form, "expected a number, string or instant as bound");
  if (rule->bound.is(Type::kDouble) && std::isnan(rule->bound.float64())) {
    return Bad(form, "NaN is no bound, since nothing compares with it");
  }
  return absl::OkStatus();
}

absl::Status ParseSize(const Value& form, Rule* rule) {
  const Vector& items = form.items();
  bool legal = items.size() == 2 || items.size() == 3;
  for (size_t i = 1; legal && i < items.size(); ++i)
    legal = items.at(i).is(Type::kInteger) && items.at(i).integer() >= 0;
  if (legal) {
    rule->size_min = items.at(1).integer();
    rule->size_max = items.at(items.size() - 1).integer();
    legal = rule->size_min <= rule->size_max;
  }
  return legal ? absl::OkStatus() : Bad(form, "expected [:size n] or [:size least most], integers from 0 on");
}

absl::Status ParseRegex(const Value& form, Rule* rule) {
  const Vector& items = form.items();
  if (items.size() != 2 || !items.at(1).is(Type::kString))
    return Bad(form, "expected one string, an RE2 expression");
  RE2::Options options;
  options.set_max_mem(kRegexBytesMax);
  options.set_log_errors(false);
  options.set_never_capture(true);
  auto regex = std::make_unique<const RE2>(items.at(1).text(), options);
  if (!regex->ok()) {
    if (regex->error_code() == RE2::ErrorPatternTooLarge) {
      return Bad(form, absl::StrCat("the expression needs more than ", kRegexBytesMax,
                                    " bytes (validator_regex_bytes_max): make its repetitions smaller"));
    }
    return Bad(form, absl::StrCat("not an RE2 expression: ", regex->error()));
  }
  rule->regex = std::move(regex);
  return absl::OkStatus();
}

absl::Status ParseKeys(const Value& form, int* rules, Rule* rule) {
  const Vector& items = form.items();
  if (items.size() != 2 || !items.at(1).is(Type::kMap))
    return Bad(form, "expected one map, of keys to rules");
  absl::Status status;
  items.at(1).map().ForEach([&](const Value& key, const Value& value) {
    Rule::Key parsed{key, false};
    bool optional =
        key.is(Type::kVector) && !key.items().empty() && key.items().at(0) == Value::Keyword("optional");
    if (optional) {
      if (key.items().size() != 2) {
        status = Bad(form, "expected [:optional key]");
        return false;
      }
      parsed = Rule::Key{key.items().at(1), true};
    }
    absl::StatusOr<std::unique_ptr<Rule>> each = ParseRule(value, rules);
    if (!each.ok()) {
      status = each.status();
      return false;
    }
    for (const Rule::Key& other : rule->keys) {
      if (other.key == parsed.key) {
        status = Bad(form, absl::StrCat("key ", Excerpt(parsed.key), " is both required and optional"));
        return false;
      }
    }
    rule->keys.push_back(std::move(parsed));
    rule->rules.push_back(*std::move(each));
    return true;
  });
  return status;
}

absl::Status ParseTag(const Value& form, int* rules, Rule* rule) {
  const Vector& items = form.items();
  if (items.size() != 3 || !items.at(1).is(Type::kSymbol)) return Bad(form, "expected [:tag symbol rule]");
  rule->tag = items.at(1).text();
  return ParseRules(items, 2, rules, rule);
}

// [:every r], [:not r]: one; [:and r ...], [:or r ...]: at least one.
absl::Status ParseNested(const Value& form, int* rules, Rule* rule) {
  const Vector& items = form.items();
  bool one = rule->kind == Kind::kEvery || rule->kind == Kind::kNot;
  if (items.size() < 2 || (one && items.size() != 2)) {
    return Bad(form,
               absl::StrCat("found ", items.size() - 1, " rules, expected ", one ? "one" : "at least one"));
  }
  return ParseRules(items, 1, rules, rule);
}

constexpr std::pair<std::string_view, Kind> kRuleNames[] = {
    {"min", Kind::kMin},      {"max", Kind::kMax},   {"size", Kind::kSize},   {"regex", Kind::kRegex},
    {"one-of", Kind::kOneOf}, {"keys", Kind::kKeys}, {"every", Kind::kEvery}, {"tag", Kind::kTag},
    {"and", Kind::kAnd},      {"or", Kind::kOr},     {"not", Kind::kNot},
};

// Recursion is as deep as the form; Parse has bounded that.
absl::StatusOr<std::unique_ptr<Rule>> ParseRule(const Value& form, int* rules) {
  if (++*rules > kValidatorRulesMax) {
    return absl::InvalidArgumentError(absl::StrCat("validator: more than ", kValidatorRulesMax,
                                                   " rules (validator_rules_max), at ", Excerpt(form)));
  }
  auto unknown = [&] {
    return absl::UnimplementedError(
        absl::StrCat("validator ", Excerpt(form), ": no such rule in this version"));
  };
  auto rule = std::make_unique<Rule>();
  rule->form = form;
  if (form.is(Type::kKeyword)) {
    for (const TypeRule& type : kTypeRules) {
      if (type.name != form.text()) continue;
      rule->types = type.types;
      return rule;
    }
    return unknown();
  }
  if (!form.is(Type::kVector) || form.items().empty() || !form.items().at(0).is(Type::kKeyword)) {
    return Bad(form, "expected a rule: a type as in :int, or a vector as in [:min 0]");
  }
  const std::string& name = form.items().at(0).text();
  auto found = std::find_if(std::begin(kRuleNames), std::end(kRuleNames),
                            [&](const auto& known) { return known.first == name; });
  if (found == std::end(kRuleNames)) return unknown();
  rule->kind = found->second;
  absl::Status status;
  switch (rule->kind) {
    case Kind::kType:
      break;
    case Kind::kMin:
    case Kind::kMax:
      status = ParseBound(form, rule.get());
      break;
    case Kind::kSize:
      status = ParseSize(form, rule.get());
      break;
    case Kind::kRegex:
      status = ParseRegex(form, rule.get());
      break;
    case Kind::kOneOf: {
      std::vector<Value> choices;
      for (size_t i = 1; i < form.items().size(); ++i) choices.push_back(form.items().at(i));
      if (choices.empty()) return Bad(form, "expected at least one value");
      rule->choices = Set(choices);
      break;
    }
    case Kind::kKeys:
      status = ParseKeys(form, rules, rule.get());
      break;
    case Kind::kTag:
      status = ParseTag(form, rules, rule.get());
      break;
    case Kind::kEvery:
    case Kind::kAnd:
    case Kind::kOr:
    case Kind::kNot:
      status = ParseNested(form, rules, rule.get());
      break;
  }
  if (!status.ok()) return status;
  return rule;
}

}  // namespace

Validator::Validator(Value form, std::unique_ptr<const Rule> rule)
    : form_(std::move(form)), rule_(std::move(rule)) {}

Validator::~Validator() = default;

// The validators in use, by the text of their forms. A million entries made alike have one between them, which stays in
// the processor's cache.
class Validator::InUse {
 public:
  static InUse& Get() {
    static InUse* const in_use = new InUse;  // never destroyed: entries may go after static objects do
    return *in_use;
  }

  std::shared_ptr<const Validator> Find(const std::string& text) {
    absl::MutexLock lock(&mutex_);
    auto it = by_text_.find(text);
    return it == by_text_.end() ? nullptr : it->second.lock();
  }

  // The one that is in use already, if another thread was first.
  std::shared_ptr<const Validator> Add(std::string text, std::unique_ptr<const Validator> validator) {
    std::shared_ptr<const Validator> added(validator.release(), [this, text](const Validator* gone) {
      Forget(text);
      delete gone;
    });
    absl::MutexLock lock(&mutex_);
    std::weak_ptr<const Validator>& slot = by_text_[text];
    std::shared_ptr<const Validator> first = slot.lock();
    if (first != nullptr) return first;  // `added` goes after the lock: it was made before
    slot = added;
    return added;
  }

 private:
  void Forget(const std::string& text) {
    absl::MutexLock lock(&mutex_);
    auto it = by_text_.find(text);
    if (it != by_text_.end() && it->second.expired()) by_text_.erase(it);
  }

  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, std::weak_ptr<const Validator>> by_text_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::shared_ptr<const Validator>> Validator::Parse(const Value& form) {
  if (form.depth() > kValueDepthMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("validator: ", form.depth(), " deep, at most ", kValueDepthMax, " (value_depth_max)"));
  }
  std::string text = ToEdn(form);
  if (std::shared_ptr<const Validator> known = InUse::Get().Find(text)) return known;
  int rules = 0;
  absl::StatusOr<std::unique_ptr<Rule>> rule = ParseRule(form, &rules);
  if (!rule.ok()) return rule.status();
  return InUse::Get().Add(std::move(text), std::unique_ptr<const Validator>(new Validator(form, *std::move(rule))));
}

std::optional<Rejection> Validator::Check(const Value& value) const {
  Failure failure;
  if (Satisfies(*rule_, value, &failure)) return std::nullopt;
  Rejection rejection;
  rejection.cause = RejectCause::kValidator;
  rejection.rule = failure.rule->form;
  rejection.message = absl::StrCat("validator ", Excerpt(failure.rule->form));
  if (failure.steps > 0) {
    std::vector<Value> path;
    for (size_t i = failure.steps; i > 0; --i) {
      const Failure::Step& step = failure.path[i - 1];
      path.push_back(step.key != nullptr ? *step.key : Value::Integer(static_cast<int64_t>(step.index)));
    }
    absl::StrAppend(&rejection.message, " at ", Excerpt(Value::OfVector(std::move(path))));
  }
  if (failure.missing_key != nullptr) {
    rejection.found = "absent";
    absl::StrAppend(&rejection.message, ": key ", Excerpt(*failure.missing_key), " is absent");
  } else {
    rejection.found = Excerpt(*failure.found);
    absl::StrAppend(&rejection.message, ": found ", rejection.found);
  }
  return rejection;
}

}  // namespace stm::engine
