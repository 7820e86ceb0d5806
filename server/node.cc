#include "server/node.h"

#include "absl/strings/str_cat.h"
#include "backends/zookeeper/coordinator.h"

namespace stm::server {

engine::Status Node::GetStatus() const {
  engine::Status status = engine->GetStatus();
  const std::string waits_for = cluster == nullptr || status.ready ? "" : cluster->waits_for();
  if (!waits_for.empty()) status.not_ready_because = absl::StrCat("waiting for ", waits_for);
  return status;
}

}  // namespace stm::server
