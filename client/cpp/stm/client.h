// Client is a connection to stmd: one stream that carries every read and commit, pinned to one daemon, mended unseen
// when it breaks. Connect() makes one; copies are one client; any thread. Refs, atoms, views and ranges keep it alive.
#ifndef STM_CLIENT_CPP_STM_CLIENT_H_
#define STM_CLIENT_CPP_STM_CLIENT_H_

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "stm/codec.h"
#include "stm/error.h"
#include "stm/internal.h"
#include "stm/lock.h"
#include "stm/offer.h"
#include "stm/op.h"
#include "stm/options.h"
#include "stm/records.h"
#include "stm/ref.h"
#include "stm/tx.h"
#include "stm/value.h"

namespace stm {

class Client;

// Waits for a daemon that is ready, unavailable_timeout at most. No arguments: STM_ADDRESS, else 127.0.0.1:7440.
absl::StatusOr<Client> Connect(const ConnectOptions& options = {});
absl::StatusOr<Client> Connect(const std::string& address);

namespace internal {

template <typename T>
struct IsStatusOr : std::false_type {};
template <typename T>
struct IsStatusOr<absl::StatusOr<T>> : std::true_type {
  using Value = T;
};

// What Transact returns for a body that returns R.
template <typename R>
struct TransactTraits {
  using Result = absl::StatusOr<R>;
  using Kept = R;
};
template <typename R>
struct TransactTraits<absl::StatusOr<R>> {
  using Result = absl::StatusOr<R>;
  using Kept = R;
};
template <>
struct TransactTraits<void> {
  using Result = absl::Status;
  using Kept = Nil;
};
template <>
struct TransactTraits<absl::Status> {
  using Result = absl::Status;
  using Kept = Nil;
};

class ViewPoint;  // where a View reads; an instant becomes a version at the first read

}  // namespace internal

// View reads the past: all its reads are of one version. SnapshotTooOld when that is no longer kept. Any thread.
class View {
 public:
  template <typename T>
  absl::StatusOr<T> Get(const Ref<T>& ref) const { return GetOf<T>(ref.handle()); }
  template <typename T>
  absl::StatusOr<T> Get(const Atom<T>& atom) const { return GetOf<T>(atom.handle()); }
  template <typename T>
  absl::StatusOr<std::optional<T>> Find(const Ref<T>& ref) const { return FindOf<T>(ref.handle()); }
  template <typename T>
  absl::StatusOr<std::optional<T>> Find(const Atom<T>& atom) const { return FindOf<T>(atom.handle()); }
  absl::StatusOr<std::vector<Entry>> List(std::string_view prefix) const;
  absl::StatusOr<std::vector<std::string>> Names(std::string_view prefix) const;
  // 0: not known before the first read.
  int64_t version() const;

 private:
  friend class Client;
  explicit View(std::shared_ptr<internal::ViewPoint> point) : point_(std::move(point)) {}
  absl::StatusOr<std::optional<Value>> Read(const std::string& name) const;

  template <typename T>
  absl::StatusOr<std::optional<T>> FindOf(const internal::Handle& handle) const {
    absl::StatusOr<std::optional<Value>> value = Read(handle.name);
    if (!value.ok()) return value.status();
    if (!value->has_value()) return std::optional<T>();
    absl::StatusOr<T> decoded = internal::DecodeEntry<T>(handle.name, **value);
    if (!decoded.ok()) return decoded.status();
    return std::optional<T>(*std::move(decoded));
  }
  template <typename T>
  absl::StatusOr<T> GetOf(const internal::Handle& handle) const {
    absl::StatusOr<std::optional<T>> value = FindOf<T>(handle);
    if (!value.ok()) return value.status();
    if (!value->has_value()) return internal::AbsentError(handle.name);
    return **std::move(value);
  }

