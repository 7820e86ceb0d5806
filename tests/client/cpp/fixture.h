// What the client's tests share: one daemon in memory for all, names of their own, waiting with a deadline, and a proxy
// that loses what it is told to lose.
#ifndef STM_TESTS_CLIENT_CPP_FIXTURE_H_
#define STM_TESTS_CLIENT_CPP_FIXTURE_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "stm/client.h"
#include "stm/testing.h"

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

inline const std::string& SharedAddress() {
  // Ends with this process's main thread.
  static const Daemon* const daemon = [] {
    absl::StatusOr<Daemon> started = Daemon::Start();
    if (!started.ok()) {
      fprintf(stderr, "%s\n", started.status().ToString().c_str());
      abort();
    }
    return new Daemon(*std::move(started));
  }();
  return daemon->address();
}

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

// True as soon as `condition` is; false after kPatience.
inline bool Eventually(const std::function<bool()>& condition) {
  auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(kPatience);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// Proxy is a TCP relay to a daemon. Upwards is from the client to the daemon. Any thread.
class Proxy {
 public:
  explicit Proxy(const std::string& target) : target_(std::stoi(target.substr(target.rfind(':') + 1))) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    REQUIRE(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(listen(listener_, 64) == 0);
    REQUIRE(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { Accept(); });
  }
  ~Proxy() {
    stopping_ = true;
    accepting_.join();
    Cut();
    for (std::thread& pump : pumps_) pump.join();
    close(listener_);
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // Ends all connections; what was on its way is lost.
  void Cut() { ++generation_; }
  // Swallows all bytes in a direction, on connections old and new.
  void LoseRequests(bool lose) { lose_up_ = lose; }
  void LoseAnswers(bool lose) { lose_down_ = lose; }
  // New connections are closed at once.
  void Refuse(bool refuse) { refuse_ = refuse; }
  // Bytes that came from clients so far, lost ones included.
  int64_t bytes_up() const { return bytes_up_; }

 private:
  static sockaddr_in Loopback(int port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }

  void Accept() {
    while (!stopping_) {
      pollfd ready = {listener_, POLLIN, 0};
      if (poll(&ready, 1, 10) <= 0) continue;
      int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) continue;
      int daemon = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in address = Loopback(target_);
      if (refuse_ || connect(daemon, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
        close(client);
        close(daemon);
        continue;
      }
      int on = 1;
      setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      setsockopt(daemon, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      pumps_.emplace_back([this, client, daemon, generation = generation_.load()] { Pump(client, daemon, generation); });
    }
  }

  void Pump(int client, int daemon, int generation) {
    bool open = true;
    while (open && generation_ == generation) {
      pollfd ready[2] = {{client, POLLIN, 0}, {daemon, POLLIN, 0}};
      if (poll(ready, 2, 5) <= 0) continue;
      if (generation_ != generation) break;
      if (ready[0].revents != 0) open = Move(client, daemon, lose_up_, &bytes_up_);
      if (open && ready[1].revents != 0) open = Move(daemon, client, lose_down_, nullptr);
    }
    close(client);
    close(daemon);
  }

  static bool Move(int from, int to, bool lose, std::atomic<int64_t>* count) {
    char bytes[65536];
    ssize_t got = read(from, bytes, sizeof(bytes));
    if (got <= 0) return false;
    if (count != nullptr) *count += got;
    for (ssize_t sent = 0; !lose && sent < got;) {
      ssize_t n = send(to, bytes + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += n;
    }
    return true;
  }

  const int target_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> refuse_{false};
  std::atomic<bool> lose_up_{false};
  std::atomic<bool> lose_down_{false};
  std::atomic<int> generation_{0};
  std::atomic<int64_t> bytes_up_{0};
  std::thread accepting_;
  std::vector<std::thread> pumps_;  // the accepting thread's, until it is joined
};

}  // namespace stm::testing

#endif  // STM_TESTS_CLIENT_CPP_FIXTURE_H_
