#include "tests/simulation/sim_disk.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace stm::sim {
namespace {

// A drive with file "a" whose content is durable, in its directory too.
struct Drive {
  explicit Drive(uint64_t seed, const std::string& content = "")
      : chance(seed), drive(&chance), disk(drive.Plug()) {
    file = *disk->Create("a");
    REQUIRE(file->Write(0, content).ok());
    REQUIRE(file->Sync().ok());
    REQUIRE(disk->SyncDirectory().ok());
  }
  std::string AfterPowerLoss() {
    drive.PowerLoss();
    return drive.Contents()["a"];
  }

  Chance chance;
  SimDrive drive;
  std::unique_ptr<local::Disk> disk;
  std::unique_ptr<local::File> file;
};

TEST_CASE("disk: a file that goes is shown as it was, and one in whose removal the drive dies stays") {
  Drive d(1, "old");
  REQUIRE(d.file->Write(3, "er").ok());
  std::map<std::string, std::string> gone;
  d.drive.SetRemoved([&gone](const std::string& name, const std::string& content) { gone[name] = content; });
  d.drive.DieAfter(1);
  REQUIRE(!d.disk->Remove("a").ok());
  REQUIRE(gone.empty());
  d.drive.ProcessDies();
  REQUIRE(d.drive.Names() == std::vector<std::string>{"a"});
  REQUIRE(d.drive.Plug()->Remove("a").ok());
  REQUIRE(gone == std::map<std::string, std::string>{{"a", "older"}});
}

TEST_CASE("disk: a drive that takes another's place has nothing on it, and the disks before it are dead") {
  Drive d(1, "old");
  d.drive.Wipe();
  REQUIRE(d.drive.Names().empty());
  REQUIRE(!d.file->Write(0, "new").ok());
  std::unique_ptr<local::Disk> disk = d.drive.Plug();
  REQUIRE(disk->Create("a").ok());
  REQUIRE(disk->SyncDirectory().ok());
  d.drive.PowerLoss();
  REQUIRE(d.drive.Contents() == std::map<std::string, std::string>{{"a", ""}});
}

TEST_CASE("disk: what was synced is there after a power loss") {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    Drive d(seed, std::string(10000, 'x'));
    REQUIRE(d.AfterPowerLoss() == std::string(10000, 'x'));
  }
}

TEST_CASE(
    "disk: an unsynced append may be kept, lost, torn at any byte, or leave zeros, and touches nothing "
    "else") {
  const std::string old(5000, 'x');
  const std::string fresh(9000, 'y');
  bool kept = false, lost = false, torn = false, zeros = false, zeros_before_good = false;
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    Drive d(seed, old);
    REQUIRE(d.file->Write(old.size(), fresh).ok());
    const std::string left = d.AfterPowerLoss();
    REQUIRE(left.substr(0, old.size()) == old);
    const std::string tail = left.substr(old.size());
    REQUIRE(tail.size() <= fresh.size());
    REQUIRE(std::all_of(tail.begin(), tail.end(), [](char c) { return c == 'y' || c == '\0'; }));
    kept = kept || tail == fresh;
    lost = lost || tail.empty();
    torn = torn || (!tail.empty() && tail.size() < fresh.size() && tail.back() == 'y');
    const size_t zero = tail.find('\0');
    zeros = zeros || zero != std::string::npos;
    zeros_before_good =
        zeros_before_good || (zero != std::string::npos && tail.find('y', zero) != std::string::npos);
  }
  REQUIRE(kept);
  REQUIRE(lost);
  REQUIRE(torn);
  REQUIRE(zeros);
  REQUIRE(zeros_before_good);
}

TEST_CASE("disk: an unsynced overwrite leaves old or new bytes, never zeros") {
  bool old = false, mixed = false, fresh = false;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Drive d(seed, std::string(9000, '\n'));
    REQUIRE(d.file->Write(100, std::string(8000, 'y')).ok());
    const std::string left = d.AfterPowerLoss();
    REQUIRE(left.size() == 9000);
    REQUIRE(left.find('\0') == std::string::npos);
    const auto count = std::count(left.begin(), left.end(), 'y');
    old = old || count == 0;
    fresh = fresh || count == 8000;
    mixed = mixed || (count > 0 && count < 8000);
  }
  REQUIRE(old);
  REQUIRE(mixed);
  REQUIRE(fresh);
}

