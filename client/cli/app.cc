#include "client/cli/app.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <ostream>

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/transaction_file.h"
#include "client/cli/version.h"

namespace stm::cli {
namespace {

constexpr char kAddressDefault[] = "127.0.0.1:7440";

constexpr char kHidden[] = "";  // the group of options that are for stmctl itself

constexpr char kStoreAbout[] = "as stmd's --coordinator: zk://host:port,host:port/chroot";

constexpr char kFooter[] =
    "\nVALUE is EDN (JSON with --json); \"-\" is the standard input; write -- before one that begins with "
    "\"-\" and is\n"
    "no number. Exit codes: 0 ok, 1 error, 2 usage, 3 absent, 4 conflict or compare failed, 5 rejected, 6 "
    "unavailable,\n"
    "7 lock busy, 8 lock lost, 124 timed out; lock, elect and set --ephemeral pass on that of their command. "
    "More of a command: stmctl help COMMAND";

// What the command line said, and which command it chose.
struct Line {
  std::string addresses = kAddressDefault;
  std::string output;
  std::string timeout;
  bool json = false;
  std::string label;

  GetOptions get;
  SetOptions set;
  LockOptions lock;
  LockOptions elect;
  std::string name;
  std::string value;
  std::string expected;
  std::string path;
  std::vector<std::string> paths;
  DeleteOptions del;
  ListOptions list;
  WatchOptions watch;
  LogOptions log;
  ImportOptions import;
  BackupOptions backup;
  RestoreOptions restore;
  InitOptions init;
  ContainerCheckOptions container_check;
  TopOptions top;
  DemoTransferOptions demo_transfer;
  DemoQueueOptions demo_queue;
  DemoLockOptions demo_lock;
  std::string at;
  int64_t from = 0;
  int64_t to = 0;
  int64_t skip = 0;
  std::string grace;
  int64_t limit = 100;
  bool ready = false;
  bool follow = false;
  std::vector<std::string> help;

  std::function<absl::Status(Shell&)> run;
};

using Command = std::function<absl::Status(Shell&)>;

absl::Status PrintCompletion(Shell& shell, const std::string& form);
absl::Status StartRepl(Shell& shell, const Line& line);

class Parser {
 public:
  explicit Parser(Line* line) : line_(*line), app_("stmctl talks to stmd: refs, atoms, transactions, watches, the log.") {
    app_.name("stmctl");
    app_.set_version_flag("--version", std::string("stmctl ") + kVersion, "the version of stmctl");
    app_.set_help_flag("-h,--help", "this text");
    app_.footer(kFooter);
    app_.require_subcommand(0, 1);
    app_.add_option("--address", line_.addresses, "of stmd: host:port or unix:/path, several by comma; 127.0.0.1:7440")
        ->envname("STM_ADDRESS")
        ->type_name("A");
    app_.add_option("--output", line_.output, "edn, json, table or raw; table on a terminal, else edn")->type_name("FORM");
    app_.add_flag("--json", line_.json, "values are given as JSON");
    app_.add_option("--timeout", line_.timeout, "of each call, as 5s or 200ms; 10s; streams: none")->type_name("D");
    app_.add_option("--label", line_.label, "why: kept in the log with what is committed")->type_name("TEXT");
    Entries();
    Locks();
    Streams();
    Log();
    Admin();
    Demo();
    Self();
  }

  CLI::App& app() { return app_; }

 private:
  CLI::App* Group(const char* name, const char* about) {
    CLI::App* group = app_.add_subcommand(name, about);
    group->fallthrough();
    group->require_subcommand(0, 1);
    return group;
  }

  CLI::App* Add(CLI::App* parent, const char* name, const char* about, const char* example, Command command) {
    CLI::App* sub = parent->add_subcommand(name, about);
    sub->fallthrough();
    sub->footer(absl::StrCat("\nExample: ", example));
    sub->final_callback([this, command = std::move(command)] { line_.run = command; });
    return sub;
  }

  // A group that is a command itself: with none of its own it is that.
  CLI::App* AddWithGroup(const char* name, const char* about, const char* example, Command command) {
    CLI::App* group = Group(name, about);
    group->footer(absl::StrCat("\nExample: ", example));
    group->final_callback([this, group, command = std::move(command)] {
      if (group->get_subcommands().empty()) {
        line_.run = command;
        return;
      }
      for (const CLI::Option* option :
           group->get_options([](CLI::Option* one) { return one->get_positional(); })) {
        if (option->count() == 0) continue;
        throw CLI::ExtrasError(group->get_name(), {option->results().front()});
      }
    });
    return group;
  }

  // What runs while something is held: all behind --.
  static void Run(CLI::App* sub, RunOptions* run) {
    sub->add_option("COMMAND", run->command, "behind --: what to run meanwhile, and its arguments")
        ->type_name("");
    sub->add_option("--grace", run->grace, "once that is lost: from SIGTERM to SIGKILL; 10s")->type_name("D");
  }

  static CLI::Option* Name(CLI::App* sub, std::string* name) {
    return sub->add_option("NAME", *name, "of the entry, as /accounts/7")->required()->type_name("");
  }
  static CLI::Option* Positional(CLI::App* sub, const char* title, std::string* into, const char* about) {
    return sub->add_option(title, *into, about)->required()->type_name("");
  }

