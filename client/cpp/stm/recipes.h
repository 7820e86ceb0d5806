// Recipes: what programs build from refs again and again, on the public API alone. Handles; any thread, but for Fold.
// (Once is TransactOptions::once.)
#ifndef STM_CLIENT_CPP_STM_RECIPES_H_
#define STM_CLIENT_CPP_STM_RECIPES_H_

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "stm/client.h"

namespace stm {

// Queue is one ref that holds a vector: first in, first out, whole within a transaction with whatever else it changes.
// A value is bounded (value_bytes_max), and so is the queue: it is for work to be done, not for storage.
template <typename T>
class Queue {
 public:
  Queue(const Client& client, std::string name) : client_(client), ref_(client.Ref<std::vector<T>>(std::move(name), {})) {}

  // Never conflicts with others that put.
  void Put(Tx& tx, const T& item) const { tx.Commute(ref_, Conj(item)); }
  absl::Status Put(const T& item) const {
    return client_.Transact([&](Tx& tx) { Put(tx, item); });
  }
  // Sleeps until there is one.
  T Take(Tx& tx) const {
    std::vector<T> items = tx.Get(ref_);
    if (items.empty()) tx.Retry();
    T first = std::move(items.front());
    items.erase(items.begin());
    tx.Set(ref_, items);
    return first;
  }
  absl::StatusOr<T> Take(const TransactOptions& options = {}) const {
    return client_.Transact(options, [&](Tx& tx) { return Take(tx); });
  }
  // nullopt: empty.
  absl::StatusOr<std::optional<T>> TryTake() const {
    return client_.Transact([&](Tx& tx) {
      return tx.OrElse([&] { return std::optional<T>(Take(tx)); }, [] { return std::optional<T>(); });
    });
  }

 private:
  Client client_;
  Ref<std::vector<T>> ref_;
};

// Barrier holds `parties` callers back until all of them have come, and then is as new.
class Barrier {
 public:
  Barrier(const Client& client, std::string name, int64_t parties)
      : client_(client), parties_(parties), ref_(client.Ref<std::vector<int64_t>>(std::move(name), {0, 0})) {}

  // A caller whose time is up has come all the same: it is counted once, and does not come again.
  absl::Status Await(const TransactOptions& options = {}) const {
    absl::StatusOr<int64_t> round = client_.Transact([&](Tx& tx) {
      std::vector<int64_t> state = tx.Get(ref_);  // those who came, and the round
      int64_t mine = state[1];
      tx.Set(ref_, state[0] + 1 < parties_ ? std::vector<int64_t>{state[0] + 1, mine} : std::vector<int64_t>{0, mine + 1});
      return mine;
    });
    if (!round.ok()) return round.status();
    return client_.Transact(options, [&](Tx& tx) {
      if (tx.Get(ref_)[1] == *round) tx.Retry();
    });
  }

 private:
  Client client_;
  int64_t parties_;
  Ref<std::vector<int64_t>> ref_;
};

// Election has one leader at a time: who holds the lock `name`, and says so in the ref `name`, written under
// its fence and bound to its session, so that it goes with it. What a leader does for others it fences by its
// Held.
class Election {
 public:
  Election(const Client& client, std::string name)
      : client_(client), name_(std::move(name)), leader_(client.Ref<std::string>(name_)) {}

  // Waits its turn and proclaims `id`, as which the lock is held, too. It leads until it resigns or the Held
  // is lost.
  absl::StatusOr<Held> Campaign(const std::string& id, AcquireOptions options = {}) const {
    options.owner = id;
    absl::StatusOr<Held> held = client_.Acquire(name_, options);
    if (!held.ok()) return held;
    absl::Status proclaimed = Proclaim(*held, id);
    if (!proclaimed.ok()) return proclaimed;
    return held;
  }
  // What observers see, anew. kLockLost: it leads no more, and nothing was changed.
  absl::Status Proclaim(const Held& held, const std::string& value) const {
    Definition bound;
    bound.ephemeral = true;
    return client_.Transact([&](Tx& tx) {
      tx.Fence(held);
      tx.Set(leader_, value);
      tx.Define(leader_, bound);
    });
  }
  absl::Status Resign(Held held) const {
    absl::Status cleared = client_.Transact([&](Tx& tx) {
      tx.Fence(held);
      tx.Delete(leader_);
    });
    return cleared.ok() ? held.Release() : cleared;
  }
  // Calls on_leader(const std::optional<std::string>&) with who leads now (nullopt: nobody), then with each
  // change. Whose lock an operator broke is seen until the next leads, or its session ends.
  template <typename F>
  absl::Status Observe(F&& on_leader, const WatchOptions& options = {}) const {
    return leader_.Follow(std::forward<F>(on_leader), options);
  }

 private:
  Client client_;
  std::string name_;
  Ref<std::string> leader_;
};

// Fold follows records into a state of this process's own: an index, a read model, a triple store. One thread.
//   stm::Fold<Users, CreateUser, DeleteUser> fold(client, {}, [](Users us, const auto& e) { ... });
template <typename State, typename... Records>
class Fold {
 public:
  using Step = std::function<State(State, const std::variant<Records...>&)>;
  Fold(const Client& client, State state, Step step)
      : client_(client), state_(std::move(state)), step_(std::move(step)) {}

  // Takes in what was recorded since. After an error the state is as it was before the call.
  absl::Status Update() {
    RecordOptions options;
    options.from_version = version_ == 0 ? 0 : version_ + 1;
    State next = state_;
    int64_t version = version_;
    try {
      for (auto& record : client_.Records<Records...>(options)) {
        next = step_(std::move(next), record.value);
        version = record.version;
      }
    } catch (const StatusError& error) {
      return error.status();
    }
    state_ = std::move(next);
    version_ = version;
    return absl::OkStatus();
  }
  const State& state() const { return state_; }
  int64_t version() const { return version_; }  // of the newest record taken in

 private:
  Client client_;
  State state_;
  Step step_;
  int64_t version_ = 0;
};

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_RECIPES_H_
