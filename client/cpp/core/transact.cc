// The loop of runs: body, commit, and again until a snapshot still stands. And the calls outside transactions that are
// transactions of one entry.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/core/cancel.h"
#include "client/cpp/core/client_core.h"
#include "client/cpp/core/random.h"
#include "client/cpp/core/tx_core.h"
#include "engine/values/wire.h"
#include "stm/v1/common.pb.h"

namespace stm::internal {
namespace {

constexpr int kRunsAtOnce = 3;  // the first and two reruns; later ones back off
constexpr absl::Duration kRerunMin = absl::Milliseconds(1);
constexpr absl::Duration kRerunMax = absl::Milliseconds(100);
constexpr int kWarnAtRun = 10;

absl::Status InTransactionError(std::string_view what, absl::string_view remedy) {
  ErrorInfo info;
  info.reason = Reason::kInTransaction;
  info.name = std::string(what);
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat(std::string(what), " inside a transaction's body, which may run several times: ", remedy),
                   info);
}

bool SameOptions(const TransactOptions& a, const TransactOptions& b) {
  return a.timeout == b.timeout && a.isolation == b.isolation && a.label == b.label && a.traceparent == b.traceparent &&
         a.once == b.once && a.once_ttl == b.once_ttl && a.runs_max == b.runs_max && a.stale_ok == b.stale_ok &&
         a.rerun_check == b.rerun_check && a.committed == b.committed &&
         a.canceller.has_value() == b.canceller.has_value() &&
         (!a.canceller.has_value() || a.canceller->state() == b.canceller->state()) &&
         static_cast<bool>(a.on_rerun) == static_cast<bool>(b.on_rerun);
}

// Joins the transaction that is under way on this thread. A body that fails leaves nothing of what it wrote.
absl::Status Join(TxCore* outer, const std::shared_ptr<ClientCore>& client, const TransactOptions& options,
                  const Body& body) {
  if (outer->client() != client) {
    return InTransactionError("a transaction of another client",
                              "one transaction is of one daemon: use the outer one's client");
  }
  if (!SameOptions(options, TransactOptions()) && !SameOptions(options, outer->options())) {
    ErrorInfo info;
    info.reason = Reason::kBadValue;
    info.name = "options";
    return MakeError(absl::StatusCode::kInvalidArgument,
                     "a transaction inside a transaction joins it, and its options differ from the outer one's: give "
                     "them to the outer one",
                     info);
  }
  size_t mark = outer->SetMark();
  Tx tx = TxCore::HandleOf(outer->shared_from_this());
  absl::Status status;
  try {
    status = body.run(tx);
    outer->CheckSignal();
  } catch (const Abandoned&) {
    throw;
  } catch (...) {
    if (outer->signal() == TxCore::Signal::kNone) outer->ReturnTo(mark);
    throw;
  }
  if (status.ok()) {
    outer->DropMark(mark);
  } else {
    outer->ReturnTo(mark);
  }
  return status;
}

// The runs of one transaction.
class Transaction {
 public:
  Transaction(std::shared_ptr<ClientCore> client, const TransactOptions& options, const Body& body)
      : client_(std::move(client)), options_(options), body_(body) {
    call_.deadline = Deadline::In(options.timeout);
    call_.canceller = options.canceller;
    if (!options.once.empty()) once_ = absl::StrCat("/.once/", options.once);
  }

  absl::Status Run() {
    if (!once_.empty() && body_.result == nullptr) {
      ErrorInfo info;
      info.reason = Reason::kBadValue;
      info.name = "once";
      return MakeError(absl::StatusCode::kInvalidArgument,
                       "a once key keeps the body's result, whose type has no stm::Codec: return one that has, or nothing",
                       info);
    }
    for (;;) {
      if (IsCancelled(call_.canceller)) return CancelledError();
      ++run_;
      ++runs_since_sleep_;
      Deadline::Clock::time_point began = Deadline::Clock::now();
      if (runs_since_sleep_ == 1) first_run_ = began;
      core_ = std::make_shared<TxCore>(client_, options_, call_, run_, std::move(carried_));
      carried_ = Carried();
      std::optional<absl::Status> over = RunOnce();
      if (over.has_value()) return *std::move(over);
    }
  }