  // How to reach a store in ZooKeeper without a daemon.
  static void StoreAt(CLI::App* sub, StoreOptions* at) {
    sub->add_option("--credentials-file", at->credentials_file, "holds user:password for ZooKeeper")->type_name("FILE");
    sub->add_option("--acl", at->acl, "who may touch it: open, anybody; or creator, these credentials; open")
        ->type_name("ACL");
  }

  void Entries() {
    Line& line = line_;
    CLI::App* sub = Add(&app_, "get", "print values, all of one snapshot", "stmctl get /r0 /r1 --meta",
                        [&line](Shell& shell) { return Get(shell, line.get); });
    sub->add_option("NAME", line.get.names, "of entries")->required()->type_name("");
    sub->add_option("--at", line.get.at, "a version or an instant")->type_name("V");
    sub->add_flag("--meta", line.get.meta, "with version, kind, time and definition");

    sub = Add(&app_, "set", "set one entry; prints the version", "stmctl set /config/limit 10 --if-absent",
              [&line](Shell& shell) { return Set(shell, line.set); });
    Name(sub, &line.set.name);
    Positional(sub, "VALUE", &line.set.value, "EDN; - is stdin");
    CLI::Option* version = sub->add_option("--if-version", line.set.if_version, "only if this is its version")
                               ->type_name("V")
                               ->check(CLI::PositiveNumber);
    sub->add_flag("--if-absent", line.set.if_absent, "only if there is none")->excludes(version);
    sub->add_option("--ttl", line.set.ttl, "it expires this long after each write")->type_name("D");
    sub->add_option("--container", line.set.container,
                    "where its value is kept, if it is made now: inline, or a name that stmctl containers lists")
        ->type_name("NAME");
    sub->add_option("--fence", line.set.fence,
                    "only while this grant of this lock stands, as /nightly:42; else exit 8")
        ->type_name("LOCK:TOKEN");
    CLI::Option* ephemeral = sub->add_flag("--ephemeral", line.set.ephemeral,
                                           "it is there as long as this runs: until COMMAND ends, or without "
                                           "one until a signal; exit 8: lost before");
    sub->add_option("--session-ttl", line.set.session_ttl,
                    "how long it outlives a stmctl that was killed; 15s")
        ->type_name("D")
        ->needs(ephemeral);
    Run(sub, &line.set.run);

    sub = Add(&app_, "apply", "apply one operation; prints its result", "stmctl apply /r0 '(add 1)'",
              [&line](Shell& shell) { return ApplyOperation(shell, line.name, line.value); });
    Name(sub, &line.name);
    Positional(sub, "OPERATION", &line.value,
               "(add 1) (conj 1 2) (assoc :k 1) (at [:a 0] (add 1)) ..., as EDN; - is stdin");

    sub = Add(&app_, "delete", "delete entries: names in one commit, a prefix in batches",
              "stmctl delete --prefix /tmp/ --yes", [&line](Shell& shell) { return Delete(shell, line.del); });
    sub->add_option("NAME", line.del.names, "of entries")->type_name("");
    sub->add_option("--prefix", line.del.prefix, "all under it; ends in /")->type_name("P/");
    sub->add_flag("--yes", line.del.yes, "do not ask");

    sub = Add(&app_, "list", "entries of one snapshot", "stmctl list /accounts/ --values",
              [&line](Shell& shell) { return List(shell, line.list); });
    Positional(sub, "PREFIX/", &line.list.prefix, "ends in /");
    CLI::Option* values = sub->add_flag("--values", line.list.values, "with values");
    sub->add_flag("--count", line.list.count, "how many, alone")->excludes(values);
    sub->add_option("--at", line.list.at, "a version or an instant")->type_name("V");

    sub = Add(&app_, "tx", "commit a transaction given as EDN",
              "echo '{:check {\"/a\" 1} :set {\"/a\" 2} :apply {\"/n\" (add 1)}}' | stmctl tx -",
              [&line](Shell& shell) { return Tx(shell, line.path); });
    Positional(sub, "FILE", &line.path,
               "a map of :check :set :create :apply :delete :records :label :isolation; - is stdin");

    sub = Add(&app_, "history", "who changed an entry, when and why, newest first", "stmctl history /r0 --limit 5",
              [&line](Shell& shell) { return History(shell, line.name, line.limit); });
    Name(sub, &line.name);
    sub->add_option("--limit", line.limit, "at most so many commits; 100")->type_name("N")->check(CLI::PositiveNumber);

    sub = Add(&app_, "diff", "what changed between two versions, a path a line", "stmctl diff /config/limits 41 57",
              [&line](Shell& shell) { return Diff(shell, line.name, line.from, line.to); });
    Name(sub, &line.name);
    sub->add_option("V1", line.from, "a version")->required()->type_name("")->check(CLI::PositiveNumber);
    sub->add_option("V2", line.to, "another")->required()->type_name("")->check(CLI::PositiveNumber);

    sub = Add(&app_, "export", "entries of one snapshot as lines, of EDN or with --output json of JSON",
              "stmctl export /config/ > config.edn", [&line](Shell& shell) { return Export(shell, line.path, line.at); });
    Positional(sub, "PREFIX/", &line.path, "ends in /");
    sub->add_option("--at", line.at, "a version or an instant")->type_name("V");

    sub = Add(&app_, "import", "set the entries that such lines name, 500 a commit",
              "stmctl import /config/ config.edn",
              [&line](Shell& shell) { return Import(shell, line.path, line.value, line.skip); });
    Positional(sub, "PREFIX/", &line.path, "all names must be under it; ends in /");
    Positional(sub, "FILE", &line.value, "that export made; - is stdin; JSON with --json");
    sub->add_option("--skip", line.skip, "leave out the first so many")->type_name("N")->check(CLI::NonNegativeNumber);

    CLI::App* group = Group("validator", "the rule that every value of an entry satisfies");
    sub = Add(group, "get", "print the rule; nil: none", "stmctl validator get /r0",
              [&line](Shell& shell) { return ValidatorGet(shell, line.name); });
    Name(sub, &line.name);
    sub = Add(group, "set", "set the rule; the value there must satisfy it",
              "stmctl validator set /r0 '[:and :int [:min 0]]'",
              [&line](Shell& shell) { return ValidatorSet(shell, line.name, line.value); });
    Name(sub, &line.name);
    Positional(sub, "RULE", &line.value, "as EDN; - is stdin");
    sub = Add(group, "clear", "take the rule away", "stmctl validator clear /r0",
              [&line](Shell& shell) { return ValidatorClear(shell, line.name); });
    Name(sub, &line.name);

    group = Group("atom", "entries that change alone");
    sub = Add(group, "reset", "set an atom, made if absent; prints the version", "stmctl atom reset /leader '\"a\"'",
              [&line](Shell& shell) { return AtomReset(shell, line.name, line.value); });
    Name(sub, &line.name);
    Positional(sub, "VALUE", &line.value, "EDN; - is stdin");
    sub = Add(group, "cas", "set an atom only if it is as expected; exit 4 if not",
              "stmctl atom cas /leader '\"a\"' '\"b\"'",
              [&line](Shell& shell) { return AtomCas(shell, line.name, line.expected, line.value); });
    Name(sub, &line.name);
    Positional(sub, "EXPECTED", &line.expected, "EDN; :stm/absent: there is none");
    Positional(sub, "VALUE", &line.value, "EDN");
  }

