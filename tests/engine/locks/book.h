// Book is entries in a map, on which a test runs procedures one after another, as commits do.
#ifndef STM_TESTS_ENGINE_LOCKS_BOOK_H_
#define STM_TESTS_ENGINE_LOCKS_BOOK_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/locks/lock.h"
#include "engine/locks/session.h"
#include "engine/procedure.h"
#include "engine/transaction.h"
#include "engine/values/edn.h"

namespace stm::engine {

class Book {
 public:
  struct Line {
    Value value;
    std::shared_ptr<const Definition> definition;
  };

  // Nothing is changed by an error, or when nothing is to be.
  absl::StatusOr<Value> Run(const std::shared_ptr<const Procedure>& procedure) {
    View view(this);
    absl::StatusOr<Value> result = procedure->Run(&view);
    if (result.ok() && view.changed) {
      lines = std::move(view.lines);
      ++version;
    }
    return result;
  }

  absl::StatusOr<LockAnswer> Answer(const std::shared_ptr<const Procedure>& procedure) {
    absl::StatusOr<Value> result = Run(procedure);
    if (!result.ok()) return result.status();
    return LockAnswer::FromValue(*result);
  }

  std::optional<Value> Get(const std::string& name) const {
    auto it = lines.find(name);
    return it == lines.end() ? std::nullopt : std::optional<Value>(it->second.value);
  }

  LockState Lock(const std::string& lock) const { return *ReadLock(lock, Get(LockEntry(lock))); }

  std::map<std::string, Line> lines;
  int64_t version = 1;

 private:
  class View : public EntryView {
   public:
    explicit View(Book* book) : lines(book->lines), book_(book) {}
    std::optional<Value> Get(std::string_view name) override {
      auto it = lines.find(std::string(name));
      return it == lines.end() ? std::nullopt : std::optional<Value>(it->second.value);
    }
    std::string SessionOf(std::string_view name) override {
      auto it = lines.find(std::string(name));
      return it == lines.end() || it->second.definition == nullptr ? "" : it->second.definition->session_id;
    }
    void Set(std::string_view name, Value value, std::shared_ptr<const Definition> definition) override {
      auto [it, created] = lines.try_emplace(std::string(name));
      if (created) it->second.definition = std::move(definition);
      it->second.value = std::move(value);
      Count(name);
    }
    void Delete(std::string_view name) override {
      lines.erase(std::string(name));
      Count(name);
    }
    int64_t bytes() const override { return bytes_; }
    int64_t entries() const override { return static_cast<int64_t>(touched_.size()); }
    int64_t version() const override { return book_->version; }
    Instant now() const override { return {1'800'000'000 + book_->version, 0}; }

    std::map<std::string, Line> lines;
    bool changed = false;

   private:
    void Count(std::string_view name) {
      changed = true;
      if (auto it = lines.find(std::string(name)); it != lines.end())
        bytes_ += static_cast<int64_t>(it->second.value.edn_size());
      touched_.insert({std::string(name), 0});
    }

    Book* const book_;
    int64_t bytes_ = 0;
    std::map<std::string, int> touched_;
  };
};

}  // namespace stm::engine

#endif  // STM_TESTS_ENGINE_LOCKS_BOOK_H_
