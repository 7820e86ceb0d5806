// demo queue: takers that sleep by retry() on one queue, and producers that sleep while it is full.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/demo.h"
#include "stm/recipes.h"

namespace stm::cli {
namespace {

constexpr int64_t kProducers = 2;
// A queue is one value, written whole by each take: producers wait for room.
constexpr size_t kWaitingMax = 64;
// All takers sleep for so long before the first job comes, and none may stir.
constexpr absl::Duration kIdle = absl::Milliseconds(300);
// Nothing was taken for so long: a look at the queue tells whether anything still will be.
constexpr absl::Duration kLookAgain = absl::Seconds(1);
constexpr absl::Duration kStuck = absl::Seconds(10);
constexpr char kQueueRuns[] = "/demo/queue/runs";
constexpr char kQueueLabel[] = "demo queue";

struct Put {
  int64_t run = 0;
  int64_t job = 0;
};
STM_RECORD(Put, "demo.Put", run, job);

struct Taken {
  int64_t run = 0;
  int64_t job = 0;
  int64_t taker = 0;
};
STM_RECORD(Taken, "demo.Taken", run, job, taker);

using Jobs = std::vector<int64_t>;

// One run: the queue, who works at it, and what they were told.
class QueueDemo {
 public:
  QueueDemo(Shell& shell, const DemoQueueOptions& options)
      : shell_(shell),
        options_(options),
        puts_("job", "put", options.jobs),
        takes_("job", "taken", options.jobs),
        asleep_(static_cast<size_t>(options.takers)) {}

  // A queue of its own: what an earlier run left, or one beside it does, is not in the way.
  absl::Status Open() {
    absl::StatusOr<std::string> address = DemoAddress(shell_);
    if (!address.ok()) return address.status();
    absl::StatusOr<std::vector<Client>> clients = DemoClients(*address, kOutageMax, options_.takers + kProducers + 1);
    if (!clients.ok()) return clients.status();
    clients_ = *std::move(clients);
    const Client& client = clients_.back();
    Committed committed;
    TransactOptions transaction = DemoTransaction(shell_, crew_, kQueueLabel);
    transaction.committed = &committed;
    const auto runs = client.Ref<int64_t>(kQueueRuns, 0);
    absl::StatusOr<int64_t> run = client.Transact(transaction, [&](stm::Tx& tx) {
      const int64_t number = tx.Alter(runs, [](int64_t n) { return n + 1; });
      tx.Set(client.Ref<Jobs>(NameOf(number)), {});
      return number;
    });
    if (!run.ok()) return run.status();
    run_ = *run;
    queue_name_ = NameOf(run_);
    made_ = committed.version;
    return absl::OkStatus();
  }

  absl::Status Go(const Interrupt& interrupt) {
    const absl::Time deadline = shell_.StreamDeadline();
    for (int64_t taker = 0; taker < options_.takers; ++taker) AddTaker(taker);
    absl::Status status = Rest(interrupt, deadline);
    const absl::Time began = absl::Now();
    if (status.ok()) {
      for (int64_t i = 0; i < kProducers; ++i) AddProducer(clients_[static_cast<size_t>(options_.takers + i)]);
      status = Work(interrupt, deadline);
    }
    took_ = absl::Now() - began;
    // Those who sleep on are woken for the end.
    absl::Status ended = crew_.Cancel();
    if (status.ok()) status = ended;
    if (status.ok()) status = Check(interrupt);
    return status;
  }

  Fields Result() const {
    const int64_t taken = takes_.acknowledged();
    Fields row{{"queue", Value::String(queue_name_)},
               {"takers", Value::Integer(options_.takers)},
               {"jobs", Value::Integer(puts_.acknowledged())},
               {"taken", Value::Integer(taken)},
               {"conflicts", Value::Integer(conflicts_)},
               {"idle-wake-ups", Value::Integer(idle_wakeups_)},
               {"wake-ups", Value::Integer(wakeups_)}};
    if (taken > 0) {
      row.emplace_back("wake-ups-per-job", Value::Double(std::round(100.0 * static_cast<double>(wakeups_) /
                                                                   static_cast<double>(taken)) / 100.0));
      row.emplace_back("jobs-per-second", Value::Integer(static_cast<int64_t>(
                                              static_cast<double>(taken) / absl::ToDoubleSeconds(took_))));
    }
    return row;
  }