 private:
  // nullopt: run again.
  std::optional<absl::Status> RunOnce() {
    if (!once_.empty()) {
      std::optional<Entry> spent = core_->ReadOnce(once_);
      if (core_->signal() != TxCore::Signal::kNone) return AfterSignal();
      if (spent.has_value()) return TakeSpent(*spent);
    }
    absl::Status status;
    if (options_.rerun_check) {
      absl::StatusOr<absl::Status> checked = RunTwice();
      if (!checked.ok()) return checked.status();
      status = *checked;
    } else {
      status = TxCore::RunBody(core_, body_);
    }
    if (core_->signal() != TxCore::Signal::kNone) return AfterSignal();
    if (!status.ok()) return status;
    if (!once_.empty()) core_->WriteOnce(once_, body_.result(), options_.once_ttl);
    return Commit();
  }

  absl::StatusOr<absl::Status> RunTwice() {
    absl::Status first = TxCore::RunBody(core_, body_);
    if (core_->signal() == TxCore::Signal::kRerun) return first;
    std::shared_ptr<TxCore> before = std::move(core_);
    Carried same = before->CarrySame();
    core_ = std::make_shared<TxCore>(client_, options_, call_, run_, std::move(same));
    if (!once_.empty()) core_->ReadOnce(once_);
    absl::Status second = TxCore::RunBody(core_, body_);
    if (core_->signal() == TxCore::Signal::kRerun) return second;
    std::vector<std::string> a = before->Lines();
    std::vector<std::string> b = core_->Lines();
    if (!first.ok()) a.push_back(absl::StrCat("error: ", first.message()));
    if (!second.ok()) b.push_back(absl::StrCat("error: ", second.message()));
    if (a == b) return second;
    size_t at = 0;
    while (at < a.size() && at < b.size() && a[at] == b[at]) ++at;
    ErrorInfo info;
    info.reason = Reason::kRerunDiffers;
    info.expected = at < a.size() ? a[at] : "nothing more";
    info.found = at < b.size() ? b[at] : "nothing more";
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     absl::StrCat("rerun_check: on one snapshot the first run did \"", info.expected,
                                  "\" and the second \"", info.found,
                                  "\": a body must depend on nothing but what it reads; take time, chance and input "
                                  "before the transaction"),
                     info);
  }

  absl::Status TakeSpent(const Entry& entry) {
    absl::Status status = body_.adopt(*entry.value);
    if (!status.ok()) return OfEntry(once_, status);
    if (options_.committed != nullptr) {
      *options_.committed = stm::Committed();
      options_.committed->version = entry.version;
      options_.committed->repeated = true;
    }
    return absl::OkStatus();
  }

  std::optional<absl::Status> AfterSignal() {
    switch (core_->signal()) {
      case TxCore::Signal::kFail: {
        const absl::Status& status = core_->signal_status();
        if (absl::IsDeadlineExceeded(status)) return TimeIsUp(status);
        return status;
      }
      case TxCore::Signal::kRerun: return Again({}, std::string(ReasonName(ReasonOf(core_->signal_status()))), false);
      case TxCore::Signal::kRetry: return SleepUntilChange();
      case TxCore::Signal::kNone: break;
    }
    return absl::InternalError("a run ended without a signal: report this");
  }

  std::optional<absl::Status> SleepUntilChange() {
    absl::StatusOr<v1::PipelineAnswer> answer =
        client_->Ask(
            [&](v1::PipelineCall* call) {
              core_->FillAwait(call->mutable_await());
              call->mutable_await()->set_reservation(reservation_);
            },
            call_);
    if (!answer.ok()) {
      Reason reason = ReasonOf(answer.status());
      if (reason == Reason::kSnapshotTooOld || reason == Reason::kStoreChanged) {
        carried_ = core_->Carry();
      } else {
        return answer.status();
      }
    } else {
      const v1::AwaitChangeResponse& changed = answer->await();
      if (absl::Status status = TakeFresh(changed.header().store(), changed.snapshot(), changed.fresh()); !status.ok()) {
        return status;
      }
    }
    // It waited for a change, not for its turn: its age begins anew.
    runs_since_sleep_ = 0;
    reservation_ = 0;
    return std::nullopt;
  }

  template <typename Entries>
  absl::Status TakeFresh(uint64_t store, int64_t snapshot, const Entries& entries) {
    carried_ = core_->Carry();
    if (snapshot == 0) return absl::OkStatus();
    carried_.snapshot = snapshot;
    carried_.store = store;
    for (const v1::Entry& message : entries) {
      absl::StatusOr<Entry> entry = EntryFromWire(message, client_->names());
      if (!entry.ok()) return entry.status();
      std::string name = entry->name;
      carried_.fresh.emplace(std::move(name), *std::move(entry));
    }
    return absl::OkStatus();
  }

