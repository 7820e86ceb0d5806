// Codecs and errors: what C++ types become in EDN, and what does not fit.
#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "client/cpp/core/unknown_fields.h"
#include "stm/codec.h"

namespace shop {

struct Item {
  std::string name;
  int64_t unitPrice = 0;
  std::optional<std::string> note;
};
STM_RECORD(Item, "shop.Item", name, unitPrice, note);

struct Order {
  std::vector<Item> items;
  stm::UnknownFields unknown;
};
STM_RECORD(Order, "shop.Order", items, unknown);

struct Money {
  int64_t cents = 0;
};
stm::Value EncodeMoney(const Money& money) { return stm::Value::Integer(money.cents); }
absl::StatusOr<Money> DecodeMoney(const stm::Value& value) {
  absl::StatusOr<int64_t> cents = stm::Decode<int64_t>(value);
  if (!cents.ok()) return cents.status();
  return Money{*cents};
}
STM_TAGGED(Money, "shop.Money", EncodeMoney, DecodeMoney);

struct Gift : Item {};

}  // namespace shop

namespace {

using stm::Decode;
using stm::Encode;
using stm::Value;

Value Edn(const char* text) {
  absl::StatusOr<Value> value = stm::ReadEdn(text);
  REQUIRE(value.ok());
  return *value;
}

// Read as a T and written back, it is the same value.
template <typename T>
void RoundTrips(const char* text) {
  INFO(text);
  absl::StatusOr<T> decoded = Decode<T>(Edn(text));
  REQUIRE(decoded.ok());
  CHECK(Encode<T>(*decoded) == Edn(text));
  CHECK_FALSE(stm::internal::TakeLoss());
}

template <typename T>
absl::Status Refused(const char* text) {
  INFO(text);
  absl::StatusOr<T> decoded = Decode<T>(Edn(text));
  REQUIRE_FALSE(decoded.ok());
  CHECK(stm::IsBadValue(decoded.status()));
  return decoded.status();
}

}  // namespace

TEST_CASE("codec: every type reads back what it wrote") {
  RoundTrips<int64_t>("9223372036854775807");
  RoundTrips<int64_t>("-9223372036854775808");
  RoundTrips<int>("-2147483648");
  RoundTrips<uint32_t>("4294967295");
  RoundTrips<double>("10.0");
  RoundTrips<double>("##NaN");
  RoundTrips<double>("-0.0");
  RoundTrips<bool>("true");
  RoundTrips<std::string>("\"a\\n\\u00e9\"");
  RoundTrips<stm::Nil>("nil");
  RoundTrips<stm::Bytes>("#stm/bytes \"AAH/\"");
  RoundTrips<stm::Keyword>(":a/b");
  RoundTrips<stm::Symbol>("a/b");
  RoundTrips<stm::BigInt>("123456789012345678901234567890N");
  RoundTrips<stm::Decimal>("1.50M");
  RoundTrips<char32_t>("\\a");
  RoundTrips<stm::Instant>("#inst \"2026-11-22T03:00:00.123456789Z\"");
  RoundTrips<stm::Uuid>("#uuid \"0f8fad5b-d9cb-469f-a165-70867728950e\"");
  RoundTrips<std::vector<int64_t>>("[1 2 3]");
  RoundTrips<stm::List<int64_t>>("(1 2 3)");
  RoundTrips<std::map<std::string, std::vector<int64_t>>>("{\"a\" [1] \"b\" []}");
  RoundTrips<std::map<stm::Keyword, int64_t>>("{:a 1, :b 2}");
  RoundTrips<std::set<int64_t>>("#{3 1 2}");
  RoundTrips<stm::Map>("{[1] :vector, nil 2}");
  RoundTrips<stm::Set>("#{[1] nil}");
  RoundTrips<stm::Vector>("[1 :a \"x\"]");
  RoundTrips<std::optional<int64_t>>("nil");
  RoundTrips<std::optional<int64_t>>("7");
  RoundTrips<std::vector<std::optional<bool>>>("[true nil false]");
  RoundTrips<Value>("#any.Thing{:a [1 2.0 3N]}");
  RoundTrips<stm::Tagged>("#any.Thing{:a 1}");
  RoundTrips<std::variant<shop::Item, shop::Money>>("#shop.Money 5");
  RoundTrips<shop::Money>("#shop.Money 5");
  RoundTrips<shop::Item>("#shop.Item{:name \"tea\" :unit-price 250 :note \"hot\"}");
}

