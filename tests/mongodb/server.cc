#include "tests/mongodb/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cassert>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace stm::mongodb {
namespace {

// Is each thread of the process stopped?
bool AllStand(pid_t pid) {
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/task"), error)) {
    std::ifstream file(task.path() / "stat");
    const std::string stat{std::istreambuf_iterator<char>(file), {}};
    // Behind the command, which is in brackets and may hold any.
    const size_t state = stat.rfind(')');
    if (state != std::string::npos && state + 2 < stat.size() && stat[state + 2] != 'T') return false;
  }
  return true;
}

// Below what the kernel gives to outgoing connections: a server that is down finds its port free when it
// comes back.
constexpr int kPortMin = 12000;
constexpr int kPortMax = 32000;

// A socket bound to the port; -1: it is taken.
int Bind(int type, int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  const int bound = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  if (bound >= 0 && bind(bound, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    close(bound);
    return -1;
  }
  return bound;
}

// A port that nobody listens on. A bound UDP socket of the same number is the claim, which other tests see
// (tests/zookeeper/ensemble.cc does the same) and which ends with this process.
int ClaimPort(int* claim) {
  std::random_device device;
  std::uniform_int_distribution<int> any(kPortMin, kPortMax);
  for (;;) {
    const int port = any(device);
    *claim = Bind(SOCK_DGRAM, port);
    if (*claim < 0) continue;
    const int probe = Bind(SOCK_STREAM, port);
    if (probe >= 0) {
      close(probe);
      return port;
    }
    close(*claim);
  }
}

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "mongodb: %s\n", message.c_str());
  std::abort();
}

}  // namespace

std::string GivenUri() {
  const char* uri = getenv("STMD_TEST_MONGODB_URI");
  return uri == nullptr ? "" : uri;
}

std::string WithDatabase(const std::string& uri, const std::string& database) {
  const size_t hosts = uri.find("://") + 3;
  const size_t path = uri.find_first_of("/?", hosts);
  const size_t options = uri.find('?', hosts);
  return absl::StrCat(uri.substr(0, path), "/", database,
                      options == std::string::npos ? "" : uri.substr(options));
}

std::string WhyNoServer() {
  e2e::Process prepared({e2e::Runfile("deploy/mongodb"), "prepare"});
  return prepared.AwaitExit() == 0 ? "" : prepared.said();
}

Server::Server(const ServerOptions& options) {
  port_ = ClaimPort(&claim_);
  std::vector<std::string> prepare = {
      e2e::Runfile("deploy/mongodb"), "prepare", absl::StrCat("127.0.0.1:", port_),
      options.data_directory.empty() ? directory_ / "data" : options.data_directory};
  if (!options.certificate.empty()) {
    prepare.push_back(options.certificate);
    prepare.push_back(options.key);
  }
  e2e::Process prepared(prepare);
  if (prepared.AwaitExit() != 0) Fail(prepared.said());
  command_ = absl::StrSplit(prepared.said(), '\n', absl::SkipEmpty());
  Start();
}

Server::~Server() {
  process_ = nullptr;
  close(claim_);
}

std::string Server::uri(const std::string& database) const {
  return absl::StrCat("mongodb://127.0.0.1:", port_, "/", database);
}

void Server::Start() {
  assert(process_ == nullptr);
  process_ = std::make_unique<e2e::Process>(command_);
  if (!process_->AwaitSaid("serving")) Fail(absl::StrCat("it does not serve: ", process_->said()));
}

void Server::Kill() {
  assert(process_ != nullptr);
  process_->Signal(SIGKILL);
  if (!process_->AwaitExit()) Fail("it outlives kill -9");
  process_ = nullptr;
}

// A signal is delivered some time later: on a busy machine a thread may answer some calls more.
void Server::Freeze() {
  process_->Signal(SIGSTOP);
  const absl::Time until = absl::Now() + absl::Seconds(30);
  while (!AllStand(process_->pid())) {
    if (absl::Now() > until) Fail("it does not stand still");
    absl::SleepFor(absl::Milliseconds(1));
  }
}

void Server::Thaw() { process_->Signal(SIGCONT); }

}  // namespace stm::mongodb