  static void Waiting(CLI::App* sub, LockOptions* options) {
    sub->add_option("NAME", options->name, "of the lock, as /nightly")->type_name("");
    sub->add_option("--wait", options->wait, "at most so long, then exit 7; 0: at once; for ever")
        ->type_name("D");
    sub->add_option("--ttl", options->ttl, "how long it outlives a stmctl that was killed; 15s")
        ->type_name("D");
    Run(sub, &options->run);
  }

  void Locks() {
    Line& line = line_;
    CLI::App* group = AddWithGroup(
        "lock", "run a command while a lock is held; it has STM_LOCK and STM_LOCK_TOKEN, for set --fence",
        "stmctl lock /nightly --wait 10s -- ./report",
        [&line](Shell& shell) { return Lock(shell, line.lock); });
    Waiting(group, &line.lock);
    CLI::Option* shared = group->add_flag("--shared", line.lock.shared, "together with others who say so");
    group
        ->add_option("--permits", line.lock.permits,
                     "one of so many: a semaphore, of as many for all who use it")
        ->type_name("N")
        ->check(CLI::Range(int64_t{1}, int64_t{0xFFFFFFFF}))
        ->excludes(shared);
    group->add_option("--as", line.lock.as, "whom others see; user@host/pid")->type_name("OWNER");
    CLI::App* sub =
        Add(group, "list", "locks that are held, or were of late", "stmctl lock list /jobs/",
            [&line](Shell& shell) { return LockList(shell, line.path.empty() ? "/" : line.path); });
    sub->add_option("PREFIX/", line.path, "ends in /; all")->type_name("");
    sub = Add(group, "show", "who holds a lock, since when, and who waits, in order; exit 3: nobody",
              "stmctl lock show /nightly", [&line](Shell& shell) { return LockShow(shell, line.name); });
    Positional(sub, "NAME", &line.name, "of the lock");
    sub = Add(group, "break", "take a lock from all who hold it; --label says why",
              "stmctl lock break /nightly --label 'host is gone'",
              [&line](Shell& shell) { return LockBreak(shell, line.name); });
    Positional(sub, "NAME", &line.name, "of the lock");

    group = AddWithGroup(
        "elect", "run a command while leader; it has STM_LEADER, STM_LEADER_TOKEN and what lock gives",
        "stmctl elect /leader --as host1 -- ./serve",
        [&line](Shell& shell) { return Elect(shell, line.elect); });
    Waiting(group, &line.elect);
    group->add_option("--as", line.elect.as, "who leads then: the value of the ref NAME meanwhile")
        ->type_name("ID");
    sub = Add(group, "show", "who leads; exit 3: nobody", "stmctl elect show /leader --follow",
              [&line](Shell& shell) { return ElectShow(shell, line.name, line.follow); });
    Positional(sub, "NAME", &line.name, "of the election");
    sub->add_flag("--follow", line.follow, "go on with each change; nil: nobody");

    group = Group("session", "what clients hold locks and ephemeral entries by");
    Add(group, "list", "all sessions", "stmctl session list",
        [](Shell& shell) { return SessionList(shell); });
    sub = Add(group, "show", "one of them", "stmctl session show 0f8fad5b-d9cb-469f-a165-70867728950e",
              [&line](Shell& shell) { return SessionShow(shell, line.value); });
    Positional(sub, "ID", &line.value, "as session list and lock show tell it");
    sub = Add(group, "expire", "end one, with all that it has; --label says why",
              "stmctl session expire 0f8fad5b-d9cb-469f-a165-70867728950e --label 'host is gone'",
              [&line](Shell& shell) { return SessionExpire(shell, line.value); });
    Positional(sub, "ID", &line.value, "as session list and lock show tell it");
  }

