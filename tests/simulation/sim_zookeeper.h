// SimEnsemble is ZooKeeper in a simulation: one server or three, each with its log and its nodes, a leader
// that replicates and is replaced, and clients' sessions, all over links that are late, stand still or break.
// What a real ensemble may do it may do, and nothing else but for the bugs named here. Servers count from 1.
// One thread. Always: a transaction that a quorum has logged is in log() once, in order, and stays.
#ifndef STM_TESTS_SIMULATION_SIM_ZOOKEEPER_H_
#define STM_TESTS_SIMULATION_SIM_ZOOKEEPER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "backends/zookeeper/session.h"
#include "engine/loop.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/world.h"
#include "tests/simulation/znodes.h"

namespace stm::sim {

// What happens by chance, beside what a test asks for.
struct ZooWeather {
  absl::Duration delay_max = absl::Microseconds(200);  // of a message, and of a server's disk
  absl::Duration slow_delay_max = absl::Milliseconds(20);
  uint64_t slow = 0;  // in 1000 messages
  // In 1000 lost connections: what was under way is done no sooner than up to so much later.
  uint64_t late = 0;
  absl::Duration late_max = absl::Seconds(1);

  // Each so often in 1000 times `every`; troubles end by themselves, those of servers and links up to so much
  // later.
  absl::Duration every = absl::Milliseconds(10);
  absl::Duration trouble_max = absl::Milliseconds(500);
  uint64_t cut = 0;          // a client's connections end
  uint64_t part_client = 0;  // a client and some servers don't hear each other
  uint64_t kill = 0;         // a server, the leader one time in two
  uint64_t freeze = 0;       // such a one stands still
  uint64_t part = 0;         // such a one and the others don't hear each other
  uint64_t lag = 0;          // a server is behind
  uint64_t outage = 0;       // all servers are killed
  uint64_t save = 0;         // their data is put aside; once before `restore`
  // In 1000 outages, the data is gone, or is what was put aside.
  uint64_t wipe = 0;
  uint64_t restore = 0;
  // In 1000 times that a server catches up with a leader: it misses a transaction for good, as those of 3.8.0
  // may (ZOOKEEPER-4712). Never a majority's.
  uint64_t hole = 0;

  // All but what ends an ensemble's history, a server's holes among it.
  static ZooWeather Draw(Chance* chance);
  std::string ToString() const;
};

struct ZooOptions {
  int servers = 1;  // or 3
  absl::Duration session_timeout_min = absl::Milliseconds(200);
  absl::Duration session_timeout_max = absl::Seconds(600);
  // So long servers follow a leader that they don't hear, and one leads that hears no quorum.
  absl::Duration peer_patience = absl::Milliseconds(200);
  absl::Duration leader_patience = absl::Milliseconds(400);
  bool skips_version_minus_one = false;  // as newer servers do (ZOOKEEPER-4743)
  uint64_t failures_take_zxids = 500;    // in 1000 multis that can't be done; of real ones all
  bool takes_credentials = true;
  // A server that is to delete such a node and lacks it, because it missed the transaction that made it, takes
  // the others' data, and its clients look for another. Null: none does. Real ones take no notice.
  std::function<bool(std::string_view path)> mends_at;
};

// How often it happened.
struct ZooTotals {
  int64_t connections = 0;
  int64_t connections_lost = 0;
  int64_t zxids_ahead = 0;  // a client that has seen more than a server is turned away
  int64_t sessions = 0;
  int64_t sessions_closed = 0;
  int64_t sessions_expired = 0;
  int64_t expiries_told = 0;
  int64_t multis_done = 0;
  int64_t multis_failed = 0;
  // Multis whose connection was lost: they were done before, or after, which may be long after; the others
  // were not, or not yet.
  int64_t answers_lost = 0;
  int64_t late_commits = 0;
  int64_t unknown = 0;      // all that were under way
  int64_t moved = 0;        // of those: came after their session was back on another connection
  int64_t of_the_gone = 0;  // or after it was over
  int64_t watches_fired = 0;
  int64_t watches_found_late = 0;  // on a new connection
  int64_t stale_reads = 0;         // of a server that was behind
  int64_t deposed_reads = 0;       // of a leader when there was a newer one
  int64_t deposed_syncs = 0;
  int64_t elections = 0;
  int64_t proposals_kept = 0;  // over an election, with no quorum before it
  int64_t proposals_lost = 0;
  int64_t kills = 0;
  int64_t freezes = 0;
  int64_t parts = 0;
  int64_t client_parts = 0;
  int64_t lags = 0;
  int64_t outages = 0;
  int64_t wipes = 0;
  int64_t restores = 0;
  int64_t holes = 0;
  int64_t holes_mended = 0;

