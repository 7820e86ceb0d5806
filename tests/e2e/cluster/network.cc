#include "tests/e2e/cluster/network.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace stm::e2e {
namespace {

constexpr char kBridge[] = "br0";
constexpr int kOutside = 254;  // the test's own address on the bridge
constexpr char kNobodysLink[] = "02:00:00:00:00:ff";

int Number(int host) { return host == 0 ? kOutside : host; }
std::string AddressOf(int host) { return absl::StrCat("10.77.0.", Number(host)); }
std::string LinkOf(int host) {
  return absl::StrCat("02:00:00:00:00:", absl::Hex(Number(host), absl::kZeroPad2));
}

// What it says if it fails; else "".
std::string Try(const std::vector<std::string>& command) {
  Process process(command);
  if (process.AwaitExit() == 0) return "";
  return absl::StrCat(absl::StrJoin(command, " "), ": ", process.said());
}

void Do(const std::vector<std::string>& command) {
  const std::string failed = Try(command);
  if (failed.empty()) return;
  std::fprintf(stderr, "network: %s\n", failed.c_str());
  std::abort();
}

std::string Namespace(const std::string& process) {
  char name[64] = {};
  const std::string path = absl::StrCat("/proc/", process, "/ns/net");
  return readlink(path.c_str(), name, sizeof(name) - 1) > 0 ? name : "";
}

std::string MakeBridge() {
  if (unshare(CLONE_NEWNET) != 0) return absl::StrCat("a network namespace: ", std::strerror(errno));
  const std::vector<std::vector<std::string>> steps = {
      {"ip", "link", "set", "lo", "up"},
      {"ip", "link", "add", kBridge, "address", LinkOf(0), "type", "bridge"},
      {"ip", "addr", "add", absl::StrCat(AddressOf(0), "/24"), "dev", kBridge},
      {"ip", "link", "set", kBridge, "up"},
      // That there can be links to other namespaces.
      {"ip", "link", "add", "tried", "type", "veth", "peer", "name", "tried-too"},
      {"ip", "link", "del", "tried"},
  };
  for (const std::vector<std::string>& step : steps) {
    std::string failed = Try(step);
    if (!failed.empty()) return failed;
  }
  return "";
}

}  // namespace

std::string Network::Enter() {
  static const std::string kWhyNot = MakeBridge();
  return kWhyNot;
}

Network::Network(int hosts) {
  for (int host = 1; host <= hosts; ++host) {
    holders_.push_back(
        std::make_unique<Process>(std::vector<std::string>{"unshare", "-n", "sleep", "infinity"}));
    const std::string holder = absl::StrCat(holders_.back()->pid());
    if (!Eventually([&] {
          const std::string its = Namespace(holder);
          return !its.empty() && its != Namespace("thread-self");
        })) {
      std::fprintf(stderr, "network: no namespace for host %d: %s\n", host, holders_.back()->said().c_str());
      std::abort();
    }
    const std::string link = absl::StrCat("host", host);
    Do({"ip", "link", "add", link, "type", "veth", "peer", "name", kBridge, "address", LinkOf(host), "netns",
        holder});
    Do({"ip", "link", "set", link, "master", kBridge, "up"});
    std::vector<std::string> inside = On(host);
    inside.insert(inside.end(), {"sh", "-c",
                                 absl::StrCat("ip link set lo up && ip link set ", kBridge,
                                              " up && ip addr add ", AddressOf(host), "/24 dev ", kBridge)});
    Do(inside);
  }
  // Known from the start: nobody needs to ask, and what is asked can't get around a cut.
  for (int from = 0; from <= hosts; ++from) {
    for (int to = 0; to <= hosts; ++to) {
      if (from != to) Send(from, to, LinkOf(to));
    }
  }
}

Network::~Network() {
  for (size_t host = 1; host <= holders_.size(); ++host) {
    Try({"ip", "link", "del", absl::StrCat("host", host)});
    Try({"ip", "neigh", "del", AddressOf(static_cast<int>(host)), "dev", kBridge});
  }
}

std::string Network::address(int host) const { return AddressOf(host); }

std::vector<std::string> Network::On(int host) const {
  if (host == 0) return {};
  return {"nsenter",
          absl::StrCat("--net=/proc/", holders_.at(static_cast<size_t>(host) - 1)->pid(), "/ns/net")};
}

void Network::Send(int from, int to, const std::string& link) {
  std::vector<std::string> command = On(from);
  command.insert(command.end(), {"ip", "neigh", "replace", AddressOf(to), "lladdr", link, "dev", kBridge,
                                 "nud", "permanent"});
  Do(command);
}

void Network::Lose(int from, int to) {
  if (lost_.emplace(from, to).second) Send(from, to, kNobodysLink);
}

void Network::Cut(int one, int other) {
  Lose(one, other);
  Lose(other, one);
}

void Network::Heal(int one, int other) {
  if (lost_.erase({one, other}) != 0) Send(one, other, LinkOf(other));
  if (lost_.erase({other, one}) != 0) Send(other, one, LinkOf(one));
}

void Network::HealAll() {
  while (!lost_.empty()) Heal(lost_.begin()->first, lost_.begin()->second);
}

}  // namespace stm::e2e
