#include "tests/zookeeper/ensemble.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace stm::zookeeper {
namespace {

constexpr int kPortsPerServer = 3;  // for clients, for followers, for elections
// Below what the kernel gives to outgoing connections: a server that is down finds its ports free when it
// comes back.
constexpr int kPortMin = 12000;
constexpr int kPortMax = 32000;
constexpr timeval kAnswerTimeMax = {1, 0};

constexpr char kLoopback[] = "127.0.0.1";

sockaddr_in At(const std::string& host, int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// A socket bound to the port; -1: it is taken.
int Bind(int type, int port) {
  const int bound = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  const sockaddr_in address = At(kLoopback, port);
  if (bound >= 0 && bind(bound, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    close(bound);
    return -1;
  }
  return bound;
}

// `count` ports in a row that nobody listens on. A bound UDP socket of the same number is the claim, which
// other tests see and which ends with this process.
int ClaimPorts(int count, std::vector<int>* claims) {
  std::random_device device;
  std::uniform_int_distribution<int> any(kPortMin, kPortMax - count);
  for (;;) {
    const int first = any(device);
    for (int port = first; port < first + count; ++port) {
      const int claim = Bind(SOCK_DGRAM, port);
      if (claim < 0) break;
      claims->push_back(claim);
      const int probe = Bind(SOCK_STREAM, port);
      if (probe < 0) break;
      close(probe);
      if (port == first + count - 1) return first;
    }
    for (int claim : *claims) close(claim);
    claims->clear();
  }
}

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "ensemble: %s\n", message.c_str());
  std::abort();
}

void Copy(const std::string& from, const std::string& to) {
  std::filesystem::remove_all(to);
  std::filesystem::create_directories(std::filesystem::path(to).parent_path());
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

}  // namespace

std::string Ask(const std::string& address, const std::string& word) {
  const size_t colon = address.rfind(':');
  const sockaddr_in server = At(address.substr(0, colon), std::stoi(address.substr(colon + 1)));
  std::string answer;
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &kAnswerTimeMax, sizeof(kAnswerTimeMax));
  if (connect(connection, reinterpret_cast<const sockaddr*>(&server), sizeof(server)) == 0 &&
      send(connection, word.data(), word.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(word.size())) {
    char bytes[4096];
    for (ssize_t got; (got = recv(connection, bytes, sizeof(bytes), 0)) > 0;) answer.append(bytes, got);
  }
  close(connection);
  return answer;
}

std::string WhyNoServers() {
  const e2e::Directory directory;
  e2e::Process prepared({e2e::Runfile("deploy/zookeeper"), "prepare", "64m", directory.path()});
  return prepared.AwaitExit() == 0 ? "" : prepared.said();
}

Ensemble::Ensemble(const EnsembleOptions& options) {
  assert(options.servers == 1 || options.servers == 3);
  assert(options.hosts.empty() || static_cast<int>(options.hosts.size()) == options.servers);
  const int first = ClaimPorts(options.servers * kPortsPerServer, &claims_);
  std::vector<std::string> prepare = {e2e::Runfile("deploy/zookeeper"), "prepare", options.heap,
                                      directory_.path()};
  for (int i = 0; i < options.servers; ++i) {
    const int port = first + i * kPortsPerServer;
    prepare.push_back(absl::StrCat(port, ":", port + 1, ":", port + 2));
  }
  e2e::Process prepared(prepare);
  if (prepared.AwaitExit() != 0) Fail(prepared.said());
  const std::vector<std::string> java = absl::StrSplit(prepared.said(), '\n', absl::SkipEmpty());

  servers_.resize(options.servers);
  for (int server = 1; server <= size(); ++server) {
    const std::string configuration = absl::StrCat(DirectoryOf(server), "/zoo.cfg");
    std::ofstream file(configuration, std::ios::app);
    // Copies of the data are small then.
    file << "preAllocSize=256\n";
    // A client may ask for a session that ends while a test looks on, or for one that never does.
    file << "minSessionTimeout=200\nmaxSessionTimeout=600000\n";
    at(server).client_port = first + (server - 1) * kPortsPerServer;
    const Host host = options.hosts.empty() ? Host() : options.hosts[server - 1];
    at(server).address = host.address;
    if (!options.hosts.empty()) {
      file << "clientPortAddress=" << host.address << "\n";
      for (int i = 0; i < options.servers && options.servers > 1; ++i) {
        const int port = first + i * kPortsPerServer;
        file << "server." << i + 1 << "=" << options.hosts[i].address << ":" << port + 1 << ":" << port + 2
             << "\n";
      }
    }
    for (const std::string& setting : options.settings) file << setting << "\n";
    at(server).command = host.before;
    at(server).command.insert(at(server).command.end(), java.begin(), java.end());
    at(server).command.push_back(configuration);
  }
  StartAll();
}

Ensemble::~Ensemble() {
  KillAll();
  for (int claim : claims_) close(claim);
}

Ensemble::Server& Ensemble::at(int server) {
  assert(server >= 1 && server <= size());
  return servers_[server - 1];
}

const Ensemble::Server& Ensemble::at(int server) const { return const_cast<Ensemble*>(this)->at(server); }

std::string Ensemble::DirectoryOf(int server) const { return absl::StrCat(directory_.path(), "/", server); }

std::string Ensemble::connect() const {
  std::vector<std::string> addresses;
  for (int server = 1; server <= size(); ++server) addresses.push_back(connect(server));
  return absl::StrJoin(addresses, ",");
}

std::string Ensemble::connect(int server) const {
  return absl::StrCat(at(server).address, ":", at(server).client_port);
}

std::string Ensemble::ModeOf(int server) const {
  static const std::string kMode = "Mode: ";
  const std::string answer = Ask(connect(server), "srvr");
  const size_t at = answer.find(kMode);
  if (at == std::string::npos) return "";
  const size_t from = at + kMode.size();
  return answer.substr(from, answer.find('\n', from) - from);
}

bool Ensemble::AwaitServing() {
  return e2e::Eventually([&] {
    for (int server = 1; server <= size(); ++server) {
      if (Running(server) && ModeOf(server).empty()) return false;
    }
    return true;
  });
}

std::optional<int> Ensemble::AwaitLeader() {
  std::vector<int> leaders;
  const bool one = e2e::Eventually([&] {
    leaders.clear();
    for (int server = 1; server <= size(); ++server) {
      if (!Running(server)) continue;
      const std::string mode = ModeOf(server);
      if (mode == "leader" || mode == "standalone") leaders.push_back(server);
    }
    return leaders.size() == 1;
  });
  if (!one) return std::nullopt;
  return leaders.front();
}

void Ensemble::Start(int server) {
  assert(at(server).process == nullptr);
  at(server).process = std::make_unique<e2e::Process>(at(server).command);
}

void Ensemble::Kill(int server) {
  assert(at(server).process != nullptr);
  at(server).process->Signal(SIGKILL);
  if (!at(server).process->AwaitExit()) Fail(absl::StrCat("server ", server, " outlives kill -9"));
  at(server).process = nullptr;
  at(server).frozen = false;
}

void Ensemble::Freeze(int server) {
  assert(Running(server));
  at(server).process->Signal(SIGSTOP);
  at(server).frozen = true;
}

void Ensemble::Thaw(int server) {
  assert(at(server).frozen);
  at(server).process->Signal(SIGCONT);
  at(server).frozen = false;
}

bool Ensemble::Running(int server) const { return at(server).process != nullptr && !at(server).frozen; }

void Ensemble::StartAll() {
  for (int server = 1; server <= size(); ++server) {
    if (at(server).process == nullptr) Start(server);
  }
}

void Ensemble::KillAll() {
  // Together: none sees another go and begins an election.
  for (Server& server : servers_) {
    if (server.process != nullptr) server.process->Signal(SIGKILL);
  }
  for (int server = 1; server <= size(); ++server) {
    if (at(server).process != nullptr) Kill(server);
  }
}

void Ensemble::Wipe() {
  for (int server = 1; server <= size(); ++server) {
    assert(at(server).process == nullptr);
    // Beside it is myid, which is configuration.
    std::filesystem::remove_all(DirectoryOf(server) + "/data/version-2");
  }
}

void Ensemble::Save(const std::string& name) {
  for (int server = 1; server <= size(); ++server) {
    assert(at(server).process == nullptr);
    Copy(DirectoryOf(server) + "/data", absl::StrCat(directory_.path(), "/saved-", name, "/", server));
  }
}

void Ensemble::Restore(const std::string& name) {
  for (int server = 1; server <= size(); ++server) {
    assert(at(server).process == nullptr);
    Copy(absl::StrCat(directory_.path(), "/saved-", name, "/", server), DirectoryOf(server) + "/data");
  }
}

std::string Ensemble::said() const {
  std::string text;
  for (int server = 1; server <= size(); ++server) {
    if (at(server).process == nullptr) continue;
    absl::StrAppend(&text, "server ", server, ":\n", at(server).process->said());
  }
  return text;
}

}  // namespace stm::zookeeper
