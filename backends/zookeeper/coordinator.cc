// A daemon's life in ZooKeeper: its sessions, its writer, its start and its end.
#include "backends/zookeeper/coordinator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backends/zookeeper/layout.h"

namespace stm::zookeeper {
namespace {

// How often it is looked which daemons run.
constexpr absl::Duration kLookForDaemons = absl::Seconds(1);

}  // namespace

ZooKeeperCoordinator::ZooKeeperCoordinator(engine::Loop* loop, Sessions* sessions, Options options,
                                           Canaries canaries)
    : loop_(loop),
      sessions_(sessions),
      options_(std::move(options)),
      canaries_(canaries),
      tail_(loop, sessions, options_.session, options_.tail, canaries.tail, this),
      cleaner_(loop, &tail_, options_.cleaner, this) {}

ZooKeeperCoordinator::~ZooKeeperCoordinator() = default;

void ZooKeeperCoordinator::After(absl::Duration time, absl::AnyInvocable<void()> task) {
  loop_->At(loop_->Now() + time,
            [alive = std::weak_ptr<const bool>(alive_), task = std::move(task)]() mutable {
              if (!alive.expired()) task();
            });
}

// ---- A start

void ZooKeeperCoordinator::Recover(engine::Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) {
  sink_ = sink;
  recovered_ = std::move(recovered);
  tail_.Start([this](absl::Status status) {
    if (!status.ok()) return std::exchange(recovered_, nullptr)(std::move(status));
    OpenSession();
    NewWriter([this](absl::Status status) {
      LookForDaemons();
      cleaner_.Begin();
      if (recovered_) std::exchange(recovered_, nullptr)(std::move(status));
    });
  });
}

void ZooKeeperCoordinator::OnBegin(engine::Version version) {
  installed_ = id_floor_ = version;
  sink_->EndImage(version, Instant(), version);
}

void ZooKeeperCoordinator::OnStopped(const absl::Status& status) {
  stopped_ = status;
  for (const std::weak_ptr<Loading>& weak : std::exchange(loadings_, {})) {
    if (const auto loading = weak.lock()) FailLoading(loading.get(), status);
  }
  std::deque<SubmittedPtr> unknown = std::move(submitted_);
  submitted_.clear();
  // What was sent and not answered may have committed: nobody is told that it has not.
  for (const SubmittedPtr& submitted : unknown) {
    if (submitted->state != Submitted::State::kWaiting) continue;
    submitted->state = Submitted::State::kRefused;
    submitted->done({engine::AppendResult::Outcome::kFailed, status});
  }
}

// ---- The session of its commits

void ZooKeeperCoordinator::OpenSession() {
  connected_ = false;
  session_.reset();
  session_ = sessions_->Open(options_.session,
                             [this, opened = ++opened_](const Event& event) { OnEvent(opened, event); });
  // A session that is gone answers nothing any more.
  bool any = false;
  for (const SubmittedPtr& submitted : submitted_) {
    if (submitted->state != Submitted::State::kSent) continue;
    submitted->state = Submitted::State::kUnknown;
    any = true;
  }
  if (!any) return;
  settling_ = true;
  Settle();
}

void ZooKeeperCoordinator::OnEvent(uint64_t opened, const Event& event) {
  if (opened != opened_) return;
  switch (event.kind) {
    case Event::Kind::kConnecting:
      connected_ = false;
      return;
    case Event::Kind::kConnected: {
      connected_ = true;
      ShowDaemon();
      std::vector<absl::AnyInvocable<void()>> tasks = std::move(when_connected_);
      when_connected_.clear();
      for (auto& task : tasks) task();
      return;
    }
    case Event::Kind::kExpired:
      return OpenSession();
    case Event::Kind::kAuthFailed:
    case Event::Kind::kWatch:
      return;  // the tail's session is told too
  }
}

void ZooKeeperCoordinator::WhenConnected(absl::AnyInvocable<void()> task) {
  if (connected_) return task();
  when_connected_.push_back(std::move(task));
}

// ---- Writers

absl::Status ZooKeeperCoordinator::MayNotWrite() {
  return absl::PermissionDeniedError("ZooKeeper does not let these credentials write below the chroot");
}

void ZooKeeperCoordinator::NewWriter(absl::AnyInvocable<void(absl::Status)> done) {
  WhenConnected([this, done = std::move(done)]() mutable {
    uint64_t writer = 0;
    while (writer == 0) writer = loop_->Random();
    session_->Multi({Op::Create(WriterPath(writer), "0")}, [this, writer, done = std::move(done)](
                                                               MultiResult result) mutable {
      if (result.code == Code::kNoAuth) {
        return done(MayNotWrite());
      }
      // Unknown: it may be there, and is nobody's.
      if (result.code != Code::kOk) {
        return After(kAgain, [this, done = std::move(done)]() mutable { NewWriter(std::move(done)); });
      }
      writer_ = writer;
      chain_ = 0;
      ShowDaemon();
      done(absl::OkStatus());
    });
  });
}

// Of no weight: who runs is a hint.
void ZooKeeperCoordinator::ShowDaemon() {
  if (writer_ == 0) return;
  session_->Multi({Op::Create(DaemonPath(writer_), options_.address, Op::Mode::kEphemeral)},
                  [](MultiResult) {});
}

void ZooKeeperCoordinator::LookForDaemons() {
  tail_.Read({{Ask::Kind::kChildren, kDaemonsPath, Watch::kNo, 0}}, [this](std::vector<Answer> answers) {
    daemons_.clear();
    for (const std::string& name : answers[0].names) {
      uint64_t writer = 0;
      if (absl::SimpleHexAtoi(name, &writer)) daemons_.insert(writer);
    }
    After(kLookForDaemons, [this] { LookForDaemons(); });
  });
}

bool ZooKeeperCoordinator::Alive(uint64_t writer) { return writer == writer_ || daemons_.contains(writer); }

void ZooKeeperCoordinator::Close(uint64_t writer, absl::AnyInvocable<void(absl::Status)> done) {
  if (writer == writer_) {
    return loop_->Post([done = std::move(done)]() mutable {
      done(absl::FailedPreconditionError("this daemon's own writer is not closed while it runs"));
    });
  }
  auto caught_up = [this, done = std::move(done)]() mutable { tail_.Barrier(std::move(done)); };
  if (canaries_.keep_writers_open) return caught_up();
  CloseNode(writer, std::move(caught_up));
}

void ZooKeeperCoordinator::CloseNode(uint64_t writer, absl::AnyInvocable<void()> done) {
  if (!stopped_.ok()) return;
  const std::string path = WriterPath(writer);
  WhenConnected([this, writer, path, done = std::move(done)]() mutable {
    session_->Get(path, Watch::kNo,
                  [this, writer, path, done = std::move(done)](Code code, std::string, Stat stat) mutable {
                    // That it is not there a server that is behind says too: who can make it and delete it at
                    // once knows.
                    std::vector<Op> ops;
                    if (code == Code::kNoNode) ops.push_back(Op::Create(path, ""));
                    if (code == Code::kOk || code == Code::kNoNode) {
                      ops.push_back(Op::Delete(path, code == Code::kOk ? stat.version : 0));
                    } else {
                      return After(kAgain, [this, writer, done = std::move(done)]() mutable {
                        CloseNode(writer, std::move(done));
                      });
                    }
                    session_->Multi(std::move(ops),
                                    [this, writer, done = std::move(done)](MultiResult result) mutable {
                                      if (result.code == Code::kOk) return done();
                                      // Its daemon was faster, or nobody knows.
                                      CloseNode(writer, std::move(done));
                                    });
                  });
  });
}

// ---- Order

void ZooKeeperCoordinator::Barrier(absl::AnyInvocable<void(absl::StatusOr<engine::Version>)> done) {
  tail_.Barrier([this, done = std::move(done)](absl::Status status) mutable {
    if (!status.ok()) return done(std::move(status));
    done(installed_);
  });
}

void ZooKeeperCoordinator::Trim(engine::Version id_floor) { id_floor_ = std::max(id_floor_, id_floor); }

// ---- Cleaning

// One daemon at a time, as a rule: the one whose writer is the least.
bool ZooKeeperCoordinator::Cleans() {
  if (!stopped_.ok() || !connected_ || settling_) return false;
  return std::all_of(daemons_.begin(), daemons_.end(), [this](uint64_t writer) { return writer >= writer_; });
}

void ZooKeeperCoordinator::Multi(std::vector<Op> ops, absl::AnyInvocable<void(MultiResult)> done) {
  if (connected_) return session_->Multi(std::move(ops), std::move(done));
  loop_->Post([done = std::move(done)]() mutable { done(MultiResult()); });
}

void ZooKeeperCoordinator::CloseWriter(uint64_t writer, absl::AnyInvocable<void()> done) {
  CloseNode(writer, std::move(done));
}

}  // namespace stm::zookeeper