  void Streams() {
    Line& line = line_;
    CLI::App* sub = Add(&app_, "watch", "commits as they come, one a line", "stmctl watch /config/ --initial --exec ./reload",
                        [&line](Shell& shell) { return Watch(shell, line.watch); });
    sub->add_option("NAME", line.watch.selected, "of entries, and prefixes, which end in /")->required()->type_name("");
    sub->add_flag("--initial", line.watch.initial, "first the entries as they are");
    sub->add_option("--from", line.watch.from, "commits after this version; now")
        ->type_name("V")
        ->check(CLI::PositiveNumber);
    sub->add_flag("--conflate", line.watch.conflate, "when slow: the newest value of each entry only");
    sub->add_option("--exec", line.watch.exec, "run it by sh for each, with the change on its stdin; ends if it fails")
        ->type_name("CMD");
    sub->add_option("--count", line.watch.count, "end after so many commits; 0: after the entries as they are")
        ->type_name("N")
        ->check(CLI::NonNegativeNumber);

    sub = Add(&app_, "wait", "return when the value satisfies a rule, and print it", "stmctl wait /jobs/7 --is '[:one-of :done :failed]'",
              [&line](Shell& shell) { return Wait(shell, line.name, line.value); });
    Name(sub, &line.name);
    sub->add_option("--is", line.value, "a validator's rule, or :stm/absent")->required()->type_name("RULE");
  }

  void Log() {
    Line& line = line_;
    CLI::App* group = Group("log", "the log: every commit, with who, when and why");
    auto options = [&](CLI::App* sub) {
      sub->add_flag("-f,--follow", line.log.follow, "go on as commits come");
      sub->add_option("--from", line.log.from, "begin at this version")->type_name("V")->check(CLI::PositiveNumber);
      sub->add_option("--tag", line.log.tags, "only commits with such records, as blog.CreateUser or blog.*")
          ->type_name("T")
          ->allow_extra_args(false);
      sub->add_option("--limit", line.log.limit, "at most so many")->type_name("N")->check(CLI::PositiveNumber);
    };
    CLI::App* sub = Add(group, "tail", "the newest commits (10), or those from a version on", "stmctl log tail -f",
                        [&line](Shell& shell) { return LogTail(shell, line.log); });
    options(sub);
    sub = Add(group, "records", "the tagged records alone, one a line", "stmctl log records --tag 'blog.*' > blog.edn",
              [&line](Shell& shell) { return LogRecords(shell, line.log); });
    options(sub);
    sub = Add(group, "import", "commit a file of bare tagged records, in order", "stmctl log import my.db.clj --into /users",
              [&line](Shell& shell) { return LogImport(shell, line.import); });
    Positional(sub, "FILE", &line.import.path, "- is stdin");
    sub->add_option("--into", line.import.into, "conj each to this vector as well, made if absent")->type_name("NAME");
    sub->add_option("--batch", line.import.batch, "records of one commit; 1")->type_name("N")->check(CLI::Range(1, 1000));
    sub->add_option("--skip", line.import.skip, "leave out the first so many")
        ->type_name("N")
        ->check(CLI::NonNegativeNumber);
    sub = Add(group, "verify", "check log files, with no daemon needed", "stmctl log verify /var/lib/stmd",
              [&line](Shell& shell) { return LogVerify(shell, line.paths); });
    sub->add_option("FILE", line.paths, "log files, or the directory of all")->required()->type_name("");
    sub = Add(group, "seal", "write a log file's sums anew after an edit by hand; stmd must be stopped",
              "stmctl log seal /var/lib/stmd/log-0000000000000000001.edn",
              [&line](Shell& shell) { return LogSeal(shell, line.paths); });
    sub->add_option("FILE", line.paths, "log files")->required()->type_name("");
    sub = Add(group, "drop", "remove log files that a snapshot replaces; stmd must be stopped",
              "stmctl log drop /var/lib/stmd/log-0000000000000000001.edn",
              [&line](Shell& shell) { return LogDrop(shell, line.paths); });
    sub->add_option("FILE", line.paths, "log files, oldest first")->required()->type_name("");
  }

