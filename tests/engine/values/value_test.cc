// Values alone: equality, hashes, sizes, depth, lifetime.
#include <rapidcheck/catch.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <sstream>
#include <thread>
#include <unordered_map>

#include "absl/hash/hash.h"
#include "engine/values/edn.h"
#include "engine/values/hash.h"
#include "tests/engine/values/generators.h"

namespace stm {
namespace {

TEST_CASE("value: equal values have equal hashes, sizes and depths, however they were built") {
  rc::prop("rebuilt", [](const Value& value) {
    const Value other = Rebuilt(value);
    RC_ASSERT(value == other);
    RC_ASSERT(other == value);
    RC_ASSERT(value.hash() == other.hash());
    RC_ASSERT(value.edn_size() == other.edn_size());
    RC_ASSERT(value.depth() == other.depth());
  });
}

TEST_CASE("value: equality is what the printed forms say, but for the order of maps and sets") {
  rc::prop("two values", [](const Value& a, const Value& b) {
    RC_ASSERT(a == a);
    if (ToEdn(a) == ToEdn(b)) RC_ASSERT(a == b);
    RC_ASSERT((a == b) == (b == a));
    if (a == b) RC_ASSERT(a.hash() == b.hash());
    RC_ASSERT(a != Value::OfVector({a}));
  });
}

TEST_CASE("value: every type differs from every other of like content") {
  const std::vector<Value> values = {
      Value(),
      Value::Boolean(false),
      Value::Boolean(true),
      Value::Integer(0),
      Value::Integer(1),
      Value::BigInt("1"),
      Value::Double(0.0),
      Value::Double(-0.0),
      Value::Double(1.0),
      Value::Double(std::numeric_limits<double>::quiet_NaN()),
      Value::Decimal("1"),
      Value::Decimal("1.0"),
      Value::Decimal("1E+1"),
      Value::Decimal("10"),
      Value::Character('a'),
      Value::String("a"),
      Value::Bytes("a"),
      Value::Keyword("a"),
      Value::Symbol("a"),
      Value::String(""),
      Value::Bytes(""),
      Value::OfInstant({0, 0}),
      Value::OfInstant({0, 1}),
      Value::OfInstant({1, 0}),
      Value::OfUuid({0, 0}),
      Value::OfUuid({0, 1}),
      Value::List(Vector()),
      Value::OfVector(Vector()),
      Value::OfMap(Map()),
      Value::OfSet(Set()),
      Value::List({Value()}),
      Value::OfVector({Value()}),
      Value::OfSet(Set({Value()})),
      Value::OfMap(Map({{Value(), Value()}})),
      Value::Tagged("a", Value()),
      Value::Tagged("b", Value()),
      Value::Tagged("a", Value::Tagged("a", Value())),
  };
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t j = 0; j < values.size(); ++j) {
      INFO(values[i] << " and " << values[j]);
      CHECK((values[i] == values[j]) == (i == j));
      if (i != j) CHECK(values[i].hash() != values[j].hash());
    }
  }
}