  std::shared_ptr<internal::ViewPoint> point_;
};

class Client {
 public:
  // Handles. init: the entry is made with it if absent, by the first transaction that touches it, and never reset.
  template <typename T>
  stm::Ref<T> Ref(std::string name) const { return stm::Ref<T>(MakeHandle<T>(std::move(name), false)); }
  template <typename T>
  stm::Ref<T> Ref(std::string name, const std::common_type_t<T>& init) const {
    return stm::Ref<T>(MakeHandle<T>(std::move(name), false, Encode<T>(init)));
  }
  // The definition is for who creates the entry; an existing one keeps its own.
  template <typename T>
  stm::Ref<T> Ref(std::string name, const std::optional<std::common_type_t<T>>& init, Definition definition) const {
    return stm::Ref<T>(MakeHandle<T>(std::move(name), false, EncodeInit<T>(init), std::move(definition)));
  }
  template <typename T>
  stm::Atom<T> Atom(std::string name) const { return stm::Atom<T>(MakeHandle<T>(std::move(name), true)); }
  template <typename T>
  stm::Atom<T> Atom(std::string name, const std::common_type_t<T>& init) const {
    return stm::Atom<T>(MakeHandle<T>(std::move(name), true, Encode<T>(init)));
  }
  template <typename T>
  stm::Atom<T> Atom(std::string name, const std::optional<std::common_type_t<T>>& init, Definition definition) const {
    return stm::Atom<T>(MakeHandle<T>(std::move(name), true, EncodeInit<T>(init), std::move(definition)));
  }

  // Runs body(stm::Tx&) as a transaction, again and again until it commits on a snapshot that still stands. A body
  // that returns nothing gives a Status, a T a StatusOr<T>; one that returns an error Status, or throws, changes
  // nothing, and the error or exception comes out unchanged. Inside a body it joins that transaction.
  template <typename F>
  auto Transact(F&& body) const { return Transact(TransactOptions(), std::forward<F>(body)); }
  template <typename F>
  auto Transact(const TransactOptions& options, F&& body) const ->
      typename internal::TransactTraits<std::invoke_result_t<F&, Tx&>>::Result {
    using R = std::invoke_result_t<F&, Tx&>;
    using Kept = typename internal::TransactTraits<R>::Kept;
    std::optional<Kept> kept;
    internal::Body untyped;
    untyped.run = [&](Tx& tx) -> absl::Status {
      kept.reset();
      if constexpr (std::is_void_v<R>) {
        body(tx);
        kept.emplace();
      } else if constexpr (std::is_same_v<R, absl::Status>) {
        absl::Status status = body(tx);
        if (!status.ok()) return status;
        kept.emplace();
      } else if constexpr (internal::IsStatusOr<R>::value) {
        R result = body(tx);
        if (!result.ok()) return result.status();
        kept.emplace(*std::move(result));
      } else {
        kept.emplace(body(tx));
      }
      return absl::OkStatus();
    };
    if constexpr (internal::HasCodec<Kept>::value) {
      untyped.result = [&] { return Encode<Kept>(*kept); };
      untyped.adopt = [&](const Value& value) -> absl::Status {
        absl::StatusOr<Kept> decoded = Decode<Kept>(value);
        internal::TakeLoss();
        if (!decoded.ok()) return decoded.status();
        kept.emplace(*std::move(decoded));
        return absl::OkStatus();
      };
    }
    absl::Status status = internal::RunTransaction(core_, options, untyped);
    if constexpr (std::is_void_v<R> || std::is_same_v<R, absl::Status>) {
      return status;
    } else {
      if (!status.ok()) return status;
      return *std::move(kept);
    }
  }
  // On the client's pool. What the body refers to must outlive it. A body's exception is the future's.
  template <typename F>
  auto TransactAsync(F body) const { return TransactAsync(TransactOptions(), std::move(body)); }
  template <typename F>
  auto TransactAsync(TransactOptions options, F body) const {
    return internal::Async(core_, [client = *this, options = std::move(options), body = std::move(body)]() mutable {
      return client.Transact(options, body);
    });
  }

