// A session is a client's lease on what it has: locks, places in queues, entries bound to it. It is one
// entry,
// "/.sessions/ID", changed by procedures (procedure.h): who opens, moves or ends it makes one commit, and its
// end takes all that it had with it. Leases themselves (leases.h) write nothing. Pure; any thread.
#ifndef STM_ENGINE_LOCKS_SESSION_H_
#define STM_ENGINE_LOCKS_SESSION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/locks/lock.h"
#include "engine/procedure.h"

namespace stm::engine {

struct SessionState {
  std::string client;  // as it calls itself
  absl::Duration ttl;
  uint64_t holder = 0;  // the daemon that has its lease (Writers::holder)
  int64_t moves = 0;    // how often another got its lease
  Instant since;
  bool ending = false;  // it had more than one commit can end
  // What it has. Places of a lock's queue and names under /.awaits/ may be over.
  std::map<std::string, std::vector<int64_t>> locks;
  std::set<std::string> awaits;
  std::set<std::string> entries;
  // What was taken from it, locks and tokens, by the last commit that took any: whoever attaches it later is
  // told.
  std::map<std::string, std::vector<int64_t>> lost;

  int64_t things() const;
};

std::string SessionEntry(std::string_view session);
// The id of a SessionEntry; nullopt: it is none.
std::optional<std::string_view> SessionOfEntry(std::string_view entry);

absl::StatusOr<SessionState> ReadSession(std::string_view session, const Value& value);
// FAILED_PRECONDITION, SESSION_EXPIRED.
absl::Status SessionExpired(std::string_view session);

// The session, open: else SESSION_EXPIRED.
absl::StatusOr<SessionState> OpenSessionIn(EntryView* view, std::string_view session);
void SetSession(EntryView* view, std::string_view session, const SessionState& state);
// LIMIT: it has as much as one may.
absl::Status CheckThings(std::string_view session, const SessionState& state, const LockBounds& bounds);

// The result is true, and false if there is one of this id.
std::shared_ptr<const Procedure> MakeOpenSession(std::string session, std::string client, absl::Duration ttl,
                                                 uint64_t holder);
// Its lease is `holder`'s from now on. SESSION_EXPIRED.
std::shared_ptr<const Procedure> MakeMoveSession(std::string session, uint64_t holder);
// Ends it, with all that it has. `moves`: only if its lease has not moved since, not even away and back:
// whoever ends it knows of no beat after that. The result: "ended", "more" (run another: one commit was not
// enough), or "kept" (it is not there, or has moved).
std::shared_ptr<const Procedure> MakeEndSession(std::string session, std::optional<int64_t> moves,
                                                LockBounds bounds);

// An entry that a transaction binds to a session, or takes from one. "": none.
struct Binding {
  std::string entry;
  std::string from;
  std::string to;
};
// Writes into sessions what is bound to them. SESSION_EXPIRED, LIMIT; what is taken from a session that is
// over is no error.
absl::Status Bind(EntryView* view, const std::vector<Binding>& bindings, const LockBounds& bounds);

}  // namespace stm::engine

#endif  // STM_ENGINE_LOCKS_SESSION_H_
