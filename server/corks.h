// Corks hold a connection's answers back while a thread sends several of them, so that they leave in one packet and wake
// the client once (TCP_CORK). gRPC writes each unary answer with a sendmsg of its own; at 64 callers that was a fifth of
// the daemon's time.
#ifndef STM_SERVER_CORKS_H_
#define STM_SERVER_CORKS_H_

#include <memory>

#include "absl/container/inlined_vector.h"

namespace stm::server {

// A client's TCP connection: a descriptor of our own beside gRPC's, for its socket options alone.
class Connection {
 public:
  // Takes `descriptor` over.
  explicit Connection(int descriptor) : descriptor_(descriptor) {}
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int descriptor() const { return descriptor_; }
  // Corked: what is sent waits for a full packet, for 200 ms, or for the cork to be drawn. Any thread.
  void Cork(bool corked) const;

 private:
  const int descriptor_;
};

// A stretch of time in which one thread sends answers; at its end no connection is corked by it.
class Corks {
 public:
  Corks();
  ~Corks();
  Corks(const Corks&) = delete;
  Corks& operator=(const Corks&) = delete;

  // This thread is about to send an answer there (null: not by TCP). The first to a connection leaves at once, what
  // follows waits for the end, or for kAnswersHeldMax answers. Nothing where there are no Corks.
  static void Answering(const std::shared_ptr<Connection>& connection);

  static constexpr int kAnswersHeldMax = 32;

 private:
  struct Seen {
    std::shared_ptr<Connection> connection;
    bool corked = false;
  };
  void Draw();

  Corks* const outer_;
  static thread_local Corks* here_;
  absl::InlinedVector<Seen, 8> seen_;
  int answers_ = 0;
};

}  // namespace stm::server

#endif  // STM_SERVER_CORKS_H_
