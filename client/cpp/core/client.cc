#include "stm/client.h"

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/core/client_core.h"
#include "client/cpp/core/tx_core.h"

namespace stm {

namespace internal {

class ViewPoint {
 public:
  ViewPoint(std::shared_ptr<ClientCore> core, int64_t version)
      : core_(std::move(core)), store_(core_->position().Get().store), version_(version) {}
  ViewPoint(std::shared_ptr<ClientCore> core, Instant instant)
      : core_(std::move(core)), store_(core_->position().Get().store), instant_(instant) {}

  ClientCore& core() { return *core_; }
  int64_t version() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return version_;
  }

  // `fill` makes the request and returns where it says when to read; `snapshot` finds the answer's. The first answer
  // settles the version for all later ones; until then one asks at a time.
  absl::StatusOr<v1::PipelineAnswer> Ask(const std::function<v1::ReadPoint*(v1::PipelineCall*)>& fill,
                                         const std::function<int64_t(const v1::PipelineAnswer&)>& snapshot) {
    if (absl::Status status = CheckOutside("reading a View"); !status.ok()) return status;
    if (int64_t version = this->version(); version != 0) {
      return core_->Ask(
          [&](v1::PipelineCall* call) {
            v1::ReadPoint* at = fill(call);
            at->set_version(version);
            SetSeen(at);
          },
          CallOptions());
    }
    absl::MutexLock lock(&mutex_);
    absl::StatusOr<v1::PipelineAnswer> answer = core_->Ask(
        [&](v1::PipelineCall* call) {
          mutex_.AssertHeld();
          v1::ReadPoint* at = fill(call);
          if (version_ != 0) {
            at->set_version(version_);
          } else {
            at->mutable_instant()->set_seconds(instant_.seconds);
            at->mutable_instant()->set_nanos(instant_.nanos);
          }
          SetSeen(at);
        },
        CallOptions());
    if (answer.ok() && version_ == 0) version_ = snapshot(*answer);
    return answer;
  }

 private:
  void SetSeen(v1::ReadPoint* at) const {
    core_->SetSeen(at->mutable_seen());
    at->mutable_seen()->set_store(store_);
  }

  const std::shared_ptr<ClientCore> core_;
  const uint64_t store_;  // the versions are of this one
  const Instant instant_;
  absl::Mutex mutex_;
  int64_t version_ ABSL_GUARDED_BY(mutex_) = 0;
};

namespace {

// All pages of a listing; `ask` gets one, by a token.
absl::StatusOr<std::vector<Entry>> Pages(
    const Names& names, const std::function<absl::StatusOr<v1::PipelineAnswer>(const std::string&)>& ask) {
  std::vector<Entry> entries;
  std::string token;
  do {
    absl::StatusOr<v1::PipelineAnswer> answer = ask(token);
    if (!answer.ok()) return answer.status();
    for (const v1::Entry& message : answer->list().entries()) {
      absl::StatusOr<Entry> entry = EntryFromWire(message, names);
      if (!entry.ok()) return entry.status();
      entries.push_back(*std::move(entry));
    }
    token = answer->list().next_page_token();
  } while (!token.empty());
  return entries;
}

absl::StatusOr<std::vector<Entry>> ListAt(ViewPoint& point, std::string_view prefix_view, bool names_only) {
  std::string prefix(prefix_view);
  if (absl::Status status = CheckPrefix(prefix); !status.ok()) return status;
  return Pages(point.core().names(), [&](const std::string& token) {
    return point.Ask(
        [&](v1::PipelineCall* call) {
          v1::ListRefsRequest* list = call->mutable_list();
          list->set_prefix(point.core().names().Full(prefix));
          list->set_page_token(token);
          list->set_names_only(names_only);
          return list->mutable_at();
        },
        [](const v1::PipelineAnswer& answer) { return answer.list().snapshot(); });
  });
}

}  // namespace
}  // namespace internal

absl::StatusOr<Client> Connect(const ConnectOptions& options) {
  absl::StatusOr<std::shared_ptr<internal::ClientCore>> core = internal::ClientCore::Connect(options);
  if (!core.ok()) return core.status();
  return Client(*std::move(core));
}

absl::StatusOr<Client> Connect(const std::string& address) {
  ConnectOptions options;
  options.address = address;
  return Connect(options);
}

absl::StatusOr<std::vector<Entry>> View::List(std::string_view prefix) const {
  return internal::ListAt(*point_, prefix, false);
}

absl::StatusOr<std::vector<std::string>> View::Names(std::string_view prefix) const {
  absl::StatusOr<std::vector<Entry>> entries = internal::ListAt(*point_, prefix, true);
  if (!entries.ok()) return entries.status();
  std::vector<std::string> names;
  for (Entry& entry : *entries) names.push_back(std::move(entry.name));
  return names;
}

int64_t View::version() const { return point_->version(); }

absl::StatusOr<std::optional<Value>> View::Read(const std::string& name) const {
  if (absl::Status status = internal::CheckName(name); !status.ok()) return status;
  absl::StatusOr<v1::PipelineAnswer> answer = point_->Ask(
      [&](v1::PipelineCall* call) {
        call->mutable_get()->add_names(point_->core().names().Full(name));
        return call->mutable_get()->mutable_at();
      },
      [](const v1::PipelineAnswer& a) { return a.get().snapshot(); });
  if (!answer.ok()) return answer.status();
  if (answer->get().entries_size() != 1) {
    return absl::InternalError(name + ": the daemon's answer lacks it: report this");
  }
  absl::StatusOr<Entry> entry = internal::EntryFromWire(answer->get().entries(0), point_->core().names());
  if (!entry.ok()) return entry.status();
  return std::move(entry->value);
}

absl::StatusOr<std::vector<Entry>> Client::List(std::string_view prefix_view) const {
  if (absl::Status status = internal::CheckOutside("Client::List"); !status.ok()) return status;
  std::string prefix(prefix_view);
  if (absl::Status status = internal::CheckPrefix(prefix); !status.ok()) return status;
  for (;;) {
    absl::StatusOr<std::vector<Entry>> entries =
        internal::Pages(core_->names(), [&](const std::string& token) {
          return core_->Ask(
              [&](v1::PipelineCall* call) {
                v1::ListRefsRequest* list = call->mutable_list();
                list->set_prefix(core_->names().Full(prefix));
                list->set_page_token(token);
                core_->SetSeen(list->mutable_at()->mutable_seen());
              },
              internal::CallOptions());
        });
    // Begun again where the pages' snapshot was trimmed, or the store changed, meanwhile.
    Reason reason = entries.ok() ? Reason::kNone : ReasonOf(entries.status());
    if (reason != Reason::kSnapshotTooOld && reason != Reason::kStoreChanged) return entries;
  }
}

View Client::At(int64_t version) const { return View(std::make_shared<internal::ViewPoint>(core_, version)); }
View Client::At(Instant instant) const { return View(std::make_shared<internal::ViewPoint>(core_, instant)); }
int64_t Client::seen_version() const { return core_->position().Get().seen; }
std::string Client::address() const { return core_->transport().address(); }

}  // namespace stm
