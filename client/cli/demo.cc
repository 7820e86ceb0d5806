#include "client/cli/demo.h"

#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace stm::cli {
namespace {

constexpr absl::Duration kLookEvery = absl::Milliseconds(20);
// Of one message; how many there are is said.
constexpr size_t kViolationsTold = 3;

volatile sig_atomic_t g_caught = 0;

void Catch(int signal) { g_caught = signal; }

}  // namespace

Interrupt::Interrupt() {
  g_caught = 0;
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before;
    sigaction(signal, nullptr, &before);
    if (before.sa_handler == SIG_IGN) continue;  // nohup
    struct sigaction action = {};
    action.sa_handler = Catch;
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    sigaction(signal, &action, nullptr);
    before_.emplace_back(signal, before);
  }
}

Interrupt::~Interrupt() {
  for (const auto& [signal, before] : before_) sigaction(signal, &before, nullptr);
  if (caught()) raise(g_caught);
}

bool Interrupt::caught() const { return g_caught != 0; }

void Interrupt::Forget() { g_caught = 0; }

void Violations::Add(std::string what) {
  absl::MutexLock lock(&mutex_);
  if (first_.size() < kViolationsTold) first_.push_back(std::move(what));
  ++count_;
}

bool Violations::none() const {
  absl::MutexLock lock(&mutex_);
  return count_ == 0;
}

absl::Status Violations::ToStatus() const {
  absl::MutexLock lock(&mutex_);
  if (count_ == 0) return absl::OkStatus();
  std::string text = absl::StrCat("broken: ", absl::StrJoin(first_, "; "));
  const int64_t more = count_ - static_cast<int64_t>(first_.size());
  if (more > 0) absl::StrAppend(&text, "; and ", more, " more");
  return absl::DataLossError(text);
}

Ledger::Ledger(std::string what, std::string did, int64_t numbers_max)
    : what_(std::move(what)), did_(std::move(did)), numbers_max_(numbers_max) {}

absl::Status Ledger::Told(int64_t number, const absl::Status& status, int64_t version, Violations* violations) {
  absl::MutexLock lock(&mutex_);
  if (status.ok()) {
    Acknowledge(number, version, violations);
    return absl::OkStatus();
  }
  if (!IsCommitUnknown(status)) return status;
  doubts_.emplace_back(number, InfoOf(status).outcome_word);
  ++doubted_;
  return absl::OkStatus();
}

void Ledger::Acknowledge(int64_t number, int64_t version, Violations* violations) {
  if (number < 0 || number >= numbers_max_) {
    violations->Add(absl::StrCat(what_, " ", number, " was ", did_, " at version ", version, ", and nobody made it"));
    return;
  }
  if (number >= static_cast<int64_t>(lines_.size())) lines_.resize(static_cast<size_t>(number) + 1);
  Line& line = lines_[static_cast<size_t>(number)];
  if (line.told > 0) {
    violations->Add(absl::StrCat(what_, " ", number, " was ", did_, " twice: callers were told of versions ", line.told,
                                 " and ", version));
    return;
  }
  line.told = version;
  ++acknowledged_;
}

int64_t Ledger::acknowledged() const {
  absl::MutexLock lock(&mutex_);
  return acknowledged_;
}

int64_t Ledger::doubted() const {
  absl::MutexLock lock(&mutex_);
  return doubted_;
}

absl::Status Ledger::Settle(const Client& client, Violations* violations) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [number, word] : doubts_) {
    absl::StatusOr<std::optional<int64_t>> version = client.Outcome(word);
    if (version.ok()) {
      if (version->has_value()) Acknowledge(number, **version, violations);
    } else if (IsCommitUnknown(version.status())) {
      if (number >= static_cast<int64_t>(lines_.size())) lines_.resize(static_cast<size_t>(number) + 1);
      lines_[static_cast<size_t>(number)].told = kUnknown;
    } else {
      return version.status();
    }
  }
  doubts_.clear();
  return absl::OkStatus();
}

