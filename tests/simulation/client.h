// Client is one program in a simulation: it runs transactions of many shapes over few names, one after
// another, as a client library would (reads, commit, rerun on conflict, resend on an unknown outcome), and
// writes down all it sees. Outside the daemon; one thread.
#ifndef STM_TESTS_SIMULATION_CLIENT_H_
#define STM_TESTS_SIMULATION_CLIENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/checkers/history.h"
#include "tests/simulation/daemon.h"
#include "tests/simulation/header.h"
#include "tests/simulation/network.h"
#include "tests/simulation/sim_containers.h"
#include "tests/simulation/world.h"

namespace stm::sim {

// What all clients of a run share.
struct Scene {
  World* world = nullptr;
  std::vector<Daemon*> daemons;  // of one store
  Network* network = nullptr;
  check::History* history = nullptr;
  std::vector<std::string>* failures = nullptr;  // what is wrong beyond what the history shows
  int64_t names = 3;                             // of each sort
  int64_t ttl_ms_max = 100;
  int64_t value_bytes = 0;                  // of padding in blind sets
  uint64_t in_memory = 0;                   // in 1000 names
  uint64_t gives_up = 0;                    // in 1000 waits for an outcome
  uint64_t comes_back = 0;                  // to that, in 1000 operations
  ContainerSettings containers;             // which entries are kept in one
  std::function<void(Daemon*)> holds_long;  // begins: a locker that talks to this one; may be unset
};

// Sums over all clients.
struct ClientTotals {
  int64_t operations = 0;
  int64_t committed = 0;
  int64_t conflicts = 0;
  int64_t rejected = 0;
  int64_t refused = 0;
  int64_t resends = 0;
  int64_t resends_committed = 0;
  int64_t resends_not_committed = 0;
  int64_t resends_conflict = 0;
  int64_t resends_rejected = 0;
  int64_t resends_refused = 0;  // no room, a bound
  int64_t outcomes_asked = 0;
  int64_t unknown = 0;          // too old on a resend: never found out
  int64_t given_up = 0;         // with no answer, to go on with something else
  int64_t came_back = 0;        // to what was given up
  int64_t came_back_later = 0;  // of those: to another life
  int64_t snapshots_too_old = 0;
  int64_t instants = 0;  // reads at a moment that were answered
  // Of memory entries, or of them and others.
  int64_t memory_reads = 0;
  int64_t memory_committed = 0;
  int64_t memory_mixed = 0;      // of those: shared refs took part
  int64_t memory_conflicts = 0;  // with one or a listing of them
  int64_t memory_outlived = 0;   // of those: it was read in another life
  int64_t memory_woken = 0;
  int64_t moves = 0;  // to another daemon
  // Of resends those through another daemon than the first that was sent to.
  int64_t elsewhere_committed = 0;
  int64_t elsewhere_not_committed = 0;
  int64_t elsewhere_refused = 0;  // in any way
  int64_t elsewhere_unknown = 0;
  int64_t elsewhere_under_way = 0;  // sent while the first daemon was up in the same life
  int64_t other_stores = 0;         // met
  int64_t asked_there = 0;          // after transactions of the store before
  int64_t slept = 0;
  int64_t woken = 0;
};

class Client {
 public:
  // Does `operations` of them from Begin on.
  Client(int64_t number, Scene scene, int64_t operations, ClientTotals* totals);

  void Begin();
  bool idle() const { return idle_; }
  // Another store takes the place of the one it knows, and the history of that one's transactions goes on
  // without their answers: does `operations` more, and asks what became of some old ones there.
  void MeetOtherStore(int64_t operations);
  // Gives up no more, and comes back to all that it gave up.
  void BeSteady();
  // Says of sleepers that present daemons still hold that they sleep at its installed version.
  void ClaimSleepers();
  // For a report of a run that got stuck.
  std::string Describe() const;

