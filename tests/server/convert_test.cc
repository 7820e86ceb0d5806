#include "server/convert.h"

#include <string>
#include <vector>

#include "catch2/catch.hpp"
#include "engine/error.h"
#include "engine/values/edn.h"
#include "engine/values/wire.h"
#include "google/rpc/status.pb.h"
#include "stm/v1/common.pb.h"

namespace stm::server {
namespace {

using Catch::Matchers::Contains;

constexpr char kUuid[] = "01234567-89ab-cdef-0123-456789abcdef";
const engine::Options kBounds;

Value Edn(const char* text) {
  absl::StatusOr<Value> value = ReadEdn(text);
  REQUIRE(value.ok());
  return *value;
}

v1::ErrorDetail Detail(const absl::Status& status) {
  const std::optional<v1::ErrorDetail> detail = engine::DetailOf(status);
  REQUIRE(detail.has_value());
  return *detail;
}

// Expects the field at fault.
void CheckFault(v1::CommitRequest request, absl::StatusCode code, const std::string& field,
                const engine::Options& bounds = kBounds) {
  INFO(request.ShortDebugString());
  const auto transaction = TransactionOf(&request, bounds);
  REQUIRE_FALSE(transaction.ok());
  INFO(transaction.status());
  CHECK(transaction.status().code() == code);
  CHECK(Detail(transaction.status()).name() == field);
}

v1::CommitRequest OneWrite(const char* name, const char* edn = "1") {
  v1::CommitRequest request;
  v1::Write* write = request.add_writes();
  write->set_name(name);
  write->mutable_set()->set_edn(edn);
  return request;
}

TEST_CASE("convert: a commit comes out as it was asked for") {
  v1::CommitRequest request;
  request.mutable_id()->set_transaction_id(kUuid);
  request.mutable_id()->set_writer(7);
  request.mutable_id()->mutable_seen()->set_version(41);
  request.mutable_id()->mutable_seen()->set_store(9);
  request.mutable_id()->set_resend(true);
  request.set_snapshot(40);
  request.set_isolation(v1::ISOLATION_SNAPSHOT);
  request.add_reads("/a");
  request.add_lists("/l/");
  request.add_ensures("/e");
  v1::Write* write = request.add_writes();
  write->set_name("/set");
  write->mutable_set()->set_edn("{:x 1}");
  write->mutable_definition()->mutable_validator()->set_edn(":map");
  write->mutable_definition()->mutable_ttl()->set_seconds(2);
  write = request.add_writes();
  write->set_name("/apply");
  write->mutable_apply()->mutable_add()->set_integer(2);
  write = request.add_writes();
  write->set_name("/delete");
  write->set_delete_entry(true);
  write = request.add_writes();
  write->set_name("/create");
  write->mutable_create()->set_nil(true);
  write = request.add_writes();
  write->set_name("/define");
  write->mutable_define();
  request.add_records()->set_edn("#blog.CreateUser{:name \"Bob\"}");
  request.add_fences()->set_lock("/nightly");
  request.mutable_fences(0)->set_token(3);
  request.mutable_meta()->set_label("signup");
  request.mutable_meta()->set_principal("root");
  request.mutable_age()->mutable_since_first_run()->set_seconds(3600);
  request.mutable_age()->set_runs(3);
  request.mutable_age()->set_reservation(5);

  const auto made = TransactionOf(&request, kBounds);
  REQUIRE(made.ok());
  const engine::Transaction& transaction = **made;
  REQUIRE(transaction.id.has_value());
  CHECK(ToString(transaction.id->transaction_id) == kUuid);
  CHECK(transaction.id->writer == 7);
  CHECK(transaction.id->seen == 41);
  CHECK(transaction.id->store == 9);
  CHECK(transaction.id->resend);
  CHECK(transaction.snapshot == 40);
  CHECK(transaction.isolation == engine::Isolation::kSnapshot);
  CHECK(transaction.reads == std::vector<std::string>{"/a"});
  CHECK(transaction.lists == std::vector<std::string>{"/l/"});
  CHECK(transaction.ensures == std::vector<std::string>{"/e"});
  using Change = engine::Write::Change;
  REQUIRE(transaction.writes.size() == 5);
  CHECK(transaction.writes[0].change == Change::kSet);
  CHECK(transaction.writes[0].value == Edn("{:x 1}"));
  REQUIRE(transaction.writes[0].definition != nullptr);
  CHECK(transaction.writes[0].definition->ttl == absl::Seconds(2));
  CHECK(transaction.writes[0].definition->validator->form() == Edn(":map"));
  CHECK(transaction.writes[1].change == Change::kApply);
  CHECK(transaction.writes[1].operation->verb == engine::Operation::Verb::kAdd);
  CHECK(transaction.writes[2].change == Change::kDelete);
  CHECK(transaction.writes[3].change == Change::kCreate);
  CHECK(transaction.writes[3].value.is_nil());
  CHECK(transaction.writes[4].change == Change::kDefine);
  CHECK(transaction.writes[4].definition == nullptr);
  CHECK(transaction.records == std::vector<Value>{Edn("#blog.CreateUser{:name \"Bob\"}")});
  CHECK(transaction.fences[0].lock == "/nightly");
  CHECK(transaction.fences[0].token == 3);
  CHECK(transaction.meta->label == "signup");
  CHECK(transaction.meta->principal.empty());
  CHECK(transaction.since_first_run == kBounds.transaction_age_max);
  CHECK(transaction.runs == 3);
  CHECK(transaction.reservation == 5);
}

TEST_CASE("convert: a bad field is named by its path") {
  const auto kBad = absl::StatusCode::kInvalidArgument;
  v1::CommitRequest request = OneWrite("/a");
  v1::Map* map = request.mutable_writes(0)->mutable_set()->mutable_map();
  map->add_entries()->mutable_value()->set_nil(true);
  CheckFault(request, kBad, "writes[0].set.map.entries[0].key");

  request = OneWrite("/a");
  request.add_writes()->set_name("/b");
  CheckFault(request, kBad, "writes[1]");

  CheckFault(OneWrite("a"), kBad, "writes[0].name");
  CheckFault(OneWrite("/a/"), kBad, "writes[0].name");
  CheckFault(OneWrite("/a", "[1"), kBad, "writes[0].set.edn");

  request = OneWrite("/a");
  request.mutable_writes(0)->mutable_apply()->mutable_add()->set_text("x");
  CheckFault(request, kBad, "writes[0].apply.add");
  request.mutable_writes(0)->mutable_apply()->mutable_assoc()->add_entries()->mutable_key()->set_nil(true);
  CheckFault(request, kBad, "writes[0].apply.assoc.entries[0].value");

  request = OneWrite("/a");
  request.mutable_writes(0)->set_delete_entry(false);
  CheckFault(request, kBad, "writes[0].delete_entry");

  request = OneWrite("/a");
  request.mutable_writes(0)->mutable_definition()->mutable_ttl()->set_nanos(5);
  CheckFault(request, kBad, "writes[0].definition.ttl");
  request.mutable_writes(0)->mutable_definition()->mutable_ttl()->set_nanos(-5);
  request.mutable_writes(0)->mutable_definition()->mutable_ttl()->set_seconds(1);
  CheckFault(request, kBad, "writes[0].definition.ttl");
  request.mutable_writes(0)->mutable_definition()->clear_ttl();
  request.mutable_writes(0)->mutable_definition()->mutable_validator()->set_edn("[:regex \"(\"]");
  CheckFault(request, kBad, "writes[0].definition.validator");

  request.Clear();
  request.add_reads("/a");
  request.add_reads("/a//b");
  CheckFault(request, kBad, "reads[1]");
  request.Clear();
  request.add_lists("/a");
  CheckFault(request, kBad, "lists[0]");
  request.Clear();
  request.add_ensures("");
  CheckFault(request, kBad, "ensures[0]");
  request.Clear();
  request.add_records()->set_integer(1);
  CheckFault(request, kBad, "records[0]");
  request.Clear();
  request.set_snapshot(-1);
  CheckFault(request, kBad, "snapshot");
  request.Clear();
  request.mutable_age()->mutable_since_first_run()->set_seconds(-1);
  CheckFault(request, kBad, "age.since_first_run");
  request.Clear();
  request.mutable_id()->set_transaction_id("no");
  CheckFault(request, kBad, "id.transaction_id");
  request.mutable_id()->set_transaction_id(kUuid);
  CheckFault(request, kBad, "id.writer");
}

TEST_CASE("convert: what only a newer client knows is UNIMPLEMENTED, never passed over") {
  const auto kUnknown = absl::StatusCode::kUnimplemented;
  v1::CommitRequest request = OneWrite("/a");
  request.mutable_writes(0)->clear_set();
  // Field 100 of a message from the future.
  request.mutable_writes(0)->GetReflection()->MutableUnknownFields(request.mutable_writes(0))->AddVarint(100, 1);
  CheckFault(request, kUnknown, "writes[0]");

  request = OneWrite("/a");
  request.mutable_writes(0)->mutable_definition()->mutable_validator()->set_edn("[:prime]");
  CheckFault(request, kUnknown, "writes[0].definition.validator");
  request = OneWrite("/a");
  request.set_isolation(static_cast<v1::Isolation>(9));
  CheckFault(request, kUnknown, "isolation");
  request = OneWrite("/a");
  request.mutable_writes(0)->set_kind(static_cast<v1::EntryKind>(9));
  CheckFault(request, kUnknown, "writes[0].kind");
}

TEST_CASE("convert: a container's name has a form; whether there is one is not asked here") {
  for (const char* name : {"mongo", "files_2", "remote:orders", "offered:a-b"}) {
    v1::CommitRequest request = OneWrite("/a");
    request.mutable_writes(0)->mutable_definition()->set_container(name);
    const auto transaction = TransactionOf(&request, kBounds);
    REQUIRE(transaction.ok());
    REQUIRE((*transaction)->writes[0].definition != nullptr);
    CHECK((*transaction)->writes[0].definition->container == name);
  }
  for (const char* name : {"", "inline"}) {
    v1::CommitRequest request = OneWrite("/a");
    request.mutable_writes(0)->mutable_definition()->set_container(name);
    const auto transaction = TransactionOf(&request, kBounds);
    REQUIRE(transaction.ok());
    CHECK((*transaction)->writes[0].definition == nullptr);
  }
  const auto kBadContainer = absl::StatusCode::kInvalidArgument;
  const std::string long_name(65, 'a');
  for (const std::string& name : {std::string("Mongo"), std::string("a b"), std::string("own:a"), std::string("remote:"),
                                  std::string("remote:a:b"), std::string("a/b"), long_name, "offered:" + long_name}) {
    CAPTURE(name);
    v1::CommitRequest request = OneWrite("/a");
    request.mutable_writes(0)->mutable_definition()->set_container(name);
    CheckFault(request, kBadContainer, "writes[0].definition.container");
  }
  // What goes with the daemon is not left behind in a store.
  v1::CommitRequest request = OneWrite("/.memory/a");
  request.mutable_writes(0)->mutable_definition()->set_container("mongo");
  CheckFault(request, kBadContainer, "writes[0].definition.container");
}

TEST_CASE("convert: the system's names are not written, but for /.memory/ and /.once/") {
  CheckFault(OneWrite("/.locks/x"), absl::StatusCode::kPermissionDenied, "writes[0].name");
  for (const char* name : {"/.memory/x", "/.once/order-123"}) {
    v1::CommitRequest request = OneWrite(name);
    CHECK(TransactionOf(&request, kBounds).ok());
  }
  v1::CommitRequest reads;
  reads.add_reads("/.locks/x");
  CHECK(TransactionOf(&reads, kBounds).ok());
}

TEST_CASE("convert: an atom changes alone") {
  v1::CommitRequest request = OneWrite("/atom");
  request.mutable_writes(0)->set_kind(v1::ENTRY_KIND_ATOM);
  *request.add_writes() = request.writes(0);
  v1::CommitRequest same = request;
  CHECK(TransactionOf(&same, kBounds).ok());
  request.add_writes()->set_name("/ref");
  request.mutable_writes(2)->set_delete_entry(true);
  CheckFault(request, absl::StatusCode::kFailedPrecondition, "writes[2].name");
}

TEST_CASE("convert: every bound is named with what was found") {
  engine::Options bounds;
  bounds.value_bytes_max = 10;
  bounds.transaction_bytes_max = 15;
  bounds.transaction_entries_max = 3;
  const auto limit_of = [&](v1::CommitRequest request) {
    const auto transaction = TransactionOf(&request, bounds);
    REQUIRE_FALSE(transaction.ok());
    CHECK(transaction.status().code() == absl::StatusCode::kResourceExhausted);
    return Detail(transaction.status()).limit();
  };
  CHECK(limit_of(OneWrite("/a", "\"0123456789\"")) == "value_bytes_max");
  v1::CommitRequest two = OneWrite("/a", "\"01234567\"");
  *two.add_writes() = two.writes(0);
  CHECK(limit_of(two) == "transaction_bytes_max");
  v1::CommitRequest many;
  for (int i = 0; i < 4; ++i) many.add_reads("/a");
  CHECK(limit_of(many) == "transaction_entries_max");
  v1::CommitRequest meta;
  meta.mutable_meta()->set_label(std::string(2000, 'x'));
  CHECK(limit_of(meta) == "meta_bytes_max");
  v1::CommitRequest operation = OneWrite("/a");
  operation.mutable_writes(0)->mutable_apply()->mutable_append()->set_text("0123456789");
  CHECK(limit_of(operation) == "value_bytes_max");
}

TEST_CASE("convert: reads") {
  v1::GetRefsRequest get;
  get.add_names("/a");
  get.mutable_at()->set_version(0);
  REQUIRE(GetRequestOf(&get, kBounds).ok());
  get.Clear();
  get.mutable_at()->set_version(-1);
  CHECK(Detail(GetRequestOf(&get, kBounds).status()).name() == "at.version");
  get.Clear();
  get.add_names("/a");
  get.mutable_at()->mutable_instant()->set_nanos(-1);
  CHECK(Detail(GetRequestOf(&get, kBounds).status()).name() == "at.instant");
  get.Clear();
  get.add_pending()->set_name("/a");
  CHECK(Detail(GetRequestOf(&get, kBounds).status()).name() == "pending[0]");

  v1::AwaitChangeRequest await;
  CHECK(Detail(AwaitRequestOf(&await, kBounds).status()).name() == "reads");
  await.add_lists("/q/");
  await.set_reservation(7);
  const auto taken = AwaitRequestOf(&await, kBounds);
  REQUIRE(taken.ok());
  CHECK(taken->reservation == 7);

  v1::WatchRequest watch;
  watch.set_initial(true);
  watch.set_after_version(3);
  CHECK(Detail(WatchRequestOf(&watch, kBounds).status()).name() == "after_version");
  watch.set_after_version(0);
  watch.mutable_progress_every()->set_nanos(1000);
  CHECK(Detail(WatchRequestOf(&watch, kBounds).status()).name() == "progress_every");
  watch.clear_progress_every();
  watch.mutable_selector()->add_prefixes("/a");
  CHECK(Detail(WatchRequestOf(&watch, kBounds).status()).name() == "selector.prefixes[0]");
}

TEST_CASE("convert: a page token goes on where its page ended, for its own listing alone") {
  const Identity identity{11, 22};
  engine::ListResult page;
  page.snapshot = 77;
  page.more = true;
  page.entries.emplace_back().name = "/a/b";
  v1::ListRefsResponse response;
  FillList(page, "/a/", false, false, identity, &response);
  REQUIRE_FALSE(response.next_page_token().empty());

  v1::ListRefsRequest next;
  next.set_prefix("/a/");
  next.set_page_token(response.next_page_token());
  const auto list = ListRequestOf(&next, kBounds, 11);
  REQUIRE(list.ok());
  CHECK(list->at.at == engine::ReadPoint::At::kVersion);
  CHECK(list->at.version == 77);
  CHECK(list->after_name == "/a/b");

  CHECK(Detail(ListRequestOf(&next, kBounds, 12).status()).reason() == v1::ERROR_REASON_STORE_CHANGED);
  next.set_prefix("/b/");
  CHECK(Detail(ListRequestOf(&next, kBounds, 11).status()).name() == "page_token");
  next.set_prefix("/a/");
  for (const std::string& bad : {std::string("x"), std::string("%%%"), response.next_page_token() + "AAAA"}) {
    next.set_page_token(bad);
    CHECK(Detail(ListRequestOf(&next, kBounds, 11).status()).name() == "page_token");
  }
}

TEST_CASE("convert: every verdict has its outcome, and a failure stays a status") {
  const Identity identity{1, 2};
  const auto fill = [&](engine::Verdict verdict) {
    v1::CommitResponse response;
    REQUIRE(FillCommit(verdict, 5, identity, &response).ok());
    CHECK(response.header().store() == 1);
    CHECK(response.header().writer() == 2);
    CHECK(response.header().installed_version() == 5);
    return response;
  };
  engine::Committed committed;
  committed.version = 4;
  committed.at = Instant{1, 2};
  committed.results = {Value::Integer(3), std::nullopt};
  v1::CommitResponse response = fill({committed});
  CHECK(response.committed().version() == 4);
  REQUIRE(response.committed().results_size() == 2);
  CHECK(response.committed().results(0).integer() == 3);
  CHECK(response.committed().results(1).kind_case() == v1::Value::KIND_NOT_SET);

  engine::Conflict conflict;
  auto by = std::make_shared<engine::Meta>();
  by->label = "other";
  conflict.causes.push_back({"/a", 3, by});
  conflict.snapshot = 5;
  conflict.fresh.resize(2);
  conflict.fresh[0].name = "/a";
  conflict.fresh[0].value = Value::Integer(1);
  conflict.fresh[1].name = "/large";
  conflict.fresh[1].value_omitted = true;
  conflict.reserved_for = absl::Milliseconds(20);
  conflict.reservation = 6;
  response = fill({conflict});
  CHECK(response.conflict().causes(0).by().label() == "other");
  // One left out is not shown as absent.
  REQUIRE(response.conflict().fresh_size() == 1);
  CHECK(response.conflict().fresh(0).name() == "/a");
  CHECK(response.conflict().reserved_for().nanos() == 20000000);
  CHECK(response.conflict().reservation() == 6);

  engine::Rejected rejected{"/a", 1, {engine::RejectCause::kValidator, Edn("[:min 0]"), "-1", "why"}};
  response = fill({rejected});
  CHECK(response.rejected().cause() == v1::REJECT_CAUSE_VALIDATOR);
  CHECK(response.rejected().write_index() == 1);
  CHECK(*stm::FromProto(response.rejected().rule()) == Edn("[:min 0]"));
  CHECK(fill({engine::FenceLost{{"/l", 3}, {4, 5}}}).fence_lost().current_tokens_size() == 2);
  CHECK(fill({engine::NotCommitted{}}).has_not_committed());
  CHECK(fill({engine::IdTooOld{9}}).id_too_old().floor() == 9);
  response.Clear();
  CHECK(FillCommit({absl::Status(absl::UnavailableError("x"))}, 5, identity, &response).code() ==
        absl::StatusCode::kUnavailable);
}

TEST_CASE("convert: a failure carries its detail with a header in google.rpc.Status") {
  const std::string bytes =
      StatusDetailsOf(engine::NotReady("recovering", absl::Milliseconds(100)), Identity{1, 2}, 3);
  google::rpc::Status status;
  REQUIRE(status.ParseFromString(bytes));
  CHECK(status.code() == 14);
  REQUIRE(status.details_size() == 1);
  v1::ErrorDetail detail;
  REQUIRE(status.details(0).UnpackTo(&detail));
  CHECK(detail.reason() == v1::ERROR_REASON_NOT_READY);
  CHECK(detail.retry_after().nanos() == 100000000);
  CHECK(detail.header().store() == 1);
  CHECK(detail.header().installed_version() == 3);
}

TEST_CASE("convert: a commit is cut into parts, and put together again is whole") {
  engine::InstalledCommit commit;
  commit.version = 8;
  for (int i = 0; i < 10; ++i) {
    engine::EntryChange& change = commit.changes.emplace_back();
    change.name = "/" + std::to_string(i);
    change.value = Value::String(std::string(100, 'x'));
    commit.before.push_back(Value::Integer(i));
  }
  commit.changes[9].kind = engine::EntryChange::Kind::kDefine;
  commit.changes[9].value = std::nullopt;
  commit.records = {Edn("#a{:b 1}")};
  engine::WatchEvent event;
  event.commit = std::make_shared<engine::InstalledCommit>(commit);
  for (uint32_t i = 0; i < 10; ++i) event.selected.push_back(i);

  std::vector<v1::CommitEvent> parts;
  ForEachPart(ViewOf(event), 300, [&](v1::CommitEvent&& part) { parts.push_back(std::move(part)); });
  REQUIRE(parts.size() > 2);
  int changes = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    CHECK(parts[i].more() == (i + 1 < parts.size()));
    CHECK(parts[i].version() == 8);
    for (const v1::Change& change : parts[i].changes()) CHECK(change.name() == "/" + std::to_string(changes++));
  }
  CHECK(changes == 10);
  CHECK(parts.back().records_size() == 1);
  // A definition changed: the value before is the value after.
  bool defined = false;
  for (const v1::CommitEvent& part : parts) {
    for (const v1::Change& change : part.changes()) {
      if (change.kind() != v1::CHANGE_KIND_DEFINED) continue;
      defined = true;
      CHECK(change.after().integer() == 9);
    }
  }
  CHECK(defined);
}

TEST_CASE("convert: a value before that no commit told is unknown, not absent") {
  engine::InstalledCommit commit;
  commit.version = 7;
  for (const char* name : {"/created", "/changed"}) {
    engine::EntryChange change;
    change.name = name;
    change.value = Value::Integer(1);
    commit.changes.push_back(std::move(change));
    commit.before.emplace_back();
  }
  commit.before_unknown = {1};
  engine::WatchEvent event;
  event.commit = std::make_shared<const engine::InstalledCommit>(std::move(commit));
  event.selected = {0, 1};
  std::vector<v1::CommitEvent> parts;
  ForEachPart(ViewOf(event), 1 << 20, [&](v1::CommitEvent&& part) { parts.push_back(std::move(part)); });
  REQUIRE(parts.size() == 1);
  REQUIRE(parts[0].changes_size() == 2);
  CHECK_FALSE(parts[0].changes(0).before_unknown());
  CHECK_FALSE(parts[0].changes(0).has_before());
  CHECK(parts[0].changes(1).before_unknown());
  CHECK_FALSE(parts[0].changes(1).has_before());
}

TEST_CASE("convert: tags are whole names, or beginnings with a star") {
  const std::vector<Value> records = {Edn("#blog.CreateUser{}")};
  CHECK(HasRecordOf(records, {"blog.CreateUser"}));
  CHECK(HasRecordOf(records, {"shop.*", "blog.*"}));
  CHECK(HasRecordOf(records, {"*"}));
  CHECK_FALSE(HasRecordOf(records, {"blog.Create"}));
  CHECK_FALSE(HasRecordOf({}, {"*"}));
}

}  // namespace
}  // namespace stm::server
