#include "tests/simulation/watcher.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "engine/name.h"

namespace stm::sim {
namespace {

using Kind = check::WatchStep::Kind;

check::WatchStep::Change ToChange(const engine::InstalledCommit& commit, uint32_t i) {
  const engine::EntryChange& from = commit.changes[i];
  check::WatchStep::Change change;
  change.name = from.name;
  change.before = commit.before[i];
  change.before_known = std::count(commit.before_unknown.begin(), commit.before_unknown.end(), i) == 0;
  change.after = from.value;
  change.expired = from.kind == engine::EntryChange::Kind::kExpire;
  return change;
}

bool WatchesMemory(const engine::Selector& selector) {
  const auto any = [](const std::vector<std::string>& names) {
    return std::any_of(names.begin(), names.end(), engine::IsMemory);
  };
  return any(selector.names) || any(selector.prefixes);
}

}  // namespace

// The daemon's end of one connection. Events arrive in order, after the network's delay; those that have not
// are outstanding, and so many of them are too many.
class Watcher::Stream : public engine::WatchSink, public std::enable_shared_from_this<Watcher::Stream> {
 public:
  Stream(Watcher* watcher, size_t window) : watcher_(watcher), window_(window) {}

  void OnInitial(std::vector<engine::EntryState> entries) override {
    check::WatchStep step;
    step.kind = Kind::kInitial;
    for (const engine::EntryState& entry : entries) {
      step.entries.push_back(check::Entry{entry.name, entry.value, entry.version});
    }
    Send(std::move(step));
  }
  void OnSynced(engine::Version version) override { Send(Mark(Kind::kSynced, version)); }
  bool OnCommit(std::shared_ptr<const engine::WatchEvent> event) override {
    if (outstanding_ >= window_) {
      End([](Watcher* watcher) { ++watcher->cut_; });
      return false;
    }
    check::WatchStep step = Mark(Kind::kCommit, event->commit->version);
    step.id = event->commit->transaction_id;
    step.records = event->commit->records;
    for (uint32_t i : event->selected) step.changes.push_back(ToChange(*event->commit, i));
    Send(std::move(step));
    return true;
  }
  size_t Room() const override { return window_ - std::min(window_, outstanding_); }
  void OnProgress(engine::Version version) override { Send(Mark(Kind::kProgress, version)); }
  void OnGap(engine::Version resume_version, std::string) override {
    Send(Mark(Kind::kGap, resume_version));
    End([](Watcher*) {});
  }
  void OnDrain() override {
    End([](Watcher*) {});
  }

  void End(std::function<void(Watcher*)> count) {
    // A sink's last call, or the connection's: what was sent before arrives first.
    Later([self = shared_from_this(), count = std::move(count)] {
      if (self->watcher_->stream_ != self) return;
      count(self->watcher_);
      self->watcher_->Reopen(absl::Microseconds(self->watcher_->scene_.world->chance().Between(200, 5000)));
    });
  }

  Daemon* daemon = nullptr;
  uint64_t life = 0;
  uint64_t store = 0;
  uint64_t handle = 0;
  bool synced = false;

 private:
  static check::WatchStep Mark(Kind kind, engine::Version version) {
    check::WatchStep step;
    step.kind = kind;
    step.version = version;
    return step;
  }
  void Send(check::WatchStep step) {
    ++outstanding_;
    step.life = static_cast<check::Life>(life);
    Later([self = shared_from_this(), step = std::move(step)] {
      --self->outstanding_;
      self->watcher_->Deliver(self, step);
    });
  }
  void Later(std::function<void()> task) {
    World& world = *watcher_->scene_.world;
    arrives_ = std::max(arrives_, world.Now() + watcher_->scene_.network->Delay());
    world.After(arrives_ - world.Now(), [task = std::move(task)] { task(); });
  }