  // Name and figure of each.
  std::vector<std::pair<std::string, int64_t>> All() const;
  void Add(const ZooTotals& other);
};

class SimEnsemble {
 public:
  // `world` outlives the ensemble, which outlives its clients' sessions and their tasks. Starts all servers.
  SimEnsemble(World* world, ZooOptions options);
  ~SimEnsemble();
  SimEnsemble(const SimEnsemble&) = delete;
  SimEnsemble& operator=(const SimEnsemble&) = delete;

  int size() const { return options_.servers; }
  // What a client connects to: all servers, or one.
  std::string connect() const;
  std::string connect(int server) const;
  // The newest leader, as long as it leads a quorum.
  std::optional<int> leader() const;
  // Every server follows it or is it, and has done all there is.
  bool settled() const;

  void SetWeather(const ZooWeather& weather);
  // Fair weather, and whatever is down, still, apart or behind is no more; holes stay.
  void Calm();

  // Servers.
  void Start(int server);
  void Kill(int server);  // what it logged and had synced stays
  void Freeze(int server);
  void Thaw(int server);
  bool Running(int server) const;  // neither killed nor frozen
  void StartAll();
  void KillAll();
  // It and the others don't hear each other; its clients and it do.
  void Part(int server);
  void Mend(int server);
  // It does what was committed so much later; infinite: not while that is so.
  void SetLag(int server, absl::Duration lag);
  // It, which does not lead, misses the next transaction for good. Such a server never leads here: no
  // coordinator could mend what it commits.
  void MakeHole(int server);
  // Of all servers, none of which runs: gone, put aside, and put back. Save: also while they run.
  void Wipe();
  void Save();
  void Restore();

  // Clients: a process each, with the name that its SimSessions has.
  //
  // What becomes of multis that no server has read yet.
  enum class Fate : uint8_t {
    kAny,   // some of the first, by chance
    kLost,  // none is done
    kDone,  // all are read
    kLate,  // all are read, `late` from now
  };
  // Its connections end.
  void Cut(const std::string& client, Fate fate = Fate::kAny, absl::Duration late = absl::ZeroDuration());
  // It and the server, or all of them, don't hear each other.
  void PartClient(const std::string& client, int server);
  void PartClient(const std::string& client);
  void MendClient(const std::string& client);
  // kill -9: its sessions answer nothing any more, nobody says goodbye for them.
  void KillClient(const std::string& client, Fate fate = Fate::kAny,
                  absl::Duration late = absl::ZeroDuration());
  // The server that the session of this id is connected to.
  std::optional<int> ServerOf(int64_t session) const;
  // The leader, if there is one, gives the session up now.
  void Expire(int64_t session);

  // A stranger, as with zkCli, at the leader: false if there is none. By full paths. The node is created
  // or set; and deleted.
  bool Put(const std::string& path, const std::string& data);
  bool Delete(const std::string& path);
  // As if it had been set, and had had children, so many times. While settled.
  void Age(const std::string& path, int32_t version, int32_t made);

  // What was committed, and the nodes that it made. Begins anew with Wipe, and goes back with Restore.
  const std::vector<Transaction>& log() const { return log_; }
  const Znodes& committed() const { return committed_; }
  // As the server has it.
  const Znodes& znodes(int server) const;
  const ZooTotals& totals() const { return totals_; }

 private:
  friend class SimSession;
  friend class SimSessions;
  class Channel;
  struct Entry;
  struct Request;
  struct Reply;
  struct Call;
  struct Connection;
  struct Server;
  class Wire;
  using EntryPtr = std::shared_ptr<const Entry>;

  struct Saved {
    std::vector<EntryPtr> entries;
    std::vector<Transaction> log;
    Znodes znodes;
    int64_t epoch = 0;
  };

  Server& at(int server);
  const Server& at(int server) const;
  size_t majority() const { return servers_.size() / 2 + 1; }
  Chance& chance() { return world_->chance(); }
  absl::Duration Delay();
  absl::Duration Trouble();

  // Links.
  void Send(const std::shared_ptr<Channel>& channel, absl::Duration delay, engine::Task task);
  void Pump(const std::shared_ptr<Channel>& channel);
  // Leaves the first of its tasks, or all, or none.
  void CutTail(Channel* channel);
  // After anything that may have opened one.
  void PumpAll();
  static bool Hears(const Server& one, const Server& other);
  bool Parted(const std::string& client, int server) const;

