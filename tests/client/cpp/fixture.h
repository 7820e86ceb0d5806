// What the client's tests share: daemons for all of them, names of their own, waiting with a deadline.
#ifndef STM_TESTS_CLIENT_CPP_FIXTURE_H_
#define STM_TESTS_CLIENT_CPP_FIXTURE_H_

#include <stdlib.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "stm/client.h"
#include "stm/testing.h"
#include "tests/client/cpp/proxy.h"

namespace stm::testing {

inline constexpr absl::Duration kPatience = absl::Seconds(60);

#define OK(expression)                     \
  do {                                     \
    absl::Status ok_status = (expression); \
    INFO(ok_status);                       \
    REQUIRE(ok_status.ok());               \
  } while (false)

template <typename T>
T Must(absl::StatusOr<T> value) {
  INFO(value.status());
  REQUIRE(value.ok());
  return *std::move(value);
}

inline bool Contains(const absl::Status& status, const std::string& text) {
  return std::string(status.message()).find(text) != std::string::npos;
}

// A daemon that all test cases share; of several the next one, each time. By shared_daemon.cc: one, in
// memory.
std::string SharedAddress();

inline Client Connected(const std::string& address, const std::string& name = "test") {
  ConnectOptions options;
  options.address = address;
  options.client_name = name;
  options.warn = [](std::string_view) {};
  absl::StatusOr<Client> client = Connect(options);
  if (!client.ok()) FAIL(client.status());
  return *client;
}

inline Client Shared(const std::string& name = "test") { return Connected(SharedAddress(), name); }

// "/t7/x": each test case has a directory to itself.
class Names {
 public:
  Names() {
    static std::atomic<int> next{1};
    directory_ = "/t" + std::to_string(next++);
  }
  std::string operator()(const std::string& name) const { return directory_ + "/" + name; }
  std::string prefix() const { return directory_ + "/"; }

 private:
  std::string directory_;
};

// A directory that is gone with it.
class Directory {
 public:
  Directory() {
    const char* root = getenv("TEST_TMPDIR");
    path_ = std::string(root != nullptr ? root : "/tmp") + "/stm_client_XXXXXX";
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~Directory() { [[maybe_unused]] int status = system(("rm -rf '" + path_ + "'").c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// True as soon as `condition` is; false after kPatience.
inline bool Eventually(const std::function<bool()>& condition) {
  auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(kPatience);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace stm::testing

#endif  // STM_TESTS_CLIENT_CPP_FIXTURE_H_
