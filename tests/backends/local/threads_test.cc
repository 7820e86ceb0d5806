// The local coordinator on real threads and a real file system: what TSan looks at.
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "backends/local/local_coordinator.h"
#include "backends/local/posix_disk.h"
#include "tests/backends/coordinator_contract.h"
#include "tests/backends/local/local_store.h"

namespace stm::local {
namespace {

// Threads that take tasks from one queue.
class Workers {
 public:
  explicit Workers(int count) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this] { Work(); });
  }
  ~Workers() {
    {
      absl::MutexLock hold(&mutex_);
      ending_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }
  void Add(engine::Task task) {
    absl::MutexLock hold(&mutex_);
    tasks_.push_back(std::move(task));
  }

 private:
  void Work() {
    for (;;) {
      engine::Task task;
      {
        absl::MutexLock hold(&mutex_);
        mutex_.Await(absl::Condition(
            +[](Workers* self) { return self->ending_ || !self->tasks_.empty(); }, this));
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }
  absl::Mutex mutex_;
  std::deque<engine::Task> tasks_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

class ThreadedLoop : public engine::Loop, public engine::Executor {
 public:
  absl::Duration Now() override { return absl::Now() - absl::UnixEpoch(); }
  Instant WallNow() override {
    int64_t nanos = absl::ToUnixNanos(absl::Now());
    return {nanos / 1'000'000'000, static_cast<int32_t>(nanos % 1'000'000'000)};
  }
  void Post(engine::Task task) override { loop_.Add(std::move(task)); }
  void At(absl::Duration, engine::Task) override { std::abort(); }
  uint64_t Random() override { return random_ += 0x9e3779b97f4a7c15u; }
  void Run(engine::Work, engine::Task task) override { workers_.Add(std::move(task)); }

 private:
  uint64_t random_ = 1;
  Workers workers_{3};
  Workers loop_{1};
};

TEST_CASE("local coordinator: appends, prefill, snapshots, drops and readers at once, on threads") {
  const char* base = std::getenv("TEST_TMPDIR");
  std::string directory = std::string(base != nullptr ? base : "/tmp") + "/threads-XXXXXX";
  REQUIRE(mkdtemp(directory.data()) != nullptr);
  auto disk = PosixDisk::Make(directory).value();
  LocalOptions options;
  options.segment_bytes = 64 << 10;
  options.snapshot_bytes = 128 << 10;
  options.prefill_bytes = 32 << 10;
  options.ballast_bytes = 1 << 20;
  options.log_keep_age = absl::ZeroDuration();
  std::atomic<bool> broken{false};
  options.fatal = [&](absl::Status) { broken = true; };
  constexpr int kBatches = 2000;
  constexpr int kInFlight = 3;

  Replica replica;
  std::map<std::string, Replica::Entry> entries;
  {
    LocalCoordinator* local = nullptr;
    std::unique_ptr<LocalCoordinator> owner;
    std::atomic<engine::Version> newest{0};
    std::atomic<bool> stopped{false};
    std::atomic<bool> recovered{false};
    int given = 0;
    int answered = 0;
    std::function<void()> give;
    {
      ThreadedLoop loop;
      owner = std::make_unique<LocalCoordinator>(&loop, &loop, disk.get(), options);
      local = owner.get();
      give = [&] {
        while (given < kBatches && given - answered < kInFlight) {
          engine::Batch batch;
          for (int i = 0; i < 4; ++i) {
            batch.push_back(contract::Set("/k" + std::to_string((given * 4 + i) % 300),
                                          Value::String("value " + std::to_string(given)),
                                          static_cast<uint64_t>(given * 4 + i + 1)));
          }
          ++given;
          local->Append(batch, [&, batch](engine::AppendResult result) {
            if (result.outcome != engine::AppendResult::Outcome::kCommitted) broken = true;
            for (auto& commit : batch) {
              if (!replica.Install(std::make_shared<engine::CommitRecord>(*commit)).ok()) broken = true;
            }
            newest = batch.back()->version;
            ++answered;
            replica.id_floor = newest;
            if (answered % 100 == 0) local->Trim(newest);
            give();
            if (answered == kBatches) {
              local->Stop([&](absl::Status s) {
                if (!s.ok()) broken = true;
                stopped = true;
              });
            }
          });
        }
      };
      loop.Post([&] {
        local->Recover(&replica, [&](absl::Status s) {
          if (!s.ok()) broken = true;
          recovered = true;
          give();
        });
      });
      const absl::Time deadline = absl::Now() + absl::Seconds(120);
      auto waiting = [&](const std::atomic<bool>& done) {
        return !done && !broken && absl::Now() < deadline;
      };
      while (waiting(recovered)) std::this_thread::yield();
      std::vector<std::thread> readers;
      std::atomic<int64_t> read{0};
      for (int i = 0; i < 2; ++i) {
        readers.emplace_back([&] {
          engine::Version last = 0;
          std::unique_ptr<engine::LogCursor> cursor;
          while (last < kBatches * 4 && !broken && absl::Now() < deadline) {
            if (cursor == nullptr) {
              engine::Version first = local->FirstVersion();
              auto opened = local->Open(std::max(first, last + 1));
              if (!opened.ok()) {
                if (!absl::IsOutOfRange(opened.status())) broken = true;
                continue;
              }
              cursor = *std::move(opened);
              last = std::max(first, last + 1) - 1;
            }
            auto items = cursor->Next(64 << 10);
            if (!items.ok()) {
              // Dropped under a reader that was too slow.
              if (!absl::IsOutOfRange(items.status())) broken = true;
              cursor.reset();
              continue;
            }
            for (const auto& item : *items) {
              if (item.commit->version <= last) broken = true;
              last = item.commit->version;
              ++read;
            }
          }
        });
      }
      readers.emplace_back([&] {
        while (!stopped && !broken && absl::Now() < deadline) {
          auto history = local->History("/k7", 0, 3);
          if (!history.ok() && !absl::IsOutOfRange(history.status())) broken = true;
        }
      });
      while (waiting(stopped)) std::this_thread::yield();
      for (std::thread& reader : readers) reader.join();
      CHECK(stopped);
      CHECK_FALSE(broken);
      CHECK(read > 0);
    }
    LocalStats stats = local->stats();
    CHECK(stats.snapshots > 1);
    CHECK(stats.segments_dropped > 0);
    CHECK(stats.commits == kBatches * 4);
    entries = replica.entries;
  }
  CHECK(Verify(disk.get(), {}).value().good());
  InlineLoop loop;
  Replica again;
  LocalCoordinator local(&loop, &loop, disk.get(), options);
  absl::Status status = absl::UnknownError("never answered");
  local.Recover(&again, [&](absl::Status s) { status = s; });
  loop.Turn();
  CHECK(status.ok());
  CHECK(again.entries == entries);
}

}  // namespace
}  // namespace stm::local