 private:
  // The shape of one transaction. `body` gives the writes from what was read.
  struct Plan {
    std::string label;
    std::vector<std::string> names;  // read at the run's snapshot, the first of it linearizable
    std::vector<std::string> later;  // read by a second request at the same snapshot
    std::string prefix;              // listed
    bool serializable = true;
    bool stale = false;                 // begin at what the daemon has in memory
    std::optional<absl::Duration> ago;  // begin at this moment of the calendar
    bool commits = true;
    bool sleeps = false;
    std::vector<std::string> ensures;
    std::vector<Value> records;
    std::function<std::vector<check::Write>(const std::map<std::string, std::optional<Value>>&)> body;
  };
  struct Asleep {
    size_t sleep = 0;  // in the history
    Daemon* daemon = nullptr;
    uint64_t life = 0;
    bool answered = false;
  };

  Plan Draw();
  std::string Root();
  std::string Name(std::string_view directory);
  std::vector<std::string> Names(std::string_view directory, int64_t count);

  void NextOperation();
  void StartRun();
  void ReadOn();
  void Get(std::vector<std::string> names, std::function<void()> then);
  void List(std::function<void()> then);
  void ListPage(std::shared_ptr<check::Read> read, std::string after, std::function<void()> then);
  void CommitRun();
  void SendCommit(bool resend);
  void AskOutcome();
  // Once more, of a transaction whose outcome may be known.
  void AskAgain(size_t transaction, engine::CommitId id);
  // Goes on with something else, the outcome unknown.
  void GiveUp();
  // Asks after one that was given up, under its old id. False: there is none.
  bool ComeBack();
  void CountMemory(const check::Transaction& committed);
  void CountMemory(const check::Transaction& t, const check::Answer& conflict);
  void SleepOn();
  // The connection is gone or the answer late: `again` after a while, unless something else came.
  void Timeout(absl::Duration after, std::function<void()> again);
  // The same, perhaps at another daemon.
  void TimeoutElsewhere(absl::Duration after, std::function<void()> again);
  // Who has read a daemon's memory entries stays there.
  void MayMove(uint64_t in_1000);
  void Retry(absl::Duration after, std::function<void()> again);
  void ReadFailed(const absl::Status& status, std::function<void()> again);

  // How a question after a transaction's outcome was sent.
  struct Asked {
    size_t transaction = 0;
    bool resend = false;
    bool elsewhere = false;  // than it was first sent to
    uint64_t wait = 0;
  };
  Asked AskedNow(bool resend);
  void OnVerdict(const Asked& asked, const engine::Verdict& verdict, Header header);
  void CountElsewhere(const check::Answer& answer);
  void Learn(const Header& header);
  engine::CommitId MakeId() const;
  std::unique_ptr<engine::Transaction> MakeTransaction(size_t transaction, bool resend) const;

  check::Transaction& transaction() { return scene_.history->transactions[transaction_]; }

  const int64_t number_;
  const Scene scene_;
  World& world_;
  Chance& chance_;
  ClientTotals* const totals_;
  int64_t left_;
  bool idle_ = true;
  bool steady_ = false;
  Known known_;
  Daemon* daemon_;  // that it talks to
  std::string doing_;

  Plan plan_;
  bool stays_ = false;  // at this daemon
  uint32_t runs_ = 0;
  absl::Duration first_run_;
  uint64_t reservation_ = 0;
  // Of this run.
  check::Version snapshot_ = 0;
  check::Life snapshot_life_ = 0;  // that told it
  bool has_snapshot_ = false;
  std::map<std::string, std::optional<Value>> seen_;
  bool listed_ = false;
  size_t transaction_ = 0;  // in the history
  engine::CommitId id_;
  const Daemon* sent_to_ = nullptr;  // first
  uint64_t sent_to_life_ = 0;
  bool resent_ = false;
  bool late_ = false;  // it was given up once: its verdict ends the operation, whatever it is
  // Answers carry the wait that they are for; others come too late to matter to what is done next.
  uint64_t wait_ = 0;
  std::vector<std::shared_ptr<Asleep>> asleep_;
  // Transactions and the ids they were sent under, for questions about old outcomes.
  std::vector<std::pair<size_t, engine::CommitId>> mine_;
  struct GivenUp {
    size_t transaction = 0;
    engine::CommitId id;
    const Daemon* sent_to = nullptr;
    uint64_t life = 0;
  };
  std::vector<GivenUp> given_up_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_CLIENT_H_
