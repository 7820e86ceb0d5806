// Values as BSON.
#include "backends/mongodb/bson.h"

#include <bson/bson.h>
#include <rapidcheck/catch.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"
#include "tests/engine/values/generators.h"

namespace stm::mongodb {
namespace {

Value Edn(const std::string& text) {
  absl::StatusOr<Value> value = ReadEdn(text);
  INFO(text << ": " << value.status());
  REQUIRE(value.ok());
  return *value;
}

std::string Bytes(const Value& value) {
  absl::StatusOr<std::string> bytes = ToBson({{"value", value}}, "/a");
  INFO(bytes.status());
  REQUIRE(bytes.ok());
  return *bytes;
}

// What MongoDB's library makes of the bytes: extended JSON, where numbers keep their types.
std::string Json(const std::string& bytes) {
  bson_t document;
  REQUIRE(bson_init_static(&document, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
  size_t length = 0;
  char* text = bson_as_canonical_extended_json(&document, &length);
  REQUIRE(text != nullptr);
  std::string json(text, length);
  bson_free(text);
  return json;
}

// A document that somebody else wrote.
std::string FromJson(const std::string& json) {
  bson_error_t error = {};
  bson_t* document = bson_new_from_json(reinterpret_cast<const uint8_t*>(json.data()),
                                        static_cast<ssize_t>(json.size()), &error);
  INFO(json << ": " << error.message);
  REQUIRE(document != nullptr);
  std::string bytes(reinterpret_cast<const char*>(bson_get_data(document)), document->len);
  bson_destroy(document);
  return bytes;
}

Value Back(const std::string& bytes) {
  absl::StatusOr<std::optional<Value>> value = FieldOf(bytes, "value");
  INFO(value.status());
  REQUIRE(value.ok());
  REQUIRE(value->has_value());
  return **value;
}

std::string ErrorOf(const std::string& bytes) {
  const absl::StatusOr<std::optional<Value>> value = FieldOf(bytes, "value");
  if (value.ok()) return *value ? "read as " + ToEdn(**value) : "absent";
  CHECK(value.status().code() == absl::StatusCode::kDataLoss);
  return std::string(value.status().message());
}

// What holds of every document, as every server that was tried wants it: no key that is empty, begins with
// "$" or has a ".", no array right inside an array, no double but a plain one, no deeper than MongoDB nests.
constexpr int kBsonLevelsMax = 100;

bool Acceptable(const bson_iter_t& parent, bool array, int level) {
  bson_iter_t at;
  if (level > kBsonLevelsMax || !bson_iter_recurse(&parent, &at)) return false;
  while (bson_iter_next(&at)) {
    const std::string key = bson_iter_key(&at);
    if (key.empty() || key[0] == '$' || key.find('.') != std::string::npos) return false;
    const bson_type_t type = bson_iter_type(&at);
    if (type == BSON_TYPE_DOUBLE) {
      const double d = bson_iter_double(&at);
      if (!std::isfinite(d) || (d == 0 && std::signbit(d))) return false;
    }
    if (type == BSON_TYPE_DECIMAL128 || (array && type == BSON_TYPE_ARRAY)) return false;
    if (type != BSON_TYPE_ARRAY && type != BSON_TYPE_DOCUMENT) continue;
    if (!Acceptable(at, type == BSON_TYPE_ARRAY, level + 1)) return false;
  }
  return at.err_off == 0;
}

bool Acceptable(const std::string& bytes) {
  // As a field of a document, so that there is something to recurse from.
  bson_t inner, outer = BSON_INITIALIZER;
  bson_iter_t at;
  const bool holds = bson_init_static(&inner, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()) &&
                     bson_append_document(&outer, "d", 1, &inner) && bson_iter_init_find(&at, &outer, "d") &&
                     Acceptable(at, false, 1);
  bson_destroy(&outer);
  return holds;
}

TEST_CASE("bson: every value comes back, in its order, from a document that every server takes") {
  rc::prop("value to BSON to value", [](const Value& value) {
    const std::string bytes = Bytes(value);
    RC_ASSERT(Acceptable(bytes));
    const Value back = Back(bytes);
    if (!(back == value)) RC_FAIL(ToEdn(value) + " came back as " + ToEdn(back));
    RC_ASSERT(ToEdn(back) == ToEdn(value));
    RC_ASSERT(back.hash() == value.hash());
    RC_ASSERT(Bytes(back) == bytes);
  });
}

TEST_CASE("bson: what people look for appears as they expect it") {
  const std::vector<std::pair<std::string, std::string>> plain = {
      {"nil", "null"},
      {"true", "true"},
      {"42", R"({ "$numberLong" : "42" })"},
      {"-9223372036854775808", R"({ "$numberLong" : "-9223372036854775808" })"},
      {"1.5", R"({ "$numberDouble" : "1.5" })"},
      {"\"héllo\"", R"("héllo")"},
      {"\"\"", R"("")"},
      {"[1 \"a\"]", R"([ { "$numberLong" : "1" }, "a" ])"},
      {"[]", "[  ]"},
      {"{}", "{  }"},
      {"{:name \"Bob\" :user/id nil :b {:c [true]}}",
       R"({ "name" : "Bob", "user/id" : null, "b" : { "c" : [ true ] } })"},
      {"#inst \"2026-11-22T03:00:00.123Z\"", R"({ "$date" : { "$numberLong" : "1795316400123" } })"},
      {"#inst \"1969-12-31T23:59:59.999Z\"", R"({ "$date" : { "$numberLong" : "-1" } })"},
      {"#inst \"0001-01-01T00:00:00Z\"", R"({ "$date" : { "$numberLong" : "-62135596800000" } })"},
      {"#uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"",
       R"({ "$binary" : { "base64" : "+B1Prn3sEdCnZQCgyR5r9g==", "subType" : "04" } })"},
      {"#stm/bytes \"AAH/\"", R"({ "$binary" : { "base64" : "AAH/", "subType" : "00" } })"},
      {"#stm/bytes \"\"", R"({ "$binary" : { "base64" : "", "subType" : "00" } })"},
  };
  for (const auto& [edn, json] : plain) {
    CHECK(Json(Bytes(Edn(edn))) == "{ \"value\" : " + json + " }");
    CHECK(ToEdn(Back(Bytes(Edn(edn)))) == ToEdn(Edn(edn)));
  }
}

TEST_CASE("bson: what BSON has not, or not every server takes, is a document that says what it is") {
  const std::vector<std::pair<std::string, std::string>> tagged = {
      {":status/open", R"({ "#edn" : ":status/open" })"},
      {"sym", R"({ "#edn" : "sym" })"},
      {"123456789012345678901234567890N", R"({ "#edn" : "123456789012345678901234567890N" })"},
      {"1.50M", R"({ "#edn" : "1.50M" })"},
      {"1E+3M", R"({ "#edn" : "1E+3M" })"},
      {"\\a", R"({ "#edn" : "\\a" })"},
      {"##NaN", R"({ "#edn" : "##NaN" })"},
      {"##-Inf", R"({ "#edn" : "##-Inf" })"},
      {"-0.0", R"({ "#edn" : "-0.0" })"},
      {"#inst \"2026-11-22T03:00:00.123456Z\"", R"({ "#edn" : "#inst \"2026-11-22T03:00:00.123456Z\"" })"},
      {"(true nil)", R"({ "#list" : [ true, null ] })"},
      {"()", R"({ "#list" : [  ] })"},
      {"#{true nil}", R"({ "#set" : [ true, null ] })"},
      {"[[true] [[]]]", R"([ { "#vector" : [ true ] }, { "#vector" : [ { "#vector" : [  ] } ] } ])"},
      {"[{:a [true]}]", R"([ { "a" : [ true ] } ])"},
      {"([true])", R"({ "#list" : [ { "#vector" : [ true ] } ] })"},
      {"{\"a\" true \"b c\" nil}", R"({ "#strings" : { "a" : true, "b c" : null } })"},
      {"{true nil}", R"({ "#map" : [ { "key" : true, "value" : null } ] })"},
      {"{[true] [nil]}", R"({ "#map" : [ { "key" : [ true ], "value" : [ null ] } ] })"},
      {"{:a true \"a\" nil}",
       R"({ "#map" : [ { "key" : { "#edn" : ":a" }, "value" : true }, { "key" : "a", "value" : null } ] })"},
      {"{:a.b true}", R"({ "#map" : [ { "key" : { "#edn" : ":a.b" }, "value" : true } ] })"},
      {"{:$set true}", R"({ "#map" : [ { "key" : { "#edn" : ":$set" }, "value" : true } ] })"},
      {"{\"\" true}", R"({ "#map" : [ { "key" : "", "value" : true } ] })"},
      // One that looks like ours.
      {"{\"#list\" [true]}", R"({ "#map" : [ { "key" : "#list", "value" : [ true ] } ] })"},
      {"{\"#edn\" \"1\"}", R"({ "#map" : [ { "key" : "#edn", "value" : "1" } ] })"},
      {"#blog/User {:name \"Bob\"}", R"({ "#tag" : "blog/User", "value" : { "name" : "Bob" } })"},
      {"#blog/Id [true]", R"({ "#tag" : "blog/Id", "value" : [ true ] })"},
  };
  for (const auto& [edn, json] : tagged) {
    CHECK(Json(Bytes(Edn(edn))) == "{ \"value\" : " + json + " }");
    CHECK(Acceptable(Bytes(Edn(edn))));
    CHECK(ToEdn(Back(Bytes(Edn(edn)))) == ToEdn(Edn(edn)));
  }
}

TEST_CASE("bson: NUL stays in strings and in keys of strings") {
  const std::string text("a\0b", 3);
  for (const Value& value :
       {Value::String(text), Value::OfMap(Map({{Value::String(text), Value::String(text)}})),
        Value::OfVector({Value::Character(0), Value::String(std::string(1, '\0'))})}) {
    CHECK(Acceptable(Bytes(value)));
    CHECK(Back(Bytes(value)) == value);
  }
}

TEST_CASE("bson: a map keeps its order of insertion, whatever its keys look like") {
  for (const char* edn : {"{:z 1 :a 2 :m 3}", "{\"10\" 1 \"2\" 2 \"1\" 3}", "{3 1 1 2 2 3}", "#{:z :a :m}"}) {
    CHECK(ToEdn(Back(Bytes(Edn(edn)))) == ToEdn(Edn(edn)));
  }
}

TEST_CASE("bson: values nest as deep as they may, and no document nests deeper than MongoDB takes") {
  const std::vector<std::pair<std::string, std::string>> around = {
      {"[", "]"},     {"(", ")"},  {"#{", "}"},     {"{:a ", "}"},     {"{1 ", "}"},
      {"{[1] ", "}"}, {"#a ", ""}, {"{\"\" ", "}"}, {"{\"a\" [", "]}"}};
  for (const auto& [before, after] : around) {
    std::string edn = "1";
    while (true) {
      edn = before + edn + after;
      const absl::StatusOr<Value> value = ReadEdn(edn);
      if (!value.ok()) break;
      const std::string bytes = Bytes(*value);
      CHECK(Acceptable(bytes));
      CHECK(ToEdn(Back(bytes)) == edn);
      INFO(edn);
      // Structure, while it fits; text of one line then.
      CHECK((bytes.find("#edn") == std::string::npos || value->depth() > kStructureDepthMax));
    }
    INFO(edn);
    CHECK(edn.size() > 60);
  }
}

TEST_CASE("bson: a value larger than MongoDB's documents is refused by the bound's name") {
  const Value fits = Value::String(std::string(kDocumentBytesMax - 100, 'x'));
  CHECK(Back(Bytes(fits)) == fits);
  const Value small = Value::OfVector(std::vector<Value>(2'000'000, Value::Integer(1)));
  const Value large = Value::Bytes(std::string(kDocumentBytesMax, '\0'));
  const Value huge = Value::OfVector(std::vector<Value>(100, large));
  for (const Value& value : {small, large, huge}) {
    const absl::StatusOr<std::string> bytes = ToBson({{"value", value}}, "/a");
    CHECK(bytes.status().code() == absl::StatusCode::kResourceExhausted);
    const std::string message(bytes.status().message());
    INFO(message);
    CHECK(message.find("limit mongodb_document_bytes_max=16777216: /a has ") == 0);
    CHECK(message.find(": MongoDB keeps no larger document: split the value") != std::string::npos);
  }
}

TEST_CASE("bson: what people write by hand is read") {
  const std::vector<std::pair<std::string, std::string>> read = {
      {R"({"value": {"$numberInt": "7"}})", "7"},
      {R"({"value": {"$numberDecimal": "1.50"}})", "1.50M"},
      {R"({"value": {"$numberDecimal": "1E+3"}})", "1E+3M"},
      {R"({"value": [[1], [[]]]})", "[[1] [[]]]"},
      {R"({"value": {"$numberDouble": "-0.0"}})", "-0.0"},
      {R"({"value": {"$numberDouble": "NaN"}})", "##NaN"},
      {R"({"_id": "/a", "value": {"port": 80, "hosts": ["a", "b"]}, "note": "mine"})",
       "{:port 80, :hosts [\"a\" \"b\"]}"},
      {R"({"value": {"a.b": 1}})", "{:a.b 1}"},
      {R"({"value": {"#edn": "{:any [1 #{2}]}"}})", "{:any [1 #{2}]}"},
      {R"({"value": {"#vector": []}})", "[]"},
  };
  for (const auto& [json, edn] : read) CHECK(ToEdn(Back(FromJson(json))) == ToEdn(Edn(edn)));
  const absl::StatusOr<std::optional<Value>> absent =
      FieldOf(FromJson(R"({"valu": 1, "value2": 2})"), "value");
  REQUIRE(absent.ok());
  CHECK_FALSE(absent->has_value());
}

TEST_CASE("bson: what no value is written as is refused, with the path to it") {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {R"({"value": {"$oid": "507f1f77bcf86cd799439011"}})",
       "value: it is an ObjectId, which no value is written as"},
      {R"({"value": {"a": [1, {"$minKey": 1}]}})",
       "value.a.items[1]: it is MinKey, which no value is written as"},
      {R"({"value": {"first name": 1}})",
       "value.entries[0].key: the key \"first name\" names no keyword: a name can't have a space or a comma "
       "(a map of strings is "
       "{\"#strings\": {...}})"},
      {R"({"value": {"a": {"#list": 1}}})", "value.a.#list: an array belongs here"},
      {R"({"value": {"#list": [], "more": 1}})", "value: the field \"more\" does not belong here"},
      {R"({"value": {"#new": []}})",
       "value: a document that begins with \"#new\" has no meaning here (a newer stmd's?)"},
      {R"({"value": {"#tag": "inst", "value": 1}})",
       "value.#tag: the tag has a meaning of its own: use that type"},
      {R"({"value": {"#tag": "a"}})", "value: the field \"value\" is missing"},
      {R"({"value": {"#edn": "(1"}})",
       "value.#edn: EDN 1:3: found the end of the text, expected a value or ')' in the list that began at "
       "1:1"},
      {R"({"value": {"#edn": 1}})", "value.#edn: a string belongs here"},
      {R"({"value": {"#set": [1, 2, {"$numberLong": "1"}]}})", "value.#set.items[2]: equals an earlier item"},
      {R"({"value": {"#map": [{"key": 1, "value": 1}, {"key": 1, "value": 2}]}})",
       "value.#map.entries[1].key: equals an earlier key"},
      {R"({"value": {"#map": [{"key": 1}]}})", "value.#map.entries[0]: the field \"value\" is missing"},
      {R"({"value": {"#strings": {"a": {"$undefined": true}}}})",
       "value.#strings.a: it is undefined, which no value is written as"},
      {R"({"value": {"$binary": {"base64": "AAE=", "subType": "04"}}})", "value: a uuid has 16 bytes"},
      {R"({"value": {"$binary": {"base64": "AAE=", "subType": "80"}}})",
       "value: binary of subtype 128 is no value: 0 is bytes, 4 a uuid"},
      {R"({"value": {"$date": {"$numberLong": "253402300800000"}}})",
       "value: an instant is within the years 0001 to 9999"},
      {R"({"value": {"$numberDecimal": "NaN"}})", "value: a number begins with a digit"},
  };
  for (const auto& [json, message] : refused) CHECK(ErrorOf(FromJson(json)) == message);
  std::string deep = "1";
  for (int i = 0; i < kValueDepthMax; ++i) deep = "[" + deep + "]";
  CHECK(ErrorOf(FromJson("{\"value\": " + deep + "}")).find("values nest 64 deep at most") !=
        std::string::npos);
  const std::string whole = Bytes(Edn("{:a [1 2 #{3}]}"));
  for (size_t length = 0; length < whole.size(); ++length) {
    CHECK(ErrorOf(whole.substr(0, length)) == "the document is cut off or damaged");
  }
}

}  // namespace
}  // namespace stm::mongodb
