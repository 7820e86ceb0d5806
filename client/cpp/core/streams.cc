// What goes by calls of its own, beside the Pipeline: watches, the log, an entry's history, outcomes.
#include <algorithm>
#include <deque>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/core/cancel.h"
#include "client/cpp/core/client_core.h"
#include "client/cpp/core/grpc_status.h"
#include "client/cpp/core/server_stream.h"
#include "client/cpp/core/tx_core.h"
#include "client/cpp/core/unary.h"
#include "stm/client.h"
#include "stm/outcome_word.h"
#include "stm/v1/log_service.grpc.pb.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "stm/v1/watch_service.grpc.pb.h"

namespace stm::internal {
namespace {

// A follower of the log is told nothing while nothing happens: after this much silence the daemon is asked.
constexpr absl::Duration kSilenceMax = absl::Seconds(15);

// A watch, over as many calls as it takes.
class Watcher {
 public:
  Watcher(ClientCore& core, const v1::Selector& selector, const WatchOptions& options,
          const std::function<bool(const Commit&)>& on_commit)
      : core_(core),
        selector_(selector),
        options_(options),
        on_commit_(on_commit),
        call_{Deadline::In(options.timeout), options.canceller},
        outage_(core.options().unavailable_timeout),
        after_(options.after),
        initial_(options.initial),
        store_(core.position().Get().store) {}

  absl::Status Run() {
    for (;;) {
      if (IsCancelled(call_.canceller)) return CancelledError();
      if (call_.deadline.passed()) return absl::DeadlineExceededError("the watch's time is up");
      absl::StatusOr<std::shared_ptr<Link>> link =
          core_.transport().Get(Deadline::Earlier(call_.deadline, outage_.until()), call_.canceller);
      if (!link.ok()) {
        if (IsCancelled(call_.canceller)) return CancelledError();
        if (call_.deadline.passed()) return absl::DeadlineExceededError("the watch's time is up");
        return link.status();
      }
      std::optional<absl::Status> over = RunOn(**link);
      if (over.has_value()) return *std::move(over);
      if (!Sleep(std::min(outage_.Pause(), call_.deadline.left()), call_.canceller)) return CancelledError();
    }
  }

