// Leases are when sessions end. A session is one daemon's, which hears its client's beats; nothing of them is
// written.
//
// The rule of time: a client believes in its session until TTL after it sent the newest beat that was
// answered. A daemon ends a session of its own one TTL after it heard the newest beat; one of a daemon that
// is gone, one TTL after it saw that it is gone. A beat is answered only while the daemon is sure that no
// other sees it gone (Writers::SureUntil). So nobody ends a session that its client still believes in. Clocks
// count suspend and never go back; what a commit may do is decided by fences alone, whatever clocks say. When
// the daemon starts, or its Loop stood still, every lease of its own begins again in full: beats may have
// been lost. On the Loop; callbacks of calls come off it, once.
#ifndef STM_ENGINE_LOCKS_LEASES_H_
#define STM_ENGINE_LOCKS_LEASES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/alarm.h"
#include "engine/engine.h"
#include "engine/lock_bounds.h"
#include "engine/locks/calls.h"
#include "engine/locks/session.h"
#include "engine/loop.h"

namespace stm::engine {

// What a session's stream is told. On the Loop.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  virtual void OnLost(const std::string& session,
                      const std::map<std::string, std::vector<int64_t>>& lost) = 0;
  // The last call for this session.
  virtual void OnExpired(const std::string& session) = 0;
};

struct SessionView {
  std::string session;
  SessionState state;
  std::optional<absl::Duration> left;  // of a lease of this daemon's
};

class Leases {
 public:
  // All outlive it.
  Leases(Loop* loop, Engine* engine, Writers* writers, LockBounds bounds, LeaseOptions options,
         LeaseCanaries canaries = {});
  ~Leases();

  // Once the engine is ready: sees every session that there is, and keeps their leases from then on.
  void Start();

  // The id of a session is its call's. ttl zero: the default. INVALID_ARGUMENT, LIMIT.
  void Open(CallContext context, std::string session, std::string client, absl::Duration ttl,
            absl::AnyInvocable<void(absl::StatusOr<std::pair<absl::Duration, Version>>)> done);
  // Ends it; OK too if it is over.
  void End(CallContext context, std::string session, absl::AnyInvocable<void(absl::StatusOr<Version>)> done);
  // The TTL: the lease begins again. A session that another daemon has becomes this one's, by a commit.
  // `seen`: what the client has seen, its session's move to another daemon maybe; waits until that is
  // installed here. SESSION_EXPIRED; UNAVAILABLE: this daemon may be gone in the eyes of others. `done` on
  // the Loop.
  void Beat(const std::string& session, Version seen,
            absl::AnyInvocable<void(absl::StatusOr<absl::Duration>)> done);
  // `sink` is told of the session until Detach, or until another is attached to it. What it lost before is
  // told at once.
  void Attach(const std::string& session, std::shared_ptr<SessionSink> sink);
  void Detach(const std::string& session, const SessionSink* sink);

  // In order of their ids, those after `after`, `limit` at most.
  std::vector<SessionView> List(const std::string& after, size_t limit) const;

  int64_t sessions() const { return static_cast<int64_t>(sessions_.size()); }
  int64_t expired() const { return expired_; }

 private:
  class Follower;
  struct Session {
    uint64_t holder = 0;
    int64_t moves = 0;
    absl::Duration ttl;
    // When it ends, on Loop::Now()'s clock. Of another daemon's: infinite as long as that one is there.
    absl::Duration ends = absl::InfiniteDuration();
    absl::Duration queued = absl::InfiniteDuration();  // the earliest of its times in ends_
    bool ending = false;                               // a commit that ends it, unless it moves, is under way
    absl::Duration seen_at;                            // when its entry was installed here last
    Value value;
    std::shared_ptr<SessionSink> sink;
  };
  struct Due {
    absl::Duration when;
    std::string session;
    friend bool operator<(const Due& a, const Due& b) { return a.when > b.when; }  // earliest on top
  };

  void Follow();
  void Saw(const std::string& session, const Value& value);
  void Gone(const std::string& session);
  bool IsOwn(const Session& session) const { return session.holder == writers_->holder(); }
  bool Sure() const;
  // Of what is installed.
  void BeatNow(const std::string& name, absl::AnyInvocable<void(absl::StatusOr<absl::Duration>)> done);
  void Prolong(const std::string& name, Session* session);
  void Schedule(const std::string& name, Session* session, absl::Duration ends);
  void EndDue();
  void Expire(const std::string& name, int64_t moves);
  void StoodStill();
  void Tick();
  void TellLost(const std::string& name, const Session& session);

  Loop* const loop_;
  Engine* const engine_;
  Writers* const writers_;
  const LockBounds bounds_;
  const LeaseOptions options_;
  const LeaseCanaries canaries_;
  std::map<std::string, Session> sessions_;
  std::priority_queue<Due> ends_;
  Alarm ends_alarm_{loop_, [this] { EndDue(); }};
  absl::Duration last_tick_;
  std::shared_ptr<Follower> follower_;
  int64_t expired_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace stm::engine

#endif  // STM_ENGINE_LOCKS_LEASES_H_