  // Waits its turn for a lock, first come, first served, and holds it until the Held ends. The client's session is opened by
  // the first. kLockBusy: not within options.wait; kUpgradeRefused; kDeadlock; kLockLost: its place was taken from it.
  absl::StatusOr<Held> Acquire(std::string_view name, const AcquireOptions& options = {}) const {
    return internal::AcquireHeld(core_, name, options);
  }
  // Keeps values in this process (offer.h): of refs and atoms whose Definition::container is "offered:NAME". Null: it keeps
  // none of that kind. Returns when it stands. FAILED_PRECONDITION: another offers that name to this daemon.
  absl::StatusOr<stm::Offer> Offer(std::string_view name, std::shared_ptr<VersionedStateContainer> refs,
                                   std::shared_ptr<StateContainer> atoms, const OfferOptions& options = {}) const {
    return internal::OfferContainer(core_, name, std::move(refs), std::move(atoms), options);
  }
  // The session that locks and ephemeral entries are held by, opened if there is none.
  absl::StatusOr<stm::Session> OpenSession() const;
  // An operator's: who holds a lock and who waits; all locks under a prefix that are held, or were of late, without queues.
  absl::StatusOr<LockInfo> Lock(std::string_view name) const;
  absl::StatusOr<std::vector<LockInfo>> Locks(std::string_view prefix) const;
  // Takes it from all who hold it, by a commit that says who and, as `label`, why. False: nobody does.
  absl::StatusOr<bool> BreakLock(std::string_view name, std::string_view label = "") const;
  // All sessions of the store, and the end of one, with all that it has. OK too if it is over.
  absl::StatusOr<std::vector<SessionInfo>> Sessions() const;
  absl::Status ExpireSession(std::string_view session_id, std::string_view label = "") const;

  // Entries under a prefix, by name, all of one snapshot.
  absl::StatusOr<std::vector<Entry>> List(std::string_view prefix) const;

  // The past: at a version, or at the newest version at or before a moment.
  View At(int64_t version) const;
  View At(Instant instant) const;

  // Calls on_commit(const stm::Commit&) for each commit that changes something selected, in order, each once, until it
  // returns false (then OK). A name, or a prefix that ends in "/". Reconnects unseen; what was lost meanwhile is mended
  // by a Commit marked initial.
  absl::Status Watch(std::string_view selector, const WatchOptions& options,
                     const std::function<bool(const Commit&)>& on_commit) const;
  absl::Status Watch(const std::vector<std::string>& selectors, const WatchOptions& options,
                     const std::function<bool(const Commit&)>& on_commit) const;
  absl::Status Watch(std::string_view selector, const std::function<bool(const Commit&)>& on_commit) const {
    return Watch(selector, WatchOptions(), on_commit);
  }

  // for (auto& r : client.Records<CreateUser, DeleteUser>()) std::visit(..., r.value): records of these types.
  template <typename... Ts>
  RecordRange<std::variant<Ts...>> Records(RecordOptions options = {}) const {
    options.tags = {std::string(internal::TagOf<Ts>())...};
    return RecordRange<std::variant<Ts...>>(internal::OpenRecords(core_, options));
  }
  // All, or those of options.tags, untyped.
  RecordRange<Value> Records(const RecordOptions& options = {}) const {
    return RecordRange<Value>(internal::OpenRecords(core_, options));
  }

  // What became of a commit whose outcome was unknown, by the word of its error. OK with a version: committed; OK with
  // nullopt: it never was and never will be. CommitUnknown: too long ago to tell.
  absl::StatusOr<std::optional<int64_t>> Outcome(const std::string& word,
                                                 absl::Duration timeout = absl::Seconds(10)) const;

  // The newest version this client knows.
  int64_t seen_version() const;
  // The daemon it is pinned to.
  std::string address() const;

 private:
  friend absl::StatusOr<Client> Connect(const ConnectOptions& options);
  explicit Client(std::shared_ptr<internal::ClientCore> core) : core_(std::move(core)) {}

  template <typename T>
  static std::optional<Value> EncodeInit(const std::optional<T>& init) {
    if (!init.has_value()) return std::nullopt;
    return Encode<T>(*init);
  }
  template <typename T>
  internal::HandlePtr MakeHandle(std::string name, bool is_atom, std::optional<Value> init = std::nullopt,
                                 std::optional<Definition> definition = std::nullopt) const {
    auto handle = std::make_shared<internal::Handle>();
    handle->client = core_;
    handle->name = std::move(name);
    handle->is_atom = is_atom;
    handle->init = std::move(init);
    handle->definition = std::move(definition);
    return handle;
  }

  std::shared_ptr<internal::ClientCore> core_;
};

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_CLIENT_H_
