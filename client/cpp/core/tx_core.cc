#include "client/cpp/core/tx_core.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/name.h"
#include "engine/values/edn.h"
#include "engine/values/wire.h"
#include "stm/lock.h"
#include "stm/v1/common.pb.h"

namespace stm::internal {
namespace {

thread_local TxCore* current = nullptr;

// Sets the run that is on this thread's stack, for as long as it lives.
class OnStack {
 public:
  explicit OnStack(TxCore* core) : before_(std::exchange(current, core)) {}
  OnStack(const OnStack&) = delete;
  OnStack& operator=(const OnStack&) = delete;
  ~OnStack() { current = before_; }

 private:
  TxCore* const before_;
};

absl::Status Misuse(Reason reason, absl::StatusCode code, std::string name, const std::string& message) {
  ErrorInfo info;
  info.reason = reason;
  info.name = std::move(name);
  return MakeError(code, message, info);
}

}  // namespace

TxCore::TxCore(std::shared_ptr<ClientCore> client, const TransactOptions& options, const CallOptions& call, int run,
               Carried carried)
    : client_(std::move(client)),
      options_(options),
      call_(call),
      run_(run),
      snapshot_(carried.snapshot),
      store_(carried.snapshot == 0 ? 0 : carried.store),
      cache_(carried.snapshot == 0 ? decltype(cache_)() : std::move(carried.fresh)),
      wanted_(std::move(carried.wanted)) {}

TxCore* TxCore::Current() { return current; }
Tx TxCore::HandleOf(std::shared_ptr<TxCore> core) { return Tx(std::move(core)); }
TxCore& TxCore::Of(Tx& tx) { return *tx.core_; }

absl::Status TxCore::RunBody(const std::shared_ptr<TxCore>& core, const Body& body) {
  OnStack on_stack(core.get());
  core->open_ = true;
  Tx tx = HandleOf(core);
  absl::Status status;
  try {
    status = body.run(tx);
  } catch (const Abandoned&) {
    assert(core->signal_ != Signal::kNone);
  } catch (...) {
    core->open_ = false;
    // What the body made of an abandoned run, its exceptions included, counts for nothing.
    if (core->signal_ == Signal::kNone) throw;
  }
  core->open_ = false;
  return status;
}

void TxCore::Enter() {
  if (!open_) {
    throw TransactionClosed(Misuse(Reason::kTransactionClosed, absl::StatusCode::kFailedPrecondition, "",
                                   "a Tx was used after its body had ended: use it inside the body alone"));
  }
  if (thread_ != std::this_thread::get_id()) {
    throw TransactionClosed(Misuse(Reason::kTransactionClosed, absl::StatusCode::kFailedPrecondition, "",
                                   "a Tx was used by another thread than its body's: use it in the body's thread"));
  }
  CheckSignal();
}

void TxCore::CheckSignal() {
  if (signal_ != Signal::kNone) throw Abandoned();
}

void TxCore::Raise(Signal signal, absl::Status status) {
  signal_ = signal;
  signal_status_ = std::move(status);
  throw Abandoned();
}

void TxCore::RaiseFor(const absl::Status& status) {
  Reason reason = ReasonOf(status);
  bool rerun = reason == Reason::kSnapshotTooOld || reason == Reason::kStoreChanged;
  Raise(rerun ? Signal::kRerun : Signal::kFail, status);
}

void TxCore::Fail(const absl::Status& status) {
  Enter();
  Raise(Signal::kFail, status);
}

void TxCore::SetReadPoint(v1::ReadPoint* at) const {
  if (snapshot_ != 0) {
    at->set_version(snapshot_);
  } else if (options_.stale_ok) {
    at->set_stale(true);
  }
  client_->SetSeen(at->mutable_seen());
  if (snapshot_ != 0) at->mutable_seen()->set_store(store_);
}

void TxCore::TakeSnapshot(const v1::Header& header, int64_t snapshot) {
  if (snapshot_ != 0) return;
  snapshot_ = snapshot;
  store_ = header.store();
}

const Entry& TxCore::Fetch(const std::string& name) {
  auto cached = cache_.find(name);
  if (cached != cache_.end()) return cached->second;
  if (absl::Status status = CheckName(name); !status.ok()) Raise(Signal::kFail, status);
  std::vector<std::string> names = {name};
  for (std::string& wanted : wanted_) {
    if (wanted != name && cache_.find(wanted) == cache_.end()) names.push_back(std::move(wanted));
  }
  wanted_.clear();
  absl::StatusOr<v1::PipelineAnswer> answer = client_->Ask(
      [&](v1::PipelineCall* call) {
        v1::GetRefsRequest* get = call->mutable_get();
        for (const std::string& one : names) get->add_names(client_->names().Full(one));
        SetReadPoint(get->mutable_at());
      },
      call_);
  if (!answer.ok()) RaiseFor(answer.status());
  TakeSnapshot(answer->get().header(), answer->get().snapshot());
  for (int i = 0; i < answer->get().entries_size() && i < static_cast<int>(names.size()); ++i) {
    absl::StatusOr<Entry> entry = EntryFromWire(answer->get().entries(i), client_->names());
    if (!entry.ok()) Raise(Signal::kFail, entry.status());
    cache_.insert_or_assign(names[static_cast<size_t>(i)], *std::move(entry));
  }
  cached = cache_.find(name);
  if (cached == cache_.end()) {
    Raise(Signal::kFail, absl::InternalError(absl::StrCat(name, ": the daemon's answer lacks it: report this")));
  }
  return cached->second;
}

void TxCore::AddRead(const std::string& name) {
  if (read_set_.insert(name).second) reads_.push_back(name);
}

void TxCore::CheckKind(const Handle& handle, const Entry& entry) {
  if (!entry.value.has_value() || entry.is_atom == handle.is_atom) return;
  Raise(Signal::kFail,
        Misuse(Reason::kWrongKind, absl::StatusCode::kFailedPrecondition, handle.name,
               absl::StrCat(handle.name, " is ", entry.is_atom ? "an atom" : "a ref", " and was used as ",
                            handle.is_atom ? "an atom: use client.Ref" : "a ref: use client.Atom")));
}

const Entry& TxCore::FetchOf(const Handle& handle) {
  const Entry& entry = Fetch(handle.name);
  AddRead(handle.name);
  CheckKind(handle, entry);
  if (entry.value.has_value()) handle.exists.store(true, std::memory_order_relaxed);
  return entry;
}

std::optional<Value> TxCore::Read(const Handle& handle) {
  Enter();
  auto written = writes_.find(handle.name);
  if (written == writes_.end()) return FetchOf(handle).value;
  Written& w = written->second;
  if (!w.ops.empty()) return ReadAfterWrites(handle, w);
  if (w.base == Written::Base::kSet) return w.value;
  if (w.base == Written::Base::kDelete) return std::nullopt;
  const Entry& entry = FetchOf(handle);
  return entry.value.has_value() ? entry.value : w.create;
}

Value TxCore::ReadOrInit(const Handle& handle) {
  std::optional<Value> value = Read(handle);
  if (value.has_value()) return *std::move(value);
  if (!handle.init.has_value()) Raise(Signal::kFail, AbsentError(handle.name));
  // A deleted entry is made again by its init; an atom is not written in transactions, and left absent.
  if (!handle.is_atom) {
    Written& written = WriteTo(handle);
    if (written.base == Written::Base::kDelete) {
      written.base = Written::Base::kSet;
      written.value = *handle.init;
    } else {
      written.create = handle.init;
      written.handle = handle.shared_from_this();
    }
  }
  return *handle.init;
}

std::optional<Value> TxCore::ReadAfterWrites(const Handle& handle, Written& written) {
  if (written.seen.has_value()) return *written.seen;
  // Whether the entry exists is the daemon's to know: with the create, the answer is right in both cases.
  if (written.base == Written::Base::kNone && handle.init.has_value()) written.create = handle.init;
  absl::StatusOr<v1::PipelineAnswer> answer = client_->Ask(
      [&](v1::PipelineCall* call) {
        v1::GetRefsRequest* get = call->mutable_get();
        get->add_names(client_->names().Full(handle.name));
        SetReadPoint(get->mutable_at());
        AddWrites(handle.name, written, "", [&] { return get->add_pending(); });
      },
      call_);
  if (!answer.ok()) RaiseFor(answer.status());
  TakeSnapshot(answer->get().header(), answer->get().snapshot());
  AddRead(handle.name);
  if (answer->get().entries_size() != 1) {
    Raise(Signal::kFail, absl::InternalError(absl::StrCat(handle.name, ": the daemon's answer lacks it: report this")));
  }
  absl::StatusOr<Entry> entry = EntryFromWire(answer->get().entries(0), client_->names());
  if (!entry.ok()) Raise(Signal::kFail, entry.status());
  written.seen = entry->value;
  return entry->value;
}

void TxCore::KeepUnknown(const Handle& handle, const Value& value, const Value& known) {
  unknown_.Keep(handle.name, value, known);
}

TxCore::Written& TxCore::WriteTo(const Handle& handle) {
  auto [at, added] = writes_.try_emplace(handle.name);
  if (added) {
    if (absl::Status status = CheckName(handle.name); !status.ok()) {
      writes_.erase(at);
      Raise(Signal::kFail, status);
    }
    order_.push_back(handle.name);
    at->second.is_atom = handle.is_atom;
    at->second.definition = handle.definition;
  }
  return at->second;
}

void TxCore::CheckAlter(const Handle& handle) {
  Enter();
  auto written = writes_.find(handle.name);
  if (written != writes_.end() && !written->second.ops.empty()) {
    Raise(Signal::kFail, Misuse(Reason::kBadValue, absl::StatusCode::kInvalidArgument, handle.name,
                                absl::StrCat(handle.name, ": set or alter after commute in one transaction: the commute "
                                             "would be lost or pinned; alter it alone, or commute it alone")));
  }
}

void TxCore::Write(const Handle& handle, Value value) {
  CheckAlter(handle);
  Written& written = WriteTo(handle);
  written.base = Written::Base::kSet;
  written.create.reset();
  written.value = unknown_.Restore(handle.name, value);
}

CommuteResult TxCore::Apply(const Handle& handle, const Op& op) {
  Enter();
  Written& written = WriteTo(handle);
  if (written.base == Written::Base::kNone && !written.create.has_value() && handle.init.has_value()) {
    written.handle = handle.shared_from_this();
    if (!handle.exists.load(std::memory_order_relaxed)) written.create = handle.init;
  }
  auto result = std::make_shared<std::optional<Value>>();
  written.ops.push_back(op);
  written.results.push_back(result);
  written.seen.reset();
  return CommuteResult(std::move(result));
}

void TxCore::Ensure(const Handle& handle) {
  Enter();
  FetchOf(handle);
  ensures_.insert(handle.name);
}

void TxCore::Erase(const Handle& handle) {
  Enter();
  Written& written = WriteTo(handle);
  Written erased;
  erased.is_atom = written.is_atom;
  erased.definition = written.definition;
  erased.base = Written::Base::kDelete;
  written = std::move(erased);
}

void TxCore::Define(const Handle& handle, const Definition& definition) {
  Enter();
  WriteTo(handle).define = definition;
}

std::vector<Entry> TxCore::ListPages(const std::string& prefix, bool names_only) {
  std::vector<Entry> entries;
  std::string token;
  do {
    absl::StatusOr<v1::PipelineAnswer> answer = client_->Ask(
        [&](v1::PipelineCall* call) {
          v1::ListRefsRequest* list = call->mutable_list();
          list->set_prefix(client_->names().Full(prefix));
          list->set_names_only(names_only);
          list->set_page_token(token);
          SetReadPoint(list->mutable_at());
        },
        call_);
    if (!answer.ok()) RaiseFor(answer.status());
    const v1::ListRefsResponse& page = answer->list();
    TakeSnapshot(page.header(), page.snapshot());
    for (const v1::Entry& message : page.entries()) {
      absl::StatusOr<Entry> entry = EntryFromWire(message, client_->names());
      if (!entry.ok()) Raise(Signal::kFail, entry.status());
      entries.push_back(*std::move(entry));
    }
    token = page.next_page_token();
  } while (!token.empty());
  return entries;
}

std::vector<Entry> TxCore::List(std::string_view prefix_view) {
  Enter();
  std::string prefix(prefix_view);
  if (absl::Status status = CheckPrefix(prefix); !status.ok()) Raise(Signal::kFail, status);
  auto listed = listed_.find(prefix);
  if (listed == listed_.end()) {
    listed = listed_.emplace(prefix, ListPages(prefix, false)).first;
    if (std::find(lists_.begin(), lists_.end(), prefix) == lists_.end()) lists_.push_back(prefix);
    for (const Entry& entry : listed->second) {
      cache_.insert_or_assign(entry.name, entry);
      AddRead(entry.name);
    }
  }
  // What this body wrote lies over what is there.
  std::map<std::string, Entry> entries;
  for (const Entry& entry : listed->second) entries.emplace(entry.name, entry);
  for (auto& [name, written] : writes_) {
    if (!engine::UnderPrefix(name, prefix)) continue;
    Handle handle;
    handle.name = name;
    handle.is_atom = written.is_atom;
    std::optional<Value> value = Read(handle);
    if (value.has_value()) {
      Entry& entry = entries[name];
      entry.name = name;
      entry.value = *std::move(value);
      entry.is_atom = written.is_atom;
    } else {
      entries.erase(name);
    }
  }
  std::vector<Entry> result;
  result.reserve(entries.size());
  for (auto& [name, entry] : entries) result.push_back(std::move(entry));
  return result;
}

std::vector<std::string> TxCore::ListNames(std::string_view prefix_view) {
  Enter();
  std::string prefix(prefix_view);
  if (absl::Status status = CheckPrefix(prefix); !status.ok()) Raise(Signal::kFail, status);
  auto listed = listed_names_.find(prefix);
  if (listed == listed_names_.end()) {
    listed = listed_names_.emplace(prefix, ListPages(prefix, true)).first;
    if (std::find(lists_.begin(), lists_.end(), prefix) == lists_.end()) lists_.push_back(prefix);
  }
  std::set<std::string> names;
  for (const Entry& entry : listed->second) names.insert(entry.name);
  for (const auto& [name, written] : writes_) {
    if (!engine::UnderPrefix(name, prefix)) continue;
    if (written.base == Written::Base::kDelete && written.ops.empty()) {
      names.erase(name);
    } else if (written.base == Written::Base::kSet || written.create.has_value()) {
      names.insert(name);
    }
  }
  return std::vector<std::string>(names.begin(), names.end());
}

void TxCore::Record(Value record) {
  Enter();
  if (!record.is(Type::kTagged)) {
    Raise(Signal::kFail, Misuse(Reason::kBadValue, absl::StatusCode::kInvalidArgument, "",
                                absl::StrCat("a record is a tagged value, not ", std::string(TypeName(record.type())),
                                             ": give its type a tag by STM_RECORD, or record a stm::Tagged")));
  }
  records_.push_back(std::move(record));
}

void TxCore::Fence(std::shared_ptr<Grant> grant) {
  Enter();
  if (grant->over()) Raise(Signal::kFail, LockLostError(grant->name(), "is gone"));
  fences_.push_back(std::move(grant));
}

void TxCore::Fence(std::string_view lock_view, int64_t token) {
  Enter();
  std::string lock(lock_view);
  if (absl::Status status = CheckName(lock); !status.ok()) Raise(Signal::kFail, status);
  if (token <= 0) {
    Raise(Signal::kFail, Misuse(Reason::kBadValue, absl::StatusCode::kInvalidArgument, lock,
                                absl::StrCat(lock, ": ", token,
                                             " is no token of a lock, which are above 0: give the one that "
                                             "its holder has")));
  }
  handed_on_.emplace_back(std::move(lock), token);
}

absl::Status TxCore::CheckFences() const {
  for (const auto& grant : fences_) {
    if (grant->over()) return LockLostError(grant->name(), "is gone");
  }
  return absl::OkStatus();
}

void TxCore::FenceLost(const v1::Fence& fence) { client_->session().Lose(fence.lock(), fence.token()); }

void TxCore::Retry() {
  Enter();
  if (!HasReads()) {
    Raise(Signal::kFail, Misuse(Reason::kBadValue, absl::StatusCode::kInvalidArgument, "",
                                "retry with nothing read would sleep for ever: read what it waits for first"));
  }
  Raise(Signal::kRetry, absl::OkStatus());
}

void TxCore::OnCommit(std::function<void(const stm::Committed&)> f) {
  Enter();
  on_commit_.push_back(std::move(f));
}

size_t TxCore::SetMark() {
  Enter();
  marks_.push_back(Mark{writes_, order_, records_.size(), on_commit_.size()});
  return marks_.size() - 1;
}

void TxCore::DropMark(size_t mark) { marks_.resize(std::min(mark, marks_.size()), Mark()); }

void TxCore::ReturnTo(size_t mark) {
  assert(mark < marks_.size());
  writes_ = std::move(marks_[mark].writes);
  order_ = std::move(marks_[mark].order);
  records_.resize(marks_[mark].records);
  on_commit_.resize(marks_[mark].on_commit);
  DropMark(mark);
}

bool TxCore::TakeRetry(size_t mark) {
  if (signal_ != Signal::kRetry) return false;
  signal_ = Signal::kNone;
  ReturnTo(mark);
  return true;
}

std::optional<Entry> TxCore::ReadOnce(const std::string& name) {
  OnStack on_stack(this);
  open_ = true;
  std::optional<Entry> found;
  try {
    const Entry& entry = Fetch(name);
    AddRead(name);
    if (entry.value.has_value()) found = entry;
  } catch (const Abandoned&) {
    assert(signal_ != Signal::kNone);
  }
  open_ = false;
  return found;
}

void TxCore::WriteOnce(const std::string& name, Value result, absl::Duration ttl) {
  if (writes_.find(name) == writes_.end()) order_.push_back(name);
  Written& written = writes_[name];
  written = Written();
  written.base = Written::Base::kSet;
  written.value = std::move(result);
  written.definition = Definition();
  written.definition->ttl = ttl;
}

bool TxCore::NeedsCommit() const {
  return !writes_.empty() || !records_.empty() || !fences_.empty() || !handed_on_.empty() ||
         (options_.stale_ok && HasReads());
}

bool TxCore::NeedsSession() const {
  return std::any_of(writes_.begin(), writes_.end(), [](const auto& write) {
    const Written& written = write.second;
    return (written.definition.has_value() && written.definition->ephemeral) ||
           (written.define.has_value() && written.define->ephemeral);
  });
}

void TxCore::AddWrites(const std::string& name, const Written& written, const std::string& session,
                       const std::function<v1::Write*()>& add) const {
  auto of = [&] {
    v1::Write* write = add();
    write->set_name(client_->names().Full(name));
    write->set_kind(written.is_atom ? v1::ENTRY_KIND_ATOM : v1::ENTRY_KIND_REF);
    return write;
  };
  auto begin = [&] {
    v1::Write* write = of();
    if (written.definition.has_value()) ToWire(*written.definition, session, write->mutable_definition());
    return write;
  };
  if (written.base == Written::Base::kNone && written.create.has_value()) {
    ToProto(*written.create, begin()->mutable_create());
  }
  if (written.base == Written::Base::kSet) ToProto(written.value, begin()->mutable_set());
  if (written.base == Written::Base::kDelete) of()->set_delete_entry(true);
  for (const Op& op : written.ops) ToWire(op, begin()->mutable_apply());
  if (written.define.has_value()) ToWire(*written.define, session, of()->mutable_define());
}

void TxCore::FillCommit(const std::string& session, v1::CommitRequest* request) const {
  const Names& names = client_->names();
  if (HasReads()) request->set_snapshot(snapshot_);
  request->set_isolation(options_.isolation == Isolation::kSnapshot ? v1::ISOLATION_SNAPSHOT
                                                                    : v1::ISOLATION_SERIALIZABLE);
  for (const std::string& name : reads_) request->add_reads(names.Full(name));
  for (const std::string& prefix : lists_) request->add_lists(names.Full(prefix));
  if (options_.isolation == Isolation::kSnapshot) {
    for (const std::string& name : ensures_) request->add_ensures(names.Full(name));
  }
  for (const std::string& name : order_) {
    AddWrites(name, writes_.find(name)->second, session, [&] { return request->add_writes(); });
  }
  for (const Value& record : records_) ToProto(record, request->add_records());
  for (const auto& grant : fences_) {
    v1::Fence* fence = request->add_fences();
    fence->set_lock(grant->lock());
    fence->set_token(grant->token());
  }
  for (const auto& [lock, token] : handed_on_) {
    v1::Fence* fence = request->add_fences();
    fence->set_lock(names.Full(lock));
    fence->set_token(token);
  }
}

void TxCore::FillAwait(v1::AwaitChangeRequest* request) const {
  client_->SetSeen(request->mutable_seen());
  request->mutable_seen()->set_store(store_);
  request->set_snapshot(snapshot_);
  for (const std::string& name : reads_) request->add_reads(client_->names().Full(name));
  for (const std::string& prefix : lists_) request->add_lists(client_->names().Full(prefix));
}

Carried TxCore::Carry() const {
  Carried carried;
  carried.wanted = reads_;
  return carried;
}

Carried TxCore::CarrySame() const {
  Carried carried;
  carried.snapshot = snapshot_;
  carried.store = store_;
  carried.fresh = cache_;
  return carried;
}

void TxCore::Committed(const v1::Committed& committed) {
  // Results go by the writes as they were sent; none at all when there are only sets, deletes and defines.
  int at = 0;
  auto take = [&]() -> std::optional<Value> {
    int index = at++;
    if (index >= committed.results_size()) return std::nullopt;
    absl::StatusOr<std::optional<Value>> value = ValueFromWire(true, committed.results(index), "a result");
    return value.ok() ? *std::move(value) : std::nullopt;
  };
  for (const std::string& name : order_) {
    Written& written = writes_.find(name)->second;
    if (written.base == Written::Base::kNone && written.create.has_value()) take();
    if (written.base != Written::Base::kNone) take();
    for (auto& result : written.results) *result = take();
    if (written.define.has_value()) take();
    if (written.handle != nullptr) written.handle->exists.store(true, std::memory_order_relaxed);
  }
}

void TxCore::CallOnCommit(const stm::Committed& committed) {
  std::exception_ptr first;
  for (auto& f : on_commit_) {
    try {
      f(committed);
    } catch (...) {
      if (first == nullptr) first = std::current_exception();
    }
  }
  if (first != nullptr) std::rethrow_exception(first);
}

bool TxCore::ForgetExistence(const std::string& name) {
  auto written = writes_.find(name);
  if (written == writes_.end() || written->second.handle == nullptr || written->second.create.has_value()) return false;
  written->second.handle->exists.store(false, std::memory_order_relaxed);
  return true;
}

std::vector<std::string> TxCore::Lines() const {
  std::vector<std::string> lines;
  for (const std::string& name : read_set_) lines.push_back(absl::StrCat("read ", name));
  for (const std::string& prefix : lists_) lines.push_back(absl::StrCat("list ", prefix));
  for (const std::string& name : ensures_) lines.push_back(absl::StrCat("ensure ", name));
  for (const std::string& name : order_) {
    const Written& written = writes_.find(name)->second;
    if (written.create.has_value()) lines.push_back(absl::StrCat("create ", name, " ", ToEdn(*written.create)));
    if (written.base == Written::Base::kSet) lines.push_back(absl::StrCat("set ", name, " ", ToEdn(written.value)));
    if (written.base == Written::Base::kDelete) lines.push_back(absl::StrCat("delete ", name));
    for (const Op& op : written.ops) {
      v1::Operation message;
      ToWire(op, &message);
      lines.push_back(absl::StrCat("commute ", name, " ", message.ShortDebugString()));
    }
    if (written.define.has_value()) {
      v1::Definition message;
      ToWire(*written.define, written.define->ephemeral ? "ours" : "", &message);
      lines.push_back(absl::StrCat("define ", name, " ", message.ShortDebugString()));
    }
  }
  for (const Value& record : records_) lines.push_back(absl::StrCat("record ", ToEdn(record)));
  for (const auto& grant : fences_) lines.push_back(absl::StrCat("fence ", grant->name(), " ", grant->token()));
  for (const auto& [lock, token] : handed_on_) lines.push_back(absl::StrCat("fence ", lock, " ", token));
  switch (signal_) {
    case Signal::kRetry: lines.push_back("retry"); break;
    case Signal::kFail: lines.push_back(absl::StrCat("fail: ", signal_status_.message())); break;
    default: break;
  }
  return lines;
}

}  // namespace stm::internal

