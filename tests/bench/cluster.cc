#include "tests/bench/cluster.h"

#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/bench/raw_zookeeper.h"

namespace stm::bench {
namespace {

zookeeper::EnsembleOptions Options(int servers, const std::string& heap) {
  zookeeper::EnsembleOptions options;
  options.servers = servers;
  options.heap = heap;
  // Its own default again: a log that grows by small steps would sync a file's length too.
  options.settings = {"preAllocSize=65536"};
  return options;
}

}  // namespace

Cluster::Cluster(int servers, const std::string& heap, std::vector<std::string> command, std::string log_path)
    : ensemble_(Options(servers, heap)), command_(std::move(command)), log_path_(std::move(log_path)) {
  if (!ensemble_.AwaitServing()) Fail("ZooKeeper does not serve: " + ensemble_.said());
}

std::string Cluster::versions() const {
  const std::string said = zookeeper::Ask(ensemble_.connect(1), "srvr");
  return absl::StrCat(ensemble_.size(), " of ", said.substr(0, said.find('\n')), "; C client ",
                      RawZooKeeper::client_version());
}

Daemon Cluster::Start() const {
  Daemon daemon;
  daemon.address = absl::StrCat("127.0.0.1:", FreePort());
  std::vector<std::string> command = command_;
  for (const std::string& argument :
       {std::string("--coordinator"), absl::StrCat("zk://", connect(), "/stmd"), std::string("--create"),
        std::string("--listen"), daemon.address, std::string("--http"), std::string("off")}) {
    command.push_back(argument);
  }
  daemon.process = std::make_unique<Child>(command, log_path_);
  return daemon;
}

void Cluster::Stop(Daemon* daemon) const {
  daemon->process->Stop(SIGTERM);
  if (daemon->process->exit_reason() != "exit code 0") {
    Fail("stmd did not stop cleanly: " + daemon->process->exit_reason() + "; see " + log_path_);
  }
  daemon->process = nullptr;
}

}  // namespace stm::bench
