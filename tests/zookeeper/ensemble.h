// Ensemble is ZooKeeper itself, one server or three, on ports of 127.0.0.1 that no other test has, with its
// data in a directory of its own. Servers count from 1, as in their configuration. All of it ends with the
// Ensemble, and with the thread that made it, however that ends. What waits gives up after kPatience. One
// thread.
#ifndef STM_TESTS_ZOOKEEPER_ENSEMBLE_H_
#define STM_TESTS_ZOOKEEPER_ENSEMBLE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/e2e/faults/process.h"

namespace stm::zookeeper {

// What the server at host:port, by its number, answers to a four-letter word, "srvr" or "ruok". "": nothing.
std::string Ask(const std::string& address, const std::string& word);

// Why this machine can have no servers: no Java, or no jars. "": it can.
std::string WhyNoServers();

// Where a server runs.
struct Host {
  std::string address = "127.0.0.1";
  std::vector<std::string> before;  // its command, e.g. nsenter and its arguments
};

struct EnsembleOptions {
  int servers = 1;          // or 3
  std::vector<Host> hosts;  // one a server; empty: all on loopback
  std::string heap = "64m";
  // More lines of zoo.cfg, e.g. "tickTime=500"; they count over those that are there.
  std::vector<std::string> settings;
};

class Ensemble {
 public:
  // Starts all servers. AwaitServing tells when they are of use.
  explicit Ensemble(const EnsembleOptions& options);
  ~Ensemble();
  Ensemble(const Ensemble&) = delete;
  Ensemble& operator=(const Ensemble&) = delete;

  int size() const { return static_cast<int>(servers_.size()); }
  // What a client connects to: all servers, or one.
  std::string connect() const;
  std::string connect(int server) const;

  // True as soon as every server that runs serves clients. False: it gave up; see said().
  [[nodiscard]] bool AwaitServing();
  // The server that leads, once exactly one of those that run says so; alone that is the one. nullopt: it
  // gave up.
  [[nodiscard]] std::optional<int> AwaitLeader();

  // On the ports and the data it had.
  void Start(int server);
  // kill -9; it is gone when this returns.
  void Kill(int server);
  // Stops it where it is, and lets it go on: its connections stay, and nobody answers on them.
  void Freeze(int server);
  void Thaw(int server);
  bool Running(int server) const;  // neither killed nor frozen
  void StartAll();
  void KillAll();

  // The data of all servers, none of which runs: gone, put aside under a name, and put back.
  void Wipe();
  void Save(const std::string& name);
  void Restore(const std::string& name);

  // What all of them wrote on their standard error since they were last started.
  std::string said() const;

 private:
  struct Server {
    std::string address;
    int client_port;
    std::vector<std::string> command;
    std::unique_ptr<e2e::Process> process;  // null: it does not run
    bool frozen = false;
  };
  Server& at(int server);
  const Server& at(int server) const;
  std::string DirectoryOf(int server) const;
  // leader, follower or standalone; "" if it doesn't serve.
  std::string ModeOf(int server) const;

  e2e::Directory directory_;
  std::vector<Server> servers_;
  std::vector<int> claims_;  // sockets; see ClaimPorts
};

}  // namespace stm::zookeeper

#endif  // STM_TESTS_ZOOKEEPER_ENSEMBLE_H_