  void Admin() {
    Line& line = line_;
    Add(&app_, "status", "marks, limits and the most contended entries", "stmctl status --output json",
        [](Shell& shell) { return Status(shell); });
    CLI::App* sub = Add(&app_, "health", "for probes: exit 0 or 6", "stmctl health --ready",
                        [&line](Shell& shell) { return Health(shell, line.ready); });
    sub->add_flag("--ready", line.ready, "recovered, and able to commit");
    sub = Add(&app_, "top", "the daemon's marks and rates, again and again", "stmctl top --every 5s",
              [&line](Shell& shell) { return Top(shell, line.top); });
    sub->add_option("--every", line.top.every, "how often; 1s")->type_name("D");
    sub->add_option("--count", line.top.count, "end after so many; for ever")->type_name("N")->check(CLI::PositiveNumber);
    Add(&app_, "cluster", "daemons over ZooKeeper, how far each is, and the log", "stmctl cluster",
        [](Shell& shell) { return Cluster(shell); });
    Add(&app_, "containers", "where values are kept: health, latency, calls, and what is left to be done there",
        "stmctl containers", [](Shell& shell) { return Containers(shell); });
    sub = Add(&app_, "init", "make an empty store in ZooKeeper, for daemons to start on",
              "stmctl init zk://zk1:2181,zk2:2181,zk3:2181/stmd", [&line](Shell& shell) { return Init(shell, line.init); });
    sub->add_option("STORE", line.init.at.store, kStoreAbout)->required()->type_name("");
    StoreAt(sub, &line.init.at);
    sub->add_flag("--if-absent", line.init.if_absent, "well if there is one already, which stays as it is");
    Add(&app_, "config", "the settings in force, and where each came from", "stmctl config",
        [](Shell& shell) { return ShowConfig(shell); });
    sub = Add(&app_, "drain", "refuse new work, finish what is under way, and stop the daemon", "stmctl drain --grace 5s",
              [&line](Shell& shell) { return Drain(shell, line.grace); });
    sub->add_option("--grace", line.grace, "how long what is under way may take; the daemon's drain_grace")->type_name("D");
    sub = Add(&app_, "backup", "the store at one version, whole, into a file, while it goes on", "stmctl backup stm.backup",
              [&line](Shell& shell) { return Backup(shell, line.backup); });
    Positional(sub, "FILE", &line.backup.path, "replaced when all is there; - is stdout");
    sub->add_option("--at", line.backup.version, "this version, of the history kept; the newest")
        ->type_name("V")
        ->check(CLI::PositiveNumber);
    sub = Add(&app_, "restore",
              "make an empty store what a backup holds, all of it or nothing; or make a store in ZooKeeper of it",
              "stmctl restore stm.backup zk://zk1:2181,zk2:2181,zk3:2181/stmd",
              [&line](Shell& shell) { return Restore(shell, line.restore); });
    Positional(sub, "FILE", &line.restore.path, "that backup made; - is stdin, of a daemon's");
    sub->add_option("STORE", line.restore.into.store, absl::StrCat("in ZooKeeper, ", kStoreAbout, "; else the daemon's"))
        ->type_name("");
    StoreAt(sub, &line.restore.into);
    CLI::App* group = Group("container", "containers that you write, which keep values of refs and atoms");
    sub = Add(group, "check", "try every rule of a container's contract on one that is served by gRPC; exit 1: one is broken",
              "stmctl container check 127.0.0.1:7777",
              [&line](Shell& shell) { return ContainerCheck(shell, line.container_check); });
    Positional(sub, "ADDRESS", &line.container_check.address, "host:port or grpc://host:port, of the container, not of stmd");
    CLI::Option* refs = sub->add_flag("--refs", line.container_check.refs, "the rules of refs alone");
    sub->add_flag("--atoms", line.container_check.atoms, "the rules of atoms alone")->excludes(refs);
    sub = Add(&app_, "outcome", "did that commit happen: 0 yes, 4 no, 5 rejected, 1 nobody knows any more",
              "stmctl outcome 0f8fad5bd9cb469fa16570867728950e.0000000000000001.42.0000000000000002.1b7e",
              [&line](Shell& shell) { return Outcome(shell, line.value); });
    Positional(sub, "WORD", &line.value, "as the error printed it");
  }

  void Demo() {
    Line& line = line_;
    CLI::App* group = Group("demo", "what stmd promises, shown and checked; exit 1 if it does not hold");
    CLI::App* sub = Add(group, "transfer", "callers move money, readers sum it: no sum differs, no transfer is lost or done twice",
                        "stmctl demo transfer --callers 16 --seconds 10",
                        [&line](Shell& shell) { return DemoTransfer(shell, line.demo_transfer); });
    sub->add_option("--accounts", line.demo_transfer.accounts, "how many; 10")->type_name("N")->check(CLI::Range(2, 1000));
    sub->add_option("--callers", line.demo_transfer.callers, "how many at once; 8")->type_name("N")->check(CLI::Range(1, 256));
    CLI::Option* seconds = sub->add_option("--seconds", line.demo_transfer.seconds, "how long; 5")
                               ->type_name("N")
                               ->check(CLI::Range(0.1, 86400.0));
    sub->add_option("--transfers", line.demo_transfer.transfers, "until so many are committed")
        ->type_name("N")
        ->check(CLI::Range(int64_t{1}, kDemoTransfersMax))
        ->excludes(seconds);
    CLI::Option* kill = sub->add_flag("--kill", line.demo_transfer.kill,
                                      "on a stmd that it starts itself, and kills with -9 all the time, 3 times at least");
    sub->add_option("--stmd", line.demo_transfer.stmd, "of --kill; else stmd beside stmctl, or in PATH")
        ->type_name("PATH")
        ->needs(kill);
    sub = Add(group, "queue", "takers sleep by retry() on a queue, producers add jobs: each is taken once, in order",
                        "stmctl demo queue --takers 100 --jobs 5000",
                        [&line](Shell& shell) { return DemoQueue(shell, line.demo_queue); });
    sub->add_option("--takers", line.demo_queue.takers, "how many; 16")->type_name("N")->check(CLI::Range(1, 256));
    sub->add_option("--jobs", line.demo_queue.jobs, "how many; 1000")->type_name("N")->check(CLI::Range(1, 1000000));
    sub =
        Add(group, "lock", "a holder that is paused for longer than its lock lasts, and what a fence is for",
            "stmctl demo lock", [&line](Shell& shell) { return DemoLock(shell, line.demo_lock); });
    sub->add_option("--ttl", line.demo_lock.ttl, "of the holder's session; 2s")->type_name("D");
    sub->add_option("--holder", line.demo_lock.holder, "be the holder, of this run")
        ->type_name("RUN")
        ->group(kHidden);
  }

