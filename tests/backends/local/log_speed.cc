// What a line costs: printed and summed, written in batches of 18, recovered from a file, seconds and
// microseconds a commit. A commit here is two writes of 100 bytes and an id, about 370 bytes of text. The
// directory is removed.
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backends/local/local_coordinator.h"
#include "backends/local/log_format.h"
#include "backends/local/posix_disk.h"
#include "engine/engine.h"
#include "tests/backends/inline_loop.h"

namespace stm::local {
namespace {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Takes what it is fed and keeps none of it.
class Nothing : public engine::Sink {
 public:
  void InstallImage(engine::ImagePart) override {}
  void EndImage(engine::Version, Instant, engine::Version) override {}
  void RaiseIdFloor(engine::Version) override {}
  absl::Status Install(std::shared_ptr<engine::CommitRecord> commit) override {
    ++commits;
    return absl::OkStatus();
  }
  std::unique_ptr<engine::Image> TakeImage() override { return nullptr; }
  int64_t commits = 0;
};

int Main(int argc, char** argv) {
  const int64_t commits = argc > 1 ? std::atoll(argv[1]) : 1'000'000;
  std::vector<std::shared_ptr<engine::CommitRecord>> records;
  auto meta = std::make_shared<engine::Meta>();
  meta->label = "bench";
  for (int i = 0; i < 1024; ++i) {
    auto commit = std::make_shared<engine::CommitRecord>();
    commit->at = Instant{1795316400 + i / 100, (i % 1000) * 1000};
    commit->transaction_id = Uuid{static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15u, 77};
    commit->meta = meta;
    for (int k = 0; k < 2; ++k) {
      engine::EntryChange change;
      change.name = "/bench/key-" + std::to_string(2 * i + k);
      change.value = Value::String(std::string(98, static_cast<char>('a' + (i + k) % 26)));
      commit->changes.push_back(std::move(change));
    }
    records.push_back(std::move(commit));
  }
  {
    LinePrinter printer;
    RootedNames rooted;
    std::string buffer;
    const int rounds = 500;
    double begin = Seconds();
    for (int round = 0; round < rounds; ++round) {
      buffer.clear();
      for (const auto& commit : records) printer.Commit(*commit, 1, &rooted, &buffer);
    }
    double each = (Seconds() - begin) / rounds / static_cast<double>(records.size());
    std::printf("print and sum: %.3f us a commit of %zu bytes\n", each * 1e6, buffer.size() / records.size());
  }

  std::string pattern = "/tmp/log-speed-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) return 1;
  InlineLoop loop;
  LocalOptions options;
  options.snapshot_bytes = 0;
  {
    auto disk = PosixDisk::Make(pattern).value();
    options.canaries.skip_sync = true;  // the line's own cost, not the disk's
    LocalCoordinator local(&loop, &loop, disk.get(), options);
    Nothing sink;
    local.Recover(&sink, [](absl::Status) {});
    loop.Turn();
    double begin = Seconds();
    constexpr int64_t kBatch = 18;
    for (int64_t i = 0; i < commits;) {
      engine::Batch batch;
      for (int64_t k = 0; k < kBatch && i < commits; ++k, ++i) {
        batch.push_back(records[static_cast<size_t>(i) % records.size()]);
        batch.back()->transaction_id = Uuid{static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15u, 77};
      }
      local.Append(std::move(batch), [](engine::AppendResult) {});
      loop.Turn();
    }
    double seconds = Seconds() - begin;
    std::printf("append, no sync: %.3f us a commit\n", seconds / static_cast<double>(commits) * 1e6);
    local.Stop([](absl::Status) {});
    loop.Turn();
  }
  {
    auto disk = PosixDisk::Make(pattern).value();
    LocalCoordinator local(&loop, &loop, disk.get(), options);
    Nothing sink;
    absl::Status status;
    double begin = Seconds();
    local.Recover(&sink, [&](absl::Status s) { status = s; });
    loop.Turn();
    std::printf("recover, one thread, nothing installed: %lld commits in %.2f s (%s)\n",
                static_cast<long long>(sink.commits), Seconds() - begin, status.ToString().c_str());
    local.Stop([](absl::Status) {});
    loop.Turn();
  }
  {
    auto disk = PosixDisk::Make(pattern).value();
    LocalCoordinator local(&loop, &loop, disk.get(), options);
    engine::Engine engine(&loop, &loop, &local, &local, engine::Options());
    absl::Status status;
    double begin = Seconds();
    engine.Start([&](absl::Status s) { status = s; });
    loop.Turn();
    engine::Status reached = engine.GetStatus();
    std::printf("recover, one thread, into the engine: version %lld, %lld ids, in %.2f s (%s)\n",
                static_cast<long long>(reached.installed), static_cast<long long>(reached.stats.ids),
                Seconds() - begin, status.ToString().c_str());
    local.Stop([](absl::Status) {});
    loop.Turn();
    const std::vector<std::string> names = disk->List().value();
    for (const std::string& name : names) disk->Remove(name).IgnoreError();
  }
  rmdir(pattern.c_str());
  return 0;
}

}  // namespace
}  // namespace stm::local

int main(int argc, char** argv) { return stm::local::Main(argc, argv); }
