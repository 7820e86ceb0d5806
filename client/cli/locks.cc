// lock and elect: a command that runs while something is held; and who holds what.
#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/held.h"
#include "engine/values/wire.h"
#include "stm/recipes.h"

namespace stm::cli {
namespace {

// Whom others see waiting and holding.
std::string Me() {
  const char* user = std::getenv("USER");
  char host[256] = "";
  if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  return absl::StrCat(user ? user : "", "@", host, "/", getpid());
}

absl::StatusOr<absl::Duration> TtlOf(const LockOptions& options) {
  if (options.ttl.empty()) return absl::ZeroDuration();
  return ReadDuration(options.ttl, "--ttl");
}

absl::StatusOr<AcquireOptions> AcquireOptionsOf(const Shell& shell, const LockOptions& options) {
  AcquireOptions acquire;
  acquire.shared = options.shared;
  acquire.permits_max = static_cast<uint32_t>(options.permits);
  acquire.owner = options.as.empty() ? Me() : options.as;
  acquire.label = shell.globals().label;
  acquire.timeout = shell.globals().timeout.value_or(absl::InfiniteDuration());
  if (options.wait == "0" || options.wait == "0s") {
    acquire.wait = absl::ZeroDuration();
  } else if (!options.wait.empty()) {
    absl::StatusOr<absl::Duration> wait = ReadDuration(options.wait, "--wait");
    if (!wait.ok()) return wait.status();
    acquire.wait = *wait;
  }
  return acquire;
}

// How something is held, and given back.
struct Holding {
  std::function<absl::StatusOr<Held>(const Client&, const AcquireOptions&)> acquire;
  std::function<absl::Status(const Client&, Held)> release;
  std::vector<std::string> token_names = {"STM_LOCK_TOKEN"};  // by which the command knows it
  std::vector<std::pair<std::string, std::string>> environment;
};

// All is given back when it returns. `*signal`: one came before there was anything to run.
absl::Status Hold(Shell& shell, const LockOptions& options, Holding holding, int* signal) {
  absl::StatusOr<absl::Duration> ttl = TtlOf(options);
  if (!ttl.ok()) return ttl.status();
  absl::StatusOr<AcquireOptions> acquire = AcquireOptionsOf(shell, options);
  if (!acquire.ok()) return acquire.status();
  absl::StatusOr<Client> client = shell.NewClient(*ttl);
  if (!client.ok()) return client.status();
  Signals signals;
  absl::StatusOr<Held> held = AwaitHeld(
      signals,
      [&](const Canceller& canceller) {
        acquire->canceller = canceller;
        return holding.acquire(*client, *acquire);
      },
      signal);
  if (!held.ok()) return held.status();
  holding.environment.emplace_back("STM_LOCK", options.name);
  for (const std::string& name : holding.token_names)
    holding.environment.emplace_back(name, absl::StrCat(held->token()));
  const Tenure tenure{options.name, [&] { return held->lost(); }, std::move(holding.environment)};
  absl::StatusOr<int> exit = RunFor(shell, signals, tenure, options.run);
  if (!exit.ok()) return exit.status();
  absl::Status released = holding.release(*client, *std::move(held));
  if (IsLockLost(released))
    return TenureLost(options.name,
                      absl::StrCat(options.run.command[0], " had ended by then, with exit code ", *exit));
  if (!released.ok()) {
    shell.io().err << "stmctl: " << options.name << ": not released (" << Explain(released)
                   << "): it goes with its session, one TTL from now\n";
  }
  shell.PassOn(*exit);
  return absl::OkStatus();
}

absl::Status CheckHold(const char* verb, const LockOptions& options) {
  if (!options.name.empty()) {
    absl::Status named = CheckNames({options.name});
    if (!named.ok()) return named;
  }
  if (options.name.empty() || options.run.command.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("give a name and a command: stmctl ", verb, " -- COMMAND"));
  }
  return CheckRun(options.run);
}

absl::Status HoldOrEnd(Shell& shell, const LockOptions& options, Holding holding) {
  int signal = 0;
  absl::Status status = Hold(shell, options, std::move(holding), &signal);
  if (signal != 0) EndBy(signal);
  return status;
}

const char* ModeWord(LockMode mode) {
  switch (mode) {
    case LockMode::kShared:
      return "shared";
    case LockMode::kPermits:
      return "permits";
    default:
      return "exclusive";
  }
}

// One who holds it, or waits at `place`.
Fields HoldFields(const Printer& printer, const LockInfo& lock, const LockHold& hold, size_t place) {
  Fields row{{"state", printer.Word(place == 0 ? "holds" : "waits")}};
  if (place > 0) row.emplace_back("place", Value::Integer(static_cast<int64_t>(place)));
  row.emplace_back("owner", Value::String(hold.owner));
  row.emplace_back("session", printer.Plain(hold.session_id));
  row.emplace_back("mode", printer.Word(ModeWord(hold.mode)));
  if (hold.mode == LockMode::kPermits) {
    row.emplace_back("permits", Value::Integer(hold.permits));
    row.emplace_back("permits-max", Value::Integer(lock.permits_max));
  }
  if (place == 0) {
    row.emplace_back("token", Value::Integer(hold.token));
    row.emplace_back("holds", Value::Integer(hold.holds));
  }
  row.emplace_back("since", Value::OfInstant(hold.since));
  return row;
}

absl::Status NobodyLeads(const std::string& name) {
  return absl::NotFoundError(
      absl::StrCat(name, ": nobody leads: stmctl elect ", name, " --as ID -- COMMAND"));
}

}  // namespace

