#include "engine/name.h"

#include <catch2/catch.hpp>
#include <string>

namespace stm::engine {
namespace {

std::string Repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST_CASE("name: paths of UTF-8 segments are names") {
  for (const char* name :
       {"/a", "/accounts/7", "/a b/ö/日本", "/...", "/.x", "/a/.x", "/\xF0\x9F\x98\x80", "/..a/b."}) {
    INFO(name);
    CHECK(CheckName(name).ok());
    CHECK(CheckPrefix(std::string(name) + "/").ok());
  }
}

TEST_CASE("name: what is no name is refused with its fault") {
  struct Case {
    std::string name;
    const char* fault;
  };
  for (const Case& c : std::vector<Case>{
           {"", "must begin"},
           {"a", "must begin"},
           {"/", "empty segment"},
           {"//", "empty segment"},
           {"/a//b", "empty segment (byte 3)"},
           {"/a/", "must not end"},
           {"/.", "\".\""},
           {"/a/../b", "\"..\""},
           {"/a/.", "\".\""},
           {std::string("/a\0b", 4), "control character at byte 2"},
           {"/a\n", "control character"},
           {"/a\x7F", "control character"},
           {"/a\xC2\x85", "control character"},
           {"/a\xFF", "not UTF-8 at byte 2"},
           {"/\xC0\xAF", "not UTF-8"},          // overlong
           {"/\xED\xA0\x80", "not UTF-8"},      // surrogate
           {"/\xF4\x90\x80\x80", "not UTF-8"},  // past U+10FFFF
           {"/\xE6\x97", "not UTF-8"},          // cut
           {"/\xE6/a", "not UTF-8"},
       }) {
    INFO(c.name);
    absl::Status status = CheckName(c.name);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK_THAT(MessageOf(status), Catch::Contains(c.fault));
  }
}

TEST_CASE("name: bounds are exact and named") {
  CHECK(CheckName("/" + std::string(kNameBytesMax - 1, 'a')).ok());
  absl::Status status = CheckName("/" + std::string(kNameBytesMax, 'a'));
  CHECK_THAT(MessageOf(status), Catch::Contains("name_bytes_max") && Catch::Contains("513"));
  CHECK(status.message().size() < 200);
  CHECK(CheckName(Repeat("/a", kNameSegmentsMax)).ok());
  status = CheckName(Repeat("/a", kNameSegmentsMax + 1));
  CHECK_THAT(MessageOf(status), Catch::Contains("name_segments_max") && Catch::Contains("33"));
}

TEST_CASE("name: a prefix is the root or a name with a slash behind") {
  CHECK(CheckPrefix("/").ok());
  CHECK(CheckPrefix("/a/b/").ok());
  CHECK(CheckPrefix("/" + std::string(kNameBytesMax - 1, 'a') + "/").ok());
  for (const char* prefix : {"", "/a", "a/", "//", "/a//", "/../", "/a/./"}) {
    INFO(prefix);
    CHECK(CheckPrefix(prefix).code() == absl::StatusCode::kInvalidArgument);
  }
  CHECK_THAT(MessageOf(CheckPrefix("/a//")), Catch::Contains("empty segment"));
}

TEST_CASE("name: the system's names are told from the users', and from those in memory") {
  CHECK(IsSystem("/.locks/a"));
  CHECK(IsSystem("/.memory/a"));
  CHECK_FALSE(IsSystem("/a/.b"));
  CHECK(IsMemory("/.memory/a"));
  CHECK_FALSE(IsMemory("/.memory"));
  CHECK_FALSE(IsMemory("/.memoryx/a"));
  CHECK(IsWritable("/a"));
  CHECK(IsWritable("/a/.b"));
  CHECK(IsWritable("/.memory/a"));
  CHECK(IsWritable("/.once/a"));
  CHECK_FALSE(IsWritable("/.once"));
  CHECK_FALSE(IsWritable("/.locks/a"));
}

TEST_CASE("name: a prefix holds its subtree, and the system's only when asked for") {
  CHECK(UnderPrefix("/a", "/"));
  CHECK(UnderPrefix("/a/.b", "/"));
  CHECK_FALSE(UnderPrefix("/.locks/a", "/"));
  CHECK(UnderPrefix("/.locks/a", "/.locks/"));
  CHECK(UnderPrefix("/a/b/c", "/a/"));
  CHECK(UnderPrefix("/a/.b", "/a/"));
  CHECK_FALSE(UnderPrefix("/a", "/a/"));
  CHECK_FALSE(UnderPrefix("/ab", "/a/"));
}

TEST_CASE("name: directories are the prefixes that hold a name, shortest first") {
  using Views = std::vector<std::string_view>;
  CHECK(DirectoriesOf("/a") == Views{"/"});
  CHECK(DirectoriesOf("/a/b/c") == Views{"/", "/a/", "/a/b/"});
  CHECK(DirectoriesOf("/.memory/a/b") == Views{"/.memory/", "/.memory/a/"});
  CHECK(DirectoriesOf("/.x").empty());
  for (std::string_view name : {"/a", "/a/b/c", "/.x/y", "/a/.b/c"}) {
    for (std::string_view directory : DirectoriesOf(name)) CHECK(UnderPrefix(name, directory));
  }
}

}  // namespace
}  // namespace stm::engine
