#include "server/node.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/containers/registry.h"
#include "backends/containers/threaded.h"
#include "backends/zookeeper/coordinator.h"
#include "engine/settler.h"

namespace stm::server {

engine::Status Node::GetStatus() const {
  engine::Status status = engine->GetStatus();
  const std::string waits_for = cluster == nullptr || status.ready ? "" : cluster->waits_for();
  if (!waits_for.empty()) status.not_ready_because = absl::StrCat("waiting for ", waits_for);
  return status;
}

std::vector<ContainerState> Node::Containers() const {
  std::map<std::string, ContainerState> found;
  for (containers::ContainerStats& stats : containers->Stats()) {
    std::string name = stats.name;
    found[std::move(name)].stats = std::move(stats);
  }
  for (const containers::ContainerSetting& setting : config.containers) {
    found[setting.name].uri = containers::WithoutPassword(setting.uri);
  }
  for (const auto& [name, transactions] : engine->GetStatus().staging_in) found[name].transactions = transactions;
  for (const auto& [name, left] : settler->left()) found[name].left = left;
  std::vector<ContainerState> states;
  for (auto& [name, state] : found) {
    if (state.stats.name.empty()) {
      state.stats.name = name;
      state.stats.healthy = false;
      state.stats.last_error =
          absl::StrCat(name, name.compare(0, 8, "offered:") == 0
                                 ? " is offered by no client of this daemon"
                                 : " is not in this daemon's configuration: what is to be done there is left to others");
    }
    states.push_back(std::move(state));
  }
  return states;
}

}  // namespace stm::server
