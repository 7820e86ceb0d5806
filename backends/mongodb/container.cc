#include "backends/mongodb/container.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "backends/mongodb/bson.h"
#include "backends/mongodb/client.h"

namespace stm::mongodb {
namespace {

constexpr char kRefs[] = "refs";
constexpr char kAtoms[] = "atoms";
constexpr char kId[] = "_id";
constexpr char kName[] = "name";
constexpr char kStamp[] = "stamp";
constexpr char kVersion[] = "version";
constexpr char kValue[] = "value";

// Between tries of one call.
constexpr absl::Duration kPauseMin = absl::Milliseconds(5);
constexpr absl::Duration kPauseMax = absl::Milliseconds(200);

// What is asked of MongoDB for one document, until it is done or the deadline has passed. Names it in every
// error.
class Asking {
 public:
  Asking(const Client& client, std::string collection, std::string what, absl::Duration within)
      : client_(client), collection_(std::move(collection)), what_(std::move(what)), deadline_(within) {}

  const Deadline& deadline() const { return deadline_; }

  // Calls `ask`, which may be repeated, until it says something else than UNAVAILABLE.
  template <typename Ask>
  absl::Status Until(const Ask& ask) {
    absl::Duration pause = kPauseMin;
    while (true) {
      const absl::Status status = ask();
      if (status.code() != absl::StatusCode::kUnavailable || deadline_.Left() <= pause) return Named(status);
      absl::SleepFor(pause);
      pause = std::min(2 * pause, kPauseMax);
    }
  }

  absl::Status Named(const absl::Status& status) const {
    if (status.ok()) return status;
    absl::Status named(status.code(), absl::StrCat("mongodb: ", what_, " in ", client_.Where(collection_),
                                                   ": ", status.message()));
    status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
      named.SetPayload(url, absl::Cord(std::string(payload)));
    });
    return named;
  }

 private:
  const Client& client_;
  const std::string collection_;
  const std::string what_;
  const Deadline deadline_;
};

// Others' writes, with which this one goes, may be why it failed: what it is told is about itself.
template <typename Write>
absl::Status TogetherThenAlone(const Deadline& deadline, const Write& write) {
  absl::Status status = write(Sent::kTogether);
  if (status.ok() || absl::IsAlreadyExists(status) || deadline.Passed()) return status;
  return write(Sent::kAlone);
}

// A document's field that must be there.
absl::StatusOr<Value> TakeField(const std::string& document, const char* field) {
  absl::StatusOr<std::optional<Value>> value = FieldOf(document, field);
  if (!value.ok()) return value.status();
  if (!value->has_value())
    return absl::DataLossError(absl::StrCat("the document has no field \"", field, "\""));
  return std::move(**value);
}

// nullopt: there is no document.
absl::StatusOr<std::optional<Value>> ReadValue(Client& client, const char* collection, const std::string& id,
                                               Asking& asking) {
  std::optional<Value> value;
  const absl::Status status = asking.Until([&] {
    const absl::StatusOr<std::optional<std::string>> document =
        client.Find(collection, id, asking.deadline());
    if (!document.ok()) return document.status();
    if (!document->has_value()) return absl::OkStatus();
    absl::StatusOr<Value> field = TakeField(**document, kValue);
    if (field.ok()) value = std::move(*field);
    return field.status();
  });
  if (!status.ok()) return status;
  return value;
}

class Refs final : public containers::VersionedStateContainer {
 public:
  explicit Refs(std::shared_ptr<Client> client) : client_(std::move(client)) {}

  // MongoDB makes a collection with its first document, and nothing is kept for a name but what its stamps
  // have.
  absl::Status Init(const std::string&, absl::Duration) override { return absl::OkStatus(); }
  absl::Status Destroy(const std::string&, absl::Duration) override { return absl::OkStatus(); }

  absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name, const std::string& stamp,
                                                  absl::Duration within) override {
    const std::string id = IdOf(name, stamp);
    Asking asking(*client_, kRefs, absl::StrCat("read ", id), within);
    return ReadValue(*client_, kRefs, id, asking);
  }

  absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value& value,
                          absl::Duration within) override {
    const std::string id = IdOf(name, stamp);
    Asking asking(*client_, kRefs, absl::StrCat("write ", id), within);
    const absl::StatusOr<std::string> document = ToBson({{kId, Value::String(id)},
                                                         {kName, Value::String(name)},
                                                         {kStamp, Value::String(stamp)},
                                                         {kValue, value}},
                                                        name);
    if (!document.ok()) return asking.Named(document.status());
    // Under an _id there is one document at most, so that a write that is repeated finds itself. It counts
    // only as read from a majority: the first may have reached the primary alone.
    return asking.Until([&] {
      const absl::Status inserted = TogetherThenAlone(asking.deadline(), [&](Sent sent) {
        return client_->Insert(kRefs, *document, asking.deadline(), sent);
      });
      if (inserted.code() != absl::StatusCode::kAlreadyExists) return inserted;
      const absl::StatusOr<std::optional<std::string>> there = client_->Find(kRefs, id, asking.deadline());
      if (!there.ok()) return there.status();
      if (!there->has_value())
        return absl::UnavailableError("a document of this _id was there, and was deleted meanwhile");
      const absl::StatusOr<Value> kept = TakeField(**there, kValue);
      if (!kept.ok()) return kept.status();
      if (*kept == value) return absl::OkStatus();
      return absl::AlreadyExistsError(
          "another value is there under this stamp, and stays: a stamp is written once (do other programs, "
          "or daemons of another "
          "store, write to this database?)");
    });
  }

  absl::Status DeleteStateAt(const std::string& name, const std::string& stamp,
                             absl::Duration within) override {
    const std::string id = IdOf(name, stamp);
    Asking asking(*client_, kRefs, absl::StrCat("delete ", id), within);
    return asking.Until([&] {
      return TogetherThenAlone(
          asking.deadline(), [&](Sent sent) { return client_->Delete(kRefs, id, asking.deadline(), sent); });
    });
  }

 private:
  // No stamp has an "@": the last one of a document's _id ends its name.
  static std::string IdOf(const std::string& name, const std::string& stamp) {
    return absl::StrCat(name, "@", stamp);
  }

  const std::shared_ptr<Client> client_;
};

