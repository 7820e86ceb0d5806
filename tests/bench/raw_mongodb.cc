#include "tests/bench/raw_mongodb.h"

#include <mongoc/mongoc.h>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/measure.h"
#include "tests/bench/process.h"

namespace stm::bench {

Inserted ByThreads(int threads, double seconds, const std::function<void(int64_t)>& write) {
  static std::atomic<int64_t> next = 0;
  std::vector<std::vector<double>> latencies(static_cast<size_t>(threads));
  std::vector<std::thread> running;
  const double from = Now();
  for (std::vector<double>& own : latencies) {
    running.emplace_back([&] {
      for (double began = Now(); began - from < seconds;) {
        write(next++);
        const double ended = Now();
        own.push_back((ended - began) * 1e6);
        began = ended;
      }
    });
  }
  for (std::thread& thread : running) thread.join();
  const double took = Now() - from;
  std::vector<double> all;
  for (const std::vector<double>& own : latencies) all.insert(all.end(), own.begin(), own.end());
  return {Median(all), static_cast<double>(all.size()) / took};
}

class RawMongoDb::Rep {
 public:
  Rep(const std::string& uri, int connections, std::string text) : text_(std::move(text)) {
    mongoc_uri_t* parsed = mongoc_uri_new(uri.c_str());
    if (parsed == nullptr) Fail("no URI of MongoDB: " + uri);
    mongoc_write_concern_t* concern = mongoc_write_concern_new();
    mongoc_write_concern_set_wmajority(concern, 0);
    mongoc_write_concern_set_journal(concern, true);
    mongoc_uri_set_write_concern(parsed, concern);
    mongoc_write_concern_destroy(concern);
    mongoc_uri_set_option_as_int32(parsed, MONGOC_URI_MAXPOOLSIZE, connections);
    const char* database = mongoc_uri_get_database(parsed);
    if (database == nullptr) Fail("a URI of MongoDB without a database: " + uri);
    database_ = database;
    pool_ = mongoc_client_pool_new(parsed);
    mongoc_uri_destroy(parsed);
  }
  ~Rep() { mongoc_client_pool_destroy(pool_); }

  void Insert(const std::string& name, const std::string& stamp) {
    mongoc_client_t* client = mongoc_client_pool_pop(pool_);
    mongoc_collection_t* collection = mongoc_client_get_collection(client, database_.c_str(), "raw");
    const std::string id = absl::StrCat(name, "@", stamp);
    bson_t document = BSON_INITIALIZER;
    bson_append_utf8(&document, "_id", -1, id.c_str(), -1);
    bson_append_utf8(&document, "name", -1, name.c_str(), -1);
    bson_append_utf8(&document, "stamp", -1, stamp.c_str(), -1);
    bson_append_utf8(&document, "value", -1, text_.c_str(), -1);
    bson_error_t error;
    if (!mongoc_collection_insert_one(collection, &document, nullptr, nullptr, &error)) Fail(error.message);
    bson_destroy(&document);
    mongoc_collection_destroy(collection);
    mongoc_client_pool_push(pool_, client);
  }

 private:
  const std::string text_;
  std::string database_;
  mongoc_client_pool_t* pool_ = nullptr;
};

RawMongoDb::RawMongoDb(const std::string& uri, int connections, std::string text)
    : rep_(std::make_unique<Rep>(uri, connections, std::move(text))) {}

RawMongoDb::~RawMongoDb() = default;

void RawMongoDb::Insert(const std::string& name, const std::string& stamp) { rep_->Insert(name, stamp); }

}  // namespace stm::bench