  // Servers among themselves.
  void Tick();
  void Look(Server* server);  // gives up whom it follows, and its clients
  void Elect();
  void Lead(const std::vector<Server*>& electorate);
  void Follow(Server* server, Server* leader);
  void TakeLog(Server* server, const std::vector<EntryPtr>& log);
  void OpenLinks(Server* server);
  bool Follows(const Server& server, const Server& leader) const;  // and they hear each other; it does itself
  absl::Duration PatienceOf(const Server& server) const;
  bool LeadsQuorum(const Server& server) const;
  // At the leader that `server` follows, or is, or nowhere.
  void Forward(Server* server, std::function<void(Server* leader)> task);
  // At the server, after all that its leader had it do before.
  void Down(Server* server, engine::Task task);
  void Sync(Server* server);  // its log's end, and tells the leader
  // Decides it, and has it logged.
  void Propose(Server* leader, Transaction transaction, uint64_t connection, uint64_t number);
  void Commit(Server* leader);
  void CommitForAll(const std::vector<EntryPtr>& log, size_t count);
  void Apply(Server* server, size_t count);
  bool MayMiss(const Server& server) const;
  bool LacksWhatGoes(const Server& server, const Transaction& transaction) const;
  void TakeData(Server* server);
  // `connection`: that asked for it; 0: it expires.
  void CloseSession(Server* leader, int64_t session, uint64_t connection);

  // Servers and their clients.
  void Receive(const std::shared_ptr<Connection>& connection, const Request& request);
  void Connect(const std::shared_ptr<Connection>& connection, const Request& request);
  void Connected(const std::shared_ptr<Connection>& connection, int64_t session, absl::Duration timeout);
  // If the request of this connection still counts.
  bool Owns(Server* leader, const Connection& connection);
  void ForwardMulti(const std::shared_ptr<Connection>& connection, const Request& request);
  void ForwardSync(const std::shared_ptr<Connection>& connection, uint64_t number);
  // What is next in line on a connection, as long as no other server has a say in it.
  void Drain(Server* server, const std::shared_ptr<Connection>& connection);
  void Answer(Server* server, const std::shared_ptr<Connection>& connection, Reply reply);
  Reply Read(Server* server, const std::shared_ptr<Connection>& connection, const Request& request);
  void SendFired(const std::shared_ptr<Connection>& connection, const std::string& path);
  void Fire(Server* server, const std::string& path);
  void SendReply(const std::shared_ptr<Connection>& connection, Reply reply);
  // Its two ends.
  void CloseAtServer(const std::shared_ptr<Connection>& connection);
  void CloseAtClient(const std::shared_ptr<Connection>& connection, Fate fate, absl::Duration late);

  // Weather.
  void Blow();
  void Later(std::function<void()> mend);
  Server& Victim();

  World* const world_;
  const ZooOptions options_;
  ZooWeather weather_;
  uint64_t weathers_ = 0;  // changes of it
  uint64_t calms_ = 0;
  std::vector<std::unique_ptr<Server>> servers_;
  std::map<uint64_t, std::shared_ptr<Connection>> connections_;
  std::vector<std::weak_ptr<Connection>> every_connection_;  // closed ones too, with what is still on its way
  std::map<uint64_t, std::shared_ptr<Wire>> wires_;          // until their sessions end
  std::set<std::pair<std::string, int>> client_parts_;
  uint64_t next_number_ = 1;  // of connections, wires and reigns
  int64_t next_session_ = 1;
  uint64_t newest_reign_ = 0;
  std::vector<EntryPtr> entries_;  // committed
  std::vector<Transaction> log_;
  Znodes committed_;
  std::optional<Saved> saved_;
  ZooTotals totals_;
};

// Where a client's sessions are opened. What they say is posted to its Loop.
class SimSessions final : public zookeeper::Sessions {
 public:
  SimSessions(SimEnsemble* ensemble, engine::Loop* loop, std::string client)
      : ensemble_(ensemble), loop_(loop), client_(std::move(client)) {}
  std::unique_ptr<zookeeper::Session> Open(
      zookeeper::SessionOptions options, absl::AnyInvocable<void(const zookeeper::Event&)> on_event) override;

 private:
  SimEnsemble* const ensemble_;
  engine::Loop* const loop_;
  const std::string client_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_SIM_ZOOKEEPER_H_
