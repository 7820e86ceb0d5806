// Server is MongoDB's wire for tests: FerretDB (deploy/mongodb), on a port of 127.0.0.1 that no other test
// has, with its data in a directory of its own. It ends with the Server, and with the thread that made it,
// however that ends. What waits gives up after kPatience. One thread. STMD_TEST_MONGODB_URI in the
// environment names a MongoDB of yours, a replica set say, that tests use in its place: those that do
// something to a server are skipped then. They use databases whose names begin with stmd_test_, and drop
// them.
#ifndef STM_TESTS_MONGODB_SERVER_H_
#define STM_TESTS_MONGODB_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "tests/e2e/faults/process.h"

namespace stm::mongodb {

// What STMD_TEST_MONGODB_URI says. "": nothing.
std::string GivenUri();

// `uri` with another database.
std::string WithDatabase(const std::string& uri, const std::string& database);

// Why this machine can have no server: it was never built. "": it can.
std::string WhyNoServer();

struct ServerOptions {
  std::string data_directory;  // "": one of its own
  // Paths of PEM files: it serves by TLS alone.
  std::string certificate, key;
};

class Server {
 public:
  // Starts it, and waits until it serves; aborts with what it said if it does not.
  explicit Server(const ServerOptions& options = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Without options: "mongodb://127.0.0.1:PORT/database".
  std::string uri(const std::string& database = "stmd") const;

  // On the port and the data it had, until it serves.
  void Start();
  // kill -9; it is gone when this returns.
  void Kill();
  // Stops it where it is, and lets it go on: its connections stay, and nobody answers on them.
  void Freeze();
  void Thaw();

 private:
  e2e::Directory directory_;
  std::vector<std::string> command_;
  int port_ = 0;
  int claim_ = -1;                         // a socket; see ClaimPort
  std::unique_ptr<e2e::Process> process_;  // null: it does not run
};

}  // namespace stm::mongodb

#endif  // STM_TESTS_MONGODB_SERVER_H_