 private:
  // nullopt: go on, by another call.
  std::optional<absl::Status> RunOn(Link& link) {
    // Versions of another store mean nothing; and without any, what came meanwhile is only in the present state.
    uint64_t store = core_.position().Get().store;
    if (store != store_ || (synced_ && after_ == 0)) initial_ = true;
    store_ = store;
    v1::WatchRequest request;
    *request.mutable_selector() = selector_;
    if (initial_) {
      request.set_initial(true);
    } else {
      request.set_after_version(after_);
    }
    request.set_conflate(options_.conflate);
    ToWire(options_.progress_every, request.mutable_progress_every());
    core_.SetSeen(request.mutable_seen());

    std::unique_ptr<v1::WatchService::Stub> stub = v1::WatchService::NewStub(link.channel());
    ServerStream<v1::WatchResponse> stream([&](grpc::ClientContext* context, auto* reactor) {
      stub->async()->Watch(context, &request, reactor);
    });
    CancelHook hook(call_.canceller, stream.Waker());
    Commit state;    // with initial, until it is whole
    Commit partial;  // a commit of several messages
    bool is_partial = false;
    for (;;) {
      v1::WatchResponse event;
      Deadline silence = Deadline::In(options_.progress_every * 3 + absl::Seconds(5));
      switch (stream.Take(&event, Deadline::Earlier(call_.deadline, silence))) {
        case ServerStream<v1::WatchResponse>::Next::kMessage: break;
        case ServerStream<v1::WatchResponse>::Next::kCancelled: return CancelledError();
        case ServerStream<v1::WatchResponse>::Next::kTimeout:
          if (call_.deadline.passed()) return absl::DeadlineExceededError("the watch's time is up");
          link.Break(absl::UnavailableError(absl::StrCat(link.address(), " sent no progress mark in time")));
          outage_.Fail(absl::UnavailableError("no progress mark in time"));
          return std::nullopt;
        case ServerStream<v1::WatchResponse>::Next::kEnded: return AfterEnd(stream.status());
      }
      outage_.End();
      switch (event.event_case()) {
        case v1::WatchResponse::kOpened: core_.position().Observe(event.opened()); break;
        case v1::WatchResponse::kInitial: {
          absl::StatusOr<Entry> entry = EntryFromWire(event.initial(), core_.names());
          if (!entry.ok()) return entry.status();
          Change change;
          change.name = std::move(entry->name);
          change.after = std::move(entry->value);
          change.is_atom = entry->is_atom;
          state.changes.push_back(std::move(change));
          break;
        }
        case v1::WatchResponse::kSynced:
          after_ = event.synced();
          core_.position().ObserveVersion(store_, after_);
          if (!std::exchange(synced_, true) && options_.on_synced) options_.on_synced(after_);
          if (std::exchange(initial_, false)) {
            state.version = after_;
            state.initial = true;
            if (!on_commit_(state)) return absl::OkStatus();
          }
          break;
        case v1::WatchResponse::kCommit: {
          if (!is_partial) partial = Commit();
          if (absl::Status status = AddToCommit(event.commit(), core_.names(), &partial); !status.ok()) return status;
          is_partial = event.commit().more();
          if (is_partial) break;
          after_ = partial.version;
          core_.position().ObserveVersion(store_, after_);
          if (!on_commit_(partial)) return absl::OkStatus();
          break;
        }
        case v1::WatchResponse::kProgress:
          after_ = event.progress();
          core_.position().ObserveVersion(store_, after_);
          if (options_.on_progress) options_.on_progress(after_);
          break;
        case v1::WatchResponse::kGap: {
          v1::Header header;
          header.set_store(event.gap().store());
          header.set_installed_version(event.gap().resume_version());
          if (header.store() != 0) core_.position().Adopt(header);
          initial_ = true;
          return std::nullopt;
        }
        case v1::WatchResponse::EVENT_NOT_SET: break;  // of a newer daemon, and not asked for
      }
    }
  }

  std::optional<absl::Status> AfterEnd(const grpc::Status& status) {
    if (status.ok()) {
      outage_.Fail(absl::UnavailableError("the daemon ended the watch"));
      return std::nullopt;
    }
    absl::Status failure = FromGrpc(status, core_.names());
    std::optional<v1::ErrorDetail> detail = DetailOf(status);
    switch (ReasonOf(failure)) {
      case Reason::kStoreChanged:
        if (detail.has_value()) core_.position().Adopt(detail->header());
        initial_ = true;
        break;
      case Reason::kSnapshotTooOld: initial_ = true; break;
      default:
        // Cut off as too slow: it goes on after what it was told last.
        if (detail.has_value() && detail->reason() == v1::ERROR_REASON_SLOW_READER) break;
        if (!IsTransient(failure)) return failure;
        break;
    }
    outage_.Fail(failure);
    if (outage_.over()) return failure;
    return std::nullopt;
  }

