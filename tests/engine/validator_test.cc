#include "engine/validator.h"

#include <rapidcheck.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <new>
#include <string>

#include "absl/base/config.h"
#include "engine/values/edn.h"

namespace {
std::atomic<int64_t> allocations{0};
}  // namespace

// Counts, so that a test can claim that Check does not allocate. Sanitizers keep their own operator new; the
// count stays 0 under them.
#if !defined(ABSL_HAVE_ADDRESS_SANITIZER) && !defined(ABSL_HAVE_THREAD_SANITIZER)
void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace stm::engine {
namespace {

Value Edn(std::string_view edn) {
  absl::StatusOr<Value> value = ReadEdn(edn);
  INFO(edn);
  REQUIRE(value.ok());
  return *value;
}

std::shared_ptr<const Validator> Rule(std::string_view edn) {
  absl::StatusOr<std::shared_ptr<const Validator>> validator = Validator::Parse(Edn(edn));
  INFO(edn << ": " << std::string(validator.status().message()));
  REQUIRE(validator.ok());
  return *validator;
}

TEST_CASE("validator: what each rule lets through and what not") {
  struct Case {
    const char* rule;
    std::vector<const char*> yes;
    std::vector<const char*> no;
  };
  for (const Case& c : std::vector<Case>{
           {":any", {"nil", "1", "{}", "#a/b 1"}, {}},
           {":nil", {"nil"}, {"false", "()"}},
           {":boolean", {"true", "false"}, {"nil", "0"}},
           {":int", {"1"}, {"1.0", "1N", "nil"}},
           {":double", {"1.0", "##NaN"}, {"1"}},
           {":number", {"1", "1.0", "1N", "1.0M"}, {"\"1\"", "\\1"}},
           {":bigint", {"1N"}, {"1"}},
           {":decimal", {"1M", "1.50M"}, {"1.5"}},
           {":string", {"\"\""}, {":s", "s", "\\s"}},
           {":bytes", {"#stm/bytes \"AQ==\""}, {"\"AQ==\""}},
           {":keyword", {":a"}, {"a"}},
           {":symbol", {"a"}, {":a"}},
           {":instant", {"#inst \"2026-01-01T00:00:00Z\""}, {"\"2026\""}},
           {":uuid", {"#uuid \"00000000-0000-0001-0000-000000000002\""}, {"1"}},
           {":list", {"()", "(1)"}, {"[]"}},
           {":vector", {"[]"}, {"()", "#{}"}},
           {":map", {"{}"}, {"#{}", "#a/b {}"}},
           {":set", {"#{}"}, {"{}", "[]"}},
           {":char", {"\\a"}, {"\"a\""}},
           {"[:min 0]", {"0", "5"}, {"-1", "0.0", "0N", "nil"}},
           {"[:max 5]", {"5", "-9"}, {"6", "\"1\""}},
           {"[:min 0.5]", {"0.5", "##Inf"}, {"0.4", "1", "##NaN"}},
           {"[:max 0.5]", {"0.5", "##-Inf"}, {"0.6", "##NaN"}},
           {"[:min \"b\"]", {"\"b\"", "\"ba\"", "\"é\""}, {"\"a\"", "\"\"", ":b"}},
           {"[:max #inst \"2026-01-01T00:00:00Z\"]",
            {"#inst \"2026-01-01T00:00:00Z\""},
            {"#inst \"2026-01-01T00:00:00.000000001Z\"", "0"}},
           {"[:min -12345678901234567890N]",
            {"-12345678901234567890N", "0N", "5N"},
            {"-12345678901234567891N", "-99999999999999999999999N", "1"}},
           {"[:max 100N]", {"99N", "100N", "-5N"}, {"101N", "1000N"}},
           {"[:min 0M]", {"0M", "0.00M", "-0.0M", "0.01M"}, {"-0.01M", "1"}},
           {"[:max 1.5M]", {"1.5M", "1.50M", "1.49M", "-9M"}, {"1.51M", "1.501M", "10M"}},
           {"[:max 2E3M]",
            {"2000M", "2E+3M", "0.2E4M", "1999.9M", "-1E9M", "1E-9M"},
            {"2000.1M", "1E4M", "20E2000M"}},
           {"[:min -2E-3M]", {"-0.002M", "0E9M", "-1E-9M"}, {"-0.0021M", "-1M", "-1E5M"}},
           {"[:size 2]",
            {"[1 2]", "(1 2)", "#{1 2}", "{1 1 2 2}", "\"ab\"", "\"日本\"", "#stm/bytes \"AQI=\""},
            {"[1]", "[1 2 3]", "\"a\"", "nil", "2"}},
           {"[:size 0 1]", {"[]", "[1]", "\"\""}, {"[1 2]", "\"ab\""}},
           {"[:regex \"a+\"]", {"\"a\"", "\"aaa\""}, {"\"ba\"", "\"ab\"", "\"\"", ":a"}},
           {"[:regex \"\"]", {"\"\""}, {"\"a\""}},
           {"[:regex \"(a|ab)(c|bcd)\"]", {"\"abcd\"", "\"ac\""}, {"\"abcde\""}},
           {"[:regex \"\\\\p{L}+\"]", {"\"日本é\""}, {"\"1\""}},
           {"[:one-of 1 \"a\" [2] nil]", {"1", "\"a\"", "[2]", "nil"}, {"1.0", "2", "(2)"}},
           {"[:one-of ##NaN]", {"##NaN"}, {"0.0"}},
           {"[:keys {:a :int}]", {"{:a 1}", "{:a 1 :b 2}"}, {"{}", "{:a nil}", "{\"a\" 1}", "[]"}},
           {"[:keys {:a :int [:optional :b] :string}]",
            {"{:a 1}", "{:a 1 :b \"x\"}"},
            {"{:a 1 :b 2}", "{:b \"x\"}"}},
           {"[:keys {}]", {"{}", "{1 2}"}, {"[]"}},
           {"[:keys {[1 2] :int}]", {"{[1 2] 3}"}, {"{}"}},
           {"[:every :int]",
            {"[]", "[1 2]", "(1)", "#{1}", "{:a 1}"},
            {"[1 nil]", "(:a)", "#{1 :a}", "{:a :b}", "\"a\"", "nil"}},
           {"[:tag blog.User [:keys {:name :string}]]",
            {"#blog.User{:name \"Bob\"}"},
            {"{:name \"Bob\"}", "#blog.Use{:name \"Bob\"}", "#blog.User{}"}},
           {"[:and :int [:min 0]]", {"0"}, {"-1", "1.0"}},
           {"[:or :nil [:and :int [:min 0]]]", {"nil", "3"}, {"-1", "\"\""}},
           {"[:not :nil]", {"1", "[]"}, {"nil"}},
           {"[:not [:not :nil]]", {"nil"}, {"1"}},
       }) {
    std::shared_ptr<const Validator> validator = Rule(c.rule);
    CHECK(validator->form() == Edn(c.rule));
    for (const char* value : c.yes) {
      INFO(c.rule << " of " << value);
      CHECK_FALSE(validator->Check(Edn(value)).has_value());
    }
    for (const char* value : c.no) {
      INFO(c.rule << " of " << value);
      CHECK(validator->Check(Edn(value)).has_value());
    }
  }
}

TEST_CASE("validator: a refusal names the innermost rule, the place and what was found") {
  struct Case {
    const char* rule;
    const char* value;
    const char* said_no;
    const char* found;
    const char* message;
  };
  for (const Case& c : std::vector<Case>{
           {"[:and :int [:min 0]]", "-1", "[:min 0]", "-1", "validator [:min 0]: found -1"},
           {"[:and :int [:min 0]]", "\"x\"", ":int", "\"x\"", "validator :int: found \"x\""},
           {"[:keys {:a [:every [:keys {:n :int}]]}]", "{:a [{:n 1} {:n nil}]}", ":int", "nil",
            "validator :int at [:a 1 :n]: found nil"},
           {"[:keys {:a [:keys {:b :int}]}]", "{:a {}}", "[:keys {:b :int}]", "absent",
            "validator [:keys {:b :int}] at [:a]: key :b is absent"},
           {"[:every [:or :int [:every :int]]]", "[1 [2 :x]]", "[:or :int [:every :int]]", "[2 :x]",
            "validator [:or :int [:every :int]] at [1]: found [2 :x]"},
           {"[:every :int]", "{:k :v}", ":int", ":v", "validator :int at [:k]: found :v"},
           {"[:every :int]", "#{:v}", ":int", ":v", "validator :int at [:v]: found :v"},
           {"[:not [:keys {:a :int}]]", "{:a 1}", "[:not [:keys {:a :int}]]", "{:a 1}",
            "validator [:not [:keys {:a :int}]]: found {:a 1}"},
           {"[:or [:keys {:a :int}] :nil]", "{}", "[:or [:keys {:a :int}] :nil]", "{}",
            "validator [:or [:keys {:a :int}] :nil]: found {}"},
           {"[:tag a/b :int]", "#a/b :x", ":int", ":x", "validator :int: found :x"},
       }) {
    INFO(c.rule << " of " << c.value);
    std::optional<Rejection> rejection = Rule(c.rule)->Check(Edn(c.value));
    REQUIRE(rejection.has_value());
    CHECK(rejection->cause == RejectCause::kValidator);
    CHECK(rejection->rule == Edn(c.said_no));
    CHECK(rejection->found == c.found);
    CHECK(rejection->message == c.message);
  }
}

TEST_CASE("validator: an unknown rule is UNIMPLEMENTED, wherever it stands") {
  for (const char* rule : {":integer", ":tagged", "[:even]", "[:and :int [:prime]]", "[:keys {:a :whole}]",
                           "[:every [:future 1]]", "[:not :no-such]"}) {
    INFO(rule);
    absl::Status status = Validator::Parse(Edn(rule)).status();
    CHECK(status.code() == absl::StatusCode::kUnimplemented);
  }
  CHECK_THAT(std::string(Validator::Parse(Edn("[:and :int [:prime 7]]")).status().message()),
             Catch::Contains("[:prime 7]"));
}

TEST_CASE("validator: bad arguments are INVALID_ARGUMENT and name the rule") {
  for (const char* rule : {"nil",
                           "1",
                           "\"int\"",
                           "int",
                           "[]",
                           "[1]",
                           "[[:min 0]]",
                           "(:min 0)",
                           "{:a 1}",
                           "[:min]",
                           "[:min 0 1]",
                           "[:max :k]",
                           "[:min [0]]",
                           "[:min ##NaN]",
                           "[:size]",
                           "[:size -1]",
                           "[:size 2 1]",
                           "[:size 1 2 3]",
                           "[:size 1.0]",
                           "[:regex]",
                           "[:regex 1]",
                           "[:regex \"(\"]",
                           "[:regex \"a\" \"b\"]",
                           "[:one-of]",
                           "[:keys]",
                           "[:keys [:a]]",
                           "[:keys {:a 1}]",
                           "[:keys {[:optional] :int}]",
                           "[:keys {[:optional :a :b] :int}]",
                           "[:keys {:a :int [:optional :a] :int}]",
                           "[:every]",
                           "[:every :int :int]",
                           "[:tag a/b]",
                           "[:tag :a :int]",
                           "[:tag a/b :int :int]",
                           "[:and]",
                           "[:or]",
                           "[:not]",
                           "[:not :int :int]",
                           "[:and nil]"}) {
    INFO(rule);
    absl::Status status = Validator::Parse(Edn(rule)).status();
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK_THAT(std::string(status.message()), Catch::StartsWith("validator "));
  }
  CHECK_THAT(std::string(Validator::Parse(Edn("[:and :int [:regex \"a(\"]]")).status().message()),
             Catch::Contains("[:regex \"a(\"]"));
}

TEST_CASE("validator: bounds are exact and named") {
  auto many = [](int rules) {
    std::vector<Value> form = {Value::Keyword("and")};
    for (int i = 1; i < rules; ++i) form.push_back(Value::Keyword("int"));
    return Value::OfVector(std::move(form));
  };
  CHECK(Validator::Parse(many(kValidatorRulesMax)).ok());
  absl::Status status = Validator::Parse(many(kValidatorRulesMax + 1)).status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(std::string(status.message()), Catch::Contains("validator_rules_max"));

  Value deep = Value::Keyword("int");
  while (deep.depth() < kValueDepthMax)
    deep = Value::OfVector(std::vector<Value>{Value::Keyword("every"), deep});
  absl::StatusOr<std::shared_ptr<const Validator>> validator = Validator::Parse(deep);
  REQUIRE(validator.ok());
  Value value = Value::Keyword("not-an-int");
  for (int i = 1; i < kValueDepthMax; ++i) value = Value::OfVector(std::vector<Value>{value});
  CHECK((*validator)->Check(value).has_value());
  deep = Value::OfVector(std::vector<Value>{Value::Keyword("every"), deep});
  CHECK(Validator::Parse(deep).status().code() == absl::StatusCode::kInvalidArgument);

  status = Validator::Parse(Edn("[:regex \"((a{100}){100}){100}\"]")).status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("validator: a hard expression on a long string stays linear and right") {
  std::shared_ptr<const Validator> validator = Rule("[:regex \"(a|aa|aaa)*b?(.*x){5}\"]");
  CHECK(validator->Check(Value::String(std::string(100000, 'a'))).has_value());
  CHECK_FALSE(validator->Check(Value::String(std::string(100000, 'a') + "xxxxx")).has_value());
}

TEST_CASE("validator: a check that is satisfied does not allocate") {
  std::shared_ptr<const Validator> validator = Rule(
      "[:and :map [:keys {:n [:or :nil [:and :int [:min 0] [:max 10]]] :s [:and [:size 1 9] [:regex "
      "\"[a-z]+\"]]"
      " :v [:every [:one-of 1 2 3]] :m [:every :string] :t [:tag a/b [:not :nil]] :e [:every :int]"
      " :d [:min 1.5M]}]]");
  Value value = Edn("{:n 3 :s \"abc\" :v [1 2 3] :m {:a \"x\"} :t #a/b 1 :e #{1 2} :d 2.5M}");
  REQUIRE_FALSE(validator->Check(value).has_value());  // RE2 fills its cache
#if !defined(ABSL_HAVE_ADDRESS_SANITIZER) && !defined(ABSL_HAVE_THREAD_SANITIZER)
  REQUIRE(allocations.load() > 0);
#endif
  int64_t before = allocations.load();
  for (int i = 0; i < 100; ++i) {
    if (validator->Check(value).has_value()) FAIL("refused");
  }
  CHECK(allocations.load() == before);
}

TEST_CASE("validator: and, or and not agree with logic") {
  const std::vector<const char*> rules = {":int",      ":string",           "[:min 0]",
                                          "[:size 1]", "[:one-of 1 \"a\"]", ":any"};
  const std::vector<const char*> values = {"1", "-1", "0", "\"a\"", "\"\"", "nil", "[1]", "2.0"};
  for (const char* a : rules) {
    for (const char* b : rules) {
      std::string pair = std::string(a) + " " + b;
      for (const char* text : values) {
        INFO(pair << " of " << text);
        Value value = Edn(text);
        bool in_a = !Rule(a)->Check(value);
        bool in_b = !Rule(b)->Check(value);
        CHECK(!Rule("[:and " + pair + "]")->Check(value) == (in_a && in_b));
        CHECK(!Rule("[:or " + pair + "]")->Check(value) == (in_a || in_b));
        CHECK(!Rule("[:not [:or " + pair + "]]")->Check(value) == !(in_a || in_b));
      }
    }
  }
}

TEST_CASE("validator: bounds of bigints and decimals follow their amount") {
  CHECK(rc::check([] {
    int64_t a = *rc::gen::inRange<int64_t>(-20000, 20000);
    int64_t b = *rc::gen::inRange<int64_t>(-20000, 20000);
    // Amounts in hundredths, printed with two digits or, where it is the same amount, fewer.
    auto decimal = [](int64_t hundredths, bool shorten) {
      std::string digits = std::to_string(std::abs(hundredths));
      while (digits.size() < 3) digits.insert(0, "0");
      digits.insert(digits.size() - 2, ".");
      if (shorten) {
        while (digits.back() == '0') digits.pop_back();
        if (digits.back() == '.') digits.pop_back();
      }
      return Value::Decimal((hundredths < 0 ? "-" : "") + digits);
    };
    auto bound = [](const char* rule, const Value& value) {
      auto validator = Validator::Parse(Value::OfVector(std::vector<Value>{Value::Keyword(rule), value}));
      RC_ASSERT(validator.ok());
      return *validator;
    };
    Value da = decimal(a, *rc::gen::arbitrary<bool>());
    Value db = decimal(b, *rc::gen::arbitrary<bool>());
    RC_ASSERT(!bound("min", da)->Check(db) == (b >= a));
    RC_ASSERT(!bound("max", da)->Check(db) == (b <= a));
    Value ba = Value::BigInt(std::to_string(a));
    Value bb = Value::BigInt(std::to_string(b));
    RC_ASSERT(!bound("min", ba)->Check(bb) == (b >= a));
    RC_ASSERT(!bound("max", ba)->Check(bb) == (b <= a));
  }));
}

}  // namespace
}  // namespace stm::engine