TEST_CASE("codec: no type becomes another by magnitude") {
  Refused<int64_t>("1.0");
  Refused<int64_t>("1N");
  Refused<double>("1");
  Refused<double>("1.0M");
  Refused<int>("2147483648");
  Refused<uint32_t>("-1");
  Refused<std::string>(":a");
  Refused<std::string>("a");
  Refused<stm::Keyword>("\"a\"");
  Refused<std::vector<int64_t>>("(1 2)");
  Refused<stm::List<int64_t>>("[1 2]");
  Refused<std::vector<int64_t>>("#{1}");
  Refused<std::string>("nil");
  Refused<stm::Nil>("false");
  Refused<bool>("nil");
  Refused<stm::Tagged>("{:a 1}");
}

TEST_CASE("codec: an error says where, what was found and what to do") {
  absl::Status status = Refused<std::map<std::string, std::vector<int64_t>>>("{\"a\" [1 \"x\"]}");
  CHECK(std::string(status.message()).find("at \"a\": at [1]: expected integer, found string \"x\"") == 0);
  CHECK(stm::InfoOf(status).expected == "integer");
}

TEST_CASE("codec: keys that operator< takes for one are refused, not merged") {
  Refused<std::set<double>>("#{1.0 ##NaN}");
  Refused<std::set<double>>("#{0.0 -0.0}");
}

TEST_CASE("record: fields are keywords in kebab case, whatever the case of the members") {
  CHECK(stm::internal::FieldKeyword("start_date") == Value::Keyword("start-date"));
  CHECK(stm::internal::FieldKeyword("startDate") == Value::Keyword("start-date"));
  CHECK(stm::internal::FieldKeyword("StartDate") == Value::Keyword("start-date"));
  CHECK(stm::internal::FieldKeyword("start_date_") == Value::Keyword("start-date"));
  CHECK(stm::internal::FieldKeyword("userID") == Value::Keyword("user-id"));
  CHECK(stm::internal::FieldKeyword("HTTPServer") == Value::Keyword("http-server"));
  CHECK(stm::internal::FieldKeyword("line2") == Value::Keyword("line2"));
  CHECK(stm::internal::DistinctKeywords("name, email"));
  CHECK_FALSE(stm::internal::DistinctKeywords("start_date, email, startDate"));
}

TEST_CASE("record: a missing field is an error unless it is optional") {
  absl::Status status = Refused<shop::Item>("#shop.Item{:name \"tea\"}");
  CHECK(std::string(status.message()).find(":unit-price") != std::string::npos);
  absl::StatusOr<shop::Item> item = Decode<shop::Item>(Edn("#shop.Item{:name \"tea\" :unit-price 1}"));
  REQUIRE(item.ok());
  CHECK_FALSE(item->note.has_value());
  CHECK(stm::internal::TakeLoss());
}

TEST_CASE("record: another tag is no record of this type") {
  Refused<shop::Item>("#other.Item{:name \"tea\" :unit-price 1 :note nil}");
  Refused<shop::Item>("{:name \"tea\" :unit-price 1 :note nil}");
}

TEST_CASE("record: what derives from a record is none") {
  CHECK(stm::internal::IsRecord<shop::Item>::value);
  CHECK_FALSE(stm::internal::IsRecord<shop::Gift>::value);
  CHECK_FALSE(stm::internal::IsRecord<int64_t>::value);
}

TEST_CASE("record: fields of a newer program are kept by an UnknownFields member") {
  RoundTrips<shop::Order>("#shop.Order{:items [] :paid true :by #any.One 1}");
  absl::StatusOr<shop::Order> order = Decode<shop::Order>(Edn("#shop.Order{:items [] :paid true}"));
  REQUIRE(order.ok());
  order->items.push_back(shop::Item{"tea", 250, std::nullopt});
  CHECK(Encode(*order) == Edn("#shop.Order{:items [#shop.Item{:name \"tea\" :unit-price 250 :note nil}] :paid true}"));
}

