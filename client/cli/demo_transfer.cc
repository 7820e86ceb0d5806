// demo transfer: callers move money between accounts, and readers sum all accounts in one snapshot the whole time.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/demo.h"
#include "client/cli/demo_daemon.h"

namespace stm::cli {
namespace {

constexpr int64_t kReaders = 2;
constexpr int64_t kBalanceBegin = 100;
constexpr int64_t kAmountMax = 20;
constexpr absl::Duration kOutageOfKillMax = absl::Seconds(30);
// A demonstration of kills has some.
constexpr int64_t kKillsMin = 3;
constexpr uint32_t kHistoryPage = 1000;
constexpr char kTransferRuns[] = "/demo/transfer/runs";
constexpr char kTransferLabel[] = "demo transfer";
constexpr char kValidator[] = "[:and :int [:min 0]]";

struct Transfer {
  int64_t run = 0;
  int64_t number = 0;
  int64_t from = 0;
  int64_t to = 0;
  int64_t amount = 0;
};
STM_RECORD(Transfer, "demo.Transfer", run, number, from, to, amount);

std::string By(const Meta& meta) {
  if (meta.label.empty()) return meta.client.empty() ? "by somebody" : absl::StrCat("by ", meta.client);
  return absl::StrCat("by \"", meta.label, "\"", meta.client.empty() ? "" : " of ", meta.client);
}

// One run: the accounts, who works on them, and what they were told.
class TransferDemo {
 public:
  TransferDemo(Shell& shell, const DemoTransferOptions& options)
      : shell_(shell),
        options_(options),
        numbers_max_(options.transfers > 0 && !options.kill ? options.transfers : kDemoTransfersMax),
        ledger_("transfer", "made", numbers_max_) {}

  // Accounts of its own: what an earlier run left, or one beside it does, is not in the way.
  absl::Status Open() {
    absl::StatusOr<std::string> address;
    if (options_.kill) {
      absl::StatusOr<std::unique_ptr<DemoDaemon>> daemon = DemoDaemon::Start(options_.stmd);
      if (!daemon.ok()) return daemon.status();
      daemon_ = *std::move(daemon);
      address = daemon_->address();
    } else {
      address = DemoAddress(shell_);
      if (!address.ok()) return address.status();
    }
    absl::StatusOr<std::vector<Client>> clients =
        DemoClients(*address, options_.kill ? kOutageOfKillMax : kOutageMax, options_.callers + kReaders + 1);
    if (!clients.ok()) return clients.status();
    clients_ = *std::move(clients);
    const Client& client = clients_.back();
    absl::StatusOr<Value> validator = ReadEdn(kValidator);
    if (!validator.ok()) return validator.status();
    Definition definition;
    definition.validator = *validator;
    Committed committed;
    TransactOptions transaction = DemoTransaction(shell_, crew_, kTransferLabel);
    transaction.committed = &committed;
    const auto runs = client.Ref<int64_t>(kTransferRuns, 0);
    absl::Status status = client.Transact(transaction, [&](stm::Tx& tx) {
      run_ = tx.Alter(runs, [](int64_t n) { return n + 1; });
      prefix_ = absl::StrCat("/demo/transfer/", run_, "/");
      for (int64_t i = 0; i < options_.accounts; ++i) {
        tx.Set(client.Ref<int64_t>(NameOf(i), std::nullopt, definition), kBalanceBegin);
      }
    });
    made_ = committed.version;
    return status;
  }

  absl::Status Go(const Interrupt& interrupt) {
    began_ = absl::Now();
    for (int64_t i = 0; i < options_.callers; ++i) AddCaller(clients_[static_cast<size_t>(i)]);
    for (int64_t i = 0; i < kReaders; ++i) AddReader(clients_[static_cast<size_t>(options_.callers + i)]);
    absl::Status status = Work(interrupt);
    took_ = absl::Now() - began_;
    absl::Status ended = status.ok() ? crew_.Stop() : crew_.Cancel();
    if (status.ok()) status = ended;
    if (status.ok() && daemon_) status = daemon_->KillOnceMore();
    if (status.ok()) status = Check(interrupt);
    if (status.ok() && daemon_) {
      clients_.clear();  // else it would give them their time
      absl::StatusOr<int64_t> files = daemon_->StopAndVerify(&violations_);
      if (!files.ok()) return files.status();
      files_verified_ = *files;
    }
    return status;
  }

  // What was found can be looked into. Its directory; "": there is none.
  std::string KeepDaemon() {
    if (!daemon_) return "";
    daemon_->Keep();
    return daemon_->directory();
  }

