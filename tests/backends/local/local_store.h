// A local coordinator over a MemoryDisk and a loop turned by hand, and short ways to say what it is to
// commit.
#ifndef STM_TESTS_BACKENDS_LOCAL_LOCAL_STORE_H_
#define STM_TESTS_BACKENDS_LOCAL_LOCAL_STORE_H_

#include <spdlog/spdlog.h>

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/local/local_coordinator.h"
#include "backends/local/log_format.h"
#include "backends/local/seal.h"
#include "engine/values/edn.h"
#include "tests/backends/coordinator_contract.h"
#include "tests/backends/inline_loop.h"
#include "tests/backends/local/memory_disk.h"
#include "tests/backends/replica.h"

namespace stm::local {

inline Value Edn(const std::string& text) { return ReadEdn(text).value(); }

inline LocalOptions SmallOptions() {
  LocalOptions options;
  options.prefill_bytes = 4096;
  options.ballast_bytes = 0;
  options.snapshot_bytes = 0;
  return options;
}

// A store that is opened, written, crashed and opened again.
class LocalStore {
 public:
  explicit LocalStore(LocalOptions options = SmallOptions()) : options_(std::move(options)) {}
  ~LocalStore() { Crash(); }

  absl::Status Open() {
    replica = std::make_unique<Replica>();
    LocalOptions options = options_;
    options.fatal = [this](absl::Status status) { fatal = status; };
    loop.Seed(++seed_);
    local = std::make_unique<LocalCoordinator>(&loop, &loop, &disk, options);
    absl::Status status = absl::UnknownError("never answered");
    local->Recover(replica.get(), [&status](absl::Status s) { status = s; });
    loop.Turn();
    return status;
  }
  // What Open says when it must fail, in full.
  std::string OpenFailure() {
    absl::Status status = Open();
    Crash();
    return status.ToString();
  }
  void Stop() {
    absl::Status status = absl::UnknownError("never answered");
    local->Stop([&status](absl::Status s) { status = s; });
    loop.Turn();
    REQUIRE(status.ok());
    local.reset();
  }
  // The process is gone; the disk keeps what was written.
  void Crash() {
    loop.Forget();
    local.reset();
  }
  void Reopen() {
    if (local) Stop();
    absl::Status status = Open();
    INFO(status);
    REQUIRE(status.ok());
  }

  engine::AppendResult Append(engine::Batch batch) {
    engine::AppendResult result;
    result.outcome = engine::AppendResult::Outcome::kLost;
    local->Append(batch, [&result, this, batch](engine::AppendResult r) {
      result = r;
      if (r.outcome != engine::AppendResult::Outcome::kCommitted) return;
      for (auto& commit : batch)
        REQUIRE(replica->Install(std::make_shared<engine::CommitRecord>(*commit)).ok());
    });
    loop.Turn();
    return result;
  }
  void Put(const std::string& name, Value value, uint64_t id = 0) {
    REQUIRE(Append({contract::Set(name, std::move(value), id)}).outcome ==
            engine::AppendResult::Outcome::kCommitted);
  }
  // As the engine gives it: the value that comes out, and the operation.
  void Apply(const std::string& name, const std::string& operation) {
    auto parsed = std::make_shared<engine::Operation>(engine::OperationFromEdnForm(Edn(operation)).value());
    auto outcome = engine::Apply(*parsed, replica->entries[name].value);
    auto commit = contract::Set(name, std::get<engine::Applied>(outcome).value);
    commit->changes[0].operation = parsed;
    REQUIRE(Append({commit}).outcome == engine::AppendResult::Outcome::kCommitted);
  }
  engine::Version Snapshot() {
    absl::StatusOr<engine::Version> version = absl::UnknownError("never answered");
    local->Snapshot([&version](absl::StatusOr<engine::Version> v) { version = v; });
    loop.Turn();
    INFO(version.status());
    REQUIRE(version.ok());
    return *version;
  }

  std::vector<std::string> Lines(const std::string& name) {
    std::vector<std::string> lines;
    std::string text = disk.bytes(name);
    for (size_t at = 0; at < text.size();) {
      size_t end = std::min(text.find('\n', at), text.size());
      lines.push_back(text.substr(at, end - at));
      at = end + 1;
    }
    return lines;
  }
  // Replaces the first `from` in the file.
  void Edit(const std::string& name, const std::string& from, const std::string& to) {
    std::string& text = disk.bytes(name);
    size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
  }

  MemoryDisk disk;
  InlineLoop loop;
  std::unique_ptr<Replica> replica;
  std::unique_ptr<LocalCoordinator> local;
  absl::Status fatal;

 private:
  LocalOptions options_;
  uint64_t seed_ = 100;
};

// What a test makes happen is no news.
inline const bool kQuiet = (spdlog::set_level(spdlog::level::off), true);

inline const std::string kFirstLog = "log-0000000000000000001.edn";

}  // namespace stm::local

#endif  // STM_TESTS_BACKENDS_LOCAL_LOCAL_STORE_H_