  ClientCore& core_;
  const v1::Selector& selector_;
  const WatchOptions& options_;
  const std::function<bool(const Commit&)>& on_commit_;
  const CallOptions call_;
  Outage outage_;
  int64_t after_;
  bool initial_;
  bool synced_ = false;
  uint64_t store_;
};

absl::StatusOr<v1::Selector> SelectorOf(const Names& names, const std::vector<std::string>& selectors) {
  v1::Selector selector;
  for (const std::string& one : selectors) {
    if (absl::Status status = CheckSelector(one); !status.ok()) return status;
    if (one.back() == '/') {
      selector.add_prefixes(names.Full(one));
    } else {
      selector.add_names(names.Full(one));
    }
  }
  // Nothing named is all; below a prefix that is all of the prefix.
  if (selectors.empty() && !names.prefix().empty()) selector.add_prefixes(names.Full("/"));
  return selector;
}

absl::Status WatchOf(ClientCore& core, const std::vector<std::string>& selectors, const WatchOptions& options,
                     const std::function<bool(const Commit&)>& on_commit) {
  if (absl::Status status = CheckOutside("a watch"); !status.ok()) return status;
  if (options.initial && options.after != 0) {
    ErrorInfo info;
    info.reason = Reason::kBadValue;
    info.name = "after";
    return MakeError(absl::StatusCode::kInvalidArgument,
                     "a watch begins with the present state or after a version, not both: leave out one", info);
  }
  absl::StatusOr<v1::Selector> selector = SelectorOf(core.names(), selectors);
  if (!selector.ok()) return selector.status();
  return Watcher(core, *selector, options, on_commit).Run();
}

}  // namespace

absl::StatusOr<v1::CommitResponse> ClientCore::GetOutcome(const v1::CommitId& id, Deadline deadline) {
  v1::GetOutcomeRequest request;
  *request.mutable_id() = id;
  absl::StatusOr<v1::GetOutcomeResponse> response = Unary<v1::GetOutcomeResponse>(
      *this, CallOptions{deadline, std::nullopt},
      [&](const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext* context, v1::GetOutcomeResponse* answer,
          auto callback) {
        v1::TransactionService::NewStub(channel)->async()->GetOutcome(context, &request, answer, std::move(callback));
      });
  if (!response.ok()) return response.status();
  position_->Observe(response->outcome().header());
  return std::move(*response->mutable_outcome());
}

absl::StatusOr<std::vector<Commit>> HistoryOf(const Handle& handle, const HistoryOptions& options) {
  if (absl::Status status = CheckOutside(absl::StrCat("History of ", handle.name)); !status.ok()) return status;
  if (absl::Status status = CheckName(handle.name); !status.ok()) return status;
  ClientCore& core = *handle.client;
  absl::StatusOr<v1::GetHistoryResponse> response = Unary<v1::GetHistoryResponse>(
      core, CallOptions{Deadline::In(options.timeout), std::nullopt},
      [&](const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext* context, v1::GetHistoryResponse* answer,
          auto callback) {
        v1::GetHistoryRequest request;
        request.set_name(core.names().Full(handle.name));
        request.set_before_version(options.before_version);
        request.set_limit(options.limit);
        core.SetSeen(request.mutable_seen());
        v1::RefService::NewStub(channel)->async()->GetHistory(context, &request, answer, std::move(callback));
      });
  if (!response.ok()) return response.status();
  core.position().Observe(response->header());
  std::vector<Commit> commits;
  for (const v1::CommitEvent& event : response->commits()) {
    Commit commit;
    if (absl::Status status = AddToCommit(event, core.names(), &commit); !status.ok()) return status;
    commits.push_back(std::move(commit));
  }
  return commits;
}

absl::Status FollowEntry(const Handle& handle, const WatchOptions& options,
                         const std::function<bool(const std::optional<Value>&)>& on_value) {
  WatchOptions watch = options;
  watch.initial = true;
  watch.after = 0;
  watch.conflate = true;
  return WatchOf(*handle.client, {handle.name}, watch, [&](const Commit& commit) {
    if (commit.initial && commit.changes.empty()) return on_value(std::nullopt);
    for (const Change& change : commit.changes) {
      if (change.kind != ChangeKind::kDefined && !on_value(change.after)) return false;
    }
    return true;
  });
}

// The records of a ReadLog, over as many calls as it takes.
class RecordReader {
 public:
  RecordReader(std::shared_ptr<ClientCore> core, const RecordOptions& options)
      : core_(std::move(core)),
        options_(options),
        call_{Deadline::In(options.timeout), options.canceller},
        outage_(core_->options().unavailable_timeout),
        from_(options.from_version) {}

