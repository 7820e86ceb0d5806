// Disks that are full, and disks that fail, under 16 writers: what is refused did not happen, what was acknowledged is
// there, and the operator is told what, where and what to do.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/e2e/faults/probe.h"
#include "tests/e2e/faults/under_load.h"

namespace stm::e2e {
namespace {

using Catch::Matchers::Contains;

// A small file system at a directory, which only this thread and the processes it starts see.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const std::string& size) : path_(path) {
    mounted_ = unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               mount("tmpfs", path.c_str(), "tmpfs", 0, absl::StrCat("size=", size, ",mode=755").c_str()) == 0;
    if (!mounted_) why_ = absl::StrCat("mounting a tmpfs: ", strerror(errno));
  }
  ~SmallDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::string& why() const { return why_; }

  // Takes all the room there is.
  void Fill() {
    const int file = open(filler().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    REQUIRE(file >= 0);
    const std::string block(1 << 20, 'x');
    for (size_t size = block.size(); size > 0;) {
      const ssize_t wrote = write(file, block.data(), size);
      if (wrote >= 0) continue;
      REQUIRE(errno == ENOSPC);
      size = size > 4096 ? 4096 : 0;
    }
    close(file);
  }
  void MakeRoom() { REQUIRE(unlink(filler().c_str()) == 0); }

 private:
  std::string filler() const { return path_ + "/filler"; }

  const std::string path_;
  bool mounted_ = false;
  std::string why_;
};

TEST_CASE("disk: full under 16 writers: commits are refused, reads go on, and with room again commits do") {
  Directory directory;
  SmallDisk disk(directory.path(), "24m");
  if (!disk.mounted()) return PrintSkip("full disk", disk.why());
  StmdOptions options;
  options.data_dir = directory.path();
  options.flags = {"--ballast-bytes=4194304", "--prefill-bytes=65536"};
  Daemons daemons(options);
  daemons.Next();
  Load load({daemons.address()});
  REQUIRE(load.Start());
  REQUIRE(load.answers().AwaitMore(500));
  Probe probe(daemons.address());

  disk.Fill();
  REQUIRE(load.answers().AwaitMore(50, Answers::Kind::kRefusal));
  grpc::Status refused = probe.Set("/during", 8);
  INFO(refused.error_message());
  CHECK(refused.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK_THAT(refused.error_message(), Contains(directory / "log-"));
  CHECK_THAT(refused.error_message(), Contains("No space left on device: make room on that file system"));
  CHECK(probe.Get("/account/0").value.has_value());
  const Probe::Got during = probe.Get("/during");
  CHECK(during.status.ok());
  CHECK(!during.value.has_value());
  CHECK(daemons.now().AwaitSaid("error log_no_space why=\"RESOURCE_EXHAUSTED: write " + directory.path()));

  SECTION("room is made") {
    disk.MakeRoom();
    REQUIRE(load.answers().AwaitMore(500));
    CHECK(daemons.now().AwaitSaid("info log_room_again"));
  }
  SECTION("it is killed, starts again without room, shortens its log at the ballast's cost, and room is made") {
    daemons.options().flags.push_back("--snapshot-bytes=20000");
    daemons.Next();
    CHECK(probe.Get("/account/0").value.has_value());
    CHECK(daemons.now().AwaitSaid("warning ballast_spent for=snapshot"));
    CHECK(daemons.now().AwaitSaid("info snapshot_written"));
    disk.MakeRoom();
    REQUIRE(load.answers().AwaitMore(500));
  }
  const Outcome outcome = JudgeAfterRestart(&load, &daemons, "full disk");
  CHECK(outcome.refused >= 50);
}

// strace, which makes calls of a running daemon fail from now on.
class Injection {
 public:
  Injection(pid_t pid, const std::string& call, const std::string& error)
      : strace_({"strace", "-f", "-p", std::to_string(pid), "-o", "/dev/null", "-e", "trace=" + call, "-e",
                 "inject=" + call + ":error=" + error}) {}
  // "": in force. Else why this machine does not allow it.
  std::string Await() {
    if (strace_.AwaitSaid("attached")) return "";
    const std::string said = strace_.said();
    const bool rights = said.find("Operation not permitted") != std::string::npos;
    INFO("strace says \"" << said << "\"; is it installed? deploy/install --tests does that");
    REQUIRE(rights);
    return said;
  }

 private:
  Process strace_;
};

TEST_CASE("disk: after an error of a write or a sync the daemon stops, says why, and nothing acknowledged is lost") {
  struct Fault {
    const char* call;
    const char* said;  // before the file
  };
  const Fault fault = GENERATE(Fault{"fdatasync", "fdatasync "}, Fault{"pwrite64", "write "},
                               Fault{"fsync", "fsync "}, Fault{"ftruncate", "truncate "});
  INFO(fault.call);
  Directory directory;
  StmdOptions options;
  options.data_dir = directory.path();
  options.flags = {"--ballast-bytes=0", "--segment-bytes=100000"};
  Daemons daemons(options);
  daemons.Next();
  Load load({daemons.address()});
  REQUIRE(load.Start());
  REQUIRE(load.answers().AwaitMore(300));
  {
    Injection injection(daemons.now().pid(), fault.call, "EIO");
    const std::string why = injection.Await();
    if (!why.empty()) return PrintSkip(absl::StrCat("failing ", fault.call), why);
    const std::optional<int> code = daemons.now().AwaitExit();
    INFO(daemons.now().said());
    REQUIRE(code == 1);
    CHECK_THAT(daemons.now().said(), Contains(absl::StrCat("critical log_failed status=\"", fault.said,
                                                           directory.path())));
    CHECK_THAT(daemons.now().said(), Contains("Input/output error"));
    CHECK_THAT(daemons.now().said(), Contains("do=\"mend the disk, then start stmd again"));
  }
  daemons.Next();
  REQUIRE(load.answers().AwaitMore(300));
  const Outcome outcome = JudgeAfterRestart(&load, &daemons, absl::StrCat(fault.call, " fails").c_str());
  CHECK(outcome.resends > 0);
}

}  // namespace
}  // namespace stm::e2e
