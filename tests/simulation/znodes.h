// Znodes is what one ZooKeeper server holds: the tree of nodes, and the sessions that are open. It changes by
// transactions alone. A leader decides what a transaction does, by the rules and in the order of checks that
// ZooKeeper has; every server then replays it. Always: equal transactions make equal Znodes.
#ifndef STM_TESTS_SIMULATION_ZNODES_H_
#define STM_TESTS_SIMULATION_ZNODES_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "backends/zookeeper/session.h"

namespace stm::sim {

struct Transaction {
  enum class Kind : uint8_t {
    kMulti,
    kFailed,  // a multi that could not be done
    kOpen,    // a session
    kClose,   // by its client, or because it expired
  };
  Kind kind = Kind::kMulti;
  int64_t zxid = 0;
  int64_t session = 0;               // who asked, opens or closes; 0: a stranger, who may do anything
  std::vector<zookeeper::Op> ops;    // of kMulti, once decided: sequential names are whole
  std::vector<int32_t> parent_made;  // one an op; of creates: Znode::made of the parent after it
  std::vector<std::string> gone;     // of kClose: the session's ephemerals
  absl::Duration timeout;            // of kOpen
  std::string credentials;           // of the session
  zookeeper::SessionOptions::Acl acl = zookeeper::SessionOptions::Acl::kOpen;
};

struct Znode {
  std::string data;
  zookeeper::Stat stat;  // but for what children and data tell
  int32_t made = 0;      // children it has had
  std::set<std::string> children;
  std::string owner;  // the credentials that may touch it; "": any
};

class Znodes {
 public:
  Znodes();

  // What setting a node at -2 makes of its version: -1, or with newer servers 0 (ZOOKEEPER-4743).
  void SetSkipsMinusOne(bool skips) { skips_minus_one_ = skips; }

  // As the leader. kMulti: all of it or nothing; what can't be done becomes kFailed. Fills in the names, the
  // counts, and what goes with a session.
  zookeeper::MultiResult Decide(Transaction* transaction);
  // As any server. Names the nodes that changed, in order. Where something is missing it does what it can, as
  // servers do.
  std::vector<std::string> Replay(const Transaction& transaction);

  // Null: there is none.
  const Znode* Find(const std::string& path) const;
  static zookeeper::Stat StatOf(const Znode& node);
  // Who has `credentials` may read and change it.
  static bool May(const Znode& node, const std::string& credentials) {
    return node.owner.empty() || node.owner == credentials;
  }
  const std::map<std::string, Znode>& nodes() const { return nodes_; }
  // Their timeouts, by id.
  const std::map<int64_t, absl::Duration>& sessions() const { return sessions_; }
  int64_t zxid() const { return zxid_; }  // of the last transaction

  // For tests: as if it had been set, and had had children, so many times.
  void Age(const std::string& path, int32_t version, int32_t made);

 private:
  struct Record;
  class Outstanding;

  zookeeper::OpResult Replay(const zookeeper::Op& op, int32_t parent_made, const Transaction& transaction,
                             std::vector<std::string>* changed);
  void Remove(const std::string& path, std::vector<std::string>* changed);
  int32_t Next(int32_t version) const;

  bool skips_minus_one_ = false;
  std::map<std::string, Znode> nodes_;
  std::map<int64_t, absl::Duration> sessions_;
  int64_t zxid_ = 0;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_ZNODES_H_
