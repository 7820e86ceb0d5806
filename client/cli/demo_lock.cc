// demo lock: a holder is paused for longer than its lock lasts, another is granted it and works, and the
// first wakes in the belief that nothing happened. What it writes under its fence is refused; without one it
// destroys the other's work.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <istream>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/demo.h"

namespace stm::cli {
namespace {

constexpr absl::Duration kOutageMax = absl::Seconds(10);
constexpr absl::Duration kHolderAnswerMax = absl::Seconds(30);
// B waits for the end of A's session; a daemon that stalls lets it last longer, never shorter.
constexpr absl::Duration kGrantSlack = absl::Seconds(30);
constexpr char kRuns[] = "/demo/lock/runs";
constexpr char kLabel[] = "demo lock";

std::string LockOf(absl::string_view run) { return absl::StrCat("/demo/lock/", run, "/lock"); }
std::string WorkOf(absl::string_view run) { return absl::StrCat("/demo/lock/", run, "/work"); }

// What A and B write.
constexpr char kByA[] = "A's work";
constexpr char kByB[] = "B's work";
constexpr char kLateFenced[] = "A's late work, under its fence";
constexpr char kLate[] = "A's late work";

// One write of the work, under a fence or none. The version.
absl::StatusOr<int64_t> Write(const Client& client, const std::string& run, const char* work, int64_t token) {
  Committed committed;
  TransactOptions options;
  options.label = kLabel;
  options.timeout = kHolderAnswerMax;
  options.committed = &committed;
  const auto ref = client.Ref<std::string>(WorkOf(run));
  absl::Status status = client.Transact(options, [&](stm::Tx& tx) {
    if (token != 0) tx.Fence(LockOf(run), token);
    tx.Set(ref, work);
  });
  if (!status.ok()) return status;
  return committed.version;
}

absl::StatusOr<Held> Acquire(const Client& client, const std::string& run, const char* owner,
                             absl::Duration wait, const Canceller& canceller = {}) {
  AcquireOptions options;
  options.owner = owner;
  options.wait = wait;
  options.label = kLabel;
  options.canceller = canceller;
  return client.Acquire(LockOf(run), options);
}

// ---- A: a process of its own, which is told one line a step and answers one. It knows its token and nothing
// of time.

// "ok 42", or "lost" and the message, or "failed" and it.
std::string Answer(const absl::StatusOr<int64_t>& did) {
  if (did.ok()) return absl::StrCat("ok ", *did);
  return absl::StrCat(IsLockLost(did.status()) ? "lost " : "failed ", Explain(did.status()));
}

absl::Status BeHolder(Shell& shell, const std::string& run, absl::Duration ttl) {
  absl::StatusOr<Client> client = shell.NewClient(ttl);
  if (!client.ok()) return client.status();
  absl::StatusOr<Held> held = Acquire(*client, run, "A", absl::ZeroDuration());
  if (!held.ok()) return held.status();
  const int64_t token = held->token();
  shell.io().out << Answer(token) << std::endl;
  std::string step;
  while (std::getline(shell.io().in, step)) {
    const char* work = step == "work" ? kByA : step == "late" ? kLateFenced : kLate;
    shell.io().out << Answer(Write(*client, run, work, step == "unfenced" ? 0 : token)) << std::endl;
  }
  return absl::OkStatus();
}

// A as this process has it. It ends with it.
class Holder {
 public:
  ~Holder() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait(nullptr, 0);
    }
    if (to_ >= 0) close(to_);
    if (from_ >= 0) close(from_);
  }

  absl::Status Start(const std::string& address, const std::string& run, const std::string& ttl) {
    std::vector<std::string> command{"stmctl",   "--address", address, "demo", "lock",
                                     "--holder", run,         "--ttl", ttl};
    std::vector<char*> argv;
    for (std::string& word : command) argv.push_back(word.data());
    argv.push_back(nullptr);
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0) return Failed("pipe", errno);
    to_ = in[1];
    if (pipe2(out, O_CLOEXEC) != 0) {
      const int error = errno;
      close(in[0]);
      return Failed("pipe", error);
    }
    from_ = out[0];
    pid_ = fork();
    const int error = errno;
    if (pid_ == 0) {
      // Only what is safe between fork and exec in a process of many threads.
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      setpgid(0, 0);  // a Ctrl-C is for who shows it
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      execv("/proc/self/exe", argv.data());
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    return pid_ > 0 ? absl::OkStatus() : Failed("fork", error);
  }