void Ledger::Found(int64_t number, int64_t version, Violations* violations) {
  absl::MutexLock lock(&mutex_);
  const bool known = number >= 0 && number < static_cast<int64_t>(lines_.size());
  if (!known || lines_[static_cast<size_t>(number)].told == kUnheard) {
    violations->Add(absl::StrCat("the log has ", what_, " ", number, " at version ", version,
                                 ", which no caller was told was ", did_));
    return;
  }
  Line& line = lines_[static_cast<size_t>(number)];
  if (line.found) {
    violations->Add(absl::StrCat(what_, " ", number, " is in the log twice, the second time at version ", version));
  } else if (line.told > 0 && line.told != version) {
    violations->Add(absl::StrCat(what_, " ", number, " is in the log at version ", version, ", its caller was told ",
                                 line.told));
  }
  line.found = true;
}

void Ledger::Close(Violations* violations) {
  absl::MutexLock lock(&mutex_);
  for (size_t number = 0; number < lines_.size(); ++number) {
    const Line& line = lines_[number];
    if (line.told <= 0 || line.found) continue;
    violations->Add(absl::StrCat(what_, " ", number, " was ", did_, ", said the answer, at version ", line.told,
                                 ", and is not in the log"));
  }
}

Crew::~Crew() { Cancel().IgnoreError(); }

void Crew::Fail(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  // What was cancelled did not fail.
  if (failed_.ok() && !canceller_.cancelled()) failed_ = status;
  stopping_ = true;
}

void Crew::Add(std::function<absl::StatusOr<Step>()> step) {
  threads_.emplace_back([this, step = std::move(step)] {
    while (!stopping()) {
      absl::StatusOr<Step> done = step();
      if (!done.ok()) return Fail(done.status());
      if (*done == Step::kDone) return;
    }
  });
}

absl::Status Crew::Watch(const Interrupt& interrupt, absl::Time deadline, const std::function<bool()>& look) {
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(&stopping_), kLookEvery);
      if (stopping_) return failed_;
    }
    if (interrupt.caught()) return absl::CancelledError("interrupted");
    if (absl::Now() > deadline) return absl::DeadlineExceededError("--timeout: it has passed");
    if (look()) return absl::OkStatus();
  }
}

absl::Status Crew::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  absl::MutexLock lock(&mutex_);
  return failed_;
}

absl::Status Crew::Cancel() {
  canceller_.Cancel();
  return Stop();
}

absl::StatusOr<std::string> DemoAddress(Shell& shell) {
  absl::StatusOr<v1::Header> header = shell.daemon().Hello(shell.CallDeadline());
  if (!header.ok()) return header.status();
  return absl::StrJoin(shell.globals().addresses, ",");
}

absl::StatusOr<Client> DemoClient(const std::string& address, absl::Duration unavailable_timeout) {
  ConnectOptions options;
  options.address = address;
  options.client_name = ClientName();
  options.unavailable_timeout = unavailable_timeout;
  options.warn = [](std::string_view) {};  // conflicts are what is shown, and counted
  return Connect(options);
}

absl::StatusOr<std::vector<Client>> DemoClients(const std::string& address, absl::Duration unavailable_timeout,
                                                int64_t count) {
  std::vector<Client> clients;
  for (int64_t i = 0; i < count; ++i) {
    absl::StatusOr<Client> client = DemoClient(address, unavailable_timeout);
    if (!client.ok()) return client.status();
    clients.push_back(*std::move(client));
  }
  return clients;
}

TransactOptions DemoTransaction(Shell& shell, const Crew& crew, const char* label) {
  TransactOptions options;
  options.canceller = crew.canceller();
  options.label = shell.globals().label.empty() ? label : shell.globals().label;
  return options;
}

absl::Status Conclude(Shell& shell, Fields row, Interrupt& interrupt, const absl::Status& ended,
                      const Violations& violations) {
  if (!violations.none()) {
    row.emplace_back("invariants", shell.printer().Word("broken"));
  } else if (ended.ok()) {
    row.emplace_back("invariants", shell.printer().Word("held"));
  } else if (interrupt.caught()) {
    row.emplace_back("interrupted", Value::Boolean(true));
  }
  shell.printer().Sheet(row);
  if (!violations.none()) {
    interrupt.Forget();
    return violations.ToStatus();
  }
  if (!interrupt.caught()) return ended;
  // The process ends by the signal: what was printed must be out by then.
  shell.printer().Finish();
  return shell.Flush();
}

}  // namespace stm::cli
