#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "engine/error.h"
#include "engine/state.h"

namespace stm::engine {

Engine::State::State(Engine* engine, Loop* loop, Executor* executor, Coordinator* coordinator, Writers* writers,
                     Options options, Canaries canaries, EntryStore* store, Containers* containers)
    : engine_(engine),
      loop_(loop),
      executor_(executor),
      coordinator_(coordinator),
      writers_(writers),
      store_(store),
      containers_(containers),
      options_(options),
      canaries_(canaries),
      entries_(store != nullptr),
      ids_(options.id_table_bytes_max, options.id_age_max, options.id_result_bytes_max),
      turns_(options.turn_after_losses, options.turn_max),
      values_(loop, containers, options.container_cache_bytes_max, options.container_timeout),
      sleepers_(options.sleepers_woken_at_once, options.heavy_value_bytes) {}

void Engine::State::Drain(absl::AnyInvocable<void()> done) {
  draining_ = true;
  not_ready_because_ = "draining";
  for (auto& sink : watches_.TakeAll()) sink->OnDrain();
  for (Sleeper& sleeper : sleepers_.TakeAll()) {
    executor_->Run(Work::kAnswer, [done = std::move(sleeper.done)]() mutable {
      done(NotReady("draining", absl::Milliseconds(100)));
    });
  }
  for (auto& pending : reservations_.TakeAll()) {
    pending->reservation = 0;
    Refuse(std::move(pending), {NotReady("draining", absl::Milliseconds(100))});
  }
  auto ahead = std::move(ahead_);
  ahead_.clear();
  for (auto& [version, waiting] : ahead) waiting.done(NotReady("draining", absl::Milliseconds(100)));
  EndLoads(NotReady("draining", absl::Milliseconds(100)));
  CloseBatches();
  FlushAnswers();
  if (queue_.empty() && appending_.empty() && parked_ == 0) return loop_->Post(std::move(done));
  drained_ = std::move(done);
}

Status Engine::State::GetStatus() const {
  Status status;
  status.ready = ready_ && !draining_;
  status.not_ready_because = not_ready_because_;
  status.store = writers_->store();
  status.writer = writers_->self();
  // What recovery has read may not be durable yet: nobody is told before it is.
  status.installed = ready_ ? installed_ : 0;
  status.history_mark = history_mark_;
  status.id_floor = ids_.floor();
  status.stats = stats_;
  status.stats.entries = entries_.live();
  status.stats.tombstones = static_cast<int64_t>(tombstones_.size());
  status.stats.queued = static_cast<int64_t>(queue_.size());
  status.stats.in_line = reservations_.in_line();
  status.stats.parked = parked_;
  status.stats.loading = loading_;
  status.stats.staging = staging_;
  status.stats.stored_loads = values_.loads();
  status.stats.stored_cache_bytes = values_.bytes();
  status.stats.in_flight = static_cast<int64_t>(appending_.size());
  status.stats.sleepers = sleepers_.size();
  status.stats.watches = watches_.size();
  status.stats.history_bytes = history_bytes_;
  status.stats.entry_cache_bytes = entries_.cached_bytes();
  status.stats.id_table_bytes = ids_.bytes();
  status.stats.ids = ids_.size();
  status.staging_in = staging_in_;
  std::map<std::string, Heat> heat = hot_;
  for (const auto& [name, before] : hot_before_) {
    heat[name].commits += before.commits;
    heat[name].conflicts += before.conflicts;
  }
  for (const auto& [name, h] : heat) status.hot.push_back({name, h.commits, h.conflicts});
  std::sort(status.hot.begin(), status.hot.end(),
            [](const HotEntry& a, const HotEntry& b) { return a.conflicts > b.conflicts; });
  if (status.hot.size() > kHotShown) status.hot.resize(kHotShown);
  return status;
}

Engine::Engine(Loop* loop, Executor* executor, Coordinator* coordinator, Writers* writers, Options options,
               Canaries canaries, EntryStore* store, Containers* containers)
    : state_(std::make_unique<State>(this, loop, executor, coordinator, writers, options, canaries, store, containers)) {}

Engine::~Engine() = default;

void Engine::Start(absl::AnyInvocable<void(absl::Status)> done) { state_->Start(std::move(done)); }
void Engine::Commit(std::unique_ptr<Transaction> transaction, CommitDone done) {
  state_->Commit(std::move(transaction), std::move(done));
}
void Engine::Commit(std::vector<Submission> submissions) { state_->Commit(std::move(submissions)); }
void Engine::GetOutcome(const CommitId& id, CommitDone done) { state_->GetOutcome(id, std::move(done)); }
void Engine::Get(GetRequest request, Done<GetResult> done) { state_->Get(std::move(request), std::move(done)); }
void Engine::List(ListRequest request, Done<ListResult> done) { state_->List(std::move(request), std::move(done)); }
uint64_t Engine::AwaitChange(AwaitRequest request, Done<AwaitResult> done) {
  return state_->AwaitChange(std::move(request), std::move(done));
}
void Engine::CancelAwait(uint64_t handle) { state_->CancelAwait(handle); }
void Engine::ReleaseReservation(uint64_t reservation) { state_->ReleaseReservation(reservation); }
absl::StatusOr<uint64_t> Engine::Watch(WatchRequest request, std::shared_ptr<WatchSink> sink) {
  return state_->Watch(std::move(request), std::move(sink));
}
void Engine::Unwatch(uint64_t handle) { state_->Unwatch(handle); }
void Engine::AwaitInstalled(Version version, absl::AnyInvocable<void(Version)> changed) {
  state_->AwaitInstalled(version, std::move(changed));
}
void Engine::Drain(absl::AnyInvocable<void()> done) { state_->Drain(std::move(done)); }
Status Engine::GetStatus() const { return state_->GetStatus(); }
bool Engine::IsStaging(const std::string& stamp) const { return state_->IsStaging(stamp); }
absl::StatusOr<std::unique_ptr<Image>> Engine::TakeImageAt(Version version) { return state_->TakeImageAt(version); }
void Engine::ResolvePart(ImagePart part, Version version, absl::AnyInvocable<void(absl::StatusOr<ImagePart>)> done) {
  state_->ResolvePart(std::move(part), version, std::move(done));
}
absl::Status Engine::CheckEmpty() const { return state_->CheckEmpty(); }
void Engine::Restore(absl::AnyInvocable<void(absl::AnyInvocable<void(absl::Status)>)> feed,
                     absl::AnyInvocable<void(absl::Status)> done) {
  state_->Restore(std::move(feed), std::move(done));
}

void Engine::InstallImage(ImagePart part) { state_->InstallImage(std::move(part)); }
void Engine::EndImage(Version version, Instant at, Version id_floor) { state_->EndImage(version, at, id_floor); }
void Engine::RaiseIdFloor(Version id_floor) { state_->RaiseIdFloor(id_floor); }
absl::Status Engine::Install(std::shared_ptr<CommitRecord> commit) { return state_->Install(std::move(commit)); }
std::unique_ptr<Image> Engine::TakeImage() { return state_->TakeImage(); }

void Engine::TurnAsked(uint64_t writer, const std::vector<std::string>& names, absl::Duration length) {
  state_->TurnAsked(writer, names, length);
}

void Engine::BatchInstalled(uint64_t writer, absl::FunctionRef<bool(const std::string& name)> touches) {
  state_->BatchInstalled(writer, touches);
}


}  // namespace stm::engine
