// Measures a write into a MongoDB container against an insert of the same document by MongoDB's own library,
// with as many connections and the same promises: a majority's journals. Round by round, on one server:
// FerretDB's, or the one that STMD_TEST_MONGODB_URI names.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "backends/mongodb/container.h"
#include "engine/values/value.h"
#include "tests/bench/measure.h"
#include "tests/bench/process.h"
#include "tests/bench/raw_mongodb.h"
#include "tests/mongodb/server.h"
#include "tests/mongodb/shell.h"

namespace stm::bench {
namespace {

constexpr int kCallers = 64;
constexpr absl::Duration kWithin = absl::Seconds(60);
constexpr double kWarmUpSeconds = 1;
constexpr char kName[] = "/accounts/7";
constexpr int kTextBytes = 100;

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
  const std::string text(kTextBytes, 'x');
  auto raw = std::make_unique<RawMongoDb>(uri, kCallers, text);
  const Value value = Value::String(text);
  const auto insert = [&](int64_t i) { raw->Insert(kName, absl::StrCat(i)); };
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
    const Inserted limit = ByThreads(callers, each, insert);
    return std::make_pair(limit, ByThreads(callers, each, set));
  };
  both(kCallers, kWarmUpSeconds);
  for (int round = 0; round < rounds; ++round) {
    // What the machine gives is not measured: both are what a server of the same machine leaves them.
    const auto [insert_one, set_one] = both(1, seconds);
    const Inserted get_one = ByThreads(1, seconds, get);
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
