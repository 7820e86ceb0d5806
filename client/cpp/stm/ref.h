// Ref<T> and Atom<T> are typed names of entries: handles that do no I/O when made, cheap to copy, usable from any
// thread. A ref changes inside transactions only, by way of Tx; an atom changes alone, by its own methods.
// Calls here are I/O: inside a transaction's body they return kInTransaction.
#ifndef STM_CLIENT_CPP_STM_REF_H_
#define STM_CLIENT_CPP_STM_REF_H_

#include <future>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "stm/codec.h"
#include "stm/internal.h"

namespace stm {

namespace internal {

// What refs and atoms have in common.
template <typename T>
class EntryHandle {
 public:
  const std::string& name() const { return handle_->name; }

  // The newest value, linearizable. Absent: the handle's init, else the error kAbsent.
  absl::StatusOr<T> Get(const ReadOptions& options = {}) const {
    absl::StatusOr<std::optional<Value>> value = ReadOutside(*handle_, options);
    if (!value.ok()) return value.status();
    if (!value->has_value()) *value = handle_->init;
    if (!value->has_value()) return AbsentError(name());
    return DecodeEntry<T>(name(), **value);
  }
  // nullopt: absent.
  absl::StatusOr<std::optional<T>> Find(const ReadOptions& options = {}) const {
    absl::StatusOr<std::optional<Value>> value = ReadOutside(*handle_, options);
    if (!value.ok()) return value.status();
    if (!value->has_value()) return std::optional<T>();
    absl::StatusOr<T> decoded = DecodeEntry<T>(name(), **value);
    if (!decoded.ok()) return decoded.status();
    return std::optional<T>(*std::move(decoded));
  }
  std::future<absl::StatusOr<T>> GetAsync(const ReadOptions& options = {}) const {
    return Async(handle_->client, [self = *this, options] { return self.Get(options); });
  }

  // Who changed it, when and why, newest first, as far as the log goes.
  absl::StatusOr<std::vector<Commit>> History(const HistoryOptions& options = {}) const {
    return HistoryOf(*handle_, options);
  }
  // Calls on_value(const std::optional<T>&) with the present value (nullopt: absent), then with the newest after each
  // change, until it returns false. Values that come faster than they are taken are left out.
  template <typename F>
  absl::Status Follow(F&& on_value, const WatchOptions& options = {}) const {
    absl::Status bad;
    absl::Status status = FollowEntry(*handle_, options, [&](const std::optional<Value>& value) {
      if (!value.has_value()) return on_value(std::optional<T>());
      absl::StatusOr<T> decoded = DecodeEntry<T>(name(), *value);
      if (!decoded.ok()) {
        bad = decoded.status();
        return false;
      }
      return on_value(std::optional<T>(*std::move(decoded)));
    });
    return bad.ok() ? status : bad;
  }

  // Replaces validator and TTL, whole, by a commit of its own; the present value is checked by the new validator.
  absl::Status Define(const Definition& definition, const TransactOptions& options = {}) const {
    return DefineOutside(*handle_, definition, options);
  }
  // nullopt: absent.
  absl::StatusOr<std::optional<stm::Definition>> GetDefinition(const ReadOptions& options = {}) const {
    return DefinitionOf(*handle_, options);
  }

  const Handle& handle() const { return *handle_; }

 protected:
  explicit EntryHandle(HandlePtr handle) : handle_(std::move(handle)) {}
  HandlePtr handle_;
};

}  // namespace internal

template <typename T>
class Ref : public internal::EntryHandle<T> {
 public:
  explicit Ref(internal::HandlePtr handle) : internal::EntryHandle<T>(std::move(handle)) {}
};

template <typename T>
class Atom : public internal::EntryHandle<T> {
 public:
  explicit Atom(internal::HandlePtr handle) : internal::EntryHandle<T>(std::move(handle)) {}

  absl::Status Reset(const std::common_type_t<T>& value, const TransactOptions& options = {}) const {
    return internal::SetOutside(*this->handle_, Encode<T>(value), options);
  }
  // f: T(T), pure: it may run several times. The new value.
  template <typename F>
  absl::StatusOr<T> Swap(F&& f, const TransactOptions& options = {}) const {
    static_assert(std::is_convertible_v<std::invoke_result_t<F&, T>, T>, "f takes the value and returns the new one");
    std::optional<T> after;
    absl::Status status = internal::SwapOutside(
        *this->handle_,
        [&](const std::optional<Value>& before) -> absl::StatusOr<Value> {
          if (!before.has_value()) return internal::AbsentError(this->name());
          absl::StatusOr<T> decoded = internal::DecodeEntry<T>(this->name(), *before);
          if (!decoded.ok()) return decoded.status();
          after.emplace(f(*std::move(decoded)));
          return Encode<T>(*after);
        },
        options);
    if (!status.ok()) return status;
    return *std::move(after);
  }
  // False: it was another value. expected nullopt: must be absent.
  absl::StatusOr<bool> CompareAndSet(const std::optional<T>& expected, const std::common_type_t<T>& value,
                                     const TransactOptions& options = {}) const {
    absl::StatusOr<Value> result =
        internal::ApplyOutside(*this->handle_, stm::CompareAndSet<T>(expected, value), options);
    if (result.ok()) return true;
    if (InfoOf(result.status()).cause == "compare") return false;
    return result.status();
  }
  // The operation's result: the new value, but what was removed for Pop and Shift.
  template <typename R = T>
  absl::StatusOr<R> Apply(const Op& op, const TransactOptions& options = {}) const {
    absl::StatusOr<Value> result = internal::ApplyOutside(*this->handle_, op, options);
    if (!result.ok()) return result.status();
    return internal::DecodeEntry<R>(this->name(), *result);
  }
  absl::Status Delete(const TransactOptions& options = {}) const {
    return internal::DeleteOutside(*this->handle_, options);
  }
};

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_REF_H_
