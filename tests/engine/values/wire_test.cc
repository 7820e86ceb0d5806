// Values as messages.
#include "engine/values/wire.h"

#include <rapidcheck/catch.h>

#include <catch2/catch.hpp>

#include "engine/values/edn.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/text_format.h"
#include "stm/v1/value.pb.h"
#include "tests/engine/values/generators.h"

namespace stm {
namespace {

v1::Value Message(const std::string& text) {
  v1::Value message;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

std::string ErrorOf(const v1::Value& message) {
  const absl::StatusOr<Value> value = FromProto(message);
  if (value.ok()) return "read as " + ToEdn(*value);
  REQUIRE(value.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(value.status().message().data(), value.status().message().size());
}

TEST_CASE("wire: every value comes back from its message and its message's bytes, in the same order") {
  rc::prop("value to message to value", [](const Value& value) {
    v1::Value message;
    ToProto(value, &message);
    const absl::StatusOr<Value> direct = FromProto(message);
    if (!direct.ok()) RC_FAIL(ToEdn(value) + ": " + direct.status().ToString());
    RC_ASSERT(*direct == value);
    v1::Value parsed;
    RC_ASSERT(parsed.ParseFromString(message.SerializeAsString()));
    RC_ASSERT(ToEdn(*FromProto(parsed)) == ToEdn(value));
    v1::Value again = Message("vector { items { nil: true } }");  // what was there goes
    ToProto(*direct, &again);
    RC_ASSERT(again.SerializeAsString() == message.SerializeAsString());
  });
}

TEST_CASE("wire: edn is read wherever it stands, and never written") {
  rc::prop("edn", [](const Value& value) {
    v1::Value message;
    message.set_edn(ToEdn(value));
    RC_ASSERT(*FromProto(message) == value);
    v1::Value outer;
    *outer.mutable_vector()->add_items() = message;
    RC_ASSERT(*FromProto(outer) == Value::OfVector({value}));
    v1::Value written;
    ToProto(value, &written);
    RC_ASSERT(written.kind_case() != v1::Value::kEdn);
  });
}

TEST_CASE("wire: errors give the path to what is wrong") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "value: no kind is set (nil is `nil: true`; or this kind is newer than this program)"},
      {"vector { items { nil: true } items { } }",
       "value.vector.items[1]: no kind is set (nil is `nil: true`; or this kind is newer than this program)"},
      {"map { entries { key { keyword: 'a' } } }",
       "value.map.entries[0].value: no kind is set (nil is `nil: true`; or this kind is newer than this "
       "program)"},
      {"map { entries { key { nil: true } value { nil: true } } entries { key { symbol: 'a b' } value { nil: "
       "true } } }",
       "value.map.entries[1].key.symbol: a name can't have a space or a comma"},
      {"map { entries { key { integer: 1 } value { nil: true } } entries { key { integer: 2 } value { nil: "
       "true } } "
       "entries { key { integer: 1 } value { nil: true } } }",
       "value.map.entries[2].key: equals an earlier key"},
      {"set { items { integer: 1 } items { float64: 1 } items { float64: nan } items { float64: nan } }",
       "value.set.items[3]: equals an earlier item"},
      {"list { items { tagged { tag: 'inst' value { nil: true } } } }",
       "value.list.items[0].tagged.tag: the tag has a meaning of its own: use that type"},
      {"tagged { tag: 'a' value { keyword: '' } }", "value.tagged.value.keyword: the name is empty"},
      {"tagged { tag: 'a' }",
       "value.tagged.value: no kind is set (nil is `nil: true`; or this kind is newer than this program)"},
      {"character: 0xD800", "value.character: not a Unicode scalar value"},
      {"character: 0xFFFFFFFF", "value.character: not a Unicode scalar value"},
      {"uuid: 'f81d4fae'", "value.uuid: not 36 characters as f81d4fae-7dec-11d0-a765-00a0c91e6bf6"},
      {"bigint: '01'", "value.bigint: a number has no leading zeros (there is no octal)"},
      {"bigint: '1N'", "value.bigint: a bigint has a sign and digits only"},
      {"bigint: ''", "value.bigint: a number begins with a digit"},
      {"decimal: '1.5M'", "value.decimal: a decimal's digits stand without N or M"},
      {"decimal: '1e99999999999'", "value.decimal: a decimal's exponent is within 999999999 of 0"},
      {"instant { seconds: 253402300800 }",
       "value.instant: an instant is within the years 0001 to 9999, with 0 to 999999999 nanoseconds"},
      {"instant { nanos: -1 }",
       "value.instant: an instant is within the years 0001 to 9999, with 0 to 999999999 nanoseconds"},
      {"vector { items { edn: '[1 }' } }",
       "value.vector.items[0].edn: EDN 1:4: found '}', expected a value or ']' in the vector that began at "
       "1:1"},
  };
  for (const auto& [text, message] : cases) CHECK(ErrorOf(Message(text)) == message);
  v1::Value message;
  message.set_text("a\xFF");
  CHECK(ErrorOf(message) == "value.text: not UTF-8 (bytes go into blob)");
}

TEST_CASE("wire: digits and uuids are taken in other spellings and made canonical") {
  CHECK(ToEdn(*FromProto(Message("bigint: '+12'"))) == "12N");
  CHECK(ToEdn(*FromProto(Message("bigint: '-0'"))) == "0N");
  CHECK(ToEdn(*FromProto(Message("decimal: '1e3'"))) == "1E+3M");
  CHECK(ToEdn(*FromProto(Message("uuid: 'F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6'"))) ==
        "#uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"");
}

TEST_CASE("wire: depth is bounded where it is read, inside edn as well") {
  v1::Value message;
  v1::Value* inner = &message;
  for (int i = 0; i < 44; ++i) inner = inner->mutable_vector()->add_items();
  inner->set_nil(true);
  REQUIRE(FromProto(message).ok());
  CHECK(FromProto(message)->depth() == 45);
  inner->set_edn("[1]");
  CHECK(ErrorOf(message).find("value_wire_nesting_max=90") != std::string::npos);
  for (int i = 0; i < 19; ++i) inner = inner->mutable_vector()->add_items();
  inner->set_edn("[1]");
  CHECK(ErrorOf(message).find(".edn: values nest 64 deep at most") != std::string::npos);
  inner->mutable_vector()->add_items()->set_nil(true);
  CHECK(ErrorOf(message).find("values nest 64 deep at most") != std::string::npos);
}

TEST_CASE("wire: a timestamp is an instant and back") {
  const Instant instant{-1, 999'999'999};
  CHECK(*FromProto(ToProto(instant)) == instant);
  google::protobuf::Timestamp bad;
  bad.set_nanos(1'000'000'000);
  CHECK_FALSE(FromProto(bad).ok());
}

TEST_CASE("wire: what clients could not parse is refused, and what is accepted parses under the default limit") {
  for (int maps = 1; maps <= 40; ++maps) {
    Value value = Value::Integer(1);
    for (int i = 0; i < maps; ++i) value = Value::OfMap(Map({{Value::Integer(1), value}}));
    v1::Value message;
    message.set_edn(ToEdn(value));
    bool accepted = FromProto(message).ok();
    CHECK(accepted == FitsWire(value));
    CHECK(accepted == (3 * maps + 1 <= kWireNestingMax));
    v1::Value whole;
    ToProto(value, &whole);
    v1::Value parsed;
    // Ten levels are left for the messages that carry it.
    if (accepted) CHECK(parsed.ParseFromString(whole.SerializeAsString()));
  }
  Value vectors = Value::Integer(1);
  for (int i = 0; i < 44; ++i) vectors = Value::OfVector(std::vector<Value>{vectors});
  CHECK(FitsWire(vectors));
  CHECK_FALSE(FitsWire(Value::OfVector(std::vector<Value>{vectors})));
}

}  // namespace
}  // namespace stm
