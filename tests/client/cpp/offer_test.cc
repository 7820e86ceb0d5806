// Containers that the test's own process keeps, against a real daemon that keeps nothing of them in memory.
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "tests/client/cpp/fixture.h"

namespace stm::testing {
namespace {

class KeptRefs : public VersionedStateContainer {
 public:
  absl::Status Init(const std::string&) override { return absl::OkStatus(); }
  absl::Status Destroy(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name,
                                                  const std::string& stamp) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ++reads_;
    const auto found = values_.find({name, stamp});
    return found == values_.end() ? std::nullopt : std::optional<Value>(found->second);
  }
  absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value& value) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (throws_) throw std::runtime_error("out of luck");
    if (!refusal_.ok()) return refusal_;
    values_.emplace(std::make_pair(name, stamp), value);
    return absl::OkStatus();
  }
  absl::Status DeleteStateAt(const std::string& name, const std::string& stamp) override {
    std::lock_guard<std::mutex> lock(mutex_);
    values_.erase({name, stamp});
    return absl::OkStatus();
  }

  void Refuse(absl::Status refusal) {
    std::lock_guard<std::mutex> lock(mutex_);
    refusal_ = std::move(refusal);
  }
  void Throw(bool throws) {
    std::lock_guard<std::mutex> lock(mutex_);
    throws_ = throws;
  }
  bool Has(const std::string& name, const Value& value) const {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, kept] : values_) {
      if (key.first == name && kept == value) return true;
    }
    return false;
  }
  int reads() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return reads_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, Value> values_;
  absl::Status refusal_;
  bool throws_ = false;
  int reads_ = 0;
};

class KeptAtoms : public StateContainer {
 public:
  absl::Status Init(const std::string&) override { return absl::OkStatus(); }
  absl::Status Destroy(const std::string& name, int64_t version) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = states_.find(name);
    if (found != states_.end() && found->second.second < version) states_.erase(found);
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<Value>> GetState(const std::string& name) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = states_.find(name);
    return found == states_.end() ? std::nullopt : std::optional<Value>(found->second.first);
  }
  absl::Status SetState(const std::string& name, const Value& value, int64_t version) override {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& state = states_[name];
    if (state.second <= version) state = {value, version};
    return absl::OkStatus();
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::pair<Value, int64_t>> states_;
};

Daemon Start(const std::string& data_dir = "") {
  DaemonOptions options;
  options.data_dir = data_dir;
  options.flags = {"--container-cache-bytes=0", "--container-timeout=2s"};
  return Must(Daemon::Start(options));
}

// Gives up soon what is away.
Client Impatient(const std::string& address) {
  ConnectOptions options;
  options.address = address;
  options.unavailable_timeout = absl::Milliseconds(200);
  return Must(Connect(options));
}

Definition In(const std::string& container) {
  Definition definition;
  definition.container = container;
  return definition;
}

TEST_CASE("offer: values of refs are here, and those of atoms are copied here") {
  Daemon daemon = Start();
  Client client = Connected(daemon.address());
  auto refs = std::make_shared<KeptRefs>();
  auto atoms = std::make_shared<KeptAtoms>();
  Offer offer = Must(client.Offer("mine", refs, atoms));
  CHECK(offer.container() == "offered:mine");
  CHECK(offer.standing());
  OK(offer.status());

  auto ref = client.Ref<std::string>("/ref", std::nullopt, In(offer.container()));
  auto inlined = client.Ref<int64_t>("/inline", 0);
  OK(client.Transact([&](Tx& tx) {
    tx.Set(ref, "here");
    tx.Set(inlined, 1);
  }));
  CHECK(refs->Has("/ref", Value::String("here")));
  const int before = refs->reads();
  CHECK(Must(ref.Get()) == "here");
  CHECK(refs->reads() > before);
  CHECK(Must(ref.GetDefinition())->container == "offered:mine");
  CHECK(Must(inlined.GetDefinition())->container.empty());

  auto atom = client.Atom<int64_t>("/atom", 0, In(offer.container()));
  CHECK(Must(atom.Swap([](int64_t n) { return n + 7; })) == 7);
  REQUIRE(
      Eventually([&] { return Must(atoms->GetState("/atom")) == std::optional<Value>(Value::Integer(7)); }));
  OK(atom.Delete());
  REQUIRE(Eventually([&] { return !Must(atoms->GetState("/atom")).has_value(); }));
}

