// A daemon's life in ZooKeeper: its sessions, its writer, its start and its end.
#include "backends/zookeeper/coordinator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "backends/zookeeper/archiver.h"
#include "backends/zookeeper/kept_log.h"
#include "backends/zookeeper/layout.h"
#include "engine/values/edn.h"

namespace stm::zookeeper {
namespace {

// How often it is looked which daemons run, and this one says where it is.
constexpr absl::Duration kLookForDaemons = absl::Seconds(1);

// What a daemon's node says.
std::string PrintDaemon(const Daemon& daemon) {
  std::string text = "{:address ";
  AppendEdnString(daemon.address, &text);
  absl::StrAppendFormat(&text, " :holder \"%016x\" :program ", daemon.holder);
  AppendEdnString(daemon.program, &text);
  absl::StrAppend(&text, " :format ", daemon.format, " :applied ", daemon.applied, " :installed ",
                  daemon.installed, " :id-floor ", daemon.id_floor);
  if (daemon.archive_needs) absl::StrAppend(&text, " :archive-needs ", *daemon.archive_needs);
  text.push_back('}');
  return text;
}

// What is missing is left as it is: another program's daemons may say less.
Daemon ParseDaemon(uint64_t writer, const std::string& data) {
  Daemon daemon;
  daemon.writer = writer;
  const absl::StatusOr<Value> read = ReadEdn(data);
  if (!read.ok() || !read->is(Type::kMap)) return daemon;
  const auto text = [&read](std::string_view key, std::string* into) {
    const Value* value = read->map().Find(Value::Keyword(key));
    if (value != nullptr && value->is(Type::kString)) *into = std::string(value->text());
  };
  const auto number = [&read](std::string_view key, int64_t* into) {
    const Value* value = read->map().Find(Value::Keyword(key));
    if (value != nullptr && value->is(Type::kInteger)) *into = value->integer();
  };
  text("address", &daemon.address);
  std::string holder;
  text("holder", &holder);
  (void)absl::SimpleHexAtoi(holder, &daemon.holder);
  text("program", &daemon.program);
  number("format", &daemon.format);
  number("applied", &daemon.applied);
  number("installed", &daemon.installed);
  number("id-floor", &daemon.id_floor);
  int64_t archive_needs = -1;
  number("archive-needs", &archive_needs);
  if (archive_needs >= 0) daemon.archive_needs = archive_needs;
  return daemon;
}

}  // namespace

ZooKeeperCoordinator::ZooKeeperCoordinator(engine::Loop* loop, Sessions* sessions, Options options,
                                           Canaries canaries)
    : loop_(loop),
      sessions_(sessions),
      options_(std::move(options)),
      canaries_(canaries),
      tail_(loop, sessions, options_.session, options_.tail, canaries.tail, this),
      cleaner_(loop, &tail_, options_.cleaner, this) {
  if (options_.archive.disk != nullptr) {
    archiver_ = std::make_unique<Archiver>(loop, &tail_, options_.archive);
  } else {
    kept_log_ = std::make_unique<KeptLog>(loop, &tail_);
  }
}

ZooKeeperCoordinator::~ZooKeeperCoordinator() = default;

// ---- A start

void ZooKeeperCoordinator::Recover(engine::Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) {
  sink_ = sink;
  recovered_ = std::move(recovered);
  if (archiver_ == nullptr) return StartTail();
  archiver_->Open([this](absl::Status status) {
    if (!recovered_) return;
    if (!status.ok()) return std::exchange(recovered_, nullptr)(std::move(status));
    StartTail();
  });
}

void ZooKeeperCoordinator::StartTail() {
  tail_.Start([this](absl::Status status) {
    if (!status.ok()) return std::exchange(recovered_, nullptr)(std::move(status));
    if (archiver_ == nullptr) return TakeWriter();
    archiver_->Find([this](absl::Status status) {
      if (!recovered_) return;
      if (!status.ok()) return std::exchange(recovered_, nullptr)(std::move(status));
      TakeWriter();
    });
  });
}

void ZooKeeperCoordinator::TakeWriter() {
  OpenSession();
  NewWriter([this](absl::Status status) {
    if (archiver_ != nullptr) archiver_->Begin(writer_);
    LookForDaemons();
    cleaner_.Begin();
    if (recovered_) std::exchange(recovered_, nullptr)(std::move(status));
  });
}

void ZooKeeperCoordinator::Archived(int64_t position, int64_t next, int64_t zxid, std::string text) {
  if (archiver_ != nullptr) archiver_->Applied({position, next, zxid, std::move(text)});
}

void ZooKeeperCoordinator::StopArchive(absl::AnyInvocable<void(absl::Status)> done) {
  if (archiver_ == nullptr) return done(absl::OkStatus());
  archiver_->Stop([done = std::move(done)]() mutable { done(absl::OkStatus()); });
}

engine::LogReader* ZooKeeperCoordinator::log() {
  if (archiver_ != nullptr) return archiver_.get();
  return kept_log_.get();
}

std::optional<ArchiveStats> ZooKeeperCoordinator::archive_stats() const {
  if (archiver_ == nullptr) return std::nullopt;
  return archiver_->stats();
}

void ZooKeeperCoordinator::OnBegin(engine::Version version) {
  installed_ = id_floor_ = version;
  sink_->EndImage(version, Instant(), version);
}

std::string ZooKeeperCoordinator::waits_for() const {
  if (!stopped_.ok() || (writer_ != 0 && !recovered_)) return "";
  if (!tail_.connected()) {
    return absl::StrCat("a server of ZooKeeper at ", options_.session.connect.servers, " that answers");
  }
  if (tail_.next() < tail_.head()) {
    return absl::StrCat("the log in ZooKeeper, of which ", tail_.next(), " batches of ", tail_.head(),
                        " are read");
  }
  if (archiver_ != nullptr && session_ == nullptr) return "the end of the archive in ZooKeeper's log";
  return "ZooKeeper to take this daemon's writer";
}

void ZooKeeperCoordinator::Leave() {
  leaving_ = true;
  tail_.Leave(absl::UnavailableError("this daemon stops"));
  connected_ = false;
  ++opened_;
  session_.reset();
}

void ZooKeeperCoordinator::OnStopped(const absl::Status& status) {
  stopped_ = status;
  if (archiver_ != nullptr) archiver_->TailStopped(status);
  if (recovered_) {
    std::exchange(recovered_, nullptr)(status);
  } else if (options_.fatal && !leaving_ && writer_ != 0) {
    options_.fatal(status);
  }
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
  showing_ = false;
  making_sure_ = false;
  ForgetHolder();
  session_.reset();
  session_ = sessions_->Open(options_.session,
                             [this, opened = ++opened_](const Event& event) { OnEvent(opened, event); });
  for (auto& [ask, done] : std::exchange(asked_, {})) {
    loop_->Post([done = std::move(done)]() mutable { done(MultiResult()); });
  }
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
      timeout_ = event.timeout;
      making_sure_ = false;
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

absl::Status ZooKeeperCoordinator::Disconnected() const {
  return absl::UnavailableError(absl::StrCat("there is no connection to ZooKeeper at ",
                                             options_.session.connect.servers, ": not done"));
}

absl::Status ZooKeeperCoordinator::MayNotWrite() {
  return absl::PermissionDeniedError("ZooKeeper does not let these credentials write below the chroot");
}

void ZooKeeperCoordinator::NewWriter(absl::AnyInvocable<void(absl::Status)> done) {
  WhenConnected([this, done = std::move(done)]() mutable {
    uint64_t writer = 0;
    while (writer == 0) writer = loop_->Random();
    Multi({Op::Create(WriterPath(writer), "0")}, [this, writer,
                                                  done = std::move(done)](MultiResult result) mutable {
      if (result.code == Code::kNoAuth) {
        return done(MayNotWrite());
      }
      // Unknown: it may be there, and is nobody's.
      if (result.code != Code::kOk) {
        return tasks_.After(kAgain, [this, done = std::move(done)]() mutable { NewWriter(std::move(done)); });
      }
      const uint64_t before = std::exchange(writer_, writer);
      chain_ = 0;
      if (options_.writer_observed) options_.writer_observed(writer);
      if (before != 0) {
        ForgetHolder();
        HideDaemon(before);
      }
      ShowDaemon();
      done(absl::OkStatus());
    });
  });
}

// Of no weight: who runs, and how far it is, is a hint.
void ZooKeeperCoordinator::ShowDaemon() {
  if (writer_ == 0 || !connected_ || showing_) return;
  Daemon self;
  self.address = address_;
  self.holder = holder_;
  self.program = options_.program;
  self.format = kFormat;
  self.applied = tail_.next();
  self.installed = installed_;
  self.id_floor = id_floor_;
  if (archiver_ != nullptr) self.archive_needs = archiver_->needs();
  if (PrintDaemon(self) == shown_) return;
  showing_ = true;
  const std::string path = DaemonPath(writer_);
  session_->Get(
      path, Watch::kNo,
      [this, writer = writer_, path, self = std::move(self)](Code code, std::string data, Stat stat) mutable {
        if (writer != writer_ || (code != Code::kOk && code != Code::kNoNode)) {
          showing_ = false;
          return;
        }
        // Others may have seen it gone before it is made.
        self.holder = code == Code::kOk ? ParseDaemon(writer, data).holder : writer + ++nodes_shown_;
        std::string text = PrintDaemon(self);
        std::vector<Op> ops;
        ops.push_back(code == Code::kOk ? Op::Set(path, text, stat.version)
                                        : Op::Create(path, text, Op::Mode::kEphemeral));
        session_->Multi(std::move(ops), [this, writer, holder = self.holder,
                                         text = std::move(text)](MultiResult result) mutable {
          showing_ = false;
          if (result.code != Code::kOk || writer != writer_) return;
          shown_ = std::move(text);
          holder_ = holder;
        });
      });
}

// Its node is gone, or goes: others may see that.
void ZooKeeperCoordinator::ForgetHolder() {
  shown_.clear();
  holder_ = 0;
  sure_until_ = -absl::InfiniteDuration();
}

bool ZooKeeperCoordinator::HolderAlive(uint64_t holder) {
  return holder == holder_ || std::any_of(daemons_.begin(), daemons_.end(), [holder](const auto& daemon) {
           return daemon.second.holder == holder;
         });
}

// A writer of before, which is closed: what it commits is nothing, so it does not run. As long as its node is
// there others take its sessions for kept, and it may come late, or the removal be lost: whenever it is seen
// it is removed.
void ZooKeeperCoordinator::HideDaemon(uint64_t writer) {
  hidden_.insert(writer);
  session_->Multi({Op::DeleteAny(DaemonPath(writer))}, [](MultiResult) {});
}

void ZooKeeperCoordinator::Advertise(std::string address) {
  address_ = std::move(address);
  ShowDaemon();
}

void ZooKeeperCoordinator::Look(absl::AnyInvocable<void(absl::StatusOr<Cluster>)> done) {
  if (!stopped_.ok() || !tail_.connected()) {
    return loop_->Post(
        [done = std::move(done), status = stopped_.ok() ? Disconnected() : stopped_]() mutable {
          done(std::move(status));
        });
  }
  tail_.Read({{Ask::Kind::kChildren, kDaemonsPath, Watch::kNo, 0}}, [this, done = std::move(done)](
                                                                        std::vector<Answer> answers) mutable {
    std::vector<uint64_t> writers;
    for (const std::string& name : answers[0].names) {
      uint64_t writer = 0;
      if (absl::SimpleHexAtoi(name, &writer)) writers.push_back(writer);
    }
    std::sort(writers.begin(), writers.end());
    std::vector<Ask> asks;
    for (const uint64_t writer : writers)
      asks.push_back({Ask::Kind::kGet, DaemonPath(writer), Watch::kNo, 0});
    tail_.Read(std::move(asks), [this, writers, done = std::move(done)](std::vector<Answer> answers) mutable {
      Cluster cluster;
      cluster.epoch = tail_.epoch().version;
      cluster.segment = tail_.epoch().segment;
      cluster.first = tail_.trimmed();
      cluster.head = tail_.head();
      cluster.log_entries = cleaner_.LogEntries();
      cluster.log_bytes = cleaner_.LogBytes();
      for (size_t i = 0; i < writers.size(); ++i) {
        if (answers[i].code == Code::kOk) cluster.daemons.push_back(ParseDaemon(writers[i], answers[i].data));
      }
      done(std::move(cluster));
    });
  });
}

void ZooKeeperCoordinator::LookForDaemons() {
  Look([this, began = loop_->Now()](absl::StatusOr<Cluster> cluster) {
    if (cluster.ok()) {
      looked_at_ = began;
      daemons_.clear();
      for (Daemon& daemon : cluster->daemons) {
        if (hidden_.count(daemon.writer) > 0) HideDaemon(daemon.writer);
        daemons_[daemon.writer] = std::move(daemon);
      }
    }
    tasks_.After(kLookForDaemons, [this] {
      ShowDaemon();
      LookForDaemons();
    });
  });
}

// Others see a daemon gone when its node goes, with the session that made it. A commit on that session, that
// found the node, keeps both for the session's timeout, counted from its sending, less what a server may be
// late with telling the leader whom it heard: half a tick of the servers', of which a timeout is two at
// least.
void ZooKeeperCoordinator::BeSure() {
  if (holder_ == 0 || !connected_ || making_sure_) return;
  making_sure_ = true;
  session_->Multi({Op::CheckAny(DaemonPath(writer_))},
                  [this, holder = holder_, began = loop_->Now(), session = opened_](MultiResult result) {
                    if (session != opened_) return;
                    making_sure_ = false;
                    if (result.code == Code::kOk && holder == holder_)
                      sure_until_ = std::max(sure_until_, began + timeout_ / 2);
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
  CloseWriter(writer, std::move(caught_up));
}

void ZooKeeperCoordinator::CloseWriter(uint64_t writer, absl::AnyInvocable<void()> done) {
  if (!stopped_.ok()) return;
  WhenConnected([this, writer, done = std::move(done)]() mutable {
    Multi({Op::DeleteAny(WriterPath(writer))},
          [this, writer, done = std::move(done)](MultiResult result) mutable {
            // That it is not there is a quorum's word too.
            if (result.code == Code::kOk || result.code == Code::kNoNode) return done();
            tasks_.After(kAgain, [this, writer, done = std::move(done)]() mutable {
              CloseWriter(writer, std::move(done));
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
  return std::all_of(daemons_.begin(), daemons_.end(),
                     [this](const auto& one) { return one.first >= writer_; });
}

engine::Version ZooKeeperCoordinator::IdFloor() {
  engine::Version lowest = id_floor_;
  for (const auto& [writer, daemon] : daemons_) {
    if (writer != writer_) lowest = std::min(lowest, daemon.id_floor);
  }
  return lowest;
}

int64_t ZooKeeperCoordinator::Read() {
  int64_t lowest = tail_.next();
  const bool archives = !canaries_.trim_unarchived;
  if (archives && archiver_ != nullptr) lowest = std::min(lowest, archiver_->needs());
  for (const auto& [writer, daemon] : daemons_) {
    if (writer == writer_) continue;
    lowest = std::min(lowest, daemon.applied);
    if (archives && daemon.archive_needs) lowest = std::min(lowest, *daemon.archive_needs);
  }
  return lowest;
}

// Answered for certain: unknown, if the session goes.
void ZooKeeperCoordinator::Multi(std::vector<Op> ops, absl::AnyInvocable<void(MultiResult)> done) {
  if (!connected_) return loop_->Post([done = std::move(done)]() mutable { done(MultiResult()); });
  const uint64_t ask = ++ask_;
  asked_[ask] = std::move(done);
  session_->Multi(std::move(ops), [this, ask](MultiResult result) {
    const auto asked = asked_.find(ask);
    if (asked == asked_.end()) return;
    absl::AnyInvocable<void(MultiResult)> answer = std::move(asked->second);
    asked_.erase(asked);
    answer(std::move(result));
  });
}

}  // namespace stm::zookeeper