  Watcher* const watcher_;
  const size_t window_;
  size_t outstanding_ = 0;
  absl::Duration arrives_;
};

Watcher::Watcher(int64_t number, Scene scene, engine::Selector selector)
    : number_(number),
      scene_(scene),
      selector_(std::move(selector)),
      stays_(WatchesMemory(selector_)),
      daemon_(scene_.daemons[static_cast<size_t>(number) % scene_.daemons.size()]) {
  AddWatch();
}

void Watcher::AddWatch() {
  watch_ = scene_.history->watches.size();
  check::Watch watch;
  watch.client = number_;
  watch.names = selector_.names;
  watch.prefixes = selector_.prefixes;
  scene_.history->watches.push_back(std::move(watch));
}

Watcher::~Watcher() = default;

check::Watch& Watcher::watch() { return scene_.history->watches[watch_]; }

void Watcher::Open() {
  const uint64_t attempt = ++attempt_;
  Chance& chance = scene_.world->chance();
  const size_t window = steady_ ? 100000 : static_cast<size_t>(chance.Between(2, 40));
  auto stream = std::make_shared<Stream>(this, window);
  if (scene_.daemons.size() > 1 && !stays_ && chance.In1000(400)) daemon_ = chance.OneOf(scene_.daemons);
  stream->daemon = daemon_;
  stream_ = stream;
  engine::WatchRequest request;
  request.selector = selector_;
  request.after = last_;
  request.initial = last_ == 0 && chance.In1000(600);
  request.progress_every = absl::Milliseconds(100);
  request.seen = engine::Seen{last_, last_store_};

  check::WatchStep opened;
  opened.kind = Kind::kOpened;
  opened.at = scene_.world->nanos();
  opened.version = last_;
  opened.life = last_life_;
  opened.initial = request.initial;
  watch().steps.push_back(opened);

  scene_.network->Request(
      daemon_,
      [this, stream, request] {
        stream->life = stream->daemon->life();
        stream->store = stream->daemon->store();
        absl::StatusOr<uint64_t> handle = stream->daemon->engine().Watch(request, stream);
        if (!handle.ok()) {
          stream->End([](Watcher*) {});
          return;
        }
        stream->handle = *handle;
        if (request.after != 0) ++resumed_;
      },
      Network::Copies::kOne);
  // No answer: try again.
  scene_.world->After(absl::Milliseconds(60), [this, stream, attempt] {
    if (attempt == attempt_ && !stream->synced) Reopen(absl::ZeroDuration());
  });
  if (!steady_ && chance.In1000(500)) {
    scene_.world->After(absl::Milliseconds(chance.Between(1, 60)), [this, stream, attempt] {
      if (attempt == attempt_ && !steady_) Reopen(absl::Microseconds(500));
    });
  }
}

void Watcher::Reopen(absl::Duration after) {
  const uint64_t attempt = ++attempt_;
  // A broken connection is noticed by the daemon, sooner or later.
  if (stream_ != nullptr && stream_->handle != 0 && stream_->life == stream_->daemon->life()) {
    scene_.network->Request(
        stream_->daemon, [stream = stream_] { stream->daemon->engine().Unwatch(stream->handle); },
        Network::Copies::kOne);
  }
  stream_ = nullptr;
  scene_.world->After(after, [this, attempt] {
    if (attempt == attempt_) Open();
  });
}

void Watcher::DaemonDied(const Daemon* daemon) {
  if (daemon == daemon_) Reopen(absl::Microseconds(scene_.world->chance().Between(100, 3000)));
}

void Watcher::BeSteady() {
  steady_ = true;
  Reopen(absl::ZeroDuration());
}

void Watcher::MeetOtherStore() {
  steady_ = false;
  AddWatch();
  Reopen(absl::ZeroDuration());
}

void Watcher::ClaimComplete() {
  watch().complete_to = daemon_->installed();
  watch().complete_life = static_cast<check::Life>(daemon_->life());
}

void Watcher::Deliver(const std::shared_ptr<Stream>& stream, check::WatchStep step) {
  if (stream != stream_) return;
  step.at = scene_.world->nanos();
  scene_.world->Trace(static_cast<uint64_t>(step.kind) * 7919 + static_cast<uint64_t>(step.version));
  ++events_;
  switch (step.kind) {
    case Kind::kSynced:
      stream->synced = true;
      [[fallthrough]];
    case Kind::kCommit:
    case Kind::kProgress:
      last_ = std::max(last_, step.version);
      last_life_ = step.life;
      last_store_ = stream->store;
      break;
    case Kind::kGap:
      ++gaps_;
      last_ = 0;
      last_store_ = 0;
      break;
    case Kind::kOpened:
    case Kind::kInitial:
      break;
  }
  watch().steps.push_back(std::move(step));
}

}  // namespace stm::sim