  const Violations& violations() const { return violations_; }

 private:
  static std::string NameOf(int64_t run) { return absl::StrCat("/demo/queue/", run, "/jobs"); }

  TransactOptions Transaction(Committed* committed) {
    TransactOptions transaction = DemoTransaction(shell_, crew_, kQueueLabel);
    transaction.committed = committed;
    transaction.on_rerun = [this](const Rerun&) { ++conflicts_; };
    return transaction;
  }

  void AddTaker(int64_t taker) {
    const Client client = clients_[static_cast<size_t>(taker)];
    std::atomic<bool>& asleep = asleep_[static_cast<size_t>(taker)];
    crew_.Add([this, client, taker, &asleep]() -> absl::StatusOr<Crew::Step> {
      const Queue<int64_t> queue(client, queue_name_);
      Committed committed;
      int64_t job = 0;
      asleep = false;
      absl::Status status = client.Transact(Transaction(&committed), [&](stm::Tx& tx) {
        // It slept since its last run: a change of the queue has woken it.
        if (asleep) ++wakeups_;
        ++runs_;
        asleep = true;  // unless there is a job
        job = queue.Take(tx);
        asleep = false;
        tx.Record(Taken{run_, job, taker});
      });
      status = takes_.Told(job, status, committed.version, &violations_);
      if (!status.ok()) return status;
      return Crew::Step::kAgain;
    });
  }

  void AddProducer(const Client& client) {
    crew_.Add([this, client]() -> absl::StatusOr<Crew::Step> {
      const int64_t job = next_job_++;
      if (job >= options_.jobs) return Crew::Step::kDone;
      const Queue<int64_t> queue(client, queue_name_);
      const auto waiting = client.Ref<Jobs>(queue_name_);
      Committed committed;
      absl::Status status = client.Transact(Transaction(&committed), [&](stm::Tx& tx) {
        if (tx.Get(waiting).size() >= kWaitingMax) tx.Retry();  // sleep until there is room
        queue.Put(tx, job);
        tx.Record(Put{run_, job});
      });
      status = puts_.Told(job, status, committed.version, &violations_);
      if (!status.ok()) return status;
      return Crew::Step::kAgain;
    });
  }

  // No job, no run of a taker: who sleeps by retry() asks nothing.
  absl::Status Rest(const Interrupt& interrupt, absl::Time deadline) {
    Progress progress(shell_.io(), kQueueLabel, "takers asleep", options_.takers);
    absl::Status status = crew_.Watch(interrupt, deadline, [&] {
      progress.At(runs_);
      return runs_ >= options_.takers;
    });
    if (!status.ok()) return status;
    const absl::Time until = absl::Now() + kIdle;
    status = crew_.Watch(interrupt, deadline, [&] { return absl::Now() >= until; });
    idle_wakeups_ = wakeups_;
    if (idle_wakeups_ > 0) {
      violations_.Add(absl::StrCat("takers woke ", idle_wakeups_, " times though nobody changed ", queue_name_));
    }
    return status;
  }

  absl::Status Work(const Interrupt& interrupt, absl::Time deadline) {
    Progress progress(shell_.io(), kQueueLabel, "jobs", options_.jobs);
    int64_t taken = 0;
    absl::Time since = absl::Now();
    absl::Time looked = since;
    return crew_.Watch(interrupt, deadline, [&] {
      const absl::Time now = absl::Now();
      if (takes_.acknowledged() != taken) since = looked = now;
      taken = takes_.acknowledged();
      const auto sleeping = std::count(asleep_.begin(), asleep_.end(), true);
      progress.At(taken, static_cast<double>(taken) / static_cast<double>(options_.jobs),
                  absl::StrCat(", ", sleeping, " takers asleep, ", wakeups_.load(), " wake-ups"));
      if (taken >= options_.jobs) return true;
      if (now - looked < kLookAgain) return false;
      looked = now;
      return NothingIsComing(now - since);
    });
  }

