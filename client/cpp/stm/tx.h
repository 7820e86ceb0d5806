// Tx is a running transaction, as its body sees it: all reads are of one snapshot, writes are seen by later reads of
// the same body, and nothing is visible to others until the commit. The body may run several times: it is a function
// of what it reads. A read that fails leaves the body by an exception that is no std::exception; Transact returns why.
// Used by the body's thread, while the body runs; later: TransactionClosed. Copies are one transaction.
#ifndef STM_CLIENT_CPP_STM_TX_H_
#define STM_CLIENT_CPP_STM_TX_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "stm/codec.h"
#include "stm/internal.h"
#include "stm/ref.h"

namespace stm {

class Held;

// What a commute will have resulted in, once its transaction is committed.
class CommuteResult {
 public:
  // nullopt: not committed (yet), or the answer was lost with a broken connection and no longer kept.
  const std::optional<Value>& value() const { return *value_; }
  template <typename T>
  absl::StatusOr<T> As() const {
    if (!value_->has_value()) return absl::FailedPreconditionError("a commute's result comes with the commit");
    return Decode<T>(**value_);
  }

 private:
  friend class internal::TxCore;
  explicit CommuteResult(std::shared_ptr<std::optional<Value>> value) : value_(std::move(value)) {}
  std::shared_ptr<std::optional<Value>> value_;
};

class Tx {
 public:
  // Absent: a ref's init (which is created by this commit), else the error kAbsent.
  template <typename T>
  T Get(const Ref<T>& ref) {
    return Take<T>(ref.handle(), ReadOrInit(ref.handle()));
  }
  template <typename T>
  T Get(const Atom<T>& atom) {
    return Take<T>(atom.handle(), ReadOrInit(atom.handle()));
  }
  // nullopt: absent.
  template <typename T>
  std::optional<T> Find(const Ref<T>& ref) {
    return TakeOptional<T>(ref.handle(), Read(ref.handle()));
  }
  template <typename T>
  std::optional<T> Find(const Atom<T>& atom) {
    return TakeOptional<T>(atom.handle(), Read(atom.handle()));
  }

  template <typename T>
  void Set(const Ref<T>& ref, const std::common_type_t<T>& value) {
    Write(ref.handle(), Encode<T>(value));
  }
  // f: T(T). The new value.
  template <typename T, typename F>
  T Alter(const Ref<T>& ref, F&& f) {
    static_assert(std::is_convertible_v<std::invoke_result_t<F&, T>, T>, "f takes the value and returns the new one");
    CheckAlter(ref.handle());
    T after = f(Get(ref));
    Write(ref.handle(), Encode<T>(after));
    return after;
  }
  // Applied by the daemon to the value of the commit: never a conflict. Set or Alter of the same ref after it is an
  // error; Get asks the daemon, and counts as a read.
  template <typename T>
  CommuteResult Commute(const Ref<T>& ref, const Op& op) {
    return Apply(ref.handle(), op);
  }
  // Under Isolation::kSnapshot: the commit fails if the ref has changed since.
  template <typename T>
  void Ensure(const Ref<T>& ref) {
    EnsureEntry(ref.handle());
  }
  template <typename T>
  void Ensure(const Atom<T>& atom) {
    EnsureEntry(atom.handle());
  }
  template <typename T>
  void Delete(const Ref<T>& ref) {
    Erase(ref.handle());
  }

  // Entries under a prefix ("/jobs/"), by name; creating or deleting one there before the commit is a conflict.
  std::vector<Entry> List(std::string_view prefix);
  std::vector<std::string> Names(std::string_view prefix);  // their values are not read
  template <typename T>
  std::map<std::string, T> List(std::string_view prefix) {
    std::map<std::string, T> entries;
    for (const Entry& entry : List(prefix)) {
      absl::StatusOr<T> value = internal::DecodeEntry<T>(entry.name, *entry.value);
      if (!value.ok()) Fail(value.status());
      entries.emplace(entry.name, *std::move(value));
    }
    return entries;
  }

