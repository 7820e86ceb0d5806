// The archive of a cluster's log, and what ZooKeeper's log keeps for it.
#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "backends/local/log_writer.h"
#include "backends/local/recovery.h"
#include "backends/local/seal.h"
#include "backends/zookeeper/archiver.h"
#include "backends/zookeeper/kept_log.h"
#include "tests/backends/coordinator_contract.h"
#include "tests/backends/replica.h"
#include "tests/backends/zookeeper/sea.h"

namespace stm::zookeeper {
namespace {

using Catch::Matchers::Contains;
using engine::Version;
using Outcome = engine::AppendResult::Outcome;

// A daemon that commits what it is told, and may have an archive.
struct Writer {
  Writer(Sea* sea, const std::string& name, sim::SimDrive* drive = nullptr, CleanerOptions cleaner = {},
         Canaries canaries = {})
      : sea(sea), ship(sea, name, canaries, cleaner, {}, drive) {
    Start();
  }

  void Start() {
    replica = Replica();
    std::optional<absl::Status> status;
    ship.coordinator->Recover(&replica, [&](absl::Status s) { status = std::move(s); });
    REQUIRE(sea->Run([&] { return status.has_value(); }));
    INFO(*status);
    REQUIRE(status->ok());
  }
  // kill -9
  void Restart() {
    ship.Sink();
    ship.Make();
    Start();
  }
  // Its number is its id, and its record.
  void Commit(int64_t number) {
    std::optional<Outcome> outcome;
    // Lost to what another has committed just before, it goes again.
    while (outcome != Outcome::kCommitted) {
      auto commit = contract::Set(absl::StrCat("/n/", number % 7), Value::Integer(number),
                                  static_cast<uint64_t>(number));
      commit->records = {Value::Tagged("t.Made", Value::Integer(number))};
      outcome = std::nullopt;
      ship.coordinator->Append({commit}, [&](engine::AppendResult result) { outcome = result.outcome; });
      REQUIRE(sea->Run([&] { return outcome.has_value(); }));
      REQUIRE((outcome == Outcome::kCommitted || outcome == Outcome::kLost));
    }
  }
  ArchiveStats stats() { return *ship.coordinator->archive_stats(); }
  absl::Status CatchUp() {
    std::optional<absl::Status> told;
    ship.coordinator->log()->CatchUp([&](absl::Status status) { told = std::move(status); });
    REQUIRE(sea->Run([&] { return told.has_value(); }));
    return *told;
  }
  // The numbers of all that is read from `from` on, once all that is installed can be.
  std::vector<int64_t> Read(Version from = 0) {
    const absl::Status status = CatchUp();
    INFO(status);
    REQUIRE(status.ok());
    std::vector<int64_t> numbers;
    Version last = 0;
    for (const auto& item : contract::ReadAll(*ship.coordinator->log(), from)) {
      CHECK(item.commit->version > last);
      last = item.commit->version;
      const auto number = static_cast<int64_t>(item.commit->transaction_id->low);
      CHECK(item.commit->records == std::vector<Value>{Value::Tagged("t.Made", Value::Integer(number))});
      CHECK(item.commit->changes[0].value == Value::Integer(number));
      numbers.push_back(number);
    }
    return numbers;
  }
  void Wait(absl::Duration time) {
    REQUIRE(sea->Run([this, until = sea->world.Now() + time] { return sea->world.Now() >= until; }));
  }