  void Tell(absl::string_view step) {
    const std::string line = absl::StrCat(step, "\n");
    // Who is gone does not answer: that is told by Hear. SIGPIPE would end us.
    struct sigaction ignore = {};
    struct sigaction before = {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, &before);
    [[maybe_unused]] ssize_t written = write(to_, line.data(), line.size());
    sigaction(SIGPIPE, &before, nullptr);
  }

  // Its next line.
  absl::StatusOr<std::string> Hear(const Interrupt& interrupt) {
    for (const absl::Time until = absl::Now() + kHolderAnswerMax;;) {
      if (const size_t end = heard_.find('\n'); end != std::string::npos) {
        std::string line = heard_.substr(0, end);
        heard_.erase(0, end + 1);
        return line;
      }
      if (interrupt.caught()) return absl::CancelledError("interrupted");
      if (absl::Now() > until)
        return absl::DeadlineExceededError(
            "A does not answer: --timeout does not help: see whether this machine hangs");
      pollfd ready = {from_, POLLIN, 0};
      if (poll(&ready, 1, 20) <= 0) continue;
      char bytes[512];
      const ssize_t got = read(from_, bytes, sizeof bytes);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0)
        return absl::UnavailableError("A ended by itself: its last words are on the standard error");
      heard_.append(bytes, static_cast<size_t>(got));
    }
  }

  // True: all of it stands still.
  bool Pause() {
    int status = 0;
    return kill(pid_, SIGSTOP) == 0 && Wait(&status, WUNTRACED) == pid_ && WIFSTOPPED(status);
  }
  void Resume() { kill(pid_, SIGCONT); }

 private:
  static absl::Status Failed(const char* call, int error) {
    return absl::UnknownError(absl::StrCat(call, ": ", std::strerror(error)));
  }
  pid_t Wait(int* status, int options) {
    pid_t ended;
    while ((ended = waitpid(pid_, status, options)) < 0 && errno == EINTR) {
    }
    return ended;
  }

  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  std::string heard_;
};

// ---- The demonstration

class LockDemo {
 public:
  LockDemo(Shell& shell, absl::Duration ttl) : shell_(shell), ttl_(ttl) {}

  absl::Status Open() {
    absl::StatusOr<std::string> address = DemoAddress(shell_);
    if (!address.ok()) return address.status();
    address_ = *std::move(address);
    absl::StatusOr<Client> client = DemoClient(address_, kOutageMax);
    if (!client.ok()) return client.status();
    client_ = std::make_unique<Client>(*std::move(client));
    TransactOptions options;
    options.label = kLabel;
    const auto runs = client_->Ref<int64_t>(kRuns, 0);
    absl::StatusOr<int64_t> run = client_->Transact(
        options, [&](stm::Tx& tx) { return tx.Alter(runs, [](int64_t n) { return n + 1; }); });
    if (!run.ok()) return run.status();
    run_ = absl::StrCat(*run);
    return absl::OkStatus();
  }

  absl::Status Go(const Interrupt& interrupt) {
    absl::Status status = holder_.Start(address_, run_, absl::FormatDuration(ttl_));
    if (!status.ok()) return status;
    absl::StatusOr<int64_t> token_a = Granted(interrupt);
    if (!token_a.ok()) return token_a.status();
    token_a_ = *token_a;
    Tell("A", "is granted the lock", {{"token", Value::Integer(token_a_)}});
    absl::StatusOr<Answered> did = Do("work", interrupt);
    if (!did.ok()) return did.status();
    if (did->word != "ok")
      return absl::UnavailableError(absl::StrCat("A could not write while it held the lock: ", did->text));
    Expect(did->version, kByA);
    Tell("A", "writes under its fence",
         {{"version", Value::Integer(did->version)}, {"work", Value::String(kByA)}});

    if (!holder_.Pause()) return absl::UnknownError("A does not stop: kill -STOP must be allowed here");
    const absl::Time paused = absl::Now();
    Tell("A", "is paused, by kill -STOP", {});
    status = Overtake(interrupt, paused);
    if (status.ok() && b_) status = Wake(interrupt);
    if (status.ok()) status = Check();
    return status;
  }

