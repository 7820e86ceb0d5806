#include "server/corks.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace stm::server {
namespace {

// Answers to more connections than this are too spread out for corks to help.
constexpr size_t kConnectionsMax = 32;

}  // namespace

Connection::~Connection() { close(descriptor_); }

void Connection::Cork(bool corked) const {
  const int value = corked ? 1 : 0;
  // Fails on a connection that has ended: nothing is held back there.
  static_cast<void>(setsockopt(descriptor_, IPPROTO_TCP, TCP_CORK, &value, sizeof(value)));
}

thread_local Corks* Corks::here_ = nullptr;

Corks::Corks() : outer_(here_) { here_ = this; }

Corks::~Corks() {
  Draw();
  here_ = outer_;
}

void Corks::Draw() {
  for (const Seen& seen : seen_) {
    if (seen.corked) seen.connection->Cork(false);
  }
  seen_.clear();
  answers_ = 0;
}

void Corks::Answering(const std::shared_ptr<Connection>& connection) {
  Corks* const corks = here_;
  if (corks == nullptr || connection == nullptr) return;
  if (++corks->answers_ > kAnswersHeldMax) corks->Draw();
  for (Seen& seen : corks->seen_) {
    if (seen.connection != connection) continue;
    if (!seen.corked) connection->Cork(true);
    seen.corked = true;
    return;
  }
  if (corks->seen_.size() < kConnectionsMax) corks->seen_.push_back({connection, false});
}

}  // namespace stm::server
