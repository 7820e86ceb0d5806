#include "backends/local/posix_disk.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <memory>
#include <string>

#include "tests/backends/coordinator_contract.h"
#include "tests/backends/local/local_store.h"

namespace stm::local {
namespace {

std::string FreshDirectory() {
  const char* base = std::getenv("TEST_TMPDIR");
  std::string pattern = std::string(base != nullptr ? base : "/tmp") + "/disk-XXXXXX";
  REQUIRE(mkdtemp(pattern.data()) != nullptr);
  return pattern;
}

TEST_CASE("posix disk: a directory has one owner at a time") {
  std::string directory = FreshDirectory() + "/a/b";
  auto first = PosixDisk::Make(directory);
  REQUIRE(first.ok());
  REQUIRE((*first)->Lock().ok());
  auto second = PosixDisk::OpenExisting(directory);
  REQUIRE(second.ok());
  absl::Status refused = (*second)->Lock();
  CHECK(refused.code() == absl::StatusCode::kFailedPrecondition);
  CHECK_THAT(std::string(refused.message()), Catch::Contains(std::to_string(getpid())));
  first->reset();
  CHECK((*second)->Lock().ok());
}

TEST_CASE("posix disk: files are created once, read, written, cut, renamed and removed") {
  auto disk = PosixDisk::Make(FreshDirectory()).value();
  auto file = disk->Create("f").value();
  CHECK(disk->Create("f").status().code() == absl::StatusCode::kAlreadyExists);
  CHECK(disk->Open("g").status().code() == absl::StatusCode::kNotFound);
  REQUIRE(file->Write(3, "abc").ok());
  CHECK(file->Read(0, 100).value() == std::string("\0\0\0abc", 6));
  CHECK(file->Read(4, 1).value() == "b");
  REQUIRE(file->Truncate(4).ok());
  CHECK(file->Size().value() == 4);
  CHECK(file->Sync().ok());
  REQUIRE(disk->Rename("f", "g").ok());
  CHECK(disk->List().value() == std::vector<std::string>{"g"});
  REQUIRE(disk->Remove("g").ok());
  CHECK(disk->SyncDirectory().ok());
  CHECK(disk->List().value().empty());
}

TEST_CASE("posix disk: no such directory is said with its name") {
  absl::Status status = PosixDisk::OpenExisting("/nowhere/at/all").status();
  CHECK(status.code() == absl::StatusCode::kNotFound);
  CHECK_THAT(std::string(status.message()), Catch::Contains("/nowhere/at/all"));
}

class OnPosixDisk : public CoordinatorUnderTest {
 public:
  OnPosixDisk() : directory_(FreshDirectory()) { Make(); }
  engine::Coordinator& coordinator() override { return *local_; }
  engine::Writers& writers() override { return *local_; }
  engine::LogReader* reader() override { return local_.get(); }
  bool TurnUntil(const std::function<bool()>& done) override {
    while (!done()) {
      if (!loop_.Step()) return false;
    }
    return true;
  }
  bool Reopen() override {
    loop_.Turn();
    local_.reset();
    disk_.reset();
    Make();
    return true;
  }

 private:
  void Make() {
    disk_ = PosixDisk::Make(directory_).value();
    LocalOptions options;
    options.segment_bytes = 2000;
    options.ballast_bytes = 1 << 20;
    local_ = std::make_unique<LocalCoordinator>(&loop_, &loop_, disk_.get(), options);
  }
  std::string directory_;
  InlineLoop loop_;
  std::unique_ptr<PosixDisk> disk_;
  std::unique_ptr<LocalCoordinator> local_;
};

TEST_CASE("local coordinator: the coordinators' contract, on a real file system") {
  TestCoordinator([] { return std::make_unique<OnPosixDisk>(); });
}

}  // namespace
}  // namespace stm::local
