// SessionReader asks what changes nothing, on a session that it keeps: asked again after a lost connection,
// on another session after that has expired. On the Loop.
#ifndef STM_BACKENDS_ZOOKEEPER_SESSION_READER_H_
#define STM_BACKENDS_ZOOKEEPER_SESSION_READER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backends/zookeeper/own_tasks.h"
#include "backends/zookeeper/session.h"
#include "engine/loop.h"

namespace stm::zookeeper {

struct Ask {
  enum class Kind : uint8_t {
    kGet,
    kExists,
    kChildren,
    kCheck,  // a multi of one check: the answer is a quorum's, and all that is asked behind it is no older
  };
  Kind kind = Kind::kExists;
  std::string path;
  Watch watch = Watch::kNo;
  int32_t version = 0;  // of kCheck
};

struct Answer {
  Code code = Code::kUnknown;
  std::string data;                // of kGet
  Stat stat;                       // of kGet and kExists
  std::vector<std::string> names;  // of kChildren
};

class SessionReader {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void OnWatch(const std::string& path) = 0;
    // `fresh`: on another session than before, or the first: watches are gone, and its server may be behind
    // what was read before.
    virtual void OnConnected(bool fresh) = 0;
    // PERMISSION_DENIED: the servers don't take the credentials. Nothing is answered any more.
    virtual void OnRefused(absl::Status status) = 0;
  };

  // All outlive it.
  SessionReader(engine::Loop* loop, Sessions* sessions, SessionOptions options, Listener* listener);

  // Again: with another session, to another server if there is one; what is under way is asked again there.
  void Open();
  // For good: nothing is answered any more.
  void Close();
  bool connected() const { return connected_; }
  // Which connection this is, or was. What was sent on an earlier one may have been asked again on this: what it was asked
  // for may have changed meanwhile.
  uint64_t connection() const { return connection_; }
  // In order, all on one connection; answered when all are, none with kUnknown: never while there is no
  // connection. `done` in a later task; what it captures may ask again.
  void Send(std::vector<Ask> asks, absl::AnyInvocable<void(std::vector<Answer>)> done);

 private:
  struct Query {
    std::vector<Ask> asks;
    std::vector<Answer> answers;
    size_t left = 0;
    bool broken = false;
    absl::AnyInvocable<void(std::vector<Answer>)> done;
  };

  void OnEvent(uint64_t opened, const Event& event);
  void Issue(std::unique_ptr<Query> query);
  void Answered(Query* query, size_t i, Answer answer);
  void Patience();

  engine::Loop* const loop_;
  Sessions* const sessions_;
  const SessionOptions options_;
  Listener* const listener_;
  std::unique_ptr<Session> session_;
  uint64_t opened_ = 0;  // sessions
  uint64_t connection_ = 0;
  bool connected_ = false;
  bool fresh_ = false;
  bool over_ = false;  // refused, or closed
  absl::Duration disconnected_since_;
  std::deque<std::unique_ptr<Query>> under_way_;
  std::deque<std::unique_ptr<Query>> waiting_;
  OwnTasks tasks_{loop_};
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_SESSION_READER_H_