  Fields Result() const {
    const int64_t committed = ledger_.acknowledged();
    Fields row{{"prefix", Value::String(prefix_)},
               {"accounts", Value::Integer(options_.accounts)},
               {"callers", Value::Integer(options_.callers)},
               {"committed", Value::Integer(committed)},
               {"conflicts", Value::Integer(conflicts_)},
               {"resends", Value::Integer(resends_)},
               {"unknown-at-first", Value::Integer(ledger_.doubted())},
               {"sums-checked", Value::Integer(sums_)},
               {"sum", Value::Integer(sum())}};
    if (took_ > absl::ZeroDuration()) {
      row.emplace_back("per-second",
                       Value::Integer(static_cast<int64_t>(static_cast<double>(committed) / absl::ToDoubleSeconds(took_))));
    }
    if (daemon_) row.emplace_back("kills", Value::Integer(daemon_->kills()));
    if (in_log_) row.emplace_back("in-log", Value::Integer(*in_log_));
    if (files_verified_) row.emplace_back("files-verified", Value::Integer(*files_verified_));
    return row;
  }

  const Violations& violations() const { return violations_; }

 private:
  int64_t sum() const { return options_.accounts * kBalanceBegin; }
  std::string NameOf(int64_t account) const { return absl::StrCat(prefix_, account); }

  std::vector<stm::Ref<int64_t>> AccountsOf(const Client& client) const {
    std::vector<stm::Ref<int64_t>> accounts;
    for (int64_t i = 0; i < options_.accounts; ++i) accounts.push_back(client.Ref<int64_t>(NameOf(i)));
    return accounts;
  }

  void AddCaller(const Client& client) {
    std::mt19937_64 random(std::random_device{}());
    crew_.Add([this, client, accounts = AccountsOf(client), random]() mutable -> absl::StatusOr<Crew::Step> {
      Transfer transfer;
      transfer.run = run_;
      transfer.number = next_++;
      if (transfer.number >= numbers_max_) return Crew::Step::kDone;
      const auto below = [&](int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(random); };
      transfer.from = below(options_.accounts);
      transfer.to = (transfer.from + 1 + below(options_.accounts - 1)) % options_.accounts;
      const int64_t wanted = 1 + below(kAmountMax);
      const stm::Ref<int64_t>& from = accounts[static_cast<size_t>(transfer.from)];
      const stm::Ref<int64_t>& to = accounts[static_cast<size_t>(transfer.to)];

      Committed committed;
      TransactOptions transaction = DemoTransaction(shell_, crew_, kTransferLabel);
      transaction.committed = &committed;
      transaction.on_rerun = [this](const Rerun&) { ++conflicts_; };
      absl::Status status = client.Transact(transaction, [&](stm::Tx& tx) {
        transfer.amount = std::min(wanted, tx.Get(from));
        tx.Alter(from, [&](int64_t balance) { return balance - transfer.amount; });
        tx.Alter(to, [&](int64_t balance) { return balance + transfer.amount; });
        tx.Record(transfer);
      });
      resends_ += committed.resends;
      status = ledger_.Told(transfer.number, status, committed.version, &violations_);
      if (IsAbsent(status)) {
        violations_.Add(absl::StrCat("transfer ", transfer.number, " found no account ", InfoOf(status).name));
        return Crew::Step::kDone;
      }
      if (!status.ok()) return status;
      return Crew::Step::kAgain;
    });
  }

  void AddReader(const Client& client) {
    crew_.Add([this, client]() -> absl::StatusOr<Crew::Step> {
      std::vector<Entry> accounts;
      absl::Status status =
          client.Transact(DemoTransaction(shell_, crew_, kTransferLabel), [&](stm::Tx& tx) { accounts = tx.List(prefix_); });
      if (!status.ok()) return status;
      int64_t found = 0;
      int64_t newest = 0;
      for (const Entry& account : accounts) {
        found += account.value->integer();  // its validator says that it is one
        newest = std::max(newest, account.version);
      }
      ++sums_;
      if (found == sum() && static_cast<int64_t>(accounts.size()) == options_.accounts) return Crew::Step::kAgain;
      violations_.Add(absl::StrCat("in the snapshot of version ", newest, " the ", accounts.size(), " accounts under ", prefix_,
                                   " sum up to ", found, ", expected ", options_.accounts, " and ", sum()));
      return Crew::Step::kDone;
    });
  }

  absl::Status Work(const Interrupt& interrupt) {
    const absl::Time deadline = shell_.StreamDeadline();
    Progress progress(shell_.io(), kTransferLabel, "committed", 0);
    absl::Status killed;
    absl::Status watched = crew_.Watch(interrupt, deadline, [&] {
      const int64_t told = ledger_.acknowledged() + ledger_.doubted();
      const double part = options_.transfers > 0 ? static_cast<double>(told) / static_cast<double>(options_.transfers)
                                                 : absl::ToDoubleSeconds(absl::Now() - began_) / options_.seconds;
      progress.At(told, part, absl::StrCat(", ", conflicts_.load(), " conflicts, ", resends_.load(), " resends, ",
                                           sums_.load(), " sums checked",
                                           daemon_ ? absl::StrCat(", ", daemon_->kills(), " kills") : ""));
      if (!violations_.none()) return true;
      const bool settled = told > told_at_kill_ + options_.callers;
      const bool enough = part >= 1 || told >= numbers_max_;
      if (!daemon_) return enough;
      if (enough && settled && daemon_->kills() >= kKillsMin) return true;
      const int64_t kills = daemon_->kills();
      killed = daemon_->KillInTime(settled);
      // Each caller may yet hear one answer of the daemon that is gone.
      if (daemon_->kills() > kills) told_at_kill_ = ledger_.acknowledged() + ledger_.doubted();
      return !killed.ok();
    });
    return killed.ok() ? watched : killed;
  }

