#include "tests/mongodb/scripted_server.h"

#include <arpa/inet.h>
#include <bson/bson.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cassert>
#include <cstdint>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace stm::mongodb {
namespace {

// MongoDB's wire protocol: a header of four int32 (length, request, the request it answers, kind), and what
// the kind says.
constexpr size_t kHeaderBytes = 16;
constexpr size_t kMessageBytesMax = 64 << 20;
constexpr int32_t kReply = 1;
constexpr int32_t kQuery = 2004;
constexpr int32_t kMessage = 2013;

int32_t Int32At(const std::string& bytes, size_t at) {
  int32_t number;
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

void AppendInt32(int32_t number, std::string* out) {
  out->append(reinterpret_cast<const char*>(&number), sizeof number);
}

std::optional<std::string> Receive(int connection, size_t length) {
  std::string bytes(length, '\0');
  for (size_t at = 0; at < length;) {
    const ssize_t got = recv(connection, bytes.data() + at, length - at, 0);
    if (got <= 0) return std::nullopt;
    at += static_cast<size_t>(got);
  }
  return bytes;
}

bool Send(int connection, const std::string& bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t sent = send(connection, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    at += static_cast<size_t>(sent);
  }
  return true;
}

std::string Bson(const std::string& json) {
  bson_error_t error = {};
  bson_t* document = bson_new_from_json(reinterpret_cast<const uint8_t*>(json.data()),
                                        static_cast<ssize_t>(json.size()), &error);
  assert(document != nullptr);
  std::string bytes(reinterpret_cast<const char*>(bson_get_data(document)), document->len);
  bson_destroy(document);
  return bytes;
}

// A command's body: its name, which is its first key, and its text.
std::pair<std::string, std::string> Command(const std::string& bytes, size_t at) {
  bson_t document;
  bson_iter_t first;
  const bool is_one = bytes.size() >= at + 4 &&
                      bson_init_static(&document, reinterpret_cast<const uint8_t*>(bytes.data()) + at,
                                       static_cast<size_t>(Int32At(bytes, at))) &&
                      bson_iter_init(&first, &document) && bson_iter_next(&first);
  assert(is_one);
  size_t length = 0;
  char* text = bson_as_relaxed_extended_json(&document, &length);
  std::pair<std::string, std::string> command(bson_iter_key(&first), std::string(text, length));
  bson_free(text);
  return command;
}

}  // namespace

class ScriptedServer::Rep {
 public:
  Rep(Role role, Answer answer) : role_(role), answer_(std::move(answer)) {
    listening_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    [[maybe_unused]] const bool listens =
        bind(listening_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
        listen(listening_, SOMAXCONN) == 0 &&
        getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &length) == 0;
    assert(listens);
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { Accept(); });
  }

  ~Rep() {
    shutdown(listening_, SHUT_RDWR);
    accepting_.join();
    std::vector<std::thread> serving;
    {
      absl::MutexLock lock(&mutex_);
      for (int connection : connections_) shutdown(connection, SHUT_RDWR);
      serving.swap(serving_);
    }
    for (std::thread& thread : serving) thread.join();
    for (int connection : connections_) close(connection);
    close(listening_);
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  std::vector<std::string> commands() const {
    absl::MutexLock lock(&mutex_);
    return commands_;
  }

 private:
  void Accept() {
    for (;;) {
      const int connection = accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) return;
      absl::MutexLock lock(&mutex_);
      connections_.push_back(connection);
      serving_.emplace_back([this, connection] { Serve(connection); });
    }
  }

  void Serve(int connection) {
    while (true) {
      const std::optional<std::string> header = Receive(connection, kHeaderBytes);
      if (!header) return;
      const size_t length = static_cast<size_t>(Int32At(*header, 0));
      if (length < kHeaderBytes || length > kMessageBytesMax) return;
      const std::optional<std::string> body = Receive(connection, length - kHeaderBytes);
      if (!body) return;
      const int32_t kind = Int32At(*header, 12);
      // A message: flags, then a section of kind 0, the command. A query: flags, a name, two numbers, the
      // command.
      const size_t at = kind == kMessage ? 5 : 4 + std::strlen(body->c_str() + 4) + 1 + 8;
      assert(kind == kMessage || kind == kQuery);
      const auto [name, text] = Command(*body, at);
      const std::string answer = AnswerTo(name, text);
      if (answer.empty()) {
        shutdown(connection, SHUT_RDWR);
        return;
      }
      std::string reply;
      if (kind == kMessage) {
        AppendInt32(0, &reply);
        reply += '\0';
      } else {
        // Flags, a cursor of eight bytes, where it starts, how many documents.
        for (int32_t number : {8, 0, 0, 0, 1}) AppendInt32(number, &reply);
      }
      reply += Bson(answer);
      std::string whole;
      AppendInt32(static_cast<int32_t>(kHeaderBytes + reply.size()), &whole);
      AppendInt32(0, &whole);
      AppendInt32(Int32At(*header, 4), &whole);
      AppendInt32(kind == kMessage ? kMessage : kReply, &whole);
      if (!Send(connection, whole + reply)) return;
    }
  }

  std::string AnswerTo(const std::string& name, const std::string& text) {
    if (name == "hello" || name == "isMaster" || name == "ismaster") return Hello();
    if (name == "endSessions") return R"({"ok": 1})";
    absl::MutexLock lock(&mutex_);
    commands_.push_back(text);
    return answer_(name, text);
  }

  std::string Hello() const {
    const std::string set =
        role_ == Role::kStandalone
            ? ""
            : absl::StrCat(R"("setName": "rs0", "setVersion": 1, "me": ")", address(), R"(", "primary": ")",
                           address(), R"(", "hosts": [")", address(), R"("],)");
    return absl::StrCat(
        R"({"helloOk": true, "ismaster": true, "isWritablePrimary": true, "secondary": false, )", set,
        R"( "maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000,
                            "logicalSessionTimeoutMinutes": 30, "minWireVersion": 0, "maxWireVersion": 17, "ok": 1})");
  }

  const Role role_;
  const Answer answer_;
  int listening_ = -1;
  int port_ = 0;
  std::thread accepting_;
  mutable absl::Mutex mutex_;
  std::vector<int> connections_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> serving_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> commands_ ABSL_GUARDED_BY(mutex_);
};

ScriptedServer::ScriptedServer(Role role, Answer answer)
    : rep_(std::make_unique<Rep>(role, std::move(answer))) {}

ScriptedServer::~ScriptedServer() = default;

std::string ScriptedServer::uri() const { return absl::StrCat("mongodb://", rep_->address(), "/stmd"); }

std::vector<std::string> ScriptedServer::commands() const { return rep_->commands(); }

}  // namespace stm::mongodb
