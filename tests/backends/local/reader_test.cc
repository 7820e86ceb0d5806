#include <catch2/catch.hpp>
#include <string>

#include "backends/local/log_cursor.h"
#include "tests/backends/local/local_store.h"

namespace stm::local {
namespace {

using contract::ReadAll;
using contract::Set;
using Kind = engine::EntryChange::Kind;

const char kLong[] = "[1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30]";

TEST_CASE("log reader: operations are shown with their values, across files and from anywhere") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 1500;
  LocalStore store(options);
  store.Reopen();
  store.Put("/v", Edn(kLong));
  std::vector<Value> values = {*store.replica->entries["/v"].value};
  for (int i = 0; i < 60; ++i) {
    store.Apply("/v", "(conj " + std::to_string(i) + ")");
    values.push_back(*store.replica->entries["/v"].value);
  }
  REQUIRE(store.disk.Names("log-").size() > 2);
  for (engine::Version from : {0, 1, 2, 17, 40, 61}) {
    auto items = ReadAll(*store.local, from);
    engine::Version at = std::max<engine::Version>(from, 1);
    REQUIRE(items.size() == static_cast<size_t>(62 - at));
    for (const auto& item : items) {
      CHECK(item.commit->version == at);
      CHECK(item.commit->changes[0].value == values[static_cast<size_t>(at - 1)]);
      CHECK_FALSE(item.commit->changes[0].expected_hash);
      if (item.before_known[0] && at > 1) CHECK(item.before[0] == values[static_cast<size_t>(at - 2)]);
      ++at;
    }
  }
  CHECK(ReadAll(*store.local, 62).empty());
  auto history = store.local->History("/v", 0, 1000);
  REQUIRE(history.ok());
  REQUIRE(history->size() == 61);
  for (size_t i = 0; i < 61; ++i) {
    CHECK((*history)[i].commit->changes[0].value == values[60 - i]);
    CHECK((*history)[i].before_known[0]);
    if (i < 60) CHECK((*history)[i].before[0] == values[59 - i]);
  }
}

TEST_CASE("log reader: the value before is unknown, never nil, where the log does not tell") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 1;
  LocalStore store(options);
  store.Reopen();
  store.Put("/a", Value::Integer(1));
  store.Put("/b", Value::Integer(2));
  store.Put("/a", Value::Integer(3));
  auto from_start = ReadAll(*store.local, 0);
  CHECK(from_start[0].before_known[0]);
  CHECK_FALSE(from_start[0].before[0].has_value());
  CHECK(from_start[2].before_known[0]);
  CHECK(from_start[2].before[0] == Value::Integer(1));
  auto from_third = ReadAll(*store.local, 3);
  REQUIRE(from_third.size() == 1);
  CHECK_FALSE(from_third[0].before_known[0]);
  // History looks one commit further.
  auto history = store.local->History("/a", 0, 1);
  REQUIRE(history->size() == 1);
  CHECK((*history)[0].before_known[0]);
  CHECK((*history)[0].before[0] == Value::Integer(1));
}

TEST_CASE("log reader: deletes, expiries, definitions and kinds are told") {
  LocalStore store;
  store.Reopen();
  auto create = Set("/a", Value::Integer(1));
  create->changes[0].kind = Kind::kCreate;
  create->changes[0].entry_kind = engine::EntryKind::kAtom;
  store.Append({create});
  store.Put("/a", Value::Integer(2));
  auto define = Set("/a", Value());
  define->changes[0].kind = Kind::kDefine;
  define->changes[0].value.reset();
  define->changes[0].entry_kind = engine::EntryKind::kAtom;
  auto definition = std::make_shared<engine::Definition>();
  definition->ttl = absl::Seconds(3);
  define->changes[0].definition = definition;
  store.Append({define});
  auto expire = Set("/a", Value());
  expire->changes[0].kind = Kind::kExpire;
  expire->changes[0].value.reset();
  store.Append({expire});
  auto items = ReadAll(*store.local, 0);
  REQUIRE(items.size() == 4);
  for (const auto& item : items) CHECK(item.commit->changes[0].entry_kind == engine::EntryKind::kAtom);
  CHECK(items[1].commit->changes[0].kind == Kind::kSet);
  CHECK(items[2].commit->changes[0].kind == Kind::kDefine);
  CHECK(items[2].commit->changes[0].definition->ttl == absl::Seconds(3));
  CHECK(items[2].before[0] == Value::Integer(2));
  CHECK(items[3].commit->changes[0].kind == Kind::kExpire);
  CHECK(items[3].before[0] == Value::Integer(2));
}

TEST_CASE("log reader: names that need escaping are found in history") {
  LocalStore store;
  store.Reopen();
  store.Put("/q\"uote", Value::Integer(1));
  store.Put("/back\\slash", Value::Integer(2));
  store.Put("/é", Value::Integer(3));
  CHECK(store.local->History("/q\"uote", 0, 10)->size() == 1);
  CHECK(store.local->History("/back\\slash", 0, 10)->size() == 1);
  CHECK(store.local->History("/é", 0, 10)->size() == 1);
  CHECK(store.local->History("/none", 0, 10)->empty());
}

TEST_CASE("log reader: a cursor whose file is dropped reads it to its end, and says when there is a hole") {
  LocalOptions options = SmallOptions();
  options.segment_bytes = 1000;
  options.log_keep_age = absl::Minutes(1);
  LocalStore store(options);
  store.Reopen();
  for (int i = 1; i <= 40; ++i) store.Put("/a", Value::Integer(i));
  auto cursor = store.local->Open(1);
  REQUIRE(cursor.ok());
  REQUIRE((*cursor)->Next(1)->size() == 1);
  store.Snapshot();
  store.Put("/a", Value::Integer(41));
  store.Snapshot();
  store.loop.Advance(absl::Hours(3));
  store.local->Trim(40);
  store.loop.Turn();
  REQUIRE(store.local->FirstVersion() > 10);
  engine::Version last = 1;
  for (;;) {
    auto items = (*cursor)->Next(1);
    if (!items.ok()) {
      CHECK(items.status().code() == absl::StatusCode::kOutOfRange);
      break;
    }
    REQUIRE_FALSE(items->empty());
    CHECK((*items)[0].commit->version == last + 1);
    last = (*items)[0].commit->version;
  }
  CHECK(last > 1);
  CHECK(last < store.local->FirstVersion());
}

TEST_CASE("log reader: nothing is shown that is not durable") {
  LocalStore store;
  store.Reopen();
  store.Put("/a", Value::Integer(1));
  // Written, and not synced yet: as the file is in the middle of an append.
  std::string line;
  auto commit = Set("/a", Value::Integer(2));
  commit->version = 2;
  LinePrinter().Commit(*commit, 1, nullptr, &line);
  std::string& text = store.disk.bytes(kFirstLog);
  text.replace(text.find("\n\n") + 1, line.size(), line);
  CHECK(ReadAll(*store.local, 0).size() == 1);
}

}  // namespace
}  // namespace stm::local
