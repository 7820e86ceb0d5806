#include "tests/e2e/cluster/site.h"

#include <signal.h>

#include <cassert>

#include "absl/strings/str_cat.h"

namespace stm::e2e {
namespace {

constexpr int kDaemonPort = 7440;

}  // namespace

Site::Site() : daemons_(kDaemons) {
  zookeeper::EnsembleOptions options;
  options.servers = kServers;
  options.heap = "256m";
  options.settings = {"tickTime=500"};
  if (Network::Enter().empty()) {
    network_ = std::make_unique<Network>(kServers + kDaemons);
    for (int server = 1; server <= kServers; ++server) {
      options.hosts.push_back({network_->address(HostOfServer(server)), network_->On(HostOfServer(server))});
    }
  }
  ensemble_ = std::make_unique<zookeeper::Ensemble>(options);
  for (int daemon = 0; daemon < kDaemons; ++daemon) {
    addresses_.push_back(has_network()
                             ? absl::StrCat(network_->address(HostOfDaemon(daemon)), ":", kDaemonPort)
                             : "127.0.0.1:0");
  }
}

bool Site::Start() {
  if (!ensemble_->AwaitServing()) return false;
  for (int daemon = 0; daemon < kDaemons; ++daemon) StartDaemon(daemon);
  for (int daemon = 0; daemon < kDaemons; ++daemon) {
    addresses_[daemon] = daemons_[daemon].process->AwaitAddress();
    if (addresses_[daemon].empty()) return false;
  }
  return true;
}

std::string Site::store() const { return absl::StrCat("zk://", ensemble_->connect(), "/app"); }

void Site::StartDaemon(int daemon) {
  assert(daemons_[daemon].process == nullptr);
  StmdOptions options;
  options.listen = addresses_[daemon];
  if (has_network()) options.before = network_->On(HostOfDaemon(daemon));
  options.flags = {absl::StrCat("--coordinator=", store()), "--create",
                   absl::StrCat("--zookeeper-session-timeout=", kSessionTimeoutMs, "ms")};
  daemons_[daemon].process = std::make_unique<Stmd>(options);
}

void Site::KillDaemon(int daemon) {
  Daemon& killed = daemons_[daemon];
  killed.process->Signal(SIGKILL);
  killed.process->AwaitExit();
  killed.said_before += killed.process->said();
  killed.process = nullptr;
  killed.frozen = false;
}

void Site::FreezeDaemon(int daemon) {
  daemons_[daemon].process->Signal(SIGSTOP);
  daemons_[daemon].frozen = true;
}

void Site::ThawDaemon(int daemon) {
  daemons_[daemon].process->Signal(SIGCONT);
  daemons_[daemon].frozen = false;
}

bool Site::Running(int daemon) const {
  return daemons_[daemon].process != nullptr && !daemons_[daemon].frozen;
}

std::string Site::EndedByThemselves() {
  std::string text;
  for (int daemon = 0; daemon < kDaemons; ++daemon) {
    const auto& process = daemons_[daemon].process;
    if (process != nullptr && !process->Runs())
      absl::StrAppend(&text, "daemon ", daemon, ":\n", process->said());
  }
  return text;
}

int64_t Site::CountSaid(const std::string& text) {
  int64_t count = 0;
  const std::string all = said();
  for (size_t at = 0; (at = all.find(text, at)) != std::string::npos; at += text.size()) ++count;
  return count;
}

std::string Site::said() {
  std::string text;
  for (int daemon = 0; daemon < kDaemons; ++daemon) {
    absl::StrAppend(&text, "daemon ", daemon, ":\n", daemons_[daemon].said_before);
    if (daemons_[daemon].process != nullptr) text += daemons_[daemon].process->said();
  }
  return text;
}

}  // namespace stm::e2e