  void Self() {
    Line& line = line_;
    Add(&app_, "repl", "commands and EDN forms, a line each, with history and completion", "stmctl repl",
        [&line](Shell& shell) { return StartRepl(shell, line); });
    CLI::App* sub = Add(&app_, "completion", "completion of commands and options for a shell",
              "source <(stmctl completion bash)", [&line](Shell& shell) { return PrintCompletion(shell, line.value); });
    Positional(sub, "SHELL", &line.value, "bash, zsh, fish; or man: the manual page, as roff");
    Add(&app_, "version", "the version of stmctl; of stmd: status", "stmctl version",
        [](Shell& shell) { return Version(shell); });
    sub = Add(&app_, "help", "this text, or a command's", "stmctl help log tail", [](Shell&) { return absl::OkStatus(); });
    sub->add_option("COMMAND", line.help, "and its subcommand")->type_name("");
  }

  Line& line_;
  CLI::App app_;
};

std::vector<std::string> CommandNames(CLI::App* app) {
  std::vector<std::string> names;
  for (CLI::App* sub : app->get_subcommands([](CLI::App*) { return true; })) names.push_back(sub->get_name());
  return names;
}

std::vector<const CLI::Option*> OptionsOf(CLI::App* app) {
  std::vector<const CLI::Option*> options;
  for (CLI::Option* option : app->get_options([](CLI::Option* one) { return one->get_group() != kHidden; })) {
    options.push_back(option);
  }
  return options;
}

// It is a command, and not only a group of such.
bool Runs(CLI::App* app) {
  if (CommandNames(app).empty()) return true;
  const std::vector<const CLI::Option*> options = OptionsOf(app);
  return std::any_of(options.begin(), options.end(),
                     [](const CLI::Option* option) { return option->get_positional(); });
}

std::vector<std::string> OptionNames(CLI::App* app) {
  std::vector<std::string> names;
  for (; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : OptionsOf(app)) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
      for (const std::string& name : option->get_snames()) names.push_back("-" + name);
    }
  }
  return names;
}

// ---- completion, and the manual page: both of the tree that the parser walks, so that they can't tell of other commands.

// Every command with its words, groups too: {"log", "tail"}.
void Walk(CLI::App* app, std::vector<std::string> words,
          const std::function<void(CLI::App*, const std::vector<std::string>&)>& visit) {
  visit(app, words);
  for (CLI::App* sub : app->get_subcommands([](CLI::App*) { return true; })) {
    words.push_back(sub->get_name());
    Walk(sub, words, visit);
    words.pop_back();
  }
}

std::string Joined(const std::vector<std::string>& words, const char* between) {
  std::string all;
  for (const std::string& word : words) absl::StrAppend(&all, all.empty() ? "" : between, word);
  return all;
}

// One function for bash, which zsh runs by bashcompinit: the commands that were said choose what may follow.
std::string BashCompletion(CLI::App* app) {
  std::string cases;
  Walk(app, {}, [&](CLI::App* at, const std::vector<std::string>& words) {
    std::vector<std::string> next = CommandNames(at);
    for (const std::string& option : OptionNames(at)) next.push_back(option);
    absl::StrAppend(&cases, "    '", Joined(words, " "), "') next='", Joined(next, " "), "' ;;\n");
  });
  std::string values = "    --output) next='edn json table raw' ;;\n";
  return absl::StrCat(
      "_stmctl() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} said='' word next='' i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    word=${COMP_WORDS[i]}\n"
      "    case \"${said:+$said }$word\" in\n",
      [&] {
        std::string known;
        Walk(app, {}, [&](CLI::App*, const std::vector<std::string>& words) {
          if (!words.empty()) absl::StrAppend(&known, known.empty() ? "" : "|", "'", Joined(words, " "), "'");
        });
        return absl::StrCat("      ", known, ") said=\"${said:+$said }$word\" ;;\n");
      }(),
      "    esac\n"
      "  done\n"
      "  case $said in\n",
      cases,
      "  esac\n"
      "  case $before in\n",
      values,
      "  esac\n"
      "  COMPREPLY=($(compgen -W \"$next\" -- \"$current\"))\n"
      "}\n"
      "complete -o default -F _stmctl stmctl\n");
}