  absl::StatusOr<std::optional<UntypedRecord>> Next() {
    if (absl::Status status = CheckOutside("reading records"); !status.ok()) return status;
    while (ready_.empty()) {
      if (over_) return std::optional<UntypedRecord>();
      if (absl::Status status = Pull(); !status.ok()) {
        over_ = true;
        return status;
      }
    }
    UntypedRecord record = std::move(ready_.front());
    ready_.pop_front();
    return std::optional<UntypedRecord>(std::move(record));
  }
  int64_t first_version() const { return first_version_; }

 private:
  using Stream = ServerStream<v1::ReadLogResponse>;

  // One message further, or a new call.
  absl::Status Pull() {
    if (stream_ == nullptr) return Open();
    v1::ReadLogResponse event;
    Deadline silence = Deadline::In(kSilenceMax);
    Stream::Next next;
    {
      CancelHook hook(call_.canceller, stream_->Waker());
      next = stream_->Take(&event, Deadline::Earlier(call_.deadline, silence));
    }
    switch (next) {
      case Stream::Next::kMessage: break;
      case Stream::Next::kCancelled: return CancelledError();
      case Stream::Next::kTimeout:
        if (call_.deadline.passed()) return absl::DeadlineExceededError("reading records took too long: allow more time");
        if (!link_->Probe()) {
          link_->Break(absl::UnavailableError(absl::StrCat(link_->address(), " does not answer")));
          stream_.reset();
        }
        return absl::OkStatus();
      case Stream::Next::kEnded: return AfterEnd(stream_->status());
    }
    outage_.End();
    if (event.has_opened()) {
      core_->position().Observe(event.opened().header());
      first_version_ = event.opened().first_version();
      if (store_ != 0 && event.opened().header().store() != store_) return StoreChangedError();
      store_ = event.opened().header().store();
      return absl::OkStatus();
    }
    if (!event.has_commit()) return absl::OkStatus();
    if (!is_partial_) partial_ = Commit();
    if (absl::Status status = AddToCommit(event.commit(), core_->names(), &partial_); !status.ok()) return status;
    is_partial_ = event.commit().more();
    if (is_partial_) return absl::OkStatus();
    from_ = partial_.version + 1;
    core_->position().ObserveVersion(store_, partial_.version);
    std::vector<Value> records = std::move(partial_.records);
    partial_.records.clear();
    partial_.changes.clear();
    for (Value& value : records) {
      if (Selected(value)) ready_.push_back(UntypedRecord{partial_, std::move(value)});
    }
    return absl::OkStatus();
  }

  absl::Status Open() {
    if (call_.deadline.passed()) return absl::DeadlineExceededError("reading records took too long: allow more time");
    if (IsCancelled(call_.canceller)) return CancelledError();
    if (options_.to_version != 0 && from_ > options_.to_version) {
      over_ = true;
      return absl::OkStatus();
    }
    absl::StatusOr<std::shared_ptr<Link>> link =
        core_->transport().Get(Deadline::Earlier(call_.deadline, outage_.until()), call_.canceller);
    if (!link.ok()) return link.status();
    link_ = *link;
    request_.Clear();
    request_.set_from_version(from_);
    request_.set_to_version(options_.to_version);
    for (const std::string& tag : options_.tags) request_.add_tags(tag);
    request_.set_follow(options_.follow);
    request_.set_records_only(true);
    core_->SetSeen(request_.mutable_seen());
    if (store_ != 0) request_.mutable_seen()->set_store(store_);
    is_partial_ = false;
    stub_ = v1::LogService::NewStub(link_->channel());
    stream_ = std::make_unique<Stream>([&](grpc::ClientContext* context, auto* reactor) {
      stub_->async()->ReadLog(context, &request_, reactor);
    });
    return absl::OkStatus();
  }

