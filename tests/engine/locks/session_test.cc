#include "engine/locks/session.h"

#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "stm/v1/common.pb.h"
#include "tests/engine/locks/book.h"

namespace stm::engine {
namespace {

std::shared_ptr<const Definition> BoundTo(const std::string& session) {
  auto definition = std::make_shared<Definition>();
  definition->session_id = session;
  return definition;
}

// Binds as a transaction's commit does.
class BindAll : public Procedure {
 public:
  BindAll(std::vector<Binding> bindings, LockBounds bounds)
      : bindings_(std::move(bindings)), bounds_(bounds) {}
  std::vector<std::string> Names() const override { return {}; }
  absl::StatusOr<Value> Run(EntryView* view) const override {
    if (absl::Status status = Bind(view, bindings_, bounds_); !status.ok()) return status;
    return Value();
  }

 private:
  const std::vector<Binding> bindings_;
  const LockBounds bounds_;
};

TEST_CASE("session: it is opened once, moved, and ended by who knows of all its moves") {
  Book book;
  CHECK(*book.Run(MakeOpenSession("s", "host/1", absl::Seconds(20), 7)) == Value::Boolean(true));
  CHECK(*book.Run(MakeOpenSession("s", "host/1", absl::Seconds(20), 7)) == Value::Boolean(false));
  SessionState state = *ReadSession("s", *book.Get("/.sessions/s"));
  CHECK(state.client == "host/1");
  CHECK(state.ttl == absl::Seconds(20));
  CHECK(state.holder == 7);
  CHECK(*book.Run(MakeMoveSession("s", 8)) == Value::Boolean(true));
  CHECK(*book.Run(MakeMoveSession("s", 8)) == Value::Boolean(false));
  CHECK(book.Run(MakeEndSession("s", 0, {}))->text() == "kept");
  // Away and back: whoever had it first, and knew of no more, may not end it.
  CHECK(*book.Run(MakeMoveSession("s", 7)) == Value::Boolean(true));
  CHECK(book.Run(MakeEndSession("s", 0, {}))->text() == "kept");
  CHECK(book.Run(MakeEndSession("s", 2, {}))->text() == "ended");
  CHECK(book.lines.empty());
  CHECK(book.Run(MakeEndSession("s", 2, {}))->text() == "kept");
  CHECK(DetailOf(book.Run(MakeMoveSession("s", 8)).status())->reason() == v1::ERROR_REASON_SESSION_EXPIRED);
}

TEST_CASE(
    "session: entries bound to it go in the commit that ends it, those bound to another meanwhile stay") {
  Book book;
  LockBounds bounds;
  REQUIRE(book.Run(MakeOpenSession("s", "", absl::Seconds(15), 1)).ok());
  REQUIRE(book.Run(MakeOpenSession("t", "", absl::Seconds(15), 1)).ok());
  book.lines["/services/a"] = {Value::Integer(1), BoundTo("s")};
  book.lines["/services/b"] = {Value::Integer(2), BoundTo("t")};
  REQUIRE(book.Run(std::make_shared<BindAll>(
                       std::vector<Binding>{{"/services/a", "", "s"}, {"/services/b", "", "s"}}, bounds))
              .ok());
  REQUIRE(book.Run(std::make_shared<BindAll>(std::vector<Binding>{{"/services/b", "s", "t"}}, bounds)).ok());
  CHECK(ReadSession("s", *book.Get("/.sessions/s"))->entries == std::set<std::string>{"/services/a"});
  CHECK(ReadSession("t", *book.Get("/.sessions/t"))->entries == std::set<std::string>{"/services/b"});
  const int64_t version = book.version;
  CHECK(book.Run(MakeEndSession("s", std::nullopt, bounds))->text() == "ended");
  CHECK(book.version == version + 1);
  CHECK_FALSE(book.Get("/services/a").has_value());
  CHECK(book.Get("/services/b").has_value());
}

TEST_CASE("session: nothing is bound to one that is over, and one has no more than it may") {
  Book book;
  LockBounds bounds;
  bounds.session_things_max = 2;
  const auto bind = [&](const std::string& name) {
    return book.Run(std::make_shared<BindAll>(std::vector<Binding>{{name, "", "s"}}, bounds)).status();
  };
  CHECK(DetailOf(bind("/a"))->reason() == v1::ERROR_REASON_SESSION_EXPIRED);
  REQUIRE(book.Run(MakeOpenSession("s", "", absl::Seconds(15), 1)).ok());
  CHECK(bind("/a").ok());
  CHECK(bind("/b").ok());
  const absl::Status full = bind("/c");
  CHECK(DetailOf(full)->limit() == "session_things_max");
  AcquireLock request;
  request.lock = "/l";
  request.by.session = "s";
  CHECK(DetailOf(book.Run(MakeAcquire(request, bounds)).status())->limit() == "session_things_max");
  CHECK_FALSE(book.Get("/.locks/l").has_value());
}

TEST_CASE("session: one that had more than a commit takes ends in several, and is over from the first on") {
  Book book;
  LockBounds bounds;
  bounds.session_end_entries_max = 10;
  REQUIRE(book.Run(MakeOpenSession("s", "", absl::Seconds(15), 1)).ok());
  for (int i = 0; i < 50; ++i) {
    AcquireLock request;
    request.lock = absl::StrCat("/l", i);
    request.by.session = "s";
    request.acquire = {1, static_cast<uint64_t>(i)};
    REQUIRE(book.Run(MakeAcquire(request, bounds)).ok());
  }
  int commits = 0;
  while (true) {
    absl::StatusOr<Value> end = book.Run(MakeEndSession("s", 0, bounds));
    REQUIRE(end.ok());
    ++commits;
    if (end->text() == "ended") break;
    REQUIRE(end->text() == "more");
    CHECK(DetailOf(book.Run(MakeMoveSession("s", 2)).status())->reason() == v1::ERROR_REASON_SESSION_EXPIRED);
    // Anyone may go on with it.
    REQUIRE(book.Run(MakeEndSession("s", 99, bounds))->text() != "kept");
  }
  CHECK_FALSE(book.Get("/.sessions/s").has_value());
  for (const auto& [name, line] : book.lines) {
    if (auto lock = LockOfEntry(name)) CHECK(ReadLock(*lock, line.value)->holders.empty());
  }
  CHECK(commits > 2);
}

TEST_CASE("session: what can't be read names the entry and the field") {
  const absl::Status status = ReadSession("s", *ReadEdn("{:client \"c\" :ttl-ms \"soon\"}")).status();
  CHECK(absl::IsDataLoss(status));
  CHECK(std::string(status.message()).find("/.sessions/s has a field that can't be read: ttl-ms") == 0);
}

}  // namespace
}  // namespace stm::engine
