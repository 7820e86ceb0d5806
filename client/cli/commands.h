// The commands of stmctl, one function each. Options as the command line gives them; each returns what ExitOf maps.
#ifndef STM_CLIENT_CLI_COMMANDS_H_
#define STM_CLIENT_CLI_COMMANDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/shell.h"

namespace stm::cli {

// What is run while something is held.
struct RunOptions {
  std::vector<std::string> command;
  std::string grace;  // from SIGTERM to SIGKILL once that is lost; "": kKillGraceDefault
};

// entries.cc

struct GetOptions {
  std::vector<std::string> names;
  std::string at;
  bool meta = false;
};
absl::Status Get(Shell& shell, const GetOptions& options);

struct SetOptions {
  std::string name;
  std::string value;
  int64_t if_version = 0;  // 0: not asked
  bool if_absent = false;
  std::string ttl;
  std::string container;   // that is to keep it; "": inline, or where it is
  std::string fence;       // "/nightly:42": only while that grant of that lock stands
  bool ephemeral = false;  // bound to a session that is kept until `run` ends, or a signal comes
  std::string session_ttl;
  RunOptions run;
};
absl::Status Set(Shell& shell, const SetOptions& options);

absl::Status ApplyOperation(Shell& shell, const std::string& name, const std::string& operation);

struct DeleteOptions {
  std::vector<std::string> names;
  std::string prefix;
  bool yes = false;
};
absl::Status Delete(Shell& shell, const DeleteOptions& options);

struct ListOptions {
  std::string prefix;
  std::string at;
  bool values = false;
  bool count = false;
};
absl::Status List(Shell& shell, const ListOptions& options);

absl::Status Tx(Shell& shell, const std::string& path);
absl::Status History(Shell& shell, const std::string& name, int64_t limit);

absl::Status ValidatorGet(Shell& shell, const std::string& name);
absl::Status ValidatorSet(Shell& shell, const std::string& name, const std::string& rule);
absl::Status ValidatorClear(Shell& shell, const std::string& name);

absl::Status AtomReset(Shell& shell, const std::string& name, const std::string& value);
absl::Status AtomCas(Shell& shell, const std::string& name, const std::string& expected, const std::string& value);

// streams.cc

struct WatchOptions {
  std::vector<std::string> selected;  // names, and prefixes, which end in "/"
  bool initial = false;
  int64_t from = 0;
  bool conflate = false;
  std::string exec;
  int64_t count = -1;  // of commits; 0: what is there, with `initial`; -1: for ever
};
absl::Status Watch(Shell& shell, const WatchOptions& options);

// Until the value satisfies `rule` (EDN; :stm/absent: until there is none), and prints it.
absl::Status Wait(Shell& shell, const std::string& name, const std::string& rule);

struct LogOptions {
  bool follow = false;
  int64_t from = 0;
  std::vector<std::string> tags;
  int64_t limit = 0;
};
absl::Status LogTail(Shell& shell, const LogOptions& options);
absl::Status LogRecords(Shell& shell, const LogOptions& options);

// locks.cc

struct LockOptions {
  std::string name;
  bool shared = false;
  int64_t permits = 0;  // of the semaphore; 0: it is none
  std::string wait;     // "": until it is granted; "0": at once
  std::string ttl;      // of the session; "": the daemon's default
  std::string as;       // whom others see; "": user@host/pid
  RunOptions run;
};
// ABORTED, kLockBusy: not within `wait`. FAILED_PRECONDITION, kLockLost: it was lost while the command ran.
absl::Status Lock(Shell& shell, const LockOptions& options);
absl::Status LockList(Shell& shell, const std::string& prefix);
absl::Status LockShow(Shell& shell, const std::string& name);
absl::Status LockBreak(Shell& shell, const std::string& name);
// As Lock; `options.as` is proclaimed.
absl::Status Elect(Shell& shell, const LockOptions& options);
absl::Status ElectShow(Shell& shell, const std::string& name, bool follow);

// sessions.cc

absl::Status SessionList(Shell& shell);
absl::Status SessionShow(Shell& shell, const std::string& id);
absl::Status SessionExpire(Shell& shell, const std::string& id);

// import.cc

struct ImportOptions {
  std::string path;
  std::string into;
  int64_t batch = 1;
  int64_t skip = 0;
};
absl::Status LogImport(Shell& shell, const ImportOptions& options);

// diff.cc

absl::Status Diff(Shell& shell, const std::string& name, int64_t from, int64_t to);

// transfer.cc

absl::Status Export(Shell& shell, const std::string& prefix, const std::string& at);
absl::Status Import(Shell& shell, const std::string& prefix, const std::string& path, int64_t skip);

// top.cc

struct TopOptions {
  std::string every;  // "": a second
  int64_t count = 0;  // 0: for ever
};
absl::Status Top(Shell& shell, const TopOptions& options);

// repl.cc

// Reads lines until the input ends. `globals`: the global options, for each command; `commands`: for completion.
absl::Status Repl(Shell& shell, const std::vector<std::string>& globals, const std::vector<std::string>& commands);

// demo_queue.cc

struct DemoQueueOptions {
  int64_t takers = 16;
  int64_t jobs = 1000;
};
// DATA_LOSS: what the demonstration shows does not hold.
absl::Status DemoQueue(Shell& shell, const DemoQueueOptions& options);

// demo_lock.cc

struct DemoLockOptions {
  std::string ttl = "2s";  // of the holder that is paused
  std::string holder;      // not "": be that holder, of the lock and the ref of this run
};
// DATA_LOSS: as DemoQueue.
absl::Status DemoLock(Shell& shell, const DemoLockOptions& options);

// demo_transfer.cc

// What is told of each is kept until the end.
inline constexpr int64_t kDemoTransfersMax = 10000000;

struct DemoTransferOptions {
  int64_t accounts = 10;
  int64_t callers = 8;
  double seconds = 5;
  int64_t transfers = 0;  // 0: for `seconds`
  bool kill = false;      // a daemon of its own, again and again
  std::string stmd;       // with `kill`: its path; "": beside stmctl, or in PATH
};
// DATA_LOSS: as DemoQueue.
absl::Status DemoTransfer(Shell& shell, const DemoTransferOptions& options);

// A store in ZooKeeper, which no daemon runs on yet.
struct StoreOptions {
  std::string store;             // "zk://host:port,host:port/chroot"
  std::string credentials_file;  // "": none
  std::string acl = "open";
};

// backup.cc

struct BackupOptions {
  std::string path;     // "-": the standard output
  int64_t version = 0;  // 0: the newest
};
absl::Status Backup(Shell& shell, const BackupOptions& options);
struct RestoreOptions {
  std::string path;   // "-": the standard input
  StoreOptions into;  // into.store empty: the daemon
};
// Into ZooKeeper, ALREADY_EXISTS: there is a store.
absl::Status Restore(Shell& shell, const RestoreOptions& options);

// log_files.cc: offline, on the daemon's own files.

absl::Status LogVerify(Shell& shell, const std::vector<std::string>& paths);
absl::Status LogSeal(Shell& shell, const std::vector<std::string>& paths);
absl::Status LogDrop(Shell& shell, const std::vector<std::string>& paths);

// container.cc

struct ContainerCheckOptions {
  std::string address;  // "grpc://host:port", or without the scheme
  bool refs = false;    // those rules alone
  bool atoms = false;
};
// Of a container that is served, not of a daemon. UNKNOWN: it breaks a rule. UNIMPLEMENTED: it serves none of the verbs asked for.
absl::Status ContainerCheck(Shell& shell, const ContainerCheckOptions& options);

// init.cc

struct InitOptions {
  StoreOptions at;
  bool if_absent = false;
};
// ALREADY_EXISTS: there is a store, and not if_absent.
absl::Status Init(Shell& shell, const InitOptions& options);

// admin.cc

absl::Status Cluster(Shell& shell);
absl::Status Containers(Shell& shell);
absl::Status Status(Shell& shell);
absl::Status Health(Shell& shell, bool ready);
absl::Status ShowConfig(Shell& shell);
// `grace`: a duration; "": the daemon's own.
absl::Status Drain(Shell& shell, const std::string& grace);
absl::Status Outcome(Shell& shell, const std::string& word);
absl::Status Version(Shell& shell);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_COMMANDS_H_