TEST_CASE("disk: a killed process's writes stay, but are no more durable for it") {
  bool lost = false;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Drive d(seed, "x");
    REQUIRE(d.file->Write(1, "y").ok());
    d.drive.ProcessDies();
    REQUIRE(d.drive.Contents()["a"] == "xy");
    lost = lost || d.AfterPowerLoss() == "x";
  }
  REQUIRE(lost);
}

TEST_CASE("disk: unsynced creates, renames and removes may be undone; synced ones are not") {
  std::set<std::set<std::string>> seen;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Drive d(seed, "x");
    auto other = *d.disk->Create("b");
    REQUIRE(other->Write(0, "b").ok());
    REQUIRE(other->Sync().ok());
    REQUIRE(d.disk->Rename("b", "c").ok());
    REQUIRE(d.disk->Remove("a").ok());
    d.drive.PowerLoss();
    std::set<std::string> names;
    for (const auto& [name, content] : d.drive.Contents()) names.insert(name);
    seen.insert(names);
  }
  // Each of {gone, b, c} with a there or not.
  REQUIRE(seen.size() == 6);
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Drive d(seed, "x");
    REQUIRE(d.disk->Rename("a", "c").ok());
    REQUIRE(d.disk->SyncDirectory().ok());
    d.drive.PowerLoss();
    REQUIRE(d.drive.Contents() == std::map<std::string, std::string>{{"c", "x"}});
  }
}

TEST_CASE(
    "disk: a full drive takes part of a write, lets what is there be overwritten, and gives room back") {
  Drive d(3, std::string(100, 'x'));
  d.drive.SetFull(10);
  const absl::Status status = d.file->Write(100, std::string(50, 'y'));
  REQUIRE(status.code() == absl::StatusCode::kResourceExhausted);
  REQUIRE(*d.file->Size() == 110);
  REQUIRE(d.file->Write(0, std::string(100, 'z')).ok());
  REQUIRE(d.file->Truncate(60).ok());
  REQUIRE(d.file->Write(60, std::string(50, 'y')).ok());
  REQUIRE(!d.file->Write(110, "y").ok());
  d.drive.SetRoomy();
  REQUIRE(d.file->Write(110, "y").ok());
}

TEST_CASE("disk: it dies in the middle of a change, and nothing changes after") {
  bool part = false;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Drive d(seed, "");
    d.drive.DieAfter(2);
    REQUIRE(d.file->Write(0, "one").ok());
    REQUIRE(!d.file->Write(3, "two").ok());
    REQUIRE(d.drive.dead());
    REQUIRE(!d.file->Sync().ok());
    REQUIRE(!d.file->Write(6, "three").ok());
    d.drive.ProcessDies();
    const std::string left = d.drive.Contents()["a"];
    REQUIRE(left == std::string("onetwo").substr(0, left.size()));
    REQUIRE(left.size() >= 3);
    part = part || (left.size() > 3 && left.size() < 6);
  }
  REQUIRE(part);
}

TEST_CASE("disk: after a failed sync what was written may be lost, though it can be read") {
  bool lost = false, kept = false;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    Drive d(seed, "x");
    REQUIRE(d.file->Write(1, "y").ok());
    d.drive.FailNextSync();
    REQUIRE(!d.file->Sync().ok());
    REQUIRE(d.drive.sync_failed());
    REQUIRE(*d.file->Read(0, 10) == "xy");
    const std::string left = d.AfterPowerLoss();
    lost = lost || left == "x";
    kept = kept || left == "xy";
  }
  REQUIRE(lost);
  REQUIRE(kept);
}

TEST_CASE("disk: one process at a time has it, and one that died has it no more") {
  Chance chance(1);
  SimDrive drive(&chance);
  auto first = drive.Plug();
  REQUIRE(first->Lock().ok());
  REQUIRE(first->Lock().code() == absl::StatusCode::kFailedPrecondition);
  drive.ProcessDies();
  auto second = drive.Plug();
  REQUIRE(second->Lock().ok());
  REQUIRE(!first->Create("a").ok());
  REQUIRE(drive.Contents().empty());
}

}  // namespace
}  // namespace stm::sim
