#include "tests/e2e/kill/watcher.h"

#include <chrono>
#include <utility>

#include "engine/values/wire.h"
#include "stm/v1/value.pb.h"
#include "tests/e2e/kill/caller.h"

namespace stm::e2e {
namespace {

using Kind = check::WatchStep::Kind;

}  // namespace

Watcher::Watcher(const Options& options) : options_(options) {
  for (const std::string& address : options.addresses) channels_.push_back(Dial(address));
  watch_.client = options.number;
  watch_.prefixes = options.prefixes;
  thread_ = std::thread([this] { Follow(); });
}

Watcher::~Watcher() { Stop(); }

void Watcher::Stop() {
  {
    absl::MutexLock hold(&mutex_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  if (thread_.joinable()) thread_.join();
}

bool Watcher::SawUpTo(check::Version version) {
  absl::MutexLock hold(&mutex_);
  const auto seen = [this, version]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return last_ >= version; };
  return mutex_.AwaitWithTimeout(absl::Condition(&seen), absl::Minutes(1));
}

void Watcher::Follow() {
  for (size_t daemon = 0;; daemon = (daemon + 1) % channels_.size()) {
    // Until a daemon is back, or Stop: nobody else ends this.
    const std::chrono::milliseconds patience(channels_.size() == 1 ? 1000 : 100);
    channels_[daemon]->WaitForConnected(std::chrono::system_clock::now() + patience);
    FollowOne(channels_[daemon]);
    absl::MutexLock hold(&mutex_);
    if (stopping_) return;
  }
}

check::WatchStep Watcher::Mark(Kind kind, check::Version version) {
  check::WatchStep step;
  step.kind = kind;
  step.at = Clock();
  step.version = version;
  return step;
}

void Watcher::FollowOne(const std::shared_ptr<grpc::Channel>& channel) {
  const std::unique_ptr<v1::WatchService::Stub> stub = v1::WatchService::NewStub(channel);
  grpc::ClientContext context;
  if (options_.stream_max.count() != 0) {
    context.set_deadline(std::chrono::system_clock::now() + options_.stream_max);
  }
  v1::WatchRequest request;
  for (const std::string& prefix : options_.prefixes) request.mutable_selector()->add_prefixes(prefix);
  request.mutable_progress_every()->set_nanos(100'000'000);
  {
    absl::MutexLock hold(&mutex_);
    if (stopping_) return;
    context_ = &context;
    request.set_after_version(last_);
    request.mutable_seen()->set_version(last_);
  }
  check::WatchStep opened = Mark(Kind::kOpened, request.after_version());
  if (request.after_version() == 0) {
    request.set_initial(true);
    opened.initial = true;
  } else {
    ++resumed_;
  }
  watch_.steps.push_back(opened);
  auto stream = stub->Watch(&context, request);
  v1::WatchResponse response;
  bool more = false;
  while (stream->Read(&response)) {
    check::Version told = 0;
    switch (response.event_case()) {
      case v1::WatchResponse::kInitial: {
        check::WatchStep step = Mark(Kind::kInitial, 0);
        const v1::Entry& from = response.initial();
        step.entries = {{from.name(), std::nullopt, from.version()}};
        if (from.has_value()) step.entries[0].value = *stm::FromProto(from.value());
        watch_.steps.push_back(std::move(step));
        break;
      }
      case v1::WatchResponse::kSynced:
        told = response.synced();
        watch_.steps.push_back(Mark(Kind::kSynced, told));
        break;
      case v1::WatchResponse::kCommit: {
        const v1::CommitEvent& event = response.commit();
        if (!more) {
          watch_.steps.push_back(Mark(Kind::kCommit, event.version()));
          if (!event.transaction_id().empty()) watch_.steps.back().id = ParseUuid(event.transaction_id());
        }
        more = event.more();
        if (!more) told = event.version();
        for (const v1::Change& from : event.changes()) {
          check::WatchStep::Change change;
          change.name = from.name();
          change.before_known = !from.before_unknown();
          if (from.has_before()) change.before = *stm::FromProto(from.before());
          if (from.has_after()) change.after = *stm::FromProto(from.after());
          change.expired = from.kind() == v1::CHANGE_KIND_EXPIRED;
          watch_.steps.back().changes.push_back(std::move(change));
        }
        for (const v1::Value& record : event.records()) {
          watch_.steps.back().records.push_back(*stm::FromProto(record));
        }
        break;
      }
      case v1::WatchResponse::kProgress:
        told = response.progress();
        watch_.steps.push_back(Mark(Kind::kProgress, told));
        break;
      case v1::WatchResponse::kGap: {
        watch_.steps.push_back(Mark(Kind::kGap, response.gap().resume_version()));
        absl::MutexLock hold(&mutex_);
        last_ = 0;
        break;
      }
      case v1::WatchResponse::kOpened:
      case v1::WatchResponse::EVENT_NOT_SET:
        break;
    }
    if (told != 0) {
      absl::MutexLock hold(&mutex_);
      last_ = std::max(last_, told);
    }
  }
  // Half of a commit is none: it comes again.
  if (more) watch_.steps.pop_back();
  stream->Finish();
  absl::MutexLock hold(&mutex_);
  context_ = nullptr;
}

}  // namespace stm::e2e