  Fields Result() const {
    return {{"lock", Value::String(LockOf(run_))},
            {"ttl-ms", Value::Integer(absl::ToInt64Milliseconds(ttl_))},
            {"token-a", Value::Integer(token_a_)},
            {"token-b", Value::Integer(token_b_)},
            {"fenced", shell_.printer().Word(refused_ ? "refused" : "not-refused")},
            {"in-log", Value::Integer(in_log_)}};
  }

  const Violations& violations() const { return violations_; }

 private:
  struct Answered {
    std::string word;  // ok, lost or failed
    std::string text;
    int64_t version = 0;
  };

  absl::StatusOr<Answered> Hear(const Interrupt& interrupt) {
    absl::StatusOr<std::string> line = holder_.Hear(interrupt);
    if (!line.ok()) return line.status();
    Answered answered;
    std::vector<std::string> parts = absl::StrSplit(*line, absl::MaxSplits(' ', 1));
    answered.word = parts[0];
    if (parts.size() > 1) answered.text = parts[1];
    if (answered.word == "ok" && !absl::SimpleAtoi(answered.text, &answered.version)) {
      return absl::InternalError(absl::StrCat("A said \"", *line, "\", which is no step's answer"));
    }
    return answered;
  }
  absl::StatusOr<Answered> Do(const char* step, const Interrupt& interrupt) {
    holder_.Tell(step);
    return Hear(interrupt);
  }
  absl::StatusOr<int64_t> Granted(const Interrupt& interrupt) {
    absl::StatusOr<Answered> answered = Hear(interrupt);
    if (!answered.ok()) return answered.status();
    return answered->version;
  }

  // B waits, is granted the lock and works.
  absl::Status Overtake(const Interrupt& interrupt, absl::Time paused) {
    absl::Status status;
    Crew crew;
    absl::StatusOr<Held> held = absl::CancelledError("interrupted");
    std::atomic<bool> done{false};
    crew.Add([&]() -> absl::StatusOr<Crew::Step> {
      held = Acquire(*client_, run_, "B", ttl_ + kGrantSlack, crew.canceller());
      done = true;
      return Crew::Step::kDone;
    });
    status = crew.Watch(interrupt, shell_.StreamDeadline(), [&] { return done.load(); });
    absl::Status ended = crew.Cancel();
    if (status.ok()) status = ended;
    if (status.ok()) status = held.status();
    if (IsLockBusy(status)) {
      violations_.Add(absl::StrCat("A has been still for ", absl::FormatDuration(absl::Now() - paused),
                                   ", its session lasts ", absl::FormatDuration(ttl_),
                                   ", and its lock is not granted to B"));
      return absl::OkStatus();
    }
    if (!status.ok()) return status;
    b_ = std::make_unique<Held>(*std::move(held));
    token_b_ = b_->token();
    Tell("B", "is granted the lock",
         {{"token", Value::Integer(token_b_)},
          {"after-ms", Value::Integer(absl::ToInt64Milliseconds(absl::Now() - paused))}});
    if (token_b_ <= token_a_) {
      violations_.Add(absl::StrCat("B's token is ", token_b_, ", A's was ", token_a_, ": tokens must grow"));
    }
    absl::StatusOr<int64_t> wrote = Write(*client_, run_, kByB, token_b_);
    if (!wrote.ok()) return wrote.status();
    Expect(*wrote, kByB);
    Tell("B", "writes under its fence", {{"version", Value::Integer(*wrote)}, {"work", Value::String(kByB)}});
    return absl::OkStatus();
  }

