// TxCore is one run of a transaction's body without its types: the snapshot, what was read of it, and what is to be
// written. It knows the daemon through ClientCore's Ask alone; the loop of runs and the commit are RunTransaction's.
// One thread, the body's. Always: once a signal is raised every call raises it again, and the run is abandoned.
#ifndef STM_CLIENT_CPP_CORE_TX_CORE_H_
#define STM_CLIENT_CPP_CORE_TX_CORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "client/cpp/core/client_core.h"
#include "client/cpp/core/session.h"
#include "client/cpp/core/unknown_fields.h"
#include "stm/tx.h"

namespace stm::internal {

// What a run leaves to the next: entries known to be so at `snapshot`.
struct Carried {
  int64_t snapshot = 0;  // 0: nothing is known, the next run takes a new snapshot
  uint64_t store = 0;
  std::map<std::string, Entry, std::less<>> fresh;
  std::vector<std::string> wanted;  // what the last run read: fetched together with the first that is missing
};

class TxCore : public std::enable_shared_from_this<TxCore> {
 public:
  enum class Signal : uint8_t {
    kNone,
    kRetry,   // sleep until something read changes
    kRerun,   // the snapshot is of no use any more: `status` says why
    kFail,    // `status`
  };

  TxCore(std::shared_ptr<ClientCore> client, const TransactOptions& options, const CallOptions& call, int run,
         Carried carried);

  // The run that is on this thread's stack; null outside bodies.
  static TxCore* Current();
  // A handle for `core`, as bodies get it.
  static Tx HandleOf(std::shared_ptr<TxCore> core);
  static TxCore& Of(Tx& tx);

  // Calls `body` with this run on the thread's stack, then closes it. A body's own exception comes out, unless a
  // signal was raised. The status is the body's.
  static absl::Status RunBody(const std::shared_ptr<TxCore>& core, const Body& body);

  // What bodies do. Each may raise a signal.
  std::optional<Value> Read(const Handle& handle);
  Value ReadOrInit(const Handle& handle);
  void KeepUnknown(const Handle& handle, const Value& value, const Value& known);
  void CheckAlter(const Handle& handle);
  void Write(const Handle& handle, Value value);
  CommuteResult Apply(const Handle& handle, const Op& op);
  void Ensure(const Handle& handle);
  void Erase(const Handle& handle);
  void Define(const Handle& handle, const Definition& definition);
  std::vector<Entry> List(std::string_view prefix);
  std::vector<std::string> ListNames(std::string_view prefix);
  void Record(Value record);
  void Fence(std::shared_ptr<Grant> grant);
  void Fence(std::string_view lock, int64_t token);
  [[noreturn]] void Retry();
  [[noreturn]] void Fail(const absl::Status& status);
  void OnCommit(std::function<void(const Committed&)> f);
  size_t SetMark();
  void DropMark(size_t mark);
  // Back to the mark: what was written since is dropped, what was read stays.
  void ReturnTo(size_t mark);
  // A retry is taken back; false: it was another signal.
  bool TakeRetry(size_t mark);
  // Raises the signal again, if there is one.
  void CheckSignal();

  // /.once/KEY, read like any entry of this snapshot.
  std::optional<Entry> ReadOnce(const std::string& name);
  void WriteOnce(const std::string& name, Value result, absl::Duration ttl);

  const std::shared_ptr<ClientCore>& client() const { return client_; }
  const TransactOptions& options() const { return options_; }
  int run() const { return run_; }
  Signal signal() const { return signal_; }
  const absl::Status& signal_status() const { return signal_status_; }