TEST_CASE("value: hashes are what they were in every log written so far") {
  // SipHash itself: the paper's own example, appendix A.
  std::string input;
  for (char c = 0; c < 15; ++c) input += c;
  CHECK(SipHash<2, 4>(0x0706050403020100u, 0x0f0e0d0c0b0a0908u, input) == 0xa129ca6149be45e5u);
  const std::vector<std::pair<const char*, uint64_t>> golden = {
      {"nil", 0xfcc0e5c1d2c243b7},
      {"true", 0xe1b99d2ec385ecfe},
      {"false", 0xc7fbcda2e5c638c4},
      {"0", 0xf92c6f542bd459df},
      {"-1", 0x930c7bce981323a3},
      {"42", 0x7e50c44a253814d5},
      {"9223372036854775808N", 0xa3dce6e95f21d626},
      {"1.5", 0xd12607e90bba2415},
      {"-0.0", 0xc4043d80fb095c64},
      {"##NaN", 0xb4588c1fd495e17e},
      {"1.50M", 0x2c399f2f75569d21},
      {"\\a", 0xc30e678d5b9696f0},
      {"\"\"", 0x8eb84522d06e65e},
      {"\"Bob\"", 0x602ba8e423d68112},
      {"\"a string that is longer than one word of eight bytes\"", 0x621625ba0078cabd},
      {"#stm/bytes \"AP8=\"", 0x4e8c9c709e1abd3e},
      {":name", 0xb6c6c5d25b87ad13},
      {":blog/name", 0x80ef1ceb3f1bb91},
      {"sym", 0x708c8bd7719b1087},
      {"#inst \"2026-11-22T03:00:00.123456Z\"", 0xe3ac585bd2c968e1},
      {"#uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"", 0x964c501c30d516c0},
      {"()", 0x46efc780fc91a911},
      {"[]", 0xf21de4f195e40f4e},
      {"{}", 0x8fe0f2b7bad50f66},
      {"#{}", 0x819ea56705511525},
      {"(1 2)", 0x7fbfbd76b47217c9},
      {"[1 2]", 0x8b080a9a606406ac},
      {"[2 1]", 0x76facb130a5b2d51},
      {"{:a 1, :b [2]}", 0x735986788658e0c2},
      {"{:b [2], :a 1}", 0x735986788658e0c2},
      {"#{1 2 3}", 0xbf852f732d2de382},
      {"#blog.CreateUser{:name \"Bob\"}", 0xc4a368865b665212},
  };
  for (const auto& [text, hash] : golden) {
    INFO(text << " 0x" << std::hex << ReadEdn(text)->hash());
    CHECK(ReadEdn(text)->hash() == hash);
  }
}

TEST_CASE("value: hashes are kept by collections: the same whether made anew or followed through changes") {
  Vector vector;
  Map map;
  for (int i = 0; i < 2000; ++i) {
    vector = vector.Push(Value::Integer(i));
    map = map.Assoc(Value::Integer(i), Value::Integer(-i));
    vector.items_hash();
    map.entries_hash();
    if (i % 3 == 0) vector = vector.DropFront(1);
    if (i % 3 == 1) map = map.Dissoc(Value::Integer(i / 2));
  }
  CHECK(Value::OfVector(vector).hash() == ReadEdn(ToEdn(Value::OfVector(vector)))->hash());
  CHECK(Value::OfMap(map).hash() == ReadEdn(ToEdn(Value::OfMap(map)))->hash());
}

TEST_CASE("value: NaN equals NaN, whatever its bits") {
  const Value a = Value::Double(std::nan("1")), b = Value::Double(-std::nan("2"));
  CHECK(a == b);
  CHECK(a.hash() == b.hash());
  CHECK(Set({a, b}).size() == 1);
}

TEST_CASE("value: digits are made canonical") {
  CHECK(Value::BigInt("-0").text() == "0");
  CHECK(Value::BigInt("+12").text() == "12");
  const std::vector<std::pair<const char*, const char*>> decimals = {
      {"1.50", "1.50"},      {"1e3", "1E+3"},      {"1.0E+3", "1.0E+3"},
      {"10E2", "1.0E+3"},    {"-0.00", "0.00"},    {"0.000001", "0.000001"},
      {"0.0000001", "1E-7"}, {"12.5e-2", "0.125"}, {"0e-10", "0E-10"},
      {"+7", "7"},           {"123e-2", "1.23"},   {"0E3", "0E+3"},
      {"1E0", "1"},
  };
  for (const auto& [digits, canonical] : decimals) {
    CHECK(Value::Decimal(digits).text() == canonical);
    CHECK(Value::Decimal(canonical).text() == canonical);
  }
}

TEST_CASE("value: depth counts what is nested") {
  CHECK(Value::Integer(1).depth() == 1);
  CHECK(Value::OfVector(Vector()).depth() == 1);
  CHECK(Value::OfVector({Value()}).depth() == 2);
  CHECK(Value::Tagged("t", Value::OfMap(Map({{Value(), Value::OfVector({Value()})}}))).depth() == 4);
}

TEST_CASE("value: a uuid's text is read in either case and written in lower") {
  const auto uuid = ParseUuid("F81D4FAE-7dec-11d0-a765-00a0c91e6bf6");
  REQUIRE(uuid);
  CHECK(ToString(*uuid) == "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
  CHECK(uuid->high == 0xf81d4fae7dec11d0u);
  for (const char* bad : {"", "f81d4fae-7dec-11d0-a765-00a0c91e6bf", "f81d4fae07dec-11d0-a765-00a0c91e6bf6",
                          "g81d4fae-7dec-11d0-a765-00a0c91e6bf6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf60"}) {
    CHECK_FALSE(ParseUuid(bad));
  }
}

TEST_CASE("value: one nested a million deep by hand is told and dropped without a million frames") {
  Value vector, map, tagged;
  for (int i = 0; i < 1'000'000; ++i) {
    vector = Value::OfVector({std::move(vector)});
    map = Value::OfMap(Map({{Value::Integer(1), std::move(map)}}));
    tagged = Value::Tagged("t", std::move(tagged));
  }
  for (Value* value : {&vector, &map, &tagged}) {
    CHECK(value->depth() == 1'000'001);
    CHECK_FALSE(Check(*value).ok());
    *value = Value();
  }
}

TEST_CASE("value: copies, moves and self-assignment keep what they should") {
  Value a = Value::String("some text that is long enough");
  Value b = a;
  CHECK(a.identical(b));
  Value c = std::move(b);
  CHECK(b.is_nil());  // NOLINT: moved from is nil
  const Value& same = c;
  c = same;
  CHECK(c == a);
  c = Value::OfInstant({5, 7});
  c = Value();
  CHECK(c.identical(Value()));
  // A reference into a value outlives it while another copy holds the same.
  Value vector = Value::OfVector({Value::Integer(1)});
  const Value copy = vector;
  const Vector& items = vector.items();
  Value moved = std::move(vector);
  moved = Value();
  CHECK(items.at(0) == Value::Integer(1));
}

TEST_CASE("value: as a key of an unordered map, and streamed") {
  std::unordered_map<Value, int, absl::Hash<Value>> counts;
  ++counts[Value::Keyword("a")];
  ++counts[Value::Keyword("a")];
  ++counts[Value::Symbol("a")];
  CHECK(counts.size() == 2);
  std::ostringstream out;
  out << Value::Keyword("a") << " " << std::optional<Value>();
  CHECK(out.str() == ":a absent");
}

TEST_CASE("value: shared by threads, it is counted and hashed right") {
  std::vector<Value> items;
  for (int i = 0; i < 200; ++i) items.push_back(Value::String("item " + std::to_string(i)));
  const Value shared =
      Value::OfMap(Map({{Value::Keyword("a"), Value::OfVector(items)}, {Value::OfSet(Set(items)), Value()}}));
  const Value fresh = *ReadEdn(ToEdn(shared));
  std::vector<std::thread> threads;
  std::vector<uint64_t> hashes(4);
  for (size_t t = 0; t < hashes.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        Value copy = fresh;
        Vector longer = copy.map().Find(Value::Keyword("a"))->items().Push(Value::Integer(i)).DropFront(3);
        hashes[t] = copy.hash() + Value::OfVector(longer).hash() * 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (uint64_t hash : hashes) CHECK(hash == shared.hash());
}

}  // namespace
}  // namespace stm
