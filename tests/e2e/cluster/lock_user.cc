// lock_user NUMBER SEED ADDRESSES: a program that takes locks, believes in them and commits under them until
// SIGTERM, and writes what it saw as lines of a history (tests/checkers) to standard output. It may be
// killed, or stand still, at any moment. Other lines begin with ";".

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/values/value.h"
#include "stm/client.h"
#include "tests/checkers/history.h"
#include "tests/e2e/kill/caller.h"

namespace stm::e2e {
namespace {

// Of its session.
constexpr absl::Duration kTtl = absl::Seconds(2);
constexpr absl::Duration kAcquireTimeout = absl::Seconds(30);
constexpr int64_t kLocks = 4;
constexpr int64_t kHoldMsMax = 30;
// Beyond its TTL, whatever befalls its daemon meanwhile.
const int64_t kLongHoldMsMax = 2 * absl::ToInt64Milliseconds(kTtl);
constexpr int64_t kLongHoldOneIn = 20;
constexpr std::chrono::milliseconds kBetweenLooks(3);

std::atomic<bool> stop{false};

// In one piece, so that who is killed leaves no half of a line.
void Print(const std::string& line) {
  const std::string whole = line + "\n";
  if (write(STDOUT_FILENO, whole.data(), whole.size()) < 0) exit(2);
}

class LockUser {
 public:
  LockUser(int64_t number, uint64_t seed, Client client)
      : number_(number), random_(seed), client_(std::move(client)) {}

  // False: a call failed in a way that no fault explains.
  bool Run() {
    while (!stop) {
      if (!Turn()) return false;
    }
    return true;
  }

 private:
  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  bool Turn() {
    const std::string lock = Below(2) == 0 ? "/hot" : absl::StrCat("/cool/", Below(kLocks));
    AcquireOptions options;
    options.shared = Below(3) == 0;
    options.timeout = kAcquireTimeout;
    const int64_t patience = Below(3);
    if (patience < 2) options.wait = patience * absl::Milliseconds(200);
    const absl::StatusOr<Session> before = client_.OpenSession();
    if (!before.ok()) return Explained("open session", before.status());
    absl::StatusOr<Held> held = client_.Acquire(lock, options);
    if (!held.ok()) return Explained("acquire", held.status());
    // By then the one that it is held by may be over, and this be the next.
    const absl::StatusOr<Session> session = client_.OpenSession();
    if (!session.ok()) return Explained("open session", session.status());
    check::Belief belief;
    belief.client = number_;
    belief.session = session->id();
    belief.lock = lock;
    belief.mode = options.shared ? check::LockMode::kShared : check::LockMode::kExclusive;
    belief.token = held->token();
    const bool known = before->id() == session->id();
    const check::Time until =
        Clock() + 1'000'000 * Below(Below(kLongHoldOneIn) == 0 ? kLongHoldMsMax : kHoldMsMax);
    bool commits = !options.shared;
    do {
      if (known) Look(*held, &belief);
      if (std::exchange(commits, false) && !CommitUnder(*held)) return false;
      std::this_thread::sleep_for(kBetweenLooks);
    } while (Clock() < until && !stop);
    if (known) Look(*held, &belief);
    return Explained("release", held->Release());
  }

  // At the moment before it asked it believed in it, if it is not lost now.
  static void Look(const Held& held, check::Belief* belief) {
    const check::Time now = Clock();
    if (held.lost()) return;
    if (belief->from == 0) belief->from = now;
    belief->until = now;
    Print(check::ToEdnLine(*belief));
  }

  // A late one is refused, whatever the clock of whoever sends it says.
  bool CommitUnder(const Held& held) {
    Committed committed;
    TransactOptions options;
    options.committed = &committed;
    options.timeout = kAcquireTimeout;
    check::Transaction transaction;
    transaction.client = number_;
    transaction.invoked = Clock();
    const absl::Status status = client_.Transact(options, [&](Tx& tx) {
      tx.Fence(held);
      tx.Set(client_.Ref<int64_t>(absl::StrCat("/guarded", held.name())), held.token());
    });
    if (!status.ok()) return Explained("commit", status);
    transaction.id = *ParseUuid(committed.transaction_id);
    transaction.fences.push_back({held.name(), held.token()});
    check::Answer answer;
    answer.verdict = check::Answer::Verdict::kCommitted;
    answer.at = Clock();
    answer.version = committed.version;
    transaction.answers.push_back(std::move(answer));
    Print(check::ToEdnLine(transaction));
    return true;
  }

  bool Explained(const char* what, const absl::Status& status) {
    if (status.ok()) return true;
    // Somebody has it, it was lost, or no daemon was there in time.
    const bool explained = IsLockBusy(status) || IsLockLost(status) || IsSessionExpired(status) ||
                           absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
                           IsCommitUnknown(status);
    Print(absl::StrCat("; ", what, ": ", status.ToString()));
    return explained;
  }

  const int64_t number_;
  std::mt19937_64 random_;
  Client client_;
};

int Main(int argc, char** argv) {
  int64_t number = 0;
  uint64_t seed = 0;
  if (argc != 4 || !absl::SimpleAtoi(argv[1], &number) || !absl::SimpleAtoi(argv[2], &seed)) {
    fprintf(stderr, "usage: lock_user NUMBER SEED ADDRESSES\n");
    return 2;
  }
  signal(SIGTERM, [](int) { stop = true; });
  ConnectOptions options;
  options.address = argv[3];
  options.client_name = absl::StrCat("lock_user ", number);
  options.session_ttl = kTtl;
  options.unavailable_timeout = kAcquireTimeout;
  options.warn = [](std::string_view) {};
  absl::StatusOr<Client> client = Connect(options);
  if (!client.ok()) {
    Print(absl::StrCat("; connect: ", client.status().ToString()));
    return 1;
  }
  return LockUser(number, seed, *std::move(client)).Run() ? 0 : 1;
}

}  // namespace
}  // namespace stm::e2e

int main(int argc, char** argv) { return stm::e2e::Main(argc, argv); }