  // A tagged value that says what this transaction is about; kept in the log with the commit.
  template <typename T>
  void Record(const T& record) {
    RecordValue(Encode(record));
  }

  // Replaces validator, TTL and binding of a ref that is there by then, whole, together with what else the
  // body does: who sets a ref and defines it as ephemeral has bound it to this client's session, whoever made
  // it.
  template <typename T>
  void Define(const Ref<T>& ref, const Definition& definition) {
    DefineEntry(ref.handle(), definition);
  }

  // Commits only while this grant stands, else kLockLost: also of a transaction that only reads. One that is lost already
  // ends the body at once.
  void Fence(const Held& held);
  // A grant that another client holds and handed on, as `stmctl lock` does by STM_LOCK and STM_LOCK_TOKEN:
  // the daemon alone knows whether it stands.
  void Fence(std::string_view lock, int64_t token);

  // Abandons this run, sleeps until something read has changed, and runs the body again.
  [[noreturn]] void Retry();
  // Runs a; where a retries, b instead. What a wrote is dropped, what a read still counts.
  template <typename A, typename B>
  auto OrElse(A&& a, B&& b) -> std::invoke_result_t<A&> {
    using R = std::invoke_result_t<A&>;
    static_assert(std::is_same_v<R, std::invoke_result_t<B&>>, "both sides return the same type");
    size_t mark = SetMark();
    try {
      if constexpr (std::is_void_v<R>) {
        a();
        CheckSignal(mark);
        return;
      } else {
        R result = a();
        CheckSignal(mark);
        return result;
      }
    } catch (const internal::Abandoned&) {
      if (!TakeRetry(mark)) throw;
    }
    return b();
  }

  // Called once, when the commit is durable; never for a run that was abandoned. f: void(), or
  // void(const stm::Committed&).
  template <typename F>
  void OnCommit(F f) {
    if constexpr (std::is_invocable_v<F&, const Committed&>) {
      CallOnCommit(std::move(f));
    } else {
      CallOnCommit([f = std::move(f)](const Committed&) mutable { f(); });
    }
  }

  // This run's number, from 1.
  int run() const;

 private:
  friend class internal::TxCore;
  explicit Tx(std::shared_ptr<internal::TxCore> core) : core_(std::move(core)) {}

  template <typename T>
  T Take(const internal::Handle& handle, const Value& value) {
    absl::StatusOr<T> decoded = Decode<T>(value);
    bool loss = internal::TakeLoss();
    if (!decoded.ok()) Fail(internal::OfEntry(handle.name, decoded.status()));
    if (loss) KeepUnknown(handle, value, Encode<T>(*decoded));
    return *std::move(decoded);
  }
  template <typename T>
  std::optional<T> TakeOptional(const internal::Handle& handle, const std::optional<Value>& value) {
    if (!value.has_value()) return std::nullopt;
    return Take<T>(handle, *value);
  }

  std::optional<Value> Read(const internal::Handle& handle);
  Value ReadOrInit(const internal::Handle& handle);
  // What `value` was read as has no place for all of it: `known` is what it would be written back as.
  void KeepUnknown(const internal::Handle& handle, const Value& value, const Value& known);
  void CheckAlter(const internal::Handle& handle);
  void Write(const internal::Handle& handle, Value value);
  CommuteResult Apply(const internal::Handle& handle, const Op& op);
  void EnsureEntry(const internal::Handle& handle);
  void Erase(const internal::Handle& handle);
  void DefineEntry(const internal::Handle& handle, const Definition& definition);
  void RecordValue(Value record);
  void CallOnCommit(std::function<void(const Committed&)> f);
  [[noreturn]] void Fail(const absl::Status& status);
  size_t SetMark();
  void CheckSignal(size_t mark);
  bool TakeRetry(size_t mark);

  std::shared_ptr<internal::TxCore> core_;
};

// Marks code that must not run in a transaction, because a rerun would repeat it: inside a body it ends the
// transaction with kInTransaction.
void Io();

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_TX_H_