  Sea* const sea;
  Ship ship;
  Replica replica;
};

std::vector<int64_t> FromTo(int64_t first, int64_t last) {
  std::vector<int64_t> numbers;
  for (int64_t number = first; number <= last; ++number) numbers.push_back(number);
  return numbers;
}

// Small enough that a few commits are too much.
CleanerOptions Small() {
  CleanerOptions cleaner;
  cleaner.every = absl::Milliseconds(10);
  cleaner.log_bytes_max = 8 << 10;
  cleaner.log_batches_min = 4;
  return cleaner;
}

TEST_CASE("archive: every commit is written once and in order, whoever made it, and after restarts") {
  Sea sea(1);
  sim::SimDrive drive(&sea.world.chance());
  Writer one(&sea, "one"), two(&sea, "two", &drive);
  int64_t number = 0;
  while (number < 60) {
    ++number;
    (number % 3 == 0 ? two : one).Commit(number);
  }
  CHECK(two.Read() == FromTo(1, 60));
  CHECK(two.stats().commits == 60);
  const Version first = two.ship.coordinator->log()->FirstVersion();

  // Killed, and what others commit meanwhile; with the power lost too.
  for (int life = 0; life < 4; ++life) {
    two.ship.Sink();
    if (life % 2 == 1) drive.PowerLoss();
    const int64_t until = number + 20;
    while (number < until) one.Commit(++number);
    two.ship.Make();
    two.Start();
    two.Commit(++number);
    CHECK(two.Read() == FromTo(1, number));
    CHECK(two.stats().gaps == 0);
    CHECK(two.ship.coordinator->log()->FirstVersion() == first);
  }

  // Its files are a log of several segments; a stopped one ends with a line of its own.
  bool stopped = false;
  two.ship.coordinator->StopArchive([&](absl::Status) { stopped = true; });
  REQUIRE(sea.Run([&] { return stopped; }));
  two.ship.Sink();
  const std::unique_ptr<local::Disk> disk = drive.Plug();
  const absl::StatusOr<local::VerifyReport> report = local::Verify(disk.get(), {});
  REQUIRE(report.ok());
  CHECK(report->files.size() > 2);
  CHECK(report->good());
  int64_t commits = 0;
  for (const auto& file : report->files) {
    INFO(file.name << ": " << file.problem);
    CHECK(file.problem == "");
    commits += file.commits;
  }
  CHECK(commits == number);
  CHECK_THAT(drive.Contents()[report->files.back().name], Contains("{:stop "));
}

TEST_CASE("archive: one that begins late begins with the oldest commit that ZooKeeper keeps") {
  Sea sea(1);
  sim::SimDrive drive(&sea.world.chance());
  Writer one(&sea, "one");
  for (int64_t number = 1; number <= 50; ++number) one.Commit(number);
  Writer two(&sea, "two", &drive);
  one.Commit(51);
  one.Commit(52);
  REQUIRE(sea.Run([&] { return two.stats().commits == 52; }));
  CHECK(two.Read() == FromTo(1, 52));
  CHECK(two.stats().gaps == 0);
}

TEST_CASE("archive: what was trimmed before it was written is a gap, told, and never read past") {
  Sea sea(1);
  sim::SimDrive drive(&sea.world.chance());
  Writer one(&sea, "one", nullptr, Small());
  auto two = std::make_unique<Writer>(&sea, "two", &drive, Small());
  int64_t number = 0;
  while (number < 10) one.Commit(++number);
  REQUIRE(sea.Run([&] { return two->stats().commits == 10; }));
  const Version before = two->stats().version;
  const std::vector<std::string> names = drive.Names();
  two->ship.Sink();
  // Nobody waits for one that is gone.
  while (one.ship.coordinator->cleaner().trimmed() < 20) {
    one.Commit(++number);
    one.Wait(absl::Milliseconds(30));
  }
  two->ship.Make();
  two->Start();
  two->Commit(++number);
  std::vector<int64_t> read = two->Read();
  CHECK(two->stats().gaps == 1);
  REQUIRE(!read.empty());
  CHECK(read.back() == number);
  CHECK(read.front() > 10);
  CHECK(read == FromTo(read.front(), read.back()));
  CHECK(two->ship.coordinator->log()->FirstVersion() > before);
  CHECK(absl::IsOutOfRange(two->ship.coordinator->log()->Open(before).status()));
  // What was before the gap is there for people.
  for (const std::string& name : names) {
    if (absl::StartsWith(name, "log-")) CHECK(drive.Contents().count(name + kBeforeGapSuffix) == 1);
  }
  // It goes on behind it.
  two->Restart();
  one.Commit(++number);
  two->Commit(++number);
  read = two->Read();
  CHECK(read == FromTo(read.front(), number));
  CHECK(two->stats().gaps == 0);
}

// What a start with the drive's archive says.
absl::Status StartOn(Sea* sea, sim::SimDrive* drive) {
  Ship ship(sea, "refused", {}, {}, {}, drive);
  std::optional<absl::Status> said;
  Replica replica;
  ship.coordinator->Recover(&replica, [&](absl::Status status) { said = std::move(status); });
  REQUIRE(sea->Run([&] { return said.has_value(); }));
  return *said;
}

TEST_CASE("archive: another store's is refused, and one whose end is not in the store's log") {
  Sea sea(1);
  sim::SimDrive drive(&sea.world.chance());
  {
    Writer writer(&sea, "one", &drive);
    writer.Commit(1);
    CHECK(writer.Read() == FromTo(1, 1));
  }
  Sea other(2);
  const absl::Status strange = StartOn(&other, &drive);
  INFO(strange);
  CHECK(absl::IsFailedPrecondition(strange));
  CHECK_THAT(std::string(strange.message()),
             Contains("archive-dir") && Contains("store") && Contains("name another directory"));
  CHECK(StartOn(&sea, &drive) == absl::OkStatus());

  // A commit that the log never had: ZooKeeper was put back to what it was before.
  drive.ProcessDies();
  const std::unique_ptr<local::Disk> disk = drive.Plug();
  local::LocalOptions options;
  options.prefill_bytes = 0;
  local::Recovery recovery(disk.get(), &options, local::Recovery::Reads::kNewestFile);
  for (bool end = false; !end;) {
    const absl::StatusOr<local::RecoveryChunk> chunk = recovery.Next();
    REQUIRE(chunk.ok());
    end = chunk->end;
  }
  const local::Recovered found = recovery.Take();
  sim::DaemonLoop loop(&sea.world);
  local::LogExtent extent;
  local::LogWriter log(disk.get(), &options, &loop, &extent);
  REQUIRE(log.Start(found, found.store, 7).ok());
  const engine::Batch batch = {contract::Set("/n/1", Value::Integer(1))};
  batch[0]->version = found.last + (int64_t{1} << 40);
  REQUIRE(log.Append({&batch}).outcome == local::LogWriter::Outcome::kDurable);
  drive.ProcessDies();
  const absl::Status ahead = StartOn(&sea, &drive);
  INFO(ahead);
  CHECK(absl::IsDataLoss(ahead));
  CHECK_THAT(std::string(ahead.message()),
             Contains("archive-dir") && Contains("older state") && Contains(absl::StrCat(batch[0]->version)));
}

TEST_CASE("archive: after a write that failed commits go on, readers are told, and it catches up") {
  const bool full = GENERATE(true, false);
  Sea sea(1);
  sim::SimDrive drive(&sea.world.chance());
  Writer one(&sea, "one"), two(&sea, "two", &drive);
  int64_t number = 0;
  while (number < 10) two.Commit(++number);
  CHECK(two.Read() == FromTo(1, 10));
  full ? drive.SetFull(50) : drive.FailNextSync();
  while (number < 20) {
    one.Commit(++number);
    two.Commit(++number);
  }
  REQUIRE(sea.Run([&] { return two.stats().failures > 0; }));
  const absl::Status behind = two.CatchUp();
  INFO(behind);
  CHECK(absl::IsUnavailable(behind));
  CHECK_THAT(std::string(behind.message()), Contains("archive") && Contains("can't be written"));
  drive.SetRoomy();
  while (number < 30) two.Commit(++number);
  REQUIRE(sea.Run([&] { return two.stats().commits == 30; }));
  CHECK(two.Read() == FromTo(1, 30));
  CHECK(two.stats().gaps == 0);
  two.Restart();
  two.Commit(++number);
  CHECK(two.Read() == FromTo(1, 31));
}

// A disk that is full for a while, while commits of about `bytes` are made. How many gaps it costs.
int64_t GapsAfter(int64_t bytes, Canaries canaries) {
  Sea sea(1);
  sim::SimDrive drive(&sea.world.chance());
  Writer one(&sea, "one", nullptr, Small(), canaries);
  Writer two(&sea, "two", &drive, Small(), canaries);
  int64_t number = 0;
  while (number < 10) two.Commit(++number);
  CHECK(two.Read() == FromTo(1, 10));
  // No resend needs an id any more. That, and which entries the archive needs, has been seen.
  for (Writer* writer : {&one, &two}) writer->ship.coordinator->Trim(std::numeric_limits<Version>::max());
  one.Wait(absl::Seconds(3));
  drive.SetFull(0);
  const Cleaner& cleaner = one.ship.coordinator->cleaner();
  const int64_t each = cleaner.LogBytes() / cleaner.LogEntries();
  while (number * each < bytes) one.Commit(++number);
  one.Wait(absl::Seconds(10));
  CHECK(cleaner.trimmed() + two.ship.coordinator->cleaner().trimmed() > 0);
  drive.SetRoomy();
  while (!two.CatchUp().ok()) two.Wait(absl::Seconds(1));
  two.Commit(++number);
  const std::vector<int64_t> read = two.Read();
  CHECK(read.back() == number);
  CHECK(read == FromTo(read.front(), number));
  CHECK((two.stats().gaps > 0) == (read.front() > 1));
  return two.stats().gaps;
}

TEST_CASE("archive: ZooKeeper's log waits for it, up to twice its bytes") {
  CHECK(GapsAfter(Small().log_bytes_max * 3 / 2, {}) == 0);
  CHECK(GapsAfter(Small().log_bytes_max * 4, {}) == 1);
}

TEST_CASE("archive: a planted trim of what it needs costs a gap") {
  Canaries canaries;
  canaries.trim_unarchived = true;
  CHECK(GapsAfter(Small().log_bytes_max * 3 / 2, canaries) == 1);
}

// ---- Without an archive

// A daemon's Loop that other threads post to: its tasks run in the test's own, between the world's steps.
class Relay final : public engine::Loop {
 public:
  explicit Relay(engine::Loop* loop) : loop_(loop) {}
  absl::Duration Now() override { return loop_->Now(); }
  Instant WallNow() override { return loop_->WallNow(); }
  void Post(engine::Task task) override {
    absl::MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  void At(absl::Duration when, engine::Task task) override { loop_->At(when, std::move(task)); }
  uint64_t Random() override { return loop_->Random(); }

  void Turn() {
    std::vector<engine::Task> tasks;
    {
      absl::MutexLock lock(&mutex_);
      tasks.swap(tasks_);
    }
    for (engine::Task& task : tasks) task();
  }

 private:
  engine::Loop* const loop_;
  absl::Mutex mutex_;
  std::vector<engine::Task> tasks_ ABSL_GUARDED_BY(mutex_);
};

// A log that is followed, and read by another thread.
class Reading final : private LogTail::Listener {
 public:
  explicit Reading(Sea* sea)
      : sea_(sea),
        loop_(&sea->world),
        relay_(&loop_),
        sessions_(&sea->ensemble, &loop_, "reading"),
        tail_(&loop_, &sessions_, sea->To(), {}, {}, this),
        log_(&relay_, &tail_) {
    bool started = false;
    tail_.Start([&](absl::Status status) { started = status.ok(); });
    REQUIRE(sea->Run([&] { return started; }));
  }

