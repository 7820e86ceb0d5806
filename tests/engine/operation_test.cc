#include "engine/operation.h"

#include <rapidcheck.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>

#include "engine/values/edn.h"
#include "engine/values/wire.h"
#include "stm/v1/common.pb.h"

namespace stm::engine {
namespace {

using Verb = Operation::Verb;

Value V(std::string_view edn) {
  absl::StatusOr<Value> value = ReadEdn(edn);
  INFO(edn);
  REQUIRE(value.ok());
  return *value;
}

Operation Op(std::string_view edn) {
  absl::StatusOr<Operation> operation = OperationFromEdnForm(V(edn));
  INFO(edn << ": " << std::string(operation.status().message()));
  REQUIRE(operation.ok());
  return *operation;
}

// "-" is absent.
std::optional<Value> Before(const char* edn) {
  if (std::string_view(edn) == "-") return std::nullopt;
  return V(edn);
}

Applied Made(const Operation& operation, const std::optional<Value>& before) {
  std::variant<Applied, Rejection> outcome = Apply(operation, before);
  if (const Rejection* rejection = std::get_if<Rejection>(&outcome)) INFO(rejection->message);
  REQUIRE(std::holds_alternative<Applied>(outcome));
  return std::get<Applied>(outcome);
}

Rejection Refused(const Operation& operation, const std::optional<Value>& before) {
  std::variant<Applied, Rejection> outcome = Apply(operation, before);
  if (const Applied* applied = std::get_if<Applied>(&outcome)) INFO("became " << applied->value);
  REQUIRE(std::holds_alternative<Rejection>(outcome));
  return std::get<Rejection>(outcome);
}

// --- Generators ---

rc::Gen<Value> Scalars() {
  return rc::gen::oneOf(
      rc::gen::map(rc::gen::arbitrary<int64_t>(), [](int64_t i) { return Value::Integer(i); }),
      rc::gen::map(rc::gen::inRange<int64_t>(-3, 4), [](int64_t i) { return Value::Integer(i); }),
      rc::gen::map(rc::gen::arbitrary<double>(), [](double d) { return Value::Double(d); }),
      rc::gen::map(rc::gen::arbitrary<bool>(), [](bool b) { return Value::Boolean(b); }),
      rc::gen::map(rc::gen::container<std::string>(rc::gen::inRange(' ', '~')),
                   [](const std::string& s) { return Value::String(s); }),
      rc::gen::map(rc::gen::container<std::string>(rc::gen::arbitrary<char>()),
                   [](const std::string& s) { return Value::Bytes(s); }),
      rc::gen::element(Value(), Value::Keyword("a"), Value::Keyword("n/b"), Value::Symbol("s"),
                       Value::BigInt("12345678901234567890"), Value::Decimal("1.50"), Value::Character(U'x'),
                       Value::OfInstant({1, 5}), Value::OfUuid({1, 2}), Value::Double(std::nan(""))));
}

rc::Gen<Value> Values(int depth) {
  if (depth <= 1) return Scalars();
  auto items = [depth] {
    return rc::gen::resize(
        4, rc::gen::container<std::vector<Value>>(rc::gen::lazy([depth] { return Values(depth - 1); })));
  };
  auto map_of = [](const std::vector<Value>& v) {
    std::vector<std::pair<Value, Value>> entries;
    for (size_t i = 0; i + 1 < v.size(); i += 2) entries.emplace_back(v[i], v[i + 1]);
    return Map(std::move(entries));
  };
  return rc::gen::weightedOneOf<Value>(
      {{3, Scalars()},
       {1, rc::gen::map(items(), [](std::vector<Value> v) { return Value::OfVector(std::move(v)); })},
       {1, rc::gen::map(items(), [](std::vector<Value> v) { return Value::List(std::move(v)); })},
       {1, rc::gen::map(items(), [](const std::vector<Value>& v) { return Value::OfSet(Set(v)); })},
       {1, rc::gen::map(items(), [map_of](const std::vector<Value>& v) { return Value::OfMap(map_of(v)); })},
       {1, rc::gen::map(Values(depth - 1), [](const Value& v) { return Value::Tagged("my.Tag", v); })}});
}

std::vector<Value> ManyValues() {
  return *rc::gen::resize(5, rc::gen::container<std::vector<Value>>(Values(3)));
}

Map AnyMap() {
  std::vector<Value> v = ManyValues();
  std::vector<std::pair<Value, Value>> entries;
  for (const Value& key : v) entries.emplace_back(key, *Values(2));
  return Map(std::move(entries));
}

Operation AnyOperation() {
  Operation operation;
  operation.verb = static_cast<Verb>(*rc::gen::inRange(0, static_cast<int>(Verb::kCompareAndSet) + 1));
  if (*rc::gen::arbitrary<bool>()) operation.path = ManyValues();
  switch (operation.verb) {
    case Verb::kSet:
      operation.argument = *Values(4);
      break;
    case Verb::kAdd:
    case Verb::kMin:
    case Verb::kMax:
      operation.argument =
          *rc::gen::element(Value::Integer(-7), Value::Double(0.5), Value::Double(std::nan("")));
      break;
    case Verb::kAppend:
      operation.argument = *rc::gen::element(Value::String("x"), Value::Bytes("y"), V("[1 2]"), V("(1 [2])"));
      break;
    case Verb::kConj:
    case Verb::kDisj:
    case Verb::kDissoc:
      operation.arguments = ManyValues();
      break;
    case Verb::kPop:
    case Verb::kShift:
      operation.count = *rc::gen::inRange<uint32_t>(1, 4);
      break;
    case Verb::kAssoc:
      operation.entries = AnyMap();
      break;
    case Verb::kToggle:
      break;
    case Verb::kCompareAndSet:
      if (*rc::gen::arbitrary<bool>()) operation.expected = *Values(3);
      operation.argument = *Values(3);
      break;
  }
  return operation;
}

bool Same(const Operation& a, const Operation& b) {
  return a.verb == b.verb && a.path == b.path && a.argument == b.argument && a.arguments == b.arguments &&
         a.entries == b.entries && a.count == b.count && a.expected == b.expected;
}

// --- Forms ---

TEST_CASE("operation: the EDN form reads back as the same operation, through text too") {
  CHECK(rc::check([] {
    Operation operation = AnyOperation();
    Value form = ToEdnForm(operation);
    absl::StatusOr<Operation> again = OperationFromEdnForm(form);
    RC_ASSERT(again.ok());
    RC_ASSERT(Same(*again, operation));
    absl::StatusOr<Value> text = ReadEdn(ToEdn(form));
    RC_ASSERT(text.ok());
    RC_ASSERT(*text == form);
    RC_ASSERT(ToEdnForm(*again) == form);
  }));
}

TEST_CASE("operation: the message reads back as the same operation") {
  CHECK(rc::check([] {
    Operation operation = AnyOperation();
    v1::Operation message;
    ToProto(operation, &message);
    v1::Operation wire;
    RC_ASSERT(wire.ParseFromString(message.SerializeAsString()));
    absl::StatusOr<Operation> again = FromProto(wire);
    RC_ASSERT(again.ok());
    RC_ASSERT(Same(*again, operation));
  }));
}

TEST_CASE("operation: forms are as documented") {
  for (const char* form : {"(set 1)",
                           "(set nil)",
                           "(add 2)",
                           "(add 0.5)",
                           "(min 3)",
                           "(max \"z\")",
                           "(append [1 2])",
                           "(append \"x\")",
                           "(conj 1 2)",
                           "(conj)",
                           "(disj 1)",
                           "(pop)",
                           "(pop 2)",
                           "(shift)",
                           "(shift 3)",
                           "(assoc :k 1 :j 2)",
                           "(assoc)",
                           "(dissoc :k)",
                           "(toggle)",
                           "(cas 1 2)",
                           "(cas nil nil)",
                           "(cas-absent 2)",
                           "(at [:a 0] (add 1))"}) {
    CHECK(ToEdn(ToEdnForm(Op(form))) == form);
  }
  CHECK(ToEdn(ToEdnForm(Op("(at [] (add 1))"))) == "(add 1)");
  CHECK(ToEdn(ToEdnForm(Op("(pop 1)"))) == "(pop)");
}

TEST_CASE("operation: an unknown name is UNIMPLEMENTED, wrong arguments are INVALID_ARGUMENT") {
  for (const char* form : {"(merge {:a 1})", "(increment)", "(at [:a] (frobnicate))"}) {
    INFO(form);
    CHECK(OperationFromEdnForm(V(form)).status().code() == absl::StatusCode::kUnimplemented);
  }
  for (const char* form : {"1",
                           "[add 1]",
                           "()",
                           "(:add 1)",
                           "(add)",
                           "(add 1 2)",
                           "(add \"x\")",
                           "(add nil)",
                           "(min [1])",
                           "(max :k)",
                           "(append 1)",
                           "(append #{1})",
                           "(set)",
                           "(pop 0)",
                           "(pop -1)",
                           "(pop 4294967296)",
                           "(pop 1.0)",
                           "(pop 1 2)",
                           "(assoc :k)",
                           "(assoc :k 1 :k 2)",
                           "(toggle true)",
                           "(cas 1)",
                           "(cas-absent 1 2)",
                           "(at [:a])",
                           "(at :a (add 1))",
                           "(at [:a] 1)",
                           "(at [:a] (at [:b] (add 1)))",
                           "(at [:a] (add))"}) {
    INFO(form);
    CHECK(OperationFromEdnForm(V(form)).status().code() == absl::StatusCode::kInvalidArgument);
  }
  absl::Status status = OperationFromEdnForm(V("(add \"x\")")).status();
  CHECK(std::string(status.message()) == "add: found a string, expected an integer or double to add");
}

TEST_CASE("operation: a path that could only end too deep is refused with the bound") {
  Operation operation = Op("(set 1)");
  operation.path.assign(kPathItemsMax, Value::Keyword("a"));
  CHECK(OperationFromEdnForm(ToEdnForm(operation)).ok());
  CHECK(Made(operation, V("{}")).value.depth() == kValueDepthMax);
  operation.path.push_back(Value::Keyword("a"));
  CHECK(OperationFromEdnForm(ToEdnForm(operation)).status().code() == absl::StatusCode::kInvalidArgument);
  v1::Operation message;
  ToProto(operation, &message);
  absl::Status status = FromProto(message).status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(std::string(status.message()), Catch::Contains("value_depth_max"));
  CHECK(Refused(operation, V("{}")).cause == RejectCause::kType);
}

TEST_CASE("operation: a message from a newer client is UNIMPLEMENTED, an empty one INVALID_ARGUMENT") {
  v1::Operation message;
  CHECK(FromProto(message).status().code() == absl::StatusCode::kInvalidArgument);
  // Field 99, length-delimited: a verb of the future, alone and beside a known one.
  REQUIRE(message.ParseFromString(std::string("\x9A\x06\x01x", 4)));
  CHECK(FromProto(message).status().code() == absl::StatusCode::kUnimplemented);
  message.mutable_add()->set_integer(1);
  CHECK(FromProto(message).status().code() == absl::StatusCode::kUnimplemented);
  message.Clear();
  message.mutable_compare_and_set()->mutable_value()->set_integer(1);
  CHECK(FromProto(message).ok());
  REQUIRE(message.mutable_compare_and_set()->MergeFromString(std::string("\x9A\x06\x01x", 4)));
  CHECK(FromProto(message).status().code() == absl::StatusCode::kUnimplemented);
}

TEST_CASE("operation: a bad message is refused with the field at fault") {
  auto fault = [](const v1::Operation& message) {
    absl::Status status = FromProto(message).status();
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  v1::Operation message;
  message.mutable_set();
  CHECK_THAT(fault(message), Catch::StartsWith("set: "));
  message.mutable_conj()->add_items()->set_integer(1);
  message.mutable_conj()->add_items()->set_bigint("x");
  CHECK_THAT(fault(message), Catch::StartsWith("conj.items[1]: "));
  message.set_toggle(false);
  CHECK_THAT(fault(message), Catch::StartsWith("toggle: "));
  message.mutable_compare_and_set();
  CHECK_THAT(fault(message), Catch::StartsWith("compare_and_set.value: "));
  message.mutable_compare_and_set()->mutable_value()->set_nil(true);
  message.mutable_compare_and_set()->mutable_expected()->set_edn("[1");
  CHECK_THAT(fault(message), Catch::StartsWith("compare_and_set.expected: "));
  for (int i = 0; i < 2; ++i) {
    v1::MapEntry* entry = message.mutable_assoc()->add_entries();
    entry->mutable_key()->set_edn(":k");
    entry->mutable_value()->set_integer(i);
  }
  CHECK_THAT(fault(message), Catch::Contains("two keys are equal"));
  message.mutable_assoc()->mutable_entries(1)->clear_key();
  CHECK_THAT(fault(message), Catch::StartsWith("assoc.entries[1].key: "));
  message.set_pop(1);
  message.add_path();
  CHECK_THAT(fault(message), Catch::StartsWith("path[0]: "));
  message.Clear();
  message.mutable_add()->set_text("1");
  CHECK_THAT(fault(message), Catch::StartsWith("add: found a string"));
}

TEST_CASE("operation: zero counts mean one, an expected value without a kind means absent") {
  v1::Operation message;
  message.set_pop(0);
  REQUIRE(FromProto(message).ok());
  CHECK(FromProto(message)->count == 1);
  message.mutable_compare_and_set()->mutable_value()->set_integer(1);
  message.mutable_compare_and_set()->mutable_expected();
  REQUIRE(FromProto(message).ok());
  CHECK_FALSE(FromProto(message)->expected.has_value());
  message.mutable_compare_and_set()->mutable_expected()->set_nil(true);
  CHECK(FromProto(message)->expected == Value());
}

// --- Applying ---

TEST_CASE("operation: apply, by table") {
  struct Case {
    const char* before;
    const char* operation;
    const char* after;
  };
  for (const Case& c : std::vector<Case>{
           {"-", "(set 1)", "1"},
           {"[1]", "(set nil)", "nil"},
           {"1", "(add 2)", "3"},
           {"1", "(add -2)", "-1"},
           {"1.5", "(add 0.25)", "1.75"},
           {"1.5", "(add 1)", "2.5"},
           {"9223372036854775806", "(add 1)", "9223372036854775807"},
           {"-9223372036854775807", "(add -1)", "-9223372036854775808"},
           {"3", "(min 1)", "1"},
           {"3", "(min 5)", "3"},
           {"3", "(max 5)", "5"},
           {"1.0", "(max 2.5)", "2.5"},
           {"0.0", "(min -0.0)", "-0.0"},
           {"-0.0", "(max 0.0)", "0.0"},
           {"-0.0", "(min 0.0)", "-0.0"},
           {"1.0", "(min ##NaN)", "##NaN"},
           {"##NaN", "(min 1.0)", "##NaN"},
           {"1.0", "(max ##NaN)", "##NaN"},
           {"##NaN", "(max 1.0)", "##NaN"},
           {"\"b\"", "(min \"a\")", "\"a\""},
           {"\"z\"", "(max \"é\")", "\"é\""},
           {"#inst \"2026-01-01T00:00:00Z\"", "(max #inst \"2026-01-02T00:00:00Z\")",
            "#inst \"2026-01-02T00:00:00Z\""},
           {"[1]", "(append [2 3])", "[1 2 3]"},
           {"[1]", "(append (2 3))", "[1 2 3]"},
           {"(1)", "(append [2 3])", "(1 2 3)"},
           {"[]", "(append [])", "[]"},
           {"\"a\"", "(append \"b\")", "\"ab\""},
           {"#stm/bytes \"AQ==\"", "(append #stm/bytes \"Ag==\")", "#stm/bytes \"AQI=\""},
           {"[1]", "(conj 2 3)", "[1 2 3]"},
           {"[1]", "(conj 2)", "[1 2]"},
           {"[1]", "(conj)", "[1]"},
           {"(1)", "(conj 2 3)", "(3 2 1)"},
           {"#{1}", "(conj 2 1)", "#{1 2}"},
           {"{:a 1}", "(conj [:b 2] [:a 3])", "{:a 3 :b 2}"},
           {"#{1 2}", "(disj 1 9)", "#{2}"},
           {"{:a 1 :b 2}", "(dissoc :a :z)", "{:b 2}"},
           {"{:a 1}", "(assoc :b 2 :a nil)", "{:a nil :b 2}"},
           {"[1 2]", "(assoc 0 :x 2 :y)", "[:x 2 :y]"},
           {"[]", "(assoc 1 :b 0 :a)", "[:a :b]"},
           {"true", "(toggle)", "false"},
           {"1", "(cas 1 2)", "2"},
           {"{:a 1 :b 2}", "(cas {:b 2 :a 1} 3)", "3"},
           {"nil", "(cas nil 2)", "2"},
           {"##NaN", "(cas ##NaN 2)", "2"},
           {"-", "(cas-absent 2)", "2"},
           {"{:a [1 2]}", "(at [:a 1] (add 5))", "{:a [1 7]}"},
           {"{:a 1}", "(at [:b :c] (set 5))", "{:a 1 :b {:c 5}}"},
           {"{}", "(at [:a 0] (set 5))", "{:a {0 5}}"},
           {"{}", "(at [:a] (assoc :k 1))", "{:a {:k 1}}"},
           {"{}", "(at [:a :b] (conj 1 2))", "{:a {:b [1 2]}}"},
           {"{}", "(at [:a] (cas-absent 1))", "{:a 1}"},
           {"-", "(at [:a :b] (set 1))", "{:a {:b 1}}"},
           {"-", "(at [:a] (cas-absent 1))", "{:a 1}"},
           {"{:a nil}", "(at [:a] (set 1))", "{:a 1}"},
           {"{nil 1}", "(at [nil] (add 1))", "{nil 2}"},
           {"{:a {:b 1 :c 2}}", "(at [:a] (dissoc :b))", "{:a {:c 2}}"},
           {"{:a {:b true}}", "(at [:a :b] (toggle))", "{:a {:b false}}"},
       }) {
    INFO(c.before << " " << c.operation);
    Applied applied = Made(Op(c.operation), Before(c.before));
    CHECK(applied.value == V(c.after));
    CHECK(applied.result == applied.value);
  }
}

TEST_CASE("operation: pop and shift give what they removed, in order") {
  struct Case {
    const char* before;
    const char* operation;
    const char* after;
    const char* removed;
  };
  for (const Case& c : std::vector<Case>{
           {"[1 2 3]", "(pop)", "[1 2]", "3"},
           {"[1 2 3]", "(pop 2)", "[1]", "[2 3]"},
           {"[1 2 3]", "(shift)", "[2 3]", "1"},
           {"[1 2 3]", "(shift 2)", "[3]", "[1 2]"},
           {"[1 2 3]", "(shift 3)", "[]", "[1 2 3]"},
           {"(1 2 3)", "(pop)", "(2 3)", "1"},
           {"(1 2 3)", "(pop 2)", "(3)", "[1 2]"},
           {"(1 2 3)", "(shift 2)", "(3)", "[1 2]"},
           {"[[1]]", "(pop)", "[]", "[1]"},
           {"[nil]", "(pop)", "[]", "nil"},
           {"{:q [1 2]}", "(at [:q] (shift))", "{:q [2]}", "1"},
       }) {
    INFO(c.before << " " << c.operation);
    Applied applied = Made(Op(c.operation), V(c.before));
    CHECK(applied.value == V(c.after));
    CHECK(applied.result == V(c.removed));
  }
}

TEST_CASE("operation: refusals say operation, place and what was found") {
  struct Case {
    const char* before;
    const char* operation;
    RejectCause cause;
    const char* found;
    const char* message;
  };
  constexpr RejectCause kType = RejectCause::kType;
  constexpr RejectCause kAbsent = RejectCause::kAbsent;
  constexpr RejectCause kCompare = RejectCause::kCompare;
  constexpr RejectCause kOverflow = RejectCause::kOverflow;
  for (const Case& c : std::vector<Case>{
           {"\"x\"", "(add 1)", kType, "string", "add: found a string, expected an integer or double"},
           {"1", "(add 0.5)", kType, "integer", "add: found an integer, expected a double, to add a double"},
           {"1N", "(add 1)", kType, "bigint", "add: found a bigint, expected an integer or double"},
           {"nil", "(add 1)", kType, "nil", "add: found nil, expected an integer or double"},
           {"9223372036854775807", "(add 1)", kOverflow, "9223372036854775807",
            "add: 9223372036854775807 + 1 is past 64 bits"},
           {"-9223372036854775808", "(add -1)", kOverflow, "-9223372036854775808",
            "add: -9223372036854775808 + -1 is past 64 bits"},
           {"{:a {:b 9223372036854775807}}", "(at [:a :b] (add 1))", kOverflow, "9223372036854775807",
            "add at [:a :b]: 9223372036854775807 + 1 is past 64 bits"},
           {"1", "(min 1.0)", kType, "integer",
            "min: found an integer, expected a double, as the argument is"},
           {"1.0", "(max 1)", kType, "double",
            "max: found a double, expected an integer, as the argument is"},
           {"[1]", "(append \"x\")", kType, "vector",
            "append: found a vector, expected a string, as the argument is"},
           {"\"x\"", "(append [1])", kType, "string",
            "append: found a string, expected a list or vector, to append a list or vector"},
           {"\"x\"", "(append #stm/bytes \"AQ==\")", kType, "string",
            "append: found a string, expected bytes, as the argument is"},
           {"1", "(conj 1)", kType, "integer", "conj: found an integer, expected a list, vector, set or map"},
           {"nil", "(conj 1)", kType, "nil", "conj: found nil, expected a list, vector, set or map"},
           {"{}", "(conj 1)", kType, "integer",
            "conj: found an integer, expected a [key value] vector for a map"},
           {"{}", "(conj [1])", kType, "a vector of 1",
            "conj: found a vector of 1, expected a [key value] vector for a map"},
           {"#stm/bytes \"AQ==\"", "(add 1)", kType, "bytes",
            "add: found bytes, expected an integer or double"},
           {"[1]", "(disj 1)", kType, "vector", "disj: found a vector, expected a set"},
           {"#{1}", "(dissoc 1)", kType, "set", "dissoc: found a set, expected a map"},
           {"#{1}", "(pop)", kType, "set", "pop: found a set, expected a list or vector"},
           {"[1 2]", "(pop 3)", kAbsent, "vector of 2", "pop 3 of a vector of 2"},
           {"()", "(shift)", kAbsent, "list of 0", "shift 1 of a list of 0"},
           {"{:q []}", "(at [:q] (shift))", kAbsent, "vector of 0", "shift 1 of a vector of 0 at [:q]"},
           {"(1)", "(assoc 0 1)", kType, "list", "assoc: found a list, expected a map or vector"},
           {"[1]", "(assoc :k 1)", kType, "keyword",
            "assoc: found a keyword, expected an integer as index of a vector"},
           {"[1]", "(assoc 2 :x)", kAbsent, "vector of 1",
            "assoc: index 2 of a vector of 1, expected 0 to 1"},
           {"[1]", "(assoc -1 :x)", kAbsent, "vector of 1",
            "assoc: index -1 of a vector of 1, expected 0 to 1"},
           {"0", "(toggle)", kType, "integer", "toggle: found an integer, expected a boolean"},
           {"3", "(cas 2 4)", kCompare, "3", "cas: found 3, expected 2"},
           {"2.0", "(cas 2 4)", kCompare, "2.0", "cas: found 2.0, expected 2"},
           {"3", "(cas-absent 4)", kCompare, "3", "cas-absent: found 3, expected absent"},
           {"nil", "(cas-absent 4)", kCompare, "nil", "cas-absent: found nil, expected absent"},
           {"{:a nil}", "(at [:a] (cas-absent 4))", kCompare, "nil",
            "cas-absent at [:a]: found nil, expected absent"},
           {"-", "(add 1)", kAbsent, "absent", "add: the entry is absent: create it first"},
           {"-", "(cas 1 2)", kAbsent, "absent", "cas: the entry is absent: create it first"},
           {"-", "(at [:a] (conj 1))", kAbsent, "absent",
            "conj at [:a]: the entry is absent: create it first"},
           {"-", "(assoc :k 1)", kAbsent, "absent", "assoc: the entry is absent: create it first"},
           {"{:a {}}", "(at [:a :b :c] (add 1))", kAbsent, "absent",
            "add at [:a :b :c]: nothing there, key :b is absent"},
           {"{}", "(at [:a] (cas 1 2))", kAbsent, "absent", "cas at [:a]: nothing there, key :a is absent"},
           {"[1]", "(at [1] (set 5))", kAbsent, "vector of 1",
            "set at [1]: index 1 of a vector of 1, expected 0 to 0"},
           {"[]", "(at [0] (set 5))", kAbsent, "vector of 0",
            "set at [0]: index 0 of a vector of 0, expected none"},
           {"[1]", "(at [-1] (set 5))", kAbsent, "vector of 1",
            "set at [-1]: index -1 of a vector of 1, expected 0 to 0"},
           {"{:a [1]}", "(at [:a :b] (set 5))", kType, "keyword",
            "set at [:a :b]: found a keyword, expected an integer as index of the vector at [:a]"},
           {"{:a 1}", "(at [:a :b] (set 5))", kType, "integer",
            "set at [:a :b]: found an integer, expected a map or vector at [:a], to follow the path"},
           {"{:a nil}", "(at [:a :b] (set 5))", kType, "nil",
            "set at [:a :b]: found nil, expected a map or vector at [:a], to follow the path"},
           {"(1)", "(at [0] (set 5))", kType, "list",
            "set at [0]: found a list, expected a map or vector, to follow the path"},
           {"#my/tag {:a 1}", "(at [:a] (set 5))", kType, "tagged",
            "set at [:a]: found a tagged value, expected a map or vector, to follow the path"},
           {"{:a \"x\"}", "(at [:a] (add 1))", kType, "string",
            "add at [:a]: found a string, expected an integer or double"},
       }) {
    INFO(c.before << " " << c.operation);
    Rejection rejection = Refused(Op(c.operation), Before(c.before));
    CHECK(rejection.cause == c.cause);
    CHECK(rejection.found == c.found);
    CHECK(rejection.message == c.message);
    CHECK_FALSE(rejection.rule.has_value());
  }
}

TEST_CASE("operation: every verb refuses every type that it does not take") {
  const std::vector<Value> types = {V("nil"),
                                    V("true"),
                                    V("1"),
                                    V("1N"),
                                    V("1.5"),
                                    V("1.5M"),
                                    V("\\a"),
                                    V("\"s\""),
                                    V("#stm/bytes \"AQ==\""),
                                    V(":k"),
                                    V("s"),
                                    V("#inst \"2026-01-01T00:00:00Z\""),
                                    V("#uuid \"00000000-0000-0001-0000-000000000002\""),
                                    V("(1)"),
                                    V("[1]"),
                                    V("{:a 1}"),
                                    V("#{1}"),
                                    V("#my/tag 1")};
  struct Case {
    const char* operation;
    std::vector<Type> takes;
  };
  for (const Case& c : std::vector<Case>{
           {"(add 1)", {Type::kInteger, Type::kDouble}},
           {"(add 1.5)", {Type::kDouble}},
           {"(min 1)", {Type::kInteger}},
           {"(max 1.5)", {Type::kDouble}},
           {"(min \"a\")", {Type::kString}},
           {"(max #inst \"2026\")", {Type::kInstant}},
           {"(append [1])", {Type::kList, Type::kVector}},
           {"(append (1))", {Type::kList, Type::kVector}},
           {"(append \"a\")", {Type::kString}},
           {"(append #stm/bytes \"AQ==\")", {Type::kBytes}},
           {"(conj [1 2])", {Type::kList, Type::kVector, Type::kMap, Type::kSet}},
           {"(disj 1)", {Type::kSet}},
           {"(dissoc 1)", {Type::kMap}},
           {"(pop)", {Type::kList, Type::kVector}},
           {"(shift)", {Type::kList, Type::kVector}},
           {"(assoc 0 1)", {Type::kVector, Type::kMap}},
           {"(toggle)", {Type::kBoolean}},
       }) {
    for (const Value& target : types) {
      INFO(c.operation << " to " << target);
      bool takes = std::find(c.takes.begin(), c.takes.end(), target.type()) != c.takes.end();
      std::variant<Applied, Rejection> outcome = Apply(Op(c.operation), target);
      REQUIRE(std::holds_alternative<Applied>(outcome) == takes);
      if (takes) continue;
      CHECK(std::get<Rejection>(outcome).cause == RejectCause::kType);
      CHECK(std::get<Rejection>(outcome).found == TypeName(target.type()));
    }
  }
}

TEST_CASE("operation: what would be too deep is refused, the deepest allowed is not") {
  auto nest = [](int depth) {
    Value value = Value::Integer(1);
    for (int i = 1; i < depth; ++i) value = Value::OfVector(std::vector<Value>{value});
    return value;
  };
  Operation conj = Op("(conj 1)");
  conj.arguments = {nest(kValueDepthMax - 1)};
  CHECK(Made(conj, V("[]")).value.depth() == kValueDepthMax);
  conj.arguments = {nest(kValueDepthMax)};
  Rejection rejection = Refused(conj, V("[]"));
  CHECK(rejection.cause == RejectCause::kType);
  CHECK_THAT(rejection.message, Catch::Contains("value_depth_max") && Catch::Contains("65 deep"));
  Operation set = Op("(set 1)");
  set.path = {Value::Keyword("a"), Value::Keyword("b")};
  set.argument = nest(kValueDepthMax - 2);
  CHECK(Made(set, V("{}")).value.depth() == kValueDepthMax);
  set.argument = nest(kValueDepthMax - 1);
  CHECK(Refused(set, V("{}")).cause == RejectCause::kType);
  CHECK(Refused(set, std::nullopt).cause == RejectCause::kType);
}

// --- Laws ---

TEST_CASE("operation: at a path is the same as by hand, level by level") {
  CHECK(rc::check([] {
    // A tree of maps and vectors, and a random walk down it.
    Value root = *Values(4);
    Operation operation = AnyOperation();
    operation.path.clear();
    std::vector<Value> path;
    Value at = root;
    while (*rc::gen::inRange(0, 4) != 0) {
      if (at.is(Type::kMap) && !at.map().empty()) {
        auto entries = at.map().Entries();
        auto& [key, value] = entries[*rc::gen::inRange<size_t>(0, entries.size())];
        path.push_back(key);
        at = Value(value);
      } else if (at.is(Type::kVector) && !at.items().empty()) {
        size_t i = *rc::gen::inRange<size_t>(0, at.items().size());
        path.push_back(Value::Integer(static_cast<int64_t>(i)));
        at = Value(at.items().at(i));
      } else {
        break;
      }
    }
    std::variant<Applied, Rejection> leaf = Apply(operation, at);
    Operation pathed = operation;
    pathed.path = path;
    std::variant<Applied, Rejection> whole = Apply(pathed, root);
    RC_ASSERT(leaf.index() == whole.index());
    if (const Rejection* rejection = std::get_if<Rejection>(&leaf)) {
      RC_ASSERT(rejection->cause == std::get<Rejection>(whole).cause);
      RC_ASSERT(rejection->found == std::get<Rejection>(whole).found);
      return;
    }
    // Rebuilt by assoc alone, innermost first.
    Value rebuilt = std::get<Applied>(leaf).value;
    for (size_t i = path.size(); i > 0; --i) {
      Value outer = root;
      for (size_t j = 0; j + 1 < i; ++j) {
        outer = outer.is(Type::kMap) ? Value(*outer.map().Find(path[j]))
                                     : Value(outer.items().at(static_cast<size_t>(path[j].integer())));
      }
      Operation assoc;
      assoc.verb = Verb::kAssoc;
      assoc.entries = Map().Assoc(path[i - 1], rebuilt);
      rebuilt = std::get<Applied>(Apply(assoc, outer)).value;
    }
    RC_ASSERT(std::get<Applied>(whole).value == rebuilt);
    RC_ASSERT(ToEdn(std::get<Applied>(whole).value) == ToEdn(rebuilt));
    if (operation.verb == Verb::kPop || operation.verb == Verb::kShift) {
      RC_ASSERT(std::get<Applied>(whole).result == std::get<Applied>(leaf).result);
    }
  }));
}

TEST_CASE("operation: pop undoes conj, and a queue gives back what went in") {
  CHECK(rc::check([] {
    std::vector<Value> items = ManyValues();
    std::vector<Value> more =
        *rc::gen::nonEmpty(rc::gen::resize(5, rc::gen::container<std::vector<Value>>(Values(2))));
    Operation conj;
    conj.verb = Verb::kConj;
    conj.arguments = more;
    Operation pop;
    pop.verb = Verb::kPop;
    pop.count = static_cast<uint32_t>(more.size());
    std::vector<Value> removed_from_list(more.rbegin(), more.rend());
    for (const Value& start : {Value::OfVector(items), Value::List(items)}) {
      Applied grown = std::get<Applied>(Apply(conj, start));
      RC_ASSERT(grown.value.items().size() == items.size() + more.size());
      Applied back = std::get<Applied>(Apply(pop, grown.value));
      RC_ASSERT(back.value == start);
      const std::vector<Value>& removed = start.is(Type::kList) ? removed_from_list : more;
      RC_ASSERT(back.result == (more.size() == 1 ? more[0] : Value::OfVector(removed)));
    }
    Operation shift;
    shift.verb = Verb::kShift;
    Value queue = std::get<Applied>(Apply(conj, Value::OfVector(std::vector<Value>()))).value;
    for (const Value& item : more) {
      Applied taken = std::get<Applied>(Apply(shift, queue));
      RC_ASSERT(taken.result == item);
      queue = taken.value;
    }
    RC_ASSERT(queue.items().empty());
  }));
}

TEST_CASE("operation: dissoc undoes assoc, disj undoes conj, toggle undoes itself") {
  CHECK(rc::check([] {
    Map map = AnyMap();
    Map more = AnyMap();
    Operation assoc;
    assoc.verb = Verb::kAssoc;
    assoc.entries = more;
    Value merged = std::get<Applied>(Apply(assoc, Value::OfMap(map))).value;
    Operation dissoc;
    dissoc.verb = Verb::kDissoc;
    Operation disj;
    disj.verb = Verb::kDisj;
    Map rest = map;
    for (auto& [key, value] : more.Entries()) {
      RC_ASSERT(*merged.map().Find(key) == value);
      dissoc.arguments.push_back(key);
      rest = rest.Dissoc(key);
    }
    RC_ASSERT(std::get<Applied>(Apply(dissoc, merged)).value == Value::OfMap(rest));
    Operation conj;
    conj.verb = Verb::kConj;
    conj.arguments = disj.arguments = dissoc.arguments;
    Value set = std::get<Applied>(Apply(conj, Value::OfSet(Set()))).value;
    RC_ASSERT(set.set().size() == more.size());
    RC_ASSERT(std::get<Applied>(Apply(disj, set)).value.set().empty());
  }));
  CHECK(Made(Op("(toggle)"), Made(Op("(toggle)"), V("true")).value).value == V("true"));
}

TEST_CASE("operation: min and max come out the same in any order") {
  CHECK(rc::check([] {
    rc::Gen<Value> doubles = rc::gen::element(Value::Double(0.0), Value::Double(-0.0), Value::Double(1.5),
                                              Value::Double(std::nan("")), Value::Double(INFINITY),
                                              Value::Double(-INFINITY), Value::Double(-1.5));
    Operation first;
    first.verb = *rc::gen::element(Verb::kMin, Verb::kMax);
    Operation second = first;
    first.argument = *doubles;
    second.argument = *doubles;
    Value start = *doubles;
    auto apply = [](const Operation& operation, const Value& v) {
      return std::get<Applied>(Apply(operation, v)).value;
    };
    RC_ASSERT(apply(first, apply(second, start)) == apply(second, apply(first, start)));
    RC_ASSERT(apply(first, second.argument) == apply(second, first.argument));
  }));
}

TEST_CASE("operation: apply changes neither the operation nor the value before") {
  CHECK(rc::check([] {
    Operation operation = AnyOperation();
    Value before = *Values(4);
    std::string form = ToEdn(ToEdnForm(operation));
    std::string text = ToEdn(before);
    std::variant<Applied, Rejection> once = Apply(operation, before);
    RC_ASSERT(ToEdn(ToEdnForm(operation)) == form);
    RC_ASSERT(ToEdn(before) == text);
    std::variant<Applied, Rejection> twice = Apply(operation, before);
    RC_ASSERT(once.index() == twice.index());
    if (const Applied* applied = std::get_if<Applied>(&once)) {
      RC_ASSERT(ToEdn(applied->value) == ToEdn(std::get<Applied>(twice).value));
      RC_ASSERT(Check(applied->value).ok());
    } else {
      const Rejection& rejection = std::get<Rejection>(once);
      RC_ASSERT(rejection.cause != RejectCause::kNone);
      RC_ASSERT(!rejection.message.empty());
      RC_ASSERT(!rejection.found.empty());
      RC_ASSERT(rejection.found.size() <= kExcerptBytesMax);
    }
  }));
}

TEST_CASE("operation: a small change of a large value shares the rest") {
  std::vector<Value> items;
  for (int i = 0; i < 100000; ++i) items.push_back(Value::String("item"));
  Value before = Value::OfMap(Map().Assoc(Value::Keyword("q"), Value::OfVector(std::move(items))));
  Operation conj = Op("(at [:q] (conj \"new\"))");
  // A copy of it all, ten thousand times, would be 1e9 items.
  Value value = before;
  for (int i = 0; i < 10000; ++i) value = Made(conj, value).value;
  CHECK(value.map().Find(Value::Keyword("q"))->items().size() == 110000);
  Operation shift = Op("(at [:q] (shift))");
  for (int i = 0; i < 10000; ++i) value = Made(shift, value).value;
  CHECK(value.map().Find(Value::Keyword("q"))->items().size() == 100000);
  CHECK(value.map()
            .Find(Value::Keyword("q"))
            ->items()
            .at(0)
            .identical(before.map().Find(Value::Keyword("q"))->items().at(10000)));
}

// --- Excerpts ---

TEST_CASE("excerpt: short values whole, long ones cut on a character's border, as EDN begins") {
  CHECK(Excerpt(V("{:a [1 2]}")) == "{:a [1 2]}");
  std::string exact(kExcerptBytesMax - 2, 'x');
  CHECK(Excerpt(Value::String(exact)) == "\"" + exact + "\"");
  CHECK(Excerpt(Value::String(exact + "x")) == "\"" + exact.substr(0, kExcerptBytesMax - 4) + "...");
  std::string wide;
  for (int i = 0; i < 100; ++i) wide += "日";
  std::string cut = Excerpt(Value::String(wide));
  CHECK(cut.size() <= kExcerptBytesMax);
  CHECK(cut == "\"" + wide.substr(0, 60) + "...");
  CHECK(rc::check([] {
    Value value = *Values(5);
    std::string whole = ToEdn(value);
    std::string text = Excerpt(value);
    RC_ASSERT(text.size() <= kExcerptBytesMax);
    if (whole.size() <= kExcerptBytesMax) {
      RC_ASSERT(text == whole);
    } else {
      RC_ASSERT(text.substr(text.size() - 3) == "...");
      RC_ASSERT(whole.compare(0, text.size() - 3, text, 0, text.size() - 3) == 0);
    }
  }));
}

}  // namespace
}  // namespace stm::engine