std::string FishCompletion(CLI::App* app) {
  const auto quoted = [](std::string text) {
    for (size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 2) text.insert(at, 1, '\\');
    return absl::StrCat("'", text, "'");
  };
  std::string script = "complete -c stmctl -e\n";
  Walk(app, {}, [&](CLI::App* at, const std::vector<std::string>& words) {
    std::string when = words.empty() ? "__fish_use_subcommand" : "true";
    for (const std::string& word : words) absl::StrAppend(&when, "; and __fish_seen_subcommand_from ", word);
    std::vector<std::string> names = CommandNames(at);
    const std::string among = Joined(names, " ");
    for (const std::string& name : names) {
      const std::string unsaid = words.empty() ? when : absl::StrCat(when, "; and not __fish_seen_subcommand_from ", among);
      absl::StrAppend(&script, "complete -c stmctl -f -n ", quoted(unsaid), " -a ", name, " -d ",
                      quoted(at->get_subcommand(name)->get_description()), "\n");
    }
    for (const CLI::Option* option : OptionsOf(at)) {
      if (option->get_lnames().empty()) continue;
      absl::StrAppend(&script, "complete -c stmctl ", words.empty() ? "" : absl::StrCat("-n ", quoted(when), " "), "-l ",
                      option->get_lnames().front(), option->get_type_size_max() > 0 ? " -r" : "", " -d ",
                      quoted(option->get_description()), "\n");
    }
  });
  return script;
}

std::string Roff(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) {
      out += "\\&";
      out += c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string ManualPage(CLI::App* app) {
  std::string page = absl::StrCat(
      ".\\\" Made by: stmctl completion man\n.TH STMCTL 1 \"\" \"stmctl ", kVersion, "\"\n.SH NAME\n",
      "stmctl \\- the shell of stmd: refs, atoms, transactions, watches, the log\n.SH SYNOPSIS\n",
      ".B stmctl\n[options] command ...\n");
  const auto options = [&](CLI::App* at) {
    for (const CLI::Option* option : OptionsOf(at)) {
      std::string names = option->nonpositional() ? option->get_name(false, true) : option->get_name(true);
      if (option->get_type_size_max() > 0 && option->nonpositional())
        absl::StrAppend(&names, " ", option->get_type_name());
      names.erase(names.find_last_not_of(' ') + 1);
      absl::StrAppend(&page, ".TP\n.B ", Roff(names), "\n", Roff(option->get_description()), "\n");
    }
  };
  Walk(app, {}, [&](CLI::App* at, const std::vector<std::string>& words) {
    if (words.empty()) {
      absl::StrAppend(&page, ".SH OPTIONS\nThey may stand before or after the command.\n");
      options(at);
      absl::StrAppend(&page, ".SH COMMANDS\n");
      return;
    }
    if (!Runs(at)) return;  // a group: its commands follow
    std::string usage;
    for (const CLI::Option* option : at->get_options([](CLI::Option* o) { return o->get_positional(); })) {
      absl::StrAppend(&usage, " ", option->get_name(true));
    }
    absl::StrAppend(&page, ".SS ", Roff(absl::StrCat(Joined(words, " "), usage)), "\n", Roff(at->get_description()), ".\n");
    options(at);
    std::string footer = at->get_footer();
    footer.erase(0, footer.find_first_not_of('\n'));
    absl::StrAppend(&page, ".PP\n", Roff(footer), "\n");
  });
  absl::StrAppend(&page, ".SH VALUES AND EXIT CODES\n", Roff(std::string(kFooter).substr(1)), "\n.SH SEE ALSO\n",
                  "client/cli/README.md\n");
  return page;
}

absl::Status PrintCompletion(Shell& shell, const std::string& form) {
  Line line;
  Parser parser(&line);
  CLI::App* app = &parser.app();
  std::string text;
  if (form == "bash") {
    text = BashCompletion(app);
  } else if (form == "zsh") {
    text = absl::StrCat("autoload -U +X bashcompinit && bashcompinit\n", BashCompletion(app));
  } else if (form == "fish") {
    text = FishCompletion(app);
  } else if (form == "man") {
    text = ManualPage(app);
  } else {
    return absl::InvalidArgumentError(absl::StrCat(form, ": expected bash, zsh, fish or man"));
  }
  shell.io().out << text;
  return absl::OkStatus();
}

absl::Status StartRepl(Shell& shell, const Line& line) {
  std::vector<std::string> globals{"--address", line.addresses};
  if (!line.output.empty()) globals.insert(globals.end(), {"--output", line.output});
  if (!line.timeout.empty()) globals.insert(globals.end(), {"--timeout", line.timeout});
  if (!line.label.empty()) globals.insert(globals.end(), {"--label", line.label});
  if (line.json) globals.push_back("--json");
  Line none;
  Parser parser(&none);
  std::vector<std::string> words;
  Walk(&parser.app(), {}, [&](CLI::App* at, const std::vector<std::string>&) {
    for (const std::string& name : CommandNames(at)) words.push_back(name);
    for (const std::string& name : OptionNames(at)) words.push_back(name);
  });
  return Repl(shell, globals, words);
}

// The command that was reached: "log tail".
CLI::App* Reached(CLI::App* app, std::string* title) {
  for (;;) {
    std::vector<CLI::App*> chosen = app->get_subcommands();
    if (chosen.empty()) return app;
    app = chosen.front();
    absl::StrAppend(title, title->empty() ? "" : " ", app->get_name());
  }
}

std::string WithNearest(const std::string& what, const std::string& given, const std::vector<std::string>& known) {
  std::string nearest = Nearest(given, known);
  return absl::StrCat(what, " ", given, nearest.empty() ? "" : absl::StrCat(", did you mean ", nearest, "?"));
}

// What is wrong with a line that did not parse: what nobody knows is named first.
std::string UsageError(CLI::App& app, std::string* title, const std::string& parser_said) {
  CLI::App* reached = Reached(&app, title);
  std::vector<std::string> left = app.remaining(true);
  for (const std::string& one : left) {
    if (one.size() < 2 || one[0] != '-' || one == "--") continue;
    return WithNearest("no option", one.substr(0, one.find('=')), OptionNames(reached));
  }
  std::vector<std::string> commands = CommandNames(reached);
  if (!left.empty() && !commands.empty()) return WithNearest("no command", left.front(), commands);
  if (!left.empty()) return absl::StrCat("one argument too many: ", left.front());
  if (!commands.empty()) {
    std::string all;
    for (const std::string& name : commands) absl::StrAppend(&all, all.empty() ? "" : ", ", name);
    return absl::StrCat("expected a command: ", all);
  }
  return parser_said;
}

int Fail(Io& io, const std::string& title, const std::string& what, int code) {
  io.out.flush();
  io.err << "stmctl: " << title << (title.empty() ? "" : ": ") << what << std::endl;
  return code;
}

int Usage(Io& io, const std::string& title, const std::string& what) {
  const char* join = !what.empty() && what.back() == '?' ? " See" : ": see";
  return Fail(io, title, absl::StrCat(what, join, ": stmctl help", title.empty() ? "" : " ", title), kUsage);
}

// Of a command line that was never parsed: CLI11 shows the help of what was chosen instead.
int Help(Io& io, const std::vector<std::string>& words) {
  Line line;
  Parser parser(&line);
  CLI::App* at = &parser.app();
  std::string title;
  std::string before;
  for (const std::string& word : words) {
    std::vector<std::string> known = CommandNames(at);
    if (std::find(known.begin(), known.end(), word) == known.end()) {
      return Usage(io, title, WithNearest("no command", word, known));
    }
    absl::StrAppend(&before, before.empty() ? "" : " ", at->get_name());
    absl::StrAppend(&title, title.empty() ? "" : " ", word);
    at = at->get_subcommand(word);
  }
  io.out << at->help(before) << std::endl;
  return kOk;
}

absl::StatusOr<Globals> GlobalsOf(const Line& line, const Io& io) {
  Globals globals;
  for (size_t at = 0; at <= line.addresses.size();) {
    size_t comma = std::min(line.addresses.find(',', at), line.addresses.size());
    std::string address = line.addresses.substr(at, comma - at);
    address.erase(0, address.find_first_not_of(' '));
    address.erase(address.find_last_not_of(' ') + 1);
    if (!address.empty()) globals.addresses.push_back(std::move(address));
    at = comma + 1;
  }
  if (globals.addresses.empty()) {
    return absl::InvalidArgumentError("--address: empty: give host:port or unix:/path, or unset STM_ADDRESS");
  }
  globals.json = line.json;
  globals.label = line.label;
  if (!line.timeout.empty()) {
    absl::StatusOr<absl::Duration> timeout = ReadDuration(line.timeout, "--timeout");
    if (!timeout.ok()) return timeout.status();
    globals.timeout = *timeout;
  }
  if (line.output.empty()) {
    globals.output = io.out_is_terminal ? Output::kTable : Output::kEdn;
  } else if (line.output == "edn") {
    globals.output = Output::kEdn;
  } else if (line.output == "json") {
    globals.output = Output::kJson;
  } else if (line.output == "table") {
    globals.output = Output::kTable;
  } else if (line.output == "raw") {
    globals.output = Output::kRaw;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("--output ", line.output, ": expected edn, json, table or raw"));
  }
  return globals;
}

