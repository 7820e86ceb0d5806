#include "server/connections.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "server/config.h"

namespace stm::server {
namespace {

constexpr int kEventsAtOnce = 64;
// With no descriptors left, accepting is tried again this often.
constexpr int kRetryMs = 100;

int Port(const sockaddr_storage& address) {
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

// As gRPC spells a peer: ipv4:127.0.0.1:4711, ipv6:%5B::1%5D:4711.
std::string PeerOf(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN];
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", Port(address));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", Port(address));
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
  return absl::StrCat("ipv6:%5B", text, "%5D:", Port(address));
}

// A socket that listens there, or -1 with errno.
int ListenOn(const sockaddr* address, socklen_t length) {
  const int listening = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listening < 0) return -1;
  const int on = 1, off = 0;
  // Not SO_REUSEPORT: two daemons would share a port, and each client would meet either.
  bool ok = setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0;
  // [::] is every address of both families.
  if (ok && address->sa_family == AF_INET6) ok = setsockopt(listening, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0;
  if (ok && bind(listening, address, length) == 0 && listen(listening, SOMAXCONN) == 0) return listening;
  const int error = errno;
  close(listening);
  errno = error;
  return -1;
}

void Watch(int epoll, int descriptor, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = descriptor;
  const int failed = epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
  assert(failed == 0);
  static_cast<void>(failed);
}

}  // namespace

Connections::Connections() : epoll_(epoll_create1(EPOLL_CLOEXEC)), stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  assert(epoll_ >= 0 && stop_ >= 0);
}

Connections::~Connections() {
  Stop();
  for (const int listening : listening_) close(listening);
  close(stop_);
  close(epoll_);
}

absl::StatusOr<std::string> Connections::Listen(const std::string& address) {
  const std::optional<Address> parsed = ParseAddress(address);
  if (!parsed) {
    return absl::InvalidArgumentError(absl::StrCat("listen: ", address, ": expected host:port, or unix:/path"));
  }
  const std::string& host = parsed->host;
  const int port = parsed->port;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (failed != 0) {
    return absl::UnavailableError(absl::StrCat("listen: ", address, ": no such host: ", gai_strerror(failed)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  int bound = 0;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    sockaddr_storage at{};
    std::memcpy(&at, one->ai_addr, one->ai_addrlen);
    // A free port is chosen once, for all that the host's name stands for.
    if (bound > 0 && port == 0) break;
    const int listening = ListenOn(reinterpret_cast<const sockaddr*>(&at), one->ai_addrlen);
    if (listening < 0) {
      // A machine without IPv6 still resolves localhost to ::1.
      if (errno == EAFNOSUPPORT || (errno == EADDRNOTAVAIL && (bound > 0 || one->ai_next != nullptr))) continue;
      return absl::UnavailableError(absl::StrCat("listen: ", address, ": can't be bound (", std::strerror(errno),
                                                 "): is another daemon there, or is the address not ours?"));
    }
    ++bound;
    listening_.push_back(listening);
    if (port == 0) {
      socklen_t length = sizeof(at);
      getsockname(listening, reinterpret_cast<sockaddr*>(&at), &length);
      return absl::StrCat(parsed->written_host, ":", Port(at));
    }
  }
  if (bound > 0) return address;
  return absl::UnavailableError(absl::StrCat("listen: ", address, ": can't be bound: the address is not ours"));
}

void Connections::Start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor,
                        int unacknowledged_ms) {
  acceptor_ = std::move(acceptor);
  unacknowledged_ms_ = unacknowledged_ms;
  Watch(epoll_, stop_, EPOLLIN);
  for (const int listening : listening_) Watch(epoll_, listening, EPOLLIN);
  thread_ = std::thread([this] { Work(); });
}

void Connections::Stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  const ssize_t wrote = write(stop_, &one, sizeof(one));
  assert(wrote == sizeof(one));
  static_cast<void>(wrote);
  thread_.join();
  // Clients are refused from now on, instead of waiting for an accept that never comes.
  for (const int listening : listening_) close(listening);
  listening_.clear();
}

void Connections::Work() {
  epoll_event events[kEventsAtOnce];
  for (;;) {
    const int count = epoll_wait(epoll_, events, kEventsAtOnce, -1);
    for (int i = 0; i < count; ++i) {
      const int descriptor = events[i].data.fd;
      if (descriptor == stop_) return;
      if (peers_.contains(descriptor)) {
        Ended(descriptor);
      } else {
        Accept(descriptor);
      }
    }
  }
}

void Connections::Accept(int listening) {
  for (;;) {
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    const int accepted = accept4(listening, reinterpret_cast<sockaddr*>(&address), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        spdlog::warn("accept_failed why=\"{}\"", std::strerror(errno));
        poll(nullptr, 0, kRetryMs);
      }
      return;
    }
    const int on = 1;
    setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms_, sizeof(unacknowledged_ms_));
    // Without a descriptor of our own the connection works as well, uncorked.
    const int ours = fcntl(accepted, F_DUPFD_CLOEXEC, 0);
    if (ours >= 0) {
      std::string peer = PeerOf(address);
      // One client may come from one port to two addresses of ours: the newer is the one that is corked.
      if (const std::shared_ptr<Connection> same = Find(peer)) Ended(same->descriptor());
      {
        absl::MutexLock lock(&mutex_);
        by_peer_[peer] = std::make_shared<Connection>(ours);
      }
      peers_[ours] = std::move(peer);
      // gRPC shuts a connection down before it closes it, so that ours hears of every end.
      Watch(epoll_, ours, EPOLLRDHUP);
    }
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.listener_fd = listening;
    connection.fd = accepted;
    acceptor_->HandleNewConnection(&connection);
  }
}

void Connections::Ended(int descriptor) {
  // Before it is closed: gRPC's descriptor of the same connection would keep it in the set, under a number that comes
  // again.
  epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr);
  auto peer = peers_.find(descriptor);
  std::shared_ptr<Connection> gone;  // closed without the lock
  {
    absl::MutexLock lock(&mutex_);
    auto it = by_peer_.find(peer->second);
    gone = std::move(it->second);
    by_peer_.erase(it);
  }
  peers_.erase(peer);
}

std::shared_ptr<Connection> Connections::Find(const std::string& peer) const {
  absl::ReaderMutexLock lock(&mutex_);
  auto it = by_peer_.find(peer);
  return it == by_peer_.end() ? nullptr : it->second;
}

}  // namespace stm::server
