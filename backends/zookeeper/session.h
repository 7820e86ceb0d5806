// A Session is what the ZooKeeper coordinator needs of a ZooKeeper client, so that a simulation can be one
// too: it outlives its connections, and ends by the servers' word or with this object. All on the Loop. Every
// call is answered once, in a later task, in the order of the calls but for what is refused here; a session
// that is gone answers nothing any more. What was asked and not answered yet may still be done. Always: a
// connection lost is told at once, by an event and then by kUnknown to every call that was under way; a watch
// that fired is told before any answer that shows what it fired for.
#ifndef STM_BACKENDS_ZOOKEEPER_SESSION_H_
#define STM_BACKENDS_ZOOKEEPER_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace stm::zookeeper {

// The largest packet that goes out. One byte more, and a server cuts the connection, and all that is under
// way on it.
inline constexpr size_t kPacketBytesMax = 1'048'574;
// Calls not answered yet; the caller keeps below.
inline constexpr size_t kCallsUnderWayMax = 32'768;

enum class Code : uint8_t {
  kOk,
  // Not done, for certain.
  kNoNode,
  kNodeExists,
  kBadVersion,
  kNotEmpty,
  kNoAuth,
  kTooLarge,  // above kPacketBytesMax: never sent
  kRefused,   // and never will be as it stands: a quota, an ACL, a name that a server doesn't take, an
              // ephemeral's child
  // May have been done, or be done yet, or not: the connection or the session is gone, or who knows.
  kUnknown,
};
// "NO_NODE", for logs and messages.
const char* NameOf(Code code);

struct Stat {
  int64_t czxid = 0;     // of the transaction that created it
  int64_t mzxid = 0;     // of the one that set its data last
  int32_t version = 0;   // times its data was set
  int32_t cversion = 0;  // children created and deleted
  int32_t num_children = 0;
  int64_t ephemeral_owner = 0;  // a session's id; 0: it is persistent
  int32_t data_length = 0;
};

// How many children the node has ever had: changes are as many as were created and deleted, and children are
// those that were not deleted.
inline int64_t ChildrenMade(const Stat& stat) {
  return (static_cast<int64_t>(stat.cversion) + stat.num_children) / 2;
}

// ZooKeeper's wildcard.
inline constexpr int32_t kAnyVersion = -1;

// One operation of a multi. Versions are exact but where the name says so.
class Op {
 public:
  enum class Kind : uint8_t { kCheck, kSet, kCreate, kDelete };
  enum class Mode : uint8_t {
    kPersistent,
    kEphemeral,   // goes with the session
    kSequential,  // persistent, ten digits more in its name: how many children its parent has had
  };
  static Op Check(std::string path, int32_t version);
  static Op CheckAny(std::string path);  // that it is there
  static Op Set(std::string path, std::string data, int32_t version);
  static Op SetAny(std::string path, std::string data);
  static Op Create(std::string path, std::string data, Mode mode = Mode::kPersistent);
  static Op Delete(std::string path, int32_t version);
  static Op DeleteAny(std::string path);

  Kind kind() const { return kind_; }
  Mode mode() const { return mode_; }  // of kCreate
  const std::string& path() const { return path_; }
  const std::string& data() const { return data_; }  // of kSet and kCreate
  int32_t version() const { return version_; }       // not of kCreate

 private:
  Op(Kind kind, std::string path, std::string data, int32_t version, Mode mode);

  Kind kind_;
  Mode mode_;
  int32_t version_;
  std::string path_;
  std::string data_;
};

// What a path is here: "/", or "/a/b" without empty, "." and ".." segments and without control characters. A
// name that would not be one is our own mistake.
bool IsPath(const std::string& path);

// What a multi takes, on the wire and in the servers' logs: never less. `chroot_bytes` is the length of the
// chroot.
size_t MultiBytes(const std::vector<Op>& ops, size_t chroot_bytes);

struct OpResult {
  std::string path;  // of kCreate: as it was created
  Stat stat;         // of kSet: after it
};

struct MultiResult {
  Code code = Code::kUnknown;
  size_t failed = 0;              // the first op that could not be done, when one is why nothing was
  std::vector<OpResult> results;  // of kOk: one an op
};

struct Event {
  enum class Kind : uint8_t {
    kConnecting,  // it lost its connection, and looks for another by itself
    kConnected,   // again, or for the first time; id and timeout
    kExpired,     // for good: its ephemerals are gone, no call will be done any more
    kAuthFailed,  // for good: the servers don't take its credentials
    kWatch,       // path: it is watched no more
  };
  Kind kind = Kind::kConnecting;
  std::string path;
  int64_t id = 0;
  absl::Duration timeout;  // as negotiated
};

// A watch is told of the next change to a node (of Get: data or deletion; of Exists: creation too), also when
// it happened while there was no connection. It is set only if its call was answered with kOk, or Exists with
// kNoNode.
enum class Watch : uint8_t { kNo, kYes };

// While there is no connection, a call waits for the next one, or is answered with kUnknown.
class Session {
 public:
  // Ends the session: its ephemerals go at once if it is connected, else when it expires. Never blocks.
  virtual ~Session() = default;
  // All of it or nothing. At least one op.
  virtual void Multi(std::vector<Op> ops, absl::AnyInvocable<void(MultiResult)> done) = 0;
  // As this session's server has it, which may be behind others, but never behind what this session has seen.
  virtual void Get(std::string path, Watch watch,
                   absl::AnyInvocable<void(Code, std::string data, Stat)> done) = 0;
  virtual void Exists(std::string path, Watch watch, absl::AnyInvocable<void(Code, Stat)> done) = 0;
  // Their names alone, in no order. For directories that are known to be small.
  virtual void Children(std::string path,
                        absl::AnyInvocable<void(Code, std::vector<std::string> names)> done) = 0;
  // After kOk, this session's server holds all that the leader had committed when it was asked. Not a
  // quorum's word: a leader that has been replaced and does not know yet answers too.
  virtual void Sync(std::string path, absl::AnyInvocable<void(Code)> done) = 0;
};

// Before a connect string, where people write one.
inline constexpr std::string_view kScheme = "zk://";

// "host:port,host:port/chroot", parsed.
struct ConnectString {
  std::string servers;  // as the client library takes them
  std::string chroot;   // "/a/b"; "": none
};
// INVALID_ARGUMENT says what is wrong where.
absl::StatusOr<ConnectString> ParseConnectString(const std::string& text);

struct SessionOptions {
  ConnectString connect;
  absl::Duration timeout = absl::Seconds(10);  // asked for; the servers have bounds
  // "user:password", told to the servers before all else. "": none.
  std::string credentials;
  // Who may do what with nodes that this session creates.
  enum class Acl : uint8_t {
    kOpen,     // anybody anything
    kCreator,  // whoever has these credentials anything, others nothing
  };
  Acl acl = Acl::kOpen;
};

// user:password, of a file that holds nothing else. INVALID_ARGUMENT says what is wrong, and never what the
// file holds.
absl::StatusOr<std::string> ReadCredentials(const std::string& path, bool* others_may_read);

// Where sessions are opened, as many at a time as are wanted.
class Sessions {
 public:
  virtual ~Sessions() = default;
  // Begins as kConnecting, and goes on looking for a server until it is gone. Before the first kConnected
  // every call is answered with kUnknown. The session may be destroyed in any of its callbacks.
  virtual std::unique_ptr<Session> Open(SessionOptions options,
                                        absl::AnyInvocable<void(const Event&)> on_event) = 0;
};

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_SESSION_H_