namespace stm {

std::vector<Entry> Tx::List(std::string_view prefix) { return core_->List(prefix); }
std::vector<std::string> Tx::Names(std::string_view prefix) { return core_->ListNames(prefix); }
void Tx::Fence(const Held& held) { core_->Fence(held.grant_); }
void Tx::Fence(std::string_view lock, int64_t token) { core_->Fence(lock, token); }
void Tx::Retry() { core_->Retry(); }
int Tx::run() const { return core_->run(); }
std::optional<Value> Tx::Read(const internal::Handle& handle) { return core_->Read(handle); }
Value Tx::ReadOrInit(const internal::Handle& handle) { return core_->ReadOrInit(handle); }
void Tx::KeepUnknown(const internal::Handle& handle, const Value& value, const Value& known) {
  core_->KeepUnknown(handle, value, known);
}
void Tx::CheckAlter(const internal::Handle& handle) { core_->CheckAlter(handle); }
void Tx::Write(const internal::Handle& handle, Value value) { core_->Write(handle, std::move(value)); }
CommuteResult Tx::Apply(const internal::Handle& handle, const Op& op) { return core_->Apply(handle, op); }
void Tx::EnsureEntry(const internal::Handle& handle) { core_->Ensure(handle); }
void Tx::Erase(const internal::Handle& handle) { core_->Erase(handle); }
void Tx::DefineEntry(const internal::Handle& handle, const Definition& definition) {
  core_->Define(handle, definition);
}
void Tx::RecordValue(Value record) { core_->Record(std::move(record)); }
void Tx::CallOnCommit(std::function<void(const Committed&)> f) { core_->OnCommit(std::move(f)); }
void Tx::Fail(const absl::Status& status) { core_->Fail(status); }
size_t Tx::SetMark() { return core_->SetMark(); }
void Tx::CheckSignal(size_t mark) {
  core_->CheckSignal();
  core_->DropMark(mark);
}
bool Tx::TakeRetry(size_t mark) { return core_->TakeRetry(mark); }

void Io() {
  if (internal::TxCore* core = internal::TxCore::Current()) {
    core->Fail(internal::CheckOutside("stm::Io()"));
  }
}

}  // namespace stm
