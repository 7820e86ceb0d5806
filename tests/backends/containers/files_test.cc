// Values as files that people can read. What the contract asks is in contract_test.cc.
#include "backends/containers/files.h"

#include <sys/stat.h>
#include <utime.h>

#include <catch2/catch.hpp>
#include <ctime>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/values/edn.h"
#include "tests/backends/containers/own_directory.h"

namespace stm::containers {
namespace {

constexpr absl::Duration kWithin = absl::Seconds(10);

Container Files(const std::string& uri) {
  auto container = MakeFiles(uri);
  INFO(container.status());
  REQUIRE(container.ok());
  return *std::move(container);
}

TEST_CASE("files: a value is EDN in a file that its name and stamp lead to") {
  const OwnDirectory directory;
  const Container container = Files(directory.uri() + "/");
  REQUIRE(container.refs->SetStateAt("/accounts/7", "w1-1", *ReadEdn("{:balance 100M}"), kWithin).ok());
  REQUIRE(container.refs->SetStateAt("/Ann's caf\xc3\xa9", "w1-2", Value(), kWithin).ok());
  REQUIRE(container.atoms->SetState("/accounts/7", *ReadEdn("[1 2]"), 12, kWithin).ok());
  CHECK(directory.Files("refs") ==
        std::vector<std::string>{"%41nn%27s%20caf%c3%a9/w1-2.edn", "accounts~7/w1-1.edn"});
  CHECK(directory.Read("refs/accounts~7/w1-1.edn") == "{:balance 100M}\n");
  CHECK(directory.Read("refs/%41nn%27s%20caf%c3%a9/w1-2.edn") == "nil\n");
  CHECK(directory.Files("atoms") == std::vector<std::string>{"accounts~7/state.edn"});
  CHECK(directory.Read("atoms/accounts~7/state.edn") == "12\n[1 2]\n");
  CHECK(directory.Files("new").empty());
}

TEST_CASE("files: a name longer than a file's may be goes on in directories") {
  const OwnDirectory directory;
  const Container container = Files(directory.uri());
  const std::string name = "/" + std::string(511, '%');
  REQUIRE(container.refs->SetStateAt(name, "s1", Value::Integer(1), kWithin).ok());
  const auto files = directory.Files("refs");
  REQUIRE(files.size() == 1);
  size_t begin = 0;
  for (size_t slash = 0; slash != std::string::npos; begin = slash + 1) {
    slash = files[0].find('/', begin);
    CHECK(std::min(slash, files[0].size()) - begin <= 255);
  }
  REQUIRE(container.refs->DeleteStateAt(name, "s1", kWithin).ok());
  REQUIRE(container.refs->Destroy(name, kWithin).ok());
  CHECK(std::filesystem::is_empty(directory.path() + "/refs"));
}

TEST_CASE("files: another value under a stamp is refused, and says where the first is") {
  const OwnDirectory directory;
  const Container container = Files(directory.uri());
  REQUIRE(container.refs->SetStateAt("/a", "s1", Value::Integer(1), kWithin).ok());
  const absl::Status status = container.refs->SetStateAt("/a", "s1", Value::Integer(2), kWithin);
  CHECK(status.code() == absl::StatusCode::kAlreadyExists);
  CHECK(std::string(status.message()) ==
        directory.path() + "/refs/a/s1.edn has another value: a stamp is written once");
}

TEST_CASE("files: what is no EDN any more is DATA_LOSS of that entry alone, and says where") {
  const OwnDirectory directory;
  const Container container = Files(directory.uri());
  REQUIRE(container.refs->SetStateAt("/a", "s1", Value::Integer(1), kWithin).ok());
  REQUIRE(container.refs->SetStateAt("/a", "s2", Value::Integer(2), kWithin).ok());
  REQUIRE(container.atoms->SetState("/a", Value::Integer(3), 7, kWithin).ok());
  directory.Write("refs/a/s1.edn", "{:a");
  const auto lost = container.refs->GetStateAt("/a", "s1", kWithin).status();
  CHECK(lost.code() == absl::StatusCode::kDataLoss);
  CHECK(absl::StartsWith(std::string(lost.message()), directory.path() + "/refs/a/s1.edn: "));
  CHECK(**container.refs->GetStateAt("/a", "s2", kWithin) == Value::Integer(2));
  for (const char* text : {"", "7", ":a 3"}) {
    directory.Write("atoms/a/state.edn", text);
    CHECK(container.atoms->GetState("/a", kWithin).status().code() == absl::StatusCode::kDataLoss);
    // A copy of what is known better elsewhere: it is not written over unseen.
    CHECK(container.atoms->SetState("/a", Value::Integer(4), 8, kWithin).code() ==
          absl::StatusCode::kDataLoss);
  }
}

TEST_CASE("files: what a writer that died has left is never read, and is swept an hour later") {
  const OwnDirectory directory;
  {
    const Container container = Files(directory.uri());
    REQUIRE(container.refs->SetStateAt("/a", "s1", Value::Integer(1), kWithin).ok());
  }
  directory.Write("new/old-1", "12");
  directory.Write("new/fresh-1", "12");
  const utimbuf two_hours_ago{time(nullptr) - 7200, time(nullptr) - 7200};
  REQUIRE(utime((directory.path() + "/new/old-1").c_str(), &two_hours_ago) == 0);
  const Container container = Files(directory.uri());
  CHECK(directory.Files("new") == std::vector<std::string>{"fresh-1"});
  CHECK(**container.refs->GetStateAt("/a", "s1", kWithin) == Value::Integer(1));
}

TEST_CASE("files: a URI names a directory from the root, which is made, and must be one") {
  for (const char* uri : {"file://", "file:///", "file://here", "file:/tmp", "/tmp"}) {
    INFO(uri);
    CHECK(MakeFiles(uri).status().code() == absl::StatusCode::kInvalidArgument);
  }
  const OwnDirectory directory;
  CHECK(MakeFiles(directory.uri() + "/a/b/c").ok());
  CHECK(std::filesystem::is_directory(directory.path() + "/a/b/c/refs"));
  directory.Write("file", "");
  const absl::Status status = MakeFiles(directory.uri() + "/file").status();
  INFO(status);
  CHECK(!status.ok());
  CHECK(absl::StrContains(std::string(status.message()), directory.path() + "/file/refs"));
}

}  // namespace
}  // namespace stm::containers
