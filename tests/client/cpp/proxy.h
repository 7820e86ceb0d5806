// Proxy is a TCP relay to a daemon that cuts, loses, delays and duplicates as it is told. Upwards is from the client to
// the daemon. Any thread.
#ifndef STM_TESTS_CLIENT_CPP_PROXY_H_
#define STM_TESTS_CLIENT_CPP_PROXY_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

namespace stm::testing {

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
  // Holds what arrives back, both ways: a round trip takes twice as long more. 0: no longer.
  void Delay(int ms) { delay_ms_ = ms; }
  // What a client sends on a connection made from now on reaches the daemon on a second one too, as a network
  // that repeats itself; those answers nobody reads.
  void Duplicate(bool duplicate) { duplicate_ = duplicate; }
  // Connections that were duplicated, so far.
  int64_t duplicated() const { return duplicated_; }
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
      int daemon = refuse_ ? -1 : Dial();
      if (daemon < 0) {
        close(client);
        continue;
      }
      int on = 1;
      setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      int twin = duplicate_ ? Dial() : -1;
      if (twin >= 0) ++duplicated_;
      pumps_.emplace_back(
          [this, client, daemon, twin, generation = generation_.load()] { Pump(client, daemon, twin, generation); });
    }
  }

  // -1: the daemon does not listen.
  int Dial() const {
    int daemon = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = Loopback(target_);
    if (connect(daemon, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      close(daemon);
      return -1;
    }
    int on = 1;
    setsockopt(daemon, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return daemon;
  }

  void Pump(int client, int daemon, int twin, int generation) {
    bool open = true;
    while (open && generation_ == generation) {
      // poll passes over a descriptor of -1.
      pollfd ready[3] = {{client, POLLIN, 0}, {daemon, POLLIN, 0}, {twin, POLLIN, 0}};
      if (poll(ready, 3, 5) <= 0) continue;
      if (generation_ != generation) break;
      const int delay_ms = delay_ms_;
      if (delay_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
      if (ready[0].revents != 0) open = Move(client, daemon, &twin, lose_up_, &bytes_up_);
      if (open && ready[1].revents != 0) open = Move(daemon, client, nullptr, lose_down_, nullptr);
      if (open && twin >= 0 && ready[2].revents != 0) {
        char unread[65536];
        if (read(twin, unread, sizeof(unread)) <= 0) CloseTwin(&twin);
      }
    }
    close(client);
    close(daemon);
    CloseTwin(&twin);
  }

  static void CloseTwin(int* twin) {
    if (*twin >= 0) close(*twin);
    *twin = -1;
  }

  static bool Send(int to, const char* bytes, ssize_t size) {
    for (ssize_t sent = 0; sent < size;) {
      ssize_t n = send(to, bytes + sent, static_cast<size_t>(size - sent), MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += n;
    }
    return true;
  }

  // False: an end is closed. A twin that is closed is done without.
  static bool Move(int from, int to, int* twin, bool lose, std::atomic<int64_t>* count) {
    char bytes[65536];
    ssize_t got = read(from, bytes, sizeof(bytes));
    if (got <= 0) return false;
    if (count != nullptr) *count += got;
    if (lose) return true;
    if (twin != nullptr && *twin >= 0 && !Send(*twin, bytes, got)) CloseTwin(twin);
    return Send(to, bytes, got);
  }

  const int target_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> refuse_{false};
  std::atomic<bool> lose_up_{false};
  std::atomic<bool> lose_down_{false};
  std::atomic<bool> duplicate_{false};
  std::atomic<int> delay_ms_{0};
  std::atomic<int64_t> duplicated_{0};
  std::atomic<int> generation_{0};
  std::atomic<int64_t> bytes_up_{0};
  std::thread accepting_;
  std::vector<std::thread> pumps_;  // the accepting thread's, until it is joined
};

}  // namespace stm::testing

#endif  // STM_TESTS_CLIENT_CPP_PROXY_H_
