// A directory of a test's own, gone with it.
#ifndef STM_TESTS_BACKENDS_CONTAINERS_OWN_DIRECTORY_H_
#define STM_TESTS_BACKENDS_CONTAINERS_OWN_DIRECTORY_H_

#include <stdlib.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace stm::containers {

class OwnDirectory {
 public:
  OwnDirectory() {
    const char* const temporary = getenv("TEST_TMPDIR");
    path_ = std::string(temporary == nullptr ? "/tmp" : temporary) + "/containers-XXXXXX";
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~OwnDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  OwnDirectory(const OwnDirectory&) = delete;
  OwnDirectory& operator=(const OwnDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string uri() const { return "file://" + path_; }
  // Files under `part`, by their paths from there.
  std::vector<std::string> Files(const std::string& part) const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_ + "/" + part)) {
      if (entry.is_regular_file()) files.push_back(entry.path().lexically_relative(path_ + "/" + part));
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  std::string Read(const std::string& file) const {
    std::ifstream in(path_ + "/" + file);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  void Write(const std::string& file, const std::string& text) const {
    std::ofstream(path_ + "/" + file) << text;
  }

 private:
  std::string path_;
};

}  // namespace stm::containers

#endif  // STM_TESTS_BACKENDS_CONTAINERS_OWN_DIRECTORY_H_