  // A goes on where it was.
  absl::Status Wake(const Interrupt& interrupt) {
    holder_.Resume();
    Tell("A", "wakes, and goes on as if nothing had been", {});
    absl::StatusOr<Answered> late = Do("late", interrupt);
    if (!late.ok()) return late.status();
    refused_ = late->word == "lost";
    if (refused_) {
      Tell("A", "writes under its fence: refused", {{"why", Value::String(late->text)}});
    } else if (late->word == "ok") {
      violations_.Add(absl::StrCat("A, who was paused past its session's end, wrote under its fence (token ",
                                   token_a_, ") at version ", late->version));
      Expect(late->version, kLateFenced);
    } else {
      return absl::UnavailableError(absl::StrCat("A's late write failed by something else: ", late->text));
    }
    absl::StatusOr<Answered> unfenced = Do("unfenced", interrupt);
    if (!unfenced.ok()) return unfenced.status();
    if (unfenced->word != "ok")
      return absl::UnavailableError(absl::StrCat("A's write without a fence failed: ", unfenced->text));
    Expect(unfenced->version, kLate);
    Tell("A", "writes without it: B's work is lost",
         {{"version", Value::Integer(unfenced->version)}, {"work", Value::String(kLate)}});
    return absl::OkStatus();
  }

  // The log has what was told, in that order, and nothing else.
  absl::Status Check() {
    absl::StatusOr<std::vector<Commit>> history = client_->Ref<std::string>(WorkOf(run_)).History();
    if (!history.ok()) return history.status();
    std::vector<Said> found;
    for (auto commit = history->rbegin(); commit != history->rend(); ++commit) {
      for (const Change& change : commit->changes) {
        const bool text = change.after.has_value() && change.after->is(Type::kString);
        found.push_back({commit->version, text ? change.after->text() : "no text"});
      }
    }
    in_log_ = static_cast<int64_t>(found.size());
    for (size_t i = 0; i < std::max(found.size(), said_.size()); ++i) {
      if (i < found.size() && i < said_.size() && found[i].version == said_[i].version &&
          found[i].work == said_[i].work)
        continue;
      violations_.Add(absl::StrCat("the log has, in ", WorkOf(run_), ", ",
                                   i < found.size() ? found[i].Text() : "no more", ", and what was told is ",
                                   i < said_.size() ? said_[i].Text() : "no more"));
      break;
    }
    return absl::OkStatus();
  }

  struct Said {
    int64_t version = 0;
    std::string work;
    std::string Text() const { return absl::StrCat("\"", work, "\" at version ", version); }
  };
  void Expect(int64_t version, const char* work) { said_.push_back({version, work}); }

  void Tell(const char* who, const char* what, const Fields& more) {
    Fields row{{"who", Value::String(who)}, {"does", Value::String(what)}};
    std::string line = absl::StrCat(who, " ", what);
    for (const auto& [name, value] : more) {
      row.emplace_back(name, value);
      absl::StrAppend(&line, "  ", name, " ", ToEdn(value));
    }
    shell_.printer().Line({line}, row);
    shell_.io().out.flush();
  }

  Shell& shell_;
  const absl::Duration ttl_;
  std::string address_;
  std::unique_ptr<Client> client_;  // B's
  std::unique_ptr<Held> b_;
  Holder holder_;
  std::string run_;
  int64_t token_a_ = 0;
  int64_t token_b_ = 0;
  bool refused_ = false;
  int64_t in_log_ = 0;
  std::vector<Said> said_;
  Violations violations_;
};

}  // namespace

absl::Status DemoLock(Shell& shell, const DemoLockOptions& options) {
  absl::StatusOr<absl::Duration> ttl = ReadDuration(options.ttl, "--ttl");
  if (!ttl.ok()) return ttl.status();
  if (!options.holder.empty()) return BeHolder(shell, options.holder, *ttl);
  Interrupt interrupt;
  LockDemo demo(shell, *ttl);
  absl::Status opened = demo.Open();
  if (!opened.ok()) return opened;
  absl::Status ended = demo.Go(interrupt);
  return Conclude(shell, demo.Result(), interrupt, ended, demo.violations());
}

}  // namespace stm::cli
