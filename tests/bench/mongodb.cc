// Measures a write into a MongoDB container against an insert of the same document by MongoDB's own library,
// with as many connections and the same promises: a majority's journals. Round by round, on one server:
// FerretDB's, or the one that STMD_TEST_MONGODB_URI names.
#include <mongoc/mongoc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "backends/mongodb/container.h"
#include "engine/values/map.h"
#include "tests/bench/measure.h"
#include "tests/bench/process.h"
#include "tests/mongodb/server.h"
#include "tests/mongodb/shell.h"

namespace stm::bench {
namespace {

constexpr int kCallers = 64;
constexpr absl::Duration kWithin = absl::Seconds(60);
constexpr double kWarmUpSeconds = 1;
constexpr char kName[] = "/accounts/7";
constexpr int kTextBytes = 100;

struct Measured {
  double p50_us = 0;
  double rate = 0;
};

// `write(i)` again and again, by so many threads. No i comes twice.
Measured Measure(int callers, double seconds, const std::function<void(int64_t)>& write) {
  static std::atomic<int64_t> next = 0;
  std::vector<std::vector<double>> latencies(static_cast<size_t>(callers));
  std::vector<std::thread> threads;
  const double from = Now();
  for (std::vector<double>& own : latencies) {
    threads.emplace_back([&] {
      for (double began = Now(); began - from < seconds;) {
        write(next++);
        const double ended = Now();
        own.push_back((ended - began) * 1e6);
        began = ended;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double took = Now() - from;
  std::vector<double> all;
  for (const std::vector<double>& own : latencies) all.insert(all.end(), own.begin(), own.end());
  return {Median(all), static_cast<double>(all.size()) / took};
}

// The library alone: a document of the same fields.
class Raw {
 public:
  explicit Raw(const std::string& uri) {
    mongoc_uri_t* parsed = mongoc_uri_new(uri.c_str());
    if (parsed == nullptr) Fail("no URI of MongoDB");
    mongoc_write_concern_t* concern = mongoc_write_concern_new();
    mongoc_write_concern_set_wmajority(concern, 0);
    mongoc_write_concern_set_journal(concern, true);
    mongoc_uri_set_write_concern(parsed, concern);
    mongoc_write_concern_destroy(concern);
    mongoc_uri_set_option_as_int32(parsed, MONGOC_URI_MAXPOOLSIZE, kCallers);
    database_ = mongoc_uri_get_database(parsed);
    pool_ = mongoc_client_pool_new(parsed);
    mongoc_uri_destroy(parsed);
  }
  ~Raw() { mongoc_client_pool_destroy(pool_); }

  void Insert(const std::string& stamp) {
    mongoc_client_t* client = mongoc_client_pool_pop(pool_);
    mongoc_collection_t* collection = mongoc_client_get_collection(client, database_.c_str(), "raw");
    const std::string id = absl::StrCat(kName, "@", stamp);
    bson_t document = BSON_INITIALIZER, value;
    bson_append_utf8(&document, "_id", -1, id.c_str(), -1);
    bson_append_utf8(&document, "name", -1, kName, -1);
    bson_append_utf8(&document, "stamp", -1, stamp.c_str(), -1);
    bson_append_document_begin(&document, "value", -1, &value);
    bson_append_int64(&value, "balance", -1, 100);
    bson_append_utf8(&value, "text", -1, text_.c_str(), -1);
    bson_append_document_end(&document, &value);
    bson_error_t error;
    if (!mongoc_collection_insert_one(collection, &document, nullptr, nullptr, &error)) Fail(error.message);
    bson_destroy(&document);
    mongoc_collection_destroy(collection);
    mongoc_client_pool_push(pool_, client);
  }

 private:
  const std::string text_ = std::string(kTextBytes, 'x');
  std::string database_;
  mongoc_client_pool_t* pool_;
};

int Main(int argc, char** argv) {
  CLI::App app{"Measures writes into a MongoDB container against inserts by MongoDB's own library."};
  int rounds = 7;
  double seconds = 1;
  std::string json;
  app.add_option("--rounds", rounds, "Rounds of each row")->capture_default_str();
  app.add_option("--seconds", seconds, "Seconds of one measurement in a round")->capture_default_str();
  app.add_option("--json", json, "Writes the rows there as well");
  CLI11_PARSE(app, argc, argv);

  std::unique_ptr<mongodb::Server> server;
  std::string uri = mongodb::GivenUri();
  if (uri.empty()) {
    if (const std::string why = mongodb::WhyNoServer(); !why.empty())
      Fail("no server of MongoDB's wire: " + why);
    server = std::make_unique<mongodb::Server>();
    uri = server->uri();
  }
  uri = mongodb::WithDatabase(uri, absl::StrCat("stmd_test_bench_", static_cast<int64_t>(Now() * 1e6)));

  absl::StatusOr<containers::Container> container = mongodb::OpenContainer(uri);
  if (!container.ok()) Fail(container.status().ToString());
  auto raw = std::make_unique<Raw>(uri);
  const Value value =
      Value::OfMap(Map({{Value::Keyword("balance"), Value::Integer(100)},
                        {Value::Keyword("text"), Value::String(std::string(kTextBytes, 'x'))}}));
  const auto insert = [&](int64_t i) { raw->Insert(absl::StrCat(i)); };
  const auto set = [&](int64_t i) {
    const absl::Status status = container->refs->SetStateAt(kName, absl::StrCat(i), value, kWithin);
    if (!status.ok()) Fail(status.ToString());
  };
  const auto get = [&](int64_t i) {
    const auto got = container->refs->GetStateAt(kName, "read", kWithin);
    if (!got.ok()) Fail(got.status().ToString());
  };
  if (absl::Status status = container->refs->SetStateAt(kName, "read", value, kWithin); !status.ok())
    Fail(status.ToString());

  std::vector<Row> rows = {
      {"mongodb_write", "us p50", "one insert by libmongoc", Bar::kAtMost, 1.3, {}},
      {"mongodb_write_64", "/s", "inserts by libmongoc, 64 threads", Bar::kAtLeast, 0.5, {}},
      {"mongodb_read", "us p50", "one insert by libmongoc", Bar::kAtMost, 1.3, {}},
  };
  const auto both = [&](int callers, double each) {
    const Measured limit = Measure(callers, each, insert);
    return std::make_pair(limit, Measure(callers, each, set));
  };
  both(kCallers, kWarmUpSeconds);
  for (int round = 0; round < rounds; ++round) {
    // What the machine gives is not measured: both are what a server of the same machine leaves them.
    const auto [insert_one, set_one] = both(1, seconds);
    const Measured get_one = Measure(1, seconds, get);
    rows[0].rounds.push_back(
        {set_one.p50_us, insert_one.p50_us, set_one.p50_us / insert_one.p50_us, kCoresMin});
    rows[2].rounds.push_back(
        {get_one.p50_us, insert_one.p50_us, get_one.p50_us / insert_one.p50_us, kCoresMin});
    const auto [insert_many, set_many] = both(kCallers, seconds);
    rows[1].rounds.push_back({set_many.rate, insert_many.rate, set_many.rate / insert_many.rate, kCoresMin});
    std::fprintf(stderr,
                 "mongodb: round %d of %d: insert %.0f us, set %.0f us; 64: insert %.0f/s, set %.0f/s\n",
                 round + 1, rounds, insert_one.p50_us, set_one.p50_us, insert_many.rate, set_many.rate);
  }
  raw.reset();
  container = absl::CancelledError();
  mongodb::Shell(uri).DropDatabase();
  return Show(rows, json);
}

}  // namespace
}  // namespace stm::bench

int main(int argc, char** argv) { return stm::bench::Main(argc, argv); }