namespace {

// What a transaction that reads `raw`, changes it by `f` and writes it writes.
template <typename T, typename F>
Value Rewrite(const char* raw, F f) {
  absl::StatusOr<T> decoded = Decode<T>(Edn(raw));
  REQUIRE(decoded.ok());
  CHECK(stm::internal::TakeLoss());
  stm::internal::UnknownFieldsKept kept;
  kept.Keep("/x", Edn(raw), Encode<T>(*decoded));
  f(*decoded);
  return kept.Restore("/x", Encode<T>(*decoded));
}

}  // namespace

TEST_CASE("unknown fields: records written as they were read are written whole, wherever they are") {
  const char* raw =
      "[#shop.Item{:name \"a\" :unit-price 1 :note nil :vat 7} #shop.Item{:name \"b\" :unit-price 2 :note nil :vat 8}"
      " #shop.Item{:name \"c\" :unit-price 3 :note nil}]";
  using Items = std::vector<shop::Item>;
  CHECK(Rewrite<Items>(raw, [](Items&) {}) == Edn(raw));
  CHECK(Rewrite<Items>(raw, [](Items& items) { items.erase(items.begin()); }) ==
        Edn("[#shop.Item{:name \"b\" :unit-price 2 :note nil :vat 8} #shop.Item{:name \"c\" :unit-price 3 :note nil}]"));
  CHECK(Rewrite<Items>(raw, [](Items& items) { items.insert(items.begin(), shop::Item{"n", 0, std::nullopt}); }) ==
        Edn("[#shop.Item{:name \"n\" :unit-price 0 :note nil}"
            " #shop.Item{:name \"a\" :unit-price 1 :note nil :vat 7} #shop.Item{:name \"b\" :unit-price 2 :note nil :vat 8}"
            " #shop.Item{:name \"c\" :unit-price 3 :note nil}]"));
}

TEST_CASE("unknown fields: a record changed in its place keeps them") {
  using Shelf = std::map<std::string, shop::Item>;
  CHECK(Rewrite<Shelf>("{\"x\" #shop.Item{:name \"a\" :unit-price 1 :note nil :vat 7}}",
                       [](Shelf& shelf) { shelf["x"].unitPrice = 5; }) ==
        Edn("{\"x\" #shop.Item{:name \"a\" :unit-price 5 :note nil :vat 7}}"));
}

TEST_CASE("unknown fields: an optional field that was missing stays so in a record that was not changed") {
  using Items = std::vector<shop::Item>;
  CHECK(Rewrite<Items>("[#shop.Item{:name \"a\" :unit-price 1}]", [](Items& items) { items.push_back(items[0]); }) ==
        Edn("[#shop.Item{:name \"a\" :unit-price 1} #shop.Item{:name \"a\" :unit-price 1}]"));
}

TEST_CASE("error: a status carries its reason and all of its facts") {
  stm::ErrorInfo info;
  info.reason = stm::Reason::kConflict;
  info.name = "/a";
  info.limit = "value_bytes_max";
  info.limit_value = 1048576;
  info.retry_after = absl::Milliseconds(20);
  info.cause = "compare";
  info.rule = Edn("[:and :int [:min 0]]");
  info.causes.push_back(stm::ConflictCause{"/a", 41, stm::Meta{"signup", "web", "", ""}});
  absl::Status status = stm::MakeError(absl::StatusCode::kAborted, "conflict: again", info);
  CHECK(stm::IsConflict(status));
  stm::ErrorInfo back = stm::InfoOf(status);
  CHECK(back.name == "/a");
  CHECK(back.limit == "value_bytes_max");
  CHECK(back.limit_value == 1048576);
  CHECK(back.retry_after == absl::Milliseconds(20));
  CHECK(back.cause == "compare");
  CHECK(*back.rule == *info.rule);
  REQUIRE(back.causes.size() == 1);
  CHECK(back.causes[0].by.label == "signup");
  CHECK(back.causes[0].version == 41);
  CHECK(stm::ReasonOf(absl::OkStatus()) == stm::Reason::kNone);
  CHECK(stm::ReasonOf(absl::AbortedError("another's")) == stm::Reason::kNone);
}