// As MongoDB compares. A shell writes numbers as doubles.
bool IsBelow(const Value& kept, int64_t version) {
  if (kept.is(Type::kInteger)) return kept.integer() < version;
  return !kept.is(Type::kDouble) || !(kept.float64() >= static_cast<double>(version));
}

// Names of atoms that are being written here, each by one call. A server whose updates are not atomic
// (DESIGN.md) then keeps the newest version all the same, as long as one daemon writes; on others it costs
// nothing, since they order writes of a document too.
class Turns {
 public:
  // Calls `act` when no other call is in the turn of this name.
  template <typename Act>
  absl::Status Take(const std::string& name, const Deadline& deadline, const Act& act) {
    {
      absl::MutexLock lock(&mutex_);
      const auto is_free = [&] {
        mutex_.AssertHeld();
        return !taken_.contains(name);
      };
      if (!mutex_.AwaitWithTimeout(absl::Condition(&is_free),
                                   std::max(deadline.Left(), absl::ZeroDuration()))) {
        return absl::UnavailableError("an earlier write of the same atom is not done yet: MongoDB is slow");
      }
      taken_.insert(name);
    }
    absl::Status status = act();
    absl::MutexLock lock(&mutex_);
    taken_.erase(name);
    return status;
  }

 private:
  absl::Mutex mutex_;
  absl::flat_hash_set<std::string> taken_ ABSL_GUARDED_BY(mutex_);
};

class Atoms final : public containers::StateContainer {
 public:
  explicit Atoms(std::shared_ptr<Client> client) : client_(std::move(client)) {}

  absl::Status Init(const std::string&, absl::Duration) override { return absl::OkStatus(); }

  absl::Status Destroy(const std::string& name, int64_t version, absl::Duration within) override {
    Asking asking(*client_, kAtoms, absl::StrCat("delete ", name), within);
    return asking.Until([&] {
      return turns_.Take(name, asking.deadline(),
                         [&] { return client_->DeleteBelow(kAtoms, name, version, asking.deadline()); });
    });
  }

  absl::StatusOr<std::optional<Value>> GetState(const std::string& name, absl::Duration within) override {
    Asking asking(*client_, kAtoms, absl::StrCat("read ", name), within);
    return ReadValue(*client_, kAtoms, name, asking);
  }

  absl::Status SetState(const std::string& name, const Value& value, int64_t version,
                        absl::Duration within) override {
    Asking asking(*client_, kAtoms, absl::StrCat("write ", name), within);
    const absl::StatusOr<std::string> document =
        ToBson({{kId, Value::String(name)}, {kVersion, Value::Integer(version)}, {kValue, value}}, name);
    if (!document.ok()) return asking.Named(document.status());
    return asking.Until([&] {
      return turns_.Take(name, asking.deadline(),
                         [&] { return Replace(name, version, *document, asking.deadline()); });
    });
  }

 private:
  absl::Status Replace(const std::string& name, int64_t version, const std::string& document,
                       const Deadline& deadline) {
    const absl::Status replaced = client_->ReplaceBelow(kAtoms, name, version, document, deadline);
    if (replaced.code() != absl::StatusCode::kAlreadyExists) return replaced;
    // One that is not below, or one that another made at the same moment, which may be.
    const absl::StatusOr<std::optional<std::string>> there = client_->Find(kAtoms, name, deadline);
    if (!there.ok()) return there.status();
    if (there->has_value()) {
      const absl::StatusOr<Value> kept = TakeField(**there, kVersion);
      if (!kept.ok()) return kept.status();
      if (!IsBelow(*kept, version)) return absl::OkStatus();
    }
    return absl::UnavailableError("another writes the same atom");
  }

  const std::shared_ptr<Client> client_;
  Turns turns_;
};

}  // namespace

absl::StatusOr<containers::Container> OpenContainer(const std::string& uri) {
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Open(uri);
  if (!client.ok()) return client.status();
  const std::shared_ptr<Client> shared = std::move(*client);
  containers::Container container;
  container.refs = std::make_unique<Refs>(shared);
  container.atoms = std::make_unique<Atoms>(shared);
  return container;
}

}  // namespace stm::mongodb