// -5 is a value, not an option: EDN and JSON skip the space that hides it from the parser.
void HideNegativeNumbers(std::vector<std::string>* arguments) {
  for (std::string& one : *arguments) {
    if (one == "--") return;
    if (one.size() > 1 && one[0] == '-' && std::isdigit(static_cast<unsigned char>(one[1]))) one.insert(0, " ");
  }
}

}  // namespace

int Run(std::vector<std::string> arguments, Io& io) {
  HideNegativeNumbers(&arguments);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  Line line;
  Parser parser(&line);
  CLI::App& app = parser.app();
  std::string title;
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    CLI::App* reached = Reached(&app, &title);
    std::vector<std::string> words;
    for (; reached->get_parent() != nullptr; reached = reached->get_parent()) words.insert(words.begin(), reached->get_name());
    return Help(io, words);
  } catch (const CLI::CallForVersion& version) {
    io.out << version.what() << std::endl;
    return kOk;
  } catch (const CLI::ParseError& error) {
    std::string what = UsageError(app, &title, error.what());
    return Usage(io, title, what);
  }
  CLI::App* reached = Reached(&app, &title);
  if (!line.run) {
    if (arguments.empty() && reached == &app) {
      io.err << app.help() << std::endl;
      return kUsage;
    }
    std::string none;
    return Usage(io, title, UsageError(app, &none, "expected a command"));
  }
  if (reached->get_name() == "help") return Help(io, line.help);
  absl::StatusOr<Globals> globals = GlobalsOf(line, io);
  if (!globals.ok()) return Usage(io, "", std::string(globals.status().message()));

  Shell shell(*std::move(globals), io);
  absl::Status status = line.run(shell);
  shell.printer().Finish();
  absl::Status flushed = shell.Flush();
  if (status.ok()) status = flushed;
  if (status.ok()) return shell.passed_on().value_or(kOk);
  return Fail(io, title, Explain(status), shell.passed_on().value_or(ExitOf(status)));
}

}  // namespace stm::cli