  absl::Status AfterEnd(const grpc::Status& status) {
    stream_.reset();
    if (status.ok() && !options_.follow) {
      over_ = true;
      return absl::OkStatus();
    }
    absl::Status failure = status.ok() ? absl::UnavailableError("the daemon ended the log") : FromGrpc(status, core_->names());
    std::optional<v1::ErrorDetail> detail = DetailOf(status);
    bool slow = detail.has_value() && detail->reason() == v1::ERROR_REASON_SLOW_READER;
    if (!slow && !IsTransient(failure)) return failure;
    outage_.Fail(failure);
    if (outage_.over()) return failure;
    if (!Sleep(std::min(outage_.Pause(), call_.deadline.left()), call_.canceller)) return CancelledError();
    return absl::OkStatus();
  }

  // A commit has all its records, also those that were not asked for.
  bool Selected(const Value& record) const {
    if (options_.tags.empty()) return true;
    if (!record.is(Type::kTagged)) return false;
    for (const std::string& tag : options_.tags) {
      if (tag == record.text()) return true;
      if (tag.size() >= 2 && tag.compare(tag.size() - 2, 2, ".*") == 0 &&
          record.text().compare(0, tag.size() - 1, tag, 0, tag.size() - 1) == 0) {
        return true;
      }
    }
    return false;
  }

  const std::shared_ptr<ClientCore> core_;
  const RecordOptions options_;
  const CallOptions call_;
  Outage outage_;
  int64_t from_;
  int64_t first_version_ = 0;
  uint64_t store_ = 0;
  bool over_ = false;
  v1::ReadLogRequest request_;
  std::shared_ptr<Link> link_;
  std::unique_ptr<v1::LogService::Stub> stub_;
  std::unique_ptr<Stream> stream_;
  Commit partial_;
  bool is_partial_ = false;
  std::deque<UntypedRecord> ready_;
};

std::shared_ptr<RecordReader> OpenRecords(const std::shared_ptr<ClientCore>& client, const RecordOptions& options) {
  return std::make_shared<RecordReader>(client, options);
}
absl::StatusOr<std::optional<UntypedRecord>> NextRecord(RecordReader& reader) { return reader.Next(); }
int64_t FirstVersion(RecordReader& reader) { return reader.first_version(); }

}  // namespace stm::internal

namespace stm {

absl::Status Client::Watch(std::string_view selector, const WatchOptions& options,
                           const std::function<bool(const Commit&)>& on_commit) const {
  return internal::WatchOf(*core_, {std::string(selector)}, options, on_commit);
}

absl::Status Client::Watch(const std::vector<std::string>& selectors, const WatchOptions& options,
                           const std::function<bool(const Commit&)>& on_commit) const {
  return internal::WatchOf(*core_, selectors, options, on_commit);
}

absl::StatusOr<std::optional<int64_t>> Client::Outcome(const std::string& word, absl::Duration timeout) const {
  if (absl::Status status = internal::CheckOutside("Client::Outcome"); !status.ok()) return status;
  absl::StatusOr<OutcomeWord> parsed = ParseOutcomeWord(word);
  if (!parsed.ok()) return parsed.status();
  v1::CommitId id;
  id.set_transaction_id(parsed->transaction_id);
  id.set_writer(parsed->writer);
  id.mutable_seen()->set_version(parsed->seen_version);
  id.mutable_seen()->set_store(parsed->store);
  id.set_resend(true);
  absl::StatusOr<v1::CommitResponse> outcome = core_->GetOutcome(id, internal::Deadline::In(timeout));
  if (!outcome.ok()) return outcome.status();
  switch (outcome->outcome_case()) {
    case v1::CommitResponse::kCommitted: return std::optional<int64_t>(outcome->committed().version());
    case v1::CommitResponse::kConflict:
    case v1::CommitResponse::kRejected:
    case v1::CommitResponse::kFenceLost:
    case v1::CommitResponse::kNotCommitted: return std::optional<int64_t>();
    default: return internal::CommitUnknownError(id, "it was sent too long ago for the daemon to tell");
  }
}

}  // namespace stm