  KeptLog& log() { return log_; }
  // What `read` says, which waits for what happens on the Loop.
  template <typename Read>
  auto Off(Read read) {
    std::optional<decltype(read())> result;
    absl::Notification read_;
    std::thread thread([&] {
      result.emplace(read());
      read_.Notify();
    });
    while (!read_.HasBeenNotified()) {
      relay_.Turn();
      (void)sea_->world.Step();
    }
    thread.join();
    return *std::move(result);
  }
  void CatchUp() {
    bool caught_up = false;
    tail_.Barrier([&](absl::Status status) { caught_up = status.ok(); });
    REQUIRE(sea_->Run([&] { return caught_up; }));
  }

 private:
  void OnBegin(Version) override {}
  absl::Status OnBatch(int64_t, int64_t, const std::string&) override { return absl::OkStatus(); }
  void OnMove(int64_t, int64_t, const EpochMove&, size_t) override {}
  void OnTurn(int64_t, int64_t, const TurnText&, size_t) override {}
  bool AwaitsOwn() const override { return false; }
  void OnStopped(const absl::Status&) override {}

  Sea* const sea_;
  sim::DaemonLoop loop_;
  Relay relay_;
  sim::SimSessions sessions_;
  LogTail tail_;
  KeptLog log_;
};

std::vector<int64_t> NumbersOf(const std::vector<engine::LogCursor::Item>& items) {
  std::vector<int64_t> numbers;
  for (const auto& item : items) numbers.push_back(item.commit->changes[0].value->integer());
  return numbers;
}

TEST_CASE("kept log: what ZooKeeper keeps is read in order, and what it has trimmed is OUT_OF_RANGE") {
  Sea sea(1);
  CleanerOptions cleaner = Small();
  cleaner.segment_entries_max = 40;
  Writer one(&sea, "one", nullptr, cleaner);
  Reading reading(&sea);
  KeptLog& log = reading.log();
  const auto read_from = [&](Version from) {
    return reading.Off([&] { return contract::ReadAll(log, from); });
  };
  CHECK(read_from(0).empty());
  int64_t number = 0;
  while (number < 20) one.Commit(++number);
  reading.CatchUp();
  const std::vector<engine::LogCursor::Item> all = read_from(0);
  CHECK(NumbersOf(all) == FromTo(1, 20));
  for (size_t i = 1; i < all.size(); ++i) CHECK(all[i].commit->version > all[i - 1].commit->version);
  CHECK(NumbersOf(read_from(all[12].commit->version)) == FromTo(13, 20));
  CHECK(NumbersOf(read_from(all[12].commit->version + 1)) == FromTo(14, 20));
  CHECK(read_from(all.back().commit->version + 1).empty());

  // "/n/3" is 3, 10, 17; newest first.
  const auto history = [&](Version before, size_t limit) {
    return reading.Off([&] { return log.History("/n/3", before, limit); }).value();
  };
  CHECK(NumbersOf(history(0, 100)) == std::vector<int64_t>{17, 10, 3});
  CHECK(NumbersOf(history(0, 2)) == std::vector<int64_t>{17, 10});
  CHECK(NumbersOf(history(all[16].commit->version, 100)) == std::vector<int64_t>{10, 3});
  CHECK(history(0, 1)[0].before_known[0]);
  CHECK(history(0, 1)[0].before[0] == Value::Integer(10));

  // A cursor that goes on with what comes, over the end of a segment, until it is overtaken.
  auto cursor = reading.Off([&] { return log.Open(all[19].commit->version); }).value();
  const auto next = [&] { return reading.Off([&] { return cursor->Next(1 << 20); }); };
  CHECK(NumbersOf(next().value()) == FromTo(20, 20));
  CHECK(next()->empty());
  while (number < 25) one.Commit(++number);
  reading.CatchUp();
  CHECK(NumbersOf(next().value()) == FromTo(21, 25));
  while (one.ship.coordinator->cleaner().trimmed() < 30) {
    one.Commit(++number);
    one.Wait(absl::Milliseconds(30));
  }
  reading.CatchUp();
  CHECK(one.ship.coordinator->cleaner().segments() > 0);
  const absl::Status overtaken = next().status();
  INFO(overtaken);
  CHECK(absl::IsOutOfRange(overtaken));
  CHECK(absl::IsOutOfRange(reading.Off([&] { return log.Open(all[0].commit->version); }).status()));
  const std::vector<engine::LogCursor::Item> kept = read_from(0);
  REQUIRE(!kept.empty());
  CHECK(NumbersOf(kept) == FromTo(kept[0].commit->changes[0].value->integer(), number));
  CHECK(log.FirstVersion() <= kept[0].commit->version);
  CHECK(log.FirstVersion() > all[0].commit->version);
}

}  // namespace
}  // namespace stm::zookeeper
