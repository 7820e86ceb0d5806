// With the library's synchronous calls, for what is not measured.
#define THREADED
#include "tests/bench/raw_zookeeper.h"

#include <zookeeper/zookeeper.h>
#include <zookeeper/zookeeper_version.h>

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tests/bench/load.h"

namespace stm::bench {
namespace {

constexpr int kSessionTimeoutMs = 30'000;
constexpr int kLookUpAgainMs = 10'000;
constexpr char kRoot[] = "/raw";
constexpr char kLog[] = "/raw/log";
// Of a transaction in a log entry of ours: what the disjoint rows' take there, about.
constexpr int kLogBytes = 600;
constexpr size_t kDeletesAMulti = 500;
// A path with ten digits more, and its end.
constexpr int kCreatedBytes = 64;
constexpr int kNodesOfTransaction = 3;

void CheckDone(int rc, const std::string& what) {
  if (rc != ZOK) Fail(absl::StrCat("ZooKeeper: ", what, ": ", zerror(rc)));
}

// Sends the same multi again and again, on the versions that the one before left.
class Multi final : public Caller {
 public:
  // All outlive it. `name` is its own among the session's.
  Multi(zhandle_t* handle, absl::Mutex* sending, const std::string& name, int transactions)
      : handle_(handle), sending_(sending), value_(kValueBytes, 'v'), entry_(kLogBytes * transactions, 'e') {
    for (int i = 0; i < transactions * kNodesOfTransaction; ++i) {
      nodes_.push_back(absl::StrCat(kRoot, "/", name, "-", i));
      Make(nodes_.back());
    }
    created_.resize(kCreatedBytes);
    results_.resize(nodes_.size() + 1);
    stats_.resize(nodes_.size());
  }

  void Begin() override {
    ops_.resize(nodes_.size() + 1);
    // Checks first, as a daemon sends them.
    size_t op = 0;
    for (size_t i = 0; i < nodes_.size(); i += kNodesOfTransaction) {
      zoo_check_op_init(&ops_[op++], nodes_[i].c_str(), 0);
    }
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (i % kNodesOfTransaction == 0) continue;
      zoo_set_op_init(&ops_[op++], nodes_[i].c_str(), value_.data(), kValueBytes, version_, &stats_[i]);
    }
    zoo_create_op_init(&ops_[op++], kEntry.c_str(), entry_.data(), static_cast<int>(entry_.size()),
                       &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, created_.data(), kCreatedBytes);
    began_ = Now();
    // The library must not be called by two threads at once (ZOOKEEPER-4796).
    absl::MutexLock lock(sending_);
    CheckDone(zoo_amulti(handle_, static_cast<int>(op), ops_.data(), results_.data(), Answered, this),
              "multi");
  }

  // Of all sequential nodes that it made since it was last asked.
  std::vector<std::string> TakeMade() { return std::exchange(made_, {}); }

 private:
  static void Answered(int rc, const void* data) {
    auto* multi = static_cast<Multi*>(const_cast<void*>(data));
    CheckDone(rc, "multi");
    ++multi->version_;
    multi->made_.emplace_back(multi->created_.c_str());
    multi->Ended(multi->began_);
  }

  void Make(const std::string& path) {
    // A run before has it: what it holds is set anew, at a version that is known then.
    const int rc = zoo_delete(handle_, path.c_str(), -1);
    if (rc != ZNONODE) CheckDone(rc, path);
    CheckDone(
        zoo_create(handle_, path.c_str(), value_.data(), kValueBytes, &ZOO_OPEN_ACL_UNSAFE, 0, nullptr, 0),
        path);
  }

  static inline const std::string kEntry = absl::StrCat(kLog, "/e-");

  zhandle_t* const handle_;
  absl::Mutex* const sending_;
  const std::string value_;
  const std::string entry_;
  std::vector<std::string> nodes_;
  std::vector<zoo_op_t> ops_;
  std::vector<zoo_op_result_t> results_;
  std::vector<Stat> stats_;
  std::string created_;
  std::vector<std::string> made_;
  int32_t version_ = 0;
  double began_ = 0;
};

}  // namespace

class RawZooKeeper::Rep {
 public:
  explicit Rep(const std::string& connect) {
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    handle_ = zookeeper_init(connect.c_str(), nullptr, kSessionTimeoutMs, nullptr, nullptr, 0);
    if (handle_ == nullptr) Fail(absl::StrCat("ZooKeeper: no client for ", connect));
    // As backends/zookeeper/c_session.cc has it: else a good part of a multi is the looking up of servers'
    // names.
    zoo_set_servers_resolution_delay(handle_, kLookUpAgainMs);
    Until("ZooKeeper connected", [&] { return zoo_state(handle_) == ZOO_CONNECTED_STATE; });
    for (const char* path : {kRoot, kLog}) {
      const int rc = zoo_create(handle_, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, nullptr, 0);
      if (rc != ZNODEEXISTS) CheckDone(rc, path);
    }
  }
  ~Rep() { zookeeper_close(handle_); }

  Measured Multis(int transactions, int in_flight, double seconds) {
    std::vector<std::unique_ptr<Multi>>& multis = multis_[transactions];
    while (static_cast<int>(multis.size()) < in_flight) {
      multis.push_back(std::make_unique<Multi>(
          handle_, &sending_, absl::StrCat("of", transactions, "-", multis.size()), transactions));
    }
    Measured measured = ClosedLoop(multis, in_flight, kNoProcess, seconds);
    measured.rate *= transactions;
    std::vector<std::string> made;
    for (int i = 0; i < in_flight; ++i) {
      for (std::string& path : multis[static_cast<size_t>(i)]->TakeMade()) made.push_back(std::move(path));
    }
    Delete(made);
    return measured;
  }

 private:
  // Its servers are others': their CPU is nobody's row.
  static constexpr pid_t kNoProcess = -1;

  void Delete(const std::vector<std::string>& paths) {
    for (size_t from = 0; from < paths.size(); from += kDeletesAMulti) {
      const size_t count = std::min(kDeletesAMulti, paths.size() - from);
      std::vector<zoo_op_t> ops(count);
      std::vector<zoo_op_result_t> results(count);
      for (size_t i = 0; i < count; ++i) zoo_delete_op_init(&ops[i], paths[from + i].c_str(), 0);
      CheckDone(zoo_multi(handle_, static_cast<int>(count), ops.data(), results.data()), "deletes");
    }
  }

  zhandle_t* handle_ = nullptr;
  absl::Mutex sending_;
  std::map<int, std::vector<std::unique_ptr<Multi>>> multis_;  // by their transactions
};

RawZooKeeper::RawZooKeeper(const std::string& connect) : rep_(std::make_unique<Rep>(connect)) {}

RawZooKeeper::~RawZooKeeper() = default;

Measured RawZooKeeper::Multis(int transactions, int in_flight, double seconds) {
  return rep_->Multis(transactions, in_flight, seconds);
}

std::string RawZooKeeper::client_version() { return ZOO_VERSION; }

}  // namespace stm::bench