  std::optional<absl::Status> Commit() {
    stm::Committed committed;
    if (core_->NeedsCommit()) {
      if (absl::Status status = core_->CheckFences(); !status.ok()) return status;
      std::shared_ptr<Lease> lease;
      if (core_->NeedsSession()) {
        absl::StatusOr<std::shared_ptr<Lease>> opened = client_->session().Get(call_);
        if (!opened.ok()) return opened.status();
        lease = *std::move(opened);
      }
      absl::StatusOr<v1::CommitResponse> response = client_->Commit(
          [&](v1::CommitRequest* request) {
            core_->FillCommit(lease == nullptr ? "" : lease->id(), request);
            request->mutable_meta()->set_label(options_.label);
            request->mutable_meta()->set_client(client_->options().client_name);
            request->mutable_meta()->set_traceparent(options_.traceparent);
            if (runs_since_sleep_ > 1) {
              ToWire(absl::FromChrono(Deadline::Clock::now() - first_run_),
                     request->mutable_age()->mutable_since_first_run());
              request->mutable_age()->set_runs(static_cast<uint32_t>(runs_since_sleep_));
              request->mutable_age()->set_reservation(reservation_);
            }
          },
          core_->store(), call_, &sent_);
      if (!response.ok()) {
        Reason reason = ReasonOf(response.status());
        if (reason == Reason::kSnapshotTooOld || reason == Reason::kStoreChanged) {
          return Again({}, std::string(ReasonName(reason)), false);
        }
        if (reason == Reason::kSessionExpired && lease != nullptr) {
          client_->session().Drop(lease, /*known=*/true);
          return Again({}, std::string(ReasonName(reason)), false);
        }
        if (absl::IsDeadlineExceeded(response.status())) return TimeIsUp(response.status());
        return response.status();
      }
      switch (response->outcome_case()) {
        case v1::CommitResponse::kCommitted:
          committed.transaction_id = std::move(sent_.transaction_id);
          committed.resends = sent_.resends;
          committed.version = response->committed().version();
          committed.at = Instant{response->committed().at().seconds(), response->committed().at().nanos()};
          client_->position().ObserveVersion(response->header().store(), committed.version);
          core_->Committed(response->committed());
          break;
        case v1::CommitResponse::kConflict: return AfterConflict(response->header().store(), response->conflict());
        case v1::CommitResponse::kRejected: {
          const v1::Rejected& rejected = response->rejected();
          if (rejected.cause() == v1::REJECT_CAUSE_ABSENT &&
              core_->ForgetExistence(client_->names().Short(rejected.name()))) {
            carried_ = core_->Carry();
            return std::nullopt;
          }
          return RejectedError(rejected, client_->names());
        }
        case v1::CommitResponse::kFenceLost: {
          const v1::Fence& fence = response->fence_lost().fence();
          core_->FenceLost(fence);
          return LockLostError(client_->names().Short(fence.lock()), "is gone; nothing was changed");
        }
        default:
          return absl::InternalError("the daemon answered a commit with no outcome: use a client as new as the daemon");
      }
    }
    if (options_.committed != nullptr) *options_.committed = committed;
    core_->CallOnCommit(committed);
    return absl::OkStatus();
  }

  std::optional<absl::Status> AfterConflict(uint64_t store, const v1::Conflict& conflict) {
    reservation_ = conflict.reservation();
    bool reserved = conflict.has_reserved_for();
    std::vector<ConflictCause> causes = CausesOf(conflict, client_->names());
    if (absl::Status status = TakeFresh(store, conflict.snapshot(), conflict.fresh()); !status.ok()) return status;
    return Again(std::move(causes), "", reserved);
  }

