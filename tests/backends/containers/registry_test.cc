// Containers of the configuration, by their names and URIs.
#include "backends/containers/registry.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/containers/contract.h"
#include "backends/containers/files.h"
#include "backends/containers/remote.h"
#include "tests/backends/containers/memory_container.h"
#include "tests/backends/containers/own_directory.h"

namespace stm::containers {
namespace {

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST_CASE("registry: a container is NAME=URI") {
  const auto mongo =
      ParseContainer("mongo=mongodb://app:pass@db.example:27017/app?replicaSet=rs0&w=majority");
  REQUIRE(mongo.ok());
  CHECK(mongo->name == "mongo");
  CHECK(mongo->uri == "mongodb://app:pass@db.example:27017/app?replicaSet=rs0&w=majority");
  const auto remote = ParseContainer("remote:orders-2_b=grpc://127.0.0.1:7450");
  REQUIRE(remote.ok());
  CHECK(remote->name == "remote:orders-2_b");
  CHECK(ParseContainer("mine=acme://x").ok());
  CHECK(ParseContainer(std::string(64, 'a') + "=acme://x").ok());
}

struct Bad {
  std::string text;
  const char* message;
};

TEST_CASE("registry: a container that is no good says what is wrong with it, and never a password") {
  const Bad bad = GENERATE(values<Bad>({
      {"mongodb://app:secret@db/app",
       "no \"=\" is in it: a container is NAME=URI, as mongo=mongodb://127.0.0.1/app"},
      {"inline=mongodb://a:secret@b", "container inline: that is what an entry is that no container keeps"},
      {"offered:x=grpc://127.0.0.1:1",
       "container offered:x: such containers are offered by clients as they run"},
      {"=grpc://127.0.0.1:1", "a container's name is empty"},
      {"remote:=grpc://127.0.0.1:1", "a container's name is empty"},
      {"Mongo=mongodb://a:secret@b", "container Mongo: names are made of a-z, 0-9, \"_\" and \"-\""},
      {"local:x=mongodb://a:secret@b", "container local:x: names are made of"},
      {std::string(65, 'a') + "=mongodb://b", "has 65 characters: 64 are allowed"},
      {"mongo=db.example", "container mongo: it has no URI with \"://\""},
      {"mongo=", "container mongo: it has no URI with \"://\""},
      {"remote:orders=mongodb://a:secret@b",
       "container remote:orders: remote:NAME is asked by gRPC, at grpc://HOST:PORT or grpcs://HOST:PORT, and "
       "this is mongodb://: "
       "call it orders"},
  }));
  INFO(bad.text);
  const absl::Status status = ParseContainer(bad.text).status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  INFO(status);
  CHECK(absl::StrContains(MessageOf(status), bad.message));
  CHECK(!absl::StrContains(MessageOf(status), "secret"));
}

TEST_CASE("registry: a name is configured once") {
  const auto two = ParseContainers({"a=acme://1", "b=acme://2"});
  REQUIRE(two.ok());
  CHECK(two->size() == 2);
  const absl::Status twice = ParseContainers({"a=acme://1", "b=acme://2", "a=acme://3"}).status();
  CHECK(MessageOf(twice) == "container a: it is configured twice: take one of them away");
}

TEST_CASE("registry: a URI is shown without its password") {
  CHECK(WithoutPassword("mongodb://app:secret@db.example/app?w=1") == "mongodb://app:***@db.example/app?w=1");
  CHECK(WithoutPassword("mongodb://app:sec@ret@db.example:27017") == "mongodb://app:***@db.example:27017");
  CHECK(WithoutPassword("mongodb://app@db.example:27017/a:b@c") == "mongodb://app@db.example:27017/a:b@c");
  CHECK(WithoutPassword("grpc://127.0.0.1:7450") == "grpc://127.0.0.1:7450");
  CHECK(WithoutPassword("file:///a:b@c") == "file:///a:b@c");
  CHECK(WithoutPassword("nothing") == "nothing");
  CHECK(WithoutPassword("mongodb://app:secret@db/app?tls=true&tlsCertificateKeyFilePassword=hush&w=1") ==
        "mongodb://app:***@db/app?tls=true&tlsCertificateKeyFilePassword=***&w=1");
}

TEST_CASE("registry: a URI's scheme says who makes the container, and is told what it is called") {
  Schemes schemes;
  std::string seen;
  CHECK(schemes.Register("grpc", MakeRemote));
  CHECK(schemes.Register("grpcs", MakeRemote));
  CHECK(schemes.Register("file", MakeFiles));
  CHECK(schemes.Register(
      "acme", [&](const std::string& uri, const FactoryOptions& options) -> absl::StatusOr<Container> {
        seen = absl::StrCat(options.name, " ", uri, " ", options.message_bytes_max);
        if (uri == "acme://bad") return absl::InvalidArgumentError("acme://bad: no such thing");
        return MemoryContainer();
      }));
  FactoryOptions options;
  options.message_bytes_max = 5;
  const auto acme = schemes.Make({"mine", "acme://x"}, options);
  REQUIRE(acme.ok());
  CHECK(seen == "mine acme://x 5");
  CHECK(acme->refs != nullptr);
  CHECK(MessageOf(schemes.Make({"mine", "acme://bad"}).status()) ==
        "container mine: acme://bad: no such thing");
  CHECK(schemes.Make({"remote:x", "grpc://127.0.0.1:1"}).ok());
  const OwnDirectory directory;
  CHECK(schemes.Make({"files", directory.uri()}).ok());
  const absl::Status unknown = schemes.Make({"mine", "acne://user:secret@x"}).status();
  CHECK(unknown.code() == absl::StatusCode::kInvalidArgument);
  CHECK(MessageOf(unknown) ==
        "container mine: this program knows no acne://, but acme://, file://, grpc://, grpcs://: one's own "
        "is built into it "
        "(backends/containers/README.md)");
}

// own_container.cc is linked in, and nothing here names it: as an author's is in stmd.
TEST_CASE("registry: an author's own container is there for the program that it is linked into") {
  const auto setting = ParseContainer("mine=mine://anything");
  REQUIRE(setting.ok());
  const auto container = Schemes::OfProgram().Make(*setting);
  INFO(container.status());
  REQUIRE(container.ok());
  CHECK(container->atoms == nullptr);
  for (const Violation& violation : CheckContainer(*container))
    FAIL_CHECK(violation.rule << ": " << violation.what);
}

TEST_CASE("registry: the container in README.md is the one that is tried here") {
  const auto text = [](const char* file) {
    std::ifstream in(file);
    REQUIRE(in);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  };
  const std::string source = text("tests/backends/containers/own_container.cc");
  const std::string shown = source.substr(source.find("#include"));
  CHECK(text("backends/containers/README.md").find("```cpp\n" + shown + "```") != std::string::npos);
}

}  // namespace
}  // namespace stm::containers