TEST_CASE(
    "offer: what the container refuses is the caller's error, and nothing of the transaction is committed") {
  Daemon daemon = Start();
  Client client = Impatient(daemon.address());
  auto refs = std::make_shared<KeptRefs>();
  Offer offer = Must(client.Offer("mine", refs, nullptr));
  auto ref = client.Ref<int64_t>("/ref", std::nullopt, In(offer.container()));
  auto inlined = client.Ref<int64_t>("/inline", 0);
  const auto both = [&](int64_t value) {
    return client.Transact([&](Tx& tx) {
      tx.Set(ref, value);
      tx.Set(inlined, value);
    });
  };
  OK(both(1));
  refs->Refuse(absl::PermissionDeniedError("read only"));
  const absl::Status denied = both(2);
  CHECK(absl::IsPermissionDenied(denied));
  CHECK(Contains(denied, "offered:mine"));
  CHECK(Contains(denied, "read only"));
  refs->Refuse(absl::OkStatus());
  refs->Throw(true);
  const absl::Status thrown = both(2);
  CHECK(thrown.code() == absl::StatusCode::kInternal);
  CHECK(Contains(thrown, "out of luck"));
  refs->Throw(false);
  CHECK(Must(ref.Get()) == 1);
  CHECK(Must(inlined.Get()) == 1);
  OK(both(3));
  CHECK(Must(ref.Get()) == 3);
}

TEST_CASE("offer: while it is away its entries alone are unavailable, and readable again when it is back") {
  Daemon daemon = Start();
  Client client = Impatient(daemon.address());
  auto refs = std::make_shared<KeptRefs>();
  auto ref = client.Ref<int64_t>("/ref", std::nullopt, In("offered:mine"));
  auto inlined = client.Ref<int64_t>("/inline", 0);
  {
    // Of another program's connection.
    Client owner = Connected(daemon.address());
    Offer offer = Must(owner.Offer("mine", refs, nullptr));
    OK(client.Transact([&](Tx& tx) { tx.Set(ref, 5); }));
    CHECK(Must(ref.Get()) == 5);
    // Two can't be asked for one value.
    const absl::Status taken = client.Offer("mine", refs, nullptr).status();
    CHECK(absl::IsFailedPrecondition(taken));
    CHECK(Contains(taken, "another stream"));
  }
  REQUIRE(Eventually([&] { return absl::IsUnavailable(ref.Get().status()); }));
  CHECK(ReasonOf(ref.Get().status()) == Reason::kUnavailable);
  CHECK(absl::IsUnavailable(client.Transact([&](Tx& tx) {
    tx.Set(ref, 6);
    tx.Set(inlined, 6);
  })));
  CHECK(Must(inlined.Get()) == 0);
  OK(client.Transact([&](Tx& tx) { tx.Set(inlined, 7); }));

  Offer back = Must(client.Offer("mine", refs, nullptr));
  CHECK(Must(ref.Get()) == 5);
  OK(client.Transact([&](Tx& tx) { tx.Alter(ref, [](int64_t n) { return n + 1; }); }));
  CHECK(Must(ref.Get()) == 6);
}

TEST_CASE("offer: it outlives a daemon that is killed, and what it keeps is read again") {
  Directory directory;
  Daemon daemon = Start(directory.path());
  Client client = Connected(daemon.address());
  auto refs = std::make_shared<KeptRefs>();
  Offer offer = Must(client.Offer("mine", refs, nullptr));
  auto ref = client.Ref<int64_t>("/ref", std::nullopt, In(offer.container()));
  OK(client.Transact([&](Tx& tx) { tx.Set(ref, 1); }));
  daemon.Kill();
  REQUIRE(Eventually([&] { return !offer.standing(); }));
  CHECK_FALSE(offer.status().ok());
  OK(daemon.Restart());
  REQUIRE(offer.AwaitStanding(kPatience));
  CHECK(Must(ref.Get()) == 1);
  OK(client.Transact([&](Tx& tx) { tx.Set(ref, 2); }));
  CHECK(Must(ref.Get()) == 2);
}

TEST_CASE("offer: a bad name is told at once") {
  Daemon daemon = Start();
  Client client = Connected(daemon.address());
  CHECK(absl::IsInvalidArgument(client.Offer("Not One", std::make_shared<KeptRefs>(), nullptr).status()));
}

}  // namespace
}  // namespace stm::testing
