#include "tests/mongodb/shell.h"

#include <mongoc/mongoc.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace stm::mongodb {
namespace {

void Require(bool done, const char* what, const bson_error_t& error) {
  if (done) return;
  std::fprintf(stderr, "shell: %s: %s\n", what, error.message);
  std::abort();
}

class Json {
 public:
  explicit Json(const std::string& text) {
    bson_error_t error = {};
    document_ = bson_new_from_json(reinterpret_cast<const uint8_t*>(text.data()),
                                   static_cast<ssize_t>(text.size()), &error);
    Require(document_ != nullptr, text.c_str(), error);
  }
  Json(const Json&) = delete;
  Json& operator=(const Json&) = delete;
  ~Json() { bson_destroy(document_); }
  const bson_t* get() const { return document_; }

 private:
  bson_t* document_;
};

}  // namespace

class Shell::Rep {
 public:
  explicit Rep(const std::string& uri) {
    mongoc_init();
    client_ = mongoc_client_new(uri.c_str());
    Require(client_ != nullptr, "this is no URI", bson_error_t());
    database_ = mongoc_uri_get_database(mongoc_client_get_uri(client_));
  }
  ~Rep() { mongoc_client_destroy(client_); }

  template <typename Do>
  void With(const std::string& collection, const char* what, const Do& act) {
    bson_error_t error = {};
    mongoc_collection_t* documents =
        mongoc_client_get_collection(client_, database_.c_str(), collection.c_str());
    const bool done = act(documents, &error);
    mongoc_collection_destroy(documents);
    Require(done, what, error);
  }

  void DropDatabase() {
    bson_error_t error = {};
    mongoc_database_t* database = mongoc_client_get_database(client_, database_.c_str());
    const bool done = mongoc_database_drop(database, &error);
    mongoc_database_destroy(database);
    Require(done, "drop", error);
  }

 private:
  mongoc_client_t* client_;
  std::string database_;
};

Shell::Shell(const std::string& uri) : rep_(std::make_unique<Rep>(uri)) {}

Shell::~Shell() = default;

std::vector<std::string> Shell::Find(const std::string& collection, const std::string& filter) {
  std::vector<std::string> found;
  rep_->With(collection, "find", [&](mongoc_collection_t* documents, bson_error_t* error) {
    const Json query(filter), options(R"({"sort": {"_id": 1}})");
    mongoc_cursor_t* cursor =
        mongoc_collection_find_with_opts(documents, query.get(), options.get(), nullptr);
    const bson_t* document = nullptr;
    while (mongoc_cursor_next(cursor, &document)) {
      size_t length = 0;
      char* text = bson_as_relaxed_extended_json(document, &length);
      found.emplace_back(text, length);
      bson_free(text);
    }
    const bool failed = mongoc_cursor_error(cursor, error);
    mongoc_cursor_destroy(cursor);
    return !failed;
  });
  return found;
}

void Shell::Insert(const std::string& collection, const std::string& document) {
  rep_->With(collection, "insert", [&](mongoc_collection_t* documents, bson_error_t* error) {
    const Json json(document);
    return mongoc_collection_insert_one(documents, json.get(), nullptr, nullptr, error);
  });
}

void Shell::Set(const std::string& collection, const std::string& id, const std::string& fields) {
  rep_->With(collection, "update", [&](mongoc_collection_t* documents, bson_error_t* error) {
    const Json filter(absl::StrCat(R"({"_id": ")", id, R"("})")),
        update(absl::StrCat(R"({"$set": )", fields, "}"));
    return mongoc_collection_update_one(documents, filter.get(), update.get(), nullptr, nullptr, error);
  });
}

void Shell::DropDatabase() { rep_->DropDatabase(); }

}  // namespace stm::mongodb