  // All callers have ended: what they were told, what the log says, and what is there now must be one story.
  absl::Status Check(const Interrupt& interrupt) {
    const Client& client = clients_.back();
    absl::Status status = ledger_.Settle(client, &violations_);
    if (!status.ok()) return status;
    Progress progress(shell_.io(), "demo transfer: check", "records", ledger_.acknowledged());
    std::vector<int64_t> balances(static_cast<size_t>(options_.accounts), kBalanceBegin);
    std::vector<int64_t> versions;  // of transfers, ascending
    status = TakeRecords<Transfer>(client, made_, interrupt, [&](int64_t version, const Transfer& transfer) {
      if (transfer.run != run_) return;
      versions.push_back(version);
      progress.At(static_cast<int64_t>(versions.size()));
      ledger_.Found(transfer.number, version, &violations_);
      const auto is_account = [&](int64_t account) { return account >= 0 && account < options_.accounts; };
      if (!is_account(transfer.from) || !is_account(transfer.to)) {
        violations_.Add(absl::StrCat("the transfer of version ", version, " names no account of this run"));
        return;
      }
      balances[static_cast<size_t>(transfer.from)] -= transfer.amount;
      balances[static_cast<size_t>(transfer.to)] += transfer.amount;
    });
    if (!status.ok()) return status;
    in_log_ = static_cast<int64_t>(versions.size());
    ledger_.Close(&violations_);
    return CompareWith(client, balances, versions);
  }

  absl::Status CompareWith(const Client& client, const std::vector<int64_t>& balances,
                           const std::vector<int64_t>& versions) {
    absl::StatusOr<std::map<std::string, int64_t>> found = client.Transact(
        DemoTransaction(shell_, crew_, kTransferLabel), [&](stm::Tx& tx) { return tx.List<int64_t>(prefix_); });
    if (!found.ok()) return found.status();
    size_t i = 0;
    for (const stm::Ref<int64_t>& account : AccountsOf(client)) {
      const auto balance = found->find(account.name());
      const int64_t expected = balances[i++];
      if (balance != found->end() && balance->second == expected) continue;
      absl::StatusOr<std::string> who = WhoElseChanged(account, versions);
      if (!who.ok()) return who.status();
      violations_.Add(absl::StrCat(account.name(), " is ",
                                   balance == found->end() ? "absent" : absl::StrCat(balance->second),
                                   ", the records add up to ", expected, *who));
    }
    return absl::OkStatus();
  }

  // ": version 57, by ..., is no transfer of this run".
  absl::StatusOr<std::string> WhoElseChanged(const stm::Ref<int64_t>& account, const std::vector<int64_t>& versions) const {
    HistoryOptions page;
    page.limit = kHistoryPage;
    for (;;) {
      absl::StatusOr<std::vector<Commit>> commits = account.History(page);
      if (!commits.ok()) return commits.status();
      for (const Commit& commit : *commits) {
        if (commit.version <= made_) return std::string();
        if (std::binary_search(versions.begin(), versions.end(), commit.version)) continue;
        return absl::StrCat(": version ", commit.version, ", ", By(commit.meta), ", is no transfer of this run");
      }
      if (commits->size() < page.limit) return std::string();
      page.before_version = commits->back().version;
    }
  }

  Shell& shell_;
  const DemoTransferOptions options_;
  const int64_t numbers_max_;
  std::unique_ptr<DemoDaemon> daemon_;  // null: the user's is used, and lives
  int64_t told_at_kill_ = 0;
  std::vector<Client> clients_;  // of the callers, the readers, and our own
  int64_t run_ = 0;
  int64_t made_ = 0;  // the version
  std::string prefix_;
  Violations violations_;
  Ledger ledger_;
  absl::Time began_;
  absl::Duration took_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> conflicts_{0};
  std::atomic<int64_t> resends_{0};
  std::atomic<int64_t> sums_{0};
  std::optional<int64_t> in_log_;          // once it was read
  std::optional<int64_t> files_verified_;  // once they were
  Crew crew_;  // ends before what its threads use
};

}  // namespace

absl::Status DemoTransfer(Shell& shell, const DemoTransferOptions& options) {
  Interrupt interrupt;
  TransferDemo demo(shell, options);
  absl::Status opened = demo.Open();
  if (!opened.ok()) return opened;
  absl::Status ended = demo.Go(interrupt);
  absl::Status status = Conclude(shell, demo.Result(), interrupt, ended, demo.violations());
  if (!absl::IsDataLoss(status)) return status;
  const std::string directory = demo.KeepDaemon();
  return directory.empty() ? status : absl::DataLossError(absl::StrCat(status.message(), ": the files of the daemon are kept in ", directory));
}

}  // namespace stm::cli