  // Before another run: the caller's bounds, its hook, and the pause.
  std::optional<absl::Status> Again(std::vector<ConflictCause> causes, std::string why, bool at_once) {
    if (!why.empty()) carried_ = core_->Carry();
    causes_ = std::move(causes);
    why_ = std::move(why);
    if (options_.runs_max > 0 && run_ >= options_.runs_max) {
      return ConflictError(absl::StrCat(run_, " runs are spent"));
    }
    if (call_.deadline.passed()) return ConflictError("the time is up");
    if (options_.on_rerun) options_.on_rerun(Rerun{run_ + 1, causes_, why_});
    // Who sleeps nine times is in nobody's way.
    if (runs_since_sleep_ + 1 == kWarnAtRun) {
      client_->Warn(absl::StrCat("transaction ", options_.label.empty() ? "" : absl::StrCat("\"", options_.label, "\" "),
                                 "is at its ", kWarnAtRun, "th run: ", Blame(),
                                 ": make its body shorter, or commute what it only adds to"));
    }
    if (at_once || runs_since_sleep_ + 1 <= kRunsAtOnce) return std::nullopt;
    int doublings = std::min(runs_since_sleep_ - kRunsAtOnce, 7);
    absl::Duration pause = RandomBetween(kRerunMin, std::min(kRerunMax, kRerunMin * (int64_t{2} << doublings)));
    if (!Sleep(std::min(pause, call_.deadline.left()), call_.canceller)) return CancelledError();
    if (call_.deadline.passed()) return ConflictError("the time is up");
    return std::nullopt;
  }

  std::string Blame() const { return why_.empty() ? absl::StrCat("changed meanwhile: ", Describe(causes_)) : why_; }

  absl::Status ConflictError(absl::string_view spent) const {
    ErrorInfo info;
    info.reason = Reason::kConflict;
    info.causes = causes_;
    if (!causes_.empty()) info.name = causes_.front().name;
    return MakeError(absl::StatusCode::kAborted,
                     absl::StrCat("conflict: ", Blame(), ", and ", std::string(spent),
                                  "; nothing was changed: allow more, or make the body shorter"),
                     info);
  }

  // The caller's deadline: after conflicts, they are the reason.
  absl::Status TimeIsUp(const absl::Status& status) const {
    return runs_since_sleep_ > 1 ? ConflictError("the time is up") : status;
  }

  const std::shared_ptr<ClientCore> client_;
  const TransactOptions& options_;
  const Body& body_;
  CallOptions call_;
  std::string once_;
  std::shared_ptr<TxCore> core_;
  Carried carried_;
  int run_ = 0;
  int runs_since_sleep_ = 0;
  Deadline::Clock::time_point first_run_;
  uint64_t reservation_ = 0;
  Sent sent_;
  std::vector<ConflictCause> causes_;
  std::string why_;
};

// A transaction of a core without types.
absl::Status RunUntyped(const Handle& handle, std::string_view what, const TransactOptions& options,
                        const std::function<absl::Status(TxCore&)>& run) {
  if (absl::Status status = CheckOutside(what); !status.ok()) return status;
  Body body;
  body.run = [&](Tx& tx) { return run(TxCore::Of(tx)); };
  body.result = [] { return Value(); };
  body.adopt = [](const Value&) { return absl::OkStatus(); };
  return Transaction(handle.client, options, body).Run();
}

}  // namespace

absl::Status RunTransaction(const std::shared_ptr<ClientCore>& client, const TransactOptions& options,
                            const Body& body) {
  if (TxCore* outer = TxCore::Current()) return Join(outer, client, options, body);
  return Transaction(client, options, body).Run();
}

absl::Status CheckOutside(std::string_view what) {
  if (TxCore::Current() == nullptr) return absl::OkStatus();
  return InTransactionError(what, "do it before or after, or by tx.OnCommit; a body reads and writes by its tx");
}

absl::Status OfEntry(std::string_view name, const absl::Status& status) {
  ErrorInfo info = InfoOf(status);
  info.name = std::string(name);
  return MakeError(status.code(), absl::StrCat(info.name, ": ", status.message()), info);
}

absl::Status AbsentError(std::string_view name) {
  ErrorInfo info;
  info.reason = Reason::kAbsent;
  info.name = std::string(name);
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat(info.name, " is absent: set it first, give its handle an init, or use Find"), info);
}