  // Nothing was taken for `idle`: is all put and the queue empty, or does nobody wake? The log will tell what is missing.
  bool NothingIsComing(absl::Duration idle) {
    if (puts_.acknowledged() + puts_.doubted() < options_.jobs && idle < kStuck) return false;
    absl::StatusOr<Jobs> waiting = clients_.back().Ref<Jobs>(queue_name_).Get();
    if (!waiting.ok()) return false;  // who works is told, too
    if (waiting->empty()) return true;
    if (idle < kStuck) return false;
    violations_.Add(absl::StrCat(waiting->size(), " jobs are in ", queue_name_, ", and no taker took one for ",
                                 absl::FormatDuration(idle)));
    return true;
  }

  absl::Status Check(const Interrupt& interrupt) {
    const Client& client = clients_.back();
    absl::Status status = puts_.Settle(client, &violations_);
    if (status.ok()) status = takes_.Settle(client, &violations_);
    if (!status.ok()) return status;
    Progress progress(shell_.io(), "demo queue: check", "records", 2 * options_.jobs);
    int64_t read = 0;
    std::deque<int64_t> waiting;  // as the log says: put, and not taken yet
    std::set<int64_t> overtaken;  // of those, by a later one that was taken
    const auto take = [&](int64_t version, const auto& record) {
      if (record.run != run_) return;
      progress.At(++read);
      if constexpr (std::is_same_v<std::decay_t<decltype(record)>, Put>) {
        puts_.Found(record.job, version, &violations_);
        waiting.push_back(record.job);
        return;
      } else {
        takes_.Found(record.job, version, &violations_);
        if (overtaken.erase(record.job) > 0) return;
        if (std::find(waiting.begin(), waiting.end(), record.job) == waiting.end()) {
          violations_.Add(absl::StrCat("job ", record.job, " was taken at version ", version, ", and was not waiting then"));
          return;
        }
        for (; waiting.front() != record.job; waiting.pop_front()) {
          violations_.Add(absl::StrCat("job ", record.job, " was taken at version ", version, ", but job ",
                                       waiting.front(), " was put before it"));
          overtaken.insert(waiting.front());
        }
        waiting.pop_front();
      }
    };
    status = TakeRecords<Put, Taken>(client, made_, interrupt, take);
    if (!status.ok()) return status;
    puts_.Close(&violations_);
    takes_.Close(&violations_);
    for (int64_t job : overtaken) violations_.Add(absl::StrCat("job ", job, " was put and never taken"));
    for (int64_t job : waiting) violations_.Add(absl::StrCat("job ", job, " was put and never taken"));
    absl::StatusOr<Jobs> left = client.Ref<Jobs>(queue_name_).Get();
    if (!left.ok()) return left.status();
    if (!left->empty() && waiting.empty() && overtaken.empty()) {
      violations_.Add(absl::StrCat(queue_name_, " holds ", left->size(), " jobs that nobody put: the first is ", left->front()));
    }
    return absl::OkStatus();
  }

  Shell& shell_;
  const DemoQueueOptions options_;
  std::vector<Client> clients_;  // of the takers, the producers, and our own
  int64_t run_ = 0;
  int64_t made_ = 0;  // the version
  std::string queue_name_;
  Violations violations_;
  Ledger puts_;
  Ledger takes_;
  absl::Duration took_;
  std::atomic<int64_t> next_job_{0};
  std::atomic<int64_t> runs_{0};  // of takers' bodies
  std::atomic<int64_t> wakeups_{0};
  std::atomic<int64_t> conflicts_{0};
  int64_t idle_wakeups_ = 0;
  std::deque<std::atomic<bool>> asleep_;
  Crew crew_;  // ends before what its threads use
};

}  // namespace

absl::Status DemoQueue(Shell& shell, const DemoQueueOptions& options) {
  Interrupt interrupt;
  QueueDemo demo(shell, options);
  absl::Status opened = demo.Open();
  if (!opened.ok()) return opened;
  absl::Status ended = demo.Go(interrupt);
  return Conclude(shell, demo.Result(), interrupt, ended, demo.violations());
}

}  // namespace stm::cli
