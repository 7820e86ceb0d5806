#include "engine/locks/leases.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/locks/fields.h"

namespace stm::engine {
namespace {

// A session's end that could not be committed is tried again; sooner, if others can: this daemon's writer was
// closed.
constexpr absl::Duration kEndAgainAfter = absl::Seconds(1);
constexpr absl::Duration kEndUnknownAgainAfter = absl::Milliseconds(50);
// A Loop whose tick is this many times late stood still.
constexpr int kLateTicks = 2;
// Events of sessions are taken as they come: no watch of the daemon's own falls behind.
constexpr size_t kRoom = 1 << 20;

absl::Status NotSure() {
  return NotReady("it is cut off from the others and can't keep sessions: its clients go to another daemon",
                  absl::Milliseconds(100));
}

const Value* LostIn(const Value& value) {
  static const Value* const key = new Value(Value::Keyword("lost"));
  return value.is(Type::kMap) ? value.map().Find(*key) : nullptr;
}

}  // namespace

// Sees the sessions' entries, from the beginning and as they change.
class Leases::Follower : public WatchSink {
 public:
  explicit Follower(Leases* leases) : leases_(leases) {
    for (const auto& [name, session] : leases->sessions_) unseen_.insert(name);
  }
  void Stop() { leases_ = nullptr; }

  void OnInitial(std::vector<EntryState> entries) override {
    if (leases_ == nullptr) return;
    for (const EntryState& entry : entries) {
      const std::optional<std::string_view> id = SessionOfEntry(entry.name);
      if (!id.has_value() || !entry.value.has_value()) continue;
      unseen_.erase(std::string(*id));
      leases_->Saw(std::string(*id), *entry.value);
    }
  }
  void OnSynced(Version) override {
    for (const std::string& name : std::exchange(unseen_, {})) {
      if (leases_ != nullptr) leases_->Gone(name);
    }
  }
  bool OnCommit(std::shared_ptr<const WatchEvent> event) override {
    for (uint32_t i : event->selected) {
      if (leases_ == nullptr) break;
      const EntryChange& change = event->commit->changes[i];
      const std::optional<std::string_view> id = SessionOfEntry(change.name);
      if (!id.has_value()) continue;
      if (change.value.has_value()) {
        leases_->Saw(std::string(*id), *change.value);
      } else {
        leases_->Gone(std::string(*id));
      }
    }
    return true;
  }
  size_t Room() const override { return kRoom; }
  void OnProgress(Version) override {}
  void OnGap(Version, std::string) override {
    if (leases_ != nullptr) leases_->Follow();
  }
  void OnDrain() override { Stop(); }

