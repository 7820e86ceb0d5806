// The untyped core behind the templates of stm/*.h. Nothing here is for users.
#ifndef STM_CLIENT_CPP_STM_INTERNAL_H_
#define STM_CLIENT_CPP_STM_INTERNAL_H_

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "stm/op.h"
#include "stm/options.h"

namespace stm {

class Tx;

namespace internal {

class ClientCore;
class TxCore;

// What a Ref or an Atom is, shared by its copies.
struct Handle : std::enable_shared_from_this<Handle> {
  std::shared_ptr<ClientCore> client;
  std::string name;
  bool is_atom = false;
  std::optional<Value> init;
  std::optional<Definition> definition;
  // Seen to exist: an operation needs no create before it. A hint; cleared when the daemon finds the entry absent.
  mutable std::atomic<bool> exists{false};
};
using HandlePtr = std::shared_ptr<const Handle>;

// Leaves a body. No std::exception, so that a body does not take it for one of its own.
struct Abandoned {};

// A transaction's body without its types.
struct Body {
  std::function<absl::Status(Tx&)> run;                // the status it returned
  std::function<Value()> result;                       // of the last run; unset: has no codec
  std::function<absl::Status(const Value&)> adopt;     // takes a result kept under a once key
};
absl::Status RunTransaction(const std::shared_ptr<ClientCore>& client, const TransactOptions& options,
                            const Body& body);

// OK outside all bodies; else InTransaction, naming what was called.
absl::Status CheckOutside(std::string_view what);
// BadValue of an entry, naming it.
absl::Status OfEntry(std::string_view name, const absl::Status& status);
absl::Status AbsentError(std::string_view name);

// Reads outside transactions. nullopt: absent.
absl::StatusOr<std::optional<Value>> ReadOutside(const Handle& handle, const ReadOptions& options);
// One commit of one entry.
absl::Status SetOutside(const Handle& handle, const Value& value, const TransactOptions& options);
absl::Status DeleteOutside(const Handle& handle, const TransactOptions& options);
absl::StatusOr<Value> ApplyOutside(const Handle& handle, const Op& op, const TransactOptions& options);
absl::Status SwapOutside(const Handle& handle,
                         const std::function<absl::StatusOr<Value>(const std::optional<Value>&)>& swap,
                         const TransactOptions& options);
absl::Status DefineOutside(const Handle& handle, const Definition& definition, const TransactOptions& options);
absl::StatusOr<std::optional<Definition>> DefinitionOf(const Handle& handle, const ReadOptions& options);
absl::StatusOr<std::vector<Commit>> HistoryOf(const Handle& handle, const HistoryOptions& options);
absl::Status FollowEntry(const Handle& handle, const WatchOptions& options,
                         const std::function<bool(const std::optional<Value>&)>& on_value);

// Runs `work` on the client's pool.
void RunAsync(const std::shared_ptr<ClientCore>& client, std::function<void()> work);

template <typename F>
auto Async(const std::shared_ptr<ClientCore>& client, F work) -> std::future<decltype(work())> {
  auto task = std::make_shared<std::packaged_task<decltype(work())()>>(std::move(work));
  auto future = task->get_future();
  RunAsync(client, [task] { (*task)(); });
  return future;
}

template <typename T>
absl::StatusOr<T> DecodeEntry(const std::string& name, const Value& value) {
  absl::StatusOr<T> decoded = Decode<T>(value);
  TakeLoss();
  if (!decoded.ok()) return OfEntry(name, decoded.status());
  return decoded;
}

}  // namespace internal
}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_INTERNAL_H_