absl::Status Lock(Shell& shell, const LockOptions& options) {
  absl::Status status = CheckHold("lock NAME", options);
  if (!status.ok()) return status;
  Holding holding;
  holding.acquire = [&](const Client& client, const AcquireOptions& acquire) {
    return client.Acquire(options.name, acquire);
  };
  holding.release = [](const Client&, Held held) { return held.Release(); };
  return HoldOrEnd(shell, options, std::move(holding));
}

absl::Status Elect(Shell& shell, const LockOptions& options) {
  absl::Status status = CheckHold("elect NAME --as ID", options);
  if (!status.ok()) return status;
  if (options.as.empty()) return absl::InvalidArgumentError("--as: say who it is that is to lead");
  Holding holding;
  holding.acquire = [&](const Client& client, const AcquireOptions& acquire) {
    return Election(client, options.name).Campaign(options.as, acquire);
  };
  holding.release = [&](const Client& client, Held held) {
    return Election(client, options.name).Resign(std::move(held));
  };
  holding.environment.emplace_back("STM_LEADER", options.as);
  holding.token_names.push_back("STM_LEADER_TOKEN");
  return HoldOrEnd(shell, options, std::move(holding));
}

absl::Status LockList(Shell& shell, const std::string& prefix) {
  absl::Status status = CheckPrefix(prefix);
  if (!status.ok()) return status;
  absl::StatusOr<Client> client = shell.NewClient();
  if (!client.ok()) return client.status();
  absl::StatusOr<std::vector<LockInfo>> locks = client->Locks(prefix);
  if (!locks.ok()) return locks.status();
  for (const LockInfo& lock : *locks) {
    std::vector<Value> holders;
    for (const LockHold& hold : lock.holders) {
      holders.push_back(Value::String(hold.owner.empty() ? hold.session_id : hold.owner));
    }
    Fields row{{"name", Value::String(lock.name)}};
    row.emplace_back("held-by", Value::OfVector(std::move(holders)));
    row.emplace_back("last-token", Value::Integer(lock.last_token));
    if (!lock.holders.empty()) {
      row.emplace_back("mode", shell.printer().Word(ModeWord(lock.holders.front().mode)));
    }
    if (lock.permits_max > 0) row.emplace_back("permits-max", Value::Integer(lock.permits_max));
    shell.printer().Row(row);
  }
  return absl::OkStatus();
}

absl::Status LockShow(Shell& shell, const std::string& name) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<Client> client = shell.NewClient();
  if (!client.ok()) return client.status();
  absl::StatusOr<LockInfo> lock = client->Lock(name);
  if (!lock.ok()) return lock.status();
  for (const LockHold& hold : lock->holders) shell.printer().Row(HoldFields(shell.printer(), *lock, hold, 0));
  size_t place = 0;
  for (const LockHold& hold : lock->queue)
    shell.printer().Row(HoldFields(shell.printer(), *lock, hold, ++place));
  if (!lock->holders.empty() || !lock->queue.empty()) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat(name, ": nobody holds it and nobody waits: see all with: stmctl lock list"));
}

absl::Status LockBreak(Shell& shell, const std::string& name) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<Client> client = shell.NewClient();
  if (!client.ok()) return client.status();
  absl::StatusOr<bool> broken = client->BreakLock(name, shell.globals().label);
  if (!broken.ok()) return broken.status();
  if (!*broken)
    return absl::NotFoundError(absl::StrCat(name, ": nobody holds it: see all with: stmctl lock list"));
  shell.printer().Print(shell.printer().Word("broken"));
  return absl::OkStatus();
}

absl::Status ElectShow(Shell& shell, const std::string& name, bool follow) {
  absl::Status status = CheckNames({name});
  if (!status.ok()) return status;
  absl::StatusOr<Client> client = shell.NewClient();
  if (!client.ok()) return client.status();
  if (follow) {
    stm::WatchOptions watch;
    watch.initial = true;
    watch.timeout = shell.globals().timeout.value_or(absl::InfiniteDuration());
    absl::Status printed;
    const auto show = [&](int64_t version, const Value& leader) {
      const bool none = leader.is(Type::kNil);
      shell.printer().Line({absl::StrCat(version, "  ", none ? "nobody" : ToEdn(leader))},
                           {{"version", Value::Integer(version)}, {"leader", leader}});
      printed = shell.Flush();
      return printed.ok();
    };
    status = client->Watch(name, watch, [&](const Commit& commit) {
      if (commit.initial && commit.changes.empty()) return show(commit.version, Value());
      for (const Change& change : commit.changes) {
        if (change.kind != ChangeKind::kDefined && !show(commit.version, change.after.value_or(Value())))
          return false;
      }
      return true;
    });
    return printed.ok() ? status : printed;
  }
  absl::StatusOr<v1::GetRefsResponse> read = shell.Read({name}, "", false);
  if (!read.ok()) return read.status();
  const v1::Entry& entry = read->entries(0);
  if (!entry.has_value()) return NobodyLeads(name);
  absl::StatusOr<Value> leader = ValueOf(entry.value());
  if (!leader.ok()) return leader.status();
  absl::StatusOr<LockInfo> lock = client->Lock(name);
  if (!lock.ok()) return lock.status();
  // A token is at most the version of its grant: what was proclaimed before that is another's.
  for (const LockHold& hold : lock->holders) {
    if (hold.mode != LockMode::kExclusive || entry.version() <= hold.token) continue;
    shell.printer().Sheet({{"leader", *leader},
                           {"token", Value::Integer(hold.token)},
                           {"session", shell.printer().Plain(hold.session_id)},
                           {"since", Value::OfInstant(hold.since)}});
    return absl::OkStatus();
  }
  return NobodyLeads(name);
}

}  // namespace stm::cli
