// Persistent vectors, maps and sets against plain models.
#include <rapidcheck/catch.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <unordered_map>

#include "absl/hash/hash.h"
#include "engine/values/edn.h"
#include "tests/engine/values/generators.h"

namespace stm {
namespace {

std::vector<Value> Ints(int from, int to) {
  std::vector<Value> items;
  for (int i = from; i < to; ++i) items.push_back(Value::Integer(i));
  return items;
}

void CheckSame(const Vector& vector, const std::vector<Value>& model) {
  REQUIRE(vector.size() == model.size());
  size_t i = 0;
  size_t size = 0;
  for (const Value& item : vector) {
    if (!(item == model[i])) FAIL("item " << i << " is " << item << ", not " << model[i]);
    size += item.edn_size();
    ++i;
  }
  REQUIRE(i == model.size());
  for (size_t j = 0; j < model.size(); j += 1 + j / 7) REQUIRE(vector.at(j) == model[j]);
  REQUIRE(vector.items_edn_size() == size);
  const Vector fresh{model};
  REQUIRE(vector == fresh);
  REQUIRE(vector.items_hash() == fresh.items_hash());
  REQUIRE(vector.items_depth() >= fresh.items_depth());
}

TEST_CASE("vector: any run of changes does what a plain vector does, and old versions stay") {
  // Sizes around the borders of leaves (32) and of levels (1024 + 32, 32768 + 32).
  for (const int start : {0, 1, 31, 32, 33, 64, 65, 1023, 1024, 1056, 1057, 1088, 32800, 32801, 33000}) {
    std::mt19937 random(static_cast<unsigned>(start) + 17);
    std::vector<Value> model = Ints(0, start);
    Vector vector{model};
    std::vector<std::pair<Vector, std::vector<Value>>> old;
    const int steps = start > 2000 ? 30 : 300;
    int next = 1'000'000;
    for (int step = 0; step < steps; ++step) {
      if (step % (steps / 6) == 0) old.emplace_back(vector, model);
      if (random() % 3 == 0) vector.items_hash();  // so that hashes are kept up, not only made anew
      const size_t n = model.size();
      switch (random() % 9) {
        case 0:
        case 1: {
          vector = vector.Push(Value::Integer(next));
          model.push_back(Value::Integer(next++));
          break;
        }
        case 2: {
          const std::vector<Value> more = Ints(next, next + static_cast<int>(random() % 70));
          next += static_cast<int>(more.size());
          vector = random() % 2 ? vector.PushAll(more.data(), more.size()) : vector.Concat(Vector(more));
          model.insert(model.end(), more.begin(), more.end());
          break;
        }
        case 3:
        case 4: {
          if (n == 0) break;
          const size_t i = random() % n;
          vector = vector.Assoc(i, Value::String(std::to_string(step)));
          model[i] = Value::String(std::to_string(step));
          break;
        }
        case 5: {
          const size_t drop = random() % (std::min<size_t>(n, 40) + 1);
          vector = vector.DropBack(drop);
          model.resize(n - drop);
          break;
        }
        case 6:
        case 7: {
          const size_t drop = random() % (std::min<size_t>(n, 50) + 1);
          vector = vector.DropFront(drop);
          model.erase(model.begin(), model.begin() + static_cast<long>(drop));
          break;
        }
        default: {
          if (random() % 8 != 0) break;
          const std::vector<Value> front = Ints(next, next + 3);
          next += 3;
          vector = vector.PushFront(front);
          model.insert(model.begin(), front.begin(), front.end());
        }
      }
      if (step % (start > 2000 ? 10 : 7) == 0) CheckSame(vector, model);
    }
    CheckSame(vector, model);
    for (const auto& [kept, as_it_was] : old) CheckSame(kept, as_it_was);
  }
}

TEST_CASE("vector: all of it can be dropped from either end, in any steps") {
  for (const int size : {1, 32, 33, 100, 1056, 1057, 34000}) {
    for (const size_t step : {size_t{1}, size_t{31}, size_t{1000}}) {
      if (static_cast<size_t>(size) / step > 1100) continue;
      Vector back(Ints(0, size)), front = back;
      while (!back.empty()) {
        const size_t drop = std::min(step, back.size());
        back = back.DropBack(drop);
        front = front.DropFront(drop);
        REQUIRE(back.size() == front.size());
        if (back.empty()) break;
        REQUIRE(back.at(0) == Value::Integer(0));
        REQUIRE(back.at(back.size() - 1) == Value::Integer(static_cast<int64_t>(back.size()) - 1));
        REQUIRE(front.at(front.size() - 1) == Value::Integer(size - 1));
        REQUIRE(front.at(0) == Value::Integer(size - static_cast<int64_t>(front.size())));
      }
      CHECK(front.items_edn_size() == 0);
    }
  }
}

TEST_CASE("vector: a queue that a million items pass through stays as small as what it holds") {
  Vector queue(Ints(0, 50));
  Value big = Value::String(std::string(100, 'x'));
  for (int i = 50; i < 1'000'000; ++i) queue = queue.Push(Value::Integer(i)).DropFront(1);
  CheckSame(queue, Ints(999'950, 1'000'000));
}

TEST_CASE("vector: depth is exact again once the deep item is gone from a small one") {
  const Value deep = Value::OfVector({Value::OfVector({Value()})});
  Vector vector({Value::Integer(1), deep});
  CHECK(vector.items_depth() == 3);
  CHECK(vector.Assoc(1, Value()).items_depth() == 1);
  CHECK(vector.DropBack(1).items_depth() == 1);
}

using Entries = std::vector<std::pair<Value, Value>>;

void CheckSame(const Map& map, const Entries& model) {
  REQUIRE(map.size() == model.size());
  size_t i = 0, size = 0;
  for (const auto [key, value] : map) {
    if (!(key == model[i].first && value == model[i].second))
      FAIL("entry " << i << " is " << key << " " << value);
    size += key.edn_size() + value.edn_size();
    ++i;
  }
  REQUIRE(i == model.size());
  REQUIRE(map.entries_edn_size() == size);
  for (const auto& [key, value] : model) {
    const Value* found = map.Find(key);
    REQUIRE(found != nullptr);
    REQUIRE(*found == value);
  }
  REQUIRE(map.Find(Value::Keyword("never-there")) == nullptr);
  Entries reversed(model.rbegin(), model.rend());
  const Map fresh{reversed};
  REQUIRE(map == fresh);
  REQUIRE(map.entries_hash() == fresh.entries_hash());
}

TEST_CASE("map: any run of changes does what an ordered list of entries does, and old versions stay") {
  for (const int range : {4, 12, 20, 40, 400, 3000}) {
    std::mt19937 random(static_cast<unsigned>(range));
    Map map;
    Entries model;
    std::vector<std::pair<Map, Entries>> old;
    const int steps = range < 100 ? 1500 : 6000;
    for (int step = 0; step < steps; ++step) {
      if (step % (steps / 5) == 0) old.emplace_back(map, model);
      if (random() % 4 == 0) map.entries_hash();
      const int64_t n = static_cast<int64_t>(random() % static_cast<unsigned>(range));
      const Value key = n % 3 == 0 ? Value::Keyword("k" + std::to_string(n)) : Value::Integer(n);
      const auto at =
          std::find_if(model.begin(), model.end(), [&](const auto& entry) { return entry.first == key; });
      // Grows, then shrinks, then grows.
      const unsigned removes = step % 1000 < 500 ? 1 : 3;
      if (random() % 4 < removes) {
        map = map.Dissoc(key);
        if (at != model.end()) model.erase(at);
      } else {
        map = map.Assoc(key, Value::Integer(step));
        if (at != model.end()) {
          at->second = Value::Integer(step);
        } else {
          model.emplace_back(key, Value::Integer(step));
        }
      }
      if (step % (range < 100 ? 5 : 200) == 0) CheckSame(map, model);
    }
    CheckSame(map, model);
    for (const auto& [kept, as_it_was] : old) CheckSame(kept, as_it_was);
    while (!model.empty()) {
      const size_t i = random() % model.size();
      map = map.Dissoc(model[i].first);
      model.erase(model.begin() + static_cast<long>(i));
      if (model.size() % 64 < 3) CheckSame(map, model);
    }
    CHECK(map.empty());
  }
}

TEST_CASE("map: keys whose hashes agree in all bits that a trie looks at live side by side") {
  // By the birthday bound some dozen pairs of these agree.
  std::unordered_map<uint32_t, int64_t> seen;
  std::vector<std::pair<Value, Value>> pairs;
  for (int64_t i = 0; i < 400'000; ++i) {
    const uint64_t hash = absl::Hash<uint64_t>()(Value::Integer(i).hash());
    const auto [at, fresh] = seen.emplace(static_cast<uint32_t>(hash ^ (hash >> 32)), i);
    if (!fresh) pairs.emplace_back(Value::Integer(at->second), Value::Integer(i));
  }
  REQUIRE(pairs.size() > 2);
  Map map;
  for (int i = 0; i < 40; ++i) map = map.Assoc(Value::Integer(-1 - i), Value());
  for (const auto& [a, b] : pairs) map = map.Assoc(a, b).Assoc(b, a);
  const Map full = map;
  for (const auto& [a, b] : pairs) {
    REQUIRE(map.Find(a) != nullptr);
    CHECK(*map.Find(a) == b);
    CHECK(*map.Find(b) == a);
    map = map.Dissoc(a);
    CHECK(map.Find(a) == nullptr);
    REQUIRE(map.Find(b) != nullptr);
    CHECK(*map.Assoc(b, Value()).Find(b) == Value());
    map = map.Dissoc(b);
    CHECK(map.Find(b) == nullptr);
  }
  CHECK(map.size() == 40);
  CHECK(full.size() == 40 + 2 * pairs.size());
  CHECK(full == Map(full.Entries()));
}

TEST_CASE("map: later entries replace earlier ones and keep their place") {
  for (const int more : {0, 30}) {
    Entries entries;
    for (const char* key : {"a", "b", "a", "c", "b"}) {
      entries.emplace_back(Value::Keyword(key), Value::Integer(static_cast<int64_t>(entries.size())));
    }
    for (int i = 0; i < more; ++i) entries.emplace_back(Value::Integer(i), Value());
    const Map map(entries);
    CHECK(map.size() == 3 + static_cast<size_t>(more));
    const std::string printed = ToEdn(Value::OfMap(map));
    CHECK(printed.rfind("{:a 2, :b 4, :c 3", 0) == 0);
    CHECK(ToEdn(Value::OfMap(map.Assoc(Value::Keyword("a"), Value()))).rfind("{:a nil, :b 4, :c 3", 0) == 0);
  }
}

TEST_CASE("map: TakeDistinct names the first entry whose key was there before") {
  for (const int size : {3, 15, 16, 17, 100}) {
    for (int bad = 1; bad < size; bad += 1 + size / 9) {
      std::vector<Value> alternating;
      for (int i = 0; i < size; ++i) {
        alternating.push_back(Value::Integer(i == bad ? bad / 2 : i));
        alternating.push_back(Value());
      }
      Map map({{Value(), Value()}});
      CHECK(Map::TakeDistinct(alternating.data(), static_cast<size_t>(size), &map) ==
            static_cast<size_t>(bad));
      CHECK(map.size() == 1);
    }
  }
}

TEST_CASE("map: any value is a key") {
  rc::prop("find, assoc, dissoc", [](const std::vector<Value>& keys, const Value& other) {
    Map map;
    Entries model;
    for (const Value& key : keys) {
      map = map.Assoc(key, Value::Integer(1));
      if (std::none_of(model.begin(), model.end(), [&](const auto& e) { return e.first == key; })) {
        model.emplace_back(key, Value::Integer(1));
      }
    }
    RC_ASSERT(map.size() == model.size());
    for (const auto& [key, value] : model) RC_ASSERT(map.Find(Rebuilt(key)) != nullptr);
    const bool there = std::any_of(keys.begin(), keys.end(), [&](const Value& key) { return key == other; });
    RC_ASSERT((map.Find(other) != nullptr) == there);
    RC_ASSERT(map.Assoc(other, Value()).Dissoc(other).size() == model.size() - (there ? 1 : 0));
  });
}

TEST_CASE("set: keeps the order of its items, and each once") {
  Set set({Value::Integer(3), Value::Integer(1), Value::Integer(3)});
  CHECK(ToEdn(Value::OfSet(set)) == "#{3 1}");
  const Set more = set.Conj(Value::Integer(2)).Conj(Value::Integer(1));
  CHECK(ToEdn(Value::OfSet(more)) == "#{3 1 2}");
  CHECK(ToEdn(Value::OfSet(more.Disj(Value::Integer(3)).Disj(Value::Integer(9)))) == "#{1 2}");
  CHECK(ToEdn(Value::OfSet(set)) == "#{3 1}");
  CHECK(more.Contains(Value::Integer(2)));
  CHECK_FALSE(set.Contains(Value::Integer(2)));
  CHECK(Set({Value::Integer(1), Value::Integer(3)}) == set);
  CHECK(Set() == set.Disj(Value::Integer(3)).Disj(Value::Integer(1)));
}

}  // namespace
}  // namespace stm