 private:
  Leases* leases_;  // null: it is over
  std::set<std::string> unseen_;
};

Leases::Leases(Loop* loop, Engine* engine, Writers* writers, LockBounds bounds, LeaseOptions options,
               LeaseCanaries canaries)
    : loop_(loop),
      engine_(engine),
      writers_(writers),
      bounds_(bounds),
      options_(options),
      canaries_(canaries) {}

Leases::~Leases() {
  *alive_ = false;
  if (follower_ != nullptr) follower_->Stop();
}

void Leases::Start() {
  last_tick_ = loop_->Now();
  Follow();
  Tick();
}

void Leases::Follow() {
  if (follower_ != nullptr) follower_->Stop();
  follower_ = std::make_shared<Follower>(this);
  WatchRequest request;
  request.selector.prefixes.emplace_back(SessionEntry(""));
  request.initial = true;
  request.own = true;
  absl::StatusOr<uint64_t> watch = engine_->Watch(std::move(request), follower_);
  if (watch.ok()) return;
  // It is being restored, or drains.
  loop_->At(loop_->Now() + kEndAgainAfter, [this, alive = alive_] {
    if (*alive) Follow();
  });
}

// ---- What there is

void Leases::Saw(const std::string& name, const Value& value) {
  FieldReader fields(SessionEntry(name), value);
  const int64_t moves = fields.Integer("moves");
  Session& session = sessions_[name];
  const bool moved = session.moves != moves || session.ttl == absl::ZeroDuration();
  session.ttl = absl::Milliseconds(fields.Integer("ttl-ms"));
  session.holder = fields.Hex("holder");
  session.moves = moves;
  const Value* lost = LostIn(value);
  const Value* lost_before = LostIn(session.value);
  const bool loses = lost != nullptr && (lost_before == nullptr || *lost != *lost_before);
  session.value = value;
  session.seen_at = loop_->Now();
  if (moved) session.ending = false;
  if (moved && IsOwn(session)) {
    Prolong(name, &session);
  } else if (moved) {
    session.ends = absl::InfiniteDuration();
  }
  if (loses && session.sink != nullptr) TellLost(name, session);
}

void Leases::TellLost(const std::string& name, const Session& session) {
  absl::StatusOr<SessionState> state = ReadSession(name, session.value);
  if (state.ok() && !state->lost.empty()) session.sink->OnLost(name, state->lost);
}

void Leases::Gone(const std::string& name) {
  auto it = sessions_.find(name);
  if (it == sessions_.end()) return;
  std::shared_ptr<SessionSink> sink = std::move(it->second.sink);
  sessions_.erase(it);
  if (sink != nullptr) sink->OnExpired(name);
}

// ---- Calls

void Leases::Open(CallContext context, std::string session, std::string client, absl::Duration ttl,
                  absl::AnyInvocable<void(absl::StatusOr<std::pair<absl::Duration, Version>>)> done) {
  if (ttl == absl::ZeroDuration()) ttl = options_.ttl_default;
  absl::Status status;
  if (ttl < options_.ttl_min || ttl > options_.ttl_max) {
    status = BadRequest("ttl", absl::StrCat("is ", absl::FormatDuration(ttl),
                                            ": from session_ttl_min=", absl::FormatDuration(options_.ttl_min),
                                            " to session_ttl_max=", absl::FormatDuration(options_.ttl_max)));
  } else if (writers_->holder() == 0) {
    status = NotSure();
  } else if (sessions() >= options_.sessions_max) {
    status = LimitReached("sessions_max", options_.sessions_max, "the store", sessions(),
                          "open sessions: close some, or share one in a program");
  }
  if (!status.ok()) {
    loop_->Post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
    return;
  }
  LockCalls::Commit(
      engine_, std::move(context),
      MakeOpenSession(std::move(session), std::move(client), ttl, writers_->holder()),
      [ttl, done = std::move(done)](absl::StatusOr<std::optional<Value>> result, Version version) mutable {
        if (!result.ok()) return done(result.status());
        done(std::make_pair(ttl, version));
      });
}

void Leases::End(CallContext context, std::string session,
                 absl::AnyInvocable<void(absl::StatusOr<Version>)> done) {
  CallContext next = context;
  next.id.reset();
  auto end = MakeEndSession(session, std::nullopt, bounds_);
  LockCalls::Commit(
      engine_, std::move(context), std::move(end),
      [this, alive = alive_, next = std::move(next), session = std::move(session), done = std::move(done)](
          absl::StatusOr<std::optional<Value>> result, Version version) mutable {
        // Nobody knows, and there is no id to ask by: an end that comes twice ends nothing more.
        const bool unknown = absl::IsUnknown(result.status());
        if (!result.ok() && !unknown) return done(result.status());
        // Dropped: it was committed, and may have had more than a commit takes.
        const bool over = !unknown && result->has_value() && (**result).text() != "more";
        if (over) return done(version);
        loop_->Post([this, alive, next = std::move(next), session = std::move(session),
                     done = std::move(done)]() mutable {
          if (*alive) End(std::move(next), std::move(session), std::move(done));
        });
      });
}

void Leases::Beat(const std::string& name, Version seen,
                  absl::AnyInvocable<void(absl::StatusOr<absl::Duration>)> done) {
  if (seen == 0) return BeatNow(name, std::move(done));
  // A client that comes back from another daemon: its session may look like this one's until the move is
  // installed.
  engine_->AwaitInstalled(seen - 1, [this, alive = alive_, name, done = std::move(done)](Version) mutable {
    if (*alive) BeatNow(name, std::move(done));
  });
}

void Leases::BeatNow(const std::string& name, absl::AnyInvocable<void(absl::StatusOr<absl::Duration>)> done) {
  if (!Sure()) {
    // It had no session to be sure for. Its client comes again, or finds another daemon sure.
    writers_->BeSure();
    return done(NotSure());
  }
  auto it = sessions_.find(name);
  if (it != sessions_.end() && IsOwn(it->second)) {
    if (it->second.ending)
      return done(NotReady(absl::StrCat("session ", name, " is about to end"), absl::Milliseconds(100)));
    Prolong(name, &it->second);
    return done(it->second.ttl);
  }
  CallContext context;
  context.meta = MetaOfDaemon("session moves");
  LockCalls::Commit(
      engine_, std::move(context), MakeMoveSession(name, writers_->holder()),
      [this, alive = alive_, name, done = std::move(done)](absl::StatusOr<std::optional<Value>> result,
                                                           Version) mutable {
        loop_->Post([this, alive, name, status = result.status(), done = std::move(done)]() mutable {
          if (!*alive) return;
          auto it = sessions_.find(name);
          if (absl::IsUnknown(status)) status = NotSure();
          if (status.ok() && it == sessions_.end()) status = SessionExpired(name);
          if (status.ok() && (!IsOwn(it->second) || !Sure())) status = NotSure();
          if (!status.ok()) return done(std::move(status));
          done(it->second.ttl);
        });
      });
}

void Leases::Attach(const std::string& name, std::shared_ptr<SessionSink> sink) {
  auto it = sessions_.find(name);
  if (it == sessions_.end() || it->second.sink == sink) return;
  it->second.sink = std::move(sink);
  if (LostIn(it->second.value) != nullptr) TellLost(name, it->second);
}

void Leases::Detach(const std::string& name, const SessionSink* sink) {
  auto it = sessions_.find(name);
  if (it != sessions_.end() && it->second.sink.get() == sink) it->second.sink = nullptr;
}

std::vector<SessionView> Leases::List(const std::string& after, size_t limit) const {
  std::vector<SessionView> views;
  for (auto it = sessions_.upper_bound(after); it != sessions_.end() && views.size() < limit; ++it) {
    absl::StatusOr<SessionState> state = ReadSession(it->first, it->second.value);
    if (!state.ok()) continue;
    SessionView view{it->first, *std::move(state), std::nullopt};
    if (IsOwn(it->second)) view.left = std::max(it->second.ends - loop_->Now(), absl::ZeroDuration());
    views.push_back(std::move(view));
  }
  return views;
}

// ---- Time

bool Leases::Sure() const {
  if (writers_->holder() == 0) return false;
  return canaries_.answer_unsure || loop_->Now() < writers_->SureUntil();
}

void Leases::Prolong(const std::string& name, Session* session) {
  Schedule(name, session, loop_->Now() + (canaries_.expire_early ? session->ttl / 2 : session->ttl));
}

void Leases::Schedule(const std::string& name, Session* session, absl::Duration ends) {
  session->ends = ends;
  // A beat moves the end out: the time that is queued comes first and finds that out.
  if (session->queued <= ends) return;
  session->queued = ends;
  ends_.push({ends, name});
  ends_alarm_.Set(ends);
}

void Leases::EndDue() {
  const absl::Duration now = loop_->Now();
  if (now - last_tick_ > kLateTicks * options_.tick) StoodStill();
  while (!ends_.empty() && ends_.top().when <= now) {
    const Due due = ends_.top();
    ends_.pop();
    auto it = sessions_.find(due.session);
    if (it == sessions_.end() || it->second.queued != due.when) continue;
    Session& session = it->second;
    session.queued = absl::InfiniteDuration();
    if (session.ends == absl::InfiniteDuration() || session.ending) continue;
    if (session.ends > now) {
      Schedule(due.session, &session, session.ends);
    } else {
      Expire(due.session, session.moves);
    }
  }
  if (!ends_.empty()) ends_alarm_.Set(ends_.top().when);
}

// By a commit, which counts only if the session has not moved since: else another may have answered its
// client.
void Leases::Expire(const std::string& name, int64_t moves) {
  sessions_[name].ending = true;
  CallContext context;
  context.meta = MetaOfDaemon("session expires");
  LockCalls::Commit(
      engine_, std::move(context), MakeEndSession(name, moves, bounds_),
      [this, alive = alive_, name, moves](absl::StatusOr<std::optional<Value>> result, Version) {
        loop_->Post([this, alive, name, moves, result = std::move(result)] {
          if (!*alive) return;
          auto it = sessions_.find(name);
          const std::string outcome = result.ok() && result->has_value() ? (**result).text() : "";
          expired_ += outcome == "ended";
          if (it == sessions_.end() || it->second.moves != moves) return;
          it->second.ending = false;
          if (outcome == "more") return Expire(name, moves);
          // It moved, which is not seen here yet; or nobody can commit now.
          const bool unknown = absl::IsUnknown(result.status());
          Schedule(name, &it->second, loop_->Now() + (unknown ? kEndUnknownAgainAfter : kEndAgainAfter));
        });
      });
}

// Beats may have been waiting all the while.
void Leases::StoodStill() {
  last_tick_ = loop_->Now();
  for (auto& [name, session] : sessions_) {
    if (IsOwn(session)) Prolong(name, &session);
  }
}

void Leases::Tick() {
  const absl::Duration now = loop_->Now();
  if (now - last_tick_ > kLateTicks * options_.tick) StoodStill();
  last_tick_ = now;
  bool own = false;
  for (auto& [name, session] : sessions_) {
    if (IsOwn(session)) {
      own = true;
      continue;
    }
    // Whoever was looked for before its session was seen here may not have been there yet.
    const bool gone = !writers_->HolderAlive(session.holder) && writers_->LookedAt() >= session.seen_at;
    if (!gone) {
      if (writers_->HolderAlive(session.holder)) session.ends = absl::InfiniteDuration();
    } else if (session.ends == absl::InfiniteDuration()) {
      Schedule(name, &session, now + (canaries_.expire_early ? session.ttl / 2 : session.ttl));
    }
  }
  if (own) writers_->BeSure();
  loop_->At(now + options_.tick, [this, alive = alive_] {
    if (*alive) Tick();
  });
}

}  // namespace stm::engine
