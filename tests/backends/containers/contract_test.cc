// The suite that an author runs: what it says of containers that hold to the contract, and of those with one
// bug.
#include "backends/containers/contract.h"

#include <catch2/catch.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "backends/containers/files.h"
#include "backends/containers/remote.h"
#include "backends/containers/serve.h"
#include "engine/name.h"
#include "tests/backends/containers/memory_container.h"
#include "tests/backends/containers/own_directory.h"

namespace stm::containers {
namespace {

std::string Text(const std::vector<Violation>& violations) {
  std::string text;
  for (const Violation& violation : violations)
    absl::StrAppend(&text, violation.rule, ": ", violation.what, "\n");
  return text;
}

std::set<std::string> RulesOf(const std::vector<Violation>& violations) {
  std::set<std::string> rules;
  for (const Violation& violation : violations) rules.insert(violation.rule);
  return rules;
}

// What was tried, by the report.
struct Reported {
  std::vector<std::string> tried;
  std::vector<std::string> not_tried;
  void Into(CheckOptions* options) {
    options->report = [this](const Tried& rule) {
      (rule.tried ? tried : not_tried).push_back(rule.rule->id);
    };
  }
};

size_t AllRules() { return RefRules().size() + AtomRules().size() + BothRules().size(); }

TEST_CASE("contract: a container in memory holds to it") {
  const auto store = std::make_shared<MemoryStore>();
  const Container container = MemoryContainer(store), other = MemoryContainer(store, 1);
  CheckOptions options;
  options.other_refs = other.refs.get();
  options.other_atoms = other.atoms.get();
  Reported reported;
  reported.Into(&options);
  CHECK(Text(CheckContainer(container, options)) == "");
  CHECK(reported.tried.size() == AllRules());
  // It has cleaned up after itself.
  absl::MutexLock lock(&store->mutex_);
  CHECK(store->stamps_.size() == 0);
  CHECK(store->atoms_.size() == 0);
}

TEST_CASE(
    "contract: rules have distinct ids, in order, and those for one connection alone are told from the "
    "others") {
  std::set<std::string> ids;
  for (const auto* rules : {&RefRules(), &AtomRules(), &BothRules()}) {
    int number = 0;
    for (const Rule& rule : *rules) {
      const std::string id = rule.id;
      CHECK(ids.insert(id).second);
      CHECK(id.substr(id.find('-') + 1) == absl::StrCat(++number));
    }
  }
  CheckOptions options;
  Reported reported;
  reported.Into(&options);
  CHECK(Text(CheckContainer(MemoryContainer(), options)) == "");
  CHECK(reported.not_tried == std::vector<std::string>{"refs-18", "atoms-17"});
}

TEST_CASE("contract: all names that are tried are names that an entry may have") {
  // Sees what comes.
  class Names final : public VersionedStateContainer {
   public:
    absl::Status Init(const std::string& name, absl::Duration) override {
      absl::MutexLock lock(&mutex_);
      names_.insert(name);
      return absl::OkStatus();
    }
    absl::Status Destroy(const std::string&, absl::Duration) override { return absl::OkStatus(); }
    absl::StatusOr<std::optional<Value>> GetStateAt(const std::string&, const std::string&,
                                                    absl::Duration) override {
      return std::nullopt;
    }
    absl::Status SetStateAt(const std::string&, const std::string& stamp, const Value& value,
                            absl::Duration) override {
      absl::MutexLock lock(&mutex_);
      stamps_.insert(stamp);
      values_good_ = values_good_ && Check(value).ok();
      return absl::OkStatus();
    }
    absl::Status DeleteStateAt(const std::string&, const std::string&, absl::Duration) override {
      return absl::OkStatus();
    }

    absl::Mutex mutex_;
    std::set<std::string> names_ ABSL_GUARDED_BY(mutex_);
    std::set<std::string> stamps_ ABSL_GUARDED_BY(mutex_);
    bool values_good_ ABSL_GUARDED_BY(mutex_) = true;
  };
  Names names;
  CheckOptions options;
  options.run = 7;
  CheckRefs(&names, options);
  absl::MutexLock lock(&names.mutex_);
  CHECK(names.names_.size() > 50);
  for (const std::string& name : names.names_) {
    INFO(name);
    CHECK(engine::CheckName(name).ok());
    CHECK(name.compare(0, 25, "/.check/0000000000000007/") == 0);
  }
  CHECK(names.stamps_.size() > 50);
  for (const std::string& stamp : names.stamps_) {
    INFO(stamp);
    CHECK(stamp.size() <= 64);
    CHECK(stamp.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos);
  }
  CHECK(names.values_good_);
}

struct Planted {
  const char* name;
  Bug bug;
  const char* refs;  // the rule by which it is caught; "": it has no such bug
  const char* atoms;
};

TEST_CASE("contract: a container with a bug is caught by the rule that it breaks") {
  const Planted planted = GENERATE(values<Planted>({
      {"Init clears", Bug::kInitClears, "refs-1", "atoms-1"},
      {"Init once only", Bug::kInitOnceOnly, "refs-1", "atoms-1"},
      {"absent is an error", Bug::kAbsentIsError, "refs-2", "atoms-2"},
      {"integers become doubles", Bug::kIntegersAsDoubles, "refs-3", "atoms-3"},
      {"keys become text", Bug::kKeysAsText, "refs-3", "atoms-3"},
      {"nil is absent", Bug::kNilIsAbsent, "refs-4", "atoms-4"},
      {"large values are cut", Bug::kCutsLargeValues, "refs-5", "atoms-5"},
      {"a second set is refused", Bug::kSecondSetRefused, "refs-6", ""},
      {"a stamp is written over", Bug::kOverwrites, "refs-7", ""},
      {"only the last stamp stays", Bug::kLastStampOnly, "refs-8", ""},
      {"stamps are cut", Bug::kCutsStamps, "refs-8", ""},
      {"names fold case", Bug::kFoldsCase, "refs-9", "atoms-13"},
      {"/ is -", Bug::kSlashIsDash, "refs-9", "atoms-13"},
      {"delete takes names that begin alike", Bug::kDeletesPrefix, "refs-9", ""},
      {"names are cut", Bug::kCutsNames, "refs-10", "atoms-14"},
      {"delete takes all stamps", Bug::kDeletesName, "refs-11", ""},
      {"delete takes nothing", Bug::kDeletesNothing, "refs-11", ""},
      {"delete once only", Bug::kDeleteOnceOnly, "refs-12", ""},
      {"Destroy takes stamps", Bug::kDestroyTakesStamps, "refs-13", ""},
      {"Destroy once only", Bug::kDestroyOnceOnly, "refs-14", "atoms-12"},
      {"two at once lose one", Bug::kUnguarded, "refs-15", "atoms-15"},
      {"parts are seen", Bug::kPartsAreSeen, "refs-16", ""},
      {"one connection sees it", Bug::kOneConnection, "refs-18", "atoms-17"},
      {"sets are forgotten", Bug::kForgetsSet, "refs-3", ""},
      {"it lies now and then", Bug::kLies, "refs-3", ""},
      {"versions are ignored", Bug::kIgnoresVersions, "", "atoms-7"},
      {"older versions are refused", Bug::kRefusesOlder, "", "atoms-7"},
      {"versions are text", Bug::kVersionsAsText, "", "atoms-6"},
      {"versions are doubles", Bug::kVersionsAsDoubles, "", "atoms-9"},
      {"the first stays", Bug::kKeepsFirst, "", "atoms-6"},
      {"Destroy keeps", Bug::kDestroyKeeps, "", "atoms-10"},
      {"Destroy takes what is newer", Bug::kDestroyIgnoresVersions, "", "atoms-11"},
  }));
  INFO(planted.name);
  const auto store = std::make_shared<MemoryStore>(planted.bug);
  const Container container = MemoryContainer(store), other = MemoryContainer(store, 1);
  CheckOptions options;
  options.other_refs = other.refs.get();
  options.other_atoms = other.atoms.get();
  for (const bool refs : {true, false}) {
    const std::string rule = refs ? planted.refs : planted.atoms;
    const auto violations =
        refs ? CheckRefs(container.refs.get(), options) : CheckAtoms(container.atoms.get(), options);
    INFO(Text(violations));
    if (rule.empty()) {
      CHECK(violations.empty());
    } else {
      CHECK(RulesOf(violations).count(rule) == 1);
    }
  }
}

TEST_CASE("contract: a container that has one name for a ref and an atom is caught") {
  const auto violations = CheckContainer(MemoryContainer(Bug::kOneNamespace));
  INFO(Text(violations));
  CHECK(RulesOf(violations).count("both-1") == 1);
}

TEST_CASE("contract: a call that is late or never comes back ends the suite, and says which") {
  CheckOptions options;
  options.within = absl::Milliseconds(10);
  options.grace = absl::Milliseconds(40);
  Reported reported;
  reported.Into(&options);
  // A call's thread is left in it.
  static const Container& slow = *new Container(MemoryContainer(Bug::kSlow));
  static const Container& hangs = *new Container(MemoryContainer(Bug::kHangs));
  for (const Container* container : {&slow, &hangs}) {
    const auto refs = CheckRefs(container->refs.get(), options);
    INFO(Text(refs));
    REQUIRE(refs.size() == 1);
    CHECK(refs[0].rule == "refs-17");
    CHECK(refs[0].what.find("Init(/.check/") == 0);
    CHECK(RulesOf(CheckAtoms(container->atoms.get(), options)) == std::set<std::string>{"atoms-16"});
  }
  CHECK(reported.tried == std::vector<std::string>{"refs-1", "atoms-1", "refs-1", "atoms-1"});
}

TEST_CASE(
    "contract: of a container that can't be reached the first call says so, and the rest is not tried") {
  const auto remote = MakeRemote("grpc://127.0.0.1:1");
  REQUIRE(remote.ok());
  CheckOptions options;
  Reported reported;
  reported.Into(&options);
  const auto violations = CheckRefs(remote->refs.get(), options);
  INFO(Text(violations));
  REQUIRE(violations.size() == 1);
  CHECK(violations[0].what.find("UNAVAILABLE: 127.0.0.1:1: ") != std::string::npos);
  CHECK(reported.tried.size() == 1);
  CHECK(reported.not_tried.size() == RefRules().size() - 1);
}

TEST_CASE("contract: files hold to it") {
  const OwnDirectory directory;
  const auto container = MakeFiles(directory.uri()), other = MakeFiles(directory.uri());
  REQUIRE(container.ok());
  REQUIRE(other.ok());
  CheckOptions options;
  options.other_refs = other->refs.get();
  options.other_atoms = other->atoms.get();
  CHECK(Text(CheckContainer(*container, options)) == "");
  // Nothing is left but what was there.
  CHECK(directory.Files("refs") == std::vector<std::string>{});
  CHECK(directory.Files("atoms") == std::vector<std::string>{});
  CHECK(directory.Files("new") == std::vector<std::string>{});
}

TEST_CASE("contract: a container that is served and asked by gRPC holds to it") {
  const auto store = std::make_shared<MemoryStore>();
  auto server = ContainerServer::Start(MemoryContainer(store), "127.0.0.1:0");
  REQUIRE(server.ok());
  const std::string uri = absl::StrCat("grpc://127.0.0.1:", (*server)->port());
  const auto container = MakeRemote(uri), other = MakeRemote(uri + "?connections=1");
  REQUIRE(container.ok());
  REQUIRE(other.ok());
  CheckOptions options;
  options.other_refs = other->refs.get();
  options.other_atoms = other->atoms.get();
  CHECK(Text(CheckContainer(*container, options)) == "");
  absl::MutexLock lock(&store->mutex_);
  CHECK(store->stamps_.size() == 0);
}

TEST_CASE("contract: a container that is served by gRPC and has a bug is caught there") {
  auto server = ContainerServer::Start(MemoryContainer(Bug::kOverwrites), "127.0.0.1:0");
  REQUIRE(server.ok());
  const auto container = MakeRemote(absl::StrCat("grpc://127.0.0.1:", (*server)->port()));
  REQUIRE(container.ok());
  CHECK(RulesOf(CheckRefs(container->refs.get())).count("refs-7") == 1);
}

}  // namespace
}  // namespace stm::containers