absl::StatusOr<std::optional<Value>> ReadOutside(const Handle& handle, const ReadOptions& options) {
  if (absl::Status status = CheckOutside(absl::StrCat("reading ", handle.name, " by its handle")); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckName(handle.name); !status.ok()) return status;
  CallOptions call{Deadline::In(options.timeout), options.canceller};
  for (;;) {
    absl::StatusOr<v1::PipelineAnswer> answer = handle.client->Ask(
        [&](v1::PipelineCall* request) {
          v1::GetRefsRequest* get = request->mutable_get();
          get->add_names(handle.client->names().Full(handle.name));
          if (options.stale_ok) get->mutable_at()->set_stale(true);
          handle.client->SetSeen(get->mutable_at()->mutable_seen());
        },
        call);
    // The new store is taken; nothing hangs on the old.
    if (!answer.ok() && ReasonOf(answer.status()) == Reason::kStoreChanged) continue;
    if (!answer.ok()) return answer.status();
    if (answer->get().entries_size() != 1) {
      return absl::InternalError(absl::StrCat(handle.name, ": the daemon's answer lacks it: report this"));
    }
    absl::StatusOr<Entry> entry = EntryFromWire(answer->get().entries(0), handle.client->names());
    if (!entry.ok()) return entry.status();
    if (entry->value.has_value() && entry->is_atom != handle.is_atom) {
      ErrorInfo info;
      info.reason = Reason::kWrongKind;
      info.name = handle.name;
      return MakeError(absl::StatusCode::kFailedPrecondition,
                       absl::StrCat(handle.name, " is ", entry->is_atom ? "an atom" : "a ref", " and was used as ",
                                    handle.is_atom ? "an atom: use client.Ref" : "a ref: use client.Atom"),
                       info);
    }
    return std::move(entry->value);
  }
}

absl::Status SetOutside(const Handle& handle, const Value& value, const TransactOptions& options) {
  return RunUntyped(handle, absl::StrCat("Reset of ", handle.name), options, [&](TxCore& core) {
    core.Write(handle, value);
    return absl::OkStatus();
  });
}

absl::Status DeleteOutside(const Handle& handle, const TransactOptions& options) {
  return RunUntyped(handle, absl::StrCat("Delete of ", handle.name), options, [&](TxCore& core) {
    core.Erase(handle);
    return absl::OkStatus();
  });
}

absl::StatusOr<Value> ApplyOutside(const Handle& handle, const Op& op, const TransactOptions& options) {
  std::optional<CommuteResult> result;
  absl::Status status = RunUntyped(handle, absl::StrCat("Apply to ", handle.name), options, [&](TxCore& core) {
    result.emplace(core.Apply(handle, op));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  if (result.has_value() && result->value().has_value()) return *result->value();
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat(handle.name, ": the operation was applied, and its result was lost with the connection: "
                                "read the entry"),
                   ErrorInfo());
}

absl::Status SwapOutside(const Handle& handle,
                         const std::function<absl::StatusOr<Value>(const std::optional<Value>&)>& swap,
                         const TransactOptions& options) {
  return RunUntyped(handle, absl::StrCat("Swap of ", handle.name), options, [&](TxCore& core) -> absl::Status {
    std::optional<Value> before = core.Read(handle);
    absl::StatusOr<Value> after = swap(before.has_value() ? before : handle.init);
    if (!after.ok()) return after.status();
    core.Write(handle, *std::move(after));
    return absl::OkStatus();
  });
}

absl::Status DefineOutside(const Handle& handle, const Definition& definition, const TransactOptions& options) {
  return RunUntyped(handle, absl::StrCat("Define of ", handle.name), options, [&](TxCore& core) {
    core.Define(handle, definition);
    return absl::OkStatus();
  });
}

absl::StatusOr<std::optional<Definition>> DefinitionOf(const Handle& handle, const ReadOptions& options) {
  if (absl::Status status = CheckOutside(absl::StrCat("reading ", handle.name, " by its handle")); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckName(handle.name); !status.ok()) return status;
  absl::StatusOr<v1::PipelineAnswer> answer = handle.client->Ask(
      [&](v1::PipelineCall* request) {
        request->mutable_get()->add_names(handle.client->names().Full(handle.name));
        request->mutable_get()->set_with_definition(true);
        handle.client->SetSeen(request->mutable_get()->mutable_at()->mutable_seen());
      },
      CallOptions{Deadline::In(options.timeout), options.canceller});
  if (!answer.ok()) return answer.status();
  if (answer->get().entries_size() != 1 || !answer->get().entries(0).has_value()) return std::optional<Definition>();
  const v1::Definition& message = answer->get().entries(0).definition();
  Definition definition;
  absl::StatusOr<std::optional<Value>> validator =
      ValueFromWire(message.has_validator(), message.validator(), handle.name);
  if (!validator.ok()) return validator.status();
  definition.validator = *std::move(validator);
  if (message.has_ttl()) definition.ttl = FromWire(message.ttl());
  definition.ephemeral = !message.session_id().empty();
  definition.container = message.container();
  return std::optional<Definition>(std::move(definition));
}

void RunAsync(const std::shared_ptr<ClientCore>& client, std::function<void()> work) {
  client->pool().Run(std::move(work));
}

}  // namespace stm::internal