  bool HasReads() const { return !reads_.empty() || !lists_.empty(); }
  bool NeedsCommit() const;
  uint64_t store() const { return store_; }
  // Does it make an entry that is bound to the client's session?
  bool NeedsSession() const;
  // kLockLost: a grant that it fences is lost already.
  absl::Status CheckFences() const;
  // The daemon says so of one.
  void FenceLost(const v1::Fence& fence);
  // All but id, meta and age. `session`: of ephemeral entries.
  void FillCommit(const std::string& session, v1::CommitRequest* request) const;
  void FillAwait(v1::AwaitChangeRequest* request) const;
  // For the next run; with `fresh` as a conflict or an await told it.
  Carried Carry() const;
  // The same snapshot and values, for a second run of the body on them.
  Carried CarrySame() const;
  // Results reach their commutes, hints their handles; then what waits for the commit is called.
  void Committed(const v1::Committed& committed);
  void CallOnCommit(const stm::Committed& committed);
  // An operation met an absent entry that was thought to exist: true if a rerun that creates it may help.
  bool ForgetExistence(const std::string& name);
  // What was read, written and recorded, a line each, for rerun_check.
  std::vector<std::string> Lines() const;

 private:
  struct Written {
    bool is_atom = false;
    std::optional<Value> create;  // first of all, if the entry is absent
    enum class Base : uint8_t { kNone, kSet, kDelete } base = Base::kNone;
    Value value;  // of kSet
    std::vector<Op> ops;  // on top
    std::vector<std::shared_ptr<std::optional<Value>>> results;  // one an op
    std::optional<Definition> definition;  // of a new entry
    std::optional<Definition> define;
    std::optional<std::optional<Value>> seen;  // as the daemon says it is after all this
    std::shared_ptr<const Handle> handle;  // told of existence
  };
  // What a mark keeps of the past.
  struct Mark {
    std::map<std::string, Written, std::less<>> writes;
    std::vector<std::string> order;
    size_t records;
    size_t on_commit;
  };

  // Throws TransactionClosed outside the body, raises a pending signal again.
  void Enter();
  [[noreturn]] void Raise(Signal signal, absl::Status status);
  // Of a failed read: reruns or fails.
  [[noreturn]] void RaiseFor(const absl::Status& status);
  const Entry& Fetch(const std::string& name);
  const Entry& FetchOf(const Handle& handle);
  std::optional<Value> ReadAfterWrites(const Handle& handle, Written& written);
  Written& WriteTo(const Handle& handle);
  void AddRead(const std::string& name);
  // `session`: of ephemeral entries; "" where nothing is made by it.
  void AddWrites(const std::string& name, const Written& written, const std::string& session,
                 const std::function<v1::Write*()>& add) const;
  void SetReadPoint(v1::ReadPoint* at) const;
  void TakeSnapshot(const v1::Header& header, int64_t snapshot);
  std::vector<Entry> ListPages(const std::string& prefix, bool names_only);
  void CheckKind(const Handle& handle, const Entry& entry);

  const std::shared_ptr<ClientCore> client_;
  const TransactOptions& options_;
  const CallOptions& call_;
  const int run_;
  const std::thread::id thread_ = std::this_thread::get_id();
  bool open_ = false;
  Signal signal_ = Signal::kNone;
  absl::Status signal_status_;

  int64_t snapshot_ = 0;  // 0: nothing was read yet
  uint64_t store_ = 0;
  std::map<std::string, Entry, std::less<>> cache_;  // at snapshot_
  std::vector<std::string> wanted_;
  std::vector<std::string> reads_;  // in order; read_set_ for membership
  std::set<std::string, std::less<>> read_set_;
  std::vector<std::string> lists_;
  std::set<std::string, std::less<>> ensures_;
  std::map<std::string, std::vector<Entry>, std::less<>> listed_;        // whole, by prefix
  std::map<std::string, std::vector<Entry>, std::less<>> listed_names_;  // names alone
  std::map<std::string, Written, std::less<>> writes_;
  std::vector<std::string> order_;  // of writes_
  std::vector<Value> records_;
  std::vector<std::shared_ptr<Grant>> fences_;
  std::vector<std::pair<std::string, int64_t>> handed_on_;  // fences of others' grants: lock and token
  std::vector<std::function<void(const stm::Committed&)>> on_commit_;
  std::vector<Mark> marks_;
  UnknownFieldsKept unknown_;
};

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_TX_CORE_H_
